package store

import (
	"cmp"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"tombolo/events"
	"tombolo/fhir"
	"tombolo/kv/enginetest"
	"tombolo/search"
)

// everyPage pages through a search to its end and gives the references in the order they came.
func everyPage(t tb, db *DB, q search.Query) (refs []fhir.Ref, pages int, total int) {
	t.Helper()
	for {
		p, err := db.Search(context.Background(), q)
		if err != nil {
			t.Fatalf("Search %+v: %v", q, err)
		}
		pages++
		if pages == 1 {
			total = p.Total
		}
		short := false
		for _, i := range p.Issues {
			short = short || i.Type == fhir.Incomplete
			if i.Type == fhir.Exception {
				t.Fatalf("Search: %v", i)
			}
		}
		if len(p.Resources) > q.Count || p.Next != "" && len(p.Resources) < q.Count && !short {
			t.Fatalf("page %d of %d resources, %d asked for, more to come: %v", pages, len(p.Resources), q.Count, p.Issues)
		}
		for _, r := range p.Resources {
			refs = append(refs, r.Ref())
		}
		if q.Cursor = p.Next; p.Next == "" {
			return refs, pages, total
		}
		if pages > 10_000 {
			t.Fatalf("paging does not come to an end")
		}
	}
}

// Whatever way the store takes to find them, the answer is what search.Matches says of every resource there is, each once, in the
// order of record and id.
func TestSearchIsMatchesOverEverything(t *testing.T) {
	run := newRuns(t)
	check := func(t *rapid.T) {
		w := run.world(t)
		defer w.done()
		for range rapid.IntRange(5, 40).Draw(t, "changes") {
			w.change(t)
		}
		for range 12 {
			w.check(t, w.narrowed(t, w.query(t)))
		}
	}
	// Every kind of parameter with every modifier that it takes was asked for, and found something; and so was every way to narrow a search or to bring it into order.
	ways := []string{"token", "token:not", "token:text", "token:of-type", "token:missing", "reference", "reference:identifier", "reference:Patient", "reference:missing",
		"string", "string:exact", "string:contains", "string:missing", "uri", "uri:above", "uri:below", "uri:missing", "date", "date:missing", "number", "number:missing",
		"quantity", "quantity:missing", "composite", "composite:missing",
		"one patient", "one source", "what one may see", "as it was", "sorted", "sorted twice", "no index", "many machines", "custom"}
	run.check(t, check, func() (out []string) {
		for _, way := range ways {
			if run.tried[way] == 0 {
				out = append(out, way)
			}
		}
		return out
	})
}

// runs are the runs of one property.
type runs struct {
	root  string
	n     int
	tried map[string]int // how a search was asked -> searches so that found something
}

func newRuns(t *testing.T) *runs { return &runs{root: t.TempDir(), tried: map[string]int{}} }

// check holds a property to be so of what chance draws, and goes on until everything was asked in every way that it is lacking. (On PostgreSQL, where each run makes tables
// anew, a part of that is enough: what is drawn is the same, and what may differ there is the engine.) With TOMBOLO_SOAK it goes on a good deal longer.
func (r *runs) check(t *testing.T, property func(*rapid.T), lacking func() []string) {
	t.Helper()
	checks, rounds := "30", 40
	if os.Getenv("TOMBOLO_SOAK") != "" {
		checks = "500"
	} else if enginetest.PostgreSQL() {
		rounds = 1
	}
	if f := flag.Lookup("rapid.checks"); f.Value.String() == f.DefValue { // not asked for by hand
		if err := flag.Set(f.Name, checks); err != nil {
			t.Fatal(err)
		}
		defer func() { _ = flag.Set(f.Name, f.DefValue) }()
	}
	for n := 0; n == 0 || n < rounds && len(lacking()) > 0; n++ {
		if rapid.Check(t, property); t.Failed() {
			return
		}
	}
	if l := lacking(); len(l) > 0 && rounds > 1 {
		t.Errorf("nothing was ever found by %q", l)
	}
}

// world is a new store with nothing in it.
func (r *runs) world(t *rapid.T) *world {
	r.n++
	dir := filepath.Join(r.root, fmt.Sprint("run", r.n))
	w := &world{db: openDir(t, dir), dir: dir, now: map[fhir.Ref]held{}, tried: r.tried}
	// Small limits, so that few resources take every way.
	w.db.limits = limits{
		examine: rapid.SampledFrom([]int{5, 1000, 1000}).Draw(t, "examine"), probe: rapid.SampledFrom([]int{1, 3, 100}).Draw(t, "probe"),
		collect: rapid.SampledFrom([]int{2, 1000}).Draw(t, "collect"), fetch: 3, parts: 2, list: 2,
	}
	w.db.spread = rapid.IntRange(0, 3).Draw(t, "many machines") == 0
	w.db.stale.Store(rapid.IntRange(0, 7).Draw(t, "no index") == 0)
	return w
}

func (w *world) done() {
	_ = w.db.Close()
	_ = os.RemoveAll(w.dir)
}

// held is a resource as it was put, with what the store adds to it.
type held struct {
	home Home
	r    *fhir.Resource
}

// A moment is what there was at a position of the log.
type moment struct {
	at  events.Seq
	was map[fhir.Ref]held
}

type world struct {
	db    *DB
	dir   string
	now   map[fhir.Ref]held
	were  []moment
	tried map[string]int
}

// put puts a resource, and remembers it, and sometimes the moment.
func (w *world) put(t *rapid.T, home Home, r *fhir.Resource) {
	changed, seq := put(t, w.db, home, r)
	if !changed {
		return // the same from another source too: it stays that of who sent it first
	}
	stored, err := w.db.Read(context.Background(), r.Ref())
	if err != nil {
		t.Fatalf("Read %s: %v", r.Ref(), err)
	}
	w.now[r.Ref()] = held{home, stored}
	w.remember(t, seq)
}

func (w *world) remember(t *rapid.T, seq events.Seq) {
	if seq > 0 && rapid.IntRange(0, 9).Draw(t, "remember") == 0 {
		w.were = append(w.were, moment{seq, maps.Clone(w.now)})
	}
}

// narrowed keeps a search inside something, or asks for an order.
func (w *world) narrowed(t *rapid.T, q search.Query) search.Query {
	if rapid.IntRange(0, 3).Draw(t, "within") == 0 {
		q.Patient = rapid.SampledFrom([]string{"ann", "bob", "ann-b", "nobody"}).Draw(t, "compartment")
	}
	if rapid.IntRange(0, 4).Draw(t, "one source") == 0 {
		q.Source = rapid.SampledFrom([]string{"s1", "s2", "s3"}).Draw(t, "of source")
	}
	if rapid.IntRange(0, 4).Draw(t, "what one may see") == 0 {
		q.Within = func(r *fhir.Resource) bool { return r.ID() != "a" }
	}
	if len(w.were) > 0 && rapid.IntRange(0, 3).Draw(t, "as it was") == 0 {
		q.AsOf = uint64(rapid.SampledFrom(w.were).Draw(t, "when").at)
	}
	if rapid.IntRange(0, 2).Draw(t, "sorted") == 0 {
		by := slices.DeleteFunc(search.Defs(q.Type), func(d search.Def) bool {
			_, err := parseSorted(q.Type, d.Name)
			return err != nil
		})
		for range rapid.IntRange(1, 2).Draw(t, "keys") {
			q.Sort = append(q.Sort, search.SortKey{Name: rapid.SampledFrom(by).Draw(t, "sort by").Name, Desc: rapid.Bool().Draw(t, "from the end")})
		}
	}
	return q
}

func parseSorted(typ, name string) (search.Query, error) {
	q, _, err := search.Parse(typ, url.Values{"_sort": {name}}, true)
	return q, err
}

func parseQuery(t *rapid.T, text string) search.Query {
	typ, rest, _ := strings.Cut(text, "?")
	values, err := url.ParseQuery(rest)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	q, issues, err := search.Parse(typ, values, true)
	if err != nil || len(issues) > 0 {
		t.Fatalf("%s: %v %v", text, err, issues)
	}
	q.Count = rapid.IntRange(1, 5).Draw(t, "count")
	return q
}

// tells notes how a search was asked that found something.
func (w *world) tells(q search.Query) {
	for way, so := range map[string]bool{"one patient": q.Patient != "", "one source": q.Source != "", "what one may see": q.Within != nil, "as it was": q.AsOf != 0, "sorted": len(q.Sort) == 1,
		"sorted twice": len(q.Sort) > 1, "no index": w.db.IndexIsStale(), "many machines": w.db.spread} {
		if so {
			w.tried[way]++
		}
	}
	for _, p := range q.Params {
		if q.Custom[q.Type][p.Name] != nil {
			w.tried["custom"]++
		}
		for _, d := range search.Defs(q.Type) {
			if d.Name != p.Name {
				continue
			}
			way := string(d.Kind)
			if p.Modifier != "" {
				way += ":" + p.Modifier
			}
			w.tried[way]++
			for _, v := range p.Values {
				prefix := "eq"
				if len(v) > 2 && v[0] >= 'a' && v[0] <= 'z' {
					prefix = v[:2]
				}
				w.tried[string(d.Kind)+"="+prefix]++
			}
		}
	}
}

// other makes a resource of the types that have the rarer kinds of parameters.
func other(t *rapid.T, id string, home Home) *fhir.Resource {
	if rapid.Bool().Draw(t, "uri") {
		return fhir.New("ValueSet", id, fhir.M{"status": "active", "url": rapid.SampledFrom([]string{"http://a.example/sets", "http://a.example/sets/one", "http://b.example/x"}).Draw(t, "url")})
	}
	r := fhir.M{"status": "final", "prediction": []fhir.M{{"probabilityDecimal": rapid.SampledFrom([]float64{0.2, 0.25, 0.5}).Draw(t, "probability")}}}
	if rapid.Bool().Draw(t, "none") {
		delete(r, "prediction")
	}
	if home.Patient != "" {
		r["subject"] = fhir.Reference{Reference: "Patient/" + home.Patient}
	}
	return fhir.New("RiskAssessment", id, r)
}

var (
	genPatient = rapid.SampledFrom([]string{"ann", "bob", "cat", "ann-b", ""})
	genFamily  = rapid.SampledFrom([]string{"Smith", "Smythe", "smith", "Šmith", "Jones", "O'Neill"})
	genCode    = rapid.SampledFrom([]string{"c1", "C1", "c2", "c1|x", "c12"})
	genDate    = rapid.SampledFrom([]string{"2020", "2020-03", "2020-03-05", "2020-03-05T10:00:00Z", "2021-01-01"})
)

func (w *world) change(t *rapid.T) {
	home := Home{Source: rapid.SampledFrom([]string{"s1", "s2"}).Draw(t, "source"), Patient: genPatient.Draw(t, "home")}
	var r *fhir.Resource
	id := rapid.SampledFrom([]string{"a", "b", "c", "d", "e", "B", "a-1", "a.1"}).Draw(t, "id")
	if kind := rapid.IntRange(0, 4).Draw(t, "kind of resource"); kind == 0 {
		r = other(t, id, home)
	} else if kind <= 2 {
		r = fhir.New("Patient", id, fhir.M{
			"name":      []fhir.M{{"family": genFamily.Draw(t, "family"), "given": []string{genFamily.Draw(t, "given")}}},
			"birthDate": rapid.SampledFrom([]string{"1950", "1950-02-03", "1950-02"}).Draw(t, "born"),
			"gender":    rapid.SampledFrom([]string{"male", "female"}).Draw(t, "gender"),
			"identifier": []fhir.Identifier{{Type: &fhir.CodeableConcept{Coding: []fhir.Coding{{System: "types", Code: "MR"}}}, System: rapid.SampledFrom([]string{"u1", "u2", ""}).Draw(t, "system"),
				Value: rapid.SampledFrom([]string{"1", "2", "12", "a\x00b"}).Draw(t, "value")}},
		})
	} else {
		f := fhir.M{
			"status":            rapid.SampledFrom([]string{"final", "amended"}).Draw(t, "status"),
			"code":              fhir.Code(rapid.SampledFrom([]string{"sys", "", "other"}).Draw(t, "system"), genCode.Draw(t, "code"), "words"),
			"effectiveDateTime": genDate.Draw(t, "date"),
		}
		// Mostly about the patient in whose record it stands, but not always, and not always about one of ours.
		about := rapid.SampledFrom([]string{home.Patient, home.Patient, "ann", "bob", "zed"}).Draw(t, "about")
		if about != "" {
			f["subject"] = fhir.Reference{Reference: rapid.SampledFrom([]string{"Patient/", "Patient/", "Group/", "https://elsewhere/Patient/"}).Draw(t, "kind") + about}
		}
		if rapid.Bool().Draw(t, "named") { // by what it is called elsewhere
			f["subject"] = fhir.M{"identifier": fhir.Identifier{System: "u1", Value: about + "1"}}
		}
		if rapid.Bool().Draw(t, "measured") {
			f["valueQuantity"] = fhir.Quantity{Value: json.Number(rapid.SampledFrom([]string{"4", "4.25", "10"}).Draw(t, "quantity")), Unit: "mmol/L", System: fhir.SystemUCUM, Code: "mmol/L"}
		}
		if rapid.Bool().Draw(t, "performed") {
			f["performer"] = []fhir.Reference{{Reference: "Practitioner/" + id}, {Reference: "Patient/" + about + "x"}}
		}
		r = fhir.New("Observation", id, f)
	}
	ref := r.Ref()
	_, there := w.now[ref]
	if there && rapid.IntRange(0, 4).Draw(t, "delete") == 0 {
		seq := remove(t, w.db, ref)
		delete(w.now, ref)
		w.remember(t, seq)
		return
	}
	w.put(t, home, r)
}

func (w *world) query(t *rapid.T) search.Query {
	q := search.Query{Count: rapid.IntRange(1, 5).Draw(t, "count"), Base: "https://here/fhir"}
	p := func(name, modifier string, values ...string) search.Param {
		return search.Param{Name: name, Modifier: modifier, Values: values}
	}
	value := func(of ...string) string { return rapid.SampledFrom(of).Draw(t, "value") }
	var choice []search.Param
	switch q.Type = value("Patient", "Patient", "Observation", "Observation", "Observation", "ValueSet", "RiskAssessment"); q.Type {
	case "ValueSet":
		choice = []search.Param{
			p("url", "", value("http://a.example/sets", "http://b.example/x", "http://none")), p("url", "below", value("http://a.example/sets", "http://b.example")),
			p("url", "above", "http://a.example/sets/one/two"), p("url", "missing", value("true", "false")), p("status", "", "active"),
		}
	case "RiskAssessment":
		choice = []search.Param{
			p("probability", "", value("0.2", "0.25", "gt0.2", "le0.25", "ne0.5", "ap0.5")), p("probability", "", "0.2", "0.5"), p("probability", "missing", value("true", "false")),
			p("patient", "", "ann", "bob"), p("subject", "missing", value("true", "false")),
		}
	case "Patient":
		choice = []search.Param{
			p("identifier", "", value("1", "u1|1", "u1|", "|2", "12", "u2|12")), p("identifier", "", "u1|1", "u2|2"),
			p("family", "", value("smi", "smith", "Smy", "o", "zz")), p("family", "exact", "Smith"), p("name", "contains", "mit"), p("given", "", "jon", "smi"),
			p("birthdate", "", value("1950", "1950-02", "gt1950-01-15", "le1950-02-03", "ne1950", "2000")),
			p("identifier", "of-type", value("types|MR|1", "types|MR|12", "|MR|2", "types|NH|1")), p("family", "missing", value("true", "false")), p("birthdate", "missing", "false"),
			p("gender", "", value("male", "female", "other")), p("gender", "not", "male"), p("gender", "missing", value("true", "false")),
		}
	default:
		choice = []search.Param{
			p("value-quantity", "", value("4", "4||mmol/L", "gt4", "le4.25|http://unitsofmeasure.org|mmol/L", "ap10", "99")), p("value-quantity", "missing", value("true", "false")),
			p("code-value-quantity", "", value("c1$4", "sys|c1$gt3", "c2$le10", "none$4")), p("code-value-quantity", "missing", value("true", "false")),
			p("subject", "identifier", value("u1|ann1", "u1|bob1", "ann1", "u2|x")), p("date", "missing", "false"),
			p("code", "", value("sys|c1", "other|c2"), "sys|c12"),
			p("code", "", value("c1", "sys|c1", "|c1", "sys|", "c12", "none", `c1\|x`)), p("code", "", "c2", "sys|c1"), p("code", "text", "wor"), p("code", "not", "c1"),
			p("status", "", value("final", "amended")), p("date", "", value("2020", "ge2020-03-05", "lt2020-03", "sa2020", "eq2021-01-01")),
			p("patient", "", value("ann", "Patient/bob", "zed", "https://here/fhir/Patient/ann", "https://elsewhere/Patient/ann")),
			p("patient", "", "ann", "bob"), p("subject", "", value("Patient/ann", "ann", "Group/bob", "Patient/annx")), p("subject", "Patient", "ann"),
			p("subject", "missing", "true"), p("performer", "", value("Practitioner/a", "Patient/annx")),
		}
	}
	choice = append(choice, p("_id", "", value("a", "b", "B", "d", "none")), p("_id", "", "a", "c", "a-1"),
		p("_lastUpdated", "", value("gt2026-04-01T09:00:10Z", "lt2026-04-01T09:00:20Z", "2026-04-01")))
	for range rapid.IntRange(0, 3).Draw(t, "params") {
		q.Params = append(q.Params, rapid.SampledFrom(choice).Draw(t, "param"))
	}
	if q.Type == "Observation" && rapid.IntRange(0, 3).Draw(t, "custom") == 0 {
		q.Custom = ownParameters(t)
		q.Params = append(q.Params, p("words", "", value("words", "wor", "none")))
	}
	return q
}

// ownParameters are search parameters beside R4's own. They have no index.
func ownParameters(t *rapid.T) search.Custom {
	defs, err := search.Define(fhir.New("SearchParameter", "words", fhir.M{"status": "active", "code": "words", "type": "string", "base": []string{"Observation"},
		"expression": "Observation.code.coding.display"}))
	if err != nil {
		t.Fatalf("%v", err)
	}
	c := search.Custom{}
	for typ, d := range defs {
		c.Add(typ, d)
	}
	return c
}

// everything is what there is, in the order of records and ids.
func (w *world) everything(t *rapid.T) []*fhir.Resource { return inPlace(t, w.now) }

func inPlace(t *rapid.T, all map[fhir.Ref]held) []*fhir.Resource {
	type placed struct {
		at place
		r  *fhir.Resource
	}
	var rows []placed
	for _, h := range all {
		part, err := h.home.part()
		if err != nil {
			t.Fatalf("%v", err)
		}
		rows = append(rows, placed{place{part, h.r.ID()}, h.r})
	}
	slices.SortFunc(rows, func(a, b placed) int { return cmp.Or(a.at.compare(b.at), strings.Compare(a.r.Type(), b.r.Type())) })
	out := make([]*fhir.Resource, len(rows))
	for i, row := range rows {
		out[i] = row.r
	}
	return out
}

// expect is the answer to a query, found by looking at everything.
func (w *world) expect(t *rapid.T, q search.Query) []fhir.Ref {
	all := w.now
	for _, m := range w.were {
		if q.AsOf != 0 && uint64(m.at) == q.AsOf {
			all = m.was
		}
	}
	var found []*fhir.Resource
	for _, r := range inPlace(t, all) {
		home := all[r.Ref()].home
		if r.Type() != q.Type || q.Patient != "" && home.Patient != q.Patient || q.Source != "" && home.Source != q.Source || q.Within != nil && !q.Within(r) {
			continue
		}
		ok, err := search.Matches(q, r)
		if err != nil {
			t.Fatalf("Matches: %v", err)
		}
		if ok {
			found = append(found, r)
		}
	}
	search.Sort(q, found)
	refs := []fhir.Ref{}
	for _, r := range found {
		refs = append(refs, r.Ref())
	}
	return refs
}

func (w *world) check(t *rapid.T, q search.Query) {
	refs := w.expect(t, q)
	if len(refs) > 0 {
		w.tells(q)
	}
	w.answers(t, q, refs)
}

// answers holds what the store answers to what is right: in pages, in its order, and counted.
func (w *world) answers(t *rapid.T, q search.Query, refs []fhir.Ref) {
	// As many are put in order as may be looked at: fewer than there are is said, and is then another answer.
	cut := w.db.limits.examine < 1000
	if cut && len(q.Sort) > 0 {
		q.Sort = nil
		refs = w.expect(t, q)
	}
	got, pages, total := everyPage(t, w.db, q)
	if !slices.Equal(got, refs) {
		t.Fatalf("Search %+v with %+v:\n got %q\nwant %q", q, w.db.limits, got, refs)
	}
	if (pages == 1 || len(q.Sort) > 0) && total != len(refs) {
		t.Fatalf("total %d of %d on %d pages", total, len(refs), pages)
	}
	if cut {
		return
	}
	q.Total = "accurate"
	if p, err := w.db.Search(context.Background(), q); err != nil || p.Total != len(refs) {
		t.Fatalf("accurate total of %+v: %v, %v; want %d", q, p, err, len(refs))
	}
	q.Total, q.Summary = "", "count"
	if p, err := w.db.Search(context.Background(), q); err != nil || p.Total != len(refs) || len(p.Resources) > 0 {
		t.Fatalf("count of %+v: %+v, %v; want %d", q, p, err, len(refs))
	}
}
