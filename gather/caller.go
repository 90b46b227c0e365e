package gather

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/sony/gobreaker/v2"
	"golang.org/x/time/rate"

	"tombolo/connector"
	"tombolo/fhir"
	"tombolo/region"
)

// A caller asks one source on everybody's behalf: at most so many questions at a time and in a second, one question where several are the same,
// no question while the source fails again and again, and a second one beside the first only where the region file says so.
type caller struct {
	source string
	asker  connector.Asker
	limits region.Asking
	memory *memory
	logger *slog.Logger

	cb    *gobreaker.CircuitBreaker[*connector.Answer]
	slots chan struct{}
	pace  *rate.Limiter // nil: as often as anybody asks

	mu      sync.Mutex
	health  Health
	flights map[[32]byte]*flight
	rest    time.Time // until when the source wants to be left alone
}

// defaultConcurrent is how many questions one source is asked at the same time.
const defaultConcurrent = 16

// After so many failures in a row a source is left alone for so long, and then asked one question to see.
const (
	tripAfter  = 5
	leaveAlone = 10 * time.Second
	mostRest   = time.Minute // is left alone, whatever it says, before it is asked again
)

func newCaller(source string, a connector.Asker, limits region.Asking, m *memory, logger *slog.Logger) *caller {
	c := &caller{source: source, asker: a, limits: limits, memory: m, logger: logger, flights: map[[32]byte]*flight{},
		slots: make(chan struct{}, cmp.Or(limits.Concurrent, defaultConcurrent))}
	if limits.PerSecond > 0 {
		c.pace = rate.NewLimiter(rate.Limit(limits.PerSecond), limits.PerSecond)
	}
	c.cb = gobreaker.NewCircuitBreaker[*connector.Answer](gobreaker.Settings{
		Name: source, Timeout: leaveAlone,
		ReadyToTrip:  func(n gobreaker.Counts) bool { return n.ConsecutiveFailures >= tripAfter },
		IsSuccessful: func(err error) bool { return !sick(err) },
		IsExcluded:   func(err error) bool { return errors.Is(err, context.Canceled) }, // whoever asked went away: it says nothing of the source
	})
	return c
}

// A flight is one question on its way, and how many wait for its answer.
type flight struct {
	began   time.Time
	waiting int
	cancel  context.CancelFunc
	done    chan struct{}
	ans     *connector.Answer
	err     error
}

var (
	errOpen = fhir.Errorf(fhir.Transient, "not asked: it has failed several times in a row and will be tried again in a few seconds")
	errRest = fhir.Errorf(fhir.Throttled, "not asked: it said that it had too many questions, and for how long it wants none")
	errBusy = fhir.Errorf(fhir.Throttled, "not asked: as many questions as it takes are already on their way")
)

// ask gives the source's answer by ctx's deadline, whether or not the connector obeys it. The answer is the caller's own to add to; its content is
// shared and must not be changed.
func (c *caller) ask(ctx context.Context, q connector.Question) (*connector.Answer, error) {
	key := sameQuestion(q)
	if ans := c.memory.recall(c.source, key, c.limits.Remember); ans != nil {
		return ans, nil
	}
	if c.cb.State() == gobreaker.StateOpen {
		return nil, errOpen
	}
	if c.rests() {
		return nil, errRest
	}
	f := c.board(ctx, key, q)
	select {
	case <-f.done:
	case <-ctx.Done():
		select {
		case <-f.done: // its connector gave what it had
		case <-time.After(deafness + 5*time.Millisecond):
			c.leave(f)
			return nil, ctx.Err()
		}
	}
	if f.ans == nil {
		return nil, f.err
	}
	own := *f.ans
	return &own, f.err
}

// board joins the same question if it is on its way and has not been for long, or sets out with it.
func (c *caller) board(ctx context.Context, key [32]byte, q connector.Question) *flight {
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	end, bounded := ctx.Deadline()
	if f := c.flights[key]; f != nil && (!bounded || now.Sub(f.began) < end.Sub(now)/4) {
		f.waiting++
		return f
	}
	own, cancel := context.WithCancel(context.WithoutCancel(ctx)) // those who join must not lose the answer when the first goes away
	if bounded {
		own, cancel = context.WithDeadline(context.WithoutCancel(ctx), end)
	}
	f := &flight{began: now, waiting: 1, cancel: cancel, done: make(chan struct{})}
	c.flights[key] = f
	go func() {
		defer cancel()
		f.ans, f.err = c.fly(own, q)
		c.mu.Lock()
		if c.flights[key] == f {
			delete(c.flights, key)
		}
		c.mu.Unlock()
		if f.err == nil {
			c.memory.keep(c.source, key, f.ans, c.limits.Remember)
		}
		close(f.done)
	}()
	return f
}

// leave ends a question that nobody waits for any more.
func (c *caller) leave(f *flight) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if f.waiting--; f.waiting == 0 {
		f.cancel()
	}
}

// fly asks, once it is the question's turn.
func (c *caller) fly(ctx context.Context, q connector.Question) (*connector.Answer, error) {
	if !c.turn(ctx) {
		return nil, errBusy
	}
	begun := false
	ans, err := c.cb.Execute(func() (*connector.Answer, error) {
		begun = true
		ans, err := c.hedged(ctx, q)
		if err != nil && errors.Is(ctx.Err(), context.Canceled) { // connectors each have their own word for it
			return nil, context.Canceled
		}
		return ans, err
	})
	if !begun {
		<-c.slots
	}
	if errors.Is(err, gobreaker.ErrOpenState) || errors.Is(err, gobreaker.ErrTooManyRequests) {
		return nil, errOpen
	}
	c.note(err)
	return ans, err
}

// rests reports whether the source said that it wants to be left alone, and that time is not over.
func (c *caller) rests() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Before(c.rest)
}

// turn waits for a free slot and for the pace that the source can bear, and takes the slot. It gives up early enough that the question could
// still be answered.
func (c *caller) turn(ctx context.Context) bool {
	wait := time.Second
	if end, ok := ctx.Deadline(); ok {
		wait = time.Until(end) / 2
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	select {
	case c.slots <- struct{}{}:
	case <-ctx.Done():
		return false
	}
	if c.pace != nil && c.pace.Wait(ctx) != nil {
		<-c.slots
		return false
	}
	return true
}

// hedged asks, and asks again beside it where that is allowed and the first has not answered in time. The first good answer counts; a connector that
// does not obey its deadline is not waited for.
func (c *caller) hedged(ctx context.Context, q connector.Question) (*connector.Answer, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	answers := make(chan reply, 2)
	go c.guarded(ctx, q, answers)
	asked := 1
	var again <-chan time.Time
	if c.limits.Hedge > 0 {
		t := time.NewTimer(c.limits.Hedge)
		defer t.Stop()
		again = t.C
	}
	for {
		select {
		case a := <-answers:
			if asked--; a.err == nil || asked == 0 {
				return a.ans, a.err
			}
		case <-ctx.Done():
			select {
			case a := <-answers: // what came in the same moment
				return a.ans, a.err
			case <-time.After(deafness):
				return nil, ctx.Err()
			}
		case <-again:
			select {
			case c.slots <- struct{}{}:
				asked++
				go c.guarded(ctx, q, answers)
			default: // it has enough to do
			}
		}
	}
}

// deafness is how long after its deadline a connector may take to notice, and to give what it has by then.
const deafness = 10 * time.Millisecond

type reply struct {
	ans *connector.Answer
	err error
}

// guarded asks in a slot, which is free again only when the connector has really come back. One broken connector must not take the record, or the
// node, down.
func (c *caller) guarded(ctx context.Context, q connector.Question, answers chan<- reply) {
	defer func() {
		<-c.slots
		if r := recover(); r != nil {
			c.logger.Error("a connector failed badly", "source", c.source, "panic", fmt.Sprintf("%T", r))
			answers <- reply{nil, fhir.Errorf(fhir.Exception, "a fault in its connector")}
		}
	}()
	ans, err := c.asker.Ask(ctx, q)
	answers <- reply{ans, err}
}

// sameQuestion is the key under which two questions are one. Who asks is part of it: the source remembers each of them. The request's trace is not.
func sameQuestion(q connector.Question) [32]byte {
	q.Requester.TraceID = ""
	about := q.About
	q.About = nil
	text, err := json.Marshal(q)
	if err != nil {
		panic("gather: a question is plain data: " + err.Error())
	}
	if about != nil {
		text = append(text, about.Raw()...)
	}
	return sha256.Sum256(text)
}

// Health is how asking a source has gone since this process started.
type Health struct {
	Asked, Failed int
	LastOK        time.Time
	LastFailed    time.Time
	Problem       fhir.IssueType // of the last failure
	Unsafe        string         // which certificate was not accepted then, and where that is mended; "" if it was not that
	Open          bool           // not asked for the moment: it fails again and again, or wants to be left alone
}

// Health tells of each source that is asked.
func (g *Gatherer) Health() map[string]Health {
	out := make(map[string]Health, len(g.callers))
	for id, c := range g.callers {
		c.mu.Lock()
		h := c.health
		c.mu.Unlock()
		h.Open = c.shut()
		out[id] = h
	}
	return out
}

// shut reports whether the source is not asked for the moment.
func (c *caller) shut() bool { return c.cb.State() == gobreaker.StateOpen || c.rests() }

func (c *caller) note(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.health.Asked++
	if errors.Is(err, context.Canceled) {
		return
	}
	if !sick(err) {
		c.health.LastOK = time.Now()
		return
	}
	c.health.Failed++
	c.health.LastFailed, c.health.Problem, c.health.Unsafe = time.Now(), fhir.Transient, ""
	if i := fhir.IssueOf(err); i != nil {
		c.health.Problem = i.Type
		if errors.Is(err, connector.ErrUnsafe) {
			c.health.Unsafe = i.Text
			c.logger.Warn("a source is not spoken to", "source", c.source, "why", i.Text)
		}
		if i.After > 0 { // RFC 9110 §10.2.3
			c.rest = c.health.LastFailed.Add(min(i.After, mostRest))
		}
	} else if errors.Is(err, context.DeadlineExceeded) {
		c.health.Problem = fhir.Timeout
	}
}

// sick reports whether an error speaks of the source's health. That it does not know a patient, or does not share one, does not.
func sick(err error) bool {
	if err == nil || errors.Is(err, context.Canceled) {
		return false
	}
	i := fhir.IssueOf(err)
	if i == nil {
		return true
	}
	switch i.Type {
	case fhir.NotFound, fhir.Suppressed, fhir.Forbidden, fhir.NotSupported, fhir.MultipleMatch, fhir.Incomplete, fhir.BusinessRule:
		return false
	}
	return true
}
