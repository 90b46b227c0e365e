// Package locator is the record locator: which source holds what kind of thing about which patient, and since when.
//
// Pointers are kept per source Patient, never per person, so identity can be corrected without moving them. They follow the log:
// each delivery keeps (patient, heading, count, last date) current, and they can be rebuilt from zero.
package locator

import (
	"context"
	"encoding/json"
	"time"

	"tombolo/dataset"
	"tombolo/events"
	"tombolo/store"
)

// Bucket is the name of this room's private key-values: <patient id> -> the patient's pointers as one JSON document.
const Bucket = "locator"

// A Pointer says that a source holds something.
type Pointer struct {
	Count int       `json:"n"`
	Last  time.Time `json:"t"` // when the source last sent anything under the heading
}

// Pointers are one source patient's, by heading.
type Pointers struct {
	Source   string                      `json:"s"`
	Headings map[dataset.Heading]Pointer `json:"h"`
	Last     time.Time                   `json:"t"`
}

// A Locator follows the log and answers who holds what.
type Locator struct{ db *store.DB }

// New makes a Locator over a store.
func New(db *store.DB) *Locator { return &Locator{db} }

// Handle takes one event of the log into the pointers, in the transaction in which the follower's cursor moves.
func (l *Locator) Handle(ctx context.Context, tx store.Tx, e events.Event) error {
	if e.Patient == "" {
		return nil
	}
	b := tx.Bucket(Bucket)
	p := Pointers{Source: e.Source, Headings: map[dataset.Heading]Pointer{}}
	data, ok, err := b.Get(ctx, e.Patient)
	if err != nil {
		return err
	}
	if ok {
		if err := json.Unmarshal(data, &p); err != nil {
			return err
		}
	}
	if e.At.After(p.Last) {
		p.Last = e.At
	}
	if h := dataset.Heading(e.Heading); h != "" {
		ptr := p.Headings[h]
		switch e.Kind {
		case events.Created:
			ptr.Count++
		case events.Deleted:
			ptr.Count = max(0, ptr.Count-1)
		}
		ptr.Last = e.At
		p.Headings[h] = ptr
	}
	if data, err = json.Marshal(p); err != nil {
		return err
	}
	b.Put(e.Patient, data)
	return nil
}

// Pointers are what is held about a source patient; ok is false if nothing is.
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
