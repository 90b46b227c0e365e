package gather

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"tombolo/connector"
	"tombolo/fhir"
	"tombolo/region"
)

type asked func(ctx context.Context, q connector.Question) (*connector.Answer, error)

func (a asked) Ask(ctx context.Context, q connector.Question) (*connector.Answer, error) {
	return a(ctx, q)
}

// of asks a caller about somebody, for two seconds at most.
func of(c *caller, who string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	_, err := c.ask(ctx, connector.Question{Patient: who})
	return err
}

func callerOf(a asked) *caller {
	return newCaller("one", a, region.Asking{}, &memory{kept: map[recalled]remembered{}}, slog.New(slog.DiscardHandler))
}

// A source that failed five times is left alone for ten seconds; then one question tries it, and the others are told meanwhile that it is not asked.
func TestOneQuestionTriesASourceThatWasLeftAlone(t *testing.T) {
	for name, recovers := range map[string]bool{"it has recovered": true, "it has not": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var n atomic.Int32
				c := callerOf(func(context.Context, connector.Question) (*connector.Answer, error) {
					if n.Add(1) <= tripAfter {
						return nil, fhir.Errorf(fhir.Transient, "down")
					}
					time.Sleep(time.Second)
					if recovers {
						return &connector.Answer{}, nil
					}
					return nil, fhir.Errorf(fhir.Transient, "still down")
				})
				for range tripAfter + 3 {
					_ = of(c, "a")
				}
				if n.Load() != tripAfter || !c.shut() {
					t.Fatalf("asked %d times, left alone: %v", n.Load(), c.shut())
				}
				time.Sleep(leaveAlone + time.Millisecond)
				first := make(chan error, 1)
				go func() { first <- of(c, "a") }()
				synctest.Wait()
				for range 10 { // while the first is on its way
					if err := of(c, "b"); err != errOpen {
						t.Fatalf("beside the one that tries: %v", err)
					}
				}
				if err := <-first; (err == nil) != recovers || n.Load() != tripAfter+1 {
					t.Fatalf("tried with %v, asked %d times", err, n.Load())
				}
				if err := of(c, "b"); recovers && err != nil || !recovers && err != errOpen {
					t.Errorf("afterwards: %v", err)
				}
			})
		})
	}
}

// That readers leave says nothing of the source, whatever its connector calls it: it is not left alone for that, and not taken to have recovered.
func TestWhoLeavesSaysNothingOfTheSource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hangs atomic.Bool
		var n atomic.Int32
		c := callerOf(func(ctx context.Context, _ connector.Question) (*connector.Answer, error) {
			n.Add(1)
			if hangs.Load() {
				<-ctx.Done()
			}
			return nil, fhir.Errorf(fhir.Transient, "the question was given up")
		})
		leaves := func() {
			ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
			time.AfterFunc(100*time.Millisecond, cancel)
			if _, err := c.ask(ctx, connector.Question{Patient: "a"}); !errors.Is(err, context.Canceled) {
				t.Errorf("who leaves is told %v", err)
			}
			synctest.Wait()
		}
		hangs.Store(true)
		for range 4 * tripAfter {
			leaves()
		}
		if c.shut() || c.health.Failed > 0 || !c.health.LastOK.IsZero() {
			t.Errorf("after its readers left: left alone %v, failed %d times, good at %s", c.shut(), c.health.Failed, c.health.LastOK)
		}
		hangs.Store(false)
		for range tripAfter - 1 {
			_ = of(c, "a")
		}
		hangs.Store(true)
		leaves() // between failures: it does not wash them off
		hangs.Store(false)
		if _ = of(c, "a"); !c.shut() {
			t.Error("after five failures with a reader's leaving among them it is still asked")
		}
		time.Sleep(leaveAlone + time.Millisecond)
		hangs.Store(true)
		leaves() // the one that tries
		before := n.Load()
		hangs.Store(false)
		if _ = of(c, "a"); n.Load() != before+1 || !c.shut() {
			t.Errorf("after the one that tried left: asked %d times more, left alone %v; want one that tries anew, and fails", n.Load()-before, c.shut())
		}
	})
}

// RFC 9110 §10.2.3: a source that says for how long it wants no questions gets none, within reason.
func TestASourceThatWantsToBeLeftAloneIs(t *testing.T) {
	for says, rests := range map[time.Duration]time.Duration{30 * time.Second: 30 * time.Second, 24 * time.Hour: mostRest, 0: 0} {
		synctest.Test(t, func(t *testing.T) {
			n := 0
			c := callerOf(func(context.Context, connector.Question) (*connector.Answer, error) {
				if n++; n == 1 {
					i := fhir.Errorf(fhir.Throttled, "slower, please")
					i.After = says
					return nil, i
				}
				return &connector.Answer{}, nil
			})
			if err := of(c, "a"); !fhir.Is(err, fhir.Throttled) {
				t.Fatal(err)
			}
			if rests > 0 {
				time.Sleep(rests - time.Millisecond)
				if err := of(c, "b"); err != errRest || n != 1 {
					t.Errorf("told to wait %s, after %s: %v, asked %d times", says, rests-time.Millisecond, err, n)
				}
				time.Sleep(2 * time.Millisecond)
			}
			if err := of(c, "b"); err != nil || n != 2 {
				t.Errorf("told to wait %s, once that is over: %v, asked %d times", says, err, n)
			}
		})
	}
}
