package fhir

import (
	"bytes"
	"encoding/json"
	"testing"
)

func byEncodingJSON(t *testing.T, v any) string {
	t.Helper()
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		t.Fatal(err)
	}
	return string(bytes.TrimRight(b.Bytes(), "\n"))
}

// Whatever is written directly is written as encoding/json would.
func TestValuesAreWrittenAsTheStandardLibraryWritesThem(t *testing.T) {
	odd := []string{"", "plain", `"quoted\`, "a<b>&c", "é\u2028\u2029", "tab\tline\n\x00\x7f", "bad\xff", "a\xffb", "😀", "Zoë Ærø", "a\x01b\nc", "x\u2029é"}
	var values []any
	for _, s := range odd {
		period, concept := &Period{Start: s, End: "2026"}, CodeableConcept{Text: s, Coding: []Coding{{System: s, Version: s, Code: s, Display: s, UserSelected: s != ""}, {}}}
		id := Identifier{Use: s, Type: &concept, System: s, Value: s, Period: period}
		values = append(values, s, Ref(s), []string{s, s}, M{s: s, "b": 1, "a": true, "nothing": nil}, []M{{"x": s}, nil, {}}, []any{s, 1.5, nil, M{}},
			concept, []CodeableConcept{concept, {}}, concept.Coding[0], id, []Identifier{id, {}, {Value: s, Extension: json.RawMessage(`[{"url":"x y"}]`)}},
			Reference{Reference: s, Type: s, Identifier: &id, Display: s}, []Reference{{}, {Display: s}}, HumanName{Use: s, Text: s, Family: s, Given: []string{s}, Prefix: odd, Suffix: []string{}, Period: period},
			[]HumanName{{}, {Period: &Period{}}}, *period, &concept, Address{Line: []string{s}}, []Address{{}, {Use: s, Type: s, Text: s, Line: []string{s, s}, City: s, District: s, PostalCode: s, Country: s, Period: period}},
			ContactPoint{System: s, Value: s, Use: s}, []ContactPoint{{}, {Value: s}}, Quantity{Value: "1.50", Unit: s}, Quantity{Comparator: s, Unit: s, System: s, Code: s},
			[]Annotation{{Text: s}}, Attachment{ContentType: s})
	}
	values = append(values, json.Number("0.50"), json.Number("-1e9"), json.Number(""), Quantity{Value: "1.0", Comparator: "<"}, []Address(nil), []ContactPoint(nil))
	values = append(values, true, false, 0, -17, 3.25, int64(5), nil, M(nil), []M(nil), []string(nil), []any(nil), []Coding(nil), []CodeableConcept{}, []Identifier(nil), (*Period)(nil),
		json.RawMessage(nil), json.RawMessage(`{"a":[1,2.50]}`), json.RawMessage(` { "a" : "b  c" } `), json.RawMessage("[\n]"))
	for _, v := range values {
		if got, want := string(mustJSON(v)), byEncodingJSON(t, v); got != want {
			t.Errorf("%T: got\n%s\nwant\n%s", v, got, want)
		}
		in := M{"in": v}
		if got, want := string(mustJSON(in)), byEncodingJSON(t, in); got != want {
			t.Errorf("%T inside: got\n%s\nwant\n%s", v, got, want)
		}
	}
}

func BenchmarkNew(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		New("Patient", "7f3a", M{"identifier": []Identifier{{System: SystemNHSNumber, Value: "9990000107"}, {System: "https://trust.example/mrn", Value: "RX100001"}},
			"name": []HumanName{{Use: "official", Family: "Taylor", Given: []string{"Margaret"}, Prefix: []string{"Mrs"}}}, "gender": "female", "birthDate": "1948-03-12",
			"maritalStatus": Code("http://terminology.hl7.org/CodeSystem/v3-MaritalStatus", "M", "Married"), "managingOrganization": Reference{Type: "Organization", Identifier: &Identifier{System: SystemODS, Value: "RX1"}}})
	}
}
