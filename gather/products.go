package gather

import (
	"context"
	"slices"

	"tombolo/access"
	"tombolo/connector"
	"tombolo/dataset"
	"tombolo/fhir"
	"tombolo/policy"
	"tombolo/region"
)

// maxProducts bounds how many products of one record are looked up.
const maxProducts = 1000

// products are the medicines that entries of a record name and that lie beside it, because they are nobody's record by themselves: what a medicine is decides
// how sensitive its prescription is, and is its name.
func (g *Gatherer) products(ctx context.Context, rs []*fhir.Resource) []*fhir.Resource {
	var out []*fhir.Resource
	have := map[fhir.Ref]bool{}
	for _, r := range rs {
		if r.Type() == "Medication" {
			have[r.Ref()] = true
		}
	}
	for _, r := range rs {
		switch r.Type() {
		case "MedicationRequest", "MedicationStatement", "MedicationDispense", "MedicationAdministration":
		default:
			continue
		}
		ref := fhir.Ref(r.Text("medicationReference.reference"))
		if ref.Type() != "Medication" || have[ref] || len(out) == maxProducts {
			continue
		}
		have[ref] = true
		if m, err := g.o.Kept.Read(ctx, ref); err == nil && connector.SourceOf(m) == connector.SourceOf(r) {
			out = append(out, m)
		}
	}
	return out
}

// beside gives something that came with a patient's record and names nobody, a product or whoever signed, to whoever may see an entry that refers to it: to others it tells of
// one that they may not.
func (g *Gatherer) beside(ctx context.Context, s *access.Session, patient string, r *fhir.Resource) (*fhir.Resource, error) {
	personID, err := g.o.People.PersonOf(ctx, patient)
	if err != nil {
		return nil, g.deny(ctx, s, "", fhir.Identifier{}, nil)
	}
	op, err := g.open(ctx, s, personID, Ask{Query: string(r.Ref())})
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(op.lanes, func(l *lane) bool { return l.key == connector.SourceOf(r) })
	notShared := []policy.Reason{{Code: "not-shared"}}
	if i < 0 {
		return nil, g.deny(ctx, s, personID, fhir.Identifier{}, notShared)
	}
	l := op.lanes[i]
	if l.support = g.named(ctx, op, l); l.support[r.Ref()] == nil {
		return nil, g.deny(ctx, s, personID, fhir.Identifier{}, notShared)
	}
	r = l.support[r.Ref()]
	if op.decision.Has(policy.WithholdLocation) {
		r = op.whereabouts().withhold(r, l)
	}
	for _, l := range op.lanes {
		if l.State == Asking {
			l.State = NotHere
		}
	}
	l.State, l.support = Answered, map[fhir.Ref]*fhir.Resource{r.Ref(): r}
	return r, g.audit(ctx, op, op.record())
}

// named are those of what a source has sent beside the person's entries that one of them names which the session may see.
func (g *Gatherer) named(ctx context.Context, op *opening, l *lane) map[fhir.Ref]*fhir.Resource {
	var all []*fhir.Resource
	for r, err := range g.o.Kept.Patient(ctx, l.patients...) {
		if err == nil {
			all = append(all, r)
		}
	}
	all = append(all, g.products(ctx, all)...)
	shown := op.discloser(l, all, nil, g.units(ctx, l, all))
	support, members := map[fhir.Ref]*fhir.Resource{}, map[dataset.Heading][]Member{}
	for i, r := range all {
		switch h := dataset.HeadingOf(r); {
		case (supporting[r.Type()] || fhir.TellsOfNobody(r.Type())) && !(op.decision.Has(policy.WithholdLocation) && l.Kind == string(region.KindGP)):
			if r = shown(i, ""); r != nil {
				support[r.Ref()] = r
			}
		case h != "" && slices.Contains(l.permits, h):
			if r = shown(i, h); r != nil {
				members[h] = append(members[h], Member{Resource: r})
			}
		}
	}
	return referred(support, members, nil)
}
