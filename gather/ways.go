package gather

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"tombolo/access"
	"tombolo/dataset"
	"tombolo/fhir"
	"tombolo/policy"
	"tombolo/probe"
	"tombolo/region"
)

// A Choice is by which way one heading of one source is come by, and why: the plan of a gathering, for those who may have it explained.
type Choice struct {
	Source, Name string
	Heading      dataset.Heading
	Way          string // stored, live, neighbour, locator; "" if it is not come by at all
	Why          Why
	Policy       string        // code of the reason by which it is permitted or refused
	Age          time.Duration // of what is stored: since the source was last heard; -1 if that is not known
	Fresh        time.Duration // the rule by which it is fresh; 0 if there is none
	Verdict      probe.Verdict // what a probe found; "" if it was not probed, or too long ago
	Probed       time.Time
	Expected     time.Duration // how long an answer took when it was probed (95th percentile); 0 if that is not known
	Reaches      string        // to which year and month what it gave went back when it was probed; "" if that is not known
	Slow         time.Duration // how long it took at the median, where that is longer than the source has in this gathering; 0 where it is not
	Breaker      string        // of a source that is asked: closed, half-open, open
	Lane         LaneState     // what came of the source
	State        dataset.State // and of the heading there
}

// Why is the reason for a choice, as a code.
type Why string

// The reasons.
const (
	WhySent        Why = "sent"          // the source sends, and cannot be asked
	WhyFresh       Why = "fresh"         // the source sends and can be asked, and was heard so lately that what it sent is taken
	WhyStale       Why = "stale"         // it sends and can be asked, and was not heard lately: it is asked
	WhyStaleUsed   Why = "stale-used"    // it was not heard lately and cannot be asked now: what it sent is taken
	WhySlow        Why = "slow"          // it was not heard lately, and a probe found that it would not answer in time: what it sent is taken
	WhyUnsent      Why = "never-sent"    // it was heard lately, and was found never to have sent anything of this: it is asked
	WhyAsked       Why = "asked"         // it is asked live
	WhyNotProvided Why = "not-provided"  // a probe found that it does not give this
	WhyPolicy      Why = "policy"        // it is not shared with the user
	WhyNotAsked    Why = "not-asked"     // nothing says that it holds anything about the person, or it cannot be asked about them
	WhyNeighbour   Why = "neighbour"     // what its own sources hold
	WhyMissing     Why = "missing-here"  // a neighbour of last resort, asked because this region's own sources left it open
	WhyNotMissing  Why = "answered-here" // a neighbour of last resort, not asked because they did not
	WhyLocator     Why = "locator"       // it tells who else holds something
)

// defaultFresh is how lately a source that both sends and can be asked must have been heard for what it sent to be taken, when the region file does not say:
// what a wrong decision could rest on is asked for sooner.
func defaultFresh(h dataset.Heading) time.Duration {
	switch h {
	case dataset.Allergies, dataset.Medications, dataset.Alerts, dataset.EndOfLife, dataset.Safeguarding, dataset.Results, dataset.Observations:
		return 15 * time.Minute
	case dataset.Demographics, dataset.GPPractice, dataset.Documents, dataset.FamilyHistory, dataset.Immunisations:
		return 24 * time.Hour
	}
	return time.Hour
}

// fresh is the rule of a heading: what the region file says; else, for what could be asked for instead, the usual.
func (g *Gatherer) fresh(h dataset.Heading, way region.Way) time.Duration {
	rule := g.o.Region.Gathering.Fresh[h]
	if rule == 0 && way == region.Both {
		rule = defaultFresh(h)
	}
	return rule
}

// heard is how long ago a source was last heard, -1 if that is not known: since this process started, or by what it holds of this person.
func (op *opening) heard(source string) time.Duration {
	if op.g.o.Heard == nil {
		return -1
	}
	at := op.g.o.Heard(source)
	if at.IsZero() {
		return -1
	}
	return max(0, op.g.o.Now().Sub(at))
}

// choice begins a lane's choice of a heading, with what is known before anybody is asked.
func (op *opening) choice(l *lane, h dataset.Heading, d policy.Decision) *Choice {
	c := &Choice{Source: l.Source, Name: l.Name, Heading: h, Age: -1}
	if len(d.Reasons) > 0 {
		c.Policy = d.Reasons[0].Code
	}
	if r := l.found; r != nil {
		c.Probed = r.At
		if f := r.Headings[h]; f != nil {
			c.Verdict, c.Expected, c.Reaches = f.Verdict, cmp.Or(f.Speed.P95, r.Speed.P95), f.Earliest
		}
		c.Slow = op.slow(l, h)
	}
	if l.choices == nil {
		l.choices = map[dataset.Heading]*Choice{}
	}
	l.choices[h] = c
	return c
}

// choose decides by which way a heading of a system that may be shown is come by: stored and fresh, stored; else live. It reports whether by any.
func (op *opening) choose(l *lane, h dataset.Heading, way region.Way, c *Choice) bool {
	lacking := lacks(l.found, h)
	c.Fresh = op.g.fresh(h, way)
	if way != region.Live {
		c.Age = op.age(l, c.Fresh)
	}
	late := c.Age < 0 || c.Age > c.Fresh
	unreachable := lacking || op.g.shut(l.key)
	switch {
	case way == region.Push:
		c.Way, c.Why, c.Slow = "stored", WhySent, 0
		op.doubt(l, h, c)
	case way == region.Both && !late && l.found.Unsent(h) && !unreachable:
		c.Way, c.Why = "live", WhyUnsent
	case way == region.Both && !late:
		c.Way, c.Why = "stored", WhyFresh
	case way == region.Both && unreachable:
		c.Way, c.Why = "stored", WhyStaleUsed
		l.outdated = append(l.outdated, h)
	case way == region.Both && c.Slow > 0 && len(op.person.PatientIDs(l.key)) > 0 && !l.found.Unsent(h): // else there is nothing of theirs to take instead
		c.Way, c.Why = "stored", WhySlow
		l.outdated, l.unasked = append(l.outdated, h), append(l.unasked, h)
	case lacking:
		c.Way, c.Why = "", WhyNotProvided
		l.lacking = append(l.lacking, h)
		return false
	case way == region.Both:
		c.Way, c.Why = "live", WhyStale
	default:
		c.Way, c.Why = "live", WhyAsked
	}
	if c.Way == "live" {
		l.slow = max(l.slow, c.Slow)
	}
	return true
}

// shut reports whether a source is not asked for the moment, because it fails.
func (g *Gatherer) shut(source string) bool {
	c, ok := g.callers[source]
	return !ok || c.shut()
}

// isLive reports whether a heading is asked for.
func (l *lane) isLive(h dataset.Heading) bool {
	c := l.choices[h]
	return c != nil && c.Way == "live"
}

// tells puts in words what the plan means for whoever reads the record.
func (op *opening) tells(l *lane) {
	if len(l.lacking) > 0 {
		l.said = append(l.said, fhir.Errorf(fhir.NotSupported, "not provided by %s: %s. It was found on %s not to give this, and was not asked for it",
			l.Name, titles(l.lacking), day(l.found.At)).From(l.Source))
	}
	l.said = append(l.said, op.doubts(l)...)
	if len(l.outdated) > 0 {
		since := "for so long that it is not known when it last did"
		if heard := op.heard(l.key); heard >= 0 {
			since = "for " + age(heard)
		}
		l.said = append(l.said, fhir.Errorf(fhir.Incomplete, "%s has sent nothing %s, so what it sent may be out of date: %s", l.Name, since, titles(l.outdated)).From(l.Source))
		if len(l.unasked) > 0 {
			l.said = append(l.said, fhir.Errorf(fhir.Incomplete, "%s was not asked for %s: it was found on %s to take %s, and has %s", l.Name, titles(l.unasked),
				day(l.found.At), seconds(l.choices[l.unasked[0]].Slow), seconds(l.deadline)).From(l.Source))
		}
	}
	l.Warnings = slices.Clone(l.said)
}

func titles(hs []dataset.Heading) string {
	out := make([]string, len(hs))
	for i, h := range hs {
		out[i] = h.Title()
	}
	return strings.Join(out, ", ")
}

// Kept content of a source that is asked because it was not heard lately stands in where it does not answer.
func (l *lane) standIn(a *answered, kept []*fhir.Resource) {
	var open []dataset.Heading
	for _, h := range l.permits {
		if c := l.choices[h]; c != nil && c.Why == WhyStale {
			if _, said := a.states[h]; !said {
				open = append(open, h)
			}
		}
	}
	if len(open) == 0 {
		return
	}
	shown := false
	for _, r := range kept {
		if h := dataset.HeadingOf(r); slices.Contains(open, h) && !slices.ContainsFunc(a.content, func(x *fhir.Resource) bool { return x.Ref() == r.Ref() }) {
			a.content, shown = append(a.content, r), true
		}
	}
	if a.part == nil {
		a.part = map[dataset.Heading]bool{}
	}
	for _, h := range open {
		a.part[h] = true
	}
	if shown {
		a.notHere = false
		a.warn = append(a.warn, fhir.Errorf(fhir.Incomplete, "what %s sent before stands in for an answer: it may be out of date", l.Name).From(l.Source))
	}
}

// MayExplain reports whether a session may have the plan of a gathering explained: its role, or an activity of its sign-in, is one of those that the region
// file names (policy: explain). To anybody else there is no such thing.
func (g *Gatherer) MayExplain(s *access.Session) bool {
	agreed, _, _ := g.o.Agreed.InForce()
	if s == nil || s.FromNeighbour() || s.Role == policy.Citizen {
		return false
	}
	return slices.ContainsFunc(agreed.Policy.Explain, func(e string) bool {
		return e == string(s.Role) || slices.Contains(s.Principal().Activities, e)
	})
}

// explained is the plan with what came of it, lane by lane as the record shows them.
func (op *opening) explained() []Choice {
	var out []Choice
	for _, l := range op.lanes {
		if op.hides(l) {
			continue
		}
		for _, info := range dataset.All {
			c, ok := l.choices[info.Heading]
			if !ok {
				continue
			}
			e := *c
			if l.State == NotAsked && e.Way != "" {
				e.Way = ""
				if e.Why != WhyNotMissing {
					e.Why = WhyNotAsked
				}
			}
			if e.Way == "live" || e.Way == neighbourLane || e.Way == locatorLane {
				e.Breaker = op.g.breaker(l.key)
			}
			e.Lane, e.State = l.State, l.Headings[info.Heading]
			out = append(out, e)
		}
	}
	return out
}

func (g *Gatherer) breaker(source string) string {
	if c, ok := g.callers[source]; ok {
		if c.rests() {
			return "open"
		}
		return c.cb.State().String()
	}
	return ""
}

// ExtensionPlan is one choice of a gathering's plan, in the OperationOutcome that explains it.
const ExtensionPlan = "https://tombolo.dev/StructureDefinition/gathering-plan"

// plan is the explanation as an OperationOutcome; nil if none was asked for.
func (r *Record) plan() *fhir.Resource {
	if r.Plan == nil {
		return nil
	}
	var out []fhir.M
	for _, c := range r.Plan {
		parts := []fhir.M{{"url": "source", "valueCode": c.Source}, {"url": "heading", "valueCode": c.Heading}, {"url": "why", "valueCode": string(c.Why)},
			{"url": "source-state", "valueCode": string(c.Lane)}}
		code := func(name, v string) {
			if v != "" {
				parts = append(parts, fhir.M{"url": name, "valueCode": v})
			}
		}
		seconds := func(name string, d time.Duration) {
			if d > 0 {
				parts = append(parts, fhir.M{"url": name, "valueDecimal": json.Number(fmt.Sprintf("%.3f", d.Seconds()))})
			}
		}
		code("way", c.Way)
		code("state", string(c.State))
		code("policy", c.Policy)
		code("probe", string(c.Verdict))
		code("breaker", c.Breaker)
		seconds("age-seconds", c.Age)
		seconds("fresh-seconds", c.Fresh)
		seconds("expected-seconds", c.Expected)
		seconds("slow-seconds", c.Slow)
		if !c.Probed.IsZero() {
			parts = append(parts, fhir.M{"url": "probed", "valueInstant": fhir.Instant(c.Probed)})
		}
		if c.Reaches != "" {
			parts = append(parts, fhir.M{"url": "reaches-back-to", "valueDate": c.Reaches})
		}
		out = append(out, fhir.M{"url": ExtensionPlan, "extension": parts})
	}
	return fhir.Outcome(&fhir.Issue{Type: fhir.Informational, Severity: fhir.Information, Text: "how each heading of each source was come by"}).With("extension", out)
}

// missing are the headings of a neighbour of last resort that nobody here gives, or that somebody here left open.
func (op *opening) missing(l *lane) []dataset.Heading {
	var out []dataset.Heading
	for _, h := range l.permits {
		given, open := false, false
		for _, o := range op.lanes {
			st, gives := o.Headings[h]
			if !gives || o.neighbour.LastResort || o.Kind == locatorLane || o.Silent() {
				continue
			}
			given = true
			open = open || o.State == Failed || o.State == Earlier || o.Part[h] || st == dataset.NotKnown
		}
		if open || !given {
			out = append(out, h)
		}
	}
	return out
}

// secondWave readies the neighbours of last resort once the others have answered, and gives those that are to be asked: each for what is missing, within the
// time that is left.
func (op *opening) secondWave(since time.Duration) []*lane {
	var out []*lane
	left := cmp.Or(op.g.o.Region.Gathering.Deadline, TotalDeadline) - since
	if patience, ok := op.patience(); ok {
		left = min(left, patience)
	}
	for _, l := range op.lanes {
		if !l.neighbour.LastResort || l.State != Asking {
			continue
		}
		missing := op.missing(l)
		for _, h := range l.permits {
			c := l.choices[h]
			if slices.Contains(missing, h) {
				c.Why = WhyMissing
				continue
			}
			c.Way, c.Why = "", WhyNotMissing
			delete(l.Headings, h)
		}
		l.permits = missing
		switch {
		case len(missing) == 0:
			l.State = NotAsked
			l.Issue = fhir.Errorf(fhir.Informational, "%s was not asked: this region's own sources answered", l.Name).From(l.Source)
		case left < region.LeastDeadline:
			l.State, l.Issue = Failed, fhir.Errorf(fhir.Timeout, "%s was not asked: no time was left", l.Name).From(l.Source)
		default:
			l.deadline = min(l.deadline, left)
			out = append(out, l)
		}
	}
	return out
}
