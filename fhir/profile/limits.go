package profile

import (
	"math/big"
	"strings"

	"tombolo/fhir"
	"tombolo/fhir/ucum"
)

// limits holds a value to the least and the most that a profile allows. FHIR R4 elementdefinition-definitions.html#ElementDefinition.minValue_x_
func (c *checker) limits(p place, n *node) {
	if sign, ok := against(p.v, n.least, "minValue"); ok && sign < 0 {
		c.say(fhir.ValueError, p.at, "%s wants at least %s", n.label(), brief(n.least))
	}
	if sign, ok := against(p.v, n.most, "maxValue"); ok && sign > 0 {
		c.say(fhir.ValueError, p.at, "%s wants at most %s", n.label(), brief(n.most))
	}
}

// against compares a value with a limit; ok is false where they cannot be compared, so that nothing can be said: other units, another type, a limit that is a span of time.
func against(v, limit fhir.Value, name string) (sign int, ok bool) {
	if !limit.Exists() {
		return 0, false
	}
	switch kind := strings.TrimPrefix(limit.Key(), name); kind {
	case "Decimal", "Integer", "PositiveInt", "UnsignedInt":
		return numbers(v, limit, nil)
	case "Quantity":
		if !v.IsObject() || v.Member("comparator").Exists() {
			return 0, false
		}
		return numbers(v.Member("value"), limit.Member("value"), func(x *big.Rat) (*big.Rat, bool) {
			from, to := v.Text("code"), limit.Text("code")
			if v.Text("system") == limit.Text("system") && from == to {
				return x, true
			}
			if v.Text("system") != "http://unitsofmeasure.org" || limit.Text("system") != "http://unitsofmeasure.org" {
				return nil, false
			}
			x, err := ucum.Convert(x, from, to)
			return x, err == nil
		})
	case "Date", "DateTime", "Instant":
		if !v.IsString() {
			return 0, false
		}
		a, err1 := fhir.ParseDate(v.Str())
		b, err2 := fhir.ParseDate(limit.Str())
		switch {
		case err1 != nil || err2 != nil:
			return 0, false
		case !a.End.After(b.Start): // the whole of what it may mean lies before
			return -1, true
		case !a.Start.Before(b.End):
			return 1, true
		}
		return 0, true
	case "Time":
		return strings.Compare(v.Str(), limit.Str()), v.IsString() && len(v.Str()) == len(limit.Str())
	}
	return 0, false
}

// maxDigits bounds how long a number is compared, which no clinical one comes near: an exponent may stand for a number of any size.
const maxDigits = 40

func numbers(v, limit fhir.Value, in func(*big.Rat) (*big.Rat, bool)) (sign int, ok bool) {
	x, ok1 := number(v)
	y, ok2 := number(limit)
	if !ok1 || !ok2 {
		return 0, false
	}
	if in != nil {
		if x, ok1 = in(x); !ok1 {
			return 0, false
		}
	}
	return x.Cmp(y), true
}

func number(v fhir.Value) (*big.Rat, bool) {
	text := v.Str()
	if !v.Exists() || v.IsString() || v.IsObject() || v.IsArray() || len(text) > maxDigits || strings.ContainsAny(text, "eE") {
		return nil, false
	}
	return new(big.Rat).SetString(text)
}
