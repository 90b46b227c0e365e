package node_test

import (
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"tombolo/node"
)

// Whatever a request says of how long it is, what comes after a body that a proxy may have read otherwise is not taken for another request: nobody gets one past a proxy in the body of another.
func TestNothingIsReadAfterABodyOfDoubtfulLength(t *testing.T) {
	n := run(t, node.Config{Region: regionOf(t, jobsRegion), Data: t.TempDir(), Listen: "127.0.0.1:0", Dev: "epr"})
	host := "Host: " + n.Addr() + "\r\n"
	hidden := "GET /healthz?hidden HTTP/1.1\r\n" + host + "Connection: close\r\n\r\n" // the only one that is answered well
	answers := func(request string) string {
		t.Helper()
		c, err := net.Dial("tcp", n.Addr())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(20 * time.Second))
		if _, err := io.WriteString(c, request+hidden); err != nil {
			t.Fatal(err)
		}
		all, err := io.ReadAll(c)
		if err != nil && len(all) == 0 { // it may be reset, with what it has not read
			t.Fatal(err)
		}
		return string(all)
	}
	if got := answers("POST /fhir/Patient HTTP/1.1\r\n" + host + "Content-Type: application/fhir+json\r\nContent-Length: 2\r\n\r\n{}"); !strings.HasPrefix(got, "HTTP/1.1 4") || strings.Count(got, "HTTP/1.1 200") != 1 {
		t.Fatalf("two ordinary requests on one connection are answered\n%s", got)
	}
	for _, lengths := range []string{
		"Content-Length: 64\r\nTransfer-Encoding: chunked", "Transfer-Encoding: chunked\r\nContent-Length: 5", "Transfer-Encoding: chunked\r\nContent-Length: 0", "Transfer-Encoding: chunked", "Transfer-Encoding: Chunked\r\nContent-Length: 3",
		"Transfer-Encoding: identity\r\nContent-Length: 0", "Transfer-Encoding: chunked, identity", "Transfer-Encoding: xchunked", "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity", "Transfer-Encoding : chunked\r\nContent-Length: 0",
		"Transfer-Encoding:\tchunked\r\nContent-Length: 3", " Transfer-Encoding: chunked\r\nContent-Length: 0", "Transfer-Encoding: \x0bchunked\r\nContent-Length: 0", "Content-Length: 5\r\nContent-Length: 0", "Content-Length: +0", "Content-Length: 0, 5", "Content-Length: -1", "Content-Length: 0x0", "Content-Length : 0",
	} {
		for _, version := range []string{"HTTP/1.1", "HTTP/1.0"} {
			request := "POST /fhir/Patient " + version + "\r\n" + host + "Connection: keep-alive\r\nContent-Type: application/fhir+json\r\n" + lengths + "\r\n\r\n0\r\n\r\n"
			if got := answers(request); strings.Contains(got, " 200 ") || !strings.HasPrefix(got, "HTTP/1.") {
				t.Errorf("%s, %q: what is hidden in its body was answered:\n%s", version, lengths, got)
			}
		}
	}
}
