package hl7v2

import "tombolo/fhir"

const (
	// Events about a visit, those about the person alone, and merges of two records of one person. HL7 v2.4 §3.3
	adtVisits  = " A01 A02 A03 A04 A05 A06 A07 A08 A10 A11 A12 A13 A14 A16 A25 A27 A38 "
	adtPersons = " A28 A31 "
	adtMerges  = " A34 A40 "
	adtEvents  = adtVisits + adtPersons + adtMerges
)

// adt maps one patient's part of an ADT message: the person, who is close to them, their allergies, the visit, and its diagnoses and
// procedures.
func (x *mapper) adt(segs []Segment) *fhir.Issue {
	if issue := x.who(segs); issue != nil {
		return issue
	}
	switch x.event {
	case "A34", "A40":
		mrg := first(segs, "MRG")
		if !mrg.Exists() {
			return fhir.Errorf(fhir.Required, "a merge needs MRG, the number that was merged").At("MRG")
		}
		return x.merged(mrg)
	}
	for _, s := range segs {
		switch s.Name() {
		case "NK1":
			x.contact(s)
		case "AL1":
			x.allergy(s)
		}
	}
	visit := x.visitID(first(segs, "PV1"), segs)
	if x.event == "A28" || x.event == "A31" { // these tell of the person: their PV1 says "no visit"
		visit = ""
	}
	var diagnoses []fhir.M
	for _, s := range segs {
		switch s.Name() {
		case "DG1":
			if d := x.diagnosis(s, visit); d != nil {
				diagnoses = append(diagnoses, d)
			}
		case "PR1":
			x.procedure(s, visit)
		}
	}
	if visit != "" {
		x.encounter(visit, segs, diagnoses)
	}
	return nil
}
