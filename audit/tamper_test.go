package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"tombolo/kv"
)

// A moment is the log's partition in memory, in order, with one entry of it changed: what Verify finds on a disk on which somebody turned a
// byte, but ten thousand times a minute.
type moment struct {
	entries []kv.Entry
	without int       // the place of the changed one; -1 if nothing is changed
	with    *kv.Entry // what stands there now, in the order of its key; nil if nothing
}

func (m moment) Scan(_ context.Context, ranges []kv.Range, limit int) iter.Seq2[kv.Entry, error] {
	return func(yield func(kv.Entry, error) bool) {
		n := 0
		give := func(e kv.Entry) bool { n++; return yield(e, nil) && (limit == 0 || n < limit) }
		for _, r := range ranges {
			in := func(key string) bool { return key >= r.From && (r.To == "" || key < r.To) }
			given := m.with == nil || !in(m.with.Key.Key)
			i, _ := slices.BinarySearchFunc(m.entries, r.From, func(e kv.Entry, from string) int { return strings.Compare(e.Key.Key, from) })
			for ; i < len(m.entries) && in(m.entries[i].Key.Key); i++ {
				if !given && m.with.Key.Key <= m.entries[i].Key.Key {
					if given = true; !give(*m.with) {
						return
					}
				}
				if i != m.without && (m.with == nil || m.with.Key.Key != m.entries[i].Key.Key) && !give(m.entries[i]) {
					return
				}
			}
			if !given && !give(*m.with) {
				return
			}
		}
	}
}

func (m moment) Get(ctx context.Context, k kv.Key) ([]byte, bool, error) {
	for e := range m.Scan(ctx, []kv.Range{{Part: part, From: k.Key, To: k.Key + "\x00"}}, 1) {
		return e.Value, true, nil
	}
	return nil, false, nil
}

func (m moment) MultiGet(ctx context.Context, keys []kv.Key) ([][]byte, error) {
	out := make([][]byte, len(keys))
	for i, k := range keys {
		out[i], _, _ = m.Get(ctx, k)
	}
	return out, nil
}

func (m moment) verify(t testing.TB, expected ...Head) Report {
	t.Helper()
	rep, err := newVerifier(ctx, m, expected).run()
	if err != nil && !errors.As(err, &rep.Bad) {
		t.Fatal(err)
	}
	return rep
}

// soak reports whether the long forms of tests are to be run.
func soak() bool { return os.Getenv("TOMBOLO_SOAK") != "" }

// Every byte of a log is turned, and found: of every entry each byte (in a soak each bit), at that very entry; of every key, of the indexes,
// the subtrees' roots and the head each byte. What is asked after a turn is the check of that part, and of a share of the turns, and of
// all in whatever is not an entry or an index, the whole of Verify, held to the published head.
func TestEveryByteCounts(t *testing.T) {
	n, whole := 1_000, 9973 // of so many turns of keys, one is verified whole
	if soak() {
		n, whole = 10_000, 29
	}
	e := engine(t)
	l := openLog(t, e, "severn")
	appendN(t, l, n)
	published, err := l.Head(ctx)
	if err != nil {
		t.Fatal(err)
	}
	now := moment{entries: all(t, e), without: -1}
	if r := now.verify(t, published); !r.OK() || r.Entries != uint64(n) {
		t.Fatalf("before anything was changed: %+v", r)
	}
	v := newVerifier(ctx, now, nil)
	if _, err := v.run(); err != nil {
		t.Fatal(err)
	}
	var turns, verified atomic.Int64
	work := make(chan int)
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for i := range work {
				if !t.Failed() {
					turnAll(t, now, v, i, published, int64(whole), &turns, &verified)
				}
			}
		})
	}
	for i := range now.entries {
		work <- i
	}
	close(work)
	wg.Wait()
	t.Logf("%d turns in the %d keys and values of a log of %d entries, %d of them verified whole", turns.Load(), len(now.entries), n, verified.Load())
}

// turnAll turns each byte of one key and its value.
func turnAll(t *testing.T, now moment, v *verifier, i int, published Head, whole int64, turns, verified *atomic.Int64) {
	stored := now.entries[i]
	key := stored.Key.Key
	isEntry := strings.HasPrefix(key, entries)
	isIndex := strings.HasPrefix(key, persons) || strings.HasPrefix(key, users)
	full := func(with kv.Entry, what string) {
		verified.Add(1)
		if r := (moment{now.entries, i, &with}).verify(t, published); r.OK() {
			t.Errorf("%q: %s, and the log is found whole", key, what)
		}
	}
	for j := range stored.Value {
		bits := []int{j % 8}
		if soak() {
			bits = []int{0, 1, 2, 3, 4, 5, 6, 7}
		}
		for _, bit := range bits {
			with := kv.Entry{Key: stored.Key, Value: bytes.Clone(stored.Value)}
			with.Value[j] ^= 1 << bit
			nth := turns.Add(1)
			if !isEntry || nth%(whole*100) == 0 {
				full(with, fmt.Sprintf("bit %d of byte %d turned", bit, j))
			}
			if isEntry {
				s, _ := parseSeq(key[len(entries):])
				c := chunk{last: s - 1}
				var bad *Bad
				if err := c.entry(with); !errors.As(err, &bad) || bad.Seq != s {
					t.Errorf("entry %d, bit %d of byte %d: turning it gives %v", s, bit, j, err)
				}
			}
		}
	}
	for j := range key {
		k := []byte(key)
		k[j] ^= 1 << (j % 7)
		with := kv.Entry{Key: kv.Key{Part: part, Key: string(k)}, Value: stored.Value}
		if nth := turns.Add(1); !isEntry && !isIndex || nth%whole == 0 {
			full(with, fmt.Sprintf("its key made %q", k))
		}
		switch {
		case isEntry:
			turnedEntry(t, now, i, with)
		case isIndex: // the sum over the indexes is what tells: with the strange key in it, or without if it is no longer in an index
			there := v.sum
			there.sum -= total1(v, key)
			if in := string(k); strings.HasPrefix(in, persons) || strings.HasPrefix(in, users) {
				there.sum += total1(v, in)
			} else {
				there.n--
			}
			if there == v.sum {
				t.Errorf("%q made %q: the sum over the indexes is the same", key, k)
			}
		}
	}
}

func total1(v *verifier, key string) uint64 {
	var t total
	t.add(v.seed, []byte(key))
	return t.sum
}

// turnedEntry looks at the places where an entry whose key was changed is missed: the entry behind it finds the gap, or the end of the log.
func turnedEntry(t *testing.T, now moment, i int, with kv.Entry) {
	s, _ := parseSeq(now.entries[i].Key.Key[len(entries):])
	c := chunk{last: s - 1}
	if strings.HasPrefix(with.Key.Key, entries) {
		if err := c.entry(with); err == nil {
			t.Errorf("entry %d under the key %q is taken for it", s, with.Key.Key)
		}
	}
	if i+1 < len(now.entries) && strings.HasPrefix(now.entries[i+1].Key.Key, entries) {
		c.last = s - 1
		if err := c.entry(now.entries[i+1]); err == nil {
			t.Errorf("entry %d is gone, and the one behind it does not tell", s)
		}
	}
}

// Each entry dropped, doubled, exchanged with its neighbour, and every tail cut off, the head made to agree as far as it can be: found,
// the tail against a head that was published.
func TestEveryRearrangementIsFound(t *testing.T) {
	e := engine(t)
	l := openLog(t, e, "severn")
	n, every := Seq(263), Seq(11)
	if soak() {
		n, every = 10_000, 1
	}
	appendN(t, l, int(n))
	published, err := l.Head(ctx)
	if err != nil {
		t.Fatal(err)
	}
	values := map[Seq][]byte{}
	for s := Seq(1); s <= n; s++ {
		values[s] = get(t, e, entryKey(s))
	}
	put := func(s Seq, v []byte) kv.Entry { return kv.Entry{Key: entryKey(s), Value: v} }
	try := func(what string, s Seq, do, undo kv.Batch) {
		t.Helper()
		commit(t, e, do)
		if r := verify(t, l, published); r.OK() {
			t.Errorf("entry %d %s: not noticed", s, what)
		}
		commit(t, e, undo)
	}
	for s := Seq(1); s <= n; s += every {
		back := kv.Batch{Put: []kv.Entry{put(s, values[s])}}
		try("dropped", s, kv.Batch{Delete: []kv.Key{entryKey(s)}}, back)
		if s < n {
			back.Put = append(back.Put, put(s+1, values[s+1]))
			try("doubled over the next", s, kv.Batch{Put: []kv.Entry{put(s+1, values[s])}}, back)
			try("exchanged with the next", s, kv.Batch{Put: []kv.Entry{put(s, values[s+1]), put(s+1, values[s])}}, back)
		}
	}
	try("doubled at the end", n, kv.Batch{Put: []kv.Entry{put(n+1, values[n])}}, kv.Batch{Delete: []kv.Key{entryKey(n + 1)}})
	whole := all(t, e)
	for cut := Seq(n - 1); cut < n; cut -= every { // down to the empty log
		commit(t, e, cutTo(t, e, cut))
		if r := verify(t, l); !r.OK() {
			t.Fatalf("a log cut to %d entries with everything made to agree: %v (the cut is not what it should be)", cut, r.Bad)
		}
		if r := verify(t, l, published); r.OK() || r.Bad.Seq != cut+1 {
			t.Errorf("cut to %d entries: %v", cut, r.Bad)
		}
	}
	commit(t, e, kv.Batch{Put: whole})
	if r := verify(t, l, published); !r.OK() {
		t.Errorf("all put back: %v", r.Bad)
	}
}

func commit(t *testing.T, e kv.Engine, b kv.Batch) {
	t.Helper()
	if _, err := e.Commit(ctx, b); err != nil {
		t.Fatal(err)
	}
}

func all(t *testing.T, e kv.Engine) (out []kv.Entry) {
	t.Helper()
	for x, err := range e.Scan(ctx, []kv.Range{{Part: part}}, 0) {
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, x)
	}
	return out
}

// cutTo is what somebody with the disk and this program would do to make the log end at n entries without a trace on this disk.
func cutTo(t *testing.T, e kv.Engine, n Seq) (b kv.Batch) {
	t.Helper()
	var grown tree
	want := map[kv.Key]bool{}
	for _, x := range all(t, e) {
		if s, ok := parseSeq(strings.TrimPrefix(x.Key.Key, entries)); ok && strings.HasPrefix(x.Key.Key, entries) && s <= n {
			grown.add(Hash(x.Value[:hashSize]), func(level int, n uint64, _ Hash) { want[subtreeKey(level, n)] = true })
			want[x.Key] = true
			person, user, _, _ := places(x.Value[hashSize:])
			want[personKey(person, s)], want[userKey(user, s)] = true, true
		}
	}
	for _, x := range all(t, e) {
		if !want[x.Key] && x.Key.Key != headKey {
			b.Delete = append(b.Delete, x.Key)
		}
	}
	if n == 0 {
		b.Delete = append(b.Delete, kv.Key{Part: part, Key: headKey})
		return b
	}
	b.Put = []kv.Entry{{Key: kv.Key{Part: part, Key: headKey}, Value: grown.encode()}}
	return b
}

// Tampering in the store itself, as somebody with the disk could do it. Verify names the first place that is wrong.
func TestTamperingIsFound(t *testing.T) {
	key := func(s Seq) kv.Key { return entryKey(s) }
	head := kv.Key{Part: part, Key: headKey}
	for name, c := range map[string]struct {
		tamper func(t *testing.T, e kv.Engine) kv.Batch
		at     Seq
		says   string
	}{
		"one bit of the text": {func(t *testing.T, e kv.Engine) kv.Batch {
			v := get(t, e, key(7))
			v[len(v)/2] ^= 4
			return kv.Batch{Put: []kv.Entry{{Key: key(7), Value: v}}}
		}, 7, "altered"},
		"an entry deleted": {func(t *testing.T, e kv.Engine) kv.Batch {
			return kv.Batch{Delete: []kv.Key{key(5)}}
		}, 5, "missing"},
		"the first deleted": {func(t *testing.T, e kv.Engine) kv.Batch {
			return kv.Batch{Delete: []kv.Key{key(1)}}
		}, 1, "missing"},
		"two exchanged": {func(t *testing.T, e kv.Engine) kv.Batch {
			return kv.Batch{Put: []kv.Entry{{Key: key(4), Value: get(t, e, key(8))}, {Key: key(8), Value: get(t, e, key(4))}}}
		}, 1, "entries 1 to 8: do not agree"},
		"one replaced by a forgery with a good hash": {func(t *testing.T, e kv.Engine) kv.Batch {
			return kv.Batch{Put: []kv.Entry{{Key: key(6), Value: forged(get(t, e, key(6)))}}}
		}, 1, "entries 1 to 8: do not agree"},
		"one added at the end": {func(t *testing.T, e kv.Engine) kv.Batch {
			return kv.Batch{Put: []kv.Entry{{Key: key(13), Value: get(t, e, key(12))}}}
		}, 13, "after the log's head"},
		"one added before the first": {func(t *testing.T, e kv.Engine) kv.Batch {
			return kv.Batch{Put: []kv.Entry{{Key: key(0), Value: get(t, e, key(1))}}}
		}, 0, "before the first"},
		"the tail cut": {func(t *testing.T, e kv.Engine) kv.Batch {
			return kv.Batch{Delete: []kv.Key{key(11), key(12)}}
		}, 11, "missing"},
		"the tail cut and the head put back": {func(t *testing.T, e kv.Engine) kv.Batch {
			return cutTo(t, e, 10)
		}, 11, "was published"},
		"all written anew from the third on": {func(t *testing.T, e kv.Engine) kv.Batch {
			var b kv.Batch
			var grown tree
			for s := Seq(1); s <= 12; s++ {
				v := get(t, e, key(s))
				if s >= 3 {
					v = forged(v)
				}
				grown.add(Hash(v[:hashSize]), nil)
				b.Put = append(b.Put, kv.Entry{Key: key(s), Value: v})
			}
			b.Put = append(b.Put, kv.Entry{Key: head, Value: grown.encode()})
			return b
		}, 9, "was written anew"},
		"all gone": {func(t *testing.T, e kv.Engine) kv.Batch {
			var b kv.Batch
			for x, err := range e.Scan(ctx, []kv.Range{{Part: part}}, 0) {
				if err != nil {
					t.Fatal(err)
				}
				b.Delete = append(b.Delete, x.Key)
			}
			return b
		}, 1, "was published"},
		"hidden from its person": {func(t *testing.T, e kv.Engine) kv.Batch {
			return kv.Batch{Delete: []kv.Key{personKey("margaret", 4)}}
		}, 4, "not in its person's index"},
		"shown to somebody else": {func(t *testing.T, e kv.Engine) kv.Batch {
			return kv.Batch{Put: []kv.Entry{{Key: personKey("harold", 4), Value: []byte{}}}}
		}, 4, "not about"},
		"moved to somebody else": {func(t *testing.T, e kv.Engine) kv.Batch {
			return kv.Batch{Put: []kv.Entry{{Key: personKey("harold", 4), Value: []byte{}}}, Delete: []kv.Key{personKey("margaret", 4)}}
		}, 4, "index"},
		"the head's hash": {func(t *testing.T, e kv.Engine) kv.Batch {
			v := get(t, e, head)
			v[20] ^= 1
			return kv.Batch{Put: []kv.Entry{{Key: head, Value: v}}}
		}, 1, "do not agree with the log's head"},
		"the head gone": {func(t *testing.T, e kv.Engine) kv.Batch {
			return kv.Batch{Delete: []kv.Key{head}}
		}, 1, "after the log's head"},
		"the head cut short": {func(t *testing.T, e kv.Engine) kv.Batch {
			return kv.Batch{Put: []kv.Entry{{Key: head, Value: get(t, e, head)[:11]}}}
		}, 0, "not one"},
		"hidden from the user's own list": {func(t *testing.T, e kv.Engine) kv.Batch {
			return kv.Batch{Delete: []kv.Key{userKey("dr-patel", 4)}}
		}, 4, "not in its user's index"},
		"something strange beside it": {func(t *testing.T, e kv.Engine) kv.Batch {
			return kv.Batch{Put: []kv.Entry{{Key: kv.Key{Part: part, Key: "x"}, Value: []byte("y")}}}
		}, 0, "did not write"},
	} {
		t.Run(name, func(t *testing.T) {
			e := engine(t)
			l := openLog(t, e, "severn")
			appendN(t, l, 9)
			ninth, err := l.Head(ctx)
			if err != nil {
				t.Fatal(err)
			}
			appendN(t, l, 3)
			twelfth, _ := l.Head(ctx)
			if r := verify(t, l, twelfth, ninth); !r.OK() || r.Head != twelfth || r.Entries != 12 {
				t.Fatalf("before: %+v", r)
			}
			if _, err := e.Commit(ctx, c.tamper(t, e)); err != nil {
				t.Fatal(err)
			}
			r := verify(t, l, ninth, twelfth)
			if r.OK() || r.Bad.Seq != c.at || !strings.Contains(r.Bad.Error(), c.says) {
				t.Errorf("found %v, want entry %d: …%s…", r.Bad, c.at, c.says)
			}
		})
	}
}

// forged is an entry rewritten to name somebody else, with a hash that agrees.
func forged(v []byte) []byte {
	person, user, packed, _ := places(v[hashSize:])
	body, err := unpacker.DecodeAll(packed, nil)
	if err != nil {
		panic(err)
	}
	r := record(0, time.Time{}, person, user, bytes.Replace(body, []byte("Asha"), []byte("Anna"), 1))
	return value(tlog.RecordHash(r), r)
}
