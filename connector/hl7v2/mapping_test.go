package hl7v2

import (
	"encoding/csv"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"tombolo/connector"
	"tombolo/fhir"
)

// dialect is the trust's feed with a dialect over the base.
func dialect(t *testing.T, yaml string) Options {
	t.Helper()
	m, err := ParseMapping([]byte(yaml))
	if err != nil {
		t.Fatal(err)
	}
	o := trust
	o.Mapping = m
	return o
}

const admission = "MSH|^~\\&|PAS|RX1|||20260302101500||ADT^A01|1|P|2.4\rEVN||20260302101500\r" +
	"PID|1||T1^^^RX1^PI||Hart^Rosalind||19510417|7||||||||||||VN9\rPV1|1|Z|Ward 1|||||||||||||||||||||||||||||||||||||||||20260302\rZU1|20260301|Oncology|X\rZU1|20260302|Renal|Y\r"

func one(t *testing.T, msg string, o Options) connector.Delivery {
	t.Helper()
	made := deliveries([]byte(msg), o)
	if len(made) != 1 || made[0].Rejected != nil {
		t.Fatalf("gave %+v", made)
	}
	return made[0]
}

func resourceOf(t *testing.T, d connector.Delivery, typ string) *fhir.Resource {
	t.Helper()
	i := slices.IndexFunc(d.Content, func(r *fhir.Resource) bool { return r.Type() == typ })
	if i < 0 {
		t.Fatalf("no %s was made", typ)
	}
	return d.Content[i]
}

func TestADialectChangesWhatItNamesAndNothingElse(t *testing.T) {
	o := dialect(t, `mapping: rx1-pas/3
authority: NORTH
systems: {NORTH: https://rx1.example/mrn}
fields:
  PV1-19: PID-20
tables:
  sex: {7: other}
  patient-class: {Z: IMP inpatient encounter}
  ward-kind: {codes: {ONCOLOGY: onc Cancer care}, system: https://rx1.example/kind}
segments:
  PID:
    Patient: {birthDate: none}
  ZU1:
    Encounter:
      serviceType: ZU1-2 as concept by ward-kind
      length: {value: ZU1-1 as decimal, unit: "'d'"}
ignore: ZZZ
`)
	d := one(t, admission+"ZZZ|x\r", o)
	p, e := resourceOf(t, d, "Patient"), resourceOf(t, d, "Encounter")
	for what, c := range map[string][2]string{
		"a local code":                      {p.Text("gender"), "other"},
		"an element taken out":              {p.Text("birthDate"), ""},
		"a name that the dialect leaves":    {p.Text("name.family"), "Hart"},
		"the visit number, moved":           {e.ID(), "VN9"},
		"a local class":                     {e.Text("class.code"), "IMP"},
		"the first of two local segments":   {e.Text("serviceType.coding.display"), "Cancer care"},
		"the system of a local table":       {e.Text("serviceType.coding.system"), "https://rx1.example/kind"},
		"an object with a constant in it":   {e.Text("length.unit"), "d"},
		"the name of what made it":          {d.Map, "hl7v2-adt" + mapVersion + "+rx1-pas/3"},
		"the authority of unmarked numbers": {e.Text("identifier.system"), "https://rx1.example/mrn"},
	} {
		if c[0] != c[1] {
			t.Errorf("%s is %q, want %q", what, c[0], c[1])
		}
	}
	for _, i := range d.Issues {
		if strings.Contains(i.Text, "ZZZ") {
			t.Errorf("what the dialect ignores is told of: %v", i)
		}
	}
	plain := one(t, admission, trust) // the base is as it was
	if got := resourceOf(t, plain, "Patient").Text("birthDate"); got != "1951-04-17" {
		t.Errorf("the base has been changed by a dialect: birthDate %q", got)
	}
	if got := resourceOf(t, plain, "Encounter").Text("class.code"); got != "Z" {
		t.Errorf("the base has been changed by a dialect: class %q", got)
	}
}

func TestALocalSegmentCanMakeAResourceOfItsOwn(t *testing.T) {
	d := one(t, admission, dialect(t, `mapping: x/1
segments:
  ZU1:
    Flag: {id: ZU1-2, status: "'active'", code: ZU1-2 as text, period: {start: ZU1-1 as date}}
`))
	var got []string
	for _, r := range d.Content {
		if r.Type() == "Flag" {
			got = append(got, r.ID()+" "+r.Text("code.text")+" "+r.Text("period.start")+" "+r.Text("subject.reference"))
		}
	}
	if want := []string{"ZU1.Oncology Oncology 2026-03-01 Patient/T1", "ZU1.Renal Renal 2026-03-02 Patient/T1"}; !slices.Equal(got, want) {
		t.Errorf("made %q, want %q", got, want)
	}
}

func TestALocalEventIsTreatedAsTheOneItIs(t *testing.T) {
	o := dialect(t, "mapping: x/1\nevents: {ADT^Z01: A03}\n")
	if got := resourceOf(t, one(t, strings.Replace(admission, "ADT^A01", "ADT^Z01", 1), o), "Encounter").Text("status"); got != "finished" {
		t.Errorf("the visit is %q", got)
	}
}

// Every mistake in a dialect is told with its line and column.
func TestMistakesInADialectAreToldWithTheirPlace(t *testing.T) {
	for yaml, want := range map[string]string{
		"":                                   "line 1, column 1",
		"a":                                  "line 1, column 1: a mapping file is a list",
		"mapping: x/1\nfeilds: {}":           `line 2, column 1: there is no key "feilds" here: did you mean "fields"?`,
		"mapping: x/1\nmapping: y":           "line 2, column 1",
		"systems: {A: b}":                    "give the dialect a name",
		"mapping: x/1\nfields: {PID: PID-3}": `line 2, column 15: "PID" is not a field that can be moved`,
		"mapping: x/1\nfields: {PID-3: elsewhere}":                                   `line 2, column 17: "elsewhere" is not a field`,
		"mapping: x/1\ntables: {sex: {7: [a]}}":                                      "line 2, column 19",
		"mapping: x/1\nsegments: {PIDX: {}}":                                         `"PIDX" is not a segment's name`,
		"mapping: x/1\nsegments: {PID: {Patent: {}}}":                                `line 2, column 18: "Patent" is not a FHIR R4 resource type`,
		"mapping: x/1\nsegments:\n  PID:\n    Patient:\n      gender: PID-8 by sexx": `line 5, column 15: there is no table "sexx": did you mean "sex"?`,
		"mapping: x/1\nsegments: {PID: {Patient: {gender: PID-8 as sexx}}}":          `nothing is read as "sexx"`,
		"mapping: x/1\nsegments: {PID: {Patient: {gender: PID-8 with sex}}}":         `"with" is not part of the language`,
		"mapping: x/1\nsegments: {PID: {Patient: {gender: PID-8 as}}}":               `a word is missing after "as"`,
		"mapping: x/1\nsegments: {PID: {Patient: {gender: \"'x\"}}}":                 "the quote is not closed",
		"mapping: x/1\nsegments: {PID: {Patient: {Gender: PID-8}}}":                  `"Gender" is not an element's name`,
		"mapping: x/1\nevents: {ADT^Z1: A99}":                                        `ADT has no event "A99"`,
		"mapping: x/1\nevents: {XXX^Z1: A01}":                                        "not a message and event",
		"mapping: &a x/1":                                                            "anchors",
		"mapping: x/1\nsystems: []":                                                  "line 2, column 10: keys and values are wanted here",
	} {
		_, err := ParseMapping([]byte(yaml))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q gives %v, want %q", yaml, err, want)
		}
	}
}

func FuzzParseMapping(f *testing.F) {
	f.Add([]byte("mapping: x/1\nfields: {PV1-19: PID-18}\nsegments: {ZU1: {Encounter: {type: [ZU1-2* as concept by sex | 'x']}}}"))
	f.Add([]byte("mapping: x/1\ntables: {sex: {7: other}}\nevents: {ADT^Z01: A08}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := ParseMapping(data)
		if err != nil {
			return
		}
		o := trust
		o.Mapping = m
		for range Deliveries([]byte(admission), o) { // whatever the dialect says, no panic escapes and nothing is lost
		}
	})
}

// tablesOf are the base's tables beside the concept maps of the HL7 v2-to-FHIR guide, and where they differ, why.
var tablesOf = map[string]struct {
	table  string
	differ map[string]string
}{
	"AdministrativeSex": {"sex", nil},
	"PatientClass[EncounterClass]": {"patient-class", map[string]string{
		"R": "a recurring patient is ambulatory", "B": "obstetrics is inpatient", "C": "not a kind of visit in the UK", "N": "not a visit", "U": "kept under the HL7 table"}},
	"NameType":                  {"name-use", map[string]string{"D": "what people are called is usual", "BAD": "", "C": "an adopted name is the usual one", "I": "", "NB": "", "P": "", "R": "", "S": "", "T": "", "U": "", "A": "", "M": "", "REL": "", "F": "", "K": "", "MSK": "", "NAV": "", "NOUSE": "", "TEMP": ""}},
	"MaritalStatus":             {"marital-status", map[string]string{"A": "", "E": "", "P": "", "C": "", "G": "", "R": "", "O": "", "U": "", "B": "", "T": ""}},
	"ResultStatus[Non-Queries]": {"report-status", map[string]string{"N": "", "I": "no results available yet is registered", "R": "not yet verified is preliminary", "M": ""}},
	"OrderStatus":               {"order-status", nil},
	"OrderControlCode[ServiceRequest.status]": {"order-control", map[string]string{
		"CA": "a request to cancel is shown as what it asks", "HD": "a request to hold is shown as what it asks"}},
	"FillerStatusCodes[Appointment]":                  {"appointment-status", nil},
	"AllergenType[AllergyIntoleranceCategory]":        {"allergy-category", map[string]string{"MA": "an allergy of unknown kind has none", "MC": "", "LA": "pollen is of the environment", "AA": "an animal is of the environment"}},
	"AllergySeverity[AllergyIntolerance.criticality]": {"allergy-criticality", nil},
	"CompletionStatus":                                {"completion", nil},
}

// The base agrees with the concept maps of the HL7 v2-to-FHIR guide, but where it says why not.
func TestTablesAgreeWithTheHL7ConceptMaps(t *testing.T) {
	root := filepath.Join(sharedData(t, "05-hl7v2"), "v2-to-fhir-mappings", "mappings", "codesystems")
	for name, ours := range tablesOf {
		rows := readCSV(t, filepath.Join(root, "HL7 Concept Map_ "+name+" - Sheet1.csv"))
		tbl := Base().tables[ours.table]
		if tbl == nil {
			t.Errorf("there is no table %s", ours.table)
			continue
		}
		agree, differ := 0, 0
		for _, row := range rows[2:] {
			if len(row) < 7 || row[0] == "" || row[6] == "" {
				continue
			}
			m, _ := tbl.find(row[0])
			if strings.EqualFold(m.code, strings.TrimSpace(row[6])) {
				agree++
				continue
			}
			if _, ok := ours.differ[row[0]]; ok {
				differ++
				continue
			}
			t.Errorf("%s: %s is %q in the guide and %q here", name, row[0], row[6], m.code)
		}
		t.Logf("%-50s %2d codes agree, %d differ for a reason", name, agree, differ)
	}
}

func readCSV(t *testing.T, path string) [][]string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r := csv.NewReader(f)
	r.FieldsPerRecord, r.LazyQuotes = -1, true
	rows, err := r.ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

// structural are elements that Go fills, by resource type: identity, status, grouping, and values typed by another field.
var structural = map[string]string{
	"Patient": "identifier link", "Encounter": "status identifier subject period location basedOn serviceProvider diagnosis", "DiagnosticReport": "identifier status subject encounter basedOn specimen resultsInterpreter performer category result presentedForm conclusion",
	"Observation": "status subject value valueQuantity valueString valueCodeableConcept valueDateTime valueRange valueRatio valueTime note referenceRange encounter category specimen dataAbsentReason component", "ServiceRequest": "identifier status intent subject encounter specimen note basedOn",
	"Condition": "code category clinicalStatus encounter subject identifier", "Procedure": "code identifier encounter subject", "AllergyIntolerance": "patient identifier", "Appointment": "identifier status start end participant comment description cancelationReason",
	"DocumentReference": "identifier status docStatus date relatesTo content description context subject custodian masterIdentifier", "RelatedPerson": "patient identifier", "Specimen": "subject",
	"Immunization": "identifier status patient primarySource encounter note occurrenceString", "MedicationRequest": "identifier status intent subject encounter note",
}

var mappedElement = regexp.MustCompile(`^([a-z][A-Za-z]*)`)

// How far the base fills what the segment maps of the guide fill, element by element: counted, so that a step back shows.
func TestSegmentsFillWhatTheHL7SegmentMapsFill(t *testing.T) {
	root := filepath.Join(sharedData(t, "05-hl7v2"), "v2-to-fhir-mappings", "mappings", "segments")
	files, _ := filepath.Glob(filepath.Join(root, "*.csv"))
	all, filled := 0, 0
	named := regexp.MustCompile(`_ ([A-Z0-9]{3})\[([A-Za-z]+)\]`)
	for _, file := range files {
		g := named.FindStringSubmatch(filepath.Base(file))
		if g == nil || Base().blocks[g[2]] == nil {
			continue
		}
		ours := map[string]bool{}
		for _, b := range Base().blocks[g[2]] {
			for _, e := range b.elements {
				ours[e.name] = true
			}
		}
		for name := range strings.FieldsSeq(structural[g[2]]) {
			ours[name] = true
		}
		theirs := map[string]bool{}
		for _, row := range readCSV(t, file)[2:] {
			if len(row) < 10 {
				continue
			}
			if m := mappedElement.FindStringSubmatch(strings.TrimSpace(row[9])); m != nil && m[1] != "extension" && m[1] != "id" && m[1] != "resourceType" {
				theirs[m[1]] = true
			}
		}
		var missing []string
		n := 0
		for name := range theirs {
			switch {
			case ours[name], ours[name+"DateTime"], ours[name+"CodeableConcept"], ours[name+"Boolean"]:
				n++
			default:
				missing = append(missing, name)
			}
		}
		all, filled = all+len(theirs), filled+n
		slices.Sort(missing)
		t.Logf("%s[%s]: %d of %d elements%s", g[1], g[2], n, len(theirs), strings.TrimRight("; not filled: "+strings.Join(missing, " "), ": "))
	}
	t.Logf("%d of %d elements of the guide's segment maps are filled", filled, all)
	if filled*100 < all*80 {
		t.Errorf("only %d of %d elements are filled", filled, all)
	}
}

// The guide's own sample of a document message, and what it says becomes of it. (Of TXA-17 AU, authenticated, it makes preliminary; table 0271
// and this program say final.)
func TestTheHL7SampleDocumentMessageGivesWhatItsBundleHolds(t *testing.T) {
	root := filepath.Join(sharedData(t, "05-hl7v2"), "v2-to-fhir-mappings", "samples")
	data, err := os.ReadFile(filepath.Join(root, "messages", "Message.hl7_MDM_T02.txt"))
	if err != nil {
		t.Fatal(err)
	}
	bundle, err := os.ReadFile(filepath.Join(root, "fhir-bundles", "FHIR_bundle.hl7_MDM_T02.xml"))
	if err != nil {
		t.Fatal(err)
	}
	d := one(t, string(data), Options{Source: "sample"})
	p, doc := resourceOf(t, d, "Patient"), resourceOf(t, d, "DocumentReference")
	for _, want := range []string{p.Text("birthDate"), p.Text("gender"), p.Text("address.postalCode"), p.Text("address.city"), doc.Text("status"), doc.Text("description"), doc.Text("securityLabel.coding.code"), doc.Text("type.coding.code"), doc.Text("identifier.value"), p.Text("identifier.value")} {
		if want == "" || !strings.Contains(string(bundle), want) {
			t.Errorf("%q is not what the sample bundle holds", want)
		}
	}
}
