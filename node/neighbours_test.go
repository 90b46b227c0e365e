package node_test

import (
	"crypto/tls"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"tombolo/connector"
	"tombolo/dataset"
	"tombolo/fhir"
	"tombolo/gather"
	"tombolo/node"
	"tombolo/pki/pkitest"
)

// ring is a region with two neighbours, to which it is one itself.
const ring = `
region: {id: "%[1]s", name: "Region %[1]s"}
organisations: [{ods: "%[10]s", name: "Trust %[1]s", kind: acute}, {ods: QSV, name: A Board, kind: other}]
systems: [{id: "pas-%[1]s", organisation: "%[10]s", connector: api, gives: {demographics: push, problems: push, allergies: push}, release: all}]
neighbours:
  - {id: "%[3]s", name: "Region %[3]s", kind: %[2]s, address: "%[4]s", token: T, deadline: 20s%[7]s}
  - {id: "%[5]s", name: "Region %[5]s", kind: %[2]s, address: "%[6]s", token: T, deadline: 20s%[7]s}
agreements: [{id: care, parties: ["%[10]s", QSV], purposes: [direct-care], headings: all, from: 2020-04-01}]
users:
  - {id: doctor, name: A Doctor, role: hospital-doctor, organisation: "%[10]s", token_sha256: "%[8]s"}
  - {id: others, name: Another region, role: neighbour, organisation: QSV, token_sha256: "%[9]s"}
`

// A wire is what stands before a node and notes what it is asked.
type wire struct {
	*httptest.Server
	mu   sync.Mutex
	to   string
	seen []string // path and hops of each question
}

func newWire(t *testing.T) *wire {
	w := stretched(t)
	w.Start()
	return w
}

// newSecureWire is a wire over TLS.
func newSecureWire(t *testing.T, by pkitest.Pair) *wire {
	t.Helper()
	cert, err := tls.LoadX509KeyPair(by.CertFile, by.KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	w := stretched(t)
	w.TLS = &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
	w.StartTLS()
	return w
}

func stretched(t *testing.T) *wire {
	w := &wire{}
	w.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w.mu.Lock()
		to := w.to
		if r.Method == http.MethodPost {
			w.seen = append(w.seen, fmt.Sprintf("%s %d", r.URL.Path, len(connector.Via(r.Header))))
		}
		w.mu.Unlock()
		req, err := http.NewRequestWithContext(r.Context(), r.Method, to+r.URL.RequestURI(), r.Body)
		if err != nil {
			http.Error(rw, err.Error(), http.StatusBadGateway)
			return
		}
		req.Header = r.Header.Clone()
		resp, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			http.Error(rw, err.Error(), http.StatusBadGateway)
			return
		}
		defer func() { _ = resp.Body.Close() }()
		maps.Copy(rw.Header(), resp.Header)
		rw.WriteHeader(resp.StatusCode)
		_, _ = io.Copy(rw, resp.Body)
	}))
	t.Cleanup(w.Close)
	return w
}

// asked gives what was asked since it was last called.
func (w *wire) asked() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := w.seen
	w.seen = nil
	return out
}

// startRing starts three regions, each a neighbour of the other two by one kind; each holds one problem of Ann's, named after it.
func startRing(t *testing.T, kind string) (nodes map[string]*node.Node, wires map[string]*wire) {
	t.Helper()
	names := []string{"a", "b", "c"}
	nodes, wires = map[string]*node.Node{}, map[string]*wire{}
	for _, n := range names {
		wires[n] = newWire(t)
	}
	more, token := "", "others"
	if kind != "tombolo" {
		more = ", organisation: QSV, numbers: [nhs]"
	}
	if kind == "fhir" { // as one of the users there, by whom nobody can tell that a region asks
		token = "doctor"
	}
	for i, n := range names {
		one, two := names[(i+1)%3], names[(i+2)%3]
		at := func(n string) string {
			if kind == "tombolo" {
				return wires[n].URL
			}
			return wires[n].URL + "/fhir"
		}
		x := run(t, node.Config{Data: t.TempDir(), Listen: "127.0.0.1:0", Secret: func(string) string { return token },
			Region: regionOf(t, ring, n, kind, one, at(one), two, at(two), more, tokenHash("doctor"), tokenHash("others"), "R"+strings.ToUpper(n)+"1")})
		nodes[n], wires[n].to = x, "http://"+x.Addr()
		said(t, x, n)
	}
	return nodes, wires
}

// said has a region's own system send one problem of Ann's, named after the region.
func said(t *testing.T, x *node.Node, n string) {
	t.Helper()
	if _, err := x.Intake.Accept(t.Context(), connector.Delivery{Source: "pas-" + n, ID: "1", Received: time.Now(), Raw: []byte("1"), Patient: "p1", Map: "test/1", Content: []*fhir.Resource{
		patientP("p1", "9990000107", "Taylor", nil),
		fhir.New("Condition", "c1", fhir.M{"subject": fhir.Reference{Reference: "Patient/p1"}, "clinicalStatus": fhir.Code("http://terminology.hl7.org/CodeSystem/condition-clinical", "active", "Active"),
			"recordedDate": "2026-05-01", "code": fhir.CodeableConcept{Text: "said by " + n}})}}); err != nil {
		t.Fatal(err)
	}
	personOf(t, x, "9990000107")
}

// problemsAt are what a doctor of a region is shown of Ann's problems.
func problemsAt(t *testing.T, n *node.Node) []string {
	t.Helper()
	s, err := n.Access.As("doctor")
	if err != nil {
		t.Fatal(err)
	}
	rec, err := n.Gather.Record(t.Context(), s, personOf(t, n, "9990000107"), gather.Ask{})
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range rec.Section(dataset.Problems).Entries {
		out = append(out, e.Lead.Text("code.text"))
	}
	slices.Sort(out)
	for _, l := range rec.Lanes {
		t.Logf("%s: %s %v", l.Source, l.State, l.Issue)
	}
	return out
}

// Three regions are each other's neighbours. A record opened in one is made of all three, once each; each of the others is asked once, asks nobody further, and so no
// question goes round; and of who claims to have come from a neighbour nobody further is asked either.
func TestAQuestionGoesOneHopAndNeverRound(t *testing.T) {
	nodes, wires := startRing(t, "tombolo")
	if got, want := problemsAt(t, nodes["a"]), []string{"said by a", "said by b", "said by c"}; !slices.Equal(got, want) {
		t.Errorf("shown are %v, want %v", got, want)
	}
	for n, want := range map[string][]string{"a": nil, "b": {"/fhir/$gather 1"}, "c": {"/fhir/$gather 1"}} {
		if got := wires[n].asked(); !slices.Equal(got, want) {
			t.Errorf("%s was asked %v, want %v", n, got, want)
		}
	}
	body := `{"resourceType":"Parameters","parameter":[{"name":"identifier","valueIdentifier":{"system":"https://fhir.nhs.uk/Id/nhs-number","value":"9990000107"}}]}`
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, wires["a"].to+"/fhir/$gather", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header = http.Header{"Authorization": {"Bearer doctor"}, "Content-Type": {"application/fhir+json"}, connector.HeaderVia: {"elsewhere"}}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	data, err := io.ReadAll(resp.Body)
	if err != nil || !strings.Contains(string(data), "said by a") || strings.Contains(string(data), "said by b") {
		t.Errorf("with one hop behind it the answer is %s (%v)", data, err)
	}
	if b, c := wires["b"].asked(), wires["c"].asked(); len(b)+len(c) > 0 {
		t.Errorf("with one hop behind it the others were asked: %v, %v", b, c)
	}
}

// Three nations ask each other for patient summaries and answer with them, by the standard's operation alone: each asks with POST Patient/$summary and no number in any
// address, each answers with a document, and an answer is of the nation's own sources, so that no question goes round.
func TestPatientSummariesAreExchangedBothWays(t *testing.T) {
	nodes, wires := startRing(t, "ips")
	for _, at := range []string{"a", "b"} {
		if got, want := problemsAt(t, nodes[at]), []string{"said by a", "said by b", "said by c"}; !slices.Equal(got, want) {
			t.Errorf("in %s are shown %v, want %v", at, got, want)
		}
		for n := range nodes {
			want := []string{"/fhir/Patient/$summary 1"}
			if n == at {
				want = nil
			}
			if got := wires[n].asked(); !slices.Equal(got, want) {
				t.Errorf("opened in %s: %s was asked %v, want %v", at, n, got, want)
			}
		}
	}
}

// Three regions take each other for ordinary FHIR servers, and ask as one of the users there. A record is made of all three all the same, and no question goes further
// than one hop.
func TestAQuestionGoesOneHopBetweenRegionsThatTakeEachOtherForFHIRServers(t *testing.T) {
	nodes, wires := startRing(t, "fhir")
	if got, want := problemsAt(t, nodes["a"]), []string{"said by a", "said by b", "said by c"}; !slices.Equal(got, want) {
		t.Errorf("shown are %v, want %v", got, want)
	}
	for n, w := range wires {
		asked := w.asked()
		if n == "a" && len(asked) > 0 || n != "a" && len(asked) == 0 {
			t.Errorf("%s was asked %v", n, asked)
		}
		for _, q := range asked {
			if !strings.HasSuffix(q, " 1") {
				t.Errorf("%s was asked %s, after more than one hop", n, q)
			}
		}
	}
}

// loop is a region one of whose systems is, by mistake, another region that has this one for a system.
const loop = `
region: {id: "%[1]s", name: "Region %[1]s"}
organisations: [{ods: "%[2]s", name: "Trust %[1]s", kind: acute}, {ods: QSV, name: A Board, kind: other}]
systems:
  - {id: "pas-%[1]s", organisation: "%[2]s", connector: api, gives: {demographics: push, problems: push}, release: all}
  - {id: other, name: The other, organisation: QSV, connector: fhirapi, address: "%[3]s/fhir", options: {token: "env:T"}, deadline: 8s, gives: {problems: live}, release: all}
agreements: [{id: care, parties: ["%[2]s", QSV], purposes: [direct-care], headings: all, from: 2020-04-01}]
users: [{id: doctor, name: A Doctor, role: hospital-doctor, organisation: "%[2]s", token_sha256: "%[4]s"}]
`

// Two regions are each other's systems. A question that would come back is refused where it began, so that it ends; what is not asked for that reason is named, and what
// each holds is shown.
func TestAQuestionThatComesBackIsRefused(t *testing.T) {
	nodes, wires := map[string]*node.Node{}, map[string]*wire{"a": newWire(t), "b": newWire(t)}
	for n, other := range map[string]string{"a": "b", "b": "a"} {
		x := run(t, node.Config{Data: t.TempDir(), Listen: "127.0.0.1:0", Secret: func(string) string { return "doctor" },
			Region: regionOf(t, loop, n, "R"+strings.ToUpper(n)+"1", wires[other].URL, tokenHash("doctor"))})
		nodes[n], wires[n].to = x, "http://"+x.Addr()
		said(t, x, n)
	}
	if got, want := problemsAt(t, nodes["a"]), []string{"said by a", "said by b"}; !slices.Equal(got, want) {
		t.Errorf("shown are %v, want %v", got, want)
	}
	back := wires["a"].asked()
	for _, q := range back {
		if !strings.HasSuffix(q, " 2") {
			t.Errorf("a was asked %s", q)
		}
	}
	if asked := wires["b"].asked(); len(back) == 0 || len(asked) > 40 || len(back) > 40 {
		t.Errorf("b was asked %d times and a %d: the question is refused where it began, and not asked again and again", len(asked), len(back))
	}
	s, err := nodes["a"].Access.As("doctor")
	if err != nil {
		t.Fatal(err)
	}
	rec, err := nodes["a"].Gather.Record(t.Context(), s, personOf(t, nodes["a"], "9990000107"), gather.Ask{})
	if err != nil {
		t.Fatal(err)
	}
	if rec.Complete(dataset.Problems) {
		t.Error("the record is called complete, and one of its sources was not asked")
	}
}
