package gpconnect

import (
	"encoding/base64"
	"mime"
	"net/http"
	"slices"
	"strings"
	"time"

	"tombolo/connector"
	"tombolo/dataset"
	"tombolo/fhir"
)

// check reads what every interaction must bring: the Spine's headers, and the token that says who is asking.
//
// GP Connect 1.6 integration_spine_secure_proxy.html
func (s *server) check(r *http.Request, method, interaction, scope string) (Caller, error) {
	if r.Method != method {
		return Caller{}, bad("the interaction needs " + method)
	}
	for _, h := range []string{"Ssp-TraceID", "Ssp-From", "Ssp-To", "Ssp-InteractionID"} {
		if r.Header.Get(h) == "" {
			return Caller{}, bad("header " + h + " is missing")
		}
	}
	switch {
	case r.Header.Get("Ssp-InteractionID") != interaction:
		return Caller{}, bad("InteractionID header does not match request")
	case s.o.ASID != "" && r.Header.Get("Ssp-To") != s.o.ASID:
		return Caller{}, bad("Ssp-To is not the ASID of this system")
	}
	if accept := r.Header.Get("Accept"); accept != "" {
		switch t, _, _ := mime.ParseMediaType(accept); t {
		case "application/fhir+json", "application/json+fhir", "*/*":
		default:
			return Caller{}, &refusal{http.StatusNotAcceptable, "BAD_REQUEST", "only application/fhir+json is given here"}
		}
	}
	who, err := s.readToken(r.Header.Get("Authorization"), scope)
	who.TraceID, who.ASID = r.Header.Get("Ssp-TraceID"), r.Header.Get("Ssp-From")
	return who, err
}

// readToken reads the unsigned JWT. It proves nothing; it is what the audit is told.
//
// GP Connect 1.6 integration_cross_organisation_audit_and_provenance.html
func (s *server) readToken(authorization, scope string) (who Caller, err error) {
	token, ok := strings.CutPrefix(authorization, "Bearer ")
	parts := strings.Split(token, ".")
	if !ok || len(parts) != 3 || parts[2] != "" {
		return who, bad("the Bearer token must be a JWT of three parts, the last of them empty")
	}
	var header struct{ Alg string }
	if b, err := base64.RawURLEncoding.DecodeString(parts[0]); err != nil || decode(b, &header) != nil || header.Alg != "none" {
		return who, bad("the JWT's header must be alg none")
	}
	raw, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return who, bad("the JWT's claims are not base64url")
	}
	claims, err := fhir.ParseValue(raw)
	if err != nil {
		return who, bad("the JWT's claims are not JSON")
	}
	for _, c := range []string{"iss", "sub", "aud", "exp", "iat", "reason_for_request", "requested_scope", "requesting_device", "requesting_organization", "requesting_practitioner"} {
		if v := claims.Member(c); !v.Exists() || v.Raw()[0] == 'n' || string(v.Raw()) == `""` {
			return who, bad("Empty JWT " + c + " claim")
		}
	}
	var at struct{ Iat, Exp int64 }
	if decode(raw, &at) != nil {
		return who, bad("iat and exp must be whole seconds")
	}
	switch now := s.o.Now().Unix(); {
	case at.Exp-at.Iat != 300:
		return who, bad("exp must be five minutes after iat")
	case at.Exp < now || at.Iat > now+60:
		return who, bad("the JWT is not of now")
	case claims.Text("reason_for_request") != "directcare":
		return who, bad("reason_for_request must be directcare")
	case claims.Text("requested_scope") != scope:
		return who, bad("requested_scope must be " + scope)
	case s.o.Base != "" && strings.TrimRight(claims.Text("aud"), "/") != strings.TrimRight(s.o.Base, "/"):
		return who, bad("aud must be this system's service root")
	}
	return readWho(claims)
}

func readWho(claims fhir.Value) (who Caller, err error) {
	wrong := func(what string) error {
		return &refusal{http.StatusUnprocessableEntity, "INVALID_RESOURCE", what}
	}
	for claim, typ := range map[string]string{"requesting_device": "Device", "requesting_organization": "Organization", "requesting_practitioner": "Practitioner"} {
		if claims.Text(claim+".resourceType") != typ {
			return who, wrong(claim + " must be a " + typ)
		}
	}
	id := func(claim, system string) string {
		for v := range claims.All(claim + ".identifier") {
			if v.Text("system") == system {
				return v.Text("value")
			}
		}
		return ""
	}
	var name fhir.HumanName
	_ = claims.Get("requesting_practitioner.name").Decode(&name)
	who.Issuer = claims.Text("iss")
	who.Requester = connector.Requester{
		UserID: claims.Text("sub"), UserName: strings.Join(slices.Concat(name.Prefix, name.Given, []string{name.Family}), " "),
		SDSUserID: id("requesting_practitioner", fhir.SystemSDSUser), SDSRoleID: id("requesting_practitioner", fhir.SystemSDSRole),
		OrganisationODS: id("requesting_organization", fhir.SystemODS), OrgName: claims.Text("requesting_organization.name"), Purpose: "TREAT",
	}
	switch {
	case claims.Text("requesting_practitioner.id") != who.UserID:
		return who, bad("sub must be the id of requesting_practitioner")
	case name.Family == "":
		return who, wrong("requesting_practitioner needs a name")
	case who.SDSUserID == "" || who.SDSRoleID == "":
		return who, wrong("requesting_practitioner needs SDS user and role ids, or UNK")
	case who.OrganisationODS == "":
		return who, wrong("requesting_organization needs its ODS code")
	}
	return who, nil
}

// A query is one thing that can be asked for.
type query struct {
	name, list, title string
	headings          []dataset.Heading
	parts             map[string]string // part parameter -> value[x]
}

// GP Connect 1.6 accessrecord_structured_development_list.html
var queries = []query{
	{"includeAllergies", "886921000000105", "Allergies and adverse reactions", []dataset.Heading{dataset.Allergies}, map[string]string{"includeResolvedAllergies": "valueBoolean"}},
	{"includeMedication", "933361000000108", "Medications and medical devices", []dataset.Heading{dataset.Medications}, map[string]string{"includePrescriptionIssues": "valueBoolean", "medicationSearchFromDate": "valueDate"}},
	{"includeProblems", "717711000000103", "Problems", []dataset.Heading{dataset.Problems}, map[string]string{"filterStatus": "valueCode", "filterSignificance": "valueCode"}},
	{"includeImmunisations", "1102181000000102", "Immunisations", []dataset.Heading{dataset.Immunisations}, map[string]string{"includeNotGiven": "valueBoolean", "includeStatus": "valueBoolean"}},
	{"includeUncategorisedData", "826501000000100", "Miscellaneous record", []dataset.Heading{dataset.Observations, dataset.SocialContext, dataset.FamilyHistory}, map[string]string{"uncategorisedDataSearchPeriod": "valuePeriod"}},
	{"includeInvestigations", "887191000000108", "Investigations and results", []dataset.Heading{dataset.Results}, map[string]string{"investigationSearchPeriod": "valuePeriod"}},
	{"includeReferrals", "792931000000107", "Outbound referral", []dataset.Heading{dataset.Referrals}, map[string]string{"referralSearchPeriod": "valuePeriod"}},
	{"includeDiaryEntries", "714311000000108", "Patient recall administration", []dataset.Heading{dataset.CarePlans}, map[string]string{"diaryEntriesSearchDate": "valueDate"}},
	{"includeConsultations", "1149501000000101", "List of consultations", []dataset.Heading{dataset.Encounters}, map[string]string{"consultationSearchPeriod": "valuePeriod", "includeNumberOfMostRecent": "valuePositiveInt"}},
}

// A question is what the body asked for.
type question struct {
	nhs           fhir.NHSNumber
	asked         map[string]bool
	resolved      bool // allergies that have ended too
	withoutIssues bool
	from          map[string]string // by parameter: the first day
	to            map[string]string
	most          int // of the most recent consultations; 0 all
	status        string
	significance  string
	notGiven      bool
	unknown       []string
}

func (q *question) headings() []dataset.Heading {
	out := []dataset.Heading{dataset.Demographics}
	for _, k := range queries {
		if q.asked[k.name] {
			out = append(out, k.headings...)
		}
	}
	return out
}

// Parts that may not stand beside consultations or problems, since they would tear apart what belongs together.
var narrowing = map[string]bool{"medicationSearchFromDate": true, "uncategorisedDataSearchPeriod": true, "referralSearchPeriod": true,
	"diaryEntriesSearchDate": true, "includeNotGiven": true, "includeStatus": true}

// readQuestion reads Parameters. What is not known here is said in the answer; what is wrong refuses the request.
func readQuestion(body []byte, now time.Time) (*question, error) {
	v, err := fhir.ParseValue(body)
	if err != nil || v.Text("resourceType") != "Parameters" {
		return nil, &refusal{http.StatusUnprocessableEntity, "INVALID_RESOURCE", "the body must be a Parameters resource"}
	}
	q := &question{asked: map[string]bool{}, from: map[string]string{}, to: map[string]string{}}
	given := map[string]bool{}
	for p := range v.All("parameter") {
		name := p.Text("name")
		if name == "patientNHSNumber" {
			if fhir.CanonicalSystem(p.Text("valueIdentifier.system")) != fhir.SystemNHSNumber || !q.nhs.IsZero() {
				return nil, invalid("patientNHSNumber must be given once, with the NHS number's system")
			}
			if q.nhs, err = fhir.ParseNHSNumber(p.Text("valueIdentifier.value")); err != nil {
				return nil, &refusal{http.StatusBadRequest, "INVALID_NHS_NUMBER", ""}
			}
			continue
		}
		i := slices.IndexFunc(queries, func(k query) bool { return k.name == name })
		if i < 0 {
			q.unknown = append(q.unknown, name)
			continue
		}
		if q.asked[name] && name != "includeProblems" {
			return nil, invalid(name + " is given twice")
		}
		q.asked[name] = true
		if err := q.readParts(&queries[i], p, given, now); err != nil {
			return nil, err
		}
	}
	if q.nhs.IsZero() {
		return nil, invalid("patientNHSNumber is missing")
	}
	if q.asked["includeConsultations"] || q.asked["includeProblems"] {
		for part := range given {
			if narrowing[part] || q.asked["includeConsultations"] && strings.HasPrefix(part, "filter") {
				return nil, invalid(part + " is not permitted together with consultations or problems")
			}
		}
	}
	return q, nil
}

func (q *question) readParts(k *query, p fhir.Value, given map[string]bool, now time.Time) error {
	for part := range p.All("part") {
		n := part.Text("name")
		want, known := k.parts[n]
		if !known {
			q.unknown = append(q.unknown, k.name+"."+n)
			continue
		}
		val := part.Member(want)
		if !val.Exists() {
			return invalid(k.name + "." + n + " needs a " + want)
		}
		given[n] = true
		if err := q.part(k.name, n, val, now); err != nil {
			return err
		}
	}
	switch {
	case k.name == "includeAllergies" && !given["includeResolvedAllergies"]:
		return invalid("includeAllergies needs includeResolvedAllergies")
	case given["consultationSearchPeriod"] && given["includeNumberOfMostRecent"]:
		return invalid("consultationSearchPeriod and includeNumberOfMostRecent are both given")
	}
	return nil
}

func (q *question) part(name, part string, val fhir.Value, now time.Time) error {
	today := now.In(fhir.London).Format(time.DateOnly)
	day := func(s string, ok bool) error {
		if _, err := time.Parse(time.DateOnly, s); s != "" && (err != nil || !ok) {
			return invalid(name + "." + part + " must be of whole days on the right side of today")
		}
		return nil
	}
	switch part {
	case "includeResolvedAllergies":
		q.resolved = val.Bool()
	case "includePrescriptionIssues":
		q.withoutIssues = !val.Bool()
	case "includeNotGiven":
		q.notGiven = val.Bool()
	case "includeNumberOfMostRecent":
		if val.Decode(&q.most) != nil || q.most < 1 {
			return invalid(name + "." + part + " must be 1 or more")
		}
	case "filterStatus":
		if q.status = val.Str(); q.status != "active" && q.status != "inactive" {
			return invalid(name + "." + part + " must be active or inactive")
		}
	case "filterSignificance":
		if q.significance = val.Str(); q.significance != "major" && q.significance != "minor" {
			return invalid(name + "." + part + " must be major or minor")
		}
	case "medicationSearchFromDate":
		q.from[name] = val.Str()
		return day(val.Str(), val.Str() <= today)
	case "diaryEntriesSearchDate":
		q.to[name] = val.Str()
		return day(val.Str(), val.Str() >= today)
	default:
		if strings.HasSuffix(part, "SearchPeriod") {
			start, end := val.Text("start"), val.Text("end")
			q.from[name], q.to[name] = start, end
			if err := day(start, start <= today); err != nil {
				return err
			}
			if end != "" && start > end {
				return invalid(name + "." + part + " ends before it starts")
			}
			return day(end, end <= today)
		}
	}
	return nil
}
