package intake_test

import (
	"context"
	"errors"
	"testing"

	"tombolo/connector"
	"tombolo/events"
	"tombolo/fhir"
	"tombolo/intake"
	"tombolo/kv/pebble"
	"tombolo/store"
)

// What is stored and cannot be found yet is not acknowledged, and neither is its repeat, which is recognised at once.
func TestARepeatIsNotAcknowledgedBeforeTheFirstCanBeFound(t *testing.T) {
	engine, err := pebble.Open(pebble.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	db, err := store.Open(store.Options{Engine: engine})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var behind error
	var awaited events.Seq
	door := intake.New(intake.Options{Store: db, Region: twoTrusts, Stamper: connector.Stamper{Key: []byte("test")},
		Await: func(_ context.Context, seq events.Seq) error { awaited = seq; return behind }})
	d := delivery("m1", "p1", patient("p1", annsNumber, annsFamily, "1980-01-01", nil))

	behind = errors.New("the index is stuck")
	for _, which := range []string{"first", "repeat"} {
		awaited = 0
		if got, err := door.Accept(t.Context(), d); !fhir.Is(err, fhir.Transient) {
			t.Errorf("the %s: got %+v, %v; want a transient fault, so that it comes again", which, got, err)
		}
		if awaited == 0 {
			t.Errorf("the %s did not wait for the index", which)
		}
	}
	behind = nil
	if got, err := door.Accept(t.Context(), d); err != nil || !got.Duplicate || string(got.Reply) != "AA m1" {
		t.Errorf("with the index up to date: got %+v, %v; want the first reply again", got, err)
	}
}
