package federation_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"tombolo/api"
	"tombolo/connector"
	"tombolo/connector/connectortest"
	"tombolo/connector/fhirapi"
	"tombolo/connector/neighbour"
	"tombolo/dataset"
	"tombolo/fhir"
	"tombolo/gather"
	"tombolo/sim/federation"
)

// Another region is asked by connectors that promise what every connector does: here of a real one, by its own operation and by the International Patient Summary.
func TestNeighboursKeepTheContractOfConnectors(t *testing.T) {
	a := build(t)
	there := gather.New(a.nation.gatherer(t, a.sockets, a.client, nil, 10))
	real := api.New(api.Options{Gather: there, Access: a.nation.users, Name: "nation", Version: "test"})
	another := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "$summary") {
			w.Header().Set("Content-Type", "application/fhir+json")
			_, _ = io.WriteString(w, anothersSummary)
			return
		}
		wrongNation(w)
	})
	asking := func(number string) connector.Question {
		return connector.Question{Identifiers: []fhir.Identifier{{System: fhir.SystemCHI, Value: number}}, Headings: []dataset.Heading{dataset.Problems},
			Requester: connector.Requester{UserID: "doctor", Role: "hospital-doctor", OrganisationODS: "RX1", Purpose: "TREAT", Via: []string{"ours"}}}
	}
	bearing := func(number string) func(*fhir.Resource) bool {
		return func(p *fhir.Resource) bool { return strings.Contains(string(p.Raw()), number) }
	}
	for kind, make := range map[string]func(address string, most int64) (connector.Asker, error){
		"tombolo": func(address string, most int64) (connector.Asker, error) {
			return neighbour.New(neighbour.Options{Source: "nation", Address: address, Token: "severn", MaxBytes: most})
		},
		"ips": func(address string, most int64) (connector.Asker, error) {
			return fhirapi.NewSummaries(fhirapi.Options{Source: "nation", Address: address + "/fhir", Token: bearer, MaxBytes: most})
		},
	} {
		t.Run(kind, func(t *testing.T) {
			connectortest.RunAsker(t, connectortest.Fixture{
				New: func(t testing.TB, address string, most int64) connector.Asker {
					c, err := make(address, most)
					must(t, err)
					return c
				},
				Source: real, Known: asking(annThere.Numbers[0].Value), Unknown: asking("0101011008"),
				Other: another, IsKnown: bearing(annThere.Numbers[0].Value), IsOther: bearing("0202029999"), ContentType: "application/fhir+json"})
		})
	}
}

func bearer(context.Context, connector.Requester) (string, error) { return "severn", nil }

const anothersSummary = `{"resourceType":"Bundle","type":"document","entry":[
 {"fullUrl":"https://nation.test/Composition/c","resource":{"resourceType":"Composition","id":"c","status":"final","subject":{"reference":"Patient/x"},
  "section":[{"title":"Problems","code":{"coding":[{"system":"http://loinc.org","code":"11450-4"}]},"entry":[{"reference":"Condition/y"}]}]}},
 {"fullUrl":"https://nation.test/Patient/x","resource":{"resourceType":"Patient","id":"x","identifier":[{"system":"https://phs.scot/chi-number","value":"0202029999"}],"name":[{"family":"Khan"}],"birthDate":"2015-11-05"}},
 {"fullUrl":"https://nation.test/Condition/y","resource":{"resourceType":"Condition","id":"y","subject":{"reference":"Patient/x"},"code":{"text":"somebody else's"}}}]}`

// A nation whose own source does not answer gives a summary of what the others hold, and whoever reads it knows that there may be more.
func TestASummaryThatMayBeIncompleteIsNotTakenForAllThereIs(t *testing.T) {
	a := build(t)
	for name, how := range map[string]map[string]federation.Failure{"whole": nil, "one is down": {"nation-2": federation.Refuse}} {
		there := gather.New(a.nation.gatherer(t, a.sockets, a.client, how, 10))
		srv := httptest.NewServer(a.nation.watch.Answers(api.New(api.Options{Gather: there, Access: a.nation.users, Name: "nation", Version: "test"})))
		t.Cleanup(srv.Close)
		c, err := fhirapi.NewSummaries(fhirapi.Options{Source: "nation", Address: srv.URL + "/fhir", Token: bearer})
		must(t, err)
		ans, err := c.Ask(t.Context(), connector.Question{Identifiers: annThere.Numbers, Headings: []dataset.Heading{dataset.Problems}})
		must(t, err)
		want, entries, issues := dataset.Present, 5*each, 0
		if how != nil {
			want, entries, issues = dataset.NotKnown, 4*each, 1
		}
		if ans.States[dataset.Problems] != want || len(ans.Issues) != issues {
			t.Errorf("%s: problems are %s with %d remarks, want %s with %d", name, ans.States[dataset.Problems], len(ans.Issues), want, issues)
		}
		if n := len(slices.DeleteFunc(ans.Content, func(r *fhir.Resource) bool { return r.Type() != "Condition" })); n != entries {
			t.Errorf("%s: %d problems, want %d", name, n, entries)
		}
	}
}
