package gpconnect

import (
	"strings"

	"tombolo/fhir"
)

const (
	ukExt   = "https://fhir.hl7.org.uk/StructureDefinition/Extension-UKCore-"
	stu3Ext = "https://fhir.hl7.org.uk/STU3/StructureDefinition/Extension-"
	gpcExt  = "https://fhir.nhs.uk/STU3/StructureDefinition/Extension-"
	absent  = `{"url":"http://hl7.org/fhir/StructureDefinition/data-absent-reason","valueCode":"unknown"}`
)

// sameInUKCore are the extensions of CareConnect and GP Connect that UK Core took over with their content unchanged, by the part of
// their URL between "Extension-" and "-1", and what UK Core calls them.
var sameInUKCore = map[string]string{
	"CareConnect-ActualProblem":                        "ActualProblem",
	"CareConnect-ProblemSignificance":                  "ProblemSignificance",
	"CareConnect-RelatedClinicalContent":               "RelatedClinicalContent",
	"CareConnect-RelatedProblemHeader":                 "RelatedProblemHeader",
	"CareConnect-ConditionEpisode":                     "ConditionEpisode",
	"CareConnect-ParentPresent":                        "ParentPresent",
	"CareConnect-VaccinationProcedure":                 "VaccinationProcedure",
	"CareConnect-EthnicCategory":                       "EthnicCategory",
	"CareConnect-ResidentialStatus":                    "ResidentialStatus",
	"CareConnect-DeathNotificationStatus":              "DeathNotificationStatus",
	"CareConnect-NominatedPharmacy":                    "NominatedPharmacy",
	"CareConnect-PreferredDispenserOrganization":       "PreferredDispenserOrganization",
	"CareConnect-MainLocation":                         "MainLocation",
	"CareConnect-AdmissionMethod":                      "AdmissionMethod",
	"CareConnect-DischargeMethod":                      "DischargeMethod",
	"CareConnect-OutcomeOfAttendance":                  "OutcomeOfAttendance",
	"CareConnect-MedicationStatementDosageLastChanged": "MedicationDosageLastChanged",
	"CareConnect-GPC-AllergyIntoleranceEnd":            "AllergyIntoleranceEnd",
	"CareConnect-AllergyIntoleranceEnd":                "AllergyIntoleranceEnd",
	"CareConnect-GPC-ClinicalSetting":                  "CareSettingType",
	"CareConnect-GPC-MedicationQuantityText":           "MedicationQuantityText",
	"CareConnect-GPC-MedicationStatementLastIssueDate": "MedicationStatementLastIssueDate",
	"CareConnect-MedicationStatementLastIssueDate":     "MedicationStatementLastIssueDate", // so written in the specification's examples
	"CareConnect-GPC-ParentPresent":                    "ParentPresent",
	"CareConnect-GPC-PrescribingAgency":                "MedicationPrescribingOrganizationType",
	"CareConnect-GPC-PrescriptionType":                 "PrescriptionType",
	"CareConnect-GPC-NHSCommunication":                 "NHSCommunication",
	"CareConnect-GPC-NHSNumberVerificationStatus":      "NHSNumberVerificationStatus",
	"GPConnect-BookingOrganisation":                    "BookingOrganization",
}

// ukCoreURL gives today's URL of an extension that UK Core has with the same content, else the URL as it came: an extension that
// nobody renamed is still true.
func ukCoreURL(url string) string {
	i := strings.Index(url, "/StructureDefinition/Extension-")
	if i < 0 || !(strings.HasPrefix(url, "https://fhir.nhs.uk/STU3") || strings.Contains(url[:i], "fhir.hl7.org.uk/STU3")) {
		return url
	}
	name := strings.TrimSuffix(url[i+len("/StructureDefinition/Extension-"):], "-1")
	if to, ok := sameInUKCore[name]; ok {
		return ukExt + to
	}
	return url
}

// The spelling with "decs" is in the specification's own examples.
func isDescriptionID(url string) bool {
	return strings.HasSuffix(url, "/Extension-coding-sctdescid") || strings.HasSuffix(url, "/Extension-coding-sctdecsid")
}

// extend converts an extension of a resource or backbone element: some have a place of their own in R4.
func (c *converter) extend(o *object, e fhir.Value) {
	if o.form != nil {
		if fn := o.form.exts[strings.TrimSuffix(lastPart(e.Text("url")), "-1")]; fn != nil {
			fn(c, o, e)
			return
		}
	}
	c.into(&o.ext, func() { c.extension(e) })
}

func lastPart(url string) string {
	return strings.TrimPrefix(url[strings.LastIndexByte(url, '/')+1:], "Extension-")
}

// extension writes one extension of any element.
func (c *converter) extension(e fhir.Value) {
	url := e.Text("url")
	switch {
	case isDescriptionID(url):
		c.descriptionID(e)
		return
	case strings.HasSuffix(url, "ListWarningCode-1") && e.Member("valueCode").Exists():
		c.sep()
		c.raw(`{"url":"` + ukExt + `ListWarningCode","valueCodeableConcept":{"coding":[{"system":"https://fhir.hl7.org.uk/CodeSystem/UKCore-ListWarningCode"`)
		c.key("code")
		c.copy(e.Member("valueCode"))
		c.raw("}]}}")
		return
	case strings.HasSuffix(url, "GPConnect-DeliveryChannel-2") && e.Member("valueCode").Exists():
		c.sep()
		c.raw(`{"url":"` + ukExt + `DeliveryChannel","valueCodeableConcept":{"coding":[{"system":"https://fhir.hl7.org.uk/CodeSystem/UKCore-DeliveryChannel"`)
		c.key("code")
		c.copy(e.Member("valueCode"))
		c.raw("}]}}")
		return
	}
	c.sep()
	if !e.IsObject() {
		c.copy(e)
		return
	}
	c.out = append(c.out, '{')
	for m := range e.Children() {
		if m.Key() == "url" && m.IsString() {
			c.key("url")
			c.str(ukCoreURL(m.Str()))
			continue
		}
		c.copyMember(e, m)
	}
	c.out = append(c.out, '}')
}

// descriptionID writes the SNOMED CT description that was chosen, as R4 has it: an id and a display apart.
//
// http://hl7.org/fhir/StructureDefinition/coding-sctdescid, Extension-UKCore-CodingSCTDescDisplay
func (c *converter) descriptionID(e fhir.Value) {
	for part := range e.All("extension") {
		switch name := strings.ToLower(part.Text("url")); {
		case name == "descriptionid" && part.Member("valueId").Exists():
			c.sep()
			c.raw(`{"url":"http://hl7.org/fhir/StructureDefinition/coding-sctdescid","valueId":`)
			c.copy(part.Member("valueId"))
			c.out = append(c.out, '}')
		case (name == "descriptiondisplay" || name == "description") && part.Member("valueString").Exists():
			c.sep()
			c.raw(`{"url":"` + ukExt + `CodingSCTDescDisplay","valueString":`)
			c.copy(part.Member("valueString"))
			c.out = append(c.out, '}')
		default:
			c.sep()
			c.raw(`{"url":"` + stu3Ext + `coding-sctdescid","extension":[`)
			c.copy(part)
			c.raw("]}")
		}
	}
}

// systems are the code and identifier systems that have another name today. What is not here keeps its name: Read 2, CTV3, and
// the suppliers' own codes are still what they were.
var systems = map[string]string{
	"http://hl7.org/fhir/condition-category":           "http://terminology.hl7.org/CodeSystem/condition-category",
	"http://hl7.org/fhir/observation-category":         "http://terminology.hl7.org/CodeSystem/observation-category",
	"http://hl7.org/fhir/data-absent-reason":           "http://terminology.hl7.org/CodeSystem/data-absent-reason",
	"http://hl7.org/fhir/list-order":                   "http://terminology.hl7.org/CodeSystem/list-order",
	"http://hl7.org/fhir/organization-type":            "http://terminology.hl7.org/CodeSystem/organization-type",
	"http://hl7.org/fhir/practitioner-role":            "http://terminology.hl7.org/CodeSystem/practitioner-role",
	"http://hl7.org/fhir/location-physical-type":       "http://terminology.hl7.org/CodeSystem/location-physical-type",
	"http://hl7.org/fhir/diagnosis-role":               "http://terminology.hl7.org/CodeSystem/diagnosis-role",
	"http://hl7.org/fhir/referencerange-meaning":       "http://terminology.hl7.org/CodeSystem/referencerange-meaning",
	"http://hl7.org/fhir/patient-contact-relationship": "http://terminology.hl7.org/CodeSystem/v2-0131",
	"http://hl7.org/fhir/consentcategorycodes":         "http://terminology.hl7.org/CodeSystem/consentcategorycodes",

	"https://fhir.nhs.uk/CareConnect-NHSNumberVerificationStatus-1":                     "https://fhir.hl7.org.uk/CodeSystem/UKCore-NHSNumberVerificationStatusEngland",
	"https://fhir.nhs.uk/STU3/CodeSystem/CareConnect-NHSNumberVerificationStatus-1":     "https://fhir.hl7.org.uk/CodeSystem/UKCore-NHSNumberVerificationStatusEngland",
	"https://fhir.hl7.org.uk/STU3/CodeSystem/CareConnect-NHSNumberVerificationStatus-1": "https://fhir.hl7.org.uk/CodeSystem/UKCore-NHSNumberVerificationStatusEngland",
	"https://fhir.hl7.org.uk/CareConnect-NHSNumberVerificationStatus-1":                 "https://fhir.hl7.org.uk/CodeSystem/UKCore-NHSNumberVerificationStatusEngland",
	"https://fhir.nhs.uk/STU3/CodeSystem/CareConnect-PrescriptionType-1":                "https://fhir.hl7.org.uk/CodeSystem/UKCore-PrescriptionType",
	"https://fhir.nhs.uk/STU3/CodeSystem/CareConnect-PrescribingAgency-1":               "https://fhir.hl7.org.uk/CodeSystem/UKCore-MedicationPrescribingOrganizationType",
	"https://fhir.nhs.uk/STU3/CodeSystem/CareConnect-ListEmptyReasonCode-1":             "https://fhir.hl7.org.uk/CodeSystem/UKCore-ListEmptyReasonCode",
	"https://fhir.hl7.org.uk/STU3/CodeSystem/CareConnect-ListEmptyReasonCode-1":         "https://fhir.hl7.org.uk/CodeSystem/UKCore-ListEmptyReasonCode",
	"https://fhir.hl7.org.uk/STU3/CodeSystem/CareConnect-EthnicCategory-1":              "https://fhir.hl7.org.uk/CodeSystem/UKCore-EthnicCategoryEngland",

	"https://fhir.nhs.uk/STU3/CodeSystem/CareConnect-SDSJobRoleName-1":                 "https://fhir.hl7.org.uk/CodeSystem/UKCore-SDSJobRoleName",
	"https://fhir.hl7.org.uk/STU3/CodeSystem/CareConnect-SDSJobRoleName-1":             "https://fhir.hl7.org.uk/CodeSystem/UKCore-SDSJobRoleName",
	"https://fhir.nhs.uk/STU3/CodeSystem/CareConnect-HumanLanguage-1":                  "https://fhir.hl7.org.uk/CodeSystem/UKCore-HumanLanguage",
	"https://fhir.hl7.org.uk/STU3/CodeSystem/CareConnect-HumanLanguage-1":              "https://fhir.hl7.org.uk/CodeSystem/UKCore-HumanLanguage",
	"https://fhir.nhs.uk/STU3/CodeSystem/CareConnect-LanguageAbilityMode-1":            "https://fhir.hl7.org.uk/CodeSystem/UKCore-LanguageAbilityMode",
	"https://fhir.hl7.org.uk/STU3/CodeSystem/CareConnect-LanguageAbilityMode-1":        "https://fhir.hl7.org.uk/CodeSystem/UKCore-LanguageAbilityMode",
	"https://fhir.nhs.uk/STU3/CodeSystem/CareConnect-LanguageAbilityProficiency-1":     "https://fhir.hl7.org.uk/CodeSystem/UKCore-LanguageAbilityProficiency",
	"https://fhir.hl7.org.uk/STU3/CodeSystem/CareConnect-LanguageAbilityProficiency-1": "https://fhir.hl7.org.uk/CodeSystem/UKCore-LanguageAbilityProficiency",

	"http://fhir.nhs.net/Id/nhs-number":            fhir.SystemNHSNumber,
	"http://fhir.nhs.uk/Id/nhs-number":             fhir.SystemNHSNumber,
	"https://fhir.nhs.uk/id/nhs-number":            fhir.SystemNHSNumber,
	"http://fhir.nhs.net/Id/ods-organization-code": fhir.SystemODS,
	"https://fhir.nhs.uk/id/ods-organization-code": fhir.SystemODS,
}
