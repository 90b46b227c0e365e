package web

import (
	"context"
	"flag"
	"fmt"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"tombolo/fhir"
)

var shots = flag.String("shots", "", "folder into which every page is photographed, wide and narrow")

// browser starts a headless Chromium, or skips the test where there is none.
func browser(t *testing.T, width, height int) context.Context {
	t.Helper()
	path := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "chrome"} {
		if p, err := exec.LookPath(name); err == nil {
			path = p
			break
		}
	}
	if path == "" && os.Getenv("TOMBOLO_CI") != "" {
		t.Fatal("no Chromium on this machine: in CI the pages must be seen in a browser (bash .ci/tools installs it)")
	}
	if path == "" {
		t.Skip("SKIPPED: no Chromium on this machine, so the pages were not seen in a browser")
	}
	if testing.Short() {
		t.Skip("SKIPPED: -short, so the pages were not seen in a browser")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 4*time.Minute)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewExecAllocator(ctx, chromedp.ExecPath(path), chromedp.Headless, chromedp.NoSandbox, chromedp.DisableGPU, chromedp.NoFirstRun,
		chromedp.NoDefaultBrowserCheck, chromedp.Flag("disable-background-networking", true), chromedp.Flag("hide-scrollbars", true), chromedp.WindowSize(width, height), chromedp.UserDataDir(t.TempDir()))
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	must(t, chromedp.Do(ctx, chromedp.EmulateViewport(int64(width), int64(height)))) // a window has a least width; a viewport has none
	return ctx
}

func enter(t *testing.T, ctx context.Context, srv *httptest.Server, user string) {
	t.Helper()
	must(t, chromedp.Do(ctx, chromedp.Navigate(srv.URL+"/sign-in")))
	_, err := chromedp.RunResponse(ctx, chromedp.Click(`form:has(input[value="`+user+`"]) button`))
	must(t, err)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// eval runs an expression in the page.
func eval[T any](t *testing.T, ctx context.Context, js string) T {
	t.Helper()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T](js))
	must(t, err)
	return v
}

// until waits for an expression to be true in the page.
func until(t *testing.T, ctx context.Context, js string) {
	t.Helper()
	for range 400 {
		if eval[bool](t, ctx, js) {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("waiting for %s: %v", js, ctx.Err())
		case <-time.After(20 * time.Millisecond): // another process is at work: there is no clock of ours to turn
		}
	}
	t.Fatalf("it never came true in the page: %s", js)
}

func TestInABrowserTheRecordFillsLaneByLane(t *testing.T) {
	ctx := browser(t, 1280, 900)
	f := newFake()
	f.step = make(chan struct{})
	srv := newSite(t, f)
	enter(t, ctx, srv, "dr-marsh")
	must(t, chromedp.Do(ctx, chromedp.Navigate(srv.URL+"/record/person-1")))
	name, err := chromedp.Run(ctx, chromedp.Text(".t-banner__name"))
	must(t, err)
	if !strings.HasPrefix(name, "TAYLOR, Margaret Anne (Mrs)") {
		t.Errorf("the banner says %q before any source has answered", name)
	}
	until(t, ctx, `document.querySelectorAll('.t-chip--asking').length === 6`)
	if got := eval[string](t, ctx, `document.querySelector('#alerts dd').textContent`); !strings.Contains(got, "Asking") {
		t.Errorf("allergies are told as %q while nobody has answered", got)
	}
	f.step <- struct{}{}
	until(t, ctx, `document.querySelectorAll('.t-chip--asking').length === 5`)
	until(t, ctx, `document.getElementById('alerts').textContent.includes('Allergy to penicillin')`)
	until(t, ctx, `document.getElementById('s-medications').textContent.includes('Metformin')`)
	if eval[bool](t, ctx, `document.getElementById('s-procedures').textContent.includes('hip')`) {
		t.Error("the acute trust's procedure is there before it has answered")
	}
	close(f.step)
	until(t, ctx, `document.querySelector('.t-record').dataset.complete === 'yes'`)
	for id, want := range map[string]string{"strip": "5 of 6 sources answered", "s-procedures": "hip joint", "s-allergies": "also from", "nav-list": "Medications", "banner": "Peggy"} {
		until(t, ctx, fmt.Sprintf(`document.getElementById(%q).textContent.includes(%q)`, id, want))
	}
	if got := eval[int](t, ctx, `document.querySelectorAll('.t-chip--asking').length`); got != 0 {
		t.Errorf("%d sources are still being asked at the end", got)
	}
}

func TestInABrowserASectionBeingReadWaitsToBeShown(t *testing.T) {
	ctx := browser(t, 1280, 900)
	f := newFake()
	f.step = make(chan struct{})
	srv := newSite(t, f)
	enter(t, ctx, srv, "dr-marsh")
	must(t, chromedp.Do(ctx, chromedp.Navigate(srv.URL+"/record/person-1")))
	until(t, ctx, `document.querySelectorAll('.t-chip--asking').length === 6`)
	eval[bool](t, ctx, `(window.dispatchEvent(new PointerEvent('pointerdown')), document.getElementById('s-problems').scrollIntoView(), true)`)
	before := eval[float64](t, ctx, `document.getElementById('s-problems').getBoundingClientRect().top`)
	close(f.step)
	until(t, ctx, `document.querySelector('.t-record').dataset.complete === 'yes'`)
	if got := eval[string](t, ctx, `document.getElementById('s-problems').textContent`); strings.Contains(got, "diabetes") {
		t.Error("the section that was being read filled by itself")
	}
	if after := eval[float64](t, ctx, `document.getElementById('s-problems').getBoundingClientRect().top`); after-before > 2 || before-after > 2 {
		t.Errorf("what was being read moved from %.0f to %.0f", before, after)
	}
	if !eval[bool](t, ctx, `!document.getElementById('more').hidden`) {
		t.Fatal("nothing says that there is more")
	}
	must(t, chromedp.Do(ctx, chromedp.Click("#more button")))
	until(t, ctx, `document.getElementById('s-problems').textContent.includes('diabetes')`)
}

func TestInABrowserSearchHidesWhatDoesNotMatch(t *testing.T) {
	ctx := browser(t, 1280, 900)
	srv := newSite(t, newFake())
	enter(t, ctx, srv, "dr-marsh")
	must(t, chromedp.Do(ctx, chromedp.Navigate(srv.URL+"/record/person-1?all=1")))
	must(t, chromedp.Do(ctx, chromedp.SendKeys("#q", "metformin")))
	until(t, ctx, `!document.getElementById('filtered').hidden`)
	shown := eval[string](t, ctx, `[...document.querySelectorAll('.t-line')].filter(l => !l.hidden).map(l => l.querySelector('.t-line__name').textContent).join()`)
	if shown != "Metformin 500mg tablets" {
		t.Errorf("got %q, want only metformin", shown)
	}
	if got := eval[string](t, ctx, `location.href`); strings.Contains(strings.ToLower(got), "metformin") {
		t.Errorf("what was searched for stands in the address %s", got)
	}
}

// authorize is the address to which an application sends its user, for leave to act for them. SMART App Launch 2.2 app-launch.html
func authorize(client, back, scopes string) string {
	return "/oauth/authorize?" + url.Values{"response_type": {"code"}, "client_id": {client}, "redirect_uri": {back}, "scope": {scopes}, "state": {"s"}, "aud": {"https://record.severn.example/fhir"},
		"code_challenge": {strings.Repeat("a", 43)}, "code_challenge_method": {"S256"}}.Encode()
}

func TestInABrowserNoPageIsWiderThanTheScreenAndNoScriptIsRefused(t *testing.T) {
	fake := newFake()
	srv := newSite(t, fake)
	daniel := fake.numberOf(t, "person-daniel")
	newReader(t, srv, "margaret").letsIn(authorize("diary", "https://diary.example/back", "openid fhirUser offline_access patient/Observation.rs patient/AllergyIntolerance.rs"), "")
	for _, width := range []int{1280, 390, 320} {
		t.Run(fmt.Sprint(width), func(t *testing.T) {
			ctx := browser(t, width, 900)
			for _, p := range []struct {
				user, path, name, click, fill string            // fill: what is written into #value before the click
				post                          map[string]string // where path is of a form
				h1                            string
			}{
				{user: "dr-marsh", path: "/", name: "home"}, {user: "dr-marsh", path: "/sign-in", name: "signin"}, {user: "dr-marsh", path: "/record", name: "find"}, {user: "dr-marsh", path: "/record/person-1?all=1", name: "record"}, {user: "dr-marsh", path: "/record/person-george?all=1", name: "george"},
				{user: "dr-marsh", path: "/record/person-1/timeline", name: "timeline"}, {user: "dr-marsh", path: "/record/person-1/trends", name: "trends"}, {user: "margaret", path: "/me/trends", name: "mytrends"}, {user: "dr-marsh", path: "/nothing", name: "problem"}, {user: "margaret", path: "/me", name: "me"},
				{user: "ops", path: "/desk", name: "desk"}, {user: "ops", path: "/desk/scope", name: "scope"}, {user: "dr-marsh", path: "/desk/plan/person-1", name: "plan"}, {user: "ops", path: "/desk/feeds/rx1-pas", name: "feed"}, {user: "leila", path: "/desk/identity", name: "identity"}, {user: "margaret", path: "/me/choices", name: "choices"},
				{user: "margaret", path: "/me/choices", name: "choice", click: `form[action="/me/choices"] button`},
				{user: "dr-marsh", path: "/record", name: "breakglass", post: map[string]string{"value": daniel, "system": fhir.SystemNHSNumber}, h1: "Find a person"},
				{user: "dr-marsh", path: "/record/emergency", name: "breakglass-wrong", post: map[string]string{"value": daniel, "system": fhir.SystemNHSNumber, "reason": "emergency"}, h1: "Open in an emergency"},
				{user: "dr-marsh", path: "/record/emergency", name: "breakglass-open", post: map[string]string{"value": daniel, "system": fhir.SystemNHSNumber, "reason": "emergency", "words": "found unconscious in the street", "confirm": "OPEN", "scope": "all"}},
				{user: "ines", path: "/privacy", name: "privacy", h1: "Who looked"}, {user: "ines", path: "/privacy", name: "privacy-search", post: map[string]string{"user": "doctor", "from": "2026-11-01"}, h1: "Who looked"},
				{user: "ines", path: "/privacy/choices/person-1", name: "privacy-choices"}, {user: "margaret", path: "/me/asked", name: "asked"},
				{user: "margaret", path: authorize("diary", "https://diary.example/back", "openid fhirUser offline_access patient/Observation.rs?category=laboratory patient/MedicationRequest.rs patient/AllergyIntolerance.rs"), name: "consent", h1: "Kidney Diary"},
				{user: "dr-marsh", path: authorize("rounds", "https://rounds.clinical-software.example/signed-in/back", "openid profile launch/patient online_access patient/*.rs user/DocumentReference.cud"), name: "consent-clinician", h1: "Ward Rounds"},
				{user: "dr-marsh", path: authorize("rounds", "https://rounds.clinical-software.example/signed-in/back", "launch/patient patient/*.rs"), name: "consent-wrong", fill: "9990009999", click: `button[value="allow"]`, h1: "Ward Rounds"},
				{user: "margaret", path: "/apps", name: "apps", h1: "let in"},
				{user: "margaret", path: "/oauth/consent/over", name: "consent-over", h1: "over"}, {user: "dr-marsh", path: "/launch?nhs=" + daniel, name: "launch-refused", h1: "could not be opened"},
				{user: "margaret", path: "/record", name: "not-allowed"}, {user: "margaret", path: "/oauth/authorize?client_id=nobody&response_type=code", name: "authorize-refused", h1: "not let in"},
			} {
				enter(t, ctx, srv, p.user)
				if p.post == nil {
					must(t, chromedp.Do(ctx, chromedp.Navigate(srv.URL+p.path)))
				} else { // as a form of this site's own would
					must(t, chromedp.Do(ctx, chromedp.Navigate(srv.URL+"/sign-in")))
					eval[bool](t, ctx, `(() => {const f = document.createElement("form"); f.method = "post"; f.action = `+strconv.Quote(p.path)+`; f.id = "sent";
						for (const [k, v] of Object.entries(`+string(fhir.JSON(p.post))+`)) { const i = document.createElement("input"); i.name = k; i.value = v; f.append(i) }
						f.append(document.createElement("button")); document.querySelector("main").prepend(f); return true})()`)
					_, err := chromedp.RunResponse(ctx, chromedp.Click("#sent button"))
					must(t, err)
				}
				if p.fill != "" {
					must(t, chromedp.Do(ctx, chromedp.SendKeys("#value", p.fill)))
				}
				if p.click != "" {
					_, err := chromedp.RunResponse(ctx, chromedp.Click(p.click))
					must(t, err)
				}
				until(t, ctx, `document.body.classList.contains('js-enabled')`)
				if got := eval[string](t, ctx, `document.querySelector("h1").textContent`); !strings.Contains(got, p.h1) || got == "Not found" && p.name != "problem" {
					t.Errorf("%s shows the page %q", p.name, got)
				}
				if got := eval[int](t, ctx, `document.documentElement.scrollWidth`); got > width {
					t.Errorf("%s is %d px wide on a screen of %d", p.path, got, width)
				}
				if got := eval[string](t, ctx, `headings()
					function headings() { let last = 0; for (const h of document.querySelectorAll('h1,h2:not(.nhsuk-error-summary__heading),h3,h4')) { const n = +h.tagName[1]; if (n > last + 1) return h.textContent; last = n } return '' }`); got != "" {
					t.Errorf("%s: the heading %q skips a level", p.path, got)
				}
				if *shots != "" {
					png, err := chromedp.Run(ctx, chromedp.FullScreenshot(100))
					must(t, err)
					must(t, os.WriteFile(filepath.Join(*shots, fmt.Sprintf("%s-%d.png", p.name, width)), png, 0o600))
				}
			}
		})
	}
}
