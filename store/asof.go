package store

import (
	"context"
	"slices"

	"tombolo/events"
	"tombolo/fhir"
)

// maxSince bounds how many changes since a search began its later pages look through.
const maxSince = 50_000

// A past is what of one type has changed since a position of the log: each changed resource, and in which version it was then.
type past struct {
	changed map[fhir.Ref]bool
	were    []was // those that were there, in order of their places
}

type was struct {
	at     place
	stored Stored
}

// before reads what the search's type was at the position it is pinned to. The first change of a resource after the position tells its version then: the one
// before it.
func (f *finder) before(ctx context.Context) (past, error) {
	if f.q.AsOf == 0 {
		return past{}, nil
	}
	if f.past != nil {
		return *f.past, nil
	}
	p := past{changed: map[fhir.Ref]bool{}}
	n := 0
	for e, err := range f.db.Since(ctx, events.Seq(f.q.AsOf)) {
		if err != nil {
			return p, err
		}
		if n++; n > maxSince {
			return p, fhir.Errorf(fhir.Deleted, "so much has been written since this search began that its further pages are gone: begin again")
		}
		if e.Ref.Type() != f.q.Type || p.changed[e.Ref] {
			continue
		}
		p.changed[e.Ref] = true
		s, part, err := f.db.findVersion(ctx, e.Ref, e.Version-1)
		switch {
		case fhir.Is(err, fhir.NotFound) || fhir.Is(err, fhir.Deleted): // it was not there then
		case err != nil:
			return p, err
		case f.q.Patient == "" || part == patientPart(f.q.Patient):
			p.were = append(p.were, was{place{part, e.Ref.ID()}, s})
		}
	}
	slices.SortFunc(p.were, func(a, b was) int { return a.at.compare(b.at) })
	f.past = &p
	return p, nil
}

func (p past) after(at place) []was {
	i := slices.IndexFunc(p.were, func(w was) bool { return w.at.compare(at) > 0 })
	if i < 0 {
		return nil
	}
	return p.were[i:]
}
