package document

import (
	"encoding/base64"
	"strings"

	"tombolo/connector"
	"tombolo/fhir"
)

const (
	cdaMapping = "itk-cda/1"
	itkSpace   = "urn:nhs-itk:ns:201005"
	classes    = "http://terminology.hl7.org/CodeSystem/v3-ActCode"
)

// cda is one clinical document on its way to R4.
type cda struct {
	builder
	doc       *node
	encounter fhir.Ref
	custodian fhir.Reference
	authors   []fhir.Reference
	roles     []string // of the authors, in their order
	attached  []attachment
}

// readCDA makes a delivery of an HL7 CDA document, bare or in an ITK distribution envelope, with or without SOAP around it.
//
// HL7 CDA R2; ITK 2.2 distribution envelope; NHS 111 domain message specification
func readCDA(data []byte) (connector.Delivery, error) {
	root, err := readXML(data)
	if err != nil {
		return connector.Delivery{}, err
	}
	doc, err := clinicalDocument(root)
	if err != nil {
		return connector.Delivery{}, err
	}
	id, ok := identifier(doc.child("id"))
	if !ok {
		return connector.Delivery{}, fhir.Errorf(fhir.Required, "the document has no id by which a repeat could be known").At("ClinicalDocument.id")
	}
	c := &cda{doc: doc}
	c.key = id.System + "|" + id.Value
	c.label(doc.child("confidentialityCode").at("code"))
	if err := c.readPatient(); err != nil {
		return connector.Delivery{}, err
	}
	c.readPeople()
	c.readEncounter()
	c.readEntries()
	page, err := c.page()
	if err != nil {
		return connector.Delivery{}, err
	}
	c.document(id, page)
	return connector.Delivery{ID: c.key, Content: c.content, Patient: c.patient.ID(), Map: cdaMapping, Issues: c.issues}, nil
}

// clinicalDocument finds the one document in whatever it is wrapped.
func clinicalDocument(root *node) (*node, error) {
	docs := find(root, hl7, "ClinicalDocument")
	if len(docs) == 0 {
		for _, p := range find(root, itkSpace, "payload") {
			text := strings.Join(strings.Fields(p.words()), "")
			if data, err := base64.StdEncoding.DecodeString(text); err == nil && len(data) > 0 {
				inner, err := readXML(data)
				if err != nil {
					return nil, fhir.IssueOf(err).At("DistributionEnvelope.payloads.payload")
				}
				docs = append(docs, find(inner, hl7, "ClinicalDocument")...)
			}
		}
	}
	switch {
	case len(docs) == 1:
		return docs[0], nil
	case len(docs) > 1:
		return nil, fhir.Errorf(fhir.NotSupported, "the envelope holds %d documents; send each in an envelope of its own", len(docs))
	case len(find(root, "http://www.w3.org/2001/04/xmlenc#", "EncryptedData")) > 0:
		return nil, fhir.Errorf(fhir.NotSupported, "the payload is encrypted; send it plain over TLS")
	}
	return nil, fhir.Errorf(fhir.NotSupported, "there is no ClinicalDocument of namespace %s in what was sent", hl7)
}

// find is all elements of a name, not looking inside those found.
func find(n *node, space, name string) []*node {
	if n.name == name && n.space == space {
		return []*node{n}
	}
	var out []*node
	for _, k := range n.kids {
		if k.name != "" {
			out = append(out, find(k, space, name)...)
		}
	}
	return out
}

var genders = map[string]string{"1": "male", "2": "female", "M": "male", "F": "female", "9": "unknown", "0": "unknown", "X": "unknown", "UN": "other"}

// readPatient maps recordTarget. Without exactly one there is nobody to file the document under.
func (c *cda) readPatient() error {
	targets := c.doc.children("recordTarget")
	if len(targets) != 1 {
		return fhir.Errorf(fhir.Required, "a document must be of exactly one patient; this names %d", len(targets)).At("ClinicalDocument.recordTarget")
	}
	role := targets[0].child("patientRole")
	person := role.child("patient")
	if person == nil {
		return fhir.Errorf(fhir.Required, "the patient is missing").At("ClinicalDocument.recordTarget.patientRole.patient")
	}
	var list []fhir.Identifier
	var local []string
	for _, n := range role.children("id") {
		id, ok := identifier(n)
		if !ok {
			continue
		}
		if err := id.Check(); err != nil {
			c.warn(fhir.IssueOf(err).Type, "an identifier of the patient was left out: "+fhir.IssueOf(err).Text, "recordTarget.patientRole.id")
			continue
		}
		if !national(id) && local == nil {
			local = []string{authority(n), id.Value}
			if org, ok := strings.CutPrefix(n.at("assigningAuthorityName"), authority(n)+":"); ok {
				id.Type = &fhir.CodeableConcept{Text: org}
			}
		}
		list = append(list, id)
	}
	c.patient = fhir.MakeRef("Patient", patientID(local, list, c.key))
	m := fhir.M{"identifier": list, "gender": "unknown"}
	if g := genders[person.child("administrativeGenderCode").at("code")]; g != "" {
		m["gender"] = g
	}
	if len(list) == 0 {
		delete(m, "identifier")
		c.warn(fhir.Required, "the patient has no identifier; they can be matched by demographics only", "recordTarget.patientRole.id")
	}
	var names []fhir.HumanName
	for _, n := range person.children("name") {
		if h, ok := name(n); ok {
			names = append(names, h)
		}
	}
	setList(m, "name", names)
	if b := moment(person.child("birthTime")); len(b) >= 4 {
		m["birthDate"] = b[:min(len(b), 10)]
	}
	setList(m, "address", addresses(role.children("addr")))
	setList(m, "telecom", telecoms(notEmergency(role.children("telecom"))))
	if gp := c.organisation(role.child("providerOrganization")); gp.Display != "" {
		m["generalPractitioner"] = []fhir.Reference{gp}
	}
	c.withoutWhereabouts(m)
	c.add("Patient", c.patient.ID(), m)
	return nil
}

// notEmergency leaves out telecoms of use EC, which are whoever is to be rung, not always the patient.
func notEmergency(list []*node) []*node {
	var out []*node
	for _, n := range list {
		if n.at("use") != "EC" {
			out = append(out, n)
		}
	}
	return out
}

// organisation makes an Organization of any element that has id and name; a zero Reference if it says nothing.
func (c *cda) organisation(n *node) fhir.Reference {
	ref := fhir.Reference{Display: n.child("name").words()}
	id, ok := identifier(n.child("id"))
	if !ok || ref.Display == "" {
		return ref
	}
	oid := stableID("org", id.System, id.Value)
	if id.System == fhir.SystemODS && fhir.ValidID("ods-"+id.Value) {
		oid = "ods-" + id.Value
	}
	c.addOnce("Organization", oid, fhir.M{"identifier": []fhir.Identifier{id}, "name": ref.Display})
	ref.Reference = "Organization/" + oid
	return ref
}

// practitioner makes a Practitioner of an assignedAuthor or assignedEntity.
func (c *cda) practitioner(n *node) (ref fhir.Reference, role string) {
	h, ok := name(n.child("assignedPerson", "name"))
	if !ok {
		return ref, ""
	}
	if ref.Display = h.Text; ref.Display == "" {
		ref.Display = strings.TrimSpace(strings.Join(append(append(h.Prefix, h.Given...), h.Family), " "))
	}
	role = concept(n.child("code")).Words()
	id, ok := identifier(n.child("id"))
	if !ok {
		return ref, role
	}
	pid := stableID("prac", authority(n.child("id")), id.System, id.Value)
	c.addOnce("Practitioner", pid, fhir.M{"identifier": []fhir.Identifier{id}, "name": []fhir.HumanName{h}})
	ref.Reference = "Practitioner/" + pid
	return ref, role
}

// readPeople maps custodian, authors and informants.
func (c *cda) readPeople() {
	c.custodian = c.organisation(c.doc.child("custodian", "assignedCustodian", "representedCustodianOrganization"))
	for _, a := range c.doc.children("author") {
		assigned := a.child("assignedAuthor")
		if ref, role := c.practitioner(assigned); ref.Display != "" {
			c.authors = append(c.authors, ref)
			c.roles = append(c.roles, role)
		}
		c.organisation(assigned.child("representedOrganization"))
	}
	for _, i := range c.doc.children("informant") {
		e := i.child("relatedEntity")
		h, ok := name(e.child("relatedPerson", "name"))
		kind := concept(e.child("code"))
		if !ok || strings.EqualFold(kind.Words(), "self") {
			continue
		}
		m := fhir.M{"patient": c.self(), "name": []fhir.HumanName{h}}
		if !kind.IsZero() {
			m["relationship"] = []fhir.CodeableConcept{kind}
		}
		setList(m, "telecom", telecoms(e.children("telecom")))
		c.addOnce("RelatedPerson", stableID("rel", c.patient.ID(), h.Text, h.Family, strings.Join(h.Given, " ")), m)
	}
}

// readEncounter maps componentOf/encompassingEncounter.
func (c *cda) readEncounter() {
	e := c.doc.child("componentOf", "encompassingEncounter")
	if e == nil {
		return
	}
	var list []fhir.Identifier
	for _, n := range e.children("id") {
		if id, ok := identifier(n); ok {
			list = append(list, id)
		}
	}
	id := stableID("enc", c.key)
	if len(list) > 0 {
		id = stableID("enc", list[0].System, list[0].Value)
	}
	kind := concept(e.child("code"))
	span := period(e.child("effectiveTime"))
	m := fhir.M{"subject": c.self(), "status": "unknown", "class": classOf(kind)}
	if span.End != "" {
		m["status"] = "finished"
	}
	setList(m, "identifier", list)
	if !kind.IsZero() {
		m["type"] = []fhir.CodeableConcept{kind}
	}
	if span != (fhir.Period{}) {
		m["period"] = span
	}
	if c.custodian.Display != "" {
		m["serviceProvider"] = c.custodian
	}
	if d := concept(e.child("dischargeDispositionCode")); !d.IsZero() {
		m["hospitalization"] = fhir.M{"dischargeDisposition": d}
	}
	// Only the place's name: its address is where the patient was found, and a Location is nobody's record.
	if where := e.child("location", "healthCareFacility", "location", "name"); !where.null() && where.words() != "" {
		m["location"] = []fhir.M{{"location": fhir.Reference{Display: where.words()}}}
	}
	m2 := c.participants(e)
	setList(m, "participant", m2)
	if reason := c.reason(); reason != "" {
		m["reasonCode"] = []fhir.CodeableConcept{{Text: reason}}
	}
	c.encounter = fhir.MakeRef("Encounter", id)
	c.add("Encounter", id, m)
}

func classOf(kind fhir.CodeableConcept) fhir.Coding {
	for _, k := range kind.Coding {
		switch k.Code {
		case "IMP", "AMB", "EMER", "HH", "VR", "FLD", "ACUTE", "NONAC", "OBSENC", "PRENC", "SS":
			return fhir.Coding{System: classes, Code: k.Code}
		case "NHS111Encounter":
			return fhir.Coding{System: classes, Code: "VR", Display: "virtual"}
		}
	}
	return fhir.Coding{System: classes, Code: "AMB", Display: "ambulatory"}
}

func (c *cda) participants(e *node) []fhir.M {
	var out []fhir.M
	put := func(ref fhir.Reference, role string) {
		p := fhir.M{"individual": ref}
		if role != "" {
			p["type"] = []fhir.CodeableConcept{{Text: role}}
		}
		out = append(out, p)
	}
	for i, a := range c.authors {
		put(a, c.roles[i])
	}
	for _, p := range append(e.children("responsibleParty"), e.children("encounterParticipant")...) {
		if ref, role := c.practitioner(p.child("assignedEntity")); ref.Display != "" {
			put(ref, role)
		}
	}
	return out
}

// reason is what the patient reported, when the document has a section for it that is short enough to be a reason.
func (c *cda) reason() string {
	for _, s := range find(c.doc, hl7, "structuredBody") {
		for _, sec := range sections(s) {
			if strings.Contains(strings.ToLower(sec.child("title").words()), "reported condition") {
				if w := sec.child("text").words(); len(w) <= 500 {
					return w
				}
			}
		}
	}
	return ""
}

// sections are all sections below an element, outer before inner.
func sections(n *node) []*node {
	var out []*node
	for _, comp := range n.children("component") {
		if s := comp.child("section"); s != nil {
			out = append(append(out, s), sections(s)...)
		}
	}
	return out
}
