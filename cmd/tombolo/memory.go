package main

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

// roomy is how much garbage may gather before it is collected, where what lives is little. A node at work holds some ten megabytes and makes
// a hundred times as much each second: left alone, the collector would run ten times a second, for a fifth of the processor's time.
const roomy = 64 << 20

// giveRoom has the collector wait until at least roomy bytes are garbage. Where more than that lives, it works as it always does. GOGC in the
// environment is obeyed instead.
func giveRoom() {
	if os.Getenv("GOGC") == "" {
		(&room{percent: 100}).look()
	}
}

// A room measures the live heap after each collection, which its cleanup's being run shows.
type room struct{ percent int }

func (r *room) look() {
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(live)
	percent := max(100, int(roomy*100/max(live[0].Value.Uint64(), 4<<20)))
	if percent > r.percent*5/4 || percent < r.percent*4/5 { // setting it stops the world for a moment
		r.percent = percent
		debug.SetGCPercent(percent)
	}
	type mark struct{ _ *byte }
	runtime.AddCleanup(&mark{new(byte)}, (*room).look, r)
}
