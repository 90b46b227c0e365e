package nrl

import (
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"tombolo/fhir"
)

// A Pointer is a DocumentReference that has been held to the rules. Make one with Read.
type Pointer struct{ *fhir.Resource }

// Subject is the NHS number of whom it is about.
func (p Pointer) Subject() string { return p.Text("subject.identifier.value") }

// Custodian is the ODS code of who keeps the record.
func (p Pointer) Custodian() string { return p.Text("custodian.identifier.value") }

// Type is its type, system|code.
func (p Pointer) Type() string {
	return p.Text("type.coding.system") + "|" + p.Text("type.coding.code")
}

// Category is its category, system|code.
func (p Pointer) Category() string {
	return p.Text("category.coding.system") + "|" + p.Text("category.coding.code")
}

// A Related is one relatesTo: which pointer, and how.
type Related struct{ Code, ID string }

// Related are the pointers that it names, in order.
func (p Pointer) Related() []Related {
	var out []Related
	for v := range p.Value().All("relatesTo") {
		out = append(out, Related{v.Text("code"), v.Text("target.identifier.value")})
	}
	return out
}

// Settings are what the rules need that is not built in.
type Settings struct {
	// PracticeSettings is the England-PracticeSetting value set, code to display: it is licensed, and read from a file. nil: a code need only be
	// formed like one.
	PracticeSettings map[string]string
}

// MaxBody is the most bytes that a request may have.
const MaxBody = 1 << 20

// Shape reads a pointer as it was sent and holds it to its shape. The Outcome tells of every mistake.
func Shape(body []byte) (Pointer, *Outcome) {
	if len(body) == 0 {
		return Pointer{}, Refusal(http.StatusBadRequest, "invalid", "BAD_REQUEST", "Request body is required")
	}
	if names, paths := duplicates(body); len(names) > 0 {
		for i := range names {
			names[i] = "'" + names[i] + "'"
		}
		return Pointer{}, Refusal(http.StatusBadRequest, "invalid", "MESSAGE_NOT_WELL_FORMED", "Duplicate keys found in FHIR document: ["+strings.Join(names, ", ")+"]", paths...)
	}
	root, err := fhir.ParseValue(body)
	var faults []fault
	switch {
	case err != nil:
		faults = []fault{{"", "Invalid JSON: " + strings.TrimPrefix(fhir.IssueOf(err).Text, "not valid JSON: ")}}
	case !root.IsObject():
		faults = []fault{{"", "Input should be an object"}}
	default:
		if empty := empties(root, ""); len(empty) > 0 {
			faults = []fault{{"", "Value error, The following fields are empty: " + strings.Join(empty, ", ")}}
		} else {
			faults = against(root, "DocumentReference", "")
		}
	}
	if len(faults) > 0 {
		return Pointer{}, malformed("MESSAGE_NOT_WELL_FORMED", "Request body could not be parsed", "", faults)
	}
	r, err := fhir.FromValue(root)
	if err != nil {
		return Pointer{}, malformed("MESSAGE_NOT_WELL_FORMED", "Request body could not be parsed", "", []fault{{"", fhir.IssueOf(err).Text}})
	}
	return Pointer{r}, nil
}

// malformed tells of faults of shape.
func malformed(detail, lead, see string, faults []fault) *Outcome {
	o := &Outcome{Status: http.StatusBadRequest}
	for _, f := range faults {
		at := f.at
		if at == "" {
			at = "DocumentReference"
		}
		o.Issues = append(o.Issues, Issue{"error", "invalid", systemError, detail, lead + " (" + at + ": " + f.what + see + ")", []string{at}})
	}
	return o
}

// A review collects what is wrong with a pointer.
type review struct {
	p    Pointer
	set  Settings
	said Outcome
	bad  *Outcome // of shape, found late: it alone is told
}

func (c *review) err(field, format string, args ...any) {
	c.said.Issues = append(c.said.Issues, Unprocessable(fmt.Sprintf(format, args...), field).Issues...)
}

func (c *review) ok() bool { return len(c.said.Issues) == 0 }

// Check holds a pointer of the right shape to the rules of its content. id is as it will be kept. Rules come in the service's order; nil: all are kept.
//
// NRL producer API, createDocumentReference
func Check(p Pointer, set Settings) *Outcome {
	c := &review{p: p, set: set, said: Outcome{Status: http.StatusUnprocessableEntity}}
	if c.required(); !c.ok() {
		return &c.said
	}
	if c.identifiers() {
		c.relations()
		c.asid()
		c.typed()
		c.categorised()
		c.author()
		c.together()
		c.attachments()
		c.formats()
		c.extensions()
		c.setting()
		c.retrieval()
	}
	switch {
	case c.bad != nil:
		return c.bad
	case !c.ok():
		return &c.said
	}
	// The original answers a number with a wrong check digit by a fault of its own (500); it is the sender's.
	if _, err := ParseNumber(p.Subject()); err != nil {
		return badSubject
	}
	return nil
}

func (c *review) required() {
	for _, f := range []string{"custodian", "id", "type", "status", "subject", "category", "author"} {
		if !c.p.Get(f).Exists() {
			c.err(f, "The required field '%s' is missing", f)
		}
	}
}

func (c *review) identifiers() bool {
	switch {
	case !c.p.Get("custodian.identifier").Exists():
		c.err("custodian.identifier", "Custodian must have an identifier")
		return false
	case !c.p.Get("subject.identifier").Exists():
		c.err("subject.identifier", "Subject must have an identifier")
		return false
	}
	if c.p.Text("custodian.identifier.system") != fhir.SystemODS {
		c.err("custodian.identifier.system", "Provided custodian identifier system is not the ODS system (expected: '%s')", fhir.SystemODS)
	}
	if c.p.Text("subject.identifier.system") != fhir.SystemNHSNumber {
		c.err("subject.identifier.system", "Provided subject identifier system is not the NHS number system (expected '%s')", fhir.SystemNHSNumber)
	}
	return true
}

var relations = []string{"replaces", "transforms", "signs", "appends", "incorporates", "summarizes"}

func (c *review) relations() {
	for i, r := range c.p.Related() {
		switch {
		case !slices.Contains(relations, r.Code):
			c.err(fmt.Sprintf("relatesTo[%d].code", i), "Invalid relatesTo code: %s", r.Code)
		case r.Code == "replaces" && r.ID == "":
			c.err(fmt.Sprintf("relatesTo[%d].target.identifier.value", i), "relatesTo code 'replaces' must have a target identifier")
		}
	}
}

var asidForm = regexp.MustCompile(`^\d{12}$`)

// asid: what is fetched by the Spine's proxy names the system that is asked.
func (c *review) asid() {
	ssp := false
	for v := range c.p.Value().All("content.attachment.url") {
		ssp = ssp || strings.HasPrefix(v.Str(), "ssp://")
	}
	related := c.p.Get("context.related").Exists()
	var at []int
	var values []string
	i := 0
	for v := range c.p.Get("context").Member("related").Children() {
		if v.Text("identifier.system") == fhir.SystemASID {
			at, values = append(at, i), append(values, v.Text("identifier.value"))
		}
		i++
	}
	switch {
	case len(at) > 1:
		c.err("context.related", "Multiple ASID identifiers provided. Only a single valid ASID identifier can be provided in the context.related.")
	case len(at) == 1 && !asidForm.MatchString(values[0]):
		c.err(fmt.Sprintf("context.related[%d].identifier.value", at[0]), "Invalid ASID value '%s'. A single ASID consisting of 12 digits can be provided in the context.related field.", values[0])
	case len(at) == 0 && ssp && !related:
		c.err("context.related", "Missing context.related. It must be provided and contain a single valid ASID identifier when content contains an SSP URL")
	case len(at) == 0 && ssp:
		c.err("context.related", "Missing ASID identifier. context.related must contain a single valid ASID identifier when content contains an SSP URL")
	}
}

func (c *review) typed() {
	system, code := c.p.Text("type.coding.system"), c.p.Text("type.coding.code")
	if system != fhir.SystemSNOMED && system != systemNICIP && system != systemRecord {
		c.err("type.coding[0].system", "Invalid type system: %s Type system must be either '%s', '%s' or '%s'", system, fhir.SystemSNOMED, systemNICIP, systemRecord)
		return
	}
	t, ok := TypeOf(c.p.Type())
	switch {
	case !ok:
		c.err("type.coding[0].code", "Invalid type code: %s Type must be a member of the England-NRLRecordType value set (%s)", code, systemRecord)
	case c.p.Text("type.coding.display") != t.Display:
		c.err("type.coding[0].display", "type code '%s' must have a display value of '%s'", code, t.Display)
	}
}

func (c *review) categorised() {
	n := 0
	for range c.p.Value().Member("category").Children() {
		n++
	}
	if n > 1 {
		c.err("category", "Invalid category length: %d Category must only contain a single value", n)
		return
	}
	system, code := c.p.Text("category.coding.system"), c.p.Text("category.coding.code")
	if system != fhir.SystemSNOMED {
		c.err("category[0].coding[0].system", "Invalid category system: %s Category system must be '%s'", system, fhir.SystemSNOMED)
		return
	}
	cat, ok := CategoryOf(c.p.Category())
	switch {
	case !ok:
		c.err("category[0].coding[0].code", "Invalid category code: %s Category must be a member of the England-NRLRecordCategory value set (https://fhir.nhs.uk/England/CodeSystem/England-NRLRecordCategory)", code)
	case c.p.Text("category.coding.display") != cat.Display:
		c.err("category[0].coding[0].display", "category code '%s' must have a display value of '%s'", code, cat.Display)
	}
}

var alphanumeric = regexp.MustCompile(`^[\pL\pN]+$`)

func (c *review) author() {
	n := 0
	for range c.p.Value().Member("author").Children() {
		n++
	}
	system, value := c.p.Text("author.identifier.system"), c.p.Text("author.identifier.value")
	switch {
	case n > 1:
		c.err("author", "Invalid author length: %d Author must only contain a single value", n)
	case system != fhir.SystemODS:
		c.err("author[0].identifier.system", "Invalid author system: '%s' Author system must be '%s'", system, fhir.SystemODS)
	case !alphanumeric.MatchString(value):
		c.err("author[0].identifier.value", "Invalid author value: '%s' Author value must be alphanumeric", value)
	case len([]rune(value)) > 12:
		c.err("author[0].identifier.value", "Invalid author value: '%s' Author value must be less than 13 characters", value)
	}
}

func (c *review) together() {
	t, known := TypeOf(c.p.Type())
	if _, ok := CategoryOf(c.p.Category()); known && ok && t.Category.ID != c.p.Category() {
		c.err("category.coding[0].code", "The Category code of the provided document '%s' must match the allowed category for pointer type '%s' with a category value of '%s'",
			c.p.Category(), t.ID, t.Category.ID)
	}
}

var contentTypes = []string{"application/pdf", "text/html", "application/json", "application/fhir+json", "application/json+fhir"}

func (c *review) attachments() {
	for i, v := range contents(c.p) {
		if t := v.Text("attachment.contentType"); !slices.Contains(contentTypes, t) {
			c.err(fmt.Sprintf("content[%d].attachment.contentType", i), "Invalid contentType: %s. Must be 'application/pdf', 'text/html' or 'application/fhir+json'", t)
		}
		if code := v.Text("format.code"); v.Text("format.display") != formats[code] {
			c.err(fmt.Sprintf("content[%d].format.display", i), "Invalid display for format code '%s'. Expected '%s'", code, formats[code])
		}
	}
}

func contents(p Pointer) []fhir.Value { return slices.Collect(p.Value().Member("content").Children()) }

func (c *review) formats() {
	for i, v := range contents(c.p) {
		code := v.Text("format.code")
		want, what := "", ""
		switch v.Text("attachment.contentType") {
		case "text/html":
			if code != "urn:nhs-ic:structured" { // as what is launched in context is
				want, what = "urn:nhs-ic:record-contact", "Contact details"
			}
		case "application/pdf":
			want, what = "urn:nhs-ic:unstructured", "Unstructured Document"
		case "application/json", "application/fhir+json", "application/json+fhir":
			want, what = "urn:nhs-ic:structured", "Structured Document"
		}
		if want != "" && code != want {
			c.err(fmt.Sprintf("content[%d].format.code", i), "Invalid content format code: %s format code must be '%s' for %s attachments.", code, want, what)
		}
	}
}

// extensions: one says how stable the content is, and at most one how it is fetched.
func (c *review) extensions() {
	for i, v := range contents(c.p) {
		at := fmt.Sprintf("content[%d].extension", i)
		stable, fetched := 0, 0
		all := slices.Collect(v.Member("extension").Children())
		for _, x := range all {
			switch kindOf(x) {
			case "ContentStability":
				stable++
			case "RetrievalMechanism":
				fetched++
			}
		}
		switch {
		case stable != 1:
			c.err(at, "Invalid content extension: Extension must have one content stability extension, see: ('%s')", setStability)
			return
		case fetched > 1:
			c.err(at, "Invalid content retrieval extension: Extension must have one content retrieval extension, see: ('%s')", setMechanism)
			return
		}
		for j, x := range all {
			if !c.extension(x, fmt.Sprintf("%s[%d]", at, j)) {
				return
			}
		}
	}
}

// kindOf is which of the two an extension means to be, going by any mention of it as the service does.
func kindOf(x fhir.Value) string {
	switch all := strings.ToLower(string(x.Raw())); {
	case strings.Contains(all, "contentstability"):
		return "ContentStability"
	case strings.Contains(all, "retrievalmechanism"):
		return "RetrievalMechanism"
	}
	return ""
}

func (c *review) extension(x fhir.Value, at string) bool {
	kind := kindOf(x)
	if kind == "" {
		return true
	}
	lead, see := "Invalid content stability extension", setStability
	if kind == "RetrievalMechanism" {
		lead, see = "Invalid content retrieval extension", setMechanism
	}
	if faults := against(x, kind, at); len(faults) > 0 {
		c.bad = malformed("BAD_REQUEST", lead, ", see: "+see, faults)
		return false
	}
	code, display := x.Text("valueCodeableConcept.coding.code"), x.Text("valueCodeableConcept.coding.display")
	field := at + ".valueCodeableConcept.coding[0].display"
	switch {
	case kind == "ContentStability" && stabilities[code] != display:
		c.err(field, "Invalid content extension display: %s Extension display must be the same as code either 'Static' or 'Dynamic'", display)
	case kind == "RetrievalMechanism" && mechanismDisplays[Mechanism(code)] != display:
		c.err(field, "Invalid content extension display: %s Expected display is '%s'", display, mechanismDisplays[Mechanism(code)])
	default:
		return true
	}
	return false
}

var snomedForm = regexp.MustCompile(`^[1-9][0-9]{5,17}$`)

func (c *review) setting() {
	const at = "context.practiceSetting.coding[0]"
	system, code, display := c.p.Text("context.practiceSetting.coding.system"), c.p.Text("context.practiceSetting.coding.code"), c.p.Text("context.practiceSetting.coding.display")
	want, known := c.set.PracticeSettings[code]
	if c.set.PracticeSettings == nil {
		want, known = display, snomedForm.MatchString(code)
	}
	switch {
	case system != fhir.SystemSNOMED:
		c.err(at+".system", "Invalid practice setting system: %s Practice Setting system must be '%s'", system, fhir.SystemSNOMED)
	case !known:
		c.err(at+".code", "Invalid practice setting code: %s Practice Setting coding must be a member of value set %s", code, setPractice)
	case display != want:
		c.err(at, "Invalid practice setting coding: display %s does not match the expected display for %s Practice Setting coding is bound to value set %s", display, code, setPractice)
	}
}

// retrieval holds the address of each content to what the specification demands and the service lets pass: nothing that tells whose it is, and the
// proxy's own scheme where the proxy is to fetch it.
//
// NRL producer API, Spine Secure Proxy: "Providers MUST NOT include any patient-identifiable data"
func (c *review) retrieval() {
	for i, v := range contents(c.p) {
		at, address := fmt.Sprintf("content[%d].attachment.url", i), v.Text("attachment.url")
		if NamesSomebody(address, c.p.Subject()) {
			c.err(at, "The url of an attachment must not hold an NHS number or anything else that tells who the patient is")
		}
		switch m := mechanismOf(v); {
		case m == SSP && !strings.HasPrefix(address, "ssp://"):
			c.err(at, "Content that is retrieved by the Spine Secure Proxy must have a url that begins with 'ssp://'")
		case m != SSP && m != "" && strings.HasPrefix(address, "ssp://"):
			c.err(at, "A url that begins with 'ssp://' is retrieved by the Spine Secure Proxy, and not by '%s'", m)
		}
	}
}

// Mechanism is how a pointer's content is fetched; "" where it does not say.
func (p Pointer) Mechanism() Mechanism { return mechanismOf(p.Get("content")) }

func mechanismOf(content fhir.Value) Mechanism {
	for x := range content.All("extension") {
		if x.Text("url") == urlMechanism {
			return Mechanism(x.Text("valueCodeableConcept.coding.code"))
		}
	}
	return ""
}

var tenDigits = regexp.MustCompile(`[0-9](?:[-+_. ]?[0-9]){9}`)

// NamesSomebody reports whether an address holds an NHS number: the subject's own in any place, however its digits are parted or escaped, or ten digits by
// themselves that have a check digit.
func NamesSomebody(address, nhs string) bool {
	if plain, err := url.PathUnescape(address); err == nil {
		address = plain
	}
	if nhs != "" && strings.Contains(parted.Replace(address), nhs) {
		return true
	}
	for _, at := range tenDigits.FindAllStringIndex(address, -1) {
		alone := (at[0] == 0 || !isDigit(address[at[0]-1])) && (at[1] == len(address) || !isDigit(address[at[1]]))
		if _, err := fhir.ParseNHSNumber(parted.Replace(address[at[0]:at[1]])); err == nil && alone {
			return true
		}
	}
	return false
}

// parted takes away what people put between the parts of a number.
var parted = strings.NewReplacer("-", "", " ", "", "+", "", "_", "", ".", "")

func isDigit(b byte) bool { return b >= '0' && b <= '9' }
