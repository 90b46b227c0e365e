package store

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"iter"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"tombolo/events"
	"tombolo/fhir"
	"tombolo/kv"
)

// A Home says whose a resource is and under which heading it is read.
type Home struct {
	Source  string // id of the system in the region file
	Patient string // this server's id of the source Patient in whose record it stands; "" for what is nobody's record
	Heading string // of the shared data set; "" if none. For the event only
}

// maxAttempts bounds how often an Update starts over because others wrote what it had read.
const maxAttempts = 20

// Update runs fn and then writes all that it asked for, or nothing. It may run fn several times, each time with a fresh Tx, when
// somebody else changed meanwhile what fn had read; so fn must have no other effects, and must start afresh whatever it
// fills in outside. An error of fn ends the Update and is returned as it is, if what fn read stands together and is durable: who is told that something may
// not be done, because of what somebody else has written, may act on it.
//
// When Update returns nil, all is durable, also what fn merely read; the Seq is that of the last event, or of the last
// event before it if nothing changed. An error of type fhir.NoStore leaves open whether it was written: doing it again is
// safe, and changes nothing if it was.
func (db *DB) Update(ctx context.Context, fn func(Tx) error) (events.Seq, error) {
	return db.update(ctx, false, fn)
}

// update is Update; if lazy, what it writes may be lost with the power, and is then done again (kv.Batch).
func (db *DB) update(ctx context.Context, lazy bool, fn func(Tx) error) (events.Seq, error) {
	for attempt := 1; ; attempt++ {
		t := &transaction{db: db, lazy: lazy, since: db.moment(), now: db.now(), reads: map[kv.Key]read{}, writes: map[kv.Key]write{}, changes: map[fhir.Ref]*change{}}
		err := fn(Tx{t})
		var at kv.Position
		if err == nil {
			at, err = t.commit(ctx)
		} else {
			err = t.refuse(ctx, err)
		}
		if err == nil {
			return events.Seq(at), nil
		}
		if !errors.Is(err, kv.ErrConflict) {
			return 0, err
		}
		if attempt == maxAttempts {
			return 0, fhir.Errorf(fhir.Conflict, "others keep changing the same records: gave up after %d attempts; try again (if nobody else is writing, what is stored has been damaged: tombolo store verify says where)", attempt)
		}
		wait := time.NewTimer(rand.N(time.Millisecond << min(attempt, 6)))
		select {
		case <-ctx.Done():
			wait.Stop()
			return 0, readError(ctx.Err())
		case <-wait.C:
		}
	}
}

func (db *DB) moment() kv.Moment {
	if db.timer == nil {
		return 0
	}
	return db.timer.Moment()
}

// A Tx is one run of an Update. It reads what is committed and, over it, what it has itself asked to write. Use it from one
// goroutine, and not after fn has returned.
type Tx struct{ t *transaction }

type transaction struct {
	db      *DB
	lazy    bool
	since   kv.Moment // before anything was read; 0 if the engine does not tell
	now     time.Time
	reads   map[kv.Key]read
	writes  map[kv.Key]write // of buckets
	sorted  []kv.Key         // the keys of writes, in order, but for
	fresh   []kv.Key         // those since they were last wanted in order
	changes map[fhir.Ref]*change
	order   []*change
	held    int // bytes of what was put
}

type read struct {
	value []byte
	ok    bool
}

type write struct {
	value  []byte
	delete bool
}

// A change is what a transaction will do to one resource; neither put nor deleted: nothing.
type change struct {
	ref      fhir.Ref
	before   *entry // as committed; nil if there never was one
	home     Home
	part     kv.Part
	content  [32]byte
	put      bool
	resource *fhir.Resource // as it was put; nil: it is to be read from bytes
	bytes    []byte         // of one in a large transaction, whose tree is not kept
	deleted  bool
}

// mostHeld is how many bytes of what a transaction puts are kept with their trees, which are larger than the bytes.
const mostHeld = 8 << 20

// read gives what was put.
func (c *change) read() (*fhir.Resource, error) {
	if c.resource != nil {
		return c.resource, nil
	}
	return fhir.Parse(c.bytes)
}

// get reads a key once, and remembers it as something that must still be so at commit.
func (t *transaction) get(ctx context.Context, k kv.Key) ([]byte, bool, error) {
	if r, ok := t.reads[k]; ok {
		return r.value, r.ok, nil
	}
	v, ok, err := t.db.engine.Get(ctx, k)
	if err != nil {
		return nil, false, readError(err)
	}
	t.reads[k] = read{v, ok}
	return v, ok, nil
}

func (t *transaction) multiGet(ctx context.Context, keys []kv.Key) error {
	keys = slices.DeleteFunc(keys, func(k kv.Key) bool { _, ok := t.reads[k]; return ok })
	if len(keys) == 0 {
		return nil
	}
	values, err := t.db.engine.MultiGet(ctx, keys)
	if err != nil {
		return readError(err)
	}
	for i, k := range keys {
		t.reads[k] = read{values[i], values[i] != nil}
	}
	return nil
}

// Now is the moment of this transaction: the meta.lastUpdated of what it writes.
func (x Tx) Now() time.Time { return x.t.now }

// Pending are the resources of a type ("": of all) that this Tx has put so far, in order, and all that it has deleted.
func (x Tx) Pending(typ string) (put []*fhir.Resource, deleted []fhir.Ref) {
	for _, c := range x.t.order {
		switch {
		case c.put && (typ == "" || c.ref.Type() == typ):
			if c.resource == nil { // who asks once asks again
				c.resource, _ = c.read()
				c.bytes = nil
			}
			put = append(put, c.resource)
		case c.deleted:
			deleted = append(deleted, c.ref)
		}
	}
	return put, deleted
}

// Prefetch reads in one round trip what Put, Get and Delete of these resources will ask for. Nothing depends on it but speed.
func (x Tx) Prefetch(ctx context.Context, refs ...fhir.Ref) error {
	keys := make([]kv.Key, len(refs))
	for i, ref := range refs {
		keys[i] = idKey(ref)
	}
	return x.t.multiGet(ctx, keys)
}

// change finds or starts the record of what happens to a resource.
func (t *transaction) change(ctx context.Context, ref fhir.Ref) (*change, error) {
	if c, ok := t.changes[ref]; ok {
		return c, nil
	}
	raw, ok, err := t.get(ctx, idKey(ref))
	if err != nil {
		return nil, err
	}
	c := &change{ref: ref}
	if ok {
		if c.before, err = decodeEntry(raw); err != nil {
			return nil, fhir.Errorf(fhir.Exception, "%s: %w", ref, err)
		}
		if c.before.deleted {
			if err := t.buried(ctx, c, raw); err != nil {
				return nil, err
			}
		}
	}
	t.changes[ref] = c
	t.order = append(t.order, c)
	return c, nil
}

// buried holds an entry that speaks of a deletion to what is stored: see DB.confirm. All else that it says is held to it where it is used.
func (t *transaction) buried(ctx context.Context, c *change, raw []byte) error {
	sure, err := t.db.confirm(ctx, c.ref, c.before)
	if err != nil || sure {
		return err
	}
	now, _, err := t.db.engine.Get(ctx, idKey(c.ref))
	if err != nil {
		return readError(err)
	}
	if !bytes.Equal(now, raw) {
		return kv.ErrConflict
	}
	return fhir.Errorf(fhir.Exception, "%s: the index says that it was deleted, and that is not what is stored: run tombolo store reindex", c.ref)
}

// here says whether the resource is there, as this transaction sees it.
func (c *change) here() error {
	switch {
	case c.put:
		return nil
	case c.deleted:
		return fhir.Errorf(fhir.Deleted, "%s was deleted", c.ref)
	}
	return c.before.present(c.ref)
}

// Get returns the current version, or what this Tx has put. Its errors are those of Read. A resource put in this Tx has no
// meta.versionId and meta.lastUpdated of ours yet.
func (x Tx) Get(ctx context.Context, ref fhir.Ref) (*fhir.Resource, error) {
	c, err := x.t.change(ctx, ref)
	if err != nil {
		return nil, err
	}
	if err := c.here(); err != nil {
		return nil, err
	}
	if c.put {
		return c.read()
	}
	v, ok, err := x.t.db.engine.Get(ctx, currentKey(c.before.part, ref))
	if err != nil {
		return nil, readError(err)
	}
	if !ok {
		return nil, x.moved(ctx, c)
	}
	s, err := decode(ref, v)
	if err != nil {
		return nil, err
	}
	if s.Version != c.before.version {
		return nil, x.moved(ctx, c)
	}
	return s.Resource()
}

// moved tells apart a resource that another commit changed between two reads, where starting over helps, and a store in which
// index and content differ, where it does not.
func (x Tx) moved(ctx context.Context, c *change) error {
	now, _, err := readEntry(ctx, x.t.db.engine, c.ref)
	if err != nil {
		return err
	}
	if now == nil || now.version != c.before.version {
		return kv.ErrConflict
	}
	return fhir.Errorf(fhir.Exception, "%s: the index says version %d, and that is not what is stored", c.ref, c.before.version)
}

// Put stores r as the current version, unless that has the same content already (all but meta.versionId and
// meta.lastUpdated, which are the store's to say): then nothing is written and changed is false. A resource that comes under
// another patient or source than before leaves the old record, with a tombstone and an event there.
func (x Tx) Put(ctx context.Context, home Home, r *fhir.Resource) (changed bool, err error) {
	part, err := home.part()
	if err != nil {
		return false, fhir.IssueOf(err).At(r.Type())
	}
	if r.ID() == "" {
		return false, fhir.Errorf(fhir.Required, "a resource needs an id to be stored").At(r.Type() + ".id")
	}
	if m := r.Value().Member("meta"); m.Exists() && !m.IsObject() { // ours could not be written into it
		return false, fhir.Errorf(fhir.Structure, "meta is an object").At(r.Type() + ".meta")
	}
	c, err := x.t.change(ctx, r.Ref())
	if err != nil {
		return false, err
	}
	content := contentHash(r)
	if c.here() == nil {
		same := c.before != nil && c.before.part == part && c.before.content == content
		if c.put {
			same = c.part == part && c.content == content
		}
		if same {
			return false, nil
		}
	}
	c.home, c.part, c.content, c.put, c.resource, c.bytes, c.deleted = home, part, content, true, r, nil, false
	if x.t.held += len(r.Raw()); x.t.held > mostHeld {
		c.resource, c.bytes = nil, r.Raw()
	}
	return true, nil
}

// Version is the version that the resource has, or will have when this Tx is committed; 0 if there never was one.
func (x Tx) Version(ctx context.Context, ref fhir.Ref) (int, error) {
	c, err := x.t.change(ctx, ref)
	if err != nil {
		return 0, err
	}
	n := 0
	if c.before != nil {
		n = c.before.version
	}
	switch c.effect() {
	case nothing:
		return n, nil
	case moves:
		return n + 2, nil
	}
	return n + 1, nil
}

// Delete takes the resource away, leaving a tombstone and its history. It fails as Read does where there is none.
//
// FHIR R4 http.html#delete
func (x Tx) Delete(ctx context.Context, ref fhir.Ref) error {
	c, err := x.t.change(ctx, ref)
	if err != nil {
		return err
	}
	if err := c.here(); err != nil {
		return err
	}
	c.put, c.resource, c.bytes, c.deleted = false, nil, nil, true
	return nil
}

func (h Home) part() (kv.Part, error) {
	switch {
	case h.Source == "" || strings.IndexByte(h.Source, 0) >= 0:
		return "", fhir.Errorf(fhir.Required, "a stored resource needs the source it is from")
	case h.Patient == "":
		return kv.Part(sourcePrefix + h.Source), nil
	case !fhir.ValidID(h.Patient):
		return "", fhir.Errorf(fhir.ValueError, "a patient's id on this server has the form of a FHIR id")
	}
	return patientPart(h.Patient), nil
}

// Bucket is a room's own keys and values, in the same transaction.
func (x Tx) Bucket(name string) TxBucket { return TxBucket{x.t, bucketPart(name)} }

// A TxBucket is a bucket inside a transaction.
type TxBucket struct {
	t    *transaction
	part kv.Part
}

// Get returns the value at key; ok is false if there is none. The caller must not change it.
func (b TxBucket) Get(ctx context.Context, key string) (value []byte, ok bool, err error) {
	k := kv.Key{Part: b.part, Key: key}
	if w, mine := b.t.writes[k]; mine {
		return w.value, !w.delete, nil
	}
	return b.t.get(ctx, k)
}

// MultiGet returns a value per key in one round trip, nil where there is none.
func (b TxBucket) MultiGet(ctx context.Context, keys ...string) ([][]byte, error) {
	places := make([]kv.Key, len(keys))
	for i, k := range keys {
		places[i] = kv.Key{Part: b.part, Key: k}
	}
	if err := b.t.multiGet(ctx, slices.Clone(places)); err != nil {
		return nil, err
	}
	out := make([][]byte, len(keys))
	for i, key := range keys {
		v, ok, err := b.Get(ctx, key)
		if err != nil {
			return nil, err
		}
		if ok && v == nil {
			v = []byte{}
		}
		if ok {
			out[i] = v
		}
	}
	return out, nil
}

// Put sets a key. The value is not copied: leave it alone afterwards.
func (b TxBucket) Put(key string, value []byte) { b.write(key, write{value: value}) }

// Delete removes a key.
func (b TxBucket) Delete(key string) { b.write(key, write{delete: true}) }

func (b TxBucket) write(key string, w write) {
	k := kv.Key{Part: b.part, Key: key}
	if _, again := b.t.writes[k]; !again {
		b.t.fresh = append(b.t.fresh, k)
	}
	b.t.writes[k] = w
}

// written are the keys with a prefix that this Tx has written or deleted, in order. What was written since they were last asked for is sorted in first:
// a follower asks again and again in one large transaction.
func (b TxBucket) written(prefix string) []string {
	t := b.t
	if len(t.fresh) > 0 {
		slices.SortFunc(t.fresh, compareKeys)
		merged := make([]kv.Key, 0, len(t.sorted)+len(t.fresh))
		old := t.sorted
		for _, k := range t.fresh {
			n, _ := slices.BinarySearchFunc(old, k, compareKeys)
			merged = append(append(merged, old[:n]...), k)
			old = old[n:]
		}
		t.sorted, t.fresh = append(merged, old...), t.fresh[:0]
	}
	at, _ := slices.BinarySearchFunc(t.sorted, kv.Key{Part: b.part, Key: prefix}, compareKeys)
	var out []string
	for _, k := range t.sorted[at:] {
		if k.Part != b.part || !strings.HasPrefix(k.Key, prefix) {
			break
		}
		out = append(out, k.Key)
	}
	return out
}

func compareKeys(a, b kv.Key) int {
	return cmp.Or(strings.Compare(string(a.Part), string(b.Part)), strings.Compare(a.Key, b.Key))
}

// Scan yields the items whose keys start with prefix, in order, as this Tx sees them. Update starts over if one of them changes
// meanwhile, but does not notice a new one: where that matters, put what is counted under one key.
func (b TxBucket) Scan(ctx context.Context, prefix string) iter.Seq2[Item, error] {
	return func(yield func(Item, error) bool) {
		items := map[string][]byte{}
		for en, err := range b.t.db.engine.Scan(ctx, []kv.Range{kv.Prefix(b.part, prefix)}, 0) {
			if err != nil {
				yield(Item{}, readError(err))
				return
			}
			if was, ok := b.t.reads[en.Key]; !ok {
				b.t.reads[en.Key] = read{en.Value, true}
			} else if !was.ok || string(was.value) != string(en.Value) {
				yield(Item{}, kv.ErrConflict) // changed since this Tx first read it
				return
			}
			items[en.Key.Key] = en.Value
		}
		for _, k := range b.written(prefix) {
			w := b.t.writes[kv.Key{Part: b.part, Key: k}]
			if delete(items, k); !w.delete {
				items[k] = w.value
			}
		}
		for _, k := range slices.Sorted(maps.Keys(items)) {
			if !yield(Item{k, items[k]}, nil) {
				return
			}
		}
	}
}

// PeekAll gives, for each prefix, up to limit of the items whose keys start with it, those this Tx has written first, in one round trip where none has
// many. Unlike Scan it does not tie the transaction to them: it is for candidates that are looked at again wherever it matters.
func (b TxBucket) PeekAll(ctx context.Context, prefixes []string, limit int) ([][]Item, error) {
	out := make([][]Item, len(prefixes))
	mine := map[string]bool{}
	for i, prefix := range prefixes {
		for _, k := range b.written(prefix) {
			mine[k] = true
			if w := b.t.writes[kv.Key{Part: b.part, Key: k}]; !w.delete && len(out[i]) < limit {
				out[i] = append(out[i], Item{k, w.value})
			}
		}
	}
	stored, err := Reader{b.t.db.engine, b.part}.PeekAll(ctx, prefixes, limit+len(mine))
	if err != nil {
		return nil, err
	}
	for i := range stored {
		for _, item := range stored[i] {
			if !mine[item.Key] && len(out[i]) < limit {
				out[i] = append(out[i], item)
			}
		}
	}
	return out, nil
}
