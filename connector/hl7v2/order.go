package hl7v2

import (
	"slices"
	"strings"

	"tombolo/dataset"
	"tombolo/fhir"
)

// Orders: tests and treatments (ORM, OMG, OML), medicines (OMP, RDE, RDS, RGV, RAS), and the answers to them. An ORC begins an order; the
// segment that says what is ordered, given or dispensed makes the resource. HL7 v2.4 §4.4, v2.5.1 §4.13

// An order is one ORC with what follows it.
type order struct {
	orc, detail Segment
	segs        []Segment
	lines       []obx // what was asked or measured when it was ordered
	notes       []string
}

// details are the segments that say what an order is of, the later in a medicine's way the higher.
var details = map[string]int{"OBR": 9, "RXO": 1, "RXE": 2, "RXD": 3, "RXG": 3, "RXA": 3}

func gatherOrders(segs []Segment) []order {
	var out []order
	var cur *order
	begin := func(s Segment) {
		out = append(out, order{})
		cur = &out[len(out)-1]
		if s.name == "ORC" {
			cur.orc = s
		}
	}
	for _, s := range segs {
		rank := details[s.name]
		switch {
		case s.name == "ORC":
			begin(s)
		case rank > 0:
			switch {
			case cur == nil || cur.detail.name == "OBR":
				begin(s)
			case cur.detail.name == s.name: // one order, given twice
				was := *cur
				begin(s)
				cur.orc = was.orc
				for _, t := range was.segs {
					if t.name == "RXO" || t.name == "RXE" {
						cur.segs = append(cur.segs, t)
					}
				}
			}
			if rank >= details[cur.detail.name] {
				cur.detail = s
			}
		case s.name == "OBX" && cur != nil:
			if last := len(cur.lines) - 1; last >= 0 && continues(cur.lines[last], s) {
				cur.lines[last].more = append(cur.lines[last].more, s)
			} else {
				cur.lines = append(cur.lines, obx{Segment: s})
			}
		case s.name == "NTE" && cur != nil:
			if last := len(cur.lines) - 1; last >= 0 {
				cur.lines[last].notes = append(cur.lines[last].notes, comment(s))
			} else {
				cur.notes = append(cur.notes, comment(s))
			}
		}
		if cur != nil {
			cur.segs = append(cur.segs, s)
		}
	}
	return out
}

func (x *mapper) orders(segs []Segment) *fhir.Issue {
	answer := x.code == "ORR" || x.code == "ORG" || x.code == "ORL" || x.code == "ORI"
	if answer && !first(segs, "PID").Exists() { // an answer need not say again whose order it is
		x.note(fhir.Informational, "PID", "an answer that does not say whose order it answers was kept as it came")
		return nil
	}
	if issue := x.who(segs); issue != nil {
		return issue
	}
	visit := x.visitID(first(segs, "PV1"))
	x.background(segs)
	all := gatherOrders(segs)
	if len(all) == 0 && !answer {
		return fhir.Errorf(fhir.Required, "an order message needs ORC, the order").At("ORC")
	}
	for i := range all {
		x.order1(&all[i], visit)
	}
	return nil
}

// order1 makes the resource of one order.
func (x *mapper) order1(o *order, visit string) {
	number := x.orderNumber(o)
	if number == "" {
		x.note(fhir.Required, o.orc.Place(2), "an order without a number was left out: a change to it could never be told from a new one")
		return
	}
	sc := &scope{own: o.detail, segs: o.segs, grouped: true}
	if i := slices.IndexFunc(sc.segs, func(s Segment) bool { return s == o.detail }); i > 0 { // route and timing are those that follow it, before those of another
		sc.segs = slices.Concat(sc.segs[i:], sc.segs[:i])
	}
	f := fhir.M{"subject": x.subject()}
	if o.detail.name != "RXA" && (o.detail.name != "RXD" || o.detail.Field(7).Empty()) { // what is given or dispensed is not the order
		f["identifier"] = append(x.orderNumbers(o.detail, o.orc, 2, "PLAC"), x.orderNumbers(o.detail, o.orc, 3, "FILL")...)
	}
	if visit != "" {
		f["encounter"] = fhir.Reference{Reference: "Encounter/" + visit}
	}
	if t := text(strings.Join(o.notes, "\n")); t != "" {
		f["note"] = []any{fhir.Annotation{Text: t}}
	}
	f["supportingInfo"] = x.orderEntry(o, o.detail, number, visit)
	if o.detail.name != "OBR" && (o.detail.Exists() || x.medicines()) {
		rename(f, "supportingInfo", "supportingInformation") // as medicines' resources call it
	}
	switch o.detail.name {
	case "RXO", "RXE", "RXG":
		x.prescription(o, sc, f, number)
	case "RXD":
		x.dispensed(o, sc, f, number)
	case "RXA":
		x.given(o, sc, f, number)
	case "OBR":
		x.request(o, sc, f, number)
	default: // only that something became of an order
		if x.medicines() {
			x.prescription(o, sc, f, number)
		} else {
			x.request(o, sc, f, number)
		}
	}
}

// medicines reports whether the message's orders are of medicines, where no segment says of what.
func (x *mapper) medicines() bool { return strings.HasPrefix(x.code, "R") || x.code == "OMP" }

// orderEntry makes an Observation of each OBX of an order: what was asked at order entry, or measured for it. Each belongs to the order alone.
// HL7 v2.5.1 §4.4.6; v2-to-FHIR OML_O21
func (x *mapper) orderEntry(o *order, obr Segment, number, visit string) []fhir.Reference {
	var out []fhir.Reference
	r := &report{base: id("AOE", number)}
	if obr.name == "OBR" {
		r.obr = obr
	}
	for _, l := range o.lines {
		if kind := str(l.Field(2), 0); kind == "ED" || kind == "RP" {
			x.note(fhir.NotSupported, l.Place(5), "a document that comes with an order is kept in the raw message only: send it as MDM")
			continue
		}
		out = append(out, x.observation(r, 0, l, "", "final", visit))
	}
	for _, p := range x.later {
		delete(p.fields, "category")
		x.addFrom(p.sc, "Observation", p.ref.ID(), p.fields)
	}
	x.later = nil
	return out
}

// orderNumber is the placer's number, else the filler's.
func (x *mapper) orderNumber(o *order) string {
	for _, c := range [...]struct {
		field  int
		prefix string
	}{{2, ""}, {3, "F-"}} {
		if n := str(orderField(o.detail, o.orc, c.field), 1); n != "" {
			return c.prefix + n
		}
	}
	return ""
}

// orderStatus is ORC-5, else what ORC-1 asks for or answers. HL7 tables 0038, 0119
func (x *mapper) orderStatus(sc *scope, orc Segment) string {
	if s := x.translate("order-status", orc.Field(5)); s != "" {
		return s
	}
	if s := x.translate("order-control", orc.Field(1)); s != "" {
		return s
	}
	sc.assumed = append(sc.assumed, "status")
	return "active"
}

func (x *mapper) request(o *order, sc *scope, f fhir.M, number string) {
	f["status"], f["intent"] = x.orderStatus(sc, o.orc), "order"
	x.fill("ServiceRequest", f, sc, "OBR", "ORC")
	for _, s := range o.segs {
		if s.name == "DG1" {
			x.fillFrom(x.mp.blocks["ServiceRequest"]["DG1"], f, &scope{x: x, own: s})
		}
	}
	made := x.unique(id(number))
	var spms []Segment
	for _, s := range o.segs {
		if s.name == "SPM" {
			spms = append(spms, s)
		}
	}
	var taken []fhir.Reference
	before := x.m.noted()
	for _, r := range x.specimens(spms, o.detail, made) {
		if r.Reference != "" {
			taken = append(taken, r)
		} else { // what is to be taken, in words
			x.m.forget(before)
		}
	}
	f["specimen"] = taken
	heading := dataset.Results
	section := str(o.detail.Field(24), 0)
	if _, ok := x.lookup("imaging-section", section); ok || section == "" && imagingWords.MatchString(o.detail.Field(4).Raw()) {
		heading = dataset.Imaging
	}
	f["meta"] = tagged(heading)
	if !o.detail.Exists() { // what it was of, the order itself said
		sc.assumed = append(sc.assumed, "meta.tag")
	}
	x.addFrom(sc, "ServiceRequest", made, f)
}

func (x *mapper) prescription(o *order, sc *scope, f fhir.M, number string) {
	status, _ := x.lookup("medication-request-status", x.orderStatus(sc, o.orc))
	f["status"], f["intent"] = status.code, "order"
	if o.detail.name == "RXG" {
		f["intent"] = "instance-order"
	}
	from := []string{"ORC"}
	if o.detail.Exists() {
		from = append(from, o.detail.name)
	}
	if o.detail.name != "RXE" {
		x.fill("MedicationRequest", f, sc, from...)
	} else { // as it was ordered speaks only where as it was encoded does not: two doses would be taken for two to be given
		if o.detail.Field(3).Empty() && o.detail.Field(7).Empty() { // a route alone is no instruction
			x.fillRest("MedicationRequest", "RXO", f, sc, "dosageInstruction")
		}
		for _, name := range append(from, "RXO") {
			x.fillRest("MedicationRequest", name, f, sc)
		}
		x.fill("MedicationRequest", f, sc) // the feed's own segments
	}
	if f["medicationCodeableConcept"] == nil {
		f["medicationCodeableConcept"] = fhir.CodeableConcept{Text: "A medicine that the message does not name"}
		sc.assumed = append(sc.assumed, "medicationCodeableConcept")
	}
	x.addFrom(sc, "MedicationRequest", x.unique(id(number)), f)
}

func (x *mapper) dispensed(o *order, sc *scope, f fhir.M, number string) {
	f["status"] = "completed"
	rename(f, "encounter", "context")
	x.fill("MedicationDispense", f, sc, "RXD")
	if f["medicationCodeableConcept"] == nil {
		x.note(fhir.Required, o.detail.Place(2), "a dispensing that does not say of what was left out")
		return
	}
	f["authorizingPrescription"] = []fhir.Reference{{Reference: "MedicationRequest/" + id(number)}}
	if n := str(o.detail.Field(7), 1); n != "" {
		f["identifier"] = []fhir.Identifier{{System: x.systemOf(x.o.Authority), Value: n}}
	}
	x.addFrom(sc, "MedicationDispense", x.unique("D", id(number), str(o.detail.Field(1), 0)+"-"+hash(o.detail.Field(3).Raw())), f)
}

func (x *mapper) given(o *order, sc *scope, f fhir.M, number string) {
	f["status"] = x.translate("administration", o.detail.Field(20))
	if f["status"] == "" {
		f["status"] = "completed"
	}
	if x.takenBack(o.detail.Field(21)) {
		f["status"] = "entered-in-error"
	}
	rename(f, "encounter", "context")
	x.fill("MedicationAdministration", f, sc, "RXA")
	if f["medicationCodeableConcept"] == nil {
		x.note(fhir.Required, o.detail.Place(5), "a medicine given that is not named was left out")
		return
	}
	if f["effectiveDateTime"] == nil && f["effectivePeriod"] == nil {
		x.note(fhir.Required, o.detail.Place(3), "the message does not say when the medicine was given; it was left out")
		return
	}
	f["request"] = fhir.Reference{Reference: "MedicationRequest/" + id(number)}
	x.addFrom(sc, "MedicationAdministration", x.unique("A", id(number), hash(o.detail.Field(3).Raw(), key(o.detail.Field(5)), o.detail.Field(2).Raw())), f)
}

func rename(f fhir.M, from, to string) {
	if v, ok := f[from]; ok {
		f[to] = v
		delete(f, from)
	}
}

// vaccinations are VXU: each RXA is an Immunization. HL7 v2.5.1 §4.17.1
func (x *mapper) vaccinations(segs []Segment) *fhir.Issue {
	if issue := x.who(segs); issue != nil {
		return issue
	}
	x.contacts(segs)
	x.background(segs)
	visit := x.visitID(first(segs, "PV1"))
	for _, o := range gatherOrders(segs) {
		if o.detail.name != "RXA" {
			continue
		}
		sc := &scope{own: o.detail, segs: o.segs, grouped: true}
		f := fhir.M{"patient": x.subject(), "identifier": x.orderNumbers(Segment{}, o.orc, 3, "FILL"), "status": x.translate("completion", o.detail.Field(20))}
		if f["status"] == "" {
			f["status"] = "completed"
			sc.assumed = append(sc.assumed, "status")
		}
		if x.takenBack(o.detail.Field(21)) {
			f["status"] = "entered-in-error"
		}
		if visit != "" {
			f["encounter"] = fhir.Reference{Reference: "Encounter/" + visit}
		}
		x.fill("Immunization", f, sc, "RXA", "ORC")
		if f["vaccineCode"] == nil {
			x.note(fhir.Required, o.detail.Place(5), "a vaccination that does not say with what was left out")
			continue
		}
		if f["occurrenceDateTime"] == nil {
			f["occurrenceString"] = "not stated"
		}
		// Where it came from: HL7 table NIP001, "00" is the record of whoever gave it.
		if source := peek(o.detail.Field(9), 1); len(source) == 2 {
			f["primarySource"] = str(o.detail.Field(9), 1) == "00"
		}
		if t := text(strings.Join(o.notes, "\n")); t != "" {
			f["note"] = []fhir.Annotation{{Text: t}}
		}
		made := ""
		if n := x.orderNumbers(Segment{}, o.orc, 3, "FILL"); len(n) > 0 && n[0].Value != "9999" { // 9999: no order, CDC IG 2.5.1
			made = x.unique("IM", n[0].Value)
		} else {
			delete(f, "identifier")
			made = x.unique("IM", hash(x.patient, key(o.detail.Field(5)), str(o.detail.Field(3), 1)))
		}
		ref := x.addFrom(sc, "Immunization", made, f)
		from := len(x.d.Content)
		x.orderEntry(&o, Segment{}, made, visit)
		for i, r := range x.d.Content[from:] { // an Immunization names no observations: they name it
			x.d.Content[from+i] = r.With("partOf", []fhir.Reference{{Reference: string(ref)}})
		}
	}
	return nil
}
