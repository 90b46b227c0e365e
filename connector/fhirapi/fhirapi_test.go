package fhirapi

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"tombolo/connector"
	"tombolo/dataset"
	"tombolo/fhir"
)

const number = "9990000018" // synthetic range

// A scripted server answers by "METHOD /path"; what is not in the script is 404. "{base}" in an answer is its own base URL.
type scripted struct {
	*httptest.Server
	mu       sync.Mutex
	script   map[string]string // body, or "status 403"
	requests []string
}

func serve(t *testing.T, script map[string]string) *scripted {
	t.Helper()
	s := &scripted{script: script}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		key := r.Method + " " + r.URL.RequestURI()
		s.mu.Lock()
		s.requests = append(s.requests, key+" "+string(body))
		answer, ok := s.script[key]
		s.mu.Unlock()
		var status int
		switch n, _ := fmt.Sscanf(answer, "status %d", &status); {
		case !ok:
			w.WriteHeader(404)
		case n == 1 && status < 400:
			w.Header().Set("Location", strings.Fields(answer)[2])
			w.WriteHeader(status)
		case n == 1:
			w.WriteHeader(status)
			if _, said, ok := strings.Cut(answer, ": "); ok {
				_, _ = io.WriteString(w, said)
			}
		default:
			_, _ = io.WriteString(w, strings.ReplaceAll(answer, "{base}", s.URL+"/fhir"))
		}
	}))
	t.Cleanup(s.Close)
	return s
}

// asked is the requests so far.
func (s *scripted) asked() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.requests)
}

func (s *scripted) client(t *testing.T, change func(*Options)) *Client {
	t.Helper()
	o := Options{Source: "mh", Address: s.URL + "/fhir", Token: func(context.Context, connector.Requester) (string, error) { return "secret", nil }}
	if change != nil {
		change(&o)
	}
	c, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func set(link string, entries ...string) string {
	l := ""
	if link != "" {
		l = `,"link":[{"relation":"next","url":"` + link + `"}]`
	}
	for i := range entries {
		entries[i] = `{"resource":` + entries[i] + `}`
	}
	return `{"resourceType":"Bundle","type":"searchset"` + l + `,"entry":[` + strings.Join(entries, ",") + `]}`
}

func flag(id, patient string) string {
	return `{"resourceType":"Flag","id":"` + id + `","subject":{"reference":"` + patient + `"}}`
}

const (
	pat      = `{"resourceType":"Patient","id":"p1"}`
	findPath = "POST /fhir/Patient/_search"
	flagPath = "POST /fhir/Flag/_search"
)

func question(headings ...dataset.Heading) connector.Question {
	return connector.Question{Headings: headings, Identifiers: []fhir.Identifier{
		{System: fhir.SystemNHSNumber, Value: number}, {System: "http://local|x", Value: "a,b"}}}
}

func TestThePatientIsFoundByTheFirstIdentifierThatMatchesOne(t *testing.T) {
	other := `{"resourceType":"Patient","id":"p2"}`
	merged := `{"resourceType":"Patient","id":"p2","link":[{"type":"replaced-by","other":{"reference":"{base}/Patient/p1"}}]}`
	for name, c := range map[string]struct {
		answer string
		want   fhir.IssueType
	}{
		"none":                      {set(""), fhir.NotFound},
		"one":                       {set("", pat), ""},
		"one, said twice":           {set("", pat, pat), ""},
		"two":                       {set("", pat, other), fhir.MultipleMatch},
		"two, one merged":           {set("", pat, merged), ""},
		"not FHIR":                  {"<html>", fhir.Structure},
		"not a Bundle":              {pat, fhir.Structure},
		"an OperationOutcome":       {`{"resourceType":"OperationOutcome","issue":[{"severity":"error","code":"throttled","diagnostics":"TAYLOR"}]}`, fhir.Throttled},
		"refused":                   {"status 403", fhir.Suppressed},
		"not signed in":             {"status 401", fhir.Login},
		"a redirect":                {"status 307 http://attacker.test/", fhir.Processing},
		"no such search":            {"status 400", fhir.NotSupported},
		"incomplete, perhaps other": {set("", pat, `{"resourceType":"OperationOutcome","issue":[{"severity":"warning","code":"incomplete"}]}`), fhir.Incomplete},
	} {
		s := serve(t, map[string]string{findPath: c.answer, flagPath: set("")})
		a, err := s.client(t, nil).Ask(t.Context(), question(dataset.Alerts))
		if c.want == "" && (err != nil || a.Patient.ID() != "p1" || a.States[dataset.Alerts] != dataset.NoneRecorded) {
			t.Errorf("%s: %v %+v", name, err, a)
		}
		if c.want != "" && !fhir.Is(err, c.want) {
			t.Errorf("%s: got %v, want %s", name, err, c.want)
		}
		if err != nil && strings.Contains(err.Error(), "TAYLOR") {
			t.Errorf("%s: the remote text came through: %v", name, err)
		}
		if name == "none" {
			want := "identifier=" + url.QueryEscape(`http://local\|x|a\,b`)
			if !strings.Contains(strings.Join(s.asked(), "\n"), want) {
				t.Error("the second identifier was not asked by")
			}
		}
		for _, r := range s.asked() {
			if line, _, _ := strings.Cut(r, " identifier="); strings.Contains(line, number) {
				t.Errorf("%s: the number stands in the URL: %s", name, line)
			}
		}
	}
}

func TestNextLinksAreFollowedOnTheConfiguredAddressOnly(t *testing.T) {
	evil := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("a request went elsewhere, with %q", r.Header.Get("Authorization"))
	}))
	defer evil.Close()
	good := map[string]string{
		"{base}/Flag?page=2":     "GET /fhir/Flag?page=2",
		"?page=2":                "GET /fhir/Flag/_search?page=2",
		"{base}?_getpages=1":     "GET /fhir?_getpages=1",
		"/fhir/Flag?page=2":      "GET /fhir/Flag?page=2",
		"/fhir/Flag?page=2#frag": "GET /fhir/Flag?page=2",
	}
	for link, path := range good {
		s := serve(t, map[string]string{findPath: set("", pat), flagPath: set(link, flag("1", "Patient/p1")), path: set("", flag("2", "Patient/p1"))})
		a, err := s.client(t, nil).Ask(t.Context(), question(dataset.Alerts))
		if err != nil || len(a.Content) != 2 || a.States[dataset.Alerts] != dataset.Present {
			t.Errorf("%s: %v, %+v", link, err, a)
		}
	}
	host := strings.TrimPrefix(evil.URL, "http://")
	for _, link := range []string{
		evil.URL + "/fhir/Flag", "{base}.attacker.test/Flag", "//" + host + "/fhir/Flag", "/other/Flag", "/fhirx/Flag", "{base}/../admin", "{base}/%2e%2e/admin",
		"{base}/..%2fadmin", `{base}/..\\admin`, "ftp://x/fhir", "mailto:x", "http://user@" + host + "/fhir", "::", "{base}@" + host + "/fhir",
	} {
		s := serve(t, map[string]string{findPath: set("", pat), flagPath: set(link, flag("1", "Patient/p1"))})
		a, err := s.client(t, nil).Ask(t.Context(), question(dataset.Alerts))
		if len(a.Content) != 1 {
			t.Errorf("%s: the first page was lost", link)
		}
		if s, known := a.States[dataset.Alerts]; known || err == nil && len(a.Issues) == 0 {
			t.Errorf("%s: state %q, err %v, issues %v: that there is more must be told", link, s, err, a.Issues)
		}
		for _, r := range s.asked() {
			if strings.Contains(r, "admin") {
				t.Errorf("%s: led to %s", link, r)
			}
		}
	}
}

func TestCapsMakeAHeadingNotKnown(t *testing.T) {
	circle := map[string]string{findPath: set("", pat), flagPath: set("{base}/Flag?p=1", flag("1", "Patient/p1")), "GET /fhir/Flag?p=1": set("{base}/Flag?p=1", flag("2", "Patient/p1"))}
	endless := map[string]string{findPath: set("", pat), flagPath: set("{base}/Flag?p=1", flag("1", "Patient/p1"))}
	for i := 1; i < 9; i++ {
		endless[fmt.Sprintf("GET /fhir/Flag?p=%d", i)] = set(fmt.Sprintf("{base}/Flag?p=%d", i+1), flag(fmt.Sprint("x", i), "Patient/p1"))
	}
	for name, c := range map[string]struct {
		script map[string]string
		change func(*Options)
		want   fhir.IssueType
		found  int
	}{
		"a circle":   {circle, nil, fhir.Incomplete, 2},
		"many pages": {endless, func(o *Options) { o.MaxPages = 3 }, fhir.Incomplete, 3},
		"many bytes": {map[string]string{findPath: set("", pat), flagPath: set("", flag(strings.Repeat("9", 60), "Patient/p1"), `{"resourceType":"Flag","language":"`+strings.Repeat("x", 9000)+`"}`)},
			func(o *Options) { o.MaxBytes = 4000 }, fhir.TooLong, 0},
	} {
		s := serve(t, c.script)
		a, err := s.client(t, c.change).Ask(t.Context(), question(dataset.Alerts))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if _, known := a.States[dataset.Alerts]; known || len(a.Content) != c.found || len(a.Issues) != 1 || a.Issues[0].Type != c.want {
			t.Errorf("%s: states %v, %d entries, issues %v", name, a.States, len(a.Content), a.Issues)
		}
	}
}

func TestEachHeadingSaysWhatBecameOfItsSearch(t *testing.T) {
	s := serve(t, map[string]string{
		findPath:                                set("", pat),
		flagPath:                                set("", flag("1", "{base}/Patient/p1"), flag("2", "Patient/p2"), flag("3", "")),
		"POST /fhir/AllergyIntolerance/_search": set(""),
		"POST /fhir/Condition/_search": set("", `{"resourceType":"Condition","id":"1","subject":{"reference":"Patient/p1"}}`,
			`{"resourceType":"OperationOutcome","issue":[{"severity":"warning","code":"timeout","diagnostics":"Mrs Taylor's file 9990000018","details":{"coding":[{"code":"ARCHIVE_DOWN"}]}}]}`),
		"POST /fhir/Procedure/_search":         "status 403",
		"POST /fhir/Encounter/_search":         "status 500",
		"POST /fhir/EpisodeOfCare/_search":     set(""),
		"POST /fhir/Appointment/_search":       set("", `{"resourceType":"Appointment","id":"1","participant":[{"actor":{"reference":"Practitioner/9"}},{"actor":{"reference":"Patient/p1"}}]}`),
		"POST /fhir/Practitioner/_search":      set("", `{"resourceType":"Practitioner","id":"9"}`, `{"resourceType":"Practitioner","id":"10"}`),
		"POST /fhir/RelatedPerson/_search":     set("", `{"resourceType":"RelatedPerson","id":"9","patient":{"identifier":{"system":"https://fhir.nhs.uk/Id/nhs-number","value":"999 000 0018"}}}`),
		"POST /fhir/DocumentReference/_search": set("", `{"resourceType":"DocumentReference","id":"d","subject":{"reference":"Patient/p1"},"custodian":{"reference":"https://elsewhere.test/fhir/Organization/1"},"content":[{"attachment":{"url":"{base}/Binary/b"}}]}`),
		"POST /fhir/CarePlan/_search":          set("", `{"resourceType":"CarePlan","id":"e","subject":{"reference":"Patient/p1"},"category":[{"coding":[{"code":"736373009"}]}]}`),
		"POST /fhir/Goal/_search":              set(""),
	})
	a, err := s.client(t, nil).Ask(t.Context(), question(dataset.Alerts, dataset.Allergies, dataset.Problems, dataset.Procedures, dataset.Encounters,
		dataset.Appointments, dataset.PersonalContacts, dataset.Documents, dataset.Immunisations, dataset.CarePlans, dataset.Maternity))
	if !fhir.Is(err, fhir.Transient) || !strings.HasPrefix(err.Error(), "mh: Encounter: 1 of ") {
		t.Errorf("the server's own failure is the error: %v", err)
	}
	want := map[dataset.Heading]dataset.State{
		dataset.Allergies: dataset.NoneRecorded, dataset.Procedures: dataset.NotShared, dataset.Appointments: dataset.Present,
		dataset.PersonalContacts: dataset.Present, dataset.Documents: dataset.Present, dataset.CarePlans: dataset.NoneRecorded,
	}
	if fmt.Sprint(a.States) != fmt.Sprint(want) {
		t.Errorf("states %v\nwant   %v", a.States, want)
	}
	content := map[string]string{}
	for _, r := range a.Content {
		content[string(r.Ref())] = string(r.Raw())
	}
	if len(content) != 6 || content["Practitioner/9"] == "" || content["CarePlan/e"] != "" {
		t.Errorf("content: %v", content)
	}
	if !strings.Contains(content["Flag/1"], `"reference":"Patient/p1"`) {
		t.Errorf("an own absolute reference stayed: %s", content["Flag/1"])
	}
	if d := content["DocumentReference/d"]; !strings.Contains(d, `"url":"`+s.URL+`/fhir/Binary/b"`) || !strings.Contains(d, "https://elsewhere.test/fhir/Organization/1") {
		t.Errorf("document: %s", d)
	}
	issues := map[fhir.IssueType]int{}
	for _, i := range a.Issues {
		issues[i.Type]++
		if strings.Contains(i.Text, "Taylor") || strings.Contains(i.Text, number) || i.Source != "mh" {
			t.Errorf("issue: %v", i)
		}
	}
	wantIssues := map[fhir.IssueType]int{fhir.BusinessRule: 2, fhir.Timeout: 1, fhir.Suppressed: 1, fhir.Transient: 1, fhir.NotSupported: 2}
	if fmt.Sprint(issues) != fmt.Sprint(wantIssues) {
		t.Errorf("issues %v\nwant   %v", a.Issues, wantIssues)
	}
}

func TestADeadlineGivesWhatCameInTime(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.ReadAll(r.Body)
		switch r.URL.Path {
		case "/Patient/_search":
			_, _ = io.WriteString(w, set("", pat))
		case "/Flag/_search":
			_, _ = io.WriteString(w, set("", flag("1", "Patient/p1")))
		default:
			<-r.Context().Done()
		}
	}))
	defer s.Close()
	c, err := New(Options{Source: "mh", Address: s.URL, HTTP: &http.Client{}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 900*time.Millisecond)
	defer cancel()
	a, err := c.Ask(ctx, question(dataset.Alerts, dataset.Allergies))
	if !fhir.Is(err, fhir.Timeout) || a == nil || len(a.Content) != 1 || a.States[dataset.Alerts] != dataset.Present {
		t.Errorf("got %+v, %v", a, err)
	}
}

func TestOnlyWhatTheServerOffersIsAskedFor(t *testing.T) {
	s := serve(t, map[string]string{findPath: set("", pat), "POST /fhir/MedicationRequest/_search": set(""),
		"GET /fhir/metadata": `{"resourceType":"CapabilityStatement","rest":[{"resource":[{"type":"Patient","interaction":[{"code":"search-type"}]},
			{"type":"MedicationRequest","interaction":[{"code":"search-type"}]},{"type":"Flag","interaction":[{"code":"read"}]}]}]}`})
	c := s.client(t, nil)
	for range 2 {
		a, err := c.Ask(t.Context(), question(dataset.Medications, dataset.Alerts))
		if err != nil || a.States[dataset.Medications] != dataset.NoneRecorded || len(a.States) != 1 || len(a.Issues) != 1 || a.Issues[0].Type != fhir.NotSupported {
			t.Errorf("%+v %v", a, err)
		}
	}
	n := 0
	for _, r := range s.asked() {
		if strings.Contains(r, "metadata") {
			n++
		}
		if strings.Contains(r, "MedicationStatement") || strings.Contains(r, "Flag") {
			t.Errorf("asked for what is not offered: %s", r)
		}
	}
	if n != 1 {
		t.Errorf("the CapabilityStatement was asked for %d times", n)
	}
}

func TestAnAddressMustBeABaseURL(t *testing.T) {
	for _, a := range []string{"", "mh.example/fhir", "ftp://x/", "https://user:pw@x/fhir", "https://x/fhir?a=b", "https://x/a/../b"} {
		if _, err := New(Options{Source: "mh", Address: a}); !fhir.Is(err, fhir.ValueError) {
			t.Errorf("%q: %v", a, err)
		}
	}
}
