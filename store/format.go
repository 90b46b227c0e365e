package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"tombolo/fhir"
	"tombolo/kv"
	"tombolo/search"
)

// The partition f says in which format the store's keys and values are, and by which rules its index was made.
const formatPart kv.Part = "f"

var formatKey = kv.Key{Part: formatPart, Key: "format"}

// formatNow is the format that this program writes. Format 1 is that of docs/storage.md; stores of before this key was written have it too.
const formatNow = 1

// A format is what stands under formatKey.
type format struct {
	Format int    `json:"format"`
	Index  string `json:"index"` // indexRules of the program that made the index; "" if that is not known
}

// indexRules changes whenever index keys are made otherwise: by other parameters, or of other values. The 2 stood for there being
// counters, the 3 stands for the codes of ids and of code systems in its keys.
func indexRules() string { return "3." + search.IndexRules() }

// A migration brings a store from one format to the next. It may be interrupted and is then run again, so what it did must do no harm
// when it is done twice; it runs before anything else uses the store, on every engine.
type migration struct {
	from  int
	about string
	run   func(ctx context.Context, e kv.Engine) error
}

// migrations are all there ever were, in order: the store of any released version can be brought to formatNow. (A small store of each
// is kept in testdata, and opened by TestStoresOfEarlierVersions.)
var migrations []migration

// openFormat reads the format and brings the store to that of this program.
func (db *DB) openFormat(ctx context.Context, readOnly bool, now int, steps []migration) error {
	raw, ok, err := db.engine.Get(ctx, formatKey)
	if err != nil {
		return readError(err)
	}
	is := format{Format: 1}
	if ok {
		if err := json.Unmarshal(raw, &is); err != nil || is.Format < 1 {
			return fhir.Errorf(fhir.Exception, "open store: what says its format is damaged: restore a backup")
		}
	} else if empty, err := db.empty(ctx); err != nil {
		return err
	} else if empty {
		is = format{Format: now, Index: indexRules()}
	}
	if is.Format > now {
		return fmt.Errorf("open store: it is in format %d, and this version of the program knows formats up to %d: use the version that wrote it, or a newer one", is.Format, now)
	}
	db.stale.Store(is.Index != indexRules())
	if readOnly {
		if is.Format < now {
			return fmt.Errorf("open store: it is in format %d and cannot be brought to format %d while it is only read: open it for writing once", is.Format, now)
		}
		return nil
	}
	for _, m := range steps {
		if m.from < is.Format {
			continue
		}
		if m.from != is.Format {
			return fmt.Errorf("open store: there is no way from format %d to %d", is.Format, now)
		}
		if err := m.run(ctx, db.engine); err != nil {
			return fmt.Errorf("open store: bring it from format %d to %d (%s); it is tried again at the next start: %w", m.from, m.from+1, m.about, err)
		}
		next := format{Format: m.from + 1, Index: is.Index}
		if raw, err = db.writeFormat(ctx, raw, next); err != nil {
			return err
		}
		is, ok = next, true
	}
	if is.Format != now {
		return fmt.Errorf("open store: there is no way from format %d to %d", is.Format, now)
	}
	if ok {
		return nil
	}
	_, err = db.writeFormat(ctx, raw, is)
	return err
}

// empty says whether nothing was ever stored.
func (db *DB) empty(ctx context.Context) (bool, error) {
	for _, err := range db.engine.Scan(ctx, []kv.Range{{Part: cataloguePart}}, 1) {
		if err != nil {
			return false, readError(err)
		}
		return false, nil
	}
	return true, nil
}

// writeFormat replaces what stands there. Of nodes that start together one does it, and the others find that it is so.
func (db *DB) writeFormat(ctx context.Context, was []byte, f format) ([]byte, error) {
	raw, err := json.Marshal(f)
	if err != nil {
		return nil, err
	}
	_, err = db.engine.Commit(ctx, kv.Batch{Expect: []kv.Precondition{{Key: formatKey, Value: was, Absent: was == nil}}, Put: []kv.Entry{{Key: formatKey, Value: raw}}})
	if errors.Is(err, kv.ErrConflict) {
		now, _, err := db.engine.Get(ctx, formatKey)
		var is format
		if err == nil && json.Unmarshal(now, &is) == nil && is.Format >= f.Format {
			return now, nil
		}
		return nil, fhir.Errorf(fhir.Conflict, "open store: another node is bringing it to another format: start this one when that is done")
	}
	if err != nil {
		return nil, fhir.Errorf(fhir.NoStore, "open store: write its format: %w", err)
	}
	return raw, nil
}

// indexed notes that the index is made by the rules of this program.
func (db *DB) indexed(ctx context.Context) error {
	raw, ok, err := db.engine.Get(ctx, formatKey)
	if err != nil {
		return readError(err)
	}
	is := format{Format: formatNow}
	if ok {
		if err := json.Unmarshal(raw, &is); err != nil {
			return fhir.Errorf(fhir.Exception, "what says the store's format is damaged: restore a backup")
		}
	}
	if is.Index = indexRules(); !ok {
		raw = nil
	}
	if _, err := db.writeFormat(ctx, raw, is); err != nil {
		return err
	}
	db.stale.Store(false)
	return nil
}

// IndexIsStale says that the index was made by another version of the program, with other search parameters. Searches across records then read
// everything, until Reindex has run.
func (db *DB) IndexIsStale() bool { return db.stale.Load() }
