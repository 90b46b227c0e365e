package node

import (
	"context"
	"strconv"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"tombolo/audit"
	"tombolo/connector/hl7v2"
	"tombolo/fhir"
	"tombolo/policy"
	"tombolo/region"
)

var (
	framesDesc      = prometheus.NewDesc("tombolo_hl7v2_messages_total", "HL7 v2 messages by how they were answered.", []string{"source", "answer"}, nil)
	framingDesc     = prometheus.NewDesc("tombolo_hl7v2_framing_total", "MLLP framing that is not as it should be: tolerated, or kept as broken.", []string{"source", "fault"}, nil)
	idsDesc         = prometheus.NewDesc("tombolo_hl7v2_ids_total", "HL7 v2 messages that came again, and other messages under an id that had come.", []string{"source", "id"}, nil)
	connectionsDesc = prometheus.NewDesc("tombolo_hl7v2_connections", "MLLP connections open now.", []string{"source"}, nil)
)

// collectFeeds tells what the HL7 v2 feeds have counted.
func (n *Node) collectFeeds(ch chan<- prometheus.Metric) {
	for _, r := range n.runners {
		f, ok := r.Runner.(*hl7v2.Feed)
		if !ok {
			continue
		}
		s := f.Stats()
		for d, counts := range map[*prometheus.Desc]map[string]int64{
			framesDesc:  {"accepted": s.Accepted, "fault": s.Faulty, "refused": s.Refused, "none": s.Unanswered, "query": s.Queries},
			framingDesc: {"broken": s.Broken, "missing-cr": s.MissingCR, "loose-line-end": s.LooseEnds, "doubled-vt": s.DoubledStart, "turned-away": s.TurnedAway},
			idsDesc:     {"repeated": s.Repeated, "reused": s.Reused},
		} {
			for label, v := range counts {
				ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), r.source, label)
			}
		}
		ch <- prometheus.MustNewConstMetric(connectionsDesc, prometheus.GaugeValue, float64(s.Connections), r.source)
	}
}

// directory answers one feed's patient demographics queries (options: {pdq: yes}) from the identity index: by a number, to which whatever else is given
// must agree. Somebody who objects to sharing is not known here, where a restricted person lives is not told, and each question is remembered.
type directory struct {
	n *Node
	s region.System
}

// directoryOf is the directory of a feed; nil if the region file gives it none.
func (n *Node) directoryOf(s region.System) hl7v2.Directory {
	switch strings.ToLower(n.option(s, "pdq")) {
	case "yes", "on":
		return &directory{n, s}
	}
	if on, _ := strconv.ParseBool(n.option(s, "pdq")); on {
		return &directory{n, s}
	}
	return nil
}

// Candidates implements hl7v2.Directory.
func (d *directory) Candidates(ctx context.Context, q hl7v2.PatientQuery) ([]hl7v2.Candidate, error) {
	if len(q.Identifiers) == 0 {
		return nil, fhir.Errorf(fhir.NotSupported, "people are found here by a number: give PID.3").At("QPD-3")
	}
	e := audit.Event{Kind: audit.Search, Purpose: policy.Administration.Code(), Query: "QBP^Q22 " + q.Sender + " " + q.Control,
		Agent: audit.Agent{User: d.s.ID, Name: d.s.Product, Organisation: d.s.Organisation, Device: q.Sender}}
	var out []hl7v2.Candidate
	for _, id := range q.Identifiers {
		person, err := d.n.People.Resolve(ctx, id)
		if fhir.Is(err, fhir.NotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		p, err := d.n.People.Person(ctx, person)
		if err != nil {
			return nil, err
		}
		e.PersonID = p.ID
		e.NHSNumber, _ = fhir.ParseNHSNumber(p.NHSNumber)
		if p.Objects || q.BirthDate != "" && !strings.HasPrefix(p.BirthDate, q.BirthDate) || q.Gender != "" && p.Gender != "" && p.Gender != q.Gender ||
			q.Family != "" && !strings.EqualFold(p.Name.Family, q.Family) {
			e.Outcome = audit.Minor
			continue
		}
		c := hl7v2.Candidate{Name: p.Name, BirthDate: p.BirthDate, Gender: p.Gender, Deceased: p.Deceased != ""}
		if !p.Restricted {
			c.Address, c.Phone = p.Address, p.Phone
		}
		if p.NHSNumber != "" {
			c.Identifiers = append(c.Identifiers, fhir.Identifier{System: fhir.SystemNHSNumber, Value: p.NHSNumber})
		}
		for _, known := range p.Patients { // its own numbers, not those of others
			for _, own := range known.Identifiers {
				if known.Source == d.s.ID && own.System != fhir.SystemNHSNumber {
					c.Identifiers = append(c.Identifiers, own)
				}
			}
		}
		out = append(out, c)
	}
	e.What = []string{"told of: " + strconv.Itoa(len(out))}
	if _, err := d.n.Audit.Append(ctx, e); err != nil { // no audit, no bytes
		return nil, fhir.Errorf(fhir.NoStore, "the question could not be recorded, so it is not answered: %w", err)
	}
	return out, nil
}
