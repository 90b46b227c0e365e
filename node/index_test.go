package node_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"

	"tombolo/audit"
	"tombolo/connector"
	"tombolo/dataset"
	"tombolo/fhir"
	"tombolo/gather"
	"tombolo/node"
)

// scottish is a region that knows people by their CHI numbers, and lets its neighbour ask who they are.
const scottish = `
region: {id: tay, name: Tay Shared Care Record}
organisations:
  - {ods: SA1, name: Tay Infirmary, kind: acute}
  - {ods: QSV, name: Severn Integrated Care Board, kind: other}
systems:
  - {id: pas, organisation: SA1, connector: api, gives: {demographics: push, problems: push}, release: all}
agreements:
  - {id: care, parties: [SA1, QSV], purposes: [direct-care], headings: all, from: 2020-04-01}
users:
  - {id: severn, name: Severn, role: neighbour, organisation: QSV, token_sha256: "%s"}
`

const english = `
region: {id: severn, name: Severn Shared Care Record}
organisations:
  - {ods: RX1, name: Severn Acute Trust, kind: acute}
systems:
  - {id: pas, organisation: RX1, connector: api, gives: {demographics: push}, release: all}
agreements:
  - {id: care, parties: [RX1], purposes: [direct-care], headings: all, from: 2020-04-01}
neighbours:
  - id: tay
    name: Tay Shared Care Record
    kind: tombolo
    address: "%s"
    token: TAY
    numbers: [chi]
    deadline: 20s
    index: {address: "%s/identity", asks: [pix, match], deadline: 10s}
users:
  - {id: doctor, name: Dr Ade, role: hospital-doctor, organisation: RX1}
`

// Two regions that know people by different numbers: one asks the other's index by PIXm and PDQm, and is answered by what is served here. Nobody's number stands in an
// address on the way.
func TestTwoRegionsTellEachOtherWhoPeopleAre(t *testing.T) {
	tay := run(t, node.Config{Region: regionOf(t, scottish, tokenHash("severn-token")), Data: t.TempDir(), Listen: "127.0.0.1:0"})
	var mu sync.Mutex
	var seen []string
	down := false
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		seen = append(seen, r.Method+" "+r.URL.String())
		gone := down
		mu.Unlock()
		if gone && strings.HasPrefix(r.URL.Path, "/identity") {
			http.Error(w, "down", http.StatusBadGateway)
			return
		}
		httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: tay.Addr()}).ServeHTTP(w, r)
	}))
	t.Cleanup(proxy.Close)
	severn := run(t, node.Config{Region: regionOf(t, english, proxy.URL, proxy.URL), Data: t.TempDir(), Listen: "127.0.0.1:0", Secret: func(name string) string { return map[string]string{"TAY": "severn-token"}[name] }})

	problem := func(code string) *fhir.Resource {
		return fhir.New("Condition", "c"+code, fhir.M{"subject": fhir.Reference{Reference: "Patient/p"}, "code": fhir.Code(fhir.SystemSNOMED, code, "Asthma")})
	}
	give := func(n *node.Node, id string, family string, ids []fhir.Identifier, more ...*fhir.Resource) {
		p := fhir.New("Patient", "p", fhir.M{"identifier": ids, "name": []fhir.HumanName{{Family: family, Given: []string{"Ann"}}}, "birthDate": "1948-03-12", "gender": "female",
			"address": []fhir.Address{{Line: []string{"1 Quay Street"}, PostalCode: "ZZ1 1AA"}}})
		content := []*fhir.Resource{fhir.New("Patient", id, mapOf(p))}
		for _, m := range more {
			content = append(content, m.With("subject", fhir.Reference{Reference: "Patient/" + id}))
		}
		rec, err := n.Intake.Accept(t.Context(), connector.Delivery{Source: "pas", ID: id, Raw: []byte(id), Patient: id, Content: content, Map: "test/1"})
		if err != nil {
			t.Fatal(err)
		}
		if err := n.Await(t.Context(), rec.Seq); err != nil {
			t.Fatal(err)
		}
	}
	nhs := func(v string) fhir.Identifier { return fhir.Identifier{System: fhir.SystemNHSNumber, Value: v} }
	chi := func(v string) fhir.Identifier { return fhir.Identifier{System: fhir.SystemCHI, Value: v} }
	const taylor, khan, reid = "9990000107", "9990000204", "9990000433"
	give(severn, "s1", "Taylor", []fhir.Identifier{nhs(taylor)})
	give(severn, "s2", "Khan", []fhir.Identifier{nhs(khan)})
	give(severn, "s3", "Reid", []fhir.Identifier{nhs(reid)})
	give(tay, "t1", "Taylor", []fhir.Identifier{chi("0101019998"), nhs(taylor)}, problem("195967001")) // by PIXm
	give(tay, "t2", "Khan", []fhir.Identifier{chi("3112999991")}, problem("44054006"))                 // by PDQm

	s, err := severn.Access.As("doctor")
	if err != nil {
		t.Fatal(err)
	}
	lane := func(nhs string) (gather.Lane, dataset.State) {
		rec, err := severn.Gather.Record(t.Context(), s, personOf(t, severn, nhs), gather.Ask{})
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range rec.Lanes {
			if l.Source == "tay" {
				return l, rec.Section(dataset.Problems).State
			}
		}
		t.Fatal("Tay has no lane")
		return gather.Lane{}, ""
	}
	for name, c := range map[string]struct {
		nhs   string
		state gather.LaneState
	}{"by number": {taylor, gather.Answered}, "by description": {khan, gather.Answered}, "nobody there": {reid, gather.NotHere}} {
		if l, problems := lane(c.nhs); l.State != c.state || (problems == dataset.Present) != (c.state == gather.Answered) {
			t.Errorf("%s: %s (%v), problems %s", name, l.State, l.Issue, problems)
		}
	}
	if id, err := severn.Gather.Find(t.Context(), s, chi("0101019998")); err != nil || id != personOf(t, severn, taylor) {
		t.Errorf("who brings her CHI number is %s (%v)", id, err)
	}
	mu.Lock()
	asked := len(seen)
	for _, at := range seen {
		for _, number := range []string{taylor, khan, reid, "0101019998", "3112999991"} {
			if strings.Contains(at, number) {
				t.Errorf("a number stands in %s", at)
			}
		}
	}
	down = true
	mu.Unlock()
	if l, _ := lane(taylor); l.State != gather.Answered {
		t.Errorf("what the index said is believed for a while: %s (%v)", l.State, l.Issue)
	}
	give(severn, "s4", "Ord", []fhir.Identifier{nhs("9990000018")})
	if l, problems := lane("9990000018"); l.State != gather.Failed || problems != dataset.NotKnown || !strings.Contains(l.Issue.Text, "index") {
		t.Errorf("while the index is down: %s (%v), problems %s", l.State, l.Issue, problems)
	}
	if asked == 0 {
		t.Error("nothing was asked")
	}
	// What was told there is remembered there, and that it was asked here.
	told := 0
	for e, err := range tay.Audit.All(t.Context(), 0, 0) {
		if err != nil {
			t.Fatal(err)
		}
		if s, err := e.Summary(); err == nil && s.Kind == audit.Search && (s.Query == "Patient/$ihe-pix" || strings.Contains(s.Query, "$match")) {
			told++
		}
	}
	if told < 4 {
		t.Errorf("%d questions stand in the audit log of the region that was asked", told)
	}
}

func mapOf(r *fhir.Resource) fhir.M {
	m := fhir.M{}
	for c := range r.Value().Children() {
		if c.Key() != "resourceType" && c.Key() != "id" {
			m[c.Key()] = json.RawMessage(c.Raw())
		}
	}
	return m
}
