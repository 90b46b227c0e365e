package node_test

import (
	"context"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tombolo/fhir"
	"tombolo/node"
	"tombolo/region"
)

const north = `
region: {id: north, name: North Shared Care Record}
organisations:
  - {ods: RX1, name: North Acute Trust, kind: acute}
  - {ods: M85001, name: Hilltop Surgery, kind: gp}
systems:
  - {id: pas, organisation: RX1, product: PAS, connector: hl7v2, listen: 127.0.0.1:2575, options: {processing: PT},
     gives: {demographics: push, encounters: push, results: push}, release: all}
  - {id: epr, organisation: RX1, product: EPR, connector: document, listen: 127.0.0.1:2576,
     gives: {demographics: push, encounters: push, results: push, problems: push, documents: push}, release: all}
agreements:
  - {id: north-direct-care, parties: [RX1, M85001], purposes: [direct-care], headings: all, from: 2026-04-01}
users:
  - {id: dev, name: A Developer, role: gp, organisation: M85001}
`

func config(t *testing.T, data string) node.Config {
	t.Helper()
	r, problems := region.Parse("north.yaml", []byte(north))
	for _, p := range problems {
		if p.Severity == region.Error {
			t.Fatal(p)
		}
	}
	return node.Config{Region: r, Folder: data, Data: data}
}

// start makes a node and has it follow its log; stop undoes it.
func start(t *testing.T, c node.Config) (n *node.Node, stop func()) {
	t.Helper()
	n, err := node.New(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	n.Start(ctx)
	stopped := false
	stop = func() {
		if !stopped {
			stopped = true
			cancel()
			if err := n.Close(); err != nil {
				t.Error(err)
			}
		}
	}
	t.Cleanup(stop)
	return n, stop
}

func sharedData(t *testing.T, folder string) string {
	t.Helper()
	dir := os.Getenv("TOMBOLO_DATA")
	if dir == "" {
		dir = filepath.Join("..", "..", "shared", "data")
	}
	dir = filepath.Join(dir, folder)
	if _, err := os.Stat(dir); err != nil {
		t.Skipf("the public test data is not here (%s): set TOMBOLO_DATA to where it is", folder)
	}
	return dir
}

// What others' systems write is taken in and accounted for, or refused with a reason; importing it again changes nothing.
func TestRealFilesAreTakenAndAccountedFor(t *testing.T) {
	for _, c := range []struct {
		source, folder string
		most           int  // files
		all            bool // every delivery must be taken
	}{
		{"epr", "01-fhir-r4-bundles/bulk-data-server-synthea-2020", 2, true},
		{"epr", "01-fhir-r4-bundles/derived-ndjson-bulk-data-server", 4, false},
		{"pas", "05-hl7v2/simhospital", 600, true},
		{"pas", "05-hl7v2/ms-fhir-converter", 200, false},
		{"pas", "05-hl7v2/balneario-conformance", 200, false},
		{"epr", "06-cda-and-documents", 200, false},
	} {
		t.Run(c.folder, func(t *testing.T) {
			files, total, err := node.Files([]string{sharedData(t, c.folder)})
			if err != nil {
				t.Fatal(err)
			}
			files = files[:min(len(files), c.most)]
			n, _ := start(t, config(t, t.TempDir()))
			var read int64
			rep, err := n.Import(t.Context(), c.source, files, func(n int64) { read = n })
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%s", rep)
			if read == 0 || read > total {
				t.Errorf("progress ended at %d of %d bytes", read, total)
			}
			if rep.Resources == 0 || c.all && rep.Rejected+len(rep.Unread) > 0 {
				t.Errorf("not all was taken:\n%s", rep)
			}
			if rep.Rejected+rep.Partly > 0 && len(rep.Reasons) == 0 {
				t.Error("something was not taken and no reason is given")
			}
			held, err := n.Intake.Quarantine(t.Context(), 0)
			if err != nil {
				t.Fatal(err)
			}
			for _, q := range held {
				if len(q.Issues) == 0 || q.Issues[0].Text == "" || q.Owner != "RX1" {
					t.Errorf("quarantined without reason or owner: %+v", q)
				}
				if raw, err := n.Intake.Raw(t.Context(), q.Hash); err != nil || len(raw) != q.Size {
					t.Errorf("the raw bytes of a quarantined delivery are not kept: %v", err)
				}
			}
			again, err := n.Import(t.Context(), c.source, files, func(int64) {})
			if err != nil || again.Duplicates != again.Deliveries {
				t.Errorf("imported again, %d of %d were recognised (%v)", again.Duplicates, again.Deliveries, err)
			}
		})
	}
}

const admission = "MSH|^~\\&|PAS|RX1|T|N|20260301101500||ADT^A01|M1|P|2.4\rEVN|A01|20260301101500\r" +
	"PID|1||9990000107^^^NHS^NH~RX100001^^^RX1^PI||Taylor^Margaret||19480312|2\rPV1|1|I|WARD7||||||||||||||||V9|||||||||||||||||||||||||20260301101500\r"

func TestWhatWasTakenInIsThereAfterARestart(t *testing.T) {
	data := t.TempDir()
	file := filepath.Join(t.TempDir(), "a.hl7")
	if err := os.WriteFile(file, []byte(admission), 0o600); err != nil {
		t.Fatal(err)
	}
	n, stop := start(t, config(t, data))
	files, _, _ := node.Files([]string{file})
	if rep, err := n.Import(t.Context(), "pas", files, func(int64) {}); err != nil || rep.Resources == 0 {
		t.Fatalf("%v %v", rep, err)
	}
	id := fhir.Identifier{System: fhir.SystemNHSNumber, Value: "9990000107"}
	before, err := n.People.Resolve(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	stop()
	n, _ = start(t, config(t, data))
	after, err := n.People.Resolve(t.Context(), id)
	if err != nil || after != before {
		t.Errorf("after a restart the person is %q (%v), before %q", after, err, before)
	}
}

func TestASourceThatIsNotInTheRegionIsRefused(t *testing.T) {
	n, _ := start(t, config(t, t.TempDir()))
	if _, err := n.Import(t.Context(), "nobody", nil, func(int64) {}); err == nil || !strings.Contains(err.Error(), "pas") {
		t.Errorf("got %v, want the systems that there are", err)
	}
}

func TestWithoutSignInANodeListensOnLoopbackOnly(t *testing.T) {
	for _, addr := range []string{"0.0.0.0:0", ":0", "192.0.2.1:80", "[::]:0"} {
		c := config(t, t.TempDir())
		c.Dev, c.Listen = "dev", addr
		if n, err := node.New(t.Context(), c); err == nil {
			_ = n.Close()
			t.Errorf("developer mode listened on %s", addr)
		}
	}
}

func TestHealthReadinessAndMetricsTellNothingOfPeople(t *testing.T) {
	c := config(t, t.TempDir())
	c.Listen, c.Dev = "127.0.0.1:0", "dev"
	n := run(t, c)
	file := filepath.Join(t.TempDir(), "a.hl7")
	_ = os.WriteFile(file, []byte(admission), 0o600)
	for i := range 2 { // the followers must be up for the import to end
		files, _, _ := node.Files([]string{file})
		if _, err := n.Import(t.Context(), "pas", files, func(int64) {}); err != nil {
			t.Fatal(i, err)
		}
	}
	for path, want := range map[string]string{"/healthz": "ok", "/readyz": "ready", "/metrics": `tombolo_deliveries_total{outcome="accepted",source="pas"} 1`} {
		resp, err := http.Get("http://" + n.Addr() + path)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusOK || !strings.Contains(string(body), want) {
			t.Errorf("%s: %d %q, want %q", path, resp.StatusCode, body, want)
		}
		if strings.Contains(string(body), "9990000107") || strings.Contains(string(body), "Taylor") {
			t.Errorf("%s tells who is here", path)
		}
	}
}
