package audit

import (
	"strconv"
	"time"
)

// A Summary is an entry as people read it.
type Summary struct {
	At           time.Time
	Kind         Kind
	Outcome      string
	Who, Role    string
	Organisation string
	Purpose      string   // v3-PurposeOfUse code
	What         []string // as in Event
}

// Summary reads the entry's AuditEvent back.
func (e Entry) Summary() (Summary, error) {
	r, err := e.Resource()
	if err != nil {
		return Summary{}, err
	}
	s := Summary{Kind: KindOf(r), Outcome: r.Text("outcome"), Purpose: r.Text("purposeOfEvent.coding.code")}
	s.At, _ = time.Parse(time.RFC3339Nano, r.Text("recorded"))
	for a := range r.Value().All("agent") {
		switch a.Text("type.coding.code") {
		case "IRCP":
			s.Who, s.Role = a.Text("who.display"), a.Text("role.text")
		case "PROV":
			s.Organisation = a.Text("who.display")
		}
	}
	for d := range r.Value().All("entity.detail") {
		s.What = append(s.What, d.Text("type")+": "+d.Text("valueString"))
	}
	return s, nil
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
