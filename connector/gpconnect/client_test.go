package gpconnect_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"tombolo/connector"
	"tombolo/connector/connectortest"
	"tombolo/connector/gpconnect"
	"tombolo/dataset"
	"tombolo/fhir"
)

var now = time.Date(2026, 4, 15, 10, 0, 0, 0, time.UTC)

const (
	nesta  = "9990002029" // of the fixtures; synthetic
	nobody = "9990000018"
)

func client(t testing.TB, address string, change func(*gpconnect.Options)) *gpconnect.Client {
	t.Helper()
	o := gpconnect.Options{Source: "m85099-gp", Address: address, ASID: "200000000115", ToASID: "200000000116", NodeName: "severn-1", Version: "7",
		Issuer: "https://tombolo.severn.example", Now: func() time.Time { return now }}
	if change != nil {
		change(&o)
	}
	c, err := gpconnect.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

var requester = connector.Requester{UserID: "u-17", UserName: "Dr Imogen Ann Clarke", SDSUserID: "111222333444", RoleName: "Hospital doctor",
	OrganisationODS: "RX1", OrgName: "Severn Acute Trust", Purpose: "TREAT", TraceID: "629ea9ba-a077-4d99-b289-7a9b19fd4e03"}

func about(nhs string, h ...dataset.Heading) connector.Question {
	return connector.Question{Identifiers: []fhir.Identifier{{System: "http://fhir.nhs.net/Id/nhs-number", Value: nhs[:3] + " " + nhs[3:6] + " " + nhs[6:]}},
		Headings: h, Requester: requester}
}

// A desk is the least of a practice: it answers a number with a bundle. The simulated practice of the region, which is strict about
// what it is asked, is tested against this client in its own room.
func desk(t testing.TB, fixture, number string) http.Handler {
	t.Helper()
	body := read(t, fixture)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ask, _ := io.ReadAll(r.Body)
		v, err := fhir.ParseValue(ask)
		if err != nil || r.URL.Path != "/Patient/$gpc.getstructuredrecord" {
			http.Error(w, "no", http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "application/fhir+json; charset=utf-8")
		if number != "" && v.Text("parameter.valueIdentifier.value") != number {
			w.WriteHeader(http.StatusNotFound)
			_, _ = io.WriteString(w, outcome("PATIENT_NOT_FOUND"))
			return
		}
		_, _ = w.Write(body)
	})
}

func outcome(code string) string {
	return `{"resourceType":"OperationOutcome","issue":[{"severity":"error","code":"invalid","details":{"coding":[{"system":"https://fhir.nhs.uk/STU3/ValueSet/Spine-ErrorOrWarningCode-1","code":"` + code + `"}]},"diagnostics":"9990002029"}]}`
}

func TestConformance(t *testing.T) {
	other := strings.ReplaceAll(string(read(t, "medication")), nesta, "9990000212")
	connectortest.RunAsker(t, connectortest.Fixture{
		New: func(t testing.TB, address string, maxBytes int64) connector.Asker {
			return client(t, address, func(o *gpconnect.Options) { o.MaxBytes = maxBytes })
		},
		Source:  desk(t, "medication", nesta),
		Known:   about(nesta, dataset.Medications, dataset.Demographics, dataset.GPPractice),
		Unknown: about(nobody, dataset.Medications),
		Other: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/fhir+json")
			_, _ = io.WriteString(w, other)
		}),
		IsKnown:     func(p *fhir.Resource) bool { return p.Text("identifier.value") == nesta },
		IsOther:     func(p *fhir.Resource) bool { return p.Text("identifier.value") == "9990000212" },
		ContentType: "application/fhir+json",
	})
}

func TestTheRequestOnTheWire(t *testing.T) {
	var got *http.Request
	var body []byte
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r
		body, _ = io.ReadAll(r.Body)
		w.Header().Set("Content-Type", "application/fhir+json")
		_, _ = w.Write(read(t, "medication"))
	}))
	defer srv.Close()
	q := about(nesta, dataset.Allergies, dataset.Medications, dataset.FamilyHistory, dataset.Appointments)
	if _, err := client(t, srv.URL+"/M85099/STU3/1/", nil).Ask(t.Context(), q); err != nil {
		t.Fatal(err)
	}
	if got.Method != http.MethodPost || got.URL.Path != "/M85099/STU3/1/Patient/$gpc.getstructuredrecord" || got.URL.RawQuery != "" {
		t.Errorf("%s %s", got.Method, got.URL)
	}
	for h, want := range map[string]string{
		"Ssp-TraceID": "629ea9ba-a077-4d99-b289-7a9b19fd4e03", "Ssp-From": "200000000115", "Ssp-To": "200000000116",
		"Ssp-InteractionID": "urn:nhs:names:services:gpconnect:fhir:operation:gpc.getstructuredrecord-1",
		"Accept":            "application/fhir+json;charset=utf-8", "Content-Type": "application/fhir+json;charset=utf-8",
	} {
		if got.Header.Get(h) != want {
			t.Errorf("%s: %q, want %q", h, got.Header.Get(h), want)
		}
	}
	want := `{"parameter":[{"name":"patientNHSNumber","valueIdentifier":{"system":"https://fhir.nhs.uk/Id/nhs-number","value":"9990002029"}},` +
		`{"name":"includeAllergies","part":[{"name":"includeResolvedAllergies","valueBoolean":true}]},` +
		`{"name":"includeMedication","part":[{"name":"includePrescriptionIssues","valueBoolean":true}]},` +
		`{"name":"includeUncategorisedData"}],"resourceType":"Parameters"}`
	if string(body) != want {
		t.Errorf("body\n%s\nwant\n%s", body, want)
	}
	checkToken(t, got.Header.Get("Authorization"), srv.URL+"/M85099/STU3/1")
}

// Every include with all of its parts, as it stands on the wire.
func TestEveryInclude(t *testing.T) {
	var body string
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		body = string(b)
		w.Header().Set("Content-Type", "application/fhir+json")
		_, _ = w.Write(read(t, "medication"))
	}))
	defer srv.Close()
	p := fhir.Period{Start: "2020-01-01", End: "2021-01-01"}
	for want, c := range map[string]struct {
		h  dataset.Heading
		in func(*gpconnect.Include)
	}{
		`{"name":"includeAllergies","part":[{"name":"includeResolvedAllergies","valueBoolean":false}]}`: {dataset.Allergies, func(in *gpconnect.Include) { in.ResolvedAllergies = false }},
		`{"name":"includeMedication","part":[{"name":"includePrescriptionIssues","valueBoolean":false},{"name":"medicationSearchFromDate","valueDate":"2020-01-01"}]}`: {dataset.Medications,
			func(in *gpconnect.Include) { in.WithoutIssues, in.MedicationFrom = true, "2020-01-01" }},
		`{"name":"includeConsultations","part":[{"name":"consultationSearchPeriod","valuePeriod":{"start":"2020-01-01","end":"2021-01-01"}}]}`: {dataset.Encounters,
			func(in *gpconnect.Include) { in.ConsultationPeriod = p }},
		`{"name":"includeConsultations","part":[{"name":"includeNumberOfMostRecent","valuePositiveInt":3}]}`: {dataset.Encounters, func(in *gpconnect.Include) { in.ConsultationsRecent = 3 }},
		`{"name":"includeProblems","part":[{"name":"filterStatus","valueCode":"active"},{"name":"filterSignificance","valueCode":"major"}]}`: {dataset.Problems,
			func(in *gpconnect.Include) { in.ProblemsOnly, in.Significance = "active", "major" }},
		`{"name":"includeImmunisations","part":[{"name":"includeNotGiven","valueBoolean":true},{"name":"includeStatus","valueBoolean":true}]}`: {dataset.Immunisations,
			func(in *gpconnect.Include) { in.ImmunisationsNotGiven, in.ImmunisationsStatus = true, true }},
		`{"name":"includeUncategorisedData","part":[{"name":"uncategorisedDataSearchPeriod","valuePeriod":{"start":"2020-01-01","end":"2021-01-01"}}]}`: {dataset.Observations,
			func(in *gpconnect.Include) { in.UncategorisedPeriod = p }},
		`{"name":"includeInvestigations","part":[{"name":"investigationSearchPeriod","valuePeriod":{"start":"2020-01-01","end":"2021-01-01"}}]}`: {dataset.Results,
			func(in *gpconnect.Include) { in.InvestigationPeriod = p }},
		`{"name":"includeReferrals","part":[{"name":"referralSearchPeriod","valuePeriod":{"start":"2020-01-01","end":"2021-01-01"}}]}`: {dataset.Referrals,
			func(in *gpconnect.Include) { in.ReferralPeriod = p }},
		`{"name":"includeDiaryEntries","part":[{"name":"diaryEntriesSearchDate","valueDate":"2026-05-01"}]}`: {dataset.CarePlans, func(in *gpconnect.Include) { in.DiaryUntil = "2026-05-01" }},
	} {
		asker := client(t, srv.URL, func(o *gpconnect.Options) {
			o.Narrow = func(in gpconnect.Include) gpconnect.Include { c.in(&in); return in }
		})
		if _, err := asker.Ask(t.Context(), about(nesta, c.h)); err != nil {
			t.Errorf("%s: %v", want, err)
		}
		if !strings.Contains(body, want) {
			t.Errorf("asked\n%s\nwant\n%s", body, want)
		}
	}
}

func checkToken(t *testing.T, authorization, aud string) {
	t.Helper()
	parts := strings.Split(strings.TrimPrefix(authorization, "Bearer "), ".")
	if len(parts) != 3 || parts[2] != "" {
		t.Fatalf("not an unsigned JWT: %d parts", len(parts))
	}
	header, _ := base64.RawURLEncoding.DecodeString(parts[0])
	if string(header) != `{"alg":"none","typ":"JWT"}` {
		t.Errorf("header %s", header)
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		t.Fatal(err)
	}
	want := fhir.JSON(fhir.M{
		"iss": "https://tombolo.severn.example", "sub": "u-17", "aud": aud, "iat": now.Unix(), "exp": now.Unix() + 300,
		"reason_for_request": "directcare", "requested_scope": "patient/*.read",
		"requesting_device": fhir.M{"resourceType": "Device", "model": "Tombolo", "version": "7",
			"identifier": []fhir.M{{"system": "https://tombolo.severn.example/Id/device", "value": "severn-1"}}},
		"requesting_organization": fhir.M{"resourceType": "Organization", "name": "Severn Acute Trust",
			"identifier": []fhir.M{{"system": fhir.SystemODS, "value": "RX1"}}},
		"requesting_practitioner": fhir.M{"resourceType": "Practitioner", "id": "u-17",
			"identifier": []fhir.M{{"system": fhir.SystemSDSUser, "value": "111222333444"}, {"system": fhir.SystemSDSRole, "value": "UNK"},
				{"system": "https://tombolo.severn.example/Id/user", "value": "u-17"}},
			"name": []fhir.M{{"family": "Clarke", "given": []string{"Imogen", "Ann"}, "prefix": []string{"Dr"}}}},
	})
	var a, b any
	if json.Unmarshal(payload, &a) != nil || json.Unmarshal(want, &b) != nil || string(fhir.JSON(a)) != string(fhir.JSON(b)) {
		t.Errorf("claims\n%s\nwant\n%s", payload, want)
	}
}

// What may not be asked never reaches the wire.
func TestRefusedBeforeTheWire(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a question went out") }))
	defer srv.Close()
	narrow := func(f func(*gpconnect.Include)) func(*gpconnect.Options) {
		return func(o *gpconnect.Options) {
			o.Narrow = func(in gpconnect.Include) gpconnect.Include { f(&in); return in }
		}
	}
	change := func(f func(*connector.Question)) connector.Question {
		q := about(nesta, dataset.Medications, dataset.Problems, dataset.Encounters)
		f(&q)
		return q
	}
	same := func(*connector.Question) {}
	for _, c := range []struct {
		name string
		o    func(*gpconnect.Options)
		q    connector.Question
		want fhir.IssueType
	}{
		{"nobody's number", nil, change(func(q *connector.Question) { q.Identifiers[0].Value = "9990002024" }), fhir.ValueError},
		{"no NHS number", nil, change(func(q *connector.Question) { q.Identifiers[0].System = fhir.SystemCHI }), fhir.NotSupported},
		{"no user", nil, change(func(q *connector.Question) { q.Requester.UserID = "" }), fhir.Required},
		{"a user without a name", nil, change(func(q *connector.Question) { q.Requester.UserName = "" }), fhir.Required},
		{"no organisation", nil, change(func(q *connector.Question) { q.Requester.OrganisationODS = "" }), fhir.Required},
		{"research", nil, change(func(q *connector.Question) { q.Requester.Purpose = "HRESCH" }), fhir.Forbidden},
		{"no purpose", nil, change(func(q *connector.Question) { q.Requester.Purpose = "" }), fhir.Forbidden},
		{"medicines narrowed beside problems", narrow(func(in *gpconnect.Include) { in.MedicationFrom = "2020-01-01" }), change(same), fhir.Invalid},
		{"problems filtered beside consultations", narrow(func(in *gpconnect.Include) { in.ProblemsOnly = "active" }), change(same), fhir.Invalid},
		{"minor problems beside consultations", narrow(func(in *gpconnect.Include) { in.Significance = "minor" }), change(same), fhir.Invalid},
		{"a significance that there is not", narrow(func(in *gpconnect.Include) { in.Significance = "grave" }), change(func(q *connector.Question) { q.Headings = []dataset.Heading{dataset.Problems} }), fhir.Invalid},
		{"a period and a number", narrow(func(in *gpconnect.Include) {
			in.ConsultationsRecent, in.ConsultationPeriod.Start = 3, "2020-01-01"
		}), change(same), fhir.Invalid},
		{"a partial date", narrow(func(in *gpconnect.Include) { in.ConsultationPeriod.Start = "2020-01" }), change(same), fhir.Invalid},
		{"a period of the future", narrow(func(in *gpconnect.Include) { in.ConsultationPeriod.End = "2026-04-16" }), change(same), fhir.Invalid},
		{"a period that ends first", narrow(func(in *gpconnect.Include) {
			in.ReferralPeriod = fhir.Period{Start: "2021-01-01", End: "2020-01-01"}
		}), change(func(q *connector.Question) { q.Headings = []dataset.Heading{dataset.Referrals} }), fhir.Invalid},
		{"a diary of the past", narrow(func(in *gpconnect.Include) { in.DiaryUntil = "2026-04-14" }), change(func(q *connector.Question) { q.Headings = []dataset.Heading{dataset.CarePlans} }), fhir.Invalid},
		{"nothing that GP Connect gives", nil, change(func(q *connector.Question) { q.Headings = []dataset.Heading{dataset.Legal} }), fhir.NotSupported},
	} {
		_, err := client(t, srv.URL, c.o).Ask(t.Context(), c.q)
		if !fhir.Is(err, c.want) {
			t.Errorf("%s: got %v, want %s", c.name, err, c.want)
		}
	}
}

func TestOptionsThatAreRefused(t *testing.T) {
	good := gpconnect.Options{Source: "s", Address: "https://gp.example/1", ASID: "1", ToASID: "2"}
	for name, change := range map[string]func(*gpconnect.Options){
		"no source": func(o *gpconnect.Options) { o.Source = "" }, "no address": func(o *gpconnect.Options) { o.Address = "" },
		"a file": func(o *gpconnect.Options) { o.Address = "file:///etc/passwd" }, "a query": func(o *gpconnect.Options) { o.Address += "?x=1" },
		"a password": func(o *gpconnect.Options) { o.Address = "https://a:b@gp.example" },
		"no ASID":    func(o *gpconnect.Options) { o.ASID = "" }, "no ASID of theirs": func(o *gpconnect.Options) { o.ToASID = "" },
	} {
		o := good
		change(&o)
		if _, err := gpconnect.New(o); fhir.IssueOf(err) == nil {
			t.Errorf("%s was taken", name)
		}
	}
	if _, err := gpconnect.New(good); err != nil {
		t.Error(err)
	}
}

func TestEverySpineErrorIsToldApart(t *testing.T) {
	want := map[string]fhir.IssueType{
		"PATIENT_NOT_FOUND": fhir.NotFound, "NO_RECORD_FOUND": fhir.NotFound, "INVALID_NHS_NUMBER": fhir.ValueError,
		"INVALID_PATIENT_DEMOGRAPHICS": fhir.BusinessRule, "NO_PATIENT_CONSENT": fhir.Suppressed, "NO_ORGANISATION_CONSENT": fhir.Suppressed,
		"NO_RELATIONSHIP": fhir.Suppressed, "ACCESS_DENIED": fhir.Forbidden, "ACCESS DENIED": fhir.Forbidden, "BAD_REQUEST": fhir.Processing,
		"INVALID_PARAMETER": fhir.Processing, "INVALID_RESOURCE": fhir.Processing, "REFERENCE_NOT_FOUND": fhir.Processing,
		"ORGANISATION_NOT_FOUND": fhir.Processing, "NOT_IMPLEMENTED": fhir.NotSupported, "INTERNAL_SERVER_ERROR": fhir.Transient,
		"DUPLICATE_REJECTED": fhir.Duplicate, "FHIR_CONSTRAINT_VIOLATION": fhir.Processing, "ACCESS_DENIED_SSL": fhir.Forbidden, "ASID_CHECK_FAILED": fhir.Forbidden,
		"INVALID_IDENTIFIER_SYSTEM": fhir.Processing, "INVALID_IDENTIFIER_VALUE": fhir.Processing, "INTERACTION_ID_MISMATCH": fhir.Processing,
		"PRACTITIONER_NOT_FOUND": fhir.Processing,
	}
	code := ""
	status := http.StatusBadRequest
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/fhir+json")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, outcome(code))
	}))
	defer srv.Close()
	c := client(t, srv.URL, nil)
	for code = range want {
		for _, status = range []int{http.StatusOK, http.StatusBadRequest, http.StatusInternalServerError} {
			_, err := c.Ask(t.Context(), about(nesta, dataset.Problems))
			if !fhir.Is(err, want[code]) {
				t.Errorf("%s with HTTP %d: got %v, want %s", code, status, err, want[code])
			}
			if err != nil && (strings.Contains(err.Error(), nesta) || !strings.Contains(err.Error(), "m85099-gp")) {
				t.Errorf("%s: %v must name the source and never quote it", code, err)
			}
		}
	}
	code = "SOMETHING_NEW"
	for s, typ := range map[int]fhir.IssueType{302: fhir.Processing, 400: fhir.Processing, 406: fhir.Processing, 409: fhir.Conflict, 412: fhir.Conflict, 415: fhir.Processing, 401: fhir.Forbidden, 403: fhir.Forbidden, 404: fhir.Processing, 405: fhir.Processing, 408: fhir.Timeout,
		410: fhir.Processing, 418: fhir.Processing, 429: fhir.Throttled, 500: fhir.Transient, 501: fhir.NotSupported, 502: fhir.Transient,
		503: fhir.Transient, 504: fhir.Timeout, 599: fhir.Transient} {
		status = s
		if _, err := c.Ask(t.Context(), about(nesta, dataset.Problems)); !fhir.Is(err, typ) {
			t.Errorf("HTTP %d: got %v, want %s", s, err, typ)
		}
	}
}

func TestStatesOfHeadings(t *testing.T) {
	ask := func(fixture string, h ...dataset.Heading) *connector.Answer {
		t.Helper()
		srv := httptest.NewServer(desk(t, fixture, ""))
		defer srv.Close()
		a, err := client(t, srv.URL, nil).Ask(t.Context(), about(nesta, h...))
		if err != nil {
			t.Fatalf("%s: %v", fixture, err)
		}
		return a
	}
	for _, c := range []struct {
		fixture string
		h       dataset.Heading
		want    dataset.State
	}{
		{"allergies", dataset.Allergies, dataset.Present},
		{"allergies-none", dataset.Allergies, dataset.NoneRecorded},  // the practice said so
		{"allergies-none-known", dataset.Allergies, dataset.Present}, // "no known allergy" is an entry
		{"allergies", dataset.Problems, ""},                          // asked and not answered is not "none"
		{"problems", dataset.Observations, ""},                       // linked from a problem is no answer to the query
		{"referrals", dataset.CarePlans, dataset.Present},
		{"uncategorised", dataset.SocialContext, dataset.Present},
		{"consultations", dataset.Encounters, dataset.Present},
		{"investigations", dataset.Results, dataset.Present},
		{"immunisations", dataset.Immunisations, dataset.Present},
	} {
		if got := ask(c.fixture, c.h).States[c.h]; got != c.want {
			t.Errorf("%s: %s is %q, want %q", c.fixture, c.h, got, c.want)
		}
	}
	a := ask("medication", dataset.Medications)
	var types []string
	for _, is := range a.Issues {
		if is.Expression == "medications" && is.Severity == fhir.Warning {
			types = append(types, string(is.Type))
		}
	}
	if !slices.Equal(types, []string{"suppressed", "incomplete"}) {
		t.Errorf("the list's warnings came through as %v", types)
	}
	// A reading under a heading that was not asked stays out, whatever came along.
	for _, r := range ask("consultations", dataset.Encounters).Content {
		if h := dataset.HeadingOf(r); h != "" && h != dataset.Encounters {
			t.Errorf("%s of %s was not asked for", r, h)
		}
	}
}

func TestAQuestionWithdrawnIsNotATimeout(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
	}))
	defer srv.Close()
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(20*time.Millisecond, cancel)
	if _, err := client(t, srv.URL, nil).Ask(ctx, about(nesta, dataset.Problems)); !fhir.Is(err, fhir.Transient) {
		t.Errorf("got %v", err)
	}
}

// failing is a transport whose errors quote what they must not.
type failing struct{}

func (failing) RoundTrip(*http.Request) (*http.Response, error) {
	return nil, errors.New("dial https://gp.example: " + nesta)
}

func TestErrorsOfTheNetworkQuoteNothing(t *testing.T) {
	c := client(t, "https://gp.example", func(o *gpconnect.Options) { o.HTTP = &http.Client{Transport: failing{}} })
	_, err := c.Ask(t.Context(), about(nesta, dataset.Problems))
	if err == nil || strings.Contains(fmt.Sprint(err), nesta) || strings.Contains(fmt.Sprint(errors.Unwrap(err)), nesta) {
		t.Errorf("got %v", err)
	}
}

// A hundred megabytes are refused after no more than is taken, and without keeping much.
func TestAHundredMegabytesAreRefused(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/fhir+json")
		if r.Method == http.MethodGet {
			_, _ = io.WriteString(w, `{"resourceType":"CapabilityStatement","version":"1.6.0"}`)
			return
		}
		chunk := []byte(strings.Repeat(`{"resource":{"resourceType":"List","title":"`+strings.Repeat("entries of a list ", 40)+`"}},`, 1<<8))
		_, _ = io.WriteString(w, `{"resourceType":"Bundle","entry":[`)
		for n := 0; n < 100<<20; n += len(chunk) {
			if _, err := w.Write(chunk); err != nil {
				return
			}
		}
	}))
	defer srv.Close()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := client(t, srv.URL, nil).Ask(t.Context(), about(nesta, dataset.Problems))
	runtime.ReadMemStats(&after)
	if !fhir.Is(err, fhir.TooLong) {
		t.Errorf("got %v, want too-long", err)
	}
	if used := (after.TotalAlloc - before.TotalAlloc) >> 20; used > 256 {
		t.Errorf("%d MiB were allocated for it, want 256 at the most", used)
	}
}

// An answer that is allowed by its size and would cost a hundred times that is not read.
func TestAnAnswerOfZerosIsRefused(t *testing.T) {
	body := []byte(`{"resourceType":"Bundle","x":[0` + strings.Repeat(",0", 15<<20) + `]}`)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/fhir+json")
		_, _ = w.Write(body)
	}))
	defer srv.Close()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := client(t, srv.URL, nil).Ask(t.Context(), about(nesta, dataset.Problems))
	runtime.ReadMemStats(&after)
	if !fhir.Is(err, fhir.TooCostly) {
		t.Errorf("got %v, want too-costly", err)
	}
	if used := (after.TotalAlloc - before.TotalAlloc) >> 20; used > 256 {
		t.Errorf("%d MiB were allocated for it, want 256 at the most", used)
	}
}

// What a practice's system says it can do decides what is asked; one that says nothing is asked for everything.
func TestCapabilityComesFirst(t *testing.T) {
	for name, c := range map[string]struct {
		status         int
		capability     string
		want           fhir.IssueType
		asked, unasked string
	}{
		"all":               {200, `{"resourceType":"CapabilityStatement","version":"1.6.2","rest":[{"operation":[{"name":"gpc.getstructuredrecord"}]}]}`, "", "includeInvestigations", ""},
		"medicines alone":   {200, `{"resourceType":"CapabilityStatement","version":"1.2.7"}`, "", "includeMedication", "includeProblems"},
		"old, and problems": {200, `{"resourceType":"CapabilityStatement","version":"1.2.7","profile":[{"reference":"https://fhir.nhs.uk/STU3/StructureDefinition/CareConnect-GPC-ProblemHeader-Condition-1/_history/1.2"}]}`, "", "includeProblems", "includeInvestigations"},
		"not a number":      {200, `{"resourceType":"CapabilityStatement","version":"next"}`, "", "includeInvestigations", ""},
		"no statement":      {404, `gone`, "", "includeInvestigations", ""},
		"not implemented":   {501, outcome("NOT_IMPLEMENTED"), "", "includeInvestigations", ""},
		"broken":            {500, ``, "", "includeInvestigations", ""},
		"switched off":      {403, outcome("ACCESS_DENIED"), fhir.Forbidden, "", "includeMedication"},
		"something else":    {200, `{"resourceType":"CapabilityStatement","version":"1.6.0","rest":[{"operation":[{"name":"gpc.registerpatient"}]}]}`, fhir.NotSupported, "", "includeMedication"},
	} {
		var body string
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/fhir+json")
			if r.Method == http.MethodGet {
				w.WriteHeader(c.status)
				_, _ = io.WriteString(w, c.capability)
				return
			}
			b, _ := io.ReadAll(r.Body)
			body = string(b)
			_, _ = w.Write(read(t, "medication"))
		}))
		_, err := client(t, srv.URL, nil).Ask(t.Context(), about(nesta, dataset.Medications, dataset.Problems, dataset.Results))
		srv.Close()
		if c.want == "" && err != nil || c.want != "" && !fhir.Is(err, c.want) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
		if c.asked != "" && !strings.Contains(body, c.asked) || c.unasked != "" && strings.Contains(body, c.unasked) {
			t.Errorf("%s: asked %s", name, body)
		}
	}
}
