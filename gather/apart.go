package gather

import (
	"context"
	"slices"

	"tombolo/connector"
	"tombolo/fhir"
	"tombolo/mpi"
)

// apart gives the people whom stewards have told apart from the one whose record is opened: they may bear the same number and the same name, so that nothing in
// a source's answer tells which of them it is about.
func (g *Gatherer) apart(ctx context.Context, of *mpi.Person) ([]*mpi.Person, error) {
	var out []*mpi.Person
	for _, q := range of.Patients {
		for _, other := range q.Apart {
			id, err := g.o.People.PersonOf(ctx, other)
			if fhir.Is(err, fhir.NotFound) || err == nil && (id == of.ID || slices.ContainsFunc(out, func(p *mpi.Person) bool { return p.ID == id })) {
				continue
			}
			if err != nil {
				return nil, err
			}
			p, err := g.o.People.Person(ctx, id)
			if fhir.Is(err, fhir.NotFound) {
				continue
			}
			if err != nil {
				return nil, err
			}
			out = append(out, p)
		}
	}
	return out, nil
}

// toldApart holds an answer to what stewards have said: one about a patient who is somebody else's by their word is not shown, nor one that may as well be about
// somebody from whom they have told this person apart. live is this server's id of the patient whom it is about. nil: the answer stands.
func (g *Gatherer) toldApart(ctx context.Context, op *opening, l *lane, ans *connector.Answer, live string) *fhir.Issue {
	if ans.Patient == nil || !slices.ContainsFunc(op.person.Patients, func(q mpi.Patient) bool { return len(q.Apart) > 0 }) {
		return nil
	}
	others, err := g.apart(ctx, op.person)
	home := ""
	if err == nil && !l.elsewhere() {
		if home, err = g.o.People.PersonOf(ctx, live); fhir.Is(err, fhir.NotFound) {
			home, err = "", nil
		}
	}
	if err != nil {
		g.o.Logger.Error("it could not be read whom stewards have told apart, so a source's answer was not shown", "source", l.Source, "error", err)
		return fhir.Errorf(fhir.Exception, "it could not be found out whom %s answered about, so its answer is not shown", l.Name).From(l.Source)
	}
	if home == op.person.ID {
		return nil
	}
	p := mpi.FromResource(l.Source, ans.Patient)
	for _, other := range others {
		switch {
		case home == other.ID:
			return fhir.Errorf(fhir.BusinessRule, "the person whom %s knows by this number is somebody else: a steward has said so, and its answer is not shown", l.Name).From(l.Source)
		case home == "" && mpi.Agree(other.Name, p.Name, other.BirthDate, p.BirthDate) && sharesNumber(other, op.identifiers()):
			return fhir.Errorf(fhir.BusinessRule, "two people bear this number, and nobody has said yet which of them %s knows by it: its answer is not shown until a steward has", l.Name).From(l.Source)
		}
	}
	return nil
}

// sharesNumber reports whether somebody bears one of these numbers too.
func sharesNumber(p *mpi.Person, numbers []fhir.Identifier) bool {
	return slices.ContainsFunc(p.Patients, func(q mpi.Patient) bool {
		return slices.ContainsFunc(q.Identifiers, func(id fhir.Identifier) bool {
			id = id.Canonical()
			return slices.ContainsFunc(numbers, func(n fhir.Identifier) bool { return n.System == id.System && n.Value == id.Value })
		})
	})
}
