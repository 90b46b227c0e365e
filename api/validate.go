package api

import (
	"errors"
	"net/http"
	"strings"

	"tombolo/access"
	"tombolo/fhir"
	"tombolo/fhir/profile"
	"tombolo/intake"
)

// validate is [type]/$validate and [type]/[id]/$validate: what is wrong with a resource, all of it at once, by R4, its invariants and the profiles that are
// asked for or that it claims; nothing is kept. FHIR R4 resource-operation-validate.html
func (s *server) validate(w http.ResponseWriter, r *http.Request, session *access.Session) error {
	typ := r.PathValue("type")
	if !fhir.IsType(typ) {
		return unknownType(typ)
	}
	q := validation{profiles: r.URL.Query()["profile"], mode: r.URL.Query().Get("mode")}
	if r.Method == http.MethodPost {
		if err := q.body(r, typ); err != nil {
			return err
		}
	}
	switch q.mode {
	case "", "create", "update", "profile":
	case "delete":
		return s.rehearseDelete(w, r, session)
	default:
		return fhir.Errorf(fhir.Invalid, "the modes are create, update, profile and, of what is here, delete").At("mode")
	}
	res := q.resource
	if id := r.PathValue("id"); id != "" && (res == nil || q.mode == "profile") {
		var err error
		if res, err = s.toValidate(r, session); err != nil {
			return err
		}
	} else if id != "" && res.ID() != id {
		return fhir.Errorf(fhir.Invalid, "the resource's id is not the one in the address").At(typ + ".id")
	}
	if res == nil {
		return fhir.Errorf(fhir.Required, "say what is to be validated").At("resource")
	}
	if res.Type() != typ {
		return fhir.Errorf(fhir.Invalid, "this address is for a %s, and the body is a %s", typ, res.Type()).At("resourceType")
	}
	if q.mode == "update" && res.ID() == "" {
		return fhir.Errorf(fhir.Required, "an update has an id").At(typ + ".id")
	}
	issues := s.definitions().Check(res, q.profiles...)
	if len(profile.Errors(issues)) == 0 {
		text := "R4's structure, cardinalities, required codes and invariants hold"
		for _, name := range s.held(res, q.profiles) {
			text += ", and " + name
		}
		issues = append([]*fhir.Issue{{Type: fhir.Informational, Severity: fhir.Information, Text: text + ". Codes of outside terminologies were not looked up."}}, issues...)
	}
	write(w, r, http.StatusOK, fhir.Outcome(issues...).Raw())
	return nil
}

// errRehearsed takes back what was only tried.
var errRehearsed = errors.New("it was only tried")

// rehearseDelete is $validate with mode=delete: what deleting the resource would say, found by doing it in a transaction that is taken back. FHIR R4 resource-operation-validate.html
func (s *server) rehearseDelete(w http.ResponseWriter, r *http.Request, session *access.Session) error {
	if r.PathValue("id") == "" {
		return fhir.Errorf(fhir.Required, "say which: Type/[id]/$validate").At("mode")
	}
	ref, err := refOf(r)
	if err != nil {
		return err
	}
	own, err := s.o.Gather.Own(r.Context(), session)
	if err != nil {
		return err
	}
	c := change{method: "DELETE", typ: ref.Type(), id: ref.ID()}
	if err := own.Refused(r.Context(), c.lacks(own.Reach())); err != nil {
		return err
	}
	if _, err := own.Read(r.Context(), ref); err != nil {
		return err
	}
	sub := intake.Submission{Source: own.Source(), Raw: []byte("$validate " + ref), ContentType: "text/plain", Reach: own.Reach()}
	_, err = s.o.Intake.Submit(r.Context(), sub, func(tx *intake.Writing) ([]byte, error) {
		if _, err := apply(r.Context(), tx, c); err != nil {
			return nil, err
		}
		return nil, errRehearsed
	})
	said := &fhir.Issue{Type: fhir.Informational, Severity: fhir.Information, Text: "it may be deleted, as things are"}
	if !errors.Is(err, errRehearsed) {
		if said = fhir.IssueOf(err); said == nil || statusOf(said) >= http.StatusInternalServerError {
			return own.Refused(r.Context(), err)
		}
	}
	write(w, r, http.StatusOK, fhir.Outcome(said).Raw())
	return nil
}

// A validation is what is asked for.
type validation struct {
	resource *fhir.Resource // nil: the one that is stored
	profiles []string
	mode     string
}

// body reads a resource, or Parameters with one.
func (q *validation) body(r *http.Request, typ string) error {
	_, res, err := read(r)
	if err != nil {
		return err
	}
	if res.Type() != "Parameters" || typ == "Parameters" && !res.Get("parameter.resource").Exists() {
		q.resource = res
		return nil
	}
	for p := range res.Value().All("parameter") {
		switch p.Text("name") {
		case "resource":
			if q.resource, err = fhir.FromValue(p.Member("resource")); err != nil {
				return err
			}
		case "profile":
			q.profiles = append(q.profiles, p.Text("valueUri")+p.Text("valueCanonical"))
		case "mode":
			q.mode = p.Text("valueCode")
		}
	}
	return nil
}

// toValidate is the resource that is stored at the address.
func (s *server) toValidate(r *http.Request, session *access.Session) (*fhir.Resource, error) {
	ref, err := refOf(r)
	if err != nil {
		return nil, err
	}
	own, err := s.o.Gather.Own(r.Context(), session)
	if err != nil {
		return nil, err
	}
	got, err := own.Read(r.Context(), ref)
	if err != nil {
		return nil, err
	}
	if got.Deleted {
		return nil, fhir.Errorf(fhir.Deleted, "this was deleted")
	}
	return got.Resource()
}

func (s *server) definitions() *profile.Definitions {
	if s.o.Definitions != nil {
		return s.o.Definitions
	}
	return profile.R4()
}

// held names the profiles that a resource was held to.
func (s *server) held(res *fhir.Resource, asked []string) []string {
	for p := range res.Value().All("meta.profile") {
		asked = append(asked[:len(asked):len(asked)], p.Str())
	}
	var out []string
	for _, url := range asked {
		if p := s.definitions().Profile(url); p != nil && !strings.Contains(strings.Join(out, "|"), p.Name) {
			out = append(out, p.Name)
		}
	}
	return out
}
