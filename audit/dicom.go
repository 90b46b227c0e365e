package audit

import (
	"bytes"
	"encoding/base64"
	"encoding/xml"
	"strings"

	"tombolo/fhir"
)

// An AuditEvent as the AuditMessage that security teams' older repositories read. DICOM PS3.15 §A.5.1; what goes where is the mapping of
// FHIR R4 auditevent-mappings.html#dicom.

type dicomCode struct {
	Code   string `xml:"csd-code,attr"`
	System string `xml:"codeSystemName,attr"`
	Text   string `xml:"originalText,attr"`
}

type dicomMessage struct {
	XMLName xml.Name `xml:"AuditMessage"`
	Event   struct {
		Action  string      `xml:"EventActionCode,attr,omitempty"`
		At      string      `xml:"EventDateTime,attr"`
		Outcome string      `xml:"EventOutcomeIndicator,attr"`
		ID      dicomCode   `xml:"EventID"`
		Type    []dicomCode `xml:"EventTypeCode"`
		Purpose []dicomCode `xml:"PurposeOfUse"`
	} `xml:"EventIdentification"`
	Participants []dicomParticipant `xml:"ActiveParticipant"`
	Source       struct {
		Site string      `xml:"AuditEnterpriseSiteID,attr,omitempty"`
		ID   string      `xml:"AuditSourceID,attr"`
		Type []dicomCode `xml:"AuditSourceTypeCode"`
	} `xml:"AuditSourceIdentification"`
	Objects []dicomObject `xml:"ParticipantObjectIdentification"`
}

type dicomParticipant struct {
	User        string      `xml:"UserID,attr"`
	Alternative string      `xml:"AlternativeUserID,attr,omitempty"`
	Name        string      `xml:"UserName,attr,omitempty"`
	Requestor   bool        `xml:"UserIsRequestor,attr"`
	Address     string      `xml:"NetworkAccessPointID,attr,omitempty"`
	AddressType string      `xml:"NetworkAccessPointTypeCode,attr,omitempty"`
	Role        []dicomCode `xml:"RoleIDCode"`
}

type dicomObject struct {
	ID     string        `xml:"ParticipantObjectID,attr"`
	Type   string        `xml:"ParticipantObjectTypeCode,attr,omitempty"`
	Role   string        `xml:"ParticipantObjectTypeCodeRole,attr,omitempty"`
	IDType dicomCode     `xml:"ParticipantObjectIDTypeCode"`
	Query  string        `xml:"ParticipantObjectQuery,omitempty"`
	Detail []dicomDetail `xml:"ParticipantObjectDetail"`
}

type dicomDetail struct {
	Type  string `xml:"type,attr"`
	Value string `xml:"value,attr"` // base64
}

// nhsNumberOID is the root under which HL7 v2 and v3 write NHS numbers.
const nhsNumberOID = "2.16.840.1.113883.2.1.4.1"

// largestMessage is what every receiver must take. IHE ITI TF-2: 3.20.4.1.1
const largestMessage = 32 << 10

// DICOM is the entry as a DICOM AuditMessage. One that would be larger than receivers must take is given with less of its detail, and says
// so: the whole of it is in the entry that it names.
func (e Entry) DICOM() ([]byte, error) {
	r, err := e.Resource()
	if err != nil {
		return nil, err
	}
	m := dicomOf(r, e)
	for _, most := range []int{0, 512, 64, 1} {
		if most > 0 {
			m.clip(most)
		}
		b, err := xml.Marshal(m)
		if err != nil {
			return nil, err
		}
		if b = append([]byte(`<?xml version="1.0" encoding="UTF-8"?>`), b...); len(b) <= largestMessage {
			return b, nil
		}
	}
	return nil, fhir.Errorf(fhir.Invalid, "entry %d cannot be made short enough for a syslog message", e.Seq)
}

func dicomOf(r *fhir.Resource, e Entry) *dicomMessage {
	m := &dicomMessage{}
	m.Event.Action, m.Event.At, m.Event.Outcome = r.Text("action"), r.Text("recorded"), orElse(r.Text("outcome"), Success)
	m.Event.ID = eventID(r)
	for c := range r.Value().All("subtype") {
		m.Event.Type = append(m.Event.Type, dicomCoding(c))
	}
	for p := range r.Value().All("purposeOfEvent") {
		m.Event.Purpose = append(m.Event.Purpose, concept(p))
	}
	for a := range r.Value().All("agent") {
		m.Participants = append(m.Participants, participantOf(a))
	}
	m.Source.ID, m.Source.Site = orElse(r.Text("source.observer.display"), orElse(r.Text("source.observer.reference"), "unknown")), r.Text("source.site")
	for c := range r.Value().All("source.type") {
		m.Source.Type = append(m.Source.Type, dicomCoding(c))
	}
	for en := range r.Value().All("entity") {
		m.Objects = append(m.Objects, objectsOf(en)...)
	}
	// Which entry of this log it is: what tells a gap or a repeat.
	m.Objects = append(m.Objects, dicomObject{ID: "AuditEvent/" + idOf(e.Seq), Type: "2", Role: "13", IDType: dicomCode{"12", "RFC-3881", "URI"}})
	return m
}

// eventID says what it was in the codes that DICOM has. FHIR's REST operations are readings, changes and queries of patients' records.
func eventID(r *fhir.Resource) dicomCode {
	if r.Text("type.system") == systemDCM {
		return dicomCoding(r.Get("type"))
	}
	for c := range r.Value().All("subtype.code") {
		if strings.HasPrefix(c.Str(), "search") {
			return dicomCode{"110112", "DCM", "Query"}
		}
	}
	for en := range r.Value().All("entity") {
		if en.Text("role.code") == aPatient.Code {
			return dicomCode{"110110", "DCM", "Patient Record"}
		}
	}
	return dicomCode{"110100", "DCM", "Application Activity"}
}

var dicomSystems = map[string]string{
	systemDCM: "DCM", "http://terminology.hl7.org/CodeSystem/security-source-type": "DCM",
	systemReason: "2.16.840.1.113883.5.8", "http://terminology.hl7.org/CodeSystem/v3-ParticipationType": "2.16.840.1.113883.5.90",
	"http://terminology.hl7.org/CodeSystem/v3-RoleClass": "2.16.840.1.113883.5.110",
}

func dicomCoding(c fhir.Value) dicomCode {
	system := c.Text("system")
	return dicomCode{c.Text("code"), orElse(dicomSystems[system], system), orElse(c.Text("display"), c.Text("code"))}
}

func concept(v fhir.Value) dicomCode {
	for c := range v.All("coding") {
		return dicomCoding(c)
	}
	return dicomCode{Code: v.Text("text"), System: "text", Text: v.Text("text")}
}

func participantOf(a fhir.Value) dicomParticipant {
	p := dicomParticipant{Name: orElse(a.Text("who.display"), a.Text("name")), Alternative: a.Text("altId"), Requestor: a.Text("requestor") == "true",
		Address: a.Text("network.address"), AddressType: a.Text("network.type")}
	p.User = orElse(a.Text("who.identifier.value"), orElse(a.Text("who.reference"), orElse(p.Name, "unknown")))
	p.Role = append(p.Role, concept(a.Member("type")))
	for r := range a.All("role") {
		p.Role = append(p.Role, concept(r))
	}
	return p
}

// objectsOf are what an entity is: of a person an object for their id here and one for their NHS number.
func objectsOf(en fhir.Value) []dicomObject {
	o := dicomObject{Type: en.Text("type.code"), Role: en.Text("role.code"), Query: en.Text("query")}
	for d := range en.All("detail") {
		value := d.Text("valueBase64Binary")
		if value == "" {
			value = base64.StdEncoding.EncodeToString([]byte(d.Text("valueString")))
		}
		o.Detail = append(o.Detail, dicomDetail{d.Text("type"), value})
	}
	id, number := en.Text("what.reference"), en.Text("what.identifier.value")
	switch {
	case o.Type == aPerson.Code:
		var out []dicomObject
		o.IDType = dicomCode{"2", "RFC-3881", "Patient Number"}
		for _, n := range []string{strings.TrimPrefix(id, "Patient/"), number} {
			if n == "" {
				continue
			}
			if o.ID = n; n == number && en.Text("what.identifier.system") == fhir.SystemNHSNumber {
				o.ID += "^^^&" + nhsNumberOID + "&ISO" // HL7 v2.5 CX, as IHE writes patient ids
			}
			out = append(out, o)
		}
		return out
	case o.Type == requestID.Code:
		o.Type, o.IDType = anything.Code, dicomCode{requestID.Code, requestID.System, "request"}
	default:
		o.IDType = dicomCode{"12", "RFC-3881", "URI"}
	}
	o.ID = orElse(number, orElse(id, orElse(en.Text("what.display"), orElse(en.Text("description"), "unknown"))))
	return []dicomObject{o}
}

// clip leaves of each detail no more than so many bytes.
func (m *dicomMessage) clip(most int) {
	for i := range m.Objects {
		o := &m.Objects[i]
		if len(o.Query) > most {
			o.Query = ""
		}
		for j, d := range o.Detail {
			if b, err := base64.StdEncoding.DecodeString(d.Value); err == nil && len(b) > most {
				o.Detail[j].Value = base64.StdEncoding.EncodeToString(append(bytes.ToValidUTF8(b[:most], nil), "…"...))
			}
		}
		if most == 1 && len(o.Detail) > 100 {
			o.Detail = append(o.Detail[:100], dicomDetail{"more", base64.StdEncoding.EncodeToString([]byte("in the entry"))})
		}
	}
}
