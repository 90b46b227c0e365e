package node

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"tombolo/kv"
	"tombolo/kv/pebble"
	"tombolo/kv/postgres"
	"tombolo/store"
)

// A backup is a folder: store/ is the engine's checkpoint of one moment, files/ what else lies in the data folder (keys, heads that were signed
// and those kept for neighbours), and backup.json, written last, says what there is, so that a backup that is not complete is none.
const (
	manifestFile   = "backup.json"
	manifestFormat = "tombolo backup 1"
)

type manifest struct {
	Format string                `json:"format"`
	Engine string                `json:"engine"` // embedded, or on postgres
	At     time.Time             `json:"at"`
	Counts store.Counts          `json:"counts"` // what a reading of the copy found
	Files  map[string]backedFile `json:"files"`  // by path in the backup
}

type backedFile struct {
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

func engineName(c Config) string {
	if c.Store != "" {
		return "on postgres"
	}
	return "embedded"
}

// backup copies the store into dir while work goes on, and then reads the copy as a restore would: a backup that was never read is a hope.
func backup(ctx context.Context, c Config, db *store.DB, dir string, tell func(store.Progress)) (Kept, error) {
	if dir == "" {
		return Kept{}, errors.New("where to? Name a folder that does not exist yet")
	}
	if inside(dir, c.Data) {
		return Kept{}, fmt.Errorf("%s lies in the data folder %s: each backup would hold all that were made before it, and be lost with the disk that it is for. Name a folder elsewhere", dir, c.Data)
	}
	if err := os.Mkdir(dir, 0o700); errors.Is(err, os.ErrExist) {
		return Kept{}, fmt.Errorf("%s exists already: name a folder that does not exist yet", dir)
	} else if err != nil {
		return Kept{}, fmt.Errorf("backup: the folder cannot be made: %w; the one that it lies in has to be there, and to be writable", err)
	}
	k, err := backupInto(ctx, c, db, dir, tell)
	if err != nil {
		err = fmt.Errorf("no backup was made: %w", err)
		if gone := os.RemoveAll(dir); gone != nil {
			err = fmt.Errorf("%w; remove what was written of it in %s: %w", err, dir, gone)
		}
	}
	return k, err
}

// backupInto writes a backup into a folder that was made for it.
func backupInto(ctx context.Context, c Config, db *store.DB, dir string, tell func(store.Progress)) (Kept, error) {
	tell(store.Progress{Doing: "copying"})
	copied := filepath.Join(dir, "store")
	if err := db.Checkpoint(ctx, copied); err != nil {
		return Kept{}, err
	}
	if err := copyFiles(c.Data, filepath.Join(dir, "files")); err != nil {
		return Kept{}, fmt.Errorf("backup: %w", err)
	}
	m := manifest{Format: manifestFormat, Engine: engineName(c), At: time.Now().UTC().Truncate(time.Second)}
	var err error
	if m.Files, err = sums(ctx, dir, tell); err != nil { // before the copy is opened, which may write into it
		return Kept{}, fmt.Errorf("backup: %w", err)
	}
	rep, err := rehearse(ctx, c, copied, tell)
	if err != nil {
		return Kept{}, fmt.Errorf("the copy was written and cannot be read: %w", err)
	}
	m.Counts = rep.Counts
	text, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return Kept{}, err
	}
	if err := writeDurably(filepath.Join(dir, manifestFile), append(text, '\n')); err != nil {
		return Kept{}, fmt.Errorf("backup: %w", err)
	}
	return keptBackup(dir, rep, "Backed up to %s and read back: ")
}

// inside reports whether a folder that is to be made would lie in another.
func inside(dir, folder string) bool {
	if folder == "" {
		return false
	}
	real := func(path string) string {
		abs, err := filepath.Abs(path)
		if err != nil {
			return path
		}
		if to, err := filepath.EvalSymlinks(abs); err == nil {
			return to
		}
		return abs
	}
	rel, err := filepath.Rel(real(folder), real(filepath.Dir(filepath.Clean(dir))))
	return err == nil && rel != ".." && !strings.HasPrefix(rel, ".."+string(filepath.Separator))
}

func keptBackup(where string, rep *store.Report, format string) (Kept, error) {
	text := fmt.Sprintf(format, where) + rep.String()
	if !rep.OK() {
		text += "The copy is as damaged as the store is: mend the store, and back it up again.\n"
	}
	return kept(rep.OK(), text, rep)
}

// rehearse reads a checkpoint all through: the embedded engine's in place, PostgreSQL's restored into a schema of its own, which goes afterwards.
func rehearse(ctx context.Context, c Config, dir string, tell func(store.Progress)) (*store.Report, error) {
	var engine kv.Engine
	var err error
	end := func() error { return nil }
	if c.Store == "" {
		engine, err = pebble.Open(pebble.Options{Dir: dir, ReadOnly: true, CacheBytes: 16 << 20, Log: c.Logger})
	} else {
		tell(store.Progress{Doing: "restoring the copy into a schema of its own, to read it"})
		engine, end, err = postgres.Rehearse(ctx, postgres.Options{URL: c.Store, Log: c.Logger}, dir)
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = end() }()
	db, err := store.Open(store.Options{Engine: engine, ReadOnly: true})
	if err != nil {
		return nil, errors.Join(err, engine.Close())
	}
	rep, err := db.Verify(ctx, tell)
	return rep, errors.Join(err, db.Close())
}

// restore makes a store of a backup where there is none, checks each file against what the backup says, and reads all of it.
func restore(ctx context.Context, c Config, dir string, tell func(store.Progress)) (Kept, error) {
	m, err := readManifest(dir)
	if err != nil {
		return Kept{}, err
	}
	if m.Engine != engineName(c) {
		return Kept{}, fmt.Errorf("%s holds the backup of a store that is %s: give %s", dir, m.Engine, map[string]string{"embedded": "--data DIR and no --store", "on postgres": "--store postgres://…"}[m.Engine])
	}
	got, err := sums(ctx, dir, tell)
	if err != nil {
		return Kept{}, fmt.Errorf("restore: %w", err)
	}
	for path, want := range m.Files {
		if got[path] != want {
			return Kept{}, fmt.Errorf("restore: %s in %s is not what the backup wrote (%d bytes, SHA-256 %.12s…; want %d, %.12s…): use another copy of the backup",
				path, dir, got[path].Size, got[path].SHA256, want.Size, want.SHA256)
		}
	}
	if c.Store != "" {
		tell(store.Progress{Doing: "restoring"})
		err = restoreDatabase(ctx, c, dir)
	} else {
		err = restoreFolder(dir, c.Data, m)
	}
	if err != nil {
		return Kept{}, err
	}
	k, err := Maintain(ctx, c, Upkeep{Do: "verify"}, tell)
	k.Text = fmt.Sprintf("Restored from %s, of %s: %s", dir, m.At.Format(time.DateTime), k.Text)
	return k, err
}

func readManifest(dir string) (*manifest, error) {
	text, err := os.ReadFile(filepath.Join(dir, manifestFile))
	if err != nil {
		return nil, fmt.Errorf("there is no complete backup in %s: %w", dir, err)
	}
	m := &manifest{}
	if err := json.Unmarshal(text, m); err != nil {
		return nil, fmt.Errorf("%s in %s is damaged: use another copy of the backup", manifestFile, dir)
	}
	if m.Format != manifestFormat {
		return nil, fmt.Errorf("the backup in %s is of the format %.40q, and this program reads %q: use the version that wrote it", dir, m.Format, manifestFormat)
	}
	return m, nil
}

// restoreDatabase restores into a database, and then what else lay in the data folder, if there is one.
func restoreDatabase(ctx context.Context, c Config, dir string) error {
	if err := postgres.Restore(ctx, postgres.Options{URL: c.Store, Log: c.Logger}, filepath.Join(dir, "store")); err != nil || c.Data == "" {
		return err
	}
	files := filepath.Join(dir, "files")
	if err := copyFiles(files, c.Data); err != nil {
		return fmt.Errorf("restore: the database is restored, and not all that lay in the data folder: copy what is missing from %s to %s, and run tombolo store verify: %w", files, c.Data, err)
	}
	return nil
}

// restoreFolder copies an embedded store to where there is none, and before it what else lay in the data folder: the store is there last and at once, so
// a restore that was cut short is begun again.
func restoreFolder(dir, data string, m *manifest) error {
	from, to := filepath.Join(dir, "store"), filepath.Join(data, "store")
	if _, err := os.Lstat(to); err == nil {
		return fmt.Errorf("restore: there is a store already in %s: give another --data, or move that one away first", to)
	}
	partial := to + ".partial"
	if err := os.RemoveAll(partial); err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	if err := os.MkdirAll(partial, 0o700); err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	for path := range m.Files {
		rest, ok := strings.CutPrefix(path, "store/")
		if !ok {
			continue
		}
		if err := copyFile(filepath.Join(from, filepath.FromSlash(rest)), filepath.Join(partial, filepath.FromSlash(rest))); err != nil {
			return fmt.Errorf("restore: %w", err)
		}
	}
	if err := copyFiles(filepath.Join(dir, "files"), data); err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	if err := errors.Join(syncFolder(partial), os.Rename(partial, to), syncFolder(filepath.Dir(to))); err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	return nil
}

// copyFiles copies what lies in a data folder beside the store. What is there already stays.
func copyFiles(from, to string) error {
	if from == "" {
		return nil
	}
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, os.ErrNotExist) && path == from {
			return nil
		}
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != from && slices.Contains([]string{"store", "store.partial"}, rel):
			return filepath.SkipDir
		case !d.Type().IsRegular():
			return nil
		}
		if _, err := os.Lstat(filepath.Join(to, rel)); err == nil {
			return nil
		}
		return copyFile(path, filepath.Join(to, rel))
	})
}

// copyFile makes a file that is there whole or not at all.
func copyFile(from, to string) error {
	if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
		return err
	}
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	partial := to + ".partial"
	out, err := os.OpenFile(partial, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	if err = errors.Join(err, out.Sync(), out.Close()); err != nil {
		return errors.Join(err, os.Remove(partial))
	}
	return os.Rename(partial, to)
}

func writeDurably(path string, data []byte) error {
	out, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = out.Write(data)
	return errors.Join(err, out.Sync(), out.Close(), syncFolder(filepath.Dir(path)))
}

func syncFolder(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// sums reads every file of a backup but its manifest.
func sums(ctx context.Context, dir string, tell func(store.Progress)) (map[string]backedFile, error) {
	out := map[string]backedFile{}
	var read int64
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		// LOCK is held, not read; what an engine writes there says nothing.
		if err != nil || !d.Type().IsRegular() || rel == manifestFile || filepath.Base(rel) == "LOCK" {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer func() { _ = f.Close() }()
		sum := sha256.New()
		n, err := io.Copy(sum, f)
		out[filepath.ToSlash(rel)] = backedFile{n, hex.EncodeToString(sum.Sum(nil))}
		read += n
		tell(store.Progress{Doing: "summing files, MiB", Done: read >> 20})
		return err
	})
	return out, err
}
