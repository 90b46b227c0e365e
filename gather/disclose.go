package gather

import (
	"slices"

	"tombolo/dataset"
	"tombolo/fhir"
	"tombolo/policy"
)

// discloser labels everything that one source says of the person, all of it together since one entry's sensitivity is also that of what
// belongs to it, and then decides on each. What it returns gives the entry as it may be shown under a heading, its labels written into
// it, or nil. besides are entries that are not to be shown whatever they are, units those that made what is in content. Pointers bear the labels of what they
// lead to in what others have said, and what they lead to bears theirs.
func (op *opening) discloser(l *lane, content, besides []*fhir.Resource, units []*policy.Units) func(i int, h dataset.Heading) *fhir.Resource {
	agreed, sensitive, _ := op.g.o.Agreed.InForce()
	all := slices.Concat(content, besides)
	var labels []policy.Labels
	if l.Kind == locatorLane {
		labels = sensitive.Pointers(all, &op.trail, func(ods string) policy.Labels { return policy.LabelsOfHolder(agreed, ods) })
	} else {
		labels = sensitive.LabelsLed(all, op.lead, l.system.Organisation)
		op.trail.Mark(all, labels, l.system.Organisation)
	}
	filters := map[dataset.Heading]*policy.Filter{}
	var linked policy.Linked
	decide := func(i int, h dataset.Heading) (bool, string) {
		x := filters[h]
		if x == nil {
			f := l.facts
			f.Heading = h
			x = policy.NewFilter(f)
			filters[h] = x
		}
		item := &policy.Item{Labels: labels[i]}
		if x.NeedsItems() {
			if linked == nil {
				linked = x.Follow(all)
			}
			item = policy.ItemOf(all[i], labels[i])
			item.Linked = linked
		}
		switch {
		case units != nil:
			item.Units = units[i]
		case l.facts.Source.Divided(): // it could not be told
			item.Units = policy.Unknown
		}
		return x.Decide(item)
	}
	var written []policy.Labels
	return func(i int, h dataset.Heading) *fhir.Resource {
		if !op.session.Shows(content[i]) { // the application's scopes
			return nil
		}
		ok, stage := decide(i, h)
		if !ok {
			return nil
		}
		if written == nil {
			if written = labels; len(op.facts.Person.Choices) > 0 && l.Kind != locatorLane {
				written = unknowing(all, labels, decide, func(rs []*fhir.Resource) []policy.Labels {
					return sensitive.LabelsLed(rs, op.lead, l.system.Organisation)
				})
			}
		}
		if stage != "" && h != "" && l.Stage != "testers" {
			l.Stage = stage
		}
		return staged(policy.Labelled(content[i], written[i]), stage)
	}
}

// unknowing are the labels as they are written into what is shown: those that would be computed if there were nothing but what this user may see. What decides is
// what belongs to everything; but a label that comes of what the person does not want seen would tell of it.
func unknowing(all []*fhir.Resource, labels []policy.Labels, decide func(i int, h dataset.Heading) (bool, string), compute func([]*fhir.Resource) []policy.Labels) []policy.Labels {
	var may []*fhir.Resource
	var at []int
	for i, r := range all {
		if ok, _ := decide(i, dataset.HeadingOf(r)); ok {
			may, at = append(may, r), append(at, i)
		}
	}
	if len(may) == len(all) {
		return labels
	}
	out := make([]policy.Labels, len(all))
	for k, l := range compute(may) {
		out[at[k]] = l
	}
	return out
}
