package harness

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"tombolo/kv/postgres/pgtest"
)

// A victim is a node that is killed while messages and Bundles are sent to it.
type victim struct {
	t       *testing.T
	at      Place
	server  *pgtest.Server // nil for the embedded store
	r       *rand.Rand
	senders *Senders
	writers *Writers

	node     *Process
	messages []Message // acknowledged
	bundles  []Bundle
	checked  [2]int // how many of them were looked for
	died     map[string]int
}

func newVictim(t *testing.T, at Place, server *pgtest.Server) *victim {
	return &victim{t: t, at: at, server: server, r: rand.New(rand.NewPCG(1, uint64(time.Now().UnixNano()))), senders: NewSenders(2), writers: NewWriters(4), died: map[string]int{}}
}

// start starts the node, again if its database was just away: as whatever supervises a real one does.
func (v *victim) start() *Process {
	v.t.Helper()
	for {
		p, err := StartProcess(v.at)
		if err == nil {
			v.t.Cleanup(p.Kill)
			return p
		}
		if died := new(DiedError); v.server == nil || !errors.As(err, &died) || v.t.Context().Err() != nil {
			v.t.Fatal(err)
		}
		if v.died["start"]++; v.died["start"] > 100 {
			v.t.Fatal(err)
		}
	}
}

// round sends, and does something terrible in the midst of it.
func (v *victim) round(kill func()) {
	if v.node == nil {
		v.node = v.start()
	}
	var sending sync.WaitGroup
	ctx, stop := context.WithCancel(v.t.Context())
	addr, url := v.node.Addr, v.node.URL // the node may be gone before they begin
	sending.Go(func() { v.senders.Run(ctx, addr, 0) })
	sending.Go(func() { v.writers.Run(ctx, url, 0) })
	if v.r.IntN(4) > 0 { // on a busy machine nothing may have been acknowledged otherwise
		v.begun(ctx)
	}
	time.Sleep(time.Duration(v.r.IntN(60)) * time.Millisecond)
	kill()
	stop()
	sending.Wait()
	v.take()
}

// begun waits until something was acknowledged, or a few seconds.
func (v *victim) begun(ctx context.Context) {
	ctx, stop := context.WithTimeout(ctx, 5*time.Second)
	defer stop()
	for ctx.Err() == nil && v.senders.Acked()+v.writers.Acked() == 0 {
		time.Sleep(2 * time.Millisecond)
	}
}

// kill ends the node, or the database's server, or one of the server's processes.
func (v *victim) kill() {
	what := 0
	if v.server != nil {
		what = v.r.IntN(6)
	}
	switch what {
	case 0, 1, 2, 3:
		v.died["node"]++
		v.node.Kill()
		v.node = nil
	case 4: // all of the server dies with one of its processes, and comes back by itself
		if v.server.KillBackend(v.t) {
			v.died["backend"]++
		}
	case 5:
		v.died["server"]++
		v.server.Kill(v.t)
		v.server.Restart(v.t)
	}
}

// take remembers what was acknowledged.
func (v *victim) take() {
	v.t.Helper()
	messages, err := v.senders.Take()
	if err != nil {
		v.t.Error(err)
	}
	bundles, err := v.writers.Take()
	if err != nil {
		v.t.Error(err)
	}
	v.messages, v.bundles = append(v.messages, messages...), append(v.bundles, bundles...)
}

// look opens what is stored and looks for what was acknowledged since it last looked, or for all of it. An embedded store cannot be looked at while
// its node runs.
func (v *victim) look(all bool) {
	v.t.Helper()
	if v.node != nil && v.server == nil {
		v.node.Kill()
		v.node = nil
	}
	s, err := Open(context.Background(), v.at)
	if err != nil {
		v.t.Fatalf("what the node left cannot be opened: %v", err)
	}
	defer s.Close()
	if all {
		v.checked = [2]int{}
	}
	missing(v.t, s, v.messages[v.checked[0]:], v.bundles[v.checked[1]:])
	v.checked = [2]int{len(v.messages), len(v.bundles)}
	if !all {
		return
	}
	for w := range v.writers.next {
		if wrong := s.Halves(context.Background(), w, v.writers.Sent(w)); wrong != "" {
			v.t.Error(wrong)
		}
	}
	if twice, seen, err := s.Twice(context.Background()); err != nil || twice > 0 {
		v.t.Errorf("of %d resources %d were written more than once (%v)", seen, twice, err)
	}
}

// Design laws 1 and 7: acknowledged means durable and findable, and once only. Two senders of messages and four writers of transactions; a node killed
// without warning, and again, and again; on PostgreSQL its server too.
func TestNothingAcknowledgedIsLostWhenTheNodeIsKilled(t *testing.T) {
	for _, engine := range engines(t) {
		t.Run(engine.name, func(t *testing.T) {
			t.Parallel() // much of it is waiting
			at, server := engine.place(t)
			v, n := newVictim(t, at, server), rounds(t, 200, 5000)
			began := time.Now()
			for round := range n {
				if tooLong(t, began, round, n) {
					n = round
					break
				}
				v.round(v.kill)
				if round%20 == 19 {
					v.look(false)
				}
				if t.Failed() {
					t.Fatalf("round %d of %d", round+1, n)
				}
			}
			v.look(true) // what was there once stays there
			t.Logf("%d rounds in %v, killed %v: %d messages and %d transactions acknowledged", n, time.Since(began).Round(time.Second), v.died, len(v.messages), len(v.bundles))
			if len(v.messages) == 0 || len(v.messages)+len(v.bundles) < n/2 {
				t.Errorf("too little was acknowledged in %d rounds: this proves little", n)
			}
		})
	}
}

// tooLong says whether a short run has taken so long that the machine must be busy with something else: it ends there, and says so. A soak says how far it
// has come, and ends when the time is nearly over that -timeout gives to the test.
func tooLong(t *testing.T, began time.Time, round, n int) bool {
	if rounds(t, 0, 1) > 0 {
		if round > 0 && round%250 == 0 {
			t.Logf("%d of %d rounds in %v", round, n, time.Since(began).Round(time.Second))
		}
		end, any := t.Deadline()
		if !any || time.Until(end) > 2*time.Minute {
			return false
		}
		t.Logf("THE TIME IS OVER: ended after %d of %d rounds", round, n)
		return true
	}
	if time.Since(began) < 3*time.Minute {
		return false
	}
	t.Logf("THIS MACHINE IS BUSY: ended after %d of %d rounds", round, n)
	return true
}

// An engine is one on which the same is proven.
type engine struct {
	name  string
	place func(t *testing.T) (Place, *pgtest.Server)
}

func engines(t *testing.T) []engine {
	return []engine{
		{"embedded", func(t *testing.T) (Place, *pgtest.Server) { return Place{Dir: t.TempDir()}, nil }},
		{"postgres", func(t *testing.T) (Place, *pgtest.Server) {
			server := pgtest.Start(t)
			return Place{Dir: t.TempDir(), Store: server.Database(t)}, server
		}},
	}
}
