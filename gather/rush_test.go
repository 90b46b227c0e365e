package gather

import (
	"container/heap"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

// A machine is processors and the one queue of what is ready for them, in a time of its own: the same rush always goes the same way on it, whatever else
// the machine that runs the test has to do.
type machine struct {
	now   time.Duration
	free  int
	ready []work // in the order in which it is taken up
	later moments
	count int

	served int

	waited time.Duration // of what was taken up since the last look, and how much that was
	taken  int
}

type work struct {
	since, cost time.Duration
	then        func() // when it is done
}

type moment struct {
	at   time.Duration
	nth  int
	then func()
}

type moments []moment

func (m moments) Len() int { return len(m) }
func (m moments) Less(i, j int) bool {
	return m[i].at < m[j].at || m[i].at == m[j].at && m[i].nth < m[j].nth
}
func (m moments) Swap(i, j int) { m[i], m[j] = m[j], m[i] }
func (m *moments) Push(x any)   { *m = append(*m, x.(moment)) }
func (m *moments) Pop() any {
	last := (*m)[len(*m)-1]
	*m = (*m)[:len(*m)-1]
	return last
}

// in has something happen after a while.
func (m *machine) in(d time.Duration, then func()) {
	m.count++
	heap.Push(&m.later, moment{m.now + d, m.count, then})
}

// work needs a processor for so long.
func (m *machine) work(cost time.Duration, then func()) {
	m.ready = append(m.ready, work{m.now, cost, then})
	m.next()
}

func (m *machine) next() {
	for m.free > 0 && len(m.ready) > 0 {
		w := m.ready[0]
		m.ready = m.ready[1:]
		m.free--
		m.waited, m.taken = m.waited+m.now-w.since, m.taken+1
		m.in(w.cost, func() {
			m.free++
			w.then()
			m.next()
		})
	}
}

// run lets time pass.
func (m *machine) run(until time.Duration) {
	for len(m.later) > 0 && m.later[0].at <= until {
		e := heap.Pop(&m.later).(moment)
		m.now = e.at
		e.then()
	}
	m.now = until
}

// wait is what Go's scheduler would say.
func (m *machine) wait() float64 {
	if m.taken == 0 {
		return 0
	}
	mean := m.waited.Seconds() / float64(m.taken)
	m.waited, m.taken = 0, 0
	return mean
}

// A toll is what a gathering costs: so much of a processor, a fifth of it to begin with, the rest as each of five sources has answered.
type toll struct{ processor, sources time.Duration }

// What came of the readers of a stretch of time.
type stretch struct {
	came, served, away int
	longest            time.Duration // that anybody waited to be turned away
}

// come has readers come at random, so many a second, for a while. To be turned away takes a processor too, for a moment.
func (m *machine) come(a *admission, t toll, perSecond float64, during time.Duration, random *rand.Rand) stretch {
	var s stretch
	until, served := m.now+during, m.served
	var reader func()
	reader = func() {
		came := m.now
		s.came++
		m.work(2*time.Microsecond, func() {
			leave, err := a.enter()
			if err != nil {
				s.away, s.longest = s.away+1, max(s.longest, m.now-came)
				return
			}
			m.work(t.processor/5, func() {
				m.in(t.sources+time.Duration(random.Float64()*0.1*float64(t.sources)), func() { m.join(t, 5, leave) })
			})
		})
		if gap := time.Duration(random.ExpFloat64() / perSecond * float64(time.Second)); m.now+gap < until {
			m.in(gap, reader)
		}
	}
	m.in(0, reader)
	m.run(until)
	s.served = m.served - served
	return s
}

func (m *machine) join(t toll, sources int, leave func()) {
	m.work(t.processor*4/25, func() {
		if sources == 1 {
			leave()
			m.served++
			return
		}
		m.join(t, sources-1, leave)
	})
}

func newMachine(processors int) (*machine, *admission) {
	m := &machine{free: processors}
	a := newAdmission(0)
	a.few, a.pacing, a.wait, a.clock = int64(4*processors), newPacing(processors), m.wait, func() time.Duration { return m.now }
	a.grant.Store(a.pacing.full())
	return m, a
}

// Whatever a gathering costs and however slow its sources are: readers in ten times the number that can be served, at once after the start of the program
// and after a calm, are served as many as can be, and the others are told within 50 ms to come again.
func TestARushIsTurnedAwayAtOnceAndCostsNobodyElseTheirAnswer(t *testing.T) {
	const processors, soon = 2, 50 * time.Millisecond
	for _, cost := range []time.Duration{time.Millisecond, 2300 * time.Microsecond, 5 * time.Millisecond} {
		for _, sources := range []time.Duration{5 * time.Millisecond, 20 * time.Millisecond, 100 * time.Millisecond, 300 * time.Millisecond} {
			t.Run(fmt.Sprintf("costs %s, sources take %s", cost, sources), func(t *testing.T) {
				t.Parallel()
				m, a := newMachine(processors)
				random := rand.New(rand.NewPCG(1, 2))
				capacity := processors / cost.Seconds()
				for i, times := range []float64{10, 0.3, 10, 0.5, 0.001, 10} {
					onset := m.come(a, toll{cost, sources}, times*capacity, time.Second, random)
					after := m.come(a, toll{cost, sources}, times*capacity, 2*time.Second, random)
					served := float64(after.served) / 2 / capacity
					t.Logf("%g times what can be served: %.2f of it in the first second, %.2f after; %d of %d turned away, the last of them told after %s",
						times, float64(onset.served)/capacity, served, onset.away+after.away, onset.came+after.came, max(onset.longest, after.longest))
					if max(onset.longest, after.longest) > soon {
						t.Errorf("in turn %d somebody waited %s to be turned away", i+1, max(onset.longest, after.longest))
					}
					learning := i == 0 && sources > 100*time.Millisecond // slow sources show late what the machine can do
					if times > 1 && served < 0.9 && !learning {
						t.Errorf("in turn %d, a rush, %.2f of what can be served is", i+1, served)
					}
					if times < 1 && (after.away > after.came/200 || onset.away > onset.came/20) {
						t.Errorf("in turn %d, a calm, %d of %d are turned away, then %d of %d", i+1, onset.away, onset.came, after.away, after.came)
					}
				}
			})
		}
	}
}

// What an evening's import does to the processors must not be held against the readers of the morning.
func TestOtherWorkThatCrowdsTheProcessorsTeachesNothingAboutReaders(t *testing.T) {
	m, a := newMachine(2)
	random := rand.New(rand.NewPCG(1, 2))
	cost := toll{time.Millisecond, 20 * time.Millisecond}
	m.come(a, cost, 10*2000, 2*time.Second, random)
	m.come(a, cost, 20, time.Second, random)
	before := a.pacing.pace
	var imports func()
	imports = func() { // sixty at a time, so that whatever is ready waits 15 ms
		m.work(500*time.Microsecond, func() { m.in(0, imports) })
	}
	for range 60 {
		imports()
	}
	few := m.come(a, cost, 20, 30*time.Second, random)
	if few.away > 0 {
		t.Errorf("of %d readers beside an import, %d were turned away", few.came, few.away)
	}
	if now := a.pacing.pace; now < before {
		t.Errorf("pace was %.1f before an import and is %.1f after it", before, now)
	}
}

func TestPaceIsNeverCutToNothing(t *testing.T) {
	p := newPacing(2)
	let := 0.0
	for range 1000 {
		ready, pace := p.next(glance{looks: 1, wait: 1, pressed: true})
		let += ready + pace
	}
	if let < 900 {
		t.Errorf("of 1000 looks at processors that are always crowded, %.0f let somebody in", let)
	}
}
