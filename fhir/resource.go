package fhir

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"slices"
	"strings"
	"sync"
)

// A Ref names a resource on this server, "Patient/7f3a".
type Ref string

// MakeRef joins a type and an id.
func MakeRef(typ, id string) Ref { return Ref(typ + "/" + id) }

// Type is the part before the slash.
func (r Ref) Type() string { t, _, _ := strings.Cut(string(r), "/"); return t }

// ID is the part after the slash.
func (r Ref) ID() string { _, id, _ := strings.Cut(string(r), "/"); return id }

// A Resource is one FHIR R4 resource: the JSON that arrived, and a read-only tree over it.
// It is immutable and may be shared between goroutines.
type Resource struct {
	typ, id string
	root    Value
}

// ValidID reports whether s may be a resource's logical id: 1 to 64 of A-Z a-z 0-9 - and full stop. FHIR R4 datatypes.html#id
func ValidID(s string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '.':
		default:
			return false
		}
	}
	return 0 < len(s) && len(s) <= 64
}

// Parse reads one R4 resource strictly: valid JSON without duplicate names, a resourceType that R4 knows, an
// id (if any) of the right form. The resource refers to data, which must not change afterwards.
func Parse(data []byte) (*Resource, error) {
	root, err := ParseValue(data)
	if err != nil {
		return nil, err
	}
	return FromValue(root)
}

// FromValue makes a resource of an object inside a larger document, such as a Bundle's entry.
func FromValue(root Value) (*Resource, error) {
	if !root.IsObject() {
		return nil, Errorf(Structure, "a resource is a JSON object; this is something else")
	}
	typ := root.Member("resourceType").Str()
	if typ == "" {
		return nil, Errorf(Required, "resourceType is missing: is this FHIR?").At("resourceType")
	}
	if !IsType(typ) {
		return nil, Errorf(NotSupported, "resourceType %.40q is not a FHIR R4 resource type", typ).At("resourceType")
	}
	id := root.Member("id")
	if id.Exists() && !ValidID(id.Str()) {
		return nil, Errorf(ValueError, "a resource id has 1 to 64 letters, digits, '-' or '.'").At(typ + ".id")
	}
	return &Resource{typ: typ, id: id.Str(), root: root}, nil
}

// New builds a resource from fields; id may be "". It panics when a field cannot be JSON, which is a
// mistake in the calling code and never depends on outside data.
func New(typ, id string, fields M) *Resource {
	lent := buffers.Get().(*[]byte)
	b := append((*lent)[:0], `{"resourceType":`...)
	b = appendText(b, typ)
	if id != "" {
		b = appendText(append(b, `,"id":`...), id)
	}
	if len(fields) > 0 {
		b = appendMembers(append(b, ','), fields)
	} else {
		b = append(b, '}')
	}
	var r *Resource
	var err error
	if len(b) > mostLent { // a document: it is not copied, and the buffer goes with it
		r, err = Parse(b)
	} else {
		r, err = Parse(bytes.Clone(b))
		*lent = b
		buffers.Put(lent)
	}
	if err != nil {
		panic("fhir.New(" + typ + "): " + err.Error())
	}
	return r
}

// A Member is a name in a resource's top level and its JSON.
type Member struct {
	Name string
	Raw  []byte // of a Value, and so JSON
}

// Join builds a resource of members that are JSON already, in the order of their names. It panics when they do not make one.
func Join(typ, id string, members []Member) *Resource {
	slices.SortFunc(members, func(a, b Member) int { return strings.Compare(a.Name, b.Name) })
	n := 64 + len(id)
	for _, m := range members {
		n += len(m.Name) + len(m.Raw) + 4
	}
	b := append(make([]byte, 0, n), `{"resourceType":`...)
	b = appendText(b, typ)
	if id != "" {
		b = appendText(append(b, `,"id":`...), id)
	}
	for _, m := range members {
		b = append(appendText(append(b, ','), m.Name), ':')
		b = append(b, m.Raw...)
	}
	r, err := Parse(append(b, '}'))
	if err != nil {
		panic("fhir.Join(" + typ + "): " + err.Error())
	}
	return r
}

// buffers are lent to New: a resource's own bytes are made once, in their right size.
const mostLent = 256 << 10

var buffers = sync.Pool{New: func() any { return new([]byte) }}

// plain reports whether a text is its own JSON.
func plain(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}

// Type is the resource type, "Observation".
func (r *Resource) Type() string { return r.typ }

// ID is the logical id, "" before one is given.
func (r *Resource) ID() string { return r.id }

// Ref is type and id.
func (r *Resource) Ref() Ref { return MakeRef(r.typ, r.id) }

// Raw is the resource's JSON, byte for byte as it arrived. The caller must not change it.
func (r *Resource) Raw() []byte { return r.root.Raw() }

// Value is the root of the tree.
func (r *Resource) Value() Value { return r.root }

// Get, Text and All read by dotted path; see Value.
func (r *Resource) Get(path string) Value { return r.root.Get(path) }

// Text is the string at a dotted path, "" if absent.
func (r *Resource) Text(path string) string { return r.root.Text(path) }

// Concept decodes the CodeableConcept at a path; zero if absent or misshapen.
func (r *Resource) Concept(path string) CodeableConcept {
	var c CodeableConcept
	_ = r.root.Get(path).Decode(&c)
	return c
}

// Identifiers are the resource's own identifiers, in canonical spelling; misshapen ones are left out.
func (r *Resource) Identifiers() []Identifier {
	var out []Identifier
	for v := range r.root.All("identifier") {
		var id Identifier
		if v.Decode(&id) == nil && id.Value != "" {
			out = append(out, id.Canonical())
		}
	}
	return out
}

// With returns a copy in which the top-level member name has the given value (any JSON-able thing), added
// at the end where there was none. All other bytes stay.
func (r *Resource) With(name string, value any) *Resource {
	data := r.Splice(name, mustJSON(value))
	out, err := Parse(data)
	if err != nil {
		panic("fhir: With(" + name + "): " + err.Error())
	}
	return out
}

// LogValue prints the reference only: clinical content never reaches a log line.
func (r *Resource) LogValue() slog.Value { return slog.StringValue(string(r.Ref())) }

// String is the reference; see LogValue.
func (r *Resource) String() string { return string(r.Ref()) }

// Without returns a copy that lacks the top-level member name.
func (r *Resource) Without(name string) *Resource {
	m := M{}
	for v := range r.root.Children() {
		if k := v.Key(); k != name && k != "resourceType" && k != "id" && k != "_"+name {
			m[k] = json.RawMessage(v.Raw())
		}
	}
	return New(r.typ, r.id, m)
}
