package pki_test

import (
	"crypto/tls"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"tombolo/pki"
	"tombolo/pki/pkitest"
)

// Whoever is refused for their certificate is told that, although they have begun to speak, and go on, before anybody has looked at it.
func TestWhoIsRefusedIsToldWhy(t *testing.T) {
	ca := pkitest.New(t, t.TempDir(), "authority", now)
	keys, err := pki.Open(files(ca, ca.Issue("localhost", nil)), nil, clock)
	if err != nil {
		t.Fatal(err)
	}
	plain, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := tls.NewListener(pki.Lingering(plain), keys.Server())
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				_ = c.(*tls.Conn).Handshake()
				_ = c.Close()
			}()
		}
	}()
	for range 20 {
		c, err := tls.Dial("tcp", l.Addr().String(), &tls.Config{InsecureSkipVerify: true}) // the server's certificate is not what this is about
		if err != nil {
			t.Fatal(err)
		}
		for range 5 {
			if _, err := c.Write(make([]byte, 8<<10)); err != nil {
				t.Fatalf("what was sent before the answer was read: %v", err)
			}
			time.Sleep(2 * time.Millisecond)
		}
		_, err = c.Read(make([]byte, 1))
		if op := (*net.OpError)(nil); !errors.As(err, &op) || op.Op != "remote error" || !strings.Contains(err.Error(), "certificate") {
			t.Fatalf("the client is told %v", err)
		}
		_ = c.Close()
	}
}

// A connection that the other side does not close is let go of all the same.
func TestWhoDoesNotHangUpIsHungUpOn(t *testing.T) {
	plain, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := pki.Lingering(plain)
	t.Cleanup(func() { _ = l.Close() })
	there, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer there.Close()
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := there.Read(make([]byte, 1)); err == nil {
		t.Error("something was said")
	}
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if _, err := there.Write([]byte("still here")); err != nil {
			break // it was reset
		}
		if time.Now().After(end) {
			t.Fatal("ten seconds later it is still open")
		}
	}
	if err := c.Close(); err == nil {
		t.Error("it can be closed twice")
	}
}
