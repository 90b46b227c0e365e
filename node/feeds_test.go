package node_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	"tombolo/audit"
	"tombolo/connector"
	"tombolo/connector/hl7v2"
	"tombolo/fhir"
	"tombolo/node"
	"tombolo/region"
	"tombolo/sim"
)

// asking sends one message to a feed and gives the answer, segments as lines.
func asking(t *testing.T, addr, msg string) string {
	t.Helper()
	c := &hl7v2.Client{Addr: addr}
	defer c.Close()
	ack, err := c.Send(t.Context(), []byte(msg))
	if err != nil {
		t.Fatal(err)
	}
	return strings.ReplaceAll(string(ack.Raw), "\r", "\n")
}

func query(known string) string {
	return "MSH|^~\\&|EPR|RX1|T|N|20260302||QBP^Q22^QBP_Q21|Q1|P|2.5\rQPD|IHE PDQ Query|T1|" + known + "\rRCP|I\r"
}

func TestAFeedWithPDQTellsWhoSomebodyIsAndRemembersIt(t *testing.T) {
	addr, release, err := sim.ReserveAddress()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(release)
	c := config(t, t.TempDir())
	other := "\n  - {id: other, organisation: RX2, product: Other, connector: document, listen: 127.0.0.1:0, gives: {demographics: push}, release: all}\nagreements:"
	with := strings.Replace(strings.Replace(strings.Replace(north, "127.0.0.1:2575", addr, 1), "{processing: PT}", `{processing: PT, pdq: "yes"}`, 1), "\nagreements:", other, 1)
	with = strings.Replace(with, "organisations:", "organisations:\n  - {ods: RX2, name: South Acute Trust, kind: acute}", 1)
	r, problems := region.Parse("north.yaml", []byte(with))
	for _, p := range problems {
		if p.Severity == region.Error {
			t.Fatal(p)
		}
	}
	c.Region, c.Feeds = r, true
	n, _ := start(t, c)
	if got := asking(t, addr, admission); !strings.Contains(got, "MSA|AA|M1") {
		t.Fatalf("the admission was answered\n%s", got)
	}
	for _, q := range []struct{ known, want string }{
		{"@PID.3.1^9990000107", "PID|1||9990000107^^^NHS^NH~RX100001^^^RX1^PI||Taylor^Margaret"},
		{"@PID.3.1^9990000107~@PID.7^19480312", "QAK|T1|OK"},
		{"@PID.3.1^9990000107~@PID.7^19500101", "QAK|T1|NF"}, // a number without the date of birth that goes with it
		{"@PID.3.1^RX100001~@PID.3.4^RX1", "QAK|T1|OK"},
		{"@PID.3.1^RX999999~@PID.3.4^RX1", "QAK|T1|NF"},
		{"@PID.5.1^Taylor~@PID.7^19480312", "PID|1||9990000107^^^NHS^NH~RX100001^^^RX1^PI||Taylor^Margaret"},
		{"@PID.5.1^TAYL*~@PID.5.2^margaret~@PID.8^F", "QAK|T1|OK"},
		{"@PID.5.1^Taylo~@PID.7^19480312", "QAK|T1|NF"}, // nobody is guessed at
		{"@PID.5.1^Taylor~@PID.7^19480312~@PID.8^M", "QAK|T1|NF"},
		{"@PID.5.1^Taylor", "QAK|T1|AE"}, // says too little
	} {
		if got := asking(t, addr, query(q.known)); !strings.Contains(got, q.want) {
			t.Errorf("%s: answered\n%s\nwant %q", q.known, got, q.want)
		}
	}
	pix := func(qpd string) string {
		return asking(t, addr, "MSH|^~\\&|EPR|RX1|T|N|20260302||QBP^Q23^QBP_Q21|Q1|P|2.5\rQPD|IHE PIX Query|T1|"+qpd+"\rRCP|I\r")
	}
	if got := pix("RX100001^^^RX1^PI"); !strings.Contains(got, "PID|||9990000107^^^NHS^NH||~^^^^^^S") {
		t.Errorf("asked for other identifiers, answered\n%s", got)
	}
	unknown := pix("RX100009^^^RX1^PI")
	person, err := n.People.Resolve(t.Context(), fhir.Identifier{System: fhir.SystemNHSNumber, Value: "9990000107"})
	if err != nil {
		t.Fatal(err)
	}
	searches := 0
	for e, err := range n.Audit.Show(t.Context(), person, 0, 0) {
		if err != nil {
			t.Fatal(err)
		}
		if s, err := e.Summary(); err == nil && s.Kind == audit.Search {
			searches++
		}
	}
	if searches != 7 {
		t.Errorf("the person can see %d of 7 questions about them", searches)
	}
	// Somebody whom only an organisation without an agreement knows, and somebody who objects, are as unknown as a number that there is not.
	elsewhere := fhir.New("Patient", "Y1", fhir.M{"identifier": []fhir.Identifier{{System: "urn:id:RX1", Value: "RX100777"}}, "birthDate": "1960-01-01", "name": []fhir.HumanName{{Family: "Fox", Given: []string{"Ada"}}}})
	objects := fhir.New("Consent", "c1", fhir.M{"status": "active", "patient": fhir.Reference{Reference: "Patient/RX100001"},
		"scope": fhir.Code("http://terminology.hl7.org/CodeSystem/consentscope", "patient-privacy", ""), "provision": fhir.M{"type": "deny"}})
	for _, d := range []connector.Delivery{{Source: "other", Patient: "Y1", Content: []*fhir.Resource{elsewhere}, Raw: []byte("1")},
		{Source: "pas", Patient: "RX100001", Content: []*fhir.Resource{objects}, Raw: []byte("2")}} {
		if _, err := n.Intake.Accept(t.Context(), d); err != nil {
			t.Fatal(err)
		}
	}
	if got := asking(t, addr, query("@PID.5.1^Fox~@PID.7^19600101")); !strings.Contains(got, "QAK|T1|NF") {
		t.Errorf("somebody whom only another organisation knows is told of:\n%s", got)
	}
	same := func(a, b string) bool { // but for the number asked and the time
		cut := func(s string) string {
			_, s, _ = strings.Cut(s, "\n")
			return s
		}
		return cut(strings.NewReplacer("RX100777", "RX100009", "RX100001", "RX100009").Replace(a)) == cut(b)
	}
	for _, number := range []string{"RX100001", "RX100777"} {
		if got := pix(number + "^^^RX1^PI"); !same(got, unknown) {
			t.Errorf("an answer about who must not be told of is\n%s\nabout who is not known it is\n%s", got, unknown)
		}
	}
	if got := asking(t, addr, query("@PID.5.1^Taylor~@PID.7^19480312")); !strings.Contains(got, "QAK|T1|NF|IHE PDQ Query|0|0|0") {
		t.Errorf("somebody who objects is told of:\n%s", got)
	}
}

// What changes here is told to a system in its own words, and is taken there once, however often it is sent.
func TestASystemIsToldInHL7OfWhatChanges(t *testing.T) {
	addr, release, err := sim.ReserveAddress()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(release)
	c := config(t, t.TempDir())
	told := "\n  - {id: told, organisation: RX1, product: Other PAS, connector: hl7v2, listen: 127.0.0.1:0, release: all, gives: {demographics: push},\n" +
		"     options: {send-to: \"mllp://" + addr + "\", send-for: PAS^RX1, system.RX1: https://fhir.rx1.example/Id/mrn}}\nagreements:"
	r, problems := region.Parse("north.yaml", []byte(strings.Replace(strings.Replace(north, "127.0.0.1:2575", addr, 1), "\nagreements:", told, 1)))
	for _, p := range problems {
		if p.Severity == region.Error {
			t.Fatal(p)
		}
	}
	c.Region, c.Feeds = r, true
	n, _ := start(t, c)
	if _, ok := n.Sender("pas"); ok {
		t.Error("a system without an address can be told of things")
	}
	s, ok := n.Sender("told")
	if !ok {
		t.Fatal("the system cannot be told of anything")
	}
	p := fhir.New("Patient", "p1", fhir.M{"identifier": []fhir.Identifier{{System: fhir.SystemNHSNumber, Value: "9990000107"}, {System: "https://fhir.rx1.example/Id/mrn", Value: "T77"}},
		"birthDate": "1948-03-12", "name": []fhir.HumanName{{Family: "O'Brien|x", Given: []string{"Zoë"}}}, "meta": fhir.M{"versionId": "2", "lastUpdated": "2026-03-02T10:00:00Z"}})
	for range 2 {
		if err := s.Send(t.Context(), p); err != nil {
			t.Fatal(err)
		}
	}
	person, err := n.People.Resolve(t.Context(), fhir.Identifier{System: fhir.SystemNHSNumber, Value: "9990000107"})
	if err != nil {
		t.Fatal(err)
	}
	var messages []string
	for e, err := range n.Audit.By(t.Context(), "told", 0, 0) {
		if err != nil {
			t.Fatal(err)
		}
		did, err := e.Summary()
		if err != nil || did.Kind != audit.Notified || did.NHSNumber.Digits() != "9990000107" || !slices.Equal(did.Said("told in HL7 v2"), []string{"ADT^A31"}) {
			t.Errorf("recorded is %+v (%v)", did, err)
		}
		messages = append(messages, did.Said("message")...)
	}
	if len(messages) != 2 || messages[0] != messages[1] || messages[0] == "" {
		t.Errorf("the messages recorded as sent are %q, want the same twice", messages)
	}
	if got, err := n.People.Person(t.Context(), person); err != nil || got.Name.Family != "O'Brien|x" || got.Name.Given[0] != "Zoë" || len(got.Patients) != 1 {
		t.Errorf("%+v (%v) was told of", got, err)
	}
	if st := n.Intake.Stats()["pas"]; st.Accepted != 1 || st.Duplicates != 1 {
		t.Errorf("sent twice, it was taken so: %+v", st)
	}
	if err := n.Audit.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Send(t.Context(), p.With("gender", "female")); !fhir.Is(err, fhir.NoStore) {
		t.Errorf("what cannot be recorded is told: %v", err)
	}
	if st := n.Intake.Stats()["pas"]; st.Accepted != 1 || st.Duplicates != 1 {
		t.Errorf("what was not recorded was sent: %+v", st)
	}
	if err := s.Send(t.Context(), fhir.New("Patient", "p2", fhir.M{})); !fhir.Is(err, fhir.Required) {
		t.Errorf("a patient without a number: %v", err)
	}
}

// Renewing a feed's files and refusing an open one are the connector's; here: that the region file's paths and address reach it.
func TestTheWireIsAsTheRegionFileSays(t *testing.T) {
	for edit, want := range map[string]string{
		"options: {tls-cert: no.pem, tls-key: no.pem}": "options.tls-cert",
		"options: {senders: x, tls-client-ca: ca.pem}": "options.tls-client-ca",
	} {
		dir := t.TempDir()
		c := config(t, dir)
		r, _ := region.Parse("north.yaml", []byte(strings.Replace(strings.Replace(north, "options: {processing: PT}", edit, 1), "127.0.0.1:2575", "127.0.0.1:0", 1)))
		c.Region, c.Feeds, c.Folder = r, true, dir
		n, err := node.New(context.Background(), c)
		if err == nil {
			_ = n.Close()
		}
		if err == nil || !strings.Contains(err.Error(), strings.TrimPrefix(want, "options.")) {
			t.Errorf("%s: got %v", edit, err)
		}
	}
}
