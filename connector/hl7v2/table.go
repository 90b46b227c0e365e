package hl7v2

import (
	"maps"
	"regexp"
	"slices"
	"strings"

	"tombolo/fhir"
)

// A table gives each code of an HL7 or local table its meaning in FHIR.
type table struct {
	system string // of the codes that it gives
	upper  bool   // codes are compared in capitals
	like   *regexp.Regexp
	codes  map[string]meaning
	writes map[string]string // backwards: the code to write for a meaning; of several, the first that is listed, a dialect's before the base's
}

// A meaning is a code, perhaps with what it is called.
type meaning struct{ system, code, display string }

func (t *table) key(code string) string {
	if t.upper {
		return strings.ToUpper(code)
	}
	return code
}

// find is what a code means; a code that looks like those of the table is its own meaning.
func (t *table) find(code string) (meaning, bool) {
	if m, ok := t.codes[t.key(code)]; ok && code != "" {
		return m, m.code != ""
	}
	if t.like != nil && t.like.MatchString(code) {
		return meaning{t.system, code, ""}, true
	}
	return meaning{}, false
}

// lookup finds a code in a table by the table's name, for what Go decides.
func (x *mapper) lookup(name, code string) (meaning, bool) {
	t := x.mp.tables[name]
	if t == nil {
		return meaning{}, false
	}
	return t.find(code)
}

// meaningOf is lookup of what a value says, which has been taken if the table has it.
func (x *mapper) meaningOf(name string, v Value) (meaning, bool) {
	before := v.noted()
	m, ok := x.lookup(name, str(v, 0))
	if !ok {
		v.forget(before)
	}
	return m, ok
}

func (x *mapper) translate(name string, v Value) string {
	m, _ := x.meaningOf(name, v)
	return m.code
}

func (m *Mapping) tableNames() []string { return slices.Sorted(maps.Keys(m.tables)) }

// tables reads "name: {system: URI, like: PATTERN, case: kept, codes: {M: male}}", or in a dialect the codes alone: they are added to the
// base's, and "none" takes one out. A meaning's first word is the code, the rest what it is called.
func (c *compiler) tables(v *tree) {
	c.each(v, func(name string, v *tree) {
		t := &table{upper: true, codes: map[string]meaning{}, writes: map[string]string{}}
		was := c.m.tables[name]
		if was != nil {
			if c.base {
				c.fail(v.at, "the table %q is there twice", name)
			}
			clone := *was
			clone.codes, clone.writes = maps.Clone(was.codes), maps.Clone(was.writes)
			t = &clone
		}
		codes := v
		if v.get("codes") != nil {
			codes = v.get("codes")
			c.settings(t, v)
		}
		own := map[string]bool{} // meanings that this file has given a code
		c.each(codes, func(code string, v *tree) { c.code(t, code, v, own) })
		if was != nil { // expressions of the base hold the table itself
			c.replace(was, t)
		}
		c.m.tables[name] = t
	})
}

func (c *compiler) settings(t *table, v *tree) {
	for _, p := range v.pairs {
		switch p.key {
		case "system":
			t.system = systemURI(p.value.s)
		case "case":
			t.upper = p.value.s != "kept"
		case "like":
			var err error
			if t.like, err = regexp.Compile(p.value.s); err != nil {
				c.fail(p.value.at, "not a pattern: %s", err)
			}
		case "codes":
		default:
			c.fail(p.at, "there is no key %q here%s", p.key, nearestOf(p.key, []string{"system", "case", "like", "codes"}))
		}
	}
}

func (c *compiler) code(t *table, codes string, v *tree, own map[string]bool) {
	if v.pairs != nil || v.list != nil || v.s == "" {
		c.fail(v.at, "a code's meaning is one line: the FHIR code, then what it is called")
		return
	}
	m := meaning{system: t.system}
	m.code, m.display, _ = strings.Cut(v.s, " ")
	if m.code == "none" {
		m = meaning{}
	}
	if sys, code, ok := strings.Cut(m.code, "|"); ok { // of another system than the table's
		m.system, m.code = systemURI(sys), code
	}
	for _, code := range strings.Split(codes, ", ") {
		if t.codes[t.key(code)] = m; m.code != "" && !own[m.code] {
			own[m.code], t.writes[m.code] = true, code
		}
	}
}

// replace puts a dialect's table where the base's expressions refer to the base's. Blocks are copied: the base stays as it is.
func (c *compiler) replace(was, now *table) {
	for typ, by := range c.m.blocks {
		for seg, b := range by {
			own := *b
			own.elements = slices.Clone(b.elements)
			for i := range own.elements {
				own.elements[i].node = withTable(own.elements[i].node, was, now)
			}
			c.m.blocks[typ][seg] = &own
		}
	}
}

func withTable(n node, was, now *table) node {
	switch n := n.(type) {
	case *expr:
		e := *n
		e.alts = make([]*term, len(n.alts))
		for i, t := range n.alts {
			e.alts[i] = termWithTable(t, was, now)
		}
		return &e
	case *object:
		o := *n
		if n.each != nil {
			o.each = termWithTable(n.each, was, now)
		}
		o.elements = slices.Clone(n.elements)
		for i := range o.elements {
			o.elements[i].node = withTable(o.elements[i].node, was, now)
		}
		return &o
	case list:
		l := make(list, len(n))
		for i := range n {
			l[i] = withTable(n[i], was, now)
		}
		return l
	}
	return n
}

func termWithTable(t *term, was, now *table) *term {
	own := *t
	if own.table == was {
		own.table = now
	}
	if t.cond != nil && t.cond.of.table == was {
		cond, of := *t.cond, *t.cond.of
		of.table = now
		cond.of = &of
		own.cond = &cond
	}
	return &own
}

// A reader reads a value as a FHIR datatype: nil if it says nothing.
type reader func(x *mapper, v Value, at string, t *term) any

var readers map[string]reader

func readerNames() []string { return slices.Sorted(maps.Keys(readers)) }

func init() { // the readers of concepts look at tables, whose compiler looks at readers
	said := func(s string) any {
		if s == "" {
			return nil
		}
		return s
	}
	readers = map[string]reader{
		"string":   func(_ *mapper, v Value, _ string, _ *term) any { return said(str(v, 0)) },
		"words":    func(_ *mapper, v Value, _ string, _ *term) any { return said(words(v)) },
		"lines":    readLines,
		"code":     readCode,
		"boolean":  func(_ *mapper, v Value, _ string, _ *term) any { return str(v, 0) == "true" || str(v, 0) == "Y" },
		"yes":      readYes,
		"date":     func(x *mapper, v Value, at string, _ *term) any { return said(x.date(v, at)) },
		"dateTime": func(x *mapper, v Value, at string, _ *term) any { return said(x.dateTime(v, at)) },
		"instant":  func(x *mapper, v Value, at string, _ *term) any { return said(x.instant(v, at)) },
		"integer":  readInteger,
		"decimal":  readDecimal,
		"quantity": readQuantity,
		"concept":  readConcept,
		"coding":   readCoding,
		"text":     readText,
		"language": readLanguage,
		"name":     readName,
		"alias":    readAlias,
		"address":  readAddress,
		"telecom":  readTelecom,

		"identifier":   readIdentifier,
		"practitioner": readPractitioner,
		"organisation": readOrganisation,
		"place":        readPlace,
		"annotation":   readAnnotation,
	}
}

// readLines reads what each repetition says in words, a line each: of a coded one its words, else its code.
func readLines(_ *mapper, v Value, _ string, _ *term) any {
	var lines []string
	for rep := range v.Reps() {
		l := str(rep, 2)
		if l == "" {
			l = str(rep, 1)
		}
		if l != "" {
			lines = append(lines, l)
		}
	}
	if len(lines) == 0 {
		return nil
	}
	return strings.Join(lines, "\n")
}

func readCode(x *mapper, v Value, _ string, t *term) any {
	if t.table == nil {
		return nil
	}
	if m, ok := t.table.find(str(v, 1)); ok {
		return m.code
	}
	return nil
}

func readYes(_ *mapper, v Value, _ string, _ *term) any {
	switch strings.ToUpper(str(v, 1)) {
	case "Y", "YES", "1", "TRUE":
		return true
	case "N", "NO", "0", "FALSE":
		return understood{}
	}
	return nil
}

func readInteger(x *mapper, v Value, at string, _ *term) any {
	n, ok := number(str(v, 1))
	if !ok || strings.ContainsAny(string(n), ".-") || len(n) > 9 {
		x.note(fhir.ValueError, at, "not a whole number, so it was left out")
		return nil
	}
	return n
}

func readDecimal(x *mapper, v Value, at string, _ *term) any {
	n, ok := number(str(v, 1))
	if !ok {
		x.note(fhir.ValueError, at, "not a number, so it was left out")
		return nil
	}
	return n
}

// readQuantity reads a CQ: amount^unit.
func readQuantity(x *mapper, v Value, at string, _ *term) any {
	n, ok := number(str(v, 1))
	if !ok {
		return nil
	}
	q := x.unit(v.Comp(2))
	q.Value = n
	return q
}

// readConcept reads a CE or CWE. By a table only what is in it; in a system, codes that name none are of that one.
func readConcept(x *mapper, v Value, _ string, t *term) any {
	if t.table != nil {
		m, ok := t.table.find(str(v, 1))
		if !ok {
			return nil
		}
		return fhir.CodeableConcept{Coding: []fhir.Coding{{System: m.system, Code: m.code, Display: m.display}}}
	}
	c := x.concept(v)
	if t.system != "" {
		c, _ = x.coded(v, t.system)
	}
	if c.IsZero() {
		return nil
	}
	return c
}

func readCoding(x *mapper, v Value, at string, t *term) any {
	before := v.noted()
	c, ok := readConcept(x, v, at, t).(fhir.CodeableConcept)
	if !ok || len(c.Coding) == 0 {
		return nil
	}
	v.forget(before)
	for n := range 3 { // the other of the two that a CWE may hold is not taken
		str(v, n+1)
	}
	return c.Coding[0]
}

// readText makes a concept of words alone.
func readText(_ *mapper, v Value, _ string, _ *term) any {
	if s := words(v); s != "" {
		return fhir.CodeableConcept{Text: s}
	}
	return nil
}

func readLanguage(_ *mapper, v Value, _ string, _ *term) any {
	if l := str(v, 1); len(l) == 2 || len(l) == 3 {
		return fhir.Code("urn:ietf:bcp:47", strings.ToLower(l), str(v, 2))
	}
	return nil
}

func readName(x *mapper, v Value, _ string, _ *term) any {
	if n, ok := x.name(v); ok {
		return n
	}
	return nil
}

// readAlias reads a name that does not say of what kind it is as one that people go by.
func readAlias(x *mapper, v Value, _ string, _ *term) any {
	n, ok := x.name(v)
	if !ok {
		return nil
	}
	if n.Use == "official" {
		n.Use = "nickname"
	}
	return n
}

func readAddress(x *mapper, v Value, _ string, _ *term) any {
	if a, ok := x.address(v); ok {
		return a
	}
	return nil
}

func readTelecom(x *mapper, v Value, _ string, t *term) any {
	if cp, ok := x.telecom(v, t.arg); ok {
		return cp
	}
	return nil
}

// readIdentifier reads a CX or EI; the argument is its type in HL7 table 0203.
func readIdentifier(x *mapper, v Value, _ string, t *term) any {
	n := str(v, 1)
	if n == "" {
		return nil
	}
	ns := authority(v.Comp(4))
	if ns == "" {
		ns = str(v, 2)
	}
	if ns == "" || len(ns) == 1 { // of a CX, component 2 is a check digit
		ns = x.o.Authority
	}
	i := fhir.Identifier{System: x.systemOf(ns), Value: n}
	if t.arg != "" {
		m, _ := x.lookup("identifier-type", t.arg)
		c := fhir.Code(v2Table+"0203", t.arg, m.display)
		i.Type = &c
	}
	return i
}

func readPractitioner(x *mapper, v Value, _ string, _ *term) any {
	if r, ok := x.practitioner(v); ok {
		return r
	}
	return nil
}

// readOrganisation reads an XON: a name, and a code that in the UK is the ODS code. HL7 v2.4 §2.9.49
func readOrganisation(x *mapper, v Value, _ string, _ *term) any {
	name, code := str(v, 1), str(v, 3)
	if code == "" {
		code = str(v, 10)
	}
	if name == "" && code == "" {
		return nil
	}
	r := fhir.Reference{Type: "Organization", Display: name}
	if code = strings.ToUpper(code); odsCode.MatchString(code) {
		r.Identifier = &fhir.Identifier{System: fhir.SystemODS, Value: code}
	} else if code != "" { // a number of somebody else's
		r.Identifier = &fhir.Identifier{System: x.systemOf(authority(v.Comp(6))), Value: code}
	}
	return r
}

// odsCode is the form of an ODS code: of an organisation, or with two or more signs more of a site of it.
var odsCode = regexp.MustCompile(`^[A-Z0-9]{3,9}$`)

func readPlace(_ *mapper, v Value, _ string, _ *term) any {
	if s := locationWords(v); s != "" {
		return fhir.Reference{Type: "Location", Display: s}
	}
	return nil
}

func readAnnotation(_ *mapper, v Value, _ string, _ *term) any {
	if s := words(v); s != "" {
		return fhir.Annotation{Text: s}
	}
	return nil
}
