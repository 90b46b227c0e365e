package api_test

import (
	"os"
	"path/filepath"
	"testing"

	"tombolo/fhir"
	"tombolo/fhir/profile"
)

// A summary that the API gives, of what a system wrote over the API, conforms to the profiles of the International Patient Summary, those of its entries among them.
func TestASummaryOverTheAPIConformsToIPS(t *testing.T) {
	core := sharedData(t, "02-fhir-definitions", "hl7.fhir.r4.core-4.0.1.tgz")
	pack := sharedData(t, "02-fhir-definitions", "ips-package", "ips_v110.tgz")
	d, _, err := profile.Load(core, pack)
	must(t, err)
	s := open(t)
	const active = `"clinicalStatus":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/condition-clinical","code":"active"}]}`
	for _, r := range []string{
		`{"resourceType":"Patient","id":"ann","name":[{"family":"Taylor","given":["Ann"]}],"birthDate":"1970-01-31","gender":"female"}`,
		`{"resourceType":"Condition","id":"c","subject":{"reference":"Patient/ann"},"code":{"text":"Asthma"},` + active + `}`,
		`{"resourceType":"AllergyIntolerance","id":"a","patient":{"reference":"Patient/ann"},"code":{"text":"Penicillin"},"clinicalStatus":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/allergyintolerance-clinical","code":"active"}]}}`,
		`{"resourceType":"MedicationStatement","id":"m","status":"active","subject":{"reference":"Patient/ann"},"medicationCodeableConcept":{"text":"Salbutamol"},"effectivePeriod":{"start":"2025-01-01"}}`,
		`{"resourceType":"Immunization","id":"i","status":"completed","patient":{"reference":"Patient/ann"},"vaccineCode":{"text":"Influenza"},"occurrenceDateTime":"2025-10-01"}`,
		`{"resourceType":"Observation","id":"o","status":"final","category":[{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/observation-category","code":"laboratory"}]}],"code":{"text":"Haemoglobin"},"subject":{"reference":"Patient/ann"},"effectiveDateTime":"2025-10-01","performer":[{"display":"The laboratory"}],"valueQuantity":{"value":130,"unit":"g/L","system":"http://unitsofmeasure.org","code":"g/L"}}`,
		`{"resourceType":"Patient","id":"nothing","name":[{"family":"Nobody","given":["Known"]}],"birthDate":"1980","gender":"male"}`,
	} {
		res, err := fhir.Parse([]byte(r))
		must(t, err)
		s.do("PUT", string(res.Ref()), r).want(t, 201)
	}
	for _, id := range []string{"ann", "nothing"} {
		doc, err := fhir.Parse(s.do("GET", "Patient/"+id+"/$summary", nil).want(t, 200).body)
		must(t, err)
		for _, i := range profile.Errors(d.Check(doc, "http://hl7.org/fhir/uv/ips/StructureDefinition/Bundle-uv-ips")) {
			t.Errorf("%s: %v", id, i)
		}
	}
}

// sharedData is a file of published data beside the checkout; the test is skipped where it is not.
func sharedData(t *testing.T, path ...string) string {
	t.Helper()
	dir := os.Getenv("TOMBOLO_DATA")
	for d, _ := os.Getwd(); dir == "" && d != filepath.Dir(d); d = filepath.Dir(d) {
		if fi, err := os.Stat(filepath.Join(d, "shared", "data")); err == nil && fi.IsDir() {
			dir = filepath.Join(d, "shared", "data")
		}
	}
	file := filepath.Join(append([]string{dir}, path...)...)
	if _, err := os.Stat(file); err != nil {
		t.Skipf("SKIPPED: %s is not here (TOMBOLO_DATA, or shared/data beside the checkout)", filepath.Join(path...))
	}
	return file
}
