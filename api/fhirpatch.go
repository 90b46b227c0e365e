package api

import (
	"bytes"
	"slices"
	"strconv"
	"strings"

	"tombolo/fhir"
	"tombolo/fhir/fhirpath"
	"tombolo/fhir/r4"
)

// FHIRPath Patch: a Parameters resource of operations. FHIR R4 fhirpatch.html
//
// A path is FHIRPath, whole: it must find what is in the resource, not what is computed from it.

type pathOperation struct {
	kind, name         string
	path               *fhirpath.Expr
	value              fhir.Value // a parameter part with value[x] or parts of its own
	index, source, dst int
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
	if path == "" {
		return op, fhir.Errorf(fhir.Required, "the path is empty")
	}
	op.path, err = fhirpath.Compile(path)
	return op, err
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
	e      *r4.Element
}

// find gives the places that the path finds. The tree is written and read again for it, which the budget bounds.
func (op pathOperation) find(root *node, typ string, left *patchBudget) ([]spot, error) {
	raw := root.json()
	if left.bytes -= len(raw); left.bytes < 0 {
		return nil, fhir.Errorf(fhir.TooCostly, "the patch has too many operations for a resource of this size: send it in parts")
	}
	res, err := fhir.Parse(raw)
	if err != nil {
		return nil, err
	}
	found, err := op.path.Eval(fhirpath.Resource(res), &fhirpath.Env{Limits: left.limits})
	if err != nil || len(found) == 0 {
		return nil, err
	}
	wanted := map[fhir.Value]bool{}
	for _, it := range found {
		v := it.Value()
		if !v.Exists() {
			return nil, fhir.Errorf(fhir.Processing, "the path gives a value that is computed, and must find one that is there")
		}
		wanted[v] = true
	}
	var out []spot
	spots(spot{n: root, typ: r4.TypeOf(typ), is: typ, item: -1}, res.Value(), wanted, &out)
	if len(out) < len(wanted) {
		return nil, fhir.Errorf(fhir.Processing, "the path finds what cannot be patched")
	}
	return out, nil
}

// A patchBudget is what all operations of a patch may cost together.
type patchBudget struct {
	bytes  int
	limits fhirpath.Limits // of each
}

func budgetOf(operations int) *patchBudget {
	return &patchBudget{bytes: 128 << 20, limits: fhirpath.Limits{Steps: max(2_000, 2_000_000/max(operations, 10)), Items: 20_000, Text: 1 << 16}}
}

// spots gathers the places of wanted values, in the order of the resource. v is what s.n was written as.
func spots(s spot, v fhir.Value, wanted map[fhir.Value]bool, out *[]spot) {
	if wanted[v] {
		*out = append(*out, s)
	}
	if s.n.raw != nil || s.n.array {
		return
	}
	i := -1
	for c := range v.Children() {
		i++
		if s.typ == nil {
			return
		}
		e, is := s.typ.Member(c.Key())
		if e == nil {
			continue
		}
		t := e.Own
		if t == nil && is == "Resource" {
			is = c.Text("resourceType")
		}
		if t == nil {
			t = r4.TypeOf(is)
		}
		kid := s.n.kids[i]
		if !kid.array {
			spots(spot{kid, t, is, s.n, c.Key(), -1, e}, c, wanted, out)
			continue
		}
		j := 0
		for item := range c.Children() {
			at, in := t, is
			if len(e.Types) == 1 && e.Types[0] == "Resource" {
				in = item.Text("resourceType")
				at = r4.TypeOf(in)
			}
			spots(spot{kid.kids[j], at, in, s.n, c.Key(), j, e}, item, wanted, out)
			j++
		}
	}
}

// do does the operation to a resource's tree.
func (op pathOperation) do(root *node, typ string, left *patchBudget) error {
	spots, err := op.find(root, typ, left)
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
	key, value, err := s.like(op.value)
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

// like builds a value for the place of another. One of another type of a choice has another name.
func (s spot) like(v fhir.Value) (string, *node, error) {
	if raw, is := valueIn(v); raw.Exists() {
		if s.e != nil && s.e.Choice {
			return s.e.Name + is, grow(raw), nil
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
	_, value, err := spots[0].like(op.value)
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
