// Package audit remembers who looked at what, so that it cannot be quietly changed: AuditEvents in an append-only hash chain.
//
// Append returns only when the entry is durable, and nothing about a person leaves before it has (no audit, no bytes). The chain
// is the one place where an NHS number may stand beside who asked for it. Verify finds any change made behind this room's back.
package audit

import (
	"time"

	"tombolo/fhir"
)

// A Kind of event.
type Kind string

// The kinds.
const (
	Read         Kind = "read"          // a record, or part of one, was shown
	BreakGlass   Kind = "break-glass"   // a record was opened in an emergency, against an objection
	Denied       Kind = "denied"        // somebody was refused
	Search       Kind = "search"        // somebody was looked for and not found
	WrongPatient Kind = "wrong-patient" // a source answered about somebody else
	SignIn       Kind = "sign-in"
	Export       Kind = "export"
	Import       Kind = "import"
)

// An Agent is who did it.
type Agent struct {
	User, Name, Role      string
	Organisation, OrgName string // ODS code and name
}

// An Event is one thing to be remembered.
type Event struct {
	Kind      Kind
	Outcome   string // FHIR R4 valueset-audit-event-outcome: 0 success, 4 minor failure (refused), 8 serious
	Agent     Agent
	Purpose   string         // v3-PurposeOfUse code
	PersonID  string         // opaque id on this node, "" if nobody was identified
	NHSNumber fhir.NHSNumber // of the person, if known
	What      []string       // decision, source states, headings with the versions shown; never clinical content
	Query     string         // what was asked for; kept base64 in entity.query
	Trace     string         // UUID of the request
}

// An Entry is an event in the chain.
type Entry struct {
	Seq  uint64
	At   time.Time
	Hash []byte // of this entry and all before it
	Body []byte // the FHIR R4 AuditEvent
	Event
}
