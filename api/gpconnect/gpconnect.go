// Package gpconnect is the provider's side of GP Connect's protocol: how a practice's system is asked (Access Record Structured 1.6, STU3), and
// what it must take and turn away. Headers, token, parameters, the lists and the bundle of an answer, the capability statement and the errors of the Spine
// are here; what is told of whom is not.
//
// What stands behind it gives Records to each caller that it admits. There are two: the gathered record (api/gpconnect/gathered), and the
// simulated practices (sim/practice), which add interactions of their own: pages, documents, appointments.
//
// The token of GP Connect is unsigned and proves nothing: whose request it is must be proven below this package, by mutual TLS or the Spine's
// proxy, and Options.Admit is where that is looked at.
package gpconnect

import (
	"cmp"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"tombolo/fhir"
)

// Records is what one caller may be told.
type Records interface {
	// Record tells of one person what was asked, as the entries of the answer's Bundle in STU3, lists included. A *Refusal is told as it is; an
	// issue of type NotFound is every refusal to tell of somebody, so that none can be told from another.
	Record(ctx context.Context, q *Question) ([]fhir.M, error)
}

// Options of a provider. Admit is needed.
type Options struct {
	// Admit decides about a request whose headers and token are in order: whether its caller may ask anything here at all, and what is told them.
	Admit func(r *http.Request, who Caller) (Records, error)
	// Interactions are what is answered beside the structured record and the capability statement.
	Interactions []Interaction

	Base      string // public service root; what a token's aud must be. "" takes any
	ASID      string // what Ssp-To must be; "" takes any
	Publisher string // for the capability statement
	Software  string // its name and version
	Version   string
	// Release is the version of Access Record Structured that is spoken, from 1.2; 1.6.2 if not given. What came later is not known.
	Release string
	Now     func() time.Time
	Logger  *slog.Logger
}

// An Interaction is one thing that a provider can be asked.
type Interaction struct {
	ID     string // Ssp-InteractionID
	Method string
	Path   string // below the service root, as http.ServeMux reads it
	Scope  string // what the token must ask for
	Old    bool   // of the time of DSTU2: application/json+fhir, and a token that names the record
	Answer func(w http.ResponseWriter, r *http.Request, who Caller) error
}

// GP Connect 1.6 integration_interaction_ids.html
const (
	InteractionStructured = "urn:nhs:names:services:gpconnect:fhir:operation:gpc.getstructuredrecord-1"
	InteractionMetadata   = "urn:nhs:names:services:gpconnect:structured:fhir:rest:read:metadata-1"
)

const (
	fhirJSON = "application/fhir+json"
	oldJSON  = "application/json+fhir" // what FHIR called it before STU3
	maxBody  = 64 << 10
)

type server struct {
	o     Options
	minor int

	mu       sync.Mutex
	underway map[string]int // how many requests of one trace about one person are being answered
}

// New makes the handler at the service root.
func New(o Options) (http.Handler, error) {
	if o.Admit == nil {
		return nil, fhir.Errorf(fhir.Required, "a provider of GP Connect needs to know who is asking, and what they may be told")
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	o.Release = cmp.Or(o.Release, "1.6.2")
	o.Software, o.Version = cmp.Or(o.Software, "Tombolo"), cmp.Or(o.Version, "1")
	s := &server{o: o, underway: map[string]int{}}
	_, rest, _ := strings.Cut(o.Release, ".")
	minor, _, _ := strings.Cut(rest, ".")
	var err error
	if s.minor, err = strconv.Atoi(minor); err != nil || s.minor < 2 {
		return nil, fhir.Errorf(fhir.ValueError, "%q is no version of Access Record Structured", o.Release)
	}
	mux, at := http.NewServeMux(), map[string][]Interaction{}
	for _, i := range append([]Interaction{
		{ID: InteractionMetadata, Method: http.MethodGet, Path: "/metadata", Scope: "organization/*.read", Answer: s.metadata},
		{ID: InteractionStructured, Method: http.MethodPost, Path: "/Patient/$gpc.getstructuredrecord", Scope: "patient/*.read", Answer: s.structured},
	}, o.Interactions...) {
		at[i.Path] = append(at[i.Path], i)
	}
	for path, offered := range at {
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) { s.serve(w, r, offered) })
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		s.fail(w, r, &Refusal{http.StatusNotImplemented, "NOT_IMPLEMENTED", "no such interaction is offered here"})
	})
	return mux, nil
}

// serve answers one of the interactions that are offered at an address.
func (s *server) serve(w http.ResponseWriter, r *http.Request, offered []Interaction) {
	i, who, err := s.check(r, offered)
	if err == nil {
		err = i.Answer(w, r, who)
	}
	if err != nil {
		s.fail(w, r, err)
	}
}

// Write writes an answer, compressed for whoever can read that. It may not be kept.
//
// GP Connect 1.6 development_general_api_guidance.html#managing-api-errors, #compression
func Write(w http.ResponseWriter, r *http.Request, status int, contentType string, body []byte) {
	h := w.Header()
	h.Set("Content-Type", contentType+"; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Vary", "Accept-Encoding")
	if !strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		w.WriteHeader(status)
		_, _ = w.Write(body)
		return
	}
	h.Set("Content-Encoding", "gzip")
	w.WriteHeader(status)
	z, _ := gzip.NewWriterLevel(w, gzip.BestSpeed)
	_, _ = z.Write(body)
	_ = z.Close()
}

// WriteFHIR writes a resource of STU3.
func WriteFHIR(w http.ResponseWriter, r *http.Request, status int, body fhir.M) {
	Write(w, r, status, fhirJSON, fhir.JSON(body))
}

const definitions = "https://fhir.nhs.uk/STU3/StructureDefinition/"

// Profile is the meta of a resource of one of the NHS's profiles.
func Profile(name string) fhir.M { return fhir.M{"profile": []string{definitions + name}} }

// metadata says what is offered. It is said of nobody.
//
// GP Connect 1.6 accessrecord_structured_get_the_fhir_capability_statement.html
func (s *server) metadata(w http.ResponseWriter, r *http.Request, who Caller) error {
	if _, err := s.o.Admit(r, who); err != nil {
		return err
	}
	var profiles []fhir.M
	for _, p := range profilesOf(s.minor) {
		profiles = append(profiles, fhir.M{"reference": definitions + p})
	}
	f := fhir.M{
		"resourceType": "CapabilityStatement", "status": "active", "date": "2026-04-01", "kind": "capability", "fhirVersion": "3.0.1", "version": s.o.Release,
		"name": "GP Connect API - Access Record Structured", "acceptUnknown": "both", "format": []string{fhirJSON},
		"software": fhir.M{"name": s.o.Software, "version": s.o.Version}, "profile": profiles,
		"rest": []fhir.M{{"mode": "server", "operation": []fhir.M{{"name": "gpc.getstructuredrecord",
			"definition": fhir.M{"reference": "https://fhir.nhs.uk/STU3/OperationDefinition/GPConnect-GetStructuredRecord-Operation-1"}}}}},
	}
	if s.o.Publisher != "" {
		f["publisher"] = s.o.Publisher
	}
	WriteFHIR(w, r, http.StatusOK, f)
	return nil
}

// structured is the operation.
//
// GP Connect 1.6 accessrecord_structured_development_retrieve_patient_record.html
func (s *server) structured(w http.ResponseWriter, r *http.Request, who Caller) error {
	if err := checkContent(r, fhirJSON, oldJSON); err != nil {
		return err
	}
	records, err := s.o.Admit(r, who)
	if err != nil {
		return err
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		return BadRequest("the body could not be read, or is larger than any question")
	}
	q, err := readQuestion(body, s.o.Now(), s.minor)
	if err != nil {
		return err
	}
	done, err := s.begin(who.TraceID, q.NHS)
	if err != nil {
		return err
	}
	defer done()
	entries, err := records.Record(r.Context(), q)
	if err != nil {
		return err
	}
	for i, e := range entries {
		entries[i] = versioned(e)
	}
	if o := notKnown(q.unknown); o != nil {
		entries = append(entries, fhir.M{"resource": o})
	}
	WriteFHIR(w, r, http.StatusOK, fhir.M{"resourceType": "Bundle", "type": "collection", "entry": entries, "meta": Profile("GPConnect-StructuredRecord-Bundle-1")})
	return nil
}

// administrative are the types of which GP Connect wants to know the version; in a clinical resource it may not stand.
var administrative = []string{"Patient", "Organization", "Practitioner", "PractitionerRole", "Location"}

// versioned gives a resource its version where it needs one: what is written in it, so that it changes when that does.
//
// GP Connect 1.6 development_fhir_api_guidance.html#resource-metadata; accessrecord_structured_development_allergyintolerance.html, elements not in use
func versioned(entry fhir.M) fhir.M {
	r, err := fhir.Parse(fhir.JSON(entry["resource"]))
	if err != nil {
		return entry
	}
	meta := fhir.M{}
	_ = r.Get("meta").Decode(&meta)
	delete(meta, "lastUpdated")
	delete(meta, "versionId")
	if slices.Contains(administrative, r.Type()) {
		sum := sha256.Sum256(r.Raw())
		meta["versionId"] = hex.EncodeToString(sum[:8])
	}
	return fhir.M{"resource": json.RawMessage(r.With("meta", meta).Raw())}
}

// circle is how many requests of one trace about one person are answered at once. A system may ask twice at once, hardly more.
const circle = 12

// begin notes that a question is being answered. Two regions that are each other's practices ask in a circle, under one trace; it is broken
// here after a few rounds, before every deadline has passed.
func (s *server) begin(trace string, nhs fhir.NHSNumber) (done func(), err error) {
	key := trace + " " + nhs.Digits()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.underway[key] >= circle {
		return nil, BadRequest("this request is being answered here already, several times: do two systems ask each other in a circle?")
	}
	s.underway[key]++
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.underway[key]--; s.underway[key] == 0 {
			delete(s.underway, key)
		}
	}, nil
}
