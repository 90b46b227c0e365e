package fhirpath

import (
	"fmt"
	"strings"
	"time"
)

// A Moment is a Date, DateTime or Time as it was written: to the year, the minute, or whatever it says.
type Moment struct {
	kind      kind // kindDate, kindDateTime, kindTime
	precision precision
	part      [7]int // year, month, day, hour, minute, second, millisecond
	zone      bool   // it says its offset from UTC
	offset    int    // in minutes
}

type precision int8

const (
	toYear precision = iota
	toMonth
	toDay
	toHour
	toMinute
	toSecond
	toMillisecond
)

// parseMoment reads a date or dateTime: 2026, 2026-03, 2026-03-31, 2026-03-31T14:30:00.000+01:00. A kind of kindDate takes no time.
func parseMoment(s string, k kind) (Moment, bool) {
	m := Moment{kind: k, precision: -1}
	date, clock, timed := strings.Cut(s, "T")
	for i, w := range strings.Split(date, "-") {
		n, ok := digits(w, []int{4, 2, 2, 0}[min(i, 3)])
		if !ok || i > 2 {
			return m, false
		}
		m.part[i], m.precision = n, precision(i)
	}
	if m.precision >= toMonth && (m.part[1] < 1 || m.part[1] > 12) || m.precision >= toDay && (m.part[2] < 1 || m.part[2] > daysIn(m.part[0], m.part[1])) {
		return m, false
	}
	if !timed {
		return m, true
	}
	if k == kindDate {
		return m, false
	}
	if clock == "" {
		return m, true
	}
	if m.precision < toDay {
		return m, false
	}
	if i := strings.IndexAny(clock, "Z+-"); i >= 0 {
		var ok bool
		if m.offset, ok = parseZone(clock[i:]); !ok {
			return m, false
		}
		m.zone, clock = true, clock[:i]
	}
	return m, m.clock(clock)
}

func parseZone(s string) (minutes int, ok bool) {
	if s == "Z" {
		return 0, true
	}
	if len(s) != 6 || s[3] != ':' {
		return 0, false
	}
	h, ok1 := digits(s[1:3], 2)
	m, ok2 := digits(s[4:6], 2)
	if !ok1 || !ok2 || h > 14 || m > 59 || h == 14 && m > 0 {
		return 0, false
	}
	if s[0] == '-' {
		return -h*60 - m, true
	}
	return h*60 + m, true
}

// parseTime reads 14, 14:30, 14:30:00 or 14:30:00.000.
func parseTime(s string) (Moment, bool) {
	m := Moment{kind: kindTime, precision: -1}
	return m, m.clock(s)
}

func (m *Moment) clock(s string) bool {
	s, fraction, has := strings.Cut(s, ".")
	for i, w := range strings.Split(s, ":") {
		n, ok := digits(w, 2)
		if !ok || i > 2 || n > []int{23, 59, 60}[i] {
			return false
		}
		m.part[3+i], m.precision = n, toHour+precision(i)
	}
	if !has {
		return true
	}
	if m.precision != toSecond || fraction == "" || len(fraction) > 12 {
		return false
	}
	n, ok := digits((fraction + "000")[:3], 3)
	if _, all := digits(fraction, len(fraction)); !ok || !all {
		return false
	}
	m.part[6], m.precision = n, toMillisecond
	return true
}

func digits(s string, n int) (int, bool) {
	if len(s) != n {
		return 0, false
	}
	v := 0
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
		v = v*10 + int(s[i]-'0')
	}
	return v, true
}

func daysIn(year, month int) int {
	return time.Date(year, time.Month(month)+1, 0, 0, 0, 0, 0, time.UTC).Day()
}

// String is the moment as FHIR writes it; a DateTime to the year, month or day has no T.
func (m Moment) String() string {
	var b strings.Builder
	if m.kind != kindTime {
		fmt.Fprintf(&b, "%04d", m.part[0])
		for p := toMonth; p <= min(m.precision, toDay); p++ {
			fmt.Fprintf(&b, "-%02d", m.part[p])
		}
		if m.precision >= toHour {
			b.WriteByte('T')
		}
	}
	for p := toHour; p <= min(m.precision, toSecond); p++ {
		if p > toHour {
			b.WriteByte(':')
		}
		fmt.Fprintf(&b, "%02d", m.part[p])
	}
	if m.precision == toMillisecond {
		fmt.Fprintf(&b, ".%03d", m.part[6])
	}
	if m.zone {
		sign, n := byte('+'), m.offset
		if n < 0 {
			sign, n = '-', -n
		}
		if n == 0 {
			b.WriteByte('Z')
		} else {
			b.WriteByte(sign)
			fmt.Fprintf(&b, "%02d:%02d", n/60, n%60)
		}
	}
	return b.String()
}

// compare orders two moments part by part. known is false where one says less than the other before they differ, where the one has a
// time zone and the other's may be any, and between a date and a time of day. FHIRPath §6.2
func (m Moment) compare(o Moment) (order int, known bool) {
	if (m.kind == kindTime) != (o.kind == kindTime) {
		return 0, false
	}
	if m.precision >= toHour && o.precision >= toHour {
		switch {
		case m.zone && o.zone:
			m, o = m.inUTC(), o.inUTC()
		case m.zone != o.zone:
			return m.compareWithoutZone(o)
		}
	}
	mp, op := m.precision, o.precision
	for p := toYear; p <= toSecond; p++ {
		if m.kind == kindTime && p < toHour {
			continue
		}
		a, b := m.part[p], o.part[p]
		if p == toSecond && mp >= p && op >= p { // seconds and their parts are one precision
			a, b = a*1000+m.part[6], b*1000+o.part[6]
		}
		switch {
		case mp < p && op < p:
			return 0, true
		case mp < p || op < p:
			return 0, false
		case a < b:
			return -1, true
		case a > b:
			return 1, true
		}
	}
	return 0, true
}

// compareWithoutZone compares moments of which one might be anywhere from 12 hours behind UTC to 14 before it.
func (m Moment) compareWithoutZone(o Moment) (int, bool) {
	sign := 1
	if o.zone {
		m, o, sign = o, m, -1
	}
	early, late := o, o
	early.zone, early.offset, late.zone, late.offset = true, 14*60, true, -12*60
	a, ok1 := m.compare(early)
	b, ok2 := m.compare(late)
	if !ok1 || !ok2 || a != b || a == 0 {
		return 0, false
	}
	return sign * a, true
}

func (m Moment) instant() time.Time {
	return time.Date(m.part[0], time.Month(max(m.part[1], 1)), max(m.part[2], 1), m.part[3], m.part[4], m.part[5], m.part[6]*int(time.Millisecond), time.UTC)
}

func (m Moment) set(t time.Time) Moment {
	m.part = [7]int{t.Year(), int(t.Month()), t.Day(), t.Hour(), t.Minute(), t.Second(), t.Nanosecond() / int(time.Millisecond)}
	return m
}

func (m Moment) inUTC() Moment {
	leap := m.part[5] == 60
	if leap {
		m.part[5] = 59
	}
	out := m.set(m.instant().Add(-time.Duration(m.offset) * time.Minute))
	if leap {
		out.part[5] = 60
	}
	return out
}

// momentOf is a clock's time, to the millisecond.
func momentOf(t time.Time) Moment {
	_, offset := t.Zone()
	return Moment{kind: kindDateTime, precision: toMillisecond, zone: true, offset: offset / 60}.set(t)
}

// calendarUnits are the units of time that FHIRPath has words for, by their words; and those of UCUM that are the same length.
var calendarUnits = map[string]precision{
	"year": toYear, "years": toYear, "month": toMonth, "months": toMonth, "day": toDay, "days": toDay, "d": toDay, "hour": toHour, "hours": toHour, "h": toHour,
	"minute": toMinute, "minutes": toMinute, "min": toMinute, "second": toSecond, "seconds": toSecond, "s": toSecond, "millisecond": toMillisecond, "milliseconds": toMillisecond, "ms": toMillisecond,
}

// plus adds n units of time, whole ones: what is finer than the moment says is converted into what it says, and dropped. ok is false
// where the result is no moment. FHIRPath §6.6.7
func (m Moment) plus(n int64, unit precision) (Moment, bool) {
	if n > 1e11 || n < -1e11 {
		return m, false
	}
	if m.kind == kindTime {
		if unit < toHour {
			return m, false
		}
		scale := map[precision]int64{toHour: 3600_000, toMinute: 60_000, toSecond: 1000, toMillisecond: 1}[unit]
		day := int64(24 * 3600_000)
		ms := (((int64(m.part[3])*3600+int64(m.part[4])*60+int64(m.part[5]))*1000+int64(m.part[6])+n*scale)%day + day) % day
		m.part[3], m.part[4], m.part[5], m.part[6] = int(ms/3600_000), int(ms/60_000%60), int(ms/1000%60), int(ms%1000)
		return m, true
	}
	if unit == toDay && m.precision == toYear {
		n, unit = n/365, toYear
	}
	for unit > m.precision {
		n /= []int64{1, 12, 30, 24, 60, 60, 1000}[unit]
		unit--
	}
	t := m.instant()
	switch unit {
	case toYear, toMonth:
		months := n
		if unit == toYear {
			months *= 12
		}
		total := int64(m.part[0])*12 + int64(max(m.part[1], 1)-1) + months
		year, month := int(total/12), int(total%12)+1
		if total < 12 || year > 9999 {
			return m, false
		}
		day := min(max(m.part[2], 1), daysIn(year, month))
		t = time.Date(year, time.Month(month), day, t.Hour(), t.Minute(), t.Second(), t.Nanosecond(), time.UTC)
	case toDay:
		if n > 4e6 || n < -4e6 {
			return m, false
		}
		t = t.AddDate(0, 0, int(n))
	default:
		seconds := map[precision]int64{toHour: 3600, toMinute: 60, toSecond: 1}[unit]
		if unit == toMillisecond {
			t = t.Add(time.Duration(n%1000) * time.Millisecond)
			n, seconds = n/1000, 1
		}
		t = time.Unix(t.Unix()+n*seconds, int64(t.Nanosecond())).UTC()
	}
	if t.Year() < 1 || t.Year() > 9999 {
		return m, false
	}
	return m.set(t), true
}

// boundary is the first or last moment that m may mean, to a number of digits. FHIRPath 2.1 lowBoundary, highBoundary
func (m Moment) boundary(high bool, digits int) (Moment, bool) {
	widths := map[int]precision{4: toYear, 6: toMonth, 8: toDay, 10: toHour, 12: toMinute, 14: toSecond, 17: toMillisecond}
	if m.kind == kindTime {
		widths = map[int]precision{2: toHour, 4: toMinute, 6: toSecond, 9: toMillisecond}
	}
	to, ok := widths[digits]
	if !ok || m.kind == kindDate && to > toDay {
		return m, false
	}
	for p := m.precision + 1; p <= toMillisecond; p++ {
		switch {
		case !high:
			m.part[p] = []int{0, 1, 1, 0, 0, 0, 0}[p]
		case p == toDay:
			m.part[p] = daysIn(m.part[0], m.part[1])
		default:
			m.part[p] = []int{9999, 12, 31, 23, 59, 59, 999}[p]
		}
	}
	if !m.zone && to >= toHour && m.kind == kindDateTime {
		m.zone, m.offset = true, 14*60
		if high {
			m.offset = -12 * 60
		}
	}
	if to < toHour {
		m.zone, m.offset = false, 0
	}
	m.precision = to
	return m, true
}

// width is how many digits the moment is written with.
func (m Moment) width() int {
	if m.kind == kindTime {
		return []int{0, 0, 0, 2, 4, 6, 9}[m.precision]
	}
	return []int{4, 6, 8, 10, 12, 14, 17}[m.precision]
}

func quoteUnit(unit string) string {
	if _, calendar := calendarUnits[unit]; calendar && len(unit) > 3 || unit == "week" || unit == "weeks" || unit == "day" {
		return unit
	}
	return "'" + strings.ReplaceAll(strings.ReplaceAll(unit, `\`, `\\`), "'", `\'`) + "'"
}
