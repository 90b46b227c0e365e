package lookout

import (
	"bytes"
	"encoding/base64"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

// Outward sees what is asked of others. Numbers, names and birth dates stand in no address, but numbers where GP Connect is asked for a patient, and all
// three where PDS is, and in no header; they may stand in a body, by which
// people are asked about. What was written of anybody is in none of them.
func (l *Lookout) Outward(to http.RoundTripper) http.RoundTripper { return asks{l, to} }

type asks struct {
	l  *Lookout
	to http.RoundTripper
}

func (a asks) RoundTrip(r *http.Request) (*http.Response, error) {
	a.l.asks(r)
	resp, err := a.to.RoundTrip(r)
	if err == nil && strings.Contains(resp.Header.Get("Content-Type"), "json") {
		b := &answer{ReadCloser: resp.Body, l: a.l}
		resp.Body = b
		a.l.mu.Lock()
		a.l.heard = append(a.l.heard, &b.read)
		a.l.mu.Unlock()
	}
	return resp, err
}

func (a asks) CloseIdleConnections() {
	if c, ok := a.to.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

// asks takes down a question.
func (l *Lookout) asks(r *http.Request) {
	head := &strings.Builder{}
	for k, v := range r.Header {
		head.WriteString(k + ": " + claims(strings.Join(v, " ")) + "\n")
	}
	var body []byte
	if r.GetBody != nil {
		if b, err := r.GetBody(); err == nil {
			body, _ = io.ReadAll(io.LimitReader(b, most))
			_ = b.Close()
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.closed {
		l.asked[r.URL.String()] = true
	}
	l.later(passage{where: "a header of a question", text: head.String()})
	if len(body) > 0 {
		l.later(passage{where: "a question", text: unpacked(string(body)), but: who})
	}
}

// Audited sees what is sent to the audit repository by syslog. There stand, as in the audit log, who asked whom about what, whose record by which numbers, and the
// request as it was made, which may ask for people by name and birth date. What was written of anybody does not.
func (l *Lookout) Audited(message []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	text := string(message)
	for _, query := range queries.FindAllStringSubmatch(text, -1) {
		l.later(passage{where: "a request in a message to the audit repository", text: unpacked(query[1]), but: who})
	}
	l.later(passage{where: "a message to the audit repository", text: unpacked(queries.ReplaceAllString(text, "")), but: but(aNumber)})
}

// queries are the requests in a DICOM audit message. DICOM PS3.15 §A.5.1
var queries = regexp.MustCompile(`<ParticipantObjectQuery>([^<]*)</ParticipantObjectQuery>`)

// packed is what may be text in base64.
var packed = regexp.MustCompile(`[A-Za-z0-9+/]{8,}={0,2}`)

// unpacked is a text with what stands in it in base64.
func unpacked(text string) string {
	var all strings.Builder
	all.WriteString(text)
	for _, word := range packed.FindAllString(text, -1) {
		if plain, err := base64.StdEncoding.DecodeString(word); err == nil && utf8.Valid(plain) {
			all.WriteString("\n")
			all.Write(plain)
		}
	}
	return all.String()
}

// who is by what people are asked about.
var who = but(aNumber, aLocal, aName, aGiven, aWhole, aBirth)

// claims is a header with what its signed tokens say.
func claims(header string) string {
	for word := range strings.FieldsSeq(header) {
		for part := range strings.SplitSeq(word, ".") {
			if text, err := base64.RawURLEncoding.DecodeString(part); err == nil && bytes.HasPrefix(text, []byte("{")) {
				header += " " + string(text)
			}
		}
	}
	return header
}

// An answer is kept as it is read, as long as it is no larger than a record is.
type answer struct {
	io.ReadCloser
	l    *Lookout
	read bytes.Buffer
}

func (a *answer) Read(p []byte) (int, error) {
	n, err := a.ReadCloser.Read(p)
	a.l.mu.Lock()
	defer a.l.mu.Unlock()
	if a.read.Len() < most {
		a.read.Write(p[:n])
		a.l.waiting += n
	}
	return n, err
}

// address is a URL that was asked.
func (l *Lookout) address(u string) passage {
	p := passage{where: "an address that is asked", text: u}
	below := func(path string) func(string) bool {
		return func(at string) bool { return strings.HasPrefix(u, strings.TrimSuffix(at, "/")+path) }
	}
	switch {
	case slices.ContainsFunc(l.pds, below("/Patient")):
		p.but = who
	case slices.ContainsFunc(l.found, below("/Patient?identifier=")):
		p.but = but(aNumber)
	}
	if plain, err := url.QueryUnescape(u); err == nil {
		p.text = plain
	}
	return p
}
