package lookout

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"tombolo/fhir"
	"tombolo/region"
)

func TestMain(m *testing.M) { os.Exit(Main(m)) }

// What of a resource is looked for, and what is not.
func TestWhatIsConfidential(t *testing.T) {
	for what, c := range map[string]struct {
		of   *fhir.Resource
		want []string
	}{
		"a patient": {fhir.New("Patient", "p", fhir.M{"identifier": []fhir.Identifier{{System: fhir.SystemNHSNumber, Value: "9990000107"}, {System: "urn:mrn", Value: "RX100001"}},
			"name": []fhir.HumanName{{Family: "Quintrell", Given: []string{"Ann"}}}, "birthDate": "1948-03-12", "address": []fhir.Address{{Line: []string{"3 Old Ferry Road, Beachley"}}}}),
			[]string{"3 old ferry road, be", "999 000 0107", "9990000107", "rx100001", "quintrell", "1948-03-12"}},
		"a short name beside a given name": {fhir.New("Patient", "p", fhir.M{"name": []fhir.HumanName{{Family: "Lee", Given: []string{"Ann", "Imogen", "Grace", "J"}}}}),
			[]string{"ann lee", "lee ann", "lee, ann", "lee^ann", "ann^lee", "imogen", "grace lee", "lee grace", "lee, grace", "lee^grace", "grace^lee"}},
		"numbers of few figures":                      {fhir.New("Patient", "p", fhir.M{"identifier": []fhir.Identifier{{System: "urn:mrn", Value: "1234"}, {System: "urn:mrn", Value: "MRN-12345"}, {System: "urn:uuid", Value: "3f9aa0c2-11"}}}), []string{"mrn-12345"}},
		"a short name, a child's birthday and a code": {fhir.New("Patient", "p", fhir.M{"name": []fhir.HumanName{{Family: "Lee"}}, "birthDate": "2021-03-12", "gender": "female"}), nil},
		"what was written":                            {fhir.New("Condition", "c", fhir.M{"code": fhir.CodeableConcept{Text: "Fell off the harbour wall"}}), []string{"fell off the harbour"}},
		"one word, which may be anybody's":            {fhir.New("Condition", "c", fhir.M{"code": fhir.CodeableConcept{Text: "Hypercholesterolaemia"}}), nil},
		"a canary within a text":                      {fhir.New("Condition", "c", fhir.M{"code": fhir.CodeableConcept{Text: "Asthma CNRYABCDEFGHIJKLMNOPQRSTUVWXYZ."}}), []string{"cnryabcdefghijklmnopqrstuvwxyz", "asthma cnryabcdefghi"}},
		"a doctor":                                    {fhir.New("Practitioner", "d", fhir.M{"name": []fhir.HumanName{{Family: "Quintrell"}}}), nil},
	} {
		var w words
		w.learn(c.of.Raw())
		slices.Sort(c.want)
		if got := w.all(); !slices.Equal(got, c.want) {
			t.Errorf("%s: got %q, want %q", what, got, c.want)
		}
	}
}

func (w *words) all() (out []string) {
	for words := range w.what {
		out = append(out, words)
	}
	slices.Sort(out)
	return out
}

// What could not be taken is taken apart no further than its lines and fields, and what is in it is looked for all the same.
func TestOfWhatWasHeldTheWordsAreKnown(t *testing.T) {
	for what, c := range map[string]struct {
		raw  string
		want []string
	}{
		"HL7 v2": {"MSH|^~\\&|PAS|RX1|T|N|20260301101500||ADT^Z99|H1|P|2.4\rPID|1||9990000107^^^NHS^NH||Quintrell^Peter||19480312|1\rNTE|1||Weeps when the post is late\r",
			[]string{"19480312", "1948-03-12", "999 000 0107", "9990000107", "peter", "quintrell", "weeps when the post "}},
		"a table":      {"nhs,name,note\n9990000107,X,\"Will not eat fish on Fridays\"\n", []string{"999 000 0107", "9990000107", "will not eat fish on"}},
		"FHIR":         {`{"resourceType":"Condition","code":{"text":"HERON77"}}`, []string{"heron77"}},
		"cut off":      {`{"resourceType":"Condition","code":{"text":"HERON77`, []string{"heron77"}},
		"markup":       {"<Patient><id>x</id><note>Found asleep in the shed</note><n>9990000107</n></Patient>", []string{"999 000 0107", "9990000107", "found asleep in the s"}},
		"no text":      {"\x00\xff\x00\xff", nil},
		"nothing":      {"", nil},
		"a false sum":  {"9990000108", nil},
		"codes, paths": {"http://snomed.info/sct 38341003 C:\\x y/z", nil},
	} {
		var w words
		w.learnRaw([]byte(c.raw))
		for i := range c.want {
			c.want[i] = c.want[i][:min(len(c.want[i]), cut)]
		}
		slices.Sort(c.want)
		if got := w.all(); !slices.Equal(got, c.want) {
			t.Errorf("%s: got %q, want %q", what, got, c.want)
		}
	}
}

// The words that are found are those that a plain search finds, whole, whatever stands around them.
func TestEveryWordIsFoundWhereverItStands(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var w words
		hidden := rapid.SliceOfN(rapid.StringMatching(`[a-c1 ]{6,9}`), 1, 5).Draw(t, "words")
		for _, h := range hidden {
			w.hide(aCanary, strings.ToUpper(h))
		}
		text := rapid.StringMatching(`[a-cA-C1 .]{0,60}`).Draw(t, "text")
		if rapid.Bool().Draw(t, "planted") {
			text += "|" + rapid.SampledFrom(hidden).Draw(t, "one") + "|" + text
		}
		var got, want []string
		for _, f := range w.in(text) {
			got = append(got, f.words)
		}
		lower := strings.ToLower(text)
		for _, h := range hidden {
			for at := range lower {
				if strings.HasPrefix(lower[at:], h) && (at == 0 || !alphanumeric(lower[at-1])) && (at+len(h) == len(lower) || !alphanumeric(lower[at+len(h)])) && !slices.Contains(want, h) {
					want = append(want, h)
				}
			}
		}
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Fatalf("in %q got %q, want %q", text, got, want)
		}
	})
}

// What a region file says, and what is published, is no secret.
func TestWhatIsKnownIsNoSecret(t *testing.T) {
	var told []string
	l := New(Options{Name: "x", Region: &region.Region{ID: "severn", Name: "Quintrell House"}, Report: func(leak string) { told = append(told, leak) }})
	l.Known("MedicationAdministration")
	l.Seed(fhir.New("Patient", "p", fhir.M{"name": []fhir.HumanName{{Family: "Quintrell"}, {Family: "MedicationAdministration"}, {Family: "Oseiku"}}}))
	_, _ = fmt.Fprintln(l.Stream(), "from Quintrell House, MedicationAdministration/1")
	_, _ = fmt.Fprintln(l.Stream(), "of Oseiku")
	l.Close()
	l.Close()
	if len(told) != 1 || !strings.HasPrefix(told[0], "x: the log holds a family name") {
		t.Errorf("said %q", told)
	}
}

// How long it takes to look for the words of a hundred thousand resources.
func BenchmarkLooking(b *testing.B) {
	var w words
	for i := range 100_000 {
		w.hide(freeText, fmt.Sprintf("what was written of number %d", i)[8:])
		w.hide(aNumber, fmt.Sprintf("%010d", 9_000_000_000+i*7919))
	}
	line := strings.Repeat(`time=2026-11-22T19:35:18.814Z level=INFO msg="taken" source=rx1-pas delivery=H1-0000017 took=1.2ms outcome=accepted`+"\n", 10_000)
	b.SetBytes(int64(len(line)))
	for b.Loop() {
		if found := w.in(line); len(found) > 0 {
			b.Fatal(found)
		}
	}
}
