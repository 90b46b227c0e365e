package fhirpath

import (
	"strings"
	"testing"
	"time"

	"tombolo/fhir"
	"tombolo/sim"
)

const ward = `{"resourceType":"Patient","id":"p","meta":{"profile":["urn:p"]},"contained":[{"resourceType":"Organization","id":"o","name":"Mill"}],
"identifier":[{"system":"urn:a","value":"1"},{"system":"urn:b","value":"2"}],"active":true,
"name":[{"use":"official","family":"Ash","given":["Ann","Bee"]},{"use":"old","family":"Oak","_family":{"extension":[{"url":"urn:own","valueString":"x"}]}}],
"birthDate":"1970-01-31","_birthDate":{"extension":[{"url":"urn:time","valueDateTime":"1970-01-31T14:35:45-05:00"}]},"multipleBirthInteger":2,
"managingOrganization":{"reference":"#o"},"generalPractitioner":[{"reference":"Practitioner/9"}]}`

func patient(t testing.TB) Item {
	r, err := fhir.Parse([]byte(ward))
	if err != nil {
		t.Fatal(err)
	}
	return Resource(r)
}

func TestExpressionsGiveWhatTheStandardSays(t *testing.T) {
	p := patient(t)
	env := &Env{
		Now:  time.Date(2026, 3, 31, 14, 30, 5, 0, time.FixedZone("", 3600)),
		Vars: map[string]Item{"who": Text("Ash")},
		Resolve: func(ref string) fhir.Value {
			v, _ := fhir.ParseValue([]byte(`{"resourceType":"Practitioner","id":"9"}`))
			return v
		},
		MemberOf: func(vs string, of Item) (bool, bool) { return of.String() == "official", vs == "urn:vs" },
	}
	for _, c := range []struct{ expr, want string }{
		{"name.where(use = 'official').given", "Ann Bee"},
		{"Patient.name.family", "Ash Oak"},
		{"Resource.id", "p"},
		{"name[1].family.extension('urn:own').value", "x"},
		{"birthDate.extension.value", "1970-01-31T14:35:45-05:00"},
		{"multipleBirth", "2"},
		{"multipleBirth is integer", "true"},
		{"(multipleBirth as integer) + 1", "3"},
		{"multipleBirth.ofType(boolean)", ""},
		{"managingOrganization.resolve().name", "Mill"},
		{"generalPractitioner.resolve() is Practitioner", "true"},
		{"contained.ofType(Organization).name", "Mill"},
		{"name.family contains %who", "true"},
		{"name.given.select($index)", "0 1"},
		{"name.select(given.first() | family)", "Ann Ash Oak"},
		{"now()", "2026-03-31T14:30:05.000+01:00"},
		{"today() - 1 month", "2026-02-28"},
		{"timeOfDay()", "14:30:05.000"},
		{"@2024-02-29 + 1 year", "2025-02-28"},
		{"@2026-03 + 40 days", "2026-04"},
		{"@T23:30 + 45 minutes", "00:15"},
		{"@2026-03-31T23:30:00Z + 30 minutes", "2026-04-01T00:00:00Z"},
		{"birthDate < @1971", "true"},
		{"@2026-03-31T12:00:00+01:00 = @2026-03-31T11:00:00Z", "true"},
		{"@2026-03-31T12:00:00 < @2026-04-02T12:00:00Z", "true"},
		{"name.use.first().memberOf('urn:vs')", "true"},
		{"name.use.first().memberOf('urn:other')", ""},
		{"0.1 + 0.2 = 0.3", "true"},
		{"1.50.toString()", "1.50"},
		{"10 / 4", "2.5"},
		{"2147483647 + 1", ""},
		{"1 'mg' = 0.001 'g'", "true"},
		{"1 'mg' < 1 'mL'", ""},
		{"37 'Cel' = 310.15 'K'", "true"},
		{"2.5 'g'.toQuantity('mg')", "2500 'mg'"},
		{"'ann'.upper() & {} & '!'", "ANN!"},
		{"'a-b'.replaceMatches('(\\\\w)-(\\\\w)', '$2-$1')", "b-a"},
		{"name.defineVariable('n').select(%n.count())", "2 2"},
		{"%resource.id", "p"},
		{"%`vs-x`", "http://hl7.org/fhir/ValueSet/x"},
		{"text.exists()", "false"},
		{"descendants().where($this is string).count() > 3", "true"},
		{"true and {}", ""},
		{"{} or true", "true"},
		{"name.type().name.first()", "HumanName"},
		{"contact.empty() implies name.exists()", "true"},
		{"iif(active, 'yes', 'no')", "yes"},
		{"(1|2|3).aggregate($this + $total, 0)", "6"},
		{"'äöü'.substring(1, 1)", "ö"},
		{"'x'.length() = 1 // a comment", "true"},
	} {
		e, err := Compile(c.expr)
		if err != nil {
			t.Errorf("%s: %v", c.expr, err)
			continue
		}
		items, err := e.Eval(p, env)
		var got []string
		for _, it := range items {
			got = append(got, it.String())
		}
		if err != nil || strings.Join(got, " ") != c.want {
			t.Errorf("%s gives %q, %v; want %q", c.expr, got, err, c.want)
		}
	}
}

func TestMistakesAreToldWithTheirPlace(t *testing.T) {
	for _, c := range []struct{ expr, want string }{
		{"name.", "character 6"},
		{"name.wher(use = 'x')", "Did you mean where()?"},
		{"name.where()", "where() takes 1 in its parentheses"},
		{"name.ofType(HumanNmae)", "no such type"},
		{"'abc", "the quote is not closed"},
		{"name.given.matches('(')", "regular expression cannot be read"},
		{"@2026-02-30", "a date is"},
		{"a b", "operator is missing"},
		{"4294967296", "32 bits"},
		{strings.Repeat("(", 200), "nested more than"},
		{strings.Repeat("-", 200) + "1", "nested more than"},
		{strings.Repeat("a.", 9000) + "a", "parts"},
		{strings.Repeat("a", 40000), "at most"},
		{"a # b", "means nothing here"},
	} {
		if _, err := Compile(c.expr); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%.40s: %v; want %q", c.expr, err, c.want)
		}
	}
	for _, expr := range []string{"name.nmae", "Observation.value", "value", "multipleBirthInteger", "name.children().first()", "name.where(familly = 'x')", "birthDate.system"} {
		if _, err := CompileFor("Patient", expr); err == nil || !strings.Contains(err.Error(), "can find nothing") {
			t.Errorf("%s: %v", expr, err)
		}
	}
}

// What would cost too much ends, with an issue that says so.
func TestCostlyExpressionsEnd(t *testing.T) {
	p := patient(t)
	chars := "'" + strings.Repeat("ab", 200) + "'"
	for _, expr := range []string{
		"descendants().select(%resource.descendants()).select(%resource.descendants()).select(%resource.descendants()).count()",
		chars + ".toChars().select(" + chars + ".toChars()).select(" + chars + ".toChars())",
		"(1|2|3|4|5|6|7|8|9).select('" + strings.Repeat("x", 9000) + "'.replace('x', '" + strings.Repeat("y", 9000) + "'))",
		"name.repeat($this & 'x')",
		"name.given.first().repeat($this & 'x').count()",
		"(1|2).repeat($this + 1).count()",
		"1.0.repeat($this * 1.1).count()",
	} {
		e, err := Compile(expr)
		if err != nil {
			t.Errorf("%.60s: %v", expr, err)
			continue
		}
		if _, err = e.Eval(p, nil); err == nil {
			t.Errorf("%.60s ends well", expr)
		}
	}
}

func TestNarrativesThatActAreRefused(t *testing.T) {
	div := func(s string) string { return `<div xmlns="http://www.w3.org/1999/xhtml">` + s + `</div>` }
	for s, ok := range map[string]bool{
		div("<p>well &eacute; &amp; <b>so</b></p>"): true, div(`<img src="a.png" alt=""/>`): true, div(`<a href="http://x">x</a>`): true, div(`<p style="color: red">x</p>`): true,
		div(""): false, div("  "): false, div("<script>x</script>"): false, div(`<p onclick="x()">x</p>`): false, div(`<a href="java&#10;script:x">x</a>`): false,
		div("<p>x"): false, "<p>x</p>": false, "<div>x</div>": false, div("x") + div("y"): false, div(`<object data="x">x</object>`): false, div("<form><input/></form>x"): false,
		`<!DOCTYPE html>` + div("x"): false, div("x") + "tail": false, div(`<iframe src="x">x</iframe>`): false,
	} {
		if err := Narrative(s); (err == nil) != ok {
			t.Errorf("%s: %v", s, err)
		}
	}
}

func FuzzEval(f *testing.F) {
	for _, s := range []string{"name.where(use = 'official').given.first()", "(1 | 2.5 | 'x').aggregate($this & $total)", "@2026-03-31T14:30:00.123+01:00 + 3 'h'", "descendants().repeat(children()).sort(-$this)",
		"1 'mg' / 2 's' * 3.0 'm2'", "'a'.matches('[a-z]+') implies %context.id ~ 'P'", "name.defineVariable('x', 1).select(%x + $index)", "birthDate.lowBoundary(6) | today().highBoundary()", "2.power(1000).sqrt().round(3).toString().toChars()", "name ~ name.tail() or 1.convertsToQuantity('wk')"} {
		f.Add(s, ward)
	}
	f.Fuzz(func(t *testing.T, expr, resource string) {
		e, err := Compile(expr)
		if err != nil {
			if i := fhir.IssueOf(err); i == nil {
				t.Fatalf("no issue: %v", err)
			}
			return
		}
		_, _ = CompileFor("Patient", expr)
		r, err := fhir.Parse([]byte(resource))
		if err != nil {
			return
		}
		items, err := e.Eval(Resource(r), &Env{Limits: Limits{Steps: 20_000, Items: 5_000, Text: 1 << 16}})
		if err != nil && fhir.IssueOf(err) == nil {
			t.Fatalf("no issue: %v", err)
		}
		for _, it := range items {
			_, _ = it.MarshalJSON()
		}
	})
}

func BenchmarkEval(b *testing.B) {
	p := patient(b)
	for _, expr := range []string{"name.family", "name.where(use = 'official').given.first()", "identifier.where(system = 'urn:b').value", "name.exists() or telecom.exists()", "descendants().count()"} {
		e := MustCompile(expr)
		b.Run(expr, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := e.Eval(p, nil); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("compile", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := Compile("name.where(use = 'official').given.first()"); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func TestNumbersAtTheirLimits(t *testing.T) {
	big := strings.Repeat("9", 59)
	for _, expr := range []string{big + ".0.exp()", "0." + big + ".ln()", big + ".9.sqrt()", "1.0000000000000000000000000001.power(1000)", "0.0000001.power(-1000)", big + ".0.log(1.0000000001)",
		"(-745.1).exp()", "1.5.power(999.5)", "(1" + strings.Repeat(".0 * 99999999", 60) + ")", "100.0.round(100)"} {
		from := sim.ProcessorTime()
		e, err := Compile(expr)
		if err != nil {
			t.Errorf("%.40s: %v", expr, err)
			continue
		}
		_, _ = e.Eval(patient(t), nil)
		if d := sim.ProcessorTime() - from; d > 5*time.Second {
			t.Errorf("%.40s takes %v", expr, d)
		} else {
			t.Logf("%.40s %v", expr, d)
		}
	}
}

// BenchmarkObservation evaluates 14 of Observation's search expressions, all of them an operation.
func BenchmarkObservation(b *testing.B) {
	r := Resource(input(b, data(b, "09-fhir-test-cases", "r4-core-tests"), "observation-example.xml"))
	var all []*Expr
	for _, text := range []string{"Observation.code", "Observation.identifier", "Observation.subject", "Observation.status", "Observation.category", "(Observation.value as Quantity)", "Observation.effective",
		"Observation.performer", "Observation.encounter", "Observation.component.code", "Observation.code | Observation.component.code", "Observation.dataAbsentReason", "Observation.device", "Observation.basedOn"} {
		all = append(all, MustCompile(text))
	}
	b.ReportAllocs()
	for b.Loop() {
		for _, e := range all {
			if _, err := e.Eval(r, nil); err != nil {
				b.Fatal(err)
			}
		}
	}
}
