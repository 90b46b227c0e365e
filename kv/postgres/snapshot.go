package postgres

import (
	"context"
	"fmt"
	"iter"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"tombolo/kv"
)

// A snapshot is a read-only transaction in REPEATABLE READ, held on a connection of its own until closed. The server ends it if it lies
// untouched for longer than Options.SnapshotIdle.
//
// PostgreSQL 15 §13.2.2
type snapshot struct {
	e    *Engine
	tail kv.Position

	mu     sync.Mutex // one statement at a time
	conn   *pgxpool.Conn
	closed bool
}

// How long to wait for one of the connections for snapshots: whoever holds them all may be waiting for this one.
const snapshotWait = 30 * time.Second

// Snapshot holds one moment.
func (e *Engine) Snapshot(ctx context.Context) (kv.Snapshot, error) {
	s, err := e.hold(ctx)
	if err != nil {
		return nil, err
	}
	return s, nil
}

func (e *Engine) hold(ctx context.Context) (*snapshot, error) {
	if err := e.gate.Enter(ctx); err != nil {
		return nil, err
	}
	defer e.gate.Leave()
	s := &snapshot{e: e}
	if err := reading(ctx, func() error { return s.begin(ctx) }); err != nil {
		return nil, err
	}
	e.log.Reveal(s.tail)
	e.snapMu.Lock()
	e.snapshots[s] = struct{}{}
	e.snapMu.Unlock()
	return s, nil
}

func (s *snapshot) begin(ctx context.Context) error {
	waiting, cancel := context.WithTimeout(ctx, snapshotWait)
	defer cancel()
	conn, err := s.e.long.Acquire(waiting)
	if err != nil {
		if ctx.Err() == nil && waiting.Err() != nil {
			return fmt.Errorf("all %d connections for snapshots are taken: one was not closed, or too many long reads run at once: %w", longConns, err)
		}
		return err
	}
	var b pgx.Batch
	b.Queue(beginRead)
	queueTail(&b, &s.tail) // the first statement, so the moment is its
	if err := conn.SendBatch(ctx, &b).Close(); err != nil {
		conn.Release() // closes it if the transaction is still open
		return err
	}
	s.conn = conn
	return nil
}

// send runs statements in the snapshot.
func (s *snapshot) send(ctx context.Context, b *pgx.Batch) error {
	if err := s.e.gate.Enter(ctx); err != nil {
		return err
	}
	defer s.e.gate.Leave()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return kv.ErrClosed
	}
	if err := s.conn.SendBatch(ctx, b).Close(); err != nil {
		if ctx.Err() == nil && s.conn.Conn().IsClosed() {
			return fmt.Errorf("read a snapshot: it is gone with its connection, because it lay untouched for too long (%v) or the server was restarted: take a new one: %w",
				s.e.opts.SnapshotIdle, err)
		}
		return fmt.Errorf("read a snapshot: %w", explain(err))
	}
	return nil
}

func (s *snapshot) Get(ctx context.Context, k kv.Key) ([]byte, bool, error) {
	values, err := s.MultiGet(ctx, []kv.Key{k})
	if err != nil {
		return nil, false, err
	}
	return values[0], values[0] != nil, nil
}

func (s *snapshot) MultiGet(ctx context.Context, keys []kv.Key) ([][]byte, error) {
	values := make([][]byte, len(keys))
	var b pgx.Batch
	if len(keys) > 0 {
		s.e.queueGets(&b, keys, values)
	}
	if err := s.send(ctx, &b); err != nil {
		return nil, err
	}
	return values, nil
}

// Scan reads a page at a time; nothing runs while the caller looks at one, so it may use the snapshot meanwhile.
func (s *snapshot) Scan(ctx context.Context, ranges []kv.Range, limit int) iter.Seq2[kv.Entry, error] {
	return func(yield func(kv.Entry, error) bool) {
		c := s.e.newCursor(ranges, limit)
		for end := false; !end; {
			var b pgx.Batch
			page := func() ([]kv.Entry, bool) { return nil, true }
			if len(c.spans) > 0 {
				page = c.queue(&b)
			}
			if err := s.send(ctx, &b); err != nil {
				yield(kv.Entry{}, err)
				return
			}
			var entries []kv.Entry
			entries, end = page()
			unpackEntries(entries)
			if !hand(ctx, entries, yield) {
				return
			}
			if c.damage != nil {
				yield(kv.Entry{}, c.damage)
				return
			}
		}
	}
}

// How a page of partitions is found. PostgreSQL does not skip through an index by itself, so each is looked up from the one before;
// over machines that cannot be pushed down, and each machine reads its index.
const (
	partsSQL = `with recursive p (part) as (
			(select part from entry where part > $1 order by part limit 1)
			union all
			select (select e.part from entry e where e.part > p.part order by e.part limit 1) from p where p.part is not null
		) select part from p where part is not null limit $2`
	partsFarSQL = "select distinct part from entry where part > $1 order by part limit $2"
	partsPage   = 2000
)

// Parts yields the partitions in their order, a page of them at a time.
func (s *snapshot) Parts(ctx context.Context) iter.Seq2[kv.Part, error] {
	sql := partsSQL
	if s.e.opts.ByPartition {
		sql = partsFarSQL
	}
	return func(yield func(kv.Part, error) bool) {
		for after := []byte{}; ; {
			var page []kv.Part
			var b pgx.Batch
			b.Queue(sql, after, partsPage).Query(func(rows pgx.Rows) error {
				var part []byte
				_, err := pgx.ForEachRow(rows, []any{&part}, func() error { page = append(page, kv.Part(part)); return nil })
				return err
			})
			if err := s.send(ctx, &b); err != nil {
				yield("", err)
				return
			}
			for _, part := range page {
				if !yield(part, nil) {
					return
				}
			}
			if len(page) < partsPage {
				return
			}
			last := page[len(page)-1]
			if string(last) <= string(after) {
				yield("", outOfOrder(last)) // or the same page would come for ever
				return
			}
			after = []byte(last)
		}
	}
}

func (s *snapshot) Tail() kv.Position { return s.tail }

// Close ends the transaction.
func (s *snapshot) Close() error {
	s.e.snapMu.Lock()
	delete(s.e.snapshots, s)
	s.e.snapMu.Unlock()
	s.release()
	return nil
}

func (s *snapshot) release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	s.closed = true
	// A transaction that only read can end as it likes; if it cannot even be told, its connection goes with it.
	ending, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	_, _ = s.conn.Exec(ending, "commit")
	s.conn.Release()
}
