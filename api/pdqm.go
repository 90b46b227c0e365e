package api

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"tombolo/access"
	"tombolo/fhir"
	"tombolo/gather"
	"tombolo/search"
)

// identityPath is where IHE's identity profiles stand: PDQm's search is over everybody, and at /fhir a system's search on Patient is over what it holds itself.
const identityPath = "/identity"

// identityRoutes are PDQm (ITI-78, ITI-119) and PIXm (ITI-83), for people and systems alike.
func (s *server) identityRoutes() []route {
	both := func(pattern, interaction string, h handler) route {
		return route{pattern: pattern, interaction: interaction, typ: "Patient", person: h, system: h}
	}
	return []route{
		{pattern: "GET " + identityPath + "/metadata", interaction: "capabilities", open: true, person: s.identityMetadata},
		both("GET "+identityPath+"/Patient", "search-type", s.pdqm),
		both("POST "+identityPath+"/Patient/_search", "", s.pdqm),
		both("GET "+identityPath+"/Patient/{id}", "read", s.pdqmRead),
		both("POST "+identityPath+"/Patient/$match", "$match", s.match),
		both("GET "+identityPath+"/Patient/$match", "", methodNotAllowed),
		both("GET "+identityPath+"/Patient/$ihe-pix", "$ihe-pix", s.pixm),
		both("POST "+identityPath+"/Patient/$ihe-pix", "", s.pixm),
	}
}

// pdqmParams are the parameters of ITI-78, and whether they are about where people live or how they are reached.
var pdqmParams = map[string]bool{"family": false, "given": false, "name": false, "birthdate": false, "gender": false, "telecom": true, "phone": true, "email": true,
	"address": true, "address-city": true, "address-country": true, "address-postalcode": true, "address-state": true}

// targetUnknown is the answer about identifier domains that nobody here has identifiers of. IHE ITI-78 case 4
var targetUnknown = &fhir.Issue{Type: fhir.NotFound, Severity: fhir.Warning, Text: "targetSystem not found"}

// pdqm is the Mobile Patient Demographics Query, by GET as by POST. What stands in the URL of a GET is written nowhere by this program; whoever can, should POST. IHE ITI-78
func (s *server) pdqm(w http.ResponseWriter, r *http.Request, session *access.Session) error {
	v, err := query(r)
	if err != nil {
		return err
	}
	x, err := s.o.Gather.Identities(r.Context(), session)
	if err != nil {
		return err
	}
	wanted, domains, used, err := pdqmQuery(v, !lenient(r) && strict(r))
	if err != nil {
		return err
	}
	for _, d := range domains {
		if ok, err := x.Knows(r.Context(), d); err != nil {
			return err
		} else if !ok {
			return targetUnknown
		}
	}
	self := s.identityBase(r) + "/Patient"
	if r.Method == http.MethodPost {
		self += "/_search"
	} else if len(used) > 0 {
		self += "?" + used.Encode()
	}
	var found []gather.Identified
	if v.Get("active") != "false" { // who is in use here is active
		if found, err = x.Find(r.Context(), wanted, "Patient? by "+strings.Join(slices.Sorted(names(v)), ", ")); err != nil {
			return err
		}
	} else if err := x.Remember(r.Context(), "Patient? not active", nil); err != nil {
		return err
	}
	base := s.identityBase(r)
	b := fhir.NewBundle("searchset", base, len(found), 1024*len(found), fhir.Link{Relation: "self", URL: self})
	for _, f := range found {
		b.Add(identified(f, session, domains), "match")
	}
	write(w, r, http.StatusOK, b.Bytes())
	return nil
}

// pdqmQuery reads the parameters of ITI-78. domains are those of which identifiers are wanted; used is what is respected, without any identifier, for the self
// link.
func pdqmQuery(v url.Values, strict bool) (w gather.Wanted, domains []string, used url.Values, err error) {
	used = url.Values{}
	plain := url.Values{}
	for name, values := range v {
		bare, modifier, _ := strings.Cut(name, ":")
		located, known := pdqmParams[bare]
		switch {
		case bare == "identifier" && modifier == "":
			for _, list := range values {
				ids, ds, err := identifiers(list)
				if err != nil {
					return w, nil, nil, err
				}
				if len(ids) > 0 {
					w.Identifiers = append(w.Identifiers, ids)
				}
				domains = append(domains, ds...)
			}
		case bare == "_id":
			w.Person = strings.TrimPrefix(strings.Join(values, ","), "Patient/")
			used[name] = values
		case bare == "active":
			used[name] = values
		case bare == "mothersMaidenName":
			w.Maiden = strings.Join(values, " ")
			used[name] = values
		case known && (modifier == "" || modifier == "exact" || modifier == "contains"):
			plain[name], used[name] = values, values
			w.Located = w.Located || located
		case strict:
			return w, nil, nil, fhir.Errorf(fhir.NotSupported, "people are found by _id, identifier, family, given, birthdate, gender, telecom, address and its parts, and mothersMaidenName").At(bare)
		}
	}
	if w.Search, _, err = search.Parse("Patient", plain, true); err != nil {
		return w, nil, nil, err
	}
	w.Search.Chains = nil
	telling := slices.ContainsFunc(w.Search.Params, func(p search.Param) bool {
		return p.Name != "gender" && p.Name != "address-country" && p.Name != "address-state"
	})
	if w.Person == "" && len(w.Identifiers) == 0 && !telling {
		return w, nil, nil, fhir.Errorf(fhir.Required, "say who is meant: an identifier, a name, a birth date, a telephone number or an address").At("Patient?")
	}
	return w, domains, used, nil
}

// identifiers reads the alternatives of one identifier parameter. "system|" names a domain of which identifiers are wanted. IHE ITI-78 2:3.78.4.1.2.3
func identifiers(list string) (ids []fhir.Identifier, domains []string, err error) {
	for token := range strings.SplitSeq(list, ",") {
		if system, value, ok := strings.Cut(token, "|"); ok && value == "" && system != "" {
			domains = append(domains, fhir.CanonicalSystem(system))
			continue
		}
		id := readIdentifier(strings.TrimPrefix(token, "|"))
		if id.Value == "" {
			return nil, nil, fhir.Errorf(fhir.ValueError, "write an identifier as system|value").At("identifier")
		}
		if err := id.Check(); err != nil {
			return nil, nil, fhir.IssueOf(err).At("identifier")
		}
		ids = append(ids, id)
	}
	return ids, domains, nil
}

func names(v url.Values) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for k := range v {
			if k, _, _ = strings.Cut(k, ":"); len(k) <= 40 && !yield(k) {
				return
			}
		}
	}
}

// strict reports whether unknown parameters are to be refused: IHE would have them passed over. IHE ITI-78 2:3.78.4.1.2.1
func strict(r *http.Request) bool {
	return slices.ContainsFunc(r.Header.Values("Prefer"), func(p string) bool { return strings.Contains(p, "handling=strict") })
}

// pdqmRead is one person by the id under which they were told of.
func (s *server) pdqmRead(w http.ResponseWriter, r *http.Request, session *access.Session) error {
	x, err := s.o.Gather.Identities(r.Context(), session)
	if err != nil {
		return err
	}
	found, err := x.Find(r.Context(), gather.Wanted{Person: r.PathValue("id")}, "Patient/"+r.PathValue("id"))
	if err != nil {
		return err
	}
	if len(found) == 0 {
		return fhir.Errorf(fhir.NotFound, "no such person is known here")
	}
	write(w, r, http.StatusOK, identified(found[0], session, nil).Raw())
	return nil
}

// identityMetadata is what is offered here. FHIR R4 capabilitystatement.html
func (s *server) identityMetadata(w http.ResponseWriter, r *http.Request, _ *access.Session) error {
	var interactions, operations, params []fhir.M
	for _, rt := range s.identityRoutes() {
		switch {
		case rt.interaction == "" || rt.interaction == "capabilities":
		case strings.HasPrefix(rt.interaction, "$"):
			operations = append(operations, fhir.M{"name": rt.interaction[1:], "definition": operationDefinition(rt.interaction, "Patient")})
		default:
			interactions = append(interactions, fhir.M{"code": rt.interaction})
		}
	}
	for _, d := range search.Defs("Patient") {
		if _, ok := pdqmParams[d.Name]; ok || d.Name == "identifier" || d.Name == "active" || d.Name == "_id" {
			params = append(params, fhir.M{"name": d.Name, "type": string(d.Kind)})
		}
	}
	params = append(params, fhir.M{"name": "mothersMaidenName", "type": "string"})
	cs := fhir.New("CapabilityStatement", "tombolo-identity", fhir.M{
		"status": "active", "kind": "instance", "date": "2026-11-22", "fhirVersion": "4.0.1", "format": []string{"application/fhir+json", "application/fhir+xml"},
		"instantiates":   []string{"https://profiles.ihe.net/ITI/PDQm/CapabilityStatement/IHE.PDQm.Supplier", "https://profiles.ihe.net/ITI/PIXm/CapabilityStatement/IHE.PIXm.Manager"},
		"software":       fhir.M{"name": "Tombolo", "version": s.o.Version},
		"implementation": fhir.M{"description": s.o.Name + ": who people are", "url": strings.TrimSuffix(s.base(r), "/fhir") + identityPath},
		"rest": []fhir.M{{"mode": "server", "security": s.security(),
			"documentation": "PDQm and PIXm. What may not be told of is answered as if it were not there. A GET with an identifier in its URL is answered, as the profiles ask; POST _search keeps it out of the logs on the way.",
			"resource":      []fhir.M{{"type": "Patient", "interaction": interactions, "operation": operations, "searchParam": params}}}},
	})
	write(w, r, http.StatusOK, cs.Raw())
	return nil
}
