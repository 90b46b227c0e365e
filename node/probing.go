package node

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"tombolo/access"
	"tombolo/audit"
	"tombolo/connector"
	"tombolo/dataset"
	"tombolo/fhir"
	"tombolo/gather"
	"tombolo/probe"
	"tombolo/region"
)

// A ProbeAsk is what somebody wants probed.
type ProbeAsk struct {
	By       audit.Agent       `json:"by"`
	Sources  []string          `json:"sources,omitempty"`  // none: all
	Patients []fhir.Identifier `json:"patients,omitempty"` // test patients; none: those of the region file
	As       string            `json:"as,omitempty"`       // a user of the region file; "": as it says
	Tries    int               `json:"tries,omitempty"`    // 0: as the region file says
	Show     bool              `json:"show,omitempty"`     // nobody is asked: what was last found is told
}

// asProbe is who probes on a schedule.
var asProbe = audit.Agent{User: "tombolo", Name: "Tombolo, on its schedule"}

// Probe asks sources what they can really give, and keeps what it finds. That test patients are read is in the audit log before anybody is asked.
func (n *Node) Probe(ctx context.Context, ask ProbeAsk, tell func(*probe.Result)) ([]*probe.Result, error) {
	if ask.Show {
		return n.probed(ask.Sources), nil
	}
	p := n.c.Region.Probing
	patients := slices.Clone(ask.Patients)
	for _, s := range p.Patients {
		if len(ask.Patients) > 0 {
			break
		}
		id, err := region.TestPatient(s)
		if err != nil {
			return nil, fmt.Errorf("probing.patients: %w", err)
		}
		patients = append(patients, id)
	}
	trace := access.NewTrace()
	who, err := n.probesAs(ask, patients, trace)
	if err != nil {
		return nil, err
	}
	for _, id := range patients {
		e := audit.Event{Kind: audit.Read, Agent: ask.By, Purpose: who.Purpose, Trace: trace, Query: "probe " + strings.Join(ask.Sources, ","),
			What: []string{"probe: sources are asked what they can give, about a test patient, as " + who.UserID}}
		if id.System == fhir.SystemNHSNumber {
			e.NHSNumber, _ = fhir.ParseNHSNumber(id.Value)
		}
		if e.PersonID, err = n.People.Resolve(ctx, id); err != nil && !fhir.Is(err, fhir.NotFound) {
			return nil, err
		}
		if _, err := n.Audit.Append(ctx, e); err != nil {
			return nil, fhir.Errorf(fhir.NoStore, "the probing could not be recorded, so nobody was asked: %w", err)
		}
	}
	return n.Probes.Probe(ctx, probe.Ask{Sources: ask.Sources, Patients: patients, Who: who, Tries: ask.Tries}, tell)
}

// probesAs is who sources are told is asking.
func (n *Node) probesAs(ask ProbeAsk, patients []fhir.Identifier, trace string) (connector.Requester, error) {
	as := ask.As
	if as == "" {
		as = n.c.Region.Probing.As
	}
	if as == "" && len(patients) == 0 {
		return connector.Requester{UserID: "tombolo", UserName: "Tombolo", TraceID: trace}, nil
	}
	if as == "" {
		return connector.Requester{}, fhir.Errorf(fhir.Required, "a source is told who asks about its test patient: give --as USER, or probing: {as: USER} in the region file")
	}
	s, err := n.Access.As(as)
	if err != nil {
		return connector.Requester{}, err
	}
	info, _ := s.Role.Info()
	if !info.Opens || len(info.Purposes) == 0 {
		return connector.Requester{}, fhir.Errorf(fhir.Forbidden, "%s opens no records in the role %s: probe as somebody who does", as, s.Role)
	}
	who := gather.RequesterOf(s, info.Purposes[0])
	who.TraceID = trace
	return who, nil
}

// probed is what was last found, in the order of the region file. A source that was not probed yet has a zero time.
func (n *Node) probed(sources []string) []*probe.Result {
	all := n.ledger.All()
	var out []*probe.Result
	for _, t := range probe.Targets(n.c.Region) {
		if len(sources) > 0 && !slices.Contains(sources, t.ID) {
			continue
		}
		r := all[t.ID]
		if r == nil {
			r = &probe.Result{Source: t.ID, Name: t.Name, Kind: t.Kind, Headings: map[dataset.Heading]*probe.Found{}, Problems: []string{"Not probed yet."}}
			for h, way := range t.Way {
				r.Headings[h] = &probe.Found{Verdict: probe.Unknown, Way: way}
			}
		}
		out = append(out, r)
	}
	return out
}

// probing makes the ledger of what was found, before anybody plans by it.
func (n *Node) probing(ctx context.Context) (err error) {
	n.ledger, err = probe.NewLedger(ctx, n.store, n.c.Now)
	return err
}

// probes makes what asks, and has it ask on a schedule if the region file says so.
func (n *Node) probes(askers map[string]connector.Asker) {
	askers = maps.Clone(askers)
	for id, a := range askers {
		if c, ok := a.(interface{ Asked() connector.Asker }); ok { // what it remembers says nothing of what there is now, or how fast
			askers[id] = c.Asked()
		}
	}
	n.Probes = probe.New(probe.Options{Region: n.c.Region, Askers: askers, Held: n.Locator, Kept: n.store, Ledger: n.ledger, Now: n.c.Now, Logger: n.c.Logger})
	every := n.c.Region.Probing.Every
	if every == 0 || !n.c.Feeds {
		return
	}
	n.keepers = append(n.keepers, keeper{min(every, 5*time.Minute), "probe the sources", inTurn(n.lease("probe"), func(ctx context.Context) error {
		var due []string
		for _, r := range n.probed(nil) {
			if n.c.Now().Sub(r.At) >= every {
				due = append(due, r.Source)
			}
		}
		if len(due) == 0 {
			return nil
		}
		_, err := n.Probe(ctx, ProbeAsk{By: asProbe, Sources: due}, nil)
		return err
	})})
}

// ProbeRegion probes the sources of a region. An embedded store belongs to one process: if a node runs on it, that node is asked to do it.
func ProbeRegion(ctx context.Context, c Config, ask ProbeAsk) (Kept, error) {
	if err := c.check(); err != nil {
		return Kept{}, err
	}
	if c.Store == "" {
		if k, err := askNode(ctx, c.Data, Upkeep{Do: "probe", Probe: &ask}, nil); !errors.Is(err, errNoNode) {
			return k, err
		}
	}
	n, err := New(ctx, c)
	if err != nil {
		return Kept{}, err
	}
	n.Start(ctx)
	if err = n.CatchUp(ctx); err != nil {
		return Kept{}, errors.Join(err, n.Close())
	}
	k, err := n.probeKept(ctx, ask)
	return k, errors.Join(err, n.Close())
}

// probeKept probes, and says what came of it. It is not ok if a source that was named answered nothing.
func (n *Node) probeKept(ctx context.Context, ask ProbeAsk) (Kept, error) {
	results, err := n.Probe(ctx, ask, nil)
	if err != nil {
		return Kept{}, err
	}
	ok := true
	for _, r := range results {
		ok = ok && (len(ask.Sources) == 0 || ask.Show || r.Answered())
	}
	raw, err := json.Marshal(results)
	return Kept{OK: ok, Text: sayProbed(results), Data: raw}, err
}

// sayProbed writes results for somebody at a terminal.
func sayProbed(results []*probe.Result) string {
	var b strings.Builder
	for i, r := range results {
		if i > 0 {
			b.WriteString("\n")
		}
		fmt.Fprintf(&b, "%s  %s (%s)", r.Source, r.Name, r.Kind)
		if !r.At.IsZero() {
			fmt.Fprintf(&b, ", probed %s", sayWhen(r.At))
		}
		b.WriteString("\n")
		if d := r.Describes; d != nil {
			fmt.Fprintf(&b, "  says of itself: %s\n", strings.Join(slices.DeleteFunc([]string{d.Software, d.Speaks, fmt.Sprintf("%d resource types to search, %d operations", len(d.Types), len(d.Operations))}, func(s string) bool { return s == "" }), ", "))
		}
		if r.Speed.Tries > 0 {
			fmt.Fprintf(&b, "  everything at once: %s at the median, %s at the 95th percentile of %d\n", r.Speed.P50, r.Speed.P95, r.Speed.Tries)
		}
		w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
		for _, info := range dataset.All {
			f := r.Headings[info.Heading]
			if f == nil {
				continue
			}
			fmt.Fprintf(w, "  %s\t%s\t%s\t%s\n", info.Heading, f.Way, f.Verdict, strings.Join(f.Facts(sayWhen), "; "))
		}
		_ = w.Flush()
		if len(r.Besides) > 0 {
			fmt.Fprintf(&b, "  gives besides, and the region file does not say so: %s\n", sayHeadings(r.Besides))
		}
		for _, p := range r.Problems {
			fmt.Fprintf(&b, "  %s\n", p)
		}
	}
	return b.String()
}

func sayWhen(t time.Time) string { return t.In(fhir.London).Format("2 January 2006 at 15:04") }

func sayHeadings(hs []dataset.Heading) string {
	out := make([]string, len(hs))
	for i, h := range hs {
		out[i] = string(h)
	}
	return strings.Join(out, ", ")
}

// heard is when a source that sends was last heard by this node, since it started.
func (n *Node) heard(source string) time.Time { return n.Intake.Heard(source) }

// Scope is what was found of each source, for operators.
func (n *Node) Scope(context.Context, *access.Session) ([]*probe.Result, error) {
	all := n.probed(nil)
	targets := probe.Targets(n.c.Region)
	total := cmp.Or(n.c.Region.Gathering.Deadline, gather.TotalDeadline)
	for i, r := range all {
		if r.At.IsZero() {
			continue
		}
		c := *r // the ledger's own must not be changed
		c.Until = c.At.Add(cmp.Or(n.c.Region.Probing.Holds, region.DefaultHolds))
		if t := slices.IndexFunc(targets, func(t probe.Target) bool { return t.ID == c.Source }); t >= 0 {
			c.Deadline = min(targets[t].Deadline, total)
		}
		all[i] = &c
	}
	return all, nil
}

// ProbeNow has a source probed in the background, or all with "".
func (n *Node) ProbeNow(_ context.Context, s *access.Session, source string) error {
	ask := ProbeAsk{By: agentOf(s)}
	if source != "" {
		if !slices.ContainsFunc(probe.Targets(n.c.Region), func(t probe.Target) bool { return t.ID == source }) {
			return fhir.Errorf(fhir.NotFound, "there is no such source")
		}
		ask.Sources = []string{source}
	}
	select {
	case n.toProbe <- ask:
		return nil
	default:
		return fhir.Errorf(fhir.Throttled, "sources are being probed already: wait until that is done")
	}
}

// probeAsked probes what operators ask for, one after the other, until ctx ends.
func (n *Node) probeAsked(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case ask := <-n.toProbe:
			if _, err := n.Probe(ctx, ask, nil); err != nil && ctx.Err() == nil {
				n.c.Logger.Warn("the sources could not be probed", "error", err)
			}
		}
	}
}
