// Package practice is a GP practice as the Spine shows it. It is served by the provider's side of GP Connect's protocol (api/gpconnect), with what it
// holds behind that: the records that the cast has there, in STU3 and the CareConnect-GPC profiles, and the pages, documents and appointments
// of the other capabilities. It turns away whatever a real practice's system would.
//
// It knows nothing of who asks it, nor of what becomes of its answers; that the protocol is as the specification has it is shown by the specification's own
// examples and acceptance tests, which are run against it and against a node alike.
package practice

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"slices"
	"time"

	"tombolo/api/gpconnect"
	"tombolo/fhir"
	"tombolo/sim"
	"tombolo/sim/cast"
)

// Options of a Practice. Source says which of the cast's sources it is; the rest has defaults.
type Options struct {
	Source string // cast.GP1, cast.GP2
	ODS    string // of the cast's organisation if not given
	Name   string
	ASID   string // the practice's own; requests to another are refused. "" takes any
	People []cast.Person
	Faults *sim.Faults // may be nil
	Now    func() time.Time

	Transit map[string]string // Key -> date of registration (2006-01-02) of people whose old record has not all arrived
	Exclude bool              // leave restricted items out, with the warning, instead of sending them labelled
	// Sensitive are the Keys of people who are marked so on PDS: of them nothing is said, not even that they are here.
	Sensitive []string
	Dissent   bool // refuse the records of people who object, as a practice does when they told it so

	// Minor is the version 1.Minor of the specification that its system speaks; 6 if not given. What came later it does not know.
	Minor int
}

// A Practice is an http.Handler at its service root.
type Practice struct {
	o       Options
	faults  *sim.Faults
	handler http.Handler
	diary   diary
}

// New makes a practice.
func New(o Options) *Practice {
	org := cast.OrganisationOf(o.Source)
	o.ODS = cmp.Or(o.ODS, org.ODS)
	o.Name = cmp.Or(o.Name, org.Name)
	if o.Now == nil {
		o.Now = time.Now
	}
	o.Minor = cmp.Or(o.Minor, 6)
	p := &Practice{o: o, faults: o.Faults}
	if p.faults == nil {
		p.faults = &sim.Faults{}
	}
	get, post, put := http.MethodGet, http.MethodPost, http.MethodPut
	const reading, writing = "patient/*.read", "patient/*.write"
	face, err := gpconnect.New(gpconnect.Options{
		Admit:    func(*http.Request, gpconnect.Caller) (gpconnect.Records, error) { return p, nil },
		ASID:     o.ASID,
		Software: "Simulated practice", Release: fmt.Sprintf("1.%d.0", o.Minor), Now: o.Now,
		Interactions: []gpconnect.Interaction{
			{ID: interactionHTML, Method: post, Path: HTMLRoot + "/Patient/$gpc.getcarerecord", Scope: reading, Old: true, Answer: p.careRecord},
			{ID: interactionDocumentPatient, Method: get, Path: DocumentsRoot + "/Patient", Scope: reading, Answer: p.findPatient},
			{ID: interactionDocumentSearch, Method: get, Path: DocumentsRoot + "/Patient/{id}/DocumentReference", Scope: reading, Answer: p.documents},
			{ID: interactionDocumentRead, Method: get, Path: DocumentsRoot + "/Binary/{id}", Scope: reading, Answer: p.binary},
			{ID: interactionPatient, Method: get, Path: AppointmentsRoot + "/Patient", Scope: reading, Answer: p.findPatient},
			{ID: interactionOfPatient, Method: get, Path: AppointmentsRoot + "/Patient/{id}/Appointment", Scope: reading, Answer: p.patientAppointments},
			{ID: interactionSlots, Method: get, Path: AppointmentsRoot + "/Slot", Scope: "organization/*.read", Answer: p.slots},
			{ID: interactionCreate, Method: post, Path: AppointmentsRoot + "/Appointment", Scope: writing, Answer: p.book},
			{ID: interactionRead, Method: get, Path: AppointmentsRoot + "/Appointment/{id}", Scope: reading, Answer: p.appointment},
			{ID: interactionUpdate, Method: put, Path: AppointmentsRoot + "/Appointment/{id}", Scope: writing, Answer: p.amend},
			{ID: interactionCancel, Method: put, Path: AppointmentsRoot + "/Appointment/{id}", Scope: writing, Answer: p.cancel},
		},
	})
	if err != nil {
		panic(err) // only options that are ours could be wrong
	}
	p.handler = p.faults.Handler(face)
	return p
}

// ServeHTTP answers one request.
func (p *Practice) ServeHTTP(w http.ResponseWriter, r *http.Request) { p.handler.ServeHTTP(w, r) }

// Where the other capabilities are served, below the service root of the structured record.
const (
	HTMLRoot         = "/html"
	DocumentsRoot    = "/documents"
	AppointmentsRoot = "/appointments"
)

var _ gpconnect.Records = (*Practice)(nil)

// Record tells of one person: it makes a Practice what stands behind the provider's side of the protocol.
func (p *Practice) Record(_ context.Context, q *gpconnect.Question) ([]fhir.M, error) {
	person, err := p.find(q.NHS.Digits())
	if err != nil {
		return nil, err
	}
	return p.record(person, q), nil
}

// find gives the person's record, if the practice may show it. Not known, not registered here, deceased, not verified: one answer.
//
// GP Connect 1.6 accessrecord_structured_development_retrieve_patient_record.html
func (p *Practice) find(nhs string) (cast.Person, error) {
	i := slices.IndexFunc(p.o.People, func(c cast.Person) bool { return c.NHS == nhs && p.serves(c) })
	if i < 0 {
		return cast.Person{}, gpconnect.Nobody()
	}
	if fault, _ := p.faults.Now(); fault == sim.FaultWrongPatient {
		for n := 1; n < len(p.o.People); n++ {
			if other := p.o.People[(i+n)%len(p.o.People)]; p.serves(other) && other.NHS != nhs {
				return other, nil
			}
		}
	}
	if p.o.Dissent && p.o.People[i].Objects {
		return cast.Person{}, &gpconnect.Refusal{Status: http.StatusForbidden, Code: "NO_PATIENT_CONSENT"}
	}
	return p.o.People[i], nil
}

func (p *Practice) serves(c cast.Person) bool {
	return !slices.Contains(p.o.Sensitive, c.Key) && c.At(p.o.Source) && c.NHS != "" && c.NHSStatus == "01" && c.Died == "" && c.Practice == p.o.ODS
}
