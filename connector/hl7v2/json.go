package hl7v2

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"

	"tombolo/fhir"
)

// resource is fhir.New for fields made of the types that maps make: written straight down, since a hospital sends thousands a second.
func resource(typ, id string, fields fhir.M) *fhir.Resource {
	w := writers.Get().(*jsonWriter)
	defer writers.Put(w)
	w.b = append(w.b[:0], `{"resourceType":`...)
	w.str(typ)
	w.b = append(w.b, `,"id":`...)
	w.str(id)
	if len(fields) > 0 {
		w.b = append(w.b, ',')
		w.members(fields)
	}
	w.b = append(w.b, '}')
	r, err := fhir.Parse(bytes.Clone(w.b))
	if err != nil { // a mistake in a map, and never in what was sent
		panic("hl7v2: " + typ + ": " + err.Error())
	}
	return r
}

// writers lend their buffers: a resource's own bytes are made once, in their right size.
var writers = sync.Pool{New: func() any { return new(jsonWriter) }}

// A jsonWriter writes JSON without reflection. It leaves out what is empty where the datatypes do.
type jsonWriter struct {
	b    []byte
	keys []string
}

func (w *jsonWriter) members(m fhir.M) {
	from := len(w.keys)
	w.keys = slices.AppendSeq(w.keys, maps.Keys(m))
	slices.Sort(w.keys[from:])
	for i := from; i < from+len(m); i++ {
		if i > from {
			w.b = append(w.b, ',')
		}
		k := w.keys[i]
		w.str(k)
		w.b = append(w.b, ':')
		w.any(m[k])
	}
	w.keys = w.keys[:from]
}

// str writes a string; the rare ones that need more than a copy are left to encoding/json.
func (w *jsonWriter) str(s string) {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c == '"' || c == '\\' || c >= utf8.RuneSelf {
			if c >= utf8.RuneSelf && utf8.ValidString(s) && !strings.ContainsAny(s, "\"\\\u2028\u2029") && strings.IndexFunc(s, func(r rune) bool { return r < ' ' }) < 0 {
				break
			}
			w.other(s)
			return
		}
	}
	w.b = append(w.b, '"')
	w.b = append(w.b, s...)
	w.b = append(w.b, '"')
}

func (w *jsonWriter) other(v any) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		panic("hl7v2: " + err.Error())
	}
	w.b = append(w.b, bytes.TrimRight(b.Bytes(), "\n")...)
}

func (w *jsonWriter) any(v any) {
	switch v := v.(type) {
	case string:
		w.str(v)
	case bool:
		if v {
			w.b = append(w.b, "true"...)
		} else {
			w.b = append(w.b, "false"...)
		}
	case json.Number:
		w.b = append(w.b, v...)
	case json.RawMessage:
		w.b = append(w.b, v...)
	case fhir.M:
		w.b = append(w.b, '{')
		w.members(v)
		w.b = append(w.b, '}')
	case []any:
		array(w, v, w.any)
	case []fhir.M:
		array(w, v, func(m fhir.M) { w.any(m) })
	case []string:
		array(w, v, w.str)
	case fhir.Coding:
		w.coding(v)
	case []fhir.Coding:
		array(w, v, w.coding)
	case fhir.CodeableConcept:
		w.concept(v)
	case []fhir.CodeableConcept:
		array(w, v, w.concept)
	case fhir.Identifier:
		w.identifier(v)
	case []fhir.Identifier:
		array(w, v, w.identifier)
	case fhir.Reference:
		w.reference(v)
	case []fhir.Reference:
		array(w, v, w.reference)
	case fhir.HumanName:
		w.name(v)
	case fhir.Address:
		w.address(v)
	case fhir.ContactPoint:
		o := w.open()
		o.str("system", v.System)
		o.str("value", v.Value)
		o.str("use", v.Use)
		o.close()
	case fhir.Quantity:
		w.quantity(v)
	default:
		w.other(v)
	}
}

func array[T any](w *jsonWriter, list []T, each func(T)) {
	w.b = append(w.b, '[')
	for i, v := range list {
		if i > 0 {
			w.b = append(w.b, ',')
		}
		each(v)
	}
	w.b = append(w.b, ']')
}

// An open object: members that are empty are left out.
type openObject struct {
	w     *jsonWriter
	comma bool
}

func (w *jsonWriter) open() *openObject {
	w.b = append(w.b, '{')
	return &openObject{w: w}
}

func (o *openObject) close() { o.w.b = append(o.w.b, '}') }

func (o *openObject) key(k string) {
	if o.comma {
		o.w.b = append(o.w.b, ',')
	}
	o.comma = true
	o.w.b = append(o.w.b, '"')
	o.w.b = append(o.w.b, k...)
	o.w.b = append(o.w.b, '"', ':')
}

func (o *openObject) str(k, v string) {
	if v != "" {
		o.key(k)
		o.w.str(v)
	}
}

func (o *openObject) strs(k string, v []string) {
	if len(v) > 0 {
		o.key(k)
		array(o.w, v, o.w.str)
	}
}

func (o *openObject) period(p *fhir.Period) {
	if p != nil {
		o.key("period")
		o.w.other(p)
	}
}

func (w *jsonWriter) coding(c fhir.Coding) {
	o := w.open()
	o.str("system", c.System)
	o.str("version", c.Version)
	o.str("code", c.Code)
	o.str("display", c.Display)
	if c.UserSelected {
		o.key("userSelected")
		w.any(true)
	}
	o.close()
}

func (w *jsonWriter) concept(c fhir.CodeableConcept) {
	o := w.open()
	if len(c.Coding) > 0 {
		o.key("coding")
		array(w, c.Coding, w.coding)
	}
	o.str("text", c.Text)
	o.close()
}

func (w *jsonWriter) identifier(i fhir.Identifier) {
	o := w.open()
	o.str("use", i.Use)
	if i.Type != nil {
		o.key("type")
		w.concept(*i.Type)
	}
	o.str("system", i.System)
	o.str("value", i.Value)
	if len(i.Extension) > 0 {
		o.key("extension")
		w.b = append(w.b, i.Extension...)
	}
	o.period(i.Period)
	o.close()
}

func (w *jsonWriter) reference(r fhir.Reference) {
	o := w.open()
	o.str("reference", r.Reference)
	o.str("type", r.Type)
	if r.Identifier != nil {
		o.key("identifier")
		w.identifier(*r.Identifier)
	}
	o.str("display", r.Display)
	o.close()
}

func (w *jsonWriter) name(n fhir.HumanName) {
	o := w.open()
	o.str("use", n.Use)
	o.str("text", n.Text)
	o.str("family", n.Family)
	o.strs("given", n.Given)
	o.strs("prefix", n.Prefix)
	o.strs("suffix", n.Suffix)
	o.period(n.Period)
	o.close()
}

func (w *jsonWriter) address(a fhir.Address) {
	o := w.open()
	o.str("use", a.Use)
	o.str("type", a.Type)
	o.str("text", a.Text)
	o.strs("line", a.Line)
	o.str("city", a.City)
	o.str("district", a.District)
	o.str("postalCode", a.PostalCode)
	o.str("country", a.Country)
	o.period(a.Period)
	o.close()
}

func (w *jsonWriter) quantity(q fhir.Quantity) {
	o := w.open()
	if q.Value != "" {
		o.key("value")
		w.b = append(w.b, q.Value...)
	}
	o.str("comparator", q.Comparator)
	o.str("unit", q.Unit)
	o.str("system", q.System)
	o.str("code", q.Code)
	o.close()
}
