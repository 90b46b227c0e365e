package hl7v2

import (
	"bytes"
	"encoding/json"
	"testing"

	"tombolo/fhir"
)

// What is written straight down is what encoding/json would have written.
func TestResourcesAreWrittenAsEncodingJSONWould(t *testing.T) {
	concept := fhir.CodeableConcept{Coding: []fhir.Coding{{System: "s", Code: "<c>", Display: "d & e", UserSelected: true}}, Text: "\"quoted\" \\ caf\u00e9 \u2028 tab\t"}
	for name, v := range map[string]any{
		"text": "plain", "accents": "Zoë Ærø", "controls": "a\x01b\nc", "bad UTF-8": "a\xffb", "separators": "x\u2029é",
		"flag": true, "no": false, "number": json.Number("0.50"), "raw": json.RawMessage(`{"a":1}`),
		"concept": concept, "concepts": []fhir.CodeableConcept{concept, {}}, "coding": concept.Coding[0], "codings": concept.Coding,
		"identifier":  fhir.Identifier{Use: "old", Type: &concept, System: "s", Value: "v", Extension: json.RawMessage(`[]`), Period: &fhir.Period{Start: "2020"}},
		"identifiers": []fhir.Identifier{{Value: "v"}}, "reference": fhir.Reference{Reference: "a/b", Identifier: &fhir.Identifier{Value: "x"}, Display: "d"},
		"references": []fhir.Reference{{Type: "T"}}, "name": fhir.HumanName{Use: "official", Family: "O'Brien", Given: []string{"A", "B"}, Prefix: []string{"Dr"}, Suffix: []string{"X"}, Text: "t"},
		"names": []fhir.HumanName{{Family: "x"}}, "address": fhir.Address{Use: "home", Line: []string{"1"}, City: "c", District: "d", PostalCode: "p", Country: "c", Period: &fhir.Period{End: "2021"}},
		"telecom": fhir.ContactPoint{System: "phone", Value: "1", Use: "home"}, "quantity": fhir.Quantity{Value: "1.0", Comparator: "<", Unit: "u", System: "s", Code: "c"},
		"list": []any{"a", fhir.M{"b": 1, "a": []string{"x"}}, 7}, "objects": []fhir.M{{"z": "1", "a": "2"}}, "note": []fhir.Annotation{{Text: "n"}}, "attachment": fhir.Attachment{ContentType: "x"},
	} {
		var want bytes.Buffer
		enc := json.NewEncoder(&want)
		enc.SetEscapeHTML(false)
		if err := enc.Encode(v); err != nil {
			t.Fatal(err)
		}
		w := jsonWriter{}
		w.any(v)
		if got := string(w.b); got+"\n" != want.String() {
			t.Errorf("%s is written %s, want %s", name, got, want.String())
		}
	}
}
