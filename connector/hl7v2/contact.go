package hl7v2

import (
	"strings"

	"tombolo/fhir"
)

// contact makes a RelatedPerson of NK1. It is known by its patient, name and relationship, since set ids count anew in each message.
// HL7 v2.4 §3.4.5
func (x *mapper) contact(nk1 Segment) {
	f := fhir.M{"patient": x.subject()}
	sc := &scope{own: nk1}
	x.fill("RelatedPerson", f, sc, "NK1")
	if empty(f["name"]) {
		return
	}
	x.addFrom(sc, "RelatedPerson", x.unique("NK", hash(x.patient, nk1.Field(2).Raw(), nk1.Field(13).Raw(), strings.ToUpper(str(nk1.Field(3), 1)))), f)
}
