package gpconnect

import "tombolo/fhir"

const values = "Quantity CodeableConcept String Boolean Range Ratio SampledData Time DateTime Period "

// observationForm serves uncategorised data, test results, test groups and filing comments alike.
func observationForm() *form {
	return &form{to: "Observation", profile: "UKCore-Observation", members: members(
		"status code subject issued dataAbsentReason bodySite method specimen device "+choice("effective", "DateTime Period")+choice("value", values), shape{
			"identifier": many("identifier"), "basedOn": many("basedOn"), "category": many("category"), "performer": many("performer"),
			"interpretation": many("interpretation"), "referenceRange": many("referenceRange"),
			"context":         encounterOf("Observation"),
			"valueAttachment": carry("Observation", "value", "valueAttachment"),
			"comment":         {do: comment},
			"related":         {do: related},
			"component": each("component", members("code dataAbsentReason "+choice("value", values), shape{
				"interpretation": many("interpretation"), "referenceRange": many("referenceRange"),
				"valueAttachment": carry("Observation", "component.value", "valueAttachment"),
			})),
		})}
}

func comment(c *converter, _ *object, v fhir.Value) {
	c.key("note")
	c.raw(`[{"text":`)
	c.copy(v)
	c.raw("}]")
}

// related: a group of tests has members and a result is derived from others in R4 too; the other relations have no element there.
func related(c *converter, o *object, v fhir.Value) {
	var has, derived []byte
	for r := range v.All("") {
		target := r.Member("target")
		switch typ := r.Text("type"); {
		case typ == "has-member" && target.Exists():
			c.into(&has, func() { c.sep(); c.copy(target) })
		case typ == "derived-from" && target.Exists():
			c.into(&derived, func() { c.sep(); c.copy(target) })
		default:
			c.into(&o.ext, func() {
				c.sep()
				c.raw(`{"url":"http://hl7.org/fhir/3.0/StructureDefinition/extension-Observation.related","extension":[`)
				if t := r.Member("type"); t.Exists() {
					c.raw(`{"url":"type","valueCode":`)
					c.copy(t)
					c.out = append(c.out, '}')
				}
				if target.Exists() {
					c.sep()
					c.raw(`{"url":"target","valueReference":`)
					c.copy(target)
					c.out = append(c.out, '}')
				}
				c.raw("]}")
			})
		}
		c.rest(r, "related", "type", "target")
	}
	c.array("hasMember", has)
	c.array("derivedFrom", derived)
}

func (c *converter) array(name string, items []byte) {
	if len(items) == 0 {
		return
	}
	c.key(name)
	c.out = append(c.out, '[')
	c.out = append(append(c.out, items...), ']')
}

func reportForm() *form {
	return &form{to: "DiagnosticReport", profile: "UKCore-DiagnosticReport", members: members(
		"status code subject issued conclusion "+choice("effective", "DateTime Period"), shape{
			"identifier": many("identifier"), "basedOn": many("basedOn"), "category": many("category"), "specimen": many("specimen"),
			"result": many("result"), "imagingStudy": many("imagingStudy"), "image": many("media"), "codedDiagnosis": many("conclusionCode"),
			"presentedForm": many("presentedForm"),
			"context":       encounterOf("DiagnosticReport"),
			"performer":     {do: reportPerformer},
		})}
}

func reportPerformer(c *converter, o *object, v fhir.Value) {
	var actors []byte
	for p := range v.All("") {
		if a := p.Member("actor"); a.Exists() {
			c.into(&actors, func() { c.sep(); c.copy(a) })
		}
		if r := p.Member("role"); r.Exists() {
			c.carry(&o.ext, "DiagnosticReport", "performer.role", "valueCodeableConcept", r)
		}
		c.rest(p, "performer", "actor", "role")
	}
	c.array("performer", actors)
}

func specimenForm() *form {
	return &form{to: "Specimen", profile: "UKCore-Specimen", members: members("accessionIdentifier status type subject receivedTime collection", shape{
		"identifier": many("identifier"), "parent": many("parent"), "request": many("request"), "processing": many("processing"),
		"container": many("container"), "note": many("note"),
	})}
}

// procedureRequestForm serves test requests (intent order) and diary entries (intent plan).
//
// GP Connect 1.6 accessrecord_structured_development_ProcedureRequest.html
func procedureRequestForm() *form {
	return &form{to: "ServiceRequest", profile: "UKCore-ServiceRequest", members: members(
		"requisition intent priority doNotPerform code subject authoredOn performerType "+
			choice("occurrence", "DateTime Period Timing")+choice("asNeeded", "Boolean CodeableConcept"), shape{
			"identifier": many("identifier"), "basedOn": many("basedOn"), "replaces": many("replaces"), "category": many("category"),
			"performer": many("performer"), "reasonCode": many("reasonCode"), "reasonReference": many("reasonReference"),
			"supportingInfo": many("supportingInfo"), "specimen": many("specimen"), "bodySite": many("bodySite"), "note": many("note"),
			"relevantHistory": many("relevantHistory"),
			"definition":      carry("ProcedureRequest", "definition", "valueReference"),
			"status":          codes("ProcedureRequest", "status", requestStatus),
			"context":         encounterOf("ProcedureRequest"),
			"requester":       requester("ProcedureRequest"),
		})}
}

// referralForm: what was asked for becomes the code, the words become the first note, the clinician's notes follow.
func referralForm() *form {
	return &form{to: "ServiceRequest", profile: "UKCore-ServiceRequest", members: members(
		"intent priority subject authoredOn "+choice("occurrence", "DateTime Period"), shape{
			"identifier": many("identifier"), "basedOn": many("basedOn"), "replaces": many("replaces"), "recipient": many("performer"),
			"reasonCode": many("reasonCode"), "reasonReference": many("reasonReference"), "supportingInfo": many("supportingInfo"),
			"relevantHistory": many("relevantHistory"), "type": many("category"),
			"groupIdentifier": as("requisition"), "specialty": as("performerType"),
			"definition":       carry("ReferralRequest", "definition", "valueReference"),
			"status":           codes("ReferralRequest", "status", requestStatus),
			"context":          encounterOf("ReferralRequest"),
			"requester":        requester("ReferralRequest"),
			"serviceRequested": {do: serviceRequested},
			"description":      none, "note": none,
		}),
		after: func(c *converter, _ *object, v fhir.Value) {
			var notes []byte
			c.into(&notes, func() {
				if d := v.Member("description"); d.Exists() && !isNull(d) {
					c.raw(`{"text":`)
					c.copy(d)
					c.out = append(c.out, '}')
				}
				for n := range v.All("note") {
					c.sep()
					c.copy(n)
				}
			})
			c.array("note", notes)
		}}
}

func serviceRequested(c *converter, _ *object, v fhir.Value) {
	var more []byte
	first := true
	for s := range v.All("") {
		if first {
			c.key("code")
			c.copy(s)
		} else {
			c.into(&more, func() { c.sep(); c.copy(s) })
		}
		first = false
	}
	c.array("orderDetail", more)
}
