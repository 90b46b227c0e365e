package nrl

import (
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"

	"tombolo/fhir"
)

// A Query is one search for pointers about somebody.
type Query struct {
	Subject    Number
	Custodian  string   // ODS code; "" for any
	Types      []string // system|code; none: all that may be had
	Categories []string
	Count      bool   // only how many
	Next       string // the token of a page; the rest is then in it

	custodian, types, categories string // as they were given, for the self link
}

// PageSize is how many pointers one answer has at most.
const PageSize = 20

var (
	subjectForm   = regexp.MustCompile(`^https\:\/\/fhir\.nhs\.uk\/Id\/nhs-number\|(\d+)$`)
	custodianForm = regexp.MustCompile(`^https\:\/\/fhir\.nhs\.uk\/Id\/ods-organization-code\|(\w+)$`)
)

// A Param is one parameter of a search.
type Param struct{ Name, Value string }

// ParseQuery reads a search. consumer: the search of that side, which knows more parameters. lead begins the diagnostics: what was wrong, the query or the
// body. Whether the types may be had is for whoever knows the permissions (Query.Allowed).
func ParseQuery(params []Param, consumer bool, lead, detail string) (Query, *Outcome) {
	q := Query{}
	given := map[string]string{}
	var extra []string
	known := []string{"subject:identifier", "type", "category", "next-page-token"}
	if consumer {
		known = append(known, "custodian:identifier", "_summary")
	}
	for _, p := range params {
		if !slices.Contains(known, p.Name) {
			extra = append(extra, p.Name)
			continue
		}
		given[p.Name] = p.Value
	}
	q.Next = given["next-page-token"]
	subject, hasSubject := given["subject:identifier"]
	custodian, hasCustodian := given["custodian:identifier"]
	var faults []fault
	switch {
	case !hasSubject && q.Next == "":
		faults = append(faults, fault{"subject:identifier", "Field required"})
	case hasSubject && !subjectForm.MatchString(subject):
		faults = append(faults, fault{"subject:identifier", "String should match pattern '" + subjectForm.String() + "'"})
	}
	if hasCustodian && !custodianForm.MatchString(custodian) {
		faults = append(faults, fault{"custodian:identifier", "String should match pattern '" + custodianForm.String() + "'"})
	}
	if s, ok := given["_summary"]; ok && s != "count" {
		faults = append(faults, fault{"_summary", "Input should be 'count'"})
	}
	for _, name := range extra {
		faults = append(faults, fault{name, "Extra inputs are not permitted"})
	}
	if len(faults) > 0 {
		return q, malformed(detail, lead, "", faults)
	}
	if hasSubject {
		n, err := ParseNumber(subjectForm.FindStringSubmatch(subject)[1])
		if err != nil {
			return q, BadNumber
		}
		q.Subject = n
	}
	if hasCustodian {
		q.Custodian = custodianForm.FindStringSubmatch(custodian)[1]
	}
	q.Count = given["_summary"] == "count"
	q.custodian, q.types, q.categories = custodian, given["type"], given["category"]
	q.Types, q.Categories = list(given["type"]), list(given["category"])
	return q, nil
}

func list(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(s, ",")
}

// Allowed holds the types and categories that a search names to what its asker may have, and to what there is. lead begins the diagnostics of a consumer's GET.
func (q *Query) Allowed(types []string, lead string) *Outcome {
	wrap := func(s string) string {
		if lead == "" {
			return s
		}
		return lead + " (" + s + ")"
	}
	for _, t := range q.Types {
		if !slices.Contains(types, t) {
			return Refusal(http.StatusBadRequest, "code-invalid", "INVALID_CODE_SYSTEM", wrap("The provided type does not match the allowed types for this organisation"), "type")
		}
	}
	for _, c := range q.Categories {
		if _, ok := CategoryOf(c); !ok {
			return Refusal(http.StatusBadRequest, "code-invalid", "INVALID_CODE_SYSTEM", wrap("The provided category is not valid"), "category")
		}
	}
	if len(q.Types) == 0 {
		q.Types = slices.Clone(types)
	}
	return nil
}

// Wants reports whether a pointer answers the search; whose it is has been looked at.
func (q *Query) Wants(p Pointer) bool {
	return (q.Custodian == "" || q.Custodian == p.Custodian()) && slices.Contains(q.Types, p.Type()) &&
		(len(q.Categories) == 0 || slices.Contains(q.Categories, p.Category()))
}

// SelfLink is the search as an address, as the service gives it in its answer. It names the person: it is never followed or written down here.
func (q *Query) SelfLink(base string) string {
	link := fmt.Sprintf("%s/DocumentReference?subject:identifier=%s|%s", base, fhir.SystemNHSNumber, q.Subject.Digits())
	for _, p := range []Param{{"custodian:identifier", q.custodian}, {"type", q.types}, {"category", q.categories}} {
		if p.Value != "" {
			link += "&" + p.Name + "=" + p.Value
		}
	}
	if q.Count {
		link += "&_summary=count"
	}
	return link
}
