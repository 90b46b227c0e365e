package gather

import (
	"container/heap"
	"context"
	"sync"
	"time"
)

// A bell wakes those who wait for a moment at that moment, however long before it they began to wait.
//
// A timer of Go's does not: a program that has nothing else to do sleeps for whole milliseconds (the runtime's netpoll on epoll), so that it is woken late by what is
// missing to a whole one, and when an answer comes tells to the microsecond, but for its milliseconds, how long was worked before the wait.
type bell struct {
	mu      sync.Mutex
	waiting sleepers
	alarm   *alarm // nil while nobody waits
}

// A sleeper is woken when due.
type sleeper struct {
	due time.Time
	now chan struct{} // closed at due
}

type sleepers []sleeper

func (s sleepers) Len() int           { return len(s) }
func (s sleepers) Less(i, j int) bool { return s[i].due.Before(s[j].due) }
func (s sleepers) Swap(i, j int)      { s[i], s[j] = s[j], s[i] }
func (s *sleepers) Push(x any)        { *s = append(*s, x.(sleeper)) }
func (s *sleepers) Pop() any {
	last := (*s)[len(*s)-1]
	*s = (*s)[:len(*s)-1]
	return last
}

// sleep returns when it is due, or nobody waits for it any more.
func (b *bell) sleep(ctx context.Context, due time.Time) {
	rung, err := b.at(due)
	if err != nil { // no more files may be open: late is better than never
		timer := time.NewTimer(time.Until(due))
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
		return
	}
	select {
	case <-rung:
	case <-ctx.Done():
	}
}

func (b *bell) at(due time.Time) (rung <-chan struct{}, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.alarm == nil {
		if b.alarm, err = newAlarm(); err != nil {
			return nil, err
		}
		go b.ring(b.alarm)
	}
	s := sleeper{due, make(chan struct{})}
	heap.Push(&b.waiting, s)
	if b.waiting[0].now == s.now {
		b.alarm.set(time.Until(due))
	}
	return s.now, nil
}

// ring wakes whoever is due until nobody waits.
func (b *bell) ring(a *alarm) {
	for {
		a.wait()
		b.mu.Lock()
		for now := time.Now(); len(b.waiting) > 0 && !b.waiting[0].due.After(now); {
			close(heap.Pop(&b.waiting).(sleeper).now)
		}
		if len(b.waiting) == 0 {
			b.alarm = nil
			b.mu.Unlock()
			a.close()
			return
		}
		a.set(time.Until(b.waiting[0].due))
		b.mu.Unlock()
	}
}
