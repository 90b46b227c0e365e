package search

import (
	"regexp"
	"time"

	"tombolo/fhir"
)

// A prefix says how a number, date or quantity is compared. FHIR R4 search.html#prefix
type prefix string

var prefixes = map[prefix]bool{"eq": true, "ne": true, "gt": true, "ge": true, "lt": true, "le": true, "sa": true, "eb": true, "ap": true}

// cutPrefix reads the prefix before a value that begins with a digit, sign or point; without one it is eq.
func cutPrefix(s string) (prefix, string, error) {
	if len(s) == 0 || s[0] < 'A' {
		return "eq", s, nil
	}
	if len(s) >= 2 && prefixes[prefix(s[:2])] {
		return prefix(s[:2]), s[2:], nil
	}
	return "", "", fhir.Errorf(fhir.Invalid, "begins with letters that are no prefix: use eq, ne, gt, ge, lt, le, sa, eb or ap")
}

// A dateWant is what a search value asks for.
type dateWant struct {
	prefix prefix
	span   fhir.Span
}

var spaceForPlus = regexp.MustCompile(`T[0-9:.]+ [0-9]{2}:[0-9]{2}$`)

func parseDateWant(value string) (dateWant, error) {
	p, text, err := cutPrefix(unescape(value))
	if err != nil {
		return dateWant{}, err
	}
	span, err := fhir.ParseDate(text)
	if err != nil {
		if spaceForPlus.MatchString(text) {
			return dateWant{}, fhir.Errorf(fhir.Invalid, "has a space where a + belongs: in a URL write + as %%2B")
		}
		return dateWant{}, fhir.Errorf(fhir.Invalid, "is %s", fhir.IssueOf(err).Text)
	}
	return dateWant{p, span}, nil
}

// matches compares spans: what the resource means may lie anywhere in have. FHIR R4 search.html#prefix
func (w dateWant) matches(have fhir.Span, now time.Time) bool {
	s := w.span
	above := have.End.IsZero() || have.End.After(s.End)        // part of have lies after the span asked for
	below := have.Start.IsZero() || have.Start.Before(s.Start) // part of have lies before it
	switch w.prefix {
	case "ne":
		return !s.Contains(have)
	case "gt":
		return above
	case "ge":
		return above || s.Contains(have)
	case "lt":
		return below
	case "le":
		return below || s.Contains(have)
	case "sa":
		return !have.Start.IsZero() && !have.Start.Before(s.End)
	case "eb":
		return !have.End.IsZero() && !have.End.After(s.Start)
	case "ap":
		return widen(s, now).Overlaps(have)
	}
	return s.Contains(have)
}

// widen makes a span longer at both ends by a tenth of its distance from now: what ap means. FHIR R4 search.html#prefix
func widen(s fhir.Span, now time.Time) fhir.Span {
	by := now.Sub(s.Start) / 10
	if by < 0 {
		by = -by
	}
	return fhir.Span{Start: s.Start.Add(-by), End: s.End.Add(by)}
}

// eachDate calls yield with the spans of an element: a date of any precision, a Period, or the outer limits of a Timing.
// What cannot be read as a date is passed over.
func eachDate(v fhir.Value, yield func(fhir.Span) bool) bool {
	if !v.IsObject() {
		if !v.IsString() {
			return true
		}
		if s, err := fhir.ParseDate(v.Str()); err == nil {
			return yield(s)
		}
		return true
	}
	if p, ok := period(v); ok {
		return yield(p)
	}
	if p, ok := period(v.Get("repeat.boundsPeriod")); ok {
		return yield(p)
	}
	var outer fhir.Span
	for e := range v.All("event") {
		s, err := fhir.ParseDate(e.Str())
		if err != nil {
			continue
		}
		if outer.Start.IsZero() || s.Start.Before(outer.Start) {
			outer.Start = s.Start
		}
		if s.End.After(outer.End) {
			outer.End = s.End
		}
	}
	return outer.End.IsZero() || yield(outer)
}

// period reads a Period; open where a side is missing. One with neither side, or with a side that is no date, says nothing.
func period(v fhir.Value) (fhir.Span, bool) {
	var p fhir.Span
	start, end := v.Member("start"), v.Member("end")
	if start.Exists() {
		s, err := fhir.ParseDate(start.Str())
		if err != nil {
			return p, false
		}
		p.Start = s.Start
	}
	if end.Exists() {
		s, err := fhir.ParseDate(end.Str())
		if err != nil {
			return p, false
		}
		p.End = s.End
	}
	if start.Exists() && end.Exists() && p.End.Before(p.Start) { // written the wrong way round: still to be found
		p.Start, p.End = p.End, p.Start
	}
	return p, start.Exists() || end.Exists()
}

func dateTest(value string) (valueTest, error) {
	w, err := parseDateWant(value)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	return func(v fhir.Value) bool {
		return !eachDate(v, func(s fhir.Span) bool { return !w.matches(s, now) })
	}, nil
}

// Index entries of dates are the start of the span as sortable text. A span longer than a day has a second entry, ">" and its
// end, without which "on or after" could not be looked up.
const (
	sortable  = "20060102T150405"
	longSpan  = 25 * time.Hour
	farFuture = "9"
)

func sortableTime(t time.Time) string {
	t = t.UTC()
	if y := t.Year(); y < 0 || y > 9999 {
		if y < 0 {
			return "0"
		}
		return farFuture + "9999"
	}
	return t.Format(sortable)
}

func dateEntries(s fhir.Span, yield func(string) bool) bool {
	start := "0"
	if !s.Start.IsZero() {
		start = sortableTime(s.Start)
	}
	if !yield(start) {
		return false
	}
	switch {
	case s.End.IsZero():
		return yield(">" + farFuture + "9999")
	case s.Start.IsZero() || s.End.Sub(s.Start) > longSpan:
		return yield(">" + sortableTime(s.End))
	}
	return true
}

// lookups of a date. ne and ap are not worth one.
func (w dateWant) lookups(name string) []Range {
	from, to := sortableTime(w.span.Start), sortableTime(w.span.End)+"\x00"
	switch w.prefix {
	case "eq":
		return []Range{{name, from, to}}
	case "lt", "eb":
		return []Range{{name, "", from + "\x00"}}
	case "le":
		return []Range{{name, "", to}}
	case "sa":
		return []Range{{name, sortableTime(w.span.End), ">"}}
	case "gt", "ge":
		return []Range{{name, sortableTime(w.span.Start.Add(-longSpan)), ">"}, {name, ">" + from, "?"}}
	}
	return nil
}
