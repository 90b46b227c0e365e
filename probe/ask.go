package probe

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"tombolo/connector"
	"tombolo/dataset"
	"tombolo/fhir"
	"tombolo/region"
)

// An asking is one source being asked about test patients.
type asking struct {
	t      Target
	asker  connector.Asker
	who    connector.Requester
	tries  int
	r      *Result
	person fhir.Identifier
}

// numberSystems are the national numbers as the region file calls them.
var numberSystems = map[string]string{"nhs": fhir.SystemNHSNumber, "chi": fhir.SystemCHI, "hcn": fhir.SystemHCN}

// ask asks one source for all that can be asked of it. A source's failure is what was found.
func (a *asking) ask(ctx context.Context, patients []fhir.Identifier) {
	headings := a.t.live()
	for _, h := range headings {
		f := &Found{Verdict: Unknown, Way: a.t.Way[h]}
		if sent := a.r.Headings[h]; sent != nil && f.Way == string(region.Both) {
			f.Unsent = sent.Entries == 0
		}
		a.r.Headings[h] = f
	}
	switch {
	case a.t.Off:
		a.problem("It is switched off in the region file (release: off), and was not asked.")
		return
	case a.asker == nil:
		a.problem("This node has no connection to it.")
		return
	}
	a.describe(ctx)
	if len(headings) == 0 {
		return
	}
	if !a.find(ctx, patients, headings) {
		return
	}
	tried := map[dataset.Heading]*tries{}
	for range a.tries {
		for _, h := range headings {
			if ctx.Err() != nil {
				a.problem("The probing was stopped before its end.")
				return
			}
			t := tried[h]
			if t == nil {
				t = &tries{}
				tried[h] = t
			}
			t.add(a.once(ctx, h))
		}
	}
	a.conclude(headings, tried)
	a.slow(headings)
}

// slow tells of a source that gives what it was asked for, and too late for a record: a gathering waits for it no longer than its deadline.
func (a *asking) slow(headings []dataset.Heading) {
	given := a.t.Deadline
	var late []string
	for _, h := range headings {
		if s := a.r.Headings[h].Speed; s.Tries > 0 && s.P50 > given {
			late = append(late, h.Title())
		}
	}
	const mend = "Give it longer (deadline), or have it sent (push)."
	switch s := a.r.Speed; {
	case len(late) > 0:
		a.problem("It takes longer than the %s that it has for: %s. Records will mostly be without it. %s", given, strings.Join(late, ", "), mend)
	case s.P50 > given:
		a.problem("Asked for everything at once, as a gathering asks, it takes %s and has %s: records will mostly be without it. %s", s.P50.Round(time.Millisecond), given, mend)
	case s.P95 > given:
		a.problem("Asked for everything at once, as a gathering asks, it takes up to %s and has %s: records will sometimes be without it. %s", s.P95.Round(time.Millisecond), given, mend)
	}
}

func (a *asking) problem(format string, args ...any) {
	if text := fmt.Sprintf(format, args...); !slices.Contains(a.r.Problems, text) {
		a.r.Problems = append(a.r.Problems, text)
	}
}

// describe has the source say what it can do, if its kind can say so.
func (a *asking) describe(ctx context.Context) {
	d, ok := a.asker.(connector.Describer)
	if !ok {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, patience*a.t.Deadline)
	defer cancel()
	said, err := d.Describe(ctx, a.who)
	if err != nil {
		a.problem("It does not say what it can do: %s.", plain(err))
		return
	}
	a.r.Describes = &said
}

// patience is how many times its deadline a source may take while it is probed: that it is too slow is to be told with how slow.
const patience = 5

// find finds out about which test patient the source can be asked, by the question that a gathering asks: for everything at once, and timed.
func (a *asking) find(ctx context.Context, patients []fhir.Identifier, headings []dataset.Heading) bool {
	if len(patients) == 0 {
		a.problem("No test patient is named, so it was not asked for anything. Name one: probing: {patients: [\"999…\"]} in the region file, or --identifier-from FILE.")
		return false
	}
	asked := 0
	for _, id := range patients {
		if len(a.t.Numbers) > 0 && !slices.ContainsFunc(a.t.Numbers, func(n string) bool { return numberSystems[n] == id.System }) {
			continue
		}
		asked++
		a.person = id
		var took []time.Duration
		var last error
		for range a.tries {
			ans, t, err := a.question(ctx, headings)
			if last = err; ans == nil && (fhir.Is(err, fhir.NotFound) || gone(err)) {
				break
			}
			if err == nil || ans != nil {
				a.r.Known = true
				took = append(took, t)
				a.besides(ans, headings)
			}
		}
		if a.r.Known {
			if a.r.Speed = speed(took); last != nil {
				a.problem("Asked for everything at once it did not answer in full: %s.", plain(last))
			}
			return true
		}
		if !fhir.Is(last, fhir.NotFound) {
			a.problem("It did not answer about the test patient: %s.", plain(last))
			return !gone(last) // heading by heading it may
		}
	}
	if asked == 0 {
		a.problem("None of the test patients has a number by which it knows people (%s).", strings.Join(a.t.Numbers, ", "))
		return false
	}
	a.problem("It knows none of the test patients: ask its administrators for the number of one.")
	return false
}

// gone reports whether an error means that the source is not there to be asked anything: to wait for it once is enough.
func gone(err error) bool {
	return err != nil && (errors.Is(err, context.DeadlineExceeded) || fhir.IssueOf(err) == nil || fhir.Is(err, fhir.Timeout) || fhir.Is(err, fhir.Transient) || fhir.Is(err, fhir.Throttled) || fhir.Is(err, fhir.Exception))
}

// besides notes what the source gives that the region file does not say it gives.
func (a *asking) besides(ans *connector.Answer, headings []dataset.Heading) {
	if ans == nil {
		return
	}
	for _, r := range ans.Content {
		if h := dataset.HeadingOf(r); h != "" && !supporting[r.Type()] && !slices.Contains(headings, h) && !slices.Contains(a.r.Besides, h) && a.t.Way[h] == "" {
			a.r.Besides = append(a.r.Besides, h)
		}
	}
}

// question asks for headings about the test patient. An answer about anybody else is none.
func (a *asking) question(ctx context.Context, headings []dataset.Heading) (*connector.Answer, time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, patience*a.t.Deadline)
	defer cancel()
	start := time.Now()
	ans, err := a.guarded(ctx, connector.Question{Identifiers: []fhir.Identifier{a.person}, Headings: headings, Requester: a.who})
	took := time.Since(start)
	if ans != nil && ans.Patient != nil && !a.isAbout(ans.Patient) {
		return nil, took, fhir.Errorf(fhir.BusinessRule, "it answered about somebody else than the test patient, and its answer was dropped: tell its administrators")
	}
	return ans, took, err
}

func (a *asking) guarded(ctx context.Context, q connector.Question) (ans *connector.Answer, err error) {
	defer func() {
		if r := recover(); r != nil {
			ans, err = nil, fhir.Errorf(fhir.Exception, "a fault in its connector")
		}
	}()
	return a.asker.Ask(ctx, q)
}

func (a *asking) isAbout(p *fhir.Resource) bool {
	for _, id := range p.Identifiers() {
		if id = id.Canonical(); id.System == a.person.System {
			return id.Value == a.person.Value
		}
	}
	return true // it names no number of that kind: a person's name decides elsewhere, and nothing is shown here
}

// A try is one question for one heading.
type try struct {
	verdict Verdict
	found   Found
	took    time.Duration
	ok      bool // it was answered
	problem string
}

type tries struct{ all []try }

func (t *tries) add(one try) { t.all = append(t.all, one) }

func (a *asking) once(ctx context.Context, h dataset.Heading) try {
	ans, took, err := a.question(ctx, []dataset.Heading{h})
	t := try{verdict: Unknown, took: took}
	if ans != nil {
		t.found = look(ans, h, a.r.At)
		t.ok = true
	}
	if err != nil {
		t.problem = plain(err)
	}
	switch st := stateOf(ans, h); {
	case t.found.Entries > 0:
		t.verdict, t.found.Partly = Given, st != dataset.Present
	case st == dataset.Present: // demographics are in no list
		t.verdict = Given
	case st == dataset.NoneRecorded:
		t.verdict = Empty
	case st == dataset.NotShared || fhir.Is(err, fhir.Suppressed) || fhir.Is(err, fhir.Forbidden) || fhir.Is(err, fhir.Login):
		t.verdict = Refused
	case ans == nil && fhir.Is(err, fhir.NotSupported):
		t.verdict = NotProvided
	case ans == nil || err != nil:
	case a.t.Kind == region.KindTombolo && st == "": // it names every heading that its own sources give
		t.verdict, t.problem = NotProvided, "none of its sources gives this"
	case a.t.Kind == locatorKind && st == "" && len(ans.Issues) == 0: // it named all that it points to
		t.verdict = Empty
	default:
		if i := slices.IndexFunc(ans.Issues, func(i *fhir.Issue) bool { return i.Type == fhir.NotSupported }); i >= 0 {
			t.verdict, t.problem = NotProvided, plain(ans.Issues[i])
		} else if t.problem == "" {
			t.problem = said(ans)
		}
	}
	return t
}

// said is why an answer leaves a heading open.
func said(ans *connector.Answer) string {
	for _, i := range ans.Issues {
		if i.Severity != fhir.Information {
			return plain(i)
		}
	}
	return "it answered, and did not say whether there is anything"
}

func stateOf(ans *connector.Answer, h dataset.Heading) dataset.State {
	if ans == nil {
		return ""
	}
	return ans.States[h]
}

// supporting are the types that entries refer to and that are not entries themselves.
var supporting = map[string]bool{"Medication": true, "Specimen": true, "Organization": true, "Practitioner": true, "PractitionerRole": true,
	"Location": true, "Substance": true, "Binary": true}

// look counts what an answer gives of a heading.
func look(ans *connector.Answer, h dataset.Heading, now time.Time) Found {
	d := depth{now: now}
	if h == dataset.Demographics && ans.Patient != nil {
		d.add(ans.Patient)
	}
	for _, r := range ans.Content {
		if dataset.HeadingOf(r) == h && !supporting[r.Type()] {
			d.add(r)
		}
	}
	return d.found()
}

// A depth is how far back entries go.
type depth struct {
	entries          int
	types            map[string]int
	earliest, latest string
	now              time.Time
	newest           time.Time // of what has been
}

func (d *depth) add(r *fhir.Resource) {
	d.entries++
	if d.types == nil {
		d.types = map[string]int{}
	}
	d.types[r.Type()]++
	when := dataset.When(r)
	span, err := fhir.ParseDate(when)
	if r.Type() == "Patient" || err != nil {
		return
	}
	month := span.Start.UTC().Format("2006-01")
	if len(when) == 4 {
		month = when
	}
	if d.earliest == "" || month < d.earliest {
		d.earliest = month
	}
	if month > d.latest {
		d.latest = month
	}
	if span.Start.After(d.newest) && !span.Start.After(d.now) {
		d.newest = span.Start
	}
}

func (d *depth) found() Found {
	f := Found{Entries: d.entries, Types: d.types, Earliest: d.earliest, Latest: d.latest}
	if !d.newest.IsZero() {
		f.Age = d.now.Sub(d.newest).Round(time.Hour)
	}
	return f
}

// conclude makes of the tries of each heading what was found. That a source does not provide a heading is believed only if it said so at every try, and if it
// answers about others: a wrong address refuses everything.
func (a *asking) conclude(headings []dataset.Heading, tried map[dataset.Heading]*tries) {
	answers := false
	for _, h := range headings {
		for _, t := range tried[h].all {
			answers = answers || t.verdict == Given || t.verdict == Empty
		}
	}
	for _, h := range headings {
		f := a.r.Headings[h]
		var took []time.Duration
		absent := 0
		for _, t := range tried[h].all {
			if t.ok {
				took = append(took, t.took)
			}
			if t.problem != "" {
				f.Problem = t.problem
			}
			if t.verdict == NotProvided {
				absent++
				continue
			}
			if better(t.verdict, f.Verdict) {
				way, problem, unsent := f.Way, f.Problem, f.Unsent
				*f = t.found
				f.Way, f.Problem, f.Verdict, f.Unsent = way, problem, t.verdict, unsent
			}
		}
		f.Speed = speed(took)
		switch {
		case absent == len(tried[h].all) && answers:
			f.Verdict = NotProvided
		case absent == len(tried[h].all):
			f.Problem = "it says that it does not offer this, and nothing else either: check its address"
		case f.Verdict == Given && !f.Partly, f.Verdict == Empty:
			if len(took) == len(tried[h].all) {
				f.Problem = ""
			}
		}
	}
}

// better orders verdicts by how much they tell.
func better(a, b Verdict) bool {
	order := []Verdict{Unknown, Refused, Empty, Given}
	return slices.Index(order, a) > slices.Index(order, b)
}

// speed tells how long answers took.
func speed(took []time.Duration) Speed {
	if len(took) == 0 {
		return Speed{}
	}
	took = slices.Clone(took)
	slices.Sort(took)
	at := func(percent int) time.Duration {
		return took[(len(took)*percent+99)/100-1].Round(10 * time.Microsecond)
	}
	return Speed{Tries: len(took), P50: at(50), P95: at(95)}
}

// plain is why something failed, in words for an operator.
func plain(err error) string {
	if err == nil {
		return ""
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return "it did not answer in time"
	}
	text := err.Error()
	if i := fhir.IssueOf(err); i != nil {
		text = i.Text
	}
	if r := []rune(text); len(r) > 300 {
		text = string(r[:300]) + "…"
	}
	return strings.TrimSuffix(text, ".")
}
