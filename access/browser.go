package access

import (
	"context"
	"maps"
	"net/http"
	"time"

	"tombolo/access/state"
	"tombolo/fhir"
	"tombolo/policy"
)

// A browser session, as it is remembered.
type browser struct {
	Principal Principal               `json:"principal"`
	CreatedAt time.Time               `json:"created"`
	SeenAt    time.Time               `json:"seen"`
	Signed    time.Time               `json:"signed"` // when they proved who they are
	Locked    string                  `json:"locked,omitempty"`
	Glass     map[string]policy.Glass `json:"glass,omitempty"`
}

// seenEvery is how often it is written down that a session is in use: not with every request, which would each be a write.
const seenEvery = time.Minute

func (b *browser) ends() time.Time {
	idle, absolute := b.SeenAt.Add(IdleTimeout), b.CreatedAt.Add(AbsoluteTimeout)
	if idle.Before(absolute) {
		return idle
	}
	return absolute
}

// cookieName has the browser itself see to it that only this host, over TLS, sets and gets the cookie (RFC 6265bis §4.1.3.2).
func (m *Manager) cookieName() string {
	if m.opts.Secure {
		return "__Host-tombolo"
	}
	return "tombolo"
}

func (m *Manager) cookie(value string, age int) *http.Cookie {
	return &http.Cookie{Name: m.cookieName(), Value: value, Path: "/", MaxAge: age, HttpOnly: true, Secure: m.opts.Secure, SameSite: http.SameSiteLaxMode}
}

// browserSession is the session of a request's cookie; nil without one that is known.
func (m *Manager) browserSession(r *http.Request) (*Session, error) {
	c, err := r.Cookie(m.cookieName())
	if err != nil || c.Value == "" {
		return nil, nil
	}
	ctx, now := r.Context(), m.opts.Now()
	var b browser
	ok, err := m.state.Get(ctx, state.Session, c.Value, &b)
	if err != nil {
		return nil, fhir.Errorf(fhir.Transient, "the session could not be looked up: %w", err)
	}
	if !ok {
		return nil, nil
	}
	who, ok := m.Current(b.Principal)
	if !ok {
		_ = m.state.Delete(ctx, state.Session, c.Value)
		return nil, fhir.Errorf(fhir.Login, "the session has ended: sign in again")
	}
	if now.Sub(b.SeenAt) >= seenEvery {
		if _, err := m.state.Change(ctx, state.Session, c.Value, &b, func() (time.Time, error) { b.SeenAt = now; return b.ends(), nil }); err != nil {
			return nil, fhir.Errorf(fhir.Transient, "the session could not be kept: %w", err)
		}
	}
	s := m.session(who)
	s.cookie, s.Locked, s.glass = c.Value, b.Locked, maps.Clone(b.Glass)
	m.signedInAt(s, b.Signed)
	return s, nil
}

// SignIn starts a browser session for a user of the region file: with their token, or in a demo without.
func (m *Manager) SignIn(w http.ResponseWriter, r *http.Request, user, token string) (*Session, error) {
	device, address := client(r)
	if err := m.mayTry(address); err != nil {
		return nil, err
	}
	u, ok := m.users[user]
	if token != "" {
		u, ok = m.byToken(token)
	} else if !m.opts.Demo {
		ok = false
	}
	if !ok {
		if err := m.Refused(r.Context(), device, address, "sign-in page", "a user or token that is not known"); err != nil {
			return nil, err
		}
		return nil, fhir.Errorf(fhir.Login, "that user or access token is not known here")
	}
	return m.Begin(w, r, of(u), "")
}

// Begin starts a browser session for somebody who has proved who they are. locked is the one person whose record it may open, "" for any. A
// session that the browser had before ends: nobody brings another's session with them.
func (m *Manager) Begin(w http.ResponseWriter, r *http.Request, who Principal, locked string) (*Session, error) {
	m.end(r.Context(), r)
	now, value := m.opts.Now(), Secret()
	b := browser{Principal: who, CreatedAt: now, SeenAt: now, Signed: now, Locked: locked}
	if err := m.state.Put(r.Context(), state.Session, value, b, b.ends()); err != nil {
		return nil, fhir.Errorf(fhir.NoStore, "the session could not be kept: %w", err)
	}
	http.SetCookie(w, m.cookie(value, 0))
	s := m.session(who)
	s.cookie, s.Locked = value, locked
	m.signedInAt(s, now)
	s.Device, s.Address = client(r)
	return s, nil
}

// SignOut ends the browser session.
func (m *Manager) SignOut(w http.ResponseWriter, r *http.Request) {
	m.end(r.Context(), r)
	http.SetCookie(w, m.cookie("", -1))
}

func (m *Manager) end(ctx context.Context, r *http.Request) {
	if c, err := r.Cookie(m.cookieName()); err == nil {
		_ = m.state.Delete(ctx, state.Session, c.Value)
	}
}
