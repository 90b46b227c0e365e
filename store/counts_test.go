package store

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"tombolo/fhir"
	"tombolo/kv"
	"tombolo/search"
)

// coded is a result with some of the codes of two systems.
func coded(id string, codes ...string) *fhir.Resource {
	var coding []fhir.Coding
	for _, c := range codes {
		coding = append(coding, fhir.Coding{System: c[:1], Code: c[1:]})
	}
	return fhir.New("Observation", id, fhir.M{"status": "final", "code": fhir.CodeableConcept{Coding: coding}})
}

// However resources come, change, move and go, and however many codes they have in common, counting them by any codes is counting those that match.
func TestCountsAreThoseOfWhatMatches(t *testing.T) {
	root, n := t.TempDir(), 0
	rapid.Check(t, func(t *rapid.T) {
		n++
		dir := filepath.Join(root, fmt.Sprint("run", n))
		db := openDir(t, dir)
		defer func() {
			_ = db.Close()
			_ = os.RemoveAll(dir)
		}()
		ctx := context.Background()
		code := rapid.SampledFrom([]string{"a1", "a2", "a3", "b1", "bX", "bx", "a1\x00\x01"})
		has := map[string][]string{}
		for range rapid.IntRange(1, 25).Draw(t, "transactions") {
			_, err := db.Update(ctx, func(tx Tx) error {
				for range rapid.IntRange(1, 4).Draw(t, "changes") {
					id := rapid.SampledFrom([]string{"o1", "o2", "o3", "o4", "o5", "o6"}).Draw(t, "id")
					if rapid.IntRange(0, 4).Draw(t, "deletes") == 0 {
						if err := tx.Delete(ctx, fhir.MakeRef("Observation", id)); err == nil {
							delete(has, id)
						}
						continue
					}
					codes := rapid.SliceOfNDistinct(code, 0, 4, rapid.ID).Draw(t, "codes")
					home := Home{Source: "s", Patient: rapid.SampledFrom([]string{"ann", "bob", ""}).Draw(t, "patient")}
					if _, err := tx.Put(ctx, home, coded(id, codes...)); err != nil {
						return err
					}
					has[id] = codes
				}
				return nil
			})
			if err != nil {
				t.Fatalf("Update: %v", err)
			}
		}
		for range 10 {
			asked := rapid.SliceOfN(code, 1, 6).Draw(t, "asked")
			q := search.Query{Type: "Observation", Summary: "count", Params: []search.Param{{Name: "code"}}}
			for _, c := range asked {
				q.Params[0].Values = append(q.Params[0].Values, c[:1]+"|"+c[1:])
			}
			want := 0
			for id, codes := range has {
				if ok, err := search.Matches(q, coded(id, codes...)); err != nil {
					t.Fatalf("%v", err)
				} else if ok {
					want++
				}
			}
			f := &finder{db: db, q: q}
			ranges, ok := search.Counted(q)
			if !ok {
				t.Fatalf("%q is not counted in the index", asked)
			}
			byCounters, ok, err := f.tallied(ctx, ranges)
			if err != nil || !ok || byCounters != want {
				t.Fatalf("of %v the counters count %d with %q (%v, %v), want %d", has, byCounters, asked, ok, err, want)
			}
			if byIndex, err := f.counted(ctx, ranges); err != nil || byIndex != want {
				t.Fatalf("of %v the index has %d with %q (%v), want %d", has, byIndex, asked, err, want)
			}
			if p, err := db.Search(ctx, q); err != nil || p.Total != want {
				t.Fatalf("Search says %v, %v; want %d", p, err, want)
			}
		}
		if r, err := db.Verify(ctx, nil); err != nil || !r.OK() {
			t.Fatalf("%v, %v", r, err)
		}
	})
}

// Counts that are wrong are put right while others write, and by two at once.
func TestCountsArePutRightWhileOthersWrite(t *testing.T) {
	db, ctx := fresh(t)
	for i := range 40 {
		put(t, db, Home{Source: "s", Patient: fmt.Sprintf("p%02d", i%7)}, coded(fmt.Sprintf("o%02d", i), "a1", fmt.Sprintf("b%d", i%3)))
	}
	var spoil kv.Batch
	for en, err := range db.engine.Scan(ctx, []kv.Range{{Part: counterPart("Observation", "code")}}, 0) {
		if err != nil {
			t.Fatal(err)
		}
		spoil.Delete = append(spoil.Delete, en.Key) // as in a store of before there were counters
	}
	spoil.Add = []kv.Sum{{Key: kv.Key{Part: counterPart("Observation", "code"), Key: indexValue("Observation", "code", "none|a")}, By: 7}}
	commitTo(t, db, spoil)
	if got := kindsOf(verified(t, db)); !slices.Equal(got, []Damage{WrongCount}) {
		t.Fatalf("found %v", got)
	}
	running, stop := context.WithCancel(ctx)
	var writers, menders sync.WaitGroup
	for w := range 3 {
		writers.Go(func() {
			for i := 0; running.Err() == nil; i++ {
				put(t, db, Home{Source: "s", Patient: fmt.Sprintf("p%02d", i%7)}, coded(fmt.Sprintf("w%d-%d", w, i%20), "a1", fmt.Sprintf("b%d", i%5)))
			}
		})
	}
	for range 2 {
		menders.Go(func() {
			if _, err := db.Reindex(ctx, nil); err != nil && !fhir.Is(err, fhir.Conflict) {
				t.Errorf("Reindex: %v", err)
			}
		})
	}
	menders.Wait()
	stop()
	writers.Wait()
	if r := verified(t, db); !r.OK() {
		t.Errorf("%s", r)
	}
}
