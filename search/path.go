package search

import (
	"fmt"
	"strings"

	"tombolo/fhir"
)

// An expr is the alternatives of a path: the elements that a parameter looks at.
type expr [][]step

// A step goes to a member, and may choose among what it finds there.
type step struct {
	name   string // "" stays where it is
	choice bool   // name[x]

	key, value string // keep those that have value at the path key
	target     string // keep references to this type
	first      bool   // of a list, the first alone
	some       bool   // true or false: is there one that is not false?
}

func parseExpr(s string) (expr, error) {
	var e expr
	for _, alt := range splitOutside(s, '|') {
		var steps []step
		for _, word := range splitOutside(alt, '.') {
			st, err := parseStep(word)
			if err != nil {
				return nil, fmt.Errorf("path %q: %w", s, err)
			}
			if st.name != "" {
				steps = append(steps, st)
			}
		}
		e = append(e, steps)
	}
	return e, nil
}

func parseStep(word string) (step, error) {
	name, filter, ok := strings.Cut(word, "(")
	var st step
	if ok {
		filter, ok = strings.CutSuffix(filter, ")")
		if !ok {
			return st, fmt.Errorf("%q lacks a closing parenthesis", word)
		}
		k, v, eq := strings.Cut(filter, "=")
		switch {
		case eq:
			st.key, st.value = k, v
		case filter == "some":
			st.some = true
		case filter == "first":
			st.first = true
		case fhir.IsType(filter):
			st.target = filter
		default:
			return st, fmt.Errorf("%q is not a resource type", filter)
		}
	}
	st.name, st.choice = strings.CutSuffix(name, "[x]")
	return st, nil
}

// splitOutside splits at sep, but not inside parentheses.
func splitOutside(s string, sep byte) []string {
	var out []string
	depth, from := 0, 0
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '(':
			depth++
		case ')':
			depth--
		case sep:
			if depth == 0 {
				out = append(out, s[from:i])
				from = i + 1
			}
		}
	}
	return append(out, s[from:])
}

// A found value, and under which member name, which tells a choice's type.
type found = fhir.Value

// each calls yield with every element the expression reaches from root, arrays flattened, until yield says stop. It
// reports whether it came to the end.
func (e expr) each(root fhir.Value, yield func(found) bool) bool {
	for _, steps := range e {
		if !walk(root, steps, yield) {
			return false
		}
	}
	return true
}

func walk(v fhir.Value, steps []step, yield func(found) bool) bool {
	if v.IsArray() {
		for c := range v.Children() {
			if !walk(c, steps, yield) {
				return false
			}
		}
		return true
	}
	if len(steps) == 0 {
		return yield(v)
	}
	st := steps[0]
	if st.some {
		return yieldSome(v, st, yield)
	}
	if !st.choice {
		return st.filter(v.Member(st.name), steps[1:], yield)
	}
	for c := range v.Children() {
		if st.isChoice(c.Key()) {
			if !st.filter(c, steps[1:], yield) {
				return false
			}
		}
	}
	return true
}

// filter passes on what the step keeps of v, which may be absent, one element or an array of them.
func (st step) filter(v fhir.Value, rest []step, yield func(found) bool) bool {
	switch {
	case !v.Exists():
		return true
	case v.IsArray():
		for c := range v.Children() {
			if !st.filter(c, rest, yield) {
				return false
			}
			if st.first {
				break
			}
		}
		return true
	case st.key != "" && !has(v, st.key, st.value):
		return true
	case st.target != "" && !mayPointAt(v, st.target):
		return true
	}
	return walk(v, rest, yield)
}

// has reports whether a value stands at a path, going through arrays.
func has(v fhir.Value, path, value string) bool {
	for at := range v.All(path) {
		if at.Str() == value {
			return true
		}
	}
	return false
}

// choiceTypes are the data types whose names end a choice element's member name. FHIR R4 formats.html#choice
var choiceTypes = func() map[string]bool {
	m := map[string]bool{}
	for t := range strings.FieldsSeq(`Base64Binary Boolean Canonical Code Date DateTime Decimal Id Instant Integer Markdown Oid
PositiveInt String Time UnsignedInt Uri Url Uuid Address Age Annotation Attachment CodeableConcept Coding ContactPoint
Count Distance Duration HumanName Identifier Money Period Quantity Range Ratio Reference SampledData Signature Timing
ContactDetail Contributor DataRequirement Expression ParameterDefinition RelatedArtifact TriggerDefinition UsageContext
Dosage Meta`) {
		m[t] = true
	}
	return m
}()

func (st step) isChoice(member string) bool {
	typ, ok := strings.CutPrefix(member, st.name)
	return ok && choiceTypes[typ]
}

var (
	jsonTrue, _  = fhir.ParseValue([]byte("true"))
	jsonFalse, _ = fhir.ParseValue([]byte("false"))
)

// yieldSome says true if the choice has a value that is not the literal false: Patient.deceased is true for a date of death too.
func yieldSome(v fhir.Value, st step, yield func(found) bool) bool {
	for c := range v.Children() {
		if st.isChoice(c.Key()) && c.Str() != "false" {
			return yield(jsonTrue)
		}
	}
	return yield(jsonFalse)
}

// mayPointAt reports whether a Reference is to a resource of the type, as far as can be told without following it.
func mayPointAt(v fhir.Value, typ string) bool {
	if ref := parseReference(v.Member("reference").Str()); ref.typ != "" {
		return ref.typ == typ
	}
	if t := v.Member("type").Str(); t != "" {
		return t == typ
	}
	return v.Member("reference").Str() == "" // by identifier alone: it may
}
