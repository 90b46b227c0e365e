package fhirxml

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"tombolo/fhir"
	"tombolo/fhir/r4"
)

func data(t testing.TB, pattern string) []string {
	dir := os.Getenv("TOMBOLO_DATA")
	for d, _ := os.Getwd(); dir == "" && d != filepath.Dir(d); d = filepath.Dir(d) {
		if fi, err := os.Stat(filepath.Join(d, "shared", "data")); err == nil && fi.IsDir() {
			dir = filepath.Join(d, "shared", "data")
		}
	}
	files, _ := filepath.Glob(filepath.Join(dir, "02-fhir-definitions", pattern))
	if len(files) == 0 {
		t.Skip("the folder of public standards files is not here (TOMBOLO_DATA, or shared/data beside the checkout)")
	}
	return files
}

// tree is JSON as values, numbers as they are written.
func tree(t testing.TB, raw []byte) any {
	dec := json.NewDecoder(strings.NewReader(string(raw)))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		t.Fatal(err)
	}
	return v
}

func TestEveryExampleOfR4SurvivesXML(t *testing.T) {
	n := 0
	for _, f := range data(t, "r4-examples/*.json") {
		raw, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		r, err := fhir.Parse(raw)
		if err != nil {
			continue
		}
		out, err := Encode(r)
		if err != nil {
			t.Errorf("%s: %v", filepath.Base(f), err)
			continue
		}
		back, err := Decode(out)
		if err != nil {
			t.Errorf("%s: %v", filepath.Base(f), err)
			continue
		}
		n++
		want, got := tree(t, raw), tree(t, back.Raw())
		if !reflect.DeepEqual(got, want) && !strings.Contains(string(raw), "&nbsp;") {
			t.Errorf("%s: there and back differs", filepath.Base(f))
		}
	}
	t.Logf("%d examples went there and back", n)
}

func TestEveryExampleOfUKCoreIsReadFromXML(t *testing.T) {
	n := 0
	for _, f := range data(t, "ukcore-examples/*.xml") {
		raw, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		r, err := Decode(raw)
		if err != nil {
			t.Errorf("%s: %v", filepath.Base(f), err)
			continue
		}
		n++
		for _, i := range r4.Check(r, r4.Whole) {
			t.Errorf("%s: %v", filepath.Base(f), i)
		}
	}
	t.Logf("%d examples", n)
}

func TestOnlyR4IsReadFromXML(t *testing.T) {
	for name, doc := range map[string]string{
		"nothing": "", "no XML": "{}", "another namespace": `<Patient/>`, "no resource": `<Nobody xmlns="http://hl7.org/fhir"/>`,
		"an element there is not": `<Patient xmlns="http://hl7.org/fhir"><shoe value="1"/></Patient>`,
		"an attribute":            `<Patient xmlns="http://hl7.org/fhir"><active valu="true"/></Patient>`,
		"twice":                   `<Patient xmlns="http://hl7.org/fhir"><active value="true"/><active value="true"/></Patient>`,
		"a value as text":         `<Patient xmlns="http://hl7.org/fhir"><active>true</active></Patient>`,
		"no boolean":              `<Patient xmlns="http://hl7.org/fhir"><active value="yes"/></Patient>`,
		"JSON in a number":        `<Patient xmlns="http://hl7.org/fhir"><multipleBirthInteger value="1,&quot;x&quot;:2"/></Patient>`,
		"a document type":         `<!DOCTYPE x [<!ENTITY a "b">]><Patient xmlns="http://hl7.org/fhir"><id value="&a;"/></Patient>`,
		"a document type alone":   `<!DOCTYPE Patient SYSTEM "http://evil.test/x.dtd"><Patient xmlns="http://hl7.org/fhir"><id value="a"/></Patient>`,
		"cut off":                 `<Patient xmlns="http://hl7.org/fhir"><name>`,
		"more after it":           `<Patient xmlns="http://hl7.org/fhir"/><Patient xmlns="http://hl7.org/fhir"/>`,
		"two in one":              `<Patient xmlns="http://hl7.org/fhir"><contained><Patient/><Patient/></contained></Patient>`,
		"too deep":                `<Patient xmlns="http://hl7.org/fhir">` + strings.Repeat(`<extension url="x">`, 100) + strings.Repeat(`</extension>`, 100) + `</Patient>`,
	} {
		if r, err := Decode([]byte(doc)); err == nil {
			t.Errorf("%s: read as %s", name, r.Raw())
		} else if fhir.IssueOf(err) == nil {
			t.Errorf("%s: %v is no issue", name, err)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`<Patient xmlns="http://hl7.org/fhir"><id value="a"/><text><status value="generated"/><div xmlns="http://www.w3.org/1999/xhtml">x<b>y</b></div></text><birthDate id="q" value="1970"><extension url="u"><valueDecimal value="1.00"/></extension></birthDate></Patient>`))
	f.Add([]byte(`<Bundle xmlns="http://hl7.org/fhir"><entry><resource><Patient/></resource></entry></Bundle>`))
	f.Fuzz(func(t *testing.T, doc []byte) {
		r, err := Decode(doc)
		if err != nil {
			return
		}
		if out, err := Encode(r); err == nil {
			if _, err := Decode(out); err != nil && !strings.Contains(string(r.Raw()), "div") {
				t.Errorf("what was written cannot be read: %v\n%s", err, out)
			}
		}
	})
}
