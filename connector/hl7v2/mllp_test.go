package hl7v2

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"golang.org/x/text/encoding/unicode"

	"tombolo/fhir"
)

// frames reads everything: "text" for a frame, "!text" for bytes that were kept as none, "!!" if that ended the connection.
func frames(t *testing.T, r io.Reader, limit int) []string {
	t.Helper()
	b := bufio.NewReaderSize(r, 16)
	var out []string
	for range 100 {
		f, err := ReadFrame(b, limit)
		var fe *FrameError
		switch {
		case err == nil:
			out = append(out, string(f))
		case errors.As(err, &fe):
			if fe.Issue.Text == "" || len(fe.Raw) > max(limit, 64) {
				t.Errorf("a broken frame of %d bytes gives %v", len(fe.Raw), fe.Issue)
			}
			mark := "!"
			if fe.Cause != nil {
				mark = "!!"
			}
			out = append(out, mark+string(fe.Raw))
		case err == io.EOF:
			return out
		default:
			t.Fatalf("ReadFrame: %v", err)
		}
	}
	t.Fatal("reading does not end")
	return nil
}

func TestFramesAreReadAsTheFieldSendsThem(t *testing.T) {
	long := strings.Repeat("long ", 20)
	for _, c := range []struct {
		what, wire, want string
	}{
		{"as the standard has it", "\x0bone\r\x1c\r\x0btwo\r\x1c\r", "one\r,two\r"},
		{"LF after CR", "\x0bone\x1c\r\n\x0btwo\x1c\r\n", "one,two"},
		{"no CR after FS", "\x0bone\x1c\x0btwo\x1c", "one,two"},
		{"LF for CR", "\x0bone\x1c\n\x0btwo\x1c\n", "one,two"},
		{"doubled VT", "\x0b\x0bone\x1c\r", "one"},
		{"doubled FS", "\x0bone\x1c\x1c\r\x0btwo\x1c\r", "one,two"},
		{"nothing", "", ""},
		{"only line ends", "\r\n\r\n", ""},
		{"an empty frame", "\x0b\x1c\r\x0bone\x1c\r", ",one"},
		{"bytes before a frame", "GET / HTTP/1.1\r\n\x0bone\x1c\r", "!GET / HTTP/1.1\r\n,one"},
		{"no frame at all", "MSH|^~\\&|\r", "!!MSH|^~\\&|\r"},
		{"cut off", "\x0bone\x1c\r\x0btw", "one,!!tw"},
		{"a new frame before the end", "\x0bone\r\x0btwo\x1c\r", "!one\r,two"},
		{"too long, and the next", "\x0b" + long + "\x1c\r\x0btwo\x1c\r", "!" + long[:64] + ",two"},
		{"too long and cut off", "\x0b" + long, "!!" + long[:64]},
	} {
		for how, r := range map[string]io.Reader{"at once": strings.NewReader(c.wire), "a byte at a time": iotest.OneByteReader(strings.NewReader(c.wire))} {
			if got := strings.Join(frames(t, r, 64), ","); got != c.want {
				t.Errorf("%s, %s: read %q, want %q", c.what, how, got, c.want)
			}
		}
	}
}

func TestHalfAMessageDoesNotPassForAWholeOne(t *testing.T) {
	if got := frames(t, strings.NewReader("\x0bone \x1c two\x1c\r\x0bthree\x1c\r"), 64); got[0] != "!one " || got[len(got)-1] != "three" {
		t.Errorf("an FS inside the text: read %q", got)
	}
}

func TestUTF16FramesEndAtFSCROnly(t *testing.T) {
	// U+1C41 holds the byte FS and U+0B95 the byte VT.
	text, _ := unicode.UTF16(unicode.LittleEndian, unicode.UseBOM).NewEncoder().String("MSH|^~\\&|\u1c41\u0b95|")
	for how, r := range map[string]io.Reader{"at once": strings.NewReader("\x0b" + text + "\x1c\r"), "a byte at a time": iotest.OneByteReader(strings.NewReader("\x0b" + text + "\x1c\r"))} {
		if got := frames(t, r, 64); len(got) != 1 || got[0] != text {
			t.Errorf("%s: read %q, want %q", how, got, text)
		}
	}
}

// endless is a frame that never ends.
type endless struct{ sent int }

func (e *endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'x'
	}
	if e.sent == 0 {
		p[0] = startBlock
	}
	e.sent += len(p)
	return len(p), nil
}

func TestAnEndlessFrameIsGivenUp(t *testing.T) {
	e := &endless{}
	_, err := ReadFrame(bufio.NewReader(e), 1000)
	var fe *FrameError
	if !errors.As(err, &fe) || fe.Issue.Type != fhir.TooLong || fe.Cause == nil || len(fe.Raw) > 1000 || e.sent > 200_000 {
		t.Errorf("after %d bytes: %v", e.sent, err)
	}
}

func TestAFrameThatWouldEndEarlyIsNotWritten(t *testing.T) {
	var b bytes.Buffer
	if err := WriteFrame(&b, []byte("MSH|\x1c\r")); err == nil || b.Len() > 0 {
		t.Errorf("written: %q, %v", b.Bytes(), err)
	}
	if err := WriteFrame(&b, []byte("MSH|x\r")); err != nil || b.String() != "\x0bMSH|x\r\x1c\r" {
		t.Errorf("written: %q, %v", b.Bytes(), err)
	}
}

func FuzzReadFrame(f *testing.F) {
	f.Add([]byte("\x0bone\r\x1c\r\x0b\x0btwo\x1c\n"))
	f.Add([]byte("junk\x0bone\x1ctwo\x1c\r"))
	f.Add([]byte("\x0b\xff\xfeM\x00\x1c\x41\x1c\r"))
	f.Fuzz(func(t *testing.T, data []byte) {
		r := bufio.NewReaderSize(bytes.NewReader(data), 16)
		kept := 0
		for n := 0; ; n++ {
			frame, err := ReadFrame(r, 256)
			var fe *FrameError
			if errors.As(err, &fe) {
				frame = fe.Raw
			} else if err != nil {
				break
			}
			if kept += len(frame); len(frame) > 256+16 || n > len(data) || kept > len(data) {
				t.Fatalf("frame %d has %d bytes of %d", n, len(frame), len(data))
			}
		}
	})
}
