package hl7v2

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"tombolo/fhir"
)

// A Letterhead is what stands in the header of the messages written: who sends, who is meant, and the version they are in.
type Letterhead struct {
	Application, Facility     string // MSH-3, MSH-4: who this is; TOMBOLO and the receiver's own facility if empty
	ToApplication, ToFacility string // MSH-5, MSH-6
	Version                   string // 2.3 to 2.5.1; 2.4 if empty
	Processing                string // MSH-11: P if empty
}

// Write says in HL7 v2 what a resource says: a Patient, or a Bundle of one Patient and what is told of them. It gives one message for each visit,
// appointment, document and report, and if there is none of these one about the patient:
//
//	Patient            ADT^A28 if it is the first version, ADT^A31; ADT^A40 if another Patient of the Bundle has taken it over
//	Encounter          ADT^A05, A01, A04, A08, A21, A03, A11, A23, by status
//	Appointment        SIU^S12, S14, S15, S17, S26
//	DocumentReference  MDM^T02, T06, T08, T10, T11, with the Binary of the Bundle
//	DiagnosticReport   ORU^R01, with the Observations of the Bundle
//
// The same version of a resource gives the same bytes under the same MSH-10, whenever it is written, so that a receiver can know it again. No value can
// change a message's shape. An error of type NotSupported says what HL7 v2 cannot be made to say of it: a message that would leave out a result or a
// document is not written at all.
func Write(r *fhir.Resource, o Options, h Letterhead) ([][]byte, error) {
	o = o.withDefaults()
	w := &writer{o: &o, h: h, by: map[string]*fhir.Resource{}}
	if err := w.open(r); err != nil {
		return nil, err
	}
	var out [][]byte
	for _, f := range w.foci {
		w.e, w.msh = Encoder{}, nil
		if err := w.message(f); err != nil {
			return nil, err
		}
		out = append(out, w.headed())
	}
	return out, nil
}

// A writer writes the messages of one Bundle.
type writer struct {
	o       *Options
	h       Letterhead
	by      map[string]*fhir.Resource // by reference and fullUrl
	patient *fhir.Resource            // the living one
	closed  *fhir.Resource            // one that was merged into it
	foci    []*fhir.Resource          // what there is a message about
	msh     Fields
	e       Encoder // what follows MSH
}

// open finds out who and what a Bundle is about.
func (w *writer) open(r *fhir.Resource) error {
	all := []*fhir.Resource{r}
	if r.Type() == "Bundle" {
		all = nil
		for e := range r.Value().All("entry") {
			one, err := fhir.Parse(e.Get("resource").Raw())
			if err != nil {
				return fhir.Errorf(fhir.Structure, "an entry of the Bundle is no resource").At("Bundle.entry.resource")
			}
			all = append(all, one)
			w.by[string(one.Ref())] = one
			if u := e.Text("fullUrl"); u != "" {
				w.by[u] = one
			}
		}
	}
	for _, one := range all {
		switch one.Type() {
		case "Patient":
			into := &w.patient
			if one.Text("link.type") == "replaced-by" {
				into = &w.closed
			}
			if *into != nil {
				return fhir.Errorf(fhir.BusinessRule, "the Bundle holds two patients: one message is about one").At("Patient")
			}
			*into = one
		case "Encounter", "Appointment", "DocumentReference", "DiagnosticReport":
			w.foci = append(w.foci, one)
		}
	}
	w.foci = slices.DeleteFunc(w.foci, func(f *fhir.Resource) bool { return f.Type() == "DocumentReference" && w.replaced(f) })
	switch {
	case w.patient == nil && w.closed != nil:
		return fhir.Errorf(fhir.Required, "to tell of a merge the Bundle must hold the patient who took over too").At("Patient.link")
	case w.patient == nil:
		return fhir.Errorf(fhir.Required, "the Bundle holds no Patient, and a message is about one").At("Patient")
	case len(w.patient.Identifiers()) == 0:
		return fhir.Errorf(fhir.Required, "the patient has no identifier by which the receiver could know them").At("Patient.identifier")
	case w.closed != nil:
		w.foci = append([]*fhir.Resource{w.closed}, w.foci...)
	case len(w.foci) == 0:
		w.foci = []*fhir.Resource{w.patient}
	}
	return nil
}

// replaced reports whether another document of the Bundle takes this one's place or adds to it: this one is there to be named.
func (w *writer) replaced(f *fhir.Resource) bool {
	return slices.ContainsFunc(w.foci, func(o *fhir.Resource) bool {
		return o != f && w.find(o.Text("relatesTo.target.reference")) == f
	})
}

// find is a resource of the Bundle by a reference to it; nil if it is not there.
func (w *writer) find(ref string) *fhir.Resource {
	if r := w.by[ref]; r != nil {
		return r
	}
	parts := strings.Split(ref, "/")
	if n := len(parts); n >= 2 {
		return w.by[parts[n-2]+"/"+parts[n-1]]
	}
	return nil
}

func (w *writer) message(f *fhir.Resource) error {
	again := f.Text("meta.versionId") != "" && f.Text("meta.versionId") != "1" // it has been told of before
	switch f.Type() {
	case "Patient":
		return w.person(f, again)
	case "Encounter":
		return w.visit(f, again)
	case "Appointment":
		return w.appointment(f, again)
	case "DocumentReference":
		return w.document(f, again)
	}
	return w.report(f)
}

// versionOf is the version written in, and whether messages name their structure, as they do from v2.3.1. HL7 v2.4 §2.16.9.9
func (w *writer) versionOf() (version string, structured bool) {
	version = w.h.Version
	if version == "" {
		version = "2.4"
	}
	return version, version > "2.3"
}

// head begins a message, with EVN where it has one. Its time is that of the resource, not of the writing.
func (w *writer) head(f *fhir.Resource, code, event, structure string) {
	version, structured := w.versionOf()
	at := f.Text("meta.lastUpdated")
	if at == "" { // nothing by which two writings could be known to be of one version, so they are two
		at = w.o.Now().Format(time.RFC3339)
	}
	kind := Comp(code, event)
	if structured {
		kind = Comp(code, event, structure)
	}
	w.msh = Fields{3: cmp.Or(w.h.Application, "TOMBOLO"), 4: cmp.Or(w.h.Facility, w.o.Organisation), 5: w.h.ToApplication, 6: w.h.ToFacility, 7: ts(at), 9: kind,
		11: cmp.Or(w.h.Processing, "P"), 12: version, 17: "GBR", 18: "UNICODE UTF-8"}
	if code == "ADT" || code == "MDM" {
		w.e.Segment("EVN", Fields{1: event, 2: ts(at)})
	}
}

// headed is the whole message. Its control id is made of what it says, so that the same said again is known by it.
func (w *writer) headed() []byte {
	var e Encoder
	w.msh[10] = "T" + hash(w.o.Source, wire(w.msh[7]), wire(w.msh[9]), string(w.e.Bytes()))
	e.Segment("MSH", w.msh)
	return append(e.Bytes(), w.e.Bytes()...)
}

// person writes what is known of somebody, or that two records are one. HL7 v2.4 §3.3.28, §3.3.31, §3.3.40
func (w *writer) person(f *fhir.Resource, again bool) error {
	switch {
	case f == w.closed:
		w.head(f, "ADT", "A40", "ADT_A39")
		w.pid()
		w.e.Segment("MRG", Fields{1: each(f.Identifiers(), w.o.cx), 7: each(first1(allOf[fhir.HumanName](f, "name")), w.o.xpn)})
		return nil
	case again:
		w.head(f, "ADT", "A31", "ADT_A05")
	default:
		w.head(f, "ADT", "A28", "ADT_A05")
	}
	w.pid()
	w.e.Segment("PV1", Fields{2: "N"})
	return nil
}

func first1[T any](all []T) []T { return all[:min(len(all), 1)] }

// pid writes PID and PD1, as maps/segments/PID.yaml and PD1.yaml read them.
func (w *writer) pid() {
	p, o := w.patient, w.o
	var home, work []fhir.ContactPoint
	for _, t := range allOf[fhir.ContactPoint](p, "telecom") {
		if t.Use == "work" {
			work = append(work, t)
		} else if t.Use != "old" {
			home = append(home, t)
		}
	}
	ids := p.Identifiers()
	f := Fields{1: "1", 3: each(ids, o.cx), 5: each(allOf[fhir.HumanName](p, "name"), o.xpn), 7: ts(p.Text("birthDate")), 8: o.codeFor("sex", p.Text("gender")),
		11: each(allOf[fhir.Address](p, "address"), o.xad), 13: each(home, o.xtn), 14: each(work, o.xtn), 16: w.coded(p, "maritalStatus", "marital-status"),
		29: ts(p.Text("deceasedDateTime"))}
	if l := allOf[fhir.CodeableConcept](p, "communication.language"); len(l) > 0 && len(l[0].Coding) > 0 {
		f[15] = Comp(l[0].Coding[0].Code, l[0].Coding[0].Display)
	}
	if p.Text("deceasedDateTime") != "" || p.Get("deceasedBoolean").Bool() {
		f[30] = "Y"
	}
	for x := range p.Value().All("extension") {
		if strings.HasSuffix(x.Text("url"), "Extension-UKCore-EthnicCategory") {
			f[22] = o.codeFor("ethnic-category", x.Text("valueCodeableConcept.coding.code"))
		}
	}
	for _, id := range ids {
		if id.System == fhir.SystemNHSNumber && len(id.Extension) > 0 {
			f[32] = o.codeFor("nhs-number-status", verification(p))
		}
	}
	w.e.Segment("PID", f)
	pd1 := Fields{}
	for _, g := range allOf[fhir.Reference](p, "generalPractitioner") {
		if g.Type == "Practitioner" || strings.HasPrefix(g.Reference, "Practitioner/") {
			pd1[4] = o.xcn(g)
		} else {
			pd1[3] = o.xon(g)
		}
	}
	for s := range p.Value().All("meta.security.code") {
		if s.Str() == "R" {
			pd1[12] = "Y"
		}
	}
	if len(pd1) > 0 {
		w.e.Segment("PD1", pd1)
	}
}

// verification is the status of the patient's NHS number.
func verification(p *fhir.Resource) string {
	for id := range p.Value().All("identifier") {
		for x := range id.All("extension") {
			if x.Text("url") == extNHSVerification {
				return x.Text("valueCodeableConcept.coding.code")
			}
		}
	}
	return ""
}

// coded is a concept of which the field takes the code of a table, where the table has it, else the concept itself.
func (w *writer) coded(r *fhir.Resource, path, table string) any {
	c := r.Concept(path)
	for _, k := range c.Coding {
		if code := w.o.codeFor(table, k.Code); code != "" {
			return Comp(code, k.Display)
		}
	}
	if c.IsZero() {
		return ""
	}
	return w.o.ce(c)
}
