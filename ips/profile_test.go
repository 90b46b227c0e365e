package ips_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"tombolo/dataset"
	"tombolo/fhir"
	"tombolo/fhir/profile"
	"tombolo/ips"
)

// A summary conforms to the profiles of the International Patient Summary: its document, its sections, and what stands in for what is not known.
func TestASummaryConformsToIPS(t *testing.T) {
	dir := os.Getenv("TOMBOLO_DATA")
	for d, _ := os.Getwd(); dir == "" && d != filepath.Dir(d); d = filepath.Dir(d) {
		if fi, err := os.Stat(filepath.Join(d, "shared", "data")); err == nil && fi.IsDir() {
			dir = filepath.Join(d, "shared", "data")
		}
	}
	core, pack := filepath.Join(dir, "02-fhir-definitions", "hl7.fhir.r4.core-4.0.1.tgz"), filepath.Join(dir, "02-fhir-definitions", "ips-package", "ips_v110.tgz")
	if _, err := os.Stat(pack); err != nil {
		t.Skip("IPS's published definitions are not here (TOMBOLO_DATA, or shared/data beside the checkout)")
	}
	d, _, err := profile.Load(core, pack)
	if err != nil {
		t.Fatal(err)
	}
	patient := parse(t, `{"resourceType":"Patient","id":"ann","name":[{"family":"Taylor","given":["Ann"]}],"birthDate":"1970-01-31","gender":"female"}`)
	for name, parts := range map[string][]ips.Part{
		"nothing is known": nil,
		"some is": {
			{Heading: dataset.Problems, State: dataset.Present, Resources: []*fhir.Resource{parse(t, `{"resourceType":"Condition","id":"c","subject":{"reference":"Patient/ann"},"code":{"text":"Asthma"},"clinicalStatus":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/condition-clinical","code":"active"}]}}`)}},
			{Heading: dataset.Allergies, State: dataset.Present, Resources: []*fhir.Resource{parse(t, `{"resourceType":"AllergyIntolerance","id":"a","patient":{"reference":"Patient/ann"},"code":{"text":"Penicillin"},"clinicalStatus":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/allergyintolerance-clinical","code":"active"}]}}`)}},
			{Heading: dataset.Medications, State: dataset.NotShared, NotShared: []string{"The Trust"}},
		},
	} {
		doc := parse(t, string(ips.Document(ips.Record{Patient: patient, Parts: parts, At: time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC), Base: "https://x/fhir", Author: "Severn", Version: "1"})))
		for _, i := range profile.Errors(d.Check(doc, "http://hl7.org/fhir/uv/ips/StructureDefinition/Bundle-uv-ips")) {
			t.Errorf("%s: %v", name, i)
		}
	}
}
