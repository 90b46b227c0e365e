package fhirapi

import (
	"bufio"
	"bytes"
	"io"
	"iter"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"tombolo/connector"
	"tombolo/fhir"
)

// fileMapping is the name and version of what Deliveries does to resources: references become relative.
const fileMapping = "fhir-file/1"

// Limits on files. A patient whose record is larger than one delivery comes in several.
const (
	maxEntry    = 16 << 20
	maxDelivery = 8 << 20
	maxContent  = 5000
)

// Deliveries reads a FHIR file for import: a Bundle (transaction, batch, collection, searchset), a single resource, or NDJSON if name, a
// file name or media type, says ndjson; gzipped or not. It yields one Delivery for each patient in the file and one for what is
// nobody's (organisations, practitioners), and a rejected one for each entry that cannot be taken, with its place and bytes. An error ends
// it: nothing after the place it names could be read, while all deliveries before it hold.
//
// The file is read twice, first for what is where, then patient by patient, so that memory holds one patient and an index,
// never the file. "urn:uuid:" references become the id of their entry, and conditional ones ("Practitioner?identifier=…")
// become references by identifier.
func Deliveries(source string, r io.Reader, name string) iter.Seq2[connector.Delivery, error] {
	return func(yield func(connector.Delivery, error) bool) {
		s, err := newSpool(r)
		if s == nil {
			yield(connector.Delivery{}, err)
			return
		}
		defer s.close()
		f := &file{spool: s, source: source, received: time.Now(), yield: yield,
			full: map[string]fhir.Ref{}, known: map[fhir.Ref]int{}, people: map[string]fhir.Ref{}}
		scanned := f.index(strings.Contains(name, "ndjson"))
		if f.stopped || !f.deliver() {
			return
		}
		if err == nil {
			err = scanned
		}
		if err != nil {
			yield(connector.Delivery{}, err)
		}
	}
}

// An entry is what the index keeps of one entry of the file.
type entry struct {
	span
	place int      // its index in the Bundle, or its line
	ref   fhir.Ref // what it is
	group string   // whose it is: a reference as the file has it, "" for nobody's
	with  string   // or: it goes with the entry of this reference
}

// file is a FHIR file being read.
type file struct {
	*spool
	source   string
	received time.Time
	yield    func(connector.Delivery, error) bool
	stopped  bool

	lines   bool // NDJSON
	single  bool // one resource that is no Bundle
	typ     string
	id      string // the Bundle's own identifier
	entries []entry
	full    map[string]fhir.Ref // by fullUrl
	known   map[fhir.Ref]int
	people  map[string]fhir.Ref // patients by system|value
	binary  map[string]string   // whose document a Binary belongs to: attachment url to subject
	deleted []fhir.Ref
}

// index reads the file once. It says what stopped it, if something did.
func (f *file) index(ndjson bool) error {
	in := bufio.NewReaderSize(io.NewSectionReader(f, 0, f.size), 256<<10)
	f.binary = map[string]string{}
	if ndjson {
		f.lines = true
		return f.stop(lines(in, func(s span, n int) bool { f.read(s, n); return !f.stopped }))
	}
	sc := &scanner{r: in}
	if bom, _ := in.Peek(3); bytes.Equal(bom, []byte("\ufeff")) {
		_, _ = in.Discard(3)
		sc.at = 3
	}
	begin, n := sc.at, 0
	h, err := sc.bundle(func(s span) bool { f.read(s, n); n++; return !f.stopped })
	typ := text(h["resourceType"])
	switch {
	case f.stopped:
	case typ != "Bundle" && n == 0 && err == nil:
		f.single = true
		f.read(span{begin, sc.at}, 0)
		return nil
	case err == nil && typ != "Bundle":
		return fhir.Errorf(fhir.Structure, "the file is a %.40q with entries; a Bundle was expected", typ)
	}
	f.typ = text(h["type"])
	if v, verr := fhir.ParseValue(h["identifier"]); verr == nil && v.Text("value") != "" {
		f.id = v.Text("system") + "|" + v.Text("value")
	}
	if !slices.Contains([]string{"", "transaction", "batch", "collection", "searchset", "document"}, f.typ) && err == nil {
		f.entries, f.known = nil, nil
		return fhir.Errorf(fhir.NotSupported, "a Bundle of type %.40q cannot be imported; export it as a collection or transaction", f.typ)
	}
	return f.stop(err)
}

func (f *file) stop(err error) error {
	if err == errStop {
		return nil
	}
	return err
}

func text(raw []byte) string {
	v, err := fhir.ParseValue(raw)
	if err != nil {
		return ""
	}
	return v.Str()
}

func (f *file) placeName(n int) string {
	if f.lines {
		return "line " + strconv.Itoa(n)
	}
	if f.single {
		return "the resource"
	}
	return "Bundle.entry[" + strconv.Itoa(n) + "]"
}

func (f *file) bytes(s span) ([]byte, error) {
	data := make([]byte, s.end-s.start)
	if _, err := f.ReadAt(data, s.start); err != nil && err != io.EOF {
		return nil, fhir.Errorf(fhir.Transient, "the file could not be read again: %w", err)
	}
	data = bytes.TrimPrefix(bytes.TrimSpace(data), []byte("\ufeff"))
	return data, nil
}

// read indexes one entry, or rejects it.
func (f *file) read(s span, n int) {
	if s.end-s.start > maxEntry {
		f.reject(nil, n, fhir.Errorf(fhir.TooLong, "the entry is larger than %d MiB and was left out", maxEntry>>20))
		return
	}
	data, err := f.bytes(s)
	if err != nil {
		f.reject(nil, n, fhir.IssueOf(err))
		return
	}
	full, res, err := f.parse(data)
	if err != nil {
		f.reject(data, n, asIssue(err))
		return
	}
	if res == nil {
		return
	}
	if _, twice := f.known[res.Ref()]; twice {
		f.reject(data, n, fhir.Errorf(fhir.Duplicate, "the same %s stands in the file before; the first was taken", res.Type()))
		return
	}
	e := entry{span: s, place: n, ref: res.Ref()}
	if err := f.whose(&e, res); err != nil {
		f.reject(data, n, asIssue(err))
		return
	}
	f.known[res.Ref()] = len(f.entries)
	if full != "" {
		f.full[full] = res.Ref()
	}
	f.entries = append(f.entries, e)
}

// parse reads an entry or line into its resource, which gets an id if only its fullUrl has one.
func (f *file) parse(data []byte) (full string, res *fhir.Resource, err error) {
	if err := fhir.CheckCost(data); err != nil {
		return "", nil, err
	}
	root, err := fhir.ParseValue(data)
	if err != nil {
		return "", nil, err
	}
	if !f.lines && !f.single {
		full = root.Text("fullUrl")
		method, at := root.Text("request.method"), root.Text("request.url")
		switch method {
		case "", "POST", "PUT":
		case "DELETE":
			ref, ok := relative(at)
			if !ok {
				return "", nil, fhir.Errorf(fhir.NotSupported, "a conditional delete cannot be imported: name the resource as Type/id").At("request.url")
			}
			f.deleted = append(f.deleted, ref)
			return "", nil, nil
		default:
			return "", nil, fhir.Errorf(fhir.NotSupported, "a %.10q entry cannot be imported; only resources can", method).At("request.method")
		}
		root = root.Member("resource")
		if !root.Exists() {
			return "", nil, fhir.Errorf(fhir.Required, "the entry has no resource").At("resource")
		}
	}
	res, err = fhir.FromValue(root)
	if err != nil {
		return "", nil, err
	}
	if res.ID() == "" {
		id := full[strings.LastIndexAny(full, ":/")+1:]
		if !fhir.ValidID(id) {
			return "", nil, fhir.Errorf(fhir.Required, "the %s has neither an id nor a fullUrl that gives one", res.Type()).At(res.Type() + ".id")
		}
		res = res.With("id", id)
	}
	if res.Type() == "OperationOutcome" {
		return "", nil, fhir.Errorf(fhir.Incomplete, "an OperationOutcome is no record: whoever wrote this file says that it is not whole")
	}
	return full, res, nil
}

// whose notes whose record a resource belongs to.
func (f *file) whose(e *entry, res *fhir.Resource) error {
	switch res.Type() {
	case "Patient":
		e.group = string(res.Ref())
		for _, id := range res.Identifiers() {
			f.people[id.System+"|"+id.Value] = res.Ref()
		}
		return nil
	case "Provenance":
		e.with = res.Text("target.reference")
		return nil
	}
	for _, s := range fhir.Subjects(res) {
		g := s.Reference
		if g == "" && s.Identifier != nil {
			id := s.Identifier.Canonical()
			g = "Patient?identifier=" + url.QueryEscape(id.System+"|"+id.Value)
		}
		if e.group != "" && g != e.group {
			return fhir.Errorf(fhir.BusinessRule, "the %s is of more than one patient; send one for each", res.Type())
		}
		e.group = g
	}
	if e.group == "" && fhir.NeedsPatient(res.Type()) {
		return fhir.Errorf(fhir.Required, "the %s does not say whose it is", res.Type()).At(res.Type() + ".subject")
	}
	if res.Type() == "DocumentReference" {
		for u := range res.Value().All("content.attachment.url") {
			f.binary[u.Str()] = e.group
		}
	}
	return nil
}

// reject hands over an entry that cannot be taken.
func (f *file) reject(raw []byte, n int, i *fhir.Issue) {
	place := f.placeName(n)
	if i.Expression != "" {
		place += ", " + i.Expression
	}
	d := connector.Delivery{Source: f.source, Received: f.received, ContentType: "application/fhir+json", Raw: raw, Map: fileMapping, Rejected: i.At(place).From(f.source)}
	f.stopped = f.stopped || !f.yield(d, nil)
}

// resolve turns a reference as the file has it into Type/id; ok is false if it leads out of the file or nowhere.
func (f *file) resolve(ref string) (fhir.Ref, bool) {
	if r, ok := f.full[ref]; ok {
		return r, true
	}
	if r, ok := relative(ref); ok {
		return r, true
	}
	if typ, token, ok := conditional(ref); ok && typ == "Patient" {
		id := fhir.Identifier{System: token.System, Value: token.Value}.Canonical()
		r, ok := f.people[id.System+"|"+id.Value]
		return r, ok
	}
	return "", false
}

// conditional reads "Practitioner?identifier=http://x|123". FHIR R4 http.html#trules
func conditional(ref string) (typ string, id fhir.Identifier, ok bool) {
	typ, query, found := strings.Cut(ref, "?")
	if !found || !fhir.IsType(typ) {
		return "", id, false
	}
	v, err := url.ParseQuery(query)
	if err != nil || len(v) != 1 || len(v["identifier"]) != 1 {
		return typ, id, true
	}
	system, value, has := strings.Cut(v.Get("identifier"), "|")
	if !has {
		system, value = "", system
	}
	return typ, fhir.Identifier{System: system, Value: value}, true
}
