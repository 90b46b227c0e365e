// Package fhirxml turns FHIR R4 resources from JSON to XML and back. FHIR R4 xml.html
//
// Both forms say the same; JSON is the one that is kept. Text of numbers, order of lists, ids and extensions of primitive values, and narratives
// survive the way there and back. Nothing is fetched, and a document type is refused: there are no entities but XML's own.
package fhirxml

import (
	"bytes"
	"encoding/xml"
	"regexp"
	"strings"

	"tombolo/fhir"
	"tombolo/fhir/r4"
)

const (
	namespace = "http://hl7.org/fhir"
	xhtml     = "http://www.w3.org/1999/xhtml"
)

// Encode writes a resource as XML. It fails where the JSON is not of R4's shape: XML has a place for nothing else.
func Encode(r *fhir.Resource) ([]byte, error) {
	e := encoder{}
	e.buf.Grow(len(r.Raw()) * 3 / 2)
	e.buf.WriteString(`<?xml version="1.0" encoding="UTF-8"?>` + "\n")
	if err := e.resource(r.Value(), true); err != nil {
		return nil, err
	}
	return e.buf.Bytes(), nil
}

type encoder struct{ buf bytes.Buffer }

func misshapen(at string) error {
	return fhir.Errorf(fhir.Structure, "this has no place in XML: hold the resource to R4 with $validate").At(at)
}

func (e *encoder) resource(v fhir.Value, root bool) error {
	t := r4.TypeOf(v.Text("resourceType"))
	if t == nil || !t.Resource {
		return misshapen("resourceType")
	}
	e.buf.WriteString("<" + t.Name)
	if root {
		e.buf.WriteString(` xmlns="` + namespace + `"`)
	}
	e.buf.WriteString(">")
	if err := e.members(v, t, true); err != nil {
		return err
	}
	e.buf.WriteString("</" + t.Name + ">")
	return nil
}

// members writes an object's elements, in the order that XML wants.
func (e *encoder) members(v fhir.Value, t *r4.Type, resource bool) error {
	byElement := map[*r4.Element][2]fhir.Value{}
	types, names := map[*r4.Element]string{}, map[*r4.Element]string{}
	for m := range v.Children() {
		key := m.Key()
		if key == "resourceType" && resource || key == "fhir_comments" {
			continue
		}
		name, companion := strings.CutPrefix(key, "_")
		el, typ := t.Member(name)
		if el == nil {
			return misshapen(t.Name + "." + name)
		}
		pair := byElement[el]
		if companion {
			pair[1] = m
		} else {
			pair[0] = m
		}
		byElement[el], types[el], names[el] = pair, typ, name
	}
	for _, el := range t.Elements {
		pair, ok := byElement[el]
		if !ok || attribute(t, el, resource) {
			continue
		}
		values, companions := items(pair[0]), items(pair[1])
		for i := range max(len(values), len(companions)) {
			var value, companion fhir.Value
			if i < len(values) {
				value = values[i]
			}
			if i < len(companions) {
				companion = companions[i]
			}
			if err := e.element(names[el], el, types[el], value, companion); err != nil {
				return err
			}
		}
	}
	return nil
}

// attribute reports whether an element is an attribute in XML: ids of elements, and the url of an extension. FHIR R4 xml.html#representation
func attribute(t *r4.Type, el *r4.Element, resource bool) bool {
	return el.Name == "id" && !resource || el.Name == "url" && t.Name == "Extension"
}

func items(v fhir.Value) []fhir.Value {
	if !v.IsArray() {
		if !v.Exists() {
			return nil
		}
		return []fhir.Value{v}
	}
	var out []fhir.Value
	for c := range v.Children() {
		out = append(out, c)
	}
	return out
}

func (e *encoder) element(name string, el *r4.Element, typ string, v, companion fhir.Value) error {
	if string(v.Raw()) == "null" {
		v = fhir.Value{}
	}
	if string(companion.Raw()) == "null" {
		companion = fhir.Value{}
	}
	switch {
	case typ == "xhtml":
		e.buf.WriteString(plainEntities(v.Str()))
		return nil
	case typ == "Resource" && el.Own == nil:
		e.buf.WriteString("<" + name + ">")
		if err := e.resource(v, false); err != nil {
			return err
		}
		e.buf.WriteString("</" + name + ">")
		return nil
	case el.Own == nil && r4.Primitive(typ):
		return e.primitive(name, v, companion)
	}
	t := el.Own
	if t == nil {
		t = r4.TypeOf(typ)
	}
	if t == nil || !v.IsObject() {
		return misshapen(name)
	}
	e.buf.WriteString("<" + name)
	e.attribute("id", v.Member("id"))
	if t.Name == "Extension" {
		e.attribute("url", v.Member("url"))
	}
	e.buf.WriteString(">")
	if err := e.members(v, t, false); err != nil {
		return err
	}
	e.buf.WriteString("</" + name + ">")
	return nil
}

func (e *encoder) primitive(name string, v, companion fhir.Value) error {
	if v.IsObject() || v.IsArray() {
		return misshapen(name)
	}
	e.buf.WriteString("<" + name)
	e.attribute("id", companion.Member("id"))
	e.attribute("value", v)
	if !companion.Member("extension").Exists() {
		e.buf.WriteString("/>")
		return nil
	}
	e.buf.WriteString(">")
	if err := e.members(companion, r4.TypeOf("Element"), false); err != nil {
		return err
	}
	e.buf.WriteString("</" + name + ">")
	return nil
}

func (e *encoder) attribute(name string, v fhir.Value) {
	if !v.Exists() {
		return
	}
	e.buf.WriteString(" " + name + `="`)
	_ = xml.EscapeText(&e.buf, []byte(v.Str()))
	e.buf.WriteByte('"')
}

var entity = regexp.MustCompile(`&[a-zA-Z]+;`)

// plainEntities writes HTML's named characters, which XML does not know, as themselves.
func plainEntities(div string) string {
	return entity.ReplaceAllStringFunc(div, func(s string) string {
		switch s {
		case "&amp;", "&lt;", "&gt;", "&quot;", "&apos;":
			return s
		}
		if c, ok := xml.HTMLEntity[s[1:len(s)-1]]; ok {
			return c
		}
		return s
	})
}
