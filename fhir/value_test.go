package fhir

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
)

// samples are documents at the edges of what is JSON; each is taken exactly if a second, independent reader takes it.
var samples = []string{
	`{}`, `[]`, `null`, `true`, `-0`, `0`, `-12.50e+3`, `1E-2`, `""`, `"a"`, ` { "a" : [ 1 , {"b":null} , "c" ] } `, "\t\r\n[]\n",
	`{"a":1,"a":2}`, `{"a":1,"\u0061":2}`, `{"a":{"a":1},"b":{"a":1}}`, `{"é":1,"é":2}`, `"\ud83d\ude00"`, `"\ud83d"`, `"\ude00"`, `"\ud83d\u0041"`, `"\ud83dx"`,
	`"\u00e9\n\"\\\/\b\f\r\t"`, `"\x"`, `"\u12g4"`, `"\u12`, `"\`, `"`, "\"\x01\"", "\"\xff\"", "\"\xc3\x28\"", "\"\xed\xa0\x80\"", "\"é\u2028\"", "\"\x7f\"",
	``, ` `, `{`, `[`, `[1`, `[1,`, `[1,]`, `[,1]`, `{"a"`, `{"a":`, `{"a":1`, `{"a":1,`, `{"a":1,}`, `{a:1}`, `{"a" 1}`, `{1:1}`, `[1 2]`, `]`, `}`, `[}`, `{]`,
	`01`, `-`, `1.`, `.1`, `1e`, `1e+`, `+1`, `--1`, `0x1`, `1.2.3`, `nul`, `nulll`, `True`, `tru`, `falsey`, `[] []`, `{}x`, "\ufeff{}", "[]\x00", "\x00", `NaN`,
	strings.Repeat("[", MaxDepth) + strings.Repeat("]", MaxDepth), strings.Repeat(`{"a":`, MaxDepth) + "1" + strings.Repeat("}", MaxDepth),
}

func manyMembers(n, again int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `,"m%d":%d`, i, i)
	}
	if again >= 0 {
		fmt.Fprintf(&b, `,"m%d":0`, again)
	}
	return "{" + b.String()[1:] + "}"
}

func TestJSONIsReadStrictly(t *testing.T) {
	for _, s := range samples {
		agrees(t, []byte(s))
	}
	for _, n := range []int{1, 2, fewNames - 1, fewNames, fewNames + 1, 3 * fewNames} {
		agrees(t, []byte(manyMembers(n, -1)))
		for again := range n {
			agrees(t, []byte(manyMembers(n, again)))
		}
	}
	if _, err := ParseValue([]byte(strings.Repeat("[", MaxDepth+2) + strings.Repeat("]", MaxDepth+2))); err == nil {
		t.Error("a document nested too deep was taken")
	}
}

// agrees holds ParseValue to what jsontext says of the same bytes: whether they are JSON, and what they mean.
func agrees(t *testing.T, data []byte) {
	t.Helper()
	v, err := ParseValue(data)
	want := jsontext.Value(data).IsValid()
	if (err == nil) != want {
		t.Errorf("%q: valid JSON is %t, and ParseValue says %v", data, want, err)
		return
	}
	if err != nil {
		if !Is(err, Structure) {
			t.Errorf("%q: got an issue of another type than structure: %v", data, err)
		}
		return
	}
	if !bytes.Equal(v.Raw(), bytes.Trim(data, " \t\r\n")) {
		t.Errorf("%q: its bytes came back as %q", data, v.Raw())
	}
	again := bytes.Clone(v.Raw())
	if got := v.Rewrite(func(Value) ([]byte, bool) { return nil, false }); !bytes.Equal(got, again) {
		t.Errorf("%q: written again it is %q", data, got)
	}
	var plain any
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	if err := d.Decode(&plain); err != nil {
		t.Fatal(err)
	}
	same(t, v, plain)
}

func same(t *testing.T, v Value, want any) {
	t.Helper()
	switch want := want.(type) {
	case map[string]any:
		n := 0
		for c := range v.Children() {
			n++
			w, ok := want[c.Key()]
			if !ok {
				t.Errorf("a member %q that is not there", c.Key())
				continue
			}
			same(t, c, w)
		}
		if n != len(want) || !v.IsObject() {
			t.Errorf("an object of %d members was read as %d", len(want), n)
		}
	case []any:
		i := 0
		for c := range v.Children() {
			if i < len(want) {
				same(t, c, want[i])
			}
			i++
		}
		if i != len(want) || !v.IsArray() {
			t.Errorf("an array of %d was read as %d", len(want), i)
		}
	case string:
		if !v.IsString() || v.Str() != want {
			t.Errorf("got %q, want %q", v.Str(), want)
		}
	case json.Number:
		if v.IsString() || v.Str() != want.String() {
			t.Errorf("got %q, want %s", v.Str(), want)
		}
	case bool:
		if v.Bool() != want || v.Str() != fmt.Sprint(want) {
			t.Errorf("got %q, want %t", v.Str(), want)
		}
	case nil:
		if !v.Exists() || v.Str() != "" {
			t.Errorf("null was read as %q", v.Str())
		}
	}
}

func TestAFaultInJSONIsToldByItsPlaceOnly(t *testing.T) {
	for doc, want := range map[string]string{
		"{\n \"secret\": 1,\n \"secret\": 2}": "a member name stands twice in one object at byte 17 (line 3)",
		`{"a": "Margaret`:                     "it ends too early, at byte 15 (line 1); was it cut off?",
		`{"a": Margaret}`:                     "syntax error at byte 6 (line 1)",
		`{} Margaret`:                         "something follows the end of the document at byte 3",
	} {
		if _, err := ParseValue([]byte(doc)); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "Margaret") {
			t.Errorf("%s: got %v, want %q", doc, err, want)
		}
	}
}

func FuzzParseValue(f *testing.F) {
	for _, s := range samples {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if bytes.Count(data, []byte("["))+bytes.Count(data, []byte("{")) > MaxDepth {
			_, _ = ParseValue(data)
			return
		}
		agrees(t, data)
		envelopeAgrees(t, data)
	})
}

// envelopeAgrees holds ParseEnvelope to Parse: both take the same documents, and what stands in a Bundle's entries is there with all its bytes.
func envelopeAgrees(t *testing.T, data []byte) {
	t.Helper()
	whole, err := Parse(data)
	outer, outerErr := ParseEnvelope(data)
	if (err == nil) != (outerErr == nil) {
		t.Fatalf("%q: as a whole %v, as an envelope %v", data, err, outerErr)
	}
	if err != nil {
		return
	}
	if !bytes.Equal(whole.Raw(), outer.Raw()) || whole.Ref() != outer.Ref() {
		t.Errorf("%q: the envelope is %s %q", data, outer.Ref(), outer.Raw())
	}
	var inside []Value
	for e := range whole.Value().All("entry") {
		inside = append(inside, e.Member("resource"))
	}
	i := 0
	for e := range outer.Value().All("entry") {
		if got := e.Member("resource"); !bytes.Equal(got.Raw(), inside[i].Raw()) {
			t.Errorf("%q: entry %d holds %q", data, i, got.Raw())
		}
		i++
	}
	if i != len(inside) {
		t.Errorf("%q: %d entries, want %d", data, i, len(inside))
	}
}

func TestAnEnvelopeHoldsWhatADocumentHolds(t *testing.T) {
	for _, s := range append(slices.Clone(samples),
		`{"resourceType":"Bundle","type":"batch","entry":[{"fullUrl":"urn:uuid:1","resource":{"resourceType":"Basic","id":"a","code":{"text":"x, [y]"}},"request":{"method":"PUT","url":"Basic/a"}},{"request":{"method":"GET","url":"Basic"}},{"resource":{"resourceType":"Bundle","entry":[{"resource":{"resourceType":"Basic"}}]}}],"id":"b"}`,
		`{"resourceType":"Parameters","parameter":[{"name":"x","resource":{"resourceType":"Basic"}}]}`,
		`{"resourceType":"Bundle","entry":[{"resource":[{}]}]}`, `{"resourceType":"Bundle","entry":{"resource":{"a":1}}}`, `{"resourceType":"Bundle","entry":[{"resource":{"a":1,"a":2}}]}`,
	) {
		envelopeAgrees(t, []byte(s))
	}
	if r, _ := ParseEnvelope([]byte(`{"resourceType":"Bundle","entry":[{"resource":{"resourceType":"Basic"},"request":{"method":"POST"}}]}`)); r.Get("entry.resource.resourceType").Exists() || r.Text("entry.request.method") != "POST" {
		t.Error("what stands in an entry has a tree in an envelope, or what stands beside it has none")
	}
	few := []byte(`{"resourceType":"Bundle","entry":[` + strings.Repeat(`{},`, MaxValues) + `{}]}`)
	if _, err := ParseEnvelope(few); !Is(err, TooCostly) {
		t.Errorf("an envelope of more than %d values: %v", MaxValues, err)
	}
}

var patientJSON = []byte(`{"resourceType":"Patient","id":"7f3a","meta":{"source":"urn:tombolo:source:rx1-pas#RX100001","profile":["https://fhir.hl7.org.uk/StructureDefinition/UKCore-Patient"]},` +
	`"identifier":[{"use":"official","system":"https://fhir.nhs.uk/Id/nhs-number","value":"9990000107"},{"system":"https://fhir.nhs.uk/Id/local-patient-identifier","value":"RX100001"}],` +
	`"name":[{"use":"official","family":"Taylor","given":["Margaret"],"prefix":["Mrs"]}],"gender":"female","birthDate":"1948-03-12",` +
	`"address":[{"use":"home","line":["1 Ferry Lane","Severnmouth"],"postalCode":"GL99 1AA"}],"telecom":[{"system":"phone","value":"01632 960101","use":"home"}]}`)

func BenchmarkParse(b *testing.B) {
	b.ReportAllocs()
	b.SetBytes(int64(len(patientJSON)))
	for b.Loop() {
		if _, err := Parse(patientJSON); err != nil {
			b.Fatal(err)
		}
	}
}

// What is frequent is given without a copy and is what it says; nearly all of the list has its place.
func TestFrequentTextsAreWhatTheySay(t *testing.T) {
	found, all := 0, strings.Fields(frequentNames+" "+frequentWords)
	for _, s := range all {
		switch frequent([]byte(s)) {
		case s:
			found++
		case "":
		default:
			t.Errorf("%q is taken for %q", s, frequent([]byte(s)))
		}
		if v, err := ParseValue(JSON(M{s: s})); err != nil || v.Member(s).Str() != s {
			t.Errorf("%q: %v", s, err)
		}
	}
	if found < len(all)*95/100 {
		t.Errorf("%d of %d have a place", found, len(all))
	}
}
