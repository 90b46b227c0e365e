package api

import (
	"context"
	"net/http"
	"strconv"

	"tombolo/access"
	"tombolo/fhir"
	"tombolo/gather"
	"tombolo/subscription"
)

// Subscriptions are how systems' Subscriptions stand. subscription.Service is one.
type Subscriptions interface {
	Of(ctx context.Context, source, id string) (subscription.Standing, error)
	Events(ctx context.Context, source, id string, from uint64, limit int) ([]subscription.Event, error)
}

// eventsMost is how many events $events gives at a time.
const eventsMost = 1000

// subscriptionOf is how the Subscription that a URL names stands: off, if nothing is asked for by it.
func (s *server) subscriptionOf(r *http.Request, session *access.Session) (*gather.Own, subscription.Standing, error) {
	r.SetPathValue("type", "Subscription")
	own, got, err := s.named(r, session)
	if err != nil {
		return nil, subscription.Standing{}, err
	}
	st := subscription.Standing{Source: own.Source()}
	err = fhir.Errorf(fhir.NotFound, "there are none")
	if s.o.Subscriptions != nil {
		st, err = s.o.Subscriptions.Of(r.Context(), own.Source(), got.Ref.ID())
	}
	if fhir.Is(err, fhir.NotFound) {
		st.ID, st.State, err = got.Ref.ID(), subscription.Off, nil
	}
	return own, st, err
}

// subscriptionStatus is Subscription/[id]/$status. HL7 Subscriptions R5 Backport 1.1, OperationDefinition-backport-subscription-status.html
func (s *server) subscriptionStatus(w http.ResponseWriter, r *http.Request, session *access.Session) error {
	_, st, err := s.subscriptionOf(r, session)
	if err != nil {
		return err
	}
	b := fhir.NewBundle("searchset", s.base(r), 1, 1)
	b.AddEntry(fhir.EntryParts{Resource: fhir.JSON(subscription.Status(st, "query-status", nil)), Mode: "match"})
	write(w, r, http.StatusOK, b.Bytes())
	return nil
}

// subscriptionEvents is Subscription/[id]/$events: the events that are still kept, for a subscriber who finds a gap in the numbers.
// HL7 Subscriptions R5 Backport 1.1, OperationDefinition-backport-subscription-events.html
func (s *server) subscriptionEvents(w http.ResponseWriter, r *http.Request, session *access.Session) error {
	from, until := uint64(1), uint64(1<<63)
	for name, values := range r.URL.Query() {
		var err error
		switch name {
		case "eventsSinceNumber":
			from, err = strconv.ParseUint(values[0], 10, 63)
		case "eventsUntilNumber":
			until, err = strconv.ParseUint(values[0], 10, 63)
		case "_format", "_pretty":
		default:
			if !lenient(r) {
				return fhir.Errorf(fhir.NotSupported, "$events takes eventsSinceNumber and eventsUntilNumber: leave this out, or send Prefer: handling=lenient").At(name)
			}
		}
		if err != nil {
			return fhir.Errorf(fhir.ValueError, "this is the number of an event, such as 17").At(name)
		}
	}
	own, st, err := s.subscriptionOf(r, session)
	if err != nil {
		return err
	}
	var events []subscription.Event
	if st.Events > 0 {
		if events, err = s.o.Subscriptions.Events(r.Context(), own.Source(), st.ID, from, eventsMost); err != nil {
			return err
		}
	}
	for i, e := range events {
		if e.Number > until {
			events = events[:i]
			break
		}
	}
	b := fhir.NewBundle("history", s.base(r), -1, 1)
	b.AddEntry(fhir.EntryParts{Resource: fhir.JSON(subscription.Status(st, "query-event", events)), Request: fhir.M{"method": "GET", "url": "Subscription/" + st.ID + "/$status"}, Response: fhir.M{"status": "200"}})
	write(w, r, http.StatusOK, b.Bytes())
	return nil
}
