package world

import (
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tombolo/access/launch"
	"tombolo/fhir"
	"tombolo/sim"
	"tombolo/sim/cast"
)

var eprKey = []byte("0123456789abcdef0123456789abcdef")

// launchWorld is Severn with an EPR that launches by encrypted addresses, and one that launches as SMART says: Severn itself.
func launchWorld(t *testing.T) *World {
	t.Helper()
	at, release, err := sim.ReserveAddress()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(release)
	w, err := Start(nonTestContext, Options{Listen: at, Secret: func(name string) string {
		if name == "EPR_KEY" {
			return base64.StdEncoding.EncodeToString(eprKey)
		}
		return ""
	}, Also: fmt.Sprintf(`
limits: {attempts: 100000}
identity:
  clients:
    - {id: severn-viewer, name: The viewer, kind: public, redirects: ["http://%[1]s/launch/back"], launch: "http://%[1]s/launch", scopes: [launch, openid, fhirUser, patient/Patient.r]}
  launchers:
    - {id: epr, name: The trust's EPR, organisation: RX1, key: EPR_KEY, users: {ADEF: doctor}}
    - {id: ward, name: The ward's system, organisation: RX1, key: EPR_KEY}
    - {id: smart-epr, name: An EPR that speaks SMART, organisation: RX1, fhir: "http://%[1]s/fhir", client: severn-viewer, users: {doctor: doctor}}
`, at)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.Close() })
	return w
}

func launchOf(t *testing.T, launcher string, p cast.Person, change ...string) string {
	t.Helper()
	v := url.Values{"patient": {fhir.SystemNHSNumber + "|" + p.NHS}, "birthdate": {p.Born}, "location": {fhir.SystemODS + "|RX1"}, "practitioner": {"urn:epr|ADEF"}, "exp": {strconv.FormatInt(time.Now().Add(2*time.Minute).Unix(), 10)}}
	for i := 0; i < len(change); i += 2 {
		v.Set(change[i], change[i+1])
	}
	enc, err := launch.Encrypt(launcher, eprKey, v)
	if err != nil {
		t.Fatal(err)
	}
	return "/launch?" + url.Values{"enc": {enc}}.Encode()
}

// isRefused holds an answer to the one page of refused launches, which leads to no search and opens no session.
func isRefused(t *testing.T, b *browser, resp *http.Response, page, what string) {
	t.Helper()
	if resp.StatusCode != http.StatusForbidden || !strings.Contains(page, "could not be opened") || strings.Contains(page, "<form") && strings.Contains(page, "/record") {
		t.Errorf("%s: %d at %s", what, resp.StatusCode, resp.Request.URL.Path)
	}
	if len(b.Jar.Cookies(resp.Request.URL)) > 0 {
		t.Errorf("%s: a session was opened", what)
	}
}

func TestALaunchOpensTheOneRecordAndNoOther(t *testing.T) {
	w := launchWorld(t)
	margaret, chloe := w.Person(cast.Main), w.Person("chloe")
	b := newBrowser(t, w.URL())
	address := launchOf(t, "epr", margaret)
	resp, page := b.do("GET", address, nil)
	record := resp.Request.URL.Path
	if resp.StatusCode != 200 || !strings.HasPrefix(record, "/record/") || !strings.Contains(page, strings.ToUpper(margaret.Family)) || !strings.Contains(page, "Femi Ade") {
		t.Fatalf("%d at %s", resp.StatusCode, record)
	}
	if resp, _ := b.do("GET", "/record", nil); resp.Request.URL.Path != record {
		t.Errorf("there is a way to look for somebody else: %s", resp.Request.URL.Path)
	}
	if resp, _ := b.do("POST", "/record", url.Values{"system": {fhir.SystemNHSNumber}, "value": {chloe.NHS}}); resp.StatusCode != 404 {
		t.Errorf("somebody else was found: %d", resp.StatusCode)
	}
	// The doctor's own session, which opens whom the doctor may, and the launched one, which does not.
	own := newBrowser(t, w.URL())
	own.do("POST", "/sign-in", url.Values{"user": {"doctor"}})
	resp, _ = own.do("POST", "/record", url.Values{"system": {fhir.SystemNHSNumber}, "value": {chloe.NHS}})
	other := resp.Request.URL.Path
	if !strings.HasPrefix(other, "/record/") {
		t.Fatalf("the doctor does not open the other record: %s", other)
	}
	s1, p1 := b.do("GET", other, nil)
	s2, p2 := b.do("GET", "/record/nobody", nil)
	if s1.StatusCode != 404 || s1.StatusCode != s2.StatusCode || p1 != p2 {
		t.Errorf("another's record: %d, nobody's %d", s1.StatusCode, s2.StatusCode)
	}
	// A second launch closes the first's view.
	first := newBrowser(t, w.URL()) // with what the browser had before, in a tab that was not told
	first.Jar.SetCookies(resp.Request.URL, b.Jar.Cookies(resp.Request.URL))
	if resp, _ := first.do("GET", record, nil); resp.StatusCode != 200 || resp.Request.URL.Path != record {
		t.Fatalf("the view is not open: %d at %s", resp.StatusCode, resp.Request.URL)
	}
	b.do("GET", launchOf(t, "epr", chloe), nil)
	if resp, _ := first.do("GET", record, nil); resp.Request.URL.Path != "/sign-in" {
		t.Errorf("the view before is still open beside the new one: %d at %s", resp.StatusCode, resp.Request.URL)
	}
}

func TestLaunchesThatAreRefusedLeadNowhereAndAreAudited(t *testing.T) {
	w := launchWorld(t)
	margaret, daniel := w.Person(cast.Main), w.Person("daniel")
	used := launchOf(t, "epr", margaret)
	newBrowser(t, w.URL()).do("GET", used, nil)
	edited := launchOf(t, "epr", margaret)
	for what, address := range map[string]string{
		"used before": used, "edited": edited[:len(edited)-3] + "AAA", "expired": launchOf(t, "epr", margaret, "exp", strconv.FormatInt(time.Now().Add(-time.Minute).Unix(), 10)),
		"another date of birth": launchOf(t, "epr", margaret, "birthdate", "1948-03-13"), "an unknown user": launchOf(t, "epr", margaret, "practitioner", "x|NOBODY"),
		"a person who objects": launchOf(t, "epr", daniel), "nobody known": launchOf(t, "epr", margaret, "patient", fhir.SystemNHSNumber+"|"+cast.NHSNumber("999999901")),
		"a number in the address": "/launch?patient=" + url.QueryEscape(fhir.SystemNHSNumber+"|"+margaret.NHS) + "&birthdate=" + margaret.Born, "a number beside a good launch": launchOf(t, "epr", margaret) + "&patient=" + url.QueryEscape(fhir.SystemNHSNumber+"|"+margaret.NHS), "Interweave's way": "/launch?pat.nhs=" + margaret.NHS,
		"nothing": "/launch", "an unknown SMART system": "/launch?iss=https://attacker.example/fhir&launch=x", "a callback nobody began": "/launch/back?state=x&code=y",
	} {
		b := newBrowser(t, w.URL())
		resp, page := b.do("GET", address, nil)
		isRefused(t, b, resp, page, what)
		for _, secret := range []string{margaret.NHS, margaret.Family, margaret.Born} {
			if strings.Contains(page, secret) {
				t.Errorf("%s: the page tells %q", what, secret)
			}
		}
	}
	found := 0
	for e, err := range w.Node.Audit.All(t.Context(), 0, 0) {
		if err != nil {
			t.Fatal(err)
		}
		res, err := e.Resource()
		if err != nil {
			t.Fatal(err)
		}
		raw := string(res.Raw())
		if strings.Contains(raw, "launch: ") && strings.Contains(raw, "refused") {
			found++
			if strings.Contains(raw, margaret.NHS) || strings.Contains(raw, margaret.Born) {
				t.Error("who is meant stands in a reason")
			}
		}
	}
	if found < 13 {
		t.Errorf("%d refused launches are audited, want 13", found)
	}
	// What was edited, and what is about another person than its number, is no mistake: the privacy officer is told.
	c := &checker{w: w, ctx: t.Context(), out: io.Discard}
	for start := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		_, _, page, err := c.http("GET", "/privacy", "privacy", "", nil)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(page), "A launch that somebody meddled with") && strings.Contains(string(page), "launcher epr") {
			break
		}
		if time.Since(start) > time.Minute {
			t.Fatal("a minute later nobody was told of launches that somebody meddled with")
		}
	}
}

// A thousand who replay one launch at once are let in once, over HTTP as well.
func TestOfAThousandReplaysOfALaunchOneOpensTheRecord(t *testing.T) {
	w := launchWorld(t)
	address := w.URL() + launchOf(t, "epr", w.Person(cast.Main))
	client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	var in, refused atomic.Int32
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			for range 50 {
				resp, err := client.Get(address)
				if err != nil {
					t.Error(err)
					return
				}
				_, _ = io.Copy(io.Discard, resp.Body)
				_ = resp.Body.Close()
				switch resp.StatusCode {
				case http.StatusSeeOther:
					in.Add(1)
				case http.StatusForbidden:
					refused.Add(1)
				default:
					t.Errorf("%d", resp.StatusCode)
				}
			}
		})
	}
	if all.Wait(); in.Load() != 1 || refused.Load() != 999 {
		t.Errorf("%d were let in and %d refused", in.Load(), refused.Load())
	}
}

func TestWhoIsLaunchedWithoutANameSignsInFirst(t *testing.T) {
	w := launchWorld(t)
	margaret := w.Person(cast.Main)
	b := newBrowser(t, w.URL())
	resp, _ := b.do("GET", launchOf(t, "ward", margaret), nil)
	next := resp.Request.URL.Query().Get("next")
	if resp.Request.URL.Path != "/sign-in" || strings.Contains(resp.Request.URL.String(), margaret.NHS) {
		t.Fatalf("at %s", resp.Request.URL)
	}
	resp, page := b.do("POST", "/sign-in", url.Values{"user": {"doctor"}, "next": {next}})
	if !strings.HasPrefix(resp.Request.URL.Path, "/record/") || !strings.Contains(page, strings.ToUpper(margaret.Family)) {
		t.Fatalf("%d at %s", resp.StatusCode, resp.Request.URL.Path)
	}
	if resp, _ := b.do("GET", "/record", nil); !strings.HasPrefix(resp.Request.URL.Path, "/record/") {
		t.Error("the session is not held to the one person")
	}
	gp := newBrowser(t, w.URL())
	resp, _ = gp.do("GET", launchOf(t, "ward", margaret), nil)
	resp, _ = gp.do("POST", "/sign-in", url.Values{"user": {"gp"}, "next": {resp.Request.URL.Query().Get("next")}})
	if resp.StatusCode != http.StatusForbidden {
		t.Errorf("a user of another organisation took the launch: %d", resp.StatusCode)
	}
}

// The EPR is Severn itself: it launches the viewer, an application of its own, in the context of the open record.
func TestAnEPRThatSpeaksSMARTLaunchesTheViewer(t *testing.T) {
	w := launchWorld(t)
	margaret := w.Person(cast.Main)
	b := newBrowser(t, w.URL())
	b.do("POST", "/sign-in", url.Values{"user": {"doctor"}})
	resp, _ := b.do("POST", "/record", url.Values{"system": {fhir.SystemNHSNumber}, "value": {margaret.NHS}})
	record := resp.Request.URL.Path
	resp, page := b.do("GET", record+"?all=1", nil)
	if !strings.Contains(page, "Open in The viewer") || !strings.Contains(resp.Header.Get("Content-Security-Policy"), "form-action 'self' http://"+w.Node.Addr()) {
		t.Errorf("the application is not offered, or the page's policy stops it")
	}
	resp, page = b.do("POST", record+"/app", url.Values{"app": {"severn-viewer"}})
	if resp.StatusCode != 200 || !strings.HasPrefix(resp.Request.URL.Path, "/oauth/consent/") {
		t.Fatalf("%d at %s: %s", resp.StatusCode, resp.Request.URL, page)
	}
	resp, page = b.do("POST", resp.Request.URL.Path, url.Values{"answer": {"allow"}})
	if resp.StatusCode != 200 || resp.Request.URL.Path != record || !strings.Contains(page, strings.ToUpper(margaret.Family)) {
		t.Fatalf("%d at %s", resp.StatusCode, resp.Request.URL)
	}
	if resp, _ := b.do("GET", "/record", nil); resp.Request.URL.Path != record {
		t.Error("the launched session is not held to the one person")
	}
}

// Nothing that gets somebody in, and nobody's number, is written to the log, whatever goes wrong; nor by the libraries that log by themselves.
func TestNeitherTokensNorNumbersAreLogged(t *testing.T) {
	var log lockedBuffer
	was := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	defer slog.SetDefault(was)
	w, err := Start(nonTestContext, Options{Also: appsYAML, Logger: slog.Default()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.Close() })
	margaret := w.Person(cast.Main)
	given := letIn(t, w, "openid launch/patient patient/*.rs", margaret, nil)
	access, _ := given["access_token"].(string)
	get(t, w, "/fhir/Condition?patient="+margaret.NHS, access)
	b := newBrowser(t, w.URL())
	b.do("GET", "/launch?pat.nhs="+margaret.NHS, nil)
	b.do("POST", "/oauth/token", url.Values{"grant_type": {"authorization_code"}, "client_id": {"results-app"}, "code": {"secret-code-of-somebody"}, "redirect_uri": {"https://results.example/back"}, "code_verifier": {codeVerifier}})
	b.do("POST", "/oauth/token", url.Values{"grant_type": {"refresh_token"}, "client_id": {"results-app"}, "refresh_token": {"secret-refresh-of-somebody"}})
	b.do("POST", "/oauth/revoke", url.Values{"client_id": {"nobody"}, "token": {access}})
	b.do("GET", "/oauth/userinfo", nil)
	for _, secret := range []string{access, "secret-code", "secret-refresh", codeVerifier, margaret.NHS, margaret.Family} {
		if strings.Contains(log.String(), secret) {
			t.Errorf("the log tells %q:\n%s", secret, log.String())
		}
	}
	if log.String() == "" {
		t.Error("nothing was logged at all: is the logger asked?")
	}
}

type lockedBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}
func (l *lockedBuffer) String() string { l.mu.Lock(); defer l.mu.Unlock(); return l.b.String() }
