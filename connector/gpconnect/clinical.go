package gpconnect

import (
	"strings"

	"tombolo/fhir"
)

// allergyForm: GP Connect 1.6 accessrecord_structured_development_allergyintolerance.html -> R4 allergyintolerance.html
func allergyForm() *form {
	return &form{to: "AllergyIntolerance", profile: "UKCore-AllergyIntolerance", exts: map[string]func(*converter, *object, fhir.Value){
		"CareConnect-GPC-AllergyIntoleranceEnd": allergyEnd, "CareConnect-AllergyIntoleranceEnd": allergyEnd,
	}, after: func(c *converter, o *object, v fhir.Value) {
		if !o.done["clinicalStatus"] {
			c.allergyStatus(o, fhir.Value{})
		}
	}, members: members(
		"type criticality code patient recorder asserter lastOccurrence "+choice("onset", times), shape{
			"identifier": many("identifier"), "category": many("category"), "note": many("note"), "reaction": many("reaction"),
			"clinicalStatus":     {do: (*converter).allergyStatus},
			"verificationStatus": concept("verificationStatus", terminology+"allergyintolerance-verification"),
			"assertedDate":       as("recordedDate"),
		})}
}

// allergyEnd is written by allergyStatus.
func allergyEnd(*converter, *object, fhir.Value) {}

// allergyStatus writes the status, and inside of it, where UK Core has it, when an allergy ended and why.
func (c *converter) allergyStatus(o *object, status fhir.Value) {
	var ends []byte
	c.into(&ends, func() {
		for e := range o.src.All("extension") {
			if strings.HasSuffix(e.Text("url"), "-AllergyIntoleranceEnd-1") {
				c.extension(e)
			}
		}
	})
	if !status.Exists() && len(ends) == 0 {
		return
	}
	o.done = map[string]bool{"clinicalStatus": true}
	c.key("clinicalStatus")
	c.out = append(c.out, '{')
	c.array("extension", ends)
	if status.Exists() {
		c.sep()
		c.raw(`"coding":[{"system":"` + terminology + `allergyintolerance-clinical","code":`)
		c.copy(status)
		c.raw("}]")
	}
	c.out = append(c.out, '}')
}

// conditionForm is that of a problem header. Significance, the actual problem and what is linked to it are extensions.
func conditionForm() *form {
	return &form{to: "Condition", profile: "UKCore-Condition", members: members(
		"severity code subject asserter "+choice("onset", times)+choice("abatement", times), shape{
			"identifier": many("identifier"), "category": many("category"), "bodySite": many("bodySite"),
			"evidence": many("evidence"), "note": many("note"), "stage": many("stage"),
			"clinicalStatus":     concept("clinicalStatus", terminology+"condition-clinical"),
			"verificationStatus": {do: conditionVerification},
			"context":            encounterOf("Condition"),
			"assertedDate":       as("recordedDate"),
			"abatementBoolean":   carry("Condition", "abatement", "valueBoolean"),
		})}
}

func conditionVerification(c *converter, o *object, v fhir.Value) {
	if v.Str() == "unknown" { // R4 has no such code
		c.carry(&o.ext, "Condition", "verificationStatus", "valueCode", v)
		return
	}
	c.key("verificationStatus")
	c.coded(terminology+"condition-ver-status", v)
}

func immunizationForm() *form {
	f := &form{to: "Immunization", profile: "UKCore-Immunization", members: members(
		"patient encounter primarySource reportOrigin location manufacturer lotNumber expirationDate site route doseQuantity", shape{
			"identifier": many("identifier"), "note": many("note"), "reaction": many("reaction"),
			"vaccineCode":         {do: vaccineCode},
			"status":              {do: immunizationStatus},
			"notGiven":            {do: immunizationNotGiven},
			"date":                as("occurrenceDateTime"),
			"practitioner":        each("performer", members("actor", shape{"role": as("function")})),
			"explanation":         {do: immunizationExplanation},
			"vaccinationProtocol": each("protocolApplied", protocolMembers),
		})}
	f.about = []string{"vaccineCode"}
	f.negates = func(v fhir.Value) bool {
		st := v.Text("status")
		return v.Member("notGiven").Bool() && st != "" && st != "completed"
	}
	f.after = func(c *converter, _ *object, v fhir.Value) {
		if !v.Member("date").Exists() && !v.Member("_date").Exists() { // R4: occurrence[x] 1..1
			c.unknown("_occurrenceDateTime")
		}
	}
	f.exts = map[string]func(*converter, *object, fhir.Value){
		"CareConnect-DateRecorded": func(c *converter, o *object, e fhir.Value) {
			if d := e.Member("valueDateTime"); d.Exists() && !o.done["recorded"] {
				o.done = map[string]bool{"recorded": true}
				c.key("recorded")
				c.copy(d)
				return
			}
			c.into(&o.ext, func() { c.extension(e) })
		},
	}
	return f
}

// vaccineCode: a practice that does not know the product sends a null there and says what was done in an extension. Its own words for
// that become the text, since "unknown" would be all that a reader is shown.
func vaccineCode(c *converter, o *object, v fhir.Value) {
	said := v.Text("coding.system") != "http://hl7.org/fhir/v3/NullFlavor"
	said = said || v.Text("text") != "" && v.Text("text") != "Unknown"
	var words string
	for e := range o.src.All("extension") {
		if strings.HasSuffix(e.Text("url"), "CareConnect-VaccinationProcedure-1") {
			p := e.Member("valueCodeableConcept")
			if words = p.Text("text"); words == "" {
				words = p.Text("coding.display")
			}
		}
	}
	c.key("vaccineCode")
	if said || words == "" {
		c.copy(v)
		return
	}
	c.out = append(c.out, '{')
	for m := range v.Children() {
		if m.Key() != "text" {
			c.copyMember(v, m)
		}
	}
	c.key("text")
	c.str(words)
	c.out = append(c.out, '}')
}

// A vaccination that was not given is told by a flag in STU3 and by the status in R4: to lose the flag would be to say that it was.
func immunizationStatus(c *converter, o *object, v fhir.Value) {
	c.key("status")
	if o.src.Member("notGiven").Bool() && v.Str() == "completed" {
		c.str("not-done")
		return
	}
	c.copy(v)
}

func immunizationNotGiven(c *converter, o *object, v fhir.Value) {
	switch {
	case !v.Bool():
	case !o.src.Member("status").Exists():
		c.key("status")
		c.str("not-done")
	case o.src.Text("status") != "completed":
		carryModifier("Immunization", "notGiven", "valueBoolean").do(c, o, v)
	}
}

func immunizationExplanation(c *converter, o *object, v fhir.Value) {
	if r := v.Member("reason"); r.Exists() {
		c.key("reasonCode")
		c.listOf(r, c.copy)
	}
	first := true
	for r := range v.All("reasonNotGiven") {
		if first {
			c.key("statusReason")
			c.copy(r)
		} else {
			c.carry(&o.ext, "Immunization", "explanation.reasonNotGiven", "valueCodeableConcept", r)
		}
		first = false
	}
	c.rest(v, "explanation", "reason", "reasonNotGiven")
}

var protocolMembers = members("series authority", shape{
	"targetDisease":    many("targetDisease"),
	"doseSequence":     as("doseNumberPositiveInt"),
	"seriesDoses":      as("seriesDosesPositiveInt"),
	"description":      carry("Immunization", "vaccinationProtocol.description", "valueString"),
	"doseStatus":       carry("Immunization", "vaccinationProtocol.doseStatus", "valueCodeableConcept"),
	"doseStatusReason": carry("Immunization", "vaccinationProtocol.doseStatusReason", "valueCodeableConcept"),
})

// encounterForm is that of a consultation. GP Connect sends no class, which R4 demands: it is said to be unknown, since neither
// "ambulatory" nor "virtual" may be made up.
func encounterForm() *form {
	return &form{to: "Encounter", profile: "UKCore-Encounter", members: members(
		"status class priority subject period length hospitalization serviceProvider partOf", shape{
			"identifier": many("identifier"), "statusHistory": many("statusHistory"), "classHistory": many("classHistory"),
			"type": many("type"), "episodeOfCare": many("episodeOfCare"), "participant": many("participant"),
			"account": many("account"), "location": many("location"),
			"incomingReferral": many("basedOn"), "appointment": many("appointment"), "reason": many("reasonCode"),
			"diagnosis": each("diagnosis", members("condition rank", shape{"role": as("use")})),
		}),
		after: func(c *converter, _ *object, v fhir.Value) {
			if !v.Member("class").Exists() {
				c.unknown("class")
			}
		}}
}

func familyForm() *form {
	return &form{to: "FamilyMemberHistory", profile: "UKCore-FamilyMemberHistory", negates: func(v fhir.Value) bool { return v.Member("notDone").Bool() }, members: members(
		"status patient date name relationship estimatedAge "+choice("born", "Period Date String")+choice("age", "Age Range String")+
			choice("deceased", "Boolean Age Range Date String"), shape{
			"identifier": many("identifier"), "reasonCode": many("reasonCode"), "reasonReference": many("reasonReference"),
			"note": many("note"), "condition": many("condition"),
			"definition":    carry("FamilyMemberHistory", "definition", "valueReference"),
			"notDone":       carryModifier("FamilyMemberHistory", "notDone", "valueBoolean"),
			"notDoneReason": as("dataAbsentReason"),
			"gender":        concept("sex", "http://hl7.org/fhir/administrative-gender"),
		})}
}

func procedureForm() *form {
	return &form{to: "Procedure", profile: "UKCore-Procedure", negates: func(v fhir.Value) bool {
		return v.Member("notDone").Bool() && v.Text("status") == "entered-in-error"
	}, members: members(
		"category code subject location outcome "+choice("performed", "DateTime Period"), shape{
			"identifier": many("identifier"), "basedOn": many("basedOn"), "partOf": many("partOf"), "reasonCode": many("reasonCode"),
			"reasonReference": many("reasonReference"), "bodySite": many("bodySite"), "report": many("report"),
			"complication": many("complication"), "complicationDetail": many("complicationDetail"), "followUp": many("followUp"),
			"note": many("note"), "focalDevice": many("focalDevice"), "usedReference": many("usedReference"), "usedCode": many("usedCode"),
			"definition": carry("Procedure", "definition", "valueReference"),
			"context":    encounterOf("Procedure"),
			"status": {do: func(c *converter, o *object, v fhir.Value) {
				if o.src.Member("notDone").Bool() && v.Str() != "entered-in-error" {
					c.carry(&o.ext, "Procedure", "status", "valueCode", v)
					c.key("status")
					c.str("not-done")
					return
				}
				codes("Procedure", "status", map[string]string{"suspended": "on-hold", "aborted": "stopped"}).do(c, o, v)
			}},
			"notDone": {do: func(c *converter, o *object, v fhir.Value) {
				if v.Bool() && o.src.Text("status") == "entered-in-error" {
					carryModifier("Procedure", "notDone", "valueBoolean").do(c, o, v)
				}
			}},
			"notDoneReason": as("statusReason"),
			"performer":     each("performer", members("actor onBehalfOf", shape{"role": as("function")})),
		})}
}
