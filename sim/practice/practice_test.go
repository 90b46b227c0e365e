package practice_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"tombolo/connector"
	"tombolo/connector/gpconnect"
	"tombolo/dataset"
	"tombolo/fhir"
	"tombolo/sim"
	"tombolo/sim/cast"
	"tombolo/sim/practice"
)

var now = time.Date(2026, 4, 15, 10, 0, 0, 0, time.UTC)

func clock() time.Time { return now }

var marsh = connector.Requester{
	UserID: "u-17", UserName: "Dr Imogen Clarke", RoleName: "Hospital doctor", OrganisationODS: "RX1", OrgName: "Severn Acute Trust",
	Purpose: "TREAT", TraceID: "629ea9ba-a077-4d99-b289-7a9b19fd4e03",
}

var headings = []dataset.Heading{
	dataset.Demographics, dataset.GPPractice, dataset.Allergies, dataset.Medications, dataset.Problems, dataset.Immunisations,
	dataset.Encounters, dataset.Observations, dataset.SocialContext, dataset.FamilyHistory, dataset.Results, dataset.Referrals, dataset.CarePlans,
}

func question(p cast.Person, h ...dataset.Heading) connector.Question {
	if len(h) == 0 {
		h = headings
	}
	return connector.Question{Identifiers: []fhir.Identifier{{System: fhir.SystemNHSNumber, Value: p.NHS}}, Headings: h, Requester: marsh}
}

func serve(t *testing.T, o practice.Options) (connector.Asker, *httptest.Server) {
	t.Helper()
	o.Now, o.ASID = clock, "200000000116"
	if o.People == nil {
		o.People = cast.Dozen(now)
	}
	srv := httptest.NewServer(practice.New(o))
	t.Cleanup(srv.Close)
	c, err := gpconnect.New(gpconnect.Options{Source: o.Source, Address: srv.URL, ASID: "200000000115", ToASID: "200000000116", Now: clock})
	if err != nil {
		t.Fatal(err)
	}
	return c, srv
}

func person(key string) cast.Person {
	all := cast.Dozen(now)
	return all[slices.IndexFunc(all, func(p cast.Person) bool { return p.Key == key })]
}

// Whatever the cast has at a practice must arrive over the wire: nothing less, and nothing made up.
func TestEverybodyKnownAtAPracticeArrivesWhole(t *testing.T) {
	for _, source := range []string{cast.GP1, cast.GP2} {
		asker, _ := serve(t, practice.Options{Source: source})
		for _, p := range cast.Dozen(now) {
			t.Run(source+"/"+p.Key, func(t *testing.T) {
				a, err := asker.Ask(t.Context(), question(p))
				if p.NHS == "" {
					if !fhir.Is(err, fhir.NotSupported) {
						t.Errorf("somebody without an NHS number: got %v, want not-supported", err)
					}
					return
				}
				if !p.At(source) || p.Died != "" {
					if !fhir.Is(err, fhir.NotFound) {
						t.Errorf("somebody not registered here: got %v, want not-found", err)
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				checkDemographics(t, p, a.Patient)
				checkFacts(t, p, source, a)
			})
		}
	}
}

func checkDemographics(t *testing.T, p cast.Person, got *fhir.Resource) {
	t.Helper()
	if n := got.Text("identifier.value"); n != p.NHS {
		t.Error("the Patient has another NHS number")
	}
	if got.Text("birthDate") != p.Born || got.Text("name.family") != p.Family || got.Text("gender") != p.Sex {
		t.Errorf("the Patient is %s %s %s", got.Text("name.family"), got.Text("birthDate"), got.Text("gender"))
	}
}

func checkFacts(t *testing.T, p cast.Person, source string, a *connector.Answer) {
	t.Helper()
	count := map[dataset.Heading]map[string]int{}
	for _, r := range a.Content {
		h := dataset.HeadingOf(r)
		if count[h] == nil {
			count[h] = map[string]int{}
		}
		count[h][r.Type()]++
	}
	more := surgeryOf(p, source)
	want := map[dataset.Heading]int{}
	for _, i := range p.ItemsAt(source) {
		want[i.Heading]++
	}
	for _, c := range more.Consultations { // what was measured in one stands under its own heading
		for _, tp := range c.Topics {
			for _, part := range tp.Parts {
				for _, line := range part.Lines {
					if line.Value != "" {
						want[dataset.Observations]++
					}
				}
			}
		}
	}
	types := map[dataset.Heading]string{dataset.Allergies: "AllergyIntolerance", dataset.Problems: "Condition", dataset.Immunisations: "Immunization",
		dataset.Observations: "Observation", dataset.SocialContext: "Observation", dataset.FamilyHistory: "Observation", dataset.Referrals: "ServiceRequest"}
	for h, typ := range types {
		if count[h][typ] != want[h] {
			t.Errorf("%s: %d %s arrived, the cast has %d", h, count[h][typ], typ, want[h])
		}
	}
	meds, issues := append(p.MedicationsAt(source), more.Medications...), 0
	consultations := len(p.EncountersAt(source)) + len(more.Consultations)
	for _, m := range meds {
		if issues += len(m.Issues); m.Type != "repeat" && len(m.Issues) == 0 {
			issues++
		}
	}
	if got := count[dataset.Medications]["MedicationStatement"]; got != len(meds) {
		t.Errorf("%d medication statements, the cast has %d prescriptions", got, len(meds))
	}
	if got := count[dataset.Medications]["MedicationRequest"]; got != len(meds)+issues {
		t.Errorf("%d medication requests, want %d plans and %d issues", got, len(meds), issues)
	}
	if got, want := count[dataset.Encounters]["Encounter"], consultations; got != want {
		t.Errorf("%d consultations, want %d", got, want)
	}
	if got, want := count[dataset.Results]["DiagnosticReport"], len(p.ReportsAt(source))+len(more.Panels); got != want {
		t.Errorf("%d reports, want %d", got, want)
	}
	for h, n := range map[dataset.Heading]int{dataset.Allergies: want[dataset.Allergies], dataset.Problems: want[dataset.Problems], dataset.Medications: len(meds),
		dataset.Immunisations: want[dataset.Immunisations], dataset.Referrals: want[dataset.Referrals], dataset.Encounters: consultations} {
		st := dataset.NoneRecorded
		switch {
		case n > 0:
			st = dataset.Present
		case more.Arriving != "": // nothing of it has arrived yet, which is not nothing
			st = ""
		}
		if a.States[h] != st {
			t.Errorf("%s is told as %q, want %q", h, a.States[h], st)
		}
	}
	for _, is := range a.Issues {
		if more.Arriving != "" && strings.Contains(is.Text, "previous practice") || is.Type == fhir.Suppressed && len(more.Items) > 0 {
			continue
		}
		t.Errorf("the practice's own records should convert without remark: %v", is)
	}
	if len(a.Issues) == 0 && (more.Arriving != "" || len(more.Items) > 0) {
		t.Error("nobody says that something is missing")
	}
}

// surgeryOf is what the practice where somebody is registered holds beyond the plain facts; only such people's records are served.
func surgeryOf(p cast.Person, source string) cast.Surgery {
	if cast.OrganisationOf(source).ODS != p.Practice {
		return cast.Surgery{}
	}
	return cast.SurgeryOf(p.Key, now)
}

func TestTheMainPersonsRecordReadsAsTheCastSays(t *testing.T) {
	asker, _ := serve(t, practice.Options{Source: cast.GP1})
	a, err := asker.Ask(t.Context(), question(person(cast.Main)))
	if err != nil {
		t.Fatal(err)
	}
	find := func(typ, path, value string) *fhir.Resource {
		t.Helper()
		for _, r := range a.Content {
			for v := range r.Value().All(path) {
				if r.Type() == typ && v.Str() == value {
					return r
				}
			}
		}
		t.Fatalf("no %s with %s = %s", typ, path, value)
		return nil
	}
	pen := find("AllergyIntolerance", "code.coding.code", "91936005")
	if pen.Text("clinicalStatus.coding.code") != "active" || pen.Text("recordedDate") != "1987-06-02" || pen.Text("criticality") != "high" {
		t.Errorf("penicillin: %s", pen.Raw())
	}
	bp := find("Observation", "code.coding.code", "75367002")
	if bp.Text("component.valueQuantity.value") != "142" || bp.Text("encounter.reference") == "" {
		t.Errorf("blood pressure: %s", bp.Raw())
	}
	flu := find("Immunization", "vaccineCode.text", "Seasonal influenza vaccination")
	if flu.Text("status") != "completed" || flu.Text("recorded") == "" {
		t.Errorf("influenza: %s", flu.Raw())
	}
	note := find("Observation", "note.text", "Feet checked, no ulcer. Flu vaccine given.")
	if dataset.HeadingOf(note) != dataset.Encounters {
		t.Error("the words of a consultation do not stand with it")
	}
	category := find("List", "title", "Examination")
	if n := len(slices.Collect(category.Value().All("entry.item.reference"))); n != 2 {
		t.Errorf("%d entries under Examination, want the blood pressure and the weight", n)
	}
	stopped := find("MedicationRequest", "statusReason.text", "Stopped: allergic reaction")
	if stopped.Text("status") != "stopped" || stopped.Text("intent") != "plan" {
		t.Errorf("amoxicillin: %s", stopped.Raw())
	}
	hba1c := find("Observation", "code.coding.code", "999791000000106")
	if dataset.HeadingOf(hba1c) != dataset.Results || hba1c.Text("interpretation.coding.code") != "H" {
		t.Errorf("HbA1c: %s", hba1c.Raw())
	}
}

func TestSixReasonsHaveOneAnswer(t *testing.T) {
	people := cast.Dozen(now)
	twin := func(key, nhs string, change func(*cast.Person)) cast.Person {
		p := person("george")
		p.Key, p.NHS = key, cast.NHSNumber(nhs)
		change(&p)
		people = append(people, p)
		return p
	}
	unverified := twin("unverified", "999000171", func(p *cast.Person) { p.NHSStatus = "02" })
	sensitive := twin("sensitive", "999000172", func(*cast.Person) {})
	inactive := twin("inactive", "999000173", func(p *cast.Person) { p.Practice = "" })
	_, srv := serve(t, practice.Options{Source: cast.GP2, People: people, Sensitive: []string{"sensitive"}})
	var first string
	for _, p := range []cast.Person{
		{Key: "nobody", NHS: cast.NHSNumber("999000167")}, // never heard of
		person("harold"),   // deceased
		person("margaret"), // registered elsewhere
		unverified, sensitive, inactive,
	} {
		status, body := post(t, srv.URL, p.NHS, nil)
		if status != http.StatusNotFound || !strings.Contains(body, "PATIENT_NOT_FOUND") {
			t.Errorf("%s: HTTP %d %s", p.Key, status, body)
		}
		if first == "" {
			first = body
		}
		if body != first {
			t.Errorf("%s is told apart from somebody never heard of", p.Key)
		}
	}
}

func TestAnObjectionKnownToThePracticeSuppresses(t *testing.T) {
	asker, _ := serve(t, practice.Options{Source: cast.GP1, Dissent: true})
	if _, err := asker.Ask(t.Context(), question(person("daniel"))); !fhir.Is(err, fhir.Suppressed) {
		t.Errorf("got %v, want suppressed", err)
	}
}

func TestWarningsOfAListReachTheHeading(t *testing.T) {
	people := cast.Dozen(now)
	for i := range people {
		if people[i].Key == "anisa" {
			people[i].Items[0].Label = "R"
		}
	}
	asker, _ := serve(t, practice.Options{Source: cast.GP1, People: people, Exclude: true, Transit: map[string]string{"aisha": "2026-03-12"}})
	a, err := asker.Ask(t.Context(), question(person("anisa"), dataset.Problems))
	if err != nil {
		t.Fatal(err)
	}
	if a.States[dataset.Problems] != dataset.NotShared {
		t.Errorf("an empty list with excluded items is told as %q", a.States[dataset.Problems])
	}
	if len(a.Issues) != 1 || a.Issues[0].Type != fhir.Suppressed || a.Issues[0].Severity != fhir.Warning || a.Issues[0].Expression != "problems" {
		t.Errorf("issues %v", a.Issues)
	}
	a, err = asker.Ask(t.Context(), question(person("aisha"), dataset.Allergies, dataset.Problems))
	if err != nil {
		t.Fatal(err)
	}
	if _, said := a.States[dataset.Problems]; said {
		t.Error("an empty list of a record still in transit is not known to be empty")
	}
	if a.States[dataset.Allergies] != dataset.Present {
		t.Error("what has arrived is present")
	}
	if !slices.ContainsFunc(a.Issues, func(i *fhir.Issue) bool { return strings.Contains(i.Text, "before 12-Mar-2026") }) {
		t.Errorf("nobody says what may be missing: %v", a.Issues)
	}
}

func TestLabelsTravel(t *testing.T) {
	people := cast.Dozen(now)
	for i := range people {
		if people[i].Key == "anisa" {
			people[i].Items[0].Label = "NOPAT"
		}
	}
	asker, _ := serve(t, practice.Options{Source: cast.GP1, People: people})
	a, err := asker.Ask(t.Context(), question(person("anisa"), dataset.Problems))
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range a.Content {
		if r.Type() == "Condition" && (r.Text("meta.security.code") != "NOPAT" || r.Text("meta.security.system") != fhir.SystemActCode) {
			t.Errorf("the label was lost: %s", r.Raw())
		}
	}
}

func TestAWrongPatientIsWhollySomebodyElse(t *testing.T) {
	var faults sim.Faults
	faults.Set(sim.FaultWrongPatient, 0)
	asker, _ := serve(t, practice.Options{Source: cast.GP1, Faults: &faults})
	p := person(cast.Main)
	a, err := asker.Ask(t.Context(), question(p))
	if err != nil {
		t.Fatal(err)
	}
	if a.Patient.Text("identifier.value") == p.NHS || a.Patient.Text("name.family") == p.Family {
		t.Error("the fault shows the right person")
	}
}

func TestFaults(t *testing.T) {
	want := map[sim.Fault][]fhir.IssueType{
		sim.FaultSlow: {fhir.Timeout}, sim.FaultDrip: {fhir.Timeout}, sim.FaultDown: {fhir.Transient}, sim.FaultGarbage: {fhir.Structure},
		sim.Fault429: {fhir.Throttled}, sim.Fault500: {fhir.Transient}, sim.FaultTruncated: {fhir.Transient, fhir.Structure},
	}
	for fault, types := range want {
		var faults sim.Faults
		deadline := 10 * time.Second
		if slices.Contains(types, fhir.Timeout) {
			deadline = 300 * time.Millisecond
		}
		faults.Set(fault, time.Second) // only slow takes it: longer than its deadline
		asker, _ := serve(t, practice.Options{Source: cast.GP1, Faults: &faults})
		ctx, cancel := context.WithTimeout(t.Context(), deadline)
		_, err := asker.Ask(ctx, question(person(cast.Main)))
		cancel()
		if is := fhir.IssueOf(err); is == nil || !slices.Contains(types, is.Type) {
			t.Errorf("%s: got %v, want one of %v", fault, err, types)
		}
	}
}

// token makes the JWT of a good request, with claims changed.
func token(change fhir.M) string {
	claims := fhir.M{
		"iss": "https://consumer.example", "sub": "u-17", "aud": "x", "iat": now.Unix(), "exp": now.Unix() + 300,
		"reason_for_request": "directcare", "requested_scope": "patient/*.read",
		"requesting_device":       fhir.M{"resourceType": "Device", "identifier": []fhir.M{{"system": "s", "value": "d"}}, "model": "m", "version": "1"},
		"requesting_organization": fhir.M{"resourceType": "Organization", "identifier": []fhir.M{{"system": fhir.SystemODS, "value": "RX1"}}, "name": "Severn"},
		"requesting_practitioner": fhir.M{"resourceType": "Practitioner", "id": "u-17", "name": []fhir.M{{"family": "Clarke", "given": []string{"Imogen"}}},
			"identifier": []fhir.M{{"system": fhir.SystemSDSUser, "value": "UNK"}, {"system": fhir.SystemSDSRole, "value": "UNK"}}},
	}
	for k, v := range change {
		if claims[k] = v; v == nil {
			delete(claims, k)
		}
	}
	enc := base64.RawURLEncoding
	return enc.EncodeToString([]byte(`{"alg":"none","typ":"JWT"}`)) + "." + enc.EncodeToString(fhir.JSON(claims)) + "."
}

// post sends a good request, changed.
func post(t *testing.T, address, nhs string, change func(*http.Request), params ...string) (int, string) {
	t.Helper()
	body := `{"resourceType":"Parameters","parameter":[{"name":"patientNHSNumber","valueIdentifier":{"system":"https://fhir.nhs.uk/Id/nhs-number","value":"` + nhs + `"}}` +
		strings.Join(append([]string{""}, params...), ",") + `]}`
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, address+"/Patient/$gpc.getstructuredrecord", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for k, v := range map[string]string{"Ssp-TraceID": "629ea9ba-a077-4d99-b289-7a9b19fd4e03", "Ssp-From": "200000000115", "Ssp-To": "200000000116",
		"Ssp-InteractionID": "urn:nhs:names:services:gpconnect:fhir:operation:gpc.getstructuredrecord-1",
		"Content-Type":      "application/fhir+json;charset=utf-8", "Accept": "application/fhir+json", "Authorization": "Bearer " + token(nil)} {
		r.Header.Set(k, v)
	}
	if change != nil {
		change(r)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

func TestTheDoorIsAsStrictAsTheSpecification(t *testing.T) {
	_, srv := serve(t, practice.Options{Source: cast.GP1})
	nhs := person(cast.Main).NHS
	claims := func(change fhir.M) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+token(change)) }
	}
	header := func(k, v string) func(*http.Request) {
		return func(r *http.Request) {
			if r.Header.Set(k, v); v == "" {
				r.Header.Del(k)
			}
		}
	}
	meds := `{"name":"includeMedication"}`
	cases := []struct {
		name   string
		change func(*http.Request)
		nhs    string
		params []string
		status int
		code   string
	}{
		{"a good request", nil, nhs, []string{meds}, 200, ""},
		{"only who it is", nil, nhs, nil, 200, ""},
		{"no trace", header("Ssp-TraceID", ""), nhs, nil, 400, "BAD_REQUEST"},
		{"a trace that is no UUID", header("Ssp-TraceID", "17"), nhs, nil, 400, "BAD_REQUEST"},
		{"no sender", header("Ssp-From", ""), nhs, nil, 400, "BAD_REQUEST"},
		{"another practice's ASID", header("Ssp-To", "1"), nhs, nil, 400, "BAD_REQUEST"},
		{"another interaction", header("Ssp-InteractionID", "urn:nhs:names:services:gpconnect:fhir:rest:read:metadata-1"), nhs, nil, 400, "BAD_REQUEST"},
		{"no token", header("Authorization", ""), nhs, nil, 400, "BAD_REQUEST"},
		{"a signed token", header("Authorization", "Bearer "+token(nil)+"c2ln"), nhs, nil, 400, "BAD_REQUEST"},
		{"a token without its last dot", header("Authorization", "Bearer "+strings.TrimSuffix(token(nil), ".")), nhs, nil, 400, "BAD_REQUEST"},
		{"a token of 301 seconds", claims(fhir.M{"exp": now.Unix() + 301}), nhs, nil, 400, "BAD_REQUEST"},
		{"a token of 299 seconds", claims(fhir.M{"exp": now.Unix() + 299}), nhs, nil, 400, "BAD_REQUEST"},
		{"a token of yesterday", claims(fhir.M{"iat": now.Unix() - 86400, "exp": now.Unix() - 86100}), nhs, nil, 400, "BAD_REQUEST"},
		{"another reason", claims(fhir.M{"reason_for_request": "research"}), nhs, nil, 400, "BAD_REQUEST"},
		{"another scope", claims(fhir.M{"requested_scope": "organization/*.read"}), nhs, nil, 400, "BAD_REQUEST"},
		{"no practitioner", claims(fhir.M{"requesting_practitioner": nil}), nhs, nil, 400, "BAD_REQUEST"},
		{"another subject than the practitioner", claims(fhir.M{"sub": "u-18"}), nhs, nil, 400, "BAD_REQUEST"},
		{"a device that is a patient", claims(fhir.M{"requesting_device": fhir.M{"resourceType": "Patient"}}), nhs, nil, 422, "INVALID_RESOURCE"},
		{"XML", header("Content-Type", "application/fhir+xml"), nhs, nil, 415, "BAD_REQUEST"},
		{"a number with a wrong digit", nil, "9990000100", nil, 400, "INVALID_NHS_NUMBER"},
		{"allergies without saying which", nil, nhs, []string{`{"name":"includeAllergies"}`}, 422, "INVALID_PARAMETER"},
		{"a partial date", nil, nhs, []string{`{"name":"includeMedication","part":[{"name":"medicationSearchFromDate","valueDate":"2020-01"}]}`}, 422, "INVALID_PARAMETER"},
		{"medicines narrowed beside problems", nil, nhs, []string{`{"name":"includeMedication","part":[{"name":"medicationSearchFromDate","valueDate":"2020-01-01"}]}`, `{"name":"includeProblems"}`}, 422, "INVALID_PARAMETER"},
		{"the same twice", nil, nhs, []string{meds, meds}, 422, "INVALID_PARAMETER"},
	}
	for _, c := range cases {
		status, body := post(t, srv.URL, c.nhs, c.change, c.params...)
		if status != c.status {
			t.Errorf("%s: HTTP %d, want %d: %s", c.name, status, c.status, body)
		}
		var o struct {
			ResourceType string
			Issue        []struct {
				Details struct{ Coding []struct{ Code string } }
			}
		}
		if err := json.Unmarshal([]byte(body), &o); err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if c.code != "" && (o.ResourceType != "OperationOutcome" || o.Issue[0].Details.Coding[0].Code != c.code) {
			t.Errorf("%s: %s, want %s", c.name, body, c.code)
		}
	}
}

func TestWhatThePracticeDoesNotKnowIsSaid(t *testing.T) {
	_, srv := serve(t, practice.Options{Source: cast.GP1})
	status, body := post(t, srv.URL, person(cast.Main).NHS, nil, `{"name":"includeHoroscope"}`, `{"name":"includeMedication","part":[{"name":"sauce","valueBoolean":true}]}`)
	if status != 200 || !strings.Contains(body, "includeHoroscope is an unrecognised parameter") || !strings.Contains(body, "includeMedication.sauce is an unrecognised parameter") {
		t.Errorf("HTTP %d %s", status, body)
	}
}

func TestCapabilityIsRead(t *testing.T) {
	asker, _ := serve(t, practice.Options{Source: cast.GP1})
	v, err := asker.(*gpconnect.Client).Capability(t.Context(), marsh)
	if err != nil || v.Text("rest.operation.name") != "gpc.getstructuredrecord" {
		t.Errorf("%v %s", err, v.Raw())
	}
}

func FuzzTheDoor(f *testing.F) {
	p := practice.New(practice.Options{Source: cast.GP1, People: cast.Dozen(now), Now: clock})
	f.Add(`{"resourceType":"Parameters","parameter":[{"name":"patientNHSNumber","valueIdentifier":{"system":"https://fhir.nhs.uk/Id/nhs-number","value":"9990000107"}},{"name":"includeProblems"}]}`, token(nil))
	f.Add(`{"resourceType":"Parameters","parameter":{"name":"includeAllergies","part":[7,null]}}`, "a.b.")
	f.Fuzz(func(t *testing.T, body, jwt string) {
		r := httptest.NewRequest(http.MethodPost, "/Patient/$gpc.getstructuredrecord", strings.NewReader(body))
		for k, v := range map[string]string{"Ssp-TraceID": marsh.TraceID, "Ssp-From": "1", "Ssp-To": "2", "Content-Type": "application/fhir+json",
			"Ssp-InteractionID": "urn:nhs:names:services:gpconnect:fhir:operation:gpc.getstructuredrecord-1"} {
			r.Header.Set(k, v)
		}
		r.Header["Authorization"] = []string{"Bearer " + jwt}
		w := httptest.NewRecorder()
		p.ServeHTTP(w, r)
		if w.Code >= 500 {
			t.Errorf("HTTP %d", w.Code)
		}
		if _, err := fhir.ParseValue(w.Body.Bytes()); err != nil {
			t.Errorf("an answer that is not FHIR: %v", err)
		}
	})
}
