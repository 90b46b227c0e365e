package locator_test

import (
	"context"
	"fmt"
	"iter"
	"maps"
	"math/rand/v2"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"tombolo/connector/nrl"
	"tombolo/events"
	"tombolo/fhir"
	"tombolo/kv/pebble"
	"tombolo/locator"
	"tombolo/sim"
	"tombolo/sim/national"
	"tombolo/store"
)

func openStore(t testing.TB) *store.DB {
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
	return db
}

// A town is who there is and what should be told of them.
type town struct {
	people   map[string]string // patient -> person
	wanted   map[string][]locator.Wanted
	national *national.Locator
	db       *store.DB
	client   *nrl.Client
	cut      func(act string) (before, after bool) // the connection breaks
	now      time.Time
}

// Broken connections: the request never comes there, or the answer never comes back.
func (w *town) broken(act string, do func() error) error {
	before, after := false, false
	if w.cut != nil {
		before, after = w.cut(act)
	}
	if before {
		return fhir.Errorf(fhir.Transient, "it could not be reached")
	}
	if err := do(); err != nil || !after {
		return err
	}
	return fhir.Errorf(fhir.Timeout, "it did not answer in time")
}

func (w *town) Create(ctx context.Context, p nrl.Pointer, correlation string) (id string, err error) {
	err = w.broken("create", func() (err error) { id, err = w.client.Create(ctx, p, ""); return err }) // one that heeds no correlation id
	return id, err
}
func (w *town) Update(ctx context.Context, p nrl.Pointer) error {
	return w.broken("update", func() error { return w.client.Update(ctx, p) })
}
func (w *town) Delete(ctx context.Context, id string) error {
	return w.broken("delete", func() error { return w.client.Delete(ctx, id) })
}
func (w *town) Own(ctx context.Context, q nrl.Query) (f nrl.Found, err error) {
	err = w.broken("own", func() (err error) { f, err = w.client.Own(ctx, q); return err })
	return f, err
}

var forms = func() []nrl.Form {
	f := nrl.Form{Custodian: "QSV", URL: "https://record.example/launch/nrl/{pointer}", Mechanism: nrl.InContext, Setting: fhir.Coding{System: fhir.SystemSNOMED, Code: "1060971000000108", Display: "General practice service"}}
	summary, plan := f, f
	summary.Type, _ = nrl.TypeOf(nrl.ClinicalSummary)
	plan.Type, _ = nrl.TypeNamed("736253002")
	return []nrl.Form{summary, plan}
}()

func (w *town) publisher() *locator.Publisher {
	return locator.NewPublisher(locator.PublisherOptions{Locator: "nrl", DB: w.db, Key: []byte("key"), To: w, Now: func() time.Time { return w.now },
		Want: func(_ context.Context, person string) ([]locator.Wanted, error) { return w.wanted[person], nil },
		PersonOf: func(_ context.Context, patient string) (string, error) {
			if p, ok := w.people[patient]; ok {
				return p, nil
			}
			return "", fhir.Errorf(fhir.NotFound, "nobody")
		},
		People: func(context.Context) iter.Seq2[string, error] {
			return func(yield func(string, error) bool) {
				for _, p := range slices.Sorted(maps.Keys(w.wanted)) {
					if !yield(p, nil) {
						return
					}
				}
			}
		},
		Settled: func(context.Context) error { return nil }})
}

func newTown(t testing.TB) *town {
	w := &town{people: map[string]string{}, wanted: map[string][]locator.Wanted{}, national: national.New(national.Options{Token: "t"}), db: openStore(t), now: time.Date(2026, 6, 1, 9, 0, 0, 0, time.UTC)}
	server := httptest.NewServer(w.national)
	t.Cleanup(server.Close)
	var err error
	if w.client, err = nrl.NewClient(nrl.ClientOptions{Address: server.URL, As: "QSV", Token: func(context.Context) (string, error) { return "t", nil }}); err != nil {
		t.Fatal(err)
	}
	return w
}

var numbers = []nrl.Number{"9990000107", "9990000204", "9990000301"}

// there are the pointers at the locator, as person's number and type.
func (w *town) there() []string {
	var out []string
	for _, p := range w.national.Pointers("") {
		out = append(out, p.Subject()+" "+p.Type())
	}
	slices.Sort(out)
	return out
}

func (w *town) should() []string {
	var out []string
	for _, all := range w.wanted {
		for _, x := range all {
			out = append(out, x.Subject.Digits()+" "+x.Form.Type.ID)
		}
	}
	slices.Sort(out)
	return out
}

// Whatever changes, breaks and is stopped in between, in the end there is each pointer that there should be, once, and no other.
func TestPublishingEndsWithWhatShouldBeThere(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := newTown(t)
		for i := range 4 {
			w.people[fmt.Sprintf("pt%d", i)] = fmt.Sprintf("person%d", i)
		}
		p := w.publisher()
		mark := func(patient string) {
			if _, err := w.db.Update(t.Context(), func(tx store.Tx) error {
				return p.Handle(t.Context(), tx, events.Event{Patient: patient, Ref: fhir.MakeRef("Patient", patient)})
			}); err != nil {
				rt.Fatal(err)
			}
		}
		var turn sync.Mutex // several are asked for at once
		chance := rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "connection"), 1))
		w.cut = func(string) (bool, bool) {
			turn.Lock()
			defer turn.Unlock()
			k := chance.IntN(6)
			return k == 0, k == 1
		}
		for range rapid.IntRange(3, 12).Draw(rt, "things that happen") {
			i := rapid.IntRange(0, 3).Draw(rt, "who")
			patient, person := fmt.Sprintf("pt%d", i), fmt.Sprintf("person%d", i)
			switch rapid.IntRange(0, 5).Draw(rt, "what") {
			case 0, 1: // what there should be changes: nothing, one or both, under a number
				w.wanted[person] = nil
				number := numbers[rapid.IntRange(0, len(numbers)-1).Draw(rt, "number")]
				taken := slices.ContainsFunc(slices.Collect(maps.Keys(w.wanted)), func(o string) bool {
					return o != person && slices.ContainsFunc(w.wanted[o], func(x locator.Wanted) bool { return x.Subject == number })
				})
				for _, f := range forms {
					if !taken && rapid.Bool().Draw(rt, "wanted") {
						w.wanted[person] = append(w.wanted[person], locator.Wanted{Form: f, Subject: number})
					}
				}
				mark(patient)
			case 2: // a merge: the patient is somebody else from now on, and who they were is nobody
				to := fmt.Sprintf("person%d", rapid.IntRange(0, 3).Draw(rt, "into"))
				if from := w.people[patient]; from != to {
					w.people[patient] = to
					delete(w.wanted, from)
					mark(patient)
				}
			case 3: // the program is stopped, and started again
				p = w.publisher()
			default:
				w.now = w.now.Add(time.Hour)
				if _, err := p.Step(t.Context()); err != nil {
					rt.Fatal(err)
				}
			}
		}
		w.cut = nil
		if err := p.Sweep(t.Context()); err != nil {
			rt.Fatal(err)
		}
		for range 12 {
			w.now = w.now.Add(time.Hour)
			if _, err := p.Step(t.Context()); err != nil {
				rt.Fatal(err)
			}
		}
		if got, want := w.there(), w.should(); !slices.Equal(got, want) {
			rt.Fatalf("there is %v\nshould be %v", got, want)
		}
		if n, err := p.Counts(t.Context()); err != nil || n.There != len(w.should()) {
			rt.Fatalf("it counts %+v (%v), and there are %d", n, err, len(w.should()))
		}
		for _, ask := range w.national.Asked() {
			for _, n := range numbers {
				if strings.Contains(ask, n.Digits()) {
					rt.Fatalf("a number stands in an address: %s", ask)
				}
			}
		}
	})
}

// A locator that is down costs no pointer, and what must go goes before what is new. What it was last is told without telling of whom.
func TestALocatorThatIsDownIsTriedAgain(t *testing.T) {
	w := newTown(t)
	p := w.publisher()
	step := func(wait time.Duration) {
		t.Helper()
		w.now = w.now.Add(wait)
		if _, err := p.Step(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	mark := func(patient, person string, wanted ...locator.Wanted) {
		t.Helper()
		w.people[patient], w.wanted[person] = person, wanted
		if _, err := w.db.Update(t.Context(), func(tx store.Tx) error {
			return p.Handle(t.Context(), tx, events.Event{Patient: patient, Ref: fhir.MakeRef("Patient", patient)})
		}); err != nil {
			t.Fatal(err)
		}
	}
	mark("a", "ann", locator.Wanted{Form: forms[0], Subject: numbers[0]})
	step(0)
	if got := w.there(); len(got) != 1 {
		t.Fatalf("registered: %v", got)
	}
	for _, fault := range []sim.Fault{sim.FaultDown, sim.Fault500, sim.Fault429, sim.FaultGarbage} {
		w.national.Set(fault, 0)
		mark("a", "ann")
		mark("b", "bob", locator.Wanted{Form: forms[0], Subject: numbers[1]})
		step(time.Minute)
		pr := p.Progress()
		if in, out, err := p.Waiting(t.Context()); err != nil || pr.Problem == "" || in+out == 0 && fault != sim.FaultGarbage {
			t.Errorf("%s: %+v, %d and %d wait (%v)", fault, pr, in, out, err)
		}
		if strings.Contains(pr.Problem, "999") {
			t.Errorf("%s: tells of whom: %s", fault, pr.Problem)
		}
		w.national.Set(sim.FaultNone, 0)
		step(time.Minute) // what must go is tried within the minute, however often it has failed
		if slices.Contains(w.there(), numbers[0].Digits()+" "+nrl.ClinicalSummary) {
			t.Errorf("%s: what must go is still there a minute after: %v", fault, w.there())
		}
		step(time.Hour)
		if got := w.there(); !slices.Equal(got, []string{numbers[1].Digits() + " " + nrl.ClinicalSummary}) {
			t.Errorf("%s: in the end there is %v", fault, got)
		}
		mark("a", "ann", locator.Wanted{Form: forms[0], Subject: numbers[0]})
		mark("b", "bob")
		step(time.Hour)
		step(time.Hour)
	}
	if pr := p.Progress(); pr.Problem != "" || !pr.Done {
		t.Errorf("all is well: %+v", pr)
	}
	// One that is lost there is noticed and registered again.
	lost := w.national.Pointers("")[0]
	w.national.Lose(lost.ID())
	w.now = w.now.Add(8 * 24 * time.Hour)
	if err := p.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	step(time.Minute)
	if got := w.national.Pointers(""); len(got) != 1 || got[0].ID() == lost.ID() {
		t.Errorf("after it was lost: %v", got)
	}
	if person, err := p.Person(t.Context(), lost.Local()); err != nil || person != "ann" {
		t.Errorf("whose it is: %q (%v)", person, err)
	}
	if _, err := p.Person(t.Context(), "nobody"); !fhir.Is(err, fhir.NotFound) {
		t.Errorf("nobody's: %v", err)
	}
}
