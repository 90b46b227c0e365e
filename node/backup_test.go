package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"tombolo/fhir"
	"tombolo/kv/postgres/pgtest"
	"tombolo/store"
)

// places are where a store is kept, and where others of its kind can be: on each engine.
func places(t *testing.T) map[string]func(name string) Config {
	root := t.TempDir()
	at := map[string]func(string) Config{"embedded": func(name string) Config { return Config{Data: filepath.Join(root, name)} }}
	t.Run("postgres is there", func(t *testing.T) { pgtest.Need(t) })
	if _, err := pgtest.Shared(); err == nil {
		url := pgtest.URL(t)
		at["on postgres"] = func(name string) Config {
			return Config{Data: filepath.Join(root, "files of "+name), Store: url + "&search_path=" + name}
		}
	}
	return at
}

// A backup that is made while others write is one moment of the store: of each writer it holds a beginning, all that was acknowledged before it was asked for among it,
// and what is restored of it is whole.
func TestABackupMadeUnderWritesIsOneMoment(t *testing.T) {
	ctx := context.Background()
	for engine, at := range places(t) {
		t.Run(engine, func(t *testing.T) {
			c := at("first")
			if err := c.check(); err != nil {
				t.Fatal(err)
			}
			key := filepath.Join(c.Data, "keys", "a.key")
			if err := errors.Join(os.MkdirAll(filepath.Dir(key), 0o700), os.WriteFile(key, []byte("secret"), 0o600)); err != nil {
				t.Fatal(err)
			}
			db, err := OpenStore(ctx, c)
			if err != nil {
				t.Fatal(err)
			}
			const writers = 3
			var acked [writers]int
			var mu sync.Mutex
			some := make(chan struct{}, 1<<16)
			running, stop := context.WithCancel(ctx)
			var all sync.WaitGroup
			for w := range writers {
				all.Go(func() {
					for i := 0; running.Err() == nil; i++ {
						// Of two records each, in two partitions: both or neither.
						if _, err := db.Update(ctx, func(tx store.Tx) error {
							for half := range 2 {
								r := fhir.New("Observation", fmt.Sprintf("w%d-%d-%d", w, i, half), fhir.M{"status": "final"})
								if _, err := tx.Put(ctx, store.Home{Source: "s", Patient: fmt.Sprintf("p%d-%d", w, half)}, r); err != nil {
									return err
								}
							}
							return nil
						}); err != nil {
							t.Error(err)
							return
						}
						mu.Lock()
						acked[w] = i + 1
						mu.Unlock()
						select {
						case some <- struct{}{}:
						default:
						}
					}
				})
			}
			for range 100 {
				<-some
			}
			mu.Lock()
			before := acked
			mu.Unlock()
			dir := filepath.Join(t.TempDir(), "backup")
			k, err := maintain(ctx, c, db, Upkeep{Do: "backup", Dir: dir}, func(store.Progress) {})
			stop()
			all.Wait()
			if err != nil || !k.OK {
				t.Fatalf("backup: %v, %s", err, k.Text)
			}
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}

			second := at("second")
			if k, err = Maintain(ctx, second, Upkeep{Do: "restore", Dir: dir}, func(store.Progress) {}); err != nil || !k.OK {
				t.Fatalf("restore: %v, %s", err, k.Text)
			}
			if text, err := os.ReadFile(filepath.Join(second.Data, "keys", "a.key")); err != nil || string(text) != "secret" {
				t.Errorf("the keys that lay beside the store: %q, %v", text, err)
			}
			if db, err = OpenStore(ctx, second); err != nil {
				t.Fatal(err)
			}
			defer func() { _ = db.Close() }()
			for w := range writers {
				there := func(i, half int) bool {
					_, err := db.Read(ctx, fhir.MakeRef("Observation", fmt.Sprintf("w%d-%d-%d", w, i, half)))
					if err != nil && !fhir.Is(err, fhir.NotFound) {
						t.Fatal(err)
					}
					return err == nil
				}
				n := 0
				for there(n, 0) && there(n, 1) {
					n++
				}
				if n < before[w] || n > acked[w] {
					t.Errorf("of writer %d's %d transactions, %d of them before the backup, the first %d are there", w, acked[w], before[w], n)
				}
				for i := n; i < acked[w]; i++ {
					if there(i, 0) || there(i, 1) {
						t.Fatalf("of writer %d transaction %d is missing, in part or whole, and %d is there: that is no one moment", w, n, i)
					}
				}
			}
		})
	}
}

// What is no whole backup of such a store is refused, and leaves nothing behind that is taken for a store.
func TestARestoreRefusesWhatIsNoBackupOfItsKind(t *testing.T) {
	ctx, quiet := context.Background(), func(store.Progress) {}
	at := places(t)
	backups := map[string]string{}
	for engine, at := range at {
		c := at("store")
		db, err := OpenStore(ctx, c)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := db.Update(ctx, func(tx store.Tx) error {
			for i := range 50 {
				if _, err := tx.Put(ctx, store.Home{Source: "s", Patient: "ann"}, fhir.New("Observation", fmt.Sprint("o", i), fhir.M{"status": "final"})); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		backups[engine] = filepath.Join(t.TempDir(), "backup")
		if k, err := maintain(ctx, c, db, Upkeep{Do: "backup", Dir: backups[engine]}, quiet); err != nil || !k.OK {
			t.Fatalf("backup %s: %v, %s", engine, err, k.Text)
		}
		// One that is cut short has no manifest, whenever that is.
		short := filepath.Join(t.TempDir(), "short")
		cut, stop := context.WithCancel(ctx)
		if _, err := maintain(cut, c, db, Upkeep{Do: "backup", Dir: short}, func(p store.Progress) {
			if p.Doing != "copying" {
				stop()
			}
		}); err == nil {
			t.Errorf("%s: a backup that was cut short says that it is one", engine)
		}
		stop()
		if _, err := Maintain(ctx, at("from short"), Upkeep{Do: "restore", Dir: short}, quiet); err == nil || !strings.Contains(err.Error(), "no complete backup") {
			t.Errorf("%s: restored from a backup that was cut short: %v", engine, err)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := Maintain(ctx, c, Upkeep{Do: "restore", Dir: backups[engine]}, quiet); err == nil || !strings.Contains(err.Error(), "a store already") {
			t.Errorf("%s: restored over a store: %v", engine, err)
		}
	}
	for from, dir := range backups {
		for to, at := range at {
			c := at("other")
			_, err := Maintain(ctx, c, Upkeep{Do: "restore", Dir: dir}, quiet)
			if from == to && err != nil {
				t.Errorf("restore %s: %v", to, err)
			} else if from != to && (err == nil || !strings.Contains(err.Error(), "a store that is "+from)) {
				t.Errorf("a backup of a store that is %s was restored into one that is %s: %v", from, to, err)
			}
		}
	}
	// A file that is missing, or longer than it was, of either.
	for engine, dir := range backups {
		m, err := readManifest(dir)
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for path := range m.Files {
			if n++; n > 3 {
				break
			}
			full := filepath.Join(dir, filepath.FromSlash(path))
			good, err := os.ReadFile(full)
			if err != nil {
				t.Fatal(err)
			}
			for what, spoil := range map[string]func() error{"missing": func() error { return os.Remove(full) }, "longer": func() error { return appendTo(full, "x") }} {
				if err := spoil(); err != nil {
					t.Fatal(err)
				}
				c := at[engine]("spoilt")
				if _, err := Maintain(ctx, c, Upkeep{Do: "restore", Dir: dir}, quiet); err == nil || !strings.Contains(err.Error(), "not what the backup wrote") {
					t.Errorf("%s: restored with %s %s: %v", engine, path, what, err)
				}
				if _, err := os.Stat(filepath.Join(c.Data, "store")); err == nil {
					t.Errorf("%s: a refused restore left a store", engine)
				}
				if err := os.WriteFile(full, good, 0o600); err != nil {
					t.Fatal(err)
				}
			}
		}
		if k, err := Maintain(ctx, at[engine]("spoilt"), Upkeep{Do: "restore", Dir: dir}, quiet); err != nil || !k.OK {
			t.Errorf("%s: restored after refusals: %v, %s", engine, err, k.Text)
		}
	}
}

func appendTo(path, text string) error {
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = io.WriteString(f, text)
	return errors.Join(err, f.Close())
}

// Where nothing is known against a folder's disk, a node starts there; a database is not asked about folders.
func TestDurableLooksAtTheEmbeddedStoreOnly(t *testing.T) {
	for _, c := range []Config{{Data: t.TempDir()}, {Data: "/dev/shm/x", Store: "postgres://db/x"}} {
		c.Logger = slog.New(slog.DiscardHandler)
		if err := Durable(c); err != nil {
			t.Error(err)
		}
	}
}
