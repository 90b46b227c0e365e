package fhir

import (
	"bytes"
	"encoding/json"
	"iter"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// Limits on JSON from outside. A FHIR resource nests far less than MaxDepth; the rest of a bound on
// memory is the caller's byte limit, since the tree costs a small multiple of the text.
const (
	MaxDepth = 64
)

// A Value is one JSON value inside a parsed document: read-only, in the order it arrived, with numbers
// kept as text. The zero Value is "absent"; every method may be called on it.
type Value struct {
	doc *document
	i   int32
}

type document struct {
	src   []byte
	nodes []node
}

type node struct {
	kind       jsontext.Kind
	start, end int32 // the value's bytes in src
	key        string
	first      int32 // first child, 0 if none (node 0 is the root and nobody's child)
	next       int32 // next sibling, 0 if none
}

// ParseValue reads one JSON document strictly (RFC 8259, UTF-8, no duplicate names, at most MaxDepth
// deep, nothing after it). The Value refers to data, which must not change afterwards.
func ParseValue(data []byte) (Value, error) {
	p := parser{src: data, nodes: make([]node, 0, likelyNodes(data))}
	if err := p.document(); err != nil {
		return Value{}, err
	}
	return Value{&document{data, p.nodes}, 0}, nil
}

// likelyNodes is how many values a document holds, more or less. Of megabytes it is counted: they may be one text, or one value a byte.
func likelyNodes(data []byte) int {
	if len(data) <= 1<<20 {
		return len(data)/20 + 8
	}
	return min(CountValues(data), MaxValues) + 8
}

// ParseEnvelope reads a resource as Parse does, but of a Bundle the resources in its entries only so far that they are known to be JSON: their Raw is whole, and for
// more it is to be parsed by itself. So a Bundle costs little more than its bytes, however many things are in it. What it holds beside them, and each of them, has at most MaxValues.
func ParseEnvelope(data []byte) (*Resource, error) {
	p := parser{src: data, nodes: make([]node, 0, min(CountValues(data), 4096)), envelope: true, most: MaxValues}
	if err := p.document(); err != nil {
		return nil, err
	}
	return FromValue(Value{&document{data, p.nodes}, 0})
}

// A Scratch reads one document after the other into the same memory, for what is looked at once and let go. The zero Scratch is ready; it is
// for one goroutine.
type Scratch struct{ doc document }

// Value reads a document as ParseValue does. The Value, and all that were taken from it, hold until the next call.
func (s *Scratch) Value(data []byte) (Value, error) {
	if likely := likelyNodes(data); cap(s.doc.nodes) < likely/2 {
		s.doc.nodes = make([]node, 0, likely)
	}
	p := parser{src: data, nodes: s.doc.nodes[:0]}
	err := p.document()
	s.doc = document{data, p.nodes}
	if err != nil {
		return Value{}, err
	}
	return Value{&s.doc, 0}, nil
}

// Resource reads a resource as Parse does. It may be kept: its tree is no larger than it has to be.
func (s *Scratch) Resource(data []byte) (*Resource, error) {
	if _, err := s.Value(data); err != nil {
		return nil, err
	}
	return FromValue(Value{&document{data, slices.Clip(slices.Clone(s.doc.nodes))}, 0})
}

// Exists reports whether the value is there at all (null counts as there).
func (v Value) Exists() bool { return v.doc != nil }

func (v Value) n() *node { return &v.doc.nodes[v.i] }

// IsObject, IsArray and IsString report the JSON kind.
func (v Value) IsObject() bool { return v.doc != nil && v.n().kind == '{' }

// IsArray reports whether v is a JSON array.
func (v Value) IsArray() bool { return v.doc != nil && v.n().kind == '[' }

// IsString reports whether v is a JSON string.
func (v Value) IsString() bool { return v.doc != nil && v.n().kind == '"' }

// Raw is the value's JSON exactly as it arrived; nil if absent. The caller must not change it.
func (v Value) Raw() []byte {
	if v.doc == nil {
		return nil
	}
	n := v.n()
	return v.doc.src[n.start:n.end:n.end]
}

// Key is the member name under which v stands; "" for array items and the root.
func (v Value) Key() string {
	if v.doc == nil {
		return ""
	}
	return v.n().key
}

// Str is the text of a string, or the verbatim text of a number or boolean; "" for anything else.
func (v Value) Str() string {
	if v.doc == nil {
		return ""
	}
	switch raw := v.Raw(); v.n().kind {
	case '"':
		if s := frequent(raw[1 : len(raw)-1]); s != "" {
			return s
		}
		if bytes.IndexByte(raw, '\\') < 0 {
			return string(raw[1 : len(raw)-1])
		}
		b, _ := jsontext.AppendUnquote(nil, raw)
		return string(b)
	case '0', 't', 'f':
		return string(raw)
	}
	return ""
}

// Bool is true only for the JSON literal true.
func (v Value) Bool() bool { return v.doc != nil && v.n().kind == 't' }

// Children yields the members of an object or the items of an array, in order; the Key of each names it.
func (v Value) Children() iter.Seq[Value] {
	return func(yield func(Value) bool) {
		if v.doc == nil {
			return
		}
		for i := v.n().first; i != 0; i = v.doc.nodes[i].next {
			if !yield(Value{v.doc, i}) {
				return
			}
		}
	}
}

// Member is the named member of an object; absent if there is none or v is no object.
func (v Value) Member(name string) Value {
	if !v.IsObject() {
		return Value{}
	}
	for i := v.n().first; i != 0; i = v.doc.nodes[i].next {
		if v.doc.nodes[i].key == name {
			return Value{v.doc, i}
		}
	}
	return Value{}
}

// All yields every value reached by a dotted path such as "name.given", going through arrays as
// FHIRPath does. An array at the end is flattened too. "" yields v itself (its items, if an array).
func (v Value) All(path string) iter.Seq[Value] {
	return func(yield func(Value) bool) { v.walk(path, yield) }
}

func (v Value) walk(path string, yield func(Value) bool) bool {
	if v.doc == nil {
		return true
	}
	if v.IsArray() {
		for c := range v.Children() {
			if !c.walk(path, yield) {
				return false
			}
		}
		return true
	}
	if path == "" {
		return yield(v)
	}
	head, rest, _ := strings.Cut(path, ".")
	return v.Member(head).walk(rest, yield)
}

// Get is the first value that All(path) yields, or absent.
func (v Value) Get(path string) Value {
	for c := range v.All(path) {
		return c
	}
	return Value{}
}

// Text is Get(path).Str().
func (v Value) Text(path string) string { return v.Get(path).Str() }

// Decode unmarshals v into a typed view such as *CodeableConcept. Members the view lacks are passed over.
// An absent value leaves the view as it is.
func (v Value) Decode(view any) error {
	if v.doc == nil {
		return nil
	}
	if err := json.Unmarshal(v.Raw(), view); err != nil {
		return Errorf(Structure, "element %q does not have the shape of %T", v.Key(), view)
	}
	return nil
}

// Rewrite returns a copy of data in which each value for which edit answers (replacement, true) is
// replaced; everything else, white space included, stays byte for byte. edit is called parents first
// and not inside what it replaced. A replacement must be valid JSON.
func (v Value) Rewrite(edit func(Value) ([]byte, bool)) []byte {
	if v.doc == nil {
		return nil
	}
	root := v.n()
	var parts [][]byte // joined at the end: what is left out of a large value costs nothing
	at := root.start
	var visit func(Value)
	visit = func(c Value) {
		n := c.n()
		if repl, ok := edit(c); ok {
			parts = append(parts, v.doc.src[at:n.start], repl)
			at = n.end
			return
		}
		for k := range c.Children() {
			visit(k)
		}
	}
	visit(v)
	return bytes.Join(append(parts, v.doc.src[at:root.end]), nil)
}
