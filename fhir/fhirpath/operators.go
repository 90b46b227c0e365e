package fhirpath

import (
	"strings"

	"github.com/cockroachdb/apd/v3"

	"tombolo/fhir/ucum"
)

func newBinary(op string, left, right node) node {
	switch op {
	case "and", "or", "xor", "implies":
		return &logic{op, left, right}
	case "|":
		return &union{left, right}
	case "=", "!=", "~", "!~":
		return &equality{left, right, op[0] == '!', strings.HasSuffix(op, "~")}
	case "in":
		return &membership{left, right}
	case "contains":
		return &membership{right, left}
	case "<", ">", "<=", ">=":
		return &inequality{op, left, right}
	}
	return &arithmetic{op, left, right}
}

// logic is three-valued. FHIRPath §6.5
type logic struct {
	op          string
	left, right node
}

func (n *logic) eval(r *run) error {
	a, err := r.truth(n.left)
	if err != nil {
		return err
	}
	switch { // the other side cannot change it
	case n.op == "and" && a == no:
		return r.pushTri(no)
	case n.op == "or" && a == yes, n.op == "implies" && a == no:
		return r.pushTri(yes)
	}
	b, err := r.truth(n.right)
	if err != nil {
		return err
	}
	return r.pushTri(decide(n.op, a, b))
}

func decide(op string, a, b tri) tri {
	switch {
	case op == "xor":
		if a == unknown || b == unknown {
			return unknown
		}
		return triOf(a != b)
	case op == "implies":
		if b == yes {
			return yes
		}
		if a == yes {
			return b
		}
	case op == "and":
		if b == no {
			return no
		}
		if a == yes {
			return b
		}
	case b == yes: // or
		return yes
	case a == no:
		return b
	}
	return unknown
}

func knownIf(ok bool) tri {
	if ok {
		return yes
	}
	return unknown
}

// union is |: each item once. FHIRPath §6.6
type union struct{ left, right node }

func (n *union) eval(r *run) error {
	lo := len(r.stack)
	if err := n.left.eval(r); err != nil {
		return err
	}
	if err := n.right.eval(r); err != nil {
		return err
	}
	return r.distinct(lo)
}

type equality struct {
	left, right node
	not, alike  bool // alike: equivalence
}

func (n *equality) eval(r *run) error {
	lo := len(r.stack)
	if err := n.left.eval(r); err != nil {
		return err
	}
	mid := len(r.stack)
	if err := n.right.eval(r); err != nil {
		return err
	}
	a, b := r.stack[lo:mid], r.stack[mid:]
	var t tri
	var err error
	if n.alike {
		t, err = r.equivalent(a, b)
	} else {
		t, err = r.equal(a, b)
	}
	r.stack = r.stack[:lo]
	if err != nil {
		return err
	}
	if n.not && t != unknown {
		t = yes + no - t
	}
	return r.pushTri(t)
}

// membership is in and contains. FHIRPath §6.4
type membership struct{ item, of node }

func (n *membership) eval(r *run) error {
	lo := len(r.stack)
	if err := n.item.eval(r); err != nil {
		return err
	}
	mid := len(r.stack)
	if mid-lo > 1 {
		return fault("one item is looked for in a collection, and there are several")
	}
	if err := n.of.eval(r); err != nil {
		return err
	}
	if mid == lo {
		r.stack = r.stack[:lo]
		return nil
	}
	found := false
	for i := mid; i < len(r.stack) && !found; i++ {
		t, err := r.equalItems(&r.stack[lo], &r.stack[i])
		if err != nil {
			return err
		}
		found = t == yes
	}
	r.stack = r.stack[:lo]
	return r.push(computed(found))
}

type inequality struct {
	op          string
	left, right node
}

func (n *inequality) eval(r *run) error {
	a, err := r.one(n.left, "what is compared")
	if err != nil {
		return err
	}
	b, err := r.one(n.right, "what is compared")
	if err != nil || a == nil || b == nil {
		return err
	}
	order, t, err := compareValues(a.system(), b.system())
	if err != nil || t == unknown {
		return err
	}
	switch n.op {
	case "<":
		t = triOf(order < 0)
	case ">":
		t = triOf(order > 0)
	case "<=":
		t = triOf(order <= 0)
	default:
		t = triOf(order >= 0)
	}
	return r.pushTri(t)
}

// compareValues orders two values. FHIRPath §6.2
func compareValues(a, b any) (order int, known tri, err error) {
	if a == nil || b == nil {
		return 0, unknown, nil
	}
	switch x := a.(type) {
	case string:
		if y, ok := b.(string); ok {
			return strings.Compare(x, y), yes, nil
		}
	case Moment:
		if y, ok := b.(Moment); ok && (x.kind == kindTime) == (y.kind == kindTime) {
			order, ok := x.compare(y)
			return order, knownIf(ok), nil
		}
	case Quantity:
		y, ok := b.(Quantity)
		if d, isNumber := decimalOf(b); isNumber {
			y, ok = Quantity{value: d, unit: "1"}, true
		}
		if ok {
			order, ok := x.compare(y)
			return order, knownIf(ok), nil
		}
	default:
		x1, ok1 := decimalOf(a)
		x2, ok2 := decimalOf(b)
		if ok1 && ok2 {
			return x1.Cmp(x2), yes, nil
		}
		if q, ok := b.(Quantity); ok && ok1 {
			order, ok := Quantity{value: x1, unit: "1"}.compare(q)
			return order, knownIf(ok), nil
		}
	}
	return 0, unknown, fault("values of different kinds are compared for order")
}

type arithmetic struct {
	op          string
	left, right node
}

func (n *arithmetic) eval(r *run) error {
	a, err := r.one(n.left, "an operand")
	if err != nil {
		return err
	}
	b, err := r.one(n.right, "an operand")
	if err != nil {
		return err
	}
	if n.op == "&" {
		return r.joined(a, b)
	}
	if a == nil || b == nil {
		return nil
	}
	v, ok, err := compute(n.op, a.system(), b.system())
	if err != nil || !ok {
		return err
	}
	if s, is := v.(string); is {
		if err := r.write(len(s)); err != nil {
			return err
		}
	}
	return r.push(computed(v))
}

// joined is &: what is not there is an empty text. FHIRPath §6.6.6
func (r *run) joined(a, b *Item) error {
	var s string
	for _, it := range []*Item{a, b} {
		if it == nil {
			continue
		}
		v := it.system()
		text, ok := textOf(v)
		if v != nil && !ok {
			return fault("& joins texts")
		}
		s += text
	}
	if err := r.write(len(s)); err != nil {
		return err
	}
	return r.push(computed(s))
}

// compute does + - * / div mod. ok is false where the result is empty: a division by zero, and what is out of range. FHIRPath §6.6
func compute(op string, a, b any) (v any, ok bool, err error) {
	if a == nil || b == nil {
		return nil, false, nil
	}
	if x, isInt := a.(int64); isInt {
		if y, isInt := b.(int64); isInt && op != "/" {
			v, ok := integers(op, x, y)
			return v, ok, nil
		}
	}
	x, ok1 := decimalOf(a)
	y, ok2 := decimalOf(b)
	if ok1 && ok2 {
		v, ok := decimals(op, x, y)
		return v, ok, nil
	}
	switch x := a.(type) {
	case string:
		if y, ok := b.(string); ok && op == "+" {
			return x + y, true, nil
		}
	case Moment:
		if q, ok := b.(Quantity); ok && (op == "+" || op == "-") {
			return shift(x, q, op == "-")
		}
	}
	qa, isA := asQuantity(a)
	qb, isB := asQuantity(b)
	if isA && isB {
		return quantities(op, qa, qb)
	}
	return nil, false, fault("%s does not go with values of these kinds", op)
}

func asQuantity(v any) (Quantity, bool) {
	if q, ok := v.(Quantity); ok {
		return q, true
	}
	d, ok := decimalOf(v)
	return Quantity{value: d, unit: "1"}, ok
}

func integers(op string, x, y int64) (any, bool) {
	var n int64
	switch op {
	case "+":
		n = x + y
	case "-":
		n = x - y
	case "*":
		n = x * y
	case "div", "mod":
		if y == 0 {
			return nil, false
		}
		if n = x / y; op == "mod" {
			n = x % y
		}
	}
	return n, inRange(n)
}

func decimals(op string, x, y *apd.Decimal) (any, bool) {
	d := new(apd.Decimal)
	var err error
	switch op {
	case "+":
		_, err = exact.Add(d, x, y)
	case "-":
		_, err = exact.Sub(d, x, y)
	case "*":
		_, err = exact.Mul(d, x, y)
	default:
		if y.IsZero() {
			return nil, false
		}
		switch op {
		case "/":
			if _, err = rounded.Quo(d, x, y); err == nil {
				d = tidied(d, places(d))
			}
		case "div":
			if _, err = exact.QuoInteger(d, x, y); err == nil {
				n, ok := integer(d)
				return n, ok
			}
		case "mod":
			_, err = exact.Rem(d, x, y)
		}
	}
	return fits(d, err)
}

func negated(d *apd.Decimal) *apd.Decimal { return new(apd.Decimal).Neg(d) }

// shift adds time to a moment. Of the units that have no fixed length only the calendar's words are taken. FHIRPath §6.6.7
func shift(m Moment, q Quantity, back bool) (any, bool, error) {
	var whole apd.Decimal
	if _, err := exact.RoundToIntegralValue(&whole, truncated(q.value)); err != nil {
		return nil, false, nil
	}
	n, err := whole.Int64()
	if err != nil {
		return nil, false, nil
	}
	unit, ok := calendarUnits[q.unit]
	if q.unit == "week" || q.unit == "weeks" || q.unit == "wk" {
		if n > 1e9 || n < -1e9 {
			return nil, false, nil
		}
		unit, ok, n = toDay, true, n*7
	}
	if !ok || m.kind == kindTime && unit < toHour {
		return nil, false, fault("a moment is moved by years, months, weeks, days, hours, minutes, seconds or milliseconds")
	}
	if back {
		n = -n
	}
	out, ok := m.plus(n, unit)
	return out, ok, nil
}

func truncated(d *apd.Decimal) *apd.Decimal {
	out := new(apd.Decimal)
	down := exact
	down.Rounding = apd.RoundDown
	if _, err := down.Quantize(out, d, 0); err != nil {
		return d
	}
	return out
}

func quantities(op string, a, b Quantity) (any, bool, error) {
	if op == "+" || op == "-" {
		unit := a.unit
		if order, ok := (Quantity{value: apd.New(1, 0), unit: a.unit}).compare(Quantity{value: apd.New(1, 0), unit: b.unit}); ok && order > 0 {
			unit = b.unit // the finer one
		}
		x, ok1 := a.in(unit)
		y, ok2 := b.in(unit)
		if !ok1 || !ok2 {
			return nil, false, nil
		}
		v, ok := decimals(op, x, y)
		if !ok {
			return nil, false, nil
		}
		return Quantity{value: v.(*apd.Decimal), unit: unit}, true, nil
	}
	if op != "*" && op != "/" {
		return nil, false, fault("%s does not go with quantities", op)
	}
	if op == "*" && a.unit == "1" || b.unit == "1" {
		unit := a.unit
		if a.unit == "1" {
			unit = b.unit
		}
		if op == "/" && b.unit == "1" {
			unit = a.unit
		}
		v, ok := decimals(op, a.value, b.value)
		if !ok {
			return nil, false, nil
		}
		return Quantity{value: v.(*apd.Decimal), unit: unit}, true, nil
	}
	codeA, _ := ofUCUM(a.unit)
	codeB, _ := ofUCUM(b.unit)
	ua, err1 := ucum.Parse(codeA)
	ub, err2 := ucum.Parse(codeB)
	if err1 != nil || err2 != nil {
		return nil, false, nil
	}
	of := ua.Times(ub)
	if op == "/" {
		of = ua.Over(ub)
	}
	v, ok := decimals(op, a.value, b.value)
	if !ok {
		return nil, false, nil
	}
	d, ok := decimalFrom(of.ToBase(rational(v.(*apd.Decimal))))
	return Quantity{value: d, unit: of.Base()}, ok, nil
}
