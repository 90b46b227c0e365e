package node_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tombolo/connector/nrl"
	"tombolo/fhir"
	"tombolo/gather"
	"tombolo/locator"
	"tombolo/node"
	"tombolo/pki"
	"tombolo/pki/pkitest"
	"tombolo/sim"
	"tombolo/sim/national"
)

// whereabouts is a region in which somebody's practice, ward and address are known, and told of upward.
const whereabouts = `
region: {id: north, name: North Shared Care Record}
organisations:
  - {ods: RX1, name: North Acute Trust, kind: acute}
  - {ods: M85077, name: Secret Lane Surgery, kind: gp}
  - {ods: RYA, name: North Ambulance, kind: ambulance}
  - {ods: QSV, name: North Integrated Care Board, kind: other}
  - {ods: X26, name: NHS England, kind: other}
systems:
  - {id: pas, organisation: RX1, connector: api, gives: {demographics: push, gp-practice: push, encounters: push, problems: push, personal-contacts: push, appointments: push}}
  - {id: m85077-gp, organisation: M85077, connector: api, gives: {demographics: push, problems: push}}
  - {id: epr, organisation: RX1, connector: consumer, certificate: epr.rx1.example, role: hospital-doctor, asid: "200000000115", issuer: "https://epr.rx1.example"}
  - {id: cad, organisation: RYA, connector: consumer, certificate: cad.example, role: paramedic}
  - {id: cad-feed, organisation: RYA, connector: hl7v2, listen: "%s", options: {pdq: "yes", processing: PT}, gives: {}}
gpconnect: {organisation: RX1, asid: "200000000116"}
locator:
  applications:
    - {application: cad, organisation: RYA, consumes: all}
  national:
    - id: nrl
      address: "%s"
      token: NRL_TOKEN
      as: QSV
      organisation: X26
      asks: true
      publishes:
        - {type: "887181000000106", url: "https://record.north.example/launch/nrl/{pointer}", mechanism: InContext}
agreements:
  - {id: care, parties: [RX1, M85077, RYA, QSV, X26], purposes: [direct-care], headings: all, from: 2020-04-01}
users:
  - {id: medic, name: A Paramedic, role: paramedic, organisation: RYA, token_sha256: "%s"}
`

func tokenHash(token string) string {
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:])
}

// Once a source says that where somebody is must not be known (U to R), no face says it any more, within the minute that national guidance gives: not the pages, not the
// API's answers in any of its forms, not the locator above. Before, each of them did: otherwise nothing would be shown by this.
func TestNobodysWhereaboutsAreLeftAfterTheyAreRestricted(t *testing.T) {
	l := national.New(national.Options{Token: "secret"})
	server := httptest.NewServer(l)
	t.Cleanup(server.Close)
	addr, release, err := sim.ReserveAddress()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(release)
	d := &door{ca: pkitest.New(t, t.TempDir(), "authority", time.Now())}
	own := d.ca.Issue("north.example", nil)
	n := run(t, node.Config{Region: regionOf(t, whereabouts, addr, server.URL, tokenHash("medic-token")), Data: t.TempDir(), Listen: "127.0.0.1:0", Systems: "127.0.0.1:0", Feeds: true,
		TLS: pki.Files{Cert: own.CertFile, Key: own.KeyFile, CA: filepath.Join(d.ca.Dir, "authority.pem")}, Secret: func(string) string { return "secret" }})
	d.n, d.root = n, "https://"+n.SystemsAddr()+"/RX1/STU3/1/gpconnect/structured/fhir"
	browser, epr, cad := d.client(t, pkitest.Pair{}), d.client(t, d.ca.Issue("epr.rx1.example", nil)), d.client(t, d.ca.Issue("cad.example", nil))
	const ann = "9990000107"
	places := []string{"17 Secret Lane", "Hidinham", "ZZ9 7QQ", "Secret Lane Surgery", "M85077", "Ward Concealed", "0160 555 7777", "plan.m85077.example"}
	person := func(label string) {
		meta := fhir.M{"security": []fhir.Coding{{System: fhir.SystemConfidentiality, Code: label}}}
		more := fhir.M{"meta": meta, "identifier": []fhir.Identifier{{System: fhir.SystemNHSNumber, Value: ann}, {System: "https://rx1.example/Id/mrn", Value: "RX1-7001"}}, "address": []fhir.Address{{Line: []string{"17 Secret Lane"}, City: "Hidinham", PostalCode: "ZZ9 7QQ"}}, "telecom": []fhir.ContactPoint{{System: "phone", Value: "0160 555 7777"}},
			"generalPractitioner": []fhir.Reference{{Identifier: &fhir.Identifier{System: fhir.SystemODS, Value: "M85077"}, Display: "Secret Lane Surgery"}}}
		deliver(t, n, "pas "+label, "p1", patientP("p1", ann, "Taylor", more),
			fhir.New("Location", "ward", fhir.M{"name": "Ward Concealed"}),
			fhir.New("Encounter", "e1", fhir.M{"status": "in-progress", "class": fhir.Coding{Code: "IMP"}, "subject": fhir.Reference{Reference: "Patient/p1"},
				"location": []fhir.M{{"location": fhir.Reference{Reference: "Location/ward", Display: "Ward Concealed"}}}}),
			fhir.New("Condition", "c1", fhir.M{"subject": fhir.Reference{Reference: "Patient/p1"}, "code": fhir.Code(fhir.SystemSNOMED, "195967001", "Asthma")}))
	}
	person("U")
	id := personOf(t, n, ann)
	plan := nrl.Form{Custodian: "M85077", URL: "https://plan.m85077.example/1", Mechanism: nrl.Direct, Setting: fhir.Coding{System: fhir.SystemSNOMED, Code: "788002001", Display: "Adult mental health service"}}
	plan.Type, _ = nrl.TypeNamed("736253002")
	p := nrl.Pointer{Resource: plan.Make(ann, "plan").With("id", "RX1-plan")}
	if err := n.Registry.Create(t.Context(), locator.Registered{ID: p.ID(), Application: "cad", Subject: ann, Custodian: "M85077", Type: p.Type(), Category: p.Category(), Doc: p.Raw()}); err != nil {
		t.Fatal(err)
	}
	s, err := n.Access.As("medic")
	if err != nil {
		t.Fatal(err)
	}
	ask := func(method, path, body string) string {
		req, err := http.NewRequestWithContext(t.Context(), method, "https://"+n.Addr()+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer medic-token")
		if body != "" {
			req.Header.Set("Content-Type", "application/fhir+json")
		}
		if strings.HasPrefix(body, "family=") {
			req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		}
		resp, err := browser.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		data, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != 200 {
			t.Fatalf("%s: %d %s (%v)", path, resp.StatusCode, data, err)
		}
		return string(data)
	}
	faces := map[string]func() string{
		"the record's page": func() string { return ask("GET", "/record/"+id, "") },
		"Patient":           func() string { return ask("GET", "/fhir/Patient/"+id, "") },
		"$everything":       func() string { return ask("GET", "/fhir/Patient/"+id+"/$everything", "") },
		"$everything, XML":  func() string { return ask("GET", "/fhir/Patient/"+id+"/$everything?_format=xml", "") },
		"$gather": func() string {
			return ask("POST", "/fhir/$gather", `{"resourceType":"Parameters","parameter":[{"name":"identifier","valueIdentifier":{"system":"https://fhir.nhs.uk/Id/nhs-number","value":"`+ann+`"}}]}`)
		},
		"a search":    func() string { return ask("GET", "/fhir/Encounter?patient="+id, "") },
		"$summary":    func() string { return ask("GET", "/fhir/Patient/"+id+"/$summary", "") },
		"PDQm":        func() string { return ask("POST", "/identity/Patient/_search", "family=Taylor&birthdate=1948-03-12") },
		"PDQm, by id": func() string { return ask("GET", "/identity/Patient/"+id, "") },
		"$match": func() string {
			return ask("POST", "/identity/Patient/$match", `{"resourceType":"Patient","name":[{"family":"Taylor","given":["Ann"]}],"birthDate":"1948-03-12","identifier":[{"system":"https://fhir.nhs.uk/Id/nhs-number","value":"`+ann+`"}]}`)
		},
		"PIXm": func() string { // her number at the hospital says where she is treated
			return ask("POST", "/identity/Patient/$ihe-pix", `{"resourceType":"Parameters","parameter":[{"name":"sourceIdentifier","valueString":"https://fhir.nhs.uk/Id/nhs-number|`+ann+`"}]}`)
		},
		"PDQ over HL7 v2": func() string { return asking(t, addr, query("@PID.3.1^"+ann+"~@PID.7^19480312")) },
		"GP Connect": func() string {
			status, body, err := gpcRequest{nhs: ann, from: "200000000115"}.send(t, epr, d.root)
			if err != nil || status != 200 {
				t.Fatalf("GP Connect: %d %s (%v)", status, body, err)
			}
			return body
		},
		"the region's own locator": func() string {
			door := &locatorDoor{n: n, ca: d.ca, clients: map[string]*http.Client{"cad.example": cad}}
			status, _, body := door.ask(t, nrlAsk{as: "cad.example", side: "consumer", method: "POST", path: "/DocumentReference/_search", ods: "RYA", body: `{"subject:identifier":"https://fhir.nhs.uk/Id/nhs-number|` + ann + `"}`})
			if status != 200 {
				t.Fatal(status, body)
			}
			return body
		},
		"an export": func() string {
			var b bytes.Buffer
			x := node.Export{Reason: "she asked", Raw: true, Write: func(r *fhir.Resource) error {
				b.Write(r.Raw())
				if data, err := fhir.DecodeBase64(r.Text("data")); err == nil {
					b.Write(data)
				}
				return nil
			}}
			if _, err := n.ExportPerson(t.Context(), x, id); err != nil {
				t.Fatal(err)
			}
			return b.String()
		},
		"what is gathered": func() string {
			rec, err := n.Gather.Record(t.Context(), s, id, gather.Ask{})
			if err != nil {
				t.Fatal(err)
			}
			var b bytes.Buffer
			fmt.Fprintf(&b, "%+v", rec.Person)
			for _, l := range rec.Lanes {
				fmt.Fprintf(&b, "%s %s %s", l.Source, l.Name, l.Organisation)
			}
			for _, sec := range rec.Sections {
				for _, e := range sec.Entries {
					b.Write(e.Lead.Raw())
				}
			}
			for _, r := range rec.Supporting {
				b.Write(r.Raw())
			}
			return b.String()
		},
	}
	tells := func(text string) (out []string) {
		for _, p := range places {
			if strings.Contains(text, p) {
				out = append(out, p)
			}
		}
		return out
	}
	numbered := map[string]bool{"PIXm": true, "$match": true, "PDQm": true, "PDQm, by id": true, "PDQ over HL7 v2": true} // where a hospital's own number of her says that she is treated there
	left := func(face, text string) []string {
		if numbered[face] && strings.Contains(text, "RX1-7001") {
			return append(tells(text), "RX1-7001")
		}
		return tells(text)
	}
	eventually(t, "registered above", func() bool { return len(l.Pointers(ann)) == 1 })
	for face, of := range faces {
		if len(left(face, of())) == 0 {
			t.Errorf("%s told of no place before: it proves nothing", face)
		}
	}
	person("R")
	eventually(t, "no longer registered above", func() bool { return len(l.Pointers("")) == 0 })
	for face, of := range faces {
		var what []string
		for start := time.Now(); ; time.Sleep(250 * time.Millisecond) {
			if what = left(face, of()); len(what) == 0 || time.Since(start) > 20*time.Second {
				break
			}
		}
		if len(what) > 0 {
			t.Errorf("%s still tells of %v", face, what)
		}
	}
	rec, err := n.Gather.Record(t.Context(), s, id, gather.Ask{})
	if err != nil || rec.Person.Address != nil || rec.Person.Phone != "" || !rec.Person.Restricted {
		t.Errorf("the person: %v (%v)", rec.Person.Restricted, err)
	}
	// What was shown of it is kept for the audit alone: no entry names a place outside what it kept of the views.
	for e, err := range n.Audit.All(t.Context(), 0, 0) {
		if err != nil {
			t.Fatal(err)
		}
		sum, err := e.Summary()
		if err != nil {
			t.Fatal(err)
		}
		if what := tells(string(e.Body) + strings.Join(sum.What, " ") + sum.Query); len(what) > 0 {
			t.Errorf("the audit log tells of %v: %s", what, sum.What)
		}
	}
	desk, err := n.Desk(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if text, _ := json.Marshal(desk.Locators); len(tells(string(text))) > 0 {
		t.Errorf("the desk: %s", text)
	}
}
