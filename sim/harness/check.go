package harness

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"

	"tombolo/connector"
	"tombolo/events"
	"tombolo/fhir"
	"tombolo/intake"
	"tombolo/kv/pebble"
	"tombolo/mpi"
	"tombolo/store"
)

// A Stored is what a node has left behind, opened to be looked at.
type Stored struct {
	db      *store.DB
	stamper connector.Stamper
	people  *mpi.Index
}

// Open opens the data of a node that has ended.
func Open(ctx context.Context, dir string) (*Stored, error) {
	engine, err := pebble.Open(pebble.Options{Dir: storeDir(dir), Reserve: -1})
	if err != nil {
		return nil, err
	}
	db, err := store.Open(store.Options{Engine: engine})
	if err != nil {
		return nil, errors.Join(err, engine.Close())
	}
	key, _, err := db.View("node").Get(ctx, "stamp-key")
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	s := &Stored{db: db, stamper: connector.Stamper{Key: key}}
	s.people = mpi.New(db, s.stamper)
	return s, nil
}

// Close closes it.
func (s *Stored) Close() error { return s.db.Close() }

// Missing looks for everything that an acknowledged message stands for: the bytes as they came, the patient and the visit, whole, and the person
// under the numbers that the message gave. It returns what is wrong, "" if nothing.
func (s *Stored) Missing(ctx context.Context, m Message) string {
	sum := sha256.Sum256(m.Bytes)
	hash := hex.EncodeToString(sum[:])
	raw, _, err := s.db.View(intake.BucketRaw).Get(ctx, hash)
	if err != nil || !bytes.Equal(bytes.TrimRight(raw, "\r"), bytes.TrimRight(m.Bytes, "\r")) {
		if raw, _, err = s.db.View(intake.BucketRaw).Get(ctx, trimmedHash(m.Bytes)); err != nil || raw == nil {
			return fmt.Sprintf("%s: its bytes are not kept (%v)", m.Control, err)
		}
	}
	patient := s.stamper.Ref(Source, fhir.MakeRef("Patient", m.MRN))
	if _, err := s.db.Read(ctx, patient); err != nil {
		return fmt.Sprintf("%s: its patient: %v", m.Control, err)
	}
	visits := 0
	for r, err := range s.db.Patient(ctx, patient.ID()) {
		if err != nil {
			return fmt.Sprintf("%s: its record: %v", m.Control, err)
		}
		if r.Type() == "Encounter" {
			visits++
		}
	}
	if visits != 1 {
		return fmt.Sprintf("%s: there are %d visits, not one", m.Control, visits)
	}
	person, err := s.people.PersonOf(ctx, patient.ID())
	if err != nil {
		return fmt.Sprintf("%s: the person: %v", m.Control, err)
	}
	if m.NHS != "" {
		if by, err := s.people.Resolve(ctx, fhir.Identifier{System: fhir.SystemNHSNumber, Value: m.NHS}); err != nil || by != person {
			return fmt.Sprintf("%s: the NHS number does not lead to the person (%v)", m.Control, err)
		}
	}
	return ""
}

func trimmedHash(b []byte) string {
	sum := sha256.Sum256(bytes.TrimRight(b, "\r"))
	return hex.EncodeToString(sum[:])
}

// Twice counts what stands in the log more than once: the same version of the same resource, or a second version of what was
// sent with one content only.
func (s *Stored) Twice(ctx context.Context) (twice int, seen int, err error) {
	have := map[fhir.Ref]int{}
	var last events.Seq
	for e, err := range s.db.Since(ctx, 0) {
		if err != nil {
			return 0, 0, err
		}
		if e.Seq != last+1 {
			return 0, 0, fmt.Errorf("the log has a gap after event %d", last)
		}
		last = e.Seq
		if have[e.Ref]++; have[e.Ref] > 1 {
			twice++
		}
	}
	return twice, len(have), nil
}
