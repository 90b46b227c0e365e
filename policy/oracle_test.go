package policy

import (
	"iter"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tombolo/dataset"
	"tombolo/region"
	"tombolo/sim/unraced"
)

// The oracle was written from the rules as people tell them, before and apart from the code that decides: nested ifs over words, in no way
// built as Decide is. TestEveryCellIsAsTheOracleSays asks both about every combination.
//
// A cell is one combination, each fact by its name.
type cell struct {
	role, purpose, tie, choice, label, deal, glass, heading string
	restricted                                              bool
	card, channel, flag, when                               string // "" is as it usually is; see edge_test.go
}

// The axes. Their product is what is asked.
var (
	axisRole = []string{"gp", "hospital-doctor", "nurse", "paramedic", "mental-health", "pharmacist", "social-worker", "care-home", "receptionist",
		"privacy-officer", "operator", "analyst", "citizen", "neighbour", "stranger"}
	axisPurpose = []string{"direct-care", "emergency", "safeguarding", "administration", "patient-request", "research", "planning"}
	axisTie     = []string{"none", "registered", "referral", "claimed", "self", "parent-of-9", "parent-of-12", "parent-of-17"}
	axisChoice  = []string{"none", "objects", "not-to-us", "not-this-heading", "normal-only", "pds-dissent", "opted-out"}
	axisLabel   = []string{"none", "N", "R", "V", "NOPAT", "PSY", "law"}
	axisDeal    = []string{"own", "agreed", "by-parent-body", "expired", "other-heading", "other-role"}
	axisGlass   = []string{"none", "emergency", "other-heading", "forbidden-pair"}
	axisHeading = []string{"allergies", "appointments", "legal"}
)

func TestEveryCellIsAsTheOracleSays(t *testing.T) {
	deals, glasses, purposes, ties, both := axisDeal, axisGlass, axisPurpose, axisTie, true
	if os.Getenv("TOMBOLO_SOAK") == "" { // what other tests ask alone is left out, and every other cell's person is restricted
		deals, glasses, both = axisDeal[:5], axisGlass[:3], false
		purposes = slices.DeleteFunc(slices.Clone(purposes), func(p string) bool { return p == "safeguarding" })
		ties = slices.DeleteFunc(slices.Clone(ties), func(t string) bool { return t == "referral" })
	}
	if unraced.Raced { // a tenth of the speed
		deals, glasses = deals[:2], glasses[:2]
	}
	start := time.Now()
	var cells, permitted, wrong atomic.Int64
	var wg sync.WaitGroup
	for _, role := range axisRole {
		wg.Go(func() {
			n := 0
			for c := range product(role, purposes, ties, deals, glasses) {
				for _, c.restricted = range []bool{false, true} {
					if n++; !both && c.restricted != (n%4 < 2) {
						continue
					}
					got, want := Decide(c.facts()), c.permitted()
					cells.Add(1)
					if want {
						permitted.Add(1)
					}
					if got.Permit != want || got.Permit && got.Has(WithholdLocation) != (c.restricted && c.tie != "self") {
						if wrong.Add(1) <= 10 {
							t.Errorf("%+v: Decide says %s, the oracle %v", c, say(got), want)
						}
					}
				}
			}
		})
	}
	wg.Wait()
	t.Logf("%d cells, %d of them permitted, in %s", cells.Load(), permitted.Load(), time.Since(start).Round(time.Millisecond))
	if !unraced.Raced && cells.Load() < 1_000_000 {
		t.Errorf("only %d cells", cells.Load())
	}
	if wrong.Load() > 0 {
		t.Errorf("%d cells differ", wrong.Load())
	}
	if permitted.Load() < cells.Load()/1000 {
		t.Errorf("only %d of %d cells are permitted: the axes do not meet", permitted.Load(), cells.Load())
	}
}

// product yields every combination for a role.
func product(role string, purposes, ties, deals, glasses []string) iter.Seq[cell] {
	axes := [][]string{purposes, ties, axisChoice, axisLabel, deals, glasses, axisHeading}
	return func(yield func(cell) bool) {
		at := make([]int, len(axes))
		for {
			c := cell{role: role}
			for i, to := range []*string{&c.purpose, &c.tie, &c.choice, &c.label, &c.deal, &c.glass, &c.heading} {
				*to = axes[i][at[i]]
			}
			if !yield(c) {
				return
			}
			i := 0
			for ; i < len(at); i++ {
				if at[i]++; at[i] < len(axes[i]) {
					break
				}
				at[i] = 0
			}
			if i == len(at) {
				return
			}
		}
	}
}

var day = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

// facts puts the words of a cell into the form in which policy is asked.
func (c cell) facts() Facts {
	f := Facts{Subject: Subject{Role: Role(c.role), Organisation: "RX1", Above: []string{"QSV"}}, Purpose: Purpose(c.purpose), Heading: dataset.Heading(c.heading), At: day,
		Source: &Source{Organisation: "RW4", Release: region.Release{All: true}}, Person: Person{Restricted: c.restricted, OptOut: MayBeUsed}}
	if c.role == "neighbour" {
		f.Channel = Between
	}
	parent := func(years int) {
		f.Relationships = []Relationship{Proxy}
		f.Person.Born, f.Person.Proxies = day.AddDate(-years, 0, 0), []Proxyhood{{Source: "register", Basis: Parental, Validated: true}}
		f.Believed.Proxies = []string{"register"}
	}
	switch c.tie {
	case "registered":
		f.Relationships = []Relationship{RegisteredPractice}
	case "referral":
		f.Relationships = []Relationship{OpenReferral}
	case "claimed":
		f.Relationships = []Relationship{SelfClaimed}
	case "self":
		f.Relationships = []Relationship{Self}
	case "parent-of-9":
		parent(9)
	case "parent-of-12":
		parent(12)
	case "parent-of-17":
		parent(17)
	}
	choose := func(p Provision) { f.Person.Choices = Choices{{Root: p}} }
	switch c.choice {
	case "objects":
		choose(Provision{})
	case "not-to-us":
		choose(Provision{Recipients: []string{"https://fhir.nhs.uk/Id/ods-organization-code|RX1"}})
	case "not-this-heading":
		choose(Provision{Headings: []dataset.Heading{dataset.Legal}})
	case "normal-only":
		choose(Provision{Permit: true, Purposes: []string{"TREAT"}, Labels: Normal})
	case "pds-dissent":
		f.Person.Dissent = true
	case "opted-out":
		f.Person.OptOut = OptedOut
	}
	if c.label != "none" {
		f.Item = &Item{Labels: map[string]Labels{"N": Normal, "R": RestrictedLabel, "V": VeryRestricted, "NOPAT": NoPatient, "PSY": byCode["PSY"], "law": LegallyWithheld}[c.label]}
	} else {
		f.Item = &Item{}
	}
	a := region.Agreement{ID: "a", Parties: []string{"RX1", "RW4"}, Purposes: []string{"direct-care", "safeguarding", "planning"}, AllHeadings: true, From: day.AddDate(-1, 0, 0)}
	switch c.deal {
	case "own":
		f.Source.Organisation = "RX1"
	case "by-parent-body":
		a.Parties = []string{"QSV", "RW4"}
	case "expired":
		a.Until = day
	case "other-heading":
		a.AllHeadings, a.Headings = false, []dataset.Heading{dataset.Legal}
	case "other-role":
		a.Roles = []string{"nurse"}
	}
	if c.when == "too-early" {
		a.From = day.Add(time.Second)
	}
	f.Agreements = []region.Agreement{a}
	g := Glass{Type: AccessAlert, Reason: EmergencyReason, Words: "found unconscious", From: day, Until: day.Add(time.Hour)}
	switch c.glass {
	case "emergency":
		f.Glass = &g
	case "other-heading":
		g.Headings = []dataset.Heading{dataset.Allergies}
		f.Glass = &g
	case "forbidden-pair":
		g.Reason = OtherPermission
		f.Glass = &g
	}
	c.edges(&f)
	return f
}

// permitted is the oracle.
func (c cell) permitted() bool {
	if c.label == "law" || c.label == "V" { // nobody, whatever they say
		return false
	}
	if !c.edgesLet() {
		return false
	}
	switch c.role {
	case "stranger", "privacy-officer", "operator":
		return false
	case "citizen":
		return c.purpose == "patient-request" && c.citizenMaySee()
	case "analyst":
		return c.analystMaySee()
	}
	if c.purpose == "research" || c.purpose == "planning" || c.purpose == "patient-request" {
		return false
	}
	return c.staffMayAsk() && c.staffCares() && c.staffShared() && c.personAllows() && c.staffMaySeeLabel()
}

func (c cell) citizenMaySee() bool {
	if c.label == "NOPAT" {
		return false
	}
	if c.tie == "self" {
		return true
	}
	if c.marked() || c.restricted {
		return false
	}
	switch c.tie {
	case "parent-of-9":
		return c.chosenForOthers()
	case "parent-of-12":
		return c.heading != "legal" && c.chosenForOthers()
	}
	return false
}

// chosenForOthers is what the person's choice leaves to somebody who acts for them at our organisation's page.
func (c cell) chosenForOthers() bool {
	if c.choice == "objects" && c.choiceOver() {
		return true
	}
	switch c.choice {
	case "objects", "not-to-us", "pds-dissent":
		return false
	case "not-this-heading":
		return c.heading != "legal"
	}
	return true // "normal only" is about treatment, and says nothing of a request by the person
}

func (c cell) analystMaySee() bool {
	if c.purpose != "planning" && c.purpose != "research" || c.marked() {
		return false
	}
	if c.purpose == "research" { // no agreement for it
		return false
	}
	if c.choice == "opted-out" || c.choice == "objects" && !c.choiceOver() || c.choice == "not-to-us" || c.choice == "pds-dissent" || c.choice == "not-this-heading" && c.heading == "legal" {
		return false
	}
	switch c.deal {
	case "expired", "other-role":
		return false
	case "other-heading":
		return c.heading == "legal"
	case "own": // even their own organisation's data is not theirs to study without an agreement, and the parties name it
		return c.when != "too-early"
	}
	return c.when != "too-early"
}

func (c cell) staffMayAsk() bool {
	switch c.role {
	case "care-home":
		return c.purpose == "direct-care" && c.heading == "allergies"
	case "receptionist":
		return (c.purpose == "administration" || c.purpose == "direct-care") && c.heading == "appointments"
	}
	return c.purpose != "administration" // clinicians and social workers see all three headings
}

func (c cell) clinical() bool {
	switch c.role {
	case "gp", "hospital-doctor", "nurse", "paramedic", "mental-health", "pharmacist", "neighbour":
		return true
	}
	return false
}

// brokeGlass is whether the glass is broken for this heading, by somebody who may.
func (c cell) brokeGlass() bool {
	if c.role == "pharmacist" || c.role == "neighbour" || !c.clinical() || !c.glassHolds() {
		return false
	}
	return c.glass == "emergency" || c.glass == "other-heading" && c.heading == "allergies"
}

func (c cell) staffCares() bool {
	if c.tie == "registered" || c.tie == "referral" {
		return true
	}
	return c.clinical() && (c.tie == "claimed" && c.mayClaim() || c.brokeGlass())
}

func (c cell) staffShared() bool {
	if c.deal == "own" {
		return true
	}
	if c.when == "too-early" {
		return false
	}
	switch c.deal {
	case "expired":
		return false
	case "other-heading":
		return c.heading == "legal"
	case "other-role":
		return c.role == "nurse"
	}
	return true
}

func (c cell) personAllows() bool {
	denied := false
	switch c.choice {
	case "objects":
		denied = !c.choiceOver()
	case "not-to-us":
		denied = true
	case "not-this-heading":
		denied = c.heading == "legal"
	case "pds-dissent":
		denied = true // none of the three headings is who somebody is
	case "normal-only": // about treatment, and so about its emergencies
		denied = (c.purpose == "direct-care" || c.purpose == "emergency") && c.label == "R"
	}
	return !denied || c.purpose == "emergency" && c.brokeGlass()
}

func (c cell) staffMaySeeLabel() bool {
	return !c.marked() || c.clinical() && c.maySeeSensitive()
}
