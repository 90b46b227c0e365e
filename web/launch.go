package web

import (
	"cmp"
	"errors"
	"net/http"
	"time"

	"tombolo/access"
	"tombolo/access/launch"
	"tombolo/access/state"
	"tombolo/fhir"
)

// pendingFor is how long somebody who was launched may take to sign in.
const pendingFor = 10 * time.Minute

// The one page for a launch that was not taken, whatever was wrong with it. It leads nowhere: a launch that fails is no way to look for
// somebody else.
var launchRefused = problem{
	Heading: "The record could not be opened",
	Text:    "What was sent to open it was not accepted: it may have been used before, have run out, or not agree with the record. Go back to the system you came from and open it from there again. If it goes on, tell the service desk the time at which you saw this.",
}

// launchIn opens the record of the patient whom somebody has before them in another system.
func (s *Site) launchIn(w http.ResponseWriter, r *http.Request, session *access.Session) error {
	q := r.URL.Query()
	if launch.Plain(q) {
		return s.refuseLaunch(w, r, "", launch.ErrPlain)
	}
	if q.Has("iss") {
		return s.smartLaunch(w, r)
	}
	posted := r.Method == http.MethodPost
	if posted {
		if err := r.ParseForm(); err != nil || len(q) > 0 {
			return s.refuseLaunch(w, r, "", errors.New("the launch cannot be read"))
		}
		q = r.PostForm
	}
	l, err := s.opts.Launches.Read(r.Context(), q, posted)
	if err != nil {
		return s.refuseLaunch(w, r, "", err)
	}
	return s.launched(w, r, session, l)
}

// launched goes on with a launch that is believed: by the user whom it names, or by whoever signs in.
func (s *Site) launched(w http.ResponseWriter, r *http.Request, session *access.Session, l *launch.Launch) error {
	who, known, err := s.opts.Launches.User(l)
	if err != nil {
		return s.refuseLaunch(w, r, l.Launcher.ID, err)
	}
	if known {
		return s.openLaunched(w, r, who, l)
	}
	if session != nil && session.Client == "" && !session.Dev {
		return s.openFor(w, r, session, l)
	}
	id := access.Secret()
	if err := s.opts.Access.State().Put(r.Context(), state.Launch, id, l, s.opts.Now().Add(pendingFor)); err != nil {
		return err
	}
	http.Redirect(w, r, "/sign-in?next="+urlQuery("/launch/pending/"+id), http.StatusSeeOther)
	return nil
}

// pendingLaunch goes on with a launch once its user has signed in.
func (s *Site) pendingLaunch(w http.ResponseWriter, r *http.Request, session *access.Session) error {
	var l launch.Launch
	ok, err := s.opts.Access.State().Take(r.Context(), state.Launch, r.PathValue("id"), &l)
	if err != nil {
		return err
	}
	if !ok || l.Launcher.ID == "" {
		return s.refuseLaunch(w, r, "", errors.New("a launch that is not known, has expired or was used before"))
	}
	return s.openFor(w, r, session, &l)
}

func (s *Site) openFor(w http.ResponseWriter, r *http.Request, session *access.Session, l *launch.Launch) error {
	if session.Organisation != l.Launcher.Organisation {
		return s.refuseLaunch(w, r, l.Launcher.ID, errors.New("the user is of another organisation than the launching system"))
	}
	return s.openLaunched(w, r, session.Principal(), l)
}

// openLaunched opens the record, in a session that opens that one and no other. The date of birth that came with the launch must be the
// record's: a number alone may be a slip of the finger.
func (s *Site) openLaunched(w http.ResponseWriter, r *http.Request, who access.Principal, l *launch.Launch) error {
	as := s.opts.Access.SessionFor(who)
	as.Device, as.Address = access.From(r)
	person, err := s.opts.Records.Find(r.Context(), as, l.Patient)
	if fhir.Is(err, fhir.NotFound) || fhir.Is(err, fhir.Suppressed) || fhir.Is(err, fhir.Forbidden) {
		return s.refuseLaunch(w, r, l.Launcher.ID, errors.New("there is no record that the launching user may open"))
	}
	if err != nil {
		return err
	}
	p, err := s.opts.Records.Who(r.Context(), as, person)
	if err != nil {
		return err
	}
	if p.BirthDate != l.BirthDate {
		return s.refuseLaunch(w, r, l.Launcher.ID, launch.Meddled{Why: "the date of birth is not the record's"})
	}
	return s.enter(w, r, who, person, "launch from "+l.Launcher.ID, "/record/"+person)
}

// refuseLaunch audits why, and tells only that. Meddling is for the privacy officer too (package watch).
func (s *Site) refuseLaunch(w http.ResponseWriter, r *http.Request, launcher string, why error) error {
	device, address := access.From(r)
	var also []string
	if m, ok := errors.AsType[launch.Meddled](why); ok {
		launcher, also = cmp.Or(launcher, m.Launcher), []string{"alarm: launch"}
	}
	if err := s.opts.Access.Refused(r.Context(), device, address, "launcher "+launcher, "launch: "+why.Error(), also...); err != nil {
		return err
	}
	return s.show(w, http.StatusForbidden, "problem", layout{Title: launchRefused.Heading, Site: s.opts.Name, Body: launchRefused})
}

// smartLaunch begins a launch as SMART App Launch says: this is the application, and the launching system says whose record it is.
func (s *Site) smartLaunch(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	to, browser, err := s.opts.Launches.SMART(r.Context(), q.Get("iss"), q.Get("launch"))
	if err != nil {
		return s.refuseLaunch(w, r, "", err)
	}
	s.setAttempt(w, browser, "/launch", 300)
	http.Redirect(w, r, to, http.StatusSeeOther)
	return nil
}

// smartBack goes on when the launching system has sent its user back.
func (s *Site) smartBack(w http.ResponseWriter, r *http.Request, session *access.Session) error {
	q := r.URL.Query()
	l, err := s.opts.Launches.Back(r.Context(), q.Get("state"), q.Get("code"), q.Get("iss"), attemptOf(r))
	if err != nil {
		return s.refuseLaunch(w, r, "", err)
	}
	return s.launched(w, r, session, l)
}
