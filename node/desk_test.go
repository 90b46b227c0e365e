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
		file := filepath.Join(t.TempDir(), name)
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

// A message that could not be taken is shown as it came, and where in it an address stands nobody knows: one that names somebody whose whereabouts are protected stays shut.
func TestWhatWaitsOfAProtectedPersonIsNotOpened(t *testing.T) {
	c := config(t, t.TempDir())
	r, problems := region.Parse("north.yaml", []byte(strings.Replace(north, "connector: hl7v2, listen: 127.0.0.1:2575", "connector: hl7v2, listen: 127.0.0.1:0", 1)+
		"  - {id: ops, name: An Operator, role: operator, organisation: RX1}\n"))
	for _, p := range problems {
		if p.Severity == region.Error {
			t.Fatal(p)
		}
	}
	c.Region = r
	n, _ := start(t, c)
	ops, err := n.Access.As("ops")
	if err != nil {
		t.Fatal(err)
	}
	take := func(msg string) {
		t.Helper()
		file := filepath.Join(t.TempDir(), "a.hl7")
		if err := os.WriteFile(file, []byte(msg), 0o600); err != nil {
			t.Fatal(err)
		}
		files, _, _ := node.Files([]string{file})
		if _, err := n.Import(t.Context(), "pas", files, func(int64) {}); err != nil {
			t.Fatal(err)
		}
	}
	numbered := func(id string) string {
		return strings.Replace(strings.Replace(admission, "|M1|", "|"+id+"|", 1), "||19480312|2\r", "||19480312|2|||4 Mill Lane^^Northtown^^N1 1AA\r", 1)
	}
	protected := func(msg string) string { return strings.Replace(msg, "PV1|", "PD1||||||||||||Y\rPV1|", 1) }
	held := func(msg string) string { return strings.Replace(msg, "ADT^A01", "ADT^Z01", 1) }
	take(protected(numbered("M1")))
	by := map[string]string{
		"by their NHS number":              held(strings.Replace(numbered("H1"), "~RX100001^^^RX1^PI", "", 1)),
		"by a number written in groups":    held(strings.Replace(numbered("H2"), "9990000107^^^NHS^NH~RX100001^^^RX1^PI", "OTHER5^^^RX1^PI", 1)) + "NTE|1||about 999 000 0107\r",
		"by their number at the source":    held(strings.Replace(numbered("H3"), "9990000107^^^NHS^NH~", "", 1)),
		"by a message that says it itself": held(protected(strings.Replace(numbered("H4"), "9990000107^^^NHS^NH~RX100001^^^RX1^PI", "OTHER6^^^RX1^PI", 1))),
	}
	for _, msg := range by {
		take(msg)
	}
	other := held(strings.Replace(numbered("H5"), "9990000107^^^NHS^NH~RX100001^^^RX1^PI", "OTHER7^^^RX1^PI", 1))
	take(other)
	st, err := n.Feed(t.Context(), ops, "pas")
	if err != nil || len(st.Held) != len(by)+1 {
		t.Fatalf("%d wait (%v)", len(st.Held), err)
	}
	opened := 0
	for _, h := range st.Held {
		before := entries(t, n)
		_, raw, err := n.OpenHeld(t.Context(), ops, "pas", h.Hash, "to see the event")
		switch {
		case err == nil && strings.TrimSpace(string(raw)) == strings.TrimSpace(other):
			opened++
		case !fhir.Is(err, fhir.Forbidden) || raw != nil:
			t.Errorf("%s was opened: %q (%v)", h.ID, raw, err)
		}
		if after := entries(t, n); after != before+1 {
			t.Errorf("%s: %d entries in the audit log for one question", h.ID, after-before)
		}
	}
	if opened != 1 {
		t.Errorf("%d were opened, and one names nobody who is protected", opened)
	}
}
