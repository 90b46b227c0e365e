package hl7v2

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tombolo/connector"
	"tombolo/fhir"
)

// An issuer is a certificate authority of a test.
type issuer struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
}

var serial = int64(1)

func newIssuer(t *testing.T, name string) *issuer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	serial++
	c := &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	c, _ = x509.ParseCertificate(der)
	return &issuer{c, key, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})}
}

// issue makes a certificate for a name and the loopback, and its key, in PEM; or one that differs.
func (is *issuer) issue(t *testing.T, name string, differs ...func(*x509.Certificate)) (cert, key []byte) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	serial++
	c := &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}}
	for _, change := range differs {
		change(c)
	}
	der, err := x509.CreateCertificate(rand.Reader, c, is.cert, &k.PublicKey, is.key)
	if err != nil {
		t.Fatal(err)
	}
	pk, _ := x509.MarshalECPrivateKey(k)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: pk})
}

func keep(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func expired(c *x509.Certificate) {
	c.NotBefore, c.NotAfter = time.Now().Add(-2*time.Hour), time.Now().Add(-time.Minute)
}

func notYet(c *x509.Certificate) {
	c.NotBefore, c.NotAfter = time.Now().Add(time.Minute), time.Now().Add(time.Hour)
}

func ofAServer(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }
func elsewhere(c *x509.Certificate) { c.IPAddresses = nil }

// secured is a folder with what a feed needs for mutual TLS.
func secured(t *testing.T, ca *issuer, name string, differs ...func(*x509.Certificate)) string {
	t.Helper()
	dir := t.TempDir()
	cert, key := ca.issue(t, name, differs...)
	keep(t, filepath.Join(dir, "cert.pem"), cert)
	keep(t, filepath.Join(dir, "key.pem"), key)
	keep(t, filepath.Join(dir, "ca.pem"), ca.pem)
	return dir
}

func mutual(dir string) Wire {
	return Wire{Folder: dir, Cert: "cert.pem", Key: "key.pem", ClientCA: "ca.pem"}
}

func runFeed(t *testing.T, o Options, door connector.Door) *Feed {
	t.Helper()
	o.Source, o.Organisation = "rx1-pas", "RX1"
	if o.Listen == "" && o.Wire.Address == "" {
		o.Listen = "127.0.0.1:0"
	}
	f, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f.Run(ctx, door) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	return f
}

// over sends one message over TLS as somebody, and answers "AA", or "" where the connection was refused.
func over(t *testing.T, addr string, server, as *issuer, name, msg string, differs ...func(*x509.Certificate)) string {
	t.Helper()
	conf := &tls.Config{RootCAs: x509.NewCertPool(), ServerName: "127.0.0.1"}
	conf.RootCAs.AddCert(server.cert)
	if as != nil {
		cert, key := as.issue(t, name, differs...)
		pair, err := tls.X509KeyPair(cert, key)
		if err != nil {
			t.Fatal(err)
		}
		conf.Certificates = []tls.Certificate{pair}
	}
	c := &Client{Addr: addr, Timeout: 10 * time.Second, Dial: func(ctx context.Context, addr string) (net.Conn, error) {
		return (&tls.Dialer{Config: conf}).DialContext(ctx, "tcp", addr)
	}}
	defer c.Close()
	ack, err := c.Send(t.Context(), []byte(msg))
	if err != nil {
		return ""
	}
	return ack.Code
}

func TestOnlyTheSenderWithTheRightCertificateIsHeard(t *testing.T) {
	ours, theirs := newIssuer(t, "Severn CA"), newIssuer(t, "Some CA")
	o := Options{Wire: mutual(secured(t, ours, "tie.severn.example"))}
	o.Wire.Peer = "pas.rx1.example"
	door := &record{}
	f := runFeed(t, o, door)
	for who, c := range map[string]struct {
		ca         *issuer
		name, want string
		differs    []func(*x509.Certificate)
	}{
		"the sender":                        {ours, "pas.rx1.example", "AA", nil},
		"another sender of the same region": {ours, "pas.rx2.example", "", nil},
		"somebody with their own authority": {theirs, "pas.rx1.example", "", nil},
		"somebody without a certificate":    {nil, "", "", nil},
		"the sender, out of date":           {ours, "pas.rx1.example", "", []func(*x509.Certificate){expired}},
		"the sender, too early":             {ours, "pas.rx1.example", "", []func(*x509.Certificate){notYet}},
		"a server in the sender's name":     {ours, "pas.rx1.example", "", []func(*x509.Certificate){ofAServer}},
	} {
		if got := over(t, f.Addr().String(), ours, c.ca, c.name, admit(strings.ReplaceAll(who, " ", "")), c.differs...); got != c.want {
			t.Errorf("%s: answered %q, want %q", who, got, c.want)
		}
	}
	plain := &Client{Addr: f.Addr().String(), Timeout: 5 * time.Second}
	defer plain.Close()
	if ack, err := plain.Send(t.Context(), []byte(admit("clear"))); err == nil {
		t.Errorf("a sender in clear was answered %s", ack.Code)
	}
	// Who is turned away may know it before it is counted.
	for deadline := time.Now().Add(20 * time.Second); f.Stats().TurnedAway < 7 && time.Now().Before(deadline); {
		time.Sleep(5 * time.Millisecond)
	}
	if n := f.Stats().TurnedAway; n != 7 {
		t.Errorf("%d connections were turned away, want 7", n)
	}
	if n := door.count(); n != 1 {
		t.Errorf("%d messages were taken, want the sender's alone", n)
	}
}

// What is sent over TLS is sent with our certificate, and only to the system that it is for: to one whose certificate is of another authority, of another
// host, out of date, or that speaks in clear, nothing of a message is sent.
func TestWhatIsSentIsSentToTheRightSystemAlone(t *testing.T) {
	ours, theirs := newIssuer(t, "Severn CA"), newIssuer(t, "Some CA")
	us := mutual(secured(t, ours, "tie.severn.example"))
	for name, c := range map[string]struct {
		server string // folder
		trusts *issuer
		as     Wire
		taken  bool
	}{
		"the right system":                     {server: secured(t, ours, "pas"), as: us, taken: true},
		"a system of another authority":        {server: secured(t, theirs, "pas"), trusts: ours, as: us},
		"a system elsewhere":                   {server: secured(t, ours, "pas", elsewhere), as: us},
		"a system out of date":                 {server: secured(t, ours, "pas", expired), as: us},
		"we without a certificate":             {server: secured(t, ours, "pas"), as: Wire{Folder: us.Folder, ClientCA: "ca.pem"}},
		"we with another's certificate":        {server: secured(t, ours, "pas"), as: mutual(secured(t, ours, "pas.rx2.example"))},
		"we with another authority's":          {server: secured(t, ours, "pas"), as: othersCert(t, ours, theirs)},
		"we with a certificate that has ended": {server: secured(t, ours, "pas"), as: mutual(secured(t, ours, "tie.severn.example", expired))},
	} {
		t.Run(name, func(t *testing.T) {
			if c.trusts != nil {
				keep(t, filepath.Join(c.server, "ca.pem"), c.trusts.pem)
			}
			door := &record{}
			w := mutual(c.server)
			w.Peer = "tie.severn.example"
			f := runFeed(t, Options{Wire: w}, door)
			b, err := NewOutbound(Options{Source: "rx1-pas", Wire: c.as, FrameTimeout: 5 * time.Second, Outward: Outward{Address: "mllps://" + f.Addr().String(), Attempts: 1}})
			if err != nil {
				t.Fatal(err)
			}
			defer b.Close()
			ack, err := b.SendMessage(t.Context(), []byte(admit("1")))
			if c.taken && (err != nil || !ack.Accepted()) || !c.taken && !fhir.Is(err, fhir.Transient) {
				t.Errorf("answered %q, %v", ack.Code, err)
			}
			if got := door.count() == 1; got != c.taken {
				t.Errorf("taken: %v", got)
			}
		})
	}
	t.Run("a system that speaks in clear", func(t *testing.T) {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		came := make(chan []byte, 1)
		go func() {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Write([]byte(framed("MSH|^~\\&|||||||ACK|1|P|2.4\rMSA|AA|1\r")))
			_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
			data, _ := io.ReadAll(conn)
			_ = conn.Close()
			came <- data
		}()
		b, err := NewOutbound(Options{Source: "rx1-pas", Wire: us, FrameTimeout: 5 * time.Second, Outward: Outward{Address: "mllps://" + ln.Addr().String(), Attempts: 1}})
		if err != nil {
			t.Fatal(err)
		}
		if ack, err := b.SendMessage(t.Context(), []byte(admit("1"))); !fhir.Is(err, fhir.Transient) {
			t.Errorf("answered %q, %v", ack.Code, err)
		}
		_ = b.Close()
		if data := <-came; len(data) == 0 || strings.Contains(string(data), "MSH") || strings.Contains(string(data), "PID") {
			t.Errorf("it was sent %d bytes, want the beginning of a handshake", len(data))
		}
	})
}

// othersCert is a wire that trusts ours, and shows another authority's certificate in our name.
func othersCert(t *testing.T, ours, theirs *issuer) Wire {
	dir := secured(t, theirs, "tie.severn.example")
	keep(t, filepath.Join(dir, "ca.pem"), ours.pem)
	return mutual(dir)
}

// A feed that connects shows its certificate, and takes messages only from the system that it connects to.
func TestAConnectingFeedTakesMessagesFromTheRightSystemAlone(t *testing.T) {
	ours, theirs := newIssuer(t, "Severn CA"), newIssuer(t, "Some CA")
	for name, c := range map[string]struct {
		ca      *issuer
		name    string
		differs []func(*x509.Certificate)
		clear   bool
		taken   bool
	}{
		"the right system":                {ca: ours, name: "pas.rx1.example", taken: true},
		"a system of another authority":   {ca: theirs, name: "pas.rx1.example"},
		"another system of the authority": {ca: ours, name: "pas.rx2.example"},
		"a system elsewhere":              {ca: ours, name: "pas.rx1.example", differs: []func(*x509.Certificate){elsewhere}},
		"a system out of date":            {ca: ours, name: "pas.rx1.example", differs: []func(*x509.Certificate){expired}},
		"a system that speaks in clear":   {clear: true},
	} {
		t.Run(name, func(t *testing.T) {
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer ln.Close()
			w := mutual(secured(t, ours, "tie.severn.example"))
			w.Address, w.Peer = "mllps://"+ln.Addr().String(), "pas.rx1.example"
			door := &record{}
			runFeed(t, Options{Wire: w}, door)
			conn, err := ln.Accept()
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if !c.clear {
				cert, key := c.ca.issue(t, c.name, c.differs...)
				pair, err := tls.X509KeyPair(cert, key)
				if err != nil {
					t.Fatal(err)
				}
				conf := &tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: x509.NewCertPool()}
				conf.ClientCAs.AddCert(ours.cert)
				conn = tls.Server(conn, conf)
			}
			client := &Client{Addr: "the feed", Timeout: 5 * time.Second, Dial: func(context.Context, string) (net.Conn, error) { return conn, nil }}
			ack, err := client.Send(t.Context(), []byte(admit("1")))
			if c.taken != (err == nil && ack.Accepted()) {
				t.Errorf("answered %q, %v", ack.Code, err)
			}
			if c.taken {
				if shown := conn.(*tls.Conn).ConnectionState().PeerCertificates; len(shown) == 0 || shown[0].Subject.CommonName != "tie.severn.example" {
					t.Error("the feed did not show its certificate")
				}
			}
			if got := door.count() == 1; got != c.taken {
				t.Errorf("taken: %v", got)
			}
		})
	}
}

func TestAWireThatAnybodyCouldUseIsRefused(t *testing.T) {
	dir := secured(t, newIssuer(t, "CA"), "tie")
	for name, c := range map[string]struct {
		listen string
		w      Wire
		want   string // "" if it is right
	}{
		"this machine":                   {"127.0.0.1:0", Wire{}, ""},
		"this machine by name":           {"localhost:0", Wire{}, ""},
		"everywhere":                     {":0", Wire{}, "listen"},
		"everywhere in IPv6":             {"[::]:0", Wire{}, "listen"},
		"everywhere, server TLS only":    {"0.0.0.0:0", Wire{Folder: dir, Cert: "cert.pem", Key: "key.pem"}, "listen"},
		"everywhere, mutual":             {"0.0.0.0:0", mutual(dir), ""},
		"everywhere, acknowledged":       {"0.0.0.0:0", Wire{Insecure: "acknowledged"}, ""},
		"a certificate without its key":  {"127.0.0.1:0", Wire{Folder: dir, Cert: "cert.pem"}, "options.tls-cert"},
		"files that are not there":       {"127.0.0.1:0", Wire{Folder: dir, Cert: "no.pem", Key: "key.pem"}, "options.tls-cert"},
		"an authority that is none":      {"127.0.0.1:0", Wire{Folder: dir, Cert: "cert.pem", Key: "key.pem", ClientCA: "key.pem"}, "options.tls-client-ca"},
		"lists of no authority":          {"127.0.0.1:0", Wire{Folder: dir, Cert: "cert.pem", Key: "key.pem", CRL: "cert.pem"}, "options.tls-crl"},
		"lists that are none":            {"127.0.0.1:0", Wire{Folder: dir, Cert: "cert.pem", Key: "key.pem", ClientCA: "ca.pem", CRL: "cert.pem"}, "options.tls-crl"},
		"a bound sender nobody vouches":  {"127.0.0.1:0", Wire{Folder: dir, Cert: "cert.pem", Key: "key.pem", Peer: "pas"}, "options.tls-peer"},
		"connecting far away in clear":   {"", Wire{Address: "mllp://192.0.2.1:2575"}, "address"},
		"connecting, not MLLP":           {"", Wire{Address: "https://192.0.2.1:2575"}, "address"},
		"connecting, no port":            {"", Wire{Address: "mllps://192.0.2.1"}, "address"},
		"connecting on this machine":     {"", Wire{Address: "mllp://127.0.0.1:2575"}, ""},
		"connecting far away over TLS":   {"", Wire{Address: "mllps://192.0.2.1:2575"}, ""},
		"connecting in clear, knowingly": {"", Wire{Address: "mllp://192.0.2.1:2575", Insecure: "acknowledged"}, ""},
	} {
		f, err := New(Options{Source: "rx1-pas", Listen: c.listen, Wire: c.w})
		if err == nil {
			_ = f.Close()
		}
		switch issue := fhir.IssueOf(err); {
		case c.want == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case c.want != "" && (issue == nil || issue.Expression != c.want):
			t.Errorf("%s: got %v, want a refusal at %s", name, err, c.want)
		}
	}
}

// A system that serves its messages: the feed connects, takes them, and connects again when the connection ends.
func TestAFeedConnectsToASystemThatServesItsMessages(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	door := &record{}
	runFeed(t, Options{Wire: Wire{Address: "mllp://" + ln.Addr().String()}}, door)
	for n := range 2 {
		conn, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		c := &Client{Addr: "the feed", Dial: func(context.Context, string) (net.Conn, error) { return conn, nil }}
		if ack, err := c.Send(t.Context(), []byte(admit(fmt.Sprint("served", n)))); err != nil || ack.Code != "AA" {
			t.Errorf("connection %d: answered %s (%v)", n, ack.Code, err)
		}
		_ = c.Close()
	}
}

func TestAMessageInAnotherSendersNameIsRefusedAndKept(t *testing.T) {
	door := &record{}
	var o Options
	if err := o.Set(map[string]string{"senders": "PAS^RX1, LAB^RX1"}); err != nil {
		t.Fatal(err)
	}
	serve(t, o, door, func(t *testing.T, p *pipes, _ context.CancelFunc) {
		c := p.dial()
		if got := c.ask(t, framed(admit("1"))); got != "AA 1" {
			t.Errorf("the feed's own sender was answered %q", got)
		}
		if got := c.ask(t, framed(strings.Replace(admit("2"), "PAS|RX1", "PAS|RX9", 1))); !strings.HasPrefix(got, "AR 2 MSH^1^3") {
			t.Errorf("another sender was answered %q", got)
		}
	})
	if got := door.rejections(); len(got) != 1 {
		t.Errorf("kept: %q", got)
	}
}

func TestFaultsAreAnsweredInTheSendersMeaning(t *testing.T) {
	wrong := strings.Replace(admit("1"), "PID|", "ZZZ|", 1)
	unknown := strings.Replace(admit("2"), "ADT^A28^ADT_A05", "XXX^Y01", 1)
	for _, c := range []struct {
		set                   map[string]string
		fault, other, failure string
	}{
		{nil, "AE", "AR", "closed"},
		{map[string]string{"fault-ack": "ar", "refusal-ack": "AE", "failure-ack": "AR"}, "AR", "AE", "AR"},
		{map[string]string{"failure-ack": "ae"}, "AE", "AR", "AE"},
		{map[string]string{"failure-ack": "none"}, "AE", "AR", "closed"},
	} {
		var o Options
		if err := o.Set(c.set); err != nil {
			t.Fatal(err)
		}
		serve(t, o, &record{}, func(t *testing.T, p *pipes, _ context.CancelFunc) {
			for msg, want := range map[string]string{wrong: c.fault, unknown: c.other} {
				if got := p.dial().ask(t, framed(msg)); !strings.HasPrefix(got, want+" ") {
					t.Errorf("%v: answered %q, want %s", c.set, got, want)
				}
			}
		})
		serve(t, o, &record{fail: func(connector.Delivery) error { return fhir.Errorf(fhir.NoStore, "full") }}, func(t *testing.T, p *pipes, _ context.CancelFunc) {
			if got := p.dial().ask(t, framed(admit("3"))); !strings.HasPrefix(got, c.failure) {
				t.Errorf("%v: a failure of ours was answered %q, want %s", c.set, got, c.failure)
			}
		})
	}
}

// arrivals is a connection on which bytes come in these pieces.
type arrivals []string

func (a *arrivals) Read(p []byte) (int, error) {
	if len(*a) == 0 {
		return 0, io.EOF
	}
	n := copy(p, (*a)[0])
	if (*a)[0] = (*a)[0][n:]; (*a)[0] == "" {
		*a = (*a)[1:]
	}
	return n, nil
}

func TestWhatIsToleratedInFramingIsCounted(t *testing.T) {
	for name, c := range map[string]struct {
		pieces []string
		frames int
		want   manners
	}{
		"as it should be":         {[]string{framed("1"), framed("2")}, 2, manners{}},
		"no CR after FS":          {[]string{"\x0b1\x1c", "\x0b2\x1c", framed("3")}, 3, manners{missingCRs: 2}},
		"no CR, two at once":      {[]string{"\x0b1\x1c\x0b2\x1c\r"}, 2, manners{missingCRs: 1}},
		"LF after CR":             {[]string{framed("1") + "\n", framed("2")}, 2, manners{looseEnds: 1}},
		"LF instead of CR":        {[]string{"\x0b1\x1c\n", framed("2")}, 2, manners{missingCRs: 1, looseEnds: 1}},
		"LF instead of CR, late":  {[]string{"\x0b1\x1c", "\n" + framed("2")}, 2, manners{missingCRs: 1, looseEnds: 1}},
		"CR that comes late":      {[]string{"\x0b1\x1c", "\r" + framed("2")}, 2, manners{}},
		"VT twice":                {[]string{"\x0b" + framed("1"), framed("2")}, 2, manners{doubledStart: 1}},
		"a blank line in between": {[]string{framed("1"), "\r\n" + framed("2")}, 2, manners{looseEnds: 2}},
	} {
		var got manners
		r := bufio.NewReader((*arrivals)(&c.pieces))
		frames := 0
		for {
			if _, err := got.readFrame(r, 0, nil); err != nil {
				if err != io.EOF {
					t.Errorf("%s: %v", name, err)
				}
				break
			}
			frames++
		}
		if got.owesCR = false; frames != c.frames || got != c.want {
			t.Errorf("%s: %d frames, %+v; want %d, %+v", name, frames, got, c.frames, c.want)
		}
	}
}

func TestAFeedTellsWhatItTolerated(t *testing.T) {
	f := runFeed(t, Options{}, &record{})
	conn, err := net.Dial("tcp", f.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	p := &peer{conn, bufio.NewReader(conn)}
	for _, wire := range []string{"\x0b" + admit("1") + "\x1c", "\x0b\x0b" + admit("2") + "\x1c\r", "\n" + framed(admit("3"))} {
		if got := p.ask(t, wire); !strings.HasPrefix(got, "AA") {
			t.Errorf("answered %q", got)
		}
	}
	_ = conn.Close()
	if s := f.Stats(); s.MissingCR != 1 || s.DoubledStart != 1 || s.LooseEnds != 1 || s.Frames != 3 {
		t.Errorf("got %+v", s)
	}
}
