package lookout

import (
	"bytes"
	"compress/gzip"
	"context"
	"html"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"tombolo/audit"
	"tombolo/fhir"
	"tombolo/mpi"
)

// most is how much is kept of what is answered or asked: what is larger than a record is looked through to there.
const most = 1 << 20

// Answers sees what is answered. Nothing that was told in confidence, and that whoever asks did not write in the question, may be
//   - in a header, whoever asks;
//   - in an answer to who has not said who they are;
//   - in a refusal, or an answer that leads elsewhere;
//   - in any other answer, unless it is of somebody whom an entry names that was written into the audit log after the question came and before the answer's first
//     byte (no audit, no bytes).
//
// Whether those who are let in see what they may, and nothing else, is for tests to say that know who may: sim/world's canaries, and those that compare
// answers with a store that holds nothing else.
func (l *Lookout) Answers(h http.Handler) http.Handler {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.face == nil {
		l.face = h
	}
	return l.hearing(h, func(r *http.Request, q *question, header http.Header) {
		stranger := !l.o.Open && r.Header.Get("Authorization") == "" && r.Header.Get("Cookie") == "" && (r.TLS == nil || len(r.TLS.PeerCertificates) == 0)
		q.ended(header, stranger)
	})
}

// Upkeep sees what operators are answered on the socket in the data folder: they look after the store, and nobody's record is asked for there. Nothing that was
// told in confidence may be in it but what the question said.
func (l *Lookout) Upkeep(h http.Handler) http.Handler {
	return l.hearing(h, func(_ *http.Request, q *question, _ http.Header) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.later(passage{where: "an answer on the upkeep socket", text: q.answer.String(), not: q.asked.String()})
	})
}

// hearing takes down each question and its answer, and gives them to ended.
func (l *Lookout) hearing(h http.Handler, ended func(*http.Request, *question, http.Header)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		q := &question{l: l, entries: l.entries()}
		if r.Body != nil && r.Body != http.NoBody {
			r.Body = &taken{r.Body, &q.asked}
		}
		q.text = r.Method + " " + r.URL.RequestURI()
		if plain, err := url.QueryUnescape(q.text); err == nil {
			q.text += "\n" + plain
		}
		for k, v := range r.Header {
			q.text += "\n" + k + ": " + strings.Join(v, " ")
		}
		h.ServeHTTP(&writer{ResponseWriter: w, q: q}, r)
		ended(r, q, w.Header())
	})
}

// Exchange sees what came over MLLP and how it is answered: with what it said itself, or with what was recorded in the audit log before.
func (l *Lookout) Exchange(asked []byte) func(answered []byte) {
	entries := l.entries()
	question := string(asked[:min(len(asked), most)])
	return func(answered []byte) {
		if l.entries() != entries {
			return
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		l.later(passage{where: "an answer over MLLP", text: string(answered), not: question})
	}
}

// Tells sees what is sent to a system over MLLP, each message before its first byte: what the audit log says the system is told, by the message's control id,
// and of whom.
func (l *Lookout) Tells(system string) func(message []byte) {
	return func(message []byte) {
		p := passage{where: "a message over MLLP", text: string(message)}
		if named, ok := l.recorded(system, control(message)); ok {
			p.where, p.named = "a message over MLLP of somebody whom no audit entry names", named
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		l.later(p)
	}
}

// recorded reports whether the audit log says that a system is told of something in a message, and of which patients.
func (l *Lookout) recorded(system, control string) (named map[string]bool, ok bool) {
	l.mu.Lock()
	log, people := l.audit, l.people
	l.mu.Unlock()
	if log == nil || people == nil || control == "" {
		return nil, false
	}
	named = map[string]bool{}
	for e, err := range log.By(context.Background(), system, 0, 0) {
		if err != nil {
			return nil, false
		}
		if s, err := e.Summary(); err == nil && s.Kind == audit.Notified && slices.Contains(s.Said("message"), control) {
			names(people, e, named)
			ok = true
		}
	}
	return named, ok
}

// control is the id of an HL7 v2 message. HL7 v2.5.1 §2.14.9.10
func control(message []byte) string {
	if line, _, _ := bytes.Cut(message, []byte("\r")); len(line) > 3 && bytes.HasPrefix(line, []byte("MSH")) {
		if fields := bytes.Split(line, line[3:4]); len(fields) > 9 {
			return string(fields[9])
		}
	}
	return ""
}

// A question is one that is being answered.
type question struct {
	l       *Lookout
	text    string
	asked   bytes.Buffer // its body
	entries int64        // of the audit log when it came
	before  int64        // how many there were before the first byte
	status  int
	answer  bytes.Buffer
}

// taken is a body that is kept as it is read.
type taken struct {
	io.ReadCloser
	into *bytes.Buffer
}

func (t *taken) Read(p []byte) (int, error) {
	n, err := t.ReadCloser.Read(p)
	if t.into.Len() < most {
		t.into.Write(p[:n])
	}
	return n, err
}

type writer struct {
	http.ResponseWriter
	q *question
}

func (w *writer) WriteHeader(status int) {
	if w.q.status == 0 && status >= 200 {
		w.q.status = status
		w.q.before = w.q.l.entries()
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *writer) Write(p []byte) (int, error) {
	if w.q.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	if w.q.answer.Len() < most {
		w.q.answer.Write(p)
	}
	return w.ResponseWriter.Write(p)
}

func (w *writer) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// entries is how many there are in the audit log.
func (l *Lookout) entries() int64 {
	l.mu.Lock()
	log := l.audit
	l.mu.Unlock()
	if log == nil {
		return 0
	}
	h, err := log.Head(context.Background())
	if err != nil {
		return 0
	}
	return int64(h.Seq)
}

// ended looks at how a question was answered.
func (q *question) ended(header http.Header, stranger bool) {
	l := q.l
	var named map[string]bool
	if !refuses(q.status) && !stranger && q.before > q.entries {
		named = l.named(q.entries, q.before)
	}
	if strings.HasPrefix(strings.Fields(q.text)[1], "/fhir/$bulk") {
		named = nil // files of an export, which was recorded for each person as they were written
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.words.learn(q.asked.Bytes())
	head := &strings.Builder{}
	for k, v := range header {
		head.WriteString(k + ": " + strings.Join(v, " ") + "\n")
	}
	path := strings.Fields(q.text)[1]
	l.later(passage{where: "a header of an answer", text: head.String()})
	where := ""
	switch {
	case refuses(q.status):
		where = "a refusal"
	case stranger:
		where = "an answer to nobody knows whom"
	case q.before == q.entries && l.audit != nil:
		where = "an answer without audit"
	case len(named) > 0:
		where = "an answer of somebody whom no audit entry names"
	case named != nil:
		where = "an answer of which the audit log names nobody"
	default:
		return
	}
	l.later(passage{where: where + " (" + room(path) + ")", text: read(header, q.answer.Bytes()), not: q.text + "\n" + q.asked.String(), named: named})
}

// named are the ids and numbers of the patients of whom entries of the audit log are: those after one, up to another. nil if they are too many to be read.
func (l *Lookout) named(after, to int64) map[string]bool {
	l.mu.Lock()
	log, people := l.audit, l.people
	l.mu.Unlock()
	if log == nil || people == nil || to-after > 200 {
		return nil
	}
	named := map[string]bool{}
	for e, err := range log.All(context.Background(), audit.Seq(after), int(to-after)) {
		if err != nil {
			return nil
		}
		names(people, e, named)
	}
	return named
}

// names adds the patients of the person whom an entry names. Somebody who is no longer known, or not yet, is named by a number or by what was shown.
func names(people *mpi.Index, e audit.Entry, named map[string]bool) {
	ctx, id := context.Background(), e.PersonID
	if id == "" {
		s, err := e.Summary()
		if err != nil {
			return
		}
		for _, refs := range s.Said("resources") {
			for ref := range strings.FieldsSeq(refs) {
				if ref, _, _ := strings.Cut(ref, "/_history/"); fhir.Ref(ref).Type() == "Patient" {
					named[fhir.Ref(ref).ID()] = true
				}
			}
		}
		if s.NHSNumber.IsZero() {
			return
		}
		named[s.NHSNumber.Digits()] = true
		if id, err = people.Resolve(ctx, fhir.Identifier{System: fhir.SystemNHSNumber, Value: s.NHSNumber.Digits()}); err != nil {
			return
		}
	}
	if p, err := people.Person(ctx, id); err == nil {
		for _, pt := range p.Patients {
			named[pt.ID] = true
		}
	}
}

// refuses reports whether a status lets nobody see anything. Others that are errors may be about what is shown, as a form is that was not filled in right.
func refuses(status int) bool {
	switch status {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusGone, http.StatusTooManyRequests:
		return true
	}
	return status >= 300 && status < 400 || status >= 500
}

// room is the part of a node that an address leads to.
func room(path string) string {
	path, _, _ = strings.Cut(path, "?")
	parts := strings.SplitN(path, "/", 4)
	return strings.Join(parts[:min(len(parts), 3)], "/")
}

// read is what a reader makes of bytes: unpacked, and without a markup's escapes.
func read(h http.Header, body []byte) string {
	if h.Get("Content-Encoding") == "gzip" {
		if z, err := gzip.NewReader(bytes.NewReader(body)); err == nil {
			body, _ = io.ReadAll(io.LimitReader(z, most))
		}
	}
	if typ := h.Get("Content-Type"); strings.Contains(typ, "html") || strings.Contains(typ, "xml") {
		return html.UnescapeString(string(body))
	}
	return string(body)
}
