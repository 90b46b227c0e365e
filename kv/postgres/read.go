package postgres

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"tombolo/kv"
)

// A sender sends statements together and reads their answers together: one round trip. Pools, connections and transactions are senders.
type sender interface {
	SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults
}

const (
	getSQL = "select value from entry where part = $1 and key = $2"
	// pairSQL is for two keys, where looking each up costs less than a join: a read by reference is one.
	pairSQL = "select (select value from entry where part = $1 and key = $2), (select value from entry where part = $3 and key = $4)"
	manySQL = `select o.n, e.value from unnest($1::bytea[], $2::bytea[]) with ordinality o (part, key, n)
		join entry e on e.part = o.part and e.key = o.key`
	partSQL = "select o.n, e.value from unnest($2::bytea[]) with ordinality o (key, n) join entry e on e.part = $1 and e.key = o.key"

	beginRead = "begin isolation level repeatable read read only"
)

type arrays = pgtype.FlatArray[[]byte]

// Get returns the value at k.
func (e *Engine) Get(ctx context.Context, k kv.Key) ([]byte, bool, error) {
	values, err := e.MultiGet(ctx, []kv.Key{k})
	if err != nil {
		return nil, false, err
	}
	return values[0], values[0] != nil, nil
}

// MultiGet returns one value per key.
func (e *Engine) MultiGet(ctx context.Context, keys []kv.Key) (values [][]byte, err error) {
	if err := e.gate.Enter(ctx); err != nil {
		return nil, err
	}
	defer e.gate.Leave()
	if len(keys) == 0 {
		return [][]byte{}, nil
	}
	err = reading(ctx, func() error {
		values = make([][]byte, len(keys))
		var b pgx.Batch
		if e.queueGets(&b, keys, values) == 1 {
			return e.short.SendBatch(ctx, &b).Close()
		}
		return e.short.SendBatch(ctx, oneMoment(&b)).Close()
	})
	return values, err
}

// oneMoment makes the statements of a batch see the same state.
func oneMoment(b *pgx.Batch) *pgx.Batch {
	var all pgx.Batch
	all.Queue(beginRead)
	all.QueuedQueries = append(all.QueuedQueries, b.QueuedQueries...)
	all.Queue("commit")
	return &all
}

// queueGets queues what reads the keys into values, and says how many statements it takes: one, or one a partition where the table
// is distributed and each machine is to be asked only for what it has.
func (e *Engine) queueGets(b *pgx.Batch, keys []kv.Key, values [][]byte) int {
	some, others := e.grouped(keys)
	if len(some) == 0 {
		return e.queueRows(b, keys, func(i int, v []byte) { values[i] = v })
	}
	n := e.queueHeld(b, keys, some, values)
	if len(others) > 0 {
		n += e.queueRows(b, picked(keys, others), func(i int, v []byte) { values[others[i]] = v })
	}
	return n
}

func picked[T any](all []T, at []int) []T {
	out := make([]T, len(at))
	for j, i := range at {
		out[j] = all[i]
	}
	return out
}

// queueRows is queueGets for keys that have no groups; set is told of those that are there.
func (e *Engine) queueRows(b *pgx.Batch, keys []kv.Key, set func(i int, value []byte)) int {
	if len(keys) == 1 {
		k := keys[0]
		if checkKey(k) != nil {
			b.Queue("select 1") // so long a key cannot be there
			return 1
		}
		b.Queue(getSQL, []byte(k.Part), []byte(k.Key)).QueryRow(func(row pgx.Row) error {
			var value []byte
			err := row.Scan(&value)
			if err == pgx.ErrNoRows {
				return nil
			}
			set(0, unpacked(value))
			return err
		})
		return 1
	}
	if len(keys) == 2 && !e.opts.ByPartition && checkKey(keys[0]) == nil && checkKey(keys[1]) == nil {
		b.Queue(pairSQL, []byte(keys[0].Part), []byte(keys[0].Key), []byte(keys[1].Part), []byte(keys[1].Key)).QueryRow(func(row pgx.Row) error {
			var first, second []byte
			err := row.Scan(&first, &second)
			set(0, unpacked(first))
			set(1, unpacked(second))
			return err
		})
		return 1
	}
	collect := func(places []int) func(pgx.Rows) error {
		return func(rows pgx.Rows) error {
			var n int64
			var value []byte
			_, err := pgx.ForEachRow(rows, []any{&n, &value}, func() error {
				i := int(n) - 1
				if places != nil {
					i = places[i]
				}
				set(i, unpacked(value))
				value = nil
				return nil
			})
			return err
		}
	}
	if !e.opts.ByPartition {
		parts, names := make(arrays, len(keys)), make(arrays, len(keys))
		for i, k := range keys {
			parts[i], names[i] = []byte(k.Part), []byte(k.Key)
		}
		b.Queue(manySQL, parts, names).Query(collect(nil))
		return 1
	}
	groups := byPart(len(keys), func(i int) kv.Part { return keys[i].Part })
	for _, places := range groups {
		names := make(arrays, len(places))
		for j, i := range places {
			names[j] = []byte(keys[i].Key)
		}
		b.Queue(partSQL, []byte(keys[places[0]].Part), names).Query(collect(places))
	}
	return len(groups)
}

// byPart groups the indexes of n things by their partition, in the order in which partitions first come.
func byPart(n int, part func(int) kv.Part) (groups [][]int) {
	at := map[kv.Part]int{}
	for i := range n {
		p := part(i)
		g, ok := at[p]
		if !ok {
			g = len(groups)
			at[p] = g
			groups = append(groups, nil)
		}
		groups[g] = append(groups[g], i)
	}
	return groups
}

// A page of a scan: as many entries, and about as many bytes of values, as are read into memory at a time. What does not fit is left for the
// next page; the server looks at the values' sizes and not at the values to know.
const (
	pageEntries = 2048
	pageBytes   = 4 << 20
	pageRanges  = 128
	// few is how many ranges are read by a statement each; more of them by one for all.
	fewRanges = 4
	// Of rows that stand for many keys: as many bytes of them at a time; at least and at the most for a key that is wanted.
	pageGrouped, leastGrouped, mostLeaf = 256 << 10, 32 << 10, 52
)

const (
	// $1 partition, $2 from, $3 entries at the most, $4 bytes at the most, and $5 the end, if there is one.
	scanSQL   = scanStart + scanEnd
	scanToSQL = scanStart + " and key < $5" + scanEnd

	scanStart = `select key, value, more from (
			select key, value, sum(octet_length(value)) over up_to_here - octet_length(value) as before, lead(true) over here as more
			from (select key, value from entry where part = $1 and key >= $2`
	scanEnd = ` order by key limit $3) found
			window here as (order by key), up_to_here as (here rows unbounded preceding)
		) sized where before < $4 order by key`
)

// rangesSQL is scanToSQL for many ranges at once: $1 partitions, $2 from, $3 to, $4 entries and $5 bytes at the most for each. rangesHereSQL is for ranges of one
// partition, which it names.
var (
	rangesSQL = "select r.n, e.key, e.value, e.more from unnest($1::bytea[], $2::bytea[], $3::bytea[]) with ordinality r (part, f, t, n) cross join lateral (" +
		manyRanges.Replace(scanToSQL) + ") e"
	rangesHereSQL = "select r.n, e.key, e.value, e.more from unnest($2::bytea[], $3::bytea[]) with ordinality r (f, t, n) cross join lateral (" +
		strings.Replace(manyRanges.Replace(scanToSQL), "r.part", "$1", 1) + ") e"
	manyRanges = strings.NewReplacer("part = $1", "part = r.part", "key >= $2", "key >= r.f", "limit $3", "limit $4", "before < $4", "before < $5", "key < $5", "key < r.t")
)

// A cursor is how far a scan has come.
type cursor struct {
	spans  []span
	limit  int  // how many entries are still wanted; < 0: all
	apart  bool // each statement is to name one partition
	unfold unfolder
	damage error // the rows do not come in their order
}

// queue queues what reads the next page, and gives what the page will be, in the order of the ranges, once it is sent. end is whether
// the page then is the last.
func (c *cursor) queue(b *pgx.Batch) (page func() (entries []kv.Entry, end bool)) {
	n, entries, bytes := min(len(c.spans), pageRanges), 256, 256<<10
	together := c.together()
	if together && len(c.spans) > pageRanges {
		n, entries, bytes = min(len(c.spans), 4*pageRanges), 64, 64<<10
	}
	found := make([][]kv.Entry, n)
	cut := make([]bool, n)
	most, size := max(pageEntries/n, entries), max(pageBytes/n, bytes)
	if c.limit >= 0 {
		most = min(most, c.limit)
	}
	if slices.ContainsFunc(c.spans[:n], func(s span) bool { return s.grouped }) {
		// A row stands for many keys, and those of a group are known when the row after it is.
		most, size = most+1, min(size, pageGrouped)
		if c.limit >= 0 {
			size = min(size, max(leastGrouped, c.limit*mostLeaf))
		}
	}
	if together {
		queueMany(b, c.spans[:n], most, size, found, cut)
		return func() ([]kv.Entry, bool) { return c.take(found, cut) }
	}
	for i, s := range c.spans[:n] {
		sql, args := scanSQL, []any{[]byte(s.Part), []byte(s.From), most + 1, size}
		if s.To != "" {
			sql, args = scanToSQL, append(args, []byte(s.To))
		}
		b.Queue(sql, args...).Query(func(rows pgx.Rows) error {
			var key, value []byte
			var more *bool
			_, err := pgx.ForEachRow(rows, []any{&key, &value, &more}, func() error {
				if cut[i] = more != nil; len(found[i]) < most {
					found[i] = append(found[i], kv.Entry{Key: kv.Key{Part: s.Part, Key: string(key)}, Value: value})
				} else {
					cut[i] = true
				}
				value = nil
				return nil
			})
			return err
		})
	}
	return func() ([]kv.Entry, bool) { return c.take(found, cut) }
}

// together says whether one statement may read all the ranges.
func (c *cursor) together() bool {
	apart := false
	for _, s := range c.spans {
		if s.To == "" {
			return false
		}
		apart = apart || c.apart && s.Part != c.spans[0].Part
	}
	return len(c.spans) > fewRanges && !apart
}

// queueMany queues what reads all the ranges in one statement.
func queueMany(b *pgx.Batch, ranges []span, most, size int, found [][]kv.Entry, cut []bool) {
	from, to, parts := make(arrays, len(ranges)), make(arrays, len(ranges)), make(arrays, len(ranges))
	onePart := true
	for i, r := range ranges {
		parts[i], from[i], to[i] = []byte(r.Part), []byte(r.From), []byte(r.To)
		onePart = onePart && r.Part == ranges[0].Part
	}
	sql, first := rangesSQL, any(parts)
	if onePart {
		sql, first = rangesHereSQL, []byte(ranges[0].Part)
	}
	b.Queue(sql, first, from, to, most+1, size).Query(func(rows pgx.Rows) error {
		var n int64
		var key, value []byte
		var more *bool
		_, err := pgx.ForEachRow(rows, []any{&n, &key, &value, &more}, func() error {
			i := int(n) - 1
			if cut[i] = more != nil; len(found[i]) < most {
				found[i] = append(found[i], kv.Entry{Key: kv.Key{Part: ranges[i].Part, Key: string(key)}, Value: value})
			} else {
				cut[i] = true
			}
			value = nil
			return nil
		})
		return err
	})
}

// take moves the cursor behind what was found, up to the first range that was cut short.
func (c *cursor) take(found [][]kv.Entry, cut []bool) (entries []kv.Entry, end bool) {
	for i, got := range found {
		last := ""
		if cut[i] {
			last = got[len(got)-1].Key.Key
		}
		if c.spans[i].grouped {
			got = c.unfold.unfold(c.spans[i], got, cut[i], c.limit)
		}
		if c.limit >= 0 && len(got) >= c.limit {
			return append(entries, got[:c.limit]...), true
		}
		if c.limit >= 0 {
			c.limit -= len(got)
		}
		entries = append(entries, got...)
		if cut[i] && last < c.spans[i].From {
			c.damage = outOfOrder(c.spans[i].Part) // from there the scan would go on where it has been, for ever
			return entries, true
		}
		if cut[i] {
			c.spans = slices.Clone(c.spans[i:])
			c.spans[0].From = last + "\x00"
			return entries, false
		}
	}
	c.spans = c.spans[len(found):]
	return entries, len(c.spans) == 0
}

// outOfOrder says that a row does not stand where the index says: a bit of one of the two has rotted.
func outOfOrder(p kv.Part) error {
	return fmt.Errorf("kv: a row of partition %q came out of its order: the table entry or its index is damaged (pg_amcheck says which: reindex index entry_pkey, or restore a backup)", p)
}

func (e *Engine) newCursor(ranges []kv.Range, limit int) *cursor {
	c := &cursor{limit: limit, apart: e.opts.ByPartition}
	if limit <= 0 {
		c.limit = -1
	}
	for _, r := range ranges {
		if r.To == "" || r.From < r.To {
			c.spans = append(c.spans, e.spans(r)...)
		}
	}
	return c
}

// Scan yields the entries of the ranges, all from one state. What fits on a page is one round trip, and no connection is held while the caller
// looks at it; what does not is read from a snapshot.
func (e *Engine) Scan(ctx context.Context, ranges []kv.Range, limit int) iter.Seq2[kv.Entry, error] {
	return func(yield func(kv.Entry, error) bool) {
		entries, end, err := e.firstPage(ctx, e.newCursor(ranges, limit))
		switch {
		case err != nil:
			yield(kv.Entry{}, err)
			return
		case end:
			hand(ctx, entries, yield)
			return
		}
		// The first page is handed out as it is, and what follows must be of the same moment: so it is read again.
		s, err := e.Snapshot(ctx)
		if err != nil {
			yield(kv.Entry{}, err)
			return
		}
		defer func() { _ = s.Close() }()
		for en, err := range s.Scan(ctx, ranges, limit) {
			if !yield(en, err) {
				return
			}
		}
	}
}

// firstPage is a page of entries, which are packed still if there are more.
func (e *Engine) firstPage(ctx context.Context, c *cursor) (entries []kv.Entry, end bool, err error) {
	if err := e.gate.Enter(ctx); err != nil {
		return nil, false, err
	}
	defer e.gate.Leave()
	if len(c.spans) == 0 {
		return nil, true, nil
	}
	err = reading(ctx, func() error {
		var b pgx.Batch
		again := *c
		page := again.queue(&b)
		send := &b
		if b.Len() > 1 {
			send = oneMoment(send)
		}
		if err := e.short.SendBatch(ctx, send).Close(); err != nil {
			return err
		}
		if entries, end = page(); end {
			unpackEntries(entries)
		}
		return again.damage
	})
	return entries, end, err
}

// hand yields entries that are in memory; false if nothing more is wanted.
func hand(ctx context.Context, entries []kv.Entry, yield func(kv.Entry, error) bool) bool {
	for i, en := range entries {
		if i&63 == 0 {
			if err := ctx.Err(); err != nil {
				yield(kv.Entry{}, err)
				return false
			}
		}
		if !yield(en, nil) {
			return false
		}
	}
	return true
}
