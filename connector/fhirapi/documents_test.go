package fhirapi

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"tombolo/connector"
	"tombolo/dataset"
	"tombolo/fhir"
)

const docsPath = "POST /fhir/DocumentReference/_search"

func responder(t *testing.T, script map[string]string) (*Documents, *scripted) {
	t.Helper()
	s := serve(t, script)
	d, err := NewDocuments(Options{Source: "mhd", Address: s.URL + "/fhir"})
	if err != nil {
		t.Fatal(err)
	}
	return d, s
}

const (
	ofThem   = `"subject":{"identifier":{"system":"https://fhir.nhs.uk/Id/nhs-number","value":"` + number + `"}}`
	ofOthers = `"subject":{"identifier":{"system":"https://fhir.nhs.uk/Id/nhs-number","value":"9990000107"}}`
)

func doc(id, subject, url string) string {
	return `{"resourceType":"DocumentReference","id":"` + id + `","status":"current",` + subject + `,"content":[{"attachment":{"url":"` + url + `","contentType":"application/pdf"}}]}`
}

// IHE MHD ITI-67: the person is named by identifier, in the body.
func TestADocumentResponderIsAskedByIdentifier(t *testing.T) {
	d, s := responder(t, map[string]string{docsPath: set("", doc("1", ofThem, "Binary/1"), doc("2", ofOthers, "Binary/2"), doc("3", `"description":"nobody's"`, "Binary/3"))})
	a, err := d.Ask(t.Context(), question(dataset.Documents, dataset.Allergies))
	if !fhir.Is(err, fhir.Incomplete) {
		t.Errorf("two documents were not the person's, and the answer is called whole (%v)", err)
	}
	if len(a.Content) != 1 || a.Content[0].ID() != "1" || a.States[dataset.Documents] != dataset.Present {
		t.Fatalf("content %v, states %v", a.Content, a.States)
	}
	if _, said := a.States[dataset.Allergies]; said {
		t.Error("a document responder says something of allergies")
	}
	if a.Patient == nil || a.Patient.Text("identifier.value") != number || a.Content[0].Text("subject.reference") != "Patient/"+a.Patient.ID() {
		t.Errorf("whose: %v, of %s", a.Patient, a.Content[0].Text("subject.reference"))
	}
	for _, r := range s.asked() {
		if at, _, _ := strings.Cut(r, "HTTP"); strings.Contains(strings.Fields(at)[1], number) {
			t.Errorf("a number stands in a URL: %s", at)
		}
	}
}

func TestADocumentsPatientOnTheSameServerIsLookedAt(t *testing.T) {
	script := map[string]string{docsPath: set("", doc("1", `"subject":{"reference":"Patient/p9"}`, "Binary/1")),
		"GET /fhir/Patient/p9": `{"resourceType":"Patient","id":"p9","identifier":[{"system":"https://fhir.nhs.uk/Id/nhs-number","value":"` + number + `"}]}`}
	d, _ := responder(t, script)
	if a, err := d.Ask(t.Context(), question(dataset.Documents)); err != nil || len(a.Content) != 1 || a.Patient.ID() != "p9" {
		t.Errorf("%v, %v", a, err)
	}
	script["GET /fhir/Patient/p9"] = strings.ReplaceAll(script["GET /fhir/Patient/p9"], number, "9990000107")
	d, _ = responder(t, script)
	if a, err := d.Ask(t.Context(), question(dataset.Documents)); err == nil || a != nil && len(a.Content) > 0 {
		t.Errorf("another patient's document was taken: %v", a)
	}
}

func TestNoDocumentsIsNotNothing(t *testing.T) {
	d, _ := responder(t, map[string]string{docsPath: set("")})
	if _, err := d.Ask(t.Context(), question(dataset.Documents)); !fhir.Is(err, fhir.NotFound) {
		t.Errorf("%v, want NotFound: a responder without documents does not say that it knows the person", err)
	}
}

// IHE MHD ITI-68: from where the documents came and nowhere else, for credentials go with the request.
func TestAFileIsFetchedFromItsOwnServerOnly(t *testing.T) {
	c, s := responder(t, map[string]string{
		"GET /fhir/Binary/1": `{"resourceType":"Binary","id":"1","contentType":"text/plain","data":"aGVsbG8="}`,
		"GET /fhir/Binary/2": "status 302 http://127.0.0.1:1/elsewhere",
	})
	by := connector.Requester{TraceID: "t"}
	for _, at := range []string{"https://elsewhere.test/fhir/Binary/1", s.URL + "/other/Binary/1", s.URL + "/fhir/../admin", s.URL + "/fhir/Binary/1?x=y",
		"http://user:pw@" + strings.TrimPrefix(s.URL, "http://") + "/fhir/Binary/1", "file:///etc/passwd", s.URL + "/fhir/%2e%2e/admin", "Binary/1"} {
		before := len(s.asked())
		if _, err := c.Fetch(t.Context(), by, at); !fhir.Is(err, fhir.Processing) {
			t.Errorf("%s: %v", at, err)
		}
		if len(s.asked()) != before {
			t.Errorf("%s was asked for", at)
		}
	}
	if _, err := c.Fetch(t.Context(), by, s.URL+"/fhir/Binary/2"); err == nil || !strings.Contains(err.Error(), "redirect") {
		t.Errorf("a redirect: %v", err)
	}
}

func TestAFileComesAsABinaryOrAsItIs(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		kind, body := map[string][2]string{
			"/fhir/Binary/1": {"application/fhir+json", `{"resourceType":"Binary","id":"1","contentType":"text/plain","data":"aGVsbG8="}`},
			"/fhir/doc/2":    {"application/pdf", "%PDF"},
			"/fhir/Binary/3": {"application/fhir+json", `{"resourceType":"Binary","id":"3"}`},
			"/fhir/Binary/4": {"application/fhir+json", `{"resourceType":"OperationOutcome"}`},
			"/fhir/Binary/5": {"application/pdf", strings.Repeat("x", 2000)},
		}[r.URL.Path], ""
		body = kind[1]
		w.Header().Set("Content-Type", kind[0])
		_, _ = io.WriteString(w, body)
	}))
	defer srv.Close()
	c, err := New(Options{Source: "mh", Address: srv.URL + "/fhir", MaxBytes: 1000})
	if err != nil {
		t.Fatal(err)
	}
	for at, want := range map[string][2]string{"/fhir/Binary/1": {"text/plain", "aGVsbG8="}, "/fhir/doc/2": {"application/pdf", "JVBERg=="}} {
		b, err := c.Fetch(t.Context(), connector.Requester{}, srv.URL+at)
		if err != nil || b.Text("contentType") != want[0] || b.Text("data") != want[1] {
			t.Errorf("%s: %v, %v", at, b, err)
		}
	}
	for at, want := range map[string]fhir.IssueType{"/fhir/Binary/3": fhir.Required, "/fhir/Binary/4": fhir.Processing, "/fhir/Binary/5": fhir.TooLong} {
		if _, err := c.Fetch(t.Context(), connector.Requester{}, srv.URL+at); !fhir.Is(err, want) {
			t.Errorf("%s: %v, want %s", at, err, want)
		}
	}
}
