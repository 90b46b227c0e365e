package audit

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"tombolo/fhir"
)

// Syslog is a repository that takes DICOM audit messages as syslog over TLS. IHE ITI-20, Syslog: RFC 5424 in RFC 5425
//
// Syslog has no acknowledgement. So each page of entries has a connection of its own, which is ended in order and waited for: a receiver that
// ends it too has read it all, and one that fails in between gets the page again.
type Syslog struct {
	Address string // host:port
	Node    string // this node's name, as HOSTNAME
	// TLS gives the configuration of a connection to a host, with this node's own certificate if the receiver wants one (ATNA does).
	TLS func(host string) (*tls.Config, error)
	// Saw is told of each message before it is sent; nil: nobody is told.
	Saw func(message []byte)
}

var _ Repository = (*Syslog)(nil)

const (
	syslogTime   = 30 * time.Second // for a page
	syslogLinger = 5 * time.Second  // for the receiver to end the connection too
	facility     = 10               // security and authorisation. RFC 5424 §6.2.1
	messageID    = "IHE+RFC-3881"   // IHE ITI TF-2: 3.20.4.1.1
)

// severities by outcome. RFC 5424 §6.2.1: notice, warning, error, critical
var severities = map[string]int{Success: 5, Minor: 4, Serious: 3, Major: 2}

// Take sends the entries. It says that all were taken, or none.
func (s *Syslog) Take(ctx context.Context, entries []Entry) (int, error) {
	var messages [][]byte
	for i, e := range entries {
		m, err := s.message(e)
		if err != nil {
			if i == 0 {
				return 0, err
			}
			break // it is the first of the next page
		}
		messages = append(messages, m)
	}
	if err := s.send(ctx, messages); err != nil {
		return 0, fmt.Errorf("send entries from %d on to the audit repository at %s: %w", entries[0].Seq, s.Address, err)
	}
	return len(messages), nil
}

func (s *Syslog) send(ctx context.Context, messages [][]byte) error {
	ctx, cancel := context.WithTimeout(ctx, syslogTime)
	defer cancel()
	host, _, err := net.SplitHostPort(s.Address)
	if err != nil {
		return err
	}
	config, err := s.TLS(host)
	if err != nil {
		return err
	}
	c, err := (&tls.Dialer{Config: config}).DialContext(ctx, "tcp", s.Address)
	if err != nil {
		return err
	}
	conn := c.(*tls.Conn)
	defer func() { _ = conn.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Now()) })
	defer stop()
	w := bufio.NewWriter(conn)
	for _, m := range messages {
		if s.Saw != nil {
			s.Saw(m)
		}
		_, _ = w.WriteString(strconv.Itoa(len(m))) // RFC 5425 §4.3
		_ = w.WriteByte(' ')
		_, _ = w.Write(m)
	}
	if err := errors.Join(w.Flush(), conn.CloseWrite()); err != nil {
		return err
	}
	_ = conn.SetReadDeadline(time.Now().Add(syslogLinger))
	_, err = io.Copy(io.Discard, io.LimitReader(conn, 1<<16))
	var late net.Error
	if errors.As(err, &late) && late.Timeout() && ctx.Err() == nil {
		return nil // it keeps connections open: it took the bytes, and more it does not say
	}
	return err
}

// message is an entry as one syslog message. RFC 5424 §6
func (s *Syslog) message(e Entry) ([]byte, error) {
	body, err := e.DICOM()
	if err != nil {
		return nil, err
	}
	r, err := e.Resource()
	if err != nil {
		return nil, err
	}
	severity, ok := severities[r.Text("outcome")]
	if !ok {
		severity = severities[Success]
	}
	head := fmt.Sprintf("<%d>1 %s %s tombolo %d %s - \ufeff", facility*8+severity, fhir.Instant(e.At), hostname(s.Node), os.Getpid(), messageID)
	return append([]byte(head), body...), nil
}

// hostname keeps what a HOSTNAME may hold. RFC 5424 §6: 1 to 255 printable ASCII characters
func hostname(s string) string {
	s = strings.Map(func(c rune) rune {
		if c <= ' ' || c > '~' {
			return '-'
		}
		return c
	}, s)
	return orElse(s[:min(len(s), 255)], "-")
}
