package node_test

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"tombolo/access"
	"tombolo/audit"
	"tombolo/node"
	"tombolo/sim/national"
)

// opaqueTokens is a region to whose record the tokens of a provider lead that say nothing by themselves.
const opaqueTokens = upward + `
limits: {attempts: 100000}
identity:
  issuer: "%s"
  providers:
    - id: cis2
      name: NHS Care Identity
      issuer: "%s"
      client: north
      secret: CIS2_SECRET
      launch_scope: in-context-launch
      launch_introspect: true
      launch_clients: [ncrs]
      claims: {user: sub, name: name, role: role, organisation: ods}
      roles: {R8000: paramedic}
`

// An introspector is a provider that is asked about tokens. RFC 7662
type introspector struct {
	url   string
	mu    sync.Mutex
	says  map[string]func(http.ResponseWriter) // by token
	asked map[string]int
}

func newIntrospector(t *testing.T) *introspector {
	t.Helper()
	x := &introspector{says: map[string]func(http.ResponseWriter){}, asked: map[string]int{}}
	mux := http.NewServeMux()
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	x.url = s.URL
	mux.HandleFunc("/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]any{"issuer": s.URL, "authorization_endpoint": s.URL + "/a", "token_endpoint": s.URL + "/t", "jwks_uri": s.URL + "/keys", "introspection_endpoint": s.URL + "/introspect"})
	})
	mux.HandleFunc("/introspect", func(w http.ResponseWriter, r *http.Request) {
		raw := r.PostFormValue("token")
		x.mu.Lock()
		x.asked[raw]++
		say := x.says[raw]
		x.mu.Unlock()
		switch {
		case r.Method != http.MethodPost || r.URL.RawQuery != "" || r.PostFormValue("client_id") != "north" || r.PostFormValue("client_secret") != "shared":
			w.WriteHeader(http.StatusUnauthorized)
		case say == nil:
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, `{"active":false}`)
		default:
			say(w)
		}
	})
	return x
}

// token is a new token about which the provider says something.
func (x *introspector) token(say func(http.ResponseWriter)) string {
	raw := access.Secret()
	x.mu.Lock()
	defer x.mu.Unlock()
	x.says[raw] = say
	return raw
}

func (x *introspector) times(raw string) int {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.asked[raw]
}

// Somebody who follows a pointer with a token that says nothing by itself is let in on their provider's word, once, and on nothing less than its whole word.
func TestAPointerIsFollowedWithAnOpaqueToken(t *testing.T) {
	x := newIntrospector(t)
	l := national.New(national.Options{Token: "secret"})
	above := httptest.NewServer(l)
	t.Cleanup(above.Close)
	const issuer = "https://record.north.example"
	n := run(t, node.Config{Region: regionOf(t, opaqueTokens, above.URL, issuer, x.url), Data: t.TempDir(), Listen: "127.0.0.1:0",
		Secret: func(name string) string {
			return map[string]string{"NRL_TOKEN": "secret", "CIS2_SECRET": "shared"}[name]
		}})
	const ann = "9990000107"
	deliver(t, n, "1", "p1", patientP("p1", ann, "Taylor", nil))
	eventually(t, "the record is registered", func() bool { return len(l.Pointers(ann)) == 1 })
	pointer := l.Pointers(ann)[0].Local()

	answer := func(change map[string]any) func(http.ResponseWriter) {
		all := map[string]any{"active": true, "sub": "555", "name": "Pat Medic", "role": "R8000", "ods": "RYA", "iss": x.url, "aud": issuer + "/launch/nrl/" + pointer, "client_id": "another", "token_type": "Bearer",
			"scope": "openid in-context-launch", "iat": time.Now().Unix(), "exp": time.Now().Add(2 * time.Minute).Unix()}
		maps.Copy(all, change)
		maps.DeleteFunc(all, func(_ string, v any) bool { return v == nil })
		return func(w http.ResponseWriter) {
			w.Header().Set("Content-Type", "application/json; charset=utf-8")
			_ = json.NewEncoder(w).Encode(all)
		}
	}
	says := func(status int, kind, body string) func(http.ResponseWriter) {
		return func(w http.ResponseWriter) {
			w.Header().Set("Content-Type", kind)
			w.WriteHeader(status)
			_, _ = io.WriteString(w, body)
		}
	}
	follow := func(raw string) (*http.Response, string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), "POST", "http://"+n.Addr()+"/launch/nrl/"+pointer, strings.NewReader(url.Values{"token": {raw}}.Encode()))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
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
	whole := x.token(answer(nil))
	for name, raw := range map[string]string{"the whole of it": whole,
		"no id, no time, no issuer, and from a program that we take": x.token(answer(map[string]any{"iss": nil, "iat": nil, "aud": nil, "client_id": "ncrs"}))} {
		if resp, _ := follow(raw); resp.StatusCode != http.StatusSeeOther || resp.Header.Get("Location") != "/record/"+personOf(t, n, ann) || len(resp.Cookies()) == 0 {
			t.Errorf("%s: %d to %s", name, resp.StatusCode, resp.Header.Get("Location"))
		}
	}
	bad := map[string]string{"used before": whole, "unknown there": access.Secret(), "no token": "a b", "very long": strings.Repeat("a", 20_000), "of two parts": "a.b", "nothing": ""}
	for name, change := range map[string]map[string]any{
		"not active": {"active": false}, "active in words": {"active": "true"}, "nothing said": {"active": nil}, "without the scope": {"scope": "openid"}, "no scope": {"scope": nil},
		"for another pointer": {"aud": issuer + "/launch/nrl/x"}, "for nobody, from a program that we do not take": {"aud": nil}, "for nobody, from nobody": {"aud": nil, "client_id": nil},
		"for somebody else, from one that we take": {"aud": "https://elsewhere.example", "client_id": "ncrs"}, "of another issuer": {"iss": "https://elsewhere.example"},
		"expired": {"exp": time.Now().Add(-2 * time.Minute).Unix()}, "for ever": {"exp": nil}, "for a day": {"exp": time.Now().Add(24 * time.Hour).Unix()}, "not yet": {"nbf": time.Now().Add(time.Hour).Unix()},
		"about nobody": {"sub": nil}, "a role that is none here": {"role": "R9999"}, "an organisation that is none here": {"ods": "ZZ9"}, "bound to a key": {"cnf": map[string]any{"x5t#S256": "x"}},
		"bound to a key by its kind": {"token_type": "DPoP"}, "a refresh token": {"token_type": "refresh_token"},
	} {
		bad[name] = x.token(answer(change))
	}
	bad["an error"] = x.token(says(500, "application/json", `{"active":true}`))
	bad["moved"] = x.token(says(302, "application/json", `{"active":true}`))
	bad["a page"] = x.token(says(200, "text/html", `{"active":true}`))
	bad["cut off"] = x.token(says(200, "application/json", `{"active":true,`))
	bad["said twice"] = x.token(says(200, "application/json", fmt.Sprintf(`{"active":false,"active":true,"sub":"555","role":"R8000","ods":"RYA","aud":%q,"scope":"in-context-launch","exp":%d}`, issuer, time.Now().Add(time.Minute).Unix())))
	bad["endless"] = x.token(says(200, "application/json", `{"active":true,"x":"`+strings.Repeat("x", 70<<10)+`"}`))
	page, refusals := "", 0
	for name, raw := range bad {
		resp, body := follow(raw)
		if page == "" {
			page = body
		}
		if resp.StatusCode != http.StatusForbidden || len(resp.Cookies()) > 0 || body != page {
			t.Errorf("%s: %d, another page %v", name, resp.StatusCode, body != page)
		}
		refusals++
	}
	// Who tries one over and over has the provider asked once, for a while; a failure is asked about again.
	if raw := bad["not active"]; x.times(raw) != 1 {
		t.Errorf("asked %d times", x.times(raw))
	} else if _, _ = follow(raw); x.times(raw) != 1 {
		t.Errorf("asked again: %d times", x.times(raw))
	}
	if raw := bad["an error"]; x.times(raw) != 1 {
		t.Errorf("asked %d times", x.times(raw))
	} else if _, _ = follow(raw); x.times(raw) != 2 {
		t.Errorf("a failure was taken for an answer: %d times", x.times(raw))
	}
	if x.times(bad["no token"])+x.times(bad["very long"]) != 0 {
		t.Error("what is no token was shown to the provider")
	}
	audited := 0
	for e, err := range n.Audit.All(t.Context(), 0, 100_000) {
		if err != nil {
			t.Fatal(err)
		}
		if s, err := e.Summary(); err == nil && s.Kind == audit.Denied && strings.Contains(strings.Join(s.What, " "), "launch: ") {
			audited++
		}
		if strings.Contains(string(e.Body), whole) {
			t.Error("a token is in the audit log")
		}
	}
	if audited < refusals {
		t.Errorf("%d refusals, %d in the audit log", refusals, audited)
	}
}
