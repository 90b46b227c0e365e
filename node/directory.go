package node

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"tombolo/audit"
	"tombolo/connector/hl7v2"
	"tombolo/dataset"
	"tombolo/fhir"
	"tombolo/mpi"
	"tombolo/policy"
	"tombolo/region"
)

// directory answers one feed's patient queries (options: {pdq: yes}) from the identity index. What it may tell is decided before anything is looked up: the
// demographics that each source shares with the organisation that asks. Somebody who objects to sharing is not known here, where a restricted person lives
// is not told, and each question is remembered, under each person who was told of.
type directory struct {
	n     *Node
	s     region.System
	known map[string]bool // systems of identifiers that are told of
}

// directoryOf is the directory of a feed; nil if the region file gives it none.
func (n *Node) directoryOf(s region.System) (hl7v2.Directory, error) {
	on := strings.ToLower(n.option(s, "pdq"))
	if yes, _ := strconv.ParseBool(on); !yes && on != "yes" && on != "on" {
		return nil, nil
	}
	d := &directory{n: n, s: s, known: map[string]bool{fhir.SystemNHSNumber: true, fhir.SystemCHI: true, fhir.SystemHCN: true}}
	for _, other := range n.c.Region.Systems {
		if other.Connector != "hl7v2" {
			continue
		}
		o, err := HL7Options(other, n.c.Folder)
		if err != nil {
			return nil, err
		}
		for _, system := range o.Authorities() {
			d.known[system] = true
		}
	}
	return d, nil
}

// Knows implements hl7v2.Directory.
func (d *directory) Knows(system string) bool { return d.known[system] }

// Candidates implements hl7v2.Directory.
func (d *directory) Candidates(ctx context.Context, q hl7v2.PatientQuery) (hl7v2.Found, error) {
	told := d.sources()
	people, err := d.people(ctx, q, told)
	if err != nil {
		return hl7v2.Found{}, err
	}
	var found []*mpi.Person
	var denied []*mpi.Person
	for _, id := range people {
		p, err := d.n.People.Person(ctx, id)
		if fhir.Is(err, fhir.NotFound) { // merged meanwhile
			continue
		}
		if err != nil {
			return hl7v2.Found{}, err
		}
		shown := p.ToldBy(told)
		stands, err := d.n.stands(ctx, p)
		if err != nil {
			return hl7v2.Found{}, err
		}
		if shown == nil || !d.may(stands, &d.s).Permit || !answers(q, shown) {
			denied = append(denied, p)
			continue
		}
		found = append(found, shown)
	}
	out := hl7v2.Found{Total: len(found)}
	page := found[min(q.Skip, len(found)):]
	page = page[:min(q.Limit, len(page))]
	for _, p := range page {
		out.Candidates = append(out.Candidates, d.candidate(q, p))
	}
	return out, d.remember(ctx, q, page, denied)
}

// sources decides which sources' demographics the asking organisation may be told from.
func (d *directory) sources() func(string) bool {
	permitted := map[string]bool{}
	for i := range d.n.c.Region.Systems {
		s := &d.n.c.Region.Systems[i]
		permitted[s.ID] = d.may(policy.Person{}, s).Permit
	}
	return func(id string) bool { return permitted[id] }
}

// may decides whether the asking system may be told who somebody is, from what a source says.
func (d *directory) may(person policy.Person, s *region.System) policy.Decision {
	return policy.Decide(policy.Facts{Subject: policy.Subject{Role: policy.Receptionist, Organisation: d.s.Organisation}, Purpose: policy.Administration,
		Person: person, Relationships: []policy.Relationship{policy.Identifying}, Heading: dataset.Demographics, Agreements: d.n.c.Region.Agreements, At: d.n.c.Now(),
		Source: &policy.Source{System: s.ID, Organisation: s.Organisation, Release: s.Release, Gives: s.Gives}})
}

// stands is what the person has chosen.
func (n *Node) stands(ctx context.Context, p *mpi.Person) (policy.Person, error) {
	var ids []string
	for _, pt := range p.Patients {
		ids = append(ids, pt.ID)
	}
	s, _, err := n.Standing.Of(ctx, ids...)
	s.Restricted = p.Restricted
	return s.Person, err
}

// people are those whom a question may mean: by a number, else by all that is said of them.
func (d *directory) people(ctx context.Context, q hl7v2.PatientQuery, told func(string) bool) ([]string, error) {
	if len(q.Identifiers) == 0 {
		return d.n.People.Find(ctx, mpi.Description{Family: q.Family, Given: q.Given, BirthDate: q.BirthDate, Gender: q.Gender, Line: q.Line, City: q.City, Postcode: q.Postcode}, told)
	}
	var out []string
	for _, id := range q.Identifiers {
		person, err := d.n.People.Resolve(ctx, id)
		if fhir.Is(err, fhir.NotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if !slices.Contains(out, person) {
			out = append(out, person)
		}
	}
	return out, nil
}

// answers holds somebody found by a number to all else that the question says of them, and to the number being told of.
func answers(q hl7v2.PatientQuery, p *mpi.Person) bool {
	if len(q.Identifiers) == 0 {
		return true
	}
	has := slices.ContainsFunc(p.Patients, func(k mpi.Patient) bool {
		return slices.ContainsFunc(k.Identifiers, func(own fhir.Identifier) bool {
			own = own.Canonical()
			return slices.ContainsFunc(q.Identifiers, func(id fhir.Identifier) bool { return id.System == own.System && id.Value == own.Value })
		})
	})
	return has && p.Answers(mpi.Description{Family: q.Family, Given: q.Given, BirthDate: q.BirthDate, Gender: q.Gender, Line: q.Line, City: q.City, Postcode: q.Postcode})
}

// candidate is what is told of somebody.
func (d *directory) candidate(q hl7v2.PatientQuery, p *mpi.Person) hl7v2.Candidate {
	c := hl7v2.Candidate{Name: p.Name, BirthDate: p.BirthDate, Gender: p.Gender, Deceased: p.Deceased != ""}
	if !p.Restricted {
		c.Address, c.Phone = p.Address, p.Phone
	}
	add := func(id fhir.Identifier) {
		asked := q.Corresponding && slices.ContainsFunc(q.Identifiers, func(i fhir.Identifier) bool { return i.System == id.System && i.Value == id.Value })
		if !asked && !slices.ContainsFunc(c.Identifiers, func(i fhir.Identifier) bool { return i.System == id.System && i.Value == id.Value }) {
			c.Identifiers = append(c.Identifiers, fhir.Identifier{System: id.System, Value: id.Value})
		}
	}
	wanted := func(system string, own bool) bool {
		if len(q.Systems) > 0 {
			return slices.Contains(q.Systems, system)
		}
		return own || q.Corresponding // where nothing else is asked for, others' numbers are no business of the asker's
	}
	if p.NHSNumber != "" && wanted(fhir.SystemNHSNumber, true) {
		add(fhir.Identifier{System: fhir.SystemNHSNumber, Value: p.NHSNumber})
	}
	for _, k := range p.Patients {
		for _, id := range k.Identifiers {
			if id.System != fhir.SystemNHSNumber && id.Use != "old" && k.ReplacedBy == "" && wanted(id.System, k.Source == d.s.ID) {
				add(id)
			}
		}
	}
	return c
}

// remember writes the question into the audit log, under each person whom the answer tells of, and each whom it keeps from the asker: no audit, no bytes.
func (d *directory) remember(ctx context.Context, q hl7v2.PatientQuery, told, denied []*mpi.Person) error {
	event := "QBP^Q22 "
	if q.Corresponding {
		event = "QBP^Q23 "
	}
	e := audit.Event{Kind: audit.Search, Purpose: policy.Administration.Code(), Query: event + q.Sender + " " + q.Control,
		Agent: audit.Agent{User: d.s.ID, Name: d.s.Product, Organisation: d.s.Organisation, Device: q.Sender},
		What:  []string{"told of: " + strconv.Itoa(len(told)), "policy: " + policy.Version}}
	var all []audit.Event
	about := func(p *mpi.Person, outcome string) {
		one := e
		one.PersonID, one.Outcome = p.ID, outcome
		one.NHSNumber, _ = fhir.ParseNHSNumber(p.NHSNumber)
		all = append(all, one)
	}
	for _, p := range told {
		about(p, "")
	}
	for _, p := range denied {
		about(p, audit.Minor)
	}
	if len(all) == 0 {
		all = append(all, e)
	}
	if _, err := d.n.Audit.AppendAll(ctx, all); err != nil {
		return fhir.Errorf(fhir.NoStore, "the question could not be recorded, so it is not answered: %w", err)
	}
	return nil
}
