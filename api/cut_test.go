package api

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"tombolo/fhir"
)

// Whatever is written between pages, no entry that was there all the while is passed over or given twice, and where something changed it is told.
func TestPagesOfAJoinedRecordLoseNothingThatStays(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var now []*fhir.Resource
		stays := map[string]bool{}
		next := 0
		add := func(at int) {
			next++
			now = slices.Insert(now, at, fhir.New("Observation", fmt.Sprint("o", next), fhir.M{}))
		}
		for range rapid.IntRange(0, 12).Draw(t, "entries") {
			add(len(now))
			stays[now[len(now)-1].ID()] = true
		}
		p := joinedPage{size: rapid.IntRange(1, 4).Draw(t, "size"), query: "Observation?patient=x"}
		given := map[string]int{}
		last := ""
		for pages := 0; ; pages++ {
			page, cursor, told, err := p.cut(now)
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range page {
				given[r.ID()]++
				last = r.ID()
			}
			if p.after == "" && len(told) > 0 {
				t.Fatal("a first page cannot have changed")
			}
			if cursor == "" {
				break
			}
			if pages > 40 {
				t.Fatal("the pages do not end")
			}
			p.after = cursor
			was := slices.Clone(now)
			if len(now) < 30 && rapid.Bool().Draw(t, "written") {
				add(rapid.IntRange(0, len(now)).Draw(t, "where"))
			}
			if rapid.Bool().Draw(t, "taken away") {
				if i := rapid.IntRange(0, len(now)-1).Draw(t, "which"); now[i].ID() != last { // if the last is gone, the place is a guess
					delete(stays, now[i].ID())
					now = slices.Delete(now, i, i+1)
				}
			}
			changed := !slices.Equal(was, now)
			if _, _, told, err := p.cut(now); err != nil || (len(told) > 0) != changed {
				t.Fatalf("changed %v, told %d times (%v)", changed, len(told), err)
			}
		}
		for id := range stays {
			if given[id] != 1 {
				t.Fatalf("%s was given %d times", id, given[id])
			}
		}
	})
	for _, cursor := range []string{"x", "1.2.3", "zz.00000000.00000000.o1", "-1.0.0.o", "....", "1.0.0.no id"} {
		if _, _, _, err := (joinedPage{size: 1, after: cursor, query: "Observation?"}).cut(nil); err == nil {
			t.Errorf("%q is taken for a cursor", cursor)
		}
	}
}
