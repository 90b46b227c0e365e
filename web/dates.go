package web

import (
	"strconv"
	"strings"
	"time"

	"tombolo/fhir"
)

// How dates are written: dd-Mmm-yyyy, which no reader can take for another order of day and month.
// NHS Common User Interface, "Date Display"
const dayLayout, minuteLayout = "02-Jan-2006", "02-Jan-2006 15:04"

// sayDate writes a FHIR date at the precision it has, in London's time. What is no date is shown as it stands.
func sayDate(s string) string {
	span, err := fhir.ParseDate(s)
	if err != nil {
		return s
	}
	t := span.Start.In(fhir.London)
	switch {
	case strings.Contains(s, "T"):
		return t.Format(minuteLayout)
	case len(s) == 4:
		return t.Format("2006")
	case len(s) == 7:
		return t.Format("Jan-2006")
	}
	return t.Format(dayLayout)
}

// sayTime writes an instant of our own.
func sayTime(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.In(fhir.London).Format(minuteLayout)
}

// startOf is the instant at which a FHIR date begins, zero if it is none.
func startOf(s string) time.Time {
	span, err := fhir.ParseDate(s)
	if err != nil {
		return time.Time{}
	}
	return span.Start
}

// sayPeriod writes a span, the end by its clock time alone where it is the same day.
func sayPeriod(start, end string) string {
	switch {
	case start == "" && end == "":
		return ""
	case end == "":
		return "since " + sayDate(start)
	case start == "":
		return "until " + sayDate(end)
	}
	a, b := sayDate(start), sayDate(end)
	if len(b) > 11 && len(a) > 11 && a[:11] == b[:11] {
		b = b[12:]
	}
	if a == b {
		return a
	}
	return a + " to " + b
}

// sayAge is a person's age on a day, in the units that matter at that age. It is "" where the birth date is not known to the day.
// NHS Common User Interface, "Patient Banner", age
func sayAge(born, on string, now time.Time) string {
	if len(born) < 10 {
		return ""
	}
	b, err := time.ParseInLocation("2006-01-02", born[:10], fhir.London)
	if err != nil {
		return ""
	}
	end := now.In(fhir.London)
	if s := startOf(on); !s.IsZero() {
		end = s.In(fhir.London)
	}
	days := int(time.Date(end.Year(), end.Month(), end.Day(), 12, 0, 0, 0, time.UTC).Sub(time.Date(b.Year(), b.Month(), b.Day(), 12, 0, 0, 0, time.UTC)).Hours() / 24)
	months := (end.Year()-b.Year())*12 + int(end.Month()) - int(b.Month())
	if end.Day() < b.Day() {
		months--
	}
	n := strconv.Itoa
	switch {
	case days < 0:
		return ""
	case days < 28:
		return n(days) + "d"
	case months < 12:
		return n(days/7) + "w " + n(days%7) + "d"
	case months < 24:
		return n(months) + "m"
	case months < 18*12:
		return n(months/12) + "y " + n(months%12) + "m"
	}
	return n(months/12) + "y"
}

// sayTook is how long something took, as a reader wants it.
func sayTook(d time.Duration) string {
	if d <= 0 {
		return ""
	}
	if d < 10*time.Millisecond {
		return "0.01 s"
	}
	if d < 10*time.Second {
		return strconv.FormatFloat(d.Seconds(), 'f', 2, 64) + " s"
	}
	return strconv.Itoa(int(d.Round(time.Second).Seconds())) + " s"
}

// sayAgo is a rough age, for lists of things that wait.
func sayAgo(t, now time.Time) string {
	d := now.Sub(t)
	n := func(v int, unit string) string {
		if v == 1 {
			return "1 " + unit
		}
		return strconv.Itoa(v) + " " + unit + "s"
	}
	switch {
	case t.IsZero():
		return "never"
	case d < time.Minute:
		return "under a minute"
	case d < time.Hour:
		return n(int(d.Minutes()), "minute")
	case d < 48*time.Hour:
		return n(int(d.Hours()), "hour")
	}
	return n(int(d.Hours()/24), "day")
}
