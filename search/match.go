package search

import (
	"strings"

	"tombolo/fhir"
)

// A valueTest tells whether one element satisfies one value of a parameter.
type valueTest func(fhir.Value) bool

// A Matcher is a compiled Query, for matching many resources. It may be used from many goroutines.
type Matcher struct {
	typ   string
	any   map[fhir.Ref]bool // nil: all
	tests []func(fhir.Value) bool
}

// Compile makes a Matcher of q. It fails where Parse would: an unknown parameter, an unsupported modifier, an unreadable value.
func Compile(q Query) (*Matcher, error) {
	if q.List != "" {
		return nil, fhir.Errorf(fhir.NotSupported, "a List is another resource, which is not asked here").At("_list")
	}
	if len(q.Chains) > 0 {
		return nil, fhir.Errorf(fhir.NotSupported, "a chain is about other resources, which are not asked here").At(q.Chains[0].Via)
	}
	m := &Matcher{typ: q.Type, any: q.Any}
	for _, p := range q.Params {
		t, err := compileParam(q, p)
		if err != nil {
			return nil, err
		}
		m.tests = append(m.tests, t)
	}
	return m, nil
}

// Match reports whether the resource answers the query.
func (m *Matcher) Match(r *fhir.Resource) bool {
	if m.typ != "" && r.Type() != m.typ || m.any != nil && !m.any[r.Ref()] {
		return false
	}
	for _, t := range m.tests {
		if !t(r.Value()) {
			return false
		}
	}
	return true
}

// Matches reports whether r answers q: the one meaning of search, to which stores, subscriptions and fan-out filters are held.
// Sort, Count, Cursor and Patient are the searcher's business and play no part.
func Matches(q Query, r *fhir.Resource) (bool, error) {
	m, err := Compile(q)
	if err != nil {
		return false, err
	}
	return m.Match(r), nil
}

func compileParam(q Query, p Param) (func(fhir.Value) bool, error) {
	d := q.def(p.Name)
	if d == nil {
		return nil, unknownParam(q.Type, p.Name)
	}
	if len(p.Values) == 0 {
		return nil, paramError(p, fhir.Errorf(fhir.Invalid, "has no value"))
	}
	if p.Modifier == "missing" {
		return missingTest(d, p)
	}
	if byTerminology(d, p.Modifier) {
		return nil, paramError(p, fhir.Errorf(fhir.NotSupported, "needs code systems and value sets, which are not asked here"))
	}
	if p.refs != nil {
		return refsTest(d, p.refs, q.Base), nil
	}
	tests := make([]valueTest, 0, len(p.Values))
	for _, v := range p.Values {
		t, err := compileValue(q, d, p.Modifier, v)
		if err != nil {
			return nil, paramError(p, err)
		}
		tests = append(tests, t)
	}
	any := func(root fhir.Value) bool {
		return !d.each(root, func(v found) bool {
			for _, t := range tests {
				if t(v) {
					return false
				}
			}
			return true
		})
	}
	if p.Modifier == "not" { // none of the values, or no value at all. FHIR R4 search.html#modifiers
		return func(root fhir.Value) bool { return !any(root) }, nil
	}
	return any, nil
}

// refsTest is one test for many references.
func refsTest(d *Def, refs map[fhir.Ref]bool, base string) func(fhir.Value) bool {
	return func(root fhir.Value) bool {
		return !d.each(root, func(v found) bool {
			ref := parseReference(literal(v))
			return ref.id == "" || ref.base != "" && ref.base != base || !refs[fhir.MakeRef(ref.typ, ref.id)]
		})
	}
}

func missingTest(d *Def, p Param) (func(fhir.Value) bool, error) {
	want := p.Values[0]
	if len(p.Values) > 1 || want != "true" && want != "false" {
		return nil, paramError(p, fhir.Errorf(fhir.Invalid, "takes true or false"))
	}
	return func(root fhir.Value) bool {
		look := d.each
		if d.inner != nil {
			look = d.inner.each
		}
		missing := look(root, func(found) bool { return false })
		return missing == (want == "true")
	}, nil
}

// compileValue makes the test for one value. Each kind has the modifiers R4 gives it; those that need a terminology or
// another resource are refused, because an ignored modifier would find what nobody asked for.
func compileValue(q Query, d *Def, modifier, value string) (valueTest, error) {
	if strings.TrimSpace(value) == "" {
		return nil, fhir.Errorf(fhir.Invalid, "has an empty value")
	}
	if d.scan != nil {
		if modifier == "" {
			return d.scan(value)
		}
		return nil, fhir.Errorf(fhir.Invalid, "takes no modifier but :missing")
	}
	switch d.Kind {
	case KindToken:
		switch modifier {
		case "", "not":
			return tokenTest(value)
		case "text":
			return tokenTextTest(value)
		case "of-type":
			return ofTypeTest(value)
		}
	case KindReference:
		switch {
		case modifier == "identifier":
			return referenceIdentifierTest(value)
		case modifier == "" || fhir.IsType(modifier):
			return referenceTest(value, modifier, q.Base)
		}
	case KindString:
		switch modifier {
		case "", "exact", "contains":
			return stringTest(d.Name, modifier, value)
		}
	case KindURI:
		switch modifier {
		case "", "above", "below":
			return uriTest(modifier, value)
		}
	case KindDate, KindNumber, KindQuantity, KindComposite:
		if modifier == "" {
			return compilePlain(q, d, value)
		}
	}
	return nil, fhir.Errorf(fhir.Invalid, "does not take the modifier %s: a %s takes %s", readable(modifier), d.Kind, modifiersOf[d.Kind])
}

func compilePlain(q Query, d *Def, value string) (valueTest, error) {
	switch d.Kind {
	case KindDate:
		return dateTest(value)
	case KindNumber:
		return numberTest(value)
	case KindQuantity:
		return quantityTest(value)
	}
	return compositeTest(q, d, value)
}

// compositeTest matches "a$b" when one element has both. FHIR R4 search.html#composite
func compositeTest(q Query, d *Def, value string) (valueTest, error) {
	values := split(value, '$')
	if len(values) != len(d.parts) {
		return nil, fhir.Errorf(fhir.Invalid, "takes %d values joined by $, this has %d", len(d.parts), len(values))
	}
	tests := make([]valueTest, len(d.parts))
	for i, part := range d.parts {
		t, err := compileValue(q, &Def{Name: d.Name, Kind: part.kind, expr: part.expr}, "", values[i])
		if err != nil {
			return nil, err
		}
		tests[i] = t
	}
	holds := func(resource, v fhir.Value) bool {
		for i, part := range d.parts {
			at := v
			if part.whole {
				at = resource
			}
			if part.expr.each(at, func(f found) bool { return !tests[i](f) }) {
				return false
			}
		}
		return true
	}
	if d.inner == nil {
		return func(v fhir.Value) bool { return holds(v, v) }, nil
	}
	return func(v fhir.Value) bool {
		return !d.inner.each(v, func(f found) bool { return !holds(v, f) })
	}, nil
}

var modifiersOf = map[Kind]string{
	KindToken:     ":not, :text, :of-type, :in, :not-in, :above, :below and :missing",
	KindReference: ":identifier, a resource type and :missing",
	KindString:    ":exact, :contains and :missing",
	KindURI:       ":above, :below and :missing",
	KindDate:      ":missing only", KindNumber: ":missing only", KindQuantity: ":missing only", KindComposite: ":missing only",
}
