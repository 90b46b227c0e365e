package store

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"tombolo/fhir"
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
	root, n := t.TempDir(), 0
	tried := map[string]int{}
	check := func(t *rapid.T) {
		n++
		dir := filepath.Join(root, fmt.Sprint("run", n))
		db := openDir(t, dir)
		defer func() {
			_ = db.Close()
			_ = os.RemoveAll(dir)
		}()
		// Small limits, so that few resources take every way.
		db.limits = limits{
			examine: rapid.SampledFrom([]int{5, 1000}).Draw(t, "examine"), probe: rapid.SampledFrom([]int{1, 3, 100}).Draw(t, "probe"),
			collect: rapid.SampledFrom([]int{2, 1000}).Draw(t, "collect"), fetch: 3, parts: 2, list: 2,
		}
		w := &world{db: db, now: map[fhir.Ref]Home{}, tried: tried}
		for range rapid.IntRange(5, 40).Draw(t, "changes") {
			w.change(t)
		}
		for range 12 {
			w.check(t)
		}
	}
	// Every kind of parameter with every modifier that it takes was asked for, and found something.
	ways := []string{"token", "token:not", "token:text", "token:of-type", "token:missing", "reference", "reference:identifier", "reference:Patient", "reference:missing",
		"string", "string:exact", "string:contains", "string:missing", "uri", "uri:above", "uri:below", "uri:missing", "date", "date:missing", "number", "number:missing",
		"quantity", "quantity:missing", "composite", "composite:missing"}
	lacking := func(way string) bool { return tried[way] == 0 }
	for round := 0; round == 0 || round < 30 && slices.ContainsFunc(ways, lacking); round++ { // what is drawn is chance
		rapid.Check(t, check)
	}
	for _, way := range ways {
		if lacking(way) {
			t.Errorf("no search by %s found anything", way)
		}
	}
}

type world struct {
	db    *DB
	now   map[fhir.Ref]Home
	tried map[string]int // kind:modifier -> searches by it that found something
}

// tells notes by what a search found something.
func (w *world) tells(q search.Query) {
	for _, p := range q.Params {
		for _, d := range search.Defs(q.Type) {
			if d.Name != p.Name {
				continue
			}
			way := string(d.Kind)
			if p.Modifier != "" {
				way += ":" + p.Modifier
			}
			w.tried[way]++
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
		remove(t, w.db, ref)
		delete(w.now, ref)
		return
	}
	put(t, w.db, home, r)
	w.now[ref] = home
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
	if rapid.IntRange(0, 3).Draw(t, "within") == 0 {
		q.Patient = rapid.SampledFrom([]string{"ann", "bob", "ann-b", "nobody"}).Draw(t, "compartment")
	}
	return q
}

func (w *world) check(t *rapid.T) {
	q := w.query(t)
	var want []place
	for ref, home := range w.now {
		if ref.Type() != q.Type || q.Patient != "" && home.Patient != q.Patient {
			continue
		}
		r, err := w.db.Read(context.Background(), ref)
		if err != nil {
			t.Fatalf("Read %s: %v", ref, err)
		}
		ok, err := search.Matches(q, r)
		if err != nil {
			t.Fatalf("Matches: %v", err)
		}
		if ok {
			part, err := home.part()
			if err != nil {
				t.Fatalf("%v", err)
			}
			want = append(want, place{part, ref.ID()})
		}
	}
	slices.SortFunc(want, place.compare)
	refs := []fhir.Ref{}
	for _, p := range want {
		refs = append(refs, fhir.MakeRef(q.Type, p.id))
	}
	if len(refs) > 0 {
		w.tells(q)
	}
	got, pages, total := everyPage(t, w.db, q)
	if !slices.Equal(got, refs) {
		t.Fatalf("Search %+v with %+v:\n got %q\nwant %q", q, w.db.limits, got, refs)
	}
	if pages == 1 && total != len(refs) {
		t.Fatalf("total %d of %d on one page", total, len(refs))
	}
	if w.db.limits.examine < 1000 {
		return
	}
	q.Total = "accurate"
	if p, err := w.db.Search(context.Background(), q); err != nil || p.Total != len(refs) {
		t.Fatalf("accurate total %v, %v; want %d", p, err, len(refs))
	}
	q.Total, q.Summary = "", "count"
	if p, err := w.db.Search(context.Background(), q); err != nil || p.Total != len(refs) || len(p.Resources) > 0 {
		t.Fatalf("count %+v, %v; want %d", p, err, len(refs))
	}
	q.Summary, q.Sort = "", []search.SortKey{{Name: "_lastUpdated", Desc: true}}
	sorted, _, _ := everyPage(t, w.db, q)
	if len(sorted) != len(refs) {
		t.Fatalf("sorted: %d of %d", len(sorted), len(refs))
	}
	slices.Sort(sorted)
	slices.Sort(refs)
	if !slices.Equal(sorted, refs) {
		t.Fatalf("sorted: %q, want %q in some order", sorted, refs)
	}
}

func TestSearchSaysWhenItStopsShort(t *testing.T) {
	db, ctx := fresh(t)
	db.limits.examine = 10
	for i := range 25 {
		put(t, db, Home{Source: "s", Patient: fmt.Sprintf("p%02d", i)}, fhir.New("Observation", fmt.Sprintf("o%02d", i), fhir.M{"status": "final", "valueString": "x"}))
	}
	q := search.Query{Type: "Observation", Count: 50, Params: []search.Param{{Name: "status", Modifier: "not", Values: []string{"amended"}}}}
	p, err := db.Search(ctx, q)
	if err != nil {
		t.Fatal(err)
	}
	if len(p.Resources) != 10 || p.Next == "" || p.Total != -1 || len(p.Issues) != 1 || p.Issues[0].Type != fhir.Incomplete || p.Issues[0].Severity != fhir.Warning {
		t.Errorf("first page: %d resources, next %q, total %d, issues %v; want 10, a next link, no total, and a warning", len(p.Resources), p.Next, p.Total, p.Issues)
	}
	if refs, pages, _ := everyPage(t, db, q); len(refs) != 25 || pages != 3 {
		t.Errorf("all pages: %d resources on %d pages, want all 25 on 3", len(refs), pages)
	}
	q.Total = "accurate"
	if p, err = db.Search(ctx, q); err != nil || p.Total != -1 || len(p.Issues) != 2 {
		t.Errorf("a total that cannot be had: %+v, %v", p, err)
	}
	q.Total, q.Sort = "", []search.SortKey{{Name: "_lastUpdated"}}
	if p, err = db.Search(ctx, q); err != nil || p.Total != -1 || len(p.Issues) != 1 || p.Issues[0].Type != fhir.Incomplete {
		t.Errorf("a sort of too many: %+v, %v", p, err)
	}
}

func TestSearchRefusesWhatItCannotDo(t *testing.T) {
	db, ctx := fresh(t)
	for name, q := range map[string]search.Query{
		"no such type":         {Type: "Bandage"},
		"no such parameter":    {Type: "Observation", Params: []search.Param{{Name: "colour", Values: []string{"red"}}}},
		"another's cursor":     {Type: "Observation", Cursor: "p!!"},
		"a cursor to a bucket": {Type: "Observation", Cursor: cursorOf(place{"b/secrets", "x"})},
		"a sorted cursor":      {Type: "Observation", Cursor: "n-1", Sort: []search.SortKey{{Name: "_id"}}},
		"less than nothing":    {Type: "Observation", Count: -1},
	} {
		if p, err := db.Search(ctx, q); fhir.IssueOf(err) == nil {
			t.Errorf("%s: %v, %v; want an issue", name, p, err)
		}
	}
}
