package neighbour

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"tombolo/connector"
	"tombolo/dataset"
	"tombolo/fhir"
)

var question = connector.Question{Identifiers: []fhir.Identifier{{System: fhir.SystemNHSNumber, Value: "9990000107"}},
	Headings:  []dataset.Heading{dataset.Allergies, dataset.Problems, dataset.Maternity},
	Requester: connector.Requester{UserID: "dr\r\nX: y", RoleName: "Doctor", OrganisationODS: "RX1", Purpose: "TREAT", TraceID: "t-1", Via: []string{"far", "here"}}}

const answer = `{"resourceType":"Bundle","type":"searchset","entry":[
 {"resource":{"resourceType":"Patient","id":"p","birthDate":"1948-03-12"},"search":{"mode":"match"}},
 {"resource":{"resourceType":"AllergyIntolerance","id":"a","patient":{"reference":"Patient/p"}},"search":{"mode":"match"}},
 {"resource":{"resourceType":"Provenance","id":"v"},"search":{"mode":"include"}},
 {"resource":{"resourceType":"OperationOutcome","issue":[{"severity":"warning","code":"timeout","diagnostics":"Hill did not answer"}]},"search":{"mode":"outcome"}},
 {"resource":{"resourceType":"OperationOutcome","issue":[{"severity":"information","code":"informational"}],"extension":[
   {"url":"u","extension":[{"url":"heading","valueCode":"problems"},{"url":"state","valueCode":"none-recorded"}]},
   {"url":"u","extension":[{"url":"heading","valueCode":"problems"},{"url":"state","valueCode":"not-known"},{"url":"source","valueCode":"s"}]},
   {"url":"u","extension":[{"url":"heading","valueCode":"maternity"},{"url":"state","valueCode":"not-known"},{"url":"given","valueBoolean":false}]}]},"search":{"mode":"outcome"}}]}`

func serve(t *testing.T, h http.HandlerFunc) *Neighbour {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	n, err := New(Options{Source: "wye", Address: srv.URL, Token: "secret", MaxBytes: 10_000})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestANeighboursAnswerIsTakenApart(t *testing.T) {
	n := serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if strings.Contains(r.URL.String(), "9990000107") || !strings.Contains(string(body), "9990000107") {
			t.Error("the number is not in the body alone")
		}
		if r.Header.Get("Authorization") != "Bearer secret" || r.Header.Get(connector.HeaderVia) != "far, here" || r.Header.Get(HeaderUser) != "drX: y" || r.Header.Get("X") != "" {
			t.Errorf("headers: %v", r.Header)
		}
		_, _ = io.WriteString(w, answer)
	})
	a, err := n.Ask(t.Context(), question)
	if err != nil {
		t.Fatal(err)
	}
	if a.Patient == nil || a.Patient.Text("birthDate") != "1948-03-12" || len(a.Content) != 1 {
		t.Errorf("patient %v, %d entries", a.Patient, len(a.Content))
	}
	if a.States[dataset.Allergies] != dataset.Present || a.States[dataset.Problems] != dataset.NotKnown { // one of its sources was not heard
		t.Errorf("states %v", a.States)
	}
	if _, told := a.States[dataset.Maternity]; told {
		t.Error("a heading that the neighbour's region does not give has a state")
	}
	if len(a.Issues) != 1 || a.Issues[0].Type != fhir.Timeout {
		t.Errorf("issues %v", a.Issues)
	}
}

func TestANeighboursFailuresHaveTheirType(t *testing.T) {
	status := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "http://192.0.2.1/")
			w.WriteHeader(code)
		}
	}
	text := func(s string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, s) }
	}
	saying := func(code int, s string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(code)
			_, _ = io.WriteString(w, s)
		}
	}
	const notFound = `{"resourceType":"OperationOutcome","issue":[{"severity":"error","code":"not-found"}]}`
	two := strings.Replace(answer, `{"resourceType":"Provenance","id":"v"},"search":{"mode":"include"}`, `{"resourceType":"Patient","id":"q"},"search":{"mode":"match"}`, 1)
	for name, c := range map[string]struct {
		h    http.HandlerFunc
		want fhir.IssueType
	}{
		"unknown there": {saying(404, notFound), fhir.NotFound}, "nothing is there": {saying(404, "<html>not here</html>"), fhir.NotSupported},
		"no such operation": {saying(404, strings.Replace(notFound, "not-found", "not-supported", 1)), fhir.NotSupported}, "refused": {status(403), fhir.Suppressed}, "unknown credential": {status(401), fhir.Suppressed},
		"busy": {status(429), fhir.Throttled}, "broken": {status(500), fhir.Transient}, "redirect": {status(302), fhir.Transient}, "not understood": {status(400), fhir.NotSupported},
		"garbage": {text("<html>"), fhir.Structure}, "no bundle": {text(`{"resourceType":"Patient"}`), fhir.Structure}, "too large": {text(strings.Repeat(" ", 20_000)), fhir.TooLong},
		"two people": {text(two), fhir.BusinessRule},
		"hangs": {func(_ http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			<-r.Context().Done()
		}, fhir.Timeout},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
			defer cancel()
			if name != "hangs" {
				ctx = t.Context()
			}
			if a, err := serve(t, c.h).Ask(ctx, question); a != nil || !fhir.Is(err, c.want) {
				t.Errorf("got %v, want %s", err, c.want)
			}
		})
	}
}

func TestANeighbourNeedsAnAddress(t *testing.T) {
	for _, a := range []string{"", "wye", "ftp://x", "://"} {
		if _, err := New(Options{Source: "wye", Address: a}); !fhir.Is(err, fhir.ValueError) {
			t.Errorf("%q: %v", a, err)
		}
	}
}

// What a neighbour sends under the right Patient and is somebody else's is not taken, and the heading is not called known.
func TestWhatIsSomebodyElsesAtANeighbourIsDropped(t *testing.T) {
	n := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, strings.Replace(answer, `"patient":{"reference":"Patient/p"}`, `"patient":{"reference":"Patient/q"}`, 1))
	})
	a, err := n.Ask(t.Context(), question)
	if err != nil {
		t.Fatal(err)
	}
	if len(a.Content) != 0 || a.States[dataset.Allergies] != dataset.NotKnown {
		t.Errorf("taken: %v, allergies %s", a.Content, a.States[dataset.Allergies])
	}
	if i := slices.IndexFunc(a.Issues, func(i *fhir.Issue) bool { return i.Type == fhir.BusinessRule }); i < 0 {
		t.Errorf("nothing is said of it: %v", a.Issues)
	}
}

// A region may know somebody by one number of theirs and not by the other.
func TestANeighbourIsAskedByEachNumberInTurn(t *testing.T) {
	var asked []string
	n := serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		v, _ := fhir.ParseValue(body)
		for p := range v.All("parameter") {
			if id := p.Text("valueIdentifier.value"); id != "" {
				asked = append(asked, id)
			}
		}
		if strings.Contains(string(body), "9990000107") {
			w.WriteHeader(404)
			_, _ = io.WriteString(w, `{"resourceType":"OperationOutcome","issue":[{"severity":"error","code":"not-found"}]}`)
			return
		}
		_, _ = io.WriteString(w, answer)
	})
	q := question
	q.Identifiers = append(slices.Clone(q.Identifiers), fhir.Identifier{System: fhir.SystemCHI, Value: "0101019998"})
	if a, err := n.Ask(t.Context(), q); err != nil || len(a.Content) != 1 {
		t.Errorf("%v, %v", a, err)
	}
	if want := []string{"9990000107", "0101019998"}; !slices.Equal(asked, want) {
		t.Errorf("asked by %v, want %v", asked, want)
	}
}

// A neighbour that never ends what it says of what is missing fills neither memory nor the page.
func TestANeighboursRemarksAreBounded(t *testing.T) {
	remark := `{"severity":"warning","code":"timeout","diagnostics":"` + strings.Repeat("x", 500) + `"}`
	n := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"resourceType":"Bundle","type":"searchset","entry":[{"resource":{"resourceType":"OperationOutcome","issue":[`+strings.Repeat(remark+",", 999)+remark+`]}}]}`)
	})
	n.o.MaxBytes = 1 << 20
	a, err := n.Ask(t.Context(), question)
	if err != nil {
		t.Fatal(err)
	}
	if len(a.Issues) != mostIssues+1 || len(a.Issues[0].Text) > 410 {
		t.Errorf("%d remarks, the first of %d bytes", len(a.Issues), len(a.Issues[0].Text))
	}
}
