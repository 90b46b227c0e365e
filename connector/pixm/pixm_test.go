package pixm_test

import (
	"context"
	"encoding/xml"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"tombolo/connector"
	"tombolo/connector/connectortest"
	"tombolo/connector/pixm"
	"tombolo/dataset"
	"tombolo/fhir"
)

const chi = "0101019998"

var (
	ann      = fhir.Identifier{System: fhir.SystemNHSNumber, Value: "9990000107"}
	nobody   = fhir.Identifier{System: fhir.SystemNHSNumber, Value: "9990000433"}
	question = connector.Question{Identifiers: []fhir.Identifier{ann}, Headings: []dataset.Heading{dataset.Demographics}, Wanted: []string{fhir.SystemCHI},
		Requester: connector.Requester{UserID: "ade", OrganisationODS: "RX1", Purpose: "TREAT", TraceID: "t-1"}}
	described = fhir.New("Patient", "", fhir.M{"name": []fhir.HumanName{{Family: "Taylor", Given: []string{"Ann"}}}, "birthDate": "1948-03-12", "gender": "female"})
)

// there is an index that knows Ann by her CHI number, as IHE ITI-83 has it answer.
func there(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	p, err := fhir.Parse(body)
	w.Header().Set("Content-Type", "application/fhir+json")
	if err != nil || r.URL.Path != "/Patient/$ihe-pix" {
		w.WriteHeader(http.StatusNotFound)
		_, _ = io.WriteString(w, `{"resourceType":"OperationOutcome","issue":[{"severity":"error","code":"not-supported"}]}`)
		return
	}
	if p.Text("parameter.valueString") != ann.System+"|"+ann.Value {
		w.WriteHeader(http.StatusNotFound)
		_, _ = io.WriteString(w, `{"resourceType":"OperationOutcome","issue":[{"severity":"error","code":"not-found","diagnostics":"sourceIdentifier Patient Identifier not found"}]}`)
		return
	}
	_, _ = io.WriteString(w, `{"resourceType":"Parameters","parameter":[{"name":"targetIdentifier","valueIdentifier":{"system":"`+fhir.SystemCHI+`","value":"`+chi+`"}},
		{"name":"targetId","valueReference":{"reference":"Patient/1"}}]}`)
}

func index(t testing.TB, h http.HandlerFunc, ways ...string) *pixm.Index {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(func() { srv.CloseClientConnections(); srv.Close() })
	x, err := pixm.New(pixm.Options{Source: "north/index", Address: srv.URL, Ways: ways, MaxBytes: 100_000})
	if err != nil {
		t.Fatal(err)
	}
	return x
}

// An index is held to what every source that is asked is held to.
func TestAnIndexIsAskedAsASourceIs(t *testing.T) {
	has := func(id fhir.Identifier) func(*fhir.Resource) bool {
		return func(p *fhir.Resource) bool {
			return slices.ContainsFunc(p.Identifiers(), func(o fhir.Identifier) bool { return o.System == id.System && o.Value == id.Value })
		}
	}
	unknown := question
	unknown.Identifiers = []fhir.Identifier{nobody}
	connectortest.RunAsker(t, connectortest.Fixture{
		New: func(t testing.TB, address string, maxBytes int64) connector.Asker {
			x, err := pixm.New(pixm.Options{Source: "north/index", Address: address, MaxBytes: maxBytes})
			if err != nil {
				t.Fatal(err)
			}
			return x
		},
		Source: http.HandlerFunc(there), Known: question, Unknown: unknown, ContentType: "application/fhir+json",
		// Whose identifiers they are PIXm does not say: a NHS number that is another's shows it.
		Other: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/fhir+json")
			_, _ = io.WriteString(w, `{"resourceType":"Parameters","parameter":[{"name":"targetIdentifier","valueIdentifier":{"system":"`+fhir.SystemCHI+`","value":"3112999991"}}]}`)
		}),
		IsKnown: has(fhir.Identifier{System: fhir.SystemCHI, Value: chi}), IsOther: has(fhir.Identifier{System: fhir.SystemCHI, Value: "3112999991"}),
	})
}

// By identifier first, then by description, and only somebody about whom the index has no doubt.
func TestADescriptionGoesAfterTheIdentifiers(t *testing.T) {
	patient := func(id, grade string) string {
		return `{"resource":{"resourceType":"Patient","id":"` + id + `","identifier":[{"system":"` + fhir.SystemCHI + `","value":"` + chi + `"}],"name":[{"family":"Taylor","given":["Ann"]}],"birthDate":"1948-03-12"},
			"search":{"mode":"match","score":0.9,"extension":[{"url":"http://hl7.org/fhir/StructureDefinition/match-grade","valueCode":"` + grade + `"}]}}`
	}
	bundle := func(entries ...string) string {
		return `{"resourceType":"Bundle","type":"searchset","entry":[` + strings.Join(entries, ",") + `]}`
	}
	for name, c := range map[string]struct {
		ways   []string
		answer string
		want   fhir.IssueType // "" if somebody is found
		asked  []string
	}{
		"certain":               {[]string{"pix", "match"}, bundle(patient("a", "certain")), "", []string{"$ihe-pix", "$match"}},
		"probable":              {[]string{"match"}, bundle(patient("a", "probable")), fhir.MultipleMatch, []string{"$match"}},
		"two":                   {[]string{"match"}, bundle(patient("a", "certain"), patient("b", "certain")), fhir.MultipleMatch, []string{"$match"}},
		"not whole":             {[]string{"match"}, bundle(patient("a", "certain"), `{"resource":{"resourceType":"OperationOutcome","issue":[{"severity":"warning","code":"incomplete"}]},"search":{"mode":"outcome"}}`), fhir.Incomplete, []string{"$match"}},
		"nobody":                {[]string{"match", "search"}, bundle(), fhir.NotFound, []string{"$match", "_search"}},
		"described exactly":     {[]string{"search"}, bundle(patient("a", "")), "", []string{"_search"}},
		"not asked by identity": {[]string{"pix"}, bundle(patient("a", "certain")), fhir.NotFound, []string{"$ihe-pix"}},
	} {
		t.Run(name, func(t *testing.T) {
			var asked []string
			x := index(t, func(w http.ResponseWriter, r *http.Request) {
				asked = append(asked, strings.TrimPrefix(r.URL.Path, "/Patient/"))
				body, _ := io.ReadAll(r.Body)
				if r.URL.RawQuery != "" || r.Method != "POST" || strings.Contains(r.URL.Path, "$match") && !strings.Contains(string(body), `"onlyCertainMatches"`) {
					t.Errorf("%s %s: %s", r.Method, r.URL, body)
				}
				if strings.HasSuffix(r.URL.Path, "$ihe-pix") {
					w.WriteHeader(404)
					_, _ = io.WriteString(w, `{"resourceType":"OperationOutcome","issue":[{"severity":"error","code":"not-found"}]}`)
					return
				}
				_, _ = io.WriteString(w, c.answer)
			}, c.ways...)
			q := question
			q.About = described
			a, err := x.Ask(t.Context(), q)
			if c.want == "" && (err != nil || a.Patient.ID() != "a") || c.want != "" && !fhir.Is(err, c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
			if !slices.Equal(asked, c.asked) {
				t.Errorf("asked %v, want %v", asked, c.asked)
			}
		})
	}
	var told string
	x := index(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		told += r.URL.Path + string(body)
		there(w, r)
	}, "match")
	if _, err := x.Ask(t.Context(), question); !fhir.Is(err, fhir.NotFound) || told != "" {
		t.Errorf("without a description: %v, told %s", err, told)
	}
}

// Whatever else an index answers is a failure, and says nothing of anybody: not that they are unknown.
func TestAnIndexsFailuresHaveTheirType(t *testing.T) {
	outcome := func(status int, code string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			_, _ = io.WriteString(w, `{"resourceType":"OperationOutcome","issue":[{"severity":"error","code":"`+code+`","diagnostics":"about 9990000107"}]}`)
		}
	}
	for name, c := range map[string]struct {
		h    http.HandlerFunc
		want fhir.IssueType
	}{
		"unknown there": {outcome(404, "not-found"), fhir.NotFound}, "its systems are others": {outcome(400, "code-invalid"), fhir.NotFound}, "wanted systems are unknown": {outcome(403, "code-invalid"), fhir.NotSupported},
		"wrong address": {http.NotFound, fhir.NotSupported}, "no POST": {outcome(405, "not-supported"), fhir.NotSupported}, "refused": {outcome(403, "forbidden"), fhir.Forbidden}, "unknown credential": {outcome(401, "login"), fhir.Forbidden},
		"busy": {outcome(429, "throttled"), fhir.Throttled}, "broken": {outcome(503, "transient"), fhir.Transient}, "not Parameters": {outcome(200, "timeout"), fhir.Structure},
	} {
		t.Run(name, func(t *testing.T) {
			a, err := index(t, c.h).Ask(t.Context(), question)
			if a != nil || !fhir.Is(err, c.want) || strings.Contains(err.Error(), ann.Value) {
				t.Errorf("got %v, want %s", err, c.want)
			}
		})
	}
	two := index(t, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"resourceType":"Parameters","parameter":[{"name":"targetIdentifier","valueIdentifier":{"system":"`+fhir.SystemCHI+`","value":"`+chi+`"}},{"name":"targetIdentifier","valueIdentifier":{"system":"`+fhir.SystemCHI+`","value":"3112999991"}}]}`)
	})
	if _, err := two.Ask(t.Context(), question); !fhir.Is(err, fhir.MultipleMatch) {
		t.Errorf("two numbers of one system: %v", err)
	}
}

// An index that takes GET alone, and the credential of whoever asks.
func TestAnIndexIsAskedByGETOnlyWhereItMustBe(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if q := r.URL.Query(); r.Method != "GET" || q.Get("sourceIdentifier") != ann.System+"|"+ann.Value || q.Get("targetSystem") != fhir.SystemCHI || r.Header.Get("Authorization") != "Bearer for ade" {
			t.Errorf("%s %s %v", r.Method, r.URL, r.Header)
		}
		_, _ = io.WriteString(w, `{"resourceType":"Parameters","parameter":[{"name":"targetIdentifier","valueIdentifier":{"system":"`+fhir.SystemCHI+`","value":"`+chi+`"}}]}`)
	}))
	t.Cleanup(srv.Close)
	x, err := pixm.New(pixm.Options{Source: "north/index", Address: srv.URL, Get: true, Token: func(_ context.Context, who connector.Requester) (string, error) { return "for " + who.UserID, nil }})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if a, err := x.Ask(ctx, question); err != nil || len(a.Patient.Identifiers()) != 2 {
		t.Errorf("%v %v", a, err)
	}
}

// What IHE publishes as answers of PIXm and PDQm is read, each as it is meant.
func TestThePublishedAnswersOfPIXmAndPDQmAreRead(t *testing.T) {
	dir := "../../../shared/data/12-consent-audit-exchange"
	if _, err := os.Stat(dir); err != nil {
		t.Skip("the published samples are not here: they come with ../shared/data")
	}
	ask := func(body, way string, q connector.Question) (*connector.Answer, error) {
		return index(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, body) }, way).Ask(t.Context(), q)
	}
	red := connector.Question{Identifiers: []fhir.Identifier{{System: "urn:oid:1.3.6.1.4.1.21367.13.20.1000", Value: "IHERED-994"}}}
	for file, want := range map[string][]string{"pixm-response-mohralice-red-all.xml": {"IHEBLUE-994", "IHEGREEN-994", "IHERED-994"}, "pixm-response-mohralice-red-to-blue.xml": {"IHEBLUE-994", "IHERED-994"}} {
		a, err := ask(inJSON(t, filepath.Join(dir, "ihe-pixm", file)), "pix", red)
		if err != nil {
			t.Errorf("%s: %v", file, err)
			continue
		}
		var got []string
		for _, id := range a.Patient.Identifiers() {
			got = append(got, id.Value)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", file, got, want)
		}
	}
	q := connector.Question{About: described}
	for file, want := range map[string]fhir.IssueType{"Bundle-ex-match-output.json": "", "Bundle-ex-match-output-multiple.json": fhir.MultipleMatch, "Bundle-ex-match-output-empty.json": fhir.NotFound,
		"Bundle-ex-match-output-error.json": fhir.Timeout, "Bundle-ex-match-output-warning.json": fhir.Timeout} {
		body, err := os.ReadFile(filepath.Join(dir, "ihe-pdqm", file))
		if err != nil {
			t.Fatal(err)
		}
		a, err := ask(string(body), "match", q)
		if want == "" && (err != nil || a.Patient == nil) || want != "" && !fhir.Is(err, want) {
			t.Errorf("%s: %v, want %q", file, err, want)
		}
	}
	body, err := os.ReadFile(filepath.Join(dir, "ihe-pdqm", "Bundle-ex-QueryPatientResourceResponseMessage.json"))
	if err != nil {
		t.Fatal(err)
	}
	if a, err := ask(string(body), "search", q); err != nil && !fhir.Is(err, fhir.MultipleMatch) || err == nil && a.Patient == nil {
		t.Errorf("the published answer of ITI-78: %v", err)
	}
}

// inJSON is a published Parameters resource, of which there are only XML forms, in JSON.
func inJSON(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	type value struct {
		Value string `xml:"value,attr"`
	}
	var p struct {
		Parameter []struct {
			Name       value `xml:"name"`
			Identifier *struct {
				System value `xml:"system"`
				Value  value `xml:"value"`
			} `xml:"valueIdentifier"`
			Reference *struct {
				Reference value `xml:"reference"`
			} `xml:"valueReference"`
		} `xml:"parameter"`
	}
	if err := xml.Unmarshal(data, &p); err != nil {
		t.Fatal(err)
	}
	var all []fhir.M
	for _, one := range p.Parameter {
		m := fhir.M{"name": one.Name.Value}
		if one.Identifier != nil {
			m["valueIdentifier"] = fhir.Identifier{System: one.Identifier.System.Value, Value: one.Identifier.Value.Value}
		}
		if one.Reference != nil {
			m["valueReference"] = fhir.Reference{Reference: one.Reference.Reference.Value}
		}
		all = append(all, m)
	}
	return string(fhir.New("Parameters", "", fhir.M{"parameter": all}).Raw())
}

func FuzzAnswer(f *testing.F) {
	f.Add([]byte(`{"resourceType":"Parameters","parameter":[{"name":"targetIdentifier","valueIdentifier":{"system":"a","value":"b"}}]}`), false)
	f.Add([]byte(`{"resourceType":"Bundle","entry":[{"resource":{"resourceType":"Patient"},"search":{"extension":[{"url":"http://hl7.org/fhir/StructureDefinition/match-grade","valueCode":"certain"}]}}]}`), true)
	f.Add([]byte(`{"resourceType":"Bundle","entry":[{"resource":{"resourceType":"OperationOutcome","issue":[{"severity":"fatal","code":"x"}]}}]}`), true)
	f.Fuzz(func(t *testing.T, body []byte, match bool) {
		way := "pix"
		if match {
			way = "match"
		}
		x, err := pixm.New(pixm.Options{Source: "i", Address: "http://i", Ways: []string{way}, HTTP: &http.Client{Transport: answers(body)}})
		if err != nil {
			t.Fatal(err)
		}
		q := question
		q.About = described
		if a, err := x.Ask(t.Context(), q); err == nil && a.Patient == nil {
			t.Error("neither a person nor a reason")
		}
	})
}

type answers []byte

func (a answers) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: 200, Header: http.Header{}, Request: r, Body: io.NopCloser(strings.NewReader(string(a)))}, nil
}
