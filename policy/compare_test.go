package policy

import (
	"bytes"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"tombolo/dataset"
	"tombolo/region"
)

func smallRegion() *region.Region {
	day := func(s string) time.Time { d, _ := time.Parse(time.DateOnly, s); return d }
	push := map[dataset.Heading]region.Way{dataset.Results: region.Push, dataset.Legal: region.Live}
	return &region.Region{ID: "n", Name: "North | and more", Organisations: []region.Organisation{{ODS: "RX1", Name: "Trust", Kind: region.KindAcute}, {ODS: "RY5", Name: "Community"}, {ODS: "QSV", Name: "Board"}},
		Systems:    []region.System{{ID: "pas", Organisation: "RX1", Connector: "hl7v2", Release: region.Release{All: true}, Gives: push}, {ID: "clinic", Organisation: "RY5", Connector: "fhirapi", Gives: push, Release: region.Release{Off: true}}},
		Agreements: []region.Agreement{{ID: "care", Parties: []string{"RX1", "RY5"}, Purposes: []string{"direct-care"}, AllHeadings: true, From: day("2026-04-01")}}}
}

// What is said to open is exactly what opens, and what is said to close is exactly what closes: on the day, and on every later one.
func TestWhatAChangeOpensAndClosesIsAllOfIt(t *testing.T) {
	was, is := smallRegion(), smallRegion()
	is.Agreements[0].AllHeadings, is.Agreements[0].Headings = false, []dataset.Heading{dataset.Results}
	is.Agreements = append(is.Agreements, region.Agreement{ID: "plan", Parties: []string{"QSV", "RX1"}, Purposes: []string{"planning"}, AllHeadings: true, Roles: []string{"analyst"}, From: june.AddDate(0, 1, 0)})
	is.Systems[1].Release = region.Release{All: true}
	seen := map[bool]map[Reach]bool{true: {}, false: {}}
	for _, c := range Compare(was, is, june) {
		if len(c.Roles) == 0 || len(c.Purposes) == 0 || len(c.Headings) == 0 {
			t.Errorf("an empty change: %s", c)
		}
		for _, role := range c.Roles {
			for _, p := range c.Purposes {
				for _, h := range c.Headings {
					seen[c.Opens][Reach{c.Organisation, role, p, c.System, h, c.Unit}] = true
				}
			}
		}
		if c.Agreement == "plan" != (c.From.Equal(june.AddDate(0, 1, 0))) {
			t.Errorf("%s: from %s", c, c.From)
		}
	}
	want := map[bool]map[Reach]bool{true: {}, false: {}}
	for _, day := range []time.Time{june, june.AddDate(0, 1, 0)} {
		before, after := maps.Collect(Reaches(was, day)), maps.Collect(Reaches(is, day))
		for r := range after {
			if _, ok := before[r]; !ok {
				want[true][r] = true
			}
		}
		for r := range before {
			if _, ok := after[r]; !ok {
				want[false][r] = true
			}
		}
	}
	if !maps.Equal(seen[true], want[true]) || !maps.Equal(seen[false], want[false]) || len(want[true]) == 0 || len(want[false]) == 0 {
		t.Errorf("told %d opened and %d closed, want %d and %d", len(seen[true]), len(seen[false]), len(want[true]), len(want[false]))
	}
	if len(Compare(was, smallRegion(), june)) != 0 || len(Diff(was, smallRegion())) != 0 {
		t.Error("a file differs from itself")
	}
	if d := Diff(was, is); len(d) != 5 || len(DiffWords(was, is)) != 5 {
		t.Errorf("the diff has %d lines: %v", len(d), d)
	}
}

// Everything that the file lets flow has a row, and nothing in it can break the table.
func TestEveryFlowHasARow(t *testing.T) {
	r := smallRegion()
	r.Neighbours = []region.Neighbour{{ID: "wye", Kind: "tombolo", Address: "https://wye.example", Index: region.Index{Address: "https://index.example", Asks: []string{"pix", "match"}}}, {ID: "usk", OnlyAsks: true, Issuer: "https://usk.example", Organisation: "RY5"}}
	r.Locator = region.Locator{Applications: []region.Application{{ID: "cad", Organisation: "RY5", Consumes: []string{"all"}}, {ID: "mute", Organisation: "RY5"}}, Retrieval: region.Retrieval{Proxy: "https://proxy.example", Hosts: []string{"docs.example"}},
		National: []region.National{{ID: "nrl", Address: "https://nrl.example", As: "RX1", Asks: true, Publishes: []region.Published{{Type: region.ClinicalSummary}, {Type: "736373009", Headings: []dataset.Heading{dataset.EndOfLife}}}}}}
	r.Identity = region.Identity{Providers: []region.Provider{{ID: "cis2", Name: "Care Identity", Issuer: "https://cis2.example", LaunchIntrospect: true}},
		Clients: []region.Client{{ID: "app", Name: "An app", Kind: region.PublicClient, Scopes: []string{"patient/*.rs"}}, {ID: "bot", Kind: region.ServiceClient, Role: "pharmacist", Organisation: "RY5", Scopes: []string{"system/*.rs"}}, {ID: "feed", Kind: region.ServiceClient, System: "pas"}}}
	r.Systems = append(slices.Clone(r.Systems), region.System{ID: "cad", Organisation: "RY5", Connector: "consumer", Certificate: "cad.example", Role: "paramedic", AsksFor: []string{"RX1"}, Options: map[string]string{"notify": "https://told.example/a"}})
	r.Audit.Feed = "https://audit.example"
	var b bytes.Buffer
	if err := WriteFlows(&b, r, june); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"| Trust (RX1) | pas | results | sent by hl7v2 |", "| Trust (RX1) | pas | legal | asked by hl7v2 when somebody looks | no;", "nobody: switched off",
		"| care | Trust (RX1); Community (RY5) | direct care | all headings |", "| wye |", "| Trust (RX1), pas | the number by which it knows the person",
		"| wye: its index | numbers by which the person is known; name, date of birth", "| usk | of each person, what its users may see as Community (RY5) |", "| nrl | the NHS number and the organisation that asks",
		"and that there is a record: of nothing that bears a label", "something of the type 736373009 (End of life", "| Community (RY5), cad | what changed of whose record", "notifications to https://told.example/a", "through the proxy https://proxy.example",
		"| docs.example |", "| the audit repository |", "| Community (RY5); Trust (RX1), cad | of each person, what Paramedic there may see | asks by mutual TLS |", "| An app | what its user may see, within the scopes patient/*.rs |",
		"| bot | what Pharmacist of Community (RY5) may see", "| feed | the record of pas alone", "| Community (RY5), cad | pointers that are registered here, of the types all |", "| Care Identity | that somebody signs in here; nothing of a patient; the token", "withheld by statute", "not used for research or planning"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
	if strings.Contains(b.String(), ", mute |") {
		t.Error("an application that is told of nothing has a row")
	}
	for line := range strings.Lines(b.String()) {
		if strings.HasPrefix(line, "|") && strings.HasPrefix(line, "| --") {
			t.Errorf("a broken row: %s", line)
		}
	}
}
