package store

import "strings"

// Tokens stand in the index as code|system, and most systems are one of a few long addresses. Those stand there as one byte, and others under HL7's as one
// byte and what follows. The lists belong to the format: they are only ever added to, and indexRules changes with them.

// systems are the code systems and identifiers that are written as a byte each, from firstSystem on.
var systems = strings.Fields(`
http://snomed.info/sct http://loinc.org http://unitsofmeasure.org https://dmd.nhs.uk http://www.nlm.nih.gov/research/umls/rxnorm
http://hl7.org/fhir/sid/icd-10 http://hl7.org/fhir/sid/icd-10-cm http://hl7.org/fhir/sid/cvx http://read.info/readv2 http://read.info/ctv3
https://fhir.nhs.uk/Id/nhs-number https://fhir.nhs.uk/Id/ods-organization-code https://fhir.nhs.uk/Id/sds-user-id http://hl7.org/fhir/sid/us-npi http://hl7.org/fhir/sid/us-ssn
http://terminology.hl7.org/CodeSystem/observation-category http://terminology.hl7.org/CodeSystem/v3-ActCode http://terminology.hl7.org/CodeSystem/v3-ParticipationType
http://terminology.hl7.org/CodeSystem/condition-clinical http://terminology.hl7.org/CodeSystem/condition-ver-status http://terminology.hl7.org/CodeSystem/condition-category
http://terminology.hl7.org/CodeSystem/allergyintolerance-clinical http://terminology.hl7.org/CodeSystem/allergyintolerance-verification
http://terminology.hl7.org/CodeSystem/v2-0074 http://terminology.hl7.org/CodeSystem/v2-0203 http://terminology.hl7.org/CodeSystem/claim-type
http://terminology.hl7.org/CodeSystem/v3-Confidentiality http://terminology.hl7.org/CodeSystem/v3-ObservationInterpretation http://terminology.hl7.org/CodeSystem/v3-RoleCode
http://terminology.hl7.org/CodeSystem/organization-type http://terminology.hl7.org/CodeSystem/provenance-participant-type http://terminology.hl7.org/CodeSystem/v3-DataOperation
`)

const (
	firstSystem = 0x80 // no system in UTF-8 begins with this byte or those after it that are given out
	lastSystem  = 0xbf
	hl7System   = 0x02
	plainSystem = 0x03 // before a system that begins with a byte below 20, which no real one does
	hl7Prefix   = "http://terminology.hl7.org/CodeSystem/"
)

var systemByte = func() map[string]string {
	m := map[string]string{}
	for i, s := range systems {
		if firstSystem+i > lastSystem {
			panic("store: there are more code systems than bytes for them") // a mistake in this program
		}
		m[s] = string([]byte{byte(firstSystem + i)})
	}
	return m
}()

// shortToken is a token's value as it stands in the index. Two values are never written alike, and what begins with code| still does.
func shortToken(value string) string {
	i := strings.LastIndexByte(value, '|') + 1
	system := value[i:]
	if i == 0 || system == "" {
		return value
	}
	if b, ok := systemByte[system]; ok {
		return value[:i] + b
	}
	if rest, ok := strings.CutPrefix(system, hl7Prefix); ok {
		return value[:i] + string(rune(hl7System)) + rest
	}
	if c := system[0]; c < 0x20 || firstSystem <= c && c <= lastSystem {
		return value[:i] + string(rune(plainSystem)) + system
	}
	return value
}
