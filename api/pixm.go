package api

import (
	"net/http"
	"slices"
	"strings"

	"tombolo/access"
	"tombolo/fhir"
	"tombolo/gather"
)

// The documented failures of $ihe-pix. IHE ITI-83 2:3.83.4.2.2.2 to 2:3.83.4.2.2.4
var (
	pixUnknownPatient = fhir.Errorf(fhir.NotFound, "sourceIdentifier Patient Identifier not found")
	pixUnknownSource  = fhir.Errorf(fhir.CodeInvalid, "sourceIdentifier Assigning Authority not found")
	pixUnknownTarget  = fhir.Errorf(fhir.CodeInvalid, "targetSystem not found") // 403
)

// A pixRequest is what $ihe-pix takes.
type pixRequest struct {
	source  string
	targets []string
}

// readPix reads the question from the URL, or from Parameters or a form that are posted: then nobody's number stands in a log on the way.
func readPix(r *http.Request) (q pixRequest, err error) {
	var sources []string
	if r.Method == http.MethodPost && !strings.HasPrefix(r.Header.Get("Content-Type"), "application/x-www-form-urlencoded") {
		p, err := parameters(r)
		if err != nil {
			return q, err
		}
		for v := range p.All("parameter") {
			switch name := v.Text("name"); name {
			case "sourceIdentifier":
				sources = append(sources, v.Text("valueString")+v.Text("valueUri"))
			case "targetSystem":
				q.targets = append(q.targets, v.Text("valueString")+v.Text("valueUri"))
			case "_format":
			default:
				return q, fhir.Errorf(fhir.NotSupported, "$ihe-pix takes sourceIdentifier and targetSystem").At(name)
			}
		}
	} else {
		v, err := query(r)
		if err != nil {
			return q, err
		}
		sources, q.targets = v["sourceIdentifier"], v["targetSystem"]
		for name := range v {
			if name != "sourceIdentifier" && name != "targetSystem" {
				return q, fhir.Errorf(fhir.NotSupported, "$ihe-pix takes sourceIdentifier and targetSystem").At(name)
			}
		}
	}
	if len(sources) != 1 || !strings.Contains(sources[0], "|") {
		return q, fhir.Errorf(fhir.Required, "give one sourceIdentifier, as system|value").At("sourceIdentifier")
	}
	q.source = sources[0]
	return q, nil
}

// pixm is Patient/$ihe-pix: under which other identifiers somebody is known. Unknown, and not to be told of: the same. IHE ITI-83
func (s *server) pixm(w http.ResponseWriter, r *http.Request, session *access.Session) error {
	q, err := readPix(r)
	if err != nil {
		return err
	}
	x, err := s.o.Gather.Identities(r.Context(), session)
	if err != nil {
		return err
	}
	wanted, asked := gather.Wanted{}, fhir.Identifier{}
	system, value, _ := strings.Cut(q.source, "|")
	if s.isOurs(r, system) { // the logical id of a Patient here
		wanted.Person = strings.TrimPrefix(value, "Patient/")
	} else {
		if ok, err := x.Knows(r.Context(), system); err != nil {
			return err
		} else if !ok {
			return pixUnknownSource
		}
		asked = fhir.Identifier{System: system, Value: value}.Canonical()
		if asked.Check() != nil {
			return pixUnknownPatient
		}
		wanted.Identifiers = [][]fhir.Identifier{{asked}}
	}
	for i, t := range q.targets {
		q.targets[i] = fhir.CanonicalSystem(t)
		if ok, err := x.Knows(r.Context(), t); err != nil {
			return err
		} else if !ok && !s.isOurs(r, t) {
			return pixUnknownTarget
		}
	}
	found, err := x.Find(r.Context(), wanted, "Patient/$ihe-pix")
	if err != nil {
		return err
	}
	if len(found) == 0 {
		return pixUnknownPatient
	}
	out := fhir.M{}
	if all := s.corresponding(r, q, asked, found); len(all) > 0 {
		out["parameter"] = all
	}
	write(w, r, http.StatusOK, fhir.New("Parameters", "", out).Raw())
	return nil
}

// corresponding are the other identifiers, and the Patients as they can be read here.
func (s *server) corresponding(r *http.Request, q pixRequest, asked fhir.Identifier, found []gather.Identified) []fhir.M {
	var out []fhir.M
	here := len(q.targets) == 0 || slices.ContainsFunc(q.targets, func(t string) bool { return s.isOurs(r, t) })
	for _, f := range found {
		for _, id := range f.Identifiers {
			if id.System == asked.System && id.Value == asked.Value || len(q.targets) > 0 && !slices.Contains(q.targets, id.System) {
				continue
			}
			out = append(out, fhir.M{"name": "targetIdentifier", "valueIdentifier": id})
		}
		if here && asked.Value != "" {
			out = append(out, fhir.M{"name": "targetId", "valueReference": fhir.Reference{Reference: "Patient/" + f.ID}})
		}
	}
	return out
}

// isOurs reports whether a system is one of this server's base URLs, so that its identifiers are the ids of resources here.
func (s *server) isOurs(r *http.Request, system string) bool {
	system = strings.TrimRight(system, "/")
	return system == s.base(r) || system == strings.TrimSuffix(s.base(r), "/fhir")+identityPath
}
