// Package ips writes the International Patient Summary: one document of what is most needed of a record, for whoever does not know the person.
//
// It is given what the record holds under each heading and how each heading stands, and looks nothing up. That nothing is there is never written as "none known": the summary's
// code for that is used by no line of this package, only by sources that said so themselves (design law 3).
//
// HL7 IPS 1.1.0 StructureDefinition-Composition-uv-ips.html, FHIR R4 documents.html
package ips

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"html"
	"slices"
	"strings"
	"time"

	"tombolo/dataset"
	"tombolo/fhir"
)

// A Part is what a record holds under one heading.
type Part struct {
	Heading   dataset.Heading
	State     dataset.State
	Resources []*fhir.Resource
	Unknown   []string // names of those whose part is not known
	NotShared []string // names of those who do not share theirs
	Reach     []string // of those who have none: how far back they go, in words, where that is worth saying
}

// A Record is what a summary is made of.
type Record struct {
	Patient    *fhir.Resource
	Parts      []Part
	Supporting map[fhir.Ref]*fhir.Resource // what entries refer to beside the record
	At         time.Time
	Base       string // the server's base URL
	Author     string // who puts it together, in words
	Version    string // of the program
	Custodian  string // whose record system it is
	Notices    []string
}

// StateExtension is where a section says how its heading stands, in the words of the data set.
const StateExtension = "https://tombolo.dev/StructureDefinition/heading-state"

const profile = "http://hl7.org/fhir/uv/ips/StructureDefinition/"

// A section of the summary.
type section struct {
	code, display, title string
	headings             []dataset.Heading
	takes                func(*fhir.Resource) bool
	absent               func(subject fhir.Reference) *fhir.Resource // of a section that must be there: what stands for nothing
}

func types(names ...string) func(*fhir.Resource) bool {
	return func(r *fhir.Resource) bool { return slices.Contains(names, r.Type()) }
}

func category(code string) func(*fhir.Resource) bool {
	return func(r *fhir.Resource) bool { return r.Type() == "Observation" && categories(r)[code] }
}

func categories(r *fhir.Resource) map[string]bool {
	out := map[string]bool{}
	for c := range r.Value().All("category.coding.code") {
		out[c.Str()] = true
	}
	return out
}

// past reports whether a condition is over.
func past(r *fhir.Resource) bool {
	return slices.Contains([]string{"inactive", "resolved", "remission"}, r.Text("clinicalStatus.coding.code"))
}

// sections are those of the summary, in its order. IPS 1.1.0 §Composition: the first three must be there.
var sections = []section{
	{"11450-4", "Problem list - Reported", "Active problems", []dataset.Heading{dataset.Problems},
		func(r *fhir.Resource) bool { return r.Type() == "Condition" && !past(r) }, noProblems},
	{"48765-2", "Allergies and adverse reactions Document", "Allergies and intolerances", []dataset.Heading{dataset.Allergies}, types("AllergyIntolerance"), noAllergies},
	{"10160-0", "History of Medication use Narrative", "Medicines", []dataset.Heading{dataset.Medications}, types("MedicationStatement", "MedicationRequest"), noMedications},
	{"11369-6", "History of Immunization Narrative", "Immunisations", []dataset.Heading{dataset.Immunisations}, types("Immunization"), nil},
	{"30954-2", "Relevant diagnostic tests/laboratory data Narrative", "Results", []dataset.Heading{dataset.Results, dataset.Imaging},
		types("Observation", "DiagnosticReport"), nil},
	{"47519-4", "History of Procedures Document", "Procedures", []dataset.Heading{dataset.Procedures}, types("Procedure"), nil},
	{"46264-8", "History of medical device use", "Devices", []dataset.Heading{dataset.Devices}, types("DeviceUseStatement"), nil},
	{"8716-3", "Vital signs", "Vital signs", []dataset.Heading{dataset.Observations}, category("vital-signs"), nil},
	{"11348-0", "History of Past illness Narrative", "Past problems", []dataset.Heading{dataset.Problems},
		func(r *fhir.Resource) bool { return r.Type() == "Condition" && past(r) }, nil},
	{"42348-3", "Advance directives", "Advance directives", []dataset.Heading{dataset.EndOfLife, dataset.Legal}, types("Consent"), nil},
	{"47420-5", "Functional status assessment note", "Functional status", []dataset.Heading{dataset.SocialContext, dataset.AboutMe, dataset.SocialCare}, types("Condition", "ClinicalImpression"), nil},
	{"10162-6", "History of pregnancies Narrative", "Pregnancies", []dataset.Heading{dataset.Maternity}, types("Observation"), nil},
	{"29762-2", "Social history Narrative", "Social history", []dataset.Heading{dataset.Observations, dataset.SocialContext}, category("social-history"), nil},
	{"18776-5", "Plan of care note", "Plan of care", []dataset.Heading{dataset.CarePlans}, types("CarePlan"), nil},
}

const absentSystem = "http://hl7.org/fhir/uv/ips/CodeSystem/absent-unknown-uv-ips"

func absentCode(code, display string) fhir.CodeableConcept {
	return fhir.Code(absentSystem, code, display)
}

func noProblems(subject fhir.Reference) *fhir.Resource {
	return fhir.New("Condition", "no-problem-info", fhir.M{"meta": fhir.M{"profile": []string{profile + "Condition-uv-ips"}},
		"clinicalStatus": fhir.Code("http://terminology.hl7.org/CodeSystem/condition-clinical", "active", ""),
		"code":           absentCode("no-problem-info", "No information about problems"), "subject": subject})
}

func noAllergies(subject fhir.Reference) *fhir.Resource {
	return fhir.New("AllergyIntolerance", "no-allergy-info", fhir.M{"meta": fhir.M{"profile": []string{profile + "AllergyIntolerance-uv-ips"}},
		"clinicalStatus": fhir.Code("http://terminology.hl7.org/CodeSystem/allergyintolerance-clinical", "active", ""),
		"code":           absentCode("no-allergy-info", "No information about allergies"), "patient": subject})
}

func noMedications(subject fhir.Reference) *fhir.Resource {
	return fhir.New("MedicationStatement", "no-medication-info", fhir.M{"meta": fhir.M{"profile": []string{profile + "MedicationStatement-uv-ips"}},
		"status": "unknown", "medicationCodeableConcept": absentCode("no-medication-info", "No information about medications"), "subject": subject,
		"_effectiveDateTime": fhir.M{"extension": []fhir.M{{"url": "http://hl7.org/fhir/StructureDefinition/data-absent-reason", "valueCode": "unknown"}}}})
}

// Document writes the summary as a document Bundle. FHIR R4 documents.html
func Document(rec Record) []byte {
	w := &writer{rec: rec, subject: fhir.Reference{Reference: string(rec.Patient.Ref())}, in: map[fhir.Ref]bool{}}
	var list []fhir.M
	for _, s := range sections {
		if m := w.section(s); m != nil {
			list = append(list, m)
		}
	}
	author := fhir.New("Device", "summary-author", fhir.M{"deviceName": []fhir.M{{"name": rec.Author, "type": "user-friendly-name"}}, "version": []fhir.M{{"value": cmp.Or(rec.Version, "unknown")}}})
	sum := sha256.Sum256([]byte(string(rec.Patient.Ref()) + fhir.Instant(rec.At)))
	id := hex.EncodeToString(sum[:16])
	composition := fhir.M{
		"meta":   fhir.M{"profile": []string{profile + "Composition-uv-ips"}},
		"status": "final", "type": fhir.Code("http://loinc.org", "60591-5", "Patient summary Document"), "subject": w.subject,
		"date": fhir.Instant(rec.At), "author": []fhir.Reference{{Reference: string(author.Ref())}},
		"title": "Patient summary, " + rec.At.UTC().Format("2 January 2006"), "confidentiality": "N",
		"text": narrative(w.overview()), "section": list,
	}
	if rec.Custodian != "" {
		composition["custodian"] = fhir.Reference{Type: "Organization", Display: rec.Custodian}
	}
	b := &document{base: rec.Base}
	b.begin(id, rec.At)
	b.add(fhir.New("Composition", id, composition))
	b.add(w.patient())
	b.add(author)
	for _, r := range w.given {
		b.add(r)
	}
	return b.end()
}

type writer struct {
	rec     Record
	subject fhir.Reference
	given   []*fhir.Resource
	in      map[fhir.Ref]bool
	silent  []string // sections that are not there, and are not known
}

// patient is the subject: a summary's has a name and a date of birth, or says that they are not known.
func (w *writer) patient() *fhir.Resource {
	p := w.rec.Patient
	if !p.Get("birthDate").Exists() {
		p = p.With("_birthDate", fhir.M{"extension": []fhir.M{{"url": "http://hl7.org/fhir/StructureDefinition/data-absent-reason", "valueCode": "unknown"}}})
	}
	return p
}

// section is one section, nil if it need not be there and has nothing.
func (w *writer) section(s section) fhir.M {
	var entries []*fhir.Resource
	var unknown, withheld, reach []string
	state := dataset.State("")
	for _, p := range w.rec.Parts {
		if !slices.Contains(s.headings, p.Heading) {
			continue
		}
		unknown, withheld = append(unknown, p.Unknown...), append(withheld, p.NotShared...)
		reach = append(reach, p.Reach...)
		state = worse(state, p.State)
		for _, r := range p.Resources {
			if s.takes(r) && !wrong(r) {
				entries = append(entries, r)
			}
		}
	}
	unknown, withheld = distinct(unknown), distinct(withheld)
	caveats := caveats(unknown, withheld)
	if len(entries) == 0 && s.absent == nil {
		if state != dataset.NoneRecorded && state != "" && state != dataset.Present || len(caveats) > 0 {
			w.silent = append(w.silent, s.title)
		}
		return nil
	}
	m := fhir.M{"title": s.title, "code": fhir.Code("http://loinc.org", s.code, s.display)}
	var lines []string
	var refs []fhir.Reference
	for _, r := range entries {
		w.take(r)
		refs = append(refs, fhir.Reference{Reference: string(r.Ref())})
		lines = append(lines, Line(r))
	}
	if len(entries) > 0 {
		state = dataset.Present
	} else {
		r := s.absent(w.subject)
		w.take(r)
		refs = append(refs, fhir.Reference{Reference: string(r.Ref())})
		if state == dataset.Present { // of the heading, but nothing of this section
			state = dataset.NotKnown
		}
		lines = append(lines, nothing(state))
		for _, back := range distinct(reach) {
			lines = append(lines, back+": anything older may not be in it.")
		}
	}
	m["entry"], m["text"] = refs, narrative(append(lines, caveats...))
	says := []fhir.M{{"url": "heading", "valueCode": s.headings[0]}, {"url": "state", "valueCode": cmp.Or(state, dataset.NotKnown)}}
	if len(caveats) > 0 { // what the narrative says, for programs
		says = append(says, fhir.M{"url": "incomplete", "valueBoolean": true})
	}
	m["extension"] = []fhir.M{{"url": StateExtension, "extension": says}}
	return m
}

// nothing says in words how a section without entries stands. None of it is "none known".
func nothing(s dataset.State) string {
	switch s {
	case dataset.NoneRecorded:
		return "Nothing is recorded that may be shown here. All that hold such records for this person have answered. Some may be withheld. That is not a statement that there are none."
	case dataset.NotShared:
		return "Not shown: what is recorded is not shared here. Whether there is anything is not known."
	}
	return "Not known."
}

// worse is the state of two headings together, where neither has an entry: the one that tells less.
func worse(a, b dataset.State) dataset.State {
	for _, s := range []dataset.State{dataset.NotKnown, dataset.NotShared, dataset.Present, dataset.NoneRecorded} {
		if a == s || b == s {
			return s
		}
	}
	return a
}

func caveats(unknown, withheld []string) (out []string) {
	if len(unknown) > 0 {
		out = append(out, "May be incomplete. Not known from: "+strings.Join(unknown, ", ")+".")
	}
	if len(withheld) > 0 {
		out = append(out, "May be incomplete. Not shared by: "+strings.Join(withheld, ", ")+".")
	}
	return out
}

func distinct(s []string) []string { return slices.Compact(slices.Sorted(slices.Values(s))) }

// wrong reports whether a resource was entered in error: it is nobody's to act on.
func wrong(r *fhir.Resource) bool {
	return r.Text("status") == "entered-in-error" || r.Text("verificationStatus.coding.code") == "entered-in-error"
}

// take puts a resource into the document, with what it refers to beside the record.
func (w *writer) take(r *fhir.Resource) {
	if w.in[r.Ref()] {
		return
	}
	w.in[r.Ref()] = true
	w.given = append(w.given, r)
	_, _ = fhir.MapReferences(r, func(_ fhir.Value, reference string) ([]byte, bool) {
		if s := w.rec.Supporting[fhir.Ref(reference)]; s != nil {
			w.take(s)
		}
		return nil, false
	})
}

// overview is what the document says of itself.
func (w *writer) overview() []string {
	lines := []string{"Put together by " + w.rec.Author + " on " + w.rec.At.UTC().Format("2 January 2006 at 15:04 MST") + "."}
	if len(w.silent) > 0 {
		lines = append(lines, "Left out because they are not known, or not shared: "+strings.Join(w.silent, ", ")+".")
	}
	return append(lines, w.rec.Notices...)
}

func narrative(lines []string) fhir.M {
	var b strings.Builder
	b.WriteString(`<div xmlns="http://www.w3.org/1999/xhtml"><ul>`)
	for _, l := range lines {
		b.WriteString("<li>" + html.EscapeString(l) + "</li>")
	}
	b.WriteString("</ul></div>")
	return fhir.M{"status": "generated", "div": b.String()}
}

// A document is a Bundle whose entries stand under the server's addresses.
type document struct {
	base string
	b    *fhir.BundleWriter
	id   string
	at   time.Time
}

func (d *document) begin(id string, at time.Time) {
	d.id, d.at, d.b = id, at, fhir.NewBundle("document", d.base, -1, 1<<14)
}

func (d *document) add(r *fhir.Resource) { d.b.Add(r, "") }

// end closes it, with the identifier and time that a document has. FHIR R4 bundle.html#invs bdl-9, bdl-10
func (d *document) end() []byte {
	res, err := fhir.Parse(d.b.Bytes())
	if err != nil {
		panic("ips: " + err.Error()) // it was assembled of resources
	}
	return res.With("identifier", fhir.M{"system": "urn:ietf:rfc:3986", "value": "urn:uuid:" + d.id[:8] + "-" + d.id[8:12] + "-4" + d.id[13:16] + "-8" + d.id[17:20] + "-" + d.id[20:32]}).
		With("timestamp", fhir.Instant(d.at)).With("meta", fhir.M{"profile": []string{profile + "Bundle-uv-ips"}}).Raw()
}
