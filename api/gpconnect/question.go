package gpconnect

import (
	"slices"
	"strings"
	"time"

	"tombolo/fhir"
)

// A Query is one thing that the structured record can be asked for: an include parameter, with the list that answers it.
type Query struct {
	Name, Code, Title string
	since             int               // the minor version that brought it
	parts             map[string]string // part parameter -> value[x]
	profiles          []string          // of what answers it
}

// EndedAllergies is the list that answers includeAllergies beside its own, if includeResolvedAllergies.
var EndedAllergies = Query{Name: "includeAllergies", Code: "1103671000000101", Title: "Ended allergies"}

// Queries are all of them, in the order in which they are answered.
//
// GP Connect 1.6 accessrecord_structured_development_list.html
var Queries = []Query{
	{"includeAllergies", "886921000000105", "Allergies and adverse reactions", 2, map[string]string{"includeResolvedAllergies": "valueBoolean"}, []string{"AllergyIntolerance"}},
	{"includeMedication", "933361000000108", "Medications and medical devices", 2, map[string]string{"includePrescriptionIssues": "valueBoolean", "medicationSearchFromDate": "valueDate"},
		[]string{"Medication", "MedicationStatement", "MedicationRequest"}},
	{"includeProblems", "717711000000103", "Problems", 3, map[string]string{"filterStatus": "valueCode", "filterSignificance": "valueCode"}, []string{"ProblemHeader-Condition"}},
	{"includeImmunisations", "1102181000000102", "Immunisations", 3, map[string]string{"includeNotGiven": "valueBoolean", "includeStatus": "valueBoolean"}, []string{"Immunization"}},
	{"includeUncategorisedData", "826501000000100", "Miscellaneous record", 3, map[string]string{"uncategorisedDataSearchPeriod": "valuePeriod"}, []string{"Observation"}},
	{"includeInvestigations", "887191000000108", "Investigations and results", 5, map[string]string{"investigationSearchPeriod": "valuePeriod"}, []string{"DiagnosticReport", "Specimen", "ProcedureRequest"}},
	{"includeReferrals", "792931000000107", "Outbound referral", 5, map[string]string{"referralSearchPeriod": "valuePeriod"}, []string{"ReferralRequest"}},
	{"includeDiaryEntries", "714311000000108", "Patient recall administration", 5, map[string]string{"diaryEntriesSearchDate": "valueDate"}, nil},
	{"includeConsultations", "1149501000000101", "List of consultations", 3, map[string]string{"consultationSearchPeriod": "valuePeriod", "includeNumberOfMostRecent": "valuePositiveInt"}, []string{"Encounter"}},
}

// profilesOf are the profiles that a version speaks.
func profilesOf(minor int) []string {
	out := []string{"GPConnect-StructuredRecord-Bundle-1", "GPConnect-OperationOutcome-1"}
	for _, p := range []string{"Patient", "Organization", "Practitioner", "PractitionerRole", "Location", "List"} {
		out = append(out, "CareConnect-GPC-"+p+"-1")
	}
	for _, k := range Queries {
		for _, p := range k.profiles {
			if minor >= k.since {
				out = append(out, "CareConnect-GPC-"+p+"-1")
			}
		}
	}
	return out
}

// A Question is what the body of a request asked for.
type Question struct {
	NHS            fhir.NHSNumber
	Asked          map[string]bool // by the name of the Query
	EndedAllergies bool            // allergies that have ended too
	WithoutIssues  bool            // of prescriptions
	MostRecent     int             // of consultations; 0: all
	ProblemsOnly   string          // active, inactive; "": all
	Significance   string          // of problems: major, minor; "": all
	NotGiven       bool            // immunisations that were not given too

	from, to map[string]string // by the name of the Query: days
	unknown  []string          // parameters that are not known here
}

// Within reports whether a day (2006-01-02) lies in the period that a query asks for. What has no date is never narrowed away.
func (q *Question) Within(query, day string) bool {
	from, to := q.from[query], q.to[query]
	return day == "" || (from == "" || day >= from) && (to == "" || day <= to)
}

// Active reports whether a medicine, of which start and end are days or "", counts as active on or after the day from which medicines are asked for.
//
// GP Connect 1.6 accessrecord_structured_development_retrieve_patient_record.html#medications
func (q *Question) Active(start, end string, acute bool) bool {
	if end == "" && acute {
		end = start
	}
	from := q.from["includeMedication"]
	return from == "" || end == "" || end[:min(len(from), len(end))] >= from[:min(len(from), len(end))]
}

// Parts that may not stand beside consultations or problems, since they would tear apart what belongs together.
var narrowing = map[string]bool{"medicationSearchFromDate": true, "uncategorisedDataSearchPeriod": true, "referralSearchPeriod": true,
	"diaryEntriesSearchDate": true, "includeNotGiven": true, "includeStatus": true}

// readQuestion reads Parameters. What is not known here is said in the answer; what is wrong refuses the request.
func readQuestion(body []byte, now time.Time, minor int) (*Question, error) {
	v, err := fhir.ParseValue(body)
	if err != nil {
		return nil, BadRequest("the body is not JSON")
	}
	if v.Text("resourceType") != "Parameters" {
		return nil, InvalidResource("the body must be a Parameters resource")
	}
	q := &Question{Asked: map[string]bool{}, from: map[string]string{}, to: map[string]string{}}
	given := map[string]bool{}
	for p := range v.All("parameter") {
		name := p.Text("name")
		if name == "patientNHSNumber" {
			if p.Text("valueIdentifier.system") != fhir.SystemNHSNumber || !q.NHS.IsZero() {
				return nil, InvalidParameter("patientNHSNumber must be given once, with the NHS number's system")
			}
			if q.NHS, err = fhir.ParseNHSNumber(p.Text("valueIdentifier.value")); err != nil {
				return nil, InvalidNHSNumber()
			}
			continue
		}
		i := slices.IndexFunc(Queries, func(k Query) bool { return k.Name == name && minor >= k.since })
		if i < 0 {
			q.unknown = append(q.unknown, name)
			continue
		}
		if q.Asked[name] && name != "includeProblems" {
			return nil, InvalidParameter(name + " is given twice")
		}
		q.Asked[name] = true
		if err := q.readParts(&Queries[i], p, given, now); err != nil {
			return nil, err
		}
	}
	if q.NHS.IsZero() {
		return nil, InvalidParameter("patientNHSNumber is missing")
	}
	return q, q.checkCombination(given)
}

func (q *Question) checkCombination(given map[string]bool) error {
	if !q.Asked["includeConsultations"] && !q.Asked["includeProblems"] {
		return nil
	}
	for part := range given {
		if narrowing[part] || q.Asked["includeConsultations"] && strings.HasPrefix(part, "filter") {
			return InvalidParameter(part + " is not permitted together with consultations or problems")
		}
	}
	return nil
}

func (q *Question) readParts(k *Query, p fhir.Value, given map[string]bool, now time.Time) error {
	for part := range p.All("part") {
		n := part.Text("name")
		want, known := k.parts[n]
		if !known {
			q.unknown = append(q.unknown, k.Name+"."+n)
			continue
		}
		val := part.Member(want)
		if raw := string(val.Raw()); !val.Exists() || want == "valueBoolean" && raw != "true" && raw != "false" {
			return InvalidParameter(k.Name + "." + n + " needs a " + want)
		}
		given[n] = true
		if err := q.part(k.Name, n, val, now); err != nil {
			return err
		}
	}
	switch {
	case k.Name == "includeAllergies" && !given["includeResolvedAllergies"]:
		return InvalidParameter("includeAllergies needs includeResolvedAllergies")
	case given["consultationSearchPeriod"] && given["includeNumberOfMostRecent"]:
		return InvalidParameter("consultationSearchPeriod and includeNumberOfMostRecent are both given")
	}
	return nil
}

func (q *Question) part(name, part string, val fhir.Value, now time.Time) error {
	today := now.In(fhir.London).Format(time.DateOnly)
	day := func(s string, ok bool) error {
		if _, err := time.Parse(time.DateOnly, s); err != nil || !ok {
			return InvalidParameter(name + "." + part + " must be of whole days on the right side of today")
		}
		return nil
	}
	oneOf := func(words ...string) error {
		if !slices.Contains(words, val.Str()) {
			return InvalidParameter(name + "." + part + " must be " + strings.Join(words, " or "))
		}
		return nil
	}
	switch part {
	case "includeResolvedAllergies":
		q.EndedAllergies = val.Bool()
	case "includePrescriptionIssues":
		q.WithoutIssues = !val.Bool()
	case "includeNotGiven":
		q.NotGiven = val.Bool()
	case "includeNumberOfMostRecent":
		if val.Decode(&q.MostRecent) != nil || q.MostRecent < 1 {
			return InvalidParameter(name + "." + part + " must be 1 or more")
		}
	case "filterStatus":
		q.ProblemsOnly = val.Str()
		return oneOf("active", "inactive")
	case "filterSignificance":
		q.Significance = val.Str()
		return oneOf("major", "minor")
	case "medicationSearchFromDate":
		q.from[name] = val.Str()
		return day(val.Str(), val.Str() <= today)
	case "diaryEntriesSearchDate":
		q.to[name] = val.Str()
		return day(val.Str(), val.Str() >= today)
	default:
		if strings.HasSuffix(part, "SearchPeriod") {
			return q.period(name, val, today, day)
		}
	}
	return nil
}

// period reads a period of whole days of the past, of which one end may be open.
func (q *Question) period(name string, val fhir.Value, today string, day func(string, bool) error) error {
	start, end := val.Text("start"), val.Text("end")
	q.from[name], q.to[name] = start, end
	if start != "" || end == "" {
		if err := day(start, start <= today); err != nil {
			return err
		}
	}
	if end == "" {
		return nil
	}
	return day(end, end <= today && start <= end)
}
