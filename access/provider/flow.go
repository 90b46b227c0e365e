package provider

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"time"

	"golang.org/x/oauth2"

	"tombolo/access"
	"tombolo/access/state"
	"tombolo/fhir"
)

// attemptFor is how long somebody may be at a provider.
const attemptFor = 10 * time.Minute

// PathBack is where providers send people back to, below the node's own base URL: it is registered with each of them.
const PathBack = "/sign-in/back"

func hashed(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}

// Start sends somebody to a provider: the address, and the secret by which the browser that began is known when they come back.
func (s *Set) Start(ctx context.Context, m *access.Manager, id, next string) (to, browser string, err error) {
	p, ok := s.Get(id)
	if !ok {
		return "", "", fhir.Errorf(fhir.NotFound, "there is no such way to sign in")
	}
	browser = access.Secret()
	st := access.Secret()
	a := Attempt{Provider: id, Nonce: access.Secret(), Verifier: oauth2.GenerateVerifier(), Redirect: m.Issuer() + PathBack, Next: next, Browser: hashed(browser)}
	if to, err = p.Begin(ctx, a, st); err != nil {
		return "", "", err
	}
	return to, browser, m.State().Put(ctx, state.SignIn, st, a, m.Now().Add(attemptFor))
}

// Return takes somebody who comes back from a provider: who they are here, and where they wanted to go. What kept them out is audited; they are
// told only that it did.
func (s *Set) Return(ctx context.Context, m *access.Manager, st, code, iss, browser, device, address string) (who access.Principal, next string, err error) {
	refused := func(provider, why string) (access.Principal, string, error) {
		if err := m.Refused(ctx, device, address, provider, why); err != nil {
			return access.Principal{}, "", err
		}
		return access.Principal{}, "", fhir.Errorf(fhir.Login, "you could not be signed in: begin again, and if it goes on, ask the service desk whether your role and organisation are known here")
	}
	var a Attempt
	ok, err := m.State().Take(ctx, state.SignIn, st, &a)
	if err != nil {
		return who, "", err
	}
	if !ok {
		return refused("", "a sign-in that nobody began, or that was ended before")
	}
	p, known := s.Get(a.Provider)
	if !known || subtle.ConstantTimeCompare([]byte(hashed(browser)), []byte(a.Browser)) != 1 {
		return refused(a.Provider, "a sign-in that another browser began")
	}
	if code == "" {
		return refused(a.Provider, "the provider sent nobody back")
	}
	who, err = p.Finish(ctx, a, code, iss)
	if i := fhir.IssueOf(err); i != nil && i.Type == fhir.Transient {
		return who, "", err
	}
	if err != nil {
		return refused(a.Provider, err.Error())
	}
	return who, a.Next, nil
}
