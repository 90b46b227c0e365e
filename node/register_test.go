package node_test

import (
	"context"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"tombolo/access"
	"tombolo/audit"
	"tombolo/connector"
	"tombolo/fhir"
	"tombolo/mpi"
	"tombolo/node"
	"tombolo/policy"
	"tombolo/region"
	"tombolo/search"
	"tombolo/sim"
	"tombolo/sim/cast"
	simpds "tombolo/sim/pds"
)

var (
	margaretNHS = cast.NHSNumber("999000010")
	formerNHS   = cast.NHSNumber("999000077")
	taylor      = cast.Person{NHS: margaretNHS, Given: []string{"Margaret"}, Family: "Taylor", Born: "1948-03-12", Sex: "female", Address: []string{"14 Ferry Lane"}, City: "Severnmouth", Postcode: "GL99 1AB",
		Phone: "01632 960101", Practice: "M85001"}
)

// registering is a node with a trust's system and a simulated PDS.
type registering struct {
	t testing.TB
	*node.Node
	pds    *simpds.Service
	faults *sim.Faults
	sent   int
}

func withPDS(t *testing.T, people ...cast.Person) *registering {
	t.Helper()
	faults := &sim.Faults{}
	s := simpds.New(simpds.Options{People: people, Faults: faults})
	srv := httptest.NewServer(s)
	t.Cleanup(func() { srv.CloseClientConnections(); srv.Close() })
	file := `
region: {id: north, name: North}
organisations:
  - {ods: RX1, name: North Acute Trust, kind: acute}
  - {ods: RX2, name: South Acute Trust, kind: acute}
  - {ods: M85001, name: Hilltop Surgery, kind: gp}
  - {ods: X26, name: NHS England, kind: other}
systems:
  - {id: pas, organisation: RX1, connector: api, gives: {demographics: push}, release: all}
  - {id: other, organisation: RX2, connector: api, gives: {demographics: push}, release: all}
  - {id: pds, organisation: X26, connector: pds, address: "` + srv.URL + `", gives: {demographics: push}, options: {rate: "200", recheck: 1h, believe: 1ms}}
`
	r, problems := region.Parse("north.yaml", []byte(file))
	for _, p := range problems {
		if p.Severity == region.Error {
			t.Fatal(p)
		}
	}
	dir := t.TempDir()
	n, _ := start(t, node.Config{Region: r, Folder: dir, Data: dir, Feeds: true})
	return &registering{t: t, Node: n, pds: s, faults: faults}
}

// arrives has a system register somebody, and gives this server's id of the patient.
func (n *registering) arrives(source, id string, f fhir.M) string {
	n.t.Helper()
	n.sent++
	r := fhir.New("Patient", id, f)
	if _, err := n.Intake.Accept(n.t.Context(), connector.Delivery{Source: source, ID: id + strings.Repeat("x", n.sent), Received: time.Now(), ContentType: "application/fhir+json", Raw: r.Raw(), Content: []*fhir.Resource{r}, Patient: id, Map: "test/1"}); err != nil {
		n.t.Fatal(err)
	}
	people, err := n.People.Found(n.t.Context(), patientsNamed(f))
	if err != nil {
		n.t.Fatal(err)
	}
	for _, person := range people {
		p, err := n.People.Person(n.t.Context(), person)
		if err != nil {
			n.t.Fatal(err)
		}
		for _, q := range p.Patients {
			if q.Source == source && q.Original == id {
				return q.ID
			}
		}
	}
	n.t.Fatalf("%s of %s did not arrive", id, source)
	return ""
}

func registered(nhs, given, family, born, postcode string) fhir.M {
	f := fhir.M{"active": true, "name": []fhir.HumanName{{Family: family, Given: []string{given}}}, "birthDate": born, "gender": "female"}
	if nhs != "" {
		f["identifier"] = []fhir.Identifier{{System: fhir.SystemNHSNumber, Value: nhs}}
	}
	if postcode != "" {
		f["address"] = []fhir.Address{{Line: []string{"14 Ferry Lane"}, City: "Severnmouth", PostalCode: postcode}}
		f["telecom"] = []fhir.ContactPoint{{System: "phone", Value: "01632 960101"}}
	}
	return f
}

// becomes waits until the person of a patient is as wanted.
func (n *registering) becomes(what, patient string, want func(*mpi.Person) bool) *mpi.Person {
	n.t.Helper()
	var p *mpi.Person
	for until := time.Now().Add(20 * time.Second); time.Now().Before(until); time.Sleep(20 * time.Millisecond) {
		id, err := n.People.PersonOf(context.Background(), patient)
		if err == nil {
			p, err = n.People.Person(context.Background(), id)
		}
		if err != nil {
			n.t.Fatal(err)
		}
		if want(p) {
			return p
		}
	}
	n.t.Fatalf("%s: not so after 20 s: %+v", what, p)
	return nil
}

func TestWhoArrivesIsVerifiedAtPDSAndWhatChangesThereCounts(t *testing.T) {
	n := withPDS(t, taylor)
	id := n.arrives("pas", "P1", registered(margaretNHS, "Margaret", "Taylor", "1948-03-12", ""))
	p := n.becomes("verified", id, func(p *mpi.Person) bool { return len(p.Patients) == 2 })
	if p.Practice != "M85001" || p.Address == nil || p.Address.PostalCode != "GL99 1AB" {
		t.Errorf("what PDS knows of her is not known here: %+v", p)
	}
	for _, q := range p.Patients {
		if strings.Contains(q.ID+q.Original, margaretNHS) {
			t.Error("PDS's patient is kept under her number")
		}
	}
	asked := 0
	for e, err := range n.Audit.Show(t.Context(), p.ID, 0, 0) {
		if err != nil {
			t.Fatal(err)
		}
		if s, _ := e.Summary(); s.Kind == audit.Search && strings.HasPrefix(s.Query, "PDS:") && !strings.Contains(s.Query, margaretNHS) {
			asked++
		}
	}
	if asked == 0 {
		t.Error("that PDS was asked about her does not stand in the log of her record")
	}
	// She moves, dies and is restricted: another system's registration has PDS asked again.
	changed := taylor
	changed.Practice, changed.Died = "M85999", "2026-11-01"
	n.pds.Put(changed)
	n.arrives("other", "Q1", registered(margaretNHS, "Margaret", "Taylor", "1948-03-12", ""))
	n.becomes("moved and died", id, func(p *mpi.Person) bool { return p.Practice == "M85999" && strings.HasPrefix(p.Deceased, "2026-11-01") })
	changed.Restricted = true
	n.pds.Put(changed)
	n.arrives("other", "Q1", registered(margaretNHS, "Margaret Anne", "Taylor", "1948-03-12", ""))
	n.becomes("restricted", id, func(p *mpi.Person) bool { return p.Restricted })
}

func TestASupersededNumberIsReplacedWhenPDSSaysSo(t *testing.T) {
	former := taylor
	former.NHS = formerNHS
	n := withPDS(t, former)
	id := n.arrives("pas", "P1", registered(formerNHS, "Margaret", "Taylor", "1948-03-12", ""))
	n.becomes("verified under the old number", id, func(p *mpi.Person) bool { return len(p.Patients) == 2 && p.NHSNumber == formerNHS })
	n.pds.Put(taylor)
	n.pds.Supersede(formerNHS, margaretNHS)
	n.arrives("other", "Q1", registered(formerNHS, "Margaret", "Taylor", "1948-03-12", ""))
	p := n.becomes("re-keyed", id, func(p *mpi.Person) bool { return p.NHSNumber == margaretNHS })
	if len(p.Superseded) != 1 || p.Superseded[0] != formerNHS {
		t.Errorf("the old number is %q", p.Superseded)
	}
	for _, number := range []string{formerNHS, margaretNHS} {
		if got, err := n.People.Resolve(t.Context(), fhir.Identifier{System: fhir.SystemNHSNumber, Value: number}); err != nil || got != p.ID {
			t.Errorf("a number leads to %q, %v", got, err)
		}
	}
}

func TestWhoBringsNoNumberIsTracedOnlyWithoutDoubt(t *testing.T) {
	twin := taylor
	twin.NHS, twin.Given = cast.NHSNumber("999000033"), []string{"Marjorie"}
	n := withPDS(t, taylor)
	sure := n.arrives("pas", "P1", registered("", "Margaret", "Taylor", "1948-03-12", "GL99 1AB"))
	n.becomes("traced", sure, func(p *mpi.Person) bool { return p.NHSNumber == margaretNHS })
	n.pds.Put(twin)
	unsure := n.arrives("pas", "P2", registered("", "Marjory", "Taylor", "1948-03-12", "ZZ99 9ZZ"))
	why := n.doubted(unsure)
	if p := n.becomes("left alone", unsure, func(*mpi.Person) bool { return true }); p.NHSNumber != "" || !strings.Contains(why, "by hand") {
		t.Errorf("somebody PDS cannot name without doubt has the number %q; the stewards are told %q", p.NHSNumber, why)
	}
}

func TestANumberThatPDSDoesNotKnowOrHasInvalidatedIsLookedAt(t *testing.T) {
	n := withPDS(t, taylor)
	unknown := n.arrives("pas", "P3", registered(cast.NHSNumber("999000055"), "Rose", "Green", "1960-01-01", ""))
	if why := n.doubted(unknown); !strings.Contains(why, "does not know") {
		t.Errorf("of a number unknown to PDS the stewards are told %q", why)
	}
	n.pds.Invalidate(margaretNHS)
	id := n.arrives("pas", "P1", registered(margaretNHS, "Margaret", "Taylor", "1948-03-12", ""))
	n.becomes("invalidated", id, func(p *mpi.Person) bool { return p.NHSNumber == "" })
	if _, err := n.People.Resolve(t.Context(), fhir.Identifier{System: fhir.SystemNHSNumber, Value: margaretNHS}); !fhir.Is(err, fhir.NotFound) {
		t.Errorf("the invalidated number leads to somebody: %v", err)
	}
}

// doubted waits until the stewards are told of a patient, and says why.
func (n *registering) doubted(patient string) string {
	n.t.Helper()
	steward := &access.Session{User: "leila", Role: policy.Steward, Trace: "t"}
	for until := time.Now().Add(20 * time.Second); time.Now().Before(until); time.Sleep(20 * time.Millisecond) {
		st, err := n.Doubts(context.Background(), steward, 100)
		if err != nil {
			n.t.Fatal(err)
		}
		for _, d := range st.Doubts {
			if d.Patient == patient {
				return d.Why
			}
		}
	}
	n.t.Fatal("the stewards are not told of it within 20 s")
	return ""
}

func TestWhilePDSIsDownNobodyIsForgotten(t *testing.T) {
	n := withPDS(t, taylor)
	n.faults.Set(sim.FaultDown, 0)
	id := n.arrives("pas", "P1", registered(margaretNHS, "Margaret", "Taylor", "1948-03-12", ""))
	time.Sleep(300 * time.Millisecond)
	n.faults.Set(sim.FaultNone, 0)
	n.arrives("pas", "P1", registered(margaretNHS, "Margaret", "Taylor", "1948-03-12", "GL99 1AB")) // it is sent once more; else it would be asked again after a minute
	n.becomes("verified when PDS is back", id, func(p *mpi.Person) bool { return len(p.Patients) == 2 })
}

func patientsNamed(f fhir.M) search.Query {
	names := f["name"].([]fhir.HumanName)
	return search.Query{Type: "Patient", Params: []search.Param{{Name: "family", Values: []string{names[0].Family}}}}
}
