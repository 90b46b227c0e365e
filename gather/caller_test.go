package gather_test

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tombolo/access"
	"tombolo/connector"
	"tombolo/dataset"
	"tombolo/fhir"
	"tombolo/gather"
	"tombolo/region"
)

// limited opens a bench with one source, to be asked within limits.
func limited(t *testing.T, s source, limits region.Asking) *bench {
	return openWith(t, map[string]connector.Asker{"one": s}, func(r *region.Region) {
		i := slices.IndexFunc(r.Systems, func(s region.System) bool { return s.ID == "one" })
		r.Systems[i].Limits, r.Systems[i].Deadline = limits, 2*time.Second
	})
}

// person is whose record everybody here opens.
func (b *bench) person(t testing.TB, s *access.Session) string {
	t.Helper()
	id, err := b.Find(t.Context(), s, ann)
	must(t, err)
	return id
}

// together has n readers open Ann's record at the same time, and gives how the lane of the source stood for each.
func (b *bench) together(t *testing.T, n int, users ...string) []gather.Lane {
	t.Helper()
	lanes := make([]gather.Lane, n)
	var wg sync.WaitGroup
	for i := range n {
		s := b.as(t, users[i%len(users)])
		id := b.person(t, s)
		wg.Go(func() {
			rec, err := b.Record(t.Context(), s, id, gather.Ask{Headings: []dataset.Heading{dataset.Problems}})
			if err != nil {
				t.Error(err)
				return
			}
			lanes[i] = lane(rec, "one")
		})
	}
	wg.Wait()
	return lanes
}

func TestTheSameQuestionOfTheSameUserIsAskedOnce(t *testing.T) {
	var asked atomic.Int32
	open := make(chan struct{})
	b := limited(t, func(ctx context.Context, q connector.Question) (*connector.Answer, error) {
		asked.Add(1)
		<-open
		return gives("1")(ctx, q)
	}, region.Asking{})
	time.AfterFunc(300*time.Millisecond, func() { close(open) })
	for _, l := range b.together(t, 8, "doctor") {
		if l.State != gather.Answered || l.Count != 1 {
			t.Errorf("a reader got %s with %d entries", l.State, l.Count)
		}
	}
	if n := asked.Load(); n != 1 {
		t.Errorf("the source was asked %d times, want once", n)
	}
}

func TestTwoUsersQuestionsAreTwoQuestions(t *testing.T) {
	var mu sync.Mutex
	who := map[string]int{}
	b := openWith(t, map[string]connector.Asker{"one": source(func(ctx context.Context, q connector.Question) (*connector.Answer, error) {
		mu.Lock()
		who[q.Requester.UserID]++
		mu.Unlock()
		time.Sleep(30 * time.Millisecond)
		return gives("1")(ctx, q)
	})}, func(r *region.Region) {
		r.Users = append(r.Users, region.User{ID: "second", Name: "Dr Obi", Role: "hospital-doctor", Organisation: "RX1"})
		r.Systems[1].Limits.Remember = time.Minute
	})
	b.together(t, 2, "doctor", "second")
	if who["doctor"] != 1 || who["second"] != 1 {
		t.Errorf("the source was asked for %v: it must know of each who looks", who)
	}
}

func TestAQuestionThatNobodyWaitsForIsGivenUp(t *testing.T) {
	begun, ended := make(chan struct{}), make(chan error, 1)
	b := limited(t, func(ctx context.Context, q connector.Question) (*connector.Answer, error) {
		close(begun)
		<-ctx.Done()
		ended <- ctx.Err()
		return nil, ctx.Err()
	}, region.Asking{})
	s := b.as(t, "doctor")
	id := b.person(t, s)
	ctx, leave := context.WithCancel(t.Context())
	go func() { <-begun; leave() }()
	_, _ = b.Record(ctx, s, id, gather.Ask{})
	select {
	case <-ended:
	case <-time.After(20 * time.Second):
		t.Error("the source is still being asked after its only reader has left")
	}
	if b.Health()["one"].Failed != 0 {
		t.Error("the source is blamed for a reader who left")
	}
}

func TestNoMoreQuestionsAtATimeThanASourceTakes(t *testing.T) {
	var now, most atomic.Int32
	b := limited(t, func(ctx context.Context, q connector.Question) (*connector.Answer, error) {
		n := now.Add(1)
		defer now.Add(-1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		time.Sleep(20 * time.Millisecond)
		return gives("1")(ctx, q)
	}, region.Asking{Concurrent: 2})
	var wg sync.WaitGroup
	for i := range 12 {
		s := b.as(t, "doctor")
		id := b.person(t, s)
		wg.Go(func() { // different questions, so that each is asked
			if _, err := b.Record(t.Context(), s, id, gather.Ask{Headings: [][]dataset.Heading{{dataset.Problems}, {dataset.Allergies}, nil}[i%3]}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if most.Load() > 2 {
		t.Errorf("%d questions at a time, want 2 at the most", most.Load())
	}
}

func TestAFullSourceIsCalledBusyAndNotSick(t *testing.T) {
	free := make(chan struct{})
	defer close(free)
	deaf := func(ctx context.Context, q connector.Question) (*connector.Answer, error) {
		<-free
		return nil, ctx.Err()
	}
	b := openWith(t, map[string]connector.Asker{"one": source(deaf)}, func(r *region.Region) {
		r.Systems[1].Limits.Concurrent, r.Systems[1].Deadline = 1, 100*time.Millisecond
	})
	first := b.record(t) // holds the slot: its connector never comes back
	if l := lane(first, "one"); l.Issue == nil || l.Issue.Type != fhir.Timeout {
		t.Fatalf("the first reader was told %v", l.Issue)
	}
	failed := b.Health()["one"].Failed
	rec := b.record(t)
	if l := lane(rec, "one"); l.State != gather.Failed || l.Issue.Type != fhir.Throttled {
		t.Errorf("the second reader was told %s: %v", l.State, l.Issue)
	}
	if got := b.Health()["one"].Failed; got != failed {
		t.Error("that we are busy with it is counted as the source's failure")
	}
}

func TestNoMoreQuestionsInASecondThanASourceTakes(t *testing.T) {
	var asked atomic.Int32
	b := limited(t, func(ctx context.Context, q connector.Question) (*connector.Answer, error) {
		asked.Add(1)
		return gives("1")(ctx, q)
	}, region.Asking{PerSecond: 3})
	start := time.Now()
	busy := 0
	for range 4 { // each reading is a question of its own
		for _, h := range []dataset.Heading{dataset.Problems, dataset.Allergies} {
			s := b.as(t, "doctor")
			ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
			rec, err := b.Record(ctx, s, b.person(t, s), gather.Ask{Headings: []dataset.Heading{h}})
			cancel()
			if err == nil && lane(rec, "one").Issue != nil {
				busy++
			}
		}
	}
	if most := 3 + int32(3*time.Since(start).Seconds()) + 1; asked.Load() > most {
		t.Errorf("%d questions in %s at 3 a second", asked.Load(), time.Since(start))
	}
	if asked.Load() < 3 || int(asked.Load())+busy != 8 {
		t.Errorf("%d asked and %d turned away, of 8", asked.Load(), busy)
	}
}

func TestASecondQuestionGoesOutOnlyWhereHedgingIsOn(t *testing.T) {
	for _, hedge := range []time.Duration{0, 20 * time.Millisecond} {
		var asked atomic.Int32
		b := limited(t, func(ctx context.Context, q connector.Question) (*connector.Answer, error) {
			if asked.Add(1) == 1 { // the first hangs for a while
				select {
				case <-time.After(600 * time.Millisecond):
				case <-ctx.Done():
					return nil, ctx.Err()
				}
			}
			return gives("1")(ctx, q)
		}, region.Asking{Hedge: hedge})
		l := lane(b.record(t), "one")
		if l.State != gather.Answered {
			t.Errorf("hedge %s: %s", hedge, l.State)
		}
		if n := asked.Load(); hedge == 0 && n != 1 || hedge > 0 && (n != 2 || l.Took > 500*time.Millisecond) {
			t.Errorf("hedge %s: asked %d times, answered after %s", hedge, n, l.Took)
		}
	}
}

func TestAnAnswerIsRememberedForItsTimeAndDecidedUponAnew(t *testing.T) {
	var asked atomic.Int32
	b := limited(t, func(ctx context.Context, q connector.Question) (*connector.Answer, error) {
		asked.Add(1)
		return gives("1")(ctx, q)
	}, region.Asking{Remember: time.Minute})
	for range 3 {
		if l := lane(b.record(t), "one"); l.State != gather.Answered || l.Count != 1 {
			t.Fatalf("%s with %d entries", l.State, l.Count)
		}
	}
	if asked.Load() != 1 {
		t.Errorf("asked %d times within the time that answers are remembered", asked.Load())
	}
	// The agreement ends: what is remembered is not shown either.
	b.opts.Region.Agreements = nil
	s := b.as(t, "doctor")
	rec, err := b.Record(t.Context(), s, mustPerson(t, b), gather.Ask{})
	if err == nil {
		if l := lane(rec, "one"); l.Count != 0 || l.State != gather.Refused {
			t.Errorf("after the agreement ended the source's lane is %s with %d entries", l.State, l.Count)
		}
	}
}

func mustPerson(t *testing.T, b *bench) string {
	t.Helper()
	id, err := b.opts.People.Resolve(t.Context(), ann)
	must(t, err)
	return id
}

func TestAFailureIsNotRemembered(t *testing.T) {
	var asked atomic.Int32
	b := limited(t, func(ctx context.Context, q connector.Question) (*connector.Answer, error) {
		if asked.Add(1) == 1 {
			return nil, fhir.Errorf(fhir.Transient, "down")
		}
		return gives("1")(ctx, q)
	}, region.Asking{Remember: time.Minute})
	if l := lane(b.record(t), "one"); l.State != gather.Failed {
		t.Fatalf("%s", l.State)
	}
	if l := lane(b.record(t), "one"); l.State != gather.Answered {
		t.Errorf("after the source recovered its lane is %s", l.State)
	}
}

// Whoever asks and says for how long they wait (another region, of which this one is a source) gets by then what there is, however long this region would wait for its
// own sources.
func TestWhoWaitsNoLongerHasWhatThereIsByThen(t *testing.T) {
	b := openWith(t, map[string]connector.Asker{"good": gives("1"), "hangs": source(func(ctx context.Context, _ connector.Question) (*connector.Answer, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	})}, func(r *region.Region) {
		for i := range r.Systems {
			r.Systems[i].Deadline = 8 * time.Second
		}
	})
	s := b.as(t, "doctor")
	id := b.person(t, s)
	for _, waits := range []time.Duration{time.Second, time.Millisecond} { // of which the second cannot be kept
		s = b.as(t, "doctor")
		s.Waits = waits
		began := time.Now()
		rec, err := b.Record(t.Context(), s, id, gather.Ask{})
		must(t, err)
		if took := time.Since(began); took > 4*time.Second { // its own sources have twice that
			t.Errorf("for who waits %s it took %s", waits, took)
		}
		if l := lane(rec, "hangs"); l.State != gather.Failed || l.Issue.Type != fhir.Timeout {
			t.Errorf("what hangs is %s: %v", l.State, l.Issue)
		}
		if l := lane(rec, "good"); waits == time.Second && (l.State != gather.Answered || l.Count != 1) {
			t.Errorf("what answers is %s with %d entries", l.State, l.Count)
		}
	}
}
