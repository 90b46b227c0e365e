package fhirapi

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"os"

	"tombolo/fhir"
)

// maxSpool bounds what a file may come to when it is decompressed, so that a small gzip cannot fill the disk.
const maxSpool = 8 << 30

// A spool is a file that can be read at any place, twice.
type spool struct {
	io.ReaderAt
	size  int64
	close func()
}

// newSpool makes the input readable at any place: as it is, if it is a plain file or bytes already; else (a pipe, an upload, a .gz) through
// an unnamed temporary file. A gzip that is broken in its middle gives what came before, and the error.
func newSpool(r io.Reader) (*spool, error) {
	br := bufio.NewReaderSize(r, 64<<10)
	magic, _ := br.Peek(2)
	if len(magic) == 0 {
		return nil, fhir.Errorf(fhir.Structure, "the file is empty")
	}
	zipped := bytes.Equal(magic, []byte{0x1f, 0x8b}) // RFC 1952 §2.3.1
	if s, ok := direct(r); ok && !zipped {
		return s, nil
	}
	f, err := os.CreateTemp("", "tombolo-import-*")
	if err != nil {
		return nil, fhir.Errorf(fhir.NoStore, "no temporary file could be made: %w", err)
	}
	_ = os.Remove(f.Name()) // it lives only as long as it is open
	s := &spool{ReaderAt: f, close: func() { _ = f.Close(); _ = os.Remove(f.Name()) }}
	var in io.Reader = br
	if zipped {
		z, err := gzip.NewReader(br)
		if err != nil {
			s.close()
			return nil, fhir.Errorf(fhir.Structure, "the file begins like gzip and is not: send it again")
		}
		in = z
	}
	s.size, err = io.Copy(f, io.LimitReader(in, maxSpool+1))
	switch {
	case err == nil && s.size <= maxSpool:
		return s, nil
	case err == nil:
		err = fhir.Errorf(fhir.TooLong, "the file comes to more than %d GiB: cut it into parts", maxSpool>>30)
	case errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, gzip.ErrChecksum) || errors.Is(err, gzip.ErrHeader):
		err = fhir.Errorf(fhir.Structure, "the compressed file is cut off or damaged; what could be read of it was taken. Send it again")
	default:
		err = fhir.Errorf(fhir.Transient, "the file could not be read to its end: %w", err)
	}
	return s, err
}

// direct uses an input that can be read at any place already. bufio has read ahead of it, which ReadAt does not mind.
func direct(r io.Reader) (*spool, bool) {
	switch f := r.(type) {
	case *os.File:
		if st, err := f.Stat(); err == nil && st.Mode().IsRegular() {
			return &spool{ReaderAt: f, size: st.Size(), close: func() {}}, true
		}
	case *bytes.Reader:
		return &spool{ReaderAt: f, size: f.Size(), close: func() {}}, true
	}
	return nil, false
}

// A span is where one entry or line stands.
type span struct{ start, end int64 }

// A scanner finds the entries of a Bundle without holding them: it knows strings and brackets and nothing else, in constant memory, so
// that one entry that is wrong inside does not hide the rest.
type scanner struct {
	r   *bufio.Reader
	at  int64
	key []byte
}

// head is the small members of a Bundle.
type head map[string][]byte

var errEnds = fhir.Errorf(fhir.Structure, "the file ends too early: was it cut off? What came before was taken")

func (s *scanner) next() (byte, error) {
	b, err := s.r.ReadByte()
	if err != nil {
		if err == io.EOF {
			err = errEnds
		}
		return 0, err
	}
	s.at++
	return b, nil
}

// peek is the next byte that is no white space, left unread.
func (s *scanner) peek() (byte, error) {
	for {
		b, err := s.next()
		if err != nil {
			return 0, err
		}
		if b != ' ' && b != '\n' && b != '\r' && b != '\t' {
			_ = s.r.UnreadByte()
			s.at--
			return b, nil
		}
	}
}

// str reads a string to its closing quote, keeping the first of it in key.
func (s *scanner) str() error {
	s.key = s.key[:0]
	for escaped := false; ; {
		b, err := s.next()
		if err != nil {
			return err
		}
		switch {
		case escaped:
			escaped = false
		case b == '\\':
			escaped = true
		case b == '"':
			return nil
		}
		if len(s.key) < 32 {
			s.key = append(s.key, b)
		}
	}
}

// skip reads one value to its end, keeping its first bytes if keep is not nil.
func (s *scanner) skip(keep *[]byte) error {
	depth, inString, escaped := 0, false, false
	for begun := false; ; begun = true {
		b, err := s.next()
		if err != nil {
			return err
		}
		if keep != nil && len(*keep) < 4096 {
			*keep = append(*keep, b)
		}
		switch {
		case escaped:
			escaped = false
		case inString && b == '\\':
			escaped = true
		case b == '"':
			inString = !inString
			if !inString && depth == 0 {
				return nil
			}
		case inString:
		case b == '{' || b == '[':
			depth++
		case b == '}' || b == ']' || b == ',':
			if depth == 0 { // the end of a number or literal is what follows it
				_ = s.r.UnreadByte()
				s.at--
				if keep != nil && len(*keep) > 0 && len(*keep) < 4096 {
					*keep = (*keep)[:len(*keep)-1]
				}
				if !begun {
					return fhir.Errorf(fhir.Structure, "not valid JSON: a value is missing at byte %d", s.at)
				}
				return nil
			}
			if b != ',' {
				if depth--; depth == 0 {
					return nil
				}
			}
		}
	}
}

// bundle walks a document that is an object, calling entry for each item of its entry array.
func (s *scanner) bundle(entry func(span) bool) (head, error) {
	h := head{}
	b, err := s.peek()
	if err != nil {
		return h, err
	}
	if b != '{' {
		return h, fhir.Errorf(fhir.Structure, "not a FHIR file: it should begin with { and be a Bundle, or be named .ndjson if it has one resource a line")
	}
	_, _ = s.next()
	for {
		b, err := s.peek()
		if err != nil {
			return h, err
		}
		_, _ = s.next()
		switch b {
		case '}':
			if b, err := s.peek(); err == nil {
				_ = b
				return h, fhir.Errorf(fhir.Structure, "something follows the end of the Bundle at byte %d: a file with one resource a line must be named .ndjson", s.at)
			}
			return h, nil
		case ',':
		case '"':
			if err := s.member(h, entry); err != nil {
				return h, err
			}
		default:
			return h, fhir.Errorf(fhir.Structure, "not valid JSON: a member name is missing at byte %d", s.at)
		}
	}
}

func (s *scanner) member(h head, entry func(span) bool) error {
	if err := s.str(); err != nil {
		return err
	}
	key := string(s.key)
	if b, err := s.peek(); err != nil {
		return err
	} else if b != ':' {
		return fhir.Errorf(fhir.Structure, "not valid JSON: ':' is missing at byte %d", s.at)
	}
	_, _ = s.next()
	b, err := s.peek()
	if err != nil {
		return err
	}
	if key == "entry" && b == '[' {
		return s.entries(entry)
	}
	var kept []byte
	err = s.skip(&kept)
	if len(kept) < 4096 && len(h) < 64 {
		h[key] = bytes.TrimSpace(kept)
	}
	return err
}

// errStop says that the caller wants no more.
var errStop = errors.New("stop")

func (s *scanner) entries(entry func(span) bool) error {
	_, _ = s.next() // the [
	for {
		b, err := s.peek()
		if err != nil {
			return err
		}
		switch b {
		case ']':
			_, _ = s.next()
			return nil
		case ',':
			_, _ = s.next()
		default:
			at := span{start: s.at}
			err := s.skip(nil)
			at.end = s.at
			if !entry(at) {
				return errStop
			}
			if err != nil {
				return err
			}
		}
	}
}

// lines calls entry for each line that is not blank, with its number.
func lines(r *bufio.Reader, entry func(s span, number int) bool) error {
	at := span{}
	for n := 1; ; n++ {
		blank := true
		for {
			part, err := r.ReadSlice('\n')
			at.end += int64(len(part))
			blank = blank && len(bytes.TrimSpace(part)) == 0
			if err == bufio.ErrBufferFull {
				continue
			}
			if !blank && !entry(at, n) {
				return errStop
			}
			if err != nil {
				if err == io.EOF {
					return nil
				}
				return fhir.Errorf(fhir.Transient, "the file could not be read to its end: %w", err)
			}
			break
		}
		at.start = at.end
	}
}
