package store

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"tombolo/fhir"
	"tombolo/kv"
	"tombolo/kv/enginetest"
	"tombolo/kv/pebble"
	"tombolo/search"
)

// village fills a store with people, organisations, changes, a deletion, a return from deletion and a move to another record.
func village(t tb, db *DB, people int) {
	t.Helper()
	for p := range people {
		id := fmt.Sprintf("ann%02d", p)
		home := Home{Source: "rx1-pas", Patient: id, Heading: "results"}
		put(t, db, home, fhir.New("Patient", id, fhir.M{"identifier": []fhir.Identifier{{System: "urn:local", Value: fmt.Sprint(p)}},
			"name": []fhir.M{{"family": "Smith"}}, "birthDate": "1950-02-03"}))
		for i := range 4 {
			put(t, db, home, bloodResult(id, i, "final"))
		}
		put(t, db, home, bloodResult(id, 1, "amended"))
	}
	put(t, db, Home{Source: "rx1-pas"}, fhir.New("Organization", "ward7", fhir.M{"name": "Ward 7"}))
	remove(t, db, "Observation/ann00-2")
	remove(t, db, "Observation/ann01-2")
	put(t, db, Home{Source: "rx1-pas", Patient: "ann01", Heading: "results"}, bloodResult("ann01", 2, "final"))
	put(t, db, Home{Source: "rx1-pas", Patient: "ann02", Heading: "results"}, bloodResult("ann01", 3, "final"))
}

func bloodResult(patient string, n int, status string) *fhir.Resource {
	return fhir.New("Observation", fmt.Sprintf("%s-%d", patient, n), fhir.M{"status": status, "subject": fhir.Reference{Reference: "Patient/" + patient},
		"code": fhir.Code(fhir.SystemSNOMED, fmt.Sprint("code", n), "words"), "effectiveDateTime": fmt.Sprintf("2020-03-%02d", n+1)})
}

func verified(t *testing.T, db *DB) *Report {
	t.Helper()
	r, err := db.Verify(t.Context(), nil)
	if err != nil {
		t.Fatalf("Verify: %v", err)
	}
	return r
}

func commitTo(t *testing.T, db *DB, b kv.Batch) {
	t.Helper()
	if _, err := db.engine.Commit(t.Context(), b); err != nil {
		t.Fatal(err)
	}
}

func valueAt(t *testing.T, db *DB, k kv.Key) []byte {
	t.Helper()
	v, ok, err := db.engine.Get(t.Context(), k)
	if err != nil || !ok {
		t.Fatalf("nothing stands at %q: %v", k, err)
	}
	return v
}

func TestAWholeStoreVerifies(t *testing.T) {
	db, _ := fresh(t)
	if r := verified(t, db); !r.OK() {
		t.Errorf("an empty store: %s", r)
	}
	village(t, db, 20)
	r := verified(t, db)
	if !r.OK() {
		t.Errorf("a store that nobody touched: %s", r)
	}
	c := r.Counts
	// 20 patients and an organisation; 80 results, one deleted; 20 were amended, one deleted twice over and one moved.
	if c.Resources["Patient"] != 20 || c.Resources["Observation"] != 79 || c.Patients != 20 || c.Deleted != 1 || c.Events != c.Versions || c.Versions != 101+20+3+2 || c.IndexKeys < 400 {
		t.Errorf("counts: %+v", c)
	}
	stats, err := db.Stats(t.Context(), nil)
	if err != nil || stats.String() != c.String() || !strings.Contains(stats.String(), "79 Observation") {
		t.Errorf("stats are %v, %v", stats, err)
	}
}

// Each kind of damage done to a real store is found, named by its resource, and what is derived is mended by Reindex. mended lists
// what is left after it.
func TestDamageIsFound(t *testing.T) {
	ref := fhir.Ref("Observation/ann03-1")
	now := currentKey("p/ann03", ref)
	spoil := func(t *testing.T, db *DB, k kv.Key, at int) kv.Batch {
		v := slices.Clone(valueAt(t, db, k))
		v[(at+len(v))%len(v)] ^= 0x04
		return kv.Batch{Put: []kv.Entry{{Key: k, Value: v}}}
	}
	codeKey := func(id string) kv.Key {
		return indexKey("Observation", "code", "code1|"+fhir.SystemSNOMED, place{kv.Part("p/" + id), id + "-1"})
	}
	for name, c := range map[string]struct {
		damage func(t *testing.T, db *DB) kv.Batch
		want   []Damage
		names  string
		left   []Damage
	}{
		"a flipped bit in a body": {func(t *testing.T, db *DB) kv.Batch { return spoil(t, db, now, -20) },
			[]Damage{DamagedVersion}, string(ref), []Damage{DamagedVersion}},
		"a flipped bit in history": {func(t *testing.T, db *DB) kv.Batch { return spoil(t, db, historyKey("p/ann03", ref, 1), -20) },
			[]Damage{DamagedVersion}, string(ref) + ", version 1", []Damage{DamagedVersion}},
		"another resource's content": {func(t *testing.T, db *DB) kv.Batch {
			return kv.Batch{Put: []kv.Entry{{Key: now, Value: valueAt(t, db, currentKey("p/ann04", "Observation/ann04-1"))}}}
		}, []Damage{DamagedVersion}, string(ref), []Damage{DamagedVersion}},
		"a missing index key": {func(t *testing.T, db *DB) kv.Batch {
			valueAt(t, db, codeKey("ann03"))
			return kv.Batch{Delete: []kv.Key{codeKey("ann03")}}
		}, []Damage{MissingIndexKey}, string(ref) + " is not found by Observation/code", nil},
		"a stale index key": {func(t *testing.T, db *DB) kv.Batch {
			return kv.Batch{Put: []kv.Entry{{Key: indexKey("Observation", "code", "other|", place{"p/ann03", "ann03-1"})}}}
		}, []Damage{StaleIndexKey}, string(ref) + " would be found by a value of Observation/code", nil},
		"an index key of nothing": {func(t *testing.T, db *DB) kv.Batch {
			return kv.Batch{Put: []kv.Entry{{Key: indexKey("Observation", "code", "x", place{"p/nobody", "nothing"})}}}
		}, []Damage{StaleIndexKey}, "Observation/nothing", nil},
		"an index key of a parameter that is not known": {func(t *testing.T, db *DB) kv.Batch {
			return kv.Batch{Put: []kv.Entry{{Key: indexKey("Observation", "made-up", "x", place{"p/ann03", "ann03-1"})}}}
		}, []Damage{StaleIndexKey}, string(indexPart("Observation", "made-up")), nil},
		"one index key instead of another": {func(t *testing.T, db *DB) kv.Batch {
			return kv.Batch{Delete: []kv.Key{codeKey("ann03")}, Put: []kv.Entry{{Key: indexKey("Observation", "code", "other|", place{"p/ann03", "ann03-1"})}}}
		}, []Damage{MissingIndexKey, StaleIndexKey}, string(ref), nil},
		"a record that is not listed": {func(t *testing.T, db *DB) kv.Batch {
			return kv.Batch{Delete: []kv.Key{{Part: cataloguePart, Key: "p/ann03"}}}
		}, []Damage{WrongCatalogue}, "p/ann03", nil},
		"an entry that speaks of another version": {func(t *testing.T, db *DB) kv.Batch {
			e, _ := decodeEntry(valueAt(t, db, idKey(ref)))
			e.version = 1
			return kv.Batch{Put: []kv.Entry{{Key: idKey(ref), Value: e.encode()}}}
		}, []Damage{WrongEntry}, string(ref), nil},
		"an entry that speaks of another record": {func(t *testing.T, db *DB) kv.Batch {
			e, _ := decodeEntry(valueAt(t, db, idKey(ref)))
			e.part = "p/ann04"
			return kv.Batch{Put: []kv.Entry{{Key: idKey(ref), Value: e.encode()}}}
		}, []Damage{MissingVersion, WrongEntry}, string(ref), nil},
		"an entry of another content": {func(t *testing.T, db *DB) kv.Batch { return spoil(t, db, idKey(ref), hashAt+3) }, []Damage{WrongEntry}, string(ref), nil},
		"an entry that says deleted":  {func(t *testing.T, db *DB) kv.Batch { return spoil(t, db, idKey(ref), 0) }, []Damage{WrongEntry}, string(ref), nil},
		"no entry": {func(t *testing.T, db *DB) kv.Batch { return kv.Batch{Delete: []kv.Key{idKey(ref)}} },
			[]Damage{WrongEntry}, string(ref), nil},
		"no entry of what was deleted": {func(t *testing.T, db *DB) kv.Batch {
			return kv.Batch{Delete: []kv.Key{idKey("Observation/ann00-2")}}
		}, []Damage{WrongEntry}, "Observation/ann00-2", nil},
		"no entry of what was moved": {func(t *testing.T, db *DB) kv.Batch {
			return kv.Batch{Delete: []kv.Key{idKey("Observation/ann01-3")}}
		}, []Damage{WrongEntry}, "Observation/ann01-3", nil},
		"a lost version": {func(t *testing.T, db *DB) kv.Batch {
			return kv.Batch{Delete: []kv.Key{historyKey("p/ann03", ref, 1)}}
		}, []Damage{LogDiffers, MissingVersion}, string(ref) + ", version 1", []Damage{LogDiffers, MissingVersion}},
		"a lost resource": {func(t *testing.T, db *DB) kv.Batch { return kv.Batch{Delete: []kv.Key{now}} },
			[]Damage{LogDiffers, MissingVersion, StaleIndexKey, WrongCount}, string(ref), []Damage{LogDiffers, MissingVersion}},
		"an event that nothing was done for": {func(t *testing.T, db *DB) kv.Batch {
			return kv.Batch{Append: [][]byte{[]byte(`{"k":"created","r":"Observation/never","s":"x","v":1,"t":"2026-04-01T09:00:00Z"}`)}}
		}, []Damage{LogDiffers}, "Observation/never", []Damage{LogDiffers}},
		"an event that cannot be read": {func(t *testing.T, db *DB) kv.Batch { return kv.Batch{Append: [][]byte{[]byte("{")}} },
			[]Damage{DamagedEvent}, "event ", []Damage{DamagedEvent}},
		"a count of codes that is wrong": {func(t *testing.T, db *DB) kv.Batch {
			return kv.Batch{Add: []kv.Sum{{Key: kv.Key{Part: counterPart("Observation", "code"), Key: indexValue("Observation", "code", "code1|"+fhir.SystemSNOMED)}, By: -1}}}
		}, []Damage{WrongCount}, "Observation/code", nil},
		"a strange key": {func(t *testing.T, db *DB) kv.Batch {
			return kv.Batch{Put: []kv.Entry{{Key: kv.Key{Part: "p/ann03", Key: "z/what"}}}}
		}, []Damage{UnknownKey}, "p/ann03", []Damage{UnknownKey}},
	} {
		t.Run(name, func(t *testing.T) {
			db, ctx := fresh(t)
			village(t, db, 6)
			commitTo(t, db, c.damage(t, db))
			r := verified(t, db)
			if got := kindsOf(r); !slices.Equal(got, c.want) {
				t.Errorf("found %v, want %v:\n%s", got, c.want, r)
			}
			if !strings.Contains(r.String(), c.names) || !strings.Contains(r.String(), "To mend it: ") {
				t.Errorf("the report does not speak of %q:\n%s", c.names, r)
			}
			if strings.Contains(r.String(), "code1") || strings.Contains(r.String(), "Smith") {
				t.Errorf("the report shows content:\n%s", r)
			}
			did, err := db.Reindex(ctx, nil)
			if err != nil {
				t.Fatalf("Reindex: %v", err)
			}
			if r := verified(t, db); !slices.Equal(kindsOf(r), c.left) {
				t.Errorf("after %sfound %v, want %v:\n%s", did, kindsOf(r), c.left, r)
			}
			if !slices.Contains(c.left, DamagedVersion) && !slices.Contains(c.left, MissingVersion) {
				put(t, db, annAtPAS, bloodResult("ann03", 9, "final"))
				if _, err := db.Update(ctx, func(tx Tx) error {
					_, err := tx.Put(ctx, Home{Source: "rx1-pas", Patient: "ann03", Heading: "results"}, bloodResult("ann03", 1, "corrected"))
					return err
				}); err != nil {
					t.Errorf("what was mended cannot be written: %v", err)
				}
			}
		})
	}
}

func kindsOf(r *Report) []Damage {
	var out []Damage
	for d := range r.Found {
		out = append(out, d)
	}
	slices.Sort(out)
	return out
}

// An index that was lost altogether is made again while others write, and an interrupted Reindex goes on.
func TestReindexGoesOnBesideWriters(t *testing.T) {
	db, ctx := fresh(t)
	village(t, db, 30)
	dropIndex(t, db)
	for i := range 10 { // a stale one for good measure
		commitTo(t, db, kv.Batch{Put: []kv.Entry{{Key: indexKey("Patient", "family", "old", place{"p/ann05", fmt.Sprint("x", i)})}}})
	}
	stopped, stop := context.WithCancel(ctx)
	if _, err := db.Reindex(stopped, func(p Progress) {
		if p.Doing == "reindexing records" && p.Done == 10 {
			stop()
		}
	}); err == nil {
		t.Fatal("a Reindex that was interrupted said it was done")
	}
	done := make(chan error, 1)
	go func() {
		var err error
		for i := 0; i < 60 && err == nil; i++ {
			_, err = db.Update(ctx, func(tx Tx) error {
				_, err := tx.Put(ctx, Home{Source: "rx1-pas", Patient: fmt.Sprintf("ann%02d", i%30), Heading: "results"}, bloodResult(fmt.Sprintf("ann%02d", i%30), 0, fmt.Sprint("s", i)))
				return err
			})
		}
		done <- err
	}()
	did, err := db.Reindex(ctx, nil)
	if err != nil || !did.Resumed {
		t.Fatalf("Reindex: %+v, %v; want it to have gone on", did, err)
	}
	if err := <-done; err != nil {
		t.Fatalf("a writer beside Reindex: %v", err)
	}
	if r := verified(t, db); !r.OK() {
		t.Errorf("after %s%s", did, r)
	}
	if did, err = db.Reindex(ctx, nil); err != nil || did.Resumed || did.Added+did.Removed+did.Entries+did.Listed != 0 || did.Resources != 150 {
		t.Errorf("a Reindex of what is well did %+v, %v", did, err)
	}
}

func dropIndex(t *testing.T, db *DB) {
	t.Helper()
	s, err := db.engine.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var b kv.Batch
	for p, err := range s.Parts(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if !isIndex(p) {
			continue
		}
		for en := range s.Scan(t.Context(), []kv.Range{{Part: p}}, 0) {
			b.Delete = append(b.Delete, en.Key)
		}
	}
	commitTo(t, db, b)
}

// An index made by other rules is not relied on, until it was made again.
func TestASearchDoesNotRelyOnAStaleIndex(t *testing.T) {
	db, ctx := fresh(t)
	village(t, db, 3)
	dropIndex(t, db)
	commitTo(t, db, kv.Batch{Put: []kv.Entry{{Key: formatKey, Value: []byte(`{"format":1,"index":"other rules"}`)}}})
	if err := db.openFormat(ctx, false, formatNow, nil); err != nil || !db.IndexIsStale() {
		t.Fatalf("stale %v, %v", db.IndexIsStale(), err)
	}
	q := search.Query{Type: "Observation", Params: []search.Param{{Name: "code", Values: []string{"code1"}}}}
	for range 2 {
		if p, err := db.Search(ctx, q); err != nil || len(p.Resources) != 3 {
			t.Errorf("stale %v: found %d, %v; want 3", db.IndexIsStale(), len(p.Resources), err)
		}
		if _, err := db.Reindex(ctx, nil); err != nil {
			t.Fatal(err)
		}
	}
	if db.IndexIsStale() {
		t.Error("the index is still not relied on after Reindex")
	}
}

// Holes in the log are found wherever they are, and those who follow it are told at the hole.
func TestAHoleInTheLogIsFound(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	db := openDir(t, dir)
	village(t, db, 6)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	for _, at := range []kv.Position{4, 10, 11, 12} {
		enginetest.LoseEvent(t, dir, at)
	}
	db = openDir(t, dir)
	defer db.Close()
	r := verified(t, db)
	if got := kindsOf(r); !slices.Equal(got, []Damage{LogDiffers, LogGap}) || !strings.Contains(r.String(), "event 4 is missing") || !strings.Contains(r.String(), "events 10 to 12 are missing") {
		t.Errorf("found %v:\n%s", got, r)
	}
	n := 0
	var last error
	for _, err := range db.Since(t.Context(), 0) {
		if last = err; err == nil {
			n++
		}
	}
	if n != 3 || last == nil || !strings.Contains(last.Error(), "record 4 is missing") {
		t.Errorf("a follower read %d events and was then told %v", n, last)
	}
}

// Damage below the engine costs the reads that need it; Verify says where, and goes on.
func TestDamagedFilesAreFound(t *testing.T) {
	if enginetest.PostgreSQL() {
		t.Skip("of the embedded engine's files")
	}
	dir := filepath.Join(t.TempDir(), "store")
	db := openDir(t, dir)
	village(t, db, 60)
	_ = db.Close()
	_ = openDir(t, dir).Close() // opening writes what is in the write-ahead log into tables
	files, _ := filepath.Glob(filepath.Join(dir, "*.sst"))
	if len(files) == 0 {
		t.Fatal("the store has no tables")
	}
	// Which block lies where depends on when tables were written. A store whose newest records cannot be read is not opened at all, and says why;
	// damage anywhere else is found as it is come to.
	whole := map[string][]byte{}
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		whole[f] = data
	}
	db = nil
	for part := 2; db == nil && part < 12; part++ {
		for f, data := range whole {
			damaged := slices.Clone(data)
			damaged[len(data)/part] ^= 0x10
			if err := os.WriteFile(f, damaged, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		engine, err := pebble.Open(pebble.Options{Dir: dir})
		if err == nil {
			if db, err = Open(Options{Engine: engine}); err != nil {
				_ = engine.Close()
			}
		}
		if err != nil && !strings.Contains(err.Error(), "damaged") {
			t.Fatalf("a damaged store is refused without saying so: %v", err)
		}
	}
	if db == nil {
		t.Fatal("no damage leaves a store that can be opened")
	}
	defer db.Close()
	if r := verified(t, db); r.Found[Unreadable] == 0 || r.Counts.Events == 0 {
		t.Errorf("found %s", r)
	}
	if _, err := db.Stats(t.Context(), nil); err == nil {
		t.Error("Stats counted what cannot be read")
	}
}
