package nrl

import (
	"strings"

	"tombolo/fhir"
)

// SystemPointer is the system of the ids that this program gives its own pointers (masterIdentifier): by them it knows them again, wherever they are.
const SystemPointer = "https://tombolo.dev/Id/pointer"

// A Form is what the pointers of one type have in common.
type Form struct {
	Type           Type
	Custodian      string // ODS code; also the author
	URL            string // {pointer} stands for the pointer's own id
	Mechanism      Mechanism
	Content        string // contact, pdf, fhir, page; "" for what is usual with the mechanism
	Setting        fhir.Coding
	ASID           string
	SettingsListed Settings // what Check holds it to
}

var contentForms = map[string][2]string{"contact": {"text/html", "urn:nhs-ic:record-contact"}, "pdf": {"application/pdf", "urn:nhs-ic:unstructured"},
	"fhir": {"application/fhir+json", "urn:nhs-ic:structured"}, "page": {"text/html", "urn:nhs-ic:structured"}}

var usualContent = map[Mechanism]string{SSP: "pdf", Direct: "contact", LDR: "pdf", InContext: "page"}

// Make writes the pointer of a form about somebody. local is its own id, which tells nothing of whom it is about.
func (f Form) Make(subject Number, local string) Pointer {
	content := f.Content
	if content == "" {
		content = usualContent[f.Mechanism]
	}
	as := contentForms[content]
	system, code := split(f.Type.ID)
	catSystem, catCode := split(f.Type.Category.ID)
	org := fhir.M{"identifier": fhir.Identifier{System: fhir.SystemODS, Value: f.Custodian}}
	extension := func(url, system, code, display string) fhir.M {
		return fhir.M{"url": url, "valueCodeableConcept": fhir.CodeableConcept{Coding: []fhir.Coding{{System: system, Code: code, Display: display}}}}
	}
	context := fhir.M{"practiceSetting": fhir.CodeableConcept{Coding: []fhir.Coding{f.Setting}}}
	if f.ASID != "" {
		context["related"] = []fhir.M{{"identifier": fhir.Identifier{System: fhir.SystemASID, Value: f.ASID}}}
	}
	return Pointer{fhir.New("DocumentReference", "", fhir.M{
		"masterIdentifier": fhir.Identifier{System: SystemPointer, Value: local},
		"status":           "current",
		"type":             fhir.CodeableConcept{Coding: []fhir.Coding{{System: system, Code: code, Display: f.Type.Display}}},
		"category":         []fhir.CodeableConcept{{Coding: []fhir.Coding{{System: catSystem, Code: catCode, Display: f.Type.Category.Display}}}},
		"subject":          fhir.M{"identifier": fhir.Identifier{System: fhir.SystemNHSNumber, Value: subject.Digits()}},
		"author":           []fhir.M{org}, "custodian": org,
		"content": []fhir.M{{
			"attachment": fhir.M{"contentType": as[0], "url": strings.ReplaceAll(f.URL, "{pointer}", local)},
			"format":     fhir.Coding{System: systemFormat, Code: as[1], Display: formats[as[1]]},
			"extension": []fhir.M{extension(urlStability, systemStability, "dynamic", "Dynamic"),
				extension(urlMechanism, systemMechanism, string(f.Mechanism), mechanismDisplays[f.Mechanism])},
		}},
		"context": context,
	})}
}

// Check holds a form to the rules that its pointers will be held to.
func (f Form) Check() error {
	p := Pointer{f.Make("9999999999", "abcdefghijklmnop").With("id", f.Custodian+"-1")}
	if _, bad := Shape(p.Raw()); bad != nil {
		return bad.asError()
	}
	if bad := Check(p, f.SettingsListed); bad != nil {
		return bad.asError()
	}
	return nil
}

func (o *Outcome) asError() error {
	var all []string
	for _, i := range o.Issues {
		all = append(all, i.Text)
	}
	return fhir.Errorf(fhir.Invalid, "the locator would refuse it: %s", strings.Join(all, "; "))
}

// Local is the id that this program gave a pointer, "" for others'.
func (p Pointer) Local() string {
	if p.Text("masterIdentifier.system") != SystemPointer {
		return ""
	}
	return p.Text("masterIdentifier.value")
}
