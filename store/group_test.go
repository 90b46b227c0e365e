package store

import (
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"tombolo/fhir"
	"tombolo/kv"
	"tombolo/kv/enginetest"
	"tombolo/search"
)

// What the store promises an engine that keeps keys together (kv.Grouper): whatever the ids and values.
func TestKeysOfTheIndexMayBeKeptTogether(t *testing.T) {
	genID := rapid.OneOf(rapid.StringMatching(`[A-Za-z0-9.-]{1,64}`), rapid.StringMatching(`[-.0a]{1,3}`), rapid.StringMatching(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`))
	rapid.Check(t, func(r *rapid.T) {
		value := rapid.String().Draw(r, "value")
		part := patientPart(genID.Draw(r, "patient"))
		at := func() place { return place{part, genID.Draw(r, "id")} }
		a, b := indexKey("Observation", "code", value, at()), indexKey("Observation", "code", value, at())
		n := stem(a)
		if n <= 0 || n >= len(a.Key) || stem(b) != n || a.Key[:n] != b.Key[:n] {
			r.Fatalf("%q and %q begin with %d and %d", a.Key, b.Key, n, stem(b))
		}
		if a != b && strings.HasPrefix(a.Key, b.Key) {
			r.Fatalf("%q begins as %q", a.Key, b.Key)
		}
		for _, behind := range []string{"", "\x00", "\xff", "\x00\x00\x01"} {
			if got := stem(kv.Key{Part: a.Part, Key: a.Key[:n] + behind}); got != n {
				r.Fatalf("%q has a stem of %d, want %d", a.Key[:n]+behind, got, n)
			}
		}
		if rest := a.Key[n:]; rest[0] == 0 && (len(rest) == 1 || rest[1] < 0x20) {
			r.Fatalf("%q is left of a key", rest)
		}
		short := a.Key[:rapid.IntRange(0, n-1).Draw(r, "cut")]
		if got := stem(kv.Key{Part: a.Part, Key: short}); got != 0 {
			r.Fatalf("%q, the beginning of a stem, has a stem of %d", short, got)
		}
		if got := stem(indexKey("Observation", "code", value, place{"s/rx1", genID.Draw(r, "id")})); got != 0 {
			r.Fatalf("what is nobody's has a stem of %d", got)
		}
		if got := stem(currentKey(part, "Observation/a")); got >= 0 {
			r.Fatalf("a record's key has a stem of %d", got)
		}
	})
}

// An engine that does not keep keys together, as none did once.
type apart struct{ kv.Engine }

// A store whose index was written when each key stood by itself is searched, written to and verified as it is, and `store reindex` brings the keys together.
func TestAnIndexOfSingleKeysIsBroughtTogether(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	engine := enginetest.Open(t, dir)
	if _, ok := engine.(kv.Grouper); !ok {
		t.Skip("this engine keeps what begins alike together by itself")
	}
	times := new(clock)
	db, err := Open(Options{Engine: apart{engine}, Now: times.now})
	if err != nil {
		t.Fatal(err)
	}
	village(t, db, 12)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if db, err = Open(Options{Engine: enginetest.Open(t, dir), Now: times.now}); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	keys := verified(t, db).Counts.IndexKeys
	finds := func(when, status string, want int) {
		t.Helper()
		p, err := db.Search(t.Context(), search.Query{Type: "Observation", Count: 100, Params: []search.Param{{Name: "status", Values: []string{status}}, {Name: "code", Values: []string{fhir.SystemSNOMED + "|code1"}}}})
		if err != nil {
			t.Fatal(err)
		}
		if r := verified(t, db); !r.OK() || len(p.Resources) != want {
			t.Errorf("%s: %d are found, want %d; %s", when, len(p.Resources), want, r)
		}
	}
	finds("as it was written", "amended", 12)
	home := Home{Source: "rx1-pas", Patient: "ann05", Heading: "results"}
	put(t, db, home, bloodResult("ann05", 1, "final"))
	put(t, db, home, bloodResult("ann05", 9, "final"))
	finds("written to", "amended", 11)
	did, err := db.Reindex(t.Context(), nil)
	if err != nil || did.Grouped < keys/2 || did.Added+did.Removed > 0 {
		t.Errorf("%d keys: %s (%v)", keys, did, err)
	}
	finds("brought together", "amended", 11)
	put(t, db, home, bloodResult("ann05", 1, "amended"))
	finds("written to again", "amended", 12)
	if did, err = db.Reindex(t.Context(), nil); err != nil || did.Grouped+did.Added+did.Removed > 0 {
		t.Errorf("once more: %s (%v)", did, err)
	}
}
