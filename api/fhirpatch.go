package api

import (
	"bytes"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"tombolo/fhir"
	"tombolo/fhir/r4"
)

// FHIRPath Patch: a Parameters resource of operations. FHIR R4 fhirpatch.html
//
// The paths taken are those that name one place: elements by name, [n], first(), last(), where(element = 'value'), ofType(Type), extension('url').

type pathOperation struct {
	kind, name         string
	path               []pathStep
	value              fhir.Value // a parameter part with value[x] or parts of its own
	index, source, dst int
}

type pathStep struct {
	name         string // of an element; "" filters what came before
	index        int    // of [n]; last is -1; unset -2
	where, equal string
	typ          string
}

func readFHIRPatch(raw []byte) (*patch, error) {
	res, err := fhir.Parse(raw)
	if err != nil {
		return nil, err
	}
	if res.Type() != "Parameters" {
		return nil, fhir.Errorf(fhir.Structure, "a FHIRPath Patch is a Parameters resource; a JSON Patch is sent as %s", typeJSONPatch).At("resourceType")
	}
	p := &patch{}
	for param := range res.Value().All("parameter") {
		if param.Text("name") != "operation" {
			return nil, fhir.Errorf(fhir.Invalid, "the parameters of a patch are named operation").At("Parameters.parameter")
		}
		op, err := readOperation(param)
		if err != nil {
			return nil, fhir.IssueOf(err).At("Parameters.parameter[" + strconv.Itoa(len(p.fhirpath)) + "]")
		}
		if p.fhirpath = append(p.fhirpath, op); len(p.fhirpath) > maxOperations {
			return nil, fhir.Errorf(fhir.TooCostly, "a patch has at most %d operations", maxOperations)
		}
	}
	if len(p.fhirpath) == 0 {
		return nil, fhir.Errorf(fhir.Required, "a patch has at least one operation").At("Parameters.parameter")
	}
	return p, nil
}

// needs are the parts that each kind of operation must have.
var needs = map[string][]string{"add": {"path", "name", "value"}, "insert": {"path", "index", "value"}, "delete": {"path"}, "replace": {"path", "value"}, "move": {"path", "source", "destination"}}

func readOperation(param fhir.Value) (pathOperation, error) {
	op := pathOperation{}
	path, has := "", map[string]bool{}
	var bad error
	number := func(v fhir.Value) int {
		n, err := strconv.Atoi(v.Text("valueInteger"))
		if err != nil || n < 0 {
			bad = fhir.Errorf(fhir.ValueError, "a place in a list is a whole number, from 0")
		}
		return n
	}
	for part := range param.All("part") {
		name := part.Text("name")
		has[name] = true
		switch name {
		case "type":
			op.kind = part.Text("valueCode") + part.Text("valueString")
		case "path":
			path = part.Text("valueString")
		case "name":
			op.name = part.Text("valueString")
		case "value":
			op.value = part
		case "index":
			op.index = number(part)
		case "source":
			op.source = number(part)
		case "destination":
			op.dst = number(part)
		default:
			return op, fhir.Errorf(fhir.Invalid, "an operation has type, path, name, value, index, source and destination")
		}
	}
	want, ok := needs[op.kind]
	if !ok {
		return op, fhir.Errorf(fhir.Invalid, "the operations are add, insert, delete, replace and move")
	}
	for _, n := range want {
		if !has[n] {
			return op, fhir.Errorf(fhir.Required, "%s needs a part named %s", op.kind, n)
		}
	}
	if bad != nil {
		return op, bad
	}
	var err error
	op.path, err = readPath(path)
	return op, err
}

var stepForm = regexp.MustCompile(`^\.?(?:(first|last)\(\)|where\(\s*(\w+(?:\.\w+)*)\s*=\s*'((?:[^'\\]|\\.)*)'\s*\)|extension\('([^']*)'\)|ofType\((\w+)\)|([A-Za-z]\w*))|^\[(\d{1,6})\]`)

func readPath(text string) ([]pathStep, error) {
	var steps []pathStep
	for rest := text; rest != ""; {
		m := stepForm.FindStringSubmatch(rest)
		if m == nil || len(steps) > 100 {
			return nil, fhir.Errorf(fhir.NotSupported, "this path is not one that is taken here: name elements, with [n], first(), last(), where(element = 'value'), ofType(Type) or extension('url')")
		}
		rest = rest[len(m[0]):]
		st := pathStep{index: -2}
		switch {
		case m[1] == "first":
			st.index = 0
		case m[1] == "last":
			st.index = -1
		case m[2] != "":
			st.where, st.equal = m[2], strings.ReplaceAll(m[3], `\'`, `'`)
		case m[4] != "":
			steps = append(steps, pathStep{name: "extension", index: -2})
			st.where, st.equal = "url", m[4]
		case m[5] != "":
			st.typ = m[5]
		case m[6] != "":
			st.name = m[6]
		default:
			st.index, _ = strconv.Atoi(m[7])
		}
		steps = append(steps, st)
	}
	if len(steps) == 0 {
		return nil, fhir.Errorf(fhir.Required, "the path is empty")
	}
	return steps, nil
}

// A node is JSON that can be changed. What is not changed keeps its bytes.
type node struct {
	raw   []byte // of a leaf
	keys  []string
	kids  []*node
	array bool
}

func grow(v fhir.Value) *node {
	if !v.IsObject() && !v.IsArray() {
		return &node{raw: v.Raw()}
	}
	n := &node{array: v.IsArray()}
	for c := range v.Children() {
		n.kids = append(n.kids, grow(c))
		if !n.array {
			n.keys = append(n.keys, c.Key())
		}
	}
	return n
}

func (n *node) write(b *bytes.Buffer) {
	if n.raw != nil {
		b.Write(n.raw)
		return
	}
	open, end := byte('{'), byte('}')
	if n.array {
		open, end = '[', ']'
	}
	b.WriteByte(open)
	for i, k := range n.kids {
		if i > 0 {
			b.WriteByte(',')
		}
		if !n.array {
			b.Write(fhir.JSON(n.keys[i]))
			b.WriteByte(':')
		}
		k.write(b)
	}
	b.WriteByte(end)
}

func (n *node) json() []byte { var b bytes.Buffer; n.write(&b); return b.Bytes() }

func (n *node) at(key string) *node {
	if i := slices.Index(n.keys, key); i >= 0 {
		return n.kids[i]
	}
	return nil
}

func (n *node) remove(key string) {
	if i := slices.Index(n.keys, key); i >= 0 {
		n.keys, n.kids = slices.Delete(n.keys, i, i+1), slices.Delete(n.kids, i, i+1)
	}
}

func (n *node) set(key string, to *node) {
	if i := slices.Index(n.keys, key); i >= 0 {
		n.kids[i] = to
		return
	}
	n.keys, n.kids = append(n.keys, key), append(n.kids, to)
}

// A spot is one place that a path finds.
type spot struct {
	n      *node
	typ    *r4.Type // of n; nil of a primitive value
	is     string   // name of its data type
	parent *node    // the object that has it
	key    string   // as which member
	item   int      // and which item of it; -1 if it is no list
}

func (op pathOperation) find(root *node, typ string) ([]spot, error) {
	here := []spot{{n: root, typ: r4.TypeOf(typ), is: typ, item: -1}}
	for i, st := range op.path {
		if i == 0 && st.name == typ {
			continue
		}
		var next []spot
		for j, s := range here {
			switch {
			case st.name != "":
				next = append(next, s.members(st.name)...)
			case st.index >= 0 && j == st.index, st.index == -1 && j == len(here)-1:
				next = append(next, s)
			case st.where != "" && s.says(st.where, st.equal), st.typ != "" && s.is == st.typ:
				next = append(next, s)
			}
		}
		here = next
	}
	return here, nil
}

func (s spot) members(name string) []spot {
	if s.typ == nil || s.n.raw != nil || s.n.array {
		return nil
	}
	var out []spot
	for i, key := range s.n.keys {
		e, is := s.typ.Member(key)
		if e == nil || e.Name != name {
			continue
		}
		t := e.Own
		if t == nil {
			t = r4.TypeOf(is)
		}
		if !s.n.kids[i].array {
			out = append(out, spot{s.n.kids[i], t, is, s.n, key, -1})
			continue
		}
		for j, item := range s.n.kids[i].kids {
			out = append(out, spot{item, t, is, s.n, key, j})
		}
	}
	return out
}

func (s spot) says(path, value string) bool {
	v, err := fhir.ParseValue(s.n.json())
	if err != nil {
		return false
	}
	for c := range v.All(path) {
		if c.Str() == value {
			return true
		}
	}
	return false
}

// do does the operation to a resource's tree.
func (op pathOperation) do(root *node, typ string) error {
	spots, err := op.find(root, typ)
	if err != nil {
		return err
	}
	switch op.kind {
	case "delete":
		if len(spots) == 0 {
			return nil // FHIR R4 fhirpatch.html: what is not there need not be deleted
		}
	case "insert", "move":
		return op.inList(spots)
	}
	if len(spots) != 1 {
		return fhir.Errorf(fhir.Processing, "the path finds %d elements, and must find one", len(spots))
	}
	s := spots[0]
	switch op.kind {
	case "add":
		return op.add(s)
	case "replace":
		return op.replace(s)
	}
	s.take()
	return nil
}

func (op pathOperation) add(s spot) error {
	if s.typ == nil || s.n.raw != nil {
		return fhir.Errorf(fhir.Processing, "there is nothing to add to a primitive value")
	}
	key, value, err := built(s.typ, op.name, op.value)
	if err != nil {
		return err
	}
	e, _ := s.typ.Member(key)
	was := s.n.at(key)
	switch {
	case e.Many && was != nil:
		was.kids = append(was.kids, value)
	case e.Many:
		s.n.set(key, &node{array: true, kids: []*node{value}})
	case was != nil:
		return fhir.Errorf(fhir.Processing, "it is there already, and stands once: replace it")
	default:
		s.n.set(key, value)
	}
	return nil
}

func (op pathOperation) replace(s spot) error {
	if s.parent == nil {
		return fhir.Errorf(fhir.Processing, "the whole resource is replaced by an update")
	}
	name := op.path[len(op.path)-1].name
	for i := len(op.path) - 1; name == "" && i >= 0; i-- {
		name = op.path[i].name
	}
	key, value, err := s.like(name, op.value)
	if err != nil {
		return err
	}
	if s.item >= 0 {
		s.parent.at(s.key).kids[s.item] = value
		return nil
	}
	if key != s.key { // another type of a choice
		s.parent.remove("_" + s.key)
		s.parent.keys[slices.Index(s.parent.keys, s.key)] = key
	}
	s.parent.set(key, value)
	return nil
}

// like builds a value for the place of another.
func (s spot) like(name string, v fhir.Value) (string, *node, error) {
	if raw, is := valueIn(v); raw.Exists() {
		if strings.HasPrefix(s.key, name) && len(s.key) > len(name) {
			return name + is, grow(raw), nil
		}
		return s.key, grow(raw), nil
	}
	if s.typ == nil {
		return "", nil, fhir.Errorf(fhir.Required, "the value is missing").At("Parameters")
	}
	n, err := parts(s.typ, v)
	return s.key, n, err
}

// inList inserts into a list, or moves an item of one.
func (op pathOperation) inList(spots []spot) error {
	if len(spots) == 0 || spots[0].item < 0 || slices.ContainsFunc(spots, func(s spot) bool { return s.parent != spots[0].parent }) {
		return fhir.Errorf(fhir.Processing, "the path must find one list")
	}
	list := spots[0].parent.at(spots[0].key)
	if op.kind == "move" {
		if op.source >= len(list.kids) || op.dst >= len(list.kids) {
			return fhir.Errorf(fhir.Processing, "the list has %d items", len(list.kids))
		}
		item := list.kids[op.source]
		list.kids = slices.Insert(slices.Delete(list.kids, op.source, op.source+1), op.dst, item)
		return nil
	}
	if op.index > len(list.kids) {
		return fhir.Errorf(fhir.Processing, "the list has %d items", len(list.kids))
	}
	_, value, err := spots[0].like(spots[0].key, op.value)
	if err == nil {
		list.kids = slices.Insert(list.kids, op.index, value)
	}
	return err
}

// take removes what is at the place; a list that is empty then goes too.
func (s spot) take() {
	if s.parent == nil {
		return
	}
	if s.item < 0 {
		s.parent.remove(s.key)
		s.parent.remove("_" + s.key)
		return
	}
	for _, key := range []string{s.key, "_" + s.key} {
		if list := s.parent.at(key); list != nil && s.item < len(list.kids) {
			if list.kids = slices.Delete(list.kids, s.item, s.item+1); len(list.kids) == 0 {
				s.parent.remove(key)
			}
		}
	}
}

// valueIn is the value[x] of a parameter, and its type as it ends a name.
func valueIn(part fhir.Value) (fhir.Value, string) {
	for c := range part.Children() {
		if is, ok := strings.CutPrefix(c.Key(), "value"); ok {
			return c, is
		}
	}
	return fhir.Value{}, ""
}

// built makes the value for an element of a type, and the name of the member that it is.
func built(t *r4.Type, name string, part fhir.Value) (string, *node, error) {
	raw, is := valueIn(part)
	key := name
	e, _ := t.Member(key)
	if e == nil && is != "" {
		key = name + is
		e, _ = t.Member(key)
	}
	if e == nil {
		return "", nil, fhir.Errorf(fhir.Processing, "%s has no such element", t.Name)
	}
	if raw.Exists() {
		return key, grow(raw), nil
	}
	of := e.Own
	if of == nil {
		if _, typ := t.Member(key); typ != "" {
			of = r4.TypeOf(typ)
		}
	}
	if of == nil {
		return "", nil, fhir.Errorf(fhir.Required, "the value is missing").At("Parameters")
	}
	n, err := parts(of, part)
	return key, n, err
}

// parts builds an element that has elements of its own of a parameter's parts.
func parts(t *r4.Type, v fhir.Value) (*node, error) {
	n := &node{}
	for p := range v.All("part") {
		key, value, err := built(t, p.Text("name"), p)
		if err != nil {
			return nil, err
		}
		if e, _ := t.Member(key); e.Many {
			if was := n.at(key); was != nil {
				was.kids = append(was.kids, value)
				continue
			}
			value = &node{array: true, kids: []*node{value}}
		}
		n.set(key, value)
	}
	if len(n.kids) == 0 {
		return nil, fhir.Errorf(fhir.Required, "the value is missing").At("Parameters")
	}
	return n, nil
}
