package node

import (
	"cmp"
	"context"
	"slices"

	"tombolo/connector/hl7v2"
	"tombolo/fhir"
	"tombolo/gather"
	"tombolo/mpi"
	"tombolo/policy"
	"tombolo/region"
)

// pdqFeed answers one feed's patient queries (options: {pdq: yes}) in the words of HL7 v2; gather.Identities decides and remembers what it may tell.
type pdqFeed struct {
	n     *Node
	s     region.System
	known map[string]bool // systems of identifiers that are told of
}

// directoryOf is the directory of a feed; nil if the region file gives it none.
func (n *Node) directoryOf(s region.System) (hl7v2.Directory, error) {
	if !s.Asks() {
		return nil, nil
	}
	d := &pdqFeed{n: n, s: s, known: map[string]bool{fhir.SystemNHSNumber: true, fhir.SystemCHI: true, fhir.SystemHCN: true}}
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
func (d *pdqFeed) Knows(system string) bool { return d.known[system] }

// Candidates implements hl7v2.Directory.
func (d *pdqFeed) Candidates(ctx context.Context, q hl7v2.PatientQuery) (hl7v2.Found, error) {
	x := d.n.Gather.IdentitiesFor(d.s)
	x.Sender(q.Sender)
	people, err := d.people(ctx, q, x.Shares)
	if err != nil {
		return hl7v2.Found{}, err
	}
	var found []gather.Identified
	for _, id := range people {
		p, err := d.n.People.Person(ctx, id)
		if fhir.Is(err, fhir.NotFound) { // merged meanwhile
			continue
		}
		if err != nil {
			return hl7v2.Found{}, err
		}
		told, err := x.As(ctx, p)
		if err != nil {
			return hl7v2.Found{}, err
		}
		if told == nil || !answers(q, told) {
			x.KeepBack(p)
			continue
		}
		found = append(found, *told)
	}
	out := hl7v2.Found{Total: len(found)}
	page := found[min(q.Skip, len(found)):]
	page = page[:min(q.Limit, len(page))]
	for _, t := range page {
		out.Candidates = append(out.Candidates, d.candidate(q, t))
	}
	event := "QBP^Q22 "
	if q.Corresponding {
		event = "QBP^Q23 "
	}
	return out, x.Remember(ctx, event+q.Sender+" "+q.Control, page)
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
func (d *pdqFeed) people(ctx context.Context, q hl7v2.PatientQuery, told func(string) bool) ([]string, error) {
	if len(q.Identifiers) == 0 {
		return d.n.People.Find(ctx, description(q), told)
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

func description(q hl7v2.PatientQuery) mpi.Description {
	return mpi.Description{Family: q.Family, Given: q.Given, BirthDate: q.BirthDate, Gender: q.Gender, Line: q.Line, City: q.City, Postcode: q.Postcode}
}

// answers holds somebody to all that the question says of them, where they live only if that may be told, and to a number's being told of.
func answers(q hl7v2.PatientQuery, t *gather.Identified) bool {
	if t.Restricted && (q.Line != "" || q.City != "" || q.Postcode != "") {
		return false
	}
	if len(q.Identifiers) == 0 {
		return true
	}
	has := slices.ContainsFunc(t.Patients, func(k mpi.Patient) bool {
		return slices.ContainsFunc(k.Identifiers, func(own fhir.Identifier) bool {
			own = own.Canonical()
			return slices.ContainsFunc(q.Identifiers, func(id fhir.Identifier) bool { return id.System == own.System && id.Value == own.Value })
		})
	})
	return has && (&mpi.Person{Patients: t.Patients}).Answers(description(q))
}

// candidate is what is told of somebody.
func (d *pdqFeed) candidate(q hl7v2.PatientQuery, t gather.Identified) hl7v2.Candidate {
	c := hl7v2.Candidate{Name: t.Name, BirthDate: t.BirthDate, Gender: t.Gender, Deceased: t.Deceased != "", Address: t.Address, Phone: t.Phone}
	own := func(id fhir.Identifier) bool {
		return slices.ContainsFunc(t.Patients, func(k mpi.Patient) bool {
			return k.Source == d.s.ID && slices.ContainsFunc(k.Identifiers, func(i fhir.Identifier) bool { return i.System == id.System && i.Value == id.Value })
		})
	}
	for _, id := range t.Identifiers {
		asked := q.Corresponding && slices.ContainsFunc(q.Identifiers, func(i fhir.Identifier) bool { return i.System == id.System && i.Value == id.Value })
		wanted := q.Corresponding || id.System == fhir.SystemNHSNumber || own(id) // where nothing else is asked for, others' numbers are no business of the asker's
		if len(q.Systems) > 0 {
			wanted = slices.Contains(q.Systems, id.System)
		}
		if wanted && !asked {
			c.Identifiers = append(c.Identifiers, id)
		}
	}
	slices.SortStableFunc(c.Identifiers, func(a, b fhir.Identifier) int { return cmp.Compare(number(a), number(b)) })
	return c
}

// number puts the NHS number first.
func number(id fhir.Identifier) int {
	if id.System == fhir.SystemNHSNumber {
		return 0
	}
	return 1
}
