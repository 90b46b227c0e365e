package fhir

import "testing"

func TestNearestFindsWhatWasMeant(t *testing.T) {
	known := []string{"birthdate", "identifier", "family", "given", "name", "address", "gender"}
	for typed, want := range map[string]string{
		"birthdat": "birthdate", "birhtdate": "birthdate", "identifer": "identifier", "Family": "family", "nmae": "name",
		"telephone": "", "x": "", "gendre": "gender", "adress": "address",
		"birth": "birthdate", "identification": "", "addresses": "address", "na": "",
	} {
		if got := Nearest(typed, known); got != want {
			t.Errorf("Nearest(%q) = %q, want %q", typed, got, want)
		}
	}
}
