package hl7v2

import (
	"strings"

	"tombolo/fhir"
)

// AL1, DG1 and PR1: what an ADT message says of the patient's health. None has an id of its own in v2.4, so each is known by its patient (and
// visit) and its code: the same fact sent twice is one resource.

// key is what tells one coded fact from another: its code where it has one, else its words.
func key(v Value) string {
	if c := str(v, 1); c != "" {
		return strings.ToUpper(str(v, 3)) + "|" + strings.ToUpper(c)
	}
	return strings.ToUpper(str(v, 2))
}

// allergy makes an AllergyIntolerance of AL1. HL7 v2.4 §3.4.6
func (x *mapper) allergy(al1 Segment) {
	code := x.concept(al1.Field(3))
	if code.IsZero() {
		if !al1.Field(3).Empty() || !al1.Field(5).Empty() {
			x.note(fhir.Required, al1.Place(3), "an allergy that does not say to what was left out")
		}
		return
	}
	f := fhir.M{"clinicalStatus": fhir.Code(allergyClinical, "active", "Active"), "patient": x.subject(), "code": code,
		"onsetDateTime": x.dateTime(al1.Field(6), al1.Place(6))}
	switch strings.ToUpper(str(al1.Field(2), 1)) {
	case "DA", "DRUG":
		f["category"] = []string{"medication"}
	case "FA", "FOOD":
		f["category"] = []string{"food"}
	case "EA", "PA", "LA", "AA":
		f["category"] = []string{"environment"}
	}
	severity := ""
	switch strings.ToUpper(str(al1.Field(4), 1)) {
	case "SV":
		f["criticality"], severity = "high", "severe"
	case "MO":
		f["criticality"], severity = "low", "moderate"
	case "MI":
		f["criticality"], severity = "low", "mild"
	case "U":
		f["criticality"] = "unable-to-assess"
	}
	var reactions []fhir.M
	for rep := range al1.Field(5).Reps() {
		if t := words(rep); t != "" {
			r := fhir.M{"manifestation": []fhir.CodeableConcept{{Text: t}}, "severity": severity}
			prune(r)
			reactions = append(reactions, r)
		}
	}
	f["reaction"] = reactions
	x.add("AllergyIntolerance", x.unique("AL", hash(x.patient, key(al1.Field(3)))), f)
}

// diagnosis makes a Condition of DG1, and gives what the Encounter says of it. Without a visit it is an entry of the problem list.
// HL7 v2.4 §6.5.2
func (x *mapper) diagnosis(dg1 Segment, visit string) fhir.M {
	code := x.concept(dg1.Field(3))
	if t := words(dg1.Field(4)); t != "" && code.Text == "" {
		code.Text = t
	}
	if table := str(dg1.Field(2), 0); table != "" {
		for i := range code.Coding {
			if code.Coding[i].System == "" {
				code.Coding[i].System = x.systemOf(table)
			}
		}
	}
	if code.IsZero() {
		return nil
	}
	what := key(dg1.Field(3))
	if what == "" {
		what = strings.ToUpper(words(dg1.Field(4)))
	}
	made := x.unique("DG", hash(x.patient, visit, what))
	if n := str(dg1.Field(20), 1); n != "" { // diagnosis identifier, from v2.5
		made = x.unique("DG", n)
	}
	if str(dg1.Field(21), 0) == "D" {
		x.d.Delete = append(x.d.Delete, fhir.MakeRef("Condition", made))
		return nil
	}
	kind := strings.ToUpper(str(dg1.Field(6), 0))
	verified := fhir.Code(conditionVerified, "confirmed", "Confirmed")
	if kind == "W" || kind == "A" {
		verified = fhir.Code(conditionVerified, "provisional", "Provisional")
	}
	f := fhir.M{"subject": x.subject(), "code": code, "verificationStatus": verified, "onsetDateTime": x.dateTime(dg1.Field(5), dg1.Place(5))}
	if by, ok := x.practitioner(dg1.Field(16)); ok {
		f["asserter"] = by
	}
	if visit == "" {
		f["category"] = []fhir.CodeableConcept{fhir.Code(conditionCategory, "problem-list-item", "Problem List Item")}
		f["clinicalStatus"] = fhir.Code(conditionClinical, "active", "Active")
	} else {
		f["category"] = []fhir.CodeableConcept{fhir.Code(conditionCategory, "encounter-diagnosis", "Encounter Diagnosis")}
		f["encounter"] = fhir.Reference{Reference: "Encounter/" + visit}
	}
	ref := x.add("Condition", made, f)
	use := fhir.M{"condition": fhir.Reference{Reference: string(ref), Display: code.Words()}}
	if role, ok := diagnosisRoles[kind]; ok {
		use["use"] = fhir.Code(diagnosisRole, role[0], role[1])
	}
	return use
}

// diagnosisRoles: HL7 table 0052.
var diagnosisRoles = map[string][2]string{"A": {"AD", "Admission diagnosis"}, "F": {"DD", "Discharge diagnosis"}}

// procedure makes a Procedure of PR1. HL7 v2.4 §6.5.4
func (x *mapper) procedure(pr1 Segment, visit string) {
	code := x.concept(pr1.Field(3))
	if t := words(pr1.Field(4)); t != "" && code.Text == "" {
		code.Text = t
	}
	if table := str(pr1.Field(2), 0); table != "" {
		for i := range code.Coding {
			if code.Coding[i].System == "" {
				code.Coding[i].System = x.systemOf(table)
			}
		}
	}
	if code.IsZero() {
		return
	}
	when := x.dateTime(pr1.Field(5), pr1.Place(5))
	made := x.unique("PR", hash(x.patient, key(pr1.Field(3)), words(pr1.Field(4)), str(pr1.Field(5), 0)))
	if n := str(pr1.Field(19), 1); n != "" { // procedure identifier, from v2.5
		made = x.unique("PR", n)
	}
	if str(pr1.Field(20), 0) == "D" {
		x.d.Delete = append(x.d.Delete, fhir.MakeRef("Procedure", made))
		return
	}
	f := fhir.M{"status": "completed", "subject": x.subject(), "code": code, "performedDateTime": when}
	if visit != "" {
		f["encounter"] = fhir.Reference{Reference: "Encounter/" + visit}
	}
	var by []fhir.M
	for _, n := range [...]int{11, 12, 8} {
		if r, ok := x.practitioner(pr1.Field(n)); ok {
			by = append(by, fhir.M{"actor": r})
		}
	}
	f["performer"] = by
	x.add("Procedure", made, f)
}
