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
// To be turned away takes no lock: whoever is told to come again must not stand in the queue of those who are served.
type admission struct {
	most     int64 // are never inside at once
	few      int64 // are let in at any pace: so many cannot be a rush
	inside   atomic.Int64
	room     atomic.Int64 // how many may still come in before the next look
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
	return a
}

// errCrowded is what those are told who are turned away. It says nothing of whom they asked for: nothing has been looked at. It is made once: whoever allocates
// while memory is being collected helps with that first, and a rush is when it is.
var errCrowded = fhir.Errorf(fhir.Transient, "more records are being opened at the moment than this server can join in time: try again in a few seconds")

// enter lets a gathering in, which must leave when it is done, or turns it away.
func (a *admission) enter() (leave func(), err error) {
	a.look()
	if few := a.up(min(a.few, a.most)); !few {
		if !a.down() {
			return nil, errCrowded
		}
		if !a.up(a.most) {
			a.room.Add(1)
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

// down takes a place of the room there is.
func (a *admission) down() bool {
	for {
		n := a.room.Load()
		if n <= 0 {
			a.pressed.Store(true)
			return false
		}
		if a.room.CompareAndSwap(n, n-1) {
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
	if a.room.Load() <= 0 {
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
	a.room.Store(int64(a.pacing.next(glance{looks: float64(since) / float64(lookEvery), wait: a.wait(), left: float64(a.room.Load()),
		finished: float64(a.finished.Swap(0)), inside: float64(a.inside.Load()), pressed: a.pressed.Swap(false)})))
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
