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
	"tombolo/policy"
	"tombolo/region"
	"tombolo/standing"
)

// What has changed since a source answered holds for what is kept of its answer, as soon as it is known.

// chosen is what people have chosen since.
type chosen struct{ policy.Standing }

func (c *chosen) Of(context.Context, ...string) (policy.Standing, []standing.Tie, error) {
	return c.Standing, nil, nil
}

func TestAConsentWithdrawnSinceHoldsForAnEarlierAnswer(t *testing.T) {
	b, m, _ := keeping(t)
	c := &chosen{}
	b.opts.Standing = c
	b.Gatherer = gather.New(b.opts)
	b.kept(t)
	m.becomes(fails(fhir.Transient))
	if l := lane(b.record(t), "one"); l.State != gather.Earlier || l.Count != 2 {
		t.Fatalf("before: %s with %d entries", l.State, l.Count)
	}
	c.Choices = policy.Choices{{ID: "c", Root: policy.Provision{Headings: []dataset.Heading{dataset.Problems}}}}
	rec := b.record(t)
	if l := lane(rec, "one"); l.Count != 0 || rec.Section(dataset.Problems).State == dataset.Present {
		t.Errorf("what the person now objects to is shown as it was: %s with %d entries", l.State, l.Count)
	}
}

func TestAUnitUnreleasedSinceHoldsForAnEarlierAnswer(t *testing.T) {
	b, m, _ := keeping(t)
	m.becomes(func(_ context.Context, q connector.Question) (*connector.Answer, error) {
		a := &connector.Answer{Patient: patient("p", annsNumber, "Taylor", "1948-03-12"), States: map[dataset.Heading]dataset.State{dataset.Problems: dataset.Present, dataset.Allergies: dataset.NoneRecorded}}
		for i, ward := range []string{"WARD7", "WARD8"} {
			a.Content = append(a.Content, problem(string(rune('1'+i)), "p").With("meta", fhir.M{"tag": []fhir.Coding{{System: dataset.SystemUnit, Code: ward}}}))
		}
		return a, nil
	})
	b.kept(t)
	m.becomes(fails(fhir.Transient))
	if l := lane(b.record(t), "one"); l.State != gather.Earlier || l.Count != 2 {
		t.Fatalf("before: %s with %d entries", l.State, l.Count)
	}
	as := func(release region.Release) gather.Lane {
		now := *b.opts.Region
		now.Systems = append([]region.System{}, now.Systems...)
		now.Systems[1].Release = release
		b.opts.Agreed = inForce{&now}
		b.Gatherer = gather.New(b.opts)
		return lane(b.record(t), "one")
	}
	if l := as(wardEight(region.Stage{Off: true})); l.State != gather.Earlier || l.Count != 1 {
		t.Errorf("with ward 8 off: %s with %d entries, want ward 7's", l.State, l.Count)
	}
	off := region.Staged(region.Stage{All: true, SignOff: officer}, region.Stage{Off: true, Units: []string{"WARD7", "WARD8"}})
	if l := as(off); l.State != gather.Failed || l.Count != 0 || !l.AsOf.IsZero() {
		t.Errorf("with both off: %s with %d entries as of %s: that something is kept tells that the source knows her", l.State, l.Count, l.AsOf)
	}
}

func TestSomebodyFoundToBeAnotherSinceIsNotShownFromAnEarlierAnswer(t *testing.T) {
	b, m, _ := keeping(t)
	b.kept(t)
	_, err := b.intake.Accept(t.Context(), connector.Delivery{Source: "one", ID: "r", Raw: []byte("r"), Patient: "p", Content: []*fhir.Resource{patient("p", "9990000433", "Khan", "2015-11-05")}})
	must(t, err)
	m.becomes(fails(fhir.Transient))
	if l := lane(b.record(t), "one"); l.State != gather.Failed || l.Count != 0 {
		t.Errorf("the source's patient is somebody else by now: %s with %d entries", l.State, l.Count)
	}
}

// A source decides by itself for whom it answers: what it told a doctor is not what it would tell a nurse.
func TestAnEarlierAnswerIsForThoseWhoAskAlike(t *testing.T) {
	m, c := &moody{}, &clock{}
	c.Store(time.Now().Unix())
	m.becomes(gives("1", "2"))
	b := openWith(t, map[string]connector.Asker{"one": m}, func(r *region.Region) {
		r.Systems[1].Limits.LastGood = 24 * time.Hour
		r.Users = append(r.Users, region.User{ID: "nurse", Name: "N", Role: "nurse", Organisation: "RX1"}, region.User{ID: "other", Name: "O", Role: "hospital-doctor", Organisation: "RX1"})
	})
	b.opts.Now = c.now
	b.Gatherer = gather.New(b.opts)
	b.kept(t)
	m.becomes(fails(fhir.Transient))
	for user, want := range map[string]gather.LaneState{"doctor": gather.Earlier, "other": gather.Earlier, "nurse": gather.Failed} {
		rec, err := b.Record(t.Context(), b.as(t, user), mustPerson(t, b), gather.Ask{})
		must(t, err)
		if l := lane(rec, "one"); l.State != want {
			t.Errorf("the %s sees the lane %s, want %s", user, l.State, want)
		}
	}
	m.becomes(fails(fhir.NotFound)) // to whoever asks: nobody's is kept any longer
	_, err := b.Record(t.Context(), b.as(t, "nurse"), mustPerson(t, b), gather.Ask{})
	must(t, err)
	for i := 0; b.snapshots(t) != "" && i < 200; i++ {
		time.Sleep(10 * time.Millisecond)
	}
	if b.snapshots(t) != "" {
		t.Error("the source no longer knows the person, and what it answered is still kept")
	}
}

// What supports entries that are not shown is not shown either.
func TestAnEarlierAnswerSupportsOnlyWhatIsShown(t *testing.T) {
	b, m, _ := keeping(t)
	m.becomes(func(_ context.Context, q connector.Question) (*connector.Answer, error) {
		return &connector.Answer{Patient: patient("p", annsNumber, "Taylor", "1948-03-12"), States: map[dataset.Heading]dataset.State{dataset.Problems: dataset.Present, dataset.Allergies: dataset.NoneRecorded},
			Content: []*fhir.Resource{problem("1", "p").With("recorder", fhir.M{"reference": "Practitioner/w"}), fhir.New("Practitioner", "w", fhir.M{"name": []fhir.M{{"family": "Clinicname"}}})}}, nil
	})
	b.kept(t)
	m.becomes(fails(fhir.Transient))
	if got := string(b.record(t).Bundle("x", "y")); !strings.Contains(got, "Clinicname") {
		t.Fatal("with its problem the practitioner is not shown")
	}
	rec, err := b.Record(t.Context(), b.as(t, "doctor"), mustPerson(t, b), gather.Ask{Headings: []dataset.Heading{dataset.Allergies}})
	must(t, err)
	if got := string(rec.Bundle("x", "y")); strings.Contains(got, "Clinicname") {
		t.Error("asked for allergies alone, it names who recorded a problem")
	}
}

// A consent that is withdrawn holds at once for an answer that is remembered: the source is not asked again, and what the person objects to is not shown of what it said.
func TestAConsentWithdrawnSinceHoldsForARememberedAnswer(t *testing.T) {
	var asked atomic.Int32
	b := limited(t, func(ctx context.Context, q connector.Question) (*connector.Answer, error) {
		asked.Add(1)
		return gives("1", "2")(ctx, q)
	}, region.Asking{Remember: time.Minute})
	c := &chosen{}
	b.opts.Standing = c
	b.Gatherer = gather.New(b.opts)
	for range 2 {
		if l := lane(b.record(t), "one"); l.State != gather.Answered || l.Count != 2 {
			t.Fatalf("before: %s with %d entries", l.State, l.Count)
		}
	}
	c.Choices = policy.Choices{{ID: "one", Root: policy.Provision{Codes: []string{fhir.SystemSNOMED + "|1"}}}}
	rec := b.record(t)
	if sec := rec.Section(dataset.Problems); len(sec.Entries) != 1 || sec.Entries[0].Lead.Text("code.coding.code") != "2" {
		t.Errorf("after an objection to one entry %d are shown", len(sec.Entries))
	}
	if asked.Load() != 1 {
		t.Errorf("asked %d times: the answer was not remembered, and nothing was shown by this", asked.Load())
	}
	c.Choices = policy.Choices{{ID: "all", Root: policy.Provision{Headings: []dataset.Heading{dataset.Problems}}}}
	if l := lane(b.record(t), "one"); l.Count != 0 {
		t.Errorf("after an objection to the heading %d entries are shown", l.Count)
	}
}
