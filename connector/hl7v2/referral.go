package hl7v2

import (
	"cmp"
	"strings"

	"tombolo/fhir"
)

// REF and RRI: referrals, and the answers to them. RF1 is the referral, PRD who refers and to whom; diagnoses, allergies and results may
// come along. HL7 v2.4 §11.5, §11.6

func (x *mapper) referrals(segs []Segment) *fhir.Issue {
	if !first(segs, "PID").Exists() && x.code == "RRI" {
		x.note(fhir.Informational, "PID", "an answer that does not say whose referral it answers was kept as it came")
		return nil
	}
	if issue := x.who(segs); issue != nil {
		return issue
	}
	x.contacts(segs)
	x.background(segs)
	visit := x.visitID(first(segs, "PV1"))
	rf1 := first(segs, "RF1")
	number := str(rf1.Field(6), 1)
	if number == "" {
		number = str(rf1.Field(11), 1)
	}
	switch {
	case !rf1.Exists():
		x.note(fhir.Required, "RF1", "the message has no RF1, so that it is no referral; what else it says was taken")
	case number == "":
		x.note(fhir.Required, "RF1-6", "a referral without a number was left out: a change to it could never be told from a new one")
	default:
		x.referral(segs, rf1, number, visit)
	}
	x.reports(fromFirst(segs, "OBR", "ORC"), visit)
	return nil
}

// fromFirst is the segments from the first of these names on.
func fromFirst(segs []Segment, names ...string) []Segment {
	for i, s := range segs {
		for _, n := range names {
			if s.name == n {
				return segs[i:]
			}
		}
	}
	return nil
}

func (x *mapper) referral(segs []Segment, rf1 Segment, number, visit string) {
	sc := &scope{own: rf1, segs: segs}
	ns := authority(rf1.Field(6).Comp(2))
	if ns == "" {
		ns = x.o.Authority
	}
	numbers := []fhir.Identifier{{System: x.systemOf(ns), Value: number}}
	if n := str(rf1.Field(11), 1); n != "" { // the referrer's own
		numbers = append(numbers, fhir.Identifier{System: x.systemOf(cmp.Or(authority(rf1.Field(11).Comp(2)), x.o.Authority)), Value: n})
	}
	f := fhir.M{"intent": "order", "subject": x.subject(), "identifier": numbers}
	if x.h.status != "" && x.h.turn > 1 {
		f["status"] = x.h.status
	}
	x.fill("ServiceRequest", f, sc, "RF1")
	if f["status"] == nil {
		if f["status"] = x.h.status; x.h.status == "" {
			f["status"] = x.h.assume
			sc.assumed = append(sc.assumed, "status")
		}
	}
	if visit != "" {
		f["encounter"] = fhir.Reference{Reference: "Encounter/" + visit}
	}
	var to []fhir.Reference
	var notes []string
	for _, s := range segs {
		switch s.name {
		case "PRD":
			before := x.m.noted()
			who, ok := x.provider(s)
			switch role := strings.ToUpper(str(s.Field(1), 1)); {
			case !ok:
			case role == "RP":
				f["requester"] = who
			case role == "RT":
				to = append(to, who)
			default:
				x.m.forget(before)
			}
		case "DG1":
			x.fillFrom(x.mp.blocks["ServiceRequest"]["DG1"], f, &scope{x: x, own: s})
		case "OBR", "ORC":
			// their notes are theirs
			goto done
		case "NTE":
			notes = append(notes, comment(s))
		}
	}
done:
	f["performer"] = to
	if t := text(strings.Join(notes, "\n")); t != "" {
		f["note"] = []fhir.Annotation{{Text: t}}
	}
	x.addFrom(sc, "ServiceRequest", x.unique("RF", number), f)
}

// provider reads PRD: a person (2) with their numbers (7), or a place (4). HL7 v2.4 §11.6.3
func (x *mapper) provider(prd Segment) (fhir.Reference, bool) {
	r := fhir.Reference{Type: "Practitioner"}
	n := prd.Field(2)
	var parts []string
	for _, c := range [...]int{5, 2, 3, 1, 4} {
		if s := str(n, c); s != "" {
			parts = append(parts, s)
		}
	}
	r.Display = strings.Join(parts, " ")
	if r.Display == "" {
		r.Type, r.Display = "Organization", locationWords(prd.Field(4))
	}
	if code := str(prd.Field(7), 1); code != "" {
		r.Identifier = &fhir.Identifier{System: x.systemOf(str(prd.Field(7), 2)), Value: code}
	}
	return r, r.Display != "" || r.Identifier != nil
}
