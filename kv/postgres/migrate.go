package postgres

import (
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"

	"github.com/jackc/pgx/v5"
)

//go:embed migrations/*.sql
var migrationFiles embed.FS

// A migration is one file of SQL. It is never changed once released: the next one mends it.
type migration struct {
	name, sql, sum string
}

func migrations() ([]migration, error) {
	names, err := fs.Glob(migrationFiles, "migrations/*.sql")
	if err != nil {
		return nil, err
	}
	out := make([]migration, len(names))
	for i, name := range names {
		sql, err := fs.ReadFile(migrationFiles, name)
		if err != nil {
			return nil, err
		}
		sum := sha256.Sum256(sql)
		out[i] = migration{name[len("migrations/"):], string(sql), hex.EncodeToString(sum[:])}
	}
	return out, nil
}

// migrationLock is the advisory lock under which schemas are made and brought up to date: nodes that start together take turns.
const migrationLock = 0x746f6d626f6c6f // "tombolo"

// migrate makes the schema or brings it up to date, all of it or nothing.
func migrate(ctx context.Context, conn *pgx.Conn, schema string) error {
	wanted, err := migrations()
	if err != nil {
		return err
	}
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		// Held until the transaction ends. Also for making the schema: even "if not exists" fails when two do it at once.
		if _, err := tx.Exec(ctx, "select pg_advisory_xact_lock($1)", int64(migrationLock)); err != nil {
			return err
		}
		var there bool
		if err := tx.QueryRow(ctx, "select to_regclass($1) is not null", quote(schema)+".migration").Scan(&there); err != nil {
			return err
		}
		if !there {
			if err := begin(ctx, tx, schema); err != nil {
				return err
			}
		}
		done, err := applied(ctx, tx)
		if err != nil {
			return err
		}
		if len(done) > len(wanted) {
			return fmt.Errorf("a newer version of this program made it (%s): run that version, or a newer one", done[len(done)-1].name)
		}
		for i, m := range wanted {
			if i < len(done) {
				if done[i].name != m.name || done[i].sum != m.sum {
					return fmt.Errorf("migration %s was made by another build of this program, where its text differs: use a released version", done[i].name)
				}
				continue
			}
			if _, err := tx.Exec(ctx, m.sql); err != nil {
				return fmt.Errorf("migration %s: %w", m.name, err)
			}
			if _, err := tx.Exec(ctx, "insert into migration (name, sha256) values ($1, $2)", m.name, m.sum); err != nil {
				return fmt.Errorf("migration %s: %w", m.name, err)
			}
		}
		return nil
	})
}

// begin makes the schema, if a database administrator has not done so already, and the table of migrations.
func begin(ctx context.Context, tx pgx.Tx, schema string) error {
	var there bool
	if err := tx.QueryRow(ctx, "select exists (select from pg_namespace where nspname = $1)", schema).Scan(&there); err != nil {
		return err
	}
	if !there {
		if _, err := tx.Exec(ctx, "create schema "+quote(schema)); err != nil {
			return err
		}
	}
	var others int
	if err := tx.QueryRow(ctx, "select count(*) from pg_class c join pg_namespace n on n.oid = c.relnamespace where n.nspname = $1 and c.relname in ('entry', 'log', 'turn')",
		schema).Scan(&others); err != nil {
		return err
	}
	if others > 0 {
		return errors.New("the schema holds tables of some other program: name another with ?search_path=… in the address")
	}
	_, err := tx.Exec(ctx, "create table migration (name text primary key, sha256 text not null, applied timestamptz not null default now())")
	return err
}

func applied(ctx context.Context, tx pgx.Tx) ([]migration, error) {
	rows, err := tx.Query(ctx, "select name, sha256 from migration order by name")
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (m migration, err error) {
		err = row.Scan(&m.name, &m.sum)
		return m, err
	})
}

func quote(identifier string) string { return pgx.Identifier{identifier}.Sanitize() }
