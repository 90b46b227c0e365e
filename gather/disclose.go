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
// lead to in what others have said.
func (op *opening) discloser(l *lane, content, besides []*fhir.Resource, units []*policy.Units) func(i int, h dataset.Heading) *fhir.Resource {
	agreed, sensitive, _ := op.g.o.Agreed.InForce()
	all := slices.Concat(content, besides)
	var labels []policy.Labels
	if l.Kind == locatorLane {
		labels = sensitive.Pointers(all, &op.trail, func(ods string) policy.Labels { return policy.LabelsOfHolder(agreed, ods) })
	} else {
		labels = sensitive.Labels(all)
		op.trail.Mark(all, labels, l.system.Organisation)
	}
	filters := map[dataset.Heading]*policy.Filter{}
	var linked policy.Linked
	return func(i int, h dataset.Heading) *fhir.Resource {
		if !op.session.Shows(content[i]) { // the application's scopes
			return nil
		}
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
			item = policy.ItemOf(content[i], labels[i])
			item.Linked = linked
		}
		switch {
		case units != nil:
			item.Units = units[i]
		case l.facts.Source.Divided(): // it could not be told
			item.Units = policy.Unknown
		}
		ok, stage := x.Decide(item)
		if !ok {
			return nil
		}
		if stage != "" && h != "" && l.Stage != "testers" {
			l.Stage = stage
		}
		return staged(policy.Labelled(content[i], labels[i]), stage)
	}
}
