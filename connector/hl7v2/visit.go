package hl7v2

import (
	"strings"

	"tombolo/fhir"
)

// PV1 and PV2: the visit. HL7 v2.4 §3.4.3, §3.4.4

// visitID is the visit number, or where there is none a name made of the patient and the time of admission; "" if there is no visit.
func (x *mapper) visitID(pv1 Segment, segs []Segment) string {
	if n := str(pv1.Field(19), 1); n != "" {
		return id(n)
	}
	if n := str(pv1.Field(50), 1); n != "" {
		return id(n)
	}
	class := strings.ToUpper(str(pv1.Field(2), 0))
	if !pv1.Exists() || class == "N" || !strings.Contains(adtVisits, " "+x.event+" ") {
		return ""
	}
	admitted := str(pv1.Field(44), 1)
	if admitted == "" && !strings.Contains(" A08 A11 A12 A13 ", " "+x.event+" ") {
		admitted = str(first(segs, "EVN").Field(6), 1)
	}
	if admitted == "" {
		x.note(fhir.Required, "PV1-19", "the visit has neither a visit number nor a time of admission, so it cannot be told from others and was left out")
		return ""
	}
	x.note(fhir.Required, "PV1-19", "the visit has no visit number; it is known by its patient and time of admission")
	return id("V", hash(x.patient, admitted))
}

// status is how far a visit has come, by the event and by what PV1 says. FHIR R4 valueset-encounter-status.html
func (x *mapper) status(pv1 Segment) string {
	switch x.event {
	case "A11", "A27", "A38": // cancel admit, cancel pending admit, cancel pre-admit
		return "cancelled"
	case "A05", "A14":
		return "planned"
	case "A03":
		return "finished"
	case "A13", "A25": // cancel discharge, cancel pending discharge
		return "in-progress"
	}
	if str(pv1.Field(45), 1) != "" {
		return "finished"
	}
	if strings.ToUpper(str(pv1.Field(2), 0)) == "P" {
		return "planned"
	}
	return "in-progress"
}

func (x *mapper) encounter(visit string, segs []Segment, diagnoses []fhir.M) {
	pv1, pv2, evn := first(segs, "PV1"), first(segs, "PV2"), first(segs, "EVN")
	status := x.status(pv1)
	f := fhir.M{"status": status, "class": x.class(pv1), "subject": x.subject(), "participant": x.participants(pv1), "diagnosis": diagnoses,
		"serviceProvider": x.organisation(), "hospitalization": x.hospitalization(pv1)}
	if n := str(pv1.Field(19), 1); n != "" {
		kind := fhir.Code(v2Table+"0203", "VN", "Visit number")
		system := x.systemOf(x.o.Authority)
		if a := authority(pv1.Field(19).Comp(4)); a != "" && a != "VISITID" {
			system = x.systemOf(a)
		}
		f["identifier"] = []fhir.Identifier{{Type: &kind, System: system, Value: n}}
	}
	period := fhir.Period{Start: x.dateTime(pv1.Field(44), "PV1-44")}
	switch {
	case status == "in-progress" || status == "planned": // what PV1-45 may still say was cancelled
	case str(pv1.Field(45), 1) != "":
		period.End = x.dateTime(pv1.Field(45), "PV1-45")
	case status == "finished":
		for _, n := range [...]int{6, 2} { // when it happened, else when it was recorded
			if period.End == "" {
				period.End = x.dateTime(evn.Field(n), evn.Place(n))
			}
		}
	}
	f["period"] = period
	if t, ok := x.coded(pv1.Field(18), v2Table+"0018"); ok {
		f["type"] = []fhir.CodeableConcept{t}
	}
	if t, ok := x.coded(pv1.Field(10), v2Table+"0069"); ok {
		f["serviceType"] = t
	}
	if why := x.concept(pv2.Field(3)); !why.IsZero() {
		f["reasonCode"] = []fhir.CodeableConcept{why}
	}
	f["location"] = x.locations(pv1, status)
	x.add("Encounter", visit, f)
}

// class is PV1-2; where a sender leaves it out, it is not guessed.
func (x *mapper) class(pv1 Segment) fhir.Coding {
	code := strings.ToUpper(str(pv1.Field(2), 1))
	if c, ok := classes[code]; ok {
		return fhir.Coding{System: fhir.SystemActCode, Code: c[0], Display: c[1]}
	}
	if code == "" {
		return fhir.Coding{System: "http://terminology.hl7.org/CodeSystem/v3-NullFlavor", Code: "NI", Display: "NoInformation"}
	}
	return fhir.Coding{System: v2Table + "0004", Code: code}
}

func (x *mapper) participants(pv1 Segment) []fhir.M {
	var out []fhir.M
	for _, p := range [...]struct {
		field         int
		code, display string
	}{{7, "ATND", "attender"}, {8, "REF", "referrer"}, {9, "CON", "consultant"}, {17, "ADM", "admitter"}} {
		for rep := range pv1.Field(p.field).Reps() {
			if who, ok := x.practitioner(rep); ok {
				out = append(out, fhir.M{"type": []fhir.CodeableConcept{fhir.Code(v3Participation, p.code, p.display)}, "individual": who})
			}
		}
	}
	return out
}

// locations are where the patient is, was last (PV1-6) and will be (PV1-42); each said in words, since the messages tell no more.
func (x *mapper) locations(pv1 Segment, status string) []fhir.M {
	state := "active"
	switch status {
	case "planned":
		state = "planned"
	case "finished", "cancelled":
		state = "completed"
	}
	var out []fhir.M
	for _, l := range [...]struct {
		field int
		state string
	}{{3, state}, {6, "completed"}, {42, "planned"}} {
		if words := place(pv1.Field(l.field)); words != "" && !(l.field != 3 && words == place(pv1.Field(3))) {
			out = append(out, fhir.M{"location": fhir.Reference{Type: "Location", Display: words}, "status": l.state})
		}
	}
	return out
}

// hospitalization: how the patient came and went. ITK puts the NHS Data Dictionary's codes, two characters, into PV1-4, PV1-14 and PV1-36.
func (x *mapper) hospitalization(pv1 Segment) fhir.M {
	national := func(field int, uk, table string) (fhir.CodeableConcept, bool) {
		system := v2Table + table
		if len(str(pv1.Field(field), 1)) == 2 {
			system = uk
		}
		return x.coded(pv1.Field(field), system)
	}
	h := fhir.M{}
	if c, ok := national(4, codeAdmissionMethod, "0007"); ok && c.Coding != nil && c.Coding[0].System == codeAdmissionMethod {
		h["extension"] = []fhir.M{{"url": extAdmissionMethod, "valueCodeableConcept": c}}
	}
	if c, ok := national(14, codeSourceAdmission, "0023"); ok {
		h["admitSource"] = c
	}
	if c, ok := national(36, codeDischargeTo, "0112"); ok {
		h["dischargeDisposition"] = c
	}
	return h
}
