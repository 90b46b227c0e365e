package gpconnect

import (
	"errors"
	"net/http"

	"tombolo/fhir"
)

// A Refusal is an error as GP Connect words it: an HTTP status, the Spine's code, and what is wrong, which never quotes anybody's record.
type Refusal struct {
	Status            int
	Code, Diagnostics string
}

func (r *Refusal) Error() string { return r.Code + ": " + r.Diagnostics }

// BadRequest refuses a request that is malformed: its headers, its token, its JSON.
func BadRequest(diagnostics string) *Refusal {
	return &Refusal{http.StatusBadRequest, "BAD_REQUEST", diagnostics}
}

// InvalidParameter refuses a parameter, or a combination of them.
func InvalidParameter(diagnostics string) *Refusal {
	return &Refusal{http.StatusUnprocessableEntity, "INVALID_PARAMETER", diagnostics}
}

// InvalidResource refuses a resource that was sent, in the body or in the token.
func InvalidResource(diagnostics string) *Refusal {
	return &Refusal{http.StatusUnprocessableEntity, "INVALID_RESOURCE", diagnostics}
}

// InvalidNHSNumber refuses what is no NHS number. It is not quoted.
func InvalidNHSNumber() *Refusal { return &Refusal{http.StatusBadRequest, "INVALID_NHS_NUMBER", ""} }

// Nobody is the one answer to "not there" and to "not for you". It takes no diagnostics, so that no two can differ.
func Nobody() *Refusal { return &Refusal{http.StatusNotFound, "PATIENT_NOT_FOUND", ""} }

// spineErrors are FHIR's type and the Spine's words of each code. GP Connect 1.6 development_fhir_error_handling_guidance.html
var spineErrors = map[string][2]string{
	"INVALID_IDENTIFIER_SYSTEM": {"value", "Invalid identifier system"}, "INVALID_IDENTIFIER_VALUE": {"value", "Invalid identifier value"},
	"INVALID_NHS_NUMBER": {"value", "Invalid NHS number"}, "INVALID_PATIENT_DEMOGRAPHICS": {"business-rule", "Invalid patient demographics"},
	"ORGANISATION_NOT_FOUND": {"not-found", "Organisation not found"}, "PRACTITIONER_NOT_FOUND": {"not-found", "Practitioner not found"},
	"PATIENT_NOT_FOUND": {"not-found", "Patient not found"}, "NO_RECORD_FOUND": {"not-found", "No record found"},
	"NO_PATIENT_CONSENT":      {"forbidden", "Patient has not provided consent to share data"},
	"NO_ORGANISATION_CONSENT": {"forbidden", "Organisation has not provided consent to share data"}, "ACCESS_DENIED": {"forbidden", "Access denied"},
	"DUPLICATE_REJECTED": {"duplicate", "Create would lead to creation of a duplicate resource"},
	"INVALID_RESOURCE":   {"invalid", "Invalid validation of resource"}, "INVALID_PARAMETER": {"invalid", "Invalid parameter"},
	"REFERENCE_NOT_FOUND": {"invalid", "FHIR reference not found"}, "FHIR_CONSTRAINT_VIOLATION": {"conflict", "FHIR constraint violated"},
	"BAD_REQUEST": {"invalid", "Bad request"}, "NOT_IMPLEMENTED": {"not-supported", "Not implemented"},
	"INTERNAL_SERVER_ERROR": {"processing", "Unexpected internal server error"},
}

// fail translates an error, once, into the Spine's.
func (s *server) fail(w http.ResponseWriter, r *http.Request, err error) {
	var ref *Refusal
	if !errors.As(err, &ref) {
		ref = s.refusal(err)
	}
	words := spineErrors[ref.Code]
	issue := fhir.M{"severity": "error", "code": words[0], "details": fhir.M{"coding": []fhir.M{{
		"system": "https://fhir.nhs.uk/STU3/ValueSet/Spine-ErrorOrWarningCode-1", "code": ref.Code, "display": words[1]}}}}
	if ref.Diagnostics != "" {
		issue["diagnostics"] = ref.Diagnostics
	}
	WriteFHIR(w, r, ref.Status, fhir.M{"resourceType": "OperationOutcome", "meta": Profile("GPConnect-OperationOutcome-1"), "issue": []fhir.M{issue}})
}

func (s *server) refusal(err error) *Refusal {
	is := fhir.IssueOf(err)
	if is == nil {
		s.o.Logger.Error("a GP Connect request failed", "error", err)
		return &Refusal{http.StatusInternalServerError, "INTERNAL_SERVER_ERROR", ""}
	}
	switch is.Type {
	case fhir.NotFound, fhir.Suppressed, fhir.Deleted, fhir.MultipleMatch:
		return Nobody()
	case fhir.Login, fhir.Forbidden:
		return &Refusal{http.StatusForbidden, "ACCESS_DENIED", is.Text} // depends on who asks alone, and on nobody's record
	case fhir.ValueError:
		return InvalidNHSNumber()
	}
	s.o.Logger.Error("a GP Connect request failed", "type", is.Type)
	return &Refusal{http.StatusInternalServerError, "INTERNAL_SERVER_ERROR", ""}
}

// notKnown tells of parameters that are not known here, beside the answer to those that are; nil if all are.
//
// GP Connect 1.6 accessrecord_structured_development_version_compatibility.html
func notKnown(names []string) fhir.M {
	var issues []fhir.M
	for _, n := range names {
		issues = append(issues, fhir.M{"severity": "warning", "code": "not-supported", "diagnostics": n, "details": fhir.M{"text": n + " is an unrecognised parameter",
			"coding": []fhir.M{{"system": "https://fhir.nhs.uk/STU3/CodeSystem/Spine-ErrorOrWarningCode-1", "code": "NOT_IMPLEMENTED", "display": "Not implemented"}}}})
	}
	if issues == nil {
		return nil
	}
	return fhir.M{"resourceType": "OperationOutcome", "meta": Profile("GPConnect-OperationOutcome-1"), "issue": issues}
}
