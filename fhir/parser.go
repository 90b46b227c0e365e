package fhir

import (
	"bytes"
	"strconv"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// A parser builds a document's tree in one pass over its bytes. It takes exactly what I-JSON allows (RFC 8259; RFC 7493 §2.1, §2.3): UTF-8
// without lone surrogates, and no name twice in one object. Reading JSON is a good part of all that this program does, so it is done here by hand.
type parser struct {
	src   []byte
	at    int
	nodes []node

	envelope bool   // what stands in a Bundle's entries is read, and has no tree
	top      string // the member of the document in which an envelope's parser is
	most     int    // nodes, if not 0
}

// document reads one whole document, and nothing after it.
func (p *parser) document() error {
	if len(p.src) > 1<<31-2 {
		return Errorf(TooLong, "JSON document of %d bytes is larger than this program reads", len(p.src))
	}
	if _, err := p.value("", 0); err != nil {
		if i := IssueOf(err); i != nil && i.Type == TooCostly {
			return i
		}
		return Errorf(Structure, "not valid JSON: %s", jsonProblem(err, p.src))
	}
	if p.space(); p.at < len(p.src) {
		return Errorf(Structure, "not valid JSON: something follows the end of the document at byte %d", p.at)
	}
	return nil
}

// A syntaxError says where a document stops being JSON. It quotes nothing.
type syntaxError struct {
	what string
	at   int
}

func (e *syntaxError) Error() string { return e.what }

const (
	wrong      = "syntax error"
	nameTwice  = "a member name stands twice in one object"
	notUnicode = "a text that is not UTF-8"
)

func (p *parser) fail(what string) error { return &syntaxError{what, min(p.at, len(p.src))} }

// jsonProblem says where a document is wrong without quoting what it holds, which may be clinical.
func jsonProblem(err error, data []byte) string {
	se, ok := err.(*syntaxError)
	if !ok {
		return err.Error()
	}
	line := strconv.Itoa(1 + bytes.Count(data[:se.at], []byte("\n")))
	if se.at == len(data) {
		return "it ends too early, at byte " + strconv.Itoa(se.at) + " (line " + line + "); was it cut off?"
	}
	return se.what + " at byte " + strconv.Itoa(se.at) + " (line " + line + ")"
}

// space passes over white space and gives the byte that follows; at the end 0, which no JSON holds.
func (p *parser) space() byte {
	for p.at < len(p.src) {
		switch c := p.src[p.at]; c {
		case ' ', '\t', '\n', '\r':
			p.at++
		default:
			return c
		}
	}
	return 0
}

func (p *parser) value(key string, depth int) (int32, error) {
	if depth > MaxDepth {
		return 0, Errorf(TooCostly, "nested more than %d deep", MaxDepth)
	}
	i := int32(len(p.nodes))
	if p.most > 0 && len(p.nodes) >= p.most {
		return 0, Errorf(TooCostly, "the JSON holds more than %d values; send it in parts", p.most)
	}
	first := p.space()
	p.nodes = append(p.nodes, node{key: key, start: int32(p.at), kind: jsontext.Kind(first)})
	var err error
	switch first {
	case '{', '[':
		err = p.inside(i, first, depth)
	case '"':
		_, err = p.text()
	case '-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9':
		p.nodes[i].kind = '0'
		err = p.number()
	case 't':
		err = p.word("true")
	case 'f':
		err = p.word("false")
	case 'n':
		err = p.word("null")
	default:
		err = p.fail(wrong)
	}
	p.nodes[i].end = int32(p.at)
	if p.envelope && depth == 3 && key == "resource" && p.top == "entry" {
		p.nodes = p.nodes[:i+1]
		p.nodes[i].first = 0
	}
	return i, err
}

// inside reads the members of an object or the items of an array, and what closes it.
func (p *parser) inside(parent int32, open byte, depth int) error {
	closing := open + 2 // } for {, ] for [
	p.at++
	if p.space() == closing {
		p.at++
		return nil
	}
	seen := names{p: p, parent: parent}
	for last := int32(0); ; {
		key := ""
		if open == '{' {
			var err error
			if key, err = p.name(&seen); err != nil {
				return err
			}
		}
		if depth == 0 {
			p.top = key
		}
		c, err := p.value(key, depth+1)
		if err != nil {
			return err
		}
		if last == 0 {
			p.nodes[parent].first = c
		} else {
			p.nodes[last].next = c
		}
		last = c
		switch p.space() {
		case ',':
			p.at++
		case closing:
			p.at++
			return nil
		default:
			return p.fail(wrong)
		}
	}
}

// name reads a member's name and the colon after it.
func (p *parser) name(seen *names) (string, error) {
	if p.space() != '"' {
		return "", p.fail(wrong)
	}
	at := p.at
	plain, err := p.text()
	if err != nil {
		return "", err
	}
	raw := p.src[at:p.at]
	var key string
	if plain {
		key = elementName(raw[1 : len(raw)-1])
	} else {
		b, _ := jsontext.AppendUnquote(nil, raw)
		key = string(b)
	}
	if seen.before(key) {
		p.at = at
		return "", p.fail(nameTwice)
	}
	if p.space() != ':' {
		return "", p.fail(wrong)
	}
	p.at++
	return key, nil
}

// names are those of one object so far. A few are compared one by one; of many, which FHIR does not have and an attacker may, a set is kept.
type names struct {
	p      *parser
	parent int32
	n      int
	set    map[string]bool
}

const fewNames = 24

func (s *names) before(key string) bool {
	s.n++
	if s.set != nil {
		was := s.set[key]
		s.set[key] = true
		return was
	}
	nodes := s.p.nodes
	if s.n == 1 {
		return false
	}
	if s.n > fewNames {
		s.set = map[string]bool{key: true}
	}
	was := false
	for i := nodes[s.parent].first; i != 0; i = nodes[i].next {
		was = was || nodes[i].key == key
		if s.set != nil {
			s.set[nodes[i].key] = true
		}
	}
	return was
}

// text reads a string. plain means that it is what it says: no escapes in it.
func (p *parser) text() (plain bool, err error) {
	p.at++
	from, ascii := p.at, true
	plain = true
	for p.at < len(p.src) {
		switch c := p.src[p.at]; {
		case c == '"':
			if !ascii && !utf8.Valid(p.src[from:p.at]) {
				p.at = from
				return false, p.fail(notUnicode)
			}
			p.at++
			return plain, nil
		case c == '\\':
			plain = false
			if err := p.escape(); err != nil {
				return false, err
			}
		case c < ' ':
			return false, p.fail(wrong)
		default:
			ascii = ascii && c < utf8.RuneSelf
			p.at++
		}
	}
	return false, p.fail(wrong)
}

// escape reads what a backslash begins.
func (p *parser) escape() error {
	if p.at+1 >= len(p.src) {
		p.at = len(p.src)
		return p.fail(wrong)
	}
	switch p.src[p.at+1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		p.at += 2
		return nil
	case 'u':
	default:
		return p.fail(wrong)
	}
	unit, ok := p.unit(p.at)
	switch {
	case !ok:
		return p.fail(wrong)
	case 0xdc00 <= unit && unit <= 0xdfff: // the second half of a pair, alone
		return p.fail(notUnicode)
	case 0xd800 <= unit && unit <= 0xdbff:
		second, ok := p.unit(p.at + 6)
		if !ok || second < 0xdc00 || second > 0xdfff {
			return p.fail(notUnicode)
		}
		p.at += 6
	}
	p.at += 6
	return nil
}

// unit reads \uXXXX.
func (p *parser) unit(at int) (n uint16, ok bool) {
	if at+6 > len(p.src) || p.src[at] != '\\' || p.src[at+1] != 'u' {
		return 0, false
	}
	for _, c := range p.src[at+2 : at+6] {
		switch {
		case '0' <= c && c <= '9':
			c -= '0'
		case 'a' <= c && c <= 'f':
			c -= 'a' - 10
		case 'A' <= c && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		n = n<<4 | uint16(c)
	}
	return n, true
}

// IsNumber reports whether s is a JSON number and nothing else. RFC 8259 §6
func IsNumber(s string) bool {
	p := parser{src: []byte(s)}
	return p.number() == nil && p.at == len(s)
}

// number reads a number. RFC 8259 §6
func (p *parser) number() error {
	p.skip('-')
	switch {
	case p.skip('0'):
	case p.digits():
	default:
		return p.fail(wrong)
	}
	if p.skip('.') && !p.digits() {
		return p.fail(wrong)
	}
	if p.skip('e') || p.skip('E') {
		if !p.skip('+') {
			p.skip('-')
		}
		if !p.digits() {
			return p.fail(wrong)
		}
	}
	return nil
}

func (p *parser) skip(c byte) bool {
	if p.at < len(p.src) && p.src[p.at] == c {
		p.at++
		return true
	}
	return false
}

func (p *parser) digits() bool {
	from := p.at
	for p.at < len(p.src) && '0' <= p.src[p.at] && p.src[p.at] <= '9' {
		p.at++
	}
	return p.at > from
}

func (p *parser) word(w string) error {
	for i := range len(w) {
		if !p.skip(w[i]) {
			return p.fail(wrong)
		}
	}
	return nil
}

// elementName is a member's name. Those of which FHIR's resources consist are kept once, not once for each time they are read.
func elementName(b []byte) string {
	if s := frequent(b); s != "" { // nearly always
		return s
	}
	return string(b)
}
