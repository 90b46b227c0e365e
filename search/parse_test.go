package search

import (
	"net/url"
	"reflect"
	"slices"
	"strings"
	"testing"

	"tombolo/fhir"
)

// Errors tell of every problem, name the parameter, and never repeat what was looked for.
func TestErrorsNameTheParameterNotThePerson(t *testing.T) {
	v, err := url.ParseQuery("birthdate=9990000018&identifier=9990000018|9990000018|x&9990000018=1&gender:9990000018=x&_sort=9990000018&a9990000018:b.9990000018=1")
	if err != nil {
		t.Fatal(err)
	}
	_, issues, err := Parse("Patient", v, true)
	if err == nil || len(issues) != 6 {
		t.Fatalf("want six problems, got %v: %v", len(issues), issues)
	}
	for _, i := range append(issues, fhir.IssueOf(err)) {
		if strings.Contains(i.Error(), "9990000018") || i.Type != fhir.Invalid && i.Type != fhir.NotSupported {
			t.Errorf("%s: %s", i.Type, i.Error())
		}
	}
}

// A warning leaves no trace in the query: what was ignored selects nothing.
func TestLenientIgnoresAndSaysSo(t *testing.T) {
	q, issues, err := Parse("Patient", url.Values{"colour": {"red"}, "_filter": {"name eq x"}, "family": {"pike"}, "_count": {"many"}}, false)
	if err != nil {
		t.Fatal(err)
	}
	if want := (Query{Type: "Patient", Params: []Param{{Name: "family", Values: []string{"pike"}}}}); !reflect.DeepEqual(q, want) {
		t.Errorf("query %+v, want %+v", q, want)
	}
	if len(issues) != 3 || slices.ContainsFunc(issues, func(i *fhir.Issue) bool { return i.Severity != fhir.Warning || !strings.HasSuffix(i.Text, "ignored.") }) {
		t.Errorf("want three warnings, got %v", issues)
	}
}

func TestTooMuchIsRefused(t *testing.T) {
	for what, v := range map[string]url.Values{
		"many parameters": {"family": slices.Repeat([]string{"x"}, maxParams+1)},
		"many values":     {"_id": {strings.Repeat("a,", maxValues+1)}},
		"a long value":    {"family": {strings.Repeat("x", maxText+1)}},
	} {
		if _, _, err := Parse("Patient", v, false); !fhir.Is(err, fhir.TooCostly) {
			t.Errorf("%s: %v, want too-costly", what, err)
		}
	}
}

func TestSort(t *testing.T) {
	person := func(id, born, family string) *fhir.Resource {
		f := fhir.M{}
		if born != "" {
			f["birthDate"] = born
		}
		if family != "" {
			f["name"] = []fhir.M{{"family": family}}
		}
		return fhir.New("Patient", id, f)
	}
	people := []*fhir.Resource{person("a", "", "Zeta"), person("b", "1950-05", "Pîke"), person("c", "1949", "pike"), person("d", "1950-06-01", "")}
	for keys, want := range map[string]string{"birthdate": "c b d a", "-birthdate": "d b c a", "family,-birthdate": "b c a d", "-family,_id": "a b c d"} {
		q, _, err := Parse("Patient", url.Values{"_sort": {keys}}, true)
		if err != nil {
			t.Fatal(err)
		}
		got := slices.Clone(people)
		Sort(q, got)
		ids := make([]string, len(got))
		for i, r := range got {
			ids[i] = r.ID()
		}
		if s := strings.Join(ids, " "); s != want {
			t.Errorf("_sort=%s gives %s, want %s", keys, s, want)
		}
	}
	results := []*fhir.Resource{
		fhir.New("Observation", "ten", fhir.M{"valueQuantity": fhir.Quantity{Value: "10.0"}}),
		fhir.New("Observation", "nine", fhir.M{"valueQuantity": fhir.Quantity{Value: "9.5"}}),
	}
	if Sort(Query{Type: "Observation", Sort: []SortKey{{Name: "value-quantity"}}}, results); results[0].ID() != "nine" {
		t.Error("numbers are sorted as text")
	}
}

// Every type of the shared data set that has a patient can be searched by patient.
func TestEveryClinicalTypeHasAPatientParameter(t *testing.T) {
	for _, typ := range Types() {
		if d := lookup(typ, "subject"); d != nil && typ != "AdverseEvent" && typ != "SupplyRequest" && !strings.HasPrefix(typ, "MedicinalProduct") { // R4 has none
			if lookup(typ, "patient") == nil {
				t.Errorf("%s has a subject but cannot be searched by patient", typ)
			}
		}
	}
	for _, typ := range []string{"AllergyIntolerance", "Condition", "Consent", "EpisodeOfCare", "Immunization", "Task", "Flag", "List"} {
		if lookup(typ, "patient") == nil {
			t.Errorf("%s cannot be searched by patient", typ)
		}
	}
}

func TestBadTablesAreRefused(t *testing.T) {
	for text, want := range map[string]string{
		"  token a":                       "line 1: parameters before any type",
		"X\nX":                            "line 2: X stands twice",
		"X\n  token a a":                  "a stands twice",
		"X\n  tolken a":                   "unknown kind",
		"X\n  token a=b(c":                "lacks a closing parenthesis",
		"X\n  reference a=b(Fish)":        `"Fish" is not a resource type`,
		"X\n  composite a=.;token:b":      "at least two parts",
		"X\n  composite a=.;token:b;c:d(": "lacks a closing parenthesis",
	} {
		if _, err := readTable(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want an error saying %q", text, err, want)
		}
	}
}

// Whatever the URL says, Parse answers, and what it accepts can be compiled, written as a URL and read back the same.
func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"Patient?family=o%5C,b&birthdate=ge1940", "Observation?code-value-quantity=a$gt5.4%7C%7Cmg&_sort=-date",
		"Observation?value-quantity=ap-1e200", "Patient?identifier:of-type=a%7Cb%7Cc&_count=0&_total=none", "Encounter?subject:Patient=1,2&date=sa2026",
		"DocumentReference?location:above=%5C%5C&_elements=id", "Patient?_has:x=1&a.b=c&:=&=", "Patient?general-practitioner=%7C%7C/_history/",
	} {
		f.Add(s, true)
	}
	r := fhir.New("Observation", "a", fhir.M{"code": fhir.Code("s", "a", "Word"), "valueQuantity": fhir.M{"value": 5.4, "code": "mg"},
		"effectivePeriod": fhir.M{"start": "2026"}, "subject": fhir.M{"reference": "Patient/1"}, "valueString": "x"})
	f.Fuzz(func(t *testing.T, s string, strict bool) {
		typ, query, _ := strings.Cut(s, "?")
		v, err := url.ParseQuery(query)
		if err != nil {
			return
		}
		q, _, err := Parse(typ, v, strict)
		if err != nil {
			if fhir.IssueOf(err) == nil {
				t.Fatalf("an error without an issue type: %v", err)
			}
			return
		}
		m, err := Compile(q)
		if err != nil {
			t.Fatalf("parsed but not compiled: %v", err)
		}
		if m.Match(r) {
			checkFindable(t, q, r)
		}
		again, _, err := Parse(typ, q.URLValues(), true)
		if err != nil || !reflect.DeepEqual(again.Params, q.Params) || !reflect.DeepEqual(again.Sort, q.Sort) {
			t.Fatalf("read back %+v (%v), want %+v", again, err, q)
		}
	})
}

var benchObservation = func() *fhir.Resource {
	r, err := fhir.Parse([]byte(`{"resourceType":"Observation","id":"o1","meta":{"lastUpdated":"2026-11-20T08:12:00Z","source":"urn:tombolo:source:rx1-pas#1"},
"identifier":[{"system":"https://rx1.example/lab","value":"P900001-3"}],"status":"final",
"category":[{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/observation-category","code":"laboratory"}]}],
"code":{"coding":[{"system":"http://snomed.info/sct","code":"1000651000000109","display":"Serum potassium level"}]},
"subject":{"reference":"Patient/0f3k2m"},"encounter":{"reference":"Encounter/9x2"},"effectiveDateTime":"2026-11-20T08:10:00Z",
"performer":[{"reference":"Organization/rx1"}],"valueQuantity":{"value":5.4,"unit":"mmol/L","system":"http://unitsofmeasure.org","code":"mmol/L"}}`))
	if err != nil {
		panic(err)
	}
	return r
}()

func BenchmarkMatch(b *testing.B) {
	for name, query := range map[string]string{
		"token":    "code=http://snomed.info/sct|1000651000000109",
		"patient":  "patient=Patient/0f3k2m",
		"three":    "patient=0f3k2m&category=laboratory&date=ge2026-11-01",
		"quantity": "value-quantity=gt5||mmol/L",
		"no":       "status=amended",
	} {
		b.Run(name, func(b *testing.B) {
			v, _ := url.ParseQuery(query)
			q, _, err := Parse("Observation", v, true)
			if err != nil {
				b.Fatal(err)
			}
			m, err := Compile(q)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				if m.Match(benchObservation) != (name != "no") {
					b.Fatal("wrong answer")
				}
			}
		})
	}
}

func BenchmarkValues(b *testing.B) {
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		n = 0
		for range Values(benchObservation) {
			n++
		}
	}
	b.ReportMetric(float64(n), "entries")
}

func BenchmarkParse(b *testing.B) {
	v, _ := url.ParseQuery("patient=0f3k2m&category=laboratory&date=ge2026-11-01&_sort=-date&_count=50")
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := Parse("Observation", v, true); err != nil {
			b.Fatal(err)
		}
	}
}
