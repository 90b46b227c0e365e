package dataset

import (
	"testing"

	"tombolo/fhir"
)

func TestEveryHeadingHasItsWords(t *testing.T) {
	seen := map[Heading]bool{}
	for _, i := range All {
		if i.Title == "" || i.Plain == "" || seen[i.Heading] || !i.Heading.Valid() {
			t.Errorf("heading %q: title %q, plain %q, twice: %v", i.Heading, i.Title, i.Plain, seen[i.Heading])
		}
		seen[i.Heading] = true
	}
	if Heading("hats").Valid() || Heading("").Valid() {
		t.Error("anything is a heading")
	}
}

func TestAResourceIsReadUnderItsHeading(t *testing.T) {
	category := func(code string) fhir.M { return fhir.M{"category": []fhir.CodeableConcept{fhir.Code("x", code, "")}} }
	tagged := fhir.M{"meta": fhir.M{"tag": []fhir.Coding{Tag(SocialCare)}}}
	for _, c := range []struct {
		r    *fhir.Resource
		want Heading
	}{
		{fhir.New("AllergyIntolerance", "1", nil), Allergies}, {fhir.New("Condition", "1", nil), Problems},
		{fhir.New("Observation", "1", nil), Observations}, {fhir.New("Observation", "1", category("vital-signs")), Observations},
		{fhir.New("Observation", "1", category("laboratory")), Results}, {fhir.New("Observation", "1", category("social-history")), SocialContext},
		{fhir.New("DiagnosticReport", "1", nil), Results}, {fhir.New("DiagnosticReport", "1", category("RAD")), Imaging},
		{fhir.New("CarePlan", "1", nil), CarePlans}, {fhir.New("CarePlan", "1", category("1382601000000107")), EndOfLife},
		{fhir.New("CarePlan", "1", tagged), SocialCare}, {fhir.New("Organization", "1", nil), ""}, {fhir.New("Provenance", "1", nil), ""}, {fhir.New("Binary", "1", nil), ""},
	} {
		if got := HeadingOf(c.r); got != c.want {
			t.Errorf("%s: %q, want %q", c.r.Raw(), got, c.want)
		}
	}
}

func TestAResourceSaysWhenAndWhat(t *testing.T) {
	r := fhir.New("Encounter", "1", fhir.M{"period": fhir.M{"start": "2026-03-01"}, "type": []fhir.CodeableConcept{{Text: "Review"}}})
	if When(r) != "2026-03-01" || About(r).Words() != "Review" {
		t.Errorf("%q %q", When(r), About(r).Words())
	}
	if When(fhir.New("Basic", "1", nil)) != "" || !About(fhir.New("Basic", "1", nil)).IsZero() {
		t.Error("something was made up")
	}
}
