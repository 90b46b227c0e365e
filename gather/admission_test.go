package gather

import (
	"math"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"tombolo/fhir"
)

// waits is an admission whose processors are said to make ready work wait.
func waits(most int, seconds *float64) *admission {
	a := newAdmission(most)
	a.wait = func() float64 { return *seconds }
	return a
}

func TestNoMoreAreLetInThanTheRegionFileSays(t *testing.T) {
	idle := 0.0
	a := waits(3, &idle)
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

func TestFewerAreLetInWhileWorkWaitsForAProcessorAndMoreAgainAfterwards(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		wait := 0.0
		a := waits(1000, &wait)
		rush := func() (inside int) { // all who can come in; all of them have left by the next time
			time.Sleep(lookEvery)
			var out []func()
			for leave, err := a.enter(); err == nil; leave, err = a.enter() {
				out = append(out, leave)
			}
			time.Sleep(lookEvery)
			a.full() // a look while they are inside
			for _, leave := range out {
				leave()
			}
			return len(out)
		}
		if n := rush(); n != 1000 {
			t.Fatalf("%d were let in at first, want 1000", n)
		}
		wait = 10 * longWait
		for range 60 {
			rush()
		}
		if n := rush(); n != a.least {
			t.Errorf("under a long wait %d are let in at once, want %d", n, a.least)
		}
		wait = 0
		for range 200 {
			rush()
		}
		if n := rush(); n != 1000 {
			t.Errorf("with idle processors %d are let in, want all 1000 again", n)
		}
		wait = 10 * longWait
		rush()
		time.Sleep(2 * time.Second)
		if n := rush(); n < 790 {
			t.Errorf("after a quiet time %d are let in", n)
		}
	})
}

func TestTheSchedulersWaitIsMeasuredSinceTheLastLook(t *testing.T) {
	a := newAdmission(0)
	a.schedulerWait()
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
	busy := a.schedulerWait()
	time.Sleep(20 * time.Millisecond)
	idle := a.schedulerWait()
	if busy <= idle {
		t.Errorf("a wait of %.6f s while 2000 were ready, of %.6f s while none was", busy, idle)
	}
}
