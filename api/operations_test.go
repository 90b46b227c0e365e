package api_test

import (
	"strings"
	"testing"
)

func TestEverythingOfOnePatient(t *testing.T) {
	s := open(t)
	s.ward(t)
	named := func(a answer) string {
		var ids []string
		for _, id := range strings.Fields(found(t, a)) {
			if len(id) < 12 { // not the Provenance that each transaction makes
				ids = append(ids, id)
			}
		}
		return strings.Join(ids, " ")
	}
	for query, want := range map[string]string{
		"":                                    "ann doc o1 o2 trust ward", // (failure 21: what is outside the compartment comes too)
		"?_type=Patient":                      "ann",
		"?start=2026-01-03&_type=Observation": "o2",
		"?end=2026-01-02&_type=Observation":   "o1",
		"?_since=2100-01-01T00:00:00Z":        "",
	} {
		if got := named(s.do("GET", "Patient/ann/$everything"+query, nil).want(t, 200)); got != want {
			t.Errorf("$everything%s holds %q, want %q", query, got, want)
		}
	}
	var got []string
	for next := "Patient/ann/$everything?_count=2&_type=Observation,Patient"; next != ""; {
		a := s.do("GET", next, nil).want(t, 200)
		got = append(got, strings.Fields(found(t, a))...)
		next = ""
		for l := range a.value(t).All("link") {
			if l.Text("relation") == "next" {
				next = l.Text("url")
			}
		}
	}
	if strings.Join(got, " ") != "ann o1 o2" {
		t.Errorf("its pages hold %v", got)
	}
	s.as("other", "GET", "Patient/ann/$everything", nil).want(t, 404)
	if got := found(t, s.do("GET", "Patient/ann/Observation?code=8480-6", nil).want(t, 200)); got != "o2" {
		t.Errorf("inside her record: %q", got)
	}
	if got := found(t, s.as("other", "GET", "Patient/ann/Observation", nil).want(t, 200)); got != "" {
		t.Errorf("inside her record, another system finds %q", got)
	}
}

func TestTagsAndLabelsAreAddedAndTakenAway(t *testing.T) {
	s := open(t)
	id := s.made(patientJSON("Taylor"))
	tag := `{"resourceType":"Parameters","parameter":[{"name":"meta","valueMeta":{"tag":[{"system":"urn:t","code":"a"}]}}]}`
	for range 2 {
		s.do("POST", id+"/$meta-add", tag).want(t, 200)
	}
	if a := s.do("GET", id+"/$meta", nil).want(t, 200); strings.Count(string(a.body), `"code":"a"`) != 1 {
		t.Errorf("added: %s", a.body)
	}
	if got := found(t, s.do("GET", "Patient?_tag=urn:t|a", nil).want(t, 200)); "Patient/"+got != id {
		t.Errorf("by its tag is found %q", got)
	}
	if a := s.do("POST", id+"/$meta-delete", tag).want(t, 200); strings.Contains(string(a.body), `"tag"`) {
		t.Errorf("taken away: %s", a.body)
	}
	s.as("other", "POST", id+"/$meta-add", tag).want(t, 404)
}

func TestTheNewestOfEachCode(t *testing.T) {
	s := open(t)
	s.ward(t)
	s.do("PUT", "Observation/o4", `{"resourceType":"Observation","id":"o4","status":"final","code":{"coding":[{"system":"http://loinc.org","code":"8867-4"}]},"subject":{"reference":"Patient/ann"},"effectiveDateTime":"2026-02-01"}`).want(t, 201)
	for query, want := range map[string]string{"patient=ann": "o2 o4", "patient=ann&max=2": "o1 o2 o4", "subject=Patient/ann&code=8867-4": "o4"} {
		if got := found(t, s.do("GET", "Observation/$lastn?"+query, nil).want(t, 200)); got != want {
			t.Errorf("$lastn?%s gives %q, want %q", query, got, want)
		}
	}
	s.do("GET", "Observation/$lastn", nil).want(t, 400)
}

func TestConvert(t *testing.T) {
	s := open(t)
	a := s.do("POST", "$convert", patientJSON("Taylor"), "Accept: application/fhir+xml").want(t, 200)
	b := s.do("POST", "$convert", a.body, "Content-Type: application/fhir+xml").want(t, 200)
	if !strings.HasPrefix(string(a.body), "<?xml") || b.text(t, "name.family") != "Taylor" {
		t.Errorf("%s\n%s", a.body, b.body)
	}
}

// A system's own summary holds what it holds, and says of nothing else that there is none.
func TestASummaryOfWhatASystemHolds(t *testing.T) {
	s := open(t)
	s.smallWard()
	doc := s.do("GET", "Patient/bob/$summary", nil).want(t, 200).value(t)
	var sections []string
	for sec := range doc.Get("entry.resource").All("section") {
		sections = append(sections, sec.Text("code.coding.code")+" "+sec.Text("entry.reference"))
	}
	if got := strings.Join(sections, ", "); got != "11450-4 Condition/c1, 48765-2 AllergyIntolerance/no-allergy-info, 10160-0 MedicationStatement/no-medication-info" {
		t.Errorf("its sections: %s", got)
	}
	s.as("other", "GET", "Patient/bob/$summary", nil).want(t, 404)
	s.do("GET", "Patient/nobody/$summary", nil).want(t, 404)
	s.do("GET", "Patient/bob/$summary?profile=urn:another", nil).want(t, 400)
	seen := false
	for e, err := range s.audit.All(t.Context(), 0, 0) {
		must(t, err)
		seen = seen || strings.Contains(string(e.Body), "Condition/c1/_history/1") && e.PersonID != ""
	}
	if !seen {
		t.Error("the summary is not in the audit log")
	}
}

// What a delete would say is found by doing it and taking it back: nothing is written, whatever is said.
func TestADeleteIsTriedAndTakenBack(t *testing.T) {
	s := open(t)
	patient := s.made(patientJSON("Bell"))
	_, id, _ := strings.Cut(patient, "/")
	result := s.made(strings.Replace(observationJSON("", "laboratory", "a", id, ""), `"id":"",`, "", 1))
	before := s.do("GET", "_history?_count=1", nil).want(t, 200).text(t, "entry.fullUrl")
	if a := s.do("GET", patient+"/$validate?mode=delete", nil).want(t, 200); a.text(t, "issue.code") != "conflict" || a.text(t, "issue.severity") != "error" {
		t.Errorf("a patient in whose record something stands: %s", a.body)
	}
	if a := s.do("GET", result+"/$validate?mode=delete", nil).want(t, 200); a.text(t, "issue.severity") != "information" {
		t.Errorf("what may be deleted: %s", a.body)
	}
	s.do("GET", "Observation/none/$validate?mode=delete", nil).want(t, 404)
	s.as("other", "GET", result+"/$validate?mode=delete", nil).want(t, 404)
	s.as(s.given("system/Observation.rs", ""), "GET", result+"/$validate?mode=delete", nil).want(t, 403)
	for _, ref := range []string{patient, result} {
		s.do("GET", ref, nil).want(t, 200)
	}
	if after := s.do("GET", "_history?_count=1", nil).text(t, "entry.fullUrl"); after != before {
		t.Errorf("trying wrote something: %s before, %s after", before, after)
	}
	s.do("DELETE", result, nil).want(t, 204)
}
