package hl7v2

import (
	"strconv"
	"strings"
	"time"

	"tombolo/fhir"
)

// response writes RSP^K22 or RSP^K23. QAK-2 says OK, NF (nobody) or AE. HL7 v2.5 §3.3.56, §3.3.57, §5.5.2
func (f *Feed) response(m *Message, a question, found Found, issue *fhir.Issue, now time.Time) []byte {
	h, qpd := m.Header(), m.First("QPD")
	version := h.Field(12).Comp(1).Text()
	if version < "2.5" {
		version = "2.5"
	}
	msa, status, kind := "AA", "OK", Comp("RSP", "K22", "RSP_K21")
	if a.event == "Q23" {
		kind = Comp("RSP", "K23", "RSP_K23")
	}
	told := found.Candidates[:min(len(found.Candidates), a.q.Limit)]
	switch {
	case issue != nil:
		msa, status, told = "AE", "AE", nil
	case len(told) == 0 || a.event == "Q23" && len(told[0].Identifiers) == 0:
		status, told = "NF", nil
	}
	var e Encoder
	e.Segment("MSH", Fields{3: hd(h.Field(5)), 4: hd(h.Field(6)), 5: hd(h.Field(3)), 6: hd(h.Field(4)), 7: now.Format("20060102150405-0700"),
		9: kind, 10: "A" + hash("RSP", a.q.Control, a.pointer, now.Format(time.RFC3339Nano)), 11: h.Field(11).Text(), 12: version, 18: "UNICODE UTF-8"})
	e.Segment("MSA", Fields{1: msa, 2: a.q.Control})
	if issue != nil {
		e.Segment("ERR", queryError(issue, version))
	}
	qak := Fields{1: qpd.Field(2).Text(), 2: status, 3: Comp(qpd.Field(1).Comp(1).Text(), qpd.Field(1).Comp(2).Text()), 4: strconv.Itoa(found.Total)}
	left := 0
	if issue == nil && a.event == "Q22" {
		left = max(0, found.Total-a.q.Skip-len(told))
		qak[5], qak[6] = strconv.Itoa(len(told)), strconv.Itoa(left)
	}
	e.Segment("QAK", qak)
	f.echo(&e, qpd)
	for i, c := range told {
		if a.event == "Q23" {
			e.Segment("PID", f.corresponding(c))
		} else {
			e.Segment("PID", f.candidate(i+1, c))
		}
	}
	if left > 0 && len(told) > 0 { // HL7 v2.5 §5.6.3: there is more, and this is how to ask for it
		e.Segment("DSC", Fields{1: strconv.Itoa(a.q.Skip+len(told)) + "." + a.in, 2: "I"})
	}
	return e.Bytes()
}

// echo gives QPD back as it came.
func (f *Feed) echo(e *Encoder, qpd Segment) {
	e.buf.WriteString("QPD")
	for n := 1; n <= qpd.Fields(); n++ {
		e.buf.WriteByte('|')
		e.value(qpd.Field(n), field)
	}
	e.buf.WriteByte('\r')
}

// queryError is ERR of a query, which names the repetition and component too: "QPD-3.1.4". HL7 v2.5 §2.15.5.2
func queryError(issue *fhir.Issue, version string) Fields {
	out := errFields(issue, version)
	segment, sequence, number := splitPlace(issue.Expression)
	if _, deeper, ok := strings.Cut(issue.Expression, "."); ok {
		rep, comp, _ := strings.Cut(deeper, ".")
		out[2] = Comp(segment, sequence, number, rep, comp)
	}
	return out
}

// corresponding is a PID that gives identifiers and nothing else. IHE ITI TF-2 §3.9.4.2.2.5: PID-5 is a name that is none
func (f *Feed) corresponding(c Candidate) Fields {
	return Fields{3: f.identifiers(c), 5: Rep("", Comp("", "", "", "", "", "", "S"))}
}

func (f *Feed) identifiers(c Candidate) Part {
	var ids []any
	for _, id := range c.Identifiers {
		name, kind := f.o.authorityName(id.System)
		ids = append(ids, Comp(id.Value, "", "", name, kind))
	}
	return Rep(ids...)
}

func (f *Feed) candidate(n int, c Candidate) Fields {
	out := Fields{1: strconv.Itoa(n), 3: f.identifiers(c), 5: f.o.xpn(c.Name), 7: strings.ReplaceAll(c.BirthDate, "-", ""), 8: map[string]string{"male": "M", "female": "F", "other": "O"}[c.Gender], 13: c.Phone}
	if c.Address != nil {
		out[11] = f.o.xad(*c.Address)
	}
	if c.Deceased {
		out[30] = "Y"
	}
	return out
}
