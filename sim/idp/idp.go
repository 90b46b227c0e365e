// Package idp is an identity provider of somebody else's: an OpenID Connect provider that knows a few people, in the shape of CIS2, NHS
// login or a trust's own Keycloak. It is served by zitadel/oidc and shares no code with the node that signs people in at it.
package idp

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"html/template"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"
)

// Somebody whom a provider knows.
type Somebody struct {
	Sub, Name string
	Claims    map[string]any // in the ID token
	Info      map[string]any // given only when asked (userinfo)
}

// Options of a Provider.
type Options struct {
	Issuer       string // its own address
	Client       string // the one client that it knows
	Redirect     string
	ClientKey    *jose.JSONWebKey // the client's public key; nil: Secret
	ClientSecret string
	People       []Somebody
	Now          func() time.Time
	// Twist changes an ID token's claims before it is signed, for faults.
	Twist func(claims map[string]any)
}

// A Provider is an http.Handler.
type Provider struct {
	op.UnimplementedServer
	o   Options
	key jose.JSONWebKey
	mux *http.ServeMux

	mu    sync.Mutex
	codes map[string]sent
	given map[string]Somebody // by access token
	forge func(key jose.JSONWebKey, claims map[string]any) string
}

// Forge has it give what forge makes for an ID token, or what it signs itself where that is "": for faults.
func (p *Provider) Forge(forge func(key jose.JSONWebKey, claims map[string]any) string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.forge = forge
}

type sent struct {
	who              Somebody
	nonce, challenge string
}

// New makes a Provider.
func New(o Options) (*Provider, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, err
	}
	p := &Provider{o: o, key: jose.JSONWebKey{Key: key, KeyID: "idp-1", Algorithm: "RS256", Use: "sig"}, mux: http.NewServeMux(), codes: map[string]sent{}, given: map[string]Somebody{}}
	p.mux.Handle("/", op.RegisterServer(p, op.Endpoints{Authorization: op.NewEndpoint("/authorize"), Token: op.NewEndpoint("/token"), Userinfo: op.NewEndpoint("/userinfo"), JwksURI: op.NewEndpoint("/keys")}, op.WithServerCORSOptions(nil)))
	p.mux.HandleFunc("GET /login", p.login)
	return p, nil
}

func (p *Provider) ServeHTTP(w http.ResponseWriter, r *http.Request) { p.mux.ServeHTTP(w, r) }

// Discovery says where everything is.
func (p *Provider) Discovery(context.Context, *op.Request[struct{}]) (*op.Response, error) {
	at := p.o.Issuer
	return op.NewResponse(&oidc.DiscoveryConfiguration{Issuer: at, AuthorizationEndpoint: at + "/authorize", TokenEndpoint: at + "/token", UserinfoEndpoint: at + "/userinfo", JwksURI: at + "/keys",
		ResponseTypesSupported: []string{"code"}, SubjectTypesSupported: []string{"public"}, IDTokenSigningAlgValuesSupported: []string{"RS256"}}), nil
}

// Keys are its public keys.
func (p *Provider) Keys(context.Context, *op.Request[struct{}]) (*op.Response, error) {
	return op.NewResponse(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{p.key.Public()}}), nil
}

type client struct{ o *Options }

func (c client) GetID() string                       { return c.o.Client }
func (c client) RedirectURIs() []string              { return []string{c.o.Redirect} }
func (c client) PostLogoutRedirectURIs() []string    { return nil }
func (c client) ApplicationType() op.ApplicationType { return op.ApplicationTypeWeb }
func (c client) AuthMethod() oidc.AuthMethod         { return oidc.AuthMethodPrivateKeyJWT }
func (c client) ResponseTypes() []oidc.ResponseType {
	return []oidc.ResponseType{oidc.ResponseTypeCode}
}
func (c client) GrantTypes() []oidc.GrantType         { return []oidc.GrantType{oidc.GrantTypeCode} }
func (c client) LoginURL(string) string               { return "/login" }
func (c client) AccessTokenType() op.AccessTokenType  { return op.AccessTokenTypeBearer }
func (c client) IDTokenLifetime() time.Duration       { return time.Hour }
func (c client) DevMode() bool                        { return true }
func (c client) IsScopeAllowed(string) bool           { return true }
func (c client) IDTokenUserinfoClaimsAssertion() bool { return false }
func (c client) ClockSkew() time.Duration             { return 0 }
func (c client) RestrictAdditionalIdTokenScopes() func([]string) []string {
	return func([]string) []string { return nil }
}
func (c client) RestrictAdditionalAccessTokenScopes() func([]string) []string {
	return func([]string) []string { return nil }
}

// VerifyAuthRequest knows one client and one address.
func (p *Provider) VerifyAuthRequest(_ context.Context, r *op.Request[oidc.AuthRequest]) (*op.ClientRequest[oidc.AuthRequest], error) {
	if r.Data.ClientID != p.o.Client || r.Data.RedirectURI != p.o.Redirect || r.Data.CodeChallengeMethod != oidc.CodeChallengeMethodS256 || r.Data.Nonce == "" {
		return nil, oidc.ErrInvalidRequestRedirectURI().WithDescription("an unknown client, or one without PKCE and nonce")
	}
	return &op.ClientRequest[oidc.AuthRequest]{Request: r, Client: client{&p.o}}, nil
}

// Authorize asks who it is: a page with a name to choose.
func (p *Provider) Authorize(_ context.Context, r *op.ClientRequest[oidc.AuthRequest]) (*op.Redirect, error) {
	return op.NewRedirect("/login?" + url.Values{"state": {r.Data.State}, "nonce": {r.Data.Nonce}, "challenge": {r.Data.CodeChallenge}}.Encode()), nil
}

var page = template.Must(template.New("").Parse(`<!doctype html><html lang="en"><title>Sign in</title><h1>Who are you?</h1>
{{range .People}}<p><a id="{{.Sub}}" href="?{{$.Query}}&amp;as={{.Sub}}">{{.Name}}</a></p>{{end}}</html>`))

func (p *Provider) login(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	i := slices.IndexFunc(p.o.People, func(s Somebody) bool { return s.Sub == q.Get("as") })
	if i < 0 {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_ = page.Execute(w, map[string]any{"People": p.o.People, "Query": template.URL(r.URL.RawQuery)})
		return
	}
	code := rand.Text()
	p.mu.Lock()
	p.codes[code] = sent{who: p.o.People[i], nonce: q.Get("nonce"), challenge: q.Get("challenge")}
	p.mu.Unlock()
	http.Redirect(w, r, p.o.Redirect+"?"+url.Values{"code": {code}, "state": {q.Get("state")}}.Encode(), http.StatusSeeOther)
}

// VerifyClient wants the client's key or secret.
func (p *Provider) VerifyClient(_ context.Context, r *op.Request[op.ClientCredentials]) (op.Client, error) {
	refused := oidc.ErrInvalidClient().WithDescription("not that client")
	if p.o.ClientKey == nil {
		if r.Data.ClientID != p.o.Client || r.Data.ClientSecret != p.o.ClientSecret {
			return nil, refused
		}
		return client{&p.o}, nil
	}
	t, err := jwt.ParseSigned(r.Data.ClientAssertion, []jose.SignatureAlgorithm{jose.RS256})
	var c jwt.Claims
	if err != nil || t.Claims(*p.o.ClientKey, &c) != nil || c.Validate(jwt.Expected{Issuer: p.o.Client, Subject: p.o.Client, AnyAudience: jwt.Audience{p.o.Issuer + "/token"}, Time: p.o.Now()}) != nil {
		return nil, refused
	}
	return client{&p.o}, nil
}

// CodeExchange gives an ID token.
func (p *Provider) CodeExchange(_ context.Context, r *op.ClientRequest[oidc.AccessTokenRequest]) (*op.Response, error) {
	p.mu.Lock()
	s, ok := p.codes[r.Data.Code]
	delete(p.codes, r.Data.Code)
	p.mu.Unlock()
	sum := sha256.Sum256([]byte(r.Data.CodeVerifier))
	if !ok || base64.RawURLEncoding.EncodeToString(sum[:]) != s.challenge || r.Data.RedirectURI != p.o.Redirect {
		return nil, oidc.ErrInvalidGrant()
	}
	raw, err := p.IDToken(s.who, s.nonce)
	if err != nil {
		return nil, err
	}
	access := rand.Text()
	p.mu.Lock()
	p.given[access] = s.who
	p.mu.Unlock()
	return op.NewResponse(map[string]any{"access_token": access, "token_type": "Bearer", "expires_in": 300, "id_token": raw}), nil
}

// IDToken is what it says of somebody to its client.
func (p *Provider) IDToken(who Somebody, nonce string) (string, error) {
	now := p.o.Now()
	claims := map[string]any{"iss": p.o.Issuer, "aud": p.o.Client, "sub": who.Sub, "iat": now.Unix(), "exp": now.Add(time.Hour).Unix()}
	if nonce != "" {
		claims["nonce"] = nonce
	}
	maps.Copy(claims, who.Claims)
	if p.o.Twist != nil {
		p.o.Twist(claims)
	}
	p.mu.Lock()
	forge := p.forge
	p.mu.Unlock()
	if forge != nil {
		if raw := forge(p.key, claims); raw != "" {
			return raw, nil
		}
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: p.key}, (&jose.SignerOptions{}).WithType("JWT"))
	if err != nil {
		return "", err
	}
	return jwt.Signed(signer).Claims(claims).Serialize()
}

// UserInfo tells the rest.
func (p *Provider) UserInfo(_ context.Context, r *op.Request[oidc.UserInfoRequest]) (*op.Response, error) {
	p.mu.Lock()
	who, ok := p.given[r.Data.AccessToken]
	p.mu.Unlock()
	if !ok {
		return nil, op.NewStatusError(oidc.ErrAccessDenied(), http.StatusUnauthorized)
	}
	info := map[string]any{"sub": who.Sub}
	maps.Copy(info, who.Info)
	return op.NewResponse(info), nil
}
