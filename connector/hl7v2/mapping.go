package hl7v2

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"

	"tombolo/fhir"
)

// A Mapping says which field fills which element, and what the codes mean: the base files under maps/, with a feed's dialect laid over
// them. It is compiled once, never changes, and may be used by many goroutines. docs/hl7v2-mapping.md is its language.
type Mapping struct {
	Name string // of the dialect, "rx1-pas/3"; "" of the base

	authority string
	systems   map[string]string
	tables    map[string]*table
	blocks    map[string]map[string]*block // resource type -> segment -> elements
	local     map[string][]string          // resource type -> the feed's own segments that add to it, in order
	makers    map[string][]*block          // the feed's own segments that make a resource each
	families  map[string]*family
	aliases   map[string]string // a local event, "ADT^Z01" -> "A08"
	moves     []move
	ignored   map[string]bool
}

// A block is what one segment says of one type of resource.
type block struct {
	segment, resource string
	elements          []element
	id                *expr // a maker: what names the resource
}

type element struct {
	name string
	node node
	at   place
}

// A move is a field that a feed puts elsewhere than the standard does: to is read from from.
type move struct {
	segment string
	field   int
	from    *expr
}

// A family is the messages of one code: which Go structure deals with them, and what each event means.
type family struct {
	code, name, make string
	oldEvent         string // of messages that name no event, before v2.3
	events           map[string]*happening
}

// A happening is one trigger event.
type happening struct {
	does   string   // what kind of thing it is, for the family's structure: visit, person, merge …
	status string   // what it says of the status
	assume string   // what it implies of the status, and does not replace what is known
	turn   int      // of events at the same moment, which is the later
	clears []string // elements that it takes back
}

//go:embed maps
var baseFiles embed.FS

var (
	baseOnce sync.Once
	baseMap  *Mapping
)

// Base is the mapping that comes with this program.
func Base() *Mapping {
	baseOnce.Do(func() { baseMap = compileBase() })
	return baseMap
}

func compileBase() *Mapping {
	m := &Mapping{systems: map[string]string{}, tables: map[string]*table{}, blocks: map[string]map[string]*block{}, local: map[string][]string{},
		makers: map[string][]*block{}, families: map[string]*family{}, aliases: map[string]string{}, ignored: map[string]bool{}}
	c := &compiler{m: m, base: true}
	for _, dir := range []string{"tables", "segments", "messages"} { // expressions name tables
		entries, err := fs.ReadDir(baseFiles, "maps/"+dir)
		if err != nil {
			panic(err)
		}
		for _, e := range entries {
			data, err := baseFiles.ReadFile("maps/" + dir + "/" + e.Name())
			if err != nil {
				panic(err)
			}
			c.file(e.Name(), data)
		}
	}
	if len(c.issues) > 0 { // a mistake in this program's own files, which its tests find
		panic("hl7v2: " + c.err().Error())
	}
	return m
}

// LoadMapping reads the dialect that a region file names (mapping:), a path relative to dir, over the base. "" is the base alone.
func LoadMapping(name, dir string) (*Mapping, error) {
	if name == "" {
		return Base(), nil
	}
	if !filepath.IsAbs(name) {
		name = filepath.Join(dir, name)
	}
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, fhir.Errorf(fhir.NotFound, "read mapping: %w", err)
	}
	m, err := ParseMapping(data)
	if err != nil {
		return nil, fmt.Errorf("mapping %s: %w", name, err)
	}
	return m, nil
}

// ParseMapping lays a dialect over the base. Its error joins all that is wrong, each a fhir.Issue with line and column as Expression.
func ParseMapping(data []byte) (*Mapping, error) {
	m := Base().clone()
	c := &compiler{m: m}
	c.file("", data)
	if len(c.issues) > 0 {
		return nil, c.err()
	}
	return m, nil
}

// clone copies what a dialect may change.
func (m *Mapping) clone() *Mapping {
	c := *m
	c.systems, c.tables, c.families = maps.Clone(m.systems), maps.Clone(m.tables), maps.Clone(m.families)
	c.local, c.makers, c.aliases, c.ignored = maps.Clone(m.local), maps.Clone(m.makers), maps.Clone(m.aliases), maps.Clone(m.ignored)
	c.blocks = make(map[string]map[string]*block, len(m.blocks))
	for typ, by := range m.blocks {
		c.blocks[typ] = maps.Clone(by)
	}
	return &c
}

// A compiler turns files into a Mapping, and gathers what is wrong with them.
type compiler struct {
	m      *Mapping
	base   bool
	issues []*fhir.Issue
}

func (c *compiler) err() error {
	errs := make([]error, len(c.issues))
	for i, issue := range c.issues {
		errs[i] = issue
	}
	return errors.Join(errs...)
}

func (c *compiler) fail(at place, format string, args ...any) {
	if len(c.issues) < 50 {
		c.issues = append(c.issues, fhir.Errorf(fhir.ValueError, format, args...).At(at.String()))
	}
}

// file compiles one file: of the base, a segment, a message or tables; else a dialect.
func (c *compiler) file(name string, data []byte) {
	root, issue := readYAML(data)
	if issue != nil {
		if name != "" {
			issue.Text = name + ": " + issue.Text
		}
		c.issues = append(c.issues, issue)
		return
	}
	if root.pairs == nil {
		c.fail(root.at, "a mapping file is a list of keys and what they mean")
		return
	}
	switch {
	case !c.base:
		c.dialect(root)
	case root.get("segment") != nil:
		c.segment(root.get("segment").s, root, "segment")
	case root.get("message") != nil:
		c.message(root)
	default:
		c.tables(root)
	}
}

var dialectKeys = []string{"mapping", "authority", "systems", "tables", "fields", "segments", "events", "ignore"}

func (c *compiler) dialect(root *tree) {
	if v := root.get("mapping"); v == nil || v.s == "" {
		c.fail(root.at, "give the dialect a name and version, such as mapping: rx1-pas/1")
	} else {
		c.m.Name = v.s
	}
	for _, p := range root.pairs { // tables first: whatever the order in the file, expressions may name them
		if p.key == "tables" {
			c.tables(p.value)
		}
	}
	for _, p := range root.pairs {
		v := p.value
		switch p.key {
		case "mapping", "tables":
		case "authority":
			c.m.authority = c.text(v)
		case "systems":
			c.each(v, func(name string, v *tree) {
				if uri := c.text(v); uri != "" {
					c.m.systems[strings.ToUpper(name)] = uri
				}
			})
		case "fields":
			c.each(v, c.move)
		case "segments":
			c.each(v, func(name string, v *tree) { c.segment(name, v, "") })
		case "events":
			c.each(v, c.event)
		case "ignore":
			for _, n := range v.items() {
				c.m.ignored[n.s] = true
			}
		default:
			c.fail(p.at, "there is no key %q here%s", p.key, nearestOf(p.key, dialectKeys))
		}
	}
}

func (c *compiler) text(v *tree) string {
	if v.s == "" || v.pairs != nil || v.list != nil {
		c.fail(v.at, "one value is wanted here")
	}
	return v.s
}

func (c *compiler) each(v *tree, do func(string, *tree)) {
	if v.pairs == nil {
		c.fail(v.at, "keys and values are wanted here")
	}
	for _, p := range v.pairs {
		do(p.key, p.value)
	}
}

var fieldName = regexp.MustCompile(`^([A-Z][A-Z0-9]{2})-([0-9]{1,3})$`)

// move reads "PV1-19: PID-18": what the standard has in PV1-19 is in PID-18 here.
func (c *compiler) move(to string, v *tree) {
	g := fieldName.FindStringSubmatch(to)
	if g == nil || g[1] == "MSH" {
		c.fail(v.at, "%q is not a field that can be moved: write it as PV1-19", to)
		return
	}
	e := c.expr(v)
	if e == nil {
		return
	}
	n := 0
	_, _ = fmt.Sscan(g[2], &n)
	c.m.moves = append(c.m.moves, move{g[1], n, e})
}

// event reads "ADT^Z01: A08".
func (c *compiler) event(name string, v *tree) {
	code, _, ok := strings.Cut(name, "^")
	f := c.m.families[code]
	if !ok || f == nil {
		c.fail(v.at, "%q is not a message and event of a known message type: write ADT^Z01: A08", name)
		return
	}
	if f.events[v.s] == nil {
		c.fail(v.at, "%s has no event %q to treat %s as", code, v.s, name)
		return
	}
	c.m.aliases[name] = v.s
}

var segmentName = regexp.MustCompile(`^[A-Z][A-Z0-9]{2}$`)

// segment compiles what one segment says of each type of resource. skip is a key that is not one.
func (c *compiler) segment(name string, v *tree, skip string) {
	if !segmentName.MatchString(name) {
		c.fail(v.at, "%q is not a segment's name, which is three capitals or digits", name)
		return
	}
	for _, p := range v.pairs {
		if p.key == skip && skip != "" {
			continue
		}
		if !fhir.IsType(p.key) {
			c.fail(p.at, "%q is not a FHIR R4 resource type", p.key)
			continue
		}
		c.block(name, p.key, p.value)
	}
}

func (c *compiler) block(segment, resource string, v *tree) {
	b := &block{segment: segment, resource: resource}
	c.each(v, func(name string, v *tree) {
		if name == "id" {
			b.id = c.expr(v)
			return
		}
		if n, ok := c.node(name, v); ok {
			b.elements = append(b.elements, element{name, n, v.at})
		}
	})
	switch {
	case b.id != nil:
		c.m.makers[segment] = append(slices.Clone(c.m.makers[segment]), b)
		return
	case c.m.blocks[resource] == nil:
		c.m.blocks[resource] = map[string]*block{}
	}
	was := c.m.blocks[resource][segment]
	if was == nil {
		c.m.blocks[resource][segment] = b
		if !c.base {
			c.m.local[resource] = append(slices.Clone(c.m.local[resource]), segment)
		}
		return
	}
	// A dialect's element takes the place of the base's; "none" takes it away.
	merged := &block{segment: segment, resource: resource, elements: slices.Clone(was.elements)}
	for _, e := range b.elements {
		if i := slices.IndexFunc(merged.elements, func(o element) bool { return o.name == e.name }); i >= 0 {
			merged.elements[i] = e
		} else {
			merged.elements = append(merged.elements, e)
		}
	}
	c.m.blocks[resource][segment] = merged
}

var messageKeys = []string{"message", "map", "make", "without-event", "events"}

func (c *compiler) message(root *tree) {
	f := &family{events: map[string]*happening{}}
	for _, p := range root.pairs {
		switch p.key {
		case "message":
			f.code = p.value.s
		case "map":
			f.name = p.value.s
		case "make":
			f.make = p.value.s
		case "without-event":
			f.oldEvent = p.value.s
		case "events":
			c.each(p.value, func(names string, v *tree) {
				h := c.happening(v)
				for _, name := range strings.Fields(names) {
					f.events[name] = h
				}
			})
		default:
			c.fail(p.at, "there is no key %q here%s", p.key, nearestOf(p.key, messageKeys))
		}
	}
	if structure(f.make) == nil {
		c.fail(root.at, "%s: no structure is called %q", f.code, f.make)
	}
	for _, code := range strings.Fields(f.code) {
		own := *f
		own.code = code
		c.m.families[code] = &own
	}
}

func (c *compiler) happening(v *tree) *happening {
	h := &happening{turn: 3}
	for _, p := range v.pairs {
		switch p.key {
		case "does":
			h.does = p.value.s
		case "status":
			h.status = p.value.s
		case "assume":
			h.assume = p.value.s
		case "turn":
			_, _ = fmt.Sscan(p.value.s, &h.turn)
		case "clears":
			for _, n := range p.value.items() {
				h.clears = append(h.clears, n.s)
			}
		default:
			c.fail(p.at, "there is no key %q here", p.key)
		}
	}
	if v.pairs == nil && v.s != "" {
		h.does = v.s
	}
	return h
}
