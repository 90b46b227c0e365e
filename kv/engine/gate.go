// Package engine holds what every engine of kv needs whatever it keeps its keys in: a gate that Close shuts, and the tail of the log with
// those who wait for it to grow.
package engine

import (
	"context"
	"sync"

	"tombolo/kv"
)

// A Gate counts the calls inside an engine, so that Close neither pulls the store from under one nor lets a new one in.
type Gate struct {
	mu     sync.Mutex
	inside int
	closed bool
	idle   *sync.Cond
}

// NewGate makes an open gate.
func NewGate() *Gate {
	g := &Gate{}
	g.idle = sync.NewCond(&g.mu)
	return g
}

// Enter lets a call in, and must be followed by Leave; or answers kv.ErrClosed, or the error of a context that is over.
func (g *Gate) Enter(ctx context.Context) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return kv.ErrClosed
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	g.inside++
	return nil
}

// Leave lets a call out.
func (g *Gate) Leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.inside--; g.inside == 0 {
		g.idle.Broadcast()
	}
}

// Shut closes the gate and waits until nobody is inside. It answers false if it was shut before.
func (g *Gate) Shut() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return false
	}
	g.closed = true
	for g.inside > 0 {
		g.idle.Wait()
	}
	return true
}
