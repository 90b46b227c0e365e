package node

import (
	"context"
	"net"
	"net/netip"
	"slices"
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
	at, err := netip.ParseAddrPort(resolved)
	if err != nil {
		return fhir.Errorf(fhir.Processing, "the source's address cannot be looked at")
	}
	for _, ip := range meant(at.Addr()) {
		switch {
		case ip.IsUnspecified(), ip.IsMulticast(), ip.IsLinkLocalUnicast(), ip == broadcast, slices.Contains(hostsOwn, ip):
			return fhir.Errorf(fhir.Processing, "the source's address leads to one that belongs to the network itself: mend its address or its name's entry in the DNS")
		case named && ip.IsLoopback():
			return fhir.Errorf(fhir.Processing, "the source's name leads to this machine: write 127.0.0.1 if that is meant, or mend its entry in the DNS")
		}
	}
	return nil
}

var broadcast = netip.AddrFrom4([4]byte{255, 255, 255, 255})

// hostsOwn are where hosting companies' machines ask for their own secrets, beside 169.254.169.254, which is link-local.
var hostsOwn = []netip.Addr{netip.MustParseAddr("fd00:ec2::254"), netip.MustParseAddr("fd20:ce::254"), netip.MustParseAddr("100.100.100.200"),
	netip.MustParseAddr("192.0.0.192"), netip.MustParseAddr("168.63.129.16")}

// wrapped are the forms of an IPv6 address that lead to the IPv4 address within it, which begins at that byte: mapped and compatible (RFC 4291 §2.5.5), translated
// (RFC 2765), NAT64 (RFC 6052, RFC 8215) and 6to4 (RFC 3056).
var wrapped = []struct {
	prefix netip.Prefix
	at     int
}{
	{netip.MustParsePrefix("::ffff:0:0/96"), 12}, {netip.MustParsePrefix("::/96"), 12}, {netip.MustParsePrefix("::ffff:0:0:0/96"), 12},
	{netip.MustParsePrefix("64:ff9b::/96"), 12}, {netip.MustParsePrefix("64:ff9b:1::/48"), 12}, {netip.MustParsePrefix("2002::/16"), 2},
}

// meant is an address together with what it may lead to.
func meant(ip netip.Addr) []netip.Addr {
	ip = ip.WithZone("")
	out := []netip.Addr{ip.Unmap()}
	if ip.Is4() || ip == netip.IPv6Loopback() {
		return out
	}
	b := ip.As16()
	for _, w := range wrapped {
		if w.prefix.Contains(ip) {
			out = append(out, netip.AddrFrom4([4]byte(b[w.at:w.at+4])))
		}
	}
	return out
}
