package hl7v2

import (
	"slices"
	"strings"
	"time"

	"tombolo/connector"
	"tombolo/fhir"
)

// An ackCode is MSA-1 in original mode; in enhanced mode the accept acknowledgement has C for A. HL7 table 0008
type ackCode string

const (
	accepted ackCode = "A" // AA or CA: durable here, need not be sent again
	faulty   ackCode = "E" // AE or CE: taken note of; the content is wrong and sending it again will not help
	refused  ackCode = "R" // AR or CR: not for this feed
)

// A wish is how the sender wants to be answered: MSH-15 and MSH-16. Both empty is original mode. HL7 v2.4 §2.9.2, §2.9.3
type wish struct {
	enhanced            bool
	accept, application string
}

func wishes(m *Message) wish {
	if m == nil {
		return wish{}
	}
	h := m.Header()
	w := wish{accept: strings.ToUpper(h.Field(15).Text()), application: strings.ToUpper(h.Field(16).Text())}
	w.enhanced = w.accept != "" || w.application != ""
	return w
}

// wants reads HL7 table 0155: always, never, on error or reject, on success.
func wants(condition string, code ackCode) bool {
	switch condition {
	case "AL":
		return true
	case "ER":
		return code != accepted
	case "SU":
		return code == accepted
	}
	return false
}

// codes are the MSA-1 codes of the acknowledgements to be sent, in order; none if the sender wants none.
func (w wish) codes(code ackCode, both bool) []string {
	if !w.enhanced {
		return []string{"A" + string(code)}
	}
	var out []string
	if wants(w.accept, code) {
		out = append(out, "C"+string(code))
	}
	if wants(w.application, code) && (both || w.accept == "" || w.accept == "NE") {
		out = append(out, "A"+string(code))
	}
	return out
}

// acknowledge writes an ACK to a message; m is nil if its header could not be read. issue says what is wrong, as a code and a place only: its
// text is this program's own and holds nothing of the message. HL7 v2.4 §2.14.1
//
// notes are faults in a message that was taken all the same, such as an NHS number whose check digit is wrong: the sender is told of the first in
// MSA-3 and, from v2.5 where ERR has a severity, of each as a warning.
func acknowledge(m *Message, msa1 string, issue *fhir.Issue, now time.Time, notes ...*fhir.Issue) []byte {
	var h Segment
	version, control, trigger, charset := "2.4", "", "", ""
	if m != nil {
		h = m.Header()
		if v := h.Field(12).Comp(1).Text(); slices.Contains(versions, v) {
			version = v
		}
		_, trigger, control = m.Type()
		charset = h.Field(18).Comp(1).Text()
		if strings.Contains(charset, "16") {
			charset = ""
		}
	}
	kind := Comp("ACK")
	if trigger != "" {
		kind = Comp("ACK", trigger)
		if version > "2.3.1" { // the message structure came with v2.3.1
			kind = Comp("ACK", trigger, "ACK")
		}
	}
	processing := h.Field(11).Text()
	if processing == "" {
		processing = "P"
	}
	var e Encoder
	e.Segment("MSH", Fields{
		3: hd(h.Field(5)), 4: hd(h.Field(6)), 5: hd(h.Field(3)), 6: hd(h.Field(4)), 7: now.Format("20060102150405-0700"),
		9: kind, 10: "A" + hash(msa1, control, now.Format(time.RFC3339Nano)), 11: processing, 12: version, 18: charset,
	})
	msa := Fields{1: msa1, 2: control}
	switch {
	case issue != nil:
		msa[3] = clip(issue.Error())
	case len(notes) > 0:
		msa[3] = clip("Taken, but: " + notes[0].Error())
	}
	e.Segment("MSA", msa)
	if issue != nil {
		e.Segment("ERR", errFields(issue, version))
	} else if version >= "2.5" {
		for _, n := range notes[:min(len(notes), 10)] {
			f := errFields(n, version)
			f[4] = "W" // HL7 table 0516
			e.Segment("ERR", f)
		}
	}
	return e.Bytes()
}

// faultsTaken are the issues of deliveries that are the sender's to mend, though the message was taken.
func faultsTaken(made []connector.Delivery) []*fhir.Issue {
	var out []*fhir.Issue
	for _, d := range made {
		for _, i := range d.Issues {
			switch i.Type {
			case fhir.ValueError, fhir.Invalid, fhir.CodeInvalid, fhir.Structure, fhir.Required:
				out = append(out, i)
			}
		}
	}
	return out
}

func hd(v Value) Part { return Comp(v.Comp(1).Text(), v.Comp(2).Text(), v.Comp(3).Text()) }

func clip(s string) string {
	if len(s) > 80 { // MSA-3 is ST of 80 in v2.4
		return strings.ToValidUTF8(s[:77], "") + "..."
	}
	return s
}

// errFields: up to v2.4 ERR-1 holds place and code; from v2.5 they have fields of their own. HL7 v2.4 §2.16.5, v2.5 §2.15.5
func errFields(issue *fhir.Issue, version string) Fields {
	segment, sequence, field := splitPlace(issue.Expression)
	code, words := errorCode(issue)
	if version < "2.5" {
		return Fields{1: Comp(segment, sequence, field, Sub(code, words, "HL70357"))}
	}
	return Fields{2: Comp(segment, sequence, field), 3: Comp(code, words, "HL70357"), 4: "E", 8: clip(issue.Text)}
}

// splitPlace takes "OBX[3]-5" apart into segment, its number and field.
func splitPlace(s string) (segment, sequence, field string) {
	segment, field, _ = strings.Cut(s, "-")
	field, _, _ = strings.Cut(field, ".")
	if name, n, ok := strings.Cut(segment, "["); ok {
		segment, sequence = name, strings.TrimSuffix(n, "]")
	} else if segment != "" {
		sequence = "1"
	}
	if len(segment) != 3 {
		return "", "", ""
	}
	return segment, sequence, field
}

// errorCode is an issue's type in HL7 table 0357.
func errorCode(issue *fhir.Issue) (code, words string) {
	if issue.Type == fhir.NotSupported {
		switch issue.Expression {
		case "MSH-9":
			return "200", "Unsupported message type"
		case "MSH-9.2":
			return "201", "Unsupported event code"
		case "MSH-11":
			return "202", "Unsupported processing id"
		case "MSH-12":
			return "203", "Unsupported version id"
		}
	}
	switch issue.Type {
	case fhir.Structure:
		return "100", "Segment sequence error"
	case fhir.Required:
		return "101", "Required field missing"
	case fhir.ValueError, fhir.TooLong, fhir.Invalid:
		return "102", "Data type error"
	case fhir.CodeInvalid:
		return "103", "Table value not found"
	case fhir.NotFound:
		return "204", "Unknown key identifier"
	case fhir.Duplicate:
		return "205", "Duplicate key identifier"
	}
	return "207", "Application internal error"
}

// codeFor is how a fault is answered: what is not for this feed is refused, what is wrong is an error.
func codeFor(issue *fhir.Issue) ackCode {
	switch {
	case issue == nil:
		return accepted
	case issue.Type == fhir.NotSupported && strings.HasPrefix(issue.Expression, "MSH-"):
		return refused
	}
	return faulty
}

// transient reports whether a door's error promises nothing, so that the sender must send again. An error that is none of ours is not the
// sender's fault either.
func transient(err error) bool {
	issue := fhir.IssueOf(err)
	if issue == nil {
		return err != nil
	}
	switch issue.Type {
	case fhir.Transient, fhir.NoStore, fhir.Timeout, fhir.Throttled:
		return true
	}
	return false
}

// rejected is a delivery of which nothing could be made: kept with the reason.
func rejected(m *Message, raw []byte, o Options, issue *fhir.Issue) connector.Delivery {
	d := connector.Delivery{Source: o.Source, Unique: true, ContentType: MediaType, Raw: raw, Rejected: issue}
	if m != nil {
		d.ID = deliveryID(m, 0)
	}
	return d
}
