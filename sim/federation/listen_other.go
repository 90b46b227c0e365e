//go:build !linux

package federation

import "net"

// listenUnqueued listens and never accepts: connections are taken by the system, and nothing is ever said on them.
func listenUnqueued() (net.Listener, error) { return net.Listen("tcp", "127.0.0.1:0") }
