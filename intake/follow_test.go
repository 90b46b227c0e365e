package intake_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"tombolo/connector/hl7v2"
	"tombolo/fhir"
)

// A visit that was begun under the wrong patient takes its results, documents and diagnoses along when it is moved, in whatever order all that is told.
func TestWhatStandsUnderAVisitMovesWithIt(t *testing.T) {
	pid := func(p string) string { return "PID|1||" + p + "^^^RX1^PI||Hart^" + p + "||19510417|2" }
	pv1 := func(v string) string { return "PV1||I|Ward 1||||||||||||||||" + v }
	msg := func(kind string, minute int, control string, segments ...string) string {
		at := fmt.Sprintf("2026030208%02d00", minute)
		return strings.Join(append([]string{"MSH|^~\\&|PAS|RX1|||" + at + "||" + kind + "|" + control + "|P|2.4", "EVN||" + at}, segments...), "\r") + "\r"
	}
	all := func(n string) []string {
		wrong, right, v := "W"+n, "R"+n, "V"+n
		return []string{
			msg("ADT^A01", 1, n+"a", pid(wrong), pv1(v), "DG1|1||I50^Heart failure^I10"),
			msg("ORU^R01", 2, n+"b", pid(wrong), pv1(v), "OBR|1||F"+n+"|FBC^Full blood count|||20260302||||||||||||||||20260302080200|||F", "OBX|1|NM|HB^Haemoglobin||132|g/L|||||F", "SPM|1|S"+n+"||BLD^Blood"),
			msg("MDM^T02", 3, n+"c", pid(wrong), pv1(v), "TXA|1|DS^Summary|TX|||20260302||||||D"+n+"|||||AU||AV", "OBX|1|TX|DS||Well."),
			msg("ADT^A45", 4, n+"d", pid(right), "MRG|"+wrong+"^^^RX1^PI||||"+v, pv1(v)),
		}
	}
	want := []string{"Binary", "Condition", "DiagnosticReport", "DocumentReference", "Encounter", "Observation", "Patient", "Specimen"}
	h := plain(t)
	for k, order := range permutations(len(all(""))) {
		n := fmt.Sprint(k)
		for _, i := range order {
			for d := range hl7v2.Deliveries([]byte(all(n)[i]), hl7v2.Options{Source: "trust", Organisation: "RX1"}) {
				if _, err := h.Accept(t.Context(), d); err != nil || d.Rejected != nil {
					t.Fatal(err, d.Rejected)
				}
			}
		}
		of := func(p string) []string {
			var out []string
			id := h.stamper.ID("trust", "Patient", p)
			for r, err := range h.db.Patient(t.Context(), id) {
				if err != nil {
					t.Fatal(err)
				}
				if r.Type() == "Provenance" {
					continue
				}
				out = append(out, r.Type())
				for _, s := range fhir.Subjects(r) {
					if strings.HasPrefix(s.Reference, "Patient/") && s.Reference != "Patient/"+id {
						t.Errorf("arriving in the order %v a %s under %s says that it is somebody else's", order, r.Type(), p)
					}
				}
			}
			slices.Sort(out)
			return slices.Compact(out)
		}
		if got := of("R" + n); !slices.Equal(got, want) {
			t.Errorf("arriving in the order %v the right patient has %v, want %v", order, got, want)
		}
		if got := of("W" + n); !slices.Equal(got, []string{"Patient"}) {
			t.Errorf("arriving in the order %v the wrong patient still has %v", order, got)
		}
	}
}
