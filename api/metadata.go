package api

import (
	"net/http"
	"slices"
	"strings"

	"tombolo/access"
	"tombolo/fhir"
	"tombolo/search"
)

// metadata is the CapabilityStatement, made of the route table and the search table: it cannot claim what there is not.
// FHIR R4 capabilitystatement.html
func (s *server) metadata(w http.ResponseWriter, r *http.Request, _ *access.Session) error {
	types := search.Types()
	var resources []fhir.M
	for _, typ := range types {
		resources = append(resources, s.resource(typ))
	}
	var operations []fhir.M
	for _, rt := range s.routes() {
		if strings.HasPrefix(rt.interaction, "$") && rt.typ == "" {
			operations = append(operations, fhir.M{"name": rt.interaction[1:], "definition": operationDefinition(rt.interaction)})
		}
	}
	rest := fhir.M{"mode": "server", "resource": resources, "operation": operations,
		"documentation": "Reading a person's joined record. People are found by identifier with POST Patient/_search; searches on other types are inside one person's record and need patient={id}.",
		"security":      fhir.M{"description": "OAuth bearer tokens. What may not be seen is answered as if it were not there."}}
	cs := fhir.New("CapabilityStatement", "tombolo", fhir.M{
		"status": "active", "kind": "instance", "date": "2026-11-22", "fhirVersion": "4.0.1", "format": []string{"json"},
		"software":       fhir.M{"name": "Tombolo", "version": s.o.Version},
		"implementation": fhir.M{"description": s.o.Name, "url": s.base(r)},
		"rest":           []fhir.M{rest},
	})
	write(w, http.StatusOK, cs.Raw())
	return nil
}

func operationDefinition(name string) string {
	if name == "$everything" {
		return "http://hl7.org/fhir/OperationDefinition/Patient-everything"
	}
	return "https://tombolo.dev/OperationDefinition/" + name[1:]
}

// resource is one type's part: what the routes for it, or for every type, offer.
func (s *server) resource(typ string) fhir.M {
	res := fhir.M{"type": typ}
	var interactions, operations []fhir.M
	for _, rt := range s.routes() {
		if rt.typ != typ && (rt.typ != "*" || typ == "Patient") {
			continue
		}
		switch {
		case strings.HasPrefix(rt.interaction, "$"):
			operations = append(operations, fhir.M{"name": rt.interaction[1:], "definition": operationDefinition(rt.interaction)})
		case rt.interaction != "":
			interactions = append(interactions, fhir.M{"code": rt.interaction})
		}
	}
	res["interaction"] = interactions
	if len(operations) > 0 {
		res["operation"] = operations
	}
	params := []fhir.M{{"name": "identifier", "type": "token"}}
	if typ != "Patient" {
		params = params[:0]
		for _, d := range search.Defs(typ) {
			params = append(params, fhir.M{"name": d.Name, "type": string(d.Kind)})
		}
		slices.SortFunc(params, func(a, b fhir.M) int { return strings.Compare(a["name"].(string), b["name"].(string)) })
	}
	res["searchParam"] = params
	return res
}
