package postgres

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"tombolo/kv"
	"tombolo/kv/postgres/pgtest"
)

// fill puts n values of a size into each of some partitions.
func fill(t testing.TB, e *Engine, parts, n, size int) {
	t.Helper()
	for p := range parts {
		var b kv.Batch
		for i := range n {
			b.Put = append(b.Put, kv.Entry{Key: kv.Key{Part: kv.Part(fmt.Sprintf("p%03d", p)), Key: fmt.Sprintf("%06d", i)}, Value: bytes.Repeat([]byte{byte(i)}, size)})
		}
		if _, err := e.Commit(context.Background(), b); err != nil {
			t.Fatal(err)
		}
	}
}

func wholes(parts int) (out []kv.Range) {
	for p := range parts {
		out = append(out, kv.Range{Part: kv.Part(fmt.Sprintf("p%03d", p))})
	}
	return out
}

// Scans that are longer than a page in entries, in bytes and in ranges: nothing twice, nothing missing, one state throughout, and with one
// connection the caller may do what it likes meanwhile.
func TestLongScans(t *testing.T) {
	ctx := context.Background()
	for _, c := range []struct {
		name           string
		parts, n, size int
		limit          int
	}{
		{name: "many entries", parts: 1, n: 3 * pageEntries, size: 1},
		{name: "exactly a page", parts: 1, n: pageEntries, size: 1},
		{name: "one more than a page", parts: 1, n: pageEntries + 1, size: 1},
		{name: "large values", parts: 2, n: 40, size: 300 << 10},
		{name: "values larger than a page", parts: 1, n: 3, size: pageBytes + 1000},
		{name: "many ranges", parts: 300, n: 9, size: 100},
		{name: "many ranges of many entries", parts: 20, n: 700, size: 10},
		{name: "with a limit beyond a page", parts: 3, n: 2000, size: 1, limit: 5000},
		{name: "with a limit of a page", parts: 1, n: 3000, size: 1, limit: pageEntries},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := open(t, Options{URL: pgtest.URL(t), MaxConns: 1})
			defer func() { _ = e.Close() }()
			fill(t, e, c.parts, c.n, c.size)
			want := c.parts * c.n
			if c.limit > 0 {
				want = min(want, c.limit)
			}
			n := 0
			for en, err := range e.Scan(ctx, wholes(c.parts), c.limit) {
				if err != nil {
					t.Fatal(err)
				}
				if n == 0 { // what the scan has not come to yet changes
					last := kv.Key{Part: kv.Part(fmt.Sprintf("p%03d", c.parts-1)), Key: fmt.Sprintf("%06d", c.n-1)}
					if _, err := e.Commit(ctx, kv.Batch{Delete: []kv.Key{last}}); err != nil {
						t.Fatal(err)
					}
				}
				at := kv.Key{Part: kv.Part(fmt.Sprintf("p%03d", n/c.n)), Key: fmt.Sprintf("%06d", n%c.n)}
				if en.Key != at || len(en.Value) != c.size || c.size > 0 && en.Value[0] != byte(n%c.n) {
					t.Fatalf("entry %d is %v with %d bytes, want %v with %d", n, en.Key, len(en.Value), at, c.size)
				}
				n++
			}
			if n != want {
				t.Errorf("%d entries, want %d", n, want)
			}
		})
	}
}

// However large the table grows, each statement finds its rows by the index.
func TestStatementsUseTheIndex(t *testing.T) {
	ctx := context.Background()
	e := open(t, Options{URL: pgtest.URL(t)})
	defer func() { _ = e.Close() }()
	fill(t, e, 10, 1000, 20)
	conn, err := e.short.Acquire(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	for name, statement := range map[string]struct {
		sql, types, args string
		want             []string
	}{
		"Get":          {getSQL, "bytea, bytea", "'p001', '000007'", []string{"Index Cond: ((part = $1) AND (key = $2))"}},
		"MultiGet":     {manySQL, "bytea[], bytea[]", "'{p001}', '{000007}'", []string{"Index Cond: ((part = o.part) AND (key = o.key))"}},
		"by part":      {partSQL, "bytea, bytea[]", "'p001', '{000007}'", []string{"Index Cond: ((part = $1) AND (key = o.key))"}},
		"Pair":         {pairSQL, "bytea, bytea, bytea, bytea", "'p001', 'a', 'p001', 'b'", []string{"Index Cond: ((part = $1) AND (key = $2))", "Index Cond: ((part = $3) AND (key = $4))"}},
		"Scan":         {scanSQL, "bytea, bytea, bigint, bigint", "'p001', '', 10, 1000", []string{"Index Cond: ((part = $1) AND (key >= $2))"}},
		"Scan to":      {scanToSQL, "bytea, bytea, bigint, bigint, bytea", "'p001', '', 10, 1000, 'x'", []string{"Index Cond: ((part = $1) AND (key >= $2) AND (key < $5))"}},
		"Scan of many": {rangesSQL, "bytea[], bytea[], bytea[], bigint, bigint", "'{p001}', '{a}', '{x}', 10, 1000", []string{"Index Cond: ((part = r.part) AND (key >= r.f) AND (key < r.t))"}},
		"Scan of many in one partition": {rangesHereSQL, "bytea, bytea[], bytea[], bigint, bigint", "'p001', '{a}', '{x}', 10, 1000",
			[]string{"Index Cond: ((part = $1) AND (key >= r.f) AND (key < r.t))"}},
		"hold": {holdSQL, "bytea[], bytea[], bytea[], bytea[]", "'{p001}', '{000007}', '{x}', '{x}'", []string{"Index Cond: ((part = x.part) AND (key = x.key))"}},
		"held": {heldSQL, "bytea[], bytea[], bytea[], bytea[]", "'{000007}', '{0}', '{x}', '{p001}'",
			[]string{"Index Cond: ((part = o.part) AND (key = o.key))", `Index Cond: ((part = o.part) AND (key >= (o.stem || '\x0000'::bytea)) AND (key < (o.stem || '\x0020'::bytea)))`}},
		"held by part": {heldHereSQL, "bytea, bytea[], bytea[], bytea[]", "'p001', '{000007}', '{0}', '{x}'", []string{"Index Cond: ((part = $1) AND (key = o.key))"}},
		"join":         {joinSQL, "bytea[], bytea[], int[], bytea[], int, int", "'{p001}', '{0}', '{0}', '{x}', 9, 9", []string{`Index Cond: ((part = x.part) AND (key >= (x.stem || '\x0000'::bytea)) AND`, "Backward"}},
		"leave": {leaveSQL, "bytea[], bytea[], bytea[]", "'{0}', '{x}', '{p001}'",
			[]string{`Index Cond: ((part = d.part) AND (key >= (d.stem || '\x0000'::bytea)) AND`, "Index Cond: ((part = l.part) AND (key = l.key))"}},
		"leave by part": {leaveHereSQL, "bytea, bytea[], bytea[]", "'p001', '{0}', '{x}'",
			[]string{`Index Cond: ((part = $1) AND (key >= (d.stem || '\x0000'::bytea)) AND`, "Index Cond: ((part = $1) AND (key = ANY ("}},
		"alone":           {aloneSQL, "bytea, bytea, bigint", "'p001', '', 10", []string{"Index Cond: ((part = $1) AND (key >= $2))"}},
		"delete":          {deleteSQL, "bytea[], bytea[]", "'{p001}', '{000007}'", []string{"Index Cond: ((part = d.part) AND (key = d.key))"}},
		"by part, delete": {deletePartSQL, "bytea, bytea[]", "'p001', '{000007}'", []string{"Index Cond: ((part = $1) AND (key = ANY ($2)))"}},
		"log":             {"select at, value from log where at > $1 order by at limit $2", "bigint, bigint", "0, 10", []string{"Index Cond: (at > $1)"}},
		"tail":            {tailSQL, "", "", []string{"Index Only Scan Backward"}},
	} {
		prepared, call := "prepare s as ", "explain execute s"
		if statement.types != "" {
			prepared, call = "prepare s ("+statement.types+") as ", "explain execute s ("+statement.args+")"
		}
		if _, err := conn.Exec(ctx, prepared+statement.sql); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		rows, err := conn.Query(ctx, call)
		if err != nil {
			t.Fatal(err)
		}
		var plan strings.Builder
		for rows.Next() {
			var line string
			if err := rows.Scan(&line); err != nil {
				t.Fatal(err)
			}
			plan.WriteString(line + "\n")
		}
		rows.Close()
		for _, want := range statement.want {
			if !strings.Contains(plan.String(), want) {
				t.Errorf("%s: the plan does not say %q:\n%s", name, want, &plan)
			}
		}
		if strings.Contains(plan.String(), "Seq Scan on") {
			t.Errorf("%s reads the whole table:\n%s", name, &plan)
		}
		if _, err := conn.Exec(ctx, "deallocate s"); err != nil {
			t.Fatal(err)
		}
	}
}

// Whatever the batch, a call is one round trip; where the table is distributed, each of its statements names one partition.
func TestOneRoundTripACall(t *testing.T) {
	ctx := context.Background()
	k := func(p, key string) kv.Key { return kv.Key{Part: kv.Part(p), Key: key} }
	keys := []kv.Key{k("p/ann", "r/a"), k("p/ann", "r/b"), k("i/1f", "a"), k("i/2c", "b")}
	batch := kv.Batch{Expect: []kv.Precondition{{Key: keys[2], Absent: true}, {Key: keys[3], Absent: true}},
		Put: []kv.Entry{{Key: keys[0], Value: []byte("x")}, {Key: keys[1]}}, Delete: []kv.Key{k("p/ann", "z"), k("x/y", "z")}, Append: [][]byte{{1}, {2}}}
	for _, byPartition := range []bool{false, true} {
		var sent pgtest.Statements
		e := open(t, Options{URL: pgtest.URL(t), ByPartition: byPartition, Tracer: &sent})
		defer func() { _ = e.Close() }()
		calls := []struct {
			name string
			call func() error
			want int
		}{
			{"Get", func() error { _, _, err := e.Get(ctx, keys[0]); return err }, 1},
			{"MultiGet", func() error { _, err := e.MultiGet(ctx, keys); return err }, 1},
			{"Scan", func() error {
				for _, err := range e.Scan(ctx, []kv.Range{{Part: "p/ann"}, {Part: "p/bob"}, {Part: "i/1f", To: "x"}}, 100) {
					if err != nil {
						return err
					}
				}
				return nil
			}, 1},
			{"Commit", func() error { _, err := e.Commit(ctx, batch); return err }, 1},
			{"Commit without writes", func() error { _, err := e.Commit(ctx, kv.Batch{Expect: batch.Expect}); return err }, 1},
			{"Commit of records", func() error { _, err := e.Commit(ctx, kv.Batch{Append: batch.Append}); return err }, 1},
		}
		if byPartition {
			calls[3].want = 2 // preconditions are read under the lock, and then it writes
		}
		for _, c := range calls {
			for first := range 2 { // the first time, a connection may be made
				sent.Take()
				if err := c.call(); err != nil {
					t.Fatalf("%s: %v", c.name, err)
				}
				trips := sent.Take()
				if first == 0 {
					continue
				}
				if len(trips) != c.want {
					t.Errorf("%s, by partition %v: %d round trips, want %d: %v", c.name, byPartition, len(trips), c.want, trips)
				}
				for _, trip := range trips {
					for _, s := range trip {
						if byPartition && strings.Contains(s.SQL, "entry") && s.SQL != putSQL && !strings.Contains(s.SQL, "part = $1") {
							t.Errorf("%s: a statement does not name its partition: %s", c.name, s.SQL)
						}
					}
				}
			}
		}
	}
}

func TestSnapshotThatLiesTooLongIsEnded(t *testing.T) {
	ctx := context.Background()
	e := open(t, Options{URL: pgtest.URL(t), SnapshotIdle: 50 * time.Millisecond})
	defer func() { _ = e.Close() }()
	s, err := e.Snapshot(ctx)
	if err != nil {
		t.Fatal(err)
	}
	// Wait until the server says that nobody has a transaction open any more.
	for range 500 {
		var open int
		if err := e.short.QueryRow(ctx, "select count(*) from pg_stat_activity where state = 'idle in transaction' and datname = current_database()").Scan(&open); err != nil {
			t.Fatal(err)
		}
		if open == 0 {
			break
		}
		if _, err := e.short.Exec(ctx, "select pg_sleep(0.02)"); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := s.Get(ctx, kv.Key{Part: "p", Key: "k"}); err == nil || !strings.Contains(err.Error(), "untouched for too long") {
		t.Errorf("reading it: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	again, err := e.Snapshot(ctx)
	if err != nil {
		t.Fatalf("a new one: %v", err)
	}
	_ = again.Close()
}

func TestKeysTooLongForTheIndexAreRefused(t *testing.T) {
	ctx := context.Background()
	e := open(t, Options{URL: pgtest.URL(t)})
	defer func() { _ = e.Close() }()
	noise := make([]byte, maxKey) // that does not compress
	for i := range noise {
		noise[i] = byte(i*i*31>>3 + i*7)
	}
	fits := kv.Key{Part: kv.Part(noise[:1000]), Key: string(noise[1000:])}
	if _, err := e.Commit(ctx, kv.Batch{Put: []kv.Entry{{Key: fits, Value: []byte("v")}}}); err != nil {
		t.Errorf("a key of %d bytes: %v", maxKey, err)
	}
	if v, ok, err := e.Get(ctx, fits); err != nil || !ok || string(v) != "v" {
		t.Errorf("a key of %d bytes: %q, %v, %v", maxKey, v, ok, err)
	}
	long := kv.Key{Part: fits.Part, Key: fits.Key + "x"}
	if _, err := e.Commit(ctx, kv.Batch{Put: []kv.Entry{{Key: long}}}); err == nil || !strings.Contains(err.Error(), "too long") {
		t.Errorf("a longer one: %v", err)
	}
	if _, ok, err := e.Get(ctx, long); ok || err != nil {
		t.Errorf("reading a longer one: %v, %v", ok, err)
	}
	if got, err := e.MultiGet(ctx, []kv.Key{long, fits}); err != nil || got[0] != nil || got[1] == nil {
		t.Errorf("reading a longer one among others: %v", err)
	}
}

// A rotten key, which is lower in its row than in the index, ends a scan with an error: going on from it would read the same page for ever.
func TestARowOutOfItsOrderEndsAScan(t *testing.T) {
	row := func(key string) kv.Entry { return kv.Entry{Key: kv.Key{Part: "p", Key: key}, Value: []byte("v")} }
	c := &cursor{spans: []span{{Range: kv.Range{Part: "p", From: "m"}}}, limit: -1}
	if got, end := c.take([][]kv.Entry{{row("n"), row("o")}}, []bool{true}); len(got) != 2 || end || c.damage != nil {
		t.Fatalf("rows in order: %d, %v, %v", len(got), end, c.damage)
	}
	if got, end := c.take([][]kv.Entry{{row("p"), row("!")}}, []bool{true}); len(got) != 2 || !end || c.damage == nil || !strings.Contains(c.damage.Error(), "out of its order") {
		t.Errorf("rows out of order: %d, %v, %v", len(got), end, c.damage)
	}
}
