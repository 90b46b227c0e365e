package extract

import (
	"errors"
	"fmt"
	"html"
	"regexp"
	"strconv"
	"strings"

	"tombolo/fhir"
)

// A function of the mapping language. There is no way to add one from a mapping: what a file from outside can make this program
// do is exactly this list.
type function struct {
	min, max int // arguments, the table not counted
	table    bool
	usage    string
	call     func(a []value, t *table) (value, error)
	special  func(args []*expr) func(*cells) (value, error) // evaluates its own arguments
}

// A table is a code list of the mapping file. The entry "*" is for codes that are not in it.
type table struct {
	entries map[string]string // keys in lower case
	other   string
	any     bool
	used    bool
}

// An argumentError is about one argument of a function.
type argumentError struct {
	n int
	s string
}

func (e *argumentError) Error() string { return e.s }

// functions is the library; docs/extract-mapping.md lists it. Absent arguments give an absent result unless said otherwise.
var functions map[string]*function

func init() {
	functions = map[string]*function{
		"date":     {1, 1, false, "one date: date(born)", onText(toDate), nil},
		"datetime": {1, 2, false, "a moment, or a date and a time: datetime(day, clock)", toDateTime, nil},
		"instant":  {1, 2, false, "a moment, or a date and a time, both needed: instant(day, clock)", toInstant, nil},
		"lookup":   {1, 2, true, "a column, a table and perhaps a default: lookup(status, statuses, 'unknown')", toLookup, nil},
		"split":    {2, 2, false, "a column and a separator: split(forenames, ' ')", toSplit, nil},
		"part":     {3, 3, false, "a column, a separator and a number from 1: part(bp, '/', 1)", toPart, nil},
		"trim":     {1, 1, false, "one text", onText(func(s string) (value, error) { return textOf(strings.TrimSpace(s)), nil }), nil},
		"upper":    {1, 1, false, "one text", onText(func(s string) (value, error) { return textOf(strings.ToUpper(s)), nil }), nil},
		"lower":    {1, 1, false, "one text", onText(func(s string) (value, error) { return textOf(strings.ToLower(s)), nil }), nil},
		"replace":  {3, 3, false, "a text, what to replace, and by what", toReplace, nil},
		"concat":   {1, 20, false, "texts to put together; absent ones are passed over", toConcat, nil},
		"join":     {2, 20, false, "a separator and texts; absent ones are passed over: join(', ', town, county)", toJoin, nil},
		"default":  {2, 20, false, "values of which the first that is there is taken", nil, firstOf},
		"if":       {2, 3, false, "a condition, a value and perhaps one otherwise: if(end, 'finished', 'in-progress')", nil, conditional},
		"needed":   {1, 1, false, "a value that must be there, else the row is refused", toNeeded, nil},
		"nhs":      {1, 1, false, "an NHS number", onText(toNHS), nil},
		"number":   {1, 1, false, "a number", onText(toNumber), nil},
		"integer":  {1, 1, false, "a whole number", onText(toInteger), nil},
		"isnumber": {1, 1, false, "a text", func(a []value, _ *table) (value, error) { return boolOf(isNumber(plainNumber(a[0].str()))), nil }, nil},
		"bool":     {1, 1, false, "yes or no: Y, N, true, false, 1, 0", onText(toBool), nil},
		"concept":  {3, 4, false, "a code system, a code, its display and perhaps words: concept('http://snomed.info/sct', code, term)", toConcept, nil},
		"quantity": {1, 3, false, "a number, a unit and perhaps a UCUM code: quantity(value, 'kg')", toQuantity, nil},
		"identifier": {2, 2, false, "a system and a value", func(a []value, _ *table) (value, error) {
			return ifLast(a, members("system", a[0].str(), "value", a[1].str())), nil
		}, nil},
		"display":   {1, 1, false, "a name: a Reference in words only", onText(func(s string) (value, error) { return members("display", s), nil }), nil},
		"narrative": {1, 1, false, "a text, shown as the resource's narrative", onText(toNarrative), nil},
		"contains":  {2, 2, false, "a text and what to look for, capitals aside", toContains, nil},
	}
}

func functionNames() string { return strings.Join(keys(functions), ", ") }

// onText makes a function of one text.
func onText(f func(string) (value, error)) func([]value, *table) (value, error) {
	return func(a []value, _ *table) (value, error) {
		if a[0].kind == absent {
			return nothing, nil
		}
		return f(a[0].str())
	}
}

func ifLast(a []value, v value) value {
	if a[len(a)-1].kind == absent {
		return nothing
	}
	return v
}

func toDate(s string) (value, error) {
	m, err := parseMoment(s)
	if err != nil {
		return nothing, err
	}
	return textOf(m.date()), nil
}

func when(a []value) (m moment, ok bool, err error) {
	if a[0].kind == absent {
		if len(a) > 1 && a[1].kind != absent {
			return m, false, &argumentError{0, "a time of day without a date"}
		}
		return m, false, nil
	}
	if m, err = parseMoment(a[0].str()); err != nil {
		return m, false, &argumentError{0, err.Error()}
	}
	if len(a) < 2 || a[1].kind == absent {
		return m, true, nil
	}
	if m.day == 0 {
		return m, false, &argumentError{0, errDate.Error()}
	}
	m.timed, m.zone, m.fraction = false, "", ""
	if m, err = m.at(a[1].str()); err != nil {
		return m, false, &argumentError{1, err.Error()}
	}
	return m, true, nil
}

func toDateTime(a []value, _ *table) (value, error) {
	m, ok, err := when(a)
	if err != nil || !ok {
		return nothing, err
	}
	return textOf(m.dateTime()), nil
}

// FHIR R4 datatypes.html#instant: known at least to the second.
func toInstant(a []value, _ *table) (value, error) {
	m, ok, err := when(a)
	if err != nil || !ok {
		return nothing, err
	}
	if !m.timed {
		return nothing, &argumentError{len(a) - 1, "a time of day is needed as well as the date"}
	}
	return textOf(m.dateTime()), nil
}

func toLookup(a []value, t *table) (value, error) {
	if a[0].kind == absent {
		if len(a) > 1 {
			return a[1], nil
		}
		return nothing, nil
	}
	if s, ok := t.entries[strings.ToLower(a[0].str())]; ok {
		return textOf(s), nil
	}
	switch {
	case len(a) > 1:
		return a[1], nil
	case t.any:
		return textOf(t.other), nil
	}
	return nothing, errors.New("the code is not in the mapping's table: add it there, or an entry '*' for all others")
}

func toSplit(a []value, _ *table) (value, error) {
	if a[0].kind == absent || a[1].kind == absent {
		return a[0], nil
	}
	var out []string
	for _, s := range strings.Split(a[0].str(), a[1].str()) {
		if s = strings.TrimSpace(s); s != "" {
			out = append(out, s)
		}
	}
	return listOf(out), nil
}

func toPart(a []value, _ *table) (value, error) {
	if a[0].kind == absent || a[1].kind == absent {
		return nothing, nil
	}
	n, err := strconv.Atoi(a[2].str())
	if err != nil || n < 1 {
		return nothing, errors.New("part counts from 1")
	}
	parts := strings.Split(a[0].str(), a[1].str())
	if n > len(parts) {
		return nothing, nil
	}
	return textOf(strings.TrimSpace(parts[n-1])), nil
}

func toReplace(a []value, _ *table) (value, error) {
	if a[0].kind == absent || a[1].kind == absent {
		return a[0], nil
	}
	return textOf(strings.ReplaceAll(a[0].str(), a[1].str(), a[2].str())), nil
}

func toConcat(a []value, _ *table) (value, error) {
	var b strings.Builder
	for _, v := range a {
		b.WriteString(v.str())
	}
	return textOf(b.String()), nil
}

func toJoin(a []value, _ *table) (value, error) {
	var out []string
	for _, v := range a[1:] {
		if v.kind != absent {
			out = append(out, v.str())
		}
	}
	return textOf(strings.Join(out, a[0].str())), nil
}

func firstOf(args []*expr) func(*cells) (value, error) {
	return func(c *cells) (value, error) {
		for _, a := range args {
			if v, err := a.eval(c); err != nil || v.kind != absent {
				return v, err
			}
		}
		return nothing, nil
	}
}

func conditional(args []*expr) func(*cells) (value, error) {
	return func(c *cells) (value, error) {
		v, err := args[0].eval(c)
		if err != nil {
			return nothing, err
		}
		if v.truth() {
			return args[1].eval(c)
		}
		if len(args) > 2 {
			return args[2].eval(c)
		}
		return nothing, nil
	}
}

func toNeeded(a []value, _ *table) (value, error) {
	if a[0].kind == absent {
		return nothing, errors.New("empty, and it must not be")
	}
	return a[0], nil
}

func toNHS(s string) (value, error) {
	n, err := fhir.ParseNHSNumber(s)
	if err != nil {
		return nothing, err
	}
	return textOf(n.Digits()), nil
}

// jsonNumber is JSON's own form of a number (RFC 8259 §6), short enough to be a measurement.
var jsonNumber = regexp.MustCompile(`^-?(0|[1-9][0-9]{0,17})(\.[0-9]{1,18})?$`)

func isNumber(s string) bool { return jsonNumber.MatchString(s) }

// plainNumber puts a number as people write it into JSON's form; other text comes back as it was.
func plainNumber(s string) string {
	s = strings.TrimPrefix(strings.TrimSpace(s), "+")
	if strings.HasPrefix(s, ".") {
		s = "0" + s
	}
	if t := strings.TrimLeft(s, "0"); t != s {
		if t == "" || t[0] == '.' {
			t = "0" + t
		}
		s = t
	}
	return strings.TrimSuffix(s, ".")
}

// toNumber keeps the digits as written, so that 71.40 stays as exact as it was. FHIR R4 datatypes.html#decimal
func toNumber(s string) (value, error) {
	n := plainNumber(s)
	if !isNumber(n) {
		return nothing, errors.New("not a number: write digits with a point, no thousands separator and no unit")
	}
	return value{kind: number, s: n}, nil
}

func toInteger(s string) (value, error) {
	n, err := strconv.ParseInt(plainNumber(s), 10, 32)
	if err != nil {
		return nothing, errors.New("not a whole number")
	}
	return value{kind: number, s: strconv.FormatInt(n, 10)}, nil
}

func toBool(s string) (value, error) {
	switch strings.ToLower(s) {
	case "y", "yes", "true", "t", "1":
		return boolOf(true), nil
	case "n", "no", "false", "f", "0":
		return boolOf(false), nil
	}
	return nothing, errors.New("not yes or no: write Y or N")
}

// toConcept makes a CodeableConcept; without a code it is the words alone. FHIR R4 datatypes.html#CodeableConcept
func toConcept(a []value, _ *table) (value, error) {
	system, code, words := a[0].str(), a[1].str(), a[2].str()
	plain := words
	if len(a) > 3 && a[3].kind != absent {
		plain = a[3].str()
	}
	if code == "" {
		return members("text", plain), nil
	}
	coding := members("system", system, "code", code, "display", words)
	b := append([]byte(`{"coding":[`), coding.s...)
	b = append(b, ']')
	if plain != "" {
		b = quote(append(b, `,"text":`...), plain)
	}
	return value{kind: element, s: string(append(b, '}'))}, nil
}

// toQuantity makes a Quantity; a unit without a code is taken to be UCUM's own sign. FHIR R4 datatypes.html#Quantity
func toQuantity(a []value, _ *table) (value, error) {
	if a[0].kind == absent {
		return nothing, nil
	}
	n, err := toNumber(a[0].str())
	if err != nil {
		return nothing, err
	}
	b := append([]byte(`{"value":`), n.s...)
	if len(a) > 1 && a[1].kind != absent {
		code := a[1].str()
		if len(a) > 2 {
			code = a[2].str()
		}
		rest := []string{"unit", a[1].str()}
		if code != "" {
			rest = append(rest, "system", fhir.SystemUCUM, "code", code)
		}
		b = append(append(b, ','), members(rest...).s[1:]...)
	} else {
		b = append(b, '}')
	}
	return value{kind: element, s: string(b)}, nil
}

// toNarrative makes a Narrative of plain text. FHIR R4 narrative.html
func toNarrative(s string) (value, error) {
	lines := strings.Split(html.EscapeString(strings.ReplaceAll(s, "\r\n", "\n")), "\n")
	return members("status", "additional", "div", `<div xmlns="http://www.w3.org/1999/xhtml"><p>`+strings.Join(lines, "<br/>")+`</p></div>`), nil
}

func toContains(a []value, _ *table) (value, error) {
	return boolOf(strings.Contains(strings.ToLower(a[0].str()), strings.ToLower(a[1].str()))), nil
}

// nearest is "; did you mean …?" for a name that is nearly one of those there are.
func nearest(s string, there []string) string {
	best, at := "", min(3, 1+len(s)/3)
	for _, t := range there {
		if d := distance(strings.ToLower(s), strings.ToLower(t)); d > 0 && d < at {
			best, at = t, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf("; did you mean %q?", best)
}

// distance is Levenshtein's.
func distance(a, b string) int {
	if len(a) > 64 || len(b) > 64 {
		return 64
	}
	prev := make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := range len(a) {
		diagonal := prev[0]
		prev[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = prev[j+1]
			prev[j+1] = min(prev[j+1]+1, prev[j]+1, cost)
		}
	}
	return prev[len(b)]
}
