package web

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"tombolo/access"
	"tombolo/dataset"
	"tombolo/fhir"
	"tombolo/gather"
	"tombolo/probe"
)

// Scope is what the sources of the region were found to give, for operators. It holds nothing of anybody's record.
type Scope interface {
	// Scope gives what was last found of each source, in the order of the region file; one that was not probed yet has a zero time.
	Scope(ctx context.Context, s *access.Session) ([]*probe.Result, error)
	// ProbeNow begins to probe a source, or all with "", and records who had it done.
	ProbeNow(ctx context.Context, s *access.Session, source string) error
}

// Plans explains how a person's record is gathered. gather.Gatherer is one.
type Plans interface {
	MayExplain(s *access.Session) bool
	Record(ctx context.Context, s *access.Session, person string, ask gather.Ask) (*gather.Record, error)
}

type scopePage struct {
	Sources []scopeSource
	Rows    []scopeRow
	Begun   bool
}

type scopeSource struct {
	*probe.Result
	Probed string
	Held   string // until when it counts in planning, in words
	Facts  []scopeFacts
}

type scopeFacts struct {
	Heading, Way string
	Word         stateWord
	Facts        string
	Effects      string // what it changes in a gathering
}

// A scopeRow is one heading over all sources.
type scopeRow struct {
	Heading string
	Cells   []scopeCell
}

type scopeCell struct {
	Given bool // the region file says that the source gives it
	Way   string
	Word  stateWord
	More  string // how deep and how fast, in short
}

var scopeWords = map[probe.Verdict]stateWord{
	probe.Given: {"Gives it", "✓", "ok"}, probe.Empty: {"Nothing yet", "○", "muted"}, probe.NotProvided: {"Not provided", "✕", "grave"},
	probe.Refused: {"Not shared", "⊘", "warn"}, probe.Unknown: {"Not answered", "?", "warn"},
}

var notProbed = stateWord{"Not probed yet", "…", "muted"}

var wayWords = map[string]string{"push": "stored", "live": "live", "both": "stored, else live", probe.FromNeighbour: "neighbour", probe.FromLocator: "locator"}

// Says is what the source says of itself.
func (s scopeSource) Says() string {
	d := s.Describes
	if d == nil {
		return ""
	}
	said := []string{d.Software, d.Speaks}
	if len(d.Types) > 0 {
		said = append(said, sayCount(len(d.Types), "type to search", "types to search"))
	}
	return strings.Join(slices.DeleteFunc(said, func(t string) bool { return t == "" }), ", ")
}

// Fast is how fast it answers.
func (s scopeSource) Fast() string {
	if s.Speed.Tries == 0 {
		return ""
	}
	return sayTook(s.Speed.P50) + " at the median, " + sayTook(s.Speed.P95) + " for 95 in 100"
}

// Unsaid are headings that it gives and that the region file does not name.
func (s scopeSource) Unsaid() string {
	var out []string
	for _, h := range s.Besides {
		out = append(out, h.Title())
	}
	return sayList(out)
}

func newScope(results []*probe.Result, now time.Time) scopePage {
	var p scopePage
	word := func(r *probe.Result, f *probe.Found) stateWord {
		if r.At.IsZero() {
			return notProbed
		}
		return scopeWords[f.Verdict]
	}
	for _, r := range results {
		s := scopeSource{Result: r, Probed: sayTime(r.At)}
		switch {
		case r.Until.IsZero():
		case now.After(r.Until):
			s.Held = "too long ago to count"
		default:
			s.Held = "counts until " + sayTime(r.Until)
		}
		for _, info := range dataset.All {
			if f := r.Headings[info.Heading]; f != nil {
				s.Facts = append(s.Facts, scopeFacts{info.Title, wayWords[f.Way], word(r, f), strings.Join(f.Facts(sayTime), "; "), strings.Join(r.Effects(info.Heading, now), "; ")})
			}
		}
		p.Sources = append(p.Sources, s)
	}
	for _, info := range dataset.All {
		row := scopeRow{Heading: info.Title}
		given := false
		for _, r := range results {
			f := r.Headings[info.Heading]
			if f == nil {
				row.Cells = append(row.Cells, scopeCell{})
				continue
			}
			given = true
			row.Cells = append(row.Cells, scopeCell{Given: true, Way: wayWords[f.Way], Word: word(r, f), More: inShort(f)})
		}
		if given {
			p.Rows = append(p.Rows, row)
		}
	}
	return p
}

// inShort is how far back a heading goes and how fast or fresh it is, as a cell has room for.
func inShort(f *probe.Found) string {
	var out []string
	if f.Earliest != "" {
		out = append(out, "since "+f.Earliest[:4])
	}
	switch {
	case f.Verdict != probe.Given && f.Verdict != probe.Empty:
	case !f.Came.IsZero():
		out = append(out, "came "+sayTime(f.Came))
	case f.Speed.Tries > 0:
		out = append(out, sayTook(f.Speed.P95))
	}
	return strings.Join(out, "; ")
}

func (s *Site) scope(w http.ResponseWriter, r *http.Request, session *access.Session) error {
	results, err := s.scopeOf(r, session)
	if err != nil {
		return err
	}
	p := newScope(results, s.opts.Now())
	p.Begun = r.URL.Query().Get("begun") != ""
	l := s.newLayout(r, session, "What each source gives", p)
	l.Wide = true
	return s.show(w, http.StatusOK, "scope", l)
}

func (s *Site) scopeOf(r *http.Request, session *access.Session) ([]*probe.Result, error) {
	if info, _ := session.Role.Info(); s.opts.Scope == nil || !info.Operates {
		return nil, errNotFound
	}
	return s.opts.Scope.Scope(r.Context(), session)
}

// scopeJSON is the same for programs: an array of probe.Result.
func (s *Site) scopeJSON(w http.ResponseWriter, r *http.Request, session *access.Session) error {
	results, err := s.scopeOf(r, session)
	if err != nil {
		return err
	}
	body, err := json.Marshal(results)
	if err != nil {
		return fhir.Errorf(fhir.Exception, "what was found could not be written: %w", err)
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(body)
	return nil
}

func (s *Site) probeNow(w http.ResponseWriter, r *http.Request, session *access.Session) error {
	if info, _ := session.Role.Info(); s.opts.Scope == nil || !info.Operates {
		return errNotFound
	}
	if err := s.opts.Scope.ProbeNow(r.Context(), session, r.PostFormValue("source")); err != nil {
		return err
	}
	http.Redirect(w, r, "/desk/scope?begun=1", http.StatusSeeOther)
	return nil
}

type planPage struct {
	Person string // id
	Name   string
	At     string
	Rows   []planRow
}

// A planRow is one choice in words.
type planRow struct {
	Source, Heading, Way, Why, Policy, Stored, Probe, Breaker string
	State                                                     stateWord
}

var whyWords = map[gather.Why]string{
	gather.WhySent: "it sends, and cannot be asked", gather.WhyFresh: "it was heard lately", gather.WhyStale: "it was not heard lately, so it is asked",
	gather.WhyStaleUsed: "it was not heard lately and cannot be asked now", gather.WhySlow: "it was not heard lately, and takes longer to answer than it is given", gather.WhyAsked: "it is asked when somebody looks", gather.WhyNotProvided: "a probe found that it does not give this",
	gather.WhyUnsent: "it was heard lately, and has never sent anything of this, so it is asked",
	gather.WhyPolicy: "it is not shared with you", gather.WhyNotAsked: "nothing says that it holds anything of this person", gather.WhyNeighbour: "what its own sources hold",
	gather.WhyMissing: "this region's own sources left it open", gather.WhyNotMissing: "this region's own sources answered", gather.WhyLocator: "it tells who else holds something",
}

var stateWords = map[dataset.State]stateWord{
	dataset.Present: {"Entries", "✓", "ok"}, dataset.NoneRecorded: {"None recorded", "○", "muted"}, dataset.NotKnown: {"Not known", "?", "warn"}, dataset.NotShared: {"Not shared", "⊘", "warn"},
}

// plan gathers a person's record for somebody who may have that explained, and shows how each heading of each source was come by. It is a look at the record
// like any other: decided, and audited.
func (s *Site) plan(w http.ResponseWriter, r *http.Request, session *access.Session) error {
	person := r.PathValue("person")
	if s.opts.Plans == nil || !s.opts.Plans.MayExplain(session) || !fhir.ValidID(person) {
		return errNotFound
	}
	rec, err := s.opts.Plans.Record(r.Context(), session, person, gather.Ask{Explain: true, Query: "how it was gathered"})
	if err != nil {
		return err
	}
	p := planPage{Person: person, Name: rec.Person.Name.Formal(), At: sayTime(rec.At)}
	for _, c := range rec.Plan {
		row := planRow{Source: c.Name, Heading: c.Heading.Title(), Way: c.Way, Why: whyWords[c.Why], Policy: c.Policy, Breaker: c.Breaker, State: stateWords[c.State]}
		if row.Way == "" {
			row.Way = "not at all"
		}
		if c.Age >= 0 && (c.Way == "stored" || c.Why == gather.WhyStale) {
			row.Stored = "heard " + sayAgo(s.opts.Now().Add(-c.Age), s.opts.Now()) + " ago"
		}
		if c.Fresh > 0 {
			row.Stored = strings.TrimPrefix(row.Stored+"; fresh for "+sayRule(c.Fresh), "; ")
		}
		if !c.Probed.IsZero() {
			row.Probe = scopeWords[c.Verdict].Word
			if c.Expected > 0 {
				row.Probe = strings.TrimPrefix(row.Probe+"; "+sayTook(c.Expected)+" expected", "; ")
			}
			if c.Slow > 0 {
				row.Probe = strings.TrimPrefix(row.Probe+"; usually too late", "; ")
			}
			if c.Reaches != "" {
				row.Probe = strings.TrimPrefix(row.Probe+"; back to "+c.Reaches[:4], "; ")
			}
		}
		p.Rows = append(p.Rows, row)
	}
	l := s.newLayout(r, session, "How it was gathered", p)
	l.Wide = true
	return s.show(w, http.StatusOK, "plan", l)
}

// sayRule writes a rule of freshness.
func sayRule(d time.Duration) string {
	switch {
	case d%(24*time.Hour) == 0:
		return sayCount(int(d/(24*time.Hour)), "day", "days")
	case d%time.Hour == 0:
		return sayCount(int(d/time.Hour), "hour", "hours")
	case d%time.Minute == 0:
		return sayCount(int(d/time.Minute), "minute", "minutes")
	}
	return strconv.Itoa(int(d/time.Second)) + " seconds"
}
