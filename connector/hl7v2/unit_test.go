package hl7v2

import (
	"slices"
	"testing"
)

// What a message tells is of the ward and site that PV1-3 names, as sites of English trusts have codes under their trust's: of the sending one (MSH-4) where
// the visit names none, and of no unit in particular where that is the trust itself.
func TestWhatIsToldIsOfTheSiteAndWardThatTheMessageNames(t *testing.T) {
	for name, c := range map[string]struct {
		sender, place string
		want          []string
	}{
		"ward and site":                      {"RCB", "WARD7^BAY2^3^RCB07", []string{"RCB07/WARD7"}},
		"a site with its authority":          {"RCB", "ward7^^^RCB07&2.16.840&ISO", []string{"RCB07/WARD7"}},
		"a ward of the site that sends":      {"RCB55", "WARD7", []string{"RCB55/WARD7"}},
		"a ward of the trust":                {"RCB", "WARD7", []string{"WARD7"}},
		"a site alone":                       {"RCB", "^^^RCB07", []string{"RCB07"}},
		"no place, of a site":                {"RCB55", "", []string{"RCB55"}},
		"no place, of the trust":             {"RCB", "", nil},
		"a name with the sign between units": {"RCB", "A/E^^^RCB07", []string{"RCB07/A-E"}},
	} {
		msg := "MSH|^~\\&|PAS|" + c.sender + "|||20260302||ADT^A01|1|P|2.4\rEVN||20260302\rPID|1||T1^^^RCB^PI||Hart^Rosalind\rPV1|1|I|" + c.place + "||||||||||||||||V1\r"
		made := deliveries([]byte(msg), Options{Source: "rcb-pas", Organisation: "RCB"})
		if len(made) != 1 || made[0].Rejected != nil || !made[0].NamesUnits || !slices.Equal(made[0].Units, c.want) {
			t.Errorf("%s: it is of %q, want %q", name, made[0].Units, c.want)
		}
	}
}
