package pki

import (
	"io"
	"net"
	"time"
)

const (
	lingerTime = 500 * time.Millisecond
	lingerRoom = 64 << 10 // bytes that are read and thrown away meanwhile
)

// Lingering is a listener for TLS whose connections tell whoever is refused why. In TLS 1.3 a client has begun to speak before its certificate was looked at,
// and a socket that is closed with something unread in it takes back what was just said there: instead of the alert (RFC 8446 §6.2) the client would meet a
// connection that was reset, and somebody would look for a fault of the network. So a connection is closed in one direction, read for half a second or until
// the client has closed it, and then closed.
func Lingering(l net.Listener) net.Listener { return lingering{l} }

type lingering struct{ net.Listener }

// Accept implements net.Listener.
func (l lingering) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	if c, ok := c.(*net.TCPConn); ok {
		return lingers{c}, nil
	}
	return c, nil
}

type lingers struct{ *net.TCPConn }

// Close implements net.Conn. It does not wait.
func (c lingers) Close() error {
	if c.CloseWrite() != nil || c.SetReadDeadline(time.Now().Add(lingerTime)) != nil { // it is gone, or was closed before
		return c.TCPConn.Close()
	}
	go func() {
		_, _ = io.CopyN(io.Discard, c.TCPConn, lingerRoom)
		_ = c.TCPConn.Close()
	}()
	return nil
}
