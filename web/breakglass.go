package web

import (
	"net/http"
	"slices"
	"strings"

	"tombolo/access"
	"tombolo/dataset"
	"tombolo/fhir"
	"tombolo/policy"
)

// glassPhrase is what must be typed, so that no reflex opens a record against an objection.
const glassPhrase = "OPEN"

// The reasons for which a record may be opened against an objection. NHS Digital SCR-AlertReason
var glassReasons = []pair{
	{"emergency", "Emergency: the person cannot be asked and needs care now"},
	{"public-interest", "Overriding public interest"},
	{"statute", "Required by law (statute)"},
	{"court-order", "Court order"},
	{"claim-emergency", "They are in my care, in an emergency, and no system knows it yet"},
	{"permission", "They are in my care, and have given me permission (say below)"},
}

// glassAlerts are the reasons as the alert to the privacy officer has them. No pair that is forbidden can be chosen.
var glassAlerts = map[string]policy.Glass{
	"emergency": {Type: policy.AccessAlert, Reason: policy.EmergencyReason}, "public-interest": {Type: policy.AccessAlert, Reason: policy.PublicInterest},
	"statute": {Type: policy.AccessAlert, Reason: policy.Statute}, "court-order": {Type: policy.AccessAlert, Reason: policy.CourtOrder},
	"claim-emergency": {Type: policy.SelfClaim, Reason: policy.SelfClaimEmergency}, "permission": {Type: policy.SelfClaim, Reason: policy.OtherPermission},
}

// glassScopes are how much is opened: no more than is needed.
var glassScopes = []pair{
	{"urgent", "What is needed at once: warnings, allergies, medicines, problems, wishes about treatment"},
	{"all", "All that my role may see"},
}

var urgent = []dataset.Heading{dataset.Demographics, dataset.Alerts, dataset.Allergies, dataset.Medications, dataset.Problems, dataset.EndOfLife, dataset.Legal, dataset.Safeguarding}

// A glassForm is the break-glass form, as it stands or as it came back.
type glassForm struct {
	System  string
	Value   string
	Reasons []pair
	Reason  string
	Scopes  []pair
	Scope   string
	Words   string
	Errors  []pair // element id, what is wrong
}

func (s *Site) askGlass(w http.ResponseWriter, r *http.Request, session *access.Session, f glassForm) error {
	f.Reasons, f.Scopes = glassReasons, glassScopes
	return s.show(w, http.StatusBadRequest, "breakglass", s.newLayout(r, session, "Error: Open in an emergency", f))
}

// breakGlass takes the form. It is offered whenever a number was not found, whether or not there is anything behind it, so the offer
// tells nothing; for roles that may not, the address is not there.
func (s *Site) breakGlass(w http.ResponseWriter, r *http.Request, session *access.Session) error {
	if done, err := s.elsewhere(w, r, session, ""); done || err != nil {
		return err
	}
	if !session.MayBreakGlass() {
		return errNotFound
	}
	if session.Stale() {
		return s.askSignIn(w, r, session, http.StatusUnauthorized, signInForm{Next: "/record", Error: "Sign in again first: a record is opened in an emergency only by somebody who has just said who they are"})
	}
	f := glassForm{System: r.PostFormValue("system"), Value: strings.TrimSpace(r.PostFormValue("value")), Reason: r.PostFormValue("reason"), Scope: r.PostFormValue("scope"), Words: strings.TrimSpace(r.PostFormValue("words"))}
	i := slices.IndexFunc(glassReasons, func(p pair) bool { return p.Label == f.Reason })
	if i < 0 {
		f.Errors = append(f.Errors, pair{"reason-0", "Choose a reason"})
	}
	if !slices.ContainsFunc(glassScopes, func(p pair) bool { return p.Label == f.Scope }) {
		f.Errors = append(f.Errors, pair{"scope-0", "Choose how much to open"})
	}
	if len(f.Words) < 10 {
		f.Errors = append(f.Errors, pair{"words", "Say in a few words what has happened"})
	}
	if strings.TrimSpace(r.PostFormValue("confirm")) != glassPhrase {
		f.Errors = append(f.Errors, pair{"confirm", "Type " + glassPhrase + " to confirm"})
	}
	if len(f.Errors) > 0 {
		return s.askGlass(w, r, session, f)
	}
	g := glassAlerts[f.Reason]
	g.Words, g.From = f.Reason+": "+f.Words, s.opts.Now()
	g.Until = g.From.Add(policy.MaxGlass)
	if f.Scope == "urgent" {
		g.Headings = urgent
	}
	person, err := s.opts.Records.FindInEmergency(r.Context(), session, fhir.Identifier{System: f.System, Value: f.Value}, g)
	if fhir.Is(err, fhir.NotFound) {
		return s.askWho(w, r, session, http.StatusNotFound, findForm{System: f.System, Value: f.Value, Error: "No record was found with that number, not even for an emergency."})
	}
	if err != nil {
		return err
	}
	if _, err := s.opts.Access.BreakGlass(r.Context(), session, person, g); err != nil {
		return err
	}
	// Opened anew, so that the opening that follows carries the emergency in its audit entry.
	http.Redirect(w, r, "/record/"+person, http.StatusSeeOther)
	return nil
}

// Error is what is wrong with the element of that id, "" if nothing.
func (f glassForm) Error(id string) string {
	for _, e := range f.Errors {
		if e.Label == id {
			return e.Text
		}
	}
	return ""
}
