package match

import (
	"slices"
	"strings"
)

// A Field is one thing that two descriptions are compared in.
type Field uint8

// The fields, in the order of a Pattern.
const (
	Given Field = iota
	Family
	Born
	Sex
	Postcode
	Address
	Contact
	Numbers
	fields
)

func (f Field) String() string {
	return [...]string{"given name", "family name", "birth date", "sex", "postcode", "address", "telephone or mail", "number"}[f]
}

// levels are the outcomes of comparing a field, best first. The last always means different, the first the same; level -1 is that one of the two
// descriptions says nothing.
var levels = [fields][]string{
	Given:    {"same", "short form", "one slip", "alike", "initial", "another of their names", "exchanged with the family name", "different"},
	Family:   {"same", "one slip", "alike", "part of it", "sounds alike", "exchanged with the given name", "different"},
	Born:     {"same", "one slip", "two of three parts", "year only", "different"},
	Sex:      {"same", "different"},
	Postcode: {"same", "one slip", "same district", "different"},
	Address:  {"same", "mostly", "partly", "different"},
	Contact:  {"same", "one slip", "different"},
	Numbers:  {"same", "one slip", "different"},
}

// A Pattern is how two descriptions compare: a level for each field, -1 where one of them says nothing.
type Pattern [fields]int8

// Compare compares two descriptions. It is symmetrical.
func Compare(a, b *Description) Pattern {
	return Pattern{
		Given:    compareGiven(a, b),
		Family:   compareFamily(a, b),
		Born:     compareBorn(a.Born, b.Born),
		Sex:      compareSex(a.Sex, b.Sex),
		Postcode: comparePostcode(a.Postcode, b.Postcode),
		Address:  compareAddress(a.Line, b.Line),
		Contact:  compareContacts(a.Contacts, b.Contacts),
		Numbers:  compareNumbers(a.Numbers, b.Numbers),
	}
}

const (
	givenSame, givenShort, givenSlip, givenAlike, givenInitial, givenOther, givenExchanged, givenDifferent = 0, 1, 2, 3, 4, 5, 6, 7
	familySame, familySlip, familyAlike, familyPart, familySound, familyExchanged, familyDifferent         = 0, 1, 2, 3, 4, 5, 6
	bornSame, bornSlip, bornTwo, bornYear, bornDifferent                                                   = 0, 1, 2, 3, 4
	sexDifferent, numbersDifferent                                                                         = 1, 2
)

func compareGiven(a, b *Description) int8 {
	if len(a.Given) == 0 || len(b.Given) == 0 {
		return -1
	}
	x, y := a.Given[0], b.Given[0]
	switch {
	case x == y:
		return givenSame
	case nickname(x, y):
		return givenShort
	case len(x) == 1 || len(y) == 1:
		if x[0] == y[0] {
			return givenInitial
		}
	case len(x) > 3 && len(y) > 3 && slip(x, y):
		return givenSlip
	}
	if slices.Contains(a.Given[1:], y) || slices.Contains(b.Given[1:], x) {
		return givenOther
	}
	if slices.Contains(a.Family, y) && slices.Contains(b.Family, x) {
		return givenExchanged
	}
	if len(x) > 1 && len(y) > 1 && Likeness(x, y) >= 0.88 {
		return givenAlike
	}
	return givenDifferent
}

func compareFamily(a, b *Description) int8 {
	if len(a.Family) == 0 || len(b.Family) == 0 {
		return -1
	}
	best := int8(familyDifferent)
	for _, x := range a.Family {
		for _, y := range b.Family {
			best = min(best, compareFamilyName(x, y))
		}
	}
	if best > familySound && len(a.Given) > 0 && len(b.Given) > 0 && slices.Contains(a.Family, b.Given[0]) && slices.Contains(b.Family, a.Given[0]) {
		return familyExchanged
	}
	return best
}

func compareFamilyName(x, y string) int8 {
	switch {
	case x == y:
		return familySame
	case len(x) > 3 && len(y) > 3 && slip(x, y):
		return familySlip
	case Likeness(x, y) >= 0.9:
		return familyAlike
	case partOf(x, y) || partOf(y, x):
		return familyPart
	case sound(x) == sound(y):
		return familySound
	}
	return familyDifferent
}

// partOf reports whether a name is one of several words of another: Taylor of Taylor-Green.
func partOf(name, names string) bool {
	for w := range strings.FieldsSeq(names) {
		if w == name && len(names) > len(name) {
			return true
		}
	}
	return false
}

func compareBorn(a, b Date) int8 {
	if a.zero() || b.zero() {
		return -1
	}
	if a == b {
		if !a.Whole() {
			return bornYear
		}
		return bornSame
	}
	if !a.Whole() || !b.Whole() {
		if a.Year == b.Year {
			return bornYear
		}
		return bornDifferent
	}
	if a.Year == b.Year && a.Month == b.Day && a.Day == b.Month || slip(a.digits(), b.digits()) {
		return bornSlip
	}
	same := 0
	for _, eq := range [...]bool{a.Year == b.Year, a.Month == b.Month, a.Day == b.Day} {
		if eq {
			same++
		}
	}
	switch {
	case same == 2:
		return bornTwo
	case a.Year == b.Year:
		return bornYear
	}
	return bornDifferent
}

// digits are the eight digits of a date.
func (d Date) digits() string {
	b := [8]byte{}
	n := int(d.Year)*10000 + int(d.Month)*100 + int(d.Day)
	for i := 7; i >= 0; i-- {
		b[i] = byte('0' + n%10)
		n /= 10
	}
	return string(b[:])
}

func compareSex(a, b byte) int8 {
	switch {
	case a == 0 || b == 0:
		return -1
	case a == b:
		return 0
	}
	return 1
}

func comparePostcode(a, b string) int8 {
	switch {
	case a == "" || b == "":
		return -1
	case a == b:
		return 0
	case slip(a, b):
		return 1
	case len(a) > 4 && len(b) > 4 && a[:len(a)-3] == b[:len(b)-3]:
		return 2
	}
	return 3
}

func compareAddress(a, b []string) int8 {
	if len(a) == 0 || len(b) == 0 {
		return -1
	}
	switch s := shared(a, b); {
	case s == 1:
		return 0
	case s >= 0.6:
		return 1
	case s >= 0.25:
		return 2
	}
	return 3
}

func compareContacts(a, b []string) int8 {
	if len(a) == 0 || len(b) == 0 {
		return -1
	}
	best := int8(2)
	for _, x := range a {
		for _, y := range b {
			switch {
			case x == y:
				return 0
			case len(x) == len(y) && slip(x, y):
				best = 1
			}
		}
	}
	return best
}

// compareNumbers compares numbers of systems that both have one of.
func compareNumbers(a, b []Number) int8 {
	best := int8(-1)
	for _, x := range a {
		for _, y := range b {
			if x.System != y.System {
				continue
			}
			switch {
			case x.Value == y.Value:
				return 0
			case slip(x.Value, y.Value):
				best = 1
			case best != 1:
				best = 2
			}
		}
	}
	return best
}
