package locator

import (
	"context"
	"encoding/json"
	"time"

	"tombolo/dataset"
	"tombolo/fhir"
	"tombolo/store"
)

// SightingBucket is the name of what live sources were seen to hold: <patient id> -> Sighting. A live answer is not kept, so the log cannot tell of it.
const SightingBucket = "locator-seen"

// A Sighting is what a live source answered about one of its patients when it was last asked.
type Sighting struct {
	Source   string                      `json:"s"`
	Headings map[dataset.Heading]Pointer `json:"h"`
}

// sightEvery is how old a sighting may be before one that says the same is written again.
const sightEvery = time.Hour

// Saw notes what a live source answered about one of its patients: of each heading about which it answered, how many entries there are. A heading under which it
// has none any more is no longer pointed to. The same answer within the hour writes nothing. changed: something is held, or is not, that was not known.
func (l *Locator) Saw(ctx context.Context, source, patientID string, counts map[dataset.Heading]int, at time.Time) (changed bool, err error) {
	was, err := l.sighting(ctx, patientID)
	if err != nil || was.tells(counts, at) {
		return false, err
	}
	for h, n := range counts {
		_, ok := was.Headings[h]
		changed = changed || ok != (n > 0)
	}
	_, err = l.db.Update(ctx, func(tx store.Tx) error {
		b := tx.Bucket(SightingBucket)
		if _, err := tx.Get(ctx, fhir.MakeRef("Patient", patientID)); err != nil { // not known here, or no longer
			if fhir.Is(err, fhir.NotFound) || fhir.Is(err, fhir.Deleted) {
				b.Delete(patientID)
				return nil
			}
			return err
		}
		s := Sighting{}
		if data, ok, err := b.Get(ctx, patientID); err != nil {
			return err
		} else if ok && json.Unmarshal(data, &s) != nil {
			s = Sighting{}
		}
		s.take(source, counts, at)
		if len(s.Headings) == 0 {
			b.Delete(patientID)
			return nil
		}
		b.Put(patientID, fhir.JSON(s))
		return nil
	})
	return changed && err == nil, err
}

func (l *Locator) sighting(ctx context.Context, patientID string) (s Sighting, err error) {
	data, ok, err := l.db.View(SightingBucket).Get(ctx, patientID)
	if err != nil || !ok || json.Unmarshal(data, &s) != nil {
		return Sighting{}, err
	}
	return s, nil
}

// tells reports whether the sighting says already, and lately, what is to be noted.
func (s Sighting) tells(counts map[dataset.Heading]int, at time.Time) bool {
	for h, n := range counts {
		p, ok := s.Headings[h]
		if ok != (n > 0) || ok && (p.Count != n || at.Sub(p.Last) > sightEvery) {
			return false
		}
	}
	return true
}

func (s *Sighting) take(source string, counts map[dataset.Heading]int, at time.Time) {
	s.Source = source
	if s.Headings == nil {
		s.Headings = map[dataset.Heading]Pointer{}
	}
	for h, n := range counts {
		if n <= 0 {
			delete(s.Headings, h)
			continue
		}
		s.Headings[h] = Pointer{Count: n, Last: at.UTC()}
	}
}

// add puts what was seen beside what was sent.
func (p *Pointers) add(s Sighting) {
	if p.Source == "" {
		p.Source = s.Source
	}
	for h, ptr := range s.Headings {
		if _, sent := p.Headings[h]; sent {
			continue // what a source sends is known exactly
		}
		if p.Headings == nil {
			p.Headings = map[dataset.Heading]Pointer{}
		}
		p.Headings[h] = ptr
		if ptr.Last.After(p.Last) {
			p.Last = ptr.Last
		}
	}
}
