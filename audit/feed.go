package audit

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"tombolo/fhir"
)

// A Feed sends every entry to an audit repository elsewhere, as FHIR: IHE ATNA, Record Audit Event, ITI-20 RESTful. In order, at least once:
// after a crash some come again, with the same id. While the repository is down nothing is lost and nobody waits.
type Feed struct {
	Log   *Log
	URL   string // FHIR base of the repository; AuditEvents are posted to URL/AuditEvent
	Token string // bearer token, if it wants one
	HTTP  *http.Client
	// Load and Save keep how far the feed has come.
	Load func(ctx context.Context) (Seq, error)
	Save func(ctx context.Context, s Seq) error
}

// Step sends what there is after the cursor, at most a page of it, and returns how many entries the repository took.
func (f *Feed) Step(ctx context.Context) (int, error) {
	after, err := f.Load(ctx)
	if err != nil {
		return 0, err
	}
	n, last := 0, after
	var failed error
	for e, err := range f.Log.All(ctx, after, page) {
		if err == nil {
			err = f.post(ctx, e)
		}
		if err != nil {
			failed = err
			break
		}
		n, last = n+1, e.Seq
	}
	if n > 0 {
		if err := f.Save(ctx, last); err != nil {
			return n, err
		}
	}
	return n, failed
}

// post sends one entry. FHIR R4 http.html#create
func (f *Feed) post(ctx context.Context, e Entry) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(f.URL, "/")+"/AuditEvent", bytes.NewReader(e.Body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/fhir+json")
	req.Header.Set("Accept", "application/fhir+json")
	if f.Token != "" {
		req.Header.Set("Authorization", "Bearer "+f.Token)
	}
	client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }} // the token goes nowhere else
	if f.HTTP != nil {
		client.Transport = f.HTTP.Transport
	}
	resp, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("send entry %d to the audit repository: %w", e.Seq, err)
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<20))
	_ = resp.Body.Close()
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return fhir.Errorf(fhir.Transient, "the audit repository answered %d to entry %d: it is sent again until it is taken", resp.StatusCode, e.Seq)
	}
	return nil
}
