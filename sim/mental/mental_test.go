package mental_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"tombolo/connector"
	"tombolo/connector/fhirapi"
	"tombolo/dataset"
	"tombolo/fhir"
	"tombolo/sim"
	"tombolo/sim/cast"
	"tombolo/sim/mental"
)

const token = "a-demo-token"

var today = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

// trust starts the simulated trust and a client of it.
func trust(t *testing.T, people []cast.Person) (*fhirapi.Client, *sim.Faults, *[]string) {
	t.Helper()
	faults := &sim.Faults{}
	h := mental.New(mental.Options{People: people, Token: token, Faults: faults, Count: 1})
	var urls []string
	var mu sync.Mutex
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		urls = append(urls, r.URL.String())
		mu.Unlock()
		h.ServeHTTP(w, r)
	}))
	t.Cleanup(srv.Close)
	c, err := fhirapi.New(fhirapi.Options{Source: cast.Mental, Address: srv.URL, Parallel: 1,
		Token: func(context.Context, connector.Requester) (string, error) { return token, nil }})
	if err != nil {
		t.Fatal(err)
	}
	return c, faults, &urls
}

// gives is what the region file says the trust gives.
var gives = []dataset.Heading{
	dataset.Demographics, dataset.GPPractice, dataset.Allergies, dataset.Problems, dataset.Medications, dataset.Encounters, dataset.CarePlans,
	dataset.RiskAssessments, dataset.Legal, dataset.Alerts, dataset.ProfessionalContacts,
}

func about(p cast.Person, headings ...dataset.Heading) connector.Question {
	return connector.Question{Identifiers: []fhir.Identifier{{System: fhir.SystemNHSNumber, Value: p.NHS}}, Headings: headings}
}

func TestEveryoneTheTrustKnowsIsFoundWithAllThatTheTrustHolds(t *testing.T) {
	people := append(cast.Dozen(today), cast.Generate(7, 40, today)...)
	client, _, urls := trust(t, people)
	for _, p := range people {
		t.Run(p.Key, func(t *testing.T) {
			a, err := client.Ask(t.Context(), about(p, gives...))
			if !p.At(cast.Mental) || p.NHS == "" {
				if !fhir.Is(err, fhir.NotFound) {
					t.Fatalf("somebody the trust does not know: got %v, want not-found", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if len(a.Issues) > 0 {
				t.Errorf("issues: %v", a.Issues)
			}
			if a.Patient.Text("birthDate") != p.Born || a.Patient.Text("name.family") != p.Family {
				t.Errorf("demographics of somebody else")
			}
			got := map[dataset.Heading]int{}
			for _, r := range a.Content {
				got[dataset.HeadingOf(r)]++
			}
			for _, h := range gives {
				want := len(p.ItemsAt(cast.Mental, h))
				switch h {
				case dataset.Medications:
					want = len(p.MedicationsAt(cast.Mental))
				case dataset.Encounters:
					want = len(p.EncountersAt(cast.Mental))
				case dataset.Demographics:
					want = 0
				case dataset.GPPractice:
					want = 0
					if p.Practice != "" {
						want = 1
					}
				}
				if got[h] != want {
					t.Errorf("%s: %d entries, want %d", h, got[h], want)
				}
				state := dataset.NoneRecorded
				if want > 0 || h == dataset.Demographics {
					state = dataset.Present
				}
				if a.States[h] != state {
					t.Errorf("%s is %q, want %q", h, a.States[h], state)
				}
			}
		})
	}
	for _, u := range *urls {
		for _, p := range people {
			if p.NHS != "" && strings.Contains(u, p.NHS) {
				t.Fatal("an NHS number stands in a URL")
			}
		}
	}
	if !slices.ContainsFunc(*urls, func(u string) bool { return strings.Contains(u, "_from=") }) {
		t.Error("no answer had a second page: the client's paging was not tried")
	}
}

func TestLegalStatusIsCarriedAsUKCoreSays(t *testing.T) {
	p := cast.Dozen(today)[0]
	client, _, _ := trust(t, []cast.Person{p})
	a, err := client.Ask(t.Context(), about(p, dataset.Legal, dataset.Encounters))
	if err != nil {
		t.Fatal(err)
	}
	var status, extension string
	for _, r := range a.Content {
		if dataset.HeadingOf(r) == dataset.Legal {
			status = r.Text("valueCodeableConcept.coding.code")
		}
		if r.ID() == "MH-E-12" {
			extension = r.Text("extension.extension.valueCodeableConcept.coding.code")
		}
	}
	if status != "02" || extension != "admission" {
		t.Errorf("section 2: Observation value %q, Encounter's legal status context %q", status, extension)
	}
}

func TestLabelsComeThrough(t *testing.T) {
	i := slices.IndexFunc(cast.Dozen(today), func(p cast.Person) bool { return p.Key == "sam" })
	p := cast.Dozen(today)[i]
	client, _, _ := trust(t, []cast.Person{p})
	a, err := client.Ask(t.Context(), about(p, dataset.Problems, dataset.RiskAssessments))
	if err != nil {
		t.Fatal(err)
	}
	labels := map[string]string{}
	for _, r := range a.Content {
		labels[r.Type()] = r.Text("meta.security.code")
	}
	if labels["Condition"] != "R" || labels["RiskAssessment"] != "NOPAT" {
		t.Errorf("labels: %v", labels)
	}
}

func TestARestrictedPersonsWhereaboutsAreNotSent(t *testing.T) {
	p := cast.Dozen(today)[0]
	p.Restricted = true
	client, _, _ := trust(t, []cast.Person{p})
	a, err := client.Ask(t.Context(), about(p, gives...))
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range append(a.Content, a.Patient) {
		if strings.Contains(string(r.Raw()), p.Postcode) || strings.Contains(string(r.Raw()), "Larch Ward") {
			t.Errorf("%s says where the person lives or was seen", r.Ref())
		}
	}
	if a.Patient.Text("meta.security.code") != "R" {
		t.Error("the restriction itself is not told")
	}
}

func TestFaultsAreTold(t *testing.T) {
	people := cast.Dozen(today)
	client, faults, _ := trust(t, people)
	for _, c := range []struct {
		fault sim.Fault
		want  fhir.IssueType
	}{
		{sim.FaultDown, fhir.Transient}, {sim.FaultGarbage, fhir.Structure}, {sim.Fault429, fhir.Throttled}, {sim.Fault500, fhir.Transient},
		{sim.FaultTruncated, fhir.Transient}, {sim.FaultSlow, fhir.Timeout}, {sim.FaultDrip, fhir.Timeout},
	} {
		faults.Set(c.fault, time.Minute)
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		begun := time.Now()
		a, err := client.Ask(ctx, about(people[0], gives...))
		cancel()
		if !fhir.Is(err, c.want) {
			t.Errorf("%s: got %v, want %s", c.fault, err, c.want)
		}
		if a != nil && len(a.Content) > 0 {
			t.Errorf("%s: content came with it", c.fault)
		}
		if time.Since(begun) > 20*time.Second {
			t.Errorf("%s: the deadline was not kept", c.fault)
		}
	}
	faults.Set(sim.FaultWrongPatient, 0)
	a, err := client.Ask(t.Context(), about(people[0], gives...))
	if err != nil {
		t.Fatal(err)
	}
	if a.Patient.Text("name.family") == people[0].Family {
		t.Error("the wrong-patient fault gave the right patient")
	}
	faults.Set(sim.FaultNone, 0)
	if _, err := client.Ask(t.Context(), about(people[0], gives...)); err != nil {
		t.Errorf("after the faults: %v", err)
	}
}

func TestWithoutTheTokenNothingIsTold(t *testing.T) {
	srv := httptest.NewServer(mental.New(mental.Options{People: cast.Dozen(today), Token: token}))
	defer srv.Close()
	c, err := fhirapi.New(fhirapi.Options{Source: cast.Mental, Address: srv.URL})
	if err != nil {
		t.Fatal(err)
	}
	a, err := c.Ask(t.Context(), about(cast.Dozen(today)[0], dataset.Allergies))
	if !fhir.Is(err, fhir.Login) || a.Patient != nil || a.States[dataset.Allergies] != dataset.NotShared {
		t.Errorf("got %v, %+v", err, a)
	}
}
