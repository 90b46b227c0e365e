package postgres

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"tombolo/kv"
)

// Bounds of one transaction that several commits share.
const (
	groupBatches = 256
	groupBytes   = 8 << 20
	commitTime   = 30 * time.Second
	commitTries  = 8
)

// A queue holds the commits that wait for this process's turn.
type queue struct {
	turn chan struct{} // held by whoever commits for all

	mu      sync.Mutex
	waiting []*commit
}

func newQueue() queue { return queue{turn: make(chan struct{}, 1)} }

// A commit is one caller's batch and what became of it.
type commit struct {
	batch  kv.Batch
	packed [][]byte // what is put, as it stands in its rows
	size   int
	at     kv.Position
	err    error
	done   chan struct{}
}

// Commit applies b. Commits that arrive while one is on its way to the server go together in the next transaction, each still
// all or nothing by itself and in the order in which they came.
func (e *Engine) Commit(ctx context.Context, b kv.Batch) (kv.Position, error) {
	if err := e.gate.Enter(ctx); err != nil {
		return 0, err
	}
	defer e.gate.Leave()
	if err := cmp.Or(checkBatch(b), e.checkGrouped(b)); err != nil {
		return 0, err
	}
	if len(b.Put)+len(b.Delete)+len(b.Add)+len(b.Append) == 0 {
		return e.confirm(ctx, b.Expect)
	}
	c := &commit{batch: b, packed: make([][]byte, len(b.Put)), size: batchSize(b), done: make(chan struct{})}
	for i, en := range b.Put { // here, where each caller does it for itself
		c.packed[i] = packed(en.Value)
	}
	e.queue.mu.Lock()
	e.queue.waiting = append(e.queue.waiting, c)
	e.queue.mu.Unlock()
	for {
		select {
		case <-c.done:
			return c.at, c.err
		case e.queue.turn <- struct{}{}:
			// What others wait for must not end with the request of whoever happens to send it.
			e.commitNext(context.WithoutCancel(ctx))
			<-e.queue.turn
		case <-ctx.Done():
			if e.queue.leave(c) {
				return 0, ctx.Err()
			}
			<-c.done // it is on its way
			return c.at, c.err
		}
	}
}

// leave takes a commit back; false if it was taken already.
func (q *queue) leave(c *commit) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := len(q.waiting)
	q.waiting = slices.DeleteFunc(q.waiting, func(w *commit) bool { return w == c })
	return len(q.waiting) < n
}

// next takes the commits that go together.
func (q *queue) next() []*commit {
	q.mu.Lock()
	defer q.mu.Unlock()
	n, size := 0, 0
	for n < len(q.waiting) && n < groupBatches && (n == 0 || size+q.waiting[n].size <= groupBytes) {
		size += q.waiting[n].size
		n++
	}
	group := slices.Clone(q.waiting[:n])
	q.waiting = slices.Delete(q.waiting, 0, n)
	return group
}

// commitNext writes what is queued, as much as goes together.
func (e *Engine) commitNext(ctx context.Context) {
	group := e.queue.next()
	if len(group) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, commitTime)
	defer cancel()
	err := e.commitGroup(ctx, group)
	for _, c := range group {
		if err != nil && c.err == nil {
			c.at, c.err = 0, err
		}
		close(c.done)
	}
}

// commitGroup writes all commits of the group but those whose preconditions do not hold. An error leaves open whether it did, but
// for commits that have their own error.
func (e *Engine) commitGroup(ctx context.Context, group []*commit) error {
	for try := 1; ; {
		g := compose(group)
		if len(g.members) == 0 {
			return nil
		}
		tail, failed, err := e.send(ctx, g, e.opts.ByPartition || e.expectsGrouped(g))
		if err == nil && g.unsure(failed) {
			tail, failed, err = e.send(ctx, g, true)
		}
		switch {
		case err == nil && len(failed) == 0:
			g.settle(tail)
			e.log.Reveal(tail)
			return nil
		case err == nil:
			// They did not hold at that moment, nothing was written, and the others try again without them.
			for _, i := range failed {
				g.askedBy[i].err = kv.ErrConflict
			}
			continue
		}
		// Nothing was written, and it was nobody's fault: another transaction came between (where a database has no such locks and finds
		// out only afterwards), or the connection had died before.
		code := state(err)
		if code != stateSerialization && code != stateDeadlock && !pgconn.SafeToRetry(err) {
			return fmt.Errorf("commit: %w", explain(err))
		}
		if try++; try > commitTries || !pause(ctx, try) {
			if code == stateSerialization || code == stateDeadlock {
				return kv.ErrConflict
			}
			return fmt.Errorf("commit: %w", explain(err))
		}
	}
}

// A group is several commits made into one transaction.
type group struct {
	members []*commit // those to be written
	refused []*commit // those that one before them in the group leaves without their preconditions

	expect  []kv.Precondition // what must hold before the group
	askedBy []*commit         // whose each is
	state   map[kv.Key]value  // what the group leaves
	sums    map[kv.Key]int64  // what it adds to counters whose value it does not know
	records [][]byte
}

type value struct {
	bytes  []byte
	absent bool
	packed []byte // as it stands in its row, where that was made already
}

// row is the value as it stands in its row.
func (v value) row() []byte {
	if v.packed != nil {
		return v.packed
	}
	return packed(v.bytes)
}

// compose plays the commits that have no error yet through in memory, one after the other.
func compose(commits []*commit) *group {
	g := &group{state: map[kv.Key]value{}, sums: map[kv.Key]int64{}}
	for _, c := range commits {
		if c.err != nil {
			continue
		}
		var outside []kv.Precondition
		holds := true
		for _, p := range c.batch.Expect {
			v, inside := g.state[p.Key]
			if _, added := g.sums[p.Key]; added {
				holds = false // what it is by now is not known here
				break
			}
			if !inside {
				outside = append(outside, p)
			} else if v.absent != p.Absent || !v.absent && !bytes.Equal(v.bytes, p.Value) {
				holds = false
				break
			}
		}
		if !holds {
			g.refused = append(g.refused, c)
			continue
		}
		g.members = append(g.members, c)
		for _, p := range outside {
			g.expect, g.askedBy = append(g.expect, p), append(g.askedBy, c)
		}
		for i, en := range c.batch.Put {
			g.state[en.Key] = value{bytes: en.Value, packed: c.packed[i]}
		}
		for _, k := range c.batch.Delete { // a key that is both put and deleted ends deleted
			g.state[k] = value{absent: true}
		}
		g.add(c.batch)
		g.records = append(g.records, c.batch.Append...)
	}
	return g
}

// add plays what a commit adds to counters, and that it may set some anew.
func (g *group) add(b kv.Batch) {
	for _, en := range b.Put {
		delete(g.sums, en.Key)
	}
	for _, k := range b.Delete {
		delete(g.sums, k)
	}
	for _, s := range b.Add {
		if v, inside := g.state[s.Key]; inside {
			g.state[s.Key] = value{bytes: kv.CounterValue(kv.CounterOf(v.bytes) + s.By)}
		} else {
			g.sums[s.Key] += s.By
		}
	}
}

// settle tells the commits what became of them: the group is written, and tail is the position of its last record.
func (g *group) settle(tail kv.Position) {
	at := tail - kv.Position(len(g.records))
	for _, c := range g.members {
		at += kv.Position(len(c.batch.Append))
		c.at = at
	}
	for _, c := range g.refused {
		c.err = kv.ErrConflict
	}
}

const (
	// holdSQL is given what must stand there as it is and as this program would pack it; the two are the same of most values, and null where nothing must.
	holdSQL = `select hold(array(
		select x.n from unnest($1::bytea[], $2::bytea[], $3::bytea[], $4::bytea[]) with ordinality x (part, key, value, packed, n)
		left join entry e on e.part = x.part and e.key = x.key where e.value is distinct from x.value and e.value is distinct from x.packed))`
	putSQL = `insert into entry (part, key, value) select * from unnest($1::bytea[], $2::bytea[], $3::bytea[])
		on conflict (part, key) do update set value = excluded.value`
	// addSQL adds to counters: see kv.CounterOf.
	addSQL = `insert into entry (part, key, value) select part, key, int8send(by) from unnest($1::bytea[], $2::bytea[], $3::bigint[]) x (part, key, by)
		on conflict (part, key) do update set value = int8send(('x' || encode(entry.value, 'hex'))::bit(64)::bigint + ('x' || encode(excluded.value, 'hex'))::bit(64)::bigint)`
	deleteSQL = `delete from entry e using unnest($1::bytea[], $2::bytea[]) d (part, key) where e.part = d.part and e.key = d.key`
	// deletePartSQL names its partition, for a distributed table.
	deletePartSQL = "delete from entry where part = $1 and key = any ($2::bytea[])"
	appendSQL     = `with t as (select coalesce(max(at), 0) as at from log),
		written as (insert into log (at, value) select t.at + v.n, v.value from t, unnest($1::bytea[]) with ordinality v (value, n))
		select t.at + $2, pg_notify($3, (t.at + $2)::text) from t`
)

// send writes the group in one transaction, all of which the server has in hand when it takes the turn: it waits for nothing from this process
// while others wait for it; but with look it reads what the preconditions are about, and compares that itself. failed are the indexes of preconditions that do not
// hold; then nothing was written.
func (e *Engine) send(ctx context.Context, g *group, look bool) (tail kv.Position, failed []int, err error) {
	conn, err := e.short.Acquire(ctx)
	if err != nil {
		return 0, nil, safely{err}
	}
	defer conn.Release()
	var b pgx.Batch
	b.Queue("begin")
	b.Queue(turnSQL)
	if look && len(g.expect) > 0 {
		// One more round trip, with the turn taken. Where the table is distributed a check of all preconditions in one statement would ask every
		// machine, so they are read partition by partition.
		if failed, err = e.look(ctx, conn, &b, g); err != nil || len(failed) > 0 {
			rollBack(ctx, conn)
			return 0, failed, err
		}
		b = pgx.Batch{}
	} else if len(g.expect) > 0 {
		b.Queue(holdSQL, g.expectations()...)
	}
	e.queueWrites(&b, g)
	b.Queue(tailOr(g), e.appendArgs(g)...).QueryRow(func(row pgx.Row) error {
		var at int64
		to := []any{&at}
		if len(g.records) > 0 {
			to = append(to, nil)
		}
		err := row.Scan(to...)
		tail = kv.Position(at)
		return err
	})
	committed := false
	b.Queue("commit").Exec(func(tag pgconn.CommandTag) error {
		committed = tag.String() == "COMMIT"
		return nil
	})
	err = sendInParts(ctx, conn, &b)
	if failed, ok := failing(err, len(g.expect)); ok {
		rollBack(ctx, conn)
		return 0, failed, nil
	}
	switch {
	case err != nil:
		rollBack(ctx, conn)
		return 0, nil, err
	case !committed:
		return 0, nil, errors.New("the server ended the transaction without keeping it")
	}
	return tail, nil, nil
}

// sendRoom is how many bytes of arguments go to the server together: the library makes several copies of them, and keeps them until it has an answer.
const sendRoom = 2 << 20

// sendInParts sends what is queued, mostly all at once, and what is much in several parts, each when the one before it is done.
func sendInParts(ctx context.Context, conn sender, b *pgx.Batch) error {
	var part pgx.Batch
	size := 0
	for _, q := range b.QueuedQueries {
		n := 0
		for _, a := range q.Arguments {
			if values, ok := a.(arrays); ok {
				n += sizeOf(values)
			}
		}
		if size > 0 && size+n > sendRoom {
			if err := conn.SendBatch(ctx, &part).Close(); err != nil {
				return err
			}
			part, size = pgx.Batch{}, 0
		}
		part.QueuedQueries, size = append(part.QueuedQueries, q), size+n
	}
	return conn.SendBatch(ctx, &part).Close()
}

func sizeOf(values arrays) (n int) {
	for _, v := range values {
		n += len(v)
	}
	return n
}

// safely marks an error before which nothing was sent.
type safely struct{ error }

func (s safely) Unwrap() error     { return s.error }
func (s safely) SafeToRetry() bool { return true }

// rollBack makes a connection fit for use again after a transaction that failed; if it cannot be, giving it back closes it.
func rollBack(ctx context.Context, conn *pgxpool.Conn) {
	if !conn.Conn().IsClosed() && conn.Conn().PgConn().TxStatus() != 'I' {
		_, _ = conn.Exec(ctx, "rollback")
	}
}

// look takes the turn and reads what the preconditions are about.
func (e *Engine) look(ctx context.Context, conn sender, b *pgx.Batch, g *group) (failed []int, err error) {
	keys := make([]kv.Key, len(g.expect))
	for i, p := range g.expect {
		keys[i] = p.Key
	}
	values := make([][]byte, len(keys))
	e.queueGets(b, keys, values)
	if err := conn.SendBatch(ctx, b).Close(); err != nil {
		return nil, err
	}
	return unmet(g.expect, values), nil
}

// unmet are the indexes of the preconditions that do not hold of the values.
func unmet(expect []kv.Precondition, values [][]byte) (failed []int) {
	for i, p := range expect {
		if p.Absent != (values[i] == nil) || !p.Absent && !bytes.Equal(p.Value, values[i]) {
			failed = append(failed, i)
		}
	}
	return failed
}

// unsure says whether some of the preconditions that the server found not to hold may hold all the same: the value may have been packed by another version of this
// program, to other bytes.
func (g *group) unsure(failed []int) bool {
	return slices.ContainsFunc(failed, func(i int) bool { return !g.expect[i].Absent && !plain(g.expect[i].Value) })
}

func (g *group) expectations() []any {
	parts, keys := make(arrays, len(g.expect)), make(arrays, len(g.expect))
	values, packs := make(arrays, len(g.expect)), make(arrays, len(g.expect))
	for i, p := range g.expect {
		parts[i], keys[i] = []byte(p.Key.Part), []byte(p.Key.Key)
		if !p.Absent {
			values[i], packs[i] = present(p.Value), packed(p.Value)
		}
	}
	return []any{parts, keys, values, packs}
}

// present is a value that is there: empty is not null.
func present(v []byte) []byte {
	if v == nil {
		return []byte{}
	}
	return v
}

// queueWrites queues what the group leaves, in key order, so that neighbours go to the same pages.
func (e *Engine) queueWrites(b *pgx.Batch, g *group) {
	e.queueSums(b, g)
	var parts, names, values arrays
	size := 0
	put := func() {
		if len(parts) > 0 {
			b.Queue(putSQL, parts, names, values)
		}
		parts, names, values, size = nil, nil, nil, 0
	}
	var gone []kv.Key
	var join, leave []member
	for _, k := range inOrder(g.state) {
		v := g.state[k]
		m := e.member(k)
		switch {
		case v.absent:
			if gone = append(gone, k); m.stem != "" {
				leave = append(leave, m)
			}
		case m.stem != "" && !e.opts.ByPartition:
			join = append(join, m)
		default:
			row := v.row()
			if size > 0 && size+len(row) > sendRoom {
				put()
			}
			parts, names, values, size = append(parts, []byte(k.Part)), append(names, []byte(k.Key)), append(values, row), size+len(row)
		}
	}
	e.queueLeaves(b, leave)
	queueJoins(b, join)
	put()
	if len(gone) == 0 {
		return
	}
	if !e.opts.ByPartition {
		parts, names := make(arrays, len(gone)), make(arrays, len(gone))
		for i, k := range gone {
			parts[i], names[i] = []byte(k.Part), []byte(k.Key)
		}
		b.Queue(deleteSQL, parts, names)
		return
	}
	for _, places := range byPart(len(gone), func(i int) kv.Part { return gone[i].Part }) {
		names := make(arrays, len(places))
		for j, i := range places {
			names[j] = []byte(gone[i].Key)
		}
		b.Queue(deletePartSQL, []byte(gone[places[0]].Part), names)
	}
}

// queueSums queues what the group adds to counters.
func (e *Engine) queueSums(b *pgx.Batch, g *group) {
	if len(g.sums) == 0 {
		return
	}
	var parts, names arrays
	var by []int64
	for _, k := range inOrder(g.sums) {
		parts, names, by = append(parts, []byte(k.Part)), append(names, []byte(k.Key)), append(by, g.sums[k])
	}
	b.Queue(addSQL, parts, names, by)
}

func inOrder[V any](m map[kv.Key]V) []kv.Key {
	return slices.SortedFunc(maps.Keys(m), func(a, b kv.Key) int {
		if c := strings.Compare(string(a.Part), string(b.Part)); c != 0 {
			return c
		}
		return strings.Compare(a.Key, b.Key)
	})
}

// tailOr appends the records and gives the log's tail; with no records it only gives the tail.
func tailOr(g *group) string {
	if len(g.records) == 0 {
		return tailSQL
	}
	return appendSQL
}

func (e *Engine) appendArgs(g *group) []any {
	if len(g.records) == 0 {
		return nil
	}
	records := make(arrays, len(g.records))
	for i, r := range g.records {
		records[i] = present(r)
	}
	return []any{records, int64(len(records)), e.channel()}
}

// confirm says whether the preconditions of a commit that writes nothing hold, and the tail at that moment.
func (e *Engine) confirm(ctx context.Context, expect []kv.Precondition) (tail kv.Position, err error) {
	keys := make([]kv.Key, len(expect))
	for i, p := range expect {
		keys[i] = p.Key
	}
	values := make([][]byte, len(expect))
	err = reading(ctx, func() error {
		var b pgx.Batch
		queueTail(&b, &tail)
		clear(values)
		if len(keys) > 0 {
			e.queueGets(&b, keys, values)
		}
		return e.short.SendBatch(ctx, oneMoment(&b)).Close()
	})
	if err != nil {
		return 0, err
	}
	if len(unmet(expect, values)) > 0 {
		return 0, kv.ErrConflict
	}
	return tail, nil
}

func checkBatch(b kv.Batch) error {
	for _, p := range b.Expect {
		if err := checkKey(p.Key); err != nil {
			return err
		}
	}
	for _, p := range b.Put {
		if err := checkKey(p.Key); err != nil {
			return err
		}
		if len(p.Value) > packMax && bytes.HasPrefix(p.Value, []byte(packMark)) {
			return fmt.Errorf("kv: a value of %d bytes begins as packed ones do, and of such %d are taken", len(p.Value), packMax)
		}
	}
	for _, k := range b.Delete {
		if err := checkKey(k); err != nil {
			return err
		}
	}
	for _, s := range b.Add {
		if err := checkKey(s.Key); err != nil {
			return err
		}
	}
	return nil
}

func batchSize(b kv.Batch) (n int) {
	for _, p := range b.Expect {
		n += len(p.Key.Part) + len(p.Key.Key) + len(p.Value)
	}
	for _, p := range b.Put {
		n += len(p.Key.Part) + len(p.Key.Key) + len(p.Value)
	}
	for _, k := range b.Delete {
		n += len(k.Part) + len(k.Key)
	}
	for _, s := range b.Add {
		n += len(s.Key.Part) + len(s.Key.Key) + 8
	}
	for _, r := range b.Append {
		n += len(r)
	}
	return n
}
