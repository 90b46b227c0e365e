package pebble

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync"

	"github.com/cockroachdb/pebble/v2"

	"tombolo/kv"
)

// Get returns the value at k.
func (e *Engine) Get(ctx context.Context, k kv.Key) ([]byte, bool, error) {
	if err := e.gate.Enter(ctx); err != nil {
		return nil, false, err
	}
	defer e.gate.Leave()
	return get(e.db, k)
}

// MultiGet returns one value per key.
func (e *Engine) MultiGet(ctx context.Context, keys []kv.Key) ([][]byte, error) {
	if err := e.gate.Enter(ctx); err != nil {
		return nil, err
	}
	defer e.gate.Leave()
	return multiGet(e.db, keys)
}

// Scan yields the entries of the ranges, all from one state.
func (e *Engine) Scan(ctx context.Context, ranges []kv.Range, limit int) iter.Seq2[kv.Entry, error] {
	return func(yield func(kv.Entry, error) bool) {
		if err := e.gate.Enter(ctx); err != nil {
			yield(kv.Entry{}, err)
			return
		}
		defer e.gate.Leave()
		scan(ctx, e.db, ranges, limit, yield)
	}
}

// Snapshot holds one moment. It returns when all that can be seen in it is durable.
func (e *Engine) Snapshot(ctx context.Context) (kv.Snapshot, error) {
	if err := e.gate.Enter(ctx); err != nil {
		return nil, err
	}
	defer e.gate.Leave()
	e.commitMu.Lock()
	s := &snapshot{e: e, snap: e.db.NewSnapshot(), tail: e.tail}
	nth := e.applied.Load()
	e.commitMu.Unlock()
	if err := e.settle(nth); err != nil {
		_ = s.snap.Close()
		return nil, err
	}
	e.snapMu.Lock()
	e.snapshots[s] = struct{}{}
	e.snapMu.Unlock()
	return s, nil
}

type snapshot struct {
	e    *Engine
	snap *pebble.Snapshot
	tail kv.Position

	mu     sync.Mutex
	inside int // reads under way; the last one out of a closed snapshot lets go of it
	closed bool
}

func (s *snapshot) enter(ctx context.Context) error {
	if err := s.e.gate.Enter(ctx); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		s.e.gate.Leave()
		return kv.ErrClosed
	}
	s.inside++
	return nil
}

func (s *snapshot) leave() {
	s.mu.Lock()
	if s.inside--; s.inside == 0 && s.closed {
		_ = s.snap.Close()
	}
	s.mu.Unlock()
	s.e.gate.Leave()
}

func (s *snapshot) Get(ctx context.Context, k kv.Key) ([]byte, bool, error) {
	if err := s.enter(ctx); err != nil {
		return nil, false, err
	}
	defer s.leave()
	return get(s.snap, k)
}

func (s *snapshot) MultiGet(ctx context.Context, keys []kv.Key) ([][]byte, error) {
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	defer s.leave()
	return multiGet(s.snap, keys)
}

func (s *snapshot) Scan(ctx context.Context, ranges []kv.Range, limit int) iter.Seq2[kv.Entry, error] {
	return func(yield func(kv.Entry, error) bool) {
		if err := s.enter(ctx); err != nil {
			yield(kv.Entry{}, err)
			return
		}
		defer s.leave()
		scan(ctx, s.snap, ranges, limit, yield)
	}
}

// Parts yields the partitions, shorter names first: it seeks from one to the next.
func (s *snapshot) Parts(ctx context.Context) iter.Seq2[kv.Part, error] {
	return func(yield func(kv.Part, error) bool) {
		if err := s.enter(ctx); err != nil {
			yield("", err)
			return
		}
		defer s.leave()
		it, err := s.snap.NewIter(&pebble.IterOptions{LowerBound: []byte{tagData}, UpperBound: logKey(0)})
		if err != nil {
			yield("", readError(err))
			return
		}
		defer func() { _ = it.Close() }()
		for ok := it.First(); ok; {
			part, err := partOf(it.Key())
			if err == nil {
				err = ctx.Err()
			}
			if !yield(part, err) || err != nil {
				return
			}
			ok = it.SeekGE(appendEnd(nil, part))
		}
		if err := it.Error(); err != nil {
			yield("", readError(err))
		}
	}
}

func (s *snapshot) Tail() kv.Position { return s.tail }

// Close lets go of the moment, once reads of it under way are done.
func (s *snapshot) Close() error {
	if s.e.gate.Enter(context.Background()) != nil {
		return nil // the engine closed it
	}
	defer s.e.gate.Leave()
	s.e.snapMu.Lock()
	_, open := s.e.snapshots[s]
	delete(s.e.snapshots, s)
	s.e.snapMu.Unlock()
	if !open {
		return nil // closed before
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	if s.inside > 0 {
		return nil
	}
	return s.snap.Close()
}

func get(r pebble.Reader, k kv.Key) ([]byte, bool, error) {
	if err := checkPart(k.Part); err != nil {
		return nil, false, err
	}
	v, closer, err := r.Get(appendKey(make([]byte, 0, 128), k.Part, k.Key))
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, readError(err)
	}
	own := append(make([]byte, 0, len(v)), v...)
	if err := closer.Close(); err != nil {
		return nil, false, readError(err)
	}
	return own, true, nil
}

func multiGet(r pebble.Reader, keys []kv.Key) ([][]byte, error) {
	out := make([][]byte, len(keys))
	if len(keys) == 1 {
		v, ok, err := get(r, keys[0])
		if err != nil || !ok {
			return out, err
		}
		out[0] = v
		return out, nil
	}
	for _, k := range keys {
		if err := checkPart(k.Part); err != nil {
			return nil, err
		}
	}
	var a arena
	err := lookUp(r, len(keys), func(i int) kv.Key { return keys[i] }, func(i int, v []byte, ok bool) error {
		if ok {
			out[i] = a.own(v)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// lookUp finds n keys with one iterator, in key order, so that neighbours cost a step and not a search, and absent ones mostly
// only a look at a Bloom filter. found may be called in any order; it must not keep v.
func lookUp(r pebble.Reader, n int, key func(int) kv.Key, found func(i int, v []byte, ok bool) error) error {
	if n == 0 {
		return nil
	}
	type place struct {
		key []byte
		i   int
	}
	buf := make([]byte, 0, n*64)
	places := make([]place, n)
	for i := range n {
		k, at := key(i), len(buf)
		buf = appendKey(buf, k.Part, k.Key)
		places[i] = place{buf[at:len(buf):len(buf)], i}
	}
	slices.SortFunc(places, func(a, b place) int { return bytes.Compare(a.key, b.key) })
	it, err := r.NewIter(nil)
	if err != nil {
		return readError(err)
	}
	defer func() { _ = it.Close() }()
	for _, p := range places {
		if !it.SeekPrefixGE(p.key) {
			if err := it.Error(); err != nil {
				return readError(err)
			}
			if err := found(p.i, nil, false); err != nil {
				return err
			}
			continue
		}
		v, err := it.ValueAndErr()
		if err != nil {
			return readError(err)
		}
		if err := found(p.i, v, true); err != nil {
			return err
		}
	}
	return nil
}

func scan(ctx context.Context, r pebble.Reader, ranges []kv.Range, limit int, yield func(kv.Entry, error) bool) {
	fail := func(err error) { yield(kv.Entry{}, err) }
	for _, rg := range ranges {
		if err := checkPart(rg.Part); err != nil {
			fail(err)
			return
		}
	}
	if len(ranges) == 0 {
		return
	}
	var it *pebble.Iterator
	defer func() {
		if it != nil {
			_ = it.Close()
		}
	}()
	var a arena
	n := 0
	for _, rg := range ranges {
		if rg.To != "" && rg.To <= rg.From {
			continue
		}
		// Bounds must stay untouched while the iterator has them, so each range gets its own.
		lower := appendKey(nil, rg.Part, rg.From)
		upper := appendEnd(nil, rg.Part)
		if rg.To != "" {
			upper = appendKey(nil, rg.Part, rg.To)
		}
		if it == nil {
			var err error
			if it, err = r.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper}); err != nil {
				fail(readError(err))
				return
			}
		} else {
			it.SetBounds(lower, upper)
		}
		skip := prefixLen(rg.Part)
		for ok := it.First(); ok; ok = it.Next() {
			if n&63 == 0 {
				if err := ctx.Err(); err != nil {
					fail(err)
					return
				}
			}
			v, err := it.ValueAndErr()
			if err != nil {
				fail(readError(err))
				return
			}
			n++
			if !yield(kv.Entry{Key: kv.Key{Part: rg.Part, Key: string(it.Key()[skip:])}, Value: a.own(v)}, nil) {
				return
			}
			if n == limit {
				return
			}
		}
		if err := it.Error(); err != nil {
			fail(readError(err))
			return
		}
	}
}

func readError(err error) error {
	if pebble.IsCorruptionError(err) {
		return fmt.Errorf("read: the store is damaged here: restore a backup: %w", worded(err))
	}
	return fmt.Errorf("read: %w", err)
}

// An arena hands out copies from a few large pieces of memory: a record's thousand values cost a dozen allocations.
type arena struct {
	free []byte
	next int
}

func (a *arena) own(v []byte) []byte {
	if len(v) == 0 {
		return []byte{} // there and empty is not nil
	}
	if len(v) > len(a.free) {
		if a.next = min(max(2*a.next, 1<<10), 128<<10); len(v) >= a.next/4 {
			return append(make([]byte, 0, len(v)), v...)
		}
		a.free = make([]byte, a.next)
	}
	own := a.free[:len(v):len(v)]
	a.free = a.free[len(v):]
	copy(own, v)
	return own
}
