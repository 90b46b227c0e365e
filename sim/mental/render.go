package mental

import (
	"fmt"
	"hash/fnv"
	"strings"

	"tombolo/dataset"
	"tombolo/fhir"
	"tombolo/sim/cast"
)

// Where UK Core keeps what a mental health trust has to say. The legal status of a detained patient is an extension on the inpatient
// Encounter, and under a heading of its own the Observation of "Mental Health Act or equivalent status".
const (
	ukCore          = "https://fhir.hl7.org.uk/StructureDefinition/"
	recordHeadings  = "https://fhir.hl7.org.uk/CodeSystem/UKCore-RecordStandardHeadings"
	legalStatus     = "https://fhir.hl7.org.uk/CodeSystem/UKCore-LegalStatusClassificationEngland"
	legalContext    = "https://fhir.hl7.org.uk/CodeSystem/UKCore-LegalStatusContext"
	statusCodes     = "http://terminology.hl7.org/CodeSystem/"
	numberStatus    = "https://fhir.hl7.org.uk/CodeSystem/UKCore-NHSNumberVerificationStatus"
	actEncounter    = "http://terminology.hl7.org/CodeSystem/v3-ActCode"
	participantType = "http://terminology.hl7.org/CodeSystem/v3-ParticipationType"
)

// render makes a person's record as this trust holds it.
func (s *Server) render(p cast.Person) *record {
	b := &builder{server: s, person: p}
	rec := &record{patient: b.patient()}
	for i, item := range p.ItemsAt(s.o.Source) {
		if r := b.item(i, item); r != nil {
			rec.content = append(rec.content, r)
		}
	}
	for i, m := range p.MedicationsAt(s.o.Source) {
		rec.content = append(rec.content, b.medication(i, m))
	}
	for _, e := range p.EncountersAt(s.o.Source) {
		rec.content = append(rec.content, b.encounter(e))
	}
	return rec
}

type builder struct {
	server *Server
	person cast.Person
}

func (b *builder) self() fhir.Reference {
	return fhir.Reference{Reference: "Patient/" + b.person.LocalID(b.server.o.Source)}
}

// id is stable from run to run: the trust's own number of a thing.
func (b *builder) id(kind string, i int) string {
	h := fnv.New32a()
	_, _ = fmt.Fprint(h, kind, "/", b.person.Key, "/", i)
	return fmt.Sprintf("%s-%08x", kind, h.Sum32())
}

func meta(profile, label string) fhir.M {
	m := fhir.M{"profile": []string{ukCore + "UKCore-" + profile}}
	switch label {
	case "R":
		m["security"] = []fhir.Coding{{System: fhir.SystemConfidentiality, Code: "R", Display: "restricted"}}
	case "NOPAT":
		m["security"] = []fhir.Coding{{System: fhir.SystemActCode, Code: "NOPAT", Display: "no disclosure to patient, family or caregivers without attending provider's authorization"}}
	}
	return m
}

func (b *builder) patient() *fhir.Resource {
	p, o := b.person, b.server.o
	identifiers := []fhir.Identifier{{Use: "usual", System: "https://fhir." + strings.ToLower(o.ODS) + ".nhs.uk/Id/patient", Value: p.LocalID(o.Source)}}
	if p.NHS != "" {
		identifiers = append(identifiers, fhir.Identifier{Use: "official", System: fhir.SystemNHSNumber, Value: p.NHS, Extension: fhir.JSON([]fhir.M{{
			"url": ukCore + "Extension-UKCore-NHSNumberVerificationStatus", "valueCodeableConcept": fhir.Code(numberStatus, "number-present-and-verified", "Number present and verified")}})})
	}
	name := fhir.HumanName{Use: "official", Family: p.Family, Given: p.Given}
	if p.Prefix != "" {
		name.Prefix = []string{p.Prefix}
	}
	names := []fhir.HumanName{name}
	if p.Preferred != "" {
		names = append(names, fhir.HumanName{Use: "nickname", Given: []string{p.Preferred}})
	}
	label := ""
	fields := fhir.M{"identifier": identifiers, "active": true, "name": names, "gender": p.Sex, "birthDate": p.Born}
	if p.Restricted {
		label = "R"
	} else {
		fields["address"] = []fhir.Address{{Use: "home", Line: p.Address, City: p.City, PostalCode: p.Postcode}}
		if p.Phone != "" {
			fields["telecom"] = []fhir.ContactPoint{{System: "phone", Value: p.Phone, Use: "home"}}
		}
	}
	if p.Died != "" {
		fields["deceasedDateTime"] = p.Died
	}
	if p.Practice != "" {
		fields["generalPractitioner"] = []fhir.Reference{b.server.organisation(p.Practice)}
	}
	fields["managingOrganization"] = b.server.organisation(o.ODS)
	fields["meta"] = meta("Patient", label)
	return fhir.New("Patient", p.LocalID(o.Source), fields)
}

// organisation refers to an organisation of the region, by its ODS code.
func (s *Server) organisation(ods string) fhir.Reference {
	name := ods
	for _, o := range cast.Organisations {
		if o.ODS == ods {
			name = o.Name
		}
	}
	id := "org-" + strings.ToLower(ods)
	s.others["Organization/"+id] = fhir.New("Organization", id, fhir.M{"meta": meta("Organization", ""),
		"identifier": []fhir.Identifier{{System: fhir.SystemODS, Value: ods}}, "active": true, "name": name})
	return fhir.Reference{Reference: "Organization/" + id, Display: name}
}

// practitioner refers to whoever recorded something; the trust knows its own staff only by name.
func (s *Server) practitioner(name, role string) fhir.Reference {
	h := fnv.New32a()
	_, _ = h.Write([]byte(name))
	id := fmt.Sprintf("staff-%08x", h.Sum32())
	fields := fhir.M{"meta": meta("Practitioner", ""), "active": true, "name": []fhir.HumanName{{Text: name}}}
	if role != "" {
		fields["qualification"] = []fhir.M{{"code": fhir.CodeableConcept{Text: role}}}
	}
	if s.others["Practitioner/"+id] == nil || role != "" {
		s.others["Practitioner/"+id] = fhir.New("Practitioner", id, fields)
	}
	return fhir.Reference{Reference: "Practitioner/" + id, Display: name}
}

func concept(i cast.Item) fhir.CodeableConcept {
	if i.Code == "" {
		return fhir.CodeableConcept{Text: i.Display}
	}
	c := fhir.Code(i.System, i.Code, i.Display)
	c.Text = i.Display
	return c
}

func notes(text string) []fhir.Annotation {
	if text == "" {
		return nil
	}
	return []fhir.Annotation{{Text: text}}
}

// set adds what is not empty.
func set(m fhir.M, name string, value any) {
	switch v := value.(type) {
	case string:
		if v == "" {
			return
		}
	case []fhir.Annotation:
		if len(v) == 0 {
			return
		}
	case fhir.Period:
		if v == (fhir.Period{}) {
			return
		}
	}
	m[name] = value
}

// item renders one fact as the resource that UK Core has for it; nil for headings a mental health trust does not keep.
func (b *builder) item(n int, i cast.Item) *fhir.Resource {
	by := b.server.practitioner(i.By, i.Role)
	switch i.Heading {
	case dataset.Allergies:
		return b.allergy(n, i, by)
	case dataset.Problems:
		m := fhir.M{"meta": meta("Condition", i.Label), "subject": b.self(), "code": concept(i), "recorder": by,
			"category":           []fhir.CodeableConcept{fhir.Code(statusCodes+"condition-category", "problem-list-item", "Problem List Item")},
			"clinicalStatus":     fhir.Code(statusCodes+"condition-clinical", i.Status, ""),
			"verificationStatus": fhir.Code(statusCodes+"condition-ver-status", "confirmed", "Confirmed")}
		set(m, "onsetDateTime", i.Date)
		set(m, "abatementDateTime", i.End)
		set(m, "note", notes(i.Text))
		return fhir.New("Condition", b.id("cond", n), m)
	case dataset.CarePlans:
		return fhir.New("CarePlan", b.id("plan", n), fhir.M{"meta": meta("CarePlan", i.Label), "subject": b.self(), "status": i.Status, "intent": "plan",
			"category": []fhir.CodeableConcept{concept(i)}, "title": i.Display, "description": i.Text, "author": by, "created": i.Date,
			"period": fhir.Period{Start: i.Date, End: i.End}})
	case dataset.RiskAssessments:
		m := fhir.M{"meta": meta("RiskAssessment", i.Label), "subject": b.self(), "status": i.Status, "code": concept(i), "performer": by, "note": notes(i.Text)}
		set(m, "occurrenceDateTime", i.Date)
		if i.Level != "" {
			m["prediction"] = []fhir.M{{"qualitativeRisk": fhir.Code(statusCodes+"risk-probability", i.Level, "")}}
		}
		return fhir.New("RiskAssessment", b.id("risk", n), m)
	case dataset.Alerts:
		return fhir.New("Flag", b.id("flag", n), fhir.M{"meta": meta("Flag", i.Label), "subject": b.self(), "status": i.Status,
			"category": []fhir.CodeableConcept{fhir.Code(statusCodes+"flag-category", "safety", "Safety")}, "code": worded(i),
			"period": fhir.Period{Start: i.Date, End: i.End}, "author": by})
	case dataset.ProfessionalContacts:
		return fhir.New("CareTeam", b.id("team", n), fhir.M{"meta": meta("CareTeam", i.Label), "subject": b.self(), "status": i.Status, "name": i.Display,
			"participant": []fhir.M{{"role": []fhir.CodeableConcept{{Text: i.Role}}, "member": by}},
			"period":      fhir.Period{Start: i.Date, End: i.End}, "telecom": []fhir.ContactPoint{{System: "phone", Value: i.Text, Use: "work"}},
			"managingOrganization": []fhir.Reference{b.server.organisation(b.server.o.ODS)}})
	case dataset.Legal:
		return b.legal(n, i, by)
	case dataset.Observations:
		return fhir.New("Observation", b.id("obs", n), fhir.M{"meta": meta("Observation", i.Label), "subject": b.self(), "status": i.Status, "code": concept(i),
			"effectiveDateTime": i.Date, "performer": []fhir.Reference{by}, "valueString": strings.TrimSpace(i.Value + " " + i.Unit)})
	}
	return nil
}

// worded is an item's code with its free text as the words.
func worded(i cast.Item) fhir.CodeableConcept {
	c := concept(i)
	if i.Text != "" {
		c.Text = i.Display + ". " + i.Text
	}
	return c
}

func (b *builder) allergy(n int, i cast.Item, by fhir.Reference) *fhir.Resource {
	m := fhir.M{"meta": meta("AllergyIntolerance", i.Label), "patient": b.self(), "code": concept(i), "recorder": by,
		"clinicalStatus":     fhir.Code(statusCodes+"allergyintolerance-clinical", i.Status, ""),
		"verificationStatus": fhir.Code(statusCodes+"allergyintolerance-verification", "confirmed", "Confirmed")}
	set(m, "recordedDate", i.Date)
	if i.Level == "low" || i.Level == "high" {
		m["criticality"] = i.Level
	}
	if i.Text != "" {
		m["reaction"] = []fhir.M{{"manifestation": []fhir.CodeableConcept{{Text: i.Text}}}}
	}
	return fhir.New("AllergyIntolerance", b.id("alg", n), m)
}

// legal renders a legal status as an Observation under the record heading of the Mental Health Act.
func (b *builder) legal(n int, i cast.Item, by fhir.Reference) *fhir.Resource {
	heading := fhir.Code(recordHeadings, "legal-information", "Legal information")
	m := fhir.M{"meta": meta("Observation", i.Label), "subject": b.self(), "status": "final", "code": concept(i), "performer": []fhir.Reference{by},
		"effectivePeriod": fhir.Period{Start: i.Date, End: i.End}, "note": notes(i.Text)}
	if code, display := section(i); code != "" {
		heading = fhir.Code(recordHeadings, "mental-health-act-or-equivalent-status", "Mental Health Act or equivalent status")
		m["valueCodeableConcept"] = fhir.Code(legalStatus, code, display)
	}
	m["category"] = []fhir.CodeableConcept{heading}
	return fhir.New("Observation", b.id("legal", n), m)
}

// section is the national legal status classification of a detention.
func section(i cast.Item) (code, display string) {
	switch {
	case strings.Contains(i.Display, "section 2"):
		return "02", "Formally detained under Mental Health Act Section 2"
	case strings.Contains(i.Display, "section 3"):
		return "03", "Formally detained under Mental Health Act Section 3"
	}
	return "", ""
}

func (b *builder) medication(n int, m cast.Medication) *fhir.Resource {
	f := fhir.M{"meta": meta("MedicationRequest", ""), "subject": b.self(), "status": m.Status, "intent": "order",
		"medicationCodeableConcept": fhir.CodeableConcept{Coding: []fhir.Coding{{System: fhir.SystemSNOMED, Code: m.Code, Display: m.Display}}, Text: m.Display},
		"requester":                 b.server.practitioner(m.By, ""), "dosageInstruction": []fhir.M{{"text": m.Dose}}}
	if m.Type == "discharge" {
		f["category"] = []fhir.CodeableConcept{fhir.Code(statusCodes+"medicationrequest-category", "discharge", "Discharge")}
	} else {
		f["category"] = []fhir.CodeableConcept{fhir.Code(statusCodes+"medicationrequest-category", "community", "Community")}
		f["courseOfTherapyType"] = fhir.Code(statusCodes+"medicationrequest-course-of-therapy", course(m.Type), "")
	}
	set(f, "authoredOn", m.Start)
	set(f, "note", notes(m.For))
	return fhir.New("MedicationRequest", b.id("med", n), f)
}

func course(kind string) string {
	if kind == "repeat" {
		return "continuous"
	}
	return "acute"
}

func (b *builder) encounter(e cast.Encounter) *fhir.Resource {
	status := "finished"
	if e.End == "" {
		status = "in-progress"
	}
	kind := fhir.CodeableConcept{Text: e.Type}
	if e.Code != "" {
		kind.Coding = []fhir.Coding{{System: fhir.SystemSNOMED, Code: e.Code, Display: e.Type}}
	}
	f := fhir.M{"meta": meta("Encounter", ""), "subject": b.self(), "status": status, "class": fhir.Coding{System: actEncounter, Code: e.Class},
		"type": []fhir.CodeableConcept{kind}, "period": fhir.Period{Start: e.Start, End: e.End}, "serviceProvider": b.server.organisation(b.server.o.ODS),
		"participant": []fhir.M{{"type": []fhir.CodeableConcept{fhir.Code(participantType, "PPRF", "primary performer")}, "individual": b.server.practitioner(e.By, e.Role)}}}
	if e.Reason != "" {
		f["reasonCode"] = []fhir.CodeableConcept{{Text: e.Reason}}
	}
	if e.Where != "" && !b.person.Restricted {
		f["location"] = []fhir.M{{"location": fhir.Reference{Display: e.Where}}}
	}
	if e.Class == "IMP" {
		if x := b.detention(e); x != nil {
			f["extension"] = x
		}
	}
	return fhir.New("Encounter", e.ID, f)
}

// detention is the legal status in which a stay began, where the cast's facts say that the person was detained at its start.
func (b *builder) detention(e cast.Encounter) []fhir.M {
	for _, i := range b.person.ItemsAt(b.server.o.Source, dataset.Legal) {
		code, display := section(i)
		if code == "" || !strings.HasPrefix(e.Start, i.Date) {
			continue
		}
		return []fhir.M{{"url": ukCore + "Extension-UKCore-LegalStatus", "extension": []fhir.M{
			{"url": "legalStatusContext", "valueCodeableConcept": fhir.Code(legalContext, "admission", "Admission")},
			{"url": "legalStatusClassification", "valueCodeableConcept": fhir.Code(legalStatus, code, display)}}}}
	}
	return nil
}
