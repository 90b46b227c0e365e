package pki_test

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"tombolo/pki"
	"tombolo/pki/pkitest"
)

var now = time.Date(2026, 4, 15, 10, 0, 0, 0, time.UTC)

func clock() time.Time { return now }

// serve answers with the name in the caller's certificate, and checks it at each request as a listener for systems does.
func serve(t *testing.T, f pki.Files, now func() time.Time) (*httptest.Server, *pki.Keyring) {
	t.Helper()
	keys, err := pki.Open(f, nil, now)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := keys.Check(r.TLS); err != nil {
			http.Error(w, err.Error(), http.StatusForbidden)
			return
		}
		_, _ = io.WriteString(w, r.TLS.VerifiedChains[0][0].Subject.CommonName)
	}))
	s.Config.ErrorLog = nil
	s.TLS = keys.Server("http/1.1")
	s.StartTLS()
	t.Cleanup(s.Close)
	return s, keys
}

// client shows a certificate and believes the authority.
func client(t *testing.T, ca *pkitest.Authority, p *pkitest.Pair, change func(*tls.Config)) *http.Client {
	t.Helper()
	c := &tls.Config{RootCAs: x509.NewCertPool(), ServerName: "localhost", Time: clock}
	c.RootCAs.AddCert(ca.Cert)
	if p != nil {
		pair, err := tls.LoadX509KeyPair(p.CertFile, p.KeyFile)
		if err != nil {
			t.Fatal(err)
		}
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
	}
	if change != nil {
		change(c)
	}
	tr := &http.Transport{TLSClientConfig: c}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

func get(c *http.Client, url string) (string, error) {
	resp, err := c.Get(url)
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	return resp.Status[:3] + " " + strings.TrimSpace(string(b)), err
}

func files(ca *pkitest.Authority, server pkitest.Pair) pki.Files {
	return pki.Files{Cert: server.CertFile, Key: server.KeyFile, CA: filepath.Join(ca.Dir, ca.Cert.Subject.CommonName+".pem")}
}

func TestWhoGetsIn(t *testing.T) {
	ca, other := pkitest.New(t, t.TempDir(), "authority", now), pkitest.New(t, t.TempDir(), "authority", now) // of one name, and not one
	s, _ := serve(t, files(ca, ca.Issue("server", nil)), clock)
	good, foreign := ca.Issue("good", nil), other.Issue("foreign", nil)
	old := ca.Issue("old", func(c *x509.Certificate) { c.NotAfter = now.Add(-time.Minute) })
	young := ca.Issue("young", func(c *x509.Certificate) { c.NotBefore = now.Add(time.Hour) })
	forServers := ca.Issue("for-servers", func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} })
	for _, c := range []struct {
		what   string
		pair   *pkitest.Pair
		change func(*tls.Config)
		in     bool
	}{
		{"a good certificate", &good, nil, true},
		{"TLS 1.2", &good, func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }, true},
		{"TLS 1.1", &good, func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 }, false},
		{"a suite without forward secrecy", &good, func(c *tls.Config) {
			c.MaxVersion, c.CipherSuites = tls.VersionTLS12, []uint16{tls.TLS_RSA_WITH_AES_128_GCM_SHA256}
		}, false},
		{"a suite without authenticated encryption", &good, func(c *tls.Config) {
			c.MaxVersion, c.CipherSuites = tls.VersionTLS12, []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA}
		}, false},
		{"no certificate", nil, nil, false},
		{"another authority of the same name", &foreign, nil, false},
		{"expired", &old, nil, false},
		{"not yet", &young, nil, false},
		{"a certificate for servers only", &forServers, nil, false},
	} {
		got, err := get(client(t, ca, c.pair, c.change), s.URL)
		if c.in != (err == nil && got == "200 good") {
			t.Errorf("%s: %q %v", c.what, got, err)
		}
	}
}

// A certificate taken back stops working on connections that are open, and a list that has grown old lets nobody in.
func TestRevocation(t *testing.T) {
	ca := pkitest.New(t, t.TempDir(), "authority", now)
	var at atomic.Pointer[time.Time]
	at.Store(&now)
	f := files(ca, ca.Issue("server", nil))
	a, b := ca.Issue("a", nil), ca.Issue("b", nil)
	f.CRL = ca.Revoke(now)
	s, _ := serve(t, f, func() time.Time { return *at.Load() })
	ca1, cb := client(t, ca, &a, nil), client(t, ca, &b, nil)
	for _, c := range []*http.Client{ca1, cb} {
		if got, err := get(c, s.URL); err != nil || got[:3] != "200" {
			t.Fatal(got, err)
		}
	}
	ca.Revoke(now, a.Cert)
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		got, err := get(ca1, s.URL)
		if err == nil && got == "403 the certificate of a has been revoked" {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("20 s after it was revoked: %q %v", got, err)
		}
	}
	if got, err := get(client(t, ca, &a, nil), s.URL); err == nil {
		t.Errorf("a new connection with a revoked certificate: %q", got)
	}
	if got, err := get(cb, s.URL); err != nil || got != "200 b" {
		t.Errorf("the other's: %q %v", got, err)
	}
	later := now.AddDate(0, 0, 8)
	at.Store(&later)
	if got, err := get(cb, s.URL); err != nil || !strings.HasPrefix(got, "403 the revocation list of authority is out of date") {
		t.Errorf("under an old list: %q %v", got, err)
	}
	if got, err := get(client(t, ca, &b, nil), s.URL); err == nil {
		t.Errorf("a new connection under an old list: %q", got)
	}
	if _, err := pki.Open(pki.Files{CA: f.CA, CRL: f.CA}, nil, nil); err == nil {
		t.Error("certificates pass for a revocation list")
	}
	stranger := pkitest.New(t, t.TempDir(), "stranger", now)
	if _, err := pki.Open(pki.Files{CA: f.CA, CRL: stranger.Revoke(now)}, nil, nil); err == nil || !strings.Contains(err.Error(), "none of the authorities has signed") {
		t.Errorf("a list of nobody's: %v", err)
	}
}

// An open connection ends with its certificate.
func TestExpiryOnAnOpenConnection(t *testing.T) {
	ca := pkitest.New(t, t.TempDir(), "authority", now)
	var at atomic.Pointer[time.Time]
	at.Store(&now)
	s, _ := serve(t, files(ca, ca.Issue("server", nil)), func() time.Time { return *at.Load() })
	p := ca.Issue("short", func(c *x509.Certificate) { c.NotAfter = now.Add(time.Hour) })
	c := client(t, ca, &p, nil)
	if got, err := get(c, s.URL); err != nil || got != "200 short" {
		t.Fatal(got, err)
	}
	later := now.Add(2 * time.Hour)
	at.Store(&later)
	if got, err := get(c, s.URL); err != nil || got != "403 the certificate of short is out of date" {
		t.Errorf("%q %v", got, err)
	}
}

// A certificate is renewed without a restart; one that cannot be read changes nothing.
func TestRenewalWithoutARestart(t *testing.T) {
	ca := pkitest.New(t, t.TempDir(), "authority", now)
	server, p := ca.Issue("server", nil), ca.Issue("me", nil)
	s, keys := serve(t, files(ca, server), clock)
	shown := func() string {
		c := client(t, ca, &p, nil)
		resp, err := c.Get(s.URL)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		return resp.TLS.PeerCertificates[0].SerialNumber.String()
	}
	first := shown()
	if err := os.WriteFile(server.CertFile, []byte("half a cert"), 0o600); err != nil {
		t.Fatal(err)
	}
	time.Sleep(pki.LookAgain + 50*time.Millisecond)
	if got := shown(); got != first {
		t.Errorf("with a broken file on disk %s is shown, want %s", got, first)
	}
	second := ca.Issue("server", nil)
	for deadline := time.Now().Add(20 * time.Second); shown() != second.Cert.SerialNumber.String(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("20 s later the old certificate is still shown")
		}
	}
	c, err := keys.Client("localhost") // the same ring asks as well
	if err != nil {
		t.Fatal(err)
	}
	tr := &http.Transport{TLSClientConfig: c}
	defer tr.CloseIdleConnections()
	if got, err := get(&http.Client{Transport: tr}, s.URL); err != nil || got != "200 server" {
		t.Errorf("asking: %q %v", got, err)
	}
}

func TestNames(t *testing.T) {
	ca := pkitest.New(t, t.TempDir(), "authority", now)
	c := ca.Issue("epr", func(c *x509.Certificate) {
		c.DNSNames, c.URIs = []string{"epr.rx1.example"}, []*url.URL{{Scheme: "urn", Opaque: "nhs:asid:200000000115"}}
	}).Cert
	key := sha256.Sum256(c.RawSubjectPublicKeyInfo)
	colons := strings.ToUpper(hex.EncodeToString(key[:2])) + hex.EncodeToString(key[2:])
	for text, want := range map[string]bool{
		"epr": true, "EPR.rx1.example": true, "urn:nhs:asid:200000000115": true, pki.Fingerprint(c): true, "spki:" + colons: true,
		"": false, "rx1.example": false, "epr.rx1": false, "sha256:": false, "spki:00": false, strings.Replace(pki.Fingerprint(c), "sha256", "spki", 1): false,
	} {
		if pki.Names(c, text) != want {
			t.Errorf("%q: %v", text, !want)
		}
	}
}
