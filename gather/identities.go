package gather

import (
	"context"
	"slices"
	"strconv"

	"tombolo/access"
	"tombolo/audit"
	"tombolo/dataset"
	"tombolo/fhir"
	"tombolo/mpi"
	"tombolo/mpi/match"
	"tombolo/policy"
	"tombolo/region"
	"tombolo/search"
)

// Identities tells one asker who people are, and nothing of their records: Patient/$match, PDQm and PIXm, and PDQ and PIX over HL7 v2. What may be told is
// decided first: a person's demographics from the sources that share them with whoever asks. Somebody who objects to sharing is not known here,
// where a restricted person lives or is treated is not told, and each question is remembered under each person who was told of, and each who was kept back.
type Identities struct {
	g      *Gatherer
	told   func(ctx context.Context, p *mpi.Person, source string) (bool, error)
	ask    audit.Event              // who asks, for which purpose
	shares func(source string) bool // for a system: whether a source shares demographics with it at all
	own    string                   // the system that asks, whose own numbers it may always have; "" for a person
	refuse map[string]*mpi.Person
}

// An Identified is somebody told of.
type Identified struct {
	Person
	Patients []mpi.Patient // as the sources that may be told from have them
	Score    float64       // of a match: how probable it is that this is the one described
	Grade    string        // FHIR match-grade
	Why      []string      // what speaks for and against, the weightiest first
}

// mostTold is how many people one question tells of: whoever means more must say more.
const mostTold = 50

// Identities decides whether a session may ask who people are: clinicians and stewards, whoever else opens records of those they have to do with, and
// systems that the region file lets ask (options: {pdq: yes}). The refusal depends on the session alone.
func (g *Gatherer) Identities(ctx context.Context, s *access.Session) (*Identities, error) {
	info, _ := s.Role.Info()
	x := &Identities{g: g, ask: g.event(s, string(audit.Search)), refuse: map[string]*mpi.Person{}}
	switch {
	case s.Scopes != nil && !s.Shows(fhir.New("Patient", "any", fhir.M{})):
		return nil, g.forbid(ctx, s, fhir.Errorf(fhir.Forbidden, "the application's scopes do not let it read who people are"))
	case s.System != "":
		sys, ok := g.o.Region.System(s.System)
		if !ok || !sys.Asks() {
			return nil, g.forbid(ctx, s, fhir.Errorf(fhir.Forbidden, "this system may not ask who people are: the region file lets it with options: {pdq: yes}"))
		}
		y := g.IdentitiesFor(sys)
		x.told, x.own, x.ask.Purpose = y.told, y.own, y.ask.Purpose
	case info.Identifies:
		x.ask.Purpose = policy.Administration.Code()
		x.told = func(context.Context, *mpi.Person, string) (bool, error) { return true, nil }
	case info.Opens && s.Role != policy.Citizen && !s.Purpose.Secondary():
		x.told = x.byRelationship(s)
	default:
		return nil, g.forbid(ctx, s, fhir.Errorf(fhir.Forbidden, "this role does not ask who people are"))
	}
	return x, nil
}

// IdentitiesFor is what a system of the region may be told, by whichever protocol it asks: the demographics that each source shares with its organisation.
func (g *Gatherer) IdentitiesFor(sys region.System) *Identities {
	agreed, _, data := g.o.Agreed.InForce()
	decide := func(person policy.Person, s *region.System) bool {
		return policy.Decide(policy.Facts{Subject: policy.Subject{Role: policy.Receptionist, Organisation: sys.Organisation}, Purpose: policy.Administration,
			Person: person, Relationships: []policy.Relationship{policy.Identifying}, Heading: dataset.Demographics, Agreements: agreed.Agreements, Data: data, At: g.o.Now(),
			Source: policy.SourceOf(*s, agreed)}).Permit
	}
	permitted := map[string]bool{}
	for i := range agreed.Systems {
		permitted[agreed.Systems[i].ID] = decide(policy.Person{}, &agreed.Systems[i])
	}
	chosen := map[string]bool{}
	return &Identities{g: g, own: sys.ID, shares: func(source string) bool { return permitted[source] }, refuse: map[string]*mpi.Person{},
		ask: audit.Event{Kind: audit.Search, Purpose: policy.Administration.Code(), Agent: audit.Agent{User: sys.ID, Name: sys.Product, Organisation: sys.Organisation}},
		told: func(ctx context.Context, p *mpi.Person, source string) (bool, error) {
			if !permitted[source] {
				return false, nil
			}
			may, known := chosen[p.ID]
			if !known {
				person, err := g.chosen(ctx, p)
				if err != nil {
					return false, err
				}
				may = decide(person, &sys)
				chosen[p.ID] = may
			}
			return may, nil
		}}
}

// chosen is what the person has chosen.
func (g *Gatherer) chosen(ctx context.Context, p *mpi.Person) (policy.Person, error) {
	out := policy.Person{Restricted: p.Restricted}
	if g.o.Standing == nil {
		return out, nil
	}
	var ids []string
	for _, q := range p.Patients {
		ids = append(ids, q.ID)
	}
	s, _, err := g.o.Standing.Of(ctx, ids...)
	s.Restricted = p.Restricted
	return s.Person, err
}

// byRelationship decides as for opening the record, and then on what each source says of who the person is.
func (x *Identities) byRelationship(s *access.Session) func(context.Context, *mpi.Person, string) (bool, error) {
	known := map[string]policy.Facts{}
	info, _ := s.Role.Info()
	return func(ctx context.Context, p *mpi.Person, source string) (bool, error) {
		if !s.Opens(p.ID) {
			return false, nil
		}
		f, ok := known[p.ID]
		if !ok {
			var err error
			if f, err = x.g.facts(ctx, s, p); err != nil {
				return false, err
			}
			if !info.Clinical && slices.Contains(info.Purposes, policy.Administration) { // so that one can be known
				f.Relationships, f.Purpose = append(f.Relationships, policy.Identifying), policy.Administration
			}
			known[p.ID] = f
		}
		agreed, _, _ := x.g.o.Agreed.InForce()
		sys, ok := agreed.System(source)
		if !ok {
			return false, nil
		}
		f.Heading, f.Source = dataset.Demographics, policy.SourceOf(sys, agreed)
		return policy.Decide(f).Permit, nil
	}
}

// may is told, and remembers who is kept back.
func (x *Identities) may(ctx context.Context) func(p *mpi.Person, source string) (bool, error) {
	return func(p *mpi.Person, source string) (bool, error) {
		ok, err := x.told(ctx, p, source)
		if err == nil && !ok {
			x.KeepBack(p)
		}
		return ok, err
	}
}

// Shares reports whether a source shares demographics with the system that asks at all.
func (x *Identities) Shares(source string) bool { return x.shares(source) }

// KeepBack remembers that somebody was found and is not told of.
func (x *Identities) KeepBack(p *mpi.Person) { x.refuse[p.ID] = p }

// As gives what may be told of a person; nil if nothing may.
func (x *Identities) As(ctx context.Context, p *mpi.Person) (*Identified, error) {
	ok := map[string]bool{}
	for _, q := range p.Patients {
		may, err := x.told(ctx, p, q.Source)
		if err != nil {
			return nil, err
		}
		ok[q.Source] = may
	}
	t := p.ToldBy(func(source string) bool { return ok[source] })
	if t == nil {
		x.KeepBack(p)
		return nil, nil
	}
	d := policy.Decision{}
	if p.Restricted {
		d.Obligations = append(d.Obligations, policy.WithholdLocation)
	}
	out := &Identified{Person: x.g.shown(t, d)}
	out.Merged = nil
	for _, q := range t.Patients {
		if q.ReplacedBy == "" {
			out.Patients = append(out.Patients, q)
		}
	}
	out.Identifiers = x.numbers(p, t)
	return out, nil
}

// numbers are the identifiers in use that may be told of: of a restricted person only the national ones and the asker's own, since a hospital's number says where
// they are treated.
func (x *Identities) numbers(p, told *mpi.Person) []fhir.Identifier {
	var out []fhir.Identifier
	for _, q := range told.Patients {
		if q.ReplacedBy != "" {
			continue
		}
		for _, id := range q.Identifiers {
			id = id.Canonical()
			switch {
			case id.Use == "old" || id.Check() != nil || q.Doubts(id) || id.System == fhir.SystemNHSNumber && id.Value != told.NHSNumber:
			case p.Restricted && !national(id.System) && q.Source != x.own:
			case !slices.ContainsFunc(out, func(o fhir.Identifier) bool { return o.System == id.System && o.Value == id.Value }):
				out = append(out, fhir.Identifier{System: id.System, Value: id.Value})
			}
		}
	}
	return out
}

// Match finds who may be meant by a description, the likeliest first, at most count. certain keeps only a match about which there is no doubt. query is for the audit,
// and says nothing of anybody. FHIR R4 patient-operation-match.html
func (x *Identities) Match(ctx context.Context, d match.Description, count int, certain bool, query string) ([]Identified, error) {
	if count <= 0 || count > mostTold {
		count = mostTold
	}
	found, err := x.g.o.People.Match(ctx, d, count, x.may(ctx))
	if err != nil {
		return nil, err
	}
	var out []Identified
	for _, c := range found {
		if certain && c.Grade != "certain" {
			continue
		}
		t, err := x.As(ctx, c.Person)
		if err != nil {
			return nil, err
		}
		if t == nil {
			continue
		}
		t.Score, t.Grade, t.Why = c.Probability, c.Grade, c.Why()
		out = append(out, *t)
	}
	return out, x.Remember(ctx, query, out)
}

// A Wanted is who a search is about.
type Wanted struct {
	Person      string              // id of the person, or of a source patient; "" for anybody
	Identifiers [][]fhir.Identifier // one of each of these
	Search      search.Query        // what the demographics of a source must say; no Params: anything
	Located     bool                // something of it is about where people live or how they are reached
	Maiden      string              // begins the mother's family name before marriage
}

// Find finds the people who are wanted. Of type Required if it does not say who is meant, TooCostly if that is too many.
func (x *Identities) Find(ctx context.Context, w Wanted, query string) ([]Identified, error) {
	ids, err := x.candidates(ctx, w)
	if err != nil {
		return nil, err
	}
	var out []Identified
	for _, id := range ids {
		p, err := x.g.o.People.Person(ctx, id)
		if fhir.Is(err, fhir.NotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		t, err := x.As(ctx, p)
		if err != nil {
			return nil, err
		}
		if t == nil {
			continue
		}
		if ok, err := x.answers(ctx, w, t); err != nil {
			return nil, err
		} else if !ok {
			continue
		}
		if out = append(out, *t); len(out) > mostTold {
			return nil, fhir.Errorf(fhir.TooCostly, "more than %d people answer to this: say more of who is meant", mostTold)
		}
	}
	return out, x.Remember(ctx, query, out)
}

// candidates are those whom the most telling part of a search leads to.
func (x *Identities) candidates(ctx context.Context, w Wanted) ([]string, error) {
	var out []string
	add := func(id string, err error) error {
		if fhir.Is(err, fhir.NotFound) {
			return nil
		}
		if err == nil && !slices.Contains(out, id) {
			out = append(out, id)
		}
		return err
	}
	switch {
	case w.Person != "":
		p, err := x.g.o.People.Person(ctx, w.Person)
		if err == nil {
			return []string{p.ID}, nil
		}
		if !fhir.Is(err, fhir.NotFound) {
			return nil, err
		}
		return out, add(x.g.o.People.PersonOf(ctx, w.Person))
	case len(w.Identifiers) > 0:
		for _, id := range w.Identifiers[0] {
			if err := add(x.g.o.People.Resolve(ctx, id)); err != nil {
				return nil, err
			}
		}
		return out, nil
	case len(w.Search.Params) == 0:
		return nil, fhir.Errorf(fhir.Required, "say who is meant: an identifier, a name, a birth date, a telephone number or a postcode")
	}
	return x.g.o.People.Found(ctx, w.Search)
}

// answers holds somebody to all that is wanted, by what may be told of them.
func (x *Identities) answers(ctx context.Context, w Wanted, t *Identified) (bool, error) {
	if w.Located && t.Restricted {
		return false, nil
	}
	for _, any := range w.Identifiers {
		if !slices.ContainsFunc(any, func(id fhir.Identifier) bool {
			return slices.ContainsFunc(t.Patients, func(q mpi.Patient) bool { // also by a number that they had before
				return slices.ContainsFunc(q.Identifiers, func(own fhir.Identifier) bool {
					own = own.Canonical()
					return own.System == id.System && own.Value == id.Value && !q.Doubts(own)
				})
			})
		}) {
			return false, nil
		}
	}
	if w.Maiden != "" && !slices.ContainsFunc(t.Patients, func(q mpi.Patient) bool { return mpi.Begins(w.Maiden, q.Maiden) }) {
		return false, nil
	}
	if len(w.Search.Params) == 0 {
		return true, nil
	}
	for _, q := range t.Patients {
		r, err := x.g.o.Kept.Read(ctx, fhir.MakeRef("Patient", q.ID))
		if fhir.Is(err, fhir.NotFound) || fhir.Is(err, fhir.Deleted) {
			continue
		}
		if err != nil {
			return false, err
		}
		if ok, err := search.Matches(w.Search, r); err != nil || ok {
			return ok, err
		}
	}
	return false, nil
}

// Knows reports whether identifiers of a system are known here at all.
func (x *Identities) Knows(ctx context.Context, system string) (bool, error) {
	return x.g.o.People.KnowsSystem(ctx, fhir.CanonicalSystem(system))
}

// Sender says what the asking program calls itself.
func (x *Identities) Sender(name string) { x.ask.Agent.Device = name }

// Remember writes a question into the audit log, under each person whom the answer tells of, and each whom it keeps from the asker: no audit, no bytes.
func (x *Identities) Remember(ctx context.Context, query string, told []Identified) error {
	e := x.ask
	e.Query = query
	e.What = []string{"told of: " + strconv.Itoa(len(told)), "policy: " + policy.Version}
	var all []audit.Event
	for _, t := range told {
		one := e
		one.PersonID, one.NHSNumber = t.ID, t.NHSNumber
		all = append(all, one)
		delete(x.refuse, t.ID)
	}
	for id, p := range x.refuse {
		one := e
		one.PersonID, one.Outcome = id, audit.Minor
		one.NHSNumber, _ = fhir.ParseNHSNumber(p.NHSNumber)
		all = append(all, one)
	}
	clear(x.refuse)
	if len(all) == 0 {
		all = append(all, e)
	}
	if _, err := x.g.o.Audit.AppendAll(ctx, all); err != nil {
		return fhir.Errorf(fhir.NoStore, "the question could not be recorded, so it is not answered: %w", err)
	}
	return nil
}
