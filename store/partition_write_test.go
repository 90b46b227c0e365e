package store

import (
	"context"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"tombolo/fhir"
)

// A resource's history and the writes of a patient name that patient's partition and no other's; besides it only entries by id of the resources
// concerned, and for writes the indexes, their counters and the catalogue (docs/storage.md).
func TestHistoryAndWritesTouchTheirPatientsPartitionOnly(t *testing.T) {
	ctx := context.Background()
	db, sent := spread(t)
	observation := func(id, patient, status string) *fhir.Resource {
		return fhir.New("Observation", id, fhir.M{"status": status, "subject": fhir.Reference{Reference: "Patient/" + patient}, "code": fhir.Code(fhir.SystemSNOMED, "1", "")})
	}
	ann, bob := Home{Source: "s", Patient: "ann"}, Home{Source: "s", Patient: "bob"}
	put(t, db, bob, observation("b", "bob", "final"))
	put(t, db, ann, observation("a", "ann", "preliminary"))
	put(t, db, ann, observation("a", "ann", "final"))

	// named tells the partitions that the statements of a call name: a statement that reads or deletes names one, one that inserts a list.
	named := func(call func()) []string {
		t.Helper()
		sent.Take()
		call()
		parts := map[string]bool{}
		for _, trip := range sent.Take() {
			for _, s := range trip {
				if !strings.Contains(s.SQL, "entry") {
					continue
				}
				inserts := strings.HasPrefix(s.SQL, "insert into entry")
				if !inserts && !strings.Contains(s.SQL, "part = $1") {
					t.Errorf("a statement does not say which partition it is about: %s", s.SQL)
					continue
				}
				if part, one := s.Args[0].([]byte); one {
					parts[string(part)] = true
					continue
				}
				for _, p := range reflect.ValueOf(s.Args[0]).Convert(reflect.TypeFor[[][]byte]()).Interface().([][]byte) {
					parts[string(p)] = true
				}
			}
		}
		return slices.Sorted(maps.Keys(parts))
	}
	id := string(idPart("Observation/a"))
	wantLines(t, "a history touches", named(func() {
		if got, err := db.History(ctx, "Observation/a"); err != nil || len(got) != 2 {
			t.Errorf("the history has %d versions, %v, want 2", len(got), err)
		}
	}), id, "p/ann")
	for version := 1; version <= 2; version++ {
		wantLines(t, "a read of a version touches", named(func() {
			if _, err := db.ReadVersionRaw(ctx, "Observation/a", version); err != nil {
				t.Error(err)
			}
		}), id, "p/ann")
	}

	writes := []struct {
		what string
		refs []fhir.Ref
		do   func(tx Tx) error
	}{
		{"a create", []fhir.Ref{"Observation/c"}, func(tx Tx) error { _, err := tx.Put(ctx, ann, observation("c", "ann", "final")); return err }},
		{"an update", []fhir.Ref{"Observation/c"}, func(tx Tx) error { _, err := tx.Put(ctx, ann, observation("c", "ann", "amended")); return err }},
		{"a delete", []fhir.Ref{"Observation/c"}, func(tx Tx) error { return tx.Delete(ctx, "Observation/c") }},
		{"a transaction", []fhir.Ref{"Observation/a", "Observation/d", "Observation/e"}, func(tx Tx) error {
			for _, id := range []string{"d", "e"} {
				if _, err := tx.Put(ctx, ann, observation(id, "ann", "final")); err != nil {
					return err
				}
			}
			return tx.Delete(ctx, "Observation/a")
		}},
	}
	for _, w := range writes {
		ids := map[string]bool{}
		for _, ref := range w.refs {
			ids[string(idPart(ref))] = true
		}
		var records, entries []string
		for _, p := range named(func() {
			if _, err := db.Update(ctx, w.do); err != nil {
				t.Fatalf("%s: %v", w.what, err)
			}
		}) {
			switch {
			case strings.HasPrefix(p, "p/"), strings.HasPrefix(p, "s/"):
				records = append(records, p)
			case strings.HasPrefix(p, "i/"):
				entries = append(entries, p)
			case p != "c" && !strings.HasPrefix(p, "n/Observation/") && !strings.HasPrefix(p, "x"):
				t.Errorf("%s touches %q", w.what, p)
			}
		}
		wantLines(t, w.what+" touches the records", records, "p/ann")
		wantLines(t, w.what+" touches the entries by id", entries, slices.Sorted(maps.Keys(ids))...)
	}
}
