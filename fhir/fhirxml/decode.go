package fhirxml

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"slices"
	"strings"

	"tombolo/fhir"
	"tombolo/fhir/r4"
)

// Decode reads a resource in XML, strictly: every element and attribute must be one of R4's. The answer is the same resource in JSON.
func Decode(data []byte) (*fhir.Resource, error) {
	d := decoder{data: data, xml: xml.NewDecoder(bytes.NewReader(data))}
	d.xml.CharsetReader = func(charset string, _ io.Reader) (io.Reader, error) {
		return nil, fhir.Errorf(fhir.Structure, "FHIR's XML is in UTF-8")
	}
	start, err := d.next()
	if err != nil {
		return nil, err
	}
	if start == nil {
		return nil, fhir.Errorf(fhir.Structure, "there is no element in this document")
	}
	if err := d.resource(*start); err != nil {
		return nil, err
	}
	if rest, err := d.next(); err != nil || rest != nil {
		return nil, fhir.Errorf(fhir.Structure, "something follows the end of the resource")
	}
	return fhir.Parse(d.out.Bytes())
}

type decoder struct {
	data  []byte
	xml   *xml.Decoder
	out   bytes.Buffer
	depth int
}

func (d *decoder) wrong(format string, args ...any) error {
	line, _ := d.xml.InputPos()
	return fhir.Errorf(fhir.Structure, "line %d: "+format, append([]any{line}, args...)...)
}

// next is the next element that begins, or nil where the one around it, or the document, ends.
func (d *decoder) next() (*xml.StartElement, error) {
	for {
		token, err := d.xml.Token()
		if errors.Is(err, io.EOF) {
			return nil, nil
		}
		if err != nil {
			if i := fhir.IssueOf(err); i != nil {
				return nil, i
			}
			return nil, d.wrong("this is not well-formed XML")
		}
		switch t := token.(type) {
		case xml.StartElement:
			if d.depth++; d.depth > fhir.MaxDepth {
				return nil, fhir.Errorf(fhir.TooCostly, "nested more than %d deep", fhir.MaxDepth)
			}
			return &t, nil
		case xml.EndElement:
			d.depth--
			return nil, nil
		case xml.CharData:
			if len(bytes.TrimSpace(t)) > 0 {
				return nil, d.wrong("a value stands in the attribute value, not as text")
			}
		case xml.Directive:
			return nil, d.wrong("a document type is not taken")
		}
	}
}

// A member is one JSON member in the making.
type member struct {
	name              string
	many              bool
	values, companion [][]byte // nil: null
}

func (d *decoder) resource(start xml.StartElement) error {
	t := r4.TypeOf(start.Name.Local)
	if t == nil || !t.Resource || start.Name.Space != namespace {
		return d.wrong("a resource is an element of the namespace %s with the name of an R4 resource", namespace)
	}
	for _, a := range start.Attr {
		if a.Name.Local != "xmlns" && a.Name.Space != "xmlns" && a.Name.Local != "schemaLocation" {
			return d.wrong("a resource has no attribute %.40q", a.Name.Local)
		}
	}
	d.out.WriteString(`{"resourceType":`)
	d.out.Write(fhir.JSON(t.Name))
	members, err := d.members(t)
	if err != nil {
		return err
	}
	d.write(members, true)
	d.out.WriteByte('}')
	return nil
}

// members reads the elements inside one, to its end.
func (d *decoder) members(t *r4.Type) ([]*member, error) {
	var list []*member
	for {
		start, err := d.next()
		if err != nil || start == nil {
			return list, err
		}
		name := start.Name.Local
		el, typ := t.Member(name)
		if el == nil || start.Name.Space != namespace && typ != "xhtml" {
			return nil, d.wrong("%s has no element %.60q", t.Name, name)
		}
		i := slices.IndexFunc(list, func(m *member) bool { return m.name == name })
		if i < 0 {
			i = len(list)
			list = append(list, &member{name: name, many: el.Many})
		} else if !el.Many {
			return nil, d.wrong("%s stands once", name)
		}
		value, companion, err := d.value(*start, el, typ)
		if err != nil {
			return nil, err
		}
		list[i].values, list[i].companion = append(list[i].values, value), append(list[i].companion, companion)
	}
}

// value reads one element: its JSON, and that of its companion if it is a primitive value with an id or extensions.
func (d *decoder) value(start xml.StartElement, el *r4.Element, typ string) (value, companion []byte, err error) {
	switch {
	case el.Own == nil && typ == "xhtml":
		value, err = d.narrative(start)
		return value, nil, err
	case el.Own == nil && typ == "Resource":
		inner := decoder{data: d.data, xml: d.xml, depth: d.depth}
		res, err := inner.next()
		if err == nil && res == nil {
			err = d.wrong("%s holds a resource", start.Name.Local)
		}
		if err == nil {
			err = inner.resource(*res)
		}
		if err == nil {
			if more, nerr := inner.next(); nerr != nil || more != nil {
				err = d.wrong("%s holds one resource", start.Name.Local)
			}
		}
		d.depth--
		return inner.out.Bytes(), nil, err
	case el.Own == nil && r4.Primitive(typ):
		return d.primitive(start, typ)
	}
	t := el.Own
	if t == nil {
		t = r4.TypeOf(typ)
	}
	if t == nil {
		return nil, nil, d.wrong("%s has no type", start.Name.Local)
	}
	var head []*member
	for _, a := range start.Attr {
		switch {
		case a.Name.Local == "xmlns" || a.Name.Space == "xmlns":
		case a.Name.Local == "id" || a.Name.Local == "url" && t.Name == "Extension":
			head = append(head, &member{name: a.Name.Local, values: [][]byte{fhir.JSON(a.Value)}})
		default:
			return nil, nil, d.wrong("%s has no attribute %.40q", start.Name.Local, a.Name.Local)
		}
	}
	members, err := d.members(t)
	if err != nil {
		return nil, nil, err
	}
	return object(append(head, members...)), nil, nil
}

func object(members []*member) []byte {
	inner := decoder{}
	inner.out.WriteByte('{')
	inner.write(members, false)
	inner.out.WriteByte('}')
	return inner.out.Bytes()
}

func (d *decoder) primitive(start xml.StartElement, typ string) (value, companion []byte, err error) {
	var head []*member
	for _, a := range start.Attr {
		switch {
		case a.Name.Local == "xmlns" || a.Name.Space == "xmlns":
		case a.Name.Local == "value":
			value = fhir.JSON(a.Value)
			if kind := r4.Kind(typ); kind != "string" {
				if value = []byte(strings.TrimSpace(a.Value)); !r4.Written(typ, string(value)) {
					return nil, nil, d.wrong("the value of %s is no %s", start.Name.Local, typ)
				}
			}
		case a.Name.Local == "id":
			head = append(head, &member{name: "id", values: [][]byte{fhir.JSON(a.Value)}})
		default:
			return nil, nil, d.wrong("%s has no attribute %.40q", start.Name.Local, a.Name.Local)
		}
	}
	members, err := d.members(r4.TypeOf("Element"))
	if err != nil {
		return nil, nil, err
	}
	if head = append(head, members...); len(head) > 0 {
		companion = object(head)
	}
	return value, companion, nil
}

// narrative takes a div as it is written. It must be well-formed, and is not looked into. FHIR R4 narrative.html
func (d *decoder) narrative(start xml.StartElement) ([]byte, error) {
	if start.Name.Space != xhtml {
		return nil, d.wrong("a narrative is a div of the namespace %s", xhtml)
	}
	from := int(d.xml.InputOffset())
	for from > 0 && d.data[from-1] != '<' {
		from--
	}
	from-- // to the < of <div
	if from < 0 || !bytes.HasPrefix(d.data[from:], []byte("<")) {
		return nil, d.wrong("a narrative cannot be read")
	}
	for inside := 1; inside > 0; {
		token, err := d.xml.Token()
		if err != nil {
			return nil, d.wrong("the narrative is not well-formed XML")
		}
		switch token.(type) {
		case xml.StartElement:
			if inside++; inside+d.depth > 4*fhir.MaxDepth {
				return nil, fhir.Errorf(fhir.TooCostly, "the narrative is nested too deep")
			}
		case xml.EndElement:
			inside--
		case xml.Directive, xml.ProcInst:
			return nil, d.wrong("a narrative holds elements and text only")
		}
	}
	d.depth--
	div := string(d.data[from:d.xml.InputOffset()])
	if head, _, _ := strings.Cut(div, ">"); !strings.Contains(head, "xmlns") {
		div = strings.Replace(div, "<div", `<div xmlns="`+xhtml+`"`, 1)
	}
	return fhir.JSON(div), nil
}

// write gives members as JSON; after says that something stands before them already.
func (d *decoder) write(members []*member, after bool) {
	put := func(name string, m *member, values [][]byte) {
		if !slices.ContainsFunc(values, func(v []byte) bool { return v != nil }) {
			return
		}
		if after {
			d.out.WriteByte(',')
		}
		after = true
		d.out.Write(fhir.JSON(name))
		d.out.WriteByte(':')
		if m.many {
			d.out.WriteByte('[')
		}
		for i, v := range values {
			if i > 0 {
				d.out.WriteByte(',')
			}
			if v == nil {
				v = []byte("null")
			}
			d.out.Write(v)
		}
		if m.many {
			d.out.WriteByte(']')
		}
	}
	for _, m := range members {
		put(m.name, m, m.values)
		put("_"+m.name, m, m.companion)
	}
}
