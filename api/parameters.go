package api

import (
	"context"
	"net/http"

	"tombolo/access"
	"tombolo/fhir"
	"tombolo/gather"
	"tombolo/search"
	"tombolo/searchparam"
)

// Parameters are the search parameters that systems define. searchparam.Index is one.
type Parameters interface {
	Of(ctx context.Context, source string) ([]searchparam.Parameter, search.Custom, error)
	// Narrow finds where what a query asks for may be, and refuses a parameter that is still being indexed.
	Narrow(ctx context.Context, source string, q search.Query) (search.Query, error)
}

func (s *server) custom(ctx context.Context, own *gather.Own) (search.Custom, error) {
	if s.o.Parameters == nil {
		return nil, nil
	}
	_, custom, err := s.o.Parameters.Of(ctx, own.Source())
	return custom, err
}

// parameterStatus is SearchParameter/[id]/$status: whether it can be searched by, and if not, how far its index is or why there is none.
func (s *server) parameterStatus(w http.ResponseWriter, r *http.Request, session *access.Session) error {
	r.SetPathValue("type", "SearchParameter")
	own, got, err := s.named(r, session)
	if err != nil {
		return err
	}
	var parts []fhir.M
	if s.o.Parameters != nil {
		all, _, err := s.o.Parameters.Of(r.Context(), own.Source())
		if err != nil {
			return err
		}
		for _, p := range all {
			if p.ID == got.Ref.ID() {
				parts = append(parts, fhir.M{"name": "status", "valueCode": p.State}, fhir.M{"name": "indexed", "valueInteger": p.Done})
				if p.Why != "" {
					parts = append(parts, fhir.M{"name": "reason", "valueString": p.Why})
				}
			}
		}
	}
	if parts == nil {
		parts = []fhir.M{{"name": "status", "valueCode": "not-searchable"}, {"name": "reason", "valueString": "its status is not active, or it is R4's own"}}
	}
	write(w, r, http.StatusOK, fhir.New("Parameters", "", fhir.M{"parameter": parts}).Raw())
	return nil
}
