package web

import (
	"slices"
	"strings"
	"time"

	"tombolo/dataset"
	"tombolo/fhir"
	"tombolo/gather"
)

// A teller makes lines of entries.
type teller struct {
	rec   *gather.Record
	clear bool                        // absence may be spoken of
	all   map[fhir.Ref]*fhir.Resource // whatever the record shows, where a heading lists what stands under others
}

func (t teller) line(h dataset.Heading, e *gather.Entry) line {
	l := line{ID: "e-" + e.Lead.ID(), Heading: h, Conflict: e.Conflict, Told: t.tell(e.Lead)}
	l.When, l.At = sayDate(l.Told.When), startOf(l.Told.When)
	for _, m := range e.Members {
		if !slices.Contains(l.Sources, m.Name) {
			l.Sources = append(l.Sources, m.Name)
		}
		if !slices.Contains(l.Source, m.Source) {
			l.Source = append(l.Source, m.Source)
		}
		v := version{Source: m.Name, Received: sayTime(m.Received), Told: t.tell(m.Resource)}
		v.When = sayDate(v.Told.When)
		if _, id, ok := strings.Cut(m.Resource.Text("meta.source"), "#"); ok && id != "withheld" {
			v.Original = id
		}
		l.Versions = append(l.Versions, v)
	}
	if h == dataset.Results && e.Lead.Type() == "ServiceRequest" {
		l.Told.Marks = append(l.Told.Marks, mark{"Request", toneMuted}) // the order stands beside its result, and is not one
	}
	if lane := t.earlier(e); lane != nil {
		l.Told.Marks = append(l.Told.Marks, mark{"As answered " + sayTime(lane.AsOf), toneWarn})
	}
	if m, staged := stageMark(e); staged {
		l.Told.Marks = append(l.Told.Marks, m)
	}
	l.supplement()
	if len(l.Sources) == 0 {
		l.Sources = []string{"source not given"}
	}
	l.Negative = negation(e.Lead) != ""
	if e.Lead.Type() == "DocumentReference" && dataset.Reading(e.Lead) != dataset.Placeholder && !toBeReadThere(e.Lead) {
		l.Document = e.Lead.ID()
		for _, p := range l.Told.More {
			if p.Label == "Form" || p.Label == "Size" {
				l.Form = join(", ", l.Form, p.Text)
			}
		}
	}
	var laid map[fhir.Ref]bool
	if e.Lead.Type() == "Encounter" && t.all != nil {
		l.Topics, laid = t.topics(e)
	}
	l.Rows = t.rowsOf(e)
	for i := range e.Related {
		switch lead := e.Related[i].Lead; {
		case structural(lead), laid[lead.Ref()], len(l.Rows) > 0 && lead.Type() == "Observation":
			continue
		}
		r := t.line(h, &e.Related[i])
		r.brief = brief(&l, &r)
		l.Related = append(l.Related, r)
	}
	l.words = wordsOf(&l)
	return l
}

// earlier is the lane of an entry of which all that is shown was answered earlier, by a source that does not answer now; nil for any other.
func (t teller) earlier(e *gather.Entry) (found *gather.Lane) {
	for _, m := range e.Members {
		i := slices.IndexFunc(t.rec.Lanes, func(l gather.Lane) bool { return l.Source == m.Source })
		if i < 0 || t.rec.Lanes[i].State != gather.Earlier {
			return nil
		}
		found = &t.rec.Lanes[i]
	}
	return found
}

// supplement adds to the details what the shown version's own source says in another resource of the same entry: the statement beside an
// authorisation.
func (l *line) supplement() {
	for _, v := range l.Versions[min(1, len(l.Versions)):] {
		if v.Source != l.Versions[0].Source {
			continue
		}
		for _, p := range v.Told.More {
			if !slices.ContainsFunc(l.Told.More, func(has pair) bool { return has.Label == p.Label }) {
				l.Told.More = append(l.Told.More, p)
			}
		}
	}
}

// structural reports whether a List only says how a consultation was laid out: what it lists is shown by itself. GP Connect
// 1.6 "Consultations": list of topics, of categories
func structural(r *fhir.Resource) bool {
	if r.Type() != "List" || r.Get("note").Exists() {
		return false
	}
	switch r.Text("code.coding.code") {
	case listConsultation, listTopic, listCategory:
		return true
	}
	return false
}

// end marks what is over by its date, whatever its status says: a detention that ended is no detention.
func (t *told) end(now time.Time) {
	over := startOf(t.End)
	if over.IsZero() || !over.Before(now) {
		return
	}
	t.Over = true
	switch t.Status {
	case "Active", "Final", "Current", "":
		t.Marks = append(t.Marks, mark{"Ended " + sayDate(t.End), toneMuted})
	}
}

// tell reads a resource, and puts an explicit "none" in words that say no more than may be said: one source's statement is
// not the record's while another has not been heard (design law 3).
func (t teller) tell(r *fhir.Resource) told {
	out := tell(thing{r, t.rec.Supporting})
	out.end(t.rec.At)
	heeds(r, &out)
	none := negation(r)
	if none == "" {
		return out
	}
	out.What = none
	if !t.clear {
		out.What = "This source states that it knows of none (" + strings.ToLower(strings.TrimPrefix(none, "No known ")) + ")"
		out.Marks = append(out.Marks, mark{"Not confirmed by every source", toneWarn})
		for i, c := range out.Codes { // the display would say what must not be said
			out.Codes[i], _, _ = strings.Cut(c, " (")
		}
	}
	return out
}

// Codes by which a source says explicitly that none are known, and of what. Only the first two speak of all allergies.
var noneKnown = map[string]string{
	"716186003":            "No known allergies", // SNOMED CT: No known allergy
	"no-known-allergies":   "No known allergies", // HL7 IPS absent-unknown
	"409137002":            "No known drug allergies",
	"428607008":            "No known environmental allergies",
	"429625007":            "No known food allergies",
	"428197003":            "No known insect allergies",
	"1003774007":           "No known latex allergies",
	"716184000":            "No known latex allergies",
	"no-known-medication":  "No known medicines",
	"no-known-medications": "No known medicines",
	"no-known-problems":    "No known problems",
}

// negation is what a resource says there is none of, in our words; "" if it says no such thing.
func negation(r *fhir.Resource) string {
	if toBeReadThere(r) {
		return "" // it may mean the opposite
	}
	for _, p := range [...]string{"code.coding.code", "medicationCodeableConcept.coding.code"} {
		for c := range r.Value().All(p) {
			if s := noneKnown[c.Str()]; s != "" {
				return s
			}
		}
	}
	return ""
}

// wordsOf is everything that a line shows, for searching.
func wordsOf(l *line) string {
	var b strings.Builder
	put := func(parts ...string) {
		for _, p := range parts {
			if p != "" {
				b.WriteString(strings.ToLower(p))
				b.WriteByte('\n')
			}
		}
	}
	tell := func(t *told) {
		put(t.What, t.Value, t.Status, t.By, t.Where)
		put(t.Notes...)
		put(t.Codes...)
		for _, m := range t.More {
			put(m.Label, m.Text)
		}
		for _, m := range t.Marks {
			put(m.Word)
		}
	}
	put(l.When, l.Conflict, l.Heading.Title())
	put(l.Sources...)
	tell(&l.Told)
	for i := 1; i < len(l.Versions); i++ { // the first is the one shown
		tell(&l.Versions[i].Told)
	}
	for _, r := range l.Rows {
		put(r.Group, r.Said, r.Test, r.Value, r.Mark.Word, r.Note)
	}
	var topics func([]topic)
	topics = func(ts []topic) {
		for _, t := range ts {
			put(t.Title, t.Text)
			topics(t.Items)
		}
	}
	topics(l.Topics)
	for _, r := range l.Related {
		put(r.words)
	}
	return b.String()
}

// Words is what the page's own search looks in.
func (l line) Words() string { return l.words }

// Href is where the entry's document opens.
func (l line) Href() string { return l.base + "/document/" + l.Document }

// Also are the other sources that say so.
func (l line) Also() string { return sayList(l.Sources[min(1, len(l.Sources)):]) }

// NoDate is what stands where a date would.
func (l line) NoDate() string {
	switch l.Heading {
	case dataset.Demographics, dataset.GPPractice, dataset.PersonalContacts, dataset.ProfessionalContacts:
		return "" // nobody expects one
	}
	return "no date"
}

// RelatedTitle says what stands under an entry.
func (l line) RelatedTitle() string {
	what := "Related"
	if l.Heading == dataset.Medications {
		what = "Issues"
	}
	return what + " (" + sayCount(len(l.Related), "entry", "entries") + ")"
}

// Brief is an issue in its repeat's words: only what differs, and how much.
func (l line) Brief() string { return l.brief }

func brief(over, l *line) string {
	what, value, status := l.Told.What, l.Told.Value, l.Told.Status
	if what == over.Told.What {
		what = ""
	}
	if value == over.Told.Value {
		value = ""
	}
	if status == "Completed" || status == "Final" || status == over.Told.Status {
		status = ""
	}
	quantity := ""
	for _, p := range l.Told.More {
		if p.Label == "Quantity" {
			quantity = p.Text
		}
	}
	return join("; ", what, value, quantity, status)
}
