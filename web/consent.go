package web

import (
	"net/http"
	"strings"

	"tombolo/access"
	"tombolo/access/oauth"
	"tombolo/fhir"
	"tombolo/policy"
	"tombolo/region"
	"tombolo/search/scope"
)

// A consentPage asks the user whether an application may act for them.
type consentPage struct {
	ID, Client string
	Gets       []string // what it would get, in words
	Want       bool     // the user must say whose record
	Find       findForm
	Error      string
}

// gets says in words what an application would get.
func gets(set scope.Set) []string {
	var out []string
	for _, w := range set.Words {
		switch w {
		case "openid":
			out = append(out, "know that you have signed in here")
		case "profile", "fhirUser":
			if say := "know your name and role"; len(out) == 0 || out[len(out)-1] != say {
				out = append(out, say)
			}
		case "offline_access":
			out = append(out, "go on for 30 days, also when you are not there")
		case "online_access":
			out = append(out, "go on until your working day ends")
		}
	}
	for _, d := range set.Data {
		what, whose := "everything", "in one person's record"
		if d.Type != "*" {
			what = d.Type + " entries"
		}
		if len(d.Filter) > 0 {
			what += " (" + d.Filter.Encode() + ")"
		}
		if d.Level == scope.User {
			whose = "in any record that you may open"
		}
		if d.Can&(scope.Read|scope.Search) != 0 {
			out = append(out, "read "+what+" "+whose)
		}
		if d.Can&(scope.Create|scope.Update|scope.Delete) != 0 {
			out = append(out, "write "+what+" "+whose)
		}
	}
	return out
}

func (s *Site) consentPage(w http.ResponseWriter, r *http.Request, session *access.Session) error {
	return s.askConsent(w, r, session, http.StatusOK, consentPage{Find: findForm{System: fhir.SystemNHSNumber}})
}

func (s *Site) askConsent(w http.ResponseWriter, r *http.Request, session *access.Session, status int, p consentPage) error {
	q, err := s.opts.Apps.Pending(r.Context(), session, r.PathValue("id"))
	if fhir.Is(err, fhir.Login) {
		return s.askSignIn(w, r, session, http.StatusUnauthorized, signInForm{Next: oauth.PathConsent + r.PathValue("id"), Error: sentence(fhir.IssueOf(err).Text)})
	}
	if err != nil {
		return err
	}
	p.ID, p.Client, p.Gets, p.Want = q.ID, q.Client, gets(q.Scopes), q.WantPatient
	p.Find.Kinds = nationalNumbers
	title := "Let " + q.Client + " in?"
	if p.Error != "" {
		title = "Error: " + title
	}
	s.lettingBack(w, q)
	return s.show(w, status, "consent", s.newLayout(r, session, title, p))
}

// lettingBack lets the form's answer be a redirect to the application: browsers hold the whole chain of a form to form-action.
func (s *Site) lettingBack(w http.ResponseWriter, q oauth.Pending) {
	to := q.Origin
	if to == "" {
		to, _, _ = strings.Cut(q.Redirect, ":")
		to += ":"
	}
	h := w.Header()
	h.Set("Content-Security-Policy", strings.Replace(h.Get("Content-Security-Policy"), "form-action 'self'", "form-action 'self' "+to, 1))
}

// consent takes the user's answer, and sends them back to the application.
func (s *Site) consent(w http.ResponseWriter, r *http.Request, session *access.Session) error {
	q, err := s.opts.Apps.Pending(r.Context(), session, r.PathValue("id"))
	if err != nil {
		return err
	}
	allow, person := r.PostFormValue("answer") == "allow", ""
	switch {
	case !allow:
	case session.Role == policy.Citizen:
		if person, err = s.myself(r.Context(), session); err != nil {
			return err
		}
	case q.WantPatient:
		p := consentPage{Find: findForm{System: r.PostFormValue("system"), Value: strings.TrimSpace(r.PostFormValue("value"))}}
		person, err = s.opts.Records.Find(r.Context(), session, fhir.Identifier{System: p.Find.System, Value: p.Find.Value}.Canonical())
		if fhir.Is(err, fhir.NotFound) || fhir.Is(err, fhir.Suppressed) {
			p.Error = "No record was found with that number that you can open."
			return s.askConsent(w, r, session, http.StatusNotFound, p)
		}
		if i := fhir.IssueOf(err); i != nil && (i.Type == fhir.ValueError || i.Type == fhir.Required || i.Type == fhir.Invalid) {
			p.Error = sentence(i.Text)
			return s.askConsent(w, r, session, http.StatusBadRequest, p)
		}
		if err != nil {
			return err
		}
	}
	to, err := s.opts.Apps.Answer(r.Context(), session, r.PathValue("id"), person, allow)
	if err != nil {
		return err
	}
	s.lettingBack(w, q)
	http.Redirect(w, r, to, http.StatusSeeOther)
	return nil
}

// apps are the applications that may be started from a record; the page's policy lets their buttons lead to them.
func (s *Site) apps(w http.ResponseWriter, session *access.Session) []region.Client {
	if s.opts.Apps == nil || session.Dev {
		return nil
	}
	out := s.opts.Apps.Launchable()
	for _, c := range out {
		s.lettingBack(w, oauth.Pending{Origin: origin(c.Launch)})
	}
	return out
}

// startApp starts an application in the context of the record that is open.
func (s *Site) startApp(w http.ResponseWriter, r *http.Request, session *access.Session) error {
	person := r.PathValue("person")
	if !session.Opens(person) {
		return errNotFound
	}
	to, err := s.opts.Apps.StartLaunch(r.Context(), session, r.PostFormValue("app"), person)
	if err != nil {
		return err
	}
	s.lettingBack(w, oauth.Pending{Origin: origin(to)})
	http.Redirect(w, r, to, http.StatusSeeOther)
	return nil
}

func origin(address string) string {
	scheme, rest, _ := strings.Cut(address, "://")
	host, _, _ := strings.Cut(rest, "/")
	host, _, _ = strings.Cut(host, "?")
	return scheme + "://" + host
}
