package gather_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"tombolo/connector"
	"tombolo/dataset"
	"tombolo/fhir"
	"tombolo/gather"
	"tombolo/probe"
	"tombolo/region"
)

// sawOf is what a probe found of the trust, an hour ago unless it says when.
func sawOf(h dataset.Heading, f probe.Found, whole probe.Speed, ago time.Duration) func() map[string]*probe.Result {
	r := &probe.Result{Source: "trust", At: time.Now().Add(-ago), Speed: whole, Headings: map[dataset.Heading]*probe.Found{h: &f}}
	return func() map[string]*probe.Result { return map[string]*probe.Result{"trust": r} }
}

// Of a source that both sends and can be asked, and was not heard lately: that it would not answer in time, as a probe found, keeps nobody waiting. What it sent is shown,
// and is said to be out of date perhaps. It is asked all the same if there is nothing else of this person's, and when the probe is too old to count.
func TestASourceThatWouldNotAnswerInTimeIsNotWaitedFor(t *testing.T) {
	late, soon := probe.Speed{Tries: 3, P50: time.Second, P95: 2 * time.Second}, probe.Speed{Tries: 3, P50: 20 * time.Millisecond, P95: 2 * time.Second}
	given := func(s probe.Speed) probe.Found {
		return probe.Found{Verdict: probe.Given, Way: "both", Speed: s, Earliest: "2019-04"}
	}
	for _, c := range []struct {
		what  string
		found func() map[string]*probe.Result
		user  string
		knows bool
		asked bool
	}{
		{"the heading takes too long", sawOf(dataset.Problems, given(late), soon, time.Hour), "doctor", true, false},
		{"everything at once takes too long, the heading was not timed", sawOf(dataset.Problems, given(probe.Speed{}), late, time.Hour), "doctor", true, false},
		{"everything at once takes too long, the heading does not", sawOf(dataset.Problems, given(soon), late, time.Hour), "doctor", true, true},
		{"mostly in time", sawOf(dataset.Problems, given(soon), soon, time.Hour), "doctor", true, true},
		{"so long ago that it counts no more", sawOf(dataset.Problems, given(late), late, 31*24*time.Hour), "doctor", true, true},
		{"it has sent nothing about this person", sawOf(dataset.Problems, given(late), late, time.Hour), "doctor", false, true},
	} {
		t.Run(c.what, func(t *testing.T) {
			one := &asks{Asker: gives("asked")}
			b := both(t, one, func() time.Time { return time.Now().Add(-5 * time.Hour) })
			who := ann
			if !c.knows {
				_, err := b.intake.Accept(t.Context(), connector.Delivery{Source: "one", ID: "9", Raw: []byte("w"), Patient: "w1", Content: []*fhir.Resource{patient("w1", "9990000123", "Marsh", "1950-01-01")}})
				must(t, err)
				who = fhir.Identifier{System: fhir.SystemNHSNumber, Value: "9990000123"}
			}
			b.opts.Probed = c.found
			b.Gatherer = gather.New(b.opts)
			s := b.as(t, c.user)
			id, err := b.Find(t.Context(), s, who)
			must(t, err)
			rec, err := b.Record(t.Context(), s, id, gather.Ask{Explain: true})
			must(t, err)
			got := choice(t, rec, "trust", dataset.Problems)
			if (one.times.Load() > 0) != c.asked {
				t.Errorf("asked %d times; the plan: %+v", one.times.Load(), got)
			}
			if c.asked {
				if got.Why != gather.WhyStale {
					t.Errorf("the plan: %+v", got)
				}
				return
			}
			if got.Way != "stored" || got.Why != gather.WhySlow || got.Reaches != "2019-04" || !strings.Contains(string(rec.Bundle("", "")), `"reaches-back-to","valueDate":"2019-04"`) {
				t.Errorf("the plan: %+v", got)
			}
			if sec := rec.Section(dataset.Problems); !has(rec, "sent") || !slices.Contains(sec.Unknown, "The Trust") || !strings.Contains(string(rec.Bundle("", "")), "may be out of date") {
				t.Errorf("what it sent is there: %v, and not known in full from %v", has(rec, "sent"), sec.Unknown)
			}
		})
	}
}

// Of a feed that had been silent for longer than the rule before this node started, what it sent is shown and not taken for all there is; of one that never sent anything of a
// kind about anybody it is said that this says nothing. What a probe found otherwise, or too long ago, changes nothing.
func TestASilentFeedIsNotTakenForAllThereIs(t *testing.T) {
	now := time.Now()
	for _, c := range []struct {
		what  string
		f     probe.Found
		ago   time.Duration
		whole bool
		says  string
	}{
		{"it was heard before it was probed", probe.Found{Verdict: probe.Given, Way: "push", Entries: 40, Came: now.Add(-10 * time.Minute)}, time.Minute, true, ""},
		{"it had been silent for two days", probe.Found{Verdict: probe.Given, Way: "push", Entries: 40, Came: now.Add(-48 * time.Hour)}, time.Hour, false, "The Trust had last sent something on"},
		{"found so long ago that it counts no more", probe.Found{Verdict: probe.Given, Way: "push", Entries: 40, Came: now.Add(-40 * 24 * time.Hour)}, 31 * 24 * time.Hour, true, ""},
		{"it had never sent any about anybody", probe.Found{Verdict: probe.Empty, Way: "push"}, time.Hour, false, "The Trust had sent nothing of this about anybody when that was looked at on"},
		{"it was asked, and had none of the test patient", probe.Found{Verdict: probe.Empty, Way: "live"}, time.Hour, true, ""},
	} {
		t.Run(c.what, func(t *testing.T) {
			b := openWith(t, map[string]connector.Asker{"one": gives("1")}, func(r *region.Region) {
				explains(r)
				r.Systems[0].Gives[dataset.Problems] = region.Push
				r.Gathering.Fresh = map[dataset.Heading]time.Duration{dataset.Problems: 24 * time.Hour}
			})
			_, err := b.intake.Accept(t.Context(), connector.Delivery{Source: "trust", ID: "2", Raw: []byte("c"), Patient: "m1",
				Content: []*fhir.Resource{patient("m1", annsNumber, "Taylor", "1948-03-12"), problem("sent", "m1")}})
			must(t, err)
			b.opts.Probed = sawOf(dataset.Problems, c.f, probe.Speed{}, c.ago)
			b.Gatherer = gather.New(b.opts)
			rec := b.explained(t, "doctor")
			if !has(rec, "sent") {
				t.Error("what it sent is not shown")
			}
			if unknown := rec.Section(dataset.Problems).Unknown; slices.Contains(unknown, "The Trust") == c.whole {
				t.Errorf("not known in full from %v", unknown)
			}
			if said := string(rec.Bundle("", "")); strings.Contains(said, "when that was looked at") != (c.says != "") || !strings.Contains(said, c.says) {
				t.Errorf("it does not say %q, or says it of what it should not", c.says)
			}
		})
	}
}
