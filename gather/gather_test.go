package gather_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"tombolo/access"
	"tombolo/audit"
	"tombolo/connector"
	"tombolo/dataset"
	"tombolo/events"
	"tombolo/fhir"
	"tombolo/gather"
	"tombolo/intake"
	"tombolo/kv/pebble"
	"tombolo/locator"
	"tombolo/mpi"
	"tombolo/region"
	"tombolo/store"
)

const annsNumber = "9990000107"

var ann = fhir.Identifier{System: fhir.SystemNHSNumber, Value: annsNumber}

// A source is asked, and does what its script says.
type source func(ctx context.Context, q connector.Question) (*connector.Answer, error)

func (s source) Ask(ctx context.Context, q connector.Question) (*connector.Answer, error) {
	return s(ctx, q)
}

// A bench is a gatherer over a real store in which Ann is known to a trust, with live sources that follow a script.
type bench struct {
	*gather.Gatherer
	audit  *audit.Log
	access *access.Manager
	db     *store.DB
	opts   gather.Options
	intake *intake.Intake
}

func patient(id, nhs, family, born string) *fhir.Resource {
	return fhir.New("Patient", id, fhir.M{"identifier": []fhir.Identifier{{System: fhir.SystemNHSNumber, Value: nhs}},
		"name": []fhir.HumanName{{Family: family, Given: []string{"Ann"}}}, "birthDate": born})
}

func problem(id, of string) *fhir.Resource {
	return fhir.New("Condition", id, fhir.M{"subject": fhir.Reference{Reference: "Patient/" + of}, "code": fhir.Code(fhir.SystemSNOMED, id, "Problem "+id)})
}

// gives is a source that has these problems of Ann, or says that it has none.
func gives(problems ...string) source {
	return func(_ context.Context, q connector.Question) (*connector.Answer, error) {
		a := &connector.Answer{Patient: patient("p", annsNumber, "Taylor", "1948-03-12"), States: map[dataset.Heading]dataset.State{}}
		for _, h := range q.Headings {
			a.States[h] = dataset.NoneRecorded
		}
		for _, p := range problems {
			a.States[dataset.Problems] = dataset.Present
			a.Content = append(a.Content, problem(p, "p"))
		}
		return a, nil
	}
}

func fails(t fhir.IssueType) source {
	return func(context.Context, connector.Question) (*connector.Answer, error) {
		return nil, fhir.Errorf(t, "as scripted")
	}
}

func open(t testing.TB, sources map[string]connector.Asker) *bench {
	t.Helper()
	return openWith(t, sources, func(*region.Region) {})
}

// openWith opens a bench whose region was changed first.
func openWith(t testing.TB, sources map[string]connector.Asker, change func(*region.Region)) *bench {
	t.Helper()
	r := &region.Region{ID: "test", Organisations: []region.Organisation{{ODS: "RX1", Name: "The Trust", Kind: region.KindAcute}},
		Users: []region.User{{ID: "doctor", Name: "Dr Ade", Role: "hospital-doctor", Organisation: "RX1"}, {ID: "clerk", Name: "Pat", Role: "receptionist", Organisation: "RX1"}},
		Systems: []region.System{{ID: "trust", Organisation: "RX1", Connector: "hl7v2", Release: region.Release{All: true},
			Gives: map[dataset.Heading]region.Way{dataset.Demographics: region.Push, dataset.Results: region.Push}}}}
	parties := []string{"RX1"}
	for _, id := range sortedKeys(sources) {
		ods := strings.ToUpper(id)
		r.Organisations = append(r.Organisations, region.Organisation{ODS: ods, Name: "Source " + id, Kind: region.KindMentalHealth})
		r.Systems = append(r.Systems, region.System{ID: id, Organisation: ods, Connector: "fhirapi", Deadline: 400 * time.Millisecond, Release: region.Release{All: true},
			Gives: map[dataset.Heading]region.Way{dataset.Problems: region.Live, dataset.Allergies: region.Live}})
		parties = append(parties, ods)
	}
	r.Agreements = []region.Agreement{{ID: "all", Parties: parties, Purposes: []string{"direct-care"}, AllHeadings: true, From: time.Now().AddDate(-1, 0, 0)}}
	change(r)
	engine, err := pebble.Open(pebble.Options{Dir: t.TempDir()})
	must(t, err)
	db, err := store.Open(store.Options{Engine: engine})
	must(t, err)
	log, err := audit.Open(t.Context(), engine, audit.Options{})
	must(t, err)
	stamper := connector.Stamper{Key: []byte("test")}
	people, where := mpi.New(db, stamper), locator.New(db)
	ctx, stop := context.WithCancel(context.Background())
	followers := []*events.Follower{db.Follower("mpi", people.Handle), db.Follower("locator", where.Handle)}
	done := make(chan struct{}, 2)
	for _, f := range followers {
		go func() { _ = f.Run(ctx); done <- struct{}{} }()
	}
	t.Cleanup(func() { stop(); <-done; <-done; _ = db.Close() })
	in := intake.New(intake.Options{Store: db, Region: r, Stamper: stamper, Await: func(ctx context.Context, seq events.Seq) error {
		return errors.Join(followers[0].Await(ctx, seq), followers[1].Await(ctx, seq))
	}})
	_, err = in.Accept(t.Context(), connector.Delivery{Source: "trust", ID: "1", Raw: []byte("a28"), Patient: "m1",
		Content: []*fhir.Resource{patient("m1", annsNumber, "Taylor", "1948-03-12")}})
	must(t, err)
	users, err := access.New(access.Options{Region: r})
	must(t, err)
	b := &bench{audit: log, access: users, db: db, intake: in}
	b.opts = gather.Options{Region: r, People: people, Kept: db, Audit: log, Askers: sources, Stamper: stamper}
	b.Gatherer = gather.New(b.opts)
	return b
}

func sortedKeys(m map[string]connector.Asker) []string {
	var out []string
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (b *bench) as(t testing.TB, user string) *access.Session {
	t.Helper()
	s, err := b.access.As(user)
	must(t, err)
	return s
}

func (b *bench) record(t testing.TB) *gather.Record {
	t.Helper()
	s := b.as(t, "doctor")
	id, err := b.Find(t.Context(), s, ann)
	must(t, err)
	rec, err := b.Record(t.Context(), s, id, gather.Ask{})
	must(t, err)
	return rec
}

func lane(r *gather.Record, id string) gather.Lane {
	return r.Lanes[slices.IndexFunc(r.Lanes, func(l gather.Lane) bool { return l.Source == id })]
}

func (b *bench) audited(t testing.TB, kind audit.Kind) int {
	t.Helper()
	n := 0
	for e, err := range b.audit.All(t.Context(), 0, 0) {
		must(t, err)
		s, err := e.Summary()
		must(t, err)
		if s.Kind == kind {
			n++
		}
	}
	return n
}

func TestAnAnswerAboutSomebodyElseIsDroppedAndTheAlarmRaised(t *testing.T) {
	somebodyElse := func(nhs, family, born string) source {
		return func(context.Context, connector.Question) (*connector.Answer, error) {
			return &connector.Answer{Patient: patient("x", nhs, family, born), Content: []*fhir.Resource{problem("9", "x")},
				States: map[dataset.Heading]dataset.State{dataset.Problems: dataset.Present}}, nil
		}
	}
	for name, s := range map[string]source{
		"another number":                 somebodyElse("9990000433", "Taylor", "1948-03-12"),
		"her number on another's record": somebodyElse(annsNumber, "Khan", "2015-11-05"),
		"no number and another's name":   somebodyElse("", "Khan", "2015-11-05"),
		"does not say whose record it is": func(context.Context, connector.Question) (*connector.Answer, error) {
			return &connector.Answer{Content: []*fhir.Resource{problem("9", "x")}}, nil
		},
		"its connector saw that it is another's": func(context.Context, connector.Question) (*connector.Answer, error) {
			return nil, fhir.Errorf(fhir.BusinessRule, "another's").OfStranger()
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := open(t, map[string]connector.Asker{"bad": s, "good": gives("1")})
			rec := b.record(t)
			if l := lane(rec, "bad"); l.State != gather.Failed || l.Issue == nil || l.Count != 0 {
				t.Errorf("the lane is %s with %d entries (%v)", l.State, l.Count, l.Issue)
			}
			sec := rec.Section(dataset.Problems)
			if len(sec.Entries) != 1 || sec.Entries[0].Members[0].Source != "good" {
				t.Errorf("shown: %d entries; want the good source's one", len(sec.Entries))
			}
			if !slices.Contains(sec.Unknown, "Source bad") {
				t.Errorf("the heading does not say that the bad source's part is not known: %v", sec.Unknown)
			}
			if name != "does not say whose record it is" && b.audited(t, audit.WrongPatient) != 1 {
				t.Error("no alarm was raised")
			}
		})
	}
}

// Where one entry of an answer is somebody else's, its connector leaves it out: the rest is shown, the heading is open, and the alarm is raised as for a whole answer.
func TestAnEntryOfSomebodyElseRaisesTheAlarm(t *testing.T) {
	b := open(t, map[string]connector.Asker{"bad": source(func(ctx context.Context, q connector.Question) (*connector.Answer, error) {
		a, err := gives("1")(ctx, q)
		if err == nil {
			delete(a.States, dataset.Problems)
			a.Issues = append(a.Issues, fhir.Errorf(fhir.BusinessRule, "a Condition of another patient").OfStranger())
		}
		return a, err
	})})
	rec := b.record(t)
	if l := lane(rec, "bad"); l.Count != 1 || rec.Complete(dataset.Problems) {
		t.Errorf("the lane is %s with %d entries, complete %v", l.State, l.Count, rec.Complete(dataset.Problems))
	}
	if n := b.audited(t, audit.WrongPatient); n != 1 {
		t.Errorf("the alarm was raised %d times, want once", n)
	}
}

func TestNoneIsSaidOnlyWhenEverySourceSaidSo(t *testing.T) {
	none, some, failing := gives(), gives("1"), fails(fhir.Transient)
	refusing := source(func(_ context.Context, q connector.Question) (*connector.Answer, error) {
		return &connector.Answer{Patient: patient("p", annsNumber, "Taylor", "1948-03-12"), States: map[dataset.Heading]dataset.State{dataset.Problems: dataset.NotShared}}, nil
	})
	silent := source(func(_ context.Context, q connector.Question) (*connector.Answer, error) {
		return &connector.Answer{Patient: patient("p", annsNumber, "Taylor", "1948-03-12")}, nil
	})
	for _, c := range []struct {
		name string
		a, b source
		want dataset.State
	}{
		{"both say none", none, none, dataset.NoneRecorded},
		{"one has some", none, some, dataset.Present},
		{"one fails", none, failing, dataset.NotKnown},
		{"one does not share", none, refusing, dataset.NotShared},
		{"one says nothing of it", none, silent, dataset.NotKnown},
		{"one fails and one does not share", failing, refusing, dataset.NotKnown},
		{"both fail", failing, failing, dataset.NotKnown},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, pair := range [][2]source{{c.a, c.b}, {c.b, c.a}} {
				rec := open(t, map[string]connector.Asker{"one": pair[0], "two": pair[1]}).record(t)
				if got := rec.Section(dataset.Problems).State; got != c.want {
					t.Errorf("problems are %q, want %q", got, c.want)
				}
				if c.want != dataset.NoneRecorded && c.want != dataset.Present && rec.Complete(dataset.Problems) {
					t.Error("it is called complete")
				}
			}
		})
	}
}

func TestASlowSourceIsNamedAndSlowsNobody(t *testing.T) {
	deaf := source(func(context.Context, connector.Question) (*connector.Answer, error) { select {} }) // does not even obey its deadline
	b := open(t, map[string]connector.Asker{"deaf": deaf, "good": gives("1")})
	rec := b.record(t)
	l := lane(rec, "deaf")
	if l.State != gather.Failed || l.Issue == nil || l.Issue.Type != fhir.Timeout {
		t.Errorf("the deaf source's lane: %s, %v", l.State, l.Issue)
	}
	if good := lane(rec, "good"); good.State != gather.Answered || good.Took >= l.Took {
		t.Errorf("the good source's lane: %s after %s, and the deaf one was given up after %s", good.State, good.Took, l.Took)
	}
	if want := "did not answer within 400 ms"; !strings.Contains(rec.Summary(), want) {
		t.Errorf("the summary %q does not say %q", rec.Summary(), want)
	}
}

func TestASourceThatFailsIsNamed(t *testing.T) {
	for _, c := range []struct {
		how  fhir.IssueType
		want string // issue code of the contract
	}{{fhir.Timeout, "timeout"}, {fhir.Transient, "transient"}, {fhir.Throttled, "transient"}, {fhir.Structure, "incomplete"},
		{fhir.NotSupported, "not-supported"}, {fhir.Suppressed, "suppressed"}, {fhir.TooLong, "incomplete"}, {fhir.MultipleMatch, "incomplete"}} {
		t.Run(string(c.how), func(t *testing.T) {
			rec := open(t, map[string]connector.Asker{"bad": fails(c.how), "good": gives("1")}).record(t)
			root, err := fhir.ParseValue(rec.Bundle("http://x/fhir", "http://x/fhir/$gather"))
			must(t, err)
			found := ""
			for e, err := range fhir.Entries(root) {
				must(t, err)
				if e.Mode == "outcome" && e.Resource.Text("issue.details.coding.code") == "bad" {
					found = e.Resource.Text("issue.code")
				}
			}
			if found != c.want {
				t.Errorf("the Bundle's outcome for the source has code %q, want %q", found, c.want)
			}
		})
	}
}

func TestWhatASourceGaveBeforeItFailedIsShownAndCalledIncomplete(t *testing.T) {
	half := source(func(ctx context.Context, q connector.Question) (*connector.Answer, error) {
		a, _ := gives("1")(ctx, q)
		delete(a.States, dataset.Allergies)
		return a, fhir.Errorf(fhir.Incomplete, "page 2 failed")
	})
	rec := open(t, map[string]connector.Asker{"half": half}).record(t)
	if l := lane(rec, "half"); l.State != gather.Partly || l.Count != 1 || l.Headings[dataset.Allergies] != dataset.NotKnown {
		t.Errorf("%s with %d entries, allergies %s", l.State, l.Count, l.Headings[dataset.Allergies])
	}
}

func TestASourceThatFailsAgainAndAgainIsLeftAloneForAWhile(t *testing.T) {
	asked := 0
	b := open(t, map[string]connector.Asker{"bad": source(func(context.Context, connector.Question) (*connector.Answer, error) {
		asked++
		return nil, fhir.Errorf(fhir.Transient, "down")
	})})
	for range 8 {
		b.record(t)
	}
	if asked != 5 || !b.Health()["bad"].Open {
		t.Errorf("asked %d times in 8 readings (open: %v), want 5", asked, b.Health()["bad"].Open)
	}
}

func TestNoAuditNoBytes(t *testing.T) {
	b := open(t, map[string]connector.Asker{"good": gives("1")})
	s := b.as(t, "doctor")
	id, err := b.Find(t.Context(), s, ann)
	must(t, err)
	o := b.opts
	o.Audit = broken{}
	g := gather.New(o)
	if rec, err := g.Record(t.Context(), s, id, gather.Ask{}); rec != nil || !fhir.Is(err, fhir.NoStore) {
		t.Errorf("a record came out without audit (%v)", err)
	}
	for rec, err := range g.Watch(t.Context(), s, id, gather.Ask{}) {
		if rec != nil || !fhir.Is(err, fhir.NoStore) {
			t.Errorf("part of a record came out without audit (%v)", err)
		}
	}
	if _, err := g.Who(t.Context(), s, id); !fhir.Is(err, fhir.NoStore) {
		t.Errorf("the person came out without audit (%v)", err)
	}
}

type broken struct{}

func (broken) AppendAll(context.Context, []audit.Event) ([]audit.Entry, error) {
	return nil, errors.New("the disk is full")
}

func (broken) Append(context.Context, audit.Event) (audit.Entry, error) {
	return audit.Entry{}, errors.New("the disk is full")
}

func TestEveryReadingIsAuditedBeforeItIsSeen(t *testing.T) {
	b := open(t, map[string]connector.Asker{"good": gives("1"), "bad": fails(fhir.Transient)})
	s := b.as(t, "doctor")
	id, err := b.Find(t.Context(), s, ann)
	must(t, err)
	seen := 0
	var last *gather.Record
	for rec, err := range b.Watch(t.Context(), s, id, gather.Ask{}) {
		must(t, err)
		if seen == 0 && (b.audited(t, audit.Opened) != 1 || lane(rec, "good").State != gather.Asking) {
			t.Errorf("the first view: audited %d times, lane %s", b.audited(t, audit.Opened), lane(rec, "good").State)
		}
		seen++
		last = rec
	}
	if seen < 2 || lane(last, "good").State != gather.Answered || b.audited(t, audit.Opened)+b.audited(t, audit.Read) != 2 {
		t.Errorf("%d views, last lane %s, audited %d times; want the opening and what was shown", seen, lane(last, "good").State, b.audited(t, audit.Opened)+b.audited(t, audit.Read))
	}
}

func TestARoleSeesItsHeadingsAndIsNeverToldNone(t *testing.T) {
	b := open(t, map[string]connector.Asker{"good": gives("1")})
	s := b.as(t, "clerk")
	id, err := b.Find(t.Context(), s, ann)
	must(t, err)
	rec, err := b.Record(t.Context(), s, id, gather.Ask{})
	must(t, err)
	if sec := rec.Section(dataset.Problems); len(sec.Entries) > 0 || sec.State != dataset.NotShared {
		t.Errorf("a receptionist sees %d problems, heading %s", len(sec.Entries), sec.State)
	}
	if l := lane(rec, "good"); l.State != gather.Refused {
		t.Errorf("the source was asked for a receptionist: %s", l.State)
	}
	for _, sec := range rec.Sections {
		if sec.State == dataset.NoneRecorded {
			t.Errorf("a receptionist is told that there is no %s", sec.Heading)
		}
	}
}

func TestUnknownAndRefusedAreOneAnswer(t *testing.T) {
	b := open(t, nil)
	s := b.as(t, "clerk")
	_, unknown := b.Find(t.Context(), s, fhir.Identifier{System: fhir.SystemNHSNumber, Value: "9990000433"})
	_, badID := b.Record(t.Context(), s, "nobody", gather.Ask{})
	if !fhir.Is(unknown, fhir.NotFound) || unknown.Error() != badID.Error() {
		t.Errorf("%v and %v differ", unknown, badID)
	}
	if n := b.audited(t, audit.Search); n != 2 {
		t.Errorf("%d failed searches are remembered, want 2", n)
	}
}

// The gatherer's own cost, over in-memory sources of ten entries each: the limit is the splicing of their bytes.
func BenchmarkGather(b *testing.B) {
	for _, n := range []int{5, 100} {
		b.Run(fmt.Sprintf("sources=%d", n), func(b *testing.B) {
			sources := map[string]connector.Asker{}
			for i := range n {
				var ids []string
				for k := range 10 {
					ids = append(ids, fmt.Sprintf("%d-%d", i, k))
				}
				sources[fmt.Sprintf("s%03d", i)] = gives(ids...)
			}
			bn := open(b, sources)
			s := bn.as(b, "doctor")
			id, err := bn.Find(b.Context(), s, ann)
			must(b, err)
			b.ReportAllocs()
			for b.Loop() {
				rec, err := bn.Record(b.Context(), s, id, gather.Ask{})
				must(b, err)
				b.SetBytes(int64(len(rec.Bundle("http://x/fhir", "http://x/fhir"))))
			}
		})
	}
}

// A source that was taken out of the region file is told of by name wherever it had sent something: what it held is not shown, and does not
// look as if it had never been.
func TestASourceThatIsNoLongerInTheRegionIsToldOf(t *testing.T) {
	b := open(t, map[string]connector.Asker{"live": gives("seen")})
	if rec := b.record(t); lane(rec, "trust").State != gather.Answered {
		t.Fatalf("before: %+v", lane(rec, "trust"))
	}
	o := b.opts
	r := *o.Region
	r.Systems = slices.DeleteFunc(slices.Clone(r.Systems), func(s region.System) bool { return s.ID == "trust" })
	o.Region = &r
	g := gather.New(o)
	s := b.as(t, "doctor")
	id, err := g.Find(t.Context(), s, ann)
	must(t, err)
	rec, err := g.Record(t.Context(), s, id, gather.Ask{})
	must(t, err)
	gone := lane(rec, "trust")
	if gone.State != gather.Failed || gone.Issue == nil || !strings.Contains(rec.Summary(), "trust is no longer part of this region") {
		t.Errorf("it is told of as %+v: %s", gone, rec.Summary())
	}
	if sec := rec.Section(dataset.Allergies); sec.State == dataset.NoneRecorded || rec.Complete(dataset.Allergies) {
		t.Errorf("allergies are %s, although one source is gone", sec.State)
	}
	if !strings.Contains(string(rec.Bundle("x", "y")), "no longer part of this region") {
		t.Error("the Bundle does not tell")
	}
}
