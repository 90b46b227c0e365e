package web

import (
	"net/http"
	"strings"

	"tombolo/access"
	"tombolo/access/provider"
	"tombolo/fhir"
)

// A signInForm is the way in at a small site and in the demo: choose who you are, or give an access token.
type signInForm struct {
	Demo  bool
	With  []*provider.Provider // where people may sign in who are known elsewhere
	Users []signInUser
	Next  string
	Error string
}

type signInUser struct{ ID, Name, Role, Organisation string }

func (s *Site) signInPage(w http.ResponseWriter, r *http.Request, session *access.Session) error {
	next := r.FormValue("next")
	if !localPath(next) {
		next = ""
	}
	return s.askSignIn(w, r, session, http.StatusOK, signInForm{Next: next})
}

func (s *Site) askSignIn(w http.ResponseWriter, r *http.Request, session *access.Session, status int, f signInForm) error {
	f.Demo = s.opts.Access.Demo()
	if s.opts.SignIns != nil {
		f.With = s.opts.SignIns.List()
	}
	if f.Demo {
		for _, u := range s.opts.Access.Users() {
			card := signInUser{ID: u.ID, Name: u.Name}
			if as, err := s.opts.Access.As(u.ID); err == nil {
				card.Role, card.Organisation = as.RoleName, as.OrganisationName
			}
			f.Users = append(f.Users, card)
		}
	}
	title := "Sign in"
	if f.Error != "" {
		title = "Error: " + title
	}
	return s.show(w, status, "signin", s.newLayout(r, session, title, f))
}

// signIn takes the form. What was wrong with it is not told apart, and a session that was open before ends.
func (s *Site) signIn(w http.ResponseWriter, r *http.Request, session *access.Session) error {
	f := signInForm{Next: r.PostFormValue("next")}
	if !localPath(f.Next) {
		f.Next = "/"
	}
	if session != nil {
		s.viewings.forget(session)
	}
	s.opts.Access.SignOut(discardCookies{w}, r)
	as, err := s.opts.Access.SignIn(w, r, r.PostFormValue("user"), strings.TrimSpace(r.PostFormValue("token")))
	if fhir.Is(err, fhir.Login) {
		f.Error = "That user or access token is not known here"
		return s.askSignIn(w, r, nil, http.StatusUnauthorized, f)
	}
	if err == nil {
		err = s.opts.Access.Entered(r.Context(), as, "sign-in page")
	}
	if err != nil {
		s.opts.Access.SignOut(w, r)
		return err
	}
	if f.Next == "/" {
		f.Next = s.firstPage(as)
	}
	http.Redirect(w, r, f.Next, http.StatusSeeOther)
	return nil
}

// firstPage is where a user's work is.
func (s *Site) firstPage(as *access.Session) string {
	if links := s.links(as, ""); len(links) > 0 {
		return links[0].Href
	}
	return "/"
}

func (s *Site) signOut(w http.ResponseWriter, r *http.Request, session *access.Session) error {
	if session != nil {
		s.viewings.forget(session)
		if err := s.opts.Access.Left(r.Context(), session); err != nil {
			return err
		}
	}
	s.opts.Access.SignOut(w, r)
	h := w.Header()
	h.Set("Clear-Site-Data", `"cache", "storage"`) // nothing of a record stays on a shared computer
	http.Redirect(w, r, "/sign-in", http.StatusSeeOther)
	return nil
}

// discardCookies lets an old session be ended without a cookie that would contradict the new one's.
type discardCookies struct{ http.ResponseWriter }

// Header is a header that nobody sends.
func (discardCookies) Header() http.Header { return http.Header{} }

// attemptCookie is the secret of a browser that has been sent to sign in elsewhere.
const attemptCookie = "tombolo-signing-in"

// setAttempt has the browser keep the secret for as many seconds, and show it under one path only; below 0 it forgets it.
func (s *Site) setAttempt(w http.ResponseWriter, secret, path string, seconds int) {
	http.SetCookie(w, &http.Cookie{Name: attemptCookie, Value: secret, Path: path, MaxAge: seconds, HttpOnly: true, Secure: s.opts.Access.Secure(), SameSite: http.SameSiteLaxMode})
}

// attemptOf is the secret that the browser has kept, "" if it has none.
func attemptOf(r *http.Request) string {
	c, err := r.Cookie(attemptCookie)
	if err != nil {
		return ""
	}
	return c.Value
}

// signInWith sends somebody to an identity provider.
func (s *Site) signInWith(w http.ResponseWriter, r *http.Request, _ *access.Session) error {
	next := r.FormValue("next")
	if !localPath(next) {
		next = "/"
	}
	to, browser, err := s.opts.SignIns.Start(r.Context(), s.opts.Access, r.PathValue("provider"), next)
	if err != nil {
		return err
	}
	s.setAttempt(w, browser, "/sign-in", 600)
	http.Redirect(w, r, to, http.StatusSeeOther)
	return nil
}

// signedInElsewhere takes somebody back from an identity provider.
func (s *Site) signedInElsewhere(w http.ResponseWriter, r *http.Request, session *access.Session) error {
	q := r.URL.Query()
	device, address := access.From(r)
	who, next, err := s.opts.SignIns.Return(r.Context(), s.opts.Access, q.Get("state"), q.Get("code"), q.Get("iss"), attemptOf(r), device, address)
	if fhir.Is(err, fhir.Login) {
		return s.askSignIn(w, r, session, http.StatusUnauthorized, signInForm{Error: sentence(fhir.IssueOf(err).Text)})
	}
	if err != nil {
		return err
	}
	if session != nil {
		s.viewings.forget(session)
	}
	s.setAttempt(w, "", "/sign-in", -1)
	return s.enter(w, r, who, "", "identity provider "+who.Provider, next)
}

// enter begins a session, audits it and goes on to a page.
func (s *Site) enter(w http.ResponseWriter, r *http.Request, who access.Principal, locked, how, next string) error {
	as, err := s.opts.Access.Begin(w, r, who, locked)
	if err == nil {
		err = s.opts.Access.Entered(r.Context(), as, how)
	}
	if err != nil {
		s.opts.Access.SignOut(w, r)
		return err
	}
	if !localPath(next) || next == "/" {
		next = s.firstPage(as)
	}
	http.Redirect(w, r, next, http.StatusSeeOther)
	return nil
}
