package fhirpath

import (
	"strings"
	"unicode"

	"github.com/cockroachdb/apd/v3"

	"tombolo/fhir"
)

// equal is =: of the same items in the same order; unknown if one side is empty, or if dates do not say enough. FHIRPath §6.1.1
func (r *run) equal(a, b []Item) (tri, error) {
	if len(a) == 0 || len(b) == 0 {
		return unknown, nil
	}
	if len(a) != len(b) {
		return no, nil
	}
	all := yes
	for i := range a {
		t, err := r.equalItems(&a[i], &b[i])
		if err != nil || t == no {
			return t, err
		}
		all = min(all, t)
	}
	return all, nil
}

func (r *run) equalItems(a, b *Item) (tri, error) {
	if err := r.step(1); err != nil {
		return unknown, err
	}
	if eq, ok := same(a, b); ok {
		return triOf(eq), nil
	}
	x, y := a.system(), b.system()
	switch {
	case x != nil && y != nil:
		return equalValues(x, y), nil
	case a.val.IsObject() && b.val.IsObject():
		eq, err := r.equalJSON(a.val, b.val)
		return triOf(eq), err
	case !a.val.Exists() && !b.val.Exists() && a.ext.Exists() && b.ext.Exists():
		eq, err := r.equalJSON(a.ext, b.ext)
		return triOf(eq), err
	}
	return no, nil
}

func equalValues(a, b any) tri {
	switch x := a.(type) {
	case bool:
		y, ok := b.(bool)
		return triOf(ok && x == y)
	case string:
		y, ok := b.(string)
		return triOf(ok && x == y)
	case typeInfo:
		return triOf(a == b)
	case Moment:
		y, ok := b.(Moment)
		if !ok || (x.kind == kindTime) != (y.kind == kindTime) {
			return no
		}
		order, known := x.compare(y)
		if !known {
			return unknown
		}
		return triOf(order == 0)
	}
	if x, ok := decimalOf(a); ok {
		if y, ok := decimalOf(b); ok {
			return triOf(x.Cmp(y) == 0)
		}
	}
	x, ok1 := asQuantity(a)
	y, ok2 := asQuantity(b)
	if !ok1 || !ok2 {
		return no
	}
	order, known := x.compare(y)
	if !known {
		_, calendarX := ofUCUM(x.unit)
		_, calendarY := ofUCUM(y.unit)
		if calendarX != calendarY { // a calendar's year and 'a' of UCUM may or may not be as long
			return unknown
		}
		return no
	}
	return triOf(order == 0)
}

// equalJSON compares elements with all that is in them; the order of members does not matter, and numbers are compared as such.
func (r *run) equalJSON(a, b fhir.Value) (bool, error) {
	if err := r.step(1); err != nil {
		return false, err
	}
	switch {
	case a.IsObject() && b.IsObject():
		n := 0
		for c := range a.Children() {
			n++
			d := b.Member(c.Key())
			if !d.Exists() {
				return false, nil
			}
			if eq, err := r.equalJSON(c, d); !eq || err != nil {
				return false, err
			}
		}
		for range b.Children() {
			n--
		}
		return n == 0, r.step(max(n, -n))
	case a.IsArray() && b.IsArray():
		x, y := list(a), list(b)
		if len(x) != len(y) {
			return false, nil
		}
		for i := range x {
			if eq, err := r.equalJSON(x[i], y[i]); !eq || err != nil {
				return false, err
			}
		}
		return true, nil
	case a.IsObject() || b.IsObject() || a.IsArray() || b.IsArray() || a.IsString() != b.IsString():
		return false, nil
	case a.IsString():
		return a.Str() == b.Str(), nil
	}
	x, ok1 := parseDecimal(a.Str())
	y, ok2 := parseDecimal(b.Str())
	if ok1 && ok2 {
		return x.Cmp(y) == 0, nil
	}
	return string(a.Raw()) == string(b.Raw()), nil
}

// equivalent is ~: never unknown, whatever the order of items. FHIRPath §6.1.2
func (r *run) equivalent(a, b []Item) (tri, error) {
	if len(a) != len(b) {
		return no, nil
	}
	taken := make([]bool, len(b))
next:
	for i := range a {
		for j := range b {
			if taken[j] {
				continue
			}
			eq, err := r.alike(&a[i], &b[j])
			if err != nil {
				return unknown, err
			}
			if eq {
				taken[j] = true
				continue next
			}
		}
		return no, nil
	}
	return yes, nil
}

func (r *run) alike(a, b *Item) (bool, error) {
	if err := r.step(1); err != nil {
		return false, err
	}
	x, y := a.system(), b.system()
	if x != nil && y != nil {
		return alikeValues(x, y), nil
	}
	if a.val.IsObject() && b.val.IsObject() {
		return r.alikeElements(a, b)
	}
	t, err := r.equalItems(a, b)
	return t == yes, err
}

// alikeElements compares the children of two elements, whatever their order.
func (r *run) alikeElements(a, b *Item) (bool, error) {
	lo := len(r.stack)
	defer func() { r.stack = r.stack[:lo] }()
	if err := r.children(*a, ""); err != nil {
		return false, err
	}
	mid := len(r.stack)
	if err := r.children(*b, ""); err != nil {
		return false, err
	}
	t, err := r.equivalent(r.stack[lo:mid], r.stack[mid:])
	return t == yes, err
}

func alikeValues(a, b any) bool {
	switch x := a.(type) {
	case string:
		y, ok := b.(string)
		return ok && (x == y || folded(x) == folded(y))
	case Moment:
		y, ok := b.(Moment)
		if !ok {
			return false
		}
		order, known := x.compare(y)
		return known && order == 0
	case Quantity:
		y, ok := asQuantity(b)
		return ok && alikeQuantities(x, y)
	}
	x, ok1 := decimalOf(a)
	y, ok2 := decimalOf(b)
	if ok1 && ok2 {
		return alikeDecimals(x, y, min(plainPlaces(x), plainPlaces(y)))
	}
	return equalValues(a, b) == yes
}

// alikeDecimals compares at the precision of the less precise.
func alikeDecimals(x, y *apd.Decimal, places int) bool {
	return roundTo(x, places).Cmp(roundTo(y, places)) == 0
}

func alikeQuantities(x, y Quantity) bool {
	codeX, _ := ofUCUM(x.unit)
	codeY, _ := ofUCUM(y.unit)
	if codeX == codeY {
		return alikeDecimals(x.value, y.value, min(plainPlaces(x.value), plainPlaces(y.value)))
	}
	r, ok := Quantity{value: y.value, unit: codeY}.to(codeX)
	if !ok {
		return false
	}
	d, ok := decimalFrom(r)
	return ok && alikeDecimals(x.value, d, min(plainPlaces(x.value), plainPlaces(d)))
}

// folded is a text without regard to case and to which white space stands in it.
func folded(s string) string {
	return strings.ToLower(strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) {
			return ' '
		}
		return r
	}, s))
}

// distinct keeps the first of those above lo that are equal.
func (r *run) distinct(lo int) error {
	u := unique{lo: lo}
	return r.addUnique(&u, lo)
}

// A unique is a part of the stack, from lo on, in which each item is once. Texts, which are most of what is compared, are looked up and not compared one by one.
type unique struct {
	lo   int
	seen map[string]bool
}

// addUnique adds to u what stands above from, and takes away what u has.
func (r *run) addUnique(u *unique, from int) error {
	kept := from
	few := u.seen == nil && len(r.stack)-u.lo <= 8
next:
	for i := from; i < len(r.stack); i++ {
		if err := r.step(1); err != nil {
			return err
		}
		if b, ok := plainText(&r.stack[i]); ok && !few {
			if u.seen == nil {
				u.seen = map[string]bool{}
				for j := u.lo; j < kept; j++ {
					if b, ok := plainText(&r.stack[j]); ok {
						u.seen[string(b)] = true
					}
				}
			}
			if u.seen[string(b)] {
				continue
			}
			u.seen[string(b)] = true
		} else {
			for j := u.lo; j < kept; j++ {
				t, err := r.equalItems(&r.stack[j], &r.stack[i])
				if err != nil {
					return err
				}
				if t == yes {
					continue next
				}
			}
		}
		r.stack[kept] = r.stack[i]
		kept++
	}
	r.stack = r.stack[:kept]
	return nil
}
