package harness

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"tombolo/connector"
	"tombolo/events"
	"tombolo/fhir"
	"tombolo/intake"
	"tombolo/kv"
	"tombolo/kv/pebble"
	"tombolo/kv/postgres"
	"tombolo/mpi"
	"tombolo/sim/lookout"
	"tombolo/store"
)

// A Stored is what a node has left behind, opened to be looked at.
type Stored struct {
	db      *store.DB
	stamper connector.Stamper
	people  *mpi.Index
}

// Open opens the data of a node that has ended; in a database, also of one that runs. It waits for a database that recovers.
func Open(ctx context.Context, at Place) (*Stored, error) {
	for began := time.Now(); ; time.Sleep(100 * time.Millisecond) {
		s, err := openOnce(ctx, at)
		if err == nil || !errors.Is(err, kv.ErrUnavailable) || time.Since(began) > time.Minute {
			return s, err
		}
	}
}

func openOnce(ctx context.Context, at Place) (*Stored, error) {
	engine, err := openEngine(ctx, at)
	if err != nil {
		return nil, err
	}
	db, err := store.Open(store.Options{Engine: engine})
	if err != nil {
		return nil, errors.Join(err, engine.Close())
	}
	if lookout.On() {
		lookout.Kept(at.Dir+at.Store, at.Dir, db)
	}
	key, _, err := db.View("node").Get(ctx, "stamp-key")
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	s := &Stored{db: db, stamper: connector.Stamper{Key: key}}
	s.people = mpi.New(db, s.stamper)
	if err := s.follow(ctx); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return s, nil
}

// follow takes the log into the index of people, as a node does before it serves: what followers have made of the log does not wait for the disk, and is made
// again where a crash has taken the last of it back (store.Follower).
func (s *Stored) follow(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	f := s.db.Follower("mpi", s.people.Handle)
	ended := make(chan error, 1)
	go func() { ended <- f.Run(ctx) }()
	defer func() { cancel(); <-ended }()
	tail, err := s.db.Tail(ctx)
	if err != nil {
		return err
	}
	return f.Await(ctx, tail)
}

func openEngine(ctx context.Context, at Place) (kv.Engine, error) {
	if at.Store != "" {
		return postgres.Open(ctx, postgres.Options{URL: at.Store})
	}
	return pebble.Open(pebble.Options{Dir: storeDir(at.Dir), Reserve: -1})
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
		if r.Type() == "Encounter" && bytes.Contains(r.Raw(), []byte(`"`+m.Visit+`"`)) {
			visits++
		}
	}
	if visits != 1 {
		return fmt.Sprintf("%s: its visit is there %d times, not once", m.Control, visits)
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

// MissingBundle looks for everything that an acknowledged Bundle stands for. It returns what is wrong, "" if nothing.
func (s *Stored) MissingBundle(ctx context.Context, b Bundle) string {
	patient := b.patient()
	if _, err := s.db.Read(ctx, patient); err != nil {
		return fmt.Sprintf("%s: its patient: %v", b.Key, err)
	}
	own, err := s.db.Read(ctx, b.own())
	if err != nil || own.Get("valueInteger").Raw() == nil || string(own.Get("valueInteger").Raw()) != strconv.Itoa(b.N) {
		return fmt.Sprintf("%s: its observation: %v", b.Key, err)
	}
	values, err := s.values(ctx, b)
	if err != nil {
		return fmt.Sprintf("%s: the patient's latest: %v", b.Key, err)
	}
	if !slices.Contains(values, b.N) {
		return fmt.Sprintf("%s: the patient's latest never was %d: %v", b.Key, b.N, values)
	}
	if _, err := s.people.PersonOf(ctx, patient.ID()); err != nil {
		return fmt.Sprintf("%s: the person: %v", b.Key, err)
	}
	return ""
}

// values are what the latest observation of a Bundle's patient has been, oldest first.
func (s *Stored) values(ctx context.Context, b Bundle) ([]int, error) {
	versions, err := s.db.History(ctx, b.latest())
	if err != nil {
		return nil, err
	}
	var out []int
	for i, v := range slices.Backward(versions) {
		r, err := v.Resource()
		if err != nil {
			return nil, err
		}
		n, err := strconv.Atoi(string(r.Get("valueInteger").Raw()))
		if err != nil || v.Version != len(versions)-i {
			return nil, fmt.Errorf("version %d says %s", v.Version, r.Get("valueInteger").Raw())
		}
		out = append(out, n)
	}
	return out, nil
}

// Halves looks at every Bundle that a writer has sent, acknowledged or not: it is there whole, once and in its order, or not at all.
func (s *Stored) Halves(ctx context.Context, writer, sent int) string {
	for first := 0; first < sent; first += perPatient {
		values, err := s.values(ctx, NewBundle(writer, first))
		if err != nil && !fhir.Is(err, fhir.NotFound) {
			return err.Error()
		}
		var there []int
		for n := first; n < min(first+perPatient, sent); n++ {
			_, err := s.db.Read(ctx, NewBundle(writer, n).own())
			if err == nil {
				there = append(there, n)
			} else if !fhir.Is(err, fhir.NotFound) {
				return err.Error()
			}
		}
		if !slices.Equal(values, there) {
			return fmt.Sprintf("writer %d: of the Bundles from %d on, the latest has been %v, and the observations %v are there", writer, first, values, there)
		}
	}
	return ""
}

// Twice counts what stands in the log more than once: the same version of the same resource, or a second version of what was sent with
// one content only. It fails if the log has a gap.
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
		// Observations are the Bundles', and Halves looks at their versions one by one.
		if have[e.Ref]++; e.Version != have[e.Ref] || have[e.Ref] > 1 && e.Ref.Type() != "Observation" {
			twice++
		}
	}
	return twice, len(have), nil
}
