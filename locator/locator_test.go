package locator_test

import (
	"context"
	"fmt"
	"maps"
	"testing"
	"time"

	"pgregory.net/rapid"

	"tombolo/dataset"
	"tombolo/fhir"
	"tombolo/locator"
	"tombolo/store"
)

// follow has the pointers follow the log as far as it goes.
func follow(t testing.TB, db *store.DB, l *locator.Locator) {
	t.Helper()
	tail, err := db.Tail(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	f := db.Follower(locator.FollowerName, l.Handle)
	go func() { _ = f.Run(ctx); close(done) }()
	if err := f.Await(ctx, tail); err != nil {
		t.Fatal(err)
	}
	stop()
	<-done
}

func pointers(t testing.TB, db *store.DB) map[string]string {
	t.Helper()
	out := map[string]string{}
	for item, err := range db.View(locator.Bucket).Scan(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		out[item.Key] = string(item.Value)
	}
	return out
}

// Whatever happened, in whichever order, and whenever the follower came by: the pointers are those that reading the log from the beginning gives, they count what is
// there, and there are none for whoever has nothing.
func TestPointersAreWhatTheLogSays(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		db := openStore(t)
		l := locator.New(db)
		if err := l.Prepare(t.Context()); err != nil {
			rt.Fatal(err)
		}
		type kept struct {
			patient string
			heading dataset.Heading
			typed   bool
		}
		there := map[fhir.Ref]kept{}
		for range rapid.IntRange(1, 25).Draw(rt, "things that happen") {
			ref := fhir.MakeRef(rapid.SampledFrom([]string{"DocumentReference", "Condition", "CarePlan"}).Draw(rt, "type"), fmt.Sprint("r", rapid.IntRange(0, 4).Draw(rt, "which")))
			if _, err := db.Update(t.Context(), func(tx store.Tx) error {
				if _, ok := there[ref]; ok && rapid.IntRange(0, 3).Draw(rt, "delete") == 0 {
					delete(there, ref)
					return tx.Delete(t.Context(), ref)
				}
				k := kept{patient: fmt.Sprint("p", rapid.IntRange(0, 2).Draw(rt, "patient"))}
				m := fhir.M{"subject": fhir.Reference{Reference: "Patient/" + k.patient}, "description": fmt.Sprint(rapid.IntRange(0, 2).Draw(rt, "content"))}
				if k.typed = rapid.Bool().Draw(rt, "typed"); k.typed && ref.Type() != "Condition" {
					m["category"] = []fhir.CodeableConcept{fhir.Code(fhir.SystemSNOMED, "736253002", "")}
					if rapid.IntRange(0, 3).Draw(rt, "confidential") == 0 {
						m["meta"], k.typed = fhir.M{"security": []fhir.Coding{{System: fhir.SystemConfidentiality, Code: "V"}}}, false
					}
				}
				k.typed = k.typed && ref.Type() != "Condition"
				r := fhir.New(ref.Type(), ref.ID(), m)
				k.heading = dataset.HeadingOf(r)
				there[ref] = k
				_, err := tx.Put(t.Context(), store.Home{Source: "pas", Patient: k.patient, Heading: string(k.heading)}, r)
				return err
			}); err != nil {
				rt.Fatal(err)
			}
			if rapid.Bool().Draw(rt, "the follower comes by") {
				follow(t, db, l)
			}
		}
		follow(t, db, l)
		before := pointers(t, db)
		if err := l.Rebuild(t.Context()); err != nil {
			rt.Fatal(err)
		}
		if left := pointers(t, db); len(left) > 0 {
			rt.Fatalf("dropped, and there are %v", left)
		}
		if err := l.Prepare(t.Context()); err != nil {
			rt.Fatal(err)
		}
		follow(t, db, l)
		if after := pointers(t, db); !maps.Equal(before, after) {
			rt.Fatalf("followed: %v\nmade anew: %v", before, after)
		}
		for i := range 3 {
			patient := fmt.Sprint("p", i)
			got, ok, err := l.Pointers(t.Context(), patient)
			if err != nil {
				rt.Fatal(err)
			}
			want, typed := map[dataset.Heading]int{}, 0
			for _, k := range there {
				if k.patient == patient {
					want[k.heading]++
					if k.typed {
						typed++
					}
				}
			}
			if ok != (len(want) > 0) || len(got.Types) != typed || len(got.Headings) != len(want) {
				rt.Fatalf("%s has %v (%d typed), and the pointers say %+v", patient, want, typed, got)
			}
			for h, n := range want {
				if got.Headings[h].Count != n {
					rt.Fatalf("%s: %s: %d, want %d", patient, h, got.Headings[h].Count, n)
				}
			}
		}
	})
}

// What a live source answered is pointed to until it says otherwise, and is no more than an hour's news; it outlives that the pointers are made anew, and not its patient.
func TestALiveAnswerIsPointedTo(t *testing.T) {
	db := openStore(t)
	l := locator.New(db)
	put := func(id string) {
		t.Helper()
		if _, err := db.Update(t.Context(), func(tx store.Tx) error {
			_, err := tx.Put(t.Context(), store.Home{Source: "gp", Patient: id}, fhir.New("Patient", id, nil))
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
	at := time.Date(2026, 6, 1, 9, 0, 0, 0, time.UTC)
	saw := func(id string, after time.Duration, counts map[dataset.Heading]int) bool {
		t.Helper()
		changed, err := l.Saw(t.Context(), "gp", id, counts, at.Add(after))
		if err != nil {
			t.Fatal(err)
		}
		return changed
	}
	held := func(id string) map[dataset.Heading]locator.Pointer {
		t.Helper()
		all, err := l.Of(t.Context(), id, "nobody")
		if err != nil {
			t.Fatal(err)
		}
		return all[id].Headings
	}
	saw("p1", 0, map[dataset.Heading]int{dataset.Allergies: 2})
	if len(held("p1")) > 0 {
		t.Error("somebody who is not known here is pointed to")
	}
	put("p1")
	if !saw("p1", 0, map[dataset.Heading]int{dataset.Allergies: 2, dataset.Problems: 0}) {
		t.Error("something is held that was not known, and that is no news")
	}
	if got := held("p1"); len(got) != 1 || got[dataset.Allergies] != (locator.Pointer{Count: 2, Last: at}) {
		t.Errorf("pointed to: %v", got)
	}
	if saw("p1", 10*time.Minute, map[dataset.Heading]int{dataset.Allergies: 2}); !held("p1")[dataset.Allergies].Last.Equal(at) {
		t.Error("the same answer minutes later was written again")
	}
	if saw("p1", 2*time.Hour, map[dataset.Heading]int{dataset.Allergies: 2}); !held("p1")[dataset.Allergies].Last.Equal(at.Add(2 * time.Hour)) {
		t.Error("its date is not kept current")
	}
	if err := l.Rebuild(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := l.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	follow(t, db, l)
	if len(held("p1")) != 1 {
		t.Error("making the pointers anew forgets what live sources hold")
	}
	if !saw("p1", 3*time.Hour, map[dataset.Heading]int{dataset.Allergies: 0}) || len(held("p1")) != 0 {
		t.Errorf("it has none any more: %v", held("p1"))
	}
	saw("p1", 4*time.Hour, map[dataset.Heading]int{dataset.Problems: 1})
	if _, err := db.Update(t.Context(), func(tx store.Tx) error { return tx.Delete(t.Context(), "Patient/p1") }); err != nil {
		t.Fatal(err)
	}
	follow(t, db, l)
	if len(held("p1")) != 0 {
		t.Error("the patient is gone, and pointed to")
	}
}
