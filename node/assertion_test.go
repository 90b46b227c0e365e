package node_test

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"tombolo/access"
	"tombolo/access/token"
	"tombolo/access/token/tokentest"
	"tombolo/dataset"
	"tombolo/fhir"
	"tombolo/gather"
	"tombolo/node"
	"tombolo/pki/pkitest"
	"tombolo/sim/federation"
)

// A neighbour that is no Tombolo, and understands a signed statement about who is asking, is sent one with each request, in the way that the region file names, and
// decides by it: about this user, in this role, for this purpose. Whom it refuses is refused here, by name and without anything being called complete.
func TestANeighbourThatIsNoTombolosDecidesByTheUsersStatement(t *testing.T) {
	ann := federation.Person{Numbers: []fhir.Identifier{{System: fhir.SystemNHSNumber, Value: "9990000107"}}, Family: "Taylor", Born: "1948-03-12"}
	ways := map[string]string{"bearer": `{as: bearer}`, "header": `{as: header, header: X-User-Assertion, audience: "urn:vendor"}`, "exchange": `{as: exchange, token: "%s/token", scope: "user/*.rs", audience: "urn:vendor"}`}
	for way, says := range ways {
		t.Run(way, func(t *testing.T) {
			vendor := &federation.Asserted{Next: federation.Source(ann, 2), Issuer: "https://a.example", Audience: "urn:vendor", Roles: []string{"hospital-doctor"}}
			srv := httptest.NewServer(vendor)
			t.Cleanup(srv.Close)
			credential := ""
			switch way {
			case "bearer":
				vendor.Audience = srv.URL + "/vendor"
			case "header":
				vendor.Header, credential = "X-User-Assertion", "token: VENDOR, "
			case "exchange":
				vendor.Exchanges, vendor.Scope, says = true, "user/*.rs", fmt.Sprintf(says, srv.URL)
			}
			a := run(t, node.Config{Data: t.TempDir(), Listen: "127.0.0.1:0", Secret: func(string) string { return "ours" }, Region: regionOf(t, `
region: {id: a, name: Region a}
identity: {issuer: "https://a.example"}
organisations: [{ods: RA1, name: Trust a, kind: acute}, {ods: QSV, name: A Vendor, kind: other}]
systems: [{id: pas-a, organisation: RA1, connector: api, gives: {demographics: push, problems: push, allergies: push}, release: all}]
neighbours:
  - {id: vendor, name: A Vendor, kind: fhir, address: "%s/vendor", organisation: QSV, gives: [problems, allergies], numbers: [nhs], deadline: 20s, %sassertion: %s}
agreements: [{id: care, parties: [RA1, QSV], purposes: [direct-care], headings: all, from: 2020-04-01}]
users: [{id: doctor, name: A Doctor, role: hospital-doctor, organisation: RA1}, {id: nurse, name: A Nurse, role: nurse, organisation: RA1}]
`, srv.URL, credential, says)})
			vendor.Set(func(v *federation.Asserted) {
				v.Keys = &token.Set{Place: "http://" + a.Addr() + "/oauth/keys", Now: time.Now}
			})
			said(t, a, "a")
			open := func(user string) (*gather.Record, gather.Lane) {
				s, err := a.Access.As(user)
				if err != nil {
					t.Fatal(err)
				}
				rec, err := a.Gather.Record(t.Context(), s, personOf(t, a, "9990000107"), gather.Ask{Headings: []dataset.Heading{dataset.Problems}})
				if err != nil {
					t.Fatal(err)
				}
				return rec, rec.Lanes[slices.IndexFunc(rec.Lanes, func(l gather.Lane) bool { return l.Source == "vendor" })]
			}
			rec, l := open("doctor")
			if l.State != gather.Answered || len(rec.Section(dataset.Problems).Entries) != 3 {
				t.Errorf("a doctor: the lane is %s (%v), %d problems; the vendor said %q", l.State, l.Issue, len(rec.Section(dataset.Problems).Entries), vendor.Said)
			}
			vendor.Set(func(v *federation.Asserted) {
				if len(v.Heard) == 0 || slices.ContainsFunc(v.Heard, func(who string) bool { return who != "doctor hospital-doctor TREAT" }) {
					t.Errorf("it heard that %q asked", v.Heard)
				}
				if way == "exchange" && len(v.Heard) != 1 {
					t.Errorf("%d statements were exchanged for one question", len(v.Heard))
				}
				v.Heard = nil
			})
			rec, l = open("nurse")
			if l.State == gather.Answered || l.Issue == nil || l.Headings[dataset.Problems] != dataset.NotShared || len(rec.Section(dataset.Problems).Entries) != 1 || rec.Complete(dataset.Problems) {
				t.Errorf("a nurse, to whom it gives nothing: the lane is %s (%v), %v, %d problems", l.State, l.Issue, l.Headings, len(rec.Section(dataset.Problems).Entries))
			}
			vendor.Set(func(v *federation.Asserted) {
				if len(v.Heard) == 0 || !strings.HasPrefix(v.Heard[0], "nurse nurse ") {
					t.Errorf("it heard that %q asked", v.Heard)
				}
				v.Issuer = "https://another.example" // it believes somebody else
			})
			if _, err := a.Gather.DropEarlier(t.Context()); err != nil {
				t.Fatal(err)
			}
			if way != "exchange" { // which holds for a while
				if rec, l = open("doctor"); l.State == gather.Answered || l.Headings[dataset.Problems] == dataset.Present || l.Headings[dataset.Problems] == dataset.NoneRecorded || rec.Complete(dataset.Problems) {
					t.Errorf("where the statement is not believed the lane is %s (%v), %v", l.State, l.Issue, l.Headings)
				}
			}
		})
	}
}

// A server of documents (MHD) and one of patient summaries (IPS) are told who asks as a FHIR server is, with each request.
func TestServersOfDocumentsAndSummariesAreToldWhoAsks(t *testing.T) {
	for _, kind := range []string{"mhd", "ips"} {
		for way, says := range map[string]string{"bearer": `{as: bearer, audience: "urn:vendor"}`, "header": `{as: header, header: X-User-Assertion, audience: "urn:vendor"}`} {
			t.Run(kind+" "+way, func(t *testing.T) {
				asked := make(chan string, 100)
				vendor := &federation.Asserted{Issuer: "https://a.example", Audience: "urn:vendor", Roles: []string{"hospital-doctor"}, Next: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					asked <- r.URL.Path
					w.Header().Set("Content-Type", "application/fhir+json")
					_, _ = io.WriteString(w, `{"resourceType":"Bundle","type":"searchset","total":0}`)
				})}
				if way == "header" {
					vendor.Header = "X-User-Assertion"
				}
				srv := httptest.NewServer(vendor)
				t.Cleanup(srv.Close)
				a := run(t, node.Config{Data: t.TempDir(), Listen: "127.0.0.1:0", Region: regionOf(t, `
region: {id: a, name: Region a}
identity: {issuer: "https://a.example"}
organisations: [{ods: RA1, name: Trust a, kind: acute}, {ods: QSV, name: A Vendor, kind: other}]
systems: [{id: pas-a, organisation: RA1, connector: api, gives: {demographics: push, problems: push, allergies: push}, release: all}]
neighbours: [{id: vendor, name: A Vendor, kind: %s, address: "%s/vendor", organisation: QSV, numbers: [nhs], deadline: 20s, assertion: %s}]
agreements: [{id: care, parties: [RA1, QSV], purposes: [direct-care], headings: all, from: 2020-04-01}]
users: [{id: doctor, name: A Doctor, role: hospital-doctor, organisation: RA1}, {id: nurse, name: A Nurse, role: nurse, organisation: RA1}]
`, kind, srv.URL, says)})
				vendor.Set(func(v *federation.Asserted) {
					v.Keys = &token.Set{Place: "http://" + a.Addr() + "/oauth/keys", Now: time.Now}
				})
				said(t, a, "a")
				for user, let := range map[string]bool{"doctor": true, "nurse": false} {
					s, err := a.Access.As(user)
					if err != nil {
						t.Fatal(err)
					}
					if _, err := a.Gather.Record(t.Context(), s, personOf(t, a, "9990000107"), gather.Ask{}); err != nil {
						t.Fatal(err)
					}
					vendor.Set(func(v *federation.Asserted) {
						if len(v.Heard) == 0 || slices.ContainsFunc(v.Heard, func(who string) bool { return !strings.HasPrefix(who, user+" ") }) {
							t.Errorf("while %s asked it heard that %q did; it said %q", user, v.Heard, v.Said)
						}
						v.Heard = nil
					})
					if n := len(asked); n > 0 != let {
						t.Errorf("%d requests of %s were let in, want some: %v", n, user, let)
					}
					for len(asked) > 0 {
						<-asked
					}
				}
			})
		}
	}
}

// A neighbour's keys that are at the same host as its record are read with the certificates with which it is itself asked, and not believed from anybody else: an authority that the machine does not know, and a server
// that answers nobody without a certificate.
func TestANeighboursKeysAreReadWithItsCertificates(t *testing.T) {
	now, dir := time.Now(), t.TempDir()
	ca := pkitest.New(t, dir, "authority", now)
	ca.Issue("b.example", nil)
	pkitest.New(t, dir, "elsewhere", now)
	server := ca.Issue("keys.example", nil)
	key := tokentest.NewKey(t, "a-1")
	keys := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write(fhir.JSON(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{key.Public()}}))
	}))
	pair, err := tls.LoadX509KeyPair(server.CertFile, server.KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	clients := x509.NewCertPool()
	clients.AddCert(ca.Cert)
	keys.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, ClientCAs: clients, ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS12}
	keys.Config.ErrorLog = log.New(io.Discard, "", 0)
	keys.StartTLS()
	t.Cleanup(keys.Close)
	at := filepath.Join(dir, "b.example")
	own := fmt.Sprintf("certificate: %q, key: %q, ", at+".pem", at+".key")
	for what, c := range map[string]struct {
		tls, at string
		want    int
	}{
		"its certificates":                           {fmt.Sprintf("tls: {%sca: %q}, ", own, filepath.Join(dir, "authority.pem")), keys.URL, http.StatusOK},
		"its certificates, and its record elsewhere": {fmt.Sprintf("tls: {%sca: %q}, ", own, filepath.Join(dir, "authority.pem")), "https://a.example", http.StatusUnauthorized},
		"none":                   {"", keys.URL, http.StatusUnauthorized},
		"no certificate of ours": {fmt.Sprintf("tls: {ca: %q}, ", filepath.Join(dir, "authority.pem")), keys.URL, http.StatusUnauthorized},
		"another's as authority": {fmt.Sprintf("tls: {%sca: %q}, ", own, filepath.Join(dir, "elsewhere.pem")), keys.URL, http.StatusUnauthorized},
	} {
		t.Run(what, func(t *testing.T) {
			b := run(t, node.Config{Data: t.TempDir(), Listen: "127.0.0.1:0", Region: regionOf(t, `
region: {id: b, name: Region b}
identity: {issuer: "https://b.example"}
organisations: [{ods: RB1, name: Trust b, kind: acute}, {ods: QSV, name: A Board, kind: other}]
systems: [{id: pas-b, organisation: RB1, connector: api, gives: {demographics: push, problems: push, allergies: push}, release: all}]
neighbours: [{id: a, name: Region a, kind: tombolo, address: "%s", issuer: "https://a.example", keys: "%s", organisation: QSV, %sonly-asks: true}]
agreements: [{id: care, parties: [RB1, QSV], purposes: [direct-care], headings: all, from: 2020-04-01}]
`, c.at, keys.URL, c.tls)})
			said(t, b, "b")
			statement := tokentest.Genuine{Key: key, Type: access.AssertionType, Now: time.Now(), Claims: map[string]any{"iss": "https://a.example", "aud": "https://b.example", "sub": "doctor", "jti": access.Secret(), "iat": time.Now().Unix(), "exp": time.Now().Add(time.Minute).Unix(),
				"extensions": map[string]any{"ihe_iua": map[string]any{"subject_name": "A Doctor", "subject_role": "hospital-doctor", "subject_organization": "Trust a", "subject_organization_id": "RA1", "purpose_of_use": "TREAT", "home_community_id": "a"}}}}
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+b.Addr()+"/fhir/$gather", strings.NewReader(`{"resourceType":"Parameters","parameter":[{"name":"identifier","valueIdentifier":{"system":"https://fhir.nhs.uk/Id/nhs-number","value":"9990000107"}},{"name":"purpose","valueCode":"TREAT"}]}`))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Content-Type", "application/fhir+json")
			req.Header.Set("Authorization", "Bearer "+statement.Sign(t))
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close()
			if resp.StatusCode != c.want {
				t.Errorf("answered %d, want %d", resp.StatusCode, c.want)
			}
		})
	}
}
