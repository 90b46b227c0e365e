package world

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/go-jose/go-jose/v4"
	"github.com/zitadel/oidc/v3/pkg/oidc"

	"tombolo/access/token/tokentest"
	"tombolo/fhir"
	"tombolo/policy"
	"tombolo/sim"
	"tombolo/sim/cast"
	"tombolo/sim/idp"
)

// What CIS2 says of somebody: their job roles, of which one is selected. NHS login says whose record is theirs, when asked.
func cis2Person(sub, name, selected, role, ods, aal string, activities ...string) idp.Somebody {
	return idp.Somebody{Sub: sub, Name: name, Claims: map[string]any{"nhsid_useruid": sub, "authentication_assurance_level": aal, "selected_roleid": selected},
		Info: map[string]any{"name": name, "nhsid_nrbac_roles": []any{
			map[string]any{"person_roleid": "100", "role_code": "S8000:G8000:R8006", "org_code": "RW4"},
			map[string]any{"person_roleid": selected, "role_code": role, "org_code": ods, "activity_codes": activities}}}}
}

const identityYAML = `
identity:
  providers:
    - id: cis2
      name: Smartcard
      issuer: %[1]s
      client: severn
      key: CIS2_KEY
      scopes: [openid, profile, nationalrbacaccess]
      parameters: {acr_values: AAL3}
      claims: {user: nhsid_useruid, name: name, role: "nhsid_nrbac_roles[person_roleid=selected_roleid].role_code", organisation: "nhsid_nrbac_roles[person_roleid=selected_roleid].org_code", activities: "nhsid_nrbac_roles[person_roleid=selected_roleid].activity_codes", assurance: authentication_assurance_level}
      roles: {R8000: hospital-doctor, "S8000:G8000:R8001": nurse}
      assurance: ["3"]
    - id: nhs-login
      name: NHS login
      issuer: %[2]s
      client: severn
      secret: LOGIN_SECRET
      claims: {person: nhs_number, name: family_name, assurance: identity_proofing_level}
      role: citizen
      assurance: [P9]
  clients:
    - {id: gateway, name: A gateway, kind: confidential, redirects: ["https://gateway.example/back"], keys: gateway.json, scopes: ["user/*.rs"], exchanges: [cis2]}
`

type identityWorld struct {
	*World
	cis2, login *idp.Provider
}

// startIdentity is Severn with two providers: one in CIS2's shape, one in NHS login's.
func startIdentity(t *testing.T, twist func(map[string]any)) identityWorld {
	t.Helper()
	return startIdentityWith(t, twist, "")
}

// A later handler is one that is not there yet when its address is needed.
type later struct {
	mu sync.Mutex
	h  http.Handler
}

func (l *later) set(h http.Handler) { l.mu.Lock(); defer l.mu.Unlock(); l.h = h }

func (l *later) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	l.mu.Lock()
	h := l.h
	l.mu.Unlock()
	h.ServeHTTP(w, r)
}

func startIdentityWith(t *testing.T, twist func(map[string]any), clients string) identityWorld {
	t.Helper()
	ours := tokentest.NewKey(t, "severn-1")
	public := ours.Public()
	at, release, err1 := sim.ReserveAddress()
	w := identityWorld{}
	h1, h2 := &later{}, &later{}
	holder := &World{}
	a1, err2 := holder.serve(h1)
	a2, err3 := holder.serve(h2)
	if err1 != nil || err2 != nil || err3 != nil {
		t.Fatal(err1, err2, err3)
	}
	t.Cleanup(func() { _ = holder.Close(); release() })
	back := "http://" + at + "/sign-in/back"
	nhs := cast.Dozen(time.Now())[0].NHS
	var err error
	if w.cis2, err = idp.New(idp.Options{Issuer: a1, Client: "severn", Redirect: back, ClientKey: &public, Twist: twist, People: []idp.Somebody{
		cis2Person("555000000001", "Dr Sunita Rao", "200", "S8000:G8000:R8000", "RX1", "3", policy.ViewRecord, policy.ViewSensitive, policy.ClaimRelationship, policy.EmergencyAccess), cis2Person("555000000002", "Cleaner", "201", "S8000:G8000:R9999", "RX1", "3"),
		cis2Person("555000000003", "Dr Elsewhere", "202", "S8000:G8000:R8000", "ZZ9", "3"), cis2Person("555000000004", "Dr Weak", "203", "S8000:G8000:R8000", "RX1", "2"),
		cis2Person("555000000006", "Dr Narrow", "204", "S8000:G8000:R8000", "RX1", "3", policy.ViewDemographics),
		{Sub: "555000000005", Name: "Roleless", Claims: map[string]any{"nhsid_useruid": "555000000005", "authentication_assurance_level": "3"}}}}); err != nil {
		t.Fatal(err)
	}
	if w.login, err = idp.New(idp.Options{Issuer: a2, Client: "severn", Redirect: back, ClientSecret: "login-secret", People: []idp.Somebody{
		{Sub: "m", Name: "Margaret", Claims: map[string]any{"identity_proofing_level": "P9"}, Info: map[string]any{"nhs_number": nhs, "family_name": "Taylor"}},
		{Sub: "weak", Name: "Unproven", Claims: map[string]any{"identity_proofing_level": "P5"}, Info: map[string]any{"nhs_number": nhs, "family_name": "Taylor"}},
		{Sub: "none", Name: "Numberless", Claims: map[string]any{"identity_proofing_level": "P9"}, Info: map[string]any{"family_name": "X"}}}}); err != nil {
		t.Fatal(err)
	}
	h1.set(w.cis2)
	h2.set(w.login)
	w.World, err = Start(nonTestContext, Options{Listen: at, Also: fmt.Sprintf(identityYAML, a1, a2) + clients, Secret: func(name string) string {
		switch name {
		case "CIS2_KEY":
			return string(fhir.JSON(ours))
		case "LOGIN_SECRET":
			return "login-secret"
		}
		return ""
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.World.Close() })
	return w
}

// follow is a browser that goes to the provider and back.
func follow(t *testing.T, w *World) *browser {
	b := newBrowser(t, w.URL())
	b.CheckRedirect = nil
	return b
}

func (b *browser) signInAt(provider, sub string) (*http.Response, string) {
	b.t.Helper()
	resp, page := b.do("GET", "/sign-in/with/"+provider+"?next=/", nil)
	if resp.StatusCode != 200 || !strings.Contains(page, "Who are you?") {
		b.t.Fatalf("not at the provider: %d %s", resp.StatusCode, resp.Request.URL)
	}
	at := *resp.Request.URL
	at.RawQuery += "&as=" + sub
	return b.do("GET", at.String(), nil)
}

func TestPeopleSignInAtTheirIdentityProvider(t *testing.T) {
	w := startIdentity(t, nil)
	margaret := w.Person(cast.Main)
	b := follow(t, w.World)
	if _, page := b.do("GET", "/sign-in", nil); !strings.Contains(page, "Sign in with Smartcard") || !strings.Contains(page, "Sign in with NHS login") {
		t.Error("the ways to sign in are not offered")
	}
	resp, page := b.signInAt("cis2", "555000000001")
	if resp.StatusCode != 200 || resp.Request.URL.Path != "/record" || !strings.Contains(page, "Dr Sunita Rao") {
		t.Fatalf("%d at %s", resp.StatusCode, resp.Request.URL)
	}
	resp, page = b.do("POST", "/record", url.Values{"system": {fhir.SystemNHSNumber}, "value": {margaret.NHS}})
	if !strings.HasPrefix(resp.Request.URL.Path, "/record/") || !strings.Contains(page, strings.ToUpper(margaret.Family)) {
		t.Errorf("the record is not opened: %d at %s", resp.StatusCode, resp.Request.URL)
	}
	if resp, _ := b.do("GET", "/desk", nil); resp.StatusCode == 200 {
		t.Error("a doctor has the operators' desk")
	}
	citizen := follow(t, w.World)
	resp, page = citizen.signInAt("nhs-login", "m")
	if resp.StatusCode != 200 || resp.Request.URL.Path != "/me" || !strings.Contains(page, margaret.Family) {
		t.Errorf("%d at %s", resp.StatusCode, resp.Request.URL)
	}
}

// A smartcard's activities are held against what its holder's role would see, from the claim to the page.
func TestASmartcardsActivitiesHoldItsHolder(t *testing.T) {
	w := startIdentity(t, nil)
	margaret := w.Person(cast.Main)
	for sub, sees := range map[string]bool{"555000000001": true, "555000000006": false} {
		b := follow(t, w.World)
		b.signInAt("cis2", sub)
		resp, page := b.do("POST", "/record", url.Values{"system": {fhir.SystemNHSNumber}, "value": {margaret.NHS}})
		if resp.StatusCode != 200 || !strings.Contains(page, strings.ToUpper(margaret.Family)) {
			t.Fatalf("%s: who somebody is: %d", sub, resp.StatusCode)
		}
		_, page = b.do("GET", resp.Request.URL.Path+"?all=1", nil)
		if got := strings.Contains(strings.ToLower(page), "penicillin"); got != sees {
			t.Errorf("%s sees allergies: %v, want %v", sub, got, sees)
		}
		if _, page = b.do("POST", "/record", url.Values{"system": {fhir.SystemNHSNumber}, "value": {"9990009996"}}); strings.Contains(page, "emergency") != sees {
			got := !sees
			t.Errorf("%s is offered to open records in an emergency: %v, want %v", sub, got, sees)
		}
	}
}

func TestWhoMapsToNobodyHereDoesNotGetIn(t *testing.T) {
	w := startIdentity(t, nil)
	for _, c := range []struct{ what, provider, sub string }{{"no role here", "cis2", "555000000002"}, {"another region's organisation", "cis2", "555000000003"}, {"a weak sign-in", "cis2", "555000000004"},
		{"no roles at all", "cis2", "555000000005"}, {"an unproven citizen", "nhs-login", "weak"}, {"a citizen without a number", "nhs-login", "none"}} {
		b := follow(t, w.World)
		resp, page := b.signInAt(c.provider, c.sub)
		if resp.StatusCode != http.StatusUnauthorized || !strings.Contains(page, "could not be signed in") {
			t.Errorf("%s: %d at %s", c.what, resp.StatusCode, resp.Request.URL)
		}
		if resp, _ := b.do("GET", "/record", nil); resp.Request.URL.Path != "/sign-in" {
			t.Errorf("%s is in", c.what)
		}
	}
}

// Sign-ins that somebody meddles with: another's browser, a used or made-up answer, an ID token that is not what it should be.
func TestASignInThatSomebodyMeddlesWithIsRefused(t *testing.T) {
	w := startIdentity(t, nil)
	b := follow(t, w.World)
	resp, _ := b.do("GET", "/sign-in/with/cis2", nil)
	at := *resp.Request.URL
	at.RawQuery += "&as=555000000001"
	b.CheckRedirect = func(req *http.Request, _ []*http.Request) error {
		if strings.HasPrefix(req.URL.String(), w.URL()) {
			return http.ErrUseLastResponse
		}
		return nil
	}
	resp, _ = b.do("GET", at.String(), nil)
	answer, err := resp.Location()
	if err != nil {
		t.Fatal(err)
	}
	victim := newBrowser(t, w.URL())
	if resp, _ := victim.do("GET", answer.String(), nil); resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("somebody was signed in as who sent them the address: %d", resp.StatusCode)
	}
	if resp, _ := b.do("GET", answer.String(), nil); resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("an answer was used after another browser had: %d", resp.StatusCode)
	}
	if resp, _ := b.do("GET", "/sign-in/back?code=x&state=made-up", nil); resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("a made-up answer: %d", resp.StatusCode)
	}
	if resp, _ := b.do("GET", "/sign-in/with/nobody", nil); resp.StatusCode != http.StatusNotFound {
		t.Errorf("a provider there is not: %d", resp.StatusCode)
	}
}

func TestIDTokensThatAreNotForThisSignInAreRefused(t *testing.T) {
	var mu sync.Mutex
	twist := func(map[string]any) {}
	w := startIdentity(t, func(c map[string]any) {
		mu.Lock()
		defer mu.Unlock()
		twist(c)
	})
	for what, change := range map[string]func(map[string]any){
		"another's nonce": func(c map[string]any) { c["nonce"] = "another" }, "no nonce": func(c map[string]any) { delete(c, "nonce") }, "for another client": func(c map[string]any) { c["aud"] = "elsewhere" },
		"by another": func(c map[string]any) { c["iss"] = "https://attacker.example" }, "expired": func(c map[string]any) { c["exp"] = time.Now().Add(-time.Hour).Unix() }, "given to another (azp)": func(c map[string]any) { c["azp"] = "elsewhere" },
		"for several, given to nobody": func(c map[string]any) { c["aud"] = []string{"severn", "elsewhere"} },
	} {
		mu.Lock()
		twist = change
		mu.Unlock()
		if resp, _ := follow(t, w.World).signInAt("cis2", "555000000001"); resp.StatusCode != http.StatusUnauthorized {
			t.Errorf("%s: %d at %s", what, resp.StatusCode, resp.Request.URL)
		}
	}
}

// The table of A23, at the two doors that take an identity provider's statements: where a gateway brings one, and where its user comes back with one.
func TestForgedIDTokensAreRefused(t *testing.T) {
	w := startIdentityWith(t, nil, "limits: {attempts: 100000}\n")
	key := tokentest.NewKey(t, "gateway-1")
	if err := os.WriteFile(filepath.Join(w.Dir(), "gateway.json"), fhir.JSON(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{key.Public()}}), 0o600); err != nil {
		t.Fatal(err)
	}
	exchange := func(raw string) int {
		now := time.Now()
		assertion := tokentest.Genuine{Key: key, Type: "JWT", Claims: map[string]any{"iss": "gateway", "sub": "gateway", "aud": w.URL() + "/oauth/token", "jti": rand.Text(), "iat": now.Unix(), "exp": now.Add(time.Minute).Unix()}}.Sign(t)
		resp, err := http.PostForm(w.URL()+"/oauth/token", url.Values{"grant_type": {"urn:ietf:params:oauth:grant-type:token-exchange"}, "subject_token": {raw}, "subject_token_type": {"urn:ietf:params:oauth:token-type:id_token"},
			"scope": {"user/Observation.rs"}, "client_assertion_type": {"urn:ietf:params:oauth:client-assertion-type:jwt-bearer"}, "client_assertion": {assertion}})
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		return resp.StatusCode
	}
	forged := func(idp jose.JSONWebKey, claims map[string]any) []tokentest.Shape {
		return tokentest.Forged(tokentest.Genuine{Key: idp, Type: "JWT", Now: time.Now(), Claims: claims})
	}
	var shapes []tokentest.Shape
	doctor := cis2Person("555000000001", "Dr Sunita Rao", "200", "S8000:G8000:R8000", "RX1", "3")
	maps.Copy(doctor.Claims, doctor.Info)
	w.cis2.Forge(func(idp jose.JSONWebKey, claims map[string]any) string {
		shapes = forged(idp, maps.Clone(claims))
		return ""
	})
	good, err := w.cis2.IDToken(doctor, "")
	if err != nil || len(shapes) < 60 {
		t.Fatalf("%d shapes (%v)", len(shapes), err)
	}
	for _, s := range shapes {
		if status := exchange(s.Raw); status != 400 && status != 401 {
			t.Errorf("%s is exchanged: %d", s.Name, status)
		}
	}
	if status := exchange(good); status != 200 {
		t.Errorf("the genuine one: %d", status)
	}
	for i := 0; i < len(shapes); i += 13 { // each is made anew, with the nonce of its sign-in
		if shapes[i].Raw == "" {
			continue
		}
		w.cis2.Forge(func(idp jose.JSONWebKey, claims map[string]any) string { return forged(idp, claims)[i].Raw })
		if resp, _ := follow(t, w.World).signInAt("cis2", "555000000001"); resp.StatusCode != http.StatusUnauthorized {
			t.Errorf("%s: %d at %s", shapes[i].Name, resp.StatusCode, resp.Request.URL)
		}
	}
	w.cis2.Forge(nil)
	if resp, _ := follow(t, w.World).signInAt("cis2", "555000000001"); resp.StatusCode != 200 {
		t.Errorf("the genuine one: %d", resp.StatusCode)
	}
}

// A gateway brings a CIS2 ID token and is given access for its user, as at the NHS API platform; once, and only for those whom it may bring.
func TestAnIDTokenIsExchangedForAccessOnce(t *testing.T) {
	w := startIdentity(t, nil)
	key := tokentest.NewKey(t, "gateway-1")
	if err := os.WriteFile(filepath.Join(w.Dir(), "gateway.json"), fhir.JSON(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{key.Public()}}), 0o600); err != nil {
		t.Fatal(err)
	}
	exchange := func(raw string) (int, map[string]any) {
		now := time.Now()
		assertion := tokentest.Genuine{Key: key, Type: "JWT", Claims: map[string]any{"iss": "gateway", "sub": "gateway", "aud": w.URL() + "/oauth/token", "jti": raw[len(raw)-8:] + now.String(), "iat": now.Unix(), "exp": now.Add(time.Minute).Unix()}}.Sign(t)
		resp, err := http.PostForm(w.URL()+"/oauth/token", url.Values{"grant_type": {"urn:ietf:params:oauth:grant-type:token-exchange"}, "subject_token": {raw}, "subject_token_type": {"urn:ietf:params:oauth:token-type:id_token"},
			"scope": {"user/Observation.rs"}, "client_assertion_type": {"urn:ietf:params:oauth:client-assertion-type:jwt-bearer"}, "client_assertion": {assertion}})
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		var out map[string]any
		_ = json.NewDecoder(resp.Body).Decode(&out)
		return resp.StatusCode, out
	}
	doctor := cis2Person("555000000001", "Dr Sunita Rao", "200", "S8000:G8000:R8000", "RX1", "3")
	maps.Copy(doctor.Claims, doctor.Info)
	raw, err := w.cis2.IDToken(doctor, "")
	if err != nil {
		t.Fatal(err)
	}
	status, out := exchange(raw)
	token, _ := out["access_token"].(string)
	if status != 200 || out["scope"] != "user/Observation.rs" || out["issued_token_type"] != "urn:ietf:params:oauth:token-type:access_token" {
		t.Fatalf("%d %v", status, out)
	}
	r, _ := http.NewRequest("GET", w.URL()+"/fhir/Observation", nil)
	r.Header.Set("Authorization", "Bearer "+token)
	if s, err := w.Node.Access.Session(r); err != nil || s.User != "cis2/555000000001" || s.Organisation != "RX1" || s.Client != "gateway" {
		t.Errorf("%+v %v", s, err)
	}
	if status, out := exchange(raw); status != 400 {
		t.Errorf("an ID token was exchanged twice: %v", out)
	}
	citizen, err := w.login.IDToken(idp.Somebody{Sub: "m", Claims: map[string]any{"identity_proofing_level": "P9", "nhs_number": w.Person(cast.Main).NHS}}, "")
	if err != nil {
		t.Fatal(err)
	}
	if status, _ := exchange(citizen); status != 400 {
		t.Error("a gateway brought somebody whom it may not bring")
	}
}

// What a form sends may go on to another site only where the page's policy says so: that is seen in a browser alone.
func TestInABrowserADoctorSignsInElsewhereAndLetsAnAppIn(t *testing.T) {
	path := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "chrome"} {
		if p, err := exec.LookPath(name); err == nil && path == "" {
			path = p
		}
	}
	if path == "" && os.Getenv("TOMBOLO_CI") != "" {
		t.Fatal("no Chromium on this machine: in CI the pages must be seen in a browser (bash .ci/tools installs it)")
	}
	if path == "" || testing.Short() {
		t.Skip("SKIPPED: no Chromium, or -short, so signing in was not seen in a browser")
	}
	var mu sync.Mutex
	got := ""
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if r.URL.Query().Has("code") {
			got = r.URL.Query().Get("code")
		}
		_, _ = w.Write([]byte("<!doctype html><title>The app</title><h1 id=in>The app is in</h1>"))
	}))
	defer app.Close()
	w := startIdentityWith(t, nil, fmt.Sprintf("    - {id: app, name: An app, kind: public, redirects: [\"%s/back\"], scopes: [openid, launch/patient, \"patient/*.rs\"]}\n", app.URL))
	ctx, cancel := context.WithTimeout(context.Background(), 90*time.Second)
	defer cancel()
	ctx, cancel = chromedp.NewExecAllocator(ctx, chromedp.ExecPath(path), chromedp.Headless, chromedp.NoSandbox, chromedp.DisableGPU, chromedp.NoFirstRun, chromedp.NoDefaultBrowserCheck,
		chromedp.Flag("disable-background-networking", true), chromedp.UserDataDir(t.TempDir()))
	defer cancel()
	ctx, cancel = chromedp.NewContext(ctx)
	defer cancel()
	step := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	step("the app asks", chromedp.Do(ctx, chromedp.Navigate(w.URL()+"/oauth/authorize?"+url.Values{"response_type": {"code"}, "client_id": {"app"}, "redirect_uri": {app.URL + "/back"}, "scope": {"openid launch/patient patient/*.rs"},
		"state": {"s"}, "aud": {w.URL() + "/fhir"}, "code_challenge": {oidc.NewSHACodeChallenge(codeVerifier)}, "code_challenge_method": {"S256"}}.Encode())))
	step("to the provider", chromedp.Do(ctx, chromedp.Click(`a[href^="/sign-in/with/cis2"]`)))
	step("who it is", chromedp.Do(ctx, chromedp.Click(`a[href*="as=555000000001"]`)))
	step("whose record", chromedp.Do(ctx, chromedp.SendKeys("#value", w.Person(cast.Main).NHS)))
	step("let it in", chromedp.Do(ctx, chromedp.Click(`button[value="allow"]`)))
	said, err := chromedp.Run(ctx, chromedp.Text("#in"))
	step("back in the app", err)
	mu.Lock()
	defer mu.Unlock()
	if said != "The app is in" || got == "" {
		t.Errorf("the app says %q, and has the code %q", said, got)
	}
}
