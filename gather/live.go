package gather

import (
	"context"
	"sync"

	"tombolo/access"
	"tombolo/dataset"
	"tombolo/fhir"
)

// seenAt is in whose record, and under which heading, something that was asked live was seen.
type seenAt struct {
	person  string
	heading dataset.Heading
}

// A memo of what has been asked live knows whose it is by its id, which cannot be told from the id itself: so that it can be read by it. It says where to ask again, not what
// was answered, is this node's own, forgets the oldest, and is gone when the node stops: then the way to an entry is through the person's record.
type memo struct {
	mu       sync.Mutex
	now, old map[fhir.Ref]seenAt
}

const mostMemo = 32 << 10 // twice as many, at most some 20 MB

func (m *memo) learn(r *Record) {
	live := map[string]bool{}
	for _, l := range r.Lanes {
		live[l.Source] = l.Way != "stored"
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	var add func(h dataset.Heading, e Entry)
	add = func(h dataset.Heading, e Entry) {
		for _, x := range e.Members {
			if typ := x.Resource.Type(); !live[x.Source] && typ != "Organization" && typ != "List" { // which are made here of what a source's Patient says, or says nothing of
				continue
			}
			if len(m.now) >= mostMemo || m.now == nil {
				m.old, m.now = m.now, make(map[fhir.Ref]seenAt, 1024)
			}
			m.now[x.Resource.Ref()] = seenAt{r.Person.ID, h}
		}
		for _, rel := range e.Related {
			add(h, rel)
		}
	}
	for _, s := range r.Sections {
		for _, e := range s.Entries {
			add(s.Heading, e)
		}
	}
}

func (m *memo) where(ref fhir.Ref) (seenAt, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	at, ok := m.now[ref]
	if !ok {
		at, ok = m.old[ref]
	}
	return at, ok
}

// readLive gives an entry that is not kept here, by asking for it again: it is decided and audited as any opening of the record is. What was asked live before and what
// never was are refused alike.
func (g *Gatherer) readLive(ctx context.Context, s *access.Session, ref fhir.Ref) (*fhir.Resource, error) {
	at, ok := g.memo.where(ref)
	if !ok {
		return nil, g.deny(ctx, s, "", fhir.Identifier{}, nil)
	}
	under := []dataset.Heading{at.heading}
	if ref.Type() == "Organization" || ref.Type() == "List" {
		under = nil // what they follow from may stand under others
	}
	if r, err := g.fromRecord(ctx, s, at.person, ref, under...); r != nil || err != nil {
		return r, err
	}
	return nil, unknown()
}

// fromRecord gives what stands in a person's record under some heading, nil if nothing of that id does.
func (g *Gatherer) fromRecord(ctx context.Context, s *access.Session, person string, ref fhir.Ref, under ...dataset.Heading) (*fhir.Resource, error) {
	rec, err := g.Record(ctx, s, person, Ask{Headings: under, Query: string(ref)})
	if err != nil {
		return nil, err
	}
	for _, sec := range rec.Sections {
		for _, e := range sec.Entries {
			if r := e.version(ref); r != nil {
				return r, nil
			}
		}
	}
	return nil, nil
}

// version is an entry, or the version of it that one source gave, by its id; nil if it is neither.
func (e Entry) version(ref fhir.Ref) *fhir.Resource {
	if e.Lead.Ref() == ref {
		return e.resource()
	}
	for _, m := range e.Members {
		if m.Resource.Ref() == ref {
			return m.Resource
		}
	}
	for _, rel := range e.Related {
		if r := rel.version(ref); r != nil {
			return r
		}
	}
	return nil
}
