package node_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tombolo/connector"
	"tombolo/dataset"
	"tombolo/fhir"
	"tombolo/gather"
	"tombolo/node"
	"tombolo/pki"
	"tombolo/pki/pkitest"
	"tombolo/sim/national"
)

// bordered is a region whose trust is asked as GP Connect and by a neighbour. STAGE is the last of its stages.
const bordered = `
region: {id: north, name: North Shared Care Record}
organisations:
  - {ods: RX1, name: North Acute Trust, kind: acute}
  - {ods: RYA, name: North Ambulance, kind: ambulance}
  - {ods: QSV, name: South Integrated Care Board, kind: other}
gpconnect: {organisation: RX1, asid: "200000000116"}
systems:
  - id: pas
    organisation: RX1
    connector: api
    gives: {demographics: push, allergies: push, medications: push, problems: push}
    release:
      - {stage: all, from: 2026-01-01, sign_off: {by: A. Officer, role: Clinical Safety Officer, on: 2026-01-01, standard: DCB0160, hazard_log: HL-1}}
%s  - {id: cad, organisation: RYA, connector: consumer, certificate: cad.rya.example, role: paramedic}
agreements:
  - {id: care, parties: [RX1, RYA, QSV], purposes: [direct-care], headings: all, from: 2020-04-01}
limits: {opens: 0}
users:
  - {id: south, name: South, role: neighbour, organisation: QSV, token_sha256: "%s"}
`

const southern = `
region: {id: south, name: South Shared Care Record}
organisations: [{ods: QSV, name: South Integrated Care Board, kind: other}, {ods: RS1, name: South Trust, kind: acute}]
systems: [{id: pas, organisation: RS1, connector: api, gives: {demographics: push}, release: all}]
neighbours: [{id: north, name: North, kind: tombolo, address: "%s", token: NORTH, deadline: 20s}]
agreements: [{id: care, parties: [RS1, QSV], purposes: [direct-care], headings: all, from: 2020-04-01}]
users: [{id: doctor, name: A Doctor, role: hospital-doctor, organisation: RS1}]
`

// stages are each a way in which what ward 8 made is held back, or is not, from an ambulance service that asks as GP Connect, and from a neighbour.
var borderStages = []struct {
	what, stage          string
	ambulance, neighbour bool // is told
}{
	{"released to all", "", true, true},
	{"a unit to its testers", "{stage: testers, testers: [tester], from: 2026-02-01, units: [RX1HQ/WARD8]}", false, false},
	{"a unit switched off", "{stage: off, from: 2026-02-01, units: [RX1HQ/WARD8]}", false, false},
	{"headings to their testers", "{stage: testers, testers: [tester], from: 2026-02-01, headings: [allergies, medications, problems]}", false, false},
	{"the system to its testers", "{stage: testers, testers: [tester], from: 2026-02-01}", false, false},
	{"the unit to the ambulance service", "{stage: [RYA], from: 2026-02-01, units: [RX1HQ/WARD8], sign_off: {by: A. Officer, role: Clinical Safety Officer, on: 2026-01-20, standard: DCB0160, hazard_log: HL-2}}", true, false},
}

const heron = "HERON77"

// wardEight has the trust send what ward 8 found out about Ann.
func wardEight(t *testing.T, n *node.Node) {
	t.Helper()
	of := fhir.Reference{Reference: "Patient/p1"}
	active := func(kind string) fhir.CodeableConcept {
		return fhir.Code("http://terminology.hl7.org/CodeSystem/"+kind, "active", "Active")
	}
	_, err := n.Intake.Accept(t.Context(), connector.Delivery{Source: "pas", ID: "1", Received: time.Now(), Raw: []byte("1"), Patient: "p1", Map: "test/1", Units: []string{"RX1HQ/WARD8"}, NamesUnits: true, Content: []*fhir.Resource{
		patientP("p1", "9990000107", "Taylor", nil),
		fhir.New("AllergyIntolerance", "a1", fhir.M{"patient": of, "clinicalStatus": active("allergyintolerance-clinical"), "recordedDate": "2026-05-01", "code": fhir.Code(fhir.SystemSNOMED, "91936005", heron+" allergy to penicillin")}),
		fhir.New("MedicationStatement", "m1", fhir.M{"subject": of, "status": "active", "effectivePeriod": fhir.M{"start": "2026-05-01"}, "medicationCodeableConcept": fhir.Code(fhir.SystemSNOMED, "322236009", heron+" paracetamol")}),
		fhir.New("Condition", "c1", fhir.M{"subject": of, "clinicalStatus": active("condition-clinical"), "recordedDate": "2026-05-01", "code": fhir.Code(fhir.SystemSNOMED, "195967001", heron+" asthma")})}})
	if err != nil {
		t.Fatal(err)
	}
	personOf(t, n, "9990000107")
}

func staged(stage string) string {
	if stage == "" {
		return ""
	}
	return "      - " + stage + "\n"
}

// What is not released to whoever asks is not told by the GP Connect face, which never says of it that there is none.
func TestGPConnectDoesNotTellWhatIsNotReleased(t *testing.T) {
	for _, c := range borderStages {
		t.Run(c.what, func(t *testing.T) {
			d := &door{ca: pkitest.New(t, t.TempDir(), "authority", time.Now())}
			own := d.ca.Issue("north.example", nil)
			d.n = run(t, node.Config{Region: regionOf(t, bordered, staged(c.stage), tokenHash("south-token")), Data: t.TempDir(), Listen: "127.0.0.1:0", Systems: "127.0.0.1:0",
				TLS: pki.Files{Cert: own.CertFile, Key: own.KeyFile, CA: filepath.Join(d.ca.Dir, "authority.pem")}})
			d.root = "https://" + d.n.SystemsAddr() + "/RX1/STU3/1/gpconnect/structured/fhir"
			wardEight(t, d.n)
			status, body, err := gpcRequest{nhs: "9990000107", org: "RYA", iss: "https://cad.rya.example",
				body: `{"resourceType":"Parameters","parameter":[{"name":"patientNHSNumber","valueIdentifier":{"system":"https://fhir.nhs.uk/Id/nhs-number","value":"9990000107"}},` +
					`{"name":"includeAllergies","part":[{"name":"includeResolvedAllergies","valueBoolean":true}]},{"name":"includeMedication"},{"name":"includeProblems"}]}`}.
				send(t, d.client(t, d.ca.Issue("cad.rya.example", nil)), d.root)
			if err != nil || status != http.StatusOK && status != http.StatusNotFound {
				t.Fatalf("%d %s (%v)", status, body, err)
			}
			if told := strings.Contains(body, heron); told != c.ambulance {
				t.Errorf("it is told: %v, want %v\n%s", told, c.ambulance, body)
			}
			if c.ambulance {
				return
			}
			for _, never := range []string{"91936005", "322236009", "195967001", "WARD8", "716186003", "nilknown", "no-content-recorded", "No known allergies", "release-stage"} {
				if strings.Contains(body, never) {
					t.Errorf("the answer holds %q\n%s", never, body)
				}
			}
		})
	}
}

// What is not released to a neighbour's users does not cross the border, nor is it said there that there is none.
func TestANeighbourIsNotToldWhatIsNotReleased(t *testing.T) {
	for _, c := range borderStages {
		t.Run(c.what, func(t *testing.T) {
			north := run(t, node.Config{Region: regionOf(t, bordered, staged(c.stage), tokenHash("south-token")), Data: t.TempDir(), Listen: "127.0.0.1:0"})
			wardEight(t, north)
			south := run(t, node.Config{Region: regionOf(t, southern, "http://"+north.Addr()), Data: t.TempDir(), Listen: "127.0.0.1:0", Secret: func(string) string { return "south-token" }})
			sent(t, south, "pas", patientP("9", "9990000107", "Taylor", nil))
			s, err := south.Access.As("doctor")
			if err != nil {
				t.Fatal(err)
			}
			rec, err := south.Gather.Record(t.Context(), s, personOf(t, south, "9990000107"), gather.Ask{})
			if err != nil {
				t.Fatal(err)
			}
			for _, h := range []dataset.Heading{dataset.Allergies, dataset.Medications, dataset.Problems} {
				sec := rec.Section(h)
				told := false
				for _, e := range sec.Entries {
					for _, m := range e.Members {
						told = told || strings.Contains(string(m.Resource.Raw()), heron)
					}
				}
				if told != c.neighbour {
					t.Errorf("%s are told: %v, want %v (%s)", h, told, c.neighbour, sec.State)
				}
				if !told && sec.State == dataset.NoneRecorded {
					t.Errorf("of %s it is said that there are none", h)
				}
			}
			raw := ask(t, north, "south-token")
			if told := strings.Contains(raw, heron); told != c.neighbour {
				t.Errorf("on the wire it is told: %v, want %v", told, c.neighbour)
			}
			if !c.neighbour && (strings.Contains(raw, "WARD8") || strings.Contains(raw, "91936005") || strings.Contains(raw, "release-stage")) {
				t.Errorf("on the wire there is a trace of what is held back\n%s", raw)
			}
		})
	}
}

// ask asks a node as its neighbour does, and gives what comes over the wire.
func ask(t *testing.T, n *node.Node, token string) string {
	t.Helper()
	body := `{"resourceType":"Parameters","parameter":[{"name":"identifier","valueIdentifier":{"system":"https://fhir.nhs.uk/Id/nhs-number","value":"9990000107"}}]}`
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, fmt.Sprintf("http://%s/fhir/$gather", n.Addr()), strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Content-Type", "application/fhir+json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// A pointer above is to what each unit made: of a crisis plan whose ward is released it is told, of one whose ward is not it is not, and of somebody with one of
// each it is told of the one.
func TestAPointerGoesByTheUnitThatMadeWhatItLeadsTo(t *testing.T) {
	l := national.New(national.Options{Token: "secret"})
	server := httptest.NewServer(l)
	t.Cleanup(server.Close)
	text := strings.NewReplacer("STAGE", "stage: testers, testers: [tester]", "VERSION", "1", "NRL\"", server.URL+"\"", "MEDIC", tokenHash("a"), "TESTER", tokenHash("b"), "CITIZEN", tokenHash("c")).Replace(wardFile)
	n := run(t, node.Config{Region: regionOf(t, "%s", text), Data: t.TempDir(), Listen: "127.0.0.1:0", Secret: func(string) string { return "secret" }})
	crisis := func(id, of string) *fhir.Resource {
		return fhir.New("DocumentReference", id, fhir.M{"status": "current", "subject": fhir.Reference{Reference: "Patient/" + of}, "type": fhir.Code(fhir.SystemSNOMED, "736253002", "Mental health crisis plan"),
			"content": []fhir.M{{"attachment": fhir.M{"contentType": "text/plain", "url": "https://rx1.example/" + id}}}})
	}
	from := func(ward, id, patient, nhs string) {
		t.Helper()
		if _, err := n.Intake.Accept(t.Context(), connector.Delivery{Source: "pas", ID: id, Received: time.Now(), Raw: []byte(id), Patient: patient, Map: "test/1", Units: []string{"RX1HQ/" + ward}, NamesUnits: true,
			Content: []*fhir.Resource{patientP(patient, nhs, "Taylor", nil), crisis(id, patient)}}); err != nil {
			t.Fatal(err)
		}
	}
	const ann, bob, cy = "9990000107", "9990000433", "9990000476"
	from("WARD8", "ann-8", "p1", ann)
	from("WARD7", "bob-7", "p2", bob)
	from("WARD7", "cy-7", "p3", cy)
	from("WARD8", "cy-8", "p3", cy)
	eventually(t, "of what ward 7 made it is told", func() bool { return len(l.Pointers(bob)) == 1 && len(l.Pointers(cy)) == 1 })
	personOf(t, n, ann)
	for end := time.Now().Add(3 * publishingPause); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if len(l.Pointers(ann)) > 0 {
			t.Fatal("of what ward 8 made, which is not released, it is told")
		}
	}
}

// publishingPause is how often pointers are kept up with what was sent.
const publishingPause = time.Second
