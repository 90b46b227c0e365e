package pebble

import (
	"context"
	"fmt"
	"iter"

	"github.com/cockroachdb/pebble/v2"

	"tombolo/kv"
)

// Changed is closed once the log is durable past the given position, or the engine is closed.
func (e *Engine) Changed(after kv.Position) <-chan struct{} { return e.log.Changed(after) }

// Tail is the position of the newest durable record.
func (e *Engine) Tail(ctx context.Context) (kv.Position, error) {
	if err := e.gate.Enter(ctx); err != nil {
		return 0, err
	}
	defer e.gate.Leave()
	return e.log.At(), nil
}

// How much of the log is read at a time: a follower may take its time over each record, and an iterator held open meanwhile
// would keep old files from being removed.
const (
	logPage  = 512
	logBytes = 1 << 20
)

// Log yields the durable records after the given position.
func (e *Engine) Log(ctx context.Context, after kv.Position) iter.Seq2[kv.Record, error] {
	return func(yield func(kv.Record, error) bool) {
		end := kv.Position(0)
		for first := true; first || after < end; first = false {
			page, err := e.logPage(ctx, after, &end, first)
			if err != nil {
				yield(kv.Record{}, err)
				return
			}
			for _, r := range page {
				if !yield(r, nil) {
					return
				}
				after = r.At
			}
		}
	}
}

func (e *Engine) logPage(ctx context.Context, after kv.Position, end *kv.Position, first bool) ([]kv.Record, error) {
	if err := e.gate.Enter(ctx); err != nil {
		return nil, err
	}
	defer e.gate.Leave()
	if first {
		*end = e.log.At()
	}
	if after >= *end {
		return nil, nil
	}
	it, err := e.db.NewIter(&pebble.IterOptions{LowerBound: logKey(after + 1), UpperBound: logKey(*end + 1)})
	if err != nil {
		return nil, readError(err)
	}
	defer func() { _ = it.Close() }()
	var page []kv.Record
	var a arena
	size := 0
	for ok := it.First(); ok && len(page) < logPage && size < logBytes; ok = it.Next() {
		v, err := it.ValueAndErr()
		if err != nil {
			return nil, readError(err)
		}
		at := logPosition(it.Key())
		if at != after+1 && len(page) > 0 {
			return page, nil // what is missing is told of by the next page
		}
		if at != after+1 {
			return nil, fmt.Errorf("read the log: record %d is missing: the store is damaged, restore a backup", after+1)
		}
		page = append(page, kv.Record{At: at, Value: a.own(v)})
		after, size = at, size+len(v)
	}
	if err := it.Error(); err != nil {
		return nil, readError(err)
	}
	if len(page) == 0 {
		return nil, fmt.Errorf("read the log: record %d is missing: the store is damaged, restore a backup", after+1)
	}
	return page, nil
}
