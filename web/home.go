package web

import (
	"net/http"

	"tombolo/access"
)

// A homePage says what this is and where to go.
type homePage struct {
	Name  string
	Demo  bool
	In    bool
	Links []homeLink
}

type homeLink struct{ Href, Title, Text string }

func (s *Site) home(w http.ResponseWriter, r *http.Request, session *access.Session) error {
	p := homePage{Name: s.opts.Name, Demo: s.opts.Access.Demo(), In: session != nil}
	if session == nil {
		p.Links = append(p.Links, homeLink{"/sign-in", "Sign in", "To open a record, your own or that of a person in your care."})
	} else {
		for _, l := range s.links(session, "") {
			text := map[string]string{
				"/record":        "Open the joined record of a person in your care, by NHS number or another number.",
				"/me":            "Your own record in plain English, and who has looked at it.",
				"/privacy":       "Alerts and questions to look into, and the audit log to search.",
				"/desk/identity": "Records that may be of one person, to join or to keep apart.",
				"/desk":          "Sources, feeds, what waits in quarantine, and the state of the audit chain.",
			}[l.Href]
			p.Links = append(p.Links, homeLink{l.Href, l.Text, text})
		}
	}
	return s.show(w, http.StatusOK, "home", s.newLayout(r, session, "Welcome", p))
}
