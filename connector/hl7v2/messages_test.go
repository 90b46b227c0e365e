package hl7v2

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"tombolo/connector"
	"tombolo/fhir"
)

// Bodies of messages, by what they are about.
const (
	bodyPerson   = "EVN||20260302\r" + bodyPID
	bodyPID      = "PID|1||T1^^^RX1^PI||Hart^Rosalind||19510417|2"
	bodyVisit    = bodyPerson + "\rPV1|1|I|Ward 7||||||||||||||||V1|||||||||||||||||||||||||20260302094500"
	bodyMerge    = bodyPerson + "\rMRG|T2^^^RX1^PI"
	bodyAccount  = "EVN||20260302\r" + bodyPID + "||||||||||AC1\rMRG|T2^^^RX1^PI||AC2"
	bodyMove     = bodyPerson + "\rMRG|T2^^^RX1^PI||||V1\rPV1||I|||||||||||||||||V1"
	bodyDocument = bodyPID + "\rTXA|1|DS^Summary|TX|20260302||||||||DOC2|DOC1||||AU||AV\rOBX|1|TX|DS||Went home."
	bodyBooking  = "SCH|B1|B1|||||CHECK^Check-up||30|min|^^30^20260401090000\r" + bodyPID + "\rRGS|1\rAIP|1||C9000123^Hale^Owen"
	bodyResult   = bodyPID + "\rOBR|1|P1|F1|FBC^Full blood count|||20260302|||||||||||||||20260302090000|||F\rOBX|1|NM|HB^Haemoglobin||132|g/L|||||F"
	bodySpecimen = bodyPID + "\rSPM|1|S1||119297000^Blood^SCT\rOBR|1|P1|F1|FBC^Full blood count|||20260302|||||||||||||||20260302090000|||F\rOBX|1|NM|HB^Haemoglobin||132|g/L|||||F"
	bodyReferral = "RF1|A|R|CARD^Cardiology|||REF1|20260302\rPRD|RP|Hale^Owen\rPRD|RT|Fox^Ada\r" + bodyPID
	bodyOrder    = bodyPID + "\rORC|NW|O1\rOBR|1|O1||FBC^Full blood count\rOBX|1|ST|FASTED^Fasted?||Yes||||||F"
	bodyMedicine = bodyPID + "\rORC|NW|M1\rRXE|^^^20260302|322236009^Paracetamol 500mg tablets^SCT|1||{tablet}\rOBX|1|NM|WT^Weight||61|kg|||||F"
	bodyDispense = bodyPID + "\rORC|RE|M1\rRXD|1|322236009^Paracetamol 500mg tablets^SCT|20260302|16|{tablet}||RX7"
	bodyToGive   = bodyPID + "\rORC|RE|M1\rRXG|1||^^^20260302|322236009^Paracetamol 500mg tablets^SCT|1||{tablet}"
	bodyGiven    = bodyPID + "\rORC|RE|M1\rRXA|0|1|20260302|20260302|322236009^Paracetamol 500mg tablets^SCT|1|{tablet}"
	bodyVaccine  = bodyPID + "\rORC|RE||I1\rRXA|0|1|20260302|20260302|08^Hep B^CVX|1|mL||||||||||||||CP|A\rOBX|1|CE|64994-7^Eligibility^LN||V01^Not eligible^HL70064||||||F"
	bodyMoney    = "EVN||20260302\r" + bodyPID + "\rIN1|1|PLAN"
	bodySlot     = "SCH|B1|B1\rRGS|1\rAIP|1||C9000123^Hale^Owen"
)

// Every message type that hospitals are asked about, and what becomes of it: the resources made, beside the patient, with how far they have come.
var everyMessage = []struct{ types, body, want string }{
	{"ADT^A01 ADT^A04 ADT^A13 ADT^A22", bodyVisit, "Encounter in-progress"},
	{"ADT^A02 ADT^A06 ADT^A07 ADT^A08 ADT^A09 ADT^A10 ADT^A12 ADT^A15 ADT^A16 ADT^A17 ADT^A25", bodyVisit, "Encounter in-progress, assumed"},
	{"ADT^A03", bodyVisit, "Encounter finished"},
	{"ADT^A05 ADT^A14", bodyVisit, "Encounter planned"},
	{"ADT^A11 ADT^A27", bodyVisit, "Encounter cancelled"},
	{"ADT^A21", bodyVisit, "Encounter onleave"},
	{"ADT^A23", bodyVisit, "Encounter entered-in-error"},
	{"ADT^A28 ADT^A31", bodyPerson, ""},
	{"ADT^A29", bodyPerson, "Patient inactive"},
	{"ADT^A34 ADT^A36 ADT^A40 ADT^A47", bodyMerge, "Patient replaced-by"},
	{"ADT^A35 ADT^A49", bodyAccount, "Account active, Account inactive"},
	{"ADT^A37", bodyPerson + "\rPID|2||T2^^^RX1^PI||Hart^R", "unlinked | unlinked"},
	{"ADT^A44", bodyAccount, "Account active"},
	{"ADT^A45", bodyMove, "Encounter unknown, assumed"},
	{"ORU^R01 ORU^R30 ORU^W01", bodyResult, "DiagnosticReport final, Observation final"},
	{"OUL^R22", bodySpecimen, "Specimen, DiagnosticReport final, Observation final"},
	{"MDM^T01 MDM^T02 MDM^T03 MDM^T04", bodyDocument, "Binary, DocumentReference current final"},
	{"MDM^T05 MDM^T06", bodyDocument, "Binary, DocumentReference current final appends"},
	{"MDM^T07 MDM^T08", bodyDocument, "Binary, DocumentReference current amended"},
	{"MDM^T09 MDM^T10", bodyDocument, "DocumentReference superseded, Binary, DocumentReference current final replaces"},
	{"MDM^T11", bodyDocument, "Binary, DocumentReference entered-in-error entered-in-error"},
	{"SIU^S12 SIU^S13", bodyBooking, "Appointment booked"},
	{"SIU^S14 SIU^S18 SIU^S19 SIU^S20 SIU^S21 SIU^S22", bodyBooking, "Appointment booked, assumed"},
	{"SIU^S15 SIU^S16", bodyBooking, "Appointment cancelled"},
	{"SIU^S17", bodyBooking, "Appointment entered-in-error"},
	{"SIU^S23 SIU^S24", bodySlot, "kept"},
	{"SQM^S25", bodySlot, "AR MSH-9"}, // a query for a schedule, which is not offered
	{"SIU^S26", bodyBooking, "Appointment noshow"},
	{"REF^I12 RRI^I12", bodyReferral, "ServiceRequest active"},
	{"REF^I13 REF^I15 RRI^I13 RRI^I15", bodyReferral, "ServiceRequest active"},
	{"REF^I14 RRI^I14", bodyReferral, "ServiceRequest revoked"},
	{"ORM^O01 OMG^O19 OML^O21 ORR^O02", bodyOrder, "Observation final, ServiceRequest active"},
	{"RDE^O01 RDE^O11", bodyMedicine, "Observation final, MedicationRequest active"},
	{"RDS^O01 RDS^O13", bodyDispense, "MedicationDispense completed"},
	{"RGV^O01 RGV^O15", bodyToGive, "MedicationRequest active"},
	{"RAS^O01 RAS^O17", bodyGiven, "MedicationAdministration completed"},
	{"VXU^V04", bodyVaccine, "Immunization completed, Observation final"},
	{"BAR^P01 BAR^P02 BAR^P05 BAR^P06 DFT^P03", bodyMoney, "kept"},
	{"QBP^Q22 QBP^Q23 QBP^ZV1", "QPD|Q22|1|@PID.3.1^T1\rRCP|I", "AR MSH-9"}, // a feed that is asked nothing; one that is answers: pdq_test.go
	{"RSP^K22 RSP^K23", "MSA|AA|1\rQAK|1|OK", "AR MSH-9"},                   // an answer to no question of ours
	{"MFN^M02", "MFI|PRA", "AR MSH-9"},
	{"ADT^A99", bodyPerson, "AR MSH-9.2"},
}

func TestEveryMessageTypeIsHandledAsItIsSaid(t *testing.T) {
	for _, c := range everyMessage {
		for kind := range strings.FieldsSeq(c.types) {
			for _, version := range []string{"2.1", "2.2", "2.3", "2.3.1", "2.4", "2.5", "2.5.1", "2.6", "2.7", "2.7.1", "2.8"} {
				msg := fmt.Sprintf("MSH|^~\\&|PAS|RX1|TIE|SEVERN|20260302101500||%s|1|P|%s\r%s\r", kind, version, c.body)
				made := deliveries([]byte(msg), trust)
				for _, d := range made {
					if d.Rejected == nil {
						checkDelivery(t, kind, d)
					}
				}
				if got := handled(made); got != c.want {
					t.Errorf("%s of version %s gives %q, want %q", kind, version, got, c.want)
				}
			}
		}
	}
}

// handled says in words what becomes of a message.
func handled(made []connector.Delivery) string {
	var all []string
	for _, d := range made {
		if d.Rejected != nil {
			code := codeFor(d.Rejected)
			all = append(all, "A"+string(code)+" "+d.Rejected.Expression)
			continue
		}
		var out []string
		for _, r := range d.Content {
			say := []string{r.Type(), r.Text("status"), r.Text("docStatus"), r.Text("relatesTo.code")}
			if r.Type() == "Patient" {
				switch {
				case r.Text("link.type") != "":
					say[1] = r.Text("link.type")
				case r.Text("active") == "false":
					say[1] = "inactive"
				case slices.Contains(d.Cleared[r.Ref()], "link"):
					say[0] = "unlinked"
				default:
					continue
				}
			}
			s := strings.Join(slices.DeleteFunc(say, func(s string) bool { return s == "" }), " ")
			if r.Type() == "Encounter" || r.Type() == "Appointment" {
				if slices.Contains(d.Assumed[r.Ref()], "status") {
					s += ", assumed"
				}
			}
			out = append(out, s)
		}
		if slices.ContainsFunc(d.Issues, issueAt("MSH-9")) {
			out = append(out, "kept")
		}
		all = append(all, strings.Join(out, ", "))
	}
	return strings.Join(all, " | ")
}

func issueAt(place string) func(*fhir.Issue) bool {
	return func(i *fhir.Issue) bool { return i.Expression == place }
}
