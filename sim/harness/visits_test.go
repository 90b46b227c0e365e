package harness

import (
	"testing"
	"time"

	"tombolo/sim"
)

// What a message costs does not grow with how often its patient has come: two patients, each with hundreds of visits.
func TestAFurtherVisitCostsNoMoreThanAnEarlierOne(t *testing.T) {
	const connections, patients = 2, 1
	each := rounds(t, 1_600, 20_000) / connections
	addr, _ := inside(t, Place{Dir: t.TempDir()})
	senders := &Senders{newOutbox(connections, func(sender, n int) Message { return admission(sender, n, patients) })}
	var costs []time.Duration
	for range 5 {
		took := sim.ProcessorTime()
		acked, err := sendAll(t, senders, addr, connections, each/5)
		if err != nil {
			t.Fatal(err)
		}
		costs = append(costs, (sim.ProcessorTime()-took)/time.Duration(acked))
	}
	t.Logf("processor a message, by fifths: %v", costs)
	if first, last := costs[0], costs[len(costs)-1]; last > 2*first {
		t.Errorf("a message of the last visits took %s of processor, one of the first %s", last, first)
	}
}
