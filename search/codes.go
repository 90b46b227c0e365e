package search

import (
	"context"
	"slices"
	"strings"

	"tombolo/fhir"
)

// The modifiers of tokens that need code systems and value sets: :in, :not-in, :above and :below. Resolve looks them up where the search is done, as resources
// like any other, and puts the codes that they mean in their place. FHIR R4 search.html#modifiers

// maxCodes is how many codes such a parameter may come to.
const maxCodes = 10_000

// byTerminology reports whether a modifier of a token needs a code system or value set.
func byTerminology(d *Def, modifier string) bool {
	return d != nil && d.Kind == KindToken && slices.Contains([]string{"in", "not-in", "above", "below"}, modifier)
}

// checkTerminology reads such a value, as far as that can be done without looking anything up.
func checkTerminology(modifier, value string) error {
	if strings.TrimSpace(value) == "" {
		return fhir.Errorf(fhir.Invalid, "has an empty value")
	}
	if modifier == "above" || modifier == "below" {
		if w, err := parseToken(value); err != nil || w.anySystem || w.anyCode || w.system == "" {
			return fhir.Errorf(fhir.Invalid, "takes system|code with :above and :below: a code alone is of no hierarchy")
		}
	}
	return nil
}

// terms puts codes in the place of value sets and hierarchies.
func terms(ctx context.Context, s Searcher, q Query) (Query, error) {
	var params []Param
	for _, p := range q.Params {
		if !byTerminology(q.def(p.Name), p.Modifier) {
			params = append(params, p)
			continue
		}
		t := &terminologies{ctx: ctx, s: s, source: q.Source}
		codes := map[string]bool{}
		for _, v := range p.Values {
			if err := t.add(codes, p.Modifier, v); err != nil {
				return q, paramError(p, err)
			}
		}
		out := Param{Name: p.Name}
		for c := range codes {
			out.Values = append(out.Values, c)
		}
		slices.Sort(out.Values)
		switch {
		case len(codes) > maxCodes:
			return q, paramError(p, fhir.Errorf(fhir.TooCostly, "comes to more than %d codes: use a smaller value set", maxCodes))
		case p.Modifier == "not-in" && len(codes) == 0:
			continue // nothing is in it
		case len(codes) == 0:
			q.only(nil)
			continue
		case p.Modifier == "not-in":
			out.Modifier = "not"
		}
		params = append(params, out)
	}
	q.Params = params
	return q, nil
}

type terminologies struct {
	ctx    context.Context
	s      Searcher
	source string
	depth  int
}

func (t *terminologies) add(codes map[string]bool, modifier, value string) error {
	if modifier == "in" || modifier == "not-in" {
		return t.valueSet(codes, unescape(value))
	}
	w, err := parseToken(value)
	if err != nil {
		return err
	}
	system, code, _ := cut(value, '|')
	cs, err := t.one("CodeSystem", unescape(system))
	if err != nil {
		return err
	}
	if modifier == "below" {
		t.below(codes, w.system, cs.Value(), unescape(code))
	} else {
		t.above(codes, w.system, cs.Value(), unescape(code))
	}
	codes[codeValue(w.system, unescape(code))] = true // a code is above and below itself
	return nil
}

// codeValue writes a code as a search value.
func codeValue(system, code string) string { return Escape(system) + "|" + Escape(code) }

// one finds the resource with a canonical address, or of a reference.
func (t *terminologies) one(typ, address string) (*fhir.Resource, error) {
	address, version, _ := strings.Cut(address, "|")
	q := Query{Type: typ, Count: 10, Source: t.source, Params: []Param{{Name: "url", Values: []string{Escape(address)}}}}
	if id, ok := strings.CutPrefix(address, typ+"/"); ok {
		q.Params = []Param{{Name: "_id", Values: []string{Escape(id)}}}
	}
	page, err := t.s.Search(t.ctx, q)
	if err != nil {
		return nil, err
	}
	var best *fhir.Resource
	for _, r := range page.Resources {
		if version == "" || r.Text("version") == version {
			best = r
		}
	}
	if best == nil {
		return nil, fhir.Errorf(fhir.NotSupported, "names a %s that is not held here: write it first", typ)
	}
	return best, nil
}

// concepts calls visit with each concept of a code system and the codes above it.
func concepts(v fhir.Value, above []string, visit func(code string, above []string)) {
	for c := range v.All("concept") {
		visit(c.Text("code"), above)
		concepts(c, append(slices.Clip(above), c.Text("code")), visit)
	}
}

func (t *terminologies) below(codes map[string]bool, system string, cs fhir.Value, code string) {
	concepts(cs, nil, func(c string, above []string) {
		if slices.Contains(above, code) {
			codes[codeValue(system, c)] = true
		}
	})
}

func (t *terminologies) above(codes map[string]bool, system string, cs fhir.Value, code string) {
	concepts(cs, nil, func(c string, above []string) {
		if c == code {
			for _, a := range above {
				codes[codeValue(system, a)] = true
			}
		}
	})
}

// valueSet adds the codes of a value set: of its expansion if it has one, else of what it is composed of. FHIR R4 valueset.html#compositions
func (t *terminologies) valueSet(codes map[string]bool, address string) error {
	if t.depth++; t.depth > 10 {
		return fhir.Errorf(fhir.TooCostly, "names value sets that name others without end")
	}
	defer func() { t.depth-- }()
	vs, err := t.one("ValueSet", address)
	if err != nil {
		return err
	}
	if e := vs.Get("expansion.contains"); e.Exists() {
		contains(codes, vs.Value().Member("expansion"))
		return nil
	}
	for inc := range vs.Value().All("compose.include") {
		if err := t.include(codes, inc, true); err != nil {
			return err
		}
	}
	for exc := range vs.Value().All("compose.exclude") {
		if err := t.include(codes, exc, false); err != nil {
			return err
		}
	}
	return nil
}

func contains(codes map[string]bool, v fhir.Value) {
	for c := range v.All("contains") {
		if code := c.Text("code"); code != "" && c.Get("abstract").Str() != "true" {
			codes[codeValue(c.Text("system"), code)] = true
		}
		contains(codes, c)
	}
}

// include adds or takes away one part of what a value set is composed of: what is in all that the part names.
func (t *terminologies) include(codes map[string]bool, part fhir.Value, in bool) error {
	var sets []map[string]bool
	for other := range part.All("valueSet") {
		set := map[string]bool{}
		if err := t.valueSet(set, other.Str()); err != nil {
			return err
		}
		sets = append(sets, set)
	}
	if system := part.Text("system"); system != "" {
		set, err := t.ofSystem(system, part)
		if err != nil {
			return err
		}
		sets = append(sets, set)
	}
	if len(sets) == 0 {
		return nil
	}
	for c := range sets[0] {
		if slices.ContainsFunc(sets[1:], func(o map[string]bool) bool { return !o[c] }) {
			continue
		}
		if in {
			codes[c] = true
		} else {
			delete(codes, c)
		}
	}
	return nil
}

// ofSystem are the codes of a system that a part lists, or that its filters choose.
func (t *terminologies) ofSystem(system string, part fhir.Value) (map[string]bool, error) {
	set := map[string]bool{}
	if part.Get("concept").Exists() {
		for c := range part.All("concept.code") {
			set[codeValue(system, c.Str())] = true
		}
		return set, nil
	}
	cs, err := t.one("CodeSystem", system)
	if err != nil {
		return nil, err
	}
	if cs.Text("content") != "complete" {
		return nil, fhir.Errorf(fhir.NotSupported, "needs all codes of a code system of which not all are held here")
	}
	concepts(cs.Value(), nil, func(c string, _ []string) { set[codeValue(system, c)] = true })
	for f := range part.All("filter") {
		chosen := map[string]bool{}
		switch value := f.Text("value"); f.Text("op") {
		case "is-a":
			t.below(chosen, system, cs.Value(), value)
			chosen[codeValue(system, value)] = true
		case "descendent-of":
			t.below(chosen, system, cs.Value(), value)
		default:
			return nil, fhir.Errorf(fhir.NotSupported, "needs a value set that is chosen by a filter other than is-a and descendent-of")
		}
		for c := range set {
			if !chosen[c] {
				delete(set, c)
			}
		}
	}
	return set, nil
}

// listed keeps a query to the resources of its type in a List. FHIR R4 search.html#list
func listed(ctx context.Context, s Searcher, q Query) (Query, error) {
	if q.List == "" {
		return q, nil
	}
	page, err := s.Search(ctx, Query{Type: "List", Count: 1, Source: q.Source, Base: q.Base, Params: []Param{{Name: "_id", Values: []string{Escape(q.List)}}}})
	if err != nil {
		return q, err
	}
	if len(page.Resources) == 0 {
		return q, fhir.Errorf(fhir.NotFound, "there is no List of this id here").At("_list")
	}
	refs := map[fhir.Ref]bool{}
	for e := range page.Resources[0].Value().All("entry") {
		ref := parseReference(e.Text("item.reference"))
		if e.Get("deleted").Str() != "true" && ref.typ == q.Type && (ref.base == "" || ref.base == q.Base) {
			refs[fhir.MakeRef(ref.typ, ref.id)] = true
		}
	}
	q.List = ""
	q.only(refs)
	return q, nil
}
