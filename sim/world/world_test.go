package world

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"

	"tombolo/fhir"
	"tombolo/gather"
	"tombolo/sim"
	"tombolo/sim/cast"
	"tombolo/sim/lookout/nodes"
)

// One region serves all tests that only read; a test that changes it starts its own.
var shared struct {
	once sync.Once
	w    *World
	err  error
}

func TestMain(m *testing.M) {
	code := nodes.Main(closing{m})
	if told := canaries.told(); told != "" {
		fmt.Fprint(os.Stderr, told)
		code = 1
	}
	os.Exit(code)
}

// closing runs the tests and then closes what they shared.
type closing struct{ m *testing.M }

func (c closing) Run() int {
	code := c.m.Run()
	if shared.w != nil {
		_ = shared.w.Close()
	}
	return code
}

func severn(t *testing.T) *checker {
	t.Helper()
	shared.once.Do(func() {
		shared.w, shared.err = Start(nonTestContext, Options{Neighbour: true, People: 20, Seed: 7, Mark: canaries.mark})
	})
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return &checker{w: shared.w, ctx: t.Context(), out: io.Discard, watch: canaries.see}
}

func TestTheStory(t *testing.T) {
	var out bytes.Buffer
	c := severn(t)
	if err := c.w.Check(t.Context(), &out); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	t.Log("\n" + out.String())
}

// In the simulated region a general practitioner may have the plan of a gathering explained: of each source, which way each heading came, and why.
func TestAGatheringIsExplainedToTheGeneralPractitioner(t *testing.T) {
	c := severn(t)
	explain := fhir.M{"name": "explain", "valueBoolean": true}
	status, b, err := c.gather("gp", nhs(c.w.Person(cast.Main)), explain)
	if err != nil || status != http.StatusOK || !bytes.Contains(b.raw, []byte(gather.ExtensionPlan)) {
		t.Errorf("to the general practitioner: %d, %v, without the plan", status, err)
	}
	if status, b, err = c.gather("doctor", nhs(c.w.Person(cast.Main)), explain); err != nil || status != http.StatusBadRequest || bytes.Contains(b.raw, []byte(gather.ExtensionPlan)) {
		t.Errorf("to a doctor of the trust: %d, %v", status, err)
	}
}

func TestARefusalIsTheAnswerForSomebodyUnknown(t *testing.T) {
	c := severn(t)
	daniel := c.w.Person("daniel")
	nobody := cast.NHSNumber("999999901")
	// The receptionist's trust knows Daniel; his id is learned by somebody who may open his record in an emergency.
	_, b, err := c.gather("doctor", nhs(daniel), fhir.M{"name": "purpose", "valueCode": "ETREAT"}, fhir.M{"name": "reason", "valueString": "unconscious"})
	if err != nil || personOf(b) == "" {
		t.Fatalf("%v", err)
	}
	id := personOf(b)
	conditions := b.find("Encounter", "")
	if len(conditions) == 0 {
		t.Fatal("Daniel has no encounters to ask for")
	}
	form := func(n string) []byte {
		return []byte(url.Values{"identifier": {fhir.SystemNHSNumber + "|" + n}}.Encode())
	}
	for _, user := range []string{"receptionist", "doctor", "social-worker"} {
		for _, pair := range []struct {
			what, method, his, nobodys, contentType string
			hisBody, nobodysBody                    []byte
		}{
			{"everything", "GET", "/fhir/Patient/" + id + "/$everything", "/fhir/Patient/nobody/$everything", "", nil, nil},
			{"patient", "GET", "/fhir/Patient/" + id, "/fhir/Patient/nobody", "", nil, nil},
			{"search in the record", "GET", "/fhir/Encounter?patient=" + id, "/fhir/Encounter?patient=nobody", "", nil, nil},
			{"a resource", "GET", "/fhir/" + string(conditions[0].Ref()), "/fhir/Encounter/nobody", "", nil, nil},
			{"find", "POST", "/fhir/Patient/_search", "/fhir/Patient/_search", "application/x-www-form-urlencoded", form(daniel.NHS), form(nobody)},
			{"page", "GET", "/record/" + id, "/record/nobody", "", nil, nil},
		} {
			s1, h1, b1, err1 := c.http(pair.method, pair.his, user, pair.contentType, pair.hisBody)
			s2, h2, b2, err2 := c.http(pair.method, pair.nobodys, user, pair.contentType, pair.nobodysBody)
			if err1 != nil || err2 != nil {
				t.Fatal(err1, err2)
			}
			h1.Del("Date")
			h2.Del("Date")
			if s1 != s2 || !bytes.Equal(b1, b2) {
				t.Errorf("%s, as %s: %d and %d, bodies equal: %v", pair.what, user, s1, s2, bytes.Equal(b1, b2))
			}
			for k := range h1 {
				if h1.Get(k) != h2.Get(k) {
					t.Errorf("%s, as %s: header %s is %q and %q", pair.what, user, k, h1.Get(k), h2.Get(k))
				}
			}
		}
	}
}

func TestARestrictedPersonsWhereaboutsAreWithheld(t *testing.T) {
	c := severn(t)
	chloe := c.w.Person("chloe")
	secrets := append([]string{chloe.Postcode, chloe.Phone, "Riverside", "M85002", "m85002", chloe.City}, chloe.Address...)
	for _, user := range []string{"gp", "doctor", "nurse", "paramedic", "social-worker", "receptionist"} {
		status, b, err := c.gather(user, nhs(chloe))
		if err != nil {
			t.Fatal(err)
		}
		if status != http.StatusOK {
			continue // not theirs to open
		}
		_, _, page, err := c.http("GET", "/record/"+personOf(b)+"?all=1", user, "", nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range secrets {
			if bytes.Contains(b.raw, []byte(s)) {
				t.Errorf("to the %s the Bundle tells %q", user, s)
			}
			if bytes.Contains(page, []byte(s)) {
				t.Errorf("to the %s the page tells %q", user, s)
			}
		}
	}
}

func TestANumberInAURLIsRefused(t *testing.T) {
	c := severn(t)
	margaret := c.w.Person(cast.Main)
	status, _, body, err := c.http("GET", "/fhir/Patient?identifier="+url.QueryEscape(fhir.SystemNHSNumber+"|"+margaret.NHS), "doctor", "", nil)
	if err != nil || status < 400 || !strings.Contains(string(body), "_search") || strings.Contains(string(body), margaret.NHS) {
		t.Errorf("%d %s (%v)", status, body, err)
	}
}

func TestNobodyGetsInWithoutACredential(t *testing.T) {
	c := severn(t)
	for _, path := range []string{"/fhir/Patient/x", "/fhir/Patient/x/$everything", "/fhir/Condition?patient=x", "/fhir/Binary/x"} {
		for _, auth := range []string{"", "Bearer wrong", "Basic ZG9jdG9yOng=", "Bearer "} {
			req, _ := http.NewRequestWithContext(t.Context(), "GET", c.w.URL()+path, nil)
			if auth != "" {
				req.Header.Set("Authorization", auth)
			}
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close()
			if resp.StatusCode != http.StatusUnauthorized || resp.Header.Get("WWW-Authenticate") == "" {
				t.Errorf("%s with %q: %d", path, auth, resp.StatusCode)
			}
		}
	}
}

// Whatever the caller does wrong, the answer is an OperationOutcome that says what and how to mend it.
func TestEveryErrorIsAnOperationOutcome(t *testing.T) {
	c := severn(t)
	long := strings.Repeat("[", 500)
	for _, r := range []struct {
		method, path, contentType, body string
		status                          int
	}{
		{"GET", "/fhir/Nonsense/1", "", "", 404},
		{"GET", "/fhir/Observation", "", "", 400},
		{"GET", "/fhir/Observation?patient=x&cod=1", "", "", 400},
		{"GET", "/fhir/nothing/at/all", "", "", 404},
		{"DELETE", "/fhir/Patient/1", "", "", 405},
		{"PUT", "/fhir/Patient/1", "application/fhir+json", "{}", 405},
		{"GET", "/fhir/metadata?_format=ttl", "", "", 406},
		{"POST", "/fhir/$gather", "text/plain", "hello", 415},
		{"POST", "/fhir/$gather", "application/fhir+json", `{"resourceType":"Parameters"`, 400},
		{"POST", "/fhir/$gather", "application/fhir+json", `{"resourceType":"Parameters","resourceType":"Parameters"}`, 400},
		{"POST", "/fhir/$gather", "application/fhir+json", `{"resourceType":"Patient"}`, 400},
		{"POST", "/fhir/$gather", "application/fhir+json", long, 400},
		{"POST", "/fhir/$gather", "application/fhir+json", `{"resourceType":"Parameters"}`, 400},
		{"POST", "/fhir/$gather", "application/fhir+json", `{"resourceType":"Parameters","parameter":[{"name":"identifier","valueString":"1234567890"}]}`, 400},
		{"POST", "/fhir/$gather", "application/fhir+json", `{"resourceType":"Parameters","parameter":[{"name":"identifier","valueString":"9999999999"}]}`, 400},
		{"POST", "/fhir/$gather", "application/fhir+json", `{"resourceType":"Parameters","parameter":[{"name":"identifier","valueString":"9990000107"},{"name":"heading","valueCode":"hats"}]}`, 400},
		{"POST", "/fhir/$gather", "application/fhir+json", `{"resourceType":"Parameters","parameter":[{"name":"identifier","valueString":"9990000107"},{"name":"purpose","valueCode":"FUN"}]}`, 400},
		{"POST", "/fhir/$gather", "application/fhir+json", `"` + strings.Repeat("x", 2<<20) + `"`, 413},
	} {
		status, head, body, err := c.http(r.method, r.path, "doctor", r.contentType, []byte(r.body))
		if err != nil {
			t.Fatal(err)
		}
		res, perr := fhir.Parse(body)
		if status != r.status || perr != nil || res.Type() != "OperationOutcome" || res.Text("issue.diagnostics") == "" || !strings.HasPrefix(head.Get("Content-Type"), "application/fhir+json") {
			t.Errorf("%s %s %.60s: %d %s, want %d and an OperationOutcome", r.method, r.path, r.body, status, body, r.status)
		}
		if bytes.Contains(body, []byte("9990000107")) || bytes.Contains(body, []byte("1234567890")) {
			t.Errorf("%s %s: the error repeats the number", r.method, r.path)
		}
	}
}

// Everything that the cast's records say is in the joined record, under its heading, for somebody who may see all of it.
func TestTheJoinedRecordHoldsWhatTheSourcesHold(t *testing.T) {
	c := severn(t)
	for _, p := range c.w.People {
		if p.NHS == "" || p.Objects || p.Key == cast.Main {
			continue
		}
		status, b, err := c.gather("doctor", nhs(p))
		if err != nil || status != http.StatusOK {
			t.Errorf("%s: %d %v", p.Key, status, err)
			continue
		}
		words := strings.ToLower(string(b.raw))
		for _, i := range p.Items {
			if i.Label == "V" || p.Died != "" && i.Held[0] == cast.GP2 {
				continue
			}
			if !strings.Contains(words, strings.ToLower(i.Display)) {
				t.Errorf("%s: %q, held by %v, is not in the record", p.Key, i.Display, i.Held)
			}
		}
		for _, m := range p.Medications {
			if !strings.Contains(words, strings.ToLower(m.Display)) {
				t.Errorf("%s: %q is not in the record", p.Key, m.Display)
			}
		}
		for _, r := range p.Reports {
			if !strings.Contains(words, strings.ToLower(r.Display)) {
				t.Errorf("%s: report %q is not in the record", p.Key, r.Display)
			}
		}
	}
}

// Each fault of a live source is told, by name, and costs nobody else anything.
func TestEachFaultIsToldAndContained(t *testing.T) {
	w, err := Start(nonTestContext, Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.Close() })
	c := &checker{w: w, ctx: t.Context(), out: io.Discard}
	for _, source := range []string{cast.GP1, cast.Mental} {
		for _, f := range []sim.Fault{sim.FaultDown, sim.FaultWrongPatient, sim.FaultGarbage, sim.FaultDrip, sim.Fault429, sim.Fault500, sim.FaultTruncated, sim.FaultSlow} {
			t.Run(source+"/"+string(f), func(t *testing.T) {
				w.Faults[source].Set(f, 0)
				defer w.Faults[source].Set(sim.FaultNone, 0)
				c.ctx = t.Context()
				status, b, err := c.gather("doctor", nhs(w.Person(cast.Main)))
				if err != nil || status != http.StatusOK {
					t.Fatalf("%d %v", status, err)
				}
				if code, text := b.outcomeOf(source); code == "" || text == "" {
					t.Error("the fault is not told")
				}
				for _, s := range []string{cast.Acute, cast.Community, cast.Council, cast.Ambulance} {
					if code, _ := b.outcomeOf(s); code != "" {
						t.Errorf("%s suffered too: %s", s, code)
					}
				}
			})
		}
	}
}
