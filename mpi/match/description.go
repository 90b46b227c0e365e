// Package match says how likely two descriptions are of one human.
//
// It weighs what agrees and what differs as Fellegi and Sunter did (1969): each comparison has a few levels, and each level a weight,
// log2(m/u), where m is how often it is seen between two records of one person and u between records of two. An agreement on a
// rare name weighs more than one on a common name. Weights are added up and read as a probability; rules that no weight overrides stand
// beside it (Decide). Nothing here stores anything or knows where records lie.
package match

import (
	"slices"
	"strconv"
	"strings"
	"unicode"

	"golang.org/x/text/unicode/norm"
)

// A Description is what one source says of a human, as far as telling people apart goes. Make it with Describe, which brings every part into the
// form that is compared.
type Description struct {
	Given    []string // the name they go by first, then the others
	Family   []string // the current family name first, then former ones
	Born     Date
	Sex      byte // 'f', 'm', or 0: not known, or neither
	Postcode string
	Line     []string // the words of the address before its postcode, in order of the alphabet
	Contacts []string // telephone numbers and electronic mail addresses
	Numbers  []Number
}

// Placeless is the description without where somebody lives and how they are reached.
func (d Description) Placeless() Description {
	d.Postcode, d.Line, d.Contacts = "", nil, nil
	return d
}

// A Number is an identifier in some system.
type Number struct{ System, Value string }

// A Date is a birth date; a part that is not known is zero.
type Date struct {
	Year       uint16
	Month, Day uint8
}

// Whole reports whether all three parts are known.
func (d Date) Whole() bool { return d.Year != 0 && d.Month != 0 && d.Day != 0 }

func (d Date) zero() bool { return d == Date{} }

// ParseDate reads 1948, 1948-03, 1948-03-12 or 19480312. What cannot be a date is not known.
func ParseDate(s string) Date {
	digits := strings.ReplaceAll(s, "-", "")
	if len(digits) < 4 || len(digits) > 8 || strings.Trim(digits, "0123456789") != "" {
		return Date{}
	}
	part := func(from, to int) int {
		if len(digits) < to {
			return 0
		}
		n, _ := strconv.Atoi(digits[from:to])
		return n
	}
	d := Date{uint16(part(0, 4)), uint8(part(4, 6)), uint8(part(6, 8))}
	if d.Month > 12 {
		d.Month = 0
	}
	if d.Day > 31 {
		d.Day = 0
	}
	return d
}

// Raw is a description as it is written at its source.
type Raw struct {
	Given, Family []string
	Born          string // a FHIR date, or the same without hyphens
	Sex           string // female, male, f, m; anything else compares with nothing
	Postcode      string
	Address       []string
	Contacts      []string
	Numbers       []Number
}

// Describe folds a description: case, accents, punctuation and titles say nothing about who somebody is.
func Describe(r Raw) Description {
	d := Description{Born: ParseDate(strings.TrimSpace(r.Born)), Postcode: alphanumeric(r.Postcode)}
	for _, g := range r.Given {
		for _, w := range strings.Fields(fold(g)) {
			if !titles[w] {
				d.Given = append(d.Given, w)
			}
		}
	}
	for _, f := range r.Family {
		if f = strings.Join(strings.Fields(fold(f)), " "); f != "" && !slices.Contains(d.Family, f) {
			d.Family = append(d.Family, f)
		}
	}
	switch strings.ToLower(strings.TrimSpace(r.Sex)) {
	case "female", "f":
		d.Sex = 'f'
	case "male", "m":
		d.Sex = 'm'
	}
	for _, a := range r.Address {
		d.Line = append(d.Line, strings.Fields(fold(a))...)
	}
	slices.Sort(d.Line)
	d.Line = slices.Compact(d.Line)
	for _, c := range r.Contacts {
		if c = contact(c); c != "" && !slices.Contains(d.Contacts, c) {
			d.Contacts = append(d.Contacts, c)
		}
	}
	for _, n := range r.Numbers {
		if v := alphanumeric(n.Value); v != "" {
			d.Numbers = append(d.Numbers, Number{n.System, v})
		}
	}
	return d
}

var titles = map[string]bool{"mr": true, "mrs": true, "miss": true, "ms": true, "dr": true, "rev": true, "sir": true, "dame": true,
	"lady": true, "lord": true, "baby": true, "infant": true, "twin": true}

// fold lowers, takes accents off, and leaves letters and digits; an apostrophe joins (O'Neill is oneill), all else parts words.
func fold(s string) string {
	if plain := foldASCII(s); plain != "" || s == "" {
		return plain
	}
	var b strings.Builder
	for _, r := range norm.NFKD.String(s) {
		switch {
		case unicode.Is(unicode.Mn, r), r == '\'', r == '’', r == '`':
		case unicode.IsLetter(r), unicode.IsDigit(r):
			b.WriteRune(unicode.ToLower(r))
		default:
			b.WriteByte(' ')
		}
	}
	return b.String()
}

// foldASCII does what fold does for text of nothing but ASCII, and gives "" for other text.
func foldASCII(s string) string {
	b := make([]byte, 0, len(s))
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 0x80:
			return ""
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9':
			b = append(b, c)
		case 'A' <= c && c <= 'Z':
			b = append(b, c+'a'-'A')
		case c == '\'' || c == '`':
		default:
			b = append(b, ' ')
		}
	}
	return string(b)
}

func alphanumeric(s string) string { return strings.ReplaceAll(fold(s), " ", "") }

// contact keeps the last nine digits of a telephone number, whatever stands before them (0, +44, 0044), and an address of electronic mail in
// lower case. Fewer than six digits are an extension, which many share.
func contact(s string) string {
	if strings.Contains(s, "@") {
		return strings.ToLower(strings.TrimSpace(s))
	}
	digits := strings.Map(func(r rune) rune {
		if r < '0' || r > '9' {
			return -1
		}
		return r
	}, s)
	if len(digits) < 6 {
		return ""
	}
	return digits[max(0, len(digits)-9):]
}

// Pack and Unpack write a description as one string and read it again: it is kept beside the keys that find it.
func (d Description) Pack() string {
	numbers := make([]string, 0, 2*len(d.Numbers))
	for _, n := range d.Numbers {
		numbers = append(numbers, n.System, n.Value)
	}
	born := strconv.Itoa(int(d.Born.Year)*10000 + int(d.Born.Month)*100 + int(d.Born.Day))
	sex := ""
	if d.Sex != 0 {
		sex = string(d.Sex)
	}
	return strings.Join([]string{list(d.Given), list(d.Family), born, sex, d.Postcode, list(d.Line), list(d.Contacts), list(numbers)}, "\x1f")
}

func list(words []string) string { return strings.Join(words, "\x1e") }

// Unpack reads what Pack wrote; ok is false if it did not.
func Unpack(s string) (d Description, ok bool) {
	var part [8]string
	for i := range part {
		var more bool
		if part[i], s, more = strings.Cut(s, "\x1f"); more != (i < len(part)-1) {
			return d, false
		}
	}
	born, err := strconv.Atoi(part[2])
	if err != nil || born < 0 || born > 9999_99_99 {
		return d, false
	}
	d = Description{Given: words(part[0]), Family: words(part[1]), Postcode: part[4], Line: words(part[5]), Contacts: words(part[6]),
		Born: Date{uint16(born / 10000), uint8(born / 100 % 100), uint8(born % 100)}}
	if part[3] != "" {
		d.Sex = part[3][0]
	}
	numbers := words(part[7])
	for i := 0; i+1 < len(numbers); i += 2 {
		d.Numbers = append(d.Numbers, Number{numbers[i], numbers[i+1]})
	}
	return d, len(numbers)%2 == 0
}

func words(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(s, "\x1e")
}
