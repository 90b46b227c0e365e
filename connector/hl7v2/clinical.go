package hl7v2

import (
	"strings"

	"tombolo/fhir"
)

// AL1, IAM, DG1, PRB and PR1: what messages say of the patient's health. Most have no id of their own in v2.4, so each is known by its patient
// (and visit) and its code: the same fact sent twice is one resource.

// key is what tells one coded fact from another: its code where it has one, else its words.
func key(v Value) string {
	if c := peek(v, 1); c != "" {
		return strings.ToUpper(peek(v, 3)) + "|" + strings.ToUpper(c)
	}
	return strings.ToUpper(peek(v, 2))
}

// takenBack reports whether a segment's action code says that the fact is no more. HL7 tables 0287, 0206
func (x *mapper) takenBack(v Value) bool { return x.translate("segment-action", v) == "delete" }

// allergy makes an AllergyIntolerance of AL1. HL7 v2.4 §3.4.6
func (x *mapper) allergy(al1 Segment) {
	f := fhir.M{"patient": x.subject()}
	sc := &scope{own: al1}
	x.fill("AllergyIntolerance", f, sc, "AL1")
	if f["code"] == nil {
		if !al1.Field(3).Empty() || !al1.Field(5).Empty() {
			x.note(fhir.Required, al1.Place(3), "an allergy that does not say to what was left out")
		}
		return
	}
	same := "AL1 " + hash(al1.Field(2).Raw(), al1.Field(3).Raw(), al1.Field(4).Raw(), al1.Field(5).Raw(), al1.Field(6).Raw())
	if x.seen[same]++; x.seen[same] > 1 { // said again, as an order does before the results that came earlier
		return
	}
	x.addFrom(sc, "AllergyIntolerance", x.unique("AL", hash(x.patient, key(al1.Field(3)))), f)
}

// adverse makes an AllergyIntolerance of IAM, which can be taken back. HL7 v2.5.1 §3.4.7
func (x *mapper) adverse(iam Segment) {
	made := ""
	if n := str(iam.Field(7), 1); n != "" {
		made = x.unique("AL", n)
	} else {
		made = x.unique("AL", hash(x.patient, key(iam.Field(3))))
	}
	if x.takenBack(iam.Field(6)) {
		x.d.Delete = append(x.d.Delete, fhir.MakeRef("AllergyIntolerance", made))
		return
	}
	f := fhir.M{"patient": x.subject()}
	sc := &scope{own: iam}
	x.fill("AllergyIntolerance", f, sc, "IAM")
	if f["code"] == nil {
		x.note(fhir.Required, iam.Place(3), "an allergy that does not say to what was left out")
		return
	}
	x.addFrom(sc, "AllergyIntolerance", made, f)
}

// coded3 joins a code (3), words (4) and the name of a table (2), as DG1 and PR1 have them.
func (x *mapper) coded3(s Segment) fhir.CodeableConcept {
	code := x.concept(s.Field(3))
	if code.Text == "" {
		code.Text = words(s.Field(4))
	}
	for i := range code.Coding {
		if code.Coding[i].System == "" {
			code.Coding[i].System = x.systemOf(str(s.Field(2), 0))
		}
	}
	return code
}

// diagnosis makes a Condition of DG1, and gives what the Encounter says of it. Without a visit it is an entry of the problem list.
// HL7 v2.4 §6.5.2
func (x *mapper) diagnosis(dg1 Segment, visit string) fhir.M {
	code := x.coded3(dg1)
	if code.IsZero() {
		return nil
	}
	what := key(dg1.Field(3))
	if what == "" {
		what = strings.ToUpper(words(dg1.Field(4)))
	}
	made := ""
	if n := str(dg1.Field(20), 1); n != "" { // diagnosis identifier, from v2.5
		made = x.unique("DG", n)
	} else {
		made = x.unique("DG", hash(x.patient, visit, what))
	}
	if x.takenBack(dg1.Field(21)) {
		x.d.Delete = append(x.d.Delete, fhir.MakeRef("Condition", made))
		return nil
	}
	f := fhir.M{"subject": x.subject(), "code": code}
	if visit == "" {
		f["category"] = []fhir.CodeableConcept{fhir.Code(conditionCategory, "problem-list-item", "Problem List Item")}
		f["clinicalStatus"] = fhir.Code(conditionClinical, "active", "Active")
	} else {
		f["category"] = []fhir.CodeableConcept{fhir.Code(conditionCategory, "encounter-diagnosis", "Encounter Diagnosis")}
		f["encounter"] = fhir.Reference{Reference: "Encounter/" + visit}
	}
	sc := &scope{own: dg1}
	x.fill("Condition", f, sc, "DG1")
	ref := x.addFrom(sc, "Condition", made, f)
	use := fhir.M{"condition": fhir.Reference{Reference: string(ref), Display: code.Words()}}
	if role, ok := x.meaningOf("diagnosis-role", dg1.Field(6)); ok {
		use["use"] = fhir.Code(role.system, role.code, role.display)
	}
	return use
}

// problems are PPR: additions, changes and withdrawals of the problem list. HL7 v2.4 §12.3.3
func (x *mapper) problems(segs []Segment) *fhir.Issue {
	if issue := x.who(segs); issue != nil {
		return issue
	}
	n := 0
	visit := x.visitID(first(segs, "PV1"))
	for _, s := range segs {
		if s.name != "PRB" {
			continue
		}
		n++
		f := fhir.M{"subject": x.subject(), "category": []fhir.CodeableConcept{fhir.Code(conditionCategory, "problem-list-item", "Problem List Item")}}
		if visit != "" {
			f["encounter"] = fhir.Reference{Reference: "Encounter/" + visit}
		}
		sc := &scope{own: s}
		x.fill("Condition", f, sc, "PRB")
		if f["code"] == nil {
			x.note(fhir.Required, s.Place(3), "a problem that does not say what it is was left out")
			continue
		}
		made := ""
		if number := str(s.Field(4), 1); number != "" {
			made = x.unique("PB", number)
		} else {
			made = x.unique("PB", hash(x.patient, key(s.Field(3))))
		}
		if x.h.does == "delete" || x.takenBack(s.Field(1)) {
			f["verificationStatus"] = fhir.Code("http://terminology.hl7.org/CodeSystem/condition-ver-status", "entered-in-error", "Entered in Error")
			delete(f, "clinicalStatus") // FHIR R4 condition.html con-5
			sc.cleared = append(sc.cleared, "clinicalStatus")
		}
		x.addFrom(sc, "Condition", made, f)
	}
	if n == 0 {
		return fhir.Errorf(fhir.Required, "a problem message needs PRB, the problem").At("PRB")
	}
	return nil
}

// procedure makes a Procedure of PR1. HL7 v2.4 §6.5.4
func (x *mapper) procedure(pr1 Segment, visit string) {
	code := x.coded3(pr1)
	if code.IsZero() {
		return
	}
	made := ""
	if n := str(pr1.Field(19), 1); n != "" { // procedure identifier, from v2.5
		made = x.unique("PR", n)
	} else {
		before := x.m.noted()
		made = x.unique("PR", hash(x.patient, key(pr1.Field(3)), words(pr1.Field(4)), str(pr1.Field(5), 0)))
		x.m.forget(before)
	}
	if x.takenBack(pr1.Field(20)) {
		x.d.Delete = append(x.d.Delete, fhir.MakeRef("Procedure", made))
		return
	}
	f := fhir.M{"subject": x.subject(), "code": code}
	if visit != "" {
		f["encounter"] = fhir.Reference{Reference: "Encounter/" + visit}
	}
	sc := &scope{own: pr1}
	x.fill("Procedure", f, sc, "PR1")
	x.addFrom(sc, "Procedure", made, f)
}
