package policy

import (
	"cmp"
	"slices"
	"time"

	"tombolo/dataset"
)

// A Basis is by what right somebody acts for a person. https://fhir.nhs.uk/England/CodeSystem/England-NHSProxyLegalBasis for the first two.
type Basis string

// The bases.
const (
	Parental       Basis = "parental-responsibility"
	PersonConsents Basis = "personal-consent" // the person, able to decide, wants it so
	Attorney       Basis = "lasting-power-of-attorney"
	Deputy         Basis = "court-appointed-deputy"
)

// A Proxyhood is one person's right to act for another, as a validated relationship (NHS Validated Relationships Service) says it.
type Proxyhood struct {
	Source      string // the system that told of it
	Basis       Basis
	Validated   bool // by the service, a practice, or a court's paper that somebody has seen
	From, Until time.Time
}

// The ages at which a parent's view changes: on the 11th birthday it shrinks, on the 16th it ends.
const (
	AgeShrinks = 11
	AgeEnds    = 16
)

// What a parent still sees of a child of 11 to 15: what they need to bring them to their care.
var shrunk = []dataset.Heading{dataset.Demographics, dataset.GPPractice, dataset.Allergies, dataset.Immunisations, dataset.Appointments}

// age is how old the person is on the day, in whole years; -1 if it is not known. Somebody born on 29 February is a year older on 1 March.
func (p *Person) age(at time.Time) int {
	if p.Born.IsZero() || at.Before(p.Born) {
		return -1
	}
	by, bm, bd := p.Born.Date()
	y, m, d := at.Date()
	age := y - by
	if m < bm || m == bm && d < bd {
		age--
	}
	return age
}

// proxyRule is for users who act for somebody else. Of several relationships that were told of, one that lets them is enough.
func proxyRule(f *Facts, _ *Decision) (string, string, verdict) {
	if f.Subject.Role != Citizen || !slices.Contains(f.Relationships, Proxy) || slices.Contains(f.Relationships, Self) {
		return "", "", silent
	}
	if f.Person.Restricted {
		return "proxy", "nobody acts for a person whose whereabouts must not be known", refuse
	}
	code, text := "proxy", "the relationship has not been validated"
	told := ""
	for i := range f.Person.Proxies {
		x := &f.Person.Proxies[i]
		c, t, v := f.actsAs(x)
		if v == allow {
			return c, t, v
		}
		if told == "" || told == unvouched { // what is wrong with one that counts is told rather than that one does not
			code, text, told = c, t, c
		}
	}
	return code, text, refuse
}

// unvouched is the code of a relationship that was told of by a system whose word does not count for it.
const unvouched = "proxy-source"

// actsAs is what one relationship that was told of lets the user do.
func (f *Facts) actsAs(x *Proxyhood) (string, string, verdict) {
	age := f.Person.age(f.At)
	switch {
	case !f.vouched(x):
		return unvouched, "that they act for the person is told of by " + cmp.Or(x.Source, "nobody who is known") + " alone, whose word does not count for it (policy.proxies of the region file)", refuse
	case !x.Validated:
		return "proxy", "the relationship has not been validated", refuse
	case f.At.Before(x.From) || !x.Until.IsZero() && !f.At.Before(x.Until):
		return "proxy", "the relationship is not in force", refuse
	case x.Basis == Parental:
		return f.parent(age)
	case (x.Basis == PersonConsents || x.Basis == Attorney) && age >= 0 && age < AgeEnds: // Mental Capacity Act 2005 s9(2)(c): an attorney's donor is 18
		return "proxy-age", "nobody acts for a child by the child's own consent or power of attorney", refuse
	case x.Basis == PersonConsents, x.Basis == Attorney, x.Basis == Deputy:
		return "proxy", "acts for the person: " + string(x.Basis), allow
	}
	return "proxy", "the relationship has no basis that is known", refuse
}

// parent is what somebody with parental responsibility may see of a person of an age.
func (f *Facts) parent(age int) (string, string, verdict) {
	switch {
	case age < 0:
		return "proxy-age", "the child's age is not known", refuse
	case age >= AgeEnds:
		return "proxy-age", "a parent's view ends on the 16th birthday", refuse
	case f.Person.Capable:
		return "proxy-age", "the young person decides for themselves", refuse
	case age >= AgeShrinks && f.Heading != "" && !slices.Contains(shrunk, f.Heading):
		return "proxy-age", "a parent's view shrinks on the 11th birthday", refuse
	}
	return "proxy", "a parent, for their child", allow
}
