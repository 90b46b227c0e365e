package hl7v2

import (
	"context"
	"strconv"
	"strings"
	"time"

	"tombolo/fhir"
)

// A Directory tells who somebody is, to systems that ask in HL7 v2. Whoever answers decides who may be told of, and remembers that it was asked: an
// answer that could not be remembered is an error. "I know nobody so" is no candidates and no error.
type Directory interface {
	Candidates(ctx context.Context, q PatientQuery) ([]Candidate, error)
}

// A PatientQuery is what a system knows of the person it asks about.
type PatientQuery struct {
	Source      string            // id of the system that asks
	Sender      string            // MSH-3^MSH-4, as sent
	Control     string            // MSH-10
	Identifiers []fhir.Identifier // any of these
	Family      string
	Given       string
	BirthDate   string // 2006-01-02, as far as given
	Gender      string // FHIR's word
	Postcode    string
	Limit       int // at most so many
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

const (
	someCandidates = 10 // where RCP-2 does not say
	mostCandidates = 50
)

// isQuery reports whether a message asks who somebody is. HL7 v2.5 §3.3.56, IHE ITI-21
func isQuery(m *Message) bool {
	code, event, _ := m.Type()
	return code == "QBP" && (event == "Q22" || event == "ZV1")
}

// query answers a patient demographics query. It is not kept: nothing in it is news. An error means that no answer may be given.
func (f *Feed) query(ctx context.Context, m *Message) ([]byte, error) {
	f.stats.queries.Add(1)
	now := f.o.Now()
	q, issue := f.readQuery(m)
	var found []Candidate
	if issue == nil {
		var err error
		if found, err = f.o.Directory.Candidates(ctx, q); err != nil && transient(err) {
			return nil, err
		} else if err != nil {
			issue = issueOf(err)
		}
	}
	return f.response(m, q, found, issue, now), nil
}

// readQuery reads QPD-3, "@PID.5.1^SMITH" for each thing known. IHE ITI TF-2 §3.21.4.1.2.2
func (f *Feed) readQuery(m *Message) (PatientQuery, *fhir.Issue) {
	h, qpd := m.Header(), m.First("QPD")
	_, _, control := m.Type()
	q := PatientQuery{Source: f.o.Source, Sender: h.Field(3).Raw() + "^" + h.Field(4).Raw(), Control: control, Limit: someCandidates}
	if n, err := strconv.Atoi(m.First("RCP").Field(2).Comp(1).Text()); err == nil && n > 0 {
		q.Limit = min(n, mostCandidates)
	}
	if !qpd.Exists() {
		return q, fhir.Errorf(fhir.Required, "a patient demographics query has a QPD segment").At("QPD")
	}
	x := mapper{o: &f.o, mp: f.o.Mapping}
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
		case "@PID.5", "@PID.5.1", "@PID.5.1.1":
			q.Family = value
		case "@PID.5.2":
			q.Given = value
		case "@PID.7", "@PID.7.1":
			q.BirthDate = dashed(value)
		case "@PID.8":
			q.Gender = map[string]string{"M": "male", "1": "male", "F": "female", "2": "female"}[strings.ToUpper(value)]
		case "@PID.11.5":
			q.Postcode = value
		default: // leaving a condition out would find people who do not meet it
			return q, fhir.Errorf(fhir.NotSupported, "people are found here by PID.3, PID.5, PID.7, PID.8 and PID.11.5").At("QPD-3")
		}
	}
	if number != "" {
		id := fhir.Identifier{System: x.systemOf(authority), Value: number}
		if _, err := fhir.ParseNHSNumber(number); authority == "" && err == nil {
			id.System = fhir.SystemNHSNumber
		} else if authority == "" {
			id.System = x.systemOf(f.o.Authority)
		}
		q.Identifiers = []fhir.Identifier{id.Canonical()}
	}
	if number == "" && q.Family == "" && q.BirthDate == "" {
		return q, fhir.Errorf(fhir.Required, "say who is asked about: a number, or a surname and a date of birth").At("QPD-3")
	}
	return q, nil
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

// response writes RSP^K22. QAK-2 says OK, NF (nobody) or AE. HL7 v2.5 §3.3.57
func (f *Feed) response(m *Message, q PatientQuery, found []Candidate, issue *fhir.Issue, now time.Time) []byte {
	h, qpd := m.Header(), m.First("QPD")
	version := h.Field(12).Comp(1).Text()
	if version < "2.5" {
		version = "2.5"
	}
	msa, status := "AA", "OK"
	switch {
	case issue != nil:
		msa, status = "AE", "AE"
	case len(found) == 0:
		status = "NF"
	}
	processing := h.Field(11).Text()
	var e Encoder
	e.Segment("MSH", Fields{3: hd(h.Field(5)), 4: hd(h.Field(6)), 5: hd(h.Field(3)), 6: hd(h.Field(4)), 7: now.Format("20060102150405-0700"),
		9: Comp("RSP", "K22", "RSP_K21"), 10: "A" + hash("RSP", q.Control, now.Format(time.RFC3339Nano)), 11: processing, 12: version, 18: "UNICODE UTF-8"})
	e.Segment("MSA", Fields{1: msa, 2: q.Control})
	if issue != nil {
		e.Segment("ERR", errFields(issue, version))
	}
	e.Segment("QAK", Fields{1: qpd.Field(2).Text(), 2: status, 3: Comp(qpd.Field(1).Comp(1).Text(), qpd.Field(1).Comp(2).Text()), 4: strconv.Itoa(len(found))})
	var asked []any
	for p := range qpd.Field(3).Reps() {
		asked = append(asked, Comp(p.Comp(1).Text(), p.Comp(2).Text()))
	}
	e.Segment("QPD", Fields{1: Comp(qpd.Field(1).Comp(1).Text(), qpd.Field(1).Comp(2).Text()), 2: qpd.Field(2).Text(), 3: Rep(asked...)})
	for i, c := range found[:min(len(found), q.Limit)] {
		e.Segment("PID", f.candidate(i+1, c))
	}
	return e.Bytes()
}

func (f *Feed) candidate(n int, c Candidate) Fields {
	var ids []any
	for _, id := range c.Identifiers {
		name, kind := f.authorityName(id.System)
		ids = append(ids, Comp(id.Value, "", "", name, kind))
	}
	first, others := "", ""
	if len(c.Name.Given) > 0 {
		first, others = c.Name.Given[0], strings.Join(c.Name.Given[1:], " ")
	}
	out := Fields{1: strconv.Itoa(n), 3: Rep(ids...), 5: Comp(c.Name.Family, first, others, "", strings.Join(c.Name.Prefix, " "), "", "L"),
		7: strings.ReplaceAll(c.BirthDate, "-", ""), 8: map[string]string{"male": "M", "female": "F", "other": "O"}[c.Gender], 13: c.Phone}
	if c.Address != nil {
		line := append(append([]string{}, c.Address.Line...), "", "")
		out[11] = Comp(line[0], line[1], c.Address.City, c.Address.District, c.Address.PostalCode)
	}
	if c.Deceased {
		out[30] = "Y"
	}
	return out
}

// authorityName is how a system of numbers is named in messages: as the feed's settings name it, or as everywhere.
func (f *Feed) authorityName(system string) (name, kind string) {
	switch system {
	case fhir.SystemNHSNumber:
		return "NHS", "NH"
	case fhir.SystemCHI:
		return "CHI", "NI"
	case fhir.SystemHCN:
		return "HCN", "NI"
	}
	for n, uri := range f.o.Systems {
		if uri == system {
			return n, "PI"
		}
	}
	if name, ok := strings.CutPrefix(system, "urn:id:"); ok {
		return name, "PI"
	}
	return system, "PI"
}
