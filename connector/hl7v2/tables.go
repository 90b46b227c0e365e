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
	v3Interpretation    = "http://terminology.hl7.org/CodeSystem/v3-ObservationInterpretation"
	v3Participation     = "http://terminology.hl7.org/CodeSystem/v3-ParticipationType"
	v3RoleCode          = "http://terminology.hl7.org/CodeSystem/v3-RoleCode"
	v3MaritalStatus     = "http://terminology.hl7.org/CodeSystem/v3-MaritalStatus"
	observationCategory = "http://terminology.hl7.org/CodeSystem/observation-category"
	conditionCategory   = "http://terminology.hl7.org/CodeSystem/condition-category"
	conditionClinical   = "http://terminology.hl7.org/CodeSystem/condition-clinical"
	conditionVerified   = "http://terminology.hl7.org/CodeSystem/condition-ver-status"
	allergyClinical     = "http://terminology.hl7.org/CodeSystem/allergyintolerance-clinical"
	allergyVerified     = "http://terminology.hl7.org/CodeSystem/allergyintolerance-verification"
	diagnosisRole       = "http://terminology.hl7.org/CodeSystem/diagnosis-role"
	dataAbsentReason    = "http://terminology.hl7.org/CodeSystem/data-absent-reason"
	extNHSVerification  = "https://fhir.hl7.org.uk/StructureDefinition/Extension-UKCore-NHSNumberVerificationStatus"
	codeNHSVerification = "https://fhir.hl7.org.uk/CodeSystem/UKCore-NHSNumberVerificationStatusEngland"
	extEthnicCategory   = "https://fhir.hl7.org.uk/StructureDefinition/Extension-UKCore-EthnicCategory"
	codeEthnicCategory  = "https://fhir.hl7.org.uk/CodeSystem/UKCore-EthnicCategoryEngland"
	extAdmissionMethod  = "https://fhir.hl7.org.uk/StructureDefinition/Extension-UKCore-AdmissionMethod"
	codeAdmissionMethod = "https://fhir.hl7.org.uk/CodeSystem/UKCore-AdmissionMethodEngland"
	codeSourceAdmission = "https://fhir.hl7.org.uk/CodeSystem/UKCore-SourceOfAdmissionEngland"
	codeDischargeTo     = "https://fhir.hl7.org.uk/CodeSystem/UKCore-DischargeDestinationEngland"
)

// nameUses: HL7 table 0200 to FHIR name-use.
var nameUses = map[string]string{"L": "official", "": "official", "D": "usual", "N": "nickname", "A": "nickname", "M": "maiden", "B": "old", "C": "usual", "S": "anonymous", "T": "temp", "CURRENT": "official"}

// genders: HL7 table 0001, and the NHS Data Dictionary's person gender codes that ITK puts there.
var genders = map[string]string{
	"M": "male", "1": "male", "F": "female", "2": "female", "O": "other", "A": "other", "9": "other", "X": "unknown", "U": "unknown", "0": "unknown", "N": "other", "MALE": "male", "FEMALE": "female",
}

// ethnicities: NHS Data Dictionary ethnic category, 2001 census.
var ethnicities = map[string]string{
	"A": "British, Mixed British", "B": "Irish", "C": "Any other White background", "D": "White and Black Caribbean", "E": "White and Black African",
	"F": "White and Asian", "G": "Any other mixed background", "H": "Indian or British Indian", "J": "Pakistani or British Pakistani",
	"K": "Bangladeshi or British Bangladeshi", "L": "Any other Asian background", "M": "Caribbean", "N": "African", "P": "Any other Black background",
	"R": "Chinese", "S": "Any other ethnic group", "Z": "Not stated",
}

// verification: NHS Data Dictionary NHS number status indicator code.
var verification = map[string]string{
	"01": "Number present and verified", "02": "Number present but not traced", "03": "Trace required", "04": "Trace attempted - No match or multiple match found",
	"05": "Trace needs to be resolved - (NHS Number or patient detail conflict)", "06": "Trace in progress", "07": "Number not present and trace not required", "08": "Trace postponed (baby under six weeks old)",
}

// relationships: HL7 table 0063 to v3 RoleCode.
var relationships = map[string][2]string{
	"SPO": {"SPS", "spouse"}, "DOM": {"DOMPART", "domestic partner"}, "CHD": {"CHILD", "child"}, "GCH": {"GRNDCHILD", "grandchild"}, "NCH": {"NCHILD", "natural child"},
	"SCH": {"STPCHLD", "step child"}, "FCH": {"CHLDFOST", "foster child"}, "PAR": {"PRN", "parent"}, "MTH": {"MTH", "mother"}, "FTH": {"FTH", "father"},
	"GRP": {"GRPRN", "grandparent"}, "SIB": {"SIB", "sibling"}, "BRO": {"BRO", "brother"}, "SIS": {"SIS", "sister"}, "FND": {"FRND", "unrelated friend"},
	"GRD": {"GUARD", "guardian"}, "DEP": {"DEPEN", "dependent"}, "EXF": {"EXT", "extended family member"},
}

var maritalStates = map[string][2]string{
	"S": {"S", "Never Married"}, "M": {"M", "Married"}, "D": {"D", "Divorced"}, "W": {"W", "Widowed"}, "P": {"T", "Domestic partner"}, "A": {"L", "Legally Separated"}, "L": {"L", "Legally Separated"},
}

// classes: HL7 table 0004 to v3 ActCode.
var classes = map[string][2]string{
	"I": {"IMP", "inpatient encounter"}, "O": {"AMB", "ambulatory"}, "E": {"EMER", "emergency"}, "P": {"PRENC", "pre-admission"}, "R": {"AMB", "ambulatory"},
	"D": {"SS", "short stay"}, "B": {"IMP", "inpatient encounter"}, "H": {"HH", "home health"}, "V": {"VR", "virtual"},
}

// interpretations: HL7 table 0078 codes that v3 ObservationInterpretation has too.
var interpretations = map[string]string{
	"L": "Low", "H": "High", "LL": "Critical low", "HH": "Critical high", "<": "Off scale low", ">": "Off scale high", "N": "Normal", "A": "Abnormal", "AA": "Critical abnormal",
	"U": "Significant change up", "D": "Significant change down", "B": "Better", "W": "Worse", "S": "Susceptible", "R": "Resistant", "I": "Intermediate",
	"POS": "Positive", "NEG": "Negative", "IND": "Indeterminate",
}

// observationStates: HL7 table 0085. reportStates: HL7 table 0123.
var observationStates = map[string]string{
	"F": "final", "U": "final", "C": "corrected", "P": "preliminary", "R": "preliminary", "S": "preliminary", "I": "registered", "O": "registered",
	"X": "cancelled", "D": "entered-in-error", "W": "entered-in-error", "N": "unknown", "A": "amended", "B": "amended", "V": "final",
}

var reportStates = map[string]string{
	"F": "final", "C": "corrected", "P": "preliminary", "R": "preliminary", "A": "partial", "M": "partial", "N": "preliminary",
	"O": "registered", "I": "registered", "S": "registered", "X": "cancelled", "Y": "unknown", "Z": "unknown",
}
