package gpconnect

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"tombolo/fhir"
)

// everything is what every fixture and public sample becomes.
func everything(t *testing.T) map[string]*Converted {
	t.Helper()
	out := map[string]*Converted{}
	bundles := map[string]fhir.Value{}
	for _, name := range fixtures {
		bundles["testdata/"+name] = fixture(t, name)
	}
	for name, raw := range samples(t) {
		if v, err := fhir.ParseValue(raw); err == nil {
			bundles[name] = v
		}
	}
	for name, v := range bundles {
		done, err := Convert(v)
		if err != nil { // appointments and slots come without a patient
			done, err = convertAny(v)
		}
		if err == nil {
			out[name] = done
		}
	}
	return out
}

// resources are all that came of a bundle.
func (done *Converted) resources() []*fhir.Resource {
	all := slices.Clone(done.Content)
	if done.Patient != nil {
		all = append(all, done.Patient)
	}
	for _, s := range done.Sections {
		all = append(all, s.List)
	}
	return all
}

// What comes out is R4, and UK Core, in its elements, their number, their types and the codes that they must have. Where it is not, that is
// because the practice did not send what is demanded, and the report names each such place, no more and no fewer: nothing was made up
// to please a validator.
func TestWhatComesOutIsR4(t *testing.T) {
	defs := defined(t)
	checked, lacks := 0, map[string]bool{}
	for name, done := range everything(t) {
		faults := map[string]bool{}
		for _, r := range done.resources() {
			checked++
			for f := range defs.check(r.Value()) {
				faults[f.String()] = true
				if f.what != faultMissing && f.what != faultCode {
					t.Errorf("%s: %s: %s", name, r, f)
				}
			}
		}
		said := map[string]bool{}
		for _, l := range done.Lacks {
			lacks[l.Text[:strings.IndexByte(l.Text+"(", '(')]] = true
			if l.Type != fhir.Invariant && l.Type != fhir.ValueError { // TestInvariantsThatAreBrokenAreReported
				said[lackOf(l)] = true
			}
		}
		if !maps.Equal(faults, said) {
			t.Errorf("%s: the definitions find %v, the report says %v", name, slices.Sorted(maps.Keys(faults)), slices.Sorted(maps.Keys(said)))
		}
	}
	t.Logf("%d resources were held to the definitions of R4 and UK Core", checked)
	for _, m := range slices.Sorted(maps.Keys(lacks)) {
		t.Logf("some practice's report: %s", m)
	}
	if checked < 2000 {
		t.Errorf("only %d resources were looked at", checked)
	}
}

func (f fault) String() string { return f.at + ": " + f.what }

// lackOf is a line of the report as a fault.
func lackOf(is *fhir.Issue) string {
	f := fault{is.Expression, faultMissing}
	if is.Type == fhir.CodeInvalid {
		f.what = faultCode
	}
	return f.String()
}

// Whatever is taken out of a record, or put in a place of a code, the report and the definitions agree on what that leaves it short of.
func TestEveryLackIsReported(t *testing.T) {
	defs := defined(t)
	kinds := map[string]bool{}
	for _, name := range fixtures {
		whole := fixture(t, name)
		for _, mutant := range mutants(whole) {
			v, err := fhir.ParseValue(mutant)
			if err != nil {
				t.Fatal(err)
			}
			done, err := Convert(v)
			if err != nil {
				continue
			}
			faults, said := map[string]bool{}, map[string]bool{}
			for _, r := range done.resources() {
				for f := range defs.check(r.Value()) {
					if f.what == faultMissing || f.what == faultCode {
						faults[f.String()] = true
					}
				}
			}
			for _, l := range done.Lacks {
				if l.Type == fhir.Invariant || l.Type == fhir.ValueError {
					continue
				}
				said[lackOf(l)] = true
				kinds[lackOf(l)] = true
			}
			// What the report says beyond that, of slices and extensions, is held to the profiles: see heldTo.
			maps.DeleteFunc(faults, func(f string, _ bool) bool { return said[f] })
			if len(faults) > 0 {
				t.Errorf("%s: the definitions find %v, the report says %v", name, slices.Sorted(maps.Keys(faults)), slices.Sorted(maps.Keys(said)))
			}
		}
	}
	t.Logf("%d kinds of lack were reported", len(kinds))
	if len(kinds) < 40 {
		t.Errorf("only %d kinds: %v", len(kinds), slices.Sorted(maps.Keys(kinds)))
	}
}

// mutants are a document with each kind of member left out, and each kind of text replaced, once.
func mutants(whole fhir.Value) (out [][]byte) {
	kinds := map[string]bool{}
	var walk func(v fhir.Value, path string)
	walk = func(v fhir.Value, path string) {
		for m := range v.Children() {
			p := path
			if m.Key() != "" {
				p += "." + m.Key()
			}
			if typ := m.Text("resourceType"); typ != "" {
				p = typ
			}
			if m.Key() != "" && !kinds[p] && p != ".entry" && m.Key() != "resourceType" {
				kinds[p] = true
				at := m.Raw()
				change := func(to string) {
					n := 0
					out = append(out, whole.Rewrite(func(x fhir.Value) ([]byte, bool) {
						if n == 0 && len(x.Raw()) > 0 && &x.Raw()[0] == &at[0] {
							n++
							return []byte(to), true
						}
						return nil, false
					}))
				}
				change("null")
				if m.IsString() {
					change(`"zzz"`)
				}
			}
			walk(m, p)
		}
	}
	walk(whole, "")
	return out
}

// demands.txt is what the definitions demand, no more and no less. Draw it anew with -update.
func TestDemandsAreThoseOfTheDefinitions(t *testing.T) {
	d := defined(t)
	profiles := map[string]string{}
	for _, f := range shapes {
		profiles[f.to] = "https://fhir.hl7.org.uk/StructureDefinition/" + f.profile
	}
	var lines []string
	for typ, profile := range profiles {
		lines = append(lines, d.demanded(profile, typ, typ, typ, 0)...)
	}
	slices.Sort(lines)
	want := "# Drawn from the published definitions of FHIR R4 4.0.1 and UK Core by TestDemandsAreThoseOfTheDefinitions. See lacks.go.\n" +
		strings.Join(slices.Compact(lines), "\n") + "\n"
	if *update {
		if err := os.WriteFile("demands.txt", []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if demandsText != want {
		t.Error("demands.txt is not what the definitions demand; look at them, and draw it anew with -update")
	}
}

// demanded is the lines of demands.txt for one element and those in it.
func (d *definitions) demanded(profile, typ, path, at string, depth int) (lines []string) {
	for p, e := range d.types[typ] {
		rest, ok := strings.CutPrefix(p, path+".")
		if !ok || strings.Contains(rest, ".") || rest == "extension" || rest == "modifierExtension" || rest == "contained" || rest == "id" {
			continue
		}
		by := "R4"
		if e.Min == 0 {
			by = "UK Core"
		}
		if e = d.constrained(profile, e); e.Min > 0 {
			lines = append(lines, at+"."+rest+" "+by)
		}
		url, _, _ := strings.Cut(e.Binding.ValueSet, "|")
		set := d.sets[url]
		for _, t := range e.Type {
			name := rest
			if stem, choice := strings.CutSuffix(rest, "[x]"); choice {
				name = stem + strings.ToUpper(t.Code[:1]) + t.Code[1:]
			}
			if e.Binding.Strength == "required" && set != nil && !set.open {
				switch t.Code {
				case "code":
					lines = append(lines, at+"."+name+" code "+strings.Join(slices.Sorted(maps.Keys(set.codes)), ","))
				case "CodeableConcept", "Coding":
					lines = append(lines, at+"."+name+" code "+strings.Join(slices.Sorted(maps.Keys(set.full)), ","))
				}
			}
			switch {
			case depth > 4:
			case t.Code == "BackboneElement" || t.Code == "Element":
				lines = append(lines, d.demanded(profile, typ, p, at+"."+name, depth+1)...)
			case d.types[t.Code] != nil && t.Code != "Reference" && t.Code != "Resource" && t.Code != "Meta":
				lines = append(lines, d.demanded("", t.Code, t.Code, at+"."+name, depth+1)...)
			}
		}
	}
	return lines
}

// The names under which extensions and profiles go out are those that UK Core has.
func TestNamesOfUKCore(t *testing.T) {
	dir := filepath.Join(filepath.Dir(sharedData(t)), "02-fhir-definitions", "ukcore-stu3", "structuredefinitions")
	if _, err := os.Stat(dir); err != nil {
		t.Skip("the UK Core definitions are not here: skipped")
	}
	exists := func(name string) {
		t.Helper()
		if _, err := os.Stat(filepath.Join(dir, name+".xml")); err != nil {
			t.Errorf("UK Core has no %s", name)
		}
	}
	for _, to := range sameInUKCore {
		exists("Extension-UKCore-" + to)
	}
	for _, f := range shapes {
		if f.profile != "" {
			exists(f.profile)
		}
	}
}

// What a practice's record breaks of R4's invariants is reported with its place and key, and left as the practice wrote it.
func TestInvariantsThatAreBrokenAreReported(t *testing.T) {
	defs := defined(t)
	for _, c := range []struct{ key, at, resource string }{
		{"ait-1", "AllergyIntolerance", `{"resourceType":"AllergyIntolerance","id":"x","code":{"text":"a"}}`},
		{"ait-2", "AllergyIntolerance", `{"resourceType":"AllergyIntolerance","id":"x","clinicalStatus":"active","verificationStatus":"entered-in-error"}`},
		{"con-1", "Condition", `{"resourceType":"Condition","id":"x","stage":{"id":"a"}}`},
		{"con-2", "Condition", `{"resourceType":"Condition","id":"x","evidence":[{"id":"a"}]}`},
		{"obs-3", "Observation", `{"resourceType":"Observation","id":"x","referenceRange":[{"appliesTo":[{"text":"women"}]}]}`},
		{"org-2", "Organization", `{"resourceType":"Organization","id":"x","name":"a","address":[{"use":"home","city":"b"}]}`},
		{"org-3", "Organization", `{"resourceType":"Organization","id":"x","name":"a","telecom":[{"use":"home","system":"phone","value":"1"}]}`},
		{"app-1", "Appointment", `{"resourceType":"Appointment","id":"x","status":"proposed","participant":[{"status":"accepted"}]}`},
		{"app-4", "Appointment", `{"resourceType":"Appointment","id":"x","status":"proposed","extension":[{"url":"https://fhir.nhs.uk/STU3/StructureDefinition/Extension-GPConnect-AppointmentCancellationReason-1","valueString":"ill"}]}`},
		{"con-4", "Condition", `{"resourceType":"Condition","id":"x","clinicalStatus":"active","abatementDateTime":"2020-01-01"}`},
		{"con-5", "Condition", `{"resourceType":"Condition","id":"x","clinicalStatus":"active","verificationStatus":"entered-in-error"}`},
		{"obs-6", "Observation", `{"resourceType":"Observation","id":"x","status":"final","valueString":"a","dataAbsentReason":{"text":"b"}}`},
		{"lst-1", "List", `{"resourceType":"List","id":"x","mode":"snapshot","entry":[{"item":{"display":"a"}}],"emptyReason":{"text":"b"}}`},
		{"lst-2", "List", `{"resourceType":"List","id":"x","mode":"snapshot","entry":[{"deleted":true,"item":{"display":"a"}}]}`},
		{"lst-3", "List", `{"resourceType":"List","id":"x","mode":"snapshot","entry":[{"date":"2020","item":{"display":"a"}}]}`},
		{"fhs-1", "FamilyMemberHistory", `{"resourceType":"FamilyMemberHistory","id":"x","ageString":"50","bornString":"1950"}`},
		{"fhs-2", "FamilyMemberHistory", `{"resourceType":"FamilyMemberHistory","id":"x","estimatedAge":true}`},
		{"org-1", "Organization", `{"resourceType":"Organization","id":"x","active":true}`},
		{"app-2", "Appointment", `{"resourceType":"Appointment","id":"x","status":"proposed","start":"2020-01-01T10:00:00Z"}`},
		{"app-3", "Appointment", `{"resourceType":"Appointment","id":"x","status":"booked"}`},
		{"ext-1", "Location.extension", `{"resourceType":"Location","id":"x","extension":[{"url":"https://x/y"}]}`},
		{"per-1", "Encounter.period", `{"resourceType":"Encounter","id":"x","status":"finished","period":{"start":"2021","end":"2020-01-01"}}`},
		{"qty-3", "Observation.valueQuantity", `{"resourceType":"Observation","id":"x","valueQuantity":{"value":1,"code":"kg"}}`},
		{"cpt-2", "Location.telecom", `{"resourceType":"Location","id":"x","telecom":[{"value":"1"}]}`},
		{"att-1", "DocumentReference.content.attachment", `{"resourceType":"DocumentReference","id":"x","content":[{"attachment":{"data":"QQ=="}}]}`},
		{"rng-2", "Observation.valueRange", `{"resourceType":"Observation","id":"x","valueRange":{"low":{"value":2},"high":{"value":1}}}`},
		{"pat-1", "Patient", ""},
	} {
		patient := `{"resource":{"resourceType":"Patient","id":"1"}},`
		if c.key == "pat-1" {
			patient, c.resource = "", `{"resourceType":"Patient","id":"1","contact":[{"gender":"male"}]}`
		}
		v, err := fhir.ParseValue([]byte(`{"resourceType":"Bundle","entry":[` + patient + `{"resource":` + c.resource + `}]}`))
		if err != nil {
			t.Fatal(err)
		}
		var said []string
		for _, l := range convert(t, v).Lacks {
			if l.Type == fhir.Invariant {
				said = append(said, l.Expression+" "+l.Text)
			}
		}
		if len(said) != 1 || !strings.HasPrefix(said[0], c.at+" ") || !strings.Contains(said[0], c.key+":") {
			t.Errorf("%s: the report says %q", c.key, said)
		}
		if typ, _, _ := strings.Cut(c.at, "."); !defs.constraint(c.key) {
			t.Errorf("%s of %s is no invariant of R4 that must hold", c.key, typ)
		}
	}
}

// constraint reports whether R4 has an invariant of that key that must hold.
func (d *definitions) constraint(key string) bool {
	for _, elements := range d.types {
		for _, e := range elements {
			for _, c := range e.Constraint {
				if c.Key == key && c.Severity == "error" {
					return true
				}
			}
		}
	}
	return false
}
