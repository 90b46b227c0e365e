package hl7v2

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A feed's dialect is changed while the feed runs: the next messages are read by it, on the connections that are open. One with a mistake in it changes nothing
// and is told of once, and so is one that is not there.
func TestARunningFeedReadsItsMappingWhenItChanges(t *testing.T) {
	file := filepath.Join(t.TempDir(), "rx1-pas.yaml")
	write := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("mapping: rx1-pas/1\n")
	m, err := LoadMapping(file, "")
	if err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	door := &record{}
	serve(t, Options{Mapping: m, MappingFile: file, Logger: slog.New(slog.NewTextHandler(&log, nil))}, door, func(t *testing.T, p *pipes, _ context.CancelFunc) {
		sender := p.dial()
		defer sender.Close()
		n := 0
		reads := func(want string) {
			t.Helper()
			n++
			if got := sender.ask(t, fmt.Sprintf("\vMSH|^~\\&|PAS|RX1|||20260302||ADT^A31|%d|P|2.4\rPID|1||T1^^^RX1^PI||Hart^Rosalind||19510417|7\r\x1c\r", n)); got != fmt.Sprintf("AA %d", n) {
				t.Fatalf("answered %q", got)
			}
			door.mu.Lock()
			defer door.mu.Unlock()
			d := door.kept[len(door.kept)-1]
			if got := d.Map + ": " + d.Content[0].Text("gender"); got != want {
				t.Errorf("it was read by %q, want %q", got, want)
			}
		}
		reads("hl7v2-adt/3+rx1-pas/1: ")
		write("mapping: rx1-pas/2\ntables: {sex: {7: other}}\n")
		time.Sleep(11 * time.Second)
		reads("hl7v2-adt/3+rx1-pas/2: other")
		write("mapping: rx1-pas/3\ntables: {sex: {7: nothing that is a sex\n")
		time.Sleep(35 * time.Second)
		reads("hl7v2-adt/3+rx1-pas/2: other")
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
		time.Sleep(35 * time.Second)
		reads("hl7v2-adt/3+rx1-pas/2: other")
		write("mapping: rx1-pas/4\ntables: {sex: {7: female}}\n")
		time.Sleep(11 * time.Second)
		reads("hl7v2-adt/3+rx1-pas/4: female")
	})
	if told := strings.Count(log.String(), "level=ERROR"); told != 2 {
		t.Errorf("what was wrong was told %d times, want once each of two: %s", told, log.String())
	}
}
