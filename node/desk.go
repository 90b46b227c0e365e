package node

import (
	"cmp"
	"context"
	"maps"
	"slices"

	"tombolo/access"
	"tombolo/audit"
	"tombolo/connector/hl7v2"
	"tombolo/fhir"
	"tombolo/intake"
	"tombolo/policy"
	"tombolo/region"
	"tombolo/web"
)

// gapSample is how many of a source's kept messages its page looks at for what is not mapped. They stand under hashes, so the first are as good as any.
const gapSample = 300

// gapRows is how many gaps are listed: of messages and fields, and as many of their parts.
const gapRows = 40

// Feed is how one source stands, for operators.
func (n *Node) Feed(ctx context.Context, _ *access.Session, source string) (*web.FeedState, error) {
	s, ok := n.c.Region.System(source)
	if !ok {
		return nil, fhir.Errorf(fhir.NotFound, "there is no such system")
	}
	stats, health := n.Intake.Stats(), n.Gather.Health()[source]
	st := stats[source]
	out := &web.FeedState{SourceState: n.sourceState(s, stats, health.Open, health.LastOK, cmp.Or(health.Unsafe, string(health.Problem)), health.Failed),
		Duplicates: st.Duplicates, Failed: st.Failed, Reused: st.Reused, LastReused: st.LastReused}
	held, err := n.Intake.Held(ctx, source, 0)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(held, func(a, b intake.Quarantined) int { return a.At.Compare(b.At) })
	out.More = max(0, len(held)-deskRows)
	for _, q := range held[:min(len(held), deskRows)] {
		out.Held = append(out.Held, heldRow(q))
	}
	for _, r := range n.runners {
		if f, ok := r.Runner.(*hl7v2.Feed); ok && r.source == source {
			out.Wire = wireCounts(f.Stats())
		}
	}
	if s.Connector == "hl7v2" {
		out.Gappable = true
		if out.Gaps, out.Sampled, err = n.gaps(ctx, s); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func heldRow(q intake.Quarantined) web.Quarantined {
	row := web.Quarantined{ID: q.ID, Hash: q.Hash, Source: q.Source, Owner: q.Owner, Since: q.At, Bytes: int64(q.Size)}
	if len(q.Issues) > 0 {
		row.Reason, row.Where = q.Issues[0].Text, q.Issues[0].Where
	}
	return row
}

// wireCounts are a feed's counts in words.
func wireCounts(s hl7v2.Stats) []web.Count {
	return []web.Count{
		{What: "Connections open now", N: s.Connections},
		{What: "Patient queries answered", N: s.Queries},
		{What: "Senders who hung up before they were answered", N: s.Gone, Odd: true},
		{What: "Connections turned away: not the right certificate", N: s.TurnedAway, Odd: true},
		{What: "Bytes that were no whole frame, kept", N: s.Broken, Odd: true},
		{What: "Tolerated: frames without the last CR", N: s.MissingCR},
		{What: "Tolerated: line ends between frames", N: s.LooseEnds},
		{What: "Tolerated: a doubled VT", N: s.DoubledStart},
	}
}

// gaps counts what of a sample of a feed's messages is not mapped.
func (n *Node) gaps(ctx context.Context, s region.System) ([]web.Gap, int, error) {
	o, err := HL7Options(s, n.c.Folder)
	if err != nil {
		return nil, 0, err
	}
	g, seen := hl7v2.NewGaps(), 0
	for raw, err := range n.Intake.Kept(ctx, s.ID) {
		if err != nil {
			return nil, 0, err
		}
		g.Add(raw, o)
		if seen++; seen == gapSample {
			break
		}
	}
	whole := maps.Clone(g.Fields)
	maps.Copy(whole, g.Refused)
	// Components are many and mostly small things: they do not push out what is missed whole.
	return append(mostOf(whole, gapRows), mostOf(g.Parts, gapRows)...), g.Messages, nil
}

func mostOf(counts map[string]int, most int) []web.Gap {
	var out []web.Gap
	for what, count := range counts {
		out = append(out, web.Gap{What: what, Count: count})
	}
	slices.SortFunc(out, func(a, b web.Gap) int { return cmp.Or(b.Count-a.Count, cmp.Compare(a.What, b.What)) })
	return out[:min(len(out), most)]
}

// OpenHeld gives what waits in quarantine to an operator who says why. It may hold a patient's data: that it was opened is recorded first. What names somebody whose
// whereabouts are protected is an issue of type Forbidden: where in it they stand cannot be told of what has not been understood.
func (n *Node) OpenHeld(ctx context.Context, s *access.Session, source, hash, reason string) (web.Quarantined, []byte, error) {
	q, raw, err := n.Intake.HeldRaw(ctx, source, hash)
	if err != nil {
		return web.Quarantined{}, nil, err
	}
	if len([]rune(reason)) < 5 {
		return web.Quarantined{}, nil, fhir.Errorf(fhir.Required, "say why it must be opened")
	}
	switch protected, err := n.protects(ctx, source, raw); {
	case err != nil:
		return web.Quarantined{}, nil, err
	case protected:
		if err := n.rememberHeld(ctx, s, audit.Denied, q, "refused, it names somebody whose whereabouts are protected; asked for: "+reason); err != nil {
			return web.Quarantined{}, nil, err
		}
		return web.Quarantined{}, nil, fhir.Errorf(fhir.Forbidden, "it names somebody whose whereabouts are protected, so it is not opened. Its sender has it: have them look at it. It can be taken again")
	}
	if err := n.rememberHeld(ctx, s, audit.Read, q, "opened: "+reason); err != nil {
		return web.Quarantined{}, nil, err
	}
	return heldRow(q), raw, nil
}

// TakeHeld takes in again what waits in quarantine, by the source's mapping as it is now.
func (n *Node) TakeHeld(ctx context.Context, s *access.Session, source, hash string) error {
	q, raw, err := n.Intake.HeldRaw(ctx, source, hash)
	if err != nil {
		return err
	}
	sys, ok := n.c.Region.System(source)
	if !ok || sys.Connector != "hl7v2" || q.Type != hl7v2.MediaType {
		return fhir.Errorf(fhir.NotSupported, "only HL7 v2 messages can be taken again from here: have it sent or imported anew")
	}
	o, err := HL7Options(sys, n.c.Folder)
	if err != nil {
		return err
	}
	o.Now = n.c.Now
	if err := n.rememberHeld(ctx, s, audit.Update, q, "taken again"); err != nil {
		return err
	}
	made, err := hl7v2.Again(raw, o)
	if err != nil {
		return err
	}
	for _, d := range made {
		if _, err := n.Intake.Again(ctx, d); err != nil {
			return err
		}
	}
	return nil
}

// rememberHeld writes what an operator does with what waits: no audit, no bytes.
func (n *Node) rememberHeld(ctx context.Context, s *access.Session, kind audit.Kind, q intake.Quarantined, what string) error {
	e := audit.Event{Kind: kind, Purpose: policy.Planning.Code(), Agent: agentOf(s), Trace: s.Trace, Query: "quarantine " + q.Source + " " + q.Hash, What: []string{what}}
	if _, err := n.Audit.Append(ctx, e); err != nil {
		return fhir.Errorf(fhir.NoStore, "it could not be recorded, so it was not done: %w", err)
	}
	return nil
}
