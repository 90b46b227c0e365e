package access

import (
	"context"
	"crypto/subtle"
	"crypto/x509"
	"net/http"
	"strings"
	"time"

	"tombolo/access/state"
	"tombolo/access/token"
	"tombolo/fhir"
	"tombolo/policy"
	"tombolo/region"
	"tombolo/search/scope"
)

// A Grant is what an access token stands for: who acts, through which application, and what that application may have.
type Grant struct {
	Principal Principal `json:"principal"`
	Client    string    `json:"client"`
	Scopes    string    `json:"scopes"`
	Patient   string    `json:"patient,omitempty"` // id of the one person of the launch
	Purpose   string    `json:"purpose,omitempty"` // policy.Purpose; the role's first if ""
	SignedIn  time.Time `json:"signedIn,omitzero"`
	Family    string    `json:"family"` // of the tokens that came of one authorisation
	Issued    time.Time `json:"issued"`
	Expires   time.Time `json:"expires"`
}

const unknownToken = "the access token is not known here"

// bearer is the session of an Authorization header. What was wrong is not told apart.
func (m *Manager) bearer(r *http.Request, auth string) (*Session, error) {
	scheme, raw, ok := strings.Cut(auth, " ")
	if !ok || !strings.EqualFold(scheme, "Bearer") { // RFC 9110 §11.1: a scheme's case does not matter
		return nil, fhir.Errorf(fhir.Login, "send the access token as Authorization: Bearer <token>")
	}
	if strings.Count(raw, ".") == 2 { // the one thing with which a neighbour's certificate goes
		return m.asserted(WithAddress(r.Context(), r), raw, certificate(r))
	}
	if cert := certificate(r); cert != nil {
		if nb, ok := m.neighbourOf(cert); ok {
			m.refuse(WithAddress(r.Context(), r), "neighbour "+nb.ID, "its certificate came with a token that it has not signed")
			return nil, fhir.Errorf(fhir.Login, unknownToken)
		}
	}
	g, ok, err := m.Grant(r.Context(), raw)
	switch {
	case err != nil:
		return nil, err
	case ok:
		return m.SessionOf(g)
	}
	device, address := client(r)
	if !unguessable(raw) {
		if err := m.mayTry(address); err != nil {
			return nil, err
		}
	}
	if u, ok := m.byToken(raw); ok {
		return m.session(of(u)), nil
	}
	if !unguessable(raw) {
		if err := m.Refused(r.Context(), device, address, "bearer token", "a token that is not known"); err != nil {
			return nil, err
		}
	}
	return nil, fhir.Errorf(fhir.Login, unknownToken)
}

// Grant looks up what an access token stands for; ok is false for one that is not known, has expired or was revoked.
func (m *Manager) Grant(ctx context.Context, raw string) (g Grant, ok bool, err error) {
	if ok, err = m.state.Get(ctx, state.Access, raw, &g); err != nil {
		return g, false, fhir.Errorf(fhir.Transient, "the access token could not be looked up: %w", err)
	}
	if !ok {
		return g, false, nil
	}
	revoked, err := m.state.Get(ctx, state.Family, g.Family, nil)
	if err != nil {
		return g, false, fhir.Errorf(fhir.Transient, "the access token could not be looked up: %w", err)
	}
	return g, !revoked, nil
}

// SessionOf is the session of a grant, as the region file stands now: an application that it no longer holds, or a user, has none.
func (m *Manager) SessionOf(g Grant) (*Session, error) {
	c, known := m.opts.Region.Client(g.Client)
	who, ok := m.Current(g.Principal)
	if !known || !ok {
		return nil, fhir.Errorf(fhir.Login, unknownToken)
	}
	given, _ := scope.Parse(g.Scopes)
	allowed, _ := scope.Parse(strings.Join(c.Scopes, " "))
	given = given.Within(allowed)
	s := m.session(who)
	s.Client, s.Scopes, s.Locked = g.Client, &given, g.Patient
	if p := policy.Purpose(g.Purpose); p != "" {
		s.Purpose = p
	}
	if !g.SignedIn.IsZero() {
		m.signedInAt(s, g.SignedIn)
	}
	return s, nil
}

// byToken finds the user to whom a small site's bearer token belongs. Every user is compared, so that the time taken tells nothing.
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

// A neighbour whose users may ask us.
type neighbour struct {
	region.Neighbour
	keys *token.Set
}

// AssertionType is the kind of statement by which a node speaks for its user (its typ).
const AssertionType = "iua+jwt"

// AssertionLifetime is how long such a statement holds at most.
const AssertionLifetime = 5 * time.Minute

// asserted is the session of a neighbour's user, of whom its node makes a signed statement with each question: who they are, in which role and
// for what. They are decided about again here, as that user of that region. IHE ITI IUA §3.71.4.2.2.1
func (m *Manager) asserted(ctx context.Context, raw string, cert *x509.Certificate) (*Session, error) {
	refused := fhir.Errorf(fhir.Login, unknownToken)
	issuer, err := token.Issuer(raw)
	n, ok := m.neighbours[issuer]
	if err != nil || !ok {
		return nil, refused
	}
	c, err := token.Verify(ctx, raw, token.Rules{Issuer: issuer, Audience: []string{m.opts.Issuer()}, Keys: n.keys, Types: []string{AssertionType}, Lifetime: AssertionLifetime, ID: true, Now: m.opts.Now()})
	if err != nil {
		m.refuse(ctx, "neighbour "+n.ID, "an assertion was refused: "+err.Error())
		return nil, refused
	}
	if err := m.ownCertificate(n.Neighbour, cert); err != nil { // before it counts as used: whoever has stolen it must not spend it
		m.refuse(ctx, "neighbour "+n.ID, err.Error())
		return nil, refused
	}
	first, err := m.state.Once(ctx, n.ID+" "+c.ID, c.Expires.Add(token.Skew))
	if err != nil {
		return nil, fhir.Errorf(fhir.Transient, "the assertion could not be looked up: %w", err)
	}
	if !first {
		m.refuse(ctx, "neighbour "+n.ID, "an assertion was used again")
		return nil, refused
	}
	role := policy.Role(c.Text("extensions.ihe_iua.subject_role"))
	info, ok := role.Info()
	purpose, knownPurpose := policy.ParsePurpose(c.Text("extensions.ihe_iua.purpose_of_use"))
	if !ok || !info.Opens || role == policy.Citizen || role == policy.Neighbour || !knownPurpose {
		m.refuse(ctx, "neighbour "+n.ID, "an assertion names no role or purpose for which anybody is answered here")
		return nil, refused
	}
	activities, ok := c.Texts("extensions." + extActivities)
	if !ok {
		m.refuse(ctx, "neighbour "+n.ID, "an assertion's activities cannot be read")
		return nil, refused
	}
	name, where := asserted(c.Text("extensions.ihe_iua.subject_name")), asserted(c.Text("extensions.ihe_iua.subject_organization_id"))
	s := m.session(Principal{User: n.ID + "/" + asserted(c.Subject), Name: name + ", by " + n.Name, Role: string(role), Organisation: n.Organisation, Provider: n.ID, Activities: activities})
	s.Neighbour, s.Purpose = n.ID, purpose
	s.RoleName += " (" + where + ")"
	return s, nil
}
