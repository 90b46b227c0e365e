package node

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"tombolo/connector"
	"tombolo/dataset"
	"tombolo/fhir"
	"tombolo/probe"
	"tombolo/region"
)

// changing is a source that one day no longer offers what it gave, and that remembers when it was asked.
type changing struct {
	mu     sync.Mutex
	now    func() time.Time
	asked  []time.Time
	offers bool
}

func (c *changing) Ask(_ context.Context, q connector.Question) (*connector.Answer, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked = append(c.asked, c.now())
	a := &connector.Answer{Patient: fhir.New("Patient", "p", fhir.M{"identifier": []fhir.Identifier{{System: fhir.SystemNHSNumber, Value: "9990000107"}}}), States: map[dataset.Heading]dataset.State{}}
	for _, h := range q.Headings {
		if h == dataset.Documents && !c.offers {
			a.Issues = append(a.Issues, fhir.Errorf(fhir.NotSupported, "no search for documents"))
			continue
		}
		a.States[h] = dataset.NoneRecorded
	}
	return a, nil
}

// since gives how many questions came after a time.
func (c *changing) since(t time.Time) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(slices.DeleteFunc(slices.Clone(c.asked), func(at time.Time) bool { return !at.After(t) }))
}

const probedDaily = `
region: {id: north, name: North Shared Care Record}
organisations: [{ods: RX1, name: North Acute Trust, kind: acute}]
systems: [{id: epr, organisation: RX1, connector: fhirapi, address: "http://127.0.0.1:9", gives: {problems: live, documents: live}}]
agreements: [{id: care, parties: [RX1], purposes: [direct-care], headings: all, from: 2020-04-01}]
users: [{id: doctor, name: A Doctor, role: hospital-doctor, organisation: RX1}]
probing: {as: doctor, patients: ["9990000107"], every: 24h}
`

// Days pass, and each day the sources are asked anew what they can give: what one has stopped giving is noticed, and one that was asked by hand meanwhile is
// left alone for a day from then. The node's own keeper takes its turns, by a clock that the test moves.
func TestSourcesAreProbedAgainAsTimePasses(t *testing.T) {
	reg, problems := region.Parse("region.yaml", []byte(probedDaily))
	for _, p := range problems {
		if p.Severity == region.Error {
			t.Fatal(p)
		}
	}
	at := time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC)
	now := func() time.Time { return at }
	n, err := New(t.Context(), Config{Region: reg, Data: t.TempDir(), Feeds: true, Now: now})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	}()
	source := &changing{now: now, offers: true}
	n.keepers = nil
	n.probes(map[string]connector.Asker{"epr": source})
	if len(n.keepers) != 1 {
		t.Fatalf("%d keepers probe the sources", len(n.keepers))
	}
	verdict := func() probe.Verdict { return n.probed(nil)[0].Headings[dataset.Documents].Verdict }
	turn := func() {
		t.Helper()
		if err := n.keepers[0].do(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	pass := func(d time.Duration) (asked int) { // the keeper's turns come while it passes
		t.Helper()
		from := at
		for end := at.Add(d); at.Before(end); {
			at = at.Add(n.keepers[0].every)
			turn()
		}
		return source.since(from)
	}

	turn()
	first := source.since(at.Add(-time.Second))
	if first == 0 || verdict() != probe.Empty {
		t.Fatalf("when the node starts, %d questions are asked, and documents are %s", first, verdict())
	}
	if asked := pass(23*time.Hour + 50*time.Minute); asked != 0 {
		t.Errorf("%d questions within the day", asked)
	}
	source.offers = false
	if asked := pass(15 * time.Minute); asked < first/2 || verdict() != probe.NotProvided {
		t.Errorf("the next day %d questions are asked (%d on the first), and documents are %s", asked, first, verdict())
	}
	for day := range 3 {
		if asked := pass(24 * time.Hour); asked != first {
			t.Errorf("on day %d after it %d questions are asked, want %d", day+1, asked, first)
		}
	}
	pass(12 * time.Hour)
	if _, err := n.Probe(t.Context(), ProbeAsk{By: asProbe}, nil); err != nil {
		t.Fatal(err)
	}
	if asked := pass(23 * time.Hour); asked != 0 {
		t.Errorf("%d questions within a day of somebody's having it probed by hand", asked)
	}
	if asked := pass(time.Hour + 5*time.Minute); asked != first {
		t.Errorf("a day after it was probed by hand %d questions are asked, want %d", asked, first)
	}
}

// A keeper has its turn at once and then again and again, whether or not it fails, until the node is told to stop.
func TestAKeeperTakesItsTurnsAsTimePasses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var turns []time.Duration
		began := time.Now()
		ctx, stop := context.WithCancel(t.Context())
		n := &Node{c: Config{Logger: slog.New(slog.DiscardHandler)}}
		go n.keep(ctx, keeper{5 * time.Minute, "keep time", func(context.Context) error {
			turns = append(turns, time.Since(began))
			return errors.New("as scripted")
		}})
		time.Sleep(16 * time.Minute)
		stop()
		synctest.Wait()
		time.Sleep(time.Hour)
		if want := []time.Duration{0, 5 * time.Minute, 10 * time.Minute, 15 * time.Minute}; !slices.Equal(turns, want) {
			t.Errorf("turns at %v, want %v", turns, want)
		}
	})
}
