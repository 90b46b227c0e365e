package bench

import (
	"encoding/json"
	"strings"
	"testing"

	"tombolo/fhir"
	"tombolo/kv/postgres/pgtest"
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

// The store's table is taken whole, on both engines, of made records; nothing of it is missing and all figures are figures.
func TestTheStoresTable(t *testing.T) {
	for _, engine := range []string{"embedded", "postgres"} {
		t.Run(engine, func(t *testing.T) {
			o := StoreOptions{Resources: 4000, Import: 300, Elsewhere: AtRest}
			if o.Seed = 1; engine == "postgres" {
				o.Store = pgtest.URL(t)
			}
			got := map[string]Result{}
			if err := Store(t.Context(), o, func(r Result) { got[r.Workload] = r }); err != nil {
				t.Fatal(err)
			}
			for _, name := range []string{"import-bundles", "import-ndjson", "bulk", "disk", "everything", "everything-p99", "patient-search", "code-date", "code-count", "read", "small-1", "small-32", "mixed", "at-rest"} {
				if r := got[name]; r.Got <= 0 || r.Unit == "" || r.Count <= 0 || r.What == "" || r.Data == "" {
					t.Errorf("%s: %+v", name, r)
				}
			}
			if got["everything"].More["growth"] <= 0 || len(got["limits"].More) != 4 || got["import-bundles"].More["rejected"]+got["import-ndjson"].More["rejected"] > 0 {
				t.Errorf("growth, limits or rejections: %+v, %+v, %+v", got["everything"], got["limits"], got["import-ndjson"])
			}
		})
	}
}

// Copies of a record are whole records of other people, and the same again for the same seed.
func TestACrowdIsManyPeople(t *testing.T) {
	c, again := madeCrowd(7, 5), madeCrowd(7, 5)
	seen := map[fhir.Ref]bool{}
	for n := range 12 {
		p, q := c.person(n), again.person(n)
		patients := 0
		for i, g := range p {
			r, err := fhir.Parse(g.raw)
			if err != nil {
				t.Fatal(err)
			}
			if string(q[i].raw) != string(g.raw) {
				t.Fatal("the same seed made another record")
			}
			if seen[r.Ref()] {
				t.Fatalf("%s is there twice", r.Ref())
			}
			if seen[r.Ref()] = true; r.Type() == "Patient" {
				if patients++; r.ID() != g.patient {
					t.Errorf("%s is in the record of %s", r.Ref(), g.patient)
				}
			} else if !strings.Contains(string(g.raw), `"Patient/`+g.patient+`"`) {
				t.Errorf("%s does not speak of its patient", r.Ref())
			}
		}
		if patients != 1 || len(p) < 200 {
			t.Errorf("person %d has %d patients among %d resources", n, patients, len(p))
		}
	}
	if len(c.codes("Condition")) < 50 {
		t.Error("too few codes")
	}
}
