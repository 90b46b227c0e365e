package gpconnect

import (
	"net/http"

	"tombolo/fhir"
)

// A meaning is what a Spine error code comes to for whoever asked.
type meaning struct {
	typ  fhir.IssueType
	text string
}

const refused = "the practice's system refused our question as wrongly put; tell those who run this record, the practice cannot mend it"

// spine says what each Spine error code means to a clinician. The code itself is added for whoever has to look into it.
//
// GP Connect 1.6 development_fhir_error_handling_guidance.html
var spine = map[string]meaning{
	// One answer for six reasons, on purpose; so is ours.
	"PATIENT_NOT_FOUND": {fhir.NotFound, "the practice has no record of this person to share"},
	"NO_RECORD_FOUND":   {fhir.NotFound, "the practice has no record of this person to share"},

	"INVALID_NHS_NUMBER":           {fhir.ValueError, "the practice's system refused the NHS number as invalid; check it against PDS"},
	"INVALID_PATIENT_DEMOGRAPHICS": {fhir.BusinessRule, "the practice's system could not confirm the person's details with PDS"},

	"NO_PATIENT_CONSENT":      {fhir.Suppressed, "the person has asked the practice not to share their record"},
	"NO_ORGANISATION_CONSENT": {fhir.Suppressed, "the practice has no agreement to share records with your organisation"},
	"NO_RELATIONSHIP":         {fhir.Suppressed, "the practice's system knows of no relationship between your organisation and this person"},
	"ACCESS_DENIED":           {fhir.Forbidden, "sharing by GP Connect is switched off at the practice, or not open to this system"},
	"ACCESS DENIED":           {fhir.Forbidden, "sharing by GP Connect is switched off at the practice, or not open to this system"},
	"ACCESS_DENIED_SSL":       {fhir.Forbidden, "the Spine refused this system's certificate"},
	"ASID_CHECK_FAILED":       {fhir.Forbidden, "the Spine does not know this system as one that may ask for GP records"},

	"BAD_REQUEST":               {fhir.Processing, refused},
	"INVALID_PARAMETER":         {fhir.Processing, refused},
	"INVALID_RESOURCE":          {fhir.Processing, refused},
	"INVALID_IDENTIFIER_SYSTEM": {fhir.Processing, refused},
	"INVALID_IDENTIFIER_VALUE":  {fhir.Processing, refused},
	"REFERENCE_NOT_FOUND":       {fhir.Processing, refused},
	"INTERACTION_ID_MISMATCH":   {fhir.Processing, refused},
	"ORGANISATION_NOT_FOUND":    {fhir.Processing, refused},
	"PRACTITIONER_NOT_FOUND":    {fhir.Processing, refused},

	"DUPLICATE_REJECTED":        {fhir.Duplicate, "the practice's system already has this"},
	"FHIR_CONSTRAINT_VIOLATION": {fhir.Processing, refused},
	"NOT_IMPLEMENTED":           {fhir.NotSupported, "the practice's system does not offer structured records through GP Connect"},
	"INTERNAL_SERVER_ERROR":     {fhir.Transient, "the practice's system failed; try again later"},
}

// statuses say what an HTTP status means when the answer carries no Spine code. A 404 of this kind is an address where nobody lives:
// it must never pass for "no record of this person".
var statuses = map[int]meaning{
	http.StatusUnauthorized:         {fhir.Forbidden, "the practice's system did not accept this system's token"},
	http.StatusForbidden:            {fhir.Forbidden, "the Spine or the practice's system does not let this system ask"},
	http.StatusNotFound:             {fhir.Processing, "nothing answers at the practice's address; it may have changed its system: look it up again in SDS"},
	http.StatusGone:                 {fhir.Processing, "the practice's address is no longer in use; look it up again in SDS"},
	http.StatusConflict:             {fhir.Conflict, "what was to be changed has been changed or taken in the meantime"},
	http.StatusPreconditionFailed:   {fhir.Conflict, "what was to be changed has been changed or taken in the meantime"},
	http.StatusMethodNotAllowed:     {fhir.Processing, refused},
	http.StatusNotAcceptable:        {fhir.Processing, refused},
	http.StatusUnsupportedMediaType: {fhir.Processing, refused},
	http.StatusRequestTimeout:       {fhir.Timeout, "the practice's system did not answer in time"},
	http.StatusTooManyRequests:      {fhir.Throttled, "the practice's system is being asked too often and turned this question away; try again shortly"},
	http.StatusNotImplemented:       {fhir.NotSupported, "the practice's system does not offer structured records through GP Connect"},
	http.StatusBadGateway:           {fhir.Transient, "the Spine could not reach the practice's system; try again later"},
	http.StatusServiceUnavailable:   {fhir.Transient, "the practice's system is not available now; try again later"},
	http.StatusGatewayTimeout:       {fhir.Timeout, "the practice's system did not answer the Spine in time"},
}

// failure makes an error of an answer that is none. body may be anything.
func failure(status int, body []byte) *fhir.Issue {
	if status == http.StatusTooManyRequests {
		m := statuses[status]
		return fhir.Errorf(m.typ, "%s", m.text)
	}
	if v, err := fhir.ParseValue(body); err == nil && v.Text("resourceType") == "OperationOutcome" {
		for code := range v.All("issue.details.coding.code") {
			if m, ok := spine[code.Str()]; ok {
				return fhir.Errorf(m.typ, "%s (%s)", m.text, code.Str())
			}
		}
	}
	m, ok := statuses[status]
	switch {
	case ok:
	case status >= 300 && status < 400:
		m = meaning{fhir.Processing, "the practice's address sends us elsewhere, and we do not follow; look it up again in SDS"}
	case status >= 500:
		m = meaning{fhir.Transient, "the practice's system failed; try again later"}
	default:
		m = meaning{fhir.Processing, refused}
	}
	return fhir.Errorf(m.typ, "%s (HTTP %d)", m.text, status)
}
