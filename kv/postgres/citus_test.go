package postgres

import (
	"context"
	"os"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"tombolo/kv/postgres/pgtest"
)

// What Citus brings, as far as the script and the engine ask for it. No cluster is part of the tests: this shows that the script is right up to Citus'
// own functions, that it names our tables, and that the engine notices.
const standIn = `
	create table pg_dist_node (isactive bool, noderole text);
	create table calls (what text);
	create function create_distributed_table(name regclass, col text, shard_count int) returns void language sql as
		$$ insert into tombolo.calls values ('distribute ' || name || ' by ' || col || ' over ' || shard_count) $$;
	create function truncate_local_data_after_distributing_table(name regclass) returns void language sql as
		$$ insert into tombolo.calls values ('truncate ' || name) $$;
	create table citus_shards (shardid bigint, table_name regclass, nodename text, nodeport int, shard_size bigint);
`

func TestTheScriptForCitusIsRightUpToCitus(t *testing.T) {
	ctx := context.Background()
	script, err := os.ReadFile("../../docs/citus.sql")
	if err != nil {
		t.Fatal(err)
	}
	run := func(conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, strings.ReplaceAll(string(script), `:"schema"`, `"tombolo"`), pgx.QueryExecModeSimpleProtocol) // as psql -v schema does
		return err
	}
	for _, c := range []struct {
		name, prepared, workers, want string
	}{
		{"a server without two-phase commits", "0", "(true, 'primary'), (true, 'primary')", "max_prepared_transactions"},
		{"a cluster without workers", "10", "(true, 'primary')", "no workers yet"},
		{"a cluster", "10", "(true, 'primary'), (true, 'primary')", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			server := pgtest.Start(t, "max_prepared_transactions="+c.prepared)
			url := server.Database(t)
			if err := open(t, Options{URL: url}).Close(); err != nil { // makes the tables
				t.Fatal(err)
			}
			conn, err := pgx.Connect(ctx, url)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = conn.Close(ctx) }()
			if _, err := conn.Exec(ctx, "set search_path to tombolo;"+standIn+"insert into pg_dist_node values "+c.workers, pgx.QueryExecModeSimpleProtocol); err != nil {
				t.Fatal(err)
			}
			err = run(conn)
			if c.want != "" {
				if err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("the script says %v, want %q", err, c.want)
				}
				return
			}
			if err != nil {
				t.Fatalf("the script does not run: %v", err)
			}
			var calls string
			if err := conn.QueryRow(ctx, "select string_agg(what, '; ') from tombolo.calls").Scan(&calls); err != nil || calls != "distribute entry by part over 64; truncate entry" {
				t.Errorf("it called %q (%v)", calls, err)
			}
		})
	}
}
