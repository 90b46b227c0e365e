package gather

import (
	"context"
	"maps"
	"slices"

	"tombolo/dataset"
	"tombolo/fhir"
	"tombolo/mpi"
	"tombolo/policy"
)

// heard is an answer that was taken, and how its lane stood before.
type heard struct {
	answered
	was Lane
}

// follow takes the locators' answers in, once the sources have said what they may lead to or will not say it any more. It gives how many lanes it closes.
func (op *opening) follow() int {
	n := len(op.pointers)
	var all []*fhir.Resource
	for _, a := range op.pointers {
		all = append(all, a.content...)
		if a.trail != nil {
			op.trail.Add(a.trail)
		}
	}
	_, sensitive, _ := op.g.o.Agreed.InForce()
	if lead := sensitive.Lead(all); !lead.Empty() {
		op.lead.Add(lead)
		op.again()
	}
	for _, a := range op.pointers {
		op.take(a)
	}
	op.pointers = nil
	return n
}

// again takes what the sources answered once more: a locator has said that something of it is sensitive.
func (op *opening) again() {
	for _, h := range op.answers {
		l := h.lane
		l.Lane, l.members, l.support = h.was, map[dataset.Heading][]Member{}, nil
		l.Headings = maps.Clone(l.Headings)
		op.take(h.answered)
	}
}

// Lead leads from the pointers that are registered in this region about a person, and are sensitive by themselves, to what they lead to.
func (g *Gatherer) Lead(ctx context.Context, p *mpi.Person) (*policy.Trail, error) {
	_, sensitive, _ := g.o.Agreed.InForce()
	if g.o.Pointed == nil {
		return sensitive.Lead(nil), nil
	}
	ps, err := g.o.Pointed(ctx, p)
	if err != nil {
		return nil, err
	}
	return sensitive.Lead(ps), nil
}

// Trail leads to what is sensitive of all that every source has sent about a person, whoever asks and whatever for: what a pointer about them may lead to. A damaged
// entry marks nothing, as it is shown to nobody.
func (g *Gatherer) Trail(ctx context.Context, p *mpi.Person) (*policy.Trail, error) {
	agreed, sensitive, _ := g.o.Agreed.InForce()
	var sources []string
	for _, patient := range p.Patients {
		if !slices.Contains(sources, patient.Source) {
			sources = append(sources, patient.Source)
		}
	}
	trail := new(policy.Trail)
	lead, err := g.Lead(ctx, p)
	if err != nil {
		return nil, err
	}
	for _, source := range sources {
		var all []*fhir.Resource
		for r, err := range g.o.Kept.Patient(ctx, p.PatientIDs(source)...) {
			if err == nil {
				all = append(all, r)
			}
		}
		all = append(all, g.products(ctx, all)...)
		sys, _ := agreed.System(source)
		trail.Mark(all, sensitive.LabelsLed(all, lead, sys.Organisation), sys.Organisation)
	}
	return trail, ctx.Err()
}
