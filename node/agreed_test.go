package node

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tombolo/audit"
	"tombolo/dataset"
	"tombolo/policy"
	"tombolo/region"
)

const agreedFile = `region: {id: north, name: North}
organisations:
  - {ods: RX1, name: Trust, kind: acute}
  - {ods: RY5, name: Community, kind: community}
systems:
  - {id: pas, organisation: RX1, connector: hl7v2, listen: 127.0.0.1:0, gives: {results: push}}
policy: {version: VERSION, author: AUTHOR, reason: a test}
agreements:
  - {id: a, parties: [RX1, RY5], purposes: [direct-care], headings: HEADINGS, from: 2020-01-01}
`

// A change of the file is in force within a minute, with its diff and author in the audit log; one that cannot be taken, or that bears no
// version of its own, leaves what was in force for a minute and then nothing.
func TestAChangedAgreementIsInForceWithinAMinuteOrNothingIs(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "north.yaml")
	write := func(version, author, headings string) {
		t.Helper()
		text := strings.NewReplacer("VERSION", version, "AUTHOR", author, "HEADINGS", headings).Replace(agreedFile)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("1", "Dr A", "all")
	r, problems := region.Load(path)
	if region.Broken(problems) {
		t.Fatal(problems)
	}
	now := time.Date(2026, 6, 1, 9, 0, 0, 0, time.UTC)
	var log bytes.Buffer
	n, err := New(t.Context(), Config{Region: r, Folder: dir, File: path, Data: filepath.Join(dir, "data"), Now: func() time.Time { return now }, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	sees := func() (bool, string) {
		agreed, _, data := n.agreed.InForce()
		sys, _ := agreed.System("pas")
		d := policy.Decide(policy.Facts{Subject: policy.Subject{Role: policy.Nurse, Organisation: "RY5"}, Purpose: policy.DirectCare, Relationships: []policy.Relationship{policy.KnownHere},
			Source: policy.SourceOf(sys, agreed), Heading: dataset.Results, Agreements: agreed.Agreements, Data: data, At: now})
		return d.Permit, d.Version
	}
	ok, first := sees()
	if !ok {
		t.Fatal("the agreement is not in force at the start")
	}

	// A change under its own version closes at the next look.
	write("2", "Dr B", "[encounters]")
	now = now.Add(rereadEvery)
	if err := n.agreed.reread(t.Context()); err != nil {
		t.Fatal(err)
	}
	if ok, version := sees(); ok || version == first {
		t.Errorf("after the change: permitted %v, version %s", ok, version)
	}
	said := ""
	for e, err := range n.Audit.All(t.Context(), 0, 0) {
		if err != nil {
			t.Fatal(err)
		}
		if s, err := e.Summary(); err == nil && s.Kind == audit.Policy {
			said = strings.Join(s.What, "\n")
		}
	}
	for _, want := range []string{"author: Dr B", "- agreement a:", "+ agreement a:", "reason: a test"} {
		if !strings.Contains(said, want) {
			t.Errorf("the audit log does not say %q of the change:\n%s", want, said)
		}
	}

	// Changes that may not be taken: nothing of them is in force, and after a minute nothing is at all.
	write("2", "Dr B", "all")
	for name, spoil := range map[string]func(){
		"the same version": func() {},
		"broken":           func() { write("3", "Dr B", "nonsense") },
		"gone":             func() { _ = os.Remove(path) },
	} {
		spoil()
		if err := n.agreed.reread(t.Context()); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	own := policy.Facts{Subject: policy.Subject{Role: policy.Nurse, Organisation: "RX1"}, Purpose: policy.DirectCare, Relationships: []policy.Relationship{policy.KnownHere}, At: now}
	_, _, own.Data = n.agreed.InForce()
	if !policy.Decide(own).Permit {
		t.Error("what was in force is gone at once")
	}
	own.At = now.Add(policy.MaxStale + time.Second)
	if d := policy.Decide(own); d.Permit || !d.Because("stale") {
		t.Errorf("after a minute without confirmation: %+v", d)
	}

	// Put right, it is in force again; and what was in force when can be told.
	write("3", "Dr C", "all")
	now = now.Add(5 * time.Minute)
	if err := n.agreed.reread(t.Context()); err != nil {
		t.Fatal(err)
	}
	if ok, _ := sees(); !ok {
		t.Error("put right, it is not in force")
	}
	for at, want := range map[time.Duration]string{0: "1", time.Minute: "2", 10 * time.Minute: "3"} {
		on := time.Date(2026, 6, 1, 9, 0, 0, 0, time.UTC).Add(at)
		if then, err := n.agreed.last(t.Context(), on); err != nil || then == nil || then.Version != want {
			t.Errorf("on %s version %+v was in force (%v), want %s", on, then, err, want)
		}
	}
}
