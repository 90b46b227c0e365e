package node

import (
	"context"
	"slices"

	"tombolo/audit"
	"tombolo/connector"
	"tombolo/connector/hl7v2"
	"tombolo/fhir"
	"tombolo/policy"
	"tombolo/region"
)

// Sender is what tells a system what has changed here; ok is false if the region file gives it no address to be told at (options: {send-to: …}). Whether the
// system may be told of it, whoever sends has decided.
func (n *Node) Sender(system string) (s connector.Sender, ok bool) {
	s, ok = n.senders[system]
	return s, ok
}

// An outbound tells one system in HL7 v2, once it is recorded what it is told of and about whom: no audit, no bytes (design law 5).
type outbound struct {
	n   *Node
	sys region.System
	to  *hl7v2.Outbound
}

// Send implements connector.Sender.
func (t *outbound) Send(ctx context.Context, r *fhir.Resource) error {
	msgs, err := t.to.Messages(r)
	if err != nil {
		return err
	}
	if err := t.remember(ctx, r, msgs); err != nil {
		return err
	}
	for _, m := range msgs {
		if _, err := t.to.SendMessage(ctx, m); err != nil {
			return err // those before it have been taken: sent again, they are known by their control ids
		}
	}
	return nil
}

// remember records the messages by their types and control ids, for each patient of whom they are.
func (t *outbound) remember(ctx context.Context, r *fhir.Resource, msgs [][]byte) error {
	e := audit.Event{Kind: audit.Notified, Purpose: policy.DirectCare.Code(), Agent: audit.Agent{User: t.sys.ID, Name: t.sys.Product, Organisation: t.sys.Organisation}}
	for _, raw := range msgs {
		m, err := hl7v2.Parse(raw, hl7v2.ParseOptions{})
		if err != nil {
			return err
		}
		code, trigger, control := m.Type()
		e.What = append(e.What, "told in HL7 v2: "+code+"^"+trigger, "message: "+control)
	}
	var all []audit.Event
	for _, p := range patients(r) {
		e.NHSNumber = fhir.NHSNumber{}
		for _, id := range p.Identifiers() {
			if id.System == fhir.SystemNHSNumber && e.NHSNumber.IsZero() {
				e.NHSNumber, _ = fhir.ParseNHSNumber(id.Value) // else it is none, and nobody is known by it
			}
		}
		var err error
		if e.PersonID, err = t.n.People.PersonOf(ctx, p.ID()); err != nil && !fhir.Is(err, fhir.NotFound) {
			return err
		}
		all = append(all, e)
	}
	if len(all) == 0 {
		all = append(all, e)
	}
	if _, err := t.n.Audit.AppendAll(ctx, all); err != nil {
		return fhir.Errorf(fhir.NoStore, "what %s is told could not be recorded, so it is not told: %w", t.sys.ID, err)
	}
	return nil
}

// patients are those whom a resource holds: itself, or those of a Bundle. A message has one, or two of whom one was merged.
func patients(r *fhir.Resource) (all []*fhir.Resource) {
	if r.Type() == "Bundle" {
		for e := range r.Value().All("entry") {
			if one, err := fhir.Parse(e.Get("resource").Raw()); err == nil {
				all = append(all, one)
			}
		}
	} else {
		all = append(all, r)
	}
	return slices.DeleteFunc(all, func(r *fhir.Resource) bool { return r.Type() != "Patient" })
}
