package node_test

import (
	"context"
	"net"
	"strings"
	"testing"

	"tombolo/audit"
	"tombolo/connector/hl7v2"
	"tombolo/fhir"
	"tombolo/node"
	"tombolo/region"
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
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	_ = l.Close()
	c := config(t, t.TempDir())
	with := strings.Replace(strings.Replace(north, "127.0.0.1:2575", addr, 1), "{processing: PT}", `{processing: PT, pdq: "yes"}`, 1)
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
		{"@PID.5.1^Taylor~@PID.7^19480312", "MSA|AE|Q1"}, // nobody is guessed at
	} {
		if got := asking(t, addr, query(q.known)); !strings.Contains(got, q.want) {
			t.Errorf("%s: answered\n%s\nwant %q", q.known, got, q.want)
		}
	}
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
	if searches != 4 {
		t.Errorf("the person can see %d of 4 questions about them", searches)
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
