package fhir

import (
	"bytes"
	"encoding/json"
	"iter"
	"strconv"
)

// An Entry is one entry of a Bundle.
type Entry struct {
	FullURL  string
	Resource *Resource
	Mode     string // search.mode: match, include, outcome; may be empty
	Method   string // request.method of a transaction or batch; may be empty
	URL      string // request.url
}

// Entries yields a Bundle's entries in order. An entry without a resource has a nil Resource; one whose
// resource is broken yields the error, naming the entry, and reading goes on.
//
// FHIR R4 bundle.html
func Entries(bundle Value) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		i := 0
		for e := range bundle.All("entry") {
			en := Entry{
				FullURL: e.Text("fullUrl"), Mode: e.Text("search.mode"),
				Method: e.Text("request.method"), URL: e.Text("request.url"),
			}
			var err error
			if rv := e.Member("resource"); rv.Exists() {
				if en.Resource, err = FromValue(rv); err != nil {
					err = IssueOf(err).At("Bundle.entry[" + strconv.Itoa(i) + "].resource")
				}
			}
			if !yield(en, err) {
				return
			}
			i++
		}
	}
}

// A BundleWriter assembles a Bundle by splicing the bytes of its resources: nothing is parsed or marshalled again.
type BundleWriter struct {
	buf     bytes.Buffer
	entries int
	base    string
}

// NewBundle starts a Bundle of the given type. base is the service's base URL, from which fullUrl is made; with
// "" entries carry no fullUrl. size is a guess at the bytes to come. total < 0 leaves total out.
func NewBundle(typ, base string, total, size int, links ...Link) *BundleWriter {
	w := &BundleWriter{base: base}
	w.buf.Grow(size + 512)
	w.buf.WriteString(`{"resourceType":"Bundle","type":"` + typ + `"`)
	if total >= 0 {
		w.buf.WriteString(`,"total":` + strconv.Itoa(total))
	}
	if len(links) > 0 {
		w.buf.WriteString(`,"link":`)
		w.buf.Write(mustJSON(links))
	}
	return w
}

// Len is how many bytes the Bundle has so far.
func (w *BundleWriter) Len() int { return w.buf.Len() }

// A Link of a Bundle. FHIR R4 bundle-definitions.html#Bundle.link
type Link struct {
	Relation string `json:"relation"`
	URL      string `json:"url"`
}

// Add appends a resource with the given search mode ("" for none).
func (w *BundleWriter) Add(r *Resource, mode string) {
	if w.entries == 0 {
		w.buf.WriteString(`,"entry":[{`)
	} else {
		w.buf.WriteString(`,{`)
	}
	w.entries++
	if w.base != "" && r.ID() != "" {
		w.buf.WriteString(`"fullUrl":"` + w.base + "/" + string(r.Ref()) + `",`)
	}
	w.buf.WriteString(`"resource":`)
	w.buf.Write(r.Raw())
	if mode != "" {
		w.buf.WriteString(`,"search":{"mode":"` + mode + `"}`)
	}
	w.buf.WriteByte('}')
}

// EntryParts are the parts of an entry that is more than a search's answer. FHIR R4 bundle-definitions.html#Bundle.entry
type EntryParts struct {
	FullURL           string
	Resource          []byte // its JSON; nil if there is none
	Mode              string // search.mode
	Search            M      // all of search, where there is more to say than the mode
	Request, Response M
}

// AddEntry appends an entry of a history, or of a transaction's answer.
func (w *BundleWriter) AddEntry(e EntryParts) {
	if w.entries == 0 {
		w.buf.WriteString(`,"entry":[{`)
	} else {
		w.buf.WriteString(`,{`)
	}
	w.entries++
	comma := ""
	part := func(name string, value []byte) {
		w.buf.WriteString(comma + `"` + name + `":`)
		w.buf.Write(value)
		comma = ","
	}
	if e.FullURL != "" {
		part("fullUrl", mustJSON(e.FullURL))
	}
	if e.Resource != nil {
		part("resource", e.Resource)
	}
	switch {
	case e.Search != nil:
		part("search", mustJSON(e.Search))
	case e.Mode != "":
		part("search", mustJSON(M{"mode": e.Mode}))
	}
	if e.Request != nil {
		part("request", mustJSON(e.Request))
	}
	if e.Response != nil {
		part("response", mustJSON(e.Response))
	}
	w.buf.WriteByte('}')
}

// Bytes closes the Bundle and gives its JSON. Call it once.
func (w *BundleWriter) Bytes() []byte {
	if w.entries > 0 {
		w.buf.WriteByte(']')
	}
	w.buf.WriteByte('}')
	return w.buf.Bytes()
}

// JSON marshals any value the way this program writes JSON (no HTML escaping). It panics on what cannot be
// JSON, which is a mistake in the calling code.
func JSON(v any) json.RawMessage { return mustJSON(v) }
