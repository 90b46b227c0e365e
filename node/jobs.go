package node

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/prometheus/client_golang/prometheus"

	"tombolo/bulk"
	"tombolo/searchparam"
	"tombolo/web"
)

// jobStates are what goes on in the background for systems, for operators: exports and imports, and SearchParameters that are being indexed. Numbers, and whose they are:
// what was asked for may speak of people, and is not told.
func (n *Node) jobStates(ctx context.Context) ([]web.JobState, error) {
	jobs, err := n.Bulk.All(ctx)
	if err != nil {
		return nil, err
	}
	var out []web.JobState
	for _, j := range jobs {
		row := web.JobState{System: j.Source, ID: j.ID, What: jobKind(j), State: "ok", Progress: j.Progress(), Done: j.Done, Begun: j.Begun, Ended: j.Ended}
		switch {
		case j.State == bulk.Failed && j.Failure != nil:
			row.State, row.Progress = "failing", "Given up: "+j.Failure.Text
		case j.State == bulk.Failed:
			row.State = "failing"
		case j.State == bulk.Done:
			row.Progress = "ended; its files are kept until they are fetched or expire"
		case j.State != bulk.Running:
			row.State = "silent"
		}
		out = append(out, row)
	}
	params, err := n.Params.All(ctx)
	if err != nil {
		return nil, err
	}
	for source, all := range params {
		for _, p := range all {
			switch p.State {
			case searchparam.Indexing:
				out = append(out, web.JobState{System: source, ID: p.ID, What: "SearchParameter", State: "ok", Done: p.Done, Progress: fmt.Sprintf("type %d of %d: %d resources looked at", min(p.Type+1, len(p.Types)), len(p.Types), p.Done)})
			case searchparam.Refused:
				out = append(out, web.JobState{System: source, ID: p.ID, What: "SearchParameter", State: "failing", Done: p.Done, Progress: "It cannot be indexed: " + p.Why})
			}
		}
	}
	slices.SortStableFunc(out, func(a, b web.JobState) int {
		return cmp.Or(cmp.Compare(jobRank(a), jobRank(b)), b.Begun.Compare(a.Begun), cmp.Compare(a.System, b.System), cmp.Compare(a.ID, b.ID))
	})
	return out, nil
}

// jobRank puts what goes on before what failed, and what has ended last.
func jobRank(j web.JobState) int {
	switch {
	case j.State == "failing":
		return 1
	case !j.Ended.IsZero():
		return 2
	}
	return 0
}

func jobKind(j bulk.Job) string {
	if j.Import != nil {
		return "import"
	}
	return "export"
}

var (
	jobsDesc       = prometheus.NewDesc("tombolo_bulk_jobs", "Exports and imports of systems' own records, by their state.", []string{"source", "kind", "state"}, nil)
	givenDesc      = prometheus.NewDesc("tombolo_bulk_resources", "Resources that the exports and imports which there are have given or taken so far.", []string{"source", "kind"}, nil)
	parametersDesc = prometheus.NewDesc("tombolo_search_parameters", "SearchParameters that systems have defined, by their state.", []string{"source", "state"}, nil)
)

// collectJobs adds what goes on in the background.
func (n *Node) collectJobs(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v int, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(v), labels...)
	}
	if jobs, err := n.Bulk.All(context.Background()); err == nil {
		states, given := map[[3]string]int{}, map[[2]string]int{}
		for _, j := range jobs {
			states[[3]string{j.Source, jobKind(j), string(j.State)}]++
			given[[2]string{j.Source, jobKind(j)}] += j.Done
		}
		for l, v := range states {
			gauge(jobsDesc, v, l[:]...)
		}
		for l, v := range given {
			gauge(givenDesc, v, l[:]...)
		}
	}
	if params, err := n.Params.All(context.Background()); err == nil {
		states := map[[2]string]int{}
		for source, all := range params {
			for _, p := range all {
				states[[2]string{source, string(p.State)}]++
			}
		}
		for l, v := range states {
			gauge(parametersDesc, v, l[:]...)
		}
	}
}
