package hl7v2

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"tombolo/connector"
	"tombolo/fhir"
)

// A Feed receives one system's messages over MLLP. It is a connector.Runner.
type Feed struct {
	o     Options
	ln    net.Listener
	stats struct{ frames, accepted, faulty, refused, unanswered, broken, connections atomic.Int64 }
}

var _ connector.Runner = (*Feed)(nil)

// Stats count what a feed has done since it began.
type Stats struct {
	Frames      int64 // frames that came whole
	Accepted    int64 // messages answered AA or CA
	Faulty      int64 // answered AE or CE, and kept
	Refused     int64 // answered AR or CR, and kept
	Unanswered  int64 // not answered, because this side failed: the sender sends again
	Broken      int64 // bytes that were no whole frame, and were kept
	Connections int64 // open now
}

// New makes a feed. It listens at once, so that a wrong address is told before anything runs, and so that Addr is known.
func New(o Options) (*Feed, error) {
	f := &Feed{o: o.withDefaults(), ln: o.Listener}
	if o.Source == "" {
		return nil, fhir.Errorf(fhir.Required, "an HL7 v2 feed needs the id of its system").At("systems.id")
	}
	if f.ln == nil {
		ln, err := net.Listen("tcp", o.Listen)
		if err != nil {
			return nil, fhir.Errorf(fhir.Exception, "cannot listen for HL7 v2 at %s: %w", o.Listen, err).From(o.Source)
		}
		f.ln = ln
	}
	return f, nil
}

// Addr is where the feed listens.
func (f *Feed) Addr() net.Addr { return f.ln.Addr() }

// Close undoes New, for a feed that never ran; Run closes what it ran on.
func (f *Feed) Close() error {
	if err := f.ln.Close(); !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

// Stats are the counts so far.
func (f *Feed) Stats() Stats {
	s := &f.stats
	return Stats{s.frames.Load(), s.accepted.Load(), s.faulty.Load(), s.refused.Load(), s.unanswered.Load(), s.broken.Load(), s.connections.Load()}
}

// Run takes connections until ctx ends; then it finishes the messages in hand, answers them, and closes. A bad message or connection
// ends nothing but itself.
func (f *Feed) Run(ctx context.Context, door connector.Door) error {
	stop := context.AfterFunc(ctx, func() { _ = f.ln.Close() })
	defer stop()
	var open sync.WaitGroup
	defer open.Wait()
	slots := make(chan struct{}, f.o.MaxConns)
	for wait := 5 * time.Millisecond; ; {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return nil
		}
		conn, err := f.ln.Accept()
		if err != nil {
			<-slots
			if ctx.Err() != nil {
				return nil
			}
			if errors.Is(err, net.ErrClosed) {
				return fhir.Errorf(fhir.Exception, "the HL7 v2 listener was closed: %w", err).From(f.o.Source)
			}
			f.o.Logger.Warn("could not take an HL7 v2 connection; trying again", "source", f.o.Source, "err", err)
			select { // out of file descriptors, or a TLS handshake that failed: neither is a reason to end
			case <-time.After(wait):
			case <-ctx.Done():
			}
			wait = min(2*wait, time.Second)
			continue
		}
		wait = 5 * time.Millisecond
		open.Go(func() {
			defer func() { <-slots }()
			f.serve(ctx, conn, door)
		})
	}
}

// serve reads one connection, one message at a time: in order, each answered before the next is read.
func (f *Feed) serve(ctx context.Context, conn net.Conn, door connector.Door) {
	defer conn.Close()
	f.stats.connections.Add(1)
	defer f.stats.connections.Add(-1)
	past := time.Unix(1, 0)
	stop := context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(past) }) // wakes a reader; what is in hand goes on
	defer stop()
	log := f.o.Logger.With("source", f.o.Source, "peer", conn.RemoteAddr().String())
	r := bufio.NewReaderSize(conn, 64<<10)
	for ctx.Err() == nil {
		if f.waitFor(ctx, conn, r) != nil {
			return
		}
		frame, err := ReadFrame(r, f.o.MaxFrame)
		var fe *FrameError
		switch {
		case errors.As(err, &fe) && ctx.Err() == nil:
			f.stats.broken.Add(1)
			log.Warn("bytes that are no HL7 v2 frame were kept", "bytes", len(fe.Raw), "why", fe.Issue.Text)
			if f.broken(ctx, conn, door, fe) != nil || fe.Cause != nil {
				return
			}
		case err != nil:
			return
		default:
			f.stats.frames.Add(1)
			if err := f.take(ctx, conn, door, frame); err != nil {
				log.Warn("an HL7 v2 message was not acknowledged, so that it comes again; closing the connection", "err", err)
				return
			}
		}
	}
}

// waitFor waits for the first byte of a frame for as long as a connection may idle, then gives the frame its own time.
func (f *Feed) waitFor(ctx context.Context, conn net.Conn, r *bufio.Reader) error {
	if r.Buffered() == 0 {
		_ = conn.SetReadDeadline(time.Now().Add(f.o.IdleTimeout)) // of a connection that has ended, reading tells
		if ctx.Err() != nil {                                     // the deadline just set may have undone the one that ends the feed
			return ctx.Err()
		}
		for {
			b, err := r.Peek(1)
			if err != nil {
				return err
			}
			if b[0] != '\r' && b[0] != '\n' { // the tail of the last frame is not the head of the next
				break
			}
			_, _ = r.Discard(1)
		}
	}
	_ = conn.SetReadDeadline(time.Now().Add(f.o.FrameTimeout))
	return ctx.Err()
}

// broken keeps what was no whole frame, without an id: the message itself may yet come. It is answered where its header can still be read;
// an answer to nothing would be taken for the next message's.
func (f *Feed) broken(ctx context.Context, conn net.Conn, door connector.Door, fe *FrameError) error {
	m := header(fe.Raw)
	return f.answer(ctx, conn, door, m, []connector.Delivery{rejected(nil, fe.Raw, f.o, fe.Issue)}, m != nil && fe.Cause == nil)
}

// take handles one frame: nearly always one message; each message of a batch is answered by itself.
func (f *Feed) take(ctx context.Context, conn net.Conn, door connector.Door, frame []byte) error {
	n := 0
	for raw := range Split(frame) {
		n++
		m, made := read(raw, f.o)
		if err := f.answer(ctx, conn, door, m, made, true); err != nil {
			return err
		}
	}
	if n == 0 {
		issue := fhir.Errorf(fhir.Structure, "the frame is empty").At("MSH")
		return f.answer(ctx, conn, door, nil, []connector.Delivery{rejected(nil, bytes.Clone(frame), f.o, issue)}, true)
	}
	return nil
}

// answer hands the deliveries of one message to the door and, once all are durable, acknowledges the message. An error means that no
// acknowledgement was or may be given: reliability is in the sender's keeping until it has one.
func (f *Feed) answer(ctx context.Context, conn net.Conn, door connector.Door, m *Message, made []connector.Delivery, reply bool) error {
	work, cancel := f.inHand(ctx)
	defer cancel()
	now, w := f.o.Now(), wishes(m)
	var worst *fhir.Issue
	for _, d := range made {
		if d.Rejected != nil {
			worst = d.Rejected
		}
	}
	code, replies := f.replies(m, w, worst, now)
	for _, d := range made {
		d.Received = now
		d.Reply = joinReplies(replies)
		receipt, err := door.Accept(work, d)
		switch {
		case err != nil && (transient(err) || work.Err() != nil):
			f.stats.unanswered.Add(1)
			return err
		case err != nil:
			code, replies = f.replies(m, w, issueOf(err), now)
			if code == accepted { // an error is never answered as success
				code, replies = f.replies(m, w, fhir.Errorf(fhir.Processing, "the message could not be taken"), now)
			}
		case receipt.Duplicate && len(receipt.Reply) > 0:
			replies = splitReplies(receipt.Reply)
		}
	}
	switch code {
	case accepted:
		f.stats.accepted.Add(1)
	case faulty:
		f.stats.faulty.Add(1)
	case refused:
		f.stats.refused.Add(1)
	}
	if !reply {
		return nil
	}
	for _, a := range replies {
		if err := conn.SetWriteDeadline(time.Now().Add(f.o.FrameTimeout)); err != nil {
			return err
		}
		if err := WriteFrame(conn, a); err != nil {
			return err
		}
	}
	return nil
}

// inHand lets a message that is being taken when the feed stops be finished, within the grace.
func (f *Feed) inHand(ctx context.Context) (context.Context, context.CancelFunc) {
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		t := time.NewTimer(f.o.Grace)
		defer t.Stop()
		select {
		case <-t.C:
			cancel()
		case <-work.Done():
		}
	})
	return work, func() { stop(); cancel() }
}

func (f *Feed) replies(m *Message, w wish, issue *fhir.Issue, now time.Time) (ackCode, [][]byte) {
	code := codeFor(issue)
	var out [][]byte
	for _, c := range w.codes(code, f.o.AppAck) {
		out = append(out, acknowledge(m, c, issue, now))
	}
	return code, out
}

// Two acknowledgements to one message (enhanced mode, AppAck) are stored as one reply, with an FS between, which no message can hold.
func joinReplies(replies [][]byte) []byte { return bytes.Join(replies, []byte{endBlock}) }

func splitReplies(reply []byte) [][]byte { return bytes.Split(reply, []byte{endBlock}) }
