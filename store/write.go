package store

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strconv"

	"tombolo/events"
	"tombolo/fhir"
	"tombolo/kv"
)

// An effect is what a change comes to, once all that a transaction asked for is known.
type effect int

const (
	nothing effect = iota
	creates        // also after a deletion
	updates
	moves // out of one record and into another
	deletes
)

func (c *change) effect() effect {
	had := c.before != nil && !c.before.deleted
	switch {
	case c.deleted && had:
		return deletes
	case c.deleted || !c.put:
		return nothing
	case !had:
		return creates
	case c.before.part != c.part:
		return moves
	case c.before.content != c.content:
		return updates
	}
	return nothing
}

// commit turns the transaction into one batch. What it still needs to know, the versions that go into history and which partitions are
// known, it reads in one round trip.
func (t *transaction) commit(ctx context.Context) (kv.Position, error) {
	w := &writer{t: t, batch: kv.Batch{Since: t.since, Lazy: t.lazy, Given: true}, sums: map[kv.Key]int64{}}
	if err := w.prepare(ctx); err != nil {
		return 0, err
	}
	w.batch.Put = make([]kv.Entry, 0, len(t.writes)+16*len(t.order))
	for _, c := range t.order {
		if err := w.change(c); err != nil {
			return 0, err
		}
	}
	for _, k := range sortedKeys(t.writes) {
		if x := t.writes[k]; x.delete {
			w.batch.Delete = append(w.batch.Delete, k)
		} else {
			w.put(k, x.value)
		}
	}
	for _, k := range sortedKeys(w.sums) {
		if by := w.sums[k]; by != 0 {
			w.batch.Add = append(w.batch.Add, kv.Sum{Key: k, By: by})
		}
	}
	w.batch.Expect = t.expected()
	at, err := t.db.engine.Commit(ctx, w.batch)
	if err == nil {
		t.db.listed.learn(w.known)
	}
	if err != nil && !errors.Is(err, kv.ErrConflict) {
		return 0, fhir.Errorf(fhir.NoStore, "it is not certain that this was stored: %w", err)
	}
	return at, err
}

// expected is what a transaction has read.
func (t *transaction) expected() []kv.Precondition {
	var out []kv.Precondition
	for _, k := range sortedKeys(t.reads) {
		r := t.reads[k]
		out = append(out, kv.Precondition{Key: k, Value: r.value, Absent: !r.ok})
	}
	return out
}

// refuse gives the error with which a transaction ends, once what it has read is as it was and durable: an engine may show a commit before it lasts. kv.ErrConflict if it has changed.
func (t *transaction) refuse(ctx context.Context, why error) error {
	if errors.Is(why, kv.ErrConflict) {
		return why
	}
	_, err := t.db.engine.Commit(ctx, kv.Batch{Since: t.since, Expect: t.expected()})
	switch {
	case err == nil:
		return why
	case errors.Is(err, kv.ErrConflict):
		return err
	case ctx.Err() != nil:
		return readError(ctx.Err())
	}
	return fhir.Errorf(fhir.Transient, "what this was decided by may not last, so it is not told: try again: %w", err)
}

func sortedKeys[V any](m map[kv.Key]V) []kv.Key {
	return slices.SortedFunc(maps.Keys(m), func(a, b kv.Key) int {
		if a.Part != b.Part {
			if a.Part < b.Part {
				return -1
			}
			return 1
		}
		if a.Key < b.Key {
			return -1
		}
		if a.Key > b.Key {
			return 1
		}
		return 0
	})
}

// A writer builds the batch of one transaction.
type writer struct {
	t     *transaction
	batch kv.Batch
	old   map[fhir.Ref][]byte // stored values that this transaction replaces
	known map[kv.Part]bool    // partitions in the catalogue
	sums  map[kv.Key]int64    // by how much counters change

	updated []string // index values of this transaction's meta.lastUpdated
}

func (w *writer) prepare(ctx context.Context) error {
	var keys []kv.Key
	var refs []fhir.Ref
	var parts []kv.Part
	w.old, w.known = map[fhir.Ref][]byte{}, map[kv.Part]bool{}
	for _, c := range w.t.order {
		switch c.effect() {
		case updates, moves, deletes:
			keys, refs = append(keys, currentKey(c.before.part, c.ref)), append(refs, c.ref)
		}
	}
	for _, c := range w.t.order {
		switch c.effect() {
		case creates, moves:
			if _, ok := w.known[c.part]; !ok {
				if w.known[c.part] = w.t.db.listed.has(c.part); w.known[c.part] {
					continue
				}
				keys, parts = append(keys, kv.Key{Part: cataloguePart, Key: string(c.part)}), append(parts, c.part)
			}
		}
	}
	if len(w.t.order) > 0 {
		w.updated = updatedValues(fhir.Instant(w.t.now))
	}
	if len(keys) == 0 {
		return nil
	}
	values, err := w.t.db.engine.MultiGet(ctx, keys)
	if err != nil {
		return readError(err)
	}
	for i, ref := range refs {
		w.old[ref] = values[i]
	}
	for i, p := range parts {
		w.known[p] = values[len(refs)+i] != nil
	}
	return nil
}

func (w *writer) put(k kv.Key, value []byte) {
	w.batch.Put = append(w.batch.Put, kv.Entry{Key: k, Value: value})
}

func (w *writer) change(c *change) error {
	switch c.effect() {
	case nothing:
		return nil
	case creates:
		version := 1
		if c.before != nil {
			version = c.before.version + 1
		}
		return w.write(c, version, nil, events.Created)
	case updates:
		old, err := w.retire(c)
		if err != nil {
			return err
		}
		return w.write(c, c.before.version+1, old, events.Updated)
	case deletes:
		_, err := w.bury(c, nil)
		return err
	case moves:
		buried, err := w.bury(c, &c.part)
		if err != nil {
			return err
		}
		return w.write(c, buried+1, nil, events.Created)
	}
	return nil
}

// retire puts the current version into the history of its record. It returns its index keys, or none if it is damaged: what then
// stays in the index is passed over when it is looked up, since it no longer matches.
func (w *writer) retire(c *change) (index []kv.Key, err error) {
	v := w.old[c.ref]
	if v == nil {
		return nil, kv.ErrConflict // it went between two reads; if it is truly lost, that shows on reading
	}
	w.put(historyKey(c.before.part, c.ref, c.before.version), v)
	s, err := decode(c.ref, v)
	if err != nil {
		return nil, nil
	}
	if s.Version != c.before.version {
		return nil, kv.ErrConflict
	}
	r, err := s.Resource()
	if err != nil {
		return nil, nil
	}
	return indexKeys(r, place{c.before.part, c.ref.ID()}, updatedValues(fhir.Instant(s.At))), nil
}

// bury takes the current version out of its record, leaving a tombstone, whose version it returns. next, if set, is the record into
// which the resource goes instead; its entry is then written by who writes it there.
func (w *writer) bury(c *change, next *kv.Part) (version int, err error) {
	index, err := w.retire(c)
	if err != nil {
		return 0, err
	}
	w.index(nil, index, place{c.before.part, c.ref.ID()})
	version = c.before.version + 1
	was := Stored{Ref: c.ref}
	if s, err := decode(c.ref, w.old[c.ref]); err == nil {
		was = s
	}
	w.batch.Delete = append(w.batch.Delete, currentKey(c.before.part, c.ref))
	w.put(historyKey(c.before.part, c.ref, version), encode(Stored{
		Ref: c.ref, Version: version, At: w.t.now, Source: was.Source, Heading: was.Heading, Deleted: true,
	}))
	if next == nil {
		e := &entry{part: c.before.part, older: c.before.older, version: version, deleted: true}
		w.put(idKey(c.ref), e.encode())
	}
	w.event(events.Event{
		Kind: events.Deleted, Ref: c.ref, Patient: c.before.patient(), Source: was.Source, Heading: was.Heading, Version: version,
	})
	return version, nil
}

// write makes the new current version. oldIndex are the index keys of the one before, in the same record.
func (w *writer) write(c *change, version int, oldIndex []kv.Key, kind events.Kind) error {
	r, err := c.read()
	if err != nil {
		return err
	}
	c.resource, c.bytes = nil, nil // from here on it is in the batch
	updated := fhir.Instant(w.t.now)
	ours := meta(r, version, updated)
	value := head(Stored{Version: version, At: w.t.now, Source: c.home.Source, Heading: c.home.Heading}, len(r.Raw())+len(ours)+16)
	w.put(currentKey(c.part, c.ref), seal(c.ref, r.AppendSplice(value, "meta", ours)))
	e := &entry{part: c.part, version: version, content: c.content}
	if c.before != nil {
		for _, p := range c.before.parts() {
			if p != c.part && !slices.Contains(e.older, p) {
				e.older = append(e.older, p)
			}
		}
	}
	w.put(idKey(c.ref), e.encode())
	at := place{c.part, c.ref.ID()}
	w.index(indexKeys(r, at, w.updated), oldIndex, at)
	if known, asked := w.known[c.part]; asked && !known {
		w.put(kv.Key{Part: cataloguePart, Key: string(c.part)}, nil)
		w.known[c.part] = true
	}
	w.event(events.Event{
		Kind: kind, Ref: c.ref, Patient: patientOf(c.part), Source: c.home.Source, Heading: c.home.Heading, Version: version,
	})
	return nil
}

// index writes what is new in the index and removes what is no longer so.
func (w *writer) index(now, before []kv.Key, at place) {
	w.count(now, before, at)
	had := make(map[kv.Key]bool, len(before))
	for _, k := range before {
		had[k] = true
	}
	for _, k := range now {
		if !had[k] {
			w.put(k, nil)
		}
		delete(had, k)
	}
	w.batch.Delete = append(w.batch.Delete, sortedKeys(had)...)
}

func (w *writer) event(e events.Event) {
	e.At = w.t.now
	data, err := json.Marshal(e)
	if err != nil {
		panic("store: an event cannot be written as JSON: " + err.Error()) // a mistake in this program
	}
	w.batch.Append = append(w.batch.Append, data)
}

// meta is the resource's meta with our versionId and lastUpdated, and all else that stands in it.
//
// FHIR R4 resource.html#Meta
func meta(r *fhir.Resource, version int, updated string) []byte {
	b := make([]byte, 0, 256)
	b = append(b, `{"versionId":"`...)
	b = strconv.AppendInt(b, int64(version), 10)
	b = append(b, `","lastUpdated":"`...)
	b = append(b, updated...)
	b = append(b, '"')
	for m := range r.Value().Member("meta").Children() {
		if m.Key() == "versionId" || m.Key() == "lastUpdated" {
			continue
		}
		b = append(b, ',')
		b = append(b, fhir.JSON(m.Key())...)
		b = append(b, ':')
		b = append(b, m.Raw()...)
	}
	return append(b, '}')
}
