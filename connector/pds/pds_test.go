package pds_test

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"tombolo/connector"
	"tombolo/connector/pds"
	"tombolo/dataset"
	"tombolo/fhir"
	"tombolo/sim"
	"tombolo/sim/cast"
	simpds "tombolo/sim/pds"
)

var (
	margaret  = cast.Person{Key: "margaret", NHS: cast.NHSNumber("999000010"), Given: []string{"Margaret", "Anne"}, Family: "Taylor", Born: "1948-03-12", Sex: "female", Address: []string{"14 Ferry Lane"}, City: "Severnmouth", Postcode: "GL99 1AB", Phone: "01632 960101", Practice: "M85001", OldNHS: []string{cast.NHSNumber("999000077")}}
	daniel    = cast.Person{Key: "daniel", NHS: cast.NHSNumber("999000022"), Given: []string{"Daniel"}, Family: "Okafor", Born: "1985-07-30", Sex: "male", Postcode: "GL99 2CD", Practice: "M85001", Restricted: true}
	homophone = cast.Person{Key: "ann", NHS: cast.NHSNumber("999000033"), Given: []string{"Anne"}, Family: "Smythe", Born: "1970-01-02", Sex: "female", Postcode: "GL99 3EF"}
	twins     = []cast.Person{{NHS: cast.NHSNumber("999000044"), Given: []string{"Marcus"}, Family: "Green", Born: "2001-05-06", Sex: "male", Postcode: "GL99 4GH"}, {NHS: cast.NHSNumber("999000055"), Given: []string{"Mark"}, Family: "Green", Born: "2001-05-06", Sex: "male", Postcode: "GL99 4GH"}}
)

func number(t testing.TB, s string) fhir.NHSNumber {
	t.Helper()
	n, err := fhir.ParseNHSNumber(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// unknown is a number that is nobody's, "" if these nine digits have no check digit.
func unknown(nine string) string {
	for d := range 10 {
		if n, err := fhir.ParseNHSNumber(nine + fmt.Sprint(d)); err == nil {
			return n.Digits()
		}
	}
	return ""
}

// desk is a client before a simulated PDS.
func desk(t testing.TB, o pds.Options, so simpds.Options) (*pds.Client, *simpds.Service) {
	t.Helper()
	so.People = append([]cast.Person{margaret, daniel, homophone}, twins...)
	s := simpds.New(so)
	srv := s.Serve()
	t.Cleanup(func() { srv.CloseClientConnections(); srv.Close() })
	o.Source, o.Address = "pds", srv.URL
	if o.Rate == 0 {
		o.Rate = 1000
	}
	c, err := pds.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return c, s
}

func TestSomebodyIsReadByTheirNumber(t *testing.T) {
	c, _ := desk(t, pds.Options{}, simpds.Options{})
	f, err := c.Read(t.Context(), number(t, margaret.NHS), pds.Urgent)
	if err != nil {
		t.Fatal(err)
	}
	if f.Patient.Text("name.family") != "Taylor" || f.Number.Digits() != margaret.NHS || !f.Superseded.IsZero() || f.Restricted {
		t.Errorf("found %+v: %s", f, f.Patient.Raw())
	}
	// A number that gave way to another leads to the record under the new one, and says so.
	f, err = c.Read(t.Context(), number(t, margaret.OldNHS[0]), pds.Urgent)
	if err != nil || f.Number.Digits() != margaret.NHS || f.Superseded.Digits() != margaret.OldNHS[0] {
		t.Errorf("by the superseded number: %+v, %v", f, err)
	}
	if f, err = c.Read(t.Context(), number(t, daniel.NHS), pds.Urgent); err != nil || !f.Restricted || f.Patient.Text("address.postalCode")+f.Patient.Text("generalPractitioner.identifier.value") != "" {
		t.Errorf("a restricted person: %+v, %v", f, err)
	}
}

func TestWhatAnApplicationIsToldByIsAnAnswerToTheAsker(t *testing.T) {
	c, _ := desk(t, pds.Options{}, simpds.Options{})
	ask := func(n string) *connector.Answer {
		a, err := c.Ask(t.Context(), connector.Question{Identifiers: []fhir.Identifier{{System: fhir.SystemNHSNumber, Value: n}}, Headings: []dataset.Heading{dataset.Demographics, dataset.GPPractice, dataset.Allergies}})
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	if a := ask(margaret.NHS); a.States[dataset.Demographics] != dataset.Present || a.States[dataset.GPPractice] != dataset.Present || len(a.States) != 2 {
		t.Errorf("states: %v", a.States)
	}
	if a := ask(daniel.NHS); a.States[dataset.GPPractice] != dataset.NotShared {
		t.Errorf("a restricted person's practice is %q: it is not none, it is kept", a.States[dataset.GPPractice])
	}
	if _, err := c.Ask(t.Context(), connector.Question{Identifiers: []fhir.Identifier{{System: fhir.SystemCHI, Value: "0101010101"}}}); !fhir.Is(err, fhir.NotSupported) {
		t.Errorf("without an NHS number: %v", err)
	}
}

// Each error that the specification documents is told apart by what is to be done about it.
func TestEveryDocumentedErrorIsUnderstood(t *testing.T) {
	want := map[string]struct {
		status int
		is     fhir.IssueType
	}{
		"INVALID_RESOURCE_ID": {400, fhir.ValueError}, "UNSUPPORTED_SERVICE": {400, fhir.NotSupported}, "MISSING_VALUE": {400, fhir.Required}, "INVALID_VALUE": {400, fhir.ValueError},
		"INVALID_SEARCH_DATA": {400, fhir.Invalid}, "ADDITIONAL_PROPERTIES": {400, fhir.NotSupported}, "ACCESS_DENIED": {403, fhir.Forbidden}, "RESOURCE_NOT_FOUND": {404, fhir.NotFound},
		"INVALIDATED_RESOURCE": {404, fhir.Deleted}, "UNABLE_TO_CALL_SERVICE": {408, fhir.Timeout}, "TOO_MANY_REQUESTS": {429, fhir.Throttled}, "TOO_MANY_MATCHES": {200, fhir.MultipleMatch},
	}
	var asking sync.WaitGroup // all at once: what may pass is asked again after a while
	defer asking.Wait()
	for _, code := range simpds.Codes() {
		w, ok := want[code]
		if !ok {
			t.Errorf("%s is documented and not asked for here", code)
			continue
		}
		h := http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
			rw.Header().Set("Retry-After", "60")
			rw.WriteHeader(w.status)
			_, _ = rw.Write(simpds.Outcome(code, "Invalid value - '"+margaret.NHS+"'"))
		})
		srv := httptest.NewServer(h)
		c, err := pds.New(pds.Options{Source: "pds", Address: srv.URL, Rate: 1000, Deadline: 5 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		asking.Go(func() {
			defer srv.Close()
			_, err := c.Read(t.Context(), number(t, margaret.NHS), pds.Urgent)
			if !fhir.Is(err, w.is) || !strings.Contains(err.Error(), code) {
				t.Errorf("%s (HTTP %d): %v, want %s", code, w.status, err, w.is)
			}
			if strings.Contains(err.Error(), margaret.NHS) {
				t.Errorf("%s: the error tells the number", code)
			}
		})
	}
	// Without a body, and with the whole service gone, the status alone must do. A 404 that is not PDS's says nothing of anybody.
	for status, is := range map[int]fhir.IssueType{401: fhir.Login, 403: fhir.Forbidden, 404: fhir.NotSupported, 408: fhir.Timeout, 429: fhir.Throttled, 500: fhir.Transient, 503: fhir.Transient, 504: fhir.Timeout, 418: fhir.Processing} {
		srv := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
			rw.Header().Set("Retry-After", "60")
			rw.WriteHeader(status)
		}))
		c, _ := pds.New(pds.Options{Source: "pds", Address: srv.URL, Rate: 1000})
		asking.Go(func() {
			defer srv.Close()
			if _, err := c.Read(t.Context(), number(t, margaret.NHS), pds.Urgent); !fhir.Is(err, is) {
				t.Errorf("HTTP %d: %v, want %s", status, err, is)
			}
		})
	}
}

func TestSomebodyWithoutANumberIsTracedStepByStep(t *testing.T) {
	for _, c := range []struct {
		name     string
		w        pds.Wanted
		by       string
		searches int
		found    cast.Person
		is       fhir.IssueType
	}{
		{"as known", pds.Wanted{Family: "Taylor", Given: "Margaret", BirthDate: "1948-03-12", Postcode: "GL99 1AB"}, "beginnings", 1, margaret, ""},
		{"called Margie, moved locally", pds.Wanted{Family: "TAYLOR", Given: "Margie", BirthDate: "1948-03-12", Postcode: "GL2 2BB"}, "beginnings", 1, margaret, ""},
		{"moved away", pds.Wanted{Family: "Taylor", Given: "Margaret", BirthDate: "1948-03-12", Postcode: "ZZ1 1AA"}, "moved", 2, margaret, ""},
		{"a homophone", pds.Wanted{Family: "Smith", Given: "Ann", BirthDate: "1970-01-02", Postcode: "GL99 3EF"}, "fuzzy", 3, homophone, ""},
		{"given name not known", pds.Wanted{Family: "Smith", BirthDate: "1970-01-02", Gender: "female", Postcode: "GL99 3EF"}, "fuzzy without given name", 1, homophone, ""},
		{"an initial only", pds.Wanted{Family: "Taylor", Given: "M", BirthDate: "1948-03-12"}, "family name and birth date", 1, margaret, ""},
		{"restricted, so not by postcode", pds.Wanted{Family: "Okafor", Given: "Daniel", BirthDate: "1985-07-30", Postcode: "GL99 2CD"}, "moved", 2, daniel, ""},
		{"two begin alike, one is exact", pds.Wanted{Family: "Green", Given: "Marcus", BirthDate: "2001-05-06", Postcode: "GL99 4GH"}, "exact", 2, twins[0], ""},
		{"two may be meant", pds.Wanted{Family: "Green", Given: "Mar", BirthDate: "2001-05-06", Postcode: "GL99 4GH"}, "", 2, cast.Person{}, fhir.MultipleMatch},
		{"nobody", pds.Wanted{Family: "Nobody", Given: "Here", BirthDate: "1948-03-12", Postcode: "GL99 1AB", Gender: "male"}, "", 4, cast.Person{}, fhir.NotFound},
		{"no birth date", pds.Wanted{Family: "Taylor", Given: "Margaret"}, "", 0, cast.Person{}, fhir.Required},
		{"a wildcard for a name", pds.Wanted{Family: "**", Given: "Margaret", BirthDate: "1948-03-12"}, "", 0, cast.Person{}, fhir.Required},
	} {
		client, s := desk(t, pds.Options{}, simpds.Options{})
		f, err := client.Trace(t.Context(), c.w, pds.Patient)
		switch {
		case c.is != "":
			if !fhir.Is(err, c.is) {
				t.Errorf("%s: %v, want %s", c.name, err, c.is)
			}
		case err != nil:
			t.Errorf("%s: %v", c.name, err)
		case f.By != c.by || f.Number.Digits() != c.found.NHS:
			t.Errorf("%s: found %v by %q, want %s by %q", c.name, f.Patient.Text("name.family"), f.By, c.found.Family, c.by)
		}
		if got := s.Searches(); len(got) != c.searches {
			t.Errorf("%s: %d searches %q, want %d", c.name, len(got), got, c.searches)
		}
		for _, q := range s.Searches() {
			if strings.Contains(q, "gender") && !strings.Contains(q, "_fuzzy-match") {
				t.Errorf("%s: searched by gender where PDS advises against it: %s", c.name, q)
			}
		}
	}
}

// Asked fifty times at once and again, PDS hears one question; and never more than it lets an application ask in a second.
func TestTheBudgetIsKeptAndTheSameQuestionIsAskedOnce(t *testing.T) {
	c, s := desk(t, pds.Options{Rate: 20}, simpds.Options{Rate: 21})
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			if _, err := c.Read(context.Background(), number(t, margaret.NHS), pds.Urgent); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if s.Answered() != 1 {
		t.Errorf("PDS was asked %d times", s.Answered())
	}
	start := time.Now()
	for i := range 24 {
		n := unknown(fmt.Sprintf("99911%04d", i))
		if n == "" {
			continue
		}
		wg.Go(func() {
			if _, err := c.Read(context.Background(), number(t, n), pds.Urgent); !fhir.Is(err, fhir.NotFound) {
				t.Errorf("somebody unknown: %v", err)
			}
		})
	}
	wg.Wait()
	if took := time.Since(start); took < 900*time.Millisecond {
		t.Errorf("two dozen questions at twenty a second took %v", took)
	}
}

func TestWhoIsWaitedForGoesFirst(t *testing.T) {
	c, _ := desk(t, pds.Options{Rate: 10}, simpds.Options{})
	var mu sync.Mutex
	var order []string
	var wg sync.WaitGroup
	background := 0
	for i := range 9 {
		n := unknown(fmt.Sprintf("99922%04d", i))
		if n == "" {
			continue
		}
		background++
		wg.Go(func() {
			_, _ = c.Read(context.Background(), number(t, n), pds.Patient)
			mu.Lock()
			order = append(order, "background")
			mu.Unlock()
		})
	}
	time.Sleep(150 * time.Millisecond)
	wg.Go(func() {
		_, _ = c.Read(context.Background(), number(t, margaret.NHS), pds.Urgent)
		mu.Lock()
		order = append(order, "urgent")
		mu.Unlock()
	})
	wg.Wait()
	if at := slices.Index(order, "urgent"); at > background/2 {
		t.Errorf("whoever is waited for came %d of %d: %v", at+1, len(order), order)
	}
}

func TestAnAnswerIsBelievedForAWhileAndNoLonger(t *testing.T) {
	now := time.Now()
	c, s := desk(t, pds.Options{Believe: time.Hour, Now: func() time.Time { return now }}, simpds.Options{})
	read := func() *pds.Found {
		f, err := c.Read(t.Context(), number(t, margaret.NHS), pds.Urgent)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	read()
	moved := margaret
	moved.Practice = "M85002"
	s.Put(moved)
	if read().Patient.Text("generalPractitioner.identifier.value") != "M85001" || s.Answered() != 1 {
		t.Error("within the hour PDS is asked again")
	}
	now = now.Add(61 * time.Minute)
	if read().Patient.Text("generalPractitioner.identifier.value") != "M85002" || s.Answered() != 2 {
		t.Error("after the hour PDS is not asked again")
	}
	s.Invalidate(margaret.NHS)
	if _, err := c.Fresh(t.Context(), number(t, margaret.NHS), pds.Urgent); !fhir.Is(err, fhir.Deleted) {
		t.Errorf("asked afresh: %v", err)
	}
}

// A question that failed is sent again under the same X-Request-ID; one that may not be sent again is not; and 429 is obeyed.
func TestWhatFailedIsAskedAgainAsPDSWants(t *testing.T) {
	var mu sync.Mutex
	var ids []string
	var at []time.Time
	fails := []int{408, 503, 200}
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		ids, at = append(ids, r.Header.Get("X-Request-ID")), append(at, time.Now())
		status := fails[min(len(ids)-1, len(fails)-1)]
		if status == 429 {
			w.Header().Set("Retry-After", "1")
		}
		w.WriteHeader(status)
		if status == 200 {
			_, _ = fmt.Fprintf(w, `{"resourceType":"Patient","id":%q,"identifier":[{"system":%q,"value":%q}]}`, margaret.NHS, fhir.SystemNHSNumber, margaret.NHS)
		}
	})
	srv := httptest.NewServer(h)
	defer srv.Close()
	client := func() *pds.Client {
		ids, at = nil, nil
		c, err := pds.New(pds.Options{Source: "pds", Address: srv.URL, Rate: 1000})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	if _, err := client().Read(t.Context(), number(t, margaret.NHS), pds.Urgent); err != nil || len(ids) != 3 || ids[0] != ids[2] || len(ids[0]) != 36 {
		t.Errorf("%v after %q", err, ids)
	}
	fails = []int{429, 200}
	if _, err := client().Read(t.Context(), number(t, margaret.NHS), pds.Urgent); err != nil || len(at) != 2 || at[1].Sub(at[0]) < 900*time.Millisecond {
		t.Errorf("after 429 with Retry-After: 1: %v, asked at %v", err, at)
	}
	fails = []int{400}
	if _, err := client().Read(t.Context(), number(t, margaret.NHS), pds.Urgent); err == nil || len(ids) != 1 {
		t.Errorf("what was refused was asked %d times: %v", len(ids), err)
	}
}

func TestTheApplicationProvesWhoItIsByASignedJWT(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	s := simpds.New(simpds.Options{People: []cast.Person{margaret}, Key: &key.PublicKey, APIKey: "app", KeyID: "key-1"})
	srv := s.Serve()
	defer srv.Close()
	pkcs8, _ := x509.MarshalPKCS8PrivateKey(key)
	read, err := pds.ParseKey(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}))
	if err != nil {
		t.Fatal(err)
	}
	with := func(kid string) *pds.Client {
		tokens, err := pds.NewTokens(pds.TokenOptions{Address: srv.URL + "/oauth2/token", APIKey: "app", KeyID: kid, Key: read})
		if err != nil {
			t.Fatal(err)
		}
		c, err := pds.New(pds.Options{Source: "pds", Address: srv.URL, Rate: 1000, Tokens: tokens})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	c := with("key-1")
	if _, err := c.Read(t.Context(), number(t, margaret.NHS), pds.Urgent); err != nil {
		t.Fatal(err)
	}
	s.Revoke() // the token is void before its time: another is fetched, once
	if _, err := c.Fresh(t.Context(), number(t, margaret.NHS), pds.Urgent); err != nil {
		t.Errorf("with a token that was void: %v", err)
	}
	if _, err := with("key-2").Read(t.Context(), number(t, margaret.NHS), pds.Urgent); !fhir.Is(err, fhir.Forbidden) || !strings.Contains(err.Error(), "API key") {
		t.Errorf("signed with another key: %v", err)
	}
	none, _ := pds.New(pds.Options{Source: "pds", Address: srv.URL, Rate: 1000})
	if _, err := none.Read(t.Context(), number(t, margaret.NHS), pds.Urgent); !fhir.Is(err, fhir.Login) {
		t.Errorf("without a token: %v", err)
	}
	for _, bad := range []string{"", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"} {
		if _, err := pds.ParseKey([]byte(bad)); err == nil {
			t.Error("no key was taken for one")
		}
	}
}

// Whatever PDS does, a question ends in its time with an error that says what to do and tells nobody's number.
func TestFaultsOfPDSEndInTimeAndTellNoNumber(t *testing.T) {
	var asking sync.WaitGroup // all at once: each waits for its time to be over
	defer asking.Wait()
	for fault, is := range map[sim.Fault][]fhir.IssueType{sim.FaultSlow: {fhir.Timeout}, sim.FaultDown: {fhir.Transient}, sim.FaultGarbage: {fhir.Structure}, sim.FaultDrip: {fhir.Timeout},
		sim.Fault429: {fhir.Throttled}, sim.Fault500: {fhir.Transient}, sim.FaultTruncated: {fhir.Transient, fhir.Timeout}} {
		faults := &sim.Faults{}
		c, _ := desk(t, pds.Options{Deadline: 1500 * time.Millisecond}, simpds.Options{Faults: faults})
		faults.Set(fault, time.Minute)
		asking.Go(func() {
			start := time.Now()
			_, err := c.Read(t.Context(), number(t, margaret.NHS), pds.Urgent)
			i := fhir.IssueOf(err)
			if i == nil || !slices.Contains(is, i.Type) || time.Since(start) > 20*time.Second {
				t.Errorf("%s: %v after %v", fault, err, time.Since(start))
			}
			for e := err; e != nil; e = errors.Unwrap(e) {
				if strings.Contains(e.Error(), margaret.NHS) || strings.Contains(e.Error(), "/Patient/") {
					t.Errorf("%s: the error tells the URL: %v", fault, e)
				}
			}
		})
	}
}

// What the specification publishes as examples is read, and every error code in its tables is known here.
func TestThePublishedExamplesOfPDSAreRead(t *testing.T) {
	dir := filepath.Join("..", "..", "..", "shared", "data", "04-nhs-apis", "pds")
	if _, err := os.Stat(dir); err != nil {
		t.Skip("the examples are not here: ", err)
	}
	serve := func(name string) *pds.Client {
		data, err := os.ReadFile(filepath.Join(dir, "sandbox", "mocks", name))
		if err != nil {
			t.Fatal(err)
		}
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(data) }))
		t.Cleanup(srv.Close)
		c, err := pds.New(pds.Options{Source: "pds", Address: srv.URL, Rate: 1000})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	for name, want := range map[string]struct {
		number     string
		restricted bool
	}{"Patient.json": {"9000000009", false}, "Sensitive_Patient.json": {"9000000025", true}, "Minimal_Patient.json": {"9000000033", false}, "Patient-Jayne-Smyth.json": {"9000000017", false}} {
		f, err := serve(name).Read(t.Context(), number(t, want.number), pds.Urgent)
		if err != nil || f.Restricted != want.restricted {
			t.Errorf("%s: %+v, %v", name, f, err)
		}
	}
	for _, name := range []string{"PatientSearch.json", "Sensitive_PatientSearch.json", "Minimal_PatientSearch.json", "PatientSearch-Jayne-Smyth.json"} {
		if f, err := serve(name).Trace(t.Context(), pds.Wanted{Family: "Smith", Given: "Jane", BirthDate: "2010-10-22"}, pds.Urgent); err != nil && !fhir.Is(err, fhir.MultipleMatch) || err == nil && f.Number.IsZero() {
			t.Errorf("%s: %+v, %v", name, f, err)
		}
	}
	row := regexp.MustCompile(`(?m)^\s*\| (\d{3})\s+\| ([A-Z_]+)\s*\|`)
	rows := 0
	for _, name := range []string{"patient-get.yaml", "patient-search.yaml"} {
		data, err := os.ReadFile(filepath.Join(dir, "specification", "components", "paths", name))
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range row.FindAllStringSubmatch(string(data), -1) {
			rows++
			if !slices.Contains(simpds.Codes(), m[2]) {
				t.Errorf("%s documents %s, which is not tried here", name, m[2])
			}
		}
	}
	if rows < 15 {
		t.Errorf("only %d rows of errors were read from the specification", rows)
	}
}
