package pds

import (
	"context"
	"sync"
	"time"
)

// A budget lets so many through in a second and no more: never two within every. Those whom somebody waits for go first.
type budget struct {
	every time.Duration

	mu     sync.Mutex
	next   time.Time // when the next may go
	urgent int       // how many of those wait
	shut   time.Time // nobody goes before: PDS has said that it is asked too often
}

// wait waits for one's turn, or until ctx ends.
func (b *budget) wait(ctx context.Context, turn Turn) error {
	if turn == Urgent {
		b.mu.Lock()
		b.urgent++
		b.mu.Unlock()
		defer func() {
			b.mu.Lock()
			b.urgent--
			b.mu.Unlock()
		}()
	}
	for {
		b.mu.Lock()
		now := time.Now()
		free := b.next
		if b.shut.After(free) {
			free = b.shut
		}
		yields := turn == Patient && b.urgent > 0
		if !free.After(now) && !yields {
			b.next = now.Add(b.every)
			b.mu.Unlock()
			return ctx.Err()
		}
		b.mu.Unlock()
		left := free.Sub(now)
		if yields {
			left = max(left, b.every)
		}
		t := time.NewTimer(left)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return ctx.Err()
		}
	}
}

// rest lets nobody through for a while.
func (b *budget) rest(d time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if until := time.Now().Add(d); until.After(b.shut) {
		b.shut = until
	}
}
