// Package cast is the people of the simulated region: the same dozen in every test, page of docs and screenshot, and any
// number of generated ones. Nobody in it is real: NHS numbers are of the synthetic 999 range.
//
// A Person carries facts, each with the sources that hold it. The simulated systems render the facts they hold in their own
// protocol; what a gathered record must contain can therefore be checked against the cast.
package cast

import (
	"fmt"
	"hash/fnv"
	"slices"
	"strings"

	"tombolo/dataset"
)

// The sources of the simulated region, by their ids in its region file.
const (
	GP1       = "m85001-gp"     // Hilltop Surgery, M85001: GP Connect
	GP2       = "m85002-gp"     // Riverside Medical Centre, M85002: GP Connect
	Acute     = "rx1-pas"       // Severn Acute Trust, RX1: HL7 v2.4 over MLLP
	Mental    = "rw4-mh"        // Severn Mental Health Trust, RW4: FHIR R4 UK Core
	Community = "ry5-community" // Severn Community Health, RY5: nightly CSV
	Council   = "c918-social"   // Severn County Council, 918: CSV and documents with a manifest
	Ambulance = "rya-999"       // Severn Ambulance Service, RYA: ITK CDA and FHIR documents
	Wye       = "wd1-epr"       // Wye District Hospital, WD1, in the neighbouring region: FHIR R4
)

// An Organisation of the simulated region.
type Organisation struct{ ODS, Name, Source string }

// Organisations of the region, in region-file order.
var Organisations = []Organisation{
	{"M85001", "Hilltop Surgery", GP1},
	{"M85002", "Riverside Medical Centre", GP2},
	{"RX1", "Severn Acute Trust", Acute},
	{"RW4", "Severn Mental Health Trust", Mental},
	{"RY5", "Severn Community Health", Community},
	{"918", "Severn County Council", Council},
	{"RYA", "Severn Ambulance Service", Ambulance},
}

// OrganisationOf is the organisation that runs a source.
func OrganisationOf(source string) Organisation {
	for _, o := range Organisations {
		if o.Source == source {
			return o
		}
	}
	return Organisation{}
}

// A Person of the cast.
type Person struct {
	Key        string // how tests name them: "margaret"
	Shows      string // why they are in the cast
	NHS        string // ten digits, or "" if they have none
	OldNHS     []string
	NHSStatus  string // 01 present and verified …
	CHI        string // Scottish number
	Prefix     string
	Given      []string
	Family     string
	Preferred  string
	Born       string // 2006-01-02
	Died       string
	Sex        string // female, male
	Address    []string
	City       string
	Postcode   string
	Phone      string
	Ethnicity  string   // 2001 census code, as PID-22 carries it
	Practice   string   // ODS code of the registered practice, "" if none
	Restricted bool     // location must be withheld (PDS R)
	Objects    bool     // objects to their record being shared
	Mother     string   // Key
	Known      []string // sources that have a record of them, whether or not they hold any fact
	OldMRN     string   // a second local number at the acute trust, merged into the first

	Items        []Item
	Medications  []Medication
	Encounters   []Encounter
	Appointments []Appointment
	Reports      []Report
	Documents    []Document
	Relations    []Relation
}

// An Item is a simple fact under a heading.
type Item struct {
	Heading dataset.Heading
	System  string // code system URI
	Code    string
	Display string
	Text    string // free text: reaction, plan, description
	Date    string // date or dateTime
	End     string
	Status  string // active, resolved, inactive, final, completed …
	Level   string // severity or criticality: mild, severe, high
	Value   string // a measurement
	Unit    string // UCUM
	By      string // who recorded or is responsible
	Role    string // their role
	Label   string // confidentiality: "R" restricted, "NOPAT" not to be shown to the patient
	Held    []string
}

// A Medication is a repeat or acute prescription, with its issues.
type Medication struct {
	Code, Display string // dm+d (SNOMED)
	Dose          string // dosage text
	Quantity      string
	Unit          string
	Type          string // repeat, acute, discharge
	Start, End    string
	Status        string   // active, stopped, completed
	Issues        []string // dates on which it was issued; repeats only
	By            string
	For           string
	Held          []string
}

// An Encounter is an admission, attendance, consultation, contact or incident.
type Encounter struct {
	ID         string
	Class      string // IMP, EMER, AMB, HH, VR
	Type       string // words
	Code       string // SNOMED
	Start, End string // End "" while it goes on
	Reason     string
	Where      string
	By, Role   string
	Note       string
	Diagnosis  []Item
	Held       []string
}

// An Appointment, past or to come.
type Appointment struct {
	ID, Type, Start, End, Status, Where, With, Role, Reason string
	Held                                                    []string
}

// A Report is a pathology or imaging report with its results.
type Report struct {
	ID            string
	Imaging       bool
	Code, Display string
	System        string
	Date          string
	Status        string
	Text          string // an imaging report's words, or the laboratory's comment
	By            string
	Results       []Result
	Held          []string
}

// A Result is one line of a laboratory report.
type Result struct {
	Code, Display, Value, Unit, Low, High, Flag string // Value is a number, perhaps behind < or >
}

// A Document is a letter or form.
type Document struct {
	ID, Type, Code, Title, Date, By string
	MIME                            string // application/pdf or text/plain
	Text                            string // what it says; a PDF is made of it
	Held                            []string
}

// A Relation is a person close to the patient.
type Relation struct {
	Name, Relationship, Phone string
	NextOfKin                 bool
	Held                      []string
}

// NHSNumber completes nine digits with their check digit; it panics where there is none, so choose another nine.
func NHSNumber(nine string) string {
	sum := 0
	for i, c := range nine {
		sum += int(c-'0') * (10 - i)
	}
	check := (11 - sum%11) % 11
	if check == 10 || len(nine) != 9 {
		panic("cast: " + nine + " has no check digit")
	}
	return nine + string(rune('0'+check))
}

// LocalID is the number under which a source knows the person. It says nothing of any other.
func (p Person) LocalID(source string) string {
	h := fnv.New32a()
	_, _ = fmt.Fprint(h, source, "/", p.Key)
	return strings.ToUpper(source[:2]) + fmt.Sprintf("%07d", h.Sum32()%10_000_000)
}

// At reports whether a source has a record of the person.
func (p Person) At(source string) bool { return slices.Contains(p.Known, source) }

// FullName is "Margaret Anne Taylor".
func (p Person) FullName() string { return strings.Join(append(slices.Clone(p.Given), p.Family), " ") }

// HeldBy returns the facts of a list that a source holds.
func HeldBy[T any](facts []T, source string, held func(T) []string) []T {
	var out []T
	for _, f := range facts {
		if slices.Contains(held(f), source) {
			out = append(out, f)
		}
	}
	return out
}

// ItemsAt are the person's simple facts at a source under the given headings (all, if none are given).
func (p Person) ItemsAt(source string, headings ...dataset.Heading) []Item {
	return HeldBy(p.Items, source, func(i Item) []string {
		if len(headings) > 0 && !slices.Contains(headings, i.Heading) {
			return nil
		}
		return i.Held
	})
}

// MedicationsAt are the prescriptions a source holds; the others below likewise.
func (p Person) MedicationsAt(source string) []Medication {
	return HeldBy(p.Medications, source, func(m Medication) []string { return m.Held })
}

// EncountersAt are the encounters a source holds.
func (p Person) EncountersAt(source string) []Encounter {
	return HeldBy(p.Encounters, source, func(m Encounter) []string { return m.Held })
}

// AppointmentsAt are the appointments a source holds.
func (p Person) AppointmentsAt(source string) []Appointment {
	return HeldBy(p.Appointments, source, func(m Appointment) []string { return m.Held })
}

// ReportsAt are the reports a source holds.
func (p Person) ReportsAt(source string) []Report {
	return HeldBy(p.Reports, source, func(m Report) []string { return m.Held })
}

// DocumentsAt are the documents a source holds.
func (p Person) DocumentsAt(source string) []Document {
	return HeldBy(p.Documents, source, func(m Document) []string { return m.Held })
}

// RelationsAt are the relations a source holds.
func (p Person) RelationsAt(source string) []Relation {
	return HeldBy(p.Relations, source, func(m Relation) []string { return m.Held })
}
