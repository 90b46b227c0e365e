package pebble

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"tombolo/kv"
)

// Some seconds after the last of many writes the room of old write-ahead logs is given back, nothing is lost by it, and writing goes on.
func TestAStoreAtRestGivesTheRoomOfOldLogsBack(t *testing.T) {
	dir := t.TempDir()
	ctx := context.Background()
	open := func() *Engine {
		t.Helper()
		e, err := Open(Options{Dir: dir, CacheBytes: 8 << 20}) // so that a log is written anew every 4 MiB
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	e := open()
	r := rand.NewChaCha8([32]byte{1})
	given := 0
	write := func(e *Engine) {
		t.Helper()
		value := make([]byte, 256<<10)
		_, _ = r.Read(value)
		if _, err := e.Commit(ctx, kv.Batch{Put: []kv.Entry{{Key: kv.Key{Part: "p", Key: fmt.Sprintf("%06d", given)}, Value: value}}}); err != nil {
			t.Fatal(err)
		}
		given++
	}
	for range 240 {
		write(e)
	}
	held, _, err := e.room()
	if err != nil || held < spare {
		t.Fatalf("the logs hold %d bytes (%v), too few for this test", held, err)
	}
	for deadline := time.Now().Add(rest + 20*time.Second); ; time.Sleep(100 * time.Millisecond) {
		now, all, err := e.room()
		if err != nil {
			t.Fatal(err)
		}
		if disk, err := e.DiskBytes(ctx); err != nil || disk < all-now {
			t.Fatalf("DiskBytes is %d (%v), and the files take %d", disk, err, all)
		}
		if now <= 8<<20 { // that which is being written has some preallocated
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("at rest the logs hold %d bytes still", now)
		}
	}
	for range 80 { // over the logs that were emptied
		write(e)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	e = open()
	defer func() { _ = e.Close() }()
	n := 0
	for _, err := range e.Scan(ctx, []kv.Range{{Part: "p"}}, 0) {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	if n != given {
		t.Errorf("%d of %d are there", n, given)
	}
}

// A copy of one moment keeps what it was, whatever the store does with its own logs afterwards or meanwhile.
func TestEmptyingLogsLeavesCopiesAlone(t *testing.T) {
	dir, ctx := t.TempDir(), context.Background()
	e, err := Open(Options{Dir: filepath.Join(dir, "store"), CacheBytes: 8 << 20})
	if err != nil {
		t.Fatal(err)
	}
	given := 0
	write := func() {
		t.Helper()
		if _, err := e.Commit(ctx, kv.Batch{Put: []kv.Entry{{Key: kv.Key{Part: "p", Key: fmt.Sprintf("%06d", given)}, Value: make([]byte, 64<<10)}}}); err != nil {
			t.Fatal(err)
		}
		given++
	}
	held := map[string]int{}
	for i := range 20 {
		for range 10 {
			write()
		}
		name := filepath.Join(dir, fmt.Sprintf("copy%d", i))
		held[name] = given
		var both sync.WaitGroup
		both.Go(func() {
			if err := e.Checkpoint(ctx, name); err != nil {
				t.Error(err)
			}
		})
		both.Go(func() {
			if err := e.emptyLogs(); err != nil {
				t.Error(err)
			}
		})
		both.Wait()
		if err := e.emptyLogs(); err != nil {
			t.Fatal(err)
		}
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	held[filepath.Join(dir, "store")] = given
	for name, want := range held {
		c, err := Open(Options{Dir: name, CacheBytes: 8 << 20})
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for _, err := range c.Scan(ctx, []kv.Range{{Part: "p"}}, 0) {
			if err != nil {
				t.Fatal(err)
			}
			n++
		}
		if n != want {
			t.Errorf("%s holds %d of %d", filepath.Base(name), n, want)
		}
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
