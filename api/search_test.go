package api_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// found are the ids of a searchset's entries, sorted, with "+" before what was included.
func found(t testing.TB, a answer) string {
	t.Helper()
	var ids []string
	for e := range a.value(t).All("entry") {
		switch e.Text("search.mode") {
		case "match":
			ids = append(ids, e.Text("resource.id"))
		case "include":
			ids = append(ids, "+"+e.Text("resource.id"))
		}
	}
	slices.Sort(ids)
	return strings.Join(ids, " ")
}

func (s *site) ward(t testing.TB) {
	t.Helper()
	s.do("POST", "", transaction(
		entry("PUT", "Organization/trust", "", `{"resourceType":"Organization","id":"trust","name":"Severn Trust"}`),
		entry("PUT", "Organization/ward", "", `{"resourceType":"Organization","id":"ward","name":"Ward 7","partOf":{"reference":"Organization/trust"}}`),
		entry("PUT", "Practitioner/doc", "", `{"resourceType":"Practitioner","id":"doc","name":[{"family":"Ade"}]}`),
		entry("PUT", "Patient/ann", "", `{"resourceType":"Patient","id":"ann","name":[{"family":"Müller"}],"gender":"female","managingOrganization":{"reference":"Organization/ward"},"generalPractitioner":[{"reference":"Practitioner/doc"}]}`),
		entry("PUT", "Patient/bob", "", `{"resourceType":"Patient","id":"bob","name":[{"family":"Brown"}],"gender":"male"}`),
		entry("PUT", "Observation/o1", "", `{"resourceType":"Observation","id":"o1","status":"final","code":{"coding":[{"system":"http://loinc.org","code":"8867-4"}]},"subject":{"reference":"Patient/ann"},"performer":[{"reference":"Practitioner/doc"}],"valueQuantity":{"value":70,"system":"http://unitsofmeasure.org","code":"/min"},"effectiveDateTime":"2026-01-02T10:00:00Z"}`),
		entry("PUT", "Observation/o2", "", `{"resourceType":"Observation","id":"o2","status":"final","code":{"coding":[{"system":"http://loinc.org","code":"8480-6"}]},"subject":{"reference":"Patient/ann"},"effectiveDateTime":"2026-01-03T10:00:00Z"}`),
		entry("PUT", "Observation/o3", "", `{"resourceType":"Observation","id":"o3","status":"amended","code":{"coding":[{"system":"http://loinc.org","code":"8867-4"}]},"subject":{"reference":"Patient/bob"},"effectiveDateTime":"2025-12-31"}`),
		entry("PUT", "Provenance/p1", "", `{"resourceType":"Provenance","id":"p1","target":[{"reference":"Observation/o1"}],"recorded":"2026-01-02T10:00:00Z","agent":[{"who":{"reference":"Practitioner/doc"}}]}`),
	)).want(t, 200)
}

func TestSearchesAcrossPatientsWithLinks(t *testing.T) {
	s := open(t)
	s.ward(t)
	for _, c := range []struct{ query, want string }{
		{"Patient?name=muller", "ann"},
		{"Patient?name:exact=Müller", "ann"},
		{"Observation?code=8867-4", "o1 o3"},
		{"Observation?code=http://loinc.org|8867-4&status:not=amended", "o1"},
		{"Observation?subject=Patient/ann", "o1 o2"},
		{"Observation?subject=ann", "o1 o2"},
		{"Observation?subject:Patient=ann", "o1 o2"},
		{"Observation?patient=" + s.url + "/Patient/ann", "o1 o2"},
		{"Observation?patient=http://elsewhere.example/fhir/Patient/ann", ""},
		{"Observation?date=ge2026-01-01&date=lt2026-01-03", "o1"},
		{"Observation?value-quantity=70|http://unitsofmeasure.org|/min", "o1"},
		{"Observation?code-value-quantity=8867-4$gt60", "o1"},
		{"Observation?value-quantity:missing=true", "o2 o3"},
		// Chained, over one link and several, with and without a type. FHIR R4 search.html#chaining
		{"Observation?patient.name=muller", "o1 o2"},
		{"Observation?subject:Patient.name=muller", "o1 o2"},
		{"Observation?subject:Patient.gender=male", "o3"},
		{"Observation?patient.organization.name=ward", "o1 o2"},
		{"Observation?patient.organization.partof.name=severn", "o1 o2"},
		{"Observation?performer.name=ade", "o1"},
		{"Observation?patient.name=nobody", ""},
		{"Observation?patient.name=muller&code=8867-4", "o1"},
		// Reverse chained. FHIR R4 search.html#has
		{"Patient?_has:Observation:patient:code=8867-4", "ann bob"},
		{"Patient?_has:Observation:patient:code=8480-6", "ann"},
		{"Patient?_has:Observation:patient:code=8480-6&_has:Observation:patient:status=amended", ""},
		{"Patient?_has:Observation:patient:_has:Provenance:target:agent=Practitioner/doc", "ann"},
		{"Patient?_has:Observation:patient:code=8867-4&_id=bob", "bob"},
		{"Practitioner?_has:Patient:general-practitioner:name=muller", "doc"},
		{"Patient?general-practitioner.name=ade", "ann"},
		// Included. FHIR R4 search.html#include
		{"Observation?_id=o1&_include=Observation:subject", "+ann o1"},
		{"Observation?_id=o1&_include=Observation:performer:Practitioner&_include=Observation:subject", "+ann +doc o1"},
		{"Observation?_id=o1&_include=Observation:subject:Group", "o1"},
		{"Observation?_id=o1&_include=*", "+ann +doc o1"},
		{"Observation?code=8867-4&_include=Observation:patient&_include:iterate=Patient:organization&_include:iterate=Organization:partof", "+ann +bob +trust +ward o1 o3"},
		{"Observation?code=8867-4&_include=Observation:patient&_include=Patient:organization", "+ann +bob o1 o3"},
		{"Patient?_id=ann&_revinclude=Observation:patient", "+o1 +o2 ann"},
		{"Patient?_id=ann&_revinclude=Observation:patient&_revinclude:iterate=Provenance:target&_elements=id", "+o1 +o2 +p1 ann"},
	} {
		a := s.do("GET", strings.ReplaceAll(c.query, " ", "%20"), nil).want(t, 200)
		got := found(t, a)
		// Each transaction makes a Provenance of its own too, with an id that nobody knows.
		got = strings.Join(slices.DeleteFunc(strings.Fields(got), func(id string) bool { return len(id) > 12 }), " ")
		if got != c.want {
			t.Errorf("%s finds %q, want %q", c.query, got, c.want)
		}
	}
}

// A parameter or modifier that is not understood is never passed over in silence. (failure 1)
func TestWhatASearchDoesNotUnderstand(t *testing.T) {
	s := open(t)
	s.ward(t)
	for _, q := range []string{"Patient?nmae=x", "Patient?name:exakt=x", "Observation?code:in=http://x", "Observation?date=yesterday", "Observation?patient.nothing=1",
		"Observation?subject:Device.nothing=1", "Patient?_has:Observation:code:code=1", "Patient?_has:Nothing:a:b=1", "Patient?_include=Patient:name", "Patient?_include:once=Patient:organization",
		"Patient?_sort=nothing", "Patient?_count=-1", "Patient?_cursor=x", "Patient?_cursor=1.x", "Patient?a.b.c.d.e.f.g=1", "Patient?_filter=x"} {
		if a := s.do("GET", q, nil).want(t, 400); len(a.text(t, "issue.expression")) == 0 {
			t.Errorf("%s: it does not say where: %s", q, a.body)
		}
	}
	a := s.do("GET", "Patient?nmae=x&gender=male", nil, "Prefer: handling=lenient").want(t, 200)
	if self := a.text(t, "link.url"); strings.Contains(self, "nmae") || !strings.Contains(self, "gender=male") {
		t.Errorf("the self link says %s", self)
	}
	if found(t, a) != "bob" || !strings.Contains(string(a.body), "ignored") {
		t.Errorf("lenient: %s", a.body)
	}
}

// Pages of a search are of the moment of its first, whatever is written meanwhile: nothing twice, nothing left out, nothing new. (failures 4 and 5)
func TestPagesAreOfOneMoment(t *testing.T) {
	for _, sort := range []string{"", "&_sort=-name"} {
		t.Run("sort"+sort, func(t *testing.T) {
			s := open(t)
			var put []string
			for i := range 20 {
				put = append(put, entry("PUT", fmt.Sprintf("Patient/p%02d", i), "", fmt.Sprintf(`{"resourceType":"Patient","id":"p%02d","active":true,"name":[{"family":"F%02d"}]}`, i, i)))
			}
			s.do("POST", "", transaction(put...)).want(t, 200)
			var got []string
			a := s.do("GET", "Patient?active=true&_count=6&_total=accurate"+sort, nil).want(t, 200)
			for page := 0; ; page++ {
				v := a.value(t)
				if v.Text("total") != "20" {
					t.Errorf("page %d counts %s", page, v.Text("total"))
				}
				for e := range v.All("entry.resource") {
					got = append(got, e.Text("id"))
					if e.Text("meta.versionId") != "1" {
						t.Errorf("%s is version %s", e.Text("id"), e.Text("meta.versionId"))
					}
				}
				next := ""
				for l := range v.All("link") {
					if l.Text("relation") == "next" {
						next = l.Text("url")
					}
				}
				if next == "" {
					break
				}
				// Meanwhile: one goes, one no longer matches, one changes its name, one comes.
				n := 19 - 3*page
				s.do("DELETE", fmt.Sprintf("Patient/p%02d", n), nil).want(t, 204)
				s.do("PUT", fmt.Sprintf("Patient/p%02d", n-1), fmt.Sprintf(`{"resourceType":"Patient","id":"p%02d","active":false}`, n-1)).want(t, 200)
				s.do("PUT", fmt.Sprintf("Patient/p%02d", n-2), fmt.Sprintf(`{"resourceType":"Patient","id":"p%02d","active":true,"name":[{"family":"A"}]}`, n-2)).want(t, 200)
				s.do("PUT", fmt.Sprintf("Patient/new%d", page), fmt.Sprintf(`{"resourceType":"Patient","id":"new%d","active":true,"name":[{"family":"F99"}]}`, page)).want(t, 201)
				a = s.do("GET", next, nil).want(t, 200)
			}
			slices.Sort(got)
			if len(got) != 20 || len(slices.Compact(got)) != 20 || strings.Contains(strings.Join(got, " "), "new") {
				t.Errorf("the pages together hold %v", got)
			}
		})
	}
}

func TestCountsAndSummaries(t *testing.T) {
	s := open(t)
	s.ward(t)
	for _, q := range []string{"Observation?_summary=count", "Observation?_count=0"} {
		if a := s.do("GET", q, nil).want(t, 200); a.text(t, "total") != "3" || found(t, a) != "" {
			t.Errorf("%s: %s", q, a.body)
		}
	}
	a := s.do("GET", "Patient/ann?_elements=gender", nil).want(t, 200)
	if a.text(t, "name.family") != "" || a.text(t, "gender") != "female" || a.text(t, "meta.tag.code") != "SUBSETTED" {
		t.Errorf("_elements: %s", a.body)
	}
	if a := s.do("GET", "Observation?_include=Observation:patient&_total=accurate", nil).want(t, 200); a.text(t, "total") != "3" {
		t.Errorf("what is included is counted: %s", a.text(t, "total"))
	}
}

// Searches across types go through the types in turn, a page at a time, each resource once. FHIR R4 http.html#search
func TestASearchAcrossTypes(t *testing.T) {
	s := open(t)
	s.smallWard()
	all := func(path string) string {
		var ids []string
		for path != "" {
			a := s.do("GET", path, nil).want(t, 200)
			for e := range a.value(t).All("entry.resource") {
				if e.Text("resourceType") != "OperationOutcome" && e.Text("resourceType") != "Provenance" {
					ids = append(ids, e.Text("resourceType")+"/"+e.Text("id"))
				}
			}
			path = ""
			for l := range a.value(t).All("link") {
				if l.Text("relation") == "next" {
					path = l.Text("url")
				}
			}
		}
		return strings.Join(ids, " ")
	}
	for path, want := range map[string]string{
		"?_type=Patient,Condition":                      "Condition/c1 Patient/ann Patient/bob",
		"?_type=Patient,Condition,Observation&_count=1": "Condition/c1 Observation/o1 Observation/o2 Patient/ann Patient/bob",
		"?_type=Patient,Condition,Observation&_count=2": "Condition/c1 Observation/o1 Observation/o2 Patient/ann Patient/bob",
		"?_id=ann,o1":                              "Observation/o1 Patient/ann",
		"?_type=Observation&status=amended":        "Observation/o2",
		"Patient/ann/*":                            "Observation/o1 Observation/o2 Patient/ann",
		"Patient/ann/*?_type=Observation&_count=1": "Observation/o1 Observation/o2",
		"Patient/?_id=bob":                         "Patient/bob",
		"?_type=Condition&_include=*:*":            "Condition/c1 Patient/bob",
		"?_type=Condition,Patient&_tag=urn:x|none": "",
	} {
		if got := all(path); got != want {
			t.Errorf("%s finds %s\nwant %s", path, got, want)
		}
	}
	if got := s.do("GET", "?_type=Patient,Condition&_summary=count", nil).want(t, 200).text(t, "total"); got != "3" {
		t.Errorf("it counts %s", got)
	}
	s.do("POST", "_search", "_type=Patient&_id=bob", "Content-Type: application/x-www-form-urlencoded").want(t, 200)
	for path, status := range map[string]int{"": 400, "?_count=5": 400, "?_type=Nothing": 400, "?_type=Patient,Condition&_sort=_id": 400, "?_type=Patient,Condition&gender=male": 400, "?_type=Patient&_cursor=1.Nothing.": 400} {
		s.do("GET", path, nil).want(t, status)
	}
}
