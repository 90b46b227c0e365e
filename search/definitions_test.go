package search

import (
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"tombolo/fhir/pack"
)

// dataDir is the folder of public standards files that the tests may read where a developer has it; it is not part of the product.
func dataDir(t *testing.T) string {
	dir := os.Getenv("TOMBOLO_DATA")
	if dir == "" {
		wd, err := os.Getwd()
		if err != nil {
			t.Fatal(err)
		}
		for d := wd; ; d = filepath.Dir(d) {
			if s := filepath.Join(d, "shared", "data"); isDir(s) {
				return s
			}
			if d == filepath.Dir(d) {
				break
			}
		}
	}
	if dir == "" || !isDir(dir) {
		t.Skip("the folder of public standards files is not here (TOMBOLO_DATA, or shared/data beside the checkout): nothing to compare with")
	}
	return dir
}

func isDir(p string) bool { fi, err := os.Stat(p); return err == nil && fi.IsDir() }

type searchParameter struct {
	Code, Type, Expression string
	Base                   []string
}

func readDefinitions(t *testing.T) map[string]map[string]searchParameter {
	out := map[string]map[string]searchParameter{}
	eachDefinition(t, "SearchParameter-", func(data []byte) {
		var sp searchParameter
		if err := json.Unmarshal(data, &sp); err != nil {
			t.Fatal(err)
		}
		for _, b := range sp.Base {
			if out[b] == nil {
				out[b] = map[string]searchParameter{}
			}
			out[b][sp.Code] = sp
		}
	})
	return out
}

// eachDefinition reads the files of R4's definitions whose names begin so.
func eachDefinition(t *testing.T, prefix string, read func([]byte)) {
	for f, err := range pack.Open(filepath.Join(dataDir(t), "02-fhir-definitions", "hl7.fhir.r4.core-4.0.1.tgz")) {
		if errors.Is(err, fs.ErrNotExist) {
			t.Skip("R4's definitions are not here:", err)
		}
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(f.Name, prefix) {
			continue
		}
		data, err := io.ReadAll(f.Content)
		if err != nil {
			t.Fatal(err)
		}
		read(data)
	}
}

// The table says what R4 says: each parameter exists there, is of that kind, and looks at those elements.
func TestTableAgreesWithR4(t *testing.T) {
	r4 := readDefinitions(t)
	checked := 0
	for _, typ := range Types() {
		for _, d := range Defs(typ) {
			sp, ok := r4[typ][d.Name]
			if strings.HasPrefix(d.Name, "_") {
				if sp, ok = r4["Resource"][d.Name]; !ok {
					sp, ok = r4["DomainResource"][d.Name]
				}
			}
			switch {
			case !ok:
				t.Errorf("%s has no parameter %s in R4", typ, d.Name)
			case sp.Type != string(d.Kind):
				t.Errorf("%s.%s is a %s in R4, a %s here", typ, d.Name, sp.Type, d.Kind)
			case d.Kind == KindComposite || d.scan != nil || strings.Contains(sp.Expression, "extension(") || differs[typ+"."+d.Name] != "" || d.Name == "_id":
			default:
				checked++
				if got, want := ourPaths(d), theirPaths(typ, sp.Expression); !slices.Equal(got, want) {
					t.Errorf("%s.%s looks at %v here, at %v in R4", typ, d.Name, got, want)
				}
			}
		}
		if missing := missingFrom(r4[typ], typ); len(missing) > 0 {
			t.Logf("%s: not offered: %s", typ, strings.Join(missing, " "))
		}
	}
	t.Logf("%d parameters compared", checked)
}

// differs says where the table departs from R4's expression, and why.
var differs = map[string]string{
	"Consent.source-reference":   "sourceAttachment is no reference",
	"RiskAssessment.probability": "probabilityRange is no number",
	"InsurancePlan.name":         "published without the type's name",
	"InsurancePlan.phonetic":     "published without alias",
}

// Each path names elements that R4 has, and says [x] exactly where R4 has a choice.
func TestPathsAgreeWithR4(t *testing.T) {
	elements := map[string]bool{}
	eachDefinition(t, "StructureDefinition-", func(data []byte) {
		var sd struct {
			Snapshot struct{ Element []struct{ Path string } }
		}
		if err := json.Unmarshal(data, &sd); err != nil {
			t.Fatal(err)
		}
		for _, e := range sd.Snapshot.Element {
			elements[e.Path] = true
		}
	})
	if len(elements) == 0 {
		t.Skip("R4's StructureDefinitions are not here")
	}
	for _, typ := range Types() {
		for _, d := range Defs(typ) {
			for _, steps := range d.expr {
				at := typ
				for _, st := range steps {
					next := at + "." + st.name
					if st.choice {
						next += "[x]"
					}
					if concrete := choiceOf(elements, at, st.name); !elements[next] && concrete == "" {
						t.Errorf("%s.%s: R4 has no element %s", typ, d.Name, next)
						break
					}
					if at = next; !hasChildren(elements, at) {
						break // into a data type
					}
				}
			}
		}
	}
}

// choiceOf finds the choice of which member is one concrete form: valueQuantity is of value[x].
func choiceOf(elements map[string]bool, at, member string) string {
	for i := len(member) - 1; i > 0; i-- {
		if elements[at+"."+member[:i]+"[x]"] && choiceTypes[member[i:]] {
			return member[:i] + "[x]"
		}
	}
	return ""
}

func hasChildren(elements map[string]bool, at string) bool {
	for e := range elements {
		if strings.HasPrefix(e, at+".") {
			return true
		}
	}
	return false
}

func missingFrom(r4 map[string]searchParameter, typ string) []string {
	var out []string
	for name := range r4 {
		if lookup(typ, name) == nil {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

func ourPaths(d Def) []string {
	out := strings.Split(strings.ReplaceAll(d.Path, "[x]", ""), "|")
	slices.Sort(out)
	return out
}

var (
	asType   = regexp.MustCompile(`^\((.*) as (\w+)\)(.*)$`)
	asCall   = regexp.MustCompile(`\.(?:as|ofType)\((\w+)\)`)
	resolves = regexp.MustCompile(`\.where\(resolve\(\) is (\w+)\)`)
	where    = regexp.MustCompile(`\.where\((\w+)='([\w-]+)'\)`)
	extended = regexp.MustCompile(`\.where\(hasExtension\('([^']+)'\)\)`)
)

// theirPaths writes R4's FHIRPath the way params.txt does.
func theirPaths(typ, expression string) []string {
	var out []string
	for alt := range strings.SplitSeq(expression, "|") {
		alt = strings.TrimSpace(alt)
		if alt == "Patient.deceased.exists() and Patient.deceased != false" {
			alt = "Patient.deceased(some)"
		}
		alt = asType.ReplaceAllStringFunc(alt, func(s string) string {
			m := asType.FindStringSubmatch(s)
			return m[1] + upper(m[2]) + m[3]
		})
		alt = asCall.ReplaceAllStringFunc(alt, func(s string) string { return upper(asCall.FindStringSubmatch(s)[1]) })
		alt = extended.ReplaceAllString(strings.ReplaceAll(alt, "[0]", "(first)"), "(extension.url=$1)")
		alt = where.ReplaceAllString(resolves.ReplaceAllString(alt, "($1)"), "($1=$2)")
		if p, ok := strings.CutPrefix(alt, typ+"."); ok {
			out = append(out, p)
		} else if p, ok := strings.CutPrefix(alt, "Resource."); ok {
			out = append(out, p)
		}
	}
	slices.Sort(out)
	return out
}

func upper(s string) string { return strings.ToUpper(s[:1]) + s[1:] }
