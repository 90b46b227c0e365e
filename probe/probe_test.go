package probe_test

import (
	"context"
	"iter"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"tombolo/connector"
	"tombolo/dataset"
	"tombolo/fhir"
	"tombolo/kv/pebble"
	"tombolo/locator"
	"tombolo/probe"
	"tombolo/region"
	"tombolo/store"
)

type source func(ctx context.Context, q connector.Question) (*connector.Answer, error)

func (s source) Ask(ctx context.Context, q connector.Question) (*connector.Answer, error) {
	return s(ctx, q)
}

type nothingSent struct{}

func (nothingSent) Held(context.Context, int) (map[string]*locator.Holding, error) { return nil, nil }

func (nothingSent) Patient(context.Context, ...string) iter.Seq2[*fhir.Resource, error] {
	return func(func(*fhir.Resource, error) bool) {}
}

var tester = fhir.Identifier{System: fhir.SystemNHSNumber, Value: "9990000107"}

func patient(nhs string) *fhir.Resource {
	return fhir.New("Patient", "p", fhir.M{"identifier": []fhir.Identifier{{System: fhir.SystemNHSNumber, Value: nhs}}})
}

func answers(q connector.Question, of string) *connector.Answer {
	a := &connector.Answer{Patient: patient(of), States: map[dataset.Heading]dataset.State{}}
	for _, h := range q.Headings {
		a.States[h] = dataset.NoneRecorded
	}
	return a
}

// probed probes one source that is said to give allergies, problems and documents, some of them sent too, with a deadline of 40 ms.
func probed(t *testing.T, s source, both ...dataset.Heading) (*probe.Result, *probe.Ledger, *store.DB) {
	t.Helper()
	engine, err := pebble.Open(pebble.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	db, err := store.Open(store.Options{Engine: engine})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	ledger, err := probe.NewLedger(t.Context(), db, nil)
	if err != nil {
		t.Fatal(err)
	}
	r := &region.Region{Systems: []region.System{{ID: "one", Name: "One", Connector: "fhirapi", Deadline: 40 * time.Millisecond,
		Gives: map[dataset.Heading]region.Way{dataset.Allergies: region.Live, dataset.Problems: region.Live, dataset.Documents: region.Live}}}}
	for _, h := range both {
		r.Systems[0].Gives[h] = region.Both
	}
	p := probe.New(probe.Options{Region: r, Askers: map[string]connector.Asker{"one": s}, Held: nothingSent{}, Kept: nothingSent{}, Ledger: ledger})
	out, err := p.Probe(t.Context(), probe.Ask{Patients: []fhir.Identifier{tester}, Tries: 3}, nil)
	if err != nil || len(out) != 1 {
		t.Fatal(out, err)
	}
	return out[0], ledger, db
}

// Sources that hang, answer about somebody else, contradict themselves or break are told of; nothing is concluded from them, and they do not hold the probe up.
func TestAHostileSourceIsProbed(t *testing.T) {
	var calls atomic.Int32
	for _, c := range []struct {
		what    string
		source  source
		verdict probe.Verdict // of documents
		said    string
	}{
		{"hangs", func(ctx context.Context, _ connector.Question) (*connector.Answer, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}, probe.Unknown, "did not answer in time"},
		{"breaks", func(context.Context, connector.Question) (*connector.Answer, error) { panic("as scripted") }, probe.Unknown, "a fault in its connector"},
		{"answers about somebody else", func(_ context.Context, q connector.Question) (*connector.Answer, error) {
			return answers(q, "9990000433"), nil
		}, probe.Unknown, "about somebody else"},
		{"refuses everything", func(context.Context, connector.Question) (*connector.Answer, error) {
			return nil, fhir.Errorf(fhir.NotSupported, "the source does not offer this search (status 404)")
		}, probe.Unknown, "does not offer this search"},
		{"does not offer documents", func(_ context.Context, q connector.Question) (*connector.Answer, error) {
			a := answers(q, tester.Value)
			if _, asked := a.States[dataset.Documents]; asked {
				delete(a.States, dataset.Documents)
				a.Issues = append(a.Issues, fhir.Errorf(fhir.NotSupported, "no search for documents"))
			}
			return a, nil
		}, probe.NotProvided, ""},
		{"says so one time in three", func(_ context.Context, q connector.Question) (*connector.Answer, error) {
			a := answers(q, tester.Value)
			if len(q.Headings) == 1 && q.Headings[0] == dataset.Documents && calls.Add(1) == 2 {
				delete(a.States, dataset.Documents)
				a.Issues = append(a.Issues, fhir.Errorf(fhir.NotSupported, "no search for documents"))
			}
			return a, nil
		}, probe.Empty, ""},
		{"takes longer than it has", func(_ context.Context, q connector.Question) (*connector.Answer, error) {
			time.Sleep(60 * time.Millisecond)
			return answers(q, tester.Value), nil
		}, probe.Empty, "It takes longer than the 40ms that it has for: Allergies"},
		{"takes longer for everything than it has", func(_ context.Context, q connector.Question) (*connector.Answer, error) {
			if len(q.Headings) > 1 {
				time.Sleep(60 * time.Millisecond)
			}
			return answers(q, tester.Value), nil
		}, probe.Empty, "Asked for everything at once, as a gathering asks, it takes"},
		{"gives documents, and says that it does not offer all of them", func(_ context.Context, q connector.Question) (*connector.Answer, error) {
			a := answers(q, tester.Value)
			if _, asked := a.States[dataset.Documents]; asked {
				delete(a.States, dataset.Documents)
				a.Content = append(a.Content, fhir.New("DocumentReference", "d", fhir.M{"date": "2024-05-06"}))
				a.Issues = append(a.Issues, fhir.Errorf(fhir.NotSupported, "no search for plans"))
			}
			return a, nil
		}, probe.Given, ""},
	} {
		t.Run(c.what, func(t *testing.T) {
			began := time.Now()
			r, ledger, db := probed(t, c.source)
			f := r.Headings[dataset.Documents]
			if f.Verdict != c.verdict {
				t.Errorf("documents: %+v, want %s", f, c.verdict)
			}
			if said := strings.Join(r.Problems, " "); !strings.Contains(said, c.said) {
				t.Errorf("it says %q, want %q", said, c.said)
			}
			if took := time.Since(began); took > 20*time.Second {
				t.Errorf("the probe took %s", took)
			}
			if kept := ledger.All()["one"]; kept == nil || kept.Headings[dataset.Documents].Verdict != c.verdict {
				t.Errorf("kept: %+v", kept)
			}
			again, err := probe.NewLedger(t.Context(), db, nil) // as after a restart
			if err != nil || again.All()["one"] == nil || !again.All()["one"].At.Equal(r.At) {
				t.Errorf("after a restart: %v", err)
			}
		})
	}
}

// Of a heading that is both sent and asked for, that it has never been sent is kept beside what the asking found, and shown with what follows from it.
func TestThatASourceNeverSendsWhatItIsAskedForIsFound(t *testing.T) {
	r, _, _ := probed(t, func(_ context.Context, q connector.Question) (*connector.Answer, error) {
		a := answers(q, tester.Value)
		a.States[dataset.Documents] = dataset.Present
		a.Content = append(a.Content, fhir.New("DocumentReference", "d", fhir.M{"date": "2024-05-06"}))
		return a, nil
	}, dataset.Documents)
	if f := r.Headings[dataset.Documents]; !f.Unsent || f.Verdict != probe.Given || r.Headings[dataset.Allergies].Unsent {
		t.Errorf("documents: %+v; allergies: %+v", f, r.Headings[dataset.Allergies])
	}
	now := r.At.Add(time.Hour)
	if got := strings.Join(r.Effects(dataset.Documents, now), "; "); !strings.Contains(got, "asked for also when the source was heard lately") || !strings.Contains(got, "said to reach back to May 2024") {
		t.Errorf("what follows: %q", got)
	}
	if r.Until = now.Add(-time.Minute); r.Effects(dataset.Documents, now) != nil {
		t.Error("something follows from a probe that is too old")
	}
}
