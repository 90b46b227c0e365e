package policy

import (
	"bytes"
	"maps"
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
	if d := Diff(was, is); len(d) != 5 {
		t.Errorf("the diff has %d lines: %v", len(d), d)
	}
}

// Everything that the file lets flow has a row, and nothing in it can break the table.
func TestEveryFlowHasARow(t *testing.T) {
	r := smallRegion()
	r.Neighbours = []region.Neighbour{{ID: "wye", Kind: "tombolo", Address: "https://wye.example"}}
	var b bytes.Buffer
	if err := WriteFlows(&b, r, june); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"| Trust (RX1) | pas | results | sent by hl7v2 |", "| Trust (RX1) | pas | legal | asked by hl7v2 when somebody looks | no;", "nobody: switched off",
		"| care | Trust (RX1); Community (RY5) | direct-care | all headings |", "| wye |", "withheld by statute", "not used for research or planning"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
	for line := range strings.Lines(b.String()) {
		if strings.HasPrefix(line, "|") && strings.HasPrefix(line, "| --") {
			t.Errorf("a broken row: %s", line)
		}
	}
}
