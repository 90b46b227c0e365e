package web

import (
	"strings"
	"testing"

	"tombolo/fhir"
	"tombolo/gather"
)

// What bears a mark is read as the mark says; what may mean the opposite is not told at all, nowhere on the page.
func TestMarksAreObeyed(t *testing.T) {
	const tag = `"meta":{"tag":[{"system":"https://tombolo.dev/CodeSystem/reading","code":"`
	for _, c := range []struct {
		what, resource string
		says, never    []string
		opens          bool
	}{
		{"an allergy under a modifier", `{"resourceType":"AllergyIntolerance","id":"a","code":{"text":"Penicillin"},"criticality":"high","note":[{"text":"rash"}],"modifierExtension":[{"url":"https://x/not","valueBoolean":true}]}`,
			[]string{"Allergy intolerance: see the source", "See source", "Read it in the system"}, []string{"Penicillin", "rash", "High risk"}, false},
		{"a modifier within", `{"resourceType":"MedicationRequest","id":"a","medicationCodeableConcept":{"text":"Warfarin"},"dosageInstruction":[{"text":"one daily","modifierExtension":[{"url":"https://x/not"}]}]}`,
			[]string{"See source"}, []string{"Warfarin", "one daily"}, false},
		{"none known, under a modifier", `{"resourceType":"AllergyIntolerance","id":"a","code":{"coding":[{"system":"http://snomed.info/sct","code":"716186003"}]},"implicitRules":"https://x"}`,
			[]string{"See source"}, []string{"No known", "knows of none"}, false},
		{"marked by its connector", `{"resourceType":"Immunization","id":"a",` + tag + `see-source"}]},"vaccineCode":{"text":"MMR"}}`, []string{"See source"}, []string{"MMR"}, false},
		{"a lost code", `{"resourceType":"AllergyIntolerance","id":"a",` + tag + `transfer-degraded"}]},"code":{"text":"SEPTRIN - rash"}}`, []string{"SEPTRIN - rash", "Code lost in a transfer"}, nil, false},
		{"an old code", `{"resourceType":"Condition","id":"a",` + tag + `legacy-code"}]},"code":{"text":"Raised BP"}}`, []string{"Raised BP", "Old code"}, nil, false},
		{"a document without a file", `{"resourceType":"DocumentReference","id":"a",` + tag + `placeholder"}]},"description":"Letter","content":[{"attachment":{"title":"The file was lost"}}]}`,
			[]string{"Letter", "No file", "The file was lost"}, []string{"in a new tab"}, false},
		{"a document with one", `{"resourceType":"DocumentReference","id":"a","description":"Letter","content":[{"attachment":{"url":"Binary/1"}}]}`, []string{"Letter", "in a new tab"}, []string{"No file"}, true},
	} {
		r, err := fhir.Parse([]byte(c.resource))
		if err != nil {
			t.Fatal(err)
		}
		e := gather.Entry{Lead: r, Members: []gather.Member{{Resource: r, Source: "s", Name: "Hilltop Surgery"}}}
		l := teller{rec: &gather.Record{At: today}, clear: true}.line("", &e)
		site, err := New(Options{Records: &fakeRecords{}, Access: testAccess(t), Looks: fakeLooks{}, Desk: fakeDesk{}})
		if err != nil {
			t.Fatal(err)
		}
		page, err := site.fragment("line", l)
		_ = site.Close()
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range c.says {
			if !strings.Contains(page, s) {
				t.Errorf("%s: the line does not say %q: %s", c.what, s, page)
			}
		}
		for _, s := range c.never {
			if strings.Contains(strings.ToLower(page), strings.ToLower(s)) {
				t.Errorf("%s: the line says %q: %s", c.what, s, page)
			}
		}
		if (l.Document != "") != c.opens {
			t.Errorf("%s: it opens: %v", c.what, l.Document != "")
		}
	}
}

// A consultation whose lists go in a circle is laid out once.
func TestAConsultationInACircle(t *testing.T) {
	list := func(id, title, refs string) gather.Entry {
		r, err := fhir.Parse([]byte(`{"resourceType":"List","id":"` + id + `","title":"` + title + `","code":{"coding":[{"code":"25851000000105"}]},"entry":[` + refs + `]}`))
		if err != nil {
			t.Fatal(err)
		}
		return gather.Entry{Lead: r, Members: []gather.Member{{Resource: r, Source: "s", Name: "s"}}}
	}
	note, _ := fhir.Parse([]byte(`{"resourceType":"Observation","id":"n","code":{"coding":[{"code":"37331000000100"}]},"note":[{"text":"words"}]}`))
	enc, _ := fhir.Parse([]byte(`{"resourceType":"Encounter","id":"e"}`))
	e := gather.Entry{Lead: enc, Members: []gather.Member{{Resource: enc, Source: "s", Name: "s"}}, Related: []gather.Entry{
		list("a", "A", `{"item":{"reference":"List/b"}},{"item":{"reference":"Observation/n"}}`), list("b", "B", `{"item":{"reference":"List/c"}}`), list("c", "C", `{"item":{"reference":"List/b"}}`),
		{Lead: note, Members: []gather.Member{{Resource: note, Source: "s", Name: "s"}}}}}
	rec := &gather.Record{At: today, Sections: []gather.Section{{Heading: "encounters", Entries: []gather.Entry{e}}}}
	l := teller{rec: rec, clear: true, all: byRef(rec)}.line("encounters", &e)
	if len(l.Topics) != 1 || len(l.Topics[0].Items) != 1 || l.Topics[0].Items[0].Text != "words" || len(l.Related) != 0 {
		t.Errorf("laid out as %+v, beside %d", l.Topics, len(l.Related))
	}
}
