package pebble

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tombolo/kv"
	"tombolo/kv/kvtest"
)

func open(t testing.TB, dir string) *Engine {
	t.Helper()
	e, err := Open(Options{Dir: dir, CacheBytes: 8 << 20, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestEngine(t *testing.T) {
	kvtest.Run(t, func(t *testing.T, dir string) kv.Engine { return open(t, dir) })
}

func TestOpenSaysWhyNot(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	e := open(t, dir)
	wantError := func(what string, o Options, words ...string) {
		t.Helper()
		o.Log = slog.New(slog.DiscardHandler)
		got, err := Open(o)
		if err == nil {
			_ = got.Close()
			t.Errorf("%s: opened", what)
			return
		}
		for _, w := range words {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%s: %q does not say %q", what, err, w)
			}
		}
	}
	wantError("open twice", Options{Dir: dir}, dir, "another process has it open")
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	wantError("no directory", Options{}, "no directory")
	wantError("read-only, not there", Options{Dir: filepath.Join(dir, "nothing"), ReadOnly: true}, "read-only")

	manifests, err := filepath.Glob(filepath.Join(dir, "MANIFEST-*"))
	if err != nil || len(manifests) == 0 {
		t.Fatalf("no manifest: %v", err)
	}
	for _, m := range manifests {
		data, err := os.ReadFile(m)
		if err != nil {
			t.Fatal(err)
		}
		for i := range data {
			data[i] ^= 0x5a
		}
		if err := os.WriteFile(m, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	wantError("a damaged manifest", Options{Dir: dir}, dir, "restore the newest backup")
	for _, m := range manifests {
		if err := os.Remove(m); err != nil {
			t.Fatal(err)
		}
	}
	wantError("a missing manifest", Options{Dir: dir}, dir, "restore the newest backup")
}

func TestReadOnly(t *testing.T) {
	ctx, dir := context.Background(), filepath.Join(t.TempDir(), "store")
	e := open(t, dir)
	k := kv.Key{Part: "p", Key: "k"}
	if _, err := e.Commit(ctx, kv.Batch{Put: []kv.Entry{{Key: k, Value: []byte("v")}}}); err != nil {
		t.Fatal(err)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	r, err := Open(Options{Dir: dir, ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	if v, ok, err := r.Get(ctx, k); err != nil || !ok || string(v) != "v" {
		t.Errorf("Get = %q, %v, %v", v, ok, err)
	}
	if _, err := r.Commit(ctx, kv.Batch{Delete: []kv.Key{k}}); err == nil || !strings.Contains(err.Error(), "read-only") {
		t.Errorf("Commit to a read-only store: %v", err)
	}
}

// A copy of the files at any moment is what a killed process or a power cut leaves: every commit that was acknowledged before the
// copy was made must be in it. (Copying while commits go on tears the last file, as a crash does.)
func TestAcknowledgedSurvivesACrash(t *testing.T) {
	ctx, root := context.Background(), t.TempDir()
	dir := filepath.Join(root, "store")
	e := open(t, dir)
	defer func() { _ = e.Close() }()
	acked := 0
	for round := range 5 {
		for range 20 {
			acked++
			if _, err := e.Commit(ctx, kv.Batch{
				Put:    []kv.Entry{{Key: kv.Key{Part: "p", Key: fmt.Sprintf("%06d", acked)}, Value: bytes.Repeat([]byte{'x'}, 700)}},
				Append: [][]byte{fmt.Append(nil, acked)},
			}); err != nil {
				t.Fatal(err)
			}
		}
		crashed := filepath.Join(root, fmt.Sprint("crashed", round))
		if err := os.CopyFS(crashed, os.DirFS(dir)); err != nil {
			t.Fatal(err)
		}
		c := open(t, crashed)
		tail, err := c.Tail(ctx)
		if err != nil || tail != kv.Position(acked) {
			t.Errorf("round %d: log ends at %d, %v; %d were acknowledged", round, tail, err, acked)
		}
		n := 0
		for _, err := range c.Scan(ctx, []kv.Range{{Part: "p"}}, 0) {
			if err != nil {
				t.Fatal(err)
			}
			n++
		}
		if n != acked {
			t.Errorf("round %d: %d values, %d were acknowledged", round, n, acked)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
}

// A byte that rots on disk must never come back as content.
func TestBitRotIsNoticed(t *testing.T) {
	ctx, root := context.Background(), t.TempDir()
	dir := filepath.Join(root, "store")
	e := open(t, dir)
	want := map[string][]byte{}
	var b kv.Batch
	for i := range 200 {
		k := fmt.Sprintf("%06d", i)
		want[k] = bytes.Repeat(fmt.Append(nil, "dose ", i, " mg; "), 20)
		b.Put = append(b.Put, kv.Entry{Key: kv.Key{Part: "p", Key: k}, Value: want[k]})
	}
	want["document"] = bytes.Repeat([]byte("a long letter; "), largeValue/15+1)
	b.Put = append(b.Put, kv.Entry{Key: kv.Key{Part: "p", Key: "document"}, Value: want["document"]})
	if _, err := e.Commit(ctx, b); err != nil {
		t.Fatal(err)
	}
	if err := e.db.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	for _, kind := range []string{"*.sst", "*.blob"} {
		t.Run(kind, func(t *testing.T) { bitRot(t, dir, kind, want) })
	}
}

func bitRot(t *testing.T, dir, kind string, want map[string][]byte) {
	ctx := t.Context()
	files, err := filepath.Glob(filepath.Join(dir, kind))
	if err != nil || len(files) == 0 {
		t.Fatalf("no such file: %v", err)
	}
	file := files[0]
	clean, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = os.WriteFile(file, clean, 0o600) }()
	noticed := 0
	for round := range 24 {
		rotten := bytes.Clone(clean)
		rotten[(round*7919+13)%len(rotten)] ^= 1 << (round % 8)
		if err := os.WriteFile(file, rotten, 0o600); err != nil {
			t.Fatal(err)
		}
		// Whoever is told reads which file it is, and what to do.
		worded := func(err error) {
			t.Helper()
			if text := err.Error(); strings.Contains(text, "carrier") || !strings.Contains(text, strings.TrimSuffix(filepath.Base(file), ".blob")) || !strings.Contains(text, "restore") {
				t.Errorf("round %d: this is what an operator would read: %q", round, text)
			}
		}
		e, err := Open(Options{Dir: dir, ReadOnly: true, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			noticed++
			worded(err)
			continue
		}
		for en, err := range e.Scan(ctx, []kv.Range{{Part: "p"}}, 0) {
			if err != nil {
				noticed++
				worded(err)
				break
			}
			if !bytes.Equal(en.Value, want[en.Key.Key]) {
				t.Errorf("round %d: wrong content was read as if it were right", round)
			}
		}
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	}
	if noticed == 0 {
		t.Error("no flipped bit was noticed: was the right file damaged?")
	}
}

func TestNearlyFullDiskRefusesCommits(t *testing.T) {
	ctx := context.Background()
	e, err := Open(Options{Dir: filepath.Join(t.TempDir(), "store"), Reserve: 1 << 62})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = e.Close() }()
	put := kv.Batch{Put: []kv.Entry{{Key: kv.Key{Part: "p", Key: "k"}}}}
	if _, err := e.Commit(ctx, put); err == nil || !strings.Contains(err.Error(), "make room") {
		t.Errorf("commit on a full disk: %v", err)
	}
	if _, _, err := e.Get(ctx, put.Put[0].Key); err != nil {
		t.Errorf("reading on a full disk: %v", err)
	}
	e.space.mu.Lock() // somebody made room
	e.space.reserve, e.space.err = 1, nil
	e.space.mu.Unlock()
	if _, err := e.Commit(ctx, put); err != nil {
		t.Errorf("commit after room was made: %v", err)
	}
}

func TestForeignDatabaseIsRefused(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	e := open(t, dir)
	if err := e.db.Set(formatKey, []byte("something newer"), nil); err != nil {
		t.Fatal(err)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(Options{Dir: dir}); err == nil || !strings.Contains(err.Error(), "format") {
		t.Errorf("a store of another format: %v", err)
	}
}

// A document's megabytes stand outside the tables, and are read, copied, written over and let go of like any value.
func TestALargeValueStandsOutsideTheTables(t *testing.T) {
	ctx, root := t.Context(), t.TempDir()
	dir := filepath.Join(root, "store")
	e := open(t, dir)
	defer func() { _ = e.Close() }()
	key := func(n int) kv.Key { return kv.Key{Part: "p", Key: fmt.Sprintf("%06d", n)} }
	value := func(n, round int) []byte {
		size := 100
		if n%3 == 1 {
			size = 2 * largeValue
		}
		return bytes.Repeat(fmt.Appendf(nil, "%4d %4d;", n, round), size/10)
	}
	outside := func() (n int) {
		files, err := filepath.Glob(filepath.Join(dir, "*.blob"))
		if err != nil {
			t.Fatal(err)
		}
		return len(files)
	}
	const all = 9
	write := func(round int) {
		t.Helper()
		var b kv.Batch
		for n := range all {
			b.Put = append(b.Put, kv.Entry{Key: key(n), Value: value(n, round)})
		}
		if _, err := e.Commit(ctx, b); err != nil {
			t.Fatal(err)
		}
		if err := e.db.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	read := func(e *Engine, round int) {
		t.Helper()
		var keys []kv.Key
		for n := range all {
			keys = append(keys, key(n))
			if v, ok, err := e.Get(ctx, key(n)); err != nil || !ok || !bytes.Equal(v, value(n, round)) {
				t.Errorf("Get %d: %d bytes, %v, %v", n, len(v), ok, err)
			}
		}
		some, err := e.MultiGet(ctx, keys)
		if err != nil {
			t.Fatal(err)
		}
		at := 0
		for en, err := range e.Scan(ctx, []kv.Range{{Part: "p"}}, 0) {
			if err != nil {
				t.Fatal(err)
			}
			if en.Key != keys[at] || !bytes.Equal(en.Value, value(at, round)) || !bytes.Equal(some[at], en.Value) {
				t.Errorf("Scan and MultiGet %d: %d and %d bytes", at, len(en.Value), len(some[at]))
			}
			at++
		}
		if at != all {
			t.Errorf("Scan gave %d of %d", at, all)
		}
	}
	write(1)
	if outside() == 0 {
		t.Fatal("no value stands outside the tables")
	}
	read(e, 1)
	was := kv.Precondition{Key: key(1), Value: value(1, 2)}
	if _, err := e.Commit(ctx, kv.Batch{Expect: []kv.Precondition{was}, Delete: []kv.Key{key(1)}}); !errors.Is(err, kv.ErrConflict) {
		t.Errorf("a commit that expected another large value gave %v", err)
	}
	write(2)
	read(e, 2)
	copied := filepath.Join(root, "copy")
	if err := e.Checkpoint(ctx, copied); err != nil {
		t.Fatal(err)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	e = open(t, dir)
	read(e, 2)
	c := open(t, copied)
	read(c, 2)
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	var b kv.Batch
	for n := range all {
		b.Delete = append(b.Delete, key(n))
	}
	if _, err := e.Commit(ctx, b); err != nil {
		t.Fatal(err)
	}
	if err := e.db.Compact(ctx, []byte{tagData}, logEnd, true); err != nil {
		t.Fatal(err)
	}
	for until := time.Now().Add(10 * time.Second); outside() > 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(until) {
			t.Fatalf("%d files are left of values that were deleted", outside())
		}
	}
}
