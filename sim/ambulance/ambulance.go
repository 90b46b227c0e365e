// Package ambulance is the simulated ambulance service and 111 provider: it posts one document for every incident and call that the cast says
// it attended. 999 incidents go as FHIR documents, 111 calls as ITK CDA in a distribution envelope, as the real ones do.
//
// A document has the same identifiers whenever it is sent, so that a service that does not know whether it was heard may say it again.
package ambulance

import (
	"bytes"
	"context"
	"crypto/sha1"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"tombolo/fhir"
	"tombolo/sim"
	"tombolo/sim/cast"
)

// Options configure the service. Address is needed.
type Options struct {
	Source  string // which source of the cast it is; cast.Ambulance if empty
	Address string // URL of the node's document listener
	Token   string // bearer token to show; "" shows none
	People  []cast.Person
	Faults  *sim.Faults // nil: behaves
	HTTP    *http.Client
	Now     func() time.Time // what begins later is not sent yet; time.Now if nil
	// Tries and Pause say how often and how far apart a document is sent that was not taken for a passing reason; 5 and 200 ms,
	// doubling, if 0.
	Tries int
	Pause time.Duration
}

// A Service sends documents.
type Service struct {
	o   Options
	org cast.Organisation
}

// A Report says what became of a Send.
type Report struct {
	Sent    int // taken, now or before
	Again   int // of these: the receiver had them already
	Refused []error
}

// New makes the service. It sends nothing yet.
func New(o Options) *Service {
	if o.Source == "" {
		o.Source = cast.Ambulance
	}
	if o.Faults == nil {
		o.Faults = &sim.Faults{}
	}
	if o.HTTP == nil {
		o.HTTP = &http.Client{Timeout: 30 * time.Second}
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Tries <= 0 {
		o.Tries = 5
	}
	if o.Pause <= 0 {
		o.Pause = 200 * time.Millisecond
	}
	return &Service{o: o, org: cast.OrganisationOf(o.Source)}
}

// A Document is one thing that the service sends.
type Document struct {
	Person      string // Key
	Encounter   string // ID
	ContentType string
	Body        []byte
}

// Documents are all the documents about the people the service knows, in order, of what has begun by now.
func (s *Service) Documents() []Document {
	var out []Document
	for _, p := range s.o.People {
		if !p.At(s.o.Source) {
			continue
		}
		for i, e := range p.EncountersAt(s.o.Source) {
			if begun, err := fhir.ParseDate(e.Start); err != nil || begun.Start.After(s.o.Now()) {
				continue
			}
			if strings.HasPrefix(e.ID, "111-") {
				out = append(out, Document{p.Key, e.ID, "text/xml", s.call(p, e)})
				continue
			}
			var items []cast.Item
			if firstIncident(p.EncountersAt(s.o.Source)) == i {
				items = p.ItemsAt(s.o.Source) // a service's own facts were found at an incident; the cast does not say at which
			}
			out = append(out, Document{p.Key, e.ID, "application/fhir+json", s.incident(p, e, items)})
		}
	}
	return out
}

func firstIncident(list []cast.Encounter) int {
	for i, e := range list {
		if !strings.HasPrefix(e.ID, "111-") {
			return i
		}
	}
	return -1
}

// Send posts every document. A document that is refused for good is in the report and the rest go on; an error says that the receiver
// could not be reached with something, however often it was tried.
func (s *Service) Send(ctx context.Context) (Report, error) {
	var rep Report
	docs := s.Documents()
	for i, d := range docs {
		again, err := s.deliver(ctx, s.faulty(docs, i))
		var refused *refusal
		switch {
		case err == nil:
			rep.Sent++
			if again {
				rep.Again++
			}
		case errors.As(err, &refused):
			rep.Refused = append(rep.Refused, fmt.Errorf("document of %s: %w", d.Encounter, err))
		default:
			return rep, fmt.Errorf("document of %s: %w", d.Encounter, err)
		}
	}
	return rep, nil
}

// faulty is the i-th document as the fault that is switched on leaves it.
func (s *Service) faulty(docs []Document, i int) Document {
	d := docs[i]
	fault, _ := s.o.Faults.Now()
	switch fault {
	case sim.FaultGarbage:
		d.Body = []byte("\x00\xff<html>Service temporarily unavailable")
	case sim.FaultTruncated:
		d.Body = d.Body[:len(d.Body)/2]
	case sim.FaultWrongPatient:
		d = s.mixedUp(d)
	}
	return d
}

// mixedUp is an incident's document in which the clinical parts are somebody else's. A CDA names its patient once and cannot be mixed up so.
func (s *Service) mixedUp(d Document) Document {
	for _, p := range s.o.People {
		if p.Key != d.Person {
			continue
		}
		own := []byte(`"subject":` + string(fhir.JSON(s.self(p))))
		if at := bytes.Index(d.Body, own); at >= 0 { // the first is the Composition's
			at += len(own)
			other := []byte(`"subject":{"reference":"urn:uuid:` + s.uuid("patient", "somebody else") + `"}`)
			d.Body = append(bytes.Clone(d.Body[:at]), bytes.ReplaceAll(d.Body[at:], own, other)...)
		}
	}
	return d
}

// A refusal is an answer that sending again will not change.
type refusal struct{ status int }

func (r *refusal) Error() string { return fmt.Sprintf("refused with status %d", r.status) }

// deliver posts one document until it is taken, refused for good, or the tries are used up.
func (s *Service) deliver(ctx context.Context, d Document) (again bool, err error) {
	pause := s.o.Pause
	for try := 1; ; try++ {
		again, err = s.post(ctx, d)
		var refused *refusal
		if err == nil || errors.As(err, &refused) || try == s.o.Tries || ctx.Err() != nil {
			return again, err
		}
		select {
		case <-ctx.Done():
			return false, ctx.Err()
		case <-time.After(pause):
		}
		pause *= 2
	}
}

func (s *Service) post(ctx context.Context, d Document) (again bool, err error) {
	if fault, delay := s.o.Faults.Now(); fault == sim.FaultDown {
		return false, errors.New("the service is switched off")
	} else if fault == sim.FaultSlow {
		select {
		case <-ctx.Done():
			return false, ctx.Err()
		case <-time.After(delay):
		}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.o.Address, bytes.NewReader(d.Body))
	if err != nil {
		return false, err
	}
	req.Header.Set("Content-Type", d.ContentType)
	if s.o.Token != "" {
		req.Header.Set("Authorization", "Bearer "+s.o.Token)
	}
	resp, err := s.o.HTTP.Do(req)
	if err != nil {
		return false, err
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<20))
	switch {
	case resp.StatusCode == http.StatusCreated:
		return false, nil
	case resp.StatusCode == http.StatusOK:
		return true, nil
	case resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode >= 500:
		return false, fmt.Errorf("not taken now: status %d", resp.StatusCode)
	}
	return false, &refusal{resp.StatusCode}
}

// uuid is the same for the same words. RFC 9562 §5.5 (version 5), in a namespace of our own
func (s *Service) uuid(words ...string) string {
	h := sha1.Sum([]byte("tombolo sim " + s.o.Source + "/" + strings.Join(words, "/")))
	h[6], h[8] = h[6]&0x0f|0x50, h[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", h[0:4], h[4:6], h[6:8], h[8:10], h[10:16])
}

// numbers are the person's identifiers as the service has them: its own first.
func (s *Service) numbers(p cast.Person) []fhir.M {
	out := []fhir.M{{"use": "usual", "system": "https://fhir." + strings.ToLower(s.org.ODS) + ".nhs.uk/Id/patient", "value": p.LocalID(s.o.Source),
		"assigner": fhir.M{"identifier": fhir.Identifier{System: fhir.SystemODS, Value: s.org.ODS}, "display": s.org.Name}}}
	if p.NHS != "" {
		out = append(out, fhir.M{"use": "official", "system": fhir.SystemNHSNumber, "value": p.NHS})
	}
	if p.CHI != "" {
		out = append(out, fhir.M{"use": "official", "system": fhir.SystemCHI, "value": p.CHI})
	}
	return out
}
