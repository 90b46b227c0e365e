package extract

import (
	"errors"
	"strconv"
	"strings"
	"time"

	"tombolo/fhir"
)

var (
	errDate = errors.New("not a date: write 31/12/2026 or 2026-12-31")
	errTime = errors.New("not a time: write 14:30")
	errYear = errors.New("the year needs four digits: 31/12/2026")
)

var months = map[string]int{"jan": 1, "feb": 2, "mar": 3, "apr": 4, "may": 5, "jun": 6, "jul": 7, "aug": 8, "sep": 9, "sept": 9, "oct": 10, "nov": 11, "dec": 12,
	"january": 1, "february": 2, "march": 3, "april": 4, "june": 6, "july": 7, "august": 8, "september": 9, "october": 10, "november": 11, "december": 12}

// A moment is a date as written, to the precision it was written in, with a time of day if there was one.
type moment struct {
	year, month, day  int // month, day 0: not said
	hour, minute, sec int
	timed             bool
	zone              string // "Z" or "+01:00" if written
	instant           time.Time
	fraction          string // of a second, as written
}

// parseMoment reads ISO and British dates, with or without a time. It never reads 03/04 as the 4th of March.
func parseMoment(s string) (moment, error) {
	s = strings.TrimSpace(s)
	if s == "" || len(s) > 40 {
		return moment{}, errDate
	}
	if alldigits(s) {
		return compact(s)
	}
	date, clock := splitClock(s)
	m, err := parseDay(date)
	if err != nil {
		return moment{}, err
	}
	if clock == "" {
		return m, nil
	}
	if m.day == 0 {
		return moment{}, errDate
	}
	return m.at(clock)
}

// splitClock parts "02/04/2026 09:30" and "2026-04-02T09:30:00Z" at the time. "2 Apr 2026" has none.
func splitClock(s string) (date, clock string) {
	if i := strings.IndexByte(s, ':'); i > 0 {
		if j := strings.LastIndexAny(s[:i], " T"); j > 0 {
			return s[:j], s[j+1:]
		}
	}
	return s, ""
}

func alldigits(s string) bool { return strings.Trim(s, "0123456789") == "" }

// compact reads 2026, 20261231, 202612311430 and 20261231143000.
func compact(s string) (moment, error) {
	switch len(s) {
	case 4:
		return checked(moment{year: num(s)})
	case 8, 12, 14:
		m, err := checked(moment{year: num(s[:4]), month: num(s[4:6]), day: num(s[6:8])})
		if err != nil || len(s) == 8 {
			return m, err
		}
		clock := s[8:10] + ":" + s[10:12]
		if len(s) == 14 {
			clock += ":" + s[12:]
		}
		return m.at(clock)
	}
	return moment{}, errDate
}

func num(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil || n < 0 || !alldigits(s) {
		return -1
	}
	return n
}

func parseDay(s string) (moment, error) {
	parts := strings.FieldsFunc(s, func(r rune) bool { return r == '/' || r == '-' || r == '.' || r == ' ' || r == ',' })
	for _, p := range parts {
		if p == "" || len(p) > 9 {
			return moment{}, errDate
		}
	}
	switch {
	case len(parts) == 2 && len(parts[0]) == 4: // 2026-03
		return checked(moment{year: num(parts[0]), month: num(parts[1])})
	case len(parts) != 3:
		return moment{}, errDate
	case len(parts[0]) == 4: // 2026-03-31
		return checked(moment{year: num(parts[0]), month: num(parts[1]), day: num(parts[2])})
	case len(parts[2]) == 2 && alldigits(parts[2]):
		return moment{}, errYear
	case len(parts[2]) != 4:
		return moment{}, errDate
	}
	m := moment{year: num(parts[2]), month: num(parts[1]), day: num(parts[0])}
	if n, ok := months[strings.ToLower(parts[1])]; ok {
		m.month = n
	}
	return checked(m)
}

// checked refuses dates that no calendar has, and years that are typing mistakes.
func checked(m moment) (moment, error) {
	if m.year < 1850 || m.year > 9999 || m.month < 0 || m.month > 12 || m.day < 0 {
		return moment{}, errDate
	}
	if m.month == 0 && m.day != 0 {
		return moment{}, errDate
	}
	if m.day != 0 {
		t := time.Date(m.year, time.Month(m.month), m.day, 0, 0, 0, 0, time.UTC)
		if t.Day() != m.day {
			return moment{}, errDate
		}
	}
	return m, nil
}

// at adds a time of day: 14:30, 14:30:05, 14:30:05.123, 1430, 2:30pm, with Z or an offset after it.
func (m moment) at(clock string) (moment, error) {
	c := strings.ToLower(strings.TrimSpace(clock))
	if c == "" || len(c) > 24 {
		return moment{}, errTime
	}
	if i := strings.LastIndexAny(c, "z+-"); i > 0 {
		m.zone = strings.ToUpper(c[i:])
		c = c[:i]
		if len(m.zone) == 5 { // +0100
			m.zone = m.zone[:3] + ":" + m.zone[3:]
		}
	}
	half := ""
	if trimmed, ok := strings.CutSuffix(c, "am"); ok {
		c, half = strings.TrimSpace(trimmed), "am"
	} else if trimmed, ok := strings.CutSuffix(c, "pm"); ok {
		c, half = strings.TrimSpace(trimmed), "pm"
	}
	if len(c) == 4 && alldigits(c) {
		c = c[:2] + ":" + c[2:]
	}
	parts := strings.Split(c, ":")
	if len(parts) < 2 || len(parts) > 3 || len(parts[0]) > 2 || len(parts[1]) != 2 {
		return moment{}, errTime
	}
	m.hour, m.minute, m.timed = num(parts[0]), num(parts[1]), true
	if len(parts) == 3 {
		whole, fraction, _ := strings.Cut(parts[2], ".")
		if len(whole) != 2 || !alldigits(fraction) || len(fraction) > 9 {
			return moment{}, errTime
		}
		m.sec, m.fraction = num(whole), fraction
	}
	switch {
	case half != "" && (m.hour < 1 || m.hour > 12):
		return moment{}, errTime
	case half == "am" && m.hour == 12:
		m.hour = 0
	case half == "pm" && m.hour < 12:
		m.hour += 12
	}
	if m.hour < 0 || m.hour > 23 || m.minute < 0 || m.minute > 59 || m.sec < 0 || m.sec > 59 {
		return moment{}, errTime
	}
	zone := fhir.London
	if m.zone != "" && m.zone != "Z" {
		t, err := time.Parse("-07:00", m.zone)
		if err != nil {
			return moment{}, errTime
		}
		zone = t.Location()
	} else if m.zone == "Z" {
		zone = time.UTC
	}
	m.instant = time.Date(m.year, time.Month(m.month), m.day, m.hour, m.minute, m.sec, 0, zone)
	return m, nil
}

// date is the FHIR date, as precise as what was written. FHIR R4 datatypes.html#date
func (m moment) date() string {
	s := pad(m.year, 4)
	if m.month > 0 {
		s += "-" + pad(m.month, 2)
	}
	if m.day > 0 {
		s += "-" + pad(m.day, 2)
	}
	return s
}

// dateTime is the FHIR dateTime; where no zone was written, London's offset at that moment. FHIR R4 datatypes.html#dateTime
func (m moment) dateTime() string {
	if !m.timed {
		return m.date()
	}
	s := m.instant.Format("2006-01-02T15:04:05")
	if m.fraction != "" {
		s += "." + m.fraction
	}
	if m.zone == "Z" {
		return s + "Z"
	}
	return s + m.instant.Format("-07:00")
}

func pad(n, width int) string {
	s := strconv.Itoa(n)
	return strings.Repeat("0", max(0, width-len(s))) + s
}
