package web

import (
	"context"
	"net/http"
	"slices"
	"strings"

	"tombolo/access"
	"tombolo/dataset"
	"tombolo/fhir"
	"tombolo/gather"
)

// A mePage is a citizen's own record. The core has left out what is not for them to see here; this page only renders, without
// codes and in plain words.
type mePage struct {
	Name     string
	Born     string
	NHS      string
	Sources  string
	View     string // of this opening
	Sections []mySection
	Looks    []lookGroup
	MayAsk   bool // the person can say that they do not recognise a look
	LooksOK  bool // the list was asked for and answered
	HasLooks bool // there is such a list
}

// A mySection is a heading in plain English.
type mySection struct {
	ID, Title string
	Lines     []line
	Says      []string // why there is nothing, or may be more
}

// me shows a citizen their own record, whole: nobody hurries here, so it does not fill piece by piece.
func (s *Site) me(w http.ResponseWriter, r *http.Request, session *access.Session) error {
	person, err := s.myself(r.Context(), session)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(r.Context(), wholeWait)
	defer cancel()
	v := s.viewing(r, session, person)
	sn, err := v.whole(ctx)
	if err != nil {
		return err
	}
	p := newMe(sn.Record)
	p.View = v.id
	if s.opts.Looks != nil {
		p.HasLooks = true
		looks, err := s.opts.Looks.WhoLooked(ctx, session, person)
		if err != nil {
			s.log.Error("who looked could not be read", "error", err.Error())
		}
		p.Looks, p.LooksOK, p.MayAsk = groupLooks(looks), err == nil, s.opts.Privacy != nil
	}
	return s.show(w, http.StatusOK, "me", s.newLayout(r, session, "My record", p))
}

func (s *Site) myDocument(w http.ResponseWriter, r *http.Request, session *access.Session) error {
	person, err := s.myself(r.Context(), session)
	if err != nil {
		return err
	}
	return s.openDocument(w, r, session, person, r.PathValue("id"))
}

// myself is the person that a citizen's session belongs to. Nobody else has a page here.
func (s *Site) myself(ctx context.Context, session *access.Session) (string, error) {
	if session.Person.Value == "" {
		return "", errNotFound
	}
	return s.opts.Records.Find(ctx, session, session.Person)
}

func newMe(rec *gather.Record) mePage {
	b := newBanner(rec, rec.At)
	name := rec.Person.Name
	p := mePage{Name: strings.Join(append(append([]string{}, name.Given...), name.Family), " "), Born: plainDate(rec.Person.BirthDate), NHS: b.NHS, Sources: plainSources(rec)}
	for i := range rec.Sections {
		sec := &rec.Sections[i]
		m := mySection{ID: "m-" + string(sec.Heading), Title: plainTitle(sec.Heading)}
		t := teller{rec: rec, clear: clearOf(rec, sec)}
		for j := range sec.Entries {
			l := t.line(sec.Heading, &sec.Entries[j])
			l.base = "/me"
			m.Lines = append(m.Lines, l)
		}
		m.Says = plainState(rec, sec)
		p.Sections = append(p.Sections, m)
	}
	return p
}

func plainTitle(h dataset.Heading) string {
	for _, i := range dataset.All {
		if i.Heading == h {
			return i.Plain
		}
	}
	return string(h)
}

func plainSources(rec *gather.Record) string {
	var yes, no, before []string
	for _, l := range rec.Lanes {
		switch l.State {
		case gather.Answered, gather.Partly:
			yes = append(yes, l.Name)
		case gather.Earlier:
			before = append(before, l.Name+" ("+sayTime(l.AsOf)+")")
		case gather.Failed, gather.Asking:
			no = append(no, l.Name)
		}
	}
	out := "No service has sent anything."
	if len(yes) > 0 {
		out = "This page joins what these services have written: " + sayList(yes) + "."
	}
	if len(before) > 0 {
		out += " We could not reach " + sayList(before) + " just now: what they told us at that time is shown, and may have changed since."
	}
	if len(no) > 0 {
		out += " We could not reach " + sayList(no) + " just now. Try again later to see what they have."
	}
	return out
}

// plainState is the four states in plain English, with the same care as for clinicians: nothing here is never said for not known.
func plainState(rec *gather.Record, sec *gather.Section) []string {
	var out []string
	if len(sec.Unknown) > 0 {
		out = append(out, "We could not check this with "+sayList(sec.Unknown)+", so something may be missing.")
	}
	if len(sec.NotShared) > 0 {
		out = append(out, sayList(sec.NotShared)+" may have something here that is not shown on this page. You can ask them.")
	}
	switch {
	case len(sec.Entries) > 0 || len(out) > 0:
	case sec.State == dataset.NoneRecorded:
		out = append(out, "Nothing is written here by any of the services that answered.")
		for _, back := range sec.Reach {
			out = append(out, back+". Anything older may not be here.")
		}
	case sec.State == dataset.NotShared:
		out = append(out, "This is not shown on this page. You can ask the service that looks after you.")
	case sec.Heading == dataset.GPPractice && rec.Person.PracticeName != "":
		out = append(out, "You are registered with "+rec.Person.PracticeName+".")
	default:
		out = append(out, "We do not know if there is anything here.")
	}
	return out
}

// Disagree is a conflict, told to the person it is about.
func (l line) Disagree() string {
	if l.Conflict == "" {
		return ""
	}
	return "Your services have written different things about this. Ask the people who look after you which is right."
}

// PlainWhen is the date as people outside write it.
func (l line) PlainWhen() string { return plainDate(l.Told.When) }

func plainDate(date string) string {
	span, err := fhir.ParseDate(date)
	if err != nil {
		return date
	}
	t := span.Start.In(fhir.London)
	switch len(date) {
	case 4:
		return t.Format("2006")
	case 7:
		return t.Format("January 2006")
	}
	return t.Format("2 January 2006")
}

// Writers are who wrote it, and where.
func (l line) Writers() string {
	if l.Told.By == "" || slices.Contains(l.Sources, l.Told.By) {
		return sayList(l.Sources)
	}
	return l.Told.By + " at " + sayList(l.Sources)
}
