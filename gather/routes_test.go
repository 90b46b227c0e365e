package gather_test

import (
	"context"
	"testing"

	"tombolo/connector"
	"tombolo/dataset"
	"tombolo/fhir"
	"tombolo/gather"
	"tombolo/region"
)

// byway is a neighbour that gives what another organisation holds.
func byway(from string, problems ...*fhir.Resource) source {
	return func(_ context.Context, q connector.Question) (*connector.Answer, error) {
		a := &connector.Answer{Patient: patient("np", annsNumber, "Taylor", "1948-03-12"), States: map[dataset.Heading]dataset.State{dataset.Problems: dataset.Present},
			Content: problems, Origins: map[fhir.Ref]connector.Origin{}}
		for _, p := range problems {
			a.Origins[p.Ref()] = connector.Origin{Organisation: from, ID: p.Text("code.coding.code")}
		}
		return a, nil
	}
}

func TestWhatComesByTwoRoutesIsCountedOnce(t *testing.T) {
	same := problem("c-at-the-neighbour", "np").With("code", fhir.Code(fhir.SystemSNOMED, "1", "Problem 1"))
	changed := problem("c2-at-the-neighbour", "np").With("code", fhir.Code(fhir.SystemSNOMED, "2", "Another problem 2"))
	for name, c := range map[string]struct {
		from string
		give *fhir.Resource
		said int // how often it is said, over all sources
	}{
		"the same, of the same organisation":       {"ONE", same, 1},
		"the same, of another organisation":        {"TWO", same, 2},
		"the same id, and something else said":     {"ONE", changed, 2},
		"the same, of an organisation not told of": {"", same, 2},
	} {
		t.Run(name, func(t *testing.T) {
			code := c.give.Text("code.coding.code")
			b := openWith(t, map[string]connector.Asker{"one": gives(code)}, func(r *region.Region) {
				r.Neighbours = []region.Neighbour{{ID: "wye", Name: "Wye", Kind: region.KindTombolo}}
			})
			b.opts.Askers["wye"] = byway(c.from, c.give)
			b.Gatherer = gather.New(b.opts)
			rec := b.record(t)
			if l := lane(rec, "wye"); l.State != gather.Answered {
				t.Fatalf("the neighbour %s: %v", l.State, l.Issue)
			}
			said := 0
			for _, e := range rec.Section(dataset.Problems).Entries {
				said += len(e.Members)
				if e.Members[0].Source != "one" && c.said == 1 {
					t.Errorf("it is shown as %s says it, and it came straight from its source too", e.Members[0].Source)
				}
			}
			if said != c.said {
				t.Errorf("it is said %d times, want %d", said, c.said)
			}
		})
	}
}
