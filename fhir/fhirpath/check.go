package fhirpath

import (
	"slices"

	"tombolo/fhir"
)

// A checker follows types through an expression, to find steps that can lead nowhere. FHIRPath §10.1 (type safety)
type checker struct{ root types }

// types are those that a collection's items may have; nil if that is not known.
type types []*Type

func impossible(format string, args ...any) error {
	return fhir.Errorf(fhir.Invalid, "the FHIRPath expression can find nothing: "+format, args...)
}

func (c *checker) infer(n node, at types) (types, error) {
	switch n := n.(type) {
	case *literal:
		return types{n.item.typ}, nil
	case *this:
		if n.base == nil {
			return at, nil
		}
		return c.infer(n.base, at)
	case *variable:
		if n.name == "context" {
			return c.root, nil
		}
	case *member:
		return c.member(n, at)
	case *indexer:
		if _, err := c.infer(n.at, at); err != nil {
			return nil, err
		}
		if unordered(n.base) {
			return nil, impossible("what children() gives has no order to take an item of")
		}
		return c.infer(n.base, at)
	case *polarity:
		return c.infer(n.of, at)
	case *typeTest:
		return c.typeTest(n, at)
	case *logic:
		return c.both(n.left, n.right, at, types{sysBoolean})
	case *equality:
		return c.both(n.left, n.right, at, types{sysBoolean})
	case *inequality:
		return c.both(n.left, n.right, at, types{sysBoolean})
	case *membership:
		return c.both(n.item, n.of, at, types{sysBoolean})
	case *arithmetic:
		return c.both(n.left, n.right, at, nil)
	case *union:
		a, err := c.infer(n.left, at)
		if err != nil {
			return nil, err
		}
		b, err := c.infer(n.right, at)
		if a == nil || b == nil {
			return nil, err
		}
		return append(slices.Clone(a), b...), err
	case *call:
		return c.call(n, at)
	}
	return nil, nil
}

func (c *checker) both(a, b node, at, gives types) (types, error) {
	if _, err := c.infer(a, at); err != nil {
		return nil, err
	}
	_, err := c.infer(b, at)
	return gives, err
}

func (c *checker) member(n *member, at types) (types, error) {
	from := at
	if n.base != nil {
		var err error
		if from, err = c.infer(n.base, at); err != nil {
			return nil, err
		}
	} else if n.name != "" && n.name[0] >= 'A' && n.name[0] <= 'Z' {
		t := fhirModel().named[n.name]
		for _, s := range from {
			if t != nil && (s.Is(t) || t.Is(s)) {
				return types{t}, nil
			}
		}
		if from == nil {
			return nil, nil
		}
		return nil, impossible("it begins at %s, and not at the type that it names", from[0].Name)
	}
	var out types
	for _, t := range from {
		if t.of == nil && !t.primitive() {
			return nil, nil // of an abstract or computed type: any
		}
		of := t.of
		if t.primitive() {
			of = fhirModel().named["Element"].of
		}
		e := of.Element(n.name)
		if e == nil {
			continue
		}
		if e.Own != nil {
			out = append(out, fhirModel().own[e.Own])
			continue
		}
		for _, name := range e.Types {
			if name == "*" || name == "Resource" {
				return nil, nil
			}
			out = append(out, fhirModel().typeOfElement(e, name))
		}
	}
	if len(from) > 0 && len(out) == 0 {
		return nil, impossible("%s has no such element; a choice such as value[x] is written without its type", from[0].Name)
	}
	return out, nil
}

func (c *checker) typeTest(n *typeTest, at types) (types, error) {
	if n.base != nil {
		if _, err := c.infer(n.base, at); err != nil {
			return nil, err
		}
	}
	if n.as {
		return n.types, nil
	}
	return types{sysBoolean}, nil
}

// unordered reports whether a node gives elements in no order that may be relied on.
func unordered(n node) bool {
	c, ok := n.(*call)
	return ok && (c.name == "children" || c.name == "descendants")
}

// passing are the functions that give some of what they are invoked on.
var passing = set("where first last tail skip take single distinct trace intersect exclude sort defineVariable")

// focusing are those that evaluate their arguments on each item.
var focusing = set("where select all exists repeat aggregate sort trace defineVariable")

var ordered = set("first last tail skip take")

func (c *checker) call(n *call, at types) (types, error) {
	from := at
	if n.base != nil {
		var err error
		if from, err = c.infer(n.base, at); err != nil {
			return nil, err
		}
		if ordered[n.name] && unordered(n.base) {
			return nil, impossible("what children() gives has no order for %s()", n.name)
		}
	}
	on := at
	if focusing[n.name] || n.name == "iif" && n.base != nil {
		on = from
	}
	if n.name == "repeat" { // what it yields is not followed
		return nil, nil
	}
	var last types
	for _, a := range n.args {
		var err error
		if last, err = c.infer(a, on); err != nil {
			return nil, err
		}
	}
	switch {
	case passing[n.name]:
		return from, nil
	case n.name == "select":
		return last, nil
	case n.name == "extension":
		return types{fhirModel().named["Extension"]}, nil
	}
	return nil, nil
}
