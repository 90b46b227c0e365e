package web

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"tombolo/access"
	"tombolo/access/launch"
	"tombolo/access/oauth"
	"tombolo/fhir"
	"tombolo/gather"
	"tombolo/policy"
	"tombolo/sim/cast"
)

type fakeLooks struct{}

func (fakeLooks) WhoLooked(context.Context, *access.Session, string) ([]Look, error) {
	return []Look{
		{At: today.Add(-3 * time.Hour), Who: "Dr Helen Marsh", Role: "General practitioner", Organisation: "Hilltop Surgery", Why: "To care for you", What: "Whole record"},
		{At: today.Add(-50 * time.Hour), Who: "Dr Femi Ade", Role: "Hospital doctor", Organisation: "Severn Acute Trust", Why: "Emergency", What: "Whole record", BrokeGlass: true},
	}, nil
}

type fakeDesk struct{}

func (fakeDesk) Desk(context.Context, *access.Session) (*DeskState, error) {
	return &DeskState{
		Lists: []CodeList{{Title: "Sexually transmitted disease", Version: "20260513", Codes: 412, Complete: true, Does: "for clinicians only"}, {Title: "Gender related issues", Version: "2026-11-22", Codes: 1, Does: "for clinicians only"}},
		Sources: []SourceState{
			{ID: "rx1-pas", Name: "Severn Acute Trust", Connector: "HL7 v2 over MLLP", Way: "sends", State: "ok", Last: today.Add(-time.Minute), Accepted: 1204, Rejected: 1, Page: true},
			{ID: "m85001-gp", Name: "Hilltop Surgery", Connector: "GP Connect", Way: "is asked", State: "failing", Problem: "no answer within 2 s, five times in a row: check the address and the certificate", Last: today.Add(-time.Hour)},
			{ID: "ry5-community", Name: "Severn Community Health", Connector: "CSV extract", Way: "sends", State: "silent", Problem: "nothing since yesterday's extract was due at 03:00"},
		},
		Quarantine: []Quarantined{{ID: "q-17", Source: "rx1-pas", Reason: "the message is cut off in the middle of a segment", Where: "segment 4, OBX", Owner: "Acute integration team", Since: today.Add(-26 * time.Hour), Bytes: 812}},
		Audit:      AuditState{OK: true, Entries: 5120, Head: "9f2c41d07ab3", Checked: today.Add(-5 * time.Minute)},
		Events:     40112, Followers: []Follower{{"mpi", 40112, 0}, {"locator", 40100, 12}},
		Locators: []LocatorState{{ID: "nrl", Name: "National Record Locator", State: "failing", Problem: "the locator answered Service Unavailable", Asked: true, Told: true, There: 1204, In: 12, Out: 1,
			Types: []RegisteredState{{"Clinical summary", 1200}, {"Mental health crisis plan", 4}}}}, Registered: []RegisteredState{{"North Mental Health", 17}},
		Stages: policy.StageLines(stagedRegion, today),
		Notices: []NoticeState{{System: "rx1-app", ID: "new-results", Owner: "Severn Acute Trust", State: "failing", Problem: "it answered 503 Service Unavailable", Events: 412, Waits: 9, Since: today.Add(-2 * time.Hour)},
			{System: "rx1-app", ID: "admissions", Owner: "Severn Acute Trust", State: "ok", Events: 12}},
		Jobs: []JobState{{System: "rx1-app", ID: "bn2c0vq7m4", What: "export", State: "ok", Progress: "patients: 12400 resources given", Done: 12400, Begun: today.Add(-time.Minute)},
			{System: "rx1-app", ID: "theatre-list", What: "SearchParameter", State: "ok", Progress: "type 1 of 2: 5200 resources looked at", Done: 5200},
			{System: "rx1-app", ID: "q5z0x8b1aa", What: "import", State: "failing", Progress: "Given up: the disk is nearly full", Done: 3, Begun: today.Add(-3 * time.Hour), Ended: today.Add(-2 * time.Hour)}},
	}, nil
}

// newSite serves the pages over the fixture.
func newSite(t testing.TB, records *fakeRecords) *httptest.Server {
	t.Helper()
	m := testAccess(t)
	return serve(t, Options{Records: records, Access: m, Apps: oauth.New(oauth.Options{Access: m}), Launches: launch.New(m, func(string) (string, error) { return "", nil }), Looks: fakeLooks{}, Desk: fakeDesk{}, Feeds: fakeDesk{}, Scope: fakeDesk{}, Plans: fakePlans{}, Identity: &fakeIdentity{}, Choices: &fakeChoices{}, Privacy: &fakePrivacy{}, Name: "Severn Shared Care Record", Now: func() time.Time { return today }})
}

// A reader is a browser without JavaScript.
type reader struct {
	t    testing.TB
	base string
	http.Client
}

func newReader(t testing.TB, srv *httptest.Server, user string) *reader {
	t.Helper()
	jar, _ := cookiejar.New(nil)
	r := &reader{t: t, base: srv.URL}
	r.Jar = jar
	if user != "" {
		if got := r.post("/sign-in", url.Values{"user": {user}}); got.status != http.StatusOK {
			t.Fatalf("sign-in as %s: got status %d", user, got.status)
		}
	}
	return r
}

// An answer is a page as it came.
type answer struct {
	status int
	path   string
	header http.Header
	body   string
}

func (r *reader) do(req *http.Request) answer {
	r.t.Helper()
	resp, err := r.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Request.URL.RequestURI(), resp.Header, string(body)}
}

func (r *reader) get(path string) answer {
	r.t.Helper()
	req, _ := http.NewRequest("GET", r.base+path, nil)
	return r.do(req)
}

func (r *reader) post(path string, form url.Values) answer {
	r.t.Helper()
	req, _ := http.NewRequest("POST", r.base+path, strings.NewReader(form.Encode()))
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Sec-Fetch-Site", "same-origin")
	return r.do(req)
}

func (a answer) wants(t testing.TB, words ...string) {
	t.Helper()
	for _, w := range words {
		if !strings.Contains(a.body, w) {
			t.Errorf("%s: want %q on the page; got\n%s", a.path, w, excerpt(a.body))
		}
	}
}

func (a answer) lacks(t testing.TB, words ...string) {
	t.Helper()
	for _, w := range words {
		if strings.Contains(a.body, w) {
			t.Errorf("%s: want no %q on the page", a.path, w)
		}
	}
}

func excerpt(s string) string {
	if i := strings.Index(s, "<main"); i >= 0 {
		s = s[i:]
	}
	return s[:min(len(s), 1500)]
}

func TestAPersonIsFoundByNumberAndNoNumberStandsInAnAddress(t *testing.T) {
	nhs := cast.Dozen(today)[0].NHS
	r := newReader(t, newSite(t, newFake()), "dr-marsh")
	got := r.post("/record", url.Values{"system": {fhir.SystemNHSNumber}, "value": {nhs[:3] + " " + nhs[3:6] + " " + nhs[6:]}})
	if got.status != 200 || got.path != "/record/person-1" {
		t.Errorf("got status %d at %s, want 200 at /record/person-1", got.status, got.path)
	}
	got.wants(t, "TAYLOR, Margaret Anne (Mrs)", "12-Mar-1948", "(78y)", "999 000 0107")
	r.get("/record/person-1?all=1").wants(t, "Likes to be called <strong>Peggy</strong>")
	if strings.Contains(got.path, nhs) {
		t.Errorf("the number stands in the address %s", got.path)
	}
	for _, bad := range []struct{ value, want string }{
		{"9990000104", "check digit is wrong"}, {"999", "has 10 digits"}, {"1111111111", "one repeated digit"}, {"", "Enter a number"},
	} {
		got := r.post("/record", url.Values{"system": {fhir.SystemNHSNumber}, "value": {bad.value}})
		if got.status != 400 {
			t.Errorf("%q: got status %d, want 400", bad.value, got.status)
		}
		got.wants(t, bad.want, "There is a problem")
	}
	got = r.post("/record", url.Values{"value": {cast.NHSNumber("999000999")}})
	if got.status != 404 {
		t.Errorf("an unknown number: got status %d, want 404", got.status)
	}
	got.wants(t, "No record was found with that number that you can open")
}

func TestWithoutJavaScriptTheCompletePageIsOneRefreshAway(t *testing.T) {
	f := newFake()
	f.step = make(chan struct{})
	r := newReader(t, newSite(t, f), "dr-marsh")
	first := r.get("/record/person-1")
	first.wants(t, "TAYLOR, Margaret", "Asking", `<noscript><meta http-equiv="refresh" content="0; url=/record/person-1?all=1&amp;view=`)
	first.lacks(t, "Allergy to penicillin")
	_, rest, _ := strings.Cut(first.body, `content="0; url=`)
	path, _, _ := strings.Cut(rest, `"`)
	close(f.step) // from here on the sources answer
	whole := r.get(strings.ReplaceAll(path, "&amp;", "&"))
	whole.wants(t, "Allergy to penicillin", "also from", "5 of 6 sources answered. Severn Ambulance Service did not answer within 2 s.", "Ramipril", "Conflict",
		"Haemoglobin estimation", "115 to 165", "Low", "ReSPECT form")
	whole.lacks(t, `http-equiv="refresh"`, "Asking", "data-events")

	filtered := r.post("/record/person-1/search", url.Values{"q": {"Metformin"}, "view": {between(path, "view=", "")}})
	filtered.wants(t, "Metformin 500mg tablets", "that contain “Metformin”", "hidden by the search")
	filtered.lacks(t, "Full blood count")
	if strings.Contains(filtered.path, "Metformin") {
		t.Errorf("what was searched for stands in the address %s", filtered.path)
	}
}

func between(s, a, b string) string {
	_, s, _ = strings.Cut(s, a)
	if b != "" {
		s, _, _ = strings.Cut(s, b)
	}
	return s
}

func TestTheEventStreamFillsTheRecordLaneByLane(t *testing.T) {
	f := newFake()
	f.step = make(chan struct{})
	r := newReader(t, newSite(t, f), "dr-marsh")
	path := between(r.get("/record/person-1").body, `data-events="`, `"`)
	resp, err := r.Get(r.base + strings.ReplaceAll(path, "&amp;", "&"))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if got := resp.Header.Get("Content-Type"); got != "text/event-stream" {
		t.Errorf("got content type %q", got)
	}
	close(f.step) // from here on the sources answer
	last := map[string]string{}
	var event string
	done := ""
	sc := bufio.NewScanner(io.LimitReader(resp.Body, 32<<20))
	sc.Buffer(nil, 8<<20)
	for sc.Scan() {
		if e, ok := strings.CutPrefix(sc.Text(), "event: "); ok {
			event = e
		}
		if d, ok := strings.CutPrefix(sc.Text(), "data: "); ok {
			switch event {
			case "done":
				done = d
			case "part":
				var p part
				if err := json.Unmarshal([]byte(d), &p); err != nil {
					t.Fatal(err)
				}
				last[p.ID] = p.HTML
			}
		}
	}
	if !strings.HasPrefix(done, "5 of 6 sources answered.") {
		t.Errorf("got the end %q", done)
	}
	for id, want := range map[string]string{"strip": "5 of 6", "alerts": "Allergy to penicillin", "s-medications": "Ramipril", "nav-list": "incomplete"} {
		if !strings.Contains(last[id], want) {
			t.Errorf("%s: want %q in its last version, got %s", id, want, last[id])
		}
	}
	other := newReader(t, &httptest.Server{URL: r.base}, "reception")
	if got := other.get(strings.ReplaceAll(path, "&amp;", "&")); got.status != 204 || got.body != "" {
		t.Errorf("somebody else's stream: got status %d and %d bytes, want 204 and none", got.status, len(got.body))
	}
}

func TestARefusalIsExactlyTheNotFoundPage(t *testing.T) {
	r := newReader(t, newSite(t, newFake()), "reception")
	refused, absent, odd := r.get("/record/person-daniel"), r.get("/record/nobody-at-all"), r.get("/record/person-daniel/timeline")
	if refused.status != 404 || refused.body != absent.body || odd.body != absent.body {
		t.Errorf("got %d, want 404 and the same bytes as for somebody who does not exist", refused.status)
	}
	for _, h := range []string{"Date", "Content-Length"} {
		refused.header.Del(h)
		absent.header.Del(h)
	}
	for h := range refused.header {
		if refused.header.Get(h) != absent.header.Get(h) {
			t.Errorf("header %s differs: %q and %q", h, refused.header.Get(h), absent.header.Get(h))
		}
	}
	if got := r.post("/record/emergency", url.Values{"system": {fhir.SystemNHSNumber}, "value": {"9990000778"}, "reason": {"emergency"}, "words": {"found unconscious"}, "confirm": {"OPEN"}}); got.status != 404 || got.body != absent.body {
		t.Errorf("break-glass by a role that may not: got %d", got.status)
	}
}

func TestBreakingTheGlassTakesAReasonWordsAndATypedConfirmation(t *testing.T) {
	f := newFake()
	daniel := f.numberOf(t, "person-daniel")
	r := newReader(t, newSite(t, f), "dr-marsh")
	if got := r.get("/record/person-daniel"); got.status != 404 {
		t.Errorf("the record of somebody who objects: got status %d, want 404", got.status)
	}
	// Whoever is looked for and not found, the same is offered.
	objects, nobody := r.post("/record", url.Values{"value": {daniel}}), r.post("/record", url.Values{"value": {"9999999018"}})
	if objects.status != 404 || strings.ReplaceAll(objects.body, daniel, "#") != strings.ReplaceAll(nobody.body, "9999999018", "#") {
		t.Errorf("got %d, and a page that tells somebody who objects from somebody unknown", objects.status)
	}
	objects.wants(t, "Is this an emergency?", "privacy officer is told")
	objects.lacks(t, "Daniel", "OSEI")
	for name, v := range map[string]url.Values{
		"no reason":       {"words": {"found unconscious"}, "confirm": {"OPEN"}},
		"no words":        {"reason": {"emergency"}, "confirm": {"OPEN"}},
		"no confirmation": {"reason": {"emergency"}, "words": {"found unconscious"}},
		"no such reason":  {"reason": {"curiosity"}, "words": {"found unconscious"}, "confirm": {"OPEN"}},
		"no scope":        {"reason": {"emergency"}, "words": {"found unconscious"}, "confirm": {"OPEN"}, "scope": {""}},
	} {
		if !v.Has("scope") {
			v.Set("scope", "all")
		}
		v.Set("value", daniel)
		v.Set("system", fhir.SystemNHSNumber)
		if got := r.post("/record/emergency", v); got.status != 400 || !strings.Contains(got.body, "There is a problem") {
			t.Errorf("%s: got status %d", name, got.status)
		}
		if got := r.get("/record/person-daniel"); got.status != 404 {
			t.Errorf("%s: the record opened", name)
		}
	}
	full := url.Values{"system": {fhir.SystemNHSNumber}, "value": {daniel}, "reason": {"emergency"}, "words": {"found unconscious"}, "confirm": {"OPEN"}, "scope": {"all"}}
	got := r.post("/record/emergency", full)
	if got.status != 200 || got.path != "/record/person-daniel" {
		t.Errorf("got status %d at %s", got.status, got.path)
	}
	got.wants(t, "OSEI, Daniel Kwame (Mr)", "Emergency access")
	if got := r.get("/record/person-1"); strings.Contains(got.body, "Emergency access") {
		t.Error("the emergency reached another person's record")
	}
	full.Set("value", "9999999018")
	if got := r.post("/record/emergency", full); got.status != 404 {
		t.Errorf("an emergency about nobody: got status %d", got.status)
	}
}

func (f *fakeRecords) numberOf(t *testing.T, person string) string {
	t.Helper()
	for number, p := range f.numbers {
		if p == person {
			return number
		}
	}
	t.Fatalf("%s has no number", person)
	return ""
}

func TestEveryPageCarriesTheSecurityHeaders(t *testing.T) {
	srv := newSite(t, newFake())
	r := newReader(t, srv, "dr-marsh")
	for _, path := range []string{"/", "/sign-in", "/record", "/record/person-1", "/record/person-1/timeline", "/record/nobody", "/desk", "/nothing-here", authorize("diary", "https://diary.example/back", "patient/*.rs"), "/oauth/consent/over", "/oauth/authorize?client_id=nobody", "/launch?nhs=1"} {
		h := r.get(path).header
		csp := h.Get("Content-Security-Policy")
		if strings.Contains(csp, "unsafe") || !strings.Contains(csp, "default-src 'none'") || !strings.Contains(csp, "frame-ancestors 'none'") {
			t.Errorf("%s: got Content-Security-Policy %q", path, csp)
		}
		for name, want := range map[string]string{"Referrer-Policy": "no-referrer", "X-Content-Type-Options": "nosniff", "Cache-Control": "no-store", "X-Frame-Options": "DENY"} {
			if got := h.Get(name); got != want {
				t.Errorf("%s: got %s %q, want %q", path, name, got, want)
			}
		}
	}
	page := r.get("/record/person-1").body
	for _, inline := range []string{"<style", " style=", " onclick=", "<script>"} {
		if strings.Contains(page, inline) {
			t.Errorf("the record has %q, which its own policy forbids", inline)
		}
	}
	req, _ := http.NewRequest("POST", srv.URL+"/record", strings.NewReader("value=1"))
	req.Header.Set("Sec-Fetch-Site", "cross-site")
	if got := r.do(req); got.status != 403 {
		t.Errorf("a form from another site: got status %d, want 403", got.status)
	}
	var cookie *http.Cookie
	jar := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := jar.PostForm(srv.URL+"/sign-in", url.Values{"user": {"dr-marsh"}})
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if len(resp.Cookies()) != 1 {
		t.Fatalf("got %d cookies, want 1", len(resp.Cookies()))
	}
	if cookie = resp.Cookies()[0]; !cookie.HttpOnly || cookie.SameSite != http.SameSiteLaxMode {
		t.Errorf("got cookie %v, want HttpOnly and SameSite=Lax", cookie)
	}
}

func TestNobodySignedInIsSentToSignInAndBack(t *testing.T) {
	srv := newSite(t, newFake())
	r := newReader(t, srv, "")
	got := r.get("/record/person-1")
	if got.path != "/sign-in?next=%2Frecord%2Fperson-1" {
		t.Errorf("got %s", got.path)
	}
	got.wants(t, "Dr Helen Marsh", "General practitioner", "Hilltop Surgery")
	if got := r.post("/sign-in", url.Values{"user": {"dr-marsh"}, "next": {"/record/person-1"}}); got.path != "/record/person-1" {
		t.Errorf("after signing in: got %s", got.path)
	}
	for _, next := range []string{"//evil.example/x", "///evil.example", "/\\evil.example", "\\\\evil.example", "/\t/evil.example", "/\n/evil.example", "/\r/evil.example", "https://evil.example", "https:evil.example", "HTTPS:/evil.example", "javascript:alert(1)", "data:,x", "evil.example", "@evil.example", "?x=//evil.example", "", "/sign-out"} {
		if got := r.post("/sign-in", url.Values{"user": {"dr-marsh"}, "next": {next}}); got.path != "/record" {
			t.Errorf("%q as next: got %s, want the user's own first page", next, got.path)
		}
	}
	for _, next := range []string{"/..//evil.example", "/./\u2215evil.example", "/%2f%2fevil.example", "/%5cevil.example"} { // paths of this site, if none that there is
		if got := r.post("/sign-in", url.Values{"user": {"dr-marsh"}, "next": {next}}); !strings.HasPrefix(got.path, "/") || strings.HasPrefix(got.path, "//") || got.status != 404 {
			t.Errorf("%q as next: got %d at %s", next, got.status, got.path)
		}
	}
	if got := r.post("/sign-in", url.Values{"token": {"wrong"}}); got.status != 401 {
		t.Errorf("a wrong token: got status %d, want 401", got.status)
	}
	r.post("/sign-in", url.Values{"user": {"dr-marsh"}})
	r.post("/sign-out", nil)
	if got := r.get("/record"); !strings.HasPrefix(got.path, "/sign-in") {
		t.Errorf("after signing out: got %s", got.path)
	}
}

func TestRolesSeeTheirOwnPagesOnly(t *testing.T) {
	srv := newSite(t, newFake())
	ops := newReader(t, srv, "ops")
	ops.get("/desk").wants(t, "Hilltop Surgery", "Failing", "26 hours", "Acute integration team", "segment 4, OBX", "Whole")
	if got := ops.get("/record/person-1"); got.status != 403 {
		t.Errorf("an operator at a record: got status %d, want 403", got.status)
	}
	if got := newReader(t, srv, "dr-marsh").get("/desk"); got.status != 404 {
		t.Errorf("a doctor at the desk: got status %d, want 404", got.status)
	}
	me := newReader(t, srv, "margaret")
	if got := me.get("/record/person-1"); got.path != "/me" {
		t.Errorf("a citizen at a record: got %s, want /me", got.path)
	}
	page := me.get("/me")
	page.wants(t, "Your record", "Medicines", "Allergies and bad reactions", "Who has looked", "Dr Femi Ade", "Emergency access", "We could not reach Severn Ambulance Service")
	page.lacks(t, "SNOMED", "91936005")
	if got := newReader(t, srv, "dr-marsh").get("/me"); got.status != 404 {
		t.Errorf("a doctor at /me: got status %d, want 404", got.status)
	}
}

func TestTheTimelineIsFilteredBySourceAndHeading(t *testing.T) {
	r := newReader(t, newSite(t, newFake()), "dr-marsh")
	all := r.get("/record/person-1/timeline")
	all.wants(t, "Admission, trauma and orthopaedics", "Type 2 diabetes mellitus", "TAYLOR, Margaret")
	if i, j := strings.Index(all.body, "Admission, trauma"), strings.Index(all.body, "Asthma"); i < 0 || j < i {
		t.Error("want the newest first")
	}
	one := r.get("/record/person-1/timeline?heading=problems&source=" + cast.Mental)
	one.wants(t, "Depressive disorder")
	one.lacks(t, "Type 2 diabetes mellitus", "Larch Ward")
}

func TestARestrictedPersonHasNoLocationAndADeathIsShown(t *testing.T) {
	r := newReader(t, newSite(t, newFake()), "dr-marsh")
	chloe := r.get("/record/person-chloe")
	chloe.wants(t, "BENNETT, Chloe (Ms)", "Location withheld")
	chloe.lacks(t, "Quay Road", "07700 900123", "GL99 4GH")
	r.get("/record/person-harold").wants(t, "Died", "08-Nov-2026", "(92y)")
	r.get("/record/person-george").wants(t, "was replaced", cast.Dozen(today)[1].OldNHS[0][6:])
}

func TestDocumentsAreServedSafelyOrNotAtAll(t *testing.T) {
	f := newFake()
	for id, d := range map[string]*gather.Document{
		"text":  {Title: "Letter: a/b \"c\"", ContentType: "text/plain", Data: []byte("Dear Dr Marsh, £5 caf\xe9 <script>alert(1)</script>")},
		"pdf":   {Title: "Plan", ContentType: "application/pdf", Data: []byte("%PDF-1.4\n%%EOF")},
		"lie":   {Title: "Plan", ContentType: "application/pdf", Data: []byte("<html><script>alert(1)</script>")},
		"html":  {Title: "<b>Report", ContentType: "text/html; charset=utf-8", Data: []byte(`<h1 onclick="x()">Report</h1><script>alert(1)</script><img src=x onerror=alert(1)><a href="javascript:x">y</a><iframe src="//evil"></iframe><table><tr><td>ok</td></tr></table>`)},
		"svg":   {Title: "x", ContentType: "image/svg+xml", Data: []byte("<svg onload=alert(1)>")},
		"empty": {Title: "x", ContentType: "text/plain"},
	} {
		f.docs["person-1/"+id] = d
	}
	r := newReader(t, newSite(t, f), "dr-marsh")
	text := r.get("/record/person-1/document/text")
	if got := text.header.Get("Content-Type"); got != "text/plain; charset=utf-8" {
		t.Errorf("text: got content type %q", got)
	}
	text.wants(t, "café")
	if got := text.header.Get("Content-Disposition"); got != "inline; filename=Letter-a-b-c.txt" {
		t.Errorf("text: got disposition %q", got)
	}
	html := r.get("/record/person-1/document/html")
	html.wants(t, "<h1>Report</h1>", "<td>ok</td>", "<title>&lt;b&gt;Report</title>")
	html.lacks(t, "script", "onerror", "onclick", "javascript", "iframe", "evil")
	for _, got := range []answer{text, html, r.get("/record/person-1/document/pdf")} {
		if got.status != 200 || got.header.Get("X-Content-Type-Options") != "nosniff" || got.header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: got status %d, headers %v", got.path, got.status, got.header)
		}
		if csp := got.header.Get("Content-Security-Policy"); !strings.Contains(csp, "default-src 'none'") || strings.Contains(csp, "script-src") {
			t.Errorf("%s: got policy %q", got.path, csp)
		}
	}
	for _, got := range []answer{text, html} { // an origin of its own, without scripts
		if csp := got.header.Get("Content-Security-Policy"); !strings.HasPrefix(csp, "sandbox; ") {
			t.Errorf("%s: got policy %q", got.path, csp)
		}
	}
	for _, id := range []string{"lie", "svg", "empty"} {
		if got := r.get("/record/person-1/document/" + id); got.status != 415 || strings.Contains(got.body, "alert(1)") {
			t.Errorf("%s: got status %d, want 415 and nothing of its content", id, got.status)
		}
	}
	if got := r.get("/record/person-1/document/none"); got.status != 404 {
		t.Errorf("no such document: got status %d", got.status)
	}
	if got := newReader(t, &httptest.Server{URL: r.base}, "margaret").get("/me/document/text"); got.status != 200 {
		t.Errorf("a citizen's own document: got status %d", got.status)
	}
}
