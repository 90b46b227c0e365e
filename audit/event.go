// Package audit remembers who looked at what, for what reason, and what they were shown: FHIR AuditEvents in the shape of IHE
// BALP and the national patient audit service, as the leaves of a Merkle tree (RFC 6962) whose signed heads others keep.
//
// Append returns only when the entry is durable, so that nothing is shown that is not remembered (design law 5). Verify finds
// any entry that was changed, removed, added or moved, and, against heads that others kept, a tail that was cut off or a log
// written anew. What was shown is kept beside it, so that a view can be rebuilt. The log is the one place where an NHS number stands
// beside who asked for it; nothing in it is ever changed or deleted.
package audit

import (
	"fmt"

	"tombolo/fhir"
)

// A Kind of event.
type Kind string

// The kinds. Others may be given and are recorded under their own name.
const (
	Read         Kind = "read"          // a person's record was shown
	Search       Kind = "search"        // somebody looked for people or things
	Denied       Kind = "denied"        // a request was refused
	BreakGlass   Kind = "break-glass"   // a record was opened against an objection, in an emergency
	WrongPatient Kind = "wrong-patient" // a source answered about somebody else
	SignIn       Kind = "sign-in"
	SignOut      Kind = "sign-out"
	Export       Kind = "export"
	Import       Kind = "import"
	Notified     Kind = "notify" // a subscriber was told of something about a person: an event for each person of a notification
	Verified     Kind = "verify" // the audit log itself was verified or read
	Alert        Kind = "alert"  // misuse watching found something to look at
	Opened       Kind = "opened" // a record is being opened: what it showed follows under the same trace
	Create       Kind = "create"
	Update       Kind = "update"
	Delete       Kind = "delete"
	Policy       Kind = "policy" // what has been agreed was changed, or explained
)

// The outcomes. FHIR R4 valueset-audit-event-outcome.html
const (
	Success = "0"
	Minor   = "4"  // refused, or failed in a small way
	Serious = "8"  // failed, or refused in a way that somebody must look at
	Major   = "12" // the system could not go on
)

// An Agent is who did it.
type Agent struct {
	User, Name           string // their id with us; how people know them
	Role                 string
	Organisation         string // ODS code
	OrgName              string
	Device, Address      string // the program and network address they came from, if known
	SDSUserID, SDSRoleID string // national ids, if they signed in nationally
}

// An Event is what is to be remembered.
type Event struct {
	Kind    Kind
	Outcome string // Success if empty, Minor for Denied
	Agent   Agent
	Purpose string // v3-PurposeOfUse code, e.g. TREAT

	PersonID  string         // the person's opaque id on this node; "" if nobody is meant
	NHSNumber fhir.NHSNumber // stands in the patient entity

	// What was decided and disclosed, "name: value" each: headings with the versions shown, the state of each source, the
	// policy's version, reasons.
	What  []string
	Query string // the request as it was made
	Trace string // UUID of the request

	View *View          // what was shown, to be kept so that it can be rebuilt; nil if nothing was
	Raw  *fhir.Resource // another system's AuditEvent, to be kept exactly as it is; of the other fields only the ids are used then
}

const (
	systemDCM       = "http://dicom.nema.org/resources/ontology/DCM"
	systemRest      = "http://hl7.org/fhir/restful-interaction"
	systemType      = "http://terminology.hl7.org/CodeSystem/audit-event-type"
	systemEntity    = "http://terminology.hl7.org/CodeSystem/audit-entity-type"
	systemObject    = "http://terminology.hl7.org/CodeSystem/object-role"
	systemReason    = "http://terminology.hl7.org/CodeSystem/v3-ActReason"
	systemKind      = "https://tombolo.dev/CodeSystem/audit-kind"
	systemUser      = "https://tombolo.dev/Id/user"
	profileRead     = "https://profiles.ihe.net/ITI/BALP/StructureDefinition/IHE.BasicAudit.PatientRead"
	profileQuery    = "https://profiles.ihe.net/ITI/BALP/StructureDefinition/IHE.BasicAudit.PatientQuery"
	destinationRole = "110152" // who received it
	sourceRole      = "110153" // who sent it
)

// A form is how a kind of event is coded. IHE ITI BALP; DICOM PS3.16 CID 400–403
type form struct {
	typ, subtype    fhir.Coding
	action, outcome string
	answers         bool // content goes from us to the client, as in a read; otherwise the request goes from the client to us
}

var (
	restType = fhir.Coding{System: systemType, Code: "rest", Display: "RESTful Operation"}
	alert    = fhir.Coding{System: systemDCM, Code: "110113", Display: "Security Alert"}
	// disclosed is how BALP marks what leaves without anybody at a screen. IHE BALP, Privacy Disclosure at Source
	disclosed = fhir.Coding{System: "http://terminology.hl7.org/CodeSystem/iso-21089-lifecycle", Code: "disclose", Display: "Disclose Record Lifecycle Event"}
	signing   = fhir.Coding{System: systemDCM, Code: "110114", Display: "User Authentication"}
)

func dcm(code, display string) fhir.Coding {
	return fhir.Coding{System: systemDCM, Code: code, Display: display}
}
func rest(code string) fhir.Coding {
	return fhir.Coding{System: systemRest, Code: code, Display: code}
}

var forms = map[Kind]form{
	Read:         {restType, rest("read"), "R", Success, true},
	Search:       {restType, rest("search-type"), "E", Success, false},
	Denied:       {alert, fhir.Coding{}, "E", Minor, false},
	BreakGlass:   {restType, dcm("110127", "Emergency Override Started"), "R", Success, true},
	WrongPatient: {alert, fhir.Coding{}, "E", Serious, false},
	SignIn:       {signing, dcm("110122", "Login"), "E", Success, false},
	SignOut:      {signing, dcm("110123", "Logout"), "E", Success, false},
	Export:       {dcm("110106", "Export"), disclosed, "R", Success, true},
	Notified:     {dcm("110106", "Export"), disclosed, "R", Success, true},
	Import:       {dcm("110107", "Import"), fhir.Coding{}, "C", Success, false},
	Alert:        {alert, fhir.Coding{}, "E", Serious, false},
	Opened:       {restType, rest("operation"), "E", Success, false},
	Verified:     {dcm("110101", "Audit Log Used"), fhir.Coding{}, "R", Success, true},
	Create:       {restType, rest("create"), "C", Success, false},
	Update:       {restType, rest("update"), "U", Success, false},
	Delete:       {restType, rest("delete"), "D", Success, false},
	Policy:       {alert, dcm("110129", "Security Configuration"), "U", Success, false},
}

// profile claims a BALP profile only where all that it demands is there.
func (e Event) profile(outcome string) string {
	if outcome != Success || e.Agent.Device == "" || e.Agent.Address == "" || e.PersonID == "" && e.NHSNumber.IsZero() {
		return ""
	}
	switch {
	case e.Kind == Read:
		return profileRead
	case e.Kind == Search && e.Query != "":
		return profileQuery
	}
	return ""
}

// KindOf reads the kind back out of an AuditEvent of this log.
func KindOf(r *fhir.Resource) Kind {
	for c := range r.Value().All("subtype") {
		if c.Text("system") == systemKind {
			return Kind(c.Text("code"))
		}
	}
	return ""
}

// idOf is the id of the AuditEvent of an entry.
func idOf(s Seq) string { return fmt.Sprintf("audit-%d", s) }
