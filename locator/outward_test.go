package locator_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"tombolo/connector"
	"tombolo/fhir"
	"tombolo/locator"
)

type asker func(ctx context.Context, q connector.Question) (*connector.Answer, error)

func (a asker) Ask(ctx context.Context, q connector.Question) (*connector.Answer, error) {
	return a(ctx, q)
}

// A locator is asked once about a person for as long as its answer is believed, however many want to know; what it did not answer is asked again.
func TestALocatorIsAskedOnceForAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int32
		var fail atomic.Pointer[fhir.Issue]
		c := locator.NewCache(asker(func(ctx context.Context, _ connector.Question) (*connector.Answer, error) {
			asked.Add(1)
			select {
			case <-time.After(time.Second):
			case <-ctx.Done():
				return nil, ctx.Err()
			}
			if f := fail.Load(); f != nil {
				return nil, f
			}
			return &connector.Answer{Map: "nrl/1"}, nil
		}), 10*time.Minute, nil)
		ask := func(nhs string, deadline time.Duration) error {
			ctx, cancel := context.WithTimeout(t.Context(), deadline)
			defer cancel()
			_, err := c.Ask(ctx, connector.Question{Identifiers: []fhir.Identifier{{System: fhir.SystemNHSNumber, Value: nhs}}})
			return err
		}
		var all sync.WaitGroup
		for range 20 {
			all.Go(func() {
				if err := ask("a", 2*time.Second); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if n := asked.Load(); n != 1 {
			t.Errorf("twenty at once asked %d times", n)
		}
		if err := ask("b", 2*time.Second); err != nil || asked.Load() != 2 {
			t.Errorf("somebody else: %v, %d", err, asked.Load())
		}
		time.Sleep(11 * time.Minute)
		if err := ask("a", 2*time.Second); err != nil || asked.Load() != 3 {
			t.Errorf("later: %v, %d", err, asked.Load())
		}
		// A failure is nobody's answer: also not that of one who had less time.
		time.Sleep(11 * time.Minute)
		all.Go(func() {
			if err := ask("a", 100*time.Millisecond); err == nil {
				t.Error("within a tenth of a second?")
			}
		})
		all.Go(func() {
			time.Sleep(time.Millisecond)
			if err := ask("a", 5*time.Second); err != nil {
				t.Errorf("the other's deadline was mine: %v", err)
			}
		})
		all.Wait()
		fail.Store(fhir.Errorf(fhir.Transient, "down"))
		before := asked.Load()
		_, _ = ask("c", 2*time.Second), ask("c", 2*time.Second)
		if asked.Load() != before+2 {
			t.Error("that it failed is remembered")
		}
		fail.Store(fhir.Errorf(fhir.NotFound, "nobody"))
		_, _ = ask("d", 2*time.Second), ask("d", 2*time.Second)
		if asked.Load() != before+3 {
			t.Error("that it knows nobody is not remembered")
		}
		c.Forget(fhir.Identifier{System: fhir.SystemNHSNumber, Value: "d"})
		if _ = ask("d", 2*time.Second); asked.Load() != before+4 {
			t.Error("what was forgotten is remembered")
		}
	})
}

// What depends on who asks is believed for those alone who ask alike.
func TestAnIndexIsBelievedForWhoeverAsksAlike(t *testing.T) {
	asked := 0
	c := locator.NewCache(asker(func(context.Context, connector.Question) (*connector.Answer, error) {
		asked++
		return nil, fhir.Errorf(fhir.NotFound, "nobody")
	}), time.Hour, nil).ForEach()
	ask := func(q connector.Question) int {
		if _, err := c.Ask(t.Context(), q); !fhir.Is(err, fhir.NotFound) {
			t.Error(err)
		}
		return asked
	}
	q := connector.Question{Identifiers: []fhir.Identifier{{System: fhir.SystemNHSNumber, Value: "a"}}, Requester: connector.Requester{UserID: "ade", OrganisationODS: "RX1", Role: "gp", Purpose: "TREAT"}}
	if first := ask(q); first != 1 || ask(q) != first {
		t.Errorf("the same question was asked %d times", asked)
	}
	colleague := q
	colleague.Requester.UserID = "lee"
	if ask(colleague) != 1 {
		t.Error("a colleague's question was asked again")
	}
	for i, change := range []func(*connector.Question){func(q *connector.Question) { q.Requester.Role = "nurse" }, func(q *connector.Question) { q.Requester.OrganisationODS = "RX2" },
		func(q *connector.Question) { q.Requester.Purpose = "ETREAT" }, func(q *connector.Question) { q.Wanted = []string{"x"} }, func(q *connector.Question) { q.About = fhir.New("Patient", "", fhir.M{"gender": "female"}) }} {
		other := q
		if change(&other); ask(other) != 2+i {
			t.Errorf("another question (%d) was not asked", i)
		}
	}
}
