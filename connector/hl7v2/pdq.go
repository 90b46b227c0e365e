package hl7v2

import (
	"context"
	"strconv"
	"strings"

	"tombolo/fhir"
)

// A Directory tells who somebody is, to systems that ask in HL7 v2. Whoever answers decides who may be told of, and remembers that it was asked: an
// answer that could not be remembered is an error. "I know nobody so" is nobody found and no error. An error of type Required or TooCostly says that the
// question is too wide.
type Directory interface {
	Candidates(ctx context.Context, q PatientQuery) (Found, error)
	// Knows reports whether identifiers of a system are told of here at all.
	Knows(system string) bool
}

// A PatientQuery is what a system knows of the person it asks about.
type PatientQuery struct {
	Source      string            // id of the system that asks
	Sender      string            // MSH-3^MSH-4, as sent
	Control     string            // MSH-10
	Identifiers []fhir.Identifier // any of these
	Family      string            // names and address lines may end in "*": begins so
	Given       string
	BirthDate   string // 2006-01-02, as far as given
	Gender      string // FHIR's word
	Line, City  string
	Postcode    string

	// Corresponding asks for the other identifiers of whoever has the one given, and for nothing else about them.
	Corresponding bool
	// Systems are those of which identifiers are wanted; none: those that the asker would know, and with Corresponding all.
	Systems []string

	Skip, Limit int // which of those found: so many left out, so many told
}

// Found is who answers a query: the part that was asked for, and how many there are.
type Found struct {
	Candidates []Candidate
	Total      int
}

// A Candidate is somebody who answers a query.
type Candidate struct {
	Identifiers []fhir.Identifier
	Name        fhir.HumanName
	BirthDate   string
	Gender      string
	Address     *fhir.Address // nil also where it must not be told
	Phone       string
	Deceased    bool
}

// mostCandidates are told in one answer, whatever RCP-2 says.
const mostCandidates = 50

// A question is a query as it came: what is asked, and how it is to be answered.
type question struct {
	q        PatientQuery
	event    string // Q22 find candidates, Q23 get corresponding identifiers
	pointer  string // of the part before, "" of the first
	in       string // names what is asked, so that a pointer is good for no other question
	complete bool   // all in one answer: the asker did not say how many it takes at a time
}

// isQuery reports whether a message asks who somebody is, or says that it asks no more. HL7 v2.5 §3.3.56, §3.3.57, §5.4.6; IHE ITI-21, ITI-9
func isQuery(m *Message) bool {
	code, event, _ := m.Type()
	return code == "QBP" && (event == "Q22" || event == "Q23") || code == "QCN" && event == "J01"
}

// query answers a patient query. It is not kept: nothing in it is news. An error means that no answer may be given.
func (f *Feed) query(ctx context.Context, m *Message) ([]byte, error) {
	f.stats.queries.Add(1)
	now := f.o.Now()
	if code, _, _ := m.Type(); code == "QCN" { // nothing is held between the parts of an answer, so there is nothing to let go of
		return acknowledge(m, "AA", nil, now), nil
	}
	if issue := f.refusesQuery(m); issue != nil {
		_, replies := f.replies(m, wish{}, issue, now)
		return replies[0], nil
	}
	a, issue := f.readQuery(m)
	var found Found
	if issue == nil {
		var err error
		if found, err = f.o.Directory.Candidates(ctx, a.q); err != nil && transient(err) {
			return nil, err
		} else if err != nil {
			issue = issueOf(err)
			if issue.Expression == "" {
				issue = issue.At("QPD-3")
			}
		}
	}
	switch {
	case issue != nil:
	case a.complete && found.Total > a.q.Limit:
		found, issue = Found{}, fhir.Errorf(fhir.TooCostly, "too many people answer to this: say more of who is meant, or how many at a time (RCP-2)").At("QPD-3")
	case a.event == "Q23" && found.Total == 0: // unknown, or not to be known of: the same. IHE ITI TF-2 §3.9.4.2.2.6 case 3
		issue = fhir.Errorf(fhir.NotFound, "no such identifier is known here").At("QPD-3.1.1")
	}
	return f.response(m, a, found, issue, now), nil
}

// refusesQuery holds a query to what any message is held to: its version and processing id.
func (f *Feed) refusesQuery(m *Message) *fhir.Issue {
	if issue := Refuse(m, f.o); issue != nil && issue.Expression != "MSH-9" {
		return issue
	}
	return nil
}

// readQuery reads QPD, RCP and DSC.
func (f *Feed) readQuery(m *Message) (question, *fhir.Issue) {
	h, qpd := m.Header(), m.First("QPD")
	_, event, control := m.Type()
	a := question{event: event, q: PatientQuery{Source: f.o.Source, Sender: h.Field(3).Raw() + "^" + h.Field(4).Raw(), Control: control, Limit: mostCandidates}, complete: true}
	if n, err := strconv.Atoi(m.First("RCP").Field(2).Comp(1).Text()); err == nil && n > 0 {
		a.q.Limit, a.complete = min(n, mostCandidates), false
	}
	if !qpd.Exists() {
		return a, fhir.Errorf(fhir.Required, "a patient query has a QPD segment").At("QPD")
	}
	var issue *fhir.Issue
	domains := 8
	if event == "Q23" {
		domains = 4
		issue = f.readCorresponding(qpd, &a.q)
	} else {
		issue = f.readDemographics(qpd, &a.q)
	}
	if issue == nil {
		issue = f.readDomains(qpd, domains, &a.q)
	}
	if issue != nil {
		return a, issue
	}
	a.in = hash(event, qpd.Field(3).Raw(), qpd.Field(domains).Raw(), a.q.Sender)
	if a.pointer = m.First("DSC").Field(1).Text(); a.pointer != "" { // HL7 v2.5 §5.6.3: the same query again, with the pointer
		n, in, _ := strings.Cut(a.pointer, ".")
		skip, err := strconv.Atoi(n)
		if err != nil || skip < 1 || in != a.in {
			return a, fhir.Errorf(fhir.Invalid, "the continuation pointer is not one that was given for this query: ask again without it").At("DSC-1")
		}
		a.q.Skip, a.complete = skip, false
	}
	return a, nil
}

// readDemographics reads QPD-3, "@PID.5.1^SMITH" for each thing known. IHE ITI TF-2 §3.21.4.1.2.2
func (f *Feed) readDemographics(qpd Segment, q *PatientQuery) *fhir.Issue {
	var number, authority string
	for p := range qpd.Field(3).Reps() {
		value := p.Comp(2).Text()
		if value == "" {
			continue
		}
		switch name := strings.ToUpper(p.Comp(1).Text()); name {
		case "@PID.3", "@PID.3.1":
			number = value
		case "@PID.3.4", "@PID.3.4.1", "@PID.3.4.2":
			authority = value
		case "@PID.3.4.3", "@PID.3.5": // ISO; what kind of number: the authority says which number it is
		case "@PID.5", "@PID.5.1", "@PID.5.1.1":
			q.Family = value
		case "@PID.5.2":
			q.Given = value
		case "@PID.7", "@PID.7.1":
			q.BirthDate = dashed(value)
		case "@PID.8":
			sex, _ := (&mapper{o: &f.o, mp: f.o.Mapping}).lookup("sex", strings.ToUpper(value))
			q.Gender = sex.code
		case "@PID.11.1", "@PID.11.1.1":
			q.Line = value
		case "@PID.11.3":
			q.City = value
		case "@PID.11.5":
			q.Postcode = value
		default: // leaving a condition out would find people who do not meet it
			return fhir.Errorf(fhir.NotSupported, "people are found here by PID.3, PID.5, PID.7, PID.8 and PID.11 (line, town, postcode)").At("QPD-3")
		}
	}
	if number != "" {
		q.Identifiers = []fhir.Identifier{f.numbered(number, authority)}
	}
	if number == "" && q.Family == "" && q.BirthDate == "" {
		return fhir.Errorf(fhir.Required, "say who is asked about: a number, or a surname and a date of birth").At("QPD-3")
	}
	return nil
}

// readCorresponding reads QPD-3, the identifier of which others are wanted. IHE ITI TF-2 §3.9.4.1.2.2
func (f *Feed) readCorresponding(qpd Segment, q *PatientQuery) *fhir.Issue {
	q.Corresponding = true
	cx := qpd.Field(3)
	number := cx.Comp(1).Text()
	if number == "" {
		return fhir.Errorf(fhir.Required, "say whose identifiers are wanted: QPD-3 is one that is known").At("QPD-3.1.1")
	}
	id := f.numbered(number, authority(cx.Comp(4)))
	if !f.o.Directory.Knows(id.System) {
		return fhir.Errorf(fhir.NotFound, "identifiers of this assigning authority are not known here").At("QPD-3.1.4")
	}
	q.Identifiers = []fhir.Identifier{id}
	return nil
}

// readDomains reads whose identifiers are wanted in the answer, "^^^RX1" each.
func (f *Feed) readDomains(qpd Segment, field int, q *PatientQuery) *fhir.Issue {
	n := 0
	for d := range qpd.Field(field).Reps() {
		n++
		name := authority(d.Comp(4))
		if name == "" {
			continue
		}
		system := (&mapper{o: &f.o, mp: f.o.Mapping}).systemOf(name)
		if !f.o.Directory.Knows(system) {
			return fhir.Errorf(fhir.NotFound, "identifiers of this assigning authority are not told of here").At("QPD-" + strconv.Itoa(field) + "." + strconv.Itoa(n) + ".4")
		}
		q.Systems = append(q.Systems, system)
	}
	return nil
}

// numbered is an identifier by its number and who assigned it: a valid NHS number needs nobody to be named.
func (f *Feed) numbered(number, authority string) fhir.Identifier {
	x := mapper{o: &f.o, mp: f.o.Mapping}
	id := fhir.Identifier{System: x.systemOf(authority), Value: number}
	if _, err := fhir.ParseNHSNumber(number); authority == "" && err == nil {
		id.System = fhir.SystemNHSNumber
	} else if authority == "" {
		id.System = x.systemOf(f.o.Authority)
	}
	return id.Canonical()
}

// dashed is an HL7 date as FHIR writes it.
func dashed(s string) string {
	switch {
	case len(s) >= 8:
		return s[:4] + "-" + s[4:6] + "-" + s[6:8]
	case len(s) == 6:
		return s[:4] + "-" + s[4:]
	}
	return s
}
