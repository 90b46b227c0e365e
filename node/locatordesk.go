package node

import (
	"cmp"
	"context"
	"maps"
	"slices"

	"github.com/prometheus/client_golang/prometheus"

	"tombolo/connector/nrl"
	"tombolo/web"
)

// locatorStates are the record locators and what has been registered, for operators: numbers, and nothing of people.
func (n *Node) locatorStates(ctx context.Context, out *web.DeskState) error {
	health := n.Gather.Health()
	for _, nat := range n.nationals {
		l := web.LocatorState{ID: nat.ID, Name: cmp.Or(nat.Name, nat.ID), State: "ok", Asked: nat.Asks}
		if h := health[nat.ID]; nat.Asks && (h.Open || h.Failed > 0 && h.LastFailed.After(h.LastOK)) {
			l.State, l.Problem = "failing", "It did not answer when it was asked ("+string(h.Problem)+")."
		}
		for _, p := range n.publishers {
			if p.ID != nat.ID {
				continue
			}
			counts, err := p.Counts(ctx)
			if err != nil {
				return err
			}
			if l.In, l.Out, err = p.Waiting(ctx); err != nil {
				return err
			}
			l.Told, l.There = true, counts.There
			for _, id := range slices.Sorted(maps.Keys(counts.ByTyp)) {
				if t, ok := nrl.TypeOf(id); ok && counts.ByTyp[id] > 0 {
					l.Types = append(l.Types, web.RegisteredState{What: t.Display, N: counts.ByTyp[id]})
				}
			}
			now := p.Progress()
			if l.Last = now.At; now.Problem != "" {
				l.State, l.Problem = "failing", now.Problem
			}
		}
		out.Locators = append(out.Locators, l)
	}
	if len(n.c.Region.Locator.Applications) == 0 {
		return nil
	}
	counts, err := n.Registry.Counts(ctx)
	if err != nil {
		return err
	}
	for _, ods := range slices.Sorted(maps.Keys(counts)) {
		o, _ := n.c.Region.Organisation(ods)
		out.Registered = append(out.Registered, web.RegisteredState{What: cmp.Or(o.Name, ods), N: counts[ods]})
	}
	return nil
}

var (
	pointersDesc   = prometheus.NewDesc("tombolo_locator_pointers", "Pointers of this region's that are registered with a record locator.", []string{"locator", "type"}, nil)
	unpublished    = prometheus.NewDesc("tombolo_locator_waiting", "People for whom a pointer is still to be registered (in) or taken away (out).", []string{"locator", "queue"}, nil)
	registeredDesc = prometheus.NewDesc("tombolo_locator_registered", "Pointers that organisations have registered at this region's own locator.", []string{"organisation"}, nil)
)

// collectLocators adds how publishing stands.
func (n *Node) collectLocators(ch chan<- prometheus.Metric) {
	ctx := context.Background()
	gauge := func(d *prometheus.Desc, v int, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(v), labels...)
	}
	for _, p := range n.publishers {
		if counts, err := p.Counts(ctx); err == nil {
			for id, v := range counts.ByTyp {
				gauge(pointersDesc, v, p.ID, id)
			}
		}
		if in, out, err := p.Waiting(ctx); err == nil {
			gauge(unpublished, in, p.ID, "in")
			gauge(unpublished, out, p.ID, "out")
		}
	}
	if counts, err := n.Registry.Counts(ctx); err == nil {
		for ods, v := range counts {
			gauge(registeredDesc, v, ods)
		}
	}
}
