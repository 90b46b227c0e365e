package store

import (
	"context"
	"iter"
	"testing"

	"tombolo/fhir"
	"tombolo/kv"
	"tombolo/kv/enginetest"
)

// haunted is an engine without checksums, in which whoever goes through a record also meets rows of before that no index leads to any more.
type haunted struct {
	kv.Engine
	ghosts []kv.Entry
}

func (*haunted) Unchecked() bool { return true }

func (h *haunted) Scan(ctx context.Context, ranges []kv.Range, limit int) iter.Seq2[kv.Entry, error] {
	return func(yield func(kv.Entry, error) bool) {
		for en, err := range h.Engine.Scan(ctx, ranges, limit) {
			if !yield(en, err) {
				return
			}
		}
		for _, g := range h.ghosts {
			for _, r := range ranges {
				if r.Part == g.Key.Part && g.Key.Key >= r.From && (r.To == "" || g.Key.Key < r.To) && !yield(g, nil) {
					return
				}
			}
		}
	}
}

// What was deleted, or moved into another record, is not in a person's record because a row of it is met there that cannot be looked up; and it is no fault either: somebody may have deleted
// it while the record was read. What can be looked up is.
func TestARowThatNoIndexLeadsToIsNotShown(t *testing.T) {
	h := &haunted{Engine: enginetest.Open(t, t.TempDir())}
	db, err := Open(Options{Engine: h})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	bob := Home{Source: annAtPAS.Source, Patient: "bob"}
	for _, id := range []string{"kept", "deleted", "moved"} {
		put(t, db, annAtPAS, fhir.New("Observation", id, fhir.M{"status": "final"}))
	}
	part := patientPart("ann")
	for _, id := range []string{"deleted", "moved"} {
		k := currentKey(part, fhir.MakeRef("Observation", id))
		v, ok, err := h.Get(t.Context(), k)
		if err != nil || !ok {
			t.Fatal(ok, err)
		}
		h.ghosts = append(h.ghosts, kv.Entry{Key: k, Value: v})
	}
	remove(t, db, "Observation/deleted")
	put(t, db, bob, fhir.New("Observation", "moved", fhir.M{"status": "final"}))
	wantLines(t, "her record", person(t, db, "ann"), "Observation/kept@1")
	wantLines(t, "his record", person(t, db, "bob"), "Observation/moved@3")
}
