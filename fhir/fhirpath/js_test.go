package fhirpath

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"tombolo/fhir"
)

// The cases of another implementation (fhirpath.js), where they are FHIRPath's and R4's: on R4's resources, or on values written in the expression.
func TestAnothersCases(t *testing.T) {
	dir := data(t, "09-fhir-test-cases", "fhirpath-js-cases")
	files, _ := filepath.Glob(filepath.Join(dir, "cases", "*.yaml"))
	passed, run := 0, 0
	for _, f := range files {
		name := filepath.Base(f)
		if strings.Contains("fhir-r4.yaml fhir-r5.yaml bigint.yaml factory.yaml", name) { // the official suite; R5; what is of that implementation only
			continue
		}
		raw, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		var doc map[string]any
		if err := yaml.Unmarshal(raw, &doc); err != nil {
			t.Logf("%s: %v", name, err)
			continue
		}
		list, _ := doc["tests"].([]any)
		for _, c := range cases(list) {
			wrong, ran := anothers(t, dir, c)
			if !ran {
				continue
			}
			if run++; wrong == "" {
				passed++
				continue
			}
			t.Logf("%s: %v: %s", name, c["expression"], wrong)
		}
	}
	t.Logf("%d of %d pass", passed, run)
	if passed < 705 { // the others are of Long, of regular expressions' flags, of sum() and its like, and where it differs from the official tests
		t.Errorf("only %d pass", passed)
	}
}

func cases(list []any) (out []map[string]any) {
	for _, x := range list {
		m, ok := x.(map[string]any)
		if !ok {
			continue
		}
		if m["expression"] != nil {
			out = append(out, m)
		}
		for k, v := range m {
			if inner, ok := v.([]any); ok && strings.HasPrefix(k, "group") {
				out = append(out, cases(inner)...)
			}
		}
	}
	return out
}

func anothers(t *testing.T, dir string, c map[string]any) (wrong string, ran bool) {
	text, ok := c["expression"].(string)
	if !ok || c["disable"] == true || c["model"] != nil && c["model"] != "r4" || c["variables"] != nil || c["context"] != nil {
		return "", false
	}
	it := Item{typ: fhirModel().named["Resource"]}
	if file, ok := c["inputfile"].(string); ok {
		raw, err := os.ReadFile(filepath.Join(dir, "resources", "r4", file))
		if err != nil {
			return "", false
		}
		r, err := fhir.Parse(raw)
		if err != nil || c["model"] == nil {
			return "", false
		}
		it = Resource(r)
	} else if strings.Contains(text, "Functions.") || strings.Contains(text, "%") {
		return "", false
	}
	e, err := Compile(text)
	if err == nil && c["inputfile"] == nil && free(e.root) {
		return "", false
	}
	var items []Item
	if err == nil {
		items, err = e.Eval(it, nil)
	}
	if c["error"] == true {
		if err == nil {
			return "no error, but " + show(items), true
		}
		return "", true
	}
	if err != nil {
		return err.Error(), true
	}
	want, ok := c["result"].([]any)
	if !ok {
		return "", false
	}
	if len(want) != len(items) {
		return fmt.Sprintf("%s, want %v", show(items), want), true
	}
	for i := range want {
		b, _ := json.Marshal(items[i])
		w, _ := json.Marshal(want[i])
		if d, ok := decimalOf(items[i].system()); ok {
			if x, ok := parseDecimal(string(w)); ok && x.Cmp(d) == 0 {
				continue
			}
		}
		if items[i].String() != fmt.Sprint(want[i]) && string(b) != string(w) && !items[i].val.IsObject() {
			return fmt.Sprintf("%s, want %v", show(items), want), true
		}
	}
	return "", true
}

// free reports whether an expression begins at what it is evaluated on.
func free(n node) bool {
	switch n := n.(type) {
	case *member:
		return n.base == nil || free(n.base)
	case *this:
		return n.base == nil || free(n.base)
	case *call:
		if n.base == nil && n.name != "today" && n.name != "now" && n.name != "timeOfDay" && n.name != "iif" {
			return true
		}
		return n.base != nil && free(n.base)
	case *indexer:
		return free(n.base)
	case *polarity:
		return free(n.of)
	case *typeTest:
		return n.base == nil || free(n.base)
	case *logic:
		return free(n.left) || free(n.right)
	case *equality:
		return free(n.left) || free(n.right)
	case *inequality:
		return free(n.left) || free(n.right)
	case *membership:
		return free(n.item) || free(n.of)
	case *arithmetic:
		return free(n.left) || free(n.right)
	case *union:
		return free(n.left) || free(n.right)
	}
	return false
}
