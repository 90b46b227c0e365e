package fhir

import (
	"strconv"
	"strings"
	"time"
)

// London is the zone in which dates without a zone are read: the services this program joins are British.
var London = func() *time.Location {
	if l, err := time.LoadLocation("Europe/London"); err == nil {
		return l
	}
	return time.UTC
}()

// A Span is the instants that a FHIR date, dateTime or instant may mean: "2026-03" is the whole of March.
// Start is included, End is not. A zero Start or End is open.
//
// FHIR R4 datatypes.html#dateTime, search.html#date
type Span struct{ Start, End time.Time }

// ParseDate reads a FHIR date, dateTime or instant at whatever precision it has.
func ParseDate(s string) (Span, error) {
	bad := func() (Span, error) {
		return Span{}, Errorf(ValueError, "not a FHIR date: write 2026, 2026-03, 2026-03-31 or 2026-03-31T14:30:00+01:00")
	}
	datePart, timePart, hasTime := strings.Cut(s, "T")
	if !hasTime {
		switch len(datePart) {
		case 4:
			t, err := time.ParseInLocation("2006", s, London)
			if err != nil {
				return bad()
			}
			return Span{t, t.AddDate(1, 0, 0)}, nil
		case 7:
			t, err := time.ParseInLocation("2006-01", s, London)
			if err != nil {
				return bad()
			}
			return Span{t, t.AddDate(0, 1, 0)}, nil
		case 10:
			t, err := time.ParseInLocation("2006-01-02", s, London)
			if err != nil {
				return bad()
			}
			return Span{t, t.AddDate(0, 0, 1)}, nil
		}
		return bad()
	}
	zone := ""
	if i := strings.LastIndexAny(timePart, "+-Z"); i >= 0 {
		timePart, zone = timePart[:i], timePart[i:]
	}
	layout, step := "15:04", time.Minute
	if len(timePart) >= 8 {
		layout, step = "15:04:05", time.Second
		if whole, frac, ok := strings.Cut(timePart, "."); ok {
			if _, err := strconv.ParseUint(frac, 10, 64); err != nil || len(frac) > 9 {
				return bad()
			}
			step = time.Second
			for range frac {
				step /= 10
			}
			layout = "15:04:05." + strings.Repeat("0", len(frac))
			_ = whole
		}
	}
	var t time.Time
	var err error
	if zone == "" {
		t, err = time.ParseInLocation("2006-01-02T"+layout, datePart+"T"+timePart, London)
	} else {
		t, err = time.Parse("2006-01-02T"+layout+"Z07:00", datePart+"T"+timePart+zone)
	}
	if err != nil {
		return bad()
	}
	return Span{t, t.Add(max(step, 1))}, nil
}

// Overlaps reports whether the spans share an instant.
func (s Span) Overlaps(o Span) bool {
	return (s.End.IsZero() || o.Start.IsZero() || o.Start.Before(s.End)) &&
		(o.End.IsZero() || s.Start.IsZero() || s.Start.Before(o.End))
}

// Contains reports whether all of o lies in s.
func (s Span) Contains(o Span) bool {
	return (s.Start.IsZero() || (!o.Start.IsZero() && !o.Start.Before(s.Start))) &&
		(s.End.IsZero() || (!o.End.IsZero() && !o.End.After(s.End)))
}

// Instant formats a time as a FHIR instant in UTC with milliseconds.
func Instant(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z07:00") }
