package postgres

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"tombolo/kv"
)

// A row costs 28 bytes beside what is in it, and its key stands in it and again in the index. So keys without values that begin alike, as those do by which the
// resources of one record are found by one value, share rows (kv.Grouper).
//
// Such a row's key is what they begin with, 00, and a number of 2 bytes; its value is 00, and what is left of each of them and 00. 00 and 01 in what is left
// are written 01 01 and 01 02. So a key is found and taken out in the server as 00, the rest, 00, and found nowhere else. It may stand there twice. A row that
// has reached rowFull takes no more, and the next number begins. Rows of one such key each, as they were all written before there were groups, and are where
// the table lies on many machines, stand behind those of its group and count with them.

const (
	rowFull   = 1000   // bytes
	lastRow   = 0x1fff // the number of the last row of a group; it takes all the rest
	rowSuffix = 3      // bytes of a row's key behind the beginning
)

// rowsFrom and rowsTo are what stands behind the beginning, from the first row of a group and before anything else.
const (
	rowsFrom = "\x00\x00"
	rowsTo   = "\x00\x20"
)

var _ kv.Grouper = (*Engine)(nil)

// GroupBy says which keys may share a row.
func (e *Engine) GroupBy(stem func(kv.Key) int) { e.stem = stem }

// stemOf is how much of a key its group has in common; 0 if it has none.
func (e *Engine) stemOf(k kv.Key) int {
	if e.stem == nil {
		return 0
	}
	return max(0, e.stem(k))
}

// groups says whether the keys of a partition may have groups.
func (e *Engine) groups(p kv.Part) bool { return e.stem != nil && e.stem(kv.Key{Part: p}) >= 0 }

// grouped are the indexes of the keys that have groups, and of the others.
func (e *Engine) grouped(keys []kv.Key) (some, others []int) {
	if e.stem == nil {
		return nil, nil
	}
	for i, k := range keys {
		if e.stemOf(k) > 0 {
			some = append(some, i)
		} else {
			others = append(others, i)
		}
	}
	return some, others
}

// expectsGrouped says whether a precondition is about a key that has a group.
func (e *Engine) expectsGrouped(g *group) bool {
	return e.stem != nil && slices.ContainsFunc(g.expect, func(p kv.Precondition) bool { return e.stemOf(p.Key) > 0 })
}

// checkGrouped refuses what keys with groups are not for.
func (e *Engine) checkGrouped(b kv.Batch) error {
	for _, p := range b.Put {
		if len(p.Value) > 0 && e.stemOf(p.Key) > 0 {
			return fmt.Errorf("kv: a key of partition %q belongs to a group and has no value", p.Key.Part)
		}
	}
	for _, s := range b.Add {
		if e.stemOf(s.Key) > 0 {
			return fmt.Errorf("kv: a key of partition %q belongs to a group and is no counter", s.Key.Part)
		}
	}
	return nil
}

var toLeaf, ofLeaf = strings.NewReplacer("\x00", "\x01\x01", "\x01", "\x01\x02"), strings.NewReplacer("\x01\x01", "\x00", "\x01\x02", "\x01")

// appendLeaf appends what is left of a key to the value of a row, which begins with 00.
func appendLeaf(b []byte, rest string) []byte {
	if len(b) == 0 {
		b = append(b, 0)
	}
	if strings.IndexByte(rest, 0) >= 0 || strings.IndexByte(rest, 1) >= 0 {
		rest = toLeaf.Replace(rest)
	}
	return append(append(b, rest...), 0)
}

// appendKeys appends the keys of a row whose beginning is stem.
func appendKeys(keys []string, stem string, row []byte) []string {
	s := strings.TrimPrefix(string(row), "\x00")
	for s != "" {
		leaf, after, _ := strings.Cut(s, "\x00")
		if s = after; strings.IndexByte(leaf, 1) >= 0 {
			leaf = ofLeaf.Replace(leaf)
		}
		keys = append(keys, stem+leaf)
	}
	return keys
}

const (
	// joinSQL appends to the last row of each group, or begins the next: $1 partitions, $2 beginnings, $3 the how manieth piece of what is added to that group it
	// is, $4 the pieces.
	joinSQL = `insert into entry (part, key, value)
		select x.part, x.stem || '\x00'::bytea || int2send(least(coalesce(last.n, 0) + x.piece, $5)::int2), x.leaves
		from unnest($1::bytea[], $2::bytea[], $3::int[], $4::bytea[]) x (part, stem, piece, leaves)
		left join lateral (
			select get_byte(e.key, octet_length(e.key) - 2) * 256 + get_byte(e.key, octet_length(e.key) - 1) + case when octet_length(e.value) < $6 then 0 else 1 end as n
			from entry e where e.part = x.part and e.key >= x.stem || '\x0000'::bytea and e.key < x.stem || '\x0020'::bytea order by e.key desc limit 1
		) last on true
		on conflict (part, key) do update set value = entry.value || substr(excluded.value, 2)`
	// heldSQL tells which keys are there, by themselves or in a row of their group: $1 keys, $2 their beginnings, $3 the rest as it stands in rows, and $4 their partitions.
	heldSQL = "select o.n from unnest($1::bytea[], $2::bytea[], $3::bytea[], $4::bytea[]) with ordinality o (key, stem, leaf, part, n)" + heldWhere

	heldWhere = ` where exists (select from entry e where e.part = o.part and e.key = o.key offset 0)
		or exists (select from entry e where e.part = o.part and e.key >= o.stem || '\x0000'::bytea and e.key < o.stem || '\x0020'::bytea and position(o.leaf in e.value) > 0)`

	// leaveSQL takes keys out of their rows, and removes rows of which nothing is left: $1 beginnings, $2 what is taken out as it stands in rows, $3 their partitions.
	leaveSQL = `with left_over as materialized (
			select e.part, e.key, without(e.value, d.gone) as value from unnest($1::bytea[], $2::bytea[], $3::bytea[]) d (stem, gone, part)
			join entry e on e.part = d.part and e.key >= d.stem || '\x0000'::bytea and e.key < d.stem || '\x0020'::bytea
		), emptied as (
			delete from entry e using left_over l where e.part = l.part and e.key = l.key and l.value = '\x00'::bytea
		)
		update entry e set value = l.value from left_over l where e.part = l.part and e.key = l.key and l.value <> '\x00'::bytea and l.value <> e.value`
)

// heldHereSQL is heldSQL for keys of the partition $1.
var heldHereSQL = "select o.n from unnest($2::bytea[], $3::bytea[], $4::bytea[]) with ordinality o (key, stem, leaf, n)" + strings.ReplaceAll(heldWhere, "o.part", "$1")

// leaveHereSQL is leaveSQL for the partition $1, with $2 beginnings and $3 what is taken out. offset 0 keeps the planner from reading the whole partition beside them.
const leaveHereSQL = `with left_over as materialized (
		select e.key, without(e.value, d.gone) as value from unnest($2::bytea[], $3::bytea[]) d (stem, gone) cross join lateral (
			select key, value from entry where part = $1 and key >= d.stem || '\x0000'::bytea and key < d.stem || '\x0020'::bytea offset 0) e
	), emptied as (
		delete from entry e where e.part = $1 and e.key = any (array(select l.key from left_over l where l.value = '\x00'::bytea))
	)
	update entry e set value = (select l.value from left_over l where l.key = e.key)
	where e.part = $1 and e.key = any (array(select l.key from left_over l where l.value <> '\x00'::bytea)) and e.value <> (select l.value from left_over l where l.key = e.key)`

// A member is a key that has a group, in pieces.
type member struct {
	part kv.Part
	stem string
	rest string
}

func (e *Engine) member(k kv.Key) member {
	n := e.stemOf(k)
	return member{k.Part, k.Key[:n], k.Key[n:]}
}

// queueHeld queues what looks for keys that have groups, and says how many statements it takes.
func (e *Engine) queueHeld(b *pgx.Batch, keys []kv.Key, places []int, values [][]byte) int {
	groups := [][]int{places}
	if e.opts.ByPartition {
		groups = byPart(len(places), func(i int) kv.Part { return keys[places[i]].Part })
		for _, g := range groups {
			for j, i := range g {
				g[j] = places[i]
			}
		}
	}
	for _, group := range groups {
		names, stems, leaves, parts := make(arrays, len(group)), make(arrays, len(group)), make(arrays, len(group)), make(arrays, len(group))
		for j, i := range group {
			m := e.member(keys[i])
			names[j], stems[j], leaves[j], parts[j] = []byte(keys[i].Key), []byte(m.stem), appendLeaf(nil, m.rest), []byte(m.part)
		}
		sql, args := heldSQL, []any{names, stems, leaves, parts}
		if e.opts.ByPartition {
			sql, args = heldHereSQL, []any{parts[0], names, stems, leaves}
		}
		b.Queue(sql, args...).Query(func(rows pgx.Rows) error {
			var n int64
			_, err := pgx.ForEachRow(rows, []any{&n}, func() error {
				values[group[n-1]] = []byte{}
				return nil
			})
			return err
		})
	}
	return len(groups)
}

// queueJoins queues what puts keys into their groups; they are in order.
func queueJoins(b *pgx.Batch, members []member) {
	var parts, stems, leaves arrays
	var pieces []int32
	for i, m := range members {
		last := len(leaves) - 1
		if i > 0 && m.part == members[i-1].part && m.stem == members[i-1].stem {
			if len(leaves[last]) < rowFull {
				leaves[last] = appendLeaf(leaves[last], m.rest)
				continue
			}
			pieces = append(pieces, pieces[last]+1)
		} else {
			pieces = append(pieces, 0)
		}
		parts, stems, leaves = append(parts, []byte(m.part)), append(stems, []byte(m.stem)), append(leaves, appendLeaf(nil, m.rest))
	}
	if len(parts) > 0 {
		b.Queue(joinSQL, parts, stems, pieces, leaves, lastRow, rowFull)
	}
}

// queueLeaves queues what takes keys out of their groups; they are in order.
func (e *Engine) queueLeaves(b *pgx.Batch, members []member) {
	var parts, stems, gone arrays
	for i, m := range members {
		if last := len(gone) - 1; i > 0 && m.part == members[i-1].part && m.stem == members[i-1].stem {
			gone[last] = appendLeaf(gone[last], m.rest)
			continue
		}
		parts, stems, gone = append(parts, []byte(m.part)), append(stems, []byte(m.stem)), append(gone, appendLeaf(nil, m.rest))
	}
	if len(parts) == 0 {
		return
	}
	if !e.opts.ByPartition {
		b.Queue(leaveSQL, stems, gone, parts)
		return
	}
	for _, places := range byPart(len(parts), func(i int) kv.Part { return kv.Part(parts[i]) }) {
		some, out := make(arrays, len(places)), make(arrays, len(places))
		for j, i := range places {
			some[j], out[j] = stems[i], gone[i]
		}
		b.Queue(leaveHereSQL, parts[places[0]], some, out)
	}
}

// A span is rows to be read. Those of a partition that has groups give the keys that are within a range.
type span struct {
	kv.Range          // of rows
	keys     kv.Range // of keys
	grouped  bool
	lead     bool // the rows of the group in the midst of which the next span begins
}

// spans are the rows in which the keys of a range are.
func (e *Engine) spans(r kv.Range) []span {
	if !e.groups(r.Part) {
		return []span{{Range: r, keys: r}}
	}
	all := span{Range: r, keys: r, grouped: true}
	n := e.stemOf(kv.Key{Part: r.Part, Key: r.From})
	if n == 0 || n == len(r.From) {
		return []span{all}
	}
	lead := all
	lead.From, lead.To, lead.lead = r.From[:n]+rowsFrom, r.From[:n]+rowsTo, true
	if all.From = max(all.From, lead.To); all.To != "" && all.From >= all.To {
		lead.lead = false // nothing follows
		return []span{lead}
	}
	return []span{lead, all}
}

// An unfolder makes keys of the rows of groups. The rows of one are together, and give their keys in order when it is clear that they were all.
type unfolder struct {
	stem string   // of the group whose rows are being read; "" if none
	keys []string // of it
}

// unfold gives the keys of some more rows of a span, and may leave off when it has as many as are wanted; < 0: all.
func (u *unfolder) unfold(s span, rows []kv.Entry, cut bool, wanted int) []kv.Entry {
	var out []kv.Entry
	end := func() {
		slices.Sort(u.keys)
		for _, k := range slices.Compact(u.keys) {
			if k >= s.keys.From && (s.keys.To == "" || k < s.keys.To) {
				out = append(out, kv.Entry{Key: kv.Key{Part: s.Part, Key: k}, Value: []byte{}})
			}
		}
		u.stem, u.keys = "", u.keys[:0]
	}
	for _, row := range rows {
		k := row.Key.Key
		switch {
		case len(row.Value) > 0 && len(k) > rowSuffix:
			stem := k[:len(k)-rowSuffix]
			if stem != u.stem {
				end()
			}
			u.stem = stem
			u.keys = appendKeys(u.keys, stem, row.Value)
		case u.stem != "" && strings.HasPrefix(k, u.stem):
			u.keys = append(u.keys, k)
		default:
			end()
			u.keys = append(u.keys, k)
			end()
		}
		if wanted >= 0 && len(out) >= wanted {
			return out
		}
	}
	if !cut && !s.lead {
		end()
	}
	return out
}

// Group brings keys into groups that stand by themselves, while work goes on: some at a time, each time as a commit that takes its turn.
func (e *Engine) Group(ctx context.Context, told func(done int64)) error {
	if e.stem == nil || e.opts.ByPartition {
		return nil
	}
	parts, err := e.groupedParts(ctx)
	if err != nil {
		return err
	}
	done := int64(0)
	for _, part := range parts {
		for from := []byte{}; from != nil; {
			if err := e.gate.Enter(ctx); err != nil {
				return err
			}
			n, next, err := e.groupSome(ctx, part, from)
			e.gate.Leave()
			if err == nil && next != nil && string(next) <= string(from) {
				err = outOfOrder(part)
			}
			if err != nil {
				return fmt.Errorf("bring keys together: %w", explain(err))
			}
			done, from = done+n, next
			told(done)
		}
	}
	return nil
}

// groupedParts are the partitions whose keys may have groups.
func (e *Engine) groupedParts(ctx context.Context) (parts []kv.Part, err error) {
	s, err := e.hold(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { _ = s.Close() }()
	for part, err := range s.Parts(ctx) {
		if err != nil {
			return nil, err
		}
		if e.groups(part) {
			parts = append(parts, part)
		}
	}
	return parts, nil
}

// groupMost is how many rows are looked at while others wait for their turn.
const groupMost = 1000

const aloneSQL = "select key, value from entry where part = $1 and key >= $2 order by key limit $3"

// groupSome brings the next rows of a partition into groups. next is where to go on; nil at the end.
func (e *Engine) groupSome(ctx context.Context, part kv.Part, from []byte) (n int64, next []byte, err error) {
	err = pgx.BeginFunc(ctx, e.short, func(tx pgx.Tx) error {
		var members []member
		var names arrays
		var b pgx.Batch
		b.Queue(turnSQL)
		b.Queue(aloneSQL, []byte(part), from, groupMost).Query(func(rows pgx.Rows) error {
			var key, value []byte
			seen := 0
			_, err := pgx.ForEachRow(rows, []any{&key, &value}, func() error {
				if m := e.member(kv.Key{Part: part, Key: string(key)}); len(value) == 0 && m.stem != "" && m.rest != "" {
					members, names = append(members, m), append(names, slices.Clone(key))
				}
				seen, next = seen+1, append(slices.Clone(key), 0)
				return nil
			})
			if seen < groupMost {
				next = nil
			}
			return err
		})
		if err := tx.SendBatch(ctx, &b).Close(); err != nil || len(members) == 0 {
			return err
		}
		n = int64(len(members))
		b = pgx.Batch{}
		e.queueLeaves(&b, members) // it may stand there already
		b.Queue(deletePartSQL, []byte(part), names)
		queueJoins(&b, members)
		return tx.SendBatch(ctx, &b).Close()
	})
	return n, next, err
}
