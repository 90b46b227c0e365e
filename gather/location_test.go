package gather

import (
	"fmt"
	"strings"
	"testing"

	"tombolo/fhir"
	"tombolo/mpi"
	"tombolo/policy"
	"tombolo/region"
)

// Wherever a source writes where somebody is, in whatever form, it is withheld; and what it writes besides stays.
func TestWhereARestrictedPersonIsIsInNothing(t *testing.T) {
	g := New(Options{Region: &region.Region{Organisations: []region.Organisation{{ODS: "M85002", Name: "Riverside Practice", Kind: region.KindGP}, {ODS: "RX1", Name: "Severn Acute Trust", Kind: region.KindAcute}},
		Systems: []region.System{{ID: "gp", Organisation: "M85002"}, {ID: "pas", Organisation: "RX1"}}}})
	op := &opening{g: g, person: &mpi.Person{ID: "x", Patients: []mpi.Patient{{Address: &fhir.Address{Line: []string{"Flat 2, 9 Quay Road"}, City: "Severnmouth", PostalCode: "GL99 4GH"}, Phone: "07700 900123", Practice: "M85002"}}}}
	letter := fhir.Attachment{ContentType: "application/pdf", Data: "R0w5OSA0R0g=", Title: "Letter to Flat 2, 9 Quay Road"}
	for what, r := range map[string]*fhir.Resource{
		"a letter":                             fhir.New("DocumentReference", "d", fhir.M{"description": "Discharge", "content": []fhir.M{{"attachment": letter}}}),
		"a report's form":                      fhir.New("DiagnosticReport", "r", fhir.M{"conclusion": "No fracture", "presentedForm": []fhir.Attachment{letter}}),
		"a linked letter":                      fhir.New("DocumentReference", "d", fhir.M{"content": []fhir.M{{"attachment": fhir.M{"contentType": "text/html", "url": "https://x.example/GL994GH"}}}}),
		"a file":                               fhir.New("Binary", "b", fhir.M{"contentType": "text/plain", "data": "R0w5OSA0R0g="}),
		"a note":                               fhir.New("Condition", "c", fhir.M{"note": []fhir.M{{"text": "Seen at home, flat 2 - 9  Quay Road, GL994GH; ring 07700900123"}}}),
		"a note of elsewhere":                  fhir.New("Condition", "c", fhir.M{"note": []fhir.M{{"text": "Moved to her mother's at SW1A 2AA"}}}),
		"a narrative":                          fhir.New("Condition", "c", fhir.M{"text": fhir.M{"status": "generated", "div": "<div>9 Quay Road</div>"}}),
		"a contained practice":                 fhir.New("Condition", "c", fhir.M{"contained": []fhir.M{{"resourceType": "Organization", "id": "o", "name": "Riverside Practice"}}, "recorder": fhir.Reference{Reference: "#o"}}),
		"who is who":                           fhir.New("Patient", "p", fhir.M{"identifier": []fhir.Identifier{{System: fhir.SystemNHSNumber, Value: "9990000107"}, {System: "https://M85002.example/Id", Value: "17"}}, "name": []fhir.HumanName{{Family: "Severnmouth", Given: []string{"Chloe"}}}, "address": []fhir.Address{{City: "Severnmouth"}}, "telecom": []fhir.M{{"value": "07700 900123"}}}),
		"its practice's numbers":               fhir.New("Condition", "c", fhir.M{"identifier": []fhir.Identifier{{System: "https://EMISWeb/M85002", Value: "17"}}}),
		"an address in the name of a practice": fhir.New("Observation", "o", fhir.M{"extension": []fhir.M{{"url": "https://m85002.example/ext", "valueString": "x"}}, "code": fhir.Code("https://codes.M85002.example", "1", "")}),
		"a plan":                               fhir.New("CarePlan", "cp", fhir.M{"title": "Visits by RIVERSIDE practice (M85002)"}),
	} {
		out := string(op.whereabouts().withhold(r, &lane{Lane: Lane{Source: "gp-practice", Kind: string(region.KindGP)}}).Raw())
		low := strings.ToLower(out)
		for _, secret := range []string{"quay", "gl99 4gh", "gl994gh", "07700", "riverside", "m85002", "r0w5osa0r0g", "x.example", "sw1a"} {
			if strings.Contains(low, secret) {
				t.Errorf("%s tells %q: %s", what, secret, out)
			}
		}
		if what == "who is who" && (!strings.Contains(out, `"family":"Severnmouth"`) || !strings.Contains(out, "9990000107")) {
			t.Errorf("somebody's name was taken for a place, or their number is gone: %s", out)
		}
	}
	kept := fhir.New("MedicationRequest", "m", fhir.M{"dosageInstruction": []fhir.M{{"text": "B12 1MG daily, T4 5MG, take 2 at 9"}}, "note": []fhir.M{{"text": "Severn Acute Trust started it on 2026-01-02"}}, "medicationCodeableConcept": fhir.Code(fhir.SystemSNOMED, "322341003", "Levetiracetam 500mg tablets")})
	out := op.whereabouts().withhold(kept, &lane{Lane: Lane{Source: "pas"}})
	for _, path := range []string{"dosageInstruction.text", "note.text", "medicationCodeableConcept.coding.display"} {
		if out.Text(path) != kept.Text(path) {
			t.Errorf("%s was %q and is %q", path, kept.Text(path), out.Text(path))
		}
	}
}

// Of the numbers by which somebody is known a practice's own are not told, wherever who they are is shown.
func TestAPracticesNumberOfARestrictedPersonIsNotTold(t *testing.T) {
	g := New(Options{Region: &region.Region{Organisations: []region.Organisation{{ODS: "M85002", Kind: region.KindGP}, {ODS: "RX1", Kind: region.KindAcute}}, Systems: []region.System{{ID: "gp", Organisation: "M85002"}, {ID: "pas", Organisation: "RX1"}}}})
	nhs, gp, mrn := fhir.Identifier{System: fhir.SystemNHSNumber, Value: "9990000107"}, fhir.Identifier{System: "https://surgery.example/Id", Value: "17"}, fhir.Identifier{System: "https://rx1.example/mrn", Value: "T1"}
	p := &mpi.Person{ID: "x", Identifiers: []fhir.Identifier{nhs, gp, mrn}, Patients: []mpi.Patient{{Source: "gp", Identifiers: []fhir.Identifier{nhs, gp}}, {Source: "pas", Identifiers: []fhir.Identifier{nhs, mrn}}}}
	for restricted, want := range map[bool][]fhir.Identifier{false: {nhs, gp, mrn}, true: {nhs, mrn}} {
		d := policy.Decision{Permit: true}
		if restricted {
			d.Obligations = []policy.Obligation{policy.WithholdLocation}
		}
		if got := g.shown(p, d).Identifiers; fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("restricted %v: %v, want %v", restricted, got, want)
		}
	}
}

func TestPostcodesAreKnownAndDosesAreNone(t *testing.T) {
	for _, s := range []string{"SW1A 1AA", "GL99 4GH", "M1 1AE", "B33 8TH", "CR26XH", "DN55 1PT", "EC1A 1BB", "W1A 0AX", "GIR 0AA"} {
		if !postcode.MatchString("at " + s + ".") {
			t.Errorf("%s is a postcode", s)
		}
	}
	for _, s := range []string{"B12 5MG", "T4 5MG", "E10 2ML", "C3 1MCG", "ICD10 C50", "V900311", "2026-01-02", "R0001", "X26 9"} {
		if postcode.MatchString(s) {
			t.Errorf("%s is no postcode", s)
		}
	}
}
