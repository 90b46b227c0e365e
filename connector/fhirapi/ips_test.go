package fhirapi

import (
	"strings"
	"testing"

	"tombolo/dataset"
	"tombolo/fhir"
)

const summaryPath = "POST /fhir/Patient/$summary"

func summaries(t *testing.T, script map[string]string) (*Summaries, *scripted) {
	t.Helper()
	s := serve(t, script)
	c, err := NewSummaries(Options{Source: "nation", Address: s.URL + "/fhir"})
	if err != nil {
		t.Fatal(err)
	}
	return c, s
}

// patientSummary is a document as another nation might give it: ids only as urn:uuid, one section with entries, one known to be empty, one unknown, one withheld.
const patientSummary = `{"resourceType":"Bundle","type":"document","entry":[
 {"fullUrl":"urn:uuid:00000000-0000-4000-8000-000000000001","resource":{"resourceType":"Composition","status":"final","subject":{"reference":"urn:uuid:00000000-0000-4000-8000-000000000002"},"section":[
  {"code":{"coding":[{"system":"http://loinc.org","code":"11450-4"}]},"entry":[{"reference":"urn:uuid:00000000-0000-4000-8000-000000000003"}]},
  {"code":{"coding":[{"system":"http://loinc.org","code":"48765-2"}]},"entry":[{"reference":"urn:uuid:00000000-0000-4000-8000-000000000004"}]},
  {"code":{"coding":[{"system":"http://loinc.org","code":"10160-0"}]},"entry":[{"reference":"urn:uuid:00000000-0000-4000-8000-000000000005"}]},
  {"code":{"coding":[{"system":"http://loinc.org","code":"11369-6"}]},"emptyReason":{"coding":[{"code":"nilknown"}]}},
  {"code":{"coding":[{"system":"http://loinc.org","code":"47519-4"}]},"emptyReason":{"coding":[{"code":"withheld"}]}},
  {"code":{"coding":[{"system":"http://loinc.org","code":"30954-2"}]},"emptyReason":{"coding":[{"code":"unavailable"}]}}]}},
 {"fullUrl":"urn:uuid:00000000-0000-4000-8000-000000000002","resource":{"resourceType":"Patient","identifier":[{"system":"https://fhir.nhs.uk/Id/nhs-number","value":"` + number + `"}]}},
 {"fullUrl":"urn:uuid:00000000-0000-4000-8000-000000000003","resource":{"resourceType":"Condition","subject":{"reference":"urn:uuid:00000000-0000-4000-8000-000000000002"},"code":{"text":"Asthma"}}},
 {"fullUrl":"urn:uuid:00000000-0000-4000-8000-000000000004","resource":{"resourceType":"AllergyIntolerance","patient":{"reference":"urn:uuid:00000000-0000-4000-8000-000000000002"},
  "code":{"coding":[{"system":"http://hl7.org/fhir/uv/ips/CodeSystem/absent-unknown-uv-ips","code":"no-allergy-info"}]}}},
 {"fullUrl":"urn:uuid:00000000-0000-4000-8000-000000000005","resource":{"resourceType":"MedicationStatement","status":"unknown","subject":{"reference":"urn:uuid:00000000-0000-4000-8000-000000000002"},
  "medicationCodeableConcept":{"coding":[{"system":"http://hl7.org/fhir/uv/ips/CodeSystem/absent-unknown-uv-ips","code":"no-known-medications"}]}}}]}`

func TestAPatientSummaryIsTakenApart(t *testing.T) {
	c, s := summaries(t, map[string]string{summaryPath: patientSummary})
	a, err := c.Ask(t.Context(), question(dataset.Problems, dataset.Allergies, dataset.Medications, dataset.Immunisations, dataset.Procedures, dataset.Results))
	if err != nil {
		t.Fatal(err)
	}
	want := map[dataset.Heading]dataset.State{dataset.Problems: dataset.Present, dataset.Medications: dataset.NoneRecorded, dataset.Immunisations: dataset.NoneRecorded, dataset.Procedures: dataset.NotShared}
	for h, st := range want {
		if a.States[h] != st {
			t.Errorf("%s is %q, want %s", h, a.States[h], st)
		}
	}
	for _, h := range []dataset.Heading{dataset.Allergies, dataset.Results} {
		if st, said := a.States[h]; said {
			t.Errorf("%s is %s, and the summary says that it is not known", h, st)
		}
	}
	if len(a.Content) != 1 || a.Content[0].Type() != "Condition" || a.Content[0].Text("subject.reference") != "Patient/"+a.Patient.ID() {
		t.Errorf("content: %s", a.Content)
	}
	for _, r := range s.asked() {
		if strings.Contains(strings.Fields(r)[1], number) {
			t.Errorf("a number stands in a URL: %s", r)
		}
	}
}

func TestASummaryThatIsNoneIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		answer string
		want   fhir.IssueType
	}{
		"a searchset":         {`{"resourceType":"Bundle","type":"searchset"}`, fhir.Structure},
		"no Composition":      {`{"resourceType":"Bundle","type":"document","entry":[{"resource":{"resourceType":"Patient","id":"p"}}]}`, fhir.Structure},
		"nobody's":            {`{"resourceType":"Bundle","type":"document","entry":[{"resource":{"resourceType":"Composition","id":"c","status":"final"}}]}`, fhir.Structure},
		"no JSON":             {`<html>`, fhir.Structure},
		"unknown there":       {`status 404: {"resourceType":"OperationOutcome","issue":[{"severity":"error","code":"not-found"}]}`, fhir.NotFound},
		"nothing is there":    {"status 404: <html>not here</html>", fhir.NotSupported},
		"no such operation":   {`status 404: {"resourceType":"OperationOutcome","issue":[{"severity":"error","code":"not-supported"}]}`, fhir.NotSupported},
		"not shared":          {"status 403", fhir.Suppressed},
		"its server is down":  {"status 503", fhir.Transient},
		"leads somewhere":     {"status 307 http://127.0.0.1:1/", fhir.Processing},
		"an outcome alone":    {`{"resourceType":"OperationOutcome","issue":[{"severity":"error","code":"not-found"}]}`, fhir.Structure},
		"deeper than is sane": {strings.Repeat(`{"a":[`, 10000), fhir.TooCostly},
	} {
		t.Run(name, func(t *testing.T) {
			s, _ := summaries(t, map[string]string{summaryPath: c.answer})
			a, err := s.Ask(t.Context(), question(dataset.Problems))
			if a != nil || !fhir.Is(err, c.want) && !(c.want == fhir.TooCostly && fhir.Is(err, fhir.Structure)) {
				t.Errorf("%v, %v; want %s", a, err, c.want)
			}
		})
	}
}

// Where several sections stand for one heading there is nothing under it only if each says so; and who made a summary is none of the person's devices.
func TestNoneIsReadOfASummaryOnlyIfEverySectionSaysSo(t *testing.T) {
	const problems, past = "11450-4", "11348-0"
	section := func(code, reason string) string {
		return `{"code":{"coding":[{"system":"http://loinc.org","code":"` + code + `"}]},"emptyReason":{"coding":[{"code":"` + reason + `"}]}}`
	}
	for name, c := range map[string]struct {
		sections string
		want     dataset.State // "": not known
	}{
		"both say none":            {section(problems, "nilknown") + "," + section(past, "nilknown"), dataset.NoneRecorded},
		"one alone says none":      {section(past, "nilknown"), dataset.NoneRecorded},
		"one could not be had":     {section(problems, "unavailable") + "," + section(past, "nilknown"), ""},
		"the later could not":      {section(past, "nilknown") + "," + section(problems, "notasked"), ""},
		"one is withheld":          {section(problems, "nilknown") + "," + section(past, "withheld"), dataset.NotShared},
		"withheld and unavailable": {section(problems, "unavailable") + "," + section(past, "withheld"), dataset.NotShared},
	} {
		t.Run(name, func(t *testing.T) {
			s, _ := summaries(t, map[string]string{summaryPath: `{"resourceType":"Bundle","type":"document","entry":[
 {"fullUrl":"https://n.test/Composition/c","resource":{"resourceType":"Composition","id":"c","status":"final","subject":{"reference":"Patient/p"},"author":[{"reference":"Device/d"}],"section":[` + c.sections + `]}},
 {"fullUrl":"https://n.test/Patient/p","resource":{"resourceType":"Patient","id":"p","identifier":[{"system":"https://fhir.nhs.uk/Id/nhs-number","value":"` + number + `"}]}},
 {"fullUrl":"https://n.test/Device/d","resource":{"resourceType":"Device","id":"d"}}]}`})
			a, err := s.Ask(t.Context(), question(dataset.Problems, dataset.Devices))
			if err != nil {
				t.Fatal(err)
			}
			if got := a.States[dataset.Problems]; got != c.want {
				t.Errorf("problems are %q, want %q", got, c.want)
			}
			if _, said := a.States[dataset.Devices]; said || len(a.Content) > 0 {
				t.Errorf("the summary's author is taken for a device of the person: %v", a.Content)
			}
		})
	}
}
