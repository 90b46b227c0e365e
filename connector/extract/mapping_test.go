package extract

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"tombolo/fhir"
)

func TestTheBuiltInMappingsAreGood(t *testing.T) {
	if got := Builtin(); !slices.Equal(got, []string{"community", "council"}) {
		t.Errorf("built in: %v", got)
	}
	for _, name := range Builtin() {
		if m, err := Load("builtin:"+name, ""); err != nil || m.Name != name+"/1" || !m.Full {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Load("builtin:hospital", ""); err == nil || !strings.Contains(err.Error(), "community, council") {
		t.Errorf("one that does not exist: %v", err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "mine.yaml"), []byte(small), 0o600); err != nil {
		t.Fatal(err)
	}
	if m, err := Load("mine.yaml", dir); err != nil || m.Name != "clinic/1" {
		t.Errorf("beside the region file: %v", err)
	}
	if _, err := Load("other.yaml", dir); !fhir.Is(err, fhir.NotFound) {
		t.Errorf("no such file: %v", err)
	}
}

// The example in the documentation must be one that works.
func TestTheExampleInTheDocumentationWorks(t *testing.T) {
	doc, err := os.ReadFile("../../docs/extract-mapping.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := strings.Split(string(doc), "```yaml\n")
	if len(blocks) < 2 {
		t.Fatal("docs/extract-mapping.md has no example")
	}
	for _, b := range blocks[1:] {
		src, _, _ := strings.Cut(b, "```")
		if !strings.HasPrefix(src, "mapping:") {
			continue
		}
		for _, issue := range Check([]byte(src)) {
			t.Errorf("%v in\n%s", issue, src)
		}
	}
	for _, name := range keys(functions) {
		if !strings.Contains(string(doc), "`"+name+"(") {
			t.Errorf("docs/extract-mapping.md does not tell of the function %s", name)
		}
	}
	for _, key := range append(slices.Clone(knownKeys), patientKeys()...) {
		if !strings.Contains(string(doc), "`"+key+"`") && !strings.Contains(string(doc), key+":") {
			t.Errorf("docs/extract-mapping.md does not tell of the key %s", key)
		}
	}
}

func TestMistakesInAMappingAreShownWhereTheyStand(t *testing.T) {
	file := func(body string) string {
		return "mapping: m/1\npatient: {id: pid, family: name}\nfiles:\n  - name: a.csv\n    key: k\n" + body
	}
	for name, c := range map[string]struct{ src, want string }{
		"no YAML":             {"a: [", "line 1"},
		"unknown key":         {"mapping: m/1\nfile:\n  - name: a.csv\n", `line 2, column 1: there is no key "file" here; did you mean "files"?`},
		"twice":               {"mapping: m/1\nmapping: m/2\n", `line 2, column 1: mapping key "mapping" already defined at [1:1]`},
		"an anchor":           {"mapping: &x m/1\nfiles: *x\n", "line 1, column 10: anchors"},
		"no version":          {strings.Replace(file(""), "m/1", "m", 1), "line 1, column 10: mapping: give a name and a version"},
		"mode":                {file("") + "mode: complete\n", "line 6, column 7: mode: full or delta"},
		"no key":              {"mapping: m/1\npatient: {id: pid, family: name}\nfiles: [{name: a.csv}]\n", "line 3, column 16: a.csv: key: name the column"},
		"no patient":          {"mapping: m/1\nfiles: [{name: a.csv, key: k}]\n", "line 2, column 16: a.csv: patient: say in which columns"},
		"no patient id":       {"mapping: m/1\npatient: {nhs: n}\nfiles: [{name: a.csv, key: k}]\n", "id is missing"},
		"patient key":         {"mapping: m/1\npatient: {id: pid, surname: n}\nfiles: [{name: a.csv, key: k}]\n", `line 2, column 20: patient: there is no key "surname"`},
		"a folder too far":    {strings.Replace(file(""), "a.csv", "../a.csv", 1), "is not a file name pattern"},
		"encoding":            {file("    encoding: latin\n"), "line 6, column 15: encoding: auto, utf-8"},
		"delimiter":           {file("    delimiter: x\n"), "line 6, column 16: delimiter: auto"},
		"type":                {file("    make: [{type: Encouter}]\n"), `line 6, column 19: type: "Encouter" is not a type that a row about a patient can make`},
		"heading":             {file("    make: [{type: Flag, heading: allerts}]\n"), `line 6, column 34: heading: "allerts" is not a heading of the data set; did you mean "alerts"?`},
		"function":            {file("    make:\n      - type: Flag\n        fields:\n          status: lokup(x)\n"), `line 9, column 19: status: there is no function "lokup"`},
		"arguments":           {file("    make:\n      - type: Flag\n        fields:\n          status: date()\n"), "status: date takes one date"},
		"no table":            {file("    make:\n      - type: Flag\n        fields:\n          status: lookup(s, states)\n"), `no table "states"`},
		"unused table":        {file("") + "tables: {states: {a: b}}\n", "table states is used nowhere"},
		"brackets":            {file("    make:\n      - type: Flag\n        fields:\n          status: trim((s)\n"), "a comma or ) is missing"},
		"quote":               {file("    make:\n      - type: Flag\n        fields:\n          status: trim('s)\n"), "has no end"},
		"strange sign":        {file("    make:\n      - type: Flag\n        fields:\n          status: a + b\n"), "is not part of an expression"},
		"not declared":        {file("    columns: {required: [k, pid, name, status]}\n    make:\n      - type: Flag\n        fields:\n          status: stattus\n"), `no column "stattus" is declared: add it to columns, or put 'quotes' around text that is meant as it stands; did you mean "status"?`},
		"path":                {file("    make:\n      - type: Flag\n        set:\n          code..text: x\n"), "line 9, column 11: a path is elements' names"},
		"index":               {file("    make:\n      - type: Flag\n        set:\n          code.coding[x].code: x\n"), "an index is a number"},
		"path twice":          {file("    make:\n      - type: Flag\n        set:\n          code.text: x\n        fields:\n          code.text: k\n"), "code.text is given twice"},
		"inside a value":      {file("    make:\n      - type: Flag\n        set:\n          code: x\n          code.text: y\n"), "already has a value"},
		"list and not":        {file("    make:\n      - type: Flag\n        set:\n          category[0].text: x\n          category.text: y\n"), "is a list elsewhere"},
		"the subject":         {file("    make:\n      - type: Flag\n        set:\n          subject.display: x\n"), "filled in by itself"},
		"the tag":             {file("    make:\n      - type: Flag\n        set:\n          meta.tag[0].code: x\n"), "say heading:"},
		"nested set":          {file("    make:\n      - type: Flag\n        set:\n          code: {text: x}\n"), "write a path, such as code.text"},
		"a file for a Flag":   {file("    make:\n      - type: Flag\n        file: k\n"), "only a DocumentReference"},
		"media type":          {file("    make:\n      - type: DocumentReference\n        file: k\n        types: [text/html]\n"), `"text/html" is not a media type that is taken in`},
		"colliding ids":       {file("    make: [{type: Flag}]\n  - name: b.csv\n    key: k\n    make: [{type: Flag}]\n"), "one could overwrite the other"},
		"the poorer patient":  {file("    make: [{type: Flag}]\n  - name: b.csv\n    key: k\n    patient: {id: pid, nhs: n}\n"), "the poorer would overwrite the richer"},
		"two files of a name": {file("    make: [{type: Flag}]\n  - name: docs/A.csv\n    key: k\n"), "two files are named"},
	} {
		issues := Check([]byte(c.src))
		if !slices.ContainsFunc(issues, func(i *fhir.Issue) bool { return strings.Contains(i.Error(), c.want) }) {
			t.Errorf("%s: got %v, want %s", name, issues, c.want)
		}
		for _, i := range issues {
			if !strings.HasPrefix(i.Expression, "line ") {
				t.Errorf("%s: %v has no place", name, i)
			}
		}
	}
}

// value of one expression over one row.
func evaluate(t *testing.T, src string, row map[string]string) (value, error) {
	t.Helper()
	k := &compiler{tables: map[string]*table{
		"codes": {entries: map[string]string{"a": "alpha"}},
		"rest":  {entries: map[string]string{"a": "alpha"}, any: true, other: "other"},
	}}
	e, err := k.compile(src, place{})
	if err != nil {
		t.Fatalf("%s: %v", src, err)
	}
	c := &cells{seen: make([]bool, len(k.declared)), now: make([]string, len(k.declared))}
	for i, col := range k.declared {
		c.now[i], c.seen[i] = strings.TrimSpace(row[col.name]), true
	}
	return e.eval(c)
}

func TestTheFunctions(t *testing.T) {
	row := map[string]string{"a": "A", "z": "z", "n": "71.40", "bp": "142/84", "d": "03/04/2026", "w": "03/01/2026", "t": "09:30", "name": " Anna  Maria ", "yes": "Y", "Local Code": "x<y", "nl": "one\ntwo"}
	for src, want := range map[string]string{
		"date(d)": "2026-04-03", "date('2026-04')": "2026-04", "date('2026')": "2026", "date('3 April 2026')": "2026-04-03", "date('03-Apr-2026 10:00')": "2026-04-03",
		"date('20260403')": "2026-04-03", "date('29.02.2024')": "2024-02-29", "date(none)": "",
		"datetime(d, t)": "2026-04-03T09:30:00+01:00", "datetime(w, t)": "2026-01-03T09:30:00+00:00", "datetime('2026-04-03T09:30:15.5Z')": "2026-04-03T09:30:15.5Z",
		"datetime('03/04/2026 2:05pm')": "2026-04-03T14:05:00+01:00", "datetime(d, '1405')": "2026-04-03T14:05:00+01:00", "datetime(d)": "2026-04-03",
		"datetime('2026-04-03T09:30:00+0200')": "2026-04-03T09:30:00+02:00", "datetime('202604031405')": "2026-04-03T14:05:00+01:00", "instant(d, t)": "2026-04-03T09:30:00+01:00",
		"lookup(a, codes)": "alpha", "lookup(z, rest)": "other", "lookup(z, codes, 'none')": "none", "lookup(none, codes)": "",
		"split(name, ' ')": `["Anna","Maria"]`, "part(bp, '/', 1)": "142", "part(bp, '/', 3)": "", "trim(' x ')": "x", "upper(name)": "ANNA  MARIA", "lower('É')": "é",
		"replace(bp, '/', ' over ')": "142 over 84", "concat(a, none, '-', z)": "A-z", "join(', ', a, none, z)": "A, z", "default(none, a)": "A",
		"if(a == 'a', 'one', 'two')": "one", "if(a != 'a', 'one', 'two')": "two", "if(none, 'one')": "", "if(not none and (a == 'b' or z), 'y')": "y",
		"needed(a)": "A", "nhs('999 000 0107')": "9990000107", "number(n)": "71.40", "number('.5')": "0.5", "number('007')": "7", "integer('007')": "7", "integer('-3')": "-3",
		"isnumber(n)": "true", "isnumber(bp)": "false", "bool(yes)": "true", "[Local Code]": "x<y", "contains(name, 'MARIA')": "true", "'text'": "text", "12.5": "12.5",
		"concept('s', 'c', 'd')":     `{"coding":[{"system":"s","code":"c","display":"d"}],"text":"d"}`,
		"concept('s', none, 'd')":    `{"text":"d"}`,
		"concept('s', none, none)":   "",
		"quantity(n, 'kg')":          `{"value":71.40,"unit":"kg","system":"http://unitsofmeasure.org","code":"kg"}`,
		"quantity(n, 'stone', none)": `{"value":71.40,"unit":"stone"}`, "quantity(n)": `{"value":71.40}`,
		"identifier('s', a)": `{"system":"s","value":"A"}`, "identifier('s', none)": "", "display(a)": `{"display":"A"}`,
		"narrative(nl)":           `{"status":"additional","div":"<div xmlns=\"http://www.w3.org/1999/xhtml\"><p>one<br/>two</p></div>"}`,
		"narrative([Local Code])": `{"status":"additional","div":"<div xmlns=\"http://www.w3.org/1999/xhtml\"><p>x&lt;y</p></div>"}`,
	} {
		v, err := evaluate(t, src, row)
		got := v.s
		if v.kind == list {
			got = string(v.appendJSON(nil))
		}
		if err != nil || got != want {
			t.Errorf("%s = %q, %v; want %q", src, got, err, want)
		}
	}
	for src, want := range map[string]string{
		"date('30/02/2026')": "not a date", "date('04/13/2026')": "not a date", "date('1/2/26')": "four digits", "datetime(d, '25:00')": "not a time", "instant(d)": "a time of day is needed",
		"datetime(none, t)": "a time of day without a date", "lookup(z, codes)": "not in the mapping's table", "needed(none)": "must not be", "nhs('9990000108')": "check digit", "number('1,200')": "not a number",
		"number('1e9')": "not a number", "number('-.5')": "not a number", "integer('1.5')": "not a whole number", "bool('perhaps')": "not yes or no", "quantity(bp, 'x')": "not a number", "part(bp, '/', 0)": "counts from 1",
	} {
		if _, err := evaluate(t, src, row); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", src, err, want)
		}
	}
}
