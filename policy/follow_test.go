package policy

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"tombolo/dataset"
	"tombolo/fhir"
	"tombolo/sim"
)

// orderedThings are what one source says: an order, its report, the results, a letter about the report, a plan, an encounter at which it was, and what has nothing to do with it.
func orderedThings() []*fhir.Resource {
	to := func(refs ...string) (out []any) {
		for _, r := range refs {
			out = append(out, fhir.M{"reference": r})
		}
		return out
	}
	return []*fhir.Resource{
		fhir.New("ServiceRequest", "order", fhir.M{"encounter": fhir.M{"reference": "Encounter/visit"}, "subject": fhir.M{"reference": "Patient/p"}, "requester": fhir.M{"reference": "Practitioner/d"}}),
		fhir.New("DiagnosticReport", "report", fhir.M{"basedOn": to("ServiceRequest/order"), "result": to("Observation/result"), "subject": fhir.M{"reference": "Patient/p"}}),
		fhir.New("Observation", "result", fhir.M{"subject": fhir.M{"reference": "Patient/p"}}),
		fhir.New("DocumentReference", "letter", fhir.M{"context": fhir.M{"related": to("DiagnosticReport/report")}}),
		fhir.New("MedicationRequest", "medicine", fhir.M{"reasonReference": to("Observation/result")}),
		fhir.New("MedicationDispense", "dispensed", fhir.M{"authorizingPrescription": to("MedicationRequest/medicine")}),
		fhir.New("AllergyIntolerance", "allergy", fhir.M{"note": []any{fhir.M{"authorReference": fhir.M{"reference": "DiagnosticReport/report"}}}}),
		fhir.New("CarePlan", "plan", fhir.M{"activity": []any{fhir.M{"reference": fhir.M{"reference": "ServiceRequest/order"}}, fhir.M{"reference": fhir.M{"reference": "ServiceRequest/other"}}}}),
		fhir.New("ServiceRequest", "other", fhir.M{"encounter": fhir.M{"reference": "Encounter/visit"}, "requester": fhir.M{"reference": "Practitioner/d"}}),
		fhir.New("Encounter", "visit", fhir.M{"subject": fhir.M{"reference": "Patient/p"}}),
		fhir.New("Condition", "elsewhere", fhir.M{"subject": fhir.M{"reference": "Patient/p"}}),
	}
}

// Who objects to one thing being seen objects to what tells of it, as far as references lead; who permits it permits no more than they name.
func TestAnObjectionToOneThingIsOneToWhatTellsOfIt(t *testing.T) {
	for _, c := range []struct {
		permit bool
		datum  Datum
		want   string // what the provision is about
	}{
		{false, Datum{"instance", "ServiceRequest/order"}, "order"},
		{false, Datum{"dependents", "ServiceRequest/order"}, "order report result letter medicine dispensed plan"},
		{false, Datum{"related", "ServiceRequest/order"}, "order report result letter medicine dispensed plan visit"},
		{false, Datum{"dependents", "Encounter/visit"}, "order report result letter medicine dispensed plan other visit"},
		{false, Datum{"dependents", "DocumentReference/letter"}, "letter"},
		{false, Datum{"related", "DocumentReference/letter"}, "report letter"},
		{false, Datum{"dependents", "MedicationRequest/medicine"}, "medicine dispensed"},
		{false, Datum{"dependents", "ServiceRequest/not-here"}, ""},
		{true, Datum{"dependents", "ServiceRequest/order"}, "order report plan"},
		{true, Datum{"instance", "ServiceRequest/order"}, "order"},
	} {
		p := Provision{Permit: c.permit, Data: []Datum{c.datum}}
		rs := orderedThings()
		linked := Choices{{Root: p}}.Follow(rs)
		var got []string
		for _, r := range rs {
			it := ItemOf(r, Normal)
			it.Linked = linked
			if p.fitsItem(it) {
				got = append(got, r.ID())
			}
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("permit %v, %s of %s: %q, want %q", c.permit, c.datum.Meaning, c.datum.Ref, got, c.want)
		}
	}
}

// However long a chain, and however it turns back on itself, following it ends, and costs what the number of references does.
func TestFollowingEndsHoweverReferencesRun(t *testing.T) {
	const n = 20_000
	rs := make([]*fhir.Resource, n)
	for i := range rs {
		rs[i] = fhir.New("Procedure", fmt.Sprint(i), fhir.M{"partOf": []any{fhir.M{"reference": fmt.Sprintf("Procedure/%d", (i+n-1)%n)}}, "basedOn": []any{fhir.M{"reference": fmt.Sprintf("Procedure/%d", (i*7)%n)}}})
	}
	begin := sim.ProcessorTime()
	found := Choices{{Root: Provision{Data: []Datum{{"dependents", "Procedure/0"}}, Exceptions: []Provision{{Data: []Datum{{"related", "Procedure/5"}}}}}}}.Follow(rs)
	if got := len(found[Datum{"dependents", "Procedure/0"}]); got != n-1 {
		t.Errorf("%d of %d are found", got, n-1)
	}
	if took := sim.ProcessorTime() - begin; took > 30*time.Second {
		t.Errorf("it took %s", took)
	}
}

// It is so through the decision that each entry of a record goes through.
func TestAnObjectionIsFollowedWhereEntriesAreDecided(t *testing.T) {
	at := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	f := Facts{At: at, Subject: Subject{Role: "hospital-doctor", Organisation: "RX1"}, Purpose: DirectCare, Heading: dataset.Results}
	f.Person.Choices = Choices{{Root: Provision{Permit: true, Exceptions: []Provision{{Data: []Datum{{"dependents", "ServiceRequest/order"}}}}}}}
	rs := orderedThings()
	linked := f.Person.Choices.Follow(rs)
	for _, r := range rs {
		it := ItemOf(r, Normal)
		it.Linked = linked
		f.Item = it
		hidden := strings.Contains(" order report result letter medicine dispensed plan ", " "+r.ID()+" ")
		if got := f.Person.Choices.says(&f); (got == denies) != hidden {
			t.Errorf("%s: the choice says %v", r.Ref(), got)
		}
	}
}
