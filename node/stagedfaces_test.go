package node_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tombolo/connector"
	"tombolo/fhir"
	"tombolo/node"
	"tombolo/region"
	"tombolo/sim/national"
)

// wardFile is a region that releases what ward 8 makes as STAGE says, under a version of its own.
const wardFile = `
region: {id: north, name: North Shared Care Record}
organisations:
  - {ods: RX1, name: North Acute Trust, kind: acute}
  - {ods: RYA, name: North Ambulance, kind: ambulance}
  - {ods: QSV, name: North Integrated Care Board, kind: other}
  - {ods: X26, name: NHS England, kind: other}
systems:
  - id: pas
    organisation: RX1
    connector: api
    gives: {demographics: push, encounters: push, results: push, documents: push, care-plans: push}
    release:
      - {stage: all, from: 2026-01-01, sign_off: {by: A. Officer, role: Clinical Safety Officer, on: 2026-01-01, standard: DCB0160, hazard_log: HL-1}}
      - {STAGE, from: 2026-02-01, units: [RX1HQ/WARD8]}
locator:
  national:
    - id: nrl
      address: "NRL"
      token: NRL_TOKEN
      as: QSV
      organisation: X26
      asks: true
      publishes:
        - {type: "736253002", url: "https://record.north.example/launch/nrl/{pointer}", mechanism: InContext}
agreements:
  - {id: care, parties: [RX1, RYA, QSV, X26], purposes: [direct-care], headings: all, from: 2020-04-01}
policy: {version: "VERSION", author: A. Guardian, reason: a test}
limits: {opens: 0}
users:
  - {id: medic, name: A Paramedic, role: paramedic, organisation: RYA, token_sha256: "MEDIC"}
  - {id: tester, name: A Tester, role: paramedic, organisation: RYA, token_sha256: "TESTER"}
  - {id: ann, name: Ann Taylor, role: citizen, person: "https://fhir.nhs.uk/Id/nhs-number|9990000107", token_sha256: "CITIZEN"}
`

// Once a unit is taken back to its testers, no face tells anybody else what it made, within the minute in which a change of the file is in force: not the pages, not the
// API's answers, not the person's own, not the locator above. Before, each of them did: otherwise nothing would be shown by this. The tester is told that it is a test.
func TestNoFaceTellsWhatAUnitMadeThatIsNotReleased(t *testing.T) {
	l := national.New(national.Options{Token: "secret"})
	server := httptest.NewServer(l)
	t.Cleanup(server.Close)
	path := filepath.Join(t.TempDir(), "north.yaml")
	write := func(version, stage string) {
		text := strings.NewReplacer("STAGE", stage, "VERSION", version, "NRL\"", server.URL+"\"", "MEDIC", tokenHash("medic-token"), "TESTER", tokenHash("tester-token"), "CITIZEN", tokenHash("ann-token")).Replace(wardFile)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("1", "stage: all, sign_off: {by: A. Officer, role: Clinical Safety Officer, on: 2026-01-20, standard: DCB0160, hazard_log: HL-2}")
	r, problems := region.Load(path)
	if region.Broken(problems) {
		t.Fatal(problems)
	}
	n := run(t, node.Config{Region: r, Folder: filepath.Dir(path), File: path, Data: t.TempDir(), Listen: "127.0.0.1:0", Secret: func(string) string { return "secret" }})
	const ann, canary = "9990000107", "HERON77"
	of := fhir.Reference{Reference: "Patient/p1"}
	_, err := n.Intake.Accept(t.Context(), connector.Delivery{Source: "pas", ID: "1", Received: time.Now(), Raw: []byte("1"), Patient: "p1", Map: "test/1", Units: []string{"RX1HQ/WARD8"}, NamesUnits: true, Content: []*fhir.Resource{
		patientP("p1", ann, "Taylor", nil),
		fhir.New("Encounter", "e1", fhir.M{"status": "in-progress", "class": fhir.Coding{Code: "IMP"}, "subject": of, "reasonCode": []any{fhir.CodeableConcept{Text: canary}}}),
		fhir.New("Observation", "o1", fhir.M{"status": "final", "subject": of, "effectiveDateTime": "2026-05-01", "category": []any{fhir.Code("http://terminology.hl7.org/CodeSystem/observation-category", "laboratory", "")}, "code": fhir.CodeableConcept{Text: canary}, "valueString": canary}),
		fhir.New("DocumentReference", "d1", fhir.M{"status": "current", "subject": of, "description": canary, "type": fhir.Code(fhir.SystemSNOMED, "736253002", "Mental health crisis plan"),
			"content": []fhir.M{{"attachment": fhir.M{"contentType": "text/plain", "title": canary, "url": "Binary/b1"}}}}),
		fhir.New("Binary", "b1", fhir.M{"contentType": "text/plain", "data": "SEVST043Nw=="})}})
	if err != nil {
		t.Fatal(err)
	}
	id, observation, document := personOf(t, n, ann), "", ""
	ask := func(token, path string) string {
		req, err := http.NewRequestWithContext(t.Context(), "GET", "http://"+n.Addr()+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		data, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusNotFound {
			t.Fatalf("%s: %s: nothing is told by an answer that was refused", path, resp.Status) // it holds no canary either
		}
		return string(data)
	}
	all, err := fhir.Parse([]byte(ask("medic-token", "/fhir/Patient/"+id+"/$everything")))
	if err != nil {
		t.Fatal(err)
	}
	for e := range all.Value().All("entry.resource") {
		switch e.Text("resourceType") {
		case "Observation":
			observation = e.Text("id")
		case "DocumentReference":
			document = e.Text("id")
		}
	}
	faces := map[string]string{"the record": "/record/" + id + "?all=1", "the timeline": "/record/" + id + "/timeline", "$everything": "/fhir/Patient/" + id + "/$everything", "XML": "/fhir/Patient/" + id + "/$everything?_format=xml",
		"$summary": "/fhir/Patient/" + id + "/$summary", "a search": "/fhir/Observation?patient=" + id, "an include": "/fhir/Encounter?patient=" + id, "a reading": "/fhir/Observation/" + observation,
		"a document's reading": "/fhir/DocumentReference/" + document}
	for face, path := range faces {
		if !strings.Contains(ask("medic-token", path), canary) {
			t.Errorf("%s (%s) told nothing before: it proves nothing", face, path)
		}
	}
	if !strings.Contains(ask("ann-token", "/me"), canary) {
		t.Error("the person's own page told nothing before")
	}
	eventually(t, "pointed to above", func() bool { return len(l.Pointers(ann)) == 1 })

	write("2", "stage: testers, testers: [tester]")
	for face, path := range faces {
		eventually(t, face+" tells nothing", func() bool { return !strings.Contains(ask("medic-token", path), canary) })
		if got := ask("tester-token", path); !strings.Contains(got, canary) {
			t.Errorf("%s does not tell the tester", face)
		} else if face != "$summary" && !strings.Contains(got, "release-stage") && !strings.Contains(got, "You test this: testers") {
			t.Errorf("%s does not say to the tester that it is a test", face)
		}
	}
	eventually(t, "the person's own page tells nothing", func() bool { return !strings.Contains(ask("ann-token", "/me"), canary) })
	eventually(t, "no longer pointed to above", func() bool { return len(l.Pointers("")) == 0 })
	if never, hidden := ask("medic-token", "/fhir/Observation/never-was"), ask("medic-token", "/fhir/Observation/"+observation); never != hidden {
		t.Errorf("what is not released is told from what never was:\n%s\n%s", never, hidden)
	}
}
