package postgres

import (
	"context"
	"crypto/sha256"
	"fmt"
	"iter"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"tombolo/kv"
)

const tailSQL = "select coalesce(max(at), 0) from log"

// Changed is closed once the log has grown past the given position, whoever made it grow, or the engine is closed.
func (e *Engine) Changed(after kv.Position) <-chan struct{} { return e.log.Changed(after) }

// channel is the name under which commits to this schema are notified, in the 63 bytes that a name may have. A notification carries a
// position and nothing else.
func (e *Engine) channel() string {
	sum := sha256.Sum256([]byte(e.schema))
	return fmt.Sprintf("tombolo %.32s %x", e.schema, sum[:8])
}

// listen keeps a connection on which the server tells of every commit that made the log grow, until ctx ends.
func (e *Engine) listen(ctx context.Context) {
	said := false
	for attempt := 1; ctx.Err() == nil; attempt++ {
		err := e.hear(ctx, func() { attempt, said = 0, false })
		if ctx.Err() != nil {
			return
		}
		if !said {
			said = true
			e.opts.Log.Warn("store: not told of changes by the database; looking every so often instead", "store", e.where, "every", e.opts.Poll, "err", err)
		}
		pause(ctx, min(attempt, 20))
	}
}

func (e *Engine) hear(ctx context.Context, heard func()) error {
	conn, err := pgx.ConnectConfig(ctx, e.short.Config().ConnConfig)
	if err != nil {
		return err
	}
	defer func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = conn.Close(closing)
	}()
	if _, err := conn.Exec(ctx, "listen "+quote(e.channel())); err != nil {
		return err
	}
	// What was committed while nobody listened.
	var tail int64
	if err := conn.QueryRow(ctx, tailSQL).Scan(&tail); err != nil {
		return err
	}
	e.log.Reveal(kv.Position(tail))
	heard()
	for {
		n, err := conn.WaitForNotification(ctx)
		if err != nil {
			return err
		}
		if at, err := strconv.ParseUint(n.Payload, 10, 63); err == nil {
			e.log.Reveal(kv.Position(at))
		}
	}
}

// poll looks at the log while somebody waits, for what notifications did not tell.
func (e *Engine) poll(ctx context.Context) {
	t := time.NewTicker(e.opts.Poll)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		if e.log.Awaited() {
			if tail, err := e.readTail(ctx); err == nil {
				e.log.Reveal(tail)
			}
		}
	}
}

func (e *Engine) readTail(ctx context.Context) (at kv.Position, err error) {
	err = reading(ctx, func() error {
		var b pgx.Batch
		queueTail(&b, &at)
		return e.short.SendBatch(ctx, e.whole(&b)).Close()
	})
	return at, err
}

func queueTail(b *pgx.Batch, to *kv.Position) {
	b.Queue(tailSQL).QueryRow(func(row pgx.Row) error {
		var at int64
		err := row.Scan(&at)
		*to = kv.Position(at)
		return err
	})
}

// whole makes a batch that reads the log see only records whose commit is over. On one server all of a commit shows at once. Where the
// table is distributed, the log's part of it shows first, and that of other machines a moment later, but before the turn is given up: so the
// turn is waited for.
func (e *Engine) whole(b *pgx.Batch) *pgx.Batch {
	if !e.opts.ByPartition {
		return b
	}
	var all pgx.Batch
	all.Queue("begin")
	all.Queue("select it from turn for share")
	all.QueuedQueries = append(all.QueuedQueries, b.QueuedQueries...)
	all.Queue("commit")
	return &all
}

// Tail is the position of the newest record.
func (e *Engine) Tail(ctx context.Context) (kv.Position, error) {
	if err := e.gate.Enter(ctx); err != nil {
		return 0, err
	}
	defer e.gate.Leave()
	at, err := e.readTail(ctx)
	if err == nil {
		e.log.Reveal(at)
	}
	return at, err
}

// logPage is how many records are read at a time; no connection is held while the caller looks at them.
const logPage = 512

// Log yields the records after the given position up to the newest there was when it began. Positions are given out and become
// visible in the same order, one transaction after the other, so what is seen is always a beginning of the log.
func (e *Engine) Log(ctx context.Context, after kv.Position) iter.Seq2[kv.Record, error] {
	return func(yield func(kv.Record, error) bool) {
		end := kv.Position(0)
		for first := true; first || after < end; first = false {
			page, tail, err := e.logPage(ctx, after, end, first)
			if err != nil {
				yield(kv.Record{}, err)
				return
			}
			if first {
				end = tail
			}
			for _, r := range page {
				if !yield(r, nil) {
					return
				}
				after = r.At
			}
		}
	}
}

func (e *Engine) logPage(ctx context.Context, after, end kv.Position, first bool) (page []kv.Record, tail kv.Position, err error) {
	if err := e.gate.Enter(ctx); err != nil {
		return nil, 0, err
	}
	defer e.gate.Leave()
	if after > 1<<62 {
		return nil, 0, nil
	}
	err = reading(ctx, func() error {
		page, tail = nil, end
		var b pgx.Batch
		if first {
			queueTail(&b, &tail)
		}
		b.Queue("select at, value from log where at > $1 order by at limit $2", int64(after), logPage).Query(func(rows pgx.Rows) error {
			var at int64
			var value []byte
			_, err := pgx.ForEachRow(rows, []any{&at, &value}, func() error {
				page = append(page, kv.Record{At: kv.Position(at), Value: value})
				value = nil
				return nil
			})
			return err
		})
		return e.short.SendBatch(ctx, e.whole(&b)).Close()
	})
	if err != nil {
		return nil, 0, err
	}
	for i, r := range page {
		if r.At > tail { // came between the two statements
			page = page[:i]
			break
		}
		if r.At != after+kv.Position(i)+1 && i > 0 {
			return page[:i], tail, nil // what is missing is told of by the next page
		}
		if r.At != after+kv.Position(i)+1 {
			return nil, 0, missing(after + kv.Position(i) + 1)
		}
	}
	if len(page) == 0 && after < tail {
		return nil, 0, missing(after + 1)
	}
	return page, tail, nil
}

func missing(at kv.Position) error {
	return fmt.Errorf("read the log: record %d is missing: the table log is damaged, restore a backup", at)
}
