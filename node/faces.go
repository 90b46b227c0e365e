package node

import (
	"cmp"
	"context"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"tombolo/access"
	"tombolo/intake"
	"tombolo/policy"
	"tombolo/region"
	"tombolo/web"
)

func (n *Node) webOptions() web.Options {
	return web.Options{Records: n.Gather, Access: n.Access, Looks: n, Desk: n, Feeds: n, Scope: n, Plans: n.Gather, Privacy: n, Choices: n, Identity: n, Logger: n.c.Logger, Name: n.c.Region.Name, Now: n.c.Now}
}

// deskRows is how many quarantined deliveries the desk lists.
const deskRows = 100

// Desk is how the node stands, for operators.
func (n *Node) Desk(ctx context.Context, _ *access.Session) (*web.DeskState, error) {
	out := &web.DeskState{}
	stats, health := n.Intake.Stats(), n.Gather.Health()
	for _, s := range n.c.Region.Systems {
		out.Sources = append(out.Sources, n.sourceState(s, stats, health[s.ID].Open, health[s.ID].LastOK, cmp.Or(health[s.ID].Unsafe, string(health[s.ID].Problem)), health[s.ID].Failed))
	}
	var held []intake.Quarantined
	for _, s := range n.c.Region.Systems { // what could not be taken at all; what was left out of the rest is on each source's page
		of, err := n.Intake.Held(ctx, s.ID, 0)
		if err != nil {
			return nil, err
		}
		held = append(held, of...)
	}
	slices.SortFunc(held, func(a, b intake.Quarantined) int { return a.At.Compare(b.At) })
	out.More = max(0, len(held)-deskRows)
	for _, q := range held[:min(len(held), deskRows)] {
		out.Quarantine = append(out.Quarantine, heldRow(q))
	}
	agreed, sensitive, _ := n.agreed.InForce()
	out.Stages = policy.StageLines(agreed, n.c.Now())
	for _, l := range sensitive.Lists() {
		does := cmp.Or(map[string]string{"withhold": "withheld from everybody", "show": "shown like anything else"}[agreed.Policy.Sensitive[l.Set]], "for clinicians only")
		if policy.Statutory(l.Set) {
			does = "withheld by statute"
		}
		out.Lists = append(out.Lists, web.CodeList{Title: l.Title, Version: l.Version, Codes: len(l.Codes), Complete: l.Complete, Does: does})
	}
	reviews, err := n.People.Reviews(ctx)
	if err != nil {
		return nil, err
	}
	for _, r := range reviews {
		system, _ := n.c.Region.System(r.Source)
		out.Quarantine = append(out.Quarantine, web.Quarantined{ID: "Patient/" + r.Patient, Source: r.Source, Owner: system.Organisation, Since: r.At, Where: "identity", Reason: "This patient " + r.Why})
	}
	if err := n.locatorStates(ctx, out); err != nil {
		return nil, err
	}
	if out.Notices, err = n.noticeStates(ctx); err != nil {
		return nil, err
	}
	if out.Jobs, err = n.jobStates(ctx); err != nil {
		return nil, err
	}
	differs, err := n.services.Differences(ctx)
	if err != nil {
		return nil, err
	}
	for _, d := range differs {
		out.Quarantine = append(out.Quarantine, web.Quarantined{ID: d.ODS, Source: "ODS", Owner: d.ODS, Since: n.c.Now(), Where: "directory", Reason: "This organisation " + d.Why})
	}
	if out.Audit, err = n.auditState(ctx); err != nil {
		return nil, err
	}
	tail, err := n.store.Tail(ctx)
	if err != nil {
		return nil, err
	}
	out.Events = uint64(tail)
	for _, f := range n.followers {
		st := f.Status()
		out.Followers = append(out.Followers, web.Follower{Name: f.Name, At: uint64(st.Handled), Behind: uint64(tail) - uint64(min(st.Handled, tail))})
	}
	return out, nil
}

func (n *Node) sourceState(s region.System, stats map[string]intake.Stat, open bool, lastOK time.Time, problem string, failed int) web.SourceState {
	org := s.Organisation
	if o, ok := n.c.Region.Organisation(s.Organisation); ok {
		org = o.Name
	}
	ways := slices.Sorted(maps.Values(s.Gives))
	way := "sends"
	if slices.ContainsFunc(ways, region.Way.Asked) {
		way = "is asked"
	}
	st := stats[s.ID]
	out := web.SourceState{ID: s.ID, Name: cmp.Or(s.Name, org), Organisation: org, Connector: s.Connector, Way: way, State: "ok",
		Last: st.Last, Accepted: st.Accepted, Rejected: st.Rejected, Page: true}
	if lastOK.After(out.Last) {
		out.Last = lastOK
	}
	switch {
	case s.Release.Off:
		out.State, out.Problem = "off", "Switched off in the region file (release: off)."
	case open:
		out.State, out.Problem = "failing", "Failed several times in a row ("+problem+") and is not asked for the moment. Check that it is up and its address is right."
	case failed > 0 && lastOK.IsZero():
		out.State, out.Problem = "failing", "Has never answered ("+problem+"). Check its address and this node's credentials there."
	case out.Last.IsZero():
		out.State, out.Problem = "silent", "Nothing has come from it since this node started."
	case st.Reused > 0:
		out.Problem = "Its sender uses message ids again: " + strconv.Itoa(st.Reused) + " since this node started. Have its counter looked at."
	}
	return out
}

// verifyEvery is how old the desk's verification of the audit log may be: a long log takes its time, and a desk is looked at often.
const verifyEvery = time.Minute

func (n *Node) auditState(ctx context.Context) (web.AuditState, error) {
	n.verified.Lock()
	defer n.verified.Unlock()
	if was := n.verified.state; !was.Checked.IsZero() && n.c.Now().Sub(was.Checked).Abs() < verifyEvery {
		return was, nil
	}
	rep, err := n.Audit.Verify(ctx)
	if err != nil {
		return web.AuditState{}, err
	}
	out := web.AuditState{OK: rep.OK(), Entries: int(rep.Entries), Head: rep.Head.String(), Checked: n.c.Now()}
	if !rep.OK() {
		out.Problem = rep.String()
	}
	n.verified.state = out
	return out, nil
}

// health adds what machines ask of the node: is it up, is it ready, how is it doing.
func (n *Node) health(mux *http.ServeMux) {
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok\n")) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), 2*time.Second)
		defer cancel()
		tail, err := n.store.Tail(ctx)
		for _, f := range n.followers {
			if err == nil {
				err = f.Await(ctx, tail)
			}
		}
		if err != nil {
			http.Error(w, "not ready: the index has not caught up with the log", http.StatusServiceUnavailable)
			return
		}
		_, _ = w.Write([]byte("ready\n"))
	})
	reg := prometheus.NewRegistry()
	reg.MustRegister(&collector{n})
	metrics := promhttp.HandlerFor(reg, promhttp.HandlerOpts{})
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, r *http.Request) {
		if !n.operates(r) {
			http.Error(w, "metrics are for this machine, and for operators: send an operator's access token", http.StatusUnauthorized)
			return
		}
		metrics.ServeHTTP(w, r)
	})
}

// operates reports whether a request comes from this machine or an operator. What the sources of a region are and how they do is not for everybody.
func (n *Node) operates(r *http.Request) bool {
	if loopback(r.RemoteAddr) {
		return true
	}
	s, err := n.Access.Session(r)
	if err != nil {
		return false
	}
	info, _ := s.Role.Info()
	return info.Operates
}

// A collector turns the node's counts into metrics. Their labels are systems of the region file and outcomes, never people.
type collector struct{ n *Node }

var (
	deliveriesDesc = prometheus.NewDesc("tombolo_deliveries_total", "Deliveries from a source by what became of them.", []string{"source", "outcome"}, nil)
	asksDesc       = prometheus.NewDesc("tombolo_asks_total", "Questions to a live source by result.", []string{"source", "result"}, nil)
	openDesc       = prometheus.NewDesc("tombolo_source_open", "1 while a source fails so often that it is not asked.", []string{"source"}, nil)
	unsentDesc     = prometheus.NewDesc("tombolo_audit_unsent", "Audit entries that are still to be sent to the audit repository.", nil, nil)
	waitingDesc    = prometheus.NewDesc("tombolo_register_waiting", "Patients about whom a national register is yet to be asked.", []string{"source"}, nil)
	behindDesc     = prometheus.NewDesc("tombolo_follower_behind", "Events that a follower of the log has yet to take in.", []string{"follower"}, nil)
)

// Describe sends nothing: the metrics depend on the region file.
func (c *collector) Describe(chan<- *prometheus.Desc) {}

// Collect reads the counts.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	count := func(d *prometheus.Desc, v int, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	for id, s := range c.n.Intake.Stats() {
		count(deliveriesDesc, s.Accepted, id, "accepted")
		count(deliveriesDesc, s.Duplicates, id, "duplicate")
		count(deliveriesDesc, s.Rejected, id, "rejected")
		count(deliveriesDesc, s.Failed, id, "failed")
	}
	for id, h := range c.n.Gather.Health() {
		count(asksDesc, h.Asked-h.Failed, id, "answered")
		count(asksDesc, h.Failed, id, "failed")
		open := 0.0
		if h.Open {
			open = 1
		}
		ch <- prometheus.MustNewConstMetric(openDesc, prometheus.GaugeValue, open, id)
	}
	c.n.collectFeeds(ch)
	c.n.collectLocators(ch)
	c.n.collectNotices(ch)
	c.n.collectJobs(ch)
	for _, r := range c.n.registers {
		if left, err := r.Waiting(context.Background()); err == nil {
			ch <- prometheus.MustNewConstMetric(waitingDesc, prometheus.GaugeValue, float64(left), r.sys.ID)
		}
	}
	if f := c.n.auditFeed; f != nil {
		if left, err := f.Behind(context.Background()); err == nil {
			ch <- prometheus.MustNewConstMetric(unsentDesc, prometheus.GaugeValue, float64(left))
		}
	}
	tail, err := c.n.store.Tail(context.Background())
	if err != nil {
		return
	}
	for _, f := range c.n.followers {
		behind := float64(tail) - float64(f.Status().Handled)
		ch <- prometheus.MustNewConstMetric(behindDesc, prometheus.GaugeValue, max(behind, 0), f.Name)
	}
}
