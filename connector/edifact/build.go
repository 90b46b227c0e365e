package edifact

import (
	"strconv"
	"strings"
	"time"

	"tombolo/fhir"
)

// build makes the resources of what the segments said.
func (x *mapper) build() *fhir.Issue {
	x.name.Use = "official"
	if len(x.numbers) == 0 && x.name.Family == "" {
		return fhir.Errorf(fhir.Required, "the message does not say whose report it is").At("PNA")
	}
	if x.number == "" {
		return fhir.Errorf(fhir.Required, "the report has no number, so that a correction could never be told from a new one").At("RFF")
	}
	switch {
	case len(x.numbers) > 0: // bare, so that connector.Stamp sees that it is a national number and never shows it
		x.d.Patient = x.numbers[0].Value
	case x.localID != "":
		x.d.Patient = "L" + hash(x.organisation, x.localID)
	default:
		x.d.Patient = "N" + hash(x.organisation, strings.ToUpper(x.name.Family), strings.ToUpper(strings.Join(x.name.Given, " ")), x.born)
		x.note(fhir.Required, "PNA", "the patient has no number; they are known by name and date of birth")
	}
	x.base = "R" + hash(x.organisation, x.number)
	p := fhir.M{"name": []fhir.HumanName{x.name}}
	if len(x.numbers) > 0 {
		p["identifier"] = x.numbers
	}
	if x.localID != "" {
		p["identifier"] = append(x.numbers, fhir.Identifier{System: "urn:id:" + strings.ReplaceAll(x.organisation, " ", "-"), Value: x.localID})
	}
	set(p, "birthDate", x.born)
	set(p, "gender", x.gender)
	if len(x.address.Line) > 0 || x.address.PostalCode != "" {
		p["address"] = []fhir.Address{x.address}
	}
	x.d.Partial = []string{"Patient"}
	if t, err := time.Parse(time.RFC3339, x.issued); err == nil {
		x.d.Order = t.UTC().Format("20060102150405")
	}
	x.add("Patient", x.d.Patient, p)
	x.buildSpecimens()
	x.buildReport(x.buildTests())
	return nil
}

func set(f fhir.M, name, v string) {
	if v != "" {
		f[name] = v
	}
}

func (x *mapper) add(typ, id string, f fhir.M) {
	x.d.Content = append(x.d.Content, fhir.New(typ, id, f))
}

func (x *mapper) subject() fhir.Reference { return fhir.Reference{Reference: "Patient/" + x.d.Patient} }

func (x *mapper) buildSpecimens() {
	for i, sp := range x.specimens {
		sp.fields["subject"] = x.subject()
		if sp.number != "" {
			sp.fields["accessionIdentifier"] = fhir.Identifier{Value: sp.number}
		}
		if t := strings.Join(sp.notes, "\n"); t != "" {
			sp.fields["note"] = []fhir.Annotation{{Text: t}}
		}
		x.add("Specimen", x.base+".S"+strconv.Itoa(i+1), sp.fields)
	}
}

// specimenOf is the specimen that a test names, or the only one.
func (x *mapper) specimenOf(seq string) (fhir.Reference, bool) {
	for i, sp := range x.specimens {
		if sp.seq == seq || seq == "" && len(x.specimens) == 1 {
			kind, _ := sp.fields["type"].(fhir.CodeableConcept)
			return fhir.Reference{Reference: "Specimen/" + x.base + ".S" + strconv.Itoa(i+1), Display: kind.Words()}, true
		}
	}
	return fhir.Reference{}, false
}

// buildTests makes an Observation of each test. One that others name by its sequence is their group.
func (x *mapper) buildTests() []fhir.Reference {
	seen := map[string]int{}
	groups := map[string]*test{}
	for _, t := range x.tests {
		t.made = x.base + "." + hash(t.of, t.code.Words(), code(t.code))
		if n := seen[t.made]; n > 0 {
			seen[t.made]++
			t.made += "." + strconv.Itoa(n+1)
		} else {
			seen[t.made] = 1
		}
		if t.seq != "" {
			groups[t.seq] = t
		}
	}
	members := map[*test][]fhir.Reference{}
	for _, t := range x.tests {
		if g := groups[t.of]; g != nil && g != t && t.of != "" {
			members[g] = append(members[g], fhir.Reference{Reference: "Observation/" + t.made, Display: t.code.Words()})
			if t.specimen == "" {
				t.specimen = g.specimen
			}
		}
	}
	var out []fhir.Reference
	for _, t := range x.tests {
		out = append(out, fhir.Reference{Reference: "Observation/" + t.made, Display: t.code.Words()})
		x.observation(t, members[t])
	}
	return out
}

func code(c fhir.CodeableConcept) string {
	if len(c.Coding) == 0 {
		return ""
	}
	return c.Coding[0].Code
}

func (x *mapper) observation(t *test, members []fhir.Reference) {
	f := t.fields
	if t.code.IsZero() {
		t.code.Text = "Result"
		x.note(fhir.Required, t.place, "the test does not say what it is of")
	}
	f["code"], f["subject"] = t.code, x.subject()
	f["category"] = []fhir.CodeableConcept{fhir.Code(categorySystem, "laboratory", "Laboratory")}
	if f["status"] == nil {
		f["status"] = "unknown"
	}
	set(f, "issued", instant(x.issued))
	if len(x.performer) > 0 {
		f["performer"] = x.performer
	}
	if len(members) > 0 {
		f["hasMember"] = members
	}
	if sp, ok := x.specimenOf(t.specimen); ok {
		f["specimen"] = sp
		for _, s := range x.specimens {
			if c, ok := s.fields["collection"].(fhir.M); ok && (s.seq == t.specimen || len(x.specimens) == 1) && c["collectedDateTime"] != nil {
				f["effectiveDateTime"] = c["collectedDateTime"]
			}
		}
	}
	if len(t.text) > 0 {
		if f["valueQuantity"] == nil && f["valueCodeableConcept"] == nil && f["valueString"] == nil {
			f["valueString"] = strings.Join(t.text, "\n")
		} else {
			t.notes = append(t.text, t.notes...)
		}
	}
	if len(t.notes) > 0 {
		f["note"] = []fhir.Annotation{{Text: strings.Join(t.notes, "\n")}}
	}
	if len(t.ranges) > 0 {
		f["referenceRange"] = t.ranges
	}
	x.add("Observation", t.made, f)
}

// instant is a time of which FHIR wants the second. FHIR R4 datatypes.html#instant
func instant(s string) string {
	if len(s) < 20 {
		return ""
	}
	return s
}

func (x *mapper) buildReport(results []fhir.Reference) {
	f := fhir.M{"status": x.status, "subject": x.subject(), "identifier": []fhir.Identifier{{System: systemLocalReports, Value: x.number}}}
	if x.status == "" {
		f["status"] = "unknown"
	}
	set(f, "issued", instant(x.issued))
	title := "Laboratory report"
	section := fhir.Code(serviceSection, "LAB", "Laboratory")
	if x.radiology {
		title, section = "Radiology report", fhir.Code(serviceSection, "RAD", "Radiology")
		f["meta"] = tagImaging()
	}
	c := x.asked
	if c.IsZero() {
		c.Text = strings.TrimSpace(x.dept)
		if c.Text == "" {
			c.Text = title
		}
	}
	f["code"], f["category"] = c, []fhir.CodeableConcept{section}
	if len(x.performer) > 0 {
		f["performer"] = x.performer
	}
	if len(x.interpreter) > 0 {
		f["resultsInterpreter"] = x.interpreter
	}
	var specimens []fhir.Reference
	for i, sp := range x.specimens {
		kind, _ := sp.fields["type"].(fhir.CodeableConcept)
		specimens = append(specimens, fhir.Reference{Reference: "Specimen/" + x.base + ".S" + strconv.Itoa(i+1), Display: kind.Words()})
		if c, ok := sp.fields["collection"].(fhir.M); ok && c["collectedDateTime"] != nil && f["effectiveDateTime"] == nil {
			f["effectiveDateTime"] = c["collectedDateTime"]
		}
	}
	if len(specimens) > 0 {
		f["specimen"] = specimens
	}
	if len(results) > 0 {
		f["result"] = results
	}
	set(f, "conclusion", strings.Join(x.told, "\n"))
	if len(x.request) > 0 || len(x.requester) > 0 { // who asked, and what they said
		ask := fhir.M{"status": "completed", "intent": "order", "subject": x.subject(), "code": c, "category": []fhir.CodeableConcept{section}}
		if len(x.requester) > 0 {
			ask["requester"] = x.requester[0]
		}
		for _, t := range x.request {
			notes, _ := ask["note"].([]fhir.Annotation)
			ask["note"] = append(notes, fhir.Annotation{Text: t})
		}
		x.add("ServiceRequest", x.base, ask)
		f["basedOn"] = []fhir.Reference{{Reference: "ServiceRequest/" + x.base}}
	}
	x.add("DiagnosticReport", x.base, f)
}
