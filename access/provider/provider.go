// Package provider signs people in who are known elsewhere: at CIS2, at NHS login, at a trust's own OpenID Connect provider. It asks the
// provider who somebody is, believes only what the provider has signed for this node, and maps its claims, as the region file says, to a
// user, a role and an organisation here. Whoever maps to none does not get in.
package provider

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	oidcclient "github.com/zitadel/oidc/v3/pkg/client"
	"github.com/zitadel/oidc/v3/pkg/oidc"
	"golang.org/x/oauth2"

	"tombolo/access"
	"tombolo/access/token"
	"tombolo/fhir"
	"tombolo/region"
)

// idTokenLifetime is how long an ID token may hold: providers give them minutes or hours.
const idTokenLifetime = 24 * time.Hour

// discoverEvery is how often a provider's own description is read again.
const discoverEvery = time.Hour

// Options of a Set.
type Options struct {
	Region *region.Region
	Secret func(place string) (string, error) // reads a secret from where the region file says that it is
	HTTP   *http.Client
	Now    func() time.Time
}

// A Set is the region's providers.
type Set struct {
	o    Options
	list []*Provider
}

// New makes a Set. Nothing is asked of the providers before somebody signs in.
func New(o Options) *Set {
	if o.HTTP == nil {
		o.HTTP = http.DefaultClient
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	noRedirects := *o.HTTP
	noRedirects.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	noRedirects.Timeout = 10 * time.Second
	o.HTTP = &noRedirects
	s := &Set{o: o}
	for _, p := range o.Region.Identity.Providers {
		s.list = append(s.list, &Provider{Provider: p, o: &s.o})
	}
	return s
}

// List are the providers in the order of the region file.
func (s *Set) List() []*Provider { return s.list }

// Get finds a provider by its id.
func (s *Set) Get(id string) (*Provider, bool) {
	i := slices.IndexFunc(s.list, func(p *Provider) bool { return p.ID == id })
	if i < 0 {
		return nil, false
	}
	return s.list[i], true
}

// Of finds the provider whose statement something says it is.
func (s *Set) Of(raw string) (*Provider, error) {
	issuer, err := token.Issuer(raw)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(s.list, func(p *Provider) bool { return p.Issuer == issuer })
	if i < 0 {
		return nil, errors.New("it is from no provider of this region")
	}
	return s.list[i], nil
}

// A Provider is one of them. It may be used from many goroutines.
type Provider struct {
	region.Provider
	o *Options

	mu   sync.Mutex
	told *oidc.DiscoveryConfiguration
	at   time.Time
	keys *token.Set

	opaque introspected
}

// discovered is what a provider says of itself.
type discovered = oidc.DiscoveryConfiguration

// discover reads what the provider says of itself. OpenID Connect Discovery §4
func (p *Provider) discover(ctx context.Context) (*oidc.DiscoveryConfiguration, *token.Set, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.o.Now()
	if p.told != nil && now.Sub(p.at) < discoverEvery {
		return p.told, p.keys, nil
	}
	told, err := oidcclient.Discover(ctx, p.Issuer, p.o.HTTP) // holds the issuer it names to the one we asked
	if err != nil {
		if p.told != nil {
			return p.told, p.keys, nil // as it was
		}
		return nil, nil, fhir.Errorf(fhir.Transient, "%s cannot be reached to sign in: try again in a minute", p.Name)
	}
	for _, at := range []string{told.AuthorizationEndpoint, told.TokenEndpoint, told.JwksURI} {
		u, err := url.Parse(at)
		if err != nil || u.Host == "" || u.Scheme != "https" && !strings.HasPrefix(p.Issuer, "http://") {
			return nil, nil, fhir.Errorf(fhir.Processing, "%s says of itself what cannot be used: an address that is not https", p.Name)
		}
	}
	p.told, p.at = told, now
	p.keys = &token.Set{Place: told.JwksURI, HTTP: p.o.HTTP, Now: p.o.Now}
	return p.told, p.keys, nil
}

// An Attempt is somebody who has been sent to a provider to sign in. It is remembered here while they are there.
type Attempt struct {
	Provider string `json:"provider"`
	Nonce    string `json:"nonce"`
	Verifier string `json:"verifier"`
	Redirect string `json:"redirect"`
	Next     string `json:"next"`
	Browser  string `json:"browser"` // the secret of the browser that began, so that nobody is signed in as somebody else
}

func (p *Provider) config(told *oidc.DiscoveryConfiguration, redirect string) *oauth2.Config {
	scopes := p.Scopes
	if len(scopes) == 0 {
		scopes = []string{"openid", "profile"}
	}
	return &oauth2.Config{ClientID: p.Client, RedirectURL: redirect, Scopes: scopes,
		Endpoint: oauth2.Endpoint{AuthURL: told.AuthorizationEndpoint, TokenURL: told.TokenEndpoint, AuthStyle: oauth2.AuthStyleInParams}}
}

// Begin is the address to which somebody is sent to sign in; state is what they bring back.
func (p *Provider) Begin(ctx context.Context, a Attempt, state string) (string, error) {
	told, _, err := p.discover(ctx)
	if err != nil {
		return "", err
	}
	opts := []oauth2.AuthCodeOption{oauth2.S256ChallengeOption(a.Verifier), oauth2.SetAuthURLParam("nonce", a.Nonce)}
	for name, value := range p.Parameters {
		opts = append(opts, oauth2.SetAuthURLParam(name, value))
	}
	return p.config(told, a.Redirect).AuthCodeURL(state, opts...), nil
}

// Finish asks the provider who came back with a code.
func (p *Provider) Finish(ctx context.Context, a Attempt, code, iss string) (access.Principal, error) {
	told, _, err := p.discover(ctx)
	if err != nil {
		return access.Principal{}, err
	}
	if iss != "" && iss != p.Issuer { // RFC 9207: an answer of another provider's
		return access.Principal{}, errors.New("the answer is another provider's")
	}
	proof, err := p.credential(told)
	if err != nil {
		return access.Principal{}, err
	}
	var opts []oauth2.AuthCodeOption
	for name, value := range proof {
		opts = append(opts, oauth2.SetAuthURLParam(name, value))
	}
	ctx = context.WithValue(ctx, oauth2.HTTPClient, p.o.HTTP)
	t, err := p.config(told, a.Redirect).Exchange(ctx, code, append(opts, oauth2.VerifierOption(a.Verifier))...)
	if err != nil {
		return access.Principal{}, errors.New("the provider did not take the code")
	}
	raw, _ := t.Extra("id_token").(string)
	claims, err := p.Verify(ctx, raw, p.Client)
	if err != nil {
		return access.Principal{}, err
	}
	if claims.Text("nonce") != a.Nonce {
		return access.Principal{}, errors.New("its ID token is of another sign-in (nonce)")
	}
	if err := p.more(ctx, told, t.AccessToken, claims); err != nil {
		return access.Principal{}, err
	}
	return p.Principal(claims)
}

// credential proves to the provider who we are.
func (p *Provider) credential(told *discovered) (map[string]string, error) {
	switch {
	case p.Key != "":
		secret, err := p.o.Secret(p.Key)
		if err != nil {
			return nil, err
		}
		var key jose.JSONWebKey
		if err := json.Unmarshal([]byte(secret), &key); err != nil || key.IsPublic() || !key.Valid() || key.Algorithm == "" {
			return nil, fhir.Errorf(fhir.Processing, "the key for %s (%s) is not a private JWK with alg and kid", p.ID, p.Key)
		}
		now := p.o.Now()
		assertion, err := token.Sign(key, "JWT", map[string]any{"iss": p.Client, "sub": p.Client, "aud": told.TokenEndpoint, "jti": access.Secret(), "iat": now.Unix(), "exp": now.Add(5 * time.Minute).Unix()})
		if err != nil {
			return nil, err
		}
		return map[string]string{"client_assertion_type": oidc.ClientAssertionTypeJWTAssertion, "client_assertion": assertion}, nil
	case p.Secret != "":
		secret, err := p.o.Secret(p.Secret)
		if err != nil {
			return nil, err
		}
		return map[string]string{"client_secret": secret}, nil
	}
	return nil, nil
}

// Verify believes an ID token of the provider's that is meant for one of the audience. OpenID Connect Core §3.1.3.7
func (p *Provider) Verify(ctx context.Context, raw string, audience ...string) (*token.Claims, error) {
	_, keys, err := p.discover(ctx)
	if err != nil {
		return nil, err
	}
	c, err := token.Verify(ctx, raw, token.Rules{Issuer: p.Issuer, Audience: audience, Keys: keys, Lifetime: idTokenLifetime, Now: p.o.Now()})
	if err != nil {
		return nil, err
	}
	if azp := c.Text("azp"); len(c.Audience) > 1 && !slices.Contains(audience, azp) || azp != "" && !slices.Contains(audience, azp) {
		return nil, errors.New("it was given to somebody else (azp)")
	}
	return c, nil
}

// VerifyLaunch believes a statement of the provider's that launches somebody here, made for one of the audience: signed, with an id, and for minutes. RFC 9068, RFC 7519
func (p *Provider) VerifyLaunch(ctx context.Context, raw string, lifetime time.Duration, audience ...string) (*token.Claims, error) {
	_, keys, err := p.discover(ctx)
	if err != nil {
		return nil, err
	}
	return token.Verify(ctx, raw, token.Rules{Issuer: p.Issuer, Audience: audience, Keys: keys, Types: []string{"", "jwt", "at+jwt"}, Lifetime: lifetime, ID: true, Now: p.o.Now()})
}

// more asks the provider for claims that its ID token does not hold, if any of those that are wanted are not there.
func (p *Provider) more(ctx context.Context, told *oidc.DiscoveryConfiguration, accessToken string, c *token.Claims) error {
	missing := false
	for _, claim := range p.Claims {
		missing = missing || c.Claim(claim) == nil
	}
	if !missing || told.UserinfoEndpoint == "" {
		return nil
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, told.UserinfoEndpoint, nil)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+accessToken)
	resp, err := p.o.HTTP.Do(req)
	if err != nil {
		return fhir.Errorf(fhir.Transient, "%s did not say who signed in: try again in a minute", p.Name)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	var info map[string]any
	if err != nil || resp.StatusCode != http.StatusOK || json.Unmarshal(data, &info) != nil {
		return errors.New("the provider did not say who signed in")
	}
	if sub, _ := info["sub"].(string); sub != c.Subject { // OpenID Connect Core §5.3.2
		return errors.New("the provider spoke of somebody else (sub)")
	}
	for name, value := range info {
		if _, signed := c.All[name]; !signed {
			c.All[name] = value
		}
	}
	return nil
}

// Principal is who the claims say somebody is, in this region's words. An error says what kept them out; it is for the log.
func (p *Provider) Principal(c *token.Claims) (access.Principal, error) {
	text := func(wanted string) string {
		if p.Claims[wanted] == "" {
			return ""
		}
		return c.Text(p.Claims[wanted])
	}
	out := access.Principal{User: text("user"), Name: text("name"), Provider: p.ID, Role: p.Role, Organisation: p.Organisation}
	if p.Claims["user"] == "" {
		out.User = c.Subject
	}
	if out.User == "" || len(out.User) > 100 {
		return out, errors.New("no claim says who they are")
	}
	if out.Name == "" {
		out.Name = out.User
	}
	out.User = p.ID + "/" + out.User
	if len(p.Assurance) > 0 && !slices.Contains(p.Assurance, text("assurance")) {
		return out, errors.New("how they proved who they are is not good enough (assurance)")
	}
	if p.Claims["role"] != "" {
		if out.Role = p.role(c.Claim(p.Claims["role"])); out.Role == "" {
			return out, errors.New("none of their roles is one that gets in here")
		}
	}
	if p.Claims["activities"] != "" {
		var ok bool
		if out.Activities, ok = p.activities(c); !ok {
			return out, errors.New("the claim of their activities cannot be read")
		}
	}
	if p.Claims["organisation"] != "" {
		out.Organisation = text("organisation")
	}
	if _, ok := p.o.Region.Organisation(out.Organisation); !ok && out.Role != "citizen" {
		return out, errors.New("their organisation is not of this region")
	}
	if out.Role == "citizen" {
		n, err := fhir.ParseNHSNumber(text("person"))
		if err != nil {
			return out, errors.New("no claim says whose record is theirs")
		}
		out.Person, out.Organisation = fhir.Identifier{System: fhir.SystemNHSNumber, Value: n.Digits()}, ""
	}
	return out, nil
}

// role is the first of somebody's role codes that is a role here. A national code may stand at the end of its job role: S8000:G8000:R8000.
func (p *Provider) role(claim any) string {
	var codes []string
	switch v := claim.(type) {
	case string:
		codes = append(codes, v)
	case []any:
		for _, x := range v {
			if s, ok := x.(string); ok {
				codes = append(codes, s)
			}
		}
	}
	for _, c := range codes {
		if r := p.Roles[c]; r != "" {
			return r
		}
		if i := strings.LastIndexByte(c, ':'); i >= 0 && p.Roles[c[i+1:]] != "" {
			return p.Roles[c[i+1:]]
		}
	}
	return ""
}

// activities are the national RBAC activities that the claims give, in this region's codes: none, and not nil, if they give none. What a code is not
// said to be here is left out: it allows nothing.
func (p *Provider) activities(c *token.Claims) (out []string, ok bool) {
	theirs, ok := c.Texts(p.Claims["activities"])
	out = []string{}
	for _, code := range theirs {
		if ours, known := p.Activities[code]; known {
			code = ours
		} else if len(p.Activities) > 0 {
			continue
		}
		out = append(out, code)
	}
	return out, ok
}

// Secrets reads secrets from where the region file says that they are: an environment variable, by env, or a file.
func Secrets(env func(string) string) func(place string) (string, error) {
	return func(place string) (string, error) {
		if strings.Contains(place, "/") {
			data, err := os.ReadFile(place)
			if err != nil {
				return "", fmt.Errorf("the secret in %s cannot be read: %w", place, err)
			}
			return strings.TrimSpace(string(data)), nil
		}
		if v := env(place); v != "" {
			return v, nil
		}
		return "", fmt.Errorf("the environment variable %s, which should hold a secret, is empty", place)
	}
}
