package match

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// registered are the registrations of OHIE's client registry scenarios in which it is said who is who: a scenario is a registry of its own. Two of one letter are one
// person, by the scenario's national number or its later merge (06, 16, 17); a newborn with no name yet is not the mother (05, 07, 13).
var registered = map[string]map[string]string{
	"05": {"10": "mother", "20": "child"}, "06": {"20": "a", "30": "a"}, "07": {"10": "mother", "20": "child"}, "13": {"10": "mother", "15": "child"},
	"16": {"10": "a", "15": "a"}, "17": {"15": "a", "20": "a", "25": "a"},
}

// pid reads what a PID segment of these messages says of somebody: HL7 v2 3.4.2.
func pid(t *testing.T, message string) Raw {
	t.Helper()
	for segment := range strings.FieldsFuncSeq(message, func(c rune) bool { return c == '\r' || c == '\n' }) {
		f := strings.Split(segment, "|")
		if f[0] != "PID" {
			continue
		}
		part := func(text string, n int) string {
			if parts := strings.Split(text, "^"); n < len(parts) {
				return parts[n]
			}
			return ""
		}
		var out Raw
		for id := range strings.SplitSeq(f[3], "~") {
			out.Numbers = append(out.Numbers, Number{part(id, 3), part(id, 0)})
		}
		for name := range strings.SplitSeq(f[5], "~") {
			out.Family, out.Given = append(out.Family, part(name, 0)), append(out.Given, part(name, 1))
		}
		switch out.Born = f[7]; len(f[7]) {
		case 6:
			out.Born = f[7][:4] + "-" + f[7][4:]
		case 8:
			out.Born = f[7][:4] + "-" + f[7][4:6] + "-" + f[7][6:]
		}
		out.Sex = f[8]
		return out
	}
	t.Fatal("no PID")
	return Raw{}
}

// OHIE's scenarios hold too few people, of whom too little is told, for shares to mean much: nobody is linked wrongly, and whoever has the same national number is found.
func TestTheScenariosOfAClientRegistryAreLinked(t *testing.T) {
	folder := filepath.Join(data, "ohie-client-registry-tests", "HL7")
	if _, err := os.Stat(folder); err != nil {
		t.Skipf("SKIPPED: the public sets for linkage are not here: %v", err)
	}
	var sum quality
	for scenario, files := range registered {
		c, numbers := &crowd{}, map[string]int{}
		for file, who := range files {
			message, err := os.ReadFile(filepath.Join(folder, "OHIE-CR-"+scenario+"-"+file+".txt"))
			if err != nil {
				t.Fatal(err)
			}
			if _, known := numbers[who]; !known {
				numbers[who] = len(numbers)
			}
			c.ds, c.of = append(c.ds, Describe(pid(t, string(message)))), append(c.of, numbers[who])
		}
		q := c.quality(Default())
		t.Logf("scenario %s: %+v", scenario, q)
		if q.autoRight < q.auto || q.right < q.found {
			t.Errorf("scenario %s: somebody is taken for somebody else: %+v", scenario, q)
		}
		sum.records, sum.truth, sum.auto, sum.autoRight, sum.found, sum.right = sum.records+q.records, sum.truth+q.truth, sum.auto+q.auto, sum.autoRight+q.autoRight, sum.found+q.found, sum.right+q.right
	}
	p, r := share(sum.right, sum.found), share(sum.right, sum.truth)
	t.Logf("%-24s %8d %8d | %8.5f %8.4f | %8.4f %8.4f %8.4f", "OHIE scenarios", sum.records, sum.truth, share(sum.autoRight, sum.auto), share(sum.autoRight, sum.truth), p, r, 2*p*r/max(p+r, 1e-9))
	if sum.right == 0 {
		t.Error("none of those who are one person are found")
	}
}
