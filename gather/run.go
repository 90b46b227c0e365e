package gather

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"time"

	"tombolo/connector"
	"tombolo/dataset"
	"tombolo/fhir"
	"tombolo/mpi"
	"tombolo/policy"
	"tombolo/region"
)

// run asks every lane at once and yields each time some have answered; the last time all have, or time is up. It returns no later than the
// slowest permitted deadline, whether or not the sources obey theirs. The record is made by whoever wants to see it: joining it again for
// each of many sources would cost more than asking them.
func (op *opening) run(ctx context.Context) iter.Seq[bool] {
	return func(yield func(last bool) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		answers := make(chan answered, len(op.lanes))
		waiting, began := 0, time.Now()
		send := func(lanes []*lane) (longest time.Duration) {
			for _, l := range lanes {
				waiting++
				longest = max(longest, l.deadline)
				go func() { answers <- op.g.ask(ctx, op, l) }()
			}
			return longest
		}
		var first []*lane
		for _, l := range op.lanes {
			if l.State == Asking && !l.neighbour.LastResort {
				first = append(first, l)
			}
		}
		longest := send(first)
		if waiting == 0 {
			if longest = send(op.secondWave(0)); waiting == 0 {
				yield(true)
				return
			}
		}
		// A source whose connector does not obey its deadline is given up here.
		end := time.NewTimer(longest + lastWords)
		defer end.Stop()
		for waiting > 0 {
			select {
			case a := <-answers:
				waiting -= op.taken(a)
				for more := true; more && waiting > 0; { // those that came at the same time
					select {
					case a := <-answers:
						waiting -= op.taken(a)
					default:
						more = false
					}
				}
			case <-end.C:
				waiting = 0
			case <-ctx.Done():
				waiting = 0
			}
			if !op.awaited() || waiting == 0 {
				waiting -= op.follow()
			}
			if waiting <= 0 {
				waiting = 0
				op.giveUp(ctx.Err() != nil)
				end.Reset(send(op.secondWave(time.Since(began))) + lastWords)
			}
			if !yield(waiting == 0) {
				return
			}
		}
	}
}

// lastWords is what an answer that came just in time may still take to be checked and stamped.
const lastWords = 100 * time.Millisecond

// taken takes an answer in, unless its lane was given up before it came. It gives how many lanes it closes.
func (op *opening) taken(a answered) int {
	if a.lane.State != Asking {
		return 0
	}
	if a.lane.Kind == locatorLane { // whether a pointer may be told of depends on what it leads to
		op.pointers = append(op.pointers, a)
		return 0
	}
	was := a.lane.Lane
	was.Headings = maps.Clone(was.Headings)
	op.answers = append(op.answers, heard{a, was})
	op.take(a)
	return 1
}

// awaited reports whether a source of this region is still being asked.
func (op *opening) awaited() bool {
	return slices.ContainsFunc(op.lanes, func(l *lane) bool { return l.State == Asking && !l.elsewhere() })
}

// giveUp closes the lanes that are still open when time is up: all of them, or all but those that are yet to be asked.
func (op *opening) giveUp(all bool) {
	for _, l := range op.lanes {
		if l.State == Asking && (all || !l.neighbour.LastResort || l.choices[l.permits[0]].Why == WhyMissing) {
			l.State, l.Took = Failed, op.g.o.Now().Sub(op.start)
			if l.Issue = late(l); l.Kind == locatorLane {
				l.Issue = unlocated(l, l.Issue)
			}
		}
	}
}

// unlocated says what it means that a locator has not answered.
func unlocated(l *lane, why *fhir.Issue) *fhir.Issue {
	return fhir.Errorf(why.Type, "%s, so who else holds something about this person is not known", why.Text).From(l.Source)
}

func late(l *lane) *fhir.Issue {
	if l.slow > 0 {
		return fhir.Errorf(fhir.Timeout, "%s did not answer within %s: it was found to take %s, so it may not help to try again", l.Name, seconds(l.deadline), seconds(l.slow)).From(l.Source)
	}
	return fhir.Errorf(fhir.Timeout, "%s did not answer within %s", l.Name, seconds(l.deadline)).From(l.Source)
}

// seconds is a short time as people say it, to a tenth of a second from one second on.
func seconds(d time.Duration) string {
	if d < time.Second {
		return fmt.Sprintf("%d ms", d.Milliseconds())
	}
	return strings.TrimSuffix(fmt.Sprintf("%.1f", d.Seconds()), ".0") + " s"
}

// age is a time that has passed, in the largest unit of which there is at least one.
func age(d time.Duration) string {
	for _, u := range []struct {
		of   time.Duration
		name string
	}{{24 * time.Hour, "day"}, {time.Hour, "hour"}, {time.Minute, "minute"}} {
		switch n := d / u.of; {
		case n == 1:
			return "1 " + u.name
		case n > 1:
			return fmt.Sprintf("%d %ss", n, u.name)
		}
	}
	return "less than a minute"
}

// An answered lane: what a source said, in this server's ids.
type answered struct {
	lane    *lane
	took    time.Duration
	content []*fhir.Resource
	units   []*policy.Units  // that made what is in content and then besides; nil: it is all the same
	besides []*fhir.Resource // what else it has sent, which is not to be shown, and which may make sensitive what is
	states  map[dataset.Heading]dataset.State
	issue   *fhir.Issue // nil: answered in full
	notHere bool
	live    string                            // this server's id of the patient whom a live source answered about
	mapped  string                            // name and version of the mapping of a live answer
	origins map[fhir.Ref]connector.Origin     // of what a neighbour had from elsewhere
	part    map[dataset.Heading]bool          // headings that were not answered in full, whatever was given under them
	earlier time.Time                         // when content was answered, if not now
	gives   map[dataset.Heading]dataset.State // of a neighbour: the headings that its region gives at all
	warn    []*fhir.Issue
	index   string        // what a neighbour's index was asked by
	trail   *policy.Trail // of a locator: to what is sensitive in all that is kept here about the person
}

// ask runs one lane to its end. It touches nothing that others touch.
func (g *Gatherer) ask(ctx context.Context, op *opening, l *lane) (a answered) {
	start := time.Now()
	defer func() {
		if r := recover(); r != nil { // one broken connector must not take the record down
			g.o.Logger.Error("a connector failed badly", "source", l.Source, "panic", fmt.Sprintf("%T", r))
			a = answered{lane: l, issue: fhir.Errorf(fhir.Exception, "%s could not be read: a fault in its connector", l.Name)}
		}
		a.took = time.Since(start)
	}()
	ctx, cancel := context.WithTimeout(ctx, l.deadline)
	defer cancel()
	a = answered{lane: l, states: map[dataset.Heading]dataset.State{}}
	if len(l.patients) > 0 {
		g.readKept(ctx, l, &a)
	}
	if l.Way != "stored" && a.issue == nil {
		kept := a.besides
		g.askLive(ctx, op, l, &a)
		l.standIn(&a, kept)
	}
	if l.facts.Source.Divided() {
		late, done := context.WithTimeout(context.WithoutCancel(ctx), lastWords/2) // an earlier answer comes when the lane's own time is over
		defer done()
		a.units = g.units(late, l, slices.Concat(a.content, a.besides))
	}
	if l.Kind == locatorLane && len(a.content) > 0 {
		var err error
		if a.trail, err = g.Trail(ctx, op.person); err != nil {
			return answered{lane: l, issue: fhir.Errorf(fhir.Transient, "%s: what its pointers lead to could not be looked at", l.Name)}
		}
	}
	return a
}

// readKept reads what the source has sent. A feed that has sent nothing under a heading has not said that there is nothing.
func (g *Gatherer) readKept(ctx context.Context, l *lane, a *answered) {
	var err error
	for r, rerr := range g.o.Kept.Patient(ctx, l.patients...) {
		if rerr != nil {
			err = rerr // one damaged entry does not hide the others
			continue
		}
		h := dataset.HeadingOf(r)
		if r.Type() == "Binary" {
			continue // opened through its DocumentReference
		}
		if supporting[r.Type()] || h != "" && l.system.Gives[h].Sends() && !l.isLive(h) && slices.Contains(l.permits, h) {
			a.content = append(a.content, r)
		} else {
			a.besides = append(a.besides, r)
		}
	}
	a.content = append(a.content, g.products(ctx, a.content)...)
	a.besides = append(a.besides, g.products(ctx, a.besides)...)
	if err != nil {
		g.o.Logger.Error("kept records could not be read", "source", l.Source, "error", err)
		a.issue = fhir.Errorf(fhir.Incomplete, "what %s has sent could not be read in full", l.Name)
	}
}

// askLive asks the source and takes in only what is proven to be about the person.
func (g *Gatherer) askLive(ctx context.Context, op *opening, l *lane, a *answered) {
	source, ok := g.callers[l.key]
	if !ok {
		a.issue = fhir.Errorf(fhir.NotSupported, "%s cannot be asked: this node has no connection to it", l.Name)
		return
	}
	q := op.question(l)
	if !l.elsewhere() {
		q.Headings = slices.DeleteFunc(slices.Clone(q.Headings), func(h dataset.Heading) bool { return !l.isLive(h) })
	}
	q, err := g.identify(ctx, op, l, q, a)
	if err != nil {
		if a.notHere = fhir.Is(err, fhir.NotFound); !a.notHere {
			a.issue = unidentified(l, err)
		}
		return
	}
	ans, err := source.ask(ctx, q)
	if err != nil {
		if fhir.Is(err, fhir.NotFound) {
			a.notHere = len(a.content) == 0
			g.noLonger(ctx, op, l, q)
			return
		}
		a.issue = explain(l, err)
		switch {
		case stranger(err) && ans == nil:
			a.issue = g.alarm(op, l)
			g.noLonger(ctx, op, l, q)
		case a.issue.Type == fhir.Suppressed:
			g.noLonger(ctx, op, l, q)
		case ans == nil && g.keeps(op, l):
			late, done := context.WithTimeout(context.WithoutCancel(ctx), lastWords/2) // its own time is over
			defer done()
			ans, a.earlier = g.earlier(late, op, l, q)
		}
	}
	if ans == nil {
		return
	}
	if ans.Patient != nil {
		a.live = g.o.Stamper.ID(l.key, "Patient", ans.Patient.ID())
	}
	a.mapped = ans.Map
	mismatch := g.check(op, l, ans)
	if mismatch == nil {
		if mismatch = g.toldApart(ctx, op, l, ans, a.live); mismatch != nil && a.earlier.IsZero() && !l.elsewhere() && len(l.patients) == 0 {
			go g.note(context.WithoutCancel(ctx), l.key, ans.Patient, false, a.live, nil, nil) // a steward can speak only of whom the index knows
		}
	}
	if mismatch != nil {
		source.memory.forget(l.key, sameQuestion(q))
		a.issue = mismatch
		a.content, a.states = nil, map[dataset.Heading]dataset.State{}
		g.noLonger(ctx, op, l, q)
		return
	}
	if err == nil && g.keeps(op, l) {
		if at, ok := g.place(l, q); ok {
			kept := *ans
			go g.shelve(context.WithoutCancel(ctx), l.key, at, q, &kept)
		}
	}
	if stranger(err) || slices.ContainsFunc(ans.Issues, func(i *fhir.Issue) bool { return i.Stranger }) {
		g.alarm(op, l) // its connector left out what was somebody else's; the rest stands, and is not given again without asking
		source.memory.forget(l.key, sameQuestion(q))
	}
	a.warn = append(a.warn, ans.Issues...)
	a.warn = append(a.warn, demographicWarnings(op.person, ans.Patient, l)...)
	a.part = map[dataset.Heading]bool{}
	for _, h := range q.Headings {
		st, said := ans.States[h]
		if said {
			a.states[h] = st
		}
		a.part[h] = st == dataset.NotKnown || !said && l.speaks != region.KindTombolo
	}
	if ans.Patient != nil && slices.Contains(q.Headings, dataset.Demographics) {
		a.states[dataset.Demographics], a.part[dataset.Demographics] = dataset.Present, false
		ans.Content = append(slices.Clone(ans.Content), ans.Patient)
	}
	if l.speaks == region.KindTombolo || l.Kind == locatorLane { // only what its own sources give: of the rest it has nothing to say
		a.gives = ans.States
	}
	counts := map[dataset.Heading]int{}
	for h, st := range a.states {
		if st == dataset.Present || st == dataset.NoneRecorded {
			counts[h] = 0
		}
	}
	for _, r := range ans.Content {
		h, supports := dataset.HeadingOf(r), supporting[r.Type()]
		if n, ok := counts[h]; ok && !supports {
			counts[h] = n + 1
		}
		_, fresh := ans.States[h]
		beside := !supports && (!slices.Contains(q.Headings, h) || !a.earlier.IsZero() && !fresh)
		if r.Type() == "Binary" || beside && a.earlier.IsZero() && !l.facts.Source.Divided() {
			continue // never more than was asked for; a Binary is opened through its DocumentReference
		}
		origin, told := ans.Origins[r.Ref()]
		stamped, err := g.o.Stamper.Stamp(l.key, r)
		if err == nil && told {
			if a.origins == nil {
				a.origins = map[fhir.Ref]connector.Origin{}
			}
			a.origins[stamped.Ref()] = origin
		}
		if err != nil {
			a.warn = append(a.warn, fhir.Errorf(fhir.Incomplete, "an entry from %s could not be taken", l.Name))
			continue
		}
		if beside {
			a.besides = append(a.besides, stamped)
			continue
		}
		a.content = append(a.content, stamped)
	}
	if !l.elsewhere() && err == nil && ans.Patient != nil {
		patient, known := ans.Patient, len(l.patients) > 0
		go g.note(context.WithoutCancel(ctx), l.key, patient, known, a.live, counts, ans.Content)
	}
}

// noLonger drops what is kept of somebody whom the source does not know, does not share, or answers wrongly about.
func (g *Gatherer) noLonger(ctx context.Context, op *opening, l *lane, q connector.Question) {
	if g.keeps(op, l) {
		if at, ok := g.place(l, q); ok {
			go g.unshelve(context.WithoutCancel(ctx), l.key, at)
		}
	}
}

// check holds an answer to the identity asked for (design law 9). An answer that does not say whom it is about is not believed.
func (g *Gatherer) check(op *opening, l *lane, ans *connector.Answer) *fhir.Issue {
	if ans.Patient == nil {
		if len(ans.Content) == 0 {
			return nil
		}
		return fhir.Errorf(fhir.BusinessRule, "%s did not say whose record it sent, so it is not shown", l.Name).From(l.Source)
	}
	p := mpi.FromResource(l.Source, ans.Patient)
	confirmed := false
	for _, asked := range op.identifiers() {
		for _, got := range p.Identifiers {
			if got.System != asked.System || got.Use == "old" {
				continue
			}
			if got.Value != asked.Value && !slices.Contains(op.person.Superseded, got.Value) {
				return g.alarm(op, l)
			}
			confirmed = true
		}
	}
	if !confirmed && !mpi.Agree(op.person.Name, p.Name, op.person.BirthDate, p.BirthDate) {
		return g.alarm(op, l)
	}
	if confirmed && op.person.BirthDate != "" && p.BirthDate != "" && !mpi.Agree(op.person.Name, p.Name, op.person.BirthDate, p.BirthDate) {
		return g.alarm(op, l)
	}
	return nil
}

// stranger reports whether a connector says that something of another person came.
func stranger(err error) bool {
	i := fhir.IssueOf(err)
	return i != nil && i.Stranger
}

// alarm is loud: a source that answers about somebody else is a danger to two people.
func (g *Gatherer) alarm(op *opening, l *lane) *fhir.Issue {
	g.o.Logger.Error("WRONG PATIENT: a source answered about somebody else; what it said of them was dropped", "source", l.Source, "trace", op.session.Trace)
	e := g.event(op.session, "wrong-patient")
	e.Outcome, e.PersonID = "8", op.person.ID
	e.What = []string{"source: " + l.Source, "the answer, or part of it, was about somebody else and was dropped"}
	if _, err := g.o.Audit.Append(context.Background(), e); err != nil {
		g.o.Logger.Error("the wrong-patient alarm could not be audited", "source", l.Source, "error", err)
	}
	return fhir.Errorf(fhir.BusinessRule, "%s answered about a different person: its answer was dropped and the alarm raised", l.Name).From(l.Source).OfStranger()
}

// demographicWarnings shows where the source's demographics differ. GP Connect: consumers SHALL cross-check and show.
func demographicWarnings(p *mpi.Person, r *fhir.Resource, l *lane) []*fhir.Issue {
	if r == nil {
		return nil
	}
	q := mpi.FromResource(l.Source, r)
	var out []*fhir.Issue
	if p.BirthDate != "" && q.BirthDate != "" && p.BirthDate != q.BirthDate {
		out = append(out, fhir.Errorf(fhir.Incomplete, "%s holds a different date of birth for this NHS number: check that it is the same person", l.Name))
	}
	if p.Gender != "" && q.Gender != "" && p.Gender != q.Gender {
		out = append(out, fhir.Errorf(fhir.Incomplete, "%s holds a different gender", l.Name))
	}
	return out
}

// explain puts a source's failure in words for a clinician.
func explain(l *lane, err error) *fhir.Issue {
	if errors.Is(err, context.DeadlineExceeded) || fhir.Is(err, fhir.Timeout) {
		return late(l)
	}
	i := fhir.IssueOf(err)
	if i == nil {
		return fhir.Errorf(fhir.Transient, "%s could not be reached", l.Name).From(l.Source)
	}
	if i == errOpen {
		return fhir.Errorf(fhir.Transient, "%s was not asked: it has failed several times in a row, and will be tried again within seconds", l.Name).From(l.Source)
	}
	if i == errRest {
		return fhir.Errorf(fhir.Throttled, "%s was not asked: it said that it has too many questions for now. Try again in a minute", l.Name).From(l.Source)
	}
	if i == errBusy {
		return fhir.Errorf(fhir.Throttled, "%s was not asked: as many questions as it takes are already on their way. Try again", l.Name).From(l.Source)
	}
	if errors.Is(err, connector.ErrUnsafe) {
		return fhir.Errorf(fhir.Transient, "%s was not asked: the connection to it is not safe, because a certificate was not accepted. Whoever runs this service must see to it", l.Name).From(l.Source)
	}
	t := i.Type
	var text string
	switch t {
	case fhir.Throttled:
		text = "%s is refusing further requests for now"
	case fhir.Suppressed:
		text = "%s does not share this person's record"
	case fhir.Forbidden:
		text = "%s does not share records for this role or purpose"
		t = fhir.Suppressed
	case fhir.Structure, fhir.Invalid, fhir.ValueError, fhir.Required:
		text = "%s sent an answer that could not be read"
	case fhir.TooLong, fhir.TooCostly:
		text = "%s sent more than can be taken in one answer"
	case fhir.MultipleMatch:
		text = "%s holds more than one record for this number"
	case fhir.Exception:
		text = "%s could not be read: a fault in its connector"
	case fhir.Incomplete:
		text = "%s did not answer in full"
	case fhir.NotSupported:
		text = "%s cannot be asked for this person"
	default:
		text = "%s could not be reached"
	}
	return fhir.Errorf(t, text, l.Name).From(l.Source)
}

// take folds an answer into its lane.
func (op *opening) take(a answered) {
	l := a.lane
	l.Took, l.Warnings, l.live, l.Map, l.Index = a.took, slices.Concat(l.said, a.warn), a.live, a.mapped, a.index
	switch {
	case a.notHere:
		l.State, l.Warnings = NotHere, a.warn
		l.cover()
		return
	case a.issue != nil && len(a.content) == 0 && len(a.states) == 0:
		l.State, l.Issue = Failed, a.issue
		if l.Kind == locatorLane {
			l.Issue = unlocated(l, a.issue)
		}
		if a.issue.Type == fhir.Suppressed {
			l.State = Refused
			for h := range l.Headings {
				l.Headings[h] = dataset.NotShared
			}
		}
		return
	case !a.earlier.IsZero():
		l.State, l.AsOf = Earlier, a.earlier
		l.Issue = fhir.Errorf(a.issue.Type, "%s. What it answered %s ago, on %s, is shown instead: it may have changed since", a.issue.Text, age(op.g.o.Now().Sub(a.earlier)), a.earlier.Format("2 January 2006 at 15:04")).From(l.Source)
	case a.issue != nil:
		l.State, l.Issue = Partly, a.issue
	default:
		l.State = Answered
	}
	if a.gives != nil {
		for h := range l.Headings {
			if _, ok := a.gives[h]; !ok {
				delete(l.Headings, h)
			}
		}
	}
	now := op.g.o.Now()
	for h, st := range a.states {
		l.Headings[h] = op.honest(st)
	}
	l.Part = a.part
	for _, h := range slices.Concat(l.outdated, l.silent, l.unsent) {
		if l.Part == nil {
			l.Part = map[dataset.Heading]bool{}
		}
		l.Part[h] = true
	}
	l.support = map[fhir.Ref]*fhir.Resource{}
	shown := op.discloser(l, a.content, a.besides, a.units)
	var products []*fhir.Resource // that entries named before they were told by name
	for i, r := range a.content {
		if !supporting[r.Type()] {
			continue
		}
		if r = shown(i, ""); r != nil {
			l.support[r.Ref()] = r
		}
	}
	for i, r := range a.content {
		h := dataset.HeadingOf(r)
		if h == "" || supporting[r.Type()] {
			continue
		}
		if r = shown(i, h); r == nil {
			continue
		}
		if ref := fhir.Ref(r.Text("medicationReference.reference")); l.support[ref] != nil {
			products = append(products, l.support[ref])
		}
		r = op.ofPerson(named(r, l.support), l)
		received := now
		if !a.earlier.IsZero() {
			received = a.earlier
		}
		if span, err := fhir.ParseDate(r.Text("meta.lastUpdated")); err == nil {
			received = span.Start
			if l.Way == "stored" && received.After(l.AsOf) { // of what may be seen: when anything else came would tell that it did
				l.AsOf = received
			}
		}
		if op.decision.Has(policy.WithholdLocation) {
			r = op.whereabouts().withhold(r, l)
		}
		m := Member{Resource: r, Source: l.Source, Name: l.Name, Received: received, origin: l.origin(a.origins, a.content[i])}
		m.marks = marksOf(m)
		l.members[h] = append(l.members[h], m)
		if practice := op.practice(l, r); practice != nil && op.session.Shows(practice) {
			l.members[dataset.GPPractice] = append(l.members[dataset.GPPractice], Member{Resource: practice, Source: l.Source, Name: l.Name, Received: received})
		}
	}
	op.recount(l)
	l.unlead()
	op.limited(l)
	l.support = referred(l.support, l.members, products) // the clinic, the product and the signature of what is withheld tell of it
	if l.InPart != nil || l.State == Earlier {
		l.cover()
	}
	if l.State == Earlier && l.unseen() { // that something is kept would tell that the source knows them
		l.State, l.AsOf, l.Issue = Failed, time.Time{}, a.issue
		for _, h := range l.permits {
			l.Headings[h] = dataset.NotKnown
		}
	}
}

// unlead makes a locator's lane the same whether it holds no pointer or none that may be shown.
func (l *lane) unlead() {
	if l.Kind != locatorLane {
		return
	}
	if l.Count == 0 && l.State == Partly {
		l.State, l.Issue = Failed, unlocated(l, l.Issue)
		for _, h := range l.permits {
			l.Headings[h] = dataset.NotKnown
		}
		return
	}
	for h := range l.Headings {
		if l.State == Answered && l.Part != nil && len(l.members[h]) == 0 {
			delete(l.Headings, h)
			l.Part[h] = true
		}
	}
}

// practice is the registered GP practice that a source's Patient names, as an entry of its own heading.
func (op *opening) practice(l *lane, r *fhir.Resource) *fhir.Resource {
	if r.Type() != "Patient" || !slices.Contains(l.permits, dataset.GPPractice) {
		return nil
	}
	ods := mpi.FromResource(l.key, r).Practice
	if ods == "" {
		return nil
	}
	return fhir.New("Organization", op.g.o.Stamper.ID(l.key, "Organization", "gp-practice/"+ods), fhir.M{
		"meta":       fhir.M{"source": connector.SourceURI(l.Source)},
		"identifier": []fhir.Identifier{{System: fhir.SystemODS, Value: ods}}, "name": op.g.organisation(ods).Name})
}

// recount makes each heading's state agree with what is really to be shown.
func (op *opening) recount(l *lane) {
	l.Count = 0
	for h := range l.Headings {
		n := len(l.members[h])
		l.Count += n
		switch {
		case n > 0:
			l.Headings[h] = dataset.Present
		case l.Headings[h] == dataset.Present:
			// Everything it gave here was withheld: as if it were not there, and for those from whom things may be withheld never "none".
			l.Headings[h] = op.honest(dataset.NoneRecorded)
		}
		if n == 0 && l.InPart[h] {
			l.Headings[h] = dataset.NotShared
		}
		if n == 0 && (l.State == Partly || l.State == Earlier) && l.Headings[h] == dataset.NoneRecorded {
			l.Headings[h] = dataset.NotKnown
		}
	}
}

// honest keeps "none recorded" for those to whom everything would be shown. From others something may be withheld, always, so they
// are never told "none": that is constant and tells them nothing.
func (op *opening) honest(st dataset.State) dataset.State {
	info, _ := op.session.Role.Info()
	if st == dataset.NoneRecorded && (!info.Clinical || !op.facts.Subject.May(policy.ViewSensitive) || !op.session.ShowsAll()) {
		return dataset.NotKnown
	}
	return st
}

// supporting are the types that entries refer to and that are not entries themselves.
var supporting = map[string]bool{"Medication": true, "Specimen": true, "Organization": true, "Practitioner": true, "PractitionerRole": true,
	"Location": true, "Substance": true}

// named puts a medicine's name where everybody looks for it: a reference to a Medication becomes the concept that the Medication
// holds. The Medication itself stays among what supports the record.
func named(r *fhir.Resource, support map[fhir.Ref]*fhir.Resource) *fhir.Resource {
	ref := fhir.Ref(r.Text("medicationReference.reference"))
	if m, ok := support[ref]; ok && m.Get("code").Exists() {
		return r.Without("medicationReference").With("medicationCodeableConcept", m.Concept("code"))
	}
	return r
}

// ofPerson makes an entry speak of the person whose record this is: sources name their own patients, and a reader must be able to tie
// each entry to the one Patient that is here.
func (op *opening) ofPerson(r *fhir.Resource, l *lane) *fhir.Resource {
	theirs := map[string]bool{}
	for _, id := range l.patients {
		theirs["Patient/"+id] = true
	}
	if l.live != "" {
		theirs["Patient/"+l.live] = true
	}
	if r.Type() == "Patient" || len(theirs) == 0 {
		return r
	}
	out, err := fhir.MapReferences(r, func(object fhir.Value, ref string) ([]byte, bool) {
		if !theirs[ref] {
			return nil, false
		}
		return fhir.WithReference(object, "Patient/"+op.person.ID), true
	})
	if err != nil {
		return r
	}
	return out
}
