package harness

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"tombolo/fhir"
)

// perPatient is how many Bundles of a writer are about the same patient.
const perPatient = 8

// A Bundle is the nth transaction of a writer: a patient, an observation of its own, and the patient's latest, which each Bundle replaces.
type Bundle struct {
	Writer, N int
	Key       string
}

// NewBundle is the nth Bundle of a writer.
func NewBundle(writer, n int) Bundle { return Bundle{writer, n, fmt.Sprintf("B%d-%07d", writer, n)} }

func (b Bundle) patient() fhir.Ref {
	return fhir.MakeRef("Patient", fmt.Sprintf("P%d-%07d", b.Writer, b.N/perPatient))
}
func (b Bundle) own() fhir.Ref { return fhir.MakeRef("Observation", "own-"+b.Key) }
func (b Bundle) latest() fhir.Ref {
	return fhir.MakeRef("Observation", fmt.Sprintf("latest-%d-%07d", b.Writer, b.N/perPatient))
}

// Bytes is the transaction as it is sent.
//
// FHIR R4 http.html#transaction
func (b Bundle) Bytes() []byte {
	put := func(r *fhir.Resource) fhir.M {
		return fhir.M{"resource": json.RawMessage(r.Raw()), "request": fhir.M{"method": "PUT", "url": string(r.Ref())}}
	}
	value := func(ref fhir.Ref) fhir.M {
		return put(fhir.New("Observation", ref.ID(), fhir.M{"status": "final", "code": fhir.CodeableConcept{Text: "Weight"},
			"subject": fhir.Reference{Reference: string(b.patient())}, "valueInteger": b.N}))
	}
	n := b.N / perPatient
	patient := fhir.New("Patient", b.patient().ID(), fhir.M{"name": []fhir.M{{"family": family(n)}}, "gender": "female", "birthDate": born(b.Writer, n).Format(time.DateOnly)})
	return fhir.New("Bundle", "", fhir.M{"type": "transaction", "entry": []fhir.M{put(patient), value(b.own()), value(b.latest())}}).Raw()
}

// Writers send Bundles for as long as they are let, and remember which were acknowledged.
type Writers struct{ outbox[Bundle] }

// NewWriters makes n writers that have sent nothing.
func NewWriters(n int) *Writers { return &Writers{newOutbox(n, NewBundle)} }

// Run sends until ctx ends or each writer has met a node that makes no promise. At most limit new Bundles each; 0 is no limit.
func (s *Writers) Run(ctx context.Context, url string, limit int) {
	s.each(ctx, limit, func() (send func(Bundle) (refused string, err error), done func()) {
		c := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{}}
		return func(b Bundle) (string, error) { return post(ctx, c, url, b) }, c.CloseIdleConnections
	})
}

// post sends one Bundle.
func post(ctx context.Context, c *http.Client, url string, b Bundle) (refused string, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(b.Bytes()))
	if err != nil {
		return "", err
	}
	r.Header.Set("Content-Type", "application/fhir+json")
	r.Header.Set("Idempotency-Key", b.Key) // a Bundle is taken once, however often it comes
	answer, err := c.Do(r)
	if err != nil {
		return "", err
	}
	text, err := io.ReadAll(answer.Body)
	_ = answer.Body.Close()
	switch answer.StatusCode {
	case http.StatusOK, http.StatusCreated:
		return "", nil // the status came: what is lost of the body changes nothing
	case http.StatusServiceUnavailable, http.StatusTooManyRequests:
		return "", cmp.Or(err, fmt.Errorf("%s: %s", b.Key, text))
	}
	return b.Key + " " + strconv.Itoa(answer.StatusCode) + " " + string(text), nil
}
