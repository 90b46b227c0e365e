package gpconnect

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"unicode"

	"tombolo/fhir"
	"tombolo/fhir/pack"
)

// Definitions are those of FHIR R4, with UK Core's on top: which elements there are, how often, of what type, and of which codes.
type definitions struct {
	types    map[string]map[string]definition // type -> path -> element
	profiles map[string]map[string]definition // UK Core profile -> path -> what it changes
	sets     map[string]*codeSet              // value sets by URL
	systems  map[string][]string              // code systems by URL
}

type definition struct {
	Path             string
	Min              int
	Max              string
	Type             []struct{ Code string }
	ContentReference string
	Binding          struct{ Strength, ValueSet string }
	Constraint       []struct{ Key, Severity string }
}

// A codeSet is a value set that can be listed: "code" for elements of type code, "system|code" for the others.
type codeSet struct {
	codes, full map[string]bool
	open        bool // holds codes that are not listed in the definitions: SNOMED CT, media types
}

type setDefinition struct {
	URL     string
	Compose struct{ Include, Exclude []setPart }
}

type setPart struct {
	System   string
	ValueSet []string
	Concept  []struct{ Code string }
	Filter   []struct{ Property string }
}

type concepts []struct {
	Code    string
	Concept concepts
}

func (cs concepts) codes() (out []string) {
	for _, c := range cs {
		out = append(append(out, c.Code), c.Concept.codes()...)
	}
	return out
}

var readDefinitions = sync.OnceValues(func() (*definitions, error) {
	dir := os.Getenv("TOMBOLO_DATA")
	for wd, _ := os.Getwd(); dir == "" && wd != filepath.Dir(wd); wd = filepath.Dir(wd) {
		if _, err := os.Stat(filepath.Join(wd, "shared", "data")); err == nil {
			dir = filepath.Join(wd, "shared", "data")
		}
	}
	d := &definitions{types: map[string]map[string]definition{}, profiles: map[string]map[string]definition{}, sets: map[string]*codeSet{}, systems: map[string][]string{}}
	raw := map[string]setDefinition{}
	if err := d.readR4(filepath.Join(dir, "02-fhir-definitions", "hl7.fhir.r4.core-4.0.1.tgz"), raw); err != nil {
		return nil, err
	}
	if err := d.readUKCore(filepath.Join(dir, "02-fhir-definitions", "ukcore-stu3"), raw); err != nil {
		return nil, err
	}
	for url := range raw {
		d.list(url, raw)
	}
	return d, nil
})

// defined reads the published definitions beside the repository; the test skips where they are not.
func defined(t testing.TB) *definitions {
	t.Helper()
	d, err := readDefinitions()
	if errors.Is(err, os.ErrNotExist) {
		t.Skip("the definitions of FHIR R4 and UK Core are not here: skipped")
	}
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func (d *definitions) readR4(path string, sets map[string]setDefinition) error {
	for f, err := range pack.Open(path) {
		if err != nil {
			return err
		}
		switch f.Kind() {
		case "StructureDefinition":
			if name := strings.TrimPrefix(f.Name, "StructureDefinition-"); strings.ContainsAny(name, "-_") {
				continue
			}
			var sd struct {
				Type, Derivation, Kind string
				Snapshot               struct{ Element []definition }
			}
			if err := json.NewDecoder(f.Content).Decode(&sd); err != nil {
				return err
			}
			if sd.Derivation == "constraint" || sd.Kind == "primitive-type" || sd.Kind == "logical" {
				continue
			}
			m := map[string]definition{}
			for _, e := range sd.Snapshot.Element {
				m[e.Path] = e
			}
			d.types[sd.Type] = m
		case "ValueSet":
			var vs setDefinition
			if err := json.NewDecoder(f.Content).Decode(&vs); err != nil {
				return err
			}
			sets[vs.URL] = vs
		case "CodeSystem":
			var cs struct {
				URL, Content string
				Concept      concepts
			}
			if err := json.NewDecoder(f.Content).Decode(&cs); err != nil {
				return err
			}
			if cs.Content == "complete" {
				d.systems[cs.URL] = cs.Concept.codes()
			}
		}
	}
	return nil
}

// What XML has as attributes.
type xv struct {
	Value string `xml:"value,attr"`
}

type xmlElement struct {
	ID   string `xml:"id,attr"`
	Path xv     `xml:"path"`
	Min  *xv    `xml:"min"`
	Max  *xv    `xml:"max"`
	Type []struct {
		Code xv `xml:"code"`
	} `xml:"type"`
	Binding *struct {
		Strength xv `xml:"strength"`
		ValueSet xv `xml:"valueSet"`
	} `xml:"binding"`
}

func (d *definitions) readUKCore(dir string, sets map[string]setDefinition) error {
	each := func(folder string, into func([]byte) error) error {
		names, err := filepath.Glob(filepath.Join(dir, folder, "*.xml"))
		if err == nil && len(names) == 0 {
			err = os.ErrNotExist
		}
		for _, n := range names {
			b, rerr := os.ReadFile(n)
			err = errors.Join(err, rerr, into(b))
		}
		return err
	}
	profiles := func(b []byte) error {
		var sd struct {
			URL     xv           `xml:"url"`
			Element []xmlElement `xml:"differential>element"`
		}
		err := xml.Unmarshal(b, &sd)
		m := map[string]definition{}
		for _, e := range sd.Element {
			if strings.Contains(e.ID, ":") {
				continue // a slice
			}
			x := definition{Path: e.Path.Value}
			if e.Min != nil && e.Min.Value != "0" {
				x.Min = 1
			}
			if e.Max != nil {
				x.Max = e.Max.Value
			}
			for _, t := range e.Type {
				x.Type = append(x.Type, struct{ Code string }{t.Code.Value})
			}
			if e.Binding != nil {
				x.Binding.Strength, x.Binding.ValueSet = e.Binding.Strength.Value, e.Binding.ValueSet.Value
			}
			m[x.Path] = x
		}
		d.profiles[sd.URL.Value] = m
		return err
	}
	valueSets := func(b []byte) error {
		type part struct {
			System   xv   `xml:"system"`
			ValueSet []xv `xml:"valueSet"`
			Concept  []struct {
				Code xv `xml:"code"`
			} `xml:"concept"`
			Filter []struct {
				Property xv `xml:"property"`
			} `xml:"filter"`
		}
		var vs struct {
			URL     xv     `xml:"url"`
			Include []part `xml:"compose>include"`
		}
		err := xml.Unmarshal(b, &vs)
		out := setDefinition{URL: vs.URL.Value}
		for _, p := range vs.Include {
			sp := setPart{System: p.System.Value}
			for _, v := range p.ValueSet {
				sp.ValueSet = append(sp.ValueSet, v.Value)
			}
			for _, c := range p.Concept {
				sp.Concept = append(sp.Concept, struct{ Code string }{c.Code.Value})
			}
			for _, f := range p.Filter {
				sp.Filter = append(sp.Filter, struct{ Property string }{f.Property.Value})
			}
			out.Compose.Include = append(out.Compose.Include, sp)
		}
		sets[out.URL] = out
		return err
	}
	codeSystems := func(b []byte) error {
		var cs struct {
			URL     xv `xml:"url"`
			Concept []struct {
				Code xv `xml:"code"`
			} `xml:"concept"`
		}
		err := xml.Unmarshal(b, &cs)
		for _, c := range cs.Concept {
			d.systems[cs.URL.Value] = append(d.systems[cs.URL.Value], c.Code.Value)
		}
		return err
	}
	return errors.Join(each("structuredefinitions", profiles), each("valuesets", valueSets), each("codesystems", codeSystems))
}

// list works out which codes a value set has.
func (d *definitions) list(url string, raw map[string]setDefinition) *codeSet {
	url, _, _ = strings.Cut(url, "|")
	if s := d.sets[url]; s != nil {
		return s
	}
	s := &codeSet{codes: map[string]bool{}, full: map[string]bool{}}
	d.sets[url] = s
	def, ok := raw[url]
	s.open = !ok || len(def.Compose.Include) == 0
	for _, p := range def.Compose.Include {
		codes, known := d.systems[p.System]
		if len(p.Concept) > 0 {
			codes, known = nil, true
			for _, c := range p.Concept {
				codes = append(codes, c.Code)
			}
		}
		for _, v := range p.ValueSet {
			in := d.list(v, raw)
			s.open = s.open || in.open
			for c := range in.codes {
				s.codes[c] = true
			}
			for c := range in.full {
				s.full[c] = true
			}
		}
		s.open = s.open || len(p.Filter) > 0 || p.System != "" && !known
		for _, c := range codes {
			s.codes[c], s.full[p.System+"|"+c] = true, true
		}
	}
	for _, p := range def.Compose.Exclude {
		for _, c := range p.Concept {
			delete(s.codes, c.Code)
			delete(s.full, p.System+"|"+c.Code)
		}
	}
	return s
}

// profileOf is what UK Core changes of an element, if the resource claims one of its profiles.
func (d *definitions) constrained(profile string, e definition) definition {
	p, ok := d.profiles[profile][e.Path]
	if !ok {
		return e
	}
	e.Min = max(e.Min, p.Min)
	if p.Max != "" && p.Max != "*" {
		e.Max = p.Max
	}
	if p.Binding.Strength == "required" {
		e.Binding = p.Binding
	}
	return e
}

// A fault is one thing that R4 or UK Core wants otherwise: where, and what. The place is a path from the resource's type.
type fault struct{ at, what string }

const (
	faultMissing  = "missing"
	faultCode     = "not one of the codes"
	faultElement  = "no such element"
	faultOften    = "as often as it may not be"
	faultForm     = "of another form than it must be"
	faultBareText = "no code of the value set"
)

// A check holds one resource to the definitions. at is where it stands, from the resource's type; path is where its definition is.
type check struct {
	d       *definitions
	profile string
	found   map[fault]bool
}

func (d *definitions) check(r fhir.Value) map[fault]bool {
	c := &check{d: d, found: map[fault]bool{}}
	c.resource(r, "")
	return c.found
}

func (c *check) resource(r fhir.Value, within string) {
	typ := r.Text("resourceType")
	saved := c.profile
	c.profile = ""
	if p := r.Text("meta.profile"); c.d.profiles[p] != nil {
		c.profile = p
	} else if p != "" {
		c.found[fault{typ + ".meta.profile", p + " is no profile of UK Core"}] = true
	}
	c.object(r, typ, typ, within+typ)
	c.profile = saved
}

func (c *check) object(v fhir.Value, typ, path, at string) {
	if !v.IsObject() {
		c.found[fault{at, faultForm}] = true
		return
	}
	has := map[string]bool{}
	for m := range v.Children() {
		name := strings.TrimPrefix(m.Key(), "_")
		if name == "resourceType" {
			continue
		}
		e, as := c.d.element(typ, path, name)
		if e.Path == "" {
			c.found[fault{at + "." + name, faultElement}] = true
			continue
		}
		base := e.Max
		e = c.d.constrained(c.profile, e)
		has[e.Path] = true
		c.member(m, name, e, as, typ, base, at+"."+name)
	}
	for p, e := range c.d.types[typ] {
		rest, ok := strings.CutPrefix(p, path+".")
		if ok && !strings.Contains(rest, ".") && c.d.constrained(c.profile, e).Min > 0 && !has[p] {
			c.found[fault{at + "." + rest, faultMissing}] = true
		}
	}
}

func (c *check) member(m fhir.Value, name string, e definition, as, typ, base, at string) {
	if m.IsArray() != (base != "1") {
		c.found[fault{at, faultOften}] = true
		return
	}
	n := 0
	for item := range m.All("") {
		n++
		if m.Key() != name {
			if !isNull(item) {
				c.object(item, "Element", "Element", at)
			}
			continue
		}
		switch {
		case e.ContentReference != "":
			c.object(item, typ, strings.TrimPrefix(e.ContentReference, "#"), at)
		case as == "BackboneElement" || as == "Element":
			c.object(item, typ, e.Path, at)
		case as == "Resource":
			c.resource(item, at+":")
		case c.d.types[as] != nil:
			c.object(item, as, as, at)
		case item.IsObject() || item.IsArray():
			c.found[fault{at, faultForm}] = true
		}
		c.coded(item, e, as, at)
	}
	if e.Max == "0" && n > 0 || e.Max == "1" && n > 1 {
		c.found[fault{at, faultOften}] = true
	}
}

// coded holds a code to a required binding. FHIR R4 terminologies.html#required
func (c *check) coded(v fhir.Value, e definition, as, at string) {
	url, _, _ := strings.Cut(e.Binding.ValueSet, "|")
	set := c.d.sets[url]
	if e.Binding.Strength != "required" || set == nil || set.open {
		return
	}
	ok := true
	switch as {
	case "code", "string", "uri":
		ok = set.codes[v.Str()]
	case "Coding":
		ok = set.full[v.Text("system")+"|"+v.Text("code")]
	case "CodeableConcept":
		ok = false
		for k := range v.All("coding") {
			ok = ok || set.full[k.Text("system")+"|"+k.Text("code")]
		}
	case "Quantity":
		ok = v.Text("code") == "" || set.full[v.Text("system")+"|"+v.Text("code")]
	}
	if !ok {
		c.found[fault{at, faultCode}] = true
	}
}

func (d *definitions) element(typ, path, name string) (definition, string) {
	if e, ok := d.types[typ][path+"."+name]; ok {
		if len(e.Type) > 0 {
			return e, e.Type[0].Code
		}
		return e, ""
	}
	for i := len(name) - 1; i > 0; i-- {
		if !unicode.IsUpper(rune(name[i])) {
			continue
		}
		if e, ok := d.types[typ][path+"."+name[:i]+"[x]"]; ok {
			for _, c := range e.Type {
				if strings.EqualFold(c.Code, name[i:]) {
					return e, c.Code
				}
			}
		}
	}
	return definition{}, ""
}
