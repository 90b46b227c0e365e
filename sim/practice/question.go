package practice

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"tombolo/fhir"
)

// checkToken reads the unsigned JWT as strictly as the conformance tests for practices' systems do.
//
// GP Connect 1.6 integration_cross_organisation_audit_and_provenance.html
func checkToken(authorization, scope string, now time.Time, old string) error {
	token, ok := strings.CutPrefix(authorization, "Bearer ")
	if !ok {
		return bad("no Bearer token")
	}
	parts := strings.Split(token, ".")
	if len(parts) != 3 || parts[2] != "" {
		return bad("the JWT must have three parts, the last of them empty")
	}
	var header struct{ Alg, Typ string }
	if err := decodePart(parts[0], &header); err != nil || header.Alg != "none" || header.Typ != "JWT" {
		return bad("the JWT's header must be alg none, typ JWT")
	}
	var raw json.RawMessage
	if err := decodePart(parts[1], &raw); err != nil {
		return bad("the JWT's claims are not JSON")
	}
	claims, err := fhir.ParseValue(raw)
	if err != nil {
		return bad("the JWT's claims are not JSON")
	}
	for _, c := range []string{"iss", "sub", "aud", "exp", "iat", "reason_for_request", "requested_scope",
		"requesting_device", "requesting_organization", "requesting_practitioner"} {
		if v := claims.Member(c); !v.Exists() || string(v.Raw()) == "null" || string(v.Raw()) == `""` {
			return bad("Empty JWT " + c + " claim")
		}
	}
	var at struct{ Iat, Exp int64 }
	if err := claims.Decode(&at); err != nil {
		return bad("iat and exp must be whole seconds")
	}
	switch {
	case at.Exp-at.Iat != 300:
		return bad("exp must be five minutes after iat")
	case at.Exp < now.Unix():
		return bad("the JWT has expired")
	case claims.Text("reason_for_request") != "directcare":
		return bad("reason_for_request must be directcare")
	case claims.Text("requested_scope") != scope:
		return bad("requested_scope must be " + scope)
	}
	if old != "" {
		return checkWhoOld(claims, old)
	}
	return checkWho(claims)
}

func checkWho(claims fhir.Value) error {
	wrong := func(what string) error {
		return &refusal{http.StatusUnprocessableEntity, "INVALID_RESOURCE", what}
	}
	for claim, typ := range map[string]string{"requesting_device": "Device", "requesting_organization": "Organization", "requesting_practitioner": "Practitioner"} {
		if claims.Text(claim+".resourceType") != typ {
			return wrong(claim + " must be a " + typ)
		}
	}
	has := func(claim, system string) bool {
		for id := range claims.All(claim + ".identifier") {
			if (system == "" || id.Text("system") == system) && id.Text("value") != "" {
				return true
			}
		}
		return false
	}
	switch {
	case !has("requesting_device", "") || claims.Text("requesting_device.model") == "" || claims.Text("requesting_device.version") == "":
		return wrong("requesting_device needs identifier, model and version")
	case !has("requesting_organization", fhir.SystemODS) || claims.Text("requesting_organization.name") == "":
		return wrong("requesting_organization needs its ODS code and name")
	case claims.Text("requesting_practitioner.id") != claims.Text("sub"):
		return bad("sub must be the id of requesting_practitioner")
	case claims.Text("requesting_practitioner.name.family") == "" || claims.Text("requesting_practitioner.name.given") == "":
		return wrong("requesting_practitioner needs a family and a given name")
	case !has("requesting_practitioner", fhir.SystemSDSUser) || !has("requesting_practitioner", fhir.SystemSDSRole):
		return wrong("requesting_practitioner needs SDS user and role ids, or UNK")
	}
	return nil
}

// checkWhoOld is checkWho for Access Record HTML, whose token is of the time of DSTU2 and names the record asked for.
//
// GP Connect 0.7 integration_cross_organisation_audit_and_provenance.html
func checkWhoOld(claims fhir.Value, nhs string) error {
	switch {
	case claims.Text("requesting_organization.identifier.system") != "http://fhir.nhs.net/Id/ods-organization-code":
		return bad("requesting_organization needs its ODS code under the older system")
	case !claims.Get("requesting_practitioner.name.family").Exists() || !claims.Get("requesting_practitioner.practitionerRole.role").Exists():
		return bad("requesting_practitioner needs a name and a role")
	case claims.Text("requested_record.identifier.value") != nhs:
		return bad("JWT requested_record claim does not match request")
	}
	return nil
}

func decodePart(part string, into any) error {
	b, err := base64.RawURLEncoding.DecodeString(part)
	if err != nil {
		return err
	}
	return json.Unmarshal(b, into)
}

// A question is what the body asked for.
type question struct {
	nhs          string
	asked        map[string]bool // top-level parameters that are known here
	resolved     bool
	withoutIssue bool
	from         string   // medicationSearchFromDate
	unknown      []string // parameters that are not known here
}

// The part parameters of each parameter and their types.
var parts = map[string]map[string]string{
	"includeAllergies":         {"includeResolvedAllergies": "valueBoolean"},
	"includeMedication":        {"includePrescriptionIssues": "valueBoolean", "medicationSearchFromDate": "valueDate"},
	"includeConsultations":     {"consultationSearchPeriod": "valuePeriod", "includeNumberOfMostRecent": "valuePositiveInt"},
	"includeProblems":          {"filterStatus": "valueCode", "filterSignificance": "valueCode"},
	"includeImmunisations":     {"includeNotGiven": "valueBoolean", "includeStatus": "valueBoolean"},
	"includeUncategorisedData": {"uncategorisedDataSearchPeriod": "valuePeriod"},
	"includeInvestigations":    {"investigationSearchPeriod": "valuePeriod"},
	"includeReferrals":         {"referralSearchPeriod": "valuePeriod"},
	"includeDiaryEntries":      {"diaryEntriesSearchDate": "valueDate"},
}

// The minor version in which each parameter came; those that are not here were there from the beginning.
var since = map[string]int{"includeConsultations": 3, "includeProblems": 3, "includeImmunisations": 3, "includeUncategorisedData": 3,
	"includeInvestigations": 5, "includeReferrals": 5, "includeDiaryEntries": 5}

// Parts that may not stand beside consultations or problems.
var narrowing = map[string]bool{
	"medicationSearchFromDate": true, "uncategorisedDataSearchPeriod": true, "referralSearchPeriod": true,
	"diaryEntriesSearchDate": true, "includeNotGiven": true, "includeStatus": true,
}

// readQuestion reads Parameters. What it does not know is said in the answer; what is wrong refuses the request.
func readQuestion(body []byte, now time.Time, minor int) (*question, error) {
	v, err := fhir.ParseValue(body)
	if err != nil || v.Text("resourceType") != "Parameters" {
		return nil, &refusal{http.StatusUnprocessableEntity, "INVALID_RESOURCE", "the body must be a Parameters resource"}
	}
	q := &question{asked: map[string]bool{}}
	for p := range v.All("parameter") {
		name := p.Text("name")
		if name == "patientNHSNumber" {
			if p.Text("valueIdentifier.system") != fhir.SystemNHSNumber {
				return nil, invalid("patientNHSNumber needs the NHS number's system")
			}
			if _, err := fhir.ParseNHSNumber(p.Text("valueIdentifier.value")); err != nil {
				return nil, &refusal{http.StatusBadRequest, "INVALID_NHS_NUMBER", ""}
			}
			if q.nhs != "" {
				return nil, invalid("patientNHSNumber is given twice")
			}
			q.nhs = p.Text("valueIdentifier.value")
			continue
		}
		if parts[name] == nil || minor < since[name] {
			q.unknown = append(q.unknown, name)
			continue
		}
		if q.asked[name] && name != "includeProblems" {
			return nil, invalid(name + " is given twice")
		}
		q.asked[name] = true
		if err := q.readParts(name, p, now); err != nil {
			return nil, err
		}
	}
	if q.nhs == "" {
		return nil, invalid("patientNHSNumber is missing")
	}
	return q, q.checkCombination(v)
}

func (q *question) readParts(name string, p fhir.Value, now time.Time) error {
	today, given := now.In(fhir.London).Format(time.DateOnly), map[string]bool{}
	for part := range p.All("part") {
		n := part.Text("name")
		want, known := parts[name][n]
		if !known {
			q.unknown = append(q.unknown, name+"."+n)
			continue
		}
		val := part.Member(want)
		if !val.Exists() {
			return invalid(name + "." + n + " needs a " + want)
		}
		given[n] = true
		switch n {
		case "includeResolvedAllergies":
			q.resolved = val.Bool()
		case "includePrescriptionIssues":
			q.withoutIssue = !val.Bool()
		case "medicationSearchFromDate", "diaryEntriesSearchDate":
			if _, err := time.Parse(time.DateOnly, val.Str()); err != nil {
				return invalid(name + "." + n + " must be a whole date")
			}
			if n == "diaryEntriesSearchDate" && val.Str() < today || n == "medicationSearchFromDate" && val.Str() > today {
				return invalid(name + "." + n + " is on the wrong side of today")
			}
			if n == "medicationSearchFromDate" {
				q.from = val.Str()
			}
		}
	}
	if name == "includeAllergies" && !given["includeResolvedAllergies"] {
		return invalid("includeAllergies needs includeResolvedAllergies")
	}
	if given["consultationSearchPeriod"] && given["includeNumberOfMostRecent"] {
		return &refusal{http.StatusUnprocessableEntity, "INVALID_RESOURCE", "consultationSearchPeriod and includeNumberOfMostRecent are both given"}
	}
	return nil
}

func (q *question) checkCombination(v fhir.Value) error {
	if !q.asked["includeConsultations"] && !q.asked["includeProblems"] {
		return nil
	}
	for n := range v.All("parameter.part.name") {
		if narrowing[n.Str()] || q.asked["includeConsultations"] && strings.HasPrefix(n.Str(), "filter") {
			return invalid(n.Str() + " is not permitted together with consultations or problems")
		}
	}
	return nil
}
