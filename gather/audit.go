package gather

import (
	"context"
	"fmt"
	"sort"
	"strings"

	"tombolo/audit"
	"tombolo/fhir"
	"tombolo/policy"
)

// audit remembers what is about to be shown, so that the view can be explained and rebuilt later: who, why, whose, by which decision, what
// every source said, which versions, and all of their content. An error means that nothing may be shown (design law 5).
func (g *Gatherer) audit(ctx context.Context, op *opening, rec *Record) error {
	kind := audit.Read
	if rec.BrokeGlass && !op.opened {
		kind = audit.BreakGlass
	}
	e := g.disclosure(op, rec, kind)
	e.What = append(e.What, shown(rec)...)
	e.View = rec.view()
	return g.remember(ctx, e)
}

// auditOpening remembers that a record is being opened whose content will be seen as it comes. What was shown follows under the same trace.
func (g *Gatherer) auditOpening(ctx context.Context, op *opening) error {
	rec := op.record()
	kind := audit.Opened
	if rec.BrokeGlass {
		kind = audit.BreakGlass
	}
	op.opened = true
	return g.remember(ctx, g.disclosure(op, rec, kind))
}

// disclosure is the event of showing a record, but for what was shown.
func (g *Gatherer) disclosure(op *opening, rec *Record, kind audit.Kind) audit.Event {
	e := g.event(op.session, string(kind))
	e.Outcome, e.PersonID, e.NHSNumber, e.Query = "0", op.person.ID, rec.Person.NHSNumber, op.ask.Query
	e.Purpose = op.facts.Purpose.Code()
	e.What = append(e.What, "policy: "+op.decision.Version)
	for _, r := range op.decision.Reasons {
		e.What = append(e.What, "permitted: "+r.Code)
	}
	for _, o := range op.decision.Obligations {
		e.What = append(e.What, "obligation: "+string(o))
	}
	if op.decision.Has(policy.AlertPrivacy) {
		e.What = append(e.What, "emergency: "+op.facts.Glass.Words, "alert: "+string(op.facts.Glass.Type)+"/"+string(op.facts.Glass.Reason))
	}
	for _, l := range rec.Lanes {
		s := fmt.Sprintf("source %s: %s, %d entries", l.Source, l.State, l.Count)
		if l.Issue != nil {
			s += ", " + string(l.Issue.Type)
		}
		if l.Index != "" {
			s += ", its index was asked " + l.Index
		}
		e.What = append(e.What, s)
	}
	return e
}

func (g *Gatherer) remember(ctx context.Context, e audit.Event) error {
	if _, err := g.o.Audit.Append(ctx, e); err != nil {
		return fhir.Errorf(fhir.NoStore, "the access could not be recorded, so nothing is shown: %w", err)
	}
	return nil
}

// shown lists the headings with the versions of what is in them.
func shown(rec *Record) []string {
	var out []string
	for _, s := range rec.Sections {
		if len(s.Entries) == 0 {
			continue
		}
		var refs []string
		for _, e := range s.Entries {
			for _, m := range e.Members {
				refs = append(refs, versioned(m.Resource))
			}
		}
		sort.Strings(refs)
		out = append(out, string(s.Heading)+": "+strings.Join(refs, " "))
	}
	return out
}
