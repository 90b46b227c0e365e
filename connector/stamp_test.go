package connector_test

import (
	"strings"
	"testing"

	"tombolo/connector"
	"tombolo/fhir"
)

var stamper = connector.Stamper{Key: []byte("test")}

func id(typ, original string) string { return stamper.ID("trust", typ, original) }

func TestStampingChangesIdsReferencesAndMetaOnly(t *testing.T) {
	p, e := id("Patient", "P1"), id("Encounter", "E1")
	for _, c := range []struct{ name, from, want string }{
		{"an id, and a meta where there is none", `{"resourceType":"Patient","id":"P1", "active" : true}`,
			`{"resourceType":"Patient","id":"` + p + `", "active" : true,"meta":{"source":"urn:tombolo:source:trust#P1"}}`},
		{"an empty meta", `{"meta":{},"resourceType":"Patient","id":"P1"}`, `{"meta":{"source":"urn:tombolo:source:trust#P1"},"resourceType":"Patient","id":"` + p + `"}`},
		{"a meta that claims what is ours to say", `{"resourceType":"Patient","id":"P1","meta":{"versionId":"9","lastUpdated":"2020-01-01T00:00:00Z","source":"urn:tombolo:source:other","tag":[{"code":"x"}]}}`,
			`{"resourceType":"Patient","id":"` + p + `","meta":{"tag":[{"code":"x"}],"source":"urn:tombolo:source:trust#P1"}}`},
		{"references, also versioned, and ids and metas further in", `{"resourceType":"Encounter","id":"E1","meta":{},"subject":{"reference":"Patient/P1"},"partOf":{"reference":"Encounter/E1/_history/2"},"contact":[{"id":"E1","meta":{"reference":"Patient/P1"}}]}`,
			`{"resourceType":"Encounter","id":"` + e + `","meta":{"source":"urn:tombolo:source:trust#E1"},"subject":{"reference":"Patient/` + p + `"},"partOf":{"reference":"Encounter/` + e + `"},"contact":[{"id":"E1","meta":{"reference":"Patient/` + p + `"}}]}`},
		{"references of other kinds stay", `{"resourceType":"Encounter","id":"E1","meta":{},"a":[{"reference":"#x"},{"reference":"https://other.example/Patient/P1"},{"reference":"urn:uuid:1"},{"reference":"Patient/"},{"reference":"Patient/P1/x"},{"reference":"Patient/P1/_history/1/2"},{"reference":"Nobody/1"}],"url":"Patient/P1"}`,
			`{"resourceType":"Encounter","id":"` + e + `","meta":{"source":"urn:tombolo:source:trust#E1"},"a":[{"reference":"#x"},{"reference":"https://other.example/Patient/P1"},{"reference":"urn:uuid:1"},{"reference":"Patient/"},{"reference":"Patient/P1/x"},{"reference":"Patient/P1/_history/1/2"},{"reference":"Nobody/1"}],"url":"Patient/P1"}`},
		{"an attachment's Binary", `{"resourceType":"Encounter","id":"E1","meta":{},"url":"Binary/B1"}`,
			`{"resourceType":"Encounter","id":"` + e + `","meta":{"source":"urn:tombolo:source:trust#E1"},"url":"Binary/` + id("Binary", "B1") + `"}`},
		{"a national number used as an id is not told", `{"resourceType":"Patient","id":"9990000107","meta":{}}`,
			`{"resourceType":"Patient","id":"` + id("Patient", "9990000107") + `","meta":{"source":"urn:tombolo:source:trust#withheld"}}`},
	} {
		r, err := fhir.Parse([]byte(c.from))
		if err != nil {
			t.Fatal(c.name, err)
		}
		got, err := stamper.Stamp("trust", r)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
		} else if string(got.Raw()) != c.want {
			t.Errorf("%s:\ngot  %s\nwant %s", c.name, got.Raw(), c.want)
		}
		if connector.SourceOf(got) != "trust" {
			t.Errorf("%s: the source is %q", c.name, connector.SourceOf(got))
		}
	}
}

func TestWhatHasNoIdIsNotStamped(t *testing.T) {
	if _, err := stamper.Stamp("trust", fhir.New("Patient", "", nil)); !fhir.Is(err, fhir.Required) {
		t.Errorf("got %v", err)
	}
}

func BenchmarkStamp(b *testing.B) {
	r := fhir.New("Encounter", "E1", fhir.M{"status": "finished", "subject": fhir.Reference{Reference: "Patient/P1"}, "meta": fhir.M{"profile": []string{"https://fhir.hl7.org.uk/StructureDefinition/UKCore-Encounter"}},
		"identifier": []fhir.Identifier{{System: "https://trust.example/visit", Value: "V9"}}, "reasonCode": []fhir.CodeableConcept{{Text: strings.Repeat("Chest pain ", 4)}}})
	b.ReportAllocs()
	for b.Loop() {
		if _, err := stamper.Stamp("trust", r); err != nil {
			b.Fatal(err)
		}
	}
}
