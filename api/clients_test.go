package api_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// clients is where .ci/tools has installed the public clients of testdata/clients; the test is skipped, or under TOMBOLO_CI fails, where they are not.
func clients(t *testing.T) (node, folder string) {
	t.Helper()
	cache, err := os.UserCacheDir()
	must(t, err)
	folder = filepath.Join(cache, "tombolo", "clients")
	missing := func(what string) {
		if os.Getenv("TOMBOLO_CI") != "" {
			t.Fatalf("%s: run .ci/tools", what)
		}
		t.Skipf("%s: make tools installs it", what)
	}
	if node, err = exec.LookPath("node"); err != nil {
		missing("there is no Node.js here")
	}
	have, err := os.ReadFile(filepath.Join(folder, "package-lock.json"))
	if err != nil {
		missing("the public FHIR clients are not installed")
	}
	want, err := os.ReadFile(filepath.Join("testdata", "clients", "package-lock.json"))
	must(t, err)
	if string(have) != string(want) {
		missing("the public FHIR clients that are installed are of other versions")
	}
	return node, folder
}

// Applications are not written against this program: two public clients, as they are, do with it what applications do.
func TestPublicClientsDriveIt(t *testing.T) {
	node, folder := clients(t)
	s := open(t)
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	out, err := exec.CommandContext(ctx, node, filepath.Join("testdata", "clients", "drive.mjs"), folder, s.url, "epr").CombinedOutput()
	if err != nil || strings.Count(string(out), "all well") != 2 {
		t.Errorf("%v\n%s", err, out)
	}
}
