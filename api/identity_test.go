package api_test

import (
	"bytes"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tombolo/audit"
	"tombolo/connector"
	"tombolo/fhir"
	"tombolo/mpi"
	"tombolo/region"
)

// askers opens a site where both systems may ask who people are, and each shares with the other.
func askers(t testing.TB) *site {
	return openWith(t, func(r *region.Region) {
		for i := range r.Systems {
			r.Systems[i].Options = map[string]string{"pdq": "yes"}
		}
		r.Agreements = []region.Agreement{{ID: "both", Parties: []string{"RX1", "RX2"}, Purposes: []string{"direct-care", "administration"}, AllHeadings: true}}
		r.Users = append(r.Users, region.User{ID: "citizen", Name: "A Citizen", Role: "citizen", TokenSHA256: digest("citizen")},
			region.User{ID: "desk", Name: "Reception", Role: "receptionist", Organisation: "RX1", TokenSHA256: digest("desk")},
			region.User{ID: "steward", Name: "Steward", Role: "steward", Organisation: "RX1", TokenSHA256: digest("steward")})
	})
}

const number = "9990000107"

func registration(mrn, more string) string {
	system := "urn:mrn:epr"
	if strings.HasPrefix(mrn, "B") {
		system = "urn:mrn:other"
	}
	return fmt.Sprintf(`{"resourceType":"Patient","active":true,"identifier":[{"system":%q,"value":%q},{"system":%q,"value":%q}],"name":[{"family":"Taylor","given":["Margaret"]}],`+
		`"birthDate":"1948-03-12","gender":"female","address":[{"line":["7 Mill Lane"],"city":"Severnbridge","postalCode":"GL99 3AB"}],"telecom":[{"system":"phone","value":"01632 960123"}]%s}`,
		fhir.SystemNHSNumber, number, system, mrn, more)
}

func (s *site) registers(token, body string) string {
	s.t.Helper()
	return s.as(token, "POST", "Patient", body).want(s.t, 201).text(s.t, "id")
}

func asked(patient, more string) string {
	return `{"resourceType":"Parameters","parameter":[{"name":"resource","resource":` + patient + `}` + more + `]}`
}

const maggie = `{"resourceType":"Patient","name":[{"family":"Taylor","given":["Margaret"]}],"birthDate":"1948-03-12","gender":"female","address":[{"postalCode":"GL99 3AB"}]}`

func grades(t *testing.T, a answer) string {
	t.Helper()
	var out []string
	for e := range a.value(t).All("entry") {
		for x := range e.All("search.extension") {
			if strings.HasSuffix(x.Text("url"), "/match-grade") {
				out = append(out, x.Text("valueCode"))
			}
		}
	}
	return strings.Join(out, " ")
}

func TestWhoIsDescribedIsMatchedWithAScoreAGradeAndTheReasons(t *testing.T) {
	s := askers(t)
	own := s.registers("epr", registration("A1", ""))
	s.registers("other", registration("B1", ""))
	a := s.do("POST", "Patient/$match", asked(maggie, "")).want(t, 200)
	v := a.value(t)
	if v.Text("total") != "1" || grades(t, a) != "certain" || v.Text("entry.search.score") < "0.9" || v.Text("entry.search.mode") != "match" {
		t.Fatalf("the answer is %s", a.body)
	}
	if got := v.Text("entry.resource.link.other.reference"); got != "Patient/"+own {
		t.Errorf("the system's own entry about her is %q, want %q", got, own)
	}
	body := string(a.body)
	for _, want := range []string{"birth date same (+", "given name same (+", "B1", number} {
		if !strings.Contains(body, want) {
			t.Errorf("the answer does not say %q", want)
		}
	}
	if b := s.do("POST", "Patient/$match", maggie).want(t, 200); !bytes.Equal(a.body, b.body) {
		t.Errorf("a Patient by itself means something else:\n%s\n%s", a.body, b.body)
	}
	// A probable match is none to whom only certainty helps. ITI-119 cases 3 and 4.
	unsure := strings.Replace(maggie, "1948-03-12", "1948-12-03", 1)
	if got := grades(t, s.do("POST", "Patient/$match", asked(unsure, "")).want(t, 200)); got == "" || got == "certain" {
		t.Errorf("with day and month changed about, the match is %q", got)
	}
	if got := s.do("POST", "Patient/$match", asked(unsure, `,{"name":"onlyCertainMatches","valueBoolean":true}`)).want(t, 200).text(t, "total"); got != "0" {
		t.Errorf("of certain matches only there are %s", got)
	}
	for name, body := range map[string]string{"too little said": asked(`{"resourceType":"Patient","gender":"female"}`, ""), "nobody": `{"resourceType":"Parameters"}`,
		"two": asked(maggie, `,{"name":"resource","resource":`+maggie+`}`), "a bad count": asked(maggie, `,{"name":"count","valueInteger":0}`), "something else": asked(maggie, `,{"name":"x"}`)} {
		if a := s.do("POST", "Patient/$match", body); a.StatusCode != 400 {
			t.Errorf("%s: %d %s", name, a.StatusCode, a.body)
		}
	}
	s.do("GET", "Patient/$match", nil).want(t, 405)
	s.as("citizen", "POST", "Patient/$match", asked(maggie, "")).want(t, 403)
	for _, who := range []string{"doctor", "desk", "steward"} {
		if got := s.as(who, "POST", "Patient/$match", asked(maggie, "")).want(t, 200).text(t, "total"); got != "1" {
			t.Errorf("%s is told of %s", who, got)
		}
	}
}

func TestACountedMatchGivesTheLikeliest(t *testing.T) {
	s := askers(t)
	for i, born := range []string{"1948-03-12", "1948-03-21", "1948-12-03"} {
		n := strings.Replace(registration(fmt.Sprint("A", i), ""), number, []string{number, "9990000212", "9990000220"}[i], 1)
		s.registers("epr", strings.Replace(n, "1948-03-12", born, 1))
	}
	all := s.do("POST", "Patient/$match", asked(maggie, "")).want(t, 200)
	one := s.do("POST", "Patient/$match", asked(maggie, `,{"name":"count","valueInteger":1}`)).want(t, 200)
	if all.text(t, "total") < "2" || one.text(t, "total") != "1" || one.text(t, "entry.resource.birthDate") != "1948-03-12" {
		t.Errorf("all: %s\none: %s", all.body, one.body)
	}
	last := 1.0
	for e := range all.value(t).All("entry") {
		var score float64
		if _, err := fmt.Sscan(string(e.Get("search.score").Raw()), &score); err != nil || score > last {
			t.Errorf("a score of %v after %v (%v)", score, last, err)
		}
		last = score
	}
}

// Who may not be told of is answered as who is not known: same status, same headers, same body.
func TestWhoMayNotBeToldOfIsUnknown(t *testing.T) {
	s := openWith(t, func(r *region.Region) { r.Systems[0].Options = map[string]string{"pdq": "yes"} }) // and nothing is agreed
	s.registers("other", registration("B1", ""))
	nobody := openWith(t, func(r *region.Region) { r.Systems[0].Options = map[string]string{"pdq": "yes"} })
	ask := func(s *site, method, path string, body any, headers ...string) string {
		a := s.do(method, path, body, headers...)
		return strings.ReplaceAll(fmt.Sprint(a.StatusCode, a.Header.Get("Content-Type"), string(a.body)), s.url[:len(s.url)-len("/fhir")], "")
	}
	base := func(s *site) string { return strings.TrimSuffix(s.url, "/fhir") + "/identity/" }
	for _, q := range []struct {
		method, path string
		body         any
		header       string
	}{
		{"POST", "Patient/$match", asked(maggie, ""), "Accept: application/fhir+json"},
		{"POST", "Patient/_search", "family=Taylor&birthdate=1948-03-12", "Content-Type: application/x-www-form-urlencoded"},
		{"POST", "Patient/_search", "identifier=" + number, "Content-Type: application/x-www-form-urlencoded"},
		{"GET", "Patient/$ihe-pix?sourceIdentifier=" + url.QueryEscape(fhir.SystemNHSNumber+"|"+number), nil, "Accept: application/fhir+json"},
		{"GET", "Patient/nobody", nil, "Accept: application/fhir+json"},
	} {
		if got, want := ask(s, q.method, base(s)+q.path, q.body, q.header), ask(nobody, q.method, base(nobody)+q.path, q.body, q.header); got != want {
			t.Errorf("%s %s:\n got  %s\n want %s", q.method, q.path, got, want)
		}
	}
	denied := 0
	for e, err := range s.audit.All(t.Context(), 0, 0) {
		must(t, err)
		sum, err := e.Summary()
		must(t, err)
		if sum.Kind == audit.Search && sum.Outcome == audit.Minor && e.PersonID != "" {
			denied++
		}
	}
	if denied < 4 {
		t.Errorf("%d of the questions stand in the log of the person who was kept from the asker", denied)
	}
	s.as("other", "POST", "Patient/$match", asked(maggie, "")).want(t, 403) // the region file does not let it ask
}

// Where a restricted person lives is neither told nor confirmed to whoever guesses, and the number of the hospital that treats them is not given to others.
func TestARestrictedPersonsPlaceIsNeitherToldNorConfirmed(t *testing.T) {
	s := askers(t)
	s.registers("epr", registration("A1", ""))
	s.registers("other", registration("B1", `,"meta":{"security":[{"system":"http://terminology.hl7.org/CodeSystem/v3-Confidentiality","code":"R"}]}`))
	there, elsewhere := asked(maggie, ""), asked(strings.Replace(maggie, "GL99 3AB", "ZZ1 1ZZ", 1), "")
	a, b := s.do("POST", "Patient/$match", there).want(t, 200), s.do("POST", "Patient/$match", elsewhere).want(t, 200)
	if !bytes.Equal(a.body, b.body) || a.text(t, "total") != "1" {
		t.Errorf("a guessed postcode makes a difference:\n%s\n%s", a.body, b.body)
	}
	for _, secret := range []string{"Mill Lane", "GL99", "960123", "B1", "postcode"} {
		if bytes.Contains(a.body, []byte(secret)) {
			t.Errorf("%s is told: %s", secret, a.body)
		}
	}
	onlyPlace := asked(`{"resourceType":"Patient","name":[{"family":"Tayler","given":["Peggy"]}],"address":[{"line":["7 Mill Lane"],"postalCode":"GL99 3AB"}],"telecom":[{"system":"phone","value":"01632 960123"}]}`, "")
	if got := s.do("POST", "Patient/$match", onlyPlace).want(t, 200).text(t, "total"); got != "0" {
		t.Errorf("found by where she lives: %s", got)
	}
	for _, q := range []string{"family=Taylor&address-postalcode=GL99", "telecom=01632+960123"} {
		if got := s.do("POST", s.identity("Patient/_search"), q, form).want(t, 200).text(t, "total"); got != "0" {
			t.Errorf("PDQm %s finds %s", q, got)
		}
	}
	if got := string(s.do("GET", s.identity("Patient/$ihe-pix?sourceIdentifier=urn:mrn:epr|A1"), nil).want(t, 200).body); strings.Contains(got, "B1") || !strings.Contains(got, number) {
		t.Errorf("PIXm tells %s", got)
	}
}

const form = "Content-Type: application/x-www-form-urlencoded"

func (s *site) identity(path string) string {
	return strings.TrimSuffix(s.url, "/fhir") + "/identity/" + path
}

func TestPDQmFindsByEachParameterAndTellsWhichIdentifiersAreWanted(t *testing.T) {
	s := askers(t)
	s.registers("epr", registration("A1", `,"extension":[{"url":"http://hl7.org/fhir/StructureDefinition/patient-mothersMaidenName","valueString":"Doe"}]`))
	s.registers("other", registration("B1", ""))
	s.registers("other", `{"resourceType":"Patient","identifier":[{"system":"urn:mrn:other","value":"B2"}],"name":[{"family":"Okafor","given":["George"]}],"birthDate":"1955-07-30","gender":"male"}`)
	nhs := fhir.SystemNHSNumber + "|" + number
	for q, want := range map[string]string{
		"family=taylor": "1", "family=Taylor&gender=female": "1", "family=Taylor&gender=male": "0", "birthdate=1948-03-12&family=TAYLOR": "1", "given=Marg&family=Tay": "1",
		"family:exact=taylor": "0", "family:exact=Taylor": "1", "identifier=" + url.QueryEscape(nhs): "1", "identifier=urn:mrn:other|B1": "1",
		"identifier=" + url.QueryEscape(nhs) + "&identifier=urn:mrn:epr|A1": "1", "identifier=" + url.QueryEscape(nhs) + "&identifier=urn:mrn:other|B2": "0",
		"identifier=urn:mrn:other|B1,urn:mrn:other|B2": "2", "telecom=01632+960123": "1", "address=7+Mill": "1", "address-city=severn": "1", "address-postalcode=GL99": "1",
		"family=Taylor&active=true": "1", "family=Taylor&active=false": "0", "family=Taylor&mothersMaidenName=doe": "1", "family=Taylor&mothersMaidenName=roe": "0",
		"birthdate=ge1948&birthdate=le1950": "1", "family=Nobody": "0", "family=Taylor&unheard-of=1": "1", "birthdate=1955-07-30": "1",
	} {
		for _, a := range []answer{s.do("GET", s.identity("Patient?"+q), nil), s.do("POST", s.identity("Patient/_search"), q, form)} {
			if a.StatusCode != 200 || a.text(t, "total") != want {
				t.Errorf("%s %s: %d %.300s, want %s", a.Request.Method, q, a.StatusCode, a.body, want)
			}
			for l := range a.value(t).All("link") {
				if strings.Contains(l.Text("url"), number) {
					t.Errorf("%s: a link with the number: %s", q, l.Text("url"))
				}
			}
		}
	}
	a := s.do("GET", s.identity("Patient?family=Taylor&identifier=urn:mrn:epr|"), nil).want(t, 200)
	if body := string(a.body); !strings.Contains(body, "A1") || strings.Contains(body, number) || strings.Contains(body, "B1") {
		t.Errorf("identifiers of one domain were wanted: %s", body)
	}
	id := a.text(t, "entry.resource.id")
	if got := s.do("GET", s.identity("Patient/"+id), nil).want(t, 200).text(t, "name.family"); got != "Taylor" {
		t.Errorf("read again she is %q", got)
	}
	if got := s.do("GET", s.identity("Patient?_id="+id), nil).want(t, 200).text(t, "total"); got != "1" {
		t.Errorf("by _id: %s", got)
	}
	const unknown = `{"resourceType":"OperationOutcome","issue":[{"code":"not-found","diagnostics":"targetSystem not found","severity":"warning"}]}`
	if a := s.do("GET", s.identity("Patient?family=Taylor&identifier=urn:nobodys|"), nil).want(t, 404); string(a.body) != unknown {
		t.Errorf("case 4: %s", a.body)
	}
	s.do("GET", s.identity("Patient?gender=female"), nil).want(t, 400)
	s.do("GET", s.identity("Patient"), nil).want(t, 400)
	s.do("GET", s.identity("Patient?family=Taylor&x=1"), nil, "Prefer: handling=strict").want(t, 400)
	s.do("GET", s.identity("Patient?family=Taylor&_format=text/csv"), nil).want(t, 406)
	if a := s.do("GET", s.identity("Patient?family=Taylor"), nil, "Accept: application/fhir+xml").want(t, 200); !bytes.Contains(a.body, []byte("<Bundle")) {
		t.Errorf("as XML: %.100s", a.body)
	}
	if v := s.do("GET", s.identity("metadata"), nil).want(t, 200).value(t); v.Text("resourceType") != "CapabilityStatement" {
		t.Error("no capability statement")
	}
}

func TestPIXmGivesOtherIdentifiersAndEachDocumentedFailure(t *testing.T) {
	s := askers(t)
	s.registers("epr", registration("A1", ""))
	s.registers("other", registration("B1", ""))
	outcome := func(code, text string) string {
		return `{"resourceType":"OperationOutcome","issue":[{"code":"` + code + `","diagnostics":"` + text + `","severity":"error"}]}`
	}
	for _, c := range []struct {
		name, query string
		status      int
		want        string
	}{
		{"one domain", "sourceIdentifier=urn:mrn:epr|A1&targetSystem=urn:mrn:other", 200, `{"resourceType":"Parameters","parameter":[{"name":"targetIdentifier","valueIdentifier":{"system":"urn:mrn:other","value":"B1"}}]}`},
		{"source identifier not found", "sourceIdentifier=urn:mrn:epr|A9", 404, outcome("not-found", "sourceIdentifier Patient Identifier not found")},
		{"source domain not recognised", "sourceIdentifier=urn:nobodys|1", 400, outcome("code-invalid", "sourceIdentifier Assigning Authority not found")},
		{"target domain not recognised", "sourceIdentifier=urn:mrn:epr|A1&targetSystem=urn:nobodys", 403, outcome("code-invalid", "targetSystem not found")},
	} {
		for _, path := range []string{s.identity("Patient/$ihe-pix"), "Patient/$ihe-pix"} {
			for _, a := range []answer{s.do("GET", path+"?"+c.query, nil), s.do("POST", path, c.query, form)} {
				if a.StatusCode != c.status || string(a.body) != c.want {
					t.Errorf("%s: %d %s\nwant %d %s", c.name, a.StatusCode, a.body, c.status, c.want)
				}
			}
		}
	}
	all := s.do("GET", "Patient/$ihe-pix?sourceIdentifier=urn:mrn:epr|A1", nil).want(t, 200)
	id := strings.TrimPrefix(all.text(t, "parameter.valueReference.reference"), "Patient/")
	for p := range all.value(t).All("parameter") {
		if p.Text("name") == "targetId" {
			id = strings.TrimPrefix(p.Text("valueReference.reference"), "Patient/")
		}
		if p.Text("valueIdentifier.value") == "A1" {
			t.Error("the source identifier is among the answers")
		}
	}
	if back := s.do("GET", "Patient/$ihe-pix?sourceIdentifier="+url.QueryEscape(s.url+"|Patient/"+id), nil).want(t, 200); !bytes.Contains(back.body, []byte("A1")) || !bytes.Contains(back.body, []byte("B1")) {
		t.Errorf("by the id of the Patient here: %s", back.body)
	}
	s.do("GET", "Patient/$ihe-pix", nil).want(t, 400)
}

// The profiles' own samples are asked and answered in their shape.
func TestTheSamplesOfPDQmAndPIXmAreAnswered(t *testing.T) {
	dir := filepath.Join("..", "..", "shared", "data", "12-consent-audit-exchange")
	if _, err := os.Stat(dir); err != nil {
		t.Skip("the samples are not here: ", err)
	}
	sample := func(name string) []byte {
		data, err := os.ReadFile(filepath.Join(dir, name))
		must(t, err)
		return data
	}
	s := askers(t)
	s.registers("epr", string(sample("ihe-pdqm/Patient-ex-patient.json")))
	for _, name := range []string{"count", "onlyCertainMatches", "patient-only"} {
		a := s.do("POST", s.identity("Patient/$match"), sample("ihe-pdqm/Parameters-ex-match-input-"+name+".json")).want(t, 200)
		if a.text(t, "total") != "1" && name != "onlyCertainMatches" {
			t.Errorf("%s: %s", name, a.body)
		}
	}
	var alice []string
	for _, p := range []string{"Patient-MohrAlice-Red", "Patient-MohrAlice-Blue", "Patient-MohrAlice-Green"} {
		alice = append(alice, s.registers("epr", string(sample("ihe-pixm/"+p+".json"))))
	}
	s.joins(alice[0], alice[1])
	s.joins(alice[0], alice[2])
	for name, want := range map[string][]string{"all": {"IHEBLUE-994", "IHEGREEN-994"}, "to-blue": {"IHEBLUE-994"}} {
		a := s.do("POST", s.identity("Patient/$ihe-pix"), sample("ihe-pixm/pixm-request-mohralice-red-"+name+".xml"), "Content-Type: application/fhir+xml").want(t, 200)
		for _, w := range want {
			if !bytes.Contains(a.body, []byte(w)) {
				t.Errorf("%s: %s is missing in %s", name, w, a.body)
			}
		}
	}
}

// joins has a steward say that two patients are the same.
func (s *site) joins(a, b string) {
	s.t.Helper()
	say := mpi.Saying{A: min(a, b), B: max(a, b), Same: true, Reason: "known to be", By: "steward"}
	_, err := s.in.Accept(s.t.Context(), connector.Delivery{Source: connector.Own, ID: a + b, Received: time.Now(), ContentType: "application/json", Raw: say.Resource(false).Raw(),
		Content: []*fhir.Resource{say.Resource(false)}, Map: "steward/1"})
	must(s.t, err)
}

// Neither what is logged nor what is audited as the request holds a number, however it was asked.
func TestNoNumberIsLoggedHoweverItIsAsked(t *testing.T) {
	s := askers(t)
	s.registers("epr", registration("A1", ""))
	nhs := url.QueryEscape(fhir.SystemNHSNumber + "|" + number)
	s.do("GET", s.identity("Patient?identifier="+nhs), nil).want(t, 200)
	s.do("GET", s.identity("Patient/$ihe-pix?sourceIdentifier="+nhs), nil).want(t, 200)
	s.do("GET", s.identity("Patient?identifier="+nhs+"&birthdate=x"), nil).want(t, 400)
	s.do("POST", s.identity("Patient/$match"), asked(strings.Replace(maggie, `"name"`, `"identifier":[{"system":"`+fhir.SystemNHSNumber+`","value":"`+number+`"}],"name"`, 1), "")).want(t, 200)
	for e, err := range s.audit.All(t.Context(), 0, 0) {
		must(t, err)
		sum, err := e.Summary()
		must(t, err)
		if strings.Contains(sum.Query+strings.Join(sum.What, " "), number) {
			t.Errorf("the audit log has the number in the request: %q %q", sum.Query, sum.What)
		}
	}
	if bytes.Contains(s.logged.Bytes(), []byte(number)) {
		t.Errorf("logged: %s", s.logged)
	}
}

// What names no patient may tell of one all the same, or of how a system is reached: nobody reads it by its id but the system whose it is. An organisation is anybody's.
func TestWhatNamesNoPatientIsNobodyElses(t *testing.T) {
	s := openWith(t, func(r *region.Region) {
		r.Agreements = []region.Agreement{{ID: "all", Parties: []string{"RX1", "RX2"}, Purposes: []string{"direct-care"}, AllHeadings: true}}
		r.Systems[0].Options = map[string]string{"notify": "https://app.example"}
	})
	for _, body := range []string{
		`{"resourceType":"Binary","id":"x","contentType":"text/plain","data":"bGV0dGVy"}`,
		`{"resourceType":"Bundle","id":"x","type":"collection"}`,
		`{"resourceType":"Basic","id":"x","code":{"text":"note"}}`,
		`{"resourceType":"Subscription","id":"x","status":"requested","reason":"x","criteria":"Observation","channel":{"type":"rest-hook","endpoint":"https://app.example/","header":["Authorization: Bearer secret"]}}`,
		`{"resourceType":"Organization","id":"x","name":"The Trust"}`,
	} {
		typ := strings.Split(body, `"`)[3]
		s.do("PUT", typ+"/x", body).want(t, 201)
		want := 404
		if typ == "Organization" {
			want = 200
		}
		if a := s.as("doctor", "GET", typ+"/x", nil); a.StatusCode != want {
			t.Errorf("a doctor reads %s: %d, want %d: %s", typ, a.StatusCode, want, a.body)
		}
	}
}
