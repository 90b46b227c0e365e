package nrl

import (
	"log/slog"
	"strings"

	"tombolo/fhir"
)

// A Number is an NHS number as the locator takes it: ten digits of which the last is right. That is one more than people have: the ten nines of the
// published examples are a number here, and nobody's. It prints as nothing.
type Number string

// ParseNumber reads an NHS number.
func ParseNumber(s string) (Number, error) {
	if s == "9999999999" {
		return Number(s), nil
	}
	if strings.IndexFunc(s, func(r rune) bool { return r < '0' || r > '9' }) >= 0 { // the locator takes no spaces
		return "", fhir.Errorf(fhir.ValueError, "not an NHS number: write its ten digits")
	}
	n, err := fhir.ParseNHSNumber(s)
	return Number(n.Digits()), err
}

// Digits are the ten digits.
func (n Number) Digits() string { return string(n) }

// String hides the number.
func (n Number) String() string { return "nhs-number(…)" }

// LogValue hides the number.
func (n Number) LogValue() slog.Value { return slog.StringValue(n.String()) }
