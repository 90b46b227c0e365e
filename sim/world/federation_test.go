package world

import (
	"strings"
	"testing"

	"tombolo/audit"
	"tombolo/sim/cast"
)

// Wye believes Severn's signature about its user, decides for itself, and remembers who asked.
func TestANeighbourKnowsWhichUserAsks(t *testing.T) {
	c := severn(t)
	_, b, err := c.gather("doctor", nhs(c.w.Person(cast.Main)))
	if err != nil {
		t.Fatal(err)
	}
	if code, text := b.outcomeOf("wye"); code != "" && code != "informational" {
		t.Errorf("Wye did not answer: %s %s", code, text)
	}
	found := false
	for e, err := range c.w.Neighbour.Audit.All(t.Context(), 0, 0) {
		if err != nil {
			t.Fatal(err)
		}
		s, err := e.Summary()
		if err != nil {
			t.Fatal(err)
		}
		if s.User == "severn/doctor" && s.Shows() {
			found = true
			if s.Kind != audit.Read || !strings.Contains(s.Who, "Femi Ade") {
				t.Errorf("remembered as %+v", s)
			}
		}
	}
	if !found {
		t.Error("Wye does not remember which of Severn's users asked")
	}
}
