package kvtest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"tombolo/kv"
)

// model runs random commits, reads and reopenings against the engine and against a plain map, and compares.
func model(t *testing.T, open Open) {
	root, n := t.TempDir(), 0
	rapid.Check(t, func(r *rapid.T) {
		n++
		m := &machine{
			t: t, ctx: context.Background(), open: open, dir: filepath.Join(root, fmt.Sprint("run", n)),
			data: map[kv.Key]string{},
		}
		m.e = open(t, m.dir)
		defer func() {
			_ = m.e.Close()
			_ = os.RemoveAll(m.dir)
		}()
		r.Repeat(map[string]func(*rapid.T){
			"commit": m.commit,
			"look":   m.look,
			"get":    m.get,
			"scan":   m.scan,
			"log":    m.readLog,
			"reopen": m.reopen,
		})
	})
}

type machine struct {
	t    *testing.T
	ctx  context.Context
	open Open
	dir  string
	e    kv.Engine
	data map[kv.Key]string
	log  []string

	since kv.Moment // of an engine that tells
	then  map[kv.Key]string
}

// look remembers a moment, and what stood then, for a commit that says since when it has looked.
func (m *machine) look(*rapid.T) {
	if timer, ok := m.e.(kv.Timer); ok {
		m.since, m.then = timer.Moment(), maps.Clone(m.data)
	}
}

// Few and awkward partitions and keys, so that they meet often.
var (
	genPart = rapid.SampledFrom([]kv.Part{"p", "p/1", "q", ""})
	genName = rapid.SampledFrom([]string{"", "a", "a\x00", "ab", "b", "\xff", "\xff\xff", "é"})
	// Counters have names of their own: nothing else is put there.
	genCounter = rapid.SampledFrom([]string{"a counter", "counters"})
	genValue   = rapid.SampledFrom([]string{"", "1", "2", "a longer value \x00\xff"})
	genKey     = rapid.Custom(func(t *rapid.T) kv.Key { return kv.Key{Part: genPart.Draw(t, "part"), Key: genName.Draw(t, "key")} })
)

func (m *machine) commit(t *rapid.T) {
	b := kv.Batch{Lazy: rapid.Bool().Draw(t, "lazy")}
	if m.since != 0 && rapid.Bool().Draw(t, "since") {
		b.Since = m.since
	}
	holds := true
	for range rapid.IntRange(0, 3).Draw(t, "preconditions") {
		p := kv.Precondition{Key: genKey.Draw(t, "key")}
		have, there := m.data[p.Key]
		if b.Since != 0 { // what was read then
			was, stood := m.then[p.Key]
			p.Absent, p.Value = !stood, []byte(was)
		} else if rapid.Bool().Draw(t, "true") { // mostly one that holds, else whatever comes
			p.Absent, p.Value = !there, []byte(have)
		} else if p.Absent = rapid.Bool().Draw(t, "absent"); !p.Absent {
			p.Value = []byte(genValue.Draw(t, "value"))
		}
		if p.Absent == there || there && string(p.Value) != have {
			holds = false
		}
		b.Expect = append(b.Expect, p)
	}
	used := map[kv.Key]bool{}
	for range rapid.IntRange(0, 5).Draw(t, "writes") {
		k := genKey.Draw(t, "key")
		if used[k] { // the contract gives no meaning to one key twice in a batch
			continue
		}
		used[k] = true
		if rapid.Bool().Draw(t, "put") {
			b.Put = append(b.Put, kv.Entry{Key: k, Value: []byte(genValue.Draw(t, "value"))})
		} else {
			b.Delete = append(b.Delete, k)
		}
	}
	for range rapid.IntRange(0, 3).Draw(t, "records") {
		b.Append = append(b.Append, []byte(genValue.Draw(t, "record")))
	}
	for range rapid.IntRange(0, 3).Draw(t, "sums") {
		b.Add = append(b.Add, kv.Sum{Key: kv.Key{Part: genPart.Draw(t, "part"), Key: genCounter.Draw(t, "counter")}, By: rapid.Int64Range(-3, 1<<40).Draw(t, "by")})
	}
	at, err := m.e.Commit(m.ctx, b)
	if !holds {
		if !errors.Is(err, kv.ErrConflict) {
			t.Fatalf("Commit with a precondition that does not hold: %v", err)
		}
		return
	}
	if err != nil {
		t.Fatalf("Commit: %v", err)
	}
	for _, p := range b.Put {
		m.data[p.Key] = string(p.Value)
	}
	for _, k := range b.Delete {
		delete(m.data, k)
	}
	for _, s := range b.Add {
		m.data[s.Key] = string(kv.CounterValue(kv.CounterOf([]byte(m.data[s.Key])) + s.By))
	}
	for _, r := range b.Append {
		m.log = append(m.log, string(r))
	}
	if at != kv.Position(len(m.log)) {
		t.Fatalf("Commit gave position %d, want %d", at, len(m.log))
	}
}

func (m *machine) get(t *rapid.T) {
	keys := rapid.SliceOfN(genKey, 0, 6).Draw(t, "keys")
	got, err := m.e.MultiGet(m.ctx, keys)
	if err != nil || len(got) != len(keys) {
		t.Fatalf("MultiGet: %d values, %v", len(got), err)
	}
	for i, k := range keys {
		want, there := m.data[k]
		if (got[i] != nil) != there || string(got[i]) != want {
			t.Fatalf("MultiGet %q = %q, want %q (there: %v)", k, got[i], want, there)
		}
		v, ok, err := m.e.Get(m.ctx, k)
		if err != nil || ok != there || string(v) != want {
			t.Fatalf("Get %q = %q, %v, %v; want %q (there: %v)", k, v, ok, err, want, there)
		}
	}
}

func (m *machine) scan(t *rapid.T) {
	var ranges []kv.Range
	var want []string
	for range rapid.IntRange(0, 8).Draw(t, "ranges") {
		rg := kv.Range{Part: genPart.Draw(t, "part"), From: genName.Draw(t, "from"), To: genName.Draw(t, "to")}
		if rapid.Bool().Draw(t, "prefix") {
			rg = kv.Prefix(rg.Part, rg.From)
		}
		ranges = append(ranges, rg)
		var keys []string
		for k := range m.data {
			if k.Part == rg.Part && k.Key >= rg.From && (rg.To == "" || k.Key < rg.To) {
				keys = append(keys, k.Key)
			}
		}
		slices.Sort(keys)
		for _, k := range keys {
			want = append(want, fmt.Sprintf("%s/%s=%s", rg.Part, k, m.data[kv.Key{Part: rg.Part, Key: k}]))
		}
	}
	limit := rapid.IntRange(0, 6).Draw(t, "limit")
	if limit > 0 && len(want) > limit {
		want = want[:limit]
	}
	if got := scanned(t, m.ctx, m.e, limit, ranges...); !slices.Equal(got, want) {
		t.Fatalf("scan of %q:\n got %q\nwant %q", ranges, got, want)
	}
}

func (m *machine) readLog(t *rapid.T) {
	after := rapid.IntRange(0, len(m.log)).Draw(t, "after")
	_, got := logged(t, m.ctx, m.e, kv.Position(after))
	if !slices.Equal(got, m.log[after:]) {
		t.Fatalf("log after %d: %q, want %q", after, got, m.log[after:])
	}
}

func (m *machine) reopen(t *rapid.T) {
	if rapid.IntRange(0, 9).Draw(t, "seldom") > 0 {
		return
	}
	if err := m.e.Close(); err != nil {
		t.Fatalf("Close: %v", err)
	}
	m.e = m.open(m.t, m.dir)
	m.since, m.then = 0, nil // an engine's moments are its own
}
