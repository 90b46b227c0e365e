package gpconnect

import (
	"encoding/base64"
	"strings"

	"tombolo/connector"
	"tombolo/fhir"
)

// token makes the unsigned JWT by which a practice learns who is really asking. It is made anew for each request, and is refused
// rather than filled in where the session does not say who that is.
//
// GP Connect 1.6 integration_cross_organisation_audit_and_provenance.html
func (c *Client) token(q connector.Requester, aud string, k call) (string, error) {
	switch {
	case q.UserID == "":
		return "", fhir.Errorf(fhir.Required, "GP Connect must be told which user is asking, and the request has no user id").From(c.o.Source)
	case q.UserName == "":
		return "", fhir.Errorf(fhir.Required, "GP Connect must be told the name of the user who is asking, and the request has none").From(c.o.Source)
	case q.OrganisationODS == "":
		return "", fhir.Errorf(fhir.Required, "GP Connect must be told the ODS code of the user's organisation, and the request has none").From(c.o.Source)
	}
	unk := func(s string) string {
		if s == "" {
			return "UNK" // the value for a user without a smartcard
		}
		return s
	}
	issued := c.o.Now().Unix()
	claims := fhir.M{
		"iss":                c.o.Issuer,
		"sub":                q.UserID,
		"aud":                aud,
		"iat":                issued,
		"exp":                issued + 300, // five minutes exactly: practices refuse any other span
		"reason_for_request": "directcare",
		"requested_scope":    k.scope,
		"requesting_device": fhir.M{
			"resourceType": "Device",
			"identifier":   []fhir.M{{"system": c.o.Issuer + "/Id/device", "value": c.o.NodeName}},
			"model":        "Tombolo", "version": c.o.Version,
		},
		"requesting_organization": fhir.M{
			"resourceType": "Organization",
			"identifier":   []fhir.M{{"system": fhir.SystemODS, "value": q.OrganisationODS}},
			"name":         orWord(q.OrgName, q.OrganisationODS),
		},
		"requesting_practitioner": fhir.M{
			"resourceType": "Practitioner",
			"id":           q.UserID,
			"identifier": []fhir.M{
				{"system": fhir.SystemSDSUser, "value": unk(q.SDSUserID)},
				{"system": fhir.SystemSDSRole, "value": unk(q.SDSRoleID)},
				{"system": c.o.Issuer + "/Id/user", "value": q.UserID},
			},
			"name": []fhir.HumanName{nameOf(q.UserName)},
		},
	}
	if !k.old.IsZero() {
		c.olden(claims, q, k.old)
	}
	enc := base64.RawURLEncoding
	header := enc.EncodeToString([]byte(`{"alg":"none","typ":"JWT"}`))
	// RFC 7519 §6: an unsecured JWT ends with the dot before its empty signature.
	return header + "." + enc.EncodeToString(fhir.JSON(claims)) + ".", nil
}

// olden puts the claims as Access Record HTML has them, which is of the time of FHIR DSTU2: older systems, names in lists, the role inside the
// practitioner, and the record that is asked for.
//
// GP Connect 0.7 integration_cross_organisation_audit_and_provenance.html
func (c *Client) olden(claims fhir.M, q connector.Requester, nhs fhir.NHSNumber) {
	claims["requesting_organization"] = fhir.M{
		"resourceType": "Organization", "name": orWord(q.OrgName, q.OrganisationODS),
		"identifier": []fhir.M{{"system": "http://fhir.nhs.net/Id/ods-organization-code", "value": q.OrganisationODS}},
	}
	n := nameOf(q.UserName)
	name := fhir.M{"family": []string{n.Family}, "given": n.Given}
	if len(n.Prefix) > 0 {
		name["prefix"] = n.Prefix
	}
	claims["requesting_practitioner"] = fhir.M{
		"resourceType": "Practitioner", "id": q.UserID, "name": name,
		"identifier": []fhir.M{
			{"system": "http://fhir.nhs.net/sds-user-id", "value": orWord(q.SDSUserID, "UNK")},
			{"system": c.o.Issuer + "/Id/user", "value": q.UserID},
		},
		"practitionerRole": []fhir.M{{"role": fhir.M{"coding": []fhir.M{{
			"system": "http://fhir.nhs.net/ValueSet/sds-job-role-name-1", "code": orWord(q.SDSRoleID, "UNK")}}, "text": orWord(q.RoleName, "UNK")}}},
	}
	claims["requested_record"] = fhir.M{"resourceType": "Patient",
		"identifier": []fhir.M{{"system": "http://fhir.nhs.net/Id/nhs-number", "value": nhs.Digits()}}}
}

func orWord(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

var titles = map[string]bool{
	"dr": true, "mr": true, "mrs": true, "miss": true, "ms": true, "mx": true, "prof": true, "professor": true, "sr": true, "sister": true,
	"nurse": true, "sir": true, "dame": true, "rev": true,
}

// nameOf takes "Dr Helen Marsh" apart: the claim wants family and given name, and a title where there is one.
func nameOf(s string) fhir.HumanName {
	words := strings.Fields(s)
	var n fhir.HumanName
	for len(words) > 1 && titles[strings.ToLower(strings.Trim(words[0], "."))] {
		n.Prefix = append(n.Prefix, words[0])
		words = words[1:]
	}
	n.Family = words[len(words)-1]
	if n.Given = words[:len(words)-1]; len(n.Given) == 0 {
		n.Given = []string{n.Family} // a sign-in of one word: better said twice than made up
	}
	return n
}
