package limit_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"tombolo/access/limit"
)

type clock struct{ t atomic.Int64 }

func (c *clock) now() time.Time          { return time.Unix(0, c.t.Load()) }
func (c *clock) advance(d time.Duration) { c.t.Add(int64(d)) }

func TestAMinutesWorthAtOnceThenEvenly(t *testing.T) {
	var c clock
	l := limit.New(60, c.now)
	for i := range 60 {
		if wait := l.Take("a", 1); wait != 0 {
			t.Fatalf("refused at %d: wait %s", i, wait)
		}
	}
	if wait := l.Take("a", 1); wait <= 0 || wait > time.Second {
		t.Errorf("the 61st in the same moment: wait %s, want up to a second", wait)
	}
	if wait := l.Take("b", 1); wait != 0 {
		t.Errorf("somebody else is refused: wait %s", wait)
	}
	for i := range 30 {
		if c.advance(time.Second); l.Take("a", 1) != 0 || l.Take("a", 1) == 0 {
			t.Fatalf("after %d s: not one a second", i+1)
		}
	}
	if c.advance(2 * time.Minute); l.Take("a", 60) != 0 || l.Take("a", 1) == 0 {
		t.Error("a rest gives a minute's worth, and no more")
	}
	if limit.New(0, c.now).Take("a", 1e9) != 0 {
		t.Error("no limit refuses")
	}
}

// A debt is worked off within two minutes, whatever was charged, and a clock that jumps locks nobody out for longer.
func TestNobodyIsLockedOutForLong(t *testing.T) {
	var c clock
	c.advance(time.Hour)
	l := limit.New(60, c.now)
	l.Charge("a", 1e6)
	if c.advance(2*time.Minute + time.Second); l.Take("a", 1) != 0 {
		t.Error("locked out by a debt")
	}
	c.advance(24 * time.Hour)
	l.Charge("a", 60)
	c.advance(-24 * time.Hour)
	for range 130 { // the debt of tomorrow is not believed for longer than any other
		if c.advance(time.Second); l.Take("a", 1) == 0 {
			return
		}
	}
	t.Error("locked out by a clock that was put back")
}

// However many are at it and in whatever order, nobody gets more than a minute's worth and what time gives, and who stays below it is let do it.
func TestWhateverComesNobodyGetsMore(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var c clock
		per := rapid.IntRange(1, 100).Draw(t, "per minute")
		l := limit.New(per, c.now)
		taken, elapsed := map[string]int{}, time.Duration(0)
		for range rapid.IntRange(1, 200).Draw(t, "steps") {
			key, n := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "key"), rapid.IntRange(1, 5).Draw(t, "n")
			if l.Take(key, n) == 0 {
				taken[key] += n
			} else if taken[key]+n <= per {
				t.Fatalf("%s was refused %d after %d of %d", key, n, taken[key], per)
			}
			if most := float64(per) * (1 + elapsed.Minutes()); float64(taken[key]) > most+0.001 {
				t.Fatalf("%s got %d in %s, of %d a minute", key, taken[key], elapsed, per)
			}
			d := time.Duration(rapid.IntRange(0, 3000).Draw(t, "ms")) * time.Millisecond
			c.advance(d)
			elapsed += d
		}
	})
}

// An attack from very many addresses takes no memory, and others go on.
func TestAFloodOfKeysCrowdsOutFew(t *testing.T) {
	var c clock
	l := limit.New(60, c.now)
	for i := range 3000 {
		l.Charge(fmt.Sprint("attacker ", i), 120)
	}
	refused := 0
	for i := range 2000 {
		if l.Take(fmt.Sprint("doctor ", i), 1) != 0 {
			refused++
		}
	}
	if refused > 10 {
		t.Errorf("%d of 2,000 are crowded out by 3,000 attackers", refused)
	}
	if n := testing.AllocsPerRun(100, func() { l.Take("somebody", 1) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestManyAtOnce(t *testing.T) {
	var c clock
	l := limit.New(1000, c.now)
	var got atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 1000 {
				if l.Take("a", 1) == 0 {
					got.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if got.Load() != 1000 {
		t.Errorf("%d were let through of 1,000 a minute", got.Load())
	}
}

func BenchmarkTake(b *testing.B) {
	l := limit.New(600, time.Now)
	for b.Loop() {
		l.Take("somebody at a screen", 1)
	}
}
