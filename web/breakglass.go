package web

import (
	"net/http"
	"slices"
	"strings"

	"tombolo/access"
)

// glassPhrase is what must be typed, so that no reflex opens a record against an objection.
const glassPhrase = "OPEN"

// The reasons for which a record may be opened against an objection. NHS Digital SCR-AlertReason
var glassReasons = []pair{
	{"emergency", "Emergency: the person cannot be asked and needs care now"},
	{"public-interest", "Overriding public interest"},
	{"statute", "Required by law (statute)"},
	{"court-order", "Court order"},
	{"permission", "The person has given permission this time, or another reason (say below)"},
}

// A glassForm is the break-glass form, as it stands or as it came back.
type glassForm struct {
	Person  string
	Reasons []pair
	Reason  string
	Words   string
	Errors  []pair // element id, what is wrong
}

func (s *Site) askGlass(w http.ResponseWriter, r *http.Request, session *access.Session, f glassForm) error {
	f.Reasons = glassReasons
	title := "Open in an emergency?"
	if len(f.Errors) > 0 {
		title = "Error: " + title
	}
	return s.show(w, http.StatusForbidden, "breakglass", s.newLayout(r, session, title, f))
}

// breakGlass takes the form. That there is anything to break is asked of the core first: for anybody else the address is not there.
func (s *Site) breakGlass(w http.ResponseWriter, r *http.Request, session *access.Session) error {
	person := r.PathValue("person")
	if done, err := s.elsewhere(w, r, session, person); done || err != nil {
		return err
	}
	if !session.MayBreakGlass() {
		return errNotFound
	}
	f := glassForm{Person: person, Reason: r.PostFormValue("reason"), Words: strings.TrimSpace(r.PostFormValue("words"))}
	i := slices.IndexFunc(glassReasons, func(p pair) bool { return p.Label == f.Reason })
	if i < 0 {
		f.Errors = append(f.Errors, pair{"reason-0", "Choose a reason"})
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
	if _, err := s.opts.Access.BreakGlass(session, person, f.Reason+": "+f.Words); err != nil {
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
