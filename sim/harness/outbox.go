package harness

import (
	"context"
	"fmt"
	"sync"
)

// An outbox is what senders keep, as real ones do: what was sent and not acknowledged goes again first, until its fate is known.
type outbox[T any] struct {
	mu    sync.Mutex
	fresh func(sender, n int) T
	next  []int // per sender: number of its next new one
	open  []*T  // per sender: sent and not acknowledged
	acked []T   // since Take
	wrong []string
}

func newOutbox[T any](n int, fresh func(sender, n int) T) outbox[T] {
	return outbox[T]{fresh: fresh, next: make([]int, n), open: make([]*T, n)}
}

// each lets every sender send one after the other until ctx ends, it has sent limit (0: no limit), or it cannot tell what became of one.
// connect gives what a sender sends with: it answers why what it sent was refused, "" if it was taken, and an error if nobody can tell.
func (o *outbox[T]) each(ctx context.Context, limit int, connect func() (send func(T) (refused string, err error), done func())) {
	var wg sync.WaitGroup
	for i := range o.next {
		wg.Go(func() {
			send, done := connect()
			defer done()
			for n := 0; ctx.Err() == nil && (limit == 0 || n < limit); n++ {
				refused, err := send(o.begin(i))
				if err != nil {
					return // it is sent again when the node is back
				}
				o.end(i, refused)
			}
		})
	}
	wg.Wait()
}

func (o *outbox[T]) begin(i int) T {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.open[i] == nil {
		m := o.fresh(i, o.next[i])
		o.open[i] = &m
		o.next[i]++
	}
	return *o.open[i]
}

func (o *outbox[T]) end(i int, refused string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if refused == "" {
		o.acked = append(o.acked, *o.open[i])
	} else {
		o.wrong = append(o.wrong, refused)
	}
	o.open[i] = nil
}

// Waiting says whether a sender has sent something and does not know what became of it.
func (o *outbox[T]) Waiting(sender int) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.open[sender] != nil
}

// Sent is how many different ones a sender has sent.
func (o *outbox[T]) Sent(sender int) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.next[sender]
}

// Acked is how many have been acknowledged since the last Take.
func (o *outbox[T]) Acked() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.acked)
}

// Take gives what has been acknowledged since the last Take, and an error if anything was answered otherwise.
func (o *outbox[T]) Take() ([]T, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	out, wrong := o.acked, o.wrong
	o.acked, o.wrong = nil, nil
	if len(wrong) > 0 {
		return out, fmt.Errorf("%d were not accepted, the first so: %s", len(wrong), wrong[0])
	}
	return out, nil
}
