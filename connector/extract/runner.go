package extract

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"tombolo/connector"
	"tombolo/fhir"
)

// The folders inside a drop folder that are ours. A file is claimed by renaming it into working, so that a new one of the same name
// cannot be mistaken for it; from there it goes to done or failed, with a report beside it.
const (
	working = "working"
	done    = "done"
	failed  = "failed"
)

// Options of a Runner.
type Options struct {
	Source  string // id of the system in the region file
	Mapping *Mapping
	Drop    string        // the drop folder; made if it is not there
	Listen  string        // host:port for uploads by HTTP; none if empty
	Token   string        // what an upload must carry as bearer token; none if empty
	Poll    time.Duration // how often the folder is looked at; 10 s if 0
	Now     func() time.Time
	Logger  *slog.Logger
	Around  func(http.Handler) http.Handler // what the handler of uploads is put into; nil: nothing
}

// A Runner watches a drop folder, and listens for uploads if it is told to, until its context ends. What is taken in is durable
// before a file leaves working; a crash in the middle costs only reading the file again.
type Runner struct {
	o        Options
	root     *os.Root
	wake     chan struct{}
	ready    chan struct{}
	sweeping sync.Mutex          // one sweep at a time
	seen     map[string]sighting // files that may still be growing
	told     map[string]bool     // files that were warned of
	mu       sync.Mutex
	addr     net.Addr
	awaiting map[string]chan *Report // uploads whose sender waits, by their name in working
}

type sighting struct {
	size     int64
	modified time.Time
}

var _ connector.Runner = (*Runner)(nil)

// New makes a Runner. It makes the drop folder and its own folders in it; nothing runs before Run. Close releases the folder.
func New(o Options) (*Runner, error) {
	if o.Mapping == nil || o.Source == "" || o.Drop == "" {
		return nil, fhir.Errorf(fhir.Required, "an extract system needs a drop folder and a mapping: give drop: and mapping: in the region file").From(o.Source)
	}
	if o.Poll <= 0 {
		o.Poll = 10 * time.Second
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	o.Logger = o.Logger.With("source", o.Source)
	if o.Around == nil {
		o.Around = func(h http.Handler) http.Handler { return h }
	}
	if err := os.MkdirAll(o.Drop, 0o770); err != nil {
		return nil, fhir.Errorf(fhir.NoStore, "drop folder: %w", err).From(o.Source)
	}
	root, err := os.OpenRoot(o.Drop)
	if err != nil {
		return nil, fhir.Errorf(fhir.NoStore, "drop folder: %w", err).From(o.Source)
	}
	for _, dir := range append(o.Mapping.folders(), working, done, failed) {
		if err := root.MkdirAll(dir, 0o770); err != nil {
			_ = root.Close()
			return nil, fhir.Errorf(fhir.NoStore, "drop folder: %w", err).From(o.Source)
		}
	}
	return &Runner{o: o, root: root, wake: make(chan struct{}, 1), ready: make(chan struct{}),
		seen: map[string]sighting{}, told: map[string]bool{}, awaiting: map[string]chan *Report{}}, nil
}

// Close releases the drop folder. Call it after Run has returned.
func (r *Runner) Close() error { return r.root.Close() }

// folders are the folders below the drop folder in which the mapping looks for files, "." first.
func (m *Mapping) folders() []string {
	out := []string{"."}
	for _, f := range m.files {
		if dir := path.Dir(f.glob); !slices.Contains(out, dir) {
			out = append(out, dir)
		}
	}
	return out
}

// Ready is closed once the runner watches and, if it is to, listens.
func (r *Runner) Ready() <-chan struct{} { return r.ready }

// Addr is where uploads are taken; nil if none are, or before Ready.
func (r *Runner) Addr() net.Addr {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.addr
}

// Run watches until ctx ends, and then returns nil.
func (r *Runner) Run(ctx context.Context, door connector.Door) error {
	stop, err := r.listen(ctx)
	if err != nil {
		return err
	}
	defer stop()
	close(r.ready)
	tick := time.NewTicker(r.o.Poll)
	defer tick.Stop()
	for {
		if err := r.Sweep(ctx, door); err != nil && ctx.Err() == nil {
			r.o.Logger.Warn("drop folder: trying again at the next look", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-r.wake:
		}
	}
}

// Sweep looks at the drop folder once: it claims the files that have stopped growing, and works off all that are claimed, oldest first.
// An error means that something stays to be done again.
func (r *Runner) Sweep(ctx context.Context, door connector.Door) error {
	r.sweeping.Lock()
	defer r.sweeping.Unlock()
	var problems []error
	for _, dir := range r.o.Mapping.folders() {
		if err := r.claim(dir); err != nil {
			problems = append(problems, err)
		}
	}
	entries, err := r.list(working)
	if err != nil {
		return errors.Join(append(problems, err)...)
	}
	blocked := map[*file]bool{}
	for _, e := range entries { // their names start with the moment they are from
		_, base, _ := r.origin(e.Name())
		kind := r.o.Mapping.fileFor(base)
		if ignored(e.Name()) || !e.Type().IsRegular() || blocked[kind] || ctx.Err() != nil {
			continue
		}
		if err := r.work(ctx, door, e.Name()); err != nil {
			blocked[kind] = true // an older extract taken in after a newer one would bring back what is past
			problems = append(problems, err)
		}
	}
	return errors.Join(problems...)
}

func (r *Runner) list(dir string) ([]fs.DirEntry, error) {
	entries, err := fs.ReadDir(r.root.FS(), dir)
	if err != nil {
		return nil, fhir.Errorf(fhir.Transient, "drop folder: %w", err)
	}
	return entries, nil
}

// ignored are files that are still being written, by the names that copying programs give them, and hidden ones.
func ignored(name string) bool {
	switch strings.ToLower(path.Ext(name)) {
	case ".part", ".tmp", ".filepart", ".crdownload", ".swp":
		return true
	}
	return strings.HasPrefix(name, ".") || strings.HasPrefix(name, "~") || strings.HasSuffix(name, "~")
}

// claim moves files that were the same size at two looks into working, under the moment they were last written and their name.
func (r *Runner) claim(dir string) error {
	entries, err := r.list(dir)
	if err != nil {
		return err
	}
	there := map[string]bool{}
	for _, e := range entries {
		name := path.Join(dir, e.Name())
		if ignored(e.Name()) || e.IsDir() {
			continue
		}
		there[name] = true
		known := r.o.Mapping.Matches(e.Name())
		if !e.Type().IsRegular() || !known && !strings.EqualFold(path.Ext(name), ".csv") {
			r.tell(name, known)
			continue
		}
		info, err := e.Info()
		if err != nil {
			continue // gone again
		}
		now := sighting{info.Size(), info.ModTime()}
		before, ok := r.seen[name]
		if r.seen[name] = now; !ok || before != now {
			continue
		}
		delete(r.seen, name)
		to := path.Join(working, claimed(dir, info.ModTime(), e.Name()))
		if _, err := r.root.Lstat(to); err == nil {
			continue // the same file dropped twice within its time stamp: after the first
		}
		if err := r.root.Rename(name, to); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fhir.Errorf(fhir.Transient, "claim %s: %w", name, err)
		}
	}
	for name := range r.seen {
		if path.Dir(name) == dir && !there[name] {
			delete(r.seen, name)
		}
	}
	return nil
}

// tell logs once that a file is left alone, where it may have been meant for us.
func (r *Runner) tell(name string, known bool) {
	if known && !r.told[name] && len(r.told) < 1000 {
		r.told[name] = true
		r.o.Logger.Warn("not a plain file, left alone", "file", name)
	}
}

const stampLayout = "20060102T150405.000000000Z"

// claimed is a file's name in working: the moment it was written, the folder it came to if any, and its own name.
func claimed(dir string, modified time.Time, name string) string {
	s := modified.UTC().Format(stampLayout) + "_"
	if dir != "." {
		s += dir + "_"
	}
	return s + name
}

// origin reads a name in working back: the folder the file came to, its own name, and the moment.
func (r *Runner) origin(name string) (dir, base, moment string) {
	moment, rest, ok := strings.Cut(name, "_")
	if !ok {
		return ".", name, ""
	}
	for _, dir := range r.o.Mapping.folders() {
		if base, ok := strings.CutPrefix(rest, dir+"_"); ok && r.o.Mapping.Matches(base) {
			return dir, base, moment
		}
	}
	return ".", rest, moment
}

// work takes in one claimed file and puts it away. An error means that it stays where it is, to be done again.
func (r *Runner) work(ctx context.Context, door connector.Door, name string) error {
	dir, base, moment := r.origin(name)
	started := r.o.Now()
	f, err := r.root.Open(path.Join(working, name))
	if err != nil {
		return fhir.Errorf(fhir.Transient, "open %s: %w", base, err)
	}
	report := &Report{File: path.Join(dir, base), Mapping: r.o.Mapping.Name, Received: started}
	if t, err := time.Parse(stampLayout, moment); err == nil {
		report.Received = t
	}
	folder := dir
	if kind := r.o.Mapping.fileFor(base); kind != nil {
		folder = path.Dir(kind.glob) // where the documents are, wherever the manifest was put
	}
	err = r.take(ctx, door, base+"@"+moment, f, Documents(r.root, folder), report)
	_ = f.Close()
	if err != nil {
		r.o.Logger.Warn("file not taken in yet", "file", report.File, "error", err)
		return err
	}
	report.Took = r.o.Now().Sub(started)
	if err := r.putAway(name, report); err != nil {
		return err
	}
	level := slog.LevelInfo
	if report.Refused != nil || report.Rejected > 0 {
		level = slog.LevelWarn
	}
	r.o.Logger.Log(ctx, level, "file taken in", "file", report.File, "rows", report.Rows, "accepted", report.Accepted,
		"duplicates", report.Duplicates, "rejected", report.Rejected, "refused", report.Refused != nil, "took", report.Took)
	r.answer(name, report)
	return nil
}

// putAway writes the report and moves the file out of working.
func (r *Runner) putAway(name string, report *Report) error {
	to := done
	if report.Refused != nil {
		to = failed
	}
	if err := r.root.WriteFile(path.Join(to, name+".report.txt"), []byte(report.Text()), 0o660); err != nil {
		return fhir.Errorf(fhir.Transient, "write report: %w", err)
	}
	if err := r.root.Rename(path.Join(working, name), path.Join(to, name)); err != nil {
		return fhir.Errorf(fhir.Transient, "put away %s: %w", report.File, err)
	}
	return nil
}

// workers is how many rows are on their way through the door at once, so that the store can commit them together. Rows of one patient
// keep their order: they go to the same worker.
const workers = 8

// large is a delivery that goes through the door alone, so that a folder of big documents does not add up in memory.
const large = 1 << 20

type intake struct {
	door   connector.Door
	alone  sync.RWMutex
	mu     sync.Mutex // guards report and failed
	report *Report
	failed error
	cancel context.CancelFunc
}

func (r *Runner) take(ctx context.Context, door connector.Door, name string, f *os.File, open func(string) (io.ReadCloser, error), report *Report) error {
	inner, cancel := context.WithCancel(ctx)
	defer cancel()
	in := &intake{door: door, report: report, cancel: cancel}
	var wg sync.WaitGroup
	var lanes [workers]chan connector.Delivery
	for i := range lanes {
		lanes[i] = make(chan connector.Delivery)
		wg.Go(func() {
			for d := range lanes[i] {
				in.accept(inner, d)
			}
		})
	}
	seed := maphash.MakeSeed()
	var whole connector.Delivery
	var stopped error
	rows := 0
reading:
	for d, err := range Deliveries(r.o.Source, r.o.Mapping, name, f, open) {
		d.Received = r.o.Now()
		if err != nil {
			whole, stopped = d, err
			break
		}
		rows++
		select {
		case lanes[maphash.String(seed, d.Patient)%workers] <- d:
		case <-inner.Done():
			break reading
		}
	}
	for i := range lanes {
		close(lanes[i])
	}
	wg.Wait()
	report.Rows = rows
	switch {
	case in.failed != nil:
		return in.failed
	case ctx.Err() != nil:
		return fhir.Errorf(fhir.Transient, "stopped in the middle of the file: %w", ctx.Err())
	case fhir.Is(stopped, fhir.Transient):
		return stopped
	case stopped != nil: // the file is refused; its beginning goes to the quarantine
		report.Refused = fhir.IssueOf(stopped)
		in.accept(ctx, whole)
	}
	return in.failed
}

// accept brings one delivery through the door. A transient failure stops the file: nothing may overtake what was not taken.
func (in *intake) accept(ctx context.Context, d connector.Delivery) {
	if size(d) > large {
		in.alone.Lock()
		defer in.alone.Unlock()
	} else {
		in.alone.RLock()
		defer in.alone.RUnlock()
	}
	if ctx.Err() != nil {
		return
	}
	receipt, err := in.door.Accept(ctx, d)
	in.mu.Lock()
	defer in.mu.Unlock()
	if err != nil && again(err) {
		if in.failed == nil {
			in.failed = fmt.Errorf("take in %s: %w", in.report.File, err)
		}
		in.cancel()
		return
	}
	for _, w := range d.Issues {
		in.report.add(w)
	}
	switch {
	case d.Rejected != nil:
		if in.report.Refused == nil {
			in.report.Rejected++
			in.report.add(d.Rejected)
		}
	case err != nil:
		_, key, _ := strings.Cut(d.ID, "#")
		issue := fhir.IssueOf(err)
		in.report.Rejected++
		in.report.add(issue.At(strings.TrimSuffix("the row with key "+key+", "+issue.Expression, ", ")))
	case receipt.Duplicate:
		in.report.Duplicates++
	default:
		in.report.Accepted++
		if receipt.Reused {
			in.report.Reused++
		}
	}
}

// again reports whether a door's error means that nothing was promised and the delivery must come again.
func again(err error) bool {
	issue := fhir.IssueOf(err)
	if issue == nil {
		return true
	}
	switch issue.Type {
	case fhir.Transient, fhir.NoStore, fhir.Timeout, fhir.Throttled, fhir.Exception:
		return true
	}
	return false
}

func size(d connector.Delivery) int {
	n := len(d.Raw)
	for _, r := range d.Content {
		n += len(r.Raw())
	}
	return n
}
