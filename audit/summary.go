package audit

import (
	"encoding/base64"
	"strconv"
	"strings"
	"time"

	"tombolo/fhir"
)

// A Summary is an entry as people read it.
type Summary struct {
	Seq             Seq
	At              time.Time
	Kind            Kind
	Outcome         string
	User            string // their id with us
	Who, Role       string
	Organisation    string
	ODS             string // the organisation's code
	Device, Address string // the program and network address they came from
	Purpose         string // v3-PurposeOfUse code
	PersonID        string // whose record
	NHSNumber       fhir.NHSNumber
	Query, Trace    string
	What            []string // as in Event
}

// Summary reads the entry's AuditEvent back. It is lenient, so that other systems' events can be read too.
func (e Entry) Summary() (Summary, error) {
	r, err := e.Resource()
	if err != nil {
		return Summary{}, err
	}
	s := Summary{Seq: e.Seq, PersonID: e.PersonID, User: e.User, Kind: KindOf(r), Outcome: r.Text("outcome"), Purpose: r.Text("purposeOfEvent.coding.code")}
	if s.At, err = time.Parse(time.RFC3339Nano, r.Text("recorded")); err != nil {
		s.At = e.At
	}
	for a := range r.Value().All("agent") {
		s.agent(a)
	}
	for en := range r.Value().All("entity") {
		s.entity(en)
	}
	return s, nil
}

func (s *Summary) agent(a fhir.Value) {
	code := a.Text("type.coding.code")
	if code != "IRCP" && s.Who == "" && a.Text("requestor") == "true" { // how other systems name who asked
		s.Who = orElse(a.Text("who.display"), orElse(a.Text("name"), a.Text("who.reference")))
	}
	switch code {
	case "IRCP":
		s.Who, s.Role = orElse(a.Text("who.display"), orElse(a.Text("name"), a.Text("who.reference"))), a.Text("role.text")
		if s.User == "" {
			s.User = a.Text("who.identifier.value")
		}
	case "PROV":
		s.Organisation, s.ODS = a.Text("who.display"), a.Text("who.identifier.value")
	case sourceRole, destinationRole:
		// The client stands before this node; where there is only this node, its network address is a name.
		if a.Text("network.type") == "2" || a.Text("network.address") == "" {
			s.Device, s.Address = a.Text("who.display"), a.Text("network.address")
		}
	}
}

func (s *Summary) entity(en fhir.Value) {
	if en.Text("type.system") == systemEntity && en.Text("type.code") == "1" && en.Text("what.identifier.system") == fhir.SystemNHSNumber {
		s.NHSNumber, _ = fhir.ParseNHSNumber(en.Text("what.identifier.value"))
	}
	if q, err := base64.StdEncoding.DecodeString(en.Text("query")); err == nil && len(q) > 0 {
		s.Query = string(q)
	}
	if en.Text("type.code") == requestID.Code {
		s.Trace = en.Text("what.identifier.value")
	}
	for d := range en.All("detail") {
		s.What = append(s.What, d.Text("type")+": "+d.Text("valueString"))
	}
}

// Said gives the values that stand under a name in What.
func (s Summary) Said(name string) []string {
	var out []string
	for _, w := range s.What {
		if v, ok := strings.CutPrefix(w, name+": "); ok {
			out = append(out, v)
		}
	}
	return out
}

// Shows reports whether the event is the showing of a person's record, or its beginning, or the sending of something of it.
func (s Summary) Shows() bool {
	return s.PersonID != "" && (s.Kind == Read || s.Kind == Opened || s.Kind == BreakGlass || s.Kind == Export || s.Kind == Notified)
}

// String says how the verification went, in one line.
func (r Report) String() string {
	if r.Bad != nil {
		return r.Bad.Error() + "; the entries before it are good up to " + r.Head.String()
	}
	return "the audit log is whole: " + plural(r.Entries) + ", head " + r.Head.String()
}

func plural(n uint64) string {
	if n == 1 {
		return "1 entry"
	}
	return strconv.FormatUint(n, 10) + " entries"
}
