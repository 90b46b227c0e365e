package gpconnect_test

import (
	"context"
	"encoding/base64"
	"flag"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"tombolo/api/gpconnect"
	client "tombolo/connector/gpconnect"
	"tombolo/fhir"
	"tombolo/sim/lookout"
)

var update = flag.Bool("update", false, "write the golden files")

var now = time.Date(2026, 4, 15, 10, 0, 0, 0, time.UTC)

// everybody is told of one list, and of whatever else a test has put there.
type everybody struct {
	list  gpconnect.List
	fails error
	asked *gpconnect.Question
}

func (e *everybody) Record(_ context.Context, q *gpconnect.Question) ([]fhir.M, error) {
	e.asked = q
	return []fhir.M{{"resource": fhir.M{"resourceType": "Patient", "id": "p1", "meta": gpconnect.Profile("CareConnect-GPC-Patient-1")}}, {"resource": e.list.Resource()}}, e.fails
}

func provider(t *testing.T, e *everybody, offered ...gpconnect.Interaction) http.Handler {
	t.Helper()
	h, err := gpconnect.New(gpconnect.Options{Publisher: "Severn", Version: "7", Now: func() time.Time { return now }, Interactions: offered,
		Admit: func(*http.Request, gpconnect.Caller) (gpconnect.Records, error) { return e, nil }})
	if err != nil {
		t.Fatal(err)
	}
	return watched(t, h)
}

// watched puts a lookout over a provider that answers about the one patient of these tests.
func watched(t *testing.T, h http.Handler) http.Handler {
	lookout.Hide("9990001561")
	return lookout.Over(t, lookout.Options{}).Answers(h)
}

func TestMain(m *testing.M) { os.Exit(lookout.Main(m)) }

// bearer is a token written out as the specification prints it, and not by anything of ours.
func bearer(scope string) string {
	claims := `{"iss":"https://consumersupplier.example/","sub":"10019","aud":"https://provider.example/GP0001/STU3/1","exp":` + strconv.FormatInt(now.Unix()+300, 10) + `,"iat":` + strconv.FormatInt(now.Unix(), 10) +
		`,"reason_for_request":"directcare","requested_scope":"` + scope + `","requesting_device":{"resourceType":"Device","identifier":[{"system":"https://consumersupplier.example/Id/device-identifier","value":"CONS-APP-4"}],"model":"Consumer product name","version":"5.3.0"},` +
		`"requesting_organization":{"resourceType":"Organization","identifier":[{"system":"https://fhir.nhs.uk/Id/ods-organization-code","value":"A1001"}],"name":"Test Hospital"},` +
		`"requesting_practitioner":{"resourceType":"Practitioner","id":"10019","identifier":[{"system":"https://fhir.nhs.uk/Id/sds-user-id","value":"111222333444"}],"name":[{"family":"Jones","given":["Claire"],"prefix":["Dr"]}]}}`
	return "Bearer eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0." + base64.RawURLEncoding.EncodeToString([]byte(claims)) + "."
}

func ask(h http.Handler, method, path, interaction, scope, body string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	for k, v := range map[string]string{"Ssp-TraceID": "629ea9ba-a077-4d99-b289-7a9b19fd4e03", "Ssp-From": "200000000115", "Ssp-To": "200000000116", "Ssp-InteractionID": interaction,
		"Accept": "application/fhir+json;charset=utf-8", "Content-Type": "application/fhir+json;charset=utf-8", "Authorization": bearer(scope)} {
		r.Header.Set(k, v)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

const structured = "urn:nhs:names:services:gpconnect:fhir:operation:gpc.getstructuredrecord-1"

func parameters(more string) string {
	return `{"resourceType":"Parameters","parameter":[{"name":"patientNHSNumber","valueIdentifier":{"system":"https://fhir.nhs.uk/Id/nhs-number","value":"9990001561"}}` + more + `]}`
}

// What stands on the wire, byte for byte: the golden files were compared with the specification's examples when they were written, and change with nobody unseen.
func TestTheAnswersOnTheWire(t *testing.T) {
	q := gpconnect.Queries[0]
	full := &everybody{list: gpconnect.List{Query: q, Patient: "Patient/p1", At: now, Entries: []string{"AllergyIntolerance/a1"}, Warnings: []string{"confidential-items"}, Notes: []string{gpconnect.ConfidentialItems}}}
	none := &everybody{list: gpconnect.List{Query: q, Patient: "Patient/p1", At: now}}
	allergies := `,{"name":"includeAllergies","part":[{"name":"includeResolvedAllergies","valueBoolean":true}]}`
	for name, w := range map[string]*httptest.ResponseRecorder{
		"capability":        ask(provider(t, none), http.MethodGet, "/metadata", "urn:nhs:names:services:gpconnect:structured:fhir:rest:read:metadata-1", "organization/*.read", ""),
		"record":            ask(provider(t, full), http.MethodPost, "/Patient/$gpc.getstructuredrecord", structured, "patient/*.read", parameters(allergies)),
		"none":              ask(provider(t, none), http.MethodPost, "/Patient/$gpc.getstructuredrecord", structured, "patient/*.read", parameters(allergies+`,{"name":"includeHoroscope"}`)),
		"not-found":         ask(provider(t, &everybody{fails: fhir.Errorf(fhir.NotFound, "what is never told")}), http.MethodPost, "/Patient/$gpc.getstructuredrecord", structured, "patient/*.read", parameters("")),
		"invalid-parameter": ask(provider(t, none), http.MethodPost, "/Patient/$gpc.getstructuredrecord", structured, "patient/*.read", parameters(`,{"name":"includeAllergies"}`)),
	} {
		file := filepath.Join("testdata", name+".http")
		got := "HTTP " + strconv.Itoa(w.Code) + "\n"
		for _, h := range []string{"Content-Type", "Cache-Control", "Vary", "X-Content-Type-Options"} {
			got += h + ": " + w.Header().Get(h) + "\n"
		}
		got += "\n" + strings.ReplaceAll(w.Body.String(), "},", "},\n") + "\n"
		if *update {
			if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if got != string(want) {
			t.Errorf("%s: got\n%s\nwant\n%s", name, got, want)
		}
	}
}

// What a question narrows, the contents are told.
func TestWhatIsAskedIsPassedOn(t *testing.T) {
	e := &everybody{}
	ask(provider(t, e), http.MethodPost, "/Patient/$gpc.getstructuredrecord", structured, "patient/*.read", parameters(
		`,{"name":"includeMedication","part":[{"name":"medicationSearchFromDate","valueDate":"2024-06-01"},{"name":"includePrescriptionIssues","valueBoolean":false}]},`+
			`{"name":"includeInvestigations","part":[{"name":"investigationSearchPeriod","valuePeriod":{"start":"2024-01-01","end":"2024-12-31"}}]}`))
	if e.asked == nil || !e.asked.WithoutIssues || !e.asked.Asked["includeMedication"] || e.asked.Asked["includeProblems"] {
		t.Fatalf("asked %+v", e.asked)
	}
	for _, c := range []struct {
		start, end string
		acute      bool
		want       bool
	}{{"2024-01-01", "2024-05-31", false, false}, {"2024-01-01", "2024-06-01", false, true}, {"2024-01-01", "", false, true}, {"2024-01-01", "", true, false},
		{"2024-06-01", "", true, true}, {"", "", true, true}, {"2024-01-01", "2024-06", false, true}} {
		if got := e.asked.Active(c.start, c.end, c.acute); got != c.want {
			t.Errorf("a medicine from %q to %q (acute: %t) counts as active: %t, want %t", c.start, c.end, c.acute, got, c.want)
		}
	}
	for day, want := range map[string]bool{"2023-12-31": false, "2024-01-01": true, "2024-12-31": true, "2025-01-01": false, "": true} {
		if got := e.asked.Within("includeInvestigations", day); got != want {
			t.Errorf("%q lies in the period: %t, want %t", day, got, want)
		}
	}
}

func specification(t *testing.T, page string) string {
	t.Helper()
	dir := os.Getenv("TOMBOLO_DATA")
	for wd, _ := os.Getwd(); dir == "" && wd != filepath.Dir(wd); wd = filepath.Dir(wd) {
		if _, err := os.Stat(filepath.Join(wd, "shared", "data")); err == nil {
			dir = filepath.Join(wd, "shared", "data")
		}
	}
	raw, err := os.ReadFile(filepath.Join(dir, "03-gpconnect", "gpconnect-spec-examples", "pages", page))
	if err != nil {
		t.Skip("the pages of the specification are not here: skipped")
	}
	return string(raw)
}

// Every error has the status and the issue type of the specification's own table.
func TestErrorsAreThoseOfTheSpecification(t *testing.T) {
	rows := regexp.MustCompile("(?m)^\\| *`(\\d+)` *\\| *([a-z-]+) *\\| *([A-Z_]+) *\\|").FindAllStringSubmatch(specification(t, "development/development_fhir_error_handling_guidance.md"), -1)
	if len(rows) < 15 {
		t.Fatalf("the table has %d rows", len(rows))
	}
	for _, row := range rows {
		status, _ := strconv.Atoi(row[1])
		h := provider(t, &everybody{fails: &gpconnect.Refusal{Status: status, Code: row[3], Diagnostics: "d"}})
		w := ask(h, http.MethodPost, "/Patient/$gpc.getstructuredrecord", structured, "patient/*.read", parameters(""))
		v, err := fhir.ParseValue(w.Body.Bytes())
		if err != nil || w.Code != status || v.Text("issue.code") != row[2] || v.Text("issue.details.coding.code") != row[3] || v.Text("issue.details.coding.display") == "" {
			t.Errorf("%s should be HTTP %d, %s: HTTP %d %s", row[3], status, row[2], w.Code, w.Body)
		}
	}
}

// The names of the interactions, here and on the asking side, are those of the specification.
func TestInteractionsAreThoseOfTheSpecification(t *testing.T) {
	page := specification(t, "integration/integration_interaction_ids.md")
	for _, id := range []string{gpconnect.InteractionStructured, gpconnect.InteractionMetadata, client.InteractionStructured, client.InteractionMetadata, client.InteractionPatient,
		client.InteractionSlots, client.InteractionPatientAppointments, client.InteractionAppointmentRead, client.InteractionAppointmentCreate, client.InteractionAppointmentUpdate,
		client.InteractionAppointmentCancel} {
		if !strings.Contains(page, "`"+id+"`") {
			t.Errorf("%s is not among the specification's", id)
		}
	}
}

// The profiles, and the version, that the specification's own capability statement of 1.2 names are named.
func TestTheCapabilityStatementIsThatOfTheSpecification(t *testing.T) {
	page := specification(t, "accessrecord_structured/accessrecord_structured_get_the_fhir_capability_statement.md")
	h, err := gpconnect.New(gpconnect.Options{Release: "1.2.6", Now: func() time.Time { return now },
		Admit: func(*http.Request, gpconnect.Caller) (gpconnect.Records, error) { return &everybody{}, nil }})
	if err != nil {
		t.Fatal(err)
	}
	v, err := fhir.ParseValue(ask(watched(t, h), http.MethodGet, "/metadata", gpconnect.InteractionMetadata, "organization/*.read", "").Body.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	var named []string
	for ref := range v.All("profile.reference") {
		named = append(named, ref.Str())
	}
	want := regexp.MustCompile(`"reference": "(https://fhir.nhs.uk/STU3/StructureDefinition/[^/"]+)`).FindAllStringSubmatch(page, -1)
	for _, m := range want {
		if !slices.Contains(named, m[1]) {
			t.Errorf("%s is not named", m[1])
		}
	}
	if len(want) < 10 || v.Text("name") != "GP Connect API - Access Record Structured" || v.Text("version") != "1.2.6" || slices.ContainsFunc(named, func(s string) bool { return strings.Contains(s, "Immunization") }) {
		t.Errorf("%d profiles; %s", len(want), v.Raw())
	}
}
