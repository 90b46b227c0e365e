package provider_test

import (
	"encoding/json"
	"reflect"
	"testing"

	"tombolo/access"
	"tombolo/access/provider"
	"tombolo/access/token"
	"tombolo/fhir"
	"tombolo/region"
)

// Claims as the three kinds of provider give them, and who they are here.
func TestClaimsBecomeAUserARoleAndAnOrganisation(t *testing.T) {
	r := &region.Region{Organisations: []region.Organisation{{ODS: "RX1"}, {ODS: "RW4"}}, Identity: region.Identity{Providers: []region.Provider{
		{ID: "cis2", Claims: map[string]string{"user": "nhsid_useruid", "name": "name", "role": "nhsid_nrbac_roles[person_roleid=selected_roleid].role_code", "organisation": "nhsid_nrbac_roles[person_roleid=selected_roleid].org_code", "activities": "nhsid_nrbac_roles[person_roleid=selected_roleid].activity_codes"},
			Roles: map[string]string{"R8000": "hospital-doctor", "S8000:G8000:R8001": "nurse"}},
		{ID: "nhs-login", Role: "citizen", Claims: map[string]string{"person": "nhs_number", "assurance": "identity_proofing_level"}, Assurance: []string{"P9"}},
		{ID: "keycloak", Organisation: "RX1", Claims: map[string]string{"user": "preferred_username", "name": "name", "role": "realm_access.roles"}, Roles: map[string]string{"ward-nurse": "nurse"}},
		{ID: "trust", Organisation: "RX1", Role: "nurse", Claims: map[string]string{"activities": "may"}, Activities: map[string]string{"records": "B0360", "sensitive": "B1666"}},
	}}}
	set := provider.New(provider.Options{Region: r})
	for _, c := range []struct {
		what, provider, claims string
		want                   access.Principal // zero: kept out
	}{
		{"the selected one of two roles", "cis2", `{"nhsid_useruid":"555","name":"Dr Rao","selected_roleid":"2","nhsid_nrbac_roles":[{"person_roleid":"1","role_code":"S8000:G8000:R8001","org_code":"RW4"},{"person_roleid":"2","role_code":"S8000:G8000:R8000","org_code":"RX1","activity_codes":["B0360","B1666"]}]}`,
			access.Principal{User: "cis2/555", Name: "Dr Rao", Role: "hospital-doctor", Organisation: "RX1", Provider: "cis2", Activities: []string{"B0360", "B1666"}}},
		{"the other", "cis2", `{"nhsid_useruid":"555","name":"Dr Rao","selected_roleid":"1","nhsid_nrbac_roles":[{"person_roleid":"1","role_code":"S8000:G8000:R8001","org_code":"RW4"}]}`,
			access.Principal{User: "cis2/555", Name: "Dr Rao", Role: "nurse", Organisation: "RW4", Provider: "cis2", Activities: []string{}}}, // none came: none are theirs
		{"activities that are no list", "cis2", `{"nhsid_useruid":"555","selected_roleid":"1","nhsid_nrbac_roles":[{"person_roleid":"1","role_code":"R8000","org_code":"RX1","activity_codes":{"B0360":true}}]}`, access.Principal{}},
		{"one whose trust has words of its own for activities", "trust", `{"may":"records everything"}`,
			access.Principal{User: "trust/sub-1", Name: "sub-1", Role: "nurse", Organisation: "RX1", Provider: "trust", Activities: []string{"B0360"}}},
		{"none selected", "cis2", `{"nhsid_useruid":"555","nhsid_nrbac_roles":[{"person_roleid":"1","role_code":"S8000:G8000:R8000","org_code":"RX1"}]}`, access.Principal{}},
		{"one that is not there selected", "cis2", `{"nhsid_useruid":"555","selected_roleid":"9","nhsid_nrbac_roles":[{"person_roleid":"1","role_code":"R8000","org_code":"RX1"}]}`, access.Principal{}},
		{"another region's organisation", "cis2", `{"nhsid_useruid":"555","selected_roleid":"1","nhsid_nrbac_roles":[{"person_roleid":"1","role_code":"R8000","org_code":"ZZ9"}]}`, access.Principal{}},
		{"no user", "cis2", `{"selected_roleid":"1","nhsid_nrbac_roles":[{"person_roleid":"1","role_code":"R8000","org_code":"RX1"}]}`, access.Principal{}},
		{"a citizen", "nhs-login", `{"nhs_number":"9990000107","identity_proofing_level":"P9"}`,
			access.Principal{User: "nhs-login/sub-1", Name: "sub-1", Role: "citizen", Provider: "nhs-login", Person: fhir.Identifier{System: fhir.SystemNHSNumber, Value: "9990000107"}}},
		{"a citizen not proven enough", "nhs-login", `{"nhs_number":"9990000107","identity_proofing_level":"P5"}`, access.Principal{}},
		{"a citizen of whom nothing is said", "nhs-login", `{"nhs_number":"9990000107"}`, access.Principal{}},
		{"a citizen with a wrong number", "nhs-login", `{"nhs_number":"9990000108","identity_proofing_level":"P9"}`, access.Principal{}},
		{"one of a trust's own", "keycloak", `{"preferred_username":"mary","name":"Mary","realm_access":{"roles":["offline_access","ward-nurse"]}}`,
			access.Principal{User: "keycloak/mary", Name: "Mary", Role: "nurse", Organisation: "RX1", Provider: "keycloak"}},
		{"one of a trust's own without a role here", "keycloak", `{"preferred_username":"mary","realm_access":{"roles":["admin"]}}`, access.Principal{}},
	} {
		p, ok := set.Get(c.provider)
		if !ok {
			t.Fatal(c.provider)
		}
		claims := &token.Claims{Subject: "sub-1"}
		if err := json.Unmarshal([]byte(c.claims), &claims.All); err != nil {
			t.Fatal(err)
		}
		got, err := p.Principal(claims)
		if c.want.User == "" {
			if err == nil {
				t.Errorf("%s gets in: %+v", c.what, got)
			}
		} else if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %+v, %v; want %+v", c.what, got, err, c.want)
		}
	}
}
