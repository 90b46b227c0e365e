package tombolo_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	namedTest = regexp.MustCompile("`((?:Test|Fuzz|Benchmark)[A-Za-z0-9_]+)`")
	testFunc  = regexp.MustCompile(`(?m)^func ((?:Test|Fuzz|Benchmark)[A-Za-z0-9_]+)\(`)
)

// TestDocsNameTestsThatExist fails when docs/safety.md or docs/conformance.md shows a control or a claim by a test that is not there.
func TestDocsNameTestsThatExist(t *testing.T) {
	exist := map[string]bool{}
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		src, err := os.ReadFile(path)
		for _, m := range testFunc.FindAllSubmatch(src, -1) {
			exist[string(m[1])] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, doc := range []string{"docs/safety.md", "docs/conformance.md", "docs/performance.md"} {
		text, err := os.ReadFile(doc)
		if err != nil {
			t.Fatal(err)
		}
		named := namedTest.FindAllSubmatch(text, -1)
		if len(named) == 0 {
			t.Errorf("%s names no test", doc)
		}
		for _, m := range named {
			if !exist[string(m[1])] {
				t.Errorf("%s names %s, which there is not", doc, m[1])
			}
		}
	}
}

// TestEveryDirectDependencyIsAccountedFor fails when go.mod requires a module that docs/dependencies.md does not explain.
func TestEveryDirectDependencyIsAccountedFor(t *testing.T) {
	mod, err := os.ReadFile("go.mod")
	if err != nil {
		t.Fatal(err)
	}
	doc, err := os.ReadFile("docs/dependencies.md")
	if err != nil {
		t.Fatal(err)
	}
	direct := regexp.MustCompile(`(?m)^\t(\S+) v\S+$`).FindAllSubmatch(mod, -1)
	if len(direct) < 5 {
		t.Fatalf("go.mod names %d direct dependencies: run go mod tidy", len(direct))
	}
	for _, m := range direct {
		if !strings.Contains(string(doc), "`"+string(m[1])+"`") {
			t.Errorf("docs/dependencies.md says nothing of %s: what for, and instead of what?", m[1])
		}
	}
}
