// Package standing keeps what policy must know of a person before any record of theirs is looked at: what they have chosen, who acts for
// them, and which organisations care for them now. It is the policy information point of the field's split (PIP beside PDP and PEP).
//
// It follows the log and is kept per source Patient, never per person, so identity can be corrected without moving it; it can be rebuilt
// from zero. What it keeps are the Consents themselves, and of encounters, referrals, appointments and teams only who and until when.
package standing

import (
	"bytes"
	"context"
	"encoding/json"
	"slices"
	"time"

	"tombolo/connector"
	"tombolo/events"
	"tombolo/fhir"
	"tombolo/policy"
	"tombolo/store"
)

// Bucket is the name of this room's private key-values:
//
//	<patient id>       -> what the patient has chosen, as one JSON document
//	<patient id>/<ref> -> the ties that a resource makes: each by itself, since somebody may have hundreds of visits
const Bucket = "standing"

// A Tie is a relationship of care that a source knows of.
type Tie struct {
	Kind         policy.Relationship `json:"k"`
	Source       string              `json:"s,omitempty"` // the system that told of it: its organisation is meant
	Organisation string              `json:"o,omitempty"` // ODS code, where the resource names another
	Workgroup    string              `json:"w,omitempty"`
	From         time.Time           `json:"f,omitzero"`
	Until        time.Time           `json:"u,omitzero"` // zero: until it is closed
}

// In reports whether the tie holds at a time.
func (t Tie) In(at time.Time) bool {
	return !at.Before(t.From) && (t.Until.IsZero() || at.Before(t.Until))
}

type patient struct {
	Consents map[string]json.RawMessage `json:"c,omitempty"` // by id
	Ties     map[fhir.Ref][]Tie         `json:"t,omitempty"` // of stores of before: by the resource that makes them
}

// An Index follows the log and answers how things stand. It may be used from many goroutines.
type Index struct{ db *store.DB }

// New makes an Index over a store.
func New(db *store.DB) *Index { return &Index{db} }

// Handle takes one event of the log into the index, in the transaction in which the follower's cursor moves.
func (x *Index) Handle(ctx context.Context, tx store.Tx, e events.Event) error {
	typ := e.Ref.Type()
	if e.Patient == "" || typ != "Consent" && ties[typ] == nil {
		return nil
	}
	b := tx.Bucket(Bucket)
	var p patient
	data, ok, err := b.Get(ctx, e.Patient)
	if err != nil {
		return err
	}
	if ok {
		if err := json.Unmarshal(data, &p); err != nil {
			return err
		}
	}
	r, err := tx.Get(ctx, e.Ref)
	if err != nil && !fhir.Is(err, fhir.Deleted) && !fhir.Is(err, fhir.NotFound) {
		return err
	}
	if err != nil {
		r = nil
	}
	changed := p.forget(e.Ref)
	if typ == "Consent" {
		changed = p.take(r) || changed
	} else if err := tie(ctx, b, e.Patient+"/"+string(e.Ref), r); err != nil {
		return err
	}
	switch {
	case !changed:
	case len(p.Consents)+len(p.Ties) == 0:
		b.Delete(e.Patient)
	default:
		if data, err = json.Marshal(p); err != nil {
			return err
		}
		b.Put(e.Patient, data)
	}
	return nil
}

// forget takes out what stands by a resource, and reports whether anything did.
func (p *patient) forget(ref fhir.Ref) bool {
	_, tied := p.Ties[ref]
	_, chosen := p.Consents[ref.ID()]
	if delete(p.Ties, ref); ref.Type() == "Consent" {
		delete(p.Consents, ref.ID())
	}
	return tied || chosen && ref.Type() == "Consent"
}

// take takes in a Consent, nil if there is none any more, and reports whether it stands.
func (p *patient) take(r *fhir.Resource) bool {
	if r == nil || r.Text("status") != "active" {
		return false
	}
	if p.Consents == nil {
		p.Consents = map[string]json.RawMessage{}
	}
	p.Consents[r.ID()] = r.Raw()
	return true
}

// tie keeps the ties that a resource makes, nil if there is none any more.
func tie(ctx context.Context, b store.TxBucket, key string, r *fhir.Resource) error {
	var found []Tie
	if r != nil {
		found = ties[r.Type()](r)
	}
	was, ok, err := b.Get(ctx, key)
	if err != nil {
		return err
	}
	if len(found) == 0 {
		if ok {
			b.Delete(key)
		}
		return nil
	}
	for i := range found {
		found[i].Source = connector.SourceOf(r)
	}
	data, err := json.Marshal(found)
	if err == nil && !bytes.Equal(data, was) {
		b.Put(key, data)
	}
	return err
}

// Of tells how things stand of the person with these source patients.
func (x *Index) Of(ctx context.Context, patientIDs ...string) (policy.Standing, []Tie, error) {
	var out policy.Standing
	var all []Tie
	v := x.db.View(Bucket)
	found, err := v.MultiGet(ctx, patientIDs...)
	if err != nil {
		return out, nil, err
	}
	tied := make([]string, len(patientIDs))
	for i, id := range patientIDs {
		tied[i] = id + "/"
	}
	for item, err := range v.ScanAll(ctx, tied) {
		if err != nil {
			return out, nil, err
		}
		var made []Tie
		if err := json.Unmarshal(item.Value, &made); err != nil {
			return out, nil, unreadable()
		}
		all = append(all, made...)
	}
	for _, data := range found {
		if data == nil {
			continue
		}
		var p patient
		if err := json.Unmarshal(data, &p); err != nil {
			return out, nil, unreadable()
		}
		for _, id := range sorted(p.Consents) {
			r, err := fhir.Parse(p.Consents[id])
			if err != nil {
				return out, nil, unreadable()
			}
			out.Take(connector.SourceOf(r), r)
		}
		for _, ref := range sorted(p.Ties) {
			all = append(all, p.Ties[ref]...)
		}
	}
	return out, all, nil
}

func unreadable() error {
	return fhir.Errorf(fhir.Exception, "what is kept of a person's choices and of who cares for them cannot be read: rebuild it")
}

func sorted[K ~string, V any](m map[K]V) []K {
	out := make([]K, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}
