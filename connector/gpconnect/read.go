package gpconnect

import (
	"bytes"
	"errors"
	"io"
	"slices"

	"github.com/go-json-experiment/json/jsontext"

	"tombolo/fhir"
)

// Read is Convert for a bundle while it arrives. Each entry is read, converted and let go before the next is looked at, so that what is held
// beside the R4 that comes out is the largest single entry and a few words about each of the others. What cannot be told from an entry by
// itself is settled at the end: a reference may point forwards, the Patient may stand last, and the report of which a result is part may come
// after it. So nothing is handed on before the bundle has ended, and a bundle that is broken off is refused as a whole.
//
// No more than most bytes are read (an issue of type TooLong). An error of r comes back as it is.
func Read(r io.Reader, most int64) (*Converted, error) { return newConverter(false).read(r, most) }

func (c *converter) read(r io.Reader, most int64) (*Converted, error) {
	in := &bounded{r: r, left: most, most: most}
	if err := c.document(in); err != nil {
		return nil, err
	}
	return c.finish(in.most - in.left)
}

// A bounded reader gives no more than it may, remembers why it stopped, and counts what has the cost of a value.
type bounded struct {
	r          io.Reader
	left, most int64
	parts      int64
	err        error // other than io.EOF
}

func (b *bounded) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	n, err := b.r.Read(p[:min(int64(len(p)), b.left+1)])
	if b.left -= int64(n); b.left < 0 {
		err = tooLong(b.most)
	}
	b.parts += int64(parts(p[:n]))
	if read := b.most - b.left; b.parts > 10_000+read/10 {
		err = tooDense()
	}
	if err != nil && err != io.EOF {
		b.err = err
	}
	return n, err
}

// parts counts what begins or ends a value. A tree costs some fifty bytes a value. Records have one in twenty bytes or more; an answer of
// nothing but zeros has one in two.
func parts(b []byte) int {
	return bytes.Count(b, []byte{','}) + bytes.Count(b, []byte{'{'}) + bytes.Count(b, []byte{'['})
}

func tooDense() *fhir.Issue {
	return fhir.Errorf(fhir.TooCostly, "the practice's answer has more parts than any record: it was not read")
}

func tooLong(most int64) *fhir.Issue {
	return fhir.Errorf(fhir.TooLong, "the practice's answer is larger than the %d MiB that this system takes from one source", most>>20)
}

// A walk goes through the members of a bundle.
type walk struct {
	c       *converter
	d       *jsontext.Decoder
	in      *bounded
	scratch fhir.Scratch
}

// document reads the bundle and takes each of its entries.
func (c *converter) document(in *bounded) error {
	// What stands twice, and what is not UTF-8, is found when an entry is read; see member for the bundle's own.
	w := &walk{c: c, in: in, d: jsontext.NewDecoder(in, jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))}
	if w.d.PeekKind() != '{' {
		if _, err := w.d.ReadToken(); err != nil {
			return w.wrong(err)
		}
		return notABundle()
	}
	if _, err := w.d.ReadToken(); err != nil {
		return w.wrong(err)
	}
	var seen []string
	isBundle := false
	for w.d.PeekKind() == '"' {
		tok, err := w.d.ReadToken()
		if err != nil {
			return w.wrong(err)
		}
		name := tok.String()
		if slices.Contains(seen, name) || len(seen) > mostMembers {
			return fhir.Errorf(fhir.Structure, "not valid JSON: a member name stands twice in the Bundle, or it has more than a Bundle can have").At("Bundle")
		}
		seen = append(seen, name)
		if err := w.member(name, &isBundle); err != nil {
			return err
		}
	}
	if _, err := w.d.ReadToken(); err != nil {
		return w.wrong(err)
	}
	if !isBundle {
		return notABundle()
	}
	if _, err := w.d.ReadToken(); err != io.EOF {
		if err == nil {
			return fhir.Errorf(fhir.Structure, "not valid JSON: something follows the end of the document at byte %d", w.d.InputOffset())
		}
		return w.wrong(err)
	}
	return nil
}

// mostMembers is what a Bundle may have of members of its own: a dozen, and extensions of them.
const mostMembers = 64

// member reads one member of the bundle. Those that say nothing of a resource are passed over without being kept.
func (w *walk) member(name string, isBundle *bool) error {
	switch {
	case name == "resourceType":
		raw, err := w.d.ReadValue()
		if err != nil {
			return w.wrong(err)
		}
		if *isBundle = string(raw) == `"Bundle"`; !*isBundle {
			return notABundle()
		}
		return nil
	case name == "entry" && w.d.PeekKind() == '[':
		if _, err := w.d.ReadToken(); err != nil {
			return w.wrong(err)
		}
		for k := w.d.PeekKind(); k != ']'; k = w.d.PeekKind() {
			if err := w.entry(); err != nil {
				return err
			}
		}
		_, err := w.d.ReadToken()
		return w.wrong(err)
	case name == "entry":
		return w.entry()
	}
	return w.wrong(w.d.SkipValue())
}

// entry reads one item of Bundle.entry and takes it.
func (w *walk) entry() error {
	raw, err := w.d.ReadValue()
	if err != nil {
		return w.wrong(err)
	}
	v, err := w.scratch.Value(raw)
	if err != nil {
		return w.at(err)
	}
	for e := range v.All("") {
		if err := w.c.take(e); err != nil {
			return err
		}
	}
	return nil
}

// at says in which entry something is wrong.
func (w *walk) at(err error) error {
	if is := fhir.IssueOf(err); is != nil {
		return is.At(entryAt(w.c.n))
	}
	return err
}

// wrong is an error of the decoder in this program's terms, nil for nil. What JSON holds is never quoted.
func (w *walk) wrong(err error) error {
	if err == nil {
		return nil
	}
	if w.in.err != nil {
		return w.in.err
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return w.at(fhir.Errorf(fhir.Structure, "not valid JSON: it ends too early, at byte %d; was it cut off?", w.in.most-w.in.left))
	}
	at := w.d.InputOffset()
	if se := (*jsontext.SyntacticError)(nil); errors.As(err, &se) {
		at = se.ByteOffset
	}
	return w.at(fhir.Errorf(fhir.Structure, "not valid JSON: syntax error at byte %d", at))
}
