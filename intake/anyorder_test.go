package intake_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"tombolo/connector/hl7v2"
)

// Every ADT event that a hospital sends, told of the same two patients, their visits and accounts: whatever order it all arrives in, the record is the one that the
// hospital's own order gives.
func TestEveryADTEventInAnyOrderGivesOneRecord(t *testing.T) {
	const a, b = "A", "B" // the patients
	pid := func(p string) string {
		return "PID|1||" + p + "^^^RX1^PI||Hart^" + p + "||19510417|2|||1 Ferry Lane^^Severnmouth"
	}
	visit := func(class, ward, v, admitted string) string {
		return "PV1||" + class + "|" + ward + "||||||||||||||||" + v + strings.Repeat("|", 25) + admitted
	}
	steps := []struct {
		event    string
		segments []string
	}{
		{"A28", []string{pid(a)}},
		{"A28", []string{pid(b)}},
		{"A05", []string{pid(a), visit("P", "Ward 1", "V1", "")}},
		{"A14", []string{pid(b), visit("P", "Ward 9", "V2", "")}},
		{"A27", []string{pid(b), visit("P", "Ward 9", "V2", "")}},
		{"A01", []string{pid(a), visit("I", "Ward 1", "V1", "202603020810")}},
		{"A15", []string{pid(a), visit("I", "Ward 1", "V1", "")}},
		{"A02", []string{pid(a), visit("I", "Ward 2", "V1", "")}},
		{"A12", []string{pid(a), visit("I", "Ward 1", "V1", "")}},
		{"A04", []string{pid(b), visit("E", "ED", "V3", "202603020830")}},
		{"A06", []string{pid(b), visit("I", "Ward 5", "V3", "")}},
		{"A07", []string{pid(b), visit("O", "Clinic", "V3", "")}},
		{"A09", []string{pid(a), visit("I", "X-ray", "V1", "")}},
		{"A10", []string{pid(a), visit("I", "Ward 1", "V1", "")}},
		{"A17", []string{pid(a), visit("I", "Ward 4 Bed 2", "V1", ""), pid(b), visit("I", "Ward 1 Bed 1", "V3", "")}},
		{"A21", []string{pid(a), visit("I", "Ward 1", "V1", "")}},
		{"A22", []string{pid(a), visit("I", "Ward 3", "V1", "")}},
		{"A16", []string{pid(a), visit("I", "Ward 3", "V1", "")}},
		{"A25", []string{pid(a), visit("I", "Ward 3", "V1", "")}},
		{"A03", []string{pid(a), visit("I", "Lounge", "V1", "") + "|202603021000"}},
		{"A13", []string{pid(a), visit("I", "Ward 3", "V1", "")}},
		{"A08", []string{pid(a), visit("I", "Ward 6", "V1", "")}},
		{"A31", []string{pid(a) + "^^GL99 1AA"}},
		{"A04", []string{pid(b), visit("O", "Clinic", "V4", "202603021100")}},
		{"A23", []string{pid(b), visit("O", "Clinic", "V4", "")}},
		{"A11", []string{pid(b), visit("O", "Clinic", "V3", "")}},
		{"A35", []string{pid(a) + "|||||||AC1", "MRG|" + a + "^^^RX1^PI||AC0"}},
		{"A49", []string{pid(a) + "|||||||AC2", "MRG|" + a + "^^^RX1^PI||AC1"}},
		{"A44", []string{pid(a) + "|||||||AC9", "MRG|" + b + "^^^RX1^PI||AC9"}},
		{"A45", []string{pid(a), "MRG|" + b + "^^^RX1^PI||||V3", visit("O", "Clinic", "V3", "")}},
		{"A50", []string{pid(a), "MRG|" + a + "^^^RX1^PI||||V1", visit("I", "Ward 6", "V5", "")}},
		{"A40", []string{pid(a), "MRG|" + b + "^^^RX1^PI"}},
		{"A37", []string{pid(a), "PID|2||C^^^RX1^PI||Hart^C"}},
		{"A29", []string{"PID|1||C^^^RX1^PI||Hart^C||19510417|2"}},
		{"A47", []string{pid("D"), "MRG|E^^^RX1^PI"}},
		{"A34", []string{pid("F"), "MRG|D^^^RX1^PI"}},
		{"A36", []string{pid("G") + "|||||||AC7", "MRG|F^^^RX1^PI||AC6"}},
	}
	message := func(i int) []byte {
		at := fmt.Sprintf("2026030208%02d%02d", 10+i, i)
		return []byte(strings.Join(append([]string{"MSH|^~\\&|PAS|RX1|||" + at + "||ADT^" + steps[i].event + fmt.Sprintf("|M%02d|P|2.4", i), "EVN||" + at}, steps[i].segments...), "\r") + "\r")
	}
	state := func(order []int) map[string]string {
		h := plain(t)
		for _, i := range order {
			for d := range hl7v2.Deliveries(message(i), hl7v2.Options{Source: "trust", Organisation: "RX1"}) {
				if d.Rejected != nil {
					t.Fatalf("%s: %v", steps[i].event, d.Rejected)
				}
				if _, err := h.Accept(t.Context(), d); err != nil {
					t.Fatalf("%s: %v", steps[i].event, err)
				}
			}
		}
		out := map[string]string{}
		for id, err := range h.db.Patients(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			for r, err := range h.db.Patient(t.Context(), id) {
				if err != nil {
					t.Fatal(err)
				}
				if r.Type() == "Provenance" {
					continue
				}
				meta := r.Text("meta.source")
				out[meta+" "+r.Type()] = string(r.Without("meta").Raw())
			}
		}
		return out
	}
	order := make([]int, len(steps))
	for i := range order {
		order[i] = i
	}
	want := state(order)
	v1 := "urn:tombolo:source:trust#V5 Encounter"
	if got := want[v1]; !strings.Contains(got, `"status":"in-progress"`) || !strings.Contains(got, "Ward 6") {
		t.Errorf("in the hospital's order the visit is %s", got)
	}
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 1))
	for range 12 {
		r.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
		got := state(order)
		if maps.Equal(got, want) {
			continue
		}
		for _, k := range slices.Sorted(maps.Keys(want)) {
			if got[k] != want[k] {
				t.Errorf("seed %d, arriving in the order %v: %s is\n     %s\nwant %s", seed, order, k, got[k], want[k])
			}
		}
		for _, k := range slices.Sorted(maps.Keys(got)) {
			if want[k] == "" {
				t.Errorf("seed %d, arriving in the order %v: %s should not be there", seed, order, k)
			}
		}
		t.FailNow()
	}
}
