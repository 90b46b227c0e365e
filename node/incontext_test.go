package node_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"tombolo/access"
	"tombolo/access/token/tokentest"
	"tombolo/audit"
	"tombolo/node"
	"tombolo/sim/national"
)

// inContext is a region to whose record a provider's tokens lead those who follow its pointers.
const inContext = upward + `
limits: {attempts: 100000}
identity:
  issuer: "%s"
  providers:
    - id: cis2
      name: NHS Care Identity
      issuer: "%s"
      client: north
      launch_scope: in-context-launch
      claims: {user: sub, name: name, role: role, organisation: ods}
      roles: {R8000: paramedic, R5000: operator}
    - {id: other, name: Another, issuer: "%s", client: north, claims: {user: sub, role: role, organisation: ods}, roles: {R8000: paramedic}}
`

// signer is a provider that says who it is and shows its key.
func signer(t *testing.T, key jose.JSONWebKey) string {
	t.Helper()
	mux := http.NewServeMux()
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	say := func(path string, v any) {
		mux.HandleFunc(path, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_ = json.NewEncoder(w).Encode(v)
		})
	}
	say("/.well-known/openid-configuration", map[string]any{"issuer": s.URL, "authorization_endpoint": s.URL + "/a", "token_endpoint": s.URL + "/t", "jwks_uri": s.URL + "/keys"})
	say("/keys", jose.JSONWebKeySet{Keys: []jose.JSONWebKey{key.Public()}})
	return s.URL
}

// Somebody who follows a pointer of the National Record Locator with the token that their own sign-in gave them for it sees the one record to which it leads. Whatever is wrong with the token or
// with the pointer leads to the one page from which nothing leads on, and is in the audit log.
func TestAPointerIsFollowedInContext(t *testing.T) {
	key, others := tokentest.NewKey(t, "cis2-1"), tokentest.NewKey(t, "other-1")
	cis2, other := signer(t, key), signer(t, others)
	l := national.New(national.Options{Token: "secret"})
	above := httptest.NewServer(l)
	t.Cleanup(above.Close)
	const issuer = "https://record.north.example"
	n := run(t, node.Config{Region: regionOf(t, inContext, above.URL, issuer, cis2, other), Data: t.TempDir(), Listen: "127.0.0.1:0", Secret: func(name string) string { return map[string]string{"NRL_TOKEN": "secret"}[name] }})
	const ann = "9990000107"
	deliver(t, n, "1", "p1", patientP("p1", ann, "Taylor", nil))
	eventually(t, "the record is registered", func() bool { return len(l.Pointers(ann)) == 1 })
	pointer := l.Pointers(ann)[0].Local()

	token := func(change map[string]any) tokentest.Genuine {
		now := time.Now()
		g := tokentest.Genuine{Key: key, Type: "JWT", Now: now, Claims: map[string]any{"iss": cis2, "sub": "555", "name": "Pat Medic", "role": "R8000", "ods": "RYA", "aud": issuer + "/launch/nrl/" + pointer,
			"scope": "openid in-context-launch", "jti": access.Secret(), "iat": now.Unix(), "exp": now.Add(2 * time.Minute).Unix()}}
		for k, v := range change {
			g.Claims[k] = v
		}
		return g
	}
	follow := func(method, path string, form url.Values) (*http.Response, string) {
		t.Helper()
		req, err := http.NewRequest(method, "http://"+n.Addr()+path, strings.NewReader(form.Encode()))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		req.Header.Set("Origin", "https://ncrs.example")
		req.Header.Set("Sec-Fetch-Site", "cross-site")
		resp, err := (&http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp, string(body)
	}
	at := "/launch/nrl/" + pointer
	raw := token(nil).Sign(t)
	resp, _ := follow("POST", at, url.Values{"token": {raw}})
	if resp.StatusCode != http.StatusSeeOther || resp.Header.Get("Location") != "/record/"+personOf(t, n, ann) || len(resp.Cookies()) == 0 {
		t.Fatalf("followed: %d to %s", resp.StatusCode, resp.Header.Get("Location"))
	}
	// The session opens that one record: there is no way to look for another.
	open, err := http.NewRequestWithContext(t.Context(), "GET", "http://"+n.Addr()+"/record", nil)
	if err != nil {
		t.Fatal(err)
	}
	open.AddCookie(resp.Cookies()[0])
	if led, err := (&http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}).Do(open); err != nil || led.Header.Get("Location") != "/record/"+personOf(t, n, ann) {
		t.Errorf("somebody else can be looked for: %v %v", led, err)
	} else {
		_ = led.Body.Close()
	}
	if resp, _ := follow("POST", at, url.Values{"token": {token(map[string]any{"aud": issuer}).Sign(t)}}); resp.StatusCode != http.StatusSeeOther {
		t.Errorf("made for this node: %d", resp.StatusCode)
	}
	past := time.Now().Add(-time.Hour)
	bad := map[string]string{"used before": raw, "without the scope": token(map[string]any{"scope": "openid profile"}).Sign(t), "a scope that begins so": token(map[string]any{"scope": "in-context-launch-not"}).Sign(t),
		"for another pointer": token(map[string]any{"aud": issuer + "/launch/nrl/another"}).Sign(t), "for another node": token(map[string]any{"aud": "https://elsewhere.example"}).Sign(t),
		"expired": token(map[string]any{"iat": past.Unix(), "exp": past.Add(time.Minute).Unix()}).Sign(t), "for a day": token(map[string]any{"exp": time.Now().Add(24 * time.Hour).Unix()}).Sign(t),
		"without an id": token(map[string]any{"jti": ""}).Sign(t), "a role that opens no records": token(map[string]any{"role": "R5000"}).Sign(t), "a role that is none here": token(map[string]any{"role": "R9999"}).Sign(t), "an organisation that is none here": token(map[string]any{"ods": "ZZ9"}).Sign(t),
		"by a provider that launches nobody": func() string { g := token(map[string]any{"iss": other}); g.Key = others; return g.Sign(t) }(), "nothing": ""}
	for _, f := range tokentest.Forged(token(nil)) {
		bad["forged: "+f.Name] = f.Raw
	}
	var page string
	refusals := 0
	for name, raw := range bad {
		resp, body := follow("POST", at, url.Values{"token": {raw}})
		if page == "" {
			page = body
		}
		if resp.StatusCode != http.StatusForbidden || len(resp.Cookies()) > 0 || body != page || strings.Contains(body, "<form") && strings.Contains(body, "search") {
			t.Errorf("%s: %d, another page %v", name, resp.StatusCode, body != page)
		}
		refusals++
	}
	for name, try := range map[string]func() (*http.Response, string){
		"a pointer of nobody's": func() (*http.Response, string) {
			return follow("POST", "/launch/nrl/nobodys", url.Values{"token": {token(map[string]any{"aud": issuer}).Sign(t)}})
		},
		"in the address": func() (*http.Response, string) { return follow("POST", at+"?token="+token(nil).Sign(t), nil) },
		"with something else beside": func() (*http.Response, string) {
			return follow("POST", at, url.Values{"token": {token(nil).Sign(t)}, "next": {"/find"}})
		},
		"with something in the address": func() (*http.Response, string) {
			return follow("POST", at+"?next=/find", url.Values{"token": {token(nil).Sign(t)}})
		},
		"twice": func() (*http.Response, string) {
			return follow("POST", at, url.Values{"token": {token(nil).Sign(t), "x"}})
		},
	} {
		if resp, body := try(); resp.StatusCode != http.StatusForbidden || body != page {
			t.Errorf("%s: %d", name, resp.StatusCode)
		}
		refusals++
	}
	audited := 0
	for e, err := range n.Audit.All(t.Context(), 0, 100_000) {
		if err != nil {
			t.Fatal(err)
		}
		if s, err := e.Summary(); err == nil && s.Kind == audit.Denied && strings.Contains(strings.Join(s.What, " "), "launch: ") {
			audited++
		}
		if s := string(e.Body); strings.Contains(s, raw) {
			t.Error("a token is in the audit log")
		}
	}
	if audited < refusals {
		t.Errorf("%d refusals, %d in the audit log", refusals, audited)
	}
}
