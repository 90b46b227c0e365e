// Package audit remembers who looked at what, for what reason, and what they were shown: FHIR AuditEvents in the shape of IHE
// BALP and the national patient audit service, in a chain in which every entry holds the hash of the one before.
//
// Append returns only when the entry is durable, so that nothing is shown that is not remembered (design law 5). Verify finds
// any entry that was changed, removed, added or moved, and, against a head that was published elsewhere, a tail that was cut
// off. The log is the one place where an NHS number stands beside who asked for it; nothing in it is ever changed or deleted.
package audit

import (
	"encoding/base64"
	"fmt"
	"strings"
	"time"

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
	Verified     Kind = "verify" // the audit log itself was verified or read
	Create       Kind = "create"
	Update       Kind = "update"
	Delete       Kind = "delete"
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
	signing  = fhir.Coding{System: systemDCM, Code: "110114", Display: "User Authentication"}
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
	Export:       {dcm("110106", "Export"), fhir.Coding{System: "http://terminology.hl7.org/CodeSystem/iso-21089-lifecycle", Code: "disclose", Display: "Disclose Record Lifecycle Event"}, "R", Success, true},
	Import:       {dcm("110107", "Import"), fhir.Coding{}, "C", Success, false},
	Verified:     {dcm("110101", "Audit Log Used"), fhir.Coding{}, "R", Success, true},
	Create:       {restType, rest("create"), "C", Success, false},
	Update:       {restType, rest("update"), "U", Success, false},
	Delete:       {restType, rest("delete"), "D", Success, false},
}

// resource renders the event as an AuditEvent. FHIR R4 auditevent.html
func (e Event) resource(id, node string, at time.Time) *fhir.Resource {
	f, known := forms[e.Kind]
	if !known {
		f = form{restType, rest("operation"), "E", Success, false}
	}
	subtypes := make([]fhir.Coding, 0, 2)
	if f.subtype.Code != "" {
		subtypes = append(subtypes, f.subtype)
	}
	subtypes = append(subtypes, fhir.Coding{System: systemKind, Code: string(e.Kind)})
	outcome := e.Outcome
	if outcome == "" {
		outcome = f.outcome
	}
	m := fhir.M{
		"type": f.typ, "subtype": subtypes, "action": f.action, "recorded": fhir.Instant(at), "outcome": outcome,
		"agent":  e.agents(f, node),
		"source": fhir.M{"site": node, "observer": fhir.Reference{Display: node}, "type": []fhir.Coding{{System: "http://terminology.hl7.org/CodeSystem/security-source-type", Code: "4", Display: "Application Server"}}},
	}
	if e.Purpose != "" {
		m["purposeOfEvent"] = []fhir.CodeableConcept{fhir.Code(systemReason, e.Purpose, "")}
	}
	if entities := e.entities(); len(entities) > 0 {
		m["entity"] = entities
	}
	if p := e.profile(outcome); p != "" {
		m["meta"] = fhir.M{"profile": []string{p}}
	}
	return fhir.New("AuditEvent", id, m)
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

// agents are the user, their organisation, the program they used, and this node.
func (e Event) agents(f form, node string) []fhir.M {
	a := e.Agent
	who := fhir.Reference{Display: a.Name}
	switch {
	case a.SDSUserID != "":
		who.Identifier = &fhir.Identifier{System: fhir.SystemSDSUser, Value: a.SDSUserID}
	case a.User != "":
		who.Identifier = &fhir.Identifier{System: systemUser, Value: a.User}
	case who.Display == "":
		who.Display = "nobody signed in"
	}
	user := fhir.M{"type": fhir.Code("http://terminology.hl7.org/CodeSystem/v3-ParticipationType", "IRCP", "information recipient"), "who": who, "requestor": true}
	if a.SDSUserID != "" && a.User != "" {
		user["altId"] = a.User
	}
	if role := (fhir.CodeableConcept{Text: a.Role}); a.Role != "" || a.SDSRoleID != "" {
		if a.SDSRoleID != "" {
			role.Coding = []fhir.Coding{{System: fhir.SystemSDSRole, Code: a.SDSRoleID}}
		}
		user["role"] = []fhir.CodeableConcept{role}
	}
	if e.Purpose != "" {
		user["purposeOfUse"] = []fhir.CodeableConcept{fhir.Code(systemReason, e.Purpose, "")}
	}
	out := []fhir.M{user}
	if a.Organisation != "" || a.OrgName != "" {
		org := fhir.Reference{Display: a.OrgName}
		if a.Organisation != "" {
			org.Identifier = &fhir.Identifier{System: fhir.SystemODS, Value: a.Organisation}
		}
		out = append(out, fhir.M{"type": fhir.Code("http://terminology.hl7.org/CodeSystem/v3-RoleClass", "PROV", "healthcare provider"), "who": org, "requestor": false})
	}
	client, server := dcm(sourceRole, "Source Role ID"), dcm(destinationRole, "Destination Role ID")
	if f.answers {
		client, server = server, client
	}
	if a.Device != "" || a.Address != "" {
		m := fhir.M{"type": fhir.CodeableConcept{Coding: []fhir.Coding{client}}, "who": fhir.Reference{Display: orElse(a.Device, a.Address)}, "requestor": false}
		if a.Address != "" {
			m["network"] = fhir.M{"address": a.Address, "type": "2"}
		}
		out = append(out, m)
	}
	return append(out, fhir.M{"type": fhir.CodeableConcept{Coding: []fhir.Coding{server}}, "who": fhir.Reference{Display: node}, "requestor": false,
		"network": fhir.M{"address": node, "type": "1"}})
}

func orElse(s, other string) string {
	if s != "" {
		return s
	}
	return other
}

// entities are the person, what was asked, the request, and what was decided and disclosed.
func (e Event) entities() []fhir.M {
	var out []fhir.M
	if e.PersonID != "" || !e.NHSNumber.IsZero() {
		what := fhir.Reference{Type: "Patient"}
		if fhir.ValidID(e.PersonID) {
			what.Reference = "Patient/" + e.PersonID
		}
		if !e.NHSNumber.IsZero() {
			what.Identifier = &fhir.Identifier{System: fhir.SystemNHSNumber, Value: e.NHSNumber.Digits()}
		}
		out = append(out, fhir.M{"type": fhir.Coding{System: systemEntity, Code: "1", Display: "Person"},
			"role": fhir.Coding{System: systemObject, Code: "1", Display: "Patient"}, "what": what})
	}
	object := fhir.Coding{System: systemEntity, Code: "2", Display: "System Object"}
	data := fhir.M{"type": object}
	if e.Query != "" { // base64 of the request. FHIR R4 auditevent-definitions.html#AuditEvent.entity.query
		data["query"] = base64.StdEncoding.EncodeToString([]byte(e.Query))
	}
	switch e.Kind {
	case Read, BreakGlass, Export:
		data["role"] = fhir.Coding{System: systemObject, Code: "4", Display: "Domain Resource"}
		data["what"] = fhir.Reference{Display: "the joined record"}
		out = append(out, data)
	default:
		if e.Query != "" {
			data["role"] = fhir.Coding{System: systemObject, Code: "24", Display: "Query"}
			out = append(out, data)
		}
	}
	if e.Trace != "" {
		out = append(out, fhir.M{"type": fhir.Coding{System: "https://profiles.ihe.net/ITI/BALP/CodeSystem/BasicAuditEntityType", Code: "XrequestId"},
			"what": fhir.Reference{Identifier: &fhir.Identifier{Value: e.Trace}}})
	}
	if len(e.What) > 0 {
		details := make([]fhir.M, len(e.What))
		for i, w := range e.What {
			name, value, ok := strings.Cut(w, ": ")
			if !ok || name == "" || value == "" {
				name, value = "what", orElse(strings.TrimSpace(w), "-")
			}
			details[i] = fhir.M{"type": name, "valueString": value}
		}
		out = append(out, fhir.M{"type": fhir.Coding{System: systemEntity, Code: "4", Display: "Other"},
			"description": "what was decided and disclosed", "detail": details})
	}
	return out
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
