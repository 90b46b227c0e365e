package search

import (
	"context"
	"net/url"
	"slices"
	"strings"

	"tombolo/fhir"
)

// Limits on searches that look at other resources too.
const (
	maxHops    = 4      // of one chain
	maxLinked  = 20_000 // resources at one end of a link
	maxInclude = 2_000  // resources that come with one page
)

// parseChain reads "subject:Patient.name", "patient.organization.name" or "_has:Observation:patient:code". FHIR R4 search.html#chaining
func parseChain(typ, name, value string, hops int) (Chain, error) {
	c := Chain{Name: name, Raw: value}
	if hops == maxHops {
		return c, fhir.Errorf(fhir.TooCostly, "a chain has at most %d links.", maxHops)
	}
	rest := ""
	if has, ok := strings.CutPrefix(name, "_has:"); ok {
		parts := strings.SplitN(has, ":", 3)
		if len(parts) < 3 {
			return c, fhir.Errorf(fhir.Invalid, "is written _has:Type:reference:parameter=value.").At("_has")
		}
		c.Has, c.Types, c.Via, rest = true, []string{parts[0]}, parts[1], parts[2]
		if !fhir.IsType(parts[0]) {
			return c, fhir.Errorf(fhir.Invalid, "%s is not a FHIR R4 resource type.", readable(parts[0])).At("_has")
		}
		d := lookup(parts[0], parts[1])
		if d == nil || d.Kind != KindReference || len(d.Targets) > 0 && !slices.Contains(d.Targets, typ) {
			return c, fhir.Errorf(fhir.Invalid, "%s has no reference %s to a %s.", parts[0], readable(parts[1]), typ).At("_has")
		}
	} else {
		var link string
		link, rest, _ = strings.Cut(name, ".")
		via, target, typed := strings.Cut(link, ":")
		d := lookup(typ, via)
		if d == nil || d.Kind != KindReference {
			return c, fhir.Errorf(fhir.Invalid, "%s has no reference parameter %s to follow.", typ, readable(via)).At(named(via))
		}
		c.Via, c.Types = via, d.Targets
		if typed {
			if !fhir.IsType(target) || len(d.Targets) > 0 && !slices.Contains(d.Targets, target) {
				return c, fhir.Errorf(fhir.Invalid, "%s of a %s is no reference to a %s.", via, typ, readable(target)).At(named(via))
			}
			c.Types = []string{target}
		}
		if len(c.Types) == 0 {
			return c, fhir.Errorf(fhir.Invalid, "%s may be of any type: say which, %s:Type.%s.", via, via, rest).At(named(via))
		}
	}
	return c, c.parseEnd(rest, value, hops)
}

// named is a name that may be repeated as the place of an error: what looks like a person's number is not.
func named(name string) string {
	if nameLike.MatchString(name) {
		return name
	}
	return "?"
}

// parseEnd reads what the others must answer: of those types that have the parameter.
func (c *Chain) parseEnd(rest, value string, hops int) error {
	var kept []string
	var failed error
	for _, t := range c.Types {
		if strings.HasPrefix(rest, "_has:") || strings.Contains(rest, ".") {
			inner, err := parseChain(t, rest, value, hops+1)
			if err != nil {
				failed = err
				continue
			}
			c.Chains = []Chain{inner}
			kept = append(kept, t)
			continue
		}
		q, _, err := Parse(t, url.Values{rest: {value}}, true)
		if err != nil || len(q.Params) == 0 {
			failed = err
			continue
		}
		c.Params = q.Params
		kept = append(kept, t)
	}
	if len(kept) == 0 {
		if i := fhir.IssueOf(failed); i != nil {
			return i
		}
		return fhir.Errorf(fhir.Invalid, "the chain %s does not end in a search parameter.", readable(c.Name))
	}
	c.Types = kept
	return nil
}

// include reads "_include=Observation:subject:Patient", "_revinclude:iterate=…". FHIR R4 search.html#include
func (p *parser) include(name, modifier, value string) error {
	inc := Include{Iterate: modifier == "iterate" || modifier == "recurse"}
	if modifier != "" && !inc.Iterate {
		return fhir.Errorf(fhir.Invalid, "takes the modifier :iterate only.")
	}
	parts := strings.SplitN(value, ":", 3)
	inc.Type = parts[0]
	if len(parts) > 1 {
		inc.Name = parts[1]
	}
	if len(parts) > 2 {
		inc.Target = parts[2]
	}
	switch {
	case value == "*", value == "*:*":
		inc.Type, inc.Name = "*", "*"
	case inc.Name == "" || !fhir.IsType(inc.Type) || inc.Target != "" && !fhir.IsType(inc.Target):
		return fhir.Errorf(fhir.Invalid, "is written %s=Type:parameter, with :Type after it for one kind of target, or *.", name)
	case inc.Name != "*":
		if d := lookup(inc.Type, inc.Name); d == nil || d.Kind != KindReference {
			return fhir.Errorf(fhir.Invalid, "%s has no reference parameter %s.", inc.Type, readable(inc.Name))
		}
	}
	if name == "_include" {
		p.q.Include = append(p.q.Include, inc)
	} else {
		p.q.RevInclude = append(p.q.RevInclude, inc)
	}
	return nil
}

func (inc Include) text(name string) (string, string) {
	if inc.Iterate {
		name += ":iterate"
	}
	v := inc.Type
	if inc.Name != "" && inc.Type != "*" {
		v += ":" + inc.Name
	}
	if inc.Target != "" {
		v += ":" + inc.Target
	}
	return name, v
}

// Resolve asks a searcher what a query's Chains mean, and gives the query with them as references. The answer is that of the moment of asking.
func Resolve(ctx context.Context, s Searcher, q Query) (Query, error) {
	q, err := terms(ctx, s, q)
	if err == nil {
		q, err = listed(ctx, s, q)
	}
	if err != nil {
		return q, err
	}
	chains := q.Chains
	q.Chains = nil
	for _, c := range chains {
		found, err := c.others(ctx, s, q)
		if err != nil {
			return q, err
		}
		if c.Has {
			q.only(found.targets(c.Via, q.Type, q.Base))
			continue
		}
		p := Param{Name: c.Via, refs: map[fhir.Ref]bool{}}
		for _, r := range found {
			p.refs[r.Ref()] = true
			p.Values = append(p.Values, string(r.Ref()))
		}
		if len(found) == 0 {
			q.only(nil)
			continue
		}
		q.Params = append(slices.Clip(q.Params), p)
	}
	return q, nil
}

// only keeps a query to these, and those it was kept to before.
func (q *Query) only(refs map[fhir.Ref]bool) {
	if q.Any != nil {
		for r := range q.Any {
			if !refs[r] {
				delete(q.Any, r)
			}
		}
		return
	}
	if q.Any = refs; refs == nil {
		q.Any = map[fhir.Ref]bool{}
	}
}

type resources []*fhir.Resource

// others finds the resources at the other end of a chain.
func (c Chain) others(ctx context.Context, s Searcher, q Query) (resources, error) {
	var out resources
	for _, t := range c.Types {
		inner, err := Resolve(ctx, s, Query{Type: t, Params: c.Params, Chains: c.Chains, Source: q.Source, Base: q.Base})
		if err != nil {
			return nil, err
		}
		for inner.Count = 1000; ; {
			page, err := s.Search(ctx, inner)
			if err != nil {
				return nil, err
			}
			if out = append(out, page.Resources...); len(out) > maxLinked {
				return nil, fhir.Errorf(fhir.TooCostly, "more than %d resources answer the end of the chain: make it more exact", maxLinked).At(c.Via)
			}
			if inner.Cursor = page.Next; page.Next == "" {
				break
			}
		}
	}
	return out, nil
}

// targets are the resources of a type to which these refer by a parameter.
func (rs resources) targets(via, typ, base string) map[fhir.Ref]bool {
	out := map[fhir.Ref]bool{}
	for _, r := range rs {
		for _, ref := range referred(r, via, base) {
			if ref.Type() == typ {
				out[ref] = true
			}
		}
	}
	return out
}

// referred are the resources of this server to which r refers by a parameter.
func referred(r *fhir.Resource, name, base string) []fhir.Ref {
	d := lookup(r.Type(), name)
	if d == nil || d.Kind != KindReference {
		return nil
	}
	var out []fhir.Ref
	d.each(r.Value(), func(v found) bool {
		if ref := parseReference(literal(v)); ref.id != "" && (ref.base == "" || ref.base == base) {
			out = append(out, fhir.MakeRef(ref.typ, ref.id))
		}
		return true
	})
	return out
}

// A Lookup gives current resources by reference, those that are there and may be seen.
type Lookup func(ctx context.Context, refs ...fhir.Ref) ([]*fhir.Resource, error)

// Included finds what comes with a page of matches: each resource once, none that is a match itself. FHIR R4 search.html#include
func Included(ctx context.Context, s Searcher, look Lookup, q Query, matches []*fhir.Resource) ([]*fhir.Resource, error) {
	if len(q.Include) == 0 && len(q.RevInclude) == 0 {
		return nil, nil
	}
	seen := map[fhir.Ref]bool{}
	for _, r := range matches {
		seen[r.Ref()] = true
	}
	var out []*fhir.Resource
	from := matches
	for round := 0; len(from) > 0 && round <= maxHops; round++ {
		forward, err := included(ctx, look, q, from, round > 0, seen)
		if err != nil {
			return nil, err
		}
		back, err := revIncluded(ctx, s, q, from, round > 0, seen)
		if err != nil {
			return nil, err
		}
		from = append(forward, back...)
		if out = append(out, from...); len(out) > maxInclude {
			return nil, fhir.Errorf(fhir.TooCostly, "more than %d resources would come with this page: ask for fewer matches with _count, or include less", maxInclude).At("_include")
		}
	}
	return out, nil
}

func included(ctx context.Context, look Lookup, q Query, from []*fhir.Resource, again bool, seen map[fhir.Ref]bool) ([]*fhir.Resource, error) {
	var want []fhir.Ref
	for _, r := range from {
		for _, inc := range q.Include {
			if again && !inc.Iterate || inc.Type != "*" && inc.Type != r.Type() {
				continue
			}
			for _, name := range inc.names(r.Type()) {
				for _, ref := range referred(r, name, q.Base) {
					if !seen[ref] && (inc.Target == "" || inc.Target == ref.Type()) {
						seen[ref] = true
						want = append(want, ref)
					}
				}
			}
		}
	}
	if len(want) == 0 {
		return nil, nil
	}
	return look(ctx, want...)
}

// names are the reference parameters that an include follows from a type.
func (inc Include) names(typ string) []string {
	if inc.Name != "*" {
		return []string{inc.Name}
	}
	var out []string
	for _, d := range Defs(typ) {
		if d.Kind == KindReference {
			out = append(out, d.Name)
		}
	}
	return out
}

func revIncluded(ctx context.Context, s Searcher, q Query, from []*fhir.Resource, again bool, seen map[fhir.Ref]bool) ([]*fhir.Resource, error) {
	var out []*fhir.Resource
	for _, inc := range q.RevInclude {
		if again && !inc.Iterate {
			continue
		}
		for _, name := range inc.names(inc.Type) {
			p := Param{Name: name, refs: map[fhir.Ref]bool{}}
			d := lookup(inc.Type, name)
			for _, r := range from {
				if d != nil && (len(d.Targets) == 0 || slices.Contains(d.Targets, r.Type())) && (inc.Target == "" || inc.Target == r.Type()) {
					p.refs[r.Ref()] = true
					p.Values = append(p.Values, string(r.Ref()))
				}
			}
			if len(p.Values) == 0 {
				continue
			}
			inner := Query{Type: inc.Type, Params: []Param{p}, Source: q.Source, Base: q.Base, Count: 1000}
			for {
				page, err := s.Search(ctx, inner)
				if err != nil {
					return nil, err
				}
				for _, r := range page.Resources {
					if !seen[r.Ref()] {
						seen[r.Ref()] = true
						out = append(out, r)
					}
				}
				if inner.Cursor = page.Next; page.Next == "" || len(out) > maxInclude {
					break
				}
			}
		}
	}
	return out, nil
}
