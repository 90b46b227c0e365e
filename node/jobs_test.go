package node_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"tombolo/node"
	"tombolo/web"
)

const jobsRegion = `
region: {id: north, name: North Shared Care Record}
organisations:
  - {ods: RX1, name: North Acute Trust, kind: acute}
systems:
  - {id: epr, organisation: RX1, connector: api, gives: {demographics: push, results: push}, release: all}
users:
  - {id: epr, name: EPR, role: system, organisation: RX1, system: epr}
  - {id: ops, name: An Operator, role: operator, organisation: RX1}
`

// Operators see how far each export, import and SearchParameter of a system is, on the desk and in the metrics, and nothing of what is in them.
func TestOperatorsSeeWhatIsDoneInTheBackground(t *testing.T) {
	n := run(t, node.Config{Region: regionOf(t, jobsRegion), Data: t.TempDir(), Listen: "127.0.0.1:0", Feeds: true, Dev: "epr"})
	ask := func(method, path, body string, headers ...string) *http.Response {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, "http://"+n.Addr()+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/fhir+json")
		for _, h := range headers {
			name, value, _ := strings.Cut(h, ": ")
			r.Header.Set(name, value)
		}
		got, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer got.Body.Close()
		words, _ := io.ReadAll(got.Body)
		if got.StatusCode >= 400 {
			t.Fatalf("%s %s: answered %d: %s", method, path, got.StatusCode, words)
		}
		got.Body = io.NopCloser(strings.NewReader(string(words)))
		return got
	}
	async := "Prefer: respond-async"
	ask("POST", "/fhir/$import", `{"resourceType":"Patient","id":"ann","name":[{"family":"Thistlewood"}]}`+"\n"+`{"resourceType":"Patient","id":"bob"}`+"\nnot JSON\n", async, "Content-Type: application/fhir+ndjson")
	ask("PUT", "/fhir/SearchParameter/shoe", `{"resourceType":"SearchParameter","id":"shoe","url":"urn:shoe","name":"shoe","status":"active","description":"x","code":"shoe","base":["Patient"],"type":"string","expression":"Patient.name.family"}`)
	ask("GET", "/fhir/Patient/$export?_typeFilter=Patient%3Ffamily%3DThistlewood", "", async)
	ops, err := n.Access.As("ops")
	if err != nil {
		t.Fatal(err)
	}
	var jobs []web.JobState
	eventually(t, "both jobs have ended, and the parameter is indexed", func() bool {
		desk, err := n.Desk(t.Context(), ops)
		if err != nil {
			t.Fatal(err)
		}
		jobs = desk.Jobs
		return len(jobs) == 2 && !jobs[0].Ended.IsZero() && !jobs[1].Ended.IsZero()
	})
	kinds := map[string]web.JobState{}
	for _, j := range jobs {
		kinds[j.What] = j
	}
	if im, ex := kinds["import"], kinds["export"]; im.System != "epr" || im.Done != 2 || im.Word().Word != "Ended" || ex.Done < 1 || ex.State != "ok" || ex.ID == "" {
		t.Errorf("the desk is told %+v", jobs)
	}
	metrics, _ := io.ReadAll(ask("GET", "/metrics", "").Body)
	for _, want := range []string{`tombolo_bulk_jobs{kind="import",source="epr",state="done"} 1`, `tombolo_bulk_jobs{kind="export",source="epr",state="done"} 1`,
		`tombolo_bulk_resources{kind="import",source="epr"} 2`, `tombolo_search_parameters{source="epr",state="active"} 1`} {
		if !strings.Contains(string(metrics), want) {
			t.Errorf("the metrics do not say %s", want)
		}
	}
	for _, j := range jobs {
		metrics = append(metrics, j.Progress+j.ID+j.What...)
	}
	if strings.Contains(string(metrics), "Thistlewood") || strings.Contains(string(metrics), "Patient/ann") {
		t.Error("what is told speaks of people")
	}
}
