package gather_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"tombolo/connector"
	"tombolo/dataset"
	"tombolo/fhir"
	"tombolo/gather"
	"tombolo/region"
)

// A moody source says what it is told to say next.
type moody struct{ now atomic.Value }

func (m *moody) becomes(s source) { m.now.Store(s) }

func (m *moody) Ask(ctx context.Context, q connector.Question) (*connector.Answer, error) {
	return m.now.Load().(source)(ctx, q)
}

// A clock that the test moves.
type clock struct{ atomic.Int64 }

func (c *clock) now() time.Time { return time.Unix(c.Load(), 0).UTC() }

func (c *clock) passes(d time.Duration) { c.Add(int64(d.Seconds())) }

// keeping opens a bench with one source of whose answers the last good one is kept for a day.
func keeping(t *testing.T) (*bench, *moody, *clock) {
	t.Helper()
	m, c := &moody{}, &clock{}
	c.Store(time.Now().Unix())
	m.becomes(gives("1", "2"))
	b := openWith(t, map[string]connector.Asker{"one": m}, func(r *region.Region) { r.Systems[1].Limits.LastGood = 24 * time.Hour })
	b.opts.Now = c.now
	b.Gatherer = gather.New(b.opts)
	return b, m, c
}

// kept opens the record until what the source answers has been kept.
func (b *bench) kept(t *testing.T) {
	t.Helper()
	before := b.snapshots(t)
	rec := b.record(t)
	if l := lane(rec, "one"); l.State != gather.Answered {
		t.Fatalf("the source %s", l.State)
	}
	for range 200 {
		if b.snapshots(t) != before {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("the answer was not kept")
}

// snapshots is all that is kept of sources' answers, as one text to compare.
func (b *bench) snapshots(t *testing.T) string {
	t.Helper()
	var all strings.Builder
	for room := range 64 {
		for item, err := range b.db.View("last-good-"+string(rune('0'+room/10))+string(rune('0'+room%10))).Scan(t.Context(), "") {
			must(t, err)
			all.WriteString(item.Key + " " + string(item.Value) + "\n")
		}
	}
	return all.String()
}

func TestWhatASourceSaidBeforeItFailedIsShownWithItsAge(t *testing.T) {
	b, m, c := keeping(t)
	b.kept(t)
	m.becomes(fails(fhir.Transient))
	c.passes(3 * time.Hour)
	rec := b.record(t)
	l := lane(rec, "one")
	if l.State != gather.Earlier || l.Count != 2 {
		t.Fatalf("the lane is %s with %d entries", l.State, l.Count)
	}
	if want := "could not be reached. What it answered 3 hours ago, on "; !strings.Contains(rec.Summary(), want) {
		t.Errorf("the summary %q does not say %q", rec.Summary(), want)
	}
	if age := c.now().Sub(l.AsOf); age < 3*time.Hour || age > 3*time.Hour+time.Minute {
		t.Errorf("it is stamped as of %s, which is %s ago", l.AsOf, age)
	}
	problems := rec.Section(dataset.Problems)
	if len(problems.Entries) != 2 || len(problems.Unknown) != 1 || rec.Complete(dataset.Problems) {
		t.Errorf("problems: %d entries, not known from %v, complete %v", len(problems.Entries), problems.Unknown, rec.Complete(dataset.Problems))
	}
	if got := problems.Entries[0].Members[0].Received; !got.Equal(l.AsOf) {
		t.Errorf("an entry is said to be received %s, the lane is as of %s", got, l.AsOf)
	}
	// It said three hours ago that there were no allergies: nobody knows whether that still holds.
	if st := rec.Section(dataset.Allergies).State; st != dataset.NotKnown {
		t.Errorf("allergies are %s", st)
	}
	bundle := string(rec.Bundle("x", "y"))
	for _, want := range []string{"an earlier answer, kept: the source did not answer now", "What it answered 3 hours ago"} {
		if !strings.Contains(bundle, want) {
			t.Errorf("the Bundle does not say %q", want)
		}
	}
	m.becomes(gives("1"))
	if l := lane(b.record(t), "one"); l.State != gather.Answered || l.Count != 1 {
		t.Errorf("once it answers again its lane is %s with %d entries", l.State, l.Count)
	}
}

func TestAnEarlierAnswerIsShownInTimeWhenTheSourceHangs(t *testing.T) {
	b, m, _ := keeping(t)
	b.kept(t)
	m.becomes(func(ctx context.Context, q connector.Question) (*connector.Answer, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	})
	if l := lane(b.record(t), "one"); l.State != gather.Earlier || l.Count != 2 {
		t.Errorf("the lane is %s with %d entries: %v", l.State, l.Count, l.Issue)
	}
}

func TestNothingEarlierIsShownThatIsTooOld(t *testing.T) {
	b, m, c := keeping(t)
	b.kept(t)
	m.becomes(fails(fhir.Transient))
	c.passes(25 * time.Hour)
	if l := lane(b.record(t), "one"); l.State != gather.Failed || l.Count != 0 {
		t.Errorf("after a day and an hour the lane is %s with %d entries", l.State, l.Count)
	}
	if n, err := b.DropEarlier(t.Context()); err != nil || n != 1 || b.snapshots(t) != "" {
		t.Errorf("%d snapshots were dropped (%v)", n, err)
	}
}

func TestASourceThatNoLongerSharesTakesItsSnapshotWithIt(t *testing.T) {
	for _, how := range []fhir.IssueType{fhir.NotFound, fhir.Suppressed, fhir.Forbidden} {
		t.Run(string(how), func(t *testing.T) {
			b, m, _ := keeping(t)
			b.kept(t)
			m.becomes(fails(how))
			if l := lane(b.record(t), "one"); l.Count != 0 {
				t.Errorf("the lane is %s with %d entries", l.State, l.Count)
			}
			for i := 0; b.snapshots(t) != "" && i < 200; i++ {
				time.Sleep(10 * time.Millisecond)
			}
			m.becomes(fails(fhir.Transient))
			if l := lane(b.record(t), "one"); l.State != gather.Failed || l.Count != 0 {
				t.Errorf("later, when it is down: %s with %d entries", l.State, l.Count)
			}
		})
	}
}

func TestASnapshotIsDecidedUponLikeAnythingElse(t *testing.T) {
	b, m, _ := keeping(t)
	b.kept(t)
	m.becomes(fails(fhir.Transient))
	b.opts.Region.Agreements = nil // the agreement ends
	s := b.as(t, "doctor")
	rec, err := b.Record(t.Context(), s, mustPerson(t, b), gather.Ask{})
	if err == nil && (lane(rec, "one").Count != 0 || lane(rec, "one").State != gather.Refused) {
		t.Errorf("without an agreement the lane is %s with %d entries", lane(rec, "one").State, lane(rec, "one").Count)
	}
}

func TestASnapshotOfOneHeadingLeavesTheOthersAsTheyWere(t *testing.T) {
	b, m, c := keeping(t)
	b.kept(t)
	c.passes(time.Hour)
	m.becomes(gives()) // asked for allergies alone, later: still none
	s := b.as(t, "doctor")
	id := mustPerson(t, b)
	before := b.snapshots(t)
	_, err := b.Record(t.Context(), s, id, gather.Ask{Headings: []dataset.Heading{dataset.Allergies}})
	must(t, err)
	for i := 0; b.snapshots(t) == before && i < 200; i++ {
		time.Sleep(10 * time.Millisecond)
	}
	m.becomes(fails(fhir.Transient))
	rec := b.record(t)
	if n := len(rec.Section(dataset.Problems).Entries); n != 2 {
		t.Errorf("%d problems, want the 2 of an hour before", n)
	}
	if age := c.now().Sub(lane(rec, "one").AsOf); age < time.Hour {
		t.Errorf("the lane is stamped %s old, the oldest of it is an hour old", age)
	}
}

func TestASnapshotTellsNothingByItsKey(t *testing.T) {
	b, _, _ := keeping(t)
	b.kept(t)
	for line := range strings.Lines(b.snapshots(t)) {
		if strings.Contains(line, annsNumber) || strings.Contains(line, "Taylor") {
			t.Error("a snapshot names the person")
		}
		break
	}
}

func TestASnapshotAboutSomebodyElseIsNotShown(t *testing.T) {
	b, m, _ := keeping(t)
	b.kept(t)
	m.becomes(func(context.Context, connector.Question) (*connector.Answer, error) {
		return &connector.Answer{Patient: patient("x", "9990000433", "Khan", "2015-11-05"), Content: []*fhir.Resource{problem("9", "x")}}, nil
	})
	if l := lane(b.record(t), "one"); l.State != gather.Failed || l.Issue.Type != fhir.BusinessRule || l.Count != 0 {
		t.Errorf("an answer about somebody else: %s with %d entries", l.State, l.Count)
	}
}
