package hl7v2

import (
	"encoding/base64"
	"strconv"
	"strings"

	"tombolo/fhir"
)

// A resultWriter writes the Observations of one report, each an OBX. What belongs together is told by the sub-ids of OBX-4: "2.1" belongs to "2".
type resultWriter struct {
	w    *writer
	n    int
	subs int
	seen map[*fhir.Resource]bool
}

// result writes one Observation, and what belongs to it after it.
func (x *resultWriter) result(r *fhir.Resource, sub string) error {
	if r.Type() != "Observation" {
		return fhir.Errorf(fhir.NotSupported, "a report's results are Observations").At("DiagnosticReport.result")
	}
	if x.seen[r] {
		return nil
	}
	x.seen[r] = true
	var members []*fhir.Resource
	for m := range r.Value().All("hasMember.reference") {
		one := x.w.find(m.Str())
		if one == nil {
			return fhir.Errorf(fhir.Required, "the Bundle lacks a result that another names as its member").At("Observation.hasMember")
		}
		members = append(members, one)
	}
	components := r.Get("component").Exists()
	if sub == "" && (len(members) > 0 || components) {
		x.subs++
		sub = strconv.Itoa(x.subs)
	}
	if err := x.obx(r, r.Value(), sub); err != nil {
		return err
	}
	for _, a := range allIn[fhir.Annotation](r.Value(), "note") {
		x.w.notes(a.Text)
	}
	k := 0
	for c := range r.Value().All("component") {
		k++
		if err := x.obx(r, c, sub+"."+strconv.Itoa(k)); err != nil {
			return err
		}
	}
	for _, m := range members {
		k++
		if err := x.result(m, sub+"."+strconv.Itoa(k)); err != nil {
			return err
		}
	}
	return nil
}

// obx writes the value of an Observation, or of one of its components. HL7 v2.4 §7.4.2
func (x *resultWriter) obx(r *fhir.Resource, v fhir.Value, sub string) error {
	o := x.w.o
	x.n++
	var code fhir.CodeableConcept
	_ = v.Get("code").Decode(&code)
	f := Fields{1: strconv.Itoa(x.n), 3: o.ce(code), 4: sub, 7: v.Text("referenceRange.text"), 11: o.codeFor("observation-status", r.Text("status")), 14: ts(r.Text("effectiveDateTime"))}
	if r.Text("status") == "amended" {
		f[11] = "C"
	}
	if i := allIn[fhir.CodeableConcept](v, "interpretation"); len(i) > 0 && len(i[0].Coding) > 0 {
		f[8] = i[0].Coding[0].Code
	}
	for p := range r.Value().All("performer") {
		var who fhir.Reference
		if p.Decode(&who) != nil {
			continue
		}
		if who.Type == "Practitioner" {
			f[16] = o.xcn(who)
		} else if who.Display != "" {
			f[15] = Comp("", who.Display)
		}
	}
	if lo, hi := v.Text("referenceRange.low.value"), v.Text("referenceRange.high.value"); f[7] == "" && lo != "" && hi != "" {
		f[7] = lo + "-" + hi
	}
	if err := x.value(f, v); err != nil {
		return err
	}
	x.w.e.Segment("OBX", f)
	return nil
}

// value fills OBX-2, 5 and 6. A kind of value that HL7 v2 has no type for is an error: a result is not sent without what it says.
func (x *resultWriter) value(f Fields, v fhir.Value) error {
	o := x.w.o
	for c := range v.Children() {
		kind, ok := strings.CutPrefix(c.Key(), "value")
		if !ok {
			continue
		}
		switch kind {
		case "Quantity":
			var q fhir.Quantity
			_ = c.Decode(&q)
			if f[2], f[5] = "NM", q.Value.String(); q.Comparator != "" {
				f[2], f[5] = "SN", Comp(q.Comparator, q.Value.String())
			}
			f[6] = x.unit(q)
		case "CodeableConcept":
			var k fhir.CodeableConcept
			_ = c.Decode(&k)
			f[2], f[5] = "CE", o.ce(k)
		case "String":
			f[2], f[5] = "TX", lines(c.Str())
		case "Integer":
			f[2], f[5] = "NM", c.Str()
		case "Boolean":
			f[2], f[5] = "ST", map[bool]string{true: "Yes", false: "No"}[c.Bool()]
		case "DateTime":
			f[2], f[5] = "TS", ts(c.Str())
		case "Time":
			f[2], f[5] = "TM", strings.ReplaceAll(c.Str(), ":", "")
		case "Range":
			f[2], f[5], f[6] = "SN", Comp("", c.Text("low.value"), "-", c.Text("high.value")), x.unitOf(c.Get("low"))
		case "Ratio":
			f[2], f[5] = "SN", Comp("", c.Text("numerator.value"), ":", c.Text("denominator.value"))
		default:
			return fhir.Errorf(fhir.NotSupported, "HL7 v2 results have no type for a %s: the report was not written", kind).At("Observation.value" + kind)
		}
		return nil
	}
	f[2] = "ST"
	return nil
}

func (x *resultWriter) unitOf(v fhir.Value) Part {
	var q fhir.Quantity
	_ = v.Decode(&q)
	return x.unit(q)
}

func (x *resultWriter) unit(q fhir.Quantity) Part {
	if q.System == fhir.SystemUCUM && q.Code != "" {
		return Comp(q.Code, q.Unit, "UCUM")
	}
	return Comp(q.Unit)
}

func decodeBase64(s string) ([]byte, error) { return base64.StdEncoding.DecodeString(pad(s)) }
