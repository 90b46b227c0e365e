package api

import (
	"net/http"
	"slices"
	"strconv"
	"strings"

	"tombolo/access"
	"tombolo/fhir"
	"tombolo/gather"
	"tombolo/mpi"
)

// The extensions of a match's entry. FHIR R4 extension-match-grade.html; the second is this program's own: what speaks for and against, and how strongly, one each.
const (
	extMatchGrade  = "http://hl7.org/fhir/StructureDefinition/match-grade"
	extMatchReason = "https://tombolo.dev/StructureDefinition/match-reason"
)

// A matchRequest is what Patient/$match takes.
type matchRequest struct {
	patient *fhir.Resource
	certain bool
	count   int // 0: as many as there are
}

// readMatch reads Parameters, or a Patient by itself, which means the same as Parameters with nothing else in them. IHE ITI-119 2:3.119.4.1.2
func readMatch(r *http.Request) (q matchRequest, err error) {
	if mediaType(r) == "" {
		return q, fhir.Errorf(fhir.NotSupported, "send a Parameters resource as application/fhir+json or application/fhir+xml").At("Content-Type")
	}
	_, res, err := read(r)
	if err != nil {
		return q, err
	}
	switch res.Type() {
	case "Patient":
		q.patient = res
		return q, nil
	case "Parameters":
	default:
		return q, fhir.Errorf(fhir.Structure, "send a Parameters resource with the Patient in it, not a %s", res.Type()).At("resourceType")
	}
	for p := range res.Value().All("parameter") {
		switch name := p.Text("name"); name {
		case "resource":
			if q.patient != nil {
				return q, fhir.Errorf(fhir.Invalid, "one person at a time: give one resource").At("resource")
			}
			if q.patient, err = fhir.FromValue(p.Member("resource")); err != nil || q.patient.Type() != "Patient" {
				return q, fhir.Errorf(fhir.Structure, "the resource to be matched is a Patient").At("resource")
			}
		case "onlyCertainMatches":
			q.certain = p.Member("valueBoolean").Bool()
		case "count":
			if q.count, err = strconv.Atoi(string(p.Member("valueInteger").Raw())); err != nil || q.count < 1 {
				return q, fhir.Errorf(fhir.ValueError, "takes a whole number, 1 or more").At("count")
			}
		default:
			return q, fhir.Errorf(fhir.NotSupported, "$match takes resource, onlyCertainMatches and count").At(name)
		}
	}
	if q.patient == nil {
		return q, fhir.Errorf(fhir.Required, "say who is to be matched: give a Patient as resource").At("resource")
	}
	return q, nil
}

// match is POST Patient/$match. FHIR R4 patient-operation-match.html, IHE ITI-119
func (s *server) match(w http.ResponseWriter, r *http.Request, session *access.Session) error {
	q, err := readMatch(r)
	if err != nil {
		return err
	}
	who := mpi.FromResource("", q.patient)
	d := who.Describe()
	if len(d.Keys()) == 0 {
		return fhir.Errorf(fhir.Required, "too little is said of who is meant: give a number, or a name with a birth date or a postcode").At("resource")
	}
	x, err := s.o.Gather.Identities(r.Context(), session)
	if err != nil {
		return err
	}
	found, err := x.Match(r.Context(), d, q.count, q.certain, "Patient/$match")
	if err != nil {
		return err
	}
	base := s.identityBase(r)
	b := fhir.NewBundle("searchset", base, len(found), 1024*len(found), fhir.Link{Relation: "self", URL: base + "/Patient/$match"})
	for _, f := range found {
		ext := []fhir.M{{"url": extMatchGrade, "valueCode": f.Grade}}
		for _, why := range f.Why {
			ext = append(ext, fhir.M{"url": extMatchReason, "valueString": why})
		}
		res := identified(f, session, nil)
		b.AddEntry(fhir.EntryParts{FullURL: base + "/" + string(res.Ref()), Resource: res.Raw(), Search: fhir.M{"extension": ext, "mode": "match", "score": score(f.Score)}})
	}
	write(w, r, http.StatusOK, b.Bytes())
	return nil
}

// score has four digits: more would only say how the sum was worked out.
func score(p float64) float64 { return float64(int(p*10000)) / 10000 }

// identified is somebody as told: under the person's id, with the identifiers of the domains that are wanted (none: all), and to a system with a link to what
// it holds of them itself. IHE PDQm StructureDefinition-IHE.PDQm.Patient
func identified(f gather.Identified, session *access.Session, domains []string) *fhir.Resource {
	if len(domains) > 0 {
		f.Identifiers = slices.DeleteFunc(slices.Clone(f.Identifiers), func(id fhir.Identifier) bool { return !slices.Contains(domains, id.System) })
		if !slices.Contains(domains, fhir.SystemNHSNumber) {
			f.NHSNumber = fhir.NHSNumber{}
		}
	}
	res := f.Person.Resource()
	m := fhir.M{}
	for c := range res.Value().Children() {
		if c.Key() != "resourceType" && c.Key() != "id" {
			m[c.Key()] = rawJSON(c.Raw())
		}
	}
	var links []fhir.M
	for _, p := range f.Patients {
		if p.Source == session.System && session.System != "" {
			links = append(links, fhir.M{"type": "seealso", "other": fhir.Reference{Reference: "Patient/" + p.ID}})
		}
		if p.Maiden != "" && m["extension"] == nil {
			m["extension"] = []fhir.M{{"url": mpi.ExtMothersMaidenName, "valueString": p.Maiden}}
		}
	}
	if links != nil {
		m["link"] = links
	}
	return fhir.New("Patient", res.ID(), m)
}

// identityBase is the base URL at which people can be asked about: that of the API, or the one beside it for IHE's profiles.
func (s *server) identityBase(r *http.Request) string {
	if strings.HasPrefix(r.URL.Path, identityPath+"/") {
		return strings.TrimSuffix(s.base(r), "/fhir") + identityPath
	}
	return s.base(r)
}
