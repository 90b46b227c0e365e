package profile

import (
	"strings"

	"tombolo/fhir"
	"tombolo/fhir/r4"
)

// slices tells in which slice of an element each value is, adds what is said of the slice to the value's nodes, and holds slices to their cardinalities
// and rules. FHIR R4 profiling.html#slicing
func (c *checker) slices(at string, n *node, list []place, of [][]*node) {
	counts := make([]int, len(n.slices))
	last, unsliced := -1, false
	for i, p := range list {
		in := -1
		for j, s := range n.slices {
			if c.inSlice(n, s, p) {
				in = j
				break
			}
		}
		if in < 0 {
			unsliced = true
			if n.slicing != nil && n.slicing.closed {
				c.say(fhir.Structure, p.at, "%s allows only the kinds %s here, and this is none of them", n.profile, sliceNames(n))
			}
			continue
		}
		s := n.slices[in]
		counts[in]++
		of[i] = append(of[i], s)
		if n.slicing != nil && n.slicing.ordered && in < last {
			c.say(fhir.Structure, p.at, "%s wants these in the order %s", n.profile, sliceNames(n))
		}
		if n.slicing != nil && n.slicing.atEnd && unsliced {
			c.say(fhir.Structure, p.at, "%s wants what is of no kind of its own (%s) at the end", n.profile, sliceNames(n))
		}
		last = max(last, in)
	}
	for j, s := range n.slices {
		c.count(at, s, counts[j])
		if len(s.slices) > 0 { // a slice of a slice
			c.reslice(at, s, list, of)
		}
	}
}

func (c *checker) reslice(at string, s *node, list []place, of [][]*node) {
	var inside []place
	var index []int
	for i := range list {
		for _, n := range of[i] {
			if n == s {
				inside, index = append(inside, list[i]), append(index, i)
			}
		}
	}
	nodes := make([][]*node, len(inside))
	c.slices(at, s, inside, nodes)
	for k, i := range index {
		of[i] = append(of[i], nodes[k]...)
	}
}

func sliceNames(n *node) string {
	var names []string
	for _, s := range n.slices {
		names = append(names, s.slice)
	}
	return strings.Join(names, ", ")
}

// inSlice reports whether a value is in a slice, by its discriminators. FHIR R4 profiling.html#discriminator
func (c *checker) inSlice(n, s *node, p place) bool {
	by := n.discriminators(s, p)
	for _, d := range by {
		if !c.discriminates(d, s, p) {
			return false
		}
	}
	return len(by) > 0
}

// discriminators are those of a slicing; of extensions, and of the types of a choice, they need not be written.
func (n *node) discriminators(s *node, p place) []discriminator {
	switch {
	case n.slicing != nil && len(n.slicing.by) > 0:
		return n.slicing.by
	case p.typ == "Extension":
		return []discriminator{byURL}
	case p.under != nil && p.under.Choice:
		return []discriminator{{kind: "type", path: "$this"}}
	}
	return nil
}

func (c *checker) discriminates(d discriminator, s *node, p place) bool {
	if p.typ == "Extension" && d.path == "url" {
		if url := s.extensionURL(); url != "" {
			return p.v.Member("url").Str() == url
		}
	}
	expected := c.at(s, d.path, 0)
	switch d.kind {
	case "value", "pattern":
		for !says(expected) && d.up != nil { // what is fixed for the whole of which the path is a part
			d = *d.up
			expected = c.at(s, d.path, 0)
		}
		return c.hasValue(d, expected, p)
	case "exists":
		found := len(c.values(d, p)) > 0
		for _, e := range expected {
			if e.max == 0 {
				return !found
			}
			if e.min > 0 {
				return found
			}
		}
		return false
	case "type":
		return c.hasType(d, s, expected, p)
	case "profile":
		return c.hasProfile(d, s, expected, p)
	}
	return false
}

// extensionURL is the extension that a slice of extensions is of.
func (n *node) extensionURL() string {
	for _, t := range n.types {
		if t.code == "Extension" && len(t.profiles) == 1 {
			url, _, _ := strings.Cut(t.profiles[0], "|")
			return url
		}
	}
	if u := n.children["url"]; u != nil && u.fixed.Exists() {
		return u.fixed.Str()
	}
	return ""
}

// at gives the nodes that say something of what stands at a discriminator's path inside a slice, those of profiles of its type too.
func (c *checker) at(s *node, path string, depth int) []*node {
	if path == "$this" || path == "" {
		out := []*node{s}
		for _, t := range s.types {
			for _, u := range t.profiles {
				if p := c.d.Profile(u); p != nil && p.root != nil && depth < 4 {
					out = append(out, p.root)
				}
			}
		}
		return out
	}
	path = strings.TrimPrefix(path, "$this.")
	head, rest, _ := cutPath(path)
	if strings.HasPrefix(head, "ofType(") || strings.HasPrefix(head, "as(") || head == "resolve()" {
		return c.at(s, rest, depth)
	}
	var out []*node
	for _, n := range c.at(s, "", depth) {
		name := head
		if url, ok := strings.CutPrefix(head, "extension('"); ok {
			url = strings.TrimSuffix(url, "')")
			if ext := n.children["extension"]; ext != nil {
				for _, e := range ext.slices {
					if e.extensionURL() == url {
						out = append(out, c.at(e, rest, depth+1)...)
					}
				}
			}
			continue
		}
		if child := n.children[strings.TrimSuffix(name, "[x]")]; child != nil && depth < 8 {
			out = append(out, c.at(child, rest, depth+1)...)
			for _, sl := range child.slices {
				out = append(out, c.at(sl, rest, depth+1)...)
			}
		}
	}
	return out
}

// cutPath takes the first step off a discriminator's path; a dot in parentheses or quotes is part of a step.
func cutPath(path string) (head, rest string, more bool) {
	depth, quoted := 0, false
	for i, r := range path {
		switch {
		case r == '\'':
			quoted = !quoted
		case quoted:
		case r == '(':
			depth++
		case r == ')':
			depth--
		case r == '.' && depth == 0:
			return path[:i], path[i+1:], true
		}
	}
	return path, "", false
}

// values are what stands at the discriminator's path.
func (c *checker) values(d discriminator, p place) []place {
	if d.expr == nil {
		return []place{p}
	}
	found, err := d.expr.Eval(p.it, &c.env)
	if err != nil {
		return nil
	}
	out := make([]place, 0, len(found))
	for _, it := range found {
		out = append(out, place{it: it, v: it.Value(), typ: it.Type().Name, of: r4.TypeOf(it.Type().Name), at: p.at})
	}
	return out
}

// says reports whether a value can be told by nodes.
func says(nodes []*node) bool {
	for _, n := range nodes {
		if n.fixed.Exists() || n.pattern.Exists() || n.binding != nil || n.deep() {
			return true
		}
	}
	return false
}

func (c *checker) hasValue(d discriminator, expected []*node, p place) bool {
	said := false
	have := c.values(d, p)
	for _, e := range expected {
		ok := false
		switch {
		case e.fixed.Exists():
			for _, v := range have {
				ok = ok || equal(v.v, e.fixed)
			}
		case e.pattern.Exists():
			for _, v := range have {
				ok = ok || covers(v.v, e.pattern)
			}
		case e.binding != nil && e.binding.strength == "required" && c.d.sets[plainURL(e.binding.set)] != nil:
			for _, v := range have {
				ok = ok || c.d.coded(v.it, e.binding.set) == isIn
			}
		default:
			continue
		}
		if said = true; !ok {
			return false
		}
	}
	if !said { // what is fixed deeper than the path says
		for _, e := range expected {
			for _, v := range have {
				if e.deep() && c.trialOf(v, e) {
					return true
				}
			}
		}
	}
	return said
}

// deep reports whether a node fixes something inside it.
func (n *node) deep() bool {
	for _, ch := range n.children {
		if ch.fixed.Exists() || ch.pattern.Exists() || ch.deep() {
			return true
		}
	}
	return false
}

func (c *checker) trialOf(p place, n *node) bool {
	if c.within > maxWithin {
		return false
	}
	t := c.trial()
	t.element(p, []*node{n})
	return t.passes()
}

func (c *checker) hasType(d discriminator, s *node, expected []*node, p place) bool {
	have := c.values(d, p)
	if strings.HasSuffix(d.path, "resolve()") && len(have) == 0 { // by what the reference says
		refs := p.v
		if path := strings.TrimSuffix(strings.TrimSuffix(d.path, "resolve()"), "."); path != "" && path != "$this" {
			refs = p.v.Get(path)
		}
		if t := c.target(refs); t != "" {
			have = []place{{typ: t}}
		}
	}
	for _, v := range have {
		for _, e := range expected {
			for _, t := range e.types {
				if t.code == v.typ {
					return true
				}
				for _, u := range t.targets {
					if c.d.typeOf(u) == v.typ {
						return true
					}
				}
			}
			if len(e.types) == 0 && s.name != "" && s.slice == s.name+strings.ToUpper(v.typ[:min(1, len(v.typ))])+v.typ[min(1, len(v.typ)):] {
				return true
			}
		}
	}
	return false
}

func (c *checker) hasProfile(d discriminator, s *node, expected []*node, p place) bool {
	if c.within > maxWithin {
		return false
	}
	have := c.values(d, p)
	if strings.HasSuffix(d.path, "resolve()") && len(have) == 0 { // what is elsewhere is taken for what its reference says it is
		return c.hasType(discriminator{kind: "type", path: d.path, expr: d.expr}, s, expected, p)
	}
	for _, v := range have {
		for _, e := range expected {
			for _, t := range e.types {
				for _, u := range append(t.profiles[:len(t.profiles):len(t.profiles)], t.targets...) {
					if so, known := c.conformsAs(u, v); known && so {
						return true
					}
				}
			}
		}
	}
	return false
}

func (c *checker) conformsAs(url string, p place) (conforms, known bool) {
	if name, ok := strings.CutPrefix(plainURL(url), base); ok && r4.TypeOf(name) != nil {
		return name == p.typ, true
	}
	return c.conformsTo(plainURL(url), p.it)
}
