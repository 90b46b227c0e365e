package gpconnect

import "strings"

// backForms say, type by type of STU3, how the members of R4 go back to where they were.
var backForms = map[string]func(*elder){
	"AllergyIntolerance": func(e *elder) {
		if status, ok := e.tree["clinicalStatus"].(tree); ok {
			for _, x := range items(status["extension"]) {
				if url, _ := x["url"].(string); strings.HasSuffix(url, "-AllergyIntoleranceEnd") || strings.HasSuffix(url, "-AllergyIntoleranceEnd-1") {
					e.extend(x)
				}
			}
		}
		e.bare("clinicalStatus")
		e.bare("verificationStatus")
		e.rename("recordedDate", "assertedDate")
	},
	"Condition": func(e *elder) {
		e.bare("clinicalStatus")
		e.bare("verificationStatus")
		switch e.tree["verificationStatus"] {
		case "unconfirmed":
			e.tree["verificationStatus"] = "provisional"
		}
		if e.tree["clinicalStatus"] == "relapse" {
			e.tree["clinicalStatus"] = "recurrence"
		}
		e.rename("recordedDate", "assertedDate")
		e.rename("encounter", "context")
		e.single("stage")
	},
	"Medication":          func(e *elder) { medicationBack(e) },
	"MedicationStatement": medicationStatementBack,
	"MedicationRequest":   medicationRequestBack,
	"Immunization":        immunizationBack,
	"Encounter": func(e *elder) {
		e.rename("reasonCode", "reason")
		e.rename("basedOn", "incomingReferral")
		e.single("incomingReferral")
		e.single("appointment")
		for _, d := range items(e.tree["diagnosis"]) {
			if u, ok := d["use"]; ok {
				d["role"] = u
				delete(d, "use")
			}
		}
		if c, ok := e.tree["class"].(tree); ok && c["code"] == nil { // R4 wanted one, and nobody said
			delete(e.tree, "class")
		}
	},
	"Observation": observationBack,
	"DiagnosticReport": func(e *elder) {
		e.rename("encounter", "context")
		e.rename("media", "image")
		e.rename("conclusionCode", "codedDiagnosis")
		e.single("category")
		var performers []any
		list, _ := e.tree["performer"].([]any)
		roles := e.take(carried + "DiagnosticReport.performer.role")
		for i, p := range list {
			m := tree{"actor": p}
			if i < len(roles) && len(roles) == len(list) {
				m["role"] = roles[i]
			}
			performers = append(performers, m)
		}
		if performers != nil {
			e.tree["performer"] = performers
		}
	},
	"Procedure": func(e *elder) {
		e.rename("encounter", "context")
		switch e.text("status") {
		case "not-done":
			e.tree["status"], e.tree["notDone"] = "suspended", true
		case "on-hold":
			e.tree["status"] = "suspended"
		case "stopped":
			e.tree["status"] = "aborted"
		}
		e.rename("statusReason", "notDoneReason")
		for _, p := range items(e.tree["performer"]) {
			moveIn(p, "function", "role")
		}
	},
	"ProcedureRequest": func(e *elder) {
		requestBack(e, "ProcedureRequest")
		e.single("performer")
	},
	"ReferralRequest": func(e *elder) {
		if e.tree["doNotPerform"] == true {
			e.refuse("it asks that something not be done, which a referral cannot say")
		}
		requestBack(e, "ReferralRequest")
		e.rename("performer", "recipient")
		e.rename("requisition", "groupIdentifier")
		e.rename("performerType", "specialty")
		e.rename("category", "type")
		e.single("type")
		var asked []any
		if c, ok := e.tree["code"]; ok {
			asked = append(asked, c)
			delete(e.tree, "code")
		}
		if more, ok := e.tree["orderDetail"].([]any); ok {
			asked = append(asked, more...)
			delete(e.tree, "orderDetail")
		}
		if asked != nil {
			e.tree["serviceRequested"] = asked
		}
		// The first note, if it is words alone, is the description that it was.
		notes, _ := e.tree["note"].([]any)
		if len(notes) > 0 {
			if n, ok := notes[0].(tree); ok && len(n) == 1 && n["text"] != nil {
				e.tree["description"] = n["text"]
				if e.tree["note"] = notes[1:]; len(notes) == 1 {
					delete(e.tree, "note")
				}
			}
		}
	},
	"FamilyMemberHistory": func(e *elder) {
		e.bare("sex")
		e.rename("sex", "gender")
		e.rename("dataAbsentReason", "notDoneReason")
	},
	"DocumentReference": func(e *elder) {
		e.rename("category", "class")
		e.single("class")
		e.rename("date", "indexed")
		ctx, _ := e.tree["context"].(tree)
		for _, r := range items(ctx["related"]) {
			ref := tree{}
			for _, k := range [...]string{"reference", "display"} {
				if v, ok := r[k]; ok {
					ref[k] = v
					delete(r, k)
				}
			}
			delete(r, "type")
			if len(ref) > 0 {
				r["ref"] = ref
			}
		}
	},
}

func moveIn(m tree, from, to string) {
	if v, ok := m[from]; ok {
		delete(m, from)
		m[to] = v
	}
}

func requestBack(e *elder, typ string) {
	e.rename("encounter", "context")
	switch e.text("status") {
	case "on-hold":
		e.tree["status"] = "suspended"
	case "revoked":
		e.tree["status"] = "cancelled"
	}
	if r, ok := e.tree["requester"]; ok {
		m := tree{"agent": r}
		if on := e.take(carried + typ + ".requester.onBehalfOf"); len(on) > 0 {
			m["onBehalfOf"] = on[0]
		}
		e.tree["requester"] = m
	}
}

func medicationBack(e *elder) {
	for _, i := range items(e.tree["ingredient"]) {
		moveIn(i, "strength", "amount")
	}
	pack := tree{}
	if b, ok := e.tree["batch"]; ok {
		pack["batch"] = []any{b}
		delete(e.tree, "batch")
	}
	if c := e.take(carried + "Medication.package.container"); len(c) > 0 {
		pack["container"] = c[0]
	}
	if len(pack) > 0 {
		e.tree["package"] = pack
	}
}

// dosageBack lifts what R4 put one level down. Several doses in one line have no place in STU3: the words say them.
func dosageBack(list any) {
	for _, d := range items(list) {
		rates := items(d["doseAndRate"])
		if len(rates) == 1 {
			for k, v := range rates[0] {
				if k != "type" {
					d[k] = v
				}
			}
		}
		delete(d, "doseAndRate")
	}
}

func medicationStatementBack(e *elder) {
	switch e.text("status") {
	case "not-taken":
		e.tree["taken"], e.tree["status"] = "n", "completed" // what it was stands in the carried extension, see restore
	case "unknown", "":
		e.refuse("GP Connect cannot say that it is not known whether it is taken")
	}
	if _, ok := e.tree["taken"]; !ok {
		e.tree["taken"] = "unk" // mandatory there; a carried one replaces it
	}
	e.rename("statusReason", "reasonNotTaken")
	dosageBack(e.tree["dosage"])
}

// courseBack is the kind of prescription by R4's course of therapy.
var courseBack = map[string][2]string{
	"acute": {"acute", "Acute"}, "continuous": {"repeat", "Repeat"}, "continuous-repeating-dispensing": {"repeat-dispensing", "Repeat Dispensing"},
}

func medicationRequestBack(e *elder) {
	switch e.text("intent") {
	case "original-order", "reflex-order", "filler-order":
		e.tree["intent"] = "order"
	}
	if e.tree["doNotPerform"] == true {
		e.refuse("it says that something is not to be given, which GP Connect cannot tell")
	}
	e.rename("encounter", "context")
	if r, ok := e.tree["requester"]; ok {
		m := tree{"agent": r}
		if on := e.take(carried + "MedicationRequest.requester.onBehalfOf"); len(on) > 0 {
			m["onBehalfOf"] = on[0]
		}
		e.tree["requester"] = m
	}
	const prescription, reason = gpcExt + "CareConnect-GPC-PrescriptionType-1", gpcExt + "CareConnect-GPC-MedicationStatusReason-1"
	if k, ok := courseBack[code(e.tree["courseOfTherapyType"])]; ok && !e.has(prescription) {
		e.extend(tree{"url": prescription, "valueCodeableConcept": tree{"coding": []any{tree{
			"system": "https://fhir.nhs.uk/STU3/CodeSystem/CareConnect-PrescriptionType-1", "code": k[0], "display": k[1]}}}})
	}
	if r, ok := e.tree["statusReason"]; ok && !e.has(reason) {
		e.extend(tree{"url": reason, "extension": []any{tree{"url": "statusReason", "valueCodeableConcept": r}}})
	}
	delete(e.tree, "courseOfTherapyType") // said by the extensions now
	delete(e.tree, "statusReason")
	repeatBack(e)
	if s, ok := e.tree["substitution"].(tree); ok {
		moveIn(s, "allowedBoolean", "allowed")
	}
	dosageBack(e.tree["dosageInstruction"])
}

// repeatBack joins the two halves of the repeat information again.
func repeatBack(e *elder) {
	const gpc, uk = gpcExt + "CareConnect-GPC-MedicationRepeatInformation-1", ukExt + "MedicationRepeatInformation"
	var rest, parts []any
	list, _ := e.tree["extension"].([]any)
	for _, x := range list {
		m, _ := x.(tree)
		if m["url"] != gpc && m["url"] != uk {
			rest = append(rest, x)
			continue
		}
		for _, p := range items(m["extension"]) {
			if p["url"] == "numberOfPrescriptionsIssued" {
				p["url"], p["valuePositiveInt"] = "numberOfRepeatPrescriptionsIssued", p["valueUnsignedInt"]
				delete(p, "valueUnsignedInt")
			}
			parts = append(parts, p)
		}
	}
	if parts != nil {
		e.tree["extension"] = append(rest, tree{"url": gpc, "extension": parts})
	}
}

func immunizationBack(e *elder) {
	e.tree["notGiven"] = false
	if e.text("status") == "not-done" {
		e.tree["status"], e.tree["notGiven"] = "completed", true
	}
	e.rename("occurrenceDateTime", "date")
	delete(e.tree, "_date") // that R4 wanted one and nobody said
	if d, ok := e.tree["recorded"]; ok {
		e.extend(tree{"url": stu3Ext + "CareConnect-DateRecorded-1", "valueDateTime": d})
		delete(e.tree, "recorded")
	}
	for _, p := range items(e.tree["performer"]) {
		moveIn(p, "function", "role")
	}
	e.rename("performer", "practitioner")
	why := tree{}
	if r, ok := e.tree["reasonCode"]; ok {
		why["reason"] = r
		delete(e.tree, "reasonCode")
	}
	if r, ok := e.tree["statusReason"]; ok {
		why["reasonNotGiven"] = append([]any{r}, e.take(carried+"Immunization.explanation.reasonNotGiven")...)
		delete(e.tree, "statusReason")
	}
	if len(why) > 0 {
		e.tree["explanation"] = why
	}
	for _, p := range items(e.tree["protocolApplied"]) {
		moveIn(p, "doseNumberPositiveInt", "doseSequence")
		moveIn(p, "seriesDosesPositiveInt", "seriesDoses")
		in := &elder{tree: p}
		for _, name := range [...]string{"description", "doseStatus", "doseStatusReason"} {
			if held := in.take(carried + "Immunization.vaccinationProtocol." + name); len(held) > 0 {
				p[name] = held[0]
			}
		}
	}
	e.rename("protocolApplied", "vaccinationProtocol")
}

func observationBack(e *elder) {
	e.rename("encounter", "context")
	e.single("interpretation")
	var words []string
	for _, n := range items(e.tree["note"]) {
		if s, ok := n["text"].(string); ok {
			words = append(words, s)
		}
	}
	if len(words) > 0 {
		e.tree["comment"] = strings.Join(words, "\n")
	}
	delete(e.tree, "note")
	var related []any
	for _, k := range [...][2]string{{"hasMember", "has-member"}, {"derivedFrom", "derived-from"}} {
		list, _ := e.tree[k[0]].([]any)
		for _, t := range list {
			related = append(related, tree{"type": k[1], "target": t})
		}
		delete(e.tree, k[0])
	}
	var rest []any
	list, _ := e.tree["extension"].([]any)
	for _, x := range list {
		m, _ := x.(tree)
		if m["url"] != carried+"Observation.related" {
			rest = append(rest, x)
			continue
		}
		r := tree{}
		for _, p := range items(m["extension"]) {
			switch p["url"] {
			case "type":
				r["type"] = p["valueCode"]
			case "target":
				r["target"] = p["valueReference"]
			}
		}
		related = append(related, r)
	}
	if len(rest) != len(list) {
		if e.tree["extension"] = rest; len(rest) == 0 {
			delete(e.tree, "extension")
		}
	}
	if related != nil {
		e.tree["related"] = related
	}
	if n, ok := e.tree["valueInteger"]; ok { // a type of value that came with R4
		e.tree["valueQuantity"] = tree{"value": n}
		delete(e.tree, "valueInteger")
	}
	for _, c := range items(e.tree["component"]) {
		in := &elder{tree: c}
		in.single("interpretation")
		delete(c, "interpretation (all but the first)")
		if n, ok := c["valueInteger"]; ok {
			c["valueQuantity"] = tree{"value": n}
			delete(c, "valueInteger")
		}
	}
}
