package gpconnect

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"tombolo/fhir"
)

// again converts to STU3 and back to R4.
func again(t *testing.T, done *Converted) (*Converted, []Returned) {
	t.Helper()
	all := append([]*fhir.Resource{done.Patient}, done.Content...)
	for _, s := range done.Sections {
		all = append(all, s.List)
	}
	back := Return(all)
	var entries []fhir.M
	for _, r := range back {
		if r.Raw != nil {
			entries = append(entries, fhir.M{"resource": r.Raw})
		}
	}
	v, err := fhir.ParseValue(fhir.JSON(fhir.M{"resourceType": "Bundle", "type": "collection", "entry": entries}))
	if err != nil {
		t.Fatal(err)
	}
	return convert(t, v), back
}

// plainly is a resource without what the way there and back may change: order of members, profile, our own tags.
func plainly(r *fhir.Resource, lost []string) string {
	var m map[string]any
	_ = json.Unmarshal(r.Raw(), &m)
	delete(m, "meta")
	for _, l := range lost {
		name, _, _ := strings.Cut(l, " ")
		delete(m, name)
	}
	if list, ok := m["extension"].([]any); ok { // their order says nothing
		slices.SortFunc(list, func(a, b any) int { return strings.Compare(string(fhir.JSON(a)), string(fhir.JSON(b))) })
	}
	return string(fhir.JSON(m))
}

// There and back again: what goes out in STU3 and is read again is what it was, but for what is named as lost.
func TestThereAndBackAgain(t *testing.T) {
	for _, name := range fixtures {
		if name == "appointments" { // they have no place in a structured record
			continue
		}
		first := convert(t, fixture(t, name))
		second, back := again(t, first)
		lost, refused := map[string][]string{}, map[string]string{}
		for _, r := range back {
			lost[string(r.From.Ref())], refused[string(r.From.Ref())] = r.Lost, r.Refused
		}
		for _, r := range first.Content {
			if why := refused[string(r.Ref())]; why != "" {
				if r.Text("modifierExtension.url") == "" {
					t.Errorf("%s: %s was refused: %s", name, r, why)
				}
				continue
			}
			i := slices.IndexFunc(second.Content, func(o *fhir.Resource) bool { return o.Ref() == r.Ref() })
			if i < 0 {
				t.Errorf("%s: %s did not come back", name, r)
				continue
			}
			a, b := plainly(r, lost[string(r.Ref())]), plainly(second.Content[i], lost[string(r.Ref())])
			if a != b {
				t.Errorf("%s: %s came back as another (lost %v)\n%s\n%s", name, r, lost[string(r.Ref())], a, b)
			}
		}
	}
}

func TestWhatSTU3CannotSayIsRefused(t *testing.T) {
	for name, raw := range map[string]string{
		"a medicine of which nobody knows whether it is taken": `{"resourceType":"MedicationStatement","id":"1","status":"unknown"}`,
		"a medicine that must not be given":                    `{"resourceType":"MedicationRequest","id":"1","status":"active","intent":"order","doNotPerform":true}`,
		"something not to be done":                             `{"resourceType":"ServiceRequest","id":"1","status":"active","intent":"order","doNotPerform":true}`,
		"a modifier":                                           `{"resourceType":"Condition","id":"1","modifierExtension":[{"url":"x","valueBoolean":true}]}`,
		"a care plan":                                          `{"resourceType":"CarePlan","id":"1"}`,
	} {
		r, err := fhir.Parse([]byte(raw))
		if err != nil {
			t.Fatal(err)
		}
		if got := Return([]*fhir.Resource{r})[0]; got.Refused == "" || got.Raw != nil {
			t.Errorf("%s: told as %s", name, got.Raw)
		}
	}
	r, _ := fhir.Parse([]byte(`{"resourceType":"Immunization","id":"1","status":"not-done","vaccineCode":{"text":"x"},"patient":{"reference":"Patient/1"},"programEligibility":[{"text":"y"}]}`))
	got := Return([]*fhir.Resource{r})[0]
	if !strings.Contains(string(got.Raw), `"notGiven":true`) || !slices.Equal(got.Lost, []string{"programEligibility"}) {
		t.Errorf("%s lost %v", got.Raw, got.Lost)
	}
}

func FuzzReturn(f *testing.F) {
	f.Add([]byte(`{"resourceType":"Observation","id":"o","note":[7,{"text":1}],"hasMember":"x","component":[null],"extension":[{"url":"http://hl7.org/fhir/3.0/StructureDefinition/extension-Observation.related","extension":{}}]}`))
	f.Add([]byte(`{"resourceType":"MedicationRequest","id":"m","intent":7,"courseOfTherapyType":{"coding":{}},"dosageInstruction":{"doseAndRate":[[]]},"meta":[],"extension":[{"url":"https://fhir.hl7.org.uk/StructureDefinition/Extension-UKCore-MedicationRepeatInformation","extension":[{"url":"numberOfPrescriptionsIssued"}]}]}`))
	f.Add([]byte(`{"resourceType":"ServiceRequest","id":"pr-","note":[{"text":null}],"requester":[],"code":null}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := fhir.Parse(data)
		if err != nil {
			return
		}
		for _, out := range Return([]*fhir.Resource{r}) {
			if (out.Raw == nil) == (out.Refused == "") {
				t.Fatal("neither told nor refused, or both")
			}
			if out.Raw != nil {
				if _, err := fhir.ParseValue(out.Raw); err != nil {
					t.Fatal(err)
				}
			}
		}
	})
}
