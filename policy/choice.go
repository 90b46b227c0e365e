package policy

import (
	"slices"
	"time"

	"tombolo/dataset"
	"tombolo/fhir"
)

// A Choice is what a person has said about who may see what: one Consent, as policy reads it.
// FHIR R4 consent.html; IHE PCF 3:5.8 basic, intermediate and advanced.
type Choice struct {
	ID      string
	Source  string // the system that told of it
	Root    Provision
	ByOther bool      // somebody else made it for the person
	Made    time.Time // zero: not known
}

// answer is what the choice says. What a guardian permitted for a child is no permission of the grown-up's, nor of a young person's who decides for themselves: it
// ends on the 16th birthday. An objection stands until it is taken back.
func (c *Choice) answer(f *Facts) answer {
	a := c.Root.answer(f, true)
	if a == permits && c.ByOther && (f.Person.Capable || f.Person.age(f.At) >= AgeEnds && (c.Made.IsZero() || f.Person.age(c.Made) < AgeEnds)) {
		return nothing
	}
	return a
}

// Choices are all of a person's that are in force or may be.
type Choices []Choice

// A Provision permits or denies what it describes. What an exception does not say itself it has from the provision that it is an exception to.
type Provision struct {
	Permit              bool
	From, Until         time.Time // when it holds; zero: open
	DataFrom, DataUntil time.Time // when the data came to be
	Recipients          []string  // "system|value" or "Type/id"; none: anybody
	Holders             []string  // the organisations whose data it is
	Purposes            []string  // v3-ActReason codes
	Labels              Labels
	Headings            []dataset.Heading
	Types               []string // FHIR resource types, and "system|code" of kinds of documents
	Codes               []string // "system|code"
	Data                []Datum
	Exceptions          []Provision
}

// A Datum names data by resource. FHIR R4 valueset-consent-data-meaning.html
type Datum struct{ Meaning, Ref string }

// An Item is one resource, as far as a decision may depend on it.
type Item struct {
	Labels  Labels
	Ref     fhir.Ref
	Type    string
	Refs    []string // everything it refers to
	Authors []string
	Codes   []string  // "system|code"
	When    fhir.Span // of the event, not of its recording; zero: not known
	Units   *Units    // that made it; nil: the system's organisation
	Linked  Linked    // what belongs to the resources that the person's choices name; nil: only what refers to them
}

// An answer of a choice to a question.
type answer int

const (
	nothing answer = iota // says nothing of it
	permits
	denies
	confines // denies because it permits only something else
	depends  // on which resource, or whose data, it turns out to be
)

// fit is whether a description is of what is asked about.
type fit int

const (
	no fit = iota
	perhaps
	yes
)

func and(a, b fit) fit { return min(a, b) }

func fits(b bool) fit {
	if b {
		return yes
	}
	return no
}

// says is what all of a person's choices together say. A denial outweighs a permission; a permission outweighs being confined to another, as far as the word of
// whoever told of it goes.
func (cs Choices) says(f *Facts) answer {
	var seen [depends + 1]bool
	for i := range cs {
		seen[cs[i].answer(f)] = true
	}
	switch {
	case seen[denies]:
		return denies
	case seen[depends]:
		return depends
	case seen[permits] && seen[confines]:
		return cs.confined(f)
	case seen[permits]:
		return permits
	case seen[confines]:
		return confines
	}
	return nothing
}

// answer of a provision and its exceptions. A permission that is described more narrowly at the root is one for nothing but that
// (IHE PCF: "forbid everything, then permit"); an exception speaks only of what it describes.
func (p *Provision) answer(f *Facts, root bool) answer {
	base := nothing
	if who := p.fitsQuestion(f); who != no {
		what := p.fitsData(f)
		switch {
		case who == perhaps || what == perhaps:
			base = depends
		case what == yes && p.Permit:
			base = permits
		case what == yes:
			base = denies
		case p.Permit && root:
			base = confines
		}
	}
	var seen [depends + 1]bool
	for i := range p.Exceptions {
		seen[p.Exceptions[i].answer(f, false)] = true
	}
	switch {
	case seen[denies]:
		return denies
	case seen[depends]:
		return depends
	case seen[permits]:
		return permits
	}
	return base
}

// fitsQuestion is whether the provision is about who asks, what for, when, and of whom.
func (p *Provision) fitsQuestion(f *Facts) fit {
	if !p.From.IsZero() && f.At.Before(p.From) || !p.Until.IsZero() && !f.At.Before(p.Until) {
		return no
	}
	if len(p.Purposes) > 0 && !f.isFor(p.Purposes) {
		return no
	}
	if len(p.Recipients) > 0 && !slices.ContainsFunc(p.Recipients, f.Subject.isCalled) {
		return no
	}
	if len(p.Holders) > 0 {
		if f.Source == nil {
			return perhaps
		}
		return fits(slices.ContainsFunc(p.Holders, func(h string) bool { return organisationIs(h, f.Source.Organisation, f.Source.Above) }))
	}
	return yes
}

// isCalled reports whether a Consent's actor is the subject: by their own names, or their organisation's or one it is part of.
func (s *Subject) isCalled(actor string) bool {
	return slices.Contains(s.Names, actor) || organisationIs(actor, s.Organisation, s.Above)
}

func organisationIs(actor, ods string, above []string) bool {
	const prefix = fhir.SystemODS + "|"
	return len(actor) > len(prefix) && actor[:len(prefix)] == prefix && isOrPartOf(ods, above, actor[len(prefix):])
}

// isFor reports whether the purpose of the question is among the codes, or is a kind of one of them. HL7 v3-ActReason PurposeOfUse
func (f *Facts) isFor(codes []string) bool {
	for _, c := range codes {
		switch c {
		case f.Purpose.Code(), "PurposeOfUse":
			return true
		case "TREAT":
			if f.Purpose == Emergency || f.Purpose == DirectCare {
				return true
			}
		case "HOPERAT":
			if f.Purpose == Administration || f.Purpose == Planning {
				return true
			}
		case "BTG":
			if f.broken(AccessAlert) {
				return true
			}
		}
	}
	return false
}

// fitsData is whether the provision is about the data.
func (p *Provision) fitsData(f *Facts) fit {
	out := p.fitsClass(f)
	if out == no {
		return no
	}
	if p.Labels == 0 && len(p.Codes)+len(p.Data) == 0 && p.DataFrom.IsZero() && p.DataUntil.IsZero() {
		return out
	}
	if f.Item == nil {
		return perhaps
	}
	return and(out, fits(p.fitsItem(f.Item)))
}

// fitsClass is whether the data are of one of the headings, types or kinds. FHIR R4 Consent.provision.class
func (p *Provision) fitsClass(f *Facts) fit {
	switch {
	case len(p.Headings)+len(p.Types) == 0, slices.Contains(p.Headings, f.Heading) && f.Heading != "":
		return yes
	case len(p.Types) > 0 && f.Item == nil:
		return perhaps
	case len(p.Types) > 0 && (slices.Contains(p.Types, f.Item.Type) || slices.ContainsFunc(f.Item.Codes, func(c string) bool { return slices.Contains(p.Types, c) })):
		return yes
	case len(p.Headings) > 0 && f.Heading == "":
		return perhaps
	}
	return no
}

func (p *Provision) fitsItem(it *Item) bool {
	if p.Labels != 0 && !p.fitsLabels(it.Labels) {
		return false
	}
	if len(p.Codes) > 0 && !slices.ContainsFunc(it.Codes, func(c string) bool { return slices.Contains(p.Codes, c) }) {
		return false
	}
	if len(p.Data) > 0 && !slices.ContainsFunc(p.Data, func(d Datum) bool { return it.is(d) || !p.Permit && it.Linked[d][it.Ref] }) {
		return false
	}
	return p.fitsTime(it.When)
}

// fitsTime is whether the data came to be in the span. What bears no date is not permitted by a span, and is denied by one.
func (p *Provision) fitsTime(when fhir.Span) bool {
	if p.DataFrom.IsZero() && p.DataUntil.IsZero() {
		return true
	}
	if when.Start.IsZero() && when.End.IsZero() {
		return !p.Permit
	}
	span := fhir.Span{Start: p.DataFrom, End: p.DataUntil}
	if p.Permit {
		return span.Contains(when)
	}
	return span.Overlaps(when)
}

// fitsLabels is whether the provision's labels are of the data's. To permit, every sensitivity of the data must be among them; to deny, one
// is enough, and whoever denies what is restricted denies what is more than that.
func (p *Provision) fitsLabels(data Labels) bool {
	conf, sens := data.Confidentiality(), data.sensitive()
	if !p.Permit {
		return p.Labels&conf != 0 || p.Labels&sens != 0 || p.Labels&RestrictedLabel != 0 && conf == VeryRestricted
	}
	if want := p.Labels.sensitive(); want != 0 && sens != 0 && sens&^want == 0 && conf != VeryRestricted {
		return true
	}
	return p.Labels&conf != 0
}

// is reports whether the item is what a Datum names.
func (it *Item) is(d Datum) bool {
	switch d.Meaning {
	case "authoredby":
		return slices.Contains(it.Authors, d.Ref)
	case "instance":
		return string(it.Ref) == d.Ref
	}
	return string(it.Ref) == d.Ref || slices.Contains(it.Refs, d.Ref) // related, dependents
}
