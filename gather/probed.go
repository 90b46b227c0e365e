package gather

import (
	"cmp"
	"time"

	"tombolo/dataset"
	"tombolo/fhir"
	"tombolo/probe"
	"tombolo/region"
)

// What a probe found counts in planning as long as it is not too old, and only ever for the safe side: it keeps a source from being asked for what it does not
// give, or could not give in time; it keeps "none" from being concluded from a source that never said anything, or has been silent; and it says of an empty heading how
// far back its source goes.

// probed is what a probe found of a source, nil if it was not probed, or so long ago that it counts no more.
func (g *Gatherer) probed(source string) *probe.Result {
	if g.o.Probed == nil {
		return nil
	}
	r := g.o.Probed()[source]
	if r == nil || g.o.Now().Sub(r.At) > cmp.Or(g.o.Region.Probing.Holds, region.DefaultHolds) {
		return nil
	}
	return r
}

// lacks reports whether a probe found that a source does not give a heading when it is asked.
func lacks(r *probe.Result, h dataset.Heading) bool {
	return r != nil && r.Headings[h] != nil && r.Headings[h].Verdict == probe.NotProvided
}

// doubt notes why what a source sent under a heading may not be all there is: it has been silent for longer than the rule allows; or a probe found that it had sent nothing
// of this kind about anybody, so that it has nothing about this person says nothing.
func (op *opening) doubt(l *lane, h dataset.Heading, c *Choice) {
	var f *probe.Found
	if l.found != nil {
		f = l.found.Headings[h]
	}
	switch {
	// Who somebody is, and which practice is theirs, is judged by a sample of what was sent: that it was not in there is no finding.
	case f != nil && f.Way == string(region.Push) && f.Verdict == probe.Empty && h != dataset.Demographics && h != dataset.GPPractice:
		l.unsent = append(l.unsent, h)
	case c.Fresh > 0 && c.Age > c.Fresh:
		l.outdated = append(l.outdated, h)
	case c.Fresh > 0 && c.Age < 0 && l.found != nil: // not heard since this node started; before that the probe knows
		if last := lastCame(l.found); !last.IsZero() && op.g.o.Now().Sub(last) > c.Fresh {
			l.silent = append(l.silent, h)
		}
	}
}

// lastCame is when a source that sends had last sent anything, when it was probed.
func lastCame(r *probe.Result) (last time.Time) {
	for _, f := range r.Headings {
		if f.Came.After(last) {
			last = f.Came
		}
	}
	return last
}

// day is the day of a time, as people say it.
func day(t time.Time) string { return t.In(fhir.London).Format("2 January 2006") }

// doubts puts in words what doubt noted.
func (op *opening) doubts(l *lane) (out []*fhir.Issue) {
	if len(l.unsent) > 0 {
		out = append(out, fhir.Errorf(fhir.Incomplete, "%s had sent nothing of this about anybody when that was looked at on %s, so whether it holds any is not known: %s",
			l.Name, day(l.found.At), titles(l.unsent)).From(l.Source))
	}
	if len(l.silent) > 0 {
		out = append(out, fhir.Errorf(fhir.Incomplete, "%s had last sent something on %s when that was looked at on %s, so what it sent may be out of date: %s",
			l.Name, day(lastCame(l.found)), day(l.found.At), titles(l.silent)).From(l.Source))
	}
	return out
}

// slow is how long a source was found to take for a heading, where that is longer than it has in this opening; 0 if it is not, or if it has answered in time since.
func (op *opening) slow(l *lane, h dataset.Heading) time.Duration {
	took := l.found.Slow(h, l.deadline)
	if took == 0 || op.g.answeredSince(l, l.found.At) {
		return 0
	}
	return took
}

// answeredSince reports whether a source has answered since a time within what it has in this opening.
func (g *Gatherer) answeredSince(l *lane, at time.Time) bool {
	c, ok := g.callers[l.key]
	if !ok {
		return false
	}
	own := l.system.Deadline
	if l.system.ID == "" {
		own = l.neighbour.Deadline
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return l.deadline >= g.deadline(own) && c.health.LastOK.After(at)
}

// age is how long ago a system was last heard, -1 if that is not known. A node that has not heard it since it started goes by what a probe counted, where that is
// lately enough for the rule: it may have been heard since, and never longer ago.
func (op *opening) age(l *lane, rule time.Duration) time.Duration {
	if age := op.heard(l.key); age >= 0 || l.found == nil {
		return age
	}
	if last := lastCame(l.found); !last.IsZero() && op.g.o.Now().Sub(last) <= rule {
		return max(0, op.g.o.Now().Sub(last))
	}
	return -1
}

// limited qualifies what a lane says it has nothing of: where the source was found to go back only so far, what is older would not be there.
func (op *opening) limited(l *lane) {
	for _, info := range dataset.All {
		h := info.Heading
		if l.Headings[h] != dataset.NoneRecorded {
			continue
		}
		if back := l.found.Reach(h, op.g.o.Now()); back != "" {
			if l.Reaches == nil {
				l.Reaches = map[dataset.Heading]string{}
			}
			l.Reaches[h] = back
			l.Warnings = append(l.Warnings, fhir.Errorf(fhir.Informational, "%s has nothing under %s, which reaches back to %s there as far as was found on %s: anything older may not be in it",
				l.Name, h.Title(), probe.Month(back), day(l.found.At)).From(l.Source))
		}
	}
}
