package pebble

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tombolo/kv"
)

// A bit that rots in the write-ahead log is noticed, also in the newest record, whether the store was closed or its process killed: what was acknowledged
// does not go without a word.
func TestAFlippedBitInTheWriteAheadLogIsNoticed(t *testing.T) {
	ctx := context.Background()
	for _, how := range []string{"closed", "killed"} {
		t.Run(how, func(t *testing.T) {
			root := t.TempDir()
			dir := filepath.Join(root, "store")
			e := open(t, dir)
			size := func() (name string, n int64) {
				t.Helper()
				logs, err := filepath.Glob(filepath.Join(dir, "*.log"))
				if err != nil || len(logs) == 0 {
					t.Fatalf("no log: %v", err)
				}
				data, err := os.ReadFile(logs[len(logs)-1])
				if err != nil {
					t.Fatal(err)
				}
				return filepath.Base(logs[len(logs)-1]), int64(len(strings.TrimRight(string(data), "\x00")))
			}
			want := 5
			for i := range want {
				if _, err := e.Commit(ctx, kv.Batch{Put: []kv.Entry{{Key: kv.Key{Part: "p", Key: fmt.Sprint(i)}, Value: []byte("acknowledged")}}, Append: [][]byte{{1}}}); err != nil {
					t.Fatal(err)
				}
			}
			log, records := size()
			copied := filepath.Join(root, "copy")
			if how == "killed" {
				e.whenQuiet()
				if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
					t.Fatal(err)
				}
			}
			if err := e.Close(); err != nil {
				t.Fatal(err)
			}
			if how == "closed" {
				if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
					t.Fatal(err)
				}
			}
			refused := 0
			for at := range records {
				broken := filepath.Join(root, "broken")
				if err := os.CopyFS(broken, os.DirFS(copied)); err != nil {
					t.Fatal(err)
				}
				f, err := os.OpenFile(filepath.Join(broken, log), os.O_RDWR, 0)
				if err != nil {
					t.Fatal(err)
				}
				b := make([]byte, 1)
				if _, err := f.ReadAt(b, at); err != nil && err != io.EOF {
					t.Fatal(err)
				}
				b[0] ^= 1 << rand.IntN(8)
				if _, err := f.WriteAt(b, at); err != nil {
					t.Fatal(err)
				}
				if err := f.Close(); err != nil {
					t.Fatal(err)
				}
				e, err := Open(Options{Dir: broken, CacheBytes: 1 << 20, Log: slog.New(slog.DiscardHandler)})
				if err != nil {
					refused++
				} else {
					for i := range want {
						if _, ok, err := e.Get(ctx, kv.Key{Part: "p", Key: fmt.Sprint(i)}); err != nil || !ok {
							t.Errorf("byte %d of %d changed, and record %d is gone without a word (%v)", at, records, i, err)
						}
					}
					if err := e.Close(); err != nil {
						t.Error(err)
					}
				}
				if err := os.RemoveAll(broken); err != nil {
					t.Fatal(err)
				}
			}
			t.Logf("%d bytes changed, one at a time: %d times it refused to open", records, refused)
			if refused < int(records)/2 {
				t.Error("hardly any mattered: this proves little")
			}
		})
	}
}
