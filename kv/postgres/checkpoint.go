package postgres

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/klauspost/compress/zstd"

	"tombolo/kv"
)

// A checkpoint is a folder of two files, entry.copy.zst and log.copy.zst: what COPY … TO STDOUT (FORMAT binary) gives of one moment, compressed
// by zstd; and checkpoint.json, written last, which says how many rows they have and their SHA-256. It needs this program or
// psql and zstd to be read, and no pg_dump of the server's version.
const (
	checkpointFile   = "checkpoint.json"
	checkpointFormat = "tombolo postgres checkpoint 2"
	// checkpointBefore is of before values were packed; it is read as well.
	checkpointBefore = "tombolo postgres checkpoint 1"
)

type checkpoint struct {
	Format string             `json:"format"`
	Tail   kv.Position        `json:"tail"`
	Files  map[string]*copied `json:"files"`
}

type copied struct {
	Rows   int64  `json:"rows"`
	SHA256 string `json:"sha256"` // of the file as it lies there
}

// The tables of a checkpoint. In key order, what belongs together lies together once it is restored.
var checkpointTables = []struct{ file, out, in string }{
	{"entry.copy.zst", "copy (select part, key, value from entry order by part, key) to stdout (format binary)", "copy entry (part, key, value) from stdin (format binary)"},
	{"log.copy.zst", "copy (select at, value from log order by at) to stdout (format binary)", "copy log (at, value) from stdin (format binary)"},
}

// Checkpoint writes a copy of one moment into dir. Restore makes an engine of it.
func (e *Engine) Checkpoint(ctx context.Context, dir string) (err error) {
	if err := e.gate.Enter(ctx); err != nil {
		return err
	}
	defer e.gate.Leave()
	if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	if err := os.Mkdir(dir, 0o700); errors.Is(err, os.ErrExist) {
		return fmt.Errorf("checkpoint: %s exists already: name a new directory", dir)
	} else if err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("checkpoint into %s: %w", dir, explain(err))
			_ = os.RemoveAll(dir)
		}
	}()
	s, err := e.hold(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = s.Close() }()
	s.mu.Lock()
	defer s.mu.Unlock()
	// The whole table is read: here the planner may choose how.
	if _, err := s.conn.Exec(ctx, "set local enable_seqscan = on"); err != nil {
		return err
	}
	c := checkpoint{Format: checkpointFormat, Tail: s.tail, Files: map[string]*copied{}}
	for _, t := range checkpointTables {
		if c.Files[t.file], err = copyOut(ctx, s.conn.Conn().PgConn(), t.out, filepath.Join(dir, t.file)); err != nil {
			return err
		}
	}
	text, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return err
	}
	if err := durably(filepath.Join(dir, checkpointFile), func(w io.Writer) error { _, err := w.Write(append(text, '\n')); return err }); err != nil {
		return err
	}
	return errors.Join(syncDir(dir), syncDir(filepath.Dir(dir)))
}

func copyOut(ctx context.Context, conn *pgconn.PgConn, sql, path string) (*copied, error) {
	c := &copied{}
	sum := sha256.New()
	err := durably(path, func(w io.Writer) error {
		z, err := zstd.NewWriter(io.MultiWriter(w, sum))
		if err != nil {
			return err
		}
		tag, err := conn.CopyTo(ctx, z, sql)
		c.Rows = tag.RowsAffected()
		return errors.Join(err, z.Close())
	})
	c.SHA256 = hex.EncodeToString(sum.Sum(nil))
	return c, err
}

// durably writes a new file and returns when the disk has it.
func durably(path string, write func(io.Writer) error) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if err := write(f); err != nil {
		_ = f.Close()
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Restore fills an empty schema, which is made if it is not there, with the checkpoint in dir: all of it, checked, or nothing.
func Restore(ctx context.Context, o Options, dir string) error {
	c, err := readCheckpoint(dir)
	if err != nil {
		return fmt.Errorf("restore %s: %w", dir, err)
	}
	e, err := Open(ctx, o)
	if err != nil {
		return err
	}
	defer func() { _ = e.Close() }()
	conn, err := e.short.Acquire(ctx)
	if err != nil {
		return fmt.Errorf("restore %s: %w", dir, explain(err))
	}
	defer conn.Release()
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, turnSQL); err != nil {
			return err
		}
		var used bool
		if err := tx.QueryRow(ctx, "select exists (select from entry) or exists (select from log)").Scan(&used); err != nil {
			return err
		}
		if used {
			return fmt.Errorf("there is a store already in %s: name another schema with ?search_path=…, or drop this one", e.where)
		}
		for _, t := range checkpointTables {
			if err := copyIn(ctx, tx.Conn().PgConn(), t.in, filepath.Join(dir, t.file), c.Files[t.file]); err != nil {
				return fmt.Errorf("%s: %w", t.file, err)
			}
		}
		var tail, records int64
		if err := tx.QueryRow(ctx, "select coalesce(max(at), 0), count(*) from log").Scan(&tail, &records); err != nil {
			return err
		}
		if kv.Position(tail) != c.Tail || records != tail {
			return fmt.Errorf("its log has %d records up to %d, and %d are said to be in it", records, tail, c.Tail)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("restore %s: %w", dir, explain(err))
	}
	return nil
}

// Rehearse restores a checkpoint into a schema of its own in the same database and opens it; end removes the schema, after Close.
func Rehearse(ctx context.Context, o Options, dir string) (_ *Engine, end func() error, err error) {
	config, err := pgx.ParseConfig(o.URL)
	if err != nil {
		return nil, nil, badURL(err)
	}
	var random [8]byte
	_, _ = rand.Read(random[:])
	o.schema = "tombolo_rehearsal_" + hex.EncodeToString(random[:])
	end = func() error {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		conn, err := pgx.ConnectConfig(ctx, config)
		if err != nil {
			return err
		}
		_, err = conn.Exec(ctx, "drop schema if exists "+quote(o.schema)+" cascade")
		return errors.Join(err, conn.Close(ctx))
	}
	if err := Restore(ctx, o, dir); err != nil {
		return nil, nil, errors.Join(err, end())
	}
	e, err := Open(ctx, o)
	if err != nil {
		return nil, nil, errors.Join(err, end())
	}
	return e, end, nil
}

func readCheckpoint(dir string) (*checkpoint, error) {
	text, err := os.ReadFile(filepath.Join(dir, checkpointFile))
	if err != nil {
		return nil, fmt.Errorf("there is no complete checkpoint in it: %w", err)
	}
	c := &checkpoint{}
	if err := json.Unmarshal(text, c); err != nil {
		return nil, fmt.Errorf("%s is damaged: %w", checkpointFile, err)
	}
	if c.Format != checkpointFormat && c.Format != checkpointBefore {
		return nil, fmt.Errorf("its format is %.60q, and this program reads %q", c.Format, checkpointFormat)
	}
	for _, t := range checkpointTables {
		if c.Files[t.file] == nil {
			return nil, fmt.Errorf("%s does not speak of %s", checkpointFile, t.file)
		}
	}
	return c, nil
}

// copyIn loads one file. An error undoes it, as it does the whole transaction.
func copyIn(ctx context.Context, conn *pgconn.PgConn, sql, path string, want *copied) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	in := &summing{f, sha256.New()}
	z, err := zstd.NewReader(in)
	if err != nil {
		return err
	}
	defer z.Close()
	tag, err := conn.CopyFrom(ctx, z, sql)
	if err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, in); err != nil { // whatever stands behind the last frame
		return err
	}
	if got := hex.EncodeToString(in.sum.Sum(nil)); got != want.SHA256 || tag.RowsAffected() != want.Rows {
		return fmt.Errorf("the file is not what the checkpoint wrote (%d rows, SHA-256 %s; want %d, %s): use another copy of it", tag.RowsAffected(), got, want.Rows, want.SHA256)
	}
	return nil
}

// summing reads a file and sums what was read.
type summing struct {
	f   io.Reader
	sum hash.Hash
}

func (s *summing) Read(p []byte) (int, error) {
	n, err := s.f.Read(p)
	_, _ = s.sum.Write(p[:n])
	return n, err
}
