// Package oauth is this node's authorisation server: it lets applications act for a signed-in user, and systems for themselves, within
// scopes. OAuth 2.1, OpenID Connect and SMART App Launch 2 over zitadel/oidc, which reads the requests and writes the answers.
//
// Access and refresh tokens are secrets without meaning, kept in the store under their hash: what a token stands for is looked up with
// each use, so that revoking one holds at once and on every node. Codes and refresh tokens are used once; a second use of either takes away
// everything that came of the same authorisation. The user decides on a page of web's (Pending, Answer).
package oauth

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"

	"tombolo/access"
	"tombolo/access/provider"
	"tombolo/access/token"
	"tombolo/fhir"
	"tombolo/region"
	"tombolo/search/scope"
)

// How long what is given holds.
const (
	requestFor = 10 * time.Minute
	codeFor    = time.Minute // RFC 6749 §4.1.2: at most ten
	accessFor  = 10 * time.Minute
	onlineFor  = access.AbsoluteTimeout
	offlineFor = 30 * 24 * time.Hour
	launchFor  = 5 * time.Minute
	// assertionFor is how long a client's statement about itself may hold. SMART App Launch 2.2 backend-services.html#protocol-details
	assertionFor = 5 * time.Minute
)

// The paths, below the node's own base URL.
const (
	pathToken      = "/oauth/token"
	pathIntrospect = "/oauth/introspect"
	pathRevoke     = "/oauth/revoke"
	pathUserinfo   = "/oauth/userinfo"
	pathKeys       = "/oauth/keys"
	// PathAuthorize is where applications send their users.
	PathAuthorize = "/oauth/authorize"
	// PathConsent is where web asks the user, followed by the request's id.
	PathConsent = "/oauth/consent/"
)

// Options of a Server.
type Options struct {
	Access    *access.Manager
	Providers *provider.Set // whose ID tokens may be exchanged; nil: nobody's
}

// A Server is the authorisation server. It may be used from many goroutines.
type Server struct {
	op.UnimplementedServer
	m         *access.Manager
	providers *provider.Set
	clients   map[string]*client
	handler   http.Handler
}

var _ op.Server = (*Server)(nil)

// New makes a Server.
func New(o Options) *Server {
	s := &Server{m: o.Access, providers: o.Providers, clients: map[string]*client{}}
	for _, c := range o.Access.Region().Identity.Clients {
		allowed, _ := scope.Parse(strings.Join(c.Scopes, " "))
		cl := &client{Client: c, allowed: allowed}
		if c.Keys != "" {
			cl.keys = o.Access.KeysAt(c.Keys)
		}
		s.clients[c.ID] = cl
	}
	s.handler = s.guard(op.RegisterServer(s, op.Endpoints{
		Authorization: op.NewEndpoint(PathAuthorize), Token: op.NewEndpoint(pathToken), Introspection: op.NewEndpoint(pathIntrospect),
		Revocation: op.NewEndpoint(pathRevoke), Userinfo: op.NewEndpoint(pathUserinfo), JwksURI: op.NewEndpoint(pathKeys),
	}, op.WithServerCORSOptions(nil)))
	return s
}

// ServeHTTP answers below /oauth/, and /.well-known/openid-configuration and /.well-known/smart-configuration.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.handler.ServeHTTP(w, r) }

// Origins reports whether scripts of an origin may ask: those of registered applications that run in a browser.
func (s *Server) Origins(origin string) bool {
	for _, c := range s.clients {
		if c.Kind == region.PublicClient && slices.ContainsFunc(c.Redirects, func(r string) bool { return strings.HasPrefix(r, origin+"/") }) {
			return true
		}
	}
	return false
}

// guard refuses what no client has reason to send: secrets in an address, which is logged on its way, and parameters that stand twice, of
// which two readers would take different ones. RFC 6749 §3.1, §3.2
func (s *Server) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Cache-Control", "no-store")
		h.Set("Pragma", "no-cache")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("X-Content-Type-Options", "nosniff")
		if strings.HasSuffix(r.URL.Path, "/.well-known/smart-configuration") {
			s.smartConfiguration(w, r)
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, 64<<10)
		switch r.URL.Path {
		case pathToken, pathIntrospect, pathRevoke:
			if r.Method != http.MethodPost || r.URL.RawQuery != "" {
				op.WriteError(w, r, oidc.ErrInvalidRequest().WithDescription("send the parameters in the body of a POST"), nil)
				return
			}
		case pathUserinfo:
			if r.URL.RawQuery != "" || r.Method == http.MethodPost {
				op.WriteError(w, r, oidc.ErrInvalidRequest().WithDescription("send the access token in the Authorization header of a GET"), nil)
				return
			}
		}
		if err := r.ParseForm(); err != nil {
			op.WriteError(w, r, oidc.ErrInvalidRequest().WithDescription("the parameters are not well-formed"), nil)
			return
		}
		for name, values := range r.Form {
			if len(values) > 1 && name != "resource" && name != "audience" { // RFC 8693 §2.1
				op.WriteError(w, r, oidc.ErrInvalidRequest().WithDescription("%.40q is given more than once", name), nil)
				return
			}
		}
		r = r.WithContext(access.WithAddress(r.Context(), r))
		if r.Method == http.MethodPost && r.URL.Path != pathUserinfo {
			s.counted(w, r, next)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// counted has a client that asks too often, or fails too often, wait.
func (s *Server) counted(w http.ResponseWriter, r *http.Request, next http.Handler) {
	claimed := r.PostForm.Get("client_id")
	if issuer, err := token.Issuer(r.PostForm.Get("client_assertion")); err == nil {
		claimed = issuer
	}
	if _, known := s.clients[claimed]; !known {
		claimed = "" // what nobody is called is nobody's count
	}
	if err := s.m.AsksFor(r, claimed, false); err != nil {
		w.Header().Set("Retry-After", fhir.IssueOf(err).RetryAfter())
		op.WriteError(w, r, op.NewStatusError(&oidc.Error{ErrorType: "temporarily_unavailable", Description: err.Error()}, http.StatusTooManyRequests), nil)
		return
	}
	seen := &status{ResponseWriter: w}
	next.ServeHTTP(seen, r)
	if seen.code >= http.StatusBadRequest && seen.code < http.StatusInternalServerError {
		_ = s.m.AsksFor(r, claimed, true)
	}
}

// status remembers how a request was answered.
type status struct {
	http.ResponseWriter
	code int
}

// WriteHeader is the ResponseWriter's.
func (s *status) WriteHeader(code int) { s.code = code; s.ResponseWriter.WriteHeader(code) }

// A client is a registered client, as the library sees it.
type client struct {
	region.Client
	allowed scope.Set
	keys    *token.Set
}

var _ op.Client = (*client)(nil)

func (c *client) GetID() string                    { return c.ID }
func (c *client) RedirectURIs() []string           { return c.Redirects }
func (c *client) PostLogoutRedirectURIs() []string { return nil }
func (c *client) ApplicationType() op.ApplicationType {
	if c.Kind == region.PublicClient {
		return op.ApplicationTypeNative
	}
	return op.ApplicationTypeWeb
}
func (c *client) AuthMethod() oidc.AuthMethod {
	if c.Kind == region.PublicClient {
		return oidc.AuthMethodNone
	}
	return oidc.AuthMethodPrivateKeyJWT
}
func (c *client) ResponseTypes() []oidc.ResponseType {
	return []oidc.ResponseType{oidc.ResponseTypeCode}
}

// GrantTypes are what a client of its kind may do; the library holds it to them.
func (c *client) GrantTypes() []oidc.GrantType {
	var out []oidc.GrantType
	if c.Kind == region.ServiceClient {
		out = append(out, oidc.GrantTypeClientCredentials)
	} else {
		out = append(out, oidc.GrantTypeCode, oidc.GrantTypeRefreshToken)
	}
	if c.Kind != region.PublicClient {
		out = append(out, oidc.GrantTypeTokenExchange)
	}
	return out
}
func (c *client) LoginURL(id string) string            { return PathConsent + id }
func (c *client) AccessTokenType() op.AccessTokenType  { return op.AccessTokenTypeBearer }
func (c *client) IDTokenLifetime() time.Duration       { return accessFor }
func (c *client) DevMode() bool                        { return true } // which redirects may be plain HTTP is the region file's check
func (c *client) IsScopeAllowed(string) bool           { return true } // Authorize narrows, by what scopes mean
func (c *client) IDTokenUserinfoClaimsAssertion() bool { return false }
func (c *client) ClockSkew() time.Duration             { return 0 }
func (c *client) RestrictAdditionalIdTokenScopes() func([]string) []string {
	return func([]string) []string { return nil }
}
func (c *client) RestrictAdditionalAccessTokenScopes() func([]string) []string {
	return func([]string) []string { return nil }
}

// VerifyClient finds out which client asks. All but public ones prove it by a statement signed with their key, of which each holds for a few
// minutes and is used once. RFC 7523; SMART App Launch 2.2 client-confidential-asymmetric.html
func (s *Server) VerifyClient(ctx context.Context, r *op.Request[op.ClientCredentials]) (op.Client, error) {
	id := r.Data.ClientID
	if r.Data.ClientAssertion != "" {
		var err error
		if id, err = token.Issuer(r.Data.ClientAssertion); err != nil {
			return nil, s.refuse(ctx, r.Header, "", err)
		}
	}
	c, ok := s.clients[id]
	switch {
	case !ok:
		return nil, s.refuse(ctx, r.Header, "", errors.New("there is no such client"))
	case r.Data.ClientSecret != "" || r.Header.Get("Authorization") != "":
		return nil, s.refuse(ctx, r.Header, c.ID, errors.New("clients here have no secrets"))
	case r.Data.ClientID != "" && r.Data.ClientID != id:
		return nil, s.refuse(ctx, r.Header, c.ID, errors.New("the statement is another client's"))
	case c.Kind == region.PublicClient:
		if r.Data.ClientAssertion != "" {
			return nil, s.refuse(ctx, r.Header, c.ID, errors.New("a public client has no key"))
		}
		return c, nil
	}
	if r.Data.ClientAssertion == "" {
		return nil, s.refuse(ctx, r.Header, c.ID, errors.New("it does not prove who it is"))
	}
	claims, err := token.Verify(ctx, r.Data.ClientAssertion, token.Rules{Issuer: c.ID, Audience: []string{s.m.Issuer() + pathToken, s.m.Issuer()}, Keys: c.keys,
		Types: []string{"", "jwt", "client-authentication+jwt"}, Lifetime: assertionFor, ID: true, Now: s.m.Now()})
	if err == nil && claims.Subject != c.ID {
		err = errors.New("it speaks of another client (sub)")
	}
	if err != nil {
		return nil, s.refuse(ctx, r.Header, c.ID, err)
	}
	first, err := s.m.State().Once(ctx, "client "+c.ID+" "+claims.ID, claims.Expires.Add(token.Skew))
	if err != nil {
		return nil, serverError(err)
	}
	if !first {
		return nil, s.refuse(ctx, r.Header, c.ID, errors.New("its statement was used before"))
	}
	return c, nil
}

// refuse remembers why a client was refused, and gives the one answer that it gets.
func (s *Server) refuse(ctx context.Context, h http.Header, id string, why error) error {
	_ = s.m.Refused(ctx, h.Get("User-Agent"), "", "client "+id, why.Error())
	return op.NewStatusError(oidc.ErrInvalidClient().WithDescription("the client is not known here, or has not proven who it is"), http.StatusUnauthorized)
}

func serverError(err error) error {
	return op.NewStatusError(oidc.ErrServerError().WithDescription("a fault of this server: try again").WithParent(err), http.StatusServiceUnavailable)
}
