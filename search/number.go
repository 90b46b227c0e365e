package search

import (
	"math/big"
	"strconv"
	"strings"

	"tombolo/fhir"
	"tombolo/fhir/ucum"
)

// A decimal is an exact number and the precision with which it was written: 5.40 is 5.4 give or take 0.005.
type decimal struct {
	value, half *big.Rat
}

// Limits that no measurement reaches, so that "1e999999999" costs nobody a gigabyte.
const (
	maxDigits   = 100
	maxExponent = 200
)

func parseDecimal(s string) (decimal, bool) {
	mantissa, exp := s, 0
	if i := strings.IndexAny(s, "eE"); i >= 0 {
		n, err := strconv.Atoi(s[i+1:])
		if err != nil || n < -maxExponent || n > maxExponent {
			return decimal{}, false
		}
		mantissa, exp = s[:i], n
	}
	digits := 0
	for i, c := range []byte(mantissa) {
		switch {
		case c >= '0' && c <= '9':
			digits++
		case c == '.' || (c == '-' || c == '+') && i == 0:
		default:
			return decimal{}, false
		}
	}
	if digits == 0 || digits > maxDigits {
		return decimal{}, false
	}
	value, ok := new(big.Rat).SetString(mantissa)
	if !ok {
		return decimal{}, false
	}
	places := 0
	if _, frac, ok := strings.Cut(mantissa, "."); ok {
		places = len(frac)
	}
	half := new(big.Rat).Mul(big.NewRat(1, 2), pow10(exp-places))
	return decimal{value.Mul(value, pow10(exp)), half}, true
}

func pow10(n int) *big.Rat {
	p := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(max(n, -n))), nil)
	if n < 0 {
		return new(big.Rat).SetFrac(big.NewInt(1), p)
	}
	return new(big.Rat).SetInt(p)
}

// An interval is what a number in a resource may be; nil is open. A plain number has low = high.
type interval struct{ low, high *big.Rat }

// A numberWant is what a search value asks for.
type numberWant struct {
	prefix prefix
	decimal
}

func parseNumberWant(text string) (numberWant, error) {
	p, text, err := cutPrefix(text)
	if err != nil {
		return numberWant{}, err
	}
	d, ok := parseDecimal(strings.TrimSpace(text))
	if !ok {
		return numberWant{}, fhir.Errorf(fhir.Invalid, "is not a number: write 5.4, gt5.4 or 1e2")
	}
	if p == "ap" { // R4: "something like 10%"
		tenth := new(big.Rat).Mul(big.NewRat(1, 10), new(big.Rat).Abs(d.value))
		if tenth.Cmp(d.half) > 0 {
			d.half = tenth
		}
	}
	return numberWant{p, d}, nil
}

// matches takes eq, ne and ap with the precision as written, and the other prefixes exactly. FHIR R4 search.html#number
func (w numberWant) matches(have interval) bool {
	above := have.high == nil || have.high.Cmp(w.value) > 0
	below := have.low == nil || have.low.Cmp(w.value) < 0
	exact := have.low != nil && have.high != nil && have.low.Cmp(w.value) == 0 && have.high.Cmp(w.value) == 0
	switch w.prefix {
	case "gt":
		return above
	case "ge":
		return above || exact
	case "lt":
		return below
	case "le":
		return below || exact
	case "sa":
		return have.low != nil && have.low.Cmp(w.value) > 0
	case "eb":
		return have.high != nil && have.high.Cmp(w.value) < 0
	}
	low, high := new(big.Rat).Sub(w.value, w.half), new(big.Rat).Add(w.value, w.half)
	if w.prefix == "ap" {
		return (have.high == nil || have.high.Cmp(low) >= 0) && (have.low == nil || have.low.Cmp(high) <= 0)
	}
	// 100 is 99.5 up to, but not including, 100.5. FHIR R4 search.html#number
	within := have.low != nil && have.high != nil && have.low.Cmp(low) >= 0 &&
		(have.high.Cmp(high) < 0 || have.high.Cmp(w.value) == 0)
	return within == (w.prefix == "eq")
}

func numberTest(value string) (valueTest, error) {
	w, err := parseNumberWant(unescape(value))
	if err != nil {
		return nil, err
	}
	return func(v fhir.Value) bool {
		d, ok := parseDecimal(v.Str())
		return ok && !v.IsString() && w.matches(interval{d.value, d.value})
	}, nil
}

// quantityTest is [prefix]number, number|system|code or number||code. A unit of UCUM
// finds what is measured in others of its kind; other units are compared as written. FHIR R4 search.html#quantity
func quantityTest(value string) (valueTest, error) {
	p := split(value, '|')
	if len(p) != 1 && len(p) != 3 {
		return nil, fhir.Errorf(fhir.Invalid, "is not a quantity: write 5.4, 5.4||mmol/L or 5.4|http://unitsofmeasure.org|mmol/L")
	}
	w, err := parseNumberWant(unescape(p[0]))
	if err != nil {
		return nil, err
	}
	system, unit := "", ""
	if len(p) == 3 {
		system, unit = strings.TrimSpace(unescape(p[1])), strings.TrimSpace(unescape(p[2]))
	}
	var in *ucum.Unit
	if u, err := ucum.Parse(unit); err == nil && system == ucumSystem && unit != "" {
		in = &u
	}
	return func(v fhir.Value) bool {
		have, ok := quantity(v)
		if !ok {
			return false
		}
		return unitMatches(v, system, unit) && w.matches(have) || in != nil && converted(v, &have, in) && w.matches(have)
	}, nil
}

const ucumSystem = "http://unitsofmeasure.org"

// converted brings a quantity in another unit of UCUM to the unit that is asked for. FHIR R4 search.html#quantity
func converted(v fhir.Value, have *interval, in *ucum.Unit) bool {
	q := measured(v)
	code := q.Member("code").Str()
	if q.Member("system").Str() != ucumSystem || code == "" {
		return false
	}
	u, err := ucum.Parse(code)
	if err != nil || !u.Comparable(*in) {
		return false
	}
	if have.low != nil {
		have.low = in.FromBase(u.ToBase(have.low))
	}
	if have.high != nil {
		have.high = in.FromBase(u.ToBase(have.high))
	}
	return true
}

// measured is the quantity that has the unit.
func measured(v fhir.Value) fhir.Value {
	for _, sub := range [...]string{"low", "high", "origin"} {
		if q := v.Member(sub); q.Exists() {
			return q
		}
	}
	return v
}

// quantity reads a Quantity (with its comparator), a Range or the origin of SampledData.
func quantity(v fhir.Value) (interval, bool) {
	if low, high := v.Member("low"), v.Member("high"); low.Exists() || high.Exists() {
		var i interval
		if d, ok := parseDecimal(low.Member("value").Str()); ok {
			i.low = d.value
		}
		if d, ok := parseDecimal(high.Member("value").Str()); ok {
			i.high = d.value
		}
		return i, i.low != nil || i.high != nil
	}
	if origin := v.Member("origin"); origin.Exists() {
		v = origin
	}
	d, ok := parseDecimal(v.Member("value").Str())
	if !ok {
		return interval{}, false
	}
	switch v.Member("comparator").Str() {
	case "<", "<=":
		return interval{high: d.value}, true
	case ">", ">=":
		return interval{low: d.value}, true
	}
	return interval{d.value, d.value}, true
}

func unitMatches(v fhir.Value, system, unit string) bool {
	if system == "" && unit == "" {
		return true
	}
	v = measured(v)
	code := v.Member("code").Str()
	if c := v.Member("currency"); c.Exists() { // Money
		code = c.Str()
	}
	if system != "" {
		return v.Member("system").Str() == system && (unit == "" || code == unit)
	}
	return code == unit || v.Member("unit").Str() == unit
}
