//go:build linux

package disk

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"
)

// mounted is a disk at a folder; the test is skipped, visibly, where there is no FUSE.
func mounted(t *testing.T, d *Disk) string {
	t.Helper()
	at := t.TempDir()
	if err := d.Mount(at); err != nil {
		t.Skipf("SKIPPED: %v", err)
	}
	t.Cleanup(d.Unmount)
	return at
}

func write(t *testing.T, path, text string, sync bool) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(text); err != nil {
		t.Fatal(err)
	}
	if sync {
		if err := f.Sync(); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

func syncFolder(t *testing.T, path string) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		t.Fatal(err)
	}
}

func files(t *testing.T, at string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.Walk(at, func(path string, info os.FileInfo, err error) error {
		if err != nil || info.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		name, _ := filepath.Rel(at, path)
		out[name] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func want(t *testing.T, what string, got map[string]string, pairs ...string) {
	t.Helper()
	for i := 0; i < len(pairs); i += 2 {
		if text, ok := got[pairs[i]]; !ok || text != pairs[i+1] {
			t.Errorf("%s: %s = %.60q, %v; want %.60q", what, pairs[i], text, ok, pairs[i+1])
		}
	}
	if len(got) != len(pairs)/2 {
		t.Errorf("%s: %d files, want %d", what, len(got), len(pairs)/2)
	}
}

func TestAPowerCutForgetsWhatWasNotSynced(t *testing.T) {
	d := New(Options{})
	at := mounted(t, d)
	join := func(name string) string { return filepath.Join(at, name) }
	if err := os.Mkdir(join("sub"), 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, join("synced"), "one", true)
	write(t, join("sub/synced"), "two", true)
	write(t, join("never"), "three", false)
	write(t, join("later"), "old", true)
	write(t, join("later"), "newer", false)
	write(t, join("gone"), "four", true)
	if err := os.Remove(join("gone")); err != nil { // comes back: the folder was not synced
		t.Fatal(err)
	}
	write(t, join("new.tmp"), "five", true)
	if err := os.Rename(join("new.tmp"), join("new")); err != nil { // undone, likewise
		t.Fatal(err)
	}
	want(t, "before", files(t, at), "synced", "one", "sub/synced", "two", "never", "three", "later", "newer", "new", "five")
	d.Cut()
	if _, err := os.ReadFile(join("synced")); !errors.Is(err, syscall.EIO) {
		t.Errorf("reading without power: %v", err)
	}
	after := mounted(t, d.After(nil))
	want(t, "after", files(t, after), "synced", "one", "sub/synced", "two", "later", "old", "gone", "four", "new.tmp", "five")

	d = New(Options{})
	at = mounted(t, d)
	write(t, join("new.tmp"), "five", true)
	if err := os.Rename(join("new.tmp"), join("new")); err != nil {
		t.Fatal(err)
	}
	write(t, join("empty"), "not synced", false)
	syncFolder(t, at)
	want(t, "after the folder's sync", files(t, mounted(t, d.After(nil))), "new", "five", "empty", "")
}

func TestAStrictDiskKeepsNamesWithTheFolderOnly(t *testing.T) {
	d := New(Options{Strict: true})
	at := mounted(t, d)
	write(t, filepath.Join(at, "a"), "one", true)
	want(t, "without the folder's sync", files(t, mounted(t, d.After(nil))))
	syncFolder(t, at)
	want(t, "with it", files(t, mounted(t, d.After(nil))), "a", "one")
}

func TestWhatWasNotSyncedMayBeThereInPieces(t *testing.T) {
	d := New(Options{})
	at := mounted(t, d)
	old, fresh := bytes.Repeat([]byte("o"), 64<<10), bytes.Repeat([]byte("n"), 64<<10)
	path := filepath.Join(at, "f")
	write(t, path, string(old), true)
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(fresh, 0); err != nil {
		t.Fatal(err)
	}
	_ = f.Close()
	kept := 0
	text := files(t, mounted(t, d.After(rand.New(rand.NewPCG(1, 2)))))["f"]
	for piece := range slices.Chunk([]byte(text), 512) {
		switch {
		case bytes.Equal(piece, fresh[:512]):
			kept++
		case !bytes.Equal(piece, old[:512]):
			t.Fatal("a piece of 512 bytes is torn")
		}
	}
	if kept < 32 || kept > 96 || len(text) != len(old) {
		t.Errorf("of 128 pieces %d were kept, want about half", kept)
	}
}

func TestADiskFailsAsItIsTold(t *testing.T) {
	d := New(Options{Size: 1 << 20})
	at := mounted(t, d)
	path := filepath.Join(at, "f")
	write(t, path, "kept", true)
	d.SetSync(func(n int) Fault {
		switch n {
		case 1:
			return Fault{Err: syscall.EIO}
		case 2:
			return Fault{Delay: 50 * time.Millisecond}
		}
		return Fault{Cut: true}
	})
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(" more"); err != nil {
		t.Fatal(err)
	}
	if err := f.Sync(); !errors.Is(err, syscall.EIO) {
		t.Errorf("the first sync: %v, want EIO", err)
	}
	began := time.Now()
	if err := f.Sync(); err != nil || time.Since(began) < 50*time.Millisecond {
		t.Errorf("the second sync: %v after %v, want it slow", err, time.Since(began))
	}
	if _, err := f.Write(make([]byte, 2<<20)); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("more than fits: %v", err)
	}
	_, _ = f.WriteString(" and more")
	if err := f.Sync(); err == nil || d.Syncs() != 3 {
		t.Errorf("the third of %d syncs: %v, want the power cut", d.Syncs(), err)
	}
	select {
	case <-d.Gone():
	default:
		t.Error("nobody is told that the power went")
	}
	// What the failed sync was about stays lost, though the next one succeeded. (Its length was kept with that.)
	want(t, "after the cut", files(t, mounted(t, d.After(nil))), "f", "kept\x00\x00\x00\x00\x00")
}
