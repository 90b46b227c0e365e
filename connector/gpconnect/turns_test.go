package gpconnect

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"tombolo/connector"
	"tombolo/dataset"
	"tombolo/fhir"
)

// Large answers take turns and give them back, small ones wait for nobody, and whoever waits too long is told that it took too long.
func TestLargeAnswersTakeTurns(t *testing.T) {
	small := []byte(`{"resourceType":"Bundle","type":"collection","entry":[{"resource":{"resourceType":"Patient","id":"1"}}]}`)
	big := append(bytes.Repeat([]byte(" "), largeAnswer), small...)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/fhir+json")
		switch {
		case r.Method == http.MethodGet:
			_, _ = w.Write([]byte(`{"resourceType":"CapabilityStatement","version":"1.6.0"}`))
		case strings.HasSuffix(r.Header.Get("Ssp-To"), "2"):
			_, _ = w.Write(big)
		default:
			_, _ = w.Write(small)
		}
	}))
	defer srv.Close()
	ask := func(asid string, patience time.Duration) error {
		c, err := New(Options{Source: "gp", Address: srv.URL, ASID: "1", ToASID: asid})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		_, err = c.Ask(ctx, connector.Question{Identifiers: []fhir.Identifier{{System: fhir.SystemNHSNumber, Value: "9990000107"}}, Headings: []dataset.Heading{dataset.Problems},
			Requester: connector.Requester{UserID: "u", UserName: "Dr A", OrganisationODS: "RX1", Purpose: "TREAT"}})
		return err
	}
	for range 2 * largeAtOnce { // none keeps its turn
		if err := ask("2", time.Minute); err != nil {
			t.Fatal(err)
		}
	}
	for range largeAtOnce {
		turns <- struct{}{}
	}
	if err := ask("1", time.Minute); err != nil {
		t.Errorf("a small answer while all turns are taken: %v", err)
	}
	if err := ask("2", 500*time.Millisecond); !fhir.Is(err, fhir.Timeout) {
		t.Errorf("a large answer while all turns are taken: %v", err)
	}
	for range largeAtOnce {
		<-turns
	}
	if err := ask("2", time.Minute); err != nil {
		t.Error(err)
	}
	if len(turns) > 0 {
		t.Errorf("%d turns were not given back", len(turns))
	}
}
