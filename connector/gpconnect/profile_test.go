package gpconnect

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"tombolo/fhir"
	"tombolo/fhir/profile"
)

var readProfiles = sync.OnceValues(func() (*profile.Definitions, error) {
	dir := os.Getenv("TOMBOLO_DATA")
	for wd, _ := os.Getwd(); dir == "" && wd != filepath.Dir(wd); wd = filepath.Dir(wd) {
		if _, err := os.Stat(filepath.Join(wd, "shared", "data")); err == nil {
			dir = filepath.Join(wd, "shared", "data")
		}
	}
	d := filepath.Join(dir, "02-fhir-definitions")
	p, _, err := profile.Load(filepath.Join(d, "hl7.fhir.r4.core-4.0.1.tgz"), filepath.Join(d, "ukcore-stu3"))
	return p, err
})

// profiled reads the profiles of R4 and UK Core beside the repository; the test skips where they are not.
func profiled(t testing.TB) *profile.Definitions {
	t.Helper()
	p, err := readProfiles()
	if errors.Is(err, os.ErrNotExist) {
		t.Skip("the definitions of FHIR R4 and UK Core are not here: skipped")
	}
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// What comes out is valid R4 and UK Core, whole: structure, types, how often, codes, slices, every invariant of R4's and of UK Core's, and where extensions may
// stand, as this program's own validator finds. Where the input does not allow that, the report says so at that element; and where it says so, it is so.
func TestWhatComesOutIsValidOrTheReportSaysWhy(t *testing.T) {
	d := profiled(t)
	all := map[string][]byte{}
	for _, name := range fixtures {
		all[name] = fixture(t, name).Raw()
	}
	maps.Copy(all, samples(t))
	checked, faults := 0, map[string]int{}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		v, err := fhir.ParseValue(all[name])
		if err != nil {
			continue
		}
		done, err := convertAny(v)
		if err != nil {
			continue
		}
		unsaid, untrue := heldTo(d, done)
		checked += len(done.resources())
		for _, u := range unsaid {
			t.Errorf("%s is not valid, and the report does not say so: %s", name, u)
		}
		for _, u := range untrue {
			t.Errorf("%s: the report says what is not so: %s", name, u)
		}
		for _, r := range done.resources() {
			if r.Text("meta.profile") == "" {
				t.Errorf("%s: %s does not say of which profile it is", name, r)
			}
			for _, is := range profile.Errors(d.Check(r)) {
				faults[plainPath(is.Expression)+": "+is.Text]++
			}
		}
	}
	for _, f := range slices.Sorted(maps.Keys(faults)) {
		t.Logf("%4d %s", faults[f], f)
	}
	if checked < 2000 {
		t.Errorf("only %d resources were looked at", checked)
	}
}

// Whatever is taken out of a record, or put in the place of a text, what comes out is valid or the report says why.
func TestWhatComesOutOfBrokenRecordsIsValidOrTheReportSaysWhy(t *testing.T) {
	d := profiled(t)
	n, unsaid, untrue := 0, map[string]string{}, map[string]string{}
	for _, name := range fixtures {
		for _, m := range mutants(fixture(t, name)) {
			v, err := fhir.ParseValue(m)
			if err != nil {
				t.Fatal(err)
			}
			done, err := Convert(v)
			if err != nil {
				continue
			}
			n++
			un, false := heldTo(d, done)
			for _, u := range un {
				unsaid[u] = name
			}
			for _, u := range false {
				untrue[u] = name
			}
		}
	}
	for _, u := range slices.Sorted(maps.Keys(unsaid)) {
		t.Errorf("%s: not valid, and the report does not say so: %s", unsaid[u], u)
	}
	for _, u := range slices.Sorted(maps.Keys(untrue)) {
		t.Errorf("%s: the report says what is not so: %s", untrue[u], u)
	}
	if n < 2000 {
		t.Errorf("only %d broken records were converted", n)
	}
}

// heldTo gives the errors that the validator finds and the report does not name, and what the report names and the validator does not find.
// An invariant is the same by its key, wherever the two say it; of what is missing in an extension it is enough to name the extension.
func heldTo(d *profile.Definitions, done *Converted) (unsaid, untrue []string) {
	said, found := map[string]string{}, map[string]bool{}
	for _, l := range done.Lacks {
		said[kindOfFault(l)] = l.Text
	}
	for _, r := range done.resources() {
		for _, is := range profile.Errors(d.Check(r)) {
			k := kindOfFault(is)
			found[k] = true
			if said[k] == "" {
				unsaid = append(unsaid, k+" ("+is.Text+")")
			}
		}
	}
	for k, text := range said {
		if !found[k] && !strings.Contains(text, "none of the codes that R4") { // codes of concepts: see TestEveryLackIsReported
			untrue = append(untrue, k+" ("+text+")")
		}
	}
	return unsaid, untrue
}

var invariantKey = regexp.MustCompile(`(?:^|breaks [A-Za-z0-9 ]+'s )([a-z0-9]+(?:-[a-z]+)*-[0-9]+[a-z]?): `)

func kindOfFault(is *fhir.Issue) string {
	at := plainPath(is.Expression)
	typ, _, _ := strings.Cut(at, ".")
	if m := invariantKey.FindStringSubmatch(strings.TrimPrefix(is.Text, is.Expression+" ")); m != nil && m[1] != "ext-1" {
		return typ + " " + m[1]
	}
	if i := strings.Index(at, ".extension"); i >= 0 {
		return at[:i] + ".extension"
	}
	return at
}

// plainPath is an element's path as the report has it: without indexes, and types of a choice in its name.
func plainPath(p string) string {
	var b strings.Builder
	for part := range strings.SplitSeq(p, ".") {
		if typ, ok := strings.CutPrefix(part, "ofType("); ok {
			typ = strings.TrimSuffix(typ, ")")
			b.WriteString(strings.ToUpper(typ[:1]) + typ[1:])
			continue
		}
		name, _, _ := strings.Cut(part, "[")
		name, _, _ = strings.Cut(name, ":") // the report has the type of what is contained beside it
		if b.Len() > 0 {
			b.WriteByte('.')
		}
		b.WriteString(name)
	}
	return b.String()
}
