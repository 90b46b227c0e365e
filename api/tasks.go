package api

import (
	"context"
	"net/http"
	"slices"

	"tombolo/access"
	"tombolo/fhir"
	"tombolo/search"
)

// Tasks is the privacy officer's queue: alerts, and what citizens do not recognise, for systems in which privacy officers keep their work.
type Tasks interface {
	// Tasks gives all of them, once it is recorded that they were asked for; fhir.Forbidden to whoever is no privacy officer.
	Tasks(ctx context.Context, s *access.Session, query string) ([]*fhir.Resource, error)
}

// keepsTasks reports whether the request is for the queue: of those who open no records and see who looked.
func (s *server) keepsTasks(typ string, session *access.Session) bool {
	info, _ := session.Role.Info()
	return typ == "Task" && s.o.Tasks != nil && info.Audit
}

// searchTasks is a search of the queue: GET /fhir/Task?status=requested. FHIR R4 task.html#search
func (s *server) searchTasks(w http.ResponseWriter, r *http.Request, session *access.Session) error {
	v, err := query(r)
	if err != nil {
		return err
	}
	q, warnings, err := search.Parse("Task", v, !lenient(r))
	if err != nil {
		return err
	}
	if len(q.Chains)+len(q.Include)+len(q.RevInclude)+len(q.Sort) > 0 || v.Has("_count") || v.Has("_summary") {
		return fhir.Errorf(fhir.NotSupported, "the queue is given whole: leave chains, includes, _sort, _count and _summary out").At("Task")
	}
	tasks, err := s.o.Tasks.Tasks(r.Context(), session, "Task?"+v.Encode())
	if err != nil {
		return err
	}
	var failed error
	tasks = slices.DeleteFunc(tasks, func(t *fhir.Resource) bool {
		ok, err := search.Matches(q, t)
		if err != nil {
			failed = err
		}
		return !ok
	})
	if failed != nil {
		return failed
	}
	b := fhir.NewBundle("searchset", s.base(r), len(tasks), 1024*len(tasks), fhir.Link{Relation: "self", URL: s.base(r) + "/Task?" + v.Encode()})
	for _, t := range tasks {
		b.Add(t, "match")
	}
	if len(warnings) > 0 {
		b.Add(fhir.Outcome(warnings...), "outcome")
	}
	write(w, r, http.StatusOK, b.Bytes())
	return nil
}

// readTask is one item of the queue.
func (s *server) readTask(w http.ResponseWriter, r *http.Request, session *access.Session) error {
	id := r.PathValue("id")
	tasks, err := s.o.Tasks.Tasks(r.Context(), session, "Task/"+id)
	if err != nil {
		return err
	}
	for _, t := range tasks {
		if t.ID() == id {
			write(w, r, http.StatusOK, t.Raw())
			return nil
		}
	}
	return fhir.Errorf(fhir.NotFound, "there is no such item in the queue")
}
