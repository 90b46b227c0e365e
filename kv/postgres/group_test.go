package postgres

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"tombolo/kv"
	"tombolo/kv/postgres/pgtest"
)

// stemOfTests groups the keys of partition x by what stands before their first "!", up to and with it.
func stemOfTests(k kv.Key) int {
	if k.Part != "x" && k.Part != "y" {
		return -1
	}
	return strings.IndexByte(k.Key, '!') + 1
}

// rowsOf are the rows of a partition, and how many keys each stands for by the count of its ends.
func rowsOf(t testing.TB, e *Engine, part kv.Part) map[string][]byte {
	t.Helper()
	out := map[string][]byte{}
	rows, err := e.short.Query(t.Context(), "select key, value from entry where part = $1", []byte(part))
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var k, v []byte
		if err := rows.Scan(&k, &v); err != nil {
			t.Fatal(err)
		}
		out[string(k)] = v
	}
	return out
}

// Whatever is put, deleted, looked for and scanned, with which limits and bounds, beside keys of before there were groups: keys in groups are keys.
func TestKeysInGroupsAreKeys(t *testing.T) {
	for _, far := range []bool{false, true} {
		t.Run(fmt.Sprint("by partition ", far), func(t *testing.T) { groupsModel(t, far) })
	}
}

func groupsModel(t *testing.T, far bool) {
	ctx := context.Background()
	url := pgtest.URL(t)
	e := open(t, Options{URL: url})
	defer func() { _ = e.Close() }()
	rests := []string{"a", "ab", "b", "\x00\x20", "\x01", "\x01\x01", "\x01\x02", "\x00\xff", "\xff", "\xff\xff", "é!"}
	genKey := rapid.Custom(func(r *rapid.T) kv.Key {
		k := kv.Key{Part: rapid.SampledFrom([]kv.Part{"x", "y", "p"}).Draw(r, "part"), Key: rapid.SampledFrom([]string{"", "1!", "1\x00!", "2!", "\xff!"}).Draw(r, "stem")}
		if k.Key != "" {
			k.Key += rapid.SampledFrom(rests).Draw(r, "rest")
		} else {
			k.Key = rapid.SampledFrom([]string{"", "1", "12", "2", "\xff"}).Draw(r, "key")
		}
		return k
	})
	genBound := rapid.Custom(func(r *rapid.T) string {
		return genKey.Draw(r, "bound").Key + rapid.SampledFrom([]string{"", "\x00", "\x00\x30"}).Draw(r, "behind")
	})
	rapid.Check(t, func(r *rapid.T) {
		if _, err := e.short.Exec(ctx, "delete from entry"); err != nil {
			t.Fatal(err)
		}
		e.stem, e.opts.ByPartition = stemOfTests, far
		data := map[kv.Key]string{}
		r.Repeat(map[string]func(*rapid.T){
			"commit": func(r *rapid.T) {
				e.opts.ByPartition = far || rapid.IntRange(0, 3).Draw(r, "as before there were groups") == 0
				defer func() { e.opts.ByPartition = far }()
				var b kv.Batch
				if k := genKey.Draw(r, "expected"); rapid.Bool().Draw(r, "with a precondition") {
					v, there := data[k]
					b.Expect = []kv.Precondition{{Key: k, Value: []byte(v), Absent: !there}}
				}
				used := map[kv.Key]bool{}
				for range rapid.IntRange(0, 6).Draw(r, "writes") {
					k := genKey.Draw(r, "key")
					switch {
					case used[k]:
					case rapid.IntRange(0, 2).Draw(r, "delete") == 0:
						b.Delete = append(b.Delete, k)
						delete(data, k)
					case stemOfTests(k) > 0:
						b.Put = append(b.Put, kv.Entry{Key: k})
						data[k] = ""
					default:
						v := rapid.SampledFrom([]string{"", "value"}).Draw(r, "value")
						if k.Part != "p" {
							v = ""
						}
						b.Put = append(b.Put, kv.Entry{Key: k, Value: []byte(v)})
						data[k] = v
					}
					used[k] = true
				}
				if _, err := e.Commit(ctx, b); err != nil {
					t.Fatal(err)
				}
			},
			"bring together": func(r *rapid.T) {
				if err := e.Group(ctx, func(int64) {}); err != nil {
					t.Fatal(err)
				}
				for k, v := range rowsOf(t, e, "x") {
					if !far && len(v) == 0 && stemOfTests(kv.Key{Part: "x", Key: k}) > 0 {
						r.Fatalf("%q still stands by itself", k)
					}
				}
			},
			"get": func(r *rapid.T) {
				keys := rapid.SliceOfN(genKey, 1, 5).Draw(r, "keys")
				got, err := e.MultiGet(ctx, keys)
				if err != nil {
					t.Fatal(err)
				}
				for i, k := range keys {
					if v, there := data[k]; there != (got[i] != nil) || string(got[i]) != v {
						r.Fatalf("%q is %q (there: %v), want %q (%v)", k, got[i], got[i] != nil, v, there)
					}
				}
			},
			"a wrong precondition": func(r *rapid.T) {
				k := genKey.Draw(r, "key")
				_, there := data[k]
				p := kv.Precondition{Key: k, Absent: there, Value: []byte("not this")}
				if _, err := e.Commit(ctx, kv.Batch{Expect: []kv.Precondition{p}, Append: [][]byte{{1}}}); err != kv.ErrConflict {
					r.Fatalf("expecting %q otherwise than it is: %v", k, err)
				}
			},
			"scan": func(r *rapid.T) {
				var ranges []kv.Range
				for range rapid.SampledFrom([]int{1, 1, 2, 7}).Draw(r, "ranges") {
					rg := kv.Range{Part: rapid.SampledFrom([]kv.Part{"x", "y", "p"}).Draw(r, "part"), From: genBound.Draw(r, "from")}
					if rapid.Bool().Draw(r, "closed") {
						rg.To = genBound.Draw(r, "to")
					}
					ranges = append(ranges, rg)
				}
				limit := rapid.IntRange(0, 9).Draw(r, "limit")
				var want, got []kv.Key
				for _, rg := range ranges {
					for _, k := range inOrder(data) {
						if k.Part == rg.Part && k.Key >= rg.From && (rg.To == "" || k.Key < rg.To) {
							want = append(want, k)
						}
					}
				}
				if limit > 0 && len(want) > limit {
					want = want[:limit]
				}
				for en, err := range e.Scan(ctx, ranges, limit) {
					if err != nil {
						t.Fatal(err)
					}
					if got = append(got, en.Key); string(en.Value) != data[en.Key] || en.Value == nil {
						r.Fatalf("%q is %q", en.Key, en.Value)
					}
				}
				if !slices.Equal(got, want) {
					r.Fatalf("%q with limit %d:\n got %q\nwant %q", ranges, limit, got, want)
				}
			},
		})
	})
}

// A group of many keys, added to one by one and many at a time, fills row after row; page after page of it is read in order; and nothing is left when all are deleted.
func TestALargeGroupFillsRows(t *testing.T) {
	ctx := context.Background()
	e := open(t, Options{URL: pgtest.URL(t)})
	defer func() { _ = e.Close() }()
	e.GroupBy(stemOfTests)
	key := func(i int) kv.Key { return kv.Key{Part: "x", Key: fmt.Sprintf("active!%020d", i*7919%100_000)} }
	want := map[kv.Key]bool{}
	for i := 0; i < 20_000; {
		var b kv.Batch
		for range min(1+i%1500, 20_000-i) {
			b.Put = append(b.Put, kv.Entry{Key: key(i)})
			want[key(i)] = true
			i++
		}
		if _, err := e.Commit(ctx, b); err != nil {
			t.Fatal(err)
		}
	}
	rows := rowsOf(t, e, "x")
	size := 0
	for k, v := range rows {
		size += len(k) + len(v)
	}
	if len(rows) > 20_000/30 || size > 25*20_000 {
		t.Errorf("20,000 keys of 20 bytes and what they have in common take %d rows and %d bytes of keys and values", len(rows), size)
	}
	whole := kv.Range{Part: "x"}
	var got []kv.Key
	for en, err := range e.Scan(ctx, []kv.Range{whole}, 0) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, en.Key)
	}
	all := inOrder(want)
	if !slices.Equal(got, all) {
		t.Fatalf("%d keys came back, want %d, in order", len(got), len(all))
	}
	got = nil
	for from := ""; ; {
		n := 0
		for en, err := range e.Scan(ctx, []kv.Range{{Part: "x", From: from}}, 777) {
			if err != nil {
				t.Fatal(err)
			}
			got, from = append(got, en.Key), en.Key.Key+"\x00"
			n++
		}
		if n == 0 {
			break
		}
	}
	if !slices.Equal(got, all) {
		t.Fatalf("%d keys came back by pages, want %d, in order", len(got), len(all))
	}
	for some := range slices.Chunk(slices.Collect(maps.Keys(want)), 1999) {
		if _, err := e.Commit(ctx, kv.Batch{Delete: some}); err != nil {
			t.Fatal(err)
		}
	}
	if rows := rowsOf(t, e, "x"); len(rows) > 0 {
		t.Errorf("%d rows are left of what was deleted", len(rows))
	}
}

// Keys that share rows are keys without values.
func TestAKeyInAGroupHasNoValue(t *testing.T) {
	e := open(t, Options{URL: pgtest.URL(t)})
	defer func() { _ = e.Close() }()
	e.GroupBy(stemOfTests)
	k := kv.Key{Part: "x", Key: "1!a"}
	for name, b := range map[string]kv.Batch{"a value": {Put: []kv.Entry{{Key: k, Value: []byte("v")}}}, "a counter": {Add: []kv.Sum{{Key: k, By: 1}}}} {
		if _, err := e.Commit(t.Context(), b); err == nil || !strings.Contains(err.Error(), "belongs to a group") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
