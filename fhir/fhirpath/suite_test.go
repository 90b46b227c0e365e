package fhirpath

import (
	"encoding/xml"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tombolo/fhir"
	"tombolo/fhir/fhirxml"
)

// data is a folder of the public standards files, where a developer has them.
func data(t testing.TB, folder ...string) string {
	dir := os.Getenv("TOMBOLO_DATA")
	for d, _ := os.Getwd(); dir == "" && d != filepath.Dir(d); d = filepath.Dir(d) {
		if fi, err := os.Stat(filepath.Join(d, "shared", "data")); err == nil && fi.IsDir() {
			dir = filepath.Join(d, "shared", "data")
		}
	}
	dir = filepath.Join(append([]string{dir}, folder...)...)
	if _, err := os.Stat(dir); err != nil {
		t.Skip("the published test cases are not here (TOMBOLO_DATA, or shared/data beside the checkout)")
	}
	return dir
}

type suite struct {
	Groups []struct {
		Name  string `xml:"name,attr"`
		Tests []struct {
			Name       string `xml:"name,attr"`
			Input      string `xml:"inputfile,attr"`
			Predicate  bool   `xml:"predicate,attr"`
			Mode       string `xml:"mode,attr"`
			Expression struct {
				Text    string `xml:",chardata"`
				Invalid string `xml:"invalid,attr"`
			} `xml:"expression"`
			Output []struct {
				Type string `xml:"type,attr"`
				Text string `xml:",chardata"`
			} `xml:"output"`
		} `xml:"test"`
	} `xml:"group"`
}

// exceptions are tests of the official suite that this engine does not pass, and why.
var exceptions = map[string]string{
	"HighBoundaryDateTimeMillisecond1": "the last moment of the hour of 08 is 08:59:59.999; the test has 08:00:59.999",
	"HighBoundaryDateTimeMillisecond3": "as HighBoundaryDateTimeMillisecond1",
}

// The official tests of FHIRPath for R4.
func TestTheOfficialSuite(t *testing.T) {
	dir := data(t, "09-fhir-test-cases", "r4-core-tests")
	raw, err := os.ReadFile(filepath.Join(dir, "fhirpath", "tests-fhir-r4.xml"))
	if err != nil {
		t.Fatal(err)
	}
	var s suite
	if err := xml.Unmarshal(raw, &s); err != nil {
		t.Fatal(err)
	}
	inputs := map[string]Item{"": {typ: fhirModel().named["Resource"]}}
	passed, run, strict := 0, 0, 0
	for _, g := range s.Groups {
		for _, c := range g.Tests {
			if _, ok := inputs[c.Input]; !ok {
				inputs[c.Input] = Resource(input(t, dir, c.Input))
			}
			run++
			wrong := ""
			items, err := evaluate(c.Expression.Text, inputs[c.Input], c.Expression.Invalid == "semantic" || c.Mode == "strict")
			switch {
			case c.Expression.Invalid != "":
				if err == nil {
					wrong = "no error: it is " + c.Expression.Invalid
				}
			case err != nil:
				wrong = err.Error()
			case c.Predicate:
				if len(items) == 0 {
					wrong = "empty"
				}
			default:
				if len(items) != len(c.Output) {
					wrong = "gives " + show(items)
					break
				}
				for i, it := range items {
					if !isOutput(it, c.Output[i].Type, c.Output[i].Text) {
						wrong = "gives " + show(items)
					}
				}
			}
			if c.Expression.Invalid == "" && c.Input != "" { // what is right is right to who follows types, too
				if _, err := CompileFor(inputs[c.Input].typ.Name, c.Expression.Text); err != nil && wrong == "" && c.Mode != "strict" {
					wrong = "is taken for wrong: " + err.Error()
				}
				strict++
			}
			reason, excepted := exceptions[c.Name]
			switch {
			case wrong == "":
				passed++
				if excepted {
					t.Errorf("%s passes: take it from the exceptions", c.Name)
				}
			case excepted:
				t.Logf("%s: %s (known: %s)", c.Name, wrong, reason)
			default:
				t.Errorf("%s %s: %s\n\t%s", g.Name, c.Name, c.Expression.Text, wrong)
			}
		}
	}
	t.Logf("%d of %d pass; %d also with types followed", passed, run, strict)
	if run < 900 {
		t.Errorf("only %d tests were found", run)
	}
}

func evaluate(text string, it Item, strict bool) ([]Item, error) {
	e, err := Compile(text)
	if strict {
		e, err = CompileFor(it.typ.Name, text)
	}
	if err != nil {
		return nil, err
	}
	return e.Eval(it, nil)
}

func show(items []Item) string {
	var out []string
	for _, it := range items {
		b, _ := it.MarshalJSON()
		out = append(out, it.typ.String()+" "+string(b))
	}
	return "[" + strings.Join(out, ", ") + "]"
}

// isOutput compares what is had with what is published: the value as written, and the type.
func isOutput(it Item, typ, text string) bool {
	if typ != "" && !strings.EqualFold(it.typ.Name, typ) {
		return false
	}
	if m, ok := it.system().(Moment); ok {
		want, isTime := strings.CutPrefix(strings.TrimPrefix(text, "@"), "T")
		if isTime {
			return m.kind == kindTime && m.String() == want
		}
		return m.String() == strings.TrimSuffix(want, "T")
	}
	if d, ok := decimalOf(it.system()); ok {
		want, ok := parseDecimal(text)
		return ok && d.Cmp(want) == 0
	}
	if q, ok := it.system().(Quantity); ok {
		want, ok := parseQuantity(text)
		return ok && q.unit == want.unit && q.value.Cmp(want.value) == 0
	}
	return it.String() == text
}

func input(t testing.TB, dir, name string) *fhir.Resource {
	raw, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		raw, err = os.ReadFile(filepath.Join(dir, "examples", name))
	}
	if err != nil {
		t.Fatal(err)
	}
	var r *fhir.Resource
	if strings.HasSuffix(name, ".xml") {
		r, err = fhirxml.Decode(raw)
	} else {
		r, err = fhir.Parse(raw)
	}
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return r
}
