package audit

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"iter"
	"math/bits"
	"net/url"
	"runtime"
	"slices"
	"strings"
	"sync"

	"golang.org/x/mod/sumdb/tlog"

	"tombolo/fhir"
	"tombolo/kv"
)

// A Report says what Verify found.
type Report struct {
	Entries uint64 // entries that are good, from the first on
	Head    Head   // of the last good one
	Bad     *Bad   // the first thing wrong; nil if all is well
}

// A Bad is the first place at which the log is not as it was written.
type Bad struct {
	Seq  Seq // the entry; 0 if it is not about one
	To   Seq // where only a range can be told, its last entry; else 0
	What string
}

func (b *Bad) Error() string {
	switch {
	case b.Seq == 0:
		return "audit log: " + b.What
	case b.To > b.Seq:
		return fmt.Sprintf("audit log, entries %d to %d: %s", b.Seq, b.To, b.What)
	}
	return fmt.Sprintf("audit log, entry %d: %s", b.Seq, b.What)
}

// OK reports whether nothing is wrong.
func (r Report) OK() bool { return r.Bad == nil }

// Verify reads the whole log and finds any entry that was altered, removed, added or moved, and any change to the indexes, the kept
// subtree roots or the head. Expected are heads that others kept: with them it also finds a log that was cut off or written anew. The
// error is for a log that cannot be read; what is found is in the Report.
func (l *Log) Verify(ctx context.Context, expected ...Head) (Report, error) {
	snap, err := l.engine.Snapshot(ctx)
	if err != nil {
		return Report{}, fhir.Errorf(fhir.NoStore, "verify the audit log: %w", err)
	}
	defer func() { _ = snap.Close() }()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	v := newVerifier(ctx, snap, expected)
	rep, err := v.run()
	if err == nil {
		return rep, nil
	}
	if errors.As(err, &rep.Bad) {
		return rep, nil
	}
	return rep, fhir.Errorf(fhir.NoStore, "verify the audit log: read after entry %d: %w", rep.Entries, err)
}

// Entries are checked in chunks by as many workers as there are processors; a chunk is a whole number of kept subtrees.
const (
	chunkLevel = 12
	chunkSize  = 1 << chunkLevel
)

// A verifier checks one moment of the log.
type verifier struct {
	ctx      context.Context
	r        kv.Reader
	heads    []Head // those expected, in order
	expected []Head // those of them still ahead
	stored   tree
	isHead   bool
	spoilt   error           // what stands in the head's place is none
	anew     error           // an expected head is not that of the log as it was then
	kept     map[string]Hash // subtree roots, by key

	seed maphash.Seed
	sum  total // of the places that entries want in the indexes
}

// A total is a sum over places that does not depend on their order. Its seed is secret, so that nobody can make two sets of places
// with the same sum.
type total struct{ sum, n uint64 }

func (t *total) add(seed maphash.Seed, key []byte) {
	t.sum += maphash.Bytes(seed, key)
	t.n++
}

// A chunk is what was found in a run of entries.
type chunk struct {
	tree     tree // of this chunk's entries alone
	subtrees []Hash
	at       []tree // as it stood at each expected head in it
	last     Seq
	sum      total
	err      error
}

func newVerifier(ctx context.Context, r kv.Reader, expected []Head) *verifier {
	expected = slices.Clone(expected)
	slices.SortFunc(expected, func(a, b Head) int { return cmp.Compare(a.Seq, b.Seq) })
	for len(expected) > 0 && expected[0].Seq == 0 { // an empty log is the beginning of any
		expected = expected[1:]
	}
	return &verifier{ctx: ctx, r: r, heads: expected, expected: expected, seed: maphash.MakeSeed(), kept: map[string]Hash{}}
}

func (v *verifier) run() (Report, error) {
	indexed := make(chan error, 1)
	var there total
	go func() {
		var err error
		there, err = v.indexed()
		indexed <- err
	}()
	beside := v.beside()
	rep, err := v.entries()
	if ierr := <-indexed; err == nil {
		err = ierr
	}
	switch {
	case err != nil:
	case beside != nil:
		err = beside
	case there != v.sum:
		if err = v.indexFault(); err == nil {
			err = &Bad{What: "the indexes by person and user do not agree with the entries"}
		}
	}
	return rep, err
}

// beside reads everything that is neither an entry nor an index: the head, the roots of subtrees, and what should not be there.
func (v *verifier) beside() error {
	var bad error
	after := func(prefix string) string { return kv.Prefix(part, prefix).To }
	for e, err := range v.r.Scan(v.ctx, []kv.Range{{Part: part, To: entries}, {Part: part, From: after(entries), To: persons}, {Part: part, From: after(persons), To: users}, {Part: part, From: after(users)}}, 0) {
		if err != nil {
			return err
		}
		key := e.Key.Key
		switch {
		case key == headKey:
			if v.stored, v.isHead = decodeTree(e.Value); !v.isHead {
				v.spoilt = &Bad{What: "the head is not one"}
			}
		case strings.HasPrefix(key, subtrees) && len(e.Value) == hashSize:
			v.kept[key] = Hash(e.Value)
		default:
			bad = cmp.Or[error](bad, &Bad{What: "something stands there that the log did not write"})
		}
	}
	return bad
}

// entries checks every entry, and that together they are the tree whose head is kept.
func (v *verifier) entries() (Report, error) {
	var all tree
	var rep Report
	for c := range v.chunks() {
		bad := c.err
		for i, root := range c.subtrees { // before an entry's own fault, for those lie further on
			if err := v.subtree(step, all.size>>step+uint64(i), root); err != nil {
				rep.Entries, rep.Head = all.size, all.head()
				return rep, err
			}
		}
		for _, at := range c.at {
			want := v.expected[0]
			v.expected = v.expected[1:]
			if upTo := joined(all, at); upTo.head() != want && v.anew == nil {
				v.anew = &Bad{Seq: want.Seq, What: "is not the end of the log whose head was published: the log up to here was written anew"}
			}
		}
		v.sum.sum, v.sum.n = v.sum.sum+c.sum.sum, v.sum.n+c.sum.n
		if c.tree.size == chunkSize {
			all.addSubtree(c.tree.root(), chunkLevel, func(level int, n uint64, root Hash) {
				if err := v.subtree(level, n, root); err != nil && bad == nil {
					bad = err
				}
			})
		} else {
			all = joined(all, c.tree)
		}
		rep.Entries, rep.Head = all.size, all.head()
		if bad != nil {
			return rep, bad
		}
	}
	return rep, v.end(all)
}

// joined is a tree of whole chunks with one more, not whole, behind it.
func joined(all, more tree) tree {
	t := all.clone()
	t.size += more.size
	t.peaks = append(t.peaks, more.peaks...)
	return t
}

// addSubtree adds a perfect subtree of 2^level leaves; the tree must consist of a whole number of such.
func (t *tree) addSubtree(root Hash, level int, done func(level int, n uint64, root Hash)) {
	h, size := root, t.size
	for n := size >> level; n&1 == 1; n >>= 1 {
		last := len(t.peaks) - 1
		h = tlog.NodeHash(t.peaks[last], h)
		t.peaks = t.peaks[:last]
		if level++; level%step == 0 {
			done(level, n>>1, h)
		}
	}
	t.peaks = append(t.peaks, h)
	t.size = size + chunkSize
}

// subtree holds a computed root to the kept one.
func (v *verifier) subtree(level int, n uint64, root Hash) error {
	k := subtreeKey(level, n).Key
	kept, ok := v.kept[k]
	delete(v.kept, k)
	first := Seq(n<<level) + 1
	switch {
	case !ok:
		return &Bad{Seq: first, To: first + 1<<level - 1, What: "the hash over them is missing"}
	case kept != root:
		return &Bad{Seq: first, To: first + 1<<level - 1, What: "do not agree with the hash over them: one of them was replaced, or the hash was changed"}
	}
	return nil
}

// end judges what can only be known when all was read.
func (v *verifier) end(all tree) error {
	last, stored := Seq(all.size), Seq(v.stored.size)
	if v.spoilt != nil {
		return v.spoilt
	}
	if !v.isHead && v.stored.size == 0 && last > 0 {
		return &Bad{Seq: 1, What: "stands after the log's head, which is missing"}
	}
	switch {
	case stored > last:
		return &Bad{Seq: last + 1, What: fmt.Sprintf("is missing: the log ends at %d and its head says %d", last, stored)}
	case stored < last:
		return &Bad{Seq: stored + 1, What: fmt.Sprintf("stands after the log's head, which says %d: it was added, or the head was put back", stored)}
	case len(v.expected) > 0:
		return &Bad{Seq: last + 1, What: fmt.Sprintf("is missing: the log ends at %d, and a head at %d was published", last, v.expected[0].Seq)}
	}
	first := Seq(1)
	for i, p := range all.peaks { // the subtrees of which the log is made, to say in which of them the fault is
		size := Seq(1) << (bits.Len64(uint64(last-first+1)) - 1)
		if p != v.stored.peaks[i] {
			return &Bad{Seq: first, To: first + size - 1, What: "do not agree with the log's head: one of them was replaced, or the head was changed"}
		}
		first += size
	}
	if v.anew != nil {
		return v.anew
	}
	if len(v.kept) > 0 {
		return &Bad{What: "something stands there that the log did not write"}
	}
	return nil
}

// chunks reads the entries by chunk, several at a time, and yields them in order until one has a fault or is the last.
func (v *verifier) chunks() iter.Seq[chunk] {
	return func(yield func(chunk) bool) {
		workers := runtime.GOMAXPROCS(0)
		ahead := make(chan chan chunk, workers) // results in order
		stop := make(chan struct{})
		var wg sync.WaitGroup
		defer wg.Wait()
		defer close(stop)
		n := max(1, (v.stored.size+chunkSize-1)/chunkSize)
		wg.Go(func() {
			defer close(ahead)
			for i := range n {
				result := make(chan chunk, 1)
				select {
				case ahead <- result:
				case <-stop:
					return
				}
				wg.Go(func() { result <- v.chunk(i, i == n-1) })
			}
		})
		for result := range ahead {
			if c := <-result; !yield(c) || c.err != nil {
				return
			}
		}
	}
}

// chunk reads one run of entries. The last one reads on to whatever stands behind the log's head.
func (v *verifier) chunk(i uint64, last bool) (c chunk) {
	first := Seq(i*chunkSize) + 1
	r := kv.Range{Part: part, From: entries + hexSeq(first), To: entries + hexSeq(first+chunkSize)}
	if i == 0 {
		r.From = entries
	}
	if last {
		r.To = kv.Prefix(part, entries).To
	}
	at := v.heads
	for len(at) > 0 && at[0].Seq < first {
		at = at[1:]
	}
	c.last = first - 1
	var key []byte
	for e, err := range v.r.Scan(v.ctx, []kv.Range{r}, 0) {
		if err != nil {
			c.err = err
			return c
		}
		if c.err = c.entry(e); c.err != nil {
			return c
		}
		record := e.Value[hashSize:]
		person, user, _, _ := places(record)
		for _, of := range [2][2]string{{persons, person}, {users, user}} {
			if of[1] != "" {
				key = append(append(append(append(key[:0], of[0]...), url.PathEscape(of[1])...), '/'), e.Key.Key[len(entries):]...)
				c.sum.add(v.seed, key)
			}
		}
		for len(at) > 0 && at[0].Seq == c.last {
			c.at = append(c.at, c.tree.clone())
			at = at[1:]
		}
	}
	if want := first + chunkSize - 1; !last && c.last != want {
		c.err = &Bad{Seq: c.last + 1, What: "is missing"}
	}
	return c
}

// entry checks one entry in its place.
func (c *chunk) entry(e kv.Entry) error {
	next := c.last + 1
	s, ok := parseSeq(e.Key.Key[len(entries):])
	switch {
	case !ok:
		return &Bad{Seq: next, What: "before it stands a key that is no entry"}
	case s == 0:
		return &Bad{What: "an entry stands before the first"}
	case s != next:
		return &Bad{Seq: next, What: fmt.Sprintf("is missing; the next there is has number %d", s)}
	}
	if len(e.Value) < hashSize {
		return &Bad{Seq: s, What: "has been altered: it is cut short"}
	}
	leaf := tlog.RecordHash(e.Value[hashSize:])
	if leaf != Hash(e.Value[:hashSize]) {
		return &Bad{Seq: s, What: "has been altered: it does not agree with its hash"}
	}
	if _, _, _, ok := places(e.Value[hashSize:]); !ok {
		return &Bad{Seq: s, What: "is not in a form that this program writes: it was replaced, or written by another version"}
	}
	c.tree.add(leaf, func(level int, _ uint64, root Hash) {
		if level == step {
			c.subtrees = append(c.subtrees, root)
		}
	})
	c.last = s
	return nil
}

// indexed sums up the indexes as they are.
func (v *verifier) indexed() (total, error) {
	var t total
	for e, err := range v.r.Scan(v.ctx, []kv.Range{kv.Prefix(part, persons), kv.Prefix(part, users)}, 0) {
		if err != nil {
			return t, err
		}
		if len(e.Value) != 0 {
			return t, &Bad{What: "something stands there that the log did not write"}
		}
		t.sum += maphash.String(v.seed, e.Key.Key)
		t.n++
	}
	return t, nil
}

// indexFault looks for the entry that an index has wrong. It reads all again, which only happens when something is.
func (v *verifier) indexFault() error {
	for e, err := range v.r.Scan(v.ctx, []kv.Range{kv.Prefix(part, entries)}, 0) {
		if err != nil {
			return err
		}
		s, _ := parseSeq(e.Key.Key[len(entries):])
		person, user, _, _ := places(e.Value[hashSize:])
		for _, at := range []struct {
			whose, says string
			key         kv.Key
		}{{person, "is not in its person's index: they would not be shown it", personKey(person, s)}, {user, "is not in its user's index", userKey(user, s)}} {
			if at.whose == "" {
				continue
			}
			if _, ok, err := v.r.Get(v.ctx, at.key); err != nil {
				return err
			} else if !ok {
				return &Bad{Seq: s, What: at.says}
			}
		}
	}
	for e, err := range v.r.Scan(v.ctx, []kv.Range{kv.Prefix(part, persons), kv.Prefix(part, users)}, 0) {
		if err != nil {
			return err
		}
		key := e.Key.Key
		s, ok := parseSeq(key[strings.LastIndexByte(key, '/')+1:])
		if !ok {
			return &Bad{What: "an index holds what is no place"}
		}
		value, there, err := v.r.Get(v.ctx, entryKey(s))
		if err != nil {
			return err
		}
		if !there {
			return &Bad{Seq: s, What: "stands in an index and is not there"}
		}
		person, user, _, _ := places(value[min(hashSize, len(value)):])
		if key != personKey(person, s).Key && key != userKey(user, s).Key {
			return &Bad{Seq: s, What: "stands in the index of somebody whom it is not about"}
		}
	}
	return nil
}
