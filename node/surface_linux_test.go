package node_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"tombolo/node"
	"tombolo/pki"
	"tombolo/pki/pkitest"
)

// listening are the addresses on which this process takes connections, as the system itself tells.
func listening(t *testing.T) (out []string) {
	t.Helper()
	own := map[string]bool{}
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		if to, err := os.Readlink("/proc/self/fd/" + fd.Name()); err == nil {
			own[strings.TrimSuffix(strings.TrimPrefix(to, "socket:["), "]")] = true
		}
	}
	for _, family := range []string{"tcp", "tcp6"} {
		data, err := os.ReadFile("/proc/self/net/" + family)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(data)) {
			f := strings.Fields(line)
			if len(f) < 10 || f[3] != "0A" || !own[f[9]] { // 0A: listening
				continue
			}
			host, port, _ := strings.Cut(f[1], ":")
			n, _ := strconv.ParseUint(port, 16, 16)
			if host == "0100007F" {
				host = "127.0.0.1"
			}
			out = append(out, net.JoinHostPort(host, fmt.Sprint(n)))
		}
	}
	slices.Sort(out)
	return out
}

// A node takes connections on its pages' listener, its systems' listener and its feeds' ports, and nowhere else: there is no other door for operators. reliability.md A36
func TestANodeListensWhereItIsToldAndNowhereElse(t *testing.T) {
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	feed := free.Addr().String()
	_ = free.Close()
	before := listening(t)
	ca := pkitest.New(t, t.TempDir(), "authority", time.Now())
	cert := ca.Issue("north.example", nil)
	r := regionOf(t, `
region: {id: north, name: North}
organisations: [{ods: RX1, name: Trust, kind: acute}]
systems:
  - {id: pas, organisation: RX1, connector: hl7v2, listen: "%s", gives: {demographics: push}}
  - {id: epr, organisation: RX1, connector: consumer, certificate: epr.example, role: nurse}
users: [{id: doctor, name: D, role: hospital-doctor, organisation: RX1, token_sha256: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08}]
`, feed)
	n := run(t, node.Config{Region: r, Data: t.TempDir(), Feeds: true, Listen: "127.0.0.1:0", Systems: "127.0.0.1:0",
		TLS: pki.Files{Cert: cert.CertFile, Key: cert.KeyFile, CA: filepath.Join(ca.Dir, "authority.pem"), CRL: ca.Revoke(time.Now())}})
	want := append(slices.Clone(before), n.Addr(), n.SystemsAddr(), feed)
	slices.Sort(want)
	eventually(t, "the node listens", func() bool { return len(listening(t)) >= len(want) })
	if got := listening(t); !slices.Equal(got, want) {
		t.Errorf("the process listens on %v, want %v", got, want)
	}
}

// public are the addresses whose answer may be given to anybody, or as metrics are, to this machine: none says anything of anybody's record.
var public = []string{"/", "/metrics", "/sign-in", "/sign-out", "/healthz", "/readyz", "/.well-known/", "/fhir/.well-known/", "/fhir/metadata", "/identity/metadata", "/directory/metadata", "/oauth/", "/launch", "/assets/", "/static/"}

// Whoever has not signed in is told nothing on any address that the pages' listener has: not even whether there is such a page. The addresses are read from the program's own text, so
// that a new one is tried too.
func TestWhoHasNotSignedInIsToldNothingAnywhere(t *testing.T) {
	address := regexp.MustCompile(`"(?:(GET|POST|PUT|DELETE|PATCH) )?(/[a-z$][^" ?]*)"`)
	found := map[string]bool{}
	for _, room := range []string{"../web", "../node", "../api", "../api/nrl", "../access/oauth", "../subscription"} {
		files, _ := filepath.Glob(room + "/*.go")
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range address.FindAllStringSubmatch(string(text), -1) {
				found[m[2]] = true
			}
		}
	}
	c := config(t, t.TempDir())
	c.Listen = "127.0.0.1:0"
	n := run(t, c)
	hole := regexp.MustCompile(`\{[^}]*\}`)
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	asked := 0
	for at := range found {
		at = hole.ReplaceAllString(at, "x")
		paths := []string{at}
		if strings.HasPrefix(at, "/Patient") || strings.HasPrefix(at, "/$") || strings.HasPrefix(at, "/DocumentReference") {
			paths = []string{"/fhir" + at, "/identity" + at, "/directory" + at, "/nrl/consumer/FHIR/R4" + at, "/nrl/producer/FHIR/R4" + at}
		}
		for _, path := range paths {
			for _, method := range []string{"GET", "POST", "PUT", "DELETE"} {
				req := httptest.NewRequest(method, "http://"+n.Addr()+path, strings.NewReader("{}"))
				req.RequestURI = ""
				req.Header.Set("Content-Type", "application/fhir+json")
				resp, err := client.Do(req)
				if err != nil {
					t.Fatal(method, path, err)
				}
				body, _ := io.ReadAll(resp.Body)
				_ = resp.Body.Close()
				asked++
				ok := resp.StatusCode >= 400 || resp.StatusCode == http.StatusSeeOther && strings.HasPrefix(resp.Header.Get("Location"), "/sign-in") || resp.StatusCode == http.StatusSeeOther && resp.Header.Get("Location") == "/" ||
					resp.StatusCode == http.StatusTemporaryRedirect && resp.Header.Get("Location") == path+"/"
				if !ok && !slices.ContainsFunc(public, func(p string) bool { return path == p || p != "/" && strings.HasPrefix(path, p) }) {
					t.Errorf("%s %s: %d %q %.200s", method, path, resp.StatusCode, resp.Header.Get("Location"), body)
				}
				if resp.StatusCode >= 500 {
					t.Errorf("%s %s: %d %.200s", method, path, resp.StatusCode, body)
				}
			}
		}
	}
	if t.Logf("%d addresses, %d requests", len(found), asked); len(found) < 60 {
		t.Errorf("only %d addresses were found", len(found))
	}
}
