package policy

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"tombolo/dataset"
	"tombolo/fhir"
)

// What somebody chooses is read back from its Consent as it was made, and refuses exactly what it names.
func TestAChoiceIsWhatItsConsentSays(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		groups := []string{""}
		for _, g := range SensitivityGroups {
			groups = append(groups, g.ID)
		}
		o := Objection{ID: "c1", Recipient: rapid.SampledFrom([]string{"", "RX1", "RW4"}).Draw(t, "to"), Holder: rapid.SampledFrom([]string{"", "RX1", "RW4"}).Draw(t, "from"),
			Heading: rapid.SampledFrom([]dataset.Heading{"", dataset.Allergies, dataset.Legal}).Draw(t, "heading"), Sensitivity: rapid.SampledFrom(groups).Draw(t, "kind"),
			LastDay: rapid.SampledFrom([]string{"", "2026-05-31", "2026-06-01", "2026-12-31"}).Draw(t, "last day"), Made: Deed{By: "u", Name: "U", At: june, Words: rapid.SampledFrom([]string{"", "said so"}).Draw(t, "words")}}
		if rapid.Bool().Draw(t, "back") {
			o.TakenBack = &Deed{By: "v", Name: "V", At: june.Add(time.Hour)}
		}
		r := o.Consent("Patient/p")
		back, ok := ObjectionOf(r)
		if !ok || back.TakenBack == nil != (o.TakenBack == nil) {
			t.Fatalf("%+v is read back as %+v", o, back)
		}
		if a, b := o, back; true {
			if a.TakenBack, b.TakenBack = nil, nil; a != b {
				t.Fatalf("%+v is read back as %+v", a, b)
			}
		}
		var s Standing
		s.Take("tombolo", r)
		f := Facts{Subject: Subject{Role: HospitalDoctor, Organisation: "RX1"}, Purpose: DirectCare, Relationships: []Relationship{KnownHere}, At: june.Add(12 * time.Hour), Person: s.Person,
			Source: &Source{Organisation: "RX1"}, Heading: dataset.Allergies, Item: &Item{Labels: rapid.SampledFrom([]Labels{0, byCode["PSY"] | RestrictedLabel, byCode["HIV"] | RestrictedLabel}).Draw(t, "item")}}
		f.Source.Release.All = true
		matches := o.In(f.At) && o.Recipient != "RW4" && o.Holder != "RW4" && (o.Heading == "" || o.Heading == dataset.Allergies) &&
			(o.Sensitivity == "" || o.Item().Labels&f.Item.Labels.sensitive() != 0)
		if got := Decide(f).Permit; got == matches {
			t.Fatalf("%+v of %b: permitted %v", o, f.Item.Labels, got)
		}
	})
}

func TestAChoiceWithMoreToItIsNotPutIntoASentence(t *testing.T) {
	for what, provision := range map[string]fhir.M{"a permission": {"type": "permit"}, "an exception": {"type": "deny", "provision": []fhir.M{{"type": "permit"}}}, "a purpose": {"type": "deny", "purpose": []fhir.Coding{{Code: "TREAT"}}},
		"one person": {"type": "deny", "actor": []fhir.M{{"role": fhir.Code("x", "IRCP", ""), "reference": fhir.Reference{Reference: "Practitioner/x"}}}}, "a beginning": {"type": "deny", "period": fhir.M{"start": "2026-01-01"}},
		"labels of no group": {"type": "deny", "securityLabel": []fhir.Coding{{System: fhir.SystemActCode, Code: "SICKLE"}}}, "nothing": nil} {
		f := fhir.M{"status": "active", "scope": fhir.Code("http://terminology.hl7.org/CodeSystem/consentscope", "patient-privacy", "")}
		if provision != nil {
			f["provision"] = provision
		}
		if o, ok := ObjectionOf(fhir.New("Consent", "c", f)); ok {
			t.Errorf("%s is %+v", what, o)
		}
	}
}
