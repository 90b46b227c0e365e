package connector_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"tombolo/connector"
	"tombolo/fhir"
	"tombolo/pki"
	"tombolo/pki/pkitest"
)

// That a certificate was not accepted is told apart from a network that is broken, with which and where that is mended, and without where the source is.
func TestAWrongCertificateIsToldApartFromABrokenNetwork(t *testing.T) {
	now, dir := time.Now(), t.TempDir()
	ca := pkitest.New(t, dir, "authority", now)
	right, mine := ca.Issue("right", nil), ca.Issue("mine", nil)
	expired := ca.Issue("expired", func(c *x509.Certificate) { c.NotAfter = now.Add(-time.Hour) })
	another := ca.Issue("another", func(c *x509.Certificate) { c.DNSNames, c.IPAddresses = []string{"another.example"}, nil })
	gone := ca.Issue("gone", nil)
	crl := ca.Revoke(now, gone.Cert)
	stranger := pkitest.New(t, t.TempDir(), "authority", now).Issue("stranger", nil)

	serve := func(own pkitest.Pair, wants bool) string {
		cert, err := tls.LoadX509KeyPair(own.CertFile, own.KeyFile)
		if err != nil {
			t.Fatal(err)
		}
		s := httptest.NewUnstartedServer(http.NotFoundHandler())
		s.Config.ErrorLog = log.New(io.Discard, "", 0)
		s.TLS = &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
		if wants {
			pool := x509.NewCertPool()
			pool.AddCert(ca.Cert)
			s.TLS.ClientAuth, s.TLS.ClientCAs = tls.RequireAndVerifyClientCert, pool
		}
		s.StartTLS()
		t.Cleanup(s.Close)
		return s.URL
	}
	plain := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(plain.Close)
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := "https://" + closed.Addr().String()
	_ = closed.Close()

	ask := func(url string, files pki.Files) error {
		files.CA = dir + "/authority.pem"
		keys, err := pki.Open(files, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		config, err := keys.Client("127.0.0.1")
		if err != nil {
			t.Fatal(err)
		}
		req, err := http.NewRequestWithContext(t.Context(), "GET", url+"/9990000107", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := (&http.Client{Transport: &http.Transport{TLSClientConfig: config}}).Do(req)
		if err == nil {
			_ = resp.Body.Close()
		}
		return err
	}
	if err := ask(serve(right, false), pki.Files{}); err != nil {
		t.Fatalf("the right one: %v", err)
	}
	if err := ask(serve(right, true), pki.Files{Cert: mine.CertFile, Key: mine.KeyFile}); err != nil {
		t.Fatalf("the right one, which wants ours: %v", err)
	}
	for _, c := range []struct {
		what, url, says string
		files           pki.Files
		certificate     bool
	}{
		{"out of date", serve(expired, false), "out of date", pki.Files{}, true},
		{"of an authority that is not trusted", serve(stranger, false), "tls.ca", pki.Files{}, true},
		{"of another name", serve(another, false), "another name", pki.Files{}, true},
		{"taken back", serve(gone, false), "tls.crl", pki.Files{CRL: crl}, true},
		{"ours is wanted and not shown", serve(right, true), "tls.certificate", pki.Files{}, true},
		{"no TLS there", strings.Replace(plain.URL, "http:", "https:", 1), "does not speak TLS", pki.Files{}, false},
		{"nobody there", nobody, "could not be reached", pki.Files{}, false},
	} {
		t.Run(c.what, func(t *testing.T) {
			i := connector.Unreached(t.Context(), "the source", ask(c.url, c.files))
			if i.Type != fhir.Transient || errors.Is(i, connector.ErrUnsafe) != c.certificate || !strings.Contains(i.Text, c.says) {
				t.Errorf("%+v", i)
			}
			for _, leak := range []string{"127.0.0.1", "9990000107", "another.example", "gone"} {
				if strings.Contains(i.Text, leak) {
					t.Errorf("%q tells %q", i.Text, leak)
				}
			}
		})
	}

	late, cancel := context.WithTimeout(t.Context(), -1)
	defer cancel()
	withdrawn, withdraw := context.WithCancel(t.Context())
	withdraw()
	for _, c := range []struct {
		ctx  context.Context
		err  error
		typ  fhir.IssueType
		says string
	}{
		{late, context.DeadlineExceeded, fhir.Timeout, "in time"},
		{withdrawn, context.Canceled, fhir.Transient, "withdrawn"},
		{t.Context(), io.ErrUnexpectedEOF, fhir.Transient, "broke off"},
		{t.Context(), fhir.Errorf(fhir.Login, "the token was refused"), fhir.Transient, "could not be reached"},
	} {
		if i := connector.Unreached(c.ctx, "the source", c.err); i.Type != c.typ || !strings.Contains(i.Text, c.says) || errors.Is(i, connector.ErrUnsafe) {
			t.Errorf("%v: %+v", c.err, i)
		}
	}
}
