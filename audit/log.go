package audit

import (
	"context"
	"errors"
	"iter"
	"slices"
	"sync"
	"time"

	"tombolo/fhir"
	"tombolo/kv"
)

// Options for Open.
type Options struct {
	Now  func() time.Time // time.Now if nil
	Node string           // name of this node, as the entries say who observed; "tombolo" if empty
}

// A Log is the audit log in an engine. It may be used from many goroutines, and several nodes may append to one.
type Log struct {
	engine kv.Engine
	now    func() time.Time
	node   string

	turn chan struct{} // held by whoever writes; guards head and known

	head  Head
	known bool // head is what the engine had when last seen

	mu    sync.Mutex
	queue []*waiting
}

// Bounds of one commit of entries that were appended at the same moment.
const (
	maxBatch   = 128
	maxRetries = 100
	commitTime = 30 * time.Second
)

type waiting struct {
	event Event
	entry Entry
	err   error
	done  chan struct{}
}

// Open gives the log in engine. Nothing is written before the first Append.
func Open(_ context.Context, engine kv.Engine, o Options) (*Log, error) {
	if engine == nil {
		return nil, fhir.Errorf(fhir.Exception, "open audit log: no engine given")
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Node == "" {
		o.Node = "tombolo"
	}
	return &Log{engine: engine, now: o.Now, node: o.Node, turn: make(chan struct{}, 1)}, nil
}

// Append adds an event and returns when it is durable. Whoever shows content does so only after Append has returned nil. Events
// appended at the same moment share one commit. On an error nothing is promised: the event may have been recorded all the same.
func (l *Log) Append(ctx context.Context, e Event) (Entry, error) {
	if len(e.PersonID) > 1<<15 {
		return Entry{}, fhir.Errorf(fhir.ValueError, "audit: a person's id of %d bytes is too long", len(e.PersonID))
	}
	if e.Kind == "" {
		return Entry{}, fhir.Errorf(fhir.Required, "audit: an event needs a kind")
	}
	if err := ctx.Err(); err != nil {
		return Entry{}, fhir.Errorf(fhir.NoStore, "append to the audit log: %w", err)
	}
	w := &waiting{event: e, done: make(chan struct{})}
	l.mu.Lock()
	l.queue = append(l.queue, w)
	l.mu.Unlock()
	for {
		select {
		case <-w.done:
			return w.entry, w.err
		case l.turn <- struct{}{}:
			// What others wait for must not end with the request of whoever happens to write.
			l.write(context.WithoutCancel(ctx))
			<-l.turn
		case <-ctx.Done():
			l.mu.Lock()
			l.queue = slices.DeleteFunc(l.queue, func(q *waiting) bool { return q == w })
			l.mu.Unlock()
			return Entry{}, fhir.Errorf(fhir.NoStore, "append to the audit log: %w", ctx.Err())
		}
	}
}

// write commits what is queued, up to maxBatch of it. The caller holds turn.
func (l *Log) write(ctx context.Context) {
	l.mu.Lock()
	n := min(len(l.queue), maxBatch)
	batch := slices.Clone(l.queue[:n])
	l.queue = slices.Delete(l.queue, 0, n)
	l.mu.Unlock()
	if n == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, commitTime)
	defer cancel()
	err := l.commit(ctx, batch)
	for _, w := range batch {
		if err != nil {
			w.entry, w.err = Entry{}, fhir.Errorf(fhir.NoStore, "append to the audit log: %w", err)
		}
		close(w.done)
	}
}

func (l *Log) commit(ctx context.Context, batch []*waiting) error {
	for try := 0; ; try++ {
		if err := l.learnHead(ctx); err != nil {
			return err
		}
		b, head := l.chain(batch)
		_, err := l.engine.Commit(ctx, b)
		if err == nil {
			l.head = head
			return nil
		}
		l.known = false // another node was first, or it is not known whether the batch was written
		if !errors.Is(err, kv.ErrConflict) || try == maxRetries || ctx.Err() != nil {
			return err
		}
	}
}

// chain makes the entries of the batch follow the head. The head as it was is the commit's precondition.
func (l *Log) chain(batch []*waiting) (kv.Batch, Head) {
	head, at := l.head, l.now()
	at = at.Round(0)
	var b kv.Batch
	was := kv.Precondition{Key: kv.Key{Part: part, Key: headKey}, Absent: head.Seq == 0}
	if head.Seq > 0 {
		was.Value = head.encode()
	}
	b.Expect = []kv.Precondition{was}
	for _, w := range batch {
		e := Entry{Seq: head.Seq + 1, PersonID: w.event.PersonID, Prev: head.Hash}
		e.Body = w.event.resource(idOf(e.Seq), l.node, at).Raw()
		e.Hash = e.sum()
		w.entry, head = e, e.Head()
		b.Put = append(b.Put, kv.Entry{Key: entryKey(e.Seq), Value: e.encode()})
		if e.PersonID != "" {
			b.Put = append(b.Put, kv.Entry{Key: personKey(e.PersonID, e.Seq), Value: []byte{}})
		}
	}
	b.Put = append(b.Put, kv.Entry{Key: was.Key, Value: head.encode()})
	return b, head
}

// learnHead reads the head from the engine where it is not known, and checks that the last entry bears it out: nothing is chained to a
// log whose end was tampered with.
func (l *Log) learnHead(ctx context.Context) error {
	if l.known {
		return nil
	}
	snap, err := l.engine.Snapshot(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = snap.Close() }()
	head, err := readHead(ctx, snap)
	if err != nil {
		return err
	}
	next, last := entryKey(head.Seq+1), entryKey(head.Seq)
	values, err := snap.MultiGet(ctx, []kv.Key{last, next})
	if err != nil {
		return err
	}
	if head.Seq > 0 {
		if e, ok := decode(head.Seq, values[0]); !ok || e.Hash != head.Hash {
			return errEnd
		}
	}
	if values[1] != nil {
		return errEnd
	}
	l.head, l.known = head, true
	return nil
}

var errEnd = errors.New("the end of the audit log does not agree with its head: run tombolo audit verify, keep the directory as it is, and restore from a checkpoint")

func readHead(ctx context.Context, r kv.Reader) (Head, error) {
	v, ok, err := r.Get(ctx, kv.Key{Part: part, Key: headKey})
	if err != nil || !ok {
		return Head{}, err
	}
	h, ok := decodeHead(v)
	if !ok {
		return Head{}, errEnd
	}
	return h, nil
}

// Head is how far the log goes now; the zero Head if it is empty. Publish it: it is what Verify can be held to later.
func (l *Log) Head(ctx context.Context) (Head, error) {
	h, err := readHead(ctx, l.engine)
	if err != nil {
		return Head{}, fhir.Errorf(fhir.NoStore, "read the audit log's head: %w", err)
	}
	return h, nil
}

// All yields the entries after a place, oldest first, at most limit (0: no limit). An entry that does not agree with its own hash ends
// the sequence with an error; whether entries are missing only Verify tells.
func (l *Log) All(ctx context.Context, after Seq, limit int) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		r := kv.Range{Part: part, From: entries + hexSeq(after+1), To: kv.Prefix(part, entries).To}
		if after+1 == 0 {
			return
		}
		for kvEntry, err := range l.engine.Scan(ctx, []kv.Range{r}, limit) {
			var e Entry
			if err == nil {
				e, err = open(kvEntry.Key.Key[len(entries):], kvEntry.Value)
			}
			if !yield(e, err) || err != nil {
				return
			}
		}
	}
}

// Show yields the entries about one person after a place, oldest first, at most limit (0: no limit): who has looked at their record.
func (l *Log) Show(ctx context.Context, personID string, after Seq, limit int) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		prefix := personPrefix(personID)
		for n := 0; limit == 0 || n < limit; {
			if after+1 == 0 {
				return
			}
			r := kv.Range{Part: part, From: prefix + hexSeq(after+1), To: kv.Prefix(part, prefix).To}
			page := maxBatch
			if limit > 0 {
				page = min(page, limit-n)
			}
			seqs, keys, err := l.places(ctx, r, prefix, page)
			if err == nil && len(seqs) == 0 {
				return
			}
			var values [][]byte
			if err == nil {
				values, err = l.engine.MultiGet(ctx, keys)
			}
			if err != nil {
				yield(Entry{}, fhir.Errorf(fhir.NoStore, "read the audit log: %w", err))
				return
			}
			for i, s := range seqs {
				e, err := open(hexSeq(s), values[i])
				if err == nil && e.PersonID != personID {
					err = altered(s)
				}
				if !yield(e, err) || err != nil {
					return
				}
			}
			after = seqs[len(seqs)-1]
			n += len(seqs)
		}
	}
}

// places reads where the next entries of a person are.
func (l *Log) places(ctx context.Context, r kv.Range, prefix string, limit int) (seqs []Seq, keys []kv.Key, err error) {
	for e, err := range l.engine.Scan(ctx, []kv.Range{r}, limit) {
		if err != nil {
			return nil, nil, err
		}
		s, ok := parseSeq(e.Key.Key[len(prefix):])
		if !ok {
			return nil, nil, errors.New("a place that is none: run tombolo audit verify")
		}
		seqs, keys = append(seqs, s), append(keys, entryKey(s))
	}
	return seqs, keys, nil
}

// open reads an entry for showing.
func open(seq string, value []byte) (Entry, error) {
	s, ok := parseSeq(seq)
	if !ok {
		return Entry{}, fhir.Errorf(fhir.Exception, "the audit log holds a key that is no entry: run tombolo audit verify")
	}
	e, ok := decode(s, value)
	if !ok {
		return Entry{}, altered(s)
	}
	return e, nil
}

func altered(s Seq) error {
	return fhir.Errorf(fhir.Exception, "entry %d of the audit log is missing or has been altered: run tombolo audit verify", s)
}
