package gather

import (
	"context"
	"errors"
	"slices"

	"tombolo/access"
	"tombolo/events"
	"tombolo/fhir"
	"tombolo/search/scope"
	"tombolo/store"
)

// What an application with scopes reaches of a system's own record: the answers are those of a record that holds only that.

// Reach is how far the application that asks reaches; nil: everything.
func (o *Own) Reach() *scope.Reach { return o.reach }

// Needs refuses, and audits, what no scope of the application lets it do with any resource of a type. It tells nothing of what is there.
func (o *Own) Needs(ctx context.Context, can scope.Can, typ string) error {
	return o.Refused(ctx, o.reach.Lacks(can, typ))
}

// Refused audits a refusal that lies in the application's scopes, and gives it; any other error it gives as it is.
func (o *Own) Refused(ctx context.Context, err error) error {
	if missing := (scope.Missing{}); errors.As(err, &missing) {
		return o.g.forbid(ctx, o.s, err)
	}
	return err
}

// Key is a client's own name for a request, apart from the names that others use who act for the same system.
func (o *Own) Key(name string) string {
	if name == "" || o.reach == nil {
		return name
	}
	m := o.Mandate()
	return "of " + m.Client + " with " + m.Scopes + " for " + m.Locked + ": " + name
}

// Covers reports whether what was made for a mandate may be given to this application: it reaches at least as far.
func (o *Own) Covers(ctx context.Context, m Mandate) (bool, error) {
	if o.reach == nil {
		return true, nil
	}
	if m.Client == "" {
		return false, nil
	}
	given, _ := scope.Parse(m.Scopes)
	other, err := o.g.reachOf(ctx, &access.Session{Scopes: &given, Locked: m.Locked})
	return err == nil && o.reach.Covers(other), err
}

// reachOf finds how far a session reaches.
func (g *Gatherer) reachOf(ctx context.Context, s *access.Session) (*scope.Reach, error) {
	var patients []string
	if s.Locked != "" {
		p, err := g.o.People.Person(ctx, s.Locked)
		switch {
		case fhir.Is(err, fhir.NotFound):
		case err != nil:
			return nil, err
		default:
			for _, pt := range p.Patients {
				patients = append(patients, pt.ID)
			}
		}
	}
	return scope.NewReach(s.Scopes, s.Locked != "", patients...), nil
}

// has reports whether something is this system's, and may be had.
func (o *Own) has(can scope.Can, s store.Stored) bool {
	if s.Source != o.source || o.reach == nil {
		return s.Source == o.source
	}
	r, err := s.Resource()
	return err == nil && o.reach.May(can, r)
}

// Shows reports whether a version of a resource may be read: whoever only writes is told of it, and not given it.
func (o *Own) Shows(s store.Stored) bool { return o.has(scope.Read|scope.Search, s) }

// seen keeps of a resource's versions, newest first, what may be seen: nothing, if the newest may not; and a deletion with the version before it.
func (o *Own) seen(can scope.Can, all []store.Stored) []store.Stored {
	if o.reach == nil {
		return all
	}
	i := slices.IndexFunc(all, func(s store.Stored) bool { return !s.Deleted })
	if i < 0 || !o.has(can, all[i]) {
		return nil
	}
	var out []store.Stored
	for i, s := range all {
		before := slices.IndexFunc(all[i:], func(s store.Stored) bool { return !s.Deleted })
		if before >= 0 && o.has(can, all[i+before]) {
			out = append(out, s)
		}
	}
	return out
}

// sees reports whether what an event tells of may be seen in a search of what changed.
func (o *Own) sees(ctx context.Context, e events.Event, failed *error) bool {
	if o.reach == nil {
		return true
	}
	all, err := o.history(ctx, e.Ref, scope.Search)
	if err != nil {
		*failed = err
	}
	return slices.ContainsFunc(all, func(s store.Stored) bool { return s.Version == e.Version })
}
