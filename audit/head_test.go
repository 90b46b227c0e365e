package audit

import (
	"bytes"
	"errors"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tombolo/fhir"
	"tombolo/kv"
)

func key(t testing.TB, node string) Key {
	t.Helper()
	k, err := LoadKey(filepath.Join(t.TempDir(), "data", "audit.key"), node)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestTheKeyIsMadeOnceAndOnlyItsOwnerMayReadIt(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.key")
	k, err := LoadKey(path, "severn")
	if err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("the key's file: %v %v", st, err)
	}
	again, err := LoadKey(path, "severn")
	if err != nil || again.Public != k.Public {
		t.Errorf("read again: %q (%v), was %q", again.Public, err, k.Public)
	}
	if _, err := LoadKey(path, "wye"); err == nil {
		t.Error("another region's key is taken")
	}
	if err := os.WriteFile(path, []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadKey(path, "severn"); err == nil {
		t.Error("nonsense is taken for a key")
	}
}

func TestSignedHeadsAreReadBackAndForgeriesAreNot(t *testing.T) {
	l := openLog(t, engine(t), "severn")
	k, other := key(t, "severn"), key(t, "severn")
	file := filepath.Join(t.TempDir(), "severn.heads")
	var want []Head
	for range 4 {
		if err := l.Publish(ctx, k, file); err != nil {
			t.Fatal(err)
		}
		h, _ := l.Head(ctx)
		want = append(want, h)
		_ = l.Publish(ctx, k, file) // it has not grown: nothing is added
		appendN(t, l, 3)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	got, err := ReadHeads(bytes.NewReader(b), k.Public)
	if err != nil || len(got) != len(want) {
		t.Fatalf("read back %v (%v), want %v", got, err, want)
	}
	for i := range got {
		if got[i] != want[i] {
			t.Errorf("head %d: %v, want %v", i, got[i], want[i])
		}
	}
	if r := verify(t, l, got...); !r.OK() {
		t.Error(r.Bad)
	}
	if _, err := ReadHeads(bytes.NewReader(b), other.Public); !fhir.Is(err, fhir.BusinessRule) {
		t.Errorf("heads signed with another key: %v", err)
	}
	for i := range b { // any byte of it
		forged := bytes.Clone(b)
		forged[i] ^= 1
		if heads, err := ReadHeads(bytes.NewReader(forged), k.Public); err == nil && len(heads) == len(got) {
			for j := range heads {
				if heads[j] != got[j] {
					t.Errorf("byte %d turned: head %v is taken", i, heads[j])
				}
			}
		}
	}
}

func TestAnEntryIsProvenToBeInTheLog(t *testing.T) {
	l := openLog(t, engine(t), "severn")
	appendN(t, l, 700) // across two kept subtrees
	head, err := l.Head(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []Seq{1, 2, 255, 256, 257, 512, 513, 699, 700} {
		p, err := l.Prove(ctx, s, head.Seq)
		if err != nil {
			t.Fatal(err)
		}
		e, err := l.Entry(ctx, s)
		if err != nil {
			t.Fatal(err)
		}
		if err := CheckEntry(p, head, s, e.Record()); err != nil {
			t.Errorf("entry %d: %v", s, err)
		}
		changed := bytes.Clone(e.Record())
		changed[len(changed)-1] ^= 1
		if CheckEntry(p, head, s, changed) == nil || CheckEntry(p, head, s%700+1, e.Record()) == nil {
			t.Errorf("entry %d: the proof holds for something else", s)
		}
	}
	for _, s := range []Seq{0, 701} {
		if _, err := l.Prove(ctx, s, head.Seq); !fhir.Is(err, fhir.NotFound) {
			t.Errorf("proof of entry %d: %v", s, err)
		}
	}
}

func TestALogIsProvenToHaveOnlyGrown(t *testing.T) {
	l := openLog(t, engine(t), "severn")
	var heads []Head
	for _, n := range []int{1, 254, 1, 1, 300, 44} {
		appendN(t, l, n)
		h, err := l.Head(ctx)
		if err != nil {
			t.Fatal(err)
		}
		heads = append(heads, h)
	}
	for i, older := range heads {
		for _, newer := range heads[i:] {
			p, err := l.Extends(ctx, older.Seq, newer.Seq)
			if err != nil {
				t.Fatal(err)
			}
			if err := CheckExtends(p, newer, older); err != nil {
				t.Errorf("%d to %d: %v", older.Seq, newer.Seq, err)
			}
			wrong := older
			wrong.Hash[3] ^= 1
			if CheckExtends(p, newer, wrong) == nil {
				t.Errorf("%d to %d: holds for another past", older.Seq, newer.Seq)
			}
		}
	}
}

func TestAWitnessKeepsHeadsAndRefusesAnotherPast(t *testing.T) {
	e := engine(t)
	l := openLog(t, e, "severn")
	k := key(t, "severn")
	srv := httptest.NewServer(Handler(l, k))
	defer srv.Close()
	w := &Witness{Dir: filepath.Join(t.TempDir(), "witness")}
	look := func() error { return w.Look(ctx, "severn", srv.URL) }
	for _, n := range []int{0, 5, 0, 300} {
		appendN(t, l, n)
		if err := look(); err != nil {
			t.Fatal(err)
		}
	}
	kept, err := os.ReadFile(w.File("severn"))
	if err != nil {
		t.Fatal(err)
	}
	heads, err := ReadHeads(bytes.NewReader(kept), k.Public)
	if err != nil || len(heads) != 3 { // of the empty log, of 5 and of 305
		t.Fatalf("kept %v (%v)", heads, err)
	}
	// The owner cuts the tail off without a trace on his own disk, and goes on.
	if _, err := e.Commit(ctx, cutTo(t, e, 290)); err != nil {
		t.Fatal(err)
	}
	l2 := openLog(t, e, "severn")
	srv2 := httptest.NewServer(Handler(l2, k))
	defer srv2.Close()
	for _, n := range []int{0, 50} {
		appendN(t, l2, n)
		if r := verify(t, l2); !r.OK() {
			t.Fatalf("by itself the log should look whole: %v", r.Bad)
		}
		if err := w.Look(ctx, "severn", srv2.URL); !errors.Is(err, ErrRewritten) {
			t.Errorf("with %d entries more the witness says %v", n, err)
		}
	}
	if r := verify(t, l2, heads...); r.OK() || !strings.Contains(r.Bad.Error(), "written anew") {
		t.Errorf("verified against the witness's heads: %v", r.Bad)
	}
	if after, _ := os.ReadFile(w.File("severn")); !bytes.Equal(after, kept) {
		t.Error("a refused head stands among the good ones")
	}
	// Another key in its place is not believed either.
	srv3 := httptest.NewServer(Handler(l2, key(t, "severn")))
	defer srv3.Close()
	if err := w.Look(ctx, "severn", srv3.URL); !fhir.Is(err, fhir.BusinessRule) {
		t.Errorf("another key: %v", err)
	}
}

// What a disclosure showed is kept once a month, read back checked, and gone when its retention is over; the entry stays.
func TestWhatWasShownIsKeptAndForgottenByMonth(t *testing.T) {
	e := engine(t)
	l := openLog(t, e, "severn") // its clock starts on 22 November 2026
	show := func(parts ...string) Entry {
		t.Helper()
		v := &View{}
		for _, p := range parts {
			v.Root = v.Add([]byte(p))
		}
		ev := view(t, "margaret")
		ev.View = v
		entry, err := l.Append(ctx, ev)
		if err != nil {
			t.Fatal(err)
		}
		return entry
	}
	kept := func() (n int) {
		for _, err := range e.Scan(ctx, []kv.Range{{Part: "shown/2026-11"}}, 0) {
			if err != nil {
				t.Fatal(err)
			}
			n++
		}
		return n
	}
	first, second := show("allergy", "a"), show("allergy", "b")
	l = openLog(t, e, "severn") // started again, it remembers nothing
	show("allergy", "b")
	if n := kept(); n != 3 {
		t.Errorf("%d parts are kept, want 3: what is shown twice is kept once", n)
	}
	root, ok, err := second.Root()
	if err != nil || !ok || root != SumOf([]byte("b")) {
		t.Fatalf("the entry names %v %v (%v)", root, ok, err)
	}
	if b, err := l.Shown(ctx, second, SumOf([]byte("allergy"))); err != nil || string(b) != "allergy" {
		t.Errorf("read back %q (%v)", b, err)
	}
	sum := SumOf([]byte("a"))
	at := kv.Key{Part: "shown/2026-11", Key: string(sum[:])}
	if _, err := e.Commit(ctx, kv.Batch{Put: []kv.Entry{{Key: at, Value: packer.EncodeAll([]byte("A"), nil)}}}); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Shown(ctx, first, sum); !fhir.Is(err, fhir.Exception) {
		t.Errorf("an altered part: %v", err)
	}
	if months, err := l.Forget(ctx, first.At, Agent{User: "tombolo"}); err != nil || months != nil {
		t.Errorf("the month is not over, and %v went (%v)", months, err)
	}
	if months, err := l.Forget(ctx, first.At.AddDate(0, 1, 0), Agent{User: "tombolo"}); err != nil || len(months) != 1 {
		t.Errorf("forgot %v (%v)", months, err)
	}
	if _, err := l.Shown(ctx, first, sum); !fhir.Is(err, fhir.Deleted) || kept() != 0 {
		t.Errorf("after its retention: %v, %d parts", err, kept())
	}
	if r := verify(t, l); !r.OK() || r.Entries != 4 {
		t.Errorf("the log afterwards: %+v", r)
	}
}

// Whatever the clock does, the log's own times never go back, so that what came since a moment is found; what each event says is what the
// clock said; and what was shown is found again, also where the clock went back into another month.
func TestAClockThatGoesBackHidesNothing(t *testing.T) {
	e := engine(t)
	start := time.Date(2026, 12, 1, 0, 10, 0, 0, time.UTC)
	now := start
	open := func() *Log {
		l, err := Open(ctx, e, Options{Node: "severn", Now: func() time.Time { return now }})
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	l := open()
	var entries []Entry
	show := func() {
		t.Helper()
		v := &View{}
		v.Root = v.Add([]byte("what was shown"))
		ev := view(t, "margaret")
		ev.View = v
		entry, err := l.Append(ctx, ev)
		if err != nil {
			t.Fatal(err)
		}
		entries = append(entries, entry)
	}
	for _, minutes := range []int{0, 5, -30, -29, 6, 7, -60} { // since the start
		now = start.Add(time.Duration(minutes) * time.Minute)
		show()
	}
	l = open() // started again, with the clock still wrong
	now = start.Add(-50 * time.Minute)
	show()
	for i, entry := range entries {
		stored, err := l.Entry(ctx, entry.Seq)
		if err != nil || !stored.At.Equal(entry.At) || !stored.Recorded().Equal(entry.Recorded()) {
			t.Errorf("entry %d: %s and %s, stored %s and %s (%v)", entry.Seq, entry.At, entry.Recorded(), stored.At, stored.Recorded(), err)
		}
		if i > 0 && entry.At.Before(entries[i-1].At) {
			t.Errorf("entry %d came at %s, before the one before it", entry.Seq, entry.At)
		}
		if b, err := l.Shown(ctx, stored, SumOf([]byte("what was shown"))); err != nil || string(b) != "what was shown" {
			t.Errorf("what entry %d showed: %v", entry.Seq, err)
		}
	}
	since := start.Add(6 * time.Minute)
	after, err := l.Before(ctx, since)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if !entry.Recorded().Before(since) && entry.Seq <= after {
			t.Errorf("entry %d was recorded at %s, and is not found from %s on", entry.Seq, entry.Recorded(), since)
		}
	}
	if r := verify(t, l); !r.OK() {
		t.Error(r.Bad)
	}
}
