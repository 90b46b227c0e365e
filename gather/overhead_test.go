package gather_test

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tombolo/connector"
	"tombolo/fhir"
	"tombolo/gather"
	"tombolo/region"
)

// later is a source that answers after a while, of which it says when.
func later(after time.Duration, said *atomic.Int64, s source) source {
	return func(ctx context.Context, q connector.Question) (*connector.Answer, error) {
		a, err := s(ctx, q)
		time.Sleep(after)
		now := time.Now().UnixNano()
		for was := said.Load(); now > was && !said.CompareAndSwap(was, now); was = said.Load() {
		}
		return a, err
	}
}

// What a gathering of 100 sources takes beyond its slowest: from the moment when the last has answered to the record in hand, its audit entry committed.
func BenchmarkOverhead(b *testing.B) {
	for _, entries := range []int{1, 10} {
		b.Run(fmt.Sprintf("sources=100/entries=%d", entries), func(b *testing.B) {
			var last atomic.Int64
			sources := map[string]connector.Asker{}
			for i := range 100 {
				var ids []string
				for k := range entries {
					ids = append(ids, fmt.Sprintf("%d-%d", i, k))
				}
				sources[fmt.Sprintf("s%03d", i)] = later(time.Duration(i)*500*time.Microsecond, &last, gives(ids...))
			}
			bn := open(b, sources)
			s := bn.as(b, "doctor")
			id := bn.person(b, s)
			var own []time.Duration
			for b.Loop() {
				last.Store(0)
				rec, err := bn.Record(b.Context(), s, id, gather.Ask{})
				own = append(own, time.Duration(time.Now().UnixNano()-last.Load()))
				must(b, err)
				if len(rec.Lanes) != 101 {
					b.Fatalf("%d lanes", len(rec.Lanes))
				}
			}
			slices.Sort(own)
			b.ReportMetric(float64(own[len(own)/2].Microseconds())/1000, "own-p50-ms")
			b.ReportMetric(float64(own[min(len(own)-1, len(own)*99/100)].Microseconds())/1000, "own-p99-ms")
		})
	}
}

// A rush: as many readers as the machine can serve, then ten times as many, four times in turn, so that what else slows the machine slows both. What comes out of it under the rush is told beside what came out before, and
// how long those who were turned away waited to be told.
func BenchmarkOverload(b *testing.B) {
	var last atomic.Int64
	sources := map[string]connector.Asker{}
	for i := range 5 {
		var ids []string
		for k := range 20 {
			ids = append(ids, fmt.Sprintf("%d-%d", i, k))
		}
		sources[fmt.Sprintf("s%d", i)] = later(20*time.Millisecond, &last, gives(ids...))
	}
	bn := openWith(b, sources, func(r *region.Region) {
		for i := range r.Systems {
			r.Systems[i].Deadline, r.Systems[i].Limits.Concurrent = 2*time.Second, 4096
		}
	})
	id := bn.person(b, bn.as(b, "doctor"))
	// run has so many readers ask again and again for a while; one who is turned away waits before they come again. Each keeps what they met for themselves: a
	// lock that all of them take would have them wait for each other, and that would be told as the wait to be turned away.
	run := func(readers int, every time.Duration) (all tally, took time.Duration) {
		each := make([]tally, readers)
		for i := range each { // whoever allocates while memory is being collected helps with that first
			each[i].away, each[i].decided = make([]time.Duration, 0, 256), make([]time.Duration, 0, 256)
		}
		var wg sync.WaitGroup
		begun := time.Now()
		for i := range readers {
			wg.Go(func() {
				s := bn.as(b, "doctor")
				ask := gather.Ask{Query: fmt.Sprint(i)}
				due := begun.Add(time.Duration(i) * every / time.Duration(readers))
				for time.Since(begun) < 2500*time.Millisecond {
					time.Sleep(time.Until(due))
					at := time.Now()
					rec, err := bn.Record(b.Context(), s, id, ask)
					answered := time.Now()
					switch {
					case fhir.Is(err, fhir.Transient):
						each[i].away, each[i].decided = append(each[i].away, answered.Sub(due)), append(each[i].decided, answered.Sub(at))
					case err != nil:
						b.Error(err)
					case slices.ContainsFunc(rec.Lanes, func(l gather.Lane) bool { return l.State == gather.Failed }):
						each[i].incomplete++
					default:
						each[i].served++
					}
					if due = due.Add(every); due.Before(answered) {
						due = answered
					}
					if every == 0 && fhir.Is(err, fhir.Transient) { // even in the calm nobody asks again and again without a pause
						due = answered.Add(5 * time.Millisecond)
					}
				}
			})
		}
		wg.Wait()
		took = time.Since(begun)
		for _, t := range each {
			all.add(t)
		}
		return all, took
	}
	for b.Loop() {
		const readers, turns = 1000, 4
		var capacity, goodput, seconds float64
		var rush tally
		for range turns {
			at, took := run(16*runtime.GOMAXPROCS(0), 0)
			calm := float64(at.served) / took.Seconds()
			rushed, took := run(readers, time.Duration(readers/(10*calm)*float64(time.Second)))
			rush.add(rushed)
			capacity, goodput, seconds = capacity+calm/turns, goodput+float64(rushed.served)/took.Seconds()/turns, seconds+took.Seconds()
		}
		slices.Sort(rush.away)
		slices.Sort(rush.decided)
		b.ReportMetric(capacity, "capacity/s")
		b.ReportMetric(goodput/capacity, "goodput/capacity")
		b.ReportMetric(float64(rush.incomplete), "incomplete")
		b.ReportMetric(float64(len(rush.away))/seconds, "refused/s")
		if n := len(rush.away); n > 0 {
			b.ReportMetric(float64(rush.away[n*99/100].Microseconds())/1000, "refusal-p99-ms")
			b.ReportMetric(float64(rush.decided[n*99/100].Microseconds())/1000, "deciding-p99-ms")
		}
	}
}

// A tally is what readers met: how many were served, of how many the record was incomplete, and how long after they were due those who were turned
// away were told, and how long after they asked.
type tally struct {
	served, incomplete int
	away, decided      []time.Duration
}

func (t *tally) add(o tally) {
	t.served, t.incomplete = t.served+o.served, t.incomplete+o.incomplete
	t.away, t.decided = append(t.away, o.away...), append(t.decided, o.decided...)
}
