package node_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"tombolo/audit"
	"tombolo/connector"
	"tombolo/dataset"
	"tombolo/fhir"
	"tombolo/node"
	"tombolo/probe"
	"tombolo/sim/cast"
	"tombolo/sim/federation"
	"tombolo/sim/practice"
)

// scoped is a region with a source of every kind: each is probed, and answered sensibly.
const scoped = `
region: {id: north, name: North Shared Care Record}
organisations:
  - {ods: RX1, name: North Acute Trust, kind: acute}
  - {ods: M85001, name: Hilltop Surgery, kind: gp}
  - {ods: NA1, name: A Nation, kind: other}
systems:
  - {id: m85001-gp, organisation: M85001, connector: gpconnect, asid: "999000000101", address: "%[1]s", gives: {demographics: live, allergies: live, problems: live, appointments: live}, deadline: 20s}
  - {id: epr, organisation: RX1, connector: fhirapi, address: "%[2]s/epr", gives: {demographics: live, problems: live, allergies: live, documents: live, care-plans: live}}
  - {id: misplaced, organisation: RX1, connector: fhirapi, address: "%[2]s/misplaced/nowhere", gives: {problems: live, allergies: live}}
  - {id: silent, organisation: RX1, connector: fhirapi, address: "http://127.0.0.1:9", gives: {problems: live}}
  - {id: off, organisation: RX1, connector: fhirapi, address: "%[2]s/off", gives: {problems: live}, release: off}
  - {id: pas, organisation: RX1, connector: api, gives: {demographics: push, gp-practice: push, problems: push, encounters: push}}
  - {id: app, organisation: RX1, connector: consumer, certificate: app.rx1.example, role: nurse}
neighbours:
  - {id: wye, kind: tombolo, address: "%[3]s", token: WYE}
  - {id: files, kind: mhd, address: "%[4]s", organisation: NA1, numbers: [nhs]}
  - {id: nation, kind: ips, address: "%[4]s", organisation: NA1, numbers: [chi, nhs]}
agreements:
  - {id: care, parties: [RX1, M85001, NA1], purposes: [direct-care], headings: all, from: 2020-04-01}
users:
  - {id: doctor, name: A Doctor, role: hospital-doctor, organisation: RX1}
  - {id: clerk, name: A Clerk, role: operator, organisation: RX1}
probing: {as: doctor, patients: ["9990000107"]}
`

const wye = `
region: {id: wye, name: Wye}
organisations: [{ods: RW9, name: Wye Trust, kind: acute}]
systems: [{id: pas, organisation: RW9, connector: api, gives: {demographics: push, problems: push}}]
agreements: [{id: care, parties: [RW9], purposes: [direct-care], headings: all, from: 2020-04-01}]
users: [{id: north, name: North, role: neighbour, organisation: RW9, token_sha256: "%s"}]
`

// nation is a server of documents (MHD) and of summaries (IPS), about one person.
func nation(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/fhir+json")
	number := fhir.Identifier{System: fhir.SystemNHSNumber, Value: "9990000107"}
	switch strings.TrimPrefix(r.URL.Path, "/") {
	case "DocumentReference/_search", "DocumentReference":
		b := fhir.NewBundle("searchset", "", 1, 512)
		b.Add(fhir.New("DocumentReference", "d1", fhir.M{"status": "current", "date": "2025-03-01T10:00:00Z", "subject": fhir.M{"identifier": number},
			"content": []fhir.M{{"attachment": fhir.M{"contentType": "text/plain", "url": "http://" + r.Host + "/Binary/1"}}}}), "match")
		_, _ = w.Write(b.Bytes())
	case "Patient/$summary":
		section := func(code, ref string) fhir.M {
			return fhir.M{"title": code, "code": fhir.Code("http://loinc.org", code, code), "entry": []fhir.Reference{{Reference: ref}}}
		}
		b := fhir.NewBundle("document", "", 0, 512)
		b.Add(fhir.New("Composition", "c", fhir.M{"status": "final", "type": fhir.Code("http://loinc.org", "60591-5", "Patient summary"), "subject": fhir.Reference{Reference: "Patient/p"}, "date": "2026-01-01",
			"title": "Summary", "section": []fhir.M{section("48765-2", "AllergyIntolerance/a")}}), "")
		b.Add(fhir.New("Patient", "p", fhir.M{"identifier": []fhir.Identifier{number}}), "")
		b.Add(fhir.New("AllergyIntolerance", "a", fhir.M{"patient": fhir.Reference{Reference: "Patient/p"}, "recordedDate": "2019-05-04", "code": fhir.Code("http://snomed.info/sct", "91936005", "Allergy to penicillin")}), "")
		_, _ = w.Write(b.Bytes())
	default:
		http.NotFound(w, r)
	}
}

func startScoped(t *testing.T) *node.Node {
	t.Helper()
	serve := func(h http.Handler) string {
		s := httptest.NewServer(h)
		t.Cleanup(s.Close)
		return s.URL
	}
	margaret := federation.Person{Numbers: []fhir.Identifier{{System: fhir.SystemNHSNumber, Value: "9990000107"}}, Family: "Taylor", Born: "1958-03-14"}
	w := run(t, node.Config{Region: regionOf(t, wye, tokenHash("north-token")), Data: t.TempDir(), Listen: "127.0.0.1:0"})
	sent(t, w, "pas", fhir.New("Patient", "1", fhir.M{"identifier": margaret.Numbers, "name": []fhir.HumanName{{Family: "Taylor"}}, "birthDate": margaret.Born}))
	n := run(t, node.Config{Data: t.TempDir(), Listen: "127.0.0.1:0", Secret: func(name string) string { return map[string]string{"WYE": "north-token"}[name] },
		Region: regionOf(t, scoped, serve(practice.New(practice.Options{Source: cast.GP1, People: cast.Dozen(time.Now())})), serve(federation.Source(margaret, 3)), "http://"+w.Addr(), serve(http.HandlerFunc(nation)))})
	sent(t, n, "pas",
		fhir.New("Patient", "7", fhir.M{"identifier": margaret.Numbers, "name": []fhir.HumanName{{Family: "Taylor"}}, "birthDate": margaret.Born, "generalPractitioner": []fhir.M{{"identifier": fhir.M{"system": fhir.SystemODS, "value": "M85001"}}}}),
		fhir.New("Condition", "c1", fhir.M{"subject": fhir.Reference{Reference: "Patient/7"}, "onsetDateTime": "1999-06-02", "code": fhir.Code("http://snomed.info/sct", "44054006", "Diabetes")}),
		fhir.New("Condition", "c2", fhir.M{"subject": fhir.Reference{Reference: "Patient/7"}, "onsetDateTime": "2024-01-09", "code": fhir.Code("http://snomed.info/sct", "38341003", "Hypertension")}),
		fhir.New("Flag", "f1", fhir.M{"subject": fhir.Reference{Reference: "Patient/7"}, "status": "active", "code": fhir.M{"text": "Needs an interpreter"}}))
	return n
}

// sent brings something in by the one door, and waits until it can be found.
func sent(t *testing.T, n *node.Node, source string, content ...*fhir.Resource) {
	t.Helper()
	r, err := n.Intake.Accept(t.Context(), connector.Delivery{Source: source, ID: "first", Received: time.Now(), ContentType: "application/fhir+json", Raw: content[0].Raw(), Content: content, Patient: content[0].ID(), Map: "test/1"})
	if err == nil {
		err = n.Await(t.Context(), r.Seq)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// What every kind of source can really give is found by asking it, not by reading the region file.
func TestEveryKindOfSourceIsProbed(t *testing.T) {
	n := startScoped(t)
	results, err := n.Probe(t.Context(), node.ProbeAsk{By: audit.Agent{User: "tester"}, Tries: 2}, nil)
	if err != nil {
		t.Fatal(err)
	}
	by := map[string]*probe.Result{}
	var order []string
	for _, r := range results {
		by[r.Source] = r
		order = append(order, r.Source)
	}
	if want := []string{"m85001-gp", "epr", "misplaced", "silent", "off", "pas", "wye", "files", "nation"}; !slices.Equal(order, want) {
		t.Fatalf("probed %v, want %v", order, want)
	}
	for _, c := range []struct {
		source  string
		heading dataset.Heading
		want    probe.Verdict
	}{
		{"m85001-gp", dataset.Allergies, probe.Given}, {"m85001-gp", dataset.Demographics, probe.Given},
		{"epr", dataset.Problems, probe.Given}, {"epr", dataset.Allergies, probe.Empty},
		{"epr", dataset.Documents, probe.NotProvided}, {"epr", dataset.CarePlans, probe.NotProvided},
		{"misplaced", dataset.Problems, probe.Unknown}, {"misplaced", dataset.Allergies, probe.Unknown}, // refusing everything says nothing of a heading
		{"silent", dataset.Problems, probe.Unknown}, {"off", dataset.Problems, probe.Unknown},
		{"pas", dataset.Problems, probe.Given}, {"pas", dataset.GPPractice, probe.Given}, {"pas", dataset.Encounters, probe.Empty},
		{"wye", dataset.Demographics, probe.Given}, {"wye", dataset.Medications, probe.NotProvided}, {"wye", dataset.Problems, probe.Unknown},
		{"files", dataset.Documents, probe.Given},
		{"nation", dataset.Allergies, probe.Given}, {"nation", dataset.Immunisations, probe.Unknown},
	} {
		f := by[c.source].Headings[c.heading]
		if f == nil || f.Verdict != c.want {
			t.Errorf("%s at %s: %+v, want %s", c.heading, c.source, f, c.want)
		}
	}
	problems := by["epr"].Headings[dataset.Problems]
	if problems.Entries != 3 || problems.Types["Condition"] != 3 || problems.Speed.Tries != 2 || problems.Speed.P95 < problems.Speed.P50 || problems.Speed.P50 <= 0 {
		t.Errorf("problems at the EPR: %+v", problems)
	}
	if d := by["epr"].Describes; d == nil || len(d.Types) != 3 || d.Speaks != "FHIR 4.0.1" {
		t.Errorf("the EPR says of itself: %+v", d)
	}
	if d := by["m85001-gp"].Describes; d == nil || !strings.HasPrefix(d.Speaks, "GP Connect 1.") {
		t.Errorf("the practice says of itself: %+v", d)
	}
	if p := by["pas"].Headings[dataset.Problems]; p.Entries != 2 || p.Patients != 1 || p.Earliest != "1999-06" || p.Latest != "2024-01" || p.Came.IsZero() || p.Age < 365*24*time.Hour {
		t.Errorf("what the PAS has sent: %+v", p)
	}
	if b := by["pas"].Besides; !slices.Contains(b, dataset.Alerts) {
		t.Errorf("what the PAS sends that the region file does not say: %v", b)
	}
	if p := by["silent"].Problems; len(p) == 0 || !strings.Contains(strings.Join(p, " "), "could not be reached") {
		t.Errorf("the silent source: %v", p)
	}
	raw, err := json.Marshal(results)
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{"9990000107", "Taylor", "1958-03-14", "44054006", "north-token"} {
		if strings.Contains(string(raw), secret) {
			t.Errorf("what was found holds %q", secret)
		}
	}
	told := 0
	for e, err := range n.Audit.By(t.Context(), "tester", 0, 100) {
		if err != nil {
			t.Fatal(err)
		}
		told++
		if !strings.Contains(string(e.Body), "sources are asked what they can give") {
			t.Errorf("the audit log tells: %s", e.Body)
		}
	}
	if told != 1 {
		t.Errorf("the reading of the test patient stands %d times in the audit log", told)
	}

	again, err := n.Probe(t.Context(), node.ProbeAsk{Show: true}, nil)
	if err != nil || len(again) != len(results) || again[1].Headings[dataset.Documents].Verdict != probe.NotProvided {
		t.Errorf("what is shown afterwards: %d, %v", len(again), err)
	}
}

// Nobody probes as nobody, or as somebody who opens no records; and what is no source is said.
func TestAProbeSaysWhatItNeeds(t *testing.T) {
	n := startScoped(t)
	for _, c := range []struct {
		ask  node.ProbeAsk
		want string
	}{
		{node.ProbeAsk{As: "clerk"}, "opens no records"}, {node.ProbeAsk{As: "nobody"}, "no user"}, {node.ProbeAsk{Sources: []string{"app"}}, "no source of this region"},
	} {
		if _, err := n.Probe(t.Context(), c.ask, nil); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want %q", c.ask, err, c.want)
		}
	}
}
