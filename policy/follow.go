package policy

import (
	"tombolo/fhir"
)

// Linked says what belongs to the resources that a person's choices name, of all that one source says of them: by Datum, the references of it.
type Linked map[Datum]map[fhir.Ref]bool

// Follow finds what belongs to the resources that choices name as "dependents" or "related", of all that one source says of one person. FHIR R4 means by the first what
// refers to the resource and by the second also what it refers to, one reference far (valueset-consent-data-meaning.html). Whoever objects to a thing being seen means what
// tells of it: the report of the order, its result, the letter about it. So an objection is followed on from there as labels are, until nothing more is
// found: not by way of an encounter, nor of what gathers many entries, nor to an allergy. A permission is not followed: it goes one reference far.
func (cs Choices) Follow(rs []*fhir.Resource) Linked {
	var out Linked
	var c *closure
	for i := range cs {
		cs[i].Root.eachDatum(func(d Datum) {
			if d.Meaning != "dependents" && d.Meaning != "related" || out[d] != nil {
				return
			}
			if c == nil {
				c, out = newClosure(rs, make([]Labels, len(rs))), Linked{}
			}
			out[d] = c.belongs(fhir.Ref(d.Ref), d.Meaning == "related")
		})
	}
	return out
}

func (p *Provision) eachDatum(visit func(Datum)) {
	for _, d := range p.Data {
		visit(d)
	}
	for i := range p.Exceptions {
		p.Exceptions[i].eachDatum(visit)
	}
}

// belongs are the entries that belong to a resource, whether or not it is among them itself. Each is visited once, so it ends.
func (c *closure) belongs(to fhir.Ref, related bool) map[fhir.Ref]bool {
	found := map[fhir.Ref]bool{}
	var queue []int
	enter := func(i int) {
		if ref := c.rs[i].Ref(); ref != to && !found[ref] {
			found[ref] = true
			queue = append(queue, i)
		}
	}
	for i, r := range c.rs {
		eachReference(r.Value(), func(ref string) {
			switch {
			case ref == string(to):
				enter(i)
			case related && r.Ref() == to && !neverFollowed[fhir.Ref(ref).Type()]:
				found[fhir.Ref(ref)] = true // it belongs, and leads no further
			}
		})
	}
	for len(queue) > 0 {
		i := queue[0]
		queue = queue[1:]
		if gathers[c.rs[i].Type()] || c.rs[i].Type() == "Encounter" {
			continue
		}
		for _, j := range c.links[i] {
			if c.rs[j].Type() != "AllergyIntolerance" {
				enter(j)
			}
		}
	}
	return found
}
