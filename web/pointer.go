package web

import (
	"errors"
	"net/http"

	"tombolo/access"
	"tombolo/fhir"
)

// followPointer opens the record to which a pointer of the National Record Locator leads, for somebody who comes with a token of the provider at which they signed in elsewhere. The
// token is in the body, where it is not logged. Whatever is wrong with it or with the pointer, the answer is the one page that leads nowhere.
func (s *Site) followPointer(w http.ResponseWriter, r *http.Request, _ *access.Session) error {
	if err := r.ParseForm(); err != nil || r.URL.RawQuery != "" || len(r.PostForm["token"]) != 1 || len(r.PostForm) != 1 {
		return s.refuseLaunch(w, r, "", errors.New("a pointer is followed with one token, in the body of a POST"))
	}
	pointer := r.PathValue("pointer")
	who, _, err := s.opts.Launches.InContext(r.Context(), s.opts.SignIns, r.PostForm.Get("token"), pointer)
	if err != nil {
		return s.refuseLaunch(w, r, "by pointer", err)
	}
	person, err := s.opts.Pointer(r.Context(), pointer)
	if err != nil {
		return s.refuseLaunch(w, r, "by pointer", errors.New("the pointer is none of this region's"))
	}
	as := s.opts.Access.SessionFor(who)
	as.Device, as.Address = access.From(r)
	if _, err := s.opts.Records.Who(r.Context(), as, person); fhir.Is(err, fhir.NotFound) || fhir.Is(err, fhir.Suppressed) || fhir.Is(err, fhir.Forbidden) {
		return s.refuseLaunch(w, r, "by pointer", errors.New("there is no record that the launched user may open"))
	} else if err != nil {
		return err
	}
	return s.enter(w, r, who, person, "launch by pointer, with a token of "+who.Provider, "/record/"+person)
}
