package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"tombolo/events"
	"tombolo/fhir"
	"tombolo/kv"
	"tombolo/kv/enginetest"
	"tombolo/search"
)

func TestUpdateIsAllOrNothing(t *testing.T) {
	db, ctx := fresh(t)
	stop := errors.New("changed my mind")
	_, err := db.Update(ctx, func(tx Tx) error {
		if _, err := tx.Put(ctx, annAtPAS, fhir.New("Observation", "a", nil)); err != nil {
			return err
		}
		tx.Bucket("seen").Put("k", []byte("v"))
		return stop
	})
	if !errors.Is(err, stop) {
		t.Errorf("Update: %v, want fn's own error", err)
	}
	_, err = db.Read(ctx, "Observation/a")
	wantIssue(t, "Read", err, fhir.NotFound)
	if _, ok, err := db.View("seen").Get(ctx, "k"); ok || err != nil {
		t.Errorf("bucket: there %v, %v", ok, err)
	}
	wantLines(t, "events", told(t, db))
}

// An early engine shows what is committed before it is kept; what is committed after it is kept after it.
type early struct {
	kv.Engine
	kept atomic.Pointer[chan struct{}] // closed when all is; nil: at once
}

func (e *early) Commit(ctx context.Context, b kv.Batch) (kv.Position, error) {
	at, err := e.Engine.Commit(ctx, b)
	if kept := e.kept.Load(); kept != nil && err == nil {
		<-*kept
	}
	return at, err
}

// Whoever is refused because of what somebody else has written may act on it, so it is not told while that may yet go with the process.
func TestARefusalIsToldOnceWhatItRestsOnIsDurable(t *testing.T) {
	engine := &early{Engine: enginetest.Open(t, t.TempDir())}
	db, err := Open(Options{Engine: engine})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	ctx, stale := t.Context(), errors.New("it is another version by now")
	put(t, db, annAtPAS, fhir.New("Observation", "a", fhir.M{"status": "preliminary"}))
	kept := make(chan struct{})
	engine.kept.Store(&kept)
	var both sync.WaitGroup
	both.Go(func() { put(t, db, annAtPAS, fhir.New("Observation", "a", fhir.M{"status": "final"})) })
	for {
		r, err := db.Read(ctx, "Observation/a")
		if err != nil {
			t.Fatal(err)
		}
		if r.Text("status") == "final" {
			break
		}
	}
	told := make(chan error)
	both.Go(func() {
		_, err := db.Update(ctx, func(tx Tx) error {
			if r, err := tx.Get(ctx, "Observation/a"); err != nil || r.Text("meta.versionId") == "1" {
				return err
			}
			return stale
		})
		told <- err
	})
	select {
	case err := <-told:
		t.Fatalf("told before it was kept: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	close(kept)
	if err := <-told; !errors.Is(err, stale) {
		t.Errorf("Update: %v, want fn's own error", err)
	}
	both.Wait()
}

// What is read one after the other may not have stood together, and no longer stand: nobody is refused by that.
func TestARefusalIsDecidedByWhatStands(t *testing.T) {
	db, ctx := fresh(t)
	put(t, db, annAtPAS, fhir.New("Observation", "a", fhir.M{"status": "preliminary"}))
	runs := 0
	_, err := db.Update(ctx, func(tx Tx) error {
		runs++
		r, err := tx.Get(ctx, "Observation/a")
		if err != nil || r.Text("status") == "final" {
			return err
		}
		put(t, db, annAtPAS, fhir.New("Observation", "a", fhir.M{"status": "final"}))
		return errors.New("not final")
	})
	if err != nil || runs != 2 {
		t.Errorf("Update: %v after %d runs, want none after 2", err, runs)
	}
}

// A transaction that puts more than is kept in trees sees what it put all the same, and stores it whole.
func TestALargeTransactionSeesItsOwnWrites(t *testing.T) {
	db, ctx := fresh(t)
	const n = 60 // three times as much
	long := strings.Repeat("QUJD", mostHeld*3/n/4)
	binary := func(i int) *fhir.Resource {
		return fhir.New("Binary", strconv.Itoa(i), fhir.M{"contentType": "text/plain", "data": long, "language": fmt.Sprint("x-", i)})
	}
	if _, err := db.Update(ctx, func(tx Tx) error {
		for i := range n {
			if changed, err := tx.Put(ctx, annAtPAS, binary(i)); err != nil || !changed {
				t.Errorf("%d: changed %v, %v", i, changed, err)
			}
		}
		if changed, err := tx.Put(ctx, annAtPAS, binary(n-1)); err != nil || changed {
			t.Errorf("the last again: changed %v, %v", changed, err)
		}
		if err := tx.Delete(ctx, "Binary/7"); err != nil {
			return err
		}
		_, err := tx.Get(ctx, "Binary/7")
		wantIssue(t, "what was put and deleted", err, fhir.Deleted)
		if r, err := tx.Get(ctx, fhir.MakeRef("Binary", strconv.Itoa(n-1))); err != nil || r.Text("language") != fmt.Sprint("x-", n-1) {
			t.Errorf("the last is %v, %v", r, err)
		}
		if put, deleted := tx.Pending("Binary"); len(put) != n-1 || put[n-2].Text("language") != fmt.Sprint("x-", n-1) || len(deleted) != 1 {
			t.Errorf("%d are pending and %d deleted", len(put), len(deleted))
		}
		if put, _ := tx.Pending("Basic"); len(put) != 0 {
			t.Errorf("%d of another type are pending", len(put))
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	for i := range n {
		r, err := db.Read(ctx, fhir.MakeRef("Binary", strconv.Itoa(i)))
		if i == 7 {
			wantIssue(t, "Read", err, fhir.NotFound)
		} else if err != nil || r.Text("data") != long || r.Text("language") != fmt.Sprint("x-", i) {
			t.Errorf("Binary/%d was read as %v, %v", i, r, err)
		}
	}
	// However many are asked for, a page ends when it is full.
	for _, sort := range [][]search.SortKey{nil, {{Name: "_id"}}} {
		seen, pages, q := 0, 0, search.Query{Type: "Binary", Count: 1000, Sort: sort}
		for {
			page, err := db.Search(ctx, q)
			if err != nil {
				t.Fatal(err)
			}
			size := 0
			for _, r := range page.Resources {
				size += len(r.Raw())
			}
			if size > pageBytes+mostHeld {
				t.Errorf("a page of %d bytes", size)
			}
			seen, pages = seen+len(page.Resources), pages+1
			if q.Cursor = page.Next; q.Cursor == "" {
				break
			}
		}
		if seen != n-1 || pages < 2 {
			t.Errorf("%d in %d pages, want %d", seen, pages, n-1)
		}
	}
}

func TestTxSeesItsOwnWrites(t *testing.T) {
	db, ctx := fresh(t)
	if _, err := db.Update(ctx, func(tx Tx) error {
		b := tx.Bucket("mpi")
		b.Put("p/1", []byte("one"))
		b.Put("p/2", []byte("two"))
		b.Put("q/1", []byte("other"))
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Update(ctx, func(tx Tx) error {
		b := tx.Bucket("mpi")
		b.Put("p/1", []byte("ONE"))
		b.Delete("p/2")
		b.Put("p/3", nil)
		got := map[string]string{}
		for it, err := range b.Scan(ctx, "p/") {
			if err != nil {
				return err
			}
			got[it.Key] = string(it.Value)
		}
		if len(got) != 2 || got["p/1"] != "ONE" || got["p/3"] != "" {
			t.Errorf("Scan inside: %v", got)
		}
		values, err := b.MultiGet(ctx, "p/1", "p/2", "p/3", "q/1", "none")
		if err != nil || string(values[0]) != "ONE" || values[1] != nil || values[2] == nil || string(values[3]) != "other" || values[4] != nil {
			t.Errorf("MultiGet inside: %q, %v", values, err)
		}
		if _, ok, _ := b.Get(ctx, "p/2"); ok {
			t.Error("Get inside finds what was deleted")
		}
		obs := fhir.New("Observation", "a", nil)
		if _, err := tx.Get(ctx, obs.Ref()); !fhir.Is(err, fhir.NotFound) {
			t.Errorf("Get before Put: %v", err)
		}
		if _, err := tx.Put(ctx, annAtPAS, obs); err != nil {
			return err
		}
		if r, err := tx.Get(ctx, obs.Ref()); err != nil || r.Ref() != obs.Ref() {
			t.Errorf("Get after Put: %v, %v", r, err)
		}
		if v, err := tx.Version(ctx, obs.Ref()); err != nil || v != 1 {
			t.Errorf("Version after Put: %d, %v", v, err)
		}
		if err := tx.Delete(ctx, obs.Ref()); err != nil {
			return err
		}
		if _, err := tx.Get(ctx, obs.Ref()); !fhir.Is(err, fhir.Deleted) {
			t.Errorf("Get after Delete: %v", err)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	var items []string
	for it, err := range db.View("mpi").Scan(ctx, "") {
		if err != nil {
			t.Fatal(err)
		}
		items = append(items, it.Key+"="+string(it.Value))
	}
	wantLines(t, "bucket", items, "p/1=ONE", "p/3=", "q/1=other")
	wantLines(t, "what was put and deleted in one transaction left no event", told(t, db))
}

func TestConcurrentUpdatesLoseNothing(t *testing.T) {
	db, ctx := fresh(t)
	const workers, rounds = 6, 15
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for range rounds {
				if _, err := db.Update(ctx, func(tx Tx) error {
					b := tx.Bucket("counter")
					v, _, err := b.Get(ctx, "n")
					if err != nil {
						return err
					}
					n, _ := strconv.Atoi(string(v))
					b.Put("n", strconv.AppendInt(nil, int64(n+1), 10))
					_, err = tx.Put(ctx, annAtPAS, fhir.New("Observation", "a", fhir.M{"valueInteger": n + 1}))
					return err
				}); err != nil && !fhir.Is(err, fhir.Conflict) {
					t.Error(err)
				} else if err != nil {
					t.Log("gave up after many conflicts, as it may") // counted below
				}
			}
		})
	}
	wg.Wait()
	r, err := db.Read(ctx, "Observation/a")
	if err != nil {
		t.Fatal(err)
	}
	v, _, _ := db.View("counter").Get(ctx, "n")
	if r.Text("valueInteger") != string(v) || r.Text("meta.versionId") != string(v) || len(told(t, db)) != mustInt(t, v) {
		t.Errorf("counter %s, resource %s, version %s, %d events: they committed together, so all must be equal",
			v, r.Text("valueInteger"), r.Text("meta.versionId"), len(told(t, db)))
	}
}

func mustInt(t *testing.T, b []byte) int {
	t.Helper()
	n, err := strconv.Atoi(string(b))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// doubtful is an engine whose commits say that they failed: every second one after it was written, the others before.
type doubtful struct {
	kv.Engine
	n int
}

func (d *doubtful) Commit(ctx context.Context, b kv.Batch) (kv.Position, error) {
	d.n++
	if d.n%2 == 0 {
		if _, err := d.Engine.Commit(ctx, b); err != nil {
			return 0, err
		}
	}
	return 0, errors.New("input/output error")
}

// "Error" does not mean "not stored": whoever is told so does it again, and must come to the same state.
func TestDoingItAgainAfterADoubtfulCommit(t *testing.T) {
	db, ctx := fresh(t)
	good := db.engine
	bad := &doubtful{Engine: good}
	obs := fhir.New("Observation", "a", fhir.M{"status": "final"})
	for _, e := range []kv.Engine{bad, bad, bad, good} {
		db.engine = e
		_, err := db.Update(ctx, func(tx Tx) error {
			_, err := tx.Put(ctx, annAtPAS, obs)
			return err
		})
		if e == bad {
			wantIssue(t, "a commit that may or may not have been written", err, fhir.NoStore)
		} else if err != nil {
			t.Fatal(err)
		}
	}
	wantLines(t, "events", told(t, db), "created Observation/a v1 of ann from rx1-pas under observations")
	wantLines(t, "record", person(t, db, "ann"), "Observation/a@1")
}

func TestPrefetchAndPagesOfABucket(t *testing.T) {
	db, ctx := fresh(t)
	if _, err := db.Update(ctx, func(tx Tx) error {
		if err := tx.Prefetch(ctx, "Observation/a", "Observation/b"); err != nil {
			return err
		}
		for _, id := range []string{"a", "b"} {
			if changed, err := tx.Put(ctx, annAtPAS, fhir.New("Observation", id, nil)); err != nil || !changed {
				return fmt.Errorf("put after prefetch: changed %v: %w", changed, err)
			}
			tx.Bucket("desk").Put("k"+id, []byte(id))
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	wantLines(t, "record", person(t, db, "ann"), "Observation/a@1", "Observation/b@1")
	desk := db.View("desk")
	var page []string
	for it, err := range desk.ScanFrom(ctx, "ka\x00", 1) {
		if err != nil {
			t.Fatal(err)
		}
		page = append(page, it.Key)
	}
	wantLines(t, "second page", page, "kb")
	if v, err := desk.MultiGet(ctx, "kb", "kc"); err != nil || string(v[0]) != "b" || v[1] != nil {
		t.Errorf("MultiGet: %q, %v", v, err)
	}
}

// A resource that somebody else changes between two reads of one Tx makes it start over, not fail.
func TestUpdateStartsOverWhenOthersWrite(t *testing.T) {
	db, ctx := fresh(t)
	obs := fhir.New("Observation", "a", fhir.M{"status": "preliminary"})
	put(t, db, annAtPAS, obs)
	var saw []string
	if _, err := db.Update(ctx, func(tx Tx) error {
		if err := tx.Prefetch(ctx, obs.Ref()); err != nil {
			return err
		}
		if len(saw) == 0 {
			saw = append(saw, "somebody else writes")
			put(t, db, annAtPAS, obs.With("status", "final"))
		}
		r, err := tx.Get(ctx, obs.Ref())
		if err != nil {
			return err
		}
		saw = append(saw, r.Text("status"))
		_, err = tx.Put(ctx, annAtPAS, r.With("note", []fhir.M{{"text": "seen"}}))
		return err
	}); err != nil {
		t.Fatal(err)
	}
	wantLines(t, "the transaction", saw, "somebody else writes", "final")
	if r, err := db.Read(ctx, obs.Ref()); err != nil || r.Text("status") != "final" || r.Text("note.text") != "seen" || r.Text("meta.versionId") != "3" {
		t.Errorf("in the end: %v, %v", r, err)
	}
}

// Every event reads back as it was written, whatever it tells of.
func TestAnEventReadsBackAsItWasWritten(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := events.Event{Kind: rapid.SampledFrom([]events.Kind{events.Created, events.Updated, events.Deleted}).Draw(t, "kind"), Ref: fhir.Ref(rapid.String().Draw(t, "ref")),
			Patient: rapid.String().Draw(t, "patient"), Source: rapid.String().Draw(t, "source"), Heading: rapid.String().Draw(t, "heading"), Version: rapid.IntRange(0, 1<<40).Draw(t, "version"),
			At: time.Unix(rapid.Int64Range(0, 1<<33).Draw(t, "s"), rapid.Int64Range(0, 999_999_999).Draw(t, "ns")).In(rapid.SampledFrom([]*time.Location{time.UTC, fhir.London}).Draw(t, "zone"))}
		raw, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		got, err := decodeEvent(raw)
		if err != nil || !got.At.Equal(want.At) {
			t.Fatalf("%s is read as %v (%v)", raw, got, err)
		}
		if got.At = want.At; got != want {
			t.Fatalf("%s is read as %+v", raw, got)
		}
	})
}
