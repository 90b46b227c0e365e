package policy

import (
	"slices"

	"tombolo/dataset"
)

// A Role is what somebody is employed as, or Citizen.
type Role string

// The roles. National role codes (R8000 …) are mapped to these at sign-in.
const (
	GP             Role = "gp"
	HospitalDoctor Role = "hospital-doctor"
	Nurse          Role = "nurse"
	Paramedic      Role = "paramedic"
	MentalHealth   Role = "mental-health"
	Pharmacist     Role = "pharmacist"
	SocialWorker   Role = "social-worker"
	CareHome       Role = "care-home"
	Receptionist   Role = "receptionist"
	PrivacyOfficer Role = "privacy-officer"
	Operator       Role = "operator"
	Citizen        Role = "citizen"
	Neighbour      Role = "neighbour" // another region's node, acting for its own signed-in user
	System         Role = "system"    // a program that keeps its own source's record here; see DecideOwn
)

// A RoleInfo says what a role may do. FHIR-wide rights do not exist: this is all.
type RoleInfo struct {
	Name        string
	Opens       bool // opens records
	Clinical    bool // regulated, gives care
	BreaksGlass bool // may open against an objection in an emergency
	Tester      bool // sees systems released to testers
	Audit       bool // sees who looked
	Operates    bool // sees feeds, quarantine and completeness, never a record
	Keeps       bool // reads and writes what one system itself holds here, and opens nobody's joined record
	Purposes    []Purpose
	Headings    []dataset.Heading // nil: all
}

func (r RoleInfo) sees(h dataset.Heading) bool {
	return r.Headings == nil || slices.Contains(r.Headings, h)
}

var care = []Purpose{DirectCare, Emergency, Safeguarding}

var roles = map[Role]RoleInfo{
	GP:             {Name: "General practitioner", Opens: true, Clinical: true, BreaksGlass: true, Tester: true, Purposes: care},
	HospitalDoctor: {Name: "Hospital doctor", Opens: true, Clinical: true, BreaksGlass: true, Purposes: care},
	Nurse:          {Name: "Nurse", Opens: true, Clinical: true, BreaksGlass: true, Purposes: care},
	Paramedic:      {Name: "Paramedic", Opens: true, Clinical: true, BreaksGlass: true, Purposes: care},
	MentalHealth:   {Name: "Mental health practitioner", Opens: true, Clinical: true, BreaksGlass: true, Purposes: care},
	Pharmacist:     {Name: "Pharmacist", Opens: true, Clinical: true, Purposes: care},
	SocialWorker: {Name: "Social worker", Opens: true, Purposes: care, Headings: []dataset.Heading{
		dataset.Demographics, dataset.GPPractice, dataset.ProfessionalContacts, dataset.PersonalContacts, dataset.AboutMe, dataset.Alerts,
		dataset.Allergies, dataset.Problems, dataset.Encounters, dataset.Appointments, dataset.CarePlans, dataset.RiskAssessments, dataset.Legal,
		dataset.Safeguarding, dataset.EndOfLife, dataset.SocialCare, dataset.SocialContext, dataset.Documents, dataset.Devices}},
	// The restricted set that non-clinical care home staff see of a GP record.
	CareHome: {Name: "Care home staff", Opens: true, Purposes: []Purpose{DirectCare}, Headings: []dataset.Heading{
		dataset.Demographics, dataset.GPPractice, dataset.Problems, dataset.Medications, dataset.Allergies, dataset.Immunisations}},
	Receptionist: {Name: "Receptionist", Opens: true, Purposes: []Purpose{Administration, DirectCare}, Headings: []dataset.Heading{
		dataset.Demographics, dataset.GPPractice, dataset.PersonalContacts, dataset.Appointments}},
	PrivacyOfficer: {Name: "Privacy officer", Audit: true},
	Operator:       {Name: "Integration operator", Operates: true},
	Citizen:        {Name: "Citizen", Opens: true, Purposes: []Purpose{PatientRequest}},
	Neighbour:      {Name: "Clinician in a neighbouring region", Opens: true, Clinical: true, Purposes: care},
	System:         {Name: "System, of its own record", Keeps: true, Purposes: []Purpose{DirectCare}},
}

// Info is what a role may do; ok is false for a role there is not.
func (r Role) Info() (info RoleInfo, ok bool) { info, ok = roles[r]; return }

// Valid reports whether there is such a role.
func (r Role) Valid() bool { _, ok := roles[r]; return ok }
