package web

import (
	"strconv"
	"strings"

	"tombolo/fhir"
)

func tellAllergy(r thing, t *told) {
	reaction := first(r, []string{"reaction.manifestation", "reaction.description"})
	t.Value = join("; ", reaction, saying(r, r.Get("reaction.note")))
	if t.Value == "" && len(t.Notes) > 0 {
		t.Value = t.Notes[0]
	}
	// FHIR R4 valueset-allergy-intolerance-criticality.html
	switch r.Text("criticality") {
	case "high":
		t.Marks = append(t.Marks, mark{"High risk", toneGrave})
	case "low":
		t.Marks = append(t.Marks, mark{"Low risk", toneMuted})
	}
	if s := r.Text("reaction.severity"); s == "severe" {
		t.Marks = append(t.Marks, mark{"Severe", toneGrave})
	} else if s != "" {
		t.Marks = append(t.Marks, mark{sayCode(s), toneMuted})
	}
	if typ := r.Text("type"); typ != "" {
		t.More = append(t.More, pair{"Type", sayCode(typ)})
	}
	for e := range r.Value().All("clinicalStatus.extension") { // Extension-UKCore-AllergyIntoleranceEnd
		if !strings.HasSuffix(e.Text("url"), "-AllergyIntoleranceEnd") {
			continue
		}
		for part := range e.All("extension") {
			switch part.Text("url") {
			case "endDate":
				t.Value = join("; ", t.Value, "ended "+sayDate(part.Text("valueDateTime")))
			case "reasonEnded":
				t.More = append(t.More, pair{"Reason ended", part.Text("valueString")})
			}
		}
	}
}

func tellCondition(r thing, t *told) {
	if end := firstText(r, []string{"abatementDateTime", "abatementPeriod.end"}); end != "" {
		t.Value = "ended " + sayDate(end)
	}
	t.Value = join("; ", saying(r, r.Get("severity")), t.Value)
	for e := range r.Value().All("extension") { // what general practice calls a problem: major or minor
		if strings.HasSuffix(e.Text("url"), "-ProblemSignificance") {
			t.More = append(t.More, pair{"Significance", sayCode(e.Text("valueCode"))})
		}
	}
	if len(t.Notes) > 0 {
		t.Value = join("; ", t.Value, t.Notes[0])
	}
}

// UK Core says in the course of therapy whether a prescription repeats; GP Connect did in an extension that
// connectors carry over. FHIR R4 medicationrequest-definitions.html#MedicationRequest.courseOfTherapyType
func tellPrescription(r thing, t *told) {
	kind := prescriptionKind(r)
	if kind != "" {
		t.Marks = append([]mark{{kind, toneActive}}, t.Marks...)
	}
	quantity := ""
	for _, p := range [...]string{"dispenseRequest.quantity", "quantity"} {
		if quantity = saying(r, r.Get(p)); quantity != "" {
			break
		}
	}
	if quantity == "" {
		for e := range r.Value().All("dispenseRequest.quantity.extension") {
			quantity = e.Text("valueString")
		}
	}
	if quantity != "" {
		t.More = append(t.More, pair{"Quantity", quantity})
	}
	if t.Value == "" {
		t.Value = "dose not given"
	}
	if n := r.Text("dispenseRequest.numberOfRepeatsAllowed"); n != "" {
		t.More = append(t.More, pair{"Repeats allowed", n})
	}
	if p := r.Get("dispenseRequest.validityPeriod"); p.Exists() {
		t.More = append(t.More, pair{"Valid", saying(r, p)})
	}
	if end := r.Text("effectivePeriod.end"); end != "" {
		t.More = append(t.More, pair{"Ended", sayDate(end)})
	}
	more := func(label, text string) {
		if text != "" {
			t.More = append(t.More, pair{label, text})
		}
	}
	more("Reason", first(r, []string{"reasonCode", "reasonReference"}))
	more("Supply", saying(r, r.Get("dispenseRequest.expectedSupplyDuration")))
	for _, p := range [...]string{"dosageInstruction.patientInstruction", "dosage.patientInstruction"} {
		more("Instruction to the patient", first(r, []string{p}))
	}
	tellCourse(r, more)
	if why := first(r, []string{"statusReason"}); why != "" {
		more("Stopped because", why)
	}
}

// tellCourse tells what general practice keeps of a course of medicine beyond R4's own elements: how often it was and may be issued, when
// last, until when it is authorised, by what kind of organisation it is prescribed, and when it was stopped. UK Core's extensions, and
// GP Connect's where UK Core has none
func tellCourse(r thing, more func(label, text string)) {
	for e := range r.Value().All("extension") {
		url := e.Text("url")
		switch name := strings.TrimSuffix(url[strings.LastIndexByte(url, '-')+1:], "-1"); {
		case name == "MedicationStatementLastIssueDate":
			more("Last issued", sayDate(e.Text("valueDateTime")))
		case name == "MedicationPrescribingOrganizationType":
			more("Prescribed by", saying(r, e.Get("valueCodeableConcept")))
		case strings.Contains(url, "MedicationRepeatInformation"):
			for part := range e.All("extension") {
				switch part.Text("url") {
				case "numberOfPrescriptionsIssued":
					more("Times issued", part.Text("valueUnsignedInt"))
				case "numberOfRepeatPrescriptionsAllowed":
					more("Issues authorised", part.Text("valuePositiveInt")+part.Text("valueUnsignedInt"))
				case "authorisationExpiryDate":
					more("Authorised until", sayDate(part.Text("valueDateTime")))
				}
			}
		case strings.Contains(url, "MedicationStatusReason"):
			for part := range e.All("extension") {
				if part.Text("url") == "statusChangeDate" {
					more("Stopped on", sayDate(part.Text("valueDateTime")))
				}
			}
		}
	}
}

func prescriptionKind(r thing) string {
	for _, p := range [...]string{"courseOfTherapyType", "category"} {
		for c := range r.Value().All(p + ".coding.code") {
			switch c.Str() {
			case "repeat-dispensing", "continuous-repeating-dispensing":
				return "Repeat dispensing"
			case "continuous", "repeat", "delayed-prescribing":
				return "Repeat"
			case "acute", "acute-handwritten":
				return "Acute"
			case "discharge", "leave":
				return "Discharge"
			}
		}
		if s := strings.ToLower(r.Text(p + ".text")); s == "repeat" || s == "acute" || s == "discharge" {
			return sayCode(s)
		}
	}
	return ""
}

func tellImmunisation(r thing, t *told) {
	// UK Core carries what was done in an extension, which says more than the product where that is only a class.
	for e := range r.Value().All("extension") {
		if strings.HasSuffix(e.Text("url"), "-VaccinationProcedure") && t.What == spaced(r.Type()) {
			t.What = saying(r, e.Get("valueCodeableConcept"))
		}
	}
	batch := r.Text("lotNumber")
	if batch != "" {
		batch = "batch " + batch
	}
	t.Value = join(", ", batch, saying(r, r.Get("site")), saying(r, r.Get("statusReason")))
	if t.Value == "" && len(t.Notes) > 0 {
		t.Value = t.Notes[0]
	}
	if d := r.Text("protocolApplied.doseNumberPositiveInt"); d != "" {
		if of := r.Text("protocolApplied.seriesDosesPositiveInt"); of != "" {
			d += " of " + of
		}
		t.More = append(t.More, pair{"Dose number", d})
	}
	if against := first(r, []string{"protocolApplied.targetDisease"}); against != "" {
		t.More = append(t.More, pair{"Against", against})
	}
}

// tellRequest tells of a referral or a request what whoever takes it on has to know.
func tellRequest(r thing, t *told) {
	switch p := r.Text("priority"); p {
	case "", "routine":
	default:
		t.Marks = append(t.Marks, mark{sayCode(p), toneWarn})
	}
	for _, m := range []pair{
		{"Urgency", sayCode(r.Text("priority"))},
		{"Specialty", first(r, []string{"performerType"})},
		{"Due", sayDate(firstText(r, []string{"occurrenceDateTime", "occurrencePeriod.start"}))},
	} {
		if m.Text != "" {
			t.More = append(t.More, m)
		}
	}
}

func tellObservation(r thing, t *told) {
	row := readResult(r)
	t.Value = row.Value
	if row.Range != "" {
		t.More = append(t.More, pair{"Reference range", row.Range})
	}
	if row.Mark.Word != "" {
		t.Marks = append(t.Marks, row.Mark)
	}
	if len(t.Notes) > 0 {
		t.Value = join("; ", t.Value, t.Notes[0])
	}
	if t.Value == "" {
		t.Value = saying(r, r.Get("dataAbsentReason"))
	}
}

func tellPeriod(r thing, t *told) {
	if p := r.Get("period"); p.Exists() {
		if end := p.Text("end"); end != "" {
			t.More = append(t.More, pair{"Period", sayPeriod(p.Text("start"), end)})
			if r.Type() == "Encounter" && r.Text("class.code") == "IMP" {
				t.Value = join("; ", t.Value, "discharged "+sayDate(end))
			}
		} else if r.Type() == "Encounter" && r.Text("status") == "in-progress" {
			t.Marks = append(t.Marks, mark{"Still there", toneActive})
		}
	}
	for d := range r.Value().All("diagnosis.condition") {
		if s := saying(r, d); s != "" {
			t.More = append(t.More, pair{"Diagnosis", s})
		}
	}
	for e := range r.Value().All("extension.valueString") { // R4's Flag has no note: sources put the words beside it
		t.Notes = append(t.Notes, e.Str())
	}
	if len(t.Notes) > 0 && r.Type() == "Flag" {
		t.Value = join("; ", t.Value, t.Notes[0])
	}
}

func tellAppointment(r thing, t *told) {
	if end := r.Text("end"); end != "" {
		t.More = append(t.More, pair{"Time", sayPeriod(r.Text("start"), end)})
	}
	for p := range r.Value().All("participant") {
		actor := p.Get("actor")
		s := saying(r, actor)
		switch ref := actor.Text("reference"); {
		case s == "" || strings.HasPrefix(ref, "Patient/"):
		case strings.HasPrefix(ref, "Location/") || actor.Text("type") == "Location":
			t.Where = s
		case t.By == "":
			t.By = s
		}
	}
	if r.Text("status") == "booked" {
		t.Marks = append(t.Marks, mark{"Booked", toneActive})
	}
}

func tellPlan(r thing, t *told) {
	if end := r.Text("period.end"); end != "" {
		t.More = append(t.More, pair{"Period", sayPeriod(r.Text("period.start"), end)})
	}
	if t.Value == "" && len(t.Notes) > 0 {
		t.Value = t.Notes[0]
	}
	for a := range r.Value().All("activity.detail") {
		if s := join(": ", saying(r, a.Get("code")), a.Text("description")); s != "" {
			t.More = append(t.More, pair{"Activity", s})
		}
	}
	for n := range r.Value().All("addresses") {
		if s := saying(r, n); s != "" {
			t.More = append(t.More, pair{"For", s})
		}
	}
}

func tellContact(r thing, t *told) {
	for p := range r.Value().All("telecom") {
		if s := p.Text("value"); s != "" {
			t.Value = join(", ", t.Value, s)
		}
	}
	if t.Value == "" && len(t.Notes) > 0 {
		t.Value = t.Notes[0]
	}
}

// A Patient is one source's own demographics: shown so that a reader sees what each source believes.
func tellPatient(r thing, t *told) {
	var n fhir.HumanName
	_ = r.Get("name").Decode(&n)
	t.What = n.Formal()
	if t.What == "" {
		t.What = "Name not given"
	}
	t.When = ""
	t.By = ""
	t.Value = join("; ", join(" ", "born", sayDate(r.Text("birthDate"))), sayCode(r.Text("gender")))
	if r.Text("birthDate") == "" {
		t.Value = sayCode(r.Text("gender"))
	}
	for a := range r.Value().All("address") {
		if s := saying(r, a); s != "" {
			t.More = append(t.More, pair{"Address", s})
		}
	}
	for p := range r.Value().All("telecom") {
		if s := p.Text("value"); s != "" {
			t.More = append(t.More, pair{"Contact", s})
		}
	}
	if s := saying(r, r.Get("maritalStatus")); s != "" {
		t.More = append(t.More, pair{"Marital status", s})
	}
	for l := range r.Value().All("communication.language") {
		t.More = append(t.More, pair{"Language", saying(r, l)})
	}
}

func tellDocument(r thing, t *told) {
	if kind := saying(r, r.Get("type")); !strings.EqualFold(kind, t.What) {
		t.Value = kind
	}
	if t.Where == "" {
		t.Where = saying(r, r.Get("custodian"))
	}
	if typ := r.Text("content.attachment.contentType"); typ != "" {
		t.More = append(t.More, pair{"Form", sayMedia(typ)})
	}
	if n, err := strconv.ParseInt(r.Text("content.attachment.size"), 10, 64); err == nil && n > 0 {
		t.More = append(t.More, pair{"Size", sayBytes(n)})
	}
	if s := r.Text("docStatus"); s != "" && s != "final" {
		t.Marks = append(t.Marks, mark{sayCode(s), toneWarn})
	}
}

func tellAnswers(r thing, t *told) {
	if strings.Contains(t.What, "/") {
		t.What = "Questionnaire"
	}
	var walk func(fhir.Value, int)
	walk = func(v fhir.Value, depth int) {
		for item := range v.All("item") {
			for a := range item.All("answer") {
				for c := range a.Children() {
					if strings.HasPrefix(c.Key(), "value") {
						t.More = append(t.More, pair{item.Text("text"), saying(r, c)})
					}
				}
			}
			if depth < 8 {
				walk(item, depth+1)
			}
		}
	}
	walk(r.Value(), 0)
	if len(t.More) == 1 && t.More[0].Label != "" { // one question: its answer is what there is to tell
		t.What, t.Value, t.More = t.More[0].Label, t.More[0].Text, nil
	}
}

func sayMedia(typ string) string {
	typ, _, _ = strings.Cut(typ, ";")
	switch strings.TrimSpace(strings.ToLower(typ)) {
	case "application/pdf":
		return "PDF"
	case "text/plain":
		return "text"
	case "text/html", "application/xhtml+xml":
		return "web page"
	}
	return typ
}

func sayBytes(n int64) string {
	switch {
	case n < 1000:
		return strconv.FormatInt(n, 10) + " bytes"
	case n < 1_000_000:
		return strconv.FormatInt(n/1000, 10) + " KB"
	}
	return strconv.FormatFloat(float64(n)/1e6, 'f', 1, 64) + " MB"
}

// A result is one row of a laboratory report.
type result struct {
	Test, Value, Range string
	Mark               mark
	Note               string
	Group              string // a heading over those that follow; the rest is empty
	Said               string // words of the laboratory or of whoever filed it; the rest is empty, but for Group
}

// The interpretation in words. HL7 v3 ObservationInterpretation
var interpretations = map[string]mark{
	"H": {"High", toneWarn}, "HH": {"Very high", toneGrave}, "HU": {"Significantly high", toneGrave}, "L": {"Low", toneWarn}, "LL": {"Very low", toneGrave}, "LU": {"Significantly low", toneGrave},
	"A": {"Abnormal", toneWarn}, "AA": {"Very abnormal", toneGrave}, "POS": {"Positive", toneWarn}, "NEG": {"Negative", ""}, "N": {"Normal", ""},
	"R": {"Resistant", toneWarn}, "S": {"Susceptible", ""}, "I": {"Intermediate", toneWarn}, "DET": {"Detected", toneWarn}, "ND": {"Not detected", ""},
	"<": {"Below scale", toneWarn}, ">": {"Above scale", toneWarn},
}

// readResult reads an Observation as a row. Where the source gave no mark but a range, the range is applied and the mark says so in
// other words ("Above range"), since it is ours and not the laboratory's.
func readResult(r thing) result {
	row := result{Test: saying(r, r.Get("code"))}
	row.Value = observed(r, r.Value())
	var parts []string
	for c := range r.Value().All("component") {
		if v := observed(r, c); v != "" {
			parts = append(parts, saying(r, c.Get("code"))+" "+v)
		}
	}
	row.Value = join("; ", append([]string{row.Value}, parts...)...)
	if rr := r.Get("referenceRange"); rr.Exists() {
		if row.Range = rr.Text("text"); row.Range == "" {
			row.Range = sayRange(rr.Member("low"), rr.Member("high"))
		}
	}
	for c := range r.Value().All("interpretation.coding.code") {
		if m, ok := interpretations[c.Str()]; ok {
			row.Mark = m
			break
		}
	}
	if row.Mark.Word == "" {
		if s := saying(r, r.Get("interpretation")); s != "" {
			row.Mark = mark{s, toneWarn}
		} else {
			row.Mark = outsideRange(r)
		}
	}
	if s := r.Text("status"); s != "" && s != "final" {
		row.Note = sayCode(s)
	}
	row.Note = join("; ", row.Note, r.Text("note.text"))
	return row
}

// observed is the value of an Observation or of one of its components, whichever value[x] it has.
func observed(r thing, v fhir.Value) string {
	for c := range v.Children() {
		if strings.HasPrefix(c.Key(), "value") && len(c.Key()) > 5 {
			return saying(r, c)
		}
	}
	return ""
}

func outsideRange(r thing) mark {
	q, rr := r.Get("valueQuantity"), r.Get("referenceRange")
	for _, side := range [...]string{"high.unit", "low.unit"} {
		if u := rr.Text(side); u != "" && u != q.Text("unit") {
			return mark{}
		}
	}
	if q.Text("comparator") != "" {
		return mark{} // "< 5" cannot be set against a range
	}
	v, err := strconv.ParseFloat(q.Text("value"), 64)
	if err != nil {
		return mark{}
	}
	if high, err := strconv.ParseFloat(rr.Text("high.value"), 64); err == nil && v > high {
		return mark{"Above range", toneWarn}
	}
	if low, err := strconv.ParseFloat(rr.Text("low.value"), 64); err == nil && v < low {
		return mark{"Below range", toneWarn}
	}
	return mark{}
}
