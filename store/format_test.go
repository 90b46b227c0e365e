package store

import (
	"context"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tombolo/fhir"
	"tombolo/kv"
	"tombolo/kv/enginetest"
	"tombolo/search"
)

// With -keep VERSION, the tests write a small store of this version of the program into testdata/VERSION, for all later ones to open:
//
//	go test ./store -run TestStoresOfEarlierVersions -keep 0.1.0
//	TOMBOLO_TEST_ENGINE=postgres go test ./store -run TestStoresOfEarlierVersions -keep 0.1.0
//
// It is run once for a release and its files are committed, and never written again.
var keep = flag.String("keep", "", "the version of which a small store is to be kept in testdata")

func engineHere() string {
	if enginetest.PostgreSQL() {
		return "postgres"
	}
	return "pebble"
}

// keptStore writes testdata/VERSION/ENGINE, a checkpoint, and content.txt, what is in it.
func keptStore(t *testing.T, version string) {
	db, ctx := fresh(t)
	village(t, db, 4)
	if _, err := db.Update(ctx, func(tx Tx) error {
		tx.Bucket("room").Put("key", []byte("value"))
		tx.SaveCursor("mpi", 7)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if version == "0.1.0" { // which did not write its format
		commitTo(t, db, kv.Batch{Delete: []kv.Key{formatKey}})
	}
	if !enginetest.PostgreSQL() { // once closed and opened, it is in tables and not in the write-ahead log alone
		at := filepath.Join(t.TempDir(), "flushed")
		if err := db.Checkpoint(ctx, at); err != nil {
			t.Fatal(err)
		}
		flushed := enginetest.Open(t, at)
		defer flushed.Close()
		db = &DB{engine: flushed, now: db.now, limits: db.limits}
	}
	dir := filepath.Join("testdata", version)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := db.Checkpoint(ctx, filepath.Join(dir, engineHere())); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "content.txt"), []byte(contentOf(t, db)), 0o644); err != nil {
		t.Fatal(err)
	}
}

// contentOf is every version of every resource and the log, a line each.
func contentOf(t *testing.T, db *DB) string {
	t.Helper()
	var b strings.Builder
	for e, err := range db.Since(t.Context(), 0) {
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "%d %s %s v%d of %q\n", e.Seq, e.Kind, e.Ref, e.Version, e.Patient)
		if e.Version > 1 {
			continue
		}
		history, err := db.History(t.Context(), e.Ref)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range history {
			fmt.Fprintf(&b, "  v%d %s deleted=%v %s %s %x\n", s.Version, s.At.Format("15:04:05"), s.Deleted, s.Source, s.Heading, sha256.Sum256(s.Body))
		}
	}
	return b.String()
}

// Today's program opens what every released version wrote, shows the same of it, brings it up to date and goes on with it.
// A kv.Engine whose reads fail for a time, as those of a database that restarts do.
type away struct {
	kv.Engine
	reads int
}

func (a *away) Get(ctx context.Context, k kv.Key) ([]byte, bool, error) {
	if a.reads--; a.reads >= 0 {
		return nil, false, kv.ErrUnavailable
	}
	return a.Engine.Get(ctx, k)
}

func TestADatabaseThatRestartsWhileAStoreIsOpenedIsWaitedFor(t *testing.T) {
	db, err := Open(Options{Engine: &away{enginetest.Open(t, filepath.Join(t.TempDir(), "store")), 3}})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestStoresOfEarlierVersions(t *testing.T) {
	if *keep != "" {
		keptStore(t, *keep)
		return
	}
	versions, err := filepath.Glob("testdata/*/content.txt")
	if err != nil || len(versions) == 0 {
		t.Fatalf("no store of an earlier version is here: %v", err)
	}
	for _, file := range versions {
		version := filepath.Base(filepath.Dir(file))
		t.Run(version, func(t *testing.T) {
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			dir := filepath.Join(t.TempDir(), "store")
			if err := os.CopyFS(dir, os.DirFS(filepath.Join(filepath.Dir(file), engineHere()))); err != nil {
				t.Fatal(err)
			}
			db := openDir(t, dir)
			if got := contentOf(t, db); got != string(want) {
				t.Errorf("what it holds:\n%s\nwant:\n%s", got, want)
			}
			found := func() int {
				t.Helper()
				p, err := db.Search(t.Context(), search.Query{Type: "Observation", Params: []search.Param{{Name: "code", Values: []string{fhir.SystemSNOMED + "|code1"}}}})
				if err != nil {
					t.Fatal(err)
				}
				return len(p.Resources)
			}
			before := found()
			if _, err := db.Reindex(t.Context(), nil); err != nil {
				t.Fatal(err)
			}
			if r := verified(t, db); !r.OK() || db.IndexIsStale() || r.Counts.Kinds["former index"].Keys > 0 || r.Counts.Kinds["index"].Keys == 0 {
				t.Errorf("stale %v, %s", db.IndexIsStale(), r)
			}
			if after := found(); before == 0 || after != before {
				t.Errorf("a search found %d before it was indexed anew, and %d afterwards", before, after)
			}
			if v, ok, err := db.View("room").Get(t.Context(), "key"); err != nil || !ok || string(v) != "value" {
				t.Errorf("a room's key is %q, %v, %v", v, ok, err)
			}
			put(t, db, annAtPAS, bloodResult("ann", 1, "final"))
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
			db = openDir(t, dir)
			defer db.Close()
			if r := verified(t, db); !r.OK() || db.IndexIsStale() || r.Counts.Kinds["format"].Keys != 1 {
				t.Errorf("opened again: stale %v, %s", db.IndexIsStale(), r)
			}
		})
	}
}

// A step to another format that is interrupted is made again at the next start, nothing is made twice, and an older program keeps its hands off.
func TestAFormatMigratesForward(t *testing.T) {
	db, ctx := fresh(t)
	village(t, db, 2)
	runs := map[int]int{}
	var fault error
	step := func(from int) migration {
		return migration{from, "a trial", func(ctx context.Context, e kv.Engine) error {
			runs[from]++
			if from == 2 && fault != nil {
				return fault
			}
			_, err := e.Commit(ctx, kv.Batch{Put: []kv.Entry{{Key: kv.Key{Part: "f", Key: fmt.Sprint("step", from)}}}})
			return err
		}}
	}
	steps := []migration{step(1), step(2)}
	fault = errors.New("power cut")
	if err := db.openFormat(ctx, false, 3, steps); err == nil || !strings.Contains(err.Error(), "power cut") || !strings.Contains(err.Error(), "tried again") {
		t.Fatalf("a step that fails: %v", err)
	}
	if err := db.openFormat(ctx, true, 3, steps); err == nil || !strings.Contains(err.Error(), "open it for writing") {
		t.Errorf("read only in an older format: %v", err)
	}
	fault = nil
	for range 2 {
		if err := db.openFormat(ctx, false, 3, steps); err != nil {
			t.Fatal(err)
		}
	}
	if runs[1] != 1 || runs[2] != 2 {
		t.Errorf("the steps ran %v times, want the first once and the second twice", runs)
	}
	if db.IndexIsStale() {
		t.Error("a step took the index for stale")
	}
	if err := db.openFormat(ctx, false, 1, nil); err == nil || !strings.Contains(err.Error(), "format 3") {
		t.Errorf("an older program opened it: %v", err)
	}
	if err := db.openFormat(ctx, false, 5, steps); err == nil || !strings.Contains(err.Error(), "no way from format 3") {
		t.Errorf("a step that is missing: %v", err)
	}
}
