package gather

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"tombolo/access"
	"tombolo/audit"
	"tombolo/events"
	"tombolo/fhir"
	"tombolo/policy"
	"tombolo/search"
	"tombolo/search/scope"
	"tombolo/store"
)

// An Own is what one system itself holds here, for the system's own session: its part of the store, as a FHIR server's client sees it (ADR 10). What
// other systems hold is not there for it: same answers as for what never was. Nothing is given out that is not audited before.
type Own struct {
	g      *Gatherer
	s      *access.Session
	source string
	reach  *scope.Reach // of the application that asks; nil: all of it
}

// A Mandate is what is kept of a session for work that goes on after its request, also after the node has started again: who asked, and for which system.
type Mandate struct {
	User, Name, RoleName           string
	Role                           policy.Role
	Organisation, OrganisationName string
	Purpose                        policy.Purpose
	System                         string
	Trace, Device, Address         string
	// Of an application that acts for the system: which, what it was given ("" with a Client: nothing), and the one person whose record it was launched for.
	Client, Scopes, Locked string `json:",omitempty"`
}

// Mandate is what Resume needs to go on for the one whose record this is.
func (o *Own) Mandate() Mandate {
	s := o.s
	scopes := ""
	if s.Scopes != nil {
		scopes = s.Scopes.String()
	}
	return Mandate{Client: s.Client, Scopes: scopes, Locked: s.Locked, User: s.User, Name: s.Name, RoleName: s.RoleName, Role: s.Role, Organisation: s.Organisation, OrganisationName: s.OrganisationName, Purpose: s.Purpose,
		System: s.System, Trace: s.Trace, Device: s.Device, Address: s.Address}
}

// Resume decides again whether the system may read and write its record, as the region is now, and no further than the application could that asked.
func (g *Gatherer) Resume(ctx context.Context, m Mandate) (*Own, error) {
	s := &access.Session{User: m.User, Name: m.Name, RoleName: m.RoleName, Role: m.Role, Organisation: m.Organisation, OrganisationName: m.OrganisationName,
		Purpose: m.Purpose, System: m.System, Trace: m.Trace, Device: m.Device, Address: m.Address, Client: m.Client, Locked: m.Locked}
	if m.Client != "" {
		given, _ := scope.Parse(m.Scopes)
		c, _ := g.o.Region.Client(m.Client) // one that is no longer registered is allowed nothing
		allowed, _ := scope.Parse(strings.Join(c.Scopes, " "))
		given = given.Within(allowed)
		s.Scopes = &given
	}
	return g.Own(ctx, s)
}

// Own decides, before anything is looked at, whether a session may read and write its system's record, and how far the application that asks reaches into it.
func (g *Gatherer) Own(ctx context.Context, s *access.Session) (*Own, error) {
	src := policy.Source{System: s.System}
	if sys, ok := g.o.Region.System(s.System); ok {
		src.Organisation = sys.Organisation
	}
	d := policy.DecideOwn(s.Subject(), src)
	if !d.Permit {
		return nil, g.forbid(ctx, s, fhir.Errorf(fhir.Forbidden, "this is for a system that keeps its own record here: %s", d.Reasons[0].Text))
	}
	reach, err := g.reachOf(ctx, s)
	if err != nil {
		return nil, err
	}
	o := &Own{g: g, s: s, source: s.System, reach: reach}
	return o, o.Needs(ctx, scope.Any, "*")
}

// Source is the id of the system.
func (o *Own) Source() string { return o.source }

// A Doing is what is remembered of one request.
type Doing struct {
	Kind  audit.Kind
	Query string   // the request, without its host
	Refs  []string // what was shown or written, "Patient/1/_history/2"
	// Patients are the ids of the patients concerned.
	Patients []string
}

// Remember audits what is about to be answered: one entry for each person concerned, so that each can see it, or one if nobody is. An error means that
// nothing may be said.
func (o *Own) Remember(ctx context.Context, d Doing) error {
	base := o.g.event(o.s, string(d.Kind))
	base.Outcome, base.Query = audit.Success, d.Query
	base.What = []string{"policy: " + policy.Version, "permitted: own-source", "source: " + o.source}
	for part := range slices.Chunk(d.Refs, 100) {
		for i, r := range part {
			if i == 0 {
				base.What = append(base.What, "resources: "+r)
			} else {
				base.What[len(base.What)-1] += " " + r
			}
		}
	}
	var all []audit.Event
	seen := map[string]bool{}
	for _, id := range d.Patients {
		person, err := o.g.o.People.PersonOf(ctx, id)
		if err != nil && !fhir.Is(err, fhir.NotFound) {
			return err
		}
		if person == "" || seen[person] {
			continue
		}
		seen[person] = true
		e := base
		e.PersonID = person
		all = append(all, e)
	}
	if len(all) == 0 {
		all = append(all, base)
	}
	if _, err := o.g.o.Audit.AppendAll(ctx, all); err != nil {
		return fhir.Errorf(fhir.NoStore, "the access could not be recorded, so nothing is shown: %w", err)
	}
	return nil
}

// show audits resources as they are about to be given out.
func (o *Own) show(ctx context.Context, kind audit.Kind, query string, shown ...store.Stored) error {
	d := Doing{Kind: kind, Query: query}
	for _, s := range shown {
		d.Refs = append(d.Refs, string(s.Ref)+"/_history/"+strconv.Itoa(s.Version))
		if s.Deleted {
			continue
		}
		r, err := s.Resource()
		if err != nil {
			return err
		}
		if p := PatientOf(r); p != "" && !slices.Contains(d.Patients, p) {
			d.Patients = append(d.Patients, p)
		}
	}
	return o.Remember(ctx, d)
}

func notHere(ref fhir.Ref) error { return fhir.Errorf(fhir.NotFound, "%s is not known here", ref) }

// Read gives the current version. NotFound if there never was one, or another system holds it; Deleted if it was deleted.
func (o *Own) Read(ctx context.Context, ref fhir.Ref) (store.Stored, error) {
	if err := o.Needs(ctx, scope.Read, ref.Type()); err != nil {
		return store.Stored{}, err
	}
	s, err := o.g.o.Kept.ReadRaw(ctx, ref)
	if err == nil && !o.has(scope.Read, s) {
		return store.Stored{}, notHere(ref)
	}
	if fhir.Is(err, fhir.Deleted) {
		return store.Stored{}, o.gone(ctx, ref, err)
	}
	if err != nil {
		return store.Stored{}, err
	}
	return s, o.show(ctx, audit.Read, string(ref), s)
}

// gone is how a deletion is told: to those whose it was, and remembered like anything that is told of a record.
func (o *Own) gone(ctx context.Context, ref fhir.Ref, deleted error) error {
	all, err := o.history(ctx, ref, scope.Read)
	switch {
	case err != nil:
		return err
	case len(all) == 0:
		return notHere(ref)
	}
	d := Doing{Kind: audit.Read, Query: string(ref), Refs: []string{string(ref) + "/_history/" + strconv.Itoa(all[0].Version)}}
	for _, s := range all {
		if s.Deleted {
			continue
		}
		if r, err := s.Resource(); err == nil && PatientOf(r) != "" {
			d.Patients = []string{PatientOf(r)}
		}
		break
	}
	if err := o.Remember(ctx, d); err != nil {
		return err
	}
	return deleted
}

// Version gives one version.
func (o *Own) Version(ctx context.Context, ref fhir.Ref, version int) (store.Stored, error) {
	if err := o.Needs(ctx, scope.Read, ref.Type()); err != nil {
		return store.Stored{}, err
	}
	s, err := o.g.o.Kept.ReadVersionRaw(ctx, ref, version)
	if fhir.Is(err, fhir.NotFound) { // of what is not here it is not said that it has no such version
		if all, herr := o.history(ctx, ref, scope.Read); fhir.Is(herr, fhir.NotFound) || herr == nil && len(all) == 0 {
			err = notHere(ref)
		}
	}
	if err == nil && o.reach != nil { // one that may not be seen as it is now is not there, and nor are its versions
		all, herr := o.history(ctx, ref, scope.Read)
		if herr != nil {
			return store.Stored{}, herr
		}
		if !slices.ContainsFunc(all, func(v store.Stored) bool { return v.Version == version }) {
			return store.Stored{}, notHere(ref)
		}
	}
	if err == nil && s.Source != o.source {
		return store.Stored{}, notHere(ref)
	}
	if fhir.Is(err, fhir.Deleted) {
		return store.Stored{}, o.gone(ctx, ref, err)
	}
	if err != nil {
		return store.Stored{}, err
	}
	return s, o.show(ctx, audit.Read, string(ref)+"/_history/"+strconv.Itoa(version), s)
}

func (o *Own) history(ctx context.Context, ref fhir.Ref, can scope.Can) ([]store.Stored, error) {
	all, err := o.g.o.Kept.History(ctx, ref)
	return o.seen(can, slices.DeleteFunc(all, func(s store.Stored) bool { return s.Source != o.source })), err
}

// A Span of changes to look at: which versions, newest first.
type Span struct {
	Type, ID string     // "": all
	Before   events.Seq // 0: from the newest
	Count    int
	Keep     func(at store.Stored) bool // nil: all
	// At is a time in which a version of a type's or the whole history was current at some moment; nil: any. (Of one resource, Keep sees all of its versions.)
	At *fhir.Span
}

// History gives versions, newest first, deletions among them, and where to go on (0: at the end).
func (o *Own) History(ctx context.Context, span Span, query string) (found []store.Stored, next events.Seq, err error) {
	if span.ID != "" {
		if found, next, err = o.instanceHistory(ctx, span); err != nil {
			return nil, 0, err
		}
	} else {
		if err := o.Needs(ctx, scope.Search, cmp.Or(span.Type, "*")); err != nil { // SMART App Launch 2.2: history-type and history-system are of s
			return nil, 0, err
		}
		var failed error
		changed, after, err := o.g.o.Kept.Before(ctx, span.Before, span.Count, func(e events.Event) bool {
			return e.Source == o.source && (span.Type == "" || e.Ref.Type() == span.Type) && (span.Keep == nil || span.Keep(store.Stored{Ref: e.Ref, At: e.At})) && (span.At == nil || o.current(ctx, e, *span.At)) && o.sees(ctx, e, &failed)
		})
		if err = errors.Join(err, failed); err != nil {
			return nil, 0, err
		}
		next = after
		for _, e := range changed {
			s, err := o.g.o.Kept.ReadVersionRaw(ctx, e.Ref, e.Version)
			if fhir.Is(err, fhir.Deleted) {
				s, err = store.Stored{Ref: e.Ref, Version: e.Version, At: e.At, Source: e.Source, Deleted: true}, nil
			}
			if err != nil {
				return nil, 0, err
			}
			found = append(found, s)
		}
	}
	return found, next, o.show(ctx, audit.Read, query, found...)
}

// current reports whether the version that an event made was current at some moment of a time: it is from before its end, and the next is from after its beginning. A next version that
// is damaged is as none: what it replaced is shown.
func (o *Own) current(ctx context.Context, e events.Event, at fhir.Span) bool {
	made := e.At.Truncate(time.Millisecond) // as it is stored
	if !made.Before(at.End) || !made.Before(at.Start) {
		return made.Before(at.End)
	}
	all, _ := o.g.o.Kept.History(ctx, e.Ref)
	i := slices.IndexFunc(all, func(s store.Stored) bool { return s.Version == e.Version+1 })
	return i < 0 || all[i].At.After(at.Start)
}

func (o *Own) instanceHistory(ctx context.Context, span Span) (found []store.Stored, next events.Seq, err error) {
	ref := fhir.MakeRef(span.Type, span.ID)
	if err := o.Needs(ctx, scope.Read, span.Type); err != nil {
		return nil, 0, err
	}
	all, err := o.history(ctx, ref, scope.Read)
	if err != nil {
		return nil, 0, err
	}
	if len(all) == 0 {
		return nil, 0, notHere(ref)
	}
	for _, s := range all { // here the place to go on is a version
		if span.Before > 0 && events.Seq(s.Version) >= span.Before || span.Keep != nil && !span.Keep(s) {
			continue
		}
		if len(found) == span.Count {
			return found, events.Seq(found[len(found)-1].Version), nil
		}
		found = append(found, s)
	}
	return found, 0, nil
}

// Searcher is what of the store this system's own searches see. What it finds has not been audited: whoever gives it out calls Show first.
func (o *Own) Searcher() search.Searcher { return ownSearcher{o} }

type ownSearcher struct{ o *Own }

func (s ownSearcher) Search(ctx context.Context, q search.Query) (*search.Page, error) {
	q.Source, q.Within = s.o.source, s.o.reach.Matches(scope.Search)
	return s.o.g.o.Kept.Search(ctx, q)
}

// Lookup gives current resources by reference, for a search's includes: those of others and those that are not there are left out.
func (o *Own) Lookup(ctx context.Context, refs ...fhir.Ref) ([]*fhir.Resource, error) {
	var out []*fhir.Resource
	for _, ref := range refs {
		s, err := o.g.o.Kept.ReadRaw(ctx, ref)
		if fhir.Is(err, fhir.NotFound) || fhir.Is(err, fhir.Deleted) || err == nil && !o.has(scope.Read|scope.Search, s) {
			continue
		}
		if err != nil {
			return nil, err
		}
		r, err := s.Resource()
		if err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	return out, nil
}

// Show audits what a search found, before it is given out.
func (o *Own) Show(ctx context.Context, query string, found []*fhir.Resource) error {
	d := Doing{Kind: audit.Search, Query: query}
	for _, r := range found {
		d.Refs = append(d.Refs, string(r.Ref())+"/_history/"+r.Text("meta.versionId"))
		if p := PatientOf(r); p != "" && !slices.Contains(d.Patients, p) {
			d.Patients = append(d.Patients, p)
		}
	}
	return o.Remember(ctx, d)
}

// Tail is the position of the newest change: what a search's pages are pinned to.
func (o *Own) Tail(ctx context.Context) (events.Seq, error) { return o.g.o.Kept.Tail(ctx) }

// Written gives a version to the one who wrote it just now, and has been audited doing so.
func (o *Own) Written(ctx context.Context, ref fhir.Ref, version int) (store.Stored, error) {
	s, err := o.g.o.Kept.ReadVersionRaw(ctx, ref, version)
	if err == nil && s.Source != o.source {
		return store.Stored{}, notHere(ref)
	}
	return s, err
}

// besides are the types outside a patient's record that it names and that go with it. FHIR R4 patient-operation-everything.html
var besides = map[string]bool{"Organization": true, "Practitioner": true, "PractitionerRole": true, "Location": true, "Medication": true, "Device": true,
	"HealthcareService": true, "Specimen": true, "Substance": true, "Binary": true}

// Record gives all that this system holds in one patient's record, the patient first, and what the record names beside it. Like what a Searcher finds, it has not
// been audited: whoever gives it out calls Show first.
func (o *Own) Record(ctx context.Context, patient fhir.Ref) ([]*fhir.Resource, error) {
	if err := o.Needs(ctx, scope.Read, "Patient"); err != nil {
		return nil, err
	}
	first, err := o.g.o.Kept.ReadRaw(ctx, patient)
	if err == nil && !o.has(scope.Read, first) {
		err = notHere(patient)
	}
	if err != nil {
		if fhir.Is(err, fhir.Deleted) {
			return nil, o.gone(ctx, patient, err)
		}
		return nil, err
	}
	p, err := first.Resource()
	if err != nil {
		return nil, err
	}
	out := []*fhir.Resource{p}
	seen := map[fhir.Ref]bool{patient: true}
	for r, err := range o.g.o.Kept.Patient(ctx, patient.ID()) {
		if err != nil {
			return nil, err
		}
		if !seen[r.Ref()] && o.reach.May(scope.Read, r) {
			seen[r.Ref()] = true
			out = append(out, r)
		}
	}
	for i := 0; i < len(out); i++ { // what they name, and what that names
		var named []fhir.Ref
		_, err := fhir.MapReferences(out[i], func(_ fhir.Value, reference string) ([]byte, bool) {
			reference, _, _ = strings.Cut(reference, "/_history/")
			if ref := fhir.Ref(reference); besides[ref.Type()] && fhir.ValidID(ref.ID()) && !seen[ref] {
				seen[ref] = true
				named = append(named, ref)
			}
			return nil, false
		})
		if err != nil {
			return nil, err
		}
		more, err := o.Lookup(ctx, named...)
		if err != nil {
			return nil, err
		}
		out = append(out, slices.DeleteFunc(more, func(r *fhir.Resource) bool { return !o.reach.May(scope.Read, r) })...)
	}
	return out, nil
}
