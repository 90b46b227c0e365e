package gather

import (
	"context"
	"encoding/json"

	"tombolo/access"
	"tombolo/connector"
	"tombolo/dataset"
	"tombolo/fhir"
	"tombolo/policy"
)

// Staged release (region.Release): whose units' data, under which headings, is switched on for whom. Policy decides on each entry like on any other
// question; here is what a record must say of it without telling what is held back.

// divide notes the headings of a lane under which there may be entries that are not released to the user. That depends on the region file and the user and not on the
// person, so that it tells nothing of them.
func (l *lane) divide() {
	for _, h := range l.permits {
		f := l.facts
		if f.Heading = h; policy.InPart(f) {
			if l.InPart == nil {
				l.InPart = map[dataset.Heading]bool{}
			}
			l.InPart[h] = true
		}
	}
}

// unseen reports whether nothing of what a source holds of the person may show, as it stands: then that it knows them may not show either.
func (l *lane) unseen() bool { return l.InPart != nil && l.Count == 0 }

// cover makes a lane of which the user sees a part by release, and nothing of this person, the same whether or not the source knows them.
func (l *lane) cover() {
	if !l.unseen() || l.State != Answered && l.State != NotHere {
		return
	}
	l.State, l.Map, l.live, l.Issue, l.Warnings, l.support, l.Reaches = Answered, "", "", nil, nil, nil, nil
	for _, h := range l.permits {
		l.Headings[h] = dataset.NotKnown
		if l.InPart[h] {
			l.Headings[h] = dataset.NotShared
		}
	}
}

// units are those that made each of the entries; nil for a source whose release does not depend on them.
func (g *Gatherer) units(ctx context.Context, l *lane, entries []*fhir.Resource) []*policy.Units {
	if !l.facts.Source.Divided() {
		return nil
	}
	return policy.UnitsOf(entries, func(ref fhir.Ref) *fhir.Resource {
		r, err := g.o.Kept.Read(ctx, ref)
		if err != nil || connector.SourceOf(r) != l.key { // it is not there, or cannot be read: which unit it is cannot be told
			return nil
		}
		return r
	})
}

// staged writes into an entry which a tester sees before others under which stage of its release that is.
func staged(r *fhir.Resource, stage string) *fhir.Resource {
	if stage == "" {
		return r
	}
	meta := fhir.M{}
	var tags []any
	for m := range r.Value().Member("meta").Children() {
		if m.Key() != "tag" {
			meta[m.Key()] = json.RawMessage(m.Raw())
		}
	}
	for t := range r.Value().Member("meta").All("tag") {
		if t.Text("system") != policy.SystemStage { // it is ours to say
			tags = append(tags, json.RawMessage(t.Raw()))
		}
	}
	meta["tag"] = append(tags, fhir.Coding{System: policy.SystemStage, Code: stage, Display: "Released to " + stage + " only"})
	return r.With("meta", meta)
}

// StageOf is the stage of release under which a tester sees an entry before others do, "" if it is released to whoever may see it.
func StageOf(r *fhir.Resource) string {
	for t := range r.Value().Member("meta").All("tag") {
		if t.Text("system") == policy.SystemStage {
			return t.Text("code")
		}
	}
	return ""
}

// referred are those of what supports a lane's entries that one of them, or of these, refers to, with the products that entries were told by: the rest belongs to
// what is not shown.
func referred(support map[fhir.Ref]*fhir.Resource, members map[dataset.Heading][]Member, products []*fhir.Resource) map[fhir.Ref]*fhir.Resource {
	out := map[fhir.Ref]*fhir.Resource{}
	var follow func(r *fhir.Resource)
	follow = func(r *fhir.Resource) {
		_, _ = fhir.MapReferences(r, func(_ fhir.Value, reference string) ([]byte, bool) {
			ref := fhir.Ref(reference)
			if s, ok := support[ref]; ok && out[ref] == nil {
				out[ref] = s
				follow(s)
			}
			return nil, false
		})
	}
	for _, p := range products {
		if out[p.Ref()] == nil {
			out[p.Ref()] = p
			follow(p)
		}
	}
	for _, ms := range members {
		for _, m := range ms {
			follow(m.Resource)
		}
	}
	return out
}

// sharedWith decides by its source's release alone whether something that is nobody's record, an organisation or a product, may be shown.
func (g *Gatherer) sharedWith(ctx context.Context, s *access.Session, r *fhir.Resource) bool {
	agreed, _, _ := g.o.Agreed.InForce()
	sys, ok := agreed.System(connector.SourceOf(r))
	if !ok {
		return true // this node's own, or a register's: no system releases it
	}
	l := &lane{key: sys.ID, facts: policy.Facts{Subject: subject(s, agreed), Channel: channel(s), Source: policy.SourceOf(sys, agreed), At: g.o.Now()}}
	if u := g.units(ctx, l, []*fhir.Resource{r}); u != nil {
		l.facts.Item = &policy.Item{Units: u[0]}
	}
	return policy.Released(l.facts)
}
