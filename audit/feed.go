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

// A Repository is where audit events are kept besides: IHE ATNA, Audit Record Repository.
type Repository interface {
	// Take sends entries in order and says how many of them it took, the first ones. The error, if any, is about the next.
	// One of type fhir.Invalid says that it is the entry that is refused.
	Take(ctx context.Context, entries []Entry) (taken int, err error)
}

// A Feed sends every entry to a repository elsewhere: IHE ATNA, Record Audit Event, ITI-20. In order, at least once: after a crash some
// come again, with the same id. While the repository is down nothing is lost and nobody waits. An entry that it will not take does
// not hold up the others: that is recorded, and the feed goes on.
type Feed struct {
	Log *Log
	To  Repository
	// Load and Save keep how far the feed has come.
	Load func(ctx context.Context) (Seq, error)
	Save func(ctx context.Context, s Seq) error
}

// Step sends what there is after the cursor, at most a page of it, and returns how many entries the feed went on by.
func (f *Feed) Step(ctx context.Context) (int, error) {
	after, err := f.Load(ctx)
	if err != nil {
		return 0, err
	}
	var entries []Entry
	for e, err := range f.Log.All(ctx, after, page) {
		if err != nil {
			return 0, err
		}
		entries = append(entries, e)
	}
	if len(entries) == 0 {
		return 0, nil
	}
	n, failed := f.To.Take(ctx, entries)
	if fhir.Is(failed, fhir.Invalid) && n+1 < len(entries) {
		passed, err := f.pass(ctx, entries[n], entries[n+1])
		if err != nil {
			return n, err
		}
		n += passed
	}
	if n > 0 {
		if err := f.Save(ctx, entries[n-1].Seq); err != nil {
			return n, err
		}
	}
	return n, failed
}

// pass goes past an entry that the repository refuses, if it takes the next: one that takes neither is out of order itself, and all wait.
func (f *Feed) pass(ctx context.Context, refused, next Entry) (int, error) {
	if n, err := f.To.Take(ctx, []Entry{next}); n == 0 || err != nil {
		return 0, nil
	}
	what := []string{"reason: the audit repository will not take an entry", "entry: AuditEvent/" + idOf(refused.Seq)}
	_, err := f.Log.Append(ctx, Event{Kind: Alert, Agent: Agent{User: "tombolo", Name: "Tombolo"}, What: what})
	return 2, err
}

// Behind is how many entries are still to be sent.
func (f *Feed) Behind(ctx context.Context) (uint64, error) {
	at, err := f.Load(ctx)
	if err != nil {
		return 0, err
	}
	head, err := f.Log.Head(ctx)
	if err != nil {
		return 0, err
	}
	return uint64(head.Seq) - uint64(min(at, head.Seq)), nil
}

// FHIR is a repository that takes FHIR AuditEvents. IHE ITI-20, RESTful ATNA: FHIR Feed
type FHIR struct {
	URL   string // its base; AuditEvents are posted to URL/AuditEvent
	Token string // bearer token, if it wants one
	HTTP  *http.Client
}

var _ Repository = FHIR{}

// Take posts the entries one by one.
func (r FHIR) Take(ctx context.Context, entries []Entry) (int, error) {
	for i, e := range entries {
		if err := r.post(ctx, e); err != nil {
			return i, err
		}
	}
	return len(entries), nil
}

// post sends one entry. FHIR R4 http.html#create
func (r FHIR) post(ctx context.Context, e Entry) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(r.URL, "/")+"/AuditEvent", bytes.NewReader(e.Body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/fhir+json")
	req.Header.Set("Accept", "application/fhir+json")
	if r.Token != "" {
		req.Header.Set("Authorization", "Bearer "+r.Token)
	}
	client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }} // the token goes nowhere else
	if r.HTTP != nil {
		client.Transport = r.HTTP.Transport
	}
	resp, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("send entry %d to the audit repository: %w", e.Seq, err)
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<20))
	_ = resp.Body.Close()
	switch code := resp.StatusCode; {
	case code >= 200 && code <= 299:
		return nil
	case code == http.StatusBadRequest, code == http.StatusRequestEntityTooLarge, code == http.StatusUnprocessableEntity:
		return fhir.Errorf(fhir.Invalid, "the audit repository will not take entry %d (%d)", e.Seq, code)
	}
	return fhir.Errorf(fhir.Transient, "the audit repository answered %d to entry %d: it is sent again until it is taken", resp.StatusCode, e.Seq)
}
