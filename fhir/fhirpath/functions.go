package fhirpath

import (
	"errors"
	"regexp"
	"slices"

	"tombolo/fhir"
)

// A function of FHIRPath. do finds its input above lo on the stack, and leaves its result there.
type function struct {
	least, most int  // arguments
	types       bool // its argument is a type
	regex       int  // which argument is a regular expression, from 1
	do          func(r *run, n *call, lo int) error
}

// functions are all, by their names.
var functions map[string]*function

func init() {
	functions = map[string]*function{
		// types; see typeTest
		"is": {types: true}, "as": {types: true}, "ofType": {types: true},
		"type": {do: typeOf},
		// existence §5.1
		"empty":      {do: func(r *run, n *call, lo int) error { return r.answer(lo, computed(len(r.stack) == lo)) }},
		"exists":     {most: 1, do: exists},
		"all":        {least: 1, most: 1, do: all},
		"not":        {do: not},
		"allTrue":    {do: allAre(true)},
		"anyTrue":    {do: anyIs(true)},
		"allFalse":   {do: allAre(false)},
		"anyFalse":   {do: anyIs(false)},
		"subsetOf":   {least: 1, most: 1, do: subset(false)},
		"supersetOf": {least: 1, most: 1, do: subset(true)},
		"count":      {do: func(r *run, n *call, lo int) error { return r.answer(lo, computed(int64(len(r.stack)-lo))) }},
		"distinct":   {do: func(r *run, n *call, lo int) error { return r.distinct(lo) }},
		"isDistinct": {do: isDistinct},
		// filtering and projection §5.2
		"where":  {least: 1, most: 1, do: where},
		"select": {least: 1, most: 1, do: project},
		"repeat": {least: 1, most: 1, do: repeat},
		"sort":   {most: 20, do: sorted},
		// subsetting §5.3
		"single":    {do: single},
		"first":     {do: func(r *run, n *call, lo int) error { r.stack = r.stack[:min(lo+1, len(r.stack))]; return nil }},
		"last":      {do: func(r *run, n *call, lo int) error { r.keep(lo, max(lo, len(r.stack)-1)); return nil }},
		"tail":      {do: func(r *run, n *call, lo int) error { r.keep(lo, min(lo+1, len(r.stack))); return nil }},
		"skip":      {least: 1, most: 1, do: skip},
		"take":      {least: 1, most: 1, do: take},
		"intersect": {least: 1, most: 1, do: intersect},
		"exclude":   {least: 1, most: 1, do: exclude},
		// combining §5.4
		"union":    {least: 1, most: 1, do: func(r *run, n *call, lo int) error { return orDistinct(r, n.args[0].eval(r), lo) }},
		"combine":  {least: 1, most: 2, do: func(r *run, n *call, lo int) error { return n.args[0].eval(r) }},
		"coalesce": {least: 1, most: 50, do: coalesce},
		// tree §5.8
		"children":    {do: children},
		"descendants": {do: descendants},
		// utility §5.9
		"trace":          {least: 1, most: 2, do: trace},
		"now":            {do: func(r *run, n *call, lo int) error { return r.answer(lo, computed(momentOf(r.clock()))) }},
		"today":          {do: today},
		"timeOfDay":      {do: timeOfDay},
		"defineVariable": {least: 1, most: 2, do: defineVariable},
		"iif":            {least: 2, most: 3, do: iif},
		"aggregate":      {least: 1, most: 2, do: aggregate},
	}
	for _, more := range []map[string]*function{conversions, texts, numbers, momentParts, fhirFunctions} {
		for name, f := range more {
			functions[name] = f
		}
	}
}

// prepare makes ready what does not change: a regular expression that is written out.
func (n *call) prepare(src string, at int) error {
	if n.f.regex == 0 || len(n.args) < n.f.regex {
		return nil
	}
	if l, ok := n.args[n.f.regex-1].(*literal); ok {
		s, ok := l.item.sys.(string)
		if !ok {
			return wrongAt(src, at, "a regular expression is a text")
		}
		re, err := compileRegex(n.name, s)
		if err != nil {
			return wrongAt(src, at, "the regular expression cannot be read (RE2 syntax; no look-around or back-references)")
		}
		n.made = re
	}
	return nil
}

func compileRegex(name, s string) (*regexp.Regexp, error) {
	if len(s) > 2000 {
		return nil, errors.New("a regular expression is at most 2000 bytes")
	}
	if name == "matchesFull" {
		s = `\A(?:` + s + `)\z`
	}
	return regexp.Compile("(?s)" + s)
}

// answer puts one item in the place of a function's input.
func (r *run) answer(lo int, it Item) error {
	r.stack = r.stack[:lo]
	return r.push(it)
}

// nothing puts the empty collection there.
func (r *run) nothing(lo int) error {
	r.stack = r.stack[:lo]
	return nil
}

// oneOf gives a function's input if it is a single item; nil if there is none.
func (r *run) oneOf(lo int, name string) (*Item, error) {
	switch len(r.stack) - lo {
	case 0:
		return nil, nil
	case 1:
		it := r.stack[lo]
		return &it, nil
	}
	return nil, fault("%s() is asked of one item, and there are several", name)
}

// whole is an argument that is an Integer; ok is false if it is empty.
func (r *run) whole(n *call, i int) (v int64, ok bool, err error) {
	it, err := r.one(n.args[i], "an argument")
	if err != nil || it == nil {
		return 0, false, err
	}
	if v, ok = it.system().(int64); !ok {
		return 0, false, fault("%s() takes an Integer", n.name)
	}
	return v, true, nil
}

func orDistinct(r *run, err error, lo int) error {
	if err != nil {
		return err
	}
	return r.distinct(lo)
}

// eachItem runs an argument for each item of the input, as $this. f is told what it pushed, which is then taken away.
func (r *run) eachItem(n node, lo int, f func(i int, results []Item) (bool, error)) error {
	for i, hi := lo, len(r.stack); i < hi; i++ {
		var more bool
		err := r.within(i, int64(i-lo), func() error {
			if err := r.step(1); err != nil {
				return err
			}
			if err := n.eval(r); err != nil {
				return err
			}
			var err error
			more, err = f(i, r.stack[hi:])
			r.stack = r.stack[:hi]
			return err
		})
		if err != nil || !more {
			return err
		}
	}
	return nil
}

func exists(r *run, n *call, lo int) error {
	if len(n.args) == 0 {
		return r.answer(lo, computed(len(r.stack) > lo))
	}
	found := false
	err := r.eachItem(n.args[0], lo, func(_ int, results []Item) (bool, error) {
		t, err := truthOf(results)
		found = t == yes
		return !found, err
	})
	if err != nil {
		return err
	}
	return r.answer(lo, computed(found))
}

func all(r *run, n *call, lo int) error {
	every := true
	err := r.eachItem(n.args[0], lo, func(_ int, results []Item) (bool, error) {
		t, err := truthOf(results)
		every = t == yes
		return every, err
	})
	if err != nil {
		return err
	}
	return r.answer(lo, computed(every))
}

func where(r *run, n *call, lo int) error {
	kept := lo
	err := r.eachItem(n.args[0], lo, func(i int, results []Item) (bool, error) {
		t, err := truthOf(results)
		if t == yes {
			r.stack[kept] = r.stack[i]
			kept++
		}
		return true, err
	})
	r.stack = r.stack[:kept]
	return err
}

func project(r *run, n *call, lo int) error {
	hi := len(r.stack)
	for i := lo; i < hi; i++ {
		if err := r.within(i, int64(i-lo), func() error { return n.args[0].eval(r) }); err != nil {
			return err
		}
	}
	r.keep(lo, hi)
	return r.step(hi - lo)
}

// repeat gathers what the argument yields, and what it yields of that, each item once. FHIRPath §5.2.3
func repeat(r *run, n *call, lo int) error {
	hi := len(r.stack)
	for i := lo; i < hi; i++ {
		if err := r.within(i, int64(i-lo), func() error { return n.args[0].eval(r) }); err != nil {
			return err
		}
	}
	r.keep(lo, hi)
	u := unique{lo: lo}
	if err := r.addUnique(&u, lo); err != nil {
		return err
	}
	for from := lo; from < len(r.stack); {
		to := len(r.stack)
		for i := from; i < to; i++ {
			if err := r.within(i, int64(i-lo), func() error { return n.args[0].eval(r) }); err != nil {
				return err
			}
		}
		if err := r.addUnique(&u, to); err != nil {
			return err
		}
		from = to
	}
	return nil
}

func not(r *run, n *call, lo int) error {
	t, err := truthOf(r.stack[lo:])
	if err != nil {
		return err
	}
	r.stack = r.stack[:lo]
	if t == unknown {
		return nil
	}
	return r.push(computed(t == no))
}

func allAre(want bool) func(*run, *call, int) error {
	return func(r *run, n *call, lo int) error {
		every := true
		for i := lo; i < len(r.stack); i++ {
			b, ok := r.stack[i].Bool()
			if !ok {
				return fault("%s() is asked of Booleans", n.name)
			}
			every = every && b == want
		}
		return r.answer(lo, computed(every))
	}
}

func anyIs(want bool) func(*run, *call, int) error {
	return func(r *run, n *call, lo int) error {
		some := false
		for i := lo; i < len(r.stack); i++ {
			b, ok := r.stack[i].Bool()
			if !ok {
				return fault("%s() is asked of Booleans", n.name)
			}
			some = some || b == want
		}
		return r.answer(lo, computed(some))
	}
}

// has reports whether an item equals one of those between two places of the stack.
func (r *run) has(it *Item, lo, hi int) (bool, error) {
	for i := lo; i < hi; i++ {
		t, err := r.equalItems(it, &r.stack[i])
		if err != nil || t == yes {
			return t == yes, err
		}
	}
	return false, nil
}

func subset(super bool) func(*run, *call, int) error {
	return func(r *run, n *call, lo int) error {
		hi := len(r.stack)
		if err := n.args[0].eval(r); err != nil {
			return err
		}
		end := len(r.stack)
		from, to, in, until := lo, hi, hi, end
		if super {
			from, to, in, until = hi, end, lo, hi
		}
		every := true
		for i := from; i < to && every; i++ {
			var err error
			if every, err = r.has(&r.stack[i], in, until); err != nil {
				return err
			}
		}
		return r.answer(lo, computed(every))
	}
}

func isDistinct(r *run, n *call, lo int) error {
	count := len(r.stack) - lo
	if err := r.distinct(lo); err != nil {
		return err
	}
	return r.answer(lo, computed(len(r.stack)-lo == count))
}

func single(r *run, n *call, lo int) error {
	_, err := r.oneOf(lo, "single")
	return err
}

func skip(r *run, n *call, lo int) error {
	v, _, err := r.whole(n, 0)
	if err == nil {
		r.keep(lo, lo+int(min(max(v, 0), int64(len(r.stack)-lo))))
	}
	return err
}

func take(r *run, n *call, lo int) error {
	v, _, err := r.whole(n, 0)
	if err == nil {
		r.stack = r.stack[:lo+int(min(max(v, 0), int64(len(r.stack)-lo)))]
	}
	return err
}

func intersect(r *run, n *call, lo int) error {
	return r.sift(n, lo, true)
}

func exclude(r *run, n *call, lo int) error { return r.sift(n, lo, false) }

// sift keeps of the input what is, or is not, among the argument's items.
func (r *run) sift(n *call, lo int, in bool) error {
	hi := len(r.stack)
	if err := n.args[0].eval(r); err != nil {
		return err
	}
	end, kept := len(r.stack), lo
	for i := lo; i < hi; i++ {
		is, err := r.has(&r.stack[i], hi, end)
		if err != nil {
			return err
		}
		if is == in {
			r.stack[kept] = r.stack[i]
			kept++
		}
	}
	r.stack = r.stack[:kept]
	if in {
		return r.distinct(lo)
	}
	return nil
}

func coalesce(r *run, n *call, lo int) error {
	r.stack = r.stack[:lo]
	for _, a := range n.args {
		if err := a.eval(r); err != nil || len(r.stack) > lo {
			return err
		}
	}
	return nil
}

func children(r *run, n *call, lo int) error {
	hi := len(r.stack)
	for i := lo; i < hi; i++ {
		if err := r.children(r.stack[i], ""); err != nil {
			return err
		}
	}
	r.keep(lo, hi)
	return nil
}

func descendants(r *run, n *call, lo int) error {
	hi := len(r.stack)
	for i := lo; i < hi; i++ {
		if err := r.children(r.stack[i], ""); err != nil {
			return err
		}
	}
	for i := hi; i < len(r.stack); i++ {
		if err := r.children(r.stack[i], ""); err != nil {
			return err
		}
	}
	r.keep(lo, hi)
	return nil
}

func trace(r *run, n *call, lo int) error {
	name, err := r.one(n.args[0], "a trace's name")
	if err != nil || name == nil || r.env.Trace == nil {
		return err
	}
	items := slices.Clone(r.stack[lo:])
	if len(n.args) > 1 {
		hi := len(r.stack)
		for i := lo; i < hi; i++ {
			if err := r.within(i, int64(i-lo), func() error { return n.args[1].eval(r) }); err != nil {
				return err
			}
		}
		items = slices.Clone(r.stack[hi:])
		r.stack = r.stack[:hi]
	}
	r.env.Trace(name.String(), items)
	return nil
}

func iif(r *run, n *call, lo int) error {
	it, err := r.oneOf(lo, "iif")
	if err != nil {
		return err
	}
	hi := len(r.stack)
	do := func() error {
		if err := n.args[0].eval(r); err != nil {
			return err
		}
		results := r.stack[hi:]
		truth := false
		switch len(results) {
		case 0:
		case 1:
			ok := false
			if truth, ok = results[0].Bool(); !ok {
				return fault("the criterion of iif() is true or false")
			}
		default:
			return fault("the criterion of iif() is one item")
		}
		r.stack = r.stack[:hi]
		if truth {
			return n.args[1].eval(r)
		}
		if len(n.args) > 2 {
			return n.args[2].eval(r)
		}
		return nil
	}
	if it == nil || n.base == nil { // $this stays
		err = do()
	} else {
		err = r.within(lo, r.index, do)
	}
	r.keep(lo, hi)
	return err
}

func aggregate(r *run, n *call, lo int) error {
	was := r.total
	r.total = nil
	defer func() { r.total = was }()
	hi := len(r.stack)
	if len(n.args) > 1 {
		if err := n.args[1].eval(r); err != nil {
			return err
		}
		r.total = slices.Clone(r.stack[hi:])
		r.stack = r.stack[:hi]
	}
	err := r.eachItem(n.args[0], lo, func(_ int, results []Item) (bool, error) {
		r.total = append(r.total[:0:0], results...)
		return true, r.step(len(results))
	})
	if err != nil {
		return err
	}
	r.stack = r.stack[:lo]
	for _, it := range r.total {
		if err := r.push(it); err != nil {
			return err
		}
	}
	return nil
}

// defineVariable names its input, or an expression of it, for what follows. FHIRPath 2.1 §5.9
func defineVariable(r *run, n *call, lo int) error {
	name, err := r.one(n.args[0], "a variable's name")
	if err != nil {
		return err
	}
	if name == nil || fhirNames[name.String()] {
		return fault("a variable has a name of its own")
	}
	hi := len(r.stack)
	items := slices.Clone(r.stack[lo:])
	if len(n.args) > 1 {
		if err := n.args[1].eval(r); err != nil {
			return err
		}
		items = slices.Clone(r.stack[hi:])
		r.stack = r.stack[:hi]
	}
	if r.vars == nil {
		r.vars = map[string][]Item{}
	}
	if r.locals++; r.locals > 1000 {
		return fhir.Errorf(fhir.TooCostly, "the FHIRPath expression defines too many variables")
	}
	r.vars[name.String()] = items
	return nil
}

var fhirNames = map[string]bool{"context": true, "resource": true, "rootResource": true, "ucum": true, "sct": true, "loinc": true}

func typeOf(r *run, n *call, lo int) error {
	for i := lo; i < len(r.stack); i++ {
		t := r.stack[i].typ
		r.stack[i] = computed(typeInfo{t.Namespace, t.Name})
	}
	return nil
}

// sorted orders by the arguments in turn, or by the items themselves; -x is downwards. What is empty comes first. FHIRPath 2.1 sort
func sorted(r *run, n *call, lo int) error {
	hi := len(r.stack)
	type row struct {
		it   Item
		keys []any
	}
	keys, down := n.args, make([]bool, max(1, len(n.args)))
	for i, k := range keys {
		if p, ok := k.(*polarity); ok {
			keys = slices.Clone(keys)
			keys[i], down[i] = p.of, p.negative
		}
	}
	rows := make([]row, 0, hi-lo)
	for i := lo; i < hi; i++ {
		w := row{it: r.stack[i]}
		if len(keys) == 0 {
			w.keys = []any{w.it.system()}
		}
		err := r.within(i, int64(i-lo), func() error {
			for _, k := range keys {
				it, err := r.one(k, "a key to sort by")
				if err != nil {
					return err
				}
				var v any
				if it != nil {
					v = it.system()
				}
				w.keys = append(w.keys, v)
			}
			return r.step(1 + len(keys))
		})
		if err != nil {
			return err
		}
		rows = append(rows, w)
	}
	var failed error
	slices.SortStableFunc(rows, func(a, b row) int {
		for i := range a.keys {
			if a.keys[i] == nil || b.keys[i] == nil {
				if (a.keys[i] == nil) != (b.keys[i] == nil) { // what is empty comes first, upwards and downwards
					return 1 - 2*bit(a.keys[i] == nil)
				}
				continue
			}
			order, err := sortOrder(a.keys[i], b.keys[i])
			if err != nil {
				failed = err
			}
			if order != 0 && down[i] {
				return -order
			} else if order != 0 {
				return order
			}
		}
		return 0
	})
	for i, w := range rows {
		r.stack[lo+i] = w.it
	}
	return failed
}

func sortOrder(a, b any) (int, error) {
	order, t, err := compareValues(a, b)
	if t != yes {
		return 0, err
	}
	return order, err
}

func bit(b bool) int {
	if b {
		return 1
	}
	return 0
}
