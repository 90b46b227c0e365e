package hl7v2

import (
	"slices"
	"strconv"
	"strings"

	"tombolo/fhir"
)

// Limits on one message. The hugest honest message is a document of a few megabytes in one OBX.
const (
	MaxMessage  = 16 << 20 // bytes, unless ParseOptions says otherwise
	maxSegments = 100_000
	maxFields   = 1_000_000
	maxReps     = 10_000 // of one field
)

// Delims are the characters that a message separates its parts with, as MSH-1 and MSH-2 declare them. Escape and Sub are
// 0 where the sender declares none.
//
// HL7 v2.4 §2.8, §2.16.9.2
type Delims struct{ Field, Component, Repetition, Escape, Sub byte }

// Standard is what nearly everybody uses: |^~\&
var Standard = Delims{'|', '^', '~', '\\', '&'}

// A Message is one parsed HL7 v2 message: the text that arrived and where its segments and fields stand in it. Nothing is
// unescaped or split further before it is asked for. It is immutable and may be shared between goroutines.
type Message struct {
	Delims  Delims
	Charset string        // how the bytes were read: "UTF-8", "Windows-1252" …
	Issues  []*fhir.Issue // what was odd about the message as a whole, and read all the same

	text   string
	segs   []Segment
	bounds []int32 // where each piece between field separators ends; a segment's first piece is its name

	touched []bool // which pieces a map has read: of the copy that one mapping works on
	told    *told  // and to the letter, if anybody asks
}

// A Segment is one segment of a message. The zero Segment has no name and only empty fields.
type Segment struct {
	m          *Message
	name       string
	start, end int32 // in m.text
	first, n   int32 // its pieces in m.bounds
	at         int32 // its place among the segments of its name, from 1
}

// ParseOptions say how to read what a message does not say about itself. The zero value is good.
type ParseOptions struct {
	Charset string // for messages without MSH-18; "" means UTF-8 where it is valid, else Windows-1252
	MaxSize int    // bytes; MaxMessage if 0
}

// Parse reads one message: a segment a line, MSH first. Lines may end in CR as the standard has it, LF or both. A line that does not look
// like a segment belongs to the text before it. Segments of any name are kept. The error, if any, is a *fhir.Issue with its place.
func Parse(data []byte, o ParseOptions) (*Message, error) {
	if o.MaxSize <= 0 {
		o.MaxSize = MaxMessage
	}
	if len(data) > o.MaxSize {
		return nil, fhir.Errorf(fhir.TooLong, "the message has %d bytes and this feed takes at most %d: send large documents by reference, or raise max-frame", len(data), o.MaxSize)
	}
	m := &Message{}
	var err *fhir.Issue
	if m.text, m.Charset, err = decode(data, o.Charset, &m.Issues); err != nil {
		return nil, err
	}
	m.text = strings.TrimLeft(m.text, " \t\r\n\v\ufeff")
	if m.Delims, err = delims(m.text); err != nil {
		return nil, err
	}
	if err := m.split(); err != nil {
		return nil, err
	}
	return m, nil
}

// delims reads MSH-1 and MSH-2. HL7 v2.4 §2.16.9.1
func delims(text string) (Delims, *fhir.Issue) {
	if !strings.HasPrefix(text, "MSH") {
		return Delims{}, fhir.Errorf(fhir.Structure, "not an HL7 v2 message: it does not begin with MSH").At("MSH")
	}
	if len(text) < 5 || !isDelim(text[3]) {
		return Delims{}, fhir.Errorf(fhir.Structure, "no field separator follows MSH: it should read MSH|^~\\&|…").At("MSH-1")
	}
	d := Delims{Field: text[3]}
	declared := text[4:]
	if i := strings.IndexAny(declared, "\r\n"+string(rune(d.Field))); i >= 0 {
		declared = declared[:i]
	}
	if declared == `^~\\&` { // escaped once too often on its way, by a program that took it for source code: the meaning is plain
		declared = `^~\&`
	}
	if declared == "" || len(declared) > 5 {
		return Delims{}, fhir.Errorf(fhir.Structure, "MSH-2 has %d encoding characters where there should be four, ^~\\&", len(declared)).At("MSH-2")
	}
	seen := string(rune(d.Field))
	for i := range len(declared) {
		if !isDelim(declared[i]) || strings.IndexByte(seen, declared[i]) >= 0 {
			return Delims{}, fhir.Errorf(fhir.Structure, "the encoding characters must be five different signs, neither letters nor digits").At("MSH-2")
		}
		seen += declared[i : i+1]
	}
	for i, c := range []*byte{&d.Component, &d.Repetition, &d.Escape, &d.Sub} {
		if i < len(declared) {
			*c = declared[i]
		}
	}
	return d, nil
}

func isDelim(c byte) bool {
	return c > ' ' && c < 0x7f && !(c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z')
}

// split finds segments and fields. One pass, no copies: everything else is a piece of m.text.
func (m *Message) split() *fhir.Issue {
	text := m.text
	likely := min(len(text), 256<<10) // a message of megabytes is a document in one field
	m.segs = make([]Segment, 0, 4+likely/120)
	m.bounds = make([]int32, 0, 16+likely/7)
	eol := "\r"
	if strings.IndexByte(text, '\n') >= 0 {
		eol = "\r\n"
	}
	for at := 0; at < len(text); {
		end := at + lineEnd(text[at:], eol)
		line := text[at:end]
		switch {
		case line == "":
		case m.looksLikeSegment(line):
			if line[:3] == "MSH" && len(m.segs) > 0 {
				return fhir.Errorf(fhir.Structure, "a second MSH stands inside the message: is a segment terminator or frame end missing?").At("MSH")
			}
			if len(m.segs) >= maxSegments {
				return fhir.Errorf(fhir.TooCostly, "the message has more than %d segments", maxSegments)
			}
			m.segs = append(m.segs, Segment{m: m, name: line[:3], start: int32(at), end: int32(end)})
		default: // a line break inside a value, which the sender should have written \X0D\ or \.br\
			m.segs[len(m.segs)-1].end = int32(end)
		}
		at = end + 1
	}
	if strings.Count(text, char(m.Delims.Repetition)) > maxReps {
		if err := m.tooManyReps(); err != nil {
			return err
		}
	}
	for i := range m.segs {
		s := &m.segs[i]
		s.first, s.at = int32(len(m.bounds)), m.count(i)
		for at := int(s.start); ; {
			j := strings.IndexByte(text[at:s.end], m.Delims.Field)
			if j < 0 {
				break
			}
			m.bounds = append(m.bounds, int32(at+j))
			at += j + 1
		}
		m.bounds = append(m.bounds, s.end)
		s.n = int32(len(m.bounds)) - s.first
		if len(m.bounds) > maxFields {
			return fhir.Errorf(fhir.TooCostly, "the message has more than %d fields", maxFields)
		}
	}
	return nil
}

func (m *Message) tooManyReps() *fhir.Issue {
	for _, s := range m.segs {
		for n, f := range strings.Split(m.text[s.start:s.end], char(m.Delims.Field)) {
			if m.Delims.Repetition != 0 && strings.Count(f, char(m.Delims.Repetition)) >= maxReps {
				return fhir.Errorf(fhir.TooCostly, "the field repeats more than %d times", maxReps).At(s.name + "-" + strconv.Itoa(n))
			}
		}
	}
	return nil
}

// count numbers a segment among those of its name. Segments of a name mostly stand together or not far apart.
func (m *Message) count(i int) int32 {
	for j := i - 1; j >= 0 && j > i-500; j-- {
		if m.segs[j].name == m.segs[i].name {
			return m.segs[j].at + 1
		}
	}
	return 1
}

func lineEnd(s, eol string) int {
	i := -1
	if len(eol) == 1 {
		i = strings.IndexByte(s, eol[0])
	} else {
		i = strings.IndexAny(s, eol)
	}
	if i < 0 {
		return len(s)
	}
	return i
}

// looksLikeSegment: a name of a capital and two capitals or digits, and then a separator or nothing.
func (m *Message) looksLikeSegment(line string) bool {
	if len(line) < 3 || len(line) > 3 && line[3] != m.Delims.Field {
		return false
	}
	for i := range 3 {
		if c := line[i]; !(c >= 'A' && c <= 'Z' || i > 0 && c >= '0' && c <= '9') {
			return false
		}
	}
	return true
}

// traced is a copy that remembers what is read of it.
func (m *Message) traced() *Message {
	c := *m
	c.touched = make([]bool, len(m.bounds))
	c.segs = slices.Clone(m.segs)
	for i := range c.segs {
		c.segs[i].m = &c
	}
	return &c
}

// read reports whether field n, or with 0 any field, was read of a traced message.
func (s Segment) read(n int) bool {
	if s.isHeader() {
		n--
	}
	if n > 0 {
		return n < int(s.n) && s.m.touched[int(s.first)+n]
	}
	return slices.Contains(s.m.touched[s.first:s.first+s.n], true)
}

// Segments are the message's segments in order.
func (m *Message) Segments() []Segment { return m.segs }

// First is the first segment of a name, or the zero Segment.
func (m *Message) First(name string) Segment {
	for _, s := range m.segs {
		if s.name == name {
			return s
		}
	}
	return Segment{}
}

// Header is the MSH segment.
func (m *Message) Header() Segment { return m.segs[0] }

// Type is the message code, trigger event and control id: MSH-9.1, MSH-9.2 and MSH-10. Where MSH-9 names no event, EVN-1 may.
func (m *Message) Type() (code, event, control string) {
	h := m.Header()
	t := h.Field(9)
	code, event = t.Comp(1).Text(), t.Comp(2).Text()
	if event == "" {
		event = m.First("EVN").Field(1).Text()
	}
	return code, event, h.Field(10).Text()
}

// Name is the segment's name, "PID"; "" of the zero Segment.
func (s Segment) Name() string { return s.name }

// Exists reports whether this is a real segment.
func (s Segment) Exists() bool { return s.m != nil }

// Place names a field of this segment for an error text, "OBX[3]-5".
func (s Segment) Place(field int) string {
	p := s.name
	if s.at > 1 {
		p += "[" + strconv.Itoa(int(s.at)) + "]"
	}
	if field > 0 {
		p += "-" + strconv.Itoa(field)
	}
	return p
}

// Fields is the number of the last field.
func (s Segment) Fields() int {
	if s.isHeader() {
		return int(s.n)
	}
	return max(0, int(s.n)-1)
}

func (s Segment) isHeader() bool { return s.name == "MSH" || s.name == "FHS" || s.name == "BHS" }

// Field is field n as the standard counts it, from 1; of MSH, field 1 is the separator itself. A field that is not there is empty.
func (s Segment) Field(n int) Value {
	if s.m == nil || n < 1 {
		return Value{}
	}
	if s.isHeader() {
		if n <= 2 { // neither is split nor unescaped
			if n == 1 {
				return Value{raw: string(rune(s.m.Delims.Field))}
			}
			return Value{raw: s.piece(1).raw}
		}
		n--
	}
	if n < int(s.n) && s.m.touched != nil {
		s.m.touched[int(s.first)+n] = true
	}
	return s.piece(n)
}

// piece is what stands after the nth field separator.
func (s Segment) piece(n int) Value {
	if n >= int(s.n) {
		return Value{m: s.m}
	}
	b := s.m.bounds[s.first:]
	from := b[n-1] + 1
	return Value{raw: s.m.text[from:b[n]], m: s.m, at: from}
}
