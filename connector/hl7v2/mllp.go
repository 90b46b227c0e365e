package hl7v2

import (
	"bufio"
	"bytes"
	"errors"
	"io"

	"tombolo/fhir"
)

// The signs of the minimal lower layer protocol. HL7 v2.4 implementation guide, appendix C.4
const (
	startBlock = 0x0b // VT
	endBlock   = 0x1c // FS
	cr         = 0x0d
)

// A FrameError says that what came was no whole frame. Raw is what came of it, to be kept. Reading may go on with the next frame,
// unless Cause says that the connection has ended.
type FrameError struct {
	Issue *fhir.Issue
	Raw   []byte
	Cause error
}

func (e *FrameError) Error() string { return e.Issue.Error() }

// Unwrap gives the issue and the cause.
func (e *FrameError) Unwrap() []error {
	if e.Cause == nil {
		return []error{e.Issue}
	}
	return []error{e.Issue, e.Cause}
}

// ReadFrame reads one frame, VT … FS CR, of at most limit bytes. Tolerated: line feeds and other CRs between frames, a doubled VT, a missing
// CR after FS. It gives io.EOF where the sender ended between frames, and a *FrameError for bytes outside a frame, a frame that ends
// early or is too long, or one with an FS in the middle; after each of these the next call goes on at the next frame.
func ReadFrame(r *bufio.Reader, limit int) ([]byte, error) {
	return new(manners).readFrame(r, limit, nil)
}

// manners are how a sender frames: what is tolerated is counted.
type manners struct {
	owesCR                              bool // the last frame's FS was the last byte to come, and its CR may follow
	missingCRs, looseEnds, doubledStart int64
}

// between takes note of bytes that stand between frames.
func (m *manners) between(loose []byte) {
	for _, c := range loose {
		if m.owesCR {
			m.owesCR = false
			if c == cr {
				continue
			}
			m.missingCRs++
		}
		m.looseEnds++
	}
}

// began takes note that a frame begins.
func (m *manners) began() {
	if m.owesCR {
		m.owesCR = false
		m.missingCRs++
	}
}

// readFrame is ReadFrame; large, if not nil, is called once before more of a frame is kept than is ordinary.
func (m *manners) readFrame(r *bufio.Reader, limit int, large func()) ([]byte, error) {
	if limit <= 0 {
		limit = MaxMessage
	}
	if err := m.toStart(r, limit); err != nil {
		return nil, err
	}
	f := framer{manners: m}
	for {
		chunk, err := available(r)
		if err != nil {
			return nil, f.broken(fhir.Structure, "the connection ended inside a frame, after %d bytes and before FS CR: nothing was taken, send it again", err)
		}
		n, done := f.scan(chunk)
		if len(f.buf)+n > limit {
			return nil, f.skip(r, limit)
		}
		if len(f.buf) <= ordinary && len(f.buf)+n > ordinary && large != nil {
			large()
			f.buf = append(make([]byte, 0, min(limit, MaxMessage)), f.buf...) // once, rather than by growing
		}
		f.buf = append(f.buf, chunk[:n]...)
		switch {
		case !done:
			_, _ = r.Discard(n)
		case chunk[n] == startBlock: // left unread: the next frame begins here
			_, _ = r.Discard(n)
			return nil, f.broken(fhir.Structure, "a new frame began before the last one ended, after %d bytes: FS CR is missing", nil)
		default:
			_, _ = r.Discard(n + 1)
			if f.wide && f.needsCR(r) {
				continue
			}
			return f.end(r)
		}
	}
}

// ordinary is the size that all but documents keep to.
const ordinary = 1 << 20

type framer struct {
	*manners
	buf  []byte
	wide bool // UTF-16, in which VT and FS may be half a letter
}

// scan finds how much of a chunk belongs to the frame, and whether a sign that ends it follows.
func (f *framer) scan(chunk []byte) (n int, done bool) {
	if len(f.buf) < 4 {
		f.wide = utf16Order(append(bytes.Clone(f.buf), chunk[:min(4, len(chunk))]...)) != nil
	}
	end := bytes.IndexByte(chunk, endBlock)
	if end < 0 {
		end = len(chunk)
	}
	if !f.wide {
		if vt := bytes.IndexByte(chunk[:end], startBlock); vt >= 0 {
			end = vt
		}
	}
	return end, end < len(chunk)
}

// needsCR: in UTF-16 only FS CR ends a frame. Any other FS was half a letter and is put back.
func (f *framer) needsCR(r *bufio.Reader) bool {
	next, err := r.Peek(1)
	if err == nil && next[0] != cr {
		f.buf = append(f.buf, endBlock)
		return true
	}
	return false
}

// end looks at what follows FS as far as it has come: CR, LF and VT are as they should be, anything else means that FS stood inside
// the text and that half a message must not pass for a whole one.
func (f *framer) end(r *bufio.Reader) ([]byte, error) {
	if f.owesCR = r.Buffered() == 0; !f.owesCR {
		next, _ := r.Peek(1)
		switch next[0] {
		case cr:
			_, _ = r.Discard(1)
		case '\n', startBlock, endBlock:
			f.missingCRs++
		default:
			return nil, f.broken(fhir.Structure, "an FS that no CR follows stands in the frame after %d bytes: it may only end one; send it as \\X1C\\", nil)
		}
	}
	return f.buf, nil
}

func (f *framer) broken(t fhir.IssueType, format string, cause error) error {
	return &FrameError{Issue: fhir.Errorf(t, format, len(f.buf)).At("MLLP"), Raw: f.buf, Cause: cause}
}

// keptOfRefused is how much is kept of bytes that are refused for being too many or no frame: enough to see whose they are and what they hold.
const keptOfRefused = 64 << 10

// skip reads past the rest of a frame that is too long, keeping no more than its head.
func (f *framer) skip(r *bufio.Reader, limit int) error {
	f.buf = bytes.Clone(f.buf[:min(len(f.buf), keptOfRefused)])
	fe := &FrameError{Issue: fhir.Errorf(fhir.TooLong, "the frame has more than the %d bytes this feed takes, and no more than its head was kept: send large documents by reference, or raise max-frame", limit).At("MLLP")}
	total := 0
	for {
		chunk, err := available(r)
		if err != nil {
			fe.Raw, fe.Cause = f.buf, err
			return fe
		}
		n, done := f.scan(chunk)
		if room := min(limit, keptOfRefused) - len(f.buf); room > 0 {
			f.buf = append(f.buf, chunk[:min(room, n)]...)
		}
		total += n
		_, _ = r.Discard(n)
		if done {
			if chunk[n] == endBlock {
				_, _ = r.Discard(1)
			}
			fe.Raw = f.buf
			return fe
		}
		if total > 64*limit { // an endless stream is no message
			fe.Raw, fe.Cause = f.buf, errors.New("the frame does not end")
			return fe
		}
	}
}

// toStart reads up to and past VT. CR, LF and FS between frames are left-overs of framing; anything else is kept and told of.
func (m *manners) toStart(r *bufio.Reader, limit int) error {
	var junk []byte // the head of what stands outside
	outside := 0
	fail := func(err error) error {
		return &FrameError{Issue: fhir.Errorf(fhir.Structure, "%d bytes came outside a frame: a message begins with VT (0x0B) and ends with FS CR (0x1C 0x0D)", outside).At("MLLP"), Raw: junk, Cause: err}
	}
	for {
		chunk, err := available(r)
		if err != nil {
			if len(junk) > 0 {
				return fail(err)
			}
			return err
		}
		n := bytes.IndexByte(chunk, startBlock)
		loose := chunk
		if n >= 0 {
			loose = chunk[:n]
		}
		if len(junk) > 0 || len(bytes.Trim(loose, "\r\n\x1c\x00")) > 0 {
			outside += len(loose)
			junk = append(junk, loose[:min(len(loose), keptOfRefused-len(junk))]...)
			m.owesCR = false
		} else {
			m.between(loose)
		}
		if n < 0 {
			_, _ = r.Discard(len(chunk))
			if outside > limit {
				return fail(errors.New("no frame begins"))
			}
			continue
		}
		if len(bytes.TrimSpace(junk)) > 0 {
			_, _ = r.Discard(n) // VT stays for the next call
			return fail(nil)
		}
		_, _ = r.Discard(n + 1)
		m.began()
		return m.pastVTs(r)
	}
}

// pastVTs passes over a doubled VT.
func (m *manners) pastVTs(r *bufio.Reader) error {
	for {
		next, err := r.Peek(1)
		if err != nil || next[0] != startBlock {
			return nil // an error shows again when the frame is read
		}
		m.doubledStart++
		_, _ = r.Discard(1)
	}
}

// available waits for at least one byte and gives all that has come.
func available(r *bufio.Reader) ([]byte, error) {
	if _, err := r.Peek(1); err != nil {
		return nil, err
	}
	return r.Peek(r.Buffered())
}

// WriteFrame writes one frame in one Write. A message that holds a framing sign is refused: it would end the frame early.
func WriteFrame(w io.Writer, msg []byte) error {
	if utf16Order(msg) == nil && bytes.ContainsAny(msg, "\x0b\x1c") {
		return fhir.Errorf(fhir.Structure, "the message holds VT or FS, which MLLP frames end with: escape them as \\X0B\\ and \\X1C\\").At("MLLP")
	}
	frame := make([]byte, 0, len(msg)+3)
	frame = append(frame, startBlock)
	frame = append(frame, msg...)
	frame = append(frame, endBlock, cr)
	_, err := w.Write(frame)
	return err
}
