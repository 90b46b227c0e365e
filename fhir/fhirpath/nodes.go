package fhirpath

import (
	"strings"

	"tombolo/fhir/ucum"
)

// A node is a part of a compiled expression. eval pushes what it yields.
type node interface{ eval(r *run) error }

type literal struct{ item Item }

func (n *literal) eval(r *run) error { return r.push(n.item) }

type empty struct{}

func (*empty) eval(*run) error { return nil }

// this is $this.
type this struct{ base node }

func (n *this) eval(r *run) error {
	_, err := r.input(n.base)
	return err
}

type special struct{ total bool }

func (n *special) eval(r *run) error {
	switch {
	case n.total:
		for _, it := range r.total {
			if err := r.push(it); err != nil {
				return err
			}
		}
	case r.index >= 0:
		return r.push(computed(r.index))
	}
	return nil
}

// variable is %name.
type variable struct{ name string }

func (n *variable) eval(r *run) error {
	switch n.name {
	case "context":
		return r.push(r.root[0])
	case "resource":
		return r.push(r.resource())
	case "rootResource":
		if r.env.Root.typ != nil {
			return r.push(r.env.Root)
		}
		return r.push(r.resource())
	case "ucum":
		return r.push(computed(ucum.System))
	case "sct":
		return r.push(computed("http://snomed.info/sct"))
	case "loinc":
		return r.push(computed("http://loinc.org"))
	}
	if it, ok := r.env.Vars[n.name]; ok {
		return r.push(it)
	}
	if items, ok := r.vars[n.name]; ok {
		for _, it := range items {
			if err := r.push(it); err != nil {
				return err
			}
		}
		return nil
	}
	if vs, ok := strings.CutPrefix(n.name, "vs-"); ok {
		return r.push(computed("http://hl7.org/fhir/ValueSet/" + vs))
	}
	if ext, ok := strings.CutPrefix(n.name, "ext-"); ok {
		return r.push(computed("http://hl7.org/fhir/StructureDefinition/" + ext))
	}
	return fault("a variable (%%name) is not known here")
}

func (r *run) resource() Item {
	if r.env.Resource.typ != nil {
		return r.env.Resource
	}
	return r.root[0]
}

// member is a step to elements by name; at the beginning of a path it may be the type of what the path begins at. FHIRPath §3.2
type member struct {
	base node
	name string
}

func (n *member) eval(r *run) error {
	if n.base == nil {
		if c := n.name[:min(1, len(n.name))]; c >= "A" && c <= "Z" {
			return n.rooted(r)
		}
		for i := range r.this {
			if err := r.children(r.this[i], n.name); err != nil {
				return err
			}
		}
		return r.step(1)
	}
	lo := len(r.stack)
	if err := n.base.eval(r); err != nil {
		return err
	}
	hi := len(r.stack)
	if err := r.step(hi - lo + 1); err != nil {
		return err
	}
	for i := lo; i < hi; i++ {
		if err := r.children(r.stack[i], n.name); err != nil {
			return err
		}
	}
	r.keep(lo, hi)
	return nil
}

func (n *member) rooted(r *run) error {
	t := r.model.named[n.name]
	for _, it := range r.this {
		if t != nil && it.typ.Is(t) {
			if err := r.push(it); err != nil {
				return err
			}
		}
	}
	return nil
}

type indexer struct{ base, at node }

func (n *indexer) eval(r *run) error {
	lo := len(r.stack)
	if err := n.base.eval(r); err != nil {
		return err
	}
	it, err := r.one(n.at, "an index")
	if err != nil {
		return err
	}
	hi := len(r.stack)
	if it != nil {
		i, ok := it.system().(int64)
		if !ok {
			return fault("an index is an Integer")
		}
		if i >= 0 && i < int64(hi-lo) {
			r.stack[lo] = r.stack[lo+int(i)]
			r.stack = r.stack[:lo+1]
			return nil
		}
	}
	r.stack = r.stack[:lo]
	return nil
}

type polarity struct {
	negative bool
	of       node
}

func (n *polarity) eval(r *run) error {
	it, err := r.one(n.of, "what a sign stands before")
	if err != nil || it == nil {
		return err
	}
	switch v := it.system().(type) {
	case int64:
		if n.negative {
			v = -v
		}
		return r.push(computed(v))
	case Quantity:
		if n.negative {
			v.value = negated(v.value)
		}
		return r.push(computed(v))
	default:
		d, ok := decimalOf(v)
		if !ok {
			return fault("a sign stands before a number")
		}
		if n.negative {
			d = negated(d)
		}
		return r.push(computed(d))
	}
}

// typeTest is is, as and ofType, as operators and functions.
type typeTest struct {
	base  node
	types []*Type
	as    bool
	many  bool // ofType: of any number
}

func (n *typeTest) eval(r *run) error {
	lo, err := r.input(n.base)
	if err != nil {
		return err
	}
	items := r.stack[lo:]
	if !n.many && len(items) > 1 {
		return fault("a type is asked of one item, and there are several: use ofType()")
	}
	if !n.as {
		if len(items) == 0 {
			return nil
		}
		t := n.is(items[0].typ)
		r.stack = r.stack[:lo]
		return r.push(computed(t))
	}
	kept := lo
	for _, it := range items {
		if n.is(it.typ) && (!it.typ.primitive() || n.exactly(it.typ)) { // a code is a string, and is not taken as one: as the published tests have it
			r.stack[kept] = it
			kept++
		}
	}
	r.stack = r.stack[:kept]
	return r.step(len(items))
}

func (n *typeTest) is(t *Type) bool {
	for _, want := range n.types {
		if t.Is(want) {
			return true
		}
	}
	return false
}

func (n *typeTest) exactly(t *Type) bool {
	for _, want := range n.types {
		if t == want {
			return true
		}
	}
	return false
}

// call is a function and what it is invoked on.
type call struct {
	base node
	f    *function
	name string
	args []node
	made any // what can be made ready once: a regular expression
}

func (n *call) eval(r *run) error {
	lo, err := r.input(n.base)
	if err != nil {
		return err
	}
	if err := r.step(1); err != nil {
		return err
	}
	return n.f.do(r, n, lo)
}
