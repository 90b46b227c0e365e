package gather

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/sony/gobreaker/v2"

	"tombolo/connector"
	"tombolo/fhir"
)

// A breaker keeps a source that fails again and again from costing every reader its deadline: after five failures in a row it is
// not asked for ten seconds, then tried once.
type breaker struct {
	cb *gobreaker.CircuitBreaker[*connector.Answer]

	mu     sync.Mutex
	health Health
}

// Health is how asking a source has gone since this process started.
type Health struct {
	Asked, Failed int
	LastOK        time.Time
	LastFailed    time.Time
	Problem       fhir.IssueType // of the last failure
	Open          bool           // failing again and again, and not asked for the moment
}

// Health tells of each source that is asked.
func (g *Gatherer) Health() map[string]Health {
	out := make(map[string]Health, len(g.breakers))
	for id, b := range g.breakers {
		b.mu.Lock()
		h := b.health
		b.mu.Unlock()
		h.Open = b.cb.State() == gobreaker.StateOpen
		out[id] = h
	}
	return out
}

func (b *breaker) note(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.health.Asked++
	if !sick(err) {
		b.health.LastOK = time.Now()
		return
	}
	b.health.Failed++
	b.health.LastFailed, b.health.Problem = time.Now(), fhir.Transient
	if i := fhir.IssueOf(err); i != nil {
		b.health.Problem = i.Type
	} else if errors.Is(err, context.DeadlineExceeded) {
		b.health.Problem = fhir.Timeout
	}
}

func newBreaker(source string) *breaker {
	return &breaker{cb: gobreaker.NewCircuitBreaker[*connector.Answer](gobreaker.Settings{
		Name: source, Timeout: 10 * time.Second,
		ReadyToTrip:  func(c gobreaker.Counts) bool { return c.ConsecutiveFailures >= 5 },
		IsSuccessful: func(err error) bool { return !sick(err) },
	})}
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

var errOpen = fhir.Errorf(fhir.Transient, "not asked: it has failed several times in a row and will be tried again in a few seconds")

func (b *breaker) ask(ctx context.Context, a connector.Asker, q connector.Question) (*connector.Answer, error) {
	ans, err := b.cb.Execute(func() (*connector.Answer, error) { return a.Ask(ctx, q) })
	if errors.Is(err, gobreaker.ErrOpenState) || errors.Is(err, gobreaker.ErrTooManyRequests) {
		return nil, errOpen
	}
	b.note(err)
	return ans, err
}
