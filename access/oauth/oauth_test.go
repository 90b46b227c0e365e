package oauth_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/zitadel/oidc/v3/pkg/client/rp"
	"github.com/zitadel/oidc/v3/pkg/oidc"

	"tombolo/access"
	"tombolo/access/oauth"
	"tombolo/access/token/tokentest"
	"tombolo/audit"
	"tombolo/fhir"
	"tombolo/region"
	"tombolo/search/scope"
)

// A site is a node's authorisation server, with one of each kind of client.
type site struct {
	t       testing.TB
	m       *access.Manager
	oauth   *oauth.Server
	url     string
	service jose.JSONWebKey
	app     jose.JSONWebKey
	posts   bool // authorisation is asked for by POST

	mu    sync.Mutex
	now   time.Time
	audit []audit.Event
}

const appBack, publicBack = "https://app.example/back", "https://browser.example/back"

func (s *site) clock() time.Time { s.mu.Lock(); defer s.mu.Unlock(); return s.now }

func (s *site) wait(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now = s.now.Add(d)
}

func (s *site) Append(_ context.Context, e audit.Event) (audit.Entry, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.audit = append(s.audit, e)
	return audit.Entry{}, nil
}

func (s *site) audited(kind audit.Kind, what string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.audit {
		if e.Kind == kind && strings.Contains(strings.Join(e.What, "; "), what) {
			return true
		}
	}
	return false
}

func start(t testing.TB, o oauth.Options) *site {
	t.Helper()
	s := &site{t: t, now: time.Now().Truncate(time.Second), service: tokentest.NewKey(t, "service-1"), app: tokentest.NewKey(t, "app-1")}
	dir := t.TempDir()
	for name, key := range map[string]jose.JSONWebKey{"service": s.service, "app": s.app} {
		if err := os.WriteFile(filepath.Join(dir, name+".json"), fhir.JSON(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{key.Public()}}), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r := &region.Region{ID: "severn", Organisations: []region.Organisation{{ODS: "RX1", Name: "The Trust"}},
		Users: []region.User{{ID: "doctor", Name: "Dr Ade", Role: "hospital-doctor", Organisation: "RX1"}, {ID: "nurse", Name: "Mary", Role: "nurse", Organisation: "RX1"}},
		Identity: region.Identity{Clients: []region.Client{
			{ID: "browser-app", Name: "A browser app", Kind: region.PublicClient, Redirects: []string{publicBack}, Launch: "https://browser.example/launch",
				Scopes: []string{"openid", "profile", "fhirUser", "launch", "launch/patient", "offline_access", "online_access", "patient/*.rs", "user/Observation.rs"}},
			{ID: "server-app", Name: "A server app", Kind: region.ConfidentialClient, Redirects: []string{appBack}, Keys: filepath.Join(dir, "app.json"), Scopes: []string{"openid", "user/*.rs"}, Introspects: true},
			{ID: "service", Name: "A system", Kind: region.ServiceClient, Keys: filepath.Join(dir, "service.json"), Role: "hospital-doctor", Organisation: "RX1", Scopes: []string{"system/Observation.rs", "user/*.rs"}},
			{ID: "keeper", Name: "A ward app", Kind: region.ServiceClient, Keys: filepath.Join(dir, "service.json"), Role: "system", Organisation: "RX1", System: "rx1-app", Scopes: []string{"system/Observation.cruds"}},
		}}}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) { s.oauth.ServeHTTP(w, q) }))
	t.Cleanup(srv.Close)
	s.url = srv.URL
	var err error
	if s.m, err = access.New(access.Options{Region: r, Issuer: func() string { return s.url }, Now: s.clock, Audit: s}); err != nil {
		t.Fatal(err)
	}
	o.Access = s.m
	s.oauth = oauth.New(o)
	return s
}

type answer struct {
	status int
	header http.Header
	body   map[string]any
}

func (a answer) text(name string) string { s, _ := a.body[name].(string); return s }

func (s *site) post(path string, v url.Values) answer {
	s.t.Helper()
	resp, err := http.PostForm(s.url+path, v)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	a := answer{status: resp.StatusCode, header: resp.Header}
	data, _ := io.ReadAll(resp.Body)
	_ = json.Unmarshal(data, &a.body)
	return a
}

// assertion is a client's statement about itself.
func (s *site) assertion(client string, key jose.JSONWebKey) tokentest.Genuine {
	now := s.clock()
	return tokentest.Genuine{Key: key, Type: "JWT", Now: now, Claims: map[string]any{"iss": client, "sub": client, "aud": s.url + "/oauth/token", "jti": access.Secret(),
		"iat": now.Unix(), "exp": now.Add(4 * time.Minute).Unix()}}
}

func proof(raw string, more url.Values) url.Values {
	v := url.Values{"client_assertion_type": {oidc.ClientAssertionTypeJWTAssertion}, "client_assertion": {raw}}
	for k, x := range more {
		v[k] = x
	}
	return v
}

// proven are the parameters with which a confidential client proves who it is.
func (s *site) proven(client string, more url.Values) url.Values {
	key := s.app
	if client == "service" || client == "keeper" {
		key = s.service
	}
	return proof(s.assertion(client, key).Sign(s.t), more)
}

const verifier = "0123456789012345678901234567890123456789012345"

func (s *site) authorize(v url.Values) *url.URL {
	s.t.Helper()
	all := url.Values{"response_type": {"code"}, "client_id": {"browser-app"}, "redirect_uri": {publicBack}, "scope": {"openid fhirUser launch/patient patient/*.rs offline_access"}, "state": {"xyz"}, "nonce": {"n-1"},
		"aud": {s.url + "/fhir"}, "code_challenge": {oidc.NewSHACodeChallenge(verifier)}, "code_challenge_method": {"S256"}}
	for k, x := range v {
		all[k] = x
		if x == nil {
			delete(all, k)
		}
	}
	client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	ask := func() (*http.Response, error) { return client.Get(s.url + "/oauth/authorize?" + all.Encode()) }
	if s.posts {
		ask = func() (*http.Response, error) { return client.PostForm(s.url+"/oauth/authorize", all) }
	}
	resp, err := ask()
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	to, err := resp.Location()
	if err != nil {
		return nil
	}
	return to
}

func (s *site) user(id string) *access.Session {
	s.t.Helper()
	u, err := s.m.As(id)
	if err != nil {
		s.t.Fatal(err)
	}
	u.AuthTime = s.clock()
	return u
}

// code has the doctor let an application in.
func (s *site) code(v url.Values) string {
	s.t.Helper()
	to := s.authorize(v)
	if to == nil || !strings.HasPrefix(to.Path, oauth.PathConsent) {
		s.t.Fatalf("sent to %v", to)
	}
	back, err := s.oauth.Answer(s.t.Context(), s.user("doctor"), strings.TrimPrefix(to.Path, oauth.PathConsent), "person-1", true)
	if err != nil {
		s.t.Fatal(err)
	}
	u, _ := url.Parse(back)
	if u.Query().Get("state") != "xyz" || u.Query().Get("iss") != s.url || u.Query().Get("code") == "" {
		s.t.Fatalf("sent back to %s", back)
	}
	return u.Query().Get("code")
}

func exchange(code string) url.Values {
	return url.Values{"grant_type": {"authorization_code"}, "client_id": {"browser-app"}, "code": {code}, "redirect_uri": {publicBack}, "code_verifier": {verifier}}
}

func (s *site) session(token string) (*access.Session, error) {
	r := httptest.NewRequest("GET", "/fhir/Patient", nil)
	r.Header.Set("Authorization", "Bearer "+token)
	return s.m.Session(r)
}

func TestAnApplicationActsForItsUserWithinItsScopes(t *testing.T) {
	s := start(t, oauth.Options{})
	a := s.post("/oauth/token", exchange(s.code(nil)))
	if a.status != 200 || a.text("token_type") != "Bearer" || a.text("patient") != "person-1" || a.header.Get("Cache-Control") != "no-store" || a.body["need_patient_banner"] != true {
		t.Fatalf("%d %v", a.status, a.body)
	}
	session, err := s.session(a.text("access_token"))
	if err != nil || session.User != "doctor" || session.Organisation != "RX1" || session.Client != "browser-app" || !session.Opens("person-1") || session.Opens("person-2") {
		t.Fatalf("%+v %v", session, err)
	}
	if !session.Shows(fhir.New("Condition", "c", fhir.M{})) {
		t.Error("what was given is not shown")
	}
	if !s.audited(audit.SignIn, "application browser-app") {
		t.Error("nobody remembers that an application was let in")
	}
	s.wait(11 * time.Minute)
	if _, err := s.session(a.text("access_token")); !fhir.Is(err, fhir.Login) {
		t.Error("an access token outlives its ten minutes")
	}
}

// An independent client finds everything by itself, and believes the ID token.
func TestAnOpenIDConnectClientSignsItsUserIn(t *testing.T) {
	s := start(t, oauth.Options{})
	party, err := rp.NewRelyingPartyOIDC(t.Context(), s.url, "browser-app", "", publicBack, []string{"openid", "profile", "fhirUser"})
	if err != nil {
		t.Fatal(err)
	}
	u, _ := url.Parse(rp.AuthURL("xyz", party, rp.WithCodeChallenge(oidc.NewSHACodeChallenge(verifier))))
	code := s.code(url.Values{"scope": {u.Query().Get("scope")}, "nonce": {""}})
	tokens, err := rp.CodeExchange[*oidc.IDTokenClaims](t.Context(), code, party, rp.WithCodeVerifier(verifier))
	if err != nil || tokens.IDTokenClaims.Subject != "doctor" || tokens.IDTokenClaims.Name != "Dr Ade" {
		t.Fatalf("%v %v", tokens, err)
	}
	user, _ := tokens.IDTokenClaims.Claims["fhirUser"].(string)
	if !strings.HasPrefix(user, s.url+"/fhir/Practitioner/user-") {
		t.Errorf("fhirUser %q", user)
	}
	info, err := rp.Userinfo[*oidc.UserInfo](t.Context(), tokens.AccessToken, "Bearer", "doctor", party)
	if err != nil || info.Name != "Dr Ade" {
		t.Errorf("%v %v", info, err)
	}
}

func TestWhatAClientMayNotAskIsRefused(t *testing.T) {
	s := start(t, oauth.Options{})
	for name, v := range map[string]url.Values{
		"no PKCE": {"code_challenge": nil, "code_challenge_method": nil}, "PKCE plain": {"code_challenge_method": {"plain"}, "code_challenge": {verifier}}, "a short challenge": {"code_challenge": {"abc"}},
		"a token at once": {"response_type": {"token"}}, "another server's aud": {"aud": {"https://attacker.example/fhir"}}, "no aud": {"aud": nil}, "nothing allowed": {"scope": {"system/*.rs user/Condition.cud"}},
		"no scope": {"scope": nil}, "silently": {"prompt": {"none"}}, "a form": {"response_mode": {"form_post"}}, "a launch nobody started": {"scope": {"launch patient/*.rs"}, "launch": {"made-up"}},
		"another's address": {"redirect_uri": {"https://attacker.example/back"}}, "an address that begins alike": {"redirect_uri": {publicBack + ".attacker.example"}},
		"an address with more": {"redirect_uri": {publicBack + "?x=1"}}, "an address written otherwise": {"redirect_uri": {strings.Replace(publicBack, "back", "b%61ck", 1)}}, "an address above": {"redirect_uri": {publicBack + "/../other"}},
		"nobody's client": {"client_id": {"nobody"}}, "a service": {"client_id": {"service"}}, "a request object": {"request": {"ey.ey.x"}},
	} {
		to := s.authorize(v)
		if to == nil {
			continue // told to the user here
		}
		if strings.HasPrefix(to.Path, oauth.PathConsent) {
			t.Errorf("%s: the user is asked", name)
		}
		if !strings.HasPrefix(to.String(), publicBack+"?") || to.Query().Get("error") == "" || to.Query().Get("state") != "xyz" {
			t.Errorf("%s: sent to %s", name, to)
		}
	}
	if to := s.authorize(url.Values{"scope": {"openid patient/*.cruds user/Observation.rs system/*.rs email"}}); to != nil {
		p, err := s.oauth.Pending(t.Context(), s.user("doctor"), strings.TrimPrefix(to.Path, oauth.PathConsent))
		if err != nil || p.Scopes.String() != "openid patient/*.rs user/Observation.rs" || !p.WantPatient {
			t.Errorf("asked for %q, %v", p.Scopes, err)
		}
	}
}

func TestACodeIsUsedOnceByWhoeverAskedForIt(t *testing.T) {
	s := start(t, oauth.Options{})
	for name, change := range map[string]url.Values{"no verifier": {"code_verifier": nil}, "a wrong verifier": {"code_verifier": {verifier + "0"}}, "a short verifier": {"code_verifier": {"x"}},
		"another address": {"redirect_uri": {appBack}}, "no address": {"redirect_uri": nil}} {
		v := exchange(s.code(nil))
		for k, x := range change {
			v[k] = x
		}
		if a := s.post("/oauth/token", v); a.status != 400 || a.text("access_token") != "" {
			t.Errorf("%s: %d %v", name, a.status, a.body)
		}
		if a := s.post("/oauth/token", exchange(v.Get("code"))); name != "no address" && a.status != 400 {
			t.Errorf("%s: the code can still be used", name)
		}
	}
	other := s.proven("server-app", exchange(s.code(nil)))
	other.Del("client_id")
	if a := s.post("/oauth/token", other); a.text("access_token") != "" {
		t.Error("another client used a code")
	}
	late := s.code(nil)
	s.wait(61 * time.Second)
	if a := s.post("/oauth/token", exchange(late)); a.status != 400 {
		t.Error("a code outlives its minute")
	}

	code := s.code(nil)
	first := s.post("/oauth/token", exchange(code))
	if _, err := s.session(first.text("access_token")); err != nil {
		t.Fatal(err)
	}
	if a := s.post("/oauth/token", exchange(code)); a.status != 400 {
		t.Error("a code was used twice")
	}
	if _, err := s.session(first.text("access_token")); !fhir.Is(err, fhir.Login) {
		t.Error("a stolen code leaves its tokens alive")
	}
	if !s.audited(audit.Denied, "a code was used again") {
		t.Error("nobody remembers a stolen code")
	}
}

// A thousand in the long form.
func TestOfManyWhoBringTheSameCodeOneGetsIn(t *testing.T) {
	each := 5
	if os.Getenv("TOMBOLO_SOAK") != "" {
		each = 50
	}
	s := start(t, oauth.Options{})
	code := s.code(nil)
	var mu sync.Mutex
	var wg sync.WaitGroup
	in := 0
	for range 20 {
		wg.Go(func() {
			for range each {
				if a := s.post("/oauth/token", exchange(code)); a.status == 200 {
					mu.Lock()
					in++
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	if in != 1 {
		t.Errorf("%d got in", in)
	}
}

func TestRefreshTokensTurnOverAndStolenOnesShow(t *testing.T) {
	s := start(t, oauth.Options{})
	first := s.post("/oauth/token", exchange(s.code(nil)))
	again := func(token, scope string) answer {
		v := url.Values{"grant_type": {"refresh_token"}, "client_id": {"browser-app"}, "refresh_token": {token}}
		if scope != "" {
			v.Set("scope", scope)
		}
		return s.post("/oauth/token", v)
	}
	s.wait(time.Hour)
	second := again(first.text("refresh_token"), "patient/Observation.rs")
	if second.status != 200 || second.text("scope") != "patient/Observation.rs" || second.text("patient") != "person-1" {
		t.Fatalf("%d %v", second.status, second.body)
	}
	if a := again(second.text("refresh_token"), "patient/*.rs"); a.status != 400 {
		t.Errorf("more was given than before: %v", a.body)
	}
	third := s.post("/oauth/token", exchange(s.code(nil)))
	fourth := again(third.text("refresh_token"), "")
	if a := again(third.text("refresh_token"), ""); a.status != 400 {
		t.Error("a refresh token was used twice")
	}
	if _, err := s.session(fourth.text("access_token")); !fhir.Is(err, fhir.Login) {
		t.Error("a stolen refresh token leaves the others alive")
	}
	if a := again(fourth.text("refresh_token"), ""); a.status != 400 {
		t.Error("a stolen refresh token leaves its successor alive")
	}
	if a := s.post("/oauth/token", exchange(s.code(url.Values{"scope": {"openid patient/*.rs"}}))); a.text("refresh_token") != "" {
		t.Error("a refresh token that nobody asked for")
	}
	fifth := s.post("/oauth/token", exchange(s.code(nil)))
	s.wait(31 * 24 * time.Hour)
	if a := again(fifth.text("refresh_token"), ""); a.status != 400 {
		t.Error("a refresh token for ever")
	}
}

func TestASystemActsForItself(t *testing.T) {
	s := start(t, oauth.Options{})
	v := url.Values{"grant_type": {"client_credentials"}, "scope": {"system/Observation.rs?category=laboratory"}}
	a := s.post("/oauth/token", s.proven("service", v))
	if a.status != 200 || a.text("refresh_token") != "" {
		t.Fatalf("%d %v", a.status, a.body)
	}
	session, err := s.session(a.text("access_token"))
	if err != nil || session.User != "service" || session.MayBreakGlass() || session.Shows(fhir.New("Condition", "c", fhir.M{})) {
		t.Errorf("%+v %v", session, err)
	}
	v.Set("scope", "system/Observation.cu?category=laboratory")
	if a = s.post("/oauth/token", s.proven("keeper", v)); a.status != 200 {
		t.Fatalf("%d %v", a.status, a.body)
	}
	if session, err = s.session(a.text("access_token")); err != nil || session.System != "rx1-app" || session.Scopes == nil || session.Scopes.String() != "system/Observation.cu?category=laboratory" {
		t.Errorf("of a service that acts for a system that keeps its record here: %+v %v", session, err)
	}
	for _, scopes := range []string{"", "user/*.rs", "system/Patient.rs", "system/Observation.cud", "openid"} {
		v.Set("scope", scopes)
		if a := s.post("/oauth/token", s.proven("service", v)); a.status != 400 {
			t.Errorf("%q: %d %v", scopes, a.status, a.body)
		}
	}
	v.Set("scope", "system/Observation.rs")
	for name, v := range map[string]url.Values{"nothing": {"client_id": {"service"}}, "a secret": {"client_id": {"service"}, "client_secret": {"x"}}, "another's name": s.proven("service", url.Values{"client_id": {"server-app"}}),
		"another's key": proof(s.assertion("service", s.app).Sign(t), nil), "a wrong type": {"client_assertion_type": {"urn:x"}, "client_assertion": {s.assertion("service", s.service).Sign(t)}}} {
		v.Set("grant_type", "client_credentials")
		v.Set("scope", "system/Observation.rs")
		if a := s.post("/oauth/token", v); a.status != 401 && a.status != 400 {
			t.Errorf("%s: %d %v", name, a.status, a.body)
		}
	}
}

func TestAClientsStatementIsUsedOnce(t *testing.T) {
	s := start(t, oauth.Options{})
	raw := s.assertion("service", s.service).Sign(t)
	v := proof(raw, url.Values{"grant_type": {"client_credentials"}, "scope": {"system/Observation.rs"}})
	if a := s.post("/oauth/token", v); a.status != 200 {
		t.Fatalf("%d %v", a.status, a.body)
	}
	for range 3 {
		if a := s.post("/oauth/token", v); a.status != 401 {
			t.Fatalf("used again: %d", a.status)
		}
	}
	if !s.audited(audit.Denied, "used before") {
		t.Error("nobody remembers the replay")
	}
}

// The table of A23, at this door.
func TestForgedClientStatementsAreRefused(t *testing.T) {
	s := start(t, oauth.Options{})
	g := s.assertion("service", s.service)
	shapes := tokentest.Forged(g)
	want := ""
	for _, shape := range shapes {
		a := s.post("/oauth/token", proof(shape.Raw, url.Values{"grant_type": {"client_credentials"}, "scope": {"system/Observation.rs"}}))
		if a.status != 401 && a.status != 400 || a.text("access_token") != "" {
			t.Errorf("%s: %d %v", shape.Name, a.status, a.body)
		}
		if a.status == 401 {
			if want == "" {
				want = a.text("error_description")
			}
			if a.text("error_description") != want {
				t.Errorf("%s is told apart: %v", shape.Name, a.body)
			}
		}
	}
	if a := s.post("/oauth/token", proof(g.Sign(t), url.Values{"grant_type": {"client_credentials"}, "scope": {"system/Observation.rs"}})); a.status != 200 {
		t.Errorf("the genuine one: %d %v", a.status, a.body)
	}
	t.Logf("%d shapes refused", len(shapes))
}

func TestTokensAreLookedUpAndTakenBack(t *testing.T) {
	s := start(t, oauth.Options{})
	given := s.post("/oauth/token", exchange(s.code(nil)))
	ask := func(client, token string) answer {
		return s.post("/oauth/introspect", s.proven(client, url.Values{"token": {token}}))
	}
	a := ask("server-app", given.text("access_token"))
	if a.body["active"] != true || a.text("sub") != "doctor" || a.text("client_id") != "browser-app" || a.text("patient") != "person-1" {
		t.Fatalf("%v", a.body)
	}
	iua, _ := a.body["extensions"].(map[string]any)["ihe_iua"].(map[string]any)
	if iua["subject_role"] != "hospital-doctor" || iua["home_community_id"] != "severn" || iua["purpose_of_use"] != "TREAT" {
		t.Errorf("%v", iua)
	}
	if a := ask("service", given.text("access_token")); a.body["active"] != false || len(a.body) != 1 {
		t.Errorf("a client learns of another's token: %v", a.body)
	}
	for _, none := range []string{"made-up", given.text("refresh_token")} {
		if a := ask("server-app", none); a.body["active"] != false || len(a.body) != 1 {
			t.Errorf("%v", a.body)
		}
	}
	if a := s.post("/oauth/introspect", url.Values{"client_id": {"browser-app"}, "token": {given.text("access_token")}}); a.body["active"] == true {
		t.Error("whoever asks is told")
	}
	// Another client's attempt does nothing, and is answered alike.
	if a := s.post("/oauth/revoke", s.proven("server-app", url.Values{"token": {given.text("access_token")}})); a.status != 200 {
		t.Errorf("%d %v", a.status, a.body)
	}
	if _, err := s.session(given.text("access_token")); err != nil {
		t.Error("a client takes back another's token")
	}
	if a := s.post("/oauth/revoke", url.Values{"client_id": {"browser-app"}, "token": {given.text("refresh_token")}}); a.status != 200 {
		t.Errorf("%d %v", a.status, a.body)
	}
	if _, err := s.session(given.text("access_token")); !fhir.Is(err, fhir.Login) {
		t.Error("a token lives on after it was taken back")
	}
	if a := ask("server-app", given.text("access_token")); a.body["active"] != false {
		t.Error("a token that was taken back is called good")
	}
}

func TestAnApplicationIsStartedInContextOnceByOneUser(t *testing.T) {
	s := start(t, oauth.Options{})
	begin := func() url.Values {
		to, err := s.oauth.StartLaunch(t.Context(), s.user("doctor"), "browser-app", "person-7")
		if err != nil {
			t.Fatal(err)
		}
		u, _ := url.Parse(to)
		if !strings.HasPrefix(to, "https://browser.example/launch?") || u.Query().Get("iss") != s.url+"/fhir" {
			t.Fatalf("sent to %s", to)
		}
		return url.Values{"scope": {"launch patient/*.rs"}, "launch": {u.Query().Get("launch")}}
	}
	v := begin()
	a := s.post("/oauth/token", exchange(s.code(v)))
	if a.text("patient") != "person-7" { // and not the one whom the user's answer names
		t.Fatalf("%v", a.body)
	}
	if to := s.authorize(v); to.Query().Get("error") == "" {
		t.Error("a launch was used twice")
	}
	to := s.authorize(begin())
	id := strings.TrimPrefix(to.Path, oauth.PathConsent)
	if _, err := s.oauth.Answer(t.Context(), s.user("nurse"), id, "person-7", true); !fhir.Is(err, fhir.NotFound) {
		t.Errorf("another user took the launch: %v", err)
	}
	v = begin()
	s.wait(6 * time.Minute)
	if to := s.authorize(v); to.Query().Get("error") == "" {
		t.Error("a launch outlives its five minutes")
	}
	if _, err := s.oauth.StartLaunch(t.Context(), s.user("doctor"), "server-app", "person-7"); !fhir.Is(err, fhir.NotFound) {
		t.Error("an application was started that has nowhere to start")
	}
}

func TestAUserMaySayNo(t *testing.T) {
	s := start(t, oauth.Options{})
	id := strings.TrimPrefix(s.authorize(nil).Path, oauth.PathConsent)
	back, err := s.oauth.Answer(t.Context(), s.user("doctor"), id, "", false)
	if err != nil || !strings.Contains(back, "error=access_denied") || strings.Contains(back, "code=") {
		t.Errorf("%s %v", back, err)
	}
	if _, err := s.oauth.Answer(t.Context(), s.user("doctor"), id, "person-1", true); !fhir.Is(err, fhir.NotFound) {
		t.Error("a request was answered twice")
	}
	id = strings.TrimPrefix(s.authorize(nil).Path, oauth.PathConsent)
	if _, err := s.oauth.Answer(t.Context(), s.user("doctor"), id, "", true); !fhir.Is(err, fhir.Required) {
		t.Errorf("let in to nobody's record: %v", err)
	}
	id = strings.TrimPrefix(s.authorize(url.Values{"prompt": {"login"}}).Path, oauth.PathConsent)
	old := s.user("doctor")
	s.wait(time.Minute)
	if _, err := s.oauth.Pending(t.Context(), old, id); !fhir.Is(err, fhir.Login) {
		t.Errorf("a fresh sign-in was asked for: %v", err)
	}
}

func TestSecretsInAddressesAndDoubledParametersAreRefused(t *testing.T) {
	s := start(t, oauth.Options{})
	v := s.proven("service", url.Values{"grant_type": {"client_credentials"}, "scope": {"system/Observation.rs"}})
	for _, path := range []string{"/oauth/token", "/oauth/introspect", "/oauth/revoke"} {
		resp, err := http.Get(s.url + path + "?" + v.Encode())
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != 400 {
			t.Errorf("GET %s: %d", path, resp.StatusCode)
		}
		if a := s.post(path+"?"+v.Encode(), nil); a.status != 400 {
			t.Errorf("%s with a query: %d", path, a.status)
		}
	}
	v.Add("scope", "system/*.rs")
	if a := s.post("/oauth/token", v); a.status != 400 {
		t.Errorf("scope twice: %d", a.status)
	}
}

// What the well-known documents name is there, and what is there is named.
func TestTheWellKnownDocumentsAreTrue(t *testing.T) {
	s := start(t, oauth.Options{})
	for _, path := range []string{"/.well-known/smart-configuration", "/fhir/.well-known/smart-configuration", "/.well-known/openid-configuration"} {
		resp, err := http.Get(s.url + path)
		if err != nil {
			t.Fatal(err)
		}
		var d map[string]any
		if err := json.NewDecoder(resp.Body).Decode(&d); err != nil || resp.StatusCode != 200 || !strings.HasPrefix(resp.Header.Get("Content-Type"), "application/json") {
			t.Fatalf("%s: %d %v", path, resp.StatusCode, err)
		}
		resp.Body.Close()
		if d["issuer"] != s.url {
			t.Errorf("issuer %v", d["issuer"])
		}
		for name, v := range d {
			at, ok := v.(string)
			if !ok || !strings.HasSuffix(name, "_endpoint") && name != "jwks_uri" {
				continue
			}
			resp, err := http.Get(at)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.StatusCode == 404 {
				t.Errorf("%s: %s is not there", path, at)
			}
		}
	}
}

// Each thing that the well-known document says can be done is done here, and what it does not say is not.
func TestWhatTheWellKnownDocumentSaysIsDone(t *testing.T) {
	s := start(t, oauth.Options{})
	resp, err := http.Get(s.url + "/.well-known/smart-configuration")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var d struct {
		Grants       []string `json:"grant_types_supported"`
		Scopes       []string `json:"scopes_supported"`
		Methods      []string `json:"token_endpoint_auth_methods_supported"`
		Challenges   []string `json:"code_challenge_methods_supported"`
		Capabilities []string `json:"capabilities"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&d); err != nil {
		t.Fatal(err)
	}
	for _, grant := range append(d.Grants, "password", "implicit", "urn:ietf:params:oauth:grant-type:device_code", "urn:ietf:params:oauth:grant-type:jwt-bearer") {
		a := s.post("/oauth/token", s.proven("service", url.Values{"grant_type": {grant}, "scope": {"system/Observation.rs"}}))
		switch told := slices.Contains(d.Grants, grant); {
		case told && a.text("error") == "unsupported_grant_type", !told && (a.status != 400 || a.text("access_token") != ""):
			t.Errorf("grant %s: told of %v, answered %d %v", grant, told, a.status, a.body)
		}
	}
	for _, method := range []string{"S256", "plain"} {
		to := s.authorize(url.Values{"code_challenge_method": {method}})
		if taken := to.Query().Get("error") == ""; taken != slices.Contains(d.Challenges, method) {
			t.Errorf("challenge %s: told %v, taken %v", method, !taken, taken)
		}
	}
	for _, text := range d.Scopes {
		if _, unknown := scope.Parse(text); len(unknown) > 0 {
			t.Errorf("the scope %s is none that can be given", text)
		}
	}
	basic, _ := http.NewRequestWithContext(t.Context(), "POST", s.url+"/oauth/token", strings.NewReader(url.Values{"grant_type": {"client_credentials"}, "scope": {"system/Observation.rs"}}.Encode()))
	basic.SetBasicAuth("service", "secret")
	basic.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if resp, err := http.DefaultClient.Do(basic); err != nil || resp.StatusCode == 200 || slices.Contains(d.Methods, "client_secret_basic") {
		t.Errorf("a secret gets in, or is said to: %v %v", resp, err)
	}
	offline := s.post("/oauth/token", exchange(s.code(nil)))
	online := s.post("/oauth/token", exchange(s.code(url.Values{"scope": {"launch/patient patient/*.rs online_access"}})))
	v1 := s.post("/oauth/token", exchange(s.code(url.Values{"scope": {"launch/patient patient/Observation.read"}})))
	s.posts = true
	posted := s.post("/oauth/token", exchange(s.code(nil)))
	service := s.post("/oauth/token", s.proven("service", url.Values{"grant_type": {"client_credentials"}, "scope": {"system/Observation.rs"}}))
	shown := map[string]bool{
		"authorize-post": posted.status == 200, "client-public": offline.status == 200, "client-confidential-asymmetric": service.status == 200,
		"sso-openid-connect": offline.text("id_token") != "", "context-standalone-patient": offline.text("patient") == "person-1", "context-banner": offline.body["need_patient_banner"] != nil,
		"permission-offline": offline.text("refresh_token") != "", "permission-online": online.text("refresh_token") != "" && v1.text("refresh_token") == "",
		"permission-patient": strings.Contains(offline.text("scope"), "patient/*.rs"), "permission-v2": strings.Contains(offline.text("scope"), "patient/*.rs"), "permission-v1": strings.Contains(v1.text("scope"), "patient/Observation."),
		// Shown by TestAnApplicationIsStartedInContextOnceByOneUser and TestAnApplicationActsForItsUserWithinItsScopes.
		"launch-ehr": true, "launch-standalone": true, "context-ehr-patient": true, "permission-user": true,
	}
	for _, c := range d.Capabilities {
		if done, known := shown[c]; !done {
			t.Errorf("the capability %s is told of; done: %v, looked at: %v (%v)", c, done, known, offline.body)
		}
	}
	for c := range shown {
		if !slices.Contains(d.Capabilities, c) {
			t.Errorf("%s is done and not told of", c)
		}
	}
}
