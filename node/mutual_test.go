package node_test

import (
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"tombolo/dataset"
	"tombolo/gather"
	"tombolo/node"
	"tombolo/pki"
	"tombolo/pki/pkitest"
)

// wanted is a region that answers its neighbour by its certificate and its user's signed statement, both.
const wanted = `
region: {id: b, name: Region b}
identity: {issuer: "https://b.example"}
organisations: [{ods: RB1, name: Trust b, kind: acute}, {ods: QSV, name: A Board, kind: other}, {ods: QSW, name: Another Board, kind: other}]
systems:
  - {id: pas-b, organisation: RB1, connector: api, gives: {demographics: push, problems: push, allergies: push}, release: all}
  - {id: epr, organisation: RB1, connector: consumer, certificate: epr.example, role: hospital-doctor}
neighbours:
  - {id: a, name: Region a, kind: tombolo, address: "%[1]s", tls: {ca: "%[3]s"}, issuer: "https://a.example", keys: "%[1]s/oauth/keys", organisation: QSV, certificate: a.example, only-asks: true}
  - {id: c, name: Region c, kind: tombolo, address: "https://c.example", issuer: "https://c.example", keys: "%[1]s/oauth/keys", organisation: QSW, certificate: c.example, only-asks: true}
agreements: [{id: care, parties: [RB1, QSV], purposes: [direct-care], headings: all, from: 2020-04-01}]
users:
  - {id: others, name: Another region, role: neighbour, organisation: QSV, token_sha256: "%[2]s"}
`

// A showing is how one region asks another: with which files, at which address, as whom.
type showing struct {
	own, ca, crl string // certificate without .pem; files
	at           string
	more         string // how it says who asks
}

// asksBy starts a region that has a neighbour by one way of asking it.
func asksBy(t *testing.T, data, id string, w showing) *node.Node {
	t.Helper()
	own := ""
	if w.own != "" {
		own = fmt.Sprintf("certificate: %q, key: %q, ", w.own+".pem", w.own+".key")
	}
	if w.crl != "" {
		own += fmt.Sprintf("crl: %q, ", w.crl)
	}
	return run(t, node.Config{Data: data, Listen: "127.0.0.1:0", Secret: func(string) string { return "others" }, Region: regionOf(t, `
region: {id: a, name: Region a}
identity: {issuer: "https://a.example"}
organisations: [{ods: RA1, name: Trust a, kind: acute}]
systems: [{id: pas-a, organisation: RA1, connector: api, gives: {demographics: push, problems: push, allergies: push}, release: all}]
neighbours:
  - {id: %s, name: Region b, kind: tombolo, address: %q, deadline: 20s, tls: {%sca: %q}, %s}
users: [{id: doctor, name: A Doctor, role: hospital-doctor, organisation: RA1}]
`, id, w.at, own, w.ca, w.more)})
}

// Two regions, each proving itself to the other by its certificate, and the user by what their own region signs of them. Whatever of it is missing or another's,
// nothing is given, the neighbour is named as not heard, and what it holds is never taken for nothing.
func TestANeighbourIsAskedOverMutualTLS(t *testing.T) {
	now, dir := time.Now(), t.TempDir()
	ca := pkitest.New(t, dir, "authority", now)
	ca.Issue("a.example", nil)
	ca.Issue("c.example", nil)
	ca.Issue("epr.example", nil)
	ca.Issue("stranger.example", nil)
	named := func(name string, change func(*x509.Certificate)) func(*x509.Certificate) {
		return func(c *x509.Certificate) {
			c.Subject.CommonName, c.DNSNames = name, []string{name}
			if change != nil {
				change(c)
			}
		}
	}
	ca.Issue("expired", named("a.example", func(c *x509.Certificate) { c.NotAfter = now.Add(-time.Hour) }))
	revoked := ca.Issue("revoked", named("a.example", nil))
	server := ca.Issue("b.example", func(c *x509.Certificate) { c.DNSNames = []string{"b.example"} })
	crl := ca.Revoke(now, revoked.Cert)
	elsewhere := pkitest.New(t, t.TempDir(), "authority", now) // of the same name, so that its certificates are shown
	forged := elsewhere.Issue("a.example", nil)
	serverGone := *ca
	serverGone.Dir = t.TempDir()
	takenBack := serverGone.Revoke(now, server.Cert)

	authority := filepath.Join(dir, "authority.pem")
	keys := newSecureWire(t, ca.Issue("keys.example", nil)) // whose certificate none but this authority vouches for, as for all else of region a
	b := run(t, node.Config{Data: t.TempDir(), Listen: "127.0.0.1:0", Systems: "127.0.0.1:0", Region: regionOf(t, wanted, keys.URL, tokenHash("others"), authority),
		TLS: pki.Files{Cert: server.CertFile, Key: server.KeyFile, CA: authority, CRL: crl}})
	said(t, b, "b")

	_, port, _ := strings.Cut(b.SystemsAddr(), ":")
	at, pages, signed := "https://"+b.SystemsAddr(), "https://"+b.Addr(), `issuer: "https://b.example"`
	own := filepath.Join(dir, "a.example")
	data := t.TempDir() // one region throughout, and so one key with which it signs
	ask := func(t *testing.T, id string, w showing) (*gather.Record, []string) {
		a := asksBy(t, data, id, w)
		keys.mu.Lock()
		keys.to = "http://" + a.Addr()
		keys.mu.Unlock()
		said(t, a, "a")
		s, err := a.Access.As("doctor")
		if err != nil {
			t.Fatal(err)
		}
		rec, err := a.Gather.Record(t.Context(), s, personOf(t, a, "9990000107"), gather.Ask{})
		if err != nil {
			t.Fatal(err)
		}
		var shown []string
		for _, e := range rec.Section(dataset.Problems).Entries {
			shown = append(shown, e.Lead.Text("code.text"))
		}
		slices.Sort(shown)
		return rec, shown
	}
	right := func(t *testing.T) {
		rec, shown := ask(t, "right", showing{own, authority, "", at, signed})
		if !slices.Equal(shown, []string{"said by a", "said by b"}) || !rec.Complete(dataset.Problems) {
			t.Errorf("shown are %v of %+v", shown, rec.Lanes)
		}
		eventually(t, "its audit head kept, with the same certificates", func() bool {
			_, err := os.Stat(filepath.Join(data, "witness", "right.heads"))
			return err == nil
		})
	}
	t.Run("right", right)
	if got, _ := lookedAndRefused(t, b); !slices.Equal(got, []string{"a/doctor"}) {
		t.Fatalf("the asked region's log says that %v looked", got)
	}
	for _, c := range []struct {
		id  string
		w   showing
		why string // in the log of who was asked; "": not even a request came of it
	}{
		{"no-certificate", showing{"", authority, "", at, signed}, ""},
		{"another-authority", showing{strings.TrimSuffix(forged.CertFile, ".pem"), authority, "", at, signed}, ""},
		{"expired", showing{filepath.Join(dir, "expired"), authority, "", at, signed}, ""},
		{"revoked", showing{filepath.Join(dir, "revoked"), authority, "", at, signed}, ""},
		{"a-systems", showing{filepath.Join(dir, "epr.example"), authority, "", at, signed}, "a certificate that is not this neighbour's"},
		{"another-neighbours", showing{filepath.Join(dir, "c.example"), authority, "", at, signed}, "a certificate that is not this neighbour's"},
		{"nobodys", showing{filepath.Join(dir, "stranger.example"), authority, "", at, signed}, "not one of the systems"},
		{"token-for-statement", showing{own, authority, "", at, "token: T"}, "a token that it has not signed"},
		{"token-alone", showing{"", authority, "", at, "token: T"}, ""},
		{"statement-alone", showing{"", authority, "", pages, signed}, "without the certificate of this neighbour"},
		{"for-another", showing{own, authority, "", at, `issuer: "https://c.example"`}, "an assertion was refused"},
		{"server-of-another", showing{own, filepath.Join(elsewhere.Dir, "authority.pem"), "", at, signed}, ""},
		{"server-of-no-name", showing{own, authority, "", "https://localhost:" + port, signed}, ""},
		{"server-revoked", showing{own, authority, takenBack, at, signed}, ""},
	} {
		t.Run(c.id, func(t *testing.T) {
			_, before := lookedAndRefused(t, b)
			rec, shown := ask(t, c.id, c.w)
			if !slices.Equal(shown, []string{"said by a"}) || rec.Complete(dataset.Problems) || rec.Complete(dataset.Allergies) {
				t.Errorf("shown are %v; called complete: %v", shown, rec.Complete(dataset.Problems))
			}
			i := slices.IndexFunc(rec.Lanes, func(l gather.Lane) bool { return l.Source == c.id })
			if i < 0 || rec.Lanes[i].Issue == nil {
				t.Fatalf("it is not named as what was not heard: %+v", rec.Lanes)
			}
			looked, refused := lookedAndRefused(t, b)
			if len(looked) != 1 {
				t.Errorf("something was given: %v", looked)
			}
			why := strings.Join(refused[len(before):], "; ")
			if c.why == "" && why != "" || !strings.Contains(why, c.why) {
				t.Errorf("the asked region's log says %q; want %q", why, c.why)
			}
			if want := map[bool]gather.LaneState{true: gather.Failed, false: gather.Refused}[c.why == ""]; rec.Lanes[i].State != want {
				t.Errorf("the lane is %s; want %s", rec.Lanes[i].State, want)
			}
			if said := rec.Lanes[i].Issue.Text; strings.Contains(said, "a certificate was not accepted") != (c.why == "") {
				t.Errorf("a clinician is told %q", said)
			}
		})
	}
	before, _ := lookedAndRefused(t, b)
	t.Run("right again", right) // none of this was for another reason
	if after, _ := lookedAndRefused(t, b); len(after) != len(before)+1 {
		t.Errorf("looked: %v", after)
	}
}

// lookedAndRefused are the users to whom a region's log says that it showed something, and why it refused others.
func lookedAndRefused(t *testing.T, n *node.Node) (users, refused []string) {
	t.Helper()
	for e, err := range n.Audit.All(t.Context(), 0, 0) {
		if err != nil {
			t.Fatal(err)
		}
		s, err := e.Summary()
		if err != nil {
			t.Fatal(err)
		}
		if s.Shows() {
			users = append(users, s.User)
		} else if s.Kind == "denied" {
			refused = append(refused, strings.Join(s.What, "; "))
		}
	}
	return users, refused
}
