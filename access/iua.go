package access

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"time"

	"tombolo/fhir"
)

// IUA are the claims by which one community tells another who is asking. IHE ITI IUA §3.71.4.2.2.1.1; home is this region.
func (s *Session) IUA(home string) map[string]any {
	out := map[string]any{"subject_name": s.Name, "subject_role": string(s.Role), "subject_organization": s.OrganisationName, "subject_organization_id": s.Organisation,
		"purpose_of_use": s.Purpose.Code(), "home_community_id": home}
	return out
}

// extActivities is where an assertion tells which national RBAC activities the user's sign-in gave. IUA has no claim for them.
const extActivities = "rbac_activities"

// Assert makes the statement by which this node tells a neighbour who is asking: one question, one statement. activities are those to which the user
// is held here; nil if their sign-in says nothing of activities.
// Another Tombolo knows such a statement by its type (AssertionType), any other server by its claims: their type is JWT (IHE ITI IUA §3.71, RFC 7519 §5.1).
func (m *Manager) Assert(ctx context.Context, typ, audience, user string, iua map[string]any, activities []string) (string, error) {
	now := m.opts.Now()
	extensions := map[string]any{"ihe_iua": iua}
	if activities != nil {
		extensions[extActivities] = activities
	}
	return m.ring.Sign(ctx, typ, map[string]any{"iss": m.opts.Issuer(), "client_id": m.opts.Issuer(), "aud": audience, "sub": user, "jti": NewTrace(), "iat": now.Unix(), "exp": now.Add(time.Minute).Unix(),
		"extensions": extensions})
}

// Practitioner is the user as a resource, so that an application can read who uses it (SMART App Launch 2.2, fhirUser).
func (s *Session) Practitioner() *fhir.Resource {
	sum := sha256.Sum256([]byte(s.User))
	return fhir.New("Practitioner", "user-"+hex.EncodeToString(sum[:16]), fhir.M{"active": true,
		"identifier": []fhir.Identifier{{System: "https://tombolo.dev/Id/user", Value: s.User}}, "name": []fhir.HumanName{{Text: s.Name}}})
}
