package profile

import (
	"slices"
	"strings"

	"tombolo/fhir"
	"tombolo/fhir/fhirpath"
)

// A context says where an extension may stand. FHIR R4 defining-extensions.html#context
type context struct {
	kind, expression string
	expr             *fhirpath.Expr
}

// extension holds an extension to its definition, if that is known: where it stands, and whether it may change the meaning.
func (c *checker) extension(p place) []*node {
	url := p.v.Member("url").Str()
	inModifier := p.under.Name == "modifierExtension"
	if !strings.Contains(url, ":") { // part of a complex extension, whose definition says what it is
		return nil
	}
	d := c.d.Profile(url)
	if d == nil || d.Type != "Extension" {
		switch near := c.d.near(url); {
		case inModifier:
			c.tell(note(fhir.Warning, fhir.NotFound, p.at, "a modifier extension changes what this means, and its definition is not known here"))
		case near != "":
			c.tell(note(fhir.Warning, fhir.NotFound, p.at, "its publisher's definitions are known here, and this extension is not among them. Did you mean %s?", near))
		}
		return nil
	}
	switch {
	case d.modifier && !inModifier:
		c.say(fhir.Structure, p.at, "%s changes the meaning: it stands in modifierExtension", d.Name)
	case !d.modifier && inModifier:
		c.say(fhir.Structure, p.at, "%s does not change the meaning: it stands in extension", d.Name)
	}
	if len(d.contexts) > 0 && p.in != nil && !slices.ContainsFunc(d.contexts, func(x context) bool { return c.stands(x, p.in) }) {
		var where []string
		for _, x := range d.contexts {
			where = append(where, x.expression)
		}
		c.say(fhir.Structure, p.at, "%s does not stand here, but in %s", d.Name, strings.Join(where, ", "))
	}
	return []*node{d.root}
}

// near is the extension that is most likely meant by an unknown one of the same publisher; "" if none of that publisher is known, or none is like it.
func (d *Definitions) near(url string) string {
	i := strings.LastIndexByte(url, '/')
	var names []string
	for u, p := range d.profiles {
		if p.Type == "Extension" && strings.HasPrefix(u, url[:i+1]) && !strings.Contains(u[i+1:], "/") {
			names = append(names, u[i+1:])
		}
	}
	if near := fhir.Nearest(url[i+1:], names); near != "" && i > 0 {
		return url[:i+1] + near
	}
	return ""
}

// stands reports whether an element is one that a context means.
func (c *checker) stands(x context, in *place) bool {
	switch x.kind {
	case "extension":
		return in.typ == "Extension" && in.v.Member("url").Str() == x.expression
	case "fhirpath":
		if x.expr == nil {
			return true
		}
		found, err := x.expr.Eval(c.env.Resource, &c.env)
		return err != nil || slices.ContainsFunc(found, func(it fhirpath.Item) bool { return it.Value() == in.v && in.v.Exists() })
	}
	if x.expression == "Element" || x.expression == "Resource" && in.of != nil && in.of.Resource {
		return true
	}
	if t := fhirpath.TypeOf(x.expression); t != nil && in.it.Type().Is(t) {
		return true
	}
	_, profiled := strings.CutPrefix(x.expression, "http")
	if profiled || !strings.Contains(x.expression, ".") {
		return profiled // of a profile's element: not followed
	}
	return strings.ReplaceAll(x.expression, "[x]", "") == in.path()
}

// path is an element's path from the type that it is part of: "Patient.contact", "HumanName.given".
func (p *place) path() string {
	if p.in == nil || p.under == nil {
		return p.typ
	}
	if p.in.of == nil {
		return p.in.typ + "." + p.under.Name
	}
	return strings.ReplaceAll(p.in.of.Name, "[x]", "") + "." + p.under.Name
}
