package hl7v2

import (
	"bufio"
	"context"
	"net"
	"time"

	"tombolo/fhir"
)

// A Client sends messages over one MLLP connection, which it makes when first needed and again after a failure. It is for one goroutine.
type Client struct {
	Addr    string
	Timeout time.Duration // for connecting, and for each acknowledgement; 30 s if 0
	Dial    func(ctx context.Context, addr string) (net.Conn, error)
	Saw     func(sent []byte) // is told of each message before it is sent; nil: nobody is told

	conn net.Conn
	r    *bufio.Reader
}

// An Ack is the answer to a message.
type Ack struct {
	Code    string // MSA-1: AA, AE, AR, CA, CE, CR
	Control string // MSA-2: the control id of the message that is answered
	Text    string // MSA-3
	Error   string // ERR: place and code, as sent
	Raw     []byte
}

// Accepted reports whether the receiver has taken the message.
func (a Ack) Accepted() bool { return a.Code == "AA" || a.Code == "CA" }

// Send sends one message and waits for its acknowledgement. An error means that none came, and that nothing is known of the message's fate: send the
// same again, under the same MSH-10. A negative acknowledgement is no error.
func (c *Client) Send(ctx context.Context, msg []byte) (Ack, error) {
	sent, err := Parse(msg, ParseOptions{})
	if err != nil {
		return Ack{}, err
	}
	if err := c.connect(ctx); err != nil {
		return Ack{}, err
	}
	ack, err := c.exchange(ctx, sent, msg)
	if err != nil {
		_ = c.Close() // an answer that comes late must not be taken for the next message's
		return Ack{}, fhir.Errorf(fhir.Transient, "send to %s: no acknowledgement came: %w", c.Addr, err)
	}
	return ack, nil
}

func (c *Client) timeout() time.Duration {
	if c.Timeout > 0 {
		return c.Timeout
	}
	return 30 * time.Second
}

func (c *Client) connect(ctx context.Context) error {
	if c.conn != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, c.timeout())
	defer cancel()
	dial := c.Dial
	if dial == nil {
		dial = func(ctx context.Context, addr string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", addr)
		}
	}
	conn, err := dial(ctx, c.Addr)
	if err != nil {
		return fhir.Errorf(fhir.Transient, "connect to %s: %w", c.Addr, err)
	}
	c.conn, c.r = conn, bufio.NewReader(conn)
	return nil
}

func (c *Client) exchange(ctx context.Context, sent *Message, msg []byte) (Ack, error) {
	conn := c.conn // the connection may have been closed and forgotten by the time ctx ends
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if err := conn.SetDeadline(time.Now().Add(c.timeout())); err != nil {
		return Ack{}, err
	}
	if ctx.Err() != nil {
		return Ack{}, ctx.Err()
	}
	if c.Saw != nil {
		c.Saw(msg)
	}
	if err := WriteFrame(conn, msg); err != nil {
		return Ack{}, err
	}
	_, _, control := sent.Type()
	for {
		frame, err := ReadFrame(c.r, MaxMessage)
		if err != nil {
			return Ack{}, err
		}
		a, err := ParseAck(frame)
		if err != nil {
			return Ack{}, err
		}
		if a.Control == control || a.Control == "" {
			return a, nil
		}
	}
}

// ParseAck reads an acknowledgement.
func ParseAck(data []byte) (Ack, error) {
	m, err := Parse(data, ParseOptions{})
	if err != nil {
		return Ack{}, err
	}
	msa := m.First("MSA")
	if !msa.Exists() {
		return Ack{}, fhir.Errorf(fhir.Structure, "the answer is no acknowledgement: it has no MSA").At("MSA")
	}
	a := Ack{Code: msa.Field(1).Text(), Control: msa.Field(2).Text(), Text: msa.Field(3).Words(), Raw: data}
	if e := m.First("ERR"); e.Exists() {
		a.Error = e.Field(1).Raw()
		if a.Error == "" {
			a.Error = e.Field(2).Raw() + "|" + e.Field(3).Raw()
		}
	}
	return a, nil
}

// Conn is the connection in use, for simulated senders that misbehave on it; nil if there is none.
func (c *Client) Conn(ctx context.Context) (net.Conn, error) {
	if err := c.connect(ctx); err != nil {
		return nil, err
	}
	return c.conn, nil
}

// Close ends the connection. The client may be used again.
func (c *Client) Close() error {
	if c.conn == nil {
		return nil
	}
	err := c.conn.Close()
	c.conn, c.r = nil, nil
	return err
}
