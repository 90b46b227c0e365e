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
	"tombolo/fhir"
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

// A site loads its own licensed edition of the lists by laying it in a folder: in force within the minute, with what changed in the audit log; one that was cut off while it was
// copied leaves what was in force for a minute and then nothing.
func TestALicensedEditionOfTheListsIsInForceWithinAMinuteOrNothingIs(t *testing.T) {
	dir := t.TempDir()
	path, lists := filepath.Join(dir, "north.yaml"), filepath.Join(dir, "lists")
	text := strings.NewReplacer("VERSION", "1", "AUTHOR", "Dr A, code_lists: lists", "HEADINGS", "all").Replace(agreedFile)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	// The path within a release of the UK Edition, whose rows here are made up.
	content := filepath.Join(lists, "SnomedCT_UKClinicalRF2_PRODUCTION_20260415T000001Z", "Snapshot", "Refset", "Content")
	if err := os.MkdirAll(content, 0o700); err != nil {
		t.Fatal(err)
	}
	r, problems := region.Load(path)
	if region.Broken(problems) {
		t.Fatal(problems)
	}
	now := time.Date(2026, 6, 1, 9, 0, 0, 0, time.UTC)
	n, err := New(t.Context(), Config{Region: r, Folder: dir, File: path, Data: filepath.Join(dir, "data"), Now: func() time.Time { return now }, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	labels := func() policy.Labels {
		_, sensitive, _ := n.agreed.InForce()
		return sensitive.Labels([]*fhir.Resource{fhir.New("Procedure", "p", fhir.M{"code": fhir.Code(fhir.SystemSNOMED, "37796009", "")})})[0]
	}
	if labels() != 0 {
		t.Fatalf("without a list: %v", labels().Codings())
	}
	edition := func(rows string) {
		t.Helper()
		head := "id\teffectiveTime\tactive\tmoduleId\trefsetId\treferencedComponentId\r\n"
		if err := os.WriteFile(filepath.Join(content, "der2_Refset_SimpleUKCLSnapshot_GB1000000_20260415.txt"), []byte(head+rows), 0o600); err != nil {
			t.Fatal(err)
		}
		now = now.Add(rereadEvery)
	}
	edition("00000001-0000-4000-8000-000000000000\t20260415\t1\t999000011000000103\t1955841000000104\t37796009\r\n")
	if err := n.agreed.reread(t.Context()); err != nil || labels()&policy.LegallyWithheld == 0 {
		t.Errorf("the edition is there, and marks %v (%v)", labels().Codings(), err)
	}
	var said []string
	for e, err := range n.Audit.All(t.Context(), 0, 0) {
		if err != nil {
			t.Fatal(err)
		}
		if s, err := e.Summary(); err == nil && s.Kind == audit.Policy {
			said = append(said, strings.Join(s.What, "\n"))
		}
	}
	if last := said[len(said)-1]; !strings.Contains(last, "+ list hfe-act") || !strings.Contains(last, "version 20260415") || !strings.Contains(last, "list hfe-act: 1 codes more, 0 fewer") {
		t.Errorf("the audit log says of the lists:\n%s", last)
	}
	edition("00000001-0000-4000-8000-000000000000\t20260415\t1\t9990000110")
	if err := n.agreed.reread(t.Context()); err == nil || labels()&policy.LegallyWithheld == 0 {
		t.Errorf("cut off: %v, and marks %v", err, labels().Codings())
	}
	own := policy.Facts{Subject: policy.Subject{Role: policy.Nurse, Organisation: "RX1"}, Purpose: policy.DirectCare, Relationships: []policy.Relationship{policy.KnownHere}, At: now}
	_, _, own.Data = n.agreed.InForce()
	if own.At = now.Add(policy.MaxStale + time.Second); policy.Decide(own).Permit {
		t.Error("shown after a minute in which nobody knows what is sensitive")
	}
	edition("00000001-0000-4000-8000-000000000000\t20260415\t0\t999000011000000103\t1955841000000104\t37796009\r\n00000002-0000-4000-8000-000000000000\t20260415\t1\t999000011000000103\t1955841000000104\t22298006\r\n")
	if err := n.agreed.reread(t.Context()); err != nil || labels() != 0 {
		t.Errorf("put right, and taken off the list: %v (%v)", labels().Codings(), err)
	}
	if _, _, data := n.agreed.InForce(); !data.Read.Equal(now) {
		t.Error("it is not confirmed again")
	}
}
