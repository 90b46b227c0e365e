package gather

import (
	"context"
	"slices"
	"strings"
	"time"

	"tombolo/audit"
	"tombolo/connector"
	"tombolo/events"
	"tombolo/fhir"
	"tombolo/search"
	"tombolo/search/scope"
	"tombolo/store"
)

// A Giving says what of a system's own record is exported. HL7 Bulk Data Access 2.0.0 export.html
type Giving struct {
	Query string                    // the request, for the audit
	At    time.Time                 // as it was then: what was changed since is given in its version of then
	Keep  func(*fhir.Resource) bool // nil: all
}

// Give gives one patient's record to write, once it is recorded that it does (ADR 9), and says what of nobody's record it names. Nothing of other systems is in it.
func (o *Own) Give(ctx context.Context, patient string, giving Giving, write func(*fhir.Resource) error) (Exported, []fhir.Ref, error) {
	person, err := o.g.o.People.PersonOf(ctx, patient)
	if err != nil && !fhir.Is(err, fhir.NotFound) {
		return Exported{}, nil, err
	}
	h := &holding{g: o.g, event: o.exporting(giving), write: write, patients: []string{patient}}
	h.event.PersonID = person
	h.pick = func(ctx context.Context, r *fhir.Resource) (*fhir.Resource, error) { return o.as(ctx, giving, r) }
	out, err := h.export(ctx)
	var named []fhir.Ref
	for ref := range h.others {
		named = append(named, ref)
	}
	slices.Sort(named)
	return out, named, err
}

func (o *Own) exporting(giving Giving) audit.Event {
	e := o.g.event(o.s, string(audit.Export))
	e.Outcome, e.Query = audit.Success, giving.Query
	e.What = []string{"source: " + o.source}
	return e
}

// as is a resource of this system as it was, or nil if it was not there, or is not wanted.
func (o *Own) as(ctx context.Context, giving Giving, r *fhir.Resource) (*fhir.Resource, error) {
	if connector.SourceOf(r) != o.source || !o.reach.May(scope.Read, r) {
		return nil, nil
	}
	if at, err := time.Parse(time.RFC3339, r.Text("meta.lastUpdated")); err == nil && at.After(giving.At) {
		all, err := o.history(ctx, r.Ref(), scope.Read)
		if err != nil {
			return nil, err
		}
		i := slices.IndexFunc(all, func(s store.Stored) bool { return !s.At.After(giving.At) })
		if i < 0 || all[i].Deleted {
			return nil, nil
		}
		if r, err = all[i].Resource(); err != nil {
			return nil, err
		}
	}
	if giving.Keep != nil && !giving.Keep(r) {
		return nil, nil
	}
	return r, nil
}

// GiveShared gives what this system holds and is nobody's record: all of it, or what is named in only. It says what that names in turn.
func (o *Own) GiveShared(ctx context.Context, giving Giving, only []fhir.Ref, write func(*fhir.Resource) error) (out Exported, named []fhir.Ref, err error) {
	e := o.exporting(giving)
	if only == nil {
		e.What = append(e.What, "nobody's record: all that is held of it")
	} else {
		e.What = append(e.What, "nobody's record: what the records given refer to")
	}
	if err := o.g.remember(ctx, e); err != nil {
		return out, nil, err
	}
	give := func(r *fhir.Resource) error {
		if !o.reach.May(scope.Read, r) {
			return nil // nor what it names
		}
		_, err := fhir.MapReferences(r, func(_ fhir.Value, reference string) ([]byte, bool) {
			if reference, _, _ = strings.Cut(reference, "/_history/"); besides[fhir.Ref(reference).Type()] {
				named = append(named, fhir.Ref(reference))
			}
			return nil, false
		})
		if err != nil {
			return err
		}
		if r, err = o.as(ctx, giving, r); err != nil || r == nil {
			return err
		}
		out.Resources++
		return write(r)
	}
	if only != nil {
		found, err := o.Lookup(ctx, only...)
		for _, r := range found {
			if err == nil && PatientOf(r) == "" {
				err = give(r)
			}
		}
		return out, named, err
	}
	for r, err := range o.g.o.Kept.Source(ctx, o.source) {
		if fhir.Is(err, fhir.Exception) {
			out.Damaged = append(out.Damaged, err)
			continue
		}
		if err == nil {
			err = give(r)
		}
		if err != nil {
			return out, named, err
		}
	}
	return out, named, nil
}

// Patients gives the ids of this system's patients, a page at a time, and the cursor of the next page, "" at the end. They are not shown to anybody yet.
func (o *Own) Patients(ctx context.Context, cursor string, count int) (ids []string, next string, err error) {
	page, err := o.g.o.Kept.Search(ctx, search.Query{Type: "Patient", Source: o.source, Count: count, Cursor: cursor}) // whatever may be had of their records
	if err != nil {
		return nil, "", err
	}
	for _, r := range page.Resources {
		ids = append(ids, r.ID())
	}
	return ids, page.Next, nil
}

// Members are the patients of a Group of this system, in order, each once. FHIR R4 group.html
func (o *Own) Members(ctx context.Context, group fhir.Ref) ([]string, error) {
	if err := o.Needs(ctx, scope.Read, "Group"); err != nil {
		return nil, err
	}
	s, err := o.g.o.Kept.ReadRaw(ctx, group)
	if err == nil && !o.has(scope.Read, s) {
		err = notHere(group)
	}
	if err != nil {
		return nil, err
	}
	r, err := s.Resource()
	if err != nil {
		return nil, err
	}
	var ids []string
	for m := range r.Value().All("member") {
		if ref := fhir.Ref(m.Text("entity.reference")); ref.Type() == "Patient" && m.Get("inactive").Str() != "true" {
			id, _, _ := strings.Cut(ref.ID(), "/")
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids), nil
}

// Known are those of these patients whom the application knows to be here.
func (o *Own) Known(ctx context.Context, ids ...string) ([]string, error) {
	return o.which(ctx, func(s store.Stored) bool { return o.has(scope.Read|scope.Search, s) }, ids)
}

// Mine are those of these patients who are this system's.
func (o *Own) Mine(ctx context.Context, ids ...string) ([]string, error) {
	return o.which(ctx, func(s store.Stored) bool { return s.Source == o.source }, ids)
}

func (o *Own) which(ctx context.Context, is func(store.Stored) bool, ids []string) ([]string, error) {
	var out []string
	for _, id := range ids {
		s, err := o.g.o.Kept.ReadRaw(ctx, fhir.MakeRef("Patient", id))
		switch {
		case fhir.Is(err, fhir.NotFound) || fhir.Is(err, fhir.Deleted) || err == nil && !is(s):
		case err != nil:
			return nil, err
		default:
			out = append(out, id)
		}
	}
	return out, nil
}

// A Gone is a resource that was deleted, and the patient in whose record it stood.
type Gone struct {
	Ref     fhir.Ref
	Patient string
}

// slack is how far the order of the log and the times of its events may differ: a transaction bears the time at which it began.
const slack = 10 * time.Minute

// Since says what an export of what changed since a moment has to look at: from which moment on (mark is the position of the log at an export that said that it was
// of that moment, and what was being written then, and bears an earlier time, is not passed over; 0: there was none), and what was deleted. Nothing of it may be
// told before Remember.
func (o *Own) Since(ctx context.Context, since time.Time, mark events.Seq) (from time.Time, gone []Gone, err error) {
	from = since
	seen := map[fhir.Ref]bool{}
	for before, old := events.Seq(0), false; ; {
		found, next, err := o.g.o.Kept.Before(ctx, before, 1000, func(e events.Event) bool {
			old = old || e.At.Before(since.Add(-slack))
			return e.Source == o.source && (e.Seq > mark && mark > 0 || !e.At.Before(since))
		})
		if err != nil {
			return from, nil, err
		}
		for _, e := range found {
			if e.At.Before(from) {
				from = e.At
			}
			if !seen[e.Ref] && e.Kind == events.Deleted {
				var all []store.Stored
				if o.reach != nil {
					if all, err = o.history(ctx, e.Ref, scope.Read); err != nil {
						return from, nil, err
					}
				}
				if o.reach == nil || len(all) > 0 {
					gone = append(gone, Gone{e.Ref, e.Patient})
				}
			}
			seen[e.Ref] = true
		}
		if before = next; next == 0 || old && next <= mark || old && mark == 0 {
			return from, gone, nil
		}
	}
}
