package node

import (
	"context"
	"net"
	"syscall"
	"time"

	"tombolo/fhir"
)

// dialer connects to sources. The address is looked at when it is connected to, after names have been resolved: a name that leads to this machine, or to
// where machines keep their own secrets, is not followed, whoever has pointed it there since it was written into the region file.
func dialer() *net.Dialer {
	return &net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}
}

// dial is net.Dialer.DialContext with that look.
func dial(ctx context.Context, network, addr string) (net.Conn, error) {
	return guarded(dialer(), addr).DialContext(ctx, network, addr)
}

// guarded has a dialer look at where an address really leads.
func guarded(d *net.Dialer, addr string) *net.Dialer {
	host, _, err := net.SplitHostPort(addr)
	named := err != nil || host != "localhost" && net.ParseIP(host) == nil
	d.Control = func(_, resolved string, _ syscall.RawConn) error { return leads(resolved, named) }
	return d
}

// leads refuses a resolved address to which no source may lead. Private addresses are allowed: health networks have them.
func leads(resolved string, named bool) error {
	host, _, err := net.SplitHostPort(resolved)
	ip := net.ParseIP(host)
	switch {
	case err != nil || ip == nil:
		return fhir.Errorf(fhir.Processing, "the source's address cannot be looked at")
	case ip.IsUnspecified(), ip.IsMulticast(), ip.IsLinkLocalUnicast(), ip.IsInterfaceLocalMulticast(), ip.Equal(net.IPv4bcast):
		return fhir.Errorf(fhir.Processing, "the source's address leads to one that belongs to the network itself: mend its address or its name's entry in the DNS")
	case named && ip.IsLoopback():
		return fhir.Errorf(fhir.Processing, "the source's name leads to this machine: write 127.0.0.1 if that is meant, or mend its entry in the DNS")
	}
	return nil
}
