package gpconnect

import (
	"strings"

	"tombolo/fhir"
)

// shapes says for every type of a GP Connect structured record what becomes of each of its members. It is filled in init because the
// rules, by way of contained resources, lead back to it.
var shapes map[string]*form

func init() {
	shapes = map[string]*form{
		"Patient": patientForm(), "Practitioner": practitionerForm(), "PractitionerRole": practitionerRoleForm(),
		"Organization": organizationForm(), "Location": locationForm(),
		"AllergyIntolerance": allergyForm(), "Condition": conditionForm(), "Immunization": immunizationForm(),
		"Encounter": encounterForm(), "FamilyMemberHistory": familyForm(), "Procedure": procedureForm(),
		"Medication": medicationForm(), "MedicationStatement": medicationStatementForm(), "MedicationRequest": medicationRequestForm(),
		"Observation": observationForm(), "DiagnosticReport": reportForm(), "Specimen": specimenForm(),
		"ProcedureRequest": procedureRequestForm(), "ReferralRequest": referralForm(),
		"DocumentReference": documentForm(), "List": listForm(),
		"Appointment": appointmentForm(), "Slot": slotForm(), "Schedule": scheduleForm(),
	}
	for typ, f := range shapes {
		f.same = f.to == typ && typ != "AllergyIntolerance"
	}
}

const terminology = "http://terminology.hl7.org/CodeSystem/"

// none is for a member that another rule has dealt with.
var none = rule{do: func(*converter, *object, fhir.Value) {}}

// concept makes a CodeableConcept of what was a bare code.
func concept(to, system string) rule {
	return rule{do: func(c *converter, _ *object, v fhir.Value) {
		c.key(to)
		c.coded(system, v)
	}}
}

func (c *converter) coded(system string, code fhir.Value) {
	c.raw(`{"coding":[{"system":"` + system + `","code":`)
	c.copy(code)
	c.raw("}]}")
}

// encounterOf is the encounter that an entry belongs to; an episode of care has no place in R4.
func encounterOf(typ string) rule {
	return rule{do: func(c *converter, o *object, v fhir.Value) {
		if ref := v.Text("reference"); refLike(ref) && elsewhere(ref) {
			c.carry(&o.ext, typ, "context", "valueReference", v)
			return
		}
		c.key("encounter")
		c.copy(v)
	}}
}

// elsewhere reports whether a reference says by its type that it is to no encounter. What does not say its type may well be to one.
func elsewhere(ref string) bool {
	ref, _, _ = strings.Cut(ref, "/_history/")
	parts := strings.Split(ref, "/")
	return len(parts) > 1 && parts[len(parts)-2] != "Encounter"
}

// requester in STU3 says who asked and for whom; R4 has room for the first.
func requester(typ string) rule {
	return rule{do: func(c *converter, o *object, v fhir.Value) {
		if a := v.Member("agent"); a.Exists() {
			c.key("requester")
			c.copy(a)
		}
		if b := v.Member("onBehalfOf"); b.Exists() {
			c.carry(&o.ext, typ, "requester.onBehalfOf", "valueReference", b)
		}
		c.rest(v, "requester", "agent", "onBehalfOf")
	}}
}

// rest reports the members of a backbone element that nobody took.
func (c *converter) rest(v fhir.Value, where string, taken ...string) {
next:
	for m := range v.Children() {
		for _, t := range taken {
			if m.Key() == t {
				continue next
			}
		}
		if !isNull(m) && m.Key() != "id" {
			c.note(fhir.NotSupported, fhir.Warning, c.here(where+"."+short(m.Key())), "the element has no place in R4 and was not carried over")
		}
	}
}

// codes maps a code where R4 calls it something else, keeping the one that was sent in an extension.
func codes(typ, element string, other map[string]string) rule {
	return rule{do: func(c *converter, o *object, v fhir.Value) {
		to, changed := other[v.Str()]
		if !changed {
			c.key(element)
			c.copy(v)
			return
		}
		c.carry(&o.ext, typ, element, "valueCode", v)
		if to != "" {
			c.key(element)
			c.str(to)
		}
	}}
}

var requestStatus = map[string]string{"suspended": "on-hold", "cancelled": "revoked"}

// unknown says that R4 wants an element which the source did not give, and makes nothing up.
func (c *converter) unknown(name string) {
	c.key(name)
	c.raw(`{"extension":[` + absent + `]}`)
}

const times = "DateTime Age Period Range String "

func patientForm() *form {
	return &form{to: "Patient", profile: "UKCore-Patient", members: members(
		"active gender birthDate maritalStatus managingOrganization "+choice("deceased", "Boolean DateTime")+choice("multipleBirth", "Boolean Integer"),
		shape{
			"identifier": many("identifier"), "name": many("name"), "telecom": many("telecom"), "address": many("address"),
			"photo": many("photo"), "contact": many("contact"), "communication": many("communication"),
			"generalPractitioner": many("generalPractitioner"), "link": many("link"),
		})}
}

func practitionerForm() *form {
	return &form{to: "Practitioner", profile: "UKCore-Practitioner", members: members("active gender birthDate", shape{
		"identifier": many("identifier"), "name": many("name"), "telecom": many("telecom"), "address": many("address"),
		"photo": many("photo"), "qualification": many("qualification"), "communication": many("communication"),
	})}
}

func practitionerRoleForm() *form {
	return &form{to: "PractitionerRole", profile: "UKCore-PractitionerRole", members: members(
		"active period practitioner organization availabilityExceptions", shape{
			"identifier": many("identifier"), "code": many("code"), "specialty": many("specialty"), "location": many("location"),
			"healthcareService": many("healthcareService"), "telecom": many("telecom"), "availableTime": many("availableTime"),
			"notAvailable": many("notAvailable"), "endpoint": many("endpoint"),
		})}
}

func organizationForm() *form {
	return &form{to: "Organization", profile: "UKCore-Organization", members: members("active name partOf", shape{
		"identifier": many("identifier"), "type": many("type"), "alias": many("alias"), "telecom": many("telecom"),
		"address": many("address"), "contact": many("contact"), "endpoint": many("endpoint"),
	})}
}

func locationForm() *form {
	return &form{to: "Location", profile: "UKCore-Location", members: members(
		"status operationalStatus name description mode address physicalType position managingOrganization partOf", shape{
			"identifier": many("identifier"), "alias": many("alias"), "type": many("type"), "telecom": many("telecom"), "endpoint": many("endpoint"),
		})}
}

func documentForm() *form {
	return &form{to: "DocumentReference", profile: "UKCore-DocumentReference", members: members(
		"masterIdentifier status docStatus type subject authenticator custodian description", shape{
			"identifier": many("identifier"), "class": many("category"), "author": many("author"), "relatesTo": many("relatesTo"),
			"securityLabel": many("securityLabel"),
			"indexed":       as("date"),
			"created":       carry("DocumentReference", "created", "valueDateTime"),
			"content":       {do: documentContent},
			"context": one("context", members("period facilityType practiceSetting sourcePatientInfo", shape{
				"encounter": many("encounter"), "event": many("event"),
				"related": {do: documentRelated},
			})),
		}),
		after: func(c *converter, _ *object, v fhir.Value) {
			if !v.Member("content").Exists() {
				c.note(fhir.Required, fhir.Warning, "DocumentReference.content", "R4 demands content, and the practice sent none: the document cannot be opened here")
			}
		}}
}

// documentContent keeps the attachments, and tells each when it was made: in STU3 the document says so, in R4 its content.
func documentContent(c *converter, o *object, v fhir.Value) {
	created := o.src.Member("created")
	c.key("content")
	c.listOf(v, func(item fhir.Value) {
		a := item.Member("attachment")
		if !a.IsObject() || a.Member("creation").Exists() || !created.IsString() {
			c.copy(item)
			return
		}
		c.out = append(c.out, '{')
		for m := range item.Children() {
			if m.Key() != "attachment" {
				c.copyMember(item, m)
				continue
			}
			c.key("attachment")
			c.out = append(c.out, '{')
			for am := range m.Children() {
				c.copyMember(m, am)
			}
			c.key("creation")
			c.copy(created)
			c.out = append(c.out, '}')
		}
		c.out = append(c.out, '}')
	})
}

func documentRelated(c *converter, _ *object, v fhir.Value) {
	c.key("related")
	c.listOf(v, func(item fhir.Value) {
		c.out = append(c.out, '{')
		for m := range item.Member("ref").Children() {
			c.copyMember(item.Member("ref"), m)
		}
		if id := item.Member("identifier"); id.Exists() && !item.Get("ref.identifier").Exists() {
			c.key("identifier")
			c.copy(id)
		}
		c.out = append(c.out, '}')
		c.rest(item, "related", "ref", "identifier")
	})
}
