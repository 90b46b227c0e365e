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

// A visit that is given another number (A50), or that was another's all along (A42), takes along what was said of it and under it, and what still comes under its
// old number, in whatever order all that is told. In the third episode it is moved to another patient as well.
func TestAVisitThatIsGivenAnotherNumberTakesItsRecordAlong(t *testing.T) {
	pid := func(p string) string { return "PID|1||" + p + "^^^RX1^PI||Hart^" + p + "||19510417|2" }
	pv1 := func(ward, v string) string {
		return "PV1||I|" + ward + "|U|||||||||||||||" + v + strings.Repeat("|", 25) + "20260302080100"
	}
	msg := func(kind string, minute int, control string, segments ...string) string {
		at := fmt.Sprintf("2026030208%02d00", minute)
		return strings.Join(append([]string{"MSH|^~\\&|PAS|RX1|||" + at + "||" + kind + "|" + control + "|P|2.4", "EVN||" + at}, segments...), "\r") + "\r"
	}
	result := func(p, v, n, control string, minute int) string {
		return msg("ORU^R01", minute, control, pid(p), "PV1||I|||||||||||||||||"+v, "OBR|1||F"+control+"|FBC^Full blood count|||20260302||||||||||||||||20260302080200|||F",
			"OBX|1|NM|HB^Haemoglobin||132|g/L|||||F")
	}
	episodes := map[string]func(n string) []string{
		"renumbered": func(n string) []string {
			p, old, now := "P"+n, "O"+n, "N"+n
			return []string{
				msg("ADT^A01", 1, n+"a", pid(p), pv1("Ward 1", old), "DG1|1||I50^Heart failure^I10"),
				result(p, old, n, n+"b", 2),
				msg("ADT^A50", 3, n+"c", pid(p), "MRG|"+p+"^^^RX1^PI||||"+old, "PV1||I|||||||||||||||||"+now),
				msg("ADT^A02", 4, n+"d", pid(p), pv1("Ward 2", now)),
				result(p, old, n, n+"e", 5),
			}
		},
		"renumbered, and back": func(n string) []string {
			p, old, now := "P"+n, "N"+n, "O"+n
			return []string{
				msg("ADT^A01", 1, n+"a", pid(p), pv1("Ward 1", old), "DG1|1||I50^Heart failure^I10"),
				result(p, old, n, n+"b", 2),
				msg("ADT^A42", 3, n+"c", pid(p), "MRG|"+p+"^^^RX1^PI||||"+old, "PV1||I|||||||||||||||||"+now),
				result(p, now, n, n+"d", 4),
				msg("ADT^A42", 5, n+"e", pid(p), "MRG|"+p+"^^^RX1^PI||||"+now, pv1("Ward 2", old)),
			}
		},
		"renumbered and moved": func(n string) []string {
			p, right, old, now := "W"+n, "P"+n, "O"+n, "N"+n
			return []string{
				msg("ADT^A01", 1, n+"a", pid(p), pv1("Ward 1", old), "DG1|1||I50^Heart failure^I10"),
				result(p, old, n, n+"b", 2),
				msg("ADT^A45", 3, n+"c", pid(right), "MRG|"+p+"^^^RX1^PI||||"+old, "PV1||I|||||||||||||||||"+now),
				msg("ADT^A02", 4, n+"d", pid(right), pv1("Ward 2", now)),
				result(right, now, n, n+"e", 5),
			}
		},
	}
	for what, all := range episodes {
		t.Run(what, func(t *testing.T) {
			h := plain(t)
			together(permutations(len(all(""))), func(k int, order []int) {
				n := fmt.Sprint(k)
				for _, i := range order {
					for d := range hl7v2.Deliveries([]byte(all(n)[i]), hl7v2.Options{Source: "trust", Organisation: "RX1"}) {
						if _, err := h.Accept(t.Context(), d); err != nil || d.Rejected != nil {
							t.Error(err, d.Rejected)
							return
						}
					}
				}
				visit := h.stamper.Ref("trust", fhir.MakeRef("Encounter", "N"+n))
				e, err := h.db.Read(t.Context(), visit)
				if err != nil {
					t.Errorf("arriving in the order %v: %v", order, err)
					return
				}
				got := strings.Join([]string{e.Text("status"), e.Text("class.code"), e.Text("location.location.display"), e.Text("period.start"), e.Text("identifier.value"), e.Text("meta.source")}, " ")
				if want := "in-progress IMP Ward 2 2026-03-02T08:01:00+00:00 N" + n + " urn:tombolo:source:trust#N" + n; got != want {
					t.Errorf("arriving in the order %v the visit is\n     %s\nwant %s", order, got, want)
				}
				if _, err := h.db.Read(t.Context(), h.stamper.Ref("trust", fhir.MakeRef("Encounter", "O"+n))); !fhir.Is(err, fhir.NotFound) && !fhir.Is(err, fhir.Deleted) {
					t.Errorf("arriving in the order %v the visit is there under its other number too: %v", order, err)
				}
				under := map[string]int{}
				for r, err := range h.db.Patient(t.Context(), h.stamper.ID("trust", "Patient", "P"+n)) {
					if err != nil {
						t.Error(err)
						return
					}
					switch r.Type() {
					case "Condition", "DiagnosticReport", "Observation":
						if r.Text("encounter.reference") == string(visit) {
							under[r.Type()]++
						}
					}
				}
				if under["Condition"] != 1 || under["DiagnosticReport"] != 2 || under["Observation"] != 2 {
					t.Errorf("arriving in the order %v under the visit stand %v, want its diagnosis and two reports of one result", order, under)
				}
			})
		})
	}
}
