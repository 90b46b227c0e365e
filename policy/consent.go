package policy

import (
	"slices"
	"strings"
	"time"

	"tombolo/dataset"
	"tombolo/fhir"
)

// SystemChoice is this program's own code system for Consents that record a choice which is not about sharing in a shared care record.
// These stay separate: none of them stands for another.
const SystemChoice = "https://tombolo.dev/CodeSystem/choice"

// The codes of SystemChoice, in Consent.category. provision.type deny means that the person has refused what the code names.
const (
	chosenPDS     = "pds-consent" // PDS NCRS consent to detailed sharing
	chosenSCR     = "scr"         // permission for the Summary Care Record
	chosenTypeOne = "type-1"      // data leaving the practice for secondary use
	chosenCapable = "capable"     // permit: the young person has been assessed as deciding for themselves
)

const (
	systemProxyBasis = "https://fhir.nhs.uk/England/CodeSystem/England-NHSProxyLegalBasis"
	maxNesting       = 8 // of exceptions to exceptions: far above any choice that a person could explain
)

// Standing is what Consents say of a person, before anybody asks.
type Standing struct {
	Person
	// Acting are those who are said to act for the person, by "system|value" of who they are. Whose word counts is decided with the rest.
	Acting map[string][]Proxyhood
}

// Take reads one Consent, of the system that told of it, into what is known. One that is not active says nothing; one that cannot be read is taken for an objection to
// sharing, since it may have been one: an emergency opens it like any other. FHIR R4 consent.html
func (s *Standing) Take(source string, r *fhir.Resource) {
	if r.Type() != "Consent" || r.Text("status") != "active" {
		return
	}
	if scopes := texts(r.Value(), "scope.coding.code"); !slices.Contains(scopes, "patient-privacy") && !slices.Contains(scopes, "research") {
		return
	}
	root, err := readProvision(r.Value().Member("provision"), Provision{}, 0)
	if err != nil || r.Get("modifierExtension").Exists() || r.Get("implicitRules").Exists() { // FHIR R4 extensibility.html#modifierExtension
		s.Choices = append(s.Choices, Choice{ID: r.ID(), Source: source})
		return
	}
	for c := range r.Value().All("category.coding") {
		if c.Text("system") != SystemChoice {
			continue
		}
		refused := !root.Permit
		switch c.Text("code") {
		case chosenPDS:
			s.Dissent = s.Dissent || refused
		case chosenSCR:
			s.NoSCR = s.NoSCR || refused
		case chosenTypeOne:
			s.TypeOne = s.TypeOne || refused
		case chosenCapable:
			s.Capable = s.Capable || !refused
		default:
			continue
		}
		return
	}
	if s.takeProxy(source, r, root) || !r.Get("provision").Exists() {
		return
	}
	s.Choices = append(s.Choices, Choice{ID: r.ID(), Source: source, Root: root, ByOther: byOther(r), Made: madeAt(r)})
}

// byOther reports whether somebody else than the person gave the consent: a guardian, an attorney.
func byOther(r *fhir.Resource) bool {
	patient, others := nameOf(r.Get("patient")), false
	for p := range r.Value().All("performer") {
		if nameOf(p) == patient {
			return false
		}
		others = true
	}
	return others
}

// madeAt is when a consent was given at the earliest; zero if it does not say.
func madeAt(r *fhir.Resource) time.Time {
	span, err := fhir.ParseDate(r.Text("dateTime"))
	if err != nil {
		return time.Time{}
	}
	return span.Start
}

// grantee is the extension by which the service names who acts, in whatever version it is written.
const grantee = "/StructureDefinition/extension-Consent.grantee"

// takeProxy reads a Consent by which somebody acts for the person, and reports whether it is one. It says nothing of anybody else: one whose basis is not known, or which was not
// verified, lets nobody act and keeps nobody from the record. One that denies is a choice like any other: somebody shall not act. NHS Validated Relationships Service, Consent
func (s *Standing) takeProxy(source string, r *fhir.Resource, root Provision) bool {
	if !root.Permit && r.Get("provision.type").Exists() {
		return false
	}
	found, verified := false, true
	for e := range r.Value().All("extension") {
		found = found || strings.HasSuffix(e.Text("url"), grantee)
	}
	for v := range r.Value().All("verification") {
		verified = verified && v.Text("verified") != "false"
	}
	for a := range r.Value().Member("provision").All("actor") {
		var basis Basis
		for c := range a.All("role.coding") {
			if c.Text("system") == systemProxyBasis {
				basis = Basis(c.Text("code"))
			}
		}
		if basis == "" {
			continue
		}
		found = true
		if who := nameOf(a.Member("reference")); root.Permit && who != "" {
			if s.Acting == nil {
				s.Acting = map[string][]Proxyhood{}
			}
			s.Acting[who] = append(s.Acting[who], Proxyhood{Source: source, Basis: basis, Validated: verified, From: root.From, Until: root.Until})
		}
	}
	return found
}

// nameOf is how actors are compared: by identifier, else by reference.
func nameOf(ref fhir.Value) string {
	if id := ref.Member("identifier"); id.Text("value") != "" {
		c := fhir.Identifier{System: id.Text("system"), Value: id.Text("value")}.Canonical()
		return c.System + "|" + c.Value
	}
	return ref.Text("reference")
}

func readProvision(v fhir.Value, above Provision, depth int) (p Provision, err error) {
	if !v.Exists() {
		return p, nil
	}
	if depth > maxNesting {
		return p, fhir.Errorf(fhir.TooCostly, "exceptions to exceptions more than %d deep", maxNesting).At("provision")
	}
	if v.Member("modifierExtension").Exists() {
		return p, fhir.Errorf(fhir.NotSupported, "a modifier extension of a provision is not understood").At("provision.modifierExtension")
	}
	p = above
	p.Exceptions = nil
	switch v.Text("type") {
	case "permit":
		p.Permit = true
	case "deny":
		p.Permit = false
	default:
		return p, fhir.Errorf(fhir.CodeInvalid, "a provision permits or denies").At("provision.type")
	}
	if err := p.readTimes(v); err != nil {
		return p, err
	}
	if err := p.readActors(v); err != nil {
		return p, err
	}
	if err := p.readWhat(v); err != nil {
		return p, err
	}
	for n := range v.All("provision") {
		inner, err := readProvision(n, p, depth+1)
		if err != nil {
			return p, err
		}
		p.Exceptions = append(p.Exceptions, inner)
	}
	return p, nil
}

func (p *Provision) readTimes(v fhir.Value) error {
	for _, t := range []struct {
		name        string
		from, until *time.Time
	}{{"period", &p.From, &p.Until}, {"dataPeriod", &p.DataFrom, &p.DataUntil}} {
		period := v.Member(t.name)
		if !period.Exists() {
			continue
		}
		*t.from, *t.until = time.Time{}, time.Time{}
		if s := period.Text("start"); s != "" {
			span, err := fhir.ParseDate(s)
			if err != nil {
				return err
			}
			*t.from = span.Start
		}
		if s := period.Text("end"); s != "" { // inclusive, to the precision it has. FHIR R4 datatypes.html#Period
			span, err := fhir.ParseDate(s)
			if err != nil {
				return err
			}
			*t.until = span.End
		}
	}
	return nil
}

// holderRoles are the roles of custodians and authors: who holds the data.
var holderRoles = []string{"CST", "CUST", "custodian", "AUT", "author"}

// readActors parts those who may receive from those whose data it is, by the role that the Consent gives them.
func (p *Provision) readActors(v fhir.Value) error {
	var recipients, holders []string
	for a := range v.All("actor") {
		name := nameOf(a.Member("reference"))
		if name == "" {
			return fhir.Errorf(fhir.Required, "an actor is named by identifier or reference").At("provision.actor.reference")
		}
		if slices.ContainsFunc(texts(a, "role.coding.code"), func(c string) bool { return slices.Contains(holderRoles, c) }) {
			holders = append(holders, name)
		} else { // IRCP, information recipient, and anything else: who asks
			recipients = append(recipients, name)
		}
	}
	if recipients != nil {
		p.Recipients = recipients
	}
	if holders != nil {
		p.Holders = holders
	}
	return nil
}

func (p *Provision) readWhat(v fhir.Value) error {
	if purposes := texts(v, "purpose.code"); purposes != nil {
		p.Purposes = purposes
	}
	if v.Member("securityLabel").Exists() {
		p.Labels = 0
		for l := range v.All("securityLabel") {
			p.Labels |= Label(l.Text("system"), l.Text("code"))
		}
	}
	if v.Member("class").Exists() {
		p.Headings, p.Types = nil, nil
		for c := range v.All("class") {
			switch system, code := c.Text("system"), c.Text("code"); {
			case system == fhir.SystemHeading && dataset.Heading(code).Valid():
				p.Headings = append(p.Headings, dataset.Heading(code))
			case system != fhir.SystemHeading && fhir.IsType(code):
				p.Types = append(p.Types, code)
			case system == fhir.SystemLOINC, system == fhir.SystemSNOMED: // a kind of document
				p.Types = append(p.Types, system+"|"+code)
			default: // a profile, a media type, a heading that there is not: what it leaves out cannot be told
				return fhir.Errorf(fhir.CodeInvalid, "a class of data is a FHIR type, a heading, or a LOINC or SNOMED CT code").At("provision.class")
			}
		}
	}
	if v.Member("code").Exists() {
		p.Codes = nil
		for c := range v.All("code.coding") {
			p.Codes = append(p.Codes, c.Text("system")+"|"+c.Text("code"))
		}
	}
	if v.Member("data").Exists() {
		p.Data = nil
		for d := range v.All("data") {
			p.Data = append(p.Data, Datum{d.Text("meaning"), nameOf(d.Member("reference"))})
		}
	}
	return nil
}

func texts(v fhir.Value, path string) []string {
	var out []string
	for x := range v.All(path) {
		out = append(out, x.Str())
	}
	return out
}

// ItemOf reads from a resource what choices may depend on. labels are those computed for it.
func ItemOf(r *fhir.Resource, labels Labels) *Item {
	it := &Item{Labels: labels, Ref: r.Ref(), Type: r.Type()}
	if span, err := fhir.ParseDate(dataset.When(r)); err == nil {
		it.When = span
	}
	for _, path := range []string{"code.coding", "category.coding", "vaccineCode.coding", "medicationCodeableConcept.coding", "type.coding"} {
		for c := range r.Value().All(path) {
			it.Codes = append(it.Codes, c.Text("system")+"|"+c.Text("code"))
		}
	}
	for _, path := range []string{"author", "performer", "performer.actor", "recorder", "asserter", "requester", "informationSource", "participant.individual"} {
		for a := range r.Value().All(path) {
			if name := nameOf(a); name != "" {
				it.Authors = append(it.Authors, name)
			}
		}
	}
	eachReference(r.Value(), func(ref string) { it.Refs = append(it.Refs, ref) })
	slices.Sort(it.Refs)
	it.Refs = slices.Compact(it.Refs)
	return it
}

// eachReference visits the references within a value, those to people and places included.
func eachReference(v fhir.Value, visit func(string)) {
	for c := range v.Children() {
		if c.Key() == "reference" && c.IsString() {
			if ref := c.Str(); strings.Contains(ref, "/") {
				visit(ref)
			}
			continue
		}
		eachReference(c, visit)
	}
}
