package conform_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"tombolo/conform"
)

// reader is a server that can be read and searched by id, says so, and refuses all else as R4 has it.
func reader(w http.ResponseWriter, r *http.Request) {
	send := func(status int, body string) {
		w.Header().Set("Content-Type", "application/fhir+json")
		w.WriteHeader(status)
		if r.Method != http.MethodHead {
			_, _ = fmt.Fprint(w, body)
		}
	}
	outcome := func(status int, code, words string) {
		send(status, `{"resourceType":"OperationOutcome","issue":[{"severity":"error","code":"`+code+`","diagnostics":"`+words+`"}]}`)
	}
	path := strings.Trim(r.URL.Path, "/")
	switch {
	case path == "metadata":
		send(200, `{"resourceType":"CapabilityStatement","status":"active","date":"2026-01-01","kind":"instance","fhirVersion":"4.0.1","format":["json"],"software":{"name":"Reader","version":"1"},
			"rest":[{"mode":"server","resource":[{"type":"Patient","interaction":[{"code":"read"},{"code":"search-type"}],"searchParam":[{"name":"_id","type":"token"}]}]}]}`)
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		outcome(405, "not-supported", "this server is read")
	case path == "Patient":
		send(200, `{"resourceType":"Bundle","type":"searchset","total":0}`)
	default:
		outcome(404, "not-found", "there is no such thing")
	}
}

// What a server lacks, as R4 lets it, is told apart from what it does wrong; and whatever a server answers, the run comes to its end and says what it met.
func TestAForeignServerIsToldWhatItLacks(t *testing.T) {
	run := func(h http.HandlerFunc) (conform.Report, string) {
		t.Helper()
		s := httptest.NewServer(h)
		defer s.Close()
		report, err := conform.Run(t.Context(), conform.Options{URL: s.URL})
		if err != nil {
			t.Fatal(err)
		}
		var text strings.Builder
		if err := report.Write(&text); err != nil {
			t.Fatal(err)
		}
		return report, text.String()
	}
	verdict := func(r conform.Report, check string) conform.Verdict {
		t.Helper()
		for _, x := range r.Results {
			if strings.HasPrefix(x.Check, check) {
				return x.Verdict
			}
		}
		t.Errorf("nothing was tried that is called %s", check)
		return ""
	}
	report, text := run(reader)
	for check, want := range map[string]conform.Verdict{
		"it has a CapabilityStatement": conform.Passes, "interaction read": conform.Passes, "interaction search-type": conform.Passes,
		"interaction update": conform.Lacks, "interaction patch": conform.Lacks, "update creates": conform.Lacks, "every search parameter": conform.Lacks,
		"a transaction links its entries": conform.Lacks, "a resource that never was": conform.Passes,
	} {
		if got := verdict(report, check); got != want {
			t.Errorf("%s is said to be %q, want %q", check, got, want)
		}
	}
	if report.Count(conform.Lacks) < 10 || !strings.Contains(text, "this server is read") || !strings.Contains(text, "(Reader 1)") || !strings.Contains(text, fmt.Sprintf("%d are lacking", report.Count(conform.Lacks))) {
		t.Errorf("the report of a server that is only read:\n%s", text)
	}
	for name, h := range map[string]http.HandlerFunc{
		"a web page": func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprint(w, "<html>Welcome</html>") },
		"nothing":    func(http.ResponseWriter, *http.Request) {},
		"half of JSON": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = fmt.Fprint(w, `{"resourceType":"Bundle","entry":[{`)
		},
		"a fault": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) },
		"another's JSON": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = fmt.Fprint(w, `{"resourceType":["x"],"entry":{"resource":7},"link":[null],"rest":"none"}`)
		},
	} {
		if report, text := run(h); report.Count(conform.Fails) < 40 || report.Count(conform.Passes) > 15 {
			t.Errorf("a server that answers %s:\n%s", name, text)
		}
	}
	s := httptest.NewServer(http.HandlerFunc(reader))
	s.Close()
	if _, err := conform.Run(t.Context(), conform.Options{URL: s.URL}); err == nil {
		t.Error("a server that is not there was tried")
	}
}
