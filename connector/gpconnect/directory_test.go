package gpconnect_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tombolo/connector/gpconnect"
	"tombolo/fhir"
)

// SDS is asked as its published specification has it, and its published examples are read; whatever else it documents is a failure, and not that it knows of none.
func TestThePublishedExamplesOfSDSAreRead(t *testing.T) {
	dir := filepath.Join("..", "..", "..", "shared", "data", "04-nhs-apis", "sds", "specification", "components", "examples")
	if _, err := os.Stat(dir); err != nil {
		t.Skip("the published examples are not here: they come with ../shared/data")
	}
	example := func(name string) string {
		data, err := os.ReadFile(filepath.Join(dir, name+"Bundle.json"))
		if err != nil {
			t.Fatal(err)
		}
		one, err := os.ReadFile(filepath.Join(dir, name+".json"))
		if err != nil {
			t.Fatal(err)
		}
		i := strings.Index(string(data), `"resource"`)
		from := i + strings.Index(string(data[i:]), "{")
		to := from + strings.Index(string(data[from:]), "}") + 1
		return string(data[:from]) + string(one) + string(data[to:])
	}
	status := http.StatusOK
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		interaction := "https://fhir.nhs.uk/Id/nhsServiceInteractionId|" + gpconnectInteraction
		if r.Method != "GET" || q.Get("organization") != "https://fhir.nhs.uk/Id/ods-organization-code|A20047" || q["identifier"][0] != interaction || r.Header.Get("apikey") != "key" || r.Header.Get("X-Correlation-Id") == "" {
			t.Errorf("%s %s %v", r.Method, r.URL, r.Header)
		}
		w.WriteHeader(status)
		switch name := strings.TrimPrefix(r.URL.Path, "/"); name {
		case "Endpoint":
			_, _ = io.WriteString(w, example(name))
		case "Device":
			if want := "https://fhir.nhs.uk/Id/nhsMhsPartyKey|YES-0000806"; len(q["identifier"]) != 2 || q["identifier"][1] != want {
				t.Errorf("the Device is asked for by %v, want the party key of the Endpoint", q["identifier"])
			}
			_, _ = io.WriteString(w, example(name))
		default:
			t.Errorf("asked for %s", r.URL.Path)
		}
	}))
	t.Cleanup(srv.Close)
	open := func() *gpconnect.Directory {
		d, err := gpconnect.NewDirectory(gpconnect.DirectoryOptions{Address: srv.URL, APIKey: "key"})
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	end, err := open().Endpoint(t.Context(), "A20047", gpconnectInteraction)
	if err != nil || end.Address != "https://msg.int.spine2.ncrs.nhs.uk/reliablemessaging/reliablerequest" || end.ASID != "200000000985" {
		t.Errorf("%+v %v", end, err)
	}
	for _, status = range []int{400, 404, 405, 415, 429, 500, 502, 504} {
		if end, err := open().Endpoint(t.Context(), "A20047", gpconnectInteraction); err == nil || fhir.Is(err, fhir.NotFound) {
			t.Errorf("status %d: %+v %v", status, end, err)
		}
	}
}

const gpconnectInteraction = "urn:nhs:names:services:gpconnect:fhir:operation:gpc.getstructuredrecord-1"
