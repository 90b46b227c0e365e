package web

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"

	"tombolo/access"
	"tombolo/dataset"
	"tombolo/gather"
)

// A timelinePage is everything in a record that has a date, newest first.
type timelinePage struct {
	Banner   banner
	Strip    strip
	Path     string
	View     string
	Years    []year
	Undated  int
	Source   string
	Heading  string
	Sources  []choice
	Headings []choice
	Shown    string
}

type year struct {
	Name  string
	Lines []line
}

type choice struct {
	Value, Text string
	Chosen      bool
}

// timeline shows a record by date. The filters name a source and a heading, which say nothing of the person, so they may stand in
// the address.
func (s *Site) timeline(w http.ResponseWriter, r *http.Request, session *access.Session) error {
	v, sn, err := s.opened(w, r, session, true)
	if v == nil {
		return err
	}
	p := newTimeline(sn.Record, r.FormValue("source"), dataset.Heading(r.FormValue("heading")))
	p.Banner, p.Path, p.View = newBanner(sn.Record, s.opts.Now()), "/record/"+v.person, v.id
	for i := range p.Years {
		addressed(p.Years[i].Lines, p.Path)
	}
	l := s.newLayout(r, session, "Timeline of "+p.Banner.Name, p)
	l.Wide = true
	return s.show(w, http.StatusOK, "timeline", l)
}

func newTimeline(rec *gather.Record, source string, heading dataset.Heading) timelinePage {
	p := timelinePage{Strip: newStrip(rec), Source: source, Heading: string(heading)}
	var lines []line
	total := 0
	for i := range rec.Sections {
		sec := &rec.Sections[i]
		if sec.Heading == dataset.Demographics {
			continue
		}
		if len(sec.Entries) > 0 {
			p.Headings = append(p.Headings, choice{string(sec.Heading), sec.Heading.Title(), sec.Heading == heading})
		}
		t := teller{rec: rec, clear: clearOf(rec, sec)}
		for j := range sec.Entries {
			l := t.line(sec.Heading, &sec.Entries[j])
			total++
			switch {
			case heading != "" && sec.Heading != heading, source != "" && !slices.Contains(l.Source, source):
			case l.At.IsZero():
				p.Undated++
			default:
				lines = append(lines, l)
			}
		}
	}
	slices.SortStableFunc(lines, func(a, b line) int { return b.At.Compare(a.At) })
	for _, l := range lines {
		y := l.At.Format("2006")
		if len(p.Years) == 0 || p.Years[len(p.Years)-1].Name != y {
			p.Years = append(p.Years, year{Name: y})
		}
		last := &p.Years[len(p.Years)-1]
		last.Lines = append(last.Lines, l)
	}
	for _, l := range rec.Lanes {
		if l.Count > 0 {
			p.Sources = append(p.Sources, choice{l.Source, l.Name, l.Source == source})
		}
	}
	p.Shown = "Showing " + sayCount(len(lines), "entry", "entries") + " of " + strconv.Itoa(total) + "."
	if p.Undated > 0 {
		p.Shown += " " + sayCount(p.Undated, "entry has", "entries have") + " no date and can only be seen in the record."
	}
	return p
}

// HeadingTitle is the heading an entry stands under.
func (l line) HeadingTitle() string { return l.Heading.Title() }

// Section is where the entry stands in the record.
func (l line) Section() string { return "s-" + url.PathEscape(string(l.Heading)) }
