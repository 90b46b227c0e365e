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
	"strings"
	"testing"

	"tombolo/fhir"
	"tombolo/gather"
	"tombolo/node"
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
locator:
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
	n := run(t, node.Config{Region: regionOf(t, whereabouts, server.URL, tokenHash("medic-token")), Data: t.TempDir(), Listen: "127.0.0.1:0",
		Secret: func(string) string { return "secret" }})
	const ann = "9990000107"
	places := []string{"17 Secret Lane", "Hidinham", "ZZ9 7QQ", "Secret Lane Surgery", "M85077", "Ward Concealed", "0160 555 7777"}
	person := func(label string) {
		meta := fhir.M{"security": []fhir.Coding{{System: fhir.SystemConfidentiality, Code: label}}}
		more := fhir.M{"meta": meta, "address": []fhir.Address{{Line: []string{"17 Secret Lane"}, City: "Hidinham", PostalCode: "ZZ9 7QQ"}}, "telecom": []fhir.ContactPoint{{System: "phone", Value: "0160 555 7777"}},
			"generalPractitioner": []fhir.Reference{{Identifier: &fhir.Identifier{System: fhir.SystemODS, Value: "M85077"}, Display: "Secret Lane Surgery"}}}
		deliver(t, n, "pas "+label, "p1", patientP("p1", ann, "Taylor", more),
			fhir.New("Location", "ward", fhir.M{"name": "Ward Concealed"}),
			fhir.New("Encounter", "e1", fhir.M{"status": "in-progress", "class": fhir.Coding{Code: "IMP"}, "subject": fhir.Reference{Reference: "Patient/p1"},
				"location": []fhir.M{{"location": fhir.Reference{Reference: "Location/ward", Display: "Ward Concealed"}}}}),
			fhir.New("Condition", "c1", fhir.M{"subject": fhir.Reference{Reference: "Patient/p1"}, "code": fhir.Code(fhir.SystemSNOMED, "195967001", "Asthma")}))
	}
	person("U")
	id := personOf(t, n, ann)
	s, err := n.Access.As("medic")
	if err != nil {
		t.Fatal(err)
	}
	ask := func(method, path, body string) string {
		req, err := http.NewRequestWithContext(t.Context(), method, "http://"+n.Addr()+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer medic-token")
		if body != "" {
			req.Header.Set("Content-Type", "application/fhir+json")
		}
		resp, err := http.DefaultClient.Do(req)
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
		"a search": func() string { return ask("GET", "/fhir/Encounter?patient="+id, "") },
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
	eventually(t, "registered above", func() bool { return len(l.Pointers(ann)) == 1 })
	for face, of := range faces {
		if len(tells(of())) == 0 {
			t.Errorf("%s told of no place before: it proves nothing", face)
		}
	}
	person("R")
	eventually(t, "no longer registered above", func() bool { return len(l.Pointers("")) == 0 })
	for face, of := range faces {
		eventually(t, face+" tells no place", func() bool { return len(tells(of())) == 0 })
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
		if what := tells(string(e.Body)); len(what) > 0 {
			t.Errorf("the audit log tells of %v: %s", what, e.Body)
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
