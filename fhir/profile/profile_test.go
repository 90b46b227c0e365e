package profile

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"tombolo/fhir"
	"tombolo/fhir/fhirxml"
)

// data is a file or folder of the public standards files, where a developer has them.
func data(t testing.TB, path ...string) string {
	dir := os.Getenv("TOMBOLO_DATA")
	for d, _ := os.Getwd(); dir == "" && d != filepath.Dir(d); d = filepath.Dir(d) {
		if fi, err := os.Stat(filepath.Join(d, "shared", "data")); err == nil && fi.IsDir() {
			dir = filepath.Join(d, "shared", "data")
		}
	}
	dir = filepath.Join(append([]string{dir}, path...)...)
	if _, err := os.Stat(dir); err != nil {
		t.Skip("the published definitions are not here (TOMBOLO_DATA, or shared/data beside the checkout)")
	}
	return dir
}

func examples(t testing.TB, folder string) map[string]*fhir.Resource {
	out := map[string]*fhir.Resource{}
	files, _ := filepath.Glob(filepath.Join(data(t, "02-fhir-definitions", folder), "*"))
	for _, f := range files {
		raw, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		var r *fhir.Resource
		if strings.HasSuffix(f, ".xml") {
			r, err = fhirxml.Decode(raw)
		} else {
			r, err = fhir.Parse(raw)
		}
		if err != nil {
			t.Logf("%s is no R4 resource: %v", filepath.Base(f), err)
			continue
		}
		out[filepath.Base(f)] = r
	}
	return out
}

// known are published examples that R4's own invariants contradict, and in what.
var known = map[string]string{
	"Questionnaire-zika-virus-exposure-assessment.json": "txt-1",                             // its narrative is empty but for white space
	"ActivityDefinition-heart-valve-replacement.json":   "txt-1",                             // so is this one's
	"Observation-clinical-gender.json":                  "R4 wants a reference to CareTeam",  // its performer is an Encounter
	"DeviceUseStatement-example.json":                   "R4 wants a reference to Condition", // its reason is a Procedure
}

func TestEveryExampleOfR4Validates(t *testing.T) {
	n := 0
	for name, r := range examples(t, "r4-examples") {
		n++
		for _, i := range Errors(R4().Check(r)) {
			if known[name] == "" || !strings.HasPrefix(i.Text, known[name]) {
				t.Errorf("%s: %v", name, i)
			}
		}
	}
	t.Logf("%d examples", n)
}

func parse(t testing.TB, body string) *fhir.Resource {
	t.Helper()
	r, err := fhir.Parse([]byte(body))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// Invariants of resources, of data types inside them, of elements with elements of their own, and of contained resources.
func TestBrokenInvariantsAreToldWithTheirPlace(t *testing.T) {
	for _, c := range []struct{ body, at, key string }{
		{`{"resourceType":"Patient","contact":[{"gender":"male"}]}`, "Patient.contact[0]", "pat-1"},
		{`{"resourceType":"Patient","telecom":[{"value":"1"}]}`, "Patient.telecom[0]", "cpt-2"},
		{`{"resourceType":"Patient","name":[{"period":{"start":"2020","end":"2018"}}]}`, "Patient.name[0].period", "per-1"},
		{`{"resourceType":"Patient","extension":[{"url":"urn:x"}]}`, "Patient.extension[0]", "ext-1"},
		{`{"resourceType":"Patient","birthDate":"1970","_birthDate":{"extension":[{"url":"urn:x"}]}}`, "Patient.birthDate.extension[0]", "ext-1"},
		{`{"resourceType":"Patient","text":{"status":"generated","div":"<div xmlns=\"http://www.w3.org/1999/xhtml\"><script>x</script></div>"}}`, "Patient.text.div", "txt-1"},
		{`{"resourceType":"Patient","contained":[{"resourceType":"Organization","id":"o","name":"x"}]}`, "Patient", "dom-3"},
		{`{"resourceType":"Patient","managingOrganization":{"reference":"#o"},"contained":[{"resourceType":"Organization","id":"o","active":true}]}`, "Patient.contained[0]", "org-1"},
		{`{"resourceType":"Patient","managingOrganization":{"reference":"#p"}}`, "Patient.managingOrganization", "ref-1"},
		{`{"resourceType":"Observation","status":"final","code":{"text":"x"},"valueString":"x","dataAbsentReason":{"text":"x"}}`, "Observation", "obs-6"},
		{`{"resourceType":"Observation","status":"final","code":{"text":"x"},"referenceRange":[{"type":{"text":"x"}}]}`, "Observation.referenceRange[0]", "obs-3"},
		{`{"resourceType":"Observation","status":"final","code":{"text":"x"},"valueQuantity":{"value":1,"code":"mg"}}`, "Observation.value.ofType(Quantity)", "qty-3"},
		{`{"resourceType":"Bundle","type":"collection","entry":[{"resource":{"resourceType":"Patient","contact":[{"gender":"male"}]}}]}`, "Bundle.entry[0].resource.contact[0]", "pat-1"},
		{`{"resourceType":"Bundle","type":"collection","total":1}`, "Bundle", "bdl-1"},
		{`{"resourceType":"Parameters","parameter":[{"name":"x"}]}`, "Parameters.parameter[0]", "inv-1"},
		{`{"resourceType":"Questionnaire","status":"draft","item":[{"linkId":"1","type":"group","item":[{"linkId":"2","type":"display","required":true}]}]}`, "Questionnaire.item[0].item[0]", "que-6"},
		{`{"resourceType":"MedicationRequest","status":"active","intent":"order","subject":{"reference":"Patient/1"},"medicationReference":{"display":"x"},"dosageInstruction":[{"timing":{"repeat":{"period":1}}}]}`, "MedicationRequest.dosageInstruction[0].timing.repeat", "tim-2"},
		{`{"resourceType":"Observation","status":"final","code":{"text":"x"},"subject":{"reference":"Practitioner/1"}}`, "Observation.subject", "R4 wants a reference to Device or Group or Location or Patient"},
		{`{"resourceType":"Patient","managingOrganization":{"reference":"#p"},"contained":[{"resourceType":"Practitioner","id":"p"}]}`, "Patient.managingOrganization", "R4 wants a reference to Organization"},
	} {
		issues := R4().Check(parse(t, c.body))
		if !slices.ContainsFunc(issues, func(i *fhir.Issue) bool {
			return i.Expression == c.at && strings.HasPrefix(i.Text, c.key) && isError(i)
		}) {
			t.Errorf("%s is not told at %s; but %v", c.key, c.at, issues)
		}
	}
}

// No element's JSON makes the checker fail otherwise than by issues.
func FuzzCheck(f *testing.F) {
	f.Add([]byte(`{"resourceType":"Patient","name":[{"_family":{"extension":[{"url":"urn:x"}]}}],"contained":[{"resourceType":"List"}],"meta":{"profile":["urn:x"]}}`))
	f.Add([]byte(`{"resourceType":"Bundle","type":"document","entry":[{"fullUrl":"urn:1","resource":{"resourceType":"Observation","valueQuantity":{"value":1e5}}}]}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if r, err := fhir.Parse(raw); err == nil {
			R4().Check(r)
		}
	})
}
