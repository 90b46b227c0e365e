package hl7v2

import (
	"strings"

	"tombolo/fhir"
)

// contact makes a RelatedPerson of NK1. It is known by its patient, name and relationship, since set ids count anew in each message.
// HL7 v2.4 §3.4.5
func (x *mapper) contact(nk1 Segment) {
	f := fhir.M{"active": true, "patient": x.subject(), "telecom": x.telecoms(nk1, 5, 6), "birthDate": x.date(nk1.Field(16), nk1.Place(16)),
		"gender": genders[strings.ToUpper(str(nk1.Field(15), 0))]}
	var names []fhir.HumanName
	for rep := range nk1.Field(2).Reps() {
		if n, ok := x.name(rep); ok {
			names = append(names, n)
		}
	}
	org := str(nk1.Field(13), 1)
	if len(names) == 0 && org != "" {
		names = []fhir.HumanName{{Text: org}}
	}
	if len(names) == 0 {
		return
	}
	var homes []fhir.Address
	for rep := range nk1.Field(4).Reps() {
		if a, ok := x.address(rep); ok {
			homes = append(homes, a)
		}
	}
	rel, said := x.coded(nk1.Field(3), v2Table+"0063")
	var relations []fhir.CodeableConcept
	if said {
		if v3, ok := relationships[strings.ToUpper(str(nk1.Field(3), 1))]; ok {
			rel.Coding = append(rel.Coding, fhir.Coding{System: v3RoleCode, Code: v3[0], Display: v3[1]})
		}
		relations = append(relations, rel)
	}
	role := strings.ToUpper(str(nk1.Field(7), 1))
	switch {
	case role == "N" || role == "NK":
		relations = append(relations, fhir.Code(v2Table+"0131", "N", "Next-of-Kin"))
	case role != "":
		c, _ := x.coded(nk1.Field(7), v2Table+"0131")
		relations = append(relations, c)
	}
	if str(nk1.Field(3), 1) == "EMC" || role == "C" || role == "EP" {
		relations = append(relations, fhir.Code(v2Table+"0131", "C", "Emergency Contact"))
	}
	f["name"], f["address"], f["relationship"] = names, homes, relations
	if p := (fhir.Period{Start: x.date(nk1.Field(8), nk1.Place(8)), End: x.date(nk1.Field(9), nk1.Place(9))}); p != (fhir.Period{}) {
		f["period"] = p
	}
	x.add("RelatedPerson", x.unique("NK", hash(x.patient, nk1.Field(2).Raw(), nk1.Field(13).Raw(), strings.ToUpper(str(nk1.Field(3), 1)))), f)
}
