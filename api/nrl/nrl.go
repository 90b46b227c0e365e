// Package nrl is a record locator that speaks as the National Record Locator does: organisations register pointers to what they hold (producer), and others
// look up who holds what about somebody (consumer). The answers, and above all the refusals, are the national service's byte for byte; where that is known to
// be wrong (a wrong check digit is answered by a fault), what it means to say.
//
// It is a face like any other: it holds who asks, and a Registry that decides, keeps and audits. Which application may do what for which organisation with
// which types stands in the region file.
package nrl

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	"tombolo/access"
	"tombolo/connector/nrl"
	"tombolo/fhir"
)

// A Side of the locator.
type Side string

// The two sides.
const (
	Producer Side = "producer"
	Consumer Side = "consumer"
)

// A Permission is what one application may do for one organisation on one side.
type Permission struct {
	Types []string // system|code; none: nothing
	// Dates lets the producer say when a pointer was made. Loose lets it replace pointers that are not here.
	Dates, Loose bool
	Succeeds     []string // ODS codes of organisations that the one it acts for has succeeded: what they registered is its own
}

// A Caller is who asks, proven, and for whom.
type Caller struct {
	Session      *access.Session
	Application  string // as the region file names it
	Organisation string // ODS code, of the header
	Side         Side
	Permission
}

// Owns reports whether what an organisation registered is the caller's: its own, or its predecessor's.
func (c Caller) Owns(ods string) bool {
	return ods == c.Organisation || slices.Contains(c.Succeeds, ods)
}

// A Registry keeps pointers, under policy and audit. Errors are issues of type NotFound (which is also every refusal that depends on whose pointer it is),
// Conflict (the id is taken), Forbidden, or NoStore: nothing was written, and nothing may be said.
type Registry interface {
	// Create keeps a pointer with its id and takes away those that it replaces. The write is audited before it is made.
	Create(ctx context.Context, by Caller, p nrl.Pointer, replaces []string) error
	Update(ctx context.Context, by Caller, id string, p nrl.Pointer) error
	Delete(ctx context.Context, by Caller, id string) error
	// Get gives a pointer to the producer whose it is, or to a consumer who may be told of it.
	Get(ctx context.Context, by Caller, id string) (nrl.Pointer, error)
	// Find gives the pointers about somebody that the caller may be told of: a producer its organisation's own. Nothing of them leaves before Shown.
	Find(ctx context.Context, by Caller, q nrl.Query) ([]nrl.Pointer, error)
	// Shown audits what is about to be answered: no audit, no bytes.
	Shown(ctx context.Context, by Caller, q nrl.Query, shown []nrl.Pointer) error
}

// Options of the face. All but Now and Logger are needed.
type Options struct {
	Side     Side
	Registry Registry
	// Session finds who is asking. An error is a refusal (401).
	Session func(r *http.Request) (*access.Session, error)
	// Application is how the region file names who asks; "" if it is no application.
	Application func(s *access.Session) string
	Permit      func(side Side, application, ods string) Permission
	Settings    nrl.Settings
	Base        string // public base URL of this side; what links begin with. Relative if ""
	Key         []byte // seals the tokens of pages; 32 bytes
	Now         func() time.Time
	Logger      *slog.Logger
}

type server struct{ o Options }

// New makes the handler of one side, at its base.
func New(o Options) (http.Handler, error) {
	if o.Registry == nil || o.Session == nil || o.Application == nil || o.Permit == nil || len(o.Key) != 32 {
		return nil, fhir.Errorf(fhir.Required, "the record locator needs a registry, and ways to know who is asking and what they may do")
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	s := &server{o}
	mux := http.NewServeMux()
	for _, path := range []string{"/_ping", "/_status"} {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/health+json")
			_, _ = w.Write([]byte(`{"status":"pass"}`))
		})
	}
	mux.HandleFunc("/DocumentReference", s.at(s.collection))
	mux.HandleFunc("/DocumentReference/_search", s.at(s.searchByPost))
	mux.HandleFunc("/DocumentReference/{id}", s.at(s.instance))
	mux.HandleFunc("/", s.at(func(*request) (*answer, error) { return nil, nrl.NotFound }))
	return mux, nil
}

// A request with who makes it.
type request struct {
	*http.Request
	by   Caller
	body []byte
}

// An answer is what is written, unless it is an error.
type answer struct {
	status int
	header map[string]string
	body   []byte
}

func said(o *nrl.Outcome) *answer { return &answer{status: o.Status, body: o.Body()} }

var requestID = regexp.MustCompile(`^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$`)

// at answers one address: the gateway's checks, then the service's.
func (s *server) at(h func(*request) (*answer, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		for _, name := range []string{nrl.HeaderRequest, nrl.HeaderCorrelation} {
			if v := r.Header.Get(name); v != "" && len(v) <= 200 {
				w.Header().Set(name, v)
			}
		}
		if r.Method == http.MethodHead { // the service has none, and says so without a body
			w.Header().Set("Allow", http.MethodGet)
			w.WriteHeader(http.StatusMethodNotAllowed)
			return
		}
		req := &request{Request: r}
		err := s.admit(w, req)
		var a *answer
		if err == nil {
			a, err = h(req)
		}
		if err != nil {
			a = s.refusal(err)
		}
		s.write(w, a)
	}
}

func (s *server) write(w http.ResponseWriter, a *answer) {
	h := w.Header()
	h.Set("Content-Type", nrl.MediaType)
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	for k, v := range a.header {
		h.Set(k, v)
	}
	w.WriteHeader(a.status)
	_, _ = w.Write(a.body)
}

// admit finds who asks and what they may do, and reads the body.
func (s *server) admit(w http.ResponseWriter, r *request) error {
	session, err := s.o.Session(r.Request)
	switch {
	case fhir.Is(err, fhir.Login) || fhir.Is(err, fhir.Forbidden):
		return nrl.NotAuthorised
	case err != nil:
		return err
	}
	app := s.o.Application(session)
	if app == "" {
		return nrl.NotAuthorised
	}
	ods := strings.TrimSpace(r.Header.Get(nrl.HeaderODS))
	if ods == "" || len(r.Header.Values(nrl.HeaderODS)) > 1 || !odsForm.MatchString(ods) {
		return nrl.NoOrg
	}
	if !requestID.MatchString(r.Header.Get(nrl.HeaderRequest)) {
		return nrl.NoRequestID
	}
	p := s.o.Permit(s.o.Side, app, ods)
	if len(p.Types) == 0 {
		return nrl.NoPermission(ods)
	}
	r.by = Caller{Session: session, Application: app, Organisation: ods, Side: s.o.Side, Permission: p}
	if r.Method == http.MethodPost || r.Method == http.MethodPut {
		if r.body, err = io.ReadAll(http.MaxBytesReader(w, r.Body, nrl.MaxBody)); err != nil {
			return nrl.Refusal(http.StatusRequestEntityTooLarge, "too-long", "BAD_REQUEST", "The request body could not be read, or is larger than 1 MiB")
		}
	}
	return nil
}

var odsForm = regexp.MustCompile(`^[A-Za-z0-9.]{1,18}$`)

// refusal turns an error into the answer that tells of it, and of nothing more.
func (s *server) refusal(err error) *answer {
	var o *nrl.Outcome
	switch {
	case errors.As(err, &o):
	case fhir.Is(err, fhir.NotFound):
		o = nrl.NotFound
	case fhir.Is(err, fhir.Conflict):
		o = nrl.Duplicate
	case fhir.Is(err, fhir.Forbidden):
		o = nrl.NotThisType
	default:
		o = nrl.Broken
		s.o.Logger.Error("the record locator could not answer", "side", s.o.Side, "error", err)
	}
	return said(o)
}

func notAllowed(methods string) *answer {
	a := said(nrl.Refusal(http.StatusMethodNotAllowed, "not-supported", "BAD_REQUEST", "This method is not offered here"))
	a.header = map[string]string{"Allow": methods}
	return a
}

func (s *server) collection(r *request) (*answer, error) {
	switch {
	case r.Method == http.MethodGet:
		return s.searchByGet(r)
	case s.o.Side == Consumer:
		return notAllowed("GET"), nil
	case r.Method == http.MethodPost:
		return s.create(r)
	case r.Method == http.MethodPut:
		return s.upsert(r)
	}
	return notAllowed("GET, POST, PUT"), nil
}

func (s *server) instance(r *request) (*answer, error) {
	id := r.PathValue("id")
	switch {
	case r.Method == http.MethodGet:
		return s.read(r, id)
	case s.o.Side == Consumer:
		return notAllowed("GET"), nil
	case r.Method == http.MethodPut:
		return s.update(r, id)
	case r.Method == http.MethodDelete:
		return s.remove(r, id)
	}
	return notAllowed("GET, PUT, DELETE"), nil
}

// read gives one pointer. A producer reads its own alone.
func (s *server) read(r *request, id string) (*answer, error) {
	if s.o.Side == Producer && !r.by.Owns(nrl.Custodian(id)) {
		return nil, nrl.NotYours("The requested DocumentReference cannot be read because it belongs to another organisation")
	}
	p, err := s.o.Registry.Get(r.Context(), r.by, id)
	if err != nil {
		return nil, err
	}
	if err := s.o.Registry.Shown(r.Context(), r.by, nrl.Query{}, []nrl.Pointer{p}); err != nil {
		return nil, err
	}
	return &answer{status: http.StatusOK, body: indented(p.Raw())}, nil
}

// indented is JSON as the service writes it.
func indented(raw []byte) []byte {
	var b bytes.Buffer
	if json.Indent(&b, raw, "", "  ") != nil {
		return raw
	}
	return b.Bytes()
}

// newID makes the id of a pointer: whose it is, and a UUID.
func newID(ods string, from []byte) string {
	if from == nil {
		from = make([]byte, 16)
		_, _ = rand.Read(from)
	}
	return ods + "-" + uuid(from)
}
