package subscription

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"tombolo/fhir"
)

// Standing is how a Subscription stands.
type Standing struct {
	Source string
	Definition
	Progress
	Events  uint64 // since it began
	Waiting uint64 // of these, those that its endpoint has not taken
}

// All are the Subscriptions of all sources, those that have waited longest first.
func (s *Service) All(ctx context.Context) ([]Standing, error) {
	var out []Standing
	view := s.o.Store.View(Bucket)
	for item, err := range view.Scan(ctx, "p/") {
		if err != nil {
			return nil, err
		}
		of, err := s.standings(ctx, strings.TrimPrefix(item.Key, "p/"), item.Value)
		if err != nil {
			return nil, err
		}
		out = append(out, of...)
	}
	slices.SortStableFunc(out, func(a, b Standing) int { return a.Next.Compare(b.Next) })
	return out, nil
}

func (s *Service) standings(ctx context.Context, source string, value []byte) ([]Standing, error) {
	all, err := read[[]Definition](value)
	if err != nil || len(all) == 0 {
		return nil, err
	}
	keys := make([]string, 0, 2*len(all))
	for _, d := range all {
		keys = append(keys, countKey(source, d.ID), progressKey(source, d.ID))
	}
	got, err := s.o.Store.View(Bucket).MultiGet(ctx, keys...)
	if err != nil {
		return nil, err
	}
	var out []Standing
	for i, d := range all {
		st := Standing{Source: source, Definition: d}
		st.Events, _ = strconv.ParseUint(string(got[2*i]), 10, 64)
		if st.Progress, err = read[Progress](got[2*i+1]); err != nil {
			return nil, err
		}
		st.Waiting = st.Events - min(st.Sent, st.Events)
		out = append(out, st)
	}
	return out, nil
}

// Of is how one Subscription stands; NotFound if nothing was asked for by it, or it is off.
func (s *Service) Of(ctx context.Context, source, id string) (Standing, error) {
	value, _, err := s.o.Store.View(Bucket).Get(ctx, definitionsKey(source))
	if err != nil {
		return Standing{}, err
	}
	all, err := s.standings(ctx, source, value)
	if err != nil {
		return Standing{}, err
	}
	if i := slices.IndexFunc(all, func(st Standing) bool { return st.ID == id }); i >= 0 {
		return all[i], nil
	}
	return Standing{}, fhir.Errorf(fhir.NotFound, "no notifications are asked for by this Subscription")
}

// An Event is one for which a notification is due, or was sent.
type Event struct {
	Number uint64
	At     string // an instant
}

// Events are those from a number on that are still kept, at most limit.
func (s *Service) Events(ctx context.Context, source, id string, from uint64, limit int) ([]Event, error) {
	var out []Event
	prefix := outboxPrefix(source, id)
	for item, err := range s.o.Store.View(Bucket).ScanFrom(ctx, eventKey(source, id, from), limit) {
		if err != nil {
			return nil, err
		}
		number, ok := strings.CutPrefix(item.Key, prefix)
		if !ok {
			break
		}
		n, err := strconv.ParseUint(number, 10, 64)
		if err != nil {
			return nil, err
		}
		out = append(out, Event{n, string(item.Value)})
	}
	return out, nil
}

// Notification is a Bundle of type history that says how a Subscription stands, and tells the numbers and times of events; of what they are about, nothing.
//
// HL7 Subscriptions R5 Backport 1.1 notifications.html, R4, content "empty"
func Notification(st Standing, kind string, events []Event, now time.Time) []byte {
	bundle := fhir.New("Bundle", "", fhir.M{"type": "history", "timestamp": fhir.Instant(now), "entry": []fhir.M{st.entry(kind, events)}})
	return bundle.Raw()
}

func (st Standing) entry(kind string, events []Event) fhir.M {
	return fhir.M{"resource": Status(st, kind, events), "request": fhir.M{"method": "GET", "url": "Subscription/" + st.ID + "/$status"}, "response": fhir.M{"status": "200"}}
}

// Status is how a Subscription stands, as Parameters in the shape of the backport's SubscriptionStatus. kind is handshake, event-notification, query-status or query-event.
func Status(st Standing, kind string, events []Event) fhir.M {
	parts := []fhir.M{
		{"name": "subscription", "valueReference": fhir.M{"reference": "Subscription/" + st.ID}},
		{"name": "status", "valueCode": cmp.Or(st.State, Requested)},
		{"name": "type", "valueCode": kind},
		{"name": "events-since-subscription-start", "valueString": strconv.FormatUint(st.Events, 10)},
	}
	for _, e := range events {
		parts = append(parts, fhir.M{"name": "notification-event", "part": []fhir.M{
			{"name": "event-number", "valueString": strconv.FormatUint(e.Number, 10)}, {"name": "timestamp", "valueInstant": e.At}}})
	}
	if why := cmp.Or(st.Progress.Why, st.Definition.Why); why != "" {
		parts = append(parts, fhir.M{"name": "error", "valueCodeableConcept": fhir.M{"text": why}})
	}
	return fhir.M{"resourceType": "Parameters", "parameter": parts}
}
