package ods_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"tombolo/connector/ods"
	"tombolo/fhir"
)

// A service knows a practice that has closed, with its successor, and one that goes on.
func service(status *int, asked *int) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		*asked++
		if *status != 0 {
			w.WriteHeader(*status)
			return
		}
		if r.Header.Get("apikey") != "key" {
			w.WriteHeader(401)
			return
		}
		switch r.URL.Path {
		case "/Organization/M85099":
			_, _ = fmt.Fprint(w, `{"resourceType":"Organization","id":"M85099","active":false,"name":"OLD SURGERY"}`)
		case "/Organization/M85001":
			_, _ = fmt.Fprint(w, `{"resourceType":"Organization","id":"M85001","active":true,"name":"HILLTOP SURGERY","telecom":[{"system":"phone","value":"01632 960000"}],"address":[{"line":["1 HILL"],"city":"SEVERNMOUTH","postalCode":"GL99 1AA"}]}`)
		case "/CodeSystem/$lookup":
			if r.URL.Query().Get("system") != fhir.SystemODS || r.URL.Query().Get("code") != "M85099" {
				w.WriteHeader(404)
				return
			}
			_, _ = fmt.Fprint(w, `{"resourceType":"Parameters","parameter":[{"name":"property","part":[{"name":"code","valueCode":"successor"},{"name":"value","valueCode":"M85001"}]},
				{"name":"property","part":[{"name":"code","valueCode":"successorSucceeded"},{"name":"value","valueBoolean":true}]},{"name":"property","part":[{"name":"code","valueCode":"predecessor"},{"name":"value","valueCode":"M85000"}]}]}`)
		default:
			w.WriteHeader(404)
			_, _ = fmt.Fprint(w, `{"resourceType":"OperationOutcome","issue":[{"severity":"error","code":"invalid","diagnostics":"HAPI-2001: Resource is not known"}]}`)
		}
	})
}

func TestAnOrganisationIsLookedUpWithItsSuccessor(t *testing.T) {
	status, asked := 0, 0
	srv := httptest.NewServer(service(&status, &asked))
	defer srv.Close()
	now := time.Now()
	c, err := ods.New(ods.Options{Address: srv.URL, APIKey: "key", Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	closed, err := c.Organisation(t.Context(), "M85099")
	if err != nil || closed.Active || !slices.Equal(closed.Successors, []string{"M85001"}) {
		t.Errorf("the closed practice: %+v, %v", closed, err)
	}
	open, err := c.Organisation(t.Context(), "M85001")
	if err != nil || !open.Active || open.Name != "HILLTOP SURGERY" || open.Address.PostalCode != "GL99 1AA" || open.Phone == "" || len(open.Successors) != 0 {
		t.Errorf("the one that goes on: %+v, %v", open, err)
	}
	before := asked
	for range 5 {
		if _, err := c.Organisation(t.Context(), "M85001"); err != nil {
			t.Error(err)
		}
	}
	if asked != before {
		t.Error("what was said today is asked again")
	}
	if _, err := c.Organisation(t.Context(), "ZZZ"); !fhir.Is(err, fhir.NotFound) {
		t.Errorf("an unknown code: %v", err)
	}
	if _, err := c.Organisation(t.Context(), "../Patient"); !fhir.Is(err, fhir.ValueError) {
		t.Errorf("what is no code: %v", err)
	}
	// While ODS is down, what it said before is given; what it never said is an error of the right kind.
	now, status = now.Add(48*time.Hour), 503
	if got, err := c.Organisation(t.Context(), "M85001"); err != nil || got.Name != "HILLTOP SURGERY" {
		t.Errorf("with ODS down: %+v, %v", got, err)
	}
	for s, is := range map[int]fhir.IssueType{400: fhir.Invalid, 401: fhir.Forbidden, 404: fhir.NotFound, 405: fhir.NotSupported, 406: fhir.NotSupported, 429: fhir.Throttled, 500: fhir.Transient, 502: fhir.Transient, 504: fhir.Transient, 200: fhir.Structure} {
		status = s
		if _, err := c.Organisation(t.Context(), fmt.Sprintf("N%d", s)); !fhir.Is(err, is) {
			t.Errorf("HTTP %d: %v, want %s", s, err, is)
		}
	}
}

// The example that the specification publishes of an Organization is read.
func TestThePublishedExampleOfODSIsRead(t *testing.T) {
	path := filepath.Join("..", "..", "..", "shared", "data", "04-nhs-apis", "ods-terminology-api", "specification", "organisation-data-terminology-api.yaml")
	spec, err := os.ReadFile(path)
	if err != nil {
		t.Skip("the specification is not here: ", err)
	}
	for _, status := range []string{"HAPI-0524", "HAPI-2001", "HAPI-0427"} {
		if !strings.Contains(string(spec), status) {
			t.Errorf("%s is documented no more: look at how errors are read", status)
		}
	}
	name := regexp.MustCompile(`(?s)resourceType: Organization\s+id: AQN.*?name: ([A-Z ]+)\n`).FindSubmatch(spec)
	if name == nil {
		t.Fatal("the example of an Organization is not where it was")
	}
	body := `{"resourceType":"Organization","id":"AQN","extension":[{"url":"https://fhir.nhs.uk/England/StructureDefinition/Extension-England-OrganisationRole","extension":[{"url":"instanceID","valueInteger":233160},
		{"url":"roleCode","valueCodeableConcept":{"coding":[{"code":"RO172"}]}},{"url":"active","valueBoolean":true}]},{"url":"https://fhir.nhs.uk/England/StructureDefinition/Extension-England-TypedDateTime",
		"extension":[{"url":"type","valueCoding":{"code":"LastChangeDate"}},{"url":"dateTime","valueDateTime":"2023-05-03"}]}],"active":true,"name":"` + string(name[1]) + `"}`
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprint(w, body) }))
	defer srv.Close()
	c, _ := ods.New(ods.Options{Address: srv.URL})
	o, err := c.Organisation(t.Context(), "AQN")
	if err != nil || o.Name != string(name[1]) || !slices.Equal(o.Roles, []string{"RO172"}) || o.Changed != "2023-05-03" {
		t.Errorf("read: %+v, %v", o, err)
	}
}
