package gpconnect

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"tombolo/fhir"
)

// A tally is what became of the leaves of a bundle.
type tally struct{ leaves, mapped, carried, named, lost int }

func (a tally) plus(b tally) tally {
	return tally{a.leaves + b.leaves, a.mapped + b.mapped, a.carried + b.carried, a.named + b.named, a.lost + b.lost}
}

func types(m map[string]int) string {
	var out []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		out = append(out, fmt.Sprintf("%s %d", k, m[k]))
	}
	return strings.Join(out, ", ")
}

// The conservation table over the public samples: each leaf of each resource that came in is mapped, carried in an extension, or named
// in the report. Run with -v to see it.
func TestPublicSamplesConvertOrAreRefusedClearly(t *testing.T) {
	all := samples(t)
	converted, refused := 0, 0
	var total tally
	for _, name := range slices.Sorted(maps.Keys(all)) {
		v, err := fhir.ParseValue(all[name])
		if err != nil {
			if !fhir.Is(err, fhir.Structure) {
				t.Errorf("%s: refused, but not as what it is: %v", name, err)
			}
			refused++
			t.Logf("%s\n      refused: %v", name, err)
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
			refused++
			t.Logf("%s\n      refused: %v", name, err)
			continue
		}
		converted++
		sum := accountFor(t, name, v, done)
		total = total.plus(sum)
		t.Logf("%s\n      in:  %s\n      out: %s\n      %d leaves = %d mapped + %d carried + %d named; %d lists, %d lines of report", name,
			types(done.In), types(done.Out), sum.leaves, sum.mapped, sum.carried, sum.named, len(done.Sections), len(done.Issues))
		for _, is := range done.Issues {
			t.Logf("      report: %s: %s", is.Expression, is.Text)
		}
		for _, is := range done.Lacks {
			t.Logf("      lacks: %s", is.Text)
		}
	}
	t.Logf("ALL: %d bundles converted, %d files refused; %d leaves = %d mapped + %d carried + %d named + %d lost",
		converted, refused, total.leaves, total.mapped, total.carried, total.named, total.lost)
	if converted < 15 {
		t.Errorf("only %d samples converted", converted)
	}
	if total.lost > 0 {
		t.Errorf("%d leaves are unaccounted for", total.lost)
	}
}

// An account compares what one resource was with what it became.
type account struct {
	c             *converter
	done          *Converted
	plain, within map[string]int // leaves of the R4 resource outside and inside of extensions, not yet claimed
	tally
	kinds map[string]int // places of leaves that are lost
}

// accountFor walks every leaf of every resource that came in. Each must be claimed by a leaf of the very resource that it became, and no
// leaf there can be claimed twice; or the report names its place; or it is one of the few that R4 says in another way (said below).
func accountFor(t *testing.T, name string, in fhir.Value, done *Converted) tally {
	t.Helper()
	c, came := newConverter(false), map[fingerprint]fhir.Value{}
	for e := range in.All("entry") {
		if err := c.take(e); err != nil {
			t.Fatal(err)
		}
		r := e.Member("resource")
		if !r.Exists() {
			r = e
		}
		came[fingerprintOf(r.Raw())] = r
		for k := range r.All("contained") {
			came[fingerprintOf(k.Raw())] = k
		}
	}
	c.settle()
	became := map[string]*fhir.Resource{}
	all := append(slices.Clone(done.Content), done.Patient)
	for _, s := range done.Sections {
		all = append(all, s.List)
	}
	for _, r := range all {
		if _, err := fhir.Parse(r.Raw()); err != nil {
			t.Errorf("%s: %v is not R4: %v", name, r, err)
		}
		became[string(r.Ref())] = r
	}
	var sum tally
	for i := range c.entries {
		e := c.entries[i]
		if e.drop { // named in the report as a whole; checkCounts sees to it
			n := leaves(came[e.sum])
			sum = sum.plus(tally{leaves: n, named: n})
			continue
		}
		r := became[e.typ+"/"+e.id]
		if r == nil {
			t.Errorf("%s: nothing became of a %s", name, e.from)
			continue
		}
		a := &account{c: c, done: done, plain: map[string]int{}, within: map[string]int{}, kinds: map[string]int{}}
		if c.locals = nil; e.from == "List" {
			k := newConverter(false)
			_ = k.takeContained(came[e.sum], 0)
			c.locals = k.locals
		}
		a.collect(r.Value(), a.plain)
		a.walk(e.from, came[e.sum], e.from == "List")
		sum = sum.plus(a.tally)
		if a.lost > 0 {
			t.Errorf("%s: of a %s are lost: %v", name, e.from, a.kinds)
		}
	}
	checkCounts(t, name, done)
	return sum
}

func leaves(v fhir.Value) (n int) {
	if !v.IsObject() && !v.IsArray() {
		return 1
	}
	for c := range v.Children() {
		n += leaves(c)
	}
	return n
}

func (a *account) collect(v fhir.Value, into map[string]int) {
	switch {
	case v.IsObject() || v.IsArray():
		for c := range v.Children() {
			if c.Key() == "extension" || c.Key() == "modifierExtension" {
				a.collect(c, a.within)
				continue
			}
			a.collect(c, into)
		}
	default:
		into[string(v.Raw())]++
	}
}

// claim takes one leaf of what came out.
func (a *account) claim(raw string) bool {
	switch {
	case a.plain[raw] > 0:
		a.plain[raw]--
		a.mapped++
	case a.within[raw] > 0:
		a.within[raw]--
		a.carried++
	default:
		return false
	}
	return true
}

func (a *account) walk(path string, v fhir.Value, list bool) {
	if v.IsObject() || v.IsArray() {
		for c := range v.Children() {
			p := path
			if k := c.Key(); k != "" {
				p += "." + k
			}
			if list && c.Key() == "" && strings.HasSuffix(path, ".contained") && c.Text("resourceType") == "AllergyIntolerance" {
				continue // lifted out of the list; it has an account of its own
			}
			a.walk(p, c, list)
		}
		return
	}
	if isNull(v) {
		return
	}
	a.leaves++
	if strings.HasSuffix(path, ".id") && strings.Count(path, ".") == 1 { // see targetID; that it is the resource's own is checked above
		a.mapped++
		return
	}
	if a.claim(string(v.Raw())) || a.renamed(path, v) {
		return
	}
	if a.reported(path) {
		a.named++
		return
	}
	a.lost++
	a.kinds[path]++
}

// renamed are the leaves that R4 says in another way.
func (a *account) renamed(path string, v fhir.Value) bool {
	last := path[strings.LastIndexByte(path, '.')+1:]
	quoted := func(s string) string { return string(fhir.JSON(s)) }
	switch {
	case last == "reference":
		return a.claim(quoted(a.c.settled(a.c.plain(v.Str()))))
	case last == "system":
		saved := a.c.out
		a.c.out = nil
		a.c.system(v)
		today := string(a.c.out)
		a.c.out = saved
		return a.claim(today)
	case last == "url": // an extension under today's name, or one whose content has a place of its own in R4
		if a.claim(quoted(ukCoreURL(v.Str()))) {
			return true
		}
	case last == "resourceType", strings.HasSuffix(path, "meta.profile"): // as what it is in R4, and the profile of that
	case strings.HasSuffix(path, "contained.id"): // see settleDuplicates
	case last == "notGiven" && !v.Bool(), last == "notDone" && !v.Bool():
	case last == "type" && strings.HasSuffix(path, "related.type"): // hasMember and derivedFrom
	case path == "Immunization.vaccineCode.text" && v.Str() == "Unknown": // says nothing; the procedure's words stand there
	case path == "Immunization.status" && v.Str() == "completed", path == "MedicationStatement.status", path == "Procedure.status":
		// turned round by notGiven, taken, notDone; what was said stands in an extension where it is not the plain opposite
	default:
		return false
	}
	a.mapped++
	return true
}

func (a *account) reported(path string) bool {
	for _, is := range a.done.Issues {
		where, _, _ := strings.Cut(is.Expression, " (")
		if path == where || strings.HasPrefix(path, where+".") && strings.Contains(where, ".") {
			return true
		}
	}
	return false
}

// checkCounts holds resources to the same law: as many as came in went out, or the report speaks of those that did not.
func checkCounts(t *testing.T, name string, done *Converted) {
	t.Helper()
	sum := func(m map[string]int) (n int) {
		for _, c := range m {
			n += c
		}
		return
	}
	missing, said := sum(done.In)-sum(done.Out), 0
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

// The account above compares values, of which many are alike. Here each kind of leaf of each fixture is changed by itself into something
// that stands nowhere else: it must then stand in what comes out, or the report must name its place. A flag that is turned round must
// change what comes out, or the report.
func TestEveryLeafIsFollowed(t *testing.T) {
	followed := 0
	for _, name := range fixtures {
		whole := fixture(t, name)
		plain := string(show(convert(t, whole)))
		for _, l := range leafKinds(whole) {
			const token = "zq-1907"
			to := `"` + token + `"`
			sought := token
			switch raw := l.v.Raw(); raw[0] {
			case 't', 'f':
				to, sought = map[byte]string{'t': "false", 'f': "true"}[raw[0]], ""
			case '"':
			default:
				to, sought = "19073.25", "19073.25"
			}
			v, err := fhir.ParseValue(whole.Rewrite(func(x fhir.Value) ([]byte, bool) {
				if len(x.Raw()) > 0 && &x.Raw()[0] == &l.v.Raw()[0] && !x.IsObject() && !x.IsArray() {
					return []byte(to), true
				}
				return nil, false
			}))
			if err != nil {
				t.Fatal(err)
			}
			done, err := Convert(v)
			if err != nil {
				continue // refused as a whole: nothing is lost unseen
			}
			got := string(show(done))
			followed++
			last := l.path[strings.LastIndexByte(l.path, '.')+1:]
			switch {
			case sought == "" && got != plain, sought != "" && strings.Contains(got, sought):
			case strings.HasSuffix(l.path, "meta.profile"): // that of what it has become stands there
			case last == "resourceType" && got != plain: // another type, or none that is known: the report says so, or the account above
			case (&account{done: done}).reported(l.path) || dropped(done, l.path):
			default:
				t.Errorf("%s: %s, changed to %s, is neither in what comes out nor in the report", name, l.path, to)
			}
		}
	}
	t.Logf("%d leaves were followed, each by itself", followed)
	if followed < 1000 {
		t.Errorf("only %d leaves were followed", followed)
	}
}

// dropped reports whether the report says that a resource of the path's type was left out as a whole.
func dropped(done *Converted, path string) bool {
	typ, _, _ := strings.Cut(path, ".")
	for _, is := range done.Issues {
		where, _, _ := strings.Cut(is.Expression, " (")
		if strings.Contains(path, ".contained.") && is.Type == fhir.BusinessRule { // lifted out of its list, and about somebody else
			return true
		}
		if where == typ && (is.Type == fhir.BusinessRule || is.Type == fhir.NotSupported || is.Type == fhir.Duplicate) {
			return true
		}
	}
	return false
}

// A leafAt is a value, and its path from its resource.
type leafAt struct {
	path string
	v    fhir.Value
}

// leafKinds are the leaves of a bundle's resources, each kind of place with each kind of neighbour once.
func leafKinds(bundle fhir.Value) (out []leafAt) {
	seen := map[string]bool{}
	var walk func(v fhir.Value, path, sort string)
	walk = func(v fhir.Value, path, sort string) {
		if v.IsObject() || v.IsArray() {
			if u := v.Text("url"); u != "" {
				sort += " " + u
			}
			for c := range v.Children() {
				p := path
				if c.Key() != "" {
					p += "." + c.Key()
				}
				walk(c, p, sort)
			}
			return
		}
		if key := path + sort; !isNull(v) && !seen[key] {
			seen[key] = true
			out = append(out, leafAt{path, v})
		}
	}
	for r := range bundle.All("entry.resource") {
		typ := r.Text("resourceType")
		walk(r, typ, r.Text("status")+r.Text("intent")+r.Text("code.coding.code"))
	}
	return out
}
