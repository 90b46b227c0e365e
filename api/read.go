package api

import (
	"net/http"

	"tombolo/access"
	"tombolo/fhir"
)

// readPatient is the person as the identity index knows them.
func (s *server) readPatient(w http.ResponseWriter, r *http.Request, session *access.Session) error {
	p, err := s.o.Gather.Who(r.Context(), session, r.PathValue("id"))
	if err != nil {
		return err
	}
	write(w, r, http.StatusOK, p.Resource().Raw())
	return nil
}

// read is one resource of a joined record by id. FHIR R4 http.html#read
func (s *server) read(w http.ResponseWriter, r *http.Request, session *access.Session) error {
	typ, id := r.PathValue("type"), r.PathValue("id")
	if typ == "Patient" {
		return s.readPatient(w, r, session)
	}
	if s.keepsTasks(typ, session) {
		return s.readTask(w, r, session)
	}
	if !fhir.IsType(typ) || !fhir.ValidID(id) {
		return fhir.Errorf(fhir.NotFound, "no record was found that you can open")
	}
	if me := session.Practitioner(); session.Client != "" && fhir.MakeRef(typ, id) == me.Ref() && session.Shows(me) { // fhirUser: an application reads who uses it
		write(w, r, http.StatusOK, me.Raw())
		return nil
	}
	res, err := s.o.Gather.Read(r.Context(), session, fhir.MakeRef(typ, id))
	if err != nil {
		return err
	}
	if v := res.Text("meta.versionId"); v != "" {
		w.Header().Set("ETag", `W/"`+v+`"`)
	}
	part, err := viewOf(r)
	if err != nil {
		return err
	}
	write(w, r, http.StatusOK, part.of(res).Raw())
	return nil
}
