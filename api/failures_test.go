package api_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"tombolo/fhir"
	"tombolo/region"
)

// The failures that integrators know from other servers, each by its name: the shortest form of each; the tests that docs/fhir-api.md names beside them say the rest.
func TestTheFailuresOfOtherServers(t *testing.T) {
	s := open(t)
	s.smallWard()
	get := func(t *testing.T, path string, status int, headers ...string) answer {
		t.Helper()
		return s.do("GET", path, nil, headers...).want(t, status)
	}
	finds := func(t *testing.T, query, want string) {
		t.Helper()
		if got := found(t, get(t, query, 200)); got != want {
			t.Errorf("%s finds %q, want %q", query, got, want)
		}
	}
	put := func(t *testing.T, body string, id string) { t.Helper(); s.do("PUT", id, body) }
	put(t, `{"resourceType":"Patient","id":"mu","name":[{"family":"Müller, Jr"}],"birthDate":"1980-03"}`, "Patient/mu")
	put(t, `{"resourceType":"Observation","id":"num","status":"final","code":{"coding":[{"system":"urn:c","code":"Ä"}]},"subject":{"reference":"Patient/mu"},"effectiveDateTime":"2026-01-01T23:30:00-05:00","valueQuantity":{"value":1.50}}`, "Observation/num")
	for _, f := range []struct {
		name string
		is   func(t *testing.T)
	}{
		{"1 an unknown parameter is passed over", func(t *testing.T) { get(t, "Patient?famly=x", 400) }},
		{"2 conditional creates race", func(t *testing.T) {
			var wait sync.WaitGroup
			for range 4 {
				wait.Go(func() {
					s.do("POST", "Basic", `{"resourceType":"Basic","code":{"text":"x"},"identifier":[{"system":"urn:r","value":"1"}]}`, "If-None-Exist: identifier=urn:r|1")
				})
			}
			wait.Wait()
			if n := get(t, "Basic?identifier=urn:r%7C1&_summary=count", 200).text(t, "total"); n != "1" {
				t.Errorf("%s were made", n)
			}
		}},
		{"3 links in transactions are not rewritten", func(t *testing.T) {
			s.do("POST", "", `{"resourceType":"Bundle","type":"transaction","entry":[{"fullUrl":"urn:uuid:0c3151bd-1cbf-4d64-b04d-cd9187a4c6e1","request":{"method":"POST","url":"Patient"},"resource":{"resourceType":"Patient"}},{"request":{"method":"PUT","url":"Observation/linked"},"resource":{"resourceType":"Observation","id":"linked","status":"final","code":{"text":"x"},"subject":{"reference":"urn:uuid:0c3151bd-1cbf-4d64-b04d-cd9187a4c6e1"}}}]}`).want(t, 200)
			if ref := get(t, "Observation/linked", 200).text(t, "subject.reference"); !strings.HasPrefix(ref, "Patient/") {
				t.Errorf("the link is %q", ref)
			}
		}},
		{"4 pages shift under writes", func(t *testing.T) {
			a := get(t, "Condition?_count=1", 200)
			put(t, `{"resourceType":"Condition","id":"aaa","subject":{"reference":"Patient/ann"}}`, "Condition/aaa")
			if n := strings.Count(string(a.body), `"relation":"next"`); n != 0 {
				t.Errorf("one condition, and %d next pages", n)
			}
			s.do("DELETE", "Condition/aaa", nil)
		}},
		{"5 totals change", func(t *testing.T) {
			if got := get(t, "Observation?patient=ann&_count=1&_total=accurate", 200).text(t, "total"); got != "2" {
				t.Errorf("the total is %s", got)
			}
		}},
		{"6 includes are counted or doubled", func(t *testing.T) { finds(t, "Observation?patient=ann&_include=Observation:patient", "+ann o1 o2") }},
		{"7 chains and _has", func(t *testing.T) {
			finds(t, "Observation?patient.organization.name=trust", "o1 o2")
			finds(t, "Patient?_has:Observation:patient:status=amended", "ann")
		}},
		{"8 dates of less precision", func(t *testing.T) {
			finds(t, "Patient?birthdate=1980", "mu")
			finds(t, "Patient?birthdate=1980-03-01", "")
		}},
		{"9 time zones", func(t *testing.T) {
			finds(t, "Observation?date=2026-01-02", "num")
			finds(t, "Observation?date=2026-01-01T23:30:00-05:00", "num")
		}},
		{"10 escapes", func(t *testing.T) { finds(t, "Patient?family:exact="+url.QueryEscape(`Müller\, Jr`), "mu") }},
		{"11 composites match across elements", func(t *testing.T) {
			finds(t, "Observation?code-value-quantity="+url.QueryEscape("urn:c|Ä$1.5"), "num")
		}},
		{"12 modifiers are passed over", func(t *testing.T) {
			get(t, "Patient?family:nothing=x", 400)
			finds(t, "Patient?birthdate:missing=true&_id=ann,mu", "ann")
		}},
		{"13 accents", func(t *testing.T) { finds(t, "Patient?family=muller", "mu"); finds(t, "Observation?code=A", "") }},
		{"14 decimals lose their zeros", func(t *testing.T) {
			if !strings.Contains(string(get(t, "Observation/num", 200).body), "1.50") {
				t.Error("1.50 is not kept")
			}
		}},
		{"15 versions and ETags", func(t *testing.T) {
			s.do("DELETE", "Patient/bob", nil, `If-Match: W/"9"`).want(t, 412)
			get(t, "Patient/bob", 304, `If-None-Match: W/"1"`)
		}},
		{"16 a patch whose test fails makes a version", func(t *testing.T) {
			s.do("PATCH", "Patient/bob", `[{"op":"test","path":"/active","value":true},{"op":"add","path":"/gender","value":"male"}]`, "Content-Type: application/json-patch+json").want(t, 422)
			get(t, "Patient/bob/_history/2", 404)
			s.do("PATCH", "Patient/bob", `x`, "Content-Type: text/plain").want(t, 415)
		}},
		{"17 Prefer", func(t *testing.T) {
			if a := s.do("POST", "Basic", `{"resourceType":"Basic","code":{"text":"y"}}`, "Prefer: return=minimal, handling=strict").want(t, 201); len(a.body) > 0 {
				t.Errorf("minimal is %d bytes", len(a.body))
			}
		}},
		{"18 HEAD", func(t *testing.T) {
			s.do("HEAD", "Patient/ann", nil).want(t, 200)
			s.do("HEAD", "Patient?_id=ann", nil).want(t, 200)
		}},
		{"19 formats", func(t *testing.T) {
			get(t, "Patient/ann", 406, "Accept: text/csv")
			get(t, "Patient/ann?_format=json", 200, "Accept: text/csv")
			s.do("POST", "Patient", "x", "Content-Type: text/csv").want(t, 415)
		}},
		{"20 addresses behind a proxy", func(t *testing.T) {
			if a := get(t, "Patient?_id=ann", 200, "X-Forwarded-Host: evil.example"); strings.Contains(string(a.body), "evil") {
				t.Error("a header that anybody can send is believed")
			}
		}},
		{"21 $everything leaves out what is named", func(t *testing.T) {
			if a := get(t, "Patient/ann/$everything", 200); !strings.Contains(string(a.body), `"Organization"`) {
				t.Error("the organisation is not there")
			}
		}},
		{"22 forms of references", func(t *testing.T) {
			for _, ref := range []string{"ann", "Patient/ann", s.url + "/Patient/ann"} {
				finds(t, "Observation?subject="+url.QueryEscape(ref), "o1 o2")
			}
			finds(t, "Observation?subject=https://elsewhere.example/fhir/Patient/ann", "")
		}},
		{"23 outcomes of batches and transactions", func(t *testing.T) {
			a := s.do("POST", "", `{"resourceType":"Bundle","type":"transaction","entry":[{"request":{"method":"PUT","url":"Patient/t"},"resource":{"resourceType":"Patient","id":"t"}},{"request":{"method":"PUT","url":"Patient/u"},"resource":{"resourceType":"Patient","id":"other"}}]}`).want(t, 400)
			if !strings.HasPrefix(a.text(t, "issue.expression"), "Bundle.entry[1]") {
				t.Errorf("the entry is not named: %s", a.body)
			}
			get(t, "Patient/t", 404)
		}},
		{"24 subscriptions lose, repeat, never begin or hold up each other", subscriptionsHold},
	} {
		t.Run(f.name, f.is)
	}
}

// A Subscription begins when it is asked for; what its endpoint does not take comes again and is told of once, in order; and one whose endpoint takes nothing holds up nobody,
// the start of the server least of all. What happens when it is given up, and when the server dies between sending and writing that down, is in package subscription.
func subscriptionsHold(t *testing.T) {
	var mu sync.Mutex
	var told []string
	refusals := 2
	hook := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		if refusals--; r.URL.Path == "/poison" || refusals >= 0 {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		b, err := fhir.Parse(body)
		if err != nil {
			t.Errorf("%s: %v", body, err)
			return
		}
		for p := range b.Value().All("entry.resource.parameter.part") {
			if p.Text("name") == "event-number" {
				told = append(told, p.Text("valueString"))
			}
		}
	}))
	defer hook.Close()
	s := openWith(t, func(r *region.Region) { r.Systems[0].Options = map[string]string{"notify": hook.URL} })
	subscribe := func(id, path string) {
		t.Helper()
		s.do("PUT", "Subscription/"+id, fhir.New("Subscription", id, fhir.M{"status": "requested", "reason": "results", "criteria": "Observation?status=final",
			"channel": fhir.M{"type": "rest-hook", "endpoint": hook.URL + path, "payload": "application/fhir+json"}})).want(t, 201)
	}
	subscribe("poison", "/poison")
	subscribe("results", "/results")
	await := func(what string, is func() bool) {
		t.Helper()
		for range 600 {
			if is() {
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
		t.Fatalf("%s: not within 12 seconds: %s", what, s.do("GET", "Subscription/results/$status", nil).body)
	}
	await("it begins", func() bool { return s.do("GET", "Subscription/results", nil).text(t, "status") == "active" })
	for i := range 5 {
		s.do("PUT", fmt.Sprintf("Observation/n%d", i), fhir.New("Observation", fmt.Sprintf("n%d", i), fhir.M{"status": "final", "code": fhir.M{"text": "x"}})).want(t, 201)
	}
	await("all are told of", func() bool { mu.Lock(); defer mu.Unlock(); return len(told) >= 5 })
	if got := strings.Join(told, " "); got != "1 2 3 4 5" {
		t.Errorf("told of %s", got)
	}
	if got := s.do("GET", "Subscription/poison", nil).text(t, "status"); got != "requested" {
		t.Errorf("the one that fails is %s", got)
	}
	events := s.do("GET", "Subscription/results/$events?eventsSinceNumber=2&eventsUntilNumber=3", nil).want(t, 200)
	if got := strings.Count(string(events.body), "event-number"); got != 2 {
		t.Errorf("asked for events 2 and 3, %d came: %s", got, events.body)
	}
	s.do("PUT", "Subscription/inside", fhir.New("Subscription", "inside", fhir.M{"status": "requested", "reason": "x", "criteria": "Observation",
		"channel": fhir.M{"type": "rest-hook", "endpoint": "https://169.254.169.254/latest"}})).want(t, 422)
	s.as("other", "GET", "Subscription/results/$status", nil).want(t, 404)
}
