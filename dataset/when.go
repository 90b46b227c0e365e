package dataset

import "tombolo/fhir"

// whenPaths are where each type says when it happened, best first. Types that are not here use commonPaths.
var whenPaths = map[string][]string{
	"AllergyIntolerance":       {"recordedDate", "onsetDateTime", "lastOccurrence"},
	"Condition":                {"onsetDateTime", "onsetPeriod.start", "recordedDate"},
	"MedicationRequest":        {"authoredOn", "dispenseRequest.validityPeriod.start"},
	"MedicationStatement":      {"effectivePeriod.start", "effectiveDateTime", "dateAsserted"},
	"Immunization":             {"occurrenceDateTime", "recorded"},
	"Procedure":                {"performedDateTime", "performedPeriod.start"},
	"Observation":              {"effectiveDateTime", "effectivePeriod.start", "effectiveInstant", "issued"},
	"DiagnosticReport":         {"effectiveDateTime", "effectivePeriod.start", "issued"},
	"Encounter":                {"period.start"},
	"Appointment":              {"start", "created"},
	"ServiceRequest":           {"authoredOn", "occurrenceDateTime"},
	"DocumentReference":        {"date", "context.period.start"},
	"CarePlan":                 {"period.start", "created"},
	"RiskAssessment":           {"occurrenceDateTime", "occurrencePeriod.start"},
	"Flag":                     {"period.start"},
	"CareTeam":                 {"period.start"},
	"Consent":                  {"dateTime", "provision.period.start"},
	"FamilyMemberHistory":      {"date"},
	"Device":                   {"manufactureDate"},
	"DeviceUseStatement":       {"timingDateTime", "timingPeriod.start", "recordedOn"},
	"QuestionnaireResponse":    {"authored"},
	"MedicationAdministration": {"effectiveDateTime", "effectivePeriod.start"},
	"MedicationDispense":       {"whenHandedOver", "whenPrepared"},
	"EpisodeOfCare":            {"period.start"},
	"ImagingStudy":             {"started"},
	"Goal":                     {"startDate", "statusDate"},
	"Communication":            {"sent", "received"},
}

var commonPaths = []string{"date", "effectiveDateTime", "period.start", "authoredOn", "recordedDate", "created", "issued"}

// When is the FHIR date, at its own precision, under which a resource is read and sorted; "" if it gives none.
func When(r *fhir.Resource) string {
	paths, ok := whenPaths[r.Type()]
	if !ok {
		paths = commonPaths
	}
	for _, p := range paths {
		if s := r.Text(p); s != "" {
			return s
		}
	}
	return ""
}

// codePaths are where a type says what it is about.
var codePaths = map[string][]string{
	"MedicationRequest": {"medicationCodeableConcept"}, "MedicationStatement": {"medicationCodeableConcept"},
	"MedicationDispense": {"medicationCodeableConcept"}, "MedicationAdministration": {"medicationCodeableConcept"},
	"Immunization": {"vaccineCode"}, "Encounter": {"type", "reasonCode"}, "Appointment": {"serviceType", "appointmentType", "reasonCode"},
	"DocumentReference": {"type"}, "CarePlan": {"category"}, "RiskAssessment": {"code", "method"}, "Consent": {"category"},
	"CareTeam": {"category"}, "EpisodeOfCare": {"type"}, "Device": {"type"}, "Goal": {"description"}, "RelatedPerson": {"relationship"},
	"FamilyMemberHistory": {"condition.code"},
}

// About is the concept that says what a resource is: its code, type or the like; zero if it has none.
func About(r *fhir.Resource) fhir.CodeableConcept {
	paths, ok := codePaths[r.Type()]
	if !ok {
		paths = []string{"code", "type", "category"}
	}
	for _, p := range paths {
		if c := r.Concept(p); !c.IsZero() {
			return c
		}
	}
	return fhir.CodeableConcept{}
}
