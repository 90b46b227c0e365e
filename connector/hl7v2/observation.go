package hl7v2

import (
	"encoding/json"
	"regexp"
	"strings"

	"tombolo/fhir"
)

// OBX: one result. HL7 v2.4 §7.4.2

func (x *mapper) observation(r *report, n int, o obx, section, reportStatus, visit string) fhir.Reference {
	f := fhir.M{"subject": x.subject(), "category": x.observationKind(r, section), "specimen": nil}
	if len(r.of) > 0 {
		f["specimen"] = r.of[0]
	}
	if visit != "" {
		f["encounter"] = fhir.Reference{Reference: "Encounter/" + visit}
	}
	sc := &scope{own: o.Segment, segs: []Segment{r.obr, r.orc}, grouped: true}
	x.fill("Observation", f, sc, "OBX")
	code, ok := f["code"].(fhir.CodeableConcept)
	if !ok {
		if code = x.concept(r.obr.Field(4)); code.IsZero() {
			code.Text = "Result"
		}
		f["code"] = code
	}
	status := x.translate("observation-status", o.Field(11))
	if status == "" {
		if status = "unknown"; str(o.Field(11), 0) == "" && (reportStatus == "final" || reportStatus == "corrected" || reportStatus == "preliminary") {
			status = reportStatus
		} else {
			x.note(fhir.CodeInvalid, o.Place(11), "the result's status is missing or not one of HL7 table 0085; it is shown as unknown")
		}
	}
	f["status"] = status
	if t := text(strings.Join(o.notes, "\n")); t != "" {
		f["note"] = []fhir.Annotation{{Text: t}}
	}
	if o.wave != nil {
		o.wave.fill(x, f)
	} else {
		x.values(f, o)
	}
	if rr := referenceRange(o.Field(7), f); rr != nil {
		f["referenceRange"] = []fhir.M{rr}
	}
	made := x.unique(r.base + "." + hash(key(o.Field(3)), str(o.Field(4), 0)))
	_, flag := x.meaningOf("sensitivity", o.Field(8))
	_, coded := f["valueCodeableConcept"]
	ref := fhir.MakeRef("Observation", made)
	x.later = append(x.later, pending{ref: ref, report: n, code: str(o.Field(3), 1), sub: str(o.Field(4), 0), coded: coded, flag: flag, fields: f, sc: sc})
	return fhir.Reference{Reference: string(ref), Display: code.Words()}
}

func (x *mapper) observationKind(r *report, section string) []fhir.CodeableConcept {
	kind := "laboratory"
	if _, ok := x.lookup("procedure-section", section); ok {
		kind = "procedure"
	}
	switch {
	case r.imaging:
		kind = "imaging"
	case section == "" && strings.Contains(strings.ToLower(r.obr.Field(4).Raw()), "vital sign"):
		kind = "vital-signs"
	}
	m, _ := x.lookup("observation-category", kind)
	return []fhir.CodeableConcept{fhir.Code(m.system, m.code, m.display)}
}

// values reads OBX-5. Several values that are not text, such as the answers to one question, are components of the one result: none of them is the result alone.
func (x *mapper) values(f fhir.M, o obx) {
	v := o.Field(5)
	var several []fhir.M
	if !isText(o.Segment) && len(o.more) == 0 {
		for rep := range v.Reps() {
			if !rep.Empty() && !rep.Null() {
				c := fhir.M{"code": f["code"]}
				x.value(c, o, rep)
				several = append(several, c)
			}
		}
	}
	if len(several) > 1 {
		f["component"] = several
		return
	}
	x.value(f, o, v)
}

// value reads a value of OBX-5 by the type in OBX-2. One that is not of its type is kept as words: what the laboratory wrote is never dropped.
func (x *mapper) value(f fhir.M, o obx, v Value) {
	if v.Empty() || v.Null() {
		if len(o.more) == 0 {
			f["dataAbsentReason"] = fhir.Code(dataAbsentReason, "unknown", "Unknown")
			return
		}
	}
	words := ""
	all := func() string { return text(strings.Join(x.textOf(o, v), "\n")) }
	switch kind := strings.ToUpper(str(o.Field(2), 0)); kind {
	case "NM":
		if words = all(); words == "" {
			break
		}
		if q, ok := x.quantity(words, o); ok {
			f["valueQuantity"] = q
			return
		}
		x.note(fhir.ValueError, o.Place(5), "the value is said to be a number and is not; it was kept as words")
	case "SN":
		if x.structured(f, o, v) {
			return
		}
	case "CE", "CWE", "CNE", "CF", "IS", "ID":
		if c := x.concept(v); !c.IsZero() {
			f["valueCodeableConcept"] = c
			return
		}
		var said []string // in another component than those of a code: its words without the delimiters
		for c := range v.Comps() {
			if t := text(c.Words()); t != "" {
				said = append(said, t)
			}
		}
		if words = strings.Join(said, " "); words == "" {
			f["dataAbsentReason"] = fhir.Code(dataAbsentReason, "unknown", "Unknown")
			return
		}
	case "DT", "TS", "DTM":
		if at := x.dateTime(v, o.Place(5)); at != "" {
			f["valueDateTime"] = at
			return
		}
	case "TM":
		if t := str(v, 1); len(t) >= 4 {
			if _, _, ok := parseTS("20000101"+t, x.o.Location); ok {
				f["valueTime"] = clock(t)
				return
			}
		}
	}
	if words == "" {
		words = all()
	}
	if words == "" {
		f["dataAbsentReason"] = fhir.Code(dataAbsentReason, "unknown", "Unknown")
		return
	}
	f["valueString"] = words
}

func clock(t string) string {
	s := "00"
	if len(t) >= 6 && t[4] != '.' && t[4] != '+' && t[4] != '-' {
		s = t[4:6]
	}
	return t[:2] + ":" + t[2:4] + ":" + s
}

// textOf is the lines of an observation: its repetitions and the OBX that continue it. v is the value meant, of one that is no text.
func (x *mapper) textOf(o obx, v Value) []string {
	var lines []string
	for _, s := range append([]Segment{o.Segment}, o.more...) {
		if !isText(s) {
			lines = append(lines, words(v))
			continue
		}
		if s.Field(5).Empty() {
			lines = append(lines, "")
			continue
		}
		for rep := range s.Field(5).Reps() {
			lines = append(lines, words(rep))
		}
	}
	return lines
}

var comparator = regexp.MustCompile(`^\s*(<=|>=|<|>)\s*(.+)$`)

// quantity reads a number, which may have a comparator before it, with the unit of OBX-6.
func (x *mapper) quantity(s string, o obx) (fhir.Quantity, bool) {
	before := o.Field(6).noted()
	q := x.unit(o.Field(6))
	if m := comparator.FindStringSubmatch(s); m != nil {
		q.Comparator, s = m[1], m[2]
	}
	var ok bool
	if q.Value, ok = number(s); !ok {
		o.Field(6).forget(before)
	}
	return q, ok
}

// unit reads OBX-6. It is coded only where the sender says it is UCUM; local units stay words, for terminology to translate.
func (x *mapper) unit(v Value) fhir.Quantity {
	q := fhir.Quantity{Unit: str(v, 2)}
	if q.Unit == "" {
		q.Unit = str(v, 1)
	}
	if x.systemOf(peek(v, 3)) == fhir.SystemUCUM && peek(v, 1) != "" {
		str(v, 3)
		q.System, q.Code = fhir.SystemUCUM, str(v, 1)
	}
	return q
}

// structured reads an SN: ">^100", "^100^-^200" (a range), "^1^:^128" (a ratio), "^2^+". HL7 v2.4 §2.9.40
func (x *mapper) structured(f fhir.M, o obx, v Value) bool {
	cmp, sep := str(v, 1), str(v, 3)
	one, ok := number(str(v, 2))
	if !ok {
		return false
	}
	a := x.unit(o.Field(6))
	a.Value = one
	two, second := number(str(v, 4))
	b := x.unit(o.Field(6))
	b.Value = two
	switch {
	case sep == "" && !second:
		switch cmp {
		case "<", ">", "<=", ">=":
			a.Comparator = cmp
		case "", "=":
		default:
			return false
		}
		f["valueQuantity"] = a
	case sep == "-" && second && cmp == "":
		f["valueRange"] = fhir.M{"low": a, "high": b}
	case (sep == ":" || sep == "/") && second && cmp == "":
		f["valueRatio"] = fhir.M{"numerator": fhir.Quantity{Value: one}, "denominator": fhir.Quantity{Value: two}}
	default:
		return false
	}
	return true
}

var (
	between = regexp.MustCompile(`^\(?\s*(-?[0-9.]+)\s*(?:-|–|to)\s*(-?[0-9.]+)\s*\)?$`)
	oneSide = regexp.MustCompile(`^(<=|>=|<|>)\s*(-?[0-9.]+)$`)
)

// referenceRange reads OBX-7. Its words are always kept; bounds only where they are numbers and the value is one too.
func referenceRange(v Value, f fhir.M) fhir.M {
	words := words(v)
	if words == "" {
		return nil
	}
	rr := fhir.M{"text": words}
	q, ok := f["valueQuantity"].(fhir.Quantity)
	if !ok {
		return rr
	}
	bound := func(name, s string) {
		if n, ok := number(s); ok {
			rr[name] = fhir.Quantity{Value: json.Number(n), Unit: q.Unit, System: q.System, Code: q.Code}
		}
	}
	if m := between.FindStringSubmatch(words); m != nil {
		bound("low", m[1])
		bound("high", m[2])
	} else if m := oneSide.FindStringSubmatch(words); m != nil {
		if m[1][0] == '<' {
			bound("high", m[2])
		} else {
			bound("low", m[2])
		}
	}
	return rr
}
