package extract

import (
	"bytes"
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"fmt"
	"io"
	"iter"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"tombolo/connector"
	"tombolo/fhir"
)

// Deliveries reads one CSV file row by row and yields a delivery for each: what the mapping makes of it, or, for a row that cannot be
// used, Rejected with the row and column. Reading goes on after a bad row.
//
// name is the file's name, by which the mapping finds what it means; "@" and the moment of the extract may follow it
// (contacts.csv@20260401T020000Z). With the row's key it makes Delivery.ID, so that the same extract read again gives the same
// deliveries, while a row that goes back to what it said last week is new. open finds documents that rows name; nil if there
// are none.
//
// When the whole file must be refused the last pair holds both an error and a delivery, Rejected, with the file's beginning as Raw, for the
// quarantine. An error of type fhir.Transient means that the file could not be read to its end: read it again.
func Deliveries(source string, m *Mapping, name string, r io.Reader, open func(name string) (io.ReadCloser, error)) iter.Seq2[connector.Delivery, error] {
	return func(yield func(connector.Delivery, error) bool) {
		x := &extraction{source: source, mapping: m, open: open, cells: &cells{decoder: new(decoder)}}
		x.name = path.Base(filepath.ToSlash(name))
		base, _, _ := strings.Cut(x.name, "@")
		issue := x.begin(base, r)
		if issue != nil {
			d := x.refused(issue)
			if issue.Type == fhir.Transient {
				d = connector.Delivery{}
			}
			yield(d, issue)
			return
		}
		bad := 0
		for {
			row, err := x.scanner.next()
			if errors.Is(err, io.EOF) {
				return
			}
			if err != nil {
				yield(connector.Delivery{}, fhir.Errorf(fhir.Transient, "read %s after row %d: %w", x.name, x.scanner.number, err))
				return
			}
			d, ok := x.delivery(row)
			if ok && !yield(d, nil) {
				return
			}
			if d.Rejected == nil {
				bad = 0
			} else if bad++; bad == mostBad {
				issue := fhir.Errorf(fhir.Structure, "%d rows one after the other could not be taken, so the rest of the file is not read: is a quotation mark left open, or is this another system's layout? Mend the file and send it again", mostBad).
					At(fmt.Sprintf("row %d", row.number))
				yield(x.refused(issue), issue)
				return
			}
		}
	}
}

// mostBad is how many bad rows, one after the other, are put aside singly before the file is given up: a quote that never closes makes every
// later line of a large file a bad row, and would hold up the feed.
const mostBad = 1000

// An extraction is one reading of one file.
type extraction struct {
	source  string
	name    string
	mapping *Mapping
	file    *file
	open    func(string) (io.ReadCloser, error)
	scanner *scanner
	cells   *cells
	header  []byte // as it was recoded to be cut
	columns []string
	head    []byte // the beginning of the file, while it may still be refused
	warning []*fhir.Issue
}

// refused is the whole file as one delivery for the quarantine.
func (x *extraction) refused(issue *fhir.Issue) connector.Delivery {
	return connector.Delivery{Source: x.source, ID: x.name, Received: time.Now(), ContentType: "text/csv", Raw: x.head, Map: x.mapping.version(), Rejected: issue}
}

func (m *Mapping) version() string { return "extract-" + m.Name }

// delivery is what one row makes; ok is false for a row of empty cells.
func (x *extraction) delivery(row *row) (d connector.Delivery, ok bool) {
	c := x.cells
	c.row, c.patient, c.doc = row, "", nil
	clear(c.seen)
	d = connector.Delivery{Source: x.source, Received: time.Now(), Map: x.mapping.version(), ID: fmt.Sprintf("%s#row-%d", x.name, row.number)}
	issue := x.readable(row)
	if issue == nil {
		if x.vacant() {
			return d, false
		}
		if issue = x.fill(&d); issue != nil {
			d.Content, d.Delete = nil, nil
			if issue.Expression == "" {
				issue = issue.At(fmt.Sprintf("row %d", row.number))
			}
		}
	}
	d.Rejected = issue
	d.Raw = c.decoder.arrived(x.header, row.raw)
	d.ContentType = c.decoder.contentType()
	d.Issues, x.warning = x.warning, nil
	return d, true
}

// readable checks the row before anything is made of it.
func (x *extraction) readable(row *row) *fhir.Issue {
	at := fmt.Sprintf("row %d", row.number)
	if row.bad != nil {
		return row.bad.At(at)
	}
	if issue := x.cells.decoder.check(row.raw); issue != nil {
		return issue.At(at)
	}
	if controls(row.raw) {
		return fhir.Errorf(fhir.Structure, "the row has a control character that no text may hold").At(at)
	}
	n := len(row.spans)
	for n > len(x.columns) && row.spans[n-1].start == row.spans[n-1].end {
		n-- // trailing commas
	}
	if n == len(x.columns) {
		return nil
	}
	hint := "is a cell with the delimiter or a line break in it not in quotation marks?"
	if row.last && n < len(x.columns) {
		hint = "the file ends in the middle of this row: was it cut off?"
	}
	return fhir.Errorf(fhir.Structure, "the row has %d cells where the header has %d; %s", n, len(x.columns), hint).At(at)
}

func controls(b []byte) bool {
	for _, c := range b {
		if c < 0x20 && c != '\t' && c != '\n' && c != '\r' || c == 0x7f {
			return true
		}
	}
	return false
}

func (x *extraction) vacant() bool {
	for _, s := range x.cells.row.spans {
		if len(bytes.TrimSpace(x.cells.row.raw[s.start:s.end])) > 0 {
			return false
		}
	}
	return true
}

// fill makes the row's resources.
func (x *extraction) fill(d *connector.Delivery) *fhir.Issue {
	c, f := x.cells, x.file
	var parts, told []string
	for _, k := range f.key {
		v, err := x.eval(k)
		if err != nil {
			return err
		}
		if v.kind == absent {
			return x.empty(k, "the key is empty: it must tell this row from all others")
		}
		parts = append(parts, v.str())
		told = append(told, unrevealing(v.str()))
	}
	key := strings.Join(parts, "-")
	d.ID = x.name + "#" + strings.Join(told, "-")
	who, err := x.eval(f.id)
	if err != nil {
		return err
	}
	if who.kind == absent {
		return x.empty(f.id, "the row does not say which patient it is about")
	}
	d.Patient = fhirID(who.str())
	c.patient = "Patient/" + d.Patient
	if f.removed != nil {
		gone, err := x.eval(f.removed)
		if err != nil {
			return err
		}
		if gone.truth() {
			return x.remove(d, key)
		}
	}
	if f.patient != nil {
		r, issue := x.resource(f.patient, d.Patient)
		if issue != nil {
			return issue
		}
		d.Content = append(d.Content, r)
	}
	for _, mk := range f.make {
		if issue := x.make(d, mk, key); issue != nil {
			return issue
		}
	}
	return nil
}

func (x *extraction) empty(e *expr, why string) *fhir.Issue {
	return x.blamed(&columnError{e.column, why})
}

func (x *extraction) eval(e *expr) (value, *fhir.Issue) {
	v, err := e.eval(x.cells)
	if err != nil {
		return nothing, x.blamed(err)
	}
	return v, nil
}

func (x *extraction) blamed(err error) *fhir.Issue {
	at := fmt.Sprintf("row %d", x.cells.row.number)
	issue := fhir.IssueOf(err)
	if issue == nil {
		issue = fhir.Errorf(fhir.ValueError, "%s", err)
	}
	if ce, ok := err.(*columnError); ok && ce.column != "" {
		at += ", column " + ce.column
	}
	return issue.At(at)
}

func (x *extraction) id(mk *maker, key string) (string, *fhir.Issue) {
	if mk.id == nil {
		return fhirID(key), nil
	}
	v, err := x.eval(mk.id)
	if err != nil {
		return "", err
	}
	if v.kind == absent {
		return "", x.empty(mk.id, "the id is empty")
	}
	return fhirID(v.str()), nil
}

// remove makes the deletions of a row that the source has taken back.
func (x *extraction) remove(d *connector.Delivery, key string) *fhir.Issue {
	for _, mk := range x.file.make {
		id, issue := x.id(mk, key)
		if issue != nil {
			return issue
		}
		refs := []fhir.Ref{fhir.MakeRef(mk.typ, id)}
		if mk.file != nil {
			refs = append(refs, fhir.MakeRef("Binary", id))
		}
		for _, ref := range refs {
			if !slices.Contains(d.Delete, ref) {
				d.Delete = append(d.Delete, ref)
			}
		}
	}
	return nil
}

// make adds what one entry of the make list gives.
func (x *extraction) make(d *connector.Delivery, mk *maker, key string) *fhir.Issue {
	if mk.when != nil {
		v, issue := x.eval(mk.when)
		if issue != nil || !v.truth() {
			return issue
		}
	}
	id, issue := x.id(mk, key)
	if issue != nil {
		return issue
	}
	if mk.file != nil {
		if issue := x.attach(mk, id); issue != nil {
			return issue
		}
	}
	r, issue := x.resource(mk, id)
	if issue != nil {
		return issue
	}
	for _, other := range d.Content {
		if other.Ref() == r.Ref() {
			return fhir.Errorf(fhir.Duplicate, "the row makes two resources of type %s with one id: their when: conditions overlap", mk.typ)
		}
	}
	d.Content = append(d.Content, r)
	if mk.file == nil {
		return nil
	}
	doc, err := x.cells.doc.binary(id, x.cells.patient, r.Get("meta"))
	x.cells.doc = nil
	if err != nil {
		return fhir.IssueOf(err)
	}
	d.Content = append(d.Content, doc)
	return nil
}

func (x *extraction) attach(mk *maker, id string) *fhir.Issue {
	name, issue := x.eval(mk.file)
	if issue != nil {
		return issue
	}
	if name.kind == absent {
		return x.empty(mk.file, "the row does not name its file")
	}
	doc, err := attach(name.str(), mk.types, x.open)
	if err != nil {
		issue := fhir.IssueOf(err)
		at := fmt.Sprintf("row %d", x.cells.row.number)
		if mk.file.column != "" {
			at += ", column " + mk.file.column
		}
		return issue.At(at)
	}
	doc.url = "Binary/" + id
	x.cells.doc = doc
	return nil
}

func (x *extraction) resource(mk *maker, id string) (*fhir.Resource, *fhir.Issue) {
	b := make([]byte, 0, 1024)
	b = quote(append(b, `{"resourceType":`...), mk.typ)
	b = quote(append(b, `,"id":`...), id)
	for _, k := range mk.root.kids {
		before := len(b)
		b = append(quote(append(b, ','), k.name), ':')
		var ok bool
		var err error
		if b, ok, _, err = k.write(b, x.cells); err != nil {
			return nil, x.blamed(err)
		}
		if !ok {
			b = b[:before]
		}
	}
	r, err := fhir.Parse(append(b, '}'))
	if err != nil {
		return nil, x.blamed(err)
	}
	return r, nil
}

var derived = base32.NewEncoding("0123456789abcdefghjkmnpqrstvwxyz").WithPadding(base32.NoPadding)

// fhirID makes the source's own number into a FHIR id: itself, if it can be one and is nobody's NHS number, else a digest of it.
// FHIR R4 datatypes.html#id
func fhirID(s string) string {
	if fhir.ValidID(s) && !holdsNHSNumber(s) {
		return s
	}
	sum := sha256.Sum256([]byte(s))
	return "x-" + derived.EncodeToString(sum[:20])
}

// unrevealing keeps NHS numbers and overlong keys out of delivery ids, which operators see.
func unrevealing(key string) string {
	if len(key) > 128 || strings.ContainsAny(key, "\r\n") {
		return fhirID(key)
	}
	if holdsNHSNumber(key) {
		return fhirID("key|" + key)
	}
	return key
}

var joiners = strings.NewReplacer(" ", "", "-", "")

// holdsNHSNumber reports whether a run of digits in s, blanks and dashes aside, could be somebody's NHS number.
func holdsNHSNumber(s string) bool {
	digits := 0
	for _, c := range s {
		if c >= '0' && c <= '9' {
			digits++
		}
	}
	if digits < 10 {
		return false
	}
	for run := range strings.FieldsFuncSeq(joiners.Replace(s), func(r rune) bool { return r < '0' || r > '9' }) {
		if _, err := fhir.ParseNHSNumber(run); err == nil {
			return true
		}
	}
	return false
}
