package audit

import (
	"encoding/base64"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"tombolo/fhir"
)

// Every disclosure waits for its event, so events are written straight into bytes: a tenth of the time that maps take. The members of
// each object stand in alphabetical order, as everywhere where this program makes JSON of maps.

// A writer appends JSON. between says whether a comma is due.
type writer struct {
	b       []byte
	between bool
}

func (w *writer) comma() {
	if w.between {
		w.b = append(w.b, ',')
	}
	w.between = false
}

func (w *writer) open(c byte) { w.comma(); w.b = append(w.b, c) }

func (w *writer) end(c byte) { w.b = append(w.b, c); w.between = true }

// key writes the name of a member. Only this program's own names stand there.
func (w *writer) key(name string) *writer {
	w.comma()
	w.b = append(append(append(w.b, '"'), name...), `":`...)
	return w
}

func (w *writer) text(s string) {
	w.comma()
	b, err := jsontext.AppendQuote(w.b, s)
	if err != nil { // not UTF-8: what can be read of it is kept
		b, _ = jsontext.AppendQuote(w.b, strings.ToValidUTF8(s, "\uFFFD"))
	}
	w.b, w.between = b, true
}

func (w *writer) plain(s string) { w.comma(); w.b = append(w.b, s...); w.between = true }

func (w *writer) object(fill func()) { w.open('{'); fill(); w.end('}') }

func (w *writer) list(fill func()) { w.open('['); fill(); w.end(']') }

// member writes a member that has a text, and nothing if the text is empty.
func (w *writer) member(name, s string) {
	if s != "" {
		w.key(name).text(s)
	}
}

func (w *writer) coding(c fhir.Coding) {
	w.object(func() {
		w.member("system", c.System)
		w.member("code", c.Code)
		w.member("display", c.Display)
	})
}

func (w *writer) concept(c fhir.Coding, text string) {
	w.object(func() {
		if c.Code != "" {
			w.key("coding").list(func() { w.coding(c) })
		}
		w.member("text", text)
	})
}

func (w *writer) identifier(system, value string) {
	w.key("identifier").object(func() {
		w.member("system", system)
		w.member("value", value)
	})
}

func (w *writer) who(display, system, value string) {
	w.key("who").object(func() {
		if value != "" {
			w.identifier(system, value)
		}
		w.member("display", display)
	})
}

var (
	participant = fhir.Coding{System: "http://terminology.hl7.org/CodeSystem/v3-ParticipationType", Code: "IRCP", Display: "information recipient"}
	provider    = fhir.Coding{System: "http://terminology.hl7.org/CodeSystem/v3-RoleClass", Code: "PROV", Display: "healthcare provider"}
	server      = fhir.Coding{System: "http://terminology.hl7.org/CodeSystem/security-source-type", Code: "4", Display: "Application Server"}
	aPerson     = fhir.Coding{System: systemEntity, Code: "1", Display: "Person"}
	aPatient    = fhir.Coding{System: systemObject, Code: "1", Display: "Patient"}
	anObject    = fhir.Coding{System: systemEntity, Code: "2", Display: "System Object"}
	anything    = fhir.Coding{System: systemEntity, Code: "4", Display: "Other"}
	aResource   = fhir.Coding{System: systemObject, Code: "4", Display: "Domain Resource"}
	aQuery      = fhir.Coding{System: systemObject, Code: "24", Display: "Query"}
	requestID   = fhir.Coding{System: "https://profiles.ihe.net/ITI/BALP/CodeSystem/BasicAuditEntityType", Code: "XrequestId"}
)

// render writes the event as an AuditEvent, without the id, which it has from its place. FHIR R4 auditevent.html
func (e Event) render(node string, at time.Time) []byte {
	f, known := forms[e.Kind]
	if !known {
		f = form{restType, rest("operation"), "E", Success, false}
	}
	outcome := orElse(e.Outcome, f.outcome)
	w := &writer{b: make([]byte, 0, 3072)}
	w.object(func() {
		w.key("resourceType").text("AuditEvent")
		w.key("action").text(f.action)
		w.key("agent").list(func() { e.agents(w, f, node) })
		e.entities(w)
		if p := e.profile(outcome); p != "" {
			w.key("meta").object(func() { w.key("profile").list(func() { w.text(p) }) })
		}
		w.key("outcome").text(outcome)
		if e.Purpose != "" {
			w.key("purposeOfEvent").list(func() { w.concept(fhir.Coding{System: systemReason, Code: e.Purpose}, "") })
		}
		w.key("recorded").text(fhir.Instant(at))
		w.key("source").object(func() {
			w.key("observer").object(func() { w.member("display", node) })
			w.member("site", node)
			w.key("type").list(func() { w.coding(server) })
		})
		w.key("subtype").list(func() {
			if f.subtype.Code != "" {
				w.coding(f.subtype)
			}
			w.coding(fhir.Coding{System: systemKind, Code: string(e.Kind)})
		})
		w.key("type").coding(f.typ)
	})
	return w.b
}

// agents are the user, their organisation, the program they used, and this node.
func (e Event) agents(w *writer, f form, node string) {
	a := e.Agent
	w.object(func() {
		if a.SDSUserID != "" {
			w.member("altId", a.User)
		}
		if e.Purpose != "" {
			w.key("purposeOfUse").list(func() { w.concept(fhir.Coding{System: systemReason, Code: e.Purpose}, "") })
		}
		w.key("requestor").plain("true")
		if a.Role != "" || a.SDSRoleID != "" {
			role := fhir.Coding{}
			if a.SDSRoleID != "" {
				role = fhir.Coding{System: fhir.SystemSDSRole, Code: a.SDSRoleID}
			}
			w.key("role").list(func() { w.concept(role, a.Role) })
		}
		w.key("type").concept(participant, "")
		switch {
		case a.SDSUserID != "":
			w.who(a.Name, fhir.SystemSDSUser, a.SDSUserID)
		case a.User != "":
			w.who(a.Name, systemUser, a.User)
		default:
			w.who(orElse(a.Name, "nobody signed in"), "", "")
		}
	})
	if a.Organisation != "" || a.OrgName != "" {
		w.object(func() {
			w.key("requestor").plain("false")
			w.key("type").concept(provider, "")
			w.who(a.OrgName, fhir.SystemODS, a.Organisation)
		})
	}
	from, to := dcm(sourceRole, "Source Role ID"), dcm(destinationRole, "Destination Role ID")
	if f.answers {
		from, to = to, from
	}
	if a.Device != "" || a.Address != "" {
		w.machine(from, orElse(a.Device, a.Address), a.Address, "2")
	}
	w.machine(to, node, node, "1")
}

// machine is an agent that is a program, with its place in the network. FHIR R4 valueset-network-type.html
func (w *writer) machine(c fhir.Coding, display, address, kind string) {
	w.object(func() {
		if address != "" {
			w.key("network").object(func() {
				w.key("address").text(address)
				w.key("type").text(kind)
			})
		}
		w.key("requestor").plain("false")
		w.key("type").concept(c, "")
		w.who(display, "", "")
	})
}

// entities are the person, what was asked, the request, and what was decided and disclosed.
func (e Event) entities(w *writer) {
	person := e.PersonID != "" || !e.NHSNumber.IsZero()
	shows := e.Kind == Read || e.Kind == BreakGlass || e.Kind == Export
	if !person && !shows && e.Query == "" && e.Trace == "" && len(e.What) == 0 {
		return
	}
	w.key("entity").list(func() {
		if person {
			w.object(func() {
				w.key("role").coding(aPatient)
				w.key("type").coding(aPerson)
				w.key("what").object(func() {
					if fhir.ValidID(e.PersonID) {
						w.key("reference").text("Patient/" + e.PersonID)
					}
					w.key("type").text("Patient")
					if !e.NHSNumber.IsZero() {
						w.identifier(fhir.SystemNHSNumber, e.NHSNumber.Digits())
					}
				})
			})
		}
		if shows || e.Query != "" {
			w.object(func() {
				if e.Query != "" { // base64 of the request. FHIR R4 auditevent-definitions.html#AuditEvent.entity.query
					w.key("query").text(base64.StdEncoding.EncodeToString([]byte(e.Query)))
				}
				role := aQuery
				if shows {
					role = aResource
				}
				w.key("role").coding(role)
				w.key("type").coding(anObject)
				if shows {
					w.key("what").object(func() { w.key("display").text("the joined record") })
				}
			})
		}
		if e.Trace != "" {
			w.object(func() {
				w.key("type").coding(requestID)
				w.key("what").object(func() { w.identifier("", e.Trace) })
			})
		}
		if len(e.What) > 0 {
			w.object(func() {
				w.key("description").text("what was decided and disclosed")
				w.key("detail").list(func() { e.details(w) })
				w.key("type").coding(anything)
			})
		}
	})
}

func (e Event) details(w *writer) {
	for _, what := range e.What {
		name, value, ok := strings.Cut(what, ": ")
		if !ok || name == "" || value == "" {
			name, value = "what", orElse(strings.TrimSpace(what), "-")
		}
		w.object(func() {
			w.key("type").text(name)
			w.key("valueString").text(value)
		})
	}
}

func orElse(s, other string) string {
	if s != "" {
		return s
	}
	return other
}
