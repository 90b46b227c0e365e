// Package gather is the one door out: it joins one person's record from every source that matters, for one session.
//
// The order never changes (design walk B): decide, identify, plan, ask all at once, check that each answer is about the person
// asked for, reconcile, withhold, audit; only then does anything leave. A source that fails is data, not an error: the record says
// what is missing and why. Faces get a *Record and turn it into HTML or a Bundle.
package gather

import (
	"cmp"
	"context"
	"iter"
	"log/slog"
	"time"

	"tombolo/access"
	"tombolo/audit"
	"tombolo/connector"
	"tombolo/dataset"
	"tombolo/events"
	"tombolo/fhir"
	"tombolo/mpi"
	"tombolo/mpi/match"
	"tombolo/policy"
	"tombolo/probe"
	"tombolo/region"
	"tombolo/search"
	"tombolo/standing"
	"tombolo/store"
)

// People is the identity index. mpi.Index is one.
type People interface {
	// Person returns what is known of a person, or an issue of type NotFound.
	Person(ctx context.Context, id string) (*mpi.Person, error)
	// Resolve finds the person with an identifier, or an issue of type NotFound.
	Resolve(ctx context.Context, id fhir.Identifier) (string, error)
	// PersonOf finds the person to whom a source patient is linked, or an issue of type NotFound.
	PersonOf(ctx context.Context, patientID string) (string, error)
	// Match finds who may be the person described, of those who may be told of; Found those of whom a source's Patient answers a search.
	Match(ctx context.Context, d match.Description, limit int, told func(p *mpi.Person, source string) (bool, error)) ([]mpi.Candidate, error)
	Found(ctx context.Context, q search.Query) ([]string, error)
	// KnowsSystem reports whether anybody has an identifier of a system.
	KnowsSystem(ctx context.Context, system string) (bool, error)
}

// Standing tells what policy must know before any record is looked at: choices, proxies and relationships. standing.Index is one.
type Standing interface {
	Of(ctx context.Context, patientIDs ...string) (policy.Standing, []standing.Tie, error)
}

// Agreed is what has been agreed, as it is in force now.
type Agreed interface {
	InForce() (*region.Region, *policy.Sensitivity, policy.Data)
}

// OptOuts is the National Data Opt-Out, which is asked for secondary uses and for nothing else. standing.Register is one.
type OptOuts interface {
	Ask(ctx context.Context, nhsNumber string) (policy.OptOut, error)
}

// Kept is where pushed records lie. store.DB is one.
type Kept interface {
	Patient(ctx context.Context, patientIDs ...string) iter.Seq2[*fhir.Resource, error]
	Read(ctx context.Context, ref fhir.Ref) (*fhir.Resource, error)
	// Home is the patient in whose record something lies, also of what names no patient; "" for what is nobody's.
	Home(ctx context.Context, ref fhir.Ref) (patient string, err error)
	// Source yields what a source sent that is nobody's record.
	Source(ctx context.Context, source string) iter.Seq2[*fhir.Resource, error]
	Versions
	ReadRaw(ctx context.Context, ref fhir.Ref) (store.Stored, error)
	ReadVersionRaw(ctx context.Context, ref fhir.Ref, version int) (store.Stored, error)
	History(ctx context.Context, ref fhir.Ref) ([]store.Stored, error)
	Before(ctx context.Context, before events.Seq, limit int, keep func(events.Event) bool) ([]events.Event, events.Seq, error)
	Tail(ctx context.Context) (events.Seq, error)
	search.Searcher
	// View and Update are for this room's own: what sources last answered.
	View(bucket string) store.Reader
	Update(ctx context.Context, fn func(store.Tx) error) (events.Seq, error)
}

// Auditor remembers. audit.Log is one.
type Auditor interface {
	Append(ctx context.Context, e audit.Event) (audit.Entry, error)
	AppendAll(ctx context.Context, events []audit.Event) ([]audit.Entry, error)
}

// Options of a Gatherer.
type Options struct {
	Region   *region.Region
	People   People
	Standing Standing
	// Agreed is where agreements come from while they may change; nil: from Region, which does not.
	Agreed  Agreed
	OptOuts OptOuts // nil: nobody's data may be used for research and planning
	Kept    Kept
	Audit   Auditor
	Askers  map[string]connector.Asker // by system id, and neighbours by neighbour id
	Stamper connector.Stamper
	// Learn is told of each patient that a live source turned out to hold, so that identity and pointers know next time: it returns
	// once they do. nil: nobody is told.
	Learn func(ctx context.Context, source string, patient *fhir.Resource) error
	// Saw is told what a live source answered about one of its patients: how many entries under each heading about which it answered. nil: nobody is.
	Saw func(ctx context.Context, source, patient string, counts map[dataset.Heading]int) error
	// Heard tells when a source that sends was last heard, zero if that is not known. nil: it never is.
	Heard func(source string) time.Time
	// Probed is what was found of each source (probe.Ledger). nil: none was probed.
	Probed func() map[string]*probe.Result
	// Pointed gives the pointers that are registered in this region about somebody, for what their labels say of what they lead to. nil: there are none.
	Pointed func(ctx context.Context, p *mpi.Person) ([]*fhir.Resource, error)
	// Even is by how much of time a refusal is answered: at once after so much, or twice as much …; 0: as soon as it is known.
	Even   time.Duration
	Now    func() time.Time
	Logger *slog.Logger
}

// A Gatherer opens records. It may be used from many goroutines.
type Gatherer struct {
	o       Options
	callers map[string]*caller // by system or neighbour
	gate    *admission
	memo    memo
	bell    bell
}

// New makes a Gatherer.
func New(o Options) *Gatherer {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Agreed == nil {
		o.Agreed = fixed{o.Region, policy.NewSensitivity(policy.BuiltInLists(), o.Region.Policy.Sensitive)}
	}
	g := &Gatherer{o: o, callers: map[string]*caller{}, gate: newAdmission(o.Region.Gathering.AtOnce)}
	m := &memory{kept: map[recalled]remembered{}}
	for id, a := range o.Askers {
		g.callers[id] = newCaller(id, a, limitsOf(o.Region, id), m, o.Logger)
	}
	return g
}

// limitsOf is how the region file lets a system or neighbour be asked.
func limitsOf(r *region.Region, id string) region.Asking {
	if s, ok := r.System(id); ok {
		return s.Limits
	}
	id, index := neighbourOf(id)
	n, _ := r.Neighbour(id)
	if index {
		return n.Index.Limits
	}
	return n.Limits
}

// fixed is what was agreed when the program was started.
type fixed struct {
	region    *region.Region
	sensitive *policy.Sensitivity
}

func (f fixed) InForce() (*region.Region, *policy.Sensitivity, policy.Data) {
	return f.region, f.sensitive, policy.Data{}
}

// DefaultDeadline is how long a source may take when the region file does not say.
const DefaultDeadline = 2 * time.Second

// TotalDeadline is after how long a record is shown with what there is, when the region file does not say.
const TotalDeadline = 10 * time.Second

// deadline is how long a source may take in this node.
func (g *Gatherer) deadline(of time.Duration) time.Duration {
	return min(cmp.Or(of, DefaultDeadline), cmp.Or(g.o.Region.Gathering.Deadline, TotalDeadline))
}

// deadline is how long a source may take in this opening: as long as in this node, and not so long that whoever asks, and says for how long they wait, has given up
// by the time that the others' answers could be given (another region's node, which asks us as one of its sources).
func (op *opening) deadline(of time.Duration) time.Duration {
	d := op.g.deadline(of)
	if left, ok := op.patience(); ok {
		d = min(d, max(left, region.LeastDeadline))
	}
	return d
}

// patience is how long sources may still be waited for, for whoever asks to have the record in time; ok is false if they do not say for how long they wait.
func (op *opening) patience() (left time.Duration, ok bool) {
	w := op.session.Waits
	if w <= 0 {
		return 0, false
	}
	if began := op.session.Began(); !began.IsZero() {
		w -= time.Since(began)
	}
	return w - max(lastWords+joining, w/10), true
}

// joining is what joining a record and sending it may take.
const joining = 50 * time.Millisecond

// Notice stands on every record, whether or not anything was withheld, so that it tells nothing.
const Notice = "Some information may be withheld, or not yet available from its source."

// unknown is the one answer to "not there" and to "not for you" (design law 4).
func unknown() *fhir.Issue {
	return fhir.Errorf(fhir.NotFound, "no record was found that you can open")
}

// An Ask narrows what is gathered.
type Ask struct {
	Headings []dataset.Heading // none: all
	Query    string            // what was asked for, for the audit; never shown
	// Explain has the record bring its plan, for a session that MayExplain. It changes nothing else of the record.
	Explain bool
}

// Record gathers a person's record for a session and audits its disclosure. An error of type NotFound is also every refusal; one
// of NoStore means that the audit entry could not be written, and so nothing may be shown; one of Transient that too many are being opened at once.
func (g *Gatherer) Record(ctx context.Context, s *access.Session, personID string, ask Ask) (*Record, error) {
	leave, err := g.gate.enter()
	if err != nil {
		return nil, err
	}
	defer leave()
	op, err := g.open(ctx, s, personID, ask)
	if err != nil {
		return nil, err
	}
	for range op.run(ctx) {
	}
	rec := op.record()
	if err := g.audit(ctx, op, rec); err != nil {
		return nil, err
	}
	g.memo.learn(rec)
	return rec, nil
}

// Watch gathers as Record does and yields the record as it grows: first with every lane asking, then each time a source has
// answered, last complete. The opening is audited before the first is yielded, what was shown before the last; whoever leaves early is
// remembered with what they had seen by then.
func (g *Gatherer) Watch(ctx context.Context, s *access.Session, personID string, ask Ask) iter.Seq2[*Record, error] {
	return func(yield func(*Record, error) bool) {
		leave, err := g.gate.enter()
		if err != nil {
			yield(nil, err)
			return
		}
		defer leave()
		op, err := g.open(ctx, s, personID, ask)
		if err == nil {
			err = g.auditOpening(ctx, op)
		}
		if err != nil {
			yield(nil, err)
			return
		}
		if !yield(op.record(), nil) {
			return
		}
		for last := range op.run(ctx) {
			rec := op.record()
			if last {
				if err := g.audit(ctx, op, rec); err != nil {
					yield(nil, err)
					return
				}
			}
			if !yield(rec, nil) {
				if !last {
					if err := g.audit(context.WithoutCancel(ctx), op, rec); err != nil {
						g.o.Logger.Error("a record was left before it was whole, and what was seen of it could not be audited", "trace", s.Trace, "error", err)
					}
				}
				return
			}
		}
	}
}

// Find gives the id of the person with an identifier, if the session may open their record. Somebody unknown and somebody
// refused give the same error.
func (g *Gatherer) Find(ctx context.Context, s *access.Session, id fhir.Identifier) (string, error) {
	return g.find(ctx, s, id, nil)
}

// FindInEmergency is Find by somebody who gives a reason to open the record whatever the person's choice was. Opening it
// still needs a session that is InEmergency for the person.
func (g *Gatherer) FindInEmergency(ctx context.Context, s *access.Session, id fhir.Identifier, glass policy.Glass) (string, error) {
	return g.find(ctx, s, id, &glass)
}

// find decides first what depends on the session alone, so that those refusals are the same whoever is looked for. Answers that nobody
// was found, for whichever reason, come after the same time.
func (g *Gatherer) find(ctx context.Context, s *access.Session, id fhir.Identifier, emergency *policy.Glass) (string, error) {
	if g.gate.full() { // whoever is found could not be shown
		return "", errCrowded
	}
	id = id.Canonical()
	if err := id.Check(); err != nil {
		return "", err // says what is wrong with what was typed, and nothing of who exists
	}
	if err := g.mayOpen(ctx, s); err != nil {
		return "", err
	}
	if emergency != nil {
		if _, err := s.InEmergency("", *emergency); err != nil {
			return "", g.forbid(ctx, s, err)
		}
	}
	window := g.traceWindow(s)
	even := time.NewTimer(window)
	defer even.Stop()
	personID, err := g.resolve(ctx, s, id, emergency, window)
	if fhir.Is(err, fhir.NotFound) {
		select {
		case <-even.C:
		case <-ctx.Done():
		}
	}
	return personID, err
}

func (g *Gatherer) resolve(ctx context.Context, s *access.Session, id fhir.Identifier, emergency *policy.Glass, window time.Duration) (string, error) {
	personID, err := g.o.People.Resolve(ctx, id)
	if fhir.Is(err, fhir.NotFound) && window > 0 {
		personID, err = g.trace(ctx, s, id, window)
	}
	if err != nil {
		if fhir.Is(err, fhir.NotFound) {
			g.decoy(ctx, s)
			return "", g.deny(ctx, s, "", id, nil)
		}
		return "", err
	}
	p, err := g.o.People.Person(ctx, personID)
	if err != nil {
		return "", err
	}
	if emergency != nil {
		if s, err = s.InEmergency(personID, *emergency); err != nil {
			return "", err
		}
	}
	if !s.Opens(personID) {
		return "", g.deny(ctx, s, personID, id, notThisSession)
	}
	facts, err := g.facts(ctx, s, p)
	if err != nil {
		return "", err
	}
	if d := policy.Decide(facts); !d.Permit {
		return "", g.deny(ctx, s, personID, id, d.Reasons)
	}
	return personID, nil
}

// mayOpen refuses roles that open no records at all, and whoever asks too much at once, which tells nothing of anybody.
func (g *Gatherer) mayOpen(ctx context.Context, s *access.Session) error {
	if info, ok := s.Role.Info(); ok && info.Opens {
		return s.Asks(ctx)
	}
	return g.forbid(ctx, s, fhir.Errorf(fhir.Forbidden, "this role opens no records"))
}

// forbid audits a refusal that depends on the session alone, and gives it.
func (g *Gatherer) forbid(ctx context.Context, s *access.Session, why error) error {
	e := g.event(s, "denied")
	e.Outcome, e.What = "4", []string{"refused: " + why.Error()}
	if _, err := g.o.Audit.Append(ctx, e); err != nil {
		return fhir.Errorf(fhir.NoStore, "the access could not be recorded, so nothing is shown: %w", err)
	}
	return why
}

// deny audits a refusal and gives the one answer to it.
func (g *Gatherer) deny(ctx context.Context, s *access.Session, personID string, id fhir.Identifier, reasons []policy.Reason) error {
	e := g.event(s, "denied")
	e.Outcome, e.PersonID = "4", personID
	if personID == "" {
		e.Kind = "search"
	}
	if id.System == fhir.SystemNHSNumber {
		e.NHSNumber, _ = fhir.ParseNHSNumber(id.Value)
	}
	for _, r := range reasons {
		e.What = append(e.What, "refused: "+r.Code)
	}
	if _, err := g.o.Audit.Append(ctx, e); err != nil {
		return fhir.Errorf(fhir.NoStore, "the access could not be recorded, so nothing is shown: %w", err)
	}
	s.Missed()
	g.Even(ctx, s)
	return unknown()
}

// Even waits until a refusal is due: whether somebody is unknown or refused, and how much is known of them, makes a difference of microseconds that
// must not be seen. What is looked at takes as long as it takes, and so an answer comes only at certain times after the question.
func (g *Gatherer) Even(ctx context.Context, s *access.Session) { g.EvenBy(ctx, s, g.o.Even) }

// EvenBy is Even by another measure of time, for what takes longer to find out.
func (g *Gatherer) EvenBy(ctx context.Context, s *access.Session, by time.Duration) {
	began := s.Began()
	if by <= 0 || began.IsZero() {
		return
	}
	g.bell.sleep(ctx, began.Add((time.Since(began)/by+1)*by))
}

// open decides, and plans whom to ask. Nothing has been read of any record when it returns.
func (g *Gatherer) open(ctx context.Context, s *access.Session, personID string, ask Ask) (*opening, error) {
	if err := g.mayOpen(ctx, s); err != nil {
		return nil, err
	}
	p, err := g.o.People.Person(ctx, personID)
	if fhir.Is(err, fhir.NotFound) {
		g.decoy(ctx, s)
		return nil, g.deny(ctx, s, "", fhir.Identifier{}, nil)
	}
	if err != nil {
		return nil, err
	}
	if !s.Opens(personID) {
		return nil, g.deny(ctx, s, personID, fhir.Identifier{System: fhir.SystemNHSNumber, Value: p.NHSNumber}, notThisSession)
	}
	facts, err := g.facts(ctx, s, p)
	if err != nil {
		return nil, err
	}
	d := policy.Decide(facts)
	if !d.Permit {
		return nil, g.deny(ctx, s, personID, fhir.Identifier{System: fhir.SystemNHSNumber, Value: p.NHSNumber}, d.Reasons)
	}
	op := &opening{g: g, session: s, person: p, facts: facts, decision: d, ask: ask, start: g.o.Now()}
	if op.lead, err = g.Lead(ctx, p); err != nil {
		return nil, err
	}
	op.plan()
	return op, nil
}

// notThisSession is why a session refuses what its user may otherwise open: it is bound to another person, or its application may have nothing.
var notThisSession = []policy.Reason{{Code: "session", Text: "the session is for another person or for nobody's record"}}

func (g *Gatherer) organisation(ods string) region.Organisation {
	if o, ok := g.o.Region.Organisation(ods); ok {
		return o
	}
	return region.Organisation{ODS: ods, Name: ods}
}
