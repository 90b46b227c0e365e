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
	var operations, interactions []fhir.M
	for _, rt := range s.routes() {
		switch {
		case rt.typ != "" || rt.interaction == "" || rt.interaction == "capabilities":
		case strings.HasPrefix(rt.interaction, "$"):
			operations = append(operations, fhir.M{"name": rt.interaction[1:], "definition": operationDefinition(rt.interaction, rt.typ)})
		default:
			interactions = append(interactions, fhir.M{"code": rt.interaction})
		}
	}
	rest := fhir.M{"mode": "server", "resource": resources, "interaction": interactions, "operation": operations,
		"documentation": documentation,
		"security":      s.security()}
	cs := fhir.New("CapabilityStatement", "tombolo", fhir.M{
		"status": "active", "kind": "instance", "date": "2026-11-22", "fhirVersion": "4.0.1", "format": []string{"application/fhir+json", "application/fhir+xml", "json", "xml"},
		"patchFormat":    []string{typeJSONPatch, typeFHIRJSON},
		"software":       fhir.M{"name": "Tombolo", "version": s.o.Version},
		"implementation": fhir.M{"description": s.o.Name, "url": s.base(r)},
		"rest":           []fhir.M{rest},
	})
	write(w, r, http.StatusOK, cs.Raw())
	return nil
}

const documentation = "Who signs in reads a person's joined record: read, search-type, $everything and $gather. People are found by identifier alone, with POST Patient/_search; " +
	"searches on other types are inside one person's record and need patient={id}; each of their pages is gathered anew. " +
	"A system of the region (role system) reads and writes what it itself holds here, with all of the interactions; what other systems hold is not there for it. " +
	"A person's number never stands in a URL: use POST _search. A request sent again under the same Idempotency-Key, or a transaction with the same " +
	"Bundle.identifier, is done once and answered alike."

// security says where tokens are had. SMART App Launch 2.2 conformance.html#declaring-support-for-oauth2-endpoints
func (s *server) security() fhir.M {
	out := fhir.M{"cors": true, "description": "OAuth bearer tokens. What may not be seen is answered as if it were not there."}
	if at := s.o.Access.Issuer(); at != "" {
		out["service"] = []any{fhir.Code("http://terminology.hl7.org/CodeSystem/restful-security-service", "SMART-on-FHIR", "")}
		var uris []fhir.M
		for _, name := range []string{"authorize", "token", "introspect", "revoke"} {
			uris = append(uris, fhir.M{"url": name, "valueUri": at + "/oauth/" + name})
		}
		out["extension"] = []fhir.M{{"url": "http://fhir-registry.smarthealthit.org/StructureDefinition/oauth-uris", "extension": uris}}
	}
	return out
}

func operationDefinition(name, typ string) string {
	switch name {
	case "$export":
		level := ""
		if typ != "" {
			level = strings.ToLower(typ) + "-"
		}
		return "http://hl7.org/fhir/uv/bulkdata/OperationDefinition/" + level + "export"
	case "$everything":
		return "http://hl7.org/fhir/OperationDefinition/Patient-everything"
	case "$summary":
		return "http://hl7.org/fhir/uv/ips/OperationDefinition/summary"
	case "$match":
		return "http://hl7.org/fhir/OperationDefinition/Patient-match"
	case "$ihe-pix":
		return "https://profiles.ihe.net/ITI/PIXm/OperationDefinition/IHE.PIXm.pix"
	case "$lastn":
		return "http://hl7.org/fhir/OperationDefinition/Observation-lastn"
	case "$validate", "$meta", "$meta-add", "$meta-delete", "$convert":
		return "http://hl7.org/fhir/OperationDefinition/Resource-" + name[1:]
	}
	return "https://tombolo.dev/OperationDefinition/" + name[1:]
}

// resource is one type's part: what the routes for it, or for every type, offer.
func (s *server) resource(typ string) fhir.M {
	res := fhir.M{"type": typ, "versioning": "versioned-update", "readHistory": true, "updateCreate": true, "conditionalCreate": true,
		"conditionalRead": "full-support", "conditionalUpdate": true, "conditionalDelete": "single",
		"referencePolicy": []string{"literal", "logical", "local"}}
	if known := s.definitions().URLs(typ); len(known) > 0 {
		res["supportedProfile"] = known
	}
	var interactions, operations []fhir.M
	for _, rt := range s.routes() {
		switch {
		case rt.typ != typ && rt.typ != "*":
		case strings.HasPrefix(rt.interaction, "$"):
			operations = append(operations, fhir.M{"name": rt.interaction[1:], "definition": operationDefinition(rt.interaction, rt.typ)})
		case rt.interaction != "":
			interactions = append(interactions, fhir.M{"code": rt.interaction})
		}
	}
	res["interaction"] = interactions
	if len(operations) > 0 {
		res["operation"] = operations
	}
	var params []fhir.M
	for _, d := range search.Defs(typ) {
		params = append(params, fhir.M{"name": d.Name, "type": string(d.Kind)})
	}
	slices.SortFunc(params, func(a, b fhir.M) int { return strings.Compare(a["name"].(string), b["name"].(string)) })
	res["searchParam"] = params
	return res
}
