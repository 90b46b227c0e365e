package gather

import (
	"context"
	"encoding/json"

	"tombolo/access"
	"tombolo/connector"
	"tombolo/fhir"
	"tombolo/mpi"
	"tombolo/policy"
)

// Somebody unknown is answered after the work that somebody refused would cost: a person is read, their choices are looked up and read, and
// it is decided. Otherwise the time of a refusal would tell that a record is there (TestARefusalTakesAsLongAsTheUnknown).
var (
	decoyPerson = fhir.JSON(mpi.Person{ID: "decoy", NHSNumber: "0", Name: fhir.HumanName{Use: "official", Family: "Nobody", Given: []string{"At", "All"}}, BirthDate: "1970-01-01", Gender: "unknown",
		Patients:    []mpi.Patient{{ID: "decoy", Source: "decoy", Original: "decoy", Name: fhir.HumanName{Use: "official", Family: "Nobody", Given: []string{"At", "All"}}, BirthDate: "1970-01-01", Active: true}},
		Identifiers: []fhir.Identifier{{System: fhir.SystemNHSNumber, Value: "0"}}})
	decoyStanding = fhir.JSON(map[string]map[string]json.RawMessage{"c": {"decoy": decoyChoice}})
	decoyChoice   = fhir.New("Consent", "decoy", fhir.M{"status": "active", "scope": fhir.Code("http://terminology.hl7.org/CodeSystem/consentscope", "patient-privacy", "Privacy Consent"),
		"meta": fhir.M{"source": "https://tombolo.dev/Id/source/decoy#decoy", "lastUpdated": "2026-01-01T00:00:00.000Z", "versionId": "1"}, "provision": fhir.M{"type": "deny"}}).Raw()
)

func (g *Gatherer) decoy(ctx context.Context, s *access.Session) {
	var p mpi.Person
	_ = json.Unmarshal(decoyPerson, &p)
	f, _ := g.facts(ctx, s, &p)
	var kept map[string]map[string]json.RawMessage
	_ = json.Unmarshal(decoyStanding, &kept)
	var stands policy.Standing
	if r, err := fhir.Parse(kept["c"]["decoy"]); err == nil {
		stands.Take(connector.SourceOf(r), r)
	}
	f.Person.Choices = stands.Choices
	policy.Decide(f)
}
