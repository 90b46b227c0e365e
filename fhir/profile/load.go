package profile

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"tombolo/fhir"
	"tombolo/fhir/fhirpath"
	"tombolo/fhir/fhirxml"
	"tombolo/fhir/pack"
	"tombolo/fhir/r4"
)

// The most that is read of definitions: a package of R4's own has 40 MB.
const (
	maxFile        = 16 << 20
	maxDefinitions = 512 << 20
)

// Load reads profiles, extensions, value sets and code systems from FHIR packages (.tgz), folders, and files (.json, .xml); other resources in them are passed
// over. Of two definitions with one URL the later is taken. problems are what of the definitions themselves could not be used, one sentence each; err says that
// a path could not be read. FHIR R4 packages.html
func Load(paths ...string) (d *Definitions, problems []string, err error) {
	l := &loader{d: &Definitions{profiles: map[string]*Profile{}, sets: map[string]*valueSet{}, systems: map[string]*codeSystem{}}}
	for _, p := range paths {
		if err := l.path(p); err != nil {
			return nil, nil, fmt.Errorf("definitions: %w", err)
		}
	}
	l.link()
	return l.d, l.problems, nil
}

type loader struct {
	d        *Definitions
	bytes    int64
	problems []string
}

func (l *loader) problem(format string, args ...any) {
	l.problems = append(l.problems, fmt.Sprintf(format, args...))
}

func (l *loader) path(p string) error {
	fi, err := os.Stat(p)
	if err != nil {
		return err
	}
	if !fi.IsDir() {
		return l.file(p)
	}
	return filepath.WalkDir(p, func(p string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		return l.file(p)
	})
}

func (l *loader) file(p string) error {
	f, err := os.Open(p)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	switch {
	case strings.HasSuffix(p, ".tgz") || strings.HasSuffix(p, ".tar.gz"):
		err = l.packed(f)
	case strings.HasSuffix(p, ".json") || strings.HasSuffix(p, ".xml"):
		err = l.read(filepath.Base(p), f)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", p, err)
	}
	return nil
}

func (l *loader) packed(f io.Reader) error {
	for file, err := range pack.Files(f) {
		if err != nil {
			return err
		}
		if strings.HasSuffix(file.Name, ".json") && slices.Contains([]string{"StructureDefinition", "ValueSet", "CodeSystem"}, file.Kind()) {
			if err := l.read(file.Name, file.Content); err != nil {
				return err
			}
		}
	}
	return nil
}

// read takes one definition. One that cannot be read is told of, and the others are read.
func (l *loader) read(name string, f io.Reader) error {
	raw, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return err
	}
	if l.bytes += int64(len(raw)); len(raw) > maxFile || l.bytes > maxDefinitions {
		return fmt.Errorf("%s: definitions have at most %d MB, and one of them %d MB", name, maxDefinitions>>20, maxFile>>20)
	}
	var r *fhir.Resource
	if strings.HasSuffix(name, ".xml") {
		r, err = fhirxml.Decode(raw)
	} else if r, err = fhir.Parse(raw); err != nil && strings.HasPrefix(name, "package") {
		return nil // package.json, and others that are no resources
	}
	if err != nil {
		l.problem("%s cannot be read: %v", name, err)
		return nil
	}
	switch v := r.Value(); r.Type() {
	case "StructureDefinition":
		l.profile(name, v)
	case "ValueSet":
		l.d.sets[v.Text("url")] = readSet(v)
	case "CodeSystem":
		l.d.systems[v.Text("url")] = readSystem(v)
	}
	return nil
}

func (l *loader) profile(name string, v fhir.Value) {
	url, typ := v.Text("url"), v.Text("type")
	if v.Text("derivation") != "constraint" || url == "" {
		return // R4's own types, and logical models
	}
	if r4.TypeOf(typ) == nil {
		return // a profile of what is no type of R4
	}
	p := &Profile{URL: url, Name: v.Text("title"), Type: typ, base: plainURL(v.Text("baseDefinition"))}
	if p.Name == "" {
		p.Name = v.Text("name")
	}
	if p.Name == "" {
		p.Name = url
	}
	part := "differential.element"
	if !v.Get(part).Exists() {
		part = "snapshot.element"
	}
	for e := range v.All(part) {
		p.own = append(p.own, e)
	}
	for e := range v.All("snapshot.element") {
		p.modifier = e.Member("isModifier").Bool()
		break
	}
	for _, e := range p.own {
		if !strings.Contains(e.Text("path"), ".") && e.Member("isModifier").Exists() {
			p.modifier = e.Member("isModifier").Bool()
		}
	}
	for x := range v.All("context") {
		ctx := context{kind: x.Text("type"), expression: x.Text("expression")}
		if ctx.kind == "fhirpath" {
			var err error
			if ctx.expr, err = fhirpath.Compile(ctx.expression); err != nil {
				l.problem("%s: its context is no FHIRPath: %v", p.Name, err)
			}
		}
		p.contexts = append(p.contexts, ctx)
	}
	l.d.profiles[url] = p
}

func plainURL(url string) string { url, _, _ = strings.Cut(url, "|"); return url }

// link makes each profile's tree, of its own differential and of those that it is based on.
func (l *loader) link() {
	for _, p := range l.d.profiles {
		chain := []*Profile{p}
		for at := p; ; {
			name, core := strings.CutPrefix(at.base, base)
			if core && r4.TypeOf(name) != nil && name == at.Type || at.base == "" {
				break
			}
			up := l.d.profiles[at.base]
			if up == nil || slices.Contains(chain, up) || len(chain) > 20 {
				p.missing = at.base
				break
			}
			chain, at = append(chain, up), up
		}
		p.root = newNode(p.Name, "")
		p.root.of = r4.TypeOf(p.Type)
		for _, q := range slices.Backward(chain) {
			for _, e := range q.own {
				l.apply(p, q, e)
			}
		}
		if p.Type == "Extension" && p.root.children["url"] == nil {
			l.problem("%s: an extension that does not say its url", p.Name)
		}
	}
}

// apply adds one element of a differential to a profile's tree.
func (l *loader) apply(p, from *Profile, e fhir.Value) {
	id := e.Text("id")
	if id == "" || !strings.HasPrefix(id, p.Type) {
		id = e.Text("path")
		if s := e.Text("sliceName"); s != "" {
			id += ":" + s
		}
	}
	at := p.root
	segments := strings.Split(id, ".")
	if len(segments) > fhir.MaxDepth || strings.Count(id, "/") > fhir.MaxDepth {
		l.problem("%s: an element is more than %d deep", from.Name, fhir.MaxDepth)
		return
	}
	for _, s := range segments[1:] {
		name, slice, _ := strings.Cut(s, ":")
		at = at.child(p.Name, name)
		for part := range strings.SplitSeq(slice, "/") {
			if part != "" {
				at = at.sliced(p.Name, part)
			}
		}
	}
	l.fill(at, from, e, len(segments) == 1)
}

// child finds or makes the node of an element. "valueQuantity" is the slice of value[x] that is a Quantity.
func (n *node) child(profile, name string) *node {
	name = strings.TrimSuffix(name, "[x]")
	if n.of != nil && n.of.Element(name) == nil {
		if e, typ := n.of.Member(name); e != nil && e.Choice {
			c := n.child(profile, e.Name).sliced(profile, name)
			if len(c.types) == 0 {
				c.types = []typeRef{{code: typ}}
			}
			c.of = r4.TypeOf(typ)
			return c
		}
	}
	c := n.children[name]
	if c == nil {
		c = newNode(profile, name)
		n.children[name] = c
		if n.of != nil {
			if e := n.of.Element(name); e != nil {
				switch {
				case e.Own != nil:
					c.of = e.Own
				case len(e.Types) == 1:
					c.of = r4.TypeOf(e.Types[0])
				}
			}
		}
	}
	return c
}

func (n *node) sliced(profile, name string) *node {
	for _, s := range n.slices {
		if s.slice == name {
			return s
		}
	}
	s := newNode(profile, n.name)
	s.slice, s.of = name, n.of
	if rest, ok := strings.CutPrefix(name, n.name); ok && rest != "" && n.of == nil { // value[x]:valueQuantity
		for _, t := range []string{rest, strings.ToLower(rest[:1]) + rest[1:]} {
			if r4.TypeOf(t) != nil || r4.Primitive(t) {
				s.of = r4.TypeOf(t)
				s.types = []typeRef{{code: t}}
				break
			}
		}
	}
	n.slices = append(n.slices, s)
	return s
}

// fill reads what an ElementDefinition says. FHIR R4 elementdefinition.html
func (l *loader) fill(n *node, from *Profile, e fhir.Value, root bool) {
	if v := e.Member("min"); v.Exists() && !root {
		n.min = max(n.min, whole(v))
	}
	if v := e.Text("max"); v != "" && v != "*" && !root {
		n.max = whole(e.Member("max"))
	}
	if v := e.Member("maxLength"); v.Exists() {
		n.maxLength = whole(v)
	}
	for m := range e.Children() {
		if strings.HasPrefix(m.Key(), "fixed") {
			n.fixed = m
		}
		if strings.HasPrefix(m.Key(), "pattern") {
			n.pattern = m
		}
		if strings.HasPrefix(m.Key(), "minValue") {
			n.least = m
		}
		if strings.HasPrefix(m.Key(), "maxValue") {
			n.most = m
		}
	}
	if types := readTypes(e); len(types) > 0 && !root {
		n.types = types
		if len(types) == 1 && n.of == nil {
			n.of = r4.TypeOf(types[0].code)
		}
	}
	if b := e.Member("binding"); b.Exists() && b.Text("valueSet") != "" {
		n.binding = &binding{b.Text("strength"), b.Text("valueSet")}
	}
	for r := range e.All("constraint") {
		l.rule(n, from, r)
	}
	if s := e.Member("slicing"); s.Exists() {
		l.slicing(n, from, s)
	}
}

func whole(v fhir.Value) int {
	n := 0
	if _, err := fmt.Sscanf(v.Str(), "%d", &n); err != nil {
		return -1
	}
	return n
}

func readTypes(e fhir.Value) []typeRef {
	var out []typeRef
	for t := range e.All("type") {
		r := typeRef{code: strings.TrimPrefix(t.Text("code"), "http://hl7.org/fhirpath/System.")}
		if r.code == "" || r.code == "BackboneElement" || r.code == "Element" {
			continue
		}
		if r.code == "String" {
			r.code = "string"
		}
		for p := range t.All("profile") {
			r.profiles = append(r.profiles, plainURL(p.Str()))
		}
		for p := range t.All("targetProfile") {
			r.targets = append(r.targets, plainURL(p.Str()))
		}
		out = append(out, r)
	}
	return out
}

func (l *loader) rule(n *node, from *Profile, r fhir.Value) {
	key, expression := r.Text("key"), r.Text("expression")
	for _, known := range n.rules {
		if known.key == key {
			return
		}
	}
	if expression == "" || isR4Rule(key) {
		return
	}
	e, err := fhirpath.Compile(expression)
	if err != nil {
		l.problem("%s: its rule %s cannot be used: %v", from.Name, key, err)
		return
	}
	s := fhir.SevError
	if r.Text("severity") == "warning" {
		s = fhir.Warning
	}
	n.rules = append(n.rules, &rule{key, r.Text("human"), s, e})
}

// isR4Rule reports whether a rule is R4's own, which snapshots repeat.
func isR4Rule(key string) bool {
	if key == "ele-1" || key == "txt-2" {
		return true
	}
	for _, list := range r4Rules() {
		for _, r := range list {
			if r.key == key && key != "inv-1" && key != "inv-2" {
				return true
			}
		}
	}
	return false
}

func (l *loader) slicing(n *node, from *Profile, s fhir.Value) {
	out := &slicing{closed: s.Text("rules") == "closed", atEnd: s.Text("rules") == "openAtEnd", ordered: s.Member("ordered").Bool()}
	for d := range s.All("discriminator") {
		x, err := readDiscriminator(d.Text("type"), d.Text("path"))
		if err != nil {
			l.problem("%s: a discriminator is no FHIRPath: %v", from.Name, err)
			continue
		}
		out.by = append(out.by, x)
	}
	if len(out.by) == 0 && n.slicing != nil {
		out.by = n.slicing.by
	}
	n.slicing = out
}

// readDiscriminator compiles a discriminator's path, and the paths on the way to it.
func readDiscriminator(kind, path string) (discriminator, error) {
	x := discriminator{kind: kind, path: path}
	if path == "$this" || path == "" {
		return x, nil
	}
	var err error
	if x.expr, err = fhirpath.Compile(path); err != nil {
		return x, err
	}
	shorter := "$this"
	for head, rest, more := cutPath(path); more; head, rest, more = cutPath(rest) {
		if shorter == "$this" {
			shorter = head
		} else {
			shorter += "." + head
		}
	}
	up, err := readDiscriminator(kind, shorter)
	x.up = &up
	return x, err
}

var byURL = discriminator{kind: "value", path: "url", expr: fhirpath.MustCompile("url")}
