package fhirapi

import (
	"context"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"tombolo/connector"
	"tombolo/dataset"
)

// A tap gives an answer to whatever is sent, and notes where it was sent.
type tap struct {
	link string
	mu   sync.Mutex
	sent []*http.Request
}

func (p *tap) RoundTrip(r *http.Request) (*http.Response, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sent = append(p.sent, r)
	body := set("", pat)
	if strings.Contains(r.URL.Path, "Flag") {
		if body = set("", flag("1", "Patient/p1")); len(p.sent) < 4 {
			link := strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\t", `\t`, "\n", `\n`, "\x00", `\u0000`).Replace(p.link)
			body = set(link, flag("1", "Patient/p1"))
		}
	}
	return &http.Response{StatusCode: 200, Header: http.Header{"Content-Type": {"application/fhir+json"}}, Body: io.NopCloser(strings.NewReader(body)), Request: r}, nil
}

// Whatever a source calls its next page, and wherever it says that a file is, nothing is sent to another host, port or path than what is configured, and so the token is not either.
// Addresses are put together of the pieces by which readers of addresses have been led astray. reliability.md A13
func TestNoLinkLeadsAwayFromTheAddress(t *testing.T) {
	pieces := []string{"https://", "http://", "HTTPS://", "//", "///", `\\`, "/", "mh.example", "MH.example", "mh.example.attacker.test", "attacker.test", "@", ":", ":443", ":8443", ":80", "user:pw@", "/fhir", "/fhir/", "/fhirx", "/Flag", "?page=2", "#", "#@attacker.test/",
		"..", "/../", "%2e%2e", "%2f", "%5c", "%00", "\t", "\n", "\x00", ";", "[::1]", "127.0.0.1", "169.254.169.254", "0x7f000001", "mh。example", "mh.example.", "％2e", "javascript:", "file:///etc/passwd", "data:,x", "?@", "/fhir/%2e./", "/fhir/.%2e/x", "https:mh.example", "https:/fhir", "&x=//attacker.test"}
	ask := func(link string) *tap {
		p := &tap{link: link}
		c, err := New(Options{Source: "mh", Address: "https://mh.example/fhir", HTTP: &http.Client{Transport: p}, Token: func(context.Context, connector.Requester) (string, error) { return "secret", nil }})
		if err != nil {
			t.Fatal(err)
		}
		_, _ = c.Ask(t.Context(), question(dataset.Alerts))
		_, _ = c.Fetch(t.Context(), connector.Requester{TraceID: "t"}, link)
		p.mu.Lock() // whatever is still on its way notes itself elsewhere
		defer p.mu.Unlock()
		return &tap{sent: slices.Clone(p.sent)}
	}
	led, sent, shapes, unled := 0, 0, 0, len(ask("").sent)
	check := func(rt *rapid.T) {
		shapes++
		link := strings.Join(rapid.SliceOfN(rapid.SampledFrom(pieces), 1, 6).Draw(rt, "pieces"), "")
		if rapid.Bool().Draw(rt, "below") {
			link = "https://mh.example/fhir" + link
		}
		p := ask(link)
		if len(p.sent) > unled {
			led++
		}
		for _, r := range p.sent {
			sent++
			host, port, err := net.SplitHostPort(r.URL.Host)
			if err != nil {
				host, port = r.URL.Host, "443"
			}
			path, _, _ := strings.Cut(r.URL.RequestURI(), "?") // as it is on the wire
			if r.URL.Scheme != "https" || !strings.EqualFold(host, "mh.example") || port != "443" || r.Host != "" && !strings.EqualFold(strings.TrimSuffix(r.Host, ":443"), "mh.example") ||
				path != "/fhir" && !strings.HasPrefix(path, "/fhir/") || slices.Contains(strings.Split(path, "/"), "..") || strings.Contains(strings.ToLower(path), "%2e") || strings.ContainsAny(path, "\\\r\n\x00") {
				rt.Fatalf("%q led to %s %s%s, with %q", link, r.Method, r.URL.Host, r.URL.RequestURI(), r.Header.Get("Authorization"))
			}
		}
	}
	for shapes < 2000 {
		rapid.Check(t, check)
	}
	if t.Logf("%d addresses, of which %d were followed; %d requests", shapes, led, sent); led == 0 || led == shapes {
		t.Error("the addresses do not meet what is tested")
	}
}
