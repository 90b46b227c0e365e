package node_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"tombolo/connector"
	"tombolo/connector/nrl"
	"tombolo/dataset"
	"tombolo/fhir"
	"tombolo/gather"
	"tombolo/locator"
	"tombolo/node"
	"tombolo/sim"
	"tombolo/sim/national"
)

// upward is a region that tells and asks the national locator.
const upward = `
region: {id: north, name: North Shared Care Record}
organisations:
  - {ods: RX1, name: North Acute Trust, kind: acute}
  - {ods: RYA, name: North Ambulance, kind: ambulance}
  - {ods: QSV, name: North Integrated Care Board, kind: other}
  - {ods: X26, name: NHS England, kind: other}
systems:
  - {id: pas, organisation: RX1, connector: api, gives: {demographics: push, encounters: push, documents: push}}
locator:
  national:
    - id: nrl
      name: National Record Locator
      address: "%s"
      token: NRL_TOKEN
      as: QSV
      organisation: X26
      asks: true
      deadline: 1s
      cache: 300ms
      publishes:
        - {type: "887181000000106", url: "https://record.north.example/launch/nrl/{pointer}", mechanism: InContext}
        - {type: "736253002", url: "https://www.north.example/crisis-plans", mechanism: Direct}
agreements:
  - {id: care, parties: [RX1, RYA, QSV, X26], purposes: [direct-care], headings: all, from: 2020-04-01}
users:
  - {id: medic, name: A Paramedic, role: paramedic, organisation: RYA, token_sha256: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08}
  - {id: desk, name: An Operator, role: operator, organisation: QSV, token_sha256: 60303ae22b998861bce3b28f33eec1be758a213c86c93c076dbe9f558c11c752}
`

func tellsUpward(t *testing.T) (*node.Node, *national.Locator) {
	t.Helper()
	l := national.New(national.Options{Token: "secret"})
	server := httptest.NewServer(l)
	t.Cleanup(server.Close)
	n := run(t, node.Config{Region: regionOf(t, upward, server.URL), Data: t.TempDir(), Listen: "127.0.0.1:0", Secret: func(name string) string { return map[string]string{"NRL_TOKEN": "secret"}[name] }})
	return n, l
}

// eventually waits until something holds, at most a minute, and says how long it took.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	start := time.Now()
	for !holds() {
		if time.Since(start) > time.Minute {
			t.Fatalf("a minute has passed, and not: %s", what)
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Logf("%s: after %s", what, time.Since(start).Round(10*time.Millisecond))
}

func deliver(t *testing.T, n *node.Node, id, patient string, content ...*fhir.Resource) {
	t.Helper()
	raw := []byte(id)
	if _, err := n.Intake.Accept(t.Context(), connector.Delivery{Source: "pas", ID: id, Received: time.Now(), Raw: raw, Content: content, Patient: patient, Map: "test/1"}); err != nil {
		t.Fatal(err)
	}
}

func patientP(id, nhs, family string, more fhir.M) *fhir.Resource {
	m := fhir.M{"identifier": []fhir.Identifier{{System: fhir.SystemNHSNumber, Value: nhs}}, "name": []fhir.HumanName{{Family: family, Given: []string{"Ann"}}}, "birthDate": "1948-03-12"}
	for k, v := range more {
		m[k] = v
	}
	return fhir.New("Patient", id, m)
}

func confidential(code string) fhir.M {
	return fhir.M{"meta": fhir.M{"security": []fhir.Coding{{System: fhir.SystemConfidentiality, Code: code}}}}
}

func personOf(t *testing.T, n *node.Node, nhs string) string {
	t.Helper()
	id, err := n.People.Resolve(t.Context(), fhir.Identifier{System: fhir.SystemNHSNumber, Value: nhs})
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// What is registered nationally follows what is known here: somebody who is known, has a plan, is restricted, is known again, gets another number, dies.
func TestTheRegionRegistersItselfNationallyAndKeepsThat(t *testing.T) {
	n, l := tellsUpward(t)
	const ann = "9990000107"
	types := func(nhs string) (out []string) {
		for _, p := range l.Pointers(nhs) {
			out = append(out, p.Text("type.coding.code"))
		}
		slices.Sort(out)
		return out
	}
	deliver(t, n, "1", "p1", patientP("p1", ann, "Taylor", nil))
	eventually(t, "the record as a whole is registered", func() bool { return slices.Equal(types(ann), []string{"887181000000106"}) })
	summary := l.Pointers(ann)[0]
	if url := summary.Text("content.attachment.url"); nrl.NamesSomebody(url, ann) || !strings.HasSuffix(url, "/"+summary.Local()) || summary.Mechanism() != nrl.InContext || summary.Custodian() != "QSV" {
		t.Errorf("the pointer: %s", summary.Raw())
	}
	for pointer, person := range map[string]string{summary.Local(): personOf(t, n, ann), "nobodys": "nobodys"} {
		resp, err := (&http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}).Get("http://" + n.Addr() + "/launch/nrl/" + pointer)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusSeeOther || resp.Header.Get("Location") != "/record/"+person {
			t.Errorf("following %s: %d %s", pointer, resp.StatusCode, resp.Header.Get("Location"))
		}
	}
	plan := fhir.New("DocumentReference", "plan", fhir.M{"status": "current", "subject": fhir.Reference{Reference: "Patient/p1"},
		"type":    fhir.Code(fhir.SystemSNOMED, "736253002", "Mental health crisis plan"),
		"content": []fhir.M{{"attachment": fhir.M{"contentType": "application/pdf", "url": "https://dms.rx1.example/1"}}}})
	deliver(t, n, "2", "p1", patientP("p1", ann, "Taylor", nil), plan)
	both := []string{"736253002", "887181000000106"}
	eventually(t, "so is the plan", func() bool { return slices.Equal(types(ann), both) })

	eventually(t, "the desk says so", func() bool {
		desk, err := n.Desk(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		l := desk.Locators[0]
		return l.State == "ok" && l.There == 2 && l.In+l.Out == 0
	})
	resp, err := http.Get("http://" + n.Addr() + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	metrics, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if err != nil || !strings.Contains(string(metrics), `tombolo_locator_pointers{locator="nrl",type="http://snomed.info/sct|736253002"} 1`) || strings.Contains(string(metrics), ann) {
		t.Errorf("metrics: %s (%v)", metrics, err)
	}
	deliver(t, n, "3", "p1", patientP("p1", ann, "Taylor", confidential("R")))
	eventually(t, "where she is must not be known: nothing is registered", func() bool { return len(types(ann)) == 0 })
	deliver(t, n, "4", "p1", patientP("p1", ann, "Taylor", confidential("U")))
	eventually(t, "it may be again", func() bool { return slices.Equal(types(ann), both) })

	// Another patient of the same person adds nothing; when they are merged away nothing is lost.
	deliver(t, n, "5", "p2", patientP("p2", ann, "Taylor", nil))
	deliver(t, n, "6", "p2", patientP("p2", ann, "Taylor", fhir.M{"active": false, "link": []fhir.M{{"other": fhir.Reference{Reference: "Patient/p1"}, "type": "replaced-by"}}}))
	const renumbered = "9990000204"
	deliver(t, n, "7", "p1", patientP("p1", renumbered, "Taylor", fhir.M{"identifier": []fhir.Identifier{{System: fhir.SystemNHSNumber, Value: renumbered}, {Use: "old", System: fhir.SystemNHSNumber, Value: ann}}}))
	eventually(t, "under the new number, and not under the old", func() bool { return slices.Equal(types(renumbered), both) && len(types(ann)) == 0 })
	if all := l.Pointers(""); len(all) != 2 {
		t.Errorf("%d pointers in all", len(all))
	}
	deliver(t, n, "8", "p1", patientP("p1", renumbered, "Taylor", fhir.M{"identifier": []fhir.Identifier{{System: fhir.SystemNHSNumber, Value: renumbered}, {Use: "old", System: fhir.SystemNHSNumber, Value: ann}}, "deceasedDateTime": "2026-05-01"}))
	eventually(t, "she has died", func() bool { return len(l.Pointers("")) == 0 })

	for _, ask := range l.Asked() {
		if strings.Contains(ask, ann) || strings.Contains(ask, renumbered) {
			t.Errorf("a number stands in an address: %s", ask)
		}
	}
	// Everything that was told is remembered.
	written := map[string]int{}
	for e, err := range n.Audit.All(t.Context(), 0, 0) {
		if err != nil {
			t.Fatal(err)
		}
		s, err := e.Summary()
		if err != nil {
			t.Fatal(err)
		}
		if slices.Contains(s.What, "locator: nrl") {
			written[string(s.Kind)]++
		}
	}
	if written["create"] < 6 || written["delete"] < 6 {
		t.Errorf("audited: %v", written)
	}
}

// What others hold and the national locator knows of stands in the record; a locator that does not answer leaves it open whether anybody holds anything, and one that
// answers about somebody else is not believed.
func TestARecordSaysWhoElseHoldsSomething(t *testing.T) {
	n, l := tellsUpward(t)
	const ann = "9990000107"
	deliver(t, n, "1", "p1", patientP("p1", ann, "Taylor", nil))
	elsewhere := nrl.Form{Custodian: "RAX", URL: "ssp://p1.nhs.uk/plan.pdf", Mechanism: nrl.SSP, ASID: "200000000610", Setting: fhir.Coding{System: fhir.SystemSNOMED, Code: "788002001", Display: "Adult mental health service"}}
	elsewhere.Type, _ = nrl.TypeNamed("861421000000109")
	register := func(nhs, id string) {
		l.Register(nrl.Pointer{Resource: elsewhere.Make(nrl.Number(nhs), "theirs").With("id", id).Without("masterIdentifier")})
	}
	register(ann, "RAX-1")
	s, err := n.Access.As("medic")
	if err != nil {
		t.Fatal(err)
	}
	open := func() (*gather.Record, gather.Lane) {
		t.Helper()
		id, err := n.Gather.Find(t.Context(), s, fhir.Identifier{System: fhir.SystemNHSNumber, Value: ann})
		if err != nil {
			t.Fatal(err)
		}
		rec, err := n.Gather.Record(t.Context(), s, id, gather.Ask{})
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range rec.Lanes {
			if l.Source == "nrl" {
				return rec, l
			}
		}
		t.Fatal("the locator has no lane")
		return nil, gather.Lane{}
	}
	rec, lane := open()
	if lane.State != gather.Answered || lane.Count != 1 || len(rec.Section(dataset.EndOfLife).Entries) != 1 || rec.Section(dataset.EndOfLife).Entries[0].Lead.Text("content.attachment.url") != "ssp://p1.nhs.uk/plan.pdf" {
		t.Errorf("the lane is %s with %d entries (%v)", lane.State, lane.Count, lane.Issue)
	}
	if slices.Contains(rec.Section(dataset.Allergies).Unknown, "National Record Locator") {
		t.Error("it has answered, and allergies are said not to be known for it")
	}
	eventually(t, "our own pointer stands there", func() bool { return len(l.Pointers(ann)) == 2 })
	if _, lane = open(); lane.Count != 1 {
		t.Errorf("our own pointer comes back as another's: %d", lane.Count)
	}

	// Its answer is believed for a while, and not for ever.
	asked := len(l.Asked())
	_, _ = open()
	_, _ = open()
	if more := len(l.Asked()) - asked; more > 1 {
		t.Errorf("asked %d times for two openings", more)
	}
	time.Sleep(350 * time.Millisecond)
	l.Set(sim.FaultSlow, 3*time.Second)
	rec, lane = open()
	if lane.State != gather.Failed || lane.Issue == nil || !strings.Contains(lane.Issue.Text, "who else holds something about this person is not known") {
		t.Errorf("it did not answer: %s %v", lane.State, lane.Issue)
	}
	if sec := rec.Section(dataset.Allergies); !slices.Contains(sec.Unknown, "National Record Locator") || rec.Complete(dataset.Allergies) || sec.State != dataset.NotKnown {
		t.Errorf("a locator has not answered, and allergies are %s (%v)", sec.State, sec.Unknown)
	}
	l.Set(sim.FaultWrongPatient, 0)
	register("9990000204", "RAX-2")
	if _, lane = open(); lane.State != gather.Failed || lane.Count != 0 {
		t.Errorf("it answered about somebody else: %s, %d entries", lane.State, lane.Count)
	}
	l.Set(sim.FaultNone, 0)

	// Each pointer says where she is seen.
	deliver(t, n, "2", "p1", patientP("p1", ann, "Taylor", confidential("R")))
	asked = len(l.Asked())
	rec, lane = open()
	if lane.State != gather.Refused || lane.Count != 0 || len(rec.Section(dataset.EndOfLife).Entries) != 0 {
		t.Errorf("restricted: %s, %d entries", lane.State, lane.Count)
	}
	eventually(t, "her own pointer is taken away", func() bool { return len(l.Pointers(ann)) == 1 })
	for _, ask := range l.Asked()[asked:] {
		if strings.Contains(ask, "/consumer/") {
			t.Errorf("the locator was asked: %s", ask)
		}
	}
}

// The pointers are the same made anew from the log, and a node that has older ones makes them anew by itself.
func TestPointersAreRebuiltFromTheLog(t *testing.T) {
	n, _ := tellsUpward(t)
	deliver(t, n, "1", "p1", patientP("p1", "9990000107", "Taylor", nil), fhir.New("Encounter", "e1", fhir.M{"status": "finished", "class": fhir.Coding{Code: "AMB"}, "subject": fhir.Reference{Reference: "Patient/p1"}}))
	person, err := n.People.Resolve(t.Context(), fhir.Identifier{System: fhir.SystemNHSNumber, Value: "9990000107"})
	if err != nil {
		t.Fatal(err)
	}
	p, err := n.People.Person(t.Context(), person)
	if err != nil {
		t.Fatal(err)
	}
	pointers := func() locator.Pointers {
		all, err := n.Locator.Of(t.Context(), p.Patients[0].ID)
		if err != nil {
			t.Fatal(err)
		}
		return all[p.Patients[0].ID]
	}
	before := pointers()
	if before.Headings[dataset.Encounters].Count != 1 {
		t.Fatalf("pointers: %+v", before)
	}
	if err := n.Locator.Rebuild(t.Context()); err != nil { // under the follower that runs
		t.Fatal(err)
	}
	eventually(t, "made anew", func() bool {
		now := pointers()
		return now.Headings[dataset.Encounters] == before.Headings[dataset.Encounters] && now.Last.Equal(before.Last)
	})
}
