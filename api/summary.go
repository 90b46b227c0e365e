package api

import (
	"net/http"

	"tombolo/access"
	"tombolo/fhir"
	"tombolo/gather"
)

// ipsProfile is the one kind of summary that is made. HL7 IPS 1.1.0 OperationDefinition-summary.html
const ipsProfile = "http://hl7.org/fhir/uv/ips/StructureDefinition/Bundle-uv-ips"

// summary is Patient/[id]/$summary of the joined record.
func (s *server) summary(w http.ResponseWriter, r *http.Request, session *access.Session) error {
	if err := summaryParameters(r); err != nil {
		return err
	}
	return s.summaryOf(w, r, session, r.PathValue("id"))
}

func (s *server) summaryOf(w http.ResponseWriter, r *http.Request, session *access.Session, person string) error {
	rec, err := s.o.Gather.Record(r.Context(), session, person, gather.Ask{Query: "$summary"})
	if err != nil {
		return err
	}
	if rec.Person.Withheld {
		return fhir.Errorf(fhir.Forbidden, "a summary names the person, and the scopes of this access do not let their Patient through")
	}
	write(w, r, http.StatusOK, rec.IPS(s.base(r), s.o.Name, s.o.Version))
	return nil
}

// summaryByIdentifier is POST Patient/$summary: of the person with an identifier, which stands in no URL.
func (s *server) summaryByIdentifier(w http.ResponseWriter, r *http.Request, session *access.Session) error {
	params, err := parameters(r)
	if err != nil {
		return err
	}
	var q gatherRequest
	for p := range params.All("parameter") {
		switch name := p.Text("name"); name {
		case "identifier":
			if v := p.Get("valueIdentifier"); v.Exists() {
				if v.Decode(&q.identifier) != nil {
					return fhir.Errorf(fhir.Structure, "an Identifier is an object with system and value").At("identifier.valueIdentifier")
				}
			} else {
				q.identifier = readIdentifier(p.Text("valueString"))
			}
		case "profile":
			if err := checkProfile(parameterText(p)); err != nil {
				return err
			}
		default:
			return fhir.Errorf(fhir.NotSupported, "$summary takes identifier and profile").At(name)
		}
	}
	if q.identifier.Value == "" {
		return fhir.Errorf(fhir.Required, "say whose summary: give an identifier").At("identifier")
	}
	person, err := s.find(r, session, q)
	if err != nil {
		return err
	}
	return s.summaryOf(w, r, session, person)
}

// ownSummary is Patient/[id]/$summary of what the system itself holds.
func (s *server) ownSummary(w http.ResponseWriter, r *http.Request, session *access.Session) error {
	r.SetPathValue("type", "Patient")
	ref, err := refOf(r)
	if err != nil {
		return err
	}
	if err := summaryParameters(r); err != nil {
		return err
	}
	own, err := s.o.Gather.Own(r.Context(), session)
	if err != nil {
		return err
	}
	body, err := own.Summary(r.Context(), ref, s.base(r), s.o.Name, s.o.Version)
	if err != nil {
		return err
	}
	write(w, r, http.StatusOK, body)
	return nil
}

func summaryParameters(r *http.Request) error {
	for name, values := range r.URL.Query() {
		switch name {
		case "profile":
			if err := checkProfile(values[0]); err != nil {
				return err
			}
		case "_format", "_pretty":
		default:
			return fhir.Errorf(fhir.NotSupported, "$summary takes profile here: leave it out").At(name)
		}
	}
	return nil
}

func checkProfile(p string) error {
	if p != "" && p != ipsProfile {
		return fhir.Errorf(fhir.NotSupported, "summaries of %s are made, and no others", ipsProfile).At("profile")
	}
	return nil
}
