package policy

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"tombolo/dataset"
	"tombolo/fhir"
	"tombolo/region"
)

const pcf = "../../shared/data/12-consent-audit-exchange/ihe-pcf-consents"

// The answers of IHE PCF's own examples, as the profile's notes on each tell what an access token may and may not do: 3:5.8.2 basic,
// 3:5.8.3 intermediate ("nothing but"), 3:5.8.4 advanced.
func TestPCFConsentsSayWhatTheProfileSays(t *testing.T) {
	if _, err := os.Stat(pcf); err != nil {
		t.Skip("the public PCF examples are not here: ", err)
	}
	const other, named, privileged = "Practitioner/other", "Practitioner/ex-practitioner", "Group/ex-privilegedUsers"
	treat := func(f *Facts) { f.Purpose = DirectCare }
	as := func(name string) func(*Facts) { return func(f *Facts) { f.Subject.Names = []string{name} } }
	for2 := func(p Purpose) func(*Facts) { return func(f *Facts) { f.Purpose = p } }
	glass := func(f *Facts) {
		f.Purpose = Emergency
		f.Glass = &Glass{Type: AccessAlert, Reason: EmergencyReason, Words: "unconscious", From: f.At, Until: f.At.Add(MaxGlass)}
	}
	file := func(name string) func(*Facts) {
		r := readExample(t, name)
		return func(f *Facts) { f.Item = ItemOf(r, LabelsOf(r)) }
	}
	alcohol, weight := file("Observation-ex-alcoholUse"), file("Observation-ex-weight")
	label := func(codes ...string) func(*Facts) {
		return func(f *Facts) {
			f.Item = &Item{}
			for _, c := range codes {
				f.Item.Labels |= Label("", c)
			}
		}
	}
	by := func(author string) func(*Facts) { return func(f *Facts) { f.Item = &Item{Authors: []string{author}} } }
	during := func(e string) func(*Facts) {
		return func(f *Facts) { f.Item = &Item{Refs: []string{"Encounter/" + e}} }
	}
	for _, c := range []struct {
		file string
		ask  []func(*Facts)
		want answer
	}{
		{"consent", []func(*Facts){treat}, nothing}, // no provision: it only records that there is a policy

		{"consent-basic-reject", []func(*Facts){treat, weight}, denies},
		{"consent-basic-reject", []func(*Facts){for2(Research), weight}, nothing},
		{"consent-basic-treat-infant", []func(*Facts){treat, weight}, permits},
		{"consent-basic-treat-infant", []func(*Facts){for2(Emergency), weight}, permits}, // ETREAT is a kind of TREAT
		{"consent-basic-treat-infant", []func(*Facts){for2(Administration), weight}, permits},
		{"consent-basic-treat-infant", []func(*Facts){for2(Research), weight}, nothing},
		{"consent-expired-treat", []func(*Facts){treat, weight}, nothing},
		{"consent-expired-treat", []func(*Facts){treat, weight, func(f *Facts) { f.At = time.Date(2022, 12, 31, 23, 0, 0, 0, time.UTC) }}, permits},
		{"consent-expired-treat", []func(*Facts){treat, weight, func(f *Facts) { f.At = time.Date(2023, 1, 1, 0, 0, 0, 0, time.UTC) }}, nothing},

		{"consent-intermediate-authoredby", []func(*Facts){treat, by("Practitioner/ex-practitioner")}, permits},
		{"consent-intermediate-authoredby", []func(*Facts){treat, by("Practitioner/ex-author")}, confines},
		{"consent-intermediate-authoredby", []func(*Facts){treat, weight}, confines},
		{"consent-intermediate-authoredby", []func(*Facts){treat}, depends},
		{"consent-intermediate-encounter", []func(*Facts){treat, during("ex-encounter")}, permits},
		{"consent-intermediate-encounter", []func(*Facts){treat, alcohol}, permits}, // it refers to that encounter
		{"consent-intermediate-encounter", []func(*Facts){treat, during("another")}, confines},

		{"dissent-intermediate-break-glass", []func(*Facts){treat, as(privileged), weight}, denies},
		{"dissent-intermediate-break-glass", []func(*Facts){as(other), glass, weight}, denies},
		{"dissent-intermediate-break-glass", []func(*Facts){as(privileged), glass, weight}, permits},

		{"consent-advanced-normal-restricted", []func(*Facts){treat, label("N")}, permits},
		{"consent-advanced-normal-restricted", []func(*Facts){treat, alcohol}, permits},
		{"consent-advanced-normal-restricted", []func(*Facts){treat, label("V")}, confines},
		{"consent-advanced-normal-not-restricted", []func(*Facts){treat, label("N")}, permits},
		{"consent-advanced-normal-not-restricted", []func(*Facts){treat, label()}, permits}, // unlabelled is normal here: sources' defaults are labels too
		{"consent-advanced-normal-not-restricted", []func(*Facts){treat, alcohol}, denies},
		{"consent-advanced-normal-not-restricted", []func(*Facts){as(named), treat, alcohol}, denies},
		{"consent-advanced-normal-focused-restricted", []func(*Facts){as(named), treat, alcohol}, permits},
		{"consent-advanced-normal-focused-restricted", []func(*Facts){as(other), treat, alcohol}, confines},
		{"consent-advanced-normal-focused-restricted", []func(*Facts){as(other), treat, label("N")}, permits},
		{"consent-advanced-normal-focused-restricted", []func(*Facts){as(named), for2(Research), alcohol}, nothing},
		{"consent-advanced-normal-focused-psy-or-sdv", []func(*Facts){as(named), treat, label("R", "PSY")}, permits},
		{"consent-advanced-normal-focused-psy-or-sdv", []func(*Facts){as(named), treat, label("R", "SDV")}, permits},
		{"consent-advanced-normal-focused-psy-or-sdv", []func(*Facts){as(named), treat, label("R", "PSY", "ETHUD")}, confines},
		{"consent-advanced-normal-focused-psy-or-sdv", []func(*Facts){as(named), treat, alcohol}, confines},
		{"consent-advanced-normal-focused-psy-or-sdv", []func(*Facts){as(other), treat, label("R", "PSY")}, confines},
		{"consent-advanced-normal-focused-psy-or-sdv", []func(*Facts){as(other), treat, label("N")}, permits},
	} {
		var s Standing
		s.Take("register", readExample(t, "Consent-ex-"+c.file))
		f := Facts{Subject: Subject{Role: HospitalDoctor, Organisation: "RX1"}, At: day, Heading: "observations", Relationships: []Relationship{KnownHere}}
		for _, set := range c.ask {
			set(&f)
		}
		f.Person = s.Person
		if got := f.Person.Choices.says(&f); got != c.want {
			t.Errorf("%s, for %s by %v, of %+v: says %d, want %d", c.file, f.Purpose, f.Subject.Names, f.Item, got, c.want)
		}
		// And so Decide: what is denied or confined is refused without an emergency; what a consent does not speak of goes by the rest.
		if f.Glass == nil && f.Item != nil && f.Item.Labels&VeryRestricted == 0 && !f.Purpose.Secondary() && f.Purpose != Administration {
			if got := Decide(f); got.Permit == (c.want == denies || c.want == confines) {
				t.Errorf("%s: Decide says %s", c.file, say(got))
			}
		}
	}
	files, _ := filepath.Glob(pcf + "/Consent-*.json")
	if len(files) < 11 {
		t.Errorf("only %d consents were found", len(files))
	}
}

func readExample(t *testing.T, name string) *fhir.Resource {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(pcf, name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	r, err := fhir.Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func consent(fields fhir.M) *fhir.Resource {
	f := fhir.M{"status": "active", "scope": fhir.Code("http://terminology.hl7.org/CodeSystem/consentscope", "patient-privacy", "")}
	for k, v := range fields {
		f[k] = v
	}
	return fhir.New("Consent", "c", f)
}

// Each of a person's choices is its own: an objection is no dissent, SCR permission no objection, the opt-out none of them.
func TestChoicesStaySeparate(t *testing.T) {
	category := func(code string) []fhir.CodeableConcept {
		return []fhir.CodeableConcept{fhir.Code(SystemChoice, code, "")}
	}
	deny := fhir.M{"type": "deny"}
	for code, want := range map[string]Person{
		chosenPDS: {Dissent: true}, chosenSCR: {NoSCR: true}, chosenTypeOne: {TypeOne: true}, "": {Choices: Choices{{ID: "c"}}}, "something-new": {Choices: Choices{{ID: "c"}}},
	} {
		var s Standing
		s.Take("register", consent(fhir.M{"category": category(code), "provision": deny}))
		if s.Dissent != want.Dissent || s.NoSCR != want.NoSCR || s.TypeOne != want.TypeOne || len(s.Choices) != len(want.Choices) || s.OptOut != NotConsulted || s.Capable {
			t.Errorf("%q: %+v", code, s.Person)
		}
	}
	var s Standing
	s.Take("register", consent(fhir.M{"category": category(chosenCapable), "provision": fhir.M{"type": "permit"}}))
	if !s.Capable || len(s.Choices) > 0 {
		t.Errorf("capable: %+v", s.Person)
	}
}

// The NHS Validated Relationships Service's Consent, in the shape of its published examples.
func TestAValidatedRelationshipIsAProxy(t *testing.T) {
	var s Standing
	s.Take("register", consent(fhir.M{"category": []fhir.CodeableConcept{fhir.Code(fhir.SystemActCode, "INFA", "")},
		"provision": fhir.M{"type": "permit", "period": fhir.M{"start": "2025-02-11", "end": "2029-02-11"}, "actor": []fhir.M{{
			"role":      fhir.Code(systemProxyBasis, "parental-responsibility", ""),
			"reference": fhir.M{"identifier": fhir.Identifier{System: fhir.SystemNHSNumber, Value: "9000000019"}}}}}}))
	acts := s.Acting[fhir.SystemNHSNumber+"|9000000019"]
	if len(acts) != 1 {
		t.Fatalf("%+v", s.Acting)
	}
	x := acts[0]
	if x.Source != "register" || x.Basis != Parental || !x.Validated || x.Until.Format("2006-01-02") != "2029-02-12" || len(s.Choices) != 0 {
		t.Errorf("%+v %+v", s.Acting, s.Choices)
	}
}

// A Consent that cannot be understood may have been an objection, and is taken for one.
func TestAConsentThatCannotBeReadIsAnObjection(t *testing.T) {
	deep := fhir.M{"type": "permit"}
	for range maxNesting + 2 {
		deep = fhir.M{"type": "permit", "provision": []fhir.M{deep}}
	}
	for name, provision := range map[string]fhir.M{
		"no type":                {"purpose": []fhir.Coding{{Code: "TREAT"}}},
		"another type":           {"type": "perhaps"},
		"a modifier":             {"type": "permit", "modifierExtension": []fhir.M{{"url": "x", "valueBoolean": true}}},
		"a broken date":          {"type": "permit", "period": fhir.M{"end": "soon"}},
		"an unnamed actor":       {"type": "deny", "actor": []fhir.M{{"role": fhir.CodeableConcept{Text: "them"}}}},
		"too many exceptions":    deep,
		"a broken exception":     {"type": "permit", "provision": []fhir.M{{"type": "no"}}},
		"a heading that is none": {"type": "deny", "class": []fhir.Coding{{System: fhir.SystemHeading, Code: "secrets"}}},
		"a profile for a class":  {"type": "deny", "class": []fhir.Coding{{System: "http://hl7.org/fhir/StructureDefinition", Code: "lipidprofile"}}},
		"a broken data period":   {"type": "permit", "dataPeriod": fhir.M{"start": "x"}},
	} {
		var s Standing
		s.Take("register", consent(fhir.M{"provision": provision}))
		f := Facts{Subject: Subject{Role: Nurse, Organisation: "RX1"}, Purpose: DirectCare, Relationships: []Relationship{KnownHere}, Person: s.Person, At: day}
		if d := Decide(f); d.Permit || !d.Because("objection") {
			t.Errorf("%s: %s", name, say(d))
		}
	}
}

// What stands beside the provision counts too: each code of the scope, what modifies the whole, and who gave the consent.
func TestWhatStandsBesideAProvisionCounts(t *testing.T) {
	deny, scope := fhir.M{"type": "deny"}, "http://terminology.hl7.org/CodeSystem/consentscope"
	open := func(fields fhir.M) bool {
		var s Standing
		s.Take("register", consent(fields))
		return Decide(Facts{Subject: Subject{Role: Nurse, Organisation: "RX1"}, Purpose: DirectCare, Relationships: []Relationship{KnownHere}, Person: s.Person, At: day}).Permit
	}
	for name, c := range map[string]struct {
		fields fhir.M
		open   bool
	}{
		"a local code before that of the scope":   {fhir.M{"scope": fhir.CodeableConcept{Coding: []fhir.Coding{{System: "http://local", Code: "x"}, {System: scope, Code: "patient-privacy"}}}, "provision": deny}, false},
		"consent to treatment says nothing of it": {fhir.M{"scope": fhir.Code(scope, "treatment", ""), "provision": deny}, true},
		"a modifier of the whole":                 {fhir.M{"modifierExtension": []fhir.M{{"url": "x", "valueBoolean": true}}, "provision": fhir.M{"type": "permit"}}, false},
		"rules of its own":                        {fhir.M{"implicitRules": "http://example.org/rules", "provision": fhir.M{"type": "permit"}}, false},
		"a custodian by a second code":            {fhir.M{"provision": fhir.M{"type": "deny", "actor": []fhir.M{{"role": fhir.CodeableConcept{Coding: []fhir.Coding{{Code: "x"}, {Code: "CST"}}}, "reference": ods("RW4")}}}}, true},
		"a recipient":                             {fhir.M{"provision": fhir.M{"type": "deny", "actor": []fhir.M{{"role": fhir.Code("", "IRCP", ""), "reference": ods("RX1")}}}}, false},
	} {
		if got := open(c.fields); got != c.open {
			t.Errorf("%s: open %v", name, got)
		}
	}
	letter := &Item{Type: "DocumentReference", Codes: []string{fhir.SystemLOINC + "|34133-9"}}
	var s Standing
	s.Take("register", consent(fhir.M{"provision": fhir.M{"type": "deny", "class": []fhir.Coding{{System: fhir.SystemLOINC, Code: "34133-9"}}}}))
	f := Facts{Subject: Subject{Role: Nurse, Organisation: "RX1"}, Purpose: DirectCare, Relationships: []Relationship{KnownHere}, Person: s.Person, At: day, Source: &Source{Organisation: "RX1", Release: region.Release{All: true}}, Heading: dataset.Documents}
	x := NewFilter(f)
	if x.Permits(letter) || !x.Permits(&Item{Type: "DocumentReference"}) {
		t.Error("a kind of document is denied, and it alone")
	}
}

func ods(code string) fhir.M {
	return fhir.M{"identifier": fhir.Identifier{System: fhir.SystemODS, Value: code}}
}

// A relationship without a basis that is known, as the service publishes them too, or one that was not verified, lets nobody act for the person, and shuts nobody else out.
func TestARelationshipThatIsNotValidatedShutsNobodyOut(t *testing.T) {
	mother := fhir.M{"identifier": fhir.Identifier{System: fhir.SystemNHSNumber, Value: "9000000111"}}
	granted := []fhir.M{{"url": "https://hl7.org/fhir/5.0/StructureDefinition/extension-Consent.grantee", "valueReference": mother}}
	provision := func(role fhir.CodeableConcept) fhir.M {
		return fhir.M{"type": "permit", "period": fhir.M{"start": "2025-02-11", "end": "2027-02-11"}, "actor": []fhir.M{{"role": role, "reference": mother}}}
	}
	for name, fields := range map[string]fhir.M{
		"an unknown basis": {"extension": granted, "provision": provision(fhir.Code("https://terminology.hl7.org/CodeSystem/v3-NullFlavor", "UNK", ""))},
		"not verified":     {"verification": []fhir.M{{"verified": false}}, "provision": provision(fhir.Code(systemProxyBasis, "parental-responsibility", ""))},
	} {
		var s Standing
		s.Take("register", consent(fields))
		nurse := Facts{Subject: Subject{Role: Nurse, Organisation: "RX1"}, Purpose: DirectCare, Relationships: []Relationship{KnownHere}, Person: s.Person, At: day}
		if d := Decide(nurse); !d.Permit {
			t.Errorf("%s shuts the nurse out: %s", name, say(d))
		}
		parent := Facts{Subject: Subject{Role: Citizen}, Purpose: PatientRequest, Relationships: []Relationship{Proxy}, Person: s.Person, At: day}
		parent.Person.Born = day.AddDate(-5, 0, 0)
		parent.Believed.Proxies, parent.Person.Proxies = []string{"register"}, s.Acting[fhir.SystemNHSNumber+"|9000000111"]
		if d := Decide(parent); d.Permit || !d.Because("proxy") {
			t.Errorf("%s: %s", name, say(d))
		}
	}
}

// Who is denied to act for the person is shut out by it, like anybody whom an objection names, and nobody else is.
func TestADeniedRelationshipIsAnObjectionToThatOne(t *testing.T) {
	var s Standing
	mother := fhir.SystemNHSNumber + "|9000000111"
	s.Take("pas", consent(fhir.M{"provision": fhir.M{"type": "deny", "actor": []fhir.M{{"role": fhir.Code(systemProxyBasis, "parental-responsibility", ""),
		"reference": fhir.M{"identifier": fhir.Identifier{System: fhir.SystemNHSNumber, Value: "9000000111"}}}}}}))
	nurse := Facts{Subject: Subject{Role: Nurse, Organisation: "RX1"}, Purpose: DirectCare, Relationships: []Relationship{KnownHere}, Person: s.Person, At: day}
	if d := Decide(nurse); !d.Permit {
		t.Errorf("it shuts the nurse out: %s", say(d))
	}
	s.Person.Born, s.Person.Proxies = day.AddDate(-5, 0, 0), []Proxyhood{{Source: "register", Basis: Parental, Validated: true}}
	parent := Facts{Subject: Subject{Role: Citizen, Names: []string{mother}}, Purpose: PatientRequest, Relationships: []Relationship{Proxy}, Person: s.Person, At: day, Believed: Believed{Proxies: []string{"register"}}}
	if d := Decide(parent); d.Permit || !d.Because("objection") || d.Because("proxy") {
		t.Errorf("of the mother: %s", say(d))
	}
}

func FuzzConsent(f *testing.F) {
	files, _ := filepath.Glob(pcf + "/Consent-*.json")
	for _, file := range files {
		if data, err := os.ReadFile(file); err == nil {
			f.Add(data)
		}
	}
	f.Add(consent(fhir.M{"provision": fhir.M{"type": "permit", "actor": []fhir.M{{"reference": fhir.M{"reference": "Practitioner/x"}}}}}).Raw())
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := fhir.Parse(data)
		if err != nil {
			return
		}
		var s Standing
		s.Take("register", r)
		facts := Facts{Subject: Subject{Role: Nurse, Organisation: "RX1"}, Purpose: DirectCare, Relationships: []Relationship{KnownHere}, Person: s.Person, At: day, Heading: "problems"}
		if open := Decide(facts).Permit; !open {
			facts.Item = &Item{}
			if Decide(facts).Permit {
				t.Error("one resource is permitted where none is")
			}
		}
	})
}
