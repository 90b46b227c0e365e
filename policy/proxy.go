package policy

import (
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

// proxyRule is for users who act for somebody else.
func proxyRule(f *Facts, _ *Decision) (string, string, verdict) {
	if f.Subject.Role != Citizen || !slices.Contains(f.Relationships, Proxy) || slices.Contains(f.Relationships, Self) {
		return "", "", silent
	}
	x := f.Person.Proxy
	switch {
	case x == nil || !x.Validated:
		return "proxy", "the relationship has not been validated", refuse
	case f.At.Before(x.From) || !x.Until.IsZero() && !f.At.Before(x.Until):
		return "proxy", "the relationship is not in force", refuse
	case f.Person.Restricted:
		return "proxy", "nobody acts for a person whose whereabouts must not be known", refuse
	case x.Basis != Parental:
		if x.Basis != PersonConsents && x.Basis != Attorney && x.Basis != Deputy {
			return "proxy", "the relationship has no basis that is known", refuse
		}
		return "proxy", "acts for the person: " + string(x.Basis), allow
	}
	age := f.Person.age(f.At)
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
