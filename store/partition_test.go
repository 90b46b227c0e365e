package store

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"

	"tombolo/fhir"
	"tombolo/kv/postgres"
	"tombolo/kv/postgres/pgtest"
	"tombolo/search"
)

// spread opens a store as it is where its table lies on many machines, and gives what is sent to the server.
func spread(t *testing.T) (*DB, *pgtest.Statements) {
	t.Helper()
	sent := new(pgtest.Statements)
	e, err := postgres.Open(context.Background(), postgres.Options{URL: pgtest.URL(t), ByPartition: true, Tracer: sent, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	db, err := Open(Options{Engine: e, Now: new(clock).now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db, sent
}

// On a table that lies on many machines, what matters is which partitions a call asks for and how often it asks: seen here from the statements
// that are sent.
func TestCallsTouchTheirPartitionsOnly(t *testing.T) {
	ctx := context.Background()
	db, sent := spread(t)
	const people = 60
	for p := range people {
		id := fmt.Sprintf("ann%02d", p)
		var rs []*fhir.Resource
		for i := range 5 {
			rs = append(rs, fhir.New("Observation", fmt.Sprintf("o%02d-%d", p, i), fhir.M{"status": "final", "subject": fhir.Reference{Reference: "Patient/" + id},
				"code": fhir.Code(fhir.SystemSNOMED, fmt.Sprint("few", p/5), "")}))
		}
		put(t, db, Home{Source: "s", Patient: id}, rs...)
	}
	// asked runs a call and tells its round trips and the partitions that they name. The first time does not count: connections are made.
	asked := func(call func() error) (trips int, parts []string) {
		t.Helper()
		for range 2 {
			sent.Take()
			if err := call(); err != nil {
				t.Fatal(err)
			}
		}
		named := map[string]bool{}
		for _, trip := range sent.Take() {
			trips++
			for _, s := range trip {
				if !strings.Contains(s.SQL, "entry") {
					continue
				}
				if !strings.Contains(s.SQL, "part = $1") {
					t.Errorf("a statement does not say which partition it is about: %s", s.SQL)
					continue
				}
				named[string(s.Args[0].([]byte))] = true
			}
		}
		return trips, slices.Sorted(maps.Keys(named))
	}

	_, parts := asked(func() error {
		for _, err := range db.PatientRaw(ctx, "ann07", "ann31") {
			if err != nil {
				return err
			}
		}
		return nil
	})
	wantLines(t, "a person's record touches", parts, "p/ann07", "p/ann31")
	trips, parts := asked(func() error {
		_, err := db.Search(ctx, search.Query{Type: "Observation", Patient: "ann07"})
		return err
	})
	wantLines(t, "a search in a record touches", parts, "p/ann07")
	if trips != 1 {
		t.Errorf("a search in a record takes %d round trips, want 1", trips)
	}
	_, parts = asked(func() error {
		p, err := db.Search(ctx, search.Query{Type: "Observation", Patient: "ann07", Params: []search.Param{{Name: "status", Values: []string{"final"}}}})
		if err == nil && len(p.Resources) != 5 {
			err = fmt.Errorf("%d found in the record, want 5", len(p.Resources))
		}
		return err
	})
	wantLines(t, "a search by a code in a record touches", parts, "p/ann07")
	_, parts = asked(func() error { _, err := db.ReadRaw(ctx, "Observation/o07-1"); return err })
	wantLines(t, "a read touches", parts, string(idPart("Observation/o07-1")), "p/ann07")

	// Few hits and twelve times as many: hardly more round trips, and no partition but those of the index and the hits.
	find := func(name, value string, want int) func() error {
		return func() error {
			p, err := db.Search(ctx, search.Query{Type: "Observation", Count: 400, Params: []search.Param{{Name: name, Values: []string{value}}}})
			if err == nil && len(p.Resources) != want {
				err = fmt.Errorf("%d hits, want %d", len(p.Resources), want)
			}
			return err
		}
	}
	few, parts := asked(find("code", fhir.SystemSNOMED+"|few3", 25))
	wantLines(t, "a search by code touches", parts, "p/ann15", "p/ann16", "p/ann17", "p/ann18", "p/ann19", string(indexPart("Observation", "code")))
	many, _ := asked(find("status", "final", 300))
	if few > 3 || many > 8 {
		t.Errorf("25 hits take %d round trips and 300 take %d: it must not ask hit by hit", few, many)
	}
	q := search.Query{Type: "Observation", Summary: "count", Params: []search.Param{{Name: "code"}}}
	for p := range people {
		q.Params[0].Values = append(q.Params[0].Values, fmt.Sprint(fhir.SystemSNOMED, "|few", p/5), fmt.Sprint(fhir.SystemSNOMED, "|none", p))
	}
	trips, parts = asked(func() error {
		p, err := db.Search(ctx, q)
		if err == nil && p.Total != 300 {
			err = fmt.Errorf("%d counted, want 300", p.Total)
		}
		return err
	})
	wantLines(t, "a count of 120 codes touches", parts, "n/Observation/code")
	if trips != 1 {
		t.Errorf("a count of 120 codes takes %d round trips, want 1", trips)
	}
	t.Logf("a search with 25 hits takes %d round trips, one with 300 hits %d", few, many)
}

// On one server a small write takes two round trips: it reads what it replaces, and commits.
func TestASmallWriteTakesTwoRoundTrips(t *testing.T) {
	ctx := context.Background()
	var sent pgtest.Statements
	e, err := postgres.Open(ctx, postgres.Options{URL: pgtest.URL(t), Tracer: &sent, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	db, err := Open(Options{Engine: e, Now: new(clock).now})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	for n, want := range []int{0, 2, 2} { // the first learns that the record is known, and makes connections
		sent.Take()
		var rs []*fhir.Resource
		var refs []fhir.Ref
		for _, typ := range []string{"Encounter", "Observation"} {
			r := fhir.New(typ, fmt.Sprint("n", n), fhir.M{"status": "final", "code": fhir.Code(fhir.SystemSNOMED, "1", "")})
			rs, refs = append(rs, r), append(refs, r.Ref())
		}
		_, err := db.Update(ctx, func(tx Tx) error {
			if err := tx.Prefetch(ctx, refs...); err != nil {
				return err
			}
			for _, r := range rs {
				if _, err := tx.Put(ctx, Home{Source: "s", Patient: "ann"}, r); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if trips := sent.Take(); want > 0 && len(trips) != want {
			t.Errorf("write %d takes %d round trips, want %d", n, len(trips), want)
		}
	}
}
