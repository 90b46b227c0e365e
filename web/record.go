package web

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"tombolo/access"
	"tombolo/dataset"
	"tombolo/fhir"
	"tombolo/gather"
	"tombolo/region"
)

// firstWait is how long a page waits for the first sight of a record, wholeWait for all of it.
const (
	firstWait = 15 * time.Second
	wholeWait = 45 * time.Second
)

// A recordPage is one person's record: as much of it as is known when the page is made.
type recordPage struct {
	Banner   banner
	Strip    strip
	Alerts   alerts
	Sections []section
	Glass    strip
	Path     string // "/record/{person}"
	View     string
	Live     bool // more is to come, by the event stream
	Filter   string
	Matches  string
	At       string
	Plan     string          // where it is explained how the record was gathered, "" for those to whom it is not
	Apps     []region.Client // that may be started from here
}

// record opens a record. The page leaves as soon as it is known whose it is and who is asked; the event stream fills it. With all=1,
// where a browser without JavaScript is sent at once, it leaves when it is complete.
func (s *Site) record(w http.ResponseWriter, r *http.Request, session *access.Session) error {
	v, sn, err := s.opened(w, r, session, r.FormValue("all") != "")
	if v == nil {
		return err
	}
	return s.showRecord(w, r, session, v, sn, "")
}

// opened gives the record that the address names as it is now, or as it is when whole. There is no viewing if the request is answered already, or goes wrong.
func (s *Site) opened(w http.ResponseWriter, r *http.Request, session *access.Session, whole bool) (*viewing, snapshot, error) {
	person := r.PathValue("person")
	if done, err := s.elsewhere(w, r, session, person); done || err != nil {
		return nil, snapshot{}, err
	}
	v := s.viewing(r, session, person)
	sn, err := s.see(r, v, whole)
	if err != nil {
		return nil, snapshot{}, err
	}
	return v, sn, nil
}

// elsewhere turns away those who open no records here, before anything is asked.
func (s *Site) elsewhere(w http.ResponseWriter, r *http.Request, session *access.Session, person string) (bool, error) {
	if info, _ := session.Role.Info(); !info.Opens {
		return true, fhir.Errorf(fhir.Forbidden, "Your role does not open records.")
	}
	if session.Person.Value != "" { // a citizen reads their own, in plain English
		http.Redirect(w, r, "/me", http.StatusSeeOther)
		return true, nil
	}
	if person != "" && !fhir.ValidID(person) {
		return true, errNotFound
	}
	return false, nil
}

// viewing is the opening that the request names by view=, or a new one.
func (s *Site) viewing(r *http.Request, session *access.Session, person string) *viewing {
	if v := s.viewings.find(session, person, r.FormValue("view")); v != nil {
		return v
	}
	return s.viewings.start(r.Context(), s.opts.Records, session, person)
}

// see waits for the first snapshot of a viewing, or for the last.
func (s *Site) see(r *http.Request, v *viewing, all bool) (snapshot, error) {
	if all {
		ctx, cancel := context.WithTimeout(r.Context(), wholeWait)
		defer cancel()
		sn, err := v.whole(ctx)
		if fhir.Is(err, fhir.Timeout) && sn.Record != nil {
			return sn, nil // as it stands: it says itself who has not answered
		}
		return sn, err
	}
	ctx, cancel := context.WithTimeout(r.Context(), firstWait)
	defer cancel()
	return v.next(ctx, 0)
}

func (s *Site) showRecord(w http.ResponseWriter, r *http.Request, session *access.Session, v *viewing, sn snapshot, filter string) error {
	p := recordPage{
		Banner: newBanner(sn.Record, s.opts.Now()), Strip: newStrip(sn.Record), Alerts: newAlerts(sn.Record), Path: "/record/" + v.person, View: v.id,
		Sections: linked(newSections(sn.Record, filter), "/record/"+v.person), Live: !sn.done && filter == "", Filter: filter, At: sayTime(sn.At), Apps: s.apps(w, session),
	}
	if s.opts.Plans != nil && s.opts.Plans.MayExplain(session) {
		p.Plan = "/desk/plan/" + v.person
	}
	if filter != "" {
		p.Matches = sayMatches(p.Sections)
	}
	if r.FormValue("order") == "name" {
		byName(p.Sections)
	}
	l := s.newLayout(r, session, "Record of "+p.Banner.Name, p)
	l.Wide = true
	if p.Live {
		l.Refresh = p.Path + "?all=1&view=" + url.QueryEscape(v.id)
	}
	return s.show(w, http.StatusOK, "record", l)
}

func addressed(lines []line, path string) {
	for i := range lines {
		lines[i].base = path
	}
}

// byName puts medicines into alphabetical order, in which they are read when lists are compared.
func byName(sections []section) {
	for i := range sections {
		s := &sections[i]
		if s.Order == "" {
			continue
		}
		s.ByName, s.Order = true, strings.Replace(s.Order, "&order=name", "", 1)
		for _, g := range s.Groups {
			slices.SortStableFunc(g.Lines, func(a, b line) int {
				return strings.Compare(strings.ToLower(a.Told.What), strings.ToLower(b.Told.What))
			})
		}
	}
}

// linked gives documents their address, and medicines that of their other order.
func linked(sections []section, path string) []section {
	for i := range sections {
		if s := &sections[i]; s.Heading == dataset.Medications && s.Count > 1 {
			s.Order = path + "?all=1&order=name#" + s.ID
		}
		for g := range sections[i].Groups {
			addressed(sections[i].Groups[g].Lines, path)
		}
	}
	return sections
}

// searchRecord shows the record with only what contains some words: what the page's script does at once, for browsers without. The words
// are clinical, so they come in a form and not in an address.
func (s *Site) searchRecord(w http.ResponseWriter, r *http.Request, session *access.Session) error {
	v, sn, err := s.opened(w, r, session, true)
	if v == nil {
		return err
	}
	return s.showRecord(w, r, session, v, sn, strings.TrimSpace(r.PostFormValue("q")))
}

func sayMatches(sections []section) string {
	shown, all := 0, 0
	for _, s := range sections {
		shown += s.Count - s.Hidden
		all += s.Count
	}
	return strconv.Itoa(shown) + " of " + sayCount(all, "entry", "entries")
}

// fragments are the parts of a page that change as sources answer, each under the id of the element it replaces.
func (s *Site) fragments(rec *gather.Record, path string) (map[string]string, []string, error) {
	out := map[string]string{}
	var order []string
	put := func(id, name string, data any) error {
		html, err := s.fragment(name, data)
		out[id] = html
		order = append(order, id)
		return err
	}
	for _, f := range []struct {
		id   string
		data any
	}{{"banner", newBanner(rec, s.opts.Now())}, {"alerts", newAlerts(rec)}, {"strip", newStrip(rec)}} {
		if err := put(f.id, f.id, f.data); err != nil {
			return nil, nil, err
		}
	}
	sections := linked(newSections(rec, ""), path)
	for _, sec := range sections {
		if err := put(sec.ID, "section", sec); err != nil {
			return nil, nil, err
		}
	}
	return out, order, put("nav-list", "nav", sections)
}
