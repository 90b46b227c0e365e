package node_test

import (
	"encoding/json"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"tombolo/audit"
	"tombolo/connector/nrl"
	"tombolo/dataset"
	"tombolo/fhir"
	"tombolo/node"
	"tombolo/probe"
	"tombolo/sim"
	"tombolo/sim/cast"
	"tombolo/sim/national"
	simpds "tombolo/sim/pds"
)

// registers is a region that asks PDS and a national locator live.
const registers = `
region: {id: north, name: North Shared Care Record}
organisations:
  - {ods: RX1, name: North Acute Trust, kind: acute}
  - {ods: QSV, name: North Integrated Care Board, kind: other}
  - {ods: X26, name: NHS England, kind: other}
systems:
  - {id: pds, organisation: X26, connector: pds, address: "%s", gives: {demographics: live, gp-practice: live}, deadline: 1s, options: {rate: "200"}, release: all}
locator:
  national:
    - {id: nrl, address: "%s", token: NRL_TOKEN, as: QSV, organisation: X26, asks: true, deadline: 1s}
agreements:
  - {id: care, parties: [RX1, QSV, X26], purposes: [direct-care], headings: all, from: 2020-04-01}
users:
  - {id: doctor, name: A Doctor, role: hospital-doctor, organisation: RX1}
probing: {as: doctor, patients: ["%s"]}
`

// What PDS and the national locator can give is found by asking them about the test patient, each in its own protocol, while they answer and while they do not; of
// what a register said of the test patient nothing is kept.
func TestRegistersAreProbed(t *testing.T) {
	dozen := cast.Dozen(time.Now())
	margaret := dozen[slices.IndexFunc(dozen, func(p cast.Person) bool { return p.Key == "margaret" })]
	var down sim.Faults
	register := simpds.New(simpds.Options{People: []cast.Person{margaret}, Faults: &down}).Serve()
	locator := national.New(national.Options{Token: "secret"})
	above := httptest.NewServer(locator)
	t.Cleanup(func() { register.CloseClientConnections(); register.Close(); above.Close() })
	start := func(token, patient string) *node.Node {
		return run(t, node.Config{Region: regionOf(t, registers, register.URL, above.URL, patient), Data: t.TempDir(), Listen: "127.0.0.1:0", Secret: func(string) string { return token }})
	}
	n := start("secret", margaret.NHS)
	ask := func(n *node.Node) map[string]*probe.Result {
		t.Helper()
		out, err := n.Probe(t.Context(), node.ProbeAsk{By: audit.Agent{User: "tester"}, Tries: 2}, nil)
		if err != nil {
			t.Fatal(err)
		}
		raw, err := json.Marshal(out)
		if err != nil {
			t.Fatal(err)
		}
		for _, secret := range []string{margaret.NHS, margaret.Family, margaret.Born, "RAX", "plan.pdf"} {
			if strings.Contains(string(raw), secret) {
				t.Errorf("what was found holds %q", secret)
			}
		}
		by := map[string]*probe.Result{}
		for _, r := range out {
			by[r.Source] = r
		}
		return by
	}
	expect := func(when string, by map[string]*probe.Result, source string, h dataset.Heading, want probe.Verdict) *probe.Found {
		t.Helper()
		if by[source] == nil || by[source].Headings[h] == nil {
			t.Fatalf("%s: %s at %s is not told of", when, h, source)
		}
		if f := by[source].Headings[h]; f.Verdict != want {
			t.Errorf("%s: %s at %s is %s, want %s", when, h, source, f.Verdict, want)
		}
		return by[source].Headings[h]
	}

	by := ask(n)
	expect("nobody holds anything", by, "nrl", dataset.Documents, probe.Empty)
	expect("nobody holds anything", by, "nrl", dataset.EndOfLife, probe.Empty)
	if f := expect("PDS knows them", by, "pds", dataset.Demographics, probe.Given); f.Entries != 1 || f.Speed.Tries != 2 || f.Speed.P50 <= 0 {
		t.Errorf("demographics at PDS: %+v", f)
	}
	expect("PDS knows their practice", by, "pds", dataset.GPPractice, probe.Given)

	plan := nrl.Form{Custodian: "RAX", URL: "ssp://p1.nhs.uk/plan.pdf", Mechanism: nrl.SSP, ASID: "200000000610", Setting: fhir.Coding{System: fhir.SystemSNOMED, Code: "788002001", Display: "Adult mental health service"}}
	plan.Type, _ = nrl.TypeNamed("861421000000109")
	for _, id := range []string{"RAX-1", "RAX-2"} {
		locator.Register(nrl.Pointer{Resource: plan.Make(nrl.Number(margaret.NHS), id).With("id", id).Without("masterIdentifier")})
	}
	if f := expect("somebody registered two pointers", ask(n), "nrl", dataset.EndOfLife, probe.Given); f.Entries != 2 || f.Types["DocumentReference"] != 2 || f.Speed.Tries != 2 {
		t.Errorf("end of life care at the locator: %+v", f)
	}

	down.Set(sim.Fault500, 0)
	locator.Set(sim.FaultGarbage, 0)
	by = ask(n)
	for source, h := range map[string]dataset.Heading{"pds": dataset.Demographics, "nrl": dataset.Documents} {
		expect("while it is broken", by, source, h, probe.Unknown)
		if len(by[source].Problems) == 0 {
			t.Errorf("nothing is said of what is wrong with %s", source)
		}
	}
	down.Set(sim.FaultNone, 0)
	locator.Set(sim.FaultNone, 0)

	by = ask(start("wrong", "9990000433")) // a token that the locator does not take, and somebody whom PDS does not know
	expect("with a token that is wrong", by, "nrl", dataset.Documents, probe.Refused)
	expect("PDS does not know the test patient", by, "pds", dataset.Demographics, probe.Unknown)
	for _, source := range []string{"nrl", "pds"} {
		if len(by[source].Problems) == 0 {
			t.Errorf("nothing is said of why %s is not known", source)
		}
	}
}
