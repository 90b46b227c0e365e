package store

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"tombolo/events"
	"tombolo/fhir"
	"tombolo/kv"
	"tombolo/kv/enginetest"
	"tombolo/search"
)

// A clock goes on by a second each time it is looked at, from 09:00 on 1 April 2026.
type clock struct {
	mu sync.Mutex
	n  int
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n++
	return time.Date(2026, 4, 1, 9, 0, c.n, 0, time.UTC)
}

// tb is a *testing.T, a *testing.B or a *rapid.T.
type tb interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
	Errorf(format string, args ...any)
}

func openDir(t tb, dir string) *DB {
	t.Helper()
	db, err := Open(Options{Engine: enginetest.Open(t, dir), Now: new(clock).now})
	if err != nil {
		t.Fatal(err)
	}
	return db
}

func fresh(t testing.TB) (*DB, context.Context) {
	t.Helper()
	db := openDir(t, filepath.Join(t.TempDir(), "store"))
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return db, context.Background()
}

// All that is said of the store here holds on PostgreSQL too.
func TestOnPostgreSQL(t *testing.T) { enginetest.OnPostgreSQL(t) }

var annAtPAS = Home{Source: "rx1-pas", Patient: "ann", Heading: "observations"}

func parse(t tb, text string) *fhir.Resource {
	t.Helper()
	r, err := fhir.Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func put(t tb, db *DB, home Home, rs ...*fhir.Resource) (changed bool, seq events.Seq) {
	t.Helper()
	seq, err := db.Update(context.Background(), func(tx Tx) error {
		changed = false
		for _, r := range rs {
			c, err := tx.Put(context.Background(), home, r)
			if err != nil {
				return err
			}
			changed = changed || c
		}
		return nil
	})
	if err != nil {
		t.Fatalf("Update: %v", err)
	}
	return changed, seq
}

func remove(t tb, db *DB, ref fhir.Ref) events.Seq {
	t.Helper()
	seq, err := db.Update(context.Background(), func(tx Tx) error { return tx.Delete(context.Background(), ref) })
	if err != nil {
		t.Fatalf("Delete: %v", err)
	}
	return seq
}

// told is the log in words: "created Observation/a v1 of ann".
func told(t tb, db *DB) (out []string) {
	t.Helper()
	n := events.Seq(0)
	for e, err := range db.Since(context.Background(), 0) {
		if err != nil {
			t.Fatal(err)
		}
		if n++; e.Seq != n {
			t.Fatalf("event %d came where %d should be", e.Seq, n)
		}
		out = append(out, fmt.Sprintf("%s %s v%d of %s from %s under %s", e.Kind, e.Ref, e.Version, e.Patient, e.Source, e.Heading))
	}
	return out
}

// person reads a record out as "Type/id@version".
func person(t tb, db *DB, ids ...string) (out []string) {
	t.Helper()
	for r, err := range db.Patient(context.Background(), ids...) {
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, string(r.Ref())+"@"+r.Text("meta.versionId"))
	}
	return out
}

func wantLines(t tb, what string, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s:\n got %q\nwant %q", what, got, want)
	}
}

func wantIssue(t tb, what string, err error, want fhir.IssueType) {
	t.Helper()
	if !fhir.Is(err, want) {
		t.Errorf("%s: %v, want an issue of type %s", what, err, want)
	}
}

func TestWhatIsStoredIsWhatIsServed(t *testing.T) {
	db, ctx := fresh(t)
	in := "{\"resourceType\":\"Observation\",\n \"id\":\"a\", \"meta\":{\"versionId\":\"77\",\"source\":\"urn:x#1\",\"lastUpdated\":\"1999-01-01T00:00:00Z\"},\n" +
		` "status":"final", "code":{"text":"Blut\u0064ruck"}, "valueQuantity":{"value":1.0E+2}, "unknown":{"kept":[1,2]}}`
	put(t, db, annAtPAS, parse(t, in))
	want := strings.Replace(in, `{"versionId":"77","source":"urn:x#1","lastUpdated":"1999-01-01T00:00:00Z"}`,
		`{"versionId":"1","lastUpdated":"2026-04-01T09:00:01.000Z","source":"urn:x#1"}`, 1)
	r, err := db.Read(ctx, "Observation/a")
	if err != nil {
		t.Fatal(err)
	}
	if string(r.Raw()) != want {
		t.Errorf("Read:\n got %s\nwant %s", r.Raw(), want)
	}
	for s, err := range db.PatientRaw(ctx, "ann") {
		if err != nil || string(s.Body) != want || s.Source != "rx1-pas" || s.Heading != "observations" || s.Version != 1 || s.Deleted {
			t.Errorf("PatientRaw: %+v, %v", s, err)
		}
	}
	_, err = db.Read(ctx, "Observation/b")
	wantIssue(t, "Read of what never was", err, fhir.NotFound)
	_, err = db.History(ctx, "Observation/b")
	wantIssue(t, "History of what never was", err, fhir.NotFound)
	_, err = db.ReadVersion(ctx, "Observation/a", 2)
	wantIssue(t, "ReadVersion of what is not yet", err, fhir.NotFound)
}

func TestSameContentChangesNothing(t *testing.T) {
	db, ctx := fresh(t)
	obs := parse(t, `{"resourceType":"Observation","id":"a","status":"final","meta":{"source":"urn:x"}}`)
	_, first := put(t, db, annAtPAS, obs)
	for _, again := range []*fhir.Resource{
		obs,
		parse(t, `{"resourceType":"Observation","id":"a","status":"final","meta":{"versionId":"9","source":"urn:x","lastUpdated":"2020-01-01T00:00:00Z"}}`),
		parse(t, `{"meta":{"source":"urn:x"},"resourceType":"Observation","id":"a","status":"final"}`),
	} {
		if changed, seq := put(t, db, annAtPAS, again); changed || seq != first {
			t.Errorf("the same content again: changed %v, seq %d, want nothing changed and seq %d", changed, seq, first)
		}
	}
	served, err := db.Read(ctx, "Observation/a")
	if err != nil {
		t.Fatal(err)
	}
	if changed, _ := put(t, db, annAtPAS, served); changed {
		t.Error("storing what was served changed something")
	}
	// Put and taken back within one transaction is nothing either.
	seq, err := db.Update(ctx, func(tx Tx) error {
		if changed, err := tx.Put(ctx, annAtPAS, obs.With("status", "amended")); err != nil || !changed {
			return fmt.Errorf("changed %v, %w", changed, err)
		}
		changed, err := tx.Put(ctx, annAtPAS, obs)
		if !changed {
			return errors.New("putting the first content back over the second was said to change nothing")
		}
		return err
	})
	if err != nil || seq != first {
		t.Errorf("there and back: seq %d, %v; want %d", seq, err, first)
	}
	wantLines(t, "events", told(t, db), "created Observation/a v1 of ann from rx1-pas under observations")
	for _, other := range []string{
		`{"resourceType":"Observation","id":"a","status":"amended","meta":{"source":"urn:x"}}`,
		`{"resourceType":"Observation","id":"a","status":"amended","meta":{"source":"urn:y"}}`,
		`{"resourceType":"Observation","id":"a","status":"amended"}`,
		`{"resourceType":"Observation","id":"a","status":"amended","source":"urn:y"}`,
	} {
		if changed, _ := put(t, db, annAtPAS, parse(t, other)); !changed {
			t.Errorf("%s: not taken as a change", other)
		}
	}
}

func TestVersionsHistoryAndDeletion(t *testing.T) {
	db, ctx := fresh(t)
	obs := func(status string) *fhir.Resource {
		return fhir.New("Observation", "a", fhir.M{"status": status})
	}
	put(t, db, annAtPAS, obs("preliminary"))
	put(t, db, annAtPAS, obs("final"))
	remove(t, db, "Observation/a")
	_, err := db.Read(ctx, "Observation/a")
	wantIssue(t, "Read of what was deleted", err, fhir.Deleted)
	_, err = db.Update(ctx, func(tx Tx) error { return tx.Delete(ctx, "Observation/a") })
	wantIssue(t, "deleting twice", err, fhir.Deleted)
	_, err = db.Update(ctx, func(tx Tx) error { return tx.Delete(ctx, "Observation/never") })
	wantIssue(t, "deleting what never was", err, fhir.NotFound)
	wantLines(t, "record after deletion", person(t, db, "ann"))
	put(t, db, annAtPAS, obs("final"))
	wantLines(t, "record after it came back", person(t, db, "ann"), "Observation/a@4")

	var history []string
	versions, err := db.History(ctx, "Observation/a")
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range versions {
		word := "deleted"
		if !v.Deleted {
			r, err := v.Resource()
			if err != nil {
				t.Fatal(err)
			}
			word = r.Text("status")
		}
		history = append(history, fmt.Sprintf("%d %s %s", v.Version, word, v.At.Format("05")))
	}
	// The two deletions that failed looked at the clock too.
	wantLines(t, "history", history, "4 final 06", "3 deleted 03", "2 final 02", "1 preliminary 01")
	for v, want := range map[int]string{1: "preliminary", 2: "final", 4: "final"} {
		r, err := db.ReadVersion(ctx, "Observation/a", v)
		if err != nil || r.Text("status") != want || r.Text("meta.versionId") != strconv.Itoa(v) {
			t.Errorf("version %d: %v, %v; want status %s", v, r, err, want)
		}
	}
	_, err = db.ReadVersion(ctx, "Observation/a", 3)
	wantIssue(t, "version 3", err, fhir.Deleted)
	wantLines(t, "events", told(t, db),
		"created Observation/a v1 of ann from rx1-pas under observations", "updated Observation/a v2 of ann from rx1-pas under observations",
		"deleted Observation/a v3 of ann from rx1-pas under observations", "created Observation/a v4 of ann from rx1-pas under observations")
}

// A source finds that it filed a result under the wrong patient.
func TestResourceMovesToAnotherRecord(t *testing.T) {
	db, ctx := fresh(t)
	obs := fhir.New("Observation", "a", fhir.M{"status": "final", "code": fhir.Code("s", "c1", "")})
	put(t, db, annAtPAS, obs)
	bob := Home{Source: "rx1-pas", Patient: "bob", Heading: "observations"}
	if changed, _ := put(t, db, bob, obs); !changed {
		t.Fatal("moving was not taken as a change")
	}
	wantLines(t, "Ann's record", person(t, db, "ann"))
	wantLines(t, "Bob's record", person(t, db, "bob"), "Observation/a@3")
	wantLines(t, "events", told(t, db),
		"created Observation/a v1 of ann from rx1-pas under observations",
		"deleted Observation/a v2 of ann from rx1-pas under observations",
		"created Observation/a v3 of bob from rx1-pas under observations")
	versions, err := db.History(ctx, "Observation/a")
	if err != nil || len(versions) != 3 || versions[0].Deleted || !versions[1].Deleted || versions[2].Deleted {
		t.Errorf("history: %+v, %v", versions, err)
	}
	if r, err := db.ReadVersion(ctx, "Observation/a", 1); err != nil || r.Text("meta.versionId") != "1" {
		t.Errorf("version 1, in Ann's record: %v, %v", r, err)
	}
	page, err := db.Search(ctx, search.Query{Type: "Observation", Params: []search.Param{{Name: "code", Values: []string{"s|c1"}}}})
	if err != nil || len(page.Resources) != 1 || page.Resources[0].Text("meta.versionId") != "3" {
		t.Errorf("search finds %v, %v; want it once, as it is now", page, err)
	}
	ids := []string{}
	for id, err := range db.Patients(ctx) {
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	wantLines(t, "patients that ever had a record", ids, "ann", "bob")
}

func TestPutRefusesWhatHasNoHome(t *testing.T) {
	db, ctx := fresh(t)
	for name, c := range map[string]struct {
		home Home
		r    *fhir.Resource
	}{
		"no source":         {Home{Patient: "ann"}, fhir.New("Observation", "a", nil)},
		"no id":             {annAtPAS, fhir.New("Observation", "", nil)},
		"a path as patient": {Home{Source: "s", Patient: "a/b"}, fhir.New("Observation", "a", nil)},
	} {
		_, err := db.Update(ctx, func(tx Tx) error { _, err := tx.Put(ctx, c.home, c.r); return err })
		if fhir.IssueOf(err) == nil {
			t.Errorf("%s: %v, want an issue", name, err)
		}
	}
	if seq, err := db.Tail(ctx); err != nil || seq != 0 {
		t.Errorf("Tail %d, %v after refusals only", seq, err)
	}
}

// A copy of the files at any moment is what a kill or a power cut leaves.
func TestAcknowledgedSurvivesACrash(t *testing.T) {
	if enginetest.PostgreSQL() {
		t.Skip("the files are the server's: kv/postgres kills it instead")
	}
	ctx, root := context.Background(), t.TempDir()
	dir := filepath.Join(root, "store")
	db := openDir(t, dir)
	defer func() { _ = db.Close() }()
	for n := 1; n <= 12; n++ {
		put(t, db, annAtPAS,
			fhir.New("Observation", "same", fhir.M{"valueInteger": n}),
			fhir.New("Observation", fmt.Sprint("new", n), fhir.M{"code": fhir.Code("s", "c1", "")}))
		if n%4 != 0 {
			continue
		}
		crashed := filepath.Join(root, fmt.Sprint("crashed", n))
		if err := os.CopyFS(crashed, os.DirFS(dir)); err != nil {
			t.Fatal(err)
		}
		c := openDir(t, crashed)
		if got := len(told(t, c)); got != 2*n {
			t.Errorf("after %d transactions the log has %d events, want %d", n, got, 2*n)
		}
		if r, err := c.Read(ctx, "Observation/same"); err != nil || r.Text("valueInteger") != strconv.Itoa(n) {
			t.Errorf("after %d: %v, %v", n, r, err)
		}
		p, err := c.Search(ctx, search.Query{Type: "Observation", Params: []search.Param{{Name: "code", Values: []string{"c1"}}}})
		if err != nil || p.Total != n {
			t.Errorf("after %d: search finds %v, %v", n, p, err)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestDamagedContentIsNeverShown(t *testing.T) {
	db, ctx := fresh(t)
	good := fhir.New("Observation", "good", fhir.M{"status": "final"})
	rotten := fhir.New("Observation", "rotten", fhir.M{"status": "final", "valueString": "10 mg"})
	put(t, db, annAtPAS, good, rotten)
	k := currentKey("p/ann", "Observation/rotten")
	v, _, err := db.engine.Get(ctx, k)
	if err != nil {
		t.Fatal(err)
	}
	other, _, _ := db.engine.Get(ctx, currentKey("p/ann", "Observation/good"))
	damage := [][]byte{nil, {1}, v[:len(v)-1], append(bytes.Clone(v), ' '), other}
	for i := range v { // every byte, header and body alike
		b := bytes.Clone(v)
		b[i] ^= 1 << (i % 8)
		damage = append(damage, b)
	}
	for i, d := range damage {
		if _, err := db.engine.Commit(ctx, kv.Batch{Put: []kv.Entry{{Key: k, Value: d}}}); err != nil {
			t.Fatal(err)
		}
		r, err := db.Read(ctx, "Observation/rotten")
		if r != nil || !fhir.Is(err, fhir.Exception) || !strings.Contains(err.Error(), "Observation/rotten") || strings.Contains(err.Error(), "mg") {
			t.Fatalf("damage %d: Read gives %v, %v", i, r, err)
		}
	}
	var seen []string
	bad := 0
	for r, err := range db.Patient(ctx, "ann") {
		if err != nil {
			wantIssue(t, "Patient", err, fhir.Exception)
			bad++
			continue
		}
		seen = append(seen, string(r.Ref()))
	}
	wantLines(t, "the rest of the record is still read", seen, "Observation/good")
	p, err := db.Search(ctx, search.Query{Type: "Observation", Patient: "ann"})
	if bad != 1 || err != nil || len(p.Resources) != 1 || len(p.Issues) != 1 || p.Issues[0].Type != fhir.Exception {
		t.Errorf("%d damaged in Patient; Search gives %+v, %v", bad, p, err)
	}
	if hist, err := db.History(ctx, "Observation/rotten"); len(hist) != 0 || !fhir.Is(err, fhir.Exception) {
		t.Errorf("History gives %v, %v", hist, err)
	}
	// The source sends it again, changed or not: what is new is whole.
	put(t, db, annAtPAS, rotten.With("status", "amended"))
	if r, err := db.Read(ctx, "Observation/rotten"); err != nil || r.Text("valueString") != "10 mg" {
		t.Errorf("after it was sent again: %v, %v", r, err)
	}
}

func TestEventsCarryNoContent(t *testing.T) {
	db, ctx := fresh(t)
	put(t, db, Home{Source: "rx1-pas", Patient: "ann"}, parse(t, `{"resourceType":"Patient","id":"ann","name":[{"family":"Taylor"}],"identifier":[{"system":"https://fhir.nhs.uk/Id/nhs-number","value":"9999999468"}]}`))
	for r, err := range db.engine.Log(ctx, 0) {
		if err != nil {
			t.Fatal(err)
		}
		var got map[string]any
		if err := json.Unmarshal(r.Value, &got); err != nil {
			t.Fatal(err)
		}
		delete(got, "t")
		want := map[string]any{"k": "created", "r": "Patient/ann", "p": "ann", "s": "rx1-pas", "v": 1.0}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("event says %v, want %v and no more", got, want)
		}
	}
}

func TestFollowerHandlesEachEventOnce(t *testing.T) {
	db, ctx := fresh(t)
	fail := true
	count := db.Follower("counter", func(ctx context.Context, tx Tx, e events.Event) error {
		if e.Ref == "Observation/o7" && fail {
			fail = false
			return errors.New("not now")
		}
		b := tx.Bucket("count")
		v, _, err := b.Get(ctx, string(e.Kind))
		if err != nil {
			return err
		}
		n, _ := strconv.Atoi(string(v))
		b.Put(string(e.Kind), strconv.AppendInt(nil, int64(n+1), 10))
		return nil
	})
	count.MinPause, count.Logger = time.Millisecond, slog.New(slog.DiscardHandler)
	run, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { _ = count.Run(run) })
	var seq events.Seq
	for i := range 20 {
		_, seq = put(t, db, annAtPAS, fhir.New("Observation", fmt.Sprint("o", i), nil))
	}
	wait, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	if err := count.Await(wait, seq); err != nil {
		t.Fatal(err)
	}
	stop()
	wg.Wait()
	if v, _, err := db.View("count").Get(ctx, "created"); err != nil || string(v) != "20" {
		t.Errorf("counted %s events, %v; want each of 20 once", v, err)
	}
	if at, err := db.LoadCursor(ctx, "counter"); err != nil || at != seq {
		t.Errorf("cursor %d, %v; want %d", at, err, seq)
	}
	if err := db.SaveCursor(ctx, "counter", 3); err != nil {
		t.Fatal(err)
	}
	if at, err := db.LoadCursor(ctx, "counter"); err != nil || at != 3 {
		t.Errorf("cursor %d, %v; want 3", at, err)
	}
}

func TestCheckpointIsAWholeStore(t *testing.T) {
	db, ctx := fresh(t)
	put(t, db, annAtPAS, fhir.New("Observation", "a", nil))
	dir := filepath.Join(t.TempDir(), "copy")
	if err := db.Checkpoint(ctx, dir); err != nil {
		t.Fatal(err)
	}
	c := openDir(t, dir)
	defer func() { _ = c.Close() }()
	wantLines(t, "the copy", person(t, c, "ann"), "Observation/a@1")
	wantLines(t, "its events", told(t, c), told(t, db)...)
}

func TestAfterCloseErrorsSayWhy(t *testing.T) {
	ctx := context.Background()
	db := openDir(t, filepath.Join(t.TempDir(), "store"))
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	_, err := db.Read(ctx, "Observation/a")
	wantIssue(t, "Read", err, fhir.Transient)
	_, err = db.Tail(ctx)
	wantIssue(t, "Tail", err, fhir.Transient)
	_, err = db.Update(ctx, func(tx Tx) error { return nil })
	wantIssue(t, "Update", err, fhir.NoStore)
	_, err = db.Search(ctx, search.Query{Type: "Observation"})
	wantIssue(t, "Search", err, fhir.Transient)
	for _, err := range db.Since(ctx, 0) {
		wantIssue(t, "Since", err, fhir.Transient)
	}
	gone, cancel := context.WithCancel(ctx)
	cancel()
	open, _ := fresh(t)
	_, err = open.Read(gone, "Observation/a")
	wantIssue(t, "Read with a cancelled context", err, fhir.Timeout)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v does not say that its context was cancelled", err)
	}
}

// A read that remembers where a resource was notices that it moved, went and came back.
func TestAReadFollowsAResource(t *testing.T) {
	db, ctx := fresh(t)
	db.places = &places{at: map[fhir.Ref]kv.Part{}} // also where it would not be worth it
	ref := fhir.Ref("Observation/ann-1")
	at := func(patient string) {
		t.Helper()
		put(t, db, Home{Source: "rx1-pas", Patient: patient}, bloodResult("ann", 1, "of "+patient))
	}
	for _, patient := range []string{"ann", "bob", "ann"} {
		at(patient)
		for range 2 {
			s, err := db.ReadRaw(ctx, ref)
			if err != nil || !strings.Contains(string(s.Body), "of "+patient) {
				t.Errorf("in the record of %s: %s, %v", patient, s.Body, err)
			}
		}
	}
	remove(t, db, ref)
	if _, err := db.ReadRaw(ctx, ref); fhir.IssueOf(err) == nil || fhir.IssueOf(err).Type != fhir.Deleted {
		t.Errorf("deleted: %v", err)
	}
	at("cat")
	if s, err := db.ReadRaw(ctx, ref); err != nil || s.Version != 7 {
		t.Errorf("back: version %d, %v", s.Version, err)
	}
	for n := range mostPlaces + 10 {
		db.places.learn(fhir.Ref(strconv.Itoa(n)), "p/x")
	}
	if len(db.places.at) > mostPlaces {
		t.Errorf("%d places are remembered", len(db.places.at))
	}
}
