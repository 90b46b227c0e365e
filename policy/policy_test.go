package policy

import (
	"cmp"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"tombolo/dataset"
	"tombolo/fhir"
	"tombolo/region"
)

var june = time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)

func anyProvision(t *rapid.T, depth int) Provision {
	some := func(name string, from ...string) []string {
		if !rapid.Bool().Draw(t, name+"?") {
			return nil
		}
		return []string{rapid.SampledFrom(from).Draw(t, name)}
	}
	p := Provision{Permit: rapid.Bool().Draw(t, "permit"), Recipients: some("to", fhir.SystemODS+"|RX1", fhir.SystemODS+"|918", "Practitioner/u"),
		Holders: some("from", fhir.SystemODS+"|RX1", fhir.SystemODS+"|RW4"), Purposes: some("for", "TREAT", "BTG", "HRESCH", "PATADMIN"),
		Labels: rapid.SampledFrom([]Labels{0, 0, 0, Normal, RestrictedLabel, byCode["PSY"]}).Draw(t, "labels")}
	for _, h := range some("heading", "allergies", "legal") {
		p.Headings = append(p.Headings, dataset.Heading(h))
	}
	for _, a := range some("author", "Practitioner/a") {
		p.Data = append(p.Data, Datum{"authoredby", a})
	}
	if depth > 0 && rapid.Bool().Draw(t, "exception") {
		p.Exceptions = []Provision{anyProvision(t, depth-1)}
	}
	return p
}

func anyFacts(t *rapid.T) Facts {
	var names []Role
	for r := range roles {
		names = append(names, r)
	}
	slices.Sort(names)
	ods := []string{"RX1", "RW4", "918"}
	f := Facts{
		Subject: Subject{Role: rapid.SampledFrom(append(names, "unheard-of")).Draw(t, "role"), Organisation: rapid.SampledFrom(ods).Draw(t, "of"), Names: []string{"Practitioner/u"}},
		Purpose: rapid.SampledFrom([]Purpose{DirectCare, Emergency, Safeguarding, Administration, PatientRequest, Research, Planning, "x"}).Draw(t, "purpose"),
		Person: Person{Restricted: rapid.Bool().Draw(t, "restricted"), Dissent: rapid.Bool().Draw(t, "dissent"),
			OptOut: rapid.SampledFrom([]OptOut{NotConsulted, MayBeUsed, OptedOut}).Draw(t, "opt-out")},
		Relationships: rapid.SliceOf(rapid.SampledFrom([]Relationship{RegisteredPractice, KnownHere, OpenEncounter, Identifying, SelfClaimed, Self, Proxy})).Draw(t, "rel"),
		Channel:       rapid.SampledFrom([]Channel{Page, API, Launch, Machine, Between}).Draw(t, "channel"),
		At:            june,
	}
	for range rapid.IntRange(0, 2).Draw(t, "choices") {
		f.Person.Choices = append(f.Person.Choices, Choice{Source: rapid.SampledFrom([]string{"pas", "clinic", "register"}).Draw(t, "told by"), Root: anyProvision(t, 2)})
	}
	for range rapid.IntRange(0, 2).Draw(t, "proxies") {
		f.Person.Proxies = append(f.Person.Proxies, Proxyhood{Source: rapid.SampledFrom([]string{"pas", "register"}).Draw(t, "proxy by"), Validated: rapid.Bool().Draw(t, "validated"),
			Basis: rapid.SampledFrom([]Basis{Parental, PersonConsents, Attorney, Deputy, "x"}).Draw(t, "basis")})
	}
	if rapid.Bool().Draw(t, "age known") {
		f.Person.Born = june.AddDate(-rapid.IntRange(0, 30).Draw(t, "age"), 0, 0)
	}
	if rapid.Bool().Draw(t, "the register is believed") {
		f.Believed = Believed{Proxies: []string{"register"}, Permissions: []string{"register"}}
	}
	if rapid.Bool().Draw(t, "glass") {
		f.Glass = &Glass{Type: rapid.SampledFrom([]AlertType{SelfClaim, AccessAlert}).Draw(t, "type"), Reason: rapid.SampledFrom([]AlertReason{"1", "4", "5", "6"}).Draw(t, "reason"),
			Words: "unconscious", From: june.Add(-time.Minute), Until: june.Add(time.Minute)}
		if rapid.Bool().Draw(t, "for-one-heading") {
			f.Glass.Headings = []dataset.Heading{dataset.Allergies}
		}
	}
	if rapid.Bool().Draw(t, "source") {
		f.Source = &Source{System: rapid.SampledFrom([]string{"pas", "clinic", "lab"}).Draw(t, "system"), Organisation: rapid.SampledFrom(ods).Draw(t, "at"), Release: region.Release{Off: rapid.Bool().Draw(t, "off"), All: rapid.Bool().Draw(t, "all")}}
		f.Heading = rapid.SampledFrom([]dataset.Heading{"", dataset.Demographics, dataset.Allergies, dataset.Appointments, dataset.Legal, dataset.Documents}).Draw(t, "heading")
	}
	if rapid.Bool().Draw(t, "agreed") {
		a := region.Agreement{ID: "a", Parties: ods[:2], Purposes: []string{"direct-care"}, AllHeadings: rapid.Bool().Draw(t, "all")}
		if !a.AllHeadings {
			a.Headings = []dataset.Heading{dataset.Documents}
		}
		f.Agreements = []region.Agreement{a}
	}
	if rapid.Bool().Draw(t, "activities") {
		f.Subject.Activities = rapid.SliceOfN(rapid.SampledFrom([]string{ViewDemographics, AmendDemographics, ViewRecord, ViewSensitive, OpenDocuments, EmergencyAccess, ClaimRelationship}), 1, 3).Draw(t, "activity")
	}
	return f
}

func anyItem(t *rapid.T) *Item {
	it := &Item{Labels: rapid.SampledFrom([]Labels{0, Normal, RestrictedLabel, VeryRestricted, NoPatient, LegallyWithheld, byCode["PSY"], byCode["PSY"] | RestrictedLabel}).Draw(t, "item")}
	if rapid.Bool().Draw(t, "authored") {
		it.Authors = []string{"Practitioner/a"}
	}
	return it
}

// Whatever a source whose word does not count tells of somebody, it opens nothing that others hold, to nobody, for no purpose; and nobody acts for a person because it says so.
func TestNoSourceOpensWhatOthersHold(t *testing.T) {
	closed := 0
	rapid.Check(t, func(t *rapid.T) {
		f := anyFacts(t)
		f.Believed = Believed{Proxies: []string{"register"}, Permissions: []string{"register"}}
		asks := rapid.SampledFrom([]Facts{ // what is mostly permitted, so that something can be closed and opened
			{Subject: Subject{Role: Nurse, Organisation: "RX1"}, Purpose: DirectCare, Relationships: []Relationship{KnownHere}},
			{Subject: Subject{Role: Citizen}, Purpose: PatientRequest, Relationships: []Relationship{Proxy}},
			{Subject: Subject{Role: Analyst, Organisation: "RX1"}, Purpose: Research}}).Draw(t, "asks")
		f.Subject, f.Purpose, f.Relationships, f.Channel, f.Glass, f.Person.Restricted = asks.Subject, asks.Purpose, asks.Relationships, Page, nil, false
		f.Agreements = []region.Agreement{{ID: "a", Parties: []string{"RX1", "RW4", "918"}, Purposes: []string{"direct-care", "research"}, AllHeadings: true}}
		if f.Source != nil {
			f.Source.Release = region.Release{All: true}
		}
		f.Person.Choices = slices.DeleteFunc(f.Person.Choices, func(c Choice) bool { return c.Source == "clinic" }) // which may take back what it said itself
		if f.Source != nil && f.Source.System == "clinic" {
			f.Source.System = "lab"
		}
		if f.Source != nil { // before there is an entry, a choice about single ones leaves the question open
			f.Item, f.Heading = anyItem(t), cmp.Or(f.Heading, dataset.Allergies)
		}
		was := Decide(f)
		f.Person.Choices = slices.Clone(f.Person.Choices)
		for range rapid.IntRange(0, 2).Draw(t, "told") {
			f.Person.Choices = append(f.Person.Choices, Choice{Source: "clinic", Root: anyProvision(t, 2), ByOther: rapid.Bool().Draw(t, "a guardian's"), Made: june.AddDate(-1, 0, 0)})
		}
		if rapid.Bool().Draw(t, "says who acts") {
			f.Person.Proxies = append(slices.Clone(f.Person.Proxies), Proxyhood{Source: "clinic", Validated: true, Basis: rapid.SampledFrom([]Basis{Parental, PersonConsents, Attorney, Deputy}).Draw(t, "as")})
		}
		f.Person.Capable = f.Person.Capable || rapid.Bool().Draw(t, "capable")
		f.Person.TypeOne = f.Person.TypeOne || rapid.Bool().Draw(t, "type 1")
		f.Person.NoSCR = f.Person.NoSCR || rapid.Bool().Draw(t, "no summary")
		f.Person.Dissent = f.Person.Dissent || rapid.Bool().Draw(t, "dissents")
		is := Decide(f)
		if is.Permit && !was.Permit && (f.Source != nil || f.Subject.Role == Citizen) {
			t.Fatalf("%s became %s", say(was), say(is))
		}
		if was.Permit && !is.Permit {
			closed++
		}
	})
	if closed == 0 {
		t.Error("nothing that was told closed anything: the test says nothing")
	}
}

func TestWhatMustAlwaysHold(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := anyFacts(t)
		d := Decide(f)
		if d.Version != Version || len(d.Reasons) == 0 {
			t.Fatalf("a decision without version or reasons: %+v", d)
		}
		own := f.Subject.Role == Citizen && f.related(Self)
		info := f.Subject.Role.info()
		if a := f.Person.Choices.says(&f); d.Permit && (a == denies || a == confines) && !own && (f.Glass == nil || !d.Has(AlertPrivacy) || !d.Has(ShowBanner)) {
			t.Fatal("a choice gave way without an alert")
		}
		if d.Permit && !info.Opens {
			t.Fatal("a role that opens no records opened one")
		}
		if d.Permit && f.Purpose.Secondary() && f.Person.OptOut != MayBeUsed && !d.Because("research-consent") {
			t.Fatal("a secondary use without the opt-out's leave")
		}
		if d.Permit && f.Source != nil && f.Subject.Role != Citizen && f.Source.Organisation != f.Subject.Organisation && d.Agreement == "" {
			t.Fatal("another organisation's data without an agreement")
		}
		if d.Permit && f.Person.Restricted && !f.related(Self) && !d.Has(WithholdLocation) {
			t.Fatal("a restricted person's location would be shown")
		}
		// What is refused with fewer facts stays refused with more: a resource's labels, and a heading, can only take away.
		more := f
		more.Item = anyItem(t)
		if Decide(more).Permit && !d.Permit {
			t.Fatalf("one resource was permitted where none is: %+v", d)
		}
		if more.Item.Labels&(LegallyWithheld|VeryRestricted) != 0 && Decide(more).Permit {
			t.Fatal("what the law or its source withholds was permitted")
		}
		if f.Source != nil {
			fewer := f
			if fewer.Heading = ""; d.Permit && !Decide(fewer).Permit {
				t.Fatalf("a heading was permitted of a source that may not be asked: %+v", Decide(fewer))
			}
			if fewer.Source = nil; d.Permit && !Decide(fewer).Permit {
				t.Fatalf("a heading was permitted of a record that may not be opened: %+v", Decide(fewer))
			}
		}
		if f.Source != nil && f.Heading != "" {
			if got := NewFilter(f).Permits(more.Item); got != Decide(more).Permit {
				t.Fatalf("the filter says %v, Decide %+v", got, Decide(more))
			}
		}
	})
}

// The opt-out is for research and planning. For direct care nothing that it may say makes a difference.
func TestDirectCareNeverDependsOnTheOptOut(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := anyFacts(t)
		if f.Purpose.Secondary() {
			return
		}
		was := say(Decide(f))
		for _, o := range []OptOut{NotConsulted, MayBeUsed, OptedOut} {
			f.Person.OptOut = o
			if got := say(Decide(f)); got != was {
				t.Fatalf("with the opt-out %d: %s, else %s", o, got, was)
			}
		}
	})
}

// NHS SCR FHIR API: the pairs of alert type and reason that may not be, and the hour.
func TestForbiddenAlertsOpenNothing(t *testing.T) {
	good := Glass{Words: "unconscious", From: june, Until: june.Add(MaxGlass)}
	for _, typ := range []AlertType{"0", "1", "2", "3"} {
		for _, why := range []AlertReason{"0", "1", "2", "3", "4", "5", "6", "7"} {
			g := good
			g.Type, g.Reason = typ, why
			pair := string(typ + "/" + AlertType(why))
			want := (typ == "1" || typ == "2") && why >= "1" && why <= "6" && pair != "1/5" && pair != "2/4" && pair != "2/6"
			if err := g.Check(); (err == nil) != want {
				t.Errorf("%s: %v, want allowed %v", pair, err, want)
			}
			f := Facts{Subject: Subject{Role: HospitalDoctor, Organisation: "RX1"}, Purpose: Emergency, Glass: &g, At: june,
				Person: Person{Choices: Choices{{}}}, Relationships: []Relationship{KnownHere}}
			if got := Decide(f).Permit; got != (want && typ == AccessAlert) {
				t.Errorf("%s opens: %v", pair, got)
			}
		}
	}
	for name, spoil := range map[string]func(*Glass, *Facts){
		"longer than an hour": func(g *Glass, _ *Facts) { g.Until = g.From.Add(MaxGlass + 1) },
		"over":                func(g *Glass, f *Facts) { f.At = g.Until },
		"not begun":           func(g *Glass, f *Facts) { f.At = g.From.Add(-1) },
		"without words":       func(g *Glass, _ *Facts) { g.Words = " x " },
		"another heading":     func(g *Glass, f *Facts) { g.Headings = []dataset.Heading{dataset.Allergies}; f.Heading = dataset.Legal },
		"a program":           func(_ *Glass, f *Facts) { f.Channel = Machine },
		"no such activity":    func(_ *Glass, f *Facts) { f.Subject.Activities = []string{ViewRecord, ClaimRelationship} },
		"a receptionist":      func(_ *Glass, f *Facts) { f.Subject.Role = Receptionist },
	} {
		g := good
		g.Type, g.Reason = AccessAlert, EmergencyReason
		f := Facts{Subject: Subject{Role: HospitalDoctor, Organisation: "RX1"}, Purpose: Emergency, Glass: &g, At: june,
			Person: Person{Choices: Choices{{}}}, Relationships: []Relationship{KnownHere}}
		if !Decide(f).Permit {
			t.Fatal("the emergency itself is refused")
		}
		if spoil(&g, &f); Decide(f).Permit {
			t.Errorf("%s: opened", name)
		}
	}
}

func TestNationalRoleCodesAreRead(t *testing.T) {
	for code, want := range map[string]Role{"R8000": HospitalDoctor, "S0010:G0020:R8001": Nurse, "S8002:G8003:R8009": Receptionist, "R0260": GP, "R8014": SocialWorker, "R0001": PrivacyOfficer} {
		if got, ok := RoleOf(code); !ok || got != want {
			t.Errorf("%s is %q (%v), want %s", code, got, ok, want)
		}
	}
	if got, ok := RoleOf("R9999"); ok {
		t.Errorf("an unknown code is %s: it must be nobody", got)
	}
}

func benchFacts() Facts {
	f := Facts{Subject: Subject{Role: HospitalDoctor, Organisation: "RX1", Above: []string{"QSV"}}, Purpose: DirectCare, Relationships: []Relationship{KnownHere},
		Source: &Source{Organisation: "RW4", Above: []string{"QSV"}, Release: region.Release{All: true}}, Heading: dataset.Allergies, Item: &Item{}, At: time.Now()}
	for i := range 20 { // the one that counts is the last
		f.Agreements = append(f.Agreements, region.Agreement{ID: fmt.Sprint(i), Parties: []string{"RXA", "RXB", "RXC"}, Purposes: []string{"direct-care"}, AllHeadings: true})
	}
	f.Agreements = append(f.Agreements, region.Agreement{ID: "a", Parties: []string{"RX1", "RW4"}, Purposes: []string{"direct-care"}, AllHeadings: true})
	f.Person.Choices = Choices{{Root: Provision{Permit: true, Purposes: []string{"TREAT"}, Exceptions: []Provision{{Purposes: []string{"TREAT"}, Labels: byCode["PSY"], Data: []Datum{{"authoredby", "Practitioner/a"}}}}}}}
	return f
}

func BenchmarkDecide(b *testing.B) {
	f := benchFacts()
	if !Decide(f).Permit {
		b.Fatal("refused")
	}
	b.ReportAllocs()
	for b.Loop() {
		Decide(f)
	}
}

// BenchmarkFilter decides on a record of 1,000 resources, the facts of each read from its labels.
func BenchmarkFilter(b *testing.B) {
	f := benchFacts()
	items := make([]*Item, 1000)
	for i := range items {
		items[i] = &Item{Labels: []Labels{0, Normal, RestrictedLabel, byCode["PSY"]}[i%4], Authors: []string{"Practitioner/b"}}
	}
	b.ReportAllocs()
	for b.Loop() {
		x, n := NewFilter(f), 0
		for _, it := range items {
			if x.Permits(it) {
				n++
			}
		}
		if n == 0 {
			b.Fatal("nothing is permitted")
		}
	}
}
