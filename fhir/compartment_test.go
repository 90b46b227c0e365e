package fhir

import "testing"

func TestAResourceSaysWhoseItIs(t *testing.T) {
	for _, c := range []struct{ json, want string }{
		{`{"resourceType":"Observation","subject":{"reference":"Patient/1"},"performer":[{"reference":"Practitioner/2"}]}`, "Patient/1"},
		{`{"resourceType":"AllergyIntolerance","patient":{"reference":"https://h/fhir/Patient/1/_history/2"}}`, "https://h/fhir/Patient/1/_history/2"},
		{`{"resourceType":"Appointment","participant":[{"actor":{"reference":"Practitioner/9"}},{"actor":{"reference":"Patient/1"}}]}`, "Patient/1"},
		{`{"resourceType":"Observation","subject":{"reference":"Location/3"}}`, ""},
		{`{"resourceType":"Task","for":{"reference":"urn:uuid:ab"}}`, "urn:uuid:ab"},
		{`{"resourceType":"Observation","subject":"nonsense"}`, ""},
	} {
		r, err := Parse([]byte(c.json))
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		for _, s := range Subjects(r) {
			got += s.Reference
		}
		if got != c.want {
			t.Errorf("%s: got %q, want %q", c.json, got, c.want)
		}
	}
}

func TestMapReferencesChangesReferencesAndNothingElse(t *testing.T) {
	in := `{"resourceType":"Observation", "note":[{"text":"reference"}],"subject":{"display":"x" ,"reference":"urn:uuid:1"},"encounter":{"reference":"Encounter/1"}}`
	r, err := Parse([]byte(in))
	if err != nil {
		t.Fatal(err)
	}
	out, err := MapReferences(r, func(o Value, ref string) ([]byte, bool) {
		if ref != "urn:uuid:1" {
			return nil, false
		}
		return WithReference(o, "Patient/1"), true
	})
	if err != nil {
		t.Fatal(err)
	}
	want := `{"resourceType":"Observation", "note":[{"text":"reference"}],"subject":{"display":"x" ,"reference":"Patient/1"},"encounter":{"reference":"Encounter/1"}}`
	if string(out.Raw()) != want {
		t.Errorf("got  %s\nwant %s", out.Raw(), want)
	}
}
