package probe

import (
	"context"
	"encoding/json"
	"sync"
	"sync/atomic"
	"time"

	"tombolo/fhir"
	"tombolo/store"
)

// bucket is the name of this room's private key-values: <source> -> Result.
const bucket = "probe"

// readAgain is after how long what other nodes on the same database have found is noticed.
const readAgain = time.Minute

// A Ledger is what was last found of each source. Reading it costs nothing: it may be asked for every source of every gathering.
type Ledger struct {
	db  *store.DB
	now func() time.Time

	at atomic.Pointer[page]
	mu sync.Mutex // one reader of the store at a time
}

type page struct {
	by   map[string]*Result
	read time.Time
}

// NewLedger reads what was found before.
func NewLedger(ctx context.Context, db *store.DB, now func() time.Time) (*Ledger, error) {
	if now == nil {
		now = time.Now
	}
	l := &Ledger{db: db, now: now}
	_, err := l.read(ctx)
	return l, err
}

// read reads the store. One entry that cannot be read is as if the source had not been probed.
func (l *Ledger) read(ctx context.Context) (*page, error) {
	p := &page{by: map[string]*Result{}, read: time.Now()}
	for item, err := range l.db.View(bucket).Scan(ctx, "") {
		if err != nil {
			return nil, err
		}
		var r Result
		if json.Unmarshal(item.Value, &r) == nil {
			p.by[item.Key] = &r
		}
	}
	l.at.Store(p)
	return p, nil
}

// All is what was last found of each source. It must not be changed.
func (l *Ledger) All() map[string]*Result {
	p := l.at.Load()
	if time.Since(p.read) > readAgain && l.mu.TryLock() {
		defer l.mu.Unlock()
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if fresh, err := l.read(ctx); err == nil {
			return fresh.by
		}
	}
	return p.by
}

// Keep keeps what was found.
func (l *Ledger) Keep(ctx context.Context, results ...*Result) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, err := l.db.Update(ctx, func(tx store.Tx) error {
		b := tx.Bucket(bucket)
		for _, r := range results {
			b.Put(r.Source, fhir.JSON(r))
		}
		return nil
	}); err != nil {
		return err
	}
	_, err := l.read(ctx)
	return err
}
