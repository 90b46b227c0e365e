// Package gpconnect is the record as GP Connect: Access Record Structured 1.6 (STU3) over what is gathered, for systems that speak
// nothing newer. One operation, one capability statement, and the errors of the Spine.
//
// It is a face like any other: it holds a Session and asks Records, which decides, withholds and audits. Who may not see a person is told
// what is told of somebody unknown, byte for byte. The token of GP Connect is unsigned and proves nothing: whose request it is must be
// proven below this package, by mutual TLS or the Spine's proxy, and Options.Session is where that is turned into a Session.
package gpconnect

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"sync"
	"time"

	"tombolo/access"
	"tombolo/connector"
	"tombolo/dataset"
	"tombolo/fhir"
	"tombolo/gather"
)

// Records opens a person's record for a session by NHS number. An issue of type NotFound is also every refusal.
type Records interface {
	Record(ctx context.Context, s *access.Session, nhs fhir.NHSNumber, headings []dataset.Heading) (*gather.Record, error)
}

// Options of the face. Records and Session are needed.
type Options struct {
	Records Records
	// Session makes the session of a request whose caller has been proven, and of who its token says is asking.
	Session func(r *http.Request, who Caller) (*access.Session, error)

	Base    string // public service root; what a token's aud must be. "" takes any
	ASID    string // what Ssp-To must be; "" takes any
	Name    string // of the region, for the capability statement
	Version string // of the program
	Now     func() time.Time
	Logger  *slog.Logger
}

// A Caller is who a request says is asking: the claims of its token, and the system id of its headers.
type Caller struct {
	connector.Requester
	Issuer string // iss
	ASID   string // Ssp-From
}

type server struct {
	o Options

	mu       sync.Mutex
	underway map[string]int // how many requests of one trace about one person are being answered
}

// New makes the handler at the service root.
func New(o Options) (http.Handler, error) {
	if o.Records == nil || o.Session == nil {
		return nil, fhir.Errorf(fhir.Required, "the GP Connect face needs records to show, and a way to know who is asking")
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	o.Version, o.Name = cmp.Or(o.Version, "1"), cmp.Or(o.Name, "Tombolo")
	s := &server{o: o, underway: map[string]int{}}
	mux := http.NewServeMux()
	mux.HandleFunc("/metadata", s.answer(s.metadata))
	mux.HandleFunc("/Patient/$gpc.getstructuredrecord", s.answer(s.structured))
	mux.HandleFunc("/", s.answer(func(http.ResponseWriter, *http.Request) error {
		return &refusal{http.StatusNotImplemented, "NOT_IMPLEMENTED", "no such interaction is offered here"}
	}))
	return mux, nil
}

const (
	interactionStructured = "urn:nhs:names:services:gpconnect:fhir:operation:gpc.getstructuredrecord-1"
	interactionMetadata   = "urn:nhs:names:services:gpconnect:structured:fhir:rest:read:metadata-1"
	maxBody               = 64 << 10
)

func (s *server) answer(h func(http.ResponseWriter, *http.Request) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if err := h(w, r); err != nil {
			s.fail(w, err)
		}
	}
}

func write(w http.ResponseWriter, status int, body []byte) {
	h := w.Header()
	h.Set("Content-Type", "application/fhir+json; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = w.Write(body)
}

// metadata says what is offered. It is said of nobody.
func (s *server) metadata(w http.ResponseWriter, r *http.Request) error {
	who, err := s.check(r, http.MethodGet, interactionMetadata, "organization/*.read")
	if err != nil {
		return err
	}
	if _, err := s.o.Session(r, who); err != nil {
		return err
	}
	var profiles []fhir.M
	for _, p := range []string{"Patient", "Organization", "Practitioner", "PractitionerRole", "Location", "AllergyIntolerance", "Medication", "MedicationStatement",
		"MedicationRequest", "ProblemHeader-Condition", "Immunization", "Encounter", "Observation", "DiagnosticReport", "Specimen", "ProcedureRequest", "ReferralRequest", "List"} {
		profiles = append(profiles, fhir.M{"reference": "https://fhir.nhs.uk/STU3/StructureDefinition/CareConnect-GPC-" + p + "-1"})
	}
	write(w, http.StatusOK, fhir.JSON(fhir.M{
		"resourceType": "CapabilityStatement", "status": "active", "date": "2026-04-01", "kind": "capability", "fhirVersion": "3.0.1", "version": "1.6.2",
		"name": "GP Connect API - Access Record Structured", "publisher": s.o.Name, "acceptUnknown": "both", "format": []string{"application/fhir+json"},
		"software": fhir.M{"name": "Tombolo", "version": s.o.Version}, "profile": profiles,
		"rest": []fhir.M{{"mode": "server", "operation": []fhir.M{{"name": "gpc.getstructuredrecord",
			"definition": fhir.M{"reference": "https://fhir.nhs.uk/STU3/OperationDefinition/GPConnect-GetStructuredRecord-Operation-1"}}}}},
	}))
	return nil
}

// structured is the operation.
//
// GP Connect 1.6 accessrecord_structured_development_retrieve_patient_record.html
func (s *server) structured(w http.ResponseWriter, r *http.Request) error {
	who, err := s.check(r, http.MethodPost, interactionStructured, "patient/*.read")
	if err != nil {
		return err
	}
	if t, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || t != "application/fhir+json" && t != "application/json+fhir" {
		return &refusal{http.StatusUnsupportedMediaType, "BAD_REQUEST", "the body must be application/fhir+json"}
	}
	session, err := s.o.Session(r, who)
	if err != nil {
		return err
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		return bad("the body could not be read, or is larger than any question")
	}
	q, err := readQuestion(body, s.o.Now())
	if err != nil {
		return err
	}
	done, err := s.begin(who.TraceID, q.nhs)
	if err != nil {
		return err
	}
	defer done()
	rec, err := s.o.Records.Record(r.Context(), session, q.nhs, q.headings())
	if err != nil {
		return err
	}
	write(w, http.StatusOK, bundle(rec, q, s.o.Now()))
	return nil
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
		return nil, bad("this request is being answered here already, several times: do two systems ask each other in a circle?")
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

// A refusal is an error as GP Connect words it.
type refusal struct {
	status            int
	code, diagnostics string
}

func (r *refusal) Error() string { return r.code + ": " + r.diagnostics }

func bad(diagnostics string) *refusal {
	return &refusal{http.StatusBadRequest, "BAD_REQUEST", diagnostics}
}

func invalid(diagnostics string) *refusal {
	return &refusal{http.StatusUnprocessableEntity, "INVALID_PARAMETER", diagnostics}
}

// nobody is the one answer to "not there" and to "not for you". It takes no diagnostics, so that no two can differ.
var nobody = &refusal{http.StatusNotFound, "PATIENT_NOT_FOUND", ""}

// spineErrors are FHIR's type and the Spine's words of each code. GP Connect 1.6 development_fhir_error_handling_guidance.html
var spineErrors = map[string][2]string{
	"BAD_REQUEST": {"invalid", "Bad request"}, "INVALID_NHS_NUMBER": {"value", "Invalid NHS number"}, "INVALID_PARAMETER": {"invalid", "Invalid parameter"},
	"INVALID_RESOURCE": {"invalid", "Invalid validation of resource"}, "PATIENT_NOT_FOUND": {"not-found", "Patient not found"},
	"ACCESS_DENIED": {"forbidden", "Access denied"}, "NOT_IMPLEMENTED": {"not-supported", "Not implemented"},
	"INTERNAL_SERVER_ERROR": {"processing", "Unexpected internal server error"},
}

// fail translates an error, once, into the Spine's.
func (s *server) fail(w http.ResponseWriter, err error) {
	var r *refusal
	if !errors.As(err, &r) {
		r = &refusal{http.StatusInternalServerError, "INTERNAL_SERVER_ERROR", ""}
		if is := fhir.IssueOf(err); is != nil {
			switch is.Type {
			case fhir.NotFound, fhir.Suppressed, fhir.Deleted, fhir.MultipleMatch:
				r = nobody
			case fhir.Login, fhir.Forbidden:
				r = &refusal{http.StatusForbidden, "ACCESS_DENIED", is.Text} // depends on who asks alone, and on nobody's record
			case fhir.ValueError:
				r = &refusal{http.StatusBadRequest, "INVALID_NHS_NUMBER", ""}
			default:
				s.o.Logger.Error("a GP Connect request failed", "type", is.Type)
			}
		} else {
			s.o.Logger.Error("a GP Connect request failed", "error", err)
		}
	}
	words := spineErrors[r.code]
	issue := fhir.M{"severity": "error", "code": words[0], "details": fhir.M{"coding": []fhir.M{{
		"system": "https://fhir.nhs.uk/STU3/ValueSet/Spine-ErrorOrWarningCode-1", "code": r.code, "display": words[1]}}}}
	if r.diagnostics != "" {
		issue["diagnostics"] = r.diagnostics
	}
	write(w, r.status, fhir.JSON(fhir.M{"resourceType": "OperationOutcome", "issue": []fhir.M{issue},
		"meta": fhir.M{"profile": []string{"https://fhir.nhs.uk/STU3/StructureDefinition/GPConnect-OperationOutcome-1"}}}))
}

func decode(part []byte, into any) error { return json.Unmarshal(part, into) }
