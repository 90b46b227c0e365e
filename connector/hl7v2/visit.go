package hl7v2

import (
	"slices"
	"strings"

	"tombolo/fhir"
)

// PV1 and PV2: the visit. HL7 v2.4 §3.4.3, §3.4.4

// visitID is the visit number, or where there is none a name made of the patient and the time of admission; "" if there is no visit.
func (x *mapper) visitID(pv1 Segment) string {
	if n := str(pv1.Field(19), 1); n != "" {
		return id(n)
	}
	if n := str(pv1.Field(50), 1); n != "" {
		return id(n)
	}
	class := strings.ToUpper(peek(pv1.Field(2), 0))
	if !pv1.Exists() || class == "N" || x.h.does != "visit" {
		return ""
	}
	admitted := str(pv1.Field(44), 1)
	if admitted == "" && (x.h.turn <= 2 || x.h.assume != "" && x.event != "A08") { // of a cancel or update, the event's time is its own
		admitted = str(first(x.segs, "EVN").Field(6), 1)
	}
	if admitted == "" {
		x.note(fhir.Required, pv1.Place(19), "the visit has neither a visit number nor a time of admission, so it cannot be told from others and was left out")
		return ""
	}
	x.note(fhir.Required, pv1.Place(19), "the visit has no visit number; it is known by its patient and time of admission")
	return id("V", hash(x.patient, admitted))
}

// status is how far a visit has come, by the event and by what PV1 says; assumed where neither says so outright.
// FHIR R4 valueset-encounter-status.html
func (x *mapper) status(pv1 Segment) (status string, assumed bool) {
	ended := str(pv1.Field(45), 1) != "" && !slices.Contains(x.h.clears, "period.end") // what PV1-45 may still say was cancelled
	planned := strings.ToUpper(peek(pv1.Field(2), 0)) == "P"
	switch {
	case x.h.status != "" && x.h.status != "in-progress":
		return x.h.status, false
	case ended:
		return "finished", false
	case planned:
		return "planned", x.h.status == ""
	case x.h.status != "":
		return x.h.status, false
	case x.h.assume != "":
		return x.h.assume, true
	}
	return "unknown", true
}

func (x *mapper) encounter(visit string, segs []Segment, pv1 Segment, diagnoses []fhir.M) {
	evn := first(segs, "EVN")
	status, assumed := x.status(pv1)
	f := fhir.M{"status": status, "subject": x.subject(), "diagnosis": diagnoses, "serviceProvider": x.organisation()}
	sc := &scope{own: pv1, segs: segs, vars: map[string]string{"status": status}}
	if assumed {
		sc.assumed = append(sc.assumed, "status")
	}
	if pv1.Exists() {
		x.fill("Encounter", f, sc, "PV1", "PV2", "PID")
	}
	if f["class"] == nil { // where a sender leaves it out, it is not guessed
		f["class"] = fhir.Coding{System: "http://terminology.hl7.org/CodeSystem/v3-NullFlavor", Code: "NI", Display: "NoInformation"}
		sc.assumed = append(sc.assumed, "class")
	}
	x.visitNumbers(f, pv1)
	period, _ := f["period"].(fhir.M)
	if period == nil {
		period = fhir.M{}
	}
	switch {
	case status == "in-progress" || status == "planned" || status == "onleave":
	case str(pv1.Field(45), 1) != "":
		period["end"] = x.dateTime(pv1.Field(45), "PV1-45")
	case status == "finished" && !assumed:
		for _, n := range [...]int{6, 2} { // when it happened, else when it was recorded
			if end, _ := period["end"].(string); end == "" {
				period["end"] = x.dateTime(evn.Field(n), evn.Place(n))
			}
		}
	}
	if pv1.Field(45).Null() {
		sc.cleared = append(sc.cleared, "period.end")
	}
	f["period"] = period
	x.onePlaceOnce(f)
	for _, path := range x.h.clears {
		top, part, _ := strings.Cut(path, ".")
		if inner, ok := f[top].(fhir.M); !ok || empty(inner[part]) {
			sc.cleared = append(sc.cleared, path)
		}
	}
	x.addFrom(sc, "Encounter", visit, f)
}

// visitNumbers are PV1-19 and PV1-50, as the visit's identifiers.
func (x *mapper) visitNumbers(f fhir.M, pv1 Segment) {
	var ids []fhir.Identifier
	for _, n := range [...]int{19, 50} {
		v := pv1.Field(n)
		number := str(v, 1)
		if number == "" || len(ids) > 0 && ids[0].Value == number {
			continue
		}
		kind := fhir.Code(v2Table+"0203", "VN", "Visit number")
		system := x.systemOf(x.o.Authority)
		if a := authority(v.Comp(4)); a != "" && a != "VISITID" {
			system = x.systemOf(a)
		}
		ids = append(ids, fhir.Identifier{Type: &kind, System: system, Value: number})
	}
	f["identifier"] = ids
}

// onePlaceOnce leaves out places that are said again: many senders repeat the present place as the prior or pending one.
func (x *mapper) onePlaceOnce(f fhir.M) {
	all, _ := f["location"].([]any)
	seen := map[string]bool{}
	f["location"] = slices.DeleteFunc(all, func(l any) bool {
		m, _ := l.(fhir.M)
		r, _ := m["location"].(fhir.Reference)
		was := seen[r.Display]
		seen[r.Display] = true
		return was
	})
}
