package probe

import (
	"fmt"
	"time"

	"tombolo/dataset"
	"tombolo/fhir"
)

// What of a result counts in planning. A nil Result, of a source that was not probed, says nothing.

// deepEnough is how far back a heading must have been found to go for nothing to be said of it where it is empty.
const deepEnough = 10 * 365 * 24 * time.Hour

// Slow is how long the source was found to take for a heading, or if that was not timed, for everything at once, if it is longer than it has; else 0. It is the
// median: a source that is late now and then is not slow.
func (r *Result) Slow(h dataset.Heading, has time.Duration) time.Duration {
	if r == nil {
		return 0
	}
	s := r.Speed
	if f := r.Headings[h]; f != nil && f.Speed.Tries > 0 {
		s = f.Speed
	}
	if s.Tries == 0 || s.P50 <= has {
		return 0
	}
	return s.P50
}

// Unsent reports whether a source that both sends and can be asked was found never to have sent anything under a heading: that it was heard lately says nothing
// of that one.
func (r *Result) Unsent(h dataset.Heading) bool {
	return r != nil && r.Headings[h] != nil && r.Headings[h].Unsent
}

// Reach is the year and month to which a heading was found to go back, "" where nothing needs to be said of it: nothing was found, it goes back far enough, or
// it bears no dates that would tell.
func (r *Result) Reach(h dataset.Heading, now time.Time) string {
	if r == nil || h == dataset.Demographics || h == dataset.GPPractice {
		return ""
	}
	f := r.Headings[h]
	if f == nil || f.Verdict != Given || f.Earliest == "" {
		return ""
	}
	if span, err := fhir.ParseDate(f.Earliest); err != nil || now.Sub(span.Start) >= deepEnough {
		return ""
	}
	return f.Earliest
}

// Month writes a month, or a year, as people do: "March 2025" for 2025-03.
func Month(month string) string {
	if t, err := time.Parse("2006-01", month); err == nil {
		return t.Format("January 2006")
	}
	return month
}

// Effects says in words what was found of a heading changes in a gathering: nothing, once it is too old.
func (r *Result) Effects(h dataset.Heading, now time.Time) []string {
	f := r.Headings[h]
	if f == nil || r.At.IsZero() || !r.Until.IsZero() && now.After(r.Until) {
		return nil
	}
	var out []string
	if f.Verdict == NotProvided {
		return append(out, "not asked for")
	}
	if f.Unsent {
		out = append(out, "asked for also when the source was heard lately")
	}
	if took := r.Slow(h, r.Deadline); took > 0 && r.Deadline > 0 {
		if f.Way == "both" && !f.Unsent {
			out = append(out, fmt.Sprintf("what was sent is taken: an answer takes longer than %s", r.Deadline))
		} else {
			out = append(out, fmt.Sprintf("asked for, and told to take longer than %s", r.Deadline))
		}
	}
	if back := r.Reach(h, now); back != "" && f.Way != "push" {
		out = append(out, "where it has none, said to reach back to "+Month(back))
	}
	return out
}
