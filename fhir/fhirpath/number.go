package fhirpath

import (
	"math/big"
	"strings"

	"github.com/cockroachdb/apd/v3"

	"tombolo/fhir"
	"tombolo/fhir/ucum"
)

// Decimals are exact where that is possible: sums, differences and products to 100 digits, which nothing here exceeds by honest work; quotients,
// roots and the like to 28. FHIRPath §4.1.4
var (
	exact   = apd.Context{Precision: 100, MaxExponent: 2000, MinExponent: -2000, Rounding: apd.RoundHalfUp}
	rounded = apd.Context{Precision: 28, MaxExponent: 2000, MinExponent: -2000, Rounding: apd.RoundHalfUp}
)

// parseDecimal reads a number of JSON or a literal: bounded as fhir/r4 bounds it.
func parseDecimal(s string) (*apd.Decimal, bool) {
	if len(s) > 110 || s == "" || s[len(s)-1] > '9' || s[0] > '9' { // Infinity and NaN are none
		return nil, false
	}
	d, _, err := apd.NewFromString(s)
	if err != nil || d.Form != apd.Finite || d.Exponent > 1000 || d.Exponent < -1100 {
		return nil, false
	}
	return d, true
}

// fits gives the result of a computation, unless it is out of bounds.
func fits(d *apd.Decimal, err error) (*apd.Decimal, bool) {
	if err != nil || d.Form != apd.Finite || d.Exponent > 1000 || d.Exponent < -1100 {
		return nil, false
	}
	return d, true
}

func decimalOf(v any) (*apd.Decimal, bool) {
	switch v := v.(type) {
	case int64:
		return apd.New(v, 0), true
	case *apd.Decimal:
		return v, true
	}
	return nil, false
}

// places is how many digits stand after the point; plain leaves out zeros at the end.
func places(d *apd.Decimal) int { return max(0, int(-d.Exponent)) }

func plainPlaces(d *apd.Decimal) int {
	var r apd.Decimal
	r.Reduce(d)
	return places(&r)
}

// roundTo rounds half up to a number of places.
func roundTo(d *apd.Decimal, n int) *apd.Decimal {
	out := new(apd.Decimal)
	if _, err := exact.Quantize(out, d, int32(-n)); err != nil {
		return d
	}
	return out
}

// integer gives a decimal that is whole and in range as an Integer.
func integer(d *apd.Decimal) (int64, bool) {
	n, err := d.Int64()
	return n, err == nil && inRange(n)
}

func inRange(n int64) bool { return n >= -1<<31 && n <= 1<<31-1 }

// A Quantity is a number with a unit: of UCUM, or a word of time ("years"). FHIRPath §4.1.8
type Quantity struct {
	value *apd.Decimal
	unit  string
	fhir  bool // of a FHIR Quantity: its year is the calendar's and UCUM's alike
}

func (q Quantity) String() string { return q.value.Text('f') + " " + quoteUnit(q.unit) }

// quantityOf takes a FHIR Quantity for FHIRPath's, if its unit is of UCUM or it has none, and no comparator. FHIR R4 fhirpath.html#quantity
func quantityOf(v fhir.Value) any {
	d, ok := parseDecimal(v.Member("value").Str())
	if !ok || v.Member("comparator").Exists() {
		return nil
	}
	unit, system := v.Member("code").Str(), v.Member("system").Str()
	switch {
	case system == ucum.System && unit != "":
		if word, ok := calendarWords[unit]; ok {
			return Quantity{d, word, true}
		}
	case system == "" && unit == "" && !v.Member("unit").Exists():
		unit = "1"
	default:
		return nil
	}
	return Quantity{d, unit, false}
}

// calendarWords are the units of time of FHIR's quantities in FHIRPath's words. FHIR R4 fhirpath.html#quantity
var calendarWords = map[string]string{"a": "year", "mo": "month", "d": "day", "h": "hour", "min": "minute", "s": "second"}

// calendarDays is how long a calendar's year and month are taken to be beside shorter units in words. FHIRPath §5.5.8
var calendarDays = map[string]int64{"a": 365, "mo": 30}

// ofUCUM is the unit in UCUM, and whether it is a calendar's year or month, whose length is not a fixed one.
func ofUCUM(unit string) (code string, calendar bool) {
	switch unit {
	case "year", "years":
		return "a", true
	case "month", "months":
		return "mo", true
	case "week", "weeks":
		return "wk", false
	case "day", "days":
		return "d", false
	case "hour", "hours":
		return "h", false
	case "minute", "minutes":
		return "min", false
	case "second", "seconds":
		return "s", false
	case "millisecond", "milliseconds":
		return "ms", false
	case "":
		return "1", false
	}
	return unit, false
}

func rational(d *apd.Decimal) *big.Rat {
	r, ok := new(big.Rat).SetString(d.Text('f'))
	if !ok {
		return new(big.Rat)
	}
	return r
}

// decimalFrom gives a rational number as a decimal: exactly if it is one of at most 28 digits.
func decimalFrom(r *big.Rat) (*apd.Decimal, bool) {
	n, _, err1 := apd.NewFromString(r.Num().String())
	d, _, err2 := apd.NewFromString(r.Denom().String())
	if err1 != nil || err2 != nil {
		return nil, false
	}
	out := new(apd.Decimal)
	if _, err := rounded.Quo(out, n, d); err != nil {
		return nil, false
	}
	out.Reduce(out)
	return fits(out, nil)
}

// to converts a quantity into another's unit. ok is false where they cannot be compared; calendar years and months only with their like.
func (q Quantity) to(unit string) (*big.Rat, bool) {
	if q.unit == unit {
		return rational(q.value), true
	}
	from, fromCalendar := ofUCUM(q.unit)
	into, intoCalendar := ofUCUM(unit)
	if fromCalendar && intoCalendar && from != into { // 12 months are a year, of whatever length
		if from == "a" {
			return new(big.Rat).Mul(rational(q.value), big.NewRat(12, 1)), true
		}
		return new(big.Rat).Quo(rational(q.value), big.NewRat(12, 1)), true
	}
	if from == into && (q.fhir || fromCalendar == intoCalendar) {
		return rational(q.value), true
	}
	value := rational(q.value)
	switch {
	case fromCalendar && isCalendarWord(unit):
		value, from = value.Mul(value, big.NewRat(calendarDays[from], 1)), "d"
	case intoCalendar && isCalendarWord(q.unit):
		out, err := ucum.Convert(value, from, "d")
		if err != nil {
			return nil, false
		}
		return out.Quo(out, big.NewRat(calendarDays[into], 1)), true
	case fromCalendar != intoCalendar:
		return nil, false
	}
	out, err := ucum.Convert(value, from, into)
	return out, err == nil
}

// in is the value in another unit.
func (q Quantity) in(unit string) (*apd.Decimal, bool) {
	if q.unit == unit {
		return q.value, true
	}
	r, ok := q.to(unit)
	if !ok {
		return nil, false
	}
	return decimalFrom(r)
}

// compare orders two quantities of one kind.
func (q Quantity) compare(o Quantity) (order int, known bool) {
	if q.unit == o.unit {
		return q.value.Cmp(o.value), true
	}
	q.fhir = q.fhir || o.fhir
	a, ok := q.to(o.unit)
	if !ok {
		return 0, false
	}
	return a.Cmp(rational(o.value)), true
}

// parseQuantity reads "4.5 'mg'", "3 days" or "7".
func parseQuantity(s string) (Quantity, bool) {
	i := 0
	for i < len(s) && (s[i] >= '0' && s[i] <= '9' || s[i] == '.' || i == 0 && (s[i] == '+' || s[i] == '-')) {
		i++
	}
	d, ok := plainNumber(s[:i])
	if !ok {
		return Quantity{}, false
	}
	switch unit := strings.TrimSpace(s[i:]); {
	case unit == "":
		return Quantity{value: d, unit: "1"}, i == len(s)
	case len(unit) > 2 && unit[0] == '\'' && unit[len(unit)-1] == '\'':
		return Quantity{value: d, unit: unit[1 : len(unit)-1]}, true
	default:
		return Quantity{value: d, unit: unit}, isCalendarWord(unit)
	}
}

func isCalendarWord(s string) bool {
	_, ok := calendarUnits[s]
	return ok && s != "d" && s != "h" && s != "min" && s != "s" && s != "ms" || s == "week" || s == "weeks"
}

// plainNumber reads [+-]digits[.digits].
func plainNumber(s string) (*apd.Decimal, bool) {
	rest := s
	if rest != "" && (rest[0] == '+' || rest[0] == '-') {
		rest = rest[1:]
	}
	whole, fraction, has := strings.Cut(rest, ".")
	if !allDigits(whole) || has && !allDigits(fraction) {
		return nil, false
	}
	return parseDecimal(s)
}

func allDigits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}
