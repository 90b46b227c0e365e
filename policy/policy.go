// Package policy decides: may this user, for this purpose, see this heading of this source about this person? It is one pure
// function of facts, without clock, store or network, so that a decision can be repeated, explained and simulated.
//
// The facts are gathered by access and gather *before* any record is touched (design law 4). The same function is asked three
// times with ever more facts: may the record be opened at all (no Source), may a source be asked for a heading (Source and
// Heading), may this resource be shown (Labels too).
package policy

import (
	"slices"
	"time"

	"tombolo/dataset"
	"tombolo/region"
)

// Version names the rules below; it goes into every audit entry. Change it when a rule changes.
const Version = "2026-11-22/2"

// A Purpose for which a record is opened.
type Purpose string

// The purposes, with their HL7 v3-PurposeOfUse code in Code.
const (
	DirectCare     Purpose = "direct-care"
	Emergency      Purpose = "emergency"
	Safeguarding   Purpose = "safeguarding"
	Administration Purpose = "administration"
	PatientRequest Purpose = "patient-request"
	Research       Purpose = "research"
	Planning       Purpose = "planning"
)

var purposeCodes = map[Purpose]string{
	DirectCare: "TREAT", Emergency: "ETREAT", Safeguarding: "SAFETY", Administration: "PATADMIN",
	PatientRequest: "PATRQT", Research: "HRESCH", Planning: "HSYSADMIN",
}

// Code is the purpose's HL7 v3-PurposeOfUse code.
func (p Purpose) Code() string { return purposeCodes[p] }

// ParsePurpose reads a purpose by its name or its v3-PurposeOfUse code.
func ParsePurpose(s string) (Purpose, bool) {
	for p, code := range purposeCodes {
		if s == string(p) || s == code {
			return p, true
		}
	}
	return "", false
}

// A Relationship that makes it legitimate to open somebody's record.
type Relationship string

// The relationships.
const (
	RegisteredPractice Relationship = "registered-practice" // the user's organisation is the person's GP practice
	KnownHere          Relationship = "known-here"          // the user's organisation holds a record of the person
	SelfClaimed        Relationship = "self-claimed"        // the user says so, and will be asked about it
	Self               Relationship = "self"                // the person themselves
	Identifying        Relationship = "identifying"         // none yet: a system asks who somebody is, so that one can be known
)

// A Subject is who asks.
type Subject struct {
	Role         Role
	Organisation string // ODS code
	System       string // the system in the region file that a Role that Keeps acts for; else ""
}

// A Person is what policy must know of whose record it is. It is known from the identity index, not from any record.
type Person struct {
	Objects    bool // objects to their record being shared
	Restricted bool // where they live and are seen must not be shown (PDS meta.security R)
}

// A Source is a system, seen as something that may or may not be asked.
type Source struct {
	System       string
	Organisation string
	Release      region.Release
	Gives        map[dataset.Heading]region.Way
}

// Facts are all that a decision rests on.
type Facts struct {
	Subject       Subject
	Purpose       Purpose
	Person        Person
	Relationships []Relationship
	BreakGlass    string          // the reason given for opening the record in an emergency, "" if it was not
	Source        *Source         // nil: the question is whether the record may be opened at all
	Heading       dataset.Heading // "" with a Source: whether the source may be asked anything
	Labels        []string        // confidentiality and handling codes of one resource, once it is in hand
	Agreements    []region.Agreement
	At            time.Time
}

// An Obligation is what must be done if a permit is used.
type Obligation string

// The obligations.
const (
	WithholdLocation Obligation = "withhold-location" // address, telephone, practice and sites
	AlertPrivacy     Obligation = "alert-privacy"     // tell the privacy officer at once
	RecordSelfClaim  Obligation = "record-self-claim" // the audit entry says that the relationship is claimed
)

// A Reason is one rule that spoke, by a code that does not change and in words.
type Reason struct{ Code, Text string }

// A Decision is the answer. The zero Decision is a refusal.
type Decision struct {
	Permit      bool
	Reasons     []Reason // of a permit: what allowed it; of a refusal: every rule that refused
	Obligations []Obligation
	Version     string
	// Agreement is the id of the agreement that allowed another organisation's data, "" if none was needed.
	Agreement string
}

// Has reports whether the decision carries the obligation.
func (d Decision) Has(o Obligation) bool { return slices.Contains(d.Obligations, o) }

// Decide answers from the facts alone. Every rule that refuses is named; none refusing is a permit. Refusals by law or by the
// person's agreement cannot be overridden by any flag; only an objection gives way to an emergency.
func Decide(f Facts) Decision {
	d := Decision{Version: Version}
	var refused []Reason
	for _, rule := range rules {
		switch code, text, verdict := rule(&f, &d); verdict {
		case refuse:
			refused = append(refused, Reason{code, text})
		case allow:
			d.Reasons = append(d.Reasons, Reason{code, text})
		}
	}
	if len(refused) > 0 {
		return Decision{Version: Version, Reasons: refused}
	}
	if f.Person.Restricted && !slices.Contains(f.Relationships, Self) {
		d.Obligations = append(d.Obligations, WithholdLocation)
	}
	d.Permit = true
	return d
}

type verdict int

const (
	silent verdict = iota
	allow
	refuse
)

// A rule reads the facts and may add obligations to d.
type rule func(f *Facts, d *Decision) (code, text string, v verdict)

// The rules, in the order in which their reasons are given.
var rules = []rule{purposeRule, relationshipRule, objectionRule, headingRule, releaseRule, agreementRule, labelRule}

func purposeRule(f *Facts, _ *Decision) (string, string, verdict) {
	r, ok := roles[f.Subject.Role]
	if !ok || !r.Opens {
		return "role", "this role opens no records", refuse
	}
	if !slices.Contains(r.Purposes, f.Purpose) {
		return "purpose", "this role may not open records for this purpose", refuse
	}
	return "", "", silent
}

// A record is opened by somebody who cares for the person. A clinician may claim a relationship that no system knows of
// (the person has just walked in) and is held to it; administrative staff may not.
func relationshipRule(f *Facts, d *Decision) (string, string, verdict) {
	has := func(r Relationship) bool { return slices.Contains(f.Relationships, r) }
	role := roles[f.Subject.Role]
	switch {
	case f.Subject.Role == Citizen:
		if has(Self) {
			return "self", "it is their own record", allow
		}
		return "relationship", "a citizen opens their own record only", refuse
	case has(RegisteredPractice):
		return "registered-practice", "registered with the user's practice", allow
	case has(KnownHere):
		return "known-here", "known to the user's organisation", allow
	case has(Identifying) && f.Purpose == Administration && f.Source != nil && f.Heading == dataset.Demographics:
		return "identifying", "who somebody is, and nothing else, may be asked before a relationship is known", allow
	case role.Clinical && (has(SelfClaimed) || f.BreakGlass != ""):
		d.Obligations = append(d.Obligations, RecordSelfClaim)
		return "self-claimed", "the user says that the person is in their care", allow
	}
	return "relationship", "no relationship of care is known", refuse
}

func objectionRule(f *Facts, d *Decision) (string, string, verdict) {
	if !f.Person.Objects || f.Subject.Role == Citizen {
		return "", "", silent
	}
	if f.BreakGlass != "" && f.Purpose == Emergency && roles[f.Subject.Role].BreaksGlass {
		d.Obligations = append(d.Obligations, AlertPrivacy)
		return "break-glass", "opened in an emergency against an objection", allow
	}
	return "objection", "the person objects to their record being shared", refuse
}

func headingRule(f *Facts, _ *Decision) (string, string, verdict) {
	if f.Heading == "" {
		return "", "", silent
	}
	if !roles[f.Subject.Role].sees(f.Heading) {
		return "role-heading", "this role does not see this heading", refuse
	}
	return "", "", silent
}

// A system's data is switched on in stages, so that its safety is looked at before everybody relies on it.
func releaseRule(f *Facts, _ *Decision) (string, string, verdict) {
	if f.Source == nil {
		return "", "", silent
	}
	r := f.Source.Release
	switch {
	case r.Off:
		return "release", "this system's data is not switched on", refuse
	case r.All, r.Testers && roles[f.Subject.Role].Tester, slices.Contains(r.ODS, f.Subject.Organisation):
		return "", "", silent
	}
	return "release", "this system's data is not yet switched on for this user", refuse
}

func agreementRule(f *Facts, d *Decision) (string, string, verdict) {
	if f.Source == nil {
		return "", "", silent
	}
	if f.Subject.Role == Citizen {
		return "own-data", "people see what is held about them", allow
	}
	if f.Source.Organisation == f.Subject.Organisation {
		return "own-organisation", "the user's own organisation holds it", allow
	}
	for _, a := range f.Agreements {
		if !slices.Contains(a.Parties, f.Subject.Organisation) || !slices.Contains(a.Parties, f.Source.Organisation) {
			continue
		}
		if f.At.Before(a.From) || (!a.Until.IsZero() && !f.At.Before(a.Until)) {
			continue
		}
		if !covers(a.Purposes, f.Purpose) {
			continue
		}
		if f.Heading == "" || a.AllHeadings || slices.Contains(a.Headings, f.Heading) {
			d.Agreement = a.ID
			return "agreement", "shared under agreement " + a.ID, allow
		}
	}
	return "agreement", "no agreement in force covers this", refuse
}

// covers reports whether an agreement's purposes include p. Agreements for direct care cover its emergency form and
// the administration of that care (bookings), which is how such agreements are written.
func covers(purposes []string, p Purpose) bool {
	if slices.Contains(purposes, string(p)) {
		return true
	}
	return (p == Emergency || p == Administration) && slices.Contains(purposes, string(DirectCare))
}

// Labels on a single resource. FHIR R4 security-labels.html; NOPAT as GP Connect uses it.
func labelRule(f *Facts, _ *Decision) (string, string, verdict) {
	role := roles[f.Subject.Role]
	for _, l := range f.Labels {
		switch l {
		case "V":
			return "label", "marked very restricted by its source", refuse
		case "R":
			if !role.Clinical && f.Subject.Role != Citizen {
				return "label", "marked restricted by its source", refuse
			}
		case "NOPAT":
			if f.Subject.Role == Citizen {
				return "label", "marked by its source as not to be shown to the person", refuse
			}
		}
	}
	return "", "", silent
}
