package postgres

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
)

// session sets a connection up, and refuses one that cannot be relied on.
//
// Plans are made once and not for each call's values, and they go by the index: that is right for every statement here at any size of table,
// and what a planner makes of the statistics of a table that is just being filled is not. A distributed table is the exception: there the
// planner must see the partition to know the machine.
func (e *Engine) session(ctx context.Context, conn *pgx.Conn, idle time.Duration) error {
	var s server
	settings := `select current_setting('server_version_num')::int, pg_is_in_recovery(), current_setting('fsync'), current_setting('full_page_writes'),
		current_setting('synchronous_commit'), current_setting('data_sync_retry'), current_setting('zero_damaged_pages'),
		coalesce(current_setting('data_checksums', true), '')`
	plans := "force_generic_plan"
	if e.opts.ByPartition {
		plans = "force_custom_plan"
	}
	for _, s := range [][2]string{
		{"plan_cache_mode", plans}, {"enable_seqscan", "off"}, {"enable_bitmapscan", "off"}, {"enable_hashjoin", "off"},
		{"enable_mergejoin", "off"}, {"jit", "off"}, {"default_transaction_isolation", "read committed"},
		{"idle_in_transaction_session_timeout", strconv.FormatInt(max(idle.Milliseconds(), 1), 10)},
		// A node that is cut off in the middle of a commit holds the turn until the server notices.
		{"tcp_keepalives_idle", "10"}, {"tcp_keepalives_interval", "5"}, {"tcp_keepalives_count", "3"},
	} {
		settings += fmt.Sprintf(", set_config('%s', '%s', false)", s[0], s[1])
	}
	rows, err := conn.Query(ctx, settings, pgx.QueryExecModeSimpleProtocol)
	if err != nil {
		return err
	}
	defer rows.Close()
	if rows.Next() {
		to := make([]any, len(rows.FieldDescriptions()))
		copy(to, []any{&s.version, &s.standby, &s.fsync, &s.pages, &s.commit, &s.retry, &s.zero, &s.checksums})
		if err := rows.Scan(to...); err != nil {
			return err
		}
	}
	rows.Close()
	if err := rows.Err(); err != nil {
		return err
	}
	e.checked.Store(s.checksums != "off") // "": not a PostgreSQL, but something like it
	if s.checksums == "off" {
		e.unchecked.Do(func() {
			e.opts.Log.Warn("store: the database server keeps no checksums of its pages, so a bit that rots in them can bring back what was changed. "+
				"Resources are held to their index as they are read, which makes reading whole records slower; what is kept of who is who, and other such notes, cannot be: stop it, run pg_checksums --enable, and start it again", "store", e.where)
		})
	}
	return s.safe()
}

// A server is what a server says of itself.
type server struct {
	version int
	standby bool
	// fsync, full_page_writes, synchronous_commit, data_sync_retry, zero_damaged_pages, data_checksums
	fsync, pages, commit, retry, zero, checksums string
}

// safe says why a server cannot be trusted to keep what it acknowledges.
//
// PostgreSQL 15 §20.5, §20.14, §20.17
func (s server) safe() error {
	switch {
	case s.version < 150000:
		return fmt.Errorf("the server is PostgreSQL %d and 15 or newer is needed: upgrade it", s.version/10000)
	case s.standby:
		return errors.New("the server is a standby, which takes no writes: give the address of the primary, or several hosts and target_session_attrs=read-write")
	case s.fsync != "on":
		return errors.New("the server runs with fsync=off, and what it acknowledges can be lost: set fsync = on in postgresql.conf and reload it")
	case s.pages != "on":
		return errors.New("the server runs with full_page_writes=off, and a power cut can tear its pages: set full_page_writes = on in postgresql.conf and reload it")
	case s.commit == "off":
		return errors.New("synchronous_commit is off for this user or server, and what is acknowledged can be lost: " +
			"set synchronous_commit = on in postgresql.conf and look at ALTER ROLE and ALTER DATABASE settings and at the address's parameters")
	case s.retry == "on":
		return errors.New("the server runs with data_sync_retry=on, and goes on after a failed sync whose data may be gone: set data_sync_retry = off in postgresql.conf and restart it")
	case s.zero == "on":
		return errors.New("zero_damaged_pages is on for this user or server, which empties pages that are damaged and what they hold is gone: " +
			"set it off, look at ALTER ROLE and ALTER DATABASE settings too, and restore what is damaged from a backup")
	}
	return nil
}

// turnSQL takes a commit's turn. It fails, and the commit with it, if the server has been told meanwhile not to keep what it acknowledges (fsync, full_page_writes and
// synchronous_commit can all be changed while it runs): the text that is no number is the message. What it found of synchronous_commit holds to the end of the
// transaction, whatever is changed while it runs.
const turnSQL = `select it, case when current_setting('fsync') = 'on' and current_setting('full_page_writes') = 'on' and current_setting('synchronous_commit') <> 'off'
		then set_config('synchronous_commit', current_setting('synchronous_commit'), true)
		else ('fsync = ' || current_setting('fsync') || ', full_page_writes = ' || current_setting('full_page_writes')
			|| ', synchronous_commit = ' || current_setting('synchronous_commit'))::int::text end from turn for update`

// logged refuses tables that a crash of the server would empty.
//
// PostgreSQL 15, CREATE TABLE, UNLOGGED
func logged(ctx context.Context, conn *pgx.Conn) error {
	var table string
	err := conn.QueryRow(ctx, `select relname from pg_class where oid in ('entry'::regclass, 'log'::regclass, 'turn'::regclass, 'migration'::regclass)
		and relpersistence <> 'p' limit 1`).Scan(&table)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	if err != nil {
		return err
	}
	return fmt.Errorf("the table %s is unlogged, and a crash of the server would empty it: alter table %s set logged", table, table)
}
