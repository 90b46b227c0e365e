// Package mental is the simulated mental health trust: a small FHIR R4 UK Core server over what the cast says the trust holds.
//
// It is honest: it answers only what its CapabilityStatement declares, pages its answers, wants a bearer token, and says
// what is wrong by OperationOutcome. It labels restricted entries and knows nothing of the node that asks.
package mental

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"tombolo/fhir"
	"tombolo/sim"
	"tombolo/sim/cast"
)

// Options configure the trust's server.
type Options struct {
	Source string // which source of the cast it is; cast.Mental if empty
	ODS    string // of the organisation; the cast's if empty
	Name   string
	Token  string // the bearer token to want; "" wants none
	People []cast.Person
	Faults *sim.Faults // nil: behaves
	Now    func() time.Time
	Count  int // entries on a page at most; 5 if 0, so that callers must page
}

// Server is the trust's FHIR server, an http.Handler with its base at "/".
type Server struct {
	o       Options
	handler http.Handler
	records []*record
	others  map[string]*fhir.Resource // practitioners and organisations, by reference
}

// A record is one patient's resources.
type record struct {
	patient *fhir.Resource
	content []*fhir.Resource
}

// types are what the server can be searched for, in the order of its CapabilityStatement.
var types = []string{
	"Patient", "AllergyIntolerance", "CarePlan", "CareTeam", "Condition", "Consent", "Encounter", "Flag", "MedicationRequest",
	"Observation", "Organization", "Practitioner", "RiskAssessment",
}

// New makes the server.
func New(o Options) *Server {
	if o.Source == "" {
		o.Source = cast.Mental
	}
	if org := cast.OrganisationOf(o.Source); o.ODS == "" {
		o.ODS, o.Name = org.ODS, org.Name
	}
	if o.Faults == nil {
		o.Faults = &sim.Faults{}
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Count <= 0 {
		o.Count = 5
	}
	s := &Server{o: o, others: map[string]*fhir.Resource{}}
	for _, p := range o.People {
		if p.At(o.Source) {
			s.records = append(s.records, s.render(p))
		}
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /metadata", s.metadata)
	mux.HandleFunc("GET /{type}", s.search)
	mux.HandleFunc("POST /{type}/_search", s.search)
	mux.HandleFunc("GET /{type}/{id}", s.read)
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		refuse(w, http.StatusNotFound, fhir.Errorf(fhir.NotSupported, "there is no such interaction; see /metadata"))
	})
	s.handler = whole(o.Faults.Handler(s.signedIn(mux)))
	return s
}

// whole reads the request before anything else, for net/http notices that a caller has gone only when no body is left to read: a server
// that is slow on purpose would otherwise be slow for nobody.
func whole(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 64<<10))
		if err != nil {
			refuse(w, http.StatusRequestEntityTooLarge, fhir.Errorf(fhir.TooLong, "a search form has 64 KiB at most"))
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		next.ServeHTTP(w, r)
	})
}

// ServeHTTP answers a FHIR request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.handler.ServeHTTP(w, r) }

// signedIn wants the bearer token on everything but the CapabilityStatement.
func (s *Server) signedIn(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		a, b := sha256.Sum256([]byte(got)), sha256.Sum256([]byte(s.o.Token))
		if s.o.Token != "" && r.URL.Path != "/metadata" && (!ok || subtle.ConstantTimeCompare(a[:], b[:]) != 1) {
			w.Header().Set("WWW-Authenticate", "Bearer")
			refuse(w, http.StatusUnauthorized, fhir.Errorf(fhir.Login, "a bearer token is needed"))
			return
		}
		next.ServeHTTP(w, r)
	})
}

func send(w http.ResponseWriter, status int, body []byte) {
	w.Header().Set("Content-Type", "application/fhir+json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(body)
}

func refuse(w http.ResponseWriter, status int, i *fhir.Issue) { send(w, status, fhir.Outcome(i).Raw()) }

func (s *Server) metadata(w http.ResponseWriter, _ *http.Request) {
	var resources []fhir.M
	for _, t := range types {
		params := []fhir.M{{"name": "patient", "type": "reference"}}
		switch t {
		case "Patient":
			params = []fhir.M{{"name": "_id", "type": "token"}, {"name": "identifier", "type": "token"}}
		case "Practitioner", "Organization":
			params = []fhir.M{{"name": "_id", "type": "token"}}
		case "Observation":
			params = append(params, fhir.M{"name": "category", "type": "token"})
		}
		resources = append(resources, fhir.M{"type": t, "interaction": []fhir.M{{"code": "read"}, {"code": "search-type"}}, "searchParam": params})
	}
	send(w, http.StatusOK, fhir.New("CapabilityStatement", "", fhir.M{
		"status": "active", "date": s.o.Now().Format("2006-01-02"), "kind": "instance", "fhirVersion": "4.0.1", "format": []string{"json"},
		"implementation": fhir.M{"description": s.o.Name + " (simulated)"},
		"rest":           []fhir.M{{"mode": "server", "resource": resources}},
	}).Raw())
}

// search answers both forms of a search. FHIR R4 http.html#search
func (s *Server) search(w http.ResponseWriter, r *http.Request) {
	typ := r.PathValue("type")
	if !slices.Contains(types, typ) {
		refuse(w, http.StatusNotFound, fhir.Errorf(fhir.NotSupported, "this server does not hold %.40q", typ))
		return
	}
	if err := r.ParseForm(); err != nil {
		refuse(w, http.StatusBadRequest, fhir.Errorf(fhir.Structure, "the search form cannot be read: send application/x-www-form-urlencoded"))
		return
	}
	found, issue := s.find(typ, r.Form)
	if issue != nil {
		refuse(w, http.StatusBadRequest, issue)
		return
	}
	s.page(w, r, typ, found)
}

// page sends one page. Its next link carries a position and the server's own patient id, never a person's number: Patient searches, which
// do carry one, have all their matches on one page.
func (s *Server) page(w http.ResponseWriter, r *http.Request, typ string, found []*fhir.Resource) {
	count := s.o.Count
	if n, err := strconv.Atoi(r.Form.Get("_count")); err == nil && n > 0 && n < count {
		count = n
	}
	if typ == "Patient" {
		count = max(len(found), 1)
	}
	from, _ := strconv.Atoi(r.Form.Get("_from"))
	from = min(max(from, 0), len(found))
	to := min(from+count, len(found))
	base := "http://" + r.Host
	var links []fhir.Link
	if to < len(found) {
		next := url.Values{"_from": {strconv.Itoa(to)}, "_count": {strconv.Itoa(count)}}
		for _, k := range []string{"patient", "category", "_id"} {
			if v := r.Form.Get(k); v != "" {
				next.Set(k, v)
			}
		}
		links = append(links, fhir.Link{Relation: "next", URL: base + "/" + typ + "?" + next.Encode()})
	}
	b := fhir.NewBundle("searchset", base, len(found), 4096, links...)
	for _, res := range found[from:to] {
		b.Add(res, "match")
	}
	send(w, http.StatusOK, b.Bytes())
}

// find is the resources that match. An unknown parameter is an error, so that nobody takes a wider answer for a narrow one.
func (s *Server) find(typ string, form url.Values) ([]*fhir.Resource, *fhir.Issue) {
	for k := range form {
		if !slices.Contains([]string{"_count", "_from", "_id", "_format", "identifier", "patient", "category"}, k) {
			return nil, fhir.Errorf(fhir.NotSupported, "search parameter %.40q is not offered; see /metadata", k)
		}
	}
	switch {
	case typ == "Patient":
		return s.findPatients(form), nil
	case typ == "Practitioner" || typ == "Organization":
		var out []*fhir.Resource
		for id := range strings.SplitSeq(form.Get("_id"), ",") {
			if r := s.others[typ+"/"+id]; r != nil {
				out = append(out, r)
			}
		}
		return out, nil
	case form.Get("patient") == "":
		return nil, fhir.Errorf(fhir.Required, "a search needs the patient parameter")
	}
	rec := s.byID(strings.TrimPrefix(form.Get("patient"), "Patient/"))
	if rec == nil {
		return nil, nil
	}
	if f, _ := s.o.Faults.Now(); f == sim.FaultWrongPatient {
		rec = s.wrong(rec)
	}
	var out []*fhir.Resource
	for _, r := range rec.content {
		if r.Type() == typ && inCategory(r, form.Get("category")) {
			out = append(out, r)
		}
	}
	return out, nil
}

// inCategory tests a token parameter: "code", "system|code", several with commas. FHIR R4 search.html#token
func inCategory(r *fhir.Resource, wanted string) bool {
	if wanted == "" {
		return true
	}
	for c := range r.Value().All("category.coding") {
		for w := range strings.SplitSeq(wanted, ",") {
			system, code, has := strings.Cut(w, "|")
			if !has && c.Text("code") == w || has && c.Text("code") == code && c.Text("system") == system {
				return true
			}
		}
	}
	return false
}

func (s *Server) findPatients(form url.Values) []*fhir.Resource {
	var out []*fhir.Resource
	for _, rec := range s.records {
		if form.Has("_id") && rec.patient.ID() == form.Get("_id") || form.Has("identifier") && identified(rec.patient, form.Get("identifier")) {
			if f, _ := s.o.Faults.Now(); f == sim.FaultWrongPatient {
				rec = s.wrong(rec)
			}
			out = append(out, rec.patient)
		}
	}
	return out
}

func identified(p *fhir.Resource, token string) bool {
	system, value, ok := strings.Cut(token, "|")
	for _, id := range p.Identifiers() {
		if ok && id.System == system && id.Value == value || !ok && id.Value == token {
			return true
		}
	}
	return false
}

// wrong is somebody else's record.
func (s *Server) wrong(rec *record) *record {
	i := slices.Index(s.records, rec)
	return s.records[(i+1)%len(s.records)]
}

func (s *Server) byID(id string) *record {
	for _, rec := range s.records {
		if rec.patient.ID() == id {
			return rec
		}
	}
	return nil
}

func (s *Server) read(w http.ResponseWriter, r *http.Request) {
	typ, id := r.PathValue("type"), r.PathValue("id")
	if o := s.others[typ+"/"+id]; o != nil {
		send(w, http.StatusOK, o.Raw())
		return
	}
	for _, rec := range s.records {
		if typ == "Patient" && rec.patient.ID() == id {
			send(w, http.StatusOK, rec.patient.Raw())
			return
		}
		for _, c := range rec.content {
			if c.Type() == typ && c.ID() == id {
				send(w, http.StatusOK, c.Raw())
				return
			}
		}
	}
	refuse(w, http.StatusNotFound, fhir.Errorf(fhir.NotFound, "there is no such resource here"))
}
