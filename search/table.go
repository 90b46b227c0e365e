package search

import (
	_ "embed"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"tombolo/fhir/fhirpath"
)

// A Kind is the type of a search parameter, which decides how its values are written and compared.
type Kind string

// The kinds. FHIR R4 search.html#ptypes
const (
	KindToken     Kind = "token"
	KindReference Kind = "reference"
	KindDate      Kind = "date"
	KindString    Kind = "string"
	KindNumber    Kind = "number"
	KindQuantity  Kind = "quantity"
	KindURI       Kind = "uri"
	KindComposite Kind = "composite"
)

// A Def defines one search parameter of one resource type.
type Def struct {
	Name string
	Kind Kind
	Path string // as in params.txt
	// Targets are the types that a reference may be to; none: any.
	Targets []string

	expr  expr
	parts []part                                // of a composite
	inner expr                                  // of a composite with a part that is the resource's: where the others are; expr is then the resource
	path  *fhirpath.Expr                        // of a custom parameter, in place of expr
	scan  func(value string) (valueTest, error) // of one without index entries and with a meaning of its own
}

// A part of a composite parameter, read inside one element.
type part struct {
	kind  Kind
	expr  expr
	whole bool // read in the resource
}

//go:embed params.txt
var paramsText string

// table is type -> name -> definition; "*" holds what every type has.
var table = sync.OnceValue(func() map[string]map[string]*Def {
	t, err := readTable(paramsText)
	if err == nil {
		err = addScanned(t)
	}
	if err != nil {
		panic("search: params.txt: " + err.Error()) // a mistake in this program's own data
	}
	return t
})

// readTable reads the notation that params.txt explains.
func readTable(text string) (map[string]map[string]*Def, error) {
	t := map[string]map[string]*Def{}
	var defs map[string]*Def
	for n, line := range strings.Split(text, "\n") {
		line = strings.TrimRight(line, " \t\r")
		switch {
		case line == "" || line[0] == '#':
		case line[0] != ' ':
			if t[line] != nil {
				return nil, fmt.Errorf("line %d: %s stands twice", n+1, line)
			}
			defs = map[string]*Def{}
			t[line] = defs
		case defs == nil:
			return nil, fmt.Errorf("line %d: parameters before any type", n+1)
		default:
			words := strings.Fields(line)
			for _, w := range words[1:] {
				d, err := readDef(Kind(words[0]), w)
				if err != nil {
					return nil, fmt.Errorf("line %d: %w", n+1, err)
				}
				if defs[d.Name] != nil {
					return nil, fmt.Errorf("line %d: %s stands twice", n+1, d.Name)
				}
				defs[d.Name] = d
			}
		}
	}
	return t, nil
}

func readDef(kind Kind, word string) (*Def, error) {
	name, path, ok := strings.Cut(word, "=")
	if !ok {
		path = name
	}
	d := &Def{Name: name, Kind: kind}
	if i := strings.LastIndexByte(path, '>'); i > 0 && kind == KindReference {
		d.Targets, path = strings.Split(path[i+1:], ","), path[:i]
	}
	d.Path = path
	var err error
	switch kind {
	case KindToken, KindReference, KindDate, KindString, KindNumber, KindQuantity, KindURI:
		d.expr, err = parseExpr(path)
		return d, err
	case KindComposite:
		pieces := strings.Split(path, ";")
		if len(pieces) < 3 {
			return nil, fmt.Errorf("composite %s needs at least two parts", name)
		}
		if d.expr, err = parseExpr(pieces[0]); err != nil {
			return nil, err
		}
		for _, p := range pieces[1:] {
			k, sub, _ := strings.Cut(p, ":")
			sub, whole := strings.CutPrefix(sub, "^")
			e, err := parseExpr(sub)
			if err != nil {
				return nil, err
			}
			d.parts = append(d.parts, part{Kind(k), e, whole})
		}
		if slices.ContainsFunc(d.parts, func(p part) bool { return p.whole }) {
			d.inner, d.expr = d.expr, expr{nil}
		}
		return d, nil
	}
	return nil, fmt.Errorf("unknown kind %q", kind)
}

// noNarrative are the types that are no DomainResource, and have no text. FHIR R4 domainresource.html
var noNarrative = map[string]bool{"Bundle": true, "Binary": true, "Parameters": true}

// lookup finds a parameter of a type, or of every type.
func lookup(typ, name string) *Def {
	t := table()
	if d := t[typ][name]; d != nil {
		return d
	}
	if name == "_text" && noNarrative[typ] {
		return nil
	}
	return t["*"][name]
}

// Defs are the parameters that can be searched for on a type, by name: what a CapabilityStatement may promise.
func Defs(typ string) []Def {
	t := table()
	out := make([]Def, 0, len(t[typ])+len(t["*"]))
	for _, d := range t[typ] {
		out = append(out, *d)
	}
	for _, d := range t["*"] {
		if d.Name != "_text" || !noNarrative[typ] {
			out = append(out, *d)
		}
	}
	slices.SortFunc(out, func(a, b Def) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// Types are the resource types with parameters of their own, in alphabetical order.
func Types() []string {
	names := slices.Sorted(maps.Keys(table()))
	return slices.DeleteFunc(names, func(n string) bool { return n == "*" })
}
