package extract

import (
	"bytes"
	"errors"
	"io"

	"tombolo/fhir"
)

// Limits on what one file may make this program hold at a time. A FHIR string is at most 1 MB (FHIR R4 datatypes.html#string), so
// a longer cell could not be kept anyway.
const (
	maxCell   = 1 << 20
	maxRow    = 4 << 20
	maxQuoted = 64 << 10 // how much of a row that could not be read is kept in quarantine
	maxCells  = 4096
	// maxWasted is how many bytes may be read in vain behind quotes that turn out not to close, before newlines inside quotes
	// are no longer believed in this file; without it a hostile file would be read again from each of its lines.
	maxWasted = 64 << 20
)

// A span is a cell's place within its row's bytes, without its quotes.
type span struct {
	start, end int
	escaped    bool // holds doubled quotes
}

// A row is one record of the file. Its bytes are good until the next is read.
type row struct {
	number int    // as a spreadsheet counts: the header is row 1
	raw    []byte // as it arrived, line end included
	spans  []span
	bad    *fhir.Issue // the row cannot be read; raw is what of it is worth keeping
	last   bool        // nothing follows, and no line end closed it
}

// A scanner cuts a stream into rows (RFC 4180, and what is really sent: any line end, text after a stray quote, ragged rows). It
// never holds more than maxRow and finds its footing again after a row it cannot read.
type scanner struct {
	src        io.Reader
	buf        []byte
	start, end int // the unread part of buf
	eof        bool
	err        error // of src, other than EOF
	delimiter  byte
	number     int
	wasted     int
	row        row
}

func newScanner(src io.Reader) *scanner {
	return &scanner{src: src, buf: make([]byte, 64<<10)}
}

// fill reads more, at least as much again as there is (so that looking at a long row anew each time costs little), making room
// where needed. It reports whether there is more than before.
func (s *scanner) fill() bool {
	if s.eof || s.err != nil {
		return false
	}
	if s.start > 0 {
		copy(s.buf, s.buf[s.start:s.end])
		s.end -= s.start
		s.start = 0
	}
	if s.end == len(s.buf) {
		if len(s.buf) >= maxRow {
			return false
		}
		s.buf = append(s.buf, make([]byte, len(s.buf))...)
	}
	n, err := io.ReadAtLeast(s.src, s.buf[s.end:], min(len(s.buf)-s.end, max(s.end, 4096)))
	s.end += n
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		s.eof = true
	case err != nil:
		s.err = err
	}
	return n > 0
}

// peek is up to n of the bytes to come, without taking them.
func (s *scanner) peek(n int) []byte {
	for s.end-s.start < n && s.fill() {
	}
	return s.buf[s.start:min(s.end, s.start+n)]
}

func (s *scanner) skip(n int) { s.start += n }

// next reads the next row that is not blank; io.EOF after the last. Any other error is the stream's.
func (s *scanner) next() (*row, error) {
	for {
		window := s.buf[s.start:s.end]
		if len(window) == 0 {
			if s.fill() {
				continue
			}
			if s.err != nil {
				return nil, s.err
			}
			return nil, io.EOF
		}
		believed, end := window, s.eof
		if s.wasted > maxWasted {
			if n := lineEnd(window); n < len(window) || s.eof {
				believed, end = window[:n], true
			}
		}
		spans, n, state := cut(believed, s.delimiter, end, s.row.spans[:0])
		s.row.spans = spans
		switch state {
		case cutMore:
			if len(believed) < len(window) {
				return s.reject(window, n, "a quotation mark opens here and does not close on the same line (this file has too many of those to believe them)"), nil
			}
			if s.fill() {
				continue
			}
			if s.err != nil {
				return nil, s.err
			}
			if s.eof { // only a quote that never closes asks for more at the end
				return s.reject(window, len(window), "a quotation mark opens here and never closes"), nil
			}
			return s.tooLong(window)
		case cutBadQuote:
			return s.reject(window, n, "text follows a closing quotation mark: quotation marks inside a cell must be doubled"), nil
		}
		s.start += n
		s.number++
		if blank(window[:n]) {
			continue
		}
		s.row.number, s.row.raw, s.row.bad = s.number, window[:n], nil
		s.row.last = s.eof && s.start == s.end && window[n-1] != '\n' && window[n-1] != '\r'
		if s.longest() > maxCell {
			s.row.bad = fhir.Errorf(fhir.TooLong, "a cell is larger than %d bytes", maxCell)
			s.row.raw = window[:min(n, maxQuoted)]
		}
		return &s.row, nil
	}
}

func (s *scanner) longest() int {
	n := 0
	for _, c := range s.row.spans {
		n = max(n, c.end-c.start)
	}
	return n
}

// reject gives up on the first line of the window, after seen bytes were looked at, and stands after that line.
func (s *scanner) reject(window []byte, seen int, why string) *row {
	n := lineEnd(window)
	s.wasted += max(0, seen-n)
	s.start += n
	s.number++
	s.row = row{number: s.number, raw: window[:min(n, maxQuoted)], bad: fhir.Errorf(fhir.Structure, "%s", why), spans: s.row.spans[:0]}
	if s.eof && s.start == s.end {
		s.row.last = window[n-1] != '\n' && window[n-1] != '\r'
	}
	return &s.row
}

// tooLong deals with a row of which maxRow bytes did not show the end: a quote that never closes, or one endless line.
func (s *scanner) tooLong(window []byte) (*row, error) {
	if n := lineEnd(window); n < len(window) {
		return s.reject(window, len(window), "a quotation mark opens here and does not close within 4 MiB"), nil
	}
	kept := bytes.Clone(window[:maxQuoted])
	for s.start = s.end; ; s.start = s.end { // pass over the rest of the line
		if !s.fill() {
			break
		}
		if n := bytes.IndexAny(s.buf[s.start:s.end], "\r\n"); n >= 0 {
			s.start += n
			s.start += lineEnd(s.buf[s.start:s.end])
			break
		}
	}
	s.number++
	s.row = row{number: s.number, raw: kept, bad: fhir.Errorf(fhir.TooLong, "the row is longer than %d bytes", maxRow)}
	return &s.row, nil
}

// lineEnd is the length of the first line of b, line end included.
func lineEnd(b []byte) int {
	for i, c := range b {
		if c == '\n' {
			return i + 1
		}
		if c == '\r' {
			if i+1 < len(b) && b[i+1] == '\n' {
				return i + 2
			}
			return i + 1
		}
	}
	return len(b)
}

func blank(b []byte) bool { return len(bytes.Trim(b, " \t\r\n")) == 0 }

type cutState int

const (
	cutWhole cutState = iota
	cutMore
	cutBadQuote
)

// cut finds the first row of b: its cells and its length. A quote opens a quoted cell only as the cell's first byte; elsewhere (6'2",
// 5" nail) it is a character.
func cut(b []byte, delimiter byte, eof bool, spans []span) ([]span, int, cutState) {
	i := 0
	for {
		cell := span{start: i}
		if i < len(b) && b[i] == '"' {
			i++
			cell.start = i
			for {
				q := bytes.IndexByte(b[i:], '"')
				if q < 0 {
					return spans, 0, cutMore
				}
				i += q
				if i+1 == len(b) && !eof {
					return spans, 0, cutMore // a doubled quote may be cut in half here
				}
				if i+1 < len(b) && b[i+1] == '"' {
					cell.escaped = true
					i += 2
					continue
				}
				break
			}
			cell.end = i
			i++
			if i < len(b) && b[i] != delimiter && b[i] != '\n' && b[i] != '\r' {
				return spans, i, cutBadQuote
			}
		} else {
			for i < len(b) && b[i] != delimiter && b[i] != '\n' && b[i] != '\r' {
				i++
			}
			cell.end = i
		}
		if len(spans) <= maxCells { // one more than allowed tells that there are too many
			spans = append(spans, cell)
		}
		if i == len(b) {
			if eof {
				return spans, i, cutWhole
			}
			return spans, 0, cutMore
		}
		switch b[i] {
		case delimiter:
			i++
			continue
		case '\r':
			if i+1 == len(b) && !eof {
				return spans, 0, cutMore
			}
			if i+1 < len(b) && b[i+1] == '\n' {
				i++
			}
		}
		return spans, i + 1, cutWhole
	}
}
