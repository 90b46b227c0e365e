package store

import (
	"fmt"
	"slices"
	"testing"

	"tombolo/fhir"
	"tombolo/search"
)

// A count is of what is asked for and nothing beside it: not of what other sources hold, nor of what was not there then, nor of what a chain leaves out.
func TestACountIsOfWhatIsAskedFor(t *testing.T) {
	db, ctx := fresh(t)
	for i := range 6 {
		put(t, db, Home{Source: fmt.Sprint("s", i%2), Patient: "ann"}, coded(fmt.Sprint("o", i), "a1"))
	}
	then, err := db.Tail(ctx)
	if err != nil {
		t.Fatal(err)
	}
	put(t, db, Home{Source: "s1", Patient: "bob"}, coded("o9", "a1"))
	asked := search.Query{Type: "Observation", Summary: "count", Params: []search.Param{{Name: "code", Values: []string{"a|1"}}}}
	for name, c := range map[string]struct {
		narrow func(*search.Query)
		want   int
	}{
		"all":             {func(*search.Query) {}, 7},
		"of one source":   {func(q *search.Query) { q.Source = "s1" }, 4},
		"of no source":    {func(q *search.Query) { q.Source = "s7" }, 0},
		"as it was":       {func(q *search.Query) { q.AsOf = uint64(then) }, 6},
		"of some":         {func(q *search.Query) { q.Any = map[fhir.Ref]bool{"Observation/o1": true, "Observation/o9": true} }, 2},
		"of none":         {func(q *search.Query) { q.Any = map[fhir.Ref]bool{} }, 0},
		"of what is seen": {func(q *search.Query) { q.Within = func(r *fhir.Resource) bool { return r.ID() == "o2" } }, 1},
	} {
		q := asked
		c.narrow(&q)
		if p, err := db.Search(ctx, q); err != nil || p.Total != c.want {
			t.Errorf("%s: %+v, %v; want %d", name, p, err, c.want)
		}
	}
}

// A page of a search that began earlier may be cut short at a resource that has changed since: what it was then is not passed over.
func TestAPageThatIsCutShortPassesNothingOver(t *testing.T) {
	db, ctx := fresh(t)
	db.limits.examine = 2
	var want []fhir.Ref
	for i := range 7 {
		r := fhir.New("Observation", fmt.Sprint("o", i), fhir.M{"status": "final", "valueString": "then"})
		put(t, db, Home{Source: "s", Patient: "ann"}, r)
		want = append(want, r.Ref())
	}
	then, err := db.Tail(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 7 {
		put(t, db, Home{Source: "s", Patient: "ann"}, fhir.New("Observation", fmt.Sprint("o", i), fhir.M{"status": "final", "valueString": "now"}))
	}
	got, _, _ := everyPage(t, db, search.Query{Type: "Observation", Count: 3, AsOf: uint64(then)})
	if !slices.Equal(got, want) {
		t.Errorf("as it was: %q, want %q", got, want)
	}
}

// What the store writes into a resource's meta would be lost in one that is no object.
func TestAMetaThatIsNoObjectIsRefused(t *testing.T) {
	db, ctx := fresh(t)
	for _, meta := range []string{`[{"tag":[{"code":"x"}]}]`, `"x"`, `7`} {
		r := parse(t, `{"resourceType":"Basic","id":"a","meta":`+meta+`}`)
		_, err := db.Update(ctx, func(tx Tx) error { _, err := tx.Put(ctx, annAtPAS, r); return err })
		if !fhir.Is(err, fhir.Structure) {
			t.Errorf("meta %s: %v; want it refused", meta, err)
		}
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
