package gpconnect

import (
	"archive/tar"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode"

	"tombolo/fhir"
)

// The definitions of FHIR R4, as far as they say which elements there are, how often, and of what type.
type definitions map[string]map[string]definition // type -> path -> element

type definition struct {
	Path             string
	Min              int
	Max              string
	Type             []struct{ Code string }
	ContentReference string
}

// r4 reads the published definitions beside the repository; the test skips where they are not.
func r4(t testing.TB) definitions {
	t.Helper()
	f, err := os.Open(filepath.Join(filepath.Dir(sharedData(t)), "02-fhir-definitions", "hl7.fhir.r4.core-4.0.1.tgz"))
	if err != nil {
		t.Skip("the FHIR R4 definitions are not here: skipped")
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	defs := definitions{}
	for tr := tar.NewReader(z); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return defs
		}
		if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(h.Name), "StructureDefinition-"), ".json")
		if !strings.HasPrefix(filepath.Base(h.Name), "StructureDefinition-") || strings.ContainsAny(name, "-_") {
			continue
		}
		var sd struct {
			Type, Derivation, Kind string
			Snapshot               struct{ Element []definition }
		}
		if err := json.NewDecoder(tr).Decode(&sd); err != nil {
			t.Fatal(err)
		}
		if sd.Derivation == "constraint" || sd.Kind == "primitive-type" || sd.Kind == "logical" {
			continue
		}
		m := map[string]definition{}
		for _, e := range sd.Snapshot.Element {
			m[e.Path] = e
		}
		defs[sd.Type] = m
	}
}

// check says what in v is not R4: each kind of place once.
func (d definitions) check(v fhir.Value, typ, path string, found map[string]bool) {
	if !v.IsObject() {
		found[path+": not an object"] = true
		return
	}
	if path == typ && d[typ] == nil {
		return // a primitive or Resource
	}
	for m := range v.Children() {
		name := strings.TrimPrefix(m.Key(), "_")
		if name == "resourceType" {
			continue
		}
		e, as := d.element(typ, path, name)
		if e.Path == "" {
			found[path+"."+name+": no such element"] = true
			continue
		}
		if m.IsArray() != (e.Max != "1") {
			found[path+"."+name+": as often as it may not be"] = true
			continue
		}
		if m.Key() != name {
			continue
		}
		for item := range m.All("") {
			switch next := d[as]; {
			case e.ContentReference != "":
				d.check(item, typ, strings.TrimPrefix(e.ContentReference, "#"), found)
			case as == "BackboneElement" || as == "Element":
				d.check(item, typ, e.Path, found)
			case as == "Resource":
				d.check(item, item.Text("resourceType"), item.Text("resourceType"), found)
			case next != nil:
				d.check(item, as, as, found)
			}
		}
	}
	for p, e := range d[typ] {
		rest, ok := strings.CutPrefix(p, path+".")
		if !ok || strings.Contains(rest, ".") || e.Min == 0 {
			continue
		}
		present := false
		for m := range v.Children() {
			k := strings.TrimPrefix(m.Key(), "_")
			present = present || k == rest || strings.HasSuffix(rest, "[x]") && strings.HasPrefix(k, strings.TrimSuffix(rest, "[x]"))
		}
		if !present {
			found[p+": missing"] = true
		}
	}
}

func (d definitions) element(typ, path, name string) (definition, string) {
	if e, ok := d[typ][path+"."+name]; ok {
		if len(e.Type) > 0 {
			return e, e.Type[0].Code
		}
		return e, ""
	}
	for i := len(name) - 1; i > 0; i-- {
		if !unicode.IsUpper(rune(name[i])) {
			continue
		}
		if e, ok := d[typ][path+"."+name[:i]+"[x]"]; ok {
			for _, c := range e.Type {
				if strings.EqualFold(c.Code, name[i:]) {
					return e, c.Code
				}
			}
		}
	}
	return definition{}, ""
}

// What comes out is R4 in its elements, their number and their types. What R4 demands and the practice did not send is missing still, and
// nothing else is: nothing was made up to please a validator.
func TestWhatComesOutIsR4(t *testing.T) {
	defs := r4(t)
	bundles := map[string]fhir.Value{}
	for _, name := range fixtures {
		bundles["testdata/"+name] = fixture(t, name)
	}
	for name, raw := range samples(t) {
		if v, err := fhir.ParseValue(raw); err == nil {
			bundles[name] = v
		}
	}
	checked, missing := 0, map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(bundles)) {
		done, err := Convert(bundles[name])
		if err != nil { // appointments and slots come without a patient
			if done, err = convertAny(bundles[name]); err != nil {
				continue
			}
		}
		all := slices.Clone(done.Content)
		if done.Patient != nil {
			all = append(all, done.Patient)
		}
		for _, s := range done.Sections {
			all = append(all, s.List)
		}
		for _, r := range all {
			found := map[string]bool{}
			defs.check(r.Value(), r.Type(), r.Type(), found)
			checked++
			for f := range found {
				if strings.HasSuffix(f, ": missing") {
					missing[f] = true
				} else {
					t.Errorf("%s: %s: %s", name, r, f)
				}
			}
		}
	}
	t.Logf("%d resources were held to the definitions of R4", checked)
	for _, m := range slices.Sorted(maps.Keys(missing)) {
		t.Logf("R4 demands, and some practice did not send: %s", m)
	}
}

// The names under which extensions and profiles go out are those that UK Core has.
func TestNamesOfUKCore(t *testing.T) {
	dir := filepath.Join(filepath.Dir(sharedData(t)), "02-fhir-definitions", "ukcore-stu3", "structuredefinitions")
	if _, err := os.Stat(dir); err != nil {
		t.Skip("the UK Core definitions are not here: skipped")
	}
	exists := func(name string) {
		t.Helper()
		if _, err := os.Stat(filepath.Join(dir, name+".xml")); err != nil {
			t.Errorf("UK Core has no %s", name)
		}
	}
	for _, to := range sameInUKCore {
		exists("Extension-UKCore-" + to)
	}
	for _, f := range shapes {
		if f.profile != "" {
			exists(f.profile)
		}
	}
}
