// Package limit says how often something may be done by whoever does it: so many times a minute by each key, spread evenly, after a minute's worth at
// once. It takes the same memory however many keys there are.
//
// Keys share counters: each is counted in one cell of every row, chosen by a hash that nobody outside can foresee, and the emptiest of its cells is
// believed (a count-min sketch with conservative update). So nobody is let do more than they may, and somebody who does little is refused only if
// others fill all of their cells. A node counts for itself: what is asked of several is let through by each.
package limit

import (
	"hash/maphash"
	"sync"
	"time"
)

const (
	rows = 4
	// cells of a row: with 5,000 keys that are over their limit, one key in a thousand shares all of its cells with them.
	cells = 1 << 14
)

// window is within how long as much may be done as is allowed in a minute.
const window = time.Minute

// A Limiter counts. It may be used from many goroutines; nil allows everything.
type Limiter struct {
	cost  time.Duration // by how much one more moves a cell on
	seeds [rows]maphash.Seed
	now   func() time.Time

	mu sync.Mutex
	// full is, in each cell, when everything that was counted there will have been worked off, in nanoseconds since start.
	start time.Time
	full  [rows][cells]int64
}

// New makes a Limiter of so many a minute; nil if that is none, which allows everything.
func New(perMinute int, now func() time.Time) *Limiter {
	if perMinute <= 0 {
		return nil
	}
	l := &Limiter{cost: window / time.Duration(perMinute), now: now, start: now()}
	for i := range l.seeds {
		l.seeds[i] = maphash.MakeSeed()
	}
	return l
}

// Take does something n times for a key and returns 0; or it does nothing, and returns after how long it may be tried again.
func (l *Limiter) Take(key string, n int) time.Duration { return l.count(key, n, window, false) }

// Wait is what Take of one would return, and does nothing.
func (l *Limiter) Wait(key string) time.Duration { return l.count(key, 1, window, true) }

// Charge counts something that has been done, whether or not it was still allowed. It never takes more than two minutes to work off.
func (l *Limiter) Charge(key string, n int) { l.count(key, n, 0, false) }

// count moves a key's cells on: by all of it and within the time allowed, or not at all; if no time is given, by as much as may be. asking moves nothing.
func (l *Limiter) count(key string, n int, allowed time.Duration, asking bool) (wait time.Duration) {
	if l == nil {
		return 0
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	now := int64(l.now().Sub(l.start))
	last := now + int64(2*window) // no clock brings a cell further: one that is has been left behind by a clock that was put back
	var found [rows]*int64
	lowest := last
	for i, seed := range l.seeds {
		c := &l.full[i][maphash.String(seed, key)%cells]
		if *c > last {
			*c = now
		}
		found[i], lowest = c, min(lowest, *c)
	}
	next := max(lowest, now) + int64(n)*int64(l.cost)
	if over := next - now - int64(allowed); allowed > 0 && over > 0 {
		return time.Duration(over)
	}
	if asking {
		return 0
	}
	for _, c := range found {
		*c = max(*c, min(next, last))
	}
	return 0
}
