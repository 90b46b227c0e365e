package node_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"tombolo/audit"
	"tombolo/fhir"
	"tombolo/kv/postgres/pgtest"
	"tombolo/node"
)

// Two nodes on one database are one record: what comes in at one is found at the other, and they write one audit chain.
func TestNodesShareADatabase(t *testing.T) {
	folder, url := t.TempDir(), pgtest.URL(t)
	file := filepath.Join(folder, "a.hl7")
	if err := os.WriteFile(file, []byte(admission), 0o600); err != nil {
		t.Fatal(err)
	}
	on := func() node.Config {
		c := config(t, folder)
		c.Data, c.Store = "", url
		return c
	}
	a, _ := start(t, on())
	b, stopB := start(t, on())
	files, _, _ := node.Files([]string{file})
	if rep, err := a.Import(t.Context(), "pas", files, func(int64) {}); err != nil || rep.Resources == 0 {
		t.Fatalf("%v %v", rep, err)
	}
	if rep, err := b.Import(t.Context(), "pas", files, func(int64) {}); err != nil || rep.Duplicates != 1 {
		t.Errorf("the same file at the other node: %v %v", rep, err)
	}
	id := fhir.Identifier{System: fhir.SystemNHSNumber, Value: "9990000107"}
	here, err := a.People.Resolve(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	there, err := b.People.Resolve(t.Context(), id)
	if err != nil || here != there {
		t.Errorf("one node knows the person as %q, the other as %q (%v)", here, there, err)
	}
	for i, n := range []*node.Node{a, b, a, b} {
		if e, err := n.Audit.Append(t.Context(), audit.Event{Kind: "read", PersonID: "p"}); err != nil || int(e.Seq) != i+1 {
			t.Errorf("audit entry %d has number %d, %v", i+1, e.Seq, err)
		}
	}
	stopB()
	rep, err := a.Audit.Verify(t.Context())
	if err != nil || !rep.OK() || rep.Entries != 4 {
		t.Errorf("the chain that both wrote: %v, %v", rep, err)
	}
	entries, _ := os.ReadDir(folder)
	if len(entries) != 1 {
		t.Errorf("a node on a database left files: %v", entries)
	}
}

// Two nodes on one database watch one audit log between them: each alert is told of once.
func TestNodesThatShareADatabaseTellOfAnAlertOnce(t *testing.T) {
	folder, url := t.TempDir(), pgtest.URL(t)
	var nodes []*node.Node
	for range 2 {
		c := config(t, folder)
		c.Data, c.Store = "", url
		n, _ := start(t, c)
		nodes = append(nodes, n)
	}
	const people = 12
	for i := range people {
		glass := audit.Event{Kind: audit.BreakGlass, Agent: audit.Agent{User: "doctor", Name: "Dr Ade"}, PersonID: fmt.Sprint("p", i), What: []string{"emergency: unconscious"}}
		if _, err := nodes[i%2].Audit.Append(t.Context(), glass); err != nil {
			t.Fatal(err)
		}
		time.Sleep(100 * time.Millisecond) // in steps of both nodes
	}
	told := func() (n int) {
		for e, err := range nodes[0].Audit.By(t.Context(), "tombolo", 0, 0) {
			if err != nil {
				t.Fatal(err)
			}
			if s, _ := e.Summary(); s.Kind == audit.Alert {
				n++
			}
		}
		return n
	}
	for end := time.Now().Add(time.Minute); told() < people && time.Now().Before(end); {
		time.Sleep(50 * time.Millisecond)
	}
	time.Sleep(2 * time.Second) // for the other to tell of it too, if it would
	if n := told(); n != people {
		t.Errorf("%d alerts are told of %d times", people, n)
	}
	if items, err := nodes[1].Watch.Queue(t.Context(), false); err != nil || len(items) != people {
		t.Errorf("%d alerts are in the queue, want %d (%v)", len(items), people, err)
	}
}

func TestAStoreThatIsNoneIsRefused(t *testing.T) {
	for _, c := range []node.Config{{}, {Store: "db.example"}, {Store: "mysql://db/x", Data: t.TempDir()}} {
		full := config(t, t.TempDir())
		full.Data, full.Store = c.Data, c.Store
		if c.Store == "db.example" {
			full.Data = ""
		}
		if n, err := node.New(t.Context(), full); err == nil {
			_ = n.Close()
			t.Errorf("--data %q --store %q was taken", full.Data, full.Store)
		}
	}
}
