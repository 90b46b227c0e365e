package store

import (
	"testing"

	"tombolo/fhir"
)

// In whose record something lies is told also of what names nobody, and follows it when it moves.
func TestHomeTellsInWhoseRecordSomethingLies(t *testing.T) {
	db, ctx := fresh(t)
	medicine := fhir.New("Medication", "m1", fhir.M{})
	for _, c := range []struct {
		home Home
		want string
	}{{annAtPAS, "ann"}, {Home{Source: "rx1-pas"}, ""}, {Home{Source: "rx1-pas", Patient: "bob"}, "bob"}} {
		put(t, db, c.home, medicine)
		if got, err := db.Home(ctx, medicine.Ref()); err != nil || got != c.want {
			t.Errorf("it lies with %q (%v), want %q", got, err, c.want)
		}
	}
	if _, err := db.Home(ctx, "Medication/none"); !fhir.Is(err, fhir.NotFound) {
		t.Errorf("what is not there: %v", err)
	}
	if _, err := db.Update(ctx, func(tx Tx) error { return tx.Delete(ctx, medicine.Ref()) }); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Home(ctx, medicine.Ref()); !fhir.Is(err, fhir.Deleted) {
		t.Errorf("what was deleted: %v", err)
	}
}
