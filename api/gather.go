package api

import (
	"net/http"
	"strings"
	"time"

	"tombolo/access"
	"tombolo/dataset"
	"tombolo/fhir"
	"tombolo/gather"
	"tombolo/policy"
)

// everything is Patient/$everything: the joined record of one person. FHIR R4 patient-operation-everything.html
func (s *server) everything(w http.ResponseWriter, r *http.Request, session *access.Session) error {
	v, explain := r.URL.Query(), false
	if asked := v.Get("explain"); v.Has("explain") && s.o.Gather.MayExplain(session) { // to others there is no such parameter
		if explain = asked == "true"; !explain && asked != "false" {
			return fhir.Errorf(fhir.ValueError, "true or false").At("explain")
		}
		v.Del("explain")
	}
	e, err := everythingSpan(v)
	if err != nil {
		return err
	}
	rec, err := s.o.Gather.Record(r.Context(), session, r.PathValue("id"), gather.Ask{Query: "$everything " + strings.Join(e.types, ",") + explained(explain), Explain: explain})
	if err != nil {
		return err
	}
	return s.everythingJoined(w, r, rec, e)
}

// explained marks in the audit log that the plan was shown too.
func explained(yes bool) string {
	if yes {
		return " explain"
	}
	return ""
}

// A gatherRequest is what $gather takes: identifier (Identifier, or "system|value", or ten digits of an NHS number), any
// number of heading, purpose (v3-PurposeOfUse code or this program's word), and reason to open a record in an emergency.
type gatherRequest struct {
	identifier fhir.Identifier
	headings   []dataset.Heading
	purpose    policy.Purpose
	reason     string
	alert      policy.AlertType // SCR-AlertType and SCR-AlertReason of an emergency; an access alert in an emergency if not given
	why        policy.AlertReason
	explain    bool
}

// parseGather reads the parameters. explain is known to those only who may have a plan explained.
func parseGather(params fhir.Value, explains bool) (q gatherRequest, err error) {
	for p := range params.All("parameter") {
		name := p.Text("name")
		switch name {
		case "identifier":
			if q.identifier.Value != "" {
				return q, fhir.Errorf(fhir.Invalid, "one person at a time: give one identifier").At("identifier")
			}
			if v := p.Get("valueIdentifier"); v.Exists() {
				if v.Decode(&q.identifier) != nil {
					return q, fhir.Errorf(fhir.Structure, "an Identifier is an object with system and value").At("identifier.valueIdentifier")
				}
			} else {
				q.identifier = readIdentifier(p.Text("valueString"))
			}
		case "heading":
			h := dataset.Heading(p.Text("valueCode") + p.Text("valueString"))
			if !h.Valid() {
				return q, fhir.Errorf(fhir.CodeInvalid, "%.60q is not a heading of the data set", string(h)).At("heading")
			}
			q.headings = append(q.headings, h)
		case "purpose":
			var ok bool
			if q.purpose, ok = policy.ParsePurpose(p.Text("valueCode") + p.Text("valueString") + p.Text("valueCoding.code")); !ok {
				return q, fhir.Errorf(fhir.CodeInvalid, "not a purpose: use TREAT, ETREAT, SAFETY, PATADMIN or PATRQT").At("purpose")
			}
		case "reason":
			if q.reason = p.Text("valueString"); len(q.reason) > 1000 {
				return q, fhir.Errorf(fhir.TooLong, "say the reason in at most 1000 characters").At("reason")
			}
		case "alertType":
			q.alert = policy.AlertType(p.Text("valueCode"))
		case "alertReason":
			q.why = policy.AlertReason(p.Text("valueCode"))
		case "explain":
			if explains {
				q.explain = p.Get("valueBoolean").Bool()
				break
			}
			fallthrough
		default:
			return q, fhir.Errorf(fhir.NotSupported, "$gather takes identifier, heading, purpose, reason, alertType and alertReason").At(name)
		}
		if err != nil {
			return q, err
		}
	}
	if q.identifier.Value == "" {
		return q, fhir.Errorf(fhir.Required, "say whose record: give an identifier").At("identifier")
	}
	return q, nil
}

// readIdentifier reads "system|value"; a bare number is an NHS number.
func readIdentifier(s string) fhir.Identifier {
	if system, value, ok := strings.Cut(s, "|"); ok {
		return fhir.Identifier{System: system, Value: value}.Canonical()
	}
	return fhir.Identifier{System: fhir.SystemNHSNumber, Value: s}.Canonical()
}

// gather is POST /fhir/$gather.
func (s *server) gather(w http.ResponseWriter, r *http.Request, session *access.Session) error {
	params, err := parameters(r)
	if err != nil {
		return err
	}
	q, err := parseGather(params, s.o.Gather.MayExplain(session))
	if err != nil {
		return err
	}
	if q.purpose != "" && session.Neighbour != "" && q.purpose != session.Purpose {
		return fhir.Errorf(fhir.Forbidden, "the assertion about your user is for another purpose than the question").At("purpose")
	}
	if q.purpose != "" {
		session = session.For(q.purpose)
	}
	if session.FromNeighbour() && session.Neighbour == "" { // a neighbour that does not sign: its own session, and whom it says it acts for only in the audit
		session = session.OnBehalf(r.Header.Get("Tombolo-On-Behalf-Of-User"), r.Header.Get("Tombolo-On-Behalf-Of-Role"), r.Header.Get("Tombolo-On-Behalf-Of-Organisation"))
	}
	personID, err := s.find(r, session, q)
	if err != nil {
		return err
	}
	if q.purpose == policy.Emergency && q.reason != "" {
		if session, err = session.InEmergency(personID, q.glass()); err != nil {
			return err
		}
	}
	rec, err := s.o.Gather.Record(r.Context(), session, personID, gather.Ask{
		Headings: q.headings, Query: "$gather" + explained(q.explain), Explain: q.explain})
	if err != nil {
		return err
	}
	write(w, r, http.StatusOK, rec.Bundle(s.base(r), s.base(r)+"/$gather"))
	return nil
}

// find resolves the identifier. In an emergency the record may be one that is shut to ordinary finding.
func (s *server) find(r *http.Request, session *access.Session, q gatherRequest) (string, error) {
	if q.purpose == policy.Emergency && q.reason != "" {
		return s.o.Gather.FindInEmergency(r.Context(), session, q.identifier, q.glass())
	}
	return s.o.Gather.Find(r.Context(), session, q.identifier)
}

// glass is the breaking of the glass that the request asks for: for the headings it names, and for this one request.
func (q gatherRequest) glass() policy.Glass {
	g := policy.Glass{Type: q.alert, Reason: q.why, Words: q.reason, Headings: q.headings, From: time.Now().Add(-time.Second)}
	if g.Type == "" && g.Reason == "" {
		g.Type, g.Reason = policy.AccessAlert, policy.EmergencyReason
	}
	g.Until = g.From.Add(time.Minute)
	return g
}
