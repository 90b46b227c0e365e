package web

import (
	"testing"
	"time"

	"tombolo/fhir"
)

func TestAnAgeIsInTheUnitsThatMatterAtThatAge(t *testing.T) {
	now := time.Date(2026, 11, 22, 9, 0, 0, 0, fhir.London)
	for _, c := range []struct{ born, died, want string }{
		{"2026-11-22", "", "0d"}, {"2026-11-17", "", "5d"}, {"2026-09-01", "", "11w 5d"}, {"2025-06-22", "", "17m"}, {"2019-05-27", "", "7y 5m"},
		{"1948-03-12", "", "78y"}, {"2008-11-23", "", "17y 11m"}, {"2008-11-22", "", "18y"}, {"1934-01-25", "2026-11-08", "92y"}, {"1948-03", "", ""}, {"2030-01-01", "", ""}, {"nonsense!!", "", ""},
	} {
		if got := sayAge(c.born, c.died, now); got != c.want {
			t.Errorf("born %s, died %q: got %q, want %q", c.born, c.died, got, c.want)
		}
	}
}

func TestADateIsWrittenAtThePrecisionItHas(t *testing.T) {
	for in, want := range map[string]string{
		"2026": "2026", "2026-03": "Mar-2026", "2026-03-31": "31-Mar-2026", "2026-07-31T23:30:00Z": "01-Aug-2026 00:30", "soon": "soon", "": "",
	} {
		if got := sayDate(in); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
	if got := sayPeriod("2026-11-01T10:00:00Z", "2026-11-01T10:20:00Z"); got != "01-Nov-2026 10:00 to 10:20" {
		t.Errorf("a period within a day: got %q", got)
	}
}
