package region

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// A Severity says whether a region can run with a problem.
type Severity string

// The severities.
const (
	Error   Severity = "error"   // the region will not run
	Warning Severity = "warning" // it runs, and somebody may be surprised
)

// A Problem is one thing wrong with a region file: what, where, and how to mend it.
type Problem struct {
	Severity     Severity
	File         string
	Line, Column int    // from 1; 0 if the region was not read from a file
	Path         string // "systems[2].gives.allergies"
	Message      string
	Fix          string
}

// String is one line for people and editors: file:line:column: severity: path: message. Fix.
func (p Problem) String() string {
	var b strings.Builder
	if p.File != "" {
		b.WriteString(p.File + ":")
	}
	if p.Line > 0 {
		fmt.Fprintf(&b, "%d:%d:", p.Line, p.Column)
	}
	if b.Len() > 0 {
		b.WriteByte(' ')
	}
	b.WriteString(string(p.Severity) + ": ")
	if p.Path != "" {
		b.WriteString(p.Path + ": ")
	}
	b.WriteString(p.Message)
	if p.Fix != "" {
		b.WriteString(". " + p.Fix)
	}
	return b.String()
}

// Broken reports whether any of the problems is an error.
func Broken(problems []Problem) bool {
	return slices.ContainsFunc(problems, func(p Problem) bool { return p.Severity == Error })
}

// A place in a file.
type place struct{ line, column int }

// inOrder sorts problems by where they stand.
func inOrder(problems []Problem) []Problem {
	slices.SortStableFunc(problems, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	return problems
}
