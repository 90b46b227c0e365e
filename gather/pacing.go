package gather

import "math"

// pacing is how many gatherings are let in from one look to the next. Its numbers are for one look of lookEvery.
//
// It is a congestion control as of a network, whose round trip is a gathering: what was let in is felt when the sources have answered. It opens no
// faster than what was opened can be seen to be finished, it is cut once and then waits for a round trip to see what that did, and what was learned
// of the machine in one rush is where the next begins.
type pacing struct {
	pace    float64 // how many may come in
	least   float64 // to which pace is never cut
	done    float64 // how many are finished, and how many are inside: moving averages
	inside  float64
	hold    float64 // looks until pace may be cut again
	calm    float64 // looks since processors were last crowded
	learned bool    // processors were crowded lately: pace is about what they can do
}

const (
	// longWait is the mean wait for a processor, in seconds, beyond which fewer are let in: one gathering has several such waits, and its sources have deadlines.
	longWait = 1.75e-3
	// tooLong is that at which next to nobody is let in until it is shorter.
	tooLong = 20e-3
	// usual is what a gathering is taken to cost of a processor, in seconds, until it is known, and dearest what it costs at most.
	usual, dearest = 5e-3, 40e-3
	// saved is for how many looks pace is saved up while fewer come: people come together.
	saved = 3
	// forgotten is for how many looks processors stay calm until what they can do may be found out in larger steps again: a minute.
	forgotten = 3000
)

func newPacing(processors int) pacing {
	look := float64(processors) * lookEvery.Seconds()
	return pacing{pace: look / usual, least: look / dearest}
}

// A glance is what is seen at a look: how many looks' time has passed, how long ready work waited meanwhile, in seconds, how much room is left and how
// many have taken some, how many were finished, how many are inside, and whether somebody was turned away.
type glance struct {
	looks, wait, left, taken, finished, inside float64
	pressed                                    bool
}

// next says how many may come in at once, and how many more in a look's time.
func (p *pacing) next(g glance) (ready, pace float64) {
	recent := 1 - math.Exp(-g.looks/4)
	p.done += recent * (g.finished/g.looks - p.done)
	p.inside += recent * (g.inside - p.inside)
	takes := min(50, p.inside/max(p.done, 0.1)) // how many looks a gathering takes, by Little's law
	p.hold -= g.looks
	p.calm += g.looks
	if g.wait > longWait {
		p.learned, p.calm = true, 0
		if inUse := g.taken >= p.pace/2; inUse && p.hold <= 0 { // else it is other work that crowds the processors
			p.pace = max(p.least, 0.95*min(p.pace, max(p.done, 0.8*p.pace)))
			p.hold = takes
		}
	} else if g.pressed {
		p.open(min(g.looks, saved), takes*lookEvery.Seconds())
	}
	if p.calm > forgotten {
		p.learned = false
	}
	if g.wait > tooLong {
		return min(g.left, p.least), p.least
	}
	return min(g.left, p.most()), p.pace
}

// most is how many may come in together after a calm.
func (p *pacing) most() float64 { return saved*p.pace + 1 }

// full is what is granted to those who come first.
func (p *pacing) full() *grant { return &grant{ready: p.most(), pace: p.pace} }

// open raises pace after so many looks' time, but not far beyond what is finished: the longer gatherings take, the later it is felt.
func (p *pacing) open(looks, takes float64) {
	step, ahead := 1.0/4, min(1, 0.2/max(takes, 1e-3))
	if p.learned {
		step, ahead = 1.0/16, min(0.25, 0.06/max(takes, 1e-3))
	}
	if most := (1 + ahead) * p.done; p.pace < most {
		p.pace = min(most, p.pace*(1+looks*step))
	}
}
