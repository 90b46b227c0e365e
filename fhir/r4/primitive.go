package r4

import (
	"regexp"
	"strconv"
	"strings"
	"time"

	"tombolo/fhir"
)

// A primitiveType is how the values of a primitive data type are written. FHIR R4 datatypes.html#primitive
type primitiveType struct {
	kind  string // JSON's: string, number, boolean
	ok    func(string) bool
	looks string // how to write it
}

// maxString is the most that R4 lets a text be. FHIR R4 datatypes.html#string
const maxString = 1 << 20

func matching(pattern string) func(string) bool {
	return regexp.MustCompile(`^(?:` + pattern + `)$`).MatchString
}

func always(string) bool { return true }

var (
	dateForm     = matching(`\d{4}(-\d{2}(-\d{2})?)?`)
	dateTimeForm = matching(`\d{4}(-\d{2}(-\d{2}(T\d{2}:\d{2}:\d{2}(\.\d+)?(Z|[+-]\d{2}:\d{2}))?)?)?`)
	instantForm  = matching(`\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d+)?(Z|[+-]\d{2}:\d{2})`)
	timeForm     = matching(`([01]\d|2[0-3]):[0-5]\d:([0-5]\d|60)(\.\d+)?`)
)

var primitives = map[string]primitiveType{
	"boolean":      {"boolean", always, "true or false"},
	"integer":      {"number", func(s string) bool { return whole(s, -1<<31) }, "a whole number of at most 32 bits"},
	"unsignedInt":  {"number", func(s string) bool { return whole(s, 0) }, "a whole number, 0 or more"},
	"positiveInt":  {"number", func(s string) bool { return whole(s, 1) }, "a whole number, 1 or more"},
	"decimal":      {"number", decimal, "a number of at most 100 digits"},
	"string":       {"string", always, "a text"},
	"markdown":     {"string", always, "a text"},
	"uri":          {"string", noSpace, "without white space"},
	"url":          {"string", noSpace, "without white space"},
	"canonical":    {"string", noSpace, "without white space"},
	"code":         {"string", matching(`[^\s]+( [^\s]+)*`), "without white space at its ends, or twice in a row"},
	"oid":          {"string", matching(`urn:oid:[0-2](\.(0|[1-9][0-9]*))+`), "urn:oid:1.2.3"},
	"uuid":         {"string", matching(`urn:uuid:[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}`), "urn:uuid:…"},
	"id":           {"string", matching(`[A-Za-z0-9\-.]{1,64}`), "1 to 64 letters, digits, '-' or '.'"},
	"base64Binary": {"string", base64[string], "base64"},
	"date":         {"string", func(s string) bool { return dateForm(s) && calendar(s) }, "2026, 2026-03 or 2026-03-31"},
	"dateTime":     {"string", func(s string) bool { return dateTimeForm(s) && calendar(s) }, "2026, 2026-03, 2026-03-31 or 2026-03-31T14:30:00+01:00"},
	"instant":      {"string", func(s string) bool { return instantForm(s) && calendar(s) }, "2026-03-31T14:30:00.000+01:00"},
	"time":         {"string", timeForm, "14:30:00"},
}

func whole(s string, least int64) bool {
	n, err := strconv.ParseInt(s, 10, 32)
	return err == nil && n >= least
}

// decimal bounds what a number costs whoever reads it: digits, and the zeros that an exponent stands for.
func decimal(s string) bool {
	digits, exponent, has := strings.Cut(strings.ToLower(s), "e")
	if n, err := strconv.Atoi(strings.TrimPrefix(exponent, "+")); has && (err != nil || n > 1000 || n < -1000) {
		return false
	}
	return len(digits) <= 100
}

func noSpace(s string) bool { return !strings.ContainsAny(s, " \t\r\n") }

func base64[T string | []byte](s T) bool {
	n := 0
	for i := range len(s) {
		switch c := s[i]; {
		case c == ' ' || c == '\t' || c == '\r' || c == '\n':
		case c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '+' || c == '/' || c == '=':
			n++
		default:
			return false
		}
	}
	return n%4 == 0
}

// calendar reports whether there is such a day and time. A leap second is one.
func calendar(s string) bool {
	date, clock, has := strings.Cut(s, "T")
	form := "2006-01-02"[:len(date)]
	if _, err := time.Parse(form, date); err != nil {
		return false
	}
	if !has {
		return true
	}
	clock = strings.Replace(clock, ":60", ":59", 1)
	_, err := time.Parse("15:04:05.999999999Z07:00", clock)
	return err == nil
}

// Primitive reports whether a data type is a primitive one.
func Primitive(typ string) bool { _, ok := primitives[typ]; return ok }

// Kind is how a primitive data type is written in JSON: string, number or boolean.
func Kind(typ string) string { return primitives[typ].kind }

// Written reports whether a text is a value of a primitive data type that JSON writes without quotes.
func Written(typ, s string) bool {
	if p := primitives[typ]; p.kind == "boolean" {
		return s == "true" || s == "false"
	}
	v, err := fhir.ParseValue([]byte(s))
	return err == nil && kindOf(v) == primitives[typ].kind && primitives[typ].ok(s)
}
