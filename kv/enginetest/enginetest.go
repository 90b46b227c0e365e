// Package enginetest lets one set of tests run on every engine.
//
// A package's tests open their engine with Open, and one test of it calls OnPostgreSQL, which runs all the others again in a process in
// which Open opens PostgreSQL. To run tests or benchmarks there by hand, set TOMBOLO_TEST_ENGINE=postgres.
package enginetest

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	files "github.com/cockroachdb/pebble/v2"

	"tombolo/kv"
	"tombolo/kv/pebble"
	"tombolo/kv/postgres"
	"tombolo/kv/postgres/pgtest"
	"tombolo/sim/unraced"
)

const env = "TOMBOLO_TEST_ENGINE"

// PostgreSQL says whether Open opens PostgreSQL here.
func PostgreSQL() bool { return os.Getenv(env) == "postgres" }

// TB is a *testing.T, a *testing.B or a *rapid.T.
type TB interface {
	Helper()
	Fatal(args ...any)
}

// Open opens the engine that keeps its data in dir: there, or in the schema of a throw-away database that stands for it. Opening the
// same dir again after Close finds what was committed, and opening a checkpoint finds what was copied.
func Open(t TB, dir string) kv.Engine {
	t.Helper()
	quiet := slog.New(slog.DiscardHandler)
	if !PostgreSQL() {
		e, err := pebble.Open(pebble.Options{Dir: dir, CacheBytes: 8 << 20, Log: quiet})
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	o := postgres.Options{URL: schemaOf(t, dir), Log: quiet}
	if _, err := os.Stat(filepath.Join(dir, "checkpoint.json")); err == nil && first(dir) {
		if err := postgres.Restore(context.Background(), o, dir); err != nil {
			t.Fatal(err)
		}
	}
	e, err := postgres.Open(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// schemaOf is the address of the schema that stands for a folder.
func schemaOf(t TB, dir string) string {
	t.Helper()
	url, err := pgtest.Shared()
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256([]byte(dir))
	return fmt.Sprintf("%s&search_path=d%x", url, sum[:8])
}

// LoseEvent takes a record out of the log of the closed engine in dir, as damage would: no engine does so by itself.
func LoseEvent(t TB, dir string, at kv.Position) {
	t.Helper()
	if PostgreSQL() {
		if err := pgtest.LoseEvent(schemaOf(t, dir), at); err != nil {
			t.Fatal(err)
		}
		return
	}
	db, err := files.Open(dir, &files.Options{FormatMajorVersion: files.FormatNewest, Logger: silent{}})
	if err == nil {
		// The key as docs/storage.md has it, so that this notices when it changes.
		err = errors.Join(db.Delete(binary.BigEndian.AppendUint64([]byte{2}, uint64(at)), files.Sync), db.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
}

type silent struct{}

func (silent) Infof(string, ...any)         {}
func (silent) Errorf(string, ...any)        {}
func (silent) Fatalf(f string, args ...any) { panic(fmt.Sprintf(f, args...)) }

var restored sync.Map

func first(dir string) bool {
	_, before := restored.LoadOrStore(dir, true)
	return !before
}

// OnPostgreSQL runs the tests of this package again on PostgreSQL; without the race detector, except in a soak: it has seen them on the embedded engine, and
// package postgres by itself. Where there is no PostgreSQL it is skipped, visibly, or fails in CI.
func OnPostgreSQL(t *testing.T) {
	if PostgreSQL() {
		return // this is that run
	}
	pgtest.Need(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	args := []string{"-test.count=1", "-test.timeout=10m"}
	if testing.Short() {
		args = append(args, "-test.short")
	}
	if unraced.Raced && os.Getenv("TOMBOLO_SOAK") == "" {
		self, args = "go", append([]string{"test", "."}, args...) // the tests of a package run in its folder
	}
	c := exec.CommandContext(t.Context(), self, args...)
	c.Env = append(os.Environ(), env+"=postgres")
	if out, err := c.CombinedOutput(); err != nil {
		t.Errorf("the same tests on PostgreSQL: %v\n%s", err, out)
	}
}
