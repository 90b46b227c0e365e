package gather_test

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"tombolo/connector"
	"tombolo/dataset"
	"tombolo/fhir"
	"tombolo/gather"
	"tombolo/probe"
	"tombolo/region"
)

// asks is a source that remembers for what it was asked.
type asks struct {
	connector.Asker
	headings atomic.Pointer[[]dataset.Heading]
	times    atomic.Int32
}

func (a *asks) Ask(ctx context.Context, q connector.Question) (*connector.Answer, error) {
	a.headings.Store(&q.Headings)
	a.times.Add(1)
	return a.Asker.Ask(ctx, q)
}

func (a *asks) asked(h dataset.Heading) bool {
	hs := a.headings.Load()
	return hs != nil && slices.Contains(*hs, h)
}

// explained opens the record with its plan.
func (b *bench) explained(t testing.TB, user string) *gather.Record {
	t.Helper()
	return b.openFor(t, user, true)
}

func choice(t testing.TB, r *gather.Record, source string, h dataset.Heading) gather.Choice {
	t.Helper()
	i := slices.IndexFunc(r.Plan, func(c gather.Choice) bool { return c.Source == source && c.Heading == h })
	if i < 0 {
		t.Fatalf("the plan says nothing of %s at %s: %+v", h, source, r.Plan)
	}
	return r.Plan[i]
}

func explains(r *region.Region) { r.Policy.Explain = []string{"hospital-doctor"} }

// found is a probing of a source at a time.
func found(source string, at time.Time, h dataset.Heading, v probe.Verdict) func() map[string]*probe.Result {
	return func() map[string]*probe.Result {
		return map[string]*probe.Result{source: {Source: source, At: at, Speed: probe.Speed{Tries: 3, P95: 40 * time.Millisecond}, Headings: map[dataset.Heading]*probe.Found{h: {Verdict: v, Way: "live"}}}}
	}
}

// A source that a probe found not to give a heading is not asked for it, and the record says so; that it has none is never concluded. A probe that is too old
// counts no more, nor does one that found anything else.
func TestASourceIsNotAskedForWhatItWasFoundNotToGive(t *testing.T) {
	now := time.Now()
	for _, c := range []struct {
		what  string
		at    time.Time
		found probe.Verdict
		asked bool
	}{
		{"found lately not to provide it", now.Add(-time.Hour), probe.NotProvided, false},
		{"so long ago that it counts no more", now.Add(-31 * 24 * time.Hour), probe.NotProvided, true},
		{"did not answer when it was probed", now, probe.Unknown, true},
		{"had none of the test patient", now, probe.Empty, true},
		{"did not share it with whom it was probed as", now, probe.Refused, true},
	} {
		t.Run(c.what, func(t *testing.T) {
			one := &asks{Asker: gives("1")}
			b := openWith(t, map[string]connector.Asker{"one": one}, explains)
			b.opts.Probed = found("one", c.at, dataset.Allergies, c.found)
			b.Gatherer = gather.New(b.opts)
			rec := b.explained(t, "doctor")
			if one.asked(dataset.Allergies) != c.asked || !one.asked(dataset.Problems) {
				t.Errorf("asked for %v", *one.headings.Load())
			}
			said := string(rec.Bundle("", ""))
			if strings.Contains(said, "not provided by Source one: Allergies") == c.asked {
				t.Errorf("the record says: %s", said)
			}
			if s := rec.Section(dataset.Allergies); !c.asked && (s.State != dataset.NotKnown || !slices.Contains(s.Unknown, "Source one") || rec.Complete(dataset.Allergies)) {
				t.Errorf("allergies are %s, unknown from %v", s.State, s.Unknown)
			}
			why := gather.WhyAsked
			if !c.asked {
				why = gather.WhyNotProvided
			}
			if got := choice(t, rec, "one", dataset.Allergies); got.Why != why || (got.Way == "live") != c.asked {
				t.Errorf("the plan: %+v", got)
			}
		})
	}
}

// One that was found to give nothing of what it may be asked is not asked at all, and is named as not supporting it.
func TestASourceThatGivesNothingOfItIsNotAsked(t *testing.T) {
	one := &asks{Asker: gives("1")}
	b := openWith(t, map[string]connector.Asker{"one": one}, func(r *region.Region) { delete(r.Systems[1].Gives, dataset.Problems) })
	b.opts.Probed = found("one", time.Now(), dataset.Allergies, probe.NotProvided)
	b.Gatherer = gather.New(b.opts)
	rec := b.record(t)
	if l := lane(rec, "one"); one.times.Load() != 0 || l.State != gather.Failed || l.Issue.Type != fhir.NotSupported {
		t.Errorf("asked %d times; the lane %s: %v", one.times.Load(), l.State, l.Issue)
	}
	if s := rec.Section(dataset.Allergies); s.State != dataset.NotKnown {
		t.Errorf("allergies are %s", s.State)
	}
}

// both opens a bench whose trust sends results and problems and can be asked for problems too.
func both(t testing.TB, s connector.Asker, heard func() time.Time) *bench {
	t.Helper()
	b := openWith(t, map[string]connector.Asker{"one": gives("1")}, func(r *region.Region) {
		explains(r)
		r.Systems[0].Gives[dataset.Problems] = region.Both
		r.Systems[0].Deadline = 400 * time.Millisecond
	})
	b.opts.Askers["trust"] = s
	b.opts.Heard = func(source string) time.Time { return heard() }
	b.Gatherer = gather.New(b.opts)
	_, err := b.intake.Accept(t.Context(), connector.Delivery{Source: "trust", ID: "2", Raw: []byte("c"), Patient: "m1",
		Content: []*fhir.Resource{patient("m1", annsNumber, "Taylor", "1948-03-12"), problem("sent", "m1")}})
	must(t, err)
	return b
}

// Of a source that both sends and can be asked: what it sent is taken while it was heard lately; else it is asked; and where it does not answer, what it sent stands in,
// and the record says that it may be out of date.
func TestStoredAndFreshThenLiveThenWhatWasSent(t *testing.T) {
	for _, c := range []struct {
		what       string
		heard      time.Duration // ago; negative: never
		source     source
		way        string
		why        gather.Why
		asked      bool
		sent, full bool
	}{
		{"heard lately", time.Minute, gives("asked"), "stored", gather.WhyFresh, false, true, true},
		{"not heard for hours", 5 * time.Hour, gives("asked"), "live", gather.WhyStale, true, false, true},
		{"not heard since the start", -1, gives("asked"), "live", gather.WhyStale, true, false, true},
		{"not heard for hours, and down", 5 * time.Hour, fails(fhir.Transient), "live", gather.WhyStale, true, true, false},
	} {
		t.Run(c.what, func(t *testing.T) {
			one := &asks{Asker: c.source}
			b := both(t, one, func() time.Time {
				if c.heard < 0 {
					return time.Time{}
				}
				return time.Now().Add(-c.heard)
			})
			rec := b.explained(t, "doctor")
			got := choice(t, rec, "trust", dataset.Problems)
			if got.Way != c.way || got.Why != c.why || (one.times.Load() > 0) != c.asked {
				t.Errorf("asked %d times; the plan: %+v", one.times.Load(), got)
			}
			if has(rec, "sent") != c.sent || has(rec, "asked") != (c.asked && c.full) {
				t.Errorf("what was sent is there: %v, what was asked for: %v", has(rec, "sent"), has(rec, "asked"))
			}
			if s := rec.Section(dataset.Problems); slices.Contains(s.Unknown, "The Trust") == c.full {
				t.Errorf("problems are not known in full from %v", s.Unknown)
			}
			if said := string(rec.Bundle("", "")); strings.Contains(said, "may be out of date") == c.full {
				t.Errorf("said to be out of date: %v", !c.full)
			}
		})
	}
}

// What a feed sent that has been silent for longer than the region allows is shown, and never taken for all there is.
func TestAFeedThatFellSilentIsNotTakenForComplete(t *testing.T) {
	b := openWith(t, map[string]connector.Asker{"one": gives("1")}, func(r *region.Region) {
		explains(r)
		r.Gathering.Fresh = map[dataset.Heading]time.Duration{dataset.Results: time.Hour}
	})
	b.opts.Heard = func(string) time.Time { return time.Now().Add(-26 * time.Hour) }
	b.Gatherer = gather.New(b.opts)
	rec := b.explained(t, "doctor")
	if s := rec.Section(dataset.Results); !slices.Contains(s.Unknown, "The Trust") {
		t.Errorf("results are %s, unknown from %v", s.State, s.Unknown)
	}
	if !strings.Contains(string(rec.Bundle("", "")), "The Trust has sent nothing for 1 day, so what it sent may be out of date: Results") {
		t.Error("the record does not say that the feed is silent")
	}
	if c := choice(t, rec, "trust", dataset.Results); c.Fresh != time.Hour || c.Age < 26*time.Hour {
		t.Errorf("the plan: %+v", c)
	}
}

// A neighbour of last resort is asked for what this region's own sources left open, and for nothing else.
func TestANeighbourOfLastResortIsAskedForWhatIsMissing(t *testing.T) {
	lastResort := func(r *region.Region) {
		explains(r)
		r.Systems = slices.DeleteFunc(r.Systems, func(s region.System) bool { return s.ID == "wye" })
		r.Neighbours = []region.Neighbour{{ID: "wye", Name: "Wye", Kind: region.KindTombolo, LastResort: true, Deadline: 400 * time.Millisecond, Gives: []dataset.Heading{dataset.Problems, dataset.Allergies}}}
	}
	for _, c := range []struct {
		what   string
		source source
		asked  bool
		state  gather.LaneState
	}{
		{"they answered", gives("1"), false, gather.NotAsked}, {"one failed", fails(fhir.Transient), true, gather.Answered},
		{"one does not answer in time", func(ctx context.Context, _ connector.Question) (*connector.Answer, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}, true, gather.Answered},
	} {
		t.Run(c.what, func(t *testing.T) {
			wye := &asks{Asker: gives("w")}
			b := openWith(t, map[string]connector.Asker{"one": c.source, "wye": wye}, lastResort)
			rec := b.explained(t, "doctor")
			if l := lane(rec, "wye"); (wye.times.Load() > 0) != c.asked || l.State != c.state {
				t.Errorf("asked %d times, %s (%v)", wye.times.Load(), l.State, l.Issue)
			}
			why := gather.WhyNotMissing
			if c.asked {
				why = gather.WhyMissing
			}
			if got := choice(t, rec, "wye", dataset.Problems); got.Why != why {
				t.Errorf("the plan: %+v", got)
			}
		})
	}
}

// To whom the region file does not give it there is no plan; a refused source stands in it as a code.
func TestAPlanIsForThoseWhoMayHaveItExplained(t *testing.T) {
	b := openWith(t, map[string]connector.Asker{"one": gives("1")}, func(r *region.Region) {
		explains(r)
		r.Agreements[0].Parties = []string{"RX1"}
	})
	if rec := b.explained(t, "clerk"); rec.Plan != nil {
		t.Errorf("a clerk gets %d choices", len(rec.Plan))
	}
	rec := b.explained(t, "doctor")
	if c := choice(t, rec, "one", dataset.Problems); c.Way != "" || c.Why != gather.WhyPolicy || c.Policy == "" || c.Lane != gather.Refused {
		t.Errorf("a refused source: %+v", c)
	}
	if c := choice(t, rec, "trust", dataset.Results); c.Way != "stored" || c.Why != gather.WhySent || c.Policy == "" {
		t.Errorf("a source that sends: %+v", c)
	}
	plain := b.openFor(t, "doctor", false)
	if plain.Plan != nil || bytes.Contains(plain.Bundle("", ""), []byte(gather.ExtensionPlan)) {
		t.Error("who did not ask for the plan gets it")
	}
}

func (b *bench) openFor(t testing.TB, user string, explain bool) *gather.Record {
	t.Helper()
	s := b.as(t, user)
	id, err := b.Find(t.Context(), s, ann)
	must(t, err)
	rec, err := b.Record(t.Context(), s, id, gather.Ask{Explain: explain})
	must(t, err)
	return rec
}

// Whatever the sources do and whatever was found of them, the explanation changes nothing of the answer.
func TestExplainingNeverChangesTheAnswer(t *testing.T) {
	at := time.Now().Truncate(time.Second)
	sources, moods := map[string]connector.Asker{}, map[string]*moody{}
	for _, id := range []string{"s0", "s1", "s2"} {
		moods[id] = &moody{}
		sources[id] = moods[id]
	}
	b := openWith(t, sources, explains)
	whole := *b.opts.Region
	rapid.Check(t, func(rt *rapid.T) {
		verdicts := map[string]*probe.Result{}
		for id, m := range moods {
			switch rapid.SampledFrom([]string{"gives", "none", "fails", "refuses"}).Draw(rt, id) {
			case "gives":
				m.becomes(gives(id + "-1"))
			case "none":
				m.becomes(gives())
			case "fails":
				m.becomes(fails(fhir.Transient))
			case "refuses":
				m.becomes(fails(fhir.Suppressed))
			}
			if v := rapid.SampledFrom([]probe.Verdict{"", probe.Given, probe.NotProvided, probe.Unknown}).Draw(rt, id+" was found"); v != "" {
				verdicts[id] = &probe.Result{Source: id, At: at, Headings: map[dataset.Heading]*probe.Found{dataset.Problems: {Verdict: v}}}
			}
		}
		r := whole
		if rapid.Bool().Draw(rt, "one has agreed to nothing") {
			a := whole.Agreements[0]
			a.Parties = a.Parties[:len(a.Parties)-1]
			r.Agreements = []region.Agreement{a}
		}
		b.opts.Region, b.opts.Now, b.opts.Probed = &r, func() time.Time { return at }, func() map[string]*probe.Result { return verdicts }
		b.Gatherer = gather.New(b.opts)
		plain, told := b.openFor(t, "doctor", false), b.openFor(t, "doctor", true)
		if told.Plan == nil {
			rt.Fatal("there is no plan")
		}
		without := *told
		without.Plan = nil
		if a, c := plain.Bundle("", ""), without.Bundle("", ""); !bytes.Equal(a, c) {
			rt.Fatalf("explained:\n%s\nnot explained:\n%s", c, a)
		}
		for _, c := range told.Plan {
			if l := lane(told, c.Source); l.Headings[c.Heading] != c.State || l.State != c.Lane {
				rt.Fatalf("the plan says %+v of a lane that is %s, %s", c, l.State, l.Headings[c.Heading])
			}
		}
	})
}
