package ambulance_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"tombolo/connector"
	"tombolo/connector/document"
	"tombolo/dataset"
	"tombolo/fhir"
	"tombolo/sim"
	"tombolo/sim/ambulance"
	"tombolo/sim/cast"
)

var today = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

// door keeps what it is given, by the once-only key, as a node does.
type door struct {
	mu        sync.Mutex
	taken     map[string]connector.Delivery
	order     []string
	rejected  []connector.Delivery
	failFirst int // how many deliveries are answered with a passing fault
}

func (d *door) Accept(_ context.Context, c connector.Delivery) (connector.Receipt, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.failFirst > 0 {
		d.failFirst--
		return connector.Receipt{}, fhir.Errorf(fhir.Transient, "the disk is full")
	}
	if c.Rejected != nil {
		d.rejected = append(d.rejected, c)
		return connector.Receipt{}, nil
	}
	if old, ok := d.taken[c.ID]; ok {
		return connector.Receipt{Duplicate: true, Reused: string(old.Raw) != string(c.Raw), Reply: old.Reply}, nil
	}
	d.taken[c.ID] = c
	d.order = append(d.order, c.ID)
	return connector.Receipt{Reply: c.Reply}, nil
}

// node starts a document listener behind a door.
func node(t *testing.T) (*door, string) {
	t.Helper()
	l, err := document.New(document.Options{Source: cast.Ambulance, Token: "secret"})
	if err != nil {
		t.Fatal(err)
	}
	d := &door{taken: map[string]connector.Delivery{}}
	srv := httptest.NewServer(l.Handler(d))
	t.Cleanup(srv.Close)
	return d, srv.URL
}

func TestEveryIncidentAndCallArrives(t *testing.T) {
	people := append(cast.Dozen(today), cast.Generate(3, 60, today)...)
	d, address := node(t)
	service := ambulance.New(ambulance.Options{Address: address, Token: "secret", People: people})
	rep, err := service.Send(t.Context())
	if err != nil || len(rep.Refused) > 0 || rep.Again > 0 {
		t.Fatalf("%+v %v", rep, err)
	}
	want := 0
	for _, p := range people {
		want += len(p.EncountersAt(cast.Ambulance))
	}
	if rep.Sent != want || len(d.taken) != want {
		t.Errorf("sent %d, taken %d, want %d", rep.Sent, len(d.taken), want)
	}
	for _, c := range d.taken {
		if len(c.Issues) > 0 {
			t.Errorf("issues: %v", c.Issues)
		}
		var patient, encounter, doc, page *fhir.Resource
		for _, r := range c.Content {
			switch r.Type() {
			case "Patient":
				patient = r
			case "Encounter":
				encounter = r
			case "DocumentReference":
				doc = r
			case "Binary":
				page = r
			}
		}
		if patient == nil || encounter == nil || doc == nil || page == nil {
			t.Fatalf("%s: a part is missing of %v", c.ID, c.Content)
		}
		p, e := whose(people, patient)
		if p == nil || encounter.Text("period.start") == "" || encounter.Text("reasonCode.text") == "" {
			t.Errorf("%s: patient or encounter is not as the cast has them: %s", c.ID, encounter.Raw())
			continue
		}
		if !e[encounter.Text("period.start")] {
			t.Errorf("%s: the cast knows no encounter that began at %s", p.Key, encounter.Text("period.start"))
		}
		if u := doc.Text("content.attachment.url"); u != string(page.Ref()) || page.Text("contentType") != "text/html" {
			t.Errorf("the document does not lead to its page: %s", u)
		}
	}
	again, err := service.Send(t.Context())
	if err != nil || again.Again != want || len(d.taken) != want {
		t.Errorf("sent again: %+v %v", again, err)
	}
}

// whose finds the person a Patient is about, and when their encounters began.
func whose(people []cast.Person, r *fhir.Resource) (*cast.Person, map[string]bool) {
	for _, p := range people {
		for _, id := range r.Identifiers() {
			if id.Value == p.LocalID(cast.Ambulance) && r.Text("name.family") == p.Family && r.Text("birthDate") == p.Born {
				begun := map[string]bool{}
				for _, e := range p.EncountersAt(cast.Ambulance) {
					begun[e.Start] = true
				}
				return &p, begun
			}
		}
	}
	return nil, nil
}

func TestTheMainPersonsIncidentAndCallAreOnePatientWithTheirObservation(t *testing.T) {
	d, address := node(t)
	if _, err := ambulance.New(ambulance.Options{Address: address, Token: "secret", People: cast.Dozen(today)[:1]}).Send(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(d.order) != 2 {
		t.Fatalf("%d documents", len(d.order))
	}
	incident, call := d.taken[d.order[0]], d.taken[d.order[1]]
	if incident.Patient != call.Patient || incident.Map != "fhir-document/1" || call.Map != "itk-cda/1" {
		t.Errorf("patients %s and %s, by %s and %s", incident.Patient, call.Patient, incident.Map, call.Map)
	}
	if !strings.Contains(string(call.Reply), "InfrastructureResponse") || !strings.Contains(string(incident.Reply), "OperationOutcome") {
		t.Errorf("replies: %s, %s", call.Reply, incident.Reply)
	}
	news := ""
	for _, r := range incident.Content {
		if r.Type() == "Observation" {
			news = r.Text("valueQuantity.value")
			if dataset.HeadingOf(r) != dataset.Observations {
				t.Errorf("NEWS2 is read under %q", dataset.HeadingOf(r))
			}
		}
	}
	if news != "5" {
		t.Errorf("NEWS2 is %q, want 5", news)
	}
	for _, r := range call.Content {
		if r.Type() == "Encounter" && (r.Text("class.code") != "VR" || r.Text("reasonCode.text") != "Cough and breathlessness") {
			t.Errorf("the call: %s", r.Raw())
		}
	}
}

func TestAPassingFaultIsTriedAgainAndADocumentIsThereOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, _ := document.New(document.Options{Source: cast.Ambulance})
		d := &door{taken: map[string]connector.Delivery{}, failFirst: 3}
		lost := true
		handler := l.Handler(d)
		client := &http.Client{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
			w := httptest.NewRecorder()
			handler.ServeHTTP(w, r)
			if w.Code == 201 && lost {
				lost = false
				return nil, context.DeadlineExceeded // taken, but the sender does not hear so
			}
			return w.Result(), nil
		})}
		rep, err := ambulance.New(ambulance.Options{Address: "http://node", People: cast.Dozen(today)[:1], HTTP: client,
			Now: func() time.Time { return today }}).Send(t.Context())
		if err != nil || rep.Sent != 2 || rep.Again != 1 || len(d.taken) != 2 {
			t.Errorf("%+v %v, %d taken", rep, err, len(d.taken))
		}
	})
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestFaultsAreRefusedOrToldAndNeverTakenForTheRightThing(t *testing.T) {
	for fault, want := range map[sim.Fault]int{sim.FaultGarbage: 0, sim.FaultTruncated: 0, sim.FaultWrongPatient: 2} {
		d, address := node(t)
		faults := &sim.Faults{}
		faults.Set(fault, 0)
		rep, err := ambulance.New(ambulance.Options{Address: address, Token: "secret", People: cast.Dozen(today)[:1], Faults: faults}).Send(t.Context())
		if err != nil || rep.Sent != want || len(rep.Refused) != 2-want || len(d.rejected) != 2-want {
			t.Errorf("%s: %+v %v, %d in quarantine", fault, rep, err, len(d.rejected))
		}
		for _, c := range d.taken {
			for _, r := range c.Content {
				if fault == sim.FaultWrongPatient && c.Map == "fhir-document/1" && (r.Type() == "Encounter" || r.Type() == "Observation") {
					t.Errorf("somebody else's %s was taken", r.Type())
				}
			}
		}
	}
	_, address := node(t)
	faults := &sim.Faults{}
	faults.Set(sim.FaultDown, 0)
	if _, err := ambulance.New(ambulance.Options{Address: address, People: cast.Dozen(today)[:1], Faults: faults, Tries: 1}).Send(t.Context()); err == nil {
		t.Error("switched off, and says it sent")
	}
	rep, err := ambulance.New(ambulance.Options{Address: address, Token: "wrong", People: cast.Dozen(today)[:1]}).Send(t.Context())
	if err != nil || len(rep.Refused) != 2 {
		t.Errorf("with the wrong token: %+v %v", rep, err)
	}
}

func TestARestrictedPersonsWhereaboutsAreNotSent(t *testing.T) {
	p := cast.Dozen(today)[0]
	p.Restricted = true
	for _, d := range ambulance.New(ambulance.Options{People: []cast.Person{p}}).Documents() {
		if strings.Contains(string(d.Body), p.Postcode) || strings.Contains(string(d.Body), "Ferry Lane") {
			t.Errorf("the document of %s says where she lives", d.Encounter)
		}
	}
}
