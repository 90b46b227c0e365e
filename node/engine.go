package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"tombolo/kv"
	"tombolo/kv/pebble"
	"tombolo/kv/postgres"
)

// openEngine opens what Config.Store names: a PostgreSQL database, which several nodes may share, or else the embedded store in the data folder.
func openEngine(ctx context.Context, c Config) (kv.Engine, error) {
	switch scheme, _, _ := strings.Cut(c.Store, "://"); {
	case c.Store == "":
		return pebble.Open(pebble.Options{Dir: filepath.Join(c.Data, "store"), Log: c.Logger})
	case scheme == "postgres" || scheme == "postgresql":
		return postgres.Open(ctx, postgres.Options{URL: c.Store, Log: c.Logger})
	}
	// What was given is not repeated: it may hold a password.
	return nil, errors.New("--store is not understood: give postgres://user@host/database, or leave it out for a store in the data folder")
}

// Durable refuses a data folder on a disk that is mounted so that what is acknowledged can be lost with the power; for a developer it is only said. (A database
// is held to its settings whenever it is connected to.)
func Durable(c Config) error {
	if c.Store != "" {
		return nil
	}
	unsynced, passing := pebble.Unsafe(filepath.Join(c.Data, "store"))
	if unsynced != "" && c.Dev == "" {
		return fmt.Errorf("the data folder is not safe: %s", unsynced)
	}
	if what := cmp.Or(unsynced, passing); what != "" {
		c.Logger.Warn("the data folder is not safe: " + what)
	}
	return nil
}
