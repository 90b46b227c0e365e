package api

import (
	"errors"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"tombolo/access"
	"tombolo/fhir"
	"tombolo/gather"
	"tombolo/search"
	"tombolo/search/scope"
)

// query reads a search's parameters from the URL, and from the form of a POST _search. FHIR R4 http.html#search
func query(r *http.Request) (url.Values, error) {
	// What stands in a body of another type would be passed over, and everything be found. FHIR R4 http.html#search
	if r.Method == http.MethodPost && r.ContentLength != 0 && mediaType(r) != "application/x-www-form-urlencoded" {
		return nil, fhir.Errorf(fhir.NotSupported, "send the parameters of a search as application/x-www-form-urlencoded: name=value&name=value").At("Content-Type")
	}
	if err := r.ParseForm(); err != nil {
		if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
			return nil, err
		}
		return nil, fhir.Errorf(fhir.Structure, "the parameters are not well-formed: check the percent signs and the encoding")
	}
	v := r.Form
	v.Del("_format")
	v.Del("_pretty")
	return v, nil
}

// lenient reports whether unknown parameters may be passed over. FHIR R4 search.html#errors
func lenient(r *http.Request) bool { return preferences(r).lenient }

// searchPatient finds people by identifier. National numbers are taken from a POST _search only: a URL is written to logs.
func (s *server) searchPatient(w http.ResponseWriter, r *http.Request, session *access.Session) error {
	v, err := query(r)
	if err != nil {
		return err
	}
	count := v.Get("_count")
	for _, about := range []string{"_count", "_total", "_sort"} { // of the answer, in which there is one person at most: clients send them always
		v.Del(about)
	}
	if n, err := strconv.Atoi(count); count != "" && (err != nil || n < 0) {
		return fhir.Errorf(fhir.ValueError, "takes a whole number, 0 or more").At("_count")
	}
	wanted := v.Get("identifier")
	if wanted == "" || len(v) != 1 || len(v["identifier"]) != 1 {
		return fhir.Errorf(fhir.NotSupported, "people are found by identifier alone: identifier=system|value").At("Patient?")
	}
	id := readIdentifier(wanted)
	if r.URL.Query().Has("identifier") {
		return fhir.Errorf(fhir.BusinessRule, "a person's number must not stand in a URL, which is logged on its way: use POST /fhir/Patient/_search with the parameters in the body").At("identifier")
	}
	self := fhir.Link{Relation: "self", URL: s.base(r) + "/Patient/_search"}
	personID, err := s.o.Gather.Find(r.Context(), session, id)
	if fhir.Is(err, fhir.NotFound) {
		write(w, r, http.StatusOK, fhir.NewBundle("searchset", s.base(r), 0, 0, self).Bytes())
		return nil
	}
	if err != nil {
		return err
	}
	p, err := s.o.Gather.Who(r.Context(), session, personID)
	if fhir.Is(err, fhir.NotFound) { // the application may not have who people are
		write(w, r, http.StatusOK, fhir.NewBundle("searchset", s.base(r), 0, 0, self).Bytes())
		return nil
	}
	if err != nil {
		return err
	}
	b := fhir.NewBundle("searchset", s.base(r), 1, 1024, self)
	if count != "0" { // FHIR R4 search.html#count
		b.Add(p.Resource(), "match")
	}
	write(w, r, http.StatusOK, b.Bytes())
	return nil
}

// search is a search on one type inside one person's record: GET /fhir/Condition?patient={id}&…
func (s *server) search(w http.ResponseWriter, r *http.Request, session *access.Session) error {
	typ := r.PathValue("type")
	session = session.Doing(scope.Search)
	if typ == "Patient" {
		return s.searchPatient(w, r, session)
	}
	if s.keepsTasks(typ, session) {
		return s.searchTasks(w, r, session)
	}
	if !fhir.IsType(typ) {
		return fhir.Errorf(fhir.NotFound, "%.40q is not a resource type", typ)
	}
	v, err := query(r)
	if err != nil {
		return err
	}
	whose := append(v["patient"], v["subject"]...)
	if len(whose) > 1 {
		return fhir.Errorf(fhir.Invalid, "a search is inside one person's record: give patient once").At("patient")
	}
	patient := strings.TrimPrefix(strings.Join(whose, ""), "Patient/")
	if patient == "" {
		return fhir.Errorf(fhir.NotSupported, "a search here is inside one person's record: add patient={id}").At("patient")
	}
	if err := noNumbers(r.URL.Query()); err != nil {
		return err
	}
	asked := maps.Clone(v)
	v.Del("patient")
	v.Del("subject")
	q, warnings, err := search.Parse(typ, v, !lenient(r))
	if err != nil {
		return err
	}
	rec, err := s.o.Gather.Record(r.Context(), session, patient, gather.Ask{Query: typ + "?" + v.Encode()})
	if err != nil {
		return err
	}
	return s.giveJoined(w, r, rec, q, asked, warnings)
}
