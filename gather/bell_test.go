package gather

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"
)

// How long was worked before the wait must not be seen in when it ends: not in its fraction of a millisecond either, which an idle program's timers tell.
func TestABellRingsWhenItIsDueHoweverLateSomebodyComes(t *testing.T) {
	const by, each = 5 * time.Millisecond, 40
	var b bell
	late := func(worked time.Duration) float64 {
		var all []float64
		for range each {
			began := time.Now()
			for time.Since(began) < worked {
			}
			b.sleep(t.Context(), began.Add(by))
			all = append(all, (time.Since(began)-by).Seconds()*1e6)
		}
		slices.Sort(all)
		if all[0] < 0 {
			t.Fatalf("woken %.0f µs before it was due", -all[0])
		}
		return all[each/4]
	}
	told := 0.0
	for range 5 { // on a busy machine everything is late
		early, lately := late(100*time.Microsecond), late(800*time.Microsecond)
		if told = lately - early; told < 250 && told > -250 {
			return
		}
	}
	t.Errorf("who came 700 µs later was woken %.0f µs later", told)
}

func TestABellRingsForEachInTurnAndThenRests(t *testing.T) {
	var b bell
	var mu sync.Mutex
	var order []int
	var wg sync.WaitGroup
	begun := time.Now()
	for _, i := range []int{3, 1, 2, 0, 4} {
		wg.Go(func() {
			b.sleep(t.Context(), begun.Add(time.Duration(i)*20*time.Millisecond))
			if now, due := time.Since(begun), time.Duration(i)*20*time.Millisecond; now < due {
				t.Errorf("number %d was woken after %s, which is too soon", i, now)
			}
			mu.Lock()
			order = append(order, i)
			mu.Unlock()
		})
	}
	gone, leave := context.WithCancel(t.Context())
	leave()
	b.sleep(gone, begun.Add(100*time.Millisecond)) // whoever is gone is not waited for
	if since := time.Since(begun); since > 90*time.Millisecond {
		t.Errorf("somebody who was gone was kept for %s", since)
	}
	wg.Wait()
	if !slices.IsSorted(order) {
		t.Errorf("woken in the order %v", order)
	}
	for range 1000 {
		b.mu.Lock()
		resting := b.alarm == nil
		b.mu.Unlock()
		if resting {
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Error("the bell keeps its alarm though nobody waits")
}
