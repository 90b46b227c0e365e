// Package ucum reads units of measure as UCUM writes them ("mg/dL", "10*9/L", "[lb_av]"), and converts between those of one kind.
//
// It is exact: factors are rational numbers. Units are taken in the case-sensitive form, which is the one that FHIR uses, and annotations in
// braces mean nothing, as UCUM has it. Arbitrary units such as [iU] are of a kind of their own, and so are the logarithmic ones here (pH, B, Np):
// they are compared with themselves only. What a unit is called in plain English is not known here.
package ucum

import (
	"fmt"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// System is the code system of UCUM in FHIR.
const System = "http://unitsofmeasure.org"

const (
	maxCode     = 256 // bytes of a code
	maxExponent = 40  // of any one unit: no unit of medicine comes near it
	maxNesting  = 8   // of parentheses
)

// A Unit is a product of powers of base units, times a factor. The zero Unit is not valid; One is 1.
type Unit struct {
	factor *big.Rat
	offset *big.Rat // added before the factor: of temperatures
	powers []power  // sorted by base, no power is 0
}

type power struct {
	base string
	n    int
}

// One is the unit of what is only counted.
var One = Unit{factor: big.NewRat(1, 1)}

// Parse reads a unit in UCUM's case-sensitive form. "" is 1. UCUM §2
func Parse(code string) (Unit, error) {
	if len(code) > maxCode {
		return Unit{}, fmt.Errorf("a unit has at most %d characters", maxCode)
	}
	if code == "" {
		return One, nil
	}
	p := parser{text: code, known: known()}
	u, err := p.term(0)
	if err == nil && p.at < len(code) {
		err = p.unexpected()
	}
	if err != nil {
		return Unit{}, err
	}
	return u, nil
}

// Comparable reports whether values in the two units can be compared: mg with g, not with mL.
func (u Unit) Comparable(v Unit) bool { return slices.Equal(u.powers, v.powers) }

// Base is the code of the base units of which u is a multiple, the same for all that are comparable: "g.m-3" of mg/dL; "1" of %.
func (u Unit) Base() string {
	if len(u.powers) == 0 {
		return "1"
	}
	var b strings.Builder
	for i, p := range u.powers {
		if i > 0 {
			b.WriteByte('.')
		}
		b.WriteString(p.base)
		if p.n != 1 {
			b.WriteString(strconv.Itoa(p.n))
		}
	}
	return b.String()
}

// ToBase is a value in u, given in u.Base().
func (u Unit) ToBase(value *big.Rat) *big.Rat {
	out := new(big.Rat).Set(value)
	if u.offset != nil {
		out.Add(out, u.offset)
	}
	return out.Mul(out, u.factor)
}

// FromBase is a value in u.Base(), given in u.
func (u Unit) FromBase(value *big.Rat) *big.Rat {
	out := new(big.Rat).Quo(value, u.factor)
	if u.offset != nil {
		out.Sub(out, u.offset)
	}
	return out
}

// Times is the product of two units; a temperature becomes an interval of it.
func (u Unit) Times(v Unit) Unit { return u.combine(v, 1) }

// Over is u divided by v.
func (u Unit) Over(v Unit) Unit { return u.combine(v, -1) }

func (u Unit) combine(v Unit, sign int) Unit {
	out := Unit{factor: new(big.Rat), powers: slices.Clone(u.powers)}
	if sign > 0 {
		out.factor.Mul(u.factor, v.factor)
	} else {
		out.factor.Quo(u.factor, v.factor)
	}
	for _, p := range v.powers {
		i, found := slices.BinarySearchFunc(out.powers, p.base, func(q power, base string) int { return strings.Compare(q.base, base) })
		if !found {
			out.powers = slices.Insert(out.powers, i, power{p.base, 0})
		}
		if out.powers[i].n += sign * p.n; out.powers[i].n == 0 {
			out.powers = slices.Delete(out.powers, i, i+1)
		}
	}
	return out
}

func (u Unit) raised(n int) (Unit, error) {
	out := Unit{factor: big.NewRat(1, 1)}
	if n == 1 {
		return u, nil
	}
	for _, p := range u.powers {
		if p.n*n > maxExponent || p.n*n < -maxExponent {
			return Unit{}, fmt.Errorf("an exponent is at most %d", maxExponent)
		}
		if n != 0 {
			out.powers = append(out.powers, power{p.base, p.n * n})
		}
	}
	for range max(n, -n) {
		if n > 0 {
			out.factor.Mul(out.factor, u.factor)
		} else {
			out.factor.Quo(out.factor, u.factor)
		}
	}
	return out, nil
}

// Convert gives a value in another unit of the same kind.
func Convert(value *big.Rat, from, to string) (*big.Rat, error) {
	u, err := Parse(from)
	if err != nil {
		return nil, err
	}
	v, err := Parse(to)
	if err != nil {
		return nil, err
	}
	if !u.Comparable(v) {
		return nil, fmt.Errorf("%s and %s are units of different kinds", from, to)
	}
	return v.FromBase(u.ToBase(value)), nil
}

// A parser follows UCUM's grammar (§11): terms of components joined by '.' and '/', from left to right.
type parser struct {
	text  string
	at    int
	known map[string]atom
}

func (p *parser) unexpected() error {
	if p.at >= len(p.text) {
		return fmt.Errorf("the unit ends too early")
	}
	return fmt.Errorf("the unit is not UCUM's from character %d on", p.at+1)
}

func (p *parser) next() byte {
	if p.at < len(p.text) {
		return p.text[p.at]
	}
	return 0
}

func (p *parser) term(depth int) (Unit, error) {
	if depth > maxNesting {
		return Unit{}, fmt.Errorf("parentheses stand at most %d deep", maxNesting)
	}
	u, sign := One, 1
	if p.next() == '/' {
		sign = -1
		p.at++
	}
	for first := true; ; first = false {
		c, err := p.component(depth)
		if err != nil {
			return Unit{}, err
		}
		if first && sign > 0 {
			u = c
		} else {
			u = u.combine(c, sign)
		}
		for _, q := range u.powers {
			if q.n > maxExponent || q.n < -maxExponent {
				return Unit{}, fmt.Errorf("an exponent is at most %d", maxExponent)
			}
		}
		switch p.next() {
		case '.':
			sign = 1
		case '/':
			sign = -1
		default:
			return u, nil
		}
		p.at++
	}
}

func (p *parser) component(depth int) (Unit, error) {
	switch c := p.next(); {
	case c == '(':
		p.at++
		u, err := p.term(depth + 1)
		if err != nil {
			return u, err
		}
		if p.next() != ')' {
			return u, p.unexpected()
		}
		p.at++
		return u, p.annotation()
	case c == '{':
		return One, p.annotation()
	case c >= '0' && c <= '9' && !strings.HasPrefix(p.text[p.at:], "10*") && !strings.HasPrefix(p.text[p.at:], "10^"):
		n, err := p.number()
		if err != nil || n == 0 {
			return Unit{}, p.unexpected()
		}
		return Unit{factor: big.NewRat(int64(n), 1)}, p.annotation()
	}
	u, err := p.simple()
	if err != nil {
		return u, err
	}
	if c := p.next(); c == '+' || c == '-' || c >= '0' && c <= '9' {
		sign := 1
		if c == '+' || c == '-' {
			p.at++
		}
		if c == '-' {
			sign = -1
		}
		n, err := p.number()
		if err != nil {
			return u, err
		}
		if n > maxExponent {
			return u, fmt.Errorf("an exponent is at most %d", maxExponent)
		}
		if u, err = u.raised(sign * n); err != nil {
			return u, err
		}
	}
	return u, p.annotation()
}

func (p *parser) number() (int, error) {
	from := p.at
	for c := p.next(); c >= '0' && c <= '9'; c = p.next() {
		p.at++
	}
	if p.at == from || p.at-from > 9 {
		return 0, p.unexpected()
	}
	return strconv.Atoi(p.text[from:p.at])
}

func (p *parser) annotation() error {
	if p.next() != '{' {
		return nil
	}
	for p.at++; p.next() != '}'; p.at++ {
		if c := p.next(); c < ' ' || c > '~' || c == '{' {
			return p.unexpected()
		}
	}
	p.at++
	return nil
}

// simple reads an atom with its prefix, if it has one.
func (p *parser) simple() (Unit, error) {
	from := p.at
	if rest := p.text[p.at:]; strings.HasPrefix(rest, "10*") || strings.HasPrefix(rest, "10^") {
		p.at += 3
		return Unit{factor: big.NewRat(10, 1)}, nil
	}
scan:
	for {
		switch c := p.next(); {
		case c == '[':
			end := strings.IndexByte(p.text[p.at:], ']')
			if end < 0 {
				p.at = len(p.text)
				return Unit{}, p.unexpected()
			}
			p.at += end + 1
		case c <= ' ' || c > '~' || strings.IndexByte("./(){}+-]", c) >= 0 || c >= '0' && c <= '9':
			break scan
		default:
			p.at++
		}
	}
	symbol := p.text[from:p.at]
	if a, ok := p.known[symbol]; ok {
		return a.unit, nil
	}
	for _, n := range []int{1, 2} {
		if len(symbol) <= n {
			break
		}
		factor, ok := prefixes()[symbol[:n]]
		if a, known := p.known[symbol[n:]]; ok && known && a.metric {
			u := Unit{factor: new(big.Rat).Mul(factor, a.unit.factor), powers: a.unit.powers}
			return u, nil
		}
	}
	p.at = from
	return Unit{}, p.unexpected()
}

type atom struct {
	unit   Unit
	metric bool
}

var prefixes = sync.OnceValue(func() map[string]*big.Rat {
	m := map[string]*big.Rat{"Ki": big.NewRat(1<<10, 1), "Mi": big.NewRat(1<<20, 1), "Gi": big.NewRat(1<<30, 1), "Ti": big.NewRat(1<<40, 1)}
	for p, n := range map[string]int{"Y": 24, "Z": 21, "E": 18, "P": 15, "T": 12, "G": 9, "M": 6, "k": 3, "h": 2, "da": 1, "d": -1, "c": -2, "m": -3, "u": -6, "n": -9, "p": -12, "f": -15, "a": -18, "z": -21, "y": -24} {
		m[p] = tenTo(n)
	}
	return m
})

func tenTo(n int) *big.Rat {
	p := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(max(n, -n))), nil)
	if n < 0 {
		return new(big.Rat).SetFrac(big.NewInt(1), p)
	}
	return new(big.Rat).SetInt(p)
}

// known are the atoms of units.go. A unit is defined by those that stand before it.
var known = sync.OnceValue(func() map[string]atom {
	m := map[string]atom{}
	for w := range strings.FieldsSeq(bases) {
		m[w] = atom{Unit{factor: big.NewRat(1, 1), powers: []power{{w, 1}}}, true}
	}
	for w := range strings.FieldsSeq(arbitrary) {
		m[w] = atom{Unit{factor: big.NewRat(1, 1), powers: []power{{w, 1}}}, w == "[iU]" || w == "[arb'U]" || w == "[EU]" || w == "[pH]" || w == "B" || w == "Np"}
	}
	m["[IU]"] = m["[iU]"]
	for line := range strings.Lines(derived) {
		w := strings.Fields(line)
		if len(w) < 3 {
			continue
		}
		factor, ok := new(big.Rat).SetString(w[1])
		p := parser{text: w[2], known: m}
		u, err := p.term(0)
		if !ok || err != nil || p.at < len(w[2]) {
			panic("fhir/ucum: " + line) // a mistake in this program's own table
		}
		u.factor = new(big.Rat).Mul(factor, u.factor)
		m[w[0]] = atom{u, len(w) > 3}
	}
	for name, offset := range map[string]string{"Cel": "273.15", "[degF]": "459.67"} {
		a := m[name]
		a.unit.offset, _ = new(big.Rat).SetString(offset)
		m[name] = a
	}
	return m
})
