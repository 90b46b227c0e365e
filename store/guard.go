package store

import (
	"context"
	"iter"
	"strconv"
	"time"

	"tombolo/fhir"
	"tombolo/kv"
)

// A bit that rots in the head of a row of a database, where its value is not, can bring back what the row was before it was changed or deleted: the value is whole, and its
// SHA-256 right. An engine whose files have checksums notices by itself. Where they have none (an engine that says that it is Unchecked), each resource that is read as current,
// by whatever way, is held to its entry in the index of ids before it is shown: a row and its entry do not both go back at once.

// unchecked reports whether what lies below the store can bring earlier rows back.
func (db *DB) unchecked() bool {
	e, ok := db.engine.(interface{ Unchecked() bool })
	return ok && e.Unchecked()
}

// goneBack is the error of a resource that is stored in another version than the newest.
func goneBack(ref fhir.Ref) error {
	return fhir.Errorf(fhir.Exception, "%s is damaged in the store: it is not in the version that the index of ids says, so it is not shown. Run tombolo store verify, and restore it from a checkpoint", ref)
}

// is reports whether an entry says that this version is current, in this record.
func (e *entry) is(part kv.Part, version int) bool {
	return e != nil && !e.deleted && e.part == part && e.version == version
}

// A row is a resource as it was read where current ones stand.
type row struct {
	part kv.Part
	Stored
	err  error // it cannot be decoded, or has gone back
	gone bool  // it stands there no more
}

// guarded yields rows, those that have gone back with an error. It reads ahead no more than some hundreds.
func (db *DB) guarded(ctx context.Context, rows iter.Seq2[row, error]) iter.Seq2[row, error] {
	if !db.unchecked() {
		return rows
	}
	return func(yield func(row, error) bool) {
		var some []row
		flush := func() bool {
			if err := db.hold(ctx, some); err != nil {
				yield(row{}, err)
				return false
			}
			for _, r := range some {
				if !r.gone && !yield(r, nil) {
					return false
				}
			}
			some = some[:0]
			return true
		}
		for r, err := range rows {
			if err != nil {
				if flush() {
					yield(row{}, err)
				}
				return
			}
			if some = append(some, r); len(some) == guardChunk && !flush() {
				return
			}
		}
		flush()
	}
}

// guardChunk is how many entries are asked for at a time.
const guardChunk = 512

// hold leaves out of what a search has found what has gone back, and tells of it.
func (f *finder) hold(ctx context.Context, found []*fhir.Resource, stood map[*fhir.Resource]place) ([]*fhir.Resource, error) {
	if !f.db.unchecked() {
		return found, nil
	}
	rows := make([]row, len(found))
	for i, r := range found {
		version, _ := strconv.Atoi(r.Text("meta.versionId"))
		rows[i] = row{part: stood[r].part, Stored: Stored{Ref: r.Ref(), Version: version}}
	}
	if err := f.db.hold(ctx, rows); err != nil {
		return nil, err
	}
	out := found[:0]
	for i, r := range found {
		switch {
		case rows[i].err != nil:
			f.issues = append(f.issues, fhir.IssueOf(rows[i].err))
		case !rows[i].gone:
			out = append(out, r)
		}
	}
	return out, nil
}

// hold gives those rows an error of which the index of ids says something else. One that was changed since it was read is as good as it was then.
func (db *DB) hold(ctx context.Context, rows []row) error {
	if len(rows) == 0 {
		return nil
	}
	keys := make([]kv.Key, len(rows))
	for i, r := range rows {
		keys[i] = idKey(r.Ref)
	}
	values, err := db.engine.MultiGet(ctx, keys)
	if err != nil {
		return readError(err)
	}
	for i := range rows {
		r := &rows[i]
		if e, err := decodeEntry(values[i]); r.err != nil || err == nil && e.is(r.part, r.Version) {
			continue
		}
		for try := range 3 {
			db.settle(ctx, try)
			var back bool
			var err error
			if back, r.gone, err = db.hasGoneBack(ctx, r); err != nil {
				return err
			}
			if r.err = nil; !back {
				break
			}
			r.err = goneBack(r.Ref)
		}
	}
	return nil
}

// hasGoneBack reports whether a row still stands where it was read, and its entry, at the same moment, says something else; or is gone. What was found by going through rows and
// not by looking for it was deleted in between, or is a row of before its deletion that no index leads to any more: either way it is not to be shown.
func (db *DB) hasGoneBack(ctx context.Context, r *row) (back, gone bool, err error) {
	now, err := db.engine.MultiGet(ctx, []kv.Key{idKey(r.Ref), currentKey(r.part, r.Ref)})
	if err != nil {
		return false, false, readError(err)
	}
	e, wrong := decodeEntry(now[0])
	says := wrong == nil && e.is(r.part, r.Version)
	if now[1] == nil {
		return false, !says, nil
	}
	if s, err := decode(r.Ref, now[1]); err == nil && s.Version != r.Version {
		return false, false, nil // changed since
	}
	return !says, false, nil
}

// settle waits a little before another try where partitions lie on many machines, on which a commit shows a moment apart.
func (db *DB) settle(ctx context.Context, try int) {
	if !db.spread || try == 0 {
		return
	}
	select {
	case <-ctx.Done():
	case <-time.After(time.Duration(try) * 20 * time.Millisecond):
	}
}
