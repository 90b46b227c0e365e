package gathered_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"tombolo/access"
	face "tombolo/api/gpconnect"
	"tombolo/api/gpconnect/gathered"
	"tombolo/connector"
	"tombolo/connector/connectortest"
	"tombolo/connector/gpconnect"
	"tombolo/dataset"
	"tombolo/fhir"
	"tombolo/gather"
	"tombolo/sim/cast"
	"tombolo/sim/lookout"
	"tombolo/sim/practice"
)

func TestMain(m *testing.M) { os.Exit(lookout.Main(m)) }

var now = time.Date(2026, 4, 15, 10, 0, 0, 0, time.UTC)

func clock() time.Time { return now }

var doctor = connector.Requester{UserID: "u-17", UserName: "Dr Imogen Clarke", RoleName: "Hospital doctor", OrganisationODS: "RX1", OrgName: "Severn Acute Trust",
	Purpose: "TREAT", TraceID: "629ea9ba-a077-4d99-b289-7a9b19fd4e03"}

// A store gathers from a simulated practice in the way that gather does, with gather's own types: it is the face's Records in these tests.
type store struct {
	practice *gpconnect.Client
	refuse   string // NHS number of somebody whom the session may not see
	mu       sync.Mutex
	asked    []*access.Session
	down     bool // a second source that does not answer
	sharing  *gather.Record
	asking   func() // what happens while a record is being gathered
}

func (s *store) Record(ctx context.Context, session *access.Session, nhs fhir.NHSNumber, headings []dataset.Heading) (*gather.Record, error) {
	s.mu.Lock()
	s.asked = append(s.asked, session)
	s.mu.Unlock()
	if s.asking != nil {
		s.asking()
	}
	if s.sharing != nil {
		return s.sharing, nil
	}
	if nhs.Digits() == s.refuse {
		return nil, fhir.Errorf(fhir.NotFound, "no record was found that you can open")
	}
	a, err := s.practice.Ask(ctx, connector.Question{Identifiers: []fhir.Identifier{{System: fhir.SystemNHSNumber, Value: nhs.Digits()}}, Headings: headings, Requester: doctor})
	if err != nil {
		return nil, err
	}
	var name fhir.HumanName
	_ = a.Patient.Get("name").Decode(&name)
	rec := &gather.Record{At: now, Notice: gather.Notice, Supporting: map[fhir.Ref]*fhir.Resource{},
		Person: gather.Person{ID: "p1", NHSNumber: nhs, Name: name, BirthDate: a.Patient.Text("birthDate"), Gender: a.Patient.Text("gender"), Practice: "M85002", PracticeName: "Riverside"}}
	rec.Lanes = []gather.Lane{{Source: "m85002-gp", Name: "Riverside", State: gather.Answered, Warnings: a.Issues}}
	stamper := connector.Stamper{Key: []byte("k")}
	members := map[dataset.Heading][]gather.Member{}
	for _, r := range a.Content {
		st, err := stamper.Stamp("m85002-gp", r)
		if err != nil {
			return nil, err
		}
		switch h := dataset.HeadingOf(st); {
		case h == "", st.Type() == "Medication", st.Type() == "Specimen":
			rec.Supporting[st.Ref()] = st
		default:
			members[h] = append(members[h], gather.Member{Resource: st, Source: "m85002-gp", Name: "Riverside"})
		}
	}
	for _, h := range headings {
		sec := gather.Section{Heading: h, State: a.States[h]}
		for i, m := range members[h] { // as gather does: a medicine's name stands in its prescription
			if med := rec.Supporting[fhir.Ref(m.Resource.Text("medicationReference.reference"))]; med != nil {
				members[h][i].Resource = m.Resource.Without("medicationReference").With("medicationCodeableConcept", med.Concept("code"))
			}
		}
		sec.Entries = gather.Reconcile(h, members[h])
		if s.down {
			sec.Unknown = []string{"Severn Acute Trust"}
		}
		if sec.State == "" {
			sec.State = dataset.NotKnown
		}
		rec.Sections = append(rec.Sections, sec)
	}
	return rec, nil
}

func serve(t testing.TB, s *store) http.Handler {
	t.Helper()
	l := lookout.Over(t, lookout.Options{})
	if s.practice == nil {
		srv := httptest.NewServer(practice.New(practice.Options{Source: cast.GP2, People: cast.Dozen(now), Now: clock}))
		t.Cleanup(srv.Close)
		s.practice = watched(t, l, srv.URL)
	}
	h, err := face.New(face.Options{Now: clock, Admit: gathered.Admit(s, func(r *http.Request, who face.Caller) (*access.Session, error) {
		if r.Header.Get("X-Proven") == "no" {
			return nil, fhir.Errorf(fhir.Login, "not proven")
		}
		return &access.Session{User: who.UserID, Name: who.UserName, Organisation: who.OrganisationODS}, nil
	}, clock)})
	if err != nil {
		t.Fatal(err)
	}
	return l.Answers(h)
}

// client asks as another system does.
func client(t testing.TB, address string, maxBytes int64) *gpconnect.Client {
	t.Helper()
	return dialling(t, address, maxBytes, nil)
}

// watched asks a practice as whoever answers out of what it says does: under a lookout.
func watched(t testing.TB, l *lookout.Lookout, practice string) *gpconnect.Client {
	t.Helper()
	return dialling(t, practice, 0, &http.Client{Transport: l.Outward(http.DefaultTransport)})
}

func dialling(t testing.TB, address string, maxBytes int64, by *http.Client) *gpconnect.Client {
	t.Helper()
	c, err := gpconnect.New(gpconnect.Options{Source: "tombolo", Address: address, ASID: "200000000115", ToASID: "200000000116", MaxBytes: maxBytes, HTTP: by, Now: clock})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func person(key string) cast.Person {
	all := cast.Dozen(now)
	return all[slices.IndexFunc(all, func(p cast.Person) bool { return p.Key == key })]
}

var headings = []dataset.Heading{dataset.Demographics, dataset.Allergies, dataset.Medications, dataset.Problems, dataset.Immunisations,
	dataset.Encounters, dataset.Observations, dataset.Results, dataset.Referrals}

func about(nhs string, h ...dataset.Heading) connector.Question {
	return connector.Question{Identifiers: []fhir.Identifier{{System: fhir.SystemNHSNumber, Value: nhs}}, Headings: h, Requester: doctor}
}

// Our own client, which knows nothing of the face, is held to the connectors' contract with the face as its source.
func TestTheFaceIsAPractice(t *testing.T) {
	priya := person("priya")
	other := serve(t, &store{sharing: &gather.Record{Person: gather.Person{ID: "other", Name: fhir.HumanName{Family: "Else", Given: []string{"Somebody"}}}}})
	connectortest.RunAsker(t, connectortest.Fixture{
		New: func(t testing.TB, address string, maxBytes int64) connector.Asker {
			return client(t, address, maxBytes)
		},
		Source:      serve(t, &store{}),
		Known:       about(priya.NHS, dataset.Demographics, dataset.Allergies, dataset.Medications, dataset.Problems, dataset.Encounters, dataset.Results, dataset.Observations),
		Unknown:     about(cast.NHSNumber("999000167"), dataset.Medications),
		Other:       other,
		IsKnown:     func(p *fhir.Resource) bool { return p.Text("identifier.value") == priya.NHS },
		IsOther:     func(p *fhir.Resource) bool { return p.Text("name.family") == "Else" },
		ContentType: "application/fhir+json",
	})
}

// What a practice says, gathered, told as GP Connect and read again, says the same.
func TestNothingIsLostOnTheWayThrough(t *testing.T) {
	s := &store{}
	srv := httptest.NewServer(serve(t, s))
	defer srv.Close()
	for _, key := range []string{"priya", "george", "sam", "chloe"} {
		p := person(key)
		direct, err := s.practice.Ask(t.Context(), about(p.NHS, headings...))
		if err != nil {
			t.Fatal(err)
		}
		through, err := client(t, srv.URL, 0).Ask(t.Context(), about(p.NHS, headings...))
		if err != nil {
			t.Fatal(err)
		}
		count := func(a *connector.Answer) map[string]int {
			n := map[string]int{}
			for _, r := range a.Content {
				switch r.Type() {
				case "Organization", "Medication": // products are named by what they are, not by who has them
					continue
				}
				k := r.Type() + " " + r.Text("intent") + " " + dataset.About(r).Words() + " " + r.Text("status") + r.Text("clinicalStatus.coding.code") + " " +
					r.Text("dosageInstruction.text") + " " + r.Text("valueQuantity.value") + " " + dataset.When(r)
				n[k]++
			}
			return n
		}
		a, b := count(direct), count(through)
		for k, n := range a {
			if b[k] != n {
				t.Errorf("%s: %q came %d times from the practice, %d times through the face", key, k, n, b[k])
			}
		}
		for k, n := range b {
			if a[k] == 0 {
				t.Errorf("%s: %q came through the face %d times and not from the practice", key, k, n)
			}
		}
		for _, h := range headings {
			if direct.States[h] != through.States[h] {
				t.Errorf("%s: %s is %q at the practice and %q through the face", key, h, direct.States[h], through.States[h])
			}
		}
		if through.Patient.Text("identifier.value") != p.NHS || through.Patient.Text("name.family") != p.Family {
			t.Errorf("%s: the patient is %s", key, through.Patient.Raw())
		}
	}
	if got := s.asked[0]; got.User != "u-17" || got.Name != "Dr Imogen Clarke" || got.Organisation != "RX1" {
		t.Errorf("the session is of %+v", got)
	}
}

func post(t *testing.T, h http.Handler, nhs string, change func(*http.Request), params ...string) *httptest.ResponseRecorder {
	t.Helper()
	// The token is taken from our client's own request.
	var token string
	probe := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			token = r.Header.Get("Authorization")
		}
	}))
	defer probe.Close()
	_, _ = client(t, probe.URL, 0).Ask(t.Context(), about(cast.NHSNumber("999000156"), dataset.Problems))
	body := `{"resourceType":"Parameters","parameter":[{"name":"patientNHSNumber","valueIdentifier":{"system":"https://fhir.nhs.uk/Id/nhs-number","value":"` + nhs + `"}}` +
		strings.Join(append([]string{""}, params...), ",") + `]}`
	r := httptest.NewRequest(http.MethodPost, "/Patient/$gpc.getstructuredrecord", strings.NewReader(body))
	for k, v := range map[string]string{"Ssp-TraceID": doctor.TraceID, "Ssp-From": "1", "Ssp-To": "2", "Authorization": token, "Content-Type": "application/fhir+json",
		"Ssp-InteractionID": gpconnect.InteractionStructured} {
		r.Header.Set(k, v)
	}
	if change != nil {
		change(r)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// Refused and unknown are one answer, to the byte (design law 4).
func TestARefusalLooksLikeAbsence(t *testing.T) {
	priya := person("priya").NHS
	h := serve(t, &store{refuse: priya})
	refused, unknown := post(t, h, priya, nil), post(t, h, cast.NHSNumber("999000167"), nil)
	if refused.Code != http.StatusNotFound || unknown.Code != refused.Code || refused.Body.String() != unknown.Body.String() {
		t.Errorf("refused: %d %s\nunknown: %d %s", refused.Code, refused.Body, unknown.Code, unknown.Body)
	}
	if !strings.Contains(refused.Body.String(), "PATIENT_NOT_FOUND") {
		t.Errorf("the answer is %s", refused.Body)
	}
	for k := range refused.Header() {
		if refused.Header().Get(k) != unknown.Header().Get(k) {
			t.Errorf("header %s tells them apart", k)
		}
	}
}

func TestTheDoor(t *testing.T) {
	h := serve(t, &store{})
	priya := person("priya").NHS
	header := func(k, v string) func(*http.Request) {
		return func(r *http.Request) {
			if r.Header.Set(k, v); v == "" {
				r.Header.Del(k)
			}
		}
	}
	for _, c := range []struct {
		name   string
		change func(*http.Request)
		nhs    string
		params []string
		status int
		code   string
	}{
		{"a good request", nil, priya, []string{`{"name":"includeProblems"}`}, 200, ""},
		{"only who it is", nil, priya, nil, 200, ""},
		{"no trace", header("Ssp-TraceID", ""), priya, nil, 400, "BAD_REQUEST"},
		{"another interaction", header("Ssp-InteractionID", "x"), priya, nil, 400, "BAD_REQUEST"},
		{"no token", header("Authorization", ""), priya, nil, 400, "BAD_REQUEST"},
		{"a token that is none", header("Authorization", "Bearer a.b."), priya, nil, 400, "BAD_REQUEST"},
		{"nobody proven", header("X-Proven", "no"), priya, nil, 403, "ACCESS_DENIED"},
		{"XML", header("Content-Type", "application/fhir+xml"), priya, nil, 415, "BAD_REQUEST"},
		{"XML wanted", header("Accept", "application/fhir+xml"), priya, nil, 406, "BAD_REQUEST"},
		{"a wrong number", nil, "9990000100", nil, 400, "INVALID_NHS_NUMBER"},
		{"allergies without saying which", nil, priya, []string{`{"name":"includeAllergies"}`}, 422, "INVALID_PARAMETER"},
		{"the same twice", nil, priya, []string{`{"name":"includeMedication"}`, `{"name":"includeMedication"}`}, 422, "INVALID_PARAMETER"},
		{"narrowed beside problems", nil, priya, []string{`{"name":"includeMedication","part":[{"name":"medicationSearchFromDate","valueDate":"2020-01-01"}]}`, `{"name":"includeProblems"}`}, 422, "INVALID_PARAMETER"},
		{"a diary of the past", nil, priya, []string{`{"name":"includeDiaryEntries","part":[{"name":"diaryEntriesSearchDate","valueDate":"2020-01-01"}]}`}, 422, "INVALID_PARAMETER"},
		{"nobody's parameter", nil, priya, []string{`{"name":"includeHoroscope"}`}, 200, "NOT_IMPLEMENTED"},
	} {
		w := post(t, h, c.nhs, c.change, c.params...)
		if w.Code != c.status || !strings.Contains(w.Body.String(), c.code) {
			t.Errorf("%s: HTTP %d %s", c.name, w.Code, w.Body)
		}
		if w.Header().Get("Cache-Control") != "no-store" {
			t.Errorf("%s: the answer may be kept", c.name)
		}
	}
	r := httptest.NewRequest(http.MethodGet, "/Patient/1", nil)
	w := httptest.NewRecorder()
	if h.ServeHTTP(w, r); w.Code != http.StatusNotImplemented {
		t.Errorf("what is not offered: HTTP %d", w.Code)
	}
}

// The narrowing parts do what they say, and an empty list never says more than is known.
func TestQuestionsAreObeyed(t *testing.T) {
	s := &store{}
	h := serve(t, s)
	priya := person("priya").NHS
	read := func(params ...string) fhir.Value {
		t.Helper()
		w := post(t, h, priya, nil, params...)
		v, err := fhir.ParseValue(w.Body.Bytes())
		if err != nil || w.Code != 200 {
			t.Fatalf("HTTP %d %s %v", w.Code, w.Body, err)
		}
		return v
	}
	count := func(v fhir.Value, typ string) (n int) {
		for r := range v.All("entry.resource") {
			if r.Text("resourceType") == typ {
				n++
			}
		}
		return
	}
	if n := count(read(`{"name":"includeMedication","part":[{"name":"includePrescriptionIssues","valueBoolean":false}]}`), "MedicationRequest"); n != 1 {
		t.Errorf("without issues there are %d authorisations, want 1", n)
	}
	if n := count(read(`{"name":"includeMedication"}`), "MedicationRequest"); n != 15 {
		t.Errorf("with issues there are %d, want 15", n)
	}
	if n := count(read(`{"name":"includeInvestigations","part":[{"name":"investigationSearchPeriod","valuePeriod":{"start":"2020-01-01","end":"2020-12-31"}}]}`), "DiagnosticReport"); n != 0 {
		t.Errorf("%d reports of a year without any", n)
	}
	s.down = true
	v := read(`{"name":"includeImmunisations"}`)
	for r := range v.All("entry.resource") {
		if r.Text("resourceType") != "List" {
			continue
		}
		if r.Text("emptyReason.coding.code") == "no-content-recorded" || !strings.Contains(string(r.Raw()), "Not known from: Severn Acute Trust") {
			t.Errorf("none is said while a source was not heard: %s", r.Raw())
		}
		if !strings.Contains(string(r.Raw()), gather.Notice) {
			t.Error("the constant notice is missing")
		}
	}
}

// Two regions that are each other's practices do not ask in a circle for long: a late round is refused, and the first is answered.
func TestACircleIsBroken(t *testing.T) {
	s := &store{}
	h := serve(t, s)
	priya := person("priya").NHS
	rounds, broken := 0, ""
	s.asking = func() {
		if rounds++; rounds < 1000 && broken == "" {
			if w := post(t, h, priya, nil); w.Code != 200 {
				broken = w.Body.String()
			}
		}
	}
	if first := post(t, h, priya, nil); first.Code != 200 || rounds > 20 || !strings.Contains(broken, "in a circle") {
		t.Errorf("first %d after %d rounds: %s", first.Code, rounds, broken)
	}
	rounds, broken = 0, "not again"
	if later := post(t, h, priya, nil); later.Code != 200 || rounds != 1 {
		t.Errorf("later %d after %d rounds", later.Code, rounds)
	}
}

func FuzzTheDoor(f *testing.F) {
	s := &store{sharing: &gather.Record{Person: gather.Person{ID: "p"}}}
	h := serve(f, s)
	good := newConsumer(nil)
	good.claims["requested_scope"] = "patient/*.read"
	f.Add(`{"resourceType":"Parameters","parameter":[{"name":"patientNHSNumber","valueIdentifier":{"system":"https://fhir.nhs.uk/Id/nhs-number","value":"9990000107"}},{"name":"includeMedication","part":[{"name":"medicationSearchFromDate","valueDate":"2020-01-01"}]}]}`, good.token())
	f.Add(`{"resourceType":"Parameters","parameter":[{"name":"patientNHSNumber","valueIdentifier":{"system":"https://fhir.nhs.uk/Id/nhs-number","value":"9990000107"}},{"name":"includeProblems","part":[7,{"name":"filterStatus"}]}]}`, "Bearer a.b.")
	f.Fuzz(func(t *testing.T, body, token string) {
		r := httptest.NewRequest(http.MethodPost, "/Patient/$gpc.getstructuredrecord", strings.NewReader(body))
		for k, v := range map[string]string{"Ssp-TraceID": doctor.TraceID, "Ssp-From": "1", "Ssp-To": "2", "Content-Type": "application/fhir+json", "Ssp-InteractionID": gpconnect.InteractionStructured} {
			r.Header.Set(k, v)
		}
		r.Header["Authorization"] = []string{token}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		out, _ := io.ReadAll(w.Body)
		if _, err := fhir.ParseValue(out); err != nil || w.Code >= 500 && w.Code != 501 {
			t.Errorf("HTTP %d: %s", w.Code, out)
		}
	})
}
