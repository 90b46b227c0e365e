// Package locator is the record locator: which source holds what kind of thing about which patient, and since when; what others have registered here about
// people; and what this region tells the locators above it.
//
// Pointers are kept per source Patient, never per person, so identity can be corrected without moving them. They follow the log: each delivery keeps (patient,
// heading, count, last date) current, and they can be rebuilt from zero. What live sources answered is not in the log, and stands beside (Sighting).
package locator

import (
	"context"
	"encoding/json"
	"strconv"
	"sync/atomic"
	"time"

	"tombolo/connector/nrl"
	"tombolo/dataset"
	"tombolo/events"
	"tombolo/fhir"
	"tombolo/store"
)

// Bucket is the name of this room's private key-values: <patient id> -> the patient's pointers as one JSON document.
const Bucket = "locator"

// FollowerName is that of the follower that keeps the pointers.
const FollowerName = "locator"

// A Pointer says that a source holds something.
type Pointer struct {
	Count int       `json:"n"`
	Last  time.Time `json:"t"` // when the source last sent anything under the heading
}

// Pointers are one source patient's, by heading.
type Pointers struct {
	Source   string                      `json:"s"`
	Headings map[dataset.Heading]Pointer `json:"h,omitempty"`
	// Types are the documents and plans that are of a type for which there are pointers nationally, by resource. Those with a label of confidentiality are left out.
	Types map[fhir.Ref]string `json:"y,omitempty"`
	Last  time.Time           `json:"t"`
}

// HasType reports whether there is a document or plan of a type, system|code.
func (p Pointers) HasType(id string) bool {
	for _, t := range p.Types {
		if t == id {
			return true
		}
	}
	return false
}

// A Locator follows the log and answers who holds what.
type Locator struct {
	db      *store.DB
	epoch   atomic.Pointer[string] // of the pointers that this one's follower is making
	renewed chan struct{}
}

// New makes a Locator over a store.
func New(db *store.DB) *Locator {
	l := &Locator{db: db, renewed: make(chan struct{}, 1)}
	l.epoch.Store(new(string))
	return l
}

// typed are the types of resource that may be of a type for which there are pointers.
var typed = map[string]bool{"DocumentReference": true, "CarePlan": true, "Composition": true}

// Handle takes one event of the log into the pointers, in the transaction in which the follower's cursor moves. What a patient no longer has leaves no trace.
func (l *Locator) Handle(ctx context.Context, tx store.Tx, e events.Event) error {
	if e.Patient == "" {
		return nil
	}
	if err := l.current(ctx, tx); err != nil {
		return err
	}
	b := tx.Bucket(Bucket)
	p := Pointers{Source: e.Source}
	data, ok, err := b.Get(ctx, e.Patient)
	if err != nil {
		return err
	}
	if ok {
		if err := json.Unmarshal(data, &p); err != nil {
			return err
		}
	}
	p.take(e)
	if typed[e.Ref.Type()] {
		if err := p.takeType(ctx, tx, e); err != nil {
			return err
		}
	}
	if e.Kind == events.Deleted && e.Ref == fhir.MakeRef("Patient", e.Patient) {
		tx.Bucket(SightingBucket).Delete(e.Patient)
	}
	if len(p.Headings) == 0 {
		b.Delete(e.Patient)
		return nil
	}
	if data, err = json.Marshal(p); err != nil {
		return err
	}
	b.Put(e.Patient, data)
	return nil
}

func (p *Pointers) take(e events.Event) {
	if e.At.After(p.Last) {
		p.Last = e.At
	}
	h := dataset.Heading(e.Heading)
	if h == "" {
		return
	}
	ptr := p.Headings[h]
	switch e.Kind {
	case events.Created:
		ptr.Count++
	case events.Deleted:
		ptr.Count--
	}
	if e.At.After(ptr.Last) {
		ptr.Last = e.At
	}
	if ptr.Count <= 0 {
		delete(p.Headings, h)
		return
	}
	if p.Headings == nil {
		p.Headings = map[dataset.Heading]Pointer{}
	}
	p.Headings[h] = ptr
}

// takeType notes of which national type a document is. A version that has been followed by another is passed over: that has an event of its own.
func (p *Pointers) takeType(ctx context.Context, tx store.Tx, e events.Event) error {
	delete(p.Types, e.Ref)
	if e.Kind == events.Deleted {
		return nil
	}
	r, err := tx.Get(ctx, e.Ref)
	switch {
	case fhir.Is(err, fhir.Deleted), fhir.Is(err, fhir.NotFound), fhir.Is(err, fhir.Exception): // a damaged one holds up nobody else's pointers
		return nil
	case err != nil:
		return err
	case r.Text("meta.versionId") != strconv.Itoa(e.Version):
		return nil
	}
	if t := typeOf(r); t != "" {
		if p.Types == nil {
			p.Types = map[fhir.Ref]string{}
		}
		p.Types[e.Ref] = t
	}
	return nil
}

// typeOf is the national type of a document or plan, "" if it has none or is confidential.
func typeOf(r *fhir.Resource) string {
	for _, path := range [...]string{"meta.security.code", "securityLabel.coding.code", "confidentiality"} {
		for v := range r.Value().All(path) {
			if code := v.Str(); code != "N" && code != "U" && code != "L" && code != "M" {
				return ""
			}
		}
	}
	for _, path := range [...]string{"type.coding", "category.coding"} {
		for c := range r.Value().All(path) {
			if t, ok := nrl.TypeOf(c.Text("system") + "|" + c.Text("code")); ok {
				return t.ID
			}
		}
	}
	return ""
}

// Pointers are what is held about a source patient, as far as the source has sent it; ok is false if nothing is.
func (l *Locator) Pointers(ctx context.Context, patientID string) (p Pointers, ok bool, err error) {
	data, ok, err := l.db.View(Bucket).Get(ctx, patientID)
	if err != nil || !ok {
		return p, false, err
	}
	return p, true, json.Unmarshal(data, &p)
}

// Since tells when a source last sent anything about any of these patients; zero if it never has.
func (l *Locator) Since(ctx context.Context, patientIDs ...string) (time.Time, error) {
	var last time.Time
	for _, id := range patientIDs {
		p, ok, err := l.Pointers(ctx, id)
		if err != nil {
			return last, err
		}
		if ok && p.Last.After(last) {
			last = p.Last
		}
	}
	return last, nil
}

// Of is what is held about each of these source patients, what they have sent and what they answered when they were asked last.
func (l *Locator) Of(ctx context.Context, patientIDs ...string) (map[string]Pointers, error) {
	sent, err := l.db.View(Bucket).MultiGet(ctx, patientIDs...)
	if err != nil {
		return nil, err
	}
	seen, err := l.db.View(SightingBucket).MultiGet(ctx, patientIDs...)
	if err != nil {
		return nil, err
	}
	out := map[string]Pointers{}
	for i, id := range patientIDs {
		var p Pointers
		if sent[i] != nil {
			if err := json.Unmarshal(sent[i], &p); err != nil {
				return nil, fhir.Errorf(fhir.Exception, "the pointers cannot be read: rebuild them (tombolo locator rebuild)")
			}
		}
		if seen[i] != nil {
			var s Sighting
			if err := json.Unmarshal(seen[i], &s); err != nil {
				return nil, fhir.Errorf(fhir.Exception, "what a live source answered cannot be read")
			}
			p.add(s)
		}
		if len(p.Headings) > 0 {
			out[id] = p
		}
	}
	return out, nil
}
