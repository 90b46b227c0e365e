package node_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"tombolo/connector"
	"tombolo/connector/nrl"
	"tombolo/fhir"
	"tombolo/gather"
	"tombolo/node"
	"tombolo/pki"
	"tombolo/pki/pkitest"
	"tombolo/sim/national"
)

// sealing is a region with a locator of its own and one above it, of which the first is asked and told.
const sealing = `
region: {id: north, name: North Shared Care Record}
organisations:
  - {ods: RX1, name: North Acute Trust, kind: acute}
  - {ods: Y05868, name: North Mental Health, kind: mental-health}
  - {ods: RYA, name: North Ambulance, kind: ambulance}
  - {ods: "918", name: North Council, kind: social-care}
  - {ods: QSV, name: North Integrated Care Board, kind: other}
  - {ods: X26, name: NHS England, kind: other}
systems:
  - {id: pas, organisation: RX1, connector: api, gives: {demographics: push, encounters: push, documents: push, care-plans: push, problems: push}}
  - {id: social, organisation: "918", connector: api, gives: {demographics: push, social-care: push}}
  - {id: mh-epr, organisation: Y05868, connector: consumer, certificate: mh.example, role: mental-health}
  - {id: cad, organisation: RYA, connector: consumer, certificate: cad.example, role: paramedic}
  - {id: council, organisation: "918", connector: consumer, certificate: council.example, role: social-worker}
policy: {version: "1", author: The Caldicott Guardian, sensitive: {termination: %s}}
locator:
  address: https://north.example
  applications:
    - {application: mh-epr, organisation: Y05868, produces: ["736253002", "887701000000100"], consumes: all}
    - {application: cad, organisation: RYA, consumes: all}
    - {application: council, organisation: "918", consumes: all}
  national:
    - {id: nrl, name: National Record Locator, address: "%s", token: NRL_TOKEN, as: QSV, organisation: X26, asks: true, deadline: 1s, cache: 100ms,
       publishes: [{type: "736253002", url: "https://www.north.example/crisis-plans", mechanism: Direct}, {type: "887181000000106", url: "https://record.north.example/launch/nrl/{pointer}", mechanism: InContext}]}
agreements:
  - {id: care, parties: [RX1, Y05868, RYA, "918", QSV, X26], purposes: [direct-care], headings: all, from: 2020-04-01}
users:
  - {id: medic, name: A Paramedic, role: paramedic, organisation: RYA, token_sha256: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08}
  - {id: worker, name: A Social Worker, role: social-worker, organisation: "918", token_sha256: 60303ae22b998861bce3b28f33eec1be758a213c86c93c076dbe9f558c11c752}
`

// A region with somebody about whom the trust holds a termination, a plan of the same visit and a plan of another; and pointers to both plans, registered here and nationally.
type sealed struct {
	*locatorDoor
	national *national.Locator
	secret   string // the pointer's id
	plain    string
}

const sealedNumber = "9990000107"

func openSealed(t *testing.T, termination string) *sealed {
	t.Helper()
	l := national.New(national.Options{Token: "secret"})
	server := httptest.NewServer(l)
	t.Cleanup(server.Close)
	now := time.Now()
	d := &sealed{locatorDoor: &locatorDoor{ca: pkitest.New(t, t.TempDir(), "authority", now), clients: map[string]*http.Client{}}, national: l}
	cert := d.ca.Issue("north.example", nil)
	d.n = run(t, node.Config{Region: regionOf(t, sealing, termination, server.URL), Data: t.TempDir(), Listen: "127.0.0.1:0", Systems: "127.0.0.1:0",
		Secret: func(name string) string { return map[string]string{"NRL_TOKEN": "secret"}[name] },
		TLS:    pki.Files{Cert: cert.CertFile, Key: cert.KeyFile, CA: filepath.Join(d.ca.Dir, "authority.pem"), CRL: d.ca.Revoke(now)}})
	dd := door{n: d.n, ca: d.ca}
	for _, name := range []string{"mh.example", "cad.example", "council.example"} {
		d.clients[name] = dd.client(t, d.ca.Issue(name, nil))
	}
	of := fhir.Reference{Reference: "Patient/p1"}
	plan := func(id, visit string) *fhir.Resource {
		return fhir.New("DocumentReference", id, fhir.M{"status": "current", "subject": of, "type": fhir.Code(fhir.SystemSNOMED, "736253002", "Mental health crisis plan"), "masterIdentifier": fhir.Identifier{System: "https://rx1.example/plan", Value: id},
			"context": fhir.M{"encounter": []fhir.M{{"reference": "Encounter/" + visit}}}, "content": []fhir.M{{"attachment": fhir.M{"contentType": "application/pdf", "url": "https://dms.rx1.example/" + id}}}})
	}
	visit := func(id string) *fhir.Resource {
		return fhir.New("Encounter", id, fhir.M{"status": "finished", "class": fhir.Coding{Code: "AMB"}, "subject": of})
	}
	deliver(t, d.n, "1", "p1", patientP("p1", sealedNumber, "Taylor", nil), visit("e1"), visit("e2"), plan("secret", "e1"), plan("plain", "e2"),
		fhir.New("Procedure", "x", fhir.M{"status": "completed", "subject": of, "encounter": fhir.Reference{Reference: "Encounter/e1"}, "code": fhir.Code(fhir.SystemSNOMED, "386639001", "Termination of pregnancy")}))
	theirs := patientP("s1", sealedNumber, "Taylor", nil)
	if _, err := d.n.Intake.Accept(t.Context(), connector.Delivery{Source: "social", ID: "1", Received: now, Raw: theirs.Raw(), Content: []*fhir.Resource{theirs}, Patient: "s1", Map: "test/1"}); err != nil {
		t.Fatal(err)
	}
	register := func(changes fhir.M) string {
		changes["subject.identifier.value"] = sealedNumber
		status, h, body := d.ask(t, nrlAsk{as: "mh.example", side: "producer", method: "POST", path: "/DocumentReference", ods: "Y05868", body: pointerBody(t, changes)})
		if status != 201 {
			t.Fatal(body)
		}
		return strings.TrimPrefix(h.Get("Location"), "/DocumentReference/")
	}
	// One is tied to the plan by the address, reached by the proxy; nationally it is by the plan's identifier.
	d.secret = register(fhir.M{"content.0.attachment.url": "ssp://dms.rx1.example/secret"})
	d.plain = register(fhir.M{"content.0.attachment.url": "ssp://dms.rx1.example/plain"})
	for _, id := range []string{"secret", "plain"} {
		f := nrl.Form{Custodian: "RAX", URL: "https://docs.rax.example/" + id, Mechanism: nrl.Direct, Setting: fhir.Coding{System: fhir.SystemSNOMED, Code: "788002001", Display: "Adult mental health service"}}
		f.Type, _ = nrl.TypeNamed("736253002")
		l.Register(nrl.Pointer{Resource: f.Make(sealedNumber, "x").With("id", "RAX-"+id).With("masterIdentifier", fhir.Identifier{System: "https://rx1.example/plan", Value: id})})
	}
	return d
}

// told are the pointers that somebody is told of, by each way of asking.
func (d *sealed) told(t *testing.T, client, ods string) (found []string, count int, read func(id string) int, body string) {
	t.Helper()
	search := `{"subject:identifier":"https://fhir.nhs.uk/Id/nhs-number|` + sealedNumber + `"}`
	_, _, body = d.ask(t, nrlAsk{as: client, side: "consumer", method: "POST", path: "/DocumentReference/_search", ods: ods, body: search})
	_, found, _ = told(t, body)
	_, _, counted := d.ask(t, nrlAsk{as: client, side: "consumer", method: "GET", path: "/DocumentReference?subject:identifier=https://fhir.nhs.uk/Id/nhs-number%7C" + sealedNumber + "&_summary=count", ods: ods})
	count, _, _ = told(t, counted)
	return found, count, func(id string) int {
		status, _, _ := d.ask(t, nrlAsk{as: client, side: "consumer", method: "GET", path: "/DocumentReference/" + id, ods: ods})
		return status
	}, body
}

// inRecord are the custodians' addresses of the pointers in somebody's view of the record.
func (d *sealed) inRecord(t *testing.T, user string) (urls []string, marked int) {
	t.Helper()
	s, err := d.n.Access.As(user)
	if err != nil {
		t.Fatal(err)
	}
	rec, err := d.n.Gather.Record(t.Context(), s, personOf(t, d.n, sealedNumber), gather.Ask{})
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range rec.Lanes {
		if l.Kind == "locator" && l.State != gather.Answered {
			t.Errorf("%s: %s %v", l.Source, l.State, l.Issue)
		}
	}
	for _, sec := range rec.Sections {
		for _, e := range sec.Entries {
			for _, m := range e.Members {
				if m.Source == "nrl" || m.Source == gather.OwnLocator {
					urls = append(urls, m.Resource.Text("content.attachment.url"))
					if strings.Contains(string(m.Resource.Raw()), `"termination"`) {
						marked++
					}
				}
			}
		}
	}
	slices.Sort(urls)
	return urls, marked
}

// A pointer to what belongs to something sensitive is as sensitive: for whoever asks this region's locator, for whoever opens the record, from here and from outside; and
// nothing of it is told upward.
func TestAPointerToSomethingSensitiveIsAsSensitive(t *testing.T) {
	d := openSealed(t, "restrict")
	found, count, read, body := d.told(t, "cad.example", "RYA")
	if len(found) != 2 || count != 2 || read(d.secret) != 200 || strings.Count(body, `"termination"`) != 1 {
		t.Errorf("a clinician is told of %v (%d), with labels: %s", found, count, body)
	}
	published(t, body, "Bundle")
	if found, count, read, _ = d.told(t, "council.example", "918"); len(found) != 0 || count != 0 || read(d.secret) != 404 || read(d.plain) != 404 {
		t.Errorf("who is no clinician cannot claim to need it, and is told of %v (%d), reads %d", found, count, read(d.secret))
	}
	if urls, marked := d.inRecord(t, "medic"); len(urls) != 4 || marked != 2 {
		t.Errorf("in a clinician's record: %v, %d marked", urls, marked)
	}
	if urls, marked := d.inRecord(t, "worker"); !slices.Equal(urls, []string{"https://docs.rax.example/plain", "ssp://dms.rx1.example/plain"}) || marked != 0 {
		t.Errorf("in the record of who is none: %v, %d marked", urls, marked)
	}
	// Whose pointer it is has it as it was registered.
	if status, _, body := d.ask(t, nrlAsk{as: "mh.example", side: "producer", method: "GET", path: "/DocumentReference/" + d.secret, ods: "Y05868"}); status != 200 || strings.Contains(body, "termination") {
		t.Errorf("the producer reads %d %s", status, body)
	}
	own := func() (out []string) {
		for _, p := range d.national.Pointers(sealedNumber) {
			if p.Custodian() == "QSV" {
				out = append(out, p.Text("type.coding.code"))
			}
		}
		slices.Sort(out)
		return out
	}
	both := []string{"736253002", "887181000000106"}
	eventually(t, "there is a plan that may be pointed to", func() bool { return slices.Equal(own(), both) })
	of := fhir.Reference{Reference: "Patient/p1"}
	deliver(t, d.n, "2", "p1", patientP("p1", sealedNumber, "Taylor", nil), fhir.New("Condition", "y", fhir.M{"subject": of, "code": fhir.Code(fhir.SystemSNOMED, "386639001", ""), "encounter": fhir.Reference{Reference: "Encounter/e2"}}))
	eventually(t, "the other plan belongs to such a visit too", func() bool { return slices.Equal(own(), both[1:]) })
	if urls, _ := d.inRecord(t, "worker"); len(urls) != 0 {
		t.Errorf("in the record of who is no clinician: %v", urls)
	}
}

// What a region withholds from everybody is pointed to by nobody.
func TestAPointerToWhatIsWithheldIsToldToNobody(t *testing.T) {
	d := openSealed(t, "withhold")
	found, count, read, body := d.told(t, "cad.example", "RYA")
	if !slices.Equal(found, []string{d.plain}) || count != 1 || read(d.secret) != 404 || read(d.plain) != 200 || strings.Contains(body, d.secret) {
		t.Errorf("told of %v (%d), read %d", found, count, read(d.secret))
	}
	if status, _, body := d.ask(t, nrlAsk{as: "mh.example", side: "producer", method: "GET", path: "/DocumentReference/" + d.secret, ods: "Y05868"}); status != 200 {
		t.Errorf("whose it is still has it: %d %s", status, body)
	}
	for _, user := range []string{"medic", "worker"} {
		if urls, marked := d.inRecord(t, user); len(urls) != 2 || marked != 0 || slices.ContainsFunc(urls, func(u string) bool { return strings.HasSuffix(u, "secret") }) {
			t.Errorf("in the record of %s: %v", user, urls)
		}
	}
	// Taken away, it makes no difference to anybody.
	standing := func() string {
		var out strings.Builder
		for _, user := range []string{"medic", "worker"} {
			s, err := d.n.Access.As(user)
			if err != nil {
				t.Fatal(err)
			}
			rec, err := d.n.Gather.Record(t.Context(), s, personOf(t, d.n, sealedNumber), gather.Ask{})
			if err != nil {
				t.Fatal(err)
			}
			for _, l := range rec.Lanes {
				fmt.Fprintln(&out, user, l.Source, l.State, l.Count, l.Headings, l.Issue, l.Warnings, l.Part, l.Map)
			}
			for _, sec := range rec.Sections {
				fmt.Fprintln(&out, user, sec.Heading, sec.State, len(sec.Entries), sec.Unknown, sec.NotShared)
			}
		}
		return out.String()
	}
	lose := func(here, there string) {
		if status, _, body := d.ask(t, nrlAsk{as: "mh.example", side: "producer", method: "DELETE", path: "/DocumentReference/" + here, ods: "Y05868"}); status != 200 {
			t.Fatal(body)
		}
		d.national.Lose(there)
		time.Sleep(150 * time.Millisecond) // what the locator answered is believed for a while
	}
	lose(d.plain, "RAX-plain")
	before := standing()
	_, _, _, body = d.told(t, "cad.example", "RYA")
	lose(d.secret, "RAX-secret")
	if after := standing(); after != before {
		t.Errorf("with it:\n%s\nwithout:\n%s", before, after)
	}
	if _, _, _, after := d.told(t, "cad.example", "RYA"); after != body {
		t.Errorf("with it:\n%s\nwithout:\n%s", body, after)
	}
}

// A label that stands on the pointer alone counts for what it leads to: whoever may not see the one sees neither, nor what belongs to it, in the record, by its id, and upward; whether
// the pointer is registered here or at a national locator.
func TestALabelOnAPointerIsOneOnWhatItLeadsTo(t *testing.T) {
	for what, register := range map[string]func(t *testing.T, d *sealed){
		"registered here": func(t *testing.T, d *sealed) {
			status, _, body := d.ask(t, nrlAsk{as: "mh.example", side: "producer", method: "POST", path: "/DocumentReference", ods: "Y05868", body: pointerBody(t, fhir.M{
				"subject.identifier.value": sealedNumber, "content.0.attachment.url": "ssp://dms.rx1.example/plain", "securityLabel": []fhir.CodeableConcept{fhir.Code(fhir.SystemConfidentiality, "R", "restricted")}})})
			if status != 201 {
				t.Fatal(body)
			}
		},
		"registered nationally": func(t *testing.T, d *sealed) {
			f := nrl.Form{Custodian: "RAX", URL: "https://docs.rax.example/again", Mechanism: nrl.Direct, Setting: fhir.Coding{System: fhir.SystemSNOMED, Code: "788002001", Display: "Adult mental health service"}}
			f.Type, _ = nrl.TypeNamed("736253002")
			d.national.Register(nrl.Pointer{Resource: f.Make(sealedNumber, "x").With("id", "RAX-again").With("masterIdentifier", fhir.Identifier{System: "https://rx1.example/plan", Value: "plain"}).
				With("securityLabel", []fhir.CodeableConcept{fhir.Code(fhir.SystemConfidentiality, "R", "restricted")})})
			time.Sleep(150 * time.Millisecond) // what the locator answered is believed for a while
		},
	} {
		t.Run(what, func(t *testing.T) {
			d := openSealed(t, "restrict")
			of := fhir.Reference{Reference: "Patient/p1"}
			deliver(t, d.n, "2", "p1", patientP("p1", sealedNumber, "Taylor", nil), fhir.New("Condition", "of-the-visit", fhir.M{"subject": of, "code": fhir.Code(fhir.SystemSNOMED, "37796009", ""), "evidence": []fhir.M{{"detail": []fhir.M{{"reference": "DocumentReference/plain"}}}}}))
			see := func(user string) (out []string, refs map[string]fhir.Ref) {
				s, err := d.n.Access.As(user)
				if err != nil {
					t.Fatal(err)
				}
				rec, err := d.n.Gather.Record(t.Context(), s, personOf(t, d.n, sealedNumber), gather.Ask{})
				if err != nil {
					t.Fatal(err)
				}
				refs = map[string]fhir.Ref{}
				for _, sec := range rec.Sections {
					for _, e := range sec.Entries {
						for _, m := range e.Members {
							if _, at, ok := strings.Cut(m.Resource.Text("content.attachment.url"), "https://dms.rx1.example/"); ok {
								out, refs[at] = append(out, at), m.Resource.Ref()
							} else if m.Resource.Type() == "Condition" {
								out = append(out, "problem")
							}
						}
					}
				}
				slices.Sort(out)
				return out, refs
			}
			before, refs := see("worker")
			if !slices.Equal(before, []string{"plain", "problem"}) {
				t.Fatalf("who is no clinician sees %v", before)
			}
			eventually(t, "the plan is pointed to upward", func() bool {
				return slices.ContainsFunc(d.national.Pointers(sealedNumber), func(p nrl.Pointer) bool {
					return p.Custodian() == "QSV" && p.Text("type.coding.code") == "736253002"
				})
			})
			register(t, d)
			if after, _ := see("worker"); len(after) != 0 {
				t.Errorf("who is no clinician sees %v", after)
			}
			if after, _ := see("medic"); !slices.Equal(after, []string{"plain", "problem", "secret"}) {
				t.Errorf("a clinician sees %v", after)
			}
			if what == "registered nationally" {
				return
			}
			s, err := d.n.Access.As("worker")
			if err != nil {
				t.Fatal(err)
			}
			if _, err := d.n.Gather.Read(t.Context(), s, refs["plain"]); !fhir.Is(err, fhir.NotFound) {
				t.Errorf("by its id: %v", err)
			}
			deliver(t, d.n, "3", "p1", patientP("p1", sealedNumber, "Taylor", nil), fhir.New("Condition", "later", fhir.M{"subject": of, "code": fhir.Code(fhir.SystemSNOMED, "37796009", "")}))
			eventually(t, "nothing upward points to the plan", func() bool {
				return !slices.ContainsFunc(d.national.Pointers(sealedNumber), func(p nrl.Pointer) bool {
					return p.Custodian() == "QSV" && p.Text("type.coding.code") == "736253002"
				})
			})
		})
	}
}
