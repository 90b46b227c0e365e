package world

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"

	"tombolo/fhir"
	"tombolo/sim"
	"tombolo/sim/cast"
)

// At each door whoever tries too often has to wait, is told for how long, and learns nothing by it; and every refusal is the same for who is known
// here and who is not.
func TestWhoTriesTooOftenHasToWait(t *testing.T) {
	w, err := Start(nonTestContext, Options{Also: `
limits: {attempts: 12, opens: 200, client_opens: 3}
identity:
  clients:
    - {id: app, name: An app, kind: public, redirects: ["https://app.example/back"], scopes: ["patient/*.rs"]}
    - {id: busy, name: A busy app, kind: public, redirects: ["https://busy.example/back"], scopes: ["patient/*.rs"]}
`})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.Close() })
	known, unknown := w.Person(cast.Main).NHS, "9990009996"

	find := func(user, nhs string) *http.Response {
		body := fmt.Sprintf(`{"resourceType":"Parameters","parameter":[{"name":"identifier","valueIdentifier":{"system":%q,"value":%q}}]}`, fhir.SystemNHSNumber, nhs)
		return asked(t, w, "POST", "/fhir/$gather", body, "application/fhir+json", sim.TokenPrefix+user)
	}
	misses := 0
	for ; find("nurse", unknown).StatusCode == http.StatusNotFound; misses++ {
	}
	if misses < 10 || misses > 40 { // 200 a minute, of which each miss is ten, while minutes go by
		t.Errorf("%d numbers could be tried in a row", misses)
	}
	over := find("nurse", unknown)
	if after, err := strconv.Atoi(over.Header.Get("Retry-After")); over.StatusCode != http.StatusTooManyRequests || err != nil || after < 1 || after > 120 {
		t.Errorf("%d, Retry-After %q", over.StatusCode, over.Header.Get("Retry-After"))
	}
	if got := find("nurse", known); got.StatusCode != over.StatusCode {
		t.Errorf("who has to wait is told %d of somebody known and %d of somebody unknown", got.StatusCode, over.StatusCode)
	}
	if got := find("doctor", known); got.StatusCode != http.StatusOK {
		t.Errorf("another user: %d", got.StatusCode)
	}

	b := newBrowser(t, w.URL())
	for door, ask := range map[string]func(i int) *http.Response{
		"a launch": func(i int) *http.Response {
			resp, _ := b.do("GET", "/launch?enc=nobody%7C"+strconv.Itoa(i), nil)
			return resp
		},
		"a bearer token": func(i int) *http.Response {
			return asked(t, w, "GET", "/fhir/Patient/x", "", "", "guess-"+strconv.Itoa(i))
		},
		"the sign-in page": func(i int) *http.Response {
			resp, _ := b.do("POST", "/sign-in", url.Values{"token": {"guess " + strconv.Itoa(i)}})
			return resp
		},
		"codes": func(i int) *http.Response {
			form := url.Values{"grant_type": {"authorization_code"}, "client_id": {"app"}, "code": {strconv.Itoa(i)}, "redirect_uri": {"https://app.example/back"}, "code_verifier": {strings.Repeat("v", 43)}}
			return asked(t, w, "POST", "/oauth/token", form.Encode(), "application/x-www-form-urlencoded", "")
		},
	} {
		codes := map[int]int{}
		last := &http.Response{}
		for i := range 40 {
			last = ask(i)
			codes[last.StatusCode]++
		}
		if codes[http.StatusTooManyRequests] < 10 || last.Header.Get("Retry-After") == "" {
			t.Errorf("%s: %v, Retry-After %q", door, codes, last.Header.Get("Retry-After"))
		}
		if codes[http.StatusOK]+codes[http.StatusInternalServerError] > 0 {
			t.Errorf("%s: %v", door, codes)
		}
	}
	// One client that asks often does not hold up another.
	form := url.Values{"token": {"x"}, "client_id": {"busy"}}
	var last *http.Response
	for range 8 {
		last = asked(t, w, "POST", "/oauth/revoke", form.Encode(), "application/x-www-form-urlencoded", "")
	}
	if last.StatusCode != http.StatusTooManyRequests || last.Header.Get("Retry-After") == "" {
		t.Errorf("a client that asks too often: %d", last.StatusCode)
	}
}

func asked(t *testing.T, w *World, method, path, body, contentType, token string) *http.Response {
	t.Helper()
	req, err := http.NewRequest(method, w.URL()+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
	return resp
}
