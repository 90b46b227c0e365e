package hl7v2

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tombolo/fhir"
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
		reads("hl7v2-adt/4+rx1-pas/1: ")
		write("mapping: rx1-pas/2\ntables: {sex: {7: other}}\n")
		time.Sleep(11 * time.Second)
		reads("hl7v2-adt/4+rx1-pas/2: other")
		write("mapping: rx1-pas/3\ntables: {sex: {7: nothing that is a sex\n")
		time.Sleep(35 * time.Second)
		reads("hl7v2-adt/4+rx1-pas/2: other")
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
		time.Sleep(35 * time.Second)
		reads("hl7v2-adt/4+rx1-pas/2: other")
		write("mapping: rx1-pas/4\ntables: {sex: {7: female}}\n")
		time.Sleep(11 * time.Second)
		reads("hl7v2-adt/4+rx1-pas/4: female")
	})
	if told := strings.Count(log.String(), "level=ERROR"); told != 2 {
		t.Errorf("what was wrong was told %d times, want once each of two: %s", told, log.String())
	}
}

// What a system is told is written by its dialect as it now is: nothing needs to be started anew.
func TestWhatIsSentIsWrittenByTheMappingAsItNowIs(t *testing.T) {
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
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	told := make(chan string, 1)
	go func() {
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		for r := bufio.NewReader(conn); ; {
			frame, err := ReadFrame(r, MaxMessage)
			if err != nil {
				return
			}
			got, err := Parse(frame, ParseOptions{})
			if err != nil {
				return
			}
			told <- got.First("PID").Field(8).Text()
			if WriteFrame(conn, acknowledge(got, "AA", nil, time.Now())) != nil {
				return
			}
		}
	}()
	var log strings.Builder
	now := time.Date(2026, 3, 1, 9, 0, 0, 0, time.UTC)
	b, err := NewOutbound(Options{Source: "rx1-pas", Organisation: "RX1", Mapping: m, MappingFile: file, Now: func() time.Time { return now },
		Logger: slog.New(slog.NewTextHandler(&log, nil)), Outward: Outward{Address: "mllp://" + ln.Addr().String(), Attempts: 1}})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	n := 0
	writes := func(when, want string) {
		t.Helper()
		n++
		pt := fhir.New("Patient", fmt.Sprint("p", n), fhir.M{"identifier": []fhir.Identifier{{System: "https://fhir.rx1.example/Id", Value: fmt.Sprint("T", n)}}, "name": []fhir.HumanName{{Family: "Hart"}}, "gender": "other"})
		msgs, err := b.Messages(pt)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range msgs {
			if _, err := b.SendMessage(t.Context(), m); err != nil {
				t.Fatal(err)
			}
		}
		if got := <-told; got != want {
			t.Errorf("%s: PID-8 is %q, want %q", when, got, want)
		}
	}
	base := func() string { // of the base's codes the first, whichever it is
		n++
		msgs, err := Write(fhir.New("Patient", fmt.Sprint("p", n), fhir.M{"identifier": []fhir.Identifier{{System: "https://fhir.rx1.example/Id", Value: "T"}}, "gender": "other"}), Options{Source: "rx1-pas", Organisation: "RX1"}, Letterhead{})
		if err != nil {
			t.Fatal(err)
		}
		got, err := Parse(msgs[0], ParseOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return got.First("PID").Field(8).Text()
	}()
	writes("by the base", base)
	write("mapping: rx1-pas/2\ntables: {sex: {7: other}}\n")
	writes("at once after a change", base)
	now = now.Add(11 * time.Second)
	writes("a little after it", "7")
	write("mapping: rx1-pas/3\ntables: {sex: {8: nothing that is a sex\n")
	now = now.Add(11 * time.Second)
	writes("with a mistake in it", "7")
	if !strings.Contains(log.String(), "level=ERROR") {
		t.Errorf("nobody was told of the mistake: %s", log.String())
	}
	write("mapping: rx1-pas/4\ntables: {sex: {8: other}}\n")
	now = now.Add(11 * time.Second)
	writes("mended", "8")
}
