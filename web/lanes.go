package web

import (
	"slices"
	"strconv"
	"strings"

	"tombolo/dataset"
	"tombolo/fhir"
	"tombolo/gather"
)

// A strip says how every source stands: one chip a lane, in an order that does not change while they answer.
type strip struct {
	Headline string // "5 of 6 sources answered."
	Asking   bool
	Chips    []chip
	Absent   []string // sources that do not know the person
	NotAsked []string // whole sentences
	Notice   string
	Glass    bool
	Until    string // when it ends
}

// A chip is one lane.
type chip struct {
	Name     string
	State    stateWord
	Facts    string // "12 entries · 0.42 s · as of …"
	Problem  string
	Warnings []string
}

var laneWords = map[gather.LaneState]stateWord{
	gather.Asking:   {"Asking", "…", "asking"},
	gather.Answered: {"Answered", "✓", "ok"},
	gather.Partly:   {"Answered in part", "◐", "warn"},
	gather.Earlier:  {"Shown as it was", "◷", "warn"},
	gather.Failed:   {"Did not answer", "✕", "grave"},
	gather.Refused:  {"Not shared", "⊘", "warn"},
	gather.NotHere:  {"No record here", "○", "muted"},
	gather.NotAsked: {"Not asked", "○", "muted"},
}

func newStrip(rec *gather.Record) strip {
	s := strip{Notice: rec.Notice, Glass: rec.BrokeGlass}
	if !rec.GlassUntil.IsZero() {
		s.Until = rec.GlassUntil.In(fhir.London).Format("15:04")
	}
	var asking, failed []string
	answered, total := 0, 0
	for i := range rec.Lanes {
		l := &rec.Lanes[i]
		if l.State == gather.NotHere {
			s.Absent = append(s.Absent, l.Name)
			continue
		}
		if l.State == gather.NotAsked {
			if l.Issue != nil {
				s.NotAsked = append(s.NotAsked, l.Issue.Text+".")
			}
			continue
		}
		total++
		switch l.State {
		case gather.Answered, gather.Partly:
			answered++
		case gather.Asking:
			asking = append(asking, l.Name)
		case gather.Failed, gather.Earlier:
			if l.Issue != nil {
				failed = append(failed, sayIssue(l)+".")
			} else {
				failed = append(failed, l.Name+" did not answer.")
			}
		case gather.Refused:
			failed = append(failed, l.Name+" does not share this with you.")
		}
		s.Chips = append(s.Chips, newChip(l))
	}
	s.Asking = len(asking) > 0
	s.Headline = sayAnswered(answered, total)
	if s.Asking {
		s.Headline += " Asking " + sayList(asking) + "."
	}
	s.Headline = join(" ", append([]string{s.Headline}, failed...)...)
	return s
}

func sayAnswered(answered, total int) string {
	switch {
	case total == 0:
		return "No source in this region is known to have a record."
	case total == 1 && answered == 1:
		return "The one source answered."
	case answered == total:
		return "All " + strconv.Itoa(total) + " sources answered."
	}
	return strconv.Itoa(answered) + " of " + strconv.Itoa(total) + " sources answered."
}

func newChip(l *gather.Lane) chip {
	c := chip{Name: l.Name, State: laneWords[l.State]}
	if l.State == gather.Failed && l.Issue != nil {
		switch l.Issue.Type {
		case fhir.Timeout, fhir.Transient, fhir.Throttled:
		case fhir.BusinessRule: // about somebody else, or about nobody
			c.State.Word = "Answer not used"
		default:
			c.State.Word = "Failed"
		}
	}
	if c.State.Word == "" {
		c.State = stateWord{sayCode(string(l.State)), "?", "warn"}
	}
	if l.State == gather.Answered || l.State == gather.Partly {
		c.Facts = sayCount(l.Count, "entry", "entries")
		switch {
		case l.Way == "stored" && !l.AsOf.IsZero():
			c.Facts += " · as of " + sayTime(l.AsOf)
		case l.Way == "stored":
			c.Facts += " · kept here"
		default:
			c.Facts = join(" · ", c.Facts, sayTook(l.Took))
		}
	}
	if l.State == gather.Earlier {
		c.Facts = sayCount(l.Count, "entry", "entries") + " · as of " + sayTime(l.AsOf)
	}
	if l.State == gather.Failed {
		c.Facts = sayTook(l.Took)
	}
	if l.Issue != nil {
		c.Problem = sentence(strings.TrimSpace(strings.TrimPrefix(l.Issue.Text, l.Name))) // the chip begins with the name
	}
	if l.Stage != "" {
		c.Warnings = append(c.Warnings, "Some of this you see as a tester: it is released to "+l.Stage+" only.")
	}
	for _, w := range l.Warnings {
		if w.Text != "" && !slices.Contains(c.Warnings, w.Text) {
			c.Warnings = append(c.Warnings, w.Text)
		}
	}
	return c
}

func sayCount(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return strconv.Itoa(n) + " " + many
}

// heard reports whether a heading's sources have all been heard in full.
func heard(rec *gather.Record, h dataset.Heading) bool {
	for i := range rec.Sections {
		if rec.Sections[i].Heading == h {
			return len(rec.Sections[i].Unknown) == 0 && len(rec.Sections[i].NotShared) == 0
		}
	}
	return false
}
