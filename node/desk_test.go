package node_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tombolo/fhir"
	"tombolo/node"
	"tombolo/region"
)

// What a feed could not take waits on its page; whoever opens it says why, which is recorded; once the dialect is mended it is taken from there.
func TestWhatWaitsIsOpenedAndTakenFromTheDesk(t *testing.T) {
	dir := t.TempDir()
	dialect := filepath.Join(dir, "dialect.yaml")
	write := func(s string) {
		if err := os.WriteFile(dialect, []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("mapping: pas/1\n")
	c := config(t, dir)
	r, problems := region.Parse("north.yaml", []byte(strings.Replace(north, "connector: hl7v2, listen: 127.0.0.1:2575", "connector: hl7v2, mapping: dialect.yaml, listen: 127.0.0.1:0", 1)+
		"  - {id: ops, name: An Operator, role: operator, organisation: RX1}\n"))
	for _, p := range problems {
		if p.Severity == region.Error {
			t.Fatal(p)
		}
	}
	c.Region, c.Folder = r, dir
	n, _ := start(t, c)
	ops, err := n.Access.As("ops")
	if err != nil {
		t.Fatal(err)
	}
	local := strings.Replace(admission, "ADT^A01|M1", "ADT^Z01|M1", 1)
	for name, msg := range map[string]string{"local.hl7": local, "odd.hl7": strings.Replace(strings.Replace(admission, "|M1|", "|M2|", 1), "|19480312|2", "|19480312|2|||||||EN~CY", 1) + "ZZZ|1|x\r", "same-id.hl7": strings.Replace(admission, "|M1|", "|M2|", 1)} {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(msg), 0o600); err != nil {
			t.Fatal(err)
		}
		files, _, _ := node.Files([]string{file})
		if _, err := n.Import(t.Context(), "pas", files, func(int64) {}); err != nil {
			t.Fatal(err)
		}
	}
	st, err := n.Feed(t.Context(), ops, "pas")
	if err != nil {
		t.Fatal(err)
	}
	if len(st.Held) != 1 || st.Held[0].Where != "MSH-9.2" || st.Held[0].Owner != "RX1" || st.Rejected != 1 || st.Accepted != 2 || st.Reused != 1 || st.LastReused.IsZero() || st.Sampled != 3 {
		t.Fatalf("the feed's page is told %+v", st)
	}
	gaps := ""
	for _, g := range st.Gaps {
		gaps += g.What + "; "
	}
	if !strings.Contains(gaps, "ZZZ-2 in ADT^A01") || !strings.Contains(gaps, "ADT^Z01 MSH-9.2") || !strings.Contains(gaps, "PID-15(2…) in ADT^A01") || strings.Contains(gaps, "Taylor") {
		t.Errorf("the gaps are %q", gaps)
	}
	hash := st.Held[0].Hash
	if _, _, err := n.OpenHeld(t.Context(), ops, "pas", hash, " "); !fhir.Is(err, fhir.Required) {
		t.Errorf("opened without a reason: %v", err)
	}
	if _, _, err := n.OpenHeld(t.Context(), ops, "epr", hash, "it is somebody else's"); !fhir.Is(err, fhir.NotFound) {
		t.Errorf("opened as another source's: %v", err)
	}
	before := entries(t, n)
	if _, raw, err := n.OpenHeld(t.Context(), ops, "pas", hash, "to see the event"); err != nil || strings.TrimSpace(string(raw)) != strings.TrimSpace(local) {
		t.Errorf("opened, it is %q (%v)", raw, err)
	}
	if err := n.TakeHeld(t.Context(), ops, "pas", hash); err == nil {
		t.Error("it was taken, though nothing was mended")
	}
	write("mapping: pas/2\nevents: {ADT^Z01: A01}\n")
	if err := n.TakeHeld(t.Context(), ops, "pas", hash); err != nil {
		t.Fatal(err)
	}
	if got := entries(t, n) - before; got != 3 {
		t.Errorf("%d of 3 things that the operator did are in the audit log", got)
	}
	if st, err := n.Feed(t.Context(), ops, "pas"); err != nil || len(st.Held) != 0 {
		t.Errorf("it still waits: %+v (%v)", st.Held, err)
	}
	if _, err := n.People.Resolve(t.Context(), fhir.Identifier{System: fhir.SystemNHSNumber, Value: "9990000107"}); err != nil {
		t.Errorf("the person is not known: %v", err)
	}
}

// entries is how many there are in the audit log.
func entries(t *testing.T, n *node.Node) int {
	t.Helper()
	rep, err := n.Audit.Verify(t.Context())
	if err != nil || !rep.OK() {
		t.Fatal(rep, err)
	}
	return int(rep.Entries)
}
