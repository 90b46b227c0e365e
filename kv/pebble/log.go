package pebble

import (
	"context"
	"fmt"
	"iter"
	"sync"

	"github.com/cockroachdb/pebble/v2"

	"tombolo/kv"
)

// durableLog knows how far the log may be shown, and who waits for more of it.
type durableLog struct {
	mu      sync.Mutex
	tail    kv.Position // newest durable record
	waiting map[kv.Position]chan struct{}
	closed  bool
}

func (l *durableLog) start(tail kv.Position) {
	l.tail, l.waiting = tail, map[kv.Position]chan struct{}{}
}

func (l *durableLog) durable() kv.Position {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.tail
}

// reveal raises the tail, never lowers it, and wakes those who waited for it.
func (l *durableLog) reveal(at kv.Position) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if at <= l.tail {
		return
	}
	l.tail = at
	for after, ch := range l.waiting {
		if at > after {
			close(ch)
			delete(l.waiting, after)
		}
	}
}

func (l *durableLog) changed(after kv.Position) <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || l.tail > after {
		return alreadyClosed
	}
	// All who wait for the same position share a channel, so that waiting again and again leaks nothing.
	ch, ok := l.waiting[after]
	if !ok {
		ch = make(chan struct{})
		l.waiting[after] = ch
	}
	return ch
}

// close wakes everybody: what they call next tells them that the engine is closed.
func (l *durableLog) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	for _, ch := range l.waiting {
		close(ch)
	}
	l.waiting = nil
}

var alreadyClosed = func() chan struct{} {
	ch := make(chan struct{})
	close(ch)
	return ch
}()

// Changed is closed once the log is durable past the given position, or the engine is closed.
func (e *Engine) Changed(after kv.Position) <-chan struct{} { return e.log.changed(after) }

// Tail is the position of the newest durable record.
func (e *Engine) Tail(ctx context.Context) (kv.Position, error) {
	if err := e.gate.enter(ctx); err != nil {
		return 0, err
	}
	defer e.gate.leave()
	return e.log.durable(), nil
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
	if err := e.gate.enter(ctx); err != nil {
		return nil, err
	}
	defer e.gate.leave()
	if first {
		*end = e.log.durable()
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
		if at != after+1 {
			return nil, fmt.Errorf("read the log: record %d is missing: the store is damaged, restore a checkpoint", after+1)
		}
		page = append(page, kv.Record{At: at, Value: a.own(v)})
		after, size = at, size+len(v)
	}
	if err := it.Error(); err != nil {
		return nil, readError(err)
	}
	if len(page) == 0 {
		return nil, fmt.Errorf("read the log: record %d is missing: the store is damaged, restore a checkpoint", after+1)
	}
	return page, nil
}
