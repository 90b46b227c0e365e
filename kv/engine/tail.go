package engine

import (
	"sync"

	"tombolo/kv"
)

// A Tail is how far the log may be shown, and who waits for more of it.
type Tail struct {
	mu      sync.Mutex
	at      kv.Position
	waiting map[kv.Position]chan struct{}
	closed  bool
}

// NewTail makes the tail of a log whose newest record is at the position given.
func NewTail(at kv.Position) *Tail {
	return &Tail{at: at, waiting: map[kv.Position]chan struct{}{}}
}

// At is the newest position revealed.
func (t *Tail) At() kv.Position {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.at
}

// Reveal raises the tail, never lowers it, and wakes those who waited for it.
func (t *Tail) Reveal(at kv.Position) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if at <= t.at {
		return
	}
	t.at = at
	for after, ch := range t.waiting {
		if at > after {
			close(ch)
			delete(t.waiting, after)
		}
	}
}

// Changed is closed once the tail is past the given position, or the Tail is closed.
func (t *Tail) Changed(after kv.Position) <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed || t.at > after {
		return alreadyClosed
	}
	// All who wait for the same position share a channel, so that waiting again and again leaks nothing.
	ch, ok := t.waiting[after]
	if !ok {
		ch = make(chan struct{})
		t.waiting[after] = ch
	}
	return ch
}

// Awaited tells whether anybody waits.
func (t *Tail) Awaited() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.waiting) > 0
}

// Close wakes everybody: what they call next tells them that the engine is closed.
func (t *Tail) Close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	for _, ch := range t.waiting {
		close(ch)
	}
	t.waiting = nil
}

var alreadyClosed = func() chan struct{} {
	ch := make(chan struct{})
	close(ch)
	return ch
}()
