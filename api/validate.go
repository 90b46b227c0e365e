package api

import (
	"net/http"
	"strings"

	"tombolo/access"
	"tombolo/fhir"
	"tombolo/fhir/profile"
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
		return fhir.Errorf(fhir.NotSupported, "whether something may be deleted is found out by deleting it: the modes are create, update and profile").At("mode")
	default:
		return fhir.Errorf(fhir.Invalid, "the modes are create, update and profile").At("mode")
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
