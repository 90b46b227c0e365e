package harness

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"tombolo/kv"
)

func TestMain(m *testing.M) {
	Child()
	os.Exit(withProgram(m.Run))
}

// withProgram runs the tests with a node that was built without the race detector, if they were built with it: the node's own tests run under it, and here it
// would be killed ten times less often in the same time.
func withProgram(run func() int) int {
	if !underRace {
		return run()
	}
	dir, err := os.MkdirTemp("", "victim")
	if err != nil {
		fmt.Fprintln(os.Stderr, "harness:", err)
		return 1
	}
	defer os.RemoveAll(dir)
	Program = filepath.Join(dir, "victim")
	if out, err := exec.Command("go", "build", "-o", Program, "tombolo/sim/harness/victim").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "harness: the node cannot be built: %v\n%s", err, out)
		return 1
	}
	return run()
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

func start(t testing.TB, dir Place, wrap ...string) *Process {
	t.Helper()
	p, err := StartProcess(dir, wrap...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	return p
}

// allThere opens what the node left and looks for every message. It answers how many are gone.
func allThere(t testing.TB, dir Place, acked []Message) (lost int) {
	t.Helper()
	s, err := Open(context.Background(), dir)
	if err != nil {
		t.Fatalf("what the node left cannot be opened: %v", err)
	}
	defer s.Close()
	return missing(t, s, acked, nil)
}

// missing looks for every message and every Bundle, and answers how many are gone.
func missing(t testing.TB, s *Stored, acked []Message, bundles []Bundle) (lost int) {
	t.Helper()
	note := func(look func() string) {
		wrong := look()
		for began := time.Now(); strings.Contains(wrong, kv.ErrUnavailable.Error()) && time.Since(began) < time.Minute; wrong = look() {
			time.Sleep(100 * time.Millisecond) // the database has yet to come back: that is no loss
		}
		if wrong == "" {
			return
		}
		if lost++; lost <= 5 {
			t.Errorf("acknowledged and lost: %s", wrong)
		}
	}
	for _, m := range acked {
		note(func() string { return s.Missing(context.Background(), m) })
	}
	for _, b := range bundles {
		note(func() string { return s.MissingBundle(context.Background(), b) })
	}
	return lost
}

// once holds the log to: nothing twice, no gaps.
func once(t testing.TB, dir Place) {
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
	dir, senders := Place{Dir: t.TempDir()}, NewSenders(1)
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
	if s.MissingBundle(t.Context(), NewBundle(0, 0)) == "" {
		t.Error("a Bundle that was never sent is not missed")
	}
	half := acked[1]
	half.NHS = "9990000107"
	if s.Missing(t.Context(), half) == "" {
		t.Error("a person who cannot be found by their number is not missed")
	}
}
