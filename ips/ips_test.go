package ips_test

import (
	"strings"
	"testing"
	"time"

	"tombolo/dataset"
	"tombolo/fhir"
	"tombolo/fhir/r4"
	"tombolo/ips"
)

func parse(t *testing.T, text string) *fhir.Resource {
	t.Helper()
	r, err := fhir.Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// document makes a summary, and holds it to what every document is held to: R4's shape and cardinalities, a composition first, and nothing referred to in its sections that is
// not in it.
func document(t *testing.T, parts ...ips.Part) (sections map[string]fhir.Value, composition fhir.Value) {
	t.Helper()
	patient := parse(t, `{"resourceType":"Patient","id":"ann","name":[{"family":"Taylor"}]}`)
	org := parse(t, `{"resourceType":"Practitioner","id":"dr"}`)
	doc := parse(t, string(ips.Document(ips.Record{Patient: patient, Parts: parts, Supporting: map[fhir.Ref]*fhir.Resource{org.Ref(): org},
		At: time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC), Base: "https://x/fhir", Author: "Severn", Version: "1", Notices: []string{"Some <information> may be withheld."}})))
	for _, i := range r4.Check(doc, r4.Whole) {
		t.Errorf("the document is not R4: %v", i)
	}
	in := map[string]bool{}
	for e := range doc.Value().All("entry") {
		r, err := fhir.FromValue(e.Member("resource"))
		if err != nil {
			t.Fatal(err)
		}
		if in[string(r.Ref())] {
			t.Errorf("%s is there twice", r.Ref())
		}
		in[string(r.Ref())] = true
		if e.Text("fullUrl") != "https://x/fhir/"+string(r.Ref()) {
			t.Errorf("the fullUrl of %s is %q", r.Ref(), e.Text("fullUrl"))
		}
	}
	composition = doc.Get("entry.resource")
	if doc.Text("type") != "document" || composition.Text("resourceType") != "Composition" || doc.Text("timestamp") == "" || !strings.HasPrefix(doc.Text("identifier.value"), "urn:uuid:") {
		t.Errorf("not a document: %.300s", doc.Raw())
	}
	sections = map[string]fhir.Value{}
	for s := range composition.All("section") {
		sections[s.Text("code.coding.code")] = s
		if s.Text("title") == "" || s.Text("text.div") == "" || !s.Get("entry").Exists() {
			t.Errorf("a section without title, text or entry: %s", s.Raw())
		}
		for ref := range s.All("entry.reference") {
			if !in[ref.Str()] {
				t.Errorf("%s is referred to and not there", ref.Str())
			}
		}
	}
	if !in["Patient/ann"] || composition.Text("author.reference") == "" || !in[composition.Text("author.reference")] {
		t.Errorf("the subject or author is not there: %v", in)
	}
	return sections, composition
}

const problems, allergies, medicines = "11450-4", "48765-2", "10160-0"

// Absent is not none: of the four states none but a source's own statement is ever told as "none known".
func TestASummaryTellsTheFourStatesApart(t *testing.T) {
	said := map[dataset.State]string{}
	for _, st := range []dataset.State{dataset.NoneRecorded, dataset.NotKnown, dataset.NotShared} {
		p := ips.Part{Heading: dataset.Allergies, State: st}
		sections, _ := document(t, p)
		for code, entry := range map[string]string{problems: "Condition/no-problem-info", allergies: "AllergyIntolerance/no-allergy-info", medicines: "MedicationStatement/no-medication-info"} {
			if got := sections[code].Text("entry.reference"); got != entry {
				t.Errorf("%s: section %s has %q, want %s", st, code, got, entry)
			}
		}
		s := sections[allergies]
		if strings.Contains(string(s.Raw()), "no-known") {
			t.Errorf("%s is told as none known: %s", st, s.Raw())
		}
		said[st] = s.Text("text.div")
		state := ""
		for x := range s.Get("extension").All("extension") {
			if x.Text("url") == "state" {
				state = x.Text("valueCode")
			}
		}
		if state != string(st) {
			t.Errorf("%s stands as %q in the section", st, state)
		}
	}
	if said[dataset.NoneRecorded] == said[dataset.NotKnown] || said[dataset.NotKnown] == said[dataset.NotShared] || said[dataset.NotShared] == said[dataset.NoneRecorded] {
		t.Errorf("two states read alike: %v", said)
	}
	none := parse(t, `{"resourceType":"AllergyIntolerance","id":"a","patient":{"reference":"Patient/ann"},"code":{"coding":[{"system":"http://snomed.info/sct","code":"716186003","display":"No known allergy"}]}}`)
	sections, _ := document(t, ips.Part{Heading: dataset.Allergies, State: dataset.Present, Resources: []*fhir.Resource{none}, Unknown: []string{"Hilltop Surgery"}})
	div := sections[allergies].Text("text.div")
	if sections[allergies].Text("entry.reference") != "AllergyIntolerance/a" || !strings.Contains(div, "No known allergy") || !strings.Contains(div, "Not known from: Hilltop Surgery") {
		t.Errorf("what a source says, with who has not answered: %s", div)
	}
}

// Each entry stands in its section; what was entered in error in none; what turns a meaning round is read first.
func TestASummaryHasItsSections(t *testing.T) {
	about := `"subject":{"reference":"Patient/ann"},`
	rs := func(texts ...string) (out []*fhir.Resource) {
		for _, x := range texts {
			out = append(out, parse(t, strings.Replace(x, "ABOUT", about, 1)))
		}
		return out
	}
	sections, composition := document(t,
		ips.Part{Heading: dataset.Problems, State: dataset.Present, Resources: rs(
			`{"resourceType":"Condition","id":"now",ABOUT"recorder":{"reference":"Practitioner/dr"},"code":{"text":"Asthma <b>"},"clinicalStatus":{"coding":[{"code":"active"}]}}`,
			`{"resourceType":"Condition","id":"then",ABOUT"code":{"text":"Measles"},"clinicalStatus":{"coding":[{"code":"resolved"}]}}`,
			`{"resourceType":"Condition","id":"never",ABOUT"code":{"text":"Gout"},"verificationStatus":{"coding":[{"code":"entered-in-error"}]}}`)},
		ips.Part{Heading: dataset.Medications, State: dataset.Present, Resources: rs(
			`{"resourceType":"MedicationRequest","id":"m","status":"active","intent":"order","doNotPerform":true,ABOUT"medicationCodeableConcept":{"text":"Aspirin"}}`)},
		ips.Part{Heading: dataset.Immunisations, State: dataset.Present, Resources: rs(
			`{"resourceType":"Immunization","id":"i","status":"not-done","patient":{"reference":"Patient/ann"},"vaccineCode":{"text":"BCG"},"occurrenceDateTime":"2020"}`)},
		ips.Part{Heading: dataset.Observations, State: dataset.Present, Resources: rs(
			`{"resourceType":"Observation","id":"bp","status":"final",ABOUT"category":[{"coding":[{"code":"vital-signs"}]}],"code":{"text":"Blood pressure"},"component":[{"code":{"text":"Systolic"},"valueQuantity":{"value":120,"unit":"mmHg"}}]}`,
			`{"resourceType":"Observation","id":"smoke","status":"final",ABOUT"category":[{"coding":[{"code":"social-history"}]}],"code":{"text":"Smoker"},"valueBoolean":false}`)},
		ips.Part{Heading: dataset.Procedures, State: dataset.NotShared, NotShared: []string{"The Trust"}})
	for code, want := range map[string]string{problems: "Condition/now|Asthma &lt;b&gt;", "11348-0": "Condition/then|Measles", medicines: "MedicationRequest/m|DO NOT GIVE: Aspirin",
		"11369-6": "Immunization/i|NOT-DONE: BCG", "8716-3": "Observation/bp|Systolic 120 mmHg", "29762-2": "Observation/smoke|Smoker, false"} {
		ref, words, _ := strings.Cut(want, "|")
		s := sections[code]
		if s.Text("entry.reference") != ref || !strings.Contains(s.Text("text.div"), words) {
			t.Errorf("section %s: %s\nwant %s", code, s.Raw(), want)
		}
	}
	if div := composition.Text("text.div"); !strings.Contains(div, "not known, or not shared: Procedures") || strings.Contains(div, "<information>") {
		t.Errorf("what is left out is not told, or markup is let through: %s", div)
	}
	for _, s := range sections {
		if strings.Contains(string(s.Raw()), "Condition/never") {
			t.Error("what was entered in error is in the summary")
		}
	}
}
