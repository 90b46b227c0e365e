package harness

import (
	"context"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"
)

func TestMain(m *testing.M) {
	Child()
	os.Exit(m.Run())
}

// rounds is how often something is done: a few times, or in a soak (TOMBOLO_SOAK=1, or the number of rounds) many.
func rounds(t testing.TB, few, many int) int {
	t.Helper()
	switch s := os.Getenv("TOMBOLO_SOAK"); s {
	case "", "0":
		return few
	case "1":
		return many
	default:
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 {
			t.Fatalf("TOMBOLO_SOAK=%q: write 1, or a number of rounds", s)
		}
		return n
	}
}

func start(t testing.TB, dir string, wrap ...string) *Process {
	t.Helper()
	p, err := StartProcess(dir, wrap...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	return p
}

// allThere opens what the node left and looks for every message. It answers how many are gone.
func allThere(t testing.TB, dir string, acked []Message) (lost int) {
	t.Helper()
	s, err := Open(context.Background(), dir)
	if err != nil {
		t.Fatalf("what the node left cannot be opened: %v", err)
	}
	defer s.Close()
	for _, m := range acked {
		if wrong := s.Missing(context.Background(), m); wrong != "" {
			if lost++; lost <= 5 {
				t.Errorf("acknowledged and lost: %s", wrong)
			}
		}
	}
	return lost
}

// once holds the log to: nothing twice, no gaps.
func once(t testing.TB, dir string) {
	t.Helper()
	s, err := Open(context.Background(), dir)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if twice, seen, err := s.Twice(context.Background()); err != nil || twice > 0 {
		t.Errorf("of %d resources %d were written more than once (%v)", seen, twice, err)
	}
}

// A proof of nothing lost is worth something only if it notices a loss.
func TestALossIsNoticed(t *testing.T) {
	dir, senders := t.TempDir(), NewSenders(1)
	p := start(t, dir)
	senders.Run(t.Context(), p.Addr, 3)
	p.Kill()
	s, err := Open(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	acked, err := senders.Take()
	if err != nil || len(acked) != 3 {
		t.Fatalf("%d of 3 messages were acknowledged (%v)", len(acked), err)
	}
	if wrong := s.Missing(t.Context(), acked[2]); wrong != "" {
		t.Error(wrong)
	}
	never := NewMessage(0, 3)
	if s.Missing(t.Context(), never) == "" {
		t.Error("a message that was never sent is not missed")
	}
	half := acked[1]
	half.NHS = "9990000107"
	if s.Missing(t.Context(), half) == "" {
		t.Error("a person who cannot be found by their number is not missed")
	}
}

// Design law 1: acknowledged means durable and findable. Four senders, a node killed without warning, and again, and again.
func TestNothingAcknowledgedIsLostWhenTheNodeIsKilled(t *testing.T) {
	dir, senders := t.TempDir(), NewSenders(4)
	n := rounds(t, 20, 3000)
	if underRace {
		n = min(n, 10)
	}
	r := rand.New(rand.NewPCG(1, uint64(time.Now().UnixNano())))
	var all []Message
	lost := 0
	for round := range n {
		p := start(t, dir)
		time.AfterFunc(time.Duration(10+r.IntN(190))*time.Millisecond, p.Kill)
		senders.Run(t.Context(), p.Addr, 0)
		p.Wait()
		acked, err := senders.Take()
		if err != nil {
			t.Errorf("round %d: %v", round, err)
		}
		lost += allThere(t, dir, acked)
		all = append(all, acked...)
		if lost > 0 {
			t.Fatalf("round %d: lost", round)
		}
	}
	lost += allThere(t, dir, all) // what was there once stays there
	once(t, dir)
	t.Logf("%d rounds, %d messages acknowledged, %d lost", n, len(all), lost)
	if len(all) < n {
		t.Errorf("only %d messages were acknowledged in %d rounds: this proves little", len(all), n)
	}
}
