package web

import (
	"bytes"
	"embed"
	"html/template"
	"net/http"
	"net/url"

	"tombolo/access"
	"tombolo/fhir"
)

//go:embed *.html
var templateFiles embed.FS

// The pages, each of one template file, and the fragments that several of them show and the event stream sends.
var (
	pageNames     = []string{"home", "signin", "consent", "apps", "find", "record", "timeline", "trends", "breakglass", "me", "choices", "asked", "privacy", "identity", "desk", "scope", "plan", "feed", "problem"}
	fragmentFiles = []string{"emergency.html", "layout.html", "banner.html", "lanes.html", "alerts.html", "sections.html"}
)

// pages are the parsed templates: one set a page, and the fragments by themselves.
type pages struct {
	byName    map[string]*template.Template
	fragments *template.Template
}

func loadPages(a assets) (pages, error) {
	base, err := template.New("base").Option("missingkey=error").Funcs(template.FuncMap{
		"asset":   func(name string) string { return a.prefix + name },
		"sayTime": sayTime,
	}).ParseFS(templateFiles, fragmentFiles...)
	if err != nil {
		return pages{}, err
	}
	p := pages{byName: map[string]*template.Template{}}
	for _, name := range pageNames {
		t, err := base.Clone()
		if err == nil {
			t, err = t.ParseFS(templateFiles, name+".html")
		}
		if err != nil {
			return pages{}, err
		}
		p.byName[name] = t
	}
	p.fragments = base
	return p, nil
}

// A layout is what every page has around its own body.
type layout struct {
	Title   string
	Site    string
	Session *access.Session
	Links   []link
	Refresh string // where a browser without JavaScript goes at once; "" nowhere
	Wide    bool
	Script  bool // the record's own script
	Body    any
}

type link struct {
	Href, Text string
	Current    bool
}

func (s *Site) newLayout(r *http.Request, session *access.Session, title string, body any) layout {
	return layout{Title: title, Site: s.opts.Name, Session: session, Links: s.links(session, r.URL.Path), Body: body}
}

// links are the places a session may go.
func (s *Site) links(session *access.Session, here string) []link {
	if session == nil {
		return nil
	}
	info, _ := session.Role.Info()
	var out []link
	add := func(href, text string) { out = append(out, link{href, text, here == href}) }
	switch {
	case session.Person.Value != "":
		add("/me", "My record")
		if s.opts.Choices != nil {
			add("/me/choices", "My choices")
		}
		if s.opts.Apps != nil {
			add("/apps", "My applications")
		}
	case session.Locked != "":
		add("/record/"+session.Locked, "The record")
	case info.Opens:
		add("/record", "Find a person")
	}
	if s.mayPrivacy(session) {
		add("/privacy", "Who looked")
	}
	if s.mayIdentify(session) {
		add("/desk/identity", "Who is who")
	}
	if info.Operates && s.opts.Desk != nil {
		add("/desk", "Desk")
	}
	return out
}

// show writes a page. The whole page is made before the first byte leaves, so that a failing template never leaves half a record on
// a screen.
func (s *Site) show(w http.ResponseWriter, status int, name string, l layout) error {
	var b bytes.Buffer
	if err := s.pages.byName[name].ExecuteTemplate(&b, "layout", l); err != nil {
		return fhir.Errorf(fhir.Exception, "page %s could not be made: %w", name, err)
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(b.Bytes())
	return nil
}

// fragment makes one fragment's HTML.
func (s *Site) fragment(name string, data any) (string, error) {
	var b bytes.Buffer
	err := s.pages.fragments.ExecuteTemplate(&b, name, data)
	return b.String(), err
}

func urlQuery(v string) string { return url.QueryEscape(v) }
