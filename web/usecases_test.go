package web

import (
	"testing"

	"tombolo/fhir"
)

// What the use cases of GP Connect want told of an entry that none of the demo's people has. docs/gpconnect-use-cases.md
func TestWhatTheUseCasesWantTold(t *testing.T) {
	for _, c := range []struct {
		resource, what, value string
		more                  map[string]string
	}{
		{`{"resourceType":"Immunization","id":"i","status":"completed","vaccineCode":{"text":"Hepatitis A vaccine"},"lotNumber":"AAJN11K","protocolApplied":[{"doseNumberPositiveInt":1,"seriesDosesPositiveInt":3,"targetDisease":[{"text":"Hepatitis A"}]}]}`,
			"Hepatitis A vaccine", "batch AAJN11K", map[string]string{"Dose number": "1 of 3", "Against": "Hepatitis A"}},
		{`{"resourceType":"Immunization","id":"i","status":"not-done","vaccineCode":{"text":"MMR vaccine"},"statusReason":{"text":"Mother declines"}}`, "MMR vaccine", "Mother declines", nil},
		{`{"resourceType":"ServiceRequest","id":"s","status":"active","intent":"order","priority":"urgent","reasonCode":[{"text":"Chest pain on exertion"}],"performerType":{"text":"Cardiology"},"occurrenceDateTime":"2026-05-02"}`,
			"Chest pain on exertion", "", map[string]string{"Urgency": "Urgent", "Specialty": "Cardiology", "Due": "02-May-2026"}},
		{`{"resourceType":"AllergyIntolerance","id":"a","clinicalStatus":{"extension":[{"url":"https://fhir.hl7.org.uk/StructureDefinition/Extension-UKCore-AllergyIntoleranceEnd","extension":[{"url":"endDate","valueDateTime":"2012-06-01"},{"url":"reasonEnded","valueString":"Desensitised"}]}],"coding":[{"code":"resolved"}]},"code":{"text":"Bee venom"}}`,
			"Bee venom", "ended 01-Jun-2012", map[string]string{"Reason ended": "Desensitised"}},
	} {
		r, err := fhir.Parse([]byte(c.resource))
		if err != nil {
			t.Fatal(err)
		}
		got := tell(thing{r, nil})
		if got.What != c.what || got.Value != c.value {
			t.Errorf("told as %q, %q; want %q, %q", got.What, got.Value, c.what, c.value)
		}
		more := map[string]string{}
		for _, m := range got.More {
			more[m.Label] = m.Text
		}
		for name, want := range c.more {
			if more[name] != want {
				t.Errorf("%s: %s is told as %q, want %q", c.what, name, more[name], want)
			}
		}
	}
}
