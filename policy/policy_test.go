package policy

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"tombolo/dataset"
	"tombolo/region"
)

// The files in testdata are for people who answer for confidentiality to read: "given" lines set facts, "expect" lines
// say what must come out. Facts last until the next blank line.
func TestPolicyFiles(t *testing.T) {
	files, _ := filepath.Glob("testdata/*.policy")
	if len(files) == 0 {
		t.Fatal("no policy files")
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".policy"), func(t *testing.T) { runFile(t, file) })
	}
}

func runFile(t *testing.T, file string) {
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	sc := bufio.NewScanner(f)
	var facts Facts
	n, expects := 0, 0
	for sc.Scan() {
		n++
		line := strings.TrimSpace(sc.Text())
		verb, rest, _ := strings.Cut(line, " ")
		switch {
		case line == "":
			facts = Facts{}
		case strings.HasPrefix(line, "#"):
		case verb == "given":
			if err := give(&facts, rest); err != nil {
				t.Fatalf("%s:%d: %v", file, n, err)
			}
		case verb == "expect":
			expects++
			got := say(Decide(facts))
			if !slices.Equal(strings.Fields(got), strings.Fields(rest)) {
				t.Errorf("%s:%d: got %q, want %q", file, n, got, rest)
			}
		default:
			t.Fatalf("%s:%d: what is %q?", file, n, verb)
		}
	}
	if expects == 0 {
		t.Fatalf("%s expects nothing", file)
	}
}

func give(f *Facts, words string) error {
	if f.At.IsZero() {
		f.At = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)
	}
	for word := range strings.FieldsSeq(words) {
		k, v, _ := strings.Cut(word, "=")
		switch k {
		case "role":
			f.Subject.Role = Role(v)
		case "of":
			f.Subject.Organisation = v
		case "purpose":
			f.Purpose = Purpose(v)
		case "relationship":
			f.Relationships = append(f.Relationships, Relationship(v))
		case "objects":
			f.Person.Objects = true
		case "restricted":
			f.Person.Restricted = true
		case "break-glass":
			f.BreakGlass = v
		case "source":
			f.Source = &Source{System: v + "-x", Organisation: v, Release: region.Release{All: true}}
		case "release":
			f.Source.Release = region.Release{Off: v == "off", Testers: v == "testers"}
			if v != "off" && v != "testers" {
				f.Source.Release.ODS = strings.Split(v, ",")
			}
		case "heading":
			f.Heading = dataset.Heading(v)
		case "label":
			f.Labels = append(f.Labels, v)
		case "at":
			at, err := time.Parse("2006-01-02", v)
			if err != nil {
				return err
			}
			f.At = at
		case "agreement": // id:parties:purposes:headings:from..until
			p := strings.Split(v, ":")
			a := region.Agreement{ID: p[0], Parties: strings.Split(p[1], ","), Purposes: strings.Split(p[2], ","), AllHeadings: p[3] == "all"}
			if !a.AllHeadings {
				for h := range strings.SplitSeq(p[3], ",") {
					a.Headings = append(a.Headings, dataset.Heading(h))
				}
			}
			from, until, _ := strings.Cut(p[4], "..")
			a.From, _ = time.Parse("2006-01-02", from)
			if until != "" {
				a.Until, _ = time.Parse("2006-01-02", until)
			}
			f.Agreements = append(f.Agreements, a)
		default:
			return fmt.Errorf("what is %q?", k)
		}
	}
	return nil
}

func say(d Decision) string {
	words := []string{"refuse"}
	if d.Permit {
		words[0] = "permit"
	}
	for _, r := range d.Reasons {
		words = append(words, r.Code)
	}
	for _, o := range d.Obligations {
		words = append(words, "+"+string(o))
	}
	return strings.Join(words, " ")
}

func anyFacts(t *rapid.T) Facts {
	var names []Role
	for r := range roles {
		names = append(names, r)
	}
	slices.Sort(names)
	ods := []string{"RX1", "RW4", "918"}
	f := Facts{
		Subject:       Subject{Role: rapid.SampledFrom(append(names, "unheard-of")).Draw(t, "role"), Organisation: rapid.SampledFrom(ods).Draw(t, "of")},
		Purpose:       rapid.SampledFrom([]Purpose{DirectCare, Emergency, Safeguarding, Administration, PatientRequest, Research, "x"}).Draw(t, "purpose"),
		Person:        Person{Objects: rapid.Bool().Draw(t, "objects"), Restricted: rapid.Bool().Draw(t, "restricted")},
		Relationships: rapid.SliceOf(rapid.SampledFrom([]Relationship{RegisteredPractice, KnownHere, SelfClaimed, Self})).Draw(t, "rel"),
		BreakGlass:    rapid.SampledFrom([]string{"", "unconscious"}).Draw(t, "glass"),
		At:            time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC),
	}
	if rapid.Bool().Draw(t, "source") {
		f.Source = &Source{Organisation: rapid.SampledFrom(ods).Draw(t, "at"), Release: region.Release{Off: rapid.Bool().Draw(t, "off"), All: rapid.Bool().Draw(t, "all")}}
		f.Heading = rapid.SampledFrom([]dataset.Heading{"", dataset.Allergies, dataset.Appointments, dataset.Legal}).Draw(t, "heading")
	}
	if rapid.Bool().Draw(t, "agreed") {
		f.Agreements = []region.Agreement{{ID: "a", Parties: ods[:2], Purposes: []string{"direct-care"}, AllHeadings: true}}
	}
	return f
}

func TestWhatMustAlwaysHold(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := anyFacts(t)
		d := Decide(f)
		if d.Version != Version || len(d.Reasons) == 0 {
			t.Fatalf("a decision without version or reasons: %+v", d)
		}
		info := roles[f.Subject.Role]
		if d.Permit && f.Person.Objects && f.Subject.Role != Citizen && (f.BreakGlass == "" || !d.Has(AlertPrivacy)) {
			t.Fatal("an objection gave way without an emergency and an alert")
		}
		if d.Permit && !info.Opens {
			t.Fatal("a role that opens no records opened one")
		}
		if d.Permit && f.Source != nil && f.Subject.Role != Citizen && f.Source.Organisation != f.Subject.Organisation && d.Agreement == "" {
			t.Fatal("another organisation's data without an agreement")
		}
		if d.Permit && f.Person.Restricted && f.Subject.Role != Citizen && !slices.Contains(f.Relationships, Self) && !d.Has(WithholdLocation) {
			t.Fatal("a restricted person's location would be shown")
		}
		// A label can only take away.
		labelled := f
		labelled.Labels = []string{"R"}
		if Decide(labelled).Permit && !d.Permit {
			t.Fatal("a label gave a right")
		}
	})
}

func BenchmarkDecide(b *testing.B) {
	f := Facts{Subject: Subject{Role: HospitalDoctor, Organisation: "RX1"}, Purpose: DirectCare, Relationships: []Relationship{KnownHere},
		Source: &Source{Organisation: "RW4", Release: region.Release{All: true}}, Heading: dataset.Allergies,
		Agreements: []region.Agreement{{ID: "a", Parties: []string{"RX1", "RW4"}, Purposes: []string{"direct-care"}, AllHeadings: true}}, At: time.Now()}
	b.ReportAllocs()
	for b.Loop() {
		Decide(f)
	}
}
