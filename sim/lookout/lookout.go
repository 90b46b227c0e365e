// Package lookout looks whether anything that was told to a node in confidence comes out of it where whoever reads there may not have it: in a log line, a
// metric, the name or the content of a file, an address or a header, an answer to somebody who was not let in or whose reading of that person's record nobody recorded,
// a message, or a question to somebody else. It learns what is confidential from what the node keeps, so that whatever a test delivers is a canary, and asks neither policy nor audit
// what may be seen.
//
// It is always on: package lookout/nodes puts one over each node that a test starts; fixtures without a node put one over what they serve. Only tests use it.
package lookout

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"tombolo/audit"
	"tombolo/connector"
	"tombolo/events"
	"tombolo/fhir"
	"tombolo/intake"
	"tombolo/mpi"
	"tombolo/region"
	"tombolo/store"
)

// Options of a Lookout. Zero options work.
type Options struct {
	Name   string         // who is watched, for whoever reads the report
	Region *region.Region // what it says of itself is no secret, even if somebody is called like it
	Folder string         // where the node keeps what it keeps; "" if nothing is kept in files
	Open   bool           // nobody has to sign in
	Report func(leak string)
}

// A Lookout is over one node.
type Lookout struct {
	o     Options
	pds   []string // where people are asked about by their numbers, names and birth dates: PDS's API says that they stand in the address
	found []string // where they are asked about by their numbers, as its API says. GP Connect 1.6 foundations_use_case_find_a_patient.html

	mu      sync.Mutex
	words   words
	log     bytes.Buffer
	asked   map[string]bool // URLs
	pending []passage
	waiting int             // bytes that are pending
	heard   []*bytes.Buffer // what was answered, by those who keep their record themselves
	told    map[string]bool
	face    http.Handler // the first, which has the metrics
	closed  bool

	db      *store.DB
	people  *mpi.Index
	audit   *audit.Log
	learned events.Seq
	seen    int // resources that were delivered
	spreads int // how many words may yet be looked for in all that is kept
}

// A passage is something that went out, and what it may hold.
type passage struct {
	where string
	text  string
	but   func(what string) bool // may be there; nil: nothing may
	not   string                 // what it answers, the words of which are no news to who asked
	named map[string]bool        // whose words may be there; nil: whoever's that is asked about otherwise
}

// New is a lookout over a node, or over what stands for one.
func New(o Options) *Lookout {
	l := &Lookout{o: o, spreads: 64, asked: map[string]bool{}, told: map[string]bool{}}
	if o.Report == nil {
		l.o.Report = report
	}
	if o.Region != nil {
		known, err := json.Marshal(o.Region)
		if err != nil {
			l.o.Report(fmt.Sprintf("the lookout over %s cannot read its region: %v", o.Name, err))
		}
		l.words.known = strings.ToLower(string(known))
		for _, s := range o.Region.Systems {
			switch s.Connector {
			case "pds":
				l.pds = append(l.pds, s.Address)
			case "gpconnect":
				for _, root := range []string{"documents", "appointments"} {
					if at := s.Options[root]; at != "" {
						l.found = append(l.found, at)
					}
				}
			}
		}
	}
	return l
}

// Log is a handler that takes down each line, at whatever level, and hands it on.
func (l *Lookout) Log(also slog.Handler) slog.Handler {
	return slog.NewMultiHandler(slog.NewTextHandler((*logged)(l), &slog.HandlerOptions{Level: slog.LevelDebug}), also)
}

// logged is a lookout as its node's log.
type logged Lookout

func (l *logged) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.log.Write(line)
}

// Open says what is kept by whoever is watched. log may be nil: then nothing is asked of it.
func (l *Lookout) Open(db *store.DB, log *audit.Log) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.db, l.audit = db, log
	if db != nil {
		l.people = mpi.New(db, connector.Stamper{})
	}
}

// Seed tells a lookout of resources that whoever is watched has otherwise than from its store.
func (l *Lookout) Seed(resources ...*fhir.Resource) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range resources {
		l.words.learn(r.Raw())
	}
}

// Known says what is no secret, as a published name is not, even if somebody is called like it. It is said before that is delivered.
func (l *Lookout) Known(text ...string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.words.known += "\n" + strings.ToLower(strings.Join(text, "\n"))
}

// Close looks through everything that was said, asked and left behind. What is kept is still open. It may be called twice.
func (l *Lookout) Close() {
	metrics := ""
	if l.face != nil {
		metrics = get(l.face, "/metrics")
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	l.closed = true
	l.look()
	l.held()
	l.nothing(passage{where: "a metric", text: metrics})
	l.files()
	l.nothing(passage{where: "the log", text: l.plain(l.log.String())})
	for u := range l.asked {
		l.nothing(l.address(u))
	}
	pool(&l.words)
	l.log, l.pending, l.db, l.audit = bytes.Buffer{}, nil, nil, nil
}

// get is what a page tells this machine.
func get(h http.Handler, path string) string {
	r, w := httptest.NewRequest(http.MethodGet, path, nil), httptest.NewRecorder()
	r.RemoteAddr = "127.0.0.1:1"
	h.ServeHTTP(w, r)
	return w.Body.String()
}

// plain is text without the folder's name, which has the test's name in it.
func (l *Lookout) plain(text string) string {
	if l.o.Folder == "" {
		return text
	}
	return strings.ReplaceAll(text, l.o.Folder, "")
}

// Of so many resources each is learned; of those after them one in sparse, so that a test of very many does not take twice as long.
const (
	all    = 5_000
	sparse = 16
)

// look learns what has come since it last looked, and looks through what waits to be looked through.
func (l *Lookout) look() {
	ctx := context.Background()
	if l.db != nil {
		for e, err := range l.db.Since(ctx, l.learned) {
			if err != nil {
				break // a store with a fault, as in tests of faults: what could be read is known
			}
			l.learned = e.Seq
			if l.seen++; l.seen > all && l.seen%sparse != 0 || impersonal[e.Ref.Type()] {
				continue
			}
			if r, err := l.db.ReadVersion(ctx, e.Ref, e.Version); err == nil {
				l.words.owner = cmp.Or(e.Patient, anybody)
				l.words.learn(r.Raw())
			}
		}
	}
	l.words.owner = anybody // of whom a live source told is not taken apart
	for _, b := range l.heard {
		l.words.learn(b.Bytes())
	}
	l.words.owner = ""
	for _, p := range l.pending {
		l.nothing(p)
	}
	l.heard, l.pending, l.waiting = nil, nil, 0
}

// held learns the words of what could not be taken, or not all of it.
func (l *Lookout) held() {
	if l.db == nil || l.o.Region == nil {
		return
	}
	in := intake.New(intake.Options{Store: l.db, Region: l.o.Region})
	waits, err := in.Quarantine(context.Background(), all)
	if err != nil {
		return
	}
	for _, q := range waits {
		if raw, err := in.Raw(context.Background(), q.Hash); err == nil {
			l.words.learnRaw(raw)
		}
	}
}

// files looks through what lies in the folder: each file's name, whether others on the machine may read it, and the words of all but the store.
func (l *Lookout) files() {
	if l.o.Folder == "" {
		return
	}
	_ = filepath.WalkDir(l.o.Folder, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil
		}
		name := filepath.ToSlash(strings.TrimPrefix(path, l.o.Folder))
		l.nothing(passage{where: "a file's name", text: name})
		info, err := d.Info()
		switch {
		case err != nil || path == l.o.Folder:
		case d.IsDir() && info.Mode().Perm()&0o077 == 0 && name == "/store":
			return fs.SkipDir // nobody else gets in, and here is where everything is kept
		case info.Mode().IsRegular():
			if info.Mode().Perm()&0o007 != 0 && l.others(path) {
				l.tell("a file that others on the machine may read", "what is kept", name)
			}
			if info.Size() < most {
				if text, err := os.ReadFile(path); err == nil {
					l.nothing(passage{where: "a file", text: string(text)})
				}
			}
		}
		return nil
	})
}

// others reports whether somebody else gets as far as to a file below the folder.
func (l *Lookout) others(path string) bool {
	for dir := filepath.Dir(path); len(dir) > len(l.o.Folder); dir = filepath.Dir(dir) {
		if info, err := os.Stat(dir); err == nil && info.Mode().Perm()&0o001 == 0 {
			return false
		}
	}
	return true
}

// later has a passage looked through once it is known what is confidential. The lock is held.
func (l *Lookout) later(p passage) {
	if l.closed {
		return
	}
	l.pending = append(l.pending, p)
	if l.waiting += len(p.text) + len(p.not); l.waiting > 32*most {
		l.look()
	}
}

// nothing says so, once for each, if there are secrets in a passage but those that belong there.
func (l *Lookout) nothing(p passage) {
	asked := ""
	for _, f := range append(l.words.in(p.text), hidden(p.text)...) {
		if p.but != nil && p.but(f.what) || l.told[p.where+f.what] {
			continue
		}
		if p.named != nil && !l.ofAnother(f.words, p.named) {
			continue
		}
		if p.not != "" {
			if asked == "" {
				asked = strings.ToLower(p.not)
			}
			if strings.Contains(asked, f.words) {
				continue
			}
		}
		l.tell(p.where, f.what, fmt.Sprintf("(%q): …%s…", f.words, f.about))
	}
}

// ofAnother reports whether words are somebody's, and stand nowhere in what is kept of those who are named, or of nobody.
func (l *Lookout) ofAnother(text string, named map[string]bool) bool {
	if !l.words.another(text, named) || l.seen > all || l.spreads == 0 || l.db == nil {
		return false
	}
	l.spreads--
	ctx := context.Background()
	for e, err := range l.db.Since(ctx, 0) {
		if err != nil {
			return false
		}
		r, err := l.db.ReadVersion(ctx, e.Ref, e.Version)
		if err == nil && strings.Contains(strings.ToLower(string(r.Raw())), text) {
			l.words.owner = cmp.Or(e.Patient, anybody)
			l.words.tie(text)
		}
	}
	l.words.owner = ""
	return l.words.another(text, named)
}

func (l *Lookout) tell(where, what, detail string) {
	if !l.told[where+what] {
		l.told[where+what] = true
		l.o.Report(fmt.Sprintf("%s: %s holds %s, which was told in confidence %s", l.o.Name, where, what, detail))
	}
}

// but lists what may be there.
func but(what ...string) func(string) bool {
	return func(w string) bool { return slices.Contains(what, w) }
}
