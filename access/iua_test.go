package access

import (
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"tombolo/access/token/tokentest"
	"tombolo/fhir"
	"tombolo/policy"
	"tombolo/region"
)

func wye(t *testing.T, key jose.JSONWebKey, now time.Time) *Manager {
	t.Helper()
	path := filepath.Join(t.TempDir(), "severn.json")
	if err := os.WriteFile(path, fhir.JSON(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{key.Public()}}), 0o600); err != nil {
		t.Fatal(err)
	}
	m, err := New(Options{Issuer: func() string { return "https://wye.example" }, Now: func() time.Time { return now }, Region: &region.Region{ID: "wye", Organisations: []region.Organisation{{ODS: "QSV", Name: "Severn"}},
		Neighbours: []region.Neighbour{{ID: "severn", Name: "Severn", Issuer: "https://severn.example", Keys: path, Organisation: "QSV", OnlyAsks: true}}}})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func assertion(key jose.JSONWebKey, now time.Time, change map[string]any) tokentest.Genuine {
	iua := map[string]any{"subject_name": "Dr Femi Ade", "subject_role": "hospital-doctor", "subject_organization": "The Trust", "subject_organization_id": "RX1", "purpose_of_use": "TREAT", "home_community_id": "severn"}
	for k, v := range change {
		iua[k] = v
	}
	return tokentest.Genuine{Key: key, Type: AssertionType, Now: now, Claims: map[string]any{"iss": "https://severn.example", "aud": "https://wye.example", "sub": "doctor", "jti": Secret(), "iat": now.Unix(), "exp": now.Add(time.Minute).Unix(),
		"extensions": map[string]any{"ihe_iua": iua}}}
}

func ask(m *Manager, raw string) (*Session, error) {
	q := httptest.NewRequest("POST", "/fhir/$gather", nil)
	q.Header.Set("Authorization", "Bearer "+raw)
	return m.Session(q)
}

// A neighbour's user is here who their own node says they are, in their own role, for its organisation's agreements; and never one of ours.
func TestANeighboursUserIsDecidedAboutAsWhoTheyAre(t *testing.T) {
	now := time.Now().Truncate(time.Second)
	key := tokentest.NewKey(t, "severn-1")
	m := wye(t, key, now)
	raw := assertion(key, now, nil).Sign(t)
	s, err := ask(m, raw)
	if err != nil || s.User != "severn/doctor" || s.Role != policy.HospitalDoctor || s.Organisation != "QSV" || s.Purpose != policy.DirectCare || !s.FromNeighbour() || s.Name != "Dr Femi Ade, by Severn" {
		t.Fatalf("%+v %v", s, err)
	}
	if _, err := ask(m, raw); !fhir.Is(err, fhir.Login) {
		t.Error("one assertion answers two questions")
	}
	g := assertion(key, now, nil)
	g.Claims["extensions"].(map[string]any)["rbac_activities"] = []string{policy.ViewRecord}
	if s, err := ask(m, g.Sign(t)); err != nil || s.MayBreakGlass() || !slices.Equal(s.Subject().Activities, []string{policy.ViewRecord}) {
		t.Errorf("held to one activity at home, and here: %+v %v", s, err)
	}
	g.Claims["jti"], g.Claims["extensions"].(map[string]any)["rbac_activities"] = "other", map[string]any{"all": true}
	if s, err := ask(m, g.Sign(t)); !fhir.Is(err, fhir.Login) {
		t.Errorf("activities that cannot be read: %+v %v", s, err)
	}
	for what, change := range map[string]map[string]any{"no role": {"subject_role": ""}, "a role there is not": {"subject_role": "emperor"}, "a neighbour's own": {"subject_role": "neighbour"}, "a citizen": {"subject_role": "citizen"},
		"one that opens nothing": {"subject_role": "operator"}, "no purpose": {"purpose_of_use": ""}, "a purpose there is not": {"purpose_of_use": "CURIOSITY"}, "a role in a list": {"subject_role": []string{"gp"}}} {
		if s, err := ask(m, assertion(key, now, change).Sign(t)); !fhir.Is(err, fhir.Login) {
			t.Errorf("%s: %+v %v", what, s, err)
		}
	}
}

// The table of A23, at this door.
func TestForgedAssertionsOfNeighboursAreRefused(t *testing.T) {
	now := time.Now().Truncate(time.Second)
	key := tokentest.NewKey(t, "severn-1")
	m := wye(t, key, now)
	g := assertion(key, now, nil)
	for _, shape := range tokentest.Forged(g) {
		if s, err := ask(m, shape.Raw); !fhir.Is(err, fhir.Login) {
			t.Errorf("%s: %+v %v", shape.Name, s, err)
		}
	}
	// A statement of another kind by the same key is no assertion.
	g.Type = "JWT"
	if _, err := ask(m, g.Sign(t)); !fhir.Is(err, fhir.Login) {
		t.Error("an ID token was taken for an assertion")
	}
}
