package hl7v2

import (
	"bytes"
	"fmt"
	"strings"
)

// An Encoder writes a message whose shape no value can change: every value is escaped, so that none can end a field, a segment or a
// frame. Its zero value is ready, and writes UTF-8 with the standard separators.
type Encoder struct{ buf bytes.Buffer }

// A Part is a composed value of a field: what Comp, Sub, Rep and Null make.
type Part struct{ wire string }

// Null is `""`: delete what you have. HL7 v2.4 §2.10
var Null = Part{`""`}

// Fields are a segment's fields by the numbers that the standard gives them. A value is a string, which is escaped, or a Part.
type Fields map[int]any

// Comp joins components, each a string or what Sub made. Empty ones at the end are left out.
func Comp(parts ...any) Part { return join(Standard.Component, parts) }

// Sub joins subcomponents.
func Sub(parts ...string) Part {
	list := make([]any, len(parts))
	for i, p := range parts {
		list[i] = p
	}
	return join(Standard.Sub, list)
}

// Rep joins the repetitions of a field, each a string or what Comp made.
func Rep(parts ...any) Part { return join(Standard.Repetition, parts) }

func join(d byte, parts []any) Part {
	var b strings.Builder
	for i, p := range parts {
		if i > 0 {
			b.WriteByte(d)
		}
		b.WriteString(wire(p))
	}
	return Part{strings.TrimRight(b.String(), string(rune(d)))}
}

// wire is what a value looks like on the line. Anything but a string or a Part is a mistake in the calling code.
func wire(v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case string:
		return escape(v)
	case Part:
		return v.wire
	}
	panic(fmt.Sprintf("hl7v2: a field is a string or a Part, not %T", v))
}

// Segment writes one segment. In MSH, fields 1 and 2 are written by the encoder itself.
func (e *Encoder) Segment(name string, fields Fields) {
	last, at := 0, 1
	for n, v := range fields {
		if v != "" && v != (Part{}) { // what is empty at the end is left out
			last = max(last, n)
		}
	}
	e.buf.WriteString(name)
	if name == "MSH" || name == "FHS" || name == "BHS" {
		e.buf.WriteString(`|^~\&`)
		at = 3
	}
	for ; at <= last; at++ {
		e.buf.WriteByte('|')
		e.buf.WriteString(wire(fields[at]))
	}
	e.buf.WriteByte('\r')
}

// Bytes is the message so far, each segment ended by CR.
func (e *Encoder) Bytes() []byte { return bytes.Clone(e.buf.Bytes()) }

// escape makes any text harmless inside a value. HL7 v2.4 §2.10
func escape(s string) string {
	if s == `""` { // as text, not as the order to delete
		return `\X22\"`
	}
	if strings.IndexFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f || strings.ContainsRune(`|^~\&`, r) }) < 0 {
		return s
	}
	var b strings.Builder
	b.Grow(len(s) + 16)
	for i := range len(s) {
		switch c := s[i]; {
		case c == '|':
			b.WriteString(`\F\`)
		case c == '^':
			b.WriteString(`\S\`)
		case c == '&':
			b.WriteString(`\T\`)
		case c == '~':
			b.WriteString(`\R\`)
		case c == '\\':
			b.WriteString(`\E\`)
		case c < ' ' || c == 0x7f:
			fmt.Fprintf(&b, `\X%02X\`, c)
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}

// Encode writes a parsed message anew, in UTF-8 with the standard separators and escapes: the same segments, fields and
// values, whatever separators, character set and line ends it arrived with. Only MSH-18 changes, where it named another set.
func Encode(m *Message) []byte {
	var e Encoder
	for _, s := range m.segs {
		e.buf.WriteString(s.name)
		from := 1
		if s.isHeader() {
			e.buf.WriteString(`|^~\&`)
			from = 3
		}
		for n := from; n <= s.Fields(); n++ {
			e.buf.WriteByte('|')
			if n == 18 && s.name == "MSH" && !s.Field(n).Empty() { // what it says now must be true of what is written
				if c := canonical(s.Field(n).Text()); c != "UTF-8" && c != "UNICODE" {
					e.buf.WriteString("UNICODE UTF-8")
					continue
				}
			}
			e.value(s.Field(n), field)
		}
		e.buf.WriteByte('\r')
	}
	return e.buf.Bytes()
}

func (e *Encoder) value(v Value, l level) {
	switch {
	case v.Null() && v.level == l:
		e.buf.WriteString(`""`)
	case l == subcomponent:
		e.buf.WriteString(escape(v.unescaped()))
	default:
		d, first := [...]byte{field: Standard.Repetition, repetition: Standard.Component, component: Standard.Sub}[l], true
		for p := range v.parts(l) {
			if !first {
				e.buf.WriteByte(d)
			}
			first = false
			e.value(p, l+1)
		}
	}
}
