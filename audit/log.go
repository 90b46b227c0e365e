package audit

import (
	"context"
	"errors"
	"iter"
	"slices"
	"sort"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/mod/sumdb/tlog"

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
	shown  recent

	closed atomic.Bool

	turn chan struct{} // held by whoever writes; guards tree, last and known

	tree  tree
	last  time.Time // of the last entry
	known bool      // tree and last are what the engine had when last seen

	mu    sync.Mutex
	queue []*waiting
}

// Bounds of one commit of entries that were appended at the same moment.
const (
	maxBatch      = 1024
	maxBatchBytes = 16 << 20
	maxRetries    = 100
	commitTime    = 30 * time.Second
	page          = 128 // entries read at a time by place
)

// A prepared event only lacks its place.
type prepared struct {
	person, user string
	at           time.Time
	body, record []byte
	foreign      bool
	keep         []kv.Entry // parts of what was shown that are not kept yet
}

func (p prepared) size() int {
	n := len(p.record)
	for _, k := range p.keep {
		n += len(k.Value)
	}
	return n
}

type waiting struct {
	events []prepared
	last   Seq
	leaves []Hash
	err    error
	done   chan struct{}
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

// Append adds an event and returns when it, and what it says was shown, is durable. Whoever shows content does so only after Append has
// returned nil. Events appended at the same moment share one commit. On an error nothing is promised: the event may have been
// recorded all the same.
func (l *Log) Append(ctx context.Context, e Event) (Entry, error) {
	out, err := l.AppendAll(ctx, []Event{e})
	if err != nil {
		return Entry{}, err
	}
	return out[0], nil
}

// AppendAll adds several events in one commit, such as one for each person of an export. All are durable when it returns nil.
func (l *Log) AppendAll(ctx context.Context, events []Event) ([]Entry, error) {
	if len(events) == 0 {
		return nil, nil
	}
	if l.closed.Load() {
		return nil, appendError(kv.ErrClosed)
	}
	if err := ctx.Err(); err != nil {
		return nil, appendError(err)
	}
	w := &waiting{events: make([]prepared, len(events)), done: make(chan struct{})}
	for i := range events {
		var err error
		if w.events[i], err = l.prepare(ctx, &events[i]); err != nil {
			return nil, err
		}
	}
	l.mu.Lock()
	l.queue = append(l.queue, w)
	l.mu.Unlock()
	for {
		select {
		case <-w.done:
			if w.err != nil {
				return nil, w.err
			}
			return w.appended(), nil
		case l.turn <- struct{}{}:
			// What others wait for must not end with the request of whoever happens to write.
			l.write(context.WithoutCancel(ctx))
			<-l.turn
		case <-ctx.Done():
			l.mu.Lock()
			l.queue = slices.DeleteFunc(l.queue, func(q *waiting) bool { return q == w })
			l.mu.Unlock()
			return nil, appendError(ctx.Err())
		}
	}
}

func appendError(err error) error {
	return fhir.Errorf(fhir.NoStore, "append to the audit log: %w", err)
}

// Close makes the log take no more: from then on nothing can be shown. The engine stays open.
func (l *Log) Close() error {
	l.closed.Store(true)
	return nil
}

// prepare renders and packs an event: all of the work that need not wait for its turn.
func (l *Log) prepare(ctx context.Context, e *Event) (prepared, error) {
	if len(e.PersonID) > 1<<15 || len(e.Agent.User) > 1<<15 {
		return prepared{}, fhir.Errorf(fhir.ValueError, "audit: the id of a person or user is too long")
	}
	at := l.now().Round(0)
	p := prepared{person: e.PersonID, user: e.Agent.User, at: at.UTC().Truncate(time.Millisecond)}
	if e.Raw != nil {
		if e.Raw.Type() != "AuditEvent" {
			return prepared{}, fhir.Errorf(fhir.Structure, "audit: a %s is no AuditEvent", e.Raw.Type()).At("resourceType")
		}
		p.body, p.foreign = e.Raw.Raw(), true
		p.record = record(foreign, at, p.person, p.user, p.body)
		return p, nil
	}
	if e.Kind == "" {
		return prepared{}, fhir.Errorf(fhir.Required, "audit: an event needs a kind")
	}
	if e.View != nil {
		var err error
		if p.keep, err = l.missing(ctx, at, e.View); err != nil {
			return prepared{}, appendError(err)
		}
		withView := *e
		withView.What = append(slices.Clone(e.What), viewDetail+": "+e.View.Root.String())
		e = &withView
	}
	p.body = e.render(l.node, at)
	p.record = record(0, at, p.person, p.user, p.body)
	return p, nil
}

// appended are the entries as they now stand in the log.
func (w *waiting) appended() []Entry {
	out := make([]Entry, len(w.events))
	for i, p := range w.events {
		s := w.last - Seq(len(w.events)-1-i)
		out[i] = Entry{Seq: s, PersonID: p.person, User: p.user, At: p.at, Hash: w.leaves[i], Body: p.body, record: p.record}
		if !p.foreign {
			out[i].Body = withID(p.body, idOf(s))
		}
	}
	return out
}

// write commits what is queued, up to the bounds of a batch. The caller holds turn.
func (l *Log) write(ctx context.Context) {
	l.mu.Lock()
	n, count, size := 0, 0, 0
	for n < len(l.queue) && (n == 0 || count < maxBatch && size < maxBatchBytes) {
		for _, p := range l.queue[n].events {
			size += p.size()
		}
		count += len(l.queue[n].events)
		n++
	}
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
			w.err = appendError(err)
		}
		close(w.done)
	}
}

func (l *Log) commit(ctx context.Context, batch []*waiting) error {
	for try := 0; ; try++ {
		if err := l.learnHead(ctx); err != nil {
			return err
		}
		b, grown, last := l.grow(batch)
		_, err := l.engine.Commit(ctx, b)
		if err == nil {
			l.tree, l.last = grown, last
			for _, w := range batch {
				for _, p := range w.events {
					l.shown.add(p.keep)
				}
			}
			return nil
		}
		l.known = false // another node was first, or it is not known whether the batch was written
		if !errors.Is(err, kv.ErrConflict) || try == maxRetries || ctx.Err() != nil {
			return err
		}
	}
}

// grow adds the batch's entries to the tree. The head as it was is the commit's precondition. An entry's time in the log is never before that
// of the one before it, whatever the clock does and whoever was first to be ready; its AuditEvent has the time as the clock said it.
func (l *Log) grow(batch []*waiting) (kv.Batch, tree, time.Time) {
	t, last := l.tree.clone(), l.last
	var b kv.Batch
	was := kv.Precondition{Key: kv.Key{Part: part, Key: headKey}, Absent: t.size == 0}
	if t.size > 0 {
		was.Value = t.encode()
	}
	b.Expect = []kv.Precondition{was}
	keep := func(level int, n uint64, root Hash) {
		b.Put = append(b.Put, kv.Entry{Key: subtreeKey(level, n), Value: root[:]})
	}
	for _, w := range batch {
		w.leaves = w.leaves[:0]
		for i := range w.events {
			p := &w.events[i]
			if p.at.Before(last) {
				p.at = last
				setTime(p.record, p.at)
			}
			last = p.at
			leaf := tlog.RecordHash(p.record)
			t.add(leaf, keep)
			s := Seq(t.size)
			b.Put = append(b.Put, kv.Entry{Key: entryKey(s), Value: value(leaf, p.record)})
			if p.person != "" {
				b.Put = append(b.Put, kv.Entry{Key: personKey(p.person, s), Value: []byte{}})
			}
			if p.user != "" {
				b.Put = append(b.Put, kv.Entry{Key: userKey(p.user, s), Value: []byte{}})
			}
			b.Put = append(b.Put, p.keep...)
			w.leaves, w.last = append(w.leaves, leaf), s
		}
	}
	b.Put = append(b.Put, kv.Entry{Key: was.Key, Value: t.encode()})
	return b, t, last
}

// learnHead reads the head from the engine where it is not known, and checks that the last entry bears it out: nothing is added to a
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
	t, err := readTree(ctx, snap)
	if err != nil {
		return err
	}
	values, err := snap.MultiGet(ctx, []kv.Key{entryKey(Seq(t.size)), entryKey(Seq(t.size + 1))})
	if err != nil {
		return err
	}
	l.last = time.Time{}
	if t.size > 0 {
		e, ok := decode(Seq(t.size), values[0])
		l.last = e.At
		if !ok || t.size&1 == 1 && e.Hash != t.peaks[len(t.peaks)-1] {
			return errEnd
		}
	}
	if values[1] != nil {
		return errEnd
	}
	l.tree, l.known = t, true
	return nil
}

var errEnd = errors.New("the end of the audit log does not agree with its head: run tombolo audit verify, keep the directory as it is, and restore from a checkpoint")

func readTree(ctx context.Context, r kv.Reader) (tree, error) {
	v, ok, err := r.Get(ctx, kv.Key{Part: part, Key: headKey})
	if err != nil || !ok {
		return tree{}, err
	}
	t, ok := decodeTree(v)
	if !ok {
		return tree{}, errEnd
	}
	return t, nil
}

// Head is how far the log goes now; the zero Head if it is empty. Publish it: it is what Verify can be held to later.
func (l *Log) Head(ctx context.Context) (Head, error) {
	t, err := readTree(ctx, l.engine)
	if err != nil {
		return Head{}, fhir.Errorf(fhir.NoStore, "read the audit log's head: %w", err)
	}
	return t.head(), nil
}

// Entry reads one entry, fhir.NotFound if the log does not go that far.
func (l *Log) Entry(ctx context.Context, s Seq) (Entry, error) {
	v, ok, err := l.engine.Get(ctx, entryKey(s))
	switch {
	case err != nil:
		return Entry{}, readError(err)
	case !ok:
		return Entry{}, fhir.Errorf(fhir.NotFound, "the audit log has no entry %d", s)
	}
	return open(hexSeq(s), v)
}

func readError(err error) error {
	return fhir.Errorf(fhir.NoStore, "read the audit log: %w", err)
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
	return l.index(ctx, personPrefix(personID), after, limit, func(e Entry) bool { return e.PersonID == personID })
}

// By yields the entries of one user's acts after a place, oldest first, at most limit (0: no limit).
func (l *Log) By(ctx context.Context, user string, after Seq, limit int) iter.Seq2[Entry, error] {
	return l.index(ctx, userPrefix(user), after, limit, func(e Entry) bool { return e.User == user })
}

// index reads entries by the places that stand under a prefix.
func (l *Log) index(ctx context.Context, prefix string, after Seq, limit int, belongs func(Entry) bool) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		for n := 0; limit == 0 || n < limit; {
			if after+1 == 0 {
				return
			}
			r := kv.Range{Part: part, From: prefix + hexSeq(after+1), To: kv.Prefix(part, prefix).To}
			size := page
			if limit > 0 {
				size = min(size, limit-n)
			}
			seqs, keys, err := l.places(ctx, r, prefix, size)
			if err == nil && len(seqs) == 0 {
				return
			}
			var values [][]byte
			if err == nil {
				values, err = l.engine.MultiGet(ctx, keys)
			}
			if err != nil {
				yield(Entry{}, readError(err))
				return
			}
			for i, s := range seqs {
				e, err := open(hexSeq(s), values[i])
				if err == nil && !belongs(e) {
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

// places reads where the next entries of an index are.
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

// Before is the place of the last entry that is older than at: where to begin to read what came from then on. Where the clock went back,
// some that were recorded before at are behind it too: hold them to Recorded.
func (l *Log) Before(ctx context.Context, at time.Time) (Seq, error) {
	head, err := l.Head(ctx)
	if err != nil {
		return 0, err
	}
	var failed error
	n := sort.Search(int(head.Seq), func(i int) bool {
		if failed != nil {
			return true
		}
		e, err := l.Entry(ctx, Seq(i+1))
		if err != nil {
			failed = err
		}
		return !e.At.Before(at)
	})
	return Seq(n), failed
}

// open reads an entry for showing.
func open(seq string, v []byte) (Entry, error) {
	s, ok := parseSeq(seq)
	if !ok {
		return Entry{}, fhir.Errorf(fhir.Exception, "the audit log holds a key that is no entry: run tombolo audit verify")
	}
	e, ok := decode(s, v)
	if !ok {
		return Entry{}, altered(s)
	}
	return e, nil
}

func altered(s Seq) error {
	return fhir.Errorf(fhir.Exception, "entry %d of the audit log is missing or has been altered: run tombolo audit verify", s)
}
