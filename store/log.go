package store

import (
	"context"
	"errors"
	"iter"
	"strconv"
	"time"

	"tombolo/events"
	"tombolo/fhir"
	"tombolo/kv"
)

// Since yields the events after a position, oldest first, up to the newest that is durable.
func (db *DB) Since(ctx context.Context, after events.Seq) iter.Seq2[events.Event, error] {
	return func(yield func(events.Event, error) bool) {
		for r, err := range db.engine.Log(ctx, kv.Position(after)) {
			if err != nil {
				yield(events.Event{}, readError(err))
				return
			}
			e, err := decodeEvent(r.Value)
			if err != nil {
				yield(events.Event{}, fhir.Errorf(fhir.Exception, "event %d in the log is damaged: restore a backup", r.At))
				return
			}
			e.Seq = events.Seq(r.At)
			if !yield(e, nil) {
				return
			}
		}
	}
}

// decodeEvent reads an event as writer.event wrote it. Every follower reads every event, and reflection takes four times as long.
func decodeEvent(raw []byte) (e events.Event, err error) {
	v, err := fhir.ParseValue(raw)
	if err != nil {
		return e, err
	}
	e = events.Event{Kind: events.Kind(v.Text("k")), Ref: fhir.Ref(v.Text("r")), Patient: v.Text("p"), Source: v.Text("s"), Heading: v.Text("h")}
	if e.Version, err = strconv.Atoi(string(v.Member("v").Raw())); err != nil {
		return e, err
	}
	e.At, err = time.Parse(time.RFC3339Nano, v.Text("t"))
	return e, err
}

// Changed is closed once there are events after the given position.
func (db *DB) Changed(after events.Seq) <-chan struct{} { return db.engine.Changed(kv.Position(after)) }

// Tail is the position of the newest event.
func (db *DB) Tail(ctx context.Context) (events.Seq, error) {
	at, err := db.engine.Tail(ctx)
	if err != nil {
		return 0, readError(err)
	}
	return events.Seq(at), nil
}

// cursorBucket holds, under each follower's name, how far it has come.
const cursorBucket = "cursor"

// LoadCursor and SaveCursor keep followers' cursors, for followers whose effects lie elsewhere; DB is an events.CursorStore.
func (db *DB) LoadCursor(ctx context.Context, name string) (events.Seq, error) {
	v, ok, err := db.View(cursorBucket).Get(ctx, name)
	if err != nil || !ok {
		return 0, err
	}
	return parseCursorValue(name, v)
}

// SaveCursor keeps how far the follower of that name has come.
func (db *DB) SaveCursor(ctx context.Context, name string, seq events.Seq) error {
	_, err := db.Update(ctx, func(tx Tx) error {
		tx.SaveCursor(name, seq)
		return nil
	})
	return err
}

// SaveCursor keeps how far the follower of that name has come, together with what it did.
func (x Tx) SaveCursor(name string, seq events.Seq) {
	x.Bucket(cursorBucket).Put(name, strconv.AppendUint(nil, uint64(seq), 10))
}

func parseCursorValue(name string, v []byte) (events.Seq, error) {
	n, err := strconv.ParseUint(string(v), 10, 64)
	if err != nil {
		return 0, fhir.Errorf(fhir.Exception, "the cursor of %s is damaged: delete it, and the follower starts from the beginning", name)
	}
	return events.Seq(n), nil
}

// Follower makes a follower whose effects lie in this store: handle and the cursor commit together, a batch of events at a time, so each
// event takes effect exactly once. What handle fills in outside the Tx may be run several times. Since all of it can be done again from the log, it does
// not wait for the disk: a power cut may take the last of it back, cursor and all.
func (db *DB) Follower(name string, handle func(ctx context.Context, tx Tx, e events.Event) error) *events.Follower {
	f := &events.Follower{Name: name, Log: db, Cursors: db}
	f.HandleBatch = func(ctx context.Context, batch []events.Event) (saved bool, err error) {
		_, err = db.update(ctx, true, func(tx Tx) error {
			// Two processes that follow under one name must not both handle an event.
			v, ok, err := tx.Bucket(cursorBucket).Get(ctx, name)
			if err != nil {
				return err
			}
			var done events.Seq
			if ok {
				if done, err = parseCursorValue(name, v); err != nil {
					return err
				}
			}
			for _, e := range batch {
				if e.Seq <= done {
					continue
				}
				if err := handle(ctx, tx, e); err != nil {
					if errors.Is(err, kv.ErrConflict) {
						return err
					}
					return &events.HandleError{Seq: e.Seq, Err: err}
				}
			}
			tx.SaveCursor(name, max(done, batch[len(batch)-1].Seq))
			return nil
		})
		return err == nil, err
	}
	return f
}

// Before gives the newest events that keep wants, newest first, at most limit of them, from before a position (0: from the newest). next is
// where to go on, 0 at the beginning of the log. It looks at a bounded part of the log, so there may be few, or none, and more to come.
func (db *DB) Before(ctx context.Context, before events.Seq, limit int, keep func(events.Event) bool) (found []events.Event, next events.Seq, err error) {
	const window, windows = 512, 40
	if before == 0 {
		if before, err = db.Tail(ctx); err != nil {
			return nil, 0, err
		}
		before++
	}
	for range windows {
		from := events.Seq(1)
		if before > window {
			from = before - window
		}
		var part []events.Event
		for e, err := range db.Since(ctx, from-1) {
			if err != nil {
				return nil, 0, err
			}
			if e.Seq >= before {
				break
			}
			if keep(e) {
				part = append(part, e)
			}
		}
		for i := len(part) - 1; i >= 0; i-- {
			if found = append(found, part[i]); len(found) == limit {
				return found, part[i].Seq, nil
			}
		}
		if before = from; before == 1 {
			return found, 0, nil
		}
	}
	return found, before, nil
}
