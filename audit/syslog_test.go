package audit

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/xml"
	"fmt"
	"io"
	"net"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"tombolo/fhir"
	"tombolo/pki/pkitest"
)

// pair is a certificate of the authority, for both ends.
func pair(t *testing.T, a *pkitest.Authority) tls.Certificate {
	t.Helper()
	p := a.Issue("node", nil)
	c, err := tls.LoadX509KeyPair(p.CertFile, p.KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func pool(a *pkitest.Authority) *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(a.Cert)
	return p
}

// A receiver is an audit repository that takes syslog over mutual TLS. Of some connections it reads only a part.
type receiver struct {
	mu       sync.Mutex
	messages []string
	accepted int
	cutAfter func(connection int) int // messages after which it hangs up; -1: never
}

func (r *receiver) serve(t *testing.T, ln net.Listener) {
	for {
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		r.mu.Lock()
		r.accepted++
		cut := -1
		if r.cutAfter != nil {
			cut = r.cutAfter(r.accepted)
		}
		r.mu.Unlock()
		in := bufio.NewReader(conn)
		for n := 0; n != cut; n++ {
			m, err := frame(in)
			if err != nil {
				if n > 0 && err != io.EOF {
					t.Errorf("a frame: %v", err)
				}
				break
			}
			r.mu.Lock()
			r.messages = append(r.messages, m)
			r.mu.Unlock()
		}
		if cut >= 0 { // a machine that goes down says no goodbye
			_ = conn.(*tls.Conn).NetConn().(*net.TCPConn).SetLinger(0)
			_ = conn.(*tls.Conn).NetConn().Close()
			continue
		}
		_ = conn.Close()
	}
}

// frame reads one message: octet counting, RFC 5425 §4.3.
func frame(in *bufio.Reader) (string, error) {
	size, err := in.ReadString(' ')
	if err != nil {
		return "", err
	}
	n, err := strconv.Atoi(strings.TrimSpace(size))
	if err != nil {
		return "", err
	}
	b := make([]byte, n)
	_, err = io.ReadFull(in, b)
	return string(b), err
}

func receive(t *testing.T, ca *pkitest.Authority, r *receiver) (address string) {
	t.Helper()
	ln, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{pair(t, ca)}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool(ca), MinVersion: tls.VersionTLS12})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() { r.serve(t, ln) })
	t.Cleanup(func() { _ = ln.Close(); wg.Wait() })
	return ln.Addr().String()
}

func with(c *tls.Config) func(string) (*tls.Config, error) {
	return func(host string) (*tls.Config, error) {
		c := c.Clone()
		c.ServerName = host
		return c, nil
	}
}

var header = regexp.MustCompile(`^<(\d+)>1 (\S+) severn tombolo \d+ IHE\+RFC-3881 - \x{feff}<\?xml`)

// A syslog repository gets every entry, in order, at least once, also when it goes down in the middle of a page.
func TestEveryEntryReachesASyslogRepository(t *testing.T) {
	l := openLog(t, engine(t), "severn")
	appendN(t, l, 300)
	ca := pkitest.New(t, t.TempDir(), "ca", time.Now())
	r := &receiver{cutAfter: func(connection int) int {
		if connection%3 == 2 {
			return 40
		}
		return -1
	}}
	address := receive(t, ca, r)
	cursor := Seq(0)
	f := &Feed{Log: l, To: &Syslog{Address: address, Node: "severn", TLS: with(&tls.Config{RootCAs: pool(ca), Certificates: []tls.Certificate{pair(t, ca)}})},
		Load: func(context.Context) (Seq, error) { return cursor, nil }, Save: func(_ context.Context, s Seq) error { cursor = s; return nil }}
	failed := 0
	for range 20 {
		n, err := f.Step(ctx)
		if err != nil {
			failed++
		}
		if n == 0 && err == nil {
			break
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	next, again := 1, 0
	for _, m := range r.messages {
		head := header.FindStringSubmatch(m)
		if head == nil || head[1] != "85" {
			t.Fatalf("not a syslog message of an audit event: %.120q", m)
		}
		if _, err := time.Parse(time.RFC3339, head[2]); err != nil {
			t.Error(err)
		}
		_, body, _ := strings.Cut(m, "\ufeff")
		switch id := entryOf(t, body); {
		case id == fmt.Sprintf("AuditEvent/audit-%d", next):
			next++
		case next > 1:
			again++
		default:
			t.Fatalf("%s came before the first", id)
		}
	}
	if next != 301 || cursor != 300 || failed == 0 || again == 0 {
		t.Errorf("the repository has the first %d, %d came again, the cursor is %d, %d pages failed", next-1, again, cursor, failed)
	}
}

// entryOf is the entry that a DICOM message says it is of.
func entryOf(t *testing.T, body string) string {
	t.Helper()
	var m dicomMessage
	if err := xml.Unmarshal([]byte(body), &m); err != nil {
		t.Fatal(err)
	}
	return m.Objects[len(m.Objects)-1].ID
}

// Neither side speaks to one whom the other's authority does not know.
func TestASyslogRepositoryIsSpokenToOnlyOverMutualTLS(t *testing.T) {
	l := openLog(t, engine(t), "severn")
	appendN(t, l, 1)
	var entries []Entry
	for e := range l.All(ctx, 0, 0) {
		entries = append(entries, e)
	}
	ca, other := pkitest.New(t, t.TempDir(), "ca", time.Now()), pkitest.New(t, t.TempDir(), "other", time.Now())
	r := &receiver{}
	address := receive(t, ca, r)
	for name, c := range map[string]struct {
		config *tls.Config
		good   bool
	}{
		"both known":                      {&tls.Config{RootCAs: pool(ca), Certificates: []tls.Certificate{pair(t, ca)}}, true},
		"without a certificate":           {&tls.Config{RootCAs: pool(ca)}, false},
		"with another's certificate":      {&tls.Config{RootCAs: pool(ca), Certificates: []tls.Certificate{pair(t, other)}}, false},
		"a repository of somebody else's": {&tls.Config{RootCAs: pool(other), Certificates: []tls.Certificate{pair(t, ca)}}, false},
	} {
		s := &Syslog{Address: address, Node: "severn", TLS: with(c.config)}
		n, err := s.Take(ctx, entries)
		if (err == nil) != c.good || (n == 1) != c.good {
			t.Errorf("%s: took %d (%v)", name, n, err)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.messages) != 1 {
		t.Errorf("%d messages arrived, want the one", len(r.messages))
	}
}

// What a DICOM message looks like, for those who must read it.
func TestEntriesAreGivenAsDICOMMessages(t *testing.T) {
	l := openLog(t, engine(t), "severn")
	read := view(t, "margaret")
	read.Agent.Device, read.Agent.Address, read.Agent.SDSUserID = "Ward <tablet>", "10.1.2.3", "555021935107"
	denied := view(t, "harold")
	denied.Kind = Denied
	search := Event{Kind: Search, Agent: read.Agent, Query: "POST /fhir/Patient/_search", Outcome: Minor}
	var all bytes.Buffer
	for _, e := range []Event{read, denied, search, {Kind: SignIn, Agent: read.Agent}, {Kind: Export, Agent: read.Agent, PersonID: "margaret", What: []string{"reason: she asked"}}} {
		entry, err := l.Append(ctx, e)
		if err != nil {
			t.Fatal(err)
		}
		b, err := entry.DICOM()
		if err != nil {
			t.Fatal(err)
		}
		var m dicomMessage
		if err := xml.Unmarshal(b, &m); err != nil {
			t.Fatal(err)
		}
		pretty, err := xml.MarshalIndent(m, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		all.Write(append(pretty, '\n'))
	}
	const file = "testdata/dicom.xml"
	if *update {
		if err := os.WriteFile(file, all.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil || !bytes.Equal(want, all.Bytes()) {
		t.Errorf("%s differs (%v). If the change is meant, run go test ./audit -update\ngot:\n%s", file, err, all.Bytes())
	}
}

// However much an event tells, every receiver can take its message, and the message says which entry has it all.
func TestALongEntryFitsAMessage(t *testing.T) {
	l := openLog(t, engine(t), "severn")
	for name, e := range map[string]Event{
		"many versions": {Kind: Read, PersonID: "p", What: []string{"results: " + strings.Repeat("Observation/é0123456789/_history/1 ", 20_000)}},
		"many details":  {Kind: Read, PersonID: "p", What: strings.Split(strings.Repeat("source x: answered|", 5_000), "|")},
		"a long query":  {Kind: Search, Query: strings.Repeat("q", 200_000)},
	} {
		entry, err := l.Append(ctx, e)
		if err != nil {
			t.Fatal(err)
		}
		b, err := entry.DICOM()
		if err != nil || len(b) > largestMessage || entryOf(t, string(b)) != "AuditEvent/"+idOf(entry.Seq) {
			t.Errorf("%s: %d bytes (%v)", name, len(b), err)
		}
	}
}

func FuzzDICOM(f *testing.F) {
	f.Add(`{"resourceType":"AuditEvent","type":{"code":"rest"},"agent":[{"who":{"display":"a\u0001<"}}],"entity":[{"type":{"code":"1"},"what":{"identifier":{"value":"9"}},"detail":[{"type":"x","valueString":"y"}]}]}`)
	f.Add(`{"resourceType":"AuditEvent"}`)
	f.Fuzz(func(t *testing.T, s string) {
		r, err := fhir.Parse([]byte(s))
		if err != nil {
			return
		}
		b, err := xml.Marshal(dicomOf(r, Entry{Seq: 1, Body: []byte(s)}))
		if err != nil {
			t.Fatal(err)
		}
		var m dicomMessage
		if err := xml.Unmarshal(b, &m); err != nil {
			t.Fatalf("%v: %s", err, b)
		}
		for _, o := range m.Objects {
			for _, d := range o.Detail {
				if _, err := base64.StdEncoding.DecodeString(d.Value); err != nil && !strings.Contains(s, "valueBase64Binary") {
					t.Errorf("the value of %q is no base64: %v", d.Type, err)
				}
			}
		}
	})
}
