// Package profile holds resources to FHIR R4 whole: its structure (fhir/r4), its invariants, and profiles such as UK Core's.
//
//	issues := profile.R4().Check(resource)                       // R4, and what of meta.profile is known (nothing)
//	d, problems, err := profile.Load("uk-core/", "hl7.fhir.r4.core.tgz")
//	issues := d.Check(resource, "https://fhir.hl7.org.uk/StructureDefinition/UKCore-Patient")
//
// R4's invariants are a table made from the definitions (rules.txt). Profiles are read when a program starts, from packages and folders that whoever runs it
// has from their publisher: none are part of this program. A profile is what its differentials say, from the base type on; R4's own part of it is fhir/r4's.
//
// It knows codes that the definitions list. Whether a code of an outside terminology exists (SNOMED CT, LOINC, dm+d) is not known here, and is not an error.
package profile

import (
	"slices"
	"strings"

	"tombolo/fhir"
	"tombolo/fhir/fhirpath"
	"tombolo/fhir/r4"
)

// Definitions are the profiles, extensions and value sets that are known. They are immutable.
type Definitions struct {
	profiles map[string]*Profile
	sets     map[string]*valueSet
	systems  map[string]*codeSystem
}

// A Profile is one StructureDefinition that constrains a type.
type Profile struct {
	URL, Name, Type string // Type: "Patient", "Extension"

	base     string
	own      []fhir.Value // elements of the differential
	root     *node        // with those of what it is based on
	contexts []context    // of an extension: where it may stand
	modifier bool         // an extension that changes the meaning
	missing  string       // what it is based on and is not known; "" if all is
}

var onlyR4 = &Definitions{}

// R4 knows no profiles.
func R4() *Definitions { return onlyR4 }

// Profile finds a profile by its canonical URL, with or without a version; nil if it is not known.
func (d *Definitions) Profile(url string) *Profile {
	url, _, _ = strings.Cut(url, "|")
	return d.profiles[url]
}

// URLs are the profiles of a resource type that are known, in order; "" for those of all.
func (d *Definitions) URLs(typ string) []string {
	var out []string
	for u, p := range d.profiles {
		if (typ == "" || p.Type == typ) && p.Type != "Extension" {
			out = append(out, u)
		}
	}
	slices.Sort(out)
	return out
}

const (
	maxIssues = 100
	maxWork   = 2_000_000 // elements looked at, in all profiles
	maxWithin = 24        // profiles within profiles
)

// Check holds a resource to R4, to the profiles that are named, and to those of meta.profile (of resources inside it, too) that are known. Issues that are
// no error have a severity. Each says where by FHIRPath, what, and how to mend it; none repeats a value. FHIR R4 validation.html
func (d *Definitions) Check(r *fhir.Resource, profiles ...string) []*fhir.Issue {
	issues := r4.Check(r, r4.Whole)
	c := &checker{d: d, work: new(int)}
	c.resource(r.Value(), r.Type(), fhirpath.Item{}, profiles)
	for _, i := range c.issues {
		if !slices.ContainsFunc(issues, func(j *fhir.Issue) bool { return j.Expression == i.Expression && j.Text == i.Text }) {
			issues = append(issues, i)
		}
	}
	if len(issues) > maxIssues {
		issues = append(issues[:maxIssues], note(fhir.Information, fhir.Informational, "", "there are more issues than these %d: mend them, and ask again", maxIssues))
	}
	return issues
}

// Errors are the issues for which a resource is not valid: those that are no warning or information.
func Errors(issues []*fhir.Issue) []*fhir.Issue {
	return slices.DeleteFunc(slices.Clone(issues), func(i *fhir.Issue) bool { return !isError(i) })
}

func isError(i *fhir.Issue) bool {
	return i.Severity == "" || i.Severity == fhir.SevError || i.Severity == fhir.Fatal
}

func note(s fhir.Severity, t fhir.IssueType, at, format string, args ...any) *fhir.Issue {
	i := fhir.Errorf(t, format, args...).At(at)
	i.Severity = s
	return i
}

// A checker walks one resource.
type checker struct {
	d      *Definitions
	issues []*fhir.Issue
	env    fhirpath.Env
	work   *int
	within int
	inner  bool // of a resource inside another
	bundle *bundle
}

func (c *checker) say(t fhir.IssueType, at, format string, args ...any) {
	c.tell(fhir.Errorf(t, format, args...).At(at))
}

func (c *checker) tell(i *fhir.Issue) {
	if len(c.issues) <= maxIssues {
		c.issues = append(c.issues, i)
	}
}

// trial is a checker whose issues are only counted: is this a case of that profile?
func (c *checker) trial() *checker {
	t := &checker{d: c.d, env: c.env, work: c.work, within: c.within + 1, inner: c.inner, bundle: c.bundle}
	t.env.MemberOf, t.env.ConformsTo = t.memberOf, t.conformsTo
	return t
}

func (c *checker) passes() bool { return !slices.ContainsFunc(c.issues, isError) }

// resource checks a resource; within is the one that it is contained in, or of whose Bundle it is an entry: zero if it stands by itself.
func (c *checker) resource(v fhir.Value, at string, container fhirpath.Item, profiles []string) {
	typ := v.Member("resourceType").Str()
	t := r4.TypeOf(typ)
	if t == nil || !t.Resource {
		return // r4.Check says so
	}
	it := fhirpath.Element(v, fhir.Value{}, nil, "Resource")
	was, inner := c.env, c.inner
	defer func() { c.env, c.inner = was, inner }()
	c.env.Resource, c.env.Root = it, it
	if container.Type() != nil {
		c.env.Root = container
	}
	c.env.MemberOf, c.env.ConformsTo = c.memberOf, c.conformsTo
	if typ == "Bundle" && c.bundle == nil {
		c.bundle = &bundle{root: v}
		c.env.Resolve = c.bundle.resolve
	}
	var nodes []*node
	asked := len(profiles)
	for p := range v.All("meta.profile") {
		if s := p.Str(); s != "" && !slices.Contains(profiles, s) {
			profiles = append(profiles[:len(profiles):len(profiles)], s)
		}
	}
	for i, url := range profiles {
		if n := c.profileFor(url, typ, at, i < asked); n != nil {
			nodes = append(nodes, n)
		}
	}
	c.element(place{it: it, v: v, typ: typ, of: t, at: at}, nodes)
}

// profileFor finds the profile that a resource is to be held to.
func (c *checker) profileFor(url, typ, at string, asked bool) *node {
	if name, ok := strings.CutPrefix(url, base); ok && r4.TypeOf(strings.Split(name, "|")[0]) != nil {
		if name, _, _ = strings.Cut(name, "|"); name != typ {
			c.say(fhir.Invalid, at+".meta.profile", "this is a %s, and the profile is of %s", typ, name)
		}
		return nil // R4's own: it is held to that in any case
	}
	p := c.d.Profile(url)
	switch {
	case p == nil && asked:
		c.say(fhir.NotFound, at+".meta.profile", "the profile %.200s is not known here: give its package to the server", url)
	case p == nil:
		c.tell(note(fhir.Warning, fhir.NotFound, at+".meta.profile", "the profile %.200s is not known here: the resource was held to R4 and to the profiles that are", url))
	case p.Type != typ:
		c.say(fhir.Invalid, at+".meta.profile", "this is a %s, and the profile %s is of %s", typ, p.Name, p.Type)
	default:
		if p.missing != "" {
			c.tell(note(fhir.Warning, fhir.NotFound, at+".meta.profile", "the profile %s is based on %.200s, which is not known here: only its own part was looked at", p.Name, p.missing))
		}
		return p.root
	}
	return nil
}

const base = "http://hl7.org/fhir/StructureDefinition/"

// conformsTo is FHIRPath's.
func (c *checker) conformsTo(url string, of fhirpath.Item) (conforms, known bool) {
	p := c.d.Profile(url)
	if p == nil || c.within > maxWithin {
		return false, false
	}
	if of.Type() == nil || of.Type().Name != p.Type {
		return false, true
	}
	t := c.trial()
	if rt := r4.TypeOf(p.Type); rt != nil && rt.Resource {
		t.env.Resource, t.env.Root = of, of
	}
	t.element(place{it: of, v: of.Value(), typ: p.Type, of: r4.TypeOf(p.Type), at: p.Type}, []*node{p.root})
	return t.passes(), true
}

func (c *checker) memberOf(url string, of fhirpath.Item) (in, known bool) {
	switch c.d.coded(of, url) {
	case isIn:
		return true, true
	case isOut:
		return false, true
	}
	return false, false
}

// A bundle finds what references within it mean. FHIR R4 bundle.html#references
type bundle struct {
	root  fhir.Value
	byURL map[string]fhir.Value // by fullUrl, and by type and id
}

func (b *bundle) resolve(ref string) fhir.Value {
	if b.byURL == nil {
		b.byURL = map[string]fhir.Value{}
		for e := range b.root.All("entry") {
			res := e.Member("resource")
			if full := e.Member("fullUrl").Str(); full != "" {
				b.byURL[full] = res
			}
			if id := res.Member("id").Str(); id != "" {
				b.byURL[res.Member("resourceType").Str()+"/"+id] = res
			}
		}
	}
	ref, _, _ = strings.Cut(ref, "/_history/")
	return b.byURL[ref]
}
