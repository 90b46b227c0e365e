package fhir

import (
	"errors"
	"fmt"
	"strconv"
	"time"
)

// An IssueType says what kind of thing went wrong, in the standard's closed list.
//
// FHIR R4 valueset-issue-type.html
type IssueType string

// The issue types that this program uses. A caller acts on the type, never on the text.
const (
	Invalid       IssueType = "invalid"          // the content is not valid
	Structure     IssueType = "structure"        // not JSON, XML or HL7 at all, or not of the right shape
	Required      IssueType = "required"         // something that must be there is missing
	ValueError    IssueType = "value"            // an element's value is not allowed
	CodeInvalid   IssueType = "code-invalid"     // a code is not in its value set
	NotSupported  IssueType = "not-supported"    // understood, and not offered here
	NotFound      IssueType = "not-found"        // unknown; also every refusal that must look like absence
	Deleted       IssueType = "deleted"          // was there once
	TooLong       IssueType = "too-long"         // larger than the limit
	TooCostly     IssueType = "too-costly"       // would take more work than the limit
	Duplicate     IssueType = "duplicate"        // already here
	Conflict      IssueType = "conflict"         // somebody else changed it first
	BusinessRule  IssueType = "business-rule"    // breaks a rule of the field, e.g. the wrong patient
	Invariant     IssueType = "invariant"        // elements do not go together as the standard wants
	Processing    IssueType = "processing"       // could not be processed
	Login         IssueType = "login"            // nobody is signed in
	Forbidden     IssueType = "forbidden"        // this role may not do this at all
	Suppressed    IssueType = "suppressed"       // exists or may exist, and is not shared
	Throttled     IssueType = "throttled"        // too many requests
	Timeout       IssueType = "timeout"          // no answer within the deadline
	Incomplete    IssueType = "incomplete"       // an answer, but not all of it
	Transient     IssueType = "transient"        // failed now, may work later
	NoStore       IssueType = "no-store"         // could not be written durably
	Exception     IssueType = "exception"        // a fault of this program
	Informational IssueType = "informational"    // nothing is wrong
	MultipleMatch IssueType = "multiple-matches" // more than one answers the description
)

// A Severity of an issue. FHIR R4 valueset-issue-severity.html
type Severity string

// The four severities.
const (
	Fatal       Severity = "fatal"
	SevError    Severity = "error"
	Warning     Severity = "warning"
	Information Severity = "information"
)

// An Issue is one thing to be told to whoever asked: an error, a warning, or plain information. It is
// also the program's error type. Text is for people and says what, where and how to mend it; it never
// holds clinical content or identifiers of a person.
type Issue struct {
	Type       IssueType
	Severity   Severity // SevError if empty
	Text       string
	Expression string        // FHIRPath of the element, or "row 12, column dose", or "PID-3"; may be empty
	Source     string        // the source that is meant, if one is; may be empty
	After      time.Duration // of Throttled: when it may be tried again; 0: not known
	Stranger   bool          // something of another person than the one asked for came from a source
	cause      error
}

// RetryAfter is After as the header of that name has it: whole seconds, at least one. RFC 9110 §10.2.3
func (i *Issue) RetryAfter() string {
	return strconv.Itoa(max(1, int((i.After+time.Second-1)/time.Second)))
}

func (i *Issue) Error() string {
	s := i.Text
	if i.Expression != "" {
		s = i.Expression + ": " + s
	}
	if i.Source != "" {
		s = i.Source + ": " + s
	}
	return s
}

// Unwrap gives the error that led to this one, if any.
func (i *Issue) Unwrap() error { return i.cause }

// Errorf makes an error of the given type. With %w it wraps a cause.
func Errorf(t IssueType, format string, args ...any) *Issue {
	err := fmt.Errorf(format, args...)
	return &Issue{Type: t, Text: err.Error(), cause: errors.Unwrap(err)}
}

// OfStranger returns a copy of the issue that says that what came is of another person than the one asked for.
func (i *Issue) OfStranger() *Issue {
	c := *i
	c.Stranger = true
	return &c
}

// At returns a copy of the issue that names the element, field or row it is about.
func (i *Issue) At(expression string) *Issue {
	c := *i
	c.Expression = expression
	return &c
}

// From returns a copy of the issue that names the source it is about.
func (i *Issue) From(source string) *Issue {
	c := *i
	c.Source = source
	return &c
}

// IssueOf finds the Issue in err's chain; nil if err is nil or none of ours.
func IssueOf(err error) *Issue {
	var i *Issue
	if errors.As(err, &i) {
		return i
	}
	return nil
}

// Is reports whether err is an issue of the given type.
func Is(err error, t IssueType) bool {
	i := IssueOf(err)
	return i != nil && i.Type == t
}

// Outcome makes an OperationOutcome of the issues. With none it says that all is well.
//
// FHIR R4 operationoutcome.html
func Outcome(issues ...*Issue) *Resource {
	if len(issues) == 0 {
		issues = []*Issue{{Type: Informational, Severity: Information, Text: "all well"}}
	}
	list := make([]M, 0, len(issues))
	for _, i := range issues {
		sev := i.Severity
		if sev == "" {
			sev = SevError
		}
		m := M{"severity": sev, "code": i.Type, "diagnostics": i.Text}
		if i.Source != "" {
			m["details"] = CodeableConcept{
				Coding: []Coding{{System: SystemSource, Code: i.Source}},
				Text:   i.Text,
			}
		}
		if i.Expression != "" {
			m["expression"] = []string{i.Expression}
		}
		list = append(list, m)
	}
	return New("OperationOutcome", "", M{"issue": list})
}
