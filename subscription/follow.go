package subscription

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"sync"

	"tombolo/connector"
	"tombolo/events"
	"tombolo/fhir"
	"tombolo/search"
	"tombolo/store"
)

// compiled are a source's Subscriptions, ready to be matched.
type compiled struct {
	text     string // as it stands in the bucket
	all      []Definition
	matchers map[string]*search.Matcher // by id
}

// cache compiles what stands in the bucket, once.
type cache struct {
	mu sync.Mutex
	of map[string]compiled // by source
}

func (c *cache) read(source string, value []byte) (compiled, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if got, ok := c.of[source]; ok && got.text == string(value) {
		return got, nil
	}
	got := compiled{text: string(value), matchers: map[string]*search.Matcher{}}
	var err error
	if got.all, err = read[[]Definition](value); err != nil {
		return got, err
	}
	for _, d := range got.all {
		if d.Why != "" {
			continue
		}
		q, err := d.query()
		if err == nil {
			got.matchers[d.ID], err = search.Compile(q)
		}
		if err != nil { // it was checked when it came: another release of this program may know less
			delete(got.matchers, d.ID)
		}
	}
	c.of[source] = got
	return got, nil
}

// Handle takes one event of the log into the outboxes of its source's Subscriptions, in the transaction in which the follower's cursor moves.
func (s *Service) Handle(ctx context.Context, tx store.Tx, e events.Event) error {
	b := tx.Bucket(Bucket)
	value, _, err := b.Get(ctx, definitionsKey(e.Source))
	if err != nil {
		return err
	}
	if e.Ref.Type() == "Subscription" {
		if value, err = s.changed(ctx, tx, e, value); err != nil {
			return err
		}
	}
	if len(value) == 0 || e.Kind == events.Deleted { // R4's criteria are answered by what is there
		return nil
	}
	c, err := s.cache.read(e.Source, value)
	if err != nil {
		return err
	}
	var r *fhir.Resource
	for _, d := range c.all {
		m := c.matchers[d.ID]
		if typ, _, _ := strings.Cut(d.Criteria, "?"); m == nil || typ != e.Ref.Type() {
			continue
		}
		if r == nil {
			if r, err = tx.Get(ctx, e.Ref); fhir.Is(err, fhir.NotFound) || fhir.Is(err, fhir.Deleted) {
				return nil // by now
			} else if err != nil {
				return err
			}
			if connector.SourceOf(r) != e.Source {
				return nil
			}
		}
		if !m.Match(r) {
			continue
		}
		if err := s.note(ctx, b, e, d); err != nil {
			return err
		}
	}
	return nil
}

// note writes one event into a Subscription's outbox.
func (s *Service) note(ctx context.Context, b store.TxBucket, e events.Event, d Definition) error {
	got, err := b.MultiGet(ctx, countKey(e.Source, d.ID), progressKey(e.Source, d.ID))
	if err != nil {
		return err
	}
	n, _ := strconv.ParseUint(string(got[0]), 10, 64)
	p, err := read[Progress](got[1])
	if err != nil {
		return err
	}
	if p.State == Off {
		return nil
	}
	n++
	b.Put(countKey(e.Source, d.ID), strconv.AppendUint(nil, n, 10))
	if n-min(p.Sent, n) <= s.most {
		b.Put(eventKey(e.Source, d.ID, n), []byte(fhir.Instant(e.At)))
	}
	s.poke()
	return nil
}

// changed takes a Subscription into its source's, as it is by now.
func (s *Service) changed(ctx context.Context, tx store.Tx, e events.Event, value []byte) ([]byte, error) {
	all, err := read[[]Definition](value)
	if err != nil {
		return nil, err
	}
	b, id := tx.Bucket(Bucket), e.Ref.ID()
	at := slices.IndexFunc(all, func(d Definition) bool { return d.ID == id })
	r, err := tx.Get(ctx, e.Ref)
	switch {
	case fhir.Is(err, fhir.NotFound) || fhir.Is(err, fhir.Deleted) || err == nil && (connector.SourceOf(r) != e.Source || !asked(r) && r.Text("status") != string(Failed)):
		if at < 0 {
			return value, nil
		}
		all = slices.Delete(all, at, at+1)
		b.Delete(progressKey(e.Source, id))
		b.Delete(countKey(e.Source, id))
		for item, err := range b.Scan(ctx, outboxPrefix(e.Source, id)) {
			if err != nil {
				return nil, err
			}
			b.Delete(item.Key)
		}
	case err != nil:
		return nil, err
	case !asked(r): // "error", which this server has written: what waits goes on waiting for it to be requested again
		return value, nil
	default:
		if all, err = s.take(ctx, tx, e, r, all, at); err != nil {
			return nil, err
		}
	}
	if value = nil; len(all) > 0 {
		value = fhir.JSON(all)
		b.Put(definitionsKey(e.Source), value)
	} else {
		b.Delete(definitionsKey(e.Source))
	}
	s.poke()
	return value, nil
}

// take begins a Subscription that is asked for, or begins it again: another definition, or the same requested once more. What waits stays.
func (s *Service) take(ctx context.Context, tx store.Tx, e events.Event, r *fhir.Resource, all []Definition, at int) ([]Definition, error) {
	d, err := define(r, s.o.Allowed(e.Source))
	if err == nil && at < 0 && len(all) >= MaxSubscriptions {
		err = fhir.Errorf(fhir.TooCostly, "a system has at most %d subscriptions", MaxSubscriptions)
	}
	if err != nil {
		d.Why = fhir.IssueOf(err).Text
	}
	key := progressKey(e.Source, d.ID)
	data, _, err := tx.Bucket(Bucket).Get(ctx, key)
	if err != nil {
		return nil, err
	}
	p, err := read[Progress](data)
	if err != nil {
		return nil, err
	}
	if at >= 0 && p.Of == d.hash() && p.State != Failed && (r.Text("status") == string(Active) || p.State == Requested) {
		return all, nil
	}
	p = Progress{State: Requested, Of: d.hash(), Sent: p.Sent}
	tx.Bucket(Bucket).Put(key, fhir.JSON(p))
	if at >= 0 {
		all[at] = d
		return all, nil
	}
	return append(all, d), nil
}
