package lookout

import (
	"bytes"
	"fmt"
	"io"
	"log"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"tombolo/region"
	"tombolo/store"
)

// What this process says beside its nodes' logs is looked through at its end, for the words of all of its lookouts.
var process struct {
	sync.Mutex
	words words
	said  bytes.Buffer
	hide  words // what each lookout looks for, whether or not it came there
}

// Hide has every lookout of this process look for words, such as those with which a region is seeded: canaries, and NHS numbers.
func Hide(all ...string) {
	process.Lock()
	defer process.Unlock()
	for _, w := range all {
		switch isNumber(w) {
		case true:
			process.hide.number(w)
			process.words.number(w)
		default:
			process.hide.hide(aCanary, w)
			process.words.hide(aCanary, w)
		}
	}
}

// hidden finds the words that are to be hidden everywhere.
func hidden(text string) []find {
	process.Lock()
	defer process.Unlock()
	return process.hide.in(text)
}

// envReport names the file in which this process, and those that it starts, write down what leaked.
const envReport = "TOMBOLO_LOOKOUT"

// On reports whether tests run under a lookout, in this process or in the one that started it.
func On() bool { return os.Getenv(envReport) != "" }

// Report is the variable of the environment that a process which is started with another environment must be given.
func Report() (name, value string) { return envReport, os.Getenv(envReport) }

// report writes down a leak.
func report(leak string) {
	path := os.Getenv(envReport)
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil { // no test: tell whoever started this
		fmt.Fprintln(os.Stderr, "LEAK:", leak)
		return
	}
	defer func() { _ = f.Close() }()
	_, _ = fmt.Fprintln(f, "LEAK:", strings.ReplaceAll(leak, "\n", " "))
}

// pool adds to what is looked for in what the process says.
func pool(w *words) {
	process.Lock()
	defer process.Unlock()
	process.words.known += "\n" + w.known
	for words, what := range w.what {
		process.words.hide(what, words)
	}
}

// kept are lookouts over what processes leave, by where it is.
var kept struct {
	sync.Mutex
	by map[string]*Lookout
}

// Kept learns the words of what is kept somewhere by a process that is not this one and has ended, killed or not. They are looked for in the data folder that it
// left, from which its store is open now; and in what it said (Said).
func Kept(where, folder string, db *store.DB) {
	kept.Lock()
	defer kept.Unlock()
	l := kept.by[where]
	if l == nil {
		if kept.by == nil {
			kept.by = map[string]*Lookout{}
		}
		l = New(Options{Name: where, Folder: folder, Region: &region.Region{}})
		kept.by[where] = l
	}
	l.Open(db, nil)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.look()
	l.held()
	l.files()
	l.db = nil
	pool(&l.words)
}

// Said sees what is written to a stream of this process, such as its standard error.
func Said(to io.Writer) io.Writer {
	return io.MultiWriter(to, saying{})
}

type saying struct{}

func (saying) Write(p []byte) (int, error) {
	process.Lock()
	defer process.Unlock()
	if process.said.Len() < 64*most {
		process.said.Write(p)
	}
	return len(p), nil
}

// Find tells what a text holds of what was told in confidence to whatever was watched by this process and has ended.
func Find(text string) (what []string) {
	process.Lock()
	defer process.Unlock()
	for _, f := range process.words.in(text) {
		what = append(what, f.what)
	}
	return what
}

// said looks through what the process said.
func said(p *words, text string, report func(string)) {
	for _, f := range p.in(text) {
		if strings.Contains(p.known, f.words) {
			continue // to another of its nodes it is no secret
		}
		report(fmt.Sprintf("what a process says, beside its node's log, holds %s, which was told in confidence (%q): …%s…", f.what, f.words, f.about))
	}
}

// Begin has the process watched that is run by a test, or by a command that a test runs: its default loggers, and with package lookout/nodes its nodes. end
// looks through what was said. In the process that began, and in none of those that it started, end prints what leaked in any of them.
func Begin() (end func() (leaked bool)) {
	first := os.Getenv(envReport) == ""
	dir := ""
	if first {
		var err error
		if dir, err = os.MkdirTemp("", "lookout"); err != nil {
			panic("lookout: " + err.Error())
		}
		_ = os.Setenv(envReport, filepath.Join(dir, "leaks"))
	}
	slog.SetDefault(slog.New(slog.NewMultiHandler(slog.NewTextHandler(saying{}, &slog.HandlerOptions{Level: slog.LevelDebug}), slog.NewTextHandler(os.Stderr, nil))))
	log.SetOutput(Said(os.Stderr)) // SetDefault has made it another
	return func() bool {
		process.Lock()
		said(&process.words, process.said.String(), report)
		process.Unlock()
		if !first {
			return false
		}
		leaks, err := os.ReadFile(os.Getenv(envReport))
		_ = os.RemoveAll(dir)
		if err != nil || len(leaks) == 0 {
			return false
		}
		lines := strings.SplitAfter(string(leaks), "\n")
		fmt.Fprintf(os.Stderr, "%s--- FAIL: the lookout saw %d leaks (package sim/lookout)\n", strings.Join(lines[:min(len(lines), 40)], ""), len(lines)-1)
		return true
	}
}

// Over is a lookout over what one test starts that is no node; a leak fails the test. Whoever starts it calls Close while what is kept is still open; where
// nothing is kept, the test's end does.
func Over(t testing.TB, o Options) *Lookout {
	o.Name, o.Report = t.Name(), func(leak string) { t.Error("LEAK:", leak) }
	l := New(o)
	t.Cleanup(l.Close)
	return l
}

// Stream takes what a node's process says, if it is not this one, for the node's log.
func (l *Lookout) Stream() io.Writer { return (*logged)(l) }

// Main runs the tests of a package under watch. Its TestMain is os.Exit(lookout.Main(m)).
func Main(m interface{ Run() int }) int {
	end := Begin()
	code := m.Run()
	if end() && code == 0 {
		return 1
	}
	return code
}
