package nrl

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"strings"

	"tombolo/fhir"
)

// Systems in which outcomes are coded.
const (
	systemError   = "https://fhir.nhs.uk/CodeSystem/Spine-ErrorOrWarningCode"
	systemSuccess = "https://fhir.nhs.uk/ValueSet/NRL-ResponseCode"
)

// An Outcome is what the locator says of a request: an OperationOutcome, and the status under which it goes. As an error it is a refusal.
type Outcome struct {
	Status int
	Issues []Issue
}

// An Issue is one thing that an Outcome says. Text never holds more of a request than the rules echo, and no NHS number.
type Issue struct {
	Severity   string // error, information
	Code       string // FHIR's type
	System     string // of Detail
	Detail     string // the Spine's code, or the locator's own of a success
	Text       string // diagnostics
	Expression []string
}

func (o *Outcome) Error() string {
	var all []string
	for _, i := range o.Issues {
		all = append(all, i.Detail)
	}
	return "the locator answered " + http.StatusText(o.Status) + " (" + strings.Join(all, ", ") + ")"
}

// Has reports whether an issue has the code.
func (o *Outcome) Has(detail string) bool {
	for _, i := range o.Issues {
		if i.Detail == detail {
			return true
		}
	}
	return false
}

// spine are the displays of the codes.
var spine = map[string]string{
	"ACCESS DENIED": "Access has been denied to process this request", "ACCESS_DENIED": "Access has been denied to process this request",
	"NO_RECORD_FOUND": "No record found", "INVALID_NHS_NUMBER": "Invalid NHS number", "INVALID_CODE_SYSTEM": "Invalid code system",
	"INTERNAL_SERVER_ERROR": "Unexpected internal server error", "BAD_REQUEST": "Bad request", "AUTHOR_CREDENTIALS_ERROR": "Author credentials error",
	"DUPLICATE_REJECTED": "Create would lead to creation of a duplicate resource", "INVALID_PARAMETER": "Invalid parameter",
	"MESSAGE_NOT_WELL_FORMED": "Message not well formed", "MISSING_OR_INVALID_HEADER": "There is a required header missing or invalid",
	"UNPROCESSABLE_ENTITY": "Unprocessable Entity", "PRECONDITION_FAILED": "Precondition failed",
	"RESOURCE_CREATED": "Resource created", "RESOURCE_SUPERSEDED": "Resource created and resource(s) deleted", "RESOURCE_UPDATED": "Resource updated",
	"RESOURCE_DELETED": "Resource deleted",
}

// Refusal is an Outcome of one issue.
func Refusal(status int, code, detail, text string, expression ...string) *Outcome {
	return &Outcome{status, []Issue{{"error", code, systemError, detail, text, expression}}}
}

func success(status int, detail, text string) *Outcome {
	return &Outcome{status, []Issue{{"information", "informational", systemSuccess, detail, text, nil}}}
}

// What the locator says when all went well.
var (
	Created       = success(http.StatusCreated, "RESOURCE_CREATED", "The document has been created")
	Superseded    = success(http.StatusCreated, "RESOURCE_SUPERSEDED", "The document has been superseded by a new version")
	Updated       = success(http.StatusOK, "RESOURCE_UPDATED", "The DocumentReference has been updated")
	Deleted       = success(http.StatusOK, "RESOURCE_DELETED", "The requested DocumentReference has been deleted")
	NeverWas      = success(http.StatusOK, "RESOURCE_DELETED", "The requested DocumentReference could not be found")
	NotFound      = Refusal(http.StatusNotFound, "not-found", "NO_RECORD_FOUND", "The requested DocumentReference could not be found")
	NoOrg         = Refusal(http.StatusBadRequest, "required", "PRECONDITION_FAILED", "The "+HeaderODS+" header is missing or invalid")
	NoRequestID   = Refusal(http.StatusBadRequest, "invalid", "MISSING_OR_INVALID_HEADER", "The "+HeaderRequest+" header is missing or invalid")
	NotAuthorised = Refusal(http.StatusUnauthorized, "forbidden", "ACCESS_DENIED", "You are not authorized to access this resource.")
	NotThisType   = Refusal(http.StatusForbidden, "forbidden", "ACCESS DENIED", "The requested DocumentReference is not of a type that this organisation is allowed to access")
	Duplicate     = Refusal(http.StatusConflict, "conflict", "DUPLICATE_REJECTED", "")
	Broken        = Refusal(http.StatusInternalServerError, "exception", "INTERNAL_SERVER_ERROR", "")
	BadNumber     = Refusal(http.StatusBadRequest, "invalid", "INVALID_NHS_NUMBER", "A valid NHS number is required to search for document references", "subject:identifier")
	badSubject    = Refusal(http.StatusBadRequest, "invalid", "INVALID_NHS_NUMBER", "Invalid NHS number", "subject.identifier.value")
)

// NoPermission is told to an organisation that may have no type of pointer at all.
func NoPermission(ods string) *Outcome {
	return Refusal(http.StatusForbidden, "forbidden", "ACCESS DENIED", "Your organisation '"+ods+"' does not have permission to access this resource. Contact the onboarding team.")
}

// Unprocessable is content that breaks a rule.
func Unprocessable(text string, expression ...string) *Outcome {
	return Refusal(http.StatusUnprocessableEntity, "business-rule", "UNPROCESSABLE_ENTITY", text, expression...)
}

// NotYours is what another organisation is told that would do something with a pointer.
func NotYours(text string, expression ...string) *Outcome {
	return Refusal(http.StatusForbidden, "forbidden", "AUTHOR_CREDENTIALS_ERROR", text, expression...)
}

// The wire shapes, in the service's order of members.
type (
	wireOutcome struct {
		ResourceType string      `json:"resourceType"`
		Issue        []wireIssue `json:"issue"`
	}
	wireIssue struct {
		Severity    string      `json:"severity"`
		Code        string      `json:"code"`
		Details     wireConcept `json:"details"`
		Diagnostics string      `json:"diagnostics,omitempty"`
		Expression  []string    `json:"expression,omitempty"`
	}
	wireConcept struct {
		Coding []wireCoding `json:"coding"`
	}
	wireCoding struct {
		System  string `json:"system"`
		Code    string `json:"code"`
		Display string `json:"display,omitempty"`
	}
)

// Body is the Outcome as the service writes it: two spaces deep, and nothing escaped that need not be.
func (o *Outcome) Body() []byte {
	w := wireOutcome{ResourceType: "OperationOutcome"}
	for _, i := range o.Issues {
		w.Issue = append(w.Issue, wireIssue{i.Severity, i.Code, wireConcept{[]wireCoding{{i.System, i.Detail, spine[i.Detail]}}}, i.Text, i.Expression})
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	_ = e.Encode(w)
	return bytes.TrimRight(b.Bytes(), "\n")
}

// readOutcome reads an answer, of whichever of the systems and shapes that the service and its gateway have used.
func readOutcome(status int, body []byte) *Outcome {
	o := &Outcome{Status: status}
	var w wireOutcome
	if json.Unmarshal(body, &w) != nil || w.ResourceType != "OperationOutcome" {
		return o
	}
	for _, i := range w.Issue {
		is := Issue{Severity: i.Severity, Code: i.Code, Text: i.Diagnostics, Expression: i.Expression}
		if len(i.Details.Coding) > 0 {
			is.System, is.Detail = i.Details.Coding[0].System, i.Details.Coding[0].Code
		}
		o.Issues = append(o.Issues, is)
	}
	return o
}

// OutcomeOf finds what the locator said in an error; nil if it said nothing.
func OutcomeOf(err error) *Outcome {
	var o *Outcome
	if errors.As(err, &o) {
		return o
	}
	return nil
}

// kind is an Outcome as the kind of failure that others act on.
func (o *Outcome) kind() fhir.IssueType {
	switch {
	case o.Status == http.StatusNotFound:
		return fhir.NotFound
	case o.Status == http.StatusConflict:
		return fhir.Conflict
	case o.Status == http.StatusTooManyRequests:
		return fhir.Throttled
	case o.Status == http.StatusUnauthorized, o.Status == http.StatusForbidden:
		return fhir.Forbidden
	case o.Status == http.StatusRequestTimeout, o.Status == http.StatusGatewayTimeout:
		return fhir.Timeout
	case o.Status >= 500, o.Status < 400:
		return fhir.Transient
	}
	return fhir.Invalid
}
