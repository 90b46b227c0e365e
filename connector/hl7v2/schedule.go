package hl7v2

import (
	"strconv"
	"strings"
	"time"

	"tombolo/fhir"
)

// SIU: appointments. HL7 v2.4 §10.4

func (x *mapper) appointments(segs []Segment) *fhir.Issue {
	if x.h.does == "slot" {
		return x.kept(segs)
	}
	if issue := x.who(segs); issue != nil {
		return issue
	}
	sch := first(segs, "SCH")
	if !sch.Exists() {
		return fhir.Errorf(fhir.Required, "a scheduling message needs SCH, the appointment").At("SCH")
	}
	number, field := str(sch.Field(2), 1), 2
	if number == "" {
		number, field = str(sch.Field(1), 1), 1
	}
	if number == "" {
		return fhir.Errorf(fhir.Required, "the appointment has no number, so that a change to it could never be told from a new one").At("SCH-2")
	}
	ns := authority(sch.Field(field).Comp(2))
	if ns == "" {
		ns = x.o.Authority
	}
	status, assumed := x.appointmentStatus(sch)
	f := fhir.M{"identifier": []fhir.Identifier{{System: x.systemOf(ns), Value: number}}, "status": status}
	sc := &scope{own: sch, segs: segs}
	if assumed {
		sc.assumed = append(sc.assumed, "status")
	}
	x.fill("Appointment", f, sc, "SCH")
	for _, s := range segs {
		switch s.name {
		case "AIS", "AIP", "AIL", "AIG":
			own := *sc
			own.own = s
			x.fillFrom(x.mp.blocks["Appointment"][s.name], f, &own)
			sc.cleared = own.cleared
		}
	}
	start, end := x.when(sch, segs)
	f["start"], f["end"] = start, end
	if start == "" && (status == "booked" || status == "pending") {
		f["status"] = "proposed" // FHIR R4 appointment.html app-3: only those without a time; unless the time is known already
		sc.assumed = append(sc.assumed, "status")
		x.note(fhir.Required, "SCH-11", "the appointment does not say when it begins")
	}
	if start != "" && end == "" { // FHIR R4 appointment.html app-2: both or neither
		f["end"] = start
		x.note(fhir.Required, "SCH-9", "the appointment does not say how long it lasts; it is shown as ending when it begins")
	}
	if f["status"] == "cancelled" {
		if why := x.concept(sch.Field(6)); !why.IsZero() {
			f["cancelationReason"] = why
		}
	}
	f["description"] = x.serviceWords(segs)
	if !first(segs, "AIS").Exists() {
		sc.assumed = append(sc.assumed, "description")
	}
	var notes []string
	for _, s := range segs {
		if s.Name() == "NTE" {
			notes = append(notes, comment(s))
		}
	}
	f["comment"] = text(strings.Join(notes, "\n"))
	attendees := x.attendees(sch, segs)
	if f["participant"] = attendees; len(attendees) == 1 { // a cancellation need not say again who would have come
		sc.assumed = append(sc.assumed, "participant")
	}
	x.addFrom(sc, "Appointment", id(number), f)
	return nil
}

// appointmentStatus: the event decides; where it only tells of a change, SCH-25 may. HL7 table 0278
func (x *mapper) appointmentStatus(sch Segment) (status string, assumed bool) {
	said := x.translate("appointment-status", sch.Field(25))
	switch {
	case x.h.status != "" && x.h.status != "booked":
		return x.h.status, false
	case said != "":
		return said, false
	case x.h.status != "":
		return x.h.status, false
	}
	return x.h.assume, true
}

// when reads TQ1, which has taken its place since version 2.5, else SCH-11 (TQ: start and end), else the resources' own times; without an end, the duration makes one.
func (x *mapper) when(sch Segment, segs []Segment) (start, end string) {
	for _, s := range segs {
		if s.name == "RGS" {
			break
		}
		if s.name == "TQ1" && start == "" {
			start, end = x.instant(s.Field(7), s.Place(7)), x.instant(s.Field(8), s.Place(8))
		}
	}
	if start == "" {
		start, end = x.instant(sch.Field(11).Comp(4), "SCH-11"), x.instant(sch.Field(11).Comp(5), "SCH-11")
	}
	minutes := lasting(sch, 9, end)
	for _, s := range segs {
		at, length := 0, 0
		switch s.Name() {
		case "AIS":
			at, length = 4, 7
		case "AIP", "AIL":
			at, length = 6, 9
		case "AIG":
			at, length = 8, 11
		default:
			continue
		}
		if start == "" {
			start = x.instant(s.Field(at), s.Place(at))
		}
		if minutes == 0 {
			minutes = lasting(s, length, end)
		}
	}
	if t, err := time.Parse(time.RFC3339, start); err == nil && end == "" && minutes > 0 {
		end = formatTime(t.Add(minutes).In(x.o.Location), 14)
	}
	return start, end
}

// lasting is a length of time in two fields; of what has an end it is not wanted.
func lasting(s Segment, n int, end string) time.Duration {
	of, unit := peek(s.Field(n), 1), peek(s.Field(n+1), 1)
	d := duration(of, unit)
	if end != "" || d == 0 {
		return 0
	}
	str(s.Field(n), 1)
	str(s.Field(n+1), 1)
	return d
}

// duration reads a length with its unit: minutes unless it says seconds or hours.
func duration(n, unit string) time.Duration {
	v, err := strconv.ParseFloat(n, 64)
	if err != nil || v <= 0 || v > 100_000 {
		return 0
	}
	each := time.Minute
	switch u := strings.ToUpper(unit); {
	case strings.HasPrefix(u, "S"):
		each = time.Second
	case strings.HasPrefix(u, "H"):
		each = time.Hour
	}
	return time.Duration(v * float64(each))
}

// serviceWords is what the appointment is, for people: the service, else the reason.
func (x *mapper) serviceWords(segs []Segment) string {
	if w := x.wordsOf(first(segs, "AIS").Field(3)); w != "" {
		return w
	}
	sch := first(segs, "SCH")
	for _, n := range [...]int{8, 7} {
		if w := x.wordsOf(sch.Field(n)); w != "" {
			return w
		}
	}
	return ""
}

// attendees: the patient, and the persons, places and things of AIP, AIL and AIG.
func (x *mapper) attendees(sch Segment, segs []Segment) []fhir.M {
	part := func(who fhir.Reference, kind ...fhir.CodeableConcept) fhir.M {
		m := fhir.M{"actor": who, "status": "accepted", "type": kind}
		prune(m)
		return m
	}
	out := []fhir.M{part(x.subject())}
	practitioners := 0
	for _, s := range segs {
		switch s.Name() {
		case "AIP":
			if who, ok := x.practitioner(s.Field(3)); ok {
				practitioners++
				var role []fhir.CodeableConcept
				if c := x.concept(s.Field(4)); !c.IsZero() {
					role = append(role, c)
				}
				out = append(out, part(who, role...))
			}
		case "AIL":
			if where := locationWords(s.Field(3)); where != "" {
				out = append(out, part(fhir.Reference{Type: "Location", Display: where}))
			}
		case "AIG":
			if what := x.wordsOf(s.Field(3)); what != "" {
				out = append(out, part(fhir.Reference{Type: "Device", Display: what}))
			}
		}
	}
	if pv1 := first(segs, "PV1"); practitioners == 0 {
		if who, ok := x.practitioner(pv1.Field(7)); ok {
			out = append(out, part(who))
		}
	}
	return out
}
