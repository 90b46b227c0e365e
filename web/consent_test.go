package web

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"tombolo/access/oauth"
	"tombolo/fhir"
	"tombolo/search/scope"
)

// What an application would get is told without the words of any standard, narrowed as it is narrowed.
func TestWhatAnApplicationGetsIsToldInPlainWords(t *testing.T) {
	for text, want := range map[string][]string{
		"openid fhirUser offline_access":                       nil,
		"patient/*.rs":                                         {"read everything in one person's record"},
		"user/Observation.rs?category=laboratory":              {"read results and measurements in any record that you may open, but only those whose category is “laboratory”"},
		"patient/Condition.rs?clinical-status=active,relapse":  {"read conditions in one person's record, but only those whose clinical status is “active” or “relapse”"},
		"patient/Observation.rs?category=http://x|vital-signs": {"read results and measurements in one person's record, but only those whose category is “vital-signs”"},
		"system/Basic.cud":                                     {"add, change and delete Basic entries in one person's record"},
		"patient/DocumentReference.crs":                        {"read and add documents in one person's record"},
	} {
		set, unknown := scope.Parse(text)
		if got := gets(set, false); !slices.Equal(got, want) || len(unknown) > 0 {
			t.Errorf("%s: %q, want %q (unknown %v)", text, got, want, unknown)
		}
	}
	for text, want := range map[string][]string{
		"openid fhirUser offline_access": {"that you have signed in here", "your name and role", "For 30 days, also while you are not using it."},
		"openid online_access":           {"that you have signed in here", "Until 12 hours after you signed in here."},
		"patient/*.rs":                   {"For ten minutes. Then it has to ask you again."},
	} {
		set, _ := scope.Parse(text)
		if got := append(learns(set, false), lasts(set)); !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
	set, _ := scope.Parse("patient/AllergyIntolerance.rs")
	if got := gets(set, true); !slices.Equal(got, []string{"read allergies in your record"}) {
		t.Errorf("to whose record it is: %q", got)
	}
}

// An application that was started from a record is let in to that one: whoever says yes is told whose it is. Whoever says no goes back to the application, which learns nothing else.
func TestWhoIsAskedIsToldAboutWhom(t *testing.T) {
	m := testAccess(t)
	apps := oauth.New(oauth.Options{Access: m})
	srv := serve(t, Options{Records: newFake(), Access: m, Apps: apps, Name: "Severn Shared Care Record", Now: func() time.Time { return today }})
	s, err := m.As("dr-marsh")
	if err != nil {
		t.Fatal(err)
	}
	to, err := apps.StartLaunch(t.Context(), s, "rounds", "person-1")
	if err != nil {
		t.Fatal(err)
	}
	started, _ := url.Parse(to)
	r := newReader(t, srv, "dr-marsh")
	page := r.get(authorize("rounds", "https://rounds.clinical-software.example/signed-in/back", "launch patient/*.rs") + "&launch=" + url.QueryEscape(started.Query().Get("launch")))
	page.wants(t, "Whose record", "TAYLOR, Margaret Anne (Mrs)", "born 12-Mar-1948", "read everything in one person&#39;s record", "rounds.clinical-software.example", "For ten minutes", "told only that you said no")
	if page.status != http.StatusOK || strings.Contains(page.body, `id="value"`) {
		t.Errorf("got status %d, and whose record it is is asked for", page.status)
	}
	r.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	no := r.post(page.path, url.Values{"answer": {"deny"}})
	back, err := url.Parse(no.header.Get("Location"))
	if q := back.Query(); err != nil || back.Host != "rounds.clinical-software.example" || q.Get("error") != "access_denied" || q.Get("code") != "" || len(q) != 3 {
		t.Errorf("having said no, the user goes to %s", back)
	}
}

// A request that cannot be answered to the application is told to people on a page, and to programs as OAuth says.
func TestARequestThatCannotBeAnsweredIsToldToWhoeverSentIt(t *testing.T) {
	r := newReader(t, newSite(t, newFake()), "margaret")
	for name, path := range map[string]string{"an application that is not registered": authorize("nobody", "https://diary.example/back", "patient/*.rs"),
		"an address that is not its own": authorize("diary", "https://elsewhere.example/back", "patient/*.rs"), "twice": authorize("diary", "https://diary.example/back", "patient/*.rs") + "&state=t"} {
		req, _ := http.NewRequest("GET", r.base+path, nil)
		req.Header.Set("Accept", "text/html,application/xhtml+xml")
		page := r.do(req)
		page.wants(t, "That application was not let in", "Nothing was sent to it", "For those who run it")
		if page.status != http.StatusBadRequest || !strings.HasPrefix(page.header.Get("Content-Type"), "text/html") {
			t.Errorf("%s: a browser is told %d %s", name, page.status, page.header.Get("Content-Type"))
		}
		if told := r.get(path); told.status != http.StatusBadRequest || !strings.Contains(told.body, `"error"`) {
			t.Errorf("%s: a program is told %d %s", name, told.status, told.body)
		}
	}
	over := r.get("/oauth/consent/over")
	if over.wants(t, "This request is over", "begin again there"); over.status != http.StatusNotFound {
		t.Errorf("a request that is over: got status %d", over.status)
	}
}

// letsIn lets an application in, and gives the code that it is sent.
func (r *reader) letsIn(authorize, number string) string {
	r.t.Helper()
	page := r.get(authorize)
	follow := r.CheckRedirect
	r.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	defer func() { r.CheckRedirect = follow }()
	to, err := url.Parse(r.post(page.path, url.Values{"answer": {"allow"}, "system": {fhir.SystemNHSNumber}, "value": {number}}).header.Get("Location"))
	if err != nil || to.Query().Get("code") == "" {
		r.t.Fatalf("the application was not let in: %s %v", page.body, err)
	}
	return to.Query().Get("code")
}

// Whoever has let an application in for longer than minutes sees that, and can take it back: its tokens are good for nothing at once, and nobody else can take it.
func TestWhatWasLetInIsTakenBack(t *testing.T) {
	m := testAccess(t)
	srv := serve(t, Options{Records: newFake(), Access: m, Apps: oauth.New(oauth.Options{Access: m}), Name: "Severn Shared Care Record", Now: func() time.Time { return today }})
	verifier := strings.Repeat("v", 43)
	sum := sha256.Sum256([]byte(verifier))
	ask := func(client, back, scopes string) string {
		return strings.Replace(authorize(client, back, scopes), strings.Repeat("a", 43), base64.RawURLEncoding.EncodeToString(sum[:]), 1)
	}
	margaret, marsh := newReader(t, srv, "margaret"), newReader(t, srv, "dr-marsh")
	margaret.get("/apps").wants(t, "There are none")
	margaret.letsIn(ask("diary", "https://diary.example/back", "patient/*.rs"), "")
	margaret.get("/apps").wants(t, "There are none") // for minutes: it is over by itself
	code := margaret.letsIn(ask("diary", "https://diary.example/back", "offline_access patient/*.rs"), "")
	marsh.letsIn(ask("rounds", "https://rounds.clinical-software.example/signed-in/back", "online_access launch/patient patient/*.rs"), newFake().numberOf(t, "person-1"))

	resp, err := http.PostForm(srv.URL+"/oauth/token", url.Values{"grant_type": {"authorization_code"}, "client_id": {"diary"}, "code": {code}, "redirect_uri": {"https://diary.example/back"}, "code_verifier": {verifier}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	var tokens struct {
		Access  string `json:"access_token"`
		Refresh string `json:"refresh_token"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&tokens); err != nil || tokens.Access == "" || tokens.Refresh == "" {
		t.Fatalf("%s: %+v %v", resp.Status, tokens, err)
	}
	good := func() bool {
		req, _ := http.NewRequest("GET", srv.URL+"/fhir/Patient", nil)
		req.Header.Set("Authorization", "Bearer "+tokens.Access)
		_, err := m.Session(req)
		return err == nil
	}
	if !good() {
		t.Fatal("the application was let in, and its token is not taken")
	}
	page := margaret.get("/apps")
	page.wants(t, "Kidney Diary", "diary.example", "read everything in your record")
	marsh.get("/apps").wants(t, "Ward Rounds", "For the record of TAYLOR, Margaret Anne (Mrs)")
	if strings.Contains(page.body, "Ward Rounds") {
		t.Error("somebody sees what another has let in")
	}
	id := regexp.MustCompile(`name="id" value="([^"]+)"`).FindStringSubmatch(page.body)[1]
	if got := marsh.post("/apps/back", url.Values{"id": {id}}); got.status != http.StatusNotFound || !good() {
		t.Errorf("another takes it back: %d", got.status)
	}
	for range 2 { // said again, it stays so
		margaret.post("/apps/back", url.Values{"id": {id}}).wants(t, "no longer let in", "There are none")
		if good() {
			t.Error("taken back, the application's token is still taken")
		}
	}
	again, err := http.PostForm(srv.URL+"/oauth/token", url.Values{"grant_type": {"refresh_token"}, "client_id": {"diary"}, "refresh_token": {tokens.Refresh}})
	if err != nil {
		t.Fatal(err)
	}
	if _ = again.Body.Close(); again.StatusCode != http.StatusBadRequest {
		t.Errorf("taken back, the application gets another token: %s", again.Status)
	}
}
