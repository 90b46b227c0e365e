package policy

import (
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"tombolo/fhir"
)

var builtin = NewSensitivity(BuiltInLists(), nil)

// at makes a resource with references, "encounter=e1" or "reasonReference=Condition/x".
func made(ref string, code string, links ...string) *fhir.Resource {
	typ, id, _ := strings.Cut(ref, "/")
	f := fhir.M{"subject": fhir.Reference{Reference: "Patient/p"}, "performer": []fhir.Reference{{Reference: "Practitioner/dr"}}}
	if code != "" {
		f["code"] = fhir.Code(fhir.SystemSNOMED, code, "")
	}
	for _, l := range links {
		name, to, _ := strings.Cut(l, "=")
		have, _ := f[name].([]fhir.Reference)
		f[name] = append(have, fhir.Reference{Reference: to})
	}
	return fhir.New(typ, id, f)
}

const std, benign = "8098009", "37796009"

// A journey through a clinic: everything that tells of it is marked, and nothing that does not.
func TestWhatBelongsToSomethingSensitiveIsSensitive(t *testing.T) {
	for name, c := range map[string]struct{ marked, open []*fhir.Resource }{
		"the visit, its appointment, letter, prescription, referral and results": {
			marked: []*fhir.Resource{made("Condition/c", std, "encounter=Encounter/e"), made("Encounter/e", "", "appointment=Appointment/a"), made("Appointment/a", ""),
				made("DocumentReference/d", "", "context=Encounter/e"), made("MedicationRequest/m", "", "encounter=Encounter/e"), made("ServiceRequest/s", "", "encounter=Encounter/e"),
				made("DiagnosticReport/r", "", "encounter=Encounter/e", "result=Observation/o"), made("Observation/o", "")},
			open: []*fhir.Resource{made("Condition/asthma", benign, "encounter=Encounter/e2"), made("Encounter/e2", ""), made("MedicationRequest/m2", "", "encounter=Encounter/e2"),
				made("Condition/migraine", benign, "encounter=Encounter/e"), made("AllergyIntolerance/nuts", benign, "encounter=Encounter/e"), made("Immunization/mmr", "", "encounter=Encounter/e")},
		},
		"a medicine given for it elsewhere, and its dispensing": {
			marked: []*fhir.Resource{made("Condition/c", std), made("MedicationRequest/m", "", "reasonReference=Condition/c", "encounter=Encounter/gp"), made("Encounter/gp", ""),
				made("MedicationDispense/d", "", "authorizingPrescription=MedicationRequest/m")},
			open: []*fhir.Resource{made("MedicationRequest/other", "", "encounter=Encounter/x"), made("Encounter/x", "")},
		},
		"a plan that lists it does not mark what else it lists": {
			marked: []*fhir.Resource{made("Condition/c", std), made("CarePlan/p", "", "addresses=Condition/c", "addresses=Condition/asthma", "addresses=AllergyIntolerance/nuts")},
			open:   []*fhir.Resource{made("Condition/asthma", benign), made("AllergyIntolerance/nuts", benign)},
		},
		"an allergy that refers to it is not hidden": {
			marked: []*fhir.Resource{made("Condition/c", std)},
			open:   []*fhir.Resource{made("AllergyIntolerance/latex", benign, "extension=Condition/c")},
		},
		"a visit that itself bears the code": {
			marked: []*fhir.Resource{made("Encounter/e", std), made("DocumentReference/d", "", "context=Encounter/e"), made("Binary/b", "", "securityContext=DocumentReference/d")},
			open:   []*fhir.Resource{made("Condition/asthma", benign, "encounter=Encounter/e")},
		},
		"a result of a report, upward": {
			marked: []*fhir.Resource{made("Observation/hiv", "86406008"), made("DiagnosticReport/r", "", "result=Observation/hiv", "basedOn=ServiceRequest/s"), made("ServiceRequest/s", "")},
		},
	} {
		t.Run(name, func(t *testing.T) {
			all := append(append([]*fhir.Resource{}, c.marked...), c.open...)
			labels := builtin.Labels(all)
			for i, r := range all {
				if got, want := labels[i]&RestrictedLabel != 0, i < len(c.marked); got != want {
					t.Errorf("%s marked: %v, want %v", r.Ref(), got, want)
				}
			}
		})
	}
}

// Whatever order a source's entries come in, and however often it is computed, the labels are the same, and never fewer than the source's.
func TestLabelsDoNotDependOnOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		types := []string{"Condition", "Encounter", "MedicationRequest", "DocumentReference", "AllergyIntolerance", "CarePlan", "DiagnosticReport", "Observation", "Appointment", "Medication", "Device", "DeviceUseStatement"}
		n := rapid.IntRange(1, 14).Draw(t, "n")
		refs := make([]string, n)
		for i := range refs {
			refs[i] = fmt.Sprintf("%s/%d", rapid.SampledFrom(types).Draw(t, "type"), i)
		}
		rs := make([]*fhir.Resource, n)
		for i := range rs {
			var links []string
			for range rapid.IntRange(0, 3).Draw(t, "links") {
				links = append(links, "basedOn="+rapid.SampledFrom(refs).Draw(t, "to"))
			}
			rs[i] = made(refs[i], rapid.SampledFrom([]string{std, benign, benign, ""}).Draw(t, "code"), links...)
		}
		want := builtin.Labels(rs)
		order := rapid.Permutation(rangeOf(n)).Draw(t, "order")
		shuffled := make([]*fhir.Resource, n)
		for i, j := range order {
			shuffled[i] = rs[j]
		}
		got := builtin.Labels(shuffled)
		for i, j := range order {
			if got[i] != want[j] {
				t.Fatalf("%s bears %b in one order and %b in another", rs[j].Ref(), want[j], got[i])
			}
			if own := LabelsOf(rs[j]); want[j]&own != own {
				t.Fatalf("%s lost a label", rs[j].Ref())
			}
			if out := Labelled(rs[j], want[j]); LabelsOf(out)|Normal != want[j]|Normal {
				t.Fatalf("%s is written with %b, computed %b", rs[j].Ref(), LabelsOf(out), want[j])
			}
		}
	})
}

func rangeOf(n int) []int {
	out := make([]int, n)
	for i := range out {
		out[i] = i
	}
	return out
}

func TestWhatARegionDecidesOfASet(t *testing.T) {
	hfe := CodeList{Set: "hfe-act", System: fhir.SystemSNOMED, Version: "1", Codes: []string{"63487001"}}
	c := []*fhir.Resource{made("Condition/c", std), made("Procedure/p", "63487001")}
	for way, want := range map[string]Labels{"": RestrictedLabel, "restrict": RestrictedLabel, "withhold": VeryRestricted, "show": 0} {
		s := NewSensitivity(append(BuiltInLists(), hfe), map[string]string{"sexually-transmitted": way, "hfe-act": "show"})
		got := s.Labels(c)
		if got[0]&(RestrictedLabel|VeryRestricted) != want {
			t.Errorf("%q: %b", way, got[0])
		}
		if got[1]&LegallyWithheld == 0 {
			t.Errorf("%q: a region shows what a statute withholds", way)
		}
	}
	if got := builtin.Labels([]*fhir.Resource{fhir.New("Condition", "x", fhir.M{"code": fhir.Code("http://other.example", std, "")})}); got[0] != 0 {
		t.Errorf("another system's code of the same digits marks: %b", got[0])
	}
}

func TestCodeListsAreReadStrictly(t *testing.T) {
	sets := map[string]bool{}
	for _, l := range BuiltInLists() {
		sets[l.Set] = true
		if l.Refset == "" || l.Complete {
			t.Errorf("%s: refset %q, complete %v: the built-in lists name the reference set they are a beginning of", l.Set, l.Refset, l.Complete)
		}
	}
	if len(sets) != 6 {
		t.Errorf("%d sets, want 6", len(sets))
	}
	for text, want := range map[string]string{
		"set: termination\nversion: 1\ncolour: red\n":       "x.codes:3:1:",
		"set: termination\nversion: 1\n\n123 456\tWords\n":  "x.codes:4:4:",
		"set: termination\nversion: 1\n\n1\tA\n1\tB\n":      "x.codes:5:1:",
		"set: something\nversion: 1\n":                      "x.codes:1:1:",
		"set: termination\n":                                "x.codes:1:1:",
		"set: termination\nset: termination\nversion: 1\n":  "x.codes:2:1:",
		"set: termination\nversion: 1\ncomplete: perhaps\n": "x.codes:3:1:",
	} {
		if _, err := ParseList("x.codes", []byte(text)); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
}

func FuzzParseList(f *testing.F) {
	f.Add([]byte("set: termination\nversion: 1\n\n386639001\tTermination of pregnancy\n"))
	f.Add([]byte("\ufeffset: gender\r\nversion: 2\r\ncomplete: yes\r\n\r\n1\t\r\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		l, err := ParseList("f", data)
		if err == nil && (l.Set == "" || l.Version == "") {
			t.Error("a list without set or version was taken")
		}
	})
}

// BenchmarkLabels computes the labels of a record of 1,000 resources of which one is sensitive.
func BenchmarkLabels(b *testing.B) {
	var rs []*fhir.Resource
	for i := range 1000 {
		code := benign
		if i == 500 {
			code = std
		}
		rs = append(rs, made(fmt.Sprintf("Observation/%d", i), code, fmt.Sprintf("encounter=Encounter/%d", i/10)))
	}
	b.ReportAllocs()
	for b.Loop() {
		builtin.Labels(rs)
	}
}

// What a product, specimen or device tells of whoever was given it, whoever was given it has told of them; and being used for something sensitive makes none of
// them sensitive, but for a device that is the person's own.
func TestWhatASensitiveProductIsUsedForIsSensitive(t *testing.T) {
	pill, plain := made("Medication/pill", std), made("Medication/paracetamol", "")
	all := []*fhir.Resource{pill, plain, made("MedicationRequest/a", "", "medicationReference=Medication/pill", "encounter=Encounter/e"), made("Encounter/e", ""),
		made("MedicationDispense/b", "", "authorizingPrescription=MedicationRequest/a"), made("Observation/o", "", "specimen=Specimen/s"), made("Specimen/s", std),
		made("MedicationRequest/kit", "", "medicationReference=Medication/kit"), made("Medication/kit", "", "ingredient=Substance/x"), made("Substance/x", std),
		made("Condition/c", std), made("DeviceUseStatement/u", "", "device=Device/coil", "reasonReference=Condition/c"), made("Device/coil", ""),
		made("MedicationRequest/for-c", "", "medicationReference=Medication/paracetamol", "reasonReference=Condition/c"),
		made("MedicationRequest/headache", "", "medicationReference=Medication/paracetamol"), made("AllergyIntolerance/nuts", "", "extension=Medication/pill"),
		made("Observation/pulse", "", "device=Device/monitor"), made("Device/monitor", ""), made("Observation/hiv", "86406008", "device=Device/monitor")}
	open := map[string]bool{"Medication/paracetamol": true, "MedicationRequest/headache": true, "AllergyIntolerance/nuts": true, "Observation/pulse": true, "Device/monitor": true}
	for i, l := range builtin.Labels(all) {
		if got := l&RestrictedLabel != 0; got == open[string(all[i].Ref())] {
			t.Errorf("%s marked: %v", all[i].Ref(), got)
		}
	}
}
