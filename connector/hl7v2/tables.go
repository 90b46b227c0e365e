package hl7v2

import "tombolo/fhir"

// knownSystems are names of assigning authorities and code tables (HL7 table 0396, and what British systems write), in capitals.
var knownSystems = map[string]string{
	"NHS": fhir.SystemNHSNumber, "NHSNBR": fhir.SystemNHSNumber, "NHSNMBR": fhir.SystemNHSNumber, "NHSNUMBER": fhir.SystemNHSNumber,
	"NHS NUMBER": fhir.SystemNHSNumber, "2.16.840.1.113883.2.1.4.1": fhir.SystemNHSNumber,
	"CHI": fhir.SystemCHI, "HCN": fhir.SystemHCN, "H&C": fhir.SystemHCN, "HSCNI": fhir.SystemHCN,
	"GMC": fhir.SystemGMC, "GMP": fhir.SystemGMP, "SDS": fhir.SystemSDSUser, "ODS": fhir.SystemODS,
	"SCT": fhir.SystemSNOMED, "SNM": fhir.SystemSNOMED, "SNM3": fhir.SystemSNOMED, "SNOMED": fhir.SystemSNOMED, "SNOMED-CT": fhir.SystemSNOMED,
	"SNOMED CT": fhir.SystemSNOMED, "2.16.840.1.113883.6.96": fhir.SystemSNOMED, "2.16.840.1.113883.2.1.3.2.4.15": fhir.SystemSNOMED,
	"LN": fhir.SystemLOINC, "LOINC": fhir.SystemLOINC, "2.16.840.1.113883.6.1": fhir.SystemLOINC,
	"I10": fhir.SystemICD10, "ICD10": fhir.SystemICD10, "ICD-10": fhir.SystemICD10, "I10C": "http://hl7.org/fhir/sid/icd-10-cm",
	"I9": "http://hl7.org/fhir/sid/icd-9-cm", "I9C": "http://hl7.org/fhir/sid/icd-9-cm", "ICD9": "http://hl7.org/fhir/sid/icd-9-cm",
	"OPCS4": fhir.SystemOPCS4, "OPCS-4": fhir.SystemOPCS4, "OPCS": fhir.SystemOPCS4, "UCUM": fhir.SystemUCUM,
	"READ": "http://read.info/readv2", "READV2": "http://read.info/readv2", "CTV3": "http://read.info/ctv3",
	"C4": "http://www.ama-assn.org/go/cpt", "CPT": "http://www.ama-assn.org/go/cpt", "CVX": "http://hl7.org/fhir/sid/cvx",
	"DMD": "https://dmd.nhs.uk", "DM+D": "https://dmd.nhs.uk",
}

// The systems of this package's own codings.
const (
	v2Table             = "http://terminology.hl7.org/CodeSystem/v2-"
	conditionCategory   = "http://terminology.hl7.org/CodeSystem/condition-category"
	conditionClinical   = "http://terminology.hl7.org/CodeSystem/condition-clinical"
	dataAbsentReason    = "http://terminology.hl7.org/CodeSystem/data-absent-reason"
	extNHSVerification  = "https://fhir.hl7.org.uk/StructureDefinition/Extension-UKCore-NHSNumberVerificationStatus"
	codeNHSVerification = "https://fhir.hl7.org.uk/CodeSystem/UKCore-NHSNumberVerificationStatusEngland"
)
