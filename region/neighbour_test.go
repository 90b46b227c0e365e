package region

import (
	"fmt"
	"strings"
	"testing"
)

// A neighbour's certificate is its own, can be found by what names it, and goes with the keys by which it signs.
func TestANeighboursCertificateIsItsOwn(t *testing.T) {
	const keys = `issuer: "https://b.example", keys: "https://b.example/oauth/keys", organisation: RX1, `
	for more, want := range map[string]string{
		keys + "certificate: b.example":              "",
		keys + "certificate: \"spki:" + zeros + "\"": "",
		"certificate: b.example":                     "nothing says by which keys it signs",
		keys + "certificate: EPR.example":            "certificate",
		keys + "certificate: \"sha256:12\"":          "not a fingerprint",
	} {
		_, problems := Parse("region.yaml", fmt.Appendf(nil, `
region: {id: a, name: A}
organisations: [{ods: RX1, name: Trust, kind: acute}]
systems: [{id: epr, organisation: RX1, connector: consumer, certificate: epr.example, role: nurse}]
neighbours: [{id: b, name: B, kind: tombolo, address: "https://b.example", %s}]
`, more))
		var errors []string
		for _, p := range problems {
			if p.Severity == Error {
				errors = append(errors, fmt.Sprint(p))
			}
		}
		if all := strings.Join(errors, "\n"); (want == "") != (all == "") || !strings.Contains(all, want) {
			t.Errorf("%s: %q; want %q", more, all, want)
		}
	}
}

var zeros = strings.Repeat("00", 32)

// How a neighbour is told who is asking is checked: it is a server of another kind, and each way has what it needs and nothing else.
func TestHowANeighbourIsToldWhoAsksIsChecked(t *testing.T) {
	for more, want := range map[string]string{
		"kind: fhir, organisation: RX1, assertion: {as: bearer}":                                                   "",
		"kind: ips, organisation: RX1, assertion: {as: exchange, token: \"https://b.example/token\", scope: user}": "",
		"kind: mhd, organisation: RX1, token: B, assertion: {as: header, header: X-Assertion}":                     "",
		"kind: tombolo, assertion: {as: bearer}":                                                                   "another Tombolo is always told",
		"kind: fhir, organisation: RX1, assertion: {as: exchange}":                                                 "nothing says where",
		"kind: fhir, organisation: RX1, assertion: {as: exchange, token: \"http://b.example/token\"}":              "not over TLS",
		"kind: fhir, organisation: RX1, assertion: {as: header}":                                                   "not a header of its own",
		"kind: fhir, organisation: RX1, assertion: {as: header, header: authorization}":                            "not a header of its own",
		"kind: fhir, organisation: RX1, assertion: {as: header, header: \"X Y\"}":                                  "not a header of its own",
		"kind: fhir, organisation: RX1, token: B, assertion: {as: bearer}":                                         "in place of our own credential",
		"kind: fhir, organisation: RX1, assertion: {as: bearer, scope: user}":                                      "for exchange alone",
		"kind: fhir, organisation: RX1, assertion: {as: bearer, header: X-Assertion}":                              "for header alone",
	} {
		_, problems := Parse("region.yaml", fmt.Appendf(nil, `
region: {id: a, name: A}
organisations: [{ods: RX1, name: Trust, kind: acute}]
systems: [{id: epr, organisation: RX1, connector: api, gives: {problems: push}}]
neighbours: [{id: b, name: B, address: "https://b.example", %s}]
`, more))
		var errors []string
		for _, p := range problems {
			if p.Severity == Error {
				errors = append(errors, fmt.Sprint(p))
			}
		}
		if all := strings.Join(errors, "\n"); (want == "") != (all == "") || !strings.Contains(all, want) {
			t.Errorf("%s: %q; want %q", more, all, want)
		}
	}
}
