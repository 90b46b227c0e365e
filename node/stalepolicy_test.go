package node_test

import (
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"tombolo/node"
	"tombolo/region"
)

const staleFile = `
region: {id: a, name: Region a}
organisations: [{ods: RA1, name: Trust a, kind: acute}, {ods: RY5, name: Community, kind: community}]
systems: [{id: pas-a, organisation: RA1, connector: api, gives: {demographics: push, problems: push}, release: all}]
agreements: [{id: care, parties: [RA1, RY5], purposes: [direct-care], headings: all, from: 2020-04-01}]
policy: {version: "1", author: Dr A, reason: a test}
users:
  - {id: doctor, name: A Doctor, role: hospital-doctor, organisation: RA1, token_sha256: "TOKEN"}
  - {id: epr, name: The EPR, role: system, organisation: RA1, system: pas-a, token_sha256: "SYSTEM"}
`

// Where agreements are kept is cut off under a running node: within a minute nothing is shown at any address, to anybody whom an agreement let in, and it is shown again by itself
// when the file is there again.
func TestANodeThatIsCutOffFromItsAgreementsShowsNothing(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a.yaml")
	text := strings.NewReplacer("TOKEN", tokenHash("doctor"), "SYSTEM", tokenHash("epr")).Replace(staleFile)
	put := func() {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put()
	r, problems := region.Load(path)
	if region.Broken(problems) {
		t.Fatal(problems)
	}
	var ahead atomic.Int64
	n := run(t, node.Config{Region: r, Folder: dir, File: path, Data: filepath.Join(dir, "data"), Listen: "127.0.0.1:0", Now: func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }})
	said(t, n, "a")
	person := personOf(t, n, "9990000107")
	get := func(path string) string { t.Helper(); _, body := asDoctor(t, n, path); return body }
	faces := map[string]func() string{
		"$gather":     func() string { return ask(t, n, "doctor") },
		"$everything": func() string { return get("/fhir/Patient/" + person + "/$everything") },
		"a search":    func() string { return get("/fhir/Condition?patient=" + person) },
		"$summary":    func() string { return get("/fhir/Patient/" + person + "/$summary") },
	}
	shown := func(want bool, when string) {
		t.Helper()
		for name, look := range faces {
			if got := look(); strings.Contains(got, "said by a") != want {
				t.Errorf("%s, %s shows it: %v, want %v: %.400s", when, name, !want, want, got)
			}
		}
	}
	shown(true, "in force")

	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	ahead.Store(int64(30 * time.Second))
	shown(true, "half a minute after the file is gone")
	ahead.Store(int64(75 * time.Second)) // the last look may have been as late as ten seconds after
	shown(false, "when it could not be confirmed for a minute")

	put()
	for start := time.Now(); !strings.Contains(faces["a search"](), "said by a"); time.Sleep(500 * time.Millisecond) { // it is read again every ten seconds
		if time.Since(start) > time.Minute {
			t.Fatal("a minute after the file is back nothing is shown yet")
		}
	}
	shown(true, "back")
}
