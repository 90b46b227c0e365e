package hl7v2

import (
	"cmp"
	"slices"
	"sort"
	"strconv"
	"strings"
)

// told notes which stretches of a message's text were read as somebody's words or codes. Looking whether something is there is not reading it.
type told struct{ spans []span }

type span struct{ from, to int32 }

func (t *told) note(v Value) {
	if v.raw != "" {
		t.spans = append(t.spans, span{v.at, v.at + int32(len(v.raw))})
	}
}

// noted is how much has been noted of a message, for forget.
func (m *Message) noted() int {
	if m == nil || m.told == nil {
		return 0
	}
	return len(m.told.spans)
}

// forget takes back what has been noted since: nothing came of it.
func (m *Message) forget(since int) {
	if m != nil && m.told != nil {
		m.told.spans = m.told.spans[:since]
	}
}

func (v Value) noted() int       { return v.m.noted() }
func (v Value) forget(since int) { v.m.forget(since) }

// peek is str, of what is looked at to decide something: nothing of it gets into the record by that.
func peek(v Value, comp int) string {
	before := v.noted()
	s := str(v, comp)
	v.forget(before)
	return s
}

// wordsOf are a coded value's words: its text, or the display or code that stands for one.
func (x *mapper) wordsOf(v Value) string {
	before := v.noted()
	words := x.concept(v).Words()
	v.forget(before)
	for _, c := range [...]int{9, 2, 5, 1} {
		if words != "" && peek(v, c) == words {
			return str(v, c)
		}
	}
	return words
}

// settle sorts what was noted, and joins what overlaps.
func (t *told) settle() {
	slices.SortFunc(t.spans, func(a, b span) int { return cmp.Compare(a.from, b.from) })
	n := 0
	for _, s := range t.spans {
		if n > 0 && s.from <= t.spans[n-1].to {
			t.spans[n-1].to = max(t.spans[n-1].to, s.to)
			continue
		}
		t.spans[n] = s
		n++
	}
	t.spans = t.spans[:n]
}

// any reports whether some of v was read; of told that is settled.
func (t *told) any(v Value) bool {
	i := sort.Search(len(t.spans), func(i int) bool { return t.spans[i].to > v.at })
	return i < len(t.spans) && t.spans[i].from < v.at+int32(len(v.raw))
}

// unreadParts are the fields of which nothing was read, and of the others the repetitions, components and subcomponents, each where it stands:
// "PID-13", "PID-13(2)", "PID-5.7".
func (m *Message) unreadParts(ignored map[string]bool) []Leaf {
	read := m.told
	m.told = nil
	read.settle()
	var out []Leaf
	for _, s := range m.Segments() {
		if envelope[s.name] || ignored[s.name] {
			continue
		}
		for n := 1; n <= s.Fields(); n++ {
			if v := s.piece(n); n > 1 || !setID(v) {
				out = read.missed(v, s.Place(n), out)
			}
		}
	}
	return out
}

// missed adds to out what of v was not read. What says nothing is not missed: an empty piece, or one that only clears.
func (t *told) missed(v Value, place string, out []Leaf) []Leaf {
	if strings.Trim(v.raw, `"`) == "" || strings.Trim(v.raw, v.m.delimiters()) == "" {
		return out
	}
	if !t.any(v) {
		return append(out, Leaf{place, text(v.Words())})
	}
	if v.level == subcomponent {
		return out
	}
	parts := slices.Collect(v.parts(v.level))
	for i, p := range parts {
		at := place
		switch {
		case len(parts) == 1:
		case v.level == field:
			at += "(" + strconv.Itoa(i+1) + ")"
		default:
			at += "." + strconv.Itoa(i+1)
		}
		out = t.missed(p, at, out)
	}
	return out
}

// setID reports whether a segment's first field only counts the segments of its name.
func setID(v Value) bool { return len(v.raw) <= 4 && strings.Trim(v.raw, "0123456789") == "" }

func (m *Message) delimiters() string {
	return char(m.Delims.Component) + char(m.Delims.Repetition) + char(m.Delims.Sub)
}
