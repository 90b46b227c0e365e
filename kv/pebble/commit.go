package pebble

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"

	"github.com/cockroachdb/pebble/v2"

	"tombolo/kv"
)

// large is a batch that costs more than all that is ordinarily in memory together.
const large = 8 << 20

// Commit applies b. Many commits may be under way at once: checking, positions and application happen one after the other
// under a mutex, and the waiting for the disk, which is nearly all of the time, happens outside it and together.
func (e *Engine) Commit(ctx context.Context, b kv.Batch) (kv.Position, error) {
	if err := e.gate.Enter(ctx); err != nil {
		return 0, err
	}
	defer e.gate.Leave()
	if err := checkBatch(b); err != nil {
		return 0, err
	}
	empty := len(b.Put)+len(b.Delete)+len(b.Add)+len(b.Append) == 0
	if !empty {
		if e.opts.ReadOnly {
			return 0, fmt.Errorf("commit to store %s: it was opened read-only", e.opts.Dir)
		}
		if err := e.space.enough(); err != nil {
			return 0, err
		}
	}

	seen := uint64(b.Since)
	if seen == 0 { // before taking the mutex: only what is written meanwhile need be looked at again inside
		seen = e.moment()
		if err := e.expect(b.Expect); err != nil {
			return 0, err
		}
	}
	size := batchSize(b)
	if size > large {
		runtime.GC() // what its making left over goes first: Pebble copies it whole, several times, and on a busy machine the collector comes too late
	}
	batch := e.db.NewBatchWithSize(size)
	defer func() { _ = batch.Close() }()
	if err := fill(batch, b); err != nil {
		return 0, fmt.Errorf("commit: %w", err)
	}

	nth, at, err := e.apply(batch, b, seen, empty)
	if err != nil {
		return 0, err
	}
	if !empty {
		e.quiet.Reset(quiet)
		e.rest.Reset(rest)
	}
	if lazy(b) {
		return at, nil
	}
	if empty {
		// Whoever is told that all stands as expected may act on it: so what was seen must be durable.
		return at, e.settle(nth)
	}
	if err := batch.SyncWait(); err != nil {
		// It shows already and may not be durable; and Pebble, which stops by itself where it waits itself, writes no log after this.
		e.stop("write-ahead log", err)
		return 0, fmt.Errorf("commit: sync the write-ahead log: %w", err)
	}
	e.durable(nth, at)
	return at, nil
}

// apply gives the batch its log positions and makes it visible. It returns which commit it is and the log's tail with it.
func (e *Engine) apply(batch *pebble.Batch, b kv.Batch, seen uint64, empty bool) (nth uint64, at kv.Position, err error) {
	e.commitMu.Lock()
	defer e.commitMu.Unlock()
	if e.moment() != seen {
		if err := e.expect(e.writes.since(seen, b.Expect)); err != nil {
			return 0, 0, err
		}
	}
	if empty {
		return e.applied.Load(), e.tail, nil
	}
	e.writes.note(e.moment()+1, b) // before anybody can see it
	at = e.tail
	for _, record := range b.Append {
		at++
		if err := batch.Set(logKey(at), record, nil); err != nil {
			return 0, 0, fmt.Errorf("commit: %w", err)
		}
	}
	if lazy(b) {
		err = e.db.Apply(batch, pebble.NoSync)
	} else {
		err = e.db.ApplyNoSyncWait(batch, pebble.Sync)
	}
	if err != nil {
		return 0, 0, fmt.Errorf("commit: %w", err)
	}
	e.tail = at
	return e.applied.Add(1), at, nil
}

// lazy reports whether a batch need not wait for the disk. One that writes nothing waits: it is there to be told that what was seen is durable.
func lazy(b kv.Batch) bool {
	return b.Lazy && len(b.Append) == 0 && len(b.Put)+len(b.Delete)+len(b.Add) > 0
}

// durable records that commit nth, and so all before it (they stand before it in the write-ahead log), survived.
func (e *Engine) durable(nth uint64, at kv.Position) {
	for old := e.synced.Load(); old < nth && !e.synced.CompareAndSwap(old, nth); old = e.synced.Load() {
	}
	e.log.Reveal(at)
}

// settle waits until commit nth and all before it are durable.
func (e *Engine) settle(nth uint64) error {
	if e.synced.Load() >= nth {
		return nil
	}
	// An empty record, synced, stands behind them all in the write-ahead log.
	if err := e.db.LogData(nil, pebble.Sync); err != nil {
		e.stop("write-ahead log", err)
		return fmt.Errorf("sync the write-ahead log: %w", err)
	}
	return nil
}

// expect looks whether the preconditions hold now.
func (e *Engine) expect(pre []kv.Precondition) error {
	if len(pre) == 0 {
		return nil
	}
	if len(pre) == 1 {
		v, closer, err := e.db.Get(appendKey(nil, pre[0].Key.Part, pre[0].Key.Key))
		if errors.Is(err, pebble.ErrNotFound) {
			return met(pre[0], nil, false)
		}
		if err != nil {
			return fmt.Errorf("commit: read a precondition: %w", err)
		}
		return errors.Join(met(pre[0], v, true), closer.Close())
	}
	return lookUp(e.db, len(pre), func(i int) kv.Key { return pre[i].Key }, func(i int, v []byte, ok bool) error {
		return met(pre[i], v, ok)
	})
}

func met(p kv.Precondition, v []byte, ok bool) error {
	if p.Absent == ok || ok && !bytes.Equal(p.Value, v) {
		return kv.ErrConflict
	}
	return nil
}

func checkBatch(b kv.Batch) error {
	for _, p := range b.Expect {
		if err := checkPart(p.Key.Part); err != nil {
			return err
		}
	}
	for _, p := range b.Put {
		if err := checkPart(p.Key.Part); err != nil {
			return err
		}
	}
	for _, k := range b.Delete {
		if err := checkPart(k.Part); err != nil {
			return err
		}
	}
	for _, s := range b.Add {
		if err := checkPart(s.Key.Part); err != nil {
			return err
		}
	}
	return nil
}

func batchSize(b kv.Batch) int {
	n := 64
	for _, p := range b.Put {
		n += len(p.Key.Part) + len(p.Key.Key) + len(p.Value) + 16
	}
	for _, k := range b.Delete {
		n += len(k.Part) + len(k.Key) + 16
	}
	for _, s := range b.Add {
		n += len(s.Key.Part) + len(s.Key.Key) + 24
	}
	for _, r := range b.Append {
		n += len(r) + 16
	}
	return n
}

// fill writes puts and deletes in the order of the contract: a key that is both put and deleted ends deleted.
func fill(batch *pebble.Batch, b kv.Batch) error {
	var key []byte
	for i, p := range b.Put {
		key = appendKey(key[:0], p.Key.Part, p.Key.Key)
		if err := batch.Set(key, p.Value, nil); err != nil {
			return err
		}
		if b.Given {
			b.Put[i].Value = nil
		}
	}
	for _, k := range b.Delete {
		key = appendKey(key[:0], k.Part, k.Key)
		if err := batch.Delete(key, nil); err != nil {
			return err
		}
	}
	var by [8]byte
	for _, s := range b.Add {
		key = appendKey(key[:0], s.Key.Part, s.Key.Key)
		binary.BigEndian.PutUint64(by[:], uint64(s.By))
		if err := batch.Merge(key, by[:], nil); err != nil {
			return err
		}
	}
	return nil
}
