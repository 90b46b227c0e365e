package tombolo_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

var (
	namedTest = regexp.MustCompile("`((?:Test|Fuzz|Benchmark)[A-Za-z0-9_]+)`")
)

// tests are all tests of the repository, and whether each always runs: one that may skip itself, by itself or in what it calls, does not.
func tests(t *testing.T) map[string]bool {
	t.Helper()
	type function struct{ dir, name string }
	bodies, skips := map[function]string{}, map[function]bool{}
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		src, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, m := range anyFunc.FindAllSubmatchIndex(src, -1) {
			f := function{filepath.Dir(path), string(src[m[2]:m[3]])}
			body, _, _ := strings.Cut(string(src[m[1]:]), "\n}\n")
			bodies[f] += body
			skips[f] = skips[f] || skipped.MatchString(body)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]bool{}
	for f, body := range bodies {
		if !testName.MatchString(f.name) {
			continue
		}
		always := strings.HasPrefix(f.name, "Test") && !skips[f]
		for _, m := range called.FindAllStringSubmatch(body, -1) {
			always = always && !skips[function{f.dir, m[1]}]
		}
		out[f.name] = always
	}
	return out
}

var (
	anyFunc  = regexp.MustCompile(`(?m)^func ([A-Za-z0-9_]+)\(`)
	testName = regexp.MustCompile(`^(Test|Fuzz|Benchmark)[A-Za-z0-9_]+$`)
	skipped  = regexp.MustCompile(`\.Skip(f|Now)?\(|pgtest\.Need\(`)
	called   = regexp.MustCompile(`(?:^|[^.A-Za-z0-9_])([a-z][A-Za-z0-9_]*)\(t\b`) // helpers of the package itself
)

// hazards are the rows of the tables of a hazard log: the first cell names them, the last holds the tests.
func hazards(log string) (rows [][]string) {
	for line := range strings.Lines(log) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		if len(cells) == 4 && strings.TrimSpace(cells[0]) != "" && !strings.Contains(cells[0], "---") {
			rows = append(rows, cells)
		}
	}
	return rows
}

// faults says what is wrong with a hazard log.
func faults(log string, exist map[string]bool) (out []string) {
	seen := map[string]bool{}
	for _, row := range hazards(log) {
		for id := range strings.SplitSeq(row[0], ",") {
			if id = strings.TrimSpace(id); seen[id] {
				out = append(out, id+" stands there twice")
			}
			seen[id] = true
			if strings.TrimSpace(row[2]) == "" {
				out = append(out, id+" has no control")
			}
			runs := false
			for _, m := range namedTest.FindAllStringSubmatch(row[3], -1) {
				always, ok := exist[m[1]]
				if !ok {
					out = append(out, id+" names "+m[1]+", which there is not")
				}
				runs = runs || always
			}
			if !runs {
				out = append(out, id+" has no test that always runs")
			}
		}
	}
	for n := 1; n <= 20; n++ { // those that were found beforehand
		if id := "H" + strconv.Itoa(n); !seen[id] {
			out = append(out, id+" is missing")
		}
	}
	return out
}

// TestEveryHazardHasItsTest fails when docs/safety.md has a control without a test that always runs.
func TestEveryHazardHasItsTest(t *testing.T) {
	log, err := os.ReadFile("docs/safety.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range faults(string(log), tests(t)) {
		t.Error("docs/safety.md: " + f)
	}
}

// The check of the hazard log fails where it should.
func TestTheCheckOfTheHazardLogFindsFaults(t *testing.T) {
	exist := map[string]bool{"TestGood": true, "TestSkips": false}
	log := "| | hazard | control | shown by |\n|---|---|---|---|\n"
	for n := 1; n <= 20; n++ {
		log += "| H" + strconv.Itoa(n) + " | h | c | `TestGood`, `TestSkips` |\n"
	}
	if f := faults(log, exist); len(f) > 0 {
		t.Fatalf("a good log: %v", f)
	}
	row := func(id, control, tests string) string {
		return log + "| " + id + " | h | " + control + " | " + tests + " |\n"
	}
	for want, bad := range map[string]string{
		"H21 has no test that always runs":        row("H21", "c", ""),
		"C1 has no test that always runs":         row("C1", "c", "`TestSkips`"),
		"C2 names TestGone, which there is not":   row("C2", "c", "`TestGood`, `TestGone`"),
		"H20 stands there twice":                  row("H20", "c", "`TestGood`"),
		"H22 has no control":                      row("H22", " ", "`TestGood`"),
		"H20 is missing":                          strings.Replace(log, "| H20 |", "| H23 |", 1),
		"H25 names TestGone2, which there is not": row("H24, H25", "c", "`TestGood`, `TestGone2`"),
	} {
		if f := faults(bad, exist); !slices.Contains(f, want) {
			t.Errorf("found %q, want %q", f, want)
		}
	}
}

// TestDocsNameTestsThatExist fails when docs/safety.md or docs/conformance.md shows a control or a claim by a test that is not there.
func TestDocsNameTestsThatExist(t *testing.T) {
	exist := tests(t)
	for _, doc := range []string{"docs/safety.md", "docs/conformance.md", "docs/performance.md", "docs/security.md"} {
		text, err := os.ReadFile(doc)
		if err != nil {
			t.Fatal(err)
		}
		named := namedTest.FindAllSubmatch(text, -1)
		if len(named) == 0 {
			t.Errorf("%s names no test", doc)
		}
		for _, m := range named {
			if _, ok := exist[string(m[1])]; !ok {
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

var (
	bucketConst = regexp.MustCompile(`(?m)^\s*(?:const )?\w*[bB]ucket\w*\s*=\s*"([a-z][a-z-]*)"`)
	bucketCall  = regexp.MustCompile(`\.(?:Bucket|View)\("([a-z][a-z-]*)"\)`)
	bucketFunc  = regexp.MustCompile(`(?m)^func .*(?:[bB]ucket|files)\(.*string \{ return (?:fmt\.Sprintf\()?"([a-z-]+[-/])(?:%02d|" \+)`)
)

// Every bucket that a room keeps things in has its row in docs/storage.md's table of keys, and each row a room that keeps it.
func TestEveryBucketIsInTheTableOfKeys(t *testing.T) {
	kept := map[string]string{}
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		src, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, e := range []*regexp.Regexp{bucketConst, bucketCall} {
			for _, m := range e.FindAllSubmatch(src, -1) {
				kept[string(m[1])] = path
			}
		}
		if strings.Contains(string(src), ".Bucket(") {
			for _, m := range bucketFunc.FindAllSubmatch(src, -1) { // one for each of something
				kept[string(m[1])] = path
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(kept) < 25 {
		t.Fatalf("only %d buckets were found in the source: %v", len(kept), kept)
	}
	text, err := os.ReadFile("docs/storage.md")
	if err != nil {
		t.Fatal(err)
	}
	told := map[string]bool{}
	for _, row := range regexp.MustCompile("(?m)^\\| (`b/[^|]*) \\|").FindAllSubmatch(text, -1) {
		for _, m := range regexp.MustCompile("`b/([^`<]+)").FindAllSubmatch(row[1], -1) {
			told[string(m[1])] = true
		}
	}
	for name, path := range kept {
		if !told[name] {
			t.Errorf("docs/storage.md does not say what is kept in the bucket %s (%s)", name, path)
		}
	}
	for name := range told {
		if kept[name] == "" {
			t.Errorf("docs/storage.md tells of a bucket %s that nobody keeps", name)
		}
	}
}
