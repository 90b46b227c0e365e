package web

import (
	"net/http"
	"strings"

	"tombolo/access"
	"tombolo/fhir"
)

// A signInForm is the way in at a small site and in the demo: choose who you are, or give an access token.
type signInForm struct {
	Demo  bool
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
