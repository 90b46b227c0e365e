// Package access is where people and systems get in: it turns a request's credentials into a Session, and a Session's questions
// about a person into a policy decision.
//
// A Session is one user acting for one purpose. Faces hold Sessions and never a store, so what cannot be decided
// cannot be read. Sessions are made here and nowhere else.
package access

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"tombolo/fhir"
	"tombolo/policy"
	"tombolo/region"
)

// A Session is one user acting for one purpose. It is not changed once made.
type Session struct {
	User             string // local id
	Name             string
	Role             policy.Role
	RoleName         string
	Organisation     string // ODS code
	OrganisationName string
	Purpose          policy.Purpose
	Person           fhir.Identifier // a citizen: who they are
	System           string          // a program: the id of the system whose record it keeps here; else ""
	Trace            string          // UUID of the request, for every side's log
	Device           string          // the program that the request came from, as it calls itself; for the audit only
	Address          string          // the network address it came from, as this node sees it
	Dev              bool            // made by serve --dev: nobody signed in

	glass map[string]grant // person id -> break-glass grant
	token string           // key of the browser session, "" for bearer tokens
}

type grant struct {
	reason  string
	expires time.Time
}

// GlassFor is the reason given for opening this person's record in an emergency, "" if none is in force at the time.
func (s *Session) GlassFor(personID string, now time.Time) string {
	if g, ok := s.glass[personID]; ok && now.Before(g.expires) {
		return g.reason
	}
	return ""
}

// MayBreakGlass reports whether the role may open a record against an objection at all. It depends on the role alone, so
// offering it tells nothing about any person.
func (s *Session) MayBreakGlass() bool {
	info, _ := s.Role.Info()
	return info.BreaksGlass
}

// For returns a copy of the session acting for another purpose.
func (s *Session) For(p policy.Purpose) *Session {
	c := *s
	c.Purpose = p
	return &c
}

// OnBehalf returns a copy of a neighbour's session that names the user it says it acts for, so that the audit does.
func (s *Session) OnBehalf(user, role, organisation string) *Session {
	c := *s
	clip := func(t string) string { return t[:min(len(t), 80)] }
	if user != "" {
		c.User, c.Name = s.User+"/"+clip(user), clip(user)+", by "+s.Name
	}
	if role != "" {
		c.RoleName = clip(role) + " (" + clip(organisation) + ")"
	}
	return &c
}

// InEmergency returns a copy of the session that has broken the glass for one person until expires. The caller audits it.
func (s *Session) InEmergency(personID, reason string, expires time.Time) (*Session, error) {
	if !s.MayBreakGlass() {
		return nil, fhir.Errorf(fhir.Forbidden, "this role may not open records in an emergency")
	}
	if len(strings.TrimSpace(reason)) < 3 {
		return nil, fhir.Errorf(fhir.Required, "say why this is an emergency").At("reason")
	}
	c := *s
	c.Purpose = policy.Emergency
	c.glass = map[string]grant{personID: {reason, expires}}
	return &c, nil
}

// Subject is the session as policy sees it.
func (s *Session) Subject() policy.Subject {
	return policy.Subject{Role: s.Role, Organisation: s.Organisation, System: s.System}
}

// Limits on browser sessions.
const (
	IdleTimeout     = 30 * time.Minute
	AbsoluteTimeout = 12 * time.Hour
	GlassTimeout    = time.Hour
)

// Options of a Manager.
type Options struct {
	Region *region.Region
	// Demo lets anybody sign in as any of the region's users without a secret. Loopback only; node sees to that.
	Demo bool
	// Dev makes every request act as this user, without sign-in. Loopback only; node sees to that.
	Dev string
	// Secure marks cookies for TLS only.
	Secure bool
	Now    func() time.Time
}

// A Manager knows the users and the browser sessions. It may be used from many goroutines.
type Manager struct {
	opts  Options
	users map[string]region.User

	mu       sync.Mutex
	sessions map[string]*browser // by SHA-256 of the cookie
}

type browser struct {
	user          string
	created, seen time.Time
	glass         map[string]grant
}

// New makes a Manager.
func New(o Options) (*Manager, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	m := &Manager{opts: o, users: map[string]region.User{}, sessions: map[string]*browser{}}
	for _, u := range o.Region.Users {
		if !policy.Role(u.Role).Valid() {
			return nil, fhir.Errorf(fhir.CodeInvalid, "user %s has the role %q, which there is not", u.ID, u.Role)
		}
		m.users[u.ID] = u
	}
	if o.Dev != "" {
		if _, ok := m.users[o.Dev]; !ok {
			return nil, fhir.Errorf(fhir.NotFound, "the developer user %q is not in the region file", o.Dev)
		}
	}
	return m, nil
}

// Users are the users who may sign in, in region-file order; for the demo's sign-in page.
func (m *Manager) Users() []region.User { return m.opts.Region.Users }

// Demo reports whether anybody may sign in as anybody.
func (m *Manager) Demo() bool { return m.opts.Demo }

const cookieName = "tombolo"

// Session finds who is asking: a bearer token, or the browser session's cookie. With neither, or with one that is
// not known, it returns an error of type fhir.Login.
func (m *Manager) Session(r *http.Request) (*Session, error) {
	s, err := m.authenticate(r)
	if err == nil {
		s.Device, s.Address = client(r)
	}
	return s, err
}

// client is what is known of where a request came from. Headers in which proxies speak of others are not believed: anybody can send them.
func client(r *http.Request) (device, address string) {
	address = r.RemoteAddr
	if host, _, err := net.SplitHostPort(address); err == nil {
		address = host
	}
	device = strings.Map(func(c rune) rune {
		if c < ' ' || c == 0x7f || c == utf8.RuneError {
			return -1
		}
		return c
	}, r.UserAgent())
	if runes := []rune(device); len(runes) > 200 {
		device = string(runes[:200])
	}
	return device, address
}

func (m *Manager) authenticate(r *http.Request) (*Session, error) {
	now := m.opts.Now()
	if auth := r.Header.Get("Authorization"); auth != "" {
		token, ok := strings.CutPrefix(auth, "Bearer ")
		if !ok {
			return nil, fhir.Errorf(fhir.Login, "send the access token as Authorization: Bearer <token>")
		}
		if u, ok := m.byToken(token); ok {
			return m.session(u), nil
		}
		return nil, fhir.Errorf(fhir.Login, "the access token is not known here")
	}
	if c, err := r.Cookie(cookieName); err == nil {
		m.mu.Lock()
		defer m.mu.Unlock()
		key := digest(c.Value)
		if b, ok := m.sessions[key]; ok {
			if now.Sub(b.seen) > IdleTimeout || now.Sub(b.created) > AbsoluteTimeout {
				delete(m.sessions, key)
				return nil, fhir.Errorf(fhir.Login, "the session has ended: sign in again")
			}
			b.seen = now
			s := m.session(m.users[b.user])
			s.token = key
			s.glass = map[string]grant{}
			for id, g := range b.glass {
				s.glass[id] = g
			}
			return s, nil
		}
	}
	if certificate(r) != nil {
		return m.BySystem(r)
	}
	if m.opts.Dev != "" {
		s := m.session(m.users[m.opts.Dev])
		s.Dev = true
		return s, nil
	}
	return nil, fhir.Errorf(fhir.Login, "sign in first")
}

// ByToken finds the user to whom a bearer token belongs. Every user is compared, so that the time taken tells nothing.
func (m *Manager) byToken(token string) (region.User, bool) {
	sum := digest(token)
	var found region.User
	ok := false
	for _, u := range m.users {
		if u.TokenSHA256 != "" && subtle.ConstantTimeCompare([]byte(strings.ToLower(u.TokenSHA256)), []byte(sum)) == 1 {
			found, ok = u, true
		}
	}
	return found, ok
}

// As makes a session for a user by id: for commands run by whoever holds the machine, and for tests.
func (m *Manager) As(user string) (*Session, error) {
	u, ok := m.users[user]
	if !ok {
		return nil, fhir.Errorf(fhir.NotFound, "there is no user %q in the region file", user)
	}
	return m.session(u), nil
}

func (m *Manager) session(u region.User) *Session {
	role := policy.Role(u.Role)
	info, _ := role.Info()
	s := &Session{User: u.ID, Name: u.Name, Role: role, RoleName: info.Name, Organisation: u.Organisation, System: u.System, Trace: NewTrace()}
	if i := slices.IndexFunc(m.opts.Region.Organisations, func(o region.Organisation) bool { return o.ODS == u.Organisation }); i >= 0 {
		s.OrganisationName = m.opts.Region.Organisations[i].Name
	}
	if len(info.Purposes) > 0 {
		s.Purpose = info.Purposes[0]
	}
	if u.PersonRef != "" {
		system, value, _ := strings.Cut(u.PersonRef, "|")
		s.Person = fhir.Identifier{System: system, Value: value}
	}
	return s
}

// SignIn starts a browser session for a user: with their token, or in a demo without.
func (m *Manager) SignIn(w http.ResponseWriter, user, token string) (*Session, error) {
	u, ok := m.users[user]
	if token != "" {
		u, ok = m.byToken(token)
	} else if !m.opts.Demo {
		ok = false
	}
	if !ok {
		return nil, fhir.Errorf(fhir.Login, "that user or access token is not known here")
	}
	value := rand.Text() + rand.Text()
	now := m.opts.Now()
	m.mu.Lock()
	m.sessions[digest(value)] = &browser{user: u.ID, created: now, seen: now, glass: map[string]grant{}}
	for k, b := range m.sessions {
		if now.Sub(b.seen) > IdleTimeout {
			delete(m.sessions, k)
		}
	}
	m.mu.Unlock()
	http.SetCookie(w, &http.Cookie{Name: cookieName, Value: value, Path: "/", HttpOnly: true, Secure: m.opts.Secure, SameSite: http.SameSiteLaxMode})
	return m.session(u), nil
}

// SignOut ends the browser session.
func (m *Manager) SignOut(w http.ResponseWriter, r *http.Request) {
	if c, err := r.Cookie(cookieName); err == nil {
		m.mu.Lock()
		delete(m.sessions, digest(c.Value))
		m.mu.Unlock()
	}
	http.SetCookie(w, &http.Cookie{Name: cookieName, Path: "/", MaxAge: -1, HttpOnly: true, Secure: m.opts.Secure, SameSite: http.SameSiteLaxMode})
}

// BreakGlass records in the browser session that the user opens this person's record in an emergency. It lasts GlassTimeout, for this
// person only. The caller audits it before anything is shown.
func (m *Manager) BreakGlass(s *Session, personID, reason string) (*Session, error) {
	expires := m.opts.Now().Add(GlassTimeout)
	out, err := s.InEmergency(personID, reason, expires)
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if b, ok := m.sessions[s.token]; ok {
		b.glass[personID] = grant{reason, expires}
	}
	return out, nil
}

func digest(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}

// NewTrace makes the UUID under which one request, or one run of a command, stands on every side's log.
func NewTrace() string {
	var b [16]byte
	_, _ = rand.Read(b[:])
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	h := hex.EncodeToString(b[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}
