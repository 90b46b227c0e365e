package node

import (
	"context"
	"encoding/json"
	"sync"
	"time"

	"tombolo/fhir"
	"tombolo/store"
)

// Of the nodes that share a database, one at a time watches the audit log, sends it on, and drops what is past its retention: two that did it
// would tell everything twice. Which one is written in the store; who holds it renews it, and when it falls silent another takes it up.
const (
	leaseBucket = "lease"
	leaseTime   = 10 * time.Second
)

// A lease is one node's part in the holding of one task. It may be used from many goroutines.
type lease struct {
	db     *store.DB // nil: nobody else is there
	what   string
	holder string // this node, since it started
	now    func() time.Time

	mu    sync.Mutex
	until time.Time // as this node last wrote it
}

type held struct {
	Holder string    `json:"holder"`
	Until  time.Time `json:"until"`
}

// Holds reports whether it is this node's turn, and takes it up if it is nobody's.
func (l *lease) Holds(ctx context.Context) (bool, error) {
	if l.db == nil {
		return true, nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	if left := l.until.Sub(now); left > leaseTime/2 && left <= leaseTime {
		return true, nil
	}
	mine := false
	_, err := l.db.Update(ctx, func(tx store.Tx) error {
		b := tx.Bucket(leaseBucket)
		v, ok, err := b.Get(ctx, l.what)
		if err != nil {
			return err
		}
		var was held
		if ok {
			if err := json.Unmarshal(v, &was); err != nil {
				return err
			}
		}
		// One that ends further ahead than any is given was written by a clock that is wrong.
		if mine = was.Holder == l.holder || !now.Before(was.Until) || was.Until.Sub(now) > 2*leaseTime; mine {
			b.Put(l.what, fhir.JSON(held{l.holder, now.Add(leaseTime)}))
		}
		return nil
	})
	if err != nil {
		l.until = time.Time{}
		return false, err
	}
	if l.until = (time.Time{}); mine {
		l.until = now.Add(leaseTime)
	}
	return mine, nil
}
