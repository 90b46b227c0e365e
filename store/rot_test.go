package store

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"tombolo/kv/enginetest"
	"tombolo/kv/postgres"
	"tombolo/kv/postgres/pgtest"
)

// One bit in each of some places of a PostgreSQL server's tables and indexes is not what was written. A server that keeps checksums of its pages notices; of one that keeps
// none, which may bring back what a row was before it was changed or deleted, the store does. None is ever shown.
func TestAFlippedBitInADatabaseFileIsNeverShown(t *testing.T) {
	if enginetest.PostgreSQL() {
		return // this starts servers of its own
	}
	for _, checksums := range []bool{true, false} {
		t.Run(fmt.Sprintf("checksums %v", checksums), func(t *testing.T) {
			rotten := rottingServer(t, checksums)
			seed := rand.Uint64()
			r := rand.New(rand.NewPCG(seed, 3))
			const each = 20
			n, noticed := flips(t, 60)/each, 0
			for round := range n {
				w := rotten.after(t, each, r)
				if len(w.wrong) > 0 {
					t.Fatalf("round %d (seed %d): %q", round, seed, w.wrong)
				}
				if w.refused+w.missed > 0 {
					noticed++
				}
			}
			t.Logf("%d bits flipped, %d at a time, in %d bytes of tables and indexes: noticed in %d of %d readings of everything, none shown", n*each, each,
				rotten.size, noticed, n)
			if noticed == 0 {
				t.Error("no flip mattered: this proves nothing")
			}
		})
	}
}

// A rotting is a stopped server whose files are to be damaged.
type rotting struct {
	server *pgtest.Server
	open   func() *DB // nil if it cannot be opened
	tr     *truth
	data   string
	tables []string          // files of the entries, their index, and the log
	files  map[string][]byte // undamaged
	size   int64
}

func rottingServer(t *testing.T, checksums bool) *rotting {
	ctx := context.Background()
	at, err := os.MkdirTemp("", "rot") // where the server's own user gets to
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(at) })
	if err := os.Chmod(at, 0o755); err != nil {
		t.Fatal(err)
	}
	folder := filepath.Join(at, "cluster")
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	x := &rotting{server: pgtest.StartAt(t, folder), data: filepath.Join(folder, "data"), files: map[string][]byte{}}
	if !checksums {
		x.server.Stop(t)
		x.server.DropChecksums(t)
		x.server.Restart(t)
	}
	o := postgres.Options{URL: x.server.Database(t), Log: slog.New(slog.DiscardHandler)}
	x.open = func() *DB {
		engine, err := postgres.Open(ctx, o)
		if err != nil {
			return nil
		}
		db, err := Open(Options{Engine: engine, Now: new(clock).now})
		if err != nil {
			_ = engine.Close()
			return nil
		}
		return db
	}
	db := x.open()
	if db == nil {
		t.Fatal("an undamaged store cannot be opened")
	}
	x.tr = fill(t, db, 12)
	x.tables = x.server.Files(t, o.URL, "tombolo.entry", "tombolo.entry_pkey", "tombolo.log")
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	x.server.Stop(t)
	for _, name := range x.tables {
		content, err := os.ReadFile(filepath.Join(x.data, name))
		if err != nil {
			t.Fatal(err)
		}
		x.files[name] = content
		x.size += int64(len(content))
	}
	return x
}

// after flips some bits, reads everything, and puts the files right again.
func (x *rotting) after(t *testing.T, flips int, r *rand.Rand) *witness {
	return x.with(t, func(rotten map[string][]byte) {
		for range flips {
			name, at := byteAt(x.files, r.Int64N(x.size))
			rotten[name][at] ^= 1 << r.IntN(8)
		}
	})
}

// with damages the files, reads everything, and puts them right again.
func (x *rotting) with(t *testing.T, damage func(files map[string][]byte)) *witness {
	rotten := map[string][]byte{}
	for name, content := range x.files {
		rotten[name] = bytes.Clone(content)
	}
	damage(rotten)
	overwrite(t, x.data, rotten)
	x.server.Restart(t)
	w := &witness{refused: 1}
	if db := x.open(); db != nil {
		w.refused = 0
		x.tr.read(db, w, true)
		_ = db.Close()
	}
	x.server.Stop(t)
	overwrite(t, x.data, x.files)
	return w
}

// A replaced row is one that was changed or deleted and still stands in a table: where the byte is of whose header one bit more says that it never was.
type replacedRow struct {
	file string
	at   int
}

// replaced are the rows of a table that another transaction has changed or deleted.
//
// PostgreSQL 15 §73.6 (pages, item pointers, HeapTupleHeaderData)
func (x *rotting) replaced(file string) (out []replacedRow) {
	const (
		page, header, itemSize = 8192, 24, 4
		xmax, infomask         = 4, 20
		xmaxInvalid            = 0x08 // HEAP_XMAX_INVALID, in the second byte of t_infomask
	)
	data := x.files[file]
	for base := 0; base+page <= len(data); base += page {
		lower := int(binary.LittleEndian.Uint16(data[base+12:]))
		for item := header; item+itemSize <= lower; item += itemSize {
			id := binary.LittleEndian.Uint32(data[base+item:])
			if id>>15&3 != 1 { // LP_NORMAL
				continue
			}
			tuple := base + int(id&0x7fff)
			if binary.LittleEndian.Uint32(data[tuple+xmax:]) != 0 && data[tuple+infomask+1]&xmaxInvalid == 0 {
				out = append(out, replacedRow{file, tuple + infomask + 1})
			}
		}
	}
	return out
}

// The worst that one bit can do to a database without checksums: a row that was changed or deleted stands again where it stood, whole. Each is noticed, or does no harm.
func TestARowThatComesBackIsNotShown(t *testing.T) {
	if enginetest.PostgreSQL() {
		return // this starts a server of its own
	}
	x := rottingServer(t, false)
	rows := x.replaced(x.tables[0])
	rand.Shuffle(len(rows), func(i, j int) { rows[i], rows[j] = rows[j], rows[i] })
	n := min(flips(t, 12), len(rows))
	noticed := 0
	for _, row := range rows[:n] {
		w := x.with(t, func(rotten map[string][]byte) { rotten[row.file][row.at] |= 0x08 })
		if len(w.wrong) > 0 {
			t.Errorf("at %d of %s: %q", row.at, row.file, w.wrong)
		}
		if w.refused > 0 {
			noticed++
		}
	}
	t.Logf("%d of %d rows that had been changed or deleted came back, one at a time: noticed in %d readings of everything, never shown", n, len(rows), noticed)
	if noticed == 0 {
		t.Error("none of them mattered: this proves nothing")
	}
}

// overwrite changes what is in files and leaves their owner.
func overwrite(t testing.TB, dir string, files map[string][]byte) {
	t.Helper()
	for name, data := range files {
		f, err := os.OpenFile(filepath.Join(dir, name), os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt(data, 0); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
