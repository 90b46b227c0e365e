package intake_test

import (
	"fmt"
	"testing"

	"tombolo/connector"
	"tombolo/fhir"
)

// permutations are all orders of n things.
func permutations(n int) [][]int {
	if n == 0 {
		return [][]int{nil}
	}
	var out [][]int
	for _, p := range permutations(n - 1) {
		for at := 0; at <= len(p); at++ {
			q := append(append(append([]int{}, p[:at]...), n-1), p[at:]...)
			out = append(out, q)
		}
	}
	return out
}

func visit(fields fhir.M) *fhir.Resource {
	fields["subject"] = fhir.Reference{Reference: "Patient/p1"}
	return fhir.New("Encounter", "v1", fields)
}

// An element is what the delivery with the greatest order says that says something of it; in whatever order they arrive.
func TestDeliveriesInAnyOrderOfArrivalGiveOneState(t *testing.T) {
	enc := fhir.MakeRef("Encounter", "v1")
	ann := patient("p1", annsNumber, annsFamily, "1948-03-12", nil)
	say := func(order string, e fhir.M) connector.Delivery {
		d := delivery(order, "p1", ann, visit(e))
		d.Partial, d.Order = []string{"Patient", "Encounter"}, order
		return d
	}
	admit := say("1", fhir.M{"status": "in-progress", "period": fhir.M{"start": "2026-03-01"}, "serviceType": fhir.CodeableConcept{Text: "Surgery"}})
	transfer := say("2", fhir.M{"status": "in-progress", "location": []fhir.M{{"location": fhir.Reference{Display: "Ward 2"}}}})
	transfer.Assumed = map[fhir.Ref][]string{enc: {"status"}}
	discharge := say("3", fhir.M{"status": "finished", "period": fhir.M{"end": "2026-03-04"}, "location": []fhir.M{{"location": fhir.Reference{Display: "Lounge"}}}})
	undo := say("4", fhir.M{"status": "in-progress", "location": []fhir.M{{"location": fhir.Reference{Display: "Ward 2"}}}})
	undo.Cleared = map[fhir.Ref][]string{enc: {"period.end"}}
	emptied := say("5", fhir.M{})
	emptied.Cleared = map[fhir.Ref][]string{enc: {"serviceType"}}
	all := []connector.Delivery{admit, transfer, discharge, undo, emptied}
	want := ""
	h := open(t)
	for n, order := range permutations(len(all)) {
		id := fmt.Sprintf("v%d", n)
		for _, i := range order {
			d := all[i]
			d.ID = fmt.Sprint(n, d.ID)
			d.Content = []*fhir.Resource{d.Content[0], d.Content[1].With("id", id)}
			d.Cleared, d.Assumed = renamed(all[i].Cleared, id), renamed(all[i].Assumed, id)
			if _, err := h.Accept(t.Context(), d); err != nil {
				t.Fatal(err)
			}
		}
		r, err := h.db.Read(t.Context(), h.stamper.Ref("trust", fhir.MakeRef("Encounter", id)))
		if err != nil {
			t.Fatal(err)
		}
		got := fmt.Sprint(r.Text("status"), " from ", r.Text("period.start"), " to ", r.Text("period.end"), " in ", r.Text("location.location.display"), " for ", r.Text("serviceType.text"))
		if want == "" {
			want = "in-progress from 2026-03-01 to  in Ward 2 for "
		}
		if got != want {
			t.Errorf("arriving in the order %v the visit is %q, want %q", order, got, want)
		}
	}
}

func renamed(m map[fhir.Ref][]string, id string) map[fhir.Ref][]string {
	out := map[fhir.Ref][]string{}
	for _, v := range m {
		out[fhir.MakeRef("Encounter", id)] = v
	}
	return out
}

// HL7 v2.4 §2.10: `""` deletes what an empty field leaves alone.
func TestWhatASourceClearsIsGoneAndWhatItLeavesOutStays(t *testing.T) {
	h := open(t)
	p1 := fhir.MakeRef("Patient", "p1")
	full := delivery("m1", "p1", patient("p1", annsNumber, annsFamily, "1948-03-12", fhir.M{"gender": "female", "telecom": []fhir.ContactPoint{{System: "phone", Value: "01632 960101"}}}))
	clear := delivery("m2", "p1", patient("p1", "", annsFamily, "1948-03-12", nil))
	full.Partial, clear.Partial = []string{"Patient"}, []string{"Patient"}
	clear.Cleared = map[fhir.Ref][]string{p1: {"telecom"}}
	for _, d := range []connector.Delivery{full, clear} {
		if _, err := h.Accept(t.Context(), d); err != nil {
			t.Fatal(err)
		}
	}
	r, err := h.db.Read(t.Context(), h.stamper.Ref("trust", p1))
	if err != nil {
		t.Fatal(err)
	}
	if r.Get("telecom").Exists() || r.Text("gender") != "female" || r.Text("identifier.value") == "" {
		t.Errorf("after the telephone was cleared the patient is %s", r.Raw())
	}
}

// What a source took back, and what it said before that comes late, stays out; what it says later is news.
func TestWhatWasTakenBackStaysOutThoughItsBeginningComesLate(t *testing.T) {
	h := open(t)
	ann := patient("p1", annsNumber, annsFamily, "1948-03-12", nil)
	at := func(order string, content ...*fhir.Resource) connector.Delivery {
		d := delivery(order, "p1", append([]*fhir.Resource{ann}, content...)...)
		d.Order, d.Partial = order, []string{"Encounter"}
		return d
	}
	gone := at("2")
	gone.Delete = []fhir.Ref{fhir.MakeRef("Encounter", "v1")}
	for _, d := range []connector.Delivery{gone, at("1", visit(fhir.M{"status": "planned"}))} {
		if _, err := h.Accept(t.Context(), d); err != nil {
			t.Fatal(err)
		}
	}
	ref := h.stamper.Ref("trust", fhir.MakeRef("Encounter", "v1"))
	if _, err := h.db.Read(t.Context(), ref); !fhir.Is(err, fhir.NotFound) {
		t.Errorf("a visit that was deleted before it arrived is here: %v", err)
	}
	if _, err := h.Accept(t.Context(), at("3", visit(fhir.M{"status": "in-progress"}))); err != nil {
		t.Fatal(err)
	}
	if _, err := h.db.Read(t.Context(), ref); err != nil {
		t.Errorf("a visit told of after the deletion is not here: %v", err)
	}
}

// A visit that was moved to another patient stays theirs, though its admission comes late.
func TestAMovedVisitStaysWithWhomItWasMovedTo(t *testing.T) {
	h := open(t)
	of := func(p, order string) connector.Delivery {
		e := fhir.New("Encounter", "v1", fhir.M{"status": "in-progress", "subject": fhir.Reference{Reference: "Patient/" + p}})
		d := delivery(order, p, patient(p, "", annsFamily, "1948-03-12", nil), e)
		d.Order, d.Partial = order, []string{"Patient", "Encounter"}
		return d
	}
	for _, d := range []connector.Delivery{of("new", "2"), of("old", "1")} {
		if _, err := h.Accept(t.Context(), d); err != nil {
			t.Fatal(err)
		}
	}
	n := map[string]int{}
	for _, p := range []string{"new", "old"} {
		for r, err := range h.db.Patient(t.Context(), h.stamper.ID("trust", "Patient", p)) {
			if err != nil {
				t.Fatal(err)
			}
			if r.Type() == "Encounter" {
				n[p]++
			}
		}
	}
	if n["new"] != 1 || n["old"] != 0 {
		t.Errorf("the visit stands under %v, want the patient it was moved to", n)
	}
}
