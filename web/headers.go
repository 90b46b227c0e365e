package web

import (
	"net/http"
	"strings"

	"tombolo/access"
	"tombolo/access/launch"
	"tombolo/fhir"
)

// A page answers one request for one session (nil where nobody is signed in). What it returns as an error becomes a page by
// fail; it must not have written anything then.
type page func(w http.ResponseWriter, r *http.Request, s *access.Session) error

var errNotFound = fhir.Errorf(fhir.NotFound, "there is no such page")

// open serves a page to anybody, with their session if they have one.
func (s *Site) open(h page) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		session, err := s.opts.Access.Session(r)
		if err != nil && !fhir.Is(err, fhir.Login) {
			s.fail(w, r, nil, err)
			return
		}
		if session != nil && session.Client != "" {
			session = nil // what an application was given is for the API, where its scopes are kept to
		}
		if err := h(w, r, session); err != nil {
			s.fail(w, r, session, err)
		}
	})
}

// signed serves a page to whoever is signed in and sends everybody else to sign in.
func (s *Site) signed(h page) http.Handler {
	return s.open(func(w http.ResponseWriter, r *http.Request, session *access.Session) error {
		if session == nil {
			if r.Method != http.MethodGet && r.Method != http.MethodHead {
				return fhir.Errorf(fhir.Login, "the session has ended: sign in again")
			}
			to := "/sign-in"
			if next := r.URL.Path; localPath(next) {
				to += "?next=" + urlQuery(next)
			}
			http.Redirect(w, r, to, http.StatusSeeOther)
			return nil
		}
		return h(w, r, session)
	})
}

// protect puts the headers of every answer in place and refuses forms posted from another site.
func (s *Site) protect(next http.Handler) http.Handler {
	ancestors := "'none'"
	if len(s.opts.FrameAncestors) > 0 {
		ancestors = strings.Join(s.opts.FrameAncestors, " ")
	}
	csp := "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; " +
		"base-uri 'none'; frame-ancestors " + ancestors
	safe := http.NewCrossOriginProtection()
	safe.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.fail(w, r, nil, fhir.Errorf(fhir.Forbidden, "this form was sent from another site, and was not taken"))
	}))
	safe.AddInsecureBypassPattern("POST /launch") // comes from other systems' pages, and proves itself
	safe.AddInsecureBypassPattern("POST " + launch.PathPointer + "{pointer}")
	guarded := safe.Handler(next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", csp)
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Cache-Control", "no-store") // a record must not stay behind in a shared computer's cache
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=()")
		if len(s.opts.FrameAncestors) == 0 {
			h.Set("X-Frame-Options", "DENY")
		}
		r.Body = http.MaxBytesReader(w, r.Body, 64<<10) // the forms here are a few short fields
		guarded.ServeHTTP(w, r)
	})
}

// localPath reports whether p may be redirected to: a path of this site and nothing that a browser reads as another host.
func localPath(p string) bool {
	return strings.HasPrefix(p, "/") && !strings.HasPrefix(p, "//") && !strings.ContainsAny(p, "\\\r\n\t") && !strings.HasPrefix(p, "/sign-")
}
