package hl7v2

import "tombolo/fhir"

// adt maps one patient's part of an ADT message: the person, who is close to them, their allergies, the visit, and its diagnoses and
// procedures; or what becomes of a patient's number, account or visit. maps/messages/ADT.yaml says which event is which.
func (x *mapper) adt(segs []Segment) *fhir.Issue {
	if issue := x.who(segs); issue != nil {
		return issue
	}
	mrg := first(segs, "MRG")
	switch x.h.does {
	case "merge":
		if !mrg.Exists() {
			return fhir.Errorf(fhir.Required, "a merge needs MRG, the number that was merged").At("MRG")
		}
		if before := x.m.noted(); !mrg.Field(3).Empty() && x.mergeAccount(mrg) != nil {
			x.m.forget(before)
		}
		return x.merged(mrg)
	case "account", "move-account":
		return x.account(mrg)
	case "move-visit", "renumber-visit":
		return x.moveVisits(segs)
	case "link", "unlink", "gone":
		return nil
	}
	x.contacts(segs)
	visit, pv1 := "", first(segs, "PV1")
	if x.h.does != "person" {
		visit = x.visitID(pv1)
	} else if peek(pv1.Field(2), 0) == "N" { // these tell of the person: their PV1 says "no visit"
		str(pv1.Field(2), 0)
	}
	x.background(segs)
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
		x.encounter(visit, segs, pv1, diagnoses)
	}
	x.measurements(segs, visit)
	return nil
}

// contacts are the people close to the patient.
func (x *mapper) contacts(segs []Segment) {
	for _, s := range segs {
		if s.name == "NK1" {
			x.contact(s)
		}
	}
}

// background is what messages of many kinds say of the patient besides their subject: the allergies.
func (x *mapper) background(segs []Segment) {
	for _, s := range segs {
		switch s.name {
		case "AL1":
			x.allergy(s)
		case "IAM":
			x.adverse(s)
		}
	}
}

func (x *mapper) accountOf(v Value) (ref, number string) {
	if number = str(v, 1); number == "" {
		return "", ""
	}
	return id("AC", number), number
}

// account tells of account numbers: changed or merged (A35, A41, A49: MRG-3 is now PID-18), or moved here from another patient (A44).
// HL7 v2.4 §3.3.35, §3.3.44, §3.3.49
func (x *mapper) account(mrg Segment) *fhir.Issue {
	if !mrg.Exists() {
		return fhir.Errorf(fhir.Required, "a change of account needs MRG, the number that it had").At("MRG")
	}
	if x.h.does == "move-account" {
		n := first(x.segs, "PID").Field(18)
		if n.Empty() {
			n = mrg.Field(3)
		}
		made, number := x.accountOf(n)
		if made == "" {
			return fhir.Errorf(fhir.Required, "the message does not say which account was moved").At("PID-18")
		}
		x.addAccount(made, number, "active", "")
		x.note(fhir.Informational, mrg.Place(3), "an account was moved from another patient: its visits are moved by messages of their own (A45)")
		return nil
	}
	return x.mergeAccount(mrg)
}

func (x *mapper) mergeAccount(mrg Segment) *fhir.Issue {
	old, oldNumber := x.accountOf(mrg.Field(3))
	now, number := x.accountOf(first(x.segs, "PID").Field(18))
	switch {
	case old == "":
		return fhir.Errorf(fhir.Required, "the message does not say which account number was changed").At("MRG-3")
	case now == "":
		return fhir.Errorf(fhir.Required, "the message does not say which account number is right").At("PID-18")
	case now == old:
		return fhir.Errorf(fhir.BusinessRule, "the message names the same account number twice: an account cannot be merged into itself").At("MRG-3")
	}
	x.addAccount(now, number, "active", "")
	x.addAccount(old, oldNumber, "inactive", now)
	return nil
}

func (x *mapper) addAccount(made, number, status, partOf string) {
	kind := fhir.Code(v2Table+"0203", "AN", "Account number")
	f := fhir.M{"status": status, "subject": []fhir.Reference{x.subject()}, "identifier": []fhir.Identifier{{Type: &kind, System: x.systemOf(x.o.Authority), Value: number}}}
	if partOf != "" {
		f["partOf"] = fhir.Reference{Reference: "Account/" + partOf}
	}
	x.add("Account", made, f)
}

// moveVisits puts visits under this patient (A45), or gives them another number (A42, A50): each MRG-5 is the visit in the PV1 after it.
// HL7 v2.4 §3.3.42, §3.3.45, §3.3.50
func (x *mapper) moveVisits(segs []Segment) *fhir.Issue {
	var mrg Segment
	n := 0
	move := func(pv1 Segment) {
		prior := str(mrg.Field(5), 1)
		if prior == "" {
			prior = str(mrg.Field(6), 1)
		}
		visit := x.visitID(pv1)
		if visit == "" && prior != "" {
			visit = id(prior)
		}
		if visit == "" {
			return
		}
		n++
		if prior != "" && id(prior) != visit {
			if x.d.Renamed == nil {
				x.d.Renamed = map[fhir.Ref]fhir.Ref{}
			}
			x.d.Renamed[fhir.MakeRef("Encounter", id(prior))] = fhir.MakeRef("Encounter", visit)
		}
		x.encounter(visit, segs, pv1, nil)
	}
	for _, s := range segs {
		switch s.name {
		case "MRG":
			if mrg.Exists() { // the one before had no PV1
				move(Segment{})
			}
			mrg = s
		case "PV1":
			if mrg.Exists() {
				move(s)
				mrg = Segment{}
			}
		}
	}
	if mrg.Exists() {
		move(Segment{})
	}
	if n == 0 {
		return fhir.Errorf(fhir.Required, "the message does not say which visit was moved").At("MRG-5")
	}
	return nil
}

// kept takes a message of which only the patient stands in the record. The rest is kept as it came.
func (x *mapper) kept(segs []Segment) *fhir.Issue {
	if first(segs, "PID").Exists() {
		if issue := x.who(segs); issue != nil {
			x.d.Issues = append(x.d.Issues, issue)
		}
	}
	x.note(fhir.Informational, "MSH-9", "messages of this kind are kept as they came and are not part of the shared record")
	return nil
}
