package world

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/zitadel/oidc/v3/pkg/oidc"

	"tombolo/fhir"
	"tombolo/sim/cast"
)

const appsYAML = `
identity:
  clients:
    - {id: results-app, name: A results app, kind: public, redirects: ["https://results.example/back"], launch: "https://results.example/launch",
       scopes: [openid, fhirUser, launch, launch/patient, "patient/*.rs", "user/Practitioner.r"]}
`

// A browser without scripts, that does not leave the node: it stops where it is sent elsewhere.
type browser struct {
	t    *testing.T
	base string
	http.Client
}

func newBrowser(t *testing.T, base string) *browser {
	jar, _ := cookiejar.New(nil)
	b := &browser{t: t, base: base}
	b.Jar = jar
	b.CheckRedirect = func(req *http.Request, _ []*http.Request) error {
		if !strings.HasPrefix(req.URL.String(), base) {
			return http.ErrUseLastResponse
		}
		return nil
	}
	return b
}

func (b *browser) do(method, path string, form url.Values) (*http.Response, string) {
	b.t.Helper()
	at := path
	if strings.HasPrefix(path, "/") {
		at = b.base + path
	}
	req, err := http.NewRequest(method, at, strings.NewReader(form.Encode()))
	if err != nil {
		b.t.Fatal(err)
	}
	if method == "POST" {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		req.Header.Set("Sec-Fetch-Site", "same-origin")
	}
	resp, err := b.Do(req)
	if err != nil {
		b.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	return resp, string(body)
}

const codeVerifier = "0123456789012345678901234567890123456789012345"

// letIn has the doctor let the app in to somebody's record, with some scopes, over the pages: the answer to its code.
func letIn(t *testing.T, w *World, scopes string, person cast.Person, more url.Values) map[string]any {
	t.Helper()
	b := newBrowser(t, w.URL())
	v := url.Values{"response_type": {"code"}, "client_id": {"results-app"}, "redirect_uri": {"https://results.example/back"}, "scope": {scopes}, "state": {"s"}, "aud": {w.URL() + "/fhir"},
		"code_challenge": {oidc.NewSHACodeChallenge(codeVerifier)}, "code_challenge_method": {"S256"}}
	for k, x := range more {
		v[k] = x
	}
	resp, _ := b.do("GET", "/oauth/authorize?"+v.Encode(), nil)
	if resp.Request.URL.Path != "/sign-in" {
		t.Fatalf("not asked to sign in: %s", resp.Request.URL)
	}
	resp, page := b.do("POST", "/sign-in", url.Values{"user": {"doctor"}, "next": {resp.Request.URL.Query().Get("next")}})
	if resp.StatusCode != 200 || !strings.Contains(page, "A results app") {
		t.Fatalf("%d at %s: not asked to let the app in", resp.StatusCode, resp.Request.URL)
	}
	if csp := resp.Header.Get("Content-Security-Policy"); !strings.Contains(csp, "form-action 'self' https://results.example;") {
		t.Errorf("the answer could not go back: %s", csp)
	}
	resp, page = b.do("POST", resp.Request.URL.Path, url.Values{"answer": {"allow"}, "system": {fhir.SystemNHSNumber}, "value": {person.NHS}})
	to, err := resp.Location()
	if err != nil || !strings.HasPrefix(to.String(), "https://results.example/back?") || strings.Contains(to.String(), person.NHS) {
		t.Fatalf("%d %v: %s", resp.StatusCode, to, page)
	}
	form, err := http.PostForm(w.URL()+"/oauth/token", url.Values{"grant_type": {"authorization_code"}, "client_id": {"results-app"}, "code": {to.Query().Get("code")},
		"redirect_uri": {"https://results.example/back"}, "code_verifier": {codeVerifier}})
	if err != nil {
		t.Fatal(err)
	}
	defer form.Body.Close()
	var out map[string]any
	if err := json.NewDecoder(form.Body).Decode(&out); err != nil || form.StatusCode != 200 {
		t.Fatalf("%d %v", form.StatusCode, out)
	}
	return out
}

func get(t *testing.T, w *World, path, token string) (int, *bundle) {
	t.Helper()
	req, _ := http.NewRequest("GET", w.URL()+path, nil)
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	data, _ := io.ReadAll(resp.Body)
	b, _ := parseBundle(data) // what is no Bundle has no entries
	return resp.StatusCode, b
}

// Whatever an application asks, it gets what its scopes let through, of the one person, and nothing tells it of the rest.
func TestAnApplicationGetsWhatItsScopesLetThroughAndNothingElse(t *testing.T) {
	w, err := Start(nonTestContext, Options{Also: appsYAML})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.Close() })
	margaret, other := w.Person(cast.Main), w.Person("chloe")
	whole := letIn(t, w, "openid fhirUser launch/patient patient/*.rs user/Practitioner.r", margaret, nil)
	id, _ := whole["patient"].(string)
	token := func(a map[string]any) string { s, _ := a["access_token"].(string); return s }
	everything := "/fhir/Patient/" + id + "/$everything"
	status, all := get(t, w, everything, token(whole))
	if status != 200 || len(all.find("Observation", "")) == 0 || len(all.find("AllergyIntolerance", "")) == 0 || len(all.find("Patient", "")) != 1 {
		t.Fatalf("%d: the whole record is not whole", status)
	}
	claims := strings.Split(whole["id_token"].(string), ".")
	if len(claims) != 3 {
		t.Fatal("no ID token")
	}

	part := letIn(t, w, "launch/patient patient/AllergyIntolerance.r patient/Observation.s", margaret, nil)
	if part["patient"] != id {
		t.Fatalf("another person: %v", part["patient"])
	}
	status, b := get(t, w, everything, token(part))
	if status != 200 || len(b.find("AllergyIntolerance", "")) != len(all.find("AllergyIntolerance", "")) {
		t.Errorf("%d, %d allergies", status, len(b.find("AllergyIntolerance", "")))
	}
	for _, typ := range []string{"Patient", "Observation", "Condition", "MedicationRequest", "Encounter", "Practitioner", "Organization"} {
		if slices.ContainsFunc(b.entries, func(e fhir.Entry) bool { return e.Resource.Type() == typ }) {
			t.Errorf("something of type %s", typ)
		}
	}
	for _, secret := range append([]string{margaret.Family, margaret.NHS, margaret.Born, "none-recorded"}, margaret.Given...) {
		if strings.Contains(string(b.raw), secret) && secret != "" {
			t.Errorf("the answer tells %q", secret)
		}
	}
	if _, b := get(t, w, "/fhir/Observation?patient="+id, token(part)); len(b.find("Observation", "")) != len(all.find("Observation", "")) {
		t.Error("searching is not allowed to who may search")
	}
	if _, b := get(t, w, "/fhir/AllergyIntolerance?patient="+id, token(part)); len(b.find("AllergyIntolerance", "")) != 0 {
		t.Error("searching is allowed to who may only read")
	}
	for _, path := range []string{"/fhir/Patient/" + id, "/fhir/Patient/nobody", "/fhir/Patient/nobody/$everything"} {
		status, b := get(t, w, path, token(part))
		s2, b2 := get(t, w, "/fhir/Patient/nobody/$everything", token(part))
		if status != s2 || string(b.raw) != string(b2.raw) {
			t.Errorf("%s is told apart from nobody: %d %s", path, status, b.raw)
		}
	}
	// The launch is for one person: for another, whom the doctor may open, there is nobody there.
	another := letIn(t, w, "launch/patient patient/*.rs", other, nil)
	if another["patient"] == id || another["patient"] == "" {
		t.Fatalf("the other person is %v", another["patient"])
	}
	s1, b1 := get(t, w, everything, token(another))
	s2, b2 := get(t, w, "/fhir/Patient/nobody/$everything", token(another))
	if s1 != 404 || s1 != s2 || string(b1.raw) != string(b2.raw) {
		t.Errorf("another person's record: %d %s", s1, b1.raw)
	}
	// And for the API alone, where scopes are kept to.
	if _, b := get(t, w, "/record/"+id, token(whole)); strings.Contains(string(b.raw), `id="banner"`) || !strings.Contains(string(b.raw), "Sign in") {
		t.Error("an application's token opens the pages")
	}
}
