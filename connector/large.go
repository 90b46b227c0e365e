package connector

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"sync"
	"time"

	"tombolo/fhir"
)

// A Turnstile lets one large delivery through at a time: such a one costs several times its size in memory until it is stored, and many at once would cost what
// no machine was bought for. Others wait; ordinary deliveries do not come here.
type Turnstile struct {
	place   chan struct{} // whose turn it is has put something in
	mu      sync.Mutex
	before  int64       // the process's memory limit, when no turn holds it lower
	lifting *time.Timer // until it is that again; nil: it is
}

// NewTurnstile makes one. A process has one, Large; tests make their own.
func NewTurnstile() *Turnstile { return &Turnstile{place: make(chan struct{}, 1)} }

// Large is where everything in this process takes its turn that is larger than ordinary, by whichever way it came.
var Large = NewTurnstile()

// A Turn is one delivery's hold on a Turnstile. While it lasts, and until the store has written out what it left there, garbage is collected early: each copy of
// a large body is as large as all else together, and there is little in it for the collector to look at.
type Turn struct{ at *Turnstile }

const (
	// largeRoom is how much more memory than before may be in use before the collector runs for each allocation: the copies of a large body that are needed at once.
	largeRoom = 96 << 20
	// largeRest is how long the store may take to write out what it took.
	largeRest = 5 * time.Second
)

// Take waits for the turn, at most for as long as given (0: as ctx lasts). An error of type Throttled says that it took too long, and when to come back.
func (t *Turnstile) Take(ctx context.Context, wait time.Duration) (*Turn, error) {
	var late <-chan time.Time
	if wait > 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		late = timer.C
	}
	select {
	case t.place <- struct{}{}:
	case <-late:
		busy := fhir.Errorf(fhir.Throttled, "other large requests are being read: send this one again later, or in parts")
		busy.After = wait
		return nil, busy
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	t.narrow()
	return &Turn{at: t}, nil
}

// narrow lowers the process's memory limit.
func (t *Turnstile) narrow() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.lifting == nil {
		t.before = debug.SetMemoryLimit(-1)
	} else {
		t.lifting.Stop()
	}
	t.lifting = nil
	debug.FreeOSMemory() // what is left over of before is no need of anybody's
	used := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	metrics.Read(used)
	debug.SetMemoryLimit(min(t.before, int64(used[0].Value.Uint64()-used[1].Value.Uint64())+largeRoom))
}

// widen puts the limit back, in a while, unless another turn has begun by then.
func (t *Turnstile) widen() {
	t.mu.Lock()
	defer t.mu.Unlock()
	var mine *time.Timer
	mine = time.AfterFunc(largeRest, func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if t.lifting == mine {
			t.lifting = nil
			debug.SetMemoryLimit(t.before)
		}
	})
	t.lifting = mine
}

// End gives back the memory, and then passes the turn on. Of a nil Turn, or one that has ended, it does nothing.
func (t *Turn) End() {
	if t == nil || t.at == nil {
		return
	}
	debug.FreeOSMemory()
	t.at.widen()
	<-t.at.place
	t.at = nil
}
