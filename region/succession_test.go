package region

import (
	"slices"
	"testing"
)

func TestWhoeverWasSucceededLeadsToItsSuccessor(t *testing.T) {
	r := &Region{Organisations: []Organisation{{ODS: "M1", SucceededBy: "M2"}, {ODS: "M2", SucceededBy: "M3"}, {ODS: "M3", PartOf: "PCN"}, {ODS: "PCN"}, {ODS: "A", SucceededBy: "B"}, {ODS: "B", SucceededBy: "A"}}}
	for ods, want := range map[string]string{"M1": "M3", "M2": "M3", "M3": "M3", "elsewhere": "elsewhere", "A": "A"} {
		if got := r.Current(ods); got != want {
			t.Errorf("%s leads to %s, want %s", ods, got, want)
		}
	}
	if got := r.Above("M1"); !slices.Equal(got, []string{"M2", "M3", "PCN"}) {
		t.Errorf("above M1 are %v", got)
	}
	if got := r.Above("A"); !slices.Equal(got, []string{"B"}) {
		t.Errorf("above A, which is succeeded in a circle, are %v", got)
	}
}

func TestASuccessionThatGoesRoundIsAnError(t *testing.T) {
	const file = `
region: {id: north, name: North}
organisations:
  - {ods: M85001, name: Old Surgery, kind: gp, succeeded_by: M85002}
  - {ods: M85002, name: New Surgery, kind: gp, succeeded_by: M85001}
  - {ods: M85003, name: Lost Surgery, kind: gp, succeeded_by: M99999}
systems: []
`
	_, problems := Parse("north.yaml", []byte(file))
	wrong := 0
	for _, p := range problems {
		if p.Severity == Error {
			wrong++
		}
	}
	if wrong < 3 {
		t.Errorf("%d errors: %v", wrong, problems)
	}
}
