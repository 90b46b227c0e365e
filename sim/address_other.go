//go:build !linux

package sim

import "net"

// ReserveAddress is an address on loopback, host:port, for whoever is told of it before they listen there. Here nothing keeps its port:
// it was free a moment ago.
func ReserveAddress() (addr string, release func(), err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	return l.Addr().String(), func() {}, l.Close()
}
