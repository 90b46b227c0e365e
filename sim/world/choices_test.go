package world

import (
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"tombolo/fhir"
	"tombolo/sim"
	"tombolo/sim/cast"
)

func signedIn(t *testing.T, w *World, user string) *browser {
	t.Helper()
	b := newBrowser(t, w.URL())
	if resp, _ := b.do("POST", "/sign-in", url.Values{"token": {sim.TokenPrefix + user}}); resp.StatusCode != http.StatusOK {
		t.Fatalf("%s cannot sign in: %d", user, resp.StatusCode)
	}
	return b
}

var (
	choiceID   = regexp.MustCompile(`name="id" value="([^"]+)"`)
	recordPath = regexp.MustCompile(`^/record/[^/]+$`)
)

// A citizen chooses on their own page. It counts at once, for everybody; taking it back counts at once; and what was chosen stays to be seen.
func TestACitizenChoosesAndItCountsAtOnce(t *testing.T) {
	w, err := Start(nonTestContext, Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.Close() })
	margaret := w.Person(cast.Main)
	sees := func(user, what string) bool {
		t.Helper()
		b := signedIn(t, w, user)
		resp, _ := b.do("POST", "/record", url.Values{"system": {fhir.SystemNHSNumber}, "value": {margaret.NHS}})
		if !recordPath.MatchString(resp.Request.URL.Path) {
			return false
		}
		_, page := b.do("GET", resp.Request.URL.Path+"?all=1", nil)
		return strings.Contains(strings.ToLower(page), what)
	}
	if !sees("doctor", "penicillin") || !sees("nurse", "penicillin") {
		t.Fatal("before any choice the allergy is shared")
	}
	citizen := signedIn(t, w, "citizen")
	choice := url.Values{"heading": {"allergies"}, "recipient": {"RX1"}}
	resp, page := citizen.do("POST", "/me/choices", choice)
	if resp.StatusCode != 200 || !strings.Contains(page, "Nobody at Severn Acute Trust sees “Allergies and bad reactions” in your record.") || !strings.Contains(page, "would no longer see") {
		t.Fatalf("%d: what it would do is not told", resp.StatusCode)
	}
	if !sees("doctor", "penicillin") {
		t.Error("looking at what a choice would do made it")
	}
	choice.Set("step", "record")
	choice.Set("id", choiceID.FindStringSubmatch(page)[1])
	for range 2 { // pressed twice
		if resp, page = citizen.do("POST", "/me/choices", choice); resp.StatusCode != 200 || !strings.Contains(page, "in force now") {
			t.Fatalf("%d", resp.StatusCode)
		}
	}
	if n := strings.Count(page, ">Take this back<"); n != 1 {
		t.Errorf("%d choices hold, want one", n)
	}
	if sees("doctor", "penicillin") {
		t.Error("the trust still sees what it was not to see")
	}
	if !sees("nurse", "penicillin") {
		t.Error("another service sees less than was chosen")
	}
	id := choiceID.FindStringSubmatch(page)[1]
	for who, b := range map[string]*browser{"a doctor": signedIn(t, w, "doctor"), "an operator": signedIn(t, w, "operator")} {
		if resp, _ := b.do("POST", "/me/choices/back", url.Values{"id": {id}}); resp.StatusCode != http.StatusNotFound {
			t.Errorf("%s takes back a citizen's choice: %d", who, resp.StatusCode)
		}
	}
	if resp, page = citizen.do("POST", "/me/choices/back", url.Values{"id": {id}}); !strings.Contains(page, "What no longer holds") || !strings.Contains(page, "Taken back") {
		t.Errorf("%d: what was chosen is gone from sight", resp.StatusCode)
	}
	if !sees("doctor", "penicillin") {
		t.Error("taken back, and still in force")
	}
	// An objection to everything leaves only the emergency.
	choice = url.Values{"step": {"record"}}
	if resp, _ = citizen.do("POST", "/me/choices", choice); resp.StatusCode != 200 {
		t.Fatal(resp.StatusCode)
	}
	for _, user := range []string{"doctor", "gp", "nurse", "social-worker", "receptionist"} {
		if sees(user, strings.ToLower(margaret.Family)) {
			t.Errorf("the %s opens a record that is shared with nobody", user)
		}
	}
	if resp, page := citizen.do("GET", "/me", nil); resp.StatusCode != 200 || !strings.Contains(strings.ToLower(page), "penicillin") {
		t.Errorf("the citizen sees less of their own record: %d", resp.StatusCode)
	}
}

// A privacy officer records what somebody has asked for, with how they know; nobody else gets to that page, and the person sees who did it.
func TestAPrivacyOfficerRecordsAChoiceForSomebody(t *testing.T) {
	w, err := Start(nonTestContext, Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.Close() })
	margaret := w.Person(cast.Main)
	officer := signedIn(t, w, "privacy")
	resp, page := officer.do("POST", "/privacy/choices", url.Values{"system": {fhir.SystemNHSNumber}, "value": {margaret.NHS}})
	at := resp.Request.URL.Path
	if resp.StatusCode != 200 || !strings.HasPrefix(at, "/privacy/choices/") || strings.Contains(at, margaret.NHS) || !strings.Contains(page, strings.ToUpper(margaret.Family)) {
		t.Fatalf("%d at %s", resp.StatusCode, at)
	}
	if strings.Contains(strings.ToLower(page), "penicillin") {
		t.Error("a privacy officer sees the record")
	}
	choice := url.Values{"sensitivity": {"mental-health"}, "until": {"2099-12-31"}, "step": {"record"}}
	if resp, page = officer.do("POST", at, choice); resp.StatusCode != http.StatusBadRequest || !strings.Contains(page, "how you know that the person wants this") {
		t.Errorf("recorded without how it is known: %d", resp.StatusCode)
	}
	choice.Set("words", "Asked for by telephone, and confirmed in writing")
	if resp, page = officer.do("POST", at, choice); resp.StatusCode != 200 || !strings.Contains(page, "No service sees what is marked as “Mental health” in the record, until 31 December 2099.") {
		t.Errorf("%d", resp.StatusCode)
	}
	for what, change := range map[string][2]string{"a day that is over": {"until", "2020-01-01"}, "no day": {"until", "soon"}, "no heading": {"heading", "moods"}, "nobody's code": {"recipient", "ZZ9"}, "no kind": {"sensitivity", "x"}} {
		v := url.Values{}
		for k, x := range choice {
			v[k] = x
		}
		v.Set(change[0], change[1])
		if resp, _ := officer.do("POST", at, v); resp.StatusCode != http.StatusBadRequest {
			t.Errorf("%s: %d", what, resp.StatusCode)
		}
	}
	for _, user := range []string{"doctor", "steward", "operator", "citizen"} {
		b := signedIn(t, w, user)
		for _, ask := range []struct{ method, path string }{{"GET", at}, {"POST", at}, {"POST", at + "/back"}, {"POST", "/privacy/choices"}} {
			if resp, _ := b.do(ask.method, ask.path, url.Values{"id": {"x"}, "value": {margaret.NHS}, "system": {fhir.SystemNHSNumber}}); resp.StatusCode != http.StatusNotFound {
				t.Errorf("%s %s by a %s: %d", ask.method, ask.path, user, resp.StatusCode)
			}
		}
	}
	citizen := signedIn(t, w, "citizen")
	if _, page = citizen.do("GET", "/me/choices", nil); !strings.Contains(page, "Ines Duarte, privacy officer") || !strings.Contains(page, "confirmed in writing") {
		t.Error("the citizen does not see who recorded it, and why")
	}
	citizen.do("POST", "/me/choices/back", url.Values{"id": {choiceID.FindStringSubmatch(page)[1]}})
	if _, page = officer.do("GET", at, nil); !strings.Contains(page, "What no longer holds") {
		t.Error("the person cannot take back what was recorded for them")
	}
}

// What was repeated with a choice of who the person is comes after what any source says of them.
func TestWhatAChoiceRepeatsOfAPersonYieldsToWhatSourcesSay(t *testing.T) {
	w, err := Start(nonTestContext, Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.Close() })
	citizen := signedIn(t, w, "citizen")
	if resp, _ := citizen.do("POST", "/me/choices", url.Values{"step": {"record"}, "recipient": {"RX1"}}); resp.StatusCode != http.StatusOK {
		t.Fatal(resp.StatusCode)
	}
	margaret := w.Person(cast.Main)
	id, err := w.Node.People.Resolve(t.Context(), fhir.Identifier{System: fhir.SystemNHSNumber, Value: margaret.NHS})
	if err != nil {
		t.Fatal(err)
	}
	p, err := w.Node.People.Person(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if own, ok := p.At("tombolo"); !ok || p.Patients[len(p.Patients)-1].ID != own.ID {
		t.Errorf("what is repeated stands before what sources say: %+v", p.Patients)
	}
	if p.Address == nil || p.Gender == "" {
		t.Error("the choice took away what sources say of who the person is")
	}
}
