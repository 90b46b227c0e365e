// Package nrl is the National Record Locator's language: what a pointer is, what makes one right, how each mistake is told of, and a client of both of
// its sides. A pointer is an R4 DocumentReference that says who holds a record about somebody and how to reach it; the record itself stays where it is.
//
// The rules are those of the producer and consumer APIs as published in 2026 and of the service behind them, whose errors are given byte for byte.
// api/nrl serves them; this package knows nothing of stores or of who may do what.
package nrl

import (
	"slices"
	"strings"

	"tombolo/dataset"
	"tombolo/fhir"
)

// Systems of codes and identifiers that pointers use.
const (
	systemASID      = "https://fhir.nhs.uk/Id/nhsSpineASID"
	systemNICIP     = "https://nicip.nhs.uk"
	systemRecord    = "https://fhir.nhs.uk/England/CodeSystem/England-NRLRecordType"
	systemFormat    = "https://fhir.nhs.uk/England/CodeSystem/England-NRLFormatCode"
	systemStability = "https://fhir.nhs.uk/England/CodeSystem/England-NRLContentStability"
	systemMechanism = "https://fhir.nhs.uk/England/CodeSystem/England-NRLRetrievalMechanism"
	urlStability    = "https://fhir.nhs.uk/England/StructureDefinition/Extension-England-ContentStability"
	urlMechanism    = "https://fhir.nhs.uk/England/StructureDefinition/Extension-England-NRLRetrievalMechanism"
	setStability    = "https://fhir.nhs.uk/England/ValueSet/England-NRLContentStability"
	setMechanism    = "https://fhir.nhs.uk/England/ValueSet/England-NRLRetrievalMechanism"
	setPractice     = "https://fhir.nhs.uk/England/ValueSet/England-PracticeSetting"
)

// MediaType is what the API speaks, with the version that it wants named.
const MediaType = "application/fhir+json;version=1"

// Headers of a request.
const (
	HeaderODS         = "NHSD-End-User-Organisation-ODS" // for which organisation
	HeaderRequest     = "X-Request-Id"                   // a UUID, mirrored
	HeaderCorrelation = "X-Correlation-Id"               // mirrored, if it was given
	// HeaderNHSDCorrelation is the gateway's own, which the service behind it demands; what is asked without a gateway may give it.
	HeaderNHSDCorrelation = "NHSD-Correlation-Id"
)

// ClinicalSummary is the type of pointer by which a shared care record tells of itself. NRL: SHARED_CARE_RECORD
const ClinicalSummary = fhir.SystemSNOMED + "|887181000000106"

// A Type is a kind of record that may be pointed to.
type Type struct {
	ID       string // system|code
	Display  string // exactly this
	Category Category
	Several  bool // one person may have several from one organisation
}

// A Category is a broader class of types.
type Category struct{ ID, Display string }

var (
	carePlan     = Category{fhir.SystemSNOMED + "|734163000", "Care plan"}
	observations = Category{fhir.SystemSNOMED + "|1102421000000108", "Observations"}
	clinicalNote = Category{fhir.SystemSNOMED + "|823651000000106", "Clinical note"}
	studies      = Category{fhir.SystemSNOMED + "|721981007", "Diagnostic studies report"}
	procedure    = Category{fhir.SystemSNOMED + "|103693007", "Diagnostic procedure"}
	artifact     = Category{fhir.SystemSNOMED + "|419891008", "Record artifact"}
	headings     = Category{fhir.SystemSNOMED + "|716931000000107", "Record headings"}
	document     = Category{fhir.SystemSNOMED + "|423876004", "Clinical document"}
)

// Types are those that the locator knows, as published.
var Types = []Type{
	{fhir.SystemSNOMED + "|736253002", "Mental health crisis plan", carePlan, false},
	{fhir.SystemSNOMED + "|887701000000100", "Emergency health care plan", carePlan, false},
	{fhir.SystemSNOMED + "|861421000000109", "End of life care coordination summary", carePlan, false},
	{fhir.SystemSNOMED + "|1382601000000107", "ReSPECT (Recommended Summary Plan for Emergency Care and Treatment) form", carePlan, false},
	{fhir.SystemSNOMED + "|325691000000100", "Contingency plan", carePlan, false},
	{fhir.SystemSNOMED + "|736373009", "End of life care plan", carePlan, false},
	{fhir.SystemSNOMED + "|16521000000101", "Lloyd George record folder", carePlan, false},
	{fhir.SystemSNOMED + "|736366004", "Advance care plan", carePlan, false},
	{fhir.SystemSNOMED + "|735324008", "Treatment escalation plan", carePlan, false},
	{fhir.SystemSNOMED + "|2181441000000107", "Personalised Care and Support Plan", carePlan, false},
	{fhir.SystemSNOMED + "|1363501000000100", "Royal College of Physicians NEWS2 (National Early Warning Score 2) chart", observations, false},
	{fhir.SystemSNOMED + "|824321000000109", "Summary record", clinicalNote, false},
	{systemNICIP + "|MAULR", "MRA Upper Limb Rt", studies, true},
	{systemNICIP + "|MAXIB", "MRI Axilla Both", procedure, true},
	{fhir.SystemSNOMED + "|749001000000101", "Appointment", artifact, true},
	{ClinicalSummary, "Clinical summary", headings, false},
	{fhir.SystemSNOMED + "|1515851000000101", "About me", document, false},
	{systemRecord + "|HDTAP", "Hospital Discharge to Assess Plan", document, false},
}

// TypeOf finds a type by system|code.
func TypeOf(id string) (Type, bool) {
	i := slices.IndexFunc(Types, func(t Type) bool { return t.ID == id })
	if i < 0 {
		return Type{}, false
	}
	return Types[i], true
}

// TypeNamed finds a type by system|code, or by its code alone, as people write it.
func TypeNamed(code string) (Type, bool) {
	i := slices.IndexFunc(Types, func(t Type) bool {
		_, c := split(t.ID)
		return t.ID == code || c == code
	})
	if i < 0 {
		return Type{}, false
	}
	return Types[i], true
}

// HeadingsOf are the headings under which pointers of these types stand, written as TypeNamed reads them; none: of all.
func HeadingsOf(types []string) []dataset.Heading {
	all := Types
	if len(types) > 0 {
		all = nil
		for _, code := range types {
			if t, ok := TypeNamed(code); ok {
				all = append(all, t)
			}
		}
	}
	var out []dataset.Heading
	for _, t := range all {
		p := Form{Type: t}.Make("", "")
		if h := dataset.HeadingOf(p.Resource); !slices.Contains(out, h) {
			out = append(out, h)
		}
	}
	return out
}

// CategoryOf finds a category by system|code.
func CategoryOf(id string) (Category, bool) {
	i := slices.IndexFunc(Types, func(t Type) bool { return t.Category.ID == id })
	if i < 0 {
		return Category{}, false
	}
	return Types[i].Category, true
}

// A Mechanism is how what a pointer points to is fetched.
type Mechanism string

// The mechanisms, all there are.
const (
	SSP       Mechanism = "SSP"
	Direct    Mechanism = "Direct"
	LDR       Mechanism = "LDR"
	InContext Mechanism = "InContext"
)

// Mechanisms are all of them, in the published order.
var Mechanisms = []Mechanism{SSP, Direct, LDR, InContext}

var mechanismDisplays = map[Mechanism]string{SSP: "Spine Secure Proxy", Direct: "Direct", LDR: "Large Document Retrieval", InContext: "Direct using In-Context"}

// formats are the codes of what a document looks like.
var formats = map[string]string{"urn:nhs-ic:record-contact": "Contact details (HTTP Unsecured)", "urn:nhs-ic:unstructured": "Unstructured Document",
	"urn:nhs-ic:structured": "Structured Document"}

var stabilities = map[string]string{"static": "Static", "dynamic": "Dynamic"}

// split parts system|code.
func split(id string) (system, code string) {
	system, code, _ = strings.Cut(id, "|")
	return system, code
}

// Custodian is the organisation whose pointer has the id: what stands before its first dash.
func Custodian(id string) string {
	ods, _, _ := strings.Cut(id, "-")
	return ods
}
