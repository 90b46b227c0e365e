package gpconnect

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"strings"

	"tombolo/dataset"
	"tombolo/fhir"
)

// Map is the name and version of the conversion below. Change the version when the same input gives another output.
const Map = "gpconnect-stu3-r4/2"

// A Converted is what a GP Connect bundle becomes, and the account of it: every resource that came in is in Patient, Content or
// Sections, or an Issue says why not.
type Converted struct {
	Patient  *fhir.Resource
	Content  []*fhir.Resource // R4 UK Core, by type and id whatever the order they came in
	Sections []Section        // what each query of the source returned: the lists that GP Connect answers with
	Issues   []*fhir.Issue    // what was not carried over, each kind of place once, with how often
	Lacks    []*fhir.Issue    // why what came out is not valid R4 or UK Core where it is not: what they demand and was not sent, each kind once
	In, Out  map[string]int   // resources by type: STU3 types in, R4 types out (the patient and the lists of sections among them)
	Bytes    int64            // of what was read
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
	Missing   int             // entries that the list names and the bundle does not contain
	Entries   []fhir.Ref
	List      *fhir.Resource // the R4 List itself
}

// Convert makes R4 UK Core of a GP Connect Access Record Structured bundle (STU3, CareConnect-GPC profiles). It is pure: the same
// bundle gives the same bytes, in whatever order its entries stand. It refuses what is no such bundle, has no patient, or has more
// than one; anything less is converted with an account of what was not. Read does the same while a bundle arrives.
//
// GP Connect 1.6 accessrecord_structured_development_bundle.html
func Convert(bundle fhir.Value) (*Converted, error) { return convertValue(bundle, false) }

// convertAny is Convert for answers that are about no single person, such as free slots, or that leave the person out, as appointments do.
func convertAny(bundle fhir.Value) (*Converted, error) { return convertValue(bundle, true) }

func convertValue(bundle fhir.Value, anybody bool) (*Converted, error) {
	if !bundle.IsObject() || bundle.Text("resourceType") != "Bundle" {
		return nil, notABundle()
	}
	c := newConverter(anybody)
	for e := range bundle.All("entry") {
		if err := c.take(e); err != nil {
			return nil, err
		}
	}
	return c.finish(int64(len(bundle.Raw())))
}

func notABundle() *fhir.Issue {
	return fhir.Errorf(fhir.Structure, "not a FHIR Bundle: a GP Connect structured record is a Bundle of type collection").At("Bundle")
}

// maxEntries is what one record may have. The largest that general practice knows have some tens of thousands; a bundle of a million
// empty resources would cost many times its size.
const maxEntries = 100_000

// An entry is one resource of the bundle on its way to R4. It is converted as soon as it is met and its STU3 is let go: here is what only the
// whole bundle can settle.
type entry struct {
	at       int    // index in Bundle.entry
	from     string // STU3 type
	typ      string // R4 type
	id       string // id it will have
	full     string // fullUrl
	sum      fingerprint
	subjects []string // whom it says it is about: references
	numbers  []string // and NHS numbers

	out      []byte // the R4 resource as far as it can be written before the rest is known: references as they come, without our own tags
	idEnd    int    // where its id ends in out
	tagsAt   int    // where in out tags can be added to meta, 0 if there is no meta
	tagged   bool   // there are tags already
	loose    bool   // a reference in out may turn out to mean something else
	heading  dataset.Heading
	unclear  bool     // it carries what may change its meaning
	quality  string   // the mark that its own codes earn
	medicine string   // reference to the Medication whose codes say what it is
	parts    []string // references to what it consists of: entries of a list, results of a report, members of a group
	where    string   // the element in which they stand
	section  *Section
	notes    []noted

	drop, seen, renamed bool
}

// A fingerprint tells the same again from another of the same name.
type fingerprint [16]byte

func fingerprintOf(raw []byte) fingerprint {
	sum := sha256.Sum256(raw)
	return fingerprint(sum[:16])
}

func (e *entry) ref() string { return e.typ + "/" + e.id }

// A converter takes the resources of a bundle one by one and settles at the end what depends on others: which reference means which
// resource, which observations are results, what was sent twice, and whom it is all about.
type converter struct {
	anybody bool // there need be no patient
	in      map[string]int
	n       int // entries met
	at      int // the one being looked at
	entries []*entry

	report report
	short  map[string]int // lacks, and how often
	within map[string]int // contained resources that came out, by R4 type

	// while one resource is converted
	out       []byte
	spare     []byte // memory for out
	cur       *entry
	path      []string
	contained int               // how deep in contained resources the writing is
	locals    map[string]string // "#28" -> "AllergyIntolerance/ended-28"
	subject   string            // whom the one before was about

	// when all are there
	byRef   map[string]int    // R4 reference -> index of its entry
	others  map[string]string // another name by which an entry is referred to -> its R4 reference
	loose   bool              // any reference may turn out to mean something else
	patient string            // R4 reference of the patient
	nhs     string            // the patient's NHS number, if it is a valid one
}

func newConverter(anybody bool) *converter {
	return &converter{anybody: anybody, in: map[string]int{}, short: map[string]int{}, within: map[string]int{}, report: newReport()}
}

// take converts the resource of one item of Bundle.entry.
func (c *converter) take(e fhir.Value) error {
	at := c.n
	if c.n++; c.n > maxEntries {
		return fhir.Errorf(fhir.TooCostly, "the bundle has more than %d entries, and no person's record has as many", maxEntries).At("Bundle.entry")
	}
	c.at = at
	r := e.Member("resource")
	if !r.Exists() && e.Member("resourceType").Exists() {
		// Seen in the specification's own examples: a resource that stands where its entry should.
		r = e
		c.say(fhir.Structure, fhir.Information, "Bundle.entry", "a resource stood without its entry and was read all the same")
	}
	typ := r.Member("resourceType").Str()
	if !r.IsObject() || typ == "" {
		c.say(fhir.Structure, fhir.SevError, "Bundle.entry", "an entry holds no resource")
		return nil
	}
	if len(c.in) < mostTypes || c.in[typ] > 0 { // more than there are, from somebody who makes them up
		c.in[typ]++
	} else {
		c.in["…"]++
	}
	shape, known := shapes[typ]
	switch {
	case typ == "OperationOutcome":
		c.outcome(r)
		return nil
	case !known:
		c.say(fhir.NotSupported, fhir.Warning, short(typ), "this type of resource is not part of a GP Connect structured record and was not converted; see the source")
		return nil
	}
	en := &entry{at: at, from: typ, typ: shape.to, full: e.Member("fullUrl").Str()}
	en.id = c.settleID(typ, r.Member("id"), r)
	if c.locals = nil; typ == "List" {
		if err := c.takeContained(r, at); err != nil {
			return err
		}
	}
	c.convert(en, r)
	return nil
}

const mostTypes = 300

// takeContained lifts the allergies that GP Connect keeps contained in the list of ended allergies out of it, so that they can be
// shown, labelled and reconciled like any other. Their ids are local to the list and are marked as such.
//
// GP Connect 1.6 accessrecord_structured_development_allergies_guidance.html
func (c *converter) takeContained(list fhir.Value, at int) error {
	var locals map[string]string
	for r := range list.All("contained") {
		if r.Text("resourceType") != "AllergyIntolerance" {
			continue
		}
		if len(c.entries) > 2*maxEntries {
			return fhir.Errorf(fhir.TooCostly, "the bundle's lists contain more resources than any record has").At("List.contained")
		}
		c.in["AllergyIntolerance"]++
		e := &entry{at: at, from: "AllergyIntolerance", typ: "AllergyIntolerance"}
		if local := r.Member("id").Str(); local == "" {
			e.id = madeID("ended", r.Raw())
		} else {
			e.id = validID("ended-" + local)
			e.full = "AllergyIntolerance/" + local // by which other entries may mean it
			if locals == nil {
				locals = map[string]string{}
			}
			locals["#"+local] = e.ref()
		}
		c.convert(e, r)
	}
	c.locals = locals
	return nil
}

// convert writes one resource as far as it can be written by itself, and keeps what there is to settle about it.
func (c *converter) convert(e *entry, r fhir.Value) {
	f := shapes[e.from]
	e.sum = fingerprintOf(r.Raw())
	c.cur = e
	c.whom(r)
	c.classify(r)
	if e.from == "List" {
		e.section = sectionIn(r)
	}
	c.path = append(c.path[:0], e.from)
	c.out = c.spare[:0]
	c.resource(r, f, e.id)
	e.out = bytes.Clone(c.out)
	c.spare, c.out = c.out, nil
	e.notes = c.report.noted()
	c.entries = append(c.entries, e)
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
			c.say(fhir.Required, fhir.Information, typ+".id", "the resource has no id; one was made from its content")
		}
		return madeID("made", r.Raw())
	}
	if !fhir.ValidID(s) {
		c.say(fhir.ValueError, fhir.Information, typ+".id", "the id is not of the form that FHIR allows; it was rewritten")
	}
	return targetID(typ, s)
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

func madeID(prefix string, raw []byte) string { return fingerprintOf(raw).id(prefix) }

func (f fingerprint) id(prefix string) string { return prefix + "-" + hex.EncodeToString(f[:12]) }

// whom notes whom a resource says it is about, for checkSubjects.
func (c *converter) whom(r fhir.Value) {
	e := c.cur
	if e.from == "Patient" {
		for id := range r.All("identifier") {
			if n := nhsIn(id); n != "" {
				e.numbers = []string{n}
			}
		}
		return
	}
	const most = 8 // nobody is about as many
	for _, name := range [...]string{"subject", "patient"} {
		for one := range r.All(name) {
			if ref := one.Member("reference").Str(); ref != "" && ref[0] != '#' && refLike(ref) && len(e.subjects) < most {
				if ref = c.plain(ref); ref == c.subject {
					ref = c.subject // nearly always, and kept once
				}
				c.subject = ref
				e.subjects = append(e.subjects, ref)
			}
			if n := nhsIn(one.Member("identifier")); n != "" && len(e.numbers) < most {
				e.numbers = append(e.numbers, n)
			}
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
