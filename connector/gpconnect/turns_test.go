package gpconnect

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"regexp"
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

// What a clinician is told of a failure is a sentence of its own, without the words of the wire; and everything that means that there is no
// record to share is told in one and the same, whichever of its reasons it is.
func TestFailuresAreToldInWords(t *testing.T) {
	jargon := regexp.MustCompile(`(?i)FHIR|HTTP|JSON|bundle|resource|header|parameter|exception|null`)
	all := []meaning{}
	for code, m := range spine {
		all = append(all, m)
		if m.typ == fhir.NotFound && m.text != spine["PATIENT_NOT_FOUND"].text {
			t.Errorf("%s is told apart from other reasons for there being no record: %s", code, m.text)
		}
	}
	for _, m := range statuses {
		all = append(all, m)
		if m.typ == fhir.NotFound {
			t.Errorf("a status alone passes for no record: %s", m.text)
		}
	}
	for _, m := range all {
		if len(m.text) < 30 || jargon.MatchString(m.text) {
			t.Errorf("not for a clinician: %s", m.text)
		}
	}
}
