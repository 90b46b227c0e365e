package extract

import (
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// A kind of value that an expression gives.
type kind int

const (
	absent  kind = iota // nothing: the field is left out
	text                // a string
	number              // a JSON number, as written
	boolean             // true or false
	list                // several strings
	element             // a whole FHIR element, as JSON
)

// A value is what an expression gives. Empty text is absent: FHIR has no empty strings (FHIR R4 datatypes.html#string).
type value struct {
	kind  kind
	s     string
	items []string
}

var nothing value

func textOf(s string) value {
	if s == "" {
		return nothing
	}
	return value{kind: text, s: s}
}

func boolOf(b bool) value {
	if b {
		return value{kind: boolean, s: "true"}
	}
	return value{kind: boolean, s: "false"}
}

func listOf(items []string) value {
	if len(items) == 0 {
		return nothing
	}
	return value{kind: list, items: items}
}

// truth is how a value counts in a condition.
func (v value) truth() bool { return v.kind != absent && !(v.kind == boolean && v.s == "false") }

// str is the value in words; a list's items are joined by spaces.
func (v value) str() string {
	if v.kind == list {
		return strings.Join(v.items, " ")
	}
	return v.s
}

// appendJSON writes the value, which is not absent.
func (v value) appendJSON(b []byte) []byte {
	switch v.kind {
	case text:
		return quote(b, v.s)
	case list:
		b = append(b, '[')
		for i, s := range v.items {
			if i > 0 {
				b = append(b, ',')
			}
			b = quote(b, s)
		}
		return append(b, ']')
	}
	return append(b, v.s...)
}

// quote appends s as a JSON string.
func quote(b []byte, s string) []byte {
	out, err := jsontext.AppendQuote(b, s)
	if err != nil { // not UTF-8: rows are checked before, so only a mapping's own constant could get here
		out, _ = jsontext.AppendQuote(b, strings.ToValidUTF8(s, "\uFFFD"))
	}
	return out
}

// members writes a JSON object of the members that have a value; absent if none has.
func members(pairs ...string) value {
	b := []byte{'{'}
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] == "" {
			continue
		}
		if len(b) > 1 {
			b = append(b, ',')
		}
		b = quote(b, pairs[i])
		b = append(b, ':')
		b = quote(b, pairs[i+1])
	}
	if len(b) == 1 {
		return nothing
	}
	return value{kind: element, s: string(append(b, '}'))}
}
