package gather

import (
	"math"
	"sync"
	"testing"
	"time"

	"tombolo/fhir"
)

func TestNoMoreAreLetInThanTheRegionFileSays(t *testing.T) {
	_, a := newMachine(2)
	a.most = 3
	var out []func()
	for i := range 5 {
		leave, err := a.enter()
		switch {
		case i < 3 && err != nil:
			t.Fatalf("number %d was turned away: %v", i+1, err)
		case i < 3:
			out = append(out, leave)
		case !fhir.Is(err, fhir.Transient):
			t.Fatalf("number %d was let in (%v)", i+1, err)
		}
	}
	if !a.full() {
		t.Error("three of three are inside, and it does not call itself full")
	}
	out[0]()
	out[0]() // leaving twice frees one place
	if _, err := a.enter(); err != nil {
		t.Errorf("a place is free: %v", err)
	}
	if _, err := a.enter(); err == nil {
		t.Error("leaving twice freed two places")
	}
}

// Who is let in together has its sources' answers together: room comes little by little.
func TestRoomComesLittleByLittle(t *testing.T) {
	m, a := newMachine(2)
	come := func(readers int) (in int) {
		for range readers {
			if _, err := a.enter(); err == nil {
				in++
			}
		}
		return in
	}
	come(1000) // the first look, and those who come in without one
	want := a.pacing.pace / 4
	for quarter := range 4 {
		m.now += lookEvery/4 - time.Microsecond // the next look is not reached
		if in := come(1000); math.Abs(float64(in)-want) > 1 {
			t.Errorf("in quarter %d of a look's time %d of 1000 are let in, not %.1f", quarter+1, in, want)
		}
	}
}

func TestTheSchedulersWaitIsMeasuredSinceTheLastLook(t *testing.T) {
	sched := newSchedule()
	sched.wait()
	var wg sync.WaitGroup
	for range 2000 { // far more than there are processors, all ready at once
		wg.Go(func() {
			x := 0.0
			for i := range 20000 {
				x += math.Sqrt(float64(i))
			}
			_ = x
		})
	}
	wg.Wait()
	busy := sched.wait()
	time.Sleep(20 * time.Millisecond)
	idle := sched.wait()
	if busy <= idle {
		t.Errorf("a wait of %.6f s while 2000 were ready, of %.6f s while none was", busy, idle)
	}
}
