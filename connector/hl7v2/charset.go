package hl7v2

import (
	"strings"
	"unicode/utf8"
	"unsafe"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/unicode"

	"tombolo/fhir"
)

// The character sets of MSH-18 (HL7 table 0211) and the spellings that systems really send.
var charsets = map[string]encoding.Encoding{
	// 8859-1 is read as its superset Windows-1252: nobody means the control characters that differ, and many send its quotes and euro.
	"8859/1": charmap.Windows1252, "WINDOWS-1252": charmap.Windows1252,
	"8859/2": charmap.ISO8859_2, "8859/3": charmap.ISO8859_3, "8859/4": charmap.ISO8859_4, "8859/5": charmap.ISO8859_5,
	"8859/6": charmap.ISO8859_6, "8859/7": charmap.ISO8859_7, "8859/8": charmap.ISO8859_8, "8859/9": charmap.ISO8859_9,
	"8859/15": charmap.ISO8859_15,
	"UTF-8":   encoding.Nop, "UNICODE": encoding.Nop, "ASCII": encoding.Nop,
	"UTF-16": unicode.UTF16(unicode.BigEndian, unicode.UseBOM),
}

// canonical gives a table 0211 name for what a sender wrote.
func canonical(name string) string {
	n := strings.ToUpper(strings.TrimSpace(name))
	n = strings.TrimPrefix(n, "UNICODE ")
	switch n {
	case "UTF8":
		return "UTF-8"
	case "UTF16", "UTF-16LE", "UTF-16BE":
		return "UTF-16"
	case "US-ASCII", "ISO IR6", "ISO_IR 6":
		return "ASCII"
	case "CP1252", "CP-1252", "WINDOWS1252", "ANSI":
		return "WINDOWS-1252"
	case "LATIN1", "LATIN-1", "ISO IR100":
		return "8859/1"
	}
	for _, p := range []string{"ISO-8859-", "ISO8859-", "ISO 8859-", "8859-", "ISO8859/", "ISO-8859/"} {
		if rest, ok := strings.CutPrefix(n, p); ok {
			return "8859/" + rest
		}
	}
	return n
}

// KnownCharset reports whether a name is one that MSH-18, or a feed's configuration, may use.
func KnownCharset(name string) bool { _, ok := charsets[canonical(name)]; return ok }

// decode gives a message's text as UTF-8. UTF-16 shows by its byte order mark or by every other byte being 0; anything else can be
// read far enough to see what MSH-18 says. HL7 v2.4 §2.16.9.18
func decode(data []byte, configured string, issues *[]*fhir.Issue) (text, charset string, err *fhir.Issue) {
	if enc := utf16Order(data); enc != nil {
		out, derr := enc.NewDecoder().Bytes(data)
		if derr != nil {
			return "", "", fhir.Errorf(fhir.Structure, "the message looks like UTF-16 and is not valid UTF-16").At("MSH-18")
		}
		return string(out), "UTF-8", nil // \X..\ sequences from such senders hold UTF-8
	}
	declared := declaredCharset(data)
	if isASCII(data) {
		if c := canonical(declared); charsets[c] != nil && c != "UTF-16" {
			return asText(data), c, nil
		}
		return asText(data), "UTF-8", nil
	}
	name := declared
	if name == "" {
		name = configured
	}
	c := canonical(name)
	enc, known := charsets[c]
	if !known && name != "" {
		return "", "", fhir.Errorf(fhir.CodeInvalid, "the character set is not one this program reads: use UNICODE UTF-8, 8859/1 or 8859/15").At("MSH-18")
	}
	if enc != encoding.Nop && enc != nil && c != "UTF-16" {
		out, _ := enc.NewDecoder().Bytes(data) // single-byte sets cannot fail
		return string(out), c, nil
	}
	// UTF-8, UNICODE (which in the UK nearly always is UTF-8 on the wire), ASCII with more than ASCII in it, or nothing said.
	if utf8.Valid(data) {
		return asText(data), "UTF-8", nil
	}
	if name != "" {
		*issues = append(*issues, &fhir.Issue{Type: fhir.CodeInvalid, Severity: fhir.Warning, Expression: "MSH-18",
			Text: "the message is not in the character set it declares; it was read as Windows-1252: have the sender declare 8859/1 or send UTF-8"})
	}
	out, _ := charmap.Windows1252.NewDecoder().Bytes(data)
	return string(out), "WINDOWS-1252", nil
}

// asText is a message's bytes as text. Of one that holds a document there is no second copy: nobody changes what has arrived.
func asText(data []byte) string {
	if len(data) > 1<<20 {
		return unsafe.String(&data[0], len(data))
	}
	return string(data)
}

func utf16Order(data []byte) encoding.Encoding {
	if len(data) < 4 {
		return nil
	}
	switch {
	case data[0] == 0xff && data[1] == 0xfe, data[0] == 'M' && data[1] == 0 && data[2] == 'S':
		return unicode.UTF16(unicode.LittleEndian, unicode.UseBOM)
	case data[0] == 0xfe && data[1] == 0xff, data[0] == 0 && data[1] == 'M' && data[2] == 0:
		return unicode.UTF16(unicode.BigEndian, unicode.UseBOM)
	}
	return nil
}

// declaredCharset finds MSH-18 in bytes whose character set is not yet known.
func declaredCharset(data []byte) string {
	i := 0
	for i < len(data) && (data[i] <= ' ' || data[i] >= 0x80) { // blanks, a stray VT, a byte order mark
		i++
	}
	line := data[i:min(len(data), i+4096)]
	if len(line) < 4 || string(line[:3]) != "MSH" {
		return ""
	}
	sep, n, start := line[3], 1, 4
	for j := 4; j <= len(line); j++ {
		end := j == len(line) || line[j] == '\r' || line[j] == '\n'
		if end || line[j] == sep {
			if n++; n == 18 {
				v := string(line[start:j])
				if k := strings.IndexByte(v, '~'); k >= 0 { // the first is the default; others are reached by escapes
					v = v[:k]
				}
				if strings.Trim(v, `"`) == "" {
					return ""
				}
				return v
			}
			start = j + 1
		}
		if end {
			return ""
		}
	}
	return ""
}

func isASCII(b []byte) bool {
	for _, c := range b {
		if c >= 0x80 {
			return false
		}
	}
	return true
}

// decodeBytes reads the bytes of a \X..\ sequence in the message's character set.
func decodeBytes(b []byte, charset string) string {
	if isASCII(b) {
		return string(b)
	}
	if enc := charsets[charset]; enc != nil && enc != encoding.Nop && charset != "UTF-16" {
		out, _ := enc.NewDecoder().Bytes(b)
		return string(out)
	}
	if utf8.Valid(b) {
		return string(b)
	}
	out, _ := charmap.Windows1252.NewDecoder().Bytes(b)
	return string(out)
}
