package gpconnect

import (
	"strings"

	"tombolo/fhir"
)

// GP Connect tells a medicine in three resources: a MedicationStatement (the summary), the MedicationRequest that authorises it
// (intent plan) and one MedicationRequest an issue (intent order) based on the plan. They stay three in R4, related as they were:
// nothing here adds, merges or works out a dose.
//
// GP Connect 1.6 accessrecord_structured_development_medication_resource_relationships.html

func medicationForm() *form {
	return &form{to: "Medication", profile: "UKCore-Medication", members: members("code status manufacturer form", shape{
		"isBrand":          carry("Medication", "isBrand", "valueBoolean"),
		"isOverTheCounter": carry("Medication", "isOverTheCounter", "valueBoolean"),
		"ingredient":       each("ingredient", members("itemCodeableConcept itemReference isActive", shape{"amount": as("strength")})),
		"image":            carry("Medication", "image", "valueAttachment"),
		"package": {do: func(c *converter, o *object, v fhir.Value) {
			n := 0
			for b := range v.All("batch") {
				if n == 0 {
					c.key("batch")
					c.copy(b)
				}
				n++
			}
			if n > 1 {
				c.note(fhir.NotSupported, fhir.Warning, c.here("package.batch"), "R4 has room for one batch; the others were not carried over")
			}
			if k := v.Member("container"); k.Exists() {
				c.carry(&o.ext, "Medication", "package.container", "valueCodeableConcept", k)
			}
			c.rest(v, "package", "batch", "container")
		}},
	})}
}

func medicationStatementForm() *form {
	return &form{to: "MedicationStatement", profile: "UKCore-MedicationStatement", about: medicineMember, members: members(
		"context category dateAsserted informationSource subject "+choice("medication", "CodeableConcept Reference")+choice("effective", "DateTime Period"), shape{
			"identifier": many("identifier"), "basedOn": many("basedOn"), "partOf": many("partOf"), "derivedFrom": many("derivedFrom"),
			"reasonCode": many("reasonCode"), "reasonReference": many("reasonReference"), "note": many("note"),
			"reasonNotTaken": many("statusReason"),
			"taken":          carry("MedicationStatement", "taken", "valueCode"),
			"status": {do: func(c *converter, o *object, v fhir.Value) {
				// STU3 says by taken what R4 says by status.
				if o.src.Text("taken") == "n" && v.Str() != "entered-in-error" {
					c.carry(&o.ext, "MedicationStatement", "status", "valueCode", v)
					c.key("status")
					c.str("not-taken")
					return
				}
				c.key("status")
				c.copy(v)
			}},
			"dosage": each("dosage", dosageMembers),
		})}
}

func medicationRequestForm() *form {
	f := &form{to: "MedicationRequest", profile: "UKCore-MedicationRequest", about: medicineMember, members: members(
		"groupIdentifier status intent priority subject authoredOn recorder priorPrescription "+choice("medication", "CodeableConcept Reference"), shape{
			"identifier": many("identifier"), "basedOn": many("basedOn"), "category": many("category"), "reasonCode": many("reasonCode"),
			"reasonReference": many("reasonReference"), "note": many("note"), "detectedIssue": many("detectedIssue"), "eventHistory": many("eventHistory"),
			"supportingInformation": many("supportingInformation"),
			"definition":            carry("MedicationRequest", "definition", "valueReference"),
			"context":               encounterOf("MedicationRequest"),
			"requester":             requester("MedicationRequest"),
			"dosageInstruction":     each("dosageInstruction", dosageMembers),
			"dispenseRequest":       one("dispenseRequest", members("validityPeriod numberOfRepeatsAllowed quantity expectedSupplyDuration performer", nil)),
			"substitution":          one("substitution", members("reason", shape{"allowed": as("allowedBoolean")})),
		})}
	f.exts = map[string]func(*converter, *object, fhir.Value){
		"CareConnect-GPC-PrescriptionType":            prescriptionType,
		"CareConnect-GPC-MedicationRepeatInformation": repeatInformation,
		"CareConnect-GPC-MedicationStatusReason":      statusReason,
	}
	return f
}

var medicineMember = []string{"medicationCodeableConcept"}

// dosageMembers: the words are verbatim; what was structured moves one level down. FHIR R4 dosage.html
var dosageMembers = members(
	"sequence text patientInstruction timing site route method maxDosePerPeriod maxDosePerAdministration maxDosePerLifetime "+
		choice("asNeeded", "Boolean CodeableConcept"), shape{
		"additionalInstruction": many("additionalInstruction"),
		"doseRange":             {do: doseAndRate}, "doseQuantity": {do: doseAndRate}, "rateRatio": {do: doseAndRate},
		"rateRange": {do: doseAndRate}, "rateQuantity": {do: doseAndRate},
	})

func doseAndRate(c *converter, o *object, _ fhir.Value) {
	if o.done["doseAndRate"] {
		return
	}
	o.done = map[string]bool{"doseAndRate": true}
	c.key("doseAndRate")
	c.raw("[{")
	for m := range o.src.Children() {
		switch m.Key() {
		case "doseRange", "doseQuantity", "rateRatio", "rateRange", "rateQuantity":
			c.copyMember(o.src, m)
		}
	}
	c.raw("}]")
}

// courses are R4's words for the kinds of prescription of general practice. UK Core MedicationRequest.courseOfTherapyType
var courses = map[string]string{
	"acute":             `{"system":"http://terminology.hl7.org/CodeSystem/medicationrequest-course-of-therapy","code":"acute","display":"Short course (acute) therapy"}`,
	"repeat":            `{"system":"http://terminology.hl7.org/CodeSystem/medicationrequest-course-of-therapy","code":"continuous","display":"Continuous long term therapy"}`,
	"repeat-dispensing": `{"system":"https://fhir.hl7.org.uk/CodeSystem/UKCore-MedicationRequestCourseOfTherapy","code":"continuous-repeating-dispensing","display":"Continuous long term (repeat dispensing)"}`,
}

// prescriptionType keeps the extension, which says acute, repeat or repeat dispensing in the words of general practice, and gives the
// same as R4's course of therapy.
func prescriptionType(c *converter, o *object, e fhir.Value) {
	c.into(&o.ext, func() { c.extension(e) })
	course := courses[e.Text("valueCodeableConcept.coding.code")]
	if course == "" || o.done["courseOfTherapyType"] {
		return
	}
	if o.done == nil {
		o.done = map[string]bool{}
	}
	o.done["courseOfTherapyType"] = true
	c.key("courseOfTherapyType")
	c.raw(`{"coding":[` + course + `]}`)
}

// repeatInformation: UK Core has room for how often a repeat was issued and until when it is authorised. How often it may be issued is
// not R4's numberOfRepeatsAllowed, which leaves out the first, so it stays in the extension it came in.
func repeatInformation(c *converter, o *object, e fhir.Value) {
	var uk, old []byte
	for part := range e.All("extension") {
		n := part.Member("valuePositiveInt")
		if !n.Exists() {
			n = part.Member("valueUnsignedInt")
		}
		switch name := part.Text("url"); {
		case name == "numberOfRepeatPrescriptionsIssued" && n.Exists():
			c.into(&uk, func() {
				c.sep()
				c.raw(`{"url":"numberOfPrescriptionsIssued","valueUnsignedInt":`)
				c.copy(n)
				c.out = append(c.out, '}')
			})
		case name == "authorisationExpiryDate":
			c.into(&uk, func() { c.sep(); c.copy(part) })
		default:
			c.into(&old, func() { c.sep(); c.copy(part) })
		}
	}
	c.into(&o.ext, func() {
		if len(uk) > 0 {
			c.sep()
			c.raw(`{"url":"` + ukExt + `MedicationRepeatInformation","extension":[`)
			c.raw(string(uk) + "]}")
		}
		if len(old) > 0 {
			c.sep()
			c.raw(`{"url":"` + gpcExt + `CareConnect-GPC-MedicationRepeatInformation-1","extension":[`)
			c.raw(string(old) + "]}")
		}
	})
}

// statusReason: why a medicine was stopped has a place in R4; when it was is left in the extension.
func statusReason(c *converter, o *object, e fhir.Value) {
	for part := range e.All("extension") {
		r := part.Member("valueCodeableConcept")
		if strings.EqualFold(part.Text("url"), "statusReason") && r.Exists() && !o.done["statusReason"] {
			if o.done == nil {
				o.done = map[string]bool{}
			}
			o.done["statusReason"] = true
			c.key("statusReason")
			c.copy(r)
		}
	}
	c.into(&o.ext, func() { c.extension(e) })
}
