package node

import (
	"github.com/prometheus/client_golang/prometheus"

	"tombolo/connector/hl7v2"
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
