package hl7v2

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// delimiterSets are those of the standard and others that MSH-1 and 2 may redefine. HL7 v2.4 §2.8
var delimiterSets = []string{`|^~\&`, `|^~\@`, `#*+!$`, `;:,/.`, `~|^\&`}

// A scribe writes messages in one set of delimiters, and remembers what stands where.
type scribe struct {
	t   *rapid.T
	set string
	at  []string
}

// text is what a value may say: with every sign that means something to HL7, line ends among them.
func (s *scribe) text() string {
	return rapid.StringOf(rapid.SampledFrom([]rune("ab ëZ|^~\\&#*+!$;:,/.@\"\r\n\x0b\x1c\x0d中😀"))).Filter(func(v string) bool { return v != `""` }).Draw(s.t, "text")
}

// escaped is the text as it must be written in these delimiters.
func (s *scribe) escaped(v string) string {
	esc := s.set[3]
	var b strings.Builder
	for i := range len(v) {
		switch c := v[i]; {
		case strings.IndexByte(s.set, c) >= 0:
			fmt.Fprintf(&b, "%c%c%c", esc, "FSRET"[strings.IndexByte(s.set, c)], esc)
		case c < ' ' || c == 0x7f:
			fmt.Fprintf(&b, "%cX%02X%c", esc, c, esc)
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}

// part writes what a level holds, of up to three of the next.
func (s *scribe) part(place string, l level) string {
	if l == field && rapid.IntRange(0, 9).Draw(s.t, "null") == 0 {
		s.at = append(s.at, place+"=null")
		return `""`
	}
	if l == subcomponent {
		v := s.text()
		if v != "" {
			s.at = append(s.at, place+"="+v)
		}
		return s.escaped(v)
	}
	d := map[level]byte{field: s.set[2], repetition: s.set[1], component: s.set[4]}[l]
	var parts []string
	for i := range rapid.IntRange(1, 3).Draw(s.t, "parts") {
		parts = append(parts, s.part(fmt.Sprint(place, ".", i+1), l+1))
	}
	return strings.Join(parts, string(rune(d)))
}

// For every message, parse(encode(m)) is m: whatever delimiters it came in and whatever its values hold, the same stands at the same places, and to encode it
// once more changes nothing.
func TestWhatIsEncodedParsesAsWhatItWas(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := &scribe{t: t, set: rapid.SampledFrom(delimiterSets).Draw(t, "delimiters")}
		sep := s.set[:1]
		wire := "MSH" + s.set + sep + s.escaped("PAS") + strings.Repeat(sep, 15) + "UNICODE UTF-8\r"
		s.at = []string{"MSH", "MSH-3.1.1.1=PAS"}
		for n := range rapid.IntRange(1, 4).Draw(t, "segments") {
			name := rapid.SampledFrom([]string{"PID", "NTE", "ZX1"}).Draw(t, "segment")
			s.at = append(s.at, name)
			wire += name
			for f := range rapid.IntRange(1, 4).Draw(t, "fields") {
				place := fmt.Sprintf("%s#%d-%d", name, n, f+1)
				wire += sep + s.part(place, field)
			}
			wire += "\r"
		}
		m, err := Parse([]byte(wire), ParseOptions{})
		if err != nil {
			t.Fatalf("%q: %v", wire, err)
		}
		if got := placed(m); !slices.Equal(got, s.at) {
			t.Fatalf("%q was read as\n%q, want\n%q", wire, got, s.at)
		}
		once := Encode(m)
		again, err := Parse(once, ParseOptions{})
		if err != nil {
			t.Fatalf("%q, encoded as %q: %v", wire, once, err)
		}
		if got := placed(again); !slices.Equal(got, s.at) {
			t.Fatalf("%q, encoded as %q, was read as\n%q, want\n%q", wire, once, got, s.at)
		}
		if twice := Encode(again); string(twice) != string(once) {
			t.Fatalf("encoded again %q became %q", once, twice)
		}
	})
}

// placed are a message's values by their places, segments numbered as they stand.
func placed(m *Message) []string {
	var out []string
	for i, s := range m.Segments() {
		out = append(out, s.Name())
		if s.isHeader() {
			walk(s.Field(3), field, "MSH-3", &out)
			continue
		}
		for n := 1; n <= s.Fields(); n++ {
			walk(s.Field(n), field, fmt.Sprintf("%s#%d-%d", s.Name(), i-1, n), &out)
		}
	}
	return out
}
