package node_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"tombolo/node"
)

const crowdedFile = `
region: {id: north, name: North}
organisations: [{ods: RX1, name: North Acute Trust, kind: acute}]
systems:
  - {id: pas, organisation: RX1, connector: api, gives: {demographics: push}, release: all}
  - {id: epr, organisation: RX1, connector: fhirapi, address: "%s", gives: {problems: live}, deadline: 5s, release: all}
gathering: {at_once: 1}
agreements: [{id: care, parties: [RX1], purposes: [direct-care], headings: all, from: 2020-04-01}]
users: [{id: doctor, name: A Doctor, role: hospital-doctor, organisation: RX1, token_sha256: "%s"}]
`

// asDoctor gets a page or a resource with the token of the user doctor.
func asDoctor(t *testing.T, n *node.Node, path string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+n.Addr()+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer doctor")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(data)
}

// Whoever comes when no more records can be joined in time is told so, by the API and by the pages, and when to come again; once there is room, they are served.
func TestWhoIsTurnedAwayIsToldWhenToComeAgain(t *testing.T) {
	asked, free := make(chan struct{}, 16), make(chan struct{})
	epr := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked <- struct{}{}
		<-free
		http.Error(w, "no", http.StatusNotFound)
	}))
	t.Cleanup(epr.Close)
	n := run(t, node.Config{Region: regionOf(t, crowdedFile, epr.URL, tokenHash("doctor")), Data: t.TempDir(), Listen: "127.0.0.1:0"})
	sent(t, n, "pas", patientP("p1", "9990000107", "Taylor", nil))
	id := personOf(t, n, "9990000107")
	get := func(path string) (*http.Response, string) { t.Helper(); return asDoctor(t, n, path) }
	first := make(chan int, 1)
	go func() {
		resp, _ := get("/fhir/Patient/" + id + "/$everything")
		first <- resp.StatusCode
	}()
	<-asked
	for path, says := range map[string]string{"/fhir/Patient/" + id + "/$everything": `"code":"transient"`, "/fhir/Condition?patient=" + id: `"code":"transient"`, "/record/" + id: "Try again in a minute"} {
		resp, body := get(path)
		if resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" || !strings.Contains(body, says) {
			t.Errorf("%s: %s, Retry-After %q\n%s", path, resp.Status, resp.Header.Get("Retry-After"), body)
		}
		if strings.Contains(body, "Taylor") {
			t.Errorf("%s: whoever is turned away is told of the person", path)
		}
	}
	close(free)
	if status := <-first; status != http.StatusOK {
		t.Errorf("the first was answered %d", status)
	}
	if resp, _ := get("/fhir/Patient/" + id + "/$everything"); resp.StatusCode != http.StatusOK {
		t.Errorf("with room again: %s", resp.Status)
	}
}
