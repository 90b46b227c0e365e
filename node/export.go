package node

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"tombolo/audit"
	"tombolo/events"
	"tombolo/fhir"
	"tombolo/gather"
)

// An Export asks for all that this node keeps, of one person or of everybody: the resources as they are kept, where each came from
// (Provenance), who looked (AuditEvent), and what is not here to be given (OperationOutcome).
type Export struct {
	By     audit.Agent
	Reason string
	Trace  string
	Number fhir.Identifier // what the person was asked for by, if it was a number
	// Located gives also where people are whose whereabouts must not be known. Without it, Raw gives nothing of theirs, and of ExportAll no delivery that is in nobody's record.
	Located bool
	Raw     bool // also the deliveries as they came, as Binary under their SHA-256
	// Write takes one resource. What it is about is in the audit log before it is called.
	Write func(*fhir.Resource) error

	given map[[sha256.Size]byte]struct{} // deliveries that were given
	out   gather.Exported
}

func (x *Export) ask(n *Node, shared bool) gather.ExportAsk {
	a := gather.ExportAsk{By: x.By, Reason: x.Reason, Trace: x.Trace, Number: x.Number, Shared: shared, Located: x.Located}
	if x.Raw {
		a.Raw = n.Intake.Raw
	}
	return a
}

// write counts what is given, and remembers which deliveries were.
func (x *Export) write(r *fhir.Resource) error {
	if err := x.Write(r); err != nil {
		return err
	}
	x.out.Resources++
	if x.given != nil && r.Type() == "Binary" {
		var sum [sha256.Size]byte
		if n, err := hex.Decode(sum[:], []byte(r.ID())); err == nil && n == len(sum) {
			x.given[sum] = struct{}{}
		}
	}
	return nil
}

// take adds what a part of the export could not give.
func (x *Export) take(part gather.Exported, err error) error {
	x.out.Damaged = append(x.out.Damaged, part.Damaged...)
	return err
}

// remember records a part that is about nobody in particular.
func (x *Export) remember(ctx context.Context, n *Node, what string) error {
	e := x.ask(n, false).Event(audit.Export, "")
	e.What = append(e.What, what)
	_, err := n.Audit.Append(ctx, e)
	return err
}

// CatchUp waits until the indexes have taken in all that was stored, so that what was stored last is found. Start comes first.
func (n *Node) CatchUp(ctx context.Context) error {
	tail, err := n.store.Tail(ctx)
	if err != nil {
		return err
	}
	return n.Await(ctx, events.Seq(tail))
}

// ExportPerson gives all that is kept of one person, and who has looked at their record, this export included.
func (n *Node) ExportPerson(ctx context.Context, x Export, person string) (gather.Exported, error) {
	if err := x.take(n.Gather.Export(ctx, x.ask(n, true), person, x.write)); err != nil {
		return x.out, err
	}
	if err := x.entries(n.Audit.Show(ctx, person, 0, 0)); err != nil {
		return x.out, err
	}
	return x.out, x.notHeld(n)
}

// ExportAll gives all that is kept of everybody, person by person, each recorded for itself; then what is nobody's record, and the
// whole audit log up to now.
func (n *Node) ExportAll(ctx context.Context, x Export) (gather.Exported, error) {
	if x.Raw {
		x.given = map[[sha256.Size]byte]struct{}{}
	}
	ask := x.ask(n, false)
	for person, err := range n.People.All(ctx) {
		if err == nil {
			err = x.take(n.Gather.Export(ctx, ask, person, x.write))
		}
		if err != nil && !fhir.Is(err, fhir.NotFound) { // one who was merged away meanwhile is given under the other
			return x.out, err
		}
	}
	for patient, err := range n.store.Patients(ctx) {
		if err == nil {
			if _, err = n.People.PersonOf(ctx, patient); err == nil {
				continue
			}
		}
		if fhir.Is(err, fhir.NotFound) {
			err = x.take(n.Gather.ExportPatient(ctx, ask, patient, x.write))
		}
		if err != nil {
			return x.out, err
		}
	}
	for source, err := range n.store.Sources(ctx) {
		if err == nil {
			err = x.take(n.Gather.ExportShared(ctx, ask, source, x.write))
		}
		if err != nil {
			return x.out, err
		}
	}
	if err := x.deliveries(ctx, n); err != nil {
		return x.out, err
	}
	if err := x.remember(ctx, n, "audit log: exported"); err != nil {
		return x.out, err
	}
	head, err := n.Audit.Head(ctx)
	if err != nil {
		return x.out, err
	}
	if err := x.entries(n.Audit.All(ctx, 0, int(head.Seq))); err != nil {
		return x.out, err
	}
	return x.out, x.notHeld(n)
}

// entries gives audit entries as AuditEvents.
func (x *Export) entries(all func(func(audit.Entry, error) bool)) error {
	for e, err := range all {
		var r *fhir.Resource
		if err == nil {
			r, err = e.Resource()
		}
		if err == nil {
			err = x.write(r)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// deliveries gives those that led to no record, or could not be taken: nothing that arrived stays behind.
func (x *Export) deliveries(ctx context.Context, n *Node) error {
	if !x.Raw || !x.Located {
		return nil
	}
	for _, sys := range n.c.Region.Systems {
		told := false
		for raw, err := range n.Intake.Kept(ctx, sys.ID) {
			if err != nil {
				return err
			}
			sum := sha256.Sum256(raw)
			if _, ok := x.given[sum]; ok {
				continue
			}
			if !told {
				if err := x.remember(ctx, n, fmt.Sprintf("deliveries as they came: those of %s that are in nobody's record", sys.ID)); err != nil {
					return err
				}
				told = true
			}
			if err := x.write(gather.Delivered(hex.EncodeToString(sum[:]), raw)); err != nil {
				return err
			}
		}
	}
	return nil
}

// notHeld says what is not here to be given.
func (x *Export) notHeld(n *Node) error {
	issues := n.Gather.NotHeld()
	for _, d := range x.out.Damaged {
		issues = append(issues, fhir.Errorf(fhir.Exception, "damaged, and not given: %w", d))
	}
	if len(issues) == 0 {
		return nil
	}
	return x.write(fhir.Outcome(issues...))
}
