package hl7v2

import (
	"encoding/hex"
	"iter"
	"strconv"
	"strings"
)

// A Value is a field, repetition, component or subcomponent: a piece of the message's text.
type Value struct {
	raw   string
	m     *Message
	level level
	at    int32 // where it stands in the message's text
}

type level uint8

const (
	field level = iota
	repetition
	component
	subcomponent
)

// Raw is the text as it arrived, separators and escapes and all.
func (v Value) Raw() string { return v.raw }

// Empty reports whether nothing was sent, which means "unchanged".
func (v Value) Empty() bool { return v.raw == "" }

// Null reports whether `""` was sent, which means "delete what you have". HL7 v2.4 §2.10
func (v Value) Null() bool { return v.raw == `""` }

// Place names where the value stands, "PID-5(2).12": which repetition where there are several, which component where the value is in one. "" of what
// stands in no message.
func (v Value) Place() string {
	if v.m == nil {
		return ""
	}
	for _, s := range v.m.segs {
		if v.at < s.start || v.at > s.end {
			continue
		}
		n := 1
		for n < int(s.n)-1 && v.m.bounds[int(s.first)+n] < v.at {
			n++
		}
		whole := s.piece(n)
		if s.isHeader() {
			n++
		}
		before := whole.raw[:max(0, v.at-whole.at)]
		place := s.Place(n)
		rep := 0
		if d := v.m.Delims.Repetition; d != 0 && strings.IndexByte(whole.raw, d) >= 0 && v.level > field {
			rep = strings.Count(before, char(d)) + 1
			place += "(" + strconv.Itoa(rep) + ")"
			before = before[strings.LastIndexByte(before, d)+1:]
		}
		if d := v.m.Delims.Component; d != 0 && v.level > repetition {
			place += "." + strconv.Itoa(strings.Count(before, char(d))+1)
		}
		return place
	}
	return ""
}

func (v Value) delim(l level) byte {
	if v.m == nil {
		return 0
	}
	switch l {
	case field:
		return v.m.Delims.Repetition
	case repetition:
		return v.m.Delims.Component
	case component:
		return v.m.Delims.Sub
	}
	return 0
}

// Reps yields a field's repetitions, empty ones included; an empty field has none.
func (v Value) Reps() iter.Seq[Value] { return v.parts(field) }

// Comps yields the components of a field's first repetition, or of a repetition.
func (v Value) Comps() iter.Seq[Value] { return v.first(repetition).parts(repetition) }

// Subs yields the subcomponents of the first component, or of a component.
func (v Value) Subs() iter.Seq[Value] { return v.first(component).parts(component) }

func (v Value) parts(l level) iter.Seq[Value] {
	return func(yield func(Value) bool) {
		if v.raw == "" {
			return
		}
		d, rest, at := v.delim(l), v.raw, v.at
		for {
			i := -1
			if d != 0 {
				i = strings.IndexByte(rest, d)
			}
			if i < 0 {
				yield(Value{rest, v.m, l + 1, at})
				return
			}
			if !yield(Value{rest[:i], v.m, l + 1, at}) {
				return
			}
			rest, at = rest[i+1:], at+int32(i)+1
		}
	}
}

// first goes down to a level by way of first parts.
func (v Value) first(l level) Value {
	for v.level < l {
		v = v.part(1)
	}
	return v
}

// part is piece n, from 1, of the level below.
func (v Value) part(n int) Value {
	d := v.delim(v.level)
	v.level++
	for ; n > 1; n-- {
		i := -1
		if d != 0 {
			i = strings.IndexByte(v.raw, d)
		}
		if i < 0 {
			v.raw = ""
			return v
		}
		v.raw, v.at = v.raw[i+1:], v.at+int32(i)+1
	}
	if d != 0 {
		if i := strings.IndexByte(v.raw, d); i >= 0 {
			v.raw = v.raw[:i]
		}
	}
	return v
}

// Comp is component n, from 1, of a repetition or of a field's first repetition.
func (v Value) Comp(n int) Value {
	v = v.first(repetition)
	if v.level > repetition {
		if n == 1 {
			return v
		}
		return Value{}
	}
	return v.part(n)
}

// Sub is subcomponent n, from 1, of a component or of the first component.
func (v Value) Sub(n int) Value {
	v = v.first(component)
	if v.level > component {
		if n == 1 {
			return v
		}
		return Value{}
	}
	return v.part(n)
}

// Text is the first leaf, unescaped: of a field, the first subcomponent of the first component of the first repetition. `""` gives "".
func (v Value) Text() string {
	v = v.first(subcomponent)
	return v.unescaped()
}

// Words is everything in the value, unescaped, with separators kept as they stand: what a person meant who typed & or ^ into
// free text that the sender forgot to escape. `""` gives "".
func (v Value) Words() string { return v.unescaped() }

func (v Value) unescaped() string {
	if v.raw == `""` {
		return ""
	}
	if v.m != nil && v.m.told != nil {
		v.m.told.note(v)
	}
	if v.m == nil || v.m.Delims.Escape == 0 || strings.IndexByte(v.raw, v.m.Delims.Escape) < 0 {
		return v.raw
	}
	return unescape(v.raw, v.m)
}

// unescape undoes the escape sequences. What is no sequence, such as a lone backslash in a file path, stays as it is.
//
// HL7 v2.4 §2.10
func unescape(s string, m *Message) string {
	var b strings.Builder
	b.Grow(len(s))
	esc := m.Delims.Escape
	for {
		i := strings.IndexByte(s, esc)
		if i < 0 {
			b.WriteString(s)
			return b.String()
		}
		b.WriteString(s[:i])
		s = s[i:]
		j := strings.IndexByte(s[1:], esc)
		if j < 0 {
			b.WriteString(s)
			return b.String()
		}
		if out, ok := sequence(s[1:1+j], m); ok {
			b.WriteString(out)
			s = s[j+2:]
		} else { // not a sequence: keep the first sign, and let the second begin one
			b.WriteByte(esc)
			s = s[1:]
		}
	}
}

// sequence is what one escape sequence stands for.
func sequence(seq string, m *Message) (string, bool) {
	switch seq {
	case "F":
		return char(m.Delims.Field), true
	case "S":
		return char(m.Delims.Component), true
	case "T":
		return char(m.Delims.Sub), true
	case "R":
		return char(m.Delims.Repetition), true
	case "E":
		return char(m.Delims.Escape), true
	case "P":
		return "#", true // HL7 v2.7 §2.5.5.2, the truncation character
	case "H", "N": // highlighting on and off
		return "", true
	case ".br", ".sp", ".ce":
		return "\n", true
	case ".fi", ".nf":
		return "", true
	}
	if len(seq) > 1 {
		switch seq[0] {
		case 'X':
			raw, err := hex.DecodeString(seq[1:])
			if err != nil {
				return "", false
			}
			return decodeBytes(raw, m.Charset), true
		case '.':
			return command(seq)
		case 'C', 'M': // switches to character sets that this program does not read: hex only, and nothing to show
			_, err := hex.DecodeString(seq[1:])
			return "", err == nil && (len(seq) == 5 || len(seq) == 7)
		}
	}
	return "", false
}

// command is a formatting command with a number: .sp3 skips lines, .in+4, .ti-4 and .sk2 move in the line.
func command(seq string) (string, bool) {
	if len(seq) < 4 {
		return "", false
	}
	n, err := strconv.Atoi(strings.TrimSpace(seq[3:]))
	if err != nil {
		return "", false
	}
	switch seq[:3] {
	case ".sp":
		return strings.Repeat("\n", min(max(n, 1), 20)), true
	case ".sk":
		return strings.Repeat(" ", min(max(n, 0), 80)), true
	case ".in", ".ti":
		return "", true
	}
	return "", false
}

func char(c byte) string {
	if c == 0 {
		return ""
	}
	return string(rune(c))
}
