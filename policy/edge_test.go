package policy

import (
	"os"
	"slices"
	"testing"
	"time"

	"tombolo/region"
	"tombolo/sim/unraced"
)

// The facts that seldom differ, beside those that usually do: what the sign-in's card allows (national RBAC activities), by which channel the question came, what
// the source itself says of all that it gives, and the time. The oracle tells of them in the same words as people do.
var (
	axisCard    = []string{"", "nothing", "demographics", "record", "record-and-sensitive", "record-and-claims", "record-and-emergencies"}
	axisChannel = []string{"", "api", "launch", "system", "neighbour"}
	axisFlag    = []string{"", "all-restricted", "all-not-for-patients", "switched-off", "for-testers", "for-others", "for-our-region", "summary-without-permission"}
	axisWhen    = []string{"", "too-early", "choice-is-over", "glass-is-over", "glass-not-yet", "not-confirmed"}
)

// edges puts them into the form in which policy is asked.
func (c cell) edges(f *Facts) {
	switch c.card {
	case "nothing":
		f.Subject.Activities = []string{}
	case "demographics":
		f.Subject.Activities = []string{"B0825"}
	case "record":
		f.Subject.Activities = []string{"B0360"}
	case "record-and-sensitive":
		f.Subject.Activities = []string{"B0360", "B1666"}
	case "record-and-claims":
		f.Subject.Activities = []string{"B0360", "B0016"}
	case "record-and-emergencies":
		f.Subject.Activities = []string{"B0360", "B0015"}
	}
	if c.channel != "" {
		f.Channel = Channel(c.channel)
	}
	switch c.flag {
	case "all-restricted":
		f.Source.Labels = RestrictedLabel
	case "all-not-for-patients":
		f.Source.Labels = NoPatient
	case "switched-off":
		f.Source.Release = region.Release{Off: true, All: true}
	case "for-testers":
		f.Source.Release = region.Release{Testers: true}
	case "for-others":
		f.Source.Release = region.Release{ODS: []string{"RW4"}}
	case "for-our-region":
		f.Source.Release = region.Release{ODS: []string{"QSV"}}
	case "summary-without-permission":
		f.Source.Summary, f.Person.NoSCR = true, true
	}
	switch c.when {
	case "choice-is-over":
		for i := range f.Person.Choices {
			f.Person.Choices[i].Root.Until = day
		}
	case "glass-is-over":
		if f.Glass != nil {
			f.Glass.From, f.Glass.Until = day.Add(-time.Hour), day
		}
	case "glass-not-yet":
		if f.Glass != nil {
			f.Glass.From = day.Add(time.Second)
		}
	case "not-confirmed":
		f.Data.Read = day.Add(-time.Minute - time.Second)
	}
}

// edgesLet is what the oracle says of them where nothing else matters.
func (c cell) edgesLet() bool {
	if c.when == "not-confirmed" { // nobody knows what is agreed now
		return false
	}
	switch c.flag {
	case "switched-off", "for-others": // the user is of RX1, in QSV
		return false
	case "for-testers":
		if c.role != "gp" {
			return false
		}
	case "summary-without-permission":
		if !(c.role == "citizen" && c.tie == "self") && !(c.purpose == "emergency" && c.brokeGlass()) {
			return false
		}
	case "all-not-for-patients":
		if c.role == "citizen" {
			return false
		}
	}
	switch c.channel {
	case "system": // no patient is a program
		if c.role == "citizen" {
			return false
		}
	case "neighbour":
		if c.role == "citizen" || c.role == "analyst" {
			return false
		}
	}
	switch c.card {
	case "nothing":
		return false
	case "demographics": // and appointments, which receptions make
		return c.heading == "appointments"
	}
	return true
}

// marked is whether it is restricted, by itself or with all that the source gives.
func (c cell) marked() bool {
	return c.label == "R" || c.label == "PSY" || c.flag == "all-restricted"
}

func (c cell) maySeeSensitive() bool { return c.card == "" || c.card == "record-and-sensitive" }
func (c cell) mayClaim() bool        { return c.card == "" || c.card == "record-and-claims" }
func (c cell) choiceOver() bool      { return c.when == "choice-is-over" }

// glassHolds is whether a glass can be in force: raised by a person, whose card lets them, now.
func (c cell) glassHolds() bool {
	return c.channel != "system" && (c.card == "" || c.card == "record-and-emergencies") && c.when != "glass-is-over" && c.when != "glass-not-yet"
}

// What the oracle has no words for: a narrower choice that is over besides.
func (c cell) told() bool {
	return c.when != "choice-is-over" || c.choice == "none" || c.choice == "objects" || c.choice == "pds-dissent" || c.choice == "opted-out"
}

// edgeCells yields the cells in which at most two of the four differ from what is usual, over the whole product of what decides with them.
func edgeCells(visit func(cell)) {
	every := 12
	if os.Getenv("TOMBOLO_SOAK") != "" {
		every = 1
	}
	if unraced.Raced {
		every = 40
	}
	n := 0
	for _, card := range axisCard {
		for _, channel := range axisChannel {
			for _, flag := range axisFlag {
				for _, when := range axisWhen {
					usual := 0
					for _, x := range []string{card, channel, flag, when} {
						if x == "" {
							usual++
						}
					}
					if usual < 2 {
						continue
					}
					for _, role := range axisRole {
						for c := range product(role, []string{"direct-care", "emergency", "administration", "patient-request", "planning"}, []string{"none", "registered", "claimed", "self", "parent-of-9"},
							[]string{"own", "agreed"}, []string{"none", "emergency"}) {
							if !slices.Contains([]string{"none", "objects", "pds-dissent"}, c.choice) || !slices.Contains([]string{"none", "R", "NOPAT"}, c.label) {
								continue
							}
							if n++; n%every != 0 && usual < 3 { // one that differs by itself is asked in every cell
								continue
							}
							if c.card, c.channel, c.flag, c.when = card, channel, flag, when; c.role == "neighbour" && channel == "" {
								c.channel = "neighbour"
							}
							visit(c)
						}
					}
				}
			}
		}
	}
}

func TestTheCardTheChannelTheSourceAndTheTimeAreAsTheOracleSays(t *testing.T) {
	cells, permitted, wrong := 0, 0, 0
	edgeCells(func(c cell) {
		if !c.told() {
			return
		}
		cells++
		got, want := Decide(c.facts()), c.permitted()
		if want {
			permitted++
		}
		if got.Permit != want {
			if wrong++; wrong <= 10 {
				t.Errorf("%+v: Decide says %s, the oracle %v", c, say(got), want)
			}
		}
	})
	t.Logf("%d cells, %d of them permitted, %d wrong", cells, permitted, wrong)
	if !unraced.Raced && cells < 500_000 {
		t.Errorf("only %d cells", cells)
	}
}

// Each fact decides something: of every value of every axis there is a cell that it alone opens or shuts.
func TestEachFactDecidesSomething(t *testing.T) {
	usual := []cell{}
	for _, role := range []string{"gp", "nurse", "social-worker", "receptionist", "citizen", "analyst"} {
		for _, purpose := range []string{"direct-care", "emergency", "administration", "patient-request", "planning"} {
			for _, tie := range []string{"none", "registered", "claimed", "self", "parent-of-9"} {
				for _, heading := range axisHeading {
					for _, choice := range []string{"none", "objects"} {
						for _, deal := range []string{"expired", "agreed"} {
							for _, glass := range []string{"none", "emergency"} {
								for _, label := range []string{"none", "R"} {
									usual = append(usual, cell{role: role, purpose: purpose, tie: tie, choice: choice, label: label, deal: deal, glass: glass, heading: heading})
								}
							}
						}
					}
				}
			}
		}
	}
	const any = "any"
	for _, axis := range []struct {
		name, usual string
		values      []string
		of          func(*cell) *string
		nothing     []string // values that mean what the usual one means
	}{
		{"role", any, axisRole, func(c *cell) *string { return &c.role }, nil}, {"purpose", any, axisPurpose, func(c *cell) *string { return &c.purpose }, nil},
		{"relationship", any, axisTie, func(c *cell) *string { return &c.tie }, nil}, {"choice", "none", axisChoice, func(c *cell) *string { return &c.choice }, nil},
		{"label", "none", axisLabel, func(c *cell) *string { return &c.label }, []string{"N"}}, {"agreement", "expired", axisDeal, func(c *cell) *string { return &c.deal }, nil},
		{"glass", "none", axisGlass, func(c *cell) *string { return &c.glass }, []string{"forbidden-pair"}}, {"heading", any, axisHeading, func(c *cell) *string { return &c.heading }, nil},
		{"card", "", axisCard, func(c *cell) *string { return &c.card }, nil}, {"channel", "", axisChannel, func(c *cell) *string { return &c.channel }, []string{"api", "launch"}},
		{"source's flag", "", axisFlag, func(c *cell) *string { return &c.flag }, []string{"for-our-region"}}, {"time", "", axisWhen, func(c *cell) *string { return &c.when }, nil},
	} {
		for _, v := range axis.values {
			decides := false
			for _, c := range usual {
				if was := *axis.of(&c); was == v || axis.usual != any && was != axis.usual {
					continue
				}
				was := Decide(c.facts()).Permit
				if *axis.of(&c) = v; Decide(c.facts()).Permit != was {
					decides = true
					break
				}
			}
			if v != axis.usual && decides == slices.Contains(axis.nothing, v) {
				t.Errorf("%s %q: decides %v", axis.name, v, decides)
			}
		}
	}
	for _, years := range []int{10, 11, 15, 16} { // age is a fact of its own
		f := cell{role: "citizen", purpose: "patient-request", tie: "parent-of-9", choice: "none", label: "none", deal: "own", glass: "none", heading: "legal"}.facts()
		f.Person.Born = day.AddDate(-years, 0, 0)
		if got := Decide(f).Permit; got != (years < AgeShrinks) {
			t.Errorf("a parent of a child of %d sees legal matters: %v", years, got)
		}
	}
}
