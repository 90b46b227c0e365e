package r4

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tombolo/fhir"
)

// examples are R4's own, where a developer has the folder of public standards files.
func examples(t testing.TB) map[string]*fhir.Resource {
	dir := os.Getenv("TOMBOLO_DATA")
	for d, _ := os.Getwd(); dir == "" && d != filepath.Dir(d); d = filepath.Dir(d) {
		if s := filepath.Join(d, "shared", "data"); isDir(s) {
			dir = s
		}
	}
	files, _ := filepath.Glob(filepath.Join(dir, "02-fhir-definitions", "r4-examples", "*.json"))
	if len(files) == 0 {
		t.Skip("R4's examples are not here (TOMBOLO_DATA, or shared/data beside the checkout)")
	}
	out := map[string]*fhir.Resource{}
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		r, err := fhir.Parse(data)
		if err != nil {
			t.Logf("%s is no R4 resource: %v", filepath.Base(f), err)
			continue
		}
		out[filepath.Base(f)] = r
	}
	return out
}

func isDir(p string) bool { fi, err := os.Stat(p); return err == nil && fi.IsDir() }

// known are published examples that R4 itself contradicts, and in what.
var known = map[string]string{}

func TestEveryExampleOfR4IsRight(t *testing.T) {
	n := 0
	for name, r := range examples(t) {
		n++
		for _, i := range Check(r, Whole) {
			if known[name] == "" {
				t.Errorf("%s: %v", name, i)
			}
		}
	}
	t.Logf("%d examples", n)
}

func TestWhatIsNotR4IsToldWithItsPlace(t *testing.T) {
	for _, c := range []struct{ body, want string }{
		{`{"resourceType":"Patient","shoeSize":43}`, `Patient: Patient has no element "shoeSize"`},
		{`{"resourceType":"Patient","nmae":[]}`, `Did you mean name?`},
		{`{"resourceType":"Patient","active":"yes"}`, `Patient.active: this is a JSON string, and a boolean is a JSON boolean`},
		{`{"resourceType":"Patient","birthDate":"31.1.1970"}`, `Patient.birthDate: this is no date`},
		{`{"resourceType":"Patient","birthDate":"1970-02-30"}`, `Patient.birthDate: this is no date`},
		{`{"resourceType":"Patient","name":{"family":"A"}}`, `Patient.name: this is a list`},
		{`{"resourceType":"Patient","name":[{"family":["A"]}]}`, `Patient.name[0].family: this stands once`},
		{`{"resourceType":"Patient","name":[{"family":""}]}`, `Patient.name[0].family: a value is not empty`},
		{`{"resourceType":"Patient","name":[{}]}`, `Patient.name[0]: an object holds at least one`},
		{`{"resourceType":"Patient","name":[]}`, `Patient.name: a list holds at least one`},
		{`{"resourceType":"Patient","name":null}`, `Patient.name: this is a list`},
		{`{"resourceType":"Patient","gender":"f"}`, `Patient.gender: the code is not one of those`},
		{`{"resourceType":"Patient","deceasedBoolean":true,"deceasedDateTime":"2020"}`, `Patient.deceased: it has one type at a time`},
		{`{"resourceType":"Patient","deceasedString":"yes"}`, `has no element "deceasedString"`},
		{`{"resourceType":"Observation","code":{"text":"x"}}`, `Observation.status: this must be there`},
		{`{"resourceType":"Observation","status":"final","code":{"text":"x"},"valueQuantity":{"value":"70"}}`, `Observation.value.ofType(Quantity).value: this is a JSON string, and a decimal is a JSON number`},
		{`{"resourceType":"Observation","status":"final","code":{"text":"x"},"valueQuantity":{"value":1e999999999}}`, `Observation.value.ofType(Quantity).value: this is no decimal`},
		{`{"resourceType":"Patient","contained":[{"resourceType":"Nobody"}]}`, `Patient.contained[0]: a resource has a resourceType`},
		{`{"resourceType":"Patient","contained":[{"resourceType":"Patient","x":1}]}`, `Patient.contained[0]: Patient has no element "x"`},
		{`{"resourceType":"Patient","extension":[{"valueString":"x"}]}`, `Patient.extension[0].url: this must be there`},
		{`{"resourceType":"Patient","language":"a\u0000b"}`, `Patient.language: a text holds no NUL`},
		{`{"resourceType":"Patient","_name":[{"id":"x"}]}`, `only a primitive value has a companion`},
		{`{"resourceType":"Patient","multipleBirthInteger":1.5}`, `this is no integer`},
	} {
		r, err := fhir.Parse([]byte(c.body))
		if err != nil {
			t.Fatal(c.body, err)
		}
		var got []string
		for _, i := range Check(r, Whole) {
			got = append(got, i.Error())
		}
		if !strings.Contains(strings.Join(got, "\n"), c.want) {
			t.Errorf("%s: told %q, want %q", c.body, got, c.want)
		}
	}
	for _, body := range []string{`{"resourceType":"Patient","_birthDate":{"extension":[{"url":"http://x","valueCode":"unknown"}]}}`,
		`{"resourceType":"Patient","name":[{"given":["A",null],"_given":[null,{"id":"x"}]}]}`,
		`{"resourceType":"Questionnaire","status":"draft","item":[{"linkId":"1","type":"group","item":[{"linkId":"2","type":"string"}]}]}`} {
		r, _ := fhir.Parse([]byte(body))
		if issues := Check(r, Whole); len(issues) > 0 {
			t.Errorf("%s: %v", body, issues)
		}
	}
}

func FuzzCheck(f *testing.F) {
	f.Add([]byte(`{"resourceType":"Patient","name":[{"given":["A",null],"_given":[null,{"id":"x"}]}],"deceasedBoolean":true}`))
	f.Add([]byte(`{"resourceType":"Bundle","entry":[{"resource":{"resourceType":"Patient"}}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if r, err := fhir.Parse(data); err == nil {
			Check(r, Whole)
		}
	})
}
