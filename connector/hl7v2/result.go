package hl7v2

import (
	"regexp"
	"slices"
	"strconv"
	"strings"

	"tombolo/dataset"
	"tombolo/fhir"
)

// ORU and OUL: results. Each OBR is a DiagnosticReport, each OBX under it an Observation, or a line of the report's words.
// HL7 v2.4 §7.3.1, v2.5.1 §7.3.1, §7.3.7

// A report gathers one OBR and what follows it.
type report struct {
	obr, orc   Segment
	lines      []obx
	notes      []string
	specimens  []Segment // SPM
	base, made string    // the filler's number and the panel's code; the resource id
	imaging    bool
	of         []fhir.Reference // what was taken
}

// An obx is one observation with its notes. Several OBX may be one observation: lines of one text.
type obx struct {
	Segment
	more  []Segment
	notes []string
	wave  *wave // of a stretch of samples, whose first this is
}

// A pending is a result whose members may come after it: an organism, and what kills it.
type pending struct {
	ref       fhir.Ref
	report    int
	code, sub string
	coded     bool // its value is a code: it may be an organism
	flag      bool // it tells how an antibiotic did
	fields    fhir.M
	sc        *scope
}

func (x *mapper) results(segs []Segment) *fhir.Issue {
	if issue := x.who(segs); issue != nil {
		return issue
	}
	x.contacts(segs)
	if n := x.reports(segs, x.visitID(first(segs, "PV1"))); n == 0 {
		return fhir.Errorf(fhir.Required, "a result message needs OBR, the report").At("OBR")
	}
	return nil
}

// reports makes all reports of a patient's part of a message, and says how many.
func (x *mapper) reports(segs []Segment, visit string) int {
	reports, loose := gatherReports(segs)
	if loose > 0 {
		x.note(fhir.Structure, "OBX", "observations that stand before any OBR belong to no report; they were kept in the raw message only")
	}
	for i := range reports {
		x.report(&reports[i], i, visit)
	}
	x.membership(reports)
	for _, p := range x.later {
		x.addFrom(p.sc, "Observation", p.ref.ID(), p.fields)
	}
	x.later = nil
	return len(reports)
}

// gatherReports groups the segments of one patient under their OBR. ORC speaks of the OBR after it; in OUL, of the one before. A specimen follows
// its OBR in ORU, and comes before it in OUL.
func gatherReports(segs []Segment) (reports []report, loose int) {
	var orc Segment
	var specimens []Segment
	bySpecimen := false // OUL^R22: SPM first
	var before []string // comments on what comes next: those between ORC and OBR
	var of commented
	for i, s := range segs {
		var r *report
		if len(reports) > 0 {
			r = &reports[len(reports)-1]
		}
		switch s.name {
		case "ORC":
			of = onNext
			if bySpecimen && r != nil && !r.orc.Exists() && segs[i-1].name == "OBR" {
				r.orc = s
			} else {
				orc = s
			}
		case "SPM":
			if r == nil || bySpecimen {
				if len(reports) == 0 || segs[i-1].name != "SPM" {
					specimens = nil
				}
				bySpecimen = true
				specimens = append(specimens, s)
				of = onNothing
			} else {
				r.specimens = append(r.specimens, s)
				of = onReport
			}
		case "OBR":
			reports = append(reports, report{obr: s, orc: orc, specimens: slices.Clone(specimens), notes: before})
			orc, before, of = Segment{}, nil, onReport
		case "OBX":
			of = onResult
			if r == nil || bySpecimen && belongsToSpecimen(segs, i) {
				loose++
			} else if last := len(r.lines) - 1; last >= 0 && continues(r.lines[last], s) {
				r.lines[last].more = append(r.lines[last].more, s)
			} else {
				r.lines = append(r.lines, obx{Segment: s})
			}
		case "NTE":
			switch of {
			case onNext:
				before = append(before, comment(s))
			case onReport:
				r.notes = append(r.notes, comment(s))
			case onResult:
				if r == nil || len(r.lines) == 0 {
					continue
				}
				last := &r.lines[len(r.lines)-1]
				last.notes = append(last.notes, comment(s))
			}
		case "PID", "PD1", "NK1", "PV1", "PV2", "AL1", "IAM", "DG1", "PR1", "IN1", "GT1", "RF1", "PRD", "TXA":
			of = onNothing
		}
	}
	return reports, loose
}

// A commented is what a comment stands under: a comment on the visit is none on the result before it.
type commented int

const (
	onNothing commented = iota // nothing that a report says: its words stay in the raw message
	onNext
	onReport
	onResult
)

// belongsToSpecimen reports whether an OBX stands right under an SPM: it describes the specimen, not a report.
func belongsToSpecimen(segs []Segment, i int) bool {
	for i--; i >= 0; i-- {
		switch segs[i].name {
		case "OBX", "NTE", "SAC":
		case "SPM":
			return true
		default:
			return false
		}
	}
	return false
}

// comment is the lines of an NTE.
func comment(nte Segment) string {
	var lines []string
	for rep := range nte.Field(3).Reps() {
		lines = append(lines, words(rep))
	}
	return strings.Join(lines, "\n")
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

var imagingWords = regexp.MustCompile(`(?i)\b(x-?ray|xr|ct|mri|ultrasound|radiograph|mammogra\w+|fluoroscopy|echocardiogra\w+)\b`)

func (x *mapper) report(r *report, n int, visit string) {
	obr := r.obr
	section := strings.ToUpper(str(obr.Field(24), 0))
	_, pictures := x.lookup("imaging-section", section)
	r.imaging = pictures || section == "" && imagingWords.MatchString(obr.Field(4).Raw())
	x.nameReport(r)
	status := x.reportStatus(obr)
	f := fhir.M{"status": status, "subject": x.subject()}
	sc := &scope{own: obr, segs: append([]Segment{obr, r.orc}, r.specimens...), grouped: true}
	x.fill("DiagnosticReport", f, sc, "OBR", "ORC")
	if f["code"] == nil {
		x.note(fhir.Required, obr.Place(4), "the report does not say what was examined")
		f["code"] = fhir.CodeableConcept{Text: "Report"}
	}
	f["identifier"] = x.orderNumbers(r.obr, r.orc, 3, "FILL")
	if placer := x.orderNumbers(r.obr, r.orc, 2, "PLAC"); len(placer) > 0 {
		f["basedOn"] = []fhir.Reference{{Type: "ServiceRequest", Identifier: &placer[0]}}
	}
	if visit != "" {
		f["encounter"] = fhir.Reference{Reference: "Encounter/" + visit}
	}
	f["performer"], f["resultsInterpreter"] = x.reporters(r)
	r.of = x.specimens(r.specimens, obr, r.made)
	f["specimen"] = r.of
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
	for _, o := range x.waveforms(r.lines) {
		switch kind := str(o.Field(2), 0); {
		case kind == "ED" || kind == "RP":
			if a := x.attachment(o.Segment); a != nil {
				forms = append(forms, a)
			}
		case r.imaging && isText(o.Segment):
			told = append(told, x.textOf(o, o.Field(5))...)
			told = append(told, o.notes...)
		default:
			results = append(results, x.observation(r, n, o, section, status, visit))
		}
	}
	f["result"], f["presentedForm"] = results, forms
	f["conclusion"] = text(strings.Join(append(told, r.notes...), "\n"))
	x.addFrom(sc, "DiagnosticReport", r.made, f)
}

// nameReport gives the report its id: the filler's number with the panel's code, since one accession often has many panels.
func (x *mapper) nameReport(r *report) {
	number := ""
	for _, s := range [...]struct {
		seg    Segment
		field  int
		prefix string
	}{{r.obr, 3, ""}, {r.orc, 3, ""}, {r.obr, 2, "P-"}, {r.orc, 2, "P-"}} {
		if n := peek(s.seg.Field(s.field), 1); n != "" && number == "" {
			number = s.prefix + str(s.seg.Field(s.field), 1)
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
	if s := x.translate("report-status", obr.Field(25)); s != "" {
		return s
	}
	x.note(fhir.CodeInvalid, obr.Place(25), "the report's status is missing or not one of HL7 table 0123; it is shown as unknown")
	return "unknown"
}

// orderNumbers is the placer's (2) or filler's (3) number of an order, in OBR or ORC.
func (x *mapper) orderNumbers(obr, orc Segment, field int, kind string) []fhir.Identifier {
	v := orderField(obr, orc, field)
	n := str(v, 1)
	if n == "" {
		return nil
	}
	m, _ := x.lookup("identifier-type", kind)
	typ := fhir.Code(v2Table+"0203", kind, m.display)
	ns := authority(v.Comp(2))
	if ns == "" {
		ns = str(v, 3)
	}
	if ns == "" {
		ns = x.o.Authority
	}
	return []fhir.Identifier{{Type: &typ, System: x.systemOf(ns), Value: n}}
}

func orderField(obr, orc Segment, field int) Value {
	if v := obr.Field(field); obr.name == "OBR" && !v.Empty() {
		return v
	}
	return orc.Field(field)
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
		if p := x.wordsOf(o.Field(15)); p != "" {
			ref := fhir.Reference{Type: "Organization", Display: p}
			if len(performer) < 20 && !slices.ContainsFunc(performer, func(o fhir.Reference) bool { return o.Display == ref.Display }) {
				performer = append(performer, ref)
			}
		}
	}
	if ref, ok := x.interpreter(r.obr.Field(32)); ok {
		interpreter = append(interpreter, ref)
	}
	return performer, interpreter
}

// interpreter reads OBR-32, an NDL, whose first component is a CNN. Many send an XCN, whose parts are components themselves: then the second is a name,
// which in an NDL is a time.
func (x *mapper) interpreter(v Value) (fhir.Reference, bool) {
	cnn := v.Comp(1)
	code, family, given, prefix := text(cnn.Sub(1).Text()), text(cnn.Sub(2).Text()), text(cnn.Sub(3).Text()), text(cnn.Sub(6).Text())
	if second := str(v, 2); family == "" && given == "" && second != "" && (second[0] < '0' || second[0] > '9') {
		return x.practitioner(v)
	}
	ref := fhir.Reference{Type: "Practitioner", Display: strings.Join(strings.Fields(prefix+" "+given+" "+family), " ")}
	if code != "" {
		ref.Identifier = &fhir.Identifier{System: x.systemOf(text(cnn.Sub(9).Text())), Value: code}
	}
	return ref, code != "" || family != ""
}

// specimens makes a Specimen of each SPM; before v2.5, OBR-15 has words for what was taken.
func (x *mapper) specimens(spms []Segment, obr Segment, of string) []fhir.Reference {
	var out []fhir.Reference
	for i, s := range spms {
		f := fhir.M{"subject": x.subject()}
		sc := &scope{own: s, segs: []Segment{obr}, grouped: true}
		x.fill("Specimen", f, sc, "SPM")
		number := str(s.Field(2).Comp(2), 1)
		if number == "" {
			number = text(s.Field(2).Comp(1).Sub(1).Text())
		}
		made := id("SP", number)
		if number == "" {
			made = id(of + ".SP" + strconv.Itoa(i+1))
		}
		kind, _ := f["type"].(fhir.CodeableConcept)
		if x.seen["Specimen/"+made] == 0 { // several reports on one specimen
			x.seen["Specimen/"+made]++
			x.addFrom(sc, "Specimen", made, f)
		}
		out = append(out, fhir.Reference{Reference: "Specimen/" + made, Display: kind.Words()})
	}
	if len(out) > 0 {
		return out
	}
	sps := obr.Field(15).Comp(1)
	words := text(sps.Sub(2).Text())
	if words == "" {
		words = text(sps.Sub(1).Text())
	}
	if words == "" {
		return nil
	}
	return []fhir.Reference{{Type: "Specimen", Display: words}}
}

// membership puts together what belongs together: the sensitivities of an organism under it. A child OBR names its parent result in OBR-26;
// within a report, OBX-4 "1.2" belongs to "1", and a flag S, I or R belongs to the coded result of the same OBX-4.
// HL7 v2.4 §7.3.1.26, §7.4.2.4
func (x *mapper) membership(reports []report) {
	for i := range x.later {
		p := &x.later[i]
		parent := -1
		if prl := reports[p.report].obr.Field(26); !prl.Empty() {
			code, sub := peek(prl, 1), peek(prl, 2)
			parent = slices.IndexFunc(x.later, func(o pending) bool { return o.report != p.report && o.code == code && (sub == "" || o.sub == sub) })
		}
		if parent < 0 && p.sub != "" {
			up, _, dotted := cutLast(p.sub, ".")
			parent = slices.IndexFunc(x.later, func(o pending) bool {
				return o.report == p.report && o.ref != p.ref && (dotted && o.sub == up || p.flag && !o.flag && o.coded && o.sub == p.sub)
			})
		}
		if parent >= 0 && parent != i {
			if prl := reports[p.report].obr.Field(26); p.report != x.later[parent].report {
				str(prl, 1)
				str(prl, 2)
			}
			of := x.later[parent].fields
			members, _ := of["hasMember"].([]fhir.Reference)
			of["hasMember"] = append(members, fhir.Reference{Reference: string(p.ref), Display: display(p.fields)})
		}
	}
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

func display(f fhir.M) string {
	c, _ := f["code"].(fhir.CodeableConcept)
	return c.Words()
}

// measurements are OBX that come with a visit and under no report: height, weight, the answers asked at admission.
func (x *mapper) measurements(segs []Segment, visit string) {
	for _, s := range segs {
		if s.name != "OBX" {
			continue
		}
		switch str(s.Field(2), 0) {
		case "ED", "RP":
			x.note(fhir.NotSupported, s.Place(5), "a document that comes with an admission is kept in the raw message only: send it as MDM")
			continue
		}
		r := &report{base: id("OB", hash(x.patient, visit, s.Field(14).Raw()))}
		x.observation(r, 0, obx{Segment: s}, "", "final", visit)
	}
	for _, p := range x.later {
		delete(p.fields, "category")
		x.addFrom(p.sc, "Observation", p.ref.ID(), p.fields)
	}
	x.later = nil
}
