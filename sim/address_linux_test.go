package sim

import (
	"context"
	"errors"
	"net"
	"strconv"
	"syscall"
	"testing"
)

// narrowed has a socket that asks for any port ask for any between this and this. Linux since 6.3; see ip(7), IP_LOCAL_PORT_RANGE.
func narrowed(port int) func(string, string, syscall.RawConn) error {
	const ipLocalPortRange = 51
	return func(_, _ string, c syscall.RawConn) (err error) {
		if no := c.Control(func(fd uintptr) {
			err = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_IP, ipLocalPortRange, port<<16|port)
		}); no != nil {
			return no
		}
		return err
	}
}

// Somebody who asks for any port at all is not given the one that is reserved, even were there no other: before, a connection that went out
// in the moment between finding a port and listening on it now and then had it.
func TestAReservedAddressIsForWhoIsToldOfIt(t *testing.T) {
	ctx := t.Context()
	other, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	addr, release, err := ReserveAddress()
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	_, p, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.Atoi(p)
	if err != nil {
		t.Fatal(err)
	}
	listen := func(ctx context.Context) error {
		l, err := (&net.ListenConfig{Control: narrowed(port)}).Listen(ctx, "tcp4", "127.0.0.1:0")
		if err == nil {
			_ = l.Close()
		}
		return err
	}
	connect := func(ctx context.Context) error {
		c, err := (&net.Dialer{Control: narrowed(port)}).DialContext(ctx, "tcp4", other.Addr().String())
		if err == nil {
			_ = c.(*net.TCPConn).SetLinger(0) // nothing of it stays
			_ = c.Close()
		}
		return err
	}
	if err := listen(ctx); errors.Is(err, syscall.ENOPROTOOPT) {
		t.Skip("SKIPPED: this system cannot be asked for a port in a narrow range")
	} else if !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("a listener on any port: %v, want that there is none free", err)
	}
	if err := connect(ctx); !errors.Is(err, syscall.EADDRNOTAVAIL) {
		t.Errorf("a connection from any port: %v, want that there is none free", err)
	}
	for range 2 { // whoever is told of it may stop, and start again
		l, err := net.Listen("tcp", addr)
		if err != nil {
			t.Fatalf("who was told of it: %v", err)
		}
		if c, err := net.Dial("tcp", addr); err != nil {
			t.Error(err)
		} else {
			_ = c.Close()
		}
		_ = l.Close()
	}
	release()
	release()
	if err := listen(ctx); err != nil {
		t.Errorf("when it was released, a listener on any port: %v", err)
	}
	if err := connect(ctx); err != nil {
		t.Errorf("when it was released, a connection from any port: %v", err)
	}
}
