// Package access is where people and systems get in: it turns a request's credentials into a Session, and a Session's questions
// about a person into a policy decision.
//
// A Session is one user acting for one purpose. Faces hold Sessions and never a store, so what cannot be decided
// cannot be read. Sessions are made here and nowhere else: of a browser's cookie, of an access token that this node gave to an
// application (access/oauth), of a small site's own bearer token, or of a neighbour's signed assertion about its user.
package access

import (
	"cmp"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"tombolo/access/state"
	"tombolo/access/token"
	"tombolo/connector"
	"tombolo/fhir"
	"tombolo/policy"
	"tombolo/region"
	"tombolo/search/scope"
	"tombolo/store"
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

	Client    string        // the application or system that asks for the user, "" for a browser or a small site's token
	Scopes    *scope.Set    // what that application may have; nil: whatever the user may
	Locked    string        // id of the one person whose record this session may open, "" for any that the user may
	Neighbour string        // id of the neighbouring region whose user this is, "" for our own
	Via       []string      // the nodes that the question passed before this one
	Here      string        // this node, as it is named there
	Waits     time.Duration // for how long whoever asks waits, since the request came; 0: they do not say
	AuthTime  time.Time     // when the user last proved who they are; zero where the credential itself came with the request

	principal Principal
	can       scope.Can               // what is being done, in the letters of scopes; zero: read
	stale     bool                    // the user proved who they are too long ago to break the glass
	glass     map[string]policy.Glass // by person id
	began     time.Time               // when it was made: at the beginning of the request
	limits    *limits                 // on how much it may ask; nil: none
	cookie    string                  // the browser session's secret, "" for bearer tokens
}

// MayBreakGlass reports whether the role, and the activities of the sign-in if it brought any, may open a record against an objection at all. It
// depends on the user alone, so offering it tells nothing about any person. A system by itself, with nobody signed in, may not.
func (s *Session) MayBreakGlass() bool {
	info, _ := s.Role.Info()
	who := s.Subject()
	return info.BreaksGlass && who.May(policy.EmergencyAccess) && !s.principal.Service
}

// Stale reports whether the user must prove who they are again before they may break the glass.
func (s *Session) Stale() bool { return s.stale }

// Opens reports whether the session itself lets the user open this person's record: one that came of a launch opens its one person's.
// Whether the user may is decided besides.
func (s *Session) Opens(personID string) bool {
	if s.Locked != "" && s.Locked != personID {
		return false
	}
	return s.Scopes == nil || slices.ContainsFunc(s.Scopes.Data, func(d scope.Scope) bool { return d.Can&(scope.Read|scope.Search) != 0 })
}

// Shows reports whether the application that asks may have a resource that its user may see.
func (s *Session) Shows(r *fhir.Resource) bool {
	return s.Scopes == nil || s.Scopes.Permits(cmp.Or(s.can, scope.Read), r)
}

// ShowsAll reports whether everything that the user may see is shown. Where it is not, nobody is told that there is nothing.
func (s *Session) ShowsAll() bool { return s.Scopes == nil || s.Scopes.Whole() }

// Began is when the session was made, at the beginning of the request that it is for; zero for one that was made by hand.
func (s *Session) Began() time.Time { return s.began }

// Doing returns a copy of the session that does something else than reading: the letters of scopes are held to it.
func (s *Session) Doing(can scope.Can) *Session {
	c := *s
	c.can = can
	return &c
}

// FromNeighbour reports whether the question comes from another region's node: it goes on to no third one.
func (s *Session) FromNeighbour() bool { return s.Role == policy.Neighbour || s.Neighbour != "" }

// Passed reports whether the question comes from another node, whatever that node is to this one: it goes on to no further region.
func (s *Session) Passed() bool { return s.FromNeighbour() || len(s.Via) > 0 }

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

// Subject is the session as policy sees it.
func (s *Session) Subject() policy.Subject {
	return policy.Subject{Role: s.Role, Activities: s.principal.Activities, Organisation: s.Organisation, System: s.System}
}

// Limits on sessions.
const (
	IdleTimeout     = 30 * time.Minute
	AbsoluteTimeout = 12 * time.Hour
	// FreshFor is how long after signing in the glass may be broken without signing in again.
	FreshFor = 10 * time.Minute
)

// Options of a Manager.
type Options struct {
	Region *region.Region
	// Store keeps sessions and tokens; nil: they are forgotten when the program ends.
	Store *store.DB
	// Audit remembers who got in and who did not; nil: nobody does.
	Audit Auditor
	// Issuer gives this node's own base URL, "https://record.example.nhs.uk": it signs by it, and takes only what is meant for it. Never
	// taken from a request: whoever sends one could then have meant any node.
	Issuer func() string
	// Demo lets anybody sign in as any of the region's users without a secret. Loopback only; node sees to that.
	Demo bool
	// Dev makes every request act as this user, without sign-in. Loopback only; node sees to that.
	Dev string
	// Here names this node to others whom a question passes (connector.HeaderVia), and no other node; the region's id if "".
	Here string
	// Secure marks cookies for TLS only.
	Secure bool
	// Path resolves a path of the region file; nil leaves it.
	Path func(string) string
	// HTTP reads the keys of others; nil: the usual client.
	HTTP *http.Client
	// Reach is how a neighbour's keys are read that are at the same host as its record: with the certificates with which it is asked itself. nil: by HTTP.
	Reach func(n region.Neighbour) (*http.Client, error)
	Now   func() time.Time
}

// A Manager knows the users and the sessions. It may be used from many goroutines.
type Manager struct {
	opts       Options
	users      map[string]region.User
	state      *state.State
	ring       *token.Ring
	neighbours map[string]neighbour // by issuer
	limits     *limits
}

// New makes a Manager.
func New(o Options) (*Manager, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Path == nil {
		o.Path = func(p string) string { return p }
	}
	if o.Issuer == nil {
		o.Issuer = func() string { return "" }
	}
	m := &Manager{opts: o, users: map[string]region.User{}, state: state.New(o.Store, o.Now), neighbours: map[string]neighbour{}}
	m.limits = newLimits(o.Region.Limits, o.Now, m.remember)
	m.ring = &token.Ring{Kept: m.state.Keys(), Now: o.Now}
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
	for _, n := range o.Region.Neighbours {
		if n.Keys != "" && n.Issuer != "" {
			keys := m.KeysAt(n.Keys)
			if o.Reach != nil && sameHost(n.Keys, n.Address) {
				client, err := o.Reach(n)
				if err != nil {
					return nil, fhir.Errorf(fhir.Invalid, "neighbour %s: tls: %w", n.ID, err)
				}
				keys.HTTP = client
			}
			m.neighbours[n.Issuer] = neighbour{n, keys}
		}
	}
	return m, nil
}

// Users are the users who may sign in, in region-file order; for the demo's sign-in page.
func (m *Manager) Users() []region.User { return m.opts.Region.Users }

// Demo reports whether anybody may sign in as anybody.
func (m *Manager) Demo() bool { return m.opts.Demo }

// Region is the region whose users these are.
func (m *Manager) Region() *region.Region { return m.opts.Region }

// Issuer is this node's own base URL.
func (m *Manager) Issuer() string { return m.opts.Issuer() }

// State is what getting in remembers.
func (m *Manager) State() *state.State { return m.state }

// Ring is this node's signing keys.
func (m *Manager) Ring() *token.Ring { return m.ring }

// Transport is how others are reached.
func (m *Manager) Transport() http.RoundTripper {
	if m.opts.HTTP == nil {
		return nil
	}
	return m.opts.HTTP.Transport
}

// Now is the time.
func (m *Manager) Now() time.Time { return m.opts.Now() }

// sameHost reports whether two addresses are of one host, whatever the port: a neighbour's keys are then read as its record is.
func sameHost(a, b string) bool {
	x, no := url.Parse(a)
	y, nor := url.Parse(b)
	return no == nil && nor == nil && x.Hostname() != "" && strings.EqualFold(x.Hostname(), y.Hostname())
}

// KeysAt are the public keys of somebody else, where the region file says that they are.
func (m *Manager) KeysAt(place string) *token.Set {
	if !strings.HasPrefix(place, "http://") && !strings.HasPrefix(place, "https://") {
		place = m.opts.Path(place)
	}
	return &token.Set{Place: place, HTTP: m.opts.HTTP, Now: m.opts.Now}
}

// Session finds who is asking: a bearer token, or the browser session's cookie. With neither, or with one that is
// not known, it returns an error of type fhir.Login.
func (m *Manager) Session(r *http.Request) (*Session, error) {
	s, err := m.authenticate(r)
	if err != nil {
		return nil, err
	}
	if err := m.came(s, r); err != nil {
		return nil, err
	}
	if s.Client != "" {
		s.Device = s.Client + " " + s.Device
	}
	return s, nil
}

// came notes in a session where its request came from and what it brought along. One that has been here before is refused: whoever asked on its way here asks us for
// what they ask, and the question would go round for ever.
func (m *Manager) came(s *Session, r *http.Request) error {
	s.Device, s.Address = client(r)
	s.Via, s.Waits = connector.Via(r.Header), connector.Patience(r.Header)
	switch {
	case connector.Passed(s.Via, s.Here):
		return fhir.Errorf(fhir.NotSupported, "this question came from here: a source of this node asks this node for what it is asked. Mend one of the two region files")
	case len(s.Via) > connector.MostHops:
		return fhir.Errorf(fhir.NotSupported, "this question has passed more than %d nodes", connector.MostHops)
	}
	return nil
}

// From is what is known of where a request came from, for the audit.
func From(r *http.Request) (device, address string) { return client(r) }

// Secure reports whether cookies are for TLS only.
func (m *Manager) Secure() bool { return m.opts.Secure }

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
	switch auth := r.Header.Values("Authorization"); {
	case len(auth) > 1:
		return nil, fhir.Errorf(fhir.Login, "send one access token, not several")
	case len(auth) == 1 && auth[0] != "":
		return m.bearer(r, auth[0])
	}
	if s, err := m.browserSession(r); s != nil || err != nil {
		return s, err
	}
	if certificate(r) != nil {
		return m.BySystem(r)
	}
	if m.opts.Dev != "" {
		s := m.session(of(m.users[m.opts.Dev]))
		s.Dev = true
		return s, nil
	}
	return nil, fhir.Errorf(fhir.Login, "sign in first")
}

// As makes a session for a user by id: for commands run by whoever holds the machine, and for tests.
func (m *Manager) As(user string) (*Session, error) {
	u, ok := m.users[user]
	if !ok {
		return nil, fhir.Errorf(fhir.NotFound, "there is no user %q in the region file", user)
	}
	return m.session(of(u)), nil
}

// A Principal is who somebody is, as far as sessions and tokens must remember it: a user of the region file, somebody whom an
// identity provider knows, or a system by itself.
type Principal struct {
	User         string          `json:"user"`
	Name         string          `json:"name"`
	Role         string          `json:"role"`
	Organisation string          `json:"organisation,omitempty"` // ODS code
	Person       fhir.Identifier `json:"person,omitzero"`        // a citizen: who they are
	System       string          `json:"system,omitempty"`       // a program: the system whose record it keeps here
	Provider     string          `json:"provider,omitempty"`     // who vouches for them; "" is the region file
	Service      bool            `json:"service,omitempty"`      // a system, with nobody signed in
	// Activities are the national RBAC activities that the sign-in gave. nil: it says nothing of activities; empty: none, which is kept apart from nil.
	Activities []string `json:"activities"`
}

// of is a user of the region file as a Principal.
func of(u region.User) Principal {
	p := Principal{User: u.ID, Name: u.Name, Role: u.Role, Organisation: u.Organisation, System: u.System, Activities: u.Activities}
	if u.PersonRef != "" {
		system, value, _ := strings.Cut(u.PersonRef, "|")
		p.Person = fhir.Identifier{System: system, Value: value}
	}
	return p
}

// Principal is who acts.
func (s *Session) Principal() Principal { return s.principal }

// Current is a remembered Principal as they are now: a user whom the region file no longer holds is nobody, and what it says of them now is
// what holds.
func (m *Manager) Current(p Principal) (Principal, bool) {
	if p.Provider != "" {
		_, ok := m.opts.Region.Provider(p.Provider)
		return p, ok
	}
	if p.Service {
		c, ok := m.opts.Region.Client(p.User)
		return Principal{User: c.ID, Name: c.Name, Role: c.Role, Organisation: c.Organisation, System: c.System, Service: true}, ok && c.Kind == region.ServiceClient
	}
	u, ok := m.users[p.User]
	return of(u), ok
}

// SessionFor makes a session for somebody who has proven who they are, that no browser holds yet.
func (m *Manager) SessionFor(p Principal) *Session { return m.session(p) }

func (m *Manager) session(p Principal) *Session {
	role := policy.Role(p.Role)
	info, _ := role.Info()
	s := &Session{User: p.User, Name: p.Name, Role: role, RoleName: info.Name, Organisation: p.Organisation, Person: p.Person, System: p.System, Trace: NewTrace(), principal: p, limits: m.limits, began: time.Now(), Here: cmp.Or(m.opts.Here, m.opts.Region.ID)}
	if o, ok := m.opts.Region.Organisation(p.Organisation); ok {
		s.OrganisationName = o.Name
	}
	if len(info.Purposes) > 0 {
		s.Purpose = info.Purposes[0]
	}
	return s
}

// signedInAt says when the user proved who they are, and with it whether that is too long ago for an emergency.
func (m *Manager) signedInAt(s *Session, at time.Time) {
	s.AuthTime, s.stale = at, m.opts.Now().Sub(at) > FreshFor
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

// Secret makes one that nobody guesses.
func Secret() string { return rand.Text() + rand.Text() }
