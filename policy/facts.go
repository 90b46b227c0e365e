package policy

import (
	"time"

	"tombolo/dataset"
	"tombolo/region"
)

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

// purposeWords are the purposes as people read them.
var purposeWords = map[Purpose]string{DirectCare: "direct care", Emergency: "emergencies", Safeguarding: "safeguarding", Administration: "administration of care",
	PatientRequest: "the person's own reading", Research: "research", Planning: "planning"}

// Words are the purpose as people read it.
func (p Purpose) Words() string {
	if w := purposeWords[p]; w != "" {
		return w
	}
	return string(p)
}

// Secondary reports whether the purpose is other than somebody's own care: the National Data Opt-Out is for these, and only these.
func (p Purpose) Secondary() bool { return p == Research || p == Planning }

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
	OpenEncounter      Relationship = "open-encounter"      // the person is with the user's organisation now
	OpenReferral       Relationship = "open-referral"       // the person has been referred to it
	OpenAppointment    Relationship = "open-appointment"    // the person is to be seen there
	CareTeam           Relationship = "care-team"           // it is in a team that cares for the person
	Workgroup          Relationship = "workgroup"           // the user belongs to a workgroup that the person is assigned to
	Identifying        Relationship = "identifying"         // none yet: a system asks who somebody is, so that one can be known
	SelfClaimed        Relationship = "self-claimed"        // the user says so, and will be asked about it
	Self               Relationship = "self"                // the person themselves
	Proxy              Relationship = "proxy"               // somebody who acts for the person: see Proxyhood
)

// A Channel is how the question came.
type Channel string

// The channels. The zero Channel is a person at a screen of ours.
const (
	Page        Channel = ""
	API         Channel = "api"          // an app, for a signed-in person
	Launch      Channel = "launch"       // opened from another system, locked to one patient
	Machine     Channel = "system"       // a program, nobody present
	Between     Channel = "neighbour"    // another region's node, for its user
	CommandLine Channel = "command-line" // whoever holds the machine
)

// A Subject is who asks.
type Subject struct {
	Role         Role
	Activities   []string // national RBAC activity codes (B0360 …) that the sign-in gave; nil: the role's own rights, undiminished
	Organisation string   // ODS code
	Above        []string // the bodies that the organisation is part of, nearest first
	User         string   // local id
	System       string   // the system in the region file that a Role that Keeps acts for; else ""
	Names        []string // how Consents may name the user: "Practitioner/…", "system|value", "Group/…"
}

// of reports whether the subject's organisation is, or is part of, the one with the ODS code.
func (s *Subject) of(ods string) bool { return isOrPartOf(s.Organisation, s.Above, ods) }

func isOrPartOf(own string, above []string, ods string) bool {
	if own == ods {
		return ods != ""
	}
	for _, a := range above {
		if a == ods {
			return true
		}
	}
	return false
}

// An OptOut is what the National Data Opt-Out check said of a person. It is asked for secondary uses only.
type OptOut int

// The answers. What was not asked, or could not be, is no permission.
const (
	NotConsulted OptOut = iota
	MayBeUsed
	OptedOut
)

// A Person is what policy must know of whose record it is. It is known before any record is looked at.
type Person struct {
	Restricted bool      // where they live and are seen must not be shown (PDS meta.security R)
	Born       time.Time // zero: not known
	Choices    Choices   // Consents of scope patient-privacy; an objection to sharing is one of them
	Dissent    bool      // PDS NCRS consent: express dissent, no detailed sharing
	NoSCR      bool      // no permission for the Summary Care Record; concerns sources of that kind and nothing else
	TypeOne    bool      // no confidential data leaves the practice for secondary use
	OptOut     OptOut
	Capable    bool        // assessed as able to decide for themselves although under 16 (Gillick), whoever says so: it opens nothing
	Proxies    []Proxyhood // of a user who acts for the person: each that was told of
}

// A Source is a system, seen as something that may or may not be asked.
type Source struct {
	System       string
	Organisation string
	Above        []string // the bodies that Organisation is part of
	Kind         region.Kind
	Release      region.Release
	Gives        map[dataset.Heading]region.Way
	Labels       Labels // what everything from there bears, unless it says more itself
	Summary      bool   // it is the Summary Care Record
	// Within are the bodies that an organisation of the region file is part of, and whether it is one; nil: none is known.
	Within func(ods string) (above []string, known bool)
}

// Facts are all that a decision rests on.
type Facts struct {
	Subject       Subject
	Purpose       Purpose
	Person        Person
	Relationships []Relationship
	Glass         *Glass          // the alert under which the record is opened out of the ordinary, nil if it is not
	Source        *Source         // nil: the question is whether the record may be opened at all
	Heading       dataset.Heading // "" with a Source: whether the source may be asked anything
	Item          *Item           // one resource, once it is in hand
	Agreements    []region.Agreement
	Believed      Believed // whose word opens what others hold
	Channel       Channel
	At            time.Time
	Data          Data // which agreements these are
}

// Data says which file the agreements came from.
type Data struct {
	Version string    // "" if they were given in code
	Read    time.Time // when the file was last found as it is; zero: they do not come from a file that can change
}

// MaxStale is how old the knowledge of what has been agreed may be. After that nothing is permitted: a change must be in force within it.
const MaxStale = time.Minute

// An Obligation is what must be done if a permit is used.
type Obligation string

// The obligations.
const (
	WithholdLocation Obligation = "withhold-location" // address, telephone, practice and sites
	AlertPrivacy     Obligation = "alert-privacy"     // tell the privacy officer at once
	RecordSelfClaim  Obligation = "record-self-claim" // the audit entry says that the relationship is claimed
	ShowBanner       Obligation = "show-banner"       // the screen says for as long as it lasts that the glass is broken
)

// Words are the obligation as a person reads it.
func (o Obligation) Words() string {
	switch o {
	case WithholdLocation:
		return "without anything that tells where the person is"
	case AlertPrivacy:
		return "the privacy officer is told at once"
	case RecordSelfClaim:
		return "recorded as claimed by the user"
	case ShowBanner:
		return "with a banner for as long as it lasts"
	}
	return string(o)
}

// A Reason is one rule that spoke, by a code that does not change and in words.
type Reason struct{ Code, Text string }

// A Decision is the answer. The zero Decision is a refusal.
type Decision struct {
	Permit      bool
	Reasons     []Reason // of a permit: what allowed it; of a refusal: every rule that refused
	Obligations []Obligation
	Version     string // of the rules, and after a slash of the agreements
	// Agreement is the id of the agreement that allowed another organisation's data, "" if none was needed.
	Agreement string
	// Stage is, of a permit that rests on being a tester, how far the release has come for others: testers, organisations. Testers are told.
	Stage string
}

// Has reports whether the decision carries the obligation.
func (d Decision) Has(o Obligation) bool {
	for _, x := range d.Obligations {
		if x == o {
			return true
		}
	}
	return false
}

// Because reports whether a rule of the code spoke.
func (d Decision) Because(code string) bool {
	for _, r := range d.Reasons {
		if r.Code == code {
			return true
		}
	}
	return false
}
