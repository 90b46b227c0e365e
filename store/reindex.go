package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"tombolo/fhir"
	"tombolo/kv"
)

// A Reindexed says what Reindex did.
type Reindexed struct {
	Resources  int64 `json:"resources"`  // looked at
	Resumed    bool  `json:"resumed"`    // it went on where one before was interrupted
	Added      int64 `json:"added"`      // index keys that were missing
	Removed    int64 `json:"removed"`    // index keys that were stale
	Entries    int64 `json:"entries"`    // entries of the index of ids that were written anew
	Recounted  int64 `json:"recounted"`  // counts of codes that were wrong
	Grouped    int64 `json:"grouped"`    // index keys that now share the room of their like, where the engine can (PostgreSQL)
	Listed     int64 `json:"listed"`     // records that the catalogue lacked
	Damaged    int64 `json:"damaged"`    // versions that cannot be read, of which no keys can be made
	Unmendable int64 `json:"unmendable"` // resources that stand in two records at once
}

// String is what an operator reads.
func (r Reindexed) String() string {
	s := fmt.Sprintf("%d resources looked at: %d index keys added, %d removed, %d entries of the index of ids and %d of the catalogue written, %d counts of codes put right.\n",
		r.Resources, r.Added, r.Removed, r.Entries, r.Listed, r.Recounted)
	if r.Resumed {
		s = "Went on where it was interrupted. " + s
	}
	if r.Grouped > 0 {
		s += fmt.Sprintf("%d index keys of an earlier version now share rows; what they took is free for new ones (vacuum full tombolo.entry gives it back to the disk, with no node running).\n", r.Grouped)
	}
	if r.Damaged > 0 {
		s += fmt.Sprintf("%d versions are damaged and were left as they are: tombolo store verify names them.\n", r.Damaged)
	}
	if r.Unmendable > 0 {
		s += fmt.Sprintf("%d resources stand in two records at once; the newer is the one that is found: tombolo store verify names them.\n", r.Unmendable)
	}
	return s
}

// upkeepBucket keeps, under reindexKey, how far a Reindex has come.
const (
	upkeepBucket = "upkeep"
	reindexKey   = "reindex"
)

// reindexState is what an interrupted Reindex leaves.
type reindexState struct {
	Index string    `json:"index"` // what it was bringing the index to
	After kv.Part   `json:"after"` // the last record done
	Done  Reindexed `json:"done"`
}

// Reindex makes all that is derived from the records anew where it is not as it should be: index keys, entries of the index of ids, the
// catalogue. It works beside readers and writers, remembers how far it has come, and goes on from there when it is run again.
// When it is done, the index is that of this version of the program. tell may be nil.
func (db *DB) Reindex(ctx context.Context, tell func(Progress)) (Reindexed, error) {
	if tell == nil {
		tell = func(Progress) {}
	}
	x := &reindexer{db: db, tell: tell}
	if err := x.begin(ctx); err != nil {
		return x.state.Done, err
	}
	for _, step := range []func(context.Context) error{x.list, x.records, x.former, x.stale, x.counts, x.group, x.finish} {
		if err := step(ctx); err != nil {
			return x.state.Done, err
		}
	}
	return x.state.Done, nil
}

type reindexer struct {
	db    *DB
	tell  func(Progress)
	state reindexState
	saved time.Time
}

func (x *reindexer) begin(ctx context.Context) error {
	x.state = reindexState{Index: indexRules()}
	raw, ok, err := x.db.View(upkeepBucket).Get(ctx, reindexKey)
	if err != nil || !ok {
		return err
	}
	var was reindexState
	if json.Unmarshal(raw, &was) == nil && was.Index == x.state.Index {
		x.state = was
		x.state.Done.Resumed = true
	}
	return nil
}

// save remembers how far it has come, now and then.
func (x *reindexer) save(ctx context.Context) error {
	if time.Since(x.saved) < time.Second {
		return nil
	}
	x.saved = time.Now()
	raw, err := json.Marshal(x.state)
	if err != nil {
		return err
	}
	return x.commit(ctx, kv.Batch{Put: []kv.Entry{{Key: kv.Key{Part: bucketPart(upkeepBucket), Key: reindexKey}, Value: raw}}})
}

func (x *reindexer) commit(ctx context.Context, b kv.Batch) error {
	_, err := x.db.engine.Commit(ctx, b)
	if err != nil && !errors.Is(err, kv.ErrConflict) {
		return fhir.Errorf(fhir.NoStore, "reindexing stopped, and goes on from here when it is run again: %w", err)
	}
	return err
}

// list puts records into the catalogue that it lacks.
func (x *reindexer) list(ctx context.Context) error {
	snap, err := x.db.engine.Snapshot(ctx)
	if err != nil {
		return readError(err)
	}
	defer func() { _ = snap.Close() }()
	var keys []kv.Key
	flush := func() error {
		values, err := snap.MultiGet(ctx, keys)
		if err != nil {
			return readError(err)
		}
		var b kv.Batch
		for i, v := range values {
			if v == nil {
				b.Put = append(b.Put, kv.Entry{Key: keys[i]})
			}
		}
		keys = nil
		if x.state.Done.Listed += int64(len(b.Put)); len(b.Put) == 0 {
			return nil
		}
		return x.commit(ctx, b)
	}
	for p, err := range snap.Parts(ctx) {
		if err != nil {
			return readError(err)
		}
		if !isRecord(p) {
			continue
		}
		if keys = append(keys, kv.Key{Part: cataloguePart, Key: string(p)}); len(keys) == 1000 {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	return flush()
}

// records goes through the records in the order of the catalogue.
func (x *reindexer) records(ctx context.Context) error {
	done := int64(0)
	for {
		from := kv.Range{Part: cataloguePart}
		if x.state.After != "" {
			from.From = string(x.state.After) + "\x00"
		}
		n := 0
		for en, err := range x.db.engine.Scan(ctx, []kv.Range{from}, 1000) {
			if err != nil {
				return readError(err)
			}
			n++
			if err := x.record(ctx, kv.Part(en.Key.Key)); err != nil {
				return err
			}
			x.state.After = kv.Part(en.Key.Key)
			if err := x.save(ctx); err != nil {
				return err
			}
			done++
			x.tell(Progress{Doing: "reindexing records", Done: done})
		}
		if n < 1000 {
			return nil
		}
	}
}

// record mends what is derived from the resources of one record.
func (x *reindexer) record(ctx context.Context, part kv.Part) error {
	last := map[fhir.Ref]int{} // the newest version in the history here
	var batch []kv.Entry
	flush := func() error {
		err := x.batch(ctx, batch)
		batch = nil
		return err
	}
	for en, err := range x.db.engine.Scan(ctx, []kv.Range{{Part: part}}, 0) {
		if err != nil {
			return readError(err)
		}
		ref, n, ok := parseRecordKey(en.Key.Key)
		switch {
		case !ok:
		case n > 0:
			last[ref] = max(last[ref], n)
		default:
			if batch = append(batch, en); len(batch) == 256 {
				if err := flush(); err != nil {
					return err
				}
			}
		}
	}
	if err := flush(); err != nil {
		return err
	}
	return x.histories(ctx, part, last)
}

// A wish is what one current version should have.
type wish struct {
	ref     fhir.Ref
	part    kv.Part
	entry   entry
	keys    []kv.Key // in the index
	missing []kv.Key // of them
}

func wishOf(en kv.Entry) (wish, error) {
	ref := refOfCurrent(en.Key.Key)
	s, err := decode(ref, en.Value)
	if err != nil {
		return wish{}, err
	}
	r, err := s.Resource()
	if err != nil {
		return wish{}, err
	}
	return wish{ref: ref, part: en.Key.Part, entry: entry{part: en.Key.Part, version: s.Version, content: contentHash(r)},
		keys: indexKeys(r, place{en.Key.Part, ref.ID()}, updatedValues(fhir.Instant(s.At)))}, nil
}

// agrees says whether the index of ids says of a resource what it should.
func (w wish) agrees(e *entry) bool {
	return !e.deleted && e.part == w.part && e.version == w.entry.version && e.content == w.entry.content
}

// batch mends some current versions: all that lack only index keys in one commit, others one by one.
func (x *reindexer) batch(ctx context.Context, entries []kv.Entry) error {
	var wishes []wish
	var keys []kv.Key
	for _, en := range entries {
		x.state.Done.Resources++
		w, err := wishOf(en)
		if err != nil {
			x.state.Done.Damaged++
			continue
		}
		wishes = append(wishes, w)
		keys = append(append(keys, idKey(w.ref)), w.keys...)
	}
	values, err := x.db.engine.MultiGet(ctx, keys)
	if err != nil {
		return readError(err)
	}
	var b kv.Batch
	var single []wish
	for i := range wishes {
		w := &wishes[i]
		raw, had := values[0], values[1:1+len(w.keys)]
		values = values[1+len(w.keys):]
		for k, v := range had {
			if v == nil {
				w.missing = append(w.missing, w.keys[k])
			}
		}
		e, err := decodeEntry(raw)
		switch {
		case err != nil || !w.agrees(e):
			single = append(single, *w)
		case len(w.missing) > 0:
			b.Expect = append(b.Expect, kv.Precondition{Key: idKey(w.ref), Value: raw})
			for _, k := range w.missing {
				b.Put = append(b.Put, kv.Entry{Key: k})
			}
		}
	}
	if len(b.Put) > 0 {
		switch err := x.commit(ctx, b); {
		case errors.Is(err, kv.ErrConflict): // one of them was written meanwhile
			single = wishes
		case err != nil:
			return err
		default:
			x.state.Done.Added += int64(len(b.Put))
		}
	}
	for _, w := range single {
		if err := x.one(ctx, w.part, w.ref); err != nil {
			return err
		}
	}
	return nil
}

// one mends one current version, as it is by now.
func (x *reindexer) one(ctx context.Context, part kv.Part, ref fhir.Ref) error {
	for range maxAttempts {
		at := currentKey(part, ref)
		value, there, err := x.db.engine.Get(ctx, at)
		if err != nil {
			return readError(err)
		}
		if !there {
			return nil // gone, or gone elsewhere
		}
		w, err := wishOf(kv.Entry{Key: at, Value: value})
		if err != nil {
			return nil // counted already
		}
		values, err := x.db.engine.MultiGet(ctx, append([]kv.Key{historyKey(part, ref, w.entry.version), idKey(ref)}, w.keys...))
		if err != nil {
			return readError(err)
		}
		if values[0] != nil { // it is in the history already: the row has gone back, and must not become the newest again
			x.state.Done.Damaged++
			return nil
		}
		values = values[1:]
		raw := values[0]
		b := kv.Batch{Expect: []kv.Precondition{{Key: idKey(ref), Value: raw, Absent: raw == nil}, {Key: at, Value: value}}}
		for i, v := range values[1:] {
			if v == nil {
				b.Put = append(b.Put, kv.Entry{Key: w.keys[i]})
			}
		}
		added := int64(len(b.Put))
		e, err := decodeEntry(raw)
		if err != nil || !w.agrees(e) {
			if err == nil {
				newer, err := x.elsewhere(ctx, ref, e, w)
				if err != nil {
					return err
				}
				if newer {
					x.state.Done.Unmendable++
					return nil
				}
				w.entry.older = olderParts(e, part)
			}
			b.Put = append(b.Put, kv.Entry{Key: idKey(ref), Value: w.entry.encode()})
		}
		err = x.commit(ctx, b)
		if err == nil {
			x.state.Done.Added += added
			x.state.Done.Entries += int64(len(b.Put)) - added
			return nil
		}
		if !errors.Is(err, kv.ErrConflict) {
			return err
		}
	}
	return fhir.Errorf(fhir.Conflict, "%s is written all the time: run tombolo store reindex again", ref)
}

// elsewhere says whether the entry speaks of a version of the resource in another record that is there and not older than what is wished.
func (x *reindexer) elsewhere(ctx context.Context, ref fhir.Ref, e *entry, w wish) (bool, error) {
	if e.deleted || e.part == w.part {
		return false, nil
	}
	value, there, err := x.db.engine.Get(ctx, currentKey(e.part, ref))
	if err != nil || !there {
		return false, err
	}
	s, err := decode(ref, value)
	return err == nil && s.Version >= w.entry.version, nil
}

// olderParts are the partitions that an entry names, other than that of the current version.
func olderParts(e *entry, now kv.Part) []kv.Part {
	var out []kv.Part
	for _, p := range e.parts() {
		if p != now && !slices.Contains(out, p) {
			out = append(out, p)
		}
	}
	return out
}

// histories mends the entries of resources with older versions or a tombstone in a record.
func (x *reindexer) histories(ctx context.Context, part kv.Part, last map[fhir.Ref]int) error {
	refs := sortedRefs(last)
	keys := make([]kv.Key, len(refs))
	for i, ref := range refs {
		keys[i] = idKey(ref)
	}
	values, err := x.db.engine.MultiGet(ctx, keys)
	if err != nil {
		return readError(err)
	}
	for i, ref := range refs {
		e, derr := decodeEntry(values[i])
		if derr == nil && slices.Contains(e.parts(), part) {
			continue
		}
		if derr == nil {
			e.older = append(e.older, part)
		} else if e, err = x.tombstone(ctx, part, ref, last[ref]); err != nil {
			return err
		}
		if e == nil {
			continue // its last version is lost: it has no entry to give
		}
		err := x.commit(ctx, kv.Batch{Expect: []kv.Precondition{{Key: keys[i], Value: values[i], Absent: values[i] == nil}},
			Put: []kv.Entry{{Key: keys[i], Value: e.encode()}}})
		if err != nil && !errors.Is(err, kv.ErrConflict) { // whoever wrote it meanwhile made the entry
			return err
		}
		x.state.Done.Entries++
	}
	return nil
}

// tombstone is the entry of a resource whose newest version in a record's history is its deletion; nil if it is none.
func (x *reindexer) tombstone(ctx context.Context, part kv.Part, ref fhir.Ref, version int) (*entry, error) {
	v, ok, err := x.db.engine.Get(ctx, historyKey(part, ref, version))
	if err != nil {
		return nil, readError(err)
	}
	if s, err := decode(ref, v); !ok || err != nil || !s.Deleted {
		return nil, nil
	}
	return &entry{part: part, version: version, deleted: true}, nil
}

// former removes the index of before rules 3, which had partitions of other names. It is not counted: there is no such key that would be right.
func (x *reindexer) former(ctx context.Context) error {
	snap, err := x.db.engine.Snapshot(ctx)
	if err != nil {
		return readError(err)
	}
	defer func() { _ = snap.Close() }()
	for part, err := range snap.Parts(ctx) {
		if err != nil {
			return readError(err)
		}
		if !strings.HasPrefix(string(part), formerIndex) {
			continue
		}
		var keys []kv.Key
		for en, err := range snap.Scan(ctx, []kv.Range{{Part: part}}, 0) {
			if err != nil {
				return readError(err)
			}
			if keys = append(keys, en.Key); len(keys) == 1000 {
				if err := x.commit(ctx, kv.Batch{Delete: keys}); err != nil {
					return err
				}
				keys = nil
			}
		}
		if err := x.commit(ctx, kv.Batch{Delete: keys}); err != nil {
			return err
		}
		x.tell(Progress{Doing: "removing the former index of " + strings.TrimPrefix(string(part), formerIndex)})
	}
	return nil
}

// stale removes what the index should not have, found by holding all of it to the records of one moment.
func (x *reindexer) stale(ctx context.Context) error {
	snap, err := x.db.engine.Snapshot(ctx)
	if err != nil {
		return readError(err)
	}
	defer func() { _ = snap.Close() }()
	c, err := x.db.takeCensus(ctx, snap, x.tell)
	if err != nil {
		return err
	}
	if c.broken {
		return fhir.Errorf(fhir.Exception, "not all of the store can be read, so the index cannot be held to it: tombolo store verify says what")
	}
	v := &verifier{census: c, db: x.db, snap: snap, tell: x.tell}
	return v.stale(ctx, func(k kv.Key, at place) error { return x.remove(ctx, k, at) })
}

// remove removes an index key if the resource at its place still does not have it.
func (x *reindexer) remove(ctx context.Context, k kv.Key, at place) error {
	ref := fhir.MakeRef(typeOfIndex(k.Part), at.id)
	for range maxAttempts {
		values, err := x.db.engine.MultiGet(ctx, []kv.Key{idKey(ref), currentKey(at.part, ref)})
		if err != nil {
			return readError(err)
		}
		if values[1] != nil && slices.Contains(indexKeysOf(kv.Entry{Key: currentKey(at.part, ref), Value: values[1]}), k) {
			return nil
		}
		err = x.commit(ctx, kv.Batch{Expect: []kv.Precondition{{Key: idKey(ref), Value: values[0], Absent: values[0] == nil}}, Delete: []kv.Key{k}})
		if err == nil {
			x.state.Done.Removed++
			return nil
		}
		if !errors.Is(err, kv.ErrConflict) {
			return err
		}
	}
	return nil // written all the time, and each write makes it right
}

// group brings index keys together that were written before the engine could.
func (x *reindexer) group(ctx context.Context) error {
	e, ok := x.db.engine.(kv.Grouper)
	if !ok {
		return nil
	}
	before := x.state.Done.Grouped
	err := e.Group(ctx, func(done int64) {
		x.state.Done.Grouped = before + done
		x.tell(Progress{Doing: "bringing index keys together", Done: done})
	})
	if err != nil {
		return fhir.Errorf(fhir.NoStore, "reindexing stopped, and goes on from here when it is run again: %w", err)
	}
	return nil
}

// finish notes that the index is this version's, and forgets how far the work had come.
func (x *reindexer) finish(ctx context.Context) error {
	if err := x.commit(ctx, kv.Batch{Delete: []kv.Key{{Part: bucketPart(upkeepBucket), Key: reindexKey}}}); err != nil {
		return err
	}
	return x.db.indexed(ctx)
}
