package gather_test

import (
	"bytes"
	"context"
	"fmt"
	"reflect"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"tombolo/audit"
	"tombolo/connector"
	"tombolo/dataset"
	"tombolo/fhir"
	"tombolo/gather"
)

func (b *bench) entries(t testing.TB) []audit.Entry {
	t.Helper()
	var out []audit.Entry
	for e, err := range b.audit.All(t.Context(), 0, 0) {
		must(t, err)
		out = append(out, e)
	}
	return out
}

// A past view is rebuilt byte for byte when its sources say something else, or are gone.
func TestPastViewsAreRebuiltByteForByteWithTheirSourcesGone(t *testing.T) {
	views := 1000
	if testing.Short() {
		views = 100
	}
	var day atomic.Int64 // a question that came too late may still read them
	var gone atomic.Bool
	changing := func(name string) source {
		return func(_ context.Context, q connector.Question) (*connector.Answer, error) {
			day := int(day.Load())
			if gone.Load() {
				return nil, fhir.Errorf(fhir.Transient, "gone")
			}
			a := &connector.Answer{Patient: patient("p", annsNumber, "Taylor", "1948-03-12"), States: map[dataset.Heading]dataset.State{dataset.Problems: dataset.Present, dataset.Allergies: dataset.NoneRecorded}}
			for i := range 3 + day%3 {
				a.Content = append(a.Content, problem(fmt.Sprintf("%d", 100+i), "p"))
			}
			if day%5 == 0 {
				a.Content = append(a.Content, problem(fmt.Sprintf("%s%d", name, day), "p"))
			}
			if day%7 == 0 {
				a.Issues = append(a.Issues, fhir.Errorf(fhir.Incomplete, "as scripted"))
			}
			return a, nil
		}
	}
	b := open(t, map[string]connector.Asker{"one": changing("a"), "two": changing("b")})
	s := b.as(t, "doctor")
	id, err := b.Find(t.Context(), s, ann)
	must(t, err)
	const base, self = "https://record.example/fhir", "https://record.example/fhir/$gather"
	var bundles [][]byte
	var records []*gather.Record
	for n := range views {
		day.Store(int64(n))
		rec, err := b.Record(t.Context(), s, id, gather.Ask{Query: "$gather"})
		must(t, err)
		bundles, records = append(bundles, rec.Bundle(base, self)), append(records, rec)
	}
	gone.Store(true)
	b.record(t) // the sources are really gone
	n := 0
	for _, e := range b.entries(t) {
		if _, ok, err := e.Root(); err != nil || !ok || n == views {
			continue
		}
		rec, err := gather.Rebuild(t.Context(), b.audit, b.db, e)
		must(t, err)
		if got := rec.Bundle(base, self); !bytes.Equal(got, bundles[n]) {
			t.Fatalf("view %d, rebuilt, differs:\n%s\nwas\n%s", n, got, bundles[n])
		}
		for i, sec := range rec.Sections { // what the pages show beside: when each was received
			for j, entry := range sec.Entries {
				for k, m := range entry.Members {
					if was := records[n].Sections[i].Entries[j].Members[k]; !m.Received.Equal(was.Received) || m.Name != was.Name {
						t.Fatalf("view %d: %s of %s was received %s, rebuilt %s", n, m.Resource.Ref(), was.Name, was.Received, m.Received)
					}
				}
			}
		}
		if !reflect.DeepEqual(rec.Lanes[0].Headings, records[n].Lanes[0].Headings) {
			t.Fatalf("view %d: states %v, were %v", n, rec.Lanes[0].Headings, records[n].Lanes[0].Headings)
		}
		n++
	}
	if n != views {
		t.Errorf("%d views rebuilt, want %d", n, views)
	}
}

// A record that is left while it still grows is remembered with what had been seen, and only that.
func TestLeavingEarlyIsRememberedWithWhatWasSeen(t *testing.T) {
	hold := make(chan struct{})
	b := open(t, map[string]connector.Asker{"quick": gives("seen"), "slow": source(func(ctx context.Context, q connector.Question) (*connector.Answer, error) {
		select {
		case <-hold:
		case <-ctx.Done():
		}
		return gives("unseen")(ctx, q)
	})})
	defer close(hold)
	s := b.as(t, "doctor")
	id, err := b.Find(t.Context(), s, ann)
	must(t, err)
	var last *gather.Record
	for rec, err := range b.Watch(t.Context(), s, id, gather.Ask{}) {
		must(t, err)
		if last = rec; has(rec, "seen") {
			break
		}
	}
	all := b.entries(t)
	if len(all) != 2 {
		t.Fatalf("%d entries, want the opening and what was seen", len(all))
	}
	first, err := all[0].Summary()
	must(t, err)
	if first.Kind != audit.Opened {
		t.Errorf("the first is %s", first.Kind)
	}
	rec, err := gather.Rebuild(t.Context(), b.audit, b.db, all[1])
	must(t, err)
	if !bytes.Equal(rec.Bundle("x", "y"), last.Bundle("x", "y")) || has(rec, "unseen") {
		t.Error("what was seen is not what is remembered")
	}
}

func has(rec *gather.Record, problem string) bool {
	for _, s := range rec.Sections {
		for _, e := range s.Entries {
			if e.Lead.Text("code.coding.code") == problem {
				return true
			}
		}
	}
	return false
}

// nowhere remembers nothing: what a reading costs without its audit.
type nowhere struct{}

func (nowhere) Append(context.Context, audit.Event) (audit.Entry, error) { return audit.Entry{}, nil }

// BenchmarkAudited reads the same record with and without its audit, in turns, and gives the difference of the medians.
func BenchmarkAudited(b *testing.B) {
	var problems []string
	for i := range 150 {
		problems = append(problems, fmt.Sprint(100+i))
	}
	with := open(b, map[string]connector.Asker{"one": gives(problems...)})
	opts := with.opts
	opts.Audit = nowhere{}
	without := gather.New(opts)
	s := with.as(b, "doctor")
	id, err := with.Find(b.Context(), s, ann)
	must(b, err)
	var took [2][]time.Duration
	for b.Loop() {
		for i, g := range []*gather.Gatherer{with.Gatherer, without} {
			start := time.Now()
			_, err := g.Record(b.Context(), s, id, gather.Ask{})
			must(b, err)
			took[i] = append(took[i], time.Since(start))
		}
	}
	a, c := median(took[0]), median(took[1])
	b.ReportMetric(float64((a - c).Microseconds()), "audit-µs/p50")
	b.ReportMetric(float64(a)/float64(c), "ratio")
}

func (nowhere) AppendAll(context.Context, []audit.Event) ([]audit.Entry, error) { return nil, nil }

func median(d []time.Duration) time.Duration {
	slices.Sort(d)
	return d[len(d)/2]
}
