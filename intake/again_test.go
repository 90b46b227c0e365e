package intake_test

import (
	"bytes"
	"testing"

	"tombolo/connector"
	"tombolo/fhir"
)

// What waited in quarantine is taken once its cause is mended, and from then on its sender's repeats are answered as taken.
func TestWhatWaitedInQuarantineCanBeTakenAgain(t *testing.T) {
	h := open(t)
	raw := []byte("the bytes that came")
	refused := connector.Delivery{Source: "trust", ID: "m1", Raw: raw, Unique: true, Reply: []byte("AE"), Rejected: fhir.Errorf(fhir.Required, "nobody").At("PID")}
	if _, err := h.Accept(t.Context(), refused); err != nil {
		t.Fatal(err)
	}
	mended := delivery("m1", "p1", patient("p1", annsNumber, annsFamily, "1948-03-12", nil))
	mended.Raw, mended.Reply = raw, []byte("AA")
	if got, err := h.Accept(t.Context(), mended); err != nil || !got.Duplicate || !bytes.Equal(got.Reply, refused.Reply) {
		t.Errorf("a repeat of what was refused was answered %q, duplicate %v (%v)", got.Reply, got.Duplicate, err)
	}
	held, err := h.Held(t.Context(), "trust", 0)
	if err != nil || len(held) != 1 {
		t.Fatalf("%d wait (%v)", len(held), err)
	}
	if _, got, err := h.HeldRaw(t.Context(), "trust", held[0].Hash); err != nil || !bytes.Equal(got, raw) {
		t.Errorf("what waits is %q (%v)", got, err)
	}
	if _, err := h.Again(t.Context(), refused); err != nil { // not mended: it waits on
		t.Fatal(err)
	}
	if held, err := h.Held(t.Context(), "trust", 0); err != nil || len(held) != 1 {
		t.Fatalf("after another failure %d wait (%v)", len(held), err)
	}
	for i := range 2 { // taken once, however often somebody tries
		if got, err := h.Again(t.Context(), mended); err != nil || got.Duplicate != (i == 1) {
			t.Errorf("taken again: %+v (%v)", got, err)
		}
	}
	if held, err := h.Held(t.Context(), "trust", 0); err != nil || len(held) != 0 {
		t.Errorf("%d still wait (%v)", len(held), err)
	}
	if _, _, err := h.HeldRaw(t.Context(), "trust", held[0].Hash); !fhir.Is(err, fhir.NotFound) {
		t.Errorf("what waits no longer can be opened: %v", err)
	}
	if _, err := h.db.Read(t.Context(), h.stamper.Ref("trust", fhir.MakeRef("Patient", "p1"))); err != nil {
		t.Errorf("the patient is not here: %v", err)
	}
	if got, err := h.Accept(t.Context(), mended); err != nil || !got.Duplicate || !bytes.Equal(got.Reply, mended.Reply) {
		t.Errorf("the sender's repeat is answered %q (%v)", got.Reply, err)
	}
}

// The same id with other content is taken, and told of where the protocol forbids it.
func TestAnIDThatIsUsedAgainIsFlagged(t *testing.T) {
	h := open(t)
	for i, raw := range []string{"one", "another", "another"} {
		d := delivery("m1", "p1", patient("p1", annsNumber, annsFamily, "1948-03-12", nil))
		d.Raw, d.Unique = []byte(raw), true
		if got, err := h.Accept(t.Context(), d); err != nil || got.Reused != (i == 1) || got.Duplicate != (i == 2) {
			t.Errorf("delivery %d: %+v (%v)", i, got, err)
		}
	}
	if st := h.Stats()["trust"]; st.Reused != 1 || st.LastReused.IsZero() || st.Accepted != 2 {
		t.Errorf("counted %+v", st)
	}
	all, err := h.Quarantine(t.Context(), 0)
	if err != nil || len(all) != 1 || all[0].Whole || all[0].Issues[0].Type != fhir.Duplicate {
		t.Errorf("listed %+v (%v)", all, err)
	}
	if held, err := h.Held(t.Context(), "trust", 0); err != nil || len(held) != 0 {
		t.Errorf("%d wait, though all was taken (%v)", len(held), err)
	}
}
