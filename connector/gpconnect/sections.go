package gpconnect

import (
	"iter"
	"regexp"
	"strings"

	"tombolo/dataset"
	"tombolo/fhir"
)

func listForm() *form {
	return &form{to: "List", profile: "UKCore-List", members: members("status mode title code subject encounter date source orderedBy emptyReason", shape{
		"identifier": many("identifier"), "note": many("note"), "entry": many("entry"),
	})}
}

// A query is one thing that a practice can be asked for, the list that answers it and the headings that it fills.
type query struct {
	name     string // parameter
	list     string // SNOMED code of the list
	plain    string
	headings []dataset.Heading
	// spread: the list holds several headings' entries, and that none of them is of one heading does not mean that the source has none.
	spread  bool
	since   int    // minor version of the specification that first had it
	profile string // of what it returns; a system that lists it gives it, whatever its version
}

// GP Connect 1.6 accessrecord_structured_development_list.html
var queries = []query{
	{"includeAllergies", "886921000000105", "allergies", []dataset.Heading{dataset.Allergies}, false, 2, "CareConnect-GPC-AllergyIntolerance-1"},
	{"includeMedication", "933361000000108", "medication", []dataset.Heading{dataset.Medications}, false, 2, "CareConnect-GPC-MedicationStatement-1"},
	{"includeConsultations", "1149501000000101", "consultations", []dataset.Heading{dataset.Encounters}, false, 3, "CareConnect-GPC-Encounter-1"},
	{"includeProblems", "717711000000103", "problems", []dataset.Heading{dataset.Problems}, false, 3, "CareConnect-GPC-ProblemHeader-Condition-1"},
	{"includeImmunisations", "1102181000000102", "immunisations", []dataset.Heading{dataset.Immunisations}, false, 3, "CareConnect-GPC-Immunization-1"},
	{"includeUncategorisedData", "826501000000100", "other coded entries", []dataset.Heading{dataset.Observations, dataset.SocialContext, dataset.FamilyHistory}, true, 3, "CareConnect-GPC-Observation-1"},
	{"includeInvestigations", "887191000000108", "investigations", []dataset.Heading{dataset.Results}, false, 4, "CareConnect-GPC-DiagnosticReport-1"},
	{"includeReferrals", "792931000000107", "referrals", []dataset.Heading{dataset.Referrals}, false, 4, "CareConnect-GPC-ReferralRequest-1"},
	{"includeDiaryEntries", "714311000000108", "diary entries", []dataset.Heading{dataset.CarePlans}, false, 4, "CareConnect-GPC-ProcedureRequest-1"},
}

const endedAllergies = "1103671000000101"

// secondary are the words by which the secondary lists name what is in them ("problems-medications-related-to-problems").
var secondary = []struct {
	word    string
	heading dataset.Heading
}{
	{"medications-", dataset.Medications}, {"allergies-", dataset.Allergies}, {"uncategorised-data-", dataset.Observations},
	{"immunisations-", dataset.Immunisations}, {"immunizations-", dataset.Immunisations}, {"investigations-", dataset.Results},
	{"referrals-", dataset.Referrals}, {"outbound-referrals-", dataset.Referrals}, {"diary-entries-", dataset.CarePlans},
	{"consultations-related", dataset.Encounters}, {"linked-problems-", dataset.Problems}, {"problems-", dataset.Problems},
}

type kind struct {
	heading   dataset.Heading
	secondary bool
}

// sectionOf says which heading a list of this code answers for; nil for lists that are part of the record itself, as those of a
// consultation are.
func sectionOf(code string) *kind {
	for i := range queries {
		if queries[i].list == code {
			return &kind{heading: queries[i].headings[0]}
		}
	}
	if code == endedAllergies || code == "TBD" { // the specification's older examples had no code yet
		return &kind{heading: dataset.Allergies}
	}
	rest, fromProblems := strings.CutPrefix(code, "problems-")
	if !fromProblems {
		var fromConsultations bool
		if rest, fromConsultations = strings.CutPrefix(code, "consultations-"); !fromConsultations {
			return nil
		}
	}
	for _, s := range secondary {
		if strings.HasPrefix(rest, s.word) {
			return &kind{heading: s.heading, secondary: true}
		}
	}
	return &kind{secondary: true}
}

var sinceDate = regexp.MustCompile(`\b\d{1,2}-[A-Z][a-z]{2}-\d{4}\b`)

// sectionIn reads a list of a query's answer; nil if it is a list of the record itself.
func sectionIn(list fhir.Value) *Section {
	var k *kind
	var code string
	for v := range list.All("code.coding") {
		if code = v.Text("code"); sectionOf(code) != nil {
			k = sectionOf(code)
			break
		}
	}
	if k == nil {
		return nil
	}
	s := &Section{Code: code, Title: list.Text("title"), Heading: k.heading, Secondary: k.secondary}
	for x := range list.All("extension") {
		if strings.HasSuffix(x.Text("url"), "ListWarningCode-1") {
			s.Warnings = append(s.Warnings, x.Text("valueCode"))
		}
	}
	for n := range list.All("note.text") {
		if d := sinceDate.FindString(n.Str()); d != "" {
			s.Since = d
		}
	}
	for x := range list.All("emptyReason.coding.code") {
		s.Empty = s.Empty || x.Str() == "no-content-recorded" || x.Str() == "nocontentrecorded"
	}
	return s
}

// classify gives a resource the heading that its type alone does not say, as far as it can be told from the resource itself.
func (c *converter) classify(v fhir.Value) {
	switch e := c.cur; e.from {
	case "DiagnosticReport":
		c.hold("result", v.All("result.reference"))
	case "List":
		c.hold("entry.item", v.All("entry.item.reference"))
	case "ProcedureRequest":
		// A diary entry is planned care; anything else is a request for a test.
		if e.heading = dataset.Results; v.Text("intent") == "plan" {
			e.heading = dataset.CarePlans
		}
	case "Observation":
		e.heading = observationHeading(v)
		for rel := range v.All("related") {
			if rel.Text("type") == "has-member" {
				c.hold("related.target", rel.All("target.reference"))
			}
		}
	}
}

// hold notes of what the entry consists.
func (c *converter) hold(where string, refs iter.Seq[fhir.Value]) {
	for v := range refs {
		if ref := v.Str(); refLike(ref) {
			c.cur.parts, c.cur.where = append(c.cur.parts, c.plain(ref)), where
		}
	}
}

// Codes that general practice records among its uncategorised data and that the data set reads under a heading of its own.
var headingOfCode = map[string]dataset.Heading{
	"394595002": dataset.Results, // Pathology, as category of a test result
	"77176002":  dataset.SocialContext, "8517006": dataset.SocialContext, "266919005": dataset.SocialContext,
	"8392000": dataset.SocialContext, "65568007": dataset.SocialContext, "160603005": dataset.SocialContext,
	"449868002": dataset.SocialContext, "229819007": dataset.SocialContext, "365981007": dataset.SocialContext,
	"160573003": dataset.SocialContext, "897148007": dataset.SocialContext, "105542008": dataset.SocialContext,
	"57177007": dataset.FamilyHistory, "416471007": dataset.FamilyHistory, "281666001": dataset.FamilyHistory,
	"430679000": dataset.FamilyHistory, "160274005": dataset.FamilyHistory,
}

// commentNote is the code under which practices' systems put free text: in a consultation or beside a test result.
const commentNote = "37331000000100"

func observationHeading(v fhir.Value) dataset.Heading {
	for _, path := range [...]string{"category.coding", "code.coding"} {
		for k := range v.All(path) {
			if k.Text("code") == commentNote && v.Member("context").Exists() {
				return dataset.Encounters // the words of a consultation
			}
			if k.Text("system") != fhir.SystemSNOMED {
				continue
			}
			if h, ok := headingOfCode[k.Text("code")]; ok {
				return h
			}
			d := strings.ToLower(k.Text("display"))
			for _, p := range [...]string{"family history", "fh: ", "no family history", "no fh: "} {
				if strings.HasPrefix(d, p) {
					return dataset.FamilyHistory
				}
			}
		}
	}
	return ""
}
