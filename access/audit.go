package access

import (
	"cmp"
	"context"

	"tombolo/audit"
	"tombolo/fhir"
)

// Auditor remembers. audit.Log is one.
type Auditor interface {
	Append(ctx context.Context, e audit.Event) (audit.Entry, error)
}

// Entered remembers that somebody got in, and how. An error means that they must not.
func (m *Manager) Entered(ctx context.Context, s *Session, how string) error {
	return m.remember(ctx, audit.Event{Kind: audit.SignIn, Agent: s.agent(), Purpose: s.Purpose.Code(), Trace: s.Trace, What: []string{"way: " + how}})
}

// Left remembers that somebody signed out.
func (m *Manager) Left(ctx context.Context, s *Session) error {
	return m.remember(ctx, audit.Event{Kind: audit.SignOut, Agent: s.agent(), Trace: s.Trace})
}

// TookBack remembers that somebody has ended what an application may do for them.
func (m *Manager) TookBack(ctx context.Context, s *Session, client string) error {
	return m.remember(ctx, audit.Event{Kind: audit.SignOut, Agent: s.agent(), Trace: s.Trace, What: []string{"application " + client + ": no longer let in"}})
}

// Refused remembers that somebody did not get in: who said to be asking, and why not. It is for the log; who is refused is not told. Too many from
// one address in a minute are not remembered one by one: an error, of type Throttled, is then the answer. What else is to be remembered of it comes in also.
func (m *Manager) Refused(ctx context.Context, device, address, who, why string, also ...string) error {
	if address == "" {
		address, _ = ctx.Value(addressKey{}).(string)
	}
	agent := audit.Agent{User: who, Device: device, Address: address}
	if err := m.failed(ctx, cmp.Or(address, who), agent); err != nil {
		return err
	}
	_ = m.remember(ctx, audit.Event{Kind: audit.Denied, Agent: agent, What: append([]string{"refused: " + why}, also...)})
	return nil
}

func (m *Manager) refuse(ctx context.Context, who, why string) { _ = m.Refused(ctx, "", "", who, why) }

func (m *Manager) remember(ctx context.Context, e audit.Event) error {
	if m.opts.Audit == nil {
		return nil
	}
	if _, err := m.opts.Audit.Append(context.WithoutCancel(ctx), e); err != nil {
		return fhir.Errorf(fhir.NoStore, "the access could not be recorded, so nobody gets in: %w", err)
	}
	return nil
}

func (s *Session) agent() audit.Agent {
	return audit.Agent{User: s.User, Name: s.Name, Role: s.RoleName, Organisation: s.Organisation, OrgName: s.OrganisationName, Device: s.Device, Address: s.Address}
}
