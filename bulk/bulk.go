// Package bulk does what takes longer than a request of a system's own record (ADR 10): $export, as HL7 Bulk Data Access has it, and $import of NDJSON.
//
// A job lies in the store, with how far it has come and all that it has made, so any node that shares the store goes on with it, also after it has started again. What
// leaves, leaves by gather, which audits each person's part before its first byte; what comes in, comes in by intake.
package bulk

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"tombolo/events"
	"tombolo/fhir"
	"tombolo/gather"
	"tombolo/intake"
	"tombolo/store"
)

// Bucket: job/<source>/<id> -> Job; once/<source>/<hash of a key> -> which import was begun under it; mark/<source>/<time> -> the position of the log at an export that said that it was of that time. What a job has made or is given lies
// in a bucket of its own, "bulk/<id>": f/<file>/<piece> and in/<piece> -> lines, packed with gzip; ref/<reference> -> whether what a record names has been given.
const Bucket = "bulk"

// Limits.
const (
	DefaultExpiry = 24 * time.Hour       // for which the files of a job are kept after its end
	MaxJobs       = 10                   // of one system at the same time
	holdFor       = 30 * time.Second     // a node that is silent for so long has lost its job
	uploadFor     = 10 * time.Minute     // an upload that is silent for so long is given up
	fileMost      = 256 << 20            // bytes in a file, roughly
	pieceMost     = 1 << 20              // bytes in a piece, roughly
	keepMarks     = 400 * 24 * time.Hour // for which an export may be the one that another goes on from exactly; later ones go by the time alone
	sweepEvery    = time.Hour
)

// A State of a job.
type State string

// The states.
const (
	Uploading State = "uploading" // what is to be imported is still coming in
	Waiting   State = "waiting"
	Running   State = "running"
	Done      State = "done"
	Failed    State = "failed"
)

// A Job is one export or import.
type Job struct {
	ID      string         `json:"id"`
	Source  string         `json:"source"` // the system whose record it is of
	Mandate gather.Mandate `json:"mandate"`
	Export  *Export        `json:"export,omitempty"` // one of them
	Import  *Import        `json:"import,omitempty"`
	Request string         `json:"request"` // the address at which it was asked for

	State   State     `json:"state"`
	Begun   time.Time `json:"begun"`
	Ended   time.Time `json:"ended,omitzero"`
	Expires time.Time `json:"expires,omitzero"`
	Holder  string    `json:"holder,omitempty"` // the node that is at it
	Until   time.Time `json:"until,omitzero"`   // and for how long it is taken to be
	Failure *Failure  `json:"failure,omitempty"`

	At     time.Time `json:"at"`     // transactionTime: the moment of which an export is
	Phase  string    `json:"phase"`  // which part it is at
	Cursor string    `json:"cursor"` // how far into it
	Done   int       `json:"done"`   // resources given or taken
	Of     int       `json:"of"`     // pieces of an upload
	Files  []File    `json:"files"`
}

// A Failure is why a job came to no good end.
type Failure struct {
	Type fhir.IssueType `json:"type"`
	Text string         `json:"text"`
}

// A File is NDJSON that a job has made.
type File struct {
	Kind   string `json:"kind"` // output, deleted or error
	Type   string `json:"type"` // of the resources in it
	Count  int    `json:"count"`
	Bytes  int64  `json:"bytes"`
	Pieces int    `json:"pieces"`
}

// Progress is how far a job has come, in words.
func (j Job) Progress() string {
	switch {
	case j.State == Uploading || j.State == Waiting:
		return "waiting"
	case j.Import != nil && j.Of > 0:
		return fmt.Sprintf("%s: %s of %d pieces read, %d resources taken", j.Phase, j.Cursor, j.Of, j.Done)
	}
	return fmt.Sprintf("%s: %d resources given", j.Phase, j.Done)
}

func (j Job) live() bool { return j.State == Uploading || j.State == Waiting || j.State == Running }

// Options of a Service.
type Options struct {
	Store  *store.DB
	Gather *gather.Gatherer
	Intake *intake.Intake
	// Await waits until the followers have taken in the log up to seq; nil: nobody follows.
	Await  func(ctx context.Context, seq events.Seq) error
	Node   string // a name of this node that no other has
	Expiry time.Duration
	Now    func() time.Time
	Logger *slog.Logger
}

// A Service takes jobs and does them, one after the other.
type Service struct {
	o    Options
	wake chan struct{}

	mu      sync.Mutex
	running map[string]context.CancelFunc // by job
}

// New makes a Service. Run does the work.
func New(o Options) *Service {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Expiry == 0 {
		o.Expiry = DefaultExpiry
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Await == nil {
		o.Await = func(context.Context, events.Seq) error { return nil }
	}
	return &Service{o: o, wake: make(chan struct{}, 1), running: map[string]context.CancelFunc{}}
}

func (s *Service) now() time.Time { return s.o.Now().UTC().Truncate(time.Millisecond) }

func jobKey(source, id string) string { return "job/" + source + "/" + id }

func files(id string) string { return "bulk/" + id }

// begin keeps a new job.
func (s *Service) begin(ctx context.Context, own *gather.Own, j Job, also func(store.TxBucket)) (Job, error) {
	j.ID, j.Source, j.Mandate, j.Begun = intake.NewID(), own.Source(), own.Mandate(), s.now()
	j.At = j.Begun
	kept := false
	_, err := s.o.Store.Update(ctx, func(tx store.Tx) error {
		live := 0
		kept = false
		for item, err := range tx.Bucket(Bucket).Scan(ctx, jobKey(j.Source, "")) {
			if err != nil {
				return err
			}
			var other Job
			if json.Unmarshal(item.Value, &other) == nil && other.live() {
				live++
			}
		}
		if live >= MaxJobs {
			return fhir.Errorf(fhir.Throttled, "%d jobs of this system are under way: wait until one is done, or cancel one", live)
		}
		tx.Bucket(Bucket).Put(jobKey(j.Source, j.ID), fhir.JSON(j))
		if also != nil {
			also(tx.Bucket(files(j.ID)))
		}
		kept = true
		return nil
	})
	if err != nil && kept { // perhaps it is there, and nobody will be told of it
		err = errors.Join(err, s.remove(context.WithoutCancel(ctx), j.Source, j.ID))
	}
	s.poke()
	return j, err
}

func (s *Service) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Job gives a system's job. NotFound if it has none of this id, cancelled it, or its files have expired.
func (s *Service) Job(ctx context.Context, source, id string) (Job, error) {
	v, ok, err := s.o.Store.View(Bucket).Get(ctx, jobKey(source, id))
	if err != nil {
		return Job{}, err
	}
	var j Job
	if ok {
		err = json.Unmarshal(v, &j)
	}
	if err == nil && (!ok || !j.Expires.IsZero() && !s.now().Before(j.Expires)) {
		err = NoSuchJob()
	}
	return j, err
}

// NoSuchJob is the answer for a job that is not there, or not for whoever asks.
func NoSuchJob() error {
	return fhir.Errorf(fhir.NotFound, "there is no such job: it was cancelled, or its files have expired")
}

// Cancel ends a job, and takes away what it has made. What was imported stays.
func (s *Service) Cancel(ctx context.Context, source, id string) error {
	if _, err := s.Job(ctx, source, id); err != nil {
		return err
	}
	s.mu.Lock()
	if stop := s.running[id]; stop != nil {
		stop()
	}
	s.mu.Unlock()
	return s.remove(ctx, source, id)
}

// remove takes a job away: first itself, so that whoever is at it notices, then what it has made.
func (s *Service) remove(ctx context.Context, source, id string, also ...func(store.Tx) error) error {
	_, err := s.o.Store.Update(ctx, func(tx store.Tx) error {
		_, _, err := tx.Bucket(Bucket).Get(ctx, jobKey(source, id))
		tx.Bucket(Bucket).Delete(jobKey(source, id))
		for _, do := range also {
			err = errors.Join(err, do(tx))
		}
		return err
	})
	if err != nil {
		return err
	}
	return s.empty(ctx, id)
}

// empty takes away what a job has made, some of it at a time.
func (s *Service) empty(ctx context.Context, id string) error {
	for {
		var keys []string
		for item, err := range s.o.Store.View(files(id)).ScanFrom(ctx, "", 100) {
			if err != nil {
				return err
			}
			keys = append(keys, item.Key)
		}
		if len(keys) == 0 {
			return nil
		}
		_, err := s.o.Store.Update(ctx, func(tx store.Tx) error {
			for _, k := range keys {
				tx.Bucket(files(id)).Delete(k)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
}

// Lines yields a file's NDJSON in pieces, each packed with gzip: one after the other they are one gzip stream (RFC 1952 §2.2).
func (s *Service) Lines(ctx context.Context, j Job, file int, yield func(packed []byte) error) error {
	if file < 0 || file >= len(j.Files) {
		return fhir.Errorf(fhir.NotFound, "this job has no such file")
	}
	for i := range j.Files[file].Pieces {
		v, ok, err := s.o.Store.View(files(j.ID)).Get(ctx, pieceKey(file, i))
		if err == nil && !ok {
			err = fhir.Errorf(fhir.Deleted, "the files of this job are gone")
		}
		if err == nil {
			err = yield(v)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func pieceKey(file, piece int) string { return fmt.Sprintf("f/%05d/%08d", file, piece) }

// pack makes a piece of lines.
func pack(lines []byte) []byte {
	var b bytes.Buffer
	z, _ := gzip.NewWriterLevel(&b, gzip.BestSpeed)
	_, _ = z.Write(lines)
	_ = z.Close()
	return b.Bytes()
}

// An output gathers lines and writes them as pieces. Pieces are there when flushed, and count when the job is saved: after a crash they are made anew in the same places.
type output struct {
	s       *Service
	job     *Job
	pending map[int]*bytes.Buffer // by file
	size    int
	saved   time.Time
}

func (s *Service) output(j *Job) *output {
	return &output{s: s, job: j, pending: map[int]*bytes.Buffer{}}
}

// line adds a line to the newest file of a kind and type.
func (o *output) line(kind, typ string, line []byte) {
	at := -1
	for i, f := range o.job.Files {
		if f.Kind == kind && f.Type == typ && f.Bytes < fileMost {
			at = i
		}
	}
	if at < 0 {
		at = len(o.job.Files)
		o.job.Files = append(o.job.Files, File{Kind: kind, Type: typ})
	}
	b := o.pending[at]
	if b == nil {
		b = &bytes.Buffer{}
		o.pending[at] = b
	}
	b.Write(line)
	b.WriteByte('\n')
	o.size += len(line) + 1
	o.job.Files[at].Count++
	o.job.Files[at].Bytes += int64(len(line) + 1)
}

// problem adds a line to the errors.
func (o *output) problem(issues ...*fhir.Issue) {
	o.line("error", "OperationOutcome", fhir.Outcome(issues...).Raw())
}

// full reports whether it is time to flush.
func (o *output) full() bool { return o.size >= pieceMost }

// due reports whether the job has not been saved for a while.
func (o *output) due() bool { return time.Since(o.saved) > holdFor/4 }

// flush writes what is pending; with save also how far the job has come, in the same transaction.
func (o *output) flush(ctx context.Context, save bool, also ...func(store.Tx) error) error {
	for at, b := range o.pending {
		f := &o.job.Files[at]
		key, packed := pieceKey(at, f.Pieces), pack(b.Bytes())
		f.Pieces++
		also = append(also, func(tx store.Tx) error { tx.Bucket(files(o.job.ID)).Put(key, packed); return nil })
	}
	o.pending, o.size, o.saved = map[int]*bytes.Buffer{}, 0, time.Now()
	_, err := o.s.o.Store.Update(ctx, func(tx store.Tx) error {
		if err := o.s.hold(ctx, tx, o.job, save); err != nil {
			return err
		}
		for _, do := range also {
			if err := do(tx); err != nil {
				return err
			}
		}
		return nil
	})
	return err
}

// errLost says that the job is somebody else's by now, or was cancelled.
var errLost = fhir.Errorf(fhir.Conflict, "the job was cancelled, or another node has taken it up")

// hold keeps a job this node's, if it still is; with save, all of it.
func (s *Service) hold(ctx context.Context, tx store.Tx, j *Job, save bool) error {
	key := jobKey(j.Source, j.ID)
	v, ok, err := tx.Bucket(Bucket).Get(ctx, key)
	if err != nil {
		return err
	}
	var was Job
	if !ok || json.Unmarshal(v, &was) != nil || was.Holder != j.Holder {
		return errLost
	}
	was.Until = s.now().Add(holdFor)
	if j.Until = was.Until; save {
		was = *j
	}
	tx.Bucket(Bucket).Put(key, fhir.JSON(was))
	return nil
}

// Run does jobs until ctx ends.
func (s *Service) Run(ctx context.Context) error {
	var swept time.Time
	for {
		did, err := s.next(ctx)
		if now := s.now(); err == nil && !did && now.Sub(swept) >= sweepEvery {
			swept, err = now, s.sweep(ctx)
		}
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			s.o.Logger.Error("a bulk job could not be looked for", "error", err)
		case did:
			continue
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.wake:
		case <-time.After(5 * time.Second): // other nodes' jobs that fell silent, and what expires
		}
	}
}

// sweep takes away marks that nobody goes on from any more.
func (s *Service) sweep(ctx context.Context) error {
	var old []string
	for item, err := range s.o.Store.View(Bucket).Scan(ctx, "mark/") {
		if err != nil {
			return err
		}
		at, err := time.Parse(time.RFC3339, item.Key[strings.LastIndexByte(item.Key, '/')+1:])
		if err == nil && s.now().Sub(at) > keepMarks {
			old = append(old, item.Key)
		}
	}
	for part := range slices.Chunk(old, 500) {
		_, err := s.o.Store.Update(ctx, func(tx store.Tx) error {
			for _, key := range part {
				tx.Bucket(Bucket).Delete(key)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// All gives every job that there is, of all systems, oldest first: those that have ended, too, until their files go.
func (s *Service) All(ctx context.Context) ([]Job, error) {
	var all []Job
	for item, err := range s.o.Store.View(Bucket).Scan(ctx, "job/") {
		if err != nil {
			return nil, err
		}
		var j Job
		if err := json.Unmarshal(item.Value, &j); err != nil {
			return nil, fmt.Errorf("read %s: %w", item.Key, err)
		}
		all = append(all, j)
	}
	slices.SortFunc(all, func(a, b Job) int { return a.Begun.Compare(b.Begun) })
	return all, nil
}

// next does one job, if one waits.
func (s *Service) next(ctx context.Context) (did bool, err error) {
	var waiting []Job
	for item, err := range s.o.Store.View(Bucket).Scan(ctx, "job/") {
		if err != nil {
			return false, err
		}
		var j Job
		if err := json.Unmarshal(item.Value, &j); err != nil {
			return false, fmt.Errorf("read %s: %w", item.Key, err)
		}
		now := s.now()
		switch {
		case !j.Expires.IsZero() && !now.Before(j.Expires), j.State == Uploading && now.After(j.Until.Add(uploadFor)):
			if err := s.remove(ctx, j.Source, j.ID); err != nil {
				return false, err
			}
		case j.State == Waiting, j.State == Running && (now.After(j.Until) || j.Holder == s.o.Node):
			waiting = append(waiting, j)
		}
	}
	slices.SortFunc(waiting, func(a, b Job) int { return a.Begun.Compare(b.Begun) })
	for _, j := range waiting {
		if mine, err := s.take(ctx, &j); err != nil || mine {
			if err == nil {
				s.do(ctx, &j)
			}
			return mine, err
		}
	}
	return false, nil
}

// take makes a job this node's, if it still waits.
func (s *Service) take(ctx context.Context, j *Job) (mine bool, err error) {
	key := jobKey(j.Source, j.ID)
	_, err = s.o.Store.Update(ctx, func(tx store.Tx) error {
		mine = false
		v, ok, err := tx.Bucket(Bucket).Get(ctx, key)
		if err != nil || !ok {
			return err
		}
		var now Job
		if err := json.Unmarshal(v, &now); err != nil {
			return err
		}
		if now.State != Waiting && (now.State != Running || now.Holder != s.o.Node && !s.now().After(now.Until)) {
			return nil
		}
		mine = true
		now.State, now.Holder, now.Until = Running, s.o.Node, s.now().Add(holdFor)
		tx.Bucket(Bucket).Put(key, fhir.JSON(now))
		*j = now
		return nil
	})
	return mine, err
}

// do does a job and writes down how it ended. A fault that may pass leaves it to be taken up again.
func (s *Service) do(ctx context.Context, j *Job) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	s.mu.Lock()
	s.running[j.ID] = stop
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.running, j.ID)
		s.mu.Unlock()
	}()
	out := s.output(j)
	own, err := s.o.Gather.Resume(ctx, j.Mandate)
	if err == nil && j.Export != nil {
		err = s.export(ctx, own, out)
	} else if err == nil {
		err = s.imports(ctx, own, out)
	}
	if err == nil {
		err = s.end(ctx, out, nil)
	}
	switch i := fhir.IssueOf(err); {
	case err == nil, err == errLost:
	case ctx.Err() != nil:
		s.release(j)
	case i != nil && (i.Type == fhir.Transient || i.Type == fhir.NoStore || i.Type == fhir.Timeout):
		s.o.Logger.Warn("a bulk job is interrupted and will be taken up again", "job", j.ID, "source", j.Source, "error", err)
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	default:
		s.o.Logger.Error("a bulk job failed", "job", j.ID, "source", j.Source, "error", err)
		f := &Failure{fhir.Exception, "a fault of this server: it has been logged"}
		if i != nil && i.Type != fhir.Exception {
			f = &Failure{i.Type, i.Text}
		}
		if err := s.end(ctx, s.output(j), f); err != nil && ctx.Err() == nil {
			s.o.Logger.Error("a bulk job's end could not be kept", "job", j.ID, "error", err)
		}
	}
}

// release leaves a job for another node at once, where this one stops in good order.
func (s *Service) release(j *Job) {
	ctx, stop := context.WithTimeout(context.Background(), 5*time.Second)
	defer stop()
	_, err := s.o.Store.Update(ctx, func(tx store.Tx) error {
		key := jobKey(j.Source, j.ID)
		v, ok, err := tx.Bucket(Bucket).Get(ctx, key)
		var now Job
		if err != nil || !ok || json.Unmarshal(v, &now) != nil || now.Holder != s.o.Node || now.State != Running {
			return err
		}
		now.State, now.Holder = Waiting, ""
		tx.Bucket(Bucket).Put(key, fhir.JSON(now))
		return nil
	})
	if err != nil {
		s.o.Logger.Warn("a bulk job could not be left for another node: one takes it up when this one has been silent for a while", "job", j.ID, "error", err)
	}
}

// end keeps the end of a job.
func (s *Service) end(ctx context.Context, out *output, failure *Failure) error {
	j := out.job
	j.State, j.Failure, j.Ended = Done, failure, s.now()
	if failure != nil {
		j.State, j.Files = Failed, nil
	}
	j.Expires = j.Ended.Add(s.o.Expiry)
	return out.flush(ctx, true)
}
