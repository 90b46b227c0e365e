package gather

import (
	"cmp"
	"math"
	"runtime"
	"runtime/metrics"
	"sync"
	"time"

	"tombolo/fhir"
)

// admission lets in as many gatherings as this machine can finish, and turns the others away at once, so that a rush costs some readers a second try
// rather than all of them their answer: where too much is let in, sources' answers lie unread until their deadline, and every record is called incomplete
// that is not.
//
// A gathering that waits for sources costs nothing, so their number says little. What tells is how long work that is ready waits for a processor, which
// Go's scheduler measures itself: while that is long, fewer are let in, by a seventh each time; while it is short, more again (additive increase,
// multiplicative decrease).
type admission struct {
	most, least int

	mu      sync.Mutex
	inside  int
	limit   float64
	looked  time.Time
	last    []uint64 // the scheduler's histogram when it was last looked at
	samples []metrics.Sample
	wait    func() float64 // how long ready work lately waited, in seconds; tests set it
}

const (
	defaultAtOnce = 1024
	lookEvery     = 20 * time.Millisecond
	// longWait is the wait for a processor beyond which fewer are let in: one gathering has several such waits, and its sources have deadlines.
	longWait = 5e-3
)

func newAdmission(atOnce int) *admission {
	a := &admission{most: cmp.Or(atOnce, defaultAtOnce), least: 2 * runtime.GOMAXPROCS(0), samples: []metrics.Sample{{Name: "/sched/latencies:seconds"}}}
	a.least = min(a.least, a.most)
	a.limit = float64(a.most)
	a.wait = a.schedulerWait
	return a
}

// crowded is what those are told who are turned away. It says nothing of whom they asked for: nothing has been looked at.
func crowded() *fhir.Issue {
	return fhir.Errorf(fhir.Transient, "more records are being opened at the moment than this server can join in time: try again in a few seconds")
}

// enter lets a gathering in, which must leave when it is done, or turns it away.
func (a *admission) enter() (leave func(), err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.look()
	if float64(a.inside) >= math.Floor(a.limit) {
		return nil, crowded()
	}
	a.inside++
	var once sync.Once
	return func() {
		once.Do(func() {
			a.mu.Lock()
			a.inside--
			a.mu.Unlock()
		})
	}, nil
}

// full reports whether a gathering would be turned away now.
func (a *admission) full() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.look()
	return float64(a.inside) >= math.Floor(a.limit)
}

// look moves the limit by how the processors are doing.
func (a *admission) look() {
	now := time.Now()
	since := now.Sub(a.looked)
	if since < lookEvery {
		return
	}
	a.looked = now
	switch wait := a.wait(); {
	case since > time.Second: // nobody came for a while
		a.limit = float64(a.most)
	case wait > longWait:
		a.limit = max(float64(a.least), 0.85*min(a.limit, float64(a.inside)+1))
	default:
		a.limit = min(float64(a.most), a.limit+max(1, a.limit/16))
	}
}

// schedulerWait is the mean wait of goroutines that became ready since the last look.
func (a *admission) schedulerWait() float64 {
	metrics.Read(a.samples)
	h := a.samples[0].Value.Float64Histogram()
	if len(a.last) != len(h.Counts) {
		a.last = make([]uint64, len(h.Counts))
		copy(a.last, h.Counts)
		return 0
	}
	var n, sum float64
	for i, count := range h.Counts {
		fresh := float64(count - a.last[i])
		a.last[i] = count
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
