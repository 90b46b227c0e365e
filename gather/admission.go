package gather

import (
	"cmp"
	"math"
	"runtime"
	"runtime/metrics"
	"sync"
	"sync/atomic"
	"time"

	"tombolo/fhir"
)

// admission lets in as many gatherings as this machine can finish, and turns the others away at once, so that a rush costs some readers a second try
// rather than all of them their answer: where too much is let in, sources' answers lie unread until their deadline, and every record is called incomplete
// that is not.
//
// A gathering that waits for sources costs nothing, so how many are inside says little; and most of what it costs it costs once they have answered, so that
// what is let in too fast is felt too late. What is held to is therefore the pace (pacing): how many are let in within a while. It follows what is
// finished and is cut while work that is ready waits long for a processor, which Go's scheduler measures itself.
//
// Room comes little by little and not all at a look: who is let in together has its sources' answers together, and then all wait for a processor, those too
// who are to be told to come again.
//
// To be turned away takes no lock: whoever is told to come again must not stand in the queue of those who are served.
type admission struct {
	most     int64 // are never inside at once
	few      int64 // are let in at any pace: so many cannot be a rush
	inside   atomic.Int64
	grant    atomic.Pointer[grant]
	finished atomic.Int64 // since the last look
	pressed  atomic.Bool  // somebody was turned away since the last look
	looked   atomic.Int64 // when the last look was, by clock

	mu     sync.Mutex // one looks; nobody waits for it
	pacing pacing
	wait   func() float64       // how long ready work lately waited, in seconds
	clock  func() time.Duration // since some moment; tests set both
}

const (
	defaultAtOnce = 1024
	lookEvery     = 20 * time.Millisecond
)

func newAdmission(atOnce int) *admission {
	begun := time.Now()
	processors := runtime.GOMAXPROCS(0)
	a := &admission{most: int64(cmp.Or(atOnce, defaultAtOnce)), few: int64(4 * processors), pacing: newPacing(processors), wait: newSchedule().wait, clock: func() time.Duration { return time.Since(begun) }}
	a.looked.Store(-int64(time.Second))
	a.grant.Store(a.pacing.full())
	return a
}

// A grant is how many may come in between one look and the next.
type grant struct {
	at    time.Duration
	ready float64 // at once
	pace  float64 // more in each lookEvery
	taken atomic.Int64
}

// room is for how many there still is some.
func (g *grant) room(now time.Duration) float64 {
	return g.ready + g.pace*min(saved, float64(now-g.at)/float64(lookEvery)) - float64(g.taken.Load())
}

// take takes a place, if there is one.
func (g *grant) take(now time.Duration) bool {
	for {
		taken := g.taken.Load()
		if g.room(now) < 1 {
			return false
		}
		if g.taken.CompareAndSwap(taken, taken+1) {
			return true
		}
	}
}

// errCrowded is what those are told who are turned away. It says nothing of whom they asked for: nothing has been looked at. It is made once: whoever allocates
// while memory is being collected helps with that first, and a rush is when it is.
var errCrowded = fhir.Errorf(fhir.Transient, "more records are being opened at the moment than this server can join in time: try again in a few seconds")

// enter lets a gathering in, which must leave when it is done, or turns it away.
func (a *admission) enter() (leave func(), err error) {
	a.look()
	if few := a.up(min(a.few, a.most)); !few {
		g := a.grant.Load()
		if !g.take(a.clock()) {
			a.pressed.Store(true)
			return nil, errCrowded
		}
		if !a.up(a.most) {
			g.taken.Add(-1)
			return nil, errCrowded
		}
	}
	var left atomic.Bool
	return func() {
		if left.CompareAndSwap(false, true) {
			a.inside.Add(-1)
			a.finished.Add(1)
		}
	}, nil
}

// up counts one more inside, if there are fewer than so many.
func (a *admission) up(most int64) bool {
	for {
		n := a.inside.Load()
		if n >= most {
			return false
		}
		if a.inside.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// full reports whether a gathering would be turned away now.
func (a *admission) full() bool {
	a.look()
	inside := a.inside.Load()
	if inside < min(a.few, a.most) {
		return false
	}
	if a.grant.Load().room(a.clock()) < 1 {
		a.pressed.Store(true)
		return true
	}
	return inside >= a.most
}

// look says anew how many may come in, when it is time. Whoever comes while another is looking goes by what was said before.
func (a *admission) look() {
	if a.clock()-time.Duration(a.looked.Load()) < lookEvery || !a.mu.TryLock() {
		return
	}
	defer a.mu.Unlock()
	now := a.clock()
	since := now - time.Duration(a.looked.Load())
	if since < lookEvery { // another has looked meanwhile
		return
	}
	a.looked.Store(int64(now))
	last := a.grant.Load()
	next := &grant{at: now}
	next.ready, next.pace = a.pacing.next(glance{looks: float64(since) / float64(lookEvery), wait: a.wait(), left: last.room(now), taken: float64(last.taken.Load()),
		finished: float64(a.finished.Swap(0)), inside: float64(a.inside.Load()), pressed: a.pressed.Swap(false)})
	a.grant.Store(next)
}

// schedule is what Go's scheduler says of itself.
type schedule struct {
	samples []metrics.Sample
	last    []uint64 // its histogram when it was last looked at
}

func newSchedule() *schedule {
	return &schedule{samples: []metrics.Sample{{Name: "/sched/latencies:seconds"}}}
}

// wait is the mean wait of goroutines that became ready since the last look, in seconds.
func (s *schedule) wait() float64 {
	metrics.Read(s.samples)
	h := s.samples[0].Value.Float64Histogram()
	if len(s.last) != len(h.Counts) {
		s.last = make([]uint64, len(h.Counts))
		copy(s.last, h.Counts)
		return 0
	}
	var n, sum float64
	for i, count := range h.Counts {
		fresh := float64(count - s.last[i])
		s.last[i] = count
		if fresh == 0 {
			continue
		}
		n += fresh
		low := h.Buckets[i]
		if math.IsInf(low, -1) {
			low = 0
		}
		sum += fresh * low
	}
	if n == 0 {
		return 0
	}
	return sum / n
}
