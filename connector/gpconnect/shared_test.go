package gpconnect

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"tombolo/fhir"
)

// sharedData is the folder of public samples beside the repository; a test that wants it skips where there is none.
func sharedData(t testing.TB) string {
	t.Helper()
	dir := os.Getenv("TOMBOLO_DATA")
	if dir == "" {
		wd, err := os.Getwd()
		if err != nil {
			t.Fatal(err)
		}
		for ; wd != filepath.Dir(wd); wd = filepath.Dir(wd) {
			if _, err := os.Stat(filepath.Join(wd, "shared", "data")); err == nil {
				dir = filepath.Join(wd, "shared", "data")
				break
			}
		}
	}
	dir = filepath.Join(dir, "03-gpconnect")
	if _, err := os.Stat(dir); err != nil {
		t.Skip("the public GP Connect samples are not here (a folder shared/data beside the repository, or TOMBOLO_DATA): skipped")
	}
	return dir
}

var templating = regexp.MustCompile(`(?m)^\s*\{\{[#^/].*\}\}\s*$`)

// samples are the public structured records, with the page and template syntax around some of them taken off.
func samples(t testing.TB) map[string][]byte {
	t.Helper()
	out := map[string][]byte{}
	root := sharedData(t)
	err := filepath.WalkDir(root, func(p string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(p) != ".json" && filepath.Ext(p) != ".mustache" {
			return err
		}
		b, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		b = bytes.TrimPrefix(b, []byte("\xef\xbb\xbf"))
		b = bytes.ReplaceAll(b, []byte("{% highlight json %}"), nil)
		b = bytes.ReplaceAll(b, []byte("{% endhighlight %}"), nil)
		b = templating.ReplaceAll(b, nil)
		rel, _ := filepath.Rel(root, p)
		out[rel] = bytes.TrimSpace(b)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestPublicSamplesConvertOrAreRefusedClearly(t *testing.T) {
	all := samples(t)
	names := make([]string, 0, len(all))
	for n := range all {
		names = append(names, n)
	}
	slices.Sort(names)
	converted := 0
	for _, name := range names {
		v, err := fhir.ParseValue(all[name])
		if err != nil {
			if !fhir.Is(err, fhir.Structure) {
				t.Errorf("%s: refused, but not as what it is: %v", name, err)
			}
			continue
		}
		done, err := Convert(v)
		if err != nil {
			if fhir.IssueOf(err) == nil || fhir.Is(err, fhir.Exception) {
				t.Errorf("%s: %v", name, err)
			}
			if strings.Contains(strings.ToLower(name), "structuredrecord") && !strings.Contains(name, "sds") {
				t.Errorf("%s: a structured record was refused: %v", name, err)
			}
			t.Logf("%-90s refused: %v", name, err)
			continue
		}
		converted++
		t.Logf("%-90s in %v out %v sections %d issues %d", name, done.In, done.Out, len(done.Sections), len(done.Issues))
		for _, is := range done.Issues {
			t.Logf("    %s: %s", is.Expression, is.Text)
		}
		accountFor(t, name, v, done)
	}
	if converted < 15 {
		t.Errorf("only %d samples converted", converted)
	}
}

// accountFor walks every leaf of every resource that came in: it must be in what went out, or stand in the report, or be one of the
// few that R4 says in another way.
func accountFor(t *testing.T, name string, in fhir.Value, done *Converted) {
	t.Helper()
	out := map[string]bool{}
	var collect func(v fhir.Value)
	collect = func(v fhir.Value) {
		if v.IsObject() || v.IsArray() {
			for c := range v.Children() {
				collect(c)
			}
			return
		}
		out[string(v.Raw())] = true
	}
	all := slices.Clone(done.Content)
	all = append(all, done.Patient)
	for _, s := range done.Sections {
		all = append(all, s.List)
	}
	for _, r := range all {
		if _, err := fhir.Parse(r.Raw()); err != nil {
			t.Errorf("%s: %v is not R4: %v", name, r, err)
		}
		collect(r.Value())
	}
	reported := func(path string) bool {
		for _, is := range done.Issues {
			where, _, _ := strings.Cut(is.Expression, " (")
			if path == where || strings.HasPrefix(path, where+".") {
				return true
			}
		}
		return false
	}
	leaves, lost := 0, map[string]int{}
	var walk func(path string, v fhir.Value)
	walk = func(path string, v fhir.Value) {
		if v.IsObject() || v.IsArray() {
			for c := range v.Children() {
				p := path
				if c.Key() != "" {
					p += "." + c.Key()
				}
				walk(p, c)
			}
			return
		}
		if isNull(v) {
			return
		}
		leaves++
		last := path[strings.LastIndexByte(path, '.')+1:]
		switch {
		case out[string(v.Raw())], reported(path):
		case last == "resourceType", last == "url", last == "system", last == "reference", strings.HasSuffix(path, "meta.profile"):
			// said by today's names, see ukCoreURL, systems and resolve
		case path == "Immunization.vaccineCode.text" && v.Str() == "Unknown": // says nothing; the procedure's words stand there
		case last == "notGiven" && !v.Bool(), last == "type" && strings.HasSuffix(path, "related.type"):
		case strings.HasSuffix(path, ".id") && strings.Count(path, ".") <= 2:
		default:
			lost[path]++
		}
	}
	for e := range in.All("entry") {
		r := e.Member("resource")
		if !r.Exists() {
			r = e
		}
		if typ := r.Text("resourceType"); typ != "OperationOutcome" {
			walk(typ, r)
		}
	}
	if len(lost) > 0 {
		t.Errorf("%s: %d kinds of leaves of %d leaves are unaccounted for: %v", name, len(lost), leaves, lost)
	}
	sum := func(m map[string]int) (n int) {
		for _, c := range m {
			n += c
		}
		return
	}
	missing := sum(done.In) - sum(done.Out)
	var said int
	for _, is := range done.Issues {
		where, _, _ := strings.Cut(is.Expression, " (")
		if is.Type == fhir.Duplicate && is.Severity == fhir.Information || is.Type == fhir.NotSupported && !strings.Contains(where, ".") ||
			is.Type == fhir.BusinessRule || strings.HasPrefix(is.Expression, "OperationOutcome") || strings.HasPrefix(is.Expression, "include") {
			n := 1
			if _, err := fmt.Sscanf(is.Text[strings.LastIndexByte(is.Text, '(')+1:], "%d times", &n); err != nil {
				n = 1
			}
			said += n
		}
	}
	if missing > said {
		t.Errorf("%s: %d resources in, %d out, and the report speaks of %d", name, sum(done.In), sum(done.Out), said)
	}
}
