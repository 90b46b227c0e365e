package events

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// A CursorStore remembers how far followers have come. A cursor that was never saved is 0. store.DB is one.
type CursorStore interface {
	LoadCursor(ctx context.Context, name string) (Seq, error)
	SaveCursor(ctx context.Context, name string, seq Seq) error
}

// A Follower reads a Log in order and does something about each event, at least once. What it cannot do it tries again, with
// growing pauses up to a second, for ever: an event is never skipped, and Status says what a follower is stuck on. Set the fields
// before Run and leave them alone afterwards.
type Follower struct {
	Name    string // of the cursor
	Log     Log
	Cursors CursorStore

	// Handle takes one event. HandleBatch, if set, is used instead: it takes several, in order and never none, all or nothing. It answers
	// saved if it stored the cursor itself (at the last event) together with its effects, so that they happen exactly once. It must not keep batch.
	Handle      func(ctx context.Context, e Event) error
	HandleBatch func(ctx context.Context, batch []Event) (saved bool, err error)

	BatchSize int           // most events at a time; 256 if 0
	MinPause  time.Duration // after a first failure; 50 ms if 0
	MaxPause  time.Duration // at most; 1 s if 0: what was in the way is often the store itself, and who waits for a follower waits this long after
	Logger    *slog.Logger  // slog.Default() if nil

	unsaved Seq     // a cursor that could not be saved yet, 0 if none. Run's own
	batch   []Event // the last, to be filled again. Run's own

	mu      sync.Mutex
	handled Seq
	lagging error // of the last attempt; nil while all is well
	since   time.Time
	told    time.Time // when an operator last heard of it
	tries   int
	waiting map[chan struct{}]Seq
}

// A HandleError says at which event of a batch a handler failed.
type HandleError struct {
	Seq Seq
	Err error
}

func (e *HandleError) Error() string { return fmt.Sprintf("event %d: %v", e.Seq, e.Err) }

// Unwrap is the handler's own error.
func (e *HandleError) Unwrap() error { return e.Err }

// A Status says how far a follower is and whether it is stuck.
type Status struct {
	Handled Seq       // all events up to here have been handled
	Err     error     // why it does not go on; nil if it does
	Since   time.Time // since when it has not gone on
	Tries   int       // how often it has tried since
}

// Status may be asked at any time.
func (f *Follower) Status() Status {
	f.mu.Lock()
	defer f.mu.Unlock()
	return Status{f.handled, f.lagging, f.since, f.tries}
}

// Run follows the log from the saved cursor until ctx ends, and returns ctx's error. Only one Run at a time.
func (f *Follower) Run(ctx context.Context) error {
	cursor, err := f.load(ctx)
	if err != nil {
		return err
	}
	f.advance(cursor)
	for ctx.Err() == nil {
		next, err := f.step(ctx, cursor)
		if next > cursor {
			cursor = next
			f.advance(cursor)
		}
		if err != nil {
			f.pause(ctx, cursor, err)
			continue
		}
		f.clear()
		select {
		case <-f.Log.Changed(cursor):
		case <-ctx.Done():
		}
	}
	return ctx.Err()
}

func (f *Follower) load(ctx context.Context) (Seq, error) {
	for {
		cursor, err := f.Cursors.LoadCursor(ctx, f.Name)
		if err == nil {
			return cursor, nil
		}
		if ctx.Err() != nil {
			return 0, ctx.Err()
		}
		f.pause(ctx, 0, fmt.Errorf("load the cursor: %w", err))
	}
}

// step handles what there is after the cursor and returns how far it came. The log is read a batch at a time, and not while a
// handler is at work.
func (f *Follower) step(ctx context.Context, cursor Seq) (Seq, error) {
	size := cmp.Or(f.BatchSize, 256)
	if f.unsaved > 0 {
		if err := f.save(ctx, f.unsaved); err != nil {
			return cursor, err
		}
	}
	for {
		batch := f.batch[:0]
		for e, err := range f.Log.Since(ctx, cursor) {
			if err != nil {
				if len(batch) > 0 {
					break // first what could be read
				}
				return cursor, fmt.Errorf("read the log after event %d: %w", cursor, err)
			}
			if batch = append(batch, e); len(batch) == size {
				break
			}
		}
		f.batch = batch
		if len(batch) == 0 {
			return cursor, nil
		}
		done, err := f.handle(ctx, batch, cursor)
		if done > cursor {
			cursor = done
			f.advance(done)
		}
		if err != nil {
			return cursor, err
		}
		f.clear()
	}
}

// handle returns the last event that was handled, also when a later one failed.
func (f *Follower) handle(ctx context.Context, batch []Event, cursor Seq) (Seq, error) {
	if f.HandleBatch != nil {
		saved, err := f.HandleBatch(ctx, batch)
		// One bad event must not hold up those before it: they go first, by themselves.
		var bad *HandleError
		if err != nil && errors.As(err, &bad) && bad.Seq > batch[0].Seq && bad.Seq <= batch[len(batch)-1].Seq {
			good := 0
			for good < len(batch) && batch[good].Seq < bad.Seq {
				good++
			}
			done, gerr := f.handle(ctx, batch[:good], cursor)
			return done, cmp.Or(gerr, err)
		}
		if err != nil {
			return cursor, err
		}
		last := batch[len(batch)-1].Seq
		if !saved {
			err = f.save(ctx, last)
		}
		return last, err
	}
	done := cursor
	for _, e := range batch {
		if err := f.Handle(ctx, e); err != nil {
			err = &HandleError{e.Seq, err}
			if done > cursor {
				err = cmp.Or(f.save(ctx, done), err)
			}
			return done, err
		}
		done = e.Seq
		f.advance(done) // who awaits this event need not wait for the rest of the batch
	}
	return done, f.save(ctx, done)
}

func (f *Follower) save(ctx context.Context, seq Seq) error {
	if err := f.Cursors.SaveCursor(ctx, f.Name, seq); err != nil {
		f.unsaved = seq
		return fmt.Errorf("save the cursor at event %d: %w", seq, err)
	}
	f.unsaved = 0
	return nil
}

// tell is how often an operator hears of a follower that is stuck.
const tell = 30 * time.Second

// pause waits before the next try. It says at once what is wrong, and again every half minute.
func (f *Follower) pause(ctx context.Context, cursor Seq, err error) {
	if ctx.Err() != nil {
		return // not a failure of the handler: we are stopping
	}
	f.mu.Lock()
	now := time.Now()
	if f.lagging == nil {
		f.since, f.tries, f.told = now, 0, time.Time{}
	}
	f.lagging = err
	f.tries++
	wait := min(cmp.Or(f.MinPause, 50*time.Millisecond)<<min(f.tries-1, 20), cmp.Or(f.MaxPause, time.Second))
	tries, due := f.tries, now.Sub(f.told) >= tell
	if due {
		f.told = now
	}
	f.mu.Unlock()
	if due {
		log := f.Logger
		if log == nil {
			log = slog.Default()
		}
		log.Warn("follower cannot go on and will try again", "follower", f.Name, "after", cursor, "tries", tries, "pause", wait, "err", err)
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

func (f *Follower) clear() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lagging, f.tries, f.since = nil, 0, time.Time{}
}

// advance raises how far the follower is and wakes those who waited for it.
func (f *Follower) advance(to Seq) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if to <= f.handled {
		return
	}
	f.handled = to
	for ch, want := range f.waiting {
		if want <= to {
			close(ch)
			delete(f.waiting, ch)
		}
	}
}

// Await returns nil once all events up to seq have been handled, or an error when ctx ends first: it says so if the follower is stuck.
func (f *Follower) Await(ctx context.Context, seq Seq) error {
	f.mu.Lock()
	if seq <= f.handled {
		f.mu.Unlock()
		return nil
	}
	if f.waiting == nil {
		f.waiting = map[chan struct{}]Seq{}
	}
	ch := make(chan struct{})
	f.waiting[ch] = seq
	f.mu.Unlock()
	select {
	case <-ch:
		return nil
	case <-ctx.Done():
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.waiting, ch)
	if seq <= f.handled {
		return nil
	}
	if f.lagging != nil {
		return fmt.Errorf("follower %s has come to event %d, not %d (%w); it is stuck: %w", f.Name, f.handled, seq, ctx.Err(), f.lagging)
	}
	return fmt.Errorf("follower %s has come to event %d, not %d: %w", f.Name, f.handled, seq, ctx.Err())
}
