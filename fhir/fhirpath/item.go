package fhirpath

import (
	"encoding/json"
	"strconv"
	"strings"

	"github.com/cockroachdb/apd/v3"

	"tombolo/fhir"
	"tombolo/fhir/r4"
)

// An Item is one member of a collection: an element of a resource, or a value that was computed.
type Item struct {
	typ *Type
	val fhir.Value // the JSON; absent if computed, or if a primitive has extensions only
	ext fhir.Value // of a FHIR primitive: the member "_name" beside it
	sys any        // a System value: bool, int64, *apd.Decimal, string, Moment, Quantity, typeInfo
}

// Resource is a resource as an item to evaluate on.
func Resource(r *fhir.Resource) Item { return resourceItem(r.Value()) }

func resourceItem(v fhir.Value) Item {
	m := fhirModel()
	t := m.named[v.Member("resourceType").Str()]
	if t == nil || t.of == nil || !t.of.Resource {
		t = m.named["Resource"]
	}
	return Item{typ: t, val: v}
}

// Element is an element of a resource as an item to evaluate on: a member of JSON that R4 knows as e, with the data type that its name says, and
// the companion "_name" of a primitive (absent if there is none).
func Element(v, companion fhir.Value, e *r4.Element, typ string) Item {
	if typ == "Resource" {
		return resourceItem(v)
	}
	return Item{typ: fhirModel().typeOfElement(e, typ), val: v, ext: companion}
}

// Of is a value of a FHIR data type as an item; without a type of that name it is an Element.
func Of(v fhir.Value, typ string) Item {
	t := fhirModel().named[typ]
	if t == nil {
		t = fhirModel().named["Element"]
	}
	return Item{typ: t, val: v}
}

// Text is a text as an item, for Env.Vars.
func Text(s string) Item { return Item{typ: sysString, sys: s} }

// Type is the item's type.
func (i Item) Type() *Type { return i.typ }

// Value is the JSON that the item is in its resource; absent of what was computed.
func (i Item) Value() fhir.Value { return i.val }

// Bool is the item's truth; ok is false if it is no Boolean.
func (i Item) Bool() (truth, ok bool) { truth, ok = i.system().(bool); return truth, ok }

// String is the value as FHIRPath's toString() gives it; "" of what has none.
func (i Item) String() string { s, _ := textOf(i.system()); return s }

// MarshalJSON gives the element's JSON, or that of a computed value.
func (i Item) MarshalJSON() ([]byte, error) {
	if i.val.Exists() {
		return i.val.Raw(), nil
	}
	switch v := i.sys.(type) {
	case bool, int64:
		return json.Marshal(v)
	case *apd.Decimal:
		return []byte(v.Text('f')), nil
	}
	return json.Marshal(i.String())
}

// hasValue reports whether a FHIR primitive, or System value, has one.
func (i *Item) hasValue() bool {
	return i.sys != nil || i.typ.primitive() && i.val.Exists() && !isNull(i.val) && !i.val.IsObject()
}

func isNull(v fhir.Value) bool { return string(v.Raw()) == "null" }

// system is the System value that an item is or can be taken for; nil if there is none. FHIR R4 fhirpath.html#types
func (i *Item) system() any {
	if i.sys != nil {
		return i.sys
	}
	if i.typ.kind == kindNone || !i.val.Exists() {
		return nil
	}
	if i.typ.kind == kindQuantity {
		return quantityOf(i.val)
	}
	if i.val.IsObject() || i.val.IsArray() || isNull(i.val) {
		return nil
	}
	s := i.val.Str()
	switch i.typ.kind {
	case kindBoolean:
		if s == "true" || s == "false" {
			return s == "true"
		}
	case kindInteger:
		if n, err := strconv.ParseInt(s, 10, 32); err == nil {
			return n
		}
	case kindDecimal:
		if d, ok := parseDecimal(s); ok {
			return d
		}
	case kindDate, kindDateTime:
		if m, ok := parseMoment(s, i.typ.kind); ok {
			return m
		}
	case kindTime:
		if m, ok := parseTime(s); ok {
			return m
		}
	}
	return s
}

// same reports without making a text whether two items are the same JSON string; known is false where that is not the whole question.
func same(a, b *Item) (eq, known bool) {
	x, ok := plainText(a)
	if !ok {
		return false, false
	}
	y, ok := plainText(b)
	return ok && string(x) == string(y), ok
}

// plainText gives the bytes of an item that is a text without escapes.
func plainText(i *Item) ([]byte, bool) {
	if i.typ.kind != kindString {
		return nil, false
	}
	if s, ok := i.sys.(string); ok {
		return []byte(s), true
	}
	if i.sys != nil || !i.val.IsString() {
		return nil, false
	}
	raw := i.val.Raw()
	raw = raw[1 : len(raw)-1]
	for _, c := range raw {
		if c == '\\' {
			return nil, false
		}
	}
	return raw, true
}

func computed(v any) Item {
	switch v.(type) {
	case bool:
		return Item{typ: sysBoolean, sys: v}
	case int64:
		return Item{typ: sysInteger, sys: v}
	case *apd.Decimal:
		return Item{typ: sysDecimal, sys: v}
	case string:
		return Item{typ: sysString, sys: v}
	case Quantity:
		return Item{typ: sysQuantity, sys: v}
	case typeInfo:
		return Item{typ: sysTypeInfo, sys: v}
	}
	m := v.(Moment)
	switch m.kind {
	case kindDate:
		return Item{typ: sysDate, sys: v}
	case kindTime:
		return Item{typ: sysTime, sys: v}
	}
	return Item{typ: sysDateTime, sys: v}
}

// A typeInfo is what type() gives.
type typeInfo struct{ namespace, name string }

// textOf is toString(). FHIRPath §5.5
func textOf(v any) (string, bool) {
	switch v := v.(type) {
	case bool:
		return strconv.FormatBool(v), true
	case int64:
		return strconv.FormatInt(v, 10), true
	case *apd.Decimal:
		return v.Text('f'), true
	case string:
		return v, true
	case Moment:
		return v.String(), true
	case Quantity:
		return v.String(), true
	}
	return "", false
}

// children pushes the elements of an item, or those of one name. FHIRPath §5.8.1
func (r *run) children(it Item, name string) error {
	switch v := it.sys.(type) {
	case nil:
	case typeInfo:
		if name == "" || name == "namespace" {
			_ = r.push(computed(v.namespace))
		}
		if name == "" || name == "name" {
			return r.push(computed(v.name))
		}
		return nil
	case Quantity:
		if name == "value" {
			return r.push(computed(v.value))
		} else if name == "unit" || name == "code" {
			return r.push(computed(v.unit))
		}
		return nil
	default:
		return nil
	}
	of, obj := it.typ.of, it.val
	if it.typ.primitive() || of == nil && it.ext.Exists() {
		of, obj = r4.TypeOf("Element"), it.ext
	}
	if of == nil || !obj.IsObject() {
		return nil
	}
	if name == "" {
		return r.allMembers(obj, of)
	}
	e := of.Element(name)
	if e == nil {
		return nil
	}
	if e.Choice {
		return r.choice(obj, of, e)
	}
	typ := ""
	if len(e.Types) > 0 {
		typ = e.Types[0]
	}
	return r.member(obj, obj.Member(name), name, e, typ, of.Resource)
}

// choice pushes the value of an element of several types, whichever it has.
func (r *run) choice(obj fhir.Value, of *r4.Type, e *r4.Element) error {
	for c := range obj.Children() {
		key := strings.TrimPrefix(c.Key(), "_")
		if !strings.HasPrefix(key, e.Name) {
			continue
		}
		if found, typ := of.Member(key); found == e {
			if len(key) < len(c.Key()) && obj.Member(key).Exists() {
				continue // its companion
			}
			return r.member(obj, obj.Member(key), key, e, typ, false)
		}
	}
	return nil
}

// allMembers pushes every element of an object in the order of the JSON.
func (r *run) allMembers(obj fhir.Value, of *r4.Type) error {
	for c := range obj.Children() {
		key := c.Key()
		bare := strings.TrimPrefix(key, "_")
		e, typ := of.Member(bare)
		if e == nil || bare != key && obj.Member(bare).Exists() {
			continue
		}
		if err := r.member(obj, obj.Member(bare), bare, e, typ, of.Resource); err != nil {
			return err
		}
	}
	return nil
}

// member pushes what stands under one name of an object: one value or a list, with the companions of primitives.
func (r *run) member(obj, v fhir.Value, key string, e *r4.Element, typ string, inResource bool) error {
	if typ == "Resource" {
		for c := range each(v) {
			if err := r.push(resourceItem(c)); err != nil {
				return err
			}
		}
		return nil
	}
	t := r.model.typeOfElement(e, typ)
	if inResource && key == "id" {
		t = r.model.named["id"]
	}
	if !t.primitive() {
		for c := range each(v) {
			if err := r.push(Item{typ: t, val: c}); err != nil {
				return err
			}
		}
		return nil
	}
	ext := obj.Member(companionName(key))
	if !v.IsArray() && !ext.IsArray() {
		if !v.Exists() && !ext.Exists() {
			return nil
		}
		return r.push(Item{typ: t, val: v, ext: ext})
	}
	values, companions := list(v), list(ext)
	for n := range max(len(values), len(companions)) {
		it := Item{typ: t}
		if n < len(values) && !isNull(values[n]) {
			it.val = values[n]
		}
		if n < len(companions) && !isNull(companions[n]) {
			it.ext = companions[n]
		}
		if it.val.Exists() || it.ext.Exists() {
			if err := r.push(it); err != nil {
				return err
			}
		}
	}
	return nil
}

func companionName(key string) string {
	if s, ok := companionNames[key]; ok {
		return s
	}
	return "_" + key
}

// companionNames saves a text for each look at a primitive.
var companionNames = func() map[string]string {
	m := map[string]string{}
	for w := range strings.FieldsSeq(`id code system display value unit status use family given text url reference start end type version name title date description
line city district state postalCode country gender birthDate active intent priority mode`) {
		m[w] = "_" + w
	}
	return m
}()

// each yields the items of an array, or the value itself.
func each(v fhir.Value) func(yield func(fhir.Value) bool) {
	return func(yield func(fhir.Value) bool) {
		if v.IsArray() {
			for c := range v.Children() {
				if !yield(c) {
					return
				}
			}
		} else if v.Exists() {
			yield(v)
		}
	}
}

func list(v fhir.Value) []fhir.Value {
	var out []fhir.Value
	for c := range each(v) {
		out = append(out, c)
	}
	return out
}
