package gather

import (
	"context"
	"sync"
	"time"

	"tombolo/access"
	"tombolo/audit"
	"tombolo/connector"
	"tombolo/dataset"
	"tombolo/fhir"
	"tombolo/policy"
	"tombolo/region"
)

// note keeps who and what a live source turned out to hold: the patient, if they were not known, and how much under which heading. Nothing is pointed to for what bears
// a label, so that is not counted.
func (g *Gatherer) note(ctx context.Context, source string, patient *fhir.Resource, known bool, id string, counts map[dataset.Heading]int, content []*fhir.Resource) {
	if !known {
		if g.o.Learn == nil {
			return
		}
		g.learn(ctx, source, patient)
	}
	if g.o.Saw == nil || len(counts) == 0 {
		return
	}
	_, sensitive, _ := g.o.Agreed.InForce()
	for i, l := range sensitive.Labels(content) {
		if h := dataset.HeadingOf(content[i]); counts[h] > 0 && l.Sealed() && !supporting[content[i].Type()] {
			counts[h]--
		}
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if err := g.o.Saw(ctx, source, id, counts); err != nil {
		g.o.Logger.Warn("what a live source holds could not be noted", "source", source, "error", err)
	}
}

// learn hands a live source's patient to whoever keeps identity, in the background of a reading.
func (g *Gatherer) learn(ctx context.Context, source string, patient *fhir.Resource) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if err := g.o.Learn(ctx, source, patient); err != nil {
		g.o.Logger.Warn("a patient found at a live source could not be kept in the index", "source", source, "error", err)
	}
}

// traceLimit bounds how long a trace, and so every answer that nobody was found, may take.
const traceLimit = time.Second

// traceWindow is how long a trace by this session takes: 0 if it may trace nobody. It depends on the session alone.
func (g *Gatherer) traceWindow(s *access.Session) time.Duration {
	info, _ := s.Role.Info()
	if !info.Clinical {
		return 0
	}
	var longest time.Duration
	if g.tracesThere(s) {
		for n := range g.indexed {
			longest = max(longest, g.deadline(n.Index.Deadline))
		}
	}
	if g.o.Learn == nil {
		return min(longest, traceLimit)
	}
	for _, sys := range g.o.Region.Systems {
		if _, ok := g.o.Askers[sys.ID]; ok && g.mayTrace(s, sys) {
			longest = max(longest, g.deadline(sys.Deadline))
		}
	}
	if s.Passed() { // whose user is waiting for us beside their own sources
		return min(longest, traceLimit/5)
	}
	return min(longest, traceLimit)
}

// trace looks for somebody the index does not know at the live sources that the session may ask for demographics. Whoever holds
// them is learned, and the index is asked again. Neighbours' indexes are asked beside them under which national number this is somebody known here.
func (g *Gatherer) trace(ctx context.Context, s *access.Session, id fhir.Identifier, window time.Duration) (string, error) {
	tctx, cancel := context.WithTimeout(ctx, window)
	defer cancel()
	var wg sync.WaitGroup
	there := ""
	wg.Go(func() { there = g.traceThere(tctx, s, id) })
	for _, sys := range g.o.Region.Systems {
		source, ok := g.callers[sys.ID]
		if !ok || g.o.Learn == nil || !g.mayTrace(s, sys) {
			continue
		}
		wg.Go(func() { g.traceAt(tctx, s, sys, source, id) })
	}
	wg.Wait()
	person, err := g.o.People.Resolve(ctx, id)
	if fhir.Is(err, fhir.NotFound) && there != "" {
		return there, nil
	}
	return person, err
}

func (g *Gatherer) mayTrace(s *access.Session, sys region.System) bool {
	live := false
	for _, way := range sys.Gives {
		live = live || way.Asked()
	}
	agreed, _, data := g.o.Agreed.InForce()
	return live && policy.Decide(policy.Facts{
		Subject: subject(s, agreed), Purpose: s.Purpose, Relationships: []policy.Relationship{policy.SelfClaimed}, Source: policy.SourceOf(sys, agreed),
		Heading: dataset.Demographics, Agreements: agreed.Agreements, Data: data, At: g.o.Now(), Channel: channel(s),
	}).Permit
}

func (g *Gatherer) traceAt(ctx context.Context, s *access.Session, sys region.System, source *caller, id fhir.Identifier) {
	askCtx, cancel := context.WithTimeout(ctx, g.deadline(sys.Deadline))
	defer cancel()
	ans, err := source.ask(askCtx, connector.Question{
		Identifiers: []fhir.Identifier{id}, Headings: []dataset.Heading{dataset.Demographics}, Requester: requester(s, s.Purpose)})
	if err != nil || ans == nil || ans.Patient == nil {
		return
	}
	for _, got := range ans.Patient.Identifiers() {
		if got.System == id.System && got.Value == id.Value && got.Use != "old" {
			g.learn(context.WithoutCancel(ctx), sys.ID, ans.Patient)
			return
		}
	}
}

// event is an audit entry about the session, to be filled in.
func (g *Gatherer) event(s *access.Session, kind string) audit.Event {
	return audit.Event{
		Kind: audit.Kind(kind), Purpose: s.Purpose.Code(), Trace: s.Trace,
		Agent: audit.Agent{User: s.User, Name: s.Name, Role: s.RoleName, Organisation: s.Organisation, OrgName: s.OrganisationName, Device: s.Device, Address: s.Address},
	}
}
