package hl7v2

import (
	"fmt"
	"strings"
	"testing"

	"tombolo/fhir"
)

// resultOf is the one Observation, or the report where there is none, that an OBX gives.
func resultOf(t *testing.T, obx string) (*fhir.Resource, []*fhir.Issue) {
	t.Helper()
	msg := "MSH|^~\\&|LAB|RX1|||20260302||ORU^R01|1|P|2.5.1\rPID|1||T1^^^RX1^PI||Hart^Rosalind\r" +
		"OBR|1||F1|UE^Urea and electrolytes|||20260302080000|||||||||||||||20260302090000|||F\r" + obx + "\r"
	made := deliveries([]byte(msg), Options{Source: "rx1-lab", Organisation: "RX1"})
	if len(made) != 1 || made[0].Rejected != nil {
		t.Fatalf("%s: %v", obx, made[0].Rejected)
	}
	var report *fhir.Resource
	for _, r := range made[0].Content {
		switch r.Type() {
		case "Observation":
			return r, made[0].Issues
		case "DiagnosticReport":
			report = r
		}
	}
	return report, made[0].Issues
}

// A result's value is what OBX-2 says that it is: a number with its comparator and unit, a range, a ratio, a code, a time, words, a document. What is not
// what it is said to be is kept as words, and never dropped. HL7 v2.5.1 §7.4.2
func TestAResultsValueIsReadAsWhatItIsSaidToBe(t *testing.T) {
	for obx, want := range map[string]string{
		"NM|NA^Sodium||138|mmol/L":                               `valueQuantity {"value":138,"unit":"mmol/L"}`,
		"NM|NA^Sodium||+007.50|mmol/L^millimoles^UCUM":           `valueQuantity {"value":7.50,"unit":"millimoles","system":"http://unitsofmeasure.org","code":"mmol/L"}`,
		"NM|CRP^CRP||<5|mg/L":                                    `valueQuantity {"value":5,"comparator":"<","unit":"mg/L"}`,
		"NM|CRP^CRP||>= 300|mg/L":                                `valueQuantity {"value":300,"comparator":">=","unit":"mg/L"}`,
		"NM|NA^Sodium||haemolysed|mmol/L":                        `valueString "haemolysed"`,
		"SN|WCC^White cells||>^100|10*9/L":                       `valueQuantity {"value":100,"comparator":">","unit":"10*9/L"}`,
		"SN|AGE^Weeks||^12^-^14|wk":                              `valueRange {"high":{"value":14,"unit":"wk"},"low":{"value":12,"unit":"wk"}}`,
		"SN|TITRE^Titre||^1^:^128":                               `valueRatio {"denominator":{"value":128},"numerator":{"value":1}}`,
		"SN|KET^Ketones||^2^+":                                   `valueString "^2^+"`,
		"CWE|ORG^Organism||3092008^Staph. aureus^SCT^SA^Staph^L": `valueCodeableConcept {"coding":[{"system":"http://snomed.info/sct","code":"3092008","display":"Staph. aureus"},{"system":"urn:id:L","code":"SA","display":"Staph"}],"text":"Staph. aureus"}`,
		"ST|C^Colour||straw":                                     `valueString "straw"`,
		"FT|C^Comment||one\\.br\\two":                            `valueString "one\ntwo"`,
		"TX|C^Comment||one~two":                                  `valueString "one\ntwo"`,
		"DT|LMP^Last period||20260114":                           `valueDateTime "2026-01-14"`,
		"TM|T^Time taken||0815":                                  `valueTime "08:15:00"`,
		"DT|LMP^Last period||unsure":                             `valueString "unsure"`,
		"NM|NA^Sodium||":                                         `dataAbsentReason {"coding":[{"system":"http://terminology.hl7.org/CodeSystem/data-absent-reason","code":"unknown","display":"Unknown"}]}`,
		"ED|R^Report||^application^pdf^Base64^JVBERi0x":          `presentedForm [{"contentType":"application/pdf","data":"JVBERi0x"}]`,
		"ED|R^Report||^text^rtf^A^{\\\\E\\rtf1 Normal}":          `presentedForm [{"contentType":"text/rtf","data":"e1xydGYxIE5vcm1hbH0="}]`,
		"ED|R^Report||^TEXT^RTF^Hex^7b7d":                        `presentedForm [{"contentType":"text/rtf","data":"e30="}]`,
		"RP|R^Report||https://pacs.example/1^^image^jpeg":        `presentedForm [{"contentType":"image/jpeg","url":"https://pacs.example/1"}]`,
	} {
		line := strings.Replace("OBX|1|"+obx, `\\E\`, `\E\`, 1)
		for strings.Count(line, "|") < 11 {
			line += "|"
		}
		r, _ := resultOf(t, line+"F")
		name, _, _ := strings.Cut(want, " ")
		if got := fmt.Sprintf("%s %s", name, r.Value().Member(name).Raw()); got != want {
			t.Errorf("%s\n gives %s\n want  %s", obx, r.Raw(), want)
		}
	}
}

// A reference range's words are always kept; its bounds are numbers only where the value is one.
func TestAReferenceRangeIsKeptInItsWords(t *testing.T) {
	for obx, want := range map[string]string{
		"NM|NA^Sodium||138|mmol/L|133-146":  `[{"high":{"value":146,"unit":"mmol/L"},"low":{"value":133,"unit":"mmol/L"},"text":"133-146"}]`,
		"NM|CRP^CRP||3|mg/L|<5":             `[{"high":{"value":5,"unit":"mg/L"},"text":"<5"}]`,
		"NM|GFR^GFR||80|mL/min|>=60":        `[{"low":{"value":60,"unit":"mL/min"},"text":">=60"}]`,
		"NM|X^X||1|u|see notes":             `[{"text":"see notes"}]`,
		"ST|X^X||clear||clear to 2-3 spots": `[{"text":"clear to 2-3 spots"}]`,
	} {
		line := "OBX|1|" + obx
		for strings.Count(line, "|") < 11 {
			line += "|"
		}
		r, _ := resultOf(t, line+"F")
		if got := string(r.Value().Member("referenceRange").Raw()); got != want {
			t.Errorf("%s gives %s, want %s", obx, got, want)
		}
	}
}
