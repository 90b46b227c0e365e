package kvtest

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"testing"

	"tombolo/kv"
)

// compareAndSet: many count up one number, half of them saying since when they have looked.
func compareAndSet(t *testing.T, open Open) {
	e, ctx := fresh(t, open)
	const workers, rounds = 8, 25
	now := func(worker int) kv.Moment {
		if timer, ok := e.(kv.Timer); ok && worker%2 == 0 {
			return timer.Moment()
		}
		return 0
	}
	commit(t, ctx, e, kv.Batch{Put: []kv.Entry{put("p", "count", "0")}})
	together(t, workers, func(worker int) error {
		for range rounds {
			for { // the loop every caller of Commit writes
				since := now(worker)
				v, _, err := e.Get(ctx, key("p", "count"))
				if err != nil {
					return err
				}
				n, _ := strconv.Atoi(string(v))
				_, err = e.Commit(ctx, kv.Batch{
					Expect: []kv.Precondition{{Key: key("p", "count"), Value: v}},
					Put:    []kv.Entry{put("p", "count", strconv.Itoa(n+1))},
					Append: [][]byte{v},
					Since:  since,
				})
				if err == nil {
					break
				}
				if !errors.Is(err, kv.ErrConflict) {
					return err
				}
			}
		}
		return nil
	})
	if v, _ := value(t, ctx, e, key("p", "count")); v != strconv.Itoa(workers*rounds) {
		t.Errorf("count = %s after %d increments: an update was lost", v, workers*rounds)
	}
	_, values := logged(t, ctx, e, 0)
	for i, v := range values {
		if v != strconv.Itoa(i) {
			t.Fatalf("record %d says %s: the log's order is not the order of the commits", i+1, v)
		}
	}
}

// logUnderConcurrency: many commit at once, in batches of different sizes, while several read the log. Each reader must see every
// position exactly once and in order, though it never reads a position twice.
// Sums commute: whoever adds neither waits for nor undoes another, and all of a commit is there or none.
func counters(t *testing.T, open Open) {
	e, ctx := fresh(t, open)
	n, m := key("n", "seen"), key("n/other", "also")
	const writers, each = 8, 25
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				b := kv.Batch{Add: []kv.Sum{{Key: n, By: int64(i)}, {Key: m, By: -1}}, Put: []kv.Entry{put("p", fmt.Sprint(w), fmt.Sprint(i))}}
				if i%5 == 4 { // one that must not count
					b.Expect = []kv.Precondition{{Key: key("p", "never"), Value: []byte("there")}}
				}
				if _, err := e.Commit(ctx, b); (i%5 == 4) != errors.Is(err, kv.ErrConflict) || err != nil && i%5 != 4 {
					t.Errorf("Commit: %v", err)
				}
			}
		})
	}
	wg.Wait()
	want := map[kv.Key]int64{n: 0, m: -writers * each * 4 / 5}
	for i := range each {
		if i%5 != 4 {
			want[n] += writers * int64(i)
		}
	}
	for k, w := range want {
		v, _, err := e.Get(ctx, k)
		if err != nil || kv.CounterOf(v) != w {
			t.Errorf("the counter at %q stands at %d (%v), want %d", k, kv.CounterOf(v), err, w)
		}
	}
	if got := scanned(t, ctx, e, 0, kv.Range{Part: "n"}); len(got) != 1 {
		t.Errorf("a scan finds %q", got)
	}
	// A counter may be set, taken away and begun again, and is a value like any other.
	commit(t, ctx, e, kv.Batch{Put: []kv.Entry{{Key: n, Value: kv.CounterValue(40)}}, Delete: []kv.Key{m}})
	commit(t, ctx, e, kv.Batch{Add: []kv.Sum{{Key: n, By: 2}, {Key: m, By: 7}}})
	values, err := e.MultiGet(ctx, []kv.Key{n, m})
	if err != nil || kv.CounterOf(values[0]) != 42 || kv.CounterOf(values[1]) != 7 {
		t.Errorf("set to 40 and added to it stands at %d, begun again at %d (%v)", kv.CounterOf(values[0]), kv.CounterOf(values[1]), err)
	}
	commit(t, ctx, e, kv.Batch{Expect: []kv.Precondition{{Key: n, Value: kv.CounterValue(42)}}, Put: []kv.Entry{put("p", "held", "")}})
}

func logUnderConcurrency(t *testing.T, open Open) {
	e, ctx := fresh(t, open)
	const workers, rounds = 8, 40
	total := kv.Position(0)
	for w := range workers {
		total += kv.Position(rounds * (1 + w%3))
	}
	var readers sync.WaitGroup
	for r := range 3 {
		readers.Go(func() {
			cursor := kv.Position(0)
			for cursor < total {
				for rec, err := range e.Log(ctx, cursor) {
					if err != nil {
						t.Errorf("reader %d: %v", r, err)
						return
					}
					if rec.At != cursor+1 {
						t.Errorf("reader %d: position %d came after %d", r, rec.At, cursor)
						return
					}
					cursor = rec.At
				}
				if tail, err := e.Tail(ctx); err != nil || tail < cursor {
					t.Errorf("reader %d: Tail %d, %v when %d was already read", r, tail, err, cursor)
					return
				}
				if cursor == total {
					return
				}
				select {
				case <-e.Changed(cursor):
				case <-ctx.Done():
					t.Errorf("reader %d: still waiting after position %d of %d", r, cursor, total)
					return
				}
			}
		})
	}
	var mu sync.Mutex
	owner := map[kv.Position]int{}
	together(t, workers, func(w int) error {
		for range rounds {
			b := kv.Batch{Put: []kv.Entry{put("p", fmt.Sprint(w), "x")}}
			for i := range 1 + w%3 {
				b.Append = append(b.Append, []byte{byte(w), byte(i)})
			}
			at, err := e.Commit(ctx, b)
			if err != nil {
				return err
			}
			if tail, err := e.Tail(ctx); err != nil || tail < at {
				return fmt.Errorf("the tail is %d, %v after the commit of %d was acknowledged", tail, err, at)
			}
			mu.Lock()
			for i := range kv.Position(len(b.Append)) {
				owner[at-i] = w
			}
			mu.Unlock()
		}
		return nil
	})
	readers.Wait()
	at, values := logged(t, ctx, e, 0)
	if kv.Position(len(at)) != total || len(owner) != len(at) {
		t.Fatalf("%d records, positions given out %d, want %d", len(at), len(owner), total)
	}
	for i := range at {
		if owner[at[i]] != int(values[i][0]) {
			t.Fatalf("position %d holds a record of commit %d, whose owner was told it is that of %d", at[i], values[i][0], owner[at[i]])
		}
		if n := values[i][1]; n > 0 && (values[i-1][0] != values[i][0] || values[i-1][1] != n-1) {
			t.Fatalf("the records of one commit are not consecutive at position %d", at[i])
		}
	}
}

func longLog(t *testing.T, open Open) {
	e, ctx := fresh(t, open)
	const n = 3000
	for i := 0; i < n; {
		var b kv.Batch
		for range 500 {
			i++
			b.Append = append(b.Append, binary.AppendUvarint(nil, uint64(i)))
		}
		commit(t, ctx, e, b)
	}
	for _, after := range []kv.Position{0, 1, 511, 512, 513, n - 1} {
		at, values := logged(t, ctx, e, after)
		if len(at) != n-int(after) {
			t.Fatalf("log after %d: %d records, want %d", after, len(at), n-int(after))
		}
		for i := range at {
			if v, _ := binary.Uvarint([]byte(values[i])); kv.Position(v) != at[i] || at[i] != after+kv.Position(i)+1 {
				t.Fatalf("log after %d: record %d holds %d at position %d", after, i, v, at[i])
			}
		}
	}
	// A reader who commits while it reads sees the log as it was when it began: it always comes to an end.
	seen := 0
	for _, err := range e.Log(ctx, 0) {
		if err != nil {
			t.Fatal(err)
		}
		if seen++; seen%1000 == 0 {
			commit(t, ctx, e, kv.Batch{Append: [][]byte{{}}})
		}
	}
	if seen != n {
		t.Errorf("a reader that commits saw %d records, want the %d there were when it began", seen, n)
	}
}

func changed(t *testing.T, open Open) {
	e, ctx := fresh(t, open)
	isClosed := func(ch <-chan struct{}) bool {
		select {
		case <-ch:
			return true
		default:
			return false
		}
	}
	await := func(what string, ch <-chan struct{}) {
		t.Helper()
		select {
		case <-ch:
		case <-ctx.Done():
			t.Fatalf("%s: nobody woke it", what)
		}
	}
	first, second := e.Changed(0), e.Changed(1)
	if isClosed(first) || isClosed(second) {
		t.Fatal("Changed is closed on an empty log")
	}
	commit(t, ctx, e, kv.Batch{Put: []kv.Entry{put("p", "k", "v")}})
	if isClosed(first) {
		t.Error("a commit without records woke a reader of the log")
	}
	commit(t, ctx, e, kv.Batch{Append: [][]byte{{1}}})
	await("after 0, with one record", first)
	if isClosed(second) {
		t.Error("Changed(1) is closed while there is one record")
	}
	commit(t, ctx, e, kv.Batch{Append: [][]byte{{2}, {3}}})
	await("after 1, with three records", second)
	await("after 0, asked late", e.Changed(0))
	await("after 2, asked late", e.Changed(2))
	if isClosed(e.Changed(3)) {
		t.Error("Changed(3) is closed while there are three records")
	}
}

func partitions(t *testing.T, open Open) {
	e, ctx := fresh(t, open)
	b := kv.Batch{Append: [][]byte{{1}}, Put: []kv.Entry{put("p", "a", "1"), put("p", "b", "1"), put("p\xff", "c", ""), put("gone", "x", "")}}
	want := []string{"p", "p\xff"}
	for i := range 2500 { // more than one page, each with several keys
		name := fmt.Sprintf("q/%04d", i)
		b.Put, want = append(b.Put, put(name, "", ""), put(name, "\xff\xff", "")), append(want, name)
	}
	commit(t, ctx, e, b)
	commit(t, ctx, e, kv.Batch{Delete: []kv.Key{key("gone", "x")}})
	s, err := e.Snapshot(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	commit(t, ctx, e, kv.Batch{Put: []kv.Entry{put("late", "x", "")}, Delete: []kv.Key{key("p\xff", "c")}})
	var got []string
	for part, err := range s.Parts(ctx) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, string(part))
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("%d partitions, want %d; the first: %q", len(got), len(want), got[:min(len(got), 5)])
	}
}

func snapshotIsolation(t *testing.T, open Open) {
	e, ctx := fresh(t, open)
	commit(t, ctx, e, kv.Batch{Put: []kv.Entry{put("p", "a", "1"), put("p", "b", "1")}, Append: [][]byte{{1}}})
	s, err := e.Snapshot(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	commit(t, ctx, e, kv.Batch{Put: []kv.Entry{put("p", "a", "2"), put("p", "c", "2")}, Delete: []kv.Key{key("p", "b")}, Append: [][]byte{{2}}})
	if s.Tail() != 1 {
		t.Errorf("snapshot's Tail = %d, want 1", s.Tail())
	}
	wantLines(t, "snapshot", scanned(t, ctx, s, 0, kv.Range{Part: "p"}), "p/a=1", "p/b=1")
	wantLines(t, "engine", scanned(t, ctx, e, 0, kv.Range{Part: "p"}), "p/a=2", "p/c=2")
	if v, ok := value(t, ctx, s, key("p", "b")); !ok || v != "1" {
		t.Errorf("snapshot: b = %q, %v", v, ok)
	}
	got, err := s.MultiGet(ctx, []kv.Key{key("p", "c"), key("p", "a")})
	if err != nil || got[0] != nil || string(got[1]) != "1" {
		t.Errorf("snapshot: MultiGet = %q, %v", got, err)
	}
	if err := s.Close(); err != nil {
		t.Errorf("Snapshot.Close: %v", err)
	}
	if _, _, err := s.Get(ctx, key("p", "a")); !errors.Is(err, kv.ErrClosed) {
		t.Errorf("reading a closed snapshot: %v, want ErrClosed", err)
	}
	if err := s.Close(); err != nil {
		t.Errorf("a second Snapshot.Close: %v", err)
	}
}

// commitsAreSeenWhole: every commit writes the same number under many keys of several partitions. No single read may ever see two.
func commitsAreSeenWhole(t *testing.T, open Open) {
	e, ctx := fresh(t, open)
	write := func(n int) error {
		var b kv.Batch
		for i := range 30 {
			b.Put = append(b.Put, put(fmt.Sprint("p", i%3), fmt.Sprintf("%02d", i), strconv.Itoa(n)))
		}
		_, err := e.Commit(ctx, b)
		return err
	}
	if err := write(0); err != nil {
		t.Fatal(err)
	}
	ranges := []kv.Range{{Part: "p2"}, {Part: "p0"}, {Part: "p1"}}
	keys := []kv.Key{key("p2", "29"), key("p0", "00"), key("p1", "01"), key("p0", "27")}
	reading, stop := context.WithCancel(ctx)
	var writer sync.WaitGroup
	writer.Go(func() {
		for n := 1; reading.Err() == nil; n++ {
			if err := write(n); err != nil {
				t.Errorf("write: %v", err)
				return
			}
		}
	})
	together(t, 2, func(int) error {
		for range 100 {
			var all []string
			for en, err := range e.Scan(ctx, ranges, 0) {
				if err != nil {
					return err
				}
				all = append(all, string(en.Value))
			}
			if len(all) != 30 {
				return fmt.Errorf("a scan saw %d keys, want 30", len(all))
			}
			if err := same("Scan", all); err != nil {
				return err
			}
			got, err := e.MultiGet(ctx, keys)
			if err != nil {
				return err
			}
			all = all[:0]
			for _, v := range got {
				all = append(all, string(v))
			}
			if err := same("MultiGet", all); err != nil {
				return err
			}
		}
		return nil
	})
	stop()
	writer.Wait()
}

func same(what string, values []string) error {
	for _, v := range values {
		if v != values[0] {
			return fmt.Errorf("one %s saw two commits in part: %s and %s", what, values[0], v)
		}
	}
	return nil
}

// together runs n workers at once and reports what went wrong in any.
func together(t *testing.T, n int, work func(worker int) error) {
	t.Helper()
	var wg sync.WaitGroup
	for w := range n {
		wg.Go(func() {
			if err := work(w); err != nil {
				t.Errorf("worker %d: %v", w, err)
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
}
