package gpconnect

import (
	"encoding/base64"
	"encoding/json"
	"mime"
	"net/http"
	"slices"
	"strings"

	"tombolo/connector"
	"tombolo/fhir"
)

// A Caller is who a request says is asking: the claims of its token, and the ids of its headers.
type Caller struct {
	connector.Requester
	Issuer string // iss
	ASID   string // Ssp-From
	Record string // the NHS number whose record an older token asks for; "" in a token of today
}

// check finds which interaction a request is, and reads what each must bring: the Spine's headers, and the token that says who is asking.
//
// GP Connect 1.6 integration_spine_secure_proxy.html
func (s *server) check(r *http.Request, offered []Interaction) (Interaction, Caller, error) {
	for _, h := range []string{"Ssp-TraceID", "Ssp-From", "Ssp-To", "Ssp-InteractionID"} {
		if r.Header.Get(h) == "" {
			return Interaction{}, Caller{}, BadRequest("header " + h + " is missing")
		}
	}
	n := slices.IndexFunc(offered, func(i Interaction) bool { return i.ID == r.Header.Get("Ssp-InteractionID") })
	switch {
	case n < 0:
		return Interaction{}, Caller{}, BadRequest("InteractionID header does not match request")
	case r.Method != offered[n].Method:
		return Interaction{}, Caller{}, BadRequest("the interaction needs " + offered[n].Method)
	case s.o.ASID != "" && r.Header.Get("Ssp-To") != s.o.ASID:
		return Interaction{}, Caller{}, BadRequest("Ssp-To is not the ASID of this system")
	case !isUUID(r.Header.Get("Ssp-TraceID")):
		return Interaction{}, Caller{}, BadRequest("Ssp-TraceID is not a UUID")
	}
	if err := checkFormat(r, offered[n].Old); err != nil {
		return Interaction{}, Caller{}, err
	}
	who, err := s.readToken(r.Header.Get("Authorization"), offered[n])
	who.TraceID, who.ASID = r.Header.Get("Ssp-TraceID"), r.Header.Get("Ssp-From")
	return offered[n], who, err
}

func isUUID(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i, c := range s {
		dash := i == 8 || i == 13 || i == 18 || i == 23
		hex := c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F'
		if dash != (c == '-') || !dash && !hex {
			return false
		}
	}
	return true
}

// checkFormat refuses to write in a format that is not offered. _format, if given, is what counts.
//
// GP Connect 1.6 development_general_api_guidance.html#content-types
func checkFormat(r *http.Request, old bool) error {
	want := r.Header.Get("Accept")
	if f := r.URL.Query().Get("_format"); f != "" {
		want = strings.ReplaceAll(f, " ", "+") // a plus sign that was not escaped
	}
	formats := []string{fhirJSON, oldJSON, "json", "*/*"}
	if old {
		formats = []string{oldJSON, "*/*"}
	}
	if want == "" {
		return nil
	}
	for part := range strings.SplitSeq(want, ",") {
		if t, _, err := mime.ParseMediaType(part); err == nil && slices.Contains(formats, t) {
			return nil
		}
	}
	return &Refusal{http.StatusNotAcceptable, "BAD_REQUEST", "only " + formats[0] + " is given here"}
}

// checkContent refuses a body that is not of one of the types.
func checkContent(r *http.Request, types ...string) error {
	if t, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || !slices.Contains(types, t) {
		return &Refusal{http.StatusUnsupportedMediaType, "BAD_REQUEST", "the body must be " + types[0]}
	}
	return nil
}

// readToken reads the unsigned JWT. It proves nothing; it is what the audit is told.
//
// GP Connect 1.6 integration_cross_organisation_audit_and_provenance.html
func (s *server) readToken(authorization string, i Interaction) (who Caller, err error) {
	token, ok := strings.CutPrefix(authorization, "Bearer ")
	parts := strings.Split(token, ".")
	if !ok || len(parts) != 3 || parts[2] != "" {
		return who, BadRequest("the Bearer token must be a JWT of three parts, the last of them empty")
	}
	var header struct{ Alg, Typ string }
	if b, err := base64.RawURLEncoding.DecodeString(parts[0]); err != nil || json.Unmarshal(b, &header) != nil || header.Alg != "none" || header.Typ != "JWT" {
		return who, BadRequest("the JWT's header must be alg none, typ JWT")
	}
	raw, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return who, BadRequest("the JWT's claims are not base64url")
	}
	claims, err := fhir.ParseValue(raw)
	if err != nil {
		return who, BadRequest("the JWT's claims are not JSON")
	}
	for _, c := range []string{"iss", "sub", "aud", "exp", "iat", "reason_for_request", "requested_scope", "requesting_device", "requesting_organization", "requesting_practitioner"} {
		if v := claims.Member(c); !v.Exists() || v.Raw()[0] == 'n' || string(v.Raw()) == `""` {
			return who, BadRequest("Empty JWT " + c + " claim")
		}
	}
	var at struct{ Iat, Exp int64 }
	if json.Unmarshal(raw, &at) != nil {
		return who, BadRequest("iat and exp must be whole seconds")
	}
	switch {
	case at.Exp-at.Iat != 300:
		return who, BadRequest("exp must be five minutes after iat")
	case at.Exp <= s.o.Now().Unix(): // "on and after which"; one from the future is a clock that is fast, and is taken
		return who, BadRequest("the JWT has expired")
	case claims.Text("reason_for_request") != "directcare":
		return who, BadRequest("reason_for_request must be directcare")
	case claims.Text("requested_scope") != i.Scope:
		return who, BadRequest("requested_scope must be " + i.Scope)
	case s.o.Base != "" && strings.TrimRight(claims.Text("aud"), "/") != strings.TrimRight(s.o.Base, "/"):
		return who, BadRequest("aud must be this system's service root")
	case i.Old:
		return readWhoOld(claims)
	}
	return readWho(claims)
}

// The ODS code's system, and what it was called before GP Connect 1.0; some systems still say that.
const oldODS = "http://fhir.nhs.net/Id/ods-organization-code"

func identifierOf(claims fhir.Value, claim string, systems ...string) string {
	for v := range claims.All(claim + ".identifier") {
		if len(systems) == 0 || slices.Contains(systems, v.Text("system")) {
			return v.Text("value")
		}
	}
	return ""
}

func readWho(claims fhir.Value) (who Caller, err error) {
	for claim, typ := range map[string]string{"requesting_device": "Device", "requesting_organization": "Organization", "requesting_practitioner": "Practitioner"} {
		if claims.Text(claim+".resourceType") != typ {
			return who, InvalidResource(claim + " must be a " + typ)
		}
	}
	var name fhir.HumanName
	_ = claims.Get("requesting_practitioner.name").Decode(&name)
	who.Issuer = claims.Text("iss")
	who.Requester = connector.Requester{
		UserID: claims.Text("sub"), UserName: strings.Join(slices.Concat(name.Prefix, name.Given, []string{name.Family}), " "),
		SDSUserID: identifierOf(claims, "requesting_practitioner", fhir.SystemSDSUser), SDSRoleID: identifierOf(claims, "requesting_practitioner", fhir.SystemSDSRole),
		OrganisationODS: identifierOf(claims, "requesting_organization", fhir.SystemODS, oldODS), OrgName: claims.Text("requesting_organization.name"), Purpose: "TREAT",
	}
	switch {
	case identifierOf(claims, "requesting_device") == "" || claims.Text("requesting_device.model") == "" || claims.Text("requesting_device.version") == "":
		return who, InvalidResource("requesting_device needs identifier, model and version")
	case who.OrganisationODS == "" || who.OrgName == "":
		return who, InvalidResource("requesting_organization needs its ODS code and name")
	case claims.Text("requesting_practitioner.id") != who.UserID:
		return who, BadRequest("sub must be the id of requesting_practitioner")
	case name.Family == "" || len(name.Given) == 0:
		return who, InvalidResource("requesting_practitioner needs a family and a given name")
	case who.SDSUserID == "": // the id of the role and the local one "are not always present", and nobody is refused for that
		return who, InvalidResource("requesting_practitioner needs an SDS user id, or UNK")
	}
	return who, nil
}

// readWhoOld is readWho for Access Record HTML, whose token is of the time of DSTU2 and names the record asked for.
//
// GP Connect 0.7 integration_cross_organisation_audit_and_provenance.html
func readWhoOld(claims fhir.Value) (who Caller, err error) {
	who.Issuer, who.Record = claims.Text("iss"), claims.Text("requested_record.identifier.value")
	who.UserID, who.OrganisationODS = claims.Text("sub"), identifierOf(claims, "requesting_organization", oldODS)
	who.OrgName, who.Purpose = claims.Text("requesting_organization.name"), "TREAT"
	switch {
	case who.OrganisationODS == "":
		return who, BadRequest("requesting_organization needs its ODS code under the older system")
	case !claims.Get("requesting_practitioner.name.family").Exists() || !claims.Get("requesting_practitioner.practitionerRole.role").Exists():
		return who, BadRequest("requesting_practitioner needs a name and a role")
	case who.Record == "":
		return who, BadRequest("Empty JWT requested_record claim")
	}
	return who, nil
}
