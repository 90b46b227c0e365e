package fhirpath

import (
	"strings"
	"sync"

	"tombolo/fhir/r4"
)

// A Type is one of FHIRPath's own (System.Integer) or of FHIR's (FHIR.Patient).
type Type struct {
	Namespace string // "System" or "FHIR"
	Name      string // "Integer", "Patient"; "BackboneElement" of an element with elements of its own

	base *Type
	of   *r4.Type // its elements; nil of primitives and System types
	kind kind     // how its values are read
}

// A kind is how a JSON value of a type becomes a System value.
type kind uint8

const (
	kindNone kind = iota
	kindBoolean
	kindInteger
	kindDecimal
	kindString
	kindDate
	kindDateTime
	kindTime
	kindQuantity
)

// Is reports whether t is other or derived from it.
func (t *Type) Is(other *Type) bool {
	for ; t != nil; t = t.base {
		if t == other {
			return true
		}
	}
	return false
}

// String is the qualified name.
func (t *Type) String() string { return t.Namespace + "." + t.Name }

func (t *Type) primitive() bool {
	return t.Namespace == "FHIR" && t.kind != kindNone && t.kind != kindQuantity || t.Name == "xhtml"
}

// system types
var (
	sysAny      = &Type{Namespace: "System", Name: "Any"}
	sysBoolean  = &Type{Namespace: "System", Name: "Boolean", base: sysAny, kind: kindBoolean}
	sysString   = &Type{Namespace: "System", Name: "String", base: sysAny, kind: kindString}
	sysInteger  = &Type{Namespace: "System", Name: "Integer", base: sysAny, kind: kindInteger}
	sysDecimal  = &Type{Namespace: "System", Name: "Decimal", base: sysAny, kind: kindDecimal}
	sysDate     = &Type{Namespace: "System", Name: "Date", base: sysAny, kind: kindDate}
	sysDateTime = &Type{Namespace: "System", Name: "DateTime", base: sysAny, kind: kindDateTime}
	sysTime     = &Type{Namespace: "System", Name: "Time", base: sysAny, kind: kindTime}
	sysQuantity = &Type{Namespace: "System", Name: "Quantity", base: sysAny, kind: kindQuantity}
	sysTypeInfo = &Type{Namespace: "System", Name: "SimpleTypeInfo", base: sysAny}
)

var systemTypes = func() map[string]*Type {
	m := map[string]*Type{}
	for _, t := range []*Type{sysAny, sysBoolean, sysString, sysInteger, sysDecimal, sysDate, sysDateTime, sysTime, sysQuantity} {
		m[t.Name] = t
	}
	return m
}()

// A model is FHIR R4's types.
type model struct {
	named map[string]*Type
	own   map[*r4.Type]*Type // of elements with elements of their own
}

var fhirModel = sync.OnceValue(func() *model {
	m := &model{map[string]*Type{}, map[*r4.Type]*Type{}}
	add := func(name string, base string, k kind, of *r4.Type) *Type {
		t := &Type{Namespace: "FHIR", Name: name, base: m.named[base], kind: k, of: of}
		m.named[name] = t
		return t
	}
	add("Resource", "", kindNone, nil)
	add("DomainResource", "Resource", kindNone, nil)
	add("Element", "", kindNone, r4.TypeOf("Element"))
	add("BackboneElement", "Element", kindNone, r4.TypeOf("BackboneElement"))
	for _, p := range []struct {
		name string
		kind kind
		sub  string
	}{
		{"boolean", kindBoolean, ""}, {"integer", kindInteger, "unsignedInt positiveInt"}, {"decimal", kindDecimal, ""}, {"string", kindString, "code id markdown"},
		{"uri", kindString, "url canonical oid uuid"}, {"base64Binary", kindString, ""}, {"date", kindDate, ""}, {"dateTime", kindDateTime, ""},
		{"instant", kindDateTime, ""}, {"time", kindTime, ""}, {"xhtml", kindString, ""},
	} {
		add(p.name, "Element", p.kind, nil)
		for sub := range strings.FieldsSeq(p.sub) {
			add(sub, p.name, p.kind, nil)
		}
	}
	add("Quantity", "Element", kindQuantity, r4.TypeOf("Quantity"))
	for t := range r4.Types() {
		base, k := "Element", kindNone
		switch {
		case t.Resource && (t.Name == "Bundle" || t.Name == "Binary" || t.Name == "Parameters"):
			base = "Resource"
		case t.Resource:
			base = "DomainResource"
		case strings.Contains(" Age Count Distance Duration MoneyQuantity SimpleQuantity ", " "+t.Name+" "):
			base, k = "Quantity", kindQuantity
		case t.Element("modifierExtension") != nil:
			base = "BackboneElement"
		}
		if m.named[t.Name] == nil {
			add(t.Name, base, k, t)
		}
		m.addOwn(t, t.Resource)
	}
	return m
})

func (m *model) addOwn(t *r4.Type, inResource bool) {
	for _, e := range t.Elements {
		if e.Own == nil || m.own[e.Own] != nil {
			continue
		}
		base := m.named["Element"]
		if inResource {
			base = m.named["BackboneElement"]
		}
		m.own[e.Own] = &Type{Namespace: "FHIR", Name: base.Name, base: base, of: e.Own}
		m.addOwn(e.Own, inResource)
	}
}

// TypeOf is FHIR R4's type of this name; nil if there is none.
func TypeOf(name string) *Type { return fhirModel().named[name] }

// find gives the types that a specifier names: of FHIR and of System, if it does not say which.
func findTypes(namespace, name string) []*Type {
	var out []*Type
	if t := fhirModel().named[name]; t != nil && namespace != "System" {
		out = append(out, t)
	}
	if t := systemTypes[name]; t != nil && namespace != "FHIR" {
		out = append(out, t)
	}
	return out
}

// typeOfElement is the type of an element's values; typ is the data type that the member's name says.
func (m *model) typeOfElement(e *r4.Element, typ string) *Type {
	if e.Own != nil {
		return m.own[e.Own]
	}
	if t := m.named[typ]; t != nil {
		return t
	}
	return m.named["Element"]
}
