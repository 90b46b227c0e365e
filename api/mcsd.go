package api

import (
	"context"
	"net/http"
	"slices"
	"strings"

	"tombolo/access"
	"tombolo/fhir"
	"tombolo/search"
)

// A Directory is the care services directory. directory.Directory is one.
type Directory interface {
	search.Searcher
	Read(ctx context.Context, ref fhir.Ref) (*fhir.Resource, error)
	Lookup(ctx context.Context, refs ...fhir.Ref) ([]*fhir.Resource, error)
}

// directoryPath is where the directory stands: at /fhir an Organization is what a system holds of one.
const directoryPath = "/directory"

// directoryTypes are what it holds.
var directoryTypes = []string{"Organization", "HealthcareService", "Endpoint"}

// directoryRoutes are mCSD's Find Matching Care Services (ITI-90), to whoever has signed in: nothing in it is about any person.
func (s *server) directoryRoutes() []route {
	if s.o.Directory == nil {
		return nil
	}
	return []route{
		{pattern: "GET " + directoryPath + "/metadata", open: true, person: s.directoryMetadata},
		{pattern: "GET " + directoryPath + "/{type}", person: s.findServices, system: s.findServices},
		{pattern: "POST " + directoryPath + "/{type}/_search", person: s.findServices, system: s.findServices},
		{pattern: "GET " + directoryPath + "/{type}/{id}", person: s.readService, system: s.readService},
	}
}

func (s *server) directoryBase(r *http.Request) string {
	return strings.TrimSuffix(s.base(r), "/fhir") + directoryPath
}

func directoryType(r *http.Request) (string, error) {
	typ := r.PathValue("type")
	if !slices.Contains(directoryTypes, typ) {
		return "", fhir.Errorf(fhir.NotFound, "the directory has Organization, HealthcareService and Endpoint")
	}
	return typ, nil
}

// readService is one by its id. FHIR R4 http.html#read
func (s *server) readService(w http.ResponseWriter, r *http.Request, _ *access.Session) error {
	typ, err := directoryType(r)
	if err != nil {
		return err
	}
	res, err := s.o.Directory.Read(r.Context(), fhir.MakeRef(typ, r.PathValue("id")))
	if err != nil {
		return err
	}
	w.Header().Set("ETag", `W/"`+res.Text("meta.versionId")+`"`)
	write(w, r, http.StatusOK, res.Raw())
	return nil
}

// findServices is a search, with chains and includes. IHE ITI-90
func (s *server) findServices(w http.ResponseWriter, r *http.Request, _ *access.Session) error {
	typ, err := directoryType(r)
	if err != nil {
		return err
	}
	v, err := query(r)
	if err != nil {
		return err
	}
	q, warnings, err := search.Parse(typ, v, !lenient(r))
	if err != nil {
		return allErrors(warnings, err)
	}
	q.Base = s.directoryBase(r)
	asked, err := search.Resolve(r.Context(), s.o.Directory, q)
	if err != nil {
		return err
	}
	page, err := s.o.Directory.Search(r.Context(), asked)
	if err != nil {
		return err
	}
	included, err := search.Included(r.Context(), s.o.Directory, s.o.Directory.Lookup, q, page.Resources)
	if err != nil {
		return err
	}
	values := q.URLValues()
	self := q.Base + "/" + typ
	links := []fhir.Link{{Relation: "self", URL: withQuery(self, values)}}
	if page.Next != "" {
		values.Set("_cursor", page.Next)
		links = append(links, fhir.Link{Relation: "next", URL: withQuery(self, values)})
	}
	b := fhir.NewBundle("searchset", q.Base, page.Total, 1024*len(page.Resources), links...)
	seen := view{summary: q.Summary, elements: q.Elements}
	if q.Summary == "count" {
		page.Resources, included = nil, nil
	}
	for _, res := range page.Resources {
		b.Add(seen.of(res), "match")
	}
	for _, res := range included {
		b.Add(seen.of(res), "include")
	}
	if len(warnings) > 0 {
		b.Add(fhir.Outcome(warnings...), "outcome")
	}
	write(w, r, http.StatusOK, b.Bytes())
	return nil
}

// directoryMetadata is what is offered here.
func (s *server) directoryMetadata(w http.ResponseWriter, r *http.Request, _ *access.Session) error {
	var resources []fhir.M
	for _, typ := range directoryTypes {
		var params []fhir.M
		for _, d := range search.Defs(typ) {
			params = append(params, fhir.M{"name": d.Name, "type": string(d.Kind)})
		}
		slices.SortFunc(params, func(a, b fhir.M) int { return strings.Compare(a["name"].(string), b["name"].(string)) })
		resources = append(resources, fhir.M{"type": typ, "interaction": []fhir.M{{"code": "read"}, {"code": "search-type"}}, "searchParam": params})
	}
	cs := fhir.New("CapabilityStatement", "tombolo-directory", fhir.M{
		"status": "active", "kind": "instance", "date": "2026-11-22", "fhirVersion": "4.0.1", "format": []string{"application/fhir+json", "application/fhir+xml"},
		"software":       fhir.M{"name": "Tombolo", "version": s.o.Version},
		"implementation": fhir.M{"description": s.o.Name + ": the directory of care services", "url": s.directoryBase(r)},
		"rest":           []fhir.M{{"mode": "server", "security": s.security(), "resource": resources}},
	})
	write(w, r, http.StatusOK, cs.Raw())
	return nil
}
