package hl7v2

import (
	"context"
	"errors"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"tombolo/connector"
	"tombolo/fhir"
)

// A message is sent again, the same, until its fate is known; and then no more.
func TestASenderDoesNotLetGoBeforeAMessagesFateIsKnown(t *testing.T) {
	failing := func(times int, err error) func(connector.Delivery) error {
		return func(connector.Delivery) error {
			if times--; times >= 0 {
				return err
			}
			return nil
		}
	}
	busy := fhir.Errorf(fhir.NoStore, "the disk is full")
	for name, c := range map[string]struct {
		feed Options
		fail func(connector.Delivery) error
		s    Sender
		want fhir.IssueType // "" if it is taken
		took time.Duration
	}{
		"taken at once":               {took: 0},
		"no answer three times":       {fail: failing(3, busy), took: 7 * time.Second},
		"no answer, and no more":      {fail: failing(9, busy), s: Sender{Attempts: 3}, want: fhir.Transient, took: 3 * time.Second},
		"later, as the receiver says": {feed: Options{FailureAck: "AR"}, fail: failing(2, busy), s: Sender{Again: []string{"AR"}}, took: 3 * time.Second},
		"refused":                     {fail: failing(9, fhir.Errorf(fhir.BusinessRule, "somebody else's")), want: fhir.Processing, took: 0},
	} {
		t.Run(name, func(t *testing.T) {
			door := &record{fail: c.fail}
			serve(t, c.feed, door, func(t *testing.T, p *pipes, _ context.CancelFunc) {
				c.s.Client = &Client{Addr: "the feed", Dial: func(context.Context, string) (net.Conn, error) { return p.dial().Conn, nil }}
				defer c.s.Client.Close()
				began := time.Now()
				ack, err := c.s.Send(t.Context(), []byte(admit("1")))
				if c.want == "" && (err != nil || ack.Code != "AA") || c.want != "" && !fhir.Is(err, c.want) {
					t.Errorf("got %s, %v; want %q", ack.Code, err, c.want)
				}
				if took := time.Since(began); took != c.took {
					t.Errorf("it took %s, want %s", took, c.took)
				}
			})
			if c.want == "" && len(door.kept) != 1 {
				t.Errorf("the receiver has %d", len(door.kept))
			}
		})
	}
}

func TestASenderStopsWhenItIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithTimeout(t.Context(), 10*time.Second)
		defer stop()
		s := Sender{Client: &Client{Addr: "nobody", Dial: func(context.Context, string) (net.Conn, error) { return nil, errors.New("refused") }}}
		if _, err := s.Send(ctx, []byte(admit("1"))); !fhir.Is(err, fhir.Transient) {
			t.Errorf("got %v", err)
		}
	})
}
