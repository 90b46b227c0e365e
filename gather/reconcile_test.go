package gather

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"tombolo/dataset"
	"tombolo/fhir"
)

func said(source string, r *fhir.Resource) Member {
	return Member{Resource: r, Source: source, Name: "The " + source}
}

func allergy(id, code, display, criticality, status string) *fhir.Resource {
	return fhir.New("AllergyIntolerance", id, fhir.M{
		"code": fhir.Code(fhir.SystemSNOMED, code, display), "criticality": criticality,
		"clinicalStatus": fhir.Code("http://terminology.hl7.org/CodeSystem/allergyintolerance-clinical", status, ""),
	})
}

func medicine(id, intent, name, dose, on string, basedOn ...string) *fhir.Resource {
	m := fhir.M{"status": "active", "intent": intent, "medicationCodeableConcept": fhir.Code(fhir.SystemSNOMED, name, name), "authoredOn": on,
		"dosageInstruction": []fhir.M{{"text": dose}}}
	if len(basedOn) > 0 {
		m["basedOn"] = []fhir.Reference{{Reference: basedOn[0]}}
	}
	return fhir.New("MedicationRequest", id, m)
}

func TestTheSameAllergyFromThreePlacesIsShownOnceWithAllItsSources(t *testing.T) {
	got := Reconcile(dataset.Allergies, []Member{
		said("gp", allergy("a", "91936005", "Allergy to penicillin", "high", "active")),
		said("trust", allergy("b", "91936005", "Penicillin allergy", "high", "active")),
		said("mental", fhir.New("AllergyIntolerance", "c", fhir.M{"code": fhir.CodeableConcept{Text: "ALLERGY TO PENICILLIN"}})),
		said("gp", allergy("d", "300916003", "Allergy to latex", "low", "active")),
	})
	if len(got) != 2 {
		t.Fatalf("got %d entries, want penicillin and latex", len(got))
	}
	if n := len(got[0].Members); n != 3 {
		t.Errorf("penicillin has %d sources, want 3", n)
	}
	if got[0].Conflict != "" {
		t.Errorf("nobody disagrees, and yet: %s", got[0].Conflict)
	}
}

func TestDisagreementIsFlaggedAndBothSidesKept(t *testing.T) {
	got := Reconcile(dataset.Allergies, []Member{
		said("gp", allergy("a", "91936005", "Allergy to penicillin", "high", "active")),
		said("trust", allergy("b", "91936005", "Allergy to penicillin", "low", "resolved")),
	})
	if len(got) != 1 || len(got[0].Members) != 2 || got[0].Conflict == "" {
		t.Fatalf("got %+v, want one entry, two members and a conflict", got)
	}
}

// The same number in another unit, or above or below it, is another result, and each is shown with the unit that its source wrote.
func TestResultsInDifferentUnitsAreNeverOne(t *testing.T) {
	result := func(id string, value fhir.M) *fhir.Resource {
		return fhir.New("Observation", id, fhir.M{"status": "final", "code": fhir.Code(fhir.SystemSNOMED, "1", "Test"), "effectiveDateTime": "2026-03-01", "valueQuantity": value})
	}
	number := json.RawMessage("5.5")
	for name, pair := range map[string][2]fhir.M{
		"glucose":                     {{"value": number, "unit": "mmol/L"}, {"value": number, "unit": "mg/dL"}},
		"a dose":                      {{"value": number, "unit": "mg"}, {"value": number, "unit": "microgram"}},
		"units as codes only":         {{"value": number, "code": "mmol/L"}, {"value": number, "code": "mg/dL"}},
		"haemoglobin":                 {{"value": number, "unit": "g/L"}, {"value": number, "unit": "g/dL"}},
		"no unit against one":         {{"value": number}, {"value": number, "unit": "mmol/L"}},
		"below against the same":      {{"value": number, "unit": "mmol/L", "comparator": "<"}, {"value": number, "unit": "mmol/L"}},
		"per hour against per minute": {{"value": number, "unit": "mL/h"}, {"value": number, "unit": "mL/min"}},
	} {
		got := Reconcile(dataset.Results, []Member{said("gp", result("a", pair[0])), said("trust", result("b", pair[1]))})
		if len(got) != 2 && (len(got) != 1 || got[0].Conflict == "") {
			t.Errorf("%s: two results are one, and nothing is said of it", name)
		}
		for _, e := range got {
			for _, m := range e.Members {
				if want := result("x", pair[map[string]int{"a": 0, "b": 1}[m.Resource.ID()]]).Get("valueQuantity").Raw(); string(m.Resource.Get("valueQuantity").Raw()) != string(want) {
					t.Errorf("%s: %s is given as %s", name, want, m.Resource.Get("valueQuantity").Raw())
				}
			}
		}
		if same := Reconcile(dataset.Results, []Member{said("gp", result("a", pair[0])), said("trust", result("b", pair[0]))}); len(same) != 1 || len(same[0].Members) != 2 {
			t.Errorf("%s: the same result from two sources is shown %d times", name, len(same))
		}
	}
	pressure := func(id, unit string) *fhir.Resource {
		return fhir.New("Observation", id, fhir.M{"status": "final", "code": fhir.Code(fhir.SystemSNOMED, "75367002", "Blood pressure"), "effectiveDateTime": "2026-03-01",
			"component": []fhir.M{{"code": fhir.Code(fhir.SystemSNOMED, "271649006", "Systolic"), "valueQuantity": fhir.M{"value": 16, "unit": unit}}}})
	}
	if got := Reconcile(dataset.Observations, []Member{said("gp", pressure("a", "kPa")), said("trust", pressure("b", "mm[Hg]"))}); len(got) != 2 && got[0].Conflict == "" {
		t.Error("16 kPa and 16 mmHg are one pressure")
	}
}

func TestNoKnownAllergyBesideAnAllergyIsAConflict(t *testing.T) {
	got := Reconcile(dataset.Allergies, []Member{
		said("gp", allergy("a", "716186003", "No known allergy", "", "active")),
		said("trust", allergy("b", "91936005", "Allergy to penicillin", "high", "active")),
	})
	i := slices.IndexFunc(got, func(e Entry) bool { return SaysNone(e.Lead) })
	if len(got) != 2 || i < 0 || got[i].Conflict == "" {
		t.Fatalf("want both kept and the denial flagged, got %+v", got)
	}
}

func TestDosesAreNeverMerged(t *testing.T) {
	got := Reconcile(dataset.Medications, []Member{
		said("gp", medicine("a", "plan", "ramipril", "One each day", "2026-01-01")),
		said("mental", medicine("b", "order", "ramipril", "TWO each day", "2026-02-01")),
	})
	if len(got) != 2 {
		t.Fatalf("got %d entries, want the two doses apart", len(got))
	}
	for _, e := range got {
		if e.Conflict == "" {
			t.Errorf("the dose of %s is not flagged", e.Lead.Ref())
		}
	}
}

func TestIssuesStandUnderTheirRepeat(t *testing.T) {
	got := Reconcile(dataset.Medications, []Member{
		said("gp", medicine("i2", "order", "aspirin", "One each day", "2026-02-01", "MedicationRequest/p")),
		said("gp", medicine("p", "plan", "aspirin", "One each day", "2025-01-01")),
		said("gp", medicine("i1", "order", "aspirin", "One each day", "2026-01-01", "MedicationRequest/p")),
		said("other", medicine("p", "plan", "metformin", "One each day", "2025-01-01")),
	})
	if len(got) != 2 {
		t.Fatalf("got %d entries, want two repeats", len(got))
	}
	i := slices.IndexFunc(got, func(e Entry) bool { return e.Members[0].Source == "gp" })
	var issues []string
	for _, r := range got[i].Related {
		issues = append(issues, r.Lead.ID())
	}
	if fmt.Sprint(issues) != "[i2 i1]" {
		t.Errorf("issues under the repeat: %v, want the newest first", issues)
	}
}

func drawMember(t *rapid.T) Member {
	source := rapid.SampledFrom([]string{"gp", "trust", "mental"}).Draw(t, "source")
	id := rapid.StringMatching(`[a-d]`).Draw(t, "id")
	switch rapid.IntRange(0, 3).Draw(t, "kind") {
	case 0:
		return said(source, allergy(id, rapid.SampledFrom([]string{"1", "2", "716186003"}).Draw(t, "code"), "x", "high", rapid.SampledFrom([]string{"active", "resolved"}).Draw(t, "status")))
	case 1:
		return said(source, medicine(id, rapid.SampledFrom([]string{"plan", "order"}).Draw(t, "intent"), "m", rapid.SampledFrom([]string{"one", "two"}).Draw(t, "dose"), "2026-01-01",
			"MedicationRequest/"+rapid.StringMatching(`[a-d]`).Draw(t, "on")))
	case 2:
		return said(source, fhir.New("Observation", id, fhir.M{"status": "final", "code": fhir.Code("s", "c", "d"), "effectiveDateTime": "2026-01-02",
			"hasMember": []fhir.Reference{{Reference: "Observation/" + rapid.StringMatching(`[a-d]`).Draw(t, "member")}}}))
	}
	return said(source, fhir.New("DiagnosticReport", id, fhir.M{"result": []fhir.Reference{{Reference: "Observation/" + rapid.StringMatching(`[a-d]`).Draw(t, "result")}}}))
}

// Whatever the sources send: nothing is lost, nothing is shown twice, and the order of arrival does not matter.
func TestReconcilingLosesNothingAndDoesNotDependOnOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		seen := map[key]bool{}
		var members []Member
		for _, m := range rapid.SliceOfN(rapid.Custom(drawMember), 0, 12).Draw(t, "members") {
			if k := (key{m.Source, m.Resource.Ref()}); !seen[k] {
				seen[k] = true
				members = append(members, m)
			}
		}
		h := rapid.SampledFrom([]dataset.Heading{dataset.Medications, dataset.Allergies, dataset.Results}).Draw(t, "heading")
		got := Reconcile(h, members)
		shown := map[key]int{}
		var count func([]Entry)
		count = func(es []Entry) {
			for _, e := range es {
				for _, m := range e.Members {
					shown[key{m.Source, m.Resource.Ref()}]++
				}
				count(e.Related)
			}
		}
		count(got)
		if len(shown) != len(members) {
			t.Fatalf("%d members went in, %d came out", len(members), len(shown))
		}
		for k, n := range shown {
			if n != 1 {
				t.Fatalf("%v is shown %d times", k, n)
			}
		}
		mixed := rapid.Permutation(members).Draw(t, "order")
		if a, b := outline(got), outline(Reconcile(h, mixed)); a != b {
			t.Fatalf("another order of arrival gives another record:\n%s\n%s", a, b)
		}
	})
}

func outline(es []Entry) string {
	s := ""
	for _, e := range es {
		s += "(" + e.Conflict
		for _, m := range e.Members {
			s += " " + m.Source + "/" + string(m.Resource.Ref())
		}
		s += outline(e.Related) + ")"
	}
	return s
}
