// Package store is the FHIR store, written once over kv: resources with their versions and history, the index keys by which
// they are found, rooms' private buckets, and the event of every change, all of it in one transaction (Update).
//
// It is organised around the patient: what belongs to one source patient's record lies in one partition, in the order of
// type and id, so that a record is a scan and not a join. What is served is byte for byte what was written; its SHA-256 is
// checked on every read. Who may see what is not decided here. The keys are listed one by one in docs/storage.md.
package store

import (
	"context"
	"errors"
	"iter"
	"strings"
	"sync/atomic"
	"time"

	"tombolo/events"
	"tombolo/fhir"
	"tombolo/kv"
	"tombolo/search"
)

// Options for Open.
type Options struct {
	Engine kv.Engine        // Close closes it
	Now    func() time.Time // time.Now if nil
	// ReadOnly writes nothing, not even the format of an empty or older store.
	ReadOnly bool
}

// A DB is one store. It may be used from many goroutines.
type DB struct {
	engine kv.Engine
	timer  kv.Timer // nil if the engine is none
	now    func() time.Time
	limits limits
	stale  atomic.Bool // the index is not to be relied on, see IndexIsStale
	spread bool        // partitions lie on many machines
	places *places     // nil where a round trip costs nothing
	listed listed
}

var (
	_ search.Searcher = (*DB)(nil)
	_ events.Log      = (*DB)(nil)
)

// Open makes a store of an engine, and brings one of an earlier version to the format of this.
func Open(o Options) (*DB, error) {
	if o.Engine == nil {
		return nil, errors.New("open store: no engine given")
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	db := &DB{engine: o.Engine, now: o.Now, limits: usualLimits}
	db.timer, _ = o.Engine.(kv.Timer)
	if e, ok := o.Engine.(kv.Grouper); ok {
		e.GroupBy(stem)
	}
	if e, ok := o.Engine.(interface{ Spread() bool }); ok {
		db.spread, db.places = e.Spread(), &places{at: map[fhir.Ref]kv.Part{}} // it is an engine across a network
	}
	// A database that restarts in the midst of it is waited for, as its engine waits for it at the beginning.
	for began := time.Now(); ; time.Sleep(100 * time.Millisecond) {
		err := db.openFormat(context.Background(), o.ReadOnly, formatNow, migrations)
		if err == nil {
			return db, nil
		}
		if !errors.Is(err, kv.ErrUnavailable) || time.Since(began) > openTime {
			return nil, err
		}
	}
}

// openTime is how long Open waits for a database that is on its way.
const openTime = time.Minute

// Close closes the engine.
func (db *DB) Close() error { return db.engine.Close() }

// Checkpoint writes a complete copy of one moment into dir, which must not exist, while work goes on.
func (db *DB) Checkpoint(ctx context.Context, dir string) error {
	return db.engine.Checkpoint(ctx, dir)
}

// DiskBytes is the room that the store takes on disk.
func (db *DB) DiskBytes(ctx context.Context) (int64, error) {
	e, ok := db.engine.(interface {
		DiskBytes(context.Context) (int64, error)
	})
	if !ok {
		return 0, fhir.Errorf(fhir.NotSupported, "this engine does not say how much room it takes")
	}
	n, err := e.DiskBytes(ctx)
	if err != nil {
		return 0, readError(err)
	}
	return n, nil
}

// A Stored is one version of a resource as it lies in the store.
type Stored struct {
	Ref     fhir.Ref
	Version int
	At      time.Time
	Source  string
	Heading string
	Deleted bool   // a tombstone: Body is empty
	Body    []byte // its JSON, whole and checked, with meta.versionId and meta.lastUpdated
}

// Resource parses the body.
func (s Stored) Resource() (*fhir.Resource, error) {
	r, err := fhir.Parse(s.Body)
	if err != nil {
		return nil, fhir.Errorf(fhir.Exception, "%s is stored and cannot be read: %w", s.Ref, err)
	}
	if r.Ref() != s.Ref {
		return nil, fhir.Errorf(fhir.Exception, "%s is stored and says that it is something else", s.Ref)
	}
	return r, nil
}

// Read returns the current version. It fails with fhir.NotFound if there never was one, fhir.Deleted if it was deleted, and
// fhir.Exception if what is stored is damaged.
func (db *DB) Read(ctx context.Context, ref fhir.Ref) (*fhir.Resource, error) {
	s, err := db.ReadRaw(ctx, ref)
	if err != nil {
		return nil, err
	}
	return s.Resource()
}

// ReadRaw is Read for those who only pass the bytes on.
func (db *DB) ReadRaw(ctx context.Context, ref fhir.Ref) (Stored, error) {
	if part, ok := db.places.guess(ref); ok {
		if s, ok, err := db.readAt(ctx, part, ref); ok || err != nil {
			return s, err
		}
	}
	back := false
	for try := range 3 { // between the two reads the resource may move or go
		db.settle(ctx, try)
		e, _, err := readEntry(ctx, db.engine, ref)
		if err != nil {
			return Stored{}, err
		}
		if absent := e.present(ref); absent != nil {
			sure, err := db.confirm(ctx, ref, e)
			if err != nil {
				return Stored{}, err
			}
			if !sure {
				continue
			}
			return Stored{}, absent
		}
		v, ok, err := db.engine.Get(ctx, currentKey(e.part, ref))
		if err != nil {
			return Stored{}, readError(err)
		}
		if !ok {
			continue
		}
		db.places.learn(ref, e.part)
		if s, err := decode(ref, v); err != nil || s.Version == e.version {
			return s, err
		}
		// Changed between the two reads, or gone back: both are read at one moment.
		if s, ok, err := db.readAt(ctx, e.part, ref); ok || err != nil {
			return s, err
		}
		back = true
	}
	if back {
		return Stored{}, goneBack(ref)
	}
	return Stored{}, fhir.Errorf(fhir.Exception, "%s is in the index and not where the index says", ref)
}

// readAt reads the entry and the resource in one round trip; ok is false if the resource is not in that partition, or not in the version that the entry says.
func (db *DB) readAt(ctx context.Context, part kv.Part, ref fhir.Ref) (s Stored, ok bool, err error) {
	values, err := db.engine.MultiGet(ctx, []kv.Key{idKey(ref), currentKey(part, ref)})
	if err != nil {
		return Stored{}, false, readError(err)
	}
	e, err := decodeEntry(values[0])
	if err != nil || e.deleted || e.part != part || values[1] == nil {
		return Stored{}, false, nil
	}
	if s, err = decode(ref, values[1]); err == nil && s.Version != e.version {
		return Stored{}, false, nil
	}
	return s, true, err
}

// confirm holds an entry to what is stored, before anybody is told on its word alone that something is not there: it has no checksum, and a bit that rots
// in it must not hide a resource. sure is false where the two differ, also because another commit came between. No entry (nil) is sure.
func (db *DB) confirm(ctx context.Context, ref fhir.Ref, e *entry) (sure bool, err error) {
	if e == nil {
		return true, nil
	}
	keys := []kv.Key{currentKey(e.part, ref)}
	if e.deleted {
		keys = append(keys, historyKey(e.part, ref, e.version))
	}
	values, err := db.engine.MultiGet(ctx, keys)
	if err != nil {
		return false, readError(err)
	}
	if s, bad := decode(ref, values[0]); e.deleted && bad == nil && s.Version > e.version {
		return false, nil // it came again, and the entry has gone back
	}
	s, bad := decode(ref, values[len(values)-1])
	return bad == nil && s.Deleted == e.deleted && s.Version == e.version, nil
}

// Home is the id of the source patient in whose record a resource lies, "" for what is nobody's record. Issue type NotFound or Deleted if it is not there.
func (db *DB) Home(ctx context.Context, ref fhir.Ref) (patient string, err error) {
	e, _, err := readEntry(ctx, db.engine, ref)
	if err != nil {
		return "", err
	}
	if err := e.present(ref); err != nil {
		return "", err
	}
	patient, _ = strings.CutPrefix(string(e.part), patientPrefix)
	if patient == string(e.part) {
		return "", nil
	}
	return patient, nil
}

// ReadVersion returns one version. A version that is a deletion fails with fhir.Deleted.
//
// FHIR R4 http.html#vread
func (db *DB) ReadVersion(ctx context.Context, ref fhir.Ref, version int) (*fhir.Resource, error) {
	s, err := db.ReadVersionRaw(ctx, ref, version)
	if err != nil {
		return nil, err
	}
	return s.Resource()
}

// ReadVersionRaw is ReadVersion for those who only pass the bytes on.
func (db *DB) ReadVersionRaw(ctx context.Context, ref fhir.Ref, version int) (Stored, error) {
	s, _, err := db.findVersion(ctx, ref, version)
	return s, err
}

// findVersion reads a version, and says in which record it stood.
func (db *DB) findVersion(ctx context.Context, ref fhir.Ref, version int) (Stored, kv.Part, error) {
	for range 3 {
		e, _, err := readEntry(ctx, db.engine, ref)
		if err != nil {
			return Stored{}, "", err
		}
		if e == nil || version < 1 || version > e.version {
			sure, err := db.confirm(ctx, ref, e)
			if err != nil {
				return Stored{}, "", err
			}
			if !sure {
				continue
			}
			return Stored{}, "", fhir.Errorf(fhir.NotFound, "%s has no version %d", ref, version)
		}
		keys := []kv.Key{}
		for _, part := range e.parts() {
			keys = append(keys, historyKey(part, ref, version), currentKey(part, ref))
		}
		values, err := db.engine.MultiGet(ctx, keys)
		if err != nil {
			return Stored{}, "", readError(err)
		}
		for i, v := range values {
			if v == nil {
				continue
			}
			s, err := decode(ref, v)
			if err != nil && i%2 == 0 {
				return Stored{}, "", err // this very version is damaged
			}
			if err != nil || s.Version != version {
				continue
			}
			if s.Deleted {
				return Stored{}, "", fhir.Errorf(fhir.Deleted, "%s was deleted in version %d", ref, version)
			}
			return s, keys[i].Part, nil
		}
	}
	return Stored{}, "", fhir.Errorf(fhir.Exception, "%s: version %d is damaged or missing", ref, version)
}

// History returns all versions, newest first, deletions among them. A damaged version is left out and told of in err, which comes
// together with the others.
//
// FHIR R4 http.html#history
func (db *DB) History(ctx context.Context, ref fhir.Ref) ([]Stored, error) {
	e, _, err := readEntry(ctx, db.engine, ref)
	if err != nil {
		return nil, err
	}
	if e == nil {
		return nil, notFound(ref)
	}
	var ranges []kv.Range
	for _, part := range e.parts() {
		now := currentKey(part, ref)
		ranges = append(ranges, kv.Prefix(part, historyPrefix(ref)), kv.Range{Part: part, From: now.Key, To: now.Key + "\x00"})
	}
	byVersion, newest, bad, err := db.versions(ctx, ref, ranges)
	for try := 1; err == nil && bad == nil && newest < e.version; try++ {
		if try == 3 {
			bad = goneBack(ref)
			break
		}
		db.settle(ctx, try)
		byVersion, newest, bad, err = db.versions(ctx, ref, ranges)
	}
	if err != nil {
		return nil, err
	}
	var out []Stored
	for v := newest; v > 0; v-- {
		if s, ok := byVersion[v]; ok {
			out = append(out, s)
		}
	}
	return out, bad
}

// versions reads all versions of a resource in some ranges, and which is the newest. bad is the error of one that is damaged.
func (db *DB) versions(ctx context.Context, ref fhir.Ref, ranges []kv.Range) (byVersion map[int]Stored, newest int, bad, err error) {
	byVersion = map[int]Stored{}
	for en, err := range db.engine.Scan(ctx, ranges, 0) {
		if err != nil {
			return nil, 0, nil, readError(err)
		}
		s, err := decode(ref, en.Value)
		if err != nil {
			bad = err
			continue
		}
		byVersion[s.Version], newest = s, max(newest, s.Version)
	}
	return byVersion, newest, bad, nil
}

// Patient yields every current resource in the records of these source patients, by patient, type and id. A damaged one is an error
// of type fhir.Exception that names it; reading goes on after it. Any other error ends the sequence.
func (db *DB) Patient(ctx context.Context, patientIDs ...string) iter.Seq2[*fhir.Resource, error] {
	return parsed(db.PatientRaw(ctx, patientIDs...))
}

func parsed(all iter.Seq2[Stored, error]) iter.Seq2[*fhir.Resource, error] {
	return func(yield func(*fhir.Resource, error) bool) {
		for s, err := range all {
			var r *fhir.Resource
			if err == nil {
				r, err = s.Resource()
			}
			if !yield(r, err) {
				return
			}
		}
	}
}

// PatientRaw is Patient for those who only pass the bytes on: nothing is parsed.
func (db *DB) PatientRaw(ctx context.Context, patientIDs ...string) iter.Seq2[Stored, error] {
	ranges := make([]kv.Range, 0, len(patientIDs))
	for _, id := range patientIDs {
		ranges = append(ranges, kv.Prefix(patientPart(id), currentPrefix))
	}
	return db.current(ctx, ranges...)
}

// current yields the current versions in ranges of r/ keys.
func (db *DB) current(ctx context.Context, ranges ...kv.Range) iter.Seq2[Stored, error] {
	return func(yield func(Stored, error) bool) {
		if len(ranges) == 0 {
			return
		}
		scanned := func(yield func(row, error) bool) {
			for en, err := range db.engine.Scan(ctx, ranges, 0) {
				if err != nil {
					yield(row{}, readError(err))
					return
				}
				r := row{part: en.Key.Part}
				r.Stored, r.err = decode(refOfCurrent(en.Key.Key), en.Value)
				r.Ref = refOfCurrent(en.Key.Key)
				if !yield(r, nil) {
					return
				}
			}
		}
		for r, err := range db.guarded(ctx, scanned) {
			switch {
			case err != nil:
				yield(Stored{}, err)
				return
			case r.err != nil:
				r.Stored = Stored{}
			}
			if !yield(r.Stored, r.err) {
				return
			}
		}
	}
}

// Patients yields the ids of all source patients that ever had a record here, in order.
func (db *DB) Patients(ctx context.Context) iter.Seq2[string, error] {
	return db.catalogued(ctx, patientPrefix)
}

// catalogued yields the names of the partitions with a prefix, without it.
func (db *DB) catalogued(ctx context.Context, prefix string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for en, err := range db.engine.Scan(ctx, []kv.Range{kv.Prefix(cataloguePart, prefix)}, 0) {
			if err != nil {
				yield("", readError(err))
				return
			}
			if !yield(en.Key.Key[len(prefix):], nil) {
				return
			}
		}
	}
}

// Sources yields the ids of all sources that ever sent what is nobody's record, in order.
func (db *DB) Sources(ctx context.Context) iter.Seq2[string, error] {
	return db.catalogued(ctx, sourcePrefix)
}

// Source yields every current resource of a source that is nobody's record, by type and id. A damaged one is as in Patient.
func (db *DB) Source(ctx context.Context, source string) iter.Seq2[*fhir.Resource, error] {
	return parsed(db.current(ctx, kv.Prefix(kv.Part(sourcePrefix+source), currentPrefix)))
}

func notFound(ref fhir.Ref) error { return fhir.Errorf(fhir.NotFound, "%s is not known here", ref) }

// readError gives an engine's failure a type on which callers can act.
func readError(err error) error {
	switch {
	case fhir.IssueOf(err) != nil:
		return err
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return fhir.Errorf(fhir.Timeout, "the store was not read in time: %w", err)
	case errors.Is(err, kv.ErrUnavailable):
		return fhir.Errorf(fhir.Transient, "the store cannot be read now, try again: %w", err)
	case errors.Is(err, kv.ErrClosed):
		return fhir.Errorf(fhir.Transient, "the store is being closed: %w", err)
	}
	return fhir.Errorf(fhir.Exception, "the store cannot be read: %w", err)
}
