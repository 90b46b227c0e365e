package node_test

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"tombolo/audit"
	"tombolo/node"
	"tombolo/pki/pkitest"
	"tombolo/region"
)

// What is in the audit log reaches the repository that the region file names: by FHIR and by syslog, over TLS with its own authority, and with
// this node's certificate.
func TestTheAuditLogReachesItsRepository(t *testing.T) {
	got := make(chan string, 64)
	web := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		got <- r.Header.Get("Authorization") + " " + string(b)
		w.WriteHeader(http.StatusCreated)
	}))
	dir := t.TempDir()
	ca := pkitest.New(t, dir, "ca", time.Now())
	repository := ca.Issue("repository", nil)
	ca.Issue("node", nil)
	known := x509.NewCertPool()
	known.AddCert(ca.Cert)
	pair, err := tls.LoadX509KeyPair(repository.CertFile, repository.KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	mutual := &tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: known, MinVersion: tls.VersionTLS12}
	web.TLS = mutual
	web.StartTLS()
	t.Cleanup(web.Close)
	syslog, err := tls.Listen("tcp", "127.0.0.1:0", mutual)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			c, err := syslog.Accept()
			if err != nil {
				return
			}
			b, _ := io.ReadAll(bufio.NewReader(c))
			_ = c.Close()
			got <- string(b)
		}
	}()
	t.Cleanup(func() { _ = syslog.Close() })

	for name, to := range map[string]struct {
		feed, token string
		want        []string
	}{
		"FHIR":   {web.URL + "/fhir", "AUDIT", []string{"Bearer secret {", `"resourceType":"AuditEvent"`, "Dr Hale looked"}},
		"syslog": {region.SyslogTLS + syslog.Addr().String(), "", []string{"<85>1 ", "IHE+RFC-3881", "<AuditMessage>", "Dr Hale looked"}},
	} {
		t.Run(name, func(t *testing.T) {
			c := config(t, t.TempDir())
			c.Listen, c.Dev, c.Folder = "127.0.0.1:0", "dev", dir
			c.Secret = func(string) string { return "secret" }
			c.Region.Audit = region.Audit{Feed: to.feed, Token: to.token, TLS: region.TLS{Certificate: "node.pem", Key: "node.key", CA: "ca.pem"}}
			seen := make(chan string, 8)
			was := node.Watched
			node.Watched = func(c node.Config) node.Watch { return overSyslog{was(c), seen} }
			n, err := node.New(t.Context(), c)
			node.Watched = was
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = n.Close() }()
			if _, err := n.Audit.Append(t.Context(), audit.Event{Kind: audit.Read, Agent: audit.Agent{User: "hale", Name: "Dr Hale looked"}}); err != nil {
				t.Fatal(err)
			}
			n.Start(t.Context())
			select {
			case m := <-got:
				for _, want := range to.want {
					if !strings.Contains(m, want) {
						t.Errorf("%q is not in %s", want, m)
					}
				}
				if name == "syslog" && !strings.Contains(m, <-seen) {
					t.Error("the lookout saw something else than was sent")
				}
			case <-time.After(30 * time.Second):
				t.Error("nothing arrived")
			}
		})
	}
}

// overSyslog gives what the lookout sees of what is sent by syslog.
type overSyslog struct {
	node.Watch
	seen chan<- string
}

func (o overSyslog) Audited(message []byte) {
	o.Watch.Audited(message)
	o.seen <- string(message)
}
