package hl7v2

import (
	"context"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"tombolo/fhir"
)

// Outward is what a feed tells its system, and where: nothing if Address is empty.
type Outward struct {
	Address    string // mllp://host:port, or mllps://host:port over TLS with the feed's certificate
	Letterhead Letterhead
	Again      []string // acknowledgement codes by which the receiver means "later"
	Attempts   int      // before a message is given back as of unknown fate; without end if 0
}

// set takes one setting; known is false if there is none of this name.
func (w *Outward) set(name, value string) (known bool, err error) {
	h := &w.Letterhead
	switch name {
	case "send-to":
		w.Address = value
	case "send-as":
		h.Application, h.Facility, _ = strings.Cut(value, "^")
	case "send-for":
		h.ToApplication, h.ToFacility, _ = strings.Cut(value, "^")
	case "send-version":
		if h.Version = value; !slices.Contains([]string{"2.3", "2.3.1", "2.4", "2.5", "2.5.1"}, value) {
			err = fhir.Errorf(fhir.ValueError, "messages are written in version 2.3, 2.3.1, 2.4, 2.5 or 2.5.1")
		}
	case "send-processing":
		if h.Processing = strings.ToUpper(value); len(value) != 1 || strings.Trim(h.Processing, "PTD") != "" {
			err = fhir.Errorf(fhir.ValueError, "a processing id is P, T or D")
		}
	case "send-again":
		w.Again = strings.FieldsFunc(strings.ToUpper(value), func(r rune) bool { return r == ',' || r == ' ' })
		if slices.ContainsFunc(w.Again, func(c string) bool { return c != "AE" && c != "AR" && c != "CE" && c != "CR" }) {
			err = fhir.Errorf(fhir.ValueError, "write the codes that mean later: AE, AR, CE or CR")
		}
	case "send-attempts":
		w.Attempts, err = strconv.Atoi(value)
	default:
		return false, nil
	}
	return true, err
}

// An Outbound tells one system, in HL7 v2, what resources say: written as Write does, sent one message at a time and not let go of before its fate is
// known, each under a control id that the same content always has, so that what is sent twice is taken once.
//
// A changed MappingFile is read before the next resource is written, within Reread; of one with a mistake in it the log tells, and the one before stays in force.
type Outbound struct {
	given Options // before defaults

	writing sync.Mutex // guards what is written by
	o       Options
	dialect dialectFile
	looked  time.Time // at the mapping file

	mu     sync.Mutex // one message at a time, in order
	sender *Sender
}

// NewOutbound makes the sending side of a feed. It connects when first needed.
func NewOutbound(o Options) (*Outbound, error) {
	given := o
	o = o.withDefaults()
	w := o.Wire
	w.Address = o.Outward.Address
	dial, err := w.dialler(o.Logger)
	if err != nil {
		return nil, issueOf(err).At("options.send-to").From(o.Source)
	}
	host, _, _ := w.target()
	c := &Client{Addr: host, Timeout: o.FrameTimeout, Saw: o.Sends, Dial: func(ctx context.Context, _ string) (net.Conn, error) { return dial(ctx) }}
	return &Outbound{given: given, o: o, dialect: newDialect(o), looked: o.Now(), sender: &Sender{Client: c, Attempts: o.Outward.Attempts, Again: o.Outward.Again}}, nil
}

// Messages are those by which the system is told of a resource; see Write.
func (b *Outbound) Messages(r *fhir.Resource) ([][]byte, error) {
	o := b.current()
	return Write(r, o, o.Outward.Letterhead)
}

// current is what is written by now.
func (b *Outbound) current() Options {
	b.writing.Lock()
	defer b.writing.Unlock()
	if now := b.o.Now(); b.dialect.file != "" && now.Sub(b.looked) >= b.dialect.every {
		b.looked = now
		if o := b.dialect.changed(b.given, b.o.Logger); o != nil {
			b.o = *o
		}
	}
	return b.o
}

// SendMessage sends a message as it is, and gives its acknowledgement; see Sender.Send for its errors.
func (b *Outbound) SendMessage(ctx context.Context, msg []byte) (Ack, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	ack, err := b.sender.Send(ctx, msg)
	if i := fhir.IssueOf(err); i != nil {
		return ack, i.From(b.given.Source)
	}
	return ack, err
}

// Close ends the connection. The Outbound may be used again.
func (b *Outbound) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.sender.Client.Close()
}
