package web

import (
	"hash/fnv"
	"slices"
	"strconv"
	"strings"
	"time"

	"tombolo/dataset"
	"tombolo/fhir"
	"tombolo/gather"
)

// A section is one heading as a page shows it. Its state is always said in words: there is no empty list without its reason
// (design law 3).
type section struct {
	ID      string // element id, "s-allergies"
	Heading dataset.Heading
	Title   string
	State   stateWord
	Count   int // entries
	Groups  []group
	Reasons []reason // why there is less here than there may be
	Filter  string   // what the entries were filtered by; "" nothing
	Hidden  int      // entries that the filter hides
	Version string   // changes when anything here does
	ByName  bool     // entries stand in alphabetical order
	Order   string   // address of the record with the other order; "" if there is none
}

// A stateWord is a state in a word and with an icon; neither depends on colour.
type stateWord struct{ Word, Icon, Tone string }

// A reason is a sentence, and whether it is grave.
type reason struct {
	Text, Tone string
}

// A group is entries under a subheading, or without one.
type group struct {
	Title string
	Lines []line
	Table bool // a laboratory report: lines are shown with their rows
}

// A line is one entry: one thing said once, with everyone who says it.
type line struct {
	ID       string
	When     string
	At       time.Time
	Heading  dataset.Heading
	Told     told
	Sources  []string // names of those who say so, the shown version's first
	Source   []string // their ids, for filters
	Conflict string
	Versions []version
	Related  []line
	Rows     []result
	Topics   []topic // of a consultation
	Document string  // id of the DocumentReference that can be opened, "" if none
	Form     string  // what opening it gives: "PDF, 12 KB"
	Negative bool    // says that there is none of something
	words    string  // lower case, for search
	brief    string
	base     string // path of the record the line is shown in
}

// A version is one source's own version of an entry.
type version struct {
	Source, Received, Original string
	When                       string
	Told                       told
}

var (
	stateAsking = stateWord{"Asking", "…", toneMuted}
	stateSome   = stateWord{"", "●", toneActive}
	statePartly = stateWord{"incomplete", "◐", toneWarn}
	stateNone   = stateWord{"None recorded that you may see", "○", toneMuted}
	stateUnknow = stateWord{"Not known", "?", toneWarn}
	stateShut   = stateWord{"Not shared", "⊘", toneWarn}
)

// newSections is every heading of a record, in its order.
func newSections(rec *gather.Record, filter string) []section {
	out := make([]section, 0, len(rec.Sections))
	for i := range rec.Sections {
		out = append(out, newSection(rec, &rec.Sections[i], filter))
	}
	return out
}

func newSection(rec *gather.Record, sec *gather.Section, filter string) section {
	s := section{ID: "s-" + string(sec.Heading), Heading: sec.Heading, Title: sec.Title, Filter: filter}
	if s.Title == "" {
		s.Title = sec.Heading.Title()
	}
	t := teller{rec: rec, clear: clearOf(rec, sec)}
	if sec.Heading == dataset.Encounters {
		t.all = byRef(rec)
	}
	var lines []line
	for i := range sec.Entries {
		if l := t.line(sec.Heading, &sec.Entries[i]); filter == "" || strings.Contains(l.words, strings.ToLower(filter)) {
			lines = append(lines, l)
		}
	}
	s.Count, s.Hidden = len(sec.Entries), len(sec.Entries)-len(lines)
	s.Groups = groupLines(sec.Heading, lines, rec.At)
	asking := s.explain(rec, sec)
	s.State = sayState(sec, s.Count, asking)
	s.Version = versionOf(rec, sec)
	return s
}

// sayState is the section's state in a word. What a record claims is not taken on trust: "none recorded" with somebody unheard is
// not known, and so is "present" with nothing there.
func sayState(sec *gather.Section, count int, asking bool) stateWord {
	switch {
	case count > 0:
		st := stateSome
		if len(sec.Unknown) > 0 || len(sec.NotShared) > 0 {
			st = statePartly
		}
		st.Word = join(", ", strconv.Itoa(count), st.Word)
		if asking {
			st.Word, st.Icon = strconv.Itoa(count)+" so far", stateAsking.Icon
		}
		return st
	case asking:
		return stateAsking
	case sec.State == dataset.NoneRecorded && len(sec.Unknown) == 0 && len(sec.NotShared) == 0:
		st := stateNone
		if len(sec.Reach) > 0 { // an empty is never without its limit, not even in a word
			st.Word += ", as far back as it goes"
		}
		return st
	case sec.State == dataset.NotShared && len(sec.Unknown) == 0:
		return stateShut
	}
	return stateUnknow
}

// explain gives the section its reasons, and says whether anybody is still being asked.
func (s *section) explain(rec *gather.Record, sec *gather.Section) (asking bool) {
	var wait []string
	var why []reason
	for _, name := range sec.Unknown {
		l := laneNamed(rec, name)
		switch {
		case l != nil && l.State == gather.Asking:
			wait = append(wait, name)
		case l != nil && l.Issue != nil:
			why = append(why, reason{"Not known: " + sayIssue(l) + ".", toneWarn})
		default:
			why = append(why, reason{"Not known from " + name + ": it did not say.", toneWarn})
		}
	}
	none := s.Count == 0
	if len(wait) > 0 {
		why = append([]reason{{"Asking " + sayList(wait) + ".", toneMuted}}, why...)
	}
	if len(sec.NotShared) > 0 {
		why = append(why, reason{"Not shared with you by " + sayList(sec.NotShared) + ".", toneWarn})
	}
	switch {
	case none && len(wait) == 0 && sec.State == dataset.NoneRecorded && len(why) == 0:
		text := "Every source that was asked for this answered, and has nothing under it that you may see. " + mayBeWithheld
		if sec.Heading == dataset.Allergies {
			text = "No source says that there are none. " + mayBeWithheld + " Ask."
		}
		why = append(why, reason{text, ""})
		for _, back := range sec.Reach {
			why = append(why, reason{back + " under this heading, as far as was found. Anything older may not be in it.", toneWarn})
		}
	case none && len(wait) == 0 && sec.State == dataset.NotShared && len(why) == 0:
		why = append(why, reason{"Not shared with you. There may be something here.", toneWarn})
	case none && len(wait) == 0 && len(why) == 0:
		why = append(why, reason{"Not known: no source that could say was asked or answered. This does not mean that there is nothing.", toneWarn})
	case none && len(wait) == 0 && len(sec.Unknown) > 0:
		why = append(why, reason{"This does not mean that there is nothing.", toneWarn})
	case !none && len(wait) == 0 && len(why) == 0 && sec.Heading == dataset.Allergies && onlyNegations(sec):
		why = append(why, reason{"Each is what one source states. " + mayBeWithheld + " Ask.", ""})
	case !none && len(wait) == 0 && len(why) > 0:
		why = append(why, reason{"There may be more than is shown here.", ""})
	}
	if sec.Heading == dataset.GPPractice && none && rec.Person.PracticeName != "" && !rec.Person.Restricted {
		why = append(why, reason{"Registered with " + rec.Person.PracticeName + ", as the identity index has it.", ""})
	}
	s.Reasons = why
	return len(wait) > 0
}

// mayBeWithheld stands wherever it is said that there is nothing, of whomever and whether or not anything is withheld: so it tells nothing, and nobody takes what they may not see for
// what there is not. ADR 27
const mayBeWithheld = "Some may be withheld from you."

// onlyNegations reports whether all that a section holds are statements that there is none of something.
func onlyNegations(sec *gather.Section) bool {
	return !slices.ContainsFunc(sec.Entries, func(e gather.Entry) bool { return negation(e.Lead) == "" })
}

func laneNamed(rec *gather.Record, name string) *gather.Lane {
	for i := range rec.Lanes {
		if rec.Lanes[i].Name == name {
			return &rec.Lanes[i]
		}
	}
	return nil
}

// sayIssue is why a lane gave less than all, as half a sentence that begins with its name.
func sayIssue(l *gather.Lane) string {
	text := strings.TrimRight(strings.TrimSpace(l.Issue.Text), ".")
	if strings.HasPrefix(text, l.Name) {
		return text
	}
	return l.Name + ": " + text
}

// The subheadings of headings where what is over must not be read as what is.
func groupLines(h dataset.Heading, lines []line, at time.Time) []group {
	var a, b string
	over := func(l line) bool { return false }
	switch h {
	case dataset.Medications:
		a, b, over = "Current", "Stopped, finished or not current", statusIn("Active", "Unknown", "On hold", "Draft")
	case dataset.Problems, dataset.CarePlans, dataset.SocialCare, dataset.Legal, dataset.Safeguarding, dataset.Alerts:
		a, b, over = "Active", "Past or inactive", func(l line) bool {
			return l.Told.Over || slices.Contains([]string{"Resolved", "Inactive", "Remission", "Completed", "Revoked", "Ended"}, l.Told.Status)
		}
	case dataset.Appointments:
		a, b, over = "To come", "Past", func(l line) bool { return !l.At.IsZero() && l.At.Before(at) }
	}
	var now, then []line
	for _, l := range lines {
		if over(l) {
			then = append(then, l)
		} else {
			now = append(now, l)
		}
	}
	if h == dataset.Appointments { // the next one first
		slices.SortStableFunc(now, func(x, y line) int { return x.At.Compare(y.At) })
	}
	var out []group
	table := h == dataset.Results
	if len(now) > 0 {
		out = append(out, group{Lines: now, Table: table})
	}
	if len(then) > 0 {
		out = append(out, group{Title: b, Lines: then, Table: table})
	}
	if a != "" && len(out) > 0 && out[0].Title == "" {
		out[0].Title = a
	}
	return out
}

// statusIn makes a test for lines whose status is given and none of these.
func statusIn(current ...string) func(line) bool {
	return func(l line) bool { return l.Told.Status != "" && !slices.Contains(current, l.Told.Status) }
}

// versionOf changes when what a section shows may have changed.
func versionOf(rec *gather.Record, sec *gather.Section) string {
	h := fnv.New64a()
	put := func(s string) { _, _ = h.Write([]byte(s)); _, _ = h.Write([]byte{0}) }
	put(string(sec.State))
	for _, e := range sec.Entries {
		put(e.Conflict)
		put(strconv.Itoa(len(e.Related)))
		for _, m := range e.Members {
			put(m.Source)
			put(string(m.Resource.Ref()))
		}
	}
	for _, name := range slices.Concat(sec.Unknown, []string{"|"}, sec.NotShared) {
		put(name)
		if l := laneNamed(rec, name); l != nil {
			put(string(l.State))
		}
	}
	put(strconv.FormatBool(clearOf(rec, sec)))
	return strconv.FormatUint(h.Sum64(), 36)
}

// clearOf reports whether absence under a heading may be spoken of: every source answered in full and shares it, and none
// says that something is withheld or on its way. Sources that do not know the person count as having answered.
func clearOf(rec *gather.Record, sec *gather.Section) bool {
	if len(sec.Unknown) > 0 || len(sec.NotShared) > 0 {
		return false
	}
	for _, l := range rec.Lanes {
		if l.Silent() {
			continue
		}
		if l.State != gather.Answered || l.Issue != nil {
			return false
		}
		if st, gives := l.Headings[sec.Heading]; gives && st != dataset.Present && st != dataset.NoneRecorded {
			return false
		}
		for _, w := range l.Warnings {
			if w.Type == fhir.Suppressed || w.Type == fhir.Incomplete {
				return false
			}
		}
	}
	return true
}

// Long is the state where there is room for words: "6 entries" for the list's "6".
func (s section) Long() string {
	n := strconv.Itoa(s.Count)
	if rest, ok := strings.CutPrefix(s.State.Word, n); ok && s.Count > 0 {
		return sayCount(s.Count, "entry", "entries") + rest
	}
	return s.State.Word
}
