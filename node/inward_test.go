package node_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"tombolo/node"
	"tombolo/subscription"
)

const inwardRegion = `
region: {id: north, name: North Shared Care Record}
organisations:
  - {ods: RX1, name: North Acute Trust, kind: acute}
systems:
  - {id: app, organisation: RX1, connector: api, gives: {results: push}, release: all, options: {notify: "%s"}}
users:
  - {id: app, name: An application, role: system, organisation: RX1, system: app}
`

// names is a DNS server that leads each name where it likes, however often it is asked, and remembers which were asked for.
func names(t *testing.T, leads map[string][]string) func() map[string]int {
	t.Helper()
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	asked := map[string]int{}
	go func() {
		buf := make([]byte, 1500)
		for {
			n, from, err := c.ReadFrom(buf)
			if err != nil {
				return
			}
			if n < 17 {
				continue
			}
			q := buf[:n]
			name, at := "", 12
			for at < n && q[at] != 0 {
				name += string(q[at+1:at+1+int(q[at])]) + "."
				at += 1 + int(q[at])
			}
			kind := binary.BigEndian.Uint16(q[at+1:])
			name = strings.ToLower(strings.TrimSuffix(name, "."))
			mu.Lock()
			asked[name]++
			mu.Unlock()
			// RFC 1035 §4.1: an answer with the question repeated, and each address for no time at all
			answer := append([]byte{q[0], q[1], 0x84, 0, 0, 1, 0, 0, 0, 0, 0, 0}, q[12:at+5]...)
			count := 0
			for _, to := range leads[name] {
				ip := netip.MustParseAddr(to)
				if ip.Is4() != (kind == 1) || kind != 1 && kind != 28 {
					continue
				}
				raw := ip.AsSlice()
				answer = append(append(answer, 0xc0, 12, 0, byte(kind), 0, 1, 0, 0, 0, 0, 0, byte(len(raw))), raw...)
				count++
			}
			answer[7] = byte(count)
			_, _ = c.WriteTo(answer, from)
		}
	}()
	was := net.DefaultResolver
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", c.LocalAddr().String())
	}}
	t.Cleanup(func() { net.DefaultResolver = was; _ = c.Close() })
	return func() map[string]int {
		mu.Lock()
		defer mu.Unlock()
		out := map[string]int{}
		for k, v := range asked {
			out[k] = v
		}
		return out
	}
}

// Nobody has a node call where it should not by asking for a subscription: not by an endpoint that is written in any way, and not by a name that is agreed and leads elsewhere by now. Nothing arrives where it leads.
func TestNoSubscriptionHasANodeCallInward(t *testing.T) {
	inside, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = inside.Close() })
	var arrived atomic.Int32
	go func() {
		for {
			c, err := inside.Accept()
			if err != nil {
				return
			}
			arrived.Add(1)
			_ = c.Close()
		}
	}()
	_, port, _ := net.SplitHostPort(inside.Addr().String())
	rebound := map[string][]string{"this.example": {"127.0.0.1"}, "other-loop.example": {"127.7.7.7"}, "any.example": {"0.0.0.0"}, "six.example": {"::1"}, "mapped.example": {"::ffff:127.0.0.1"}, "wrapped.example": {"64:ff9b::7f00:1"},
		"several.example": {"127.0.0.1", "::1"}, "clouds-own.example": {"169.254.169.254"}, "clouds-own-six.example": {"fd00:ec2::254"}}
	asked := names(t, rebound)
	var led atomic.Int32
	leading := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		led.Add(1)
		status, _ := strconv.Atoi(r.URL.Query().Get("by"))
		http.Redirect(w, r, "http://"+inside.Addr().String()+"/told", status)
	}))
	t.Cleanup(leading.Close)
	var agreed, endpoints []string
	for name := range rebound {
		agreed = append(agreed, "https://"+name+":"+port+"/told")
	}
	endpoints = append(endpoints, agreed...)
	agreed = append(agreed, leading.URL)
	for _, by := range []string{"301", "302", "303", "307", "308"} {
		endpoints = append(endpoints, leading.URL+"/told?by="+by)
	}
	n := run(t, node.Config{Region: regionOf(t, inwardRegion, strings.Join(agreed, " ")), Data: t.TempDir(), Listen: "127.0.0.1:0", Feeds: true, Dev: "app"})
	put := func(id, endpoint string) int {
		t.Helper()
		body := fmt.Sprintf(`{"resourceType":"Subscription","id":%q,"status":"requested","reason":"x","criteria":"Observation?status=final","channel":{"type":"rest-hook","payload":"application/fhir+json","endpoint":%q}}`, id, endpoint)
		req, err := http.NewRequestWithContext(t.Context(), "PUT", "http://"+n.Addr()+"/fhir/Subscription/"+id, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/fhir+json")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		_, _ = io.Copy(io.Discard, resp.Body)
		return resp.StatusCode
	}
	hosts := []string{"127.0.0.1", "127.1", "127.0.1", "2130706433", "0177.0.0.1", "0x7f.0.0.1", "0x7f000001", "127.0.0.1.", "localhost", "localhost.", "LOCALHOST", "0", "0.0.0.0", "[::1]", "[::]", "[0:0:0:0:0:0:0:1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]",
		"[::127.0.0.1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "169.254.169.254", "[::ffff:a9fe:a9fe]", "[fd00:ec2::254]", "[fe80::1%25eth0]", "metadata.google.internal", "10.0.0.1", "192.168.1.1", "１２７.0.0.1", "①②⑦.⓪.⓪.①", "this.example.", "this.example.evil.example", "evil-this.example",
		"this.example@127.0.0.1", "this.example%40127.0.0.1", "127.0.0.1#@this.example", "127.0.0.1?@this.example", "127.0.0.1\\@this.example", "127.0.0.1/@this.example", "this.example:443@127.0.0.1", "this.example\t", "this.example%00.evil.example", "[::1]@this.example"}
	tried := 0
	for _, scheme := range []string{"https", "http"} {
		for _, h := range hosts {
			tried++
			if status := put(fmt.Sprintf("bad-%d", tried), scheme+"://"+h+":"+port+"/told"); status < 400 || status >= 500 {
				t.Errorf("%s://%s: %d", scheme, h, status)
			}
		}
	}
	base := "https://this.example:" + port
	for _, endpoint := range []string{"http://this.example:" + port + "/told", "https://this.example/told", base + "/told/../x", base + "/told/%2e%2e/x", base + "/told%2f..%2fx", base + "/TOLD", base + "//told", base + "/toldyou", "gopher://this.example:" + port + "/told", "file:///etc/passwd", "//this.example/told", "this.example:" + port + "/told", "https:this.example/told", "https:///told", "unix:///tmp/x", "data:,x", ""} {
		tried++
		if status := put(fmt.Sprintf("bad-%d", tried), endpoint); status < 400 || status >= 500 {
			t.Errorf("%q: %d", endpoint, status)
		}
	}
	if tried < 100 {
		t.Errorf("only %d were tried", tried)
	}
	i := 0
	for _, endpoint := range endpoints {
		i++
		if status := put(fmt.Sprintf("agreed-%d", i), endpoint); status != 201 {
			t.Errorf("%s, which is agreed: %d", endpoint, status)
		}
	}
	eventually(t, "each name was looked up", func() bool {
		got := asked()
		for name := range rebound {
			if got[name] == 0 {
				return false
			}
		}
		return true
	})
	waits := func() string {
		resp, err := http.Get("http://" + n.Addr() + "/fhir/Subscription")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		text, _ := io.ReadAll(resp.Body)
		return string(text)
	}
	eventually(t, "each has been tried and has not got through", func() bool {
		all, err := n.Notices.All(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return len(all) == len(endpoints) && !slices.ContainsFunc(all, func(s subscription.Standing) bool { return s.Tries == 0 })
	})
	if text := waits(); strings.Contains(text, `"status":"active"`) {
		t.Errorf("one was told: %s", text)
	}
	for name := range asked() {
		if rebound[name] == nil {
			t.Errorf("%s was looked up", name)
		}
	}
	if arrived.Load() > 0 || led.Load() < 5 {
		t.Errorf("%d connections arrived inside, and %d where they are led on from", arrived.Load(), led.Load())
	}
}
