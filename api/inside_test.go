package api

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"tombolo/fhir"
)

// The published cases of JSON Patch, on documents that are no resources.
func TestPublishedJSONPatches(t *testing.T) {
	dir := os.Getenv("TOMBOLO_DATA")
	for d, _ := os.Getwd(); dir == "" && d != filepath.Dir(d); d = filepath.Dir(d) {
		if fi, err := os.Stat(filepath.Join(d, "shared", "data")); err == nil && fi.IsDir() {
			dir = filepath.Join(d, "shared", "data")
		}
	}
	raw, err := os.ReadFile(filepath.Join(dir, "09-fhir-test-cases", "r4-patch", "json-patch-tests.json"))
	if err != nil {
		t.Skip("the published cases are not here (TOMBOLO_DATA, or shared/data beside the checkout)")
	}
	var cases []struct {
		Comment, Error       string
		Disabled             bool
		Doc, Patch, Expected json.RawMessage
	}
	if err := json.Unmarshal(raw, &cases); err != nil {
		t.Fatal(err)
	}
	for _, c := range cases {
		if c.Disabled {
			continue
		}
		p, err := readPatch(typeJSONPatch, c.Patch)
		var out []byte
		if err == nil {
			out, err = p.json.ApplyWithOptions(c.Doc, patchOptions)
		}
		switch {
		case c.Error != "":
			if err == nil {
				t.Errorf("%s: done, and should be refused: %s", c.Comment, c.Error)
			}
		case err != nil:
			t.Errorf("%s: %v", c.Comment, err)
		default:
			var got, want any
			_ = json.Unmarshal(out, &got)
			_ = json.Unmarshal(c.Expected, &want)
			if !reflect.DeepEqual(got, want) {
				t.Errorf("%s: %s, want %s", c.Comment, out, c.Expected)
			}
		}
	}
	t.Logf("%d cases", len(cases))
}

func FuzzPatch(f *testing.F) {
	r, _ := fhir.Parse([]byte(`{"resourceType":"Patient","id":"a","name":[{"family":"A","given":["x","y"],"_given":[null,{"id":"q"}]}],"deceasedBoolean":false}`))
	f.Add(true, []byte(`[{"op":"test","path":"/name/0/family","value":"A"},{"op":"move","from":"/name/0/given/0","path":"/name/0/given/1"}]`))
	f.Add(true, []byte(`[{"op":"copy","from":"/name","path":"/name/-"},{"op":"remove","path":"/deceasedBoolean"}]`))
	f.Add(false, []byte(`{"resourceType":"Parameters","parameter":[{"name":"operation","part":[{"name":"type","valueCode":"delete"},{"name":"path","valueString":"Patient.name[0].given.first()"}]}]}`))
	f.Add(false, []byte(`{"resourceType":"Parameters","parameter":[{"name":"operation","part":[{"name":"type","valueCode":"add"},{"name":"path","valueString":"Patient"},{"name":"name","valueString":"contact"},{"name":"value","part":[{"name":"gender","valueCode":"male"}]}]}]}`))
	f.Fuzz(func(t *testing.T, asJSON bool, raw []byte) {
		mediaType := typeFHIRJSON
		if asJSON {
			mediaType = typeJSONPatch
		}
		p, err := readPatch(mediaType, raw)
		if err != nil {
			return
		}
		if out, err := p.apply(r); err == nil {
			if err := shape(out); err != nil {
				t.Errorf("a patch left what is not R4: %v", err)
			}
		} else if fhir.IssueOf(err) == nil {
			t.Errorf("%v is no issue", err)
		}
	})
}
