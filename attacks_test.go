package tombolo_test

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

var attackID = regexp.MustCompile(`\bA([0-9]+)(?:–A([0-9]+))?\b`)

// attacks says what is wrong with the threats of a text: each of A1 to A38 stands at the beginning of a row of three cells, whose last names tests that always
// run, or says that what is attacked is not offered.
func attacks(text string, exist map[string]bool) (out []string) {
	shown := map[int]bool{}
	for line := range strings.Lines(text) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), " | ")
		if !strings.HasPrefix(line, "| A") || len(cells) < 3 {
			continue
		}
		ids := attackID.FindAllStringSubmatch(regexp.MustCompile(`^\s*(A[0-9]+(–A[0-9]+)?(, )?)+`).FindString(cells[0]), -1)
		last := cells[len(cells)-1]
		runs := strings.HasPrefix(strings.TrimSpace(last), "not offered")
		for _, m := range namedTest.FindAllStringSubmatch(last, -1) {
			runs = runs || exist[m[1]]
		}
		for _, id := range ids {
			from, _ := strconv.Atoi(id[1])
			to := from
			if id[2] != "" {
				to, _ = strconv.Atoi(id[2])
			}
			for n := from; n <= to; n++ {
				shown[n] = shown[n] || runs
				if !runs {
					out = append(out, fmt.Sprintf("A%d: %q names no test that always runs", n, strings.TrimSpace(cells[0])))
				}
			}
		}
	}
	for n := 1; n <= 38; n++ {
		if !shown[n] {
			out = append(out, fmt.Sprintf("A%d has no row with a test or a reason", n))
		}
	}
	return out
}

// TestEveryAttackHasItsTestOrAReason holds docs/security.md to the whole list of attacks.
func TestEveryAttackHasItsTestOrAReason(t *testing.T) {
	text, err := os.ReadFile("docs/security.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range attacks(string(text), tests(t)) {
		t.Error("docs/security.md: " + f)
	}
}

func TestTheCheckOfTheAttacksFindsFaults(t *testing.T) {
	exist := map[string]bool{"TestGood": true, "TestSkips": false}
	good := "| A1–A36 all | c | `TestGood` |\n| A37, A38 both | c | not offered |\n"
	if f := attacks(good, exist); len(f) > 0 {
		t.Fatalf("a good page: %v", f)
	}
	for want, bad := range map[string]string{
		"A38 has no row with a test or a reason":                strings.Replace(good, ", A38", "", 1),
		"A37: \"A37, A38 both\" names no test that always runs": strings.Replace(good, "not offered", "`TestSkips`", 1),
		"A36 has no row with a test or a reason":                strings.Replace(good, "A36", "A35", 1),
	} {
		if f := attacks(bad, exist); !slices.Contains(f, want) {
			t.Errorf("found %q, want %q", f, want)
		}
	}
}
