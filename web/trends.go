package web

import (
	"cmp"
	"context"
	"math/big"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"tombolo/access"
	"tombolo/dataset"
	"tombolo/fhir"
	"tombolo/fhir/ucum"
	"tombolo/gather"
)

// A trendsPage is what was measured more than once, drawn over time, each with the table of what is drawn. It is made of the record as this
// reader sees it, so that nothing is drawn that the record does not show.
type trendsPage struct {
	Me      bool // the person's own; Banner and Strip are not shown then
	Banner  banner
	Strip   strip
	Name    string
	Sources string // who has answered, to the person
	Path    string
	View    string
	Charts  []chart
	Left    string // what is not drawn
}

// trends shows results over time: to those who open records, and to the person.
func (s *Site) trends(w http.ResponseWriter, r *http.Request, session *access.Session) error {
	v, sn, err := s.opened(w, r, session, true)
	if v == nil {
		return err
	}
	p := newTrends(sn.Record, sayDate)
	p.Banner, p.Strip, p.Path, p.View = newBanner(sn.Record, s.opts.Now()), newStrip(sn.Record), "/record/"+v.person, v.id
	l := s.newLayout(r, session, "Results over time of "+p.Banner.Name, p)
	l.Wide = true
	return s.show(w, http.StatusOK, "trends", l)
}

func (s *Site) myTrends(w http.ResponseWriter, r *http.Request, session *access.Session) error {
	person, err := s.myself(r.Context(), session)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(r.Context(), wholeWait)
	defer cancel()
	sn, err := s.viewing(r, session, person).whole(ctx)
	if err != nil {
		return err
	}
	p := newTrends(sn.Record, plainDate)
	p.Me, p.Sources, p.Path = true, plainSources(sn.Record), "/me"
	return s.show(w, http.StatusOK, "trends", s.newLayout(r, session, "My results over time", p))
}

// A reading is one measurement: a row of the table, and a dot for each number in it.
type reading struct {
	At        time.Time // zero if the date says no day
	When      string
	Value     string // as the source wrote it
	Range     string
	Mark      mark
	Note      string
	From      string
	numbers   []number
	low, high *float64 // of the reference range, in the unit of the value
}

// A number is a value with what it is of: "" for the measurement itself, "Systolic" for a component.
type number struct {
	of         string
	value      float64
	comparator string // "<", "<=", ">", ">="
}

// A measure is what can be drawn on one axis: the same thing, measured in the same unit.
type measure struct {
	title    string
	code     string // UCUM, or the unit's word
	unit     string // in words
	readings []reading
}

func newTrends(rec *gather.Record, say func(string) string) trendsPage {
	c := &collector{rec: rec, say: say, byKey: map[string]*[]*measure{}, seen: map[fhir.Ref]bool{}}
	for i := range rec.Sections {
		for j := range rec.Sections[i].Entries {
			e := &rec.Sections[i].Entries[j]
			c.entry(e, e, "")
		}
	}
	var p trendsPage
	for _, m := range apart(c.measures) {
		slices.SortStableFunc(m.readings, func(a, b reading) int { return b.At.Compare(a.At) })
		dated := 0
		for _, r := range m.readings {
			if !r.At.IsZero() {
				dated++
			}
		}
		if dated < 2 {
			c.left++
			continue
		}
		p.Charts = append(p.Charts, draw(m, say))
	}
	slices.SortStableFunc(p.Charts, func(a, b chart) int {
		return cmp.Or(strings.Compare(strings.ToLower(a.Title), strings.ToLower(b.Title)), strings.Compare(a.Unit, b.Unit))
	})
	for i := range p.Charts {
		p.Charts[i].ID = "c" + strconv.Itoa(i+1)
	}
	if c.left > 0 {
		p.Left = sayCount(c.left, "other measurement is", "other measurements are") + " not drawn, because there are not two with their dates in the same unit. The record shows everything."
	}
	return p
}

// mostLines is how many lines can be told apart by their dots and dashes.
const mostLines = 3

// apart gives every line a drawing of its own where one would have more than can be told apart.
func apart(ms []*measure) (out []*measure) {
	for _, m := range ms {
		var names []string
		for _, r := range m.readings {
			for _, n := range r.numbers {
				if !slices.Contains(names, n.of) {
					names = append(names, n.of)
				}
			}
		}
		if len(names) <= mostLines {
			out = append(out, m)
			continue
		}
		for _, name := range names {
			one := &measure{title: join(": ", m.title, name), code: m.code, unit: m.unit}
			for _, r := range m.readings {
				if i := slices.IndexFunc(r.numbers, func(n number) bool { return n.of == name }); i >= 0 {
					r.numbers = r.numbers[i : i+1]
					one.readings = append(one.readings, r)
				}
			}
			out = append(out, one)
		}
	}
	return out
}

// A collector finds what can be drawn.
type collector struct {
	rec      *gather.Record
	say      func(string) string
	measures []*measure
	byKey    map[string]*[]*measure // by a code, or words where there is none: one measure for each unit
	seen     map[fhir.Ref]bool
	left     int
}

// entry takes an entry's leading version and what belongs under it. top says who told of it; when is the date of what it stands under.
func (c *collector) entry(top, e *gather.Entry, when string) {
	when = cmp.Or(dataset.When(e.Lead), when)
	c.observation(top, e.Lead, when)
	for v := range e.Lead.Value().All("contained") {
		if o, err := fhir.FromValue(v); err == nil {
			c.observation(top, o, when)
		}
	}
	for i := range e.Related {
		if e.Related[i].Lead != nil {
			c.entry(top, &e.Related[i], when)
		}
	}
}

// Statuses of an Observation that is not one, or is not yet. FHIR R4 valueset-observation-status.html
var notObserved = []string{"registered", "cancelled", "entered-in-error"}

func (c *collector) observation(top *gather.Entry, r *fhir.Resource, when string) {
	if r.Type() != "Observation" || toBeReadThere(r) || slices.Contains(notObserved, r.Text("status")) {
		return
	}
	if r.ID() != "" {
		if c.seen[r.Ref()] {
			return
		}
		c.seen[r.Ref()] = true
	}
	th := thing{r, c.rec.Supporting}
	if r.Get("valueQuantity.value").Exists() {
		c.put(top, th, when, observed(th, r.Value()), []fhir.Value{r.Value()}, false)
	}
	byUnit := map[string][]fhir.Value{} // components of one unit go together, as blood pressures do
	var units []string
	for part := range r.Value().All("component") {
		if q := part.Get("valueQuantity"); q.Get("value").Exists() {
			u := cmp.Or(q.Text("code"), q.Text("unit"))
			if byUnit[u] == nil {
				units = append(units, u)
			}
			byUnit[u] = append(byUnit[u], part)
		}
	}
	for _, u := range units {
		var words []string
		for _, part := range byUnit[u] {
			words = append(words, componentName(th, part)+" "+observed(th, part))
		}
		said := strings.Join(words, "; ")
		if p := byUnit[u]; len(p) == 2 && componentName(th, p[0]) == systolic && componentName(th, p[1]) == diastolic && !p[0].Get("valueQuantity.comparator").Exists() {
			said = p[0].Text("valueQuantity.value") + "/" + observed(th, p[1]) // as it is spoken
		}
		c.put(top, th, when, said, byUnit[u], true)
	}
}

const systolic, diastolic = "Systolic", "Diastolic"

// componentName is what a component is called. The two of a blood pressure have one name each, however a source words or codes them.
func componentName(r thing, part fhir.Value) string {
	words := saying(r, part.Get("code"))
	for coding := range part.All("code.coding.code") {
		switch coding.Str() {
		case "271649006", "8480-6": // SNOMED CT, LOINC
			return systolic
		case "271650006", "8462-4":
			return diastolic
		}
	}
	switch strings.ToLower(words) {
	case "systolic", "systolic blood pressure":
		return systolic
	case "diastolic", "diastolic blood pressure":
		return diastolic
	}
	return words
}

// put files the numbers of an Observation, all of one unit, under what they measure: its own value, or values of components.
func (c *collector) put(top *gather.Entry, r thing, when, said string, parts []fhir.Value, components bool) {
	row := readResult(r)
	out := reading{When: cmp.Or(c.say(when), "no date"), Value: said, Range: row.Range, Mark: row.Mark, Note: row.Note, From: sourcesOf(top)}
	if len(when) >= len(time.DateOnly) {
		out.At = startOf(when)
	}
	if top.Conflict != "" {
		out.Note = join("; ", out.Note, "the sources disagree: see the record")
	}
	q := parts[0].Get("valueQuantity")
	for _, part := range parts {
		n := number{comparator: part.Text("valueQuantity.comparator")}
		if components {
			n.of = componentName(r, part)
		}
		var err error
		if n.value, err = strconv.ParseFloat(part.Text("valueQuantity.value"), 64); err != nil {
			return
		}
		out.numbers = append(out.numbers, n)
	}
	if rr := r.Get("referenceRange"); !components && inUnitOf(rr, q) {
		out.low, out.high = numberOf(rr.Text("low.value")), numberOf(rr.Text("high.value"))
	}
	m := c.measure(r, q)
	m.readings = append(m.readings, out)
}

func sourcesOf(e *gather.Entry) string {
	var names []string
	for _, m := range e.Members {
		if m.Name != "" && !slices.Contains(names, m.Name) {
			names = append(names, m.Name)
		}
	}
	return cmp.Or(sayList(names), "source not given")
}

func numberOf(s string) *float64 {
	f, err := strconv.ParseFloat(s, 64)
	if err != nil {
		return nil
	}
	return &f
}

// inUnitOf reports whether a reference range is in the unit of a value: it says so, or says nothing.
func inUnitOf(rr, q fhir.Value) bool {
	for _, side := range [...]string{"low", "high"} {
		if u := cmp.Or(rr.Text(side+".code"), rr.Text(side+".unit")); u != "" && !sameUnit(u, cmp.Or(q.Text("code"), q.Text("unit"))) && rr.Text(side+".unit") != q.Text("unit") {
			return false
		}
	}
	return true
}

// measure finds the measure that an Observation is of, by any of its codes; by its words where a code says nothing. What was measured elsewhere on
// the body or in another way is something else, and so is what was measured in another unit: no value is ever converted here.
func (c *collector) measure(r thing, q fhir.Value) *measure {
	elsewhere := join(", ", saying(r, r.Get("bodySite")), saying(r, r.Get("method")))
	var keys []string
	for coding := range r.Value().All("code.coding") {
		if code := coding.Text("code"); code != "" && dataset.Reading(r.Resource) != dataset.TransferDegraded {
			keys = append(keys, coding.Text("system")+"|"+code+"|"+elsewhere)
		}
	}
	words := saying(r, r.Get("code"))
	if keys == nil {
		keys = []string{strings.ToLower(words) + "||" + elsewhere}
	}
	var of *[]*measure
	for _, k := range keys {
		if of = c.byKey[k]; of != nil {
			break
		}
	}
	if of == nil {
		of = new([]*measure)
	}
	for _, k := range keys {
		if c.byKey[k] == nil {
			c.byKey[k] = of
		}
	}
	code := cmp.Or(q.Text("code"), q.Text("unit"))
	for _, m := range *of {
		if sameUnit(m.code, code) || m.unit == sayUnit(q) {
			return m
		}
	}
	m := &measure{title: join(", ", words, elsewhere), code: code, unit: sayUnit(q)}
	*of = append(*of, m)
	c.measures = append(c.measures, m)
	return m
}

// sameUnit reports whether two units are one, written with other capitals: mmol/L and mmol/l, and not mg and Mg. Units that come to the same by
// their dimensions (mmol/L and meq/L) are not: what they count may differ.
func sameUnit(a, b string) bool {
	if a == b || !strings.EqualFold(a, b) {
		return a == b
	}
	one, err := ucum.Convert(big.NewRat(1, 1), a, b)
	return err == nil && one.Cmp(big.NewRat(1, 1)) == 0
}
