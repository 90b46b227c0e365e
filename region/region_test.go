package region

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"

	"tombolo/dataset"
	"tombolo/fhir"
	"tombolo/sim"
)

var update = flag.Bool("update", false, "write the golden files and docs/region.schema.json anew")

// today is when the examples are read.
var today = time.Date(2026, 11, 22, 9, 0, 0, 0, fhir.London)

func golden(t *testing.T, path string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v: run go test ./region -update", err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs. If the change is meant, run go test ./region -update\ngot:\n%s\nwant:\n%s", path, got, want)
	}
}

// What an integration engineer reads when a file is wrong.
func TestProblemsAreToldAllAtOnce(t *testing.T) {
	for _, name := range examples(t) {
		t.Run(filepath.Base(name), func(t *testing.T) {
			data, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			_, problems := parseAt(filepath.Base(name), data, today)
			var b bytes.Buffer
			for _, p := range problems {
				fmt.Fprintln(&b, p)
			}
			golden(t, strings.TrimSuffix(name, ".yaml")+".txt", b.Bytes())
		})
	}
}

func examples(t *testing.T) []string {
	names, err := filepath.Glob("testdata/*.yaml")
	if err != nil || len(names) == 0 {
		t.Fatal("no examples under testdata", err)
	}
	return names
}

func TestParseReadsWhatIsThere(t *testing.T) {
	data, err := os.ReadFile("testdata/severn.yaml")
	if err != nil {
		t.Fatal(err)
	}
	r, problems := parseAt("severn.yaml", data, today)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	day := func(y, m, d int) time.Time { return time.Date(y, time.Month(m), d, 0, 0, 0, 0, fhir.London) }
	mh, _ := r.System("rw4-mh")
	if want := (System{ID: "rw4-mh", Organisation: "RW4", Connector: "fhirapi", Address: "https://mh.example/fhir",
		Gives:    map[dataset.Heading]Way{dataset.CarePlans: Live, dataset.RiskAssessments: Live},
		Deadline: 1500 * time.Millisecond, Release: Release{ODS: []string{"RX1", "M85001"}},
		Options: map[string]string{"max-pages": "20", "page-size": "100"}}); !reflect.DeepEqual(mh, want) {
		t.Errorf("system %+v\nwant   %+v", mh, want)
	}
	if pas, _ := r.System("rx1-pas"); pas.Deadline != DefaultDeadline || !pas.Release.All {
		t.Errorf("what is not said: deadline %v, release %+v; want 2s and all", pas.Deadline, pas.Release)
	}
	if gp, _ := r.System("m85001-gp"); gp.ASID != "200000000359" {
		t.Errorf("a number is not taken as written: %q", gp.ASID)
	}
	if want := (Agreement{ID: "severn-safeguarding", Parties: []string{"RX1", "918"}, Purposes: []string{"safeguarding"},
		Headings: []dataset.Heading{dataset.Safeguarding, dataset.Documents}, From: day(2026, 4, 1), Until: day(2027, 4, 1)}); !reflect.DeepEqual(r.Agreements[1], want) {
		t.Errorf("agreement %+v\nwant      %+v", r.Agreements[1], want)
	}
	if o, ok := r.Organisation("918"); !ok || o.Kind != KindSocialCare {
		t.Errorf("organisation 918: %+v, %v", o, ok)
	}
	var ids []string
	for _, s := range r.SystemsGiving(dataset.Encounters) {
		ids = append(ids, s.ID)
	}
	if want := []string{"rx1-pas", "ry5-community"}; !slices.Equal(ids, want) {
		t.Errorf("encounters are given by %v, want %v", ids, want)
	}
	if u := r.Users[1]; u.Role != "citizen" || u.PersonRef != "margaret" || len(u.TokenSHA256) != 64 {
		t.Errorf("user %+v", u)
	}
	if n := r.Neighbours[0]; n.ID != "wye" || n.Token != "WYE_TOKEN" {
		t.Errorf("neighbour %+v", n)
	}
}

// An unreadable release must never show more than was meant.
func TestUnreadableReleaseIsOff(t *testing.T) {
	r, problems := Parse("x", []byte("systems:\n- {id: a, release: everybody}\n- {id: b, release: []}\n- {id: c, release: off}\n"))
	if !Broken(problems) {
		t.Error("no error")
	}
	for _, s := range r.Systems {
		if s.Release.All || s.Release.Testers || !s.Release.Off {
			t.Errorf("%s: %+v, want off", s.ID, s.Release)
		}
	}
}

func TestLoadLooksForWhatTheFileNames(t *testing.T) {
	dir := t.TempDir()
	data, err := os.ReadFile("testdata/severn.yaml")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "severn.yaml")
	if err := os.WriteFile(file, bytes.Replace(data, []byte("mapping: builtin:community"), []byte("mapping: maps/ry5.yaml"), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	_, problems := Load(file)
	problems = slices.DeleteFunc(problems, func(p Problem) bool { return p.Severity == Warning }) // agreements end as years go by
	if len(problems) != 1 || problems[0].Line != 39 || !strings.Contains(problems[0].Message, "maps/ry5.yaml cannot be read: no such file") {
		t.Errorf("got %v, want the missing mapping file at line 39", problems)
	}
	if _, problems = Load(filepath.Join(dir, "nowhere.yaml")); !Broken(problems) {
		t.Error("a missing region file is no error")
	}
}

func TestHostileFilesAreRefusedQuickly(t *testing.T) {
	for what, data := range map[string]string{
		"brackets": strings.Repeat("[", 1<<20),
		"braces":   strings.Repeat("{a: ", 1<<18),
		"dashes":   strings.Repeat("- ", 1<<20),
		"indents":  strings.Repeat(" ", 5000) + "a: b",
		"size":     strings.Repeat("# comment\n", 1<<19),
		"zeroes":   strings.Repeat("\x00", 100),
		"utf-16":   "\xff\xfer\x00e\x00",
	} {
		start := sim.ProcessorTime()
		if _, problems := Parse("x", []byte(data)); !Broken(problems) || sim.ProcessorTime()-start > 5*time.Second {
			t.Errorf("%s: %v after %v of a processor", what, problems, sim.ProcessorTime()-start)
		}
	}
}

func TestSchemaIsPublished(t *testing.T) { golden(t, "../docs/region.schema.json", Schema()) }

// The schema accepts what Parse can read, and refuses what it cannot.
func TestSchemaAgreesWithParse(t *testing.T) {
	var s map[string]any
	if err := json.Unmarshal(Schema(), &s); err != nil {
		t.Fatal(err)
	}
	for _, name := range examples(t) {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		_, problems := read(name, data)
		var v any
		if yaml.Unmarshal(data, &v) != nil || v == nil {
			continue // no YAML: nothing for a schema to judge
		}
		plain, err := json.Marshal(v)
		if err != nil {
			continue
		}
		v = nil
		if err := json.Unmarshal(plain, &v); err != nil {
			t.Fatal(err)
		}
		if err := validate(s, v, "$"); (err == nil) == Broken(problems) && !strings.Contains(name, "two-documents") && !strings.Contains(name, "latin1") {
			t.Errorf("%s: the schema says %v, Parse says %v", name, err, problems)
		}
	}
}

// validate is as much of JSON Schema 2020-12 as Schema uses.
func validate(s map[string]any, v any, at string) error {
	if enum, ok := s["enum"].([]any); ok && !slices.Contains(enum, v) {
		return fmt.Errorf("%s is none of %v", at, enum)
	}
	if c, ok := s["const"]; ok && c != v {
		return fmt.Errorf("%s is not %v", at, c)
	}
	if one, ok := s["oneOf"].([]any); ok {
		n := 0
		for _, sub := range one {
			if validate(sub.(map[string]any), v, at) == nil {
				n++
			}
		}
		if n != 1 {
			return fmt.Errorf("%s fits %d of oneOf", at, n)
		}
	}
	if !typed(s["type"], v) {
		return fmt.Errorf("%s is a %T, want %v", at, v, s["type"])
	}
	switch v := v.(type) {
	case string:
		if p, ok := s["pattern"].(string); ok && !regexp.MustCompile(p).MatchString(v) {
			return fmt.Errorf("%s does not match %s", at, p)
		}
		if s["format"] == "date" {
			if _, err := time.Parse("2006-01-02", v); err != nil {
				return fmt.Errorf("%s is no date", at)
			}
		}
	case []any:
		items, ok := s["items"].(map[string]any)
		for i, item := range v {
			if !ok {
				break
			}
			if err := validate(items, item, fmt.Sprintf("%s[%d]", at, i)); err != nil {
				return err
			}
		}
	case map[string]any:
		return validateObject(s, v, at)
	}
	return nil
}

func validateObject(s map[string]any, v map[string]any, at string) error {
	required, _ := s["required"].([]any)
	for _, k := range required {
		if _, ok := v[k.(string)]; !ok {
			return fmt.Errorf("%s lacks %v", at, k)
		}
	}
	properties, _ := s["properties"].(map[string]any)
	for k, x := range v {
		if names, ok := s["propertyNames"].(map[string]any); ok {
			if err := validate(names, k, at+"."+k); err != nil {
				return err
			}
		}
		sub, ok := properties[k].(map[string]any)
		if !ok {
			if sub, ok = s["additionalProperties"].(map[string]any); !ok {
				return fmt.Errorf("%s has unknown key %s", at, k)
			}
		}
		if err := validate(sub, x, at+"."+k); err != nil {
			return err
		}
	}
	return nil
}

func typed(want, v any) bool {
	switch w := want.(type) {
	case nil:
		return true
	case []any:
		return slices.ContainsFunc(w, func(x any) bool { return typed(x, v) })
	}
	switch v.(type) {
	case string:
		return want == "string"
	case float64:
		return want == "number" || want == "integer"
	case bool:
		return want == "boolean"
	case []any:
		return want == "array"
	case map[string]any:
		return want == "object"
	}
	return false
}

// Whatever the bytes, Parse answers, and every problem has a message.
func FuzzParse(f *testing.F) {
	for _, name := range []string{"severn", "misspelt", "disagrees", "alias"} {
		data, err := os.ReadFile("testdata/" + name + ".yaml")
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte("region: !!binary x\nsystems: {<<: *a}\n? [a]\n: b"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 64<<10 {
			return
		}
		r, problems := Parse("x", data)
		if r == nil {
			t.Fatal("no region")
		}
		for _, p := range problems {
			if p.Message == "" || p.Severity == "" {
				t.Fatalf("a problem that says nothing: %+v", p)
			}
		}
	})
}
