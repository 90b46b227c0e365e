package bench

import (
	"encoding/json"
	"strings"
	"testing"
)

// The workloads run and count what they say; how fast is nobody's business here.
func TestWorkloadsRunAndCount(t *testing.T) {
	for name, count := range map[string]int{"mllp": 64, "import": 64, "gather": 16, "read-person": 4} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			measured := 0
			r, err := Run(t.Context(), name, Options{Count: count, Connections: 2, Seed: 1, Measure: func() func() { return func() { measured++ } }})
			if err != nil {
				t.Fatal(err)
			}
			if measured != 1 || r.Workload != name || r.Count < count*9/10 || r.PerSecond <= 0 || r.What == "" || r.Machine.Cores < 1 {
				t.Errorf("got %+v", r)
			}
			if r.More["rejected"] > 0 {
				t.Errorf("%v messages of the workload were rejected", r.More["rejected"])
			}
			data, err := json.Marshal(r)
			if err != nil || !strings.Contains(string(data), `"perSecond":`) || !strings.Contains(r.String(), name) {
				t.Errorf("the result is told as %s, %s (%v)", data, r, err)
			}
		})
	}
	if _, err := Run(t.Context(), "nothing", Options{}); err == nil || !strings.Contains(err.Error(), "mllp") {
		t.Errorf("got %v, want the workloads that there are", err)
	}
}

func TestOnePersonsMessagesStayInOrderOnOneConnection(t *testing.T) {
	queues := Messages(1, 500, 4)
	total, where := 0, map[string]int{}
	for i, q := range queues {
		total += len(q)
		for _, m := range q {
			pid := string(m[strings.Index(string(m), "\rPID|"):])
			person := strings.SplitN(pid, "|", 5)[3]
			if was, ok := where[person]; ok && was != i {
				t.Fatalf("a person's messages are on connections %d and %d", was, i)
			}
			where[person] = i
		}
	}
	if total != 500 || len(where) < 50 {
		t.Errorf("%d messages of %d people", total, len(where))
	}
	again := Messages(1, 500, 4)
	for i := range queues {
		for k := range queues[i] {
			if string(queues[i][k]) != string(again[i][k]) {
				t.Fatal("the same seed gave other messages")
			}
		}
	}
}
