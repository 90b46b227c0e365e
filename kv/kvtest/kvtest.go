// Package kvtest holds an engine to every word of package kv.
//
// An engine's own test calls Run with a function that opens it in a directory (or a schema named after it): opening the
// same directory again after Close must find everything that was committed.
package kvtest

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"tombolo/kv"
)

// Open opens the engine that keeps its data in dir, failing the test if it cannot.
type Open func(t *testing.T, dir string) kv.Engine

// Run is the whole suite.
func Run(t *testing.T, open func(t *testing.T, dir string) kv.Engine) {
	for _, c := range []struct {
		name string
		test func(*testing.T, Open)
	}{
		{"a value reads back and is the caller's own", ownership},
		{"an empty value is not an absent one", emptyAndAbsent},
		{"scan goes range after range in byte order", scanOrder},
		{"a prefix is a range", prefixRanges},
		{"many ranges are read as few are", manyRanges},
		{"a scan stays inside its partition", scanStaysInside},
		{"a commit is all or nothing over partitions", allOrNothing},
		{"a failed precondition writes nothing", preconditions},
		{"of many who compare and set, one wins each time", compareAndSet},
		{"many add to one counter", counters},
		{"log positions are consecutive from 1", logPositions},
		{"the log never grows behind its reader", logUnderConcurrency},
		{"a long log reads back whole", longLog},
		{"Changed wakes who waits", changed},
		{"a snapshot is one moment", snapshotIsolation},
		{"a snapshot lists its partitions", partitions},
		{"a commit is seen whole or not at all", commitsAreSeenWhole},
		{"a checkpoint opens as an engine", checkpoint},
		{"closing and opening keeps everything", reopen},
		{"after Close there is ErrClosed", closed},
		{"a cancelled context stops work", cancelled},
		{"it behaves like a map", model},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, open) })
	}
}

const timeout = 30 * time.Second

func fresh(t *testing.T, open Open) (kv.Engine, context.Context) {
	t.Helper()
	e := open(t, filepath.Join(t.TempDir(), "engine"))
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	t.Cleanup(cancel)
	return e, ctx
}

func key(part, k string) kv.Key { return kv.Key{Part: kv.Part(part), Key: k} }

func put(part, k, v string) kv.Entry { return kv.Entry{Key: key(part, k), Value: []byte(v)} }

func commit(t *testing.T, ctx context.Context, e kv.Engine, b kv.Batch) kv.Position {
	t.Helper()
	at, err := e.Commit(ctx, b)
	if err != nil {
		t.Fatalf("Commit: %v", err)
	}
	return at
}

// tester is a *testing.T or a *rapid.T.
type tester interface {
	Helper()
	Fatalf(format string, args ...any)
}

// scanned reads a scan out as "part/key=value" lines.
func scanned(t tester, ctx context.Context, r kv.Reader, limit int, ranges ...kv.Range) []string {
	t.Helper()
	out := []string{}
	for en, err := range r.Scan(ctx, ranges, limit) {
		if err != nil {
			t.Fatalf("Scan: %v", err)
		}
		out = append(out, fmt.Sprintf("%s/%s=%s", en.Key.Part, en.Key.Key, en.Value))
	}
	return out
}

func wantLines(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	if want == nil {
		want = []string{}
	}
	if !slices.Equal(got, want) {
		t.Errorf("%s:\n got %q\nwant %q", what, got, want)
	}
}

// value is the value at a key, "" and false if absent.
func value(t *testing.T, ctx context.Context, r kv.Reader, k kv.Key) (string, bool) {
	t.Helper()
	v, ok, err := r.Get(ctx, k)
	if err != nil {
		t.Fatalf("Get: %v", err)
	}
	return string(v), ok
}

// logged reads the log out.
func logged(t tester, ctx context.Context, e kv.Engine, after kv.Position) (at []kv.Position, values []string) {
	t.Helper()
	for r, err := range e.Log(ctx, after) {
		if err != nil {
			t.Fatalf("Log: %v", err)
		}
		at, values = append(at, r.At), append(values, string(r.Value))
	}
	return at, values
}

func ownership(t *testing.T, open Open) {
	e, ctx := fresh(t, open)
	v := []byte("as given")
	rec := []byte("record")
	commit(t, ctx, e, kv.Batch{Put: []kv.Entry{{Key: key("p", "a"), Value: v}, put("p", "b", "next")}, Append: [][]byte{rec}})
	copy(v, "XXXXXXXX") // the engine must have made its own copy
	copy(rec, "XXXXXX")
	for range 2 {
		got, _, err := e.Get(ctx, key("p", "a"))
		if err != nil || string(got) != "as given" {
			t.Fatalf("Get = %q, %v; want what was committed", got, err)
		}
		clear(got) // the caller's own: scribbling on it changes nothing in the engine
		many, err := e.MultiGet(ctx, []kv.Key{key("p", "a"), key("p", "b")})
		if err != nil || string(many[0]) != "as given" || string(many[1]) != "next" {
			t.Fatalf("MultiGet = %q, %v", many, err)
		}
		many[0] = append(many[0], "overflow"...) // must not run into its neighbour
		clear(many[0])
		if string(many[1]) != "next" {
			t.Fatalf("values of one MultiGet share memory: %q", many[1])
		}
		var kept [][]byte
		for en, err := range e.Scan(ctx, []kv.Range{kv.Prefix("p", "")}, 0) {
			if err != nil {
				t.Fatal(err)
			}
			kept = append(kept, en.Value)
		}
		if len(kept) != 2 || string(kept[0]) != "as given" || string(kept[1]) != "next" {
			t.Fatalf("values kept from a Scan changed under the caller: %q", kept)
		}
		_ = append(kept[0], "overflow"...)
		clear(kept[0])
		if string(kept[1]) != "next" {
			t.Fatalf("values of one Scan share memory: %q", kept[1])
		}
		if _, recs := logged(t, ctx, e, 0); recs[0] != "record" {
			t.Fatalf("log = %q", recs)
		}
	}
}

func emptyAndAbsent(t *testing.T, open Open) {
	e, ctx := fresh(t, open)
	commit(t, ctx, e, kv.Batch{Put: []kv.Entry{{Key: key("p", "empty")}, put("p", "", "at the empty key")}})
	if v, ok := value(t, ctx, e, key("p", "empty")); !ok || v != "" {
		t.Errorf("empty value: got %q, %v; want there and empty", v, ok)
	}
	if v, ok := value(t, ctx, e, key("p", "absent")); ok {
		t.Errorf("absent key: got %q", v)
	}
	if v, _ := value(t, ctx, e, key("p", "")); v != "at the empty key" {
		t.Errorf("empty key: got %q", v)
	}
	for _, keys := range [][]kv.Key{
		{key("p", "empty"), key("p", "absent"), key("p", ""), key("q", "empty"), key("p", "empty")},
		{key("p", "empty"), key("q", "absent")}, {key("p", "empty")}, {key("p", "absent")}, {},
	} {
		got, err := e.MultiGet(ctx, keys)
		if err != nil || len(got) != len(keys) {
			t.Fatalf("MultiGet(%v) = %d values, %v; want one per key", keys, len(got), err)
		}
		for i, k := range keys {
			want := k.Part == "p" && k.Key != "absent"
			if (got[i] != nil) != want {
				t.Errorf("MultiGet %v: non-nil is %v, want %v (there and empty is not nil, absent is)", k, got[i] != nil, want)
			}
		}
	}
	// Preconditions tell them apart too.
	if _, err := e.Commit(ctx, kv.Batch{Expect: []kv.Precondition{{Key: key("p", "empty"), Absent: true}}}); !errors.Is(err, kv.ErrConflict) {
		t.Errorf("expecting an empty value to be absent: %v, want ErrConflict", err)
	}
	if _, err := e.Commit(ctx, kv.Batch{Expect: []kv.Precondition{{Key: key("p", "absent"), Value: nil}}}); !errors.Is(err, kv.ErrConflict) {
		t.Errorf("expecting an absent key to be empty: %v, want ErrConflict", err)
	}
	commit(t, ctx, e, kv.Batch{Expect: []kv.Precondition{{Key: key("p", "empty"), Value: nil}, {Key: key("p", "absent"), Absent: true}}})
}

func scanOrder(t *testing.T, open Open) {
	e, ctx := fresh(t, open)
	keys := []string{"b", "a", "\x00", "a\x00", "a\xff", "é", "aa", "\xff\xff", "B", ""}
	var b kv.Batch
	for _, k := range keys {
		b.Put = append(b.Put, put("p", k, "v"))
	}
	commit(t, ctx, e, b)
	want := slices.Clone(keys)
	slices.Sort(want)
	var got []string
	for en, err := range e.Scan(ctx, []kv.Range{{Part: "p"}}, 0) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, en.Key.Key)
	}
	if !slices.Equal(got, want) {
		t.Errorf("whole partition:\n got %q\nwant %q (bytewise)", got, want)
	}
	wantLines(t, "from is in, to is out", scanned(t, ctx, e, 0, kv.Range{Part: "p", From: "a", To: "b"}),
		"p/a=v", "p/a\x00=v", "p/aa=v", "p/a\xff=v")
	wantLines(t, "ranges in the order asked", scanned(t, ctx, e, 0,
		kv.Range{Part: "p", From: "b", To: "c"}, kv.Range{Part: "p", From: "B", To: "C"}, kv.Range{Part: "p", From: "b", To: "c"}),
		"p/b=v", "p/B=v", "p/b=v")
	wantLines(t, "the limit is over all ranges", scanned(t, ctx, e, 3,
		kv.Range{Part: "p", From: "b", To: "c"}, kv.Range{Part: "p", From: "a"}), "p/b=v", "p/a=v", "p/a\x00=v")
	wantLines(t, "an empty range", scanned(t, ctx, e, 0, kv.Range{Part: "p", From: "b", To: "b"}, kv.Range{Part: "p", From: "c", To: "b"}))
	wantLines(t, "no range", scanned(t, ctx, e, 0))
	n := 0
	for range e.Scan(ctx, []kv.Range{{Part: "p"}}, 0) {
		if n++; n == 2 {
			break // leaving early must be harmless
		}
	}
	commit(t, ctx, e, kv.Batch{Delete: []kv.Key{key("p", "a"), key("p", "never was")}})
	wantLines(t, "after a delete", scanned(t, ctx, e, 1, kv.Range{Part: "p", From: "a"}), "p/a\x00=v")
}

func prefixRanges(t *testing.T, open Open) {
	e, ctx := fresh(t, open)
	var b kv.Batch
	for _, k := range []string{"a", "a/1", "a/2", "a0", "b", "\xff", "\xff\xff", "\xff\xff\x01", "\xff\xfe"} {
		b.Put = append(b.Put, put("p", k, ""))
	}
	commit(t, ctx, e, b)
	wantLines(t, "a/", scanned(t, ctx, e, 0, kv.Prefix("p", "a/")), "p/a/1=", "p/a/2=")
	wantLines(t, "a", scanned(t, ctx, e, 0, kv.Prefix("p", "a")), "p/a=", "p/a/1=", "p/a/2=", "p/a0=")
	wantLines(t, "ff ff", scanned(t, ctx, e, 0, kv.Prefix("p", "\xff\xff")), "p/\xff\xff=", "p/\xff\xff\x01=")
	wantLines(t, "everything", scanned(t, ctx, e, 2, kv.Prefix("p", "")), "p/a=", "p/a/1=")
}

// Many ranges, empty, short and long, in one partition and in many, come as they were asked for, up to the limit.
func manyRanges(t *testing.T, open Open) {
	e, ctx := fresh(t, open)
	var b kv.Batch
	long := string(bytes.Repeat([]byte("x"), 70_000))
	for p := range 3 {
		for i := range 140 {
			v := fmt.Sprint(i)
			if i == 77 {
				v = long
			}
			b.Put = append(b.Put, put(fmt.Sprint("p", p), fmt.Sprintf("%02d/%d", i/7, i%7), v))
		}
	}
	commit(t, ctx, e, b)
	for _, parts := range []int{1, 3} {
		var ranges []kv.Range
		var want []string
		for i := range 600 { // each of one entry or of seven, some of nothing, and some of most of the partition
			rg := kv.Prefix(kv.Part(fmt.Sprint("p", i%parts)), fmt.Sprintf("%02d/", i*37%30))
			switch {
			case i%200 == 3:
				rg.From, rg.To = "02", "18"
			case i%8 > 0:
				rg = kv.Prefix(rg.Part, rg.From+"3")
			}
			ranges = append(ranges, rg)
			for _, en := range b.Put {
				if en.Key.Part == rg.Part && en.Key.Key >= rg.From && en.Key.Key < rg.To {
					want = append(want, fmt.Sprintf("%s/%s=%s", en.Key.Part, en.Key.Key, en.Value))
				}
			}
		}
		for _, limit := range []int{0, 500} {
			if got := scanned(t, ctx, e, limit, ranges...); !slices.Equal(got, want[:cmp.Or(min(limit, len(want)), len(want))]) {
				t.Errorf("600 ranges in %d partitions, limit %d: %d entries, want %d, or others", parts, limit, len(got), len(want))
			}
		}
	}
}

func scanStaysInside(t *testing.T, open Open) {
	e, ctx := fresh(t, open)
	// Names chosen to run into one another in a careless encoding of (partition, key).
	parts := []string{"p", "p/", "p/1", "pp", "", "p\x00", "p\xff", "\xff", "q", "o"}
	var b kv.Batch
	for _, p := range parts {
		b.Put = append(b.Put, put(p, "", p), put(p, "1", p), put(p, "\xff\xff", p))
	}
	commit(t, ctx, e, b)
	for _, p := range parts {
		for _, r := range []kv.Range{{Part: kv.Part(p)}, kv.Prefix(kv.Part(p), "")} {
			wantLines(t, fmt.Sprintf("partition %q", p), scanned(t, ctx, e, 0, r),
				p+"/="+p, p+"/1="+p, p+"/\xff\xff="+p)
		}
	}
	commit(t, ctx, e, kv.Batch{Delete: []kv.Key{key("p", "1")}})
	if _, ok := value(t, ctx, e, key("p/", "1")); !ok {
		t.Error("deleting in one partition deleted in another")
	}
}

func allOrNothing(t *testing.T, open Open) {
	e, ctx := fresh(t, open)
	at := commit(t, ctx, e, kv.Batch{
		Put:    []kv.Entry{put("p1", "k", "1"), put("p2", "k", "1"), put("p2", "gone", "x")},
		Append: [][]byte{[]byte("one")},
	})
	commit(t, ctx, e, kv.Batch{
		Expect: []kv.Precondition{{Key: key("p1", "k"), Value: []byte("1")}, {Key: key("p2", "k"), Value: []byte("1")}},
		Put:    []kv.Entry{put("p1", "k", "2"), put("p3", "k", "2")},
		Delete: []kv.Key{key("p2", "gone")},
		Append: [][]byte{[]byte("two")},
	})
	wantLines(t, "after two commits", scanned(t, ctx, e, 0, kv.Range{Part: "p1"}, kv.Range{Part: "p2"}, kv.Range{Part: "p3"}),
		"p1/k=2", "p2/k=1", "p3/k=2")
	if positions, values := logged(t, ctx, e, at); len(positions) != 1 || values[0] != "two" {
		t.Errorf("log after the first commit: %v %q", positions, values)
	}
}

func preconditions(t *testing.T, open Open) {
	e, ctx := fresh(t, open)
	commit(t, ctx, e, kv.Batch{Put: []kv.Entry{put("p", "k", "1"), put("p", "other", "x")}, Append: [][]byte{[]byte("one")}})
	for _, c := range []struct {
		name string
		pre  []kv.Precondition
	}{
		{"another value", []kv.Precondition{{Key: key("p", "k"), Value: []byte("2")}}},
		{"a longer value", []kv.Precondition{{Key: key("p", "k"), Value: []byte("1 ")}}},
		{"no value", []kv.Precondition{{Key: key("p", "k"), Absent: true}}},
		{"a value where there is none", []kv.Precondition{{Key: key("p", "none"), Value: []byte("1")}}},
		{"the same key in another partition", []kv.Precondition{{Key: key("q", "k"), Value: []byte("1")}}},
		{"one of several wrong", []kv.Precondition{
			{Key: key("p", "other"), Value: []byte("x")}, {Key: key("p", "k"), Value: []byte("2")}, {Key: key("p", "none"), Absent: true}}},
	} {
		_, err := e.Commit(ctx, kv.Batch{
			Expect: c.pre,
			Put:    []kv.Entry{put("p", "k", "overwritten"), put("q", "new", "y")},
			Delete: []kv.Key{key("p", "other")},
			Append: [][]byte{[]byte("should not be")},
		})
		if !errors.Is(err, kv.ErrConflict) {
			t.Errorf("%s: %v, want ErrConflict", c.name, err)
		}
		wantLines(t, c.name, scanned(t, ctx, e, 0, kv.Range{Part: "p"}, kv.Range{Part: "q"}), "p/k=1", "p/other=x")
		if at, _ := logged(t, ctx, e, 0); len(at) != 1 {
			t.Errorf("%s: the log grew to %d records", c.name, len(at))
		}
	}
	// A refused commit uses up no position.
	if at := commit(t, ctx, e, kv.Batch{Append: [][]byte{[]byte("two")}}); at != 2 {
		t.Errorf("next position %d, want 2", at)
	}
}

func logPositions(t *testing.T, open Open) {
	e, ctx := fresh(t, open)
	if at, err := e.Tail(ctx); err != nil || at != 0 {
		t.Fatalf("Tail of a new engine = %d, %v", at, err)
	}
	if at := commit(t, ctx, e, kv.Batch{Put: []kv.Entry{put("p", "k", "v")}}); at != 0 {
		t.Errorf("a commit without records before any record: position %d, want 0", at)
	}
	if at := commit(t, ctx, e, kv.Batch{Append: [][]byte{[]byte("a"), {}, []byte("c")}}); at != 3 {
		t.Errorf("three records: last position %d, want 3", at)
	}
	if at := commit(t, ctx, e, kv.Batch{Put: []kv.Entry{put("p", "k", "w")}}); at != 3 {
		t.Errorf("a commit without records: position %d, want the last one before it, 3", at)
	}
	if at := commit(t, ctx, e, kv.Batch{}); at != 3 {
		t.Errorf("a commit of nothing: position %d, want 3", at)
	}
	at, values := logged(t, ctx, e, 0)
	if !slices.Equal(at, []kv.Position{1, 2, 3}) || !slices.Equal(values, []string{"a", "", "c"}) {
		t.Errorf("log %v %q, want a, empty, c at 1, 2, 3", at, values)
	}
	if at, _ := logged(t, ctx, e, 2); !slices.Equal(at, []kv.Position{3}) {
		t.Errorf("log after 2: %v", at)
	}
	for _, after := range []kv.Position{3, 4, 1 << 40, 1<<63 - 1} {
		if at, _ := logged(t, ctx, e, after); len(at) != 0 {
			t.Errorf("log after %d: %v, want nothing", after, at)
		}
	}
	if at, err := e.Tail(ctx); err != nil || at != 3 {
		t.Errorf("Tail = %d, %v; want 3", at, err)
	}
}

func reopen(t *testing.T, open Open) {
	dir := filepath.Join(t.TempDir(), "engine")
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	big := bytes.Repeat([]byte("0123456789abcdef"), 1<<14) // 256 KiB
	for round := range 4 {
		e := open(t, dir)
		if at, err := e.Tail(ctx); err != nil || at != kv.Position(3*round) {
			t.Fatalf("round %d: Tail = %d, %v; want %d", round, at, err, 3*round)
		}
		for r := range round {
			got, err := e.MultiGet(ctx, []kv.Key{key("p", fmt.Sprint("small", r)), key("q", fmt.Sprint("big", r)), key("p", fmt.Sprint("gone", r))})
			if err != nil {
				t.Fatal(err)
			}
			if string(got[0]) != "v" || !bytes.Equal(got[1], big) || got[2] != nil {
				t.Fatalf("round %d: what round %d wrote did not survive", round, r)
			}
		}
		commit(t, ctx, e, kv.Batch{Put: []kv.Entry{put("p", fmt.Sprint("small", round), "v"), put("p", fmt.Sprint("gone", round), "v")}, Append: [][]byte{{1}, {2}}})
		if at := commit(t, ctx, e, kv.Batch{
			Put:    []kv.Entry{{Key: key("q", fmt.Sprint("big", round)), Value: big}},
			Delete: []kv.Key{key("p", fmt.Sprint("gone", round))}, Append: [][]byte{{3}},
		}); at != kv.Position(3*round+3) {
			t.Fatalf("round %d: position %d, want %d: positions must go on after reopening", round, at, 3*round+3)
		}
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func checkpoint(t *testing.T, open Open) {
	e, ctx := fresh(t, open)
	commit(t, ctx, e, kv.Batch{Put: []kv.Entry{put("p", "before", "1")}, Append: [][]byte{[]byte("one")}})
	dir := filepath.Join(t.TempDir(), "copy")
	stop := make(chan struct{})
	done := make(chan error, 1)
	go func() { // commits go on meanwhile: key n and record n always together
		for n := 0; ; n++ {
			select {
			case <-stop:
				done <- nil
				return
			default:
			}
			if _, err := e.Commit(ctx, kv.Batch{Put: []kv.Entry{put("p", fmt.Sprintf("during%06d", n), "")}, Append: [][]byte{{}}}); err != nil {
				done <- err
				return
			}
		}
	}()
	err := e.Checkpoint(ctx, dir)
	close(stop)
	if cerr := <-done; err != nil || cerr != nil {
		t.Fatalf("Checkpoint: %v; commits meanwhile: %v", err, cerr)
	}
	if err := e.Checkpoint(ctx, dir); err == nil {
		t.Error("Checkpoint into a directory that exists did not fail")
	}
	commit(t, ctx, e, kv.Batch{Put: []kv.Entry{put("p", "before", "changed since")}})
	c := open(t, dir)
	defer func() { _ = c.Close() }()
	if v, _ := value(t, ctx, c, key("p", "before")); v != "1" {
		t.Errorf("checkpoint holds %q, want what was there when it was made", v)
	}
	tail, err := c.Tail(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(scanned(t, ctx, c, 0, kv.Prefix("p", "during"))); kv.Position(n)+1 != tail {
		t.Errorf("checkpoint is not one moment: %d keys and %d records of those written meanwhile", n, tail-1)
	}
	if at := commit(t, ctx, c, kv.Batch{Append: [][]byte{{}}}); at != tail+1 {
		t.Errorf("a commit to the copy got position %d, want %d", at, tail+1)
	}
}

func closed(t *testing.T, open Open) {
	e := open(t, filepath.Join(t.TempDir(), "engine"))
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	commit(t, ctx, e, kv.Batch{Put: []kv.Entry{put("p", "k", "v")}, Append: [][]byte{{1}}})
	s, err := e.Snapshot(ctx)
	if err != nil {
		t.Fatal(err)
	}
	waiting := e.Changed(1)
	if err := e.Close(); err != nil {
		t.Fatalf("Close with a snapshot open: %v", err)
	}
	select {
	case <-waiting: // woken, so that it can find out
	case <-ctx.Done():
		t.Error("a follower waiting for change was left waiting by Close")
	}
	check := func(what string, err error) {
		t.Helper()
		if !errors.Is(err, kv.ErrClosed) {
			t.Errorf("%s after Close: %v, want ErrClosed", what, err)
		}
	}
	reads := func(what string, r kv.Reader) {
		_, _, err := r.Get(ctx, key("p", "k"))
		check(what+"Get", err)
		_, err = r.MultiGet(ctx, []kv.Key{key("p", "k")})
		check(what+"MultiGet", err)
		err = nil
		for _, err = range r.Scan(ctx, []kv.Range{{Part: "p"}}, 0) {
		}
		check(what+"Scan", err)
	}
	reads("", e)
	reads("Snapshot.", s)
	_, err = e.Commit(ctx, kv.Batch{})
	check("Commit", err)
	err = nil
	for _, err = range e.Log(ctx, 0) {
	}
	check("Log", err)
	_, err = e.Tail(ctx)
	check("Tail", err)
	_, err = e.Snapshot(ctx)
	check("Snapshot", err)
	check("Checkpoint", e.Checkpoint(ctx, filepath.Join(t.TempDir(), "copy")))
	if err := s.Close(); err != nil {
		t.Errorf("closing a snapshot after its engine: %v", err)
	}
	if err := e.Close(); err != nil {
		t.Errorf("a second Close: %v, want nil", err)
	}
}

func cancelled(t *testing.T, open Open) {
	e, ctx := fresh(t, open)
	b := kv.Batch{Append: [][]byte{{1}}}
	for i := range 2000 {
		b.Put = append(b.Put, put("p", fmt.Sprintf("%06d", i), "v"))
	}
	commit(t, ctx, e, b)
	gone, cancel := context.WithCancel(ctx)
	defer cancel()
	n, last := 0, error(nil)
	for _, err := range e.Scan(gone, []kv.Range{{Part: "p"}}, 0) {
		if n, last = n+1, err; err == nil && n == 1 {
			cancel()
		}
	}
	if !errors.Is(last, context.Canceled) || n > 1900 {
		t.Errorf("a scan whose context was cancelled after the first entry gave %d entries and ended with %v", n, last)
	}
	check := func(what string, err error) {
		t.Helper()
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s with a cancelled context: %v", what, err)
		}
	}
	_, _, err := e.Get(gone, key("p", "000000"))
	check("Get", err)
	_, err = e.MultiGet(gone, []kv.Key{key("p", "000000")})
	check("MultiGet", err)
	_, err = e.Commit(gone, kv.Batch{Put: []kv.Entry{put("p", "late", "")}})
	check("Commit", err)
	for _, err = range e.Log(gone, 0) {
	}
	check("Log", err)
	if _, ok := value(t, ctx, e, key("p", "late")); ok {
		t.Error("a commit whose context was cancelled before it began was written")
	}
}
