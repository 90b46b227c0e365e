package fhir

import (
	"maps"
	"slices"
	"strings"
)

// frequent gives what is frequent in FHIR without a copy, "" for anything else: names of elements and types, code systems, codes. A record
// repeats a few hundred of them thousands of times.
func frequent(b []byte) string {
	if len(b) == 0 {
		return ""
	}
	at := frequentAt(b[0], b[len(b)/2], b[len(b)-1], len(b))
	for _, s := range frequentTexts[at : at+frequentNear] {
		if s == string(b) {
			return s
		}
	}
	return ""
}

// frequentAt spreads texts by their length and three of their letters; those that fall together stand beside each other.
func frequentAt(first, middle, last byte, n int) int {
	return int((uint(first)*7 + uint(middle)*131 + uint(last)*31 + uint(n)*1021) % frequentSlots)
}

const (
	frequentSlots = 4096
	frequentNear  = 3
)

var frequentTexts = func() (texts [frequentSlots + frequentNear]string) {
	for s := range strings.FieldsSeq(frequentNames + " " + frequentWords + " " + strings.Join(slices.Sorted(maps.Keys(types)), " ")) {
		at := frequentAt(s[0], s[len(s)/2], s[len(s)-1], len(s))
		for i := range frequentNear {
			if t := &texts[at+i]; *t == "" || *t == s {
				*t = s
				break
			}
		}
	}
	return texts
}()

// Names of elements.
const frequentNames = `abatement abatementDateTime abatementString active activity actor additionalInstruction address agent allDay allowedBoolean asNeededBoolean
assertedDate asserter attachment author authoredOn basedOn birthDate bodySite category city class clinicalStatus code coding
collectedDateTime collection comment communication component condition contact contained content contentType context country
courseOfTherapyType created criticality custodian data dataAbsentReason date dateAsserted deceasedBoolean deceasedDateTime derivedFrom
description destination detail diagnosis dischargeDisposition dispenseRequest display distribution district docStatus dosage
dosageInstruction dose doseAndRate doseQuantity effectiveDateTime effectivePeriod emptyReason encounter end entity entry event
expectedSupplyDuration expirationDate explanation extension family focus format fullUrl gender generalPractitioner given groupIdentifier
hasMember high hospitalization id identifier identifierType implicitRules indexed individual intent interpretation issued item language
lastOccurrence lastUpdated length line link location lotNumber low managingOrganization manifestation manufacturer maritalStatus
masterIdentifier medicationCodeableConcept medicationReference meta method mode modifierExtension name notGiven note numberOfRepeatsAllowed
occurrenceDateTime occurrencePeriod onset onsetDateTime onsetString orderedBy organization other parameter part partOf participant patient
patientInstruction performed performedDateTime performedPeriod performer performerType period position postalCode practitioner preferred
prefix presentedForm primarySource priority product profile protocolApplied quantity rank reaction reason reasonCode reasonReference
receivedTime recipient recorded recordedDate recorder ref reference referenceRange rejected related relatesTo relationship repeat requester
requisition resource resourceType result role route search security securityLabel sequence serviceProvider serviceType severity site size
slot source specialty specimen start state status statusHistory statusReason subject substance substitution suffix supportingInfo system tag
taken target telecom text timing title type unit url use userSelected vaccinationProtocol vaccineCode validityPeriod value valueBoolean
valueCode valueCodeableConcept valueCoding valueDateTime valueDecimal valueId valueIdentifier valueInteger valuePeriod valuePositiveInt
valueQuantity valueRange valueRatio valueReference valueString valueUnsignedInt valueUri verificationStatus version versionId what when who`

// Code systems, extensions and codes.
const frequentWords = `http://snomed.info/sct http://unitsofmeasure.org http://read.info/readv2 http://read.info/ctv3 http://loinc.org https://dmd.nhs.uk
https://fhir.nhs.uk/Id/nhs-number https://fhir.nhs.uk/Id/ods-organization-code https://fhir.nhs.uk/Id/sds-user-id
https://fhir.nhs.uk/Id/sds-role-profile-id http://terminology.hl7.org/CodeSystem/condition-clinical
http://terminology.hl7.org/CodeSystem/condition-ver-status http://terminology.hl7.org/CodeSystem/allergyintolerance-clinical
http://terminology.hl7.org/CodeSystem/allergyintolerance-verification http://terminology.hl7.org/CodeSystem/observation-category
http://terminology.hl7.org/CodeSystem/condition-category http://terminology.hl7.org/CodeSystem/v3-ActCode
http://hl7.org/fhir/StructureDefinition/coding-sctdescid https://fhir.hl7.org.uk/STU3/StructureDefinition/Extension-coding-sctdescid
https://fhir.hl7.org.uk/STU3/StructureDefinition/Extension-CareConnect-GPC-ActualProblem-1
https://fhir.hl7.org.uk/STU3/StructureDefinition/Extension-CareConnect-ProblemSignificance-1
https://fhir.hl7.org.uk/STU3/StructureDefinition/Extension-CareConnect-RelatedClinicalContent-1
https://fhir.hl7.org.uk/STU3/StructureDefinition/Extension-CareConnect-RelatedProblemHeader-1
https://fhir.nhs.uk/STU3/StructureDefinition/Extension-CareConnect-GPC-PrescriptionType-1
https://fhir.nhs.uk/STU3/StructureDefinition/Extension-CareConnect-GPC-MedicationRepeatInformation-1
https://fhir.nhs.uk/STU3/StructureDefinition/Extension-CareConnect-GPC-MedicationStatementLastIssueDate-1
https://fhir.nhs.uk/STU3/StructureDefinition/Extension-CareConnect-GPC-PrescribingAgency-1 active inactive resolved final completed finished
cancelled current confirmed unconfirmed order plan proposal original-order snapshot working booked free busy official usual home work phone
email male female other unknown has-member derived-from amended preliminary entered-in-error descriptionId descriptionDisplay`
