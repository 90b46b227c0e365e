package web

import (
	"context"
	"encoding/json"
	"net/url"
	"strings"
	"testing"
	"time"

	"tombolo/access"
	"tombolo/connector"
	"tombolo/dataset"
	"tombolo/fhir"
	"tombolo/gather"
	"tombolo/policy"
	"tombolo/probe"
)

func (fakeDesk) Scope(context.Context, *access.Session) ([]*probe.Result, error) {
	return []*probe.Result{
		{Source: "m85001-gp", Name: "Hilltop Surgery", Kind: "gpconnect", At: today.Add(-time.Hour), Known: true, Describes: &connector.Description{Software: "GP system 4.2", Speaks: "GP Connect 1.6"},
			Speed: probe.Speed{Tries: 3, P50: 240 * time.Millisecond, P95: 900 * time.Millisecond}, Deadline: 200 * time.Millisecond, Until: today.Add(29 * 24 * time.Hour), Headings: map[dataset.Heading]*probe.Found{
				dataset.Allergies:  {Verdict: probe.Given, Way: "live", Entries: 2, Earliest: "1987-06", Latest: "2011-09", Types: map[string]int{"AllergyIntolerance": 2}, Speed: probe.Speed{Tries: 3, P50: 40 * time.Millisecond, P95: 80 * time.Millisecond}},
				dataset.Results:    {Verdict: probe.Given, Way: "live", Entries: 4, Earliest: today.AddDate(-1, 0, 0).Format("2006-01")},
				dataset.Documents:  {Verdict: probe.NotProvided, Way: "live", Problem: "the practice's system says that it does not offer this through GP Connect"},
				dataset.Encounters: {Verdict: probe.Unknown, Way: "live", Problem: "it did not answer in time"}}},
		{Source: "rx1-pas", Name: "Severn Acute Trust", Kind: "hl7v2", At: today.Add(-time.Hour), Besides: []dataset.Heading{dataset.Alerts}, Headings: map[dataset.Heading]*probe.Found{
			dataset.Encounters: {Verdict: probe.Given, Way: "push", Entries: 1200, Patients: 340, Earliest: "2025-10", Latest: "2026-03", Came: today.Add(-2 * time.Minute)},
			dataset.Allergies:  {Verdict: probe.Empty, Way: "push", Problem: "it has sent nothing of this yet"}}},
		{Source: "wye", Name: "Wye Shared Care Record", Kind: "tombolo", Problems: []string{"Not probed yet."}, Headings: map[dataset.Heading]*probe.Found{dataset.Allergies: {Verdict: probe.Unknown, Way: probe.FromNeighbour}}},
	}, nil
}

func (fakeDesk) ProbeNow(_ context.Context, _ *access.Session, source string) error {
	if source == "nowhere" {
		return fhir.Errorf(fhir.NotFound, "there is no such source")
	}
	return nil
}

// fakePlans explains to GPs.
type fakePlans struct{}

func (fakePlans) MayExplain(s *access.Session) bool { return s.Role == policy.GP }

func (fakePlans) Record(_ context.Context, _ *access.Session, person string, ask gather.Ask) (*gather.Record, error) {
	if !ask.Explain || person != "person-1" {
		return nil, fhir.Errorf(fhir.NotFound, "no record was found that you can open")
	}
	return &gather.Record{Person: gather.Person{ID: person, Name: fhir.HumanName{Family: "Taylor", Given: []string{"Margaret"}}}, At: today, Plan: []gather.Choice{
		{Source: "m85001-gp", Name: "Hilltop Surgery", Heading: dataset.Allergies, Way: "live", Why: gather.WhyAsked, Policy: "agreement", Age: -1, Verdict: probe.Given, Probed: today, Expected: 80 * time.Millisecond, Breaker: "closed", State: dataset.Present},
		{Source: "m85001-gp", Name: "Hilltop Surgery", Heading: dataset.Documents, Why: gather.WhyNotProvided, Policy: "agreement", Age: -1, Verdict: probe.NotProvided, Probed: today, State: dataset.NotKnown},
		{Source: "rx1-pas", Name: "Severn Acute Trust", Heading: dataset.Results, Way: "stored", Why: gather.WhyFresh, Policy: "agreement", Age: 5 * time.Minute, Fresh: time.Hour, State: dataset.NoneRecorded},
		{Source: "rx1-pas", Name: "Severn Acute Trust", Heading: dataset.Problems, Way: "stored", Why: gather.WhySlow, Policy: "agreement", Age: 5 * time.Hour, Fresh: time.Hour, Verdict: probe.Given, Probed: today, Slow: 3 * time.Second, Reaches: "2025-03", State: dataset.Present},
		{Source: "rw4-mh", Name: "Severn Mental Health Trust", Heading: dataset.Problems, Why: gather.WhyPolicy, Policy: "no-agreement", Age: -1, State: dataset.NotShared},
	}}, nil
}

// An operator reads what each source gives, how deep, how fast and how fresh, and what was not probed yet; programs read the same. Nobody else does.
func TestTheDeskShowsWhatEachSourceGives(t *testing.T) {
	srv := newSite(t, newFake())
	ops := newReader(t, srv, "ops")
	ops.get("/desk").wants(t, "What each source gives")
	ops.get("/desk/scope").wants(t, "Not provided", "since 1987", "GP system 4.2, GP Connect 1.6", "1200 entries of 340 patients", "Not probed yet", "neighbour", "It gives besides, and the region file does not say so: Alerts", "0.24 s at the median", "not asked for", "asked for, and told to take longer than 200ms", "where it has none, said to reach back to "+today.AddDate(-1, 0, 0).Format("January 2006"), "counts until")
	page := ops.get("/desk/scope.json")
	var got []*probe.Result
	if err := json.Unmarshal([]byte(page.body), &got); err != nil || len(got) != 3 || got[0].Headings[dataset.Documents].Verdict != probe.NotProvided {
		t.Errorf("for programs: %v, %s", err, page.body)
	}
	ops.post("/desk/scope/probe", url.Values{"source": {"rx1-pas"}}).wants(t, "The probing has begun")
	if got := ops.post("/desk/scope/probe", url.Values{"source": {"nowhere"}}); got.status != 404 {
		t.Errorf("a source that there is not: %d", got.status)
	}
	doctor := newReader(t, srv, "dr-marsh")
	for _, path := range []string{"/desk/scope", "/desk/scope.json"} {
		if got := doctor.get(path); got.status != 404 {
			t.Errorf("a doctor at %s: %d", path, got.status)
		}
	}
	if got := doctor.post("/desk/scope/probe", url.Values{}); got.status != 404 {
		t.Errorf("a doctor probes: %d", got.status)
	}
}

// How a record was gathered is shown to those who may know, of a record that they may open. To others there is no such page, and no link to it.
func TestHowARecordWasGatheredIsShownToThoseWhoMayKnow(t *testing.T) {
	srv := newSite(t, newFake())
	gp := newReader(t, srv, "dr-marsh")
	gp.get("/record/person-1?all=1").wants(t, "/desk/plan/person-1")
	gp.get("/desk/plan/person-1").wants(t, "Hilltop Surgery", "not at all", "a probe found that it does not give this", "heard 5 minutes ago; fresh for 1 hour", "no-agreement", "0.08 s expected", "takes longer to answer than it is given", "usually too late; back to 2025")
	if got := gp.get("/desk/plan/nobody"); got.status != 404 {
		t.Errorf("nobody's plan: %d", got.status)
	}
	ops := newReader(t, srv, "ops")
	if got := ops.get("/desk/plan/person-1"); got.status != 404 || strings.Contains(got.body, "Hilltop") {
		t.Errorf("an operator reads how a person's record was gathered: %d", got.status)
	}
}
