package node

import (
	"bufio"
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"

	"tombolo/access"
	nrlface "tombolo/api/nrl"
	"tombolo/audit"
	"tombolo/connector/nrl"
	"tombolo/dataset"
	"tombolo/fhir"
	"tombolo/locator"
	"tombolo/mpi"
	"tombolo/policy"
	"tombolo/region"
	"tombolo/search/scope"
)

// NRLRoot is where this region's own locator is, below the address of either listener. NRL: record-locator/{producer|consumer}/FHIR/R4
func NRLRoot(side nrlface.Side) string { return "/nrl/" + string(side) + "/FHIR/R4" }

// locatorFaces are both sides of the region's own locator, if the region file names an application that may use it.
func (n *Node) locatorFaces(mux *http.ServeMux) error {
	if len(n.c.Region.Locator.Applications) == 0 {
		return nil
	}
	settings, err := n.practiceSettings()
	if err != nil {
		return err
	}
	key := hmac.New(sha256.New, n.stamper.Key)
	key.Write([]byte("nrl pages"))
	sealing := key.Sum(nil)
	for _, side := range []nrlface.Side{nrlface.Producer, nrlface.Consumer} {
		base := strings.TrimRight(n.c.Region.Locator.Address, "/") + NRLRoot(side)
		face, err := nrlface.New(nrlface.Options{Side: side, Registry: &registered{n}, Session: n.application, Application: applicationOf, Permit: permits(n.c.Region),
			Settings: settings, Base: base, Key: sealing, Now: n.c.Now, Logger: n.c.Logger})
		if err != nil {
			return err
		}
		mux.Handle(NRLRoot(side)+"/", http.StripPrefix(NRLRoot(side), face))
	}
	return nil
}

// application finds the program that asks: by a token or a certificate. A browser's session is nobody here, so that no page elsewhere can register anything
// by way of whoever is signed in.
func (n *Node) application(r *http.Request) (*access.Session, error) {
	if r.Header.Get("Authorization") == "" && (r.TLS == nil || len(r.TLS.VerifiedChains) == 0) && n.c.Dev == "" {
		return nil, fhir.Errorf(fhir.Login, "an application proves who it is by an access token or a certificate")
	}
	return n.Access.Session(r)
}

// applicationOf is how the region file names who asks.
func applicationOf(s *access.Session) string {
	if s.Client != "" {
		return s.Client
	}
	return s.User
}

// permits is what the region file lets an application do for an organisation.
func permits(reg *region.Region) func(nrlface.Side, string, string) nrlface.Permission {
	l := reg.Locator
	return func(side nrlface.Side, app, ods string) nrlface.Permission {
		i := slices.IndexFunc(l.Applications, func(a region.Application) bool { return a.ID == app && a.Organisation == ods })
		if i < 0 {
			return nrlface.Permission{}
		}
		a := l.Applications[i]
		codes := a.Produces
		if side == nrlface.Consumer {
			codes = a.Consumes
		}
		out := nrlface.Permission{Types: typeIDs(codes), Dates: a.Dates, Loose: a.Loose}
		for _, o := range reg.Organisations {
			if o.ODS != ods && reg.Current(o.ODS) == ods {
				out.Succeeds = append(out.Succeeds, o.ODS)
			}
		}
		return out
	}
}

// typeIDs are types by system|code.
func typeIDs(codes []string) []string {
	var out []string
	for _, c := range codes {
		if t, ok := nrl.TypeNamed(c); ok {
			out = append(out, t.ID)
		}
	}
	return out
}

// practiceSettings reads the value set that the region file names.
func (n *Node) practiceSettings() (nrl.Settings, error) {
	name := n.c.Region.Locator.PracticeSettings
	if name == "" {
		return nrl.Settings{}, nil
	}
	f, err := os.Open(n.path(name))
	if err != nil {
		return nrl.Settings{}, fmt.Errorf("locator: practice_settings: %w", err)
	}
	defer func() { _ = f.Close() }()
	out := map[string]string{}
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if code, display, ok := strings.Cut(strings.TrimSpace(lines.Text()), ","); ok {
			out[strings.TrimSpace(code)] = strings.Trim(strings.TrimSpace(display), `"`)
		}
	}
	return nrl.Settings{PracticeSettings: out}, lines.Err()
}

// locatorEvenly is how much longer the locator takes to tell of nothing than a refused record does: it looks through all that is kept about whoever is known.
const locatorEvenly = 10

// registered is the registry under policy and audit. What it may tell is decided before anything is looked at: by the agreements of each custodian, by what
// the person has chosen, and for whom. Of somebody whose whereabouts must not be known no pointer is told: each says where they are seen.
type registered struct{ n *Node }

var _ nrlface.Registry = (*registered)(nil)

// Create implements nrlface.Registry.
func (x *registered) Create(ctx context.Context, by nrlface.Caller, p nrl.Pointer, replaces []string) error {
	if _, err := x.n.Registry.Get(ctx, p.ID()); err == nil {
		return fhir.Errorf(fhir.Conflict, "there is a pointer with this id already")
	} else if !fhir.Is(err, fhir.NotFound) {
		return err
	}
	what := []string{"pointer: " + p.ID(), "type: " + p.Type()}
	for _, id := range replaces {
		what = append(what, "replaces: "+id)
	}
	if err := x.write(ctx, by, audit.Create, scope.Create, p, what...); err != nil {
		return err
	}
	return x.n.Registry.Create(ctx, locator.Registered{ID: p.ID(), Application: by.Application, Subject: p.Subject(), Custodian: p.Custodian(),
		Type: p.Type(), Category: p.Category(), Doc: json.RawMessage(p.Raw())}, replaces...)
}

// Update implements nrlface.Registry.
func (x *registered) Update(ctx context.Context, by nrlface.Caller, id string, p nrl.Pointer) error {
	if err := x.write(ctx, by, audit.Update, scope.Update, p, "pointer: "+id); err != nil {
		return err
	}
	return x.n.Registry.Update(ctx, id, func(was locator.Registered) (json.RawMessage, error) {
		if !by.Owns(was.Custodian) {
			return nil, fhir.Errorf(fhir.NotFound, "there is no such pointer")
		}
		return json.RawMessage(p.Raw()), nil
	})
}

// Delete implements nrlface.Registry.
func (x *registered) Delete(ctx context.Context, by nrlface.Caller, id string) error {
	p, err := x.Get(ctx, by, id)
	if err != nil {
		return err
	}
	if err := x.write(ctx, by, audit.Delete, scope.Delete, p, "pointer: "+id); err != nil {
		return err
	}
	return x.n.Registry.Delete(ctx, id)
}

// write holds a change to the application's scopes and audits it before it is made.
func (x *registered) write(ctx context.Context, by nrlface.Caller, kind audit.Kind, can scope.Can, p nrl.Pointer, what ...string) error {
	if !by.Session.Doing(can).Shows(p.Resource) {
		return nrl.NotAuthorised
	}
	person, _, err := x.person(ctx, p.Subject())
	if err != nil {
		return err
	}
	return x.remember(ctx, by, kind, person, p.Subject(), what)
}

// Get implements nrlface.Registry. That a consumer is told of nothing is audited, and answered when a refusal is due, whether there is nothing or it is withheld.
func (x *registered) Get(ctx context.Context, by nrlface.Caller, id string) (nrl.Pointer, error) {
	p, err := x.get(ctx, by, id)
	if by.Side == nrlface.Consumer && fhir.Is(err, fhir.NotFound) {
		if err := x.refused(ctx, by, id, err); err != nil {
			return nrl.Pointer{}, err
		}
		x.n.Gather.EvenBy(ctx, by.Session, locatorEvenly*cmp.Or(x.n.c.even, evenly))
	}
	return p, err
}

// refused audits that a consumer was told that there is no such pointer: with whose it is, if there is one. An id that is nothing's may be anything that somebody
// typed, and is not kept.
func (x *registered) refused(ctx context.Context, by nrlface.Caller, id string, why error) error {
	what, nhs := []string{"refused: " + why.Error()}, ""
	var person *mpi.Person
	switch kept, err := x.n.Registry.Get(ctx, id); {
	case err == nil:
		what, nhs = append(what, "pointer: "+id), kept.Subject
		if person, _, err = x.person(ctx, nhs); err != nil {
			return err
		}
	case !fhir.Is(err, fhir.NotFound):
		return err
	}
	return x.remember(ctx, by, audit.Denied, person, nhs, what)
}

func (x *registered) get(ctx context.Context, by nrlface.Caller, id string) (nrl.Pointer, error) {
	kept, err := x.n.Registry.Get(ctx, id)
	if err != nil {
		return nrl.Pointer{}, err
	}
	if by.Side == nrlface.Producer && !by.Owns(kept.Custodian) {
		return nrl.Pointer{}, fhir.Errorf(fhir.NotFound, "there is no such pointer")
	}
	p, err := read(kept)
	if err != nil || by.Side == nrlface.Producer {
		return p, err
	}
	person, numbers, err := x.person(ctx, kept.Subject)
	if err != nil {
		return nrl.Pointer{}, err
	}
	all, err := x.n.pointers(ctx, person, numbers...)
	if err != nil {
		return nrl.Pointer{}, err
	}
	may, err := x.teller(ctx, by, person)
	if err != nil {
		return nrl.Pointer{}, err
	}
	i := slices.IndexFunc(all, func(k told) bool { return k.Registered.ID == id })
	switch {
	case i < 0 || !may(all[i]):
		return nrl.Pointer{}, fhir.Errorf(fhir.NotFound, "there is no such pointer") // as if it never was
	case !slices.Contains(by.Types, kept.Type):
		return nrl.Pointer{}, fhir.Errorf(fhir.Forbidden, "not a type that this organisation may have")
	}
	return nrl.Pointer{Resource: policy.Labelled(p.Resource, all[i].labels)}, nil
}

func read(kept locator.Registered) (nrl.Pointer, error) {
	r, err := fhir.Parse(kept.Doc)
	if err != nil {
		return nrl.Pointer{}, fhir.Errorf(fhir.Exception, "a registered pointer cannot be read: restore it from a backup")
	}
	return nrl.Pointer{Resource: r}, nil
}

// Find implements nrlface.Registry. Somebody whose number was replaced has the pointers that were registered under the old one: they are told under the
// number that was asked for.
func (x *registered) Find(ctx context.Context, by nrlface.Caller, q nrl.Query) ([]nrl.Pointer, error) {
	person, numbers, err := x.person(ctx, q.Subject.Digits())
	if err != nil {
		return nil, err
	}
	may, err := x.teller(ctx, by, person)
	if err != nil {
		return nil, err
	}
	all, err := x.n.pointers(ctx, person, numbers...)
	if err != nil {
		return nil, err
	}
	var out []nrl.Pointer
	for _, k := range all {
		own := by.Owns(k.Registered.Custodian)
		if !x.wants(q, k.Pointer) || by.Side == nrlface.Producer && !own || by.Side == nrlface.Consumer && !may(k) {
			continue
		}
		p := k.Pointer
		if by.Side == nrlface.Consumer {
			p.Resource = policy.Labelled(p.Resource, k.labels)
		}
		out = append(out, underNumber(p, q.Subject.Digits()))
	}
	return out, nil
}

// wants reports whether a pointer answers a search. What an organisation registered that has been succeeded is its successor's.
func (x *registered) wants(q nrl.Query, p nrl.Pointer) bool {
	if q.Custodian != "" && x.n.c.Region.Current(p.Custodian()) == q.Custodian {
		q.Custodian = p.Custodian()
	}
	return q.Wants(p)
}

// underNumber is a pointer under the number by which its person was asked for.
func underNumber(p nrl.Pointer, nhs string) nrl.Pointer {
	if p.Subject() == nhs {
		return p
	}
	return nrl.Pointer{Resource: p.With("subject", fhir.M{"identifier": fhir.Identifier{System: fhir.SystemNHSNumber, Value: nhs}})}
}

// person is who has a number, as far as this region knows (nil if nobody), with every number under which pointers about them may stand.
func (x *registered) person(ctx context.Context, nhs string) (*mpi.Person, []string, error) {
	id, err := x.n.People.Resolve(ctx, fhir.Identifier{System: fhir.SystemNHSNumber, Value: nhs})
	if fhir.Is(err, fhir.NotFound) {
		return nil, []string{nhs}, nil
	}
	if err != nil {
		return nil, nil, err
	}
	p, err := x.n.People.Person(ctx, id)
	if fhir.Is(err, fhir.NotFound) {
		return nil, []string{nhs}, nil
	}
	if err != nil {
		return nil, nil, err
	}
	numbers := []string{nhs}
	for _, other := range append([]string{p.NHSNumber}, p.Superseded...) {
		if other != "" && !slices.Contains(numbers, other) {
			numbers = append(numbers, other)
		}
	}
	return p, numbers, nil
}

// pointed are the pointers that are registered here about somebody, under any of their numbers.
func (n *Node) pointed(ctx context.Context, p *mpi.Person) ([]*fhir.Resource, error) {
	var numbers []string
	for _, number := range append([]string{p.NHSNumber}, p.Superseded...) {
		if number != "" {
			numbers = append(numbers, number)
		}
	}
	kept, err := n.Registry.Of(ctx, numbers...)
	if err != nil {
		return nil, err
	}
	out := make([]*fhir.Resource, 0, len(kept))
	for _, k := range kept {
		p, err := read(k)
		if err != nil {
			return nil, err
		}
		out = append(out, p.Resource)
	}
	return out, nil
}

// A told pointer is one that is registered here, with the labels that it bears.
type told struct {
	locator.Registered
	nrl.Pointer
	labels policy.Labels
}

// pointers are those that are registered about somebody under any of their numbers, each with its labels: its own, those of what it leads to of all that is kept here
// about the person, and those of its custodian. person is nil if nobody here knows them.
func (n *Node) pointers(ctx context.Context, person *mpi.Person, numbers ...string) ([]told, error) {
	kept, err := n.Registry.Of(ctx, numbers...)
	if err != nil {
		return nil, err
	}
	var out []told
	var all []*fhir.Resource
	for _, k := range kept {
		p, err := read(k)
		if err != nil {
			return nil, err
		}
		out, all = append(out, told{Registered: k, Pointer: p}), append(all, p.Resource)
	}
	var trail *policy.Trail
	if person != nil { // whether or not anything is registered: that it takes as long tells less
		if trail, err = n.Gather.Trail(ctx, person); err != nil {
			return nil, err
		}
	}
	agreed, sensitive, _ := n.agreed.InForce()
	for i, l := range sensitive.Pointers(all, trail, func(ods string) policy.Labels { return policy.LabelsOfHolder(agreed, ods) }) {
		out[i].labels = l
		if sys, ok := agreed.System(out[i].Application); ok {
			out[i].labels |= policy.LabelsOfSystem(sys)
		}
	}
	return out, nil
}

// teller decides once what does not depend on the pointer, and gives what decides on each.
func (x *registered) teller(ctx context.Context, by nrlface.Caller, person *mpi.Person) (func(told) bool, error) {
	agreed, _, data := x.n.agreed.InForce()
	f := policy.Facts{Subject: by.Session.Subject(), Purpose: policy.DirectCare, Relationships: []policy.Relationship{policy.SelfClaimed},
		Agreements: agreed.Agreements, Believed: policy.BelievedBy(agreed), Data: data, Channel: policy.Machine, At: x.n.c.Now()}
	f.Subject.Organisation, f.Subject.Above = by.Organisation, agreed.Above(by.Organisation)
	if person != nil {
		var err error
		if f.Person, err = x.n.stands(ctx, person); err != nil {
			return nil, err
		}
	}
	return func(k told) bool { return by.Session.Shows(k.Resource) && mayTell(f, agreed, k) }, nil
}

// mayTell decides on one pointer.
func mayTell(f policy.Facts, agreed *region.Region, k told) bool {
	f.Heading = dataset.HeadingOf(k.Resource)
	f.Source = &policy.Source{System: k.Application, Organisation: k.Registered.Custodian, Above: agreed.Above(k.Registered.Custodian), Release: region.Release{All: true},
		Gives: map[dataset.Heading]region.Way{f.Heading: region.Push}}
	f.Item = policy.ItemOf(k.Resource, k.labels)
	d := policy.Decide(f)
	return d.Permit && !d.Has(policy.WithholdLocation)
}

// Shown implements nrlface.Registry.
func (x *registered) Shown(ctx context.Context, by nrlface.Caller, q nrl.Query, shown []nrl.Pointer) error {
	kind, nhs := audit.Search, q.Subject.Digits()
	if nhs == "" && len(shown) == 1 {
		kind, nhs = audit.Read, shown[0].Subject()
	}
	what := []string{fmt.Sprintf("told of: %d", len(shown))}
	if q.Count {
		what = []string{"told how many"}
	}
	for _, p := range shown {
		what = append(what, "pointer: "+p.ID())
	}
	person, _, err := x.person(ctx, nhs)
	if err != nil {
		return err
	}
	if err := x.remember(ctx, by, kind, person, nhs, what); err != nil {
		return err
	}
	if by.Side == nrlface.Consumer && len(shown) == 0 {
		x.n.Gather.EvenBy(ctx, by.Session, locatorEvenly*cmp.Or(x.n.c.even, evenly))
	}
	return nil
}

// remember writes what is about to be done or told into the audit log. No audit, no bytes.
func (x *registered) remember(ctx context.Context, by nrlface.Caller, kind audit.Kind, person *mpi.Person, nhs string, what []string) error {
	s := by.Session
	e := audit.Event{Kind: kind, Purpose: policy.DirectCare.Code(), Query: "NRL " + string(by.Side) + " " + string(kind), Trace: s.Trace,
		Agent: audit.Agent{User: s.User, Name: s.Name, Role: string(s.Role), Organisation: by.Organisation, Device: s.Device, Address: s.Address},
		What:  append(what, "application: "+by.Application, "policy: "+policy.Version)}
	if o, ok := x.n.c.Region.Organisation(by.Organisation); ok {
		e.Agent.OrgName = o.Name
	}
	e.NHSNumber, _ = fhir.ParseNHSNumber(nhs)
	if person != nil {
		e.PersonID = person.ID
	}
	if _, err := x.n.Audit.Append(ctx, e); err != nil {
		return fhir.Errorf(fhir.NoStore, "the request could not be recorded, so it is not answered: %w", err)
	}
	return nil
}
