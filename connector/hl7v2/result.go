package hl7v2

import (
	"regexp"
	"slices"
	"strings"

	"tombolo/dataset"
	"tombolo/fhir"
)

// ORU^R01: results. Each OBR is a DiagnosticReport, each OBX under it an Observation, or a line of the report's words. HL7 v2.4 §7.3.1

// A report gathers one OBR and what follows it.
type report struct {
	obr, orc   Segment
	lines      []obx
	notes      []string
	base, made string // the filler's number and the panel's code; the resource id
	imaging    bool
}

// An obx is one observation with its notes. Several OBX may be one observation: lines of one text.
type obx struct {
	Segment
	more  []Segment
	notes []string
}

func (x *mapper) oru(segs []Segment) *fhir.Issue {
	if issue := x.who(segs); issue != nil {
		return issue
	}
	visit := x.visitID(first(segs, "PV1"), segs)
	reports, loose := gatherReports(segs)
	if loose > 0 {
		x.note(fhir.Structure, "OBX", "observations that stand before any OBR belong to no report; they were kept in the raw message only")
	}
	if len(reports) == 0 {
		return fhir.Errorf(fhir.Required, "a result message needs OBR, the report").At("OBR")
	}
	for i := range reports {
		x.report(&reports[i], visit)
	}
	return nil
}

// gatherReports groups the segments of one patient under their OBR. ORC speaks of the OBR after it.
func gatherReports(segs []Segment) (reports []report, loose int) {
	var orc Segment
	for _, s := range segs {
		var r *report
		if len(reports) > 0 {
			r = &reports[len(reports)-1]
		}
		switch s.Name() {
		case "ORC":
			orc = s
		case "OBR":
			reports = append(reports, report{obr: s, orc: orc})
			orc = Segment{}
		case "OBX":
			if r == nil {
				loose++
			} else if last := len(r.lines) - 1; last >= 0 && continues(r.lines[last], s) {
				r.lines[last].more = append(r.lines[last].more, s)
			} else {
				r.lines = append(r.lines, obx{Segment: s})
			}
		case "NTE":
			if r == nil {
				continue
			}
			var lines []string
			for rep := range s.Field(3).Reps() {
				lines = append(lines, words(rep))
			}
			note := strings.Join(lines, "\n")
			if n := len(r.lines); n > 0 {
				r.lines[n-1].notes = append(r.lines[n-1].notes, note)
			} else {
				r.notes = append(r.notes, note)
			}
		}
	}
	return reports, loose
}

func isText(s Segment) bool {
	switch str(s.Field(2), 0) {
	case "TX", "FT", "ST", "":
		return true
	}
	return false
}

// continues: laboratories send long texts as one OBX a line, under one code and sub-id.
func continues(o obx, s Segment) bool {
	return isText(o.Segment) && isText(s) && len(o.notes) == 0 && o.Field(3).Raw() == s.Field(3).Raw() && o.Field(4).Raw() == s.Field(4).Raw()
}

var imagingSections = " RAD RUS CT NMR NMS XRC VUS OUS CUS RX "

var imagingWords = regexp.MustCompile(`(?i)\b(x-?ray|xr|ct|mri|ultrasound|radiograph|mammogra\w+|fluoroscopy|echocardiogra\w+)\b`)

func (x *mapper) report(r *report, visit string) {
	obr := r.obr
	code := x.concept(obr.Field(4))
	section := strings.ToUpper(str(obr.Field(24), 0))
	r.imaging = section != "" && strings.Contains(imagingSections, " "+section+" ") || section == "" && imagingWords.MatchString(code.Words())
	x.nameReport(r)
	status := x.reportStatus(obr)
	f := fhir.M{"status": status, "subject": x.subject(), "effectiveDateTime": x.dateTime(obr.Field(7), obr.Place(7))}
	if code.IsZero() {
		x.note(fhir.Required, obr.Place(4), "the report does not say what was examined")
		code.Text = "Report"
	}
	f["code"] = code
	f["identifier"] = x.orderNumbers(r, 3, "FILL", "Filler Identifier")
	if placer := x.orderNumbers(r, 2, "PLAC", "Placer Identifier"); len(placer) > 0 {
		f["basedOn"] = []fhir.Reference{{Type: "ServiceRequest", Identifier: &placer[0]}}
	}
	if visit != "" {
		f["encounter"] = fhir.Reference{Reference: "Encounter/" + visit}
	}
	f["issued"] = x.instant(obr.Field(22), obr.Place(22))
	f["performer"], f["resultsInterpreter"] = x.reporters(r)
	if s := x.specimen(obr); s != "" {
		f["specimen"] = []fhir.Reference{{Type: "Specimen", Display: s}}
	}
	if section != "" {
		f["category"] = []fhir.CodeableConcept{fhir.Code(v2Table+"0074", section, "")}
	} else if r.imaging {
		f["category"] = []fhir.CodeableConcept{fhir.Code(v2Table+"0074", "RAD", "Radiology")}
	}
	if r.imaging && section != "RAD" {
		f["meta"] = tagged(dataset.Imaging)
	}
	var results []fhir.Reference
	var told []string
	var forms []fhir.M
	for _, o := range r.lines {
		switch kind := str(o.Field(2), 0); {
		case kind == "ED" || kind == "RP":
			if a := x.attachment(o.Segment); a != nil {
				forms = append(forms, a)
			}
		case r.imaging && isText(o.Segment):
			told = append(told, x.textOf(o)...)
			told = append(told, o.notes...)
		default:
			results = append(results, x.observation(r, o, section, status, visit))
		}
	}
	f["result"], f["presentedForm"] = results, forms
	f["conclusion"] = text(strings.Join(append(told, r.notes...), "\n"))
	x.add("DiagnosticReport", r.made, f)
}

// nameReport gives the report its id: the filler's number with the panel's code, since one accession often has many panels.
func (x *mapper) nameReport(r *report) {
	number := ""
	for _, s := range [...]struct {
		seg    Segment
		field  int
		prefix string
	}{{r.obr, 3, ""}, {r.orc, 3, ""}, {r.obr, 2, "P-"}, {r.orc, 2, "P-"}} {
		if n := str(s.seg.Field(s.field), 1); n != "" && number == "" {
			number = s.prefix + n
			if ns := authority(s.seg.Field(s.field).Comp(2)); ns != "" && ns != x.o.Authority {
				number += "." + ns
			}
		}
	}
	if number == "" {
		x.note(fhir.Required, r.obr.Place(3), "the report has no order number, so a later correction cannot be told to be of this one")
		_, _, control := x.m.Type()
		number = "M-" + control + "-" + hash(x.patient, r.obr.Field(7).Raw())
	}
	r.base = number
	if code := str(r.obr.Field(4), 1); code != "" {
		r.base = id(number, code)
	} else if words := str(r.obr.Field(4), 2); words != "" {
		r.base = id(number, hash(words))
	}
	r.made = x.unique(r.base)
}

func (x *mapper) reportStatus(obr Segment) string {
	code := strings.ToUpper(str(obr.Field(25), 0))
	if s, ok := reportStates[code]; ok {
		return s
	}
	x.note(fhir.CodeInvalid, obr.Place(25), "the report's status is missing or not one of HL7 table 0123; it is shown as unknown")
	return "unknown"
}

func (x *mapper) orderNumbers(r *report, field int, code, display string) []fhir.Identifier {
	v := r.obr.Field(field)
	if v.Empty() {
		v = r.orc.Field(field)
	}
	n := str(v, 1)
	if n == "" {
		return nil
	}
	kind := fhir.Code(v2Table+"0203", code, display)
	ns := authority(v.Comp(2))
	if u := str(v, 3); ns == "" && u != "" {
		ns = u
	}
	if ns == "" {
		ns = x.o.Authority
	}
	return []fhir.Identifier{{Type: &kind, System: x.systemOf(ns), Value: n}}
}

// instant is a time of which FHIR wants the second; anything coarser is left out. FHIR R4 datatypes.html#instant
func (x *mapper) instant(v Value, place string) string {
	t, precision, ok := x.parseTime(v, place)
	if !ok || precision < 12 {
		return ""
	}
	return formatTime(t, 14)
}

// reporters: the laboratory or department, and whoever interpreted the result (OBR-32, an NDL whose first component is a CNN).
func (x *mapper) reporters(r *report) (performer, interpreter []fhir.Reference) {
	for _, o := range r.lines { // OBX-15, the producer
		if p := x.concept(o.Field(15)); !p.IsZero() {
			ref := fhir.Reference{Type: "Organization", Display: p.Words()}
			if len(performer) < 20 && !slices.ContainsFunc(performer, func(o fhir.Reference) bool { return o.Display == ref.Display }) {
				performer = append(performer, ref)
			}
		}
	}
	cnn := r.obr.Field(32).Comp(1)
	code, family, given, prefix := text(cnn.Sub(1).Text()), text(cnn.Sub(2).Text()), text(cnn.Sub(3).Text()), text(cnn.Sub(6).Text())
	if code != "" || family != "" {
		ref := fhir.Reference{Type: "Practitioner", Display: strings.Join(strings.Fields(prefix+" "+given+" "+family), " ")}
		if code != "" {
			ref.Identifier = &fhir.Identifier{System: x.systemOf(text(cnn.Sub(9).Text())), Value: code}
		}
		interpreter = append(interpreter, ref)
	}
	return performer, interpreter
}

// specimen is the words of OBR-15: what was taken, and from where.
func (x *mapper) specimen(obr Segment) string {
	sps := obr.Field(15).Comp(1)
	s := text(sps.Sub(2).Text())
	if s == "" {
		s = text(sps.Sub(1).Text())
	}
	return s
}
