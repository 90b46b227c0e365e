package practice

import (
	"encoding/json"
	"strings"

	"tombolo/api/gpconnect"
	"tombolo/fhir"
	"tombolo/sim/cast"
)

// coded is a fact's code with its words, in words alone where it has no code.
func coded(i cast.Item) fhir.M {
	if i.Code == "" {
		return fhir.M{"coding": []fhir.M{{"system": fhir.SystemSNOMED, "code": "196411000000103", "display": "Transfer-degraded record entry"}}, "text": i.Display}
	}
	return fhir.M{"coding": []fhir.M{{"system": i.System, "code": i.Code, "display": i.Display}}}
}

func (b *builder) allergy(n int, i cast.Item) {
	r := b.base("AllergyIntolerance", "CareConnect-GPC-AllergyIntolerance-1", b.mine("allergy", n), i.Label)
	r["clinicalStatus"], r["verificationStatus"] = "active", "unconfirmed"
	r["category"], r["code"] = []string{"medication"}, coded(i)
	r["patient"], r["assertedDate"], r["onsetDateTime"] = b.subject(), i.Date, i.Date
	r["recorder"] = b.by(i.By, i.Role)
	switch i.Level {
	case "high":
		r["criticality"] = "high"
	case "low":
		r["criticality"] = "low"
	}
	if i.Text != "" {
		r["reaction"] = []fhir.M{{"manifestation": []fhir.M{{"text": i.Text}}, "description": i.Text}}
	}
	if i.Status != "resolved" && i.Status != "inactive" {
		b.file("includeAllergies", i.Label, r)
		return
	}
	old := b.byName[ended]
	if old == nil {
		return
	}
	r["clinicalStatus"] = "resolved"
	end := []fhir.M{{"url": "reasonEnded", "valueString": "No longer relevant"}}
	if i.End != "" {
		end = append([]fhir.M{{"url": "endDate", "valueDateTime": i.End}}, end...)
	}
	r["extension"] = []fhir.M{{"url": gpc + "AllergyIntoleranceEnd-1", "extension": end}}
	old.contained = append(old.contained, r)
	old.refs = append(old.refs, "#"+r["id"].(string))
}

func (b *builder) problem(n int, i cast.Item) fhir.M {
	r := b.base("Condition", "CareConnect-GPC-ProblemHeader-Condition-1", b.mine("problem", n), i.Label)
	r["extension"] = []fhir.M{{"url": cc + "ProblemSignificance-1", "valueCode": "major"}}
	r["clinicalStatus"] = "active"
	if i.Status != "active" {
		r["clinicalStatus"] = "inactive"
	}
	r["category"] = []fhir.M{{"coding": []fhir.M{{"system": "http://hl7.org/fhir/condition-category", "code": "problem-list-item", "display": "Problem List Item"}}}}
	r["code"], r["subject"], r["asserter"] = coded(i), b.subject(), b.by(i.By, i.Role)
	r["onsetDateTime"], r["assertedDate"] = i.Date, i.Date
	if i.End != "" {
		r["abatementDateTime"] = i.End
	}
	if i.Text != "" {
		r["note"] = []fhir.M{{"text": i.Text}}
	}
	return r
}

func (b *builder) immunisation(n int, i cast.Item) {
	refused := i.Status == "not-done"
	if refused && !b.ask.NotGiven {
		return
	}
	r := b.base("Immunization", "CareConnect-GPC-Immunization-1", b.mine("immunisation", n), i.Label)
	r["extension"] = []fhir.M{{"url": cc + "DateRecorded-1", "valueDateTime": i.Date}, {"url": cc + "VaccinationProcedure-1", "valueCodeableConcept": coded(i)}}
	r["status"], r["notGiven"], r["primarySource"] = "completed", refused, true
	r["vaccineCode"] = fhir.M{"coding": []fhir.M{{"system": "http://hl7.org/fhir/v3/NullFlavor", "code": "UNK"}}}
	r["patient"], r["date"] = b.subject(), i.Date
	r["practitioner"] = []fhir.M{{"actor": b.by(i.By, i.Role)}}
	if refused {
		r["explanation"] = fhir.M{"reasonNotGiven": []fhir.M{{"text": i.Text}}}
	} else if i.Text != "" {
		r["note"] = []fhir.M{{"text": i.Text}}
	}
	if b.file("includeImmunisations", i.Label, r) {
		b.linkTo(i.Date, "Plan", r)
	}
}

func (b *builder) referral(n int, i cast.Item) {
	r := b.base("ReferralRequest", "CareConnect-GPC-ReferralRequest-1", b.mine("referral", n), i.Label)
	r["status"], r["intent"], r["priority"] = "unknown", "order", "routine"
	r["subject"], r["authoredOn"], r["reasonCode"] = b.subject(), i.Date, []fhir.M{coded(i)}
	r["requester"] = fhir.M{"agent": b.by(i.By, i.Role)}
	if i.Text != "" {
		r["description"] = i.Text
	}
	if b.file("includeReferrals", i.Label, r) {
		b.linkTo(i.Date, "Plan", r)
	}
}

func (b *builder) observation(n int, i cast.Item) {
	r := b.base("Observation", "CareConnect-GPC-Observation-1", b.mine("observation", n), i.Label)
	r["status"], r["code"], r["subject"] = "final", coded(i), b.subject()
	r["effectiveDateTime"], r["issued"] = i.Date, instant(i.Date)
	r["performer"] = []fhir.M{b.by(i.By, i.Role)}
	if i.Text != "" {
		r["comment"] = i.Text
	}
	upper, lower, pressure := strings.Cut(i.Value, "/")
	switch {
	case i.Value == "":
	case pressure:
		r["component"] = []fhir.M{
			{"code": sct("271649006", "Systolic blood pressure"), "valueQuantity": quantity(upper, i.Unit)},
			{"code": sct("271650006", "Diastolic blood pressure"), "valueQuantity": quantity(lower, i.Unit)},
		}
	default:
		r["valueQuantity"] = quantity(i.Value, i.Unit)
	}
	if b.file("includeUncategorisedData", i.Label, r) {
		b.linkTo(i.Date, "Examination", r)
	}
}

func quantity(value, unit string) fhir.M {
	number := strings.TrimLeft(value, "<>")
	q := fhir.M{"value": json.Number(number), "unit": unit}
	if number != value {
		q["comparator"] = strings.TrimSuffix(value, number)
	}
	if unit != "" {
		q["system"], q["code"] = fhir.SystemUCUM, unit
	}
	return q
}

// instant makes the instant that "issued" must be of a date that may be less.
func instant(date string) string {
	if s, err := fhir.ParseDate(date); err == nil {
		return s.Start.In(fhir.London).Format(gpconnect.Instant)
	}
	return date
}

// medication is a Medication, its authorisation (plan), its issues (orders) and the summary of them.
//
// GP Connect 1.6 accessrecord_structured_development_medication_resource_relationships.html
func (b *builder) medication(n int, m cast.Medication) {
	if !b.ask.Active(m.Start, m.End, m.Type != "repeat") {
		return
	}
	drug := b.uuid("medication", m.Code)
	if !b.made[drug] {
		b.made[drug] = true
		b.add(fhir.M{"resourceType": "Medication", "id": drug, "meta": gpconnect.Profile("CareConnect-GPC-Medication-1"), "code": sct(m.Code, m.Display)})
	}
	typ := m.Type
	if typ != "repeat" {
		typ = "acute"
	}
	plan := b.prescription(m, b.mine("plan", n), typ, "plan", m.Start)
	plan["groupIdentifier"] = fhir.M{"value": b.mine("group", n)[:8]}
	plan["status"] = map[string]string{"active": "active", "stopped": "stopped"}[m.Status]
	if plan["status"] == "" {
		plan["status"] = "completed"
	}
	ext := plan["extension"].([]fhir.M)
	if typ == "repeat" {
		ext = append(ext, fhir.M{"url": gpc + "MedicationRepeatInformation-1", "extension": []fhir.M{
			{"url": "numberOfRepeatPrescriptionsAllowed", "valuePositiveInt": max(12, len(m.Issues))}, {"url": "numberOfRepeatPrescriptionsIssued", "valuePositiveInt": max(1, len(m.Issues))}}})
	}
	if m.Status == "stopped" {
		ext = append(ext, fhir.M{"url": gpc + "MedicationStatusReason-1", "extension": []fhir.M{
			{"url": "statusReason", "valueCodeableConcept": fhir.M{"text": m.For}}, {"url": "statusChangeDate", "valueDateTime": m.End}}})
	} else if m.For != "" {
		plan["reasonCode"] = []fhir.M{{"text": m.For}}
	}
	plan["extension"] = ext
	b.add(plan)
	issues := m.Issues
	if len(issues) == 0 && typ == "acute" {
		issues = []string{m.Start}
	}
	if !b.ask.WithoutIssues {
		for k, day := range issues {
			order := b.prescription(m, b.mine("issue", n, ".", k), typ, "order", day)
			order["status"], order["groupIdentifier"] = "completed", plan["groupIdentifier"]
			order["basedOn"] = []fhir.M{ref("MedicationRequest", plan["id"].(string))}
			b.add(order)
		}
	}
	b.statement(n, m, drug, plan["id"].(string), issues)
}

func (b *builder) prescription(m cast.Medication, id, typ, intent, day string) fhir.M {
	r := b.base("MedicationRequest", "CareConnect-GPC-MedicationRequest-1", id, "")
	r["extension"] = []fhir.M{{"url": gpc + "PrescriptionType-1", "valueCodeableConcept": fhir.M{"coding": []fhir.M{{
		"system": "https://fhir.nhs.uk/STU3/CodeSystem/CareConnect-PrescriptionType-1", "code": typ, "display": strings.ToUpper(typ[:1]) + typ[1:]}}}}}
	r["intent"], r["subject"], r["authoredOn"] = intent, b.subject(), day
	r["medicationReference"] = ref("Medication", b.uuid("medication", m.Code))
	r["recorder"] = b.by(m.By, "")
	r["dosageInstruction"] = []fhir.M{{"text": m.Dose}}
	period := fhir.M{"start": day}
	if m.End != "" {
		period["end"] = m.End
	}
	supply := fhir.M{"validityPeriod": period, "expectedSupplyDuration": fhir.M{"value": 28, "unit": "day", "system": fhir.SystemUCUM, "code": "d"}}
	if m.Quantity != "" {
		supply["quantity"] = fhir.M{"value": json.Number(m.Quantity), "unit": m.Unit}
	}
	r["dispenseRequest"] = supply
	return r
}

func (b *builder) statement(n int, m cast.Medication, drug, plan string, issues []string) {
	r := b.base("MedicationStatement", "CareConnect-GPC-MedicationStatement-1", b.mine("statement", n), "")
	last := m.Start
	for _, d := range issues {
		last = max(last, d)
	}
	agency := [2]string{"prescribed-at-gp-practice", "Prescribed at GP practice"}
	if m.Type == "discharge" {
		agency = [2]string{"prescribed-by-another-organisation", "Prescribed by another organisation"}
	}
	r["extension"] = []fhir.M{
		{"url": gpc + "MedicationStatementLastIssueDate-1", "valueDateTime": last},
		{"url": gpc + "PrescribingAgency-1", "valueCodeableConcept": fhir.M{"coding": []fhir.M{{
			"system": "https://fhir.nhs.uk/STU3/CodeSystem/CareConnect-PrescribingAgency-1", "code": agency[0], "display": agency[1]}}}},
	}
	r["basedOn"] = []fhir.M{ref("MedicationRequest", plan)}
	if r["status"] = m.Status; m.Status == "" {
		r["status"] = "active"
	}
	r["medicationReference"], r["subject"] = ref("Medication", drug), b.subject()
	period := fhir.M{"start": m.Start}
	if m.End != "" {
		period["end"] = m.End
	}
	r["effectivePeriod"], r["dateAsserted"], r["taken"] = period, m.Start, "unk"
	r["dosage"] = []fhir.M{{"text": m.Dose}}
	b.file("includeMedication", "", r)
}

// report is a request, a specimen, the results under their groups, and the report that holds them together.
//
// GP Connect 1.6 accessrecord_structured_development_pathology_guidance.html
func (b *builder) report(r cast.Panel) {
	lab := b.organisation(r.By, "")
	request := b.base("ProcedureRequest", "CareConnect-GPC-ProcedureRequest-1", b.mine("request", r.ID), "")
	request["status"], request["intent"], request["code"], request["subject"] = "active", "order", sct(r.Code, r.Display), b.subject()
	request["authoredOn"] = r.Date
	b.add(request)
	rep := b.base("DiagnosticReport", "CareConnect-GPC-DiagnosticReport-1", b.mine("report", r.ID), "")
	rep["basedOn"] = []fhir.M{ref("ProcedureRequest", request["id"].(string))}
	rep["status"], rep["code"], rep["subject"] = r.Status, sct("721981007", "Diagnostic studies report"), b.subject()
	rep["issued"], rep["performer"] = instant(r.Date), []fhir.M{{"actor": lab}}
	var spec fhir.M
	if !r.Imaging {
		spec = b.base("Specimen", "CareConnect-GPC-Specimen-1", b.mine("specimen", r.ID), "")
		spec["status"], spec["type"], spec["subject"] = "available", sct("122555007", "Venous blood specimen"), b.subject()
		spec["collection"] = fhir.M{"collectedDateTime": r.Date}
		b.add(spec)
		rep["specimen"] = []fhir.M{ref("Specimen", spec["id"].(string))}
	}
	var results []fhir.M
	for n, g := range r.Groups {
		results = append(results, b.group(r.Report, n, g, lab, spec))
	}
	if r.Text != "" { // a filing comment
		results = append(results, b.comment(r.Report, "comment", r.Text, lab))
	}
	rep["result"] = results
	b.file("includeInvestigations", "", rep)
}

func (b *builder) comment(r cast.Report, kind, text string, lab fhir.M) fhir.M {
	c := b.result(r, kind, fhir.M{"code": sct("37331000000100", "Comment note"), "comment": text}, lab, nil)
	b.add(c)
	return ref("Observation", c["id"].(string))
}

// group is a test group header with its results as members, and with what was said when it was filed.
func (b *builder) group(r cast.Report, n int, g cast.Group, lab, spec fhir.M) fhir.M {
	group := b.result(r, "group", fhir.M{"code": sct(g.Code, g.Display)}, lab, spec, n)
	var related []fhir.M
	for k, line := range g.Results {
		o := b.result(r, "result", fhir.M{"code": sct(line.Code, line.Display), "valueQuantity": quantity(line.Value, line.Unit)}, lab, spec, n, ".", k)
		limits := fhir.M{}
		if line.Low != "" {
			limits["low"] = fhir.M{"value": json.Number(line.Low), "unit": line.Unit}
		}
		if line.High != "" {
			limits["high"] = fhir.M{"value": json.Number(line.High), "unit": line.Unit}
		}
		if len(limits) > 0 {
			o["referenceRange"] = []fhir.M{limits}
		}
		if line.Flag != "" {
			o["interpretation"] = fhir.M{"coding": []fhir.M{{"system": "http://hl7.org/fhir/v2/0078", "code": line.Flag}}}
		}
		b.add(o)
		related = append(related, fhir.M{"type": "has-member", "target": ref("Observation", o["id"].(string))})
	}
	if g.Comment != "" {
		related = append(related, fhir.M{"type": "has-member", "target": b.comment(r, "filed."+g.Code, g.Comment, lab)})
	}
	if len(related) > 0 {
		group["related"] = related
	}
	b.add(group)
	return ref("Observation", group["id"].(string))
}

func (b *builder) result(r cast.Report, kind string, fields fhir.M, lab, specimen fhir.M, n ...any) fhir.M {
	o := b.base("Observation", "CareConnect-GPC-Observation-1", b.mine(append([]any{kind, r.ID, "."}, n...)...), "")
	o["status"], o["subject"], o["issued"], o["performer"] = "final", b.subject(), instant(r.Date), []fhir.M{lab}
	o["effectiveDateTime"] = r.Date
	if !r.Imaging {
		o["category"] = []fhir.M{sct("394595002", "Pathology")}
	}
	if specimen != nil {
		o["specimen"] = ref("Specimen", specimen["id"].(string))
	}
	for k, v := range fields {
		o[k] = v
	}
	return o
}
