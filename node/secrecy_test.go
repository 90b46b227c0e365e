package node

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"tombolo/connector"
	"tombolo/dataset"
	"tombolo/fhir"
	"tombolo/kv/pebble"
	"tombolo/locator"
	"tombolo/policy"
	"tombolo/region"
	"tombolo/sim"
	"tombolo/sim/unraced"
	"tombolo/store"
)

// secretive is a region of one trust and a council, whose nodes give the same ids: what differs between two of them is only what they hold.
func secretive() *region.Region {
	gives := map[dataset.Heading]region.Way{}
	for _, h := range []dataset.Heading{dataset.Demographics, dataset.Problems, dataset.Observations, dataset.Encounters, dataset.Allergies, dataset.Legal, dataset.Medications} {
		gives[h] = region.Push
	}
	hash := func(token string) string { sum := sha256.Sum256([]byte(token)); return hex.EncodeToString(sum[:]) }
	return &region.Region{ID: "north", Name: "North",
		Organisations: []region.Organisation{{ODS: "RX1", Name: "Trust", Kind: region.KindAcute}, {ODS: "918", Name: "Council", Kind: region.KindSocialCare}},
		Systems:       []region.System{{ID: "pas", Name: "Trust", Organisation: "RX1", Connector: "api", Release: region.Release{All: true}, Gives: gives}},
		Agreements:    []region.Agreement{{ID: "care", Parties: []string{"RX1", "918"}, Purposes: []string{"direct-care"}, AllHeadings: true}},
		Users: []region.User{{ID: "doctor", Name: "D", Role: "hospital-doctor", Organisation: "RX1", TokenSHA256: hash("doctor")},
			{ID: "social-worker", Name: "S", Role: "social-worker", Organisation: "RX1", TokenSHA256: hash("social-worker")},
			{ID: "receptionist", Name: "R", Role: "receptionist", Organisation: "RX1", TokenSHA256: hash("receptionist")}}}
}

type clock struct{ at atomic.Int64 }

func (c *clock) now() time.Time { return time.Unix(0, c.at.Load()).UTC() }

// holding starts a node that stamps with a fixed key.
func holding(t testing.TB, c *clock, even time.Duration) *Node {
	t.Helper()
	return holdingIn(t, c, even, secretive())
}

// holdingIn is holding in another region.
func holdingIn(t testing.TB, c *clock, even time.Duration, r *region.Region) *Node {
	t.Helper()
	data := t.TempDir()
	engine, err := pebble.Open(pebble.Options{Dir: filepath.Join(data, "store")})
	if err != nil {
		t.Fatal(err)
	}
	db, err := store.Open(store.Options{Engine: engine})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Update(t.Context(), func(tx store.Tx) error {
		tx.Bucket("node").Put("stamp-key", []byte("the same for all of these nodes"))
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	n, err := New(t.Context(), Config{Region: r, Data: data, Base: "https://north.example/fhir", Now: c.now, Listen: "127.0.0.1:0", even: even})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	n.Start(ctx)
	t.Cleanup(func() { stop(); _ = n.Close() })
	return n
}

func (n *Node) handed(t testing.TB, method, path, user string, body []byte) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequest(method, "https://north.example"+path, bytes.NewReader(body))
	r.Header.Set("Authorization", "Bearer "+user)
	if body != nil {
		r.Header.Set("Content-Type", "application/fhir+json")
	}
	w := httptest.NewRecorder()
	n.pages.server.Handler.ServeHTTP(w, r)
	return w
}

// someNumber is the i-th number of a synthetic range that has a check digit.
func someNumber(i int) string {
	for n := 999100000; ; n++ {
		for d := range 10 {
			if number, err := fhir.ParseNHSNumber(fmt.Sprint(n*10 + d)); err == nil {
				if i--; i < 0 {
					return number.Digits()
				}
			}
		}
	}
}

// somebody is a patient with random entries, each under one of many labels, codes and links.
func somebody(t *rapid.T, i int) (number string, all []*fhir.Resource) {
	number = someNumber(i)
	of := fhir.Reference{Reference: "Patient/p"}
	all = append(all, fhir.New("Patient", "p", fhir.M{"identifier": []fhir.Identifier{{System: fhir.SystemNHSNumber, Value: number}}, "name": []fhir.HumanName{{Family: "Taylor", Given: []string{"Ann"}}}, "birthDate": "1948-03-12"}))
	for k := range rapid.IntRange(1, 6).Draw(t, "entries") {
		f := fhir.M{"subject": of, "code": fhir.Code(fhir.SystemSNOMED, rapid.SampledFrom([]string{"37796009", "37796009", "8098009"}).Draw(t, "code"), "")}
		if l := rapid.SampledFrom([]string{"", "", "R", "V", "PSY", "legally-withheld", "NOPAT"}).Draw(t, "label"); l != "" {
			f["meta"] = fhir.M{"security": []fhir.Coding{{System: fhir.SystemConfidentiality, Code: l}}}
		}
		typ := rapid.SampledFrom([]string{"Condition", "Observation", "AllergyIntolerance", "MedicationRequest", "Encounter"}).Draw(t, "type")
		switch typ {
		case "AllergyIntolerance":
			delete(f, "subject")
			f["patient"] = of
		case "Observation":
			f["status"] = "final"
		case "MedicationRequest":
			f["status"], f["intent"], f["medicationCodeableConcept"] = "active", "order", f["code"]
			if delete(f, "code"); rapid.Bool().Draw(t, "as a product") { // which is nobody's record, and lies beside it
				f["medicationReference"] = fhir.Reference{Reference: fmt.Sprintf("Medication/e%d", k)}
				delete(f, "medicationCodeableConcept")
			}
		case "Encounter":
			f["status"], f["class"], f["reasonCode"] = "finished", fhir.Coding{Code: "AMB"}, []any{f["code"]}
			delete(f, "code")
		}
		if to := rapid.IntRange(0, k).Draw(t, "link"); typ != "Encounter" && to > 0 && all[to].Type() == "Encounter" {
			f["encounter"] = fhir.Reference{Reference: string(all[to].Ref())}
		}
		all = append(all, fhir.New(typ, fmt.Sprintf("e%d", k), f))
	}
	return number, all
}

// product is the medicine that an entry names; nil if it names none.
func product(r *fhir.Resource) *fhir.Resource {
	ref := fhir.Ref(r.Text("medicationReference.reference"))
	if ref == "" {
		return nil
	}
	return fhir.New("Medication", ref.ID(), fhir.M{"code": fhir.Code(fhir.SystemSNOMED, []string{"8098009", "37796009"}[ref.ID()[1]&1], "A medicine")})
}

// chosen are the choices that somebody may have made, each as a Consent and as policy reads it.
func chosen(t *rapid.T) *fhir.Resource {
	provision := rapid.SampledFrom([]fhir.M{nil, nil, {"securityLabel": []fhir.Coding{{System: fhir.SystemActCode, Code: "PSY"}}}, {"class": []fhir.Coding{{System: fhir.SystemHeading, Code: "observations"}}},
		{"class": []fhir.Coding{{System: "http://hl7.org/fhir/resource-types", Code: "Encounter"}}}}).Draw(t, "objects to")
	if provision == nil {
		return nil
	}
	return fhir.New("Consent", "e-choice", fhir.M{"status": "active", "patient": fhir.Reference{Reference: "Patient/p"}, "scope": fhir.Code("http://terminology.hl7.org/CodeSystem/consentscope", "patient-privacy", ""),
		"provision": fhir.M{"type": "deny", "securityLabel": provision["securityLabel"], "class": provision["class"]}})
}

// visible is what a user may see of a source's entries, by the decision on each.
func visible(role policy.Role, all []*fhir.Resource, choice *fhir.Resource) []bool {
	with := slices.Clone(all)
	for _, r := range all {
		if m := product(r); m != nil {
			with = append(with, m)
		}
	}
	labels := policy.NewSensitivity(policy.BuiltInLists(), nil).Labels(with)
	var stands policy.Standing
	if choice != nil {
		stands.Take("pas", choice)
	}
	out := make([]bool, len(all))
	for i, r := range all {
		f := policy.Facts{Subject: policy.Subject{Role: role, Organisation: "RX1"}, Purpose: policy.DirectCare, Relationships: []policy.Relationship{policy.KnownHere},
			Source: &policy.Source{System: "pas", Organisation: "RX1", Release: region.Release{All: true}}, Heading: dataset.HeadingOf(r), Item: policy.ItemOf(r, labels[i]), Person: stands.Person, At: time.Now()}
		if role == policy.Receptionist {
			f.Purpose = policy.Administration
		}
		out[i] = policy.Decide(f).Permit || r.Type() == "Patient"
	}
	return out
}

// Non-interference: what anybody gets of a store that holds everything is, byte for byte and header for header, what they would get of a store
// that holds only what they may see. Counts, sorting, includes, errors, times and single reads are asked for. reliability.md A2–A10
func TestAnswersAreThoseOfAStoreThatHoldsOnlyWhatMayBeSeen(t *testing.T) {
	c := &clock{}
	c.at.Store(time.Date(2026, 6, 1, 9, 0, 0, 0, time.UTC).UnixNano())
	roles := map[string]policy.Role{"doctor": policy.HospitalDoctor, "social-worker": policy.SocialWorker, "receptionist": policy.Receptionist}
	full, reduced := holding(t, c, 1), map[string]*Node{}
	for user := range roles {
		reduced[user] = holding(t, c, 1)
	}
	answers, kept, whom := 5000, 200, 40
	if !unraced.Run(t) {
		answers, kept, whom = 400, 10, 3
	}
	people, asked, hidden := 0, 0, 0
	check := func(rt *rapid.T) {
		if asked >= answers && hidden >= kept && people >= whom && os.Getenv("TOMBOLO_SOAK") == "" {
			return // a short run has compared what it promises
		}
		people++
		number, all := somebody(rt, people)
		choice := chosen(rt)
		give := func(n *Node, i int) {
			_, err := n.Intake.Accept(t.Context(), connector.Delivery{Source: "pas", ID: fmt.Sprintf("%d/%d", people, i), Raw: all[i].Raw(), Patient: "p" + number, Map: "test/1", Content: of(number, all[i], product(all[i]))})
			if err != nil {
				rt.Fatal(err)
			}
		}
		if choice != nil {
			for _, n := range append(slices.Collect(maps.Values(reduced)), full) {
				if _, err := n.Intake.Accept(t.Context(), connector.Delivery{Source: "pas", ID: fmt.Sprintf("%d/choice", people), Raw: choice.Raw(), Patient: "p" + number, Map: "test/1", Content: of(number, all[0], choice)}); err != nil {
					rt.Fatal(err)
				}
			}
		}
		for i := range all {
			c.at.Add(int64(time.Minute))
			give(full, i)
			for user, role := range roles {
				if visible(role, all, choice)[i] {
					give(reduced[user], i)
				} else {
					hidden++
				}
			}
		}
		c.at.Add(int64(time.Hour))
		for user := range roles {
			for _, q := range questions(t, full, number, all) {
				asked++
				a, b := full.asked(t, q, user), reduced[user].asked(t, q, user)
				for page := 0; page < 3 && a.Code == 200 && bytes.Equal(a.Body.Bytes(), b.Body.Bytes()); page++ { // and the pages that follow
					next := nextOf(a.Body.Bytes())
					if next == "" {
						break
					}
					asked++
					q = question{method: "GET", path: next}
					a, b = full.asked(t, q, user), reduced[user].asked(t, q, user)
				}
				if a.Code != b.Code || !bytes.Equal(a.Body.Bytes(), b.Body.Bytes()) || fmt.Sprint(a.Header()) != fmt.Sprint(b.Header()) {
					rt.Fatalf("%s asks %s %s: the full store says\n%d %v\n%s\nthe reduced one\n%d %v\n%s", user, q.method, q.path, a.Code, a.Header(), a.Body, b.Code, b.Header(), b.Body)
				}
			}
		}
	}
	rapid.Check(t, check)
	t.Logf("%d people, %d entries hidden from somebody, %d answers compared", people, hidden, asked)
	if asked < answers || hidden < kept {
		t.Errorf("only %d answers were compared, with %d hidden entries", asked, hidden)
	}
}

// of gives a source's entry ids and references of its own for each person.
func of(number string, rs ...*fhir.Resource) (out []*fhir.Resource) {
	for _, r := range rs {
		if r != nil {
			out = append(out, ofOne(number, r))
		}
	}
	return out
}

func ofOne(number string, r *fhir.Resource) *fhir.Resource {
	text := strings.NewReplacer(`"id":"p"`, `"id":"p`+number+`"`, `"Patient/p"`, `"Patient/p`+number+`"`, `"id":"e`, `"id":"`+number+`e`, `"Encounter/e`, `"Encounter/`+number+`e`, `"Medication/e`, `"Medication/`+number+`e`).Replace(string(r.Raw()))
	out, err := fhir.Parse([]byte(text))
	if err != nil {
		panic(err)
	}
	return out
}

type question struct {
	method, path string
	body         []byte
	headers      []string // "Name: value"
}

func (n *Node) asked(t testing.TB, q question, user string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequest(q.method, "https://north.example"+q.path, bytes.NewReader(q.body))
	r.Header.Set("Authorization", "Bearer "+user)
	if q.body != nil {
		r.Header.Set("Content-Type", "application/fhir+json")
	}
	for _, h := range q.headers {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Set(name, value)
	}
	w := httptest.NewRecorder()
	n.pages.server.Handler.ServeHTTP(w, r)
	return w
}

// nextOf is the path of a Bundle's next page, "" if there is none.
func nextOf(body []byte) string {
	r, err := fhir.Parse(body)
	if err != nil {
		return ""
	}
	for l := range r.Value().All("link") {
		if l.Text("relation") == "next" {
			return strings.TrimPrefix(l.Text("url"), "https://north.example")
		}
	}
	return ""
}

func questions(t testing.TB, n *Node, number string, all []*fhir.Resource) []question {
	t.Helper()
	id, err := n.People.Resolve(t.Context(), fhir.Identifier{System: fhir.SystemNHSNumber, Value: number})
	if err != nil {
		t.Fatal(err)
	}
	params := fhir.New("Parameters", "", fhir.M{"parameter": []fhir.M{{"name": "identifier", "valueIdentifier": fhir.Identifier{System: fhir.SystemNHSNumber, Value: number}}}}).Raw()
	get := func(path string, headers ...string) question { return question{"GET", path, nil, headers} }
	form := "Content-Type: application/x-www-form-urlencoded"
	out := []question{{"POST", "/fhir/$gather", params, nil}, get("/fhir/Patient/" + id), get("/fhir/Patient/" + id + "/$everything"), get("/fhir/Patient/" + id + "/$everything?_count=2"), get("/fhir/Patient/" + id + "/$everything?_type=Condition,Encounter&_since=2026-06-01T10:00:00Z"),
		get("/fhir/Patient/" + id + "/$summary"), {"POST", "/fhir/Patient/$summary", params, nil}, get("/fhir/Patient/"+id+"/$everything", "Accept: application/fhir+xml"), get("/fhir/Patient/"+id, `If-None-Match: W/"1"`),
		{"POST", "/fhir/Condition/_search", []byte("patient=" + id + "&code=8098009"), []string{form}}, {"POST", "/fhir/Condition", []byte(`{"resourceType":"Condition"}`), []string{"If-None-Exist: patient=" + id + "&code=8098009"}},
		{"DELETE", "/fhir/Condition?patient=" + id + "&code=8098009", nil, nil}, get("/fhir/Patient/" + id + "/Condition"), get("/fhir/Condition/_history"), get("/fhir/Patient/" + id + "/_history")}
	for _, q := range []string{"Condition?patient=ID", "Condition?patient=ID&code=8098009", "Condition?patient=ID&_summary=count", "Condition?patient=ID&_sort=-recorded-date&_count=1", "Observation?patient=ID&_total=accurate",
		"Observation?patient=ID&_include=Observation:encounter", "Encounter?patient=ID&_revinclude=Condition:encounter", "AllergyIntolerance?patient=ID", "MedicationRequest?patient=ID&_elements=id", "Condition?patient=ID&_security=R",
		"Condition?patient=ID&code:missing=false", "Condition?patient=ID&code:not=8098009", "Condition?patient=ID&encounter:Encounter.class=AMB", "Condition?patient=ID&encounter.reason-code=8098009", "Observation?patient=ID&_count=1", "Condition?patient=ID&_sort=code&_summary=data",
		"MedicationRequest?patient=ID&_include=MedicationRequest:medication", "MedicationRequest?patient=ID&medication.code=8098009", "Condition?patient=ID&_lastUpdated=gt2026-06-01T09:05:00Z", "Condition?patient=ID&_format=xml", "Condition?patient=ID&_content=8098009",
		"Condition?patient=ID&nonsense=1", "Encounter?patient=ID&_has:Condition:encounter:code=8098009"} {
		out = append(out, get("/fhir/"+strings.ReplaceAll(q, "ID", id)))
	}
	p, err := n.People.Person(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	for _, pt := range p.Patients {
		for r, err := range n.store.Patient(t.Context(), pt.ID) {
			if err != nil {
				t.Fatal(err)
			}
			if r.Type() != "Patient" && r.Type() != "Provenance" {
				out = append(out, get("/fhir/"+string(r.Ref())), get("/fhir/"+string(r.Ref())+"/_history/1"), get("/fhir/"+string(r.Ref()), `If-None-Match: W/"1"`), get("/fhir/"+string(r.Ref()), "If-Modified-Since: Mon, 01 Jun 2026 12:00:00 GMT"))
			}
		}
	}
	return out
}

// How long a refusal takes tells nothing: Welch's t between somebody unknown and somebody whose record is there and refused, by id and by number. Others'
// work on the machine moves single batches, in either direction; what the program itself tells moves each of them, in the same one. So a difference counts
// if every batch shows it.
func TestARefusalTakesAsLongAsTheUnknown(t *testing.T) {
	n := 400 // of each kind in a batch
	if os.Getenv("TOMBOLO_SOAK") != "" {
		n = 10_000
	}
	c := &clock{}
	c.at.Store(time.Date(2026, 6, 1, 9, 0, 0, 0, time.UTC).UnixNano())
	node := holding(t, c, 0)
	number := someNumber(0)
	patient := fhir.New("Patient", "p"+number, fhir.M{"identifier": []fhir.Identifier{{System: fhir.SystemNHSNumber, Value: number}}, "name": []fhir.HumanName{{Family: "Osei"}}, "birthDate": "1979-12-01"})
	objection := fhir.New("Consent", "c", fhir.M{"status": "active", "patient": fhir.Reference{Reference: "Patient/p" + number}, "scope": fhir.Code("http://terminology.hl7.org/CodeSystem/consentscope", "patient-privacy", ""), "provision": fhir.M{"type": "deny"}})
	if _, err := node.Intake.Accept(t.Context(), connector.Delivery{Source: "pas", ID: "1", Raw: []byte("x"), Patient: "p" + number, Content: []*fhir.Resource{patient, objection}}); err != nil {
		t.Fatal(err)
	}
	person, err := node.People.Resolve(t.Context(), fhir.Identifier{System: fhir.SystemNHSNumber, Value: number})
	if err != nil {
		t.Fatal(err)
	}
	byID := func(id string) *httptest.ResponseRecorder {
		return node.handed(t, "GET", "/fhir/Patient/"+id, "receptionist", nil)
	}
	byNumber := func(number string) *httptest.ResponseRecorder {
		return node.handed(t, "POST", "/fhir/$gather", "receptionist", fhir.JSON(fhir.M{"resourceType": "Parameters", "parameter": []fhir.M{{"name": "identifier", "valueIdentifier": fhir.Identifier{System: fhir.SystemNHSNumber, Value: number}}}}))
	}
	for _, way := range []struct {
		what         string
		ask          func(string) *httptest.ResponseRecorder
		there, wrong string
	}{{"by id", byID, person, strings.Repeat("0", len(person))}, {"by number", byNumber, number, someNumber(1)}} {
		t.Run(way.what, func(t *testing.T) {
			differ := differs(t, n, 0, func(known bool) float64 {
				about := way.wrong
				if known {
					about = way.there
				}
				start := time.Now()
				w := way.ask(about)
				took := time.Since(start)
				if w.Code != http.StatusNotFound {
					t.Errorf("got %d: %s", w.Code, w.Body)
				}
				return took.Seconds()
			})
			if differ {
				t.Error("the time of a refusal tells whether somebody is there")
			}
		})
	}
}

// Nor does the locator's time tell: of somebody whose pointers are withheld it answers as of somebody unknown, by number, counting, and by a pointer's id.
func TestTheLocatorsRefusalTakesAsLongAsTheUnknown(t *testing.T) {
	n := 96
	if os.Getenv("TOMBOLO_SOAK") != "" {
		n = 10_000
	}
	c := &clock{}
	c.at.Store(time.Date(2026, 6, 1, 9, 0, 0, 0, time.UTC).UnixNano())
	r := secretive()
	r.Locator = region.Locator{Applications: []region.Application{{ID: "cad", Organisation: "RX1", Consumes: []string{"736253002"}}}}
	sum := sha256.Sum256([]byte("cad"))
	r.Users = append(r.Users, region.User{ID: "cad", Name: "C", Role: "paramedic", Organisation: "RX1", TokenSHA256: hex.EncodeToString(sum[:])})
	node := holdingIn(t, c, 0, r)
	number := someNumber(0)
	all := []*fhir.Resource{fhir.New("Patient", "p"+number, fhir.M{"identifier": []fhir.Identifier{{System: fhir.SystemNHSNumber, Value: number}}, "name": []fhir.HumanName{{Family: "Osei"}}, "birthDate": "1979-12-01"})}
	for i := range 100 { // a record whose reading takes its time
		all = append(all, fhir.New("Condition", fmt.Sprint("c", i), fhir.M{"subject": fhir.Reference{Reference: "Patient/p" + number}, "code": fhir.Code(fhir.SystemSNOMED, "37796009", "")}))
	}
	if _, err := node.Intake.Accept(t.Context(), connector.Delivery{Source: "pas", ID: "1", Raw: []byte("x"), Patient: "p" + number, Content: all}); err != nil {
		t.Fatal(err)
	}
	pointer := fhir.New("DocumentReference", "RX1-withheld", fhir.M{"status": "current", "meta": fhir.M{"security": []fhir.Coding{{System: fhir.SystemConfidentiality, Code: "V"}}}, "type": fhir.Code(fhir.SystemSNOMED, "736253002", ""),
		"subject": fhir.M{"identifier": fhir.Identifier{System: fhir.SystemNHSNumber, Value: number}}, "custodian": fhir.M{"identifier": fhir.Identifier{System: fhir.SystemODS, Value: "RX1"}}})
	if err := node.Registry.Create(t.Context(), locator.Registered{ID: pointer.ID(), Application: "pas", Subject: number, Custodian: "RX1", Type: fhir.SystemSNOMED + "|736253002", Doc: json.RawMessage(pointer.Raw())}); err != nil {
		t.Fatal(err)
	}
	ask := func(path string) (int, string) {
		req := httptest.NewRequest("GET", "https://north.example/nrl/consumer/FHIR/R4/DocumentReference"+path, nil)
		req.Header.Set("Authorization", "Bearer cad")
		req.Header.Set("X-Request-ID", "60E0B220-8136-4CA5-AE46-1D97EF59D068")
		req.Header.Set("NHSD-End-User-Organisation-ODS", "RX1")
		w := httptest.NewRecorder()
		node.pages.server.Handler.ServeHTTP(w, req)
		return w.Code, w.Body.String()
	}
	about := func(number string) string { return "?subject:identifier=https://fhir.nhs.uk/Id/nhs-number%7C" + number }
	for _, way := range []struct{ what, there, wrong string }{{"by number", about(number), about(someNumber(1))}, {"counting", about(number) + "&_summary=count", about(someNumber(1)) + "&_summary=count"}, {"by id", "/RX1-withheld", "/RX1-with0000"}} {
		t.Run(way.what, func(t *testing.T) {
			code, body := ask(way.there)
			if wrongCode, wrong := ask(way.wrong); code != wrongCode || strings.ReplaceAll(body, number, "#") != strings.ReplaceAll(wrong, someNumber(1), "#") || strings.Contains(body, "withheld") {
				t.Fatalf("%d %s\n%d %s", code, body, wrongCode, wrong)
			}
			var early atomic.Int64
			if differs(t, n, locatorEvenly*evenly, func(known bool) float64 {
				path := way.wrong
				if known {
					path = way.there
				}
				start := time.Now()
				ask(path)
				took := time.Since(start)
				if took < locatorEvenly*evenly {
					early.Store(int64(took))
				}
				return took.Seconds()
			}) {
				t.Error("the time tells whether something is pointed to")
			}
			if took := time.Duration(early.Load()); took > 0 {
				t.Errorf("nothing was told of after %v, and should be after %v at the earliest, however soon it is known", took, locatorEvenly*evenly)
			}
		})
	}
}

// differs reports whether in each of three batches of n and n the one takes longer than the other, and always the same one. within is how long an answer takes where the machine
// does as it should, 0 if that does not matter: where answers take longer that cost much less than that of a processor, the machine has no time for what is measured, and it is
// measured again with less asked at once; if it is too busy for two at once, nothing was found out, which the log says.
func differs(t *testing.T, n int, within time.Duration, ask func(known bool) float64) bool {
	const limit, batches = 4.5, 3
	higher, lower, workers := 0, 0, 8
	for b := 0; b < batches; b++ {
		before := sim.ProcessorTime()
		there, nobody := batch(n, workers, ask)
		cost := (sim.ProcessorTime() - before) / time.Duration(2*n)
		tt := welch(trimmed(there), trimmed(nobody))
		t.Logf("Welch's t = %.2f over %d and %d requests, %d at once, %v of processor each; medians %.0f and %.0f µs", tt, len(there), len(nobody), workers, cost, median(there)*1e6, median(nobody)*1e6)
		if max(median(there), median(nobody)) > 1.2*within.Seconds() && cost < within/4 {
			if workers == 2 {
				t.Log("this machine is too busy to measure anything")
				return false
			}
			b, workers, higher, lower = -1, workers/2, 0, 0
			continue
		}
		switch {
		case tt > limit:
			higher++
		case tt < -limit:
			lower++
		}
		if higher <= b && lower <= b { // not each of them the same way
			return false
		}
	}
	return true
}

// batch asks n times about each, so many at once.
func batch(n, workers int, ask func(known bool) float64) (there, nobody []float64) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for i := range n / workers { // in turns, and in turns of who is first: the machine's moods fall on both
				first := i%2 == 0
				x, y := ask(first), ask(!first)
				if !first {
					x, y = y, x
				}
				mu.Lock()
				there, nobody = append(there, x), append(nobody, y)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return there, nobody
}

// A difference that is there is seen.
func TestATimeThatTellsIsSeen(t *testing.T) {
	if !differs(t, 400, 0, func(known bool) float64 {
		took := 0.0001 + 0.00001*rand.Float64()
		if known {
			took += 0.000003
		}
		return took
	}) {
		t.Error("three microseconds in a hundred were not seen")
	}
}

// trimmed leaves out the slowest twentieth, which are the machine's and would drown what is sought.
func trimmed(xs []float64) []float64 {
	s := slices.Sorted(slices.Values(xs))
	return s[:len(s)*19/20]
}

func median(xs []float64) float64 { s := slices.Sorted(slices.Values(xs)); return s[len(s)/2] }

func welch(a, b []float64) float64 {
	moments := func(xs []float64) (mean, variance float64) {
		for _, x := range xs {
			mean += x / float64(len(xs))
		}
		for _, x := range xs {
			variance += (x - mean) * (x - mean) / float64(len(xs)-1)
		}
		return mean, variance
	}
	ma, va := moments(a)
	mb, vb := moments(b)
	return (ma - mb) / math.Sqrt(va/float64(len(a))+vb/float64(len(b)))
}
