package profile

import (
	"slices"
	"strconv"
	"strings"
	"sync"

	"tombolo/fhir"
	"tombolo/fhir/fhirpath"
	"tombolo/fhir/r4"
)

// A place is one element of the resource that is checked.
type place struct {
	it  fhirpath.Item
	v   fhir.Value // its JSON; absent of a primitive that has extensions only
	ext fhir.Value // the companion of a primitive
	typ string     // its data type; "" of an element with elements of its own
	of  *r4.Type   // its elements; nil of a primitive
	at  string     // FHIRPath

	in    *place // of which it is an element
	under *r4.Element
}

// element checks a place against R4's rules and the nodes of profiles that constrain it, and then what is in it.
func (c *checker) element(p place, nodes []*node) {
	if *c.work++; *c.work > maxWork {
		if *c.work == maxWork+1 {
			c.tell(note(fhir.Warning, fhir.TooCostly, p.at, "the resource is too large to be checked whole; what follows was not looked at"))
		}
		return
	}
	c.ruled(p)
	for i := 0; i < len(nodes); i++ { // a node may add those of a profile of the element's type
		nodes = append(nodes, c.node(p, nodes[i], nodes)...)
	}
	obj, of := p.v, p.of
	if of == nil {
		obj, of = p.ext, r4.TypeOf("Element")
	}
	if !obj.IsObject() {
		obj = fhir.Value{}
		if len(nodes) == 0 {
			return
		}
	}
	found := map[*r4.Element][]place{}
	for m := range obj.Children() {
		name := strings.TrimPrefix(m.Key(), "_")
		e, typ := of.Member(name)
		if e == nil || len(found[e]) > 0 {
			continue
		}
		found[e] = places(&p, obj, name, e, typ)
	}
	for _, e := range of.Elements {
		list := found[e]
		if len(list) == 0 && len(nodes) == 0 {
			continue
		}
		c.group(&p, e, list, nodes)
	}
}

// ruled applies R4's own invariants.
func (c *checker) ruled(p place) {
	all := r4Rules()
	if p.of != nil && p.of.Resource && p.it.Type().Is(domainResource()) {
		c.rules(all["DomainResource"], p.it, p.at)
	}
	if p.typ != "" {
		c.rules(all[p.typ], p.it, p.at)
	}
	if p.typ == "Reference" && p.under != nil && len(p.under.Targets) > 0 {
		if t := c.target(p.v); t != "" && !slices.Contains(p.under.Targets, t) {
			c.say(fhir.Structure, p.at, "R4 wants a reference to %s, and this is to a %s", strings.Join(p.under.Targets, " or "), t)
		}
	}
	switch {
	case p.under != nil && p.under.Own != nil: // items within items are as those
		c.rules(all[strings.ReplaceAll(p.under.Own.Name, "[x]", "")], p.it, p.at)
	case p.in != nil && p.in.of != nil:
		c.rules(all[p.in.of.Name+"."+p.under.Name], p.it, p.at)
	}
}

var domainResource = sync.OnceValue(func() *fhirpath.Type { return fhirpath.TypeOf("DomainResource") })

// places are the values of one element of an object.
func places(in *place, obj fhir.Value, name string, e *r4.Element, typ string) []place {
	v, ext := obj.Member(name), obj.Member("_"+name)
	of := e.Own
	if of == nil && !r4.Primitive(typ) {
		of = r4.TypeOf(typ)
	}
	at := in.at + "." + e.Name
	if e.Choice && typ != "" {
		at += ".ofType(" + typ + ")"
	}
	var out []place
	values, companions := items(v), items(ext)
	for i := range max(len(values), len(companions)) {
		p := place{typ: typ, of: of, at: at, in: in, under: e}
		if i < len(values) && string(values[i].Raw()) != "null" {
			p.v = values[i]
		}
		if i < len(companions) && companions[i].IsObject() {
			p.ext = companions[i]
		}
		if !p.v.Exists() && !p.ext.Exists() {
			continue
		}
		if v.IsArray() || ext.IsArray() {
			p.at += "[" + strconv.Itoa(i) + "]"
		}
		if typ == "Resource" {
			p.typ = p.v.Member("resourceType").Str()
			p.of = r4.TypeOf(p.typ)
		}
		p.it = fhirpath.Element(p.v, p.ext, e, typ)
		out = append(out, p)
	}
	return out
}

func items(v fhir.Value) []fhir.Value {
	if !v.Exists() {
		return nil
	}
	if !v.IsArray() {
		return []fhir.Value{v}
	}
	var out []fhir.Value
	for c := range v.Children() {
		out = append(out, c)
	}
	return out
}

// group checks the values of one element together: how many there are, in which slices they are, and each of them.
func (c *checker) group(in *place, e *r4.Element, list []place, nodes []*node) {
	of := make([][]*node, len(list))
	for _, n := range nodes {
		child := n.children[e.Name]
		if child == nil {
			continue
		}
		c.count(in.at+"."+e.Name, child, len(list))
		for i := range list {
			of[i] = append(of[i], child)
		}
		if len(child.slices) > 0 {
			c.slices(in.at+"."+e.Name, child, list, of)
		}
	}
	for i, p := range list {
		if p.of != nil && p.of.Resource {
			c.nested(p, of[i])
			continue
		}
		if p.typ == "Extension" {
			of[i] = append(of[i], c.extension(p)...)
		}
		c.element(p, of[i])
	}
}

// nested checks a resource inside another. What is contained has the other as its root; an entry of a Bundle stands by itself. FHIR R4 fhirpath.html#variables
func (c *checker) nested(p place, nodes []*node) {
	container := fhirpath.Item{}
	if p.under.Name == "contained" {
		container = c.env.Resource
	}
	was := c.inner
	c.inner = true
	var urls []string
	for _, n := range nodes { // what a profile says of a resource that is part of another
		for _, t := range n.types {
			if (t.code == p.typ || t.code == "Resource") && len(t.profiles) == 1 {
				urls = append(urls, t.profiles[0])
			}
		}
		c.node(p, n, nil)
	}
	c.resource(p.v, p.at, container, urls)
	c.inner = was
}
