package federation

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"time"

	"tombolo/connector"
	"tombolo/connector/fhirapi"
	"tombolo/dataset"
	"tombolo/fhir"
)

// Vendor is another vendor's shared care record: a FHIR server that joins sources of its own when it is asked, and says by an OperationOutcome in its
// answer which of them it could not hear. ask gives the sources, by name, and where each is asked.
//
// UK Core Access: a partial answer is a searchset with an OperationOutcome entry
func Vendor(who Person, sources map[string]string, patience time.Duration, client *http.Client) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasSuffix(r.URL.Path, "/metadata"):
			metadata(w)
		case strings.HasSuffix(r.URL.Path, "/Patient/_search"):
			if r.ParseForm() == nil && asked(who, r.PostForm.Get("identifier")) {
				searchset(w, patient(who, r.Header.Get("Wrong-Patient") != ""))
				return
			}
			searchset(w)
		case strings.HasSuffix(r.URL.Path, "/Condition/_search"):
			found, missing := join(r.Context(), who, sources, patience, client)
			b := fhir.NewBundle("searchset", "", len(found), 4096)
			for _, c := range found {
				b.Add(c, "match")
			}
			for _, m := range missing {
				b.Add(fhir.Outcome(m), "outcome")
			}
			send(w, b.Bytes())
		case strings.HasSuffix(r.URL.Path, "/_search"):
			searchset(w)
		default:
			http.NotFound(w, r)
		}
	})
}

// join asks every source at once and waits for none longer than its patience.
func join(ctx context.Context, who Person, sources map[string]string, patience time.Duration, client *http.Client) (found []*fhir.Resource, missing []*fhir.Issue) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var mu sync.Mutex
	var wg sync.WaitGroup
	for name, address := range sources {
		wg.Go(func() {
			c, err := fhirapi.New(fhirapi.Options{Source: name, Address: address, HTTP: client, MaxBytes: 1 << 20})
			var a *connector.Answer
			if err == nil {
				a, err = c.Ask(ctx, connector.Question{Identifiers: who.Numbers, Headings: []dataset.Heading{dataset.Problems}})
			}
			if err == nil && a.Patient.Text("identifier.value") != who.Numbers[0].Value {
				err = fhir.Errorf(fhir.BusinessRule, "it answered about somebody else")
			}
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				missing = append(missing, &fhir.Issue{Type: fhir.Incomplete, Severity: fhir.Warning, Source: name, Text: name + " could not be heard"})
				return
			}
			for _, r := range a.Content {
				found = append(found, r.With("id", name+"-"+r.ID()))
			}
		})
	}
	wg.Wait()
	return found, missing
}
