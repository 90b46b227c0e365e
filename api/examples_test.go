package api_test

import (
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"tombolo/fhir"
	"tombolo/kv/enginetest"
	"tombolo/search"
)

// examples are R4's own, where a developer has the folder of public standards files.
func examples(t testing.TB) []*fhir.Resource {
	dir := os.Getenv("TOMBOLO_DATA")
	for d, _ := os.Getwd(); dir == "" && d != filepath.Dir(d); d = filepath.Dir(d) {
		if fi, err := os.Stat(filepath.Join(d, "shared", "data")); err == nil && fi.IsDir() {
			dir = filepath.Join(d, "shared", "data")
		}
	}
	files, _ := filepath.Glob(filepath.Join(dir, "02-fhir-definitions", "r4-examples", "*.json"))
	if len(files) == 0 {
		t.Skip("R4's examples are not here (TOMBOLO_DATA, or shared/data beside the checkout)")
	}
	var out []*fhir.Resource
	for _, f := range files {
		data, err := os.ReadFile(f)
		must(t, err)
		r, err := fhir.Parse(data)
		if err == nil && r.ID() != "" {
			out = append(out, r)
		}
	}
	return out
}

// Every example of R4 is taken, comes back byte for byte but for what of meta is the server's to say, and is found by each of its search values.
func TestEveryExampleOfR4IsStoredAndFound(t *testing.T) {
	all := examples(t)
	if enginetest.PostgreSQL() || os.Getenv("TOMBOLO_SOAK") == "" { // all of them in make soak; here every fourth
		all = slices.DeleteFunc(all, func(r *fhir.Resource) bool { return crc32.ChecksumIEEE([]byte(r.Ref()))%4 > 0 })
	}
	s := open(t)
	s.watch.Known("MedicationAdministration") // stands in a text, and in addresses
	here := map[string]bool{}
	for _, r := range all {
		if r.Type() == "Patient" {
			s.do("PUT", string(r.Ref()), r.Raw()).want(t, 201)
			here[string(r.Ref())] = true
		}
	}
	for _, r := range all { // whom they are about must be here
		for _, of := range fhir.Subjects(r) {
			if ref, _, _ := strings.Cut(of.Reference, "/_history"); strings.HasPrefix(ref, "Patient/") && !here[ref] {
				here[ref] = true
				s.do("PUT", ref, `{"resourceType":"Patient","id":"`+strings.TrimPrefix(ref, "Patient/")+`"}`).want(t, 201)
			}
		}
	}
	stored, searched := 0, 0
	for _, r := range all {
		if r.Type() != "Patient" {
			if a := s.do("PUT", string(r.Ref()), r.Raw()); a.StatusCode != 201 && a.StatusCode != 200 {
				t.Errorf("%s is refused: %.300s", r.Ref(), a.body)
				continue
			}
		}
		stored++
		got, err := fhir.Parse(s.do("GET", string(r.Ref()), nil).want(t, 200).body)
		must(t, err)
		if string(withoutMeta(got)) != string(withoutMeta(r)) {
			t.Errorf("%s came back otherwise", r.Ref())
		}
	}
	for _, r := range all {
		n := 0
		for name, value := range search.Values(r) {
			d := searchDef(r.Type(), name)
			if d == nil || n == 3 || d.Kind != search.KindToken || strings.HasPrefix(name, "_") {
				continue
			}
			code, system, _ := strings.Cut(value, "|")
			if code == "" || len(value) > 100 || strings.ContainsAny(code+system, "\\,|") {
				continue
			}
			n++
			searched++
			if a := s.do("POST", r.Type()+"/_search", "_id="+r.ID()+"&"+name+"="+urlEscape(system+"|"+code), "Content-Type: application/x-www-form-urlencoded"); found(t, a.want(t, 200)) != r.ID() {
				t.Errorf("%s is not found by its %s", r.Ref(), name)
			}
		}
	}
	t.Logf("%d stored and read back, %d searches", stored, searched)
}

func searchDef(typ, name string) *search.Def {
	for _, d := range search.Defs(typ) {
		if d.Name == name {
			return &d
		}
	}
	return nil
}

func urlEscape(s string) string {
	return strings.NewReplacer("%", "%25", "&", "%26", "+", "%2B", "#", "%23", ";", "%3B", " ", "%20").Replace(s)
}

func withoutMeta(r *fhir.Resource) []byte {
	var b []byte
	for m := range r.Value().Children() {
		if m.Key() != "meta" {
			b = append(append(b, m.Key()...), m.Raw()...)
		}
	}
	for m := range r.Value().Member("meta").Children() {
		if k := m.Key(); k != "versionId" && k != "lastUpdated" && k != "source" {
			b = append(append(b, k...), m.Raw()...)
		}
	}
	return b
}
