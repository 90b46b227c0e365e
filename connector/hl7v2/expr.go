package hl7v2

import (
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"tombolo/fhir"
)

// The language in which mapping files say what fills an element. docs/hl7v2-mapping.md
//
//	PID-7 as date                       one field, read as a datatype
//	PID-11* as address                  every repetition: makes a list
//	PID-8 by sex                        a code, by a table
//	PV1-14 as concept by admission-source | PV1-14 as concept in v2-0023     the first that says something
//	'order'                             itself
//	assume 'true' as boolean            only where nothing better is known
//	PID-30 as yes unless PID-29         only if

// A scope is what expressions are read against: the segment at hand, those that stand with it, and the repetition at hand.
type scope struct {
	x    *mapper
	own  Segment
	segs []Segment
	vars map[string]string
	// grouped: segs are one order or report; of the rest of the message only what stands before all of them is theirs too.
	grouped bool
	it      Value
	at      string // where it stands

	null    bool     // `""` was met
	cleared []string // elements of the resource that it clears
	assumed []string
}

// segment finds the segment of a name that is meant here: the one at hand, one that stands with it, else the message's first.
func (sc *scope) segment(name string) Segment {
	if sc.own.name == name {
		return sc.own
	}
	if s := first(sc.segs, name); s.m != nil {
		return s
	}
	for _, s := range sc.x.segs {
		if s.name == name {
			return s
		}
		if sc.grouped && name[0] != 'Z' && groupBegins[s.name] {
			break
		}
	}
	return Segment{}
}

// groupBegins are the segments with which an order or report may begin.
var groupBegins = map[string]bool{"ORC": true, "OBR": true, "SPM": true, "RXO": true, "RXE": true, "RXD": true, "RXG": true, "RXA": true}

// A node gives an element's value: nil if there is none.
type node interface{ eval(sc *scope) any }

// An expr is alternatives, of which the first that says something wins.
type expr struct {
	alts   []*term
	assume bool
}

// A term is one source and how it is read.
type term struct {
	segment          string
	field, comp, sub int
	literal          string
	kind             sourceKind
	all              bool // every repetition
	read             reader
	arg              string
	table            *table
	system           string
	cond             *condition
}

type sourceKind uint8

const (
	fromField sourceKind = iota
	fromLiteral
	fromIt
	fromVar
)

type condition struct {
	of     *term
	values []string
	unless bool
}

func (c *condition) holds(sc *scope) bool {
	v, _ := c.of.value(sc)
	ok, known, before := false, false, v.noted()
	switch {
	case c.of.table != nil:
		_, ok = c.of.table.find(str(v, 1))
		known = ok
	case len(c.values) > 0:
		ok = slices.Contains(c.values, str(v, 1))
		known = ok
	default:
		ok = str(v, 1) != "" || !v.Empty() && !v.Null()
	}
	if !known { // that something is there is not what it says
		v.forget(before)
	}
	return ok != c.unless
}

// value is what the source holds, and its place.
func (t *term) value(sc *scope) (Value, string) {
	v, at := Value{}, ""
	switch t.kind {
	case fromLiteral:
		return Value{raw: t.literal, level: subcomponent}, ""
	case fromVar:
		return Value{raw: sc.vars[t.literal], level: subcomponent}, ""
	case fromIt:
		v, at = sc.it, sc.at
	default:
		s := sc.segment(t.segment)
		if s.m == nil {
			return Value{}, ""
		}
		v = s.Field(t.field)
		if v.raw == "" {
			return v, ""
		}
		at = s.Place(t.field)
	}
	if t.comp > 0 {
		v = v.Comp(t.comp)
	}
	if t.sub > 0 {
		v = v.Sub(t.sub)
	}
	return v, at
}

func (t *term) eval(sc *scope) any {
	if t.cond != nil && !t.cond.holds(sc) {
		return nil
	}
	v, at := t.value(sc)
	if v.raw == "" {
		return nil
	}
	if v.raw == `""` {
		sc.null = true
		return nil
	}
	if !t.all {
		return t.take(sc.x, v, at)
	}
	var out []any
	for rep := range v.Reps() {
		if got := t.take(sc.x, rep, at); got != nil {
			out = append(out, got)
		}
	}
	if len(out) == 0 {
		return nil
	}
	return out
}

// take reads one value. What nothing comes of, such as a code that the table does not have, has not been taken.
func (t *term) take(x *mapper, v Value, at string) any {
	before := v.noted()
	got := t.read(x, v, at, t)
	switch got.(type) {
	case nil:
		v.forget(before)
	case understood:
		return nil
	}
	return got
}

// understood is what a reader gives of a value that it has taken, and of which there is nothing to say: that somebody is not dead.
type understood struct{}

func (e *expr) eval(sc *scope) any {
	for _, t := range e.alts {
		if v := t.eval(sc); v != nil {
			return v
		}
	}
	return nil
}

// sourced reports whether the expression reads the message, and is not only a constant.
func (e *expr) sourced() bool {
	return slices.ContainsFunc(e.alts, func(t *term) bool { return t.kind == fromField || t.kind == fromIt })
}

// An object is an element with elements of its own. One with only constants to say, for want of what it is about, is left out.
type object struct {
	each     *term // one for each repetition
	cond     *condition
	elements []element
}

func (o *object) eval(sc *scope) any {
	if o.cond != nil && !o.cond.holds(sc) {
		return nil
	}
	if o.each == nil {
		if m := o.one(sc); m != nil {
			return m
		}
		return nil
	}
	if o.each.cond != nil && !o.each.cond.holds(sc) {
		return nil
	}
	v, at := o.each.value(sc)
	if v.raw == `""` {
		sc.null = true
		return nil
	}
	itWas, atWas := sc.it, sc.at
	defer func() { sc.it, sc.at = itWas, atWas }()
	var out []any
	take := func(v Value) {
		if v.raw == "" {
			return
		}
		sc.it, sc.at = v, at
		if m := o.one(sc); m != nil {
			out = append(out, m)
		}
	}
	if o.each.all {
		for rep := range v.Reps() {
			take(rep)
		}
	} else {
		take(v)
	}
	if len(out) == 0 {
		return nil
	}
	return out
}

func (o *object) one(sc *scope) fhir.M {
	var m fhir.M
	told := false
	for i := range o.elements {
		e := &o.elements[i]
		v := e.node.eval(sc)
		if v == nil {
			continue
		}
		if m == nil {
			m = make(fhir.M, len(o.elements))
		}
		m[e.name] = v
		if x, ok := e.node.(*expr); !ok || x.sourced() {
			told = true
		}
	}
	if !told {
		return nil
	}
	return m
}

// A list joins what its items give.
type list []node

func (l list) eval(sc *scope) any {
	var out []any
	add := func(v any) { // what two fields say is said once
		if !slices.ContainsFunc(out, func(was any) bool { return reflect.DeepEqual(was, v) }) {
			out = append(out, v)
		}
	}
	for _, n := range l {
		switch v := n.eval(sc).(type) {
		case nil:
		case []any:
			for _, one := range v {
				add(one)
			}
		default:
			add(v)
		}
	}
	if len(out) == 0 {
		return nil
	}
	return out
}

// fill puts into f what the named segments, and the feed's own, say of a resource of the type. What another segment said before stays;
// lists are joined.
func (x *mapper) fill(typ string, f fhir.M, sc *scope, segments ...string) {
	sc.x = x
	by := x.mp.blocks[typ]
	for _, name := range segments {
		x.fillFrom(by[name], f, sc)
	}
	for _, name := range x.mp.local[typ] {
		if !slices.Contains(segments, name) && sc.segment(name).m != nil {
			x.fillFrom(by[name], f, sc)
		}
	}
}

// fillRest is fill of the elements, or of those that are named, of which nothing has been said.
func (x *mapper) fillRest(typ, segment string, f fhir.M, sc *scope, only ...string) {
	b := x.mp.blocks[typ][segment]
	if b == nil {
		return
	}
	sc.x = x
	rest := *b
	rest.elements = slices.DeleteFunc(slices.Clone(b.elements), func(e element) bool {
		return !empty(f[e.name]) || len(only) > 0 && !slices.Contains(only, e.name)
	})
	x.fillFrom(&rest, f, sc)
}

func (x *mapper) fillFrom(b *block, f fhir.M, sc *scope) {
	if b == nil || sc.segment(b.segment).m == nil {
		return
	}
	for i := range b.elements {
		e := &b.elements[i]
		if o, ok := e.node.(*object); ok && o.each == nil {
			x.fillObject(e.name, o, f, sc)
			continue
		}
		sc.null = false
		before := x.m.noted()
		v := e.node.eval(sc)
		if v == nil {
			if sc.null {
				sc.cleared = append(sc.cleared, e.name)
			}
			continue
		}
		if !put(f, e.name, v) {
			x.m.forget(before)
		}
		if ex, ok := e.node.(*expr); ok && ex.assume {
			sc.assumed = append(sc.assumed, e.name)
		}
	}
}

// fillObject fills an element that is one object: each of its elements can be cleared by itself.
func (x *mapper) fillObject(name string, o *object, f fhir.M, sc *scope) {
	if o.cond != nil && !o.cond.holds(sc) {
		return
	}
	inner, _ := f[name].(fhir.M)
	told := inner != nil
	for i := range o.elements {
		e := &o.elements[i]
		sc.null = false
		v := e.node.eval(sc)
		if v == nil {
			if sc.null {
				sc.cleared = append(sc.cleared, name+"."+e.name)
			}
			continue
		}
		if inner == nil {
			inner = fhir.M{}
		}
		put(inner, e.name, v)
		if ex, ok := e.node.(*expr); !ok || ex.sourced() {
			told = true
		}
	}
	if told {
		f[name] = inner
	}
}

// put sets an element, or adds to a list; what was said of it first stays, and then nothing is taken.
func put(f fhir.M, name string, v any) (taken bool) {
	was, ok := f[name].([]any)
	more, isList := v.([]any)
	switch {
	case ok && isList:
		f[name] = append(slices.Clip(was), more...)
	case f[name] == nil:
		f[name] = v
	default:
		return false
	}
	return true
}

// node compiles an element's value.
func (c *compiler) node(name string, v *tree) (node, bool) {
	if !elementName.MatchString(name) {
		c.fail(v.at, "%q is not an element's name", name)
		return nil, false
	}
	switch {
	case v.pairs != nil:
		o := c.object(v)
		if o != nil && o.each != nil { // one object for each repetition is a list of objects
			return list{o}, true
		}
		return o, o != nil
	case v.list != nil:
		var l list
		for _, item := range v.list {
			if item.pairs != nil {
				if o := c.object(item); o != nil {
					l = append(l, o)
				}
			} else if e := c.expr(item); e != nil {
				l = append(l, e)
			}
		}
		return l, true
	case v.s == "none":
		return list{}, true
	}
	e := c.expr(v)
	return e, e != nil
}

func (c *compiler) object(v *tree) *object {
	o := &object{}
	for _, p := range v.pairs {
		switch p.key {
		case "each":
			if e := c.expr(p.value); e != nil {
				o.each = e.alts[0]
			}
		case "if", "unless":
			o.cond = c.condition(p.value.at, p.value.s, p.key == "unless")
		default:
			if n, ok := c.node(p.key, p.value); ok {
				o.elements = append(o.elements, element{p.key, n, p.at})
			}
		}
	}
	return o
}

var (
	elementName = regexp.MustCompile(`^_?[a-z][A-Za-z0-9]*$`)
	sourceForm  = regexp.MustCompile(`^([A-Z][A-Z0-9]{2})-([0-9]{1,3})(?:\.([0-9]{1,2}))?(?:\.([0-9]{1,2}))?(\*)?$`)
	itForm      = regexp.MustCompile(`^it(?:\.([0-9]{1,2}))?(?:\.([0-9]{1,2}))?$`)
	readerForm  = regexp.MustCompile(`^([a-zA-Z-]+)(?:\(([a-zA-Z0-9-]*)\))?$`)
)

func (c *compiler) expr(v *tree) *expr {
	s, e := v.s, &expr{}
	if v.pairs != nil || v.list != nil || s == "" {
		c.fail(v.at, "an expression is wanted here, such as PID-7 as date")
		return nil
	}
	if rest, ok := strings.CutPrefix(s, "assume "); ok {
		e.assume, s = true, rest
	}
	for alt := range strings.SplitSeq(s, " | ") {
		t := c.term(v.at, strings.TrimSpace(alt))
		if t == nil {
			return nil
		}
		e.alts = append(e.alts, t)
	}
	return e
}

// term reads one alternative: a source, then as, by, in, if or unless with a word each.
func (c *compiler) term(at place, s string) *term {
	t, rest := c.source(at, s)
	if t == nil {
		return nil
	}
	t.read = readers["string"]
	words := strings.Fields(rest)
	as := false
	for i := 0; i < len(words); i += 2 {
		if words[i] == "if" || words[i] == "unless" {
			t.cond = c.condition(at, strings.Join(words[i+1:], " "), words[i] == "unless")
			break
		}
		if i+1 == len(words) {
			c.fail(at, "a word is missing after %q", words[i])
			return nil
		}
		switch w := words[i+1]; words[i] {
		case "as":
			as = true
			g := readerForm.FindStringSubmatch(w)
			if g == nil || readers[g[1]] == nil {
				c.fail(at, "nothing is read as %q%s", w, nearestOf(w, readerNames()))
				return nil
			}
			t.read, t.arg = readers[g[1]], g[2]
		case "by":
			if t.table = c.m.tables[w]; t.table == nil {
				c.fail(at, "there is no table %q%s", w, nearestOf(w, c.m.tableNames()))
				return nil
			}
			if !as {
				t.read = readers["code"]
			}
		case "in":
			t.system = systemURI(w)
		default:
			c.fail(at, "%q is not part of the language: after the source come as, by, in, if or unless", words[i])
			return nil
		}
	}
	return t
}

func systemURI(w string) string {
	if n, ok := strings.CutPrefix(w, "v2-"); ok {
		return v2Table + n
	}
	if uri, ok := knownSystems[strings.ToUpper(w)]; ok {
		return uri
	}
	return w
}

func (c *compiler) source(at place, s string) (*term, string) {
	if strings.HasPrefix(s, "'") {
		lit, rest, ok := strings.Cut(s[1:], "'")
		if !ok {
			c.fail(at, "the quote is not closed in %s", s)
			return nil, ""
		}
		return &term{kind: fromLiteral, literal: lit}, rest
	}
	word, rest, _ := strings.Cut(s, " ")
	if name, ok := strings.CutPrefix(word, "$"); ok {
		return &term{kind: fromVar, literal: name}, rest
	}
	number := func(s string) int { n, _ := strconv.Atoi(s); return n }
	if g := itForm.FindStringSubmatch(word); g != nil {
		return &term{kind: fromIt, comp: number(g[1]), sub: number(g[2])}, rest
	}
	g := sourceForm.FindStringSubmatch(word)
	if g == nil {
		c.fail(at, "%q is not a field: write it as PID-5, PID-3.4.2 or PID-11*; words stand in quotes: \"'final'\"", word)
		return nil, ""
	}
	return &term{segment: g[1], field: number(g[2]), comp: number(g[3]), sub: number(g[4]), all: g[5] != ""}, rest
}

// condition reads "PID-24 = Y,1", "PV1-4 by admission-method" or a bare field.
func (c *compiler) condition(at place, s string, unless bool) *condition {
	left, right, eq := strings.Cut(s, " = ")
	left, tbl, by := strings.Cut(left, " by ")
	t, rest := c.source(at, strings.TrimSpace(left))
	if t == nil {
		return nil
	}
	if strings.TrimSpace(rest) != "" {
		c.fail(at, "a condition is a field, perhaps with = and values or by and a table; not %q", s)
		return nil
	}
	cond := &condition{of: t, unless: unless}
	if by {
		if t.table = c.m.tables[strings.TrimSpace(tbl)]; t.table == nil {
			c.fail(at, "there is no table %q%s", tbl, nearestOf(tbl, c.m.tableNames()))
		}
	}
	if eq {
		for v := range strings.SplitSeq(right, ",") {
			cond.values = append(cond.values, strings.TrimSpace(v))
		}
	}
	return cond
}
