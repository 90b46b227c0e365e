// Package api is the FHIR R4 face: each interaction and operation in a file of its own, over the two doors and nothing below them.
//
// Every handler holds a Session. A person's session reads one person's joined record (gather); a system's session reads and writes what that
// system itself holds here, as with any FHIR server (ADR 10). Every failure is an OperationOutcome with the status its issue type stands
// for. What a caller may not see is answered as if it were not there: same status, same headers, same body.
package api

import (
	"cmp"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"

	"tombolo/access"
	"tombolo/connector"
	"tombolo/fhir"
	"tombolo/fhir/profile"
	"tombolo/gather"
	"tombolo/intake"
	"tombolo/search/scope"
)

// The largest request bodies read, in bytes.
const (
	MaxBody     = 1 << 20  // of questions
	MaxResource = 16 << 20 // of one resource, which is in memory as a whole several times while it is at work
	maxXML      = 8 << 20  // of XML, which is so more often
	MaxWrite    = 24 << 20 // of a batch or transaction, whose entries are read one by one
)

// A Door is where writes go in. intake.Intake is one.
type Door interface {
	Submit(ctx context.Context, sub intake.Submission, fn func(*intake.Writing) ([]byte, error)) (connector.Receipt, error)
}

// Options of the face.
type Options struct {
	Gather *gather.Gatherer
	Tasks  Tasks // nil: there are none
	// Directory is the care services directory; nil: there is none.
	Directory Directory
	Intake    Door
	Bulk      Bulk // nil: $export and $import are not offered
	// Parameters are the search parameters that systems define for their own records; nil: R4's alone.
	Parameters Parameters
	// Subscriptions are those by which systems are told of changes; nil: none.
	Subscriptions Subscriptions
	Access        *access.Manager
	// Definitions are the profiles that $validate knows; nil: R4 only.
	Definitions *profile.Definitions
	// Base is the public base URL, "https://record.example.nhs.uk/fhir". Empty: taken from each request.
	Base    string
	Name    string // of the region
	Version string // of the program
	Logger  *slog.Logger
}

type server struct {
	o          Options
	mux        *http.ServeMux
	operations string // their names, each between blanks
}

// New makes the handler for everything below /fhir, and for IHE's identity profiles below /identity.
func New(o Options) http.Handler {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	s := &server{o: o, mux: http.NewServeMux()}
	for _, r := range slices.Concat(s.routes(), s.identityRoutes(), s.directoryRoutes()) {
		s.mux.HandleFunc(r.pattern, s.answer(s.serve(r)))
		if i := strings.LastIndex(r.pattern, "/$"); i >= 0 {
			s.operations += " " + r.pattern[i+1:] + " "
		}
	}
	s.mux.HandleFunc("/", s.answer(s.nothing))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, limitOf(r))
		defer gate(r, connector.Large).done()
		s.mux.ServeHTTP(w, r)
	})
}

// A route is one interaction or operation. The CapabilityStatement is made of this table, so it cannot claim what there is not.
type route struct {
	pattern     string
	interaction string  // FHIR code of the interaction, or "$operation"
	typ         string  // "Patient", "*" for every type, "" for the system
	open        bool    // needs no sign-in
	lines       bool    // answers in NDJSON too, whatever Accept says
	person      handler // for who reads one person's joined record; nil: not theirs to do
	system      handler // for a system, on its own record; nil: not theirs to do
}

type handler func(w http.ResponseWriter, r *http.Request, s *access.Session) error

func (s *server) routes() []route {
	return append(s.bulkRoutes(), []route{
		{pattern: "GET /fhir/metadata", interaction: "capabilities", open: true, person: s.metadata},
		{pattern: "GET /fhir/Patient/{id}/$everything", interaction: "$everything", typ: "Patient", person: s.everything, system: s.ownEverything},
		{pattern: "GET /fhir/Patient/{id}/$summary", interaction: "$summary", typ: "Patient", person: s.summary, system: s.ownSummary},
		{pattern: "POST /fhir/Patient/{id}/$everything", person: asQuery(s.everything), system: asQuery(s.ownEverything)},
		{pattern: "POST /fhir/Patient/{id}/$summary", person: asQuery(s.summary), system: asQuery(s.ownSummary)},
		{pattern: "POST /fhir/{type}/{id}/$meta", system: asQuery(s.meta)},
		{pattern: "POST /fhir/Observation/$lastn", system: asQuery(s.lastN)},
		{pattern: "POST /fhir/Patient/$summary", person: s.summaryByIdentifier},
		{pattern: "POST /fhir/Patient/$match", interaction: "$match", typ: "Patient", person: s.match, system: s.match},
		{pattern: "GET /fhir/Patient/$match", person: methodNotAllowed, system: methodNotAllowed},
		{pattern: "GET /fhir/Patient/$ihe-pix", interaction: "$ihe-pix", typ: "Patient", person: s.pixm, system: s.pixm},
		{pattern: "POST /fhir/Patient/$ihe-pix", person: s.pixm, system: s.pixm},
		{pattern: "GET /fhir/$gather", person: methodNotAllowed, system: methodNotAllowed},
		{pattern: "POST /fhir/$gather", interaction: "$gather", person: s.gather},
		{pattern: "POST /fhir/$convert", interaction: "$convert", person: s.convert, system: s.convert},
		{pattern: "GET /fhir/{type}/{id}/$meta", interaction: "$meta", typ: "*", system: s.meta},
		{pattern: "POST /fhir/{type}/{id}/$meta-add", interaction: "$meta-add", typ: "*", system: s.metaAdd},
		{pattern: "POST /fhir/{type}/{id}/$meta-delete", interaction: "$meta-delete", typ: "*", system: s.metaDelete},
		{pattern: "GET /fhir/SearchParameter/{id}/$status", interaction: "$status", typ: "SearchParameter", system: s.parameterStatus},
		{pattern: "GET /fhir/Subscription/{id}/$status", interaction: "$status", typ: "Subscription", system: s.subscriptionStatus},
		{pattern: "GET /fhir/Subscription/{id}/$events", interaction: "$events", typ: "Subscription", system: s.subscriptionEvents},
		{pattern: "GET /fhir/Observation/$lastn", interaction: "$lastn", typ: "Observation", system: s.lastN},
		{pattern: "GET /fhir/{type}/{id}/{inside}", person: s.nothing, system: s.compartment},
		{pattern: "POST /fhir/{type}/$validate", interaction: "$validate", typ: "*", person: s.validate, system: s.validate},
		{pattern: "GET /fhir/{type}/{id}/$validate", system: s.validate},
		{pattern: "POST /fhir/{type}/{id}/$validate", system: s.validate},
		{pattern: "GET /fhir/{type}/{id}", interaction: "read", typ: "*", person: s.read, system: s.ownRead},
		{pattern: "GET /fhir/{type}/{id}/_history/{version}", interaction: "vread", typ: "*", system: s.ownVersion},
		{pattern: "GET /fhir/{type}/{id}/_history", interaction: "history-instance", typ: "*", system: s.ownHistory},
		{pattern: "GET /fhir/{type}/_history", interaction: "history-type", typ: "*", system: s.ownHistory},
		{pattern: "GET /fhir/_history", interaction: "history-system", system: s.ownHistory},
		{pattern: "POST /fhir/{type}", interaction: "create", typ: "*", system: s.create},
		{pattern: "PUT /fhir/{type}/{id}", interaction: "update", typ: "*", system: s.update},
		{pattern: "PUT /fhir/{type}", system: s.update},
		{pattern: "PATCH /fhir/{type}/{id}", interaction: "patch", typ: "*", system: s.patch},
		{pattern: "PATCH /fhir/{type}", system: s.patch},
		{pattern: "DELETE /fhir/{type}/{id}", interaction: "delete", typ: "*", system: s.delete},
		{pattern: "DELETE /fhir/{type}", system: s.delete},
		{pattern: "GET /fhir/{type}", interaction: "search-type", typ: "*", person: s.search, system: s.ownSearch},
		{pattern: "POST /fhir/{type}/_search", person: s.search, system: s.ownSearch},
		{pattern: "GET /fhir/{type}/{$}", person: s.search, system: s.ownSearch},
		{pattern: "GET /fhir", interaction: "search-system", system: s.systemSearch},
		{pattern: "GET /fhir/{$}", system: s.systemSearch},
		{pattern: "POST /fhir/_search", system: s.systemSearch},
		{pattern: "POST /fhir", interaction: "transaction", system: s.bundle},
		{pattern: "POST /fhir/{$}", interaction: "batch", system: s.bundle},
	}...)
}

// serve finds who asks, and gives the route's handler for them.
func (s *server) serve(rt route) handler {
	return func(w http.ResponseWriter, r *http.Request, _ *access.Session) error {
		if err := acceptable(r); err != nil && !rt.lines {
			return err
		}
		if rt.open {
			return rt.person(w, r, nil)
		}
		session, err := s.o.Access.Session(r)
		if err != nil {
			return err
		}
		h := rt.person
		if session.System != "" {
			h = rt.system
		}
		switch {
		case h != nil:
			return h(w, r, session)
		case session.System != "":
			return fhir.Errorf(fhir.Forbidden, "a system has its own record here, and opens nobody's joined record: this is for people who sign in")
		case r.Method == http.MethodGet || r.Method == http.MethodHead:
			return fhir.Errorf(fhir.Forbidden, "this is for a system, on what it holds here itself: a person's joined record has no versions of its own")
		}
		return notOffered
	}
}

func methodNotAllowed(http.ResponseWriter, *http.Request, *access.Session) error { return notOffered }

// answer runs a handler and turns its error into an OperationOutcome.
func (s *server) answer(h handler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		head := w.Header()
		head.Set("Cache-Control", "no-store")
		head.Set("X-Content-Type-Options", "nosniff")
		if id := r.Header.Get("X-Request-Id"); id != "" && len(id) <= 64 {
			head.Set("X-Request-Id", id)
		}
		if err := h(w, r, nil); err != nil {
			s.fail(w, r, err)
		}
	}
}

var statuses = map[fhir.IssueType]int{
	fhir.Login: http.StatusUnauthorized, fhir.Forbidden: http.StatusForbidden, fhir.NotFound: http.StatusNotFound, fhir.Suppressed: http.StatusNotFound,
	fhir.Deleted: http.StatusGone, fhir.Conflict: http.StatusConflict, fhir.Duplicate: http.StatusConflict, fhir.TooLong: http.StatusRequestEntityTooLarge,
	fhir.Throttled: http.StatusTooManyRequests, fhir.Transient: http.StatusServiceUnavailable, fhir.NoStore: http.StatusServiceUnavailable,
	fhir.Timeout: http.StatusGatewayTimeout, fhir.BusinessRule: http.StatusUnprocessableEntity, fhir.Processing: http.StatusUnprocessableEntity,
	fhir.Exception: http.StatusInternalServerError, fhir.MultipleMatch: http.StatusPreconditionFailed,
}

// conditions are the headers whose failure is 412. FHIR R4 http.html#concurrency
var conditions = map[string]bool{"If-Match": true, "If-None-Match": true}

func statusOf(i *fhir.Issue) int {
	switch status, ok := statuses[i.Type]; {
	case i == notOffered:
		return http.StatusMethodNotAllowed
	case i.Expression == "Content-Type":
		return http.StatusUnsupportedMediaType
	case i == pixUnknownTarget:
		return http.StatusForbidden
	case i == notAcceptable:
		return http.StatusNotAcceptable
	case conditions[i.Expression[strings.LastIndexByte(i.Expression, ' ')+1:]]:
		return http.StatusPreconditionFailed
	case ok:
		return status
	}
	return http.StatusBadRequest
}

// issueOf is what is told of an error. What is no issue is a fault of this program: it is logged, and not told.
func (s *server) issueOf(err error) *fhir.Issue {
	if i := fhir.IssueOf(err); i != nil {
		return i
	}
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return fhir.Errorf(fhir.TooLong, "the request body is larger than %d bytes: send it in parts", tooLarge.Limit)
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return fhir.Errorf(fhir.Structure, "the request body ended too early")
	}
	s.o.Logger.Error("request failed", "error", err)
	return fhir.Errorf(fhir.Exception, "a fault of this server: it has been logged")
}

func (s *server) fail(w http.ResponseWriter, r *http.Request, err error) {
	i := s.issueOf(err)
	status := statusOf(i)
	wrong, isWrong := err.(wrongMethod)
	if isWrong {
		status = http.StatusMethodNotAllowed
	}
	if _, nowhere := err.(noAddress); nowhere {
		status = http.StatusNotFound
	}
	switch status {
	case http.StatusMethodNotAllowed:
		w.Header().Set("Allow", cmp.Or(wrong.allow, "GET, HEAD, POST"))
	case http.StatusUnauthorized:
		w.Header().Set("WWW-Authenticate", `Bearer realm="tombolo"`)
	case http.StatusForbidden:
		if missing := (scope.Missing{}); errors.As(err, &missing) { // RFC 6750 §3.1
			w.Header().Set("WWW-Authenticate", `Bearer realm="tombolo", error="insufficient_scope", scope="`+missing.Scope()+`"`)
		}
	case http.StatusServiceUnavailable:
		w.Header().Set("Retry-After", "5")
	case http.StatusTooManyRequests:
		w.Header().Set("Retry-After", i.RetryAfter())
	}
	issues := []*fhir.Issue{i}
	if all, ok := err.(allIssues); ok {
		issues = all
	}
	write(w, r, status, fhir.Outcome(issues...).Raw())
}

// allIssues is an error that is more than one.
type allIssues []*fhir.Issue

func (a allIssues) Error() string { return a[0].Error() }

func (a allIssues) Unwrap() error { return a[0] }

var notOffered = fhir.Errorf(fhir.NotSupported, "people's records are read through this API: only GET, HEAD and POST are offered to you here")

// A wrongMethod is a request with a method that is not one of its address. RFC 9110 §15.5.6
type wrongMethod struct {
	*fhir.Issue
	allow string
}

func (w wrongMethod) Unwrap() error { return w.Issue }

// A noAddress is a 404 that says nothing of anybody: nothing lies at the address. By its code whoever asks can tell it from somebody who is not known here.
type noAddress struct{ *fhir.Issue }

func (n noAddress) Unwrap() error { return n.Issue }

func (s *server) nothing(_ http.ResponseWriter, r *http.Request, _ *access.Session) error {
	var allow []string
	for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete} {
		other := r.Clone(r.Context())
		other.Method = method
		if _, pattern := s.mux.Handler(other); method != r.Method && pattern != "" && pattern != "/" {
			allow = append(allow, method)
		}
	}
	last := r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]
	switch {
	case strings.HasPrefix(last, "$") && !strings.Contains(s.operations, " "+last+" "):
		return noOperation(last, strings.TrimPrefix(r.URL.Path, "/fhir/"))
	case r.Pattern == "/" && len(allow) > 0: // otherwise the method is one of the address, and has nothing there for who asks
		list := strings.Join(allow, ", ")
		return wrongMethod{fhir.Errorf(fhir.NotSupported, "%.20s is not offered at this address, which takes %s: a resource is created by POST to its type, and changed by PUT or PATCH to its type and id", r.Method, list), list}
	}
	return noAddress{fhir.Errorf(fhir.NotSupported, "there is nothing at this address: see /fhir/metadata for what is offered")}
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
