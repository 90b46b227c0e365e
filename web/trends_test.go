package web

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"tombolo/dataset"
	"tombolo/fhir"
	"tombolo/gather"
	"tombolo/sim/cast"
)

// measured is an Observation with a value, changed.
func measured(id, snomed, words, value, unit, date string, more fhir.M) *fhir.Resource {
	f := fhir.M{"status": "final", "code": fhir.Code(fhir.SystemSNOMED, snomed, words), "effectiveDateTime": date,
		"valueQuantity": fhir.M{"value": rawNumber(value), "unit": unit, "system": fhir.SystemUCUM, "code": unit}}
	for k, v := range more {
		f[k] = v
	}
	return fhir.New("Observation", id, f)
}

func within(low, high string) fhir.M {
	rr := fhir.M{}
	if low != "" {
		rr["low"] = fhir.M{"value": rawNumber(low)}
	}
	if high != "" {
		rr["high"] = fhir.M{"value": rawNumber(high)}
	}
	return fhir.M{"referenceRange": []fhir.M{rr}}
}

func with(ms ...fhir.M) fhir.M {
	out := fhir.M{}
	for _, m := range ms {
		for k, v := range m {
			out[k] = v
		}
	}
	return out
}

func below() fhir.M {
	return fhir.M{"valueQuantity": fhir.M{"value": rawNumber("0.05"), "comparator": "<", "unit": "mU/L", "system": fhir.SystemUCUM, "code": "mU/L"}}
}

// pressure is a blood pressure: one Observation with two numbers.
func pressure(id, date string, sys, dia int) *fhir.Resource {
	part := func(code, words string, v int) fhir.M {
		return fhir.M{"code": fhir.Code(fhir.SystemSNOMED, code, words), "valueQuantity": fhir.M{"value": v, "unit": "mm[Hg]", "system": fhir.SystemUCUM, "code": "mm[Hg]"}}
	}
	return fhir.New("Observation", id, fhir.M{"status": "final", "code": fhir.Code(fhir.SystemSNOMED, "75367002", "Blood pressure"), "effectiveDateTime": date,
		"component": []fhir.M{part("271649006", "Systolic blood pressure", sys), part("271650006", "Diastolic blood pressure", dia)}})
}

// repeats are what somebody with thyroid disease has had measured more than once, at a practice and in a hospital.
func repeats() []held {
	var out []held
	add := func(h dataset.Heading, source string, r *fhir.Resource) {
		out = append(out, held{h, r.ID(), source, r, ""})
	}
	tsh := func(id, value, date string, more fhir.M) *fhir.Resource {
		return measured(id, "1022791000000101", "Serum TSH level", value, "mU/L", date, with(within("0.3", "5.5"), more))
	}
	add(dataset.Results, cast.GP1, tsh("t1", "11.2", "2024-02-10", fhir.M{"interpretation": []any{fhir.Code("x", "H", "")}}))
	add(dataset.Results, cast.GP1, tsh("t2", "7.4", "2024-08-22", fhir.M{"interpretation": []any{fhir.Code("x", "H", "")}}))
	add(dataset.Results, cast.GP1, tsh("t3", "0", "2025-03-03", below()))
	add(dataset.Results, cast.Acute, tsh("t4", "2.9", "2025-11-12T08:10:00Z", nil))
	add(dataset.Results, cast.GP1, tsh("t5", "6.8", "2026-10-18", fhir.M{"interpretation": []any{fhir.Code("x", "H", "")}}))
	add(dataset.Results, cast.GP1, measured("h1", "999791000000106", "HbA1c (IFCC)", "58", "mmol/mol", "2025-01-08", within("", "48")))
	add(dataset.Results, cast.GP1, measured("h2", "999791000000106", "HbA1c (IFCC)", "61", "mmol/mol", "2025-07-08", within("", "48")))
	add(dataset.Results, cast.GP1, measured("h3", "999791000000106", "HbA1c (IFCC)", "7.5", "%", "2019-07-08", nil))
	for i, v := range []string{"71.4", "72.0", "73.6", "71.9"} {
		add(dataset.Observations, []string{cast.GP1, cast.Acute}[i%2], measured("w"+v[:2]+v[3:], "27113001", "Body weight", v, "kg", fmt.Sprintf("2026-0%d-01", i+1), nil))
	}
	for i, p := range [][2]int{{152, 90}, {148, 92}, {139, 84}, {142, 84}} {
		add(dataset.Observations, cast.GP1, pressure("bp"+strconv.Itoa(i), fmt.Sprintf("202%d-05-1%d", 2+i, i), p[0], p[1]))
	}
	return out
}

func drawn(t *testing.T, rs ...*fhir.Resource) trendsPage {
	t.Helper()
	sec := gather.Section{Heading: dataset.Results, State: dataset.Present}
	for _, r := range rs {
		sec.Entries = append(sec.Entries, gather.Entry{Lead: r, Members: []gather.Member{{Resource: r, Source: "gp", Name: "Hilltop Surgery"}}})
	}
	return newTrends(&gather.Record{Sections: []gather.Section{sec}}, sayDate)
}

func titles(p trendsPage) (out []string) {
	for _, c := range p.Charts {
		out = append(out, c.Title+" ["+c.Unit+"]")
	}
	return out
}

func TestResultsAreDrawnOverTime(t *testing.T) {
	var rs []*fhir.Resource
	for _, h := range repeats() {
		rs = append(rs, h.resource)
	}
	p := drawn(t, rs...)
	want := []string{"Blood pressure [mmHg]", "Body weight [kg]", "HbA1c (IFCC) [mmol/mol]", "Serum TSH level [mU/L]"}
	if !slices.Equal(titles(p), want) {
		t.Fatalf("drawn are %q, want %q", titles(p), want)
	}
	if !strings.HasPrefix(p.Left, "1 other measurement is not drawn") {
		t.Errorf("of the HbA1c in %% is said: %q", p.Left)
	}
	bp, tsh := p.Charts[0], p.Charts[3]
	if len(bp.Lines) != 2 || !bp.Several || len(bp.Dots) != 8 || len(bp.Rows) != 4 || bp.Lines[0].Kind == bp.Lines[1].Kind || bp.Rows[0].Value != "142/84 mmHg" || bp.Lines[1].Name != "Diastolic" {
		t.Errorf("blood pressure: %+v", bp)
	}
	if tsh.Band == nil || tsh.Band.Words != "0.3 to 5.5" || !tsh.Inexact || len(tsh.Rows) != 5 || tsh.Rows[0].When != "18-Oct-2026" || tsh.Rows[3].Mark.Word != "High" {
		t.Errorf("TSH: %+v", tsh)
	}
	// Less than 0.05 is said as such, drawn as a triangle that points down, and nothing is drawn through it.
	low := tsh.Rows[2]
	if low.Value != "< 0.05 mU/L" || len(tsh.Lines[0].Paths) != 2 {
		t.Errorf("less than 0.05 is told as %q, with %d lines", low.Value, len(tsh.Lines[0].Paths))
	}
	if d := tsh.Dots[2]; !strings.Contains(d.Class, "open") || !strings.Contains(d.Path, "l-5,9 z") || !strings.Contains(d.Words, "03-Mar-2025: < 0.05 mU/L") {
		t.Errorf("its dot is %+v", d)
	}
	for _, line := range tsh.Lines[0].Paths {
		if len(strings.Fields(line)) != 2 {
			t.Errorf("a line of %q", line)
		}
	}
}

// What must not stand on one axis, or on none, does not.
func TestWhatIsNotTheSameIsNotDrawnTogether(t *testing.T) {
	at := func(id string, more fhir.M) *fhir.Resource {
		return measured(id, "41633001", "Intraocular pressure", "14", "mm[Hg]", "2026-01-0"+id, more)
	}
	left, right := fhir.M{"bodySite": fhir.CodeableConcept{Text: "Left eye"}}, fhir.M{"bodySite": fhir.CodeableConcept{Text: "Right eye"}}
	if got := titles(drawn(t, at("1", left), at("2", right), at("3", left), at("4", right))); !slices.Equal(got, []string{"Intraocular pressure, Left eye [mmHg]", "Intraocular pressure, Right eye [mmHg]"}) {
		t.Errorf("two eyes are drawn as %q", got)
	}
	sodium := func(id, unit string, more fhir.M) *fhir.Resource {
		return measured(id, "1000651000000109", "Serum sodium", "139", unit, "2026-01-0"+id, more)
	}
	if got := titles(drawn(t, sodium("1", "mmol/L", nil), sodium("2", "mmol/l", nil))); len(got) != 1 {
		t.Errorf("one unit, written in two ways, is drawn as %q", got)
	}
	if got := titles(drawn(t, sodium("1", "mmol/L", nil), sodium("2", "meq/L", nil), sodium("3", "mmol/L", nil), sodium("4", "meq/L", nil))); len(got) != 2 {
		t.Errorf("two units are drawn as %q", got)
	}
	degraded := fhir.M{"meta": fhir.M{"tag": []fhir.M{{"system": dataset.SystemReading, "code": dataset.TransferDegraded}}}}
	named := func(words string) fhir.M {
		return with(degraded, fhir.M{"code": fhir.CodeableConcept{Coding: []fhir.Coding{{System: fhir.SystemSNOMED, Code: "196411000000103"}}, Text: words}})
	}
	if got := titles(drawn(t, sodium("1", "mmol/L", named("Sodium")), sodium("2", "mmol/L", named("Potassium")))); len(got) != 0 {
		t.Errorf("two things whose codes were lost are drawn as %q", got)
	}
	for name, more := range map[string]fhir.M{
		"entered in error":     {"status": "entered-in-error"},
		"cancelled":            {"status": "cancelled"},
		"to be read there":     {"meta": fhir.M{"tag": []fhir.M{{"system": dataset.SystemReading, "code": dataset.SeeSource}}}},
		"without a number":     {"valueQuantity": fhir.M{"unit": "mmol/L"}},
		"of a year and no day": {"effectiveDateTime": "2020"},
	} {
		if got := titles(drawn(t, sodium("1", "mmol/L", nil), sodium("2", "mmol/L", more))); len(got) != 0 {
			t.Errorf("one reading and one that is %s are drawn as %q", name, got)
		}
	}
	many := func(id string) *fhir.Resource {
		var parts []fhir.M
		for i := range 5 {
			parts = append(parts, fhir.M{"code": fhir.CodeableConcept{Text: "Lead " + strconv.Itoa(i)}, "valueQuantity": fhir.M{"value": i, "unit": "mV"}})
		}
		return fhir.New("Observation", id, fhir.M{"status": "final", "code": fhir.CodeableConcept{Text: "Leads"}, "effectiveDateTime": "2026-01-0" + id, "component": parts})
	}
	if p := drawn(t, many("1"), many("2")); len(p.Charts) != 5 || p.Charts[4].Title != "Leads: Lead 4" || p.Charts[4].Several {
		t.Errorf("five lines, which cannot be told apart, are drawn as %q", titles(p))
	}
	p := drawn(t, sodium("1", "mmol/L", nil), sodium("2", "mmol/L", nil), sodium("3", "mmol/L", fhir.M{"effectiveDateTime": "2020"}))
	if len(p.Charts) != 1 || len(p.Charts[0].Rows) != 3 || len(p.Charts[0].Dots) != 2 || !strings.Contains(strings.Join(p.Charts[0].Notes, ""), "1 reading has no day") {
		t.Errorf("a reading of a year: %+v", p.Charts)
	}
	if p := drawn(t, sodium("1", "mmol/L", within("133", "146")), sodium("2", "mmol/L", within("135", "145"))); p.Charts[0].Band != nil || !strings.Contains(strings.Join(p.Charts[0].Notes, ""), "not the same") {
		t.Errorf("two ranges are drawn as one: %+v", p.Charts[0])
	}
}

// Whatever is measured: every dot lies on the drawing, every number stands in the table, and higher is higher.
func TestADrawingIsTrueToItsTable(t *testing.T) {
	s := testSite(t)
	rapid.Check(t, func(t *rapid.T) {
		sec := gather.Section{Heading: dataset.Results, State: dataset.Present}
		n := rapid.IntRange(2, 12).Draw(t, "readings")
		var values []float64
		for i := range n {
			v := rapid.Float64Range(-1e6, 1e6).Draw(t, "value")
			if rapid.Bool().Draw(t, "small") {
				v /= 1e9
			}
			text := strconv.FormatFloat(v, 'f', -1, 64)
			values = append(values, v)
			r := measured("r"+strconv.Itoa(i), "1", "X", text, "mmol/L", fmt.Sprintf("20%02d-0%d-1%d", 10+i, rapid.IntRange(1, 9).Draw(t, "month"), i%9), nil)
			sec.Entries = append(sec.Entries, gather.Entry{Lead: r})
		}
		p := newTrends(&gather.Record{Sections: []gather.Section{sec}}, sayDate)
		c := p.Charts[0]
		if len(c.Dots) != n || len(c.Rows) != n {
			t.Fatalf("%d dots and %d rows of %d readings", len(c.Dots), len(c.Rows), n)
		}
		at := regexp.MustCompile(`^M(\S+),(\S+) `)
		var ys []float64
		for _, d := range c.Dots {
			m := at.FindStringSubmatch(d.Path)
			x, _ := strconv.ParseFloat(m[1], 64)
			y, _ := strconv.ParseFloat(m[2], 64)
			if x < plotLeft-5 || x > plotRight+5 || y < plotTop-1 || y > plotBottom+1 {
				t.Fatalf("a dot at %v,%v is off the drawing", x, y)
			}
			ys = append(ys, y)
		}
		for i := range values {
			for j := range values {
				if values[i] > values[j] && ys[i] > ys[j] {
					t.Fatalf("%v is drawn below %v", values[i], values[j])
				}
			}
		}
		if len(c.YTicks) < 2 || len(c.YTicks) > 9 {
			t.Fatalf("%d ticks", len(c.YTicks))
		}
		var b strings.Builder
		if err := s.pages.byName["trends"].ExecuteTemplate(&b, "main", layout{Body: p}); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(b.String(), "style=") || strings.Contains(b.String(), "ZgotmplZ") || strings.Contains(b.String(), "<script") {
			t.Fatal("the page needs more than its policy lets it")
		}
	})
}

// The page is reached from the record, says who has not answered, and is the person's own too; nobody else's.
func TestResultsOverTimeAreAPage(t *testing.T) {
	f := newFake()
	srv := newSite(t, f)
	gp := newReader(t, srv, "dr-marsh")
	gp.get("/record/person-1?all=1").wants(t, "Results over time")
	page := gp.get("/record/person-1/trends")
	page.wants(t, "Serum TSH level", "&lt; 0.05 mU/L", "Shaded: reference range, 0.3 to 5.5", "TAYLOR, Margaret", "Severn Ambulance Service", `role="img"`, "<polyline", "A triangle is a value")
	for _, src := range []string{"Hilltop Surgery", "Severn Acute Trust"} {
		page.wants(t, src)
	}
	me := newReader(t, srv, "margaret")
	me.get("/me").wants(t, "/me/trends?view=")
	me.get("/me/trends").wants(t, "Your results over time", "Serum TSH level", "We could not reach Severn Ambulance Service", "18 October 2026")
	if got := gp.get("/me/trends"); got.status != 404 {
		t.Errorf("a doctor at /me/trends: status %d", got.status)
	}
	refused, absent := gp.get("/record/person-daniel/trends"), gp.get("/record/nobody-at-all/trends")
	if refused.status != absent.status || refused.body != absent.body {
		t.Errorf("a refusal is told apart from absence: %d and %d", refused.status, absent.status)
	}
	// What policy has taken out of the record is in no drawing: the page is made of the record that this reader has.
	w := f.worlds["person-1"]
	w.broken[cast.Acute] = gather.Lane{State: gather.Refused}
	gone := newReader(t, srv, "dr-marsh").get("/record/person-1/trends")
	gone.lacks(t, "2.9 mU/L", "12-Nov-2025")
	gone.wants(t, "6.8 mU/L")
}
