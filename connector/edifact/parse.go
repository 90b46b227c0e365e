package edifact

import (
	"bytes"
	"strconv"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/encoding/charmap"

	"tombolo/fhir"
)

// Limits on one file. The largest honest interchange is a day's results of one laboratory for one practice.
const (
	maxSize     = 64 << 20
	maxSegments = 500_000
)

// The service characters that UNA may change. ISO 9735 §6
type signs struct{ component, element, decimal, release, terminator byte }

var usual = signs{':', '+', '.', '?', '\''}

// A Segment is one segment: its name, and its elements, each divided into components.
type Segment struct {
	Name       string
	elements   [][]string
	start, end int // in the file
	at         int // its number in the message, from 1
}

// Get is component c of element e, both from 1; "" if it is not there.
func (s Segment) Get(e, c int) string {
	if e < 1 || e > len(s.elements) || c < 1 || c > len(s.elements[e-1]) {
		return ""
	}
	return s.elements[e-1][c-1]
}

// Components are all of one element.
func (s Segment) Components(e int) []string {
	if e < 1 || e > len(s.elements) {
		return nil
	}
	return s.elements[e-1]
}

// Place names the segment for an error text, "RSL[12]": the twelfth of the message.
func (s Segment) Place() string { return s.Name + "[" + strconv.Itoa(s.at) + "]" }

// An Interchange is one UNB … UNZ, or messages that came without one.
type Interchange struct {
	Sender, Recipient, Reference string
	Messages                     []Message
	head                         []byte // UNA and UNB, as they came
}

// A Message is one UNH … UNT.
type Message struct {
	Reference string // UNH, element 1
	Type      string // MEDRPT, NHSRSR
	Version   string // NHS002, NHS003 …
	Segments  []Segment
	Raw       []byte
	Fault     *fhir.Issue // why it cannot be read, if it cannot
}

// Is reports whether data looks like EDIFACT.
func Is(data []byte) bool {
	data = bytes.TrimLeft(data, "\ufeff \t\r\n")
	for _, name := range [...]string{"UNA", "UNB+", "UNH+"} {
		if bytes.HasPrefix(data, []byte(name)) {
			return true
		}
	}
	return false
}

// Parse reads a file of interchanges. The error is a *fhir.Issue: nothing in it can be read.
func Parse(data []byte) ([]Interchange, error) {
	if len(data) > maxSize {
		return nil, fhir.Errorf(fhir.TooLong, "the file has %d bytes and at most %d are taken", len(data), maxSize)
	}
	if !Is(data) {
		return nil, fhir.Errorf(fhir.Structure, "not EDIFACT: it begins with neither UNA, UNB nor UNH").At("UNB")
	}
	p := parser{data: data, signs: usual}
	if err := p.run(); err != nil {
		return nil, err
	}
	return p.out, nil
}

type parser struct {
	data  []byte
	signs signs
	out   []Interchange
	head  int // where the present interchange's header began
	open  bool
	n     int
}

func (p *parser) run() *fhir.Issue {
	for at := 0; at < len(p.data); {
		at += len(p.data[at:]) - len(bytes.TrimLeft(p.data[at:], "\ufeff \t\r\n\x00\x1a"))
		if at >= len(p.data) {
			break
		}
		if rest := p.data[at:]; bytes.HasPrefix(rest, []byte("UNA")) && len(rest) >= 9 {
			if bytes.HasPrefix(rest[8:], []byte("UNB")) { // the reserved blank was trimmed on its way
				p.signs = signs{rest[3], rest[4], rest[5], rest[6], rest[7]}
				p.head = at
				at += 8
				continue
			}
			if issue := p.service(p.data[at+3 : at+9]); issue != nil {
				return issue
			}
			p.head = at
			at += 9
			continue
		}
		if p.n++; p.n > maxSegments {
			return fhir.Errorf(fhir.TooCostly, "the file has more than %d segments", maxSegments)
		}
		s, end, closed := p.segment(at)
		p.take(s, closed)
		at = end
	}
	if len(p.out) == 0 {
		return fhir.Errorf(fhir.Structure, "no message (UNH … UNT) is in the file").At("UNH")
	}
	p.end("the message has no UNT: the file breaks off")
	return nil
}

// service reads UNA: six characters.
func (p *parser) service(una []byte) *fhir.Issue {
	s := signs{una[0], una[1], una[2], una[3], una[5]}
	for i, c := range [...]byte{s.component, s.element, s.release, s.terminator} {
		if c >= 0x80 || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == ' ' && i != 2 || bytes.IndexByte([]byte{s.component, s.element, s.release, s.terminator}, c) != i {
			return fhir.Errorf(fhir.Structure, "the service characters of UNA must be different signs, neither letters nor digits").At("UNA")
		}
	}
	p.signs = s
	return nil
}

// segment reads one segment, which ends at its terminator, and says whether it had one.
func (p *parser) segment(at int) (s Segment, end int, closed bool) {
	s.start = at
	var components []string
	var cur []byte
	name := true
	element := func() {
		components = append(components, decode(cur))
		cur = cur[:0]
		if name {
			s.Name, name = strings.TrimSpace(components[0]), false
		} else {
			s.elements = append(s.elements, components)
		}
		components = nil
	}
	for end = at; end < len(p.data); end++ {
		c := p.data[end]
		switch {
		case c == p.signs.release && c != ' ' && end+1 < len(p.data):
			end++
			cur = append(cur, p.data[end])
		case c == p.signs.terminator:
			element()
			s.end = end + 1
			return s, end + 1, true
		case c == p.signs.element:
			element()
		case c == p.signs.component && !name:
			components = append(components, decode(cur))
			cur = cur[:0]
		case c == '\r' || c == '\n': // some wrap lines at 80 signs
		default:
			cur = append(cur, c)
		}
	}
	element()
	s.end = end
	return s, end, false
}

// decode reads UNOA to UNOC: ASCII or Latin-1; some send UTF-8.
func decode(b []byte) string {
	if utf8.Valid(b) {
		return clean(string(b))
	}
	out, _ := charmap.Windows1252.NewDecoder().Bytes(b)
	return clean(string(out))
}

// clean makes text fit to be a FHIR string. FHIR R4 datatypes.html#string
func clean(s string) string {
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if r < ' ' && r != '\t' || r == 0x7f {
			return -1
		}
		return r
	}, s))
}

func (p *parser) take(s Segment, closed bool) {
	switch s.Name {
	case "UNB":
		p.end("the message has no UNT before the next interchange begins")
		if p.head > s.start || p.head < s.start-20 {
			p.head = s.start
		}
		p.out = append(p.out, Interchange{Sender: s.Get(2, 1), Recipient: s.Get(3, 1), Reference: s.Get(5, 1), head: p.data[p.head:s.end]})
		return
	case "UNZ":
		p.end("the message has no UNT before the interchange ends")
		return
	case "UNH":
		p.end("the message has no UNT before the next begins")
		if len(p.out) == 0 {
			p.out = append(p.out, Interchange{})
		}
		in := &p.out[len(p.out)-1]
		in.Messages = append(in.Messages, Message{Reference: s.Get(1, 1), Type: s.Get(2, 1), Version: s.Get(2, 5)})
		p.open = true
	}
	if !p.open {
		return // loose segments between messages say nothing of anybody
	}
	in := &p.out[len(p.out)-1]
	m := &in.Messages[len(in.Messages)-1]
	s.at = len(m.Segments) + 1
	m.Segments = append(m.Segments, s)
	if s.Name == "UNT" {
		if !closed && s.Get(2, 1) == "" { // a file may well end without the last sign, but not within UNT
			m.Fault = fhir.Errorf(fhir.Structure, "the last segment has no terminator: the file breaks off").At(s.Place())
		}
		if ref := s.Get(2, 1); ref != m.Reference {
			m.Fault = fhir.Errorf(fhir.Structure, "UNT names another message than UNH: one message's end is missing, and another's beginning").At("UNT")
		}
		p.close(in, m)
	}
}

// end ends a message that has not ended itself: what is missing of it nobody knows, so that nothing is made of it.
func (p *parser) end(why string) {
	if !p.open {
		return
	}
	in := &p.out[len(p.out)-1]
	m := &in.Messages[len(in.Messages)-1]
	m.Fault = fhir.Errorf(fhir.Structure, "%s", why).At("UNT")
	p.close(in, m)
}

func (p *parser) close(in *Interchange, m *Message) {
	p.open = false
	first, last := m.Segments[0], m.Segments[len(m.Segments)-1]
	m.Raw = bytes.Join([][]byte{in.head, p.data[first.start:last.end]}, []byte("\n"))
	if len(in.head) == 0 {
		m.Raw = p.data[first.start:last.end]
	}
}
