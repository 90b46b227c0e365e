package main

import (
	"bytes"
	"encoding/json"
	"os"
	"regexp"
	"runtime/debug"
	"strings"
	"testing"
)

// Nothing is in the program that is not pinned by version and hash, nothing is put in another's place, and the program itself says what it is built of.
func TestWhatTheProgramIsBuiltOfIsPinnedAndTold(t *testing.T) {
	mod, err := os.ReadFile("../../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	sums, err := os.ReadFile("../../go.sum")
	if err != nil {
		t.Fatal(err)
	}
	if regexp.MustCompile(`(?m)^\s*replace\b|=>`).Match(mod) {
		t.Error("go.mod puts one module in another's place: what is built is not what is named")
	}
	required := regexp.MustCompile(`(?m)^\t?(?:require )?([a-z0-9.-]+\.[a-z]+/\S+|[a-z]+\.[a-z.]+/\S+) (v\S+)`).FindAllStringSubmatch(string(mod), -1)
	if len(required) < 20 {
		t.Fatalf("go.mod requires %d modules: the test does not read it", len(required))
	}
	for _, m := range required {
		if !strings.Contains(string(sums), m[1]+" "+m[2]+"/go.mod h1:") {
			t.Errorf("%s %s has no hash in go.sum", m[1], m[2])
		}
	}
	info := &debug.BuildInfo{GoVersion: "go1.26", Main: debug.Module{Path: "tombolo"}, Deps: []*debug.Module{{Path: "example.org/a", Version: "v1.2.3", Sum: "h1:x"},
		{Path: "example.org/b", Version: "v1.0.0", Replace: &debug.Module{Path: "example.org/fork", Version: "v0.1.0"}}}}
	d := sbom(info)
	if len(d.Components) != 3 || d.Components[1].PURL != "pkg:golang/example.org/a@v1.2.3" || d.Components[1].Hashes[0].Value != "h1:x" || d.Components[2].Name != "example.org/fork" {
		t.Errorf("%+v", d.Components)
	}
	var out, complaints bytes.Buffer
	if code := run([]string{"sbom"}, &out, &complaints); code != 0 {
		t.Fatal(complaints.String())
	}
	var told sbomDocument
	if err := json.Unmarshal(out.Bytes(), &told); err != nil || told.Format != "CycloneDX" || told.Components[0].Name != "std" {
		t.Errorf("%v %+v", err, told)
	}
	for _, p := range told.Components[1:] {
		if len(p.Hashes) == 0 {
			t.Errorf("%s is in this binary without a hash", p.Name)
		}
	}
}
