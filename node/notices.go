package node

import (
	"cmp"
	"context"
	"net/http"
	"slices"

	"github.com/prometheus/client_golang/prometheus"

	"tombolo/subscription"
	"tombolo/web"
)

// notices makes what tells systems of changes in their records. An endpoint's redirects are not followed, and its address is looked at when it is connected to.
func (n *Node) notices() *subscription.Service {
	c := n.client()
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return subscription.New(subscription.Options{Store: n.store, HTTP: c, Turn: n.lease("subscription").Holds, Now: n.c.Now, Logger: n.c.Logger,
		Allowed: func(source string) []string {
			s, _ := n.c.Region.System(source)
			return s.Notify()
		}})
}

// noticeStates are systems' Subscriptions for operators: numbers, and whose they are.
func (n *Node) noticeStates(ctx context.Context) ([]web.NoticeState, error) {
	all, err := n.Notices.All(ctx)
	if err != nil {
		return nil, err
	}
	var out []web.NoticeState
	for _, st := range all {
		s, _ := n.c.Region.System(st.Source)
		o, _ := n.c.Region.Organisation(s.Organisation)
		row := web.NoticeState{System: st.Source, ID: st.ID, Owner: cmp.Or(o.Name, s.Organisation, "nobody: the region file no longer has the system"), State: "ok", Events: st.Events, Waits: st.Waiting, Since: st.Since}
		switch row.Problem = st.Progress.Why; {
		case st.State == subscription.Failed:
			row.State, row.Problem = "failing", "Given up: "+row.Problem+". Mend it, and have the Subscription requested again."
		case st.Tries > 0:
			row.State, row.Problem = "failing", row.Problem+"; it is tried again"
		case st.State == subscription.Requested:
			row.State, row.Problem = "silent", "requested, and not begun yet"
		}
		out = append(out, row)
	}
	slices.SortStableFunc(out, func(a, b web.NoticeState) int {
		rank := map[string]int{"failing": 0, "silent": 1, "ok": 2}
		return cmp.Or(rank[a.State]-rank[b.State], cmp.Compare(a.System, b.System), cmp.Compare(a.ID, b.ID))
	})
	return out, nil
}

var noticesDesc = prometheus.NewDesc("tombolo_notifications_waiting", "Events of which a system's endpoints have yet to be told.", []string{"source"}, nil)

// collectNotices adds what waits.
func (n *Node) collectNotices(ch chan<- prometheus.Metric) {
	all, err := n.Notices.All(context.Background())
	if err != nil {
		return
	}
	waiting := map[string]uint64{}
	for _, st := range all {
		waiting[st.Source] += st.Waiting
	}
	for source, v := range waiting {
		ch <- prometheus.MustNewConstMetric(noticesDesc, prometheus.GaugeValue, float64(v), source)
	}
}
