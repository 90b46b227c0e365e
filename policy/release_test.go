package policy

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"tombolo/dataset"
	"tombolo/fhir"
	"tombolo/region"
)

var officer = region.SignOff{By: "A. Officer", Role: "Clinical Safety Officer", On: june.AddDate(0, -2, 0), Standard: "DCB0160", HazardLog: "HL-1"}

// anyStages are random stages of units, some of which are bodies of the region file, and headings.
func anyStages(t *rapid.T) []region.Stage {
	pick := func(name string, from ...string) []string {
		return slices.Clone(rapid.SliceOfNDistinct(rapid.SampledFrom(from), 0, 2, func(s string) string { return s }).Draw(t, name))
	}
	out := make([]region.Stage, rapid.IntRange(1, 7).Draw(t, "stages"))
	days := rapid.SliceOfNDistinct(rapid.IntRange(-30, 5), len(out), len(out), func(i int) int { return i }).Draw(t, "days") // no two begin together
	for i := range out {
		s := region.Stage{From: june.AddDate(0, 0, days[i]), Units: pick("units", "Ward7", "WARD8", "HQ/WARD7", "HQ", "RX1", "QSV", "RX2")}
		for _, h := range pick("headings", "results", "documents") {
			s.Headings = append(s.Headings, dataset.Heading(h))
		}
		switch rapid.SampledFrom([]string{"off", "testers", "some", "all"}).Draw(t, "stage") {
		case "off":
			s.Off = true
		case "testers":
			s.Testers = true
		case "some":
			s.ODS = []string{rapid.SampledFrom([]string{"RX1", "RW4", "QSV"}).Draw(t, "ods")}
		case "all":
			s.All = true
		}
		s.Users = pick("users", "dr-a", "dr-b")
		if rapid.Bool().Draw(t, "by role") {
			s.Roles = []string{"nurse"}
		}
		if s.SignOff = officer; rapid.IntRange(0, 4).Draw(t, "sign-off") == 0 {
			s.SignOff = rapid.SampledFrom([]region.SignOff{{}, {On: june.AddDate(0, -3, 0), Until: june.AddDate(0, -1, 0)}, {On: june.AddDate(0, -3, 0), Withdrawn: june}, {On: june.AddDate(0, 0, 1)}}).Draw(t, "which")
		}
		out[i] = s
	}
	return out
}

// visible is what docs/federation.md says, as plainly as it can be written: every stage is looked at, and the most specific kept.
func visible(f *Facts, stages []region.Stage, chains [][]string, h dataset.Heading) bool {
	may := func(s *region.Stage) bool {
		tester := f.Subject.Role != Citizen && f.Subject.Role != Neighbour && f.Channel != Between &&
			(slices.Contains(s.Users, f.Subject.User) && f.Subject.User != "" || slices.Contains(s.Roles, string(f.Subject.Role)) ||
				s.Testers && len(s.Users)+len(s.Roles) == 0 && f.Subject.Role == GP)
		holds := !s.SignOff.On.IsZero() && !s.SignOff.On.After(f.At) && (s.SignOff.Until.IsZero() || f.At.Before(s.SignOff.Until)) && (s.SignOff.Withdrawn.IsZero() || f.At.Before(s.SignOff.Withdrawn))
		switch {
		case s.Testers:
			return tester
		case s.All:
			return holds
		case len(s.ODS) > 0:
			return holds && (tester || slices.ContainsFunc(s.ODS, f.Subject.of))
		}
		return false
	}
	bodies := map[string][]string{"RX1": {"QSV"}, "RX2": {"QSV"}, "QSV": nil, "HQ": {"RX1", "QSV"}}
	one := func(chain []string) bool {
		var long []string
		home := false
		for _, c := range chain {
			long = append(long, c)
			above, known := bodies[c]
			long = append(long, above...)
			home = home || known
		}
		if !home {
			long = append(long, "RX1", "QSV")
		}
		best, rank := (*region.Stage)(nil), [2]int{1 << 30, 2}
		for i := range stages {
			s := &stages[i]
			if s.From.After(f.At) || len(s.Headings) > 0 && !slices.Contains(s.Headings, h) {
				continue
			}
			near := len(long)
			if len(s.Units) > 0 {
				near = slices.IndexFunc(long, func(c string) bool {
					return slices.ContainsFunc(s.Units, func(u string) bool { return strings.EqualFold(u, c) })
				})
			}
			if near < 0 || near < len(long) && region.Undivided(h) {
				continue
			}
			r := [2]int{near, 1}
			if len(s.Headings) > 0 {
				r[1] = 0
			}
			if best == nil || r[0] < rank[0] || r[0] == rank[0] && (r[1] < rank[1] || r[1] == rank[1] && s.From.After(best.From)) {
				best, rank = s, r
			}
		}
		return best != nil && may(best)
	}
	if len(chains) == 0 {
		return one(nil)
	}
	for _, c := range chains {
		if !one(c) {
			return false
		}
	}
	return true
}

func stagedFacts(t *rapid.T, stages []region.Stage) Facts {
	f := Facts{Subject: Subject{Role: rapid.SampledFrom([]Role{GP, Nurse, HospitalDoctor, Neighbour}).Draw(t, "role"), User: rapid.SampledFrom([]string{"dr-a", "dr-c", ""}).Draw(t, "user"),
		Organisation: rapid.SampledFrom([]string{"RX1", "RW4"}).Draw(t, "of"), Above: rapid.SampledFrom([][]string{nil, {"QSV"}}).Draw(t, "above")},
		Purpose: DirectCare, Relationships: []Relationship{KnownHere}, At: june, Channel: rapid.SampledFrom([]Channel{Page, Between}).Draw(t, "channel"),
		Source: &Source{System: "epr", Organisation: "RX1", Above: []string{"QSV"}, Release: region.Staged(stages...), Within: func(ods string) ([]string, bool) {
			above, known := map[string][]string{"RX1": {"QSV"}, "RX2": {"QSV"}, "QSV": nil, "HQ": {"RX1", "QSV"}}[ods]
			return above, known
		}},
		Agreements: []region.Agreement{{ID: "a", Parties: []string{"RX1", "RW4"}, Purposes: []string{"direct-care"}, AllHeadings: true, From: june.AddDate(-1, 0, 0)}}}
	return f
}

// Whatever the stages: an entry is shown to exactly those to whom the most specific stage of its unit and heading, in force and signed off, releases it;
// a Filter says what Decide says; what an entry is permitted its heading is; and InPart is false only where every entry would be.
func TestTheMostSpecificStageDecides(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		stages := anyStages(t)
		f := stagedFacts(t, stages)
		f.Heading = rapid.SampledFrom([]dataset.Heading{dataset.Results, dataset.Documents, dataset.Allergies, dataset.Demographics}).Draw(t, "heading")
		opened, part := Decide(f).Permit, InPart(f)
		x := NewFilter(f)
		for range 8 {
			var chains [][]string
			for range rapid.IntRange(0, 2).Draw(t, "units of it") {
				chains = append(chains, slices.Clone(rapid.SampledFrom([][]string{{"WARD7"}, {"WARD8"}, {"HQ/WARD7", "WARD7", "HQ"}, {"HQ"}, {"RX1"}, {"RX2"}, {"X9"}, {"X9", "RX2"}}).Draw(t, "chain")))
			}
			want := visible(&f, stages, chains, f.Heading)
			it := &Item{Units: &Units{chains}}
			g := f
			g.Item = it
			d := Decide(g)
			if d.Permit != want {
				t.Fatalf("%s of %v: permitted %v (%v), want %v", f.Heading, chains, d.Permit, d.Reasons, want)
			}
			permit, stage := x.Decide(it)
			if permit != want || permit && stage != d.Stage {
				t.Fatalf("the filter says %v %q, the decision %v %q", permit, stage, want, d.Stage)
			}
			if want && !opened {
				t.Fatalf("what is refused of the heading %s is permitted of an entry of %v", f.Heading, chains)
			}
			if !want && !part && opened {
				t.Fatalf("an entry of %v is held back, and the heading is not said to be shared in part", chains)
			}
			g.Item = &Item{Units: Unknown}
			if Decide(g).Permit && !want && !region.Undivided(f.Heading) {
				t.Fatalf("what is of a unit that cannot be told is shown, and what is of %v is not", chains)
			}
		}
	})
}

func stage(word string, units []string, headings ...dataset.Heading) region.Stage {
	s := region.Stage{Units: units, Headings: headings, From: june.AddDate(0, -1, 0), SignOff: officer}
	switch word {
	case "off":
		s.Off = true
	case "testers":
		s.Testers = true
	case "all":
		s.All = true
	default:
		s.ODS = strings.Fields(word)
	}
	return s
}

func ofWard(f Facts, h dataset.Heading, chain ...string) Decision {
	f.Heading, f.Item = h, &Item{}
	if chain != nil {
		f.Item.Units = &Units{[][]string{chain}}
	}
	return Decide(f)
}

func TestAReleaseGoesByStages(t *testing.T) {
	f := Facts{Subject: Subject{Role: HospitalDoctor, User: "dr-a", Organisation: "RX1"}, Purpose: DirectCare, Relationships: []Relationship{KnownHere}, At: june}
	with := func(stages ...region.Stage) Facts {
		g := f
		g.Source = &Source{System: "epr", Organisation: "RX1", Release: region.Staged(stages...)}
		return g
	}
	t.Run("nothing that no stage covers is switched on", func(t *testing.T) {
		g := with(stage("all", []string{"WARD7"}))
		if d := ofWard(g, dataset.Results, "WARD8"); d.Permit {
			t.Error("ward 8 is shown")
		}
		if !ofWard(g, dataset.Results, "WARD7").Permit {
			t.Error("ward 7 is not shown")
		}
	})
	t.Run("a named tester is told that it is a test, at later stages too", func(t *testing.T) {
		tests := stage("testers", nil)
		tests.Users = []string{"dr-a"}
		if d := ofWard(with(tests), dataset.Results); !d.Permit || d.Stage != "testers" || !d.Because("release") {
			t.Errorf("%+v", d)
		}
		named := stage("RW4", nil)
		named.Users = []string{"dr-a"}
		if d := ofWard(with(named), dataset.Results); !d.Permit || d.Stage != "organisations" {
			t.Errorf("%+v", d)
		}
		there := stage("testers", nil)
		there.Users = []string{"RW4/dr-a"}
		if ofWard(with(there), dataset.Results).Permit {
			t.Error("the user of that name at another organisation tests it")
		}
		there.Users = []string{"RX1/dr-a"}
		if !ofWard(with(there), dataset.Results).Permit {
			t.Error("the user of that organisation does not test it")
		}
		g := with(tests)
		g.Subject.User = "dr-b"
		if d := ofWard(g, dataset.Results); d.Permit || !d.Because("release") {
			t.Errorf("%+v", d)
		}
	})
	t.Run("what is released to all bears no stage", func(t *testing.T) {
		if d := ofWard(with(stage("all", nil)), dataset.Results); !d.Permit || d.Stage != "" {
			t.Errorf("%+v", d)
		}
	})
	t.Run("a sign-off that is over or withdrawn closes for testers too", func(t *testing.T) {
		for name, so := range map[string]region.SignOff{"none": {}, "over": {On: june.AddDate(-1, 0, 0), Until: june}, "withdrawn": {On: june.AddDate(-1, 0, 0), Withdrawn: june.AddDate(0, 0, -1)}} {
			s := stage("all", nil)
			s.SignOff, s.Users = so, []string{"dr-a"}
			if d := ofWard(with(s), dataset.Results); d.Permit {
				t.Errorf("%s: shown", name)
			} else if why := d.Reasons[0].Text; !strings.Contains(why, "sign-off") {
				t.Errorf("%s: refused because %q", name, why)
			}
		}
	})
	t.Run("a stage begins on its day, and the one before holds until then", func(t *testing.T) {
		later := stage("all", nil)
		later.From = june.AddDate(0, 0, 3)
		g := with(stage("off", nil), later)
		if ofWard(g, dataset.Results).Permit {
			t.Error("shown before its day")
		}
		if g.At = later.From; !ofWard(g, dataset.Results).Permit {
			t.Error("not shown on its day")
		}
	})
	t.Run("people see of themselves what is released to all", func(t *testing.T) {
		g := with(stage("all", nil), stage("testers", []string{"WARD7"}))
		g.Subject, g.Purpose, g.Relationships = Subject{Role: Citizen, User: "ann"}, PatientRequest, []Relationship{Self}
		if ofWard(g, dataset.Results, "WARD7").Permit || !ofWard(g, dataset.Results, "WARD8").Permit {
			t.Error("their own record is not what is released")
		}
	})
}

func TestASimulationTellsOfStages(t *testing.T) {
	make1 := func(rel region.Release) *region.Region {
		return &region.Region{Organisations: []region.Organisation{{ODS: "RX1", Name: "The Trust", Kind: region.KindAcute}},
			Systems: []region.System{{ID: "epr", Organisation: "RX1", Gives: map[dataset.Heading]region.Way{dataset.Results: region.Live}, Release: rel}}}
	}
	later := stage("all", nil)
	later.From = june.AddDate(0, 0, 7)
	was, is := make1(region.Staged(stage("testers", nil))), make1(region.Staged(stage("testers", nil), later))
	changes := Compare(was, is, june)
	if len(changes) == 0 || !changes[0].From.Equal(later.From) || !changes[0].Opens {
		t.Errorf("a stage that begins in a week opens: %v", changes)
	}
	if d := Diff(was, is); len(d) != 1 || !strings.Contains(d[0], "+ release of epr") || !strings.Contains(d[0], "HL-1") {
		t.Errorf("the change is told as %q", d)
	}
	withdrawn := later
	withdrawn.SignOff.Withdrawn = june
	if d := Diff(is, make1(region.Staged(stage("testers", nil), withdrawn))); len(d) != 2 {
		t.Errorf("a withdrawn sign-off is told as %q", d)
	}
}

// The unit of an entry is who made it: its tag, the element of its type, its source's Provenance, its encounter, its report.
func TestWhichUnitMadeIt(t *testing.T) {
	org := func(id, code string, more fhir.M) *fhir.Resource {
		f := fhir.M{"identifier": []fhir.Identifier{{System: fhir.SystemODS, Value: code}}}
		for k, v := range more {
			f[k] = v
		}
		return fhir.New("Organization", id, f)
	}
	ref := func(to string) fhir.Reference { return fhir.Reference{Reference: to} }
	by := func(code string) fhir.Reference {
		return fhir.Reference{Type: "Organization", Identifier: &fhir.Identifier{System: fhir.SystemODS, Value: code}}
	}
	elsewhere := map[fhir.Ref]*fhir.Resource{
		"Organization/cardio": org("cardio", "cardio", fhir.M{"partOf": ref("Organization/hq")}), "Organization/hq": org("hq", "RX1HQ", nil),
		"Location/w7":          fhir.New("Location", "w7", fhir.M{"identifier": []fhir.Identifier{{Value: "WARD7"}}, "managingOrganization": ref("Organization/cardio")}),
		"PractitionerRole/pr":  fhir.New("PractitionerRole", "pr", fhir.M{"identifier": []fhir.Identifier{{Value: "9"}}, "organization": ref("Organization/cardio")}),
		"Organization/a":       org("a", "A", fhir.M{"partOf": ref("Organization/b")}),
		"Organization/b":       org("b", "B", fhir.M{"partOf": ref("Organization/a")}),
		"Organization/orphans": org("orphans", "O", fhir.M{"partOf": ref("Organization/gone")}),
	}
	all := []*fhir.Resource{
		fhir.New("Encounter", "e", fhir.M{"serviceProvider": by("RX1HQ"), "location": []fhir.M{{"location": ref("Location/w7")}}}),
		fhir.New("Observation", "tagged", fhir.M{"meta": fhir.M{"tag": []fhir.Coding{{System: dataset.SystemUnit, Code: "RX1HQ/ward7"}}}, "performer": []fhir.Reference{by("LAB")}}),
		fhir.New("Observation", "performed", fhir.M{"performer": []fhir.Reference{ref("Practitioner/p"), by("LAB")}, "encounter": ref("Encounter/e")}),
		fhir.New("Observation", "visited", fhir.M{"performer": []fhir.Reference{ref("Practitioner/p")}, "encounter": ref("Encounter/e/_history/3")}),
		fhir.New("Observation", "reported", fhir.M{}),
		fhir.New("DiagnosticReport", "r", fhir.M{"performer": []fhir.Reference{ref("Organization/cardio")}, "result": []fhir.Reference{ref("Observation/reported")}}),
		fhir.New("Condition", "said", fhir.M{}),
		fhir.New("Provenance", "theirs", fhir.M{"target": []fhir.Reference{ref("Condition/said")}, "agent": []fhir.M{{"who": ref("Practitioner/p"), "onBehalfOf": by("MH1")}}}),
		fhir.New("Provenance", "ours", fhir.M{"target": []fhir.Reference{ref("Condition/plain")}, "agent": []fhir.M{{"who": by("RX1")}},
			"entity": []fhir.M{{"role": "source", "what": fhir.Reference{Identifier: &fhir.Identifier{System: fhir.SystemSource, Value: "epr"}}}}}),
		fhir.New("Condition", "plain", fhir.M{"recorder": ref("Practitioner/p")}),
		fhir.New("Condition", "role", fhir.M{"recorder": ref("PractitionerRole/pr")}),
		fhir.New("Condition", "lost", fhir.M{"encounter": ref("Encounter/gone")}),
		fhir.New("Observation", "elsewhere", fhir.M{"performer": []fhir.Reference{ref("https://other.example/Organization/1")}}),
		fhir.New("Observation", "circle", fhir.M{"performer": []fhir.Reference{ref("Organization/a")}}),
		fhir.New("Observation", "orphan", fhir.M{"performer": []fhir.Reference{ref("Organization/orphans")}}),
		fhir.New("Immunization", "contained", fhir.M{"contained": []fhir.M{{"resourceType": "Organization", "id": "c", "identifier": []fhir.Identifier{{Value: "PHARM"}}}}, "performer": []fhir.M{{"actor": ref("#c")}}}),
		fhir.New("Encounter", "self", fhir.M{"partOf": ref("Encounter/self")}),
		fhir.New("Observation", "named", fhir.M{"performer": []fhir.Reference{{Display: "Somebody's ward"}}}),
	}
	ward := "WARD7 CARDIO RX1HQ RX1HQ"
	want := map[string]string{"e": ward, "tagged": "RX1HQ/WARD7 WARD7 RX1HQ", "performed": "LAB", "visited": ward, "reported": "CARDIO RX1HQ", "r": "CARDIO RX1HQ", "said": "MH1", "plain": "",
		"role": "CARDIO RX1HQ", "lost": "?", "elsewhere": "?", "orphan": "O ?", "contained": "PHARM", "self": "", "named": ""}
	got := UnitsOf(all, func(r fhir.Ref) *fhir.Resource { return elsewhere[r] })
	for i, r := range all {
		var chains []string
		if got[i] != nil {
			for _, c := range got[i].chains {
				chains = append(chains, strings.Join(c, " "))
			}
		}
		if r.ID() == "circle" {
			if s := strings.Join(chains, "; "); !strings.HasPrefix(s, "A B A B") || !strings.HasSuffix(s, "?") {
				t.Errorf("organisations that are part of each other: %q", s)
			}
			continue
		}
		if w, asked := want[r.ID()]; asked && strings.Join(chains, "; ") != w {
			t.Errorf("%s is of %q, want %q", r.Ref(), strings.Join(chains, "; "), w)
		}
	}
	if got[0] != got[3] {
		t.Error("what the same units made does not share them")
	}
}

// stagedBench is a source with forty stages of units and headings, of which none but the last counts.
func stagedBench() Facts {
	f := benchFacts()
	f.At = june
	f.Agreements[len(f.Agreements)-1].From = june.AddDate(-1, 0, 0)
	var stages []region.Stage
	for i := range 39 {
		stages = append(stages, stage("testers", []string{fmt.Sprint("WARD", i)}, dataset.Results))
	}
	f.Source.Release = region.Staged(append(stages, stage("all", nil))...)
	f.Item = &Item{Units: &Units{[][]string{{"RX1HQ/WARD77", "WARD77", "RX1HQ"}}}}
	return f
}

func BenchmarkDecideInStages(b *testing.B) {
	f := stagedBench()
	if d := Decide(f); !d.Permit {
		b.Fatalf("refused: %v", d.Reasons)
	}
	b.ReportAllocs()
	for b.Loop() {
		Decide(f)
	}
}

func BenchmarkDecideOnAHeadingInStages(b *testing.B) {
	f := stagedBench()
	f.Item, f.Subject.Organisation = nil, "RX9" // nobody's stage: every unit must be looked at
	b.ReportAllocs()
	for b.Loop() {
		Decide(f)
	}
}

// BenchmarkFilterInStages decides on a record of 1,000 resources of fifty units.
func BenchmarkFilterInStages(b *testing.B) {
	f := stagedBench()
	items := make([]*Item, 1000)
	var units []*Units
	for i := range 50 {
		units = append(units, &Units{[][]string{{fmt.Sprint("RX1HQ/WARD", i), fmt.Sprint("WARD", i), "RX1HQ"}}})
	}
	for i := range items {
		items[i] = &Item{Labels: []Labels{0, Normal, RestrictedLabel}[i%3], Authors: []string{"Practitioner/b"}, Units: units[i%len(units)]}
	}
	b.ReportAllocs()
	for b.Loop() {
		x := NewFilter(f)
		for _, it := range items {
			x.Permits(it)
		}
	}
}

// BenchmarkUnitsOf tells the units of a record of 1,000 resources, of which each is in one of fifty encounters.
func BenchmarkUnitsOf(b *testing.B) {
	var rs []*fhir.Resource
	for i := range 50 {
		rs = append(rs, fhir.New("Encounter", fmt.Sprint("e", i), fhir.M{"serviceProvider": fhir.Reference{Type: "Organization", Identifier: &fhir.Identifier{System: fhir.SystemODS, Value: fmt.Sprint("RX", i)}}}))
	}
	for i := range 950 {
		rs = append(rs, fhir.New("Observation", fmt.Sprint("o", i), fhir.M{"status": "final", "encounter": fhir.Reference{Reference: fmt.Sprint("Encounter/e", i%50)}}))
	}
	b.ReportAllocs()
	for b.Loop() {
		if u := UnitsOf(rs, nil); u[999] == nil {
			b.Fatal("no unit")
		}
	}
}
