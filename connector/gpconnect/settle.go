package gpconnect

import (
	"bytes"
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"tombolo/dataset"
	"tombolo/fhir"
)

// finish settles what only the whole bundle can, and reads what was written as R4.
func (c *converter) finish(size int64) (*Converted, error) {
	if n := c.in["Patient"]; n != 1 && !(c.anybody && n == 0) {
		if n == 0 {
			return nil, fhir.Errorf(fhir.Required, "the bundle has no Patient, so nobody can say whose record it is").At("Bundle.entry")
		}
		return nil, fhir.Errorf(fhir.BusinessRule, "the bundle has %d Patients; a structured record is about one person", n).At("Bundle.entry").OfStranger()
	}
	c.settle()
	done := &Converted{In: c.in, Out: map[string]int{}, Content: make([]*fhir.Resource, 0, len(c.entries)), Bytes: size}
	var scratch fhir.Scratch
	for i := range c.entries {
		e := c.entries[i]
		if c.entries[i] = nil; e.drop { // nobody asks for it again
			continue
		}
		c.report.tally(e)
		r, err := scratch.Resource(c.complete(e))
		if err != nil {
			return nil, fhir.Errorf(fhir.Exception, "the conversion made what is not R4: %w", err).At(entryAt(e.at))
		}
		done.Out[r.Type()]++
		c.lacks(r.Value(), "")
		switch s := e.section; {
		case e.from == "Patient":
			done.Patient = r
		case s != nil:
			s.List = r
			for ref := range r.Value().All("entry.item.reference") {
				s.Entries = append(s.Entries, fhir.Ref(ref.Str()))
			}
			done.Sections = append(done.Sections, *s)
		default:
			done.Content = append(done.Content, r)
		}
	}
	for typ, n := range c.within {
		done.Out[typ] += n
	}
	done.Issues, done.Lacks = c.report.issues(), c.shortfalls()
	return done, nil
}

func entryAt(i int) string { return "Bundle.entry[" + strconv.Itoa(i) + "]" }

func (c *converter) settle() {
	c.settleDuplicates()
	c.settleNames()
	c.checkSubjects()
	c.settleResults()
	c.settleMedicines()
	c.settleMissing()
}

// settleDuplicates sees to resources of one type and id that came more than once: the same again is passed over, another version is
// kept beside the first under an id of its own, and the report says so. Which one counts as the first does not depend on order.
func (c *converter) settleDuplicates() {
	slices.SortStableFunc(c.entries, func(a, b *entry) int {
		if n := strings.Compare(a.typ, b.typ); n != 0 {
			return n
		}
		if n := strings.Compare(a.id, b.id); n != 0 {
			return n
		}
		return bytes.Compare(a.sum[:], b.sum[:])
	})
	for i := 0; i < len(c.entries); {
		first, j := c.entries[i], i+1
		for ; j < len(c.entries) && c.entries[j].typ == first.typ && c.entries[j].id == first.id; j++ {
			e := c.entries[j]
			c.at = e.at
			if c.entries[j-1].sum == e.sum {
				e.drop = true
				c.say(fhir.Duplicate, fhir.Information, e.from, "the same resource stood in the bundle more than once; it was taken once")
			}
		}
		id := first.id
		for k := i + 1; k < j; k++ {
			e := c.entries[k]
			if c.at = e.at; !e.drop {
				e.id, e.renamed = validID(e.sum.id(id+"-v")), true
				c.say(fhir.Duplicate, fhir.Warning, e.from, "two different resources had one id; both were kept")
			}
		}
		i = j
	}
	slices.SortStableFunc(c.entries, func(a, b *entry) int { // renamed ones may stand elsewhere now
		if n := strings.Compare(a.typ, b.typ); n != 0 {
			return n
		}
		return strings.Compare(a.id, b.id)
	})
}

// settleNames finds what each reference can mean. An entry is meant by its type and id before it is meant by an address, and of several
// with one address the same one is meant in whatever order they came.
func (c *converter) settleNames() {
	c.byRef = make(map[string]int, len(c.entries))
	for i := range c.entries {
		e := c.entries[i]
		if e.drop {
			continue
		}
		c.byRef[e.ref()] = i
		if e.from == "Patient" {
			c.patient = e.ref()
			for _, n := range e.numbers {
				c.nhs = n
			}
		}
	}
	c.others = map[string]string{}
	c.locals = nil
	for i := range c.entries {
		e := c.entries[i]
		if e.full == "" {
			continue
		}
		name, to := c.plain(e.full), e.ref()
		if was, taken := c.others[name]; name != to && (!taken || to < was) {
			c.others[name] = to
			c.loose = c.loose || !isLoose(name)
		}
	}
}

// checkSubjects drops what says that it is about another patient than the bundle's (design law 9).
func (c *converter) checkSubjects() {
	for i := range c.entries {
		e := c.entries[i]
		if e.from == "Patient" || e.drop {
			continue
		}
		other := slices.ContainsFunc(e.subjects, func(ref string) bool { return c.patient != "" && c.settled(ref) != c.patient }) ||
			slices.ContainsFunc(e.numbers, func(n string) bool { return c.nhs != "" && n != c.nhs })
		if other {
			c.at, e.drop = e.at, true
			c.say(fhir.BusinessRule, fhir.SevError, e.from, "the resource is about another patient than the bundle; it was left out: tell the practice's supplier")
		}
	}
}

// settleResults puts the results of reports, their groups' members, and the members of those, under results.
func (c *converter) settleResults() {
	var found []int
	follow := func(refs []string) {
		for _, ref := range refs {
			if j, ok := c.byRef[c.settled(ref)]; ok {
				found = append(found, j)
			}
		}
	}
	for i := range c.entries {
		switch e := c.entries[i]; {
		case e.from == "DiagnosticReport":
			follow(e.parts)
		case e.from == "Observation" && e.heading == dataset.Results:
			found = append(found, i)
		}
	}
	for len(found) > 0 {
		e := c.entries[found[len(found)-1]]
		found = found[:len(found)-1]
		if e.from == "Observation" && !e.seen {
			e.heading, e.seen = dataset.Results, true
			follow(e.parts)
		}
	}
}

// settleMedicines gives what refers to a Medication the mark that its codes have earned.
func (c *converter) settleMedicines() {
	for _, e := range c.entries {
		if e.medicine != "" {
			if i, ok := c.byRef[c.settled(e.medicine)]; ok && c.entries[i].from == "Medication" {
				e.quality = c.entries[i].quality
			}
		}
	}
}

// settleMissing finds what the bundle names as part of something and does not contain. A list of allergies of which one did not come is not
// the list that the practice has, and a medicine without its Medication has no name.
func (c *converter) settleMissing() {
	for _, e := range c.entries {
		if e.drop {
			continue
		}
		missing := int32(0)
		for _, ref := range e.parts {
			if !c.came(ref) {
				missing++
			}
		}
		if e.section != nil {
			e.section.Missing = int(missing) // said under its heading; see answer
		}
		c.lost(e, e.where, missing)
		if e.medicine != "" && !c.came(e.medicine) {
			c.lost(e, "medicationReference", 1)
		}
	}
}

// came reports whether what a reference means has come, and is part of what comes out.
func (c *converter) came(ref string) bool {
	i, ok := c.byRef[c.settled(ref)]
	return ok && !c.entries[i].drop
}

func (c *converter) lost(e *entry, where string, n int32) {
	if n > 0 {
		e.notes = append(e.notes, noted{c.report.kind(remark{fhir.Incomplete, fhir.Warning, e.from + "." + where, "an entry is named that the practice's answer does not contain; see the source"}), n})
	}
}

// complete is an entry's resource with what has been settled: its id, its tags, and what its references mean.
func (c *converter) complete(e *entry) []byte {
	tags := c.tags(e)
	out := e.out
	if e.renamed || len(tags) > 0 {
		b := make([]byte, 0, len(out)+len(tags)+len(e.id)+16)
		from := 0
		if e.renamed {
			b = append(b, `{"resourceType":"`+e.typ+`","id":"`+e.id+`"`...)
			from = e.idEnd
		}
		if len(tags) > 0 {
			b = append(b, out[from:e.tagsAt]...)
			b = appendTags(b, tags, e.tagged)
			from = e.tagsAt
		}
		out = append(b, out[from:]...)
	}
	if e.loose || c.loose {
		out = c.rewired(out)
	}
	for _, nothing := range [...]string{"{}", "[]", ":null", "[null", ",null"} {
		if bytes.Contains(out, []byte(nothing)) {
			return pruned(out)
		}
	}
	return out
}

// pruned is a resource without what says nothing: empty objects and lists, and nulls, of which FHIR has some only beside extensions of values
// in a list. FHIR R4 json.html
func pruned(out []byte) []byte {
	v, err := fhir.ParseValue(out)
	if err != nil {
		return out // for whoever reads it to say
	}
	b, _ := prune(make([]byte, 0, len(out)), v, false)
	return b
}

// prune writes a value; not ok if it says nothing. aligned: the place of an item in its list has a meaning.
func prune(b []byte, v fhir.Value, aligned bool) (out []byte, ok bool) {
	start := len(b)
	open, shut := byte('{'), byte('}')
	switch {
	case v.IsArray():
		open, shut = '[', ']'
	case !v.IsObject():
		return append(b, v.Raw()...), !isNull(v) || aligned
	}
	b = append(b, open)
	for m := range v.Children() {
		at := len(b)
		if at > start+1 {
			b = append(b, ',')
		}
		if v.IsObject() {
			b, _ = jsontext.AppendQuote(b, m.Key())
			b = append(b, ':')
		}
		inLine := v.IsArray() && (aligned || !m.IsObject() && !m.IsArray() && !onlyObjects(v))
		if b, ok = prune(b, m, inLine || strings.HasPrefix(m.Key(), "_") && m.IsArray()); !ok {
			b = b[:at]
		}
	}
	if len(b) == start+1 && !aligned {
		return b[:start], false
	}
	return append(b, shut), true
}

// onlyObjects reports whether a list is of objects, as far as it is of anything.
func onlyObjects(list fhir.Value) bool {
	for m := range list.Children() {
		if !m.IsObject() && !isNull(m) {
			return false
		}
	}
	return true
}

func appendTags(b, tags []byte, among bool) []byte {
	switch {
	case among:
		return append(append(b, ','), tags...)
	case b[len(b)-1] != '{':
		b = append(b, ',')
	}
	b = append(b, `"tag":[`...)
	return append(append(b, tags...), ']')
}

// tags are this program's own: the heading, and the marks.
func (c *converter) tags(e *entry) []byte {
	var b []byte
	c.into(&b, func() {
		if e.heading != "" {
			t := dataset.Tag(e.heading)
			c.sep()
			c.raw(`{"system":"` + t.System + `","code":"` + t.Code + `"}`)
		}
		if e.unclear {
			c.mark(dataset.SeeSource)
		}
		if e.quality != "" {
			c.mark(e.quality)
		}
	})
	return b
}

// rewired gives a resource with its references as they have been settled. What was written above is written without white space, so that
// this is what a reference begins with, and nothing else does.
func (c *converter) rewired(out []byte) []byte {
	const member = `"reference":"`
	var b []byte
	from := 0
	for at := 0; ; {
		i := bytes.Index(out[at:], []byte(member))
		if i < 0 {
			break
		}
		start := at + i + len(member)
		escaped := at+i > 0 && out[at+i-1] == '\\' // in a name that ends so
		end := start + bytes.IndexByte(out[start:], '"')
		at = end
		if ref := out[start:end]; !escaped && bytes.IndexByte(ref, '\\') < 0 {
			if _, known := c.byRef[string(ref)]; known {
				continue
			}
			if to := c.settled(string(ref)); to != string(ref) {
				b = append(b, out[from:start]...)
				b = append(b, to...)
				from = end
			}
		}
	}
	if from == 0 {
		return out
	}
	return append(b, out[from:]...)
}

// plain is the R4 reference for one of STU3, as far as it can be told before all entries are there.
func (c *converter) plain(ref string) string {
	if to, ok := c.locals[ref]; ok {
		return to
	}
	typ, id, ok := strings.Cut(ref, "/")
	if !ok || strings.ContainsAny(typ, ":#?") {
		return ref
	}
	f, known := shapes[typ]
	if !known {
		return ref
	}
	id, version, has := strings.Cut(id, "/_history/")
	if id == "" || strings.Contains(id, "/") {
		return ref
	}
	out := f.to + "/" + targetID(typ, id)
	if has {
		out += "/_history/" + version
	}
	return out
}

// isLoose reports whether a reference may turn out to mean something else than it says: an address, a version, an allergy that was lifted out
// of its list. Type and id of anything else are what they say, unless a bundle is so odd as to use them as an address.
func isLoose(ref string) bool {
	typ, id, _ := strings.Cut(ref, "/")
	return typ == "AllergyIntolerance" || !fhir.ValidID(id) || !fhir.IsType(typ)
}

// settled is what a reference, given as plain gives it, means in this bundle. A version of what is in the bundle is that.
func (c *converter) settled(ref string) string {
	if _, ok := c.byRef[ref]; ok {
		return ref
	}
	if to, ok := c.others[ref]; ok {
		return to
	}
	if base, _, has := strings.Cut(ref, "/_history/"); has {
		if to := c.settled(base); c.holds(to) {
			return to
		}
	}
	return ref
}

func (c *converter) holds(ref string) bool { _, ok := c.byRef[ref]; return ok }
