package oauth

import (
	"context"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"

	"tombolo/access"
	"tombolo/access/state"
	"tombolo/fhir"
	"tombolo/policy"
	"tombolo/region"
	"tombolo/search/scope"
)

// A request is an application's, until the user has answered it.
type request struct {
	Client    string `json:"client"`
	Redirect  string `json:"redirect"`
	State     string `json:"state"`
	Nonce     string `json:"nonce"`
	Challenge string `json:"challenge"`
	Scopes    string `json:"scopes"`
	Patient   string `json:"patient,omitempty"` // of the launch
	User      string `json:"user,omitempty"`    // of the launch: nobody else may answer
	MaxAge    int    `json:"maxAge"`            // seconds since signing in; -1: any
}

// A launch is one of an application from here, in the context of a person.
type launch struct {
	Client, Patient, User string
}

// A code is what a user's answer became.
type code struct {
	Request request      `json:"request"`
	Grant   access.Grant `json:"grant"`
	Used    bool         `json:"used"`
}

// VerifyAuthRequest finds the client, and holds where its user is to go back to against what is registered, letter by letter. What is wrong so
// far is told to the user here: nobody is sent to an address that is not known to be the client's. OAuth 2.1 §4.1.2.1
func (s *Server) VerifyAuthRequest(_ context.Context, r *op.Request[oidc.AuthRequest]) (*op.ClientRequest[oidc.AuthRequest], error) {
	c, ok := s.clients[r.Data.ClientID]
	switch {
	case r.Data.RequestParam != "" || r.Form.Has("request_uri"):
		return nil, oidc.ErrRequestNotSupported()
	case !ok || c.Kind == region.ServiceClient:
		return nil, oidc.ErrInvalidRequestRedirectURI().WithDescription("there is no such client")
	case !slices.Contains(c.Redirects, r.Data.RedirectURI):
		return nil, oidc.ErrInvalidRequestRedirectURI().WithDescription("redirect_uri is not one that is registered for this client")
	}
	return &op.ClientRequest[oidc.AuthRequest]{Request: r, Client: c}, nil
}

var s256 = regexp.MustCompile(`^[A-Za-z0-9_-]{43}$`)

// Authorize takes a request, and sends the user to the page that asks them.
func (s *Server) Authorize(ctx context.Context, r *op.ClientRequest[oidc.AuthRequest]) (*op.Redirect, error) {
	q, err := s.read(ctx, r)
	if err != nil {
		return s.back(r.Data.RedirectURI, r.Data.State, url.Values{"error": {string(err.ErrorType)}, "error_description": {err.Description}}), nil
	}
	id := access.Secret()
	if err := s.m.State().Put(ctx, state.Request, id, q, s.m.Now().Add(requestFor)); err != nil {
		return nil, serverError(err)
	}
	return op.NewRedirect(PathConsent + id), nil
}

// back sends the user back to the client. RFC 9207: the answer says whose it is.
func (s *Server) back(to, st string, v url.Values) *op.Redirect {
	u, err := url.Parse(to)
	if err != nil {
		return op.NewRedirect("/")
	}
	for name, values := range u.Query() {
		v[name] = append(v[name], values...)
	}
	if st != "" {
		v.Set("state", st)
	}
	v.Set("iss", s.m.Issuer())
	u.RawQuery = v.Encode()
	return op.NewRedirect(u.String())
}

func (s *Server) read(ctx context.Context, r *op.ClientRequest[oidc.AuthRequest]) (request, *oidc.Error) {
	c, d := s.clients[r.Client.GetID()], r.Data
	q := request{Client: c.ID, Redirect: d.RedirectURI, State: d.State, Nonce: d.Nonce, Challenge: d.CodeChallenge, MaxAge: -1}
	bad := func(why string) (request, *oidc.Error) { return q, oidc.ErrInvalidRequest().WithDescription("%s", why) }
	switch {
	case d.ResponseType != oidc.ResponseTypeCode:
		return bad("response_type is code")
	case d.ResponseMode != "" && d.ResponseMode != oidc.ResponseModeQuery:
		return bad("response_mode is query")
	case d.CodeChallengeMethod != oidc.CodeChallengeMethodS256 || !s256.MatchString(d.CodeChallenge):
		return bad("PKCE is needed: code_challenge with code_challenge_method=S256") // OAuth 2.1 §4.1.1
	case len(d.State) > 1000 || len(d.Nonce) > 1000:
		return bad("state and nonce are at most 1000 characters long")
	case slices.Contains(d.Prompt, "none"):
		return q, oidc.ErrInteractionRequired().WithDescription("the user is always asked")
	}
	asked, _ := scope.Parse(strings.Join(d.Scopes, " "))
	given := asked.Within(c.allowed)
	given.Data = slices.DeleteFunc(given.Data, func(sc scope.Scope) bool { return sc.Level == scope.System }) // of systems by themselves
	if len(given.Words)+len(given.Data) == 0 {
		return q, oidc.ErrInvalidScope().WithDescription("nothing of what is asked for is allowed to this client")
	}
	// SMART App Launch 2.2 app-launch.html#obtain-authorization-code: aud keeps a token from being taken to a server that only looks like the one meant.
	if aud := r.Form.Get("aud"); len(given.Data) > 0 && strings.TrimRight(aud, "/") != s.m.Issuer()+"/fhir" {
		return bad("aud is this server's FHIR base address, " + s.m.Issuer() + "/fhir")
	}
	if slices.Contains(d.Prompt, "login") {
		q.MaxAge = 0
	} else if d.MaxAge != nil {
		q.MaxAge = int(min(*d.MaxAge, 1<<30))
	}
	q.Scopes = given.String()
	if !given.Has("launch") {
		return q, nil
	}
	var l launch
	ok, err := s.m.State().Take(ctx, state.Launch, r.Form.Get("launch"), &l)
	if err != nil {
		return q, oidc.ErrServerError().WithDescription("try again")
	}
	if !ok || l.Client != c.ID {
		_ = s.m.Refused(ctx, r.Header.Get("User-Agent"), "", "client "+c.ID, "a launch that is not known, has expired or was used before")
		return bad("launch is not one that was started from here, or it has expired or was used before")
	}
	q.Patient, q.User = l.Patient, l.User
	return q, nil
}

// StartLaunch starts a registered application in the context of a person whose record the session has open: the address to send the user to.
// SMART App Launch 2.2 app-launch.html#launch-app-ehr-launch
func (s *Server) StartLaunch(ctx context.Context, session *access.Session, clientID, person string) (string, error) {
	c, ok := s.clients[clientID]
	if !ok || c.Launch == "" {
		return "", fhir.Errorf(fhir.NotFound, "there is no such application to start")
	}
	secret := access.Secret()
	if err := s.m.State().Put(ctx, state.Launch, secret, launch{c.ID, person, session.User}, s.m.Now().Add(launchFor)); err != nil {
		return "", err
	}
	u, err := url.Parse(c.Launch)
	if err != nil {
		return "", err
	}
	v := u.Query()
	v.Set("iss", s.m.Issuer()+"/fhir")
	v.Set("launch", secret)
	u.RawQuery = v.Encode()
	return u.String(), nil
}

// Launchable are the applications that can be started in the context of a person, by id.
func (s *Server) Launchable() []region.Client {
	return slices.DeleteFunc(slices.Clone(s.m.Region().Identity.Clients), func(c region.Client) bool { return c.Launch == "" })
}

// A Pending request is what the user is asked.
type Pending struct {
	ID, Client  string // Client: its name
	Scopes      scope.Set
	Patient     string // id of the person of the launch, "" if none is meant yet
	WantPatient bool   // the user must say whose record, for it is asked for one person's
	Origin      string // of where the answer goes
	Redirect    string
}

// unknownRequest is the answer to whoever asks about a request that is not theirs or is over.
func unknownRequest() error {
	return fhir.Errorf(fhir.NotFound, "this request is over: begin again in the application")
}

// Pending gives a request to the user who is to answer it. An error of type Login wants them to sign in again first.
func (s *Server) Pending(ctx context.Context, session *access.Session, id string) (Pending, error) {
	q, err := s.request(ctx, session, id)
	if err != nil {
		return Pending{}, err
	}
	c := s.clients[q.Client]
	set, _ := scope.Parse(q.Scopes)
	p := Pending{ID: id, Client: c.Name, Scopes: set, Patient: q.Patient, Redirect: q.Redirect}
	if session.Locked != "" && p.Patient == "" {
		p.Patient = session.Locked
	}
	p.WantPatient = p.Patient == "" && (set.At(scope.Patient) || set.Has("launch/patient")) && session.Role != policy.Citizen
	if u, err := url.Parse(q.Redirect); err == nil && u.Host != "" {
		p.Origin = u.Scheme + "://" + u.Host
	}
	return p, nil
}

func (s *Server) request(ctx context.Context, session *access.Session, id string) (q request, err error) {
	ok, err := s.m.State().Get(ctx, state.Request, id, &q)
	if err != nil {
		return q, err
	}
	if _, known := s.clients[q.Client]; !ok || !known {
		return q, unknownRequest()
	}
	if session.Client != "" || session.Neighbour != "" {
		return q, fhir.Errorf(fhir.Forbidden, "only somebody signed in at this node lets an application in")
	}
	if q.User != "" && q.User != session.User || session.Locked != "" && q.Patient != "" && q.Patient != session.Locked {
		_ = s.m.Refused(ctx, session.Device, session.Address, session.User, "an application's launch by another user or for another person")
		return q, unknownRequest()
	}
	if q.MaxAge >= 0 && s.m.Now().Sub(session.AuthTime) > max(time.Duration(q.MaxAge)*time.Second, 30*time.Second) {
		return q, fhir.Errorf(fhir.Login, "the application wants you to sign in again")
	}
	return q, nil
}

// Answer is the user's: the address to send them back to. person is whose record it is about, if a person's is asked for: the caller has decided
// that the session may open it.
func (s *Server) Answer(ctx context.Context, session *access.Session, id, person string, allow bool) (string, error) {
	p, err := s.Pending(ctx, session, id)
	if err != nil {
		return "", err
	}
	if p.Patient != "" {
		person = p.Patient
	}
	if allow && person == "" && p.Scopes.At(scope.Patient) {
		return "", fhir.Errorf(fhir.Required, "say whose record the application may have")
	}
	var q request
	if ok, err := s.m.State().Take(ctx, state.Request, id, &q); err != nil || !ok {
		return "", unknownRequest()
	}
	if !allow {
		return s.back(q.Redirect, q.State, url.Values{"error": {"access_denied"}}).URL, nil
	}
	set, _ := scope.Parse(q.Scopes)
	g := access.Grant{Principal: session.Principal(), Client: q.Client, Scopes: set.String(), Purpose: string(session.Purpose), SignedIn: session.AuthTime, Family: access.Secret()}
	if set.At(scope.Patient) || set.Has("launch") || set.Has("launch/patient") {
		g.Patient = person
	}
	if err := s.lasting(ctx, session, q, g); err != nil {
		return "", err
	}
	secret := access.Secret()
	if err := s.m.State().Put(ctx, state.Code, secret, code{Request: q, Grant: g}, s.m.Now().Add(codeFor)); err != nil {
		return "", err
	}
	return s.back(q.Redirect, q.State, url.Values{"code": {secret}}).URL, nil
}
