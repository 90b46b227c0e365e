package hl7v2

import (
	"strconv"
	"strings"
	"time"

	"tombolo/fhir"
)

// visitEvents are what an Encounter's status is told by: the first time, and again. HL7 v2.4 §3.3
var visitEvents = map[string]struct{ event, again, structure string }{
	"planned": {"A05", "A05", "ADT_A05"}, "arrived": {"A04", "A08", "ADT_A01"}, "triaged": {"A04", "A08", "ADT_A01"}, "in-progress": {"A01", "A08", "ADT_A01"},
	"onleave": {"A21", "A21", "ADT_A21"}, "finished": {"A03", "A03", "ADT_A03"}, "cancelled": {"A11", "A11", "ADT_A09"}, "entered-in-error": {"A23", "A23", "ADT_A21"},
	"unknown": {"A08", "A08", "ADT_A01"},
}

// visit tells of an Encounter.
func (w *writer) visit(f *fhir.Resource, again bool) error {
	k, ok := visitEvents[f.Text("status")]
	if !ok {
		return fhir.Errorf(fhir.NotSupported, "no event tells of a visit of this status").At("Encounter.status")
	}
	if k.event == "A01" && f.Text("class.code") != "IMP" && f.Text("class.code") != "ACUTE" && f.Text("class.code") != "NONAC" && f.Text("class.code") != "SS" {
		k.event = "A04" // registered, not admitted
	}
	if again {
		k.event = k.again
	}
	w.head(f, "ADT", k.event, k.structure)
	w.pid()
	return w.pv1(f)
}

// pv1 writes the visit, as maps/segments/PV1.yaml reads it.
func (w *writer) pv1(f *fhir.Resource) error {
	o := w.o
	ids := f.Identifiers()
	if len(ids) == 0 {
		return fhir.Errorf(fhir.NotSupported, "a visit without a number cannot be told from others").At("Encounter.identifier")
	}
	class := o.codeFor("patient-class", f.Text("class.code"))
	if class == "" {
		class = f.Text("class.code")
	}
	out := Fields{1: "1", 2: class, 19: o.cx(ids[0]), 44: ts(f.Text("period.start")), 45: ts(f.Text("period.end"))}
	if len(ids) > 1 {
		out[50] = o.cx(ids[1])
	}
	if s := allOf[fhir.CodeableConcept](f, "serviceType"); len(s) > 0 && len(s[0].Coding) > 0 {
		out[10] = s[0].Coding[0].Code
	}
	for l := range f.Value().All("location") {
		field := map[string]int{"completed": 6, "planned": 42}[l.Text("status")]
		if field == 0 || f.Text("status") == "finished" || f.Text("status") == "planned" {
			field = 3
		}
		if _, taken := out[field]; !taken {
			out[field] = l.Text("location.display")
		}
	}
	for p := range f.Value().All("participant") {
		field := map[string]int{"ATND": 7, "REF": 8, "CON": 9, "ADM": 17}[p.Text("type.coding.code")]
		var who fhir.Reference
		if field > 0 && p.Get("individual").Decode(&who) == nil {
			out[field] = w.o.xcn(who)
		}
	}
	w.e.Segment("PV1", out)
	return nil
}

// within writes the visit in which something happened, if the Bundle holds it.
func (w *writer) within(ref string) {
	if v := w.find(ref); v != nil && v.Type() == "Encounter" {
		_ = w.pv1(v) // one without a number is not told of here
	}
}

// appointment tells of a booking. HL7 v2.4 §10.4
func (w *writer) appointment(f *fhir.Resource, again bool) error {
	ids := f.Identifiers()
	if len(ids) == 0 {
		return fhir.Errorf(fhir.NotSupported, "an appointment without a number cannot be told from others").At("Appointment.identifier")
	}
	event := "S12"
	switch status := f.Text("status"); {
	case status == "cancelled":
		event = "S15"
	case status == "noshow":
		event = "S26"
	case status == "entered-in-error":
		event = "S17"
	case again || status == "arrived" || status == "checked-in" || status == "fulfilled":
		event = "S14"
	}
	w.head(f, "SIU", event, "SIU_S12")
	o := w.o
	start, end := f.Text("start"), f.Text("end")
	sch := Fields{1: o.ei(ids[0]), 2: o.ei(ids[0]), 11: Comp("", "", "", ts(start), ts(end)), 25: o.codeFor("appointment-status", f.Text("status"))}
	if t := allOf[fhir.CodeableConcept](f, "reasonCode"); len(t) > 0 {
		sch[7] = o.ce(t[0])
	}
	if why := f.Concept("cancelationReason"); !why.IsZero() {
		sch[6] = o.ce(why)
	}
	if c := f.Concept("appointmentType"); !c.IsZero() {
		sch[8] = o.ce(c)
	}
	minutes := ""
	if s, err1 := time.Parse(time.RFC3339, start); err1 == nil {
		if e, err2 := time.Parse(time.RFC3339, end); err2 == nil && e.After(s) {
			minutes = strconv.Itoa(int(e.Sub(s).Minutes()))
			sch[9], sch[10] = minutes, "min"
		}
	}
	w.e.Segment("SCH", sch)
	w.notes(f.Text("comment"))
	w.pid()
	w.e.Segment("RGS", Fields{1: "1"})
	service := fhir.CodeableConcept{Text: f.Text("description")}
	if s := allOf[fhir.CodeableConcept](f, "serviceType"); len(s) > 0 {
		service = s[0]
	}
	if !service.IsZero() {
		w.e.Segment("AIS", Fields{1: "1", 3: o.ce(service), 4: ts(start)})
	}
	for p := range f.Value().All("participant") {
		var who fhir.Reference
		if p.Get("actor").Decode(&who) != nil {
			continue
		}
		switch kind, _, _ := strings.Cut(who.Reference, "/"); {
		case who.Type == "Practitioner" || kind == "Practitioner":
			w.e.Segment("AIP", Fields{1: "1", 3: o.xcn(who), 6: ts(start)})
		case who.Type == "Location" || kind == "Location":
			w.e.Segment("AIL", Fields{1: "1", 3: who.Display, 6: ts(start)})
		case who.Type == "Device" || kind == "Device":
			w.e.Segment("AIG", Fields{1: "1", 3: Comp("", who.Display), 8: ts(start)})
		}
	}
	return nil
}

// notes writes a comment, if there is one.
func (w *writer) notes(texts ...string) {
	n := 0
	for _, t := range texts {
		if t != "" {
			n++
			w.e.Segment("NTE", Fields{1: strconv.Itoa(n), 3: lines(t)})
		}
	}
}

// document tells of a document, and brings it along. HL7 v2.4 §9.5
func (w *writer) document(f *fhir.Resource, again bool) error {
	ids := f.Identifiers()
	if len(ids) == 0 {
		return fhir.Errorf(fhir.NotSupported, "a document without a number cannot be told from others").At("DocumentReference.identifier")
	}
	o, event, parent := w.o, "T02", ""
	if again {
		event = "T08"
	}
	if f.Text("status") == "entered-in-error" {
		event = "T11"
	} else if code := f.Text("relatesTo.code"); code == "replaces" || code == "appends" {
		event = map[string]string{"replaces": "T10", "appends": "T06"}[code]
		if parent = f.Text("relatesTo.target.identifier.value"); parent == "" {
			if old := w.find(f.Text("relatesTo.target.reference")); old != nil && len(old.Identifiers()) > 0 {
				parent = old.Identifiers()[0].Value
			}
		}
		if parent == "" {
			return fhir.Errorf(fhir.Required, "the Bundle must hold the document that this one replaces or adds to, or name it by its number").At("DocumentReference.relatesTo.target")
		}
	}
	w.head(f, "MDM", event, map[string]string{"T11": "MDM_T01"}[event]+map[string]string{"T02": "MDM_T02", "T06": "MDM_T02", "T08": "MDM_T02", "T10": "MDM_T02"}[event])
	w.pid()
	w.within(f.Text("context.encounter.reference"))
	txa := Fields{1: "1", 3: "TX", 4: ts(f.Text("date")), 6: ts(f.Text("date")), 12: o.ei(ids[0]), 13: parent, 17: o.codeFor("document-completion", f.Text("docStatus")),
		19: o.codeFor("document-availability", f.Text("status")), 25: f.Text("description")}
	if t := f.Concept("type"); !t.IsZero() {
		txa[2] = o.ce(t)
	}
	if a := allOf[fhir.Reference](f, "author"); len(a) > 0 {
		txa[9] = o.xcn(a[0])
	}
	if a := allOf[fhir.Reference](f, "authenticator"); len(a) > 0 {
		txa[22] = o.xcn(a[0])
	}
	for s := range f.Value().All("securityLabel.coding.code") {
		txa[18] = o.codeFor("confidentiality", s.Str())
	}
	w.e.Segment("TXA", txa)
	if event == "T11" {
		return nil
	}
	n := 0
	for a := range f.Value().All("content.attachment") {
		n++
		if err := w.attached(n, a, f.Concept("type"), true); err != nil {
			return err
		}
	}
	return nil
}

// attached writes an attachment as an OBX: plain text as lines where words is set, else the document itself. HL7 v2.4 §9.5, §2.9.15
func (w *writer) attached(n int, a fhir.Value, code fhir.CodeableConcept, words bool) error {
	kind, data := a.Text("contentType"), a.Text("data")
	if url := a.Text("url"); data == "" && url != "" {
		if b := w.find(url); b != nil && b.Type() == "Binary" {
			kind, data = b.Text("contentType"), b.Text("data")
		} else if strings.HasPrefix(url, "https://") || strings.HasPrefix(url, "http://") {
			main, sub, _ := strings.Cut(kind, "/")
			w.e.Segment("OBX", Fields{1: strconv.Itoa(n), 2: "RP", 3: w.o.ce(code), 5: Comp(url, "", main, sub), 11: "F"})
			return nil
		}
	}
	if data == "" {
		return fhir.Errorf(fhir.Required, "the document's bytes are not in the Bundle: add the Binary that the attachment names").At("attachment.url")
	}
	content, err := decodeBase64(data)
	if err != nil {
		return fhir.Errorf(fhir.Structure, "the document is not base64").At("attachment.data")
	}
	main, _, _ := strings.Cut(kind, ";")
	top, sub, _ := strings.Cut(main, "/")
	if words && main == "text/plain" {
		w.e.Segment("OBX", Fields{1: strconv.Itoa(n), 2: "TX", 3: w.o.ce(code), 5: lines(string(content)), 11: "F"})
		return nil
	}
	w.e.Segment("OBX", Fields{1: strconv.Itoa(n), 2: "ED", 3: w.o.ce(code), 5: Comp("", top, sub, "Base64", data), 11: "F"})
	return nil
}

// report tells of a DiagnosticReport with its results. HL7 v2.4 §7.3.1
func (w *writer) report(f *fhir.Resource) error {
	ids := f.Identifiers()
	if len(ids) == 0 {
		return fhir.Errorf(fhir.NotSupported, "a report without a number could never be corrected").At("DiagnosticReport.identifier")
	}
	o := w.o
	w.head(f, "ORU", "R01", "ORU_R01")
	w.pid()
	w.within(f.Text("encounter.reference"))
	obr := Fields{1: "1", 3: o.ei(ids[0]), 4: o.ce(f.Concept("code")), 7: ts(f.Text("effectiveDateTime") + f.Text("effectivePeriod.start")), 8: ts(f.Text("effectivePeriod.end")),
		22: ts(f.Text("issued")), 25: o.codeFor("report-status", reportStatusWritten(f.Text("status")))}
	for b := range f.Value().All("basedOn") {
		var placer fhir.Identifier
		if b.Get("identifier").Decode(&placer) == nil && placer.Value != "" {
			obr[2] = o.ei(placer)
		} else if s := w.find(b.Text("reference")); s != nil && len(s.Identifiers()) > 0 {
			obr[2] = o.ei(s.Identifiers()[0])
		}
	}
	for s := range f.Value().All("specimen") {
		words := s.Text("display")
		if full := w.find(s.Text("reference")); full != nil && words == "" {
			words = full.Concept("type").Words()
		}
		obr[15] = Comp(Sub("", words))
	}
	for c := range f.Value().All("category.coding") {
		if c.Text("system") == v2Table+"0074" {
			obr[24] = c.Text("code")
		}
	}
	w.e.Segment("OBR", obr)
	w.notes(f.Text("conclusion"))
	x := &resultWriter{w: w, seen: map[*fhir.Resource]bool{}}
	for _, other := range w.foci { // a result that another report gives is told of with that one
		for ref := range other.Value().All("result.reference") {
			if r := w.find(ref.Str()); r != nil && other != f {
				x.seen[r] = true
			}
		}
	}
	for ref := range f.Value().All("result.reference") {
		if r := w.find(ref.Str()); r != nil {
			delete(x.seen, r)
		}
	}
	for ref := range f.Value().All("result.reference") {
		r := w.find(ref.Str())
		if r == nil {
			return fhir.Errorf(fhir.Required, "the Bundle lacks a result that the report names: a report is not sent in part").At("DiagnosticReport.result")
		}
		if err := x.result(r, ""); err != nil {
			return err
		}
	}
	for a := range f.Value().All("presentedForm") {
		x.n++
		if err := w.attached(x.n, a, f.Concept("code"), false); err != nil {
			return err
		}
	}
	return nil
}

// reportStatusWritten is a report's status in words that HL7 table 0123 has.
func reportStatusWritten(s string) string {
	switch s {
	case "amended", "appended":
		return "corrected"
	case "entered-in-error":
		return "cancelled"
	}
	return s
}
