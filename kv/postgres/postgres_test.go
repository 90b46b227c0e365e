package postgres

import (
	"context"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"tombolo/kv"
	"tombolo/kv/kvtest"
	"tombolo/kv/postgres/pgtest"
)

// schemaOf gives each directory that a test speaks of a schema.
func schemaOf(url, dir string) string {
	sum := sha256.Sum256([]byte(dir))
	return fmt.Sprintf("%s&search_path=d%x", url, sum[:8])
}

func open(t testing.TB, o Options) *Engine {
	t.Helper()
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	e, err := Open(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// conformance holds an engine with these options to kvtest. A directory that kvtest names is a schema; one that holds a checkpoint is
// restored first, the first time.
func conformance(t *testing.T, o Options) {
	url := pgtest.URL(t)
	restored := map[string]bool{}
	kvtest.Run(t, func(t *testing.T, dir string) kv.Engine {
		o := o
		o.URL = schemaOf(url, dir)
		if _, err := os.Stat(filepath.Join(dir, checkpointFile)); err == nil && !restored[dir] {
			if err := Restore(context.Background(), o, dir); err != nil {
				t.Fatal(err)
			}
			restored[dir] = true
		}
		return open(t, o)
	})
}

func TestEngine(t *testing.T) { conformance(t, Options{}) }

// As it is where the table lies on many machines.
func TestEngineByPartition(t *testing.T) { conformance(t, Options{ByPartition: true}) }
