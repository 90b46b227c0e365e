package harness

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"tombolo/connector/hl7v2"
	"tombolo/kv"
	"tombolo/sim/lookout"
	"tombolo/sim/lookout/nodes"
	"tombolo/sim/unraced"
)

// The node is killed, starved and measured here, which under the race detector would be another node: its own tests run under it.
func TestMain(m *testing.M) {
	Child()
	os.Exit(unraced.Main(func() int { return nodes.Main(m) }))
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

// What a node that is killed said to its end is looked through for the words of what it left behind.
func TestWhatAKilledNodeSaidHoldsNothingItWasTold(t *testing.T) {
	dir := Place{Dir: t.TempDir()}
	p := start(t, dir)
	c, m := &hl7v2.Client{Addr: p.Addr}, NewMessage(0, 2)
	for _, content := range [][]byte{m.Bytes, bytes.Replace(m.Bytes, []byte("1 Ferry Lane"), []byte("2 Ferry Lane"), 1)} { // the second under the first one's id, which the log tells
		if ack, err := c.Send(t.Context(), content); err != nil || !ack.Accepted() {
			t.Fatalf("answered %s (%v)", ack.Code, err)
		}
	}
	_ = c.Close()
	p.Kill()
	if said := p.said.String(); !strings.Contains(said, "level=WARN") {
		t.Errorf("the node's log does not come to its lookout: it said %q", said)
	}
	s, err := Open(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if found := lookout.Find("PID|1||" + m.NHS + "|"); len(found) != 1 || found[0] != "an NHS number" {
		t.Errorf("in a line of what was sent the lookout finds %q", found)
	}
}

// leaves is set in the process that leaves a leak in the data folder, so that its tests must fail.
const leaves = "TOMBOLO_HARNESS_LEAVES"

// What a node that is killed leaves in its data folder beside its store is looked through for what it had been told.
func TestWhatAKilledNodeLeavesHoldsNothingItWasTold(t *testing.T) {
	how := os.Getenv(leaves)
	if how == "" {
		for how, leak := range map[string]string{"nothing": "", "name": "a file's name holds an NHS number", "file": "a file holds an NHS number"} {
			cmd := exec.Command(os.Args[0], "-test.run=^TestWhatAKilledNodeLeavesHoldsNothingItWasTold$")
			cmd.Env = append(slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "TOMBOLO_LOOKOUT=") }), leaves+"="+how)
			out, err := cmd.CombinedOutput()
			if (err != nil) != (leak != "") || !strings.Contains(string(out), leak) || strings.Contains(string(out), "LEAK: ") != (leak != "") || !strings.Contains(string(out), "PASS") {
				t.Errorf("%s: %v, want %q\n%s", how, err, leak, out)
			}
		}
		return
	}
	dir := Place{Dir: t.TempDir()}
	p := start(t, dir)
	c, m := &hl7v2.Client{Addr: p.Addr}, NewMessage(0, 2)
	if ack, err := c.Send(t.Context(), m.Bytes); err != nil || !ack.Accepted() {
		t.Fatalf("answered %s (%v)", ack.Code, err)
	}
	_ = c.Close()
	p.Kill()
	name, text := "left", "1 line"
	switch how {
	case "name":
		name += "-" + m.NHS
	case "file":
		text = "PID|1||" + m.NHS + "|"
	}
	if err := os.WriteFile(filepath.Join(dir.Dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := Open(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
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
