// Package api is the FHIR R4 face: each interaction and operation in a file of its own, over the gatherer and nothing below it.
//
// Every handler holds a Session; every failure is an OperationOutcome with the status its issue type stands for. What a caller may
// not see is answered as if it were not there: same status, same headers, same body.
package api

import (
	"errors"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"strings"

	"tombolo/access"
	"tombolo/fhir"
	"tombolo/gather"
)

// MaxBody is the largest request body read, in bytes.
const MaxBody = 1 << 20

// Options of the face.
type Options struct {
	Gather *gather.Gatherer
	Access *access.Manager
	// Base is the public base URL, "https://record.example.nhs.uk/fhir". Empty: taken from each request.
	Base    string
	Name    string // of the region
	Version string // of the program
	Logger  *slog.Logger
}

type server struct{ o Options }

// New makes the handler for everything below /fhir.
func New(o Options) http.Handler {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	s := &server{o}
	mux := http.NewServeMux()
	for _, r := range s.routes() {
		h := r.handle
		if !r.open {
			h = s.signedIn(h)
		}
		mux.HandleFunc(r.pattern, s.answer(h))
	}
	mux.HandleFunc("/", s.answer(s.nothing))
	return http.MaxBytesHandler(mux, MaxBody)
}

// A route is one interaction or operation. The CapabilityStatement is made of this table, so it cannot claim what there is not.
type route struct {
	pattern     string
	interaction string // FHIR code of the interaction, or "$operation"
	typ         string // "Patient", "*" for every type of the data set, "" for the system
	open        bool   // needs no sign-in
	handle      handler
}

type handler func(w http.ResponseWriter, r *http.Request, s *access.Session) error

func (s *server) routes() []route {
	return []route{
		{pattern: "GET /fhir/metadata", interaction: "capabilities", open: true, handle: s.metadata},
		{pattern: "GET /fhir/Patient/{id}/$everything", interaction: "$everything", typ: "Patient", handle: s.everything},
		{pattern: "GET /fhir/$gather", handle: func(http.ResponseWriter, *http.Request, *access.Session) error { return notOffered }},
		{pattern: "POST /fhir/$gather", interaction: "$gather", handle: s.gather},
		{pattern: "GET /fhir/Patient/{id}", interaction: "read", typ: "Patient", handle: s.readPatient},
		{pattern: "GET /fhir/Patient", interaction: "search-type", typ: "Patient", handle: s.searchPatient},
		{pattern: "POST /fhir/Patient/_search", handle: s.searchPatient},
		{pattern: "GET /fhir/{type}/{id}", interaction: "read", typ: "*", handle: s.read},
		{pattern: "GET /fhir/{type}", interaction: "search-type", typ: "*", handle: s.search},
		{pattern: "POST /fhir/{type}/_search", handle: s.search},
	}
}

func (s *server) signedIn(next handler) handler {
	return func(w http.ResponseWriter, r *http.Request, _ *access.Session) error {
		session, err := s.o.Access.Session(r)
		if err != nil {
			return err
		}
		return next(w, r, session)
	}
}

// answer runs a handler and turns its error into an OperationOutcome.
func (s *server) answer(h handler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		head := w.Header()
		head.Set("Cache-Control", "no-store")
		head.Set("X-Content-Type-Options", "nosniff")
		if id := r.Header.Get("X-Request-Id"); id != "" && len(id) <= 64 {
			head.Set("X-Request-Id", id)
		}
		err := acceptable(r)
		if err == nil {
			err = h(w, r, nil)
		}
		if err != nil {
			s.fail(w, err)
		}
	}
}

// acceptable refuses a request for a format that is not offered. FHIR R4 http.html#mime-type
func acceptable(r *http.Request) error {
	want := r.Header.Get("Accept")
	if f := r.URL.Query().Get("_format"); f != "" {
		want = strings.ReplaceAll(f, " ", "+")
	}
	if want == "" {
		return nil
	}
	for part := range strings.SplitSeq(want, ",") {
		switch t, _, _ := mime.ParseMediaType(part); t {
		case "*/*", "application/*", "application/fhir+json", "application/json", "json", "text/json", "text/html":
			return nil
		}
	}
	return notAcceptable
}

var notAcceptable = fhir.Errorf(fhir.NotSupported, "only JSON is offered: ask for application/fhir+json")

var statuses = map[fhir.IssueType]int{
	fhir.Login: http.StatusUnauthorized, fhir.Forbidden: http.StatusForbidden, fhir.NotFound: http.StatusNotFound, fhir.Suppressed: http.StatusNotFound,
	fhir.Deleted: http.StatusGone, fhir.Conflict: http.StatusConflict, fhir.Duplicate: http.StatusConflict, fhir.TooLong: http.StatusRequestEntityTooLarge,
	fhir.Throttled: http.StatusTooManyRequests, fhir.Transient: http.StatusServiceUnavailable, fhir.NoStore: http.StatusServiceUnavailable,
	fhir.Timeout: http.StatusGatewayTimeout, fhir.BusinessRule: http.StatusUnprocessableEntity, fhir.Processing: http.StatusUnprocessableEntity,
	fhir.Exception: http.StatusInternalServerError,
}

func (s *server) fail(w http.ResponseWriter, err error) {
	i := fhir.IssueOf(err)
	if i == nil {
		var tooLarge *http.MaxBytesError
		if errors.As(err, &tooLarge) {
			i = fhir.Errorf(fhir.TooLong, "the request body is larger than %d bytes", MaxBody)
		} else {
			s.o.Logger.Error("request failed", "error", err)
			i = fhir.Errorf(fhir.Exception, "a fault of this server: it has been logged")
		}
	}
	status, ok := statuses[i.Type]
	switch {
	case err == error(notOffered):
		status = http.StatusMethodNotAllowed
		w.Header().Set("Allow", "GET, HEAD, POST")
	case i.Expression == "Content-Type":
		status = http.StatusUnsupportedMediaType
	case err == error(notAcceptable):
		status = http.StatusNotAcceptable
	case !ok:
		status = http.StatusBadRequest
	}
	switch status {
	case http.StatusUnauthorized:
		w.Header().Set("WWW-Authenticate", `Bearer realm="tombolo"`)
	case http.StatusServiceUnavailable, http.StatusTooManyRequests:
		w.Header().Set("Retry-After", "5")
	}
	write(w, status, fhir.Outcome(i).Raw())
}

func write(w http.ResponseWriter, status int, body []byte) {
	w.Header().Set("Content-Type", "application/fhir+json;charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(body)
}

var notOffered = fhir.Errorf(fhir.NotSupported, "this server is read through its API: only GET, HEAD and POST are offered")

func (s *server) nothing(_ http.ResponseWriter, r *http.Request, _ *access.Session) error {
	if r.Method != http.MethodGet && r.Method != http.MethodHead && r.Method != http.MethodPost {
		return notOffered
	}
	return fhir.Errorf(fhir.NotFound, "there is nothing at this address: see /fhir/metadata for what is offered")
}

func (s *server) base(r *http.Request) string {
	if s.o.Base != "" {
		return s.o.Base
	}
	scheme := "http"
	if r.TLS != nil {
		scheme = "https"
	}
	return scheme + "://" + r.Host + "/fhir"
}

// parameters reads a FHIR Parameters resource from the body, strictly. FHIR R4 parameters.html
func parameters(r *http.Request) (fhir.Value, error) {
	t, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if t != "application/fhir+json" && t != "application/json" {
		return fhir.Value{}, fhir.Errorf(fhir.NotSupported, "send a Parameters resource as application/fhir+json").At("Content-Type")
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return fhir.Value{}, err
	}
	res, err := fhir.Parse(body)
	if err != nil {
		return fhir.Value{}, err
	}
	if res.Type() != "Parameters" {
		return fhir.Value{}, fhir.Errorf(fhir.Structure, "send a Parameters resource, not a %s", res.Type()).At("resourceType")
	}
	return res.Value(), nil
}
