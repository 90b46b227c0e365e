package web

import (
	"cmp"
	"encoding/json"
	"maps"
	"net/http"
	"net/url"
	"slices"
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
	Host       string   // where the answer goes, "" if that is no address of the web
	Gets       []string // what it could do, in words
	Learns     []string // what it would learn of the user
	Lasts      string   // for how long
	Long       bool     // that is for more than minutes
	Name, Born string   // whose record it is about, where that is settled and is not the user's own
	Want       bool     // the user must say whose record
	Find       findForm
	Error      string
}

// entryWords are types of entries as people speak of them.
var entryWords = map[string]string{"Observation": "results and measurements", "Condition": "conditions", "AllergyIntolerance": "allergies", "MedicationRequest": "prescriptions", "MedicationStatement": "medicines",
	"DocumentReference": "documents", "Immunization": "vaccinations", "Encounter": "visits", "Appointment": "appointments", "Procedure": "procedures", "DiagnosticReport": "test reports", "CarePlan": "care plans",
	"Patient": "names, numbers and addresses", "Practitioner": "who gives care", "Organization": "which services give care", "ServiceRequest": "referrals and requests", "Consent": "choices about sharing"}

// narrowed says of a scope's search parameters what they narrow it to, in the order of their names.
func narrowed(filter url.Values) string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(filter)) {
		var values []string
		for _, v := range filter[name] {
			for one := range strings.SplitSeq(v, ",") {
				if i := strings.LastIndexByte(one, '|'); i >= 0 {
					one = one[i+1:]
				}
				values = append(values, "“"+one+"”")
			}
		}
		out = append(out, strings.ReplaceAll(name, "-", " ")+" is "+strings.Join(values, " or "))
	}
	return strings.Join(out, ", and whose ")
}

// learns says in words what an application would learn of the user.
func learns(set scope.Set, own bool) []string {
	var out []string
	if set.Has("openid") {
		out = append(out, "that you have signed in here")
	}
	switch {
	case !set.Has("profile") && !set.Has("fhirUser"):
	case own:
		out = append(out, "your name")
	default:
		out = append(out, "your name and role")
	}
	return out
}

// lasts says in words for how long an application would be let in.
func lasts(set scope.Set) string {
	switch {
	case set.Has("offline_access"):
		return "For 30 days, also while you are not using it."
	case set.Has("online_access"):
		return "Until 12 hours after you signed in here."
	}
	return "For ten minutes. Then it has to ask you again."
}

// gets says in words what an application could do. own is whether it is the user's own record.
func gets(set scope.Set, own bool) []string {
	var out []string
	for _, d := range set.Data {
		what, whose := "everything", "in one person's record"
		if d.Type != "*" {
			what = cmp.Or(entryWords[d.Type], d.Type+" entries")
		}
		switch {
		case own:
			whose = "in your record"
		case d.Level == scope.User:
			whose = "in any record that you may open"
		}
		if len(d.Filter) > 0 {
			whose += ", but only those whose " + narrowed(d.Filter)
		}
		var verbs []string
		for _, v := range []struct {
			can  scope.Can
			word string
		}{{scope.Read | scope.Search, "read"}, {scope.Create, "add"}, {scope.Update, "change"}, {scope.Delete, "delete"}} {
			if d.Can&v.can != 0 {
				verbs = append(verbs, v.word)
			}
		}
		if len(verbs) > 0 {
			out = append(out, sayList(verbs)+" "+what+" "+whose)
		}
	}
	return out
}

// authorize has the authorisation server take an application's request. A refusal that cannot be told to the application, since who that is or where it is is what is wrong, is
// told to the user, on a page. RFC 6749 §4.1.2.1
func (s *Site) authorize(w http.ResponseWriter, r *http.Request, session *access.Session) error {
	if !strings.Contains(r.Header.Get("Accept"), "text/html") {
		s.opts.Apps.ServeHTTP(w, r)
		return nil
	}
	held := &heldRefusal{ResponseWriter: w}
	s.opts.Apps.ServeHTTP(held, r)
	if held.code == 0 {
		return nil
	}
	var why struct {
		Description string `json:"error_description"`
	}
	_ = json.Unmarshal(held.body, &why)
	p := problem{Heading: "That application was not let in", Detail: sentence(why.Description),
		Text: "You were sent here by an application, or by a link, that asked for something in a way that this service does not take. Nothing was sent to it. If you were using an application that you trust, go back to it and try again; if it goes on, tell those who run it."}
	return s.show(w, held.code, "problem", s.newLayout(r, session, p.Heading, p))
}

// A heldRefusal keeps an answer that is a refusal back, to be told in other words, and passes every other on.
type heldRefusal struct {
	http.ResponseWriter
	code int
	body []byte
}

// WriteHeader is the ResponseWriter's.
func (h *heldRefusal) WriteHeader(code int) {
	if code >= http.StatusBadRequest {
		h.code = code
		return
	}
	h.ResponseWriter.WriteHeader(code)
}

// Write is the ResponseWriter's.
func (h *heldRefusal) Write(p []byte) (int, error) {
	if h.code == 0 {
		return h.ResponseWriter.Write(p)
	}
	if len(h.body) < 4<<10 {
		h.body = append(h.body, p...)
	}
	return len(p), nil
}

// requestOver is shown for a request of an application's that is over, or never was, or is somebody else's: the same for all.
var requestOver = problem{Heading: "This request is over",
	Text: "You have answered it already, or more than ten minutes have passed. The application has been sent nothing now. Go back to it and begin again there."}

func (s *Site) consentPage(w http.ResponseWriter, r *http.Request, session *access.Session) error {
	return s.askConsent(w, r, session, http.StatusOK, consentPage{Find: findForm{System: fhir.SystemNHSNumber}})
}

func (s *Site) askConsent(w http.ResponseWriter, r *http.Request, session *access.Session, status int, p consentPage) error {
	q, err := s.opts.Apps.Pending(r.Context(), session, r.PathValue("id"))
	if fhir.Is(err, fhir.Login) {
		return s.askSignIn(w, r, session, http.StatusUnauthorized, signInForm{Next: oauth.PathConsent + r.PathValue("id"), Error: sentence(fhir.IssueOf(err).Text)})
	}
	if fhir.Is(err, fhir.NotFound) {
		return s.show(w, http.StatusNotFound, "problem", s.newLayout(r, session, requestOver.Heading, requestOver))
	}
	if err != nil {
		return err
	}
	own := session.Role == policy.Citizen
	p.ID, p.Client, p.Gets, p.Learns, p.Lasts, p.Want = q.ID, q.Client, gets(q.Scopes, own), learns(q.Scopes, own), lasts(q.Scopes), q.WantPatient
	p.Long = q.Scopes.Has("offline_access") || q.Scopes.Has("online_access")
	p.Host = strings.TrimPrefix(strings.TrimPrefix(q.Origin, "https://"), "http://")
	if q.Patient != "" && !own { // whoever says yes must know about whom
		who, err := s.opts.Records.Who(r.Context(), session, q.Patient)
		if err != nil {
			return err
		}
		p.Name, p.Born = who.Name.Formal(), sayDate(who.BirthDate)
	}
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
	if fhir.Is(err, fhir.NotFound) {
		return s.show(w, http.StatusNotFound, "problem", s.newLayout(r, session, requestOver.Heading, requestOver))
	}
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
