package connector

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"time"

	"tombolo/fhir"
)

// A Turnstile lets one large delivery through at a time: such a one costs several times its size in memory until it is stored, and many at once would cost what
// no machine was bought for. Others wait; ordinary deliveries do not come here.
type Turnstile chan struct{}

// NewTurnstile makes one. A process has one, Large; tests make their own.
func NewTurnstile() Turnstile { return make(Turnstile, 1) }

// Large is where everything in this process takes its turn that is larger than ordinary, by whichever way it came.
var Large = NewTurnstile()

// A Turn is one delivery's hold on a Turnstile. While it lasts garbage is collected early: each copy of a large body is as large as all else together, and there is
// little in it for the collector to look at.
type Turn struct {
	at     Turnstile
	before int64 // the process's memory limit
}

// largeRoom is how much more memory than before may be in use before the collector runs for each allocation: the copies of a large body that are needed at once.
const largeRoom = 96 << 20

// Take waits for the turn, at most for as long as given (0: as ctx lasts). An error of type Throttled says that it took too long, and when to come back.
func (t Turnstile) Take(ctx context.Context, wait time.Duration) (*Turn, error) {
	var late <-chan time.Time
	if wait > 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		late = timer.C
	}
	select {
	case t <- struct{}{}:
	case <-late:
		busy := fhir.Errorf(fhir.Throttled, "other large requests are being read: send this one again later, or in parts")
		busy.After = wait
		return nil, busy
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	used := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	metrics.Read(used)
	turn := &Turn{at: t, before: debug.SetMemoryLimit(-1)}
	debug.SetMemoryLimit(min(turn.before, int64(used[0].Value.Uint64()-used[1].Value.Uint64())+largeRoom))
	return turn, nil
}

// End gives back the memory, and then passes the turn on. Of a nil Turn, or one that has ended, it does nothing.
func (t *Turn) End() {
	if t == nil || t.at == nil {
		return
	}
	debug.SetMemoryLimit(t.before)
	debug.FreeOSMemory()
	<-t.at
	t.at = nil
}
