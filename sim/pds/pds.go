// Package pds is a Personal Demographics Service of the simulated region: it answers the PDS FHIR API in application-restricted access mode from the cast, and turns
// away whatever the real one documents that it turns away, in the same words.
//
// It does not know that there is such a thing as Tombolo; what it must accept and refuse is read from the published specification.
package pds

import (
	"cmp"
	"crypto/rsa"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"

	"tombolo/fhir"
	"tombolo/sim"
	"tombolo/sim/cast"
)

// Options of a Service.
type Options struct {
	People []cast.Person // those with an NHS number are on PDS
	Rate   int           // questions a second before 429; 0 for no limit
	Faults *sim.Faults
	Now    func() time.Time

	// With a Key, tokens are needed: for whoever signs for APIKey with the private key that belongs to it, under KeyID.
	Key           *rsa.PublicKey
	APIKey, KeyID string
}

// A Service is an http.Handler at its service root. Its token endpoint is /oauth2/token.
type Service struct {
	o       Options
	handler http.Handler

	mu         sync.Mutex
	people     map[string]cast.Person // by NHS number
	superseded map[string]string      // old number -> new
	invalid    map[string]bool
	exits      map[string]string // number -> removal from registration
	asked      []time.Time
	requests   map[string]int // X-Request-ID -> how often
	tokens     map[string]time.Time
	answered   int
	searches   []string // the names of the parameters of each search
}

// New makes a service.
func New(o Options) *Service {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Faults == nil {
		o.Faults = &sim.Faults{}
	}
	s := &Service{o: o, people: map[string]cast.Person{}, superseded: map[string]string{}, invalid: map[string]bool{}, exits: map[string]string{}, requests: map[string]int{}, tokens: map[string]time.Time{}}
	for _, p := range o.People {
		if p.NHS != "" {
			s.people[p.NHS] = p
			for _, old := range p.OldNHS {
				s.superseded[old] = p.NHS
			}
		}
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /Patient/{id}", s.guarded(s.read))
	mux.HandleFunc("GET /Patient", s.guarded(s.search))
	mux.HandleFunc("GET /Patient/{$}", s.guarded(func(w http.ResponseWriter, _ *http.Request) { s.refuse(w, 400, "UNSUPPORTED_SERVICE", "") }))
	mux.HandleFunc("POST /oauth2/token", s.token)
	s.handler = o.Faults.Handler(mux)
	return s
}

// ServeHTTP implements http.Handler.
func (s *Service) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.handler.ServeHTTP(w, r) }

// Serve starts the service on a socket of its own.
func (s *Service) Serve() *httptest.Server { return httptest.NewServer(s) }

// Put registers somebody, or changes what is registered.
func (s *Service) Put(p cast.Person) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.people[p.NHS] = p
	delete(s.invalid, p.NHS)
}

// Supersede makes a number give way to another, which is registered.
func (s *Service) Supersede(old, by string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.superseded[old] = by
	delete(s.people, old)
}

// Invalidate makes a number nobody's.
func (s *Service) Invalidate(number string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.invalid[number] = true
}

// Answered is how many questions were answered, whatever the answer.
func (s *Service) Answered() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.answered
}

// Searches are the names of the parameters of each search there was, "birthdate family given".
func (s *Service) Searches() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.searches)
}

// Repeats is how often the most repeated question was sent under one X-Request-ID.
func (s *Service) Repeats() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	most := 0
	for _, n := range s.requests {
		most = max(most, n)
	}
	return most
}

var uuid = regexp.MustCompile(`^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$`)

// guarded checks what every question is held to.
func (s *Service) guarded(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		id := r.Header.Get("X-Request-ID")
		s.mu.Lock()
		s.answered++
		s.requests[id]++
		over := s.over()
		s.mu.Unlock()
		w.Header().Set("X-Request-ID", id)
		if c := r.Header.Get("X-Correlation-ID"); c != "" {
			w.Header().Set("X-Correlation-ID", c)
		}
		switch {
		case over:
			w.Header().Set("Retry-After", "1")
			s.refuse(w, 429, "TOO_MANY_REQUESTS", "")
		case !s.known(r):
			s.refuse(w, 401, "ACCESS_DENIED", "Access Token is invalid or expired")
		case id == "":
			s.refuse(w, 400, "MISSING_VALUE", "Missing value - 'X-Request-ID'")
		case !uuid.MatchString(id):
			s.refuse(w, 400, "INVALID_VALUE", "Invalid value - '"+id+"' in header 'X-Request-ID'")
		default:
			next(w, r)
		}
	}
}

// over counts a question, and says whether it is one too many in this second. The caller holds the lock.
func (s *Service) over() bool {
	if s.o.Rate == 0 {
		return false
	}
	now := time.Now()
	s.asked = append(slices.DeleteFunc(s.asked, func(t time.Time) bool { return now.Sub(t) >= time.Second }), now)
	return len(s.asked) > s.o.Rate
}

func (s *Service) read(w http.ResponseWriter, r *http.Request) {
	n, err := fhir.ParseNHSNumber(r.PathValue("id"))
	if err != nil {
		s.refuse(w, 400, "INVALID_RESOURCE_ID", "")
		return
	}
	s.mu.Lock()
	number := n.Digits()
	if by, ok := s.superseded[number]; ok {
		number = by
	}
	p, ok := s.people[number]
	invalid := s.invalid[number]
	exit := s.exits[number]
	if fault, _ := s.o.Faults.Now(); fault == sim.FaultWrongPatient {
		for _, other := range s.people {
			if other.NHS != number {
				p = other
				break
			}
		}
	}
	s.mu.Unlock()
	switch {
	case invalid:
		s.refuse(w, 404, "INVALIDATED_RESOURCE", "")
	case !ok:
		s.refuse(w, 404, "RESOURCE_NOT_FOUND", "")
	default:
		w.Header().Set("ETag", `W/"2"`)
		reply(w, 200, patient(p, exit, true))
	}
}

// displays are what PDS says of its codes, and their FHIR issue type. Spine-ErrorOrWarningCode
var displays = map[string][3]string{ // severity, code, display
	"INVALID_RESOURCE_ID":    {"error", "value", "Resource Id is invalid"},
	"UNSUPPORTED_SERVICE":    {"error", "processing", "Unsupported Service"},
	"MISSING_VALUE":          {"error", "required", "Required value is missing"},
	"INVALID_VALUE":          {"error", "value", "Provided value is invalid"},
	"INVALID_SEARCH_DATA":    {"error", "processing", "Search data is invalid"},
	"ADDITIONAL_PROPERTIES":  {"error", "value", "Additional properties are not allowed"},
	"ACCESS_DENIED":          {"error", "forbidden", "Access Denied - Unauthorised"},
	"RESOURCE_NOT_FOUND":     {"information", "not-found", "Resource not found"},
	"INVALIDATED_RESOURCE":   {"error", "processing", "Resource that has been marked as invalid was requested - invalid resources cannot be retrieved"},
	"UNABLE_TO_CALL_SERVICE": {"error", "transient", "The downstream domain processing has not completed within the configured timeout period. Using the same 'X-Request-ID' header, retry your request after the time specified by the 'Retry-After' response header."},
	"TOO_MANY_REQUESTS":      {"error", "throttled", "You have exceeded your application's rate limit"},
	"TOO_MANY_MATCHES":       {"information", "multiple-matches", "Too Many Matches"},
}

// Codes are the documented errors.
func Codes() []string {
	var out []string
	for c := range displays {
		out = append(out, c)
	}
	slices.Sort(out)
	return out
}

// Outcome is the body of a documented error.
func Outcome(code, diagnostics string) []byte {
	d := displays[code]
	issue := fhir.M{"severity": d[0], "code": d[1], "details": fhir.M{"coding": []fhir.M{{"system": "https://fhir.nhs.uk/R4/CodeSystem/Spine-ErrorOrWarningCode", "version": "1", "code": code, "display": d[2]}}}}
	if diagnostics != "" {
		issue["diagnostics"] = diagnostics
	}
	return fhir.JSON(fhir.M{"resourceType": "OperationOutcome", "issue": []fhir.M{issue}})
}

func (s *Service) refuse(w http.ResponseWriter, status int, code, diagnostics string) {
	reply(w, status, Outcome(code, diagnostics))
}

func reply(w http.ResponseWriter, status int, body []byte) {
	w.Header().Set("Content-Type", "application/fhir+json")
	w.WriteHeader(status)
	_, _ = w.Write(body)
}

// token gives a token for a signed request. RFC 7523
func (s *Service) token(w http.ResponseWriter, r *http.Request) {
	refuse := func(why string) {
		reply(w, 400, fhir.JSON(map[string]string{"error": "invalid_request", "error_description": why}))
	}
	if r.PostFormValue("grant_type") != "client_credentials" || r.PostFormValue("client_assertion_type") != "urn:ietf:params:oauth:client-assertion-type:jwt-bearer" {
		refuse("grant_type or client_assertion_type is not what is taken here")
		return
	}
	jws, err := jose.ParseSignedCompact(r.PostFormValue("client_assertion"), []jose.SignatureAlgorithm{jose.RS512})
	if err != nil || jws.Signatures[0].Header.KeyID != s.o.KeyID {
		refuse("Malformed JWT in client_assertion, or unknown kid")
		return
	}
	payload, err := jws.Verify(s.o.Key)
	var c struct {
		Iss, Sub, Aud, Jti string
		Exp                int64
	}
	now := s.o.Now()
	if err != nil || json.Unmarshal(payload, &c) != nil || c.Iss != s.o.APIKey || c.Sub != s.o.APIKey || !uuid.MatchString(c.Jti) || !strings.HasSuffix(c.Aud, "/oauth2/token") ||
		time.Unix(c.Exp, 0).Before(now) || time.Unix(c.Exp, 0).After(now.Add(5*time.Minute)) {
		refuse("the claims in client_assertion are not right")
		return
	}
	s.mu.Lock()
	token := fmt.Sprintf("token-%d", len(s.tokens)+1)
	s.tokens[token] = now.Add(599 * time.Second)
	s.mu.Unlock()
	reply(w, 200, fhir.JSON(map[string]string{"access_token": token, "expires_in": "599", "token_type": "Bearer"}))
}

// known reports whether a request bears a token that is good.
func (s *Service) known(r *http.Request) bool {
	if s.o.Key == nil {
		return true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	until, ok := s.tokens[strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")]
	return ok && s.o.Now().Before(until)
}

// Revoke makes all tokens void.
func (s *Service) Revoke() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.tokens)
	s.tokens["revoked"] = time.Time{}
}

// patient is somebody as PDS gives them; whole with what a search leaves out.
func patient(p cast.Person, exit string, whole bool) []byte {
	security := fhir.Coding{System: fhir.SystemConfidentiality, Code: "U", Display: "unrestricted"}
	f := fhir.M{"identifier": []fhir.M{{"system": fhir.SystemNHSNumber, "value": p.NHS, "extension": []fhir.M{{
		"url": "https://fhir.hl7.org.uk/StructureDefinition/Extension-UKCore-NHSNumberVerificationStatus",
		"valueCodeableConcept": fhir.M{"coding": []fhir.Coding{{System: "https://fhir.hl7.org.uk/CodeSystem/UKCore-NHSNumberVerificationStatus", Version: "1.0.0", Code: "01",
			Display: "Number present and verified"}}}}}}},
		"name":   []fhir.M{{"id": "N1", "use": "usual", "family": p.Family, "given": p.Given, "prefix": []string{cmp.Or(p.Prefix, "Mx")}, "period": fhir.M{"start": "2020-01-01"}}},
		"gender": cmp.Or(p.Sex, "unknown"), "birthDate": p.Born}
	if p.Died != "" {
		f["deceasedDateTime"] = p.Died + "T00:00:00+00:00"
	}
	if p.Restricted {
		security = fhir.Coding{System: fhir.SystemConfidentiality, Code: "R", Display: "restricted"}
	} else {
		if p.Postcode != "" {
			f["address"] = []fhir.M{{"id": "A1", "use": "home", "line": append(slices.Clone(p.Address), p.City), "postalCode": p.Postcode, "period": fhir.M{"start": "2020-01-01"}}}
		}
		if p.Phone != "" {
			f["telecom"] = []fhir.M{{"id": "T1", "system": "phone", "use": "home", "value": p.Phone, "period": fhir.M{"start": "2020-01-01"}}}
		}
		if p.Practice != "" {
			f["generalPractitioner"] = []fhir.M{{"id": "G1", "type": "Organization", "identifier": fhir.M{"system": fhir.SystemODS, "value": p.Practice, "period": fhir.M{"start": "2020-01-01"}}}}
		}
	}
	if whole && exit != "" {
		f["extension"] = []fhir.M{{"url": "https://fhir.nhs.uk/StructureDefinition/Extension-PDS-RemovalFromRegistration", "extension": []fhir.M{{"url": "removalFromRegistrationCode",
			"valueCodeableConcept": fhir.M{"coding": []fhir.Coding{{System: "https://fhir.nhs.uk/CodeSystem/PDS-RemovalReasonExitCode", Code: exit}}}}}}}
	}
	f["meta"] = fhir.M{"versionId": "2", "security": []fhir.Coding{security}}
	return fhir.New("Patient", p.NHS, f).Raw()
}
