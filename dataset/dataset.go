// Package dataset is the shared data set: the headings of the PRSB Core Information Standard under which a shared
// record is read, and which heading a FHIR resource belongs to.
//
// A heading is what agreements, roles and sources speak of ("gives: {allergies: live}"), what a viewer shows, and the grain at
// which completeness is told: see State.
package dataset

import "tombolo/fhir"

// A Heading is one section of the shared data set, by its name in the region file and in URLs.
type Heading string

// The headings, in the order of the standard's sections as far as it gives one.
const (
	Demographics         Heading = "demographics"
	GPPractice           Heading = "gp-practice"
	ProfessionalContacts Heading = "professional-contacts"
	PersonalContacts     Heading = "personal-contacts"
	AboutMe              Heading = "about-me"
	Alerts               Heading = "alerts"
	Allergies            Heading = "allergies"
	Problems             Heading = "problems"
	Medications          Heading = "medications"
	Immunisations        Heading = "immunisations"
	Procedures           Heading = "procedures"
	Observations         Heading = "observations"
	Results              Heading = "results"
	Imaging              Heading = "imaging"
	Encounters           Heading = "encounters"
	Appointments         Heading = "appointments"
	Referrals            Heading = "referrals"
	Documents            Heading = "documents"
	CarePlans            Heading = "care-plans"
	RiskAssessments      Heading = "risk-assessments"
	Legal                Heading = "legal"
	Safeguarding         Heading = "safeguarding"
	EndOfLife            Heading = "end-of-life"
	SocialCare           Heading = "social-care"
	SocialContext        Heading = "social-context"
	Maternity            Heading = "maternity"
	RemoteMonitoring     Heading = "remote-monitoring"
	FamilyHistory        Heading = "family-history"
	Devices              Heading = "devices"
)

// An Info says what a heading is called and means.
type Info struct {
	Heading Heading
	Title   string // as a clinician reads it
	Plain   string // as a citizen reads it
}

// All is every heading, in display order.
var All = []Info{
	{Demographics, "Demographics", "Who you are"},
	{GPPractice, "GP practice", "Your GP practice"},
	{Alerts, "Alerts", "Important warnings"},
	{Allergies, "Allergies and adverse reactions", "Allergies and bad reactions"},
	{EndOfLife, "End of life and treatment escalation", "Your wishes about future treatment"},
	{Legal, "Legal information", "Legal decisions and orders"},
	{Safeguarding, "Safeguarding", "Safeguarding"},
	{Problems, "Problems", "Health conditions"},
	{Medications, "Medications", "Medicines"},
	{Results, "Results", "Test results"},
	{Imaging, "Imaging", "Scans and X-rays"},
	{Encounters, "Encounters", "Visits, stays and contacts"},
	{Appointments, "Appointments", "Appointments"},
	{Referrals, "Referrals", "Referrals"},
	{CarePlans, "Care plans", "Care plans"},
	{RiskAssessments, "Risk assessments", "Risk assessments"},
	{ProfessionalContacts, "Professional contacts", "People looking after you"},
	{PersonalContacts, "Personal contacts", "Family and people close to you"},
	{Observations, "Observations", "Measurements"},
	{Immunisations, "Immunisations", "Vaccinations"},
	{Procedures, "Procedures", "Operations and treatments"},
	{Documents, "Documents", "Letters and documents"},
	{SocialCare, "Social care", "Social care"},
	{SocialContext, "Social context", "Your home and daily life"},
	{AboutMe, "About me", "About me"},
	{Maternity, "Maternity", "Pregnancy and birth"},
	{RemoteMonitoring, "Remote monitoring", "Measurements from home"},
	{FamilyHistory, "Family history", "Health in your family"},
	{Devices, "Devices", "Implants and equipment"},
}

var byName = func() map[Heading]Info {
	m := make(map[Heading]Info, len(All))
	for _, i := range All {
		m[i.Heading] = i
	}
	return m
}()

// Valid reports whether h is a heading of the data set.
func (h Heading) Valid() bool { _, ok := byName[h]; return ok }

// Title is the heading as a clinician reads it.
func (h Heading) Title() string { return byName[h].Title }

// A State says what is known of one heading at one source. There is no fifth: an empty list without a state is never shown.
type State string

// The four states (design law 3). The zero State is NotKnown's meaning and must not be shown as anything else.
const (
	Present      State = "present"       // there are entries
	NoneRecorded State = "none-recorded" // the source answered in full and has none
	NotKnown     State = "not-known"     // not asked, failed, timed out, or not answered in full
	NotShared    State = "not-shared"    // refused by agreement, role, consent or label
)

// byType is the heading of types that need no closer look.
var byType = map[string]Heading{
	"Patient": Demographics, "RelatedPerson": PersonalContacts, "Person": Demographics,
	"CareTeam": ProfessionalContacts, "Flag": Alerts, "AllergyIntolerance": Allergies,
	"Condition": Problems, "MedicationRequest": Medications, "MedicationStatement": Medications,
	"MedicationDispense": Medications, "MedicationAdministration": Medications, "Medication": Medications,
	"Immunization": Immunisations, "ImmunizationRecommendation": Immunisations, "Procedure": Procedures,
	"DiagnosticReport": Results, "Specimen": Results, "ImagingStudy": Imaging, "Media": Imaging,
	"Encounter": Encounters, "EpisodeOfCare": Encounters, "ClinicalImpression": Encounters,
	"Appointment": Appointments, "ServiceRequest": Referrals, "DocumentReference": Documents,
	"Composition": Documents, "CarePlan": CarePlans, "Goal": CarePlans, "RiskAssessment": RiskAssessments,
	"Consent": Legal, "FamilyMemberHistory": FamilyHistory, "Device": Devices, "DeviceUseStatement": Devices,
	"Questionnaire": AboutMe, "QuestionnaireResponse": AboutMe, "DetectedIssue": Alerts,
	"AdverseEvent": Allergies, "Communication": Encounters, "NutritionOrder": CarePlans,
	"DeviceRequest": Devices, "Task": Referrals, "List": Encounters,
}

// byCategory are codes of category (or of Observation.code) that move a resource under another heading.
var byCategory = map[string]Heading{
	"vital-signs": Observations, "exam": Observations, "survey": Observations, "activity": Observations,
	"laboratory": Results, "LAB": Results, "imaging": Imaging, "RAD": Imaging, "social-history": SocialContext,
	"safeguarding":     Safeguarding,
	"736373009":        EndOfLife, // End of life care plan
	"861421000000109":  EndOfLife, // End of life care coordination summary
	"1382601000000107": EndOfLife, // ReSPECT form
	"735324008":        EndOfLife, // Treatment escalation plan
	"736366004":        EndOfLife, // Advance care plan
	"721981007":        Imaging,   // Diagnostic studies report
	"40701008":         Imaging,   // Echocardiography
	"363679005":        Imaging,   // Imaging (procedure)
}

// HeadingOf is the heading under which a resource is read. A heading tag in meta.tag (system fhir.SystemHeading), which
// connectors set where the source's own section says more than the type does, wins. The answer is "" for resources that
// are nobody's clinical content by themselves: Organization, Practitioner, Location, Provenance.
func HeadingOf(r *fhir.Resource) Heading {
	for tag := range r.Value().All("meta.tag") {
		if tag.Text("system") == fhir.SystemHeading {
			if h := Heading(tag.Text("code")); h.Valid() {
				return h
			}
		}
	}
	for _, path := range [...]string{"category.coding.code", "type.coding.code"} {
		for c := range r.Value().All(path) {
			if h, ok := byCategory[c.Str()]; ok {
				return h
			}
		}
	}
	if r.Type() == "Observation" {
		return Observations
	}
	return byType[r.Type()]
}

// Tag is the meta.tag that puts a resource under a heading.
func Tag(h Heading) fhir.Coding { return fhir.Coding{System: fhir.SystemHeading, Code: string(h)} }

// AllHeadings is every heading, in display order.
func AllHeadings() []Heading {
	out := make([]Heading, len(All))
	for i, info := range All {
		out[i] = info.Heading
	}
	return out
}
