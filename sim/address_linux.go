package sim

import (
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
)

// ReserveAddress is an address on loopback, host:port, for whoever is told of it before they listen there, in this process or another.
// Until release, which may be called twice, the system gives its port to nobody who asks for any: neither to a listener on port 0 nor to
// an outgoing connection. A port that was only found free a moment ago may be taken when it is wanted.
func ReserveAddress() (addr string, release func(), err error) {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return "", nil, os.NewSyscallError("socket", err)
	}
	// ip(7), SO_REUSEADDR: a socket that is bound, both with this option (Go's listeners have it) and the first not listening, is in nobody's way.
	err = os.NewSyscallError("setsockopt", syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1))
	if err == nil {
		err = os.NewSyscallError("bind", syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	}
	var at syscall.Sockaddr
	if err == nil {
		at, err = syscall.Getsockname(fd)
		err = os.NewSyscallError("getsockname", err)
	}
	in4, ok := at.(*syscall.SockaddrInet4)
	if err == nil && !ok {
		err = &net.AddrError{Err: "not an IPv4 address", Addr: "127.0.0.1"}
	}
	if err != nil {
		_ = syscall.Close(fd)
		return "", nil, err
	}
	return netip.AddrPortFrom(netip.AddrFrom4(in4.Addr), uint16(in4.Port)).String(), sync.OnceFunc(func() { _ = syscall.Close(fd) }), nil
}
