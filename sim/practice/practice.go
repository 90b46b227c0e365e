// Package practice is a GP practice as the Spine shows it: it answers GP Connect Access Record Structured 1.6 over HTTP with the
// records that the cast has there, in STU3 and the CareConnect-GPC profiles, and turns away whatever a real practice's system would:
// wrong headers, a token that does not say who is asking, parameters that may not be combined.
//
// It does not know that there is such a thing as Tombolo; what it must accept and refuse is read from the specification.
package practice

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"slices"
	"time"

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
	Dissent bool              // refuse the records of people who object, as a practice does when they told it so

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
	mux := http.NewServeMux()
	mux.HandleFunc("/metadata", p.metadata)
	mux.HandleFunc("/Patient/$gpc.getstructuredrecord", p.structured)
	mux.HandleFunc(HTMLRoot+"/Patient/$gpc.getcarerecord", p.careRecord)
	mux.HandleFunc(DocumentsRoot+"/Patient", p.findFor(interactionDocumentPatient))
	mux.HandleFunc(DocumentsRoot+"/Patient/{id}/DocumentReference", p.documents)
	mux.HandleFunc(DocumentsRoot+"/Binary/{id}", p.binary)
	mux.HandleFunc(AppointmentsRoot+"/Patient", p.findFor(interactionPatient))
	mux.HandleFunc(AppointmentsRoot+"/Patient/{id}/Appointment", p.patientAppointments)
	mux.HandleFunc(AppointmentsRoot+"/Slot", p.slots)
	mux.HandleFunc(AppointmentsRoot+"/Appointment", p.book)
	mux.HandleFunc(AppointmentsRoot+"/Appointment/{id}", p.appointment)
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		p.refuse(w, &refusal{http.StatusNotImplemented, "NOT_IMPLEMENTED", "no such operation here"})
	})
	p.handler = p.faults.Handler(mux)
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

const (
	interactionStructured = "urn:nhs:names:services:gpconnect:fhir:operation:gpc.getstructuredrecord-1"
	interactionMetadata   = "urn:nhs:names:services:gpconnect:structured:fhir:rest:read:metadata-1"
	fhirJSON              = "application/fhir+json; charset=utf-8"
)

// A refusal is an error as GP Connect words it.
type refusal struct {
	status      int
	code        string
	diagnostics string
}

func (r *refusal) Error() string { return r.code + ": " + r.diagnostics }

func bad(diagnostics string) *refusal {
	return &refusal{http.StatusBadRequest, "BAD_REQUEST", diagnostics}
}

func invalid(diagnostics string) *refusal {
	return &refusal{http.StatusUnprocessableEntity, "INVALID_PARAMETER", diagnostics}
}

// What FHIR calls each Spine error and what the Spine calls it in words. GP Connect 1.6 development_fhir_error_handling_guidance.html
var spineErrors = map[string][2]string{
	"BAD_REQUEST":               {"invalid", "Bad request"},
	"INVALID_NHS_NUMBER":        {"value", "Invalid NHS number"},
	"INVALID_PARAMETER":         {"invalid", "Invalid parameter"},
	"INVALID_RESOURCE":          {"invalid", "Invalid validation of resource"},
	"PATIENT_NOT_FOUND":         {"not-found", "Patient not found"},
	"NO_PATIENT_CONSENT":        {"forbidden", "Patient has not provided consent to share data"},
	"ACCESS_DENIED":             {"forbidden", "Access denied"},
	"NOT_IMPLEMENTED":           {"not-supported", "Not implemented"},
	"NO_RECORD_FOUND":           {"not-found", "No record found"},
	"DUPLICATE_REJECTED":        {"duplicate", "Create would lead to creation of a duplicate resource"},
	"REFERENCE_NOT_FOUND":       {"not-found", "FHIR resource reference not found"},
	"FHIR_CONSTRAINT_VIOLATION": {"conflict", "FHIR constraint violated"},
}

func (p *Practice) refuse(w http.ResponseWriter, r *refusal) {
	e := spineErrors[r.code]
	issue := fhir.M{"severity": "error", "code": e[0], "details": fhir.M{"coding": []fhir.M{{
		"system": "https://fhir.nhs.uk/STU3/ValueSet/Spine-ErrorOrWarningCode-1", "code": r.code, "display": e[1]}}}}
	if r.diagnostics != "" {
		issue["diagnostics"] = r.diagnostics
	}
	answer(w, r.status, fhir.M{"resourceType": "OperationOutcome",
		"meta": profile("GPConnect-OperationOutcome-1"), "issue": []fhir.M{issue}})
}

func answer(w http.ResponseWriter, status int, body fhir.M) {
	w.Header().Set("Content-Type", fhirJSON)
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(fhir.JSON(body))
}

// check reads the headers that every interaction needs. GP Connect 1.6 integration_spine_secure_proxy.html
func (p *Practice) check(r *http.Request, method, interaction, scope string) error {
	return p.checkAs(r, method, interaction, scope, "application/fhir+json", "")
}

// checkAs is check for a format; nhs is whose record an older token must name, "" for a token of today.
func (p *Practice) checkAs(r *http.Request, method, interaction, scope, format, nhs string) error {
	if r.Method != method {
		return bad("the interaction needs " + method)
	}
	for _, h := range []string{"Ssp-TraceID", "Ssp-From", "Ssp-To", "Ssp-InteractionID"} {
		if r.Header.Get(h) == "" {
			return bad("header " + h + " is missing")
		}
	}
	switch {
	case r.Header.Get("Ssp-InteractionID") != interaction:
		return bad("InteractionID header does not match request")
	case p.o.ASID != "" && r.Header.Get("Ssp-To") != p.o.ASID:
		return bad("Ssp-To is not the ASID of this system")
	case !isUUID(r.Header.Get("Ssp-TraceID")):
		return bad("Ssp-TraceID is not a UUID")
	}
	if accept := r.Header.Get("Accept"); accept != "" && accept != "*/*" {
		if typ, _, err := mime.ParseMediaType(accept); err != nil || typ != format {
			return &refusal{http.StatusNotAcceptable, "BAD_REQUEST", "only " + format + " is given here"}
		}
	}
	return checkToken(r.Header.Get("Authorization"), scope, p.o.Now(), nhs)
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

func (p *Practice) metadata(w http.ResponseWriter, r *http.Request) {
	if err := p.check(r, http.MethodGet, interactionMetadata, "organization/*.read"); err != nil {
		p.fail(w, err)
		return
	}
	answer(w, http.StatusOK, fhir.M{
		"resourceType": "CapabilityStatement", "status": "active", "date": "2026-04-01", "kind": "capability", "fhirVersion": "3.0.1",
		"version": fmt.Sprintf("1.%d.0", p.o.Minor), "name": "GP Connect", "acceptUnknown": "both", "format": []string{"application/fhir+json"},
		"software": fhir.M{"name": "Simulated practice", "version": "1"},
		"rest": []fhir.M{{"mode": "server", "operation": []fhir.M{{"name": "gpc.getstructuredrecord",
			"definition": fhir.M{"reference": "https://fhir.nhs.uk/STU3/OperationDefinition/GPConnect-GetStructuredRecord-Operation-1"}}}}},
	})
}

func (p *Practice) fail(w http.ResponseWriter, err error) {
	var r *refusal
	if !errors.As(err, &r) {
		r = bad(err.Error())
	}
	p.refuse(w, r)
}

func (p *Practice) structured(w http.ResponseWriter, r *http.Request) {
	if err := p.check(r, http.MethodPost, interactionStructured, "patient/*.read"); err != nil {
		p.fail(w, err)
		return
	}
	if typ, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || typ != "application/fhir+json" {
		p.refuse(w, &refusal{http.StatusUnsupportedMediaType, "BAD_REQUEST", "the body must be application/fhir+json"})
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
	if err != nil {
		p.fail(w, bad("the body could not be read"))
		return
	}
	ask, err := readQuestion(body, p.o.Now(), p.o.Minor)
	if err != nil {
		p.fail(w, err)
		return
	}
	person, err := p.find(ask.nhs)
	if err != nil {
		p.fail(w, err)
		return
	}
	answer(w, http.StatusOK, p.record(person, ask))
}

// find gives the person's record, if the practice may show it. Not known, not registered here, deceased, not verified: one answer.
//
// GP Connect 1.6 accessrecord_structured_development_retrieve_patient_record.html
func (p *Practice) find(nhs string) (cast.Person, error) {
	i := slices.IndexFunc(p.o.People, func(c cast.Person) bool { return c.NHS == nhs && p.serves(c) })
	if i < 0 {
		return cast.Person{}, &refusal{http.StatusNotFound, "PATIENT_NOT_FOUND", ""}
	}
	if fault, _ := p.faults.Now(); fault == sim.FaultWrongPatient {
		for n := 1; n < len(p.o.People); n++ {
			if other := p.o.People[(i+n)%len(p.o.People)]; p.serves(other) && other.NHS != nhs {
				return other, nil
			}
		}
	}
	if p.o.Dissent && p.o.People[i].Objects {
		return cast.Person{}, &refusal{http.StatusForbidden, "NO_PATIENT_CONSENT", ""}
	}
	return p.o.People[i], nil
}

func (p *Practice) serves(c cast.Person) bool {
	return c.At(p.o.Source) && c.NHS != "" && c.NHSStatus == "01" && c.Died == "" && c.Practice == p.o.ODS
}
