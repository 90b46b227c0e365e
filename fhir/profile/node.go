package profile

import (
	"slices"
	"strconv"
	"strings"

	"tombolo/fhir"
	"tombolo/fhir/fhirpath"
	"tombolo/fhir/r4"
)

// A node is what a profile says of an element, or of a slice of one.
type node struct {
	profile string // its name, for people
	name    string // of the element; "" of the root
	slice   string
	of      *r4.Type // what its children are elements of, if that is one type

	min, max       int // -1: nothing is said
	types          []typeRef
	fixed, pattern fhir.Value
	least, most    fhir.Value // minValue[x], maxValue[x]
	binding        *binding
	rules          []*rule
	maxLength      int

	children map[string]*node
	slices   []*node
	slicing  *slicing
}

type typeRef struct {
	code              string
	profiles, targets []string
}

type binding struct {
	strength, set string
}

type slicing struct {
	by              []discriminator
	closed, ordered bool
	atEnd           bool // what is in no slice comes last
}

type discriminator struct {
	kind, path string
	expr       *fhirpath.Expr // of path; nil of $this
	up         *discriminator // of the path without its last step; nil of $this
}

func newNode(profile, name string) *node {
	return &node{profile: profile, name: name, min: -1, max: -1, children: map[string]*node{}}
}

func (n *node) label() string {
	if n.slice != "" {
		return n.profile + " (" + n.slice + ")"
	}
	return n.profile
}

// count holds how many values there are to what a profile says. None of an element whose parent is there counts too.
func (c *checker) count(at string, n *node, have int) {
	what := ""
	if n.slice != "" {
		what = " of the kind " + n.slice
	}
	switch {
	case n.min > 0 && have < n.min && n.min == 1:
		c.say(fhir.Required, at, "%s wants this%s: add it", n.profile, what)
	case n.min > 0 && have < n.min:
		c.say(fhir.Required, at, "%s wants at least %d%s, and there are %d", n.profile, n.min, what, have)
	case n.max == 0 && have > 0:
		c.say(fhir.Structure, at, "%s does not allow this%s: take it away", n.profile, what)
	case n.max > 0 && have > n.max:
		c.say(fhir.Structure, at, "%s allows at most %d%s, and there are %d", n.profile, n.max, what, have)
	}
}

// node holds a place to one node, and gives the nodes of a profile that its type is to conform to.
func (c *checker) node(p place, n *node, already []*node) (more []*node) {
	if n.fixed.Exists() && !equal(p.v, n.fixed) {
		c.say(fhir.ValueError, p.at, "%s has one value for this: %s", n.label(), brief(n.fixed))
	}
	if n.pattern.Exists() && !covers(p.v, n.pattern) {
		c.say(fhir.ValueError, p.at, "%s wants this to hold %s", n.label(), brief(n.pattern))
	}
	if n.maxLength > 0 && p.v.IsString() && len([]rune(p.v.Str())) > n.maxLength {
		c.say(fhir.TooLong, p.at, "%s allows at most %d characters", n.label(), n.maxLength)
	}
	c.limits(p, n)
	if n.binding != nil {
		c.bound(p, n)
	}
	if len(n.types) > 0 {
		more = c.typed(p, n, already)
	}
	c.rules(n.rules, p.it, p.at)
	return more
}

// bound holds a code to a value set. FHIR R4 terminologies.html#strength
func (c *checker) bound(p place, n *node) {
	if n.binding.strength != "required" && n.binding.strength != "extensible" {
		return
	}
	switch c.d.coded(p.it, n.binding.set) {
	case isOut:
		if n.binding.strength == "required" {
			c.say(fhir.CodeInvalid, p.at, "%s wants a code of the value set %s", n.label(), n.binding.set)
		} else if !alsoText(p) {
			c.tell(note(fhir.Warning, fhir.CodeInvalid, p.at, "%s wants a code of the value set %s, unless none of them fits", n.label(), n.binding.set))
		}
	case noCode:
		if n.binding.strength == "required" && p.typ != "Quantity" {
			c.say(fhir.CodeInvalid, p.at, "%s wants a code of the value set %s, and there is no code", n.label(), n.binding.set)
		}
	}
}

// alsoText reports whether a concept has no code but a text, which an extensible binding allows.
func alsoText(p place) bool {
	return p.typ == "CodeableConcept" && !p.v.Member("coding").Exists() && p.v.Member("text").Exists()
}

// typed holds a place to the types that are allowed, and gives the profile that its type is to conform to.
func (c *checker) typed(p place, n *node, already []*node) (more []*node) {
	if p.typ == "" {
		return nil
	}
	var fits []typeRef // ids and urls of extensions are Strings of FHIRPath's, to R4, and what profiles say they are
	var codes []string
	for _, t := range n.types {
		codes = append(codes, t.code)
		if t.code == p.typ || p.typ == "string" && (t.code == "uri" || t.code == "id") || t.code == "Resource" && p.of != nil && p.of.Resource || t.code == "DomainResource" {
			fits = append(fits, t)
		}
	}
	if len(fits) == 0 {
		c.say(fhir.Structure, p.at, "%s allows the type %s here, and this is a %s", n.label(), strings.Join(codes, " or "), p.typ)
		return nil
	}
	c.targets(p, n, fits)
	if p.typ == "Extension" || p.of != nil && p.of.Resource { // by their url, and by nested
		return nil
	}
	var urls []string
	for _, t := range fits {
		if len(t.profiles) == 0 {
			return nil
		}
		urls = append(urls, t.profiles...)
	}
	var known []*node
	for _, u := range urls {
		pr := c.d.Profile(u)
		if pr == nil || pr.root == nil || c.within > maxWithin {
			return nil // what is not known cannot be held against it
		}
		if slices.Contains(already, pr.root) || slices.Contains(known, pr.root) {
			return nil
		}
		known = append(known, pr.root)
	}
	if len(known) == 1 {
		return known
	}
	for _, k := range known {
		t := c.trial()
		if t.element(p, []*node{k}); t.passes() {
			return nil
		}
	}
	if len(known) > 1 {
		c.say(fhir.Structure, p.at, "%s wants this to conform to one of %s", n.label(), strings.Join(urls, ", "))
	}
	return nil
}

// targets holds a reference to the types that it may point at. FHIR R4 references.html
func (c *checker) targets(p place, n *node, types []typeRef) {
	if p.typ != "Reference" && p.typ != "canonical" || p.typ == "canonical" {
		return
	}
	target := c.target(p.v)
	if target == "" {
		return
	}
	var allowed []string
	for _, t := range types {
		if len(t.targets) == 0 {
			return
		}
		for _, url := range t.targets {
			name := c.d.typeOf(url)
			if name == "" || name == "Resource" || name == target {
				return
			}
			if !slices.Contains(allowed, name) {
				allowed = append(allowed, name)
			}
		}
	}
	c.say(fhir.Structure, p.at, "%s wants a reference to %s, and this is to a %s", n.label(), strings.Join(allowed, " or "), target)
}

// target is the type that a reference points at; "" if it does not say.
func (c *checker) target(v fhir.Value) string {
	ref := v.Member("reference").Str()
	if id, ok := strings.CutPrefix(ref, "#"); ok && id != "" {
		root := c.env.Root.Value()
		for r := range root.All("contained") {
			if r.Member("id").Str() == id {
				return r.Member("resourceType").Str()
			}
		}
		return ""
	}
	if t := v.Member("type").Str(); fhir.IsType(t) {
		return t
	}
	ref, _, _ = strings.Cut(ref, "/_history/")
	parts := strings.Split(ref, "/")
	if len(parts) >= 2 && fhir.IsType(parts[len(parts)-2]) {
		return parts[len(parts)-2]
	}
	return ""
}

// typeOf is the resource type that a profile is of; "" if it is not known.
func (d *Definitions) typeOf(url string) string {
	url, _, _ = strings.Cut(url, "|")
	if name, ok := strings.CutPrefix(url, base); ok && (r4.TypeOf(name) != nil || name == "Resource") {
		return name
	}
	if p := d.profiles[url]; p != nil {
		return p.Type
	}
	return ""
}

// equal reports whether two values are the same, with all that is in them. FHIR R4 elementdefinition-definitions.html#ElementDefinition.fixed_x_
func equal(a, b fhir.Value) bool { return covers(a, b) && covers(b, a) && sameLengths(a, b) }

func sameLengths(a, b fhir.Value) bool {
	if a.IsArray() != b.IsArray() {
		return false
	}
	x, y := items(a), items(b)
	if a.IsArray() && len(x) != len(y) {
		return false
	}
	if a.IsArray() {
		for i := range x {
			if !equal(x[i], y[i]) {
				return false
			}
		}
	}
	return true
}

// covers reports whether v has all that a pattern has. FHIR R4 elementdefinition-definitions.html#ElementDefinition.pattern_x_
func covers(v, pattern fhir.Value) bool {
	switch {
	case pattern.IsObject():
		if !v.IsObject() {
			return false
		}
		for m := range pattern.Children() {
			if !covers(v.Member(m.Key()), m) {
				return false
			}
		}
		return true
	case pattern.IsArray():
		for want := range pattern.Children() {
			if !slices.ContainsFunc(items(v), func(have fhir.Value) bool { return covers(have, want) }) {
				return false
			}
		}
		return true
	case !v.Exists() || v.IsObject() || v.IsArray() || v.IsString() != pattern.IsString():
		return false
	}
	if !v.IsString() && v.Str() != pattern.Str() {
		x, err1 := strconv.ParseFloat(v.Str(), 64)
		y, err2 := strconv.ParseFloat(pattern.Str(), 64)
		return err1 == nil && err2 == nil && x == y
	}
	return v.Str() == pattern.Str()
}

// brief quotes what a profile says: it is no one's data.
func brief(v fhir.Value) string {
	s := string(v.Raw())
	if len(s) > 200 {
		s = s[:200] + "…"
	}
	return s
}
