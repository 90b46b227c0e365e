package extract

import (
	"bytes"
	"io"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/unicode"

	"tombolo/fhir"
)

// An Encoding is how a file's bytes are letters, as the mapping file writes it.
type Encoding string

// The encodings. Auto looks for a byte order mark, and then at the first row with a letter beyond ASCII.
const (
	Auto        Encoding = "auto"
	UTF8        Encoding = "utf-8"
	UTF16       Encoding = "utf-16"
	Windows1252 Encoding = "windows-1252"
)

var (
	bomUTF8    = []byte("\xef\xbb\xbf")
	bomUTF16LE = []byte("\xff\xfe")
	bomUTF16BE = []byte("\xfe\xff")
)

// A decoder turns rows into UTF-8 and settles on one encoding for the whole file: one that changes midway would turn £ into Â£
// without anybody noticing, so the row that does not fit is refused instead.
type decoder struct {
	encoding Encoding // Auto until a row decided
	fixed    bool     // the mapping says so
	utf16    encoding.Encoding
	bom      []byte
}

// open looks at the first bytes of the file and gives the reader from which rows can be cut: a UTF-16 file comes as UTF-8.
func (d *decoder) open(s *scanner, want Encoding) *scanner {
	d.encoding, d.fixed = want, want != Auto
	head := s.peek(3)
	switch {
	case bytes.HasPrefix(head, bomUTF8) && want != UTF16:
		d.encoding, d.bom = UTF8, bomUTF8
		s.skip(len(bomUTF8))
	case bytes.HasPrefix(head, bomUTF16LE) || bytes.HasPrefix(head, bomUTF16BE) || want == UTF16:
		d.encoding, d.utf16 = UTF16, unicode.UTF16(unicode.LittleEndian, unicode.IgnoreBOM)
		switch {
		case bytes.HasPrefix(head, bomUTF16BE):
			d.utf16, d.bom = unicode.UTF16(unicode.BigEndian, unicode.IgnoreBOM), bomUTF16BE
		case bytes.HasPrefix(head, bomUTF16LE):
			d.bom = bomUTF16LE
		}
		s.skip(len(d.bom))
		rest := io.MultiReader(bytes.NewReader(bytes.Clone(s.buf[s.start:s.end])), s.src)
		if s.eof {
			rest = bytes.NewReader(bytes.Clone(s.buf[s.start:s.end]))
		}
		return newScanner(d.utf16.NewDecoder().Reader(rest))
	}
	return s
}

// row gives the row's bytes as UTF-8, or says why they are not letters. What it returns may be raw itself.
func (d *decoder) check(raw []byte) *fhir.Issue {
	if ascii(raw) {
		return nil
	}
	valid := utf8.Valid(raw)
	switch d.encoding {
	case Auto:
		d.encoding = Windows1252
		if valid {
			d.encoding = UTF8
		}
	case UTF8:
		if !valid {
			return fhir.Errorf(fhir.Structure, "the row has bytes that are not UTF-8, which the file is otherwise; if the file is Windows-1252, say \"encoding: windows-1252\" in the mapping")
		}
	case Windows1252:
		if valid && !d.fixed {
			return fhir.Errorf(fhir.Structure, "the row is written in UTF-8 and an earlier one in Windows-1252; say \"encoding:\" in the mapping")
		}
	case UTF16:
		if bytes.Contains(raw, []byte("\uFFFD")) {
			return fhir.Errorf(fhir.Structure, "the row has half a UTF-16 character")
		}
	}
	return nil
}

func ascii(b []byte) bool {
	for _, c := range b {
		if c >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// text is a cell's bytes as a string, doubled quotes made single.
func (d *decoder) text(b []byte, escaped bool) string {
	var s string
	if d.encoding == Windows1252 && !ascii(b) {
		out, _ := charmap.Windows1252.NewDecoder().Bytes(b) // every byte has a meaning; the five unassigned become controls
		s = string(out)
	} else {
		s = string(b)
	}
	if escaped {
		s = strings.ReplaceAll(s, `""`, `"`)
	}
	return s
}

// arrived gives the header and a row as they came over the wire, a file of one row: those of a UTF-16 file were recoded to be cut.
func (d *decoder) arrived(header, row []byte) []byte {
	out := make([]byte, 0, len(d.bom)+len(header)+len(row))
	if d.utf16 == nil {
		return append(append(append(out, d.bom...), header...), row...)
	}
	both, err := d.utf16.NewEncoder().Bytes(append(append(out, header...), row...))
	if err != nil {
		return append(append(out[:0], header...), row...)
	}
	return append(bytes.Clone(d.bom), both...)
}

// contentType is the media type of a row's bytes.
func (d *decoder) contentType() string {
	if d.encoding == Auto {
		return "text/csv; charset=us-ascii"
	}
	return "text/csv; charset=" + string(d.encoding)
}
