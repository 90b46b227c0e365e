package gpconnect

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strconv"
	"strings"

	"tombolo/dataset"
	"tombolo/fhir"
)

// Map is the name and version of the conversion below. Change the version when the same input gives another output.
const Map = "gpconnect-stu3-r4/1"

// A Converted is what a GP Connect bundle becomes, and the account of it: every resource that came in is in Patient, Content or
// Sections, or an Issue says why not.
type Converted struct {
	Patient  *fhir.Resource
	Content  []*fhir.Resource // R4 UK Core, by type and id whatever the order they came in
	Sections []Section        // what each query of the source returned: the lists that GP Connect answers with
	Issues   []*fhir.Issue    // what was not carried over, each kind of place once, with how often
	Lacks    []*fhir.Issue    // why what came out is not valid R4 or UK Core where it is not: what they demand and was not sent, each kind once
	In, Out  map[string]int   // resources by type: STU3 types in, R4 types out (the patient and the lists of sections among them)
}

// A Section is one list by which the source says what it returned for one query, and how far it can be relied on.
type Section struct {
	Code      string // SNOMED code of the list, or the secondary list's own code
	Title     string
	Heading   dataset.Heading // "" if the list is not one of GP Connect's primary or secondary lists
	Secondary bool            // items linked from problems or consultations, not the heading's own query
	Warnings  []string        // confidential-items, data-in-transit, data-awaiting-filing
	Since     string          // data-in-transit: "information recorded before this date may be missing", as the source wrote it
	Empty     bool            // the source says that it has nothing: emptyReason no-content-recorded
	Entries   []fhir.Ref
	List      *fhir.Resource // the R4 List itself
}

// Convert makes R4 UK Core of a GP Connect Access Record Structured bundle (STU3, CareConnect-GPC profiles). It is pure: the same
// bundle gives the same bytes, in whatever order its entries stand. It refuses what is no such bundle, has no patient, or has more
// than one; anything less is converted with an account of what was not.
//
// GP Connect 1.6 accessrecord_structured_development_bundle.html
func Convert(bundle fhir.Value) (*Converted, error) {
	if !bundle.IsObject() || bundle.Text("resourceType") != "Bundle" {
		return nil, fhir.Errorf(fhir.Structure, "not a FHIR Bundle: a GP Connect structured record is a Bundle of type collection").At("Bundle")
	}
	c := &converter{report: map[string]*fhir.Issue{}, counts: map[string]int{}, short: map[string]int{}, within: map[string]int{}}
	if err := c.index(bundle); err != nil {
		return nil, err
	}
	c.classify()
	return c.write(len(bundle.Raw()))
}

// convertAny is Convert for answers that are about no single person, such as free slots, or that leave the person out, as appointments do.
func convertAny(bundle fhir.Value) (*Converted, error) {
	c := &converter{anybody: true, report: map[string]*fhir.Issue{}, counts: map[string]int{}, short: map[string]int{}, within: map[string]int{}}
	if err := c.index(bundle); err != nil {
		return nil, err
	}
	c.classify()
	return c.write(len(bundle.Raw()))
}

// maxEntries is what one record may have. The largest that general practice knows have some tens of thousands; a bundle of a million
// empty resources would cost many times its size.
const maxEntries = 100_000

// An entry is one resource of the bundle on its way to R4.
type entry struct {
	v      fhir.Value
	at     int    // index in Bundle.entry
	from   string // STU3 type
	typ    string // R4 type
	id     string // id it will have
	list   int    // index of the entry whose list contained it, -1 if it stood by itself
	tag    dataset.Heading
	drop   bool
	seen   bool
	locals map[string]string // "#28" -> "AllergyIntolerance/ended-28"
}

type converter struct {
	out       []byte
	entries   []entry
	refs      map[string]string // STU3 reference or fullUrl -> R4 reference
	byRef     map[string]int    // R4 reference -> index of its entry
	anybody   bool              // there need be no patient
	patient   string            // R4 reference of the patient
	nhs       string            // the patient's NHS number, if it is a valid one
	report    map[string]*fhir.Issue
	counts    map[string]int
	short     map[string]int // lacks, and how often
	issues    []*fhir.Issue
	in        map[string]int
	cur       *entry
	scratch   entry // what cur points at before an entry has its place
	path      []string
	contained int // how deep in contained resources the writing is
	within    map[string]int
}

// index reads which resources there are and decides the id of each, so that references can be rewritten in one pass.
func (c *converter) index(bundle fhir.Value) error {
	c.in = map[string]int{}
	n := 0
	for range bundle.All("entry") {
		n++
	}
	if n > maxEntries {
		return fhir.Errorf(fhir.TooCostly, "the bundle has %d entries; no person's record has more than %d", n, maxEntries).At("Bundle.entry")
	}
	c.entries = make([]entry, 0, n+8)
	c.refs = make(map[string]string, n)
	i := 0
	for e := range bundle.All("entry") {
		c.take(e, i)
		i++
	}
	if n := c.in["Patient"]; n != 1 && !(c.anybody && n == 0) {
		if n == 0 {
			return fhir.Errorf(fhir.Required, "the bundle has no Patient, so nobody can say whose record it is").At("Bundle.entry")
		}
		return fhir.Errorf(fhir.BusinessRule, "the bundle has %d Patients; a structured record is about one person", n).At("Bundle.entry")
	}
	c.settleDuplicates()
	for i := range c.entries {
		e := &c.entries[i]
		ref := e.typ + "/" + e.id
		if e.from == "Patient" {
			c.patient = ref
			for id := range e.v.All("identifier") {
				if n := nhsIn(id); n != "" {
					c.nhs = n
				}
			}
		}
	}
	for i := range c.entries {
		c.checkSubject(&c.entries[i])
	}
	return nil
}

func (c *converter) take(e fhir.Value, at int) {
	c.scratch = entry{at: at, list: -1}
	c.cur = &c.scratch
	r := e.Member("resource")
	if !r.Exists() && e.Member("resourceType").Exists() {
		// Seen in the specification's own examples: a resource that stands where its entry should.
		r = e
		c.note(fhir.Structure, fhir.Information, "Bundle.entry", "a resource stood without its entry and was read all the same")
	}
	typ := r.Member("resourceType").Str()
	if !r.IsObject() || typ == "" {
		c.note(fhir.Structure, fhir.SevError, "Bundle.entry", "an entry holds no resource")
		return
	}
	c.in[typ]++
	shape, known := shapes[typ]
	switch {
	case typ == "OperationOutcome":
		c.outcome(r)
		return
	case !known:
		c.note(fhir.NotSupported, fhir.Warning, short(typ), "this type of resource is not part of a GP Connect structured record and was not converted; see the source")
		return
	}
	en := entry{v: r, at: at, from: typ, typ: shape.to, list: -1}
	en.id = c.settleID(typ, r.Member("id"), r)
	at2 := len(c.entries)
	c.entries = append(c.entries, en)
	if id := r.Member("id").Str(); id != "" {
		c.refs[typ+"/"+id] = shape.to + "/" + en.id
	}
	if full := e.Member("fullUrl").Str(); full != "" {
		c.refs[full] = shape.to + "/" + en.id
	}
	if typ == "List" {
		c.takeContained(at2)
	}
}

// takeContained lifts the allergies that GP Connect keeps contained in the list of ended allergies out of it, so that they can be
// shown, labelled and reconciled like any other. Their ids are local to the list and are marked as such.
//
// GP Connect 1.6 accessrecord_structured_development_allergies_guidance.html
func (c *converter) takeContained(at int) {
	for r := range c.entries[at].v.All("contained") {
		if r.Text("resourceType") != "AllergyIntolerance" {
			continue
		}
		if len(c.entries) > 2*maxEntries {
			c.note(fhir.TooCostly, fhir.SevError, "List.contained", "more resources were contained than any record has; the rest was not converted")
			return
		}
		c.in["AllergyIntolerance"]++
		local := r.Member("id").Str()
		e := entry{v: r, at: c.entries[at].at, from: "AllergyIntolerance", typ: "AllergyIntolerance", list: at}
		if local == "" {
			e.id = madeID("ended", r.Raw())
		} else {
			e.id = validID("ended-" + local)
		}
		c.entries = append(c.entries, e)
		ref := "AllergyIntolerance/" + e.id
		if c.entries[at].locals == nil {
			c.entries[at].locals = map[string]string{}
		}
		c.entries[at].locals["#"+local] = ref
		if _, taken := c.refs["AllergyIntolerance/"+local]; !taken {
			c.refs["AllergyIntolerance/"+local] = ref
		}
	}
}

// settleID gives the id that a resource will have: the source's own wherever that is one.
func (c *converter) settleID(typ string, id fhir.Value, r fhir.Value) string {
	s := id.Str()
	if s == "" {
		if typ == "List" { // GP Connect says that lists have no id; the code tells those of a query apart
			if code := r.Text("code.coding.code"); code != "" && sectionOf(code) != nil {
				return validID("list-" + code)
			}
		} else {
			c.note(fhir.Required, fhir.Information, typ+".id", "the resource has no id; one was made from its content")
		}
		return madeID("made", r.Raw())
	}
	out := targetID(typ, s)
	if !fhir.ValidID(s) {
		c.note(fhir.ValueError, fhir.Information, typ+".id", "the id is not of the form that FHIR allows; it was rewritten")
	}
	return out
}

// targetID is the R4 id of a STU3 resource. ProcedureRequest and ReferralRequest both become ServiceRequest: the prefix keeps the
// two from ever being taken for one.
func targetID(typ, id string) string {
	if typ == "ProcedureRequest" {
		id = "pr-" + id
	}
	return validID(id)
}

// validID keeps a good id and rewrites a bad or long one, the same way each time. FHIR R4 datatypes.html#id
func validID(id string) string {
	if fhir.ValidID(id) {
		return id
	}
	sum := sha256.Sum256([]byte(id))
	clean := strings.Map(func(r rune) rune {
		if r < 128 && fhir.ValidID(string(r)) {
			return r
		}
		return '-'
	}, id)
	return clean[:min(len(clean), 51)] + "-" + hex.EncodeToString(sum[:6])
}

func madeID(prefix string, raw []byte) string {
	sum := sha256.Sum256(raw)
	return prefix + "-" + hex.EncodeToString(sum[:12])
}

// settleDuplicates sees to resources of one type and id that came more than once: the same again is passed over, another version is
// kept beside the first under an id of its own, and the report says so. Which one counts as the first does not depend on order.
func (c *converter) settleDuplicates() {
	slices.SortStableFunc(c.entries, func(a, b entry) int {
		if n := strings.Compare(a.typ, b.typ); n != 0 {
			return n
		}
		if n := strings.Compare(a.id, b.id); n != 0 {
			return n
		}
		return bytes.Compare(a.v.Raw(), b.v.Raw())
	})
	for i := 0; i < len(c.entries); {
		first, j := c.entries[i], i+1
		for ; j < len(c.entries) && c.entries[j].typ == first.typ && c.entries[j].id == first.id; j++ {
			e := &c.entries[j]
			c.cur = e
			if bytes.Equal(c.entries[j-1].v.Raw(), e.v.Raw()) {
				e.drop = true
				c.note(fhir.Duplicate, fhir.Information, e.from, "the same resource stood in the bundle more than once; it was taken once")
			}
		}
		for k := i + 1; k < j; k++ {
			e := &c.entries[k]
			if c.cur = e; !e.drop {
				e.id = validID(madeID(e.id+"-v", e.v.Raw()))
				c.note(fhir.Duplicate, fhir.Warning, e.from, "two different resources had one id; both were kept")
			}
		}
		i = j
	}
}

// checkSubject drops a resource that says it is about another patient than the bundle's (design law 9).
func (c *converter) checkSubject(e *entry) {
	if e.from == "Patient" || e.drop {
		return
	}
	for _, name := range [...]string{"subject", "patient"} {
		s := e.v.Member(name)
		if !s.Exists() {
			continue
		}
		other := false
		for one := range s.All("") {
			if ref := one.Member("reference").Str(); c.patient != "" && ref != "" && ref[0] != '#' && refLike(ref) {
				other = other || c.resolve(ref) != c.patient
			}
			if n := nhsIn(one.Member("identifier")); n != "" && c.nhs != "" {
				other = other || n != c.nhs
			}
		}
		if other {
			c.cur, e.drop = e, true
			c.note(fhir.BusinessRule, fhir.SevError, e.from, "the resource is about another patient than the bundle; it was left out: tell the practice's supplier")
		}
	}
}

// nhsIn is the digits of a valid NHS number, "" for any other identifier.
func nhsIn(id fhir.Value) string {
	if !id.Exists() || fhir.CanonicalSystem(id.Text("system")) != fhir.SystemNHSNumber {
		return ""
	}
	n, err := fhir.ParseNHSNumber(id.Text("value"))
	if err != nil {
		return ""
	}
	return n.Digits()
}

// write converts every entry into one document, reads that as R4, and sorts the result into its places.
func (c *converter) write(size int) (*Converted, error) {
	c.out = make([]byte, 0, size+size/4+1024)
	c.out = append(c.out, '[')
	order := make([]int, 0, len(c.entries))
	for i := range c.entries {
		if !c.entries[i].drop {
			order = append(order, i)
		}
	}
	slices.SortFunc(order, func(a, b int) int {
		x, y := &c.entries[a], &c.entries[b]
		if n := strings.Compare(x.typ, y.typ); n != 0 {
			return n
		}
		return strings.Compare(x.id, y.id)
	})
	for _, i := range order {
		c.cur = &c.entries[i]
		c.path = append(c.path[:0], c.cur.from)
		c.sep()
		c.resource(c.cur.v, shapes[c.cur.from], c.cur.id)
	}
	c.out = append(c.out, ']')
	doc, err := fhir.ParseValue(c.out)
	if err != nil {
		return nil, fhir.Errorf(fhir.Exception, "the conversion made what is not JSON: %w", err)
	}
	done := &Converted{In: c.in, Out: map[string]int{}, Content: make([]*fhir.Resource, 0, len(order))}
	n := 0
	for v := range doc.Children() {
		e := &c.entries[order[n]]
		n++
		r, err := fhir.FromValue(v)
		if err != nil {
			return nil, fhir.Errorf(fhir.Exception, "the conversion made what is not R4: %w", err).At("Bundle.entry[" + strconv.Itoa(e.at) + "]")
		}
		done.Out[r.Type()]++
		c.lacks(v, "")
		if e.from == "Patient" {
			done.Patient = r
		} else if s, ok := c.section(e, r); ok {
			done.Sections = append(done.Sections, s)
		} else {
			done.Content = append(done.Content, r)
		}
	}
	for typ, n := range c.within {
		done.Out[typ] += n
	}
	done.Issues, done.Lacks = c.account(), c.shortfalls()
	return done, nil
}

// note adds to the report. where is the kind of place, without indexes, so that a thousand of a kind make one line.
func (c *converter) note(t fhir.IssueType, sev fhir.Severity, where, text string) {
	key := where + "\x00" + text
	if c.report[key] != nil {
		c.counts[key]++
		return
	}
	const most = 300
	if len(c.report) >= most {
		key = "…"
		if c.report[key] != nil {
			c.counts[key]++
			return
		}
		t, sev, where, text = fhir.Incomplete, fhir.Warning, "Bundle", "more was not carried over than this report can list"
	}
	is := &fhir.Issue{Type: t, Severity: sev, Text: text, Expression: where}
	if c.cur != nil {
		is.Expression += " (Bundle.entry[" + strconv.Itoa(c.cur.at) + "])"
	}
	c.report[key] = is
	c.counts[key] = 1
	c.issues = append(c.issues, is)
}

// here names the place now being converted.
func (c *converter) here(name string) string { return strings.Join(c.path, ".") + "." + short(name) }

// short keeps a name that a source made up from filling the report.
func short(s string) string {
	if len(s) > 60 {
		s = s[:60] + "…"
	}
	return strings.ToValidUTF8(s, "?")
}

func (c *converter) account() []*fhir.Issue {
	for key, is := range c.report {
		if n := c.counts[key]; n > 1 {
			is.Text += " (" + strconv.Itoa(n) + " times)"
		}
	}
	return c.issues
}

// outcome passes on the warnings that a practice puts into its answer: what it was asked for and does not implement.
//
// GP Connect 1.6 accessrecord_structured_development_version_compatibility.html
func (c *converter) outcome(r fhir.Value) {
	for is := range r.All("issue") {
		code := is.Text("details.coding.code")
		if code == "NOT_IMPLEMENTED" {
			what := is.Text("diagnostics")
			if i := slices.IndexFunc(queries, func(q query) bool { return what == q.name }); i >= 0 {
				c.note(fhir.NotSupported, fhir.Warning, what, "the practice's system does not offer "+queries[i].plain+" through GP Connect")
				continue
			}
			c.note(fhir.NotSupported, fhir.Warning, "OperationOutcome", "the practice's system did not understand part of the question")
			continue
		}
		c.note(fhir.Incomplete, fhir.Warning, "OperationOutcome", "the practice's system warns that its answer may be incomplete")
	}
}
