package policy

import (
	"slices"

	"tombolo/dataset"
)

// A Role is what somebody is employed as, or Citizen.
type Role string

// The roles. National role codes (R8000 …) are mapped to these at sign-in by RoleOf.
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
	Analyst        Role = "analyst" // research and planning, under an agreement for it
	Steward        Role = "steward"
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
	Identifies  bool // settles who is who: sees who people are, never a record
	Operates    bool // sees feeds, quarantine and completeness, never a record
	Keeps       bool // reads and writes what one system itself holds here, and opens nobody's joined record
	Purposes    []Purpose
	Headings    []dataset.Heading // nil: all
}

func (r *RoleInfo) sees(h dataset.Heading) bool {
	return r.Headings == nil || slices.Contains(r.Headings, h)
}

var care = []Purpose{DirectCare, Emergency, Safeguarding}

var roles = map[Role]*RoleInfo{
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
	Analyst:        {Name: "Analyst", Opens: true, Purposes: []Purpose{Planning, Research}},
	Steward:        {Name: "Identity steward", Identifies: true},
	Citizen:        {Name: "Citizen", Opens: true, Purposes: []Purpose{PatientRequest}},
	Neighbour:      {Name: "Clinician in a neighbouring region", Opens: true, Clinical: true, Purposes: care},
	System:         {Name: "System, of its own record", Keeps: true, Purposes: []Purpose{DirectCare}},
}

// nobody is the role of those who have none that is known.
var nobody = &RoleInfo{}

func (r Role) info() *RoleInfo {
	if i, ok := roles[r]; ok {
		return i
	}
	return nobody
}

// Info is what a role may do; ok is false for a role there is not.
func (r Role) Info() (info RoleInfo, ok bool) {
	i, ok := roles[r]
	if !ok {
		return RoleInfo{}, false
	}
	return *i, true
}

// Roles are those that open records, but for citizens, in the order of their names.
func Roles() []Role {
	var out []Role
	for r, i := range roles {
		if i.Opens && r != Citizen {
			out = append(out, r)
		}
	}
	slices.Sort(out)
	return out
}

// Valid reports whether there is such a role.
func (r Role) Valid() bool { _, ok := roles[r]; return ok }

// National role codes of the RBAC database (SDS job roles) and what they are here. A generic access role says less than a job role does: a
// Clinical Practitioner is a doctor of some kind, taken here for one who works in a hospital, which gives no more than a GP has.
var nationalRoles = map[string]Role{
	"R0001": PrivacyOfficer, "R5105": PrivacyOfficer, // Caldicott Guardian
	"R0260": GP, "R0270": GP, "R6200": GP, "R6300": GP,
	"R0050": HospitalDoctor, "R0070": HospitalDoctor, "R0110": HospitalDoctor, "R8000": HospitalDoctor,
	"R1981": MentalHealth, // Psychiatrist
	"R8001": Nurse, "R8002": Nurse, "R8016": Nurse, "R8017": Nurse,
	"R8003": Nurse, // Health Professional: allied and other
	"R8014": SocialWorker,
	"R8006": Receptionist, "R8008": Receptionist, "R8009": Receptionist, "R8010": Receptionist, "R8011": Receptionist,
	"R8015": Operator,
}

// RoleOf is the role of a national role code: "R8000", or as a smartcard gives it, "S0010:G0020:R8000".
func RoleOf(code string) (Role, bool) {
	if len(code) > 5 {
		code = code[len(code)-5:]
	}
	r, ok := nationalRoles[code]
	return r, ok
}

// Activities of the national RBAC database that decide something here. A sign-in that brings activities is held to them; roles alone say
// what those without may do.
const (
	ViewDemographics  = "B0820"
	AmendDemographics = "B0825" // includes ViewDemographics
	ViewRecord        = "B0360" // View Detailed Health Records; includes ViewDemographics
	ViewSensitive     = "B1666" // View Sensitive Results
	ViewPointers      = "B0268" // NRL: what is held where
	OpenDocuments     = "B0269" // NRL: open what a pointer points at
	EmergencyAccess   = "B0015" // raise an access alert
	ClaimRelationship = "B0016" // self-claim a legitimate relationship
)

// May reports whether the sign-in's activities, if it brought any, include one of these.
func (s *Subject) May(any ...string) bool {
	if s.Activities == nil {
		return true
	}
	for _, a := range any {
		if slices.Contains(s.Activities, a) {
			return true
		}
	}
	return false
}

// mayView reports whether the activities let the subject see a heading. One needs the detailed record for all but who somebody is.
func (s *Subject) mayView(h dataset.Heading) bool {
	switch h {
	case "": // whether there is anything at all
		return s.May(ViewRecord, ViewDemographics, AmendDemographics, OpenDocuments)
	case dataset.Demographics, dataset.GPPractice, dataset.PersonalContacts, dataset.Appointments:
		return s.May(ViewRecord, ViewDemographics, AmendDemographics)
	case dataset.Documents:
		return s.May(ViewRecord, OpenDocuments)
	}
	return s.May(ViewRecord)
}
