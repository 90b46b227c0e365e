package hl7v2

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"tombolo/connector"
	"tombolo/fhir"
)

// A Feed receives one system's messages over MLLP. It is a connector.Runner.
type Feed struct {
	o       Options
	given   Options                 // before defaults
	reads   atomic.Pointer[Options] // what messages are read by now: o with the dialect as it is
	dialect dialectFile             // keepUp's own
	ln      net.Listener            // nil: it connects
	dial    func(context.Context) (net.Conn, error)
	stats   struct {
		frames, accepted, faulty, refused, unanswered, broken, connections, repeated, reused, queries, turnedAway, gone, missingCR, looseEnds, doubledStart atomic.Int64
	}
}

var _ connector.Runner = (*Feed)(nil)

// Stats count what a feed has done since it began.
type Stats struct {
	Frames      int64 // frames that came whole
	Accepted    int64 // messages answered AA or CA
	Faulty      int64 // messages with a fault in them, answered so, and kept
	Refused     int64 // messages not for this feed, answered so, and kept
	Unanswered  int64 // not taken, because this side failed: the sender sends again
	Broken      int64 // bytes that were no whole frame, and were kept
	Connections int64 // open now

	Repeated   int64 // messages that had been taken before, answered as then
	Reused     int64 // messages under the id of another one: taken, and a sign that the sender resets its counter
	Queries    int64 // patient demographics queries, answered or not
	TurnedAway int64 // connections closed because the other end did not show the certificate it must
	Gone       int64 // senders who hung up before their message could be answered: they send it again

	// What is tolerated in framing: FS without CR, line ends between frames, and a doubled VT.
	MissingCR, LooseEnds, DoubledStart int64
}

// New makes a feed. It listens at once, so that a wrong address is told before anything runs, and so that Addr is known.
func New(o Options) (*Feed, error) {
	f := &Feed{o: o.withDefaults(), given: o, ln: o.Listener}
	f.dialect = newDialect(f.o)
	f.reads.Store(&f.o)
	if o.Source == "" {
		return nil, fhir.Errorf(fhir.Required, "an HL7 v2 feed needs the id of its system").At("systems.id")
	}
	if f.ln != nil {
		return f, nil
	}
	err := o.Wire.check(o.Listen)
	switch {
	case err != nil:
	case o.Wire.Address != "":
		f.dial, err = f.o.Wire.dialler(f.o.Logger)
	default:
		f.ln, err = f.o.Wire.listen(o.Listen, f.o.Logger)
	}
	if err != nil {
		return nil, issueOf(err).From(o.Source)
	}
	return f, nil
}

// Addr is where the feed listens; nil if it connects.
func (f *Feed) Addr() net.Addr {
	if f.ln == nil {
		return nil
	}
	return f.ln.Addr()
}

// Close undoes New, for a feed that never ran; Run closes what it ran on.
func (f *Feed) Close() error {
	if f.ln == nil {
		return nil
	}
	if err := f.ln.Close(); !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

// Stats are the counts so far.
func (f *Feed) Stats() Stats {
	s := &f.stats
	return Stats{Frames: s.frames.Load(), Accepted: s.accepted.Load(), Faulty: s.faulty.Load(), Refused: s.refused.Load(), Unanswered: s.unanswered.Load(),
		Broken: s.broken.Load(), Connections: s.connections.Load(), Repeated: s.repeated.Load(), Reused: s.reused.Load(), Queries: s.queries.Load(),
		TurnedAway: s.turnedAway.Load(), Gone: s.gone.Load(), MissingCR: s.missingCR.Load(), LooseEnds: s.looseEnds.Load(), DoubledStart: s.doubledStart.Load()}
}

// Run takes connections until ctx ends; then it finishes the messages in hand, answers them, and closes. A bad message or connection
// ends nothing but itself.
func (f *Feed) Run(ctx context.Context, door connector.Door) error {
	if f.dialect.file != "" {
		var watching sync.WaitGroup
		defer watching.Wait()
		watched, stop := context.WithCancel(ctx)
		defer stop()
		watching.Go(func() { f.keepUp(watched) })
	}
	if f.ln == nil {
		return f.connect(ctx, door)
	}
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

// connect keeps one connection to a system that serves its messages, and makes it again when it ends, with growing pauses.
func (f *Feed) connect(ctx context.Context, door connector.Door) error {
	const shortest, longest = 250 * time.Millisecond, 30 * time.Second
	for wait := shortest; ctx.Err() == nil; {
		began := f.o.Now()
		conn, err := f.dial(ctx)
		if err == nil {
			f.serve(ctx, conn, door)
		} else if ctx.Err() == nil {
			f.o.Logger.Warn("cannot connect to an HL7 v2 system; trying again", "source", f.o.Source, "after", wait, "err", err)
		}
		if f.o.Now().Sub(began) > longest {
			wait = shortest
		}
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-ctx.Done():
		}
		t.Stop()
		wait = min(2*wait, longest)
	}
	return nil
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
	if err := f.o.Wire.admit(ctx, conn, f.o.FrameTimeout); err != nil {
		f.stats.turnedAway.Add(1)
		log.Warn("an HL7 v2 connection was turned away", "err", err)
		return
	}
	l, m := &line{Conn: conn, r: bufio.NewReaderSize(conn, 64<<10)}, new(manners)
	var turn *connector.Turn // of a message that is larger than ordinary
	defer func() { turn.End() }()
	large := func() {
		var err error
		if turn, err = connector.Large.Take(ctx, 0); err == nil { // and then it has its own time
			_ = conn.SetReadDeadline(time.Now().Add(f.o.FrameTimeout))
		}
	}
	for ctx.Err() == nil {
		turn.End()
		if f.waitFor(ctx, conn, l.r, m) != nil {
			return
		}
		frame, err := m.readFrame(l.r, f.o.MaxFrame, large)
		f.note(m)
		var fe *FrameError
		switch {
		case errors.As(err, &fe) && ctx.Err() == nil:
			f.stats.broken.Add(1)
			log.Warn("bytes that are no HL7 v2 frame were kept", "bytes", len(fe.Raw), "why", fe.Issue.Text)
			if f.broken(ctx, l, door, fe) != nil || fe.Cause != nil {
				return
			}
		case err != nil:
			return
		default:
			f.stats.frames.Add(1)
			if err := f.take(ctx, l, door, frame); err != nil {
				log.Warn("an HL7 v2 message was not acknowledged, so that it comes again; closing the connection", "err", err)
				return
			}
		}
	}
}

// waitFor waits for the first byte of a frame for as long as a connection may idle, then gives the frame its own time.
func (f *Feed) waitFor(ctx context.Context, conn net.Conn, r *bufio.Reader, m *manners) error {
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
			m.between(b)
			_, _ = r.Discard(1)
		}
	}
	_ = conn.SetReadDeadline(time.Now().Add(f.o.FrameTimeout))
	return ctx.Err()
}

// note moves a connection's counts to the feed's.
func (f *Feed) note(m *manners) {
	f.stats.missingCR.Add(m.missingCRs)
	f.stats.looseEnds.Add(m.looseEnds)
	f.stats.doubledStart.Add(m.doubledStart)
	m.missingCRs, m.looseEnds, m.doubledStart = 0, 0, 0
}

// broken keeps what was no whole frame, without an id: the message itself may yet come. It is answered where its header can still be read;
// an answer to nothing would be taken for the next message's.
func (f *Feed) broken(ctx context.Context, conn *line, door connector.Door, fe *FrameError) error {
	m := header(fe.Raw)
	conn.see(f.o.Saw, fe.Raw)
	return f.answer(ctx, conn, door, m, []connector.Delivery{rejected(nil, fe.Raw, f.o, fe.Issue)}, m != nil && fe.Cause == nil)
}

// take handles one frame: nearly always one message; each message of a batch is answered by itself.
func (f *Feed) take(ctx context.Context, conn *line, door connector.Door, frame []byte) error {
	n := 0
	o := f.reads.Load()
	conn.see(f.o.Saw, frame)
	for raw := range Split(frame) {
		n++
		m, made := read(raw, *o)
		switch {
		case !f.o.Wire.mayHaveSent(m):
			f.o.Logger.Warn("an HL7 v2 message in another sender's name than this feed's was refused", "source", f.o.Source, "peer", conn.RemoteAddr().String())
			made = []connector.Delivery{rejected(m, raw, f.o, notThisSenders())}
		case f.o.Directory != nil && m != nil && isQuery(m):
			reply, err := f.query(ctx, m)
			if err == nil {
				err = f.write(conn, reply)
			}
			if err != nil {
				return err
			}
			continue
		}
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
func (f *Feed) answer(ctx context.Context, conn *line, door connector.Door, m *Message, made []connector.Delivery, reply bool) error {
	work, cancel := f.inHand(ctx)
	defer cancel()
	hungUp := conn.watch(ctx, f.o.Patience, cancel)
	defer func() {
		if hungUp() {
			f.stats.gone.Add(1)
		}
	}()
	now, w := f.o.Now(), wishes(m)
	var worst *fhir.Issue
	for _, d := range made {
		if d.Rejected != nil {
			worst = d.Rejected
		}
	}
	code, replies := f.replies(m, w, worst, now, faultsTaken(made)...)
	for i, d := range made {
		made[i] = connector.Delivery{} // what is made of a large document is let go as soon as it is stored
		d.Received = now
		d.Reply = joinReplies(replies)
		receipt, err := door.Accept(work, d)
		switch {
		case err != nil && (transient(err) || work.Err() != nil):
			f.stats.unanswered.Add(1)
			return f.fail(conn, m, reply, err)
		case err != nil:
			code, replies = f.replies(m, w, issueOf(err), now)
			if code == accepted { // an error is never answered as success
				code, replies = f.replies(m, w, fhir.Errorf(fhir.Processing, "the message could not be taken"), now)
			}
		case receipt.Duplicate && len(receipt.Reply) > 0:
			replies = splitReplies(receipt.Reply)
		}
		if receipt.Duplicate {
			f.stats.repeated.Add(1)
		}
		if receipt.Reused {
			f.stats.reused.Add(1)
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
		if err := f.write(conn, a); err != nil {
			return err
		}
	}
	return nil
}

func (f *Feed) write(conn net.Conn, msg []byte) error {
	if err := conn.SetWriteDeadline(time.Now().Add(f.o.FrameTimeout)); err != nil {
		return err
	}
	if l, ok := conn.(*line); ok && l.saw != nil {
		l.saw(msg)
	}
	return WriteFrame(conn, msg)
}

// fail gives no answer to what could not be taken, so that it comes again; or the one that this feed's sender takes for "again later".
func (f *Feed) fail(conn net.Conn, m *Message, reply bool, err error) error {
	if f.o.FailureAck == "" || m == nil || !reply {
		return err
	}
	return f.write(conn, acknowledge(m, f.o.FailureAck, fhir.Errorf(fhir.Transient, "not taken: send it again later"), f.o.Now()))
}

// A line is a connection with what has been read ahead of it.
type line struct {
	net.Conn
	r   *bufio.Reader
	saw func(answered []byte) // to the frame in hand; nil: nobody is told
}

// see tells of a frame, and has its answers told of.
func (l *line) see(saw func([]byte) func([]byte), frame []byte) {
	if saw != nil {
		l.saw = saw(frame)
	}
}

// watch lets go of a message whose sender has hung up while it waits to be taken: what is not acknowledged comes again, and nobody is left to hold
// the connection's place for. It looks after patience, and listens for the end only; what the sender sends meanwhile is left to be read. The
// function returned ends the watch, and says whether the sender has gone.
func (l *line) watch(ctx context.Context, patience time.Duration, gone context.CancelFunc) (stop func() bool) {
	var hungUp bool
	done := make(chan struct{})
	t := time.AfterFunc(patience, func() {
		defer close(done)
		for l.r.Buffered() < l.r.Size() {
			_ = l.SetReadDeadline(time.Time{})
			if ctx.Err() != nil { // the feed is stopping, and gives what is in hand its grace
				return
			}
			if _, err := l.r.Peek(l.r.Buffered() + 1); errors.Is(err, os.ErrDeadlineExceeded) {
				return
			} else if err != nil {
				hungUp = true
				gone()
				return
			}
		}
	})
	return func() bool {
		if t.Stop() {
			return false
		}
		for ended := false; !ended; { // the watch may be about to lift the deadline that ends it
			_ = l.SetReadDeadline(time.Unix(1, 0))
			select {
			case <-done:
				ended = true
			case <-time.After(time.Millisecond):
			}
		}
		return hungUp
	}
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

func (f *Feed) replies(m *Message, w wish, issue *fhir.Issue, now time.Time, notes ...*fhir.Issue) (ackCode, [][]byte) {
	code := codeFor(issue)
	var out [][]byte
	said := code
	switch { // in the words that this feed's sender understands
	case code == faulty && f.o.FaultAck != "":
		said = ackCode(f.o.FaultAck[1:])
	case code == refused && f.o.RefusalAck != "":
		said = ackCode(f.o.RefusalAck[1:])
	}
	for _, c := range w.codes(said, f.o.AppAck) {
		out = append(out, acknowledge(m, c, issue, now, notes...))
	}
	return code, out
}

// Two acknowledgements to one message (enhanced mode, AppAck) are stored as one reply, with an FS between, which no message can hold.
func joinReplies(replies [][]byte) []byte { return bytes.Join(replies, []byte{endBlock}) }

func splitReplies(reply []byte) [][]byte { return bytes.Split(reply, []byte{endBlock}) }
