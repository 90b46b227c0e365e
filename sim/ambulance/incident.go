package ambulance

import (
	"encoding/json"
	"html"
	"strconv"

	"tombolo/fhir"
	"tombolo/sim/cast"
)

const (
	actCode    = "http://terminology.hl7.org/CodeSystem/v3-ActCode"
	obsClasses = "http://terminology.hl7.org/CodeSystem/observation-category"
)

// incident writes a 999 incident as a FHIR document. FHIR R4 documents.html
func (s *Service) incident(p cast.Person, e cast.Encounter, items []cast.Item) []byte {
	self := s.self(p)
	encounter := fhir.Reference{Reference: "urn:uuid:" + s.uuid("encounter", e.ID)}
	crew := fhir.Reference{Reference: "urn:uuid:" + s.uuid("practitioner", e.By), Display: e.By}
	service := fhir.Reference{Reference: "urn:uuid:" + s.uuid("organisation"), Display: s.org.Name}
	written := e.End
	if written == "" {
		written = e.Start
	}
	var resources []fhir.M
	add := func(full string, r *fhir.Resource) {
		resources = append(resources, fhir.M{"fullUrl": full, "resource": json.RawMessage(r.Raw())})
	}
	observations, sections := s.observations(p, e, items, self, encounter, crew)
	sections = append([]fhir.M{section("Incident", e.Reason, e.Where, p.Restricted), section("Clinical narrative", e.Note, "", true)}, sections...)

	add("urn:uuid:"+s.uuid("composition", e.ID), fhir.New("Composition", "", fhir.M{
		"status": "final", "type": fhir.CodeableConcept{Text: "Ambulance incident report"}, "subject": self, "encounter": encounter,
		"date": written, "author": []fhir.Reference{crew}, "title": "Ambulance incident report", "custodian": service, "section": sections}))
	add(self.Reference, s.patient(p))
	add(encounter.Reference, s.encounter(e, p, self, crew, service))
	add(crew.Reference, fhir.New("Practitioner", s.uuid("practitioner", e.By), fhir.M{"name": []fhir.HumanName{{Text: e.By}}}))
	add(service.Reference, fhir.New("Organization", s.uuid("organisation"), fhir.M{
		"identifier": []fhir.Identifier{{System: fhir.SystemODS, Value: s.org.ODS}}, "name": s.org.Name}))
	for _, o := range observations {
		add("urn:uuid:"+o.ID(), o)
	}
	return fhir.JSON(fhir.M{"resourceType": "Bundle", "type": "document", "timestamp": written, "entry": resources,
		"identifier": fhir.Identifier{System: "https://fhir.rya.nhs.uk/Id/document", Value: s.uuid("document", e.ID)}})
}

// self refers to the patient within a document.
func (s *Service) self(p cast.Person) fhir.Reference {
	return fhir.Reference{Reference: "urn:uuid:" + s.uuid("patient", p.Key)}
}

// section is a section with one paragraph; where is left out for a person whose whereabouts are restricted.
func section(title, text, where string, restricted bool) fhir.M {
	if where != "" && !restricted {
		text += ". Attended at: " + where
	}
	if text == "" {
		text = "Nothing recorded"
	}
	return fhir.M{"title": title, "text": fhir.M{"status": "generated", "div": `<div xmlns="http://www.w3.org/1999/xhtml"><p>` + html.EscapeString(text) + `</p></div>`}}
}

func (s *Service) patient(p cast.Person) *fhir.Resource {
	m := fhir.M{"identifier": s.numbers(p), "name": []fhir.HumanName{{Use: "official", Family: p.Family, Given: p.Given}}, "gender": p.Sex, "birthDate": p.Born}
	if p.Restricted {
		m["meta"] = fhir.M{"security": []fhir.Coding{{System: fhir.SystemConfidentiality, Code: "R"}}}
	} else {
		m["address"] = []fhir.Address{{Use: "home", Line: p.Address, City: p.City, PostalCode: p.Postcode}}
	}
	return fhir.New("Patient", "", m)
}

func (s *Service) encounter(e cast.Encounter, p cast.Person, self, crew, service fhir.Reference) *fhir.Resource {
	kind := fhir.CodeableConcept{Text: e.Type}
	if e.Code != "" {
		kind.Coding = []fhir.Coding{{System: fhir.SystemSNOMED, Code: e.Code, Display: e.Type}}
	}
	m := fhir.M{"identifier": []fhir.Identifier{{System: "https://fhir.rya.nhs.uk/Id/incident", Value: e.ID}}, "status": "finished",
		"class": fhir.Coding{System: actCode, Code: e.Class}, "type": []fhir.CodeableConcept{kind}, "subject": self,
		"period": fhir.Period{Start: e.Start, End: e.End}, "serviceProvider": service,
		"participant": []fhir.M{{"type": []fhir.CodeableConcept{{Text: e.Role}}, "individual": crew}},
		"reasonCode":  []fhir.CodeableConcept{{Text: e.Reason}}}
	if e.End == "" {
		m["status"] = "in-progress"
	}
	if e.Where != "" && !p.Restricted {
		m["location"] = []fhir.M{{"location": fhir.Reference{Display: e.Where}}}
	}
	return fhir.New("Encounter", s.uuid("encounter", e.ID), m)
}

// observations are the facts found at the incident, and a section that lists them.
func (s *Service) observations(p cast.Person, e cast.Encounter, items []cast.Item, self, encounter, crew fhir.Reference) ([]*fhir.Resource, []fhir.M) {
	var out []*fhir.Resource
	var entries []fhir.Reference
	words := ""
	for n, i := range items {
		id := s.uuid("observation", e.ID, strconv.Itoa(n))
		m := fhir.M{"status": "final", "code": fhir.Code(i.System, i.Code, i.Display), "subject": self, "encounter": encounter, "performer": []fhir.Reference{crew},
			"category": []fhir.CodeableConcept{fhir.Code(obsClasses, "vital-signs", "Vital Signs")}, "effectiveDateTime": i.Date}
		if _, err := strconv.ParseFloat(i.Value, 64); err == nil {
			m["valueQuantity"] = fhir.Quantity{Value: json.Number(i.Value), Unit: i.Unit, System: fhir.SystemUCUM, Code: i.Unit}
		} else if i.Value != "" {
			m["valueString"] = i.Value
		}
		out = append(out, fhir.New("Observation", id, m))
		entries = append(entries, fhir.Reference{Reference: "urn:uuid:" + id})
		words += i.Display + ": " + i.Value + ". "
	}
	if len(out) == 0 {
		return nil, nil
	}
	sec := section("Observations", words, "", true)
	sec["entry"] = entries
	return out, []fhir.M{sec}
}
