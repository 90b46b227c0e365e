package access

import (
	"context"
	"time"

	"tombolo/access/state"
	"tombolo/fhir"
	"tombolo/policy"
)

// Unattended reports whether a program asks with nobody present.
func (s *Session) Unattended() bool { return s.principal.Service }

// Glass is what the user has broken for this person and is in force at the time; nil if nothing is.
func (s *Session) Glass(personID string, now time.Time) *policy.Glass {
	if g, ok := s.glass[personID]; ok && !now.Before(g.From) && now.Before(g.Until) {
		return &g
	}
	return nil
}

// InEmergency returns a copy of the session that has broken the glass for one person. The caller audits it.
func (s *Session) InEmergency(personID string, g policy.Glass) (*Session, error) {
	if info, _ := s.Role.Info(); !s.MayBreakGlass() && (g.Type != policy.SelfClaim || !info.Clinical || s.principal.Service) {
		return nil, fhir.Errorf(fhir.Forbidden, "this role may not open records in an emergency")
	}
	if s.stale {
		return nil, fhir.Errorf(fhir.Login, "sign in again first: a record is opened in an emergency only by somebody who has just said who they are")
	}
	if err := g.Check(); err != nil {
		return nil, err
	}
	c := *s
	c.Purpose = policy.Emergency
	c.glass = map[string]policy.Glass{personID: g}
	return &c, nil
}

// BreakGlass records in the browser session that the user opens this person's record in an emergency, for as long as g says and for this
// person only. The caller audits it before anything is shown.
func (m *Manager) BreakGlass(ctx context.Context, s *Session, personID string, g policy.Glass) (*Session, error) {
	out, err := s.InEmergency(personID, g)
	if err != nil || s.cookie == "" {
		return out, err
	}
	var b browser
	if _, err := m.state.Change(ctx, state.Session, s.cookie, &b, func() (time.Time, error) {
		if b.Glass == nil {
			b.Glass = map[string]policy.Glass{}
		}
		b.Glass[personID] = g
		return b.ends(), nil
	}); err != nil {
		return nil, fhir.Errorf(fhir.NoStore, "the emergency could not be kept: %w", err)
	}
	return out, nil
}

// Emergency is the breaking of the glass by somebody who says in words that it is one, from now on.
func Emergency(words string, now time.Time) policy.Glass {
	return policy.Glass{Type: policy.AccessAlert, Reason: policy.EmergencyReason, Words: words, From: now, Until: now.Add(policy.MaxGlass)}
}
