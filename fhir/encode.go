package fhir

import (
	"bytes"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
)

// mustJSON writes a value as encoding/json does without escaping for HTML. What resources are made of is written directly: reflection took a
// tenth of the time of a message.
func mustJSON(v any) []byte { return appendJSON(make([]byte, 0, 256), v) }

func appendJSON(b []byte, v any) []byte {
	switch v := v.(type) {
	case string:
		return appendText(b, v)
	case Ref:
		return appendText(b, string(v))
	case bool:
		return strconv.AppendBool(b, v)
	case int:
		return strconv.AppendInt(b, int64(v), 10)
	case M:
		return appendM(b, v)
	case []M:
		return appendList(b, v, appendM)
	case []any:
		return appendList(b, v, appendJSON)
	case []string:
		return appendList(b, v, appendText)
	case json.RawMessage:
		if len(v) > 0 && !spaced(v) {
			return append(b, v...)
		}
	case CodeableConcept:
		return v.appendTo(b)
	case []CodeableConcept:
		return appendList(b, v, func(b []byte, c CodeableConcept) []byte { return c.appendTo(b) })
	case Coding:
		return v.appendTo(b)
	case []Coding:
		return appendList(b, v, func(b []byte, c Coding) []byte { return c.appendTo(b) })
	case Identifier:
		return v.appendTo(b)
	case []Identifier:
		return appendList(b, v, func(b []byte, i Identifier) []byte { return i.appendTo(b) })
	case Reference:
		return v.appendTo(b)
	case []Reference:
		return appendList(b, v, func(b []byte, r Reference) []byte { return r.appendTo(b) })
	case HumanName:
		return v.appendTo(b)
	case []HumanName:
		return appendList(b, v, func(b []byte, n HumanName) []byte { return n.appendTo(b) })
	case Address:
		return v.appendTo(b)
	case []Address:
		return appendList(b, v, func(b []byte, a Address) []byte { return a.appendTo(b) })
	case ContactPoint:
		return v.appendTo(b)
	case []ContactPoint:
		return appendList(b, v, func(b []byte, c ContactPoint) []byte { return c.appendTo(b) })
	case Quantity:
		return v.appendTo(b)
	case Period:
		return v.appendTo(b)
	case json.Number:
		if number(v) {
			return append(b, v...)
		}
	}
	return appendAny(b, v)
}

// appendAny writes what is not written often.
func appendAny(b []byte, v any) []byte {
	w := bytes.NewBuffer(b)
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		panic("fhir: " + err.Error())
	}
	return bytes.TrimRight(w.Bytes(), "\n")
}

// spaced reports whether a JSON text may hold white space between its tokens, which is not kept.
func spaced(raw []byte) bool { return bytes.ContainsAny(raw, "\n\r\t") || bytes.ContainsRune(raw, ' ') }

// number reports whether a number is its own JSON.
func number(n json.Number) bool {
	return strings.Trim(string(n), "0123456789+-.eE") == "" && json.Valid([]byte(n))
}

func appendText(b []byte, s string) []byte {
	if !plain(s) {
		return appendAny(b, s)
	}
	return append(append(append(b, '"'), s...), '"')
}

func appendM(b []byte, m M) []byte {
	if m == nil {
		return append(b, "null"...)
	}
	return appendMembers(append(b, '{'), m)
}

// appendMembers writes members in the order of their names, and the closing brace.
func appendMembers(b []byte, m M) []byte {
	names := make([]string, 0, 16)
	for k := range m {
		names = append(names, k)
	}
	slices.Sort(names)
	for i, k := range names {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(appendText(b, k), ':')
		b = appendJSON(b, m[k])
	}
	return append(b, '}')
}

func appendList[T any](b []byte, list []T, one func([]byte, T) []byte) []byte {
	if list == nil {
		return append(b, "null"...)
	}
	b = append(b, '[')
	for i, v := range list {
		if i > 0 {
			b = append(b, ',')
		}
		b = one(b, v)
	}
	return append(b, ']')
}

// An object is a JSON object being written, whose members have names of ours.
type object struct {
	b   []byte
	any bool
}

func (o *object) key(name string) {
	if o.any {
		o.b = append(o.b, ',')
	} else {
		o.b, o.any = append(o.b, '{'), true
	}
	o.b = append(append(append(o.b, '"'), name...), `":`...)
}

// text writes a member, unless it is empty.
func (o *object) text(name, value string) {
	if value != "" {
		o.key(name)
		o.b = appendText(o.b, value)
	}
}

func (o *object) texts(name string, values []string) {
	if len(values) > 0 {
		o.key(name)
		o.b = appendList(o.b, values, appendText)
	}
}

func (o *object) end() []byte {
	if !o.any {
		return append(o.b, "{}"...)
	}
	return append(o.b, '}')
}

func (c Coding) appendTo(b []byte) []byte {
	o := object{b: b}
	o.text("system", c.System)
	o.text("version", c.Version)
	o.text("code", c.Code)
	o.text("display", c.Display)
	if c.UserSelected {
		o.key("userSelected")
		o.b = append(o.b, "true"...)
	}
	return o.end()
}

func (c CodeableConcept) appendTo(b []byte) []byte {
	o := object{b: b}
	if len(c.Coding) > 0 {
		o.key("coding")
		o.b = appendJSON(o.b, c.Coding)
	}
	o.text("text", c.Text)
	return o.end()
}

func (i Identifier) appendTo(b []byte) []byte {
	o := object{b: b}
	o.text("use", i.Use)
	if i.Type != nil {
		o.key("type")
		o.b = i.Type.appendTo(o.b)
	}
	o.text("system", i.System)
	o.text("value", i.Value)
	if len(i.Extension) > 0 {
		o.key("extension")
		o.b = appendJSON(o.b, i.Extension)
	}
	if i.Period != nil {
		o.key("period")
		o.b = i.Period.appendTo(o.b)
	}
	return o.end()
}

func (r Reference) appendTo(b []byte) []byte {
	o := object{b: b}
	o.text("reference", r.Reference)
	o.text("type", r.Type)
	if r.Identifier != nil {
		o.key("identifier")
		o.b = r.Identifier.appendTo(o.b)
	}
	o.text("display", r.Display)
	return o.end()
}

func (n HumanName) appendTo(b []byte) []byte {
	o := object{b: b}
	o.text("use", n.Use)
	o.text("text", n.Text)
	o.text("family", n.Family)
	o.texts("given", n.Given)
	o.texts("prefix", n.Prefix)
	o.texts("suffix", n.Suffix)
	if n.Period != nil {
		o.key("period")
		o.b = n.Period.appendTo(o.b)
	}
	return o.end()
}

func (p Period) appendTo(b []byte) []byte {
	o := object{b: b}
	o.text("start", p.Start)
	o.text("end", p.End)
	return o.end()
}

func (a Address) appendTo(b []byte) []byte {
	o := object{b: b}
	o.text("use", a.Use)
	o.text("type", a.Type)
	o.text("text", a.Text)
	o.texts("line", a.Line)
	o.text("city", a.City)
	o.text("district", a.District)
	o.text("postalCode", a.PostalCode)
	o.text("country", a.Country)
	if a.Period != nil {
		o.key("period")
		o.b = a.Period.appendTo(o.b)
	}
	return o.end()
}

func (c ContactPoint) appendTo(b []byte) []byte {
	o := object{b: b}
	o.text("system", c.System)
	o.text("value", c.Value)
	o.text("use", c.Use)
	return o.end()
}

func (q Quantity) appendTo(b []byte) []byte {
	o := object{b: b}
	if q.Value != "" {
		o.key("value")
		o.b = appendJSON(o.b, q.Value)
	}
	o.text("comparator", q.Comparator)
	o.text("unit", q.Unit)
	o.text("system", q.System)
	o.text("code", q.Code)
	return o.end()
}
