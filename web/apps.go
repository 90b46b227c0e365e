package web

import (
	"net/http"
	"strings"

	"tombolo/access"
	"tombolo/access/oauth"
	"tombolo/fhir"
	"tombolo/policy"
)

// An appsPage is what a user has let applications do, and where they take it back.
type appsPage struct {
	Apps []letIn
	Done string
}

type letIn struct {
	oauth.LetIn
	Name        string   // whose record it is about, where that is one person's and not the user's own
	Can         []string // in words
	Since, Ends string
}

// myApps shows what the user has let in.
func (s *Site) myApps(w http.ResponseWriter, r *http.Request, session *access.Session) error {
	all, err := s.opts.Apps.LetIn(r.Context(), session)
	if err != nil {
		return err
	}
	own := session.Role == policy.Citizen
	p := appsPage{}
	if r.URL.Query().Has("back") {
		p.Done = "The application is no longer let in."
	}
	for _, l := range all {
		a := letIn{LetIn: l, Can: gets(l.Scopes, own), Since: sayTime(l.At), Ends: sayTime(l.Until)}
		for _, what := range learns(l.Scopes, own) {
			a.Can = append(a.Can, "know "+what)
		}
		if l.Patient != "" && !own {
			who, err := s.opts.Records.Who(r.Context(), session, l.Patient)
			if err != nil && !fhir.Is(err, fhir.NotFound) {
				return err
			}
			if a.Name = who.Name.Formal(); err != nil { // nobody whom they may open any more
				a.Name = ""
			}
		}
		p.Apps = append(p.Apps, a)
	}
	return s.show(w, http.StatusOK, "apps", s.newLayout(r, session, "Applications you have let in", p))
}

// takeAppBack ends what an application may do for the user.
func (s *Site) takeAppBack(w http.ResponseWriter, r *http.Request, session *access.Session) error {
	if err := s.opts.Apps.TakeBack(r.Context(), session, strings.TrimSpace(r.PostFormValue("id"))); err != nil {
		return err
	}
	http.Redirect(w, r, "/apps?back", http.StatusSeeOther)
	return nil
}
