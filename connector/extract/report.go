package extract

import (
	"fmt"
	"strings"
	"time"

	"tombolo/fhir"
)

// A Report says what became of one file. It holds no clinical content and no number of a person, so it may lie beside the file.
type Report struct {
	File       string // as it was called when it came
	Mapping    string
	Received   time.Time // when it came
	Took       time.Duration
	Rows       int           // with something in them, the header not counted
	Accepted   int           // taken in now
	Duplicates int           // taken in before
	Reused     int           // came before in this extract under the same key with other content
	Rejected   int           // kept in quarantine
	Refused    *fhir.Issue   // why the file as a whole was not read to its end; nil if it was
	Issues     []*fhir.Issue // the first maxReported of what was rejected or warned of
}

const maxReported = 1000

func (r *Report) add(issue *fhir.Issue) {
	if issue != nil && len(r.Issues) < maxReported {
		r.Issues = append(r.Issues, issue)
	}
}

// Outcome is the report as an OperationOutcome: one line of counts, then what was wrong. FHIR R4 operationoutcome.html
func (r *Report) Outcome() *fhir.Resource {
	severity := fhir.Information
	if r.Rejected > 0 {
		severity = fhir.Warning
	}
	issues := []*fhir.Issue{{Type: fhir.Informational, Severity: severity, Text: r.counts()}}
	if r.Refused != nil {
		issues[0] = r.Refused
	}
	return fhir.Outcome(append(issues, r.Issues[:min(len(r.Issues), 100)]...)...)
}

func (r *Report) counts() string {
	s := fmt.Sprintf("%s: %d rows, %d taken in, %d already there, %d not taken and kept in quarantine", r.File, r.Rows, r.Accepted, r.Duplicates, r.Rejected)
	if r.Reused > 0 {
		s += fmt.Sprintf(", %d keys used twice with different content", r.Reused)
	}
	return s
}

// Text is the report for a person to read.
func (r *Report) Text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n\n", r.counts())
	fmt.Fprintf(&b, "mapping   %s\nreceived  %s\ntook      %s\n", r.Mapping, r.Received.In(fhir.London).Format("2 January 2006 15:04:05"), r.Took.Round(time.Millisecond))
	if r.Refused != nil {
		fmt.Fprintf(&b, "\nThe file was refused:\n  %s\n", r.Refused)
	}
	for i, issue := range r.Issues {
		if i == 0 {
			b.WriteString("\nWhat was wrong (row 1 is the header):\n")
		}
		fmt.Fprintf(&b, "  %s\n", issue)
	}
	if n := r.Rejected - len(r.Issues); n > 0 {
		fmt.Fprintf(&b, "  … and %d more\n", n)
	}
	return b.String()
}
