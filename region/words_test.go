package region_test

import (
	"slices"
	"testing"

	"tombolo/policy"
	"tombolo/region"
)

// The region file's words for purposes and roles are policy's.
func TestPurposesAndRolesArePolicys(t *testing.T) {
	for _, p := range region.Purposes {
		if got, ok := policy.ParsePurpose(p); !ok || string(got) != p {
			t.Errorf("purpose %s is unknown to policy", p)
		}
	}
	for _, role := range []policy.Role{policy.GP, policy.HospitalDoctor, policy.Nurse, policy.Paramedic, policy.MentalHealth, policy.Pharmacist,
		policy.SocialWorker, policy.CareHome, policy.Receptionist, policy.PrivacyOfficer, policy.Operator, policy.Analyst, policy.Citizen, policy.Neighbour} {
		if !slices.Contains(region.Roles, string(role)) {
			t.Errorf("role %s cannot be given in a region file", role)
		}
	}
}
