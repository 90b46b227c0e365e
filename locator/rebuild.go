package locator

import (
	"context"
	"time"

	"tombolo/events"
	"tombolo/fhir"
	"tombolo/store"
)

// What the pointers' own notes are kept under: which layout they have, which making they are of, and that they are being dropped.
const (
	metaBucket   = "locator-meta"
	formatKey    = "format"
	epochKey     = "epoch"
	rebuildKey   = "rebuild"
	formatNow    = "2"
	resetAtATime = 2000
)

// Prepare readies the pointers for their follower, before it runs: those of an earlier layout, and those of whose making anew somebody was stopped, are dropped, and
// the follower starts from the beginning of the log.
func (l *Locator) Prepare(ctx context.Context) error {
	got, err := l.db.View(metaBucket).MultiGet(ctx, formatKey, rebuildKey, epochKey)
	if err != nil {
		return err
	}
	if string(got[0]) != formatNow || got[1] != nil {
		if err := l.Rebuild(ctx); err != nil {
			return err
		}
		if got, err = l.db.View(metaBucket).MultiGet(ctx, formatKey, rebuildKey, epochKey); err != nil {
			return err
		}
	}
	epoch := string(got[2])
	l.epoch.Store(&epoch)
	return nil
}

// current holds a follower to the pointers that it began with: where they have been dropped meanwhile, by this node or another, it must begin again at the cursor that
// is stored, and not go on from where it is.
func (l *Locator) current(ctx context.Context, tx store.Tx) error {
	got, err := tx.Bucket(metaBucket).MultiGet(ctx, epochKey, rebuildKey)
	if err != nil {
		return err
	}
	if got[1] == nil && string(got[0]) == *l.epoch.Load() {
		return nil
	}
	select {
	case l.renewed <- struct{}{}:
	default:
	}
	return fhir.Errorf(fhir.Transient, "the pointers are being made anew")
}

// Stale reports whether the pointers have been dropped since Prepare: a follower that has nothing to do does not come to know by itself.
func (l *Locator) Stale(ctx context.Context) (bool, error) {
	got, err := l.db.View(metaBucket).MultiGet(ctx, epochKey, rebuildKey)
	return err == nil && (got[1] != nil || string(got[0]) != *l.epoch.Load()), err
}

// Renewed tells that the pointers have been dropped: whoever runs their follower stops it, calls Prepare and runs it again.
func (l *Locator) Renewed() <-chan struct{} { return l.renewed }

// Rebuild drops every pointer that follows the log and sends the follower back to the beginning, also one that runs (see Renewed). It may be stopped anywhere
// and done again. What live sources were seen to hold stays.
func (l *Locator) Rebuild(ctx context.Context) error {
	if _, err := l.db.Update(ctx, func(tx store.Tx) error {
		m := tx.Bucket(metaBucket)
		m.Put(rebuildKey, []byte("begun"))
		m.Put(epochKey, []byte(tx.Now().UTC().Format(time.RFC3339Nano)))
		tx.SaveCursor(FollowerName, events.Seq(0))
		return nil
	}); err != nil {
		return err
	}
	for {
		var keys []string
		for item, err := range l.db.View(Bucket).ScanFrom(ctx, "", resetAtATime) {
			if err != nil {
				return err
			}
			keys = append(keys, item.Key)
		}
		_, err := l.db.Update(ctx, func(tx store.Tx) error {
			b := tx.Bucket(Bucket)
			for _, k := range keys {
				b.Delete(k)
			}
			if len(keys) < resetAtATime {
				m := tx.Bucket(metaBucket)
				m.Delete(rebuildKey)
				m.Put(formatKey, []byte(formatNow))
			}
			return nil
		})
		if err != nil || len(keys) < resetAtATime {
			return err
		}
	}
}
