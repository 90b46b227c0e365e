package node

import (
	"bytes"
	"context"
	"fmt"
	"hash/fnv"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"tombolo/connector"
	"tombolo/connector/document"
	"tombolo/connector/edifact"
	"tombolo/connector/extract"
	"tombolo/connector/fhirapi"
	"tombolo/connector/hl7v2"
	"tombolo/events"
	"tombolo/fhir"
	"tombolo/region"
)

// A File to be imported.
type File struct {
	Path    string
	Size    int64
	Changed time.Time
}

// Files lists the files at the paths, folders included with all below them, in order, and their size together.
func Files(paths []string) (files []File, total int64, err error) {
	for _, p := range paths {
		err := filepath.WalkDir(p, func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if d.IsDir() {
				return nil
			}
			info, err := d.Info()
			if err != nil {
				return err
			}
			if !info.Mode().IsRegular() {
				return nil
			}
			files = append(files, File{path, info.Size(), info.ModTime()})
			total += info.Size()
			return nil
		})
		if err != nil {
			return nil, 0, fmt.Errorf("cannot read %s: %w", p, err)
		}
	}
	return files, total, nil
}

// A Report says what became of an import.
type Report struct {
	Files, Deliveries, Duplicates, Resources int
	Rejected                                 int      // deliveries of which nothing could be taken
	Partly                                   int      // deliveries taken with parts left out
	Unread                                   []string // files that could not be read, and why
	Reasons                                  []Reason // why something was not taken, in the order in which they were met
}

// A Reason why something was not taken.
type Reason struct {
	Text  string // with the place in the delivery
	First string // file and delivery in which it was met first
	Count int
}

// String is the report as a person reads it.
func (r Report) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d files: %d deliveries taken with %d resources", r.Files, r.Deliveries-r.Rejected-r.Duplicates, r.Resources)
	if r.Duplicates > 0 {
		fmt.Fprintf(&b, ", %d were here already", r.Duplicates)
	}
	b.WriteString(".\n")
	if r.Rejected+r.Partly > 0 {
		fmt.Fprintf(&b, "%d could not be taken and %d only in part; all of it is kept raw in quarantine. Why:\n", r.Rejected, r.Partly)
		for i, e := range r.Reasons {
			if i == mostReasons {
				fmt.Fprintf(&b, "  and %d further reasons: the operators' desk lists what is waiting\n", len(r.Reasons)-i)
				break
			}
			fmt.Fprintf(&b, "  %d × %s (first in %s)\n", e.Count, e.Text, e.First)
		}
	}
	for _, u := range r.Unread {
		b.WriteString("not read: " + u + "\n")
	}
	return b.String()
}

// mostReasons is how many different reasons a report prints.
const mostReasons = 20

// A taken delivery knows the file that it came in.
type taken struct {
	connector.Delivery
	file string
}

// An importer counts while several workers take deliveries in. A patient's deliveries are taken in their order, by one worker.
type importer struct {
	n      *Node
	system region.System
	mu     sync.Mutex
	rep    Report
	seen   map[string]int // reason -> its place in rep.Reasons
	last   atomic.Uint64
	failed atomic.Pointer[error]
}

// Import takes files in through the door, as from the given system. progress is told the bytes read so far. An error means that the import did
// not come to its end; what was taken stays, and running it again goes on from there.
func (n *Node) Import(ctx context.Context, source string, files []File, progress func(int64)) (Report, error) {
	system, ok := n.c.Region.System(source)
	if !ok {
		return Report{}, fhir.Errorf(fhir.NotFound, "system %q is not in the region file: it has %s", source, strings.Join(systemIDs(n.c.Region), ", "))
	}
	im := &importer{n: n, system: system, seen: map[string]int{}}
	const workers = 8
	queues := make([]chan taken, workers)
	var wg sync.WaitGroup
	door := n.Intake.Bulk()
	for k := range queues {
		queues[k] = make(chan taken, 4)
		wg.Go(func() {
			for d := range queues[k] {
				im.take(ctx, door, d)
			}
		})
	}
	var read int64
	for _, f := range files {
		if ctx.Err() != nil || im.failed.Load() != nil {
			break
		}
		im.file(ctx, f, queues, func(k int64) { progress(read + k) })
		read += f.Size
		progress(read)
	}
	for _, q := range queues {
		close(q)
	}
	wg.Wait()
	if err := im.failed.Load(); err != nil {
		return im.rep, *err
	}
	if ctx.Err() != nil {
		return im.rep, fmt.Errorf("interrupted: run the same import again to go on")
	}
	if err := n.Await(ctx, events.Seq(im.last.Load())); err != nil {
		return im.rep, fmt.Errorf("all is stored, and the index has not caught up yet: %w", err)
	}
	return im.rep, nil
}

func systemIDs(r *region.Region) []string {
	var ids []string
	for _, s := range r.Systems {
		ids = append(ids, s.ID)
	}
	return ids
}

// file reads one file and deals its deliveries out.
func (im *importer) file(ctx context.Context, f File, queues []chan taken, progress func(int64)) {
	im.rep.Files++
	r, err := os.Open(f.Path)
	if err == nil {
		defer r.Close()
		counted := &counter{r: r, told: progress}
		for d, derr := range im.deliveries(f, counted) {
			if derr != nil {
				err = derr
				if d.Rejected == nil {
					break
				}
			}
			h := fnv.New32a()
			_, _ = h.Write([]byte(d.Patient))
			select {
			case queues[h.Sum32()%uint32(len(queues))] <- taken{d, filepath.Base(f.Path)}:
			case <-ctx.Done():
				return
			}
		}
	}
	if err != nil {
		im.mu.Lock()
		im.rep.Unread = append(im.rep.Unread, fmt.Sprintf("%s: %v", filepath.Base(f.Path), err))
		im.mu.Unlock()
	}
}

// deliveries reads a file by what its name says it is.
func (im *importer) deliveries(f File, r io.Reader) iter.Seq2[connector.Delivery, error] {
	name := strings.ToLower(filepath.Base(f.Path))
	switch {
	case strings.HasSuffix(name, ".json"), strings.HasSuffix(name, ".ndjson"), strings.HasSuffix(name, ".gz"):
		return fhirapi.Deliveries(im.system.ID, r, filepath.Base(f.Path))
	case strings.HasSuffix(name, ".xml"):
		return document.Deliveries(im.system.ID, r, filepath.Base(f.Path))
	case strings.HasSuffix(name, ".hl7"), strings.HasSuffix(name, ".hl7v2"), strings.HasSuffix(name, ".txt"), strings.HasSuffix(name, ".out"):
		return im.hl7(f, r)
	case strings.HasSuffix(name, ".edi"), strings.HasSuffix(name, ".edifact"):
		return edifact.Deliveries(r, edifact.Options{Source: im.system.ID, Now: im.n.c.Now})
	case strings.HasSuffix(name, ".csv"):
		return im.csv(f, r)
	}
	return failing(fhir.Errorf(fhir.NotSupported, "not a kind of file that is taken: give .json, .ndjson, .gz, .hl7, .txt, .edi, .xml or .csv"))
}

func failing(err error) iter.Seq2[connector.Delivery, error] {
	return func(yield func(connector.Delivery, error) bool) { yield(connector.Delivery{}, err) }
}

// mostHL7 is the largest file of HL7 v2 messages that is read: it is in memory as a whole, and once.
const mostHL7 = 256 << 20

func (im *importer) hl7(f File, r io.Reader) iter.Seq2[connector.Delivery, error] {
	if f.Size > mostHL7 {
		return failing(fhir.Errorf(fhir.TooLong, "a file of HL7 v2 messages has at most %d MiB, and this one has %d: split it", mostHL7>>20, f.Size>>20))
	}
	buf := bytes.NewBuffer(make([]byte, 0, f.Size+bytes.MinRead))
	if _, err := buf.ReadFrom(io.LimitReader(r, mostHL7)); err != nil {
		return failing(err)
	}
	data := buf.Bytes()
	if edifact.Is(data) { // a .txt from a laboratory
		return edifact.Deliveries(bytes.NewReader(data), edifact.Options{Source: im.system.ID, Now: im.n.c.Now})
	}
	o, err := HL7Options(im.system, im.n.c.Folder)
	if err != nil {
		return failing(err)
	}
	o.Now = im.n.c.Now
	return func(yield func(connector.Delivery, error) bool) {
		for d := range hl7v2.Deliveries(data, o) {
			if !yield(d, nil) {
				return
			}
		}
	}
}

func (im *importer) csv(f File, r io.Reader) iter.Seq2[connector.Delivery, error] {
	if im.system.Mapping == "" {
		return failing(fhir.Errorf(fhir.Required, "system %s has no mapping: say in the region file what its columns mean (mapping: FILE)", im.system.ID))
	}
	m, err := extract.Load(im.system.Mapping, im.n.c.Folder)
	if err != nil {
		return failing(err)
	}
	root, err := os.OpenRoot(filepath.Dir(f.Path))
	if err != nil {
		return failing(err)
	}
	return func(yield func(connector.Delivery, error) bool) {
		defer root.Close()
		// The moment of the extract belongs to its name: a value that goes back to what it said last week is news.
		extract.Deliveries(im.system.ID, m, filepath.Base(f.Path)+"@"+f.Changed.UTC().Format("20060102T150405Z"), r, extract.Documents(root, "."))(yield)
	}
}

// take hands one delivery in and counts what became of it.
func (im *importer) take(ctx context.Context, door connector.Door, d taken) {
	if im.failed.Load() != nil {
		return
	}
	rejected := d.Rejected
	got, err := door.Accept(ctx, d.Delivery)
	if i := fhir.IssueOf(err); i != nil && (i.Type == fhir.NoStore || i.Type == fhir.Transient) || err != nil && fhir.IssueOf(err) == nil {
		im.failed.CompareAndSwap(nil, &err)
		return
	}
	for {
		was := im.last.Load()
		if uint64(got.Seq) <= was || im.last.CompareAndSwap(was, uint64(got.Seq)) {
			break
		}
	}
	im.mu.Lock()
	defer im.mu.Unlock()
	im.rep.Deliveries++
	if rejected == nil && err != nil {
		rejected = fhir.IssueOf(err)
	}
	switch {
	case got.Duplicate:
		im.rep.Duplicates++
	case rejected != nil:
		im.rep.Rejected++
		im.example(d, rejected)
	default:
		im.rep.Resources += len(d.Content)
		if len(d.Issues) > 0 {
			im.rep.Partly++
			im.example(d, d.Issues[0])
		}
	}
}

// example counts a reason, and remembers where it was met first.
func (im *importer) example(d taken, i *fhir.Issue) {
	why := *i
	why.Source = ""
	text := why.Error()
	at, ok := im.seen[text]
	if !ok {
		at = len(im.rep.Reasons)
		im.seen[text] = at
		im.rep.Reasons = append(im.rep.Reasons, Reason{Text: text, First: strings.TrimSuffix(d.file+", "+d.ID, ", ")})
	}
	im.rep.Reasons[at].Count++
}

// A counter tells how much has been read.
type counter struct {
	r    io.Reader
	n    int64
	told func(int64)
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	c.told(c.n)
	return n, err
}
