package access

import (
	"context"
	"net/http"
	"strings"
	"time"

	"tombolo/access/limit"
	"tombolo/audit"
	"tombolo/fhir"
	"tombolo/policy"
	"tombolo/region"
)

// missed is for how many a question counts that comes to nothing: whoever tries numbers, or people who are not theirs, is slowed sooner. Somebody
// unknown and somebody refused count the same.
const missed = 10

// limits are how often somebody may try to get in, or ask for records. Nothing that they say depends on whether anybody or anything exists.
type limits struct {
	attempts *limit.Limiter // failed ones, by network address
	opens    *limit.Limiter // by user
	clients  *limit.Limiter // by application, system or neighbour
	told     *limit.Limiter // by whom a limit was reached: once a minute in the audit log
	remember func(context.Context, audit.Event) error
}

func newLimits(l region.Limits, now func() time.Time, remember func(context.Context, audit.Event) error) *limits {
	return &limits{attempts: limit.New(l.Attempts, now), opens: limit.New(l.Opens, now), clients: limit.New(l.ClientOpens, now), told: limit.New(1, now), remember: remember}
}

// tooMany is the answer to who has to wait.
func tooMany(wait time.Duration) error {
	err := fhir.Errorf(fhir.Throttled, "too many requests in a short time: wait a little, and try again")
	err.After = wait
	return err
}

// tell remembers that a limit was reached, no more than once a minute for each who reaches it: an attack must not fill the log.
func (l *limits) tell(ctx context.Context, key string, who audit.Agent, what string) {
	if l.told.Take(key, 1) == 0 {
		_ = l.remember(ctx, audit.Event{Kind: audit.Denied, Agent: who, What: []string{"refused: limit: " + what}})
	}
}

// mayTry refuses an address from which too many attempts have failed. It is asked before what could be guessed is looked at.
func (m *Manager) mayTry(address string) error {
	if wait := m.limits.attempts.Wait(address); wait > 0 {
		return tooMany(wait)
	}
	return nil
}

// failed counts a failed attempt, and reports whether it is to be remembered by itself; if not, the error is the answer to it.
func (m *Manager) failed(ctx context.Context, key string, who audit.Agent) error {
	if wait := m.limits.attempts.Take(key, 1); wait > 0 {
		m.limits.tell(ctx, key, who, "too many failed attempts: further ones are not recorded one by one")
		return tooMany(wait)
	}
	return nil
}

// AsksFor counts a request that a registered client makes of the authorisation server, as it says itself who it is; failed is for one that was refused.
// Nobody else is slowed by those who take its name: they are counted by where they come from too.
func (m *Manager) AsksFor(r *http.Request, client string, failed bool) error {
	_, address := From(r)
	key := address + " " + client
	if failed {
		m.limits.attempts.Charge(key, 1)
		return nil
	}
	wait := max(m.limits.attempts.Wait(key), m.limits.clients.Take(key, 1))
	if wait > 0 {
		m.limits.tell(r.Context(), key, audit.Agent{User: "client " + client, Address: address}, "too many requests for tokens")
		return tooMany(wait)
	}
	return nil
}

// Asks counts one question about somebody's record against how many the user, and the application or system that asks, may have in a minute. An error
// is of type Throttled: nothing is looked at.
func (s *Session) Asks(ctx context.Context) error {
	if s.limits == nil || s.Dev {
		return nil
	}
	var wait time.Duration
	client, user := s.counted()
	if client != "" {
		wait = s.limits.clients.Take(client, 1)
	}
	if wait == 0 && user != "" {
		wait = s.limits.opens.Take(user, 1)
	}
	if wait == 0 {
		return nil
	}
	s.limits.tell(ctx, client+" "+user, s.agent(), "too many questions about people's records")
	return tooMany(wait)
}

// Missed counts a question that came to nothing for several.
func (s *Session) Missed() {
	if s.limits == nil || s.Dev {
		return
	}
	client, user := s.counted()
	if client != "" {
		s.limits.clients.Charge(client, missed-1)
	}
	if user != "" {
		s.limits.opens.Charge(user, missed-1)
	}
}

// counted are the names under which the session's questions are counted: whoever asks for many users, and the one user.
func (s *Session) counted() (client, user string) {
	switch {
	case s.principal.Service, s.Role == policy.Neighbour:
		return s.principal.User, ""
	case s.Client != "":
		return s.Client, s.principal.User
	case s.Neighbour != "":
		return s.Neighbour, s.principal.User
	}
	return "", s.principal.User
}

type addressKey struct{}

// WithAddress returns a context that knows where a request came from, for what is only handed a context.
func WithAddress(ctx context.Context, r *http.Request) context.Context {
	_, address := From(r)
	return context.WithValue(ctx, addressKey{}, address)
}

// unguessable reports whether a token is of the shape of those that this node gives: nobody finds one by trying, and one that is over is no attempt.
func unguessable(raw string) bool {
	return len(raw) >= len(Secret()) && strings.Trim(raw, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567") == ""
}
