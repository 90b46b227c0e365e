package r4

import (
	"strconv"
	"strings"

	"tombolo/fhir"
)

// How strict a check is.
type Level int

const (
	// Shape is what a server must hold a resource to in order to keep it: every element is one of R4's, stands once or as a list as R4 has it, and its value can
	// be what it is said to be.
	Shape Level = iota
	// Whole is also what must be there, and the codes of required bindings.
	Whole
)

// maxIssues is how many issues of one resource are told.
const maxIssues = 50

// Check holds a resource to R4. None means that nothing is wrong. Text names elements and never repeats a value. FHIR R4 validation.html
func Check(r *fhir.Resource, level Level) []*fhir.Issue {
	c := checker{level: level}
	c.resource(r.Value(), r.Type())
	return c.issues
}

type checker struct {
	level  Level
	issues []*fhir.Issue
}

func (c *checker) say(t fhir.IssueType, at, format string, args ...any) {
	if len(c.issues) < maxIssues {
		c.issues = append(c.issues, fhir.Errorf(t, format, args...).At(at))
	}
}

func (c *checker) resource(v fhir.Value, at string) {
	name := v.Member("resourceType").Str()
	t := TypeOf(name)
	if t == nil || !t.Resource {
		c.say(fhir.Structure, at, "a resource has a resourceType, one of R4's")
		return
	}
	c.object(v, t, at)
}

// object checks the members of an object against a type.
func (c *checker) object(v fhir.Value, t *Type, at string) {
	if !v.IsObject() {
		c.say(fhir.Structure, at, "this is an object of type %s, with elements of its own", t.Name)
		return
	}
	seen := map[*Element]string{}
	empty := true
	for m := range v.Children() {
		empty = false
		key := m.Key()
		if key == "resourceType" && t.Resource || key == "fhir_comments" {
			continue
		}
		name := strings.TrimPrefix(key, "_")
		e, typ := t.Member(name)
		if e == nil {
			c.unknown(t, at, name)
			continue
		}
		if was, ok := seen[e]; ok && was != name {
			c.say(fhir.Structure, at+"."+e.Name, "it has one type at a time: %s or %s", was, name)
		}
		seen[e] = name
		path := at + "." + e.Name
		if e.Choice { // as FHIRPath finds it
			path += ".ofType(" + typ + ")"
		}
		if name != key {
			c.companions(m, e, typ, path)
		} else {
			c.element(m, e, typ, path)
		}
	}
	if empty {
		c.say(fhir.Structure, at, "an object holds at least one element: leave it out")
	}
	if c.level >= Whole {
		for _, e := range t.Elements {
			if e.Min > 0 && seen[e] == "" {
				c.say(fhir.Required, at+"."+e.Name, "this must be there")
			}
		}
	}
}

func (c *checker) unknown(t *Type, at, name string) {
	if len(name) > 64 || strings.ContainsFunc(name, func(r rune) bool { return r < '0' || r > 'z' }) {
		c.say(fhir.Structure, at, "%s has no element of this name", t.Name)
		return
	}
	names := make([]string, 0, len(t.Elements))
	for _, e := range t.Elements {
		names = append(names, e.Name)
	}
	hint := ""
	if near := fhir.Nearest(name, names); near != "" {
		hint = ". Did you mean " + near + "?"
	}
	c.say(fhir.Structure, at, "%s has no element %q%s", t.Name, name, hint)
}

// element checks a member: one value, or a list of them. FHIR R4 json.html#repeat
func (c *checker) element(v fhir.Value, e *Element, typ, at string) {
	if v.IsArray() != e.Many {
		if e.Many {
			c.say(fhir.Structure, at, "this is a list: write [ … ]")
		} else {
			c.say(fhir.Structure, at, "this stands once: no list")
		}
		return
	}
	if !e.Many {
		c.value(v, e, typ, at)
		return
	}
	n := 0
	for item := range v.Children() {
		if string(item.Raw()) == "null" && Primitive(typ) { // its companion has something. FHIR R4 json.html#null
			n++
			continue
		}
		c.value(item, e, typ, at+"["+strconv.Itoa(n)+"]")
		n++
	}
	if n == 0 {
		c.say(fhir.Structure, at, "a list holds at least one: leave it out")
	}
}

func (c *checker) value(v fhir.Value, e *Element, typ, at string) {
	switch {
	case e.Own != nil:
		c.object(v, e.Own, at)
	case typ == "Resource":
		c.resource(v, at)
	case typ == "xhtml":
		if !v.IsString() || !strings.HasPrefix(strings.TrimSpace(v.Str()), "<div") {
			c.say(fhir.Structure, at, "a narrative is XHTML in one div")
		}
	case Primitive(typ):
		c.primitive(v, e, typ, at)
	default:
		if t := TypeOf(typ); t != nil {
			c.object(v, t, at)
		}
	}
}

// companions checks what "_name" says of the primitive values of name: their ids and extensions. FHIR R4 json.html#primitive
func (c *checker) companions(v fhir.Value, e *Element, typ, at string) {
	if !Primitive(typ) {
		c.say(fhir.Structure, at, "only a primitive value has a companion with an underscore")
		return
	}
	if v.IsArray() != e.Many {
		c.say(fhir.Structure, at, "the companion of a list is a list, and of one value an object")
		return
	}
	if !e.Many {
		c.object(v, TypeOf("Element"), at)
		return
	}
	n := 0
	for item := range v.Children() {
		if string(item.Raw()) != "null" {
			c.object(item, TypeOf("Element"), at+"["+strconv.Itoa(n)+"]")
		}
		n++
	}
}

func (c *checker) primitive(v fhir.Value, e *Element, typ, at string) {
	p := primitives[typ]
	if kind := kindOf(v); kind != p.kind {
		c.say(fhir.ValueError, at, "this is a JSON %s, and a %s is a JSON %s", kind, typ, p.kind)
		return
	}
	if raw := v.Raw(); typ == "base64Binary" && len(raw) > maxString && base64(raw[1:len(raw)-1]) {
		return // as it stands, without a copy: it may be as large as all else
	}
	s := v.Str()
	switch {
	case s == "":
		c.say(fhir.ValueError, at, "a value is not empty: leave it out")
	case len(s) > maxString && typ != "base64Binary":
		c.say(fhir.TooLong, at, "a text has at most %d bytes", maxString)
	case strings.IndexByte(s, 0) >= 0:
		c.say(fhir.ValueError, at, "a text holds no NUL")
	case !p.ok(s):
		c.say(fhir.ValueError, at, "this is no %s: %s", typ, p.looks)
	case c.level >= Whole && e.Codes != nil && !e.Codes[s]:
		c.say(fhir.CodeInvalid, at, "the code is not one of those that R4 allows here")
	}
}

func kindOf(v fhir.Value) string {
	switch {
	case v.IsString():
		return "string"
	case v.IsObject():
		return "object"
	case v.IsArray():
		return "list"
	}
	switch s := v.Str(); s {
	case "true", "false":
		return "boolean"
	case "":
		return "null"
	}
	return "number"
}
