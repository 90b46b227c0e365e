package web

import (
	"context"
	"crypto/rand"
	"sync"
	"time"

	"tombolo/access"
	"tombolo/fhir"
	"tombolo/gather"
)

// Limits on records held open. A record is kept in memory for as long as its own pages need it, and no longer.
const (
	maxViewings     = 200
	maxViewingsEach = 5 // of one user
)

// A viewing is one opening of one record by one user: gathered once, audited once, and shown by the page, its event stream, its
// timeline and its search alike. Its id stands in URLs and is of no use to anybody else.
type viewing struct {
	id, owner, person string
	glass             bool // opened in an emergency: of no use once that has run out
	started           time.Time
	cancel            context.CancelFunc

	mu      sync.Mutex
	record  *gather.Record
	count   int // snapshots so far
	done    bool
	err     error
	changed chan struct{} // closed at the next snapshot
}

// viewings holds the records that are open.
type viewings struct {
	keep time.Duration
	now  func() time.Time

	mu  sync.Mutex
	all map[string]*viewing
}

func newViewings(o Options) *viewings {
	return &viewings{keep: o.Keep, now: o.Now, all: map[string]*viewing{}}
}

// ownerOf says for whom a record was opened: the same user acting otherwise is somebody else.
func ownerOf(s *access.Session) string {
	return s.User + "\x00" + string(s.Role) + "\x00" + s.Organisation + "\x00" + string(s.Purpose)
}

// start opens a record. The gathering outlives the request that started it, since the page's event stream is another request; it ends
// by itself (the gatherer has its deadlines) or when the viewing is dropped.
func (vs *viewings) start(r context.Context, records Records, s *access.Session, person string) *viewing {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r), time.Minute)
	v := &viewing{
		id: rand.Text(), owner: ownerOf(s), person: person, glass: s.Glass(person, vs.now()) != nil,
		started: vs.now(), cancel: cancel, changed: make(chan struct{}),
	}
	vs.add(v)
	go func() {
		defer cancel()
		defer v.finish()
		for rec, err := range records.Watch(ctx, s, person, gather.Ask{}) {
			v.put(rec, err)
		}
	}()
	time.AfterFunc(vs.keep, func() { vs.drop(v) })
	return v
}

func (vs *viewings) add(v *viewing) {
	vs.mu.Lock()
	defer vs.mu.Unlock()
	var oldest, oldestOfOwner *viewing
	mine := 0
	for _, o := range vs.all {
		if oldest == nil || o.started.Before(oldest.started) {
			oldest = o
		}
		if o.owner == v.owner {
			mine++
			if oldestOfOwner == nil || o.started.Before(oldestOfOwner.started) {
				oldestOfOwner = o
			}
		}
	}
	switch {
	case mine >= maxViewingsEach:
		vs.dropLocked(oldestOfOwner)
	case len(vs.all) >= maxViewings:
		vs.dropLocked(oldest)
	}
	vs.all[v.id] = v
}

func (vs *viewings) drop(v *viewing) {
	vs.mu.Lock()
	defer vs.mu.Unlock()
	vs.dropLocked(v)
}

func (vs *viewings) dropLocked(v *viewing) {
	v.cancel()
	delete(vs.all, v.id)
}

// find is the viewing of that id if it is this session's, of this person, and still good; else nil.
func (vs *viewings) find(s *access.Session, person, id string) *viewing {
	vs.mu.Lock()
	defer vs.mu.Unlock()
	v := vs.all[id]
	if v == nil || v.owner != ownerOf(s) || v.person != person {
		return nil
	}
	if v.glass != (s.Glass(person, vs.now()) != nil) {
		return nil // the emergency has ended, or has only now begun
	}
	return v
}

// forget drops everything a user has open, when they sign out.
func (vs *viewings) forget(s *access.Session) {
	vs.mu.Lock()
	defer vs.mu.Unlock()
	for _, v := range vs.all {
		if v.owner == ownerOf(s) {
			vs.dropLocked(v)
		}
	}
}

func (vs *viewings) close() {
	vs.mu.Lock()
	defer vs.mu.Unlock()
	for _, v := range vs.all {
		vs.dropLocked(v)
	}
}

func (v *viewing) put(rec *gather.Record, err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if err != nil {
		v.err = err
	} else {
		v.record = rec
	}
	v.count++
	close(v.changed)
	v.changed = make(chan struct{})
}

func (v *viewing) finish() {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.record == nil && v.err == nil {
		v.err = fhir.Errorf(fhir.Transient, "the gathering ended before it had begun")
	}
	v.done = true
	close(v.changed)
	v.changed = make(chan struct{})
}

// A snapshot is a record as it stands: n tells two apart, done that nothing more will come.
type snapshot struct {
	*gather.Record
	n    int
	done bool
}

// next waits for a snapshot later than the nth, or for the end. An error after a first snapshot is not a refusal: the record as it
// stands comes with it, so that what was seen is not taken away.
func (v *viewing) next(ctx context.Context, after int) (snapshot, error) {
	for {
		v.mu.Lock()
		sn, err, changed := snapshot{v.record, v.count, v.done}, v.err, v.changed
		v.mu.Unlock()
		if err != nil {
			return sn, err
		}
		if sn.Record != nil && (sn.n > after || sn.done) {
			return sn, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return sn, fhir.Errorf(fhir.Timeout, "the record did not open in time: %w", ctx.Err())
		}
	}
}

// whole waits for the last snapshot.
func (v *viewing) whole(ctx context.Context) (snapshot, error) {
	sn, err := v.next(ctx, 0)
	for err == nil && !sn.done {
		sn, err = v.next(ctx, sn.n)
	}
	return sn, err
}
