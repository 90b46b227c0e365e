package oauth

import (
	"context"
	"crypto/subtle"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"

	"tombolo/access"
	"tombolo/access/state"
	"tombolo/access/token"
	"tombolo/policy"
	"tombolo/search/scope"
)

// A response is what a client is given. RFC 6749 §5.1; SMART App Launch 2.2 app-launch.html#obtain-access-token
type response struct {
	AccessToken  string `json:"access_token"`
	TokenType    string `json:"token_type"`
	ExpiresIn    int    `json:"expires_in"`
	Scope        string `json:"scope"`
	RefreshToken string `json:"refresh_token,omitempty"`
	IDToken      string `json:"id_token,omitempty"`
	Issued       string `json:"issued_token_type,omitempty"` // of an exchange. RFC 8693 §2.2.1
	Patient      string `json:"patient,omitempty"`
	Banner       *bool  `json:"need_patient_banner,omitempty"`
}

// A refresh token, as it is remembered.
type refresh struct {
	Grant access.Grant `json:"grant"`
	Ends  time.Time    `json:"ends"`
	Used  bool         `json:"used"`
}

var badGrant = func() *oidc.Error {
	return oidc.ErrInvalidGrant().WithDescription("it is not known here, is another client's, has expired or was used before")
}

// issue makes an access token of a grant, with a refresh token until ends if that is not zero.
func (s *Server) issue(ctx context.Context, g access.Grant, ends time.Time) (*response, error) {
	now := s.m.Now()
	g.Issued, g.Expires = now, now.Add(accessFor)
	out := &response{AccessToken: access.Secret(), TokenType: "Bearer", ExpiresIn: int(accessFor.Seconds()), Scope: g.Scopes, Patient: g.Patient}
	if g.Patient != "" {
		yes := true
		out.Banner = &yes // applications show whose record it is
	}
	if err := s.m.State().Put(ctx, state.Access, out.AccessToken, g, g.Expires); err != nil {
		return nil, serverError(err)
	}
	if ends.After(now) {
		out.RefreshToken = access.Secret()
		// A used one is remembered as long as it could be used again: that is how its theft shows.
		if err := s.m.State().Put(ctx, state.Refresh, out.RefreshToken, refresh{Grant: g, Ends: ends}, ends); err != nil {
			return nil, serverError(err)
		}
	}
	return out, nil
}

// revokeFamily takes away all tokens that came of one authorisation.
func (s *Server) revokeFamily(ctx context.Context, family string) error {
	return s.m.State().Put(ctx, state.Family, family, struct{}{}, s.m.Now().Add(offlineFor+accessFor))
}

// CodeExchange gives tokens for a code, once. OAuth 2.1 §4.1.3
func (s *Server) CodeExchange(ctx context.Context, r *op.ClientRequest[oidc.AccessTokenRequest]) (*op.Response, error) {
	var c code
	again := false
	ok, err := s.m.State().Change(ctx, state.Code, r.Data.Code, &c, func() (time.Time, error) {
		again, c.Used = c.Used, true
		return s.m.Now().Add(offlineFor), nil // to know it again
	})
	if err != nil {
		return nil, serverError(err)
	}
	if !ok {
		return nil, badGrant()
	}
	if again {
		s.stolen(ctx, r.Header, r.Client.GetID(), c.Grant, "a code was used again: all that came of it is revoked")
		return nil, badGrant()
	}
	verified := len(r.Data.CodeVerifier) >= 43 && len(r.Data.CodeVerifier) <= 128 &&
		subtle.ConstantTimeCompare([]byte(oidc.NewSHACodeChallenge(r.Data.CodeVerifier)), []byte(c.Request.Challenge)) == 1
	if c.Request.Client != r.Client.GetID() || c.Request.Redirect != r.Data.RedirectURI || !verified {
		s.stolen(ctx, r.Header, r.Client.GetID(), c.Grant, "a code was brought by another client, or without its verifier")
		return nil, badGrant()
	}
	session, err := s.m.SessionOf(c.Grant)
	if err != nil {
		return nil, badGrant()
	}
	set, _ := scope.Parse(c.Grant.Scopes)
	var ends time.Time
	switch {
	case set.Has("offline_access"):
		ends = s.m.Now().Add(offlineFor)
	case set.Has("online_access"):
		ends = c.Grant.SignedIn.Add(onlineFor)
	}
	out, err := s.issue(ctx, c.Grant, ends)
	if err != nil {
		return nil, err
	}
	if set.Has("openid") {
		if out.IDToken, err = s.idToken(ctx, session, c, set); err != nil {
			return nil, serverError(err)
		}
	}
	session.Device = r.Client.GetID() + " " + r.Header.Get("User-Agent")
	if err := s.m.Entered(ctx, session, "application "+r.Client.GetID()+" with "+out.Scope); err != nil {
		return nil, serverError(err)
	}
	return op.NewResponse(out), nil
}

func (s *Server) stolen(ctx context.Context, h http.Header, client string, g access.Grant, why string) {
	_ = s.revokeFamily(ctx, g.Family)
	_ = s.m.Refused(ctx, h.Get("User-Agent"), "", "client "+client, why)
}

// idToken tells the client who signed in. OpenID Connect Core §2
func (s *Server) idToken(ctx context.Context, session *access.Session, c code, set scope.Set) (string, error) {
	now := s.m.Now()
	claims := map[string]any{"iss": s.m.Issuer(), "sub": session.User, "aud": c.Request.Client, "iat": now.Unix(), "exp": now.Add(accessFor).Unix(), "auth_time": c.Grant.SignedIn.Unix()}
	if c.Request.Nonce != "" {
		claims["nonce"] = c.Request.Nonce
	}
	if set.Has("profile") {
		claims["name"] = session.Name
	}
	if set.Has("fhirUser") {
		claims["fhirUser"] = s.fhirUser(session, c.Grant)
	}
	return s.m.Ring().Sign(ctx, "JWT", claims)
}

// fhirUser is the user as a resource that the client can read.
func (s *Server) fhirUser(session *access.Session, g access.Grant) string {
	if session.Role == policy.Citizen {
		return s.m.Issuer() + "/fhir/Patient/" + g.Patient
	}
	return s.m.Issuer() + "/fhir/" + string(session.Practitioner().Ref())
}

// RefreshToken gives new tokens for a refresh token, once. OAuth 2.1 §4.3.1
func (s *Server) RefreshToken(ctx context.Context, r *op.ClientRequest[oidc.RefreshTokenRequest]) (*op.Response, error) {
	var old refresh
	again, other := false, false
	ok, err := s.m.State().Change(ctx, state.Refresh, r.Data.RefreshToken, &old, func() (time.Time, error) {
		if other = old.Grant.Client != r.Client.GetID(); !other {
			again, old.Used = old.Used, true
		}
		return old.Ends, nil
	})
	switch {
	case err != nil:
		return nil, serverError(err)
	case !ok:
		return nil, badGrant()
	case other || again:
		s.stolen(ctx, r.Header, r.Client.GetID(), old.Grant, "a refresh token was used again, or by another client: all that came of the same authorisation is revoked")
		return nil, badGrant()
	}
	if revoked, err := s.m.State().Get(ctx, state.Family, old.Grant.Family, nil); err != nil || revoked {
		return nil, badGrant()
	}
	if _, err := s.m.SessionOf(old.Grant); err != nil { // the user or the client is no longer in the region file
		return nil, badGrant()
	}
	if len(r.Data.Scopes) > 0 {
		narrower, unknown := scope.Parse(strings.Join(r.Data.Scopes, " "))
		had, _ := scope.Parse(old.Grant.Scopes)
		given := narrower.Within(had)
		if len(unknown) > 0 || given.String() != narrower.String() {
			return nil, oidc.ErrInvalidScope().WithDescription("more is asked for than was given")
		}
		old.Grant.Scopes = given.String()
	}
	out, err := s.issue(ctx, old.Grant, old.Ends)
	if err != nil {
		return nil, err
	}
	return op.NewResponse(out), nil
}

// ClientCredentialsExchange gives a system access for itself. SMART App Launch 2.2 backend-services.html
func (s *Server) ClientCredentialsExchange(ctx context.Context, r *op.ClientRequest[oidc.ClientCredentialsRequest]) (*op.Response, error) {
	c := s.clients[r.Client.GetID()]
	asked, unknown := scope.Parse(strings.Join(r.Data.Scope, " "))
	given := asked.Within(c.allowed)
	given.Words = nil
	given.Data = slices.DeleteFunc(given.Data, func(sc scope.Scope) bool { return sc.Level != scope.System })
	if len(unknown) > 0 || len(given.Data) == 0 {
		return nil, oidc.ErrInvalidScope().WithDescription("ask for system/ scopes that are registered for this client")
	}
	g := access.Grant{Principal: access.Principal{User: c.ID, Service: true}, Client: c.ID, Scopes: given.String(), Family: access.Secret()}
	session, err := s.m.SessionOf(g)
	if err != nil {
		return nil, badGrant()
	}
	session.Device = c.ID + " " + r.Header.Get("User-Agent")
	if err := s.m.Entered(ctx, session, "system with "+g.Scopes); err != nil {
		return nil, serverError(err)
	}
	out, err := s.issue(ctx, g, time.Time{})
	if err != nil {
		return nil, err
	}
	return op.NewResponse(out), nil
}

// TokenExchange gives access for an ID token of a provider that the client may bring (the way of the NHS API platform with CIS2), or for an
// access token of the client's own with narrower scopes. RFC 8693
func (s *Server) TokenExchange(ctx context.Context, r *op.ClientRequest[oidc.TokenExchangeRequest]) (*op.Response, error) {
	c, d := s.clients[r.Client.GetID()], r.Data
	if d.ActorToken != "" || d.RequestedTokenType != "" && d.RequestedTokenType != oidc.AccessTokenType || len(d.Resource) > 0 {
		return nil, oidc.ErrInvalidRequest().WithDescription("an access token is given here, for the subject alone")
	}
	var g access.Grant
	had := c.allowed
	switch d.SubjectTokenType {
	case oidc.AccessTokenType:
		old, ok, err := s.m.Grant(ctx, d.SubjectToken)
		if err != nil {
			return nil, serverError(err)
		}
		if !ok || old.Client != c.ID {
			return nil, badGrant()
		}
		g = old
		had, _ = scope.Parse(old.Scopes)
	case oidc.IDTokenType:
		who, signed, err := s.exchanged(ctx, c, d.SubjectToken)
		if err != nil {
			_ = s.m.Refused(ctx, r.Header.Get("User-Agent"), "", "client "+c.ID, "an ID token was not exchanged: "+err.Error())
			return nil, badGrant()
		}
		g = access.Grant{Principal: who, Client: c.ID, SignedIn: signed, Family: access.Secret()}
	default:
		return nil, oidc.ErrInvalidRequest().WithDescription("subject_token_type is an ID token or an access token")
	}
	asked, unknown := scope.Parse(strings.Join(d.Scopes, " "))
	given := asked.Within(had)
	given.Data = slices.DeleteFunc(given.Data, func(sc scope.Scope) bool {
		return sc.Level == scope.System || sc.Level == scope.Patient && g.Patient == ""
	})
	given.Words = nil
	if len(unknown) > 0 || len(given.Data) == 0 {
		return nil, oidc.ErrInvalidScope().WithDescription("ask for scopes that are registered for this client: user/ ones, unless the token is for one person")
	}
	g.Scopes = given.String()
	session, err := s.m.SessionOf(g)
	if err != nil {
		return nil, badGrant()
	}
	session.Device = c.ID + " " + r.Header.Get("User-Agent")
	if err := s.m.Entered(ctx, session, "token exchange with "+g.Scopes); err != nil {
		return nil, serverError(err)
	}
	out, err := s.issue(ctx, g, time.Time{})
	if err != nil {
		return nil, err
	}
	out.Issued = string(oidc.AccessTokenType)
	return op.NewResponse(out), nil
}

// exchanged is the user of an ID token that a client brings, once.
func (s *Server) exchanged(ctx context.Context, c *client, raw string) (access.Principal, time.Time, error) {
	if s.providers == nil {
		return access.Principal{}, time.Time{}, errors.New("no provider is registered")
	}
	p, err := s.providers.Of(raw)
	if err != nil {
		return access.Principal{}, time.Time{}, err
	}
	if !slices.Contains(c.Exchanges, p.ID) {
		return access.Principal{}, time.Time{}, errors.New("this client may not bring its ID tokens")
	}
	claims, err := p.Verify(ctx, raw, p.Client, c.ID)
	if err != nil {
		return access.Principal{}, time.Time{}, err
	}
	first, err := s.m.State().Once(ctx, "exchange "+raw, claims.Expires.Add(token.Skew))
	if err != nil || !first {
		return access.Principal{}, time.Time{}, errors.New("it was exchanged before")
	}
	who, err := p.Principal(claims)
	return who, claims.Issued, err
}

// Introspect says what a token is worth, to its own client and to those who may ask. RFC 7662; IHE ITI IUA §3.102
func (s *Server) Introspect(ctx context.Context, r *op.Request[op.IntrospectionRequest]) (*op.Response, error) {
	asks, err := s.VerifyClient(ctx, &op.Request[op.ClientCredentials]{Method: r.Method, URL: r.URL, Header: r.Header, Form: r.Form, PostForm: r.PostForm, Data: r.Data.ClientCredentials})
	if err != nil {
		return nil, err
	}
	dead := op.NewResponse(map[string]any{"active": false})
	g, ok, err := s.m.Grant(ctx, r.Data.Token)
	if err != nil {
		return nil, serverError(err)
	}
	c := s.clients[asks.GetID()]
	if !ok || g.Client != c.ID && !c.Introspects {
		return dead, nil
	}
	session, err := s.m.SessionOf(g)
	if err != nil {
		return dead, nil
	}
	out := map[string]any{"active": true, "iss": s.m.Issuer(), "sub": session.User, "username": session.Name, "client_id": g.Client, "scope": g.Scopes, "token_type": "Bearer",
		"iat": g.Issued.Unix(), "exp": g.Expires.Unix(), "aud": s.m.Issuer() + "/fhir", "extensions": map[string]any{"ihe_iua": session.IUA(s.m.Region().ID)}}
	if g.Patient != "" {
		out["patient"] = g.Patient
	}
	if set, _ := scope.Parse(g.Scopes); set.Has("fhirUser") {
		out["fhirUser"] = s.fhirUser(session, g)
	}
	return op.NewResponse(out), nil
}

// Revocation takes back a token of the client's, and all that came of the same authorisation. RFC 7009: the answer is the same whatever the token was.
func (s *Server) Revocation(ctx context.Context, r *op.ClientRequest[oidc.RevocationRequest]) (*op.Response, error) {
	g, ok, err := s.m.Grant(ctx, r.Data.Token)
	if err != nil {
		return nil, serverError(err)
	}
	if !ok {
		var old refresh
		if ok, err = s.m.State().Get(ctx, state.Refresh, r.Data.Token, &old); err != nil {
			return nil, serverError(err)
		}
		g = old.Grant
	}
	if ok && g.Client == r.Client.GetID() {
		if err := s.revokeFamily(ctx, g.Family); err != nil {
			return nil, serverError(err)
		}
	}
	return op.NewResponse(nil), nil
}

// UserInfo tells a client with an access token for openid who its user is. OpenID Connect Core §5.3
func (s *Server) UserInfo(ctx context.Context, r *op.Request[oidc.UserInfoRequest]) (*op.Response, error) {
	g, ok, err := s.m.Grant(ctx, r.Data.AccessToken)
	if err != nil {
		return nil, serverError(err)
	}
	session, serr := s.m.SessionOf(g)
	set, _ := scope.Parse(g.Scopes)
	if !ok || serr != nil || !set.Has("openid") {
		return nil, op.NewStatusError(oidc.ErrAccessDenied().WithDescription("the access token is not known here, or not for this"), http.StatusUnauthorized)
	}
	out := map[string]any{"sub": session.User}
	if set.Has("profile") {
		out["name"] = session.Name
	}
	if set.Has("fhirUser") {
		out["fhirUser"] = s.fhirUser(session, g)
	}
	return op.NewResponse(out), nil
}
