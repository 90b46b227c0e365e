package fhirpath

import (
	"github.com/cockroachdb/apd/v3"

	"tombolo/fhir/ucum"
)

// numbers are the functions of mathematics (FHIRPath §5.7), and those of precision (2.1).
var numbers = map[string]*function{
	"abs":          {do: ofNumber(func(d *apd.Decimal) (*apd.Decimal, bool) { return fits(new(apd.Decimal).Abs(d), nil) }, false)},
	"ceiling":      {do: ofNumber(func(d *apd.Decimal) (*apd.Decimal, bool) { return toWhole(d, apd.RoundCeiling) }, true)},
	"floor":        {do: ofNumber(func(d *apd.Decimal) (*apd.Decimal, bool) { return toWhole(d, apd.RoundFloor) }, true)},
	"truncate":     {do: ofNumber(func(d *apd.Decimal) (*apd.Decimal, bool) { return toWhole(d, apd.RoundDown) }, true)},
	"exp":          {do: ofNumber(func(d *apd.Decimal) (*apd.Decimal, bool) { return small(d, rounded.Exp) }, false)},
	"ln":           {do: ofNumber(func(d *apd.Decimal) (*apd.Decimal, bool) { return small(d, rounded.Ln) }, false)},
	"sqrt":         {do: ofNumber(func(d *apd.Decimal) (*apd.Decimal, bool) { return small(d, rounded.Sqrt) }, false)},
	"log":          {least: 1, most: 1, do: logarithm},
	"power":        {least: 1, most: 1, do: power},
	"round":        {most: 1, do: round},
	"lowBoundary":  {most: 1, do: boundary(false)},
	"highBoundary": {most: 1, do: boundary(true)},
	"precision":    {do: precisionOf},
	"comparable":   {least: 1, most: 1, do: comparable},
}

func toWhole(d *apd.Decimal, how apd.Rounder) (*apd.Decimal, bool) {
	c := exact
	c.Rounding = how
	out := new(apd.Decimal)
	_, err := c.Quantize(out, d, 0)
	return fits(out, err)
}

// small applies a function whose cost grows with its argument, within bounds.
func small(d *apd.Decimal, f func(z, x *apd.Decimal) (apd.Condition, error)) (*apd.Decimal, bool) {
	if d.NumDigits() > 60 || int64(d.Exponent)+d.NumDigits() > 60 || d.Exponent < -60 {
		return nil, false
	}
	out := new(apd.Decimal)
	_, err := f(out, d)
	return fits(out, err)
}

func ofNumber(f func(*apd.Decimal) (*apd.Decimal, bool), toInteger bool) func(*run, *call, int) error {
	return func(r *run, n *call, lo int) error {
		it, err := r.oneOf(lo, n.name)
		if err != nil || it == nil {
			return err
		}
		if err := r.step(100); err != nil {
			return err
		}
		v := it.system()
		q, isQuantity := v.(Quantity)
		d, ok := decimalOf(v)
		if isQuantity && (toInteger || n.name == "abs") {
			d, ok = q.value, true
		}
		if !ok {
			return fault("%s() is asked of a number", n.name)
		}
		out, ok := f(d)
		r.stack = r.stack[:lo]
		if !ok {
			return nil
		}
		if isQuantity {
			return r.push(computed(Quantity{value: out, unit: q.unit}))
		}
		if _, wasInteger := v.(int64); toInteger || wasInteger && n.name == "abs" {
			if i, ok := integer(out); ok {
				return r.push(computed(i))
			}
			return nil
		}
		return r.push(computed(out))
	}
}

// number is a function's input, and its first argument, as Decimals; ok is false if one is empty.
func (r *run) numbers(n *call, lo int) (x, y *apd.Decimal, ok bool, err error) {
	it, err := r.oneOf(lo, n.name)
	if err != nil {
		return nil, nil, false, err
	}
	a, err := r.one(n.args[0], "an argument")
	if err != nil || it == nil || a == nil {
		return nil, nil, false, err
	}
	x, ok1 := decimalOf(it.system())
	y, ok2 := decimalOf(a.system())
	if !ok1 || !ok2 {
		return nil, nil, false, fault("%s() is of numbers", n.name)
	}
	return x, y, true, r.step(200)
}

func logarithm(r *run, n *call, lo int) error {
	x, base, ok, err := r.numbers(n, lo)
	r.stack = r.stack[:lo]
	if err != nil || !ok {
		return err
	}
	a, ok1 := small(x, rounded.Ln)
	b, ok2 := small(base, rounded.Ln)
	if !ok1 || !ok2 || b.IsZero() {
		return nil
	}
	out := new(apd.Decimal)
	_, err = rounded.Quo(out, a, b)
	if d, ok := fits(out, err); ok { // the logarithms are rounded to 28 digits: what is whole but for that is whole
		return r.push(computed(tidied(d, 20)))
	}
	return nil
}

// tidied rounds to a number of places and leaves out zeros at the end.
func tidied(d *apd.Decimal, places int) *apd.Decimal {
	out := new(apd.Decimal)
	out.Reduce(roundTo(d, places))
	if out.Exponent > 0 {
		return roundTo(out, 0)
	}
	return out
}

func power(r *run, n *call, lo int) error {
	it, err := r.oneOf(lo, n.name)
	if err != nil || it == nil {
		return err
	}
	_, whole := it.system().(int64)
	x, y, ok, err := r.numbers(n, lo)
	r.stack = r.stack[:lo]
	if err != nil || !ok {
		return err
	}
	if y.NumDigits() > 10 || y.Cmp(apd.New(1000, 0)) > 0 || y.Cmp(apd.New(-1000, 0)) < 0 || x.NumDigits() > 40 {
		return nil
	}
	out := new(apd.Decimal)
	if _, err := rounded.Pow(out, x, y); err != nil {
		return nil
	}
	d, ok := fits(out, nil)
	if !ok {
		return nil
	}
	if whole && places(y) == 0 && y.Sign() >= 0 {
		if i, ok := integer(d); ok {
			return r.push(computed(i))
		}
	}
	return r.push(computed(d))
}

func round(r *run, n *call, lo int) error {
	it, err := r.oneOf(lo, n.name)
	if err != nil || it == nil {
		return err
	}
	to := int64(0)
	if len(n.args) > 0 {
		v, ok, err := r.whole(n, 0)
		if err != nil {
			return err
		}
		if ok {
			to = v
		}
	}
	q, ok := asQuantity(it.system())
	if !ok || to < 0 || to > 100 {
		return fault("round() is asked of a number, with 0 to 100 places")
	}
	if q.value = roundTo(q.value, int(to)); it.typ.kind == kindQuantity {
		return r.answer(lo, computed(q))
	}
	return r.answer(lo, computed(q.value))
}

// boundary is the least or greatest value that what is written may stand for.
func boundary(high bool) func(*run, *call, int) error {
	return func(r *run, n *call, lo int) error {
		it, err := r.oneOf(lo, n.name)
		if err != nil || it == nil {
			return err
		}
		to, given := int64(-1), false
		if len(n.args) > 0 {
			if to, given, err = r.whole(n, 0); err != nil {
				return err
			}
		}
		v := it.system()
		r.stack = r.stack[:lo]
		switch v := v.(type) {
		case Moment:
			if !given {
				to = map[kind]int64{kindDate: 8, kindDateTime: 17, kindTime: 9}[v.kind]
			}
			if to < 0 || to > 17 {
				return nil
			}
			if m, ok := v.boundary(high, int(to)); ok {
				return r.push(computed(m))
			}
			return nil
		case Quantity:
			if d, ok := decimalBoundary(v.value, high, to, given); ok {
				return r.push(computed(Quantity{value: d, unit: v.unit}))
			}
			return nil
		}
		d, ok := decimalOf(v)
		if !ok {
			return fault("%s() is asked of a number, quantity, date or time", n.name)
		}
		if d, ok := decimalBoundary(d, high, to, given); ok {
			return r.push(computed(d))
		}
		return nil
	}
}

// decimalBoundary adds or takes away half of the last digit, and gives so many places: cut off towards 0, rounded half up away from it.
func decimalBoundary(d *apd.Decimal, high bool, to int64, given bool) (*apd.Decimal, bool) {
	if !given {
		to = 8
	}
	if to < 0 || to > 31 {
		return nil, false
	}
	outward := high != d.Negative
	half := apd.New(5, int32(-places(d)-1))
	half.Negative = !high
	sum := new(apd.Decimal)
	if _, err := exact.Add(sum, d, half); err != nil {
		return nil, false
	}
	c := exact
	if c.Rounding = apd.RoundDown; outward {
		c.Rounding = apd.RoundHalfUp
	}
	out := new(apd.Decimal)
	_, err := c.Quantize(out, sum, int32(-to))
	return fits(out, err)
}

func precisionOf(r *run, n *call, lo int) error {
	it, err := r.oneOf(lo, n.name)
	if err != nil || it == nil {
		return err
	}
	switch v := it.system().(type) {
	case Moment:
		return r.answer(lo, computed(int64(v.width())))
	default:
		d, ok := decimalOf(v)
		if !ok {
			return fault("precision() is asked of a Decimal, date or time")
		}
		return r.answer(lo, computed(int64(places(d))))
	}
}

func comparable(r *run, n *call, lo int) error {
	it, err := r.oneOf(lo, n.name)
	if err != nil {
		return err
	}
	a, err := r.one(n.args[0], "an argument")
	if err != nil || it == nil || a == nil {
		return r.none(lo, err)
	}
	x, ok1 := asQuantity(it.system())
	y, ok2 := asQuantity(a.system())
	if !ok1 || !ok2 {
		return fault("comparable() is asked of quantities")
	}
	cx, _ := ofUCUM(x.unit)
	cy, _ := ofUCUM(y.unit)
	ux, err1 := ucum.Parse(cx)
	uy, err2 := ucum.Parse(cy)
	return r.answer(lo, computed(cx == cy || err1 == nil && err2 == nil && ux.Comparable(uy)))
}

func (r *run) none(lo int, err error) error {
	r.stack = r.stack[:lo]
	return err
}
