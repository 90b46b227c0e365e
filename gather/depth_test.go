package gather_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"tombolo/connector"
	"tombolo/dataset"
	"tombolo/fhir"
	"tombolo/gather"
	"tombolo/probe"
)

// probed has a source's probing count in a bench.
func (b *bench) probed(results ...*probe.Result) {
	b.opts.Probed = func() map[string]*probe.Result {
		out := map[string]*probe.Result{}
		for _, r := range results {
			out[r.Source] = r
		}
		return out
	}
	b.Gatherer = gather.New(b.opts)
}

func takes(d time.Duration) probe.Speed { return probe.Speed{Tries: 3, P50: d, P95: d} }

// A source that both sends and can be asked, was not heard lately, and was found to take longer than it has, is not waited for: what it sent is taken, and the record
// says that it may be out of date and why it was not asked. Where it has sent nothing of the person, where it was found quick, or where the probe is old, it is asked.
func TestWhatWasSentIsTakenWhereAnAnswerWouldComeTooLate(t *testing.T) {
	now := time.Now()
	for _, c := range []struct {
		what  string
		found probe.Result
		sent  bool
		why   gather.Why
	}{
		{"found to take longer", probe.Result{At: now, Speed: takes(3 * time.Second)}, true, gather.WhySlow},
		{"that heading takes longer", probe.Result{At: now, Headings: map[dataset.Heading]*probe.Found{dataset.Problems: {Verdict: probe.Given, Speed: takes(time.Second)}}}, true, gather.WhySlow},
		{"late now and then", probe.Result{At: now, Speed: probe.Speed{Tries: 3, P50: 40 * time.Millisecond, P95: 3 * time.Second}}, true, gather.WhyStale},
		{"found so long ago that it counts no more", probe.Result{At: now.Add(-31 * 24 * time.Hour), Speed: takes(3 * time.Second)}, true, gather.WhyStale},
		{"it has never sent problems", probe.Result{At: now, Speed: takes(3 * time.Second), Headings: map[dataset.Heading]*probe.Found{dataset.Problems: {Verdict: probe.Given, Unsent: true}}}, true, gather.WhyStale},
	} {
		t.Run(c.what, func(t *testing.T) {
			one := &asks{Asker: gives("asked")}
			b := both(t, one, func() time.Time { return now.Add(-5 * time.Hour) })
			c.found.Source = "trust"
			b.probed(&c.found)
			rec := b.explained(t, "doctor")
			got := choice(t, rec, "trust", dataset.Problems)
			stored := c.why == gather.WhySlow
			if got.Why != c.why || (got.Way == "stored") != stored || (one.times.Load() == 0) != stored || (got.Slow > 0) != (stored || strings.Contains(c.what, "never")) {
				t.Errorf("asked %d times; the plan: %+v", one.times.Load(), got)
			}
			if has(rec, "sent") != stored || has(rec, "asked") == stored {
				t.Errorf("what was sent is there: %v, what was asked for: %v", has(rec, "sent"), has(rec, "asked"))
			}
			said := string(rec.Bundle("", ""))
			if strings.Contains(said, "The Trust was not asked for Problems: it was found on ") != stored {
				t.Errorf("the record says: %s", said)
			}
			if s := rec.Section(dataset.Problems); slices.Contains(s.Unknown, "The Trust") != stored {
				t.Errorf("problems are not known in full from %v", s.Unknown)
			}
		})
	}
}

// That a source has answered in time since it was probed counts for more than that it was slow then.
func TestASourceThatHasAnsweredInTimeSinceIsNotTakenForSlow(t *testing.T) {
	one := &asks{Asker: gives("asked")}
	b := both(t, one, func() time.Time { return time.Now().Add(-5 * time.Hour) })
	found := &probe.Result{Source: "trust", At: time.Now().Add(-40 * 24 * time.Hour), Speed: takes(3 * time.Second)}
	b.probed(found)
	if rec := b.explained(t, "doctor"); choice(t, rec, "trust", dataset.Problems).Why != gather.WhyStale {
		t.Fatal("a probe that is too old counts")
	}
	found.At = time.Now().Add(-time.Minute)
	if rec := b.explained(t, "doctor"); choice(t, rec, "trust", dataset.Problems).Slow != 0 || one.times.Load() != 2 {
		t.Errorf("asked %d times; the plan: %+v", one.times.Load(), choice(t, rec, "trust", dataset.Problems))
	}
	found.At = time.Now().Add(time.Second) // probed again since, and slow again
	if rec := b.explained(t, "doctor"); choice(t, rec, "trust", dataset.Problems).Why != gather.WhySlow {
		t.Errorf("the plan: %+v", choice(t, rec, "trust", dataset.Problems))
	}
}

// A source that can only be asked is asked however slow it was found to be; where it does not answer in time, its lane says that this was to be expected.
func TestASlowSourceIsAskedAndToldToBeSlow(t *testing.T) {
	one := &asks{Asker: source(func(ctx context.Context, _ connector.Question) (*connector.Answer, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	})}
	b := openWith(t, map[string]connector.Asker{"one": one}, explains)
	b.probed(&probe.Result{Source: "one", At: time.Now(), Speed: takes(3200 * time.Millisecond), Headings: map[dataset.Heading]*probe.Found{}})
	rec := b.explained(t, "doctor")
	if l := lane(rec, "one"); one.times.Load() != 1 || l.State != gather.Failed || l.Issue.Type != fhir.Timeout ||
		l.Issue.Text != "Source one did not answer within 400 ms: it was found to take 3.2 s, so it may not help to try again" {
		t.Errorf("asked %d times: %v", one.times.Load(), l.Issue)
	}
	if c := choice(t, rec, "one", dataset.Problems); c.Why != gather.WhyAsked || c.Slow != 3200*time.Millisecond {
		t.Errorf("the plan: %+v", c)
	}
	if !strings.Contains(string(rec.Bundle("", "")), `{"url":"slow-seconds","valueDecimal":3.200}`) {
		t.Error("the explanation does not say that it is slow")
	}
}

// Where a source has none of a heading, and was found to go back only so far, its lane and the section say how far: what is older would not be there. What goes
// back far, what was probed too long ago, and what is there, is not qualified.
func TestAnEmptyHeadingSaysHowFarBackItsSourceGoes(t *testing.T) {
	now := time.Now()
	month := now.AddDate(-1, -8, 0).Format("2006-01")
	for _, c := range []struct {
		what     string
		at       time.Time
		earliest string
		problems []string
		said     bool
	}{
		{"twenty months", now, month, nil, true},
		{"twenty months, and it has some", now, month, []string{"1"}, false},
		{"decades", now, "1987-06", nil, false},
		{"found too long ago", now.Add(-31 * 24 * time.Hour), month, nil, false},
	} {
		t.Run(c.what, func(t *testing.T) {
			b := openWith(t, map[string]connector.Asker{"one": gives(c.problems...)}, explains)
			b.probed(&probe.Result{Source: "one", At: c.at, Headings: map[dataset.Heading]*probe.Found{dataset.Problems: {Verdict: probe.Given, Way: "live", Entries: 3, Earliest: c.earliest}}})
			rec := b.explained(t, "doctor")
			l, s := lane(rec, "one"), rec.Section(dataset.Problems)
			if (l.Reaches[dataset.Problems] == month) != c.said || (len(s.Reach) > 0) != c.said {
				t.Errorf("the lane: %v; the section: %v", l.Reaches, s.Reach)
			}
			bundle, summary := string(rec.Bundle("", "")), string(rec.IPS("https://x.example", "Severn", "1"))
			back := "reaches back to " + probe.Month(month)
			if strings.Contains(bundle, back) != c.said || strings.Contains(bundle, `{"url":"source","valueCode":"one"},{"url":"reaches-back-to","valueDate":"`+month+`"}`) != c.said {
				t.Errorf("the Bundle: %s", bundle)
			}
			if strings.Contains(summary, back) != c.said {
				t.Errorf("the summary: %s", summary)
			}
			if len(c.problems) == 0 && s.State != dataset.NoneRecorded {
				t.Errorf("problems are %s: a limit is no reason to disbelieve the source", s.State)
			}
			if p := choice(t, rec, "one", dataset.Problems); c.at.Equal(now) && p.Reaches != c.earliest {
				t.Errorf("the plan: %+v", p)
			}
		})
	}
}

// A source that was heard lately, and was found never to have sent anything under a heading, is asked for that one.
func TestASourceIsAskedForWhatItNeverSends(t *testing.T) {
	one := &asks{Asker: gives("asked")}
	b := both(t, one, time.Now)
	b.probed(&probe.Result{Source: "trust", At: time.Now(), Headings: map[dataset.Heading]*probe.Found{dataset.Problems: {Verdict: probe.Given, Way: "both", Unsent: true}}})
	rec := b.explained(t, "doctor")
	if c := choice(t, rec, "trust", dataset.Problems); c.Why != gather.WhyUnsent || c.Way != "live" || one.times.Load() != 1 || !has(rec, "asked") {
		t.Errorf("asked %d times; the plan: %+v", one.times.Load(), c)
	}
}

// A node that has not heard a source since it started goes by when the source had last sent when it was probed, where that is lately enough.
func TestAfterARestartWhatAProbeCountedTellsHowFreshAFeedIs(t *testing.T) {
	now := time.Now()
	result := func(at, came time.Time) *probe.Result {
		return &probe.Result{Source: "trust", At: at, Headings: map[dataset.Heading]*probe.Found{dataset.Results: {Verdict: probe.Given, Way: "push", Came: came}, dataset.Problems: {Verdict: probe.Given, Way: "both"}}}
	}
	t.Run("heard lately", func(t *testing.T) {
		b := both(t, gives("asked"), func() time.Time { return time.Time{} })
		b.probed(result(now.Add(-time.Minute), now.Add(-10*time.Minute)))
		if c := choice(t, b.explained(t, "doctor"), "trust", dataset.Problems); c.Why != gather.WhyFresh || c.Age < 10*time.Minute {
			t.Errorf("the plan: %+v", c)
		}
	})
}
