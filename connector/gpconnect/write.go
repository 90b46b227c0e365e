package gpconnect

import (
	"bytes"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"tombolo/dataset"
	"tombolo/fhir"
)

// A rule says what becomes of one member of an object. The zero rule keeps it under its own name.
type rule struct {
	to string // another name in R4
	do func(c *converter, o *object, v fhir.Value)
}

// A shape is what is known of an object's members. A member that is in no shape is not STU3: it is named in the report.
type shape map[string]rule

// A form is how one STU3 type is converted.
type form struct {
	to      string // R4 type
	profile string // UK Core profile, "" if there is none
	same    bool   // a reference by type and id is the same in R4
	members shape
	about   []string                                    // members that say what the entry is, where it is not code
	negates func(v fhir.Value) bool                     // reports a modifier that R4 has no place for; nil if the type has none
	after   func(c *converter, o *object, v fhir.Value) // what R4 demands and STU3 did not say
	exts    map[string]func(c *converter, o *object, e fhir.Value)
}

// An object is one being written: extensions are gathered and come last.
type object struct {
	src      fhir.Value
	form     *form
	ext, mod []byte
	done     map[string]bool // members of R4 that several of STU3 flow into
}

// members makes a shape: kept is the names that stay as they are.
func members(kept string, rules shape) shape {
	s := shape{}
	for n := range strings.FieldsSeq(kept) {
		s[n] = rule{}
	}
	for n, r := range rules {
		s[n] = r
	}
	return s
}

// choice is the names of value[x] with the given types.
func choice(name, types string) string {
	var b strings.Builder
	for t := range strings.FieldsSeq(types) {
		b.WriteString(name + t + " ")
	}
	return b.String()
}

// as keeps a member under another name.
func as(to string) rule { return rule{to: to} }

// many keeps a member that may come once in STU3 and any number of times in R4.
func many(to string) rule {
	return rule{to: to, do: func(c *converter, _ *object, v fhir.Value) { c.key(to); c.listOf(v, c.copy) }}
}

// each converts the items of a backbone element by a shape of their own.
func each(to string, s shape) rule {
	return rule{do: func(c *converter, _ *object, v fhir.Value) {
		c.key(to)
		c.path = append(c.path, to)
		c.listOf(v, func(item fhir.Value) { c.backbone(item, s) })
		c.path = c.path[:len(c.path)-1]
	}}
}

// one converts a single backbone element by a shape of its own.
func one(to string, s shape) rule {
	return rule{do: func(c *converter, _ *object, v fhir.Value) {
		c.key(to)
		c.path = append(c.path, to)
		c.backbone(v, s)
		c.path = c.path[:len(c.path)-1]
	}}
}

// carry keeps what has no place in R4 in the extension that FHIR names for it.
//
// FHIR R4 versions.html#extensions
func carry(typ, element, valueX string) rule {
	return rule{do: func(c *converter, o *object, v fhir.Value) { c.carry(&o.ext, typ, element, valueX, v) }}
}

// carryModifier is carry for an element that changes the meaning of the rest.
func carryModifier(typ, element, valueX string) rule {
	return rule{do: func(c *converter, o *object, v fhir.Value) {
		if v.Raw()[0] == 'f' { // false changes nothing
			c.carry(&o.ext, typ, element, valueX, v)
			return
		}
		c.carry(&o.mod, typ, element, valueX, v)
		c.note(fhir.NotSupported, fhir.Warning, typ+"."+element, modified)
	}}
}

const modified = "the entry carries a modifier that changes its meaning and has no place in the shared record: read it at the source"

func (c *converter) carry(dst *[]byte, typ, element, valueX string, v fhir.Value) {
	c.into(dst, func() {
		for item := range v.All("") {
			c.sep()
			c.raw(`{"url":"http://hl7.org/fhir/3.0/StructureDefinition/extension-` + typ + "." + element + `"`)
			c.key(valueX)
			c.copy(item)
			c.out = append(c.out, '}')
		}
	})
}

// into writes to another buffer for as long as fn runs.
func (c *converter) into(dst *[]byte, fn func()) {
	saved := c.out
	c.out = *dst
	fn()
	*dst, c.out = c.out, saved
}

// sep writes a comma where one is needed.
func (c *converter) sep() {
	if n := len(c.out); n > 0 {
		switch c.out[n-1] {
		case '{', '[', ':':
		default:
			c.out = append(c.out, ',')
		}
	}
}

func (c *converter) raw(s string) { c.out = append(c.out, s...) }

func (c *converter) key(name string) {
	c.sep()
	c.str(name)
	c.out = append(c.out, ':')
}

func (c *converter) str(s string) {
	for i := range len(s) {
		if b := s[i]; b < ' ' || b == '"' || b == '\\' || b > '~' {
			c.out, _ = jsontext.AppendQuote(c.out, s)
			return
		}
	}
	c.out = append(c.out, '"')
	c.out = append(c.out, s...)
	c.out = append(c.out, '"')
}

// listOf writes an array of what v is an array of; of v alone if it is none.
func (c *converter) listOf(v fhir.Value, write func(fhir.Value)) {
	c.out = append(c.out, '[')
	if v.IsArray() {
		for item := range v.Children() {
			c.sep()
			write(item)
		}
	} else {
		write(v)
	}
	c.out = append(c.out, ']')
}

func isNull(v fhir.Value) bool { r := v.Raw(); return len(r) == 0 || r[0] == 'n' }

// resource writes one resource by its form.
func (c *converter) resource(v fhir.Value, f *form, id string) {
	o := &object{src: v, form: f}
	c.raw(`{"resourceType":"` + f.to + `"`)
	if id != "" {
		c.key("id")
		c.str(id)
	}
	if c.contained == 0 {
		c.cur.idEnd = len(c.out)
	}
	c.meta(v, f)
	for m := range v.Children() {
		switch m.Key() {
		case "resourceType", "id", "meta":
		case "contained":
			c.containedIn(m)
		case "implicitRules":
			c.key("implicitRules")
			c.copy(m)
			c.note(fhir.NotSupported, fhir.Warning, c.here("implicitRules"), modified)
		case "language", "text":
			c.key(m.Key())
			c.copy(m)
		default:
			c.member(o, f.members, m)
		}
	}
	if f.after != nil {
		f.after(c, o, v)
	}
	c.close(o)
}

// backbone writes one element by a shape.
func (c *converter) backbone(v fhir.Value, s shape) {
	if !v.IsObject() {
		c.copy(v)
		return
	}
	o := &object{src: v}
	c.out = append(c.out, '{')
	for m := range v.Children() {
		c.member(o, s, m)
	}
	c.close(o)
}

func (c *converter) close(o *object) {
	if len(o.ext) > 0 {
		c.key("extension")
		c.out = append(c.out, '[')
		c.out = append(append(c.out, o.ext...), ']')
	}
	if len(o.mod) > 0 {
		c.key("modifierExtension")
		c.out = append(c.out, '[')
		c.out = append(append(c.out, o.mod...), ']')
	}
	c.out = append(c.out, '}')
}

// member converts one member of an object by its shape.
func (c *converter) member(o *object, s shape, m fhir.Value) {
	name := m.Key()
	if isNull(m) {
		return // FHIR JSON has no null members; there is nothing in it to lose
	}
	switch name {
	case "extension":
		for e := range m.All("") {
			c.extend(o, e)
		}
		return
	case "modifierExtension":
		c.into(&o.mod, func() {
			for e := range m.All("") {
				c.sep()
				c.copy(e)
			}
		})
		c.note(fhir.NotSupported, fhir.Warning, c.here(name), modified)
		return
	case "id", "fhir_comments":
		if name == "id" {
			c.key(name)
			c.copy(m)
		}
		return
	}
	if name[0:min(1, len(name))] == "_" {
		if r, ok := s[name[1:]]; ok && r.do == nil {
			to := name
			if r.to != "" {
				to = "_" + r.to
			}
			c.key(to)
			c.copy(m)
			return
		}
		c.note(fhir.NotSupported, fhir.Warning, c.here(name), "an extension on a value that changes its form in R4 was not carried over")
		return
	}
	r, ok := s[name]
	switch {
	case !ok:
		c.note(fhir.NotSupported, fhir.Warning, c.here(name), "the element is not part of STU3 and was not carried over")
	case r.do != nil:
		r.do(c, o, m)
	default:
		if r.to != "" {
			name = r.to
		}
		c.key(name)
		c.copy(m)
	}
}

// copy writes a value as it is but for what every datatype shares: references, code systems, extensions.
func (c *converter) copy(v fhir.Value) {
	switch {
	case v.IsObject():
		c.out = append(c.out, '{')
		for m := range v.Children() {
			c.copyMember(v, m)
		}
		c.out = append(c.out, '}')
	case v.IsArray():
		c.out = append(c.out, '[')
		for item := range v.Children() {
			c.sep()
			c.copy(item)
		}
		c.out = append(c.out, ']')
	default:
		c.out = append(c.out, v.Raw()...)
	}
}

func (c *converter) copyMember(parent, m fhir.Value) {
	if isNull(m) {
		return
	}
	switch name := m.Key(); name {
	case "extension":
		c.key(name)
		c.out = append(c.out, '[')
		for e := range m.All("") {
			c.extension(e)
		}
		c.out = append(c.out, ']')
	case "modifierExtension":
		c.key(name)
		c.copy(m)
		c.note(fhir.NotSupported, fhir.Warning, c.here(name), modified)
	case "reference":
		if m.IsString() {
			if raw := m.Raw(); c.locals == nil && sameInR4(raw[1:len(raw)-1]) { // nearly always, and without a copy of the words
				c.key("reference")
				c.out = append(c.out, raw...)
				return
			}
			c.reference(parent, m.Str())
			return
		}
		c.key(name)
		c.copy(m)
	case "system":
		c.key(name)
		c.system(m)
	case "coding":
		c.key(name)
		c.codings(m)
	case "code":
		c.key(name)
		c.scalar(m)
	case "value":
		c.key(name)
		c.number(parent, m)
	default:
		c.key(name)
		c.copy(m)
	}
}

// scalar writes the code of a coding or quantity. Seen in the specification's own examples: a list of one where one may be.
func (c *converter) scalar(m fhir.Value) {
	if !m.IsArray() {
		c.copy(m)
		return
	}
	n := 0
	var one fhir.Value
	for item := range m.Children() {
		one = item
		n++
	}
	if n == 1 && one.IsString() {
		c.copy(one)
		c.note(fhir.Structure, fhir.Information, c.here("code"), "a list stood where one code may be; it was read as that one")
		return
	}
	c.copy(m)
	c.note(fhir.Structure, fhir.Warning, c.here("code"), "a list stands where one code may be, so that the entry is not valid R4")
}

// number writes the value of a quantity. Seen in the specification's own examples: the number in quotes.
func (c *converter) number(parent, m fhir.Value) {
	if s := m.Str(); m.IsString() && isAmount(parent) && fhir.IsNumber(s) {
		c.raw(s)
		c.note(fhir.Structure, fhir.Information, c.here(parent.Key()+".value"), "a number stood in quotes; it was read as that number")
		return
	}
	c.copy(m)
}

// isAmount reports whether an element is a quantity by the name under which it stands: elements of other types have a value too.
func isAmount(v fhir.Value) bool {
	switch name := v.Key(); name {
	case "low", "high", "numerator", "denominator", "expectedSupplyDuration":
		return true
	default:
		return strings.HasSuffix(name, "uantity")
	}
}

// system writes a code or identifier system under the name it has today.
func (c *converter) system(v fhir.Value) {
	raw := v.Raw()
	if len(raw) > 2 && raw[0] == '"' {
		if to, ok := systems[string(raw[1:len(raw)-1])]; ok {
			c.str(to)
			return
		}
		// FHIR R4 terminologies-systems.html: the v2 and v3 code systems moved to terminology.hl7.org.
		for _, v := range [...]string{"v3", "v2"} {
			if rest, ok := bytes.CutPrefix(raw[1:len(raw)-1], []byte("http://hl7.org/fhir/"+v+"/")); ok {
				c.str("http://terminology.hl7.org/CodeSystem/" + v + "-" + string(rest))
				return
			}
		}
	}
	c.copy(v)
}

// refLike reports whether s can be a reference at all. Practices write sentences there when they cannot give what is meant.
func refLike(s string) bool { return s != "" && !strings.ContainsAny(s, " \t\n") }

func (c *converter) reference(parent fhir.Value, ref string) {
	if refLike(ref) {
		to := c.plain(ref)
		c.cur.loose = c.cur.loose || isLoose(to)
		c.key("reference")
		c.str(to)
		return
	}
	if !parent.Member("display").Exists() {
		c.key("display")
		c.str(ref)
		return
	}
	c.note(fhir.ValueError, fhir.Information, c.here("reference"), "a reference held words beside a display and was not carried over")
}

// sameInR4 reports whether a reference is type and id, and both stay as they are.
func sameInR4(ref []byte) bool {
	i := bytes.IndexByte(ref, '/')
	if i < 0 || len(ref)-i > 65 {
		return false
	}
	for _, b := range ref[i+1:] {
		if !('a' <= b && b <= 'z' || 'A' <= b && b <= 'Z' || '0' <= b && b <= '9' || b == '-' || b == '.') {
			return false
		}
	}
	f := shapes[string(ref[:i])]
	return f != nil && f.same && i+1 < len(ref)
}

// meta writes the profile of what the resource has become and the labels it came with. Room is left for the heading it stands under where the
// type alone does not say, and for the marks by which a viewer knows how far the entry can be relied on; see complete.
func (c *converter) meta(v fhir.Value, f *form) {
	m := v.Member("meta")
	c.key("meta")
	c.out = append(c.out, '{')
	if f.profile != "" {
		c.raw(`"profile":["https://fhir.hl7.org.uk/StructureDefinition/` + f.profile + `"]`)
	}
	for k := range m.Children() {
		switch {
		case k.Key() == "profile", k.Key() == "tag", isNull(k):
		default:
			c.copyMember(m, k)
		}
	}
	var tags []byte
	c.into(&tags, func() {
		for t := range m.All("tag") {
			if s := t.Text("system"); s == fhir.SystemHeading || s == dataset.SystemReading {
				continue // ours to say
			}
			c.sep()
			c.copy(t)
		}
		if c.contained > 0 {
			if q := quality(v, f); q != "" {
				c.mark(q)
			}
		}
	})
	c.array("tag", tags)
	if c.contained == 0 {
		if c.cur.tagsAt, c.cur.tagged = len(c.out), len(tags) > 0; c.cur.tagged {
			c.cur.tagsAt-- // before the bracket
		}
		c.cur.unclear = modifies(v, f)
		c.quality(v, f)
	}
	c.out = append(c.out, '}')
}

// containedIn converts what a resource contains, but for what was lifted out of it.
func (c *converter) containedIn(m fhir.Value) {
	c.contained++
	defer func() { c.contained-- }()
	var buf []byte
	path := c.path
	c.into(&buf, func() {
		for r := range m.All("") {
			typ := r.Text("resourceType")
			if c.cur.from == "List" && c.contained == 1 && typ == "AllergyIntolerance" {
				continue
			}
			c.in[typ]++
			f, ok := shapes[typ]
			if !ok {
				c.note(fhir.NotSupported, fhir.Warning, c.here("contained"), "a contained resource of a type that GP Connect does not name was not converted")
				continue
			}
			c.within[f.to]++
			c.sep()
			c.path = append(slices.Clip(path), "contained("+typ+")")
			c.resource(r, f, r.Member("id").Str())
		}
	})
	c.path = path
	if len(buf) > 0 {
		c.key("contained")
		c.out = append(c.out, '[')
		c.out = append(append(c.out, buf...), ']')
	}
}
