package node_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"tombolo/connector/gpconnect"
	"tombolo/fhir"
	"tombolo/node"
	"tombolo/pki"
	"tombolo/pki/pkitest"
	"tombolo/region"
	"tombolo/sim/cast"
	"tombolo/sim/practice"
)

// east offers its record as GP Connect; its practice is asked live.
const east = `
region: {id: east, name: East Shared Care Record}
organisations:
  - {ods: RX1, name: East Acute Trust, kind: acute}
  - {ods: RYA, name: East Ambulance, kind: ambulance}
  - {ods: M85001, name: Hilltop Surgery, kind: gp}
gpconnect: {organisation: RX1, asid: "200000000116"}
systems:
  - {id: m85001-gp, organisation: M85001, connector: gpconnect, asid: "999000000101", address: "%s", gives: {demographics: live, allergies: live, problems: live, medications: live}, deadline: 20s}
  - {id: epr, organisation: RX1, connector: consumer, certificate: epr.rx1.example, role: hospital-doctor, asid: "200000000115", issuer: "https://epr.rx1.example"}
  - {id: cad, organisation: RYA, connector: consumer, certificate: cad.rya.example, role: paramedic}
  - {id: desk, organisation: RX1, connector: consumer, certificate: desk.rx1.example, role: receptionist}
  - {id: west, organisation: RX1, connector: consumer, certificate: west.example, role: hospital-doctor, asks_for: [RYA]}
  - {id: twice-a, organisation: RX1, connector: consumer, certificate: twice, role: nurse}
  - {id: twice-b, organisation: RX1, connector: consumer, certificate: twice.example, role: nurse}
agreements:
  - {id: east-direct-care, parties: [RX1, RYA, M85001], purposes: [direct-care], headings: all, from: 2020-04-01}
users:
  - {id: dev, name: A Developer, role: gp, organisation: M85001}
`

// A door is a running node's listener for systems, with the authority that it believes.
type door struct {
	n    *node.Node
	ca   *pkitest.Authority
	root string
	crl  string
}

func regionOf(t *testing.T, text string, args ...any) *region.Region {
	t.Helper()
	r, problems := region.Parse("region.yaml", fmt.Appendf(nil, text, args...))
	for _, p := range problems {
		if p.Severity == region.Error {
			t.Fatal(p)
		}
	}
	return r
}

func run(t *testing.T, c node.Config) *node.Node {
	t.Helper()
	n, err := node.New(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done; _ = n.Close() })
	return n
}

func eastDoor(t *testing.T) *door {
	t.Helper()
	now := time.Now()
	gp := httptest.NewServer(practice.New(practice.Options{Source: cast.GP1, People: cast.Dozen(now)}))
	t.Cleanup(gp.Close)
	d := &door{ca: pkitest.New(t, t.TempDir(), "authority", now)}
	server := d.ca.Issue("east.example", nil)
	d.crl = d.ca.Revoke(now)
	d.n = run(t, node.Config{Region: regionOf(t, east, gp.URL), Data: t.TempDir(), Listen: "127.0.0.1:0", Systems: "127.0.0.1:0",
		TLS: pki.Files{Cert: server.CertFile, Key: server.KeyFile, CA: filepath.Join(d.ca.Dir, "authority.pem"), CRL: d.crl}})
	d.root = "https://" + d.n.SystemsAddr() + "/RX1/STU3/1/gpconnect/structured/fhir"
	return d
}

// client shows a certificate; none if it has no name.
func (d *door) client(t *testing.T, p pkitest.Pair) *http.Client {
	t.Helper()
	c := &tls.Config{RootCAs: x509.NewCertPool()}
	c.RootCAs.AddCert(d.ca.Cert)
	if p.Cert != nil {
		pair, err := tls.LoadX509KeyPair(p.CertFile, p.KeyFile)
		if err != nil {
			t.Fatal(err)
		}
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
	}
	tr := &http.Transport{TLSClientConfig: c}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

// A gpcRequest is a structured record request as a consumer puts it, of which tests change parts.
type gpcRequest struct {
	nhs      string
	org, iss string
	from, to string
	claims   map[string]any // replaces
	headers  map[string]string
	body     string
}

func (q gpcRequest) send(t *testing.T, c *http.Client, root string) (int, string, error) {
	t.Helper()
	now := time.Now().Unix()
	or := func(s, d string) string {
		if s == "" {
			return d
		}
		return s
	}
	claims := map[string]any{"iss": or(q.iss, "https://epr.rx1.example"), "sub": "u-17", "aud": root, "iat": now, "exp": now + 300, "reason_for_request": "directcare",
		"requested_scope":   "patient/*.read",
		"requesting_device": fhir.M{"resourceType": "Device", "identifier": []fhir.M{{"system": "x", "value": "y"}}, "model": "EPR", "version": "1"},
		"requesting_organization": fhir.M{"resourceType": "Organization", "name": "Somewhere",
			"identifier": []fhir.M{{"system": fhir.SystemODS, "value": or(q.org, "RX1")}}},
		"requesting_practitioner": fhir.M{"resourceType": "Practitioner", "id": "u-17", "name": []fhir.M{{"family": "Clarke", "given": []string{"Imogen"}}},
			"identifier": []fhir.M{{"system": fhir.SystemSDSUser, "value": "UNK"}, {"system": fhir.SystemSDSRole, "value": "UNK"}, {"system": "x", "value": "u-17"}}}}
	for k, v := range q.claims {
		claims[k] = v
	}
	raw, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	enc := base64.RawURLEncoding
	body := or(q.body, `{"resourceType":"Parameters","parameter":[{"name":"patientNHSNumber","valueIdentifier":{"system":"https://fhir.nhs.uk/Id/nhs-number","value":"`+q.nhs+
		`"}},{"name":"includeAllergies","part":[{"name":"includeResolvedAllergies","valueBoolean":true}]},{"name":"includeMedication"}]}`)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, root+"/Patient/$gpc.getstructuredrecord", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for k, v := range map[string]string{"Ssp-TraceID": "629ea9ba-a077-4d99-b289-7a9b19fd4e03", "Ssp-From": or(q.from, "200000000115"), "Ssp-To": or(q.to, "200000000116"),
		"Ssp-InteractionID": gpconnect.InteractionStructured, "Content-Type": "application/fhir+json", "Accept": "application/fhir+json",
		"Authorization": "Bearer " + enc.EncodeToString([]byte(`{"alg":"none","typ":"JWT"}`)) + "." + enc.EncodeToString(raw) + "."} {
		req.Header.Set(k, v)
	}
	for k, v := range q.headers {
		req.Header.Set(k, v)
	}
	resp, err := c.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), err
}

func numberOf(key string) string {
	all := cast.Dozen(time.Now())
	return all[slices.IndexFunc(all, func(p cast.Person) bool { return p.Key == key })].NHS
}

// From certificate through headers and token to the structured record, and every way in which that is refused.
func TestSystemsAskForTheRecordAsGPConnect(t *testing.T) {
	d := eastDoor(t)
	margaret := numberOf("margaret")
	epr := d.client(t, d.ca.Issue("epr.rx1.example", nil))
	for _, c := range []struct {
		what   string
		as     string // name in the certificate; "" the EPR
		q      gpcRequest
		status int
		want   string
	}{
		{"the record", "", gpcRequest{}, 200, `"code":"91936005"`},
		{"somebody unknown", "", gpcRequest{nhs: cast.NHSNumber("999000167")}, 404, "PATIENT_NOT_FOUND"},
		{"another organisation's user", "", gpcRequest{org: "RYA"}, 403, "does not speak for the organisation"},
		{"another issuer", "", gpcRequest{iss: "https://elsewhere.example"}, 403, "not the issuer"},
		{"another system's number", "", gpcRequest{from: "200000000999"}, 403, "not the one that its request says it comes from"},
		{"another organisation's certificate", "cad.rya.example", gpcRequest{}, 403, "does not speak for the organisation"},
		{"another organisation's own user", "cad.rya.example", gpcRequest{org: "RYA"}, 200, `"resourceType":"AllergyIntolerance"`},
		{"an organisation that it may ask for", "west.example", gpcRequest{org: "RYA"}, 200, `"resourceType":"AllergyIntolerance"`},
		{"a certificate of no system", "stranger.example", gpcRequest{}, 403, "not one of the systems"},
		{"a certificate of two systems", "twice", gpcRequest{}, 403, "that of twice-a and of twice-b"},
		{"a role that may not open it", "desk.rx1.example", gpcRequest{}, 404, "PATIENT_NOT_FOUND"},
		{"to another", "", gpcRequest{to: "200000000999"}, 400, "Ssp-To is not the ASID"},
		{"no trace", "", gpcRequest{headers: map[string]string{"Ssp-TraceID": ""}}, 400, "Ssp-TraceID is missing"},
		{"another interaction", "", gpcRequest{headers: map[string]string{"Ssp-InteractionID": "x"}}, 400, "InteractionID"},
		{"no token", "", gpcRequest{headers: map[string]string{"Authorization": ""}}, 400, "Bearer"},
		{"a token of ten minutes", "", gpcRequest{claims: map[string]any{"exp": time.Now().Unix() + 600}}, 400, "five minutes"},
		{"an old token", "", gpcRequest{claims: map[string]any{"iat": time.Now().Unix() - 900, "exp": time.Now().Unix() - 600}}, 400, "has expired"},
		{"not for care", "", gpcRequest{claims: map[string]any{"reason_for_request": "research"}}, 400, "directcare"},
		{"another scope", "", gpcRequest{claims: map[string]any{"requested_scope": "patient/*.write"}}, 400, "requested_scope"},
		{"nobody asking", "", gpcRequest{claims: map[string]any{"sub": ""}}, 400, "Empty JWT sub claim"},
		{"a device for a practitioner", "", gpcRequest{claims: map[string]any{"requesting_practitioner": fhir.M{"resourceType": "Device", "id": "u-17"}}}, 422, "INVALID_RESOURCE"},
		{"no body", "", gpcRequest{body: "x"}, 400, "BAD_REQUEST"},
		{"a wrong number", "", gpcRequest{nhs: "9990000100"}, 400, "INVALID_NHS_NUMBER"},
		{"XML", "", gpcRequest{headers: map[string]string{"Content-Type": "application/fhir+xml"}}, 415, "BAD_REQUEST"},
		{"XML wanted", "", gpcRequest{headers: map[string]string{"Accept": "application/fhir+xml"}}, 406, "BAD_REQUEST"},
	} {
		client := epr
		if c.as == "twice" {
			client = d.client(t, d.ca.Issue("twice", func(x *x509.Certificate) { x.DNSNames = []string{"twice.example"} }))
		} else if c.as != "" {
			client = d.client(t, d.ca.Issue(c.as, nil))
		}
		if c.q.nhs == "" {
			c.q.nhs = margaret
		}
		status, body, err := c.q.send(t, client, d.root)
		if err != nil || status != c.status || !strings.Contains(body, c.want) {
			t.Errorf("%s: %d %v %.2000s; want %d %s", c.what, status, err, body, c.status, c.want)
		}
		if c.status != 200 && strings.Contains(body, "TAYLOR") {
			t.Errorf("%s: a refusal tells of her", c.what)
		}
	}
	d.looked(t)
}

// looked holds the audit log to what TestSystemsAskForTheRecordAsGPConnect has done: who looked, and who was turned away.
func (d *door) looked(t *testing.T) {
	t.Helper()
	var users, refused []string
	for e, err := range d.n.Audit.All(t.Context(), 0, 0) {
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
			refused = append(refused, s.User)
		}
	}
	for _, u := range []string{"epr/u-17", "cad/u-17", "west/u-17"} {
		if !slices.Contains(users, u) {
			t.Errorf("the log does not say that %s looked: %v", u, users)
		}
	}
	if slices.Contains(users, "desk/u-17") || !slices.Contains(refused, "desk/u-17") {
		t.Errorf("the log does not say that desk/u-17 was refused: %v", refused)
	}
	if slices.Contains(users, "u-17") {
		t.Error("a system's user passes for one of the region's")
	}
	fingerprints := 0
	for _, u := range refused {
		if strings.HasPrefix(u, "sha256:") {
			fingerprints++
		}
	}
	if !slices.Contains(refused, "epr") || !slices.Contains(refused, "cad") || fingerprints != 2 {
		t.Errorf("the log does not say who was turned away: %v", refused)
	}
}

// Without a certificate of the authority nobody reaches the listener, and one taken back is of no use.
func TestTheListenerForSystemsIsShutToOthers(t *testing.T) {
	d := eastDoor(t)
	now := time.Now()
	other := pkitest.New(t, t.TempDir(), "authority", now)
	for what, p := range map[string]pkitest.Pair{
		"no certificate":    {},
		"another authority": other.Issue("epr.rx1.example", nil),
		"expired":           d.ca.Issue("epr.rx1.example", func(c *x509.Certificate) { c.NotAfter = now.Add(-time.Hour) }),
	} {
		if status, body, err := (gpcRequest{nhs: numberOf("margaret")}).send(t, d.client(t, p), d.root); err == nil {
			t.Errorf("%s: %d %s", what, status, body)
		}
	}
	p := d.ca.Issue("epr.rx1.example", nil)
	c := d.client(t, p)
	if status, body, err := (gpcRequest{nhs: numberOf("margaret")}).send(t, c, d.root); status != 200 {
		t.Fatalf("%d %s %v", status, body, err)
	}
	d.ca.Revoke(now, p.Cert)
	for deadline := now.Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		if status, body, _ := (gpcRequest{nhs: numberOf("margaret")}).send(t, c, d.root); status == 403 && strings.Contains(body, "revoked") && !strings.Contains(body, "TAYLOR") {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("30 s after it was revoked the certificate still opens the record")
		}
	}
	// The pages' listener speaks TLS, asks nobody for a certificate, and offers no GP Connect.
	resp, err := d.client(t, pkitest.Pair{}).Get("https://" + d.n.Addr() + "/RX1/STU3/1/gpconnect/structured/fhir/metadata")
	if err != nil || resp.StatusCode == http.StatusOK {
		t.Errorf("on the pages' listener: %v %v", resp, err)
	}
	_ = resp.Body.Close()
}

// A system asks the FHIR API as itself.
func TestASystemAsksTheAPIAsItself(t *testing.T) {
	d := eastDoor(t)
	body := fmt.Sprintf(`{"resourceType":"Parameters","parameter":[{"name":"identifier","valueIdentifier":{"system":%q,"value":%q}}]}`, fhir.SystemNHSNumber, numberOf("margaret"))
	for name, want := range map[string]int{"epr.rx1.example": 200, "stranger.example": 403} {
		resp, err := d.client(t, d.ca.Issue(name, nil)).Post("https://"+d.n.SystemsAddr()+"/fhir/$gather", "application/fhir+json", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if resp.StatusCode != want || bytes.Contains(b, []byte("AllergyIntolerance")) != (want == 200) {
			t.Errorf("%s: %d %.300s", name, resp.StatusCode, b)
		}
	}
}

// west asks east as if it were a practice, with its own certificate.
const west = `
region: {id: west, name: West Shared Care Record}
organisations:
  - {ods: RX1, name: East Acute Trust, kind: acute}
systems:
  - {id: east, organisation: RX1, connector: gpconnect, address: "%s", asid: "200000000116", gives: {demographics: live, allergies: live, medications: live}, deadline: 30s,
     options: {our-asid: "200000000117"}, tls: {certificate: "%s", key: "%s", ca: "%s", crl: "%s"}}
agreements:
  - {id: west-direct-care, parties: [RX1, M85001], purposes: [direct-care], headings: all, from: 2020-04-01}
users:
  - {id: dev, name: Dr Femi Ade, role: hospital-doctor, organisation: RX1}
`

// Two Tombolos over GP Connect: our consumer, with the client certificate of the region file, at our provider.
func TestOurConsumerAsksOurProvider(t *testing.T) {
	d := eastDoor(t)
	p := d.ca.Issue("west.example", nil)
	r, _ := region.Parse("west.yaml", fmt.Appendf(nil, west, d.root, p.CertFile, p.KeyFile, filepath.Join(d.ca.Dir, "authority.pem"), d.crl))
	n := run(t, node.Config{Region: r, Data: t.TempDir(), Listen: "127.0.0.1:0", Dev: "dev"})
	body := fmt.Sprintf(`{"resourceType":"Parameters","parameter":[{"name":"identifier","valueIdentifier":{"system":%q,"value":%q}}]}`, fhir.SystemNHSNumber, numberOf("margaret"))
	resp, err := http.Post("http://"+n.Addr()+"/fhir/$gather", "application/fhir+json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, _ := io.ReadAll(resp.Body)
	for _, want := range []string{`"AllergyIntolerance"`, `"MedicationRequest"`, "Sertraline 50mg tablets"} {
		if !bytes.Contains(b, []byte(want)) {
			t.Errorf("%d: no %s in %.1500s", resp.StatusCode, want, b)
		}
	}
	// Who asked in the west is who the token named, and stands in the east's log.
	for e, err := range d.n.Audit.All(t.Context(), 0, 0) {
		if err != nil {
			t.Fatal(err)
		}
		if s, err := e.Summary(); err == nil && s.Shows() && s.User == "west/dev" {
			return
		}
	}
	t.Error("the east's log does not name the user who asked in the west")
}

// A practice whose address is not in the region file is looked up in the Spine directory, and asked there.
func TestAPracticeIsLookedUpInTheDirectory(t *testing.T) {
	gp := httptest.NewServer(practice.New(practice.Options{Source: cast.GP1, ASID: "200000000116", People: cast.Dozen(time.Now())}))
	defer gp.Close()
	sds := httptest.NewServer(practice.NewSDS(practice.Listings("M85001", gp.URL, "200000000116")...))
	defer sds.Close()
	r := regionOf(t, `
region: {id: east, name: East}
organisations:
  - {ods: RX1, name: East Acute Trust, kind: acute}
  - {ods: M85001, name: Hilltop Surgery, kind: gp}
systems:
  - {id: m85001-gp, organisation: M85001, connector: gpconnect, gives: {demographics: live, allergies: live}, deadline: 30s, options: {sds: "%s", sds-key: env:SDS_KEY}}
agreements:
  - {id: east-direct-care, parties: [RX1, M85001], purposes: [direct-care], headings: all, from: 2020-04-01}
users:
  - {id: dev, name: Dr Femi Ade, role: hospital-doctor, organisation: RX1}
`, sds.URL)
	n := run(t, node.Config{Region: r, Data: t.TempDir(), Listen: "127.0.0.1:0", Dev: "dev", Secret: func(string) string { return "key" }})
	body := fmt.Sprintf(`{"resourceType":"Parameters","parameter":[{"name":"identifier","valueIdentifier":{"system":%q,"value":%q}}]}`, fhir.SystemNHSNumber, numberOf("margaret"))
	resp, err := http.Post("http://"+n.Addr()+"/fhir/$gather", "application/fhir+json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if b, _ := io.ReadAll(resp.Body); !bytes.Contains(b, []byte(`"AllergyIntolerance"`)) {
		t.Errorf("%d %.1000s", resp.StatusCode, b)
	}
}
