package store

import "fmt"

// Ids stand in index keys in fewer bits than letters take: a UUID in lower case, as most are, in 20 bytes instead of 36 and an end, and others in about three
// quarters of their letters. The code keeps the order of the letters, and none is the beginning of another, so that keys made of codes are in the order of
// what they stand for, and what begins with a patient's code is that patient's.
//
// It is an alphabetic prefix code with a state: while all so far is as in a UUID, two hexadecimal digits take 9 bits, and a hyphen where one belongs 2; once
// something else was met, a letter takes 6 bits. The end of an id is a symbol, before all letters. What is left of the last byte is 0.

// letters are those of FHIR ids, in their order. The end of an id comes before them. FHIR R4 datatypes.html#id
const letters = "\x00-.0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

// A code is the low n bits of bits.
type code struct {
	bits uint16
	n    uint8
}

const pairBits = 11 // of the longest code for two letters

// A pairing is what a code stands for where two hexadecimal digits are likely.
type pairing struct {
	text string // one letter or two; the end of the id is 00
	n    uint8
}

var (
	letterCodes [256]code // n is 0 for what is no letter
	letterOf    [128]byte // by 7 bits; the codes of 6 stand twice
	letterSize  [128]uint8
	pairCodes   map[string]code
	pairOf      [1 << pairBits]pairing
)

func init() {
	for i := range len(letters) {
		c := code{uint16(i), 7}
		if i >= 3 {
			c = code{uint16(i - 1), 6}
		}
		letterCodes[letters[i]] = c
		for rest := range 1 << (7 - c.n) {
			at := int(c.bits)<<(7-c.n) + rest
			letterOf[at], letterSize[at] = letters[i], c.n
		}
	}
	pairCodes = map[string]code{}
	next := 0 // in codes of the longest kind
	add := func(text string, n uint8) {
		size := 1 << (pairBits - n)
		next = (next + size - 1) / size * size
		if next+size > len(pairOf) {
			panic("store: the code of ids does not fit") // a mistake in this program
		}
		pairCodes[text] = code{uint16(next / size), n}
		for i := range size {
			pairOf[next+i] = pairing{text, n}
		}
		next += size
	}
	for i := range len(letters) {
		if !hexadecimal(letters[i]) {
			add(letters[i:i+1], pairBits)
			continue
		}
		for j := range len(letters) {
			n := uint8(pairBits)
			if hexadecimal(letters[j]) {
				n = 9
			}
			add(letters[i:i+1]+letters[j:j+1], n)
		}
	}
}

func hexadecimal(c byte) bool { return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' }

// hyphenAt says whether a UUID has a hyphen behind so many letters.
func hyphenAt(n int) bool { return n == 8 || n == 13 || n == 18 || n == 23 }

const uuidLen = 36

// appendID appends the code of an id, of which all letters must be those of FHIR ids.
func appendID(b []byte, id string) []byte {
	w := bitWriter{b: b}
	at := 0 // how far it is as a UUID is, and written
	for at >= 0 {
		c := byte(0)
		if at < len(id) {
			c = id[at]
		}
		switch {
		case at == uuidLen && c == 0:
			w.add(code{0, 1})
			return w.end()
		case at == uuidLen:
			w.add(code{1, 1})
			return w.letters(id[at:])
		case hyphenAt(at) && c == '-':
			w.add(code{1, 2})
			at++
		case hyphenAt(at) && c == 0:
			w.add(code{0, 2})
			return w.end()
		case hyphenAt(at):
			w.add(code{1, 1})
			return w.letters(id[at:])
		default:
			n := 1
			if c != 0 && hexadecimal(c) {
				n = 2
			}
			text := "\x00"
			if at+n <= len(id) {
				text = id[at : at+n]
			} else if n == 2 {
				text = string([]byte{c, 0})
			}
			pair, ok := pairCodes[text]
			if !ok {
				panic(fmt.Sprintf("store: an id of %d bytes is none of FHIR's", len(id))) // they are checked where they come in
			}
			w.add(pair)
			last := text[len(text)-1]
			if last == 0 {
				return w.end()
			}
			if at += n; n == 1 || !hexadecimal(last) {
				return w.letters(id[at:])
			}
		}
	}
	return w.end()
}

// idOf reads the code of an id at the beginning of s, and says how many bytes it takes.
func idOf(s string) (id string, n int, ok bool) {
	r := bitReader{s: s}
	var buf [80]byte
	b := buf[:0]
	for len(b) < uuidLen {
		if hyphenAt(len(b)) {
			switch {
			case r.peek(1) == 1:
				r.at++
				return r.letters(b)
			case r.peek(2) == 0:
				r.at += 2
				return r.end(b)
			}
			r.at += 2
			b = append(b, '-')
			continue
		}
		p := pairOf[r.peek(pairBits)]
		if p.n == 0 {
			return "", 0, false
		}
		r.at += int(p.n)
		for i := range len(p.text) {
			switch c := p.text[i]; {
			case c == 0:
				return r.end(b)
			case !hexadecimal(c):
				return r.letters(append(b, c))
			default:
				b = append(b, c)
			}
		}
	}
	if r.at++; r.s == "" || r.bit(r.at-1) == 0 {
		return r.end(b)
	}
	return r.letters(b)
}

type bitWriter struct {
	b    []byte
	bits uint32
	n    uint8
}

func (w *bitWriter) add(c code) {
	w.bits, w.n = w.bits<<c.n|uint32(c.bits), w.n+c.n
	for w.n >= 8 {
		w.n -= 8
		w.b = append(w.b, byte(w.bits>>w.n))
	}
}

func (w *bitWriter) letters(text string) []byte {
	for i := range len(text) {
		w.add(letterCodes[text[i]])
	}
	w.add(letterCodes[0])
	return w.end()
}

func (w *bitWriter) end() []byte {
	if w.n > 0 {
		w.b = append(w.b, byte(w.bits<<(8-w.n)))
	}
	return w.b
}

type bitReader struct {
	s  string
	at int // in bits
}

func (r *bitReader) bit(at int) int { return r.bits(at, 1) }

// bits are n bits from a place on; beyond the end they are 0.
func (r *bitReader) bits(at, n int) int {
	var v uint32
	for i := range 3 {
		v <<= 8
		if k := at/8 + i; k < len(r.s) {
			v |= uint32(r.s[k])
		}
	}
	return int(v >> (24 - at%8 - n) & (1<<n - 1))
}

func (r *bitReader) peek(n int) int { return r.bits(r.at, n) }

func (r *bitReader) letters(b []byte) (string, int, bool) {
	for len(b) <= 64 {
		at := r.peek(7)
		r.at += int(letterSize[at])
		if letterOf[at] == 0 {
			if letterSize[at] == 0 {
				return "", 0, false
			}
			return r.end(b)
		}
		b = append(b, letterOf[at])
	}
	return "", 0, false
}

// end is the id that was read, if it ends within what there is and with bits of 0.
func (r *bitReader) end(b []byte) (string, int, bool) {
	n := (r.at + 7) / 8
	if n > len(r.s) || len(b) == 0 || len(b) > 64 || r.bits(r.at, n*8-r.at) != 0 {
		return "", 0, false
	}
	return string(b), n, true
}
