package web

import (
	"slices"
	"strings"

	"tombolo/dataset"
	"tombolo/fhir"
)

// A told is one version of one thing as a line tells it.
type told struct {
	When   string // FHIR date, as the source has it
	End    string // when it was over, or will be
	Over   bool   // it was over when the record was gathered
	What   string
	Value  string // value, dose, reaction, reason …
	Status string // in words
	Marks  []mark // what must not be overlooked, in words
	By     string // who recorded it or is responsible
	Where  string
	Notes  []string
	Codes  []string
	More   []pair // what else the details show
}

// A mark is a word with a tone; the tone only repeats what the word says.
type mark struct{ Word, Tone string }

type pair struct{ Label, Text string }

// The tones of marks: names of classes in tombolo.css.
const (
	toneGrave  = "grave"  // red
	toneWarn   = "warn"   // orange
	toneMuted  = "muted"  // grey
	toneActive = "active" // blue
)

// A telling says where a type of resource keeps what a line shows: paths tried in order, the first that says something wins.
type telling struct {
	when, what, value, by, where []string
	then                         func(thing, *told) // what paths cannot say
}

// anyTelling serves types without a row of their own, and fills what a row leaves open.
var anyTelling = telling{
	when: []string{"effectiveDateTime", "effectivePeriod.start", "performedDateTime", "performedPeriod.start", "occurrenceDateTime", "period.start", "authoredOn", "dateTime", "date", "recordedDate", "issued", "created", "start", "sent", "timing.event"},
	what: []string{"code", "title", "type", "name", "category", "description"},
	by:   []string{"recorder", "performer", "author", "requester", "asserter", "responsible"},
}

var tellings = map[string]telling{
	"AllergyIntolerance": {when: []string{"onsetDateTime", "recordedDate"}, what: []string{"code"}, by: []string{"recorder", "asserter"}, then: tellAllergy},
	"Condition":          {when: []string{"onsetDateTime", "onsetPeriod.start", "recordedDate"}, what: []string{"code"}, by: []string{"asserter", "recorder"}, then: tellCondition},
	"MedicationRequest": {when: []string{"authoredOn", "dispenseRequest.validityPeriod.start"}, what: []string{"medicationCodeableConcept", "medicationReference"},
		value: []string{"dosageInstruction.text", "dosageInstruction.patientInstruction"}, by: []string{"requester", "recorder"}, then: tellPrescription},
	"MedicationStatement": {when: []string{"effectivePeriod.start", "effectiveDateTime", "dateAsserted"}, what: []string{"medicationCodeableConcept", "medicationReference"},
		value: []string{"dosage.text", "dosage.patientInstruction"}, by: []string{"informationSource"}, then: tellPrescription},
	"MedicationDispense":       {when: []string{"whenHandedOver", "whenPrepared"}, what: []string{"medicationCodeableConcept", "medicationReference"}, value: []string{"dosageInstruction.text"}, by: []string{"performer.actor"}, then: tellPrescription},
	"MedicationAdministration": {when: []string{"effectiveDateTime", "effectivePeriod.start"}, what: []string{"medicationCodeableConcept", "medicationReference"}, value: []string{"dosage.text", "dosage.dose"}, by: []string{"performer.actor"}},
	"Immunization":             {when: []string{"occurrenceDateTime", "occurrenceString"}, what: []string{"vaccineCode"}, by: []string{"performer.actor"}, where: []string{"location"}, then: tellImmunisation},
	"Observation":              {when: []string{"effectiveDateTime", "effectivePeriod.start", "effectiveInstant", "issued"}, what: []string{"code"}, by: []string{"performer"}, then: tellObservation},
	"DiagnosticReport":         {when: []string{"effectiveDateTime", "effectivePeriod.start", "issued"}, what: []string{"code"}, value: []string{"conclusion", "conclusionCode"}, by: []string{"resultsInterpreter", "performer"}},
	"ImagingStudy":             {when: []string{"started"}, what: []string{"description", "procedureCode", "modality"}, by: []string{"interpreter", "referrer"}, where: []string{"location"}},
	"Encounter": {when: []string{"period.start"}, what: []string{"type", "serviceType", "class"}, value: []string{"reasonCode", "reasonReference"},
		by: []string{"participant.individual"}, where: []string{"location.location", "serviceProvider"}, then: tellPeriod},
	"EpisodeOfCare":         {when: []string{"period.start"}, what: []string{"type"}, by: []string{"careManager"}, where: []string{"managingOrganization"}, then: tellPeriod},
	"Appointment":           {when: []string{"start", "requestedPeriod.start", "created"}, what: []string{"serviceType", "appointmentType", "specialty", "description"}, value: []string{"reasonCode", "comment"}, then: tellAppointment},
	"Procedure":             {when: []string{"performedDateTime", "performedPeriod.start", "performedString"}, what: []string{"code"}, value: []string{"bodySite", "outcome"}, by: []string{"performer.actor", "asserter"}, where: []string{"location"}},
	"CarePlan":              {when: []string{"period.start", "created"}, what: []string{"title", "category"}, value: []string{"description"}, by: []string{"author", "contributor"}, then: tellPlan},
	"CareTeam":              {when: []string{"period.start"}, what: []string{"name", "category"}, value: []string{"participant.role"}, by: []string{"participant.member"}, then: tellContact},
	"RiskAssessment":        {when: []string{"occurrenceDateTime", "occurrencePeriod.start"}, what: []string{"code", "method"}, value: []string{"prediction.qualitativeRisk", "prediction.outcome", "mitigation"}, by: []string{"performer"}},
	"Consent":               {when: []string{"dateTime", "provision.period.start"}, what: []string{"category", "scope"}, by: []string{"performer"}, where: []string{"organization"}},
	"Flag":                  {when: []string{"period.start"}, what: []string{"code", "category"}, by: []string{"author"}, then: tellPeriod},
	"DetectedIssue":         {when: []string{"identifiedDateTime"}, what: []string{"code"}, value: []string{"detail"}, by: []string{"author"}},
	"DocumentReference":     {when: []string{"date", "context.period.start", "content.attachment.creation"}, what: []string{"description", "content.attachment.title", "type"}, by: []string{"author", "authenticator", "custodian"}, then: tellDocument},
	"Composition":           {when: []string{"date"}, what: []string{"title", "type"}, by: []string{"author"}, where: []string{"custodian"}},
	"Specimen":              {when: []string{"collection.collectedDateTime", "collection.collectedPeriod.start", "receivedTime"}, what: []string{"type"}, by: []string{"collection.collector"}, where: []string{"collection.bodySite"}},
	"List":                  {when: []string{"date"}, what: []string{"title", "code"}, by: []string{"source"}},
	"ServiceRequest":        {when: []string{"authoredOn", "occurrenceDateTime"}, what: []string{"code", "reasonCode", "category"}, value: []string{"reasonCode", "patientInstruction"}, by: []string{"requester"}, where: []string{"performer"}, then: tellRequest},
	"Task":                  {when: []string{"authoredOn", "lastModified"}, what: []string{"description", "code"}, by: []string{"requester"}, where: []string{"owner"}},
	"RelatedPerson":         {when: []string{"period.start"}, what: []string{"name"}, value: []string{"relationship"}, then: tellContact},
	"Patient":               {what: []string{"name"}, then: tellPatient},
	"PractitionerRole":      {when: []string{"period.start"}, what: []string{"practitioner", "code"}, value: []string{"code", "specialty"}, where: []string{"organization"}, then: tellContact},
	"FamilyMemberHistory":   {when: []string{"date"}, what: []string{"condition.code", "relationship"}, value: []string{"relationship"}},
	"Device":                {when: []string{"manufactureDate"}, what: []string{"deviceName.name", "type"}, where: []string{"owner"}},
	"DeviceUseStatement":    {when: []string{"timingDateTime", "timingPeriod.start", "recordedOn"}, what: []string{"device", "bodySite"}, value: []string{"bodySite", "reasonCode"}, by: []string{"source"}},
	"QuestionnaireResponse": {when: []string{"authored"}, what: []string{"questionnaire"}, by: []string{"author", "source"}, then: tellAnswers},
	"Goal":                  {when: []string{"startDate", "statusDate"}, what: []string{"description"}, by: []string{"expressedBy"}},
	"ClinicalImpression":    {when: []string{"effectiveDateTime", "date"}, what: []string{"description", "code"}, value: []string{"summary"}, by: []string{"assessor"}},
	"Communication":         {when: []string{"sent", "received"}, what: []string{"topic", "category"}, value: []string{"payload.contentString"}, by: []string{"sender"}},
}

// A thing is a resource to be told, with what it may refer to.
type thing struct {
	*fhir.Resource
	refs map[fhir.Ref]*fhir.Resource
}

// tell reads a resource as a line tells it. It never fails: what is not where it is looked for is left empty, and a line
// without a name of its own says what type of thing it is.
func tell(r thing) told {
	t, ok := tellings[r.Type()]
	if !ok {
		t = anyTelling
	}
	out := told{When: firstText(r, t.when), What: first(r, t.what), Value: first(r, t.value), By: first(r, t.by), Where: first(r, t.where)}
	if out.When == "" {
		out.When = firstText(r, anyTelling.when)
	}
	if out.What == "" {
		out.What = first(r, anyTelling.what)
	}
	if out.By == "" && !ok {
		out.By = first(r, anyTelling.by)
	}
	if out.What == "" {
		out.What = spaced(r.Type())
	}
	tellStatus(r, &out)
	out.End = endOf(r.Resource)
	for v := range r.Value().All("note.text") {
		out.Notes = append(out.Notes, v.Str())
	}
	for _, path := range [...]string{"code", "medicationCodeableConcept", "vaccineCode", "type", "category", "class", "serviceType"} {
		for c := range r.Value().All(path) {
			for k := range c.All("coding") {
				var coding fhir.Coding
				if k.Decode(&coding) == nil && coding.Code != "" && !strings.HasSuffix(coding.System, "NullFlavor") {
					out.Codes = append(out.Codes, sayCoding(coding))
				}
			}
		}
		if len(out.Codes) > 0 {
			break // the codes of the thing itself; those of its kind would only distract
		}
	}
	if t.then != nil {
		t.then(r, &out)
	}
	if strings.EqualFold(out.Value, out.What) {
		out.Value = ""
	}
	return out
}

func first(r thing, paths []string) string {
	for _, p := range paths {
		var parts []string
		for v := range r.Value().All(p) {
			if s := saying(r, v); s != "" && !slices.Contains(parts, s) {
				parts = append(parts, s)
			}
		}
		if len(parts) > 0 {
			return strings.Join(parts, ", ")
		}
	}
	return ""
}

func firstText(r thing, paths []string) string {
	for _, p := range paths {
		if s := r.Text(p); s != "" {
			return s
		}
	}
	return ""
}

// Statuses that a reader must not take for a living fact, and their tone.
var statusTones = map[string]string{
	"entered-in-error": toneGrave, "refuted": toneGrave, "not-done": toneWarn, "unconfirmed": toneWarn, "provisional": toneWarn, "differential": toneWarn,
	"preliminary": toneWarn, "registered": toneWarn, "partial": toneWarn, "cancelled": toneMuted, "stopped": toneMuted, "revoked": toneMuted,
	"resolved": toneMuted, "inactive": toneMuted, "remission": toneMuted, "on-hold": toneWarn, "noshow": toneWarn, "amended": toneWarn, "corrected": toneWarn,
	"unknown": toneWarn, "draft": toneWarn, "rejected": toneMuted, "declined": toneMuted,
}

func tellStatus(r thing, t *told) {
	code := statusOf(r.Resource)
	t.Status = sayCode(code)
	if tone, ok := statusTones[code]; ok {
		t.Marks = append(t.Marks, mark{t.Status, tone})
	}
	// FHIR R4 condition.html, allergyintolerance.html: verificationStatus says how sure, apart from clinicalStatus.
	// GP Connect calls every allergy unconfirmed, so of an allergy that says nothing.
	silent := r.Resource.Type() == "AllergyIntolerance" && r.Text("verificationStatus.coding.code") == "unconfirmed"
	if v := r.Text("verificationStatus.coding.code"); v != "" && v != "confirmed" && v != code && !silent {
		if tone, ok := statusTones[v]; ok {
			t.Marks = append(t.Marks, mark{sayCode(v), tone})
		}
	}
}

func statusOf(r *fhir.Resource) string {
	for _, p := range [...]string{"clinicalStatus.coding.code", "status", "lifecycleStatus"} {
		if s := r.Text(p); s != "" {
			return s
		}
	}
	return ""
}

// endOf is when a lasting thing was over, or will be. A measurement or an encounter has an end and is not thereby out of date.
func endOf(r *fhir.Resource) string {
	paths := []string{"abatementDateTime", "abatementPeriod.end", "effectivePeriod.end", "period.end", "provision.period.end"}
	switch r.Type() {
	case "Encounter", "DiagnosticReport":
		return ""
	case "Observation":
		if h := dataset.HeadingOf(r); h != dataset.Legal && h != dataset.Safeguarding && h != dataset.Alerts {
			return ""
		}
	}
	for _, p := range paths {
		if s := r.Text(p); s != "" {
			return s
		}
	}
	return ""
}

// inError reports whether a source has taken the thing back.
func inError(r *fhir.Resource) bool {
	return r.Text("verificationStatus.coding.code") == "entered-in-error" || r.Text("status") == "entered-in-error"
}

// spaced makes words of a type's name: "CarePlan" is "Care plan".
func spaced(typ string) string {
	var b strings.Builder
	for i, c := range typ {
		if i > 0 && c >= 'A' && c <= 'Z' {
			b.WriteByte(' ')
			c += 'a' - 'A'
		}
		b.WriteRune(c)
	}
	return b.String()
}

// join puts what is not empty together.
func join(sep string, parts ...string) string {
	return strings.Join(slices.DeleteFunc(parts, func(s string) bool { return s == "" }), sep)
}
