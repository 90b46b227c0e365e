package node

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestNoSourceLeadsInward(t *testing.T) {
	for at, want := range map[string]struct{ literal, named bool }{
		"127.0.0.1:80": {true, false}, "[::1]:80": {true, false}, "10.1.2.3:443": {true, true}, "192.168.0.9:443": {true, true}, "203.0.113.7:443": {true, true},
		"169.254.169.254:80": {false, false}, "[fe80::1]:80": {false, false}, "0.0.0.0:80": {false, false}, "224.0.0.1:80": {false, false}, "255.255.255.255:80": {false, false},
		"[::ffff:127.0.0.1]:80": {true, false}, "[::ffff:169.254.169.254]:80": {false, false}, "nonsense": {false, false},
		"[fe80::1%eth0]:80": {false, false}, "[ff02::1]:80": {false, false}, "[::]:80": {false, false}, "127.8.9.10:80": {true, false}, "[2001:db8::7]:443": {true, true}, "[fd12:3456::7]:443": {true, true},
		"[::169.254.169.254]:80": {false, false}, "[::ffff:0:169.254.169.254]:80": {false, false}, "[64:ff9b::169.254.169.254]:80": {false, false}, "[64:ff9b:1::a9fe:a9fe]:80": {false, false},
		"[2002:a9fe:a9fe::1]:80": {false, false}, "[2002:7f00:1::1]:80": {true, false}, "[64:ff9b::127.0.0.1]:80": {true, false}, "[64:ff9b::203.0.113.7]:443": {true, true},
		"[fd00:ec2::254]:80": {false, false}, "100.100.100.200:80": {false, false}, "168.63.129.16:80": {false, false}, "[64:ff9b::100.100.100.200]:80": {false, false},
	} {
		if err := leads(at, false); (err == nil) != want.literal {
			t.Errorf("written as an address, %s: %v", at, err)
		}
		if err := leads(at, true); (err == nil) != want.named {
			t.Errorf("by a name, %s: %v", at, err)
		}
	}
}

// A name that was pointed at this machine after it was written into the region file (DNS rebinding).
func TestANameThatLeadsToThisMachineIsNotFollowed(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the request arrived") }))
	defer srv.Close()
	_, port, _ := net.SplitHostPort(srv.Listener.Addr().String())
	d := guarded(dialer(), "record.example:"+port)
	d.Resolver = nil
	if _, err := d.DialContext(context.Background(), "tcp", "127.0.0.1:"+port); err == nil || !strings.Contains(err.Error(), "leads to this machine") {
		t.Errorf("%v", err)
	}
	if c, err := dial(t.Context(), "tcp", "127.0.0.1:"+port); err != nil {
		t.Errorf("an address that is written out is meant: %v", err)
	} else {
		_ = c.Close()
	}
}
